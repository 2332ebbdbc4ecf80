//! A viewer's end of one session.

use crate::config::ReceiverConfig;
use crate::error::SendInputError;
use crate::stats::ReceiverStats;
use crate::video::VideoFrame;
use loco_model::input::{KeysEvent, Pointer};
use std::sync::Arc;

/// Why the application is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// [`Receiver::take_frame`] has a new picture.
    Frame,
    /// [`Receiver::state`] changed.
    State,
}

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Connecting for the first time, or again.
    Connecting,
    /// Media may flow. A still picture sends nothing: no frames do not mean that it is not live.
    Connected,
    /// The last attempt failed; the next comes by itself.
    Retrying {
        /// What went wrong, in words for a person.
        reason: String,
        /// Failed attempts since the last connection.
        attempts: u32,
    },
    /// It cannot work on this machine (no decoder): no further attempts.
    Failed {
        /// Why, in words for a person.
        reason: String,
    },
}

/// Connects, receives, decodes, and connects again, for ever; ends when dropped.
pub struct Receiver {}

impl Receiver {
    /// Starts it on `runtime`. `wake` is called from the runtime's threads and must not block.
    #[must_use]
    pub fn spawn(
        runtime: &tokio::runtime::Handle,
        config: ReceiverConfig,
        wake: Arc<dyn Fn(Wake) + Send + Sync>,
    ) -> Self {
        let _ = (runtime, config, wake);
        Self {}
    }

    /// The newest picture, once.
    #[must_use]
    pub fn take_frame(&self) -> Option<VideoFrame> {
        None
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> SessionState {
        SessionState::Connecting
    }

    /// Tries at once to connect, where it waits for the next attempt: call it when the agent is known to be back.
    pub fn reconnect_now(&self) {}

    /// Sends over the reliable channel; never blocks.
    ///
    /// # Errors
    /// When there is no session, or it does not take it fast enough.
    pub fn send_keys(&self, event: KeysEvent) -> Result<(), SendInputError> {
        let _ = event;
        Err(SendInputError::NotConnected)
    }

    /// Sends over the unordered channel; never blocks.
    ///
    /// # Errors
    /// When there is no session, or it does not take it fast enough.
    pub fn send_pointer(&self, pointer: Pointer) -> Result<(), SendInputError> {
        let _ = pointer;
        Err(SendInputError::NotConnected)
    }

    /// What it saw so far.
    #[must_use]
    pub fn stats(&self) -> ReceiverStats {
        ReceiverStats::default()
    }
}
