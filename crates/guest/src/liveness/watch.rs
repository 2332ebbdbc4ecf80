//! Looks at a guest, and tells whether it goes on.

use super::registers;
use super::stale::Doubt;
use super::{Finding, Judge, Liveness};
use crate::error::GuestError;
use crate::qmp::Qmp;
use crate::shared::Shared;
use crate::status::{GuestState, GuestStatus};
use loco_process::ProcId;
use qapi::qmp;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(900);
/// The same while in doubt.
const IN_DOUBT: Duration = Duration::from_millis(300);
/// A guest that drew within this time is not asked.
const DREW_LATELY: Duration = Duration::from_millis(600);
/// How often a monitor that keeps silent is looked after.
const STEP: Duration = Duration::from_millis(250);
/// Longer than any silence that is waited for: the question stays open for as long as QEMU lives.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// What QEMU was asked, and has not answered yet.
type Asked<T> = Pin<Box<dyn Future<Output = Result<T, GuestError>> + Send>>;

/// Follows a guest over all of its QEMUs, until its supervisor is gone. In `folder` QEMU may put files for us.
pub(crate) async fn watch(
    mut status: watch::Receiver<GuestStatus>,
    mut monitor: watch::Receiver<Option<Qmp>>,
    shared: Arc<Shared>,
    told: watch::Sender<Liveness>,
    folder: PathBuf,
) {
    loop {
        let Ok(qmp) = monitor.wait_for(Option::is_some).await.map(|qmp| (*qmp).clone()) else { return };
        let Some(qmp) = qmp else { continue };
        let Ok(pid) = status.wait_for(|status| status.pid.is_some()).await.map(|status| status.pid) else { return };
        let Some(pid) = pid else { continue };
        let ended = async {
            // Another one, or none.
            let _ = monitor.changed().await;
        };
        let file = folder.join("compared.ppm");
        let doubt = Doubt { qmp: qmp.clone(), shared: &shared, status: status.clone(), file };
        let look = Look { pid, qmp, shared: &shared, status: status.clone(), told: &told };
        tokio::select! {
            () = look.on() => {}
            () = doubt.compare() => {}
            () = ended => {}
        }
        tell(&told, Liveness::default());
        // The process of a monitor that is gone may still be there for a moment.
        if monitor.has_changed().is_err() || status.has_changed().is_err() {
            return;
        }
    }
}

fn tell(told: &watch::Sender<Liveness>, new: Liveness) {
    told.send_if_modified(|known| {
        let changed = *known != new;
        if changed && new.frozen == Some(true) {
            tracing::warn!(reason = new.reason, "the guest is frozen");
        } else if changed && known.frozen == Some(true) && new.frozen == Some(false) {
            tracing::info!("the guest goes on again");
        }
        *known = new;
        changed
    });
}

struct Look<'a> {
    pid: u32,
    qmp: Qmp,
    shared: &'a Shared,
    status: watch::Receiver<GuestStatus>,
    told: &'a watch::Sender<Liveness>,
}

