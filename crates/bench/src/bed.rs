//! The product under measurement: real processes of `loco`, started as a person would, with nothing on a display.

use crate::check::client;
use crate::cpu::{self, Process, Snapshot, Usage};
use crate::sound_server::SoundServer;
use crate::tiles::Tiles;
use crate::viewing::{View, wait_pictures};
use anyhow::{Context, Result, bail, ensure};
use loco_http::Client;
use loco_model::input::{InputEvent, InputRequest};
use loco_model::{InstanceId, Key};
use loco_process::{DeathSignal, RunDir, Spawner, terminate_and_wait};
use reqwest::Method;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Everything that starts, starts within this.
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything that ends, ends within this.
const STOPPING: Duration = Duration::from_secs(15);

/// What the demo guests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The town with its train.
    Town,
    /// Nothing moves.
    Quiet,
    /// A box of 200x150 moves at 30 Hz.
    Box,
    /// The whole screen changes at 30 Hz.
    Busy,
    /// A flash and a click together, once a second.
    Marker,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Town => "town",
            Self::Quiet => "quiet",
            Self::Box => "box",
            Self::Busy => "busy",
            Self::Marker => "marker",
        }
    }
}

/// What `loco demo --headless --json` prints.
#[derive(Clone, Debug, Deserialize)]
struct Announcement {
    api: String,
    token_file: PathBuf,
    instances: Vec<Announced>,
}

#[derive(Clone, Debug, Deserialize)]
struct Announced {
    id: InstanceId,
    agent: String,
}

/// A running demo: control plane, agents and guests.
pub(crate) struct Bed {
    loco: PathBuf,
    demo: Child,
    announcement: Announcement,
    sound: SoundServer,
    dir: RunDir,
    viewer: Option<Child>,
    viewers_opened: usize,
    /// Speaks to the control plane and the agents.
    pub(crate) client: Client,
}

impl Bed {
    /// Starts `instances` guests of `mode` and waits until their addresses are known.
    ///
    /// # Errors
    /// When the demo does not start.
    pub(crate) async fn start(loco: &Path, instances: usize, mode: Mode) -> Result<Self> {
        Self::start_with(loco, instances, mode, false).await
    }

    /// The same with a VNC server in every guest's QEMU, on a private unix socket.
    ///
    /// # Errors
    /// When the demo does not start.
    pub(crate) async fn start_with_vnc(loco: &Path, instances: usize, mode: Mode) -> Result<Self> {
        Self::start_with(loco, instances, mode, true).await
    }

