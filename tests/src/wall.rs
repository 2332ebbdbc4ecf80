//! A wall: `loco demo --headless`, and the viewer in a window on a desktop of its own.

use crate::desktop::Desktop;
use crate::picture::Picture;
use crate::wait::wait_for;
use crate::{artifacts, loco, processes};
use anyhow::{Context, Result, bail, ensure};
use loco_bench::automation::Automation;
use loco_bench::cpu::Process;
use loco_demo_guest::barcode::Reading;
use loco_http::{Client, TokenFile};
use loco_model::api::Instance;
use loco_model::{InstanceId, InstanceState, Rect};
use loco_process::{DeathSignal, Spawner, terminate_and_wait};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The window's inside: the wall of the benchmarks.
pub const WINDOW: (u32, u32) = (1280, 960);
/// The desktop has room for the window's frame.
const DESKTOP: (u16, u16) = (1400, 1060);
/// How long nine guests may take to be live on a busy machine; an idle one needs some seconds.
pub const START: Duration = Duration::from_secs(120);

/// What `loco demo` shall run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names the logs and screenshots.
    pub name: &'static str,
    /// Arguments behind `loco demo --headless --json`.
    pub arguments: Vec<String>,
    /// Environment of `loco demo` and of the viewer.
    pub environment: Vec<(String, String)>,
}

/// The one line of `loco demo --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Announcement {
    /// Base URL of the control plane.
    pub api: String,
    /// The token of the control plane and of its agents.
    pub token_file: PathBuf,
    /// What was started.
    pub instances: Vec<Announced>,
}

/// One instance of an [`Announcement`].
#[derive(Clone, Debug, Deserialize)]
pub struct Announced {
    /// Which.
    pub id: InstanceId,
    /// Base URL of its agent.
    pub agent: String,
}

/// A running wall. Everything ends with it.
pub struct Wall {
    /// Where the window is.
    pub desktop: Desktop,
    /// What `loco demo` said.
    pub announcement: Announcement,
    /// Speaks to the control plane and the agents.
    pub http: Client,
    /// `loco demo`.
    pub demo: Child,
    /// `loco view`.
    pub viewer: Viewer,
    options: Options,
    folder: TempDir,
}

/// A `loco view` and the way to ask it.
pub struct Viewer {
    /// The process.
    pub child: Child,
    /// Its automation channel.
    pub automation: Automation,
    /// Its process id.
    pub pid: u32,
}

impl Wall {
    /// Starts all of it and waits until the viewer answers; tiles may still be connecting.
    ///
    /// # Errors
    /// When something does not start; the logs are in the artifacts' folder.
    pub async fn start(options: Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("loco-test-").tempdir().context("no temporary folder")?;
        let desktop = Desktop::start(DESKTOP.0, DESKTOP.1).await?;
        let mut command = program(&options, folder.path(), "demo")?;
        command.args(["demo", "--headless", "--json"]).args(&options.arguments);
        command.stdout(Stdio::piped());
        let mut demo = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("can't start loco")?;
        let announcement = announcement(&mut demo, &options).await?;
        let tokens = TokenFile::open(&announcement.token_file).context("the demo's token file")?;
        let http = Client::new(tokens)?;
        let viewer = start_viewer(&options, folder.path(), &announcement, Some(&desktop)).await?;
        Ok(Self { desktop, announcement, http, demo, viewer, options, folder })
    }

