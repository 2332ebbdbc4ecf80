//! Rate control with real connections and a real encoder, over loopback and over a bad network.

mod common;

use common::{Agent, SIZE, Viewer, grey_canvas};
use loco_media::{Canvas, Limiter, SenderConfig};
use loco_model::Rect;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Paints noise over the whole picture 30 times a second until dropped: more than any rate.
struct Noise {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Noise {
    fn start(canvas: &Canvas) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (canvas, stopped) = (canvas.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut pixels = vec![0; SIZE.area() as usize * 4];
            let mut seed = 1u32;
            let mut next = Instant::now();
            while !stopped.load(Relaxed) {
                for block in pixels.chunks_exact_mut(16) {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    block.fill((seed >> 24) as u8);
                }
                canvas.update(Rect::new(0, 0, SIZE.width, SIZE.height), SIZE.width as usize * 4, &pixels);
                next += Duration::from_micros(33_333);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits until `is_so`, looking every 20 ms for at most 10 s.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let by = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < by, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_free_path_is_limited_by_the_setting_and_a_still_picture_by_nothing() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let viewer = Viewer::start(agent.url());
    until("a picture", || viewer.receiver.stats().frames_decoded > 0).await;
    let noise = Noise::start(&agent.canvas);
    until("the ceiling limits it", || agent.sender.stats().limits.is_some_and(|l| l.limiter == Limiter::Setting)).await;
    until("the viewer is told", || viewer.receiver.stats().limits.is_some_and(|l| l.limiter == Limiter::Setting)).await;
    let sent = agent.sender.stats();
    assert_eq!((sent.ceiling, sent.bit_rate), (2_000_000, 2_000_000), "the path carries the ceiling");
    let rate = agent.sender.sessions()[0].rate;
    assert!(rate.received.is_some_and(|rate| rate > 1_000_000), "{rate:?}");
    assert!(rate.queue_ms.is_some() && rate.round_trip_ms.is_some(), "{rate:?}");
    drop(noise);
    until("nothing limits it", || viewer.receiver.stats().limits.is_some_and(|l| l.limiter == Limiter::Still)).await;
    assert_eq!(agent.sender.stats().limits.map(|l| l.limiter), Some(Limiter::Still));
    let line = viewer.receiver.stats().limits.expect("told").line();
    assert!(line.contains("asks for no more"), "{line}");
    until("nothing is on its way", || agent.sender.sessions()[0].rate.in_flight == 0).await;
    agent.stop().await;
}
