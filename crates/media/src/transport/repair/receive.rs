//! The receiver's repair: rebuilds packets from parity, asks for what is missing, and tells how each was repaired.

use super::ask::{Arrival, Asker};
use parking_lot::Mutex;
use rtc::interceptor::{Attribute, AttributedPacket, FlexFec03Decoder, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Repaired packets that nobody took yet.
const MOST_MARKS: usize = 512;
/// The rebuilder is let go of when no parity came for so long.
const PARITY_MEMORY: Duration = Duration::from_secs(10);

/// How a packet that the path lost came after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// It was sent again.
    Resent,
    /// It was rebuilt from parity.
    Rebuilt,
}

/// What the chain and the session share at the receiver's end.
#[derive(Debug, Default)]
pub(crate) struct RepairLog {
    /// The newest repaired packets by number.
    marks: Mutex<VecDeque<(u16, Repair)>>,
    asked: AtomicU64,
    resent: AtomicU64,
    rebuilt: AtomicU64,
    /// Microseconds; 0: unknown.
    round_trip_us: AtomicU64,
}

/// What a receiver's repair did since the session began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepairedCounts {
    /// Packets asked for again, each asking counted.
    pub(crate) asked: u64,
    /// Packets that came after they were asked for.
    pub(crate) resent: u64,
    /// Packets rebuilt from parity.
    pub(crate) rebuilt: u64,
}

impl RepairLog {
    /// How the packet of that number was repaired, if it was; told once.
    pub(crate) fn take(&self, sequence: u16) -> Option<Repair> {
        let mut marks = self.marks.lock();
        let at = marks.iter().position(|(number, _)| *number == sequence)?;
        marks.remove(at).map(|(_, repair)| repair)
    }

    fn mark(&self, sequence: u16, repair: Repair) {
        let counter = if repair == Repair::Resent { &self.resent } else { &self.rebuilt };
        counter.fetch_add(1, Relaxed);
        let mut marks = self.marks.lock();
        if marks.len() >= MOST_MARKS {
            marks.pop_front();
        }
        marks.push_back((sequence, repair));
    }

    /// The path's round trip, where something else measured it.
    pub(crate) fn set_round_trip(&self, round_trip: Option<Duration>) {
        self.round_trip_us.store(round_trip.map_or(0, |time| time.as_micros() as u64), Relaxed);
    }

    pub(crate) fn counts(&self) -> RepairedCounts {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        RepairedCounts { asked: read(&self.asked), resent: read(&self.resent), rebuilt: read(&self.rebuilt) }
    }
}

/// Rebuilds packets while parity comes.
struct Rebuilder {
    decoder: FlexFec03Decoder,
    seen: Instant,
}

struct Stream {
    ssrc: u32,
    parity_ssrc: Option<u32>,
    asker: Asker,
    rebuilder: Option<Rebuilder>,
}

/// Repairs the one video stream.
pub(in crate::transport) struct Repairer {
    log: Arc<RepairLog>,
    /// Names us in what we ask.
    own_ssrc: u32,
    stream: Option<Stream>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Repairer {
    pub(in crate::transport) fn new(log: Arc<RepairLog>) -> Self {
        Self { log, own_ssrc: rand::random(), stream: None, reads: VecDeque::new(), writes: VecDeque::new() }
    }

    fn ask(&mut self, now: Instant) {
        let Some(stream) = &mut self.stream else { return };
        if stream.asker.next().is_none_or(|due| due > now) {
            return;
        }
        let path = match self.log.round_trip_us.load(Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        };
        let due = stream.asker.due(path, now);
        if due.is_empty() {
            return;
        }
        self.log.asked.fetch_add(due.len() as u64, Relaxed);
        let nacks = nack_pairs_from_sequence_numbers(due);
        let nack = TransportLayerNack { sender_ssrc: self.own_ssrc, media_ssrc: stream.ssrc, nacks };
        let message = AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)]));
        self.writes.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
    }
}

impl Stream {
    /// Tells how it came, where it was lost.
    fn arrived(&mut self, packet: &rtc::rtp::Packet, log: &RepairLog, now: Instant) {
        let sequence = packet.header.sequence_number;
        if self.asker.packet(sequence, packet.header.timestamp, packet.header.marker, now) == Arrival::Asked {
            log.mark(sequence, Repair::Resent);
        }
    }

