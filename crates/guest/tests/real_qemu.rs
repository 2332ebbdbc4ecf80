//! Guests in a real QEMU, translated (`tcg`), with the demo guest's kernel.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod common;

use common::{PATIENCE, Screen, config, start};
use loco_demo_guest::barcode;
use loco_guest::{
    Accelerator, AcceleratorChoice, Guest, GuestConfig, GuestError, GuestState, GuestStatus, InputError, NoSink,
    Profile, Target,
};
use loco_model::Key;
use loco_model::input::Button;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::path::Path;
use std::time::Duration;

fn demo(mode: &str) -> Profile {
    let mut profile = Profile::builtin("demo").unwrap();
    profile.set_kernel_argument("mode", mode);
    profile
}

fn key(code: &str) -> Key {
    code.parse().unwrap()
}

/// What the guest says of itself in its picture.
fn reading(picture: &common::Picture) -> Option<barcode::Reading> {
    let (width, height) = (picture.size.width, picture.size.height);
    if width == 0 {
        return None;
    }
    // Grey enough: the strip is black and white.
    barcode::decode(width, height, |x, y| picture.pixels[((y * width + x) * 4 + 1) as usize])
}

async fn booted(screen: &Screen) -> barcode::Reading {
    let picture = screen.wait("the guest's barcode", |p| reading(p).is_some()).await;
    reading(&picture).unwrap()
}

fn pid(status: &GuestStatus) -> Pid {
    Pid::from_raw(status.pid.unwrap().try_into().unwrap()).unwrap()
}

async fn running(guest: &Guest) -> GuestStatus {
    tokio::time::timeout(PATIENCE, guest.wait_for(|s| s.state == GuestState::Running)).await.unwrap().unwrap()
}

#[tokio::test]
async fn boots_and_answers_keys_then_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut profile = demo("quiet");
    profile.set_kernel_argument("pointer", "absolute");
    let (guest, screen, _) = start(config(profile, 0, dir.path())).await;
    let status = running(&guest).await;
    assert_eq!(status.restarts, 0);
    assert!(status.accelerator.as_ref().is_some_and(|a| a.reason == "chosen by its user"));
    assert_eq!(booted(&screen).await.instance, 0);

    let before = reading(&screen.picture()).unwrap();
    guest.input().key(key("ArrowUp"), true).unwrap();
    let seen = |p: &common::Picture| reading(p).is_some_and(|r| r.input_count > before.input_count);
    let picture = screen.wait("the key's echo", seen).await;
    assert_eq!(reading(&picture).unwrap().input_code, u16::from(key("ArrowUp").qnum()));
    guest.input().release_all().unwrap();
    assert!(guest.kick_stats().trains > 0 && guest.kick_stats().kicks > 0);
    guest.refresh().await.unwrap();

    let tablet = guest.wait_for(|s| s.pointer_absolute == Some(true));
    tokio::time::timeout(PATIENCE, tablet).await.expect("the guest takes absolute positions").unwrap();
    assert_eq!(screen.picture().absolute, Some(true));
    guest.input().absolute(u16::MAX / 4 * 3, u16::MAX / 4).unwrap();
    let there =
        |p: &common::Picture| reading(p).is_some_and(|r| r.cursor_x.abs_diff(768) < 8 && r.cursor_y.abs_diff(256) < 8);
    screen.wait("the cursor at three quarters, one quarter", there).await;

    let shot = guest.screenshot().await.unwrap();
    assert_eq!(shot.size, picture.size);
    let luma = |x, y| shot.pixels[((y * shot.size.width + x) * 3 + 1) as usize];
    assert_eq!(barcode::decode(shot.size.width, shot.size.height, luma).map(|r| r.instance), Some(0));
    let log = std::fs::read_to_string(guest.guest_log()).unwrap();
    assert!(log.contains("loco: boot"), "{log}");

    let pid = pid(&status);
    let run_dir = guest.run_dir().to_owned();
    assert!(run_dir.is_dir());
    guest.stop(PATIENCE).await;
    assert!(test_kill_process(pid).is_err(), "QEMU is gone");
    until("its sockets are gone", || !run_dir.exists()).await;
    assert!(screen.picture().disabled > 0);
}

