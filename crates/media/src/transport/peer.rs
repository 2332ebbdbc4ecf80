//! One WebRTC connection.

use super::congestion::{RateLink, Told};
use super::engine::{End, PLAYOUT_DELAY_URI, VideoCodec, media_engine, opus, registry, settings};
use super::outbound::RtpOut;
use super::path::{TcpCandidate, split_tcp, without_active, without_tcp};
use super::repair::{Repair, RepairLink, RepairLog};
use super::sockets::Sockets;
use crate::config::{RelayServer, SenderConfig};
use crate::error::MediaError;
use bytes::{Bytes, BytesMut};
use loco_model::input::{KEYS_CHANNEL, PATH_CHANNEL, POINTER_CHANNEL};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCIceTransportPolicy;
use rtc::peer_connection::transport::RTCIceServer;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpFecParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder, RTCIceCandidateInit,
    RTCIceGatheringState, RTCPeerConnectionState, RTCSessionDescription,
};
use webrtc::rtp_transceiver::RtpSender;
use webrtc::runtime::Runtime;

/// Host candidates are there at once; this bounds a hanging name server or interface list.
const GATHER_AT_MOST: Duration = Duration::from_secs(3);
/// A relay that does not answer shall not keep a direct path waiting for longer.
const RELAY_GATHER_AT_MOST: Duration = Duration::from_secs(1);

#[expect(clippy::needless_pass_by_value, reason = "the argument of `map_err`")]
pub(super) fn failed(error: rtc::shared::error::Error) -> MediaError {
    MediaError::Rtc(error.to_string())
}

/// How a connection is made.
pub(crate) struct PeerOptions {
    /// Where its UDP socket is bound; a sender's TCP listener too.
    pub(crate) bind: SocketAddr,
    /// Relays where no direct path is found.
    pub(crate) relay: Option<RelayServer>,
    /// Video codecs, best first; a sender names exactly one.
    pub(crate) video: Vec<VideoCodec>,
    /// Whether sound is carried too.
    pub(crate) sound: bool,
}

/// What happens on a connection.
pub(crate) enum PeerEvent {
    /// DTLS is up: media and data may flow.
    Connected,
    /// The other end has been silent for longer than it should; it may come back.
    Doubtful,
    /// It is over (closed, failed, or silent for too long), for this reason.
    Ended(&'static str),
    /// The other end opened a data channel.
    Channel(Channel),
    /// The other end sends a track.
    Track(RtpIn),
    /// The other end asks for a key frame.
    KeyFrameWanted,
}

/// A data channel.
pub(crate) struct Channel {
    pub(crate) label: String,
    channel: Arc<dyn DataChannel>,
}

impl Channel {
    /// The next message; `None` when the channel is closed.
    pub(crate) async fn next(&self) -> Option<BytesMut> {
        loop {
            match self.channel.poll().await? {
                DataChannelEvent::OnMessage(message) => return Some(message.data),
                DataChannelEvent::OnClose | DataChannelEvent::OnError => return None,
                _ => {}
            }
        }
    }

    /// Waits until it may be sent on; whether it is open then.
    pub(crate) async fn opened(&self) -> bool {
        loop {
            match self.channel.poll().await {
                Some(DataChannelEvent::OnOpen) => return true,
                None | Some(DataChannelEvent::OnClose | DataChannelEvent::OnError) => return false,
                Some(_) => {}
            }
        }
    }

    /// Sends one message; whether it was taken.
    pub(crate) async fn send(&self, message: BytesMut) -> bool {
        self.channel.send(message).await.is_ok()
    }
}

/// A received packet.
pub(crate) struct InboundRtp {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Bytes,
    /// Of the whole packet.
    pub(crate) bytes: usize,
    /// How it came after all, where the path had lost it.
    pub(crate) repair: Option<Repair>,
}

/// A track that is received.
pub(crate) struct RtpIn {
    track: Arc<dyn TrackRemote>,
    /// Where it is repaired.
    log: Option<Arc<RepairLog>>,
    pub(crate) is_video: bool,
}

impl RtpIn {
    /// The next packet; `None` when the track ended.
    pub(crate) async fn next(&self) -> Option<InboundRtp> {
        loop {
            match self.track.poll().await? {
                TrackRemoteEvent::OnRtpPacket(packet) => {
                    let header = &packet.header;
                    let extension = header.extensions.iter().map(|e| e.payload.len() + 1).sum::<usize>();
                    return Some(InboundRtp {
                        sequence: header.sequence_number,
                        timestamp: header.timestamp,
                        marker: header.marker,
                        bytes: 12
                            + if extension > 0 { 4 + extension.next_multiple_of(4) } else { 0 }
                            + packet.payload.len(),
                        repair: self.log.as_ref().and_then(|log| log.take(header.sequence_number)),
                        payload: packet.payload,
                    });
                }
                TrackRemoteEvent::OnEnded | TrackRemoteEvent::OnError => return None,
                _ => {}
            }
        }
    }