    /// Gives a packet of either stream to the rebuilder; what it rebuilds.
    fn rebuild(&mut self, packet: &rtc::rtp::Packet, log: &RepairLog, now: Instant) -> Vec<rtc::rtp::Packet> {
        if self.rebuilder.as_ref().is_some_and(|rebuilder| rebuilder.seen + PARITY_MEMORY < now) {
            self.rebuilder = None;
        }
        let is_parity = Some(packet.header.ssrc) == self.parity_ssrc;
        let rebuilder = match (&mut self.rebuilder, self.parity_ssrc) {
            (Some(rebuilder), _) => rebuilder,
            (none, Some(parity_ssrc)) if is_parity => {
                none.insert(Rebuilder { decoder: FlexFec03Decoder::new(parity_ssrc, self.ssrc), seen: now })
            }
            _ => return Vec::new(),
        };
        if is_parity {
            rebuilder.seen = now;
        }
        // Only what is missing: one that came late meanwhile needs no second copy.
        let mut rebuilt = rebuilder.decoder.decode(packet.clone());
        rebuilt.retain(|packet| {
            let header = &packet.header;
            let is_missing = self.asker.repaired(header.sequence_number, header.timestamp, header.marker, now);
            if is_missing {
                log.mark(header.sequence_number, Repair::Rebuilt);
            }
            is_missing
        });
        rebuilt
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Repairer {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        let (now, transport) = (message.now, message.transport);
        let Some(stream) = &mut self.stream else {
            self.reads.push_back(message);
            return Ok(());
        };
        let rebuilt = match &message.message.packet {
            Packet::Rtp(packet) if packet.header.ssrc == stream.ssrc => {
                stream.arrived(packet, &self.log, now);
                let rebuilt = stream.rebuild(packet, &self.log, now);
                self.reads.push_back(message);
                rebuilt
            }
            Packet::Rtp(packet) if Some(packet.header.ssrc) == stream.parity_ssrc => {
                let rebuilt = stream.rebuild(packet, &self.log, now);
                stream.asker.parity(now);
                rebuilt
            }
            _ => {
                self.reads.push_back(message);
                return Ok(());
            }
        };
        for packet in rebuilt {
            let message = AttributedPacket::new(Packet::Rtp(packet)).with(Attribute::RecoveredByFec);
            self.reads.push_back(TaggedPacket { now, transport, message });
        }
        self.ask(now);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.ask(now);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.stream.as_ref().and_then(|stream| stream.asker.next())
    }
}

impl Interceptor for Repairer {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        let can_ask = info.rtcp_feedback.iter().any(|f| f.typ == "nack" && f.parameter.is_empty());
        // The parity's stream is bound too, under the name of the codec that it protects.
        let is_parity = self.stream.as_ref().is_some_and(|stream| stream.parity_ssrc == Some(info.ssrc));
        if can_ask && !is_parity {
            let parity_ssrc = info.ssrc_fec.filter(|_| info.payload_type_fec.is_some());
            self.stream = Some(Stream { ssrc: info.ssrc, parity_ssrc, asker: Asker::new(), rebuilder: None });
        }
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.stream.take_if(|stream| stream.ssrc == info.ssrc);
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::RepairLink;
    use super::super::parity::FrameParity;
    use super::super::testing::rtp;
    use super::*;
    use rtc::interceptor::RTCPFeedback;

    const MS: Duration = Duration::from_millis(1);

    struct Bed {
        parity: FrameParity,
        repairer: Repairer,
        log: Arc<RepairLog>,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let (now, link, log) = (Instant::now(), Arc::new(RepairLink::new(1_000_000)), Arc::<RepairLog>::default());
            link.saw_loss(now);
            let (mut parity, mut repairer) = (FrameParity::new(link), Repairer::new(Arc::clone(&log)));
            let nack = RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
            let info = StreamInfo {
                ssrc: 1,
                ssrc_fec: Some(9),
                payload_type_fec: Some(49),
                rtcp_feedback: vec![nack.clone()],
                ..StreamInfo::default()
            };
            parity.bind_local_stream(&info);
            repairer.bind_remote_stream(&info);
            repairer.bind_remote_stream(&StreamInfo { ssrc: 9, rtcp_feedback: vec![nack], ..StreamInfo::default() });
            Self { parity, repairer, log, now }
        }

