use super::rules::{Change, of};
use super::*;
use crate::plane::Instances;
use crate::store::{ConfigName, Settings as _};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use loco_http::Server;
use loco_model::api::{DiscoveryInfo, Instance, Severity};
use loco_model::recovery::{Attempt, Initiator, Outcome};
use loco_model::report::DeepHealth;
use loco_model::{FailureClass, InstanceId, InstanceState, Remedy};
use parking_lot::Mutex;
use ring::hmac;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

fn id(index: usize) -> InstanceId {
    InstanceId::try_new(index).expect("index")
}

fn instance(index: usize, state: InstanceState) -> Instance {
    let failure = if state == InstanceState::Failed { FailureClass::Qemu } else { FailureClass::None };
    Instance { state, failure, reason: Some("no QEMU".into()), ..Instance::new(id(index)) }
}

fn left_to_others() -> Attempt {
    crate::executor::yielded(attempt(Outcome::Running), "an attempt was made a moment ago").attempt
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        ended_at_ms: Some(2),
        reason: Some("frozen".into()),
        outcome,
        ..Attempt::begun("x", id(1), 1, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent)
    }
}

/// What a book makes of events, as (title, instance, ended).
fn told(events: &[Event]) -> Vec<(String, Option<usize>, bool)> {
    let mut book = Book::default();
    let mut told = Vec::new();
    for event in events {
        for change in of(event, &book.instances()) {
            let alerts = match change {
                Change::Begin(condition) => vec![book.begin(condition, 5)],
                Change::End { title, instance } => vec![book.end(&title, instance, 6)],
                Change::EndAll { instance } => {
                    let titles = book.titles_of(instance);
                    titles.iter().map(|title| book.end(title, Some(instance), 7)).collect()
                }
            };
            told.extend(
                alerts
                    .into_iter()
                    .flatten()
                    .map(|alert| (alert.title, alert.instance_id.map(InstanceId::index), alert.ended_at_ms.is_some())),
            );
        }
    }
    told
}

#[test]
fn each_situation_has_its_alert_once() {
    use InstanceState::{Connecting, Failed, Live, Recovering};
    let one = |index, state| Event::Instance { instance: Box::new(instance(index, state)) };
    let tried = |outcome| Event::Attempt { attempt: attempt(outcome) };
    let limited = |state, failure| {
        let instance = Instance { failure, attempts_left: Some(0), ..instance(1, state) };
        Event::Instance { instance: Box::new(instance) }
    };
    let stale = |since| Event::Discovery { info: DiscoveryInfo { stale_since_ms: since, ..DiscoveryInfo::default() } };
    let all = |states: &[(usize, InstanceState)]| Event::Instances {
        instances: states.iter().map(|(index, state)| instance(*index, *state)).collect(),
    };
    let by_hand = |outcome| Event::Attempt { attempt: Attempt { class: FailureClass::None, ..attempt(outcome) } };
    let table: [(&str, Vec<Event>, &str); 11] = [
        (
            "fails and is well again",
            vec![one(0, Failed), one(0, Failed), one(0, Live), one(0, Live)],
            "+failed@0 -failed@0",
        ),
        (
            "fails again before it is well",
            vec![one(0, Failed), one(0, Recovering), one(0, Connecting), one(0, Failed), one(0, Live)],
            "+failed@0 -failed@0",
        ),
        ("left to others", vec![Event::Attempt { attempt: left_to_others() }], ""),
        ("ordered of a well one, and failed", vec![by_hand(Outcome::Failed), by_hand(Outcome::InVain)], ""),
        ("repaired at once", vec![tried(Outcome::Running), tried(Outcome::Repaired)], ""),
        (
            "in vain, then repaired",
            vec![tried(Outcome::InVain), tried(Outcome::Failed), tried(Outcome::Repaired)],
            "+vain@1 -vain@1",
        ),
        ("refused, then well", vec![tried(Outcome::Refused), one(1, Recovering), one(1, Live)], "+limit@1 -limit@1"),
        (
            "no attempt is left",
            vec![limited(Recovering, FailureClass::Network), limited(Live, FailureClass::None)],
            "+limit@1 -limit@1",
        ),
        ("gone", vec![one(0, Failed), Event::Removed { id: id(0) }], "+failed@0 -failed@0"),
        ("gone unseen", vec![all(&[(0, Failed), (1, Live)]), all(&[(1, Live)])], "+failed@0 -failed@0"),
        ("stale", vec![stale(None), stale(Some(3)), stale(Some(3)), stale(None)], "+stale -stale"),
    ];
    for (what, events, want) in table {
        let short = |title: &str| match title {
            rules::INSTANCE_FAILED => "failed",
            rules::RECOVERY_IN_VAIN => "vain",
            rules::LIMIT_REACHED => "limit",
            rules::DISCOVERY_STALE => "stale",
            _ => "?",
        };
        let got: Vec<String> = told(&events)
            .into_iter()
            .map(|(title, about, ended)| {
                let about = about.map(|index| format!("@{index}")).unwrap_or_default();
                format!("{}{}{about}", if ended { '-' } else { '+' }, short(&title))
            })
            .collect();
        assert_eq!(got.join(" "), want, "{what}");
    }
}