    /// Starts the viewer again; the one before must be gone.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_viewer(&mut self) -> Result<()> {
        self.viewer = start_viewer(&self.options, self.folder.path(), &self.announcement, Some(&self.desktop)).await?;
        Ok(())
    }

    /// One more viewer, without a window.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn second_viewer(&self) -> Result<Viewer> {
        start_viewer(&self.options, self.folder.path(), &self.announcement, None).await
    }

    /// How many instances there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.announcement.instances.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.announcement.instances.is_empty()
    }

    /// What the control plane says of its instances.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        Ok(self.http.get_json(&format!("{}/api/instances", self.announcement.api)).await?)
    }

    /// What the control plane says of one instance.
    ///
    /// # Errors
    /// When it does not know it.
    pub async fn instance(&self, index: usize) -> Result<Instance> {
        let all = self.instances().await?;
        all.into_iter().find(|i| i.index == index).with_context(|| format!("the API knows no instance-{index}"))
    }

    /// Base URL of an instance's agent, now: it changes when the agent is started again.
    ///
    /// # Errors
    /// When the control plane does not know it.
    pub async fn agent(&self, index: usize) -> Result<String> {
        let endpoints = self.instance(index).await?.endpoints;
        Ok(endpoints.with_context(|| format!("instance-{index} has no address"))?.agent)
    }

    /// Sends input events to an instance's agent by HTTP.
    ///
    /// # Errors
    /// When the agent refuses them.
    pub async fn input(&self, index: usize, events: Value) -> Result<()> {
        let url = format!("{}/input", self.agent(index).await?);
        let request = self.http.request(reqwest::Method::POST, &url).json(&json!({ "events": events }));
        self.http.send(request, &url).await?;
        Ok(())
    }

    /// Presses and releases a key in an instance by HTTP.
    ///
    /// # Errors
    /// When the agent refuses it.
    pub async fn tap(&self, index: usize, code: &str) -> Result<()> {
        let event = |pressed: bool| json!({"type": "key", "code": code, "pressed": pressed});
        self.input(index, json!([event(true), event(false)])).await
    }

    /// What the viewer says of its tiles.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn tiles(&self) -> Result<Vec<Tile>> {
        tiles(&self.viewer.automation).await
    }

    /// Where an instance's picture is on the desktop.
    ///
    /// # Errors
    /// When it has none.
    pub async fn place(&self, index: usize) -> Result<Rect> {
        let tiles = self.tiles().await?;
        let tile = tiles.iter().find(|tile| tile.id.index() == index).context("no such tile")?;
        self.on_desktop(tile.picture.with_context(|| format!("tile {index} has no picture"))?)
    }

    /// A rectangle of the viewer's window as one of the desktop.
    ///
    /// # Errors
    /// When the window is gone.
    pub fn on_desktop(&self, [x, y, width, height]: [u32; 4]) -> Result<Rect> {
        let window = self.desktop.window_of(self.viewer.pid)?;
        Ok(Rect { x: window.x + x, y: window.y + y, width, height })
    }

    /// All barcodes on the screen, from one picture of it: nothing where there is none to read.
    ///
    /// # Errors
    /// When the screen or the viewer is gone.
    pub async fn barcodes(&self) -> Result<Vec<Option<Reading>>> {
        let tiles = self.tiles().await?;
        let window = self.desktop.window_of(self.viewer.pid)?;
        let screen = self.desktop.capture_part(window)?;
        let reading = |tile: &Tile| {
            let [x, y, width, height] = tile.picture?;
            screen.part(Rect { x, y, width, height }).barcode().ok()
        };
        Ok(tiles.iter().map(reading).collect())
    }

    /// The barcode of one tile on the screen.
    ///
    /// # Errors
    /// When there is none to read.
    pub async fn barcode(&self, index: usize) -> Result<Reading> {
        self.desktop.capture_part(self.place(index).await?)?.barcode()
    }

    /// Keeps a picture of the whole desktop.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save_screen(&self, what: &str) -> Result<()> {
        self.save(&self.desktop.capture()?, what)
    }

    /// Keeps a picture.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, picture: &Picture, what: &str) -> Result<()> {
        picture.save(&artifacts()?.join(format!("{}-{what}.png", self.options.name)))
    }

    /// Waits until all tiles are live and their barcodes on the screen are their own and advance.
    ///
    /// # Errors
    /// After [`START`].
    pub async fn wait_live(&self) -> Result<()> {
        let count = self.len();
        let first = wait_for("all tiles to be live with their own barcode", START, async || {
            for tile in self.tiles().await? {
                ensure!(tile.state == InstanceState::Live, "{} is {:?}", tile.id, tile.state);
            }
            self.own_barcodes(count).await
        })
        .await?;
        wait_for("all barcodes to advance", START, async || {
            for (before, now) in first.iter().zip(self.own_barcodes(count).await?) {
                ensure!(now.counter > before.counter, "barcode {} stands at {}", now.instance, now.counter);
            }
            Ok(())
        })
        .await
    }

    async fn own_barcodes(&self, count: usize) -> Result<Vec<Reading>> {
        let readings = self.barcodes().await?;
        ensure!(readings.len() == count, "{} tiles of {count}", readings.len());
        let own = |(index, reading): (usize, Option<Reading>)| {
            let reading = reading.with_context(|| format!("no barcode on tile {index}"))?;
            ensure!(usize::from(reading.instance) == index, "tile {index} shows instance {}", reading.instance);
            Ok(reading)
        };
        readings.into_iter().enumerate().map(own).collect()
    }

    /// The agent's process of an instance.
    ///
    /// # Errors
    /// When it does not run.
    pub fn agent_process(&self, index: usize) -> Result<Process> {
        let root = self.demo.id().context("loco demo has ended")?;
        processes::agent_of(root, index)
    }

    /// QEMU's process of an instance.
    ///
    /// # Errors
    /// When it does not run.
    pub fn qemu_process(&self, index: usize) -> Result<Process> {
        processes::qemu_of(self.agent_process(index)?.pid)
    }

    /// Folder that holds what the wall's processes keep while they run.
    #[must_use]
    pub fn runtime_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends the viewer and the demo as a person would, and sees that nothing is left.
    ///
    /// # Errors
    /// When something is left or did not end well.
    pub async fn stop(mut self) -> Result<()> {
        let all: Vec<Process> =
            [self.demo.id(), Some(self.viewer.pid)].into_iter().flatten().flat_map(processes::tree).collect();
        terminate_and_wait(&mut self.viewer.child, Duration::from_secs(20)).await?;
        terminate_and_wait(&mut self.demo, Duration::from_secs(40)).await?;
        processes::wait_gone(&all, Duration::from_secs(10)).await?;
        let sockets = processes::sockets_below(self.folder.path())?;
        ensure!(sockets.is_empty(), "sockets left: {sockets:?}");
        Ok(())
    }
}

