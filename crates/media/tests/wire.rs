//! What goes over the wire, and what happens when it does not.

#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]

mod common;

use common::proxy::Proxy;
use common::{Agent, SIZE, Viewer, grey_canvas, luma_of_grey, paint};
use loco_media::sound_link::{OpusPacket, PacketSink, ReceivedPacket};
use loco_media::{ReceiverConfig, SenderConfig, SessionState};
use loco_model::Rect;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const SPOT: Rect = Rect::new(100, 100, 64, 64);

async fn through_proxy() -> (Arc<Proxy>, Agent, Viewer) {
    let (proxy, offer, answer) = Proxy::start().await;
    let listen = "127.0.0.1:0".parse().expect("an address");
    let agent = Agent::start_between(listen, SenderConfig::default(), grey_canvas(SIZE, 60), offer, answer).await;
    let viewer = Viewer::start(agent.url());
    viewer.sees(SPOT, luma_of_grey(60)).await;
    (proxy, agent, viewer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_still_picture_costs_almost_nothing() {
    let (proxy, agent, viewer) = through_proxy().await;
    // The key frame is sharpened, the last report is sent; then there is silence.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let frames = agent.sender.stats().frames_encoded;
    let (down, up, packets) =
        (proxy.down_bytes.load(SeqCst), proxy.up_bytes.load(SeqCst), proxy.down_packets.load(SeqCst));
    let seconds = 21;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let rate = |from: u64, to: u64| (to - from) * 8 / seconds;
    let (down, up) = (rate(down, proxy.down_bytes.load(SeqCst)), rate(up, proxy.up_bytes.load(SeqCst)));
    let packets = proxy.down_packets.load(SeqCst) - packets;
    println!("a still picture: {down} bit/s down ({packets} packets in {seconds} s), {up} bit/s up");
    assert!(down <= 1_000 && up <= 1_000, "{down} bit/s down, {up} bit/s up");
    assert_eq!(agent.sender.stats().frames_encoded, frames, "nothing is encoded");
    assert_eq!(viewer.receiver.state(), SessionState::Connected, "and still it is live");
    paint(&agent.canvas, SPOT, 200);
    viewer.sees(SPOT, luma_of_grey(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_are_sent_again() {
    let (proxy, agent, viewer) = through_proxy().await;
    proxy.lose_each.store(10, SeqCst);
    let mut tick = tokio::time::interval(Duration::from_millis(25));
    for i in 0..120u32 {
        tick.tick().await;
        paint(&agent.canvas, Rect::new((i * 5) % 500, 200, 100, 100), (i * 40 % 256) as u8);
    }
    proxy.lose_each.store(0, SeqCst);
    paint(&agent.canvas, SPOT, 200);
    viewer.sees(SPOT, luma_of_grey(200)).await;
    let stats = viewer.receiver.stats();
    assert!(proxy.lost.load(SeqCst) >= 5, "the proxy lost {}", proxy.lost.load(SeqCst));
    println!("{} of {} packets lost on the way, {stats:?}", proxy.lost.load(SeqCst), stats.packets_received);
    assert_eq!((stats.packets_lost, stats.frames_dropped), (0, 0), "all were repaired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_no_resend_fills_ends_with_a_key_frame() {
    let (proxy, agent, viewer) = through_proxy().await;
    let before = agent.sender.stats().key_frames;
    proxy.lose_for_good.store(2, SeqCst);
    let mut tick = tokio::time::interval(Duration::from_millis(30));
    for i in 0..40u32 {
        tick.tick().await;
        paint(&agent.canvas, Rect::new((i * 5) % 500, 200, 100, 100), (i * 40 % 256) as u8);
    }
    paint(&agent.canvas, SPOT, 200);
    viewer.sees(SPOT, luma_of_grey(200)).await;
    let (sent, seen) = (agent.sender.stats(), viewer.receiver.stats());
    assert!(seen.key_frame_requests >= 1 && sent.key_frame_requests >= 1 && sent.key_frames > before, "{seen:?}");
    assert!(seen.packets_lost >= 2 && seen.frames_dropped >= 1 && seen.freezes >= 1, "{seen:?}");
    println!("the hole cost {} ms in {} freezes", seen.frozen_ms, seen.freezes);
}

struct Tape(mpsc::UnboundedSender<Option<ReceivedPacket>>);

impl PacketSink for Tape {
    fn packet(&mut self, packet: ReceivedPacket) {
        let _ = self.0.send(Some(packet));
    }

    fn reset(&mut self) {
        let _ = self.0.send(None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_packets_arrive_as_they_were_sent() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let (tape, mut heard) = mpsc::unbounded_channel();
    let config = ReceiverConfig { sound: Some(Box::new(Tape(tape))), ..ReceiverConfig::new(agent.url()) };
    let viewer = Viewer::start_with(config);
    viewer.sees(SPOT, luma_of_grey(60)).await;
    let outlet = agent.sender.sound_outlet();
    assert!(!outlet.is_idle());
    for i in 0..20u32 {
        let packet = OpusPacket { bytes: vec![0xfc, i as u8].into(), timestamp: 1_000 + i * 240, starts: i == 0 };
        assert_eq!(outlet.send(packet), 1);
    }
    let mut got: Vec<ReceivedPacket> = Vec::new();
    while got.len() < 20 {
        let next = tokio::time::timeout(Duration::from_secs(5), heard.recv()).await.expect("heard").expect("open");
        got.extend(next);
    }
    for (i, packet) in got.iter().enumerate() {
        assert_eq!((packet.timestamp, packet.payload.as_ref()), (1_000 + i as u32 * 240, &[0xfc, i as u8][..]));
        assert_eq!(packet.sequence, got[0].sequence.wrapping_add(i as u16));
        assert_eq!(packet.starts, i == 0);
    }
    drop(viewer);
    let end = tokio::time::timeout(Duration::from_secs(5), async { while heard.recv().await.flatten().is_some() {} });
    end.await.expect("told that the session is over");
    let started = Instant::now();
    while !outlet.is_idle() {
        assert!(started.elapsed() < Duration::from_secs(5), "the session still listens");
        tokio::task::yield_now().await;
    }
}
