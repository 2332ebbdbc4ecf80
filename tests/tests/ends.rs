//! However the demo ends, nothing of it is left.

use anyhow::{Context, Result, ensure};
use loco_bench::automation::Automation;
use loco_bench::cpu::Process;
use loco_model::InstanceState;
use loco_process::{DeathSignal, Spawner};
use loco_tests::desktop::Desktop;
use loco_tests::wait::wait_for;
use loco_tests::wall::{START, tiles};
use loco_tests::{artifacts, loco, processes};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(40);

/// `loco demo` with its window on a desktop, both guests live.
struct Demo {
    desktop: Desktop,
    folder: TempDir,
    child: Child,
    all: Vec<Process>,
    viewer: Process,
}

impl Demo {
    async fn start(name: &str) -> Result<Self> {
        let desktop = Desktop::start(1400, 1060).await?;
        let folder = tempfile::Builder::new().prefix("loco-test-").tempdir()?;
        let socket = folder.path().join("a.sock");
        let mut command = Command::new(loco()?);
        command.args(["demo", "-n", "2", "--automation"]).arg(&socket).kill_on_drop(true);
        command.env("XDG_RUNTIME_DIR", folder.path()).env("LOCO_ACCEL", "tcg").env_remove("WAYLAND_DISPLAY");
        command.env("DISPLAY", desktop.display()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(artifacts()?.join(format!("ends-{name}.log")))?);
        let child = Spawner::shared()?.spawn(command, DeathSignal::Terminate).await?;
        let automation = Automation::connect(&socket, Instant::now() + SOON).await?;
        wait_for("both tiles to be live", START, async || {
            let tiles = tiles(&automation).await?;
            ensure!(tiles.len() == 2 && tiles.iter().all(|t| t.state == InstanceState::Live), "{tiles:?}");
            Ok(())
        })
        .await?;
        let root = child.id().context("it has ended")?;
        let all = processes::tree(root);
        let viewer = processes::only(root, "viewer", |process| process.has_argument("view"))?;
        let qemus = all.iter().filter(|process| process.program().starts_with("qemu-system")).count();
        ensure!(qemus == 2, "{qemus} QEMU: {all:?}");
        desktop.capture()?.save(&artifacts()?.join(format!("ends-{name}.png")))?;
        Ok(Self { desktop, folder, child, all, viewer })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id().context("it has ended")?)?;
        kill_process(Pid::from_raw(pid).context("no process id")?, signal).context("can't signal it")
    }

    /// Waits for its end; nothing may be left.
    async fn ended(mut self) -> Result<ExitStatus> {
        let status = tokio::time::timeout(SOON, self.child.wait()).await.context("it does not end")??;
        processes::wait_gone(&self.all, SOON).await?;
        let sockets = processes::sockets_below(self.folder.path())?;
        ensure!(sockets.is_empty(), "sockets left: {sockets:?}");
        Ok(status)
    }
}

#[tokio::test]
async fn closing_the_window_ends_the_demo() -> Result<()> {
    let demo = Demo::start("window").await?;
    demo.desktop.close_window_of(demo.viewer.pid)?;
    let status = demo.ended().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_the_demo() -> Result<()> {
    let demo = Demo::start("interrupt").await?;
    demo.signal(Signal::INT)?;
    let status = demo.ended().await?;
    ensure!(status.code() == Some(130), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_killed_demo_takes_its_window_along() -> Result<()> {
    let demo = Demo::start("killed").await?;
    demo.signal(Signal::KILL)?;
    demo.ended().await?;
    Ok(())
}
