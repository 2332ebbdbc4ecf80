//! What a connection can: codecs, header extensions, the chain of interceptors, timers.

use super::congestion::{Listener, Meter, NOTICES_SLOT, Notices, RateLink, Reports, TWCC_URI, Told};
use super::interceptors::WhileFlowing;
use super::repair::{
    FrameParity, KEY_REQUESTS_SLOT, KeyFrameRequests, PARITY_SLOT, RECEIVER_REPAIR_SLOT, RECEIVER_REPORTS_SLOT,
    RESEND_SLOT, RepairLink, RepairLog, Repairer, Resender, TWCC_NUMBERS_SLOT,
};
use crate::error::{MediaError, WhepError};
use crate::sound_link::SOUND_CLOCK_HZ;
use rtc::interceptor::{ReceiverReportBuilder, Registry, SenderReportBuilder, Slot, TwccSenderBuilder};
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_FLEX_FEC03, MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine,
};
use rtc::peer_connection::configuration::setting_engine::{SettingEngine, SettingEngineBuilder};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::sdp::description::session::SessionDescription;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

/// Asks the player for no delay of its own: on every packet as (0, 0).
pub(super) const PLAYOUT_DELAY_URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// SRTP accepts a resend that is this many packets old; the crate's 64 lose repairs above 3 Mbit/s and 50 ms.
const SRTP_REPLAY_WINDOW: usize = 1024;
/// Payload type of parity that we offer; a player's own may differ.
const PARITY_PAYLOAD_TYPE: u8 = 49;
/// Between two sender or receiver reports while packets flow.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// ICE asks for consent this often (RFC 7675 allows 5 s at most between checks, and 30 s of silence).
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// No answer for this long: the path is doubtful.
const DISCONNECTED_AFTER: Duration = Duration::from_secs(8);
/// No answer for this much longer: the session is over.
const FAILED_AFTER: Duration = Duration::from_secs(7);

/// A direct path has this long to be found before a relayed one is taken.
const RELAY_AFTER: Duration = Duration::from_millis(800);

/// A video codec on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum VideoCodec {
    /// H.264, constrained baseline, packetization mode 1.
    H264,
    /// VP8.
    Vp8,
}

impl VideoCodec {
    /// The name in SDP.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
        }
    }

    pub(super) const fn mime_type(self) -> &'static str {
        match self {
            Self::H264 => MIME_TYPE_H264,
            Self::Vp8 => MIME_TYPE_VP8,
        }
    }

    const fn payload_type(self) -> u8 {
        match self {
            Self::H264 => 102,
            Self::Vp8 => 96,
        }
    }

    pub(super) fn codec(self) -> RTCRtpCodec {
        let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
        let format = match self {
            Self::H264 => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
            Self::Vp8 => "",
        };
        RTCRtpCodec {
            mime_type: self.mime_type().to_owned(),
            clock_rate: crate::clock::VIDEO_CLOCK_HZ,
            channels: 0,
            sdp_fmtp_line: format.to_owned(),
            rtcp_feedback: vec![
                feedback("nack", ""),
                feedback("nack", "pli"),
                feedback("ccm", "fir"),
                feedback("transport-cc", ""),
            ],
        }
    }
}

pub(super) fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        clock_rate: SOUND_CLOCK_HZ,
        channels: 2,
        sdp_fmtp_line: "minptime=5;stereo=1;sprop-stereo=1;useinbandfec=0".to_owned(),
        rtcp_feedback: vec![],
    }
}

/// Which end of a session a connection is, and what its chain shares with the rest.
#[derive(Clone, Debug)]
pub(super) enum End {
    Sender(Arc<RepairLink>, Arc<RateLink>),
    Receiver(Arc<RepairLog>, Arc<Told>),
}

