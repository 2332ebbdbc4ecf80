//! Frozen guests are found, idle ones left alone, and what is done about it is really done. With a real QEMU.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod common;

use common::{PATIENCE, config, start};
use loco_guest::{Guest, GuestConfig, GuestError, GuestState, Profile};
use loco_model::Key;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Found by then, with room for a machine that is five times slower; the benchmark holds it to 3 s.
const FOUND_WITHIN: Duration = Duration::from_secs(15);

/// A PC whose disk holds nothing but these instructions.
fn profile(dir: &Path, code: &[u8]) -> Profile {
    let mut sector = vec![0; 512];
    sector[..code.len()].copy_from_slice(code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(dir.join("boot.img"), sector).unwrap();
    let text = r#"{"name":"boot","hardware":{"memory_mib":16,"power_down":"quit"},
        "disks":[{"kind":"disk","file":"boot.img"}]}"#;
    Profile::parse(text, "boot", dir).unwrap()
}

fn demo(mode: &str) -> Profile {
    let mut profile = Profile::builtin("demo").unwrap();
    profile.set_kernel_argument("mode", mode);
    profile
}

async fn frozen(guest: &Guest, wanted: Option<bool>) -> Option<String> {
    let mut liveness = guest.liveness();
    let seen = liveness.wait_for(|liveness| liveness.frozen == wanted);
    let found = tokio::time::timeout(FOUND_WITHIN, seen).await;
    found.unwrap_or_else(|_| panic!("never {wanted:?}")).unwrap().reason.clone()
}

async fn pid(guest: &Guest) -> u32 {
    let running = guest.wait_for(|s| s.state == GuestState::Running && s.pid.is_some());
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().pid.unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_stopped_qemu_is_found_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, _) = start(config(demo("town"), 0, dir.path())).await;
    let qemu = pid(&guest).await;
    screen.wait("a picture", |p| p.changes > 10).await;
    frozen(&guest, Some(false)).await;
    let begun = Instant::now();
    signal(qemu, Signal::STOP);
    let reason = frozen(&guest, Some(true)).await.unwrap();
    println!("found after {:?}: {reason}", begun.elapsed());
    assert!(reason.contains("SIGSTOP"), "{reason}");
    signal(qemu, Signal::CONT);
    frozen(&guest, Some(false)).await;

    signal(qemu, Signal::STOP);
    frozen(&guest, Some(true)).await;
    let before = screen.picture().changes;
    tokio::time::timeout(PATIENCE, guest.restart()).await.expect("in time").unwrap();
    assert_ne!(pid(&guest).await, qemu, "a stopped QEMU is restarted too");
    screen.wait("it moves again", |p| p.changes > before + 10).await;
    frozen(&guest, Some(false)).await;
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_qemu_that_is_stopped_before_it_comes_up_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    // The first that is to run a guest stops itself.
    let program = dir.path().join("qemu");
    let script = r#"#!/bin/sh
case "$*" in *-nodefaults*) mkdir "${0%/*}/stopped" 2>/dev/null && kill -STOP $$ ;; esac
exec qemu-system-x86_64 "$@"
"#;
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = GuestConfig { qemu: Some(program), ..config(demo("quiet"), 3, &dir.path().join("state")) };
    let begun = Instant::now();
    let (guest, ..) = start(config).await;
    let first = guest.wait_for(|s| s.pid.is_some()).await.unwrap().pid;
    assert_ne!(Some(pid(&guest).await), first);
    let status = guest.state().borrow().clone();
    println!("after {:?}: {status:?}", begun.elapsed());
    assert_eq!(status.restarts, 1);
    assert!(status.reason.is_some_and(|reason| reason.contains("SIGSTOP")));
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn processors_that_hang_are_found() {
    // cli; hlt; jmp -2
    let halted: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
    // cli; jmp .
    let spinning: &[u8] = &[0xfa, 0xeb, 0xfe];
    for (code, says) in [(halted, "halted with interrupts off"), (spinning, "turns in one place")] {
        let dir = tempfile::tempdir().unwrap();
        let (guest, ..) = start(config(profile(dir.path(), code), 1, &dir.path().join("state"))).await;
        pid(&guest).await;
        let reason = frozen(&guest, Some(true)).await.unwrap();
        assert!(reason.contains(says), "{reason}");
        guest.stop(PATIENCE).await;
    }
}

