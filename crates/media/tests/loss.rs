//! Frames and keys through paths that lose, reorder and repeat packets: real transport, real sockets.

#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]
#![allow(clippy::print_stdout, reason = "what it measures is printed")]

mod common;

use common::{Agent, Viewer, grey_canvas, luma_of_grey, paint};
use loco_impair::{Bursts, Direction, Impairment, LinkHandle, Network};
use loco_media::{ReceiverStats, SenderConfig, SessionInput};
use loco_model::input::{Button, KeysEvent, Pointer};
use loco_model::{Key, Rect, Size};
use std::collections::BTreeSet;
use std::time::Duration;

const SIZE: Size = Size::new(320, 240);
const SPOT: Rect = Rect::new(32, 32, 64, 64);
/// Everything else, in which the noise moves.
const NOISE: Rect = Rect::new(128, 96, 160, 128);

struct Bed {
    agent: Agent,
    viewer: Viewer,
    link: LinkHandle,
    _network: Network,
    random: u64,
}

impl Bed {
    /// Connected, with a picture, over a path without faults and 20 ms each way.
    async fn start(seed: u64) -> Self {
        let network = Network::start(seed).expect("a network");
        let calm = Impairment::default().with_delay(Duration::from_millis(20));
        let link = network.link(calm.clone(), calm);
        let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
        let address = link.http(agent.address).expect("a flow");
        let viewer = Viewer::start(format!("http://{address}/whep"));
        viewer.sees(SPOT, luma_of_grey(60)).await;
        Self { agent, viewer, link, _network: network, random: seed | 1 }
    }

    fn both(&self, impairment: &Impairment) {
        for direction in [Direction::Down, Direction::Up] {
            self.link.set(direction, impairment.clone());
        }
    }

    const fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// A moving, noisy picture of several packets a frame.
    async fn play(&mut self, seconds: u32) {
        let mut tick = tokio::time::interval(Duration::from_millis(33));
        for _ in 0..30 * seconds {
            tick.tick().await;
            let pixels: Vec<u8> =
                (0..NOISE.width * NOISE.height).flat_map(|_| (self.chance() as u32 >> 8).to_le_bytes()).collect();
            self.agent.canvas.update(NOISE, NOISE.width as usize * 4, &pixels);
        }
    }

    /// The path is calm again: what is shown then is right.
    async fn settle(&self) -> ReceiverStats {
        self.both(&Impairment::default().with_delay(Duration::from_millis(20)));
        paint(&self.agent.canvas, SPOT, 200);
        self.viewer.sees(SPOT, luma_of_grey(200)).await;
        self.told()
    }

    /// The same, where no frame may be lost: each one's fate is waited for. (Of a frame that is given up after none of
    /// its packets came, a receiver cannot know, so elsewhere this would wait in vain.)
    async fn settle_whole(&self) -> ReceiverStats {
        self.settle().await;
        self.viewer.wait("every frame", |r| (r.stats().frames_received >= self.sent()).then_some(())).await;
        let stats = self.told();
        let bad = (stats.frames_dropped, stats.frames_skipped, stats.key_frame_requests, stats.packets_lost);
        assert_eq!(bad, (0, 0, 0, 0), "{stats:?}");
        stats
    }

    fn sent(&self) -> u64 {
        self.agent.sender.sessions().first().map_or(0, |session| session.frames_sent)
    }

    fn told(&self) -> ReceiverStats {
        let stats = self.viewer.receiver.stats();
        let lost = self.link.counters(Direction::Down);
        println!(
            "of {} frames {} were rebuilt, {} resent, {} dropped, {} skipped; {} key frames asked for, {} freezes; \
             repair {:?}; down {lost:?}",
            self.sent(),
            stats.frames_rebuilt,
            stats.frames_resent,
            stats.frames_dropped,
            stats.frames_skipped,
            stats.key_frame_requests,
            stats.freezes,
            stats.repair,
        );
        stats
    }
}

