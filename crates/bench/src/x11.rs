//! An X server of our own, watched from outside: what a person at it would see, and when.

use anyhow::{Context, Result, bail};
use loco_demo_guest::barcode::{self, Reading};
use loco_model::{Key, Size};
use loco_process::{DeathSignal, Spawner};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::IoSlice;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use x11rb::connection::{Connection, RequestConnection};
use x11rb::protocol::Event;
use x11rb::protocol::xproto::{
    ConnectionExt as _, ImageFormat, InputFocus, KEY_PRESS_EVENT, KEY_RELEASE_EVENT, Window,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::RustConnection;

/// A virtual X server. Ends when dropped.
pub struct XServer {
    _child: Child,
    display: String,
}

impl XServer {
    /// Starts Xvfb with one screen on a free display.
    ///
    /// # Errors
    /// When Xvfb is not installed or does not start.
    pub async fn start(size: Size) -> Result<Self> {
        let mut command = Command::new("Xvfb");
        // It picks a free number itself and writes it to the descriptor that we name: its standard output.
        command
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0"])
            .arg(format!("{}x{}x24", size.width, size.height))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = Spawner::shared()?.spawn(command, DeathSignal::Kill).await.context("cannot start Xvfb")?;
        let mut lines = BufReader::new(child.stdout.take().context("Xvfb has no output")?).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        let number = line.context("Xvfb gave no display number within 20 s")??.context("Xvfb ended")?;
        Ok(Self { _child: child, display: format!(":{}", number.trim()) })
    }

    /// Its address, for `DISPLAY`.
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }
}

/// A connection that looks at the screen and types on its keyboard. All calls block.
pub struct Screen {
    connection: RustConnection,
    root: Window,
    size: Size,
    damage: Damage,
}

/// The X server's DAMAGE extension, of which this needs three requests and one event
/// (damageproto.txt; x11rb leaves it out unless its feature is on).
struct Damage {
    opcode: u8,
    event: u8,
    id: u32,
}

impl Damage {
    const QUERY_VERSION: u8 = 0;
    const CREATE: u8 = 1;
    const SUBTRACT: u8 = 3;
    /// One event when the damage becomes non-empty, no more until it is subtracted.
    const NON_EMPTY: u32 = 3;

    fn create(connection: &RustConnection, root: Window) -> Result<Self> {
        let extension = connection.query_extension(b"DAMAGE")?.reply()?;
        if !extension.present {
            bail!("the X server has no DAMAGE extension");
        }
        let id = connection.generate_id()?;
        let damage = Self { opcode: extension.major_opcode, event: extension.first_event, id };
        damage.send(connection, Self::QUERY_VERSION, &[1, 1])?;
        damage.send(connection, Self::CREATE, &[id, root, Self::NON_EMPTY])?;
        Ok(damage)
    }

    fn send(&self, connection: &RustConnection, request: u8, words: &[u32]) -> Result<()> {
        let length = u16::try_from(words.len() + 1)?.to_ne_bytes();
        let mut bytes = vec![self.opcode, request, length[0], length[1]];
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        if request == Self::QUERY_VERSION {
            // Its answer, 32 bytes that say 1.1, must be taken off the connection.
            let cookie = connection.send_request_with_reply::<Raw>(&[IoSlice::new(&bytes)], Vec::new())?;
            cookie.reply()?;
        } else {
            connection.send_request_without_reply(&[IoSlice::new(&bytes)], Vec::new())?.ignore_error();
        }
        Ok(())
    }

    fn rearm(&self, connection: &RustConnection) -> Result<()> {
        self.send(connection, Self::SUBTRACT, &[self.id, 0, 0])?;
        Ok(connection.flush()?)
    }

    fn is(&self, event: &Event) -> bool {
        matches!(event, Event::Unknown(bytes) if bytes.first().is_some_and(|kind| kind & 0x7f == self.event))
    }
}

struct Raw;

impl x11rb::x11_utils::TryParse for Raw {
    fn try_parse(bytes: &[u8]) -> Result<(Self, &[u8]), x11rb::errors::ParseError> {
        Ok((Self, bytes.get(32..).unwrap_or_default()))
    }
}

/// Where on the screen a guest's whole picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Its size.
    pub size: Size,
}

impl Screen {
    /// Connects to `display`.
    ///
    /// # Errors
    /// When there is no such X server, or it lacks XTEST or DAMAGE.
    pub fn open(display: &str) -> Result<Self> {
        let (connection, number) =
            x11rb::connect(Some(display)).with_context(|| format!("no X server at {display}"))?;
        let screen = connection.setup().roots.get(number).context("the X server has no screen")?;
        let (root, size) = (screen.root, Size::new(screen.width_in_pixels.into(), screen.height_in_pixels.into()));
        connection.xtest_get_version(2, 2)?.reply().context("the X server has no XTEST")?;
        let damage = Damage::create(&connection, root)?;
        damage.rearm(&connection)?;
        Ok(Self { connection, root, size, damage })
    }

