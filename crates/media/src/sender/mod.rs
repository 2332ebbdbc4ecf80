//! The agent's end: one canvas, one encoder, any number of viewers.

mod control;
mod crowd;
mod encode;
mod halve;
mod input;
mod pace;
mod ports;
mod session;
mod tally;
mod viewers;

use crate::config::{EncoderKind, SenderConfig};
use crate::error::{MediaError, WhepError};
use crate::limits::{Limiter, StreamLimits};
use crate::sound_link::SoundOutlet;
use crate::stats::SenderStats;
use crate::transport::{Peer, PeerOptions, VideoCodec, offered_media};
use crate::video::{Canvas, choose_encoder};
use crate::whep::{
    FRAGMENT_TYPE, Fragment, MAX_FRAGMENT_BYTES, MAX_OFFER_BYTES, Patched, SDP_TYPE, Session, body_text,
};
use control::Control;
use loco_model::input::{KeysEvent, Pointer};
use parking_lot::Mutex;
use ports::Ports;
use session::{Command, SessionTask};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use tally::SessionStats;
use tally::Tally;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Input messages of all sessions that may wait for the application.
const INPUT_MESSAGES: usize = 1024;
/// A picture that did not change for this long stands still.
const STILL_AFTER: Duration = Duration::from_secs(1);
/// Commands that may wait for a session.
const COMMANDS: usize = 16;

/// Names a session, unguessable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// As it stands in the session's URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What came over a session's data channels: each message once, stale pointer positions left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionInput {
    /// Channel `keys`.
    Keys(KeysEvent),
    /// Channel `pointer`.
    Pointer(Pointer),
    /// The session ended, however: what it holds must be released.
    Closed,
}

/// Shows a [`Canvas`] to viewers. Clones are the same sender; it stops with [`Sender::close`] or the last clone.
#[derive(Clone)]
pub struct Sender {
    inner: Arc<Inner>,
}

/// Dropped with the last clone; sessions hold only what they share.
struct Inner {
    shared: Arc<Shared>,
    input: Mutex<Option<mpsc::Receiver<(SessionId, SessionInput)>>>,
    tasks: TaskTracker,
}

struct Shared {
    canvas: Canvas,
    control: Arc<Control>,
    encoders: Vec<EncoderKind>,
    ports: Arc<Ports>,
    sound: SoundOutlet,
    input: mpsc::Sender<(SessionId, SessionInput)>,
    sessions: Mutex<HashMap<Arc<str>, Entry>>,
    viewers: watch::Sender<usize>,
    stop: CancellationToken,
    runtime: tokio::runtime::Handle,
}

/// A session as HTTP sees it.
struct Entry {
    commands: mpsc::Sender<Command>,
    etag: String,
    /// The player's last offer: an ICE restart changes its credentials.
    offer: String,
    /// The player's ICE user name, to tell a restart from a trickle.
    ufrag: String,
    tally: Arc<Tally>,
}

impl Shared {
    fn announce_viewers(&self) {
        self.viewers.send_replace(self.control.viewers());
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.control.stop();
    }
}

fn in_range(
    name: &'static str,
    value: u32,
    range: std::ops::RangeInclusive<u32>,
    allowed: &'static str,
) -> Result<(), MediaError> {
    if range.contains(&value) { Ok(()) } else { Err(MediaError::Setting { name, value: value.to_string(), allowed }) }
}

fn check_bit_rate(bits_per_second: u32) -> Result<(), MediaError> {
    in_range("bit rate", bits_per_second, 60_000..=100_000_000, "60000..=100000000 bit/s")
}

fn check_frame_rate(max_fps: u32) -> Result<(), MediaError> {
    in_range("frame rate", max_fps, 1..=240, "1..=240 frames a second")
}

/// What limits a stream whose picture last changed so long ago.
fn still_after(limits: StreamLimits, age: Option<Duration>) -> StreamLimits {
    if age.is_none_or(|age| age >= STILL_AFTER) { StreamLimits { limiter: Limiter::Still, ..limits } } else { limits }
}

