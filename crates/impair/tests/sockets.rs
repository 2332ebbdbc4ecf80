//! The links on real sockets. Times have room for a busy machine above, none below.
#![allow(clippy::expect_used, reason = "a test: a panic is its message")]

use loco_impair::{Direction, Impairment, Network, Protocol};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);

fn udp() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let address = socket.local_addr().expect("an address");
    (socket, address)
}

/// Gives back what it gets, until the end of the connection.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut back = stream.try_clone().expect("a second handle");
                std::io::copy(&mut &stream, &mut back)
            });
        }
    });
    address
}

#[test]
fn datagrams_go_both_ways_late_and_apart() {
    let network = Network::start(1).expect("a network");
    let delayed = Impairment::default().with_delay(Duration::from_millis(30));
    let link = network.link(delayed.clone(), delayed);
    let (target, target_address) = udp();
    let entrance = link.udp(target_address).expect("a flow");
    let (one, _) = udp();
    let (two, _) = udp();
    let begun = Instant::now();
    one.send_to(b"one", entrance).expect("sent");
    two.send_to(b"two", entrance).expect("sent");
    let mut buffer = [0; 100];
    for _ in 0..2 {
        let (length, from) = target.recv_from(&mut buffer).expect("a datagram");
        assert!(begun.elapsed() >= Duration::from_millis(30), "{:?}", begun.elapsed());
        target.send_to(&buffer[..length], from).expect("answered");
    }
    for (socket, name) in [(&one, b"one"), (&two, b"two")] {
        let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
        assert_eq!((&buffer[..length], from), (&name[..], entrance), "everyone gets his own");
    }
    assert!(begun.elapsed() >= Duration::from_millis(60), "{:?}", begun.elapsed());
    assert_eq!((link.counters(Direction::Up).packets_out, link.counters(Direction::Down).packets_out), (2, 2));
}

#[test]
fn a_blocked_protocol_is_blocked_alone_and_until_it_is_not() {
    let network = Network::start(1).expect("a network");
    let link = network.link(Impairment::default(), Impairment::default());
    let (target, target_address) = udp();
    let entrance = link.udp(target_address).expect("a flow");
    let (caller, _) = udp();
    let mut stream = TcpStream::connect(link.tcp(echo()).expect("a flow")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut answer = [0; 5];
    link.block(Protocol::Udp, true);
    caller.send_to(b"lost", entrance).expect("sent");
    stream.write_all(b"hello").expect("written");
    stream.read_exact(&mut answer).expect("echoed while datagrams are blocked");
    link.block(Protocol::Udp, false);
    link.block(Protocol::Tcp, true);
    stream.write_all(b"later").expect("written");
    caller.send_to(b"seen", entrance).expect("sent");
    let mut buffer = [0; 100];
    let (length, _) = target.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(&buffer[..length], b"seen");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
    assert!(stream.read_exact(&mut answer).is_err(), "nothing comes through");
    link.block(Protocol::Tcp, false);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.read_exact(&mut answer).expect("what waited comes");
    assert_eq!(&answer, b"later");
    link.reset_connections();
    assert!(stream.read_exact(&mut answer).is_err(), "the connection is gone");
}

#[test]
fn a_connection_keeps_every_byte_through_loss_and_a_small_queue_and_fills_the_link() {
    let network = Network::start(1).expect("a network");
    let up = Impairment::rate(20_000_000, 60_000).with_delay(Duration::from_millis(2)).with_loss(0.005);
    let link = network.link(Impairment::default(), up);
    let mut stream = TcpStream::connect(link.tcp(echo()).expect("a flow")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
    let begun = Instant::now();
    let (mut writer, copy) = (stream.try_clone().expect("a second handle"), sent.clone());
    let writes = thread::spawn(move || {
        writer.write_all(&copy).expect("written");
        writer.shutdown(std::net::Shutdown::Write).expect("ended");
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("the whole stream and its end");
    writes.join().expect("the writer");
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    let (seconds, counters) = (begun.elapsed().as_secs_f64(), link.counters(Direction::Up));
    assert!(seconds >= 0.8, "2 MB at 20 Mbit/s: {seconds} s");
    assert!(counters.lost > 0 && counters.overflowed + counters.lost < 300, "{counters:?}");
}

#[test]
fn an_answers_candidates_lead_through_the_link_and_offers_have_none() {
    let network = Network::start(1).expect("a network");
    let link = network.link(Impairment::default(), Impairment::default());
    let (agent, agent_address) = udp();
    let port = agent_address.port();
    let candidate = format!("a=candidate:1 1 udp 1 127.0.0.1 {port} typ host\r\n");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let server = listener.local_addr().expect("an address");
    let body = candidate.clone();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 1000];
        let length = stream.read(&mut request).expect("a request");
        let answer = format!(
            "HTTP/1.1 201 Created\r\ncontent-type: application/sdp\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).expect("answered");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let mut stream = TcpStream::connect(link.http(server).expect("a flow")).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let offer = format!(
        "POST /whep HTTP/1.1\r\ncontent-type: application/sdp\r\ncontent-length: {}\r\n\r\n{candidate}",
        candidate.len()
    );
    stream.write_all(offer.as_bytes()).expect("offered");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the answer, and the server's end");
    let asked = served.join().expect("the server");
    assert!(asked.contains("content-length: 0") && !asked.contains("candidate"), "{asked}");
    let fields: Vec<&str> = answer.rsplit_once("\r\n\r\n").map(|(_, sdp)| sdp.split(' ').collect()).expect("a body");
    let entrance: SocketAddr = format!("{}:{}", fields[4], fields[5]).parse().expect("an address");
    assert_ne!(entrance.port(), port);
    let (viewer, _) = udp();
    viewer.send_to(b"stun", entrance).expect("sent");
    let mut buffer = [0; 10];
    assert_eq!(agent.recv_from(&mut buffer).expect("through the link").0, 4);
}
