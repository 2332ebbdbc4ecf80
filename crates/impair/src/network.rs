//! Links on real sockets: one thread that polls.

use crate::impairment::{Direction, Impairment};
use crate::link::{Counters, Link};
use crate::sdp::map_candidates;
use crate::series::Sample;
use crate::tcp::{Connection, Segment};
use crate::udp::{Datagram, HEADERS, MOST_DATAGRAM, UdpFlow, loopback};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Flows that answers made, per link; the one that was silent longest makes room.
const MOST_FLOWS: usize = 256;
/// A target on this computer answers at once or not at all.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);

/// What carries a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Connections, HTTP included.
    Tcp,
    /// Only the connections that carry media: those to a candidate of an answer.
    IceTcp,
}

/// What is on a link.
#[derive(Clone)]
enum Item {
    Datagram(Datagram),
    Segment(Segment),
}

struct Pair {
    down: Link<Item>,
    up: Link<Item>,
    udp_is_blocked: bool,
    tcp_is_blocked: bool,
    ice_tcp_is_blocked: bool,
}

impl Pair {
    fn way(&mut self, direction: Direction) -> &mut Link<Item> {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }

    fn blocks(&self, connection: &Connection) -> bool {
        self.tcp_is_blocked || (self.ice_tcp_is_blocked && connection.is_for_ice)
    }

    fn delay(&self) -> Duration {
        self.down.impairment().delay + self.up.impairment().delay
    }
}

/// Where connections come in.
struct Listener {
    link: usize,
    target: SocketAddr,
    socket: Arc<TcpListener>,
    is_http: bool,
    /// Made for a candidate of an answer.
    is_for_ice: bool,
}

#[derive(Default)]
struct Flows {
    udp: BTreeMap<u64, UdpFlow>,
    listeners: Vec<Listener>,
    ids: u64,
}

impl Flows {
    fn udp(&mut self, link: usize, target: SocketAddr, now: Duration) -> io::Result<SocketAddr> {
        let flow = UdpFlow::bind(link, target, now)?;
        let address = flow.socket.local_addr()?;
        self.ids += 1;
        self.udp.insert(self.ids, flow);
        Ok(address)
    }

    fn tcp(&mut self, link: usize, target: SocketAddr, is_http: bool, is_for_ice: bool) -> io::Result<SocketAddr> {
        let socket = TcpListener::bind(loopback(true))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        self.listeners.push(Listener { link, target, socket: Arc::new(socket), is_http, is_for_ice });
        Ok(address)
    }

    /// The way to a candidate: the one that is there, or a new one.
    fn lead_to_candidate(
        &mut self,
        link: usize,
        protocol: Protocol,
        target: SocketAddr,
        now: Duration,
    ) -> io::Result<SocketAddr> {
        match protocol {
            Protocol::Udp => {
                let mut own = self.udp.iter().filter(|(_, flow)| flow.link == link);
                if let Some((_, flow)) = own.clone().find(|(_, flow)| flow.target == target) {
                    return flow.socket.local_addr();
                }
                if own.clone().count() >= MOST_FLOWS {
                    let oldest = own.by_ref().min_by_key(|(_, flow)| flow.used).map(|(id, _)| *id);
                    oldest.and_then(|id| self.udp.remove(&id));
                }
                self.udp(link, target, now)
            }
            Protocol::Tcp | Protocol::IceTcp => {
                let is_own = |listener: &&Listener| listener.link == link && listener.is_for_ice;
                if let Some(listener) = self.listeners.iter().filter(is_own).find(|l| l.target == target) {
                    return listener.socket.local_addr();
                }
                if self.listeners.iter().filter(is_own).count() >= MOST_FLOWS
                    && let Some(oldest) = self.listeners.iter().position(|l| is_own(&l))
                {
                    self.listeners.remove(oldest);
                }
                self.tcp(link, target, false, true)
            }
        }
    }
}

struct State {
    epoch: Instant,
    seed: u64,
    links: Vec<Pair>,
    flows: Flows,
    connections: BTreeMap<u64, Connection>,
    buffer: Vec<u8>,
    stops: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: UnixStream,
}

impl Shared {
    /// The thread looks again.
    fn wake(&self) {
        // A full pipe wakes it too.
        let _ = (&self.wake).write(&[0]);
    }
}