fn entity_tag() -> String {
    format!("\"{:016x}\"", rand::random::<u64>())
}

impl Sender {
    /// Starts it on the current tokio runtime.
    ///
    /// # Errors
    /// When GStreamer or every encoder is missing, or a setting is out of range.
    pub fn start(config: SenderConfig, canvas: Canvas) -> Result<Self, MediaError> {
        config.bit_rate.map_or(Ok(()), check_bit_rate)?;
        check_frame_rate(config.max_fps)?;
        let found = [VideoCodec::H264, VideoCodec::Vp8].map(|codec| choose_encoder(&config.encoders, codec));
        if let [Err(error), Err(_)] = found {
            return Err(error);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| MediaError::Io(e.to_string()))?;
        let control = Arc::new(Control::new(config.bit_rate, config.max_fps));
        canvas.listen(&control);
        let (input, input_out) = mpsc::channel(INPUT_MESSAGES);
        let shared = Arc::new(Shared {
            canvas: canvas.clone(),
            control: Arc::clone(&control),
            encoders: config.encoders.clone(),
            ports: Arc::new(Ports::new(config.bind, config.rtc_ports)),
            sound: SoundOutlet::new(),
            input,
            sessions: Mutex::default(),
            viewers: watch::Sender::new(0),
            stop: CancellationToken::new(),
            runtime,
        });
        std::thread::Builder::new()
            .name("encoder".to_owned())
            .spawn(move || encode::run(&canvas, &config.encoders, &control))
            .map_err(|e| MediaError::Io(format!("no thread for the encoder: {e}")))?;
        Ok(Self { inner: Arc::new(Inner { shared, input: Mutex::new(Some(input_out)), tasks: TaskTracker::new() }) })
    }

    /// `POST` to the endpoint: answers an offer.
    ///
    /// # Errors
    /// As [`WhepError`] lists them.
    pub async fn whep_offer(&self, content_type: Option<&str>, body: &[u8]) -> Result<Session, WhepError> {
        let offer = body_text(body, content_type, SDP_TYPE, MAX_OFFER_BYTES)?;
        let shared = &self.inner.shared;
        if shared.stop.is_cancelled() {
            return Err(WhepError::Unavailable("the sender stops".to_owned()));
        }
        let media = offered_media(offer)?;
        let codec = self.usable_codec(&media.video)?;
        let ufrag = Fragment::parse(offer)?.ufrag;
        let lease = shared.ports.lease()?;
        let options = PeerOptions { bind: lease.address(), relay: None, video: vec![codec], sound: media.sound };
        let text = offer.to_owned();
        // A task of its own: whatever a strange offer does in there, it ends there.
        let answered = self.inner.tasks.spawn_on(async move { Peer::answer(&options, text).await }, &shared.runtime);
        let (peer, answer_sdp, events) = match answered.await {
            Ok(Ok(answered)) => answered,
            Ok(Err(MediaError::Io(why))) => return Err(WhepError::Unavailable(why)),
            Ok(Err(error)) => return Err(WhepError::Unprocessable(error.to_string())),
            Err(_) => return Err(WhepError::Unprocessable("it could not be read".to_owned())),
        };
        let (id, etag) = (SessionId::random(), entity_tag());
        let (commands, commands_out) = mpsc::channel(COMMANDS);
        let tally = Arc::new(Tally::new(codec, &peer));
        let entry = Entry { commands, etag: etag.clone(), offer: offer.to_owned(), ufrag, tally: Arc::clone(&tally) };
        shared.sessions.lock().insert(Arc::clone(&id.0), entry);
        let task = SessionTask {
            id: id.clone(),
            shared: Arc::clone(shared),
            peer,
            events,
            commands: commands_out,
            codec,
            lease,
            tally,
        };
        self.inner.tasks.spawn_on(task.run(), &shared.runtime);
        Ok(Session { id, answer_sdp, etag })
    }

