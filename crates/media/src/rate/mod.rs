//! How much a session may send: pure, without clock or socket. Times are microseconds of any one clock, rates bits a
//! second.
//!
//! A [`Flow`] is one session: it is told what left and what the other end reported (transport-wide feedback, every
//! 10 ms), estimates what the path carries ([`Flow::target`]), and says whether another frame may be made now
//! ([`Flow::gate`]). [`plan`] makes one decision for one encoder out of the flows of all its viewers.
//!
//! In short: delay first. The queue is what a packet took longer than the quickest of the last 10 s; where even the
//! quickest of 100 ms is late, the rate falls below what arrives. Loss counts only above what the path loses anyway.
//! Where the queue stays although the rate fell, somebody else fills it, and the rate follows loss as theirs does.
//! Growth needs proof: never beyond twice what arrived, and quick only where the packets of a frame arrive faster than
//! the rate asks.

mod classic;
mod estimator;
mod flow;
mod loss;
pub(crate) mod plan;
mod rival;
#[cfg(test)]
mod sim;
mod trains;
mod windows;

pub(crate) use flow::{Flow, Gate, State};

/// A millisecond.
const MS: u64 = 1_000;
/// Bytes of a full packet, for what is counted in packets.
const PACKET_BYTES: f64 = 1_200.0;
/// No estimate falls below this, in bits a second: a few small frames a second always get through.
pub(crate) const FLOOR: u32 = 60_000;
/// Where an estimate starts; the first seconds correct it. Most links carry this, and those that do not are found out
/// within a round trip.
const START: u32 = 1_000_000;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrived at this time of the other end's clock.
    Arrived(u64),
    /// The other end says that it did not come.
    Lost,
    /// Nothing is known (the report itself was lost), or it came and its time is unknown.
    Unknown,
}

/// One sent packet and its fate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// Number of the transmission: grows by one each, wraps.
    pub(crate) number: u16,
    /// When it left.
    pub(crate) departed_us: u64,
    /// Its bytes.
    pub(crate) bytes: u32,
    /// What became of it.
    pub(crate) fate: Fate,
}
