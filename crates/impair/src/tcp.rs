//! Connections through a link: the bytes of both ends, cut into segments that the link delays, loses and limits, with
//! TCP's own way of coping: window, retransmission, order.

use crate::http::Messages;
use crate::impairment::Direction;
use crate::link::Verdict;
use crate::reno::{Reno, SEGMENT};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// IPv4 and TCP headers, with timestamps.
const HEADERS: usize = 52;
/// Bytes that were read and not yet sent; more are left to the sender's own socket.
const MOST_PENDING: usize = 64 * 1024;
/// Before a segment is sent again at the least: a real sender needs three later ones to know.
const LEAST_AGAIN: Duration = Duration::from_millis(10);
/// And at the most.
const MOST_AGAIN: Duration = Duration::from_secs(1);

/// One segment on its way; its bytes are kept where it came from.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) connection: u64,
    /// Which piece of the stream.
    place: u64,
    /// Which transmission.
    number: u64,
}

/// A piece of the stream that is not acknowledged.
struct Piece {
    /// Empty: the end of the stream.
    bytes: Arc<[u8]>,
    losses: u32,
}

/// What a sender learns, once its time has come.
enum News {
    Arrived(u64),
    Lost(u64),
}

/// Where a stream's end is.
#[derive(PartialEq)]
enum End {
    NotYet,
    BehindOutgoing,
    Passed,
}

/// One direction of a connection.
pub(crate) struct Half {
    messages: Option<Messages>,
    pending: VecDeque<u8>,
    has_read_all: bool,
    end_is_sent: bool,
    reno: Reno,
    places: u64,
    pieces: BTreeMap<u64, Piece>,
    news: BTreeMap<(Duration, u64), News>,
    arrived: BTreeMap<u64, Arc<[u8]>>,
    next_place: u64,
    outgoing: VecDeque<u8>,
    end: End,
}

/// Where a half sends a segment: bytes on the wire, and which.
pub(crate) type Push<'a> = &'a mut dyn FnMut(usize, Segment) -> Verdict;

// === impl Half ===

impl Half {
    fn new(is_http: bool) -> Self {
        Self {
            messages: is_http.then(Messages::new),
            pending: VecDeque::new(),
            has_read_all: false,
            end_is_sent: false,
            reno: Reno::new(),
            places: 0,
            pieces: BTreeMap::new(),
            news: BTreeMap::new(),
            arrived: BTreeMap::new(),
            next_place: 1,
            outgoing: VecDeque::new(),
            end: End::NotYet,
        }
    }

    pub(crate) fn wants_to_read(&self) -> bool {
        // What was not written yet counts too: a slow reader slows the writer down.
        !self.has_read_all && self.pending.len() + self.outgoing.len() < MOST_PENDING
    }

