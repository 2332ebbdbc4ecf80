//! The guest as its owner sees it.

mod remedies;

pub use remedies::Snapshot;

use crate::accelerator::probe;
use crate::command_line::Paths;
use crate::error::GuestError;
use crate::evidence::End;
use crate::facts::{facts_of, find_program};
use crate::input::GuestInput;
use crate::kernel::{find_firmware, find_kernel};
use crate::kick::KickStats;
use crate::launch::Plan;
use crate::liveness::{self, Liveness};
use crate::logs::{self, Log, LogLine, LogSource};
use crate::picture::RgbImage;
use crate::profile::Profile;
use crate::qmp::Qmp;
use crate::shared::{DisplayStats, Shared};
use crate::sink::{DisplaySink, SoundSink};
use crate::status::{GuestState, GuestStatus, Target};
use crate::supervisor::{Order, Supervisor};
use crate::{AcceleratorChoice, disks, held};
use loco_model::InstanceId;
use loco_process::{RunDir, Spawner};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, watch};

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct GuestConfig {
    /// What kind of PC.
    pub profile: Profile,
    /// Which instance it is.
    pub instance: InstanceId,
    /// Where overlays, logs and evidence are kept; made when missing. One guest at a time.
    pub state_dir: PathBuf,
    /// What runs its instructions.
    pub accelerator: AcceleratorChoice,
    /// QEMU's program; without, `$LOCO_QEMU`, else `qemu-system-x86_64` of the path.
    pub qemu: Option<PathBuf>,
    /// How it shall be at first.
    pub target: Target,
    /// The snapshot that it starts from, each time.
    pub start_from: Option<String>,
}

/// How long a guest may take to power down when only its target was set.
pub const DEFAULT_POWER_DOWN: Duration = Duration::from_secs(30);

/// A guest. Ends with everything it started when dropped; [`Guest::stop`] also waits for it.
#[derive(Debug)]
pub struct Guest {
    status: watch::Receiver<GuestStatus>,
    monitor: watch::Receiver<Option<Qmp>>,
    orders: mpsc::UnboundedSender<Order>,
    input: GuestInput,
    shared: Arc<Shared>,
    plan: Arc<Plan>,
    shots: AtomicU64,
    liveness: watch::Receiver<Liveness>,
    ends: Mutex<Option<mpsc::UnboundedReceiver<End>>>,
    followers: broadcast::Sender<LogLine>,
    tasks: [tokio::task::JoinHandle<()>; 2],
    /// The state folder is ours.
    _lock: File,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Its QEMU is killed with it.
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Guest {
    /// Checks everything that can be checked, makes the disks, and lets the guest start.
    ///
    /// # Errors
    /// When something is missing or refused. What fails later shows in [`Guest::state`].
    pub async fn start(
        config: GuestConfig,
        display: Box<dyn DisplaySink>,
        sound: Box<dyn SoundSink>,
    ) -> Result<Self, GuestError> {
        let begun = Instant::now();
        let GuestConfig { profile, instance, state_dir, accelerator, qemu, target, start_from } = config;
        if let Some(tag) = &start_from {
            check_tag(tag)?;
        }
        let program = find_program(qemu.as_deref())?;
        let facts = facts_of(&program).await?;
        let kernel = profile.kernel.as_ref().map(find_kernel).transpose()?;
        let firmware = find_firmware(&profile.hardware.firmware)?;
        let accelerator = probe::choose(accelerator, &program, &facts).await?;
        let state_dir = std::path::absolute(&state_dir).map_err(|e| io_error(&state_dir, e))?;
        let lock = claim(&state_dir)?;
        held::wait_released(&state_dir).await;
        let overlays = disks::prepare(&profile, &state_dir)?;
        let run_dir = RunDir::create(&instance.to_string())?;
        let paths = Paths {
            qmp_socket: run_dir.socket("qmp.sock")?,
            bus_socket: run_dir.socket("bus.sock")?,
            kernel,
            firmware,
            overlays,
        };
        let spawner = Spawner::shared().map_err(|e| io_error(run_dir.path(), e))?;
        let followers = logs::followers();
        let plan = Arc::new(Plan {
            qemu_log: Log::new(state_dir.join("qemu.log"), LogSource::Qemu, followers.clone()),
            guest_log: Log::new(state_dir.join("guest.log"), LogSource::Guest, followers.clone()),
            profile,
            instance,
            program,
            facts,
            paths,
            run_dir,
            spawner,
        });
        tracing::info!(
            %instance, profile = plan.profile.name, qemu = plan.facts.version_text(),
            accelerator = %accelerator.accelerator, reason = accelerator.reason,
            ms = begun.elapsed().as_millis() as u64, "the guest is set up"
        );
        let shared = Arc::new(Shared::new(display, sound));
        let input = GuestInput::default();
        let (orders, receiver) = mpsc::unbounded_channel();
        let (ends_in, ends) = mpsc::unbounded_channel();
        let (supervisor, status, monitor) =
            Supervisor::new(Arc::clone(&plan), Arc::clone(&shared), input.clone(), accelerator, start_from, ends_in);
        let (told, liveness) = watch::channel(Liveness::default());
        let look = liveness::watch::watch(
            status.clone(),
            monitor.clone(),
            Arc::clone(&shared),
            told,
            plan.run_dir.path().to_owned(),
        );
        let tasks = [tokio::spawn(supervisor.run(receiver, target)), tokio::spawn(look)];
        Ok(Self {
            status,
            monitor,
            orders,
            input,
            shared,
            plan,
            shots: AtomicU64::new(0),
            liveness,
            ends: Mutex::new(Some(ends)),
            followers,
            tasks,
            _lock: lock,
        })
    }

    /// How it is, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<GuestStatus> {
        self.status.clone()
    }

