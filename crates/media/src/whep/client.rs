//! The player's side of WHEP.

use super::{FRAGMENT_TYPE, SDP_TYPE};
use loco_model::problem::plain_reason;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, LOCATION};
use reqwest::{StatusCode, Url};
use std::io::ErrorKind;
use std::time::Duration;

/// A request that takes longer failed.
const REQUEST_AT_MOST: Duration = Duration::from_secs(5);
/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why there is no session, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("`{0}` is no WHEP address: {1}")]
    Url(String, String),
    #[error("the token is no HTTP header value")]
    Token,
    #[error("`{0}` cannot be sent as an HTTP header")]
    Header(String),
    #[error("the agent does not answer at {0}: {1}")]
    Unreachable(String, String),
    #[error("nobody answers at {0}")]
    Nobody(String),
    #[error("the agent refuses the token (401)")]
    Unauthorized,
    #[error("the token does not allow watching (403)")]
    Forbidden,
    #[error("there is no WHEP endpoint at {0} (404)")]
    NotFound(String),
    #[error("the agent is busy (503): {0}")]
    Unavailable(String),
    #[error("the agent refuses: {0} {1}")]
    Refused(u16, String),
    #[error("the agent's answer makes no sense: {0}")]
    Nonsense(String),
}

impl ClientError {
    /// Nobody is reached at that address: the system's error in words for a person.
    pub(crate) fn unreachable(address: String, error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Nobody(address),
            _ => Self::Unreachable(address, plain_reason(error)),
        }
    }
}

/// A WHEP endpoint.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    authorization: Option<HeaderValue>,
    /// Further headers of every offer.
    headers: HeaderMap,
}

/// What came of an offer.
pub(crate) struct Answer {
    pub(crate) sdp: String,
    /// The session's URL, to delete it.
    pub(crate) session: Url,
}

