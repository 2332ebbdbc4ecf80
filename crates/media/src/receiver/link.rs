//! The receiver's task: connect, serve, and connect again.

use super::assemble::{Assembler, Counts};
use super::channels::{ask_for_echoes, receive_sound, send_input};
use super::key_frames::KeyFrameAsker;
use super::mailbox::{Mailbox, Outbox};
use super::reach::{Agreed, Reach, Seen, Terms};
use super::vigil::{Step, Vigil};
use super::{SessionState, lifeline};
use crate::config::ReceiverConfig;
use crate::error::MediaError;
use crate::sound_link::PacketSink;
use crate::stats::PathKind;
use crate::transport::{Channel, InboundRtp, Peer, PeerEvent, RepairLog, RtpIn, Told, Traffic, VideoCodec};
use crate::video::{Decoder, check_decoder};
use crate::whep::{Client, ClientError};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// ICE and DTLS need this long at most.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// After that a channel must open or media come. The flight that ends the DTLS handshake is not sent again when it is
/// lost: this end is connected then, the other one waits for ever.
const OPEN_WITHIN: Duration = Duration::from_secs(4);
/// UDP has this long to connect before TCP is tried too. That something is heard by UDP is not enough: a relay may answer
/// for itself, and datagrams may come in and not go out.
const TCP_AFTER: Duration = Duration::from_millis(400);
/// A session whose path died has this long to find another.
const MEND_WITHIN: Duration = Duration::from_secs(5);
/// Between two measurements of the round trip while packets flow.
const ECHO_AGAIN: Duration = Duration::from_secs(1);
/// Between two attempts: doubled from the least to the most, and a share of it by chance.
const LEAST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_millis(600);
/// A refusal that only a person can lift is not asked about more often.
const REFUSED_WAIT: Duration = Duration::from_secs(2);
/// Keys that may wait for the channel: a person does not type faster.
const KEYS_AHEAD: usize = 256;

/// What a person reads when no other path is found.
const PATH_GONE: &str = "the network path to it is gone";

pub(super) type Sound = Arc<Mutex<Box<dyn PacketSink>>>;

