//! What the parts of a running agent share.

use crate::process::Sampler;
use loco_guest::{GuestInput, GuestStatus};
use loco_media::sound::SoundEncoder;
use loco_media::{Canvas, Sender};
use loco_model::{InstanceId, Size};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A running agent.
pub(crate) struct Agent {
    pub(crate) id: InstanceId,
    pub(crate) canvas: Canvas,
    /// Size of the guest's picture; `None` while there is none.
    pub(crate) size: watch::Receiver<Option<Size>>,
    pub(crate) guest: watch::Receiver<GuestStatus>,
    pub(crate) input: GuestInput,
    pub(crate) sender: Sender,
    pub(crate) sound: SoundEncoder,
    /// Whether the profile has a sound card.
    pub(crate) has_sound: bool,
    pub(crate) sampler: Sampler,
    /// Cancelled when the agent ends.
    pub(crate) stop: CancellationToken,
}
