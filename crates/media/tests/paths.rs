//! The ways between a sender and a receiver, through a network that loses them one after the other.

#![allow(clippy::expect_used, reason = "a test bed that does not stand fails its test")]

mod common;

use common::{Agent, Rewrite, SIZE, Viewer, grey_canvas, luma_of_grey, paint};
use loco_impair::{Direction, Impairment, LinkHandle, Network, Protocol};
use loco_media::stats::PathKind;
use loco_media::{PortRange, ReceiverConfig, RelayServer, SenderConfig, SessionInput};
use loco_model::Rect;
use loco_model::input::KeysEvent;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
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

/// Debian's coturn, alone for this test.
struct Relay {
    process: std::process::Child,
    server: RelayServer,
    _folder: tempfile::TempDir,
}

impl Relay {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
        let config = folder.path().join("turn.conf");
        let log = folder.path().join("turn.log");
        let text = format!(
            "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={port}\nallow-loopback-peers\nlt-cred-mech\n\
             user=loco:secret\nrealm=loco\nno-tls\nno-dtls\nno-cli\nno-tcp\nlog-file={}\nsimple-log\npidfile={}\n\
             userdb={}\n",
            log.display(),
            folder.path().join("pid").display(),
            folder.path().join("db").display(),
        );
        std::fs::write(&config, text).expect("written");
        let process = std::process::Command::new("turnserver")
            .arg("-c")
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("coturn is installed: cargo xtask setup");
        let probe = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        probe.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        // A STUN binding request (RFC 8489 section 5) until it answers.
        let mut request = [0u8; 20];
        request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        let deadline = Instant::now() + Duration::from_secs(20);
        while probe.send_to(&request, ("127.0.0.1", port)).is_err() || probe.recv(&mut [0; 200]).is_err() {
            assert!(Instant::now() < deadline, "coturn does not answer: {:?}", std::fs::read_to_string(&log));
        }
        let server = RelayServer {
            url: format!("turn:127.0.0.1:{port}?transport=udp"),
            user: "loco".to_owned(),
            password: "secret".to_owned(),
            only: true,
        };
        Self { process, server, _folder: folder }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_does_not_reach_the_agent_keeps_nobody_from_tcp() {
    let relay = Relay::start();
    // The agent does not learn of the relay, whose own way to it is blocked as all UDP is: it answers for itself alone.
    let without_relay: Rewrite =
        Arc::new(|offer| offer.split_inclusive('\n').filter(|line| !line.contains("typ relay")).collect());
    let listen = "127.0.0.1:0".parse().expect("an address");
    let canvas = grey_canvas(SIZE, 60);
    let agent =
        Agent::start_between(listen, SenderConfig::default(), canvas, without_relay, Arc::new(|answer| answer)).await;
    let (_network, link, url) = behind(agent.address);
    link.block(Protocol::Udp, true);
    let server = RelayServer { only: false, ..relay.server.clone() };
    let viewer = Viewer::start_with(ReceiverConfig { relay: Some(server), ..ReceiverConfig::new(url) });
    let seen = viewer.sees(SPOT, luma_of_grey(60));
    tokio::pin!(seen);
    // As a viewer does that shows the statistics.
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = &mut seen => break,
            _ = tick.tick() => drop(viewer.receiver.stats()),
        }
    }
    path_of(&viewer, PathKind::Tcp).await;
    assert_eq!(viewer.receiver.stats().sessions_accepted, 1, "at the first attempt");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_alone_carries_picture_and_keys() {
    let relay = Relay::start();
    let agent = Agent::start(SenderConfig::default(), grey_canvas(SIZE, 60)).await;
    let mut input = agent.sender.input().expect("the one consumer");
    let network = Network::start(1).expect("a network");
    let link = network.link(Impairment::default(), Impairment::default());
    // Only HTTP and the relay are left.
    let url = format!("http://{}/whep", link.http(agent.address).expect("a way"));
    link.block(Protocol::Udp, true);
    link.block(Protocol::IceTcp, true);
    let begun = Instant::now();
    let config = ReceiverConfig { relay: Some(relay.server.clone()), ..ReceiverConfig::new(url) };
    let viewer = Viewer::start_with(config);
    viewer.sees(SPOT, luma_of_grey(60)).await;
    println!("picture by relay after {:?}", begun.elapsed());
    path_of(&viewer, PathKind::Relayed).await;
    paint(&agent.canvas, SPOT, 200);
    viewer.sees(SPOT, luma_of_grey(200)).await;
    viewer.receiver.send_keys(KeysEvent::ReleaseAll).expect("connected");
    assert_eq!(input.recv().await.expect("input").1, SessionInput::Keys(KeysEvent::ReleaseAll));
    agent.stop().await;
}