#[tokio::test]
async fn a_mouse_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, _) = start(config(demo("quiet"), 1, dir.path())).await;
    let before = booted(&screen).await;
    assert_eq!(guest.state().borrow().pointer_absolute, Some(false));
    guest.input().relative(64, -48).unwrap();
    let moved = |p: &common::Picture| {
        reading(p).is_some_and(|r| r.cursor_x > before.cursor_x + 50 && r.cursor_y + 50 < before.cursor_y)
    };
    screen.wait("the cursor further right and up", moved).await;
    guest.input().button(Button::Left, true).unwrap();
    screen.wait("the button held", |p| reading(p).is_some_and(|r| r.held == 1)).await;
    guest.input().release_all().unwrap();
    screen.wait("the button let go", |p| reading(p).is_some_and(|r| r.held == 0)).await;
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_killed_qemu_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, _) = start(config(demo("town"), 1, dir.path())).await;
    let mut ends = guest.ends().expect("the first reader");
    assert!(guest.ends().is_none(), "there is one reader");
    let first = running(&guest).await;
    booted(&screen).await;
    screen.wait("a counter of 30", |p| reading(p).is_some_and(|r| r.counter >= 30)).await;
    guest.input().key(key("KeyA"), true).unwrap();
    kill_process(pid(&first), Signal::KILL).unwrap();
    let again = guest.wait_for(|s| s.state == GuestState::Running && s.pid != first.pid && s.pid.is_some());
    let again = tokio::time::timeout(PATIENCE, again).await.unwrap().unwrap();
    assert_eq!(again.restarts, 1);
    assert!(again.started_at > first.started_at);
    assert!(again.reason.as_deref().is_some_and(|r| r.contains("signal 9")), "{again:?}");
    screen.wait("a fresh counter", |p| reading(p).is_some_and(|r| r.counter < 30)).await;
    let end = tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap().unwrap();
    assert!(end.reason.contains("signal 9") && end.log.contains("loco: boot"), "{end:?}");
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_snapshot_brings_everything_back() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, _) = start(config(demo("town"), 2, dir.path())).await;
    running(&guest).await;
    booted(&screen).await;
    let missing = guest.load_snapshot("none").await.expect_err("no such snapshot").to_string();
    assert!(missing.contains("none"), "{missing}");
    guest.snapshot("desk").await.unwrap();
    guest.snapshot("desk").await.unwrap();
    let saved = reading(&screen.picture()).unwrap().counter;
    let later = screen.wait("some frames", |p| reading(p).is_some_and(|r| r.counter > saved + 45)).await;
    let later = reading(&later).unwrap().counter;
    guest.load_snapshot("desk").await.unwrap();
    screen.wait("the older counter", |p| reading(p).is_some_and(|r| r.counter < later)).await;
    assert!(matches!(guest.snapshot("a b").await, Err(GuestError::SnapshotName(_))));
    guest.snapshot("other").await.unwrap();
    let names = |all: Vec<loco_guest::Snapshot>| all.into_iter().map(|s| s.name).collect::<Vec<_>>();
    let all = guest.snapshots().await.unwrap();
    assert!(all.iter().all(|s| s.bytes > 1 << 20 && s.saved_at_s > 1_700_000_000), "{all:?}");
    assert_eq!(names(all), ["desk", "other"]);
    guest.delete_snapshot("other").await.unwrap();
    assert_eq!(names(guest.snapshots().await.unwrap()), ["desk"]);
    guest.stop(PATIENCE).await;

    // And a new guest starts from it.
    let from = GuestConfig { start_from: Some("desk".to_owned()), ..config(demo("town"), 2, dir.path()) };
    let (guest, screen, _) = start(from).await;
    running(&guest).await;
    let first = booted(&screen).await;
    assert!(first.counter + 60 > saved, "it went on at {} where {saved} had been saved", first.counter);
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn pauses_resumes_restarts_and_powers_down() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, _) = start(config(demo("town"), 3, dir.path())).await;
    let first = running(&guest).await;
    booted(&screen).await;
    guest.set_target(Target::Paused);
    guest.wait_for(|s| s.state == GuestState::Paused).await.unwrap();
    screen.settled(Duration::from_millis(300)).await;
    let still = reading(&guest_picture(&guest).await).unwrap().counter;
    guest.set_target(Target::Running);
    screen.wait("it goes on", |p| reading(p).is_some_and(|r| r.counter > still)).await;
    guest.restart().await.unwrap();
    let second = running(&guest).await;
    assert!(second.pid != first.pid && second.restarts == 0, "asked for, so not counted");
    guest.power_down(PATIENCE).await.unwrap();
    let off = guest.state().borrow().clone();
    assert_eq!((off.state, off.pid, off.target), (GuestState::Stopped, None, Target::Stopped));
    assert_eq!(guest.input().key(key("KeyA"), true), Err(InputError::NotRunning));
    assert!(matches!(guest.screenshot().await, Err(GuestError::NotRunning { .. })));
    guest.set_target(Target::Running);
    running(&guest).await;
    booted(&screen).await;
    guest.stop(PATIENCE).await;
}

async fn guest_picture(guest: &Guest) -> common::Picture {
    let shot = guest.screenshot().await.unwrap();
    let pixels = shot.pixels.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0], 0]).collect();
    common::Picture { size: shot.size, pixels, ..common::Picture::default() }
}

