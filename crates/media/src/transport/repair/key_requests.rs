//! Which key frame requests (PLI, RFC 4585; FIR, RFC 5104) reach the application.
//!
//! libwebrtc, and so every browser, asks for a key frame when it decoded nothing for 3 s, although nothing was sent: on
//! a picture that stands still it would ask every 3 s for ever, and get one each time. Such a request is ignored
//! *once*: when nothing was sent for 2 s, and the player's newest report says that everything arrived. Whoever asks a
//! second time, or has lost something, or asks soon after a packet (as a decoder that failed does), is believed.

use super::link::RepairLink;
use rtc::interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request that comes later than this after the last packet is not about that packet.
const LATE: Duration = Duration::from_secs(2);

/// What one player is known to have.
#[derive(Debug, Default)]
struct Holdings {
    last_sent: Option<(u16, Instant)>,
    /// Lowest 16 bits of the highest number that it reported, and its count of lost packets (24 bits, signed).
    reported: Option<(u16, u32)>,
    /// Its count of lost packets when the last request was believed: what was lost before, a key frame has healed.
    healed: u32,
    /// A request was ignored since the last packet.
    ignored: bool,
}

impl Holdings {
    fn sent(&mut self, sequence: u16, now: Instant) {
        self.last_sent = Some((sequence, now));
        self.ignored = false;
    }

    /// Whether the report tells of new loss.
    fn reported(&mut self, report: &ReceptionReport) -> bool {
        let before = self.reported.map_or(0, |(_, lost)| lost);
        self.reported = Some((report.last_sequence_number as u16, report.total_lost));
        // A late packet makes the count smaller.
        let more = report.total_lost.wrapping_sub(before) & 0xff_ffff;
        report.fraction_lost > 0 || (1..0x80_0000).contains(&more)
    }

    /// Whether a key frame can be of use to it.
    fn believes_request(&mut self, now: Instant) -> bool {
        let has_all = match (self.last_sent, self.reported) {
            (Some((sequence, _)), Some((highest, lost))) => sequence == highest && lost == self.healed,
            _ => false,
        };
        let is_late = self.last_sent.is_some_and(|(_, at)| now.saturating_duration_since(at) >= LATE);
        if has_all && is_late && !self.ignored {
            self.ignored = true;
            return false;
        }
        self.healed = self.reported.map_or(0, |(_, lost)| lost);
        true
    }
}

/// Lets the requests through that mean something; the crate drops all RTCP that nobody marked.
pub(in crate::transport) struct KeyFrameRequests {
    link: Arc<RepairLink>,
    video: Option<u32>,
    holdings: Holdings,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl KeyFrameRequests {
    pub(in crate::transport) fn new(link: Arc<RepairLink>) -> Self {
        Self { link, video: None, holdings: Holdings::default(), reads: VecDeque::new(), writes: VecDeque::new() }
    }

    fn report(&mut self, report: &ReceptionReport, now: Instant) {
        if Some(report.ssrc) == self.video && self.holdings.reported(report) {
            self.link.saw_loss(now);
        }
    }
}

fn is_request(packet: &dyn rtc::rtcp::Packet) -> bool {
    packet.as_any().is::<PictureLossIndication>() || packet.as_any().is::<FullIntraRequest>()
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyFrameRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, mut message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &mut message.message.packet {
            // Reports first: a request travels together with the newest.
            for packet in packets.iter() {
                if let Some(report) = packet.as_any().downcast_ref::<rtc::rtcp::receiver_report::ReceiverReport>() {
                    report.reports.iter().for_each(|report| self.report(report, message.now));
                }
            }
            packets.retain(|packet| is_request(packet.as_ref()));
            if packets.is_empty() || !self.holdings.believes_request(message.now) {
                return Ok(());
            }
            message.message.add(Attribute::DeliverToApplication);
        }
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &message.message.packet
            && Some(packet.header.ssrc) == self.video
        {
            self.holdings.sent(packet.header.sequence_number, message.now);
        }
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for KeyFrameRequests {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if info.mime_type.starts_with("video/") {
            (self.video, self.holdings) = (Some(info.ssrc), Holdings::default());
        }
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.video.take_if(|ssrc| *ssrc == info.ssrc);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::super::testing::{rtcp, rtp};
    use super::*;
    use rtc::rtcp::receiver_report::ReceiverReport;

    const SECOND: Duration = Duration::from_secs(1);

    struct Bed {
        requests: KeyFrameRequests,
        link: Arc<RepairLink>,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let link = Arc::new(RepairLink::new(1_000_000));
            let mut requests = KeyFrameRequests::new(Arc::clone(&link));
            let info = StreamInfo { ssrc: 1, mime_type: "video/H264".to_owned(), ..StreamInfo::default() };
            requests.bind_local_stream(&info);
            Self { requests, link, now: Instant::now() }
        }

        fn send(&mut self, sequence: u16) {
            self.requests.handle_write(rtp(self.now, sequence, 0, true, &[0; 20])).expect("written");
            assert!(self.requests.poll_write().is_some());
        }

        fn report(highest: u32, lost: u32) -> Box<dyn rtc::rtcp::Packet> {
            let report =
                ReceptionReport { ssrc: 1, last_sequence_number: highest, total_lost: lost, ..Default::default() };
            Box::new(ReceiverReport { reports: vec![report], ..Default::default() })
        }

        /// A compound of report and request, as browsers send it; whether it reaches the application.
        fn asks(&mut self, highest: u32, lost: u32) -> bool {
            let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc: 1 };
            let compound = rtcp(self.now, vec![Self::report(highest, lost), Box::new(pli)]);
            self.requests.handle_read(compound).expect("read");
            self.requests.poll_read().is_some()
        }
    }