    async fn start_with(loco: &Path, instances: usize, mode: Mode, vnc: bool) -> Result<Self> {
        let sound = SoundServer::start().await?;
        let dir = RunDir::create("bench")?;
        let mut command = Command::new(loco);
        if vnc {
            command.env(QEMU_VARIABLE, qemu_with_vnc(&dir)?);
        }
        command
            .args(["demo", "--headless", "--json", "-n", &instances.to_string(), "--mode", mode.word()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut demo = Spawner::shared()?
            .spawn(command, DeathSignal::Terminate)
            .await
            .with_context(|| format!("cannot start {}", loco.display()))?;
        let mut lines = BufReader::new(demo.stdout.take().context("the demo has no output")?).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.context("the demo printed no address in time")??.context("the demo ended at its start")?;
        let announcement: Announcement =
            serde_json::from_str(&line).with_context(|| format!("the demo printed {line:?}"))?;
        let client = client(&announcement.token_file)?;
        Ok(Self { loco: loco.to_owned(), demo, announcement, sound, dir, viewer: None, viewers_opened: 0, client })
    }

    /// Its instances, in order.
    #[must_use]
    pub(crate) fn ids(&self) -> Vec<InstanceId> {
        self.announcement.instances.iter().map(|instance| instance.id).collect()
    }

    /// Base URL of the control plane, without a trailing slash.
    #[must_use]
    pub(crate) fn api(&self) -> &str {
        self.announcement.api.trim_end_matches('/')
    }

    /// Base URL of an instance's agent.
    ///
    /// # Errors
    /// When the demo does not have it.
    pub(crate) fn agent(&self, id: InstanceId) -> Result<&str> {
        let found = self.announcement.instances.iter().find(|instance| instance.id == id);
        Ok(found.with_context(|| format!("the demo has no {id}"))?.agent.trim_end_matches('/'))
    }

    /// Opens a viewer without a window, 1280x960, and waits until every tile has shown its own advancing picture;
    /// of still guests only until the viewer answers.
    ///
    /// # Errors
    /// When it does not open, or a tile does not come to life.
    pub(crate) async fn open_viewer(&mut self, still: bool) -> Result<Tiles> {
        self.close_viewer().await?;
        self.viewers_opened += 1;
        let socket = self.dir.socket(&format!("viewer-{}", self.viewers_opened))?;
        let view = View {
            loco: &self.loco,
            api: &self.announcement.api,
            token_file: &self.announcement.token_file,
            socket: &socket,
            arguments: &[],
            sound: self.sound.environment(),
        };
        let deadline = Instant::now() + PATIENCE;
        let (viewer, mut tiles) = view.open(deadline).await?;
        self.viewer = Some(viewer);
        if still {
            wait_pictures(&mut tiles, self.announcement.instances.len(), deadline).await?;
        } else {
            let missing = tiles.wait_live(&self.ids(), deadline).await?;
            if !missing.is_empty() {
                bail!("these tiles did not come to life within {PATIENCE:?}: {missing:?}");
            }
        }
        Ok(tiles)
    }

    /// Ends the viewer, if there is one.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub(crate) async fn close_viewer(&mut self) -> Result<()> {
        if let Some(mut viewer) = self.viewer.take() {
            terminate_and_wait(&mut viewer, STOPPING).await?;
        }
        Ok(())
    }

    /// The file in which an agent keeps what its guest writes to the debug console, line by line as it comes.
    ///
    /// # Errors
    /// When its QEMU does not run.
    pub(crate) fn guest_console(&self, id: InstanceId) -> Result<PathBuf> {
        let processes = self.processes()?;
        let agent = processes.guest_process(id).with_context(|| format!("{id} has no QEMU"))?.parent;
        let open = std::fs::read_dir(format!("/proc/{agent}/fd"))?.flatten();
        let mut files = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        files.find(|path| path.ends_with("guest.log")).with_context(|| format!("{id}'s agent keeps no guest.log"))
    }

    /// Environment of programs that shall play on this bed's sound server.
    #[must_use]
    pub(crate) fn sound_environment(&self) -> Vec<(String, String)> {
        self.sound.environment()
    }

    /// Presses and lets go a key in one guest, past the viewer.
    ///
    /// # Errors
    /// When its agent does not take it.
    pub(crate) async fn tap(&self, id: InstanceId, key: Key) -> Result<()> {
        let url = format!("{}/input", self.agent(id)?);
        let key = |pressed| InputEvent::Key { code: key, pressed };
        let request = InputRequest { events: vec![key(true), key(false)] };
        self.client.send(self.client.request(Method::POST, &url).json(&request), &url).await?;
        Ok(())
    }

    /// The running processes by their part.
    ///
    /// # Errors
    /// When the demo has ended.
    pub(crate) fn processes(&self) -> Result<Processes> {
        let demo = self.demo.id().context("the demo has ended")?;
        let viewer = self.viewer.as_ref().and_then(Child::id);
        Ok(Processes { below_demo: cpu::tree(demo), demo, viewer })
    }

    /// Ends everything, politely.
    ///
    /// # Errors
    /// When something cannot be ended.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.close_viewer().await?;
        terminate_and_wait(&mut self.demo, STOPPING).await?;
        Ok(())
    }
}

/// Names the QEMU that agents start.
const QEMU_VARIABLE: &str = "LOCO_QEMU";

/// The QEMU that agents start.
pub(crate) fn qemu() -> String {
    std::env::var(QEMU_VARIABLE).unwrap_or_else(|_| "qemu-system-x86_64".to_owned())
}

/// A program that becomes QEMU with one more option. The product needs no VNC server; its peer does.
fn qemu_with_vnc(dir: &RunDir) -> Result<PathBuf> {
    let qemu = qemu();
    // The process keeps its id when it becomes QEMU: each gets a socket of its own.
    let script = format!("#!/bin/sh\nexec '{qemu}' \"$@\" -vnc \"unix:{}/vnc-$$\"\n", dir.path().display());
    let path = dir.path().join("qemu-with-vnc");
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o700).open(&path)?;
    file.write_all(script.as_bytes())?;
    Ok(path)
}

/// Who is who among the processes of a bed.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    below_demo: Vec<Process>,
    demo: u32,
    viewer: Option<u32>,
}

impl Processes {
    /// The agents.
    #[must_use]
    pub(crate) fn agents(&self) -> Vec<u32> {
        let is_agent = |process: &&Process| process.pid != self.demo && process.has_argument("agent");
        self.below_demo.iter().filter(is_agent).map(|process| process.pid).collect()
    }

    /// The guests' QEMUs.
    #[must_use]
    pub(crate) fn guests(&self) -> Vec<&Process> {
        self.below_demo.iter().filter(|process| process.program().starts_with("qemu")).collect()
    }

    /// The QEMU of an instance, while it runs.
    #[must_use]
    pub(crate) fn guest_process(&self, id: InstanceId) -> Option<&Process> {
        let owner = |process: &Process| {
            let parent = self.below_demo.iter().find(|parent| parent.pid == process.parent);
            parent.is_some_and(|agent| agent.command.contains(&format!("--instance {}", id.index())))
        };
        self.guests().into_iter().find(|process| owner(process))
    }