impl Client {
    pub(crate) fn new(endpoint: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let bad = |why: String| ClientError::Url(endpoint.to_owned(), why);
        let url = Url::parse(endpoint).map_err(|e| bad(e.to_string()))?;
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(bad("it must begin with http://".to_owned()));
        }
        let authorization = token
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        let http = reqwest::Client::builder()
            .timeout(REQUEST_AT_MOST)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| bad(e.to_string()))?;
        Ok(Self { http, endpoint: url, authorization, headers: HeaderMap::new() })
    }

    /// Sends these (name, value) with every offer too.
    pub(crate) fn with_headers(mut self, headers: &[(String, String)]) -> Result<Self, ClientError> {
        for (name, value) in headers {
            let wrong = || ClientError::Header(name.clone());
            let key = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            self.headers.insert(key, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?);
        }
        Ok(self)
    }

    /// Host and port of the endpoint.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        let host = self.endpoint.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        (host, self.endpoint.port_or_known_default().unwrap_or(80))
    }

    fn request(&self, method: reqwest::Method, url: Url) -> reqwest::RequestBuilder {
        let request = self.http.request(method, url);
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }

    /// Posts an offer.
    pub(crate) async fn offer(&self, sdp: String) -> Result<Answer, ClientError> {
        let request = self
            .request(reqwest::Method::POST, self.endpoint.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, SDP_TYPE);
        let response = request.body(sdp).send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        let session = response.headers().get(LOCATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let text = read_bounded(response).await?;
        if status != StatusCode::CREATED {
            return Err(self.refusal(status, &text));
        }
        let session = session.ok_or_else(|| ClientError::Nonsense("201 without Location".to_owned()))?;
        let session = self.endpoint.join(&session).map_err(|e| ClientError::Nonsense(format!("Location: {e}")))?;
        if session.origin() != self.endpoint.origin() {
            // The token must not go elsewhere.
            return Err(ClientError::Nonsense(format!("Location {session} is on another host")));
        }
        Ok(Answer { sdp: text, session })
    }

    /// Restarts a session's ICE with the credentials and candidates of `fragment`; returns the sender's.
    pub(crate) async fn restart(&self, session: Url, fragment: String) -> Result<String, ClientError> {
        let request = self
            .request(reqwest::Method::PATCH, session)
            .header(CONTENT_TYPE, FRAGMENT_TYPE)
            .header(IF_MATCH, HeaderValue::from_static("*"));
        let response = request.body(fragment).send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        let text = read_bounded(response).await?;
        if status == StatusCode::OK { Ok(text) } else { Err(self.refusal(status, &text)) }
    }

    /// Deletes a session; a failure is of no use to anyone, the sender notices the end by itself.
    pub(crate) async fn delete(&self, session: Url) {
        if let Err(error) = self.request(reqwest::Method::DELETE, session).send().await {
            tracing::debug!(error = %error.without_url(), "deleting a session");
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut cause: &(dyn std::error::Error + 'static) = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let (host, port) = self.host_and_port();
        let address = format!("{host}:{port}");
        tracing::debug!(address, %cause, "the agent does not answer");
        match cause.downcast_ref::<std::io::Error>() {
            _ if error.is_timeout() => ClientError::Unreachable(address, "no answer in time".to_owned()),
            Some(cause) => ClientError::unreachable(address, cause),
            None => ClientError::Unreachable(address, cause.to_string()),
        }
    }

    fn refusal(&self, status: StatusCode, body: &str) -> ClientError {
        let detail = || {
            let problem: Option<serde_json::Value> = serde_json::from_str(body).ok();
            let field = |name: &str| problem.as_ref().and_then(|p| p.get(name)?.as_str().map(str::to_owned));
            let text = field("detail").or_else(|| field("title")).unwrap_or_else(|| body.trim().to_owned());
            text.chars().take(200).collect::<String>()
        };
        match status.as_u16() {
            401 => ClientError::Unauthorized,
            403 => ClientError::Forbidden,
            404 => ClientError::NotFound(self.endpoint.to_string()),
            503 => ClientError::Unavailable(detail()),
            other => ClientError::Refused(other, detail()),
        }
    }
}

async fn read_bounded(mut response: reqwest::Response) -> Result<String, ClientError> {
    let nonsense = |why: String| ClientError::Nonsense(why);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| nonsense(e.without_url().to_string()))? {
        if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(nonsense(format!("more than {MAX_ANSWER_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| nonsense("it is no UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_addresses_and_tokens_are_named() {
        for wrong in ["", "127.0.0.1:80", "ftp://h/whep", "http://"] {
            assert!(matches!(Client::new(wrong, None), Err(ClientError::Url(..))), "{wrong}");
        }
        assert_eq!(Client::new("http://h/whep", Some("a\nb")).err(), Some(ClientError::Token));
        let client = Client::new("http://h/whep", None).expect("a client");
        let header = client.with_headers(&[("loco-viewer".into(), "a\nb".into())]).err();
        assert_eq!(header, Some(ClientError::Header("loco-viewer".into())));
        let client = Client::new("http://[::1]:8080/whep", Some("t")).expect("a client");
        assert_eq!(client.host_and_port(), ("::1".to_owned(), 8080));
    }

    #[test]
    fn whoever_is_not_reached_is_told_without_numbers_of_errors() {
        let told = |code| ClientError::unreachable("h:1".into(), &std::io::Error::from_raw_os_error(code)).to_string();
        #[cfg(target_os = "linux")]
        assert_eq!(told(111), "nobody answers at h:1");
        #[cfg(target_os = "linux")]
        assert_eq!(told(113), "the agent does not answer at h:1: No route to host");
        assert!(!told(1).contains("os error"), "{}", told(1));
    }

    #[test]
    fn refusals_are_told_in_words() {
        let client = Client::new("http://h/whep", None).expect("a client");
        let told =
            |status, body: &str| client.refusal(StatusCode::from_u16(status).expect("a status"), body).to_string();
        assert!(told(401, "").contains("token"));
        assert!(told(404, "").contains("http://h/whep"));
        assert!(told(503, r#"{"title":"t","detail":"no free media port"}"#).contains("no free media port"));
        assert!(told(418, "teapot").contains("418 teapot"));
    }
}
