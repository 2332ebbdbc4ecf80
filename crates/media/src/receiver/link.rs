//! The receiver's task: connect, serve, and connect again.

use super::assemble::Assembler;
use super::mailbox::{Mailbox, Outbox};
use super::{SessionState, lifeline};
use crate::config::ReceiverConfig;
use crate::error::MediaError;
use crate::sound_link::{PacketSink, ReceivedPacket};
use crate::transport::{Channel, InboundRtp, Peer, PeerEvent, PeerOptions, RtpIn, VideoCodec};
use crate::video::{Decoder, check_decoder};
use crate::whep::{Answer, Client, ClientError};
use bytes::BytesMut;
use loco_model::input::{KeysEvent, KeysMessage, PointerMessage};
use parking_lot::Mutex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// ICE and DTLS need this long at most.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts: doubled from the least to the most, and a share of it by chance.
const LEAST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_millis(800);
/// A refusal that only a person can lift is not asked about more often.
const REFUSED_WAIT: Duration = Duration::from_secs(2);
/// A key frame that does not come is asked for again.
const KEY_AGAIN: Duration = Duration::from_millis(300);
/// Keys that may wait for the channel: a person does not type faster.
const KEYS_AHEAD: usize = 256;

type Sound = Arc<Mutex<Box<dyn PacketSink>>>;

/// Why a session ended, or never began.
enum End {
    /// It was connected.
    Lost(String),
    /// It was not.
    NoSession(ClientError),
    Failed(MediaError),
}

impl End {
    fn reason(&self) -> String {
        match self {
            Self::Lost(reason) => reason.clone(),
            Self::NoSession(error) => error.to_string(),
            Self::Failed(error) => error.to_string(),
        }
    }

    const fn least_wait(&self) -> Duration {
        match self {
            Self::NoSession(
                ClientError::Unauthorized
                | ClientError::Forbidden
                | ClientError::NotFound(_)
                | ClientError::Refused(..),
            ) => REFUSED_WAIT,
            _ => LEAST_WAIT,
        }
    }
}

/// Runs until `stop`.
pub(super) async fn run(config: ReceiverConfig, mailbox: Arc<Mailbox>, stop: CancellationToken) {
    let client = match Client::new(&config.whep_url, config.token.as_deref()) {
        Ok(client) => client,
        Err(error) => return mailbox.set_state(SessionState::Failed { reason: error.to_string() }),
    };
    if let Err(error) = check_decoder(VideoCodec::H264) {
        return mailbox.set_state(SessionState::Failed { reason: error.to_string() });
    }
    let bind = config.bind.unwrap_or_else(|| bind_for(&client.host_and_port().0));
    let sound: Option<Sound> = config.sound.map(|sink| Arc::new(Mutex::new(sink)));
    let mut attempts = 0u32;
    loop {
        let before = mailbox.meter.lock().stats.sessions;
        let Some(end) = session(&client, bind, sound.as_ref(), &mailbox, &stop).await else { return };
        let was_connected = mailbox.meter.lock().stats.sessions > before;
        attempts = if was_connected { 1 } else { attempts.saturating_add(1) };
        let reason = end.reason();
        tracing::debug!(%reason, attempts, "no session");
        mailbox.set_state(SessionState::Retrying { reason, attempts });
        let doubled = LEAST_WAIT * (1 << attempts.saturating_sub(1).min(3));
        let wait = doubled.clamp(end.least_wait(), MOST_WAIT.max(end.least_wait()));
        let wait = wait.mul_f64(rand::random_range(0.75..1.0));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = mailbox.reconnect.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

fn bind_for(host: &str) -> IpAddr {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) if ip.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Ok(IpAddr::V4(ip)) if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) if host == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// A session that the sender agreed to.
struct Agreed {
    peer: Peer,
    channels: [Channel; 2],
    events: mpsc::UnboundedReceiver<PeerEvent>,
    answer: Answer,
    lifeline: TcpStream,
}

async fn agree(client: &Client, bind: IpAddr, with_sound: bool) -> Result<Agreed, End> {
    // Before anything costly: is there someone at all? The connection then stays, to tell when its other end dies.
    let (host, port) = client.host_and_port();
    let lifeline = lifeline::connect(&host, port)
        .await
        .map_err(|e| End::NoSession(ClientError::Unreachable(format!("{host}:{port}"), e.to_string())))?;
    let options = PeerOptions { bind: SocketAddr::new(bind, 0), video: vec![VideoCodec::H264], sound: with_sound };
    let (peer, offer, channels, events) = Peer::offer(&options).await.map_err(End::Failed)?;
    match client.offer(offer).await {
        Ok(answer) => Ok(Agreed { peer, channels, events, answer, lifeline }),
        Err(error) => {
            peer.close().await;
            Err(End::NoSession(error))
        }
    }
}

/// One session; `None`: told to stop.
async fn session(
    client: &Client,
    bind: IpAddr,
    sound: Option<&Sound>,
    mailbox: &Arc<Mailbox>,
    stop: &CancellationToken,
) -> Option<End> {
    let agreed = tokio::select! {
        agreed = agree(client, bind, sound.is_some()) => agreed,
        () = stop.cancelled() => return None,
    };
    let Agreed { peer, channels, events, answer, lifeline } = match agreed {
        Ok(agreed) => agreed,
        Err(end) => return Some(end),
    };
    let (host, port) = client.host_and_port();
    let url = answer.session.clone();
    let mut tasks = JoinSet::new();
    let mut live = Live {
        mailbox,
        sound,
        events,
        tasks: &mut tasks,
        assembler: Assembler::new(),
        decoder: None,
        key_asked: None,
        video: None,
    };
    let end = match peer.accept(answer.sdp).await {
        Err(error) => Some(End::Lost(error.to_string())),
        Ok(()) => tokio::select! {
            end = live.serve(&peer, channels) => Some(end),
            why = lifeline::watch(lifeline, &host, port) => Some(End::Lost(why)),
            () = stop.cancelled() => None,
        },
    };
    *mailbox.outbox.lock() = None;
    tasks.shutdown().await;
    if let Some(sound) = sound {
        sound.lock().reset();
    }
    peer.close().await;
    // Frees the port at once; when the agent is gone, this fails as quickly.
    client.delete(url).await;
    end
}

/// A session while it is served.
struct Live<'a> {
    mailbox: &'a Arc<Mailbox>,
    sound: Option<&'a Sound>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
    tasks: &'a mut JoinSet<()>,
    assembler: Assembler,
    decoder: Option<Decoder>,
    key_asked: Option<Instant>,
    video: Option<RtpIn>,
}

