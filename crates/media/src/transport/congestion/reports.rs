//! The receiver's end of transport-wide feedback.

use super::is_numbered;
use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket, TwccReceiverBuilder, TwccReceiverInterceptor};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use std::time::{Duration, Instant};

type Outcome = Result<(), Error>;

/// A report leaves at most this often, and at most this long after a packet came. The crate's own 100 ms would let a
/// queue grow for a tenth of a second unseen.
const INTERVAL: Duration = Duration::from_millis(10);

/// The crate's reports, with its timer running only while a numbered packet waits to be reported.
pub(in crate::transport) struct Reports {
    inner: TwccReceiverInterceptor,
    streams: Vec<u32>,
    unreported: bool,
}

impl Default for Reports {
    fn default() -> Self {
        Self::new(TwccReceiverBuilder::new().with_interval(INTERVAL).build())
    }
}

impl Reports {
    pub(super) const fn new(inner: TwccReceiverInterceptor) -> Self {
        Self { inner, streams: Vec::new(), unreported: false }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Reports {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Outcome {
        self.unreported |=
            matches!(&message.message.packet, Packet::Rtp(packet) if self.streams.contains(&packet.header.ssrc));
        self.inner.handle_read(message)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_read()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Outcome {
        self.inner.handle_write(message)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.inner.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Outcome {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.unreported = false;
            return self.inner.handle_timeout(now);
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        if self.unreported { self.inner.poll_timeout() } else { None }
    }
}

impl Interceptor for Reports {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        if is_numbered(info) && !self.streams.contains(&info.ssrc) {
            self.streams.push(info.ssrc);
        }
        self.inner.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.retain(|ssrc| *ssrc != info.ssrc);
        self.inner.unbind_remote_stream(info);
    }
}