impl Look<'_> {
    /// Looks again and again, until the process is gone.
    async fn on(self) {
        let mut judge = Judge::default();
        let mut asked: Option<Asked<String>> = None;
        let mut silence = Silence::default();
        // The threads of its processors do not change: ours have a fixed number of them.
        let mut threads = self.threads();
        let mut cpus: Option<Vec<u32>> = None;
        loop {
            let begun = Instant::now();
            let wait = if asked.is_some() {
                STEP
            } else if judge.is_in_doubt() {
                IN_DOUBT
            } else {
                EVERY
            };
            let answered = tokio::select! {
                answer = open(&mut asked) => Some(answer),
                found = open(&mut threads) => { (threads, cpus) = (None, found.ok()); continue }
                () = tokio::time::sleep(wait) => None,
            };
            let finding = match answered {
                Some(answer) => {
                    asked = None;
                    if matches!(answer, Err(GuestError::Ended)) {
                        return;
                    }
                    let text = answer.unwrap_or_default();
                    let runs = self.status.borrow().state == GuestState::Running;
                    Finding::Answered(if runs { registers::parse(&text) } else { Vec::new() })
                }
                None => match self.process(cpus.as_deref().unwrap_or_default()) {
                    Err(Gone) => return,
                    // What it was asked before the stop it answers after it.
                    Ok(Some(stopped)) => {
                        silence = Silence::default();
                        stopped
                    }
                    // Saving or loading the whole guest keeps its main loop for as long as it takes.
                    Ok(None) if self.qmp.is_busy() => {
                        silence = Silence::default();
                        continue;
                    }
                    Ok(None) if asked.is_some() => {
                        let state = self.main_loop().stat().map_or('?', |stat| stat.state);
                        Finding::Silent(silence.longer(begun.elapsed(), self.main_loop()), state)
                    }
                    Ok(None) if self.drew_lately() => Finding::Draws,
                    Ok(None) => {
                        silence = Silence::begin(self.main_loop());
                        asked = Some(self.ask());
                        continue;
                    }
                },
            };
            tell(self.told, judge.take(&finding));
        }
    }

    fn main_loop(&self) -> ProcId {
        ProcId::thread(self.pid, self.pid)
    }

    /// A process or thread that was stopped.
    fn process(&self, cpus: &[u32]) -> Result<Option<Finding>, Gone> {
        let stopped = |id: ProcId, whole| {
            let state = id.stat().map(|stat| stat.state);
            state.map(|state| "Tt".contains(state).then_some(Finding::Stopped { by_debugger: state == 't', whole }))
        };
        let Some(process) = stopped(ProcId::process(self.pid), true) else {
            // Off Linux nothing is known of it.
            return if cfg!(target_os = "linux") { Err(Gone) } else { Ok(None) };
        };
        let threads = cpus.iter().map(|thread| ProcId::thread(self.pid, *thread));
        Ok(process.or_else(|| threads.filter_map(|id| stopped(id, false).flatten()).next()))
    }

    fn drew_lately(&self) -> bool {
        self.shared.last_sign().is_some_and(|at| at.elapsed() < DREW_LATELY)
    }

    fn ask(&self) -> Asked<String> {
        let qmp = self.qmp.clone();
        let command = qmp::human_monitor_command { cpu_index: None, command_line: "info registers -a".to_owned() };
        Box::pin(async move {
            match qmp.execute(command, FOR_EVER).await {
                // Without registers, but an answer.
                Err(GuestError::Refused { .. }) => Ok(String::new()),
                answer => answer,
            }
        })
    }

    /// The threads that run the guest's processors.
    fn threads(&self) -> Option<Asked<Vec<u32>>> {
        let qmp = self.qmp.clone();
        Some(Box::pin(async move {
            let all = qmp.execute(qmp::query_cpus_fast {}, FOR_EVER).await?;
            let id = |cpu| serde_json::to_value(cpu).ok()?.get("thread-id")?.as_u64()?.try_into().ok();
            Ok(all.into_iter().filter_map(id).collect())
        }))
    }
}

struct Gone;

/// Waits for what was begun; for ever, when nothing was.
async fn open<T>(begun: &mut Option<Asked<T>>) -> Result<T, GuestError> {
    match begun {
        Some(begun) => begun.await,
        None => std::future::pending().await,
    }
}

/// How long the monitor has kept silent: time in which its thread was ready and got no processor is not its own, and
/// neither is time in which we got none.
#[derive(Debug, Default)]
struct Silence {
    sum: Duration,
    waited: Option<Duration>,
}

impl Silence {
    fn begin(main_loop: ProcId) -> Self {
        Self { sum: Duration::ZERO, waited: main_loop.waited_for_cpu() }
    }

    fn longer(&mut self, passed: Duration, main_loop: ProcId) -> Duration {
        let waited = main_loop.waited_for_cpu();
        let queued = waited.zip(self.waited).map_or(Duration::ZERO, |(now, before)| now.saturating_sub(before));
        self.waited = waited;
        self.sum += passed.min(STEP * 2).saturating_sub(queued);
        self.sum
    }
}