/// Codecs and header extensions of a connection.
pub(super) fn media_engine(video: &[VideoCodec], sound: bool) -> Result<MediaEngine, MediaError> {
    let mut engine = MediaEngine::default();
    let failed = |e: rtc::shared::error::Error| MediaError::Rtc(e.to_string());
    for codec in video {
        let parameters = RTCRtpCodecParameters { rtp_codec: codec.codec(), payload_type: codec.payload_type() };
        engine.register_codec(parameters, RtpCodecKind::Video).map_err(failed)?;
    }
    // In an answer only where the offer has it.
    let parity = RTCRtpCodec {
        mime_type: MIME_TYPE_FLEX_FEC03.to_owned(),
        clock_rate: crate::clock::VIDEO_CLOCK_HZ,
        channels: 0,
        sdp_fmtp_line: "repair-window=10000000".to_owned(),
        rtcp_feedback: vec![],
    };
    let parity = RTCRtpCodecParameters { rtp_codec: parity, payload_type: PARITY_PAYLOAD_TYPE };
    engine.register_codec(parity, RtpCodecKind::Video).map_err(failed)?;
    if sound {
        let parameters = RTCRtpCodecParameters { rtp_codec: opus(), payload_type: 111 };
        engine.register_codec(parameters, RtpCodecKind::Audio).map_err(failed)?;
    }
    let playout_delay = RTCRtpHeaderExtensionCapability { uri: PLAYOUT_DELAY_URI.to_owned() };
    engine.register_header_extension(playout_delay, RtpCodecKind::Video, None).map_err(failed)?;
    let numbers = RTCRtpHeaderExtensionCapability { uri: TWCC_URI.to_owned() };
    engine.register_header_extension(numbers, RtpCodecKind::Video, None).map_err(failed)?;
    Ok(engine)
}

/// The chain between application and wire; `repair` says what belongs where, and why.
pub(super) fn registry(end: &End) -> Registry {
    let registry = Registry::new();
    match end {
        End::Sender(link, rate) => {
            let reports = SenderReportBuilder::new().with_interval(REPORT_INTERVAL).build();
            registry
                .with(Slot::CongestionControl, Meter::new(Arc::clone(rate)))
                .with(PARITY_SLOT, FrameParity::new(Arc::clone(link)))
                .with(Slot::from(TWCC_NUMBERS_SLOT), TwccSenderBuilder::new().build())
                .with(Slot::from(RESEND_SLOT), Resender::new(Arc::clone(link)))
                .with(Slot::SenderReport, WhileFlowing::new(reports, REPORT_INTERVAL))
                .with(Slot::from(KEY_REQUESTS_SLOT), KeyFrameRequests::new(Arc::clone(link)))
                .with(Slot::from(NOTICES_SLOT), Notices::new(Arc::clone(rate)))
        }
        End::Receiver(log, told) => {
            let reports = ReceiverReportBuilder::new().with_interval(REPORT_INTERVAL).build();
            registry
                .with(Slot::TwccReceiver, Reports::default())
                .with(Slot::from(RECEIVER_REPORTS_SLOT), WhileFlowing::new(reports, REPORT_INTERVAL))
                .with(Slot::from(RECEIVER_REPAIR_SLOT), Repairer::new(Arc::clone(log)))
                .with(Slot::from(NOTICES_SLOT), Listener::new(Arc::clone(told)))
        }
    }
}

/// Timers and windows.
pub(super) fn settings() -> SettingEngine {
    SettingEngineBuilder::new()
        .with_srtp_replay_protection_window(SRTP_REPLAY_WINDOW)
        .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEP_ALIVE))
        .with_relay_acceptance_min_wait(Some(RELAY_AFTER))
        .with_include_loopback_candidate(true)
        // Browsers hide their addresses behind mDNS names; their checks reach us all the same, and no multicast
        // socket is needed.
        .with_multicast_dns_mode(rtc::ice::mdns::MulticastDnsMode::Disabled)
        .build()
}

/// What an offer asks of a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OfferedMedia {
    /// Video codecs of ours that it takes, in its own order of preference.
    pub(crate) video: Vec<VideoCodec>,
    /// Whether it takes Opus.
    pub(crate) sound: bool,
}

