//! Figures rather than verdicts: `cargo test -p loco-guest --test measure -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod common;

use common::{PATIENCE, config, start};
use loco_guest::{GuestState, Profile};
use std::time::{Duration, Instant};

fn percentiles(mut ms: Vec<f64>) -> String {
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms[((ms.len() - 1) as f64 * share).round() as usize];
    format!("n={} p50 {:.1} p95 {:.1} max {:.1} ms", ms.len(), at(0.5), at(0.95), at(1.0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn start_to_first_picture() {
    let mut times = Vec::new();
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let (guest, screen, _) = start(config(Profile::builtin("demo").unwrap(), 0, dir.path())).await;
        screen.wait("a scanout", |p| p.scanouts > 0).await;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        guest.stop(PATIENCE).await;
    }
    println!("start -> first scanout: {}", percentiles(times));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn nine_at_once() {
    let begun = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..9 {
        let state = dir.path().join(n.to_string());
        all.spawn(async move {
            let (guest, screen, ear) = start(config(Profile::builtin("demo").unwrap(), n, &state)).await;
            screen.wait("640x480", |p| p.size.width == 640).await;
            (begun.elapsed().as_secs_f64() * 1e3, guest, screen, ear)
        });
    }
    let all = all.join_all().await;
    println!("nine guests, start -> first picture of 640x480: {}", percentiles(all.iter().map(|a| a.0).collect()));
    for (_, guest, ..) in all {
        guest.stop(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn key_to_update() {
    for mode in ["quiet", "town"] {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = Profile::builtin("demo").unwrap();
        profile.set_kernel_argument("mode", mode);
        let (guest, screen, _) = start(config(profile, 0, dir.path())).await;
        guest.wait_for(|s| s.state == GuestState::Running).await.unwrap();
        screen.wait("640x480", |p| p.size.width == 640).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut times = Vec::new();
        let mut lost = 0;
        let before = guest.kick_stats();
        for n in 0..60u64 {
            tokio::time::sleep(Duration::from_micros(120_000 + n * 7919 % 33_000)).await;
            let changes = screen.picture().changes;
            let begun = Instant::now();
            guest.input().key("ArrowUp".parse().unwrap(), true).unwrap();
            let seen = screen.wait("a change", |p| p.changes > changes);
            match tokio::time::timeout(Duration::from_secs(2), seen).await {
                Ok(picture) => times.push((picture.changed_at.unwrap() - begun).as_secs_f64() * 1e3),
                Err(_) => lost += 1,
            }
            guest.input().key("ArrowUp".parse().unwrap(), false).unwrap();
        }
        println!(
            "{mode}: key -> changed update: {}, {lost} lost, {:?} since {before:?}",
            percentiles(times),
            guest.kick_stats()
        );
        guest.stop(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn picture_past_the_display() {
    let dir = tempfile::tempdir().unwrap();
    let mut profile = Profile::builtin("demo").unwrap();
    profile.set_kernel_argument("mode", "quiet");
    let (guest, screen, _) = start(config(profile, 0, dir.path())).await;
    screen.wait("640x480", |p| p.size.width == 640).await;
    let qemu = guest.wait_for(|s| s.state == GuestState::Running).await.unwrap().pid.unwrap();
    let used = |pid| loco_process::ProcId::process(pid).stat().unwrap().cpu;
    let before = [used(qemu), used(std::process::id())];
    let (begun, count) = (Instant::now(), 500);
    for _ in 0..count {
        guest.screenshot().await.unwrap();
    }
    let passed = begun.elapsed();
    let ms = |pid, before| (used(pid) - before).as_secs_f64() * 1e3 / f64::from(count);
    let [of_qemu, own] = [ms(qemu, before[0]), ms(std::process::id(), before[1])];
    println!(
        "a picture of 640x480 in {:?}: {of_qemu:.2} ms of QEMU's processor time, {own:.2} ms of ours",
        passed / count
    );
    guest.stop(PATIENCE).await;
}
