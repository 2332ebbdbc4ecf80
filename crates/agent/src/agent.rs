//! What the parts of a running agent share.

use crate::caps::Caps;
use crate::heart::Heart;
use crate::logs::Ring;
use crate::process::Sampler;
use crate::repair::Repair;
use crate::seats::Seats;
use crate::usage::UseKeeper;
use loco_guest::{Guest, GuestInput, GuestStatus, Liveness};
use loco_media::sound::SoundEncoder;
use loco_media::{Canvas, Sender};
use loco_model::{InstanceId, Size};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A running agent.
pub(crate) struct Agent {
    pub(crate) id: InstanceId,
    pub(crate) canvas: Canvas,
    /// Size of the guest's picture; `None` while there is none.
    pub(crate) size: watch::Receiver<Option<Size>>,
    pub(crate) guest: Guest,
    pub(crate) status: watch::Receiver<GuestStatus>,
    pub(crate) liveness: watch::Receiver<Liveness>,
    pub(crate) input: GuestInput,
    pub(crate) sender: Sender,
    pub(crate) sound: SoundEncoder,
    /// Whether the profile has a sound card.
    pub(crate) has_sound: bool,
    /// Whether the profile has a network card.
    pub(crate) has_network: bool,
    pub(crate) sampler: Sampler,
    pub(crate) seats: Seats,
    pub(crate) caps: Arc<Caps>,
    pub(crate) usage: UseKeeper,
    pub(crate) repair: Repair,
    pub(crate) logs: Arc<Ring>,
    pub(crate) heart: Heart,
    /// True from the first time on that QEMU ran and showed a picture.
    pub(crate) started: watch::Receiver<bool>,
    /// Cancelled when the agent shall end and be started again by its owner.
    pub(crate) again: CancellationToken,
    /// Cancelled when the agent ends.
    pub(crate) stop: CancellationToken,
}
