//! Errors over HTTP as RFC 9457 problem details.

use serde::{Deserialize, Serialize};

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
