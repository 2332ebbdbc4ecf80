//! Repairing the guest: what others order, and what the agent does by itself when QEMU ends. All of it is an attempt in one
//! [`Book`], and before each what can be seen is saved.

mod actions;
mod book;
pub(crate) mod evidence;
pub(crate) mod own;

use crate::agent::Agent;
use crate::bridge::LastPicture;
pub(crate) use book::{Book, LimitReached, NotJudged};
use evidence::Evidence;
use loco_http::Role;
use loco_model::InstanceId;
use loco_model::failure::Remedy;
use loco_model::recovery::{Attempt, Initiator, Judgement, Outcome, RemedyOrder};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest reason of an order that is kept, in characters.
const MAX_REASON: usize = 300;
/// Longest detail of a judgement that is kept, in characters: what the remedy told, and how it was afterwards.
const MAX_DETAIL: usize = 2 * MAX_REASON;

/// How often a ledger that could not be written is tried again.
pub(crate) const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// What repairs share.
#[derive(Debug)]
pub(crate) struct Repair {
    pub(crate) book: Arc<Book>,
    /// The folder of all evidence.
    pub(crate) evidence: PathBuf,
    /// The guest's picture before its display was gone.
    pub(crate) last_picture: LastPicture,
    /// Held while something is done.
    one: Arc<tokio::sync::Mutex<()>>,
}

/// Why an order is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another attempt is being made.
    Busy,
    /// The limit is reached.
    Limit(LimitReached),
    /// The order itself is wrong.
    Wrong(String),
    /// It is about an attempt that cannot be judged.
    NotJudged(NotJudged),
    /// The agent itself failed at it.
    Broke(String),
}

// === impl Repair ===

impl Repair {
    /// Goes on with the ledger of a state folder.
    pub(crate) fn open(state: &Path, last_picture: LastPicture) -> Self {
        Self { book: Arc::new(Book::open(state)), evidence: evidence::folder(state), last_picture, one: Arc::default() }
    }
}

pub(crate) fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A new attempt's id.
fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// The attempt that an order asks for.
fn attempt(id: InstanceId, action: Remedy, order: RemedyOrder, role: Role) -> Result<Attempt, Refusal> {
    let name = order.attempt_id.unwrap_or_else(new_id);
    if !evidence::is_name(&name) {
        let allowed = "allowed are 1 to 64 letters, digits, '-' or '_', not beginning with '-'";
        return Err(Refusal::Wrong(format!("attemptId is {:?}: {allowed}", name.chars().take(80).collect::<String>())));
    }
    let by = order.initiator.unwrap_or_else(|| Initiator::Person { name: role.to_string() });
    let reason = order.reason.map(|reason| reason.chars().take(MAX_REASON).collect());
    let begun = Attempt::begun(name, id, unix_ms(), order.class, action, by);
    Ok(Attempt { is_override: order.is_override, reason, ..begun })
}

/// Does what is ordered, and returns the attempt when it is done; one that is known already is not made again.
///
/// # Errors
/// When another is being made, the limit is reached, or the order is wrong.
pub(crate) async fn order(
    agent: Arc<Agent>,
    action: Remedy,
    order: RemedyOrder,
    role: Role,
) -> Result<Attempt, Refusal> {
    if let Some(known) = order.attempt_id.as_deref().and_then(|id| agent.repair.book.find(id)) {
        return Ok(known);
    }
    let attempt = attempt(agent.id, action, order, role)?;
    let one = Arc::clone(&agent.repair.one).try_lock_owned().map_err(|_| Refusal::Busy)?;
    // Of two orders with the same id, the second came here only after the first was done.
    if let Some(known) = agent.repair.book.find(&attempt.id) {
        return Ok(known);
    }
    // In a task of its own: who ordered may hang up, and what was begun is done nevertheless.
    let task = tokio::spawn(async move {
        let done = make(&agent, attempt).await;
        drop(one);
        done
    });
    task.await.unwrap_or_else(|error| Err(Refusal::Broke(format!("the attempt broke: {error}"))))
}

/// Takes what an attempt was good for; returns the attempt as the ledger has it then.
///
/// # Errors
/// When it is no judgement, or there is nothing that could be judged.
pub(crate) async fn judge(agent: &Agent, id: String, judgement: Judgement) -> Result<Attempt, Refusal> {
    if !matches!(judgement.outcome, Outcome::Repaired | Outcome::InVain) {
        return Err(Refusal::Wrong("outcome is another one: allowed are \"repaired\" and \"invain\"".to_owned()));
    }
    let detail = judgement.detail.map(|detail| detail.chars().take(MAX_DETAIL).collect());
    let (book, judgement) = (Arc::clone(&agent.repair.book), Judgement { detail, ..judgement });
    let judged = tokio::task::spawn_blocking(move || book.judge(&id, judgement)).await;
    let judged = judged.map_err(|error| Refusal::Broke(format!("the ledger broke: {error}")))?;
    judged.map_err(Refusal::NotJudged)
}

async fn make(agent: &Arc<Agent>, attempt: Attempt) -> Result<Attempt, Refusal> {
    let (id, action) = (attempt.id.clone(), attempt.action);
    let is_bound = !attempt.is_override;
    tracing::info!(id, %action, reason = attempt.reason, "a remedy was ordered");
    let begun = attempt.clone();
    begin(agent, attempt, is_bound).await.map_err(Refusal::Limit)?;
    save(agent, &id, Evidence::now(agent).await).await;
    let done = actions::run(agent, action).await;
    tracing::info!(id, %action, outcome = ?done.outcome, detail = done.detail, "the remedy is done");
    let finished = finish(agent, &id, done.outcome, done.detail.clone()).await;
    // What the ledger no longer has is told as it was ordered and done.
    Ok(finished.unwrap_or(Attempt {
        ended_at_ms: Some(unix_ms()),
        outcome: done.outcome,
        detail: done.detail,
        ..begun
    }))
}

/// Puts an attempt into the ledger; on the disk when this returns.
async fn begin(agent: &Agent, attempt: Attempt, is_bound: bool) -> Result<(), LimitReached> {
    let book = Arc::clone(&agent.repair.book);
    match tokio::task::spawn_blocking(move || book.begin(attempt, is_bound)).await {
        Ok(begun) => begun,
        Err(error) => {
            tracing::error!("the ledger broke: {error}");
            Ok(())
        }
    }
}

async fn change(agent: &Agent, id: &str, change: impl FnOnce(&mut Attempt) + Send + 'static) -> Option<Attempt> {
    let (book, id) = (Arc::clone(&agent.repair.book), id.to_owned());
    tokio::task::spawn_blocking(move || book.change(&id, change)).await.ok().flatten()
}

async fn finish(agent: &Agent, id: &str, outcome: Outcome, detail: Option<String>) -> Option<Attempt> {
    let ended = (outcome != Outcome::Running).then(unix_ms);
    let done = move |attempt: &mut Attempt| {
        (attempt.outcome, attempt.detail, attempt.ended_at_ms) = (outcome, detail, ended);
    };
    change(agent, id, done).await
}

async fn save(agent: &Agent, id: &str, evidence: Evidence) {
    let (folder, name) = (agent.repair.evidence.clone(), id.to_owned());
    let saved = tokio::task::spawn_blocking(move || evidence.save(&folder, &name)).await;
    match saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok(()) => {
            let name = id.to_owned();
            change(agent, id, move |attempt| attempt.evidence = Some(name)).await;
        }
        // A full disk must not keep anyone from repairing.
        Err(error) => tracing::warn!(id, %error, "evidence cannot be saved"),
    }
}
