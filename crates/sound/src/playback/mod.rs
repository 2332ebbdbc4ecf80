//! Sound out: nine readers, one mixer, one output.
//!
//! The mixer runs in the sound device's callback; faders and meters reach it through atomics ([`board`]), readers
//! through a ring. [`output`] keeps a device open, for ever, and plays into nothing while there is none: a missing sound
//! server is a reduced feature, not an end.

mod backend;
mod board;
mod feed;
mod mixer;
mod null;
mod output;
pub mod place;
mod priority;
mod wake;

pub use crate::meter::{Decay, Reading as Levels};
pub use board::Click;
pub use priority::{Priority, favour_this_thread, favour_this_thread_if_allowed};

use crate::{Reader, ReaderStats, ReaderStatsHandle, SoundError};
use board::Board;
use feed::Source;
use loco_model::InstanceId;
use mixer::{Command, Desk};
use output::{MakeBackend, Message, Shown, Supervisor, Timings};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use wake::Waker;

/// Where the sound goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// The system's default device, followed when it changes.
    #[default]
    Default,
    /// One device by its id ([`DeviceInfo::id`]).
    Device(String),
    /// None: a clock consumes the sound, so that meters work. For off-screen runs and benches.
    Null,
}

/// How to start.
pub struct SoundConfig {
    /// Where the sound goes at first.
    pub output: Output,
    /// Called (on a thread of the sound system) when a meter, the state or the list of devices has something new to
    /// draw, for meters at most 30 times a second.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// One output device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// To give to [`Output::Device`].
    pub id: String,
    /// For people.
    pub name: String,
    /// The system's default.
    pub default: bool,
}

/// The output's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SoundStatus {
    /// A device plays (or the null output was asked for).
    pub playing: bool,
    /// One line for people: the device, or why there is none.
    pub line: String,
    /// One line about what is not as it should be although a device plays.
    pub note: Option<String>,
    /// The device's name.
    pub device: Option<String>,
    /// Frames a second of the device.
    pub rate_hz: Option<u32>,
    /// Frames of the last callback.
    pub callback_frames: Option<u32>,
    /// Callback to loudspeaker in milliseconds, where the system says.
    pub output_latency_ms: Option<f64>,
    /// Times that a device was lost or changed and opened anew.
    pub reopened: u64,
    /// Sound that the system did not ask for although it should have, since the start, in milliseconds.
    pub missed_ms: u64,
    /// Calls to the system that have not returned and were given up.
    pub hanging: u32,
    /// Priority of the callback's thread, once it is known.
    pub priority: Option<Priority>,
}

impl SoundStatus {
    /// What is wrong, in one line; `None` while all is well.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        if self.playing { self.note.as_deref() } else { Some(self.line.as_str()).filter(|line| !line.is_empty()) }
    }
}

/// The mixer and its output. Ends on drop. No method blocks on the sound device.
pub struct SoundSystem {
    board: Arc<Board>,
    desk: Mutex<Desk>,
    stats: Mutex<[Option<ReaderStatsHandle>; InstanceId::COUNT]>,
    source: Source,
    shown: Arc<Mutex<Shown>>,
    orders: Sender<Message>,
    waker: Arc<Waker>,
    threads: Vec<JoinHandle<()>>,
}

// === impl SoundSystem ===

impl SoundSystem {
    /// Starts. Never fails for want of a device: see [`SoundStatus`].
    ///
    /// # Errors
    /// When a filter or a loudness meter cannot be made.
    pub fn start(config: SoundConfig) -> Result<Self, SoundError> {
        let make: MakeBackend = Box::new(|| Box::new(backend::System::new()));
        Self::start_with(config, make, Timings::default())
    }

    fn start_with(config: SoundConfig, make_backend: MakeBackend, timings: Timings) -> Result<Self, SoundError> {
        let board = Arc::new(Board::default());
        let shown = Arc::new(Mutex::new(Shown::default()));
        let mut threads = Vec::new();
        let (waker, waking) = Waker::start(config.wake);
        let waker = Arc::new(waker);
        let (desk, mixer) = mixer::mixer(board.clone(), waker.clone())?;
        let source = Source::new(mixer);
        let (supervisor, orders) =
            Supervisor::new(source.clone(), waker.clone(), shown.clone(), make_backend, timings, config.output);
        let supervising = std::thread::Builder::new().name("loco-sound".into()).spawn(|| supervisor.run());
        for started in [waking, supervising] {
            match started {
                Ok(handle) => threads.push(handle),
                Err(error) => {
                    tracing::error!(%error, "sound cannot start a thread");
                    shown.lock().status.line = format!("no sound: {error}");
                }
            }
        }
        Ok(Self { board, desk: Mutex::new(desk), stats: Mutex::default(), source, shown, orders, waker, threads })
    }

    /// Gives an instance its sound; replaces what it had. Fader, mute and solo stay as they are.
    pub fn attach(&self, id: InstanceId, reader: Reader) {
        self.stats.lock()[id.index()] = Some(reader.stats());
        self.board.strips[id.index()].attached.store(true, Relaxed);
        self.command(Command { id, reader: Some(reader) });
    }