/// One tile, by the viewer's own words.
#[derive(Clone, Debug, Deserialize)]
pub struct Tile {
    /// Which.
    pub id: InstanceId,
    /// The word on it.
    pub state: InstanceState,
    /// Its picture in the window: x, y, width, height.
    pub picture: Option<[u32; 4]>,
    /// All of it, the plate too.
    pub tile: [u32; 4],
    /// Whether the keyboard goes to it.
    pub focused: bool,
    /// Whether the pointer belongs to it alone.
    pub captured: bool,
    /// Its sound.
    pub audio: Option<Audio>,
}

/// A tile's sound.
#[derive(Clone, Debug, Deserialize)]
pub struct Audio {
    /// Sample peak; null for silence.
    pub peak_dbfs: Option<f64>,
    /// Whether its owner wants to hear it.
    pub muted: bool,
}

/// What a viewer says of its tiles.
///
/// # Errors
/// When it does not answer.
pub async fn tiles(automation: &Automation) -> Result<Vec<Tile>> {
    let mut wall = automation.command("wall", json!({})).await?;
    serde_json::from_value(wall["tiles"].take()).context("the viewer's answer to wall")
}

/// A `loco` with the wall's environment; its log goes to the artifacts' folder.
fn program(options: &Options, folder: &Path, log: &str) -> Result<Command> {
    let log = artifacts()?.join(format!("{}-{log}.log", options.name));
    let file = File::create(&log).with_context(|| format!("can't write {}", log.display()))?;
    let mut command = Command::new(loco()?);
    command.env("XDG_RUNTIME_DIR", folder).env("LOCO_ACCEL", "tcg").env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY");
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stderr(file).kill_on_drop(true);
    Ok(command)
}

async fn announcement(demo: &mut Child, options: &Options) -> Result<Announcement> {
    let out = demo.stdout.take().context("loco demo has no output")?;
    let mut lines = BufReader::new(out).lines();
    let line = tokio::time::timeout(START, lines.next_line()).await.context("loco demo said nothing")??;
    let Some(line) = line else {
        bail!("loco demo ended at once: {}; see {}-demo.log", demo.wait().await?, options.name);
    };
    serde_json::from_str(&line).with_context(|| format!("loco demo said {line:?}"))
}

async fn start_viewer(
    options: &Options,
    folder: &Path,
    announcement: &Announcement,
    desktop: Option<&Desktop>,
) -> Result<Viewer> {
    let name = if desktop.is_some() { "viewer" } else { "second-viewer" };
    let socket = folder.join(format!("{name}.sock"));
    let mut command = program(options, folder, name)?;
    command.args(["view", "--api", &announcement.api, "--token-file"]).arg(&announcement.token_file);
    command.args(["--size", &format!("{}x{}", WINDOW.0, WINDOW.1), "--automation"]).arg(&socket);
    match desktop {
        Some(desktop) => command.env("DISPLAY", desktop.display()),
        None => command.arg("--offscreen"),
    };
    command.stdout(Stdio::null());
    let child = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await.context("can't start loco view")?;
    let pid = child.id().context("loco view has ended")?;
    let automation = Automation::connect(&socket, Instant::now() + Duration::from_secs(60)).await?;
    Ok(Viewer { child, automation, pid })
}
