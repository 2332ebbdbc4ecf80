//! WebRTC-HTTP Egress Protocol (draft-ietf-wish-whep-03): the typed part. HTTP itself is the agent's.

mod client;
mod fragment;

use crate::error::WhepError;
use crate::sender::SessionId;

pub(crate) use client::{Client, ClientError};
pub(crate) use fragment::Fragment;

/// Content type of offers and answers.
pub const SDP_TYPE: &str = "application/sdp";
/// Content type of `PATCH` bodies (RFC 8840).
pub const FRAGMENT_TYPE: &str = "application/trickle-ice-sdpfrag";
/// Most bytes of an offer.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;
/// Most bytes of a `PATCH` body.
pub const MAX_FRAGMENT_BYTES: usize = 16 * 1024;

/// The answer to an offer: `201 Created`, the SDP as [`SDP_TYPE`], `Location: <endpoint>/<id>`, `ETag`.
#[derive(Clone, Debug)]
pub struct Session {
    /// Names the session; the last segment of its URL.
    pub id: SessionId,
    /// The answer, candidates included.
    pub answer_sdp: String,
    /// Strong entity tag, quotes included.
    pub etag: String,
}

/// The answer to a `PATCH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// `204 No Content`: candidates were taken.
    NoContent,
    /// `200 OK` with [`FRAGMENT_TYPE`]: ICE was restarted.
    Restarted {
        /// Our new credentials and candidates.
        fragment: String,
        /// The session's new entity tag.
        etag: String,
    },
}

/// Checks type and size of a request's body and makes text of it.
pub(crate) fn body_text<'a>(
    body: &'a [u8],
    content_type: Option<&str>,
    wanted_type: &'static str,
    most_bytes: usize,
) -> Result<&'a str, WhepError> {
    let essence = content_type.map(|given| given.split(';').next().unwrap_or_default().trim());
    if !essence.is_some_and(|given| given.eq_ignore_ascii_case(wanted_type)) {
        let got = content_type.unwrap_or("missing").chars().take(80).collect();
        return Err(WhepError::ContentType { got, allowed: wanted_type });
    }
    if body.len() > most_bytes {
        return Err(WhepError::TooLarge { got: body.len(), allowed: most_bytes });
    }
    std::str::from_utf8(body).map_err(|e| WhepError::Malformed(format!("it is no UTF-8: {e}")))
}