    /// Whatever else the agents started: buses and the like.
    #[must_use]
    pub(crate) fn helpers(&self) -> Vec<u32> {
        let (agents, guests) = (self.agents(), self.guests());
        let known = |pid| pid == self.demo || agents.contains(&pid) || guests.iter().any(|guest| guest.pid == pid);
        self.below_demo.iter().map(|process| process.pid).filter(|pid| !known(*pid)).collect()
    }

    /// The control plane.
    #[must_use]
    pub(crate) fn control(&self) -> u32 {
        self.demo
    }

    /// The viewer, while one is open.
    #[must_use]
    pub(crate) fn viewer(&self) -> Option<u32> {
        self.viewer
    }

    /// Where QEMU's VNC server of a guest listens, by its command line; nothing when it has none on a unix socket.
    #[must_use]
    pub(crate) fn vnc_socket(&self, id: InstanceId) -> Option<PathBuf> {
        let guest = self.guest_process(id)?;
        let mut arguments = guest.command.split(' ').skip_while(|argument| *argument != "-vnc");
        let address = arguments.nth(1)?.strip_prefix("unix:")?;
        Some(PathBuf::from(address.split(',').next()?))
    }
}

/// CPU of a set of processes over some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cores {
    /// All agents, with the helpers that they started but not the guests.
    pub(crate) agents: f64,
    /// The same by thread name.
    pub(crate) agent_threads: BTreeMap<String, f64>,
    /// The viewer's main part and its drawing.
    pub(crate) viewer: Usage,
    /// The guests.
    pub(crate) guests: f64,
    /// The control plane.
    pub(crate) control: f64,
}

/// Measures a bed's processes over `duration`.
///
/// # Errors
/// When one of them ends meanwhile, or an agent does not run at all: what is not there costs nothing.
pub(crate) async fn cores(bed: &Bed, duration: Duration) -> Result<Cores> {
    let processes = bed.processes()?;
    let guests: Vec<u32> = processes.guests().iter().map(|guest| guest.pid).collect();
    let mut agents = processes.agents();
    let (run, all) = (agents.len(), bed.announcement.instances.len());
    ensure!(run == all, "{run} of {all} agents run");
    let viewer: Vec<u32> = processes.viewer().into_iter().collect();
    let lasting: Vec<u32> =
        [&agents[..], &guests[..], &viewer[..], &[processes.control()]].into_iter().flatten().copied().collect();
    agents.extend(processes.helpers());
    let all: BTreeSet<u32> = lasting.iter().chain(&agents).copied().collect();
    let all: Vec<u32> = all.into_iter().collect();
    let before = Snapshot::take(&all);
    tokio::time::sleep(duration).await;
    let usage = before.until(&Snapshot::take(&all));
    if let Some(ended) = lasting.iter().find(|pid| !usage.contains_key(pid)) {
        bail!("the process {ended} of {processes:?} ended while it was measured");
    }
    let sum = |pids: &[u32]| pids.iter().filter_map(|pid| usage.get(pid)).map(|usage| usage.cores).sum();
    let mut agent_threads: BTreeMap<String, f64> = BTreeMap::new();
    for (name, used) in agents.iter().filter_map(|pid| usage.get(pid)).flat_map(|usage| &usage.threads) {
        *agent_threads.entry(name.clone()).or_default() += used;
    }
    Ok(Cores {
        agent_threads,
        agents: sum(&agents),
        viewer: processes.viewer().and_then(|pid| usage.get(&pid).cloned()).unwrap_or_default(),
        guests: sum(&guests),
        control: sum(&[processes.control()]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_who() {
        let process = |pid, parent, command: &str| Process { pid, parent, command: command.to_owned() };
        let processes = Processes {
            below_demo: vec![
                process(1, 0, "/x/loco demo --headless --json"),
                process(2, 1, "/x/loco agent --instance 0 --json"),
                process(3, 1, "/x/loco agent --instance 1 --json"),
                process(4, 2, "qemu-system-x86_64 -m 64 -vnc unix:/run/a/vnc.sock,share=ignore -k en-us"),
                process(5, 3, "/usr/bin/qemu-system-x86_64 -m 64"),
                process(6, 3, "dbus-daemon --session"),
            ],
            demo: 1,
            viewer: Some(9),
        };
        assert_eq!(processes.agents(), [2, 3]);
        assert_eq!(processes.guests().iter().map(|guest| guest.pid).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(processes.helpers(), [6]);
        let ids: Vec<InstanceId> = InstanceId::all().collect();
        assert_eq!(processes.vnc_socket(ids[0]), Some(PathBuf::from("/run/a/vnc.sock")));
        assert_eq!(processes.vnc_socket(ids[1]), None);
    }
}