    /// The codec's name in the SDP.
    pub(crate) async fn codec_name(&self) -> Option<String> {
        let ssrc = *self.track.ssrcs().await.first()?;
        let codec = self.track.codec(ssrc).await?;
        Some(codec.mime_type.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// Asks the sender for a key frame.
    pub(crate) async fn request_key_frame(&self) {
        if let Some(media_ssrc) = self.track.ssrcs().await.first().copied() {
            // Lost when the connection is gone: then there is nothing to repair either.
            let _ = self.track.write_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 0, media_ssrc })]).await;
        }
    }
}

/// Passes the crate's callbacks on as events.
struct Handler {
    events: mpsc::UnboundedSender<PeerEvent>,
    gathered: mpsc::UnboundedSender<()>,
    repairs: Option<Arc<RepairLog>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.send(());
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let event = match state {
            RTCPeerConnectionState::Connected => PeerEvent::Connected,
            RTCPeerConnectionState::Disconnected => PeerEvent::Doubtful,
            RTCPeerConnectionState::Failed => PeerEvent::Ended("no path to the other end any more"),
            RTCPeerConnectionState::Closed => PeerEvent::Ended("the other end closed it"),
            _ => return,
        };
        let _ = self.events.send(event);
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        if let Ok(label) = channel.label().await {
            let _ = self.events.send(PeerEvent::Channel(Channel { label, channel }));
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let is_video = track.kind().await == RtpCodecKind::Video;
        let log = self.repairs.clone().filter(|_| is_video);
        let _ = self.events.send(PeerEvent::Track(RtpIn { track, log, is_video }));
    }
}

/// One connection. Closed with [`Peer::close`], or by a task of its own when dropped.
pub(crate) struct Peer {
    pub(super) connection: Arc<dyn PeerConnection>,
    pub(super) gathered: mpsc::UnboundedReceiver<()>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) sockets: Arc<Sockets>,
    gather_at_most: Duration,
    /// The sender's TCP addresses, until they are tried.
    pub(super) tcp: Vec<TcpCandidate>,
    video: Option<(Arc<TrackLocalStaticRTP>, Arc<dyn RtpSender>, u32)>,
    sound: Option<(Arc<TrackLocalStaticRTP>, Arc<dyn RtpSender>, u32)>,
    events: mpsc::UnboundedSender<PeerEvent>,
    repair: Option<Arc<RepairLink>>,
    rate: Option<Arc<RateLink>>,
    repairs: Option<Arc<RepairLog>>,
    told: Option<Arc<Told>>,
    open: bool,
}

impl Peer {
    async fn build(options: &PeerOptions, end: &End) -> Result<(Self, mpsc::UnboundedReceiver<PeerEvent>), MediaError> {
        let (events, events_in) = mpsc::unbounded_channel();
        let (gathered_out, gathered) = mpsc::unbounded_channel();
        let (repair, rate, repairs, told) = match end {
            End::Sender(link, rate) => (Some(Arc::clone(link)), Some(Arc::clone(rate)), None, None),
            End::Receiver(log, told) => (None, None, Some(Arc::clone(log)), Some(Arc::clone(told))),
        };
        let handler = Handler { events: events.clone(), gathered: gathered_out, repairs: repairs.clone() };
        let sockets = Arc::new(Sockets::new());
        let tcp_port = if matches!(end, End::Sender(..)) { options.bind.port() } else { 0 };
        let is_relay_only = options.relay.as_ref().is_some_and(|relay| relay.only);
        let policy = if is_relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
        let relays = options.relay.iter().map(|relay| RTCIceServer {
            urls: vec![relay.url.clone()],
            username: relay.user.clone(),
            credential: relay.password.clone(),
        });
        let relays: Vec<_> = relays.collect();
        if let Some(relay) = relays.iter().find(|relay| relay.urls().is_err()) {
            let value = relay.urls.join(" ");
            return Err(MediaError::Setting {
                name: "the relay",
                value,
                allowed: "turn:HOST:PORT with a user and a password",
            });
        }
        let connection = PeerConnectionBuilder::new()
            .with_configuration(
                RTCConfigurationBuilder::new().with_ice_servers(relays).with_ice_transport_policy(policy).build(),
            )
            .with_media_engine(media_engine(&options.video, options.sound)?)
            .with_interceptor_registry(registry(end))
            .with_setting_engine(settings())
            .with_handler(Arc::new(handler))
            .with_runtime(Arc::clone(&sockets) as Arc<dyn Runtime>)
            .with_udp_addrs(vec![options.bind])
            // The receiver's is never called: it is what lets the crate call by TCP.
            .with_tcp_addrs(vec![SocketAddr::new(options.bind.ip(), tcp_port)])
            .build()
            .await
            .map_err(|e| MediaError::Io(format!("no media socket on {}: {e}", options.bind)))?;
        let peer = Self {
            connection: Arc::new(connection),
            gathered,
            runtime: tokio::runtime::Handle::current(),
            sockets,
            tcp: Vec::new(),
            gather_at_most: if options.relay.is_some() { RELAY_GATHER_AT_MOST } else { GATHER_AT_MOST },
            video: None,
            sound: None,
            events,
            repair,
            rate,
            repairs,
            told,
            open: true,
        };
        Ok((peer, events_in))
    }

