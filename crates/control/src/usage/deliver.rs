//! Tells agents how much they may take: at once when that changes, and again before it is forgotten.

use super::caps::{Caps, RENEWAL, nothing, order};
use crate::breaker::CallError;
use crate::hub::{Hub, Reach};
use crate::store::{Store, UseConfig};
use loco_http::ClientError;
use loco_model::InstanceId;
use loco_model::usage::Use;
use reqwest::{Method, StatusCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Orders under way at once.
const AT_ONCE: usize = 32;
/// How long after an order that did not arrive it is given again.
const RETRY: Duration = Duration::from_secs(2);

/// What one agent was told.
struct Told {
    /// `None`: nothing yet, or it may have forgotten.
    order: Option<Use>,
    /// Which connection to the agent it was told over: a new one may be a new agent.
    epoch: u64,
    /// When to tell it again.
    again: Option<Instant>,
    /// Whether it is being told: what comes meanwhile is told after.
    busy: bool,
    /// Whether it is told who says so: an agent of before there were senders is not.
    named: bool,
}

impl Told {
    fn nothing(epoch: u64) -> Self {
        Self { order: None, epoch, again: None, busy: false, named: true }
    }
}

struct Delivered {
    id: InstanceId,
    epoch: u64,
    order: Use,
    named: bool,
    /// After how long it is told again, when it was not told.
    result: Result<(), Duration>,
}

/// Keeps every agent told until `stop`; also takes viewers for gone whose lease ends.
pub(crate) async fn deliver(hub: Hub, store: Store, stop: CancellationToken) {
    let mut usage = hub.usage().changes();
    let mut reach = hub.reach_changes();
    let mut config = store.config_changes();
    let mut told: BTreeMap<InstanceId, Told> = BTreeMap::new();
    let mut sending = JoinSet::new();
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        usage.mark_unchanged();
        reach.mark_unchanged();
        config.mark_unchanged();
        let next_expiry = hub.usage().expire();
        let next_order = send_due(&hub, &store, &mut told, &mut sending, &room);
        let wake = next_expiry.into_iter().chain(next_order).min();
        let pause = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = usage.changed() => {}
            Ok(()) = reach.changed() => {}
            Ok(()) = config.changed() => {}
            Some(ended) = sending.join_next() => match ended {
                Ok(delivered) => {
                    note(&mut told, delivered);
                    while let Some(Ok(delivered)) = sending.try_join_next() {
                        note(&mut told, delivered);
                    }
                }
                Err(error) => tracing::error!("telling an agent how it is used broke: {error}"),
            },
            () = pause => {}
        }
    }
}

/// Begins to tell everyone who is to be told something; says when the next one is.
fn send_due(
    hub: &Hub,
    store: &Store,
    told: &mut BTreeMap<InstanceId, Told>,
    sending: &mut JoinSet<Delivered>,
    room: &Arc<Semaphore>,
) -> Option<Instant> {
    let config: UseConfig = store.settings();
    let caps = config.limit.then_some(Caps { max_fps: config.max_fps, max_bit_rate: config.max_bit_rate });
    let mut uses = hub.usage().uses();
    if !uses.is_empty() {
        // Nobody steps back for what is not there.
        let known = hub.instances().borrow().clone();
        uses.retain(|id, _| known.all.contains_key(id));
    }
    if uses.is_empty() && told.is_empty() {
        return None;
    }
    let reachable = hub.reachable();
    told.retain(|id, told| told.busy || reachable.contains_key(id));
    let count = reachable.len();
    let now = Instant::now();
    let mut next: Option<Instant> = None;
    for (id, reach) in reachable {
        let known = told.entry(id).or_insert_with(|| Told::nothing(reach.epoch));
        if known.busy {
            continue;
        }
        if known.epoch != reach.epoch {
            *known = Told::nothing(reach.epoch);
        }
        let wanted = order(id, count, &uses, caps);
        let wanted = match (wanted, &known.order) {
            (Some(wanted), _) => wanted,
            // It was told something that holds no more.
            (None, Some(order)) if *order != nothing() => nothing(),
            (None, _) => continue,
        };
        let is_due = known.again.is_none_or(|at| at <= now);
        if known.order.as_ref() == Some(&wanted) && !is_due {
            next = next.into_iter().chain(known.again).min();
            continue;
        }
        // One that does not take orders is not asked the same without a pause.
        if known.order.is_none() && !is_due {
            next = next.into_iter().chain(known.again).min();
            continue;
        }
        known.busy = true;
        let room = room.clone();
        let sender = known.named.then(|| store.control_id());
        sending.spawn(async move {
            // Closed never.
            let _place = room.acquire().await;
            let (result, named) = send(&reach, &wanted, sender).await;
            Delivered { id, epoch: reach.epoch, order: wanted, named, result }
        });
    }
    next
}

fn note(told: &mut BTreeMap<InstanceId, Told>, delivered: Delivered) {
    let Some(known) = told.get_mut(&delivered.id) else { return };
    known.busy = false;
    if known.epoch != delivered.epoch {
        return;
    }
    known.named = delivered.named;
    match delivered.result {
        Ok(()) => {
            known.again = (delivered.order != nothing()).then(|| Instant::now() + RENEWAL);
            known.order = Some(delivered.order);
        }
        Err(pause) => {
            known.order = None;
            known.again = Some(Instant::now() + pause);
        }
    }
}

/// Tells an agent, and who says so; says too whether it understands the latter.
async fn send(reach: &Reach, order: &Use, sender: Option<String>) -> (Result<(), Duration>, bool) {
    let is_named = sender.is_some();
    match put(reach, &Use { sender, ..order.clone() }).await {
        Ok(()) => (Ok(()), is_named),
        Err(CallError::Failed(ClientError::Refused { status, detail, .. }))
            if is_named && knows_no_sender(status, detail.as_deref()) =>
        {
            tracing::debug!(agent = reach.agent, "an agent of before there were senders: it hears whoever spoke last");
            (put(reach, order).await.map_err(|error| pause(&error)), false)
        }
        Err(error) => (Err(pause(&error)), is_named),
    }
}

/// Whether an agent refuses an order for naming its sender, and for nothing else.
fn knows_no_sender(status: StatusCode, detail: Option<&str>) -> bool {
    matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        && detail.is_some_and(|detail| detail.contains("unknown field `sender`"))
}

async fn put(reach: &Reach, order: &Use) -> Result<(), CallError<ClientError>> {
    let url = format!("{}/use", reach.agent);
    let request = reach.client.request(Method::PUT, &url).json(order);
    let is_failure = |error: &ClientError| !matches!(error, ClientError::Refused { .. });
    reach.breaker.call_if(reach.client.send(request, &url), is_failure).await.map(drop)
}

/// How long after an order that was not taken it is given again.
fn pause(error: &CallError<ClientError>) -> Duration {
    tracing::debug!("an agent was not told how it is used: {error}");
    match error {
        // It will hardly think otherwise in a moment.
        CallError::Failed(ClientError::Refused { .. }) => RENEWAL,
        CallError::Refused { wait, .. } => (*wait).max(RETRY),
        CallError::Failed(_) | CallError::TimedOut(_) => RETRY,
    }
}
