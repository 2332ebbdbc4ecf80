//! WebRTC-HTTP Egress Protocol (draft-ietf-wish-whep-03): the typed part. HTTP itself is the agent's.

use crate::sender::SessionId;

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
