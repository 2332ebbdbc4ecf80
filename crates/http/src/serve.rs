//! A server with bounds: how long a client may take, how much it may send, how many there may be; and a graceful stop.

use crate::problem::Failure;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a client may take for a request's head, and how long a connection may idle between two requests.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a peer may leave sent bytes unacknowledged before its connection is given up (RFC 5482): this is what ends
/// half-open connections that only receive.
const UNACKNOWLEDGED_TIMEOUT_MS: u32 = 20_000;
/// Most connections at a time; further ones wait in the listener's queue.
const MAX_CONNECTIONS: usize = 256;
/// How long answers may still take after the stop was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a refused body is still read, and for how long.
const DISCARD_BYTES: usize = 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Bounds on a request's body.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes; more is answered with 413.
    pub body_bytes: usize,
    /// How long it may take; longer is answered with 408.
    pub body_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 64 * 1024, body_timeout: Duration::from_secs(10) }
    }
}

/// The address cannot be listened at.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has it.
    #[error("cannot listen at {0}: the port is in use; give another one, or 0 for any free one")]
    InUse(SocketAddr),
    /// The system says no.
    #[error("cannot listen at {address}: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A bound listener, ready to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    connections: TaskTracker,
}

/// Counts a server's connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connections(TaskTracker);

// === impl Connections ===

impl Connections {
    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

// === impl Server ===

impl Server {
    /// Binds `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// When the port is in use, or the address is not this machine's.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse(address),
            _ => BindError::Other { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, connections: TaskTracker::new() })
    }

    /// The address in use, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its connections, to be counted while it serves.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections(self.connections.clone())
    }

    /// The address as a base URL, without a trailing slash. A wildcard is written as loopback.
    #[must_use]
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("http://{address}")
    }

    /// Serves until `stop` is cancelled, then lets running answers end (2 s at most).
    pub async fn serve(self, routes: Router, stop: CancellationToken) {
        let connections = self.connections;
        let abort = CancellationToken::new();
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accept = async {
                // The semaphore is never closed.
                let permit = free.clone().acquire_owned().await.ok();
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (routes, stop, abort) = (routes.clone(), stop.clone(), abort.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = converse(stream, routes, stop) => {}
                            () = abort.cancelled() => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors or a connection that ended before it was taken: others may still work.
                    tracing::warn!("a connection could not be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            abort.cancel();
            connections.wait().await;
        }
    }
}

async fn converse(stream: TcpStream, routes: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY: {error}");
    }
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_TIMEOUT_MS) {
        tracing::debug!("TCP_USER_TIMEOUT: {error}");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        // A WebSocket leaves this connection to its handler, which bounds how many there are and sees the stop itself.
        .with_upgrades();
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Reads the whole body within the bounds before any handler runs, so that none waits for a slow client.
pub(crate) async fn bound_body(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let (parts, mut body) = request.into_parts();
    let too_long = || {
        let detail = format!("the body is longer than the {} bytes allowed", limits.body_bytes);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    // A length that is announced is judged at once: its sender may wait for the answer before it sends.
    if body.size_hint().lower() > limits.body_bytes as u64 {
        // Who waits for a 100 has not sent anything, and will not.
        if !parts.headers.contains_key(EXPECT) {
            discard(body);
        }
        return last(too_long());
    }
    let read = tokio::time::timeout(limits.body_timeout, Limited::new(&mut body, limits.body_bytes).collect());
    let failure = match read.await {
        Ok(Ok(read)) => return next.run(Request::from_parts(parts, Body::from(read.to_bytes()))).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body);
            return last(too_long());
        }
        Ok(Err(error)) => Failure::bad_request(format!("the body ended early: {error}")),
        Err(_) => Failure::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", limits.body_timeout.as_secs_f64()),
        ),
    };
    failure.into_response()
}

/// The connection closes after this answer, and says so: a client that took it for free would lose its next request.
fn last(failure: Failure) -> Response {
    let mut response = failure.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Reads the rest of a refused body for a moment and throws it away: a connection that is closed with unread bytes is
/// reset, and the reset may reach the client before the answer does.
fn discard(body: Body) {
    tokio::spawn(tokio::time::timeout(DISCARD_TIMEOUT, async move {
        let mut rest = Limited::new(body, DISCARD_BYTES);
        while let Some(Ok(_)) = rest.frame().await {}
    }));
}
