//! One viewer's session, from its answer to its end.

use super::control::{Control, Frame};
use super::input::{InputTap, run_channel};
use super::ports::Lease;
use super::tally::Tally;
use super::{SessionId, SessionInput, Shared};
use crate::error::MediaError;
use crate::sound_link::OpusPacket;
use crate::transport::{Peer, PeerEvent, RtpOut, VideoCodec};
use crate::whep::Fragment;
use loco_model::input::KeysEvent;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

/// A player that has not connected by then never will.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// Data channels that one session may have.
const MAX_CHANNELS: usize = 8;

/// What the HTTP side asks of a session.
pub(super) enum Command {
    /// New candidates of the player.
    Candidates(Fragment),
    /// An offer with new ICE credentials; the answer goes back.
    Restart { offer: String, candidates: Fragment, answer: oneshot::Sender<Result<String, MediaError>> },
    /// End.
    Close,
}

/// A session's task.
pub(super) struct SessionTask {
    pub(super) id: SessionId,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: Peer,
    pub(super) events: mpsc::UnboundedReceiver<PeerEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) codec: VideoCodec,
    pub(super) lease: Lease,
    pub(super) tally: Arc<Tally>,
}

/// What a connected session sends.
struct Media {
    viewer: u64,
    frames: mpsc::Receiver<Arc<Frame>>,
    video: RtpOut,
    sound: Option<(RtpOut, broadcast::Receiver<OpusPacket>)>,
}

enum Step {
    Event(Option<PeerEvent>),
    Command(Option<Command>),
    Frame(Option<Arc<Frame>>),
    Sound(Result<OpusPacket, broadcast::error::RecvError>),
    Read,
    TooLate,
    Stop,
}

impl SessionTask {
    /// Runs until the session ends, and cleans up after it.
    pub(super) async fn run(mut self) {
        let mut channels = JoinSet::new();
        let mut media: Option<Media> = None;
        // Were it to break on what a strange player sends, its keys would stay held and its viewer would be encoded for.
        let why = unbroken(self.serve(&mut media, &mut channels)).await.unwrap_or("it broke");
        tracing::info!(session = %self.id, why, "session ended");
        if let Some(media) = media.take() {
            self.shared.control.remove_viewer(media.viewer);
            self.shared.announce_viewers();
        }
        // Nothing of this session may arrive after its `Closed`.
        channels.shutdown().await;
        self.shared.sessions.lock().remove(self.id.as_str());
        self.peer.close().await;
        // The port is free only now.
        drop(self.lease);
        if self.shared.input.send((self.id, SessionInput::Closed)).await.is_err() {
            tracing::debug!("nobody takes input");
        }
    }

