//! The control plane's own measurements in the text format that Prometheus reads (OpenMetrics 1.0). What is counted here
//! is counted where it happens; the rest is read when it is asked for. What is unknown is not there.

use crate::breaker::BreakerState;
use crate::history::METRICS;
use crate::hub::Hub;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use loco_http::Connections;
use loco_model::api::{Alert, Severity};
use loco_model::recovery::{Attempt, Outcome};
use parking_lot::Mutex;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Media type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Upper bounds of the durations' buckets, in seconds.
const DURATIONS: [f64; 11] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Attempts whose end was counted that are remembered, so that none is counted twice.
const COUNTED: usize = 1_024;

type Labels<const N: usize> = [(&'static str, String); N];
type Value = Gauge<f64, AtomicU64>;

/// What became of an alert at a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Its server took it.
    Taken,
    /// Tried in vain.
    Failed,
    /// Too many waited.
    Dropped,
}

/// Counters of one control plane. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    durations: Family<Labels<3>, Histogram>,
    in_flight: Gauge,
    recoveries: Family<Labels<2>, Counter>,
    deliveries: Family<Labels<2>, Counter>,
    alerts: Family<Labels<1>, Gauge>,
    counted: Mutex<VecDeque<String>>,
    connections: Connections,
}

// === impl Metrics ===

impl Metrics {
    /// Nothing is counted yet but the connections.
    pub(crate) fn new(connections: Connections) -> Self {
        let mut registry = Registry::with_prefix("loco_control");
        let durations = Family::<Labels<3>, Histogram>::new_with_constructor(|| Histogram::new(DURATIONS));
        let in_flight = Gauge::default();
        let (recoveries, deliveries, alerts) = (Family::default(), Family::default(), Family::default());
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to its answer's head",
            durations.clone(),
        );
        registry.register("http_requests_in_flight", "Requests that are being answered", in_flight.clone());
        registry.register("recoveries", "Attempts to repair that ended", recoveries.clone());
        registry.register(
            "webhook_deliveries",
            "Alerts that were sent to a webhook, or should have been",
            deliveries.clone(),
        );
        registry.register("alerts", "Alerts that last", alerts.clone());
        let counted = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                registry,
                durations,
                in_flight,
                recoveries,
                deliveries,
                alerts,
                counted,
                connections,
            }),
        }
    }

    /// Counts an attempt once, when it has ended.
    pub(crate) fn attempt(&self, attempt: &Attempt) {
        if attempt.outcome == Outcome::Running || attempt.ended_at_ms.is_none() {
            return;
        }
        let mut counted = self.inner.counted.lock();
        if counted.contains(&attempt.id) {
            return;
        }
        if counted.len() == COUNTED {
            counted.pop_front();
        }
        counted.push_back(attempt.id.clone());
        let outcome = match attempt.outcome {
            Outcome::Running => "running",
            Outcome::Repaired => "repaired",
            Outcome::InVain => "in-vain",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Yielded => "yielded",
        };
        let labels = [("action", attempt.action.to_string()), ("outcome", outcome.to_owned())];
        self.inner.recoveries.get_or_create(&labels).inc();
    }

    /// Counts what became of an alert at a webhook.
    pub(crate) fn webhook(&self, name: &str, delivery: Delivery) {
        let outcome = match delivery {
            Delivery::Taken => "taken",
            Delivery::Failed => "failed",
            Delivery::Dropped => "dropped",
        };
        let labels = [("webhook", name.to_owned()), ("outcome", outcome.to_owned())];
        self.inner.deliveries.get_or_create(&labels).inc();
    }

    /// Tells which alerts last.
    pub(crate) fn alerts<'a>(&self, open: impl Iterator<Item = &'a Alert>) {
        let mut counts = BTreeMap::from([(Severity::Info, 0), (Severity::Warning, 0), (Severity::Critical, 0)]);
        for alert in open {
            *counts.entry(alert.severity).or_default() += 1;
        }
        for (severity, count) in counts {
            let word = match severity {
                Severity::Info => "info",
                Severity::Warning => "warning",
                Severity::Critical => "critical",
            };
            self.inner.alerts.get_or_create(&[("severity", word.to_owned())]).set(count);
        }
    }

    /// Everything as text.
    ///
    /// # Errors
    /// Never in practice: writing into a string does not fail.
    pub(crate) fn text(&self, hub: &Hub) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.inner.registry)?;
        let mut now = now(hub);
        let connections = Value::default();
        connections.set(self.inner.connections.count() as f64);
        now.register("http_connections", "Connections to the API", connections);
        encode_registry(&mut text, &now)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Measures every request of a router: `router.layer(axum::middleware::from_fn_with_state(metrics, track))`. The path is
