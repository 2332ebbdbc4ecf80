//! The ways between a sender and a receiver, through a network that loses them one after the other.

mod common;

use common::{Agent, SIZE, Viewer, grey_canvas, luma_of_grey, paint};
use loco_impair::{Direction, Impairment, LinkHandle, Network, Protocol};
use loco_media::stats::PathKind;
use loco_media::{PortRange, SenderConfig, SessionInput};
use loco_model::Rect;
use loco_model::input::KeysEvent;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SPOT: Rect = Rect::new(100, 100, 64, 64);

/// A link in front of `agent`, and the viewer's way through it.
fn behind(agent: SocketAddr) -> (Network, LinkHandle, String) {
    let network = Network::start(1).expect("a network");
    let link = network.link(Impairment::default(), Impairment::default());
    let url = format!("http://{}/whep", link.http(agent).expect("a way"));
    (network, link, url)
}

async fn path_of(viewer: &Viewer, kind: PathKind) {
    viewer.wait("the path", |receiver| receiver.stats().path.filter(|path| path.kind == kind)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_alone_carries_picture_and_keys_on_the_same_port() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let range = PortRange::try_new(port, port).expect("a range");
    let config = SenderConfig { rtc_ports: Some(range), ..SenderConfig::default() };
    let agent = Agent::start(config, grey_canvas(SIZE, 60)).await;
    let mut input = agent.sender.input().expect("the one consumer");
    let (_network, link, url) = behind(agent.address);
    link.block(Protocol::Udp, true);
    let begun = Instant::now();
    let viewer = Viewer::start(url);
    viewer.sees(SPOT, luma_of_grey(60)).await;
    println!("picture by TCP after {:?}", begun.elapsed());
    path_of(&viewer, PathKind::Tcp).await;
    paint(&agent.canvas, SPOT, 200);
    viewer.sees(SPOT, luma_of_grey(200)).await;
    viewer.receiver.send_keys(KeysEvent::ReleaseAll).expect("connected");
    assert_eq!(input.recv().await.expect("input").1, SessionInput::Keys(KeysEvent::ReleaseAll));
    let told = viewer.receiver.stats().path.expect("a path");
    println!("{told:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_is_preferred_and_tcp_takes_over_in_the_same_session() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let (_network, link, url) = behind(agent.address);
    let viewer = Viewer::start(url);
    viewer.sees(SPOT, luma_of_grey(60)).await;
    path_of(&viewer, PathKind::Udp).await;
    // A moving picture: its end is noticed.
    let mut tick = tokio::time::interval(Duration::from_millis(30));
    for i in 0..30u8 {
        tick.tick().await;
        paint(&agent.canvas, SPOT, i * 8);
    }
    link.block(Protocol::Udp, true);
    let blocked = Instant::now();
    let mut value = 0u8;
    let moved = viewer.wait("the path", |receiver| receiver.stats().path.filter(|path| path.kind == PathKind::Tcp));
    tokio::pin!(moved);
    loop {
        tokio::select! {
            path = &mut moved => break println!("{path:?} after {:?}", blocked.elapsed()),
            _ = tick.tick() => {
                drop(viewer.receiver.take_frame());
                value = value.wrapping_add(8);
                paint(&agent.canvas, SPOT, value);
            }
        }
    }
    paint(&agent.canvas, SPOT, 222);
    viewer.sees(SPOT, luma_of_grey(222)).await;
    println!("picture after {:?}", blocked.elapsed());
    let stats = viewer.receiver.stats();
    assert_eq!((stats.sessions, stats.path_changes), (1, 1));
    assert!(blocked.elapsed() < Duration::from_secs(5), "{:?}", blocked.elapsed());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_loses_a_third_and_mixes_the_rest_is_not_given_up() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let (_network, link, url) = behind(agent.address);
    let viewer = Viewer::start(url);
    viewer.sees(SPOT, luma_of_grey(60)).await;
    let bad = Impairment::default()
        .with_delay(Duration::from_millis(10))
        .with_loss(0.3)
        .with_reordering(0.1, Duration::from_millis(15))
        .with_duplication(0.1);
    link.set(Direction::Down, bad.clone());
    link.set(Direction::Up, bad);
    let mut tick = tokio::time::interval(Duration::from_millis(33));
    for i in 0..180u8 {
        tick.tick().await;
        paint(&agent.canvas, SPOT, i);
    }
    link.set(Direction::Down, Impairment::default());
    link.set(Direction::Up, Impairment::default());
    paint(&agent.canvas, SPOT, 222);
    viewer.sees(SPOT, luma_of_grey(222)).await;
    let stats = viewer.receiver.stats();
    println!("{} of 180 frames, {} key frames asked for", stats.frames_decoded, stats.key_frame_requests);
    assert_eq!((stats.sessions, stats.path_changes), (1, 0));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_comes_back_is_used_within_a_second() {
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let (_network, link, url) = behind(agent.address);
    let viewer = Viewer::start(url);
    viewer.sees(SPOT, luma_of_grey(60)).await;
    link.block(Protocol::Udp, true);
    link.block(Protocol::Tcp, true);
    let mut tick = tokio::time::interval(Duration::from_millis(33));
    // Something to miss.
    for i in 0..60u8 {
        tick.tick().await;
        paint(&agent.canvas, SPOT, i);
        if i % 5 == 0 {
            let _ = viewer.receiver.send_keys(KeysEvent::ReleaseAll);
        }
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    paint(&agent.canvas, SPOT, 222);
    let back = Instant::now();
    link.block(Protocol::Udp, false);
    link.block(Protocol::Tcp, false);
    viewer.sees(SPOT, luma_of_grey(222)).await;
    println!("picture {:?} after the network came back, {} sessions", back.elapsed(), viewer.receiver.stats().sessions);
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
    agent.stop().await;
}
