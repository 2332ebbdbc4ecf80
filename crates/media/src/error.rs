//! What can go wrong at either end.

use std::time::Duration;

/// A sender or receiver that cannot work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MediaError {
    /// GStreamer itself does not start.
    #[error("GStreamer does not start: {0}")]
    GStreamer(String),
    /// None of the encoders in the list is installed.
    #[error("no video encoder: none of {0} is installed (Debian: gstreamer1.0-plugins-ugly has x264enc)")]
    NoEncoder(String),
    /// No decoder for a codec is installed.
    #[error("no video decoder: `{0}` is not installed (Debian: gstreamer1.0-libav has avdec_h264)")]
    NoDecoder(&'static str),
    /// An encoder or decoder refuses to work.
    #[error("{element}: {reason}")]
    Codec {
        /// GStreamer's name of it.
        element: &'static str,
        /// What it says.
        reason: String,
    },
    /// A setting that makes no sense.
    #[error("{name} is {value}; allowed is {allowed}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What was given.
        value: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// WebRTC failed.
    #[error("WebRTC: {0}")]
    Rtc(String),
    /// The operating system refused.
    #[error("{0}")]
    Io(String),
}

/// A WHEP request that is refused; [`WhepError::status`] is the HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhepError {
    /// The body is not of the type that the request needs.
    #[error("content type is {got}; allowed is {allowed}")]
    ContentType {
        /// What was sent, or `missing`.
        got: String,
        /// What is needed.
        allowed: &'static str,
    },
    /// The body is too long.
    #[error("the body has {got} bytes; at most {allowed} are allowed")]
    TooLarge {
        /// Bytes sent.
        got: usize,
        /// Most that is read.
        allowed: usize,
    },
    /// The body is no SDP.
    #[error("malformed SDP: {0}")]
    Malformed(String),
    /// The SDP is well formed, but not an offer that can be answered.
    #[error("this offer cannot be answered: {0}")]
    Unprocessable(String),
    /// No codec in common.
    #[error("no codec in common: {0}")]
    NotAcceptable(String),
    /// No such session.
    #[error("no session `{0}`")]
    NoSession(String),
    /// `If-Match` is missing.
    #[error("If-Match is missing: give the session's ETag")]
    PreconditionRequired,
    /// `If-Match` names another state of the session.
    #[error("If-Match is {got}, but the session's ETag is {current}")]
    PreconditionFailed {
        /// What was sent.
        got: String,
        /// What it is.
        current: String,
    },
    /// All ports are taken.
    #[error("no free media port: all of {range} are in use ({sessions} sessions)")]
    PortsFull {
        /// The configured range.
        range: String,
        /// Sessions now.
        sessions: usize,
    },
    /// The sender stops or cannot work.
    #[error("{0}")]
    Unavailable(String),
}

impl WhepError {
    /// The HTTP status that says it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NoSession(_) => 404,
            Self::NotAcceptable(_) => 406,
            Self::PreconditionFailed { .. } => 412,
            Self::TooLarge { .. } => 413,
            Self::ContentType { .. } => 415,
            Self::Unprocessable(_) => 422,
            Self::PreconditionRequired => 428,
            Self::PortsFull { .. } | Self::Unavailable(_) => 503,
        }
    }

    /// What `Retry-After` should say, where trying again makes sense.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::PortsFull { .. } | Self::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// An input that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendInputError {
    /// There is no session now.
    #[error("not connected: the input was dropped")]
    NotConnected,
    /// The session does not take it fast enough.
    #[error("the input queue is full: the input was dropped")]
    Full,
}
