//! Frame parity: while loss is seen and there is room, or on a long path at first, a FlexFEC packet (draft-ietf-payload-flexible-fec-scheme-03)
//! closes each frame, so that one lost packet of it costs no round trip.
//!
//! Its stream has an SSRC and a payload type of its own, which exist only where the player's offer has `flexfec-03`:
//! any other player gets no such packet.

use super::link::RepairLink;
use rtc::interceptor::{Attribute, AttributedPacket, FlexFec03Encoder, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A large frame gets one parity packet for so many packets; the format's masks end at 109.
const MOST_PACKETS: usize = 40;

struct Protected {
    ssrc: u32,
    encoder: FlexFec03Encoder,
    /// Packets of the frame that is being sent.
    block: Vec<rtc::rtp::Packet>,
}

/// Closes frames with parity.
pub(in crate::transport) struct FrameParity {
    link: Arc<RepairLink>,
    stream: Option<Protected>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl FrameParity {
    pub(in crate::transport) const fn new(link: Arc<RepairLink>) -> Self {
        Self { link, stream: None, reads: VecDeque::new(), writes: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for FrameParity {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let (now, transport) = (message.now, message.transport);
        let mut closes = false;
        if let (Packet::Rtp(packet), Some(stream)) = (&message.message.packet, &mut self.stream)
            && packet.header.ssrc == stream.ssrc
            && !message.message.has(&Attribute::Retransmission)
        {
            if self.link.wants_parity(now) {
                stream.block.push(packet.clone());
                closes = packet.header.marker || stream.block.len() >= MOST_PACKETS;
            } else {
                stream.block.clear();
            }
        }
        self.writes.push_back(message);
        if let (true, Some(stream)) = (closes, &mut self.stream) {
            for packet in stream.encoder.encode(&stream.block, 1) {
                self.link.count_parity(packet.marshal_size());
                let message = AttributedPacket::new(Packet::Rtp(packet));
                self.writes.push_back(TaggedPacket { now, transport, message });
            }
            stream.block.clear();
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for FrameParity {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if let (Some(ssrc), Some(payload_type)) = (info.ssrc_fec, info.payload_type_fec) {
            let encoder = FlexFec03Encoder::new(payload_type, ssrc).with_base_sequence_number(rand::random());
            self.stream = Some(Protected { ssrc: info.ssrc, encoder, block: Vec::with_capacity(MOST_PACKETS) });
        }
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.stream.take_if(|stream| stream.ssrc == info.ssrc);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::super::testing::rtp;
    use super::*;
    use rtc::interceptor::FlexFec03Decoder;

    const PARITY_SSRC: u32 = 9;

    fn bed() -> (FrameParity, Arc<RepairLink>, Instant) {
        let link = Arc::new(RepairLink::new(800_000));
        let mut parity = FrameParity::new(Arc::clone(&link));
        parity.bind_local_stream(&StreamInfo {
            ssrc: 1,
            ssrc_fec: Some(PARITY_SSRC),
            payload_type_fec: Some(49),
            ..StreamInfo::default()
        });
        (parity, link, Instant::now())
    }

    fn send(parity: &mut FrameParity, now: Instant, first: u16, packets: u16) -> Vec<rtc::rtp::Packet> {
        for i in 0..packets {
            let payload = vec![i as u8; 10 + usize::from(i)];
            parity.handle_write(rtp(now, first.wrapping_add(i), 7, i + 1 == packets, &payload)).expect("written");
        }
        let sent = std::iter::from_fn(|| parity.poll_write());
        sent.map(|message| match message.message.packet {
            Packet::Rtp(packet) => packet,
            other => panic!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn frames_are_closed_only_while_loss_is_seen_and_there_is_room() {
        let (mut parity, link, now) = bed();
        assert_eq!(send(&mut parity, now, 0, 5).len(), 5);
        link.saw_loss(now);
        let sent = send(&mut parity, now, 5, 5);
        assert_eq!(sent.iter().map(|packet| packet.header.ssrc).collect::<Vec<_>>(), [1, 1, 1, 1, 1, PARITY_SSRC]);
        link.allow_parity(false);
        assert_eq!(send(&mut parity, now, 10, 5).len(), 5);
        link.allow_parity(true);
        assert_eq!(send(&mut parity, now, 15, 1).len(), 2);
        assert_eq!(link.counts().parity, 2);
        assert_eq!(send(&mut parity, now, 16, 100).len(), 100 + 3, "one for 40 packets");
    }

    #[test]
    fn any_one_packet_of_a_frame_is_rebuilt() {
        for lost in 0..6usize {
            let (mut parity, link, now) = bed();
            link.saw_loss(now);
            let sent = send(&mut parity, now, 65_533, 6);
            let mut decoder = FlexFec03Decoder::new(PARITY_SSRC, 1);
            let arrived = sent.iter().enumerate().filter(|(i, _)| *i != lost).map(|(_, packet)| packet.clone());
            let rebuilt: Vec<_> = arrived.flat_map(|packet| decoder.decode(packet)).collect();
            assert_eq!(rebuilt, [sent[lost].clone()]);
        }
    }

    #[test]
    fn resends_are_not_part_of_a_frame() {
        let (mut parity, link, now) = bed();
        link.saw_loss(now);
        let mut resend = rtp(now, 3, 7, true, &[1]);
        resend.message.add(Attribute::Retransmission);
        parity.handle_write(resend).expect("written");
        assert!(parity.poll_write().is_some() && parity.poll_write().is_none());
    }

    #[test]
    fn a_player_without_parity_gets_none() {
        let link = Arc::new(RepairLink::new(800_000));
        let mut parity = FrameParity::new(Arc::clone(&link));
        parity.bind_local_stream(&StreamInfo { ssrc: 1, ssrc_fec: Some(9), ..StreamInfo::default() });
        let now = Instant::now();
        link.saw_loss(now);
        assert_eq!(send(&mut parity, now, 0, 5).len(), 5);
    }
}
