//! The sender's answers to what the player asks for again (RFC 4585 section 6.2.1): the same packet, on the same stream.
//!
//! Bounded per packet, in age, and as a share of the rate: a queue that is full does not get fuller by it.
//!
//! Nothing shows the player that the *last* packet before a pause was lost: it is sent a second time, unasked, when none
//! follows it soon (a third time while loss is seen). A player that has it drops the copy before it counts.

use super::ask::Allowance;
use super::link::RepairLink;
use rtc::interceptor::{Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use rtc::shared::marshal::MarshalSize;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packets kept at most, and how long.
const MOST_PACKETS: usize = 1024;
const KEPT_FOR: Duration = Duration::from_secs(1);
/// Resends of one packet at most, and how far apart at least.
const MOST_RESENDS: u8 = 10;
const LEAST_APART: Duration = Duration::from_millis(4);
/// Resends take this share of the rate at most, over what may leave at once.
const SHARE: f64 = 0.5;
const LEAST_BYTES_PER_SECOND: f64 = 16_000.0;
const BYTES_AT_ONCE: f64 = 48_000.0;

/// The last packet before a pause is sent again so long after it.
const LAST_AGAIN: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

struct Sent {
    packet: rtc::rtp::Packet,
    at: Instant,
    resent: Option<Instant>,
    resends: u8,
}

/// The newest packets of one stream, their numbers without holes.
struct Stream {
    ssrc: u32,
    sent: VecDeque<Sent>,
    /// How often the last packet was sent again unasked.
    last_again: usize,
}

impl Stream {
    fn keep(&mut self, packet: &rtc::rtp::Packet, now: Instant) {
        let goes_on = self
            .sent
            .back()
            .is_none_or(|last| packet.header.sequence_number == last.packet.header.sequence_number.wrapping_add(1));
        if !goes_on {
            self.sent.clear();
        }
        while self.sent.len() >= MOST_PACKETS || self.sent.front().is_some_and(|old| old.at + KEPT_FOR < now) {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent { packet: packet.clone(), at: now, resent: None, resends: 0 });
        self.last_again = 0;
    }

    /// When the last packet is to be sent again.
    fn next(&self) -> Option<Instant> {
        Some(self.sent.back()?.at + *LAST_AGAIN.get(self.last_again)?)
    }

    fn find(&mut self, sequence: u16) -> Option<&mut Sent> {
        let first = self.sent.front()?.packet.header.sequence_number;
        self.sent.get_mut(usize::from(sequence.wrapping_sub(first)))
    }
}

/// Marks a packet that was sent again unasked: a player that has it already never reports it, so that it must not count as
/// on its way.
pub(in crate::transport) struct UnaskedCopy;

/// Keeps what was sent and sends it again.
pub(in crate::transport) struct Resender {
    link: Arc<RepairLink>,
    streams: Vec<Stream>,
    allowance: Allowance,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Resender {
    pub(in crate::transport) const fn new(link: Arc<RepairLink>) -> Self {
        Self {
            link,
            streams: Vec::new(),
            allowance: Allowance::new(BYTES_AT_ONCE),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
        }
    }

    fn repeat_last(&mut self, now: Instant) {
        let is_lossy = self.link.is_lossy(now);
        for stream in &mut self.streams {
            if stream.next().is_none_or(|at| at > now) {
                continue;
            }
            stream.last_again = if is_lossy { stream.last_again + 1 } else { LAST_AGAIN.len() };
            if let Some(last) = stream.sent.back() {
                let mut copy = again(&last.packet, now);
                copy.message.add(Attribute::Custom(Arc::new(UnaskedCopy)));
                self.writes.push_back(copy);
            }
        }
    }

    fn answer(&mut self, nack: &TransportLayerNack, now: Instant) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == nack.media_ssrc) else { return };
        let bytes_per_second = (f64::from(self.link.rate()) / 8.0 * SHARE).max(LEAST_BYTES_PER_SECOND);
        let (mut asked, mut refused, mut lost) = (0, 0, false);
        for pair in &nack.nacks {
            let more = (0..16u16).filter(|bit| pair.lost_packets >> bit & 1 == 1).map(|bit| bit + 1);
            for sequence in std::iter::once(0).chain(more).map(|more| pair.packet_id.wrapping_add(more)) {
                asked += 1;
                let sent = stream.find(sequence);
                // One that is not sent yet is not lost either.
                lost |= sent.is_some();
                let sent = sent.filter(|sent| {
                    sent.resends < MOST_RESENDS
                        && sent.at + KEPT_FOR >= now
                        && sent.resent.is_none_or(|at| at + LEAST_APART <= now)
                });
                let Some(sent) = sent else {
                    refused += 1;
                    continue;
                };
                let bytes = sent.packet.marshal_size();
                if !self.allowance.take(bytes as f64, bytes_per_second, BYTES_AT_ONCE, now) {
                    refused += 1;
                    continue;
                }
                sent.resends += 1;
                sent.resent = Some(now);
                self.link.count_resent(bytes);
                self.writes.push_back(again(&sent.packet, now));
            }
        }
        self.link.count_asked(asked, refused);
        if lost {
            self.link.saw_loss(now);
        }
    }
}

fn again(packet: &rtc::rtp::Packet, now: Instant) -> TaggedPacket {
    let message = AttributedPacket::new(Packet::Rtp(packet.clone())).with(Attribute::Retransmission);
    TaggedPacket { now, transport: TransportContext::default(), message }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Resender {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet {
            for nack in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>()) {
                self.answer(nack, message.now);
            }
        }
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &message.message.packet
            && let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == packet.header.ssrc)
        {
            stream.keep(packet, message.now);
        }
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.repeat_last(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.streams.iter().filter_map(Stream::next).min()
    }
}

