//! What limits a stream, told to its viewer: an RTCP packet of the application's own kind (APP, RFC 3550 section 6.7),
//! name `LOCO`, sent with media when it changed. Other players ignore it.

use super::link::RateLink;
use crate::limits::{Limiter, StreamLimits};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::raw_packet::RawPacket;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome = Result<(), Error>;

/// Two notices are at least this far apart.
const APART: Duration = Duration::from_secs(1);
/// The last one follows the last packet by this much, so that what ended is told too.
const AFTERWARDS: Duration = Duration::from_millis(1_500);
/// What is no news is told again after this while packets flow, and once after the last one: a notice may be lost.
const AGAIN: Duration = Duration::from_secs(5);
/// A rate that changed by less than this share is not news.
const NEWS: f64 = 0.1;
/// A queue that changed by less than this is not news, in milliseconds.
const NEWS_MS: u16 = 20;

const VERSION_AND_KIND: u8 = 0x80 | 1;
const APP: u8 = 204;
const NAME: [u8; 4] = *b"LOCO";
const DATA_BYTES: usize = 20;
const PACKET_BYTES: usize = 12 + DATA_BYTES;

const HALVED: u8 = 1;
const SHARED: u8 = 2;
const UNKNOWN: u16 = u16::MAX;

fn encode(limits: &StreamLimits, ssrc: u32) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PACKET_BYTES);
    bytes.put_u8(VERSION_AND_KIND);
    bytes.put_u8(APP);
    bytes.put_u16((PACKET_BYTES / 4 - 1) as u16);
    bytes.put_u32(ssrc);
    bytes.put_slice(&NAME);
    bytes.put_u8(limits.limiter as u8);
    bytes.put_u8(if limits.halved { HALVED } else { 0 } | if limits.shared { SHARED } else { 0 });
    bytes.put_u16(limits.queue_ms.unwrap_or(UNKNOWN));
    bytes.put_u32(limits.bit_rate);
    bytes.put_u32(limits.ceiling);
    bytes.put_u16(limits.max_fps);
    bytes.put_u16(limits.encode_ms.unwrap_or(UNKNOWN));
    bytes.put_u32(limits.sent);
    bytes.freeze()
}

fn decode(mut bytes: &[u8]) -> Option<StreamLimits> {
    if bytes.len() < PACKET_BYTES
        || bytes[0] & 0x1f != VERSION_AND_KIND & 0x1f
        || bytes[1] != APP
        || bytes[8..12] != NAME
    {
        return None;
    }
    bytes.advance(12);
    let limiter = *Limiter::ALL.get(usize::from(bytes.get_u8()))?;
    let flags = bytes.get_u8();
    let known = |value: u16| (value != UNKNOWN).then_some(value);
    Some(StreamLimits {
        limiter,
        halved: flags & HALVED != 0,
        shared: flags & SHARED != 0,
        queue_ms: known(bytes.get_u16()),
        bit_rate: bytes.get_u32(),
        ceiling: bytes.get_u32(),
        max_fps: bytes.get_u16(),
        encode_ms: known(bytes.get_u16()),
        sent: bytes.get_u32(),
    })
}

/// Whether `new` tells a person something that `old` did not.
fn is_news(old: &StreamLimits, new: &StreamLimits) -> bool {
    let differs = |a: u32, b: u32| f64::from(a.abs_diff(b)) > f64::from(a.max(b)) * NEWS;
    let words = |limits: &StreamLimits| (limits.limiter, limits.halved, limits.shared, limits.ceiling);
    words(old) != words(new)
        || new.limiter != Limiter::Still
            && (differs(old.bit_rate, new.bit_rate)
                || old.queue_ms.unwrap_or(0).abs_diff(new.queue_ms.unwrap_or(0)) >= NEWS_MS)
}

/// The last notices of a stream that pauses.
#[derive(Clone, Copy)]
enum Last {
    /// None yet; the first is due then.
    First(Instant),
    /// One; its copy is due then.
    Copy(Instant),
}

/// The sender's end.
pub(in crate::transport) struct Notices {
    link: Arc<RateLink>,
    told: Option<(Instant, StreamLimits)>,
    /// SSRC of the last packet.
    flowing: Option<(u32, Last)>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Last {
    const fn due(self) -> Instant {
        match self {
            Self::First(at) | Self::Copy(at) => at,
        }
    }
}

impl Notices {
    pub(in crate::transport) const fn new(link: Arc<RateLink>) -> Self {
        Self { link, told: None, flowing: None, reads: VecDeque::new(), writes: VecDeque::new() }
    }

