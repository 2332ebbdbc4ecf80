//! `loco demo` without a window, and viewers that draw off screen: everything real but the screen.

use crate::picture::Picture;
use crate::wait::wait_for;
use crate::wall::Announcement;
use crate::{artifacts, build_folder, loco, processes};
use anyhow::{Context, Result, bail, ensure};
use loco_bench::automation::Automation;
use loco_bench::control::Control;
use loco_bench::cpu::Process;
use loco_bench::follow::Follower;
use loco_demo_guest::barcode::Reading;
use loco_http::{Client, TokenFile};
use loco_model::InstanceId;
use loco_model::api::Instance;
use loco_model::failure::FailureClass;
use loco_model::recovery::Ledger;
use loco_model::report::HealthReport;
use loco_model::{InstanceState, Key, Rect};
use loco_process::{DeathSignal, Spawner, terminate_and_wait};
use reqwest::Method;
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Longest wait for anything that is not itself measured: a debug build, TCG and two busy cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A user without any right: as whom to run what must not need root.
const NOBODY: u32 = 65_534;

/// A folder for the processes of one test, and how they are started.
pub struct Place {
    /// Names the logs.
    pub name: &'static str,
    folder: TempDir,
    program: PathBuf,
    /// Programs before `loco`.
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A running demo without a window. Ends with this value.
pub struct Headless {
    /// Its process, and its control plane.
    pub control: Control,
    /// What it said.
    pub announcement: Announcement,
    /// Everything that its control plane tells.
    pub events: Follower,
}

/// A viewer that draws off screen.
pub struct Spectator {
    /// The process.
    pub child: Child,
    /// Its automation channel.
    pub automation: Automation,
}

/// Whether this process may do everything.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The id of an index.
///
/// # Panics
/// When there is none: a test's own mistake.
#[must_use]
#[expect(clippy::expect_used, reason = "a test's own mistake")]
pub fn id(index: usize) -> InstanceId {
    InstanceId::try_new(index).expect("an instance's index")
}

// === impl Place ===

impl Place {
    /// A new folder.
    ///
    /// # Errors
    /// When it cannot be made, or `loco` was not built.
    pub fn new(name: &'static str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("loco-test-").tempdir().context("no temporary folder")?;
        // Logs of an earlier run are not this one's.
        for log in fs::read_dir(artifacts()?)?.flatten() {
            if log.file_name().to_string_lossy().starts_with(&format!("recovery-{name}-")) {
                fs::remove_file(log.path())?;
            }
        }
        Ok(Self { name, folder, program: loco()?, wrapper: Vec::new(), environment: Vec::new() })
    }