#[tokio::test]
async fn a_main_loop_that_hangs_is_found_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, ..) = start(config(demo("quiet"), 6, dir.path())).await;
    pid(&guest).await;
    frozen(&guest, Some(false)).await;
    // QEMU opens the file of a screenshot in its main loop: a pipe that nobody reads keeps it there.
    let pipe = guest.run_dir().join("shot0.ppm");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    // Once it has begun nobody needs to wait for it: the order is on its way.
    let shot = tokio::time::timeout(Duration::from_millis(500), guest.screenshot()).await;
    assert!(shot.is_err(), "{shot:?}");
    let reason = frozen(&guest, Some(true)).await.unwrap();
    assert!(reason.contains("has not answered its monitor"), "{reason}");
    let reader = std::thread::spawn(move || std::fs::read(pipe));
    frozen(&guest, Some(false)).await;
    assert!(reader.join().unwrap().is_ok_and(|bytes| bytes.starts_with(b"P6")));
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_only_waits_is_not_called_frozen() {
    // sti; hlt; jmp -3
    let idle: &[u8] = &[0xfb, 0xf4, 0xeb, 0xfc];
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (text, ..) = start(config(profile(one.path(), idle), 2, &one.path().join("state"))).await;
    let (quiet, ..) = start(config(demo("quiet"), 3, two.path())).await;
    pid(&text).await;
    pid(&quiet).await;
    frozen(&text, Some(false)).await;
    frozen(&quiet, Some(false)).await;
    let (mut one, mut two) = (text.liveness(), quiet.liveness());
    let called = async {
        tokio::select! {
            found = one.wait_for(|l| l.frozen != Some(false)) => format!("text: {:?}", found.unwrap().clone()),
            found = two.wait_for(|l| l.frozen != Some(false)) => format!("quiet: {:?}", found.unwrap().clone()),
        }
    };
    // Long enough for thirty looks.
    let called = tokio::time::timeout(Duration::from_secs(30), called).await;
    assert!(called.is_err(), "{called:?}");
    text.stop(PATIENCE).await;
    quiet.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_picture_that_is_not_the_guests_is_found_and_a_still_one_is_not() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (guest, screen, _) = start(config(demo("quiet"), 7, one.path())).await;
    let (still, its_screen, _) = start(config(demo("quiet"), 8, two.path())).await;
    screen.wait("a picture", |p| p.scanouts > 0).await;
    screen.settled(Duration::from_secs(1)).await;
    screen.spoil();
    let mut is_stale = guest.is_stale();
    tokio::time::timeout(PATIENCE * 5, is_stale.wait_for(|stale| *stale)).await.expect("in time").unwrap();
    assert_eq!(screen.picture().comparisons, 2, "once is nothing");
    tokio::time::timeout(PATIENCE, guest.reset_display(PATIENCE)).await.expect("in time").unwrap();
    assert!(!*guest.is_stale().borrow(), "the whole picture came");

    let compared = async {
        while its_screen.picture().comparisons == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 5, compared).await.expect("compared");
    assert!(!*still.is_stale().borrow());
    guest.stop(PATIENCE).await;
    still.stop(PATIENCE).await;
}

#[tokio::test]
async fn display_and_sound_are_attached_anew_and_what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (guest, screen, ear) = start(config(demo("town"), 4, dir.path())).await;
    pid(&guest).await;
    screen.wait("a picture", |p| p.changes > 10).await;
    let scanouts = screen.picture().scanouts;
    for n in 1..=3 {
        guest.reset_display(PATIENCE).await.unwrap();
        let now = screen.wait("a whole picture", |p| p.scanouts >= scanouts + n).await;
        screen.wait("it moves on", |p| p.changes > now.changes + 5).await;
    }
    for _ in 0..3 {
        guest.reset_sound(PATIENCE).await.unwrap();
    }
    let heard = ear.0.lock().unwrap().samples.len();
    let whistle: Key = "Space".parse().unwrap();
    guest.input().key(whistle, true).unwrap();
    let loud = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !ear.0.lock().unwrap().samples[heard..].iter().any(|s| s.unsigned_abs() > 1000) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, loud).await.expect("a whistle, after the sound was attached anew");
    assert_eq!(ear.0.lock().unwrap().open.len(), 1, "the voice is there once");
    let missing = guest.reset_network().await.expect_err("no card");
    assert!(matches!(missing, GuestError::NoDevice { what: "network card" }), "{missing}");
    assert_eq!(guest.query_status(PATIENCE).await.unwrap(), "running");
    tokio::time::timeout(PATIENCE, guest.ping()).await.unwrap().unwrap();
    guest.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_network_card_is_unplugged_and_plugged_in() {
    let dir = tempfile::tempdir().unwrap();
    for card in ["ne2k_pci", "virtio"] {
        let mut profile = demo("quiet");
        let json = serde_json::to_value(&profile.network).map(|mut network| {
            network["card"] = card.into();
            network
        });
        profile.network = serde_json::from_value(json.unwrap()).unwrap();
        let (guest, ..) = start(config(profile, 5, &dir.path().join(card))).await;
        pid(&guest).await;
        guest.reset_network().await.unwrap();
        guest.stop(PATIENCE).await;
    }
}