impl Live<'_> {
    async fn serve(&mut self, peer: &Peer, channels: [Channel; 2]) -> End {
        let mut channels = Some(channels);
        let connect_by = tokio::time::sleep(CONNECT_WITHIN);
        tokio::pin!(connect_by);
        loop {
            let timer = self.timer();
            tokio::select! {
                biased;
                packet = next_packet(self.video.as_ref()) => match packet {
                    Some(packet) => {
                        if let Err(error) = self.packet(packet) {
                            return End::Failed(error);
                        }
                    }
                    None => self.video = None,
                },
                event = self.events.recv() => match event {
                    None => return End::Lost("the connection is gone".to_owned()),
                    Some(PeerEvent::Ended(why)) => return End::Lost(why.to_owned()),
                    Some(PeerEvent::Connected) => {
                        if let Some(channels) = channels.take() {
                            self.connected(channels);
                        }
                    }
                    Some(PeerEvent::Track(track)) => self.track(track).await,
                    Some(PeerEvent::Channel(_) | PeerEvent::KeyFrameWanted | PeerEvent::Doubtful) => {}
                },
                () = sleep_until(timer) => {
                    if let Err(error) = self.decode() {
                        return End::Failed(error);
                    }
                }
                () = self.mailbox.stats_read.notified() => {
                    let round_trip = peer.round_trip().await;
                    self.mailbox.meter.lock().round_trip = round_trip;
                }
                () = &mut connect_by, if channels.is_some() => {
                    return End::Lost("no path for the media was found in time".to_owned());
                }
            }
            self.ask_for_key().await;
        }
    }

    /// When to look again even if nothing arrives.
    fn timer(&self) -> Option<Instant> {
        let again = self.key_asked.filter(|_| self.assembler.needs_key()).map(|at| at + KEY_AGAIN);
        self.assembler.deadline().into_iter().chain(again).min()
    }

    fn connected(&mut self, channels: [Channel; 2]) {
        let (keys, keys_out) = mpsc::channel(KEYS_AHEAD);
        self.mailbox.meter.lock().new_session();
        *self.mailbox.outbox.lock() = Some(Outbox { keys, pointer: None });
        let [keys_channel, pointer_channel] = channels;
        self.tasks.spawn(send_keys(keys_channel, keys_out, Arc::clone(self.mailbox)));
        self.tasks.spawn(send_pointer(pointer_channel, Arc::clone(self.mailbox)));
        if let Some(sound) = self.sound {
            sound.lock().reset();
        }
        // The round trip, once; later whenever someone reads the statistics.
        self.mailbox.stats_read.notify_one();
        self.mailbox.set_state(SessionState::Connected);
    }

    async fn track(&mut self, track: RtpIn) {
        if track.is_video {
            self.mailbox.meter.lock().stats.codec = track.codec_name().await;
            // The sender begins with a key frame; should it be lost, the timer asks.
            self.key_asked = Some(Instant::now());
            self.video = Some(track);
        } else if let Some(sound) = self.sound {
            self.tasks.spawn(receive_sound(track, Arc::clone(sound), Arc::clone(self.mailbox)));
        }
    }

    fn packet(&mut self, packet: InboundRtp) -> Result<(), MediaError> {
        let now = Instant::now();
        let (timestamp, bytes, before) = (packet.timestamp, packet.bytes, self.assembler.counts());
        self.assembler.push(packet, now);
        let after = self.assembler.counts();
        {
            let mut meter = self.mailbox.meter.lock();
            meter.packet(timestamp, bytes, now);
            meter.sent.add(after.seen - before.seen, now);
            meter.stats.packets_received += after.received - before.received;
            // Signed: a late packet makes up for one that counted as lost.
            let lost = |c: super::assemble::Counts| c.expected as i64 - c.received as i64;
            meter.stats.packets_lost = meter.stats.packets_lost.saturating_add_signed(lost(after) - lost(before));
        }
        self.decode()
    }

    fn decode(&mut self) -> Result<(), MediaError> {
        let dropped = self.assembler.counts().dropped;
        while let Some(frame) = self.assembler.pop(Instant::now()) {
            {
                let mut meter = self.mailbox.meter.lock();
                meter.stats.frames_received += 1;
                meter.received.add(1, frame.complete);
            }
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                none => none.insert(Decoder::new(VideoCodec::H264)?),
            };
            match decoder.decode(frame.bytes, frame.timestamp, frame.first_packet, frame.complete) {
                Ok(Some(picture)) => {
                    self.mailbox.meter.lock().frame(picture.size(), &picture.times);
                    self.mailbox.put(picture);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a frame was not decoded");
                    self.decoder = None;
                    self.assembler.restart();
                }
            }
        }
        let dropped = self.assembler.counts().dropped - dropped;
        self.mailbox.meter.lock().stats.frames_dropped += dropped;
        Ok(())
    }

    async fn ask_for_key(&mut self) {
        let now = Instant::now();
        let is_due = self.assembler.take_key_request() || self.assembler.needs_key();
        let may = self.key_asked.is_none_or(|at| now >= at + KEY_AGAIN);
        if let Some(video) = &self.video
            && is_due
            && may
        {
            self.key_asked = Some(now);
            self.mailbox.meter.lock().stats.key_frame_requests += 1;
            video.request_key_frame().await;
        }
    }
}