    /// A new folder, for processes without any right: for root those of the user `nobody`, who may not even look into the
    /// build's folder and gets copies.
    ///
    /// # Errors
    /// When the copies cannot be made.
    pub fn of_nobody(name: &'static str) -> Result<Self> {
        let mut place = Self::new(name)?;
        if !is_root() {
            return Ok(place);
        }
        let (program, kernel) = (place.path().join("loco"), place.path().join("kernel"));
        fs::copy(&place.program, &program).context("cannot copy loco")?;
        let built = build_folder()?.join("../guest/loco-demo-guest");
        fs::copy(&built, &kernel).with_context(|| format!("cannot copy {}", built.display()))?;
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700))?;
        for path in [place.path(), &program, &kernel] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).context("chown")?;
        }
        // Another user makes the kernel forget whose end this process wanted to follow.
        let words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--pdeathsig", "TERM"];
        place.wrapper = words.map(str::to_owned).to_vec();
        place.environment = vec![
            ("LOCO_DEMO_KERNEL".to_owned(), kernel.display().to_string()),
            ("HOME".to_owned(), place.path().display().to_string()),
        ];
        place.program = program;
        Ok(place)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The `loco` that is run here.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where the log of a process goes.
    ///
    /// # Errors
    /// When the artifacts' folder is gone.
    pub fn log(&self, of: &str) -> Result<PathBuf> {
        Ok(artifacts()?.join(format!("recovery-{}-{of}.log", self.name)))
    }

    /// `loco` with its surroundings, not started.
    ///
    /// # Errors
    /// When its log cannot be written.
    pub fn loco(&self, log: &str, wrapper: &[String]) -> Result<Command> {
        let log = self.log(log)?;
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("can't write {}", log.display()))?;
        let mut words = self.wrapper.iter().chain(wrapper).map(PathBuf::from).chain([self.program.clone()]);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("XDG_RUNTIME_DIR", self.path()).env("LOCO_ACCEL", "tcg");
        command.env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY").current_dir(self.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        Ok(command)
    }

    /// A demo of `count` guests, all live.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn demo(&self, count: usize, arguments: &[&str]) -> Result<Headless> {
        let mut command = self.loco("demo", &[])?;
        command.args(["demo", "--headless", "--json", "-n", &count.to_string()]).args(arguments).stdout(Stdio::piped());
        let (child, line) = spawn(command).await?;
        let announcement: Announcement = serde_json::from_str(&line).with_context(|| format!("demo said {line:?}"))?;
        let http = client(&announcement.token_file)?;
        let api = announcement.api.trim_end_matches('/').to_owned();
        let events = Follower::start(&http, &api).await?;
        let demo = Headless { control: Control { child, api, http }, announcement, events };
        for index in 0..count {
            demo.wait_well(index).await?;
        }
        Ok(demo)
    }

    /// A viewer of a control plane.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn spectator(&self, name: &str, control: &Control, token_file: &Path) -> Result<Spectator> {
        let socket = self.path().join(format!("{name}.sock"));
        let mut command = self.loco(name, &[])?;
        command.args(["view", "--offscreen", "--size", "1280x960", "--api", &control.api, "--token-file"]);
        command.arg(token_file).arg("--automation").arg(&socket);
        let child = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("can't start loco view")?;
        let automation = Automation::connect(&socket, Instant::now() + PATIENCE).await?;
        Ok(Spectator { child, automation })
    }
}

/// Starts a process and reads the line that it prints.
///
/// # Errors
/// When it does not start.
pub async fn spawn(command: Command) -> Result<(Child, String)> {
    let mut child = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("can't start loco")?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("it said nothing")??;
    let Some(line) = line else { bail!("it ended at once: {}", child.wait().await?) };
    Ok((child, line))
}

/// Speaks with the token of a file.
///
/// # Errors
/// When the file cannot be used.
pub fn client(token_file: &Path) -> Result<Client> {
    Ok(Client::new(TokenFile::open(token_file).context("the token file")?)?)
}

/// Whether nothing is wrong with an instance, and nothing is being done to it.
#[must_use]
pub fn is_well(instance: &Instance) -> bool {
    instance.state == InstanceState::Live && instance.failure == FailureClass::None && instance.recovery.is_none()
}

/// The barcode in what an agent's guest shows now.
///
/// # Errors
/// When there is none to read.
pub async fn reading(http: &Client, agent: &str) -> Result<Reading> {
    let url = format!("{agent}/screenshot.png");
    let response = http.send(http.request(Method::GET, &url), &url).await?;
    Picture::from_png(&response.bytes().await?)?.barcode()
}

/// Waits until an agent's picture moves; its barcode then.
///
/// # Errors
/// When it does not.
pub async fn moves(http: &Client, agent: &str) -> Result<Reading> {
    let first = wait_for("a picture", PATIENCE, async || reading(http, agent).await).await?;
    wait_for("the picture to move", PATIENCE, async || {
        let now = reading(http, agent).await?;
        ensure!(now.counter != first.counter, "the counter stands at {}", now.counter);
        Ok(now)
    })
    .await
}

