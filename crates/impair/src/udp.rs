//! Datagrams through a link.

use crate::impairment::Direction;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// IPv4 and UDP headers.
pub(crate) const HEADERS: usize = 28;
/// Largest datagram.
pub(crate) const MOST_DATAGRAM: usize = 65_536;
/// Callers of one flow; the one that was silent longest makes room.
const MOST_CALLERS: usize = 64;

/// One datagram on its way.
#[derive(Clone)]
pub(crate) struct Datagram {
    pub(crate) flow: u64,
    pub(crate) caller: SocketAddr,
    pub(crate) bytes: Arc<[u8]>,
}

struct Caller {
    /// What the target sees this caller as.
    socket: Arc<UdpSocket>,
    used: Duration,
}

/// Datagrams to one target, each caller by a socket of its own.
pub(crate) struct UdpFlow {
    pub(crate) link: usize,
    pub(crate) target: SocketAddr,
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) used: Duration,
    callers: BTreeMap<SocketAddr, Caller>,
}

// === impl UdpFlow ===

impl UdpFlow {
    pub(crate) fn bind(link: usize, target: SocketAddr, now: Duration) -> io::Result<Self> {
        let socket = UdpSocket::bind(loopback(true))?;
        socket.set_nonblocking(true)?;
        Ok(Self { link, target, socket: Arc::new(socket), used: now, callers: BTreeMap::new() })
    }

    /// Every socket, the one for callers first.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = Arc<UdpSocket>> {
        std::iter::once(Arc::clone(&self.socket)).chain(self.callers.values().map(|c| Arc::clone(&c.socket)))
    }

    /// Takes in what arrived on sockets that are `ready`.
    pub(crate) fn receive(
        &mut self,
        id: u64,
        ready: &BTreeSet<RawFd>,
        buffer: &mut [u8],
        now: Duration,
        take: &mut dyn FnMut(Direction, Datagram),
    ) {
        let is_ready = |socket: &UdpSocket| ready.contains(&socket.as_raw_fd());
        while is_ready(&self.socket)
            && let Some((length, caller)) = receive_from(&self.socket, buffer)
        {
            self.used = now;
            if self.socket_for(caller, now).is_ok() {
                take(Direction::Up, Datagram { flow: id, caller, bytes: buffer[..length].into() });
            }
        }
        for (caller, Caller { socket, .. }) in self.callers.iter().filter(|(_, caller)| is_ready(&caller.socket)) {
            while let Some((length, from)) = receive_from(socket, buffer) {
                if from == self.target {
                    take(Direction::Down, Datagram { flow: id, caller: *caller, bytes: buffer[..length].into() });
                }
            }
        }
    }

    /// Sends on what came through the link. What a full socket does not take is lost, as anywhere.
    pub(crate) fn deliver(&mut self, direction: Direction, datagram: &Datagram, now: Duration) {
        self.used = now;
        let _ = match direction {
            Direction::Up => match self.socket_for(datagram.caller, now) {
                Ok(socket) => socket.send_to(&datagram.bytes, self.target),
                Err(_) => return,
            },
            Direction::Down => self.socket.send_to(&datagram.bytes, datagram.caller),
        };
    }

    fn socket_for(&mut self, caller: SocketAddr, now: Duration) -> io::Result<Arc<UdpSocket>> {
        if let Some(known) = self.callers.get_mut(&caller) {
            known.used = now;
            return Ok(Arc::clone(&known.socket));
        }
        if self.callers.len() >= MOST_CALLERS
            && let Some(silent) = self.callers.iter().min_by_key(|(_, c)| c.used).map(|(address, _)| *address)
        {
            self.callers.remove(&silent);
        }
        let socket = UdpSocket::bind(loopback(self.target.is_ipv4()))?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(socket);
        self.callers.insert(caller, Caller { socket: Arc::clone(&socket), used: now });
        Ok(socket)
    }
}

/// A free port of loopback.
pub(crate) fn loopback(is_v4: bool) -> SocketAddr {
    let ip = if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
    SocketAddr::new(ip, 0)
}

/// The next datagram; an error of an earlier one (nobody listens there) is no reason to miss it.
fn receive_from(socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}
