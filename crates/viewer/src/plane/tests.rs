use super::*;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use loco_http::{Token, TokenFile};
use loco_model::agent::Snapshot;
use loco_model::problem::{CONTENT_TYPE, Problem};
use loco_model::usage::QualityLevel;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

const PATIENCE: Duration = Duration::from_secs(30);

type Heard = mpsc::UnboundedSender<(String, Value)>;

/// What a stand-in control plane does.
#[derive(Clone)]
struct Stand {
    heard: Heard,
    /// The viewer that it knows; claims of others are refused with 404.
    known: Arc<Mutex<Option<String>>>,
    holder: Option<&'static str>,
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::to_vec(&Problem::new(status.as_u16(), "t", detail)).expect("JSON");
    (status, [("content-type", CONTENT_TYPE)], body).into_response()
}

async fn report(State(stand): State<Stand>, Path(viewer): Path<String>, Json(body): Json<Value>) -> Response {
    *stand.known.lock().expect("lock") = Some(viewer);
    stand.heard.send(("report".into(), body)).expect("heard");
    StatusCode::NO_CONTENT.into_response()
}

async fn gone(State(stand): State<Stand>, Path(viewer): Path<String>) -> StatusCode {
    stand.heard.send(("gone".into(), json!(viewer))).expect("heard");
    StatusCode::NO_CONTENT
}

async fn input(State(stand): State<Stand>, Path(id): Path<String>, Json(body): Json<Value>) -> Response {
    let known = stand.known.lock().expect("lock").clone();
    if known.as_deref() != body["viewer"].as_str() {
        return problem(StatusCode::NOT_FOUND, "unknown viewer: it must tell of itself first");
    }
    let action = body["action"].as_str().unwrap_or_default().to_owned();
    stand.heard.send((format!("{action} {id}"), body)).expect("heard");
    match stand.holder {
        Some(name) if action == "ask" => problem(StatusCode::CONFLICT, &format!("{name} holds it")),
        _ => Json(json!({ "viewer": known, "name": "me" })).into_response(),
    }
}

async fn active(State(stand): State<Stand>, Json(body): Json<Value>) -> Response {
    stand.heard.send(("active".into(), body)).expect("heard");
    StatusCode::NO_CONTENT.into_response()
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// A stand-in that knows viewers; its address and what it hears.
async fn stand(holder: Option<&'static str>) -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let (heard, hears) = mpsc::unbounded_channel();
    let router = Router::new()
        .route("/api/viewers/{viewer}", put(report).delete(gone))
        .route("/api/instances/{id}/input", post(input))
        .route("/api/instances/{id}/pause", post(|| async { StatusCode::NO_CONTENT }))
        .route("/api/instances/{id}/snapshots", get(snapshots))
        .route("/api/active", post(active))
        .route("/api/evidence/{id}/{attempt}/{file}", get(|| async { "seen" }))
        .with_state(Stand { heard, known: Arc::default(), holder });
    (serve(router).await, hears)
}

struct Bench {
    plane: Plane,
    answers: mpsc::UnboundedReceiver<Answer>,
    _folder: tempfile::TempDir,
}

fn plane(api: String) -> Bench {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("token");
    Token::create_file(&path).expect("token");
    let client = Client::new(TokenFile::open(&path).expect("token")).expect("client");
    let (sender, answers) = mpsc::unbounded_channel();
    let post: Post = Arc::new(move |event| {
        if let Event::Answer(answer) = event {
            sender.send(answer).expect("a reader");
        }
    });
    let me = identity(Some("Ada"));
    let plane = Plane::open(&tokio::runtime::Handle::current(), client, api, me, post);
    Bench { plane, answers, _folder: folder }
}

fn id(n: usize) -> InstanceId {
    InstanceId::try_new(n).expect("index")
}

fn seen(quality: QualityLevel, fps: f64) -> ViewerReport {
    let session =
        SessionReport { quality: Some(quality), fps_decoded: Some(fps), ..SessionReport::new(id(0), "connected") };
    ViewerReport { name: "Ada".into(), focus: Some(id(0)), follows: false, sessions: vec![session] }
}

async fn next<T>(from: &mut mpsc::UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, from.recv()).await.expect("in time").expect("open")
}

async fn snapshots() -> Json<Vec<Snapshot>> {
    Json(["desk", "start"].map(|name| Snapshot { name: name.to_owned(), saved_at_ms: 1, bytes: 2 }).to_vec())
}