impl Interceptor for Resender {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        // Sound is concealed instead: a resend would come after its turn.
        if info.rtcp_feedback.iter().any(|feedback| feedback.typ == "nack" && feedback.parameter.is_empty()) {
            self.streams.retain(|stream| stream.ssrc != info.ssrc);
            self.streams.push(Stream { ssrc: info.ssrc, sent: VecDeque::new(), last_again: 0 });
        }
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.streams.retain(|stream| stream.ssrc != info.ssrc);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rtcp, rtp};
    use super::*;
    use rtc::interceptor::RTCPFeedback;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers;

    const BYTES: usize = 1_000;

    fn bed() -> (Resender, Arc<RepairLink>, Instant) {
        let link = Arc::new(RepairLink::new(800_000));
        let mut resender = Resender::new(Arc::clone(&link));
        let nack = RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
        resender.bind_local_stream(&StreamInfo { ssrc: 1, rtcp_feedback: vec![nack], ..StreamInfo::default() });
        (resender, link, Instant::now())
    }

    fn send(resender: &mut Resender, now: Instant, sequences: impl Iterator<Item = u16>) {
        for sequence in sequences {
            resender.handle_write(rtp(now, sequence, 0, false, &[0; BYTES - 12])).expect("written");
            assert!(resender.poll_write().is_some(), "passes at once");
        }
    }

    fn ask(resender: &mut Resender, now: Instant, sequences: &[u16]) -> Vec<u16> {
        let nacks = nack_pairs_from_sequence_numbers(sequences);
        let nack = TransportLayerNack { sender_ssrc: 0, media_ssrc: 1, nacks };
        resender.handle_read(rtcp(now, vec![Box::new(nack)])).expect("read");
        let resent = std::iter::from_fn(|| resender.poll_write());
        resent
            .map(|message| match message.message.packet {
                Packet::Rtp(ref packet) if message.message.has(&Attribute::Retransmission) => {
                    packet.header.sequence_number
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_is_asked_for_is_sent_again_across_the_wrap() {
        let (mut resender, link, now) = bed();
        send(&mut resender, now, (0..100).map(|i: u16| i.wrapping_sub(50)));
        assert_eq!(ask(&mut resender, now, &[65_534, 65_535, 0, 1, 49]), [65_534, 65_535, 0, 1, 49]);
        assert!(ask(&mut resender, now, &[50, 65_000]).is_empty(), "never sent");
        let counts = link.counts();
        assert_eq!((counts.asked, counts.resent, counts.refused), (7, 5, 2));
        assert_eq!(counts.resent_bytes, 5 * BYTES as u64);
        assert!(link.is_lossy(now));
    }

    #[test]
    fn resends_are_bounded_per_packet_and_in_age() {
        let (mut resender, _, now) = bed();
        send(&mut resender, now, 0..2);
        let every_ms = |resender: &mut Resender| {
            (0..200).map(|ms| ask(resender, now + Duration::from_millis(ms), &[0]).len()).sum::<usize>()
        };
        assert_eq!(every_ms(&mut resender), usize::from(MOST_RESENDS));
        assert!(ask(&mut resender, now + KEPT_FOR * 2, &[1]).is_empty(), "too old");
    }

    #[test]
    fn resends_are_bounded_by_the_rate() {
        let (mut resender, link, start) = bed();
        send(&mut resender, start, 0..500);
        let mut resent = 0;
        for ms in 0..1_000u64 {
            let now = start + Duration::from_millis(ms);
            let sequences: Vec<u16> = (0..500).filter(|i| u64::from(*i) % 100 == ms % 100).collect();
            resent += ask(&mut resender, now, &sequences).len();
        }
        let most = (BYTES_AT_ONCE + 800_000.0 / 8.0 * SHARE) as usize / BYTES;
        assert!((most - 2..=most + 1).contains(&resent), "{resent} of at most {most}");
        link.set_rate(0);
        let later = start + KEPT_FOR;
        assert!(ask(&mut resender, later, &(0..500).collect::<Vec<_>>()).len() <= 2, "little where there is none");
    }

    #[test]
    fn the_last_packet_before_a_pause_is_sent_again() {
        let (mut resender, link, start) = bed();
        let pause = |resender: &mut Resender, from: Instant| {
            let mut at = Vec::new();
            while let Some(due) = resender.poll_timeout() {
                resender.handle_timeout(due).expect("timeout");
                let Some(message) = resender.poll_write() else { panic!("a timer for nothing") };
                let Packet::Rtp(packet) = message.message.packet else { panic!("no RTP") };
                at.push(((due - from).as_millis(), packet.header.sequence_number));
            }
            at
        };
        assert_eq!(resender.poll_timeout(), None);
        send(&mut resender, start, 0..3);
        assert_eq!(pause(&mut resender, start), [(50, 2)]);
        // A stream that goes on needs none.
        for frame in 0..30u16 {
            let now = start + Duration::from_millis(33 * u64::from(frame));
            send(&mut resender, now, 3 + frame..4 + frame);
            resender.handle_timeout(now).expect("timeout");
            assert!(resender.poll_write().is_none());
        }
        let last = start + Duration::from_millis(33 * 29);
        link.saw_loss(last);
        assert_eq!(pause(&mut resender, last), [(50, 32), (200, 32)]);
        assert_eq!(resender.poll_timeout(), None, "a still stream has no timer");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut resender, _, now) = bed();
        send(&mut resender, now, (0..5_000).map(|i| i as u16));
        assert_eq!(resender.streams[0].sent.len(), MOST_PACKETS);
        send(&mut resender, now, 9_000..9_001);
        assert_eq!(resender.streams[0].sent.len(), 1, "numbers with a hole are another stream");
    }
}