/// Why a session ended, or never began.
pub(super) enum End {
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
    let client = Client::new(&config.whep_url, config.token.as_deref());
    let client = match client.and_then(|client| client.with_headers(&config.headers)) {
        Ok(client) => client,
        Err(error) => return mailbox.set_state(SessionState::Failed { reason: error.to_string() }),
    };
    if let Err(error) = check_decoder(VideoCodec::H264) {
        return mailbox.set_state(SessionState::Failed { reason: error.to_string() });
    }
    let sound: Option<Sound> = config.sound.map(|sink| Arc::new(Mutex::new(sink)));
    let reach = Reach { client, bind: config.bind, relay: config.relay, with_sound: sound.is_some() };
    let mut attempts = 0u32;
    loop {
        let before = mailbox.meter.lock().stats.sessions;
        let Some(end) = session(&reach, sound.as_ref(), &mailbox, &stop).await else { return };
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

/// One session; `None`: told to stop.
async fn session(
    reach: &Reach,
    sound: Option<&Sound>,
    mailbox: &Arc<Mailbox>,
    stop: &CancellationToken,
) -> Option<End> {
    let agreed = tokio::select! {
        agreed = reach.agree() => agreed,
        () = stop.cancelled() => return None,
    };
    let Agreed { mut peer, channels, events, terms, lifeline } = match agreed {
        Ok(agreed) => agreed,
        Err(end) => return Some(end),
    };
    mailbox.meter.lock().stats.sessions_accepted += 1;
    let (host, port) = reach.client.host_and_port();
    let mut tasks = JoinSet::new();
    let mut live = Live {
        mailbox,
        sound,
        events,
        tasks: &mut tasks,
        assembler: Assembler::new(),
        counted: Counts::default(),
        decoder: None,
        has_decoded: false,
        key_frames: KeyFrameAsker::default(),
        video: None,
        repairs: peer.repairs().cloned().unwrap_or_default(),
        vigil: Vigil::default(),
        asks: None,
        mending_since: None,
        tcp_at: Some(Instant::now() + TCP_AFTER),
        opening: None,
    };
    let end = match peer.accept(&terms.answer).await {
        Err(error) => Some(End::Lost(error.to_string())),
        Ok(()) => tokio::select! {
            end = live.serve(&mut peer, channels, reach, &terms) => Some(end),
            why = lifeline::watch(lifeline, &host, port) => Some(End::Lost(why)),
            () = stop.cancelled() => None,
        },
    };
    *mailbox.outbox.lock() = None;
    mailbox.meter.lock().end_session();
    tasks.shutdown().await;
    if let Some(sound) = sound {
        sound.lock().reset();
    }
    peer.close().await;
    reach.end(terms).await;
    end
}

/// A session while it is served.
struct Live<'a> {
    mailbox: &'a Arc<Mailbox>,
    sound: Option<&'a Sound>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
    tasks: &'a mut JoinSet<()>,
    assembler: Assembler,
    /// What of its counts is in the statistics already.
    counted: Counts,
    decoder: Option<Decoder>,
    /// That decoder made a picture.
    has_decoded: bool,
    key_frames: KeyFrameAsker,
    video: Option<RtpIn>,
    repairs: Arc<RepairLog>,
    vigil: Vigil,
    /// Asks the other end for a sign of life.
    asks: Option<mpsc::Sender<()>>,
    /// The path died then, and no other has been found yet.
    mending_since: Option<Instant>,
    /// When TCP is tried, unless a path is found before.
    tcp_at: Option<Instant>,
    /// Connected, but nothing has shown yet that the other end is too: until when that may last.
    opening: Option<(Instant, oneshot::Receiver<()>)>,
}

impl Live<'_> {
    async fn serve(&mut self, peer: &mut Peer, channels: [Channel; 3], reach: &Reach, terms: &Terms) -> End {
        let mut channels = Some(channels);
        let connect_by = tokio::time::sleep(CONNECT_WITHIN);
        tokio::pin!(connect_by);
        let traffic = Arc::clone(peer.traffic());
        loop {
            let (step, look_at) = self.look(&traffic);
            match step {
                Step::Wait => {}
                Step::Ask => self.ask(),
                Step::Dead => {
                    if let Err(end) = self.mend(peer, reach, terms).await {
                        return end;
                    }
                    continue;
                }
            }
            let timer = self.timer().into_iter().chain(look_at).min();
            let open_by = self.opening.as_ref().map(|(by, _)| *by);
            tokio::select! {
                biased;
                packet = next_packet(self.video.as_ref()) => match packet {
                    Some(packet) => {
                        if let Err(error) = self.packet(packet) {
                            return End::Failed(error);
                        }
                    }
                    // It ends with the connection, whether or not that still tells it.
                    None => return End::Lost("the connection is gone".to_owned()),
                },
                event = self.events.recv() => match event {
                    None => return End::Lost("the connection is gone".to_owned()),
                    Some(PeerEvent::Ended(why)) => return End::Lost(why.to_owned()),
                    Some(PeerEvent::Connected) => match channels.take() {
                        Some(channels) => self.connected(channels, peer.told().cloned()),
                        None => self.mailbox.stats_read.notify_one(),
                    },
                    Some(PeerEvent::Doubtful) if channels.is_none() => {
                        if let Err(end) = self.mend(peer, reach, terms).await {
                            return end;
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
                () = sleep_until(self.tcp_at) => {
                    self.tcp_at = None;
                    peer.try_tcp();
                }
                () = opened(&mut self.opening) => self.opening = None,
                () = sleep_until(open_by) => {
                    return End::Lost("the connection was made at this end only".to_owned());
                }
                () = self.mailbox.input_sent.notified() => self.vigil.input(Instant::now()),
                () = traffic.broken(), if channels.is_none() && self.mending_since.is_none() => {
                    let is_ours = peer.path().await.is_some_and(|path| path.kind == PathKind::Tcp);
                    if is_ours && let Err(end) = self.mend(peer, reach, terms).await {
                        return end;
                    }
                }
                () = self.mailbox.stats_read.notified() => {
                    self.tell_path(&Seen::of(peer).await);
                    self.repairs.set_round_trip(self.mailbox.meter.lock().round_trip);
                }
                () = &mut connect_by, if channels.is_some() => {
                    return End::Lost("no path for the media was found in time".to_owned());
                }
            }
            self.ask_for_key().await;
        }
    }

    /// Whether the path lives, and when to look again.
    fn look(&mut self, traffic: &Traffic) -> (Step, Option<Instant>) {
        let (now, heard) = (Instant::now(), traffic.last_heard());
        let Some(since) = self.mending_since else {
            let round_trip = self.mailbox.meter.lock().round_trip;
            return self.vigil.look(now, heard, round_trip);
        };
        if heard.is_some_and(|heard| heard > since) {
            (self.mending_since, self.tcp_at) = (None, None);
            self.mailbox.meter.lock().stats.path_changes += 1;
            self.mailbox.stats_read.notify_one();
            // What the old path still had is lost.
            self.key_frames = KeyFrameAsker::default();
            self.assembler.restart();
        }
        let give_up_at = since + MEND_WITHIN;
        if now >= give_up_at { (Step::Dead, None) } else { (Step::Wait, Some(give_up_at)) }
    }

    /// The path is dead: the session goes on by another, or ends.
    async fn mend(&mut self, peer: &mut Peer, reach: &Reach, terms: &Terms) -> Result<(), End> {
        let now = Instant::now();
        match self.mending_since {
            Some(since) if now < since + MEND_WITHIN => return Ok(()),
            Some(_) => return Err(End::Lost(PATH_GONE.to_owned())),
            None => {}
        }
        tracing::info!(heard_ms = ?peer.traffic().last_heard().map(|at| at.elapsed().as_millis()), "the path is silent: looking for another");
        self.mailbox.meter.lock().stats.path = None;
        let mended = tokio::time::timeout(MEND_WITHIN, reach.mend(peer, terms)).await;
        mended.unwrap_or_else(|_| Err("no answer in time".to_owned())).map_err(|why| {
            tracing::info!(why, "no other path was agreed on");
            End::Lost(PATH_GONE.to_owned())
        })?;
        // Whatever comes from now on came by a path that works.
        let now = Instant::now();
        (self.mending_since, self.tcp_at) = (Some(now), Some(now + TCP_AFTER));
        Ok(())
    }

    fn tell_path(&self, seen: &Seen) {
        let is_flowing = self.vigil.is_flowing();
        let mut meter = self.mailbox.meter.lock();
        meter.stats.path.clone_from(&seen.path);
        let now = Instant::now();
        let is_fresh = meter.echoed.is_some_and(|at| now.saturating_duration_since(at) < ECHO_AGAIN);
        if is_fresh {
            return;
        }
        if !is_flowing || meter.echoed.is_none() {
            meter.round_trip = seen.round_trip.or(meter.round_trip);
        }
        if is_flowing {
            drop(meter);
            self.ask();
        }
    }

    fn ask(&self) {
        if let Some(asks) = &self.asks {
            // Full: it was asked already.
            let _ = asks.try_send(());
        }
    }

    /// When to look again even if nothing arrives.
    fn timer(&self) -> Option<Instant> {
        let round_trip = self.mailbox.meter.lock().round_trip;
        let again = self.key_frames.next(round_trip).filter(|_| self.assembler.needs_key());
        self.assembler.deadline().into_iter().chain(again).min()
    }

    fn connected(&mut self, channels: [Channel; 3], told: Option<Arc<Told>>) {
        self.tcp_at = None;
        let (keys, keys_out) = mpsc::channel(KEYS_AHEAD);
        self.mailbox.meter.lock().new_session(told);
        *self.mailbox.outbox.lock() = Some(Outbox { keys, pointer: None });
        let [keys_channel, pointer_channel, path_channel] = channels;
        let (asks, asks_out) = mpsc::channel(1);
        self.asks = Some(asks);
        let (opened_in, opened) = oneshot::channel();
        self.opening = Some((Instant::now() + OPEN_WITHIN, opened));
        self.tasks.spawn(ask_for_echoes(path_channel, opened_in, asks_out, Arc::clone(self.mailbox)));
        self.tasks.spawn(send_input(keys_channel, pointer_channel, keys_out, Arc::clone(self.mailbox)));
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
            self.key_frames.comes_unasked(Instant::now());
            (self.video, self.opening) = (Some(track), None);
        } else if let Some(sound) = self.sound {
            self.tasks.spawn(receive_sound(track, Arc::clone(sound), Arc::clone(self.mailbox)));
        }
    }

    fn packet(&mut self, packet: InboundRtp) -> Result<(), MediaError> {
        let now = Instant::now();
        self.vigil.media(now);
        let (timestamp, bytes, repair) = (packet.timestamp, packet.bytes, packet.repair);
        let before = self.assembler.counts().expected;
        self.assembler.push(packet, now);
        {
            let mut meter = self.mailbox.meter.lock();
            meter.packet(timestamp, bytes, now);
            if self.assembler.counts().expected > before + 1 || repair.is_some() {
                meter.repairs(self.repairs.counts());
            }
        }
        self.decode()
    }

    fn decode(&mut self) -> Result<(), MediaError> {
        while let Some(frame) = self.assembler.pop(Instant::now()) {
            self.key_frames.came();
            self.mailbox.meter.lock().whole(&frame);
            let decoder = match &mut self.decoder {
                Some(decoder) => decoder,
                none => none.insert(Decoder::new(VideoCodec::H264)?),
            };
            match decoder.decode(frame.bytes, frame.timestamp, frame.first_packet, frame.complete) {
                Ok(Some(picture)) => {
                    self.mailbox.meter.lock().frame(picture.size(), &picture.times);
                    self.mailbox.put(picture);
                    self.has_decoded = true;
                }
                // A key frame whose parameter sets were lost: nothing after it can be decoded either.
                Ok(None) if !self.has_decoded => self.assembler.restart(),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a frame was not decoded");
                    self.mailbox.meter.lock().stats.frames_refused += 1;
                    (self.decoder, self.has_decoded) = (None, false);
                    self.assembler.restart();
                }
            }
        }
        let after = self.assembler.counts();
        self.mailbox.meter.lock().count(self.counted, after, Instant::now());
        self.counted = after;
        Ok(())
    }

    async fn ask_for_key(&mut self) {
        let now = Instant::now();
        let round_trip = self.mailbox.meter.lock().round_trip;
        if let Some(video) = &self.video
            && self.assembler.needs_key()
            && self.key_frames.is_due(round_trip, now)
        {
            self.key_frames.asked(now);
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

/// Waits until the channel is open; for ever where none is waited for, and where its task ended, which tells it otherwise.
async fn opened(opening: &mut Option<(Instant, oneshot::Receiver<()>)>) {
    match opening {
        Some((_, receiver)) if !receiver.is_terminated() => match receiver.await {
            Ok(()) => {}
            Err(_) => std::future::pending().await,
        },
        _ => std::future::pending().await,
    }
}

pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
