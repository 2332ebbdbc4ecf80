//! An agent for tests: real HTTP on loopback, a real ledger rule, a guest that is what the test says.
#![allow(clippy::expect_used, reason = "a test: a panic is its message")]

use crate::hub::unix_ms;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use futures::StreamExt as _;
use loco_http::{Client, Failure, JsonBody, Server, Token, TokenFile, event_response};
use loco_model::recovery::{Attempt, Initiator, Judgement, Ledger, Outcome, RemedyOrder, left};
use loco_model::report::{DeepHealth, HealthReport, OverallStatus};
use loco_model::usage::Use;
use loco_model::{InstanceId, Remedy};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

/// What a remedy does to the guest.
type Cure = Box<dyn Fn(Remedy, &mut DeepHealth) + Send + Sync>;

/// The agent. It ends when this is dropped.
pub(crate) struct Fake {
    pub(crate) url: String,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    id: InstanceId,
    report: watch::Sender<HealthReport>,
    attempts: Mutex<Vec<Attempt>>,
    uses: watch::Sender<Vec<Use>>,
    cure: Cure,
    /// Orders of its use that an agent of before there were senders did not take.
    refused_uses: AtomicUsize,
    /// Held while a remedy is carried out, as in an agent.
    one: tokio::sync::Mutex<()>,
    /// Whether remedies may end.
    gate: watch::Sender<bool>,
    /// Answers to orders that get lost on the way.
    lost_answers: AtomicUsize,
    stop: CancellationToken,
}

/// A client with a token of its own.
pub(crate) fn client(folder: &std::path::Path) -> (Client, std::path::PathBuf) {
    let path = folder.join("token");
    if !path.exists() {
        Token::create_file(&path).expect("token");
    }
    (Client::new(TokenFile::open(&path).expect("token")).expect("client"), path)
}

/// A guest that runs.
pub(crate) fn live() -> DeepHealth {
    let mut health = DeepHealth {
        qemu_healthy: Some(true),
        guest_state: "running".into(),
        frozen: Some(false),
        guest_started_at_ms: Some(1),
        ..DeepHealth::default()
    };
    health.video.display_active = Some(true);
    health
}

// === impl Fake ===

impl Fake {
    /// One whose guest runs. `cure` is what a remedy does to it.
    pub(crate) async fn start(index: usize, cure: impl Fn(Remedy, &mut DeepHealth) + Send + Sync + 'static) -> Self {
        Self::start_with(index, Box::new(cure), put(usage)).await
    }

    /// One of before there were senders of how it is used.
    pub(crate) async fn start_old(index: usize) -> Self {
        Self::start_with(index, Box::new(|_, _| {}), put(old_usage)).await
    }

    async fn start_with(index: usize, cure: Cure, usage: MethodRouter<Arc<Shared>>) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("port");
        let (url, stop) = (server.url(), CancellationToken::new());
        let id = InstanceId::try_new(index).expect("index");
        let report = HealthReport {
            instance_id: Some(id),
            overall_status: OverallStatus::Healthy,
            deep_health: live(),
            timestamp_ms: unix_ms(),
        };
        let shared = Arc::new(Shared {
            id,
            report: watch::Sender::new(report),
            attempts: Mutex::new(Vec::new()),
            uses: watch::Sender::new(Vec::new()),
            cure,
            refused_uses: AtomicUsize::new(0),
            one: tokio::sync::Mutex::new(()),
            gate: watch::Sender::new(true),
            lost_answers: AtomicUsize::new(0),
            stop: stop.clone(),
        });
        let routes = Router::new()
            .route("/events", get(events))
            .route("/ledger", get(ledger))
            .route("/ledger/{attempt}", put(judge))
            .route("/remedy/{action}", post(remedy))
            .route("/use", usage)
            .with_state(shared.clone());
        tokio::spawn(server.serve(routes, stop.clone()));
        Self { url, shared, stop }
    }

    /// Changes the guest; it is told at once.
    pub(crate) fn change(&self, change: impl FnOnce(&mut DeepHealth)) {
        self.shared.report.send_modify(|report| {
            change(&mut report.deep_health);
            report.timestamp_ms = unix_ms();
        });
    }

    /// What was done, in order.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.shared.attempts.lock().clone()
    }

    /// Somebody else's attempt, made now.
    pub(crate) fn add(&self, attempt: Attempt) {
        self.shared.attempts.lock().push(attempt);
    }

    /// An attempt of the agent itself.
    pub(crate) fn own_attempt(&self, id: &str) -> Attempt {
        let order = RemedyOrder {
            attempt_id: Some(id.to_owned()),
            class: loco_model::FailureClass::Qemu,
            reason: None,
            initiator: Some(Initiator::Agent),
            is_override: false,
        };
        self.shared.attempt(Remedy::RestartQemu, order, Outcome::Repaired)
    }

    /// The next answers to orders get lost, though what was ordered is done.
    pub(crate) fn lose_answers(&self, count: usize) {
        self.shared.lost_answers.store(count, Ordering::Relaxed);
    }

    /// Whether remedies end; those that are being carried out wait until they may.
    pub(crate) fn let_end(&self, may: bool) {
        self.shared.gate.send_replace(may);
    }

    /// Everything that it was told of its use, in order.
    pub(crate) fn uses(&self) -> watch::Receiver<Vec<Use>> {
        self.shared.uses.subscribe()
    }

    /// How many orders of its use it did not take.
    pub(crate) fn refused_uses(&self) -> usize {
        self.shared.refused_uses.load(Ordering::Relaxed)
    }

    /// Ends it: connections are closed.
    pub(crate) fn end(&self) {
        self.stop.cancel();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

// === impl Shared ===

impl Shared {
    fn attempt(&self, action: Remedy, order: RemedyOrder, outcome: Outcome) -> Attempt {
        let now = unix_ms();
        Attempt {
            ended_at_ms: Some(now),
            is_override: order.is_override,
            reason: order.reason,
            outcome,
            detail: Some("done".into()),
            evidence: Some("evidence".into()),
            ..Attempt::begun(
                order.attempt_id.unwrap_or_else(|| now.to_string()),
                self.id,
                now,
                order.class,
                action,
                order.initiator.unwrap_or(Initiator::Agent),
            )
        }
    }
}

async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let reports = WatchStream::new(shared.report.subscribe()).map(|report| ("health", report));
    event_response(reports, shared.stop.clone())
}

