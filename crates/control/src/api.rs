//! The HTTP API. Wire types are loco-model's.

use crate::plane::Instances;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use futures::{Stream, StreamExt as _};
use loco_http::{Failure, event_response};
use loco_model::api::{Event, Instance};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
struct Shared {
    instances: watch::Receiver<Arc<Instances>>,
    stop: CancellationToken,
}

pub(crate) fn routes(instances: watch::Receiver<Arc<Instances>>, stop: CancellationToken) -> Router {
    Router::new()
        .route("/api/instances", get(list))
        .route("/api/events", get(events))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .with_state(Shared { instances, stop })
}

async fn list(State(shared): State<Shared>) -> Json<Vec<Instance>> {
    Json(shared.instances.borrow().all.values().cloned().collect())
}

async fn events(State(shared): State<Shared>) -> Response {
    let named = changes(shared.instances).map(|event| (event.name(), event));
    event_response(named, shared.stop)
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn ready(State(shared): State<Shared>) -> Result<Json<Value>, Failure> {
    if shared.instances.borrow().listed {
        Ok(Json(json!({ "status": "ready" })))
    } else {
        Err(Failure::unavailable("the provider has not listed its instances yet"))
    }
}

/// The whole list, then every difference. A slow reader misses the states in between, never the newest one.
fn changes(mut instances: watch::Receiver<Arc<Instances>>) -> impl Stream<Item = Event> + Send + 'static {
    let known = instances.borrow_and_update().clone();
    let first = Event::Instances { instances: known.all.values().cloned().collect() };
    let rest = futures::stream::unfold((instances, known), |(mut instances, known)| async move {
        instances.changed().await.ok()?;
        let now = instances.borrow_and_update().clone();
        let events = difference(&known, &now);
        Some((futures::stream::iter(events), (instances, now)))
    });
    futures::stream::once(async { first }).chain(rest.flatten())
}

fn difference(old: &Instances, new: &Instances) -> Vec<Event> {
    let removed = old.all.keys().filter(|id| !new.all.contains_key(id)).map(|id| Event::Removed { id: *id });
    let changed = new
        .all
        .iter()
        .filter(|(id, instance)| old.all.get(id) != Some(instance))
        .map(|(_, instance)| Event::Instance { instance: Box::new(instance.clone()) });
    removed.chain(changed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::{InstanceId, InstanceState};

    fn instance(index: usize, state: InstanceState) -> Instance {
        let id = InstanceId::try_new(index).expect("index");
        Instance { state, ready: state == InstanceState::Live, ..Instance::new(id) }
    }

    fn instances(list: &[Instance]) -> Arc<Instances> {
        Arc::new(Instances { listed: true, all: list.iter().map(|i| (i.id, i.clone())).collect() })
    }

    #[tokio::test]
    async fn a_stream_is_the_list_and_then_differences() {
        use InstanceState::{Connecting, Live};
        let (a, b, b_live) = (instance(0, Connecting), instance(1, Connecting), instance(1, Live));
        let (send, receive) = watch::channel(instances(&[a.clone(), b]));
        let mut stream = Box::pin(changes(receive));
        let Some(Event::Instances { instances: first }) = stream.next().await else { panic!("no list") };
        assert_eq!(first.len(), 2);
        send.send_replace(instances(&[a.clone(), b_live.clone()]));
        assert_eq!(stream.next().await, Some(Event::Instance { instance: Box::new(b_live.clone()) }));
        send.send_replace(instances(&[b_live]));
        assert_eq!(stream.next().await, Some(Event::Removed { id: a.id }));
        drop(send);
        assert_eq!(stream.next().await, None);
    }
}
