//! Requests to addresses that people configured: webhooks and checks. Never with a token of ours, never through a
//! redirect, never more of an answer than is needed.
//!
//! `https` is TLS 1.3 with the system's certificates. It is not loco-http's client, which only speaks to our own
//! servers and presents their token.

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use loco_model::problem::plain_reason;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longest URL.
const MAX_URL_BYTES: usize = 2_048;
/// How long a connection that is not used stays open.
const IDLE: Duration = Duration::from_secs(20);
/// How this program calls itself.
const USER_AGENT: &str = concat!("loco/", env!("CARGO_PKG_VERSION"));

/// A request that gave nothing usable. It names the host at most: a URL's path may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutsideError {
    /// The URL cannot be used.
    #[error("{0}")]
    Url(String),
    /// Nobody answered.
    #[error("{0}")]
    Unreachable(String),
    /// The answer is longer than was allowed.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// An `http` or `https` URL without a name or password in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target(Uri);

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Makes requests. Cheap to clone; set up at the first request.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    client: Arc<OnceLock<Result<HttpClient, String>>>,
}

// === impl Target ===

impl Target {
    /// Reads a URL.
    pub(crate) fn parse(text: &str) -> Result<Self, OutsideError> {
        let bad = |reason: &str| Err(OutsideError::Url(format!("the URL {reason}: expected http://… or https://…")));
        if text.len() > MAX_URL_BYTES {
            return bad("is too long");
        }
        let Ok(uri) = text.parse::<Uri>() else { return bad("cannot be read") };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return bad("has another scheme");
        }
        match uri.authority() {
            None => bad("has no host"),
            Some(authority) if authority.host().is_empty() => bad("has no host"),
            Some(authority) if authority.as_str().contains('@') => bad("holds a name or password"),
            Some(_) => Ok(Self(uri)),
        }
    }

    /// Scheme, host and port, with "…" for all that follows and may be secret.
    pub(crate) fn masked(&self) -> String {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        let rest = self.0.path_and_query().map_or("", |rest| rest.as_str());
        let scheme = self.0.scheme_str().unwrap_or_default();
        format!("{scheme}://{authority}{}", if matches!(rest, "" | "/") { rest } else { "/…" })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.masked())
    }
}

// === impl Outside ===

impl Outside {
    /// Sends a request and reads the answer up to `max_bytes`. Its caller sets the deadline.
    pub(crate) async fn send(
        &self,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<(StatusCode, Vec<u8>), OutsideError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = target.0.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        let client =
            self.client.get_or_init(client).as_ref().map_err(|error| OutsideError::Unreachable(error.clone()))?;
        let answer = client.request(request).await.map_err(|error| OutsideError::Unreachable(plain_reason(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), max_bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                OutsideError::TooLong(max_bytes)
            } else {
                OutsideError::Unreachable(plain_reason(&*error))
            }
        })?;
        Ok((status, body.to_bytes().to_vec()))
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

fn client() -> Result<HttpClient, String> {
    let provider = rustls::crypto::ring::default_provider();
    let connector = match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider) {
        Ok(builder) => builder,
        Err(error) => {
            // A system without certificates can still be reached over http.
            tracing::warn!("no certificates of the system can be read, so that no https server is trusted: {error}");
            let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?;
            let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        }
    };
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(1)
        .build(connector.https_or_http().enable_http1().build());
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_web_addresses_are_taken() {
        for good in ["http://127.0.0.1:8080/x?y=1", "https://loco.example/", "http://[::1]:3000"] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        let long = format!("http://a/{}", "x".repeat(MAX_URL_BYTES));
        for bad in
            ["", "/path", "file:///etc/passwd", "ftp://a/", "http://", "http://user:pw@a/", "a b", "gopher://a", &long]
        {
            let error = Target::parse(bad).expect_err(bad).to_string();
            assert!(error.contains("http://…") && !error.contains("pw"), "{error}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        for (url, shown) in [
            ("https://hooks.example/services/T0/B0/secret", "https://hooks.example/…"),
            ("http://a:1/?token=secret", "http://a:1/…"),
            ("http://a:1/", "http://a:1/"),
        ] {
            let target = Target::parse(url).expect("a URL");
            assert_eq!(target.masked(), shown);
            assert!(!format!("{target:?}").contains("secret"));
        }
    }
}
