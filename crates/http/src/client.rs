//! The clients' side: requests with the token, errors that say what the server said.

use crate::serve::HEAD_TIMEOUT;
use crate::sse::{LAST_EVENT_ID, Parser, ServerEvent, SseError};
use crate::token::TokenFile;
use crate::trace::{REQUEST_ID_HEADER, RequestId};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use loco_model::problem::{Problem, plain_reason};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a whole request may take, streams of events excepted.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that is not used is kept for the next request: not as long as our servers keep it. One that they
/// close in the same moment loses the request, and an order that may have been obeyed must not be sent again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const _: () = assert!(IDLE_TIMEOUT.as_secs() < HEAD_TIMEOUT.as_secs());
/// Longest silence on a stream of events. Our servers send a comment every 5 s.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Speaks to our servers with the token of a file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    tokens: TokenFile,
}

/// A request that gave nothing usable. No message holds a token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered (in time).
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why, in the words of the deepest cause.
        reason: String,
    },
    /// The server said no.
    #[error("{url} answered {status}{}", detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// The problem's detail.
        detail: Option<String>,
    },
    /// The answer is not what was asked for.
    #[error("{url} answered something unexpected: {reason}")]
    Unexpected {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// HTTP status: below 400.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: Option<String>,
    /// All of it.
    pub body: Vec<u8>,
}

/// Events of one connection, until it ends or fails.
pub type EventStream = BoxStream<'static, Result<ServerEvent, ClientError>>;

// === impl Client ===

impl Client {
    /// A client that presents the file's current token with every request. It uses no proxy and follows no redirect:
    /// the token goes to the address that was given, and nowhere else.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(tokens: TokenFile) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ClientError::Unreachable { url: String::new(), reason: reason(&error) })?;
        Ok(Self { http, tokens })
    }

    /// A request with the token, to be completed by the caller. Made while a server of ours answers a request, it
    /// carries that one's id.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let request = self.http.request(method, url);
        let request = request.header(header::AUTHORIZATION, self.tokens.current().authorization());
        match RequestId::current() {
            Some(id) => request.header(REQUEST_ID_HEADER, id.to_header()),
            None => request,
        }
    }

    /// A client for other servers, with another file's token, over the same connections.
    #[must_use]
    pub fn with_tokens(&self, tokens: TokenFile) -> Self {
        Self { http: self.http.clone(), tokens }
    }

    /// Sends a request; an answer of 400 and above becomes an error with the problem's detail.
    ///
    /// # Errors
    /// When nobody answers within 10 s, or the server refuses.
    pub async fn send(&self, request: RequestBuilder, url: &str) -> Result<Response, ClientError> {
        accept(request.timeout(REQUEST_TIMEOUT).send().await, url).await
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// When nobody answers within 10 s, the server refuses, or the answer is of another shape.
    pub async fn get_json<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        let response = self.send(self.request(Method::GET, url), url).await?;
        let body = bounded_body(response, url, MAX_ANSWER_BYTES).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Unexpected { url: url.to_owned(), reason: error.to_string() })
    }

    /// Sends a request and reads its whole answer, whatever it holds.
    ///
    /// # Errors
    /// When nobody answers within 10 s, the server refuses, or the answer is longer than `max_bytes`.
    pub async fn fetch(&self, request: RequestBuilder, url: &str, max_bytes: usize) -> Result<Fetched, ClientError> {
        let response = self.send(request, url).await?;
        let status = response.status();
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.map(str::to_owned);
        Ok(Fetched { status, content_type, body: bounded_body(response, url, max_bytes).await? })
    }

    /// Opens a stream of server-sent events. It fails after 15 s without a byte, since a half-open connection says
    /// nothing for ever.
    ///
    /// # Errors
    /// When nobody answers, the server refuses, or the answer is no event stream.
    pub async fn events(&self, url: &str) -> Result<EventStream, ClientError> {
        self.events_after(url, None).await
    }

    /// The same, beginning after the event with the id `last`: what was missed meanwhile comes first.
    ///
    /// # Errors
    /// As there.
    pub async fn events_after(&self, url: &str, last: Option<&str>) -> Result<EventStream, ClientError> {
        let mut request = self.request(Method::GET, url).header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header(LAST_EVENT_ID, last);
        }
        // With the whole of a refusal: its body may never end.
        let accepted = tokio::time::timeout(REQUEST_TIMEOUT, async { accept(request.send().await, url).await }).await;
        let Ok(accepted) = accepted else {
            return Err(ClientError::Unreachable { url: url.to_owned(), reason: "timed out".to_owned() });
        };
        let response = accepted?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !kind.starts_with("text/event-stream") {
            return Err(ClientError::Unexpected {
                url: url.to_owned(),
                reason: format!("content type {kind:?} instead of an event stream"),
            });
        }
        Ok(event_stream(response.bytes_stream(), url.to_owned()))
    }
}

