//! Rate control with real connections and a real encoder, over loopback and over a bad network.

#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]
#![allow(clippy::print_stdout, reason = "what it measures is printed")]

mod common;

use common::{Agent, SIZE, Viewer, grey_canvas};
use loco_impair::{Direction, Impairment, LinkHandle, Network};
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

/// A wall of noise seen through a link.
struct Bad {
    agent: Agent,
    viewer: Viewer,
    link: LinkHandle,
    _noise: Noise,
    _network: Network,
}

impl Bad {
    async fn start(down: Impairment) -> Self {
        let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
        let network = Network::start(7).expect("a network");
        let link =
            network.link(down.clone(), Impairment { loss: down.loss, delay: down.delay, ..Impairment::default() });
        let through = link.http(agent.address).expect("a way in");
        let viewer = Viewer::start(format!("http://{through}/whep"));
        until("a picture", || viewer.receiver.stats().frames_decoded > 0).await;
        let noise = Noise::start(&agent.canvas);
        Self { agent, viewer, link, _noise: noise, _network: network }
    }

    fn target(&self) -> u32 {
        self.agent.sender.sessions()[0].rate.target
    }
}

const MS_10: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cliff_is_followed_down_and_up_and_said() {
    let wide = Impairment::rate(5_000_000, 100_000).with_delay(MS_10);
    let narrow = Impairment::rate(500_000, 100_000).with_delay(MS_10);
    let bad = Bad::start(wide.clone()).await;
    until("the ceiling", || bad.target() == 2_000_000).await;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let before = bad.viewer.receiver.stats();
    bad.link.set(Direction::Down, narrow);
    let fell = Instant::now();
    until("the rate falls", || bad.target() < 600_000).await;
    let after = fell.elapsed();
    let told = || bad.viewer.receiver.stats().limits.map(|limits| limits.line()).unwrap_or_default();
    until("the viewer is told", || told().starts_with("limited by the network: 0.")).await;
    // What was on its way at the cliff has drained by then; from here on the link must be used and not flooded.
    tokio::time::sleep(Duration::from_secs(1).saturating_sub(fell.elapsed())).await;
    let (mut queues, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let rate = bad.agent.sender.sessions()[0].rate;
        queues.push(rate.queue_ms.unwrap_or_default());
        rates.push(rate.target);
    }
    let frames = bad.viewer.receiver.stats().frames_decoded - before.frames_decoded;
    let mean = rates.iter().map(|rate| f64::from(*rate)).sum::<f64>() / rates.len() as f64;
    queues.sort_by(f32::total_cmp);
    let fps = frames as f64 / fell.elapsed().as_secs_f64();
    println!(
        "fell in {after:?}, then {mean:.0} bit/s, queue median {} ms, most {} ms, {fps:.1} fps",
        queues[20], queues[39]
    );
    assert!((200_000.0..700_000.0).contains(&mean), "{rates:?}");
    assert!(queues[20] < 150.0, "{queues:?}");
    // Other work on the machine may cost pictures; the link may not.
    assert!(fps > 8.0, "{fps} fps");

    bad.link.set(Direction::Down, wide);
    let rose = Instant::now();
    until("all is back", || bad.target() > 1_800_000).await;
    println!("back in {:?}", rose.elapsed());
    assert!(rose.elapsed() < Duration::from_secs(4));
    bad.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_to_nothing_halves_the_picture_and_more_makes_it_whole() {
    let bad = Bad::start(Impairment::rate(3_000_000, 60_000).with_delay(MS_10)).await;
    until("the ceiling", || bad.target() == 2_000_000).await;
    bad.link.set(Direction::Down, Impairment::rate(130_000, 60_000).with_delay(MS_10));
    let half = loco_model::Size::new(SIZE.width / 2, SIZE.height / 2);
    until("a halved picture", || bad.viewer.receiver.stats().size == Some(half)).await;
    until("it is said", || bad.viewer.receiver.stats().limits.is_some_and(|l| l.line().contains("halved"))).await;
    bad.link.set(Direction::Down, Impairment::rate(3_000_000, 60_000).with_delay(MS_10));
    until("a whole picture", || bad.viewer.receiver.stats().size == Some(SIZE)).await;
    bad.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_viewer_is_followed_only_so_far() {
    let bad = Bad::start(Impairment::rate(1_000_000, 60_000).with_delay(MS_10)).await;
    let near = Viewer::start(bad.agent.url());
    let limiter = |viewer: &Viewer| viewer.receiver.stats().limits.map(|limits| limits.limiter);
    until("the slower is followed", || {
        bad.agent.sender.stats().bit_rate < 1_100_000 && limiter(&near) == Some(Limiter::Viewer)
    })
    .await;
    until("its own network limits it", || limiter(&bad.viewer) == Some(Limiter::Network)).await;

    bad.link.set(Direction::Down, Impairment::rate(250_000, 60_000).with_delay(MS_10));
    until("it is followed no more", || bad.agent.sender.stats().bit_rate >= 1_900_000).await;
    let (before, began) = ((near.receiver.stats(), bad.viewer.receiver.stats()), Instant::now());
    let mut rates = Vec::new();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rates.push(bad.agent.sender.stats().bit_rate);
    }
    let per_second = |after: u64, before: u64| (after - before) as f64 / began.elapsed().as_secs_f64();
    let near_fps = per_second(near.receiver.stats().frames_decoded, before.0.frames_decoded);
    let slow_fps = per_second(bad.viewer.receiver.stats().frames_decoded, before.1.frames_decoded);
    rates.sort_unstable();
    println!("near {near_fps:.1} fps, slow {slow_fps:.2} fps, rate median {} least {}", rates[30], rates[0]);
    assert!(rates[30] >= 1_900_000, "{rates:?}");
    assert!(near_fps > 12.0, "{near_fps} fps");
    assert!(slow_fps > 0.15, "the slow one sees nothing: {slow_fps} fps");
    bad.agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_loss_on_a_long_way_costs_no_rate() {
    let link = Impairment::rate(3_000_000, 60_000).with_delay(MS_10 * 5).with_loss(0.02);
    let bad = Bad::start(link).await;
    until("the ceiling", || bad.target() == 2_000_000).await;
    let (before, began) = (bad.viewer.receiver.stats().frames_decoded, Instant::now());
    let mut rates = Vec::new();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rates.push(bad.target());
    }
    let fps = (bad.viewer.receiver.stats().frames_decoded - before) as f64 / began.elapsed().as_secs_f64();
    rates.sort_unstable();
    println!("target median {} least {}, {fps:.1} fps", rates[30], rates[0]);
    assert!(rates[30] > 1_500_000, "{rates:?}");
    assert!(fps > 15.0, "{fps} fps");
    bad.agent.stop().await;
}