    #[test]
    fn a_watchdog_on_a_still_picture_is_ignored() {
        let mut bed = Bed::new();
        bed.send(65_535);
        for sequence in 0..100u16 {
            bed.now += SECOND * 3;
            assert!(!bed.asks(65_536 + u32::from(sequence) - 1, 0), "it has all");
            bed.send(sequence);
        }
        assert!(!bed.link.is_lossy(bed.now));
    }

    #[test]
    fn who_insists_is_believed() {
        let mut bed = Bed::new();
        bed.send(7);
        bed.now += SECOND * 3;
        assert!(!bed.asks(7, 0) && bed.asks(7, 0));
    }

    #[test]
    fn who_asks_soon_after_a_packet_is_believed() {
        let mut bed = Bed::new();
        bed.send(7);
        bed.now += SECOND;
        assert!(bed.asks(7, 0) && bed.asks(7, 0));
    }

    #[test]
    fn who_has_not_all_is_believed() {
        let mut bed = Bed::new();
        bed.now += SECOND * 3;
        assert!(bed.asks(0, 0), "nothing was sent yet");
        let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc: 1 };
        bed.send(7);
        bed.now += SECOND * 3;
        assert!(bed.asks(6, 0), "the last packet did not arrive");
        bed.send(8);
        bed.now += SECOND * 3;
        assert!(bed.asks(8, 1), "one before did not");
        assert!(bed.link.is_lossy(bed.now));
        bed.send(9);
        bed.now += SECOND * 3;
        assert!(!bed.asks(9, 1), "that is healed");
        bed.send(10);
        bed.now += SECOND * 3;
        bed.requests.handle_read(rtcp(bed.now, vec![Box::new(pli)])).expect("read");
        assert!(bed.requests.poll_read().is_some(), "its last report is older than the packet");
    }

    #[test]
    fn only_requests_reach_the_application() {
        let mut bed = Bed::new();
        bed.requests.handle_read(rtcp(bed.now, vec![Bed::report(1, 0)])).expect("read");
        assert!(bed.requests.poll_read().is_none());
        let pli = PictureLossIndication { sender_ssrc: 0, media_ssrc: 1 };
        bed.requests.handle_read(rtcp(bed.now, vec![Bed::report(1, 0), Box::new(pli)])).expect("read");
        let passed = bed.requests.poll_read().expect("passed on");
        assert!(passed.message.has(&Attribute::DeliverToApplication));
        assert!(matches!(passed.message.packet, Packet::Rtcp(packets) if packets.len() == 1));
    }
}