    /// Looks for a picture of `size` with a barcode anywhere on the screen.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn find(&self, size: Size) -> Result<Option<Place>> {
        if size.width > self.size.width || size.height > self.size.height {
            return Ok(None);
        }
        let pixels = self.image(0, 0, self.size.width, self.size.height)?;
        let luma = |x: u32, y: u32| pixels.get(((y * self.size.width + x) * 4 + 1) as usize).copied().unwrap_or(0);
        let places = (0..=self.size.height - size.height)
            .flat_map(|y| (0..=self.size.width - size.width).map(move |x| Place { x, y, size }));
        let shows =
            |place: &Place| barcode::decode(size.width, size.height, |x, y| luma(place.x + x, place.y + y)).is_some();
        // Neighbouring offsets decode too: cells are larger than pixels. The middle of the run is the true one.
        let hits: Vec<Place> = places.filter(shows).collect();
        Ok(hits.get(hits.len() / 2).copied())
    }

    /// The barcode shown at `place` now.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn reading(&self, place: Place) -> Result<Option<Reading>> {
        let Size { width, height } = place.size;
        let (left, top, columns, rows) = barcode::region(width, height);
        let pixels = self.image(place.x + left, place.y + top, columns, rows)?;
        Ok(barcode::decode(width, height, |x, y| {
            let (column, row) = (x.wrapping_sub(left), y.wrapping_sub(top));
            let offset = (row.wrapping_mul(columns).wrapping_add(column)) as usize * 4 + 1;
            pixels.get(offset).copied().unwrap_or(0)
        }))
    }

    fn image(&self, x: u32, y: u32, width: u32, height: u32) -> Result<Vec<u8>> {
        let (x, y) = (i16::try_from(x)?, i16::try_from(y)?);
        let (width, height) = (u16::try_from(width)?, u16::try_from(height)?);
        let reply = self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, x, y, width, height, u32::MAX)?;
        Ok(reply.reply()?.data)
    }

    /// Puts the pointer into the middle of `place` and gives the keyboard to the window there: without a window manager
    /// nobody else does.
    ///
    /// # Errors
    /// When the X server is gone, or no window is there.
    pub fn point_at(&self, place: Place) -> Result<()> {
        let (x, y) = (place.x + place.size.width / 2, place.y + place.size.height / 2);
        self.connection.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, i16::try_from(x)?, i16::try_from(y)?)?;
        let window = self.connection.query_pointer(self.root)?.reply()?.child;
        if window == x11rb::NONE {
            bail!("no window at {x}, {y}");
        }
        self.connection.set_input_focus(InputFocus::POINTER_ROOT, window, x11rb::CURRENT_TIME)?;
        Ok(self.connection.flush()?)
    }

    /// Presses or lets go a key of the X server's keyboard.
    ///
    /// # Errors
    /// When the X server is gone.
    pub fn key(&self, key: Key, pressed: bool) -> Result<()> {
        // X keycodes are evdev's plus 8 (xkeyboard-config, keycodes/evdev).
        let code = u8::try_from(key.evdev() + 8)?;
        let kind = if pressed { KEY_PRESS_EVENT } else { KEY_RELEASE_EVENT };
        self.connection.xtest_fake_input(kind, code, x11rb::CURRENT_TIME, self.root, 0, 0, 0)?;
        Ok(self.connection.flush()?)
    }

    /// Presses `key`, waits until the barcode at `place` counts it, lets it go. The time from the press until the X
    /// server said that the pixels changed; nothing when they did not within `patience`.
    ///
    /// # Errors
    /// When the X server is gone or there is no barcode at `place`.
    pub fn press(&self, place: Place, key: Key, patience: Duration) -> Result<Option<Duration>> {
        let before = self.reading(place)?.context("the barcode is gone from the screen")?.input_count;
        // What was damaged up to here says nothing about this key.
        while self.connection.poll_for_event()?.is_some() {}
        self.damage.rearm(&self.connection)?;
        let begun = Instant::now();
        self.key(key, true)?;
        let mut seen = None;
        while seen.is_none() && self.wait_for_damage(begun + patience)? {
            let at = begun.elapsed();
            self.damage.rearm(&self.connection)?;
            let shows = |reading: Reading| reading.input_count == before.wrapping_add(1);
            seen = self.reading(place)?.is_some_and(shows).then_some(at);
        }
        self.key(key, false)?;
        Ok(seen)
    }

    /// Waits for the screen to change; false when it did not until `deadline`.
    fn wait_for_damage(&self, deadline: Instant) -> Result<bool> {
        loop {
            while let Some(event) = self.connection.poll_for_event()? {
                if self.damage.is(&event) {
                    return Ok(true);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut descriptors = [PollFd::new(self.connection.stream(), PollFlags::IN)];
            match poll(&mut descriptors, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
