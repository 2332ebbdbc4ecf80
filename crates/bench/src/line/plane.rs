//! The least of a control plane: a list of agents, told over the same API.

use anyhow::Result;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt as _;
use loco_http::{Guard, Limits, Server, TokenFile, event_response};
use loco_model::api::{Endpoints, Event, Instance};
use loco_model::{InstanceId, InstanceState};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The list, served until dropped.
pub(super) struct Plane {
    url: String,
    instances: watch::Sender<Vec<Instance>>,
    stop: DropGuard,
}

type Shared = State<(watch::Receiver<Vec<Instance>>, CancellationToken)>;

// === impl Plane ===

impl Plane {
    pub(super) async fn start(tokens: TokenFile) -> Result<Self> {
        let server = Server::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let url = server.url();
        let (instances, seen) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        let routes = Router::new()
            .route("/api/instances", get(list))
            .route("/api/events", get(events))
            .with_state((seen, stop.clone()));
        let routes = Guard::new(tokens).protect(routes, Limits::default());
        tokio::spawn(server.serve(routes, stop.clone()));
        Ok(Self { url, instances, stop: stop.drop_guard() })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// An instance is live, its agent at `address`.
    pub(super) fn show(&self, id: InstanceId, address: SocketAddr) {
        let agent = format!("http://{address}");
        let endpoints = Some(Endpoints { whep: format!("{agent}/whep"), agent });
        let instance = Instance { state: InstanceState::Live, ready: true, endpoints, ..Instance::new(id) };
        self.instances.send_modify(|all| all.push(instance));
    }

    /// Its agent is gone.
    pub(super) fn lose(&self, id: InstanceId, why: &str) {
        self.change(id, |instance| {
            (instance.state, instance.ready) = (InstanceState::Recovering, false);
            instance.reason = Some(why.to_owned());
        });
    }

    /// It is back.
    pub(super) fn regain(&self, id: InstanceId) {
        self.change(id, |instance| {
            (instance.state, instance.ready, instance.reason) = (InstanceState::Live, true, None);
        });
    }

    fn change(&self, id: InstanceId, change: impl FnOnce(&mut Instance)) {
        self.instances.send_modify(|all| {
            if let Some(instance) = all.iter_mut().find(|instance| instance.id == id) {
                change(instance);
            }
        });
    }

    pub(super) fn stop(self) {
        drop(self.stop);
    }
}

async fn list(State((seen, _)): Shared) -> Json<Vec<Instance>> {
    Json(seen.borrow().clone())
}

/// The whole list at every change: there are few, and few instances.
async fn events(State((seen, stop)): Shared) -> Response {
    let all = futures::stream::unfold((seen, true), |(mut seen, first)| async move {
        if !first {
            seen.changed().await.ok()?;
        }
        let instances = seen.borrow_and_update().clone();
        Some((("instances", Event::Instances { instances }), (seen, false)))
    });
    event_response(all.boxed(), stop)
}
