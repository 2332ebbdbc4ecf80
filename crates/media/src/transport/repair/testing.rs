//! Packets for the tests of this folder.

use rtc::interceptor::{AttributedPacket, Packet, TaggedPacket};
use rtc::shared::TransportContext;
use std::time::Instant;

fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
    TaggedPacket { now, transport: TransportContext::default(), message: AttributedPacket::new(packet) }
}

/// A packet of stream 1.
pub(super) fn rtp(now: Instant, sequence: u16, timestamp: u32, marker: bool, payload: &[u8]) -> TaggedPacket {
    let mut packet = rtc::rtp::Packet::default();
    packet.header.version = 2;
    packet.header.ssrc = 1;
    packet.header.payload_type = 102;
    packet.header.sequence_number = sequence;
    packet.header.timestamp = timestamp;
    packet.header.marker = marker;
    packet.payload = bytes::Bytes::copy_from_slice(payload);
    tagged(now, Packet::Rtp(packet))
}

/// A compound RTCP packet.
pub(super) fn rtcp(now: Instant, packets: Vec<Box<dyn rtc::rtcp::Packet>>) -> TaggedPacket {
    tagged(now, Packet::Rtcp(packets))
}
