//! A desktop of one's own: an X server with a window manager; eyes (GetImage) and hands (XTEST).

use crate::picture::Picture;
use anyhow::{Context, Result, bail};
use loco_bench::x11::XServer;
use loco_model::{Key, Rect, Size};
use loco_process::{DeathSignal, Spawner};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{self, AtomEnum, ConnectionExt as _, ImageFormat, Window};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

use crate::wait::wait_for;

/// X key codes are evdev codes plus this (xkeyboard-config's "evdev" rules).
const KEYCODE_OFFSET: u16 = 8;

/// One desktop, and no keys of the window manager's own: openbox's default takes Ctrl+Alt+arrows.
const OPENBOX: &str = r#"<?xml version="1.0"?>
<openbox_config xmlns="http://openbox.org/3.4/rc">
  <focus><focusNew>yes</focusNew></focus>
  <desktops><number>1</number></desktops>
  <keyboard/>
  <mouse>
    <context name="Client">
      <mousebind button="Left" action="Press"><action name="Focus"/><action name="Raise"/></mousebind>
    </context>
  </mouse>
</openbox_config>
"#;

/// An Xvfb with a window manager on it. Both end with this value, or with this process.
pub struct Desktop {
    display: String,
    connection: RustConnection,
    root: Window,
    width: u16,
    height: u16,
    _window_manager: Child,
    _server: XServer,
}