    /// The player's most preferred codec that an installed encoder makes; H.264 before VP8, which costs twice as much.
    fn usable_codec(&self, offered: &[VideoCodec]) -> Result<VideoCodec, WhepError> {
        let usable = |codec| offered.contains(&codec) && choose_encoder(&self.inner.shared.encoders, codec).is_ok();
        [VideoCodec::H264, VideoCodec::Vp8].into_iter().find(|codec| usable(*codec)).ok_or_else(|| {
            let names: Vec<_> = offered.iter().map(|codec| codec.name()).collect();
            WhepError::NotAcceptable(format!("no encoder for {} is installed here", names.join(", ")))
        })
    }

    /// `PATCH` to a session: trickled candidates or an ICE restart.
    ///
    /// # Errors
    /// As [`WhepError`] lists them.
    pub async fn whep_patch(
        &self,
        session: &str,
        content_type: Option<&str>,
        if_match: Option<&str>,
        body: &[u8],
    ) -> Result<Patched, WhepError> {
        let no_session = || WhepError::NoSession(session.chars().take(80).collect());
        let shared = &self.inner.shared;
        let (commands, etag, offer, ufrag) = {
            let sessions = shared.sessions.lock();
            let entry = sessions.get(session).ok_or_else(no_session)?;
            (entry.commands.clone(), entry.etag.clone(), entry.offer.clone(), entry.ufrag.clone())
        };
        let text = body_text(body, content_type, FRAGMENT_TYPE, MAX_FRAGMENT_BYTES)?;
        let given = if_match.ok_or(WhepError::PreconditionRequired)?.trim();
        if given != "*" && !given.split(',').any(|tag| tag.trim() == etag) {
            let got = given.chars().take(80).collect();
            return Err(WhepError::PreconditionFailed { got, current: etag });
        }
        let candidates = Fragment::parse(text)?;
        if candidates.ufrag == ufrag {
            commands.send(Command::Candidates(candidates)).await.map_err(|_| no_session())?;
            return Ok(Patched::NoContent);
        }
        if given != "*" {
            let why = "new ICE credentials are a restart, which needs If-Match: *";
            return Err(WhepError::Unprocessable(why.to_owned()));
        }
        let (new_offer, new_ufrag) = (candidates.apply_to(&offer), candidates.ufrag.clone());
        let (answer, answered) = oneshot::channel();
        let command = Command::Restart { offer: new_offer.clone(), candidates, answer };
        commands.send(command).await.map_err(|_| no_session())?;
        let answer = answered.await.map_err(|_| no_session())?;
        let answer = answer.map_err(|e| WhepError::Unprocessable(e.to_string()))?;
        let etag = entity_tag();
        if let Some(entry) = shared.sessions.lock().get_mut(session) {
            (entry.etag, entry.offer, entry.ufrag) = (etag.clone(), new_offer, new_ufrag);
        }
        Ok(Patched::Restarted { fragment: Fragment::parse(&answer)?.to_body(), etag })
    }

    /// `DELETE` of a session.
    ///
    /// # Errors
    /// When there is no such session.
    pub async fn whep_delete(&self, session: &str) -> Result<(), WhepError> {
        let entry = self.inner.shared.sessions.lock().remove(session);
        let entry = entry.ok_or_else(|| WhepError::NoSession(session.chars().take(80).collect()))?;
        // Gone already is as good.
        let _ = entry.commands.send(Command::Close).await;
        Ok(())
    }

    /// Where the sound encoder puts its packets.
    #[must_use]
    pub fn sound_outlet(&self) -> SoundOutlet {
        self.inner.shared.sound.clone()
    }

    /// The viewers' input, all sessions in one queue. There is one consumer: later calls return `None`.
    #[must_use]
    pub fn input(&self) -> Option<mpsc::Receiver<(SessionId, SessionInput)>> {
        self.inner.input.lock().take()
    }

    /// How many viewers are connected, as it changes.
    #[must_use]
    pub fn viewers(&self) -> watch::Receiver<usize> {
        self.inner.shared.viewers.subscribe()
    }