fn delayed() -> Impairment {
    Impairment::default().with_delay(Duration::from_millis(50))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_loss_costs_no_frame() {
    let mut bed = Bed::start(3).await;
    bed.both(&delayed().with_loss(0.015));
    bed.play(6).await;
    let stats = bed.settle_whole().await;
    assert!(stats.frames_rebuilt + stats.frames_resent > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parity_repairs_most_of_it_while_loss_is_seen() {
    let mut bed = Bed::start(5).await;
    bed.both(&delayed().with_loss(0.03));
    bed.play(8).await;
    let stats = bed.settle().await;
    assert!(stats.frames_rebuilt > stats.frames_resent, "{stats:?}");
    // Two round trips of a resend may all be lost, now and then.
    assert!(stats.frames_dropped + stats.frames_skipped <= 5 && stats.key_frame_requests <= 2, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_loss_is_survived() {
    let mut bed = Bed::start(7).await;
    bed.both(&delayed().with_loss(0.3));
    let before = bed.viewer.receiver.stats().frames_decoded;
    bed.play(8).await;
    let during = bed.viewer.receiver.stats().frames_decoded - before;
    let stats = bed.settle().await;
    assert!(during >= 20, "only {during} frames in 8 s");
    assert_eq!(stats.sessions, 1, "the session lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bursts_are_repaired() {
    let mut bed = Bed::start(11).await;
    bed.both(&delayed().with_bursts(Bursts { begin: 0.012, end: 0.3, loss: 0.9 }));
    bed.play(8).await;
    let stats = bed.settle().await;
    assert!(stats.frames_resent > 0, "{stats:?}");
    assert!(stats.frames_dropped + stats.frames_skipped <= 10 && stats.key_frame_requests <= 3, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_and_repetition_cost_nothing() {
    let mut bed = Bed::start(13).await;
    bed.both(&delayed().with_reordering(0.02, Duration::from_millis(8)).with_duplication(0.02));
    bed.play(6).await;
    bed.settle_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_frame_before_a_pause_is_not_lost() {
    let bed = Bed::start(29).await;
    for i in 0..12u32 {
        // What is painted is lost, what follows it is not: nothing else shows that it is missing.
        let lossy = Impairment { loss: 1.0, ..Impairment::default() };
        bed.link.set(Direction::Down, lossy);
        let sent = bed.agent.sender.sessions()[0].frames_sent;
        let value = (30 + i * 15) as u8;
        paint(&bed.agent.canvas, SPOT, value);
        while bed.agent.sender.sessions()[0].frames_sent == sent {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        bed.link.set(Direction::Down, Impairment::default());
        bed.viewer.sees(SPOT, luma_of_grey(value)).await;
    }
    assert_eq!(bed.viewer.receiver.stats().key_frame_requests, 0);
}

/// Applies what arrives to a keyboard; returns the order in which it came.
struct Guest {
    held: BTreeSet<u16>,
    buttons: Vec<bool>,
    seen: Vec<KeysEvent>,
    position: Option<Pointer>,
}

impl Guest {
    fn take(&mut self, input: SessionInput) {
        match input {
            SessionInput::Keys(event) => {
                self.seen.push(event);
                match event {
                    KeysEvent::Key { key, pressed: true } => assert!(self.held.insert(key.evdev()), "pressed twice"),
                    KeysEvent::Key { key, pressed: false } => assert!(self.held.remove(&key.evdev()), "was not down"),
                    KeysEvent::Button { button, pressed, .. } => self.buttons[button as usize] = pressed,
                    KeysEvent::Wheel { .. } => {}
                    KeysEvent::ReleaseAll => self.held.clear(),
                }
            }
            SessionInput::Pointer(pointer) => self.position = Some(pointer),
            SessionInput::Closed => panic!("the session ended"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_keys_arrives_once_in_order_and_nothing_stays_held() {
    let mut bed = Bed::start(17).await;
    let mut input = bed.agent.sender.input().expect("the one consumer");
    let bad = delayed().with_loss(0.05).with_duplication(0.05);
    bed.both(&bad.with_reordering(0.05, Duration::from_millis(12)));
    let mut guest = Guest { held: BTreeSet::new(), buttons: vec![false; 5], seen: Vec::new(), position: None };
    let (mut sent, mut held, mut last) = (Vec::new(), BTreeSet::new(), Pointer::Absolute { x: 0, y: 0 });
    let mut tick = tokio::time::interval(Duration::from_millis(8));
    for i in 0..1_000u32 {
        tick.tick().await;
        let random = bed.chance();
        last = Pointer::Relative { sum_x: i as i32, sum_y: -(i as i32) };
        let event = match random % 20 {
            0 => KeysEvent::Wheel { x: 0, y: i as i16 },
            1 => KeysEvent::Button { button: Button::Left, pressed: i % 2 == 0, pointer: last },
            _ => {
                let code = (30 + random / 32 % 9) as u16;
                let pressed = held.insert(code) || !held.remove(&code);
                KeysEvent::Key { key: Key::from_evdev(code).expect("a letter"), pressed }
            }
        };
        bed.viewer.receiver.send_keys(event).expect("connected");
        bed.viewer.receiver.send_pointer(last).expect("connected");
        sent.push(event);
        while let Ok((_, input)) = input.try_recv() {
            guest.take(input);
        }
    }
    for code in held {
        let event = KeysEvent::Key { key: Key::from_evdev(code).expect("a letter"), pressed: false };
        bed.viewer.receiver.send_keys(event).expect("connected");
        sent.push(event);
    }
    while guest.seen.len() < sent.len() || guest.position != Some(last) {
        let next = tokio::time::timeout(Duration::from_secs(20), input.recv()).await;
        let Ok(Some((_, input))) = next else { panic!("{} of {} came", guest.seen.len(), sent.len()) };
        guest.take(input);
    }
    assert_eq!(guest.seen, sent, "each once, in order");
    assert!(guest.held.is_empty(), "nothing stays held");
    assert_eq!(guest.position, Some(last), "the newest position counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_key_costs_milliseconds() {
    let mut bed = Bed::start(19).await;
    let mut input = bed.agent.sender.input().expect("the one consumer");
    bed.both(&delayed().with_loss(0.05));
    let key = Key::from_evdev(30).expect("KeyA");
    let mut times = Vec::new();
    for i in 0..150 {
        let sent = std::time::Instant::now();
        bed.viewer.receiver.send_keys(KeysEvent::Key { key, pressed: i % 2 == 0 }).expect("connected");
        while !matches!(input.recv().await, Some((_, SessionInput::Keys(_)))) {}
        times.push(sent.elapsed());
        let pause = bed.chance() % 30;
        tokio::time::sleep(Duration::from_millis(20 + pause)).await;
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    println!("key -> guest at 50 ms one way, 5 % loss: p50 {:?}, p95 {:?}, p99 {:?}", at(50), at(95), at(99));
    // One in 20 is lost; with one copy alone each of these would wait for a timer of hundreds of milliseconds.
    assert!(at(95) < Duration::from_millis(120), "p95 {:?}", at(95));
}