fn event_stream<B: AsRef<[u8]> + Send + 'static>(
    bytes: impl Stream<Item = Result<B, reqwest::Error>> + Send + 'static,
    url: String,
) -> EventStream {
    struct State<S> {
        bytes: S,
        parser: Parser,
        ready: VecDeque<ServerEvent>,
        url: String,
        ended: bool,
    }
    let state = State { bytes: Box::pin(bytes), parser: Parser::default(), ready: VecDeque::new(), url, ended: false };
    futures::stream::unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.ready.pop_front() {
                return Some((Ok(event), state));
            }
            if state.ended {
                return None;
            }
            let lost = |reason: String| ClientError::Unreachable { url: state.url.clone(), reason };
            let failure = match tokio::time::timeout(SILENCE_TIMEOUT, state.bytes.next()).await {
                Ok(Some(Ok(piece))) => match state.parser.push(piece.as_ref(), |event| state.ready.push_back(event)) {
                    Ok(()) => continue,
                    Err(error @ (SseError::TooLong | SseError::NotUtf8)) => {
                        ClientError::Unexpected { url: state.url.clone(), reason: error.to_string() }
                    }
                },
                Ok(Some(Err(error))) => lost(reason(&error)),
                Ok(None) => return None,
                Err(_) => lost(format!("silent for {} s", SILENCE_TIMEOUT.as_secs())),
            };
            state.ended = true;
            return Some((Err(failure), state));
        }
    })
    .boxed()
}

async fn accept(sent: Result<Response, reqwest::Error>, url: &str) -> Result<Response, ClientError> {
    let response = sent.map_err(|error| ClientError::Unreachable { url: url.to_owned(), reason: reason(&error) })?;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let body = bounded_body(response, url, MAX_ANSWER_BYTES).await.unwrap_or_default();
    let detail = serde_json::from_slice::<Problem>(&body).ok().and_then(|problem| problem.detail);
    Err(ClientError::Refused { url: url.to_owned(), status, detail })
}

async fn bounded_body(mut response: Response, url: &str, max_bytes: usize) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) if body.len() + piece.len() <= max_bytes => body.extend_from_slice(&piece),
            Ok(Some(_)) => {
                let reason = format!("more than {max_bytes} bytes");
                return Err(ClientError::Unexpected { url: url.to_owned(), reason });
            }
            Ok(None) => return Ok(body),
            Err(error) => return Err(ClientError::Unreachable { url: url.to_owned(), reason: reason(&error) }),
        }
    }
}

/// Why a request failed, in words for a person. What it was to the system is logged.
fn reason(error: &reqwest::Error) -> String {
    tracing::debug!(?error, "a request failed");
    if error.is_timeout() { "timed out".to_owned() } else { plain_reason(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn reasons_are_words_for_a_person() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let read = stream.read(&mut [0; 4096]).await.expect("a request");
            assert_ne!(read, 0);
            // A stream that ends in the middle, as one does whose server is killed.
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).await.expect("sent");
        });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let cut = http.get(&url).send().await.expect("a head").bytes().await.expect_err("it is cut");
        server.await.expect("it served");
        assert_eq!(reason(&cut), "it closed the connection");
        let refused = http.get(&url).send().await.expect_err("nobody listens any more");
        assert_eq!(reason(&refused), "nobody listens there");
    }
}
