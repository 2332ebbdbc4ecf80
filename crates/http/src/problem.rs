//! Every error over HTTP is a problem (RFC 9457), also those that the framework makes.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use loco_model::problem::{CONTENT_TYPE, Problem};

/// Longest text of a foreign error that becomes a problem's detail, in bytes.
const MAX_DETAIL_BYTES: usize = 4096;

/// An error answer: a [`Problem`] that handlers return with `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub Problem);

// === impl Failure ===

impl Failure {
    /// An error answer whose title is the status's own words; `detail` names the bad value and what is allowed.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self(Problem::new(status.as_u16(), title(status), detail))
    }

    /// 400.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 503.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem is two strings and a number: it always serialises.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], body).into_response()
    }
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

/// What is said where the framework says nothing.
fn default_detail(status: StatusCode) -> Option<String> {
    match status {
        StatusCode::NOT_FOUND => Some("there is nothing at this path".to_owned()),
        StatusCode::METHOD_NOT_ALLOWED => Some("this path does not take this method; see the Allow header".to_owned()),
        _ => None,
    }
}

/// Turns an error answer that is no problem yet (an unknown path, a wrong method, a refused body) into one. Its text
/// becomes the detail; headers such as `Allow` stay.
pub async fn problem_details(response: Response) -> Response {
    let status = response.status();
    // JSON of our own is left alone: a health report keeps its shape when its status is 503.
    let speaks_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| [CONTENT_TYPE, "application/json"].iter().any(|own| value == own));
    if !(status.is_client_error() || status.is_server_error()) || speaks_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_DETAIL_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let detail = if text.is_empty() { default_detail(status) } else { Some(text) };
    let problem = Problem { status: status.as_u16(), title: title(status).to_owned(), detail };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Response::from_parts(parts, Body::from(serde_json::to_vec(&problem).unwrap_or_default()))
}