    pub(crate) fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Reads what is there, descriptions in it after `change`.
    fn read(&mut self, mut from: &TcpStream, change: &mut dyn FnMut(&str) -> String) -> io::Result<()> {
        let (mut buffer, mut changed) = ([0; 16 * 1024], Vec::new());
        while self.wants_to_read() {
            match from.read(&mut buffer) {
                Ok(0) => self.has_read_all = true,
                Ok(length) => match &mut self.messages {
                    Some(messages) => {
                        changed.clear();
                        messages.push(&buffer[..length], &mut changed, change);
                        self.pending.extend(&changed);
                    }
                    None => self.pending.extend(&buffer[..length]),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends what the window allows, and again what was lost. `round_trip`: of the link without its queues.
    fn send(&mut self, connection: u64, now: Duration, round_trip: Duration, push: Push<'_>) {
        while let Some(first) = self.news.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, number), news) = first.remove_entry();
            match news {
                News::Arrived(place) => {
                    if let Some(piece) = self.pieces.remove(&place) {
                        self.reno.acknowledged(piece.bytes.len() + HEADERS);
                    }
                }
                News::Lost(place) => {
                    let Some(piece) = self.pieces.get_mut(&place) else { continue };
                    piece.losses += 1;
                    self.reno.lost(number, piece.bytes.len() + HEADERS);
                    self.transmit(connection, place, now, round_trip, push);
                }
            }
        }
        while self.reno.room() > HEADERS && (!self.pending.is_empty() || (self.has_read_all && !self.end_is_sent)) {
            let length = self.pending.len().min(SEGMENT);
            self.end_is_sent = length == 0;
            let bytes: Arc<[u8]> = self.pending.drain(..length).collect();
            self.places += 1;
            self.pieces.insert(self.places, Piece { bytes, losses: 0 });
            self.transmit(connection, self.places, now, round_trip, push);
        }
    }

    fn transmit(&mut self, connection: u64, place: u64, now: Duration, round_trip: Duration, push: Push<'_>) {
        let Some(piece) = self.pieces.get(&place) else { return };
        let bytes = piece.bytes.len() + HEADERS;
        let number = self.reno.sent(bytes);
        if push(bytes, Segment { connection, place, number }) != Verdict::Passes {
            let again = (round_trip.max(LEAST_AGAIN) * (1 << piece.losses.min(7))).min(MOST_AGAIN.max(round_trip));
            self.news.insert((now + again, number), News::Lost(place));
        }
    }

    /// A segment came through; its sender learns it `back` later.
    pub(crate) fn arrive(&mut self, segment: Segment, now: Duration, back: Duration) {
        self.news.insert((now + back, segment.number), News::Arrived(segment.place));
        let Some(piece) = self.pieces.get(&segment.place) else { return };
        if segment.place < self.next_place {
            return;
        }
        self.arrived.insert(segment.place, Arc::clone(&piece.bytes));
        while let Some(bytes) = self.arrived.remove(&self.next_place) {
            self.next_place += 1;
            self.outgoing.extend(bytes.iter());
            if bytes.is_empty() {
                self.end = End::BehindOutgoing;
            }
        }
    }

    fn write(&mut self, mut to: &TcpStream) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match to.write(self.outgoing.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => drop(self.outgoing.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.end == End::BehindOutgoing {
            self.end = End::Passed;
            // It may be gone already: then that is what was wanted.
            let _ = to.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

/// A caller's connection and ours to the target.
pub(crate) struct Connection {
    pub(crate) link: usize,
    /// Made to a candidate of an answer.
    pub(crate) is_for_ice: bool,
    pub(crate) caller: Arc<TcpStream>,
    pub(crate) target: Arc<TcpStream>,
    pub(crate) up: Half,
    pub(crate) down: Half,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(link: usize, caller: TcpStream, target: TcpStream, is_http: bool) -> io::Result<Self> {
        for stream in [&caller, &target] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        Ok(Self {
            link,
            is_for_ice: false,
            caller: Arc::new(caller),
            target: Arc::new(target),
            up: Half::new(is_http),
            down: Half::new(is_http),
        })
    }

    pub(crate) fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    /// Whether an end has something to read, as far as is known.
    pub(crate) fn may_read(&self, ready: &BTreeSet<RawFd>) -> bool {
        ready.contains(&self.caller.as_raw_fd()) || ready.contains(&self.target.as_raw_fd())
    }

    /// Reads both ends; `change` is told the direction of each description.
    pub(crate) fn read(&mut self, change: &mut dyn FnMut(Direction, &str) -> String) -> io::Result<()> {
        self.up.read(&self.caller, &mut |sdp| change(Direction::Up, sdp))?;
        self.down.read(&self.target, &mut |sdp| change(Direction::Down, sdp))
    }

    /// Sends one direction's bytes into the link.
    pub(crate) fn send(&mut self, id: u64, direction: Direction, now: Duration, round_trip: Duration, push: Push<'_>) {
        self.half(direction).send(id, now, round_trip, push);
    }

    /// Writes what came through to both ends.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        self.up.write(&self.target)?;
        self.down.write(&self.caller)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.up.end == End::Passed && self.down.end == End::Passed
    }

    /// When a sender learns something next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        let first = |half: &Half| half.news.first_key_value().map(|((at, _), _)| *at);
        first(&self.up).into_iter().chain(first(&self.down)).min()
    }

    /// Both ends see a reset instead of an end.
    pub(crate) fn reset(&self) {
        for stream in [&self.caller, &self.target] {
            // Refused for a dead socket: then there is nothing to reset.
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }
}