    /// Whether it goes on, now and from now on.
    #[must_use]
    pub fn liveness(&self) -> watch::Receiver<Liveness> {
        self.liveness.clone()
    }

    /// Whether QEMU shows another picture than the one that it told the display of: nothing but
    /// [`Guest::reset_display`] brings that one back.
    #[must_use]
    pub fn is_stale(&self) -> watch::Receiver<bool> {
        self.shared.stale.subscribe()
    }

    /// Whether its sound can be had; `None` where it has none, and before its QEMU is attached.
    #[must_use]
    pub fn hears(&self) -> watch::Receiver<Option<bool>> {
        self.shared.hears.subscribe()
    }

    /// What is known of each of its QEMUs that ended unasked. There is one reader: later calls return `None`.
    #[must_use]
    pub fn ends(&self) -> Option<mpsc::UnboundedReceiver<End>> {
        self.ends.lock().take()
    }

    /// What it and its QEMU write from now on.
    #[must_use]
    pub fn log_lines(&self) -> broadcast::Receiver<LogLine> {
        self.followers.subscribe()
    }

    /// Waits until it is as `wanted` says, and returns how it is then.
    ///
    /// # Errors
    /// When the guest was ended.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&GuestStatus) -> bool) -> Result<GuestStatus, GuestError> {
        let mut status = self.status.clone();
        let found = status.wait_for(|status| wanted(status)).await.map_err(|_| GuestError::Ended)?;
        Ok(found.clone())
    }

    /// Its keyboard and pointer.
    #[must_use]
    pub fn input(&self) -> GuestInput {
        self.input.clone()
    }

    /// The private folder of its sockets; gone when the guest is.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        self.plan.run_dir.path()
    }

    /// The file that holds what the guest wrote to its debug console since it was last started.
    #[must_use]
    pub fn guest_log(&self) -> &Path {
        self.plan.guest_log.path()
    }

    /// The file that holds what QEMU wrote since it was last started.
    #[must_use]
    pub fn qemu_log(&self) -> &Path {
        self.plan.qemu_log.path()
    }

    /// How often QEMU was asked to look for changes after an input.
    #[must_use]
    pub fn kick_stats(&self) -> KickStats {
        self.shared.kicks.stats()
    }

    /// How often the display told of its picture, over all of this guest's QEMUs.
    #[must_use]
    pub fn display_stats(&self) -> DisplayStats {
        self.shared.display_stats()
    }

    /// How it shall be. Powering down may take [`DEFAULT_POWER_DOWN`].
    pub fn set_target(&self, target: Target) {
        self.order(Order::Target(target, DEFAULT_POWER_DOWN));
    }

    /// Ends QEMU and starts it again, whatever it does; returns when that is done.
    ///
    /// # Errors
    /// When the guest was ended.
    pub async fn restart(&self) -> Result<(), GuestError> {
        let (begun, answer) = tokio::sync::oneshot::channel();
        // One whose guest alone hangs can still write its disks' images.
        let hangs = self.liveness.borrow().is_deaf;
        self.order(Order::Restart { hangs, begun });
        answer.await.map_err(|_| GuestError::Ended)?;
        self.wait_for(|status| !matches!(status.state, GuestState::Starting | GuestState::Stopping)).await.map(drop)
    }

    /// Asks the guest to power down, ends QEMU when it has not after `timeout`; returns when QEMU is gone. It writes its disks'
    /// images first: that takes milliseconds, and may last until 9 s after the order, or 1 s after `timeout`.
    ///
    /// # Errors
    /// When the guest was ended.
    pub async fn power_down(&self, timeout: Duration) -> Result<(), GuestError> {
        self.order(Order::Target(Target::Stopped, timeout));
        self.wait_for(|status| status.state == GuestState::Stopped).await.map(drop)
    }

    /// What it shows now.
    ///
    /// # Errors
    /// When it does not run, or QEMU refuses.
    pub async fn screenshot(&self) -> Result<RgbImage, GuestError> {
        let qmp = self.qmp()?;
        let number = self.shots.fetch_add(1, Relaxed);
        let file = self.plan.run_dir.path().join(format!("shot{number}.ppm"));
        qmp.picture(&file).await
    }

    /// Makes QEMU look for changes now. Returns when it has answered: a sign of life of its main loop too.
    ///
    /// # Errors
    /// When it does not run, or does not answer.
    pub async fn refresh(&self) -> Result<(), GuestError> {
        let unopenable = self.plan.run_dir.path().join("none/refresh");
        self.shared.kicks.count();
        match self.qmp()?.screendump(&unopenable).await {
            // That the file cannot be opened is the plan.
            Ok(()) | Err(GuestError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Powers down within `timeout`, and ends everything: no process and no socket is left.
    pub async fn stop(self, timeout: Duration) {
        if let Err(error) = self.power_down(timeout).await {
            tracing::debug!(%error, "the guest was gone already");
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::debug!("the guest was ended");
        }
    }

    fn qmp(&self) -> Result<Qmp, GuestError> {
        let qmp = self.monitor.borrow().clone();
        qmp.ok_or_else(|| GuestError::NotRunning { state: self.status.borrow().state })
    }
}

/// A name that QEMU, its monitor and a command line take as it is.
fn check_tag(tag: &str) -> Result<(), GuestError> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=64).contains(&tag.len()) && tag.chars().all(good) && !tag.starts_with(['-', '.']) {
        Ok(())
    } else {
        Err(GuestError::SnapshotName(tag.to_owned()))
    }
}

fn io_error(path: &Path, source: io::Error) -> GuestError {
    GuestError::Io { path: path.to_owned(), source }
}

/// Makes the state folder, and takes it for this guest alone.
fn claim(folder: &Path) -> Result<File, GuestError> {
    fs::create_dir_all(folder).map_err(|e| io_error(folder, e))?;
    let path = folder.join("lock");
    let lock = File::create(&path).map_err(|e| io_error(&path, e))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(GuestError::InUse { path: folder.to_owned() }),
        Err(error) => Err(io_error(&path, error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_names() {
        for good in ["a", "desktop-1", "v2.0_x"] {
            assert!(check_tag(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", ".x", "a b", "a,b", "ä", &"x".repeat(65)] {
            assert!(check_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_state_folder_has_one_owner() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("state");
        let first = claim(&folder).expect("free");
        let error = claim(&folder).expect_err("taken").to_string();
        assert!(error.contains("state") && error.contains("in use"), "{error}");
        drop(first);
        claim(&folder).expect("free again");
    }
}