#[tokio::test]
async fn it_tells_changes_at_once_numbers_in_time_and_says_goodbye() {
    let (api, mut hears) = stand(None).await;
    let bench = plane(api);
    bench.plane.report(seen(QualityLevel::Excellent, 30.0));
    let (what, body) = next(&mut hears).await;
    assert_eq!((what.as_str(), &body["name"], &body["focus"]), ("report", &json!("Ada"), &json!("instance-0")));
    // Numbers alone wait for the next report in time; a level does not.
    bench.plane.report(seen(QualityLevel::Excellent, 29.0));
    bench.plane.report(seen(QualityLevel::Poor, 9.0));
    let (_, body) = next(&mut hears).await;
    assert_eq!(body["sessions"][0]["quality"], "poor");
    // Nothing is new, and it is told all the same.
    assert_eq!(next(&mut hears).await.1, body);
    bench.plane.goodbye().await;
    let (what, viewer) = next(&mut hears).await;
    assert_eq!((what.as_str(), viewer), ("gone", json!(bench.plane.me().viewer)));
}

#[tokio::test]
async fn claims_are_carried_in_order_also_before_the_first_report_was_heard() {
    let (api, mut hears) = stand(None).await;
    let mut bench = plane(api);
    bench.plane.report(seen(QualityLevel::Excellent, 30.0));
    bench.plane.claim(id(2), ClaimAction::Ask);
    bench.plane.set_active(vec![id(2), id(0)]);
    bench.plane.claim(id(2), ClaimAction::Release);
    let mut order = Vec::new();
    while order.len() < 3 {
        let (what, body) = next(&mut hears).await;
        if what != "report" {
            order.push((what, body["ids"].clone()));
        }
    }
    let want = [
        ("ask instance-2".to_owned(), Value::Null),
        ("active".to_owned(), json!(["instance-2", "instance-0"])),
        ("release instance-2".to_owned(), Value::Null),
    ];
    assert_eq!(order, want);
    assert!(matches!(next(&mut bench.answers).await, Answer::Claim { action: ClaimAction::Ask, result: Ok(()), .. }));
}

#[tokio::test]
async fn a_holder_is_a_refusal_and_an_old_or_absent_control_plane_is_not() {
    let (api, _hears) = stand(Some("Ada")).await;
    let mut held = plane(api);
    held.plane.report(seen(QualityLevel::Good, 1.0));
    held.plane.claim(id(1), ClaimAction::Ask);
    let Answer::Claim { result: Err(Denial::Held(why)), .. } = next(&mut held.answers).await else {
        panic!("not refused")
    };
    assert_eq!(why, "Ada holds it");

    let mut old = plane(serve(Router::new()).await);
    old.plane.report(seen(QualityLevel::Good, 1.0));
    old.plane.claim(id(1), ClaimAction::Ask);
    let answer = next(&mut old.answers).await;
    assert!(matches!(answer, Answer::Claim { result: Err(Denial::Unknown), .. }), "{answer:?}");

    let mut absent = plane("http://127.0.0.1:1".into());
    absent.plane.claim(id(1), ClaimAction::Ask);
    let answer = next(&mut absent.answers).await;
    assert!(matches!(answer, Answer::Claim { result: Err(Denial::Failed(_)), .. }), "{answer:?}");
    absent.plane.goodbye().await;
}

#[tokio::test]
async fn orders_are_answered_with_what_came_of_them() {
    let (api, _hears) = stand(None).await;
    let mut bench = plane(api);
    bench.plane.order(id(3), TileOrder::Pause);
    let answer = next(&mut bench.answers).await;
    assert!(matches!(answer, Answer::Done { order: TileOrder::Pause, result: Ok(Gain::Done), .. }), "{answer:?}");
    bench.plane.order(id(3), TileOrder::Snapshots);
    let Answer::Done { result: Ok(Gain::Names(names)), .. } = next(&mut bench.answers).await else {
        panic!("no names")
    };
    assert_eq!(names, ["desk", "start"]);
    bench.plane.order(id(3), TileOrder::Resume);
    let Answer::Done { result: Err(why), .. } = next(&mut bench.answers).await else { panic!("there is no such path") };
    assert!(why.contains("404"), "{why}");
}

#[tokio::test]
async fn a_folder_that_takes_no_evidence_is_not_the_control_planes_fault() {
    let (api, _hears) = stand(None).await;
    let mut bench = plane(api);
    let kept = tempfile::tempdir().expect("folder");
    let mut saved = async |attempt: &str, folder: &std::path::Path| {
        bench.plane.order(id(3), TileOrder::Evidence { attempt: attempt.to_owned(), folder: folder.to_owned() });
        let Answer::Done { result, .. } = next(&mut bench.answers).await else { panic!("another answer") };
        result
    };
    let files = EVIDENCE.map(|file| kept.path().join(format!("instance-3-a-1-{file}")));
    assert_eq!(saved("a-1", kept.path()).await, Ok(Gain::Files(files.to_vec())));
    for (attempt, folder, part) in [("a-1", "/nonexistent", "/nonexistent/instance-3-a-1"), ("../a", "/tmp", "../a")] {
        let why = saved(attempt, folder.as_ref()).await.expect_err("nothing was saved");
        assert!(why.contains(part) && !why.contains("control plane"), "{why}");
    }
}
