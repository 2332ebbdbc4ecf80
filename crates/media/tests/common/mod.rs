//! A sender behind a real HTTP server, a synthetic canvas, and helpers to wait for what must happen.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by test files, each of which uses its own part")]
#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]

pub mod proxy;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post};
use loco_media::whep::{FRAGMENT_TYPE, SDP_TYPE};
use loco_media::{Canvas, Receiver, ReceiverConfig, Sender, SenderConfig, SessionState, WhepError};
use loco_model::{Rect, Size};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How a test changes descriptions on their way: offer or answer in, the same out.
pub type Rewrite = Arc<dyn Fn(String) -> String + Send + Sync>;

/// A sender and its HTTP server.
pub struct Agent {
    pub sender: Sender,
    pub canvas: Canvas,
    pub address: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct App {
    sender: Sender,
    offer: Rewrite,
    answer: Rewrite,
}

impl Agent {
    pub async fn start(config: SenderConfig, canvas: Canvas) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"), config, canvas).await
    }

    pub async fn start_at(listen: SocketAddr, config: SenderConfig, canvas: Canvas) -> Self {
        let same: Rewrite = Arc::new(|sdp| sdp);
        Self::start_between(listen, config, canvas, Arc::clone(&same), same).await
    }

    pub async fn start_between(
        listen: SocketAddr,
        config: SenderConfig,
        canvas: Canvas,
        offer: Rewrite,
        answer: Rewrite,
    ) -> Self {
        let sender = Sender::start(config, canvas.clone()).expect("a sender");
        let app = App { sender: sender.clone(), offer, answer };
        let router = Router::new()
            .route("/whep", post(create))
            .route("/whep/{session}", patch(change).delete(remove))
            .with_state(app);
        let listener = tokio::net::TcpListener::bind(listen).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("serves");
        });
        Self { sender, canvas, address, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/whep", self.address)
    }

    /// As a process that dies: the server is gone, sessions get no goodbye beyond what closing sends.
    pub async fn stop(self) {
        self.server.abort();
        let _ = self.server.await;
        self.sender.close().await;
    }
}

fn refused(error: &WhepError) -> Response {
    let status = StatusCode::from_u16(error.status()).expect("a status");
    (status, format!(r#"{{"detail":"{error}"}}"#)).into_response()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn create(State(app): State<App>, headers: HeaderMap, body: Bytes) -> Response {
    let offer = (app.offer)(String::from_utf8_lossy(&body).into_owned());
    match app.sender.whep_offer(text(&headers, header::CONTENT_TYPE), offer.as_bytes()).await {
        Ok(session) => (
            StatusCode::CREATED,
            [
                (header::CONTENT_TYPE, SDP_TYPE.to_owned()),
                (header::LOCATION, format!("/whep/{}", session.id)),
                (header::ETAG, session.etag),
            ],
            (app.answer)(session.answer_sdp),
        )
            .into_response(),
        Err(error) => refused(&error),
    }
}

async fn change(State(app): State<App>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let (kind, tag) = (text(&headers, header::CONTENT_TYPE), text(&headers, header::IF_MATCH));
    match app.sender.whep_patch(&id, kind, tag, &body).await {
        Ok(loco_media::whep::Patched::NoContent) => StatusCode::NO_CONTENT.into_response(),
        Ok(loco_media::whep::Patched::Restarted { fragment, etag }) => {
            ([(header::CONTENT_TYPE, FRAGMENT_TYPE.to_owned()), (header::ETAG, etag)], fragment).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn remove(State(app): State<App>, Path(id): Path<String>) -> Response {
    match app.sender.whep_delete(&id).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refused(&error),
    }
}

/// A receiver that can be waited for.
pub struct Viewer {
    pub receiver: Receiver,
    woken: Arc<Notify>,
}

impl Viewer {
    pub fn start(url: String) -> Self {
        Self::start_with(ReceiverConfig::new(url))
    }

    pub fn start_with(config: ReceiverConfig) -> Self {
        let woken = Arc::new(Notify::new());
        let wake = Arc::clone(&woken);
        let runtime = tokio::runtime::Handle::current();
        let receiver = Receiver::spawn(&runtime, config, Arc::new(move |_| wake.notify_one()));
        Self { receiver, woken }
    }

    /// Waits until `check` gives something, looking again at each wake.
    pub async fn wait<T>(&self, what: &str, check: impl Fn(&Receiver) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = check(&self.receiver) {
                return found;
            }
            let left = Duration::from_secs(20).saturating_sub(started.elapsed());
            let woken = tokio::time::timeout(left, self.woken.notified()).await;
            assert!(
                woken.is_ok(),
                "waited in vain for {what}; {:?}; {:?}",
                self.receiver.state(),
                self.receiver.stats()
            );
        }
    }

    pub async fn connected(&self) {
        self.wait("a connection", |r| (r.state() == SessionState::Connected).then_some(())).await;
    }

    /// Waits for a frame whose luma at the middle of `rect` is `want`, within what coding may change.
    pub async fn sees(&self, rect: Rect, want: u8) -> loco_media::VideoFrame {
        let what = format!("luma {want} at {rect:?}");
        self.wait(&what, |receiver| receiver.take_frame().filter(|frame| luma(frame, rect).abs_diff(want) <= 8)).await
    }
}

/// Mean luma of the inner half of `rect`.
pub fn luma(frame: &loco_media::VideoFrame, rect: Rect) -> u8 {
    let (y, stride) = frame.y();
    if rect.right() > frame.size().width || rect.bottom() > frame.size().height {
        return 0;
    }
    let (left, right) = (rect.x + rect.width / 4, rect.right() - rect.width / 4);
    let (top, bottom) = (rect.y + rect.height / 4, rect.bottom() - rect.height / 4);
    let sum: u64 = (top..bottom)
        .flat_map(|row| (left..right).map(move |x| u64::from(y[row as usize * stride + x as usize])))
        .sum();
    (sum / u64::from((right - left) * (bottom - top))) as u8
}

/// Luma of a grey of that value, limited range.
pub fn luma_of_grey(value: u8) -> u8 {
    (220 * u32::from(value) / 256 + 16) as u8
}

pub const SIZE: Size = Size::new(640, 480);

/// A canvas filled with one grey.
pub fn grey_canvas(size: Size, value: u8) -> Canvas {
    let canvas = Canvas::new();
    fill(&canvas, size, value);
    canvas
}

/// A new picture of one grey.
pub fn fill(canvas: &Canvas, size: Size, value: u8) {
    canvas.scanout(size, size.width as usize * 4, &vec![value; size.area() as usize * 4]);
}

/// Paints a rectangle grey, as QEMU tells it: over the whole width of the rectangle.
pub fn paint(canvas: &Canvas, rect: Rect, value: u8) {
    let stride = rect.width as usize * 4;
    canvas.update(rect, stride, &vec![value; stride * rect.height as usize]);
}