#[tokio::test]
async fn two_guests_do_not_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (a, screen_a, _) = start(config(demo("quiet"), 4, &dir.path().join("a"))).await;
    let (b, screen_b, _) = start(config(demo("quiet"), 5, &dir.path().join("b"))).await;
    assert_eq!((booted(&screen_a).await.instance, booted(&screen_b).await.instance), (4, 5));
    let before = reading(&screen_a.picture()).unwrap().input_count;
    b.input().key(key("KeyA"), true).unwrap();
    screen_b.wait("the key's echo", |p| reading(p).is_some_and(|r| r.input_count > 0)).await;
    assert_eq!(reading(&screen_a.picture()).unwrap().input_count, before);

    let taken = config(demo("quiet"), 6, &dir.path().join("a"));
    let error = Guest::start(taken, Box::new(NoSink), Box::new(NoSink)).await.expect_err("taken").to_string();
    assert!(error.contains("in use"), "{error}");
    a.stop(PATIENCE).await;
    running(&b).await;
    b.stop(PATIENCE).await;
}

async fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let seen = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !wanted() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn the_whistle_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, ear) = start(config(demo("quiet"), 7, dir.path())).await;
    booted(&screen).await;
    guest.input().key(key("Space"), true).unwrap();
    until("a whistle", || ear.0.lock().unwrap().samples.iter().any(|s| s.unsigned_abs() > 1000)).await;
    guest.stop(PATIENCE).await;
    let closed = || ear.0.lock().unwrap().open.is_empty() && ear.0.lock().unwrap().closed > 0;
    until("its voice is closed", closed).await;
}

#[tokio::test]
async fn a_guest_that_cannot_start_fails_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    // The machine has no such processor: QEMU says so and ends.
    let json = r#"{"name":"bad","hardware":{"cpu":"no-such-cpu"},"kernel":{"image":"builtin:demo"}}"#;
    let profile = Profile::parse(json, "bad", Path::new("/")).unwrap();
    let (guest, ..) = start(config(profile, 8, dir.path())).await;
    let failed = guest.wait_for(|s| s.state == GuestState::Failed);
    let failed = tokio::time::timeout(PATIENCE, failed).await.unwrap().unwrap();
    assert!(failed.reason.as_deref().is_some_and(|r| r.contains("no-such-cpu")), "{failed:?}");
    assert!(failed.restarts >= 4);
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn memtest_runs_by_a_profile_file() {
    let kernel = Path::new("/boot/memtest86+x64.bin");
    assert!(kernel.is_file(), "package memtest86+ is not installed");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("memtest.json");
    let text = r#"{"name":"memtest86+","hardware":{"memory_mib":32},"kernel":{"image":"/boot/memtest86+x64.bin"}}"#;
    std::fs::write(&file, text).unwrap();
    let (guest, screen, _) = start(config(Profile::load(&file).unwrap(), 6, &dir.path().join("state"))).await;
    // Its text screen is blue all over.
    let blue = |p: &common::Picture| {
        let all = p.pixels.len() / 4;
        let blue = p.pixels.chunks_exact(4).filter(|p| p[0] > 120 && p[1] < 60 && p[2] < 60).count();
        all > 0 && blue * 2 > all
    };
    screen.wait("memtest86+'s blue", blue).await;
    println!("QEMU {:?}: {:?}", running(&guest).await.qemu_version, guest.display_stats());
    // What came is what QEMU shows: but for numbers that run, pixel for pixel.
    let (shot, picture) = (guest.screenshot().await.unwrap(), screen.picture());
    assert_eq!(shot.size, picture.size);
    let same = |(a, b): &(&[u8], &[u8])| a[..] == [b[2], b[1], b[0]];
    let equal = shot.pixels.chunks_exact(3).zip(picture.pixels.chunks_exact(4)).filter(same).count();
    assert!(equal as u64 * 100 > shot.size.area() * 98, "{equal} of {} pixels", shot.size.area());
    if let Some(path) = std::env::var_os("LOCO_TEST_SHOTS") {
        let out = std::fs::File::create(Path::new(&path).join("memtest.png")).unwrap();
        guest.screenshot().await.unwrap().write_png(out).unwrap();
    }
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn an_accelerator_is_taken_only_when_it_was_seen_to_work() {
    let dir = tempfile::tempdir().unwrap();
    let auto = GuestConfig { accelerator: AcceleratorChoice::Auto, ..config(demo("quiet"), 0, dir.path()) };
    let (guest, ..) = start(auto).await;
    let status = running(&guest).await;
    let verdict = status.accelerator.unwrap();
    println!("{verdict:?}");
    match verdict.accelerator {
        Accelerator::Tcg => assert!(verdict.reason.contains("kvm") || !cfg!(target_os = "linux"), "{verdict:?}"),
        _ => assert!(verdict.reason.contains("booted"), "{verdict:?}"),
    }
    guest.stop(PATIENCE).await;
    let whpx = AcceleratorChoice::Only(Accelerator::Whpx);
    let wrong = GuestConfig { accelerator: whpx, ..config(demo("quiet"), 0, dir.path()) };
    let error = Guest::start(wrong, Box::new(NoSink), Box::new(NoSink)).await.expect_err("not on this system");
    assert!(error.to_string().contains("whpx") && error.to_string().contains("allowed are"), "{error}");
}