#[test]
fn alerts_of_an_earlier_run_go_on() {
    let failed = Event::Instance { instance: Box::new(instance(0, InstanceState::Failed)) };
    let Some(Change::Begin(condition)) = of(&failed, &BTreeSet::new()).into_iter().next() else { panic!("no alert") };
    let mut first = Book::default();
    let begun = first.begin(condition.clone(), 10).expect("new");
    let aside = first.once(rules::moved_aside(std::path::Path::new("/x")), 11).expect("new");
    let mut second = Book::adopt(vec![aside, begun.clone()]);
    assert_eq!(second.begin(condition, 20), None, "known already");
    let ended = second.end(rules::INSTANCE_FAILED, Some(id(0)), 30).expect("open");
    assert_eq!((ended.id, ended.at_ms, ended.ended_at_ms), (begun.id, 10, Some(30)));
    assert_eq!(second.open().count(), 0);
}

#[test]
fn secrets_are_never_shown() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3cr3t\n").expect("write");
    let store = Store::in_memory();
    let url = "https://hooks.example/services/T0/very-secret";
    let hook = |url: &str| json!({"webhooks": [{"name": "ops", "url": url, "secretFile": secret}]});
    let exposed = {
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        store.set_config(ConfigName::Alerts, hook(url)).expect_err("exposed").to_string()
    };
    assert!(exposed.contains("0644") && !exposed.contains("s3cr3t"), "{exposed}");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    store.set_config(ConfigName::Alerts, hook(url)).expect("allowed");
    let shown = store.config(ConfigName::Alerts);
    assert_eq!(shown["webhooks"][0]["url"], "https://hooks.example/…");
    assert!(!shown.to_string().contains("secret\"") || !shown.to_string().contains("very-secret"));
    // What was shown may be sent back, with something else changed.
    let mut edited = shown;
    edited["webhooks"][0]["coolDownS"] = 7.into();
    store.set_config(ConfigName::Alerts, edited.clone()).expect("allowed");
    let stored = store.settings::<AlertsConfig>();
    assert_eq!((stored.webhooks[0].url.as_str(), stored.webhooks[0].cool_down_s), (url, 7));
    // A mask of nothing that is known is no URL.
    edited["webhooks"][0]["name"] = "other".into();
    let error = store.set_config(ConfigName::Alerts, edited).expect_err("masked").to_string();
    assert!(error.contains("give the whole URL"), "{error}");
    // A secret that is gone for a while does not make the webhook forgotten.
    std::fs::remove_file(&secret).expect("remove");
    assert!(stored.check().is_ok());
    assert_eq!(store.settings::<AlertsConfig>().webhooks.len(), 1);
}

/// All instances that there are; none of them says anything.
struct Fleet {
    there: Vec<InstanceId>,
    instances: watch::Receiver<Arc<Instances>>,
    discovery: DiscoveryInfo,
}

impl Fleet {
    /// One that is known from the start.
    fn of(there: &[usize]) -> Arc<Self> {
        let instances = watch::channel(Arc::new(Instances { listed: true, ..Instances::default() })).1;
        let there = there.iter().map(|index| id(*index)).collect();
        Arc::new(Self { there, instances, discovery: DiscoveryInfo::default() })
    }
}

impl Watched for Fleet {
    fn agents(&self) -> Vec<(InstanceId, Option<String>)> {
        self.there.iter().map(|id| (*id, None)).collect()
    }

