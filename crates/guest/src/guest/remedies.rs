//! What can be done to a guest that does not do what it should, and its snapshots.

use super::{Guest, check_tag};
use crate::command_line::{NETWORK_CARD, disk_node};
use crate::error::GuestError;
use crate::evidence;
use crate::profile::{AudioCard, DiskKind, NetworkCard};
use crate::qmp::{Job, PATIENCE};
use crate::supervisor::Order;
use qapi::qmp;
use std::time::Duration;
use tokio::sync::watch;

/// How long the guest's network card is unplugged: longer than any driver's look at its link.
const UNPLUGGED: Duration = Duration::from_secs(1);

/// A whole guest that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was saved, in seconds since 1970 UTC.
    pub saved_at_s: u64,
    /// Bytes of its memory and devices.
    pub bytes: u64,
}

impl Guest {
    /// Whether the supervisor still does what it is told. It may take seconds when QEMU hangs.
    ///
    /// # Errors
    /// When the guest was ended.
    pub async fn ping(&self) -> Result<(), GuestError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.order(Order::Ping(answer));
        answered.await.map_err(|_| GuestError::Ended)
    }

    /// The guest's run state in QEMU's word (`running`, `paused`, `guest-panicked` ...).
    ///
    /// # Errors
    /// When it does not run, or does not answer within `patience`.
    pub async fn query_status(&self, patience: Duration) -> Result<String, GuestError> {
        let answer = self.qmp()?.execute(qmp::query_status {}, patience).await?;
        let word = serde_json::to_value(answer.status).ok();
        Ok(word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default())
    }

    /// The last lines that QEMU and the guest wrote, for a person.
    #[must_use]
    pub fn last_lines(&self) -> String {
        evidence::last_lines(&self.plan)
    }

    /// Attaches to the display anew; returns when a whole picture has come.
    ///
    /// # Errors
    /// When it does not run, or no picture comes.
    pub async fn reset_display(&self, patience: Duration) -> Result<(), GuestError> {
        self.qmp()?;
        let come = self.shared.wholes.subscribe();
        self.shared.redisplay.notify_one();
        another(come, patience, "RegisterListener").await
    }

    /// Attaches to the sound anew; returns when that is done.
    ///
    /// # Errors
    /// When it does not run, has no sound card, or QEMU does not take the new listener.
    pub async fn reset_sound(&self, patience: Duration) -> Result<(), GuestError> {
        if self.plan.profile.audio.card == AudioCard::None {
            return Err(GuestError::NoDevice { what: "sound card" });
        }
        self.qmp()?;
        let come = self.shared.sounds.subscribe();
        self.shared.resound.notify_one();
        another(come, patience, "RegisterOutListener").await
    }

    /// Unplugs the network card's cable and plugs it in again.
    ///
    /// # Errors
    /// When it does not run, has no network card, or QEMU refuses.
    pub async fn reset_network(&self) -> Result<(), GuestError> {
        if self.plan.profile.network.card == NetworkCard::None {
            return Err(GuestError::NoDevice { what: "network card" });
        }
        let qmp = self.qmp()?;
        let set = |up| qmp.execute(qmp::set_link { name: NETWORK_CARD.to_owned(), up }, PATIENCE);
        set(false).await?;
        tokio::time::sleep(UNPLUGGED).await;
        set(true).await.map(drop)
    }

    /// Saves the whole guest, memory included, under a name; replaces an older one of that name.
    ///
    /// # Errors
    /// When it does not run, has no disk for it, or QEMU refuses.
    pub async fn snapshot(&self, tag: &str) -> Result<(), GuestError> {
        check_tag(tag)?;
        self.qmp()?.job(Job::Save, tag, &self.nodes()).await
    }

    /// Brings the guest back to a snapshot.
    ///
    /// # Errors
    /// When it does not run, or there is none of this name.
    pub async fn load_snapshot(&self, tag: &str) -> Result<(), GuestError> {
        check_tag(tag)?;
        // What is held is held in the guest that is left behind: the loaded one knows nothing of it, or too much.
        let _ = self.input.release_all();
        self.qmp()?.job(Job::Load, tag, &self.nodes()).await
    }

    /// Its snapshots, the oldest first.
    ///
    /// # Errors
    /// When it does not run, or QEMU refuses.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, GuestError> {
        let qmp = self.qmp()?;
        let Some(first) = self.nodes().into_iter().next() else { return Ok(Vec::new()) };
        let nodes = qmp.execute(qmp::query_named_block_nodes { flat: Some(true) }, PATIENCE).await?;
        let disk = nodes.into_iter().find(|node| node.node_name.as_ref() == Some(&first));
        let all = disk.and_then(|disk| disk.image.base.snapshots).unwrap_or_default();
        // Of those, only what was saved with memory is one of a whole guest.
        let whole = all.into_iter().filter(|snapshot| snapshot.vm_state_size > 0);
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(whole
            .map(|snapshot| Snapshot {
                name: snapshot.name,
                saved_at_s: unsigned(snapshot.date_sec),
                bytes: unsigned(snapshot.vm_state_size),
            })
            .collect())
    }

    /// Forgets a snapshot. That there is none of this name is no error.
    ///
    /// # Errors
    /// When it does not run, or QEMU refuses.
    pub async fn delete_snapshot(&self, tag: &str) -> Result<(), GuestError> {
        check_tag(tag)?;
        self.qmp()?.job(Job::Delete, tag, &self.nodes()).await
    }

    /// The disks that a snapshot holds: every one that can be written.
    fn nodes(&self) -> Vec<String> {
        let hard_disks = self.plan.profile.disks.iter().filter(|d| d.kind == DiskKind::Disk).count();
        (0..hard_disks).map(disk_node).collect()
    }
}

/// Waits until `count` goes on.
async fn another(mut count: watch::Receiver<u64>, patience: Duration, command: &'static str) -> Result<(), GuestError> {
    match tokio::time::timeout(patience, count.changed()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(GuestError::Ended),
        Err(_) => Err(GuestError::TimedOut { command, patience }),
    }
}