    /// The sender's end: answers `offer`.
    pub(crate) async fn answer(
        options: &PeerOptions,
        offer: String,
    ) -> Result<(Self, String, mpsc::UnboundedReceiver<PeerEvent>), MediaError> {
        let link = Arc::new(RepairLink::new(SenderConfig::DEFAULT_BIT_RATE));
        let rate = Arc::new(RateLink::new(SenderConfig::DEFAULT_BIT_RATE, Arc::clone(&link)));
        let (mut peer, events) = Self::build(options, &End::Sender(link, rate)).await?;
        let video = options.video.first().copied().unwrap_or(VideoCodec::H264);
        peer.video = Some(peer.add_track(RtpCodecKind::Video, video.codec()).await?);
        if options.sound {
            peer.sound = Some(peer.add_track(RtpCodecKind::Audio, opus()).await?);
        }
        let answer = peer.answer_again(offer).await?;
        Ok((peer, answer, events))
    }

    /// What repair and rate control share; `None` at the receiver's end.
    pub(crate) const fn repair(&self) -> Option<&Arc<RepairLink>> {
        self.repair.as_ref()
    }

    /// What the path carries, and what waits for it; `None` at the receiver's end.
    pub(crate) const fn rate(&self) -> Option<&Arc<RateLink>> {
        self.rate.as_ref()
    }

    /// What the sender tells of itself; `None` at the sender's end.
    pub(crate) const fn told(&self) -> Option<&Arc<Told>> {
        self.told.as_ref()
    }

    /// What the receiver's end repaired; `None` at the sender's end.
    pub(crate) const fn repairs(&self) -> Option<&Arc<RepairLog>> {
        self.repairs.as_ref()
    }

    /// Takes an offer (the first, or one with new ICE credentials) and answers with all candidates.
    pub(crate) async fn answer_again(&mut self, offer: String) -> Result<String, MediaError> {
        self.forget_gathering();
        let offer = RTCSessionDescription::offer(offer).map_err(failed)?;
        self.connection.set_remote_description(offer).await.map_err(failed)?;
        let answer = self.connection.create_answer(None).await.map_err(failed)?;
        self.connection.set_local_description(answer).await.map_err(failed)?;
        Ok(without_active(&self.gathered_description().await?))
    }