    /// Every session, the oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStats> {
        let sessions = self.inner.shared.sessions.lock();
        let mut all: Vec<_> = sessions.iter().map(|(id, entry)| entry.tally.read(id)).collect();
        all.sort_by_key(|session| std::cmp::Reverse(session.age));
        all
    }

    /// Sets the bits a second of a moving picture; the next frame obeys.
    ///
    /// # Errors
    /// When out of 60 kbit/s..=100 Mbit/s.
    pub fn set_bit_rate(&self, bits_per_second: u32) -> Result<(), MediaError> {
        check_bit_rate(bits_per_second)?;
        self.inner.shared.control.set_bit_rate(Some(bits_per_second));
        Ok(())
    }

    /// Sets bits a second that are never exceeded, whatever [`Self::set_bit_rate`] or the picture's size say; `None`
    /// lifts that again.
    ///
    /// # Errors
    /// When out of 60 kbit/s..=100 Mbit/s.
    pub fn set_cap(&self, bits_per_second: Option<u32>) -> Result<(), MediaError> {
        bits_per_second.map_or(Ok(()), check_bit_rate)?;
        self.inner.shared.control.set_cap(bits_per_second);
        Ok(())
    }

    /// Makes the encoders anew: every viewer goes on with a key frame of a new one.
    pub fn renew_encoders(&self) {
        self.inner.shared.control.renew();
    }

    /// How long the encoder has been at the frame that it began last; `None` while it waits for something to do. Longer
    /// than a second: it hangs.
    #[must_use]
    pub fn encoder_busy_for(&self) -> Option<Duration> {
        self.inner.shared.control.busy_for()
    }

    /// Sets the frames a second at most.
    ///
    /// # Errors
    /// When out of 1..=240.
    pub fn set_frame_rate(&self, max_fps: u32) -> Result<(), MediaError> {
        check_frame_rate(max_fps)?;
        self.inner.shared.control.set_frame_rate(max_fps);
        Ok(())
    }

    /// Stops (or resumes) encoding; sessions stay connected.
    pub fn set_suspended(&self, suspended: bool) {
        self.inner.shared.control.set_suspended(suspended);
    }

    /// An input was injected into the guest: the next changes bypass the frame-rate limit.
    pub fn input_hint(&self) {
        self.inner.shared.control.input_hint();
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> SenderStats {
        let (shared, now) = (&self.inner.shared, Instant::now());
        let (canvas, counters) = (shared.canvas.stats(), shared.control.counters.lock().clone());
        let (decision, ceiling, limits) = shared.control.rates();
        let viewers = shared.control.viewers();
        SenderStats {
            size: shared.canvas.size(),
            damage_updates: canvas.damage_updates,
            unchanged_updates: canvas.unchanged_updates,
            last_damage_age_ms: canvas.last_damage.map(|at| (now - at).as_millis() as u64),
            encoder: choose_encoder(&shared.encoders, VideoCodec::H264)
                .or_else(|_| choose_encoder(&shared.encoders, VideoCodec::Vp8))
                .ok(),
            viewers: viewers as u32,
            sessions: shared.sessions.lock().len() as u32,
            suspended: shared.control.is_suspended(),
            frames_encoded: counters.frames,
            key_frames: counters.keys,
            refinement_frames: counters.refinements,
            fps: counters.fps.per_second(now),
            encoded_bytes: counters.bytes,
            packets_sent: counters.packets_sent,
            bytes_sent: counters.bytes_sent,
            key_frame_requests: counters.key_requests,
            frames_skipped: counters.skipped,
            wait: counters.wait.percentiles(now),
            encode: counters.encode.percentiles(now),
            send: counters.send.percentiles(now),
            bit_rate: decision.bit_rate,
            ceiling,
            max_fps: decision.max_fps,
            // Not renewed while nothing is made.
            limits: limits.map(|limits| still_after(limits, canvas.last_damage.map(|at| now - at))),
            fault: counters.fault.map(|fault| fault.to_string()),
        }
    }

    /// Says goodbye to every viewer and stops.
    pub async fn close(&self) {
        self.inner.shared.stop.cancel();
        self.inner.shared.control.stop();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
