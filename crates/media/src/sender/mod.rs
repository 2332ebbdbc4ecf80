//! The agent's end: one canvas, one encoder, any number of viewers.

use crate::config::SenderConfig;
use crate::error::{MediaError, WhepError};
use crate::sound_link::SoundOutlet;
use crate::stats::SenderStats;
use crate::video::Canvas;
use crate::whep::{Patched, Session};
use loco_model::input::{KeysEvent, Pointer};
use std::fmt;
use tokio::sync::{mpsc, watch};

/// Names a session, unguessable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
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
    sound: SoundOutlet,
}

impl Sender {
    /// Starts it on the current tokio runtime.
    ///
    /// # Errors
    /// When GStreamer or every encoder is missing, or a setting is out of range.
    pub fn start(config: SenderConfig, canvas: Canvas) -> Result<Self, MediaError> {
        let _ = (config, canvas);
        Ok(Self { sound: SoundOutlet::new() })
    }

    /// `POST` to the endpoint: answers an offer.
    ///
    /// # Errors
    /// As [`WhepError`] lists them.
    pub async fn whep_offer(&self, content_type: Option<&str>, body: &[u8]) -> Result<Session, WhepError> {
        let _ = (content_type, body);
        std::future::ready(Err(WhepError::Unavailable("not built yet".to_owned()))).await
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
        let _ = (content_type, if_match, body);
        std::future::ready(Err(WhepError::NoSession(session.to_owned()))).await
    }

    /// `DELETE` of a session.
    ///
    /// # Errors
    /// When there is no such session.
    pub async fn whep_delete(&self, session: &str) -> Result<(), WhepError> {
        std::future::ready(Err(WhepError::NoSession(session.to_owned()))).await
    }

    /// Where the sound encoder puts its packets.
    #[must_use]
    pub fn sound_outlet(&self) -> SoundOutlet {
        self.sound.clone()
    }

    /// The viewers' input, all sessions in one queue. There is one consumer: later calls return `None`.
    #[must_use]
    pub fn input(&self) -> Option<mpsc::Receiver<(SessionId, SessionInput)>> {
        None
    }

    /// How many viewers are connected, as it changes.
    #[must_use]
    pub fn viewers(&self) -> watch::Receiver<usize> {
        watch::Sender::new(0).subscribe()
    }

    /// Sets the bits a second of a moving picture; the next frame obeys.
    ///
    /// # Errors
    /// When out of 60 kbit/s..=100 Mbit/s.
    pub fn set_bit_rate(&self, bits_per_second: u32) -> Result<(), MediaError> {
        let _ = bits_per_second;
        Ok(())
    }

    /// Sets the frames a second at most.
    ///
    /// # Errors
    /// When out of 1..=240.
    pub fn set_frame_rate(&self, max_fps: u32) -> Result<(), MediaError> {
        let _ = max_fps;
        Ok(())
    }

    /// Stops (or resumes) encoding; sessions stay connected.
    pub fn set_suspended(&self, suspended: bool) {
        let _ = suspended;
    }

    /// An input was injected into the guest: the next changes bypass the frame-rate limit.
    pub fn input_hint(&self) {}

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> SenderStats {
        SenderStats::default()
    }

    /// Says goodbye to every viewer and stops.
    pub async fn close(&self) {
        std::future::ready(()).await;
    }
}