async fn ledger(State(shared): State<Arc<Shared>>) -> Json<Ledger> {
    let attempts = shared.attempts.lock().clone();
    let (left, next_at_ms) = left(attempts.iter().map(|attempt| attempt.started_at_ms), unix_ms());
    Json(Ledger { attempts, left, next_at_ms })
}

async fn judge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(judgement): Json<Judgement>,
) -> StatusCode {
    let mut attempts = shared.attempts.lock();
    let Some(known) = attempts.iter_mut().find(|attempt| attempt.id == id) else { return StatusCode::NOT_FOUND };
    (known.outcome, known.detail) = (judgement.outcome, judgement.detail);
    StatusCode::OK
}

async fn usage(State(shared): State<Arc<Shared>>, JsonBody(told): JsonBody<Use>) {
    shared.uses.send_modify(|uses| uses.push(told));
}

/// As agents took it that knew no senders.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OldUse {
    in_use: bool,
    max_fps: Option<u32>,
    max_bit_rate: Option<u32>,
    lease_s: u32,
    input_holder: Option<String>,
}

async fn old_usage(State(shared): State<Arc<Shared>>, told: Result<JsonBody<OldUse>, Failure>) -> Response {
    match told {
        Ok(JsonBody(OldUse { in_use, max_fps, max_bit_rate, lease_s, input_holder })) => {
            let told = Use { in_use, max_fps, max_bit_rate, lease_s, input_holder, sender: None };
            shared.uses.send_modify(|uses| uses.push(told));
            StatusCode::OK.into_response()
        }
        Err(failure) => {
            shared.refused_uses.fetch_add(1, Ordering::Relaxed);
            failure.into_response()
        }
    }
}

async fn remedy(
    State(shared): State<Arc<Shared>>,
    Path(action): Path<Remedy>,
    Json(order): Json<RemedyOrder>,
) -> Response {
    let known =
        |attempts: &[Attempt]| attempts.iter().find(|attempt| Some(&attempt.id) == order.attempt_id.as_ref()).cloned();
    let before = known(&shared.attempts.lock());
    let done = match before {
        Some(known) => known,
        None => {
            let Ok(_one) = shared.one.try_lock() else {
                return Failure::new(StatusCode::CONFLICT, "another attempt is being made").into_response();
            };
            let attempt = {
                let mut attempts = shared.attempts.lock();
                let (left, _) = left(attempts.iter().map(|attempt| attempt.started_at_ms), unix_ms());
                if left == 0 && !order.is_override {
                    let refusal = Failure::new(StatusCode::TOO_MANY_REQUESTS, "three attempts within an hour");
                    return ([(header::RETRY_AFTER, "900")], refusal).into_response();
                }
                let attempt = shared.attempt(action, order, Outcome::Repaired);
                attempts.push(Attempt { outcome: Outcome::Running, ended_at_ms: None, ..attempt.clone() });
                attempt
            };
            // Its sender lives as long as this.
            let _ = shared.gate.subscribe().wait_for(|may| *may).await;
            let mut attempts = shared.attempts.lock();
            if let Some(kept) = attempts.iter_mut().find(|kept| kept.id == attempt.id) {
                *kept = attempt.clone();
            }
            attempt
        }
    };
    let lost = shared.lost_answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    if lost.is_ok() {
        // What the client sees is a connection that breaks in the middle.
        let broken = futures::stream::iter([Ok("{"), Err(std::io::Error::other("lost"))]);
        return axum::body::Body::from_stream(broken).into_response();
    }
    shared.report.send_modify(|report| {
        (shared.cure)(action, &mut report.deep_health);
        report.timestamp_ms = unix_ms();
    });
    Json(done).into_response()
}
