//! Each request has an id: in every log line that belongs to it, in its answer, and in what our client asks of other
//! servers for its sake.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

/// Header that carries a request's id.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client.
const MAX_ID_BYTES: usize = 64;
/// Most bytes of a path that stand in a log line.
const MAX_PATH_BYTES: usize = 256;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// A request's id: 1 to 64 letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

// === impl RequestId ===

impl RequestId {
    /// The id of the request that the current task answers.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header's value.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The client's id when it is a sane one: it stands in our log.
    fn sane(value: &HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let sane = (1..=MAX_ID_BYTES).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte));
        sane.then(|| Self(value.clone()))
    }

    fn random() -> Self {
        // 16 hexadecimal digits are always a header's value.
        let value = HeaderValue::try_from(format!("{:016x}", rand::random::<u64>()));
        Self(value.unwrap_or_else(|_| HeaderValue::from_static("0")))
    }
}

/// Gives the request its id (the client's own when that is sane), a span, and the id to the answer.
pub(crate) async fn name_request(mut request: Request, next: Next) -> Response {
    let mut given = request.headers().get_all(REQUEST_ID_HEADER).iter();
    let id = match (given.next().and_then(RequestId::sane), given.next()) {
        (Some(id), None) => id,
        _ => RequestId::random(),
    };
    let path = request.uri().path();
    // A request's path is ASCII.
    let path = path.get(..MAX_PATH_BYTES).unwrap_or(path);
    let span = tracing::info_span!("request", id = id.as_str(), method = %request.method(), path);
    request.extensions_mut().insert(id.clone());
    let answer = CURRENT.scope(id.clone(), next.run(request)).instrument(span);
    let mut response = answer.await;
    response.headers_mut().insert(REQUEST_ID_HEADER, id.0);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_ids_are_taken() {
        for (text, want) in
            [("a", true), ("0b1e-F_9.x", true), ("", false), ("a b", false), ("a\"b", false), ("é", false)]
        {
            let value = HeaderValue::from_bytes(text.as_bytes()).expect("value");
            assert_eq!(RequestId::sane(&value).is_some(), want, "{text:?}");
        }
        for (length, want) in [(MAX_ID_BYTES, true), (MAX_ID_BYTES + 1, false)] {
            let value = HeaderValue::try_from("x".repeat(length)).expect("value");
            assert_eq!(RequestId::sane(&value).is_some(), want, "{length}");
        }
        assert_ne!(RequestId::random(), RequestId::random());
        assert!(RequestId::current().is_none());
    }
}