    /// The receiver's end: its offer, and its three data channels (keys, pointer, path).
    pub(crate) async fn offer(
        options: &PeerOptions,
    ) -> Result<(Self, String, [Channel; 3], mpsc::UnboundedReceiver<PeerEvent>), MediaError> {
        let (mut peer, events) = Self::build(options, &End::Receiver(Arc::default(), Arc::default())).await?;
        let receive_only =
            || Some(RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() });
        peer.connection.add_transceiver_from_kind(RtpCodecKind::Video, receive_only()).await.map_err(failed)?;
        if options.sound {
            peer.connection.add_transceiver_from_kind(RtpCodecKind::Audio, receive_only()).await.map_err(failed)?;
        }
        let keys = peer.connection.create_data_channel(KEYS_CHANNEL, None).await.map_err(failed)?;
        let lossy = RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..Default::default() };
        let pointer =
            peer.connection.create_data_channel(POINTER_CHANNEL, Some(lossy.clone())).await.map_err(failed)?;
        let path = peer.connection.create_data_channel(PATH_CHANNEL, Some(lossy)).await.map_err(failed)?;
        let offer = peer.connection.create_offer(None).await.map_err(failed)?;
        peer.connection.set_local_description(offer).await.map_err(failed)?;
        let sdp = without_tcp(&peer.gathered_description().await?);
        let channels = [
            Channel { label: KEYS_CHANNEL.to_owned(), channel: keys },
            Channel { label: POINTER_CHANNEL.to_owned(), channel: pointer },
            Channel { label: PATH_CHANNEL.to_owned(), channel: path },
        ];
        Ok((peer, sdp, channels, events))
    }

    /// The receiver's end: the sender's answer.
    pub(crate) async fn accept(&mut self, answer: &str) -> Result<(), MediaError> {
        let (answer, tcp) = split_tcp(answer);
        self.tcp = tcp;
        let answer = RTCSessionDescription::answer(answer).map_err(failed)?;
        self.connection.set_remote_description(answer).await.map_err(failed)
    }

    /// A candidate of the other end, the text after `a=`.
    pub(crate) async fn add_candidate(&self, candidate: &str, mid: Option<String>) -> Result<(), MediaError> {
        let candidate = RTCIceCandidateInit {
            candidate: candidate.to_owned(),
            sdp_mid: mid,
            sdp_mline_index: Some(0),
            username_fragment: None,
            url: None,
        };
        self.connection.add_ice_candidate(candidate).await.map_err(failed)
    }

    /// What took too long earlier may have ended since: that is not the end of what begins now.
    pub(super) fn forget_gathering(&mut self) {
        while self.gathered.try_recv().is_ok() {}
    }

    pub(super) async fn gathered_description(&mut self) -> Result<String, MediaError> {
        if tokio::time::timeout(self.gather_at_most, self.gathered.recv()).await.is_err() {
            tracing::warn!("gathering ICE candidates took more than {:?}", self.gather_at_most);
        }
        let description = self.connection.local_description().await;
        Ok(description.ok_or_else(|| MediaError::Rtc("no local description".to_owned()))?.sdp)
    }

    async fn add_track(
        &self,
        kind: RtpCodecKind,
        codec: RTCRtpCodec,
    ) -> Result<(Arc<TrackLocalStaticRTP>, Arc<dyn RtpSender>, u32), MediaError> {
        let ssrc = rand::random();
        let label = if kind == RtpCodecKind::Video { "video" } else { "sound" };
        // Left out again where the player's offer has no parity.
        let fec = (kind == RtpCodecKind::Video).then(|| RTCRtpFecParameters { ssrc: rand::random() });
        let encoding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), fec, ..Default::default() },
            codec,
            ..Default::default()
        };
        // One stream for both, so that a player keeps them in step.
        let track = MediaStreamTrack::new("loco".to_owned(), label.to_owned(), label.to_owned(), kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        let sender = self.connection.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await.map_err(failed)?;
        Ok((track, sender, ssrc))
    }

    /// The tracks to write to, video first, with what was negotiated; once, after [`PeerEvent::Connected`].
    pub(crate) async fn outputs(&mut self, video: VideoCodec) -> Result<(RtpOut, Option<RtpOut>), MediaError> {
        let (track, sender, ssrc) =
            self.video.take().ok_or_else(|| MediaError::Rtc("the video track is taken".to_owned()))?;
        let (requests, events) = (Arc::clone(&track), self.events.clone());
        // Ends with the connection, which closes the track's events.
        self.runtime.spawn(async move {
            while let Some(TrackLocalEvent::OnRtcpPacket(_)) = requests.poll().await {
                if events.send(PeerEvent::KeyFrameWanted).is_err() {
                    break;
                }
            }
        });
        let video = rtp_out(track, &sender, ssrc, video.mime_type()).await?;
        let sound = match self.sound.take() {
            Some((track, sender, ssrc)) => Some(rtp_out(track, &sender, ssrc, &opus().mime_type).await?),
            None => None,
        };
        Ok((video, sound))
    }

    /// Says goodbye and frees the socket.
    pub(crate) async fn close(mut self) {
        self.open = false;
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing a connection");
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.open {
            let connection = Arc::clone(&self.connection);
            self.runtime.spawn(async move { connection.close().await });
        }
    }
}

/// The numbers that were negotiated for a track; a browser's differ from the ones that we proposed.
async fn rtp_out(
    track: Arc<TrackLocalStaticRTP>,
    sender: &Arc<dyn RtpSender>,
    ssrc: u32,
    mime_type: &str,
) -> Result<RtpOut, MediaError> {
    let parameters = sender.get_parameters().await.map_err(failed)?.rtp_parameters;
    let payload_type = parameters
        .codecs
        .iter()
        .find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime_type))
        .map(|codec| codec.payload_type)
        .ok_or_else(|| MediaError::Rtc(format!("{mime_type} was not negotiated")))?;
    let playout_delay_id =
        parameters.header_extensions.iter().find(|e| e.uri == PLAYOUT_DELAY_URI).and_then(|e| u8::try_from(e.id).ok());
    Ok(RtpOut { track, ssrc, payload_type, playout_delay_id, sequence: rand::random() })
}
