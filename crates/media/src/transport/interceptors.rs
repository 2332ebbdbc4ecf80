//! Own links of the chain between the application and the wire.

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use std::time::{Duration, Instant};

type Outcome = Result<(), Error>;

/// Runs an interceptor's timer only while RTP flows and for `after` longer: a still picture must cost neither reports
/// nor wake-ups.
pub(super) struct WhileFlowing<I> {
    inner: I,
    after: Duration,
    until: Option<Instant>,
}

impl<I> WhileFlowing<I> {
    pub(super) const fn new(inner: I, after: Duration) -> Self {
        Self { inner, after, until: None }
    }

    fn saw(&mut self, message: &TaggedPacket) {
        if matches!(message.message.packet, Packet::Rtp(_)) {
            self.until = Some(message.now + self.after);
        }
    }
}

impl<I: Interceptor> Protocol<TaggedPacket, TaggedPacket, ()> for WhileFlowing<I> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Outcome {
        self.saw(&message);
        self.inner.handle_read(message)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_read()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Outcome {
        self.saw(&message);
        self.inner.handle_write(message)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Outcome {
        // What was due in time runs also when this comes late: else it would stay due, in the past, for ever.
        let due = self.poll_timeout().is_some_and(|at| at <= now);
        if due || self.until.is_some_and(|until| now <= until) { self.inner.handle_timeout(now) } else { Ok(()) }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.inner.poll_timeout().filter(|at| self.until.is_some_and(|until| *at <= until))
    }

    fn close(&mut self) -> Outcome {
        self.inner.close()
    }
}

impl<I: Interceptor> Interceptor for WhileFlowing<I> {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.bind_local_stream(info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.inner.unbind_local_stream(info);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.inner.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.inner.unbind_remote_stream(info);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::interceptor::{AttributedPacket, ReceiverReportBuilder};
    use rtc::shared::TransportContext;

    fn rtp(now: Instant, sequence: u16) -> TaggedPacket {
        let mut packet = rtc::rtp::Packet::default();
        packet.header.ssrc = 1;
        packet.header.sequence_number = sequence;
        TaggedPacket {
            now,
            transport: TransportContext::default(),
            message: AttributedPacket::new(Packet::Rtp(packet)),
        }
    }

    #[test]
    fn reports_end_with_the_stream_and_come_back_with_it() {
        let second = Duration::from_secs(1);
        let mut link = WhileFlowing::new(ReceiverReportBuilder::new().with_interval(second).build(), second);
        link.bind_remote_stream(&StreamInfo { ssrc: 1, clock_rate: 90_000, ..StreamInfo::default() });
        let start = Instant::now();
        link.handle_read(rtp(start, 1)).expect("read");
        let due = link.poll_timeout().expect("a report is due");
        link.handle_timeout(due).expect("timeout");
        assert!(link.poll_write().is_some(), "one report after the last packet");
        assert_eq!(link.poll_timeout(), None, "and no timer any more");
        link.handle_timeout(start + second * 10).expect("timeout");
        assert!(link.poll_write().is_none());
        link.handle_read(rtp(start + second * 20, 2)).expect("read");
        let due = link.poll_timeout().expect("due again");
        link.handle_timeout(due.max(start + second * 20)).expect("timeout");
        assert!(link.poll_write().is_some());
    }

    #[test]
    fn a_late_timer_is_not_due_for_ever() {
        let second = Duration::from_secs(1);
        let mut link = WhileFlowing::new(ReceiverReportBuilder::new().with_interval(second).build(), second);
        link.bind_remote_stream(&StreamInfo { ssrc: 1, clock_rate: 90_000, ..StreamInfo::default() });
        let start = Instant::now();
        link.handle_read(rtp(start, 1)).expect("read");
        link.poll_timeout().expect("a report is due");
        let late = start + second + Duration::from_millis(1);
        link.handle_timeout(late).expect("timeout");
        assert_eq!(link.poll_timeout().filter(|at| *at <= late), None, "it would be polled without end");
    }
}
