//! A sender and receivers in one process, over real HTTP, ICE, DTLS and SRTP.

mod common;

use common::{Agent, SIZE, Viewer, fill, grey_canvas, luma_of_grey, paint};
use loco_media::{PortRange, SenderConfig, SessionInput, SessionState};
use loco_model::input::{Button, KeysEvent, Pointer};
use loco_model::{Key, Rect, Size};
use std::time::{Duration, Instant};

const SPOT: Rect = Rect::new(100, 100, 64, 64);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_and_are_close() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let viewer = Viewer::start(agent.url());
    let frame = viewer.sees(SPOT, luma_of_grey(60)).await;
    assert_eq!(frame.size(), SIZE);
    for value in [0, 90, 180, 255] {
        paint(&agent.canvas, SPOT, value);
        let frame = viewer.sees(SPOT, luma_of_grey(value)).await;
        assert!(common::luma(&frame, Rect::new(300, 300, 64, 64)).abs_diff(luma_of_grey(60)) <= 3);
    }
    let stats = viewer.receiver.stats();
    assert_eq!(stats.codec.as_deref(), Some("H264"));
    assert_eq!((stats.packets_lost, stats.frames_dropped, stats.freezes), (0, 0, 0));
    assert!(stats.frames_decoded >= 5 && stats.decode.p50_ms.is_some());
    let sent = agent.sender.stats();
    assert_eq!((sent.viewers, sent.key_frames, sent.fault), (1, 1, None));
    assert!(sent.bytes_sent > 0 && sent.wait.p50_ms.is_some());
    drop(viewer);
    let mut viewers = agent.sender.viewers();
    tokio::time::timeout(Duration::from_secs(5), viewers.wait_for(|n| *n == 0)).await.expect("gone").expect("alive");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resolution_may_change_mid_stream() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let viewer = Viewer::start(agent.url());
    viewer.sees(SPOT, luma_of_grey(60)).await;
    for (size, value) in [(Size::new(1024, 768), 120), (Size::new(800, 600), 30), (Size::new(720, 400), 200)] {
        fill(&agent.canvas, size, value);
        let frame = viewer.wait("the new size", |r| r.take_frame().filter(|frame| frame.size() == size)).await;
        assert!(common::luma(&frame, SPOT).abs_diff(luma_of_grey(value)) <= 8);
    }
    assert_eq!(viewer.receiver.stats().frames_dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_viewers_see_the_same_and_one_may_go() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let first = Viewer::start(agent.url());
    first.sees(SPOT, luma_of_grey(60)).await;
    let second = Viewer::start(agent.url());
    second.sees(SPOT, luma_of_grey(60)).await;
    paint(&agent.canvas, SPOT, 200);
    tokio::join!(first.sees(SPOT, luma_of_grey(200)), second.sees(SPOT, luma_of_grey(200)));
    assert_eq!(agent.sender.stats().viewers, 2);
    drop(first);
    let mut viewers = agent.sender.viewers();
    tokio::time::timeout(Duration::from_secs(5), viewers.wait_for(|n| *n == 1)).await.expect("gone").expect("alive");
    paint(&agent.canvas, SPOT, 20);
    second.sees(SPOT, luma_of_grey(20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_comes_through_once_and_a_lost_viewer_is_told() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let mut input = agent.sender.input().expect("the one consumer");
    assert!(agent.sender.input().is_none());
    let viewer = Viewer::start(agent.url());
    assert!(viewer.receiver.send_keys(KeysEvent::ReleaseAll).is_err(), "dropped while not connected");
    viewer.connected().await;
    let key = Key::from_evdev(30).expect("KeyA");
    let events = [
        KeysEvent::Key { key, pressed: true },
        KeysEvent::Wheel { x: 0, y: -1 },
        KeysEvent::Button { button: Button::Left, pressed: true, pointer: Pointer::Absolute { x: 1, y: 2 } },
        KeysEvent::Key { key, pressed: false },
    ];
    for event in events {
        viewer.receiver.send_keys(event).expect("connected");
    }
    for event in events {
        let (_, got) = input.recv().await.expect("input");
        assert_eq!(got, SessionInput::Keys(event));
    }
    let pointer = Pointer::Relative { sum_x: 5, sum_y: -5 };
    viewer.receiver.send_pointer(pointer).expect("connected");
    assert_eq!(input.recv().await.expect("input").1, SessionInput::Pointer(pointer));
    drop(viewer);
    let (_, last) = tokio::time::timeout(Duration::from_secs(5), input.recv()).await.expect("told").expect("input");
    assert_eq!(last, SessionInput::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_ports_are_said_and_come_free_again() {
    let port = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.local_addr().expect("an address").port()
    };
    let range = PortRange::try_new(port, port).expect("a range");
    let config = SenderConfig { rtc_ports: Some(range), ..SenderConfig::default() };
    let agent = Agent::start(config, grey_canvas(SIZE, 60)).await;
    let first = Viewer::start(agent.url());
    first.connected().await;
    let second = Viewer::start(agent.url());
    let reason = second
        .wait("a refusal", |receiver| match receiver.state() {
            SessionState::Retrying { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    assert!(reason.contains("503") && reason.contains(&range.to_string()), "{reason}");
    drop(first);
    second.connected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_comes_back_by_itself() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let (address, viewer) = (agent.address, Viewer::start(agent.url()));
    viewer.sees(SPOT, luma_of_grey(60)).await;
    let stopped = Instant::now();
    agent.stop().await;
    let reason = viewer
        .wait("the loss", |receiver| match receiver.state() {
            SessionState::Retrying { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    println!("loss noticed after {:?}: {reason}", stopped.elapsed());
    let restarted = Instant::now();
    let agent = Agent::start_at(address, SenderConfig::default(), grey_canvas(SIZE, 160)).await;
    viewer.sees(SPOT, luma_of_grey(160)).await;
    println!("picture back {:?} after the restart", restarted.elapsed());
    assert_eq!(viewer.receiver.stats().sessions, 2);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rates_change_live_and_suspending_stops_encoding() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let viewer = Viewer::start(agent.url());
    viewer.sees(SPOT, luma_of_grey(60)).await;
    agent.sender.set_bit_rate(500_000).expect("in range");
    agent.sender.set_frame_rate(10).expect("in range");
    let error = agent.sender.set_frame_rate(0).expect_err("no frames at all");
    assert!(error.to_string().contains("frame rate is 0"), "{error}");
    let before = agent.sender.stats().frames_encoded;
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    for i in 0..100u8 {
        tick.tick().await;
        paint(&agent.canvas, SPOT, i * 2);
    }
    let made = agent.sender.stats().frames_encoded - before;
    assert!((8..=16).contains(&made), "{made} frames in a second at 10 a second at most");
    agent.sender.set_suspended(true);
    let before = agent.sender.stats().frames_encoded;
    paint(&agent.canvas, SPOT, 255);
    let quiet = tokio::time::timeout(Duration::from_millis(300), viewer.sees(SPOT, luma_of_grey(255))).await;
    assert!(quiet.is_err() && agent.sender.stats().frames_encoded <= before + 1);
    agent.sender.set_suspended(false);
    viewer.sees(SPOT, luma_of_grey(255)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_encoder_begins_with_a_key_frame_and_a_cap_holds_whatever_is_set() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let viewer = Viewer::start(agent.url());
    viewer.sees(SPOT, luma_of_grey(60)).await;
    let usual = agent.sender.stats().ceiling;
    agent.sender.set_cap(Some(300_000)).expect("in range");
    agent.sender.set_bit_rate(5_000_000).expect("in range");
    assert_eq!(agent.sender.stats().ceiling, 300_000);
    agent.sender.set_bit_rate(200_000).expect("in range");
    assert_eq!(agent.sender.stats().ceiling, 200_000, "a cap never raises");
    agent.sender.set_bit_rate(usual).expect("in range");
    agent.sender.set_cap(None).expect("none is fine");
    assert_eq!(agent.sender.stats().ceiling, usual);
    assert!(agent.sender.set_cap(Some(1)).is_err());
    // The picture stands still: nothing but the order can make a frame.
    let keys = agent.sender.stats().key_frames;
    agent.sender.renew_encoders();
    viewer.wait("a new key frame", |_| (agent.sender.stats().key_frames > keys).then_some(())).await;
    paint(&agent.canvas, SPOT, 200);
    viewer.sees(SPOT, luma_of_grey(200)).await;
    viewer.wait("an idle encoder", |_| agent.sender.encoder_busy_for().is_none().then_some(())).await;
}
