//! A bad network on purpose.
//!
//! [`Link`] is one direction of a bottleneck: a queue of bytes drained at a rate, then delay, jitter, loss, reordering,
//! duplication. It knows no socket and no clock: who drives it says what time it is, so that simulators run minutes in
//! milliseconds, and the same seed gives the same fate to the same packets.
//!
//! [`Network`] runs such links on real sockets, in one thread that polls. Several flows may share one link, as nine
//! agents and a download share one line:
//!
//! - [`LinkHandle::udp`] forwards datagrams to a target, every client by a socket of its own, as a NAT does;
//! - [`LinkHandle::tcp`] carries connections, with a model of TCP's own congestion control in front of the link;
//! - [`LinkHandle::http`] is `tcp` that also reads the HTTP messages: each ICE candidate in an SDP answer is replaced by
//!   a flow through the same link, and the candidates of offers are left out, as if the viewer sat behind a NAT. So an
//!   unmodified viewer or browser and an unmodified agent pass through it: only the agent's address differs.

mod chance;
mod http;
mod impairment;
mod link;
mod network;
mod reno;
mod sdp;
mod series;
mod tcp;
mod udp;

pub use impairment::{Bursts, Direction, Impairment, Reordering};
pub use link::{Counters, Link, Verdict};
pub use network::{LinkHandle, Network, Protocol};
pub use reno::Reno;
pub use series::Sample;
