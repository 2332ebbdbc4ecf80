//! A viewer's end of one session.

mod assemble;
mod channels;
mod copies;
mod key_frames;
mod lifeline;
mod link;
mod mailbox;
mod reach;
mod vigil;

use crate::config::ReceiverConfig;
use crate::error::SendInputError;
use crate::stats::ReceiverStats;
use crate::video::VideoFrame;
use loco_model::input::{KeysEvent, Pointer};
use mailbox::Mailbox;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

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
pub struct Receiver {
    mailbox: Arc<Mailbox>,
    stop: CancellationToken,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Receiver {
    /// Starts it on `runtime`. `wake` is called from the runtime's threads and must not block.
    #[must_use]
    pub fn spawn(
        runtime: &tokio::runtime::Handle,
        config: ReceiverConfig,
        wake: Arc<dyn Fn(Wake) + Send + Sync>,
    ) -> Self {
        let (mailbox, stop) = (Arc::new(Mailbox::new(wake)), CancellationToken::new());
        runtime.spawn(link::run(config, Arc::clone(&mailbox), stop.clone()));
        Self { mailbox, stop }
    }

    /// The newest picture, once.
    #[must_use]
    pub fn take_frame(&self) -> Option<VideoFrame> {
        self.mailbox.take()
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.mailbox.state()
    }

    /// Tries at once to connect, where it waits for the next attempt: call it when the agent is known to be back.
    pub fn reconnect_now(&self) {
        self.mailbox.reconnect.notify_one();
    }

    /// Sends over the reliable channel; never blocks.
    ///
    /// # Errors
    /// When there is no session, or it does not take it fast enough.
    pub fn send_keys(&self, event: KeysEvent) -> Result<(), SendInputError> {
        let outbox = self.mailbox.outbox.lock();
        let outbox = outbox.as_ref().ok_or(SendInputError::NotConnected)?;
        outbox.keys.try_send(event).map_err(|error| match error {
            TrySendError::Full(_) => SendInputError::Full,
            TrySendError::Closed(_) => SendInputError::NotConnected,
        })
    }

    /// Sends over the unordered channel; never blocks. A position that still waits is replaced.
    ///
    /// # Errors
    /// When there is no session.
    pub fn send_pointer(&self, pointer: Pointer) -> Result<(), SendInputError> {
        self.mailbox.outbox.lock().as_mut().ok_or(SendInputError::NotConnected)?.pointer = Some(pointer);
        self.mailbox.pointer_waits.notify_one();
        Ok(())
    }

    /// What it saw so far.
    #[must_use]
    pub fn stats(&self) -> ReceiverStats {
        self.mailbox.stats()
    }
}