    fn health(&self, _: InstanceId) -> Option<(u64, DeepHealth)> {
        None
    }

    fn discovery(&self) -> DiscoveryInfo {
        self.discovery.clone()
    }

    fn instances(&self) -> watch::Receiver<Arc<Instances>> {
        self.instances.clone()
    }
}

/// The next alert that is told.
async fn next_alert(heard: &mut (impl futures::Stream<Item = (u64, Event)> + Unpin)) -> Alert {
    let alert = async {
        loop {
            match heard.next().await {
                Some((_, Event::Alert { alert })) => return alert,
                Some(_) => {}
                None => panic!("no alert"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), alert).await.expect("an alert")
}

fn warning(title: &str, index: usize) -> Condition {
    Condition { severity: Severity::Warning, instance: Some(id(index)), title: title.to_owned(), detail: None }
}

/// Counters of nothing.
async fn metrics() -> Metrics {
    let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
    Metrics::new(server.connections())
}

/// What a server was sent.
#[derive(Clone, Default)]
struct Inbox {
    taken: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    refuse: Arc<Mutex<u32>>,
}

impl Inbox {
    async fn serve(&self, stop: &CancellationToken) -> String {
        let inbox = self.clone();
        let take = post(move |headers: HeaderMap, body: Bytes| async move {
            let mut refuse = inbox.refuse.lock();
            if *refuse > 0 {
                *refuse -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            inbox.taken.lock().push((headers, body));
            StatusCode::NO_CONTENT
        });
        let server = Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
        let url = format!("{}/hook/very-secret", server.url());
        tokio::spawn(server.serve(Router::new().route("/hook/very-secret", take), stop.clone()));
        url
    }

    async fn wait_for(&self, count: usize) -> Vec<(HeaderMap, Value)> {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while self.taken.lock().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("delivered");
        let taken = self.taken.lock();
        taken.iter().map(|(headers, body)| (headers.clone(), serde_json::from_slice(body).expect("JSON"))).collect()
    }
}

#[tokio::test]
async fn alerts_reach_events_store_and_a_real_server() {
    let stop = CancellationToken::new();
    let inbox = Inbox::default();
    // The first two tries are refused: it is tried again.
    *inbox.refuse.lock() = 2;
    let url = inbox.serve(&stop).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "s3cr3t\n").expect("write");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let store = Store::in_memory();
    // Left open by an earlier run: it is not wrong any more, and its end is told.
    let earlier = warning(rules::INSTANCE_FAILED, 7);
    store.put_alert(&Book::default().begin(earlier, 1).expect("new"));
    let hooks = json!({"webhooks": [
        {"name": "ops", "url": url, "secretFile": secret, "coolDownS": 300},
        {"name": "pager", "url": url, "minSeverity": "critical", "ends": false},
    ]});
    store.set_config(ConfigName::Alerts, hooks).expect("allowed");
    let events = EventLog::new(0, || vec![Event::Instances { instances: vec![instance(0, InstanceState::Failed)] }]);
    let mut heard = Box::pin(events.since(Some(0)));
    let (metrics, breakers) = (metrics().await, Breakers::new());
    let running = tokio::spawn(run_with(
        Fleet::of(&[0, 1]),
        events.clone(),
        store.clone(),
        metrics.clone(),
        breakers.clone(),
        stop.clone(),
    ));
    // In either order.
    let mut first = [next_alert(&mut heard).await, next_alert(&mut heard).await];
    first.sort_by_key(|alert| alert.instance_id);
    let [begun, ended] = first;
    assert_eq!((ended.instance_id, ended.ended_at_ms.is_some()), (Some(id(7)), true));
    assert_eq!((begun.title.as_str(), begun.instance_id), (rules::INSTANCE_FAILED, Some(id(0))));
    assert_eq!((begun.detail.as_deref(), begun.severity), (Some("no QEMU"), Severity::Critical));
    assert!(store.alerts(9).contains(&begun));
    inbox.wait_for(3).await;
    events.push(Event::Instance { instance: Box::new(instance(0, InstanceState::Live)) });
    let got = inbox.wait_for(4).await;
    // It fails again: within the cool-down nobody is told, while events and store are.
    events.push(Event::Instance { instance: Box::new(instance(0, InstanceState::Failed)) });
    // Another kind is told at once: what is told about it comes after what was not.
    events.push(Event::Attempt { attempt: attempt(Outcome::Refused) });
    let all = inbox.wait_for(6).await;
    assert_eq!(got.iter().filter(|(_, body)| body["event"] == "begin").count(), 2);
    assert_eq!(got.iter().filter(|(_, body)| body["event"] == "end").count(), 2, "only one wants ends");
    assert!(all[4..].iter().all(|(_, body)| body["alert"]["title"] == rules::LIMIT_REACHED), "{all:?}");
    assert_eq!(store.alerts(9).len(), 4);
    for (headers, body) in &all {
        assert_eq!(body["control"], store.control_id());
        let Some(signature) = headers.get(SIGNATURE_HEADER) else { continue };
        let timestamp = headers[TIMESTAMP_HEADER].to_str().expect("text");
        let sent = inbox.taken.lock().iter().find(|(other, _)| other.get(SIGNATURE_HEADER) == Some(signature)).cloned();
        let (_, bytes) = sent.expect("sent");
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cr3t");
        let signed = [timestamp.as_bytes(), b".", &bytes].concat();
        let hex: String = hmac::sign(&key, &signed).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signature.to_str().expect("text"), format!("sha256={hex}"));
    }
    assert_eq!(all.iter().filter(|(headers, _)| headers.contains_key(SIGNATURE_HEADER)).count(), 4);
    let successes = || breakers.all().iter().map(|breaker| breaker.counts().successes).sum::<u64>();
    let counted = tokio::time::timeout(Duration::from_secs(60), async {
        while successes() < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    counted.await.expect("each answer is counted");
    assert_eq!(breakers.all().iter().map(|breaker| breaker.counts().failures).sum::<u64>(), 2);
    stop.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn a_failing_check_is_an_alert_until_it_is_gone() {
    let stop = CancellationToken::new();
    let store = Store::in_memory();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address");
    let check = json!({"checks": [{"name": "door", "probe": {"kind": "tcp", "address": closed.to_string()},
        "intervalS": 1, "failures": 1}]});
    store.set_config(ConfigName::Checks, check).expect("allowed");
    let events = EventLog::new(0, Vec::new);
    let mut heard = Box::pin(events.since(Some(0)));
    let running = tokio::spawn(run_with(
        Fleet::of(&[]),
        events.clone(),
        store.clone(),
        metrics().await,
        Breakers::new(),
        stop.clone(),
    ));
    let Some((_, Event::Alert { alert })) = heard.next().await else { panic!("no alert") };
    assert_eq!((alert.title.as_str(), alert.ended_at_ms), ("Check failed: door", None));
    assert!(alert.detail.is_some_and(|detail| detail.contains("cannot connect")));
    store.set_config(ConfigName::Checks, json!({"checks": []})).expect("allowed");
    let Some((_, Event::Alert { alert })) = heard.next().await else { panic!("no end") };
    assert!(alert.title == "Check failed: door" && alert.ended_at_ms.is_some());
    stop.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn what_was_stale_before_is_told() {
    let stop = CancellationToken::new();
    let events = EventLog::new(0, || vec![Event::Instances { instances: Vec::new() }]);
    let mut heard = Box::pin(events.since(Some(0)));
    let instances = Fleet::of(&[]).instances();
    let last_error = Some("no such file".to_owned());
    let discovery = DiscoveryInfo { stale_since_ms: Some(1), last_error, ..DiscoveryInfo::default() };
    let fleet = Arc::new(Fleet { there: Vec::new(), instances, discovery });
    let desk = run_with(fleet, events.clone(), Store::in_memory(), metrics().await, Breakers::new(), stop.clone());
    let running = tokio::spawn(desk);
    let Some((_, Event::Alert { alert })) = heard.next().await else { panic!("no alert") };
    assert_eq!((alert.title.as_str(), alert.detail.as_deref()), (rules::DISCOVERY_STALE, Some("no such file")));
    stop.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn a_database_that_was_put_aside_is_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("control.db"), "rubbish").expect("write");
    let store = Store::open(dir.path()).expect("open");
    let stop = CancellationToken::new();
    let events = EventLog::new(0, Vec::new);
    let mut heard = Box::pin(events.since(Some(0)));
    let desk = run_with(Fleet::of(&[]), events.clone(), store.clone(), metrics().await, Breakers::new(), stop.clone());
    let running = tokio::spawn(desk);
    let Some((_, Event::Alert { alert })) = heard.next().await else { panic!("no alert") };
    assert_eq!((alert.title.as_str(), alert.severity), (rules::MOVED_ASIDE, Severity::Warning));
    assert!(alert.detail.is_some_and(|detail| detail.contains("control.db.corrupt-")));
    stop.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn alerts_of_an_earlier_run_last_until_it_is_known_that_they_do_not() {
    let stop = CancellationToken::new();
    let store = Store::in_memory();
    let mut book = Book::default();
    for index in [0, 7] {
        store.put_alert(&book.begin(warning(rules::INSTANCE_FAILED, index), 1).expect("new"));
    }
    // A check of a fixed target was one of every instance.
    store.put_alert(&book.begin(warning("Check failed: door", 0), 1).expect("new"));
    let check = json!({"checks": [{"name": "door", "probe": {"kind": "tcp", "address": "127.0.0.1:9"},
        "intervalS": 3600, "failures": 9}]});
    store.set_config(ConfigName::Checks, check).expect("allowed");
    let (listed, instances) = watch::channel(Arc::default());
    let fleet = Arc::new(Fleet { there: vec![id(0), id(2)], instances, discovery: DiscoveryInfo::default() });
    let events = EventLog::new(0, || vec![Event::Instances { instances: vec![instance(2, InstanceState::Failed)] }]);
    let mut heard = Box::pin(events.since(Some(0)));
    let desk = run_with(fleet, events.clone(), store, metrics().await, Breakers::new(), stop.clone());
    let running = tokio::spawn(desk);
    let ended = next_alert(&mut heard).await;
    assert_eq!((ended.title.as_str(), ended.ended_at_ms.is_some()), ("Check failed: door", true));
    assert_eq!(next_alert(&mut heard).await.instance_id, Some(id(2)), "it listens");
    events.push(Event::Instance { instance: Box::new(instance(0, InstanceState::Connecting)) });
    // Heard, since what came after it was.
    events.push(Event::Instance { instance: Box::new(instance(1, InstanceState::Failed)) });
    let begun = next_alert(&mut heard).await;
    assert_eq!((begun.instance_id, begun.ended_at_ms), (Some(id(1)), None));
    events.push(Event::Removed { id: id(1) });
    assert_eq!(next_alert(&mut heard).await.instance_id, Some(id(1)));
    listed.send_modify(|known| Arc::<Instances>::make_mut(known).listed = true);
    let ended = next_alert(&mut heard).await;
    assert_eq!((ended.instance_id, ended.ended_at_ms.is_some()), (Some(id(7)), true), "it is gone");
    events.push(Event::Instance { instance: Box::new(instance(0, InstanceState::Live)) });
    assert_eq!(next_alert(&mut heard).await.instance_id, Some(id(0)));
    stop.cancel();
    running.await.expect("ended");
}

#[tokio::test]
async fn what_an_attempt_tells_is_not_told_twice() {
    let stop = CancellationToken::new();
    let store = Store::in_memory();
    let events = EventLog::new(0, || vec![Event::Instances { instances: vec![instance(0, InstanceState::Failed)] }]);
    let mut heard = Box::pin(events.since(Some(0)));
    let desk =
        run_with(Fleet::of(&[0, 1]), events.clone(), store.clone(), metrics().await, Breakers::new(), stop.clone());
    let running = tokio::spawn(desk);
    assert_eq!(next_alert(&mut heard).await.instance_id, Some(id(0)), "it listens");
    events.push(Event::Attempt { attempt: attempt(Outcome::InVain) });
    events.push(Event::Instance { instance: Box::new(instance(1, InstanceState::Failed)) });
    assert_eq!(next_alert(&mut heard).await.title, rules::INSTANCE_FAILED);
    let kept: Vec<String> = store.alerts(2).into_iter().map(|alert| alert.title).collect();
    assert_eq!(kept, [rules::INSTANCE_FAILED, rules::RECOVERY_IN_VAIN], "it is an alert all the same");
    stop.cancel();
    running.await.expect("ended");
}