/// A thread with links on sockets of loopback. Everything ends with it.
pub struct Network {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// One link of a [`Network`], both directions.
#[derive(Clone)]
pub struct LinkHandle {
    shared: Arc<Shared>,
    link: usize,
}

// === impl Network ===

impl Network {
    /// Starts the thread. Each link's chance follows from `seed` and from its number.
    ///
    /// # Errors
    /// When the system gives no thread or no socket pair.
    pub fn start(seed: u64) -> io::Result<Self> {
        let (wake, waked) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waked.set_nonblocking(true)?;
        let state = State {
            epoch: Instant::now(),
            seed,
            links: Vec::new(),
            flows: Flows::default(),
            connections: BTreeMap::new(),
            buffer: vec![0; MOST_DATAGRAM],
            stops: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("impair".to_owned()).spawn(move || run(&theirs, &waked))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A new link that impairs each direction so.
    #[must_use]
    pub fn link(&self, down: Impairment, up: Impairment) -> LinkHandle {
        let mut state = self.shared.state.lock();
        let link = state.links.len();
        let seed = state.seed.wrapping_add(2 * link as u64 + 1);
        state.links.push(Pair {
            down: Link::new(down, seed),
            up: Link::new(up, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            udp_is_blocked: false,
            tcp_is_blocked: false,
            ice_tcp_is_blocked: false,
        });
        LinkHandle { shared: Arc::clone(&self.shared), link }
    }

    /// Time on the links' clock, as in [`Sample::at`].
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.state.lock().epoch.elapsed()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.shared.state.lock().stops = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It broke: the tests that it carried say so.
            let _ = thread.join();
        }
    }
}

// === impl LinkHandle ===

impl LinkHandle {
    /// Datagrams sent to the returned address come out at `target`, and its answers back.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn udp(&self, target: SocketAddr) -> io::Result<SocketAddr> {
        self.change(|state, now| state.flows.udp(self.link, target, now))
    }

    /// Connections to the returned address lead to `target`.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn tcp(&self, target: SocketAddr) -> io::Result<SocketAddr> {
        self.change(|state, _| state.flows.tcp(self.link, target, false, false))
    }

    /// Connections to the returned address lead to `target`, which speaks HTTP there; the media that its answers in SDP
    /// promise goes through this link too.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn http(&self, target: SocketAddr) -> io::Result<SocketAddr> {
        self.change(|state, _| state.flows.tcp(self.link, target, true, false))
    }

    /// Changes one direction, from now on.
    pub fn set(&self, direction: Direction, impairment: Impairment) {
        self.change(|state, now| state.links[self.link].way(direction).set(now, impairment));
    }

    /// What one direction does now.
    #[must_use]
    pub fn impairment(&self, direction: Direction) -> Impairment {
        self.shared.state.lock().links[self.link].way(direction).impairment().clone()
    }

    /// Blocks a protocol in both directions, or lets it pass again: datagrams vanish, bytes of connections wait.
    pub fn block(&self, protocol: Protocol, blocked: bool) {
        self.change(|state, _| match protocol {
            Protocol::Udp => state.links[self.link].udp_is_blocked = blocked,
            Protocol::Tcp => state.links[self.link].tcp_is_blocked = blocked,
            Protocol::IceTcp => state.links[self.link].ice_tcp_is_blocked = blocked,
        });
    }

    /// Resets every connection that is open now.
    pub fn reset_connections(&self) {
        self.change(|state, _| {
            state.connections.retain(|_, connection| {
                let stays = connection.link != self.link;
                if !stays {
                    connection.reset();
                }
                stays
            });
        });
    }

    /// What happened in one direction so far.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> Counters {
        self.change(|state, now| state.links[self.link].way(direction).counters(now))
    }

    /// The same in every tenth of a second, at most an hour back.
    #[must_use]
    pub fn series(&self, direction: Direction) -> Vec<Sample> {
        self.change(|state, now| state.links[self.link].way(direction).series(now))
    }

    fn change<R>(&self, change: impl FnOnce(&mut State, Duration) -> R) -> R {
        let mut state = self.shared.state.lock();
        let now = state.epoch.elapsed();
        let result = change(&mut state, now);
        drop(state);
        self.shared.wake();
        result
    }
}

/// A socket that is polled.
enum Polled {
    Datagrams(Arc<UdpSocket>),
    Connections(Arc<TcpListener>),
    Bytes(Arc<TcpStream>, PollFlags),
}

/// The thread.
fn run(shared: &Shared, waked: &UnixStream) {
    let mut polled: Vec<Polled> = Vec::new();
    let mut ready = BTreeSet::new();
    loop {
        polled.clear();
        let next = {
            let mut state = shared.state.lock();
            if state.stops {
                return;
            }
            let next = state.work(&ready);
            state.polled(&mut polled);
            next.map(|at| at.saturating_sub(state.epoch.elapsed()))
        };
        let mut descriptors = vec![PollFd::new(waked, PollFlags::IN)];
        descriptors.extend(polled.iter().map(|polled| match polled {
            Polled::Datagrams(socket) => PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            Polled::Connections(socket) => PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            Polled::Bytes(socket, wanted) => PollFd::from_borrowed_fd(socket.as_fd(), *wanted),
        }));
        let timeout = next.and_then(|wait| Timespec::try_from(wait).ok());
        // A signal ends the wait early: then there is a look too many.
        let _ = poll(&mut descriptors, timeout.as_ref());
        ready.clear();
        let told = descriptors.iter().filter(|descriptor| !descriptor.revents().is_empty());
        ready.extend(told.map(|descriptor| descriptor.as_fd().as_raw_fd()));
        while matches!((&mut &*waked).read(&mut [0; 64]), Ok(length) if length > 0) {}
    }
}

// === impl State ===

