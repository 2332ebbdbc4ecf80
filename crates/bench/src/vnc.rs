//! TigerVNC as a peer: its own viewer on an X server of its own, showing the same guest's VNC server.

use crate::report::first_line_of;
use crate::x11::{Place, Screen, XServer};
use anyhow::{Context, Result, bail};
use loco_model::Size;
use loco_process::{DeathSignal, Spawner};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Room around the guest's picture, for whatever the viewer draws there.
const MARGIN: u32 = 160;
/// Programs that are TigerVNC's viewer; Debian's name first.
const PROGRAMS: [&str; 2] = ["xtigervncviewer", "vncviewer"];

/// A running TigerVNC viewer and the screen that it is seen on. Ends when dropped.
pub struct TigerVnc {
    child: Child,
    /// The screen.
    pub screen: Arc<Screen>,
    /// Where on it the guest is.
    pub place: Place,
    version: String,
    _server: XServer,
}

impl TigerVnc {
    /// Shows the guest of `size` whose VNC server listens on the unix socket `socket`.
    ///
    /// # Errors
    /// When a program is missing, or the picture does not come within 20 s.
    pub async fn start(socket: &Path, size: Size) -> Result<Self> {
        let (program, version) = PROGRAMS
            .into_iter()
            .find_map(|program| Some((program, first_line_of(program, &["--version"])?)))
            .with_context(|| format!("no TigerVNC viewer found; looked for {}", PROGRAMS.join(", ")))?;
        let server = XServer::start(Size::new(size.width + MARGIN, size.height + MARGIN)).await?;
        let mut command = Command::new(program);
        command
            .args(["-SecurityTypes", "None", "-RemoteResize=0", "-Shared=1", "-AlertOnFatalError=0"])
            .args(["-ReconnectOnError=0"])
            .arg(socket)
            .env("DISPLAY", server.display())
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let child = Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("cannot start TigerVNC")?;
        let display = server.display().to_owned();
        let screen = Arc::new(tokio::task::spawn_blocking(move || Screen::open(&display)).await??);
        let mut vnc = Self {
            child,
            screen,
            place: Place { x: 0, y: 0, size },
            version: version.split(" built").next().unwrap_or(&version).to_owned(),
            _server: server,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = Arc::clone(&vnc.screen);
            if let Some(place) = tokio::task::spawn_blocking(move || screen.find(size)).await?? {
                vnc.place = place;
                break;
            }
            if let Some(status) = vnc.child.try_wait()? {
                bail!("TigerVNC ended ({status})");
            }
            if Instant::now() > deadline {
                bail!("TigerVNC showed no barcode within 20 s");
            }
            // The picture may need several drawings; there is no event for "complete".
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        vnc.screen.point_at(vnc.place)?;
        Ok(vnc)
    }

    /// What it calls itself.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its process's id; nothing once it ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}
