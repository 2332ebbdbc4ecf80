//! A stream of events whose sign of life can be withheld, which the servers' own cannot.

use super::{REPORT_EVERY, SIGN_EVERY, Shared, now_ms};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use loco_model::report::HealthReport;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One subscriber.
struct Subscriber {
    shared: Arc<Shared>,
    report: watch::Receiver<HealthReport>,
    silent: watch::Receiver<bool>,
    stop: CancellationToken,
    first: bool,
    next_sign: tokio::time::Instant,
    next_report: tokio::time::Instant,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.subscribers.fetch_sub(1, Relaxed);
    }
}

/// The answer to `GET /events`.
pub(super) fn response(shared: Arc<Shared>, stop: CancellationToken) -> Response {
    shared.subscribers.fetch_add(1, Relaxed);
    let now = tokio::time::Instant::now();
    // Agents are not in step: each has its own phase.
    let phase = SIGN_EVERY.mul_f64(shared.id.index() as f64 * 0.618_034 % 1.0);
    let subscriber = Subscriber {
        report: shared.report.subscribe(),
        silent: shared.silent.subscribe(),
        shared,
        stop,
        first: true,
        next_sign: now + phase,
        next_report: now + phase + REPORT_EVERY - SIGN_EVERY,
    };
    let pieces = futures::stream::unfold(subscriber, |mut subscriber| async move {
        let piece = subscriber.next().await?;
        Some((Ok::<_, Infallible>(piece), subscriber))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces)).into_response()
}

// === impl Subscriber ===

impl Subscriber {
    /// The next bytes; nothing when the server stops.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.first) {
            let stop = self.stop.clone();
            tokio::select! {
                () = stop.cancelled() => return None,
                changed = self.report.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.next_report) => {}
                () = tokio::time::sleep_until(self.next_sign) => {
                    self.wait_to_speak().await?;
                    return Some(self.sent(Bytes::from_static(b":\n\n")));
                }
            }
        }
        self.wait_to_speak().await?;
        self.next_report = tokio::time::Instant::now() + REPORT_EVERY;
        let mut report = self.report.borrow_and_update().clone();
        report.timestamp_ms = now_ms();
        let data = serde_json::to_string(&report).unwrap_or_default();
        Some(self.sent(Bytes::from(format!("event: health\ndata: {data}\n\n"))))
    }

    async fn wait_to_speak(&mut self) -> Option<()> {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => None,
            speaks = self.silent.wait_for(|silent| !silent) => speaks.ok().map(drop),
        }
    }

    fn sent(&mut self, bytes: Bytes) -> Bytes {
        self.next_sign = tokio::time::Instant::now() + SIGN_EVERY;
        self.shared.state.lock().last_sign = Some(Instant::now());
        bytes
    }
}