/// its pattern, so that there are as many as routes.
pub(crate) async fn track(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = match request.method().as_str() {
        method @ ("GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "HEAD") => method.to_owned(),
        _ => "other".to_owned(),
    };
    let _flight = Flight::begin(&metrics.inner.in_flight);
    let begun = Instant::now();
    let response = next.run(request).await;
    let labels = [("method", method), ("route", route), ("status", response.status().as_u16().to_string())];
    metrics.inner.durations.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
    response
}

/// Counts down again however the request ends.
struct Flight(Gauge);

impl Flight {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is known elsewhere, as it is now.
fn now(hub: &Hub) -> Registry {
    let mut registry = Registry::with_prefix("loco_control");
    instances(&mut registry, hub);
    let mut single = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let gauge = Value::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    };
    let discovery = hub.discovery();
    let store = hub.store().health();
    let flag = |value: bool| Some(f64::from(u8::from(value)));
    single("event_subscribers", "Readers of the stream of events", Some(hub.events().readers() as f64));
    single("viewers", "Viewers that told of themselves lately", Some(hub.usage().viewers().len() as f64));
    single("discovery_age_seconds", "How long ago the source of instances was last heard of", {
        discovery.age_ms.map(|age| age as f64 / 1_000.0)
    });
    single(
        "discovery_stale",
        "Whether the source of instances cannot be read",
        flag(discovery.stale_since_ms.is_some()),
    );
    single("store_queue", "Things that wait to be written", Some(store.queued as f64));
    single("store_failing", "Whether nothing can be written", flag(store.failing_since_ms.is_some()));
    single("store_dropped_samples", "Buckets of samples that were dropped", Some(store.dropped_samples as f64));
    breakers(&mut registry, hub);
    registry
}

fn breakers(registry: &mut Registry, hub: &Hub) {
    let states = Family::<Labels<1>, Gauge>::default();
    let (opened, refused) = (Family::<Labels<1>, Counter>::default(), Family::<Labels<1>, Counter>::default());
    for breaker in hub.breakers().all() {
        let labels = [("breaker", breaker.name().to_owned())];
        let state = match breaker.state() {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        states.get_or_create(&labels).set(state);
        let counts = breaker.counts();
        opened.get_or_create(&labels).inc_by(counts.opened);
        refused.get_or_create(&labels).inc_by(counts.refused);
    }
    registry.register("breaker_state", "0: closed, 1: half-open, 2: open", states);
    registry.register("breaker_opened", "Times that a breaker opened", opened);
    registry.register("breaker_refused", "Calls that a breaker refused", refused);
}

fn instances(registry: &mut Registry, hub: &Hub) {
    let known = hub.instances().borrow().clone();
    let states = Family::<Labels<2>, Value>::default();
    let (ready, left) = (Family::<Labels<1>, Value>::default(), Family::<Labels<1>, Value>::default());
    for instance in known.all.values() {
        let label = ("instance_id", instance.id.to_string());
        let state = ("state", instance.state.word().to_lowercase());
        states.get_or_create(&[label.clone(), state]).set(1.0);
        let labels = [label];
        ready.get_or_create(&labels).set(f64::from(u8::from(instance.ready)));
        if let Some(attempts) = instance.attempts_left {
            left.get_or_create(&labels).set(attempts as f64);
        }
    }
    registry.register("instance_state", "1 for the state that an instance is in", states);
    registry.register("instance_ready", "Whether a viewer can connect", ready);
    registry.register("instance_attempts_left", "Attempts to repair that are left in this hour", left);
    let healths = hub.healths();
    for metric in METRICS {
        let values = Family::<Labels<1>, Value>::default();
        let mut is_known = false;
        for (id, health) in &healths {
            let Some(value) = health.deep_health.as_ref().and_then(|health| metric.now(health)) else { continue };
            is_known = true;
            values.get_or_create(&[("instance_id", id.to_string())]).set(value);
        }
        if is_known {
            let unit = if metric.unit == "1" { String::new() } else { format!(", in {}", metric.unit) };
            registry.register(
                format!("instance_{}", metric.name),
                format!("An instance's {}{unit}", metric.label),
                values,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::Breakers;
    use crate::fake;
    use crate::provider::NoHand;
    use crate::store::Store;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use loco_http::Server;
    use loco_model::api::Instance;
    use loco_model::recovery::Initiator;
    use loco_model::{FailureClass, InstanceId, InstanceState, Remedy};
    use tokio_util::sync::CancellationToken;

    fn attempt(id: &str, outcome: Outcome) -> Attempt {
        Attempt {
            ended_at_ms: (outcome != Outcome::Running).then_some(2),
            outcome,
            ..Attempt::begun(
                id,
                InstanceId::try_new(2).expect("index"),
                1,
                FailureClass::Qemu,
                Remedy::RestartQemu,
                Initiator::Agent,
            )
        }
    }

    #[tokio::test]
    async fn what_was_counted_is_there_and_nothing_else() {
        let folder = tempfile::tempdir().expect("temporary directory");
        let (client, _) = fake::client(folder.path());
        let (hub, _commands) =
            Hub::new(client, std::sync::Arc::new(NoHand), Store::in_memory(), Breakers::new(), false);
        let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
        let metrics = Metrics::new(server.connections());
        for (id, outcome) in
            [("a", Outcome::Running), ("a", Outcome::Repaired), ("a", Outcome::Repaired), ("b", Outcome::InVain)]
        {
            metrics.attempt(&attempt(id, outcome));
        }
        metrics.webhook("ops", Delivery::Taken);
        let id = InstanceId::try_new(2).expect("index");
        hub.shared().instances.send_modify(|instances| {
            let instance = Instance { state: InstanceState::Degraded, ready: true, ..Instance::new(id) };
            std::sync::Arc::make_mut(instances).all.insert(id, instance);
        });
        let breaker = hub.breakers().of("agent instance-2");
        for _ in 0..4 {
            breaker.permit().expect("closed").tell(false);
        }
        assert!(breaker.permit().is_err());
        let text = metrics.text(&hub).expect("text");
        for line in [
            "loco_control_recoveries_total{action=\"restart-qemu\",outcome=\"repaired\"} 1",
            "loco_control_recoveries_total{action=\"restart-qemu\",outcome=\"in-vain\"} 1",
            "loco_control_webhook_deliveries_total{webhook=\"ops\",outcome=\"taken\"} 1",
            "loco_control_instance_state{instance_id=\"instance-2\",state=\"degraded\"} 1.0",
            "loco_control_instance_ready{instance_id=\"instance-2\"} 1.0",
            "loco_control_breaker_state{breaker=\"agent instance-2\"} 2",
            "loco_control_breaker_opened_total{breaker=\"agent instance-2\"} 1",
            "loco_control_breaker_refused_total{breaker=\"agent instance-2\"} 1",
            "loco_control_http_connections 0.0",
            "loco_control_store_failing 0.0",
            "loco_control_event_subscribers 0.0",
            "loco_control_discovery_stale 0.0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        for absent in ["discovery_age", "attempts_left{", "frame_rate", "alerts{"] {
            assert!(!text.contains(absent), "{absent}\n{text}");
        }
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    }

    #[tokio::test]
    async fn requests_are_measured_by_their_route() {
        let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
        let connections = server.connections();
        let metrics = Metrics::new(connections.clone());
        let routes = Router::new()
            .route("/thing/{id}", get(async || StatusCode::NO_CONTENT))
            .layer(axum::middleware::from_fn_with_state(metrics.clone(), track));
        let (url, stop) = (server.url(), CancellationToken::new());
        tokio::spawn(server.serve(routes, stop.clone()));
        let client = reqwest::Client::new();
        for path in ["/thing/1", "/thing/2", "/nowhere"] {
            client.get(format!("{url}{path}")).send().await.expect("answer");
        }
        assert_eq!(connections.count(), 1, "one that is used again");
        let mut text = String::new();
        encode_registry(&mut text, &metrics.inner.registry).expect("text");
        let count = |labels: &str| format!("loco_control_http_request_duration_seconds_count{{{labels}}}");
        let known = count("method=\"GET\",route=\"/thing/{id}\",status=\"204\"");
        assert!(text.contains(&format!("{known} 2\n")), "{text}");
        let unknown = count("method=\"GET\",route=\"none\",status=\"404\"");
        assert!(text.contains(&format!("{unknown} 1\n")), "{text}");
        assert!(text.contains("loco_control_http_requests_in_flight 0\n"), "{text}");
        stop.cancel();
    }
}