impl Desktop {
    /// Starts a screen of this size in pixels.
    ///
    /// # Errors
    /// When Xvfb or openbox is missing or does not start.
    pub async fn start(width: u16, height: u16) -> Result<Self> {
        let server = XServer::start(Size::new(width.into(), height.into())).await?;
        let display = server.display().to_owned();
        let folder = tempfile::tempdir().context("no folder for openbox")?;
        let configuration = folder.path().join("openbox.xml");
        std::fs::write(&configuration, OPENBOX).context("can't write openbox's configuration")?;
        let mut command = Command::new("openbox");
        command.arg("--config-file").arg(&configuration);
        command.env("DISPLAY", &display).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true);
        let window_manager =
            Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("can't start openbox")?;
        let (connection, number) =
            RustConnection::connect(Some(&display)).with_context(|| format!("no X server at {display}"))?;
        let root = connection.setup().roots[number].root;
        let desktop =
            Self { display, connection, root, width, height, _window_manager: window_manager, _server: server };
        wait_for("openbox to manage the screen", Duration::from_secs(20), async || {
            desktop.windows_of_root("_NET_SUPPORTING_WM_CHECK")?.first().copied().context("no window manager")
        })
        .await?;
        Ok(desktop)
    }

    /// Value of `DISPLAY` for programs that shall appear here.
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }

    /// All that is on the screen now.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn capture(&self) -> Result<Picture> {
        self.capture_part(Rect { x: 0, y: 0, width: self.width.into(), height: self.height.into() })
    }

    /// A part of what is on the screen now.
    ///
    /// # Errors
    /// When the X server is gone, or the part is not within the screen.
    pub fn capture_part(&self, part: Rect) -> Result<Picture> {
        let (x, y) = (i16::try_from(part.x)?, i16::try_from(part.y)?);
        let (width, height) = (u16::try_from(part.width)?, u16::try_from(part.height)?);
        let cookie = self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, x, y, width, height, u32::MAX)?;
        let image = cookie.reply().with_context(|| format!("can't read {part:?} of the screen"))?;
        Picture::from_bgrx(part.width, part.height, &image.data)
    }

    /// Moves the pointer to a place on the screen.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn move_to(&self, x: u32, y: u32) -> Result<()> {
        self.fake(xproto::MOTION_NOTIFY_EVENT, 0, i16::try_from(x)?, i16::try_from(y)?)
    }

    /// Moves the pointer by so much: what a captured pointer's owner sees. (Moving to a place makes the X server report
    /// places as raw motion.)
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn move_by(&self, dx: i16, dy: i16) -> Result<()> {
        self.fake(xproto::MOTION_NOTIFY_EVENT, 1, dx, dy)
    }

    /// Presses or releases a pointer button: 1 left, 2 middle, 3 right, 4 and 5 the wheel.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn button(&self, button: u8, pressed: bool) -> Result<()> {
        let kind = if pressed { xproto::BUTTON_PRESS_EVENT } else { xproto::BUTTON_RELEASE_EVENT };
        self.fake(kind, button, 0, 0)
    }

    /// Clicks at a place.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn click(&self, x: u32, y: u32) -> Result<()> {
        self.move_to(x, y)?;
        self.button(1, true)?;
        self.button(1, false)
    }

    /// Presses or releases a key.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn key(&self, key: Key, pressed: bool) -> Result<()> {
        let kind = if pressed { xproto::KEY_PRESS_EVENT } else { xproto::KEY_RELEASE_EVENT };
        self.fake(kind, u8::try_from(key.evdev() + KEYCODE_OFFSET)?, 0, 0)
    }

    /// Presses keys in order and releases them in the reverse one: a chord.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn chord(&self, keys: &[Key]) -> Result<()> {
        keys.iter().try_for_each(|&key| self.key(key, true))?;
        keys.iter().rev().try_for_each(|&key| self.key(key, false))
    }

    fn fake(&self, kind: u8, detail: u8, x: i16, y: i16) -> Result<()> {
        self.connection.xtest_fake_input(kind, detail, x11rb::CURRENT_TIME, self.root, x, y, 0)?.check()?;
        Ok(())
    }

    /// Where the inside of the window of process `pid` is on the screen.
    ///
    /// # Errors
    /// When it has none (yet).
    pub fn window_of(&self, pid: u32) -> Result<Rect> {
        for window in self.windows_of_root("_NET_CLIENT_LIST")? {
            if self.property(window, "_NET_WM_PID")?.first() == Some(&pid) {
                let geometry = self.connection.get_geometry(window)?.reply()?;
                let place = self.connection.translate_coordinates(window, self.root, 0, 0)?.reply()?;
                let (x, y) = (u32::try_from(place.dst_x)?, u32::try_from(place.dst_y)?);
                return Ok(Rect { x, y, width: geometry.width.into(), height: geometry.height.into() });
            }
        }
        bail!("process {pid} has no window on {}", self.display)
    }

    /// Asks the window of process `pid` to close, as its cross does (EWMH `_NET_CLOSE_WINDOW`).
    ///
    /// # Errors
    /// When it has none.
    pub fn close_window_of(&self, pid: u32) -> Result<()> {
        for window in self.windows_of_root("_NET_CLIENT_LIST")? {
            if self.property(window, "_NET_WM_PID")?.first() == Some(&pid) {
                let event =
                    xproto::ClientMessageEvent::new(32, window, self.atom("_NET_CLOSE_WINDOW")?, [0, 2, 0, 0, 0]);
                let mask = xproto::EventMask::SUBSTRUCTURE_NOTIFY | xproto::EventMask::SUBSTRUCTURE_REDIRECT;
                self.connection.send_event(false, self.root, mask, event)?.check()?;
                return Ok(());
            }
        }
        bail!("process {pid} has no window on {}", self.display)
    }

    /// Opens a small window of our own, which the window manager gives the focus.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn open_window(&self) -> Result<Window> {
        let window = self.connection.generate_id()?;
        let setup = self.connection.setup();
        let visual = setup.roots.iter().find(|screen| screen.root == self.root).context("no such screen")?.root_visual;
        let values = xproto::CreateWindowAux::new();
        let class = xproto::WindowClass::INPUT_OUTPUT;
        let depth = x11rb::COPY_DEPTH_FROM_PARENT;
        self.connection.create_window(depth, window, self.root, 0, 0, 80, 60, 0, class, visual, &values)?.check()?;
        self.connection.map_window(window)?.check()?;
        Ok(window)
    }

    /// Closes a window of [`Desktop::open_window`].
    ///
    /// # Errors
    /// When it is gone.
    pub fn close_window(&self, window: Window) -> Result<()> {
        Ok(self.connection.destroy_window(window)?.check()?)
    }

    fn windows_of_root(&self, property: &str) -> Result<Vec<Window>> {
        self.property(self.root, property)
    }

    fn atom(&self, name: &str) -> Result<u32> {
        Ok(self.connection.intern_atom(false, name.as_bytes())?.reply()?.atom)
    }

    /// A property of 32-bit values; empty when it is not set.
    fn property(&self, window: Window, name: &str) -> Result<Vec<u32>> {
        let reply = self.connection.get_property(false, window, self.atom(name)?, AtomEnum::ANY, 0, 1024)?.reply()?;
        Ok(reply.value32().map(Iterator::collect).unwrap_or_default())
    }
}