impl State {
    /// Moves everything as far as it goes; returns when there is more to do.
    fn work(&mut self, ready: &BTreeSet<RawFd>) -> Option<Duration> {
        let now = self.epoch.elapsed();
        self.accept(ready);
        self.receive(ready, now);
        // A segment that arrives may let the next one be sent, which may arrive at once: until nothing moves.
        while self.deliver() {}
        let Self { links, connections, .. } = self;
        let of_links = links.iter().flat_map(|pair| [pair.down.next_at(), pair.up.next_at()]).flatten();
        let unblocked = connections.values().filter(|connection| !links[connection.link].blocks(connection));
        of_links.chain(unblocked.filter_map(Connection::next_at)).min()
    }

    fn accept(&mut self, ready: &BTreeSet<RawFd>) {
        for listener in self.flows.listeners.iter().filter(|l| ready.contains(&l.socket.as_raw_fd())) {
            while let Ok((caller, _)) = listener.socket.accept() {
                // Nobody there: the caller sees its connection end.
                let Ok(target) = TcpStream::connect_timeout(&listener.target, CONNECT_WITHIN) else { continue };
                if let Ok(mut connection) = Connection::new(listener.link, caller, target, listener.is_http) {
                    connection.is_for_ice = listener.is_for_ice;
                    self.flows.ids += 1;
                    self.connections.insert(self.flows.ids, connection);
                }
            }
        }
    }

    fn receive(&mut self, ready: &BTreeSet<RawFd>, now: Duration) {
        let Self { links, flows, connections, buffer, .. } = self;
        for (id, flow) in &mut flows.udp {
            let pair = &mut links[flow.link];
            flow.receive(*id, ready, buffer, now, &mut |direction, datagram| {
                if !pair.udp_is_blocked {
                    pair.way(direction).push(now, datagram.bytes.len() + HEADERS, Item::Datagram(datagram));
                }
            });
        }
        connections.retain(|_, connection| {
            let link = connection.link;
            if !connection.may_read(ready) {
                return true;
            }
            let read = connection.read(&mut |direction, sdp| {
                map_candidates(sdp, &mut |protocol, target| match direction {
                    // As behind a NAT: the other end learns the caller's address from its first packet.
                    Direction::Up => None,
                    Direction::Down => flows.lead_to_candidate(link, protocol, target, now).ok(),
                })
            });
            if read.is_err() {
                connection.reset();
            }
            read.is_ok()
        });
    }

    /// Takes from the links what has arrived, and sends what may be sent; whether anything arrived.
    fn deliver(&mut self) -> bool {
        let now = self.epoch.elapsed();
        let Self { links, flows, connections, .. } = self;
        let mut moved = false;
        for pair in &mut *links {
            for direction in [Direction::Down, Direction::Up] {
                let back = match direction {
                    Direction::Down => pair.up.impairment().delay,
                    Direction::Up => pair.down.impairment().delay,
                };
                let udp_passes = !pair.udp_is_blocked;
                while let Some(item) = pair.way(direction).pop(now) {
                    match item {
                        Item::Datagram(datagram) => {
                            if let Some(flow) = flows.udp.get_mut(&datagram.flow).filter(|_| udp_passes) {
                                flow.deliver(direction, &datagram, now);
                            }
                        }
                        Item::Segment(segment) => {
                            if let Some(connection) = connections.get_mut(&segment.connection) {
                                moved = true;
                                connection.half(direction).arrive(segment, now, back);
                            }
                        }
                    }
                }
            }
        }
        connections.retain(|id, connection| {
            let pair = &mut links[connection.link];
            if pair.blocks(connection) {
                return true;
            }
            let round_trip = pair.delay();
            for direction in [Direction::Down, Direction::Up] {
                let way = pair.way(direction);
                connection.send(*id, direction, now, round_trip, &mut |bytes, segment| {
                    way.push(now, bytes, Item::Segment(segment))
                });
            }
            let written = connection.write();
            if written.is_err() {
                connection.reset();
            }
            written.is_ok() && !connection.is_done()
        });
        moved
    }

    fn polled(&self, polled: &mut Vec<Polled>) {
        polled.extend(self.flows.udp.values().flat_map(UdpFlow::sockets).map(Polled::Datagrams));
        polled.extend(self.flows.listeners.iter().map(|listener| Polled::Connections(Arc::clone(&listener.socket))));
        for connection in self.connections.values() {
            let flags = |reads: bool, writes: bool| {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, reads);
                flags.set(PollFlags::OUT, writes);
                flags
            };
            let (up, down) = (&connection.up, &connection.down);
            // Nothing is written while it is blocked: a socket that is ready for it would be told over and over.
            let writes = !self.links[connection.link].blocks(connection);
            let of_caller = flags(up.wants_to_read(), writes && down.wants_to_write());
            let of_target = flags(down.wants_to_read(), writes && up.wants_to_write());
            for (socket, wanted) in [(&connection.caller, of_caller), (&connection.target, of_target)] {
                // Without a wish it would still tell of a hang-up, over and over.
                if !wanted.is_empty() {
                    polled.push(Polled::Bytes(Arc::clone(socket), wanted));
                }
            }
        }
    }
}