/// An agent's report.
///
/// # Errors
/// When it does not answer.
pub async fn health(http: &Client, agent: &str) -> Result<HealthReport> {
    Ok(http.get_json(&format!("{agent}/health")).await?)
}

/// An agent's ledger.
///
/// # Errors
/// When it does not answer.
pub async fn ledger(http: &Client, agent: &str) -> Result<Ledger> {
    Ok(http.get_json(&format!("{agent}/ledger")).await?)
}

// === impl Headless ===

impl Headless {
    /// Waits until an instance is well.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn wait_well(&self, index: usize) -> Result<Instance> {
        let what = format!("{} to be well", id(index));
        let well = self.events.wait_instance(&what, id(index), 0, PATIENCE, |_| true).await;
        well?;
        wait_for(&what, PATIENCE, async || {
            let now = self.events.now().remove(&id(index)).context("the control plane does not tell of it")?;
            ensure!(is_well(&now), "it is {now:?}");
            Ok(now)
        })
        .await
    }

    /// Base URL of an instance's agent, now.
    ///
    /// # Errors
    /// When the control plane does not know it.
    pub async fn agent(&self, index: usize) -> Result<String> {
        let endpoints = self.control.instance(id(index)).await?.endpoints;
        Ok(endpoints.with_context(|| format!("{} has no address", id(index)))?.agent)
    }

    /// The agent's process of an instance.
    ///
    /// # Errors
    /// When it does not run.
    pub fn agent_process(&self, index: usize) -> Result<Process> {
        processes::agent_of(self.control.pid()?, index)
    }

    /// QEMU's process of an instance.
    ///
    /// # Errors
    /// When it does not run.
    pub fn qemu_process(&self, index: usize) -> Result<Process> {
        processes::qemu_of(self.agent_process(index)?.pid)
    }

    /// Presses and lets go a key in an instance.
    ///
    /// # Errors
    /// When its agent does not take it.
    pub async fn tap(&self, index: usize, key: &str) -> Result<()> {
        let key: Key = key.parse()?;
        let url = format!("{}/input", self.agent(index).await?);
        let event = |pressed: bool| json!({"type": "key", "code": key, "pressed": pressed});
        let request =
            self.control.http.request(Method::POST, &url).json(&json!({"events": [event(true), event(false)]}));
        self.control.http.send(request, &url).await?;
        Ok(())
    }

    /// Ends it, and sees that nothing of it is left.
    ///
    /// # Errors
    /// When something is.
    pub async fn stop(self) -> Result<()> {
        let all = processes::tree(self.control.pid()?);
        let status = self.control.stop().await?;
        ensure!(status.success(), "the demo ended with {status}");
        processes::wait_gone(&all, PATIENCE).await
    }
}

// === impl Spectator ===

impl Spectator {
    /// Waits until a tile is live and has a picture.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn wait_live(&self, index: usize) -> Result<()> {
        wait_for("the viewer's tile to be live", PATIENCE, async || {
            let wall = self.automation.wall().await?;
            let tile = wall.tiles.iter().find(|tile| tile.id == id(index)).context("no such tile")?;
            ensure!(tile.state == InstanceState::Live && tile.picture.is_some(), "{tile:?}");
            Ok(())
        })
        .await
    }

    /// The barcode that it shows of an instance now; `shot` is a file to write its picture to.
    ///
    /// # Errors
    /// When there is none to read.
    pub async fn reading(&self, index: usize, shot: &Path) -> Result<Reading> {
        self.automation.screenshot(shot).await?;
        let wall = self.automation.wall().await?;
        let tile = wall.tiles.iter().find(|tile| tile.id == id(index)).context("no such tile")?;
        let [x, y, width, height] = tile.picture.context("no picture")?;
        let picture = Picture::from_png(&fs::read(shot)?)?;
        picture.part(Rect { x, y, width, height }).barcode()
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> Result<()> {
        terminate_and_wait(&mut self.child, PATIENCE).await.map(drop).context("the viewer does not end")
    }
}