async fn next_packet(video: Option<&RtpIn>) -> Option<InboundRtp> {
    match video {
        Some(video) => video.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn send_keys(channel: Channel, mut keys: mpsc::Receiver<KeysEvent>, mailbox: Arc<Mailbox>) {
    if !channel.opened().await {
        return;
    }
    let mut sequence = 0u32;
    loop {
        let event = tokio::select! {
            event = keys.recv() => event,
            _ = channel.next() => continue,
        };
        let Some(event) = event else { return };
        let mut bytes = BytesMut::new();
        KeysMessage { sequence, event }.encode(&mut bytes);
        sequence = sequence.wrapping_add(1);
        if !channel.send(bytes).await {
            return;
        }
        mailbox.meter.lock().stats.inputs_sent += 1;
    }
}

async fn send_pointer(channel: Channel, mailbox: Arc<Mailbox>) {
    if !channel.opened().await {
        return;
    }
    let mut sequence = 0u32;
    loop {
        let taken = mailbox.outbox.lock().as_mut().and_then(|outbox| outbox.pointer.take());
        let Some(pointer) = taken else {
            mailbox.pointer_waits.notified().await;
            continue;
        };
        let mut bytes = BytesMut::new();
        PointerMessage { sequence, pointer }.encode(&mut bytes);
        sequence = sequence.wrapping_add(1);
        if !channel.send(bytes).await {
            return;
        }
        mailbox.meter.lock().stats.inputs_sent += 1;
    }
}

async fn receive_sound(track: RtpIn, sound: Sound, mailbox: Arc<Mailbox>) {
    while let Some(packet) = track.next().await {
        let arrival = Instant::now();
        {
            let mut meter = mailbox.meter.lock();
            meter.stats.bytes_received += packet.bytes as u64;
            meter.bytes.add(packet.bytes as u64, arrival);
        }
        sound.lock().packet(ReceivedPacket {
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            starts: packet.marker,
            payload: packet.payload,
            arrival,
        });
    }
}
