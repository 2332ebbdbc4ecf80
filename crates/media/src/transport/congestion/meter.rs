//! The sender's end of transport-wide feedback: what left, what of it arrived, and when.

use super::is_numbered;
use super::link::RateLink;
use crate::clock::VIDEO_CLOCK_HZ;
use crate::rate::{Fate, Report};
use crate::transport::repair::UnaskedCopy;
use parking_lot::Mutex;
use rtc::interceptor::{
    BandwidthEstimator, CongestionControlBuilder, CongestionControlInterceptor, Interceptor, Packet, PacketReport,
    StreamInfo, TaggedPacket,
};
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc::rtp::extension::transport_cc_extension::TransportCcExtension;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::marshal::{MarshalSize, Unmarshal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

type Outcome = Result<(), Error>;

/// No report is being read.
const NONE: u32 = u32::MAX;

/// The crate's history of what was sent, feeding the session's [`RateLink`].
pub(in crate::transport) struct Meter {
    inner: CongestionControlInterceptor<Adaptor>,
    link: Arc<RateLink>,
    /// First number of the report that is being read, or [`NONE`].
    first: Arc<AtomicU32>,
    /// SSRC and extension of the numbered stream. There is one: video.
    stream: Option<(u32, u8)>,
    /// SSRC of the video, numbered or not.
    video: Option<u32>,
}

impl Meter {
    pub(in crate::transport) fn new(link: Arc<RateLink>) -> Self {
        let first = Arc::new(AtomicU32::new(NONE));
        let adaptor = Adaptor {
            link: Arc::clone(&link),
            first: Arc::clone(&first),
            scratch: Mutex::default(),
            seen: Seen::new(),
        };
        Self { inner: CongestionControlBuilder::new(adaptor).build(), link, first, stream: None, video: None }
    }

    /// The number of a packet that gets one.
    fn number(&self, packet: &rtc::rtp::Packet) -> Option<u16> {
        let (ssrc, id) = self.stream?;
        let mut extension = packet.header.get_extension(id).filter(|_| packet.header.ssrc == ssrc)?;
        TransportCcExtension::unmarshal(&mut extension).ok().map(|extension| extension.transport_sequence)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Meter {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Outcome {
        if let Packet::Rtcp(packets) = &message.message.packet {
            let report = packets.iter().find_map(|packet| packet.as_any().downcast_ref::<TransportLayerCc>());
            self.first.store(report.map_or(NONE, |report| u32::from(report.base_sequence_number)), Relaxed);
            let reports = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<ReceiverReport>());
            for report in reports.flat_map(|report| &report.reports).filter(|report| Some(report.ssrc) == self.video) {
                self.link.receiver_report(f64::from(report.fraction_lost) / 256.0);
            }
        }
        self.inner.handle_read(message)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_read()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Outcome {
        if let Packet::Rtp(packet) = &message.message.packet
            && let Some(number) = self.number(packet)
            && message.message.custom::<UnaskedCopy>().is_none()
        {
            self.link.sent(message.now, number, packet.marshal_size() as u32);
        }
        self.inner.handle_write(message)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Outcome {
        self.inner.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.inner.poll_timeout()
    }
}

impl Interceptor for Meter {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if info.clock_rate == VIDEO_CLOCK_HZ {
            self.video.get_or_insert(info.ssrc);
        }
        // Streams without numbers would pile up in the history: nothing ever reports them.
        if is_numbered(info) {
            let id = info.rtp_header_extensions.iter().find(|extension| extension.uri == super::TWCC_URI);
            self.stream = id.and_then(|extension| u8::try_from(extension.id).ok()).map(|id| (info.ssrc, id));
            self.inner.bind_local_stream(info);
        }
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.unbind_local_stream(info);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// Our estimator as the crate wants one.
struct Adaptor {
    link: Arc<RateLink>,
    first: Arc<AtomicU32>,
    scratch: Mutex<Vec<Report>>,
    seen: Seen,
}

impl BandwidthEstimator for Adaptor {
    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        let first = self.first.load(Relaxed);
        let scratch = self.scratch.get_mut();
        scratch.clear();
        for report in reports.iter().filter(|report| report.is_twcc) {
            let fate = match report.arrival {
                _ if !report.arrived => {
                    // Named by no report at all: the report was lost, not the packet.
                    let named = first == NONE || report.twcc_sequence_number.wrapping_sub(first as u16) < 1 << 15;
                    // A second copy of a packet that came is dropped by SRTP before it is counted.
                    if named && !self.seen.contains(report.rtp_sequence_number) {
                        self.link.saw_loss(now);
                        Fate::Lost
                    } else {
                        Fate::Unknown
                    }
                }
                Some(at) => {
                    self.seen.add(report.rtp_sequence_number);
                    Fate::Arrived(at.as_micros() as u64)
                }
                None => {
                    self.seen.add(report.rtp_sequence_number);
                    Fate::Unknown
                }
            };
            scratch.push(Report {
                number: report.twcc_sequence_number,
                departed_us: self.link.us(report.departure),
                bytes: report.size as u32,
                fate,
            });
        }
        self.link.reported(now, scratch);
    }

    fn target_bitrate(&self) -> f64 {
        self.link.target()
    }
}

/// RTP numbers that arrived, of the last half of all numbers.
struct Seen {
    bits: Box<[u64; 1024]>,
}

impl Seen {
    fn new() -> Self {
        Self { bits: Box::new([0; 1024]) }
    }

    fn add(&mut self, number: u16) {
        let opposite = number.wrapping_add(1 << 15);
        self.bits[usize::from(number) / 64] |= 1 << (number % 64);
        self.bits[usize::from(opposite) / 64] &= !(1 << (opposite % 64));
    }

    fn contains(&self, number: u16) -> bool {
        self.bits[usize::from(number) / 64] & 1 << (number % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::repair::RepairLink;
    use super::*;
    use rtc::interceptor::{AttributedPacket, RTPHeaderExtension, TwccReceiverBuilder, TwccSenderBuilder};
    use rtc::shared::TransportContext;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
        TaggedPacket { now, transport: TransportContext::default(), message: AttributedPacket::new(packet) }
    }

    fn stream() -> StreamInfo {
        let extension = RTPHeaderExtension { uri: super::super::TWCC_URI.to_owned(), id: 5 };
        StreamInfo { ssrc: 1, clock_rate: 90_000, rtp_header_extensions: vec![extension], ..StreamInfo::default() }
    }

    /// A sender's numbers and meter, and a receiver's reports.
    struct Bed {
        numbers: rtc::interceptor::TwccSenderInterceptor,
        meter: Meter,
        reports: super::super::Reports,
        link: Arc<RateLink>,
        repair: Arc<RepairLink>,
    }

    impl Bed {
        fn new() -> Self {
            let repair = Arc::new(RepairLink::new(1_000_000));
            let link = Arc::new(RateLink::new(2_000_000, Arc::clone(&repair)));
            let mut bed = Self {
                numbers: TwccSenderBuilder::new().build(),
                meter: Meter::new(Arc::clone(&link)),
                reports: super::super::Reports::new(TwccReceiverBuilder::new().with_interval(MS * 10).build()),
                link,
                repair,
            };
            bed.numbers.bind_local_stream(&stream());
            bed.meter.bind_local_stream(&stream());
            bed.reports.bind_remote_stream(&stream());
            bed
        }

        /// A packet leaves at `now`.
        fn send(&mut self, now: Instant, sequence: u16) -> TaggedPacket {
            let mut packet = rtc::rtp::Packet::default();
            (packet.header.version, packet.header.ssrc, packet.header.sequence_number) = (2, 1, sequence);
            packet.payload = vec![0; 1_000].into();
            self.numbers.handle_write(tagged(now, Packet::Rtp(packet))).expect("numbered");
            let numbered = self.numbers.poll_write().expect("numbered");
            self.meter.handle_write(numbered).expect("metered");
            self.meter.poll_write().expect("passed on")
        }

        fn arrive(&mut self, at: Instant, mut packet: TaggedPacket) {
            packet.now = at;
            self.reports.handle_read(packet).expect("read");
            assert!(self.reports.poll_read().is_some());
        }

        /// The receiver's report, if one is due.
        fn report(&mut self, at: Instant) -> Option<TaggedPacket> {
            let due = self.reports.poll_timeout()?;
            self.reports.handle_timeout(due.max(at)).expect("timeout");
            self.reports.poll_write()
        }
    }

    #[test]
    fn what_leaves_is_in_flight_until_it_is_reported() {
        let (mut bed, start) = (Bed::new(), Instant::now());
        assert_eq!(bed.reports.poll_timeout(), None, "no timer before the first packet");
        for i in 0..10u16 {
            let at = start + MS * 33 * u32::from(i);
            let packet = bed.send(at, i);
            assert!(bed.link.state(at).in_flight >= 1_000);
            if i != 4 {
                bed.arrive(at + MS * 20, packet);
                let report = bed.report(at + MS * 30).expect("a report");
                assert_eq!(bed.reports.poll_timeout(), None, "and no timer after it");
                let mut report = report;
                report.now = at + MS * 40;
                bed.meter.handle_read(report).expect("read");
                assert_eq!(bed.link.state(at).in_flight, 0);
            }
            assert_eq!(bed.repair.is_lossy(at + MS * 40), i > 4, "at packet {i}");
        }
        let state = bed.link.state(start + MS * 400);
        assert!(state.round_trip_us.is_some_and(|us| (30_000..60_000).contains(&us)), "{state:?}");
    }

    #[test]
    fn a_player_without_numbers_is_followed_by_its_receiver_reports() {
        use rtc::rtcp::reception_report::ReceptionReport;
        let (mut bed, now) = (Bed::new(), Instant::now());
        bed.meter = Meter::new(Arc::clone(&bed.link));
        bed.meter.bind_local_stream(&StreamInfo { rtp_header_extensions: Vec::new(), ..stream() });
        let mut report = |ssrc, fraction_lost| {
            let report = ReceptionReport { ssrc, fraction_lost, ..Default::default() };
            let report = ReceiverReport { reports: vec![report], ..Default::default() };
            bed.meter.handle_read(tagged(now, Packet::Rtcp(vec![Box::new(report)]))).expect("read");
            bed.link.state(now).target
        };
        let begin = report(2, 255);
        assert!(report(1, 128) < begin * 4 / 5, "its own loss counts, another stream's does not");
        assert!(report(1, 0) < begin && (0..20).map(|_| report(1, 0)).last() == Some(2_000_000));
    }

    #[test]
    fn a_lost_report_is_not_a_lost_packet() {
        let (mut bed, start) = (Bed::new(), Instant::now());
        for i in 0..4u16 {
            let at = start + MS * 33 * u32::from(i);
            let packet = bed.send(at, i);
            bed.arrive(at + MS * 20, packet);
            let mut report = bed.report(at + MS * 30).expect("a report");
            if i != 1 {
                report.now = at + MS * 40;
                bed.meter.handle_read(report).expect("read");
            }
        }
        assert!(!bed.repair.is_lossy(start + MS * 200));
        assert_eq!(bed.link.state(start + MS * 200).in_flight, 0);
    }

    #[test]
    fn numbers_are_remembered_for_half_a_round() {
        let mut seen = Seen::new();
        for number in 0..40_000u32 {
            seen.add(number as u16);
        }
        assert!(seen.contains(39_999) && seen.contains(10_000));
        assert!(!seen.contains(40_000) && !seen.contains(5));
    }
}
