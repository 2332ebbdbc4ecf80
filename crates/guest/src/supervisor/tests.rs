use super::*;
use crate::Accelerator;
use crate::facts::QemuFacts;
use crate::logs::{self, Log, LogSource};
use crate::profile::Profile;
use crate::sink::NoSink;
use loco_model::InstanceId;
use loco_process::{RunDir, Spawner};
use serde_json::json;
use std::path::Path;

/// A supervisor whose guest runs; of its QEMU there is nothing but what the test says in its place.
fn running(folder: &Path) -> (Supervisor, watch::Receiver<GuestStatus>) {
    let log = |name: &str, source| Log::new(folder.join(name), source, logs::followers());
    let plan = Plan {
        profile: Profile::builtin("demo").expect("profile"),
        instance: InstanceId::try_new(0).expect("instance"),
        program: "qemu".into(),
        facts: QemuFacts { version: (7, 2, 22), has_dbus_display: true },
        paths: crate::Paths::default(),
        run_dir: RunDir::create_in(folder, "test").expect("folder"),
        spawner: Spawner::shared().expect("spawner"),
        qemu_log: log("qemu.log", LogSource::Qemu),
        guest_log: log("guest.log", LogSource::Guest),
    };
    let verdict = Verdict { accelerator: Accelerator::Tcg, reason: "a test".to_owned() };
    let shared = Arc::new(Shared::new(Box::new(NoSink), Box::new(NoSink)));
    let (ends, _) = mpsc::unbounded_channel();
    let (mut supervisor, status, _) =
        Supervisor::new(Arc::new(plan), shared, GuestInput::default(), verdict, None, ends);
    supervisor.lifecycle.target = Target::Running;
    supervisor.lifecycle.phase = Phase::Running;
    supervisor.publish();
    (supervisor, status)
}

fn event(name: &str, data: &serde_json::Value) -> Result<qmp::Event, broadcast::error::RecvError> {
    let event = json!({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 2}});
    Ok(serde_json::from_value(event).expect("an event"))
}

/// The guest writes, and QEMU stops it for that.
async fn write_fails(supervisor: &mut Supervisor) {
    let error = json!({"device": "", "node-name": "disk0", "nospace": true, "action": "stop", "operation": "write",
        "reason": "No space left on device"});
    supervisor.qmp_event(event("BLOCK_IO_ERROR", &error)).await;
    supervisor.qmp_event(event("STOP", &json!({}))).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_fails_again_at_once_was_held_all_the_time() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut supervisor, mut status) = running(dir.path());
    let (_orders, mut orders) = mpsc::unbounded_channel();
    let mut pointer = supervisor.shared.absolute.subscribe();
    write_fails(&mut supervisor).await;
    let held = status.borrow_and_update().clone();
    let reason = "the guest's disk disk0 cannot be written or read: no space is left";
    assert_eq!((held.state, held.is_held, held.reason.as_deref()), (GuestState::Paused, true, Some(reason)));
    for _ in 0..3 {
        assert!(matches!(supervisor.next(&mut orders, &mut pointer).await, Woken::Retry));
        supervisor.retry_at = None;
        supervisor.take(Event::RetryDue).await;
        supervisor.qmp_event(event("RESUME", &json!({}))).await;
        write_fails(&mut supervisor).await;
        assert!(!status.has_changed().expect("it lives"), "{:?}", status.borrow());
    }

    // Then there is room.
    supervisor.qmp_event(event("RESUME", &json!({}))).await;
    assert!(status.borrow().is_held, "nobody knows yet");
    assert!(matches!(supervisor.next(&mut orders, &mut pointer).await, Woken::Settled));
    supervisor.let_go();
    let over = status.borrow().clone();
    assert_eq!((over.state, over.is_held, over.reason), (GuestState::Running, false, None));
}

#[test]
fn what_is_wrong_with_a_disk_is_said_once() {
    let said = |no_space, detail| hold::complaint("d", no_space, detail);
    assert!(said(true, "No space left on device").ends_with("read: no space is left"));
    assert!(said(false, "Input/output error").ends_with("read: Input/output error"));
    assert!(said(false, "").ends_with("read: input/output error"));
}

#[test]
fn a_qemu_that_quits_has_what_is_left_of_the_time() {
    let begun = Instant::now();
    let left = |after| (order::end_by(begun, begun + Duration::from_millis(after)) - begun).as_millis();
    assert_eq!([0, 5_000, 8_000, 8_500, 30_000].map(left), [9_000, 9_000, 9_000, 9_500, 31_000]);
}
