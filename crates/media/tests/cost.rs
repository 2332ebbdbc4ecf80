//! What a chain costs and how long a change takes: prints, asserts nothing about time. Run alone:
//! `cargo test -p loco-media --test cost -- --ignored --nocapture`.

#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]
#![allow(clippy::print_stdout, reason = "what it measures is printed")]

mod common;

use common::{Agent, SIZE, Viewer, fill, grey_canvas};
use loco_media::{EncoderKind, SenderConfig};
use loco_model::Size;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// CPU time of this process's threads in nanoseconds, by thread name.
fn cpu_by_thread() -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("proc").flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let used = read("schedstat").split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        *sums.entry(read("comm").trim().to_owned()).or_default() += used;
    }
    sums
}

fn runtime(name: &str, workers: usize) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).thread_name(name).enable_all().build().expect("a runtime")
}

/// Draws the frame: a picture with some structure, and a box that moves.
fn picture(size: Size, step: u32, busy: bool) -> Vec<u8> {
    let (left, top) = ((step * 7) % (size.width - 200), (step * 3) % (size.height - 150));
    (0..size.height)
        .flat_map(|y| (0..size.width).map(move |x| (x, y)))
        .flat_map(|(x, y)| {
            let inside = (left..left + 200).contains(&x) && (top..top + 150).contains(&y);
            let base = ((x / 8 + y / 8) % 2 * 40) as u8 + 60;
            let moved = if busy { ((x + step * 5) ^ (y + step * 3)) as u8 } else { base };
            if inside { [step as u8, 200, 40, 0] } else { [moved, base, moved, 0] }
        })
        .collect()
}

fn measure(encoder: EncoderKind, size: Size, busy: bool, seconds: u32) {
    let (send, receive) = (runtime("send", 1), runtime("receive", 1));
    let config = SenderConfig { encoders: vec![encoder], ..SenderConfig::default() };
    let agent = send.block_on(send.spawn(Agent::start(config, grey_canvas(size, 60)))).expect("starts");
    let url = agent.url();
    let viewer = receive.block_on(receive.spawn(async move { Viewer::start(url) })).expect("starts");
    receive.block_on(viewer.connected());
    let pictures: Vec<_> = (0..30).map(|step| picture(size, step, busy)).collect();
    let (before, started) = (cpu_by_thread(), Instant::now());
    let mut waits = Vec::new();
    for i in 0..30 * seconds {
        let due = started + Duration::from_micros(33_333) * i;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let updated = Instant::now();
        agent.canvas.scanout(size, size.width as usize * 4, &pictures[i as usize % pictures.len()]);
        while viewer.receiver.take_frame().is_none() && updated.elapsed() < Duration::from_millis(28) {
            std::thread::sleep(Duration::from_micros(200));
        }
        waits.push(updated.elapsed().as_micros() as u64);
    }
    let (after, wall) = (cpu_by_thread(), started.elapsed());
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100] as f64 / 1_000.0;
    println!(
        "{} {}x{} {}: update -> decoded p50 {:.2} p95 {:.2} ms",
        encoder.name(),
        size.width,
        size.height,
        if busy { "busy" } else { "box" },
        at(50),
        at(95)
    );
    for (name, ns) in &after {
        let used = ns - before.get(name).copied().unwrap_or(0);
        println!("  thread {name:16} {:5.2} % of a core", used as f64 / wall.as_nanos() as f64 * 100.0);
    }
    let (sent, seen) = (agent.sender.stats(), viewer.receiver.stats());
    println!("  sender {:?} fps, encode {:?}, wait {:?}, send {:?}", sent.fps, sent.encode, sent.wait, sent.send);
    println!("  receiver {:?} fps, {:?} B/s, decode {:?}", seen.fps_decoded, seen.bytes_per_second, seen.decode);
}

#[test]
#[ignore = "measures; the machine must be quiet"]
fn cost_of_one_chain() {
    for encoder in [EncoderKind::LibX264, EncoderKind::X264] {
        measure(encoder, SIZE, false, 8);
        measure(encoder, Size::new(1024, 768), true, 5);
    }
}

/// How sharp a picture is that stands still after motion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_that_stands_still_becomes_sharp() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    agent.sender.set_bit_rate(400_000).expect("in range");
    let viewer = Viewer::start(agent.url());
    viewer.connected().await;
    let mut last = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(33));
    for step in 0..30 {
        last = picture(SIZE, step, true);
        tick.tick().await;
        agent.canvas.scanout(SIZE, SIZE.width as usize * 4, &last);
    }
    let want: Vec<i32> = last
        .as_chunks::<4>()
        .0
        .iter()
        .map(|[b, g, r, _]| (66 * i32::from(*r) + 129 * i32::from(*g) + 25 * i32::from(*b) + 128) / 256 + 16)
        .collect();
    let (mut errors, mut quiet) = (Vec::new(), 0);
    while quiet < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let Some(frame) = viewer.receiver.take_frame() else {
            quiet += 1;
            continue;
        };
        quiet = 0;
        let (y, stride) = frame.y();
        let sum: i64 = want
            .iter()
            .enumerate()
            .map(|(i, want)| {
                let got = i32::from(y[i / SIZE.width as usize * stride + i % SIZE.width as usize]);
                i64::from((got - want) * (got - want))
            })
            .sum();
        errors.push(sum as f64 / want.len() as f64);
    }
    let refined = agent.sender.stats().refinement_frames;
    println!("mean square errors as it stands still: {errors:.1?}; {refined} refinements");
    assert!((1..=2).contains(&refined), "{refined}");
    assert!(errors.last() < errors.first(), "{errors:?}");
    fill(&agent.canvas, SIZE, 0);
}