    fn tell(&mut self, now: Instant, ssrc: u32, limits: Option<StreamLimits>) {
        let Some(limits) = limits else { return };
        let is_due = self.told.as_ref().is_none_or(|(at, told)| {
            let since = now.saturating_duration_since(*at);
            since >= AGAIN || since >= APART && is_news(told, &limits)
        });
        if is_due {
            self.told = Some((now, limits));
            let packet = Packet::Rtcp(vec![Box::new(RawPacket(encode(&limits, ssrc)))]);
            let message = AttributedPacket::new(packet);
            self.writes.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Notices {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Outcome {
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Outcome {
        let now = message.now;
        let ssrc = if let Packet::Rtp(packet) = &message.message.packet { Some(packet.header.ssrc) } else { None };
        self.writes.push_back(message);
        if let Some(ssrc) = ssrc {
            self.flowing = Some((ssrc, Last::First(now + AFTERWARDS)));
            self.tell(now, ssrc, self.link.limits());
        }
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }

    fn handle_timeout(&mut self, now: Instant) -> Outcome {
        if let Some((ssrc, last)) = self.flowing.take_if(|(_, last)| last.due() <= now) {
            // Nothing flowed since: whatever limited the picture, it stands still now.
            let still = self.link.limits().map(|limits| StreamLimits { limiter: Limiter::Still, sent: 0, ..limits });
            self.tell(now, ssrc, still);
            if let Last::First(_) = last {
                self.flowing = Some((ssrc, Last::Copy(now + AGAIN)));
            }
        }
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        // Sound alone has nothing to tell about the picture: its packets keep moving this, and cost no wake-up.
        self.flowing.map(|(_, last)| last.due())
    }
}

impl Interceptor for Notices {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// What the sender told last; the receiver's end.
#[derive(Debug, Default)]
pub(crate) struct Told {
    limits: Mutex<Option<StreamLimits>>,
}

impl Told {
    /// What limits the stream; `None` where the sender said nothing.
    pub(crate) fn limits(&self) -> Option<StreamLimits> {
        *self.limits.lock()
    }
}

/// Takes the notices out of what comes in.
pub(in crate::transport) struct Listener {
    told: Arc<Told>,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Listener {
    pub(in crate::transport) const fn new(told: Arc<Told>) -> Self {
        Self { told, reads: VecDeque::new(), writes: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Outcome {
        if let Packet::Rtcp(packets) = &message.message.packet {
            let raw = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<RawPacket>());
            if let Some(limits) = raw.filter_map(|packet| decode(&packet.0)).next_back() {
                *self.told.limits.lock() = Some(limits);
            }
        }
        self.reads.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Outcome {
        self.writes.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
}

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::super::super::repair::RepairLink;
    use super::*;

    fn limits(limiter: Limiter, bit_rate: u32) -> StreamLimits {
        StreamLimits {
            limiter,
            bit_rate,
            ceiling: 2_000_000,
            sent: bit_rate / 2,
            queue_ms: Some(35),
            max_fps: 60,
            encode_ms: None,
            halved: false,
            shared: true,
        }
    }

    #[test]
    fn notices_are_read_as_written() {
        for limiter in Limiter::ALL {
            let limits = limits(limiter, 1_234_567);
            assert_eq!(decode(&encode(&limits, 7)), Some(limits));
        }
        let good = encode(&limits(Limiter::Network, 1), 7);
        for cut in 0..good.len() {
            assert_eq!(decode(&good[..cut]), None);
        }
        let mut junk = good.to_vec();
        junk[12] = 99;
        assert_eq!(decode(&junk), None, "an unknown limiter");
    }

    #[test]
    fn news_is_told_at_once_the_rest_now_and_then_and_nothing_while_nothing_flows() {
        let link = Arc::new(RateLink::new(2_000_000, Arc::new(RepairLink::new(1))));
        let told = Arc::new(Told::default());
        let (mut notices, mut listener) = (Notices::new(Arc::clone(&link)), Listener::new(Arc::clone(&told)));
        let start = Instant::now();
        let packets = |notices: &mut Notices, listener: &mut Listener, at: Instant| {
            let packet = Packet::Rtp(rtc::rtp::Packet::default());
            let message = AttributedPacket::new(packet);
            let tagged = TaggedPacket { now: at, transport: TransportContext::default(), message };
            notices.handle_write(tagged).expect("written");
            let mut count = 0;
            while let Some(out) = notices.poll_write() {
                if matches!(out.message.packet, Packet::Rtcp(_)) {
                    listener.handle_read(out).expect("read");
                    count += 1;
                }
            }
            count
        };
        assert_eq!(notices.poll_timeout(), None);
        assert_eq!(packets(&mut notices, &mut listener, start), 0, "nothing is known yet");
        link.tell(limits(Limiter::Network, 1_000_000));
        assert_eq!(packets(&mut notices, &mut listener, start), 1);
        assert_eq!(told.limits(), Some(limits(Limiter::Network, 1_000_000)));
        assert_eq!(packets(&mut notices, &mut listener, start + APART * 2), 0, "no news");
        link.tell(limits(Limiter::Network, 500_000));
        assert_eq!(packets(&mut notices, &mut listener, start + APART * 2), 1);
        link.tell(limits(Limiter::Setting, 500_000));
        assert_eq!(packets(&mut notices, &mut listener, start + APART * 2), 0, "too soon");
        let due = notices.poll_timeout().expect("what is new is told afterwards");
        notices.handle_timeout(due).expect("timeout");
        let last = notices.poll_write().expect("the last notice");
        listener.handle_read(last).expect("read");
        assert_eq!(told.limits().map(|limits| limits.limiter), Some(Limiter::Still));
        let due = notices.poll_timeout().expect("it may be lost");
        notices.handle_timeout(due).expect("timeout");
        assert!(notices.poll_write().is_some());
        assert_eq!(notices.poll_timeout(), None, "and then there is silence");
        link.tell(limits(Limiter::Still, 500_000));
        assert_eq!(packets(&mut notices, &mut listener, due + AGAIN), 1, "told again while packets flow");
        assert_eq!(packets(&mut notices, &mut listener, due + AGAIN + APART), 0);
    }
}
