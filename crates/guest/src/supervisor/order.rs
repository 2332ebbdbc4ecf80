//! What the supervisor is told.

use crate::status::Target;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long after an order to end a QEMU that quits may write its disks' images, slow as their disk may be: an agent that
/// is to end has 10 s.
const END_PATIENCE: Duration = Duration::from_secs(9);
/// How long at least, when its guest took that time to power down.
const LEAST_END_PATIENCE: Duration = Duration::from_secs(1);

/// What the guest's owner wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// A target, and how long powering down may take.
    Target(Target, Duration),
    /// End QEMU and start it again; answered when that was begun. One that itself is known to hang is not asked before.
    Restart { hangs: bool, begun: oneshot::Sender<()> },
    /// Only answer: a sign of life of the supervisor.
    Ping(oneshot::Sender<()>),
}

/// When a QEMU that quits from `now` on must have ended.
pub(super) fn end_by(ordered_at: Instant, now: Instant) -> Instant {
    (ordered_at + END_PATIENCE).max(now + LEAST_END_PATIENCE)
}