        /// A frame's packets and its parity.
        fn frame(&mut self, first: u16, packets: u16) -> Vec<TaggedPacket> {
            for i in 0..packets {
                let message = rtp(self.now, first + i, u32::from(first), i + 1 == packets, &[i as u8; 20]);
                self.parity.handle_write(message).expect("written");
            }
            std::iter::from_fn(|| self.parity.poll_write()).collect()
        }

        fn arrive(&mut self, mut message: TaggedPacket) {
            message.now = self.now;
            self.repairer.handle_read(message).expect("read");
        }

        fn read(&mut self) -> Vec<u16> {
            let out = std::iter::from_fn(|| self.repairer.poll_read());
            out.map(|message| match message.message.packet {
                Packet::Rtp(packet) => {
                    assert_eq!(packet.header.ssrc, 1, "parity is not media");
                    packet.header.sequence_number
                }
                other => panic!("{other:?}"),
            })
            .collect()
        }

        fn asked(&mut self) -> bool {
            self.repairer.poll_write().is_some()
        }
    }

    #[test]
    fn one_lost_packet_of_a_frame_is_rebuilt_and_not_asked_for() {
        let mut bed = Bed::new();
        for message in bed.frame(10, 4) {
            bed.arrive(message);
        }
        assert_eq!(bed.read(), [10, 11, 12, 13]);
        for (i, message) in bed.frame(14, 4).into_iter().enumerate() {
            if i != 1 {
                bed.arrive(message);
            }
        }
        assert_eq!(bed.read(), [14, 16, 17, 15]);
        assert!(!bed.asked() && bed.repairer.poll_timeout().is_none());
        assert_eq!((bed.log.take(15), bed.log.take(15), bed.log.take(14)), (Some(Repair::Rebuilt), None, None));
        assert_eq!(bed.log.counts(), RepairedCounts { asked: 0, resent: 0, rebuilt: 1 });
    }

    #[test]
    fn the_last_packet_is_rebuilt_though_nothing_shows_that_it_is_missing() {
        let mut bed = Bed::new();
        for message in bed.frame(10, 2) {
            bed.arrive(message);
        }
        let mut frame = bed.frame(12, 3);
        frame.remove(2);
        for message in frame {
            bed.arrive(message);
        }
        assert_eq!(bed.read(), [10, 11, 12, 13, 14]);
        // It goes on from there.
        let next = bed.frame(15, 1).remove(0);
        bed.arrive(next);
        assert!(!bed.asked() && bed.repairer.poll_timeout().is_none());
    }

    #[test]
    fn two_lost_packets_are_asked_for_when_the_parity_is_there() {
        let mut bed = Bed::new();
        for message in bed.frame(10, 1) {
            bed.arrive(message);
        }
        let mut frame = bed.frame(11, 5);
        let mut lost = frame.drain(1..3).collect::<Vec<_>>().into_iter();
        let parity = frame.pop().expect("the parity");
        for message in frame {
            bed.arrive(message);
        }
        assert!(!bed.asked());
        bed.arrive(parity);
        assert!(bed.asked());
        bed.now += MS * 20;
        bed.arrive(lost.next().expect("12"));
        assert_eq!(bed.read(), [10, 11, 14, 15, 12, 13], "the resend lets the parity rebuild the other");
        assert_eq!((bed.log.take(12), bed.log.take(13)), (Some(Repair::Resent), Some(Repair::Rebuilt)));
        bed.arrive(lost.next().expect("13"));
        assert_eq!(bed.read(), [13], "a second copy passes and does no harm");
        assert_eq!(bed.repairer.poll_timeout(), None);
    }

    #[test]
    fn marks_are_bounded() {
        let log = RepairLog::default();
        for sequence in 0..2_000 {
            log.mark(sequence, Repair::Resent);
        }
        assert_eq!(log.marks.lock().len(), MOST_MARKS);
    }
}
