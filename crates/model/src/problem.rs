//! Errors over HTTP as RFC 9457 problem details, and in words for a person.

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{self, ErrorKind};

/// Media type of a problem's body.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// What went wrong with a request (RFC 9457). `type` is left at its default, `about:blank`: the status says the class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// HTTP status code.
    pub status: u16,
    /// Short, the same for every occurrence of this kind.
    pub title: String,
    /// This occurrence: names the bad value and what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Problem {
    /// A problem with its explanation.
    #[must_use]
    pub fn new(status: u16, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, title: title.into(), detail: Some(detail.into()) }
    }
}

/// Why a request failed, by its deepest cause, in words for a person: "nobody listens there" says more than "client error",
/// and the system's number of an error says nothing.
#[must_use]
pub fn plain_reason(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    match deepest.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "nobody listens there".to_owned(),
        Some(
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe,
        ) => "it closed the connection".to_owned(),
        Some(ErrorKind::TimedOut) => "it does not answer".to_owned(),
        _ => {
            let text = deepest.to_string();
            text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure with a cause, as libraries wrap them.
    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn reasons_are_words_for_a_person() {
        for (cause, words) in [
            (io::Error::from(ErrorKind::ConnectionRefused), "nobody listens there"),
            (io::Error::from(ErrorKind::ConnectionReset), "it closed the connection"),
            (io::Error::from(ErrorKind::TimedOut), "it does not answer"),
            // EHOSTUNREACH of Linux; elsewhere the number is another error's, and goes all the same.
            (io::Error::from_raw_os_error(113), ""),
            (io::Error::other("no such name"), "no such name"),
        ] {
            let told = plain_reason(&Wrapped(cause));
            assert!(told.contains(words) && !told.is_empty() && !told.contains("os error"), "{told}");
        }
    }
}
