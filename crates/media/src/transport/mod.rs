//! WebRTC, and all that knows its crate's types: nothing else in the house names them.
//!
//! A [`Peer`] is one connection. The sender's end answers ([`Peer::answer`]), the receiver's end offers
//! ([`Peer::offer`]); both tell what happens as [`PeerEvent`]s.
//!
//! Congestion control comes in as interceptors (`engine::registry` says where) and as a gate before the encoder; ICE over
//! TCP and relays are further addresses of the peer's sockets ([`path`]).

mod congestion;
mod engine;
mod interceptors;
mod outbound;
mod path;
mod peer;
mod repair;
mod sockets;

pub(crate) use congestion::{RateLink, Told};
pub(crate) use engine::{VideoCodec, offered_media};
pub(crate) use outbound::{Payloads, RtpOut};
pub(crate) use peer::{Channel, InboundRtp, Peer, PeerEvent, PeerOptions, RtpIn};
pub(crate) use repair::{Repair, RepairLink, RepairLog, RepairedCounts};

pub(crate) use sockets::Traffic;

/// Most bytes of an RTP payload: with headers, extensions, SRTP and UDP it stays below 1280, the least MTU of IPv6, also
/// inside a parity packet, which has up to 60 bytes of its own around it.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1140;
