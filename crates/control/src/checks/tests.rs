use super::*;
use crate::outside::Outside;
use crate::store::Settings as _;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::get;
use loco_http::Server;
use loco_model::report::ViewerHealth;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;

fn id(index: usize) -> InstanceId {
    InstanceId::try_new(index).expect("index")
}

fn config(checks: &Value) -> ChecksConfig {
    let config: ChecksConfig = serde_json::from_value(json!({ "checks": checks })).expect("readable");
    config.check().expect("allowed");
    config
}

fn refused(check: &Value) -> String {
    match serde_json::from_value::<ChecksConfig>(json!({ "checks": [check] })) {
        Ok(config) => config.check().expect_err("not allowed"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn bad_checks_are_named() {
    let http = |url: &str| json!({"name": "web", "probe": {"kind": "http", "url": url}});
    for (check, part) in [
        (http("file:///etc/passwd"), "http://… or https://…"),
        (http("http://user:secret@a/"), "holds a name or password"),
        (json!({"name": " ", "probe": {"kind": "tcp", "address": "a:1"}}), "expected 1 to 64 bytes"),
        (json!({"name": "a", "probe": {"kind": "tcp", "address": "a"}}), "HOST:PORT"),
        (json!({"name": "a", "probe": {"kind": "tcp", "address": "a:0"}}), "HOST:PORT"),
        (json!({"name": "a", "probe": {"kind": "tcp", "address": "a:1"}, "intervalS": 0}), "1 to 3600"),
        (json!({"name": "a", "probe": {"kind": "ping"}}), "unknown variant"),
        (json!({"name": "a", "probe": {"kind": "tcp", "address": "a:1"}, "interval": 3}), "unknown field"),
        (
            json!({"name": "a", "probe": {"kind": "metric", "metric": "x", "op": ">", "value": 1}}),
            "unknown metric \"x\"",
        ),
        (json!({"name": "a", "probe": {"kind": "metric", "metric": "rtt", "op": "=", "value": 1}}), "unknown variant"),
    ] {
        let error = refused(&check);
        assert!(error.contains(part) && !error.contains("secret"), "{error}");
    }
    let twice = json!({"name": "a", "probe": {"kind": "tcp", "address": "{host}:1"}});
    let config: ChecksConfig = serde_json::from_value(json!({ "checks": [twice, twice] })).expect("readable");
    assert_eq!(config.check(), Err("two checks are called \"a\"".to_owned()));
}

#[test]
fn a_configuration_is_written_as_it_is_read() {
    let value = json!({"checks": [{
        "name": "web", "probe": {"kind": "http", "url": "http://{host}:80/", "status": 204, "contains": "ok"},
        "intervalS": 5, "failures": 1, "severity": "critical", "perInstance": true, "instances": ["instance-3"]
    }]});
    let read: ChecksConfig = serde_json::from_value(value.clone()).expect("readable");
    assert_eq!(serde_json::to_value(read).expect("written"), value);
}

async fn server(stop: &CancellationToken) -> SocketAddr {
    let long = "x".repeat(200_000);
    let routes = Router::new()
        .route("/ok", get(async || "all is well"))
        .route("/gone", get(async || StatusCode::NOT_FOUND))
        .route("/elsewhere", get(async || Redirect::temporary("/ok")))
        .route("/slow", get(std::future::pending::<()>))
        .route("/long", get(async move || long));
    let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
    let address = server.address();
    tokio::spawn(server.serve(routes, stop.clone()));
    address
}

#[tokio::test]
async fn targets_are_really_asked() {
    let stop = CancellationToken::new();
    let address = server(&stop).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address");
    let http = |path: &str, more: Value| {
        let mut probe = json!({"kind": "http", "url": format!("http://{address}{path}")});
        probe.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        probe
    };
    for (what, wrong) in [
        (http("/ok", json!({})), None),
        (http("/ok", json!({"contains": "is well"})), None),
        (http("/ok", json!({"contains": "is ill"})), Some("does not contain \"is ill\"")),
        (http("/gone", json!({})), Some("status 404 instead of 200 to 299")),
        (http("/gone", json!({"status": 404})), None),
        (http("/elsewhere", json!({})), Some("status 307")),
        (http("/long", json!({})), Some("longer than 65536 bytes")),
        (json!({"kind": "http", "url": format!("http://{closed}/")}), Some("nobody listens there")),
        // A server that speaks no TLS is no https server: its certificate would have been looked at.
        (json!({"kind": "http", "url": format!("https://{address}/ok")}), Some("")),
        (json!({"kind": "tcp", "address": address.to_string()}), None),
        (json!({"kind": "tcp", "address": closed.to_string()}), Some("cannot connect: nobody listens there")),
    ] {
        let probe: Probe = serde_json::from_value(what).expect("readable");
        let got = super::probe::probe(&Outside::default(), &probe, &Place::fixed()).await;
        let got = got.err().map(|error| error.to_string().to_lowercase());
        let as_wanted = match (&got, wrong) {
            (None, None) => true,
            (Some(got), Some(part)) => got.contains(&part.to_lowercase()),
            _ => false,
        };
        assert!(as_wanted, "{probe:?}: {got:?}, expected {wrong:?}");
    }
    stop.cancel();
}

#[derive(Default)]
struct Fleet {
    agents: Vec<(InstanceId, Option<String>)>,
    health: Mutex<BTreeMap<InstanceId, (u64, DeepHealth)>>,
}

impl Watched for Fleet {
    fn agents(&self) -> Vec<(InstanceId, Option<String>)> {
        self.agents.clone()
    }

    fn health(&self, id: InstanceId) -> Option<(u64, DeepHealth)> {
        self.health.lock().get(&id).cloned()
    }

    fn discovery(&self) -> DiscoveryInfo {
        DiscoveryInfo::default()
    }

    fn instances(&self) -> watch::Receiver<Arc<Instances>> {
        watch::channel(Arc::default()).1
    }
}

struct Running {
    config: watch::Sender<Arc<ChecksConfig>>,
    breakers: Breakers,
    results: mpsc::Receiver<CheckResult>,
    stop: CancellationToken,
}

fn start(fleet: Arc<Fleet>, checks: &Value) -> Running {
    let (config, followed) = watch::channel(Arc::new(config(checks)));
    let (told, results) = mpsc::channel(64);
    let (breakers, stop) = (Breakers::new(), CancellationToken::new());
    tokio::spawn(run(fleet, followed, breakers.clone(), told, stop.clone()));
    Running { config, breakers, results, stop }
}

#[tokio::test]
async fn each_instance_is_asked_at_its_own_host() {
    let stop = CancellationToken::new();
    let address = server(&stop).await;
    let agents = vec![
        (id(0), Some(format!("http://127.0.0.1:{}", address.port()))),
        (id(1), Some("http://127.0.0.2:1".to_owned())),
        (id(2), None),
        (id(3), Some("http://127.0.0.1:1".to_owned())),
    ];
    let fleet = Arc::new(Fleet { agents, ..Fleet::default() });
    let url = format!("http://{{host}}:{}/ok", address.port());
    let mut running = start(
        fleet,
        &json!([{
            "name": "web", "probe": {"kind": "http", "url": url}, "perInstance": true, "intervalS": 1, "failures": 2,
            "instances": ["instance-0", "instance-1", "instance-2"]
        }]),
    );
    let mut wrong = BTreeMap::new();
    while wrong.len() < 2 {
        let result = running.results.recv().await.expect("a result");
        wrong.insert(result.instance.expect("an instance"), result.wrong);
    }
    // The one on the other address refused: told at its second failure.
    assert_eq!(wrong.keys().copied().collect::<Vec<_>>(), [id(0), id(1)]);
    assert!(wrong[&id(0)].is_none() && wrong[&id(1)].is_some(), "{wrong:?}");
    assert_eq!(running.breakers.all().len(), 2);
    running.config.send_replace(Arc::new(ChecksConfig::default()));
    // Its breakers go with it.
    while !running.breakers.all().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop.cancel();
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_metric_must_be_beyond_its_limit_for_so_long() {
    let fleet = Arc::new(Fleet { agents: vec![(id(0), None), (id(1), None)], ..Fleet::default() });
    let rtt = |value: Option<f64>| {
        let viewer = ViewerHealth { state: "connected".into(), rtt_ms: value, ..ViewerHealth::default() };
        fleet.health.lock().insert(id(0), (1, DeepHealth { viewers: vec![viewer], ..DeepHealth::default() }));
    };
    rtt(Some(300.0));
    let probe = json!({"kind": "metric", "metric": "rtt", "op": ">", "value": 200, "forS": 60});
    let mut running = start(
        fleet.clone(),
        &json!([{"name": "far", "probe": probe, "intervalS": 10, "failures": 1, "severity": "critical"}]),
    );
    let begun = Instant::now();
    let result = running.results.recv().await.expect("a result");
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!((result.name.as_str(), result.instance, result.severity), ("far", Some(id(0)), Severity::Critical));
    assert_eq!(result.wrong.as_deref(), Some("round trip time is 300.000 ms: > 200 ms"));
    rtt(Some(20.0));
    while running.results.recv().await.expect("a result").wrong.is_some() {}
    // Unknown is neither.
    rtt(None);
    let silent = tokio::time::timeout(Duration::from_secs(600), async {
        while running.results.recv().await.is_some_and(|result| result.wrong.is_none()) {}
    });
    assert!(silent.await.is_err(), "nothing is wrong while nothing is known");
    running.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_check_that_stays_as_it_was_goes_on_when_others_change() {
    let fleet = Arc::new(Fleet { agents: vec![(id(0), None)], ..Fleet::default() });
    let viewer = ViewerHealth { state: "connected".into(), rtt_ms: Some(300.0), ..ViewerHealth::default() };
    fleet.health.lock().insert(id(0), (1, DeepHealth { viewers: vec![viewer], ..DeepHealth::default() }));
    let far = |name: &str, for_s: u32| {
        let probe = json!({"kind": "metric", "metric": "rtt", "op": ">", "value": 200, "forS": for_s});
        json!({"name": name, "probe": probe, "intervalS": 10, "failures": 1})
    };
    let mut running = start(fleet, &json!([far("changed", 60), far("same", 60)]));
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(45)).await;
    running.config.send_replace(Arc::new(config(&json!([far("new", 600), far("same", 60), far("changed", 61)]))));
    let mut first = async || {
        let result = running.results.recv().await.expect("a result");
        (result.name, begun.elapsed().as_secs())
    };
    assert_eq!(first().await, ("same".to_owned(), 60), "whatever changes beside it");
    // The other begins anew, at 45 s.
    loop {
        let (name, at) = first().await;
        if name == "changed" {
            assert!(at >= 45 + 61, "{at}");
            break;
        }
    }
    running.stop.cancel();
}
