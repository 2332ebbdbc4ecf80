//! A machine that has more to do than it can: one processor, and others on it who never rest.

#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]

mod common;

use common::{Agent, SIZE, Viewer, fill, grey_canvas};
use loco_media::SenderConfig;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Who never rests.
const OTHERS: usize = 4;
/// Set, and kept where there is room.
const MOST_FPS: u16 = 30;
/// Longer than the frame rate takes to come back from its least.
const PATIENCE: Duration = Duration::from_secs(40);

/// Keeps this thread, and all that it starts, on one of its processors.
fn stay_on_one_processor() {
    let all = sched_getaffinity(None).expect("its processors");
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).expect("at least one");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("one of its own");
}

/// Paints until the frame rate that the sender is left with is as `wanted` says.
async fn paint_until(agent: &Agent, viewer: &Viewer, what: &str, wanted: impl Fn(u16) -> bool) {
    let (begun, mut tick) = (Instant::now(), tokio::time::interval(Duration::from_millis(33)));
    let mut value = 0u8;
    loop {
        tick.tick().await;
        value = value.wrapping_add(8);
        fill(&agent.canvas, SIZE, value);
        drop(viewer.receiver.take_frame());
        let told = viewer.receiver.stats().limits;
        if told.is_some_and(|limits| wanted(limits.max_fps)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: the viewer is told {told:?}");
    }
}

#[test]
fn the_frame_rate_gives_way_and_comes_back() {
    stay_on_one_processor();
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let config = SenderConfig { max_fps: u32::from(MOST_FPS), ..SenderConfig::default() };
        let agent = Agent::start(config, grey_canvas(SIZE, 60)).await;
        let viewer = Viewer::start(agent.url());
        viewer.connected().await;
        paint_until(&agent, &viewer, "all of it", |fps| fps == MOST_FPS).await;
        let others: Vec<_> = (0..OTHERS)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || while !stop.load(Relaxed) {})
            })
            .collect();
        paint_until(&agent, &viewer, "less", |fps| fps < MOST_FPS).await;
        stop.store(true, Relaxed);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        paint_until(&agent, &viewer, "all of it again", |fps| fps == MOST_FPS).await;
        agent.stop().await;
    });
}