/// Reads an offer before anything is built for it.
///
/// # Errors
/// `Malformed` when it is no SDP, `Unprocessable` when it is no offer to receive video, `NotAcceptable` when it has no
/// codec of ours.
pub(crate) fn offered_media(sdp: &str) -> Result<OfferedMedia, WhepError> {
    let description = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
        .map_err(|e| WhepError::Malformed(e.to_string()))?;
    let unprocessable = |why: &str| Err(WhepError::Unprocessable(why.to_owned()));
    let (mut video, mut sound, mut other) = (None, false, Vec::new());
    for media in &description.media_descriptions {
        let has = |name: &str| media.has_attribute(name) || description.has_attribute(name);
        let kind = media.media_name.media.as_str();
        if !matches!(kind, "video" | "audio" | "application") {
            return unprocessable(&format!("m={kind} is unknown here"));
        }
        if !(has("ice-ufrag") && has("ice-pwd") && has("fingerprint")) {
            return unprocessable(&format!("m={kind} has no ICE credentials or no DTLS fingerprint"));
        }
        let receives = !has("sendonly") && !has("inactive");
        let maps: Vec<(&str, &str)> = attributes(media, "rtpmap").filter_map(|v| v.split_once(' ')).collect();
        match kind {
            "video" if receives && video.is_none() => {
                let formats: Vec<(&str, &str)> = attributes(media, "fmtp").filter_map(|v| v.split_once(' ')).collect();
                let mut codecs = Vec::new();
                for format in &media.media_name.formats {
                    let Some((_, map)) = maps.iter().find(|(payload, _)| payload == format) else { continue };
                    let parameters = formats.iter().find(|(payload, _)| payload == format).map_or("", |(_, p)| *p);
                    let codec = match map.to_ascii_uppercase().as_str() {
                        "H264/90000" if is_baseline(parameters) => VideoCodec::H264,
                        "VP8/90000" => VideoCodec::Vp8,
                        _ => {
                            other.push((*map).to_owned());
                            continue;
                        }
                    };
                    if !codecs.contains(&codec) {
                        codecs.push(codec);
                    }
                }
                video = Some(codecs);
            }
            "audio" if receives => sound |= maps.iter().any(|(_, map)| map.eq_ignore_ascii_case("opus/48000/2")),
            _ => {}
        }
    }
    match video {
        None => unprocessable("it has no m=video that receives"),
        Some(codecs) if codecs.is_empty() => {
            let offered = if other.is_empty() { "none".to_owned() } else { other.join(", ") };
            Err(WhepError::NotAcceptable(format!(
                "offered are {offered}; needed is H264/90000 with packetization-mode=1 and a baseline \
                 profile-level-id, or VP8/90000"
            )))
        }
        Some(video) => Ok(OfferedMedia { video, sound }),
    }
}

fn attributes<'a>(
    media: &'a rtc::sdp::description::media::MediaDescription,
    name: &'a str,
) -> impl Iterator<Item = &'a str> {
    media.attributes.iter().filter(move |a| a.key == name).filter_map(|a| a.value.as_deref())
}

/// Packetization mode 1 and a profile that decodes constrained baseline under the name that we answer with: `42` and
/// the first constraint flags of `e0` (RFC 6184 section 8.1).
fn is_baseline(parameters: &str) -> bool {
    let value = |name: &str| {
        parameters.split(';').filter_map(|p| p.trim().split_once('=')).find(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    value("packetization-mode").is_some_and(|(_, v)| v == "1")
        && value("profile-level-id").is_some_and(|(_, v)| {
            let v = v.to_ascii_lowercase();
            v.len() == 6 && v.starts_with("42")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(media: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
             a=fingerprint:sha-256 00:11\r\n{media}"
        )
    }

    const H264: &str = "m=video 9 UDP/TLS/RTP/SAVPF 109 96\r\na=recvonly\r\na=rtpmap:109 H264/90000\r\n\
        a=fmtp:109 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:96 VP8/90000\r\n";

    #[test]
    fn offers_are_read() {
        let sound = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n";
        let media = offered_media(&offer(&format!("{H264}{sound}"))).expect("an offer");
        assert_eq!(media, OfferedMedia { video: vec![VideoCodec::H264, VideoCodec::Vp8], sound: true });
        let mode_0 = H264.replace("packetization-mode=1", "packetization-mode=0");
        let media = offered_media(&offer(&mode_0)).expect("an offer");
        assert_eq!(media, OfferedMedia { video: vec![VideoCodec::Vp8], sound: false });
    }

    #[test]
    fn wrong_offers_are_named() {
        let status = |sdp: &str| offered_media(sdp).map_or_else(|e| e.status(), |_| 201);
        for (sdp, want) in [
            (String::new(), 400),
            ("hello".to_owned(), 400),
            ("v=0\r\n".to_owned(), 400),
            (offer(""), 422),
            (offer("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n"), 422),
            (offer(&H264.replace("recvonly", "sendonly")), 422),
            (offer(H264).replace("a=fingerprint:sha-256 00:11\r\n", ""), 422),
            (offer("m=video 9 UDP/TLS/RTP/SAVPF 98\r\na=rtpmap:98 VP9/90000\r\n"), 406),
            (offer("m=video 9 UDP/TLS/RTP/SAVPF 98\r\n"), 406),
            (offer("m=text 9 UDP/TLS/RTP/SAVPF 98\r\n"), 422),
            (offer(H264), 201),
        ] {
            assert_eq!(status(&sdp), want, "{sdp}");
        }
    }
}