    /// Takes an instance's sound away.
    pub fn detach(&self, id: InstanceId) {
        self.stats.lock()[id.index()] = None;
        self.board.strips[id.index()].attached.store(false, Relaxed);
        self.command(Command { id, reader: None });
    }

    fn command(&self, command: Command) {
        let mut desk = self.desk.lock();
        while desk.retired.pop().is_ok() {}
        if let Some(reader) = &command.reader {
            reader.set_bell(desk.bell.clone());
        }
        if desk.commands.push(command).is_err() {
            tracing::error!("the mixer has not run for long: an instance's sound could not be changed");
        }
        desk.bell.ring();
    }

    /// Fader position 0..=1 of an instance (its gain is the cube, as in OBS).
    pub fn set_volume(&self, id: InstanceId, position: f32) {
        self.board.strips[id.index()].fader.set_position(position);
    }

    /// Silences an instance.
    pub fn set_mute(&self, id: InstanceId, muted: bool) {
        self.board.strips[id.index()].fader.set_mute(muted);
    }

    /// While any instance is solo, the others are silent.
    pub fn set_solo(&self, id: InstanceId, solo: bool) {
        self.board.strips[id.index()].fader.set_solo(solo);
    }

    /// Lowers an instance to [`SoundSystem::set_dim`]'s gain, because another one is listened to; solo comes first.
    pub fn set_dimmed(&self, id: InstanceId, dimmed: bool) {
        self.board.strips[id.index()].fader.set_dimmed(dimmed);
    }

    /// Gain 0..=1 of those that are dimmed; 1 dims nothing.
    pub fn set_dim(&self, gain: f32) {
        self.board.set_dim(gain);
    }

    /// Where an instance stands: -1 left, 0 the middle, 1 right ([`place`]).
    pub fn set_side(&self, id: InstanceId, side: f32) {
        self.board.strips[id.index()].fader.set_side(side);
    }

    /// How fast all meters fall.
    pub fn set_decay(&self, decay: Decay) {
        self.board.set_decay(decay);
    }

    /// Listens for the demo guest's marker in an instance's sound, or no longer.
    pub fn listen_for_clicks(&self, id: InstanceId, wanted: bool) {
        self.board.strips[id.index()].heard.wanted.store(wanted, Relaxed);
    }

    /// The newest click of an instance's marker.
    #[must_use]
    pub fn click(&self, id: InstanceId) -> Option<Click> {
        self.board.strips[id.index()].heard.read()
    }

    /// Fader position 0..=1 of everything.
    pub fn set_master(&self, position: f32) {
        self.board.master.fader.set_position(position);
    }

    /// Silences everything.
    pub fn set_master_mute(&self, muted: bool) {
        self.board.master.fader.set_mute(muted);
    }

    /// An instance's meter; `None` when it has no sound attached.
    #[must_use]
    pub fn levels(&self, id: InstanceId) -> Option<Levels> {
        let strip = &self.board.strips[id.index()];
        strip.attached.load(Relaxed).then(|| strip.meter.read(self.board.now_us()))
    }

    /// The meter of everything.
    #[must_use]
    pub fn master_levels(&self) -> Levels {
        self.board.master.meter.read(self.board.now_us())
    }

    /// Momentary loudness of an instance (EBU R 128) after its gain, in LUFS; `-inf` below the gate or without sound.
    #[must_use]
    pub fn loudness(&self, id: InstanceId) -> f32 {
        self.board.strips[id.index()].meter.loudness(self.board.now_us())
    }

    /// The same of everything.
    #[must_use]
    pub fn master_loudness(&self) -> f32 {
        self.board.master.meter.loudness(self.board.now_us())
    }

    /// Counters of an instance's sound; `None` when it has none attached.
    #[must_use]
    pub fn reader_stats(&self, id: InstanceId) -> Option<ReaderStats> {
        self.stats.lock()[id.index()].as_ref().map(ReaderStatsHandle::read)
    }

    /// Output devices as last seen; fresh while [`SoundSystem::watch_devices`] is on.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceInfo> {
        self.shown.lock().devices.clone()
    }

    /// Looks for devices now and every few seconds, or no longer; `wake` tells of every change.
    pub fn watch_devices(&self, watched: bool) {
        let _ = self.orders.send(Message::WatchDevices(watched));
    }

    /// Chooses where the sound goes.
    pub fn set_device(&self, output: Output) {
        let _ = self.orders.send(Message::Choose(output));
    }

    /// Whether that is what [`SoundStatus::trouble`] says now: for those who look often, since nothing is copied.
    #[must_use]
    pub fn is_trouble(&self, line: Option<&str>) -> bool {
        self.shown.lock().status.trouble() == line
    }

    /// The output's state.
    #[must_use]
    pub fn status(&self) -> SoundStatus {
        let pulse = &self.source.pulse;
        let shown = self.shown.lock();
        SoundStatus {
            callback_frames: Some(pulse.frames()).filter(|&frames| frames > 0),
            output_latency_ms: pulse.latency_ms(),
            hanging: shown.hanging(),
            ..shown.status.clone()
        }
    }
}

impl Drop for SoundSystem {
    fn drop(&mut self) {
        // The supervisor has gone if this fails.
        let _ = self.orders.send(Message::Stop);
        self.waker.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the sound system panicked");
            }
        }
    }
}
