//! The thread of a network rests while nothing can be done. Alone in its program: what it looks at is told by thread.
#![cfg(target_os = "linux")]
#![allow(clippy::expect_used, reason = "a test: a panic is its message")]

use loco_impair::{Direction, Impairment, Network, Protocol};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
/// Over which the thread is watched.
const WATCHED: Duration = Duration::from_millis(400);

/// How long the network's thread has run so far (Documentation/scheduler/sched-stats.rst).
fn ran() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads").flatten();
    let is_its = |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|n| n == "impair\n");
    let path = tasks.map(|task| task.path()).find(|path| is_its(path)).expect("the network's thread");
    let text = std::fs::read_to_string(path.join("schedstat")).expect("this kernel tells");
    let first = text.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    Duration::from_nanos(first.expect("a number"))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

#[test]
fn bytes_that_may_not_be_written_do_not_keep_it_busy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let network = Network::start(1).expect("a network");
    let delayed = Impairment::default().with_delay(Duration::from_millis(50));
    let link = network.link(delayed.clone(), delayed);
    let entrance = link.tcp(listener.local_addr().expect("an address")).expect("a flow");
    let mut caller = TcpStream::connect(entrance).expect("a connection");
    let (mut target, _) = listener.accept().expect("its other end");
    target.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    caller.write_all(b"hello").expect("written");
    wait_until("they are on the link", || link.counters(Direction::Up).packets_in > 0);
    link.block(Protocol::Tcp, true);
    wait_until("they came through it", || link.counters(Direction::Up).packets_out > 0);
    let before = ran();
    thread::sleep(WATCHED);
    let took = ran() - before;
    assert!(took < WATCHED / 4, "it ran for {took:?} of {WATCHED:?}");
    link.block(Protocol::Tcp, false);
    let mut got = [0; 5];
    target.read_exact(&mut got).expect("they come once they may");
    assert_eq!(&got, b"hello");
}