    async fn serve(&mut self, media: &mut Option<Media>, channels: &mut JoinSet<()>) -> &'static str {
        let stop = self.shared.stop.clone();
        let connect_by = tokio::time::sleep(CONNECT_WITHIN);
        tokio::pin!(connect_by);
        let tap = Arc::new(InputTap::new(self.id.clone(), self.shared.input.clone()));
        loop {
            let is_connected = media.is_some();
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => Step::Stop,
                command = self.commands.recv() => Step::Command(command),
                event = self.events.recv() => Step::Event(event),
                frame = next_frame(media) => frame,
                () = self.tally.was_read() => Step::Read,
                () = &mut connect_by, if !is_connected => Step::TooLate,
            };
            match step {
                Step::Stop | Step::Command(None) => return "the sender stops",
                Step::TooLate => return "the player did not connect in time",
                Step::Command(Some(Command::Close)) => return "deleted by the player",
                Step::Command(Some(command)) => self.obey(command).await,
                Step::Event(None) => return "the connection is gone",
                Step::Event(Some(PeerEvent::Ended(why))) => return why,
                Step::Event(Some(PeerEvent::Connected)) if !is_connected => match self.start_media().await {
                    Ok(started) => {
                        *media = Some(started);
                        self.look().await;
                    }
                    Err(error) => {
                        tracing::warn!(session = %self.id, %error, "no media for this player");
                        return "nothing was negotiated";
                    }
                },
                Step::Event(Some(PeerEvent::KeyFrameWanted)) => {
                    self.tally.key_requested();
                    self.shared.control.key_wanted(media.as_ref().map(|media| media.viewer));
                }
                Step::Event(Some(PeerEvent::Channel(channel))) => {
                    if open_channels(channels) < MAX_CHANNELS {
                        channels.spawn(run_channel(channel, Arc::clone(&tap)));
                    } else {
                        tracing::warn!(session = %self.id, "more than {MAX_CHANNELS} data channels: ignored");
                    }
                }
                Step::Event(Some(PeerEvent::Doubtful)) => {
                    // A viewer that died without a word may hold keys: nothing stays held while nobody is there.
                    let release = SessionInput::Keys(KeysEvent::ReleaseAll);
                    let _ = self.shared.input.send((self.id.clone(), release)).await;
                }
                Step::Read | Step::Event(Some(PeerEvent::Connected)) => self.look().await,
                Step::Event(Some(PeerEvent::Track(_))) => {}
                Step::Frame(None) | Step::Sound(Err(broadcast::error::RecvError::Closed)) => return "the sender stops",
                Step::Sound(Err(broadcast::error::RecvError::Lagged(_))) => {}
                Step::Frame(Some(frame)) => {
                    if let Some(media) = media {
                        if !send_frame(&mut media.video, &frame, &self.shared.control).await {
                            return "the connection is gone";
                        }
                        self.tally.frame();
                        if media.frames.is_empty() {
                            self.shared.control.caught_up(media.viewer);
                        }
                    }
                }
                Step::Sound(Ok(packet)) => {
                    if let Some((out, _)) = media.as_mut().and_then(|media| media.sound.as_mut())
                        && let Some(bytes) = out.write(packet.bytes, packet.timestamp, packet.starts).await
                    {
                        count(&self.shared.control, 1, bytes, None);
                    }
                }
            }
        }
    }

    async fn start_media(&mut self) -> Result<Media, MediaError> {
        let (video, sound) = self.peer.outputs(self.codec).await?;
        let sound = sound.map(|out| (out, self.shared.sound.listen()));
        let rate = self.peer.rate().ok_or_else(|| MediaError::Rtc("no rate control".to_owned()))?;
        let (viewer, frames) = self.shared.control.add_viewer(self.codec, rate);
        self.tally.connected();
        self.shared.announce_viewers();
        tracing::info!(session = %self.id, codec = self.codec.name(), sound = sound.is_some(), "session connected");
        Ok(Media { viewer, frames, video, sound })
    }

    /// Notes how the viewer is reached.
    async fn look(&self) {
        self.tally.seen(self.peer.path().await, self.peer.round_trip().await);
    }

    async fn obey(&mut self, command: Command) {
        let candidates = match command {
            Command::Candidates(candidates) => candidates,
            Command::Restart { offer, candidates, answer } => {
                // The asker may be gone by now.
                let _ = answer.send(self.peer.answer_again(offer).await);
                candidates
            }
            Command::Close => return,
        };
        for (candidate, mid) in candidates.candidates {
            if let Err(error) = self.peer.add_candidate(&candidate, mid).await {
                tracing::debug!(session = %self.id, %error, candidate, "a candidate is of no use");
            }
        }
    }
}

/// What `task` comes to; `None` when it panics, of which the panic hook has told.
async fn unbroken<T>(task: impl Future<Output = T>) -> Option<T> {
    let mut task = pin!(task);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// How many channels are read; those that ended are forgotten.
fn open_channels(channels: &mut JoinSet<()>) -> usize {
    while channels.try_join_next().is_some() {}
    channels.len()
}

/// The next frame or sound packet; never, before the session is connected.
async fn next_frame(media: &mut Option<Media>) -> Step {
    let Some(media) = media else { return std::future::pending().await };
    let Some((_, sound)) = &mut media.sound else { return Step::Frame(media.frames.recv().await) };
    tokio::select! {
        biased;
        packet = sound.recv() => Step::Sound(packet),
        frame = media.frames.recv() => Step::Frame(frame),
    }
}

/// Whether the connection still takes packets.
async fn send_frame(out: &mut RtpOut, frame: &Frame, control: &Control) -> bool {
    let (last, mut bytes) = (frame.payloads.len().saturating_sub(1), 0);
    for (i, payload) in frame.payloads.iter().enumerate() {
        match out.write(payload.clone(), frame.timestamp, i == last).await {
            Some(written) => bytes += written,
            None => return false,
        }
    }
    count(control, frame.payloads.len(), bytes, Some(frame.encoded_at));
    true
}

fn count(control: &Control, packets: usize, bytes: usize, encoded_at: Option<Instant>) {
    let now = Instant::now();
    let mut counters = control.counters.lock();
    counters.packets_sent += packets as u64;
    counters.bytes_sent += bytes as u64;
    if let Some(encoded_at) = encoded_at {
        counters.send.record_us((now - encoded_at).as_micros() as u64, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_that_breaks_still_ends() {
        let broken = async {
            tokio::task::yield_now().await;
            panic!("a test");
        };
        assert_eq!(unbroken::<()>(broken).await, None);
        assert_eq!(unbroken(async { "gone" }).await, Some("gone"));
    }

    #[tokio::test]
    async fn a_channel_that_ended_makes_room_for_another() {
        let mut channels = JoinSet::new();
        for _ in 0..MAX_CHANNELS {
            channels.spawn(async {});
        }
        channels.spawn(std::future::pending());
        while open_channels(&mut channels) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(open_channels(&mut channels), 1, "the one that is still read counts");
    }
}
