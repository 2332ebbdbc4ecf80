//! The viewer on nine made-up towns, without control plane, agents or guests: for working on how it looks and for
//! measuring what drawing costs.
//!
//! `cargo run -p loco-viewer --example synthetic -- [--offscreen] [--automation SOCKET] [--busy] [--count N]`

#![allow(clippy::print_stderr, reason = "it talks to who develops")]

use clap::Parser;
use loco_media::{ReceiverStats, SendInputError, SessionState, Wake};
use loco_model::api::{Alert, Endpoints, Instance, Severity};
use loco_model::failure::{FailureClass, Remedy};
use loco_model::input::{KeysEvent, Pointer};
use loco_model::look::instance_colour;
use loco_model::recovery::{Attempt, Initiator};
use loco_model::usage::InputHolder;
use loco_model::{InstanceId, InstanceState, Size};
use loco_viewer::app::Event;
use loco_viewer::control::Update;
use loco_viewer::plane::{Plane, identity};
use loco_viewer::session::{Connector, Opened, Picture, Session};
use loco_viewer::{Source, ViewArgs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SIZE: Size = Size::new(640, 480);
const FPS: u32 = 30;

#[derive(Parser)]
struct Arguments {
    /// Without a window.
    #[arg(long)]
    offscreen: bool,
    /// Automation socket.
    #[arg(long)]
    automation: Option<PathBuf>,
    /// Every pixel changes in every picture.
    #[arg(long)]
    busy: bool,
    /// All of them live.
    #[arg(long)]
    live: bool,
    /// How many instances.
    #[arg(long, default_value_t = 9)]
    count: usize,
    /// Size of the window.
    #[arg(long, default_value = "1280x960", value_parser = loco_viewer::parse_size)]
    size: Size,
    /// Ends by itself after so many seconds, and prints the processor time used per second.
    #[arg(long)]
    seconds: Option<u64>,
}

#[derive(Clone)]
struct Town {
    planes: [Vec<u8>; 3],
    decoded: Instant,
}

impl Picture for Town {
    fn size(&self) -> Size {
        SIZE
    }

    fn plane(&self, index: usize) -> (&[u8], usize) {
        (&self.planes[index], if index == 0 { SIZE.width as usize } else { SIZE.width as usize / 2 })
    }

    fn decoded(&self) -> Instant {
        self.decoded
    }

    fn captured(&self) -> u32 {
        0
    }
}

/// BT.601, limited range.
fn yuv(r: u8, g: u8, b: u8) -> [u8; 3] {
    let (r, g, b) = (f32::from(r), f32::from(g), f32::from(b));
    [
        16.0 + 0.257 * r + 0.504 * g + 0.098 * b,
        128.0 - 0.148 * r - 0.291 * g + 0.439 * b,
        128.0 + 0.439 * r - 0.368 * g - 0.071 * b,
    ]
    .map(|v| v.round() as u8)
}

impl Town {
    fn new() -> Self {
        let (w, h) = (SIZE.width as usize, SIZE.height as usize);
        let mut town =
            Self { planes: [vec![0; w * h], vec![0; w * h / 4], vec![0; w * h / 4]], decoded: Instant::now() };
        town.fill(0, 0, w, h, yuv(0x5A, 0xA8, 0x46));
        town.fill(0, 330, w, 16, yuv(0xC9, 0xAE, 0x80));
        for x in (0..w).step_by(20) {
            town.fill(x, 326, 8, 24, yuv(0x7A, 0x54, 0x30));
        }
        for (x, y) in [(100, 60), (420, 90), (260, 200), (520, 220)] {
            town.fill(x, y, 60, 40, yuv(0xF0, 0xEC, 0xE0));
            town.fill(x - 6, y - 16, 72, 18, yuv(0x9C, 0x30, 0x28));
            town.fill(x + 8, y + 14, 14, 12, yuv(0xA8, 0xD0, 0xF0));
        }
        town
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        let w = SIZE.width as usize;
        for (index, plane) in self.planes.iter_mut().enumerate() {
            let half = if index == 0 { 1 } else { 2 };
            let (left, right) = (x.min(w) / half, (x + width).min(w) / half);
            for row in y / half..(y + height).min(SIZE.height as usize) / half {
                plane[row * w / half + left..row * w / half + right].fill(colour[index]);
            }
        }
    }
}

#[derive(Clone)]
struct Stream {
    newest: Arc<Mutex<Option<Town>>>,
    state: SessionState,
}

impl Session for Stream {
    fn take_picture(&self) -> Option<Box<dyn Picture>> {
        self.newest.lock().ok()?.take().map(|town| Box::new(town) as Box<dyn Picture>)
    }

    fn state(&self) -> SessionState {
        self.state.clone()
    }

    fn send_keys(&self, event: KeysEvent) -> Result<(), SendInputError> {
        eprintln!("{event:?}");
        Ok(())
    }

    fn send_pointer(&self, pointer: Pointer) -> Result<(), SendInputError> {
        eprintln!("{pointer:?}");
        Ok(())
    }

    fn stats(&self) -> ReceiverStats {
        ReceiverStats { size: Some(SIZE), ..ReceiverStats::default() }
    }

    fn reconnect_now(&self) {}
}

struct Towns {
    busy: bool,
    ended: Arc<AtomicBool>,
}

impl Connector for Towns {
    fn open(&self, id: InstanceId, _endpoints: &Endpoints, wake: Arc<dyn Fn(Wake) + Send + Sync>) -> Opened {
        let newest = Arc::new(Mutex::new(None));
        let source = Stream { newest: Arc::clone(&newest), state: SessionState::Connected };
        let (busy, ended) = (self.busy, Arc::clone(&self.ended));
        std::thread::spawn(move || {
            let colour = instance_colour(id);
            let colour = yuv(colour.0, colour.1, colour.2);
            let still = Town::new();
            let mut next = Instant::now() + Duration::from_millis(3 * id.index() as u64);
            for step in 0usize.. {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let mut town = still.clone();
                if busy {
                    let shade = (step % 64) as u8;
                    town.planes[0].iter_mut().for_each(|y| *y = y.wrapping_add(shade));
                }
                let x = (step * 3 + id.index() * 60) % 640;
                town.fill(x, 300, 48, 30, colour);
                town.fill(x + 30, 286, 8, 14, yuv(0x20, 0x20, 0x20));
                town.decoded = Instant::now();
                if let Ok(mut slot) = newest.lock() {
                    *slot = Some(town);
                }
                wake(Wake::Frame);
                next += Duration::from_secs(1) / FPS;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Opened { session: Box::new(source), sound: None }
    }
}

fn attempt(instance_id: InstanceId) -> Attempt {
    Attempt {
        reason: Some("QEMU exited with signal 9".into()),
        ..Attempt::begun("1", instance_id, 0, FailureClass::Qemu, Remedy::RestartQemu, Initiator::Agent)
    }
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given = Arguments::parse();
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let args = ViewArgs {
        offscreen: given.offscreen,
        automation: given.automation.clone(),
        size: given.size,
        ..ViewArgs::new(String::new(), PathBuf::new())
    };
    let ended = Arc::new(AtomicBool::new(false));
    let towns = Towns { busy: given.busy, ended: Arc::clone(&ended) };
    loco_viewer::run_with(args, move |_, post| {
        let endpoints = Endpoints { agent: "http://127.0.0.1:1".into(), whep: "http://127.0.0.1:1/whep".into() };
        let instance = |id: InstanceId| Instance {
            state: InstanceState::Live,
            ready: true,
            endpoints: Some(endpoints.clone()),
            ..Instance::new(id)
        };
        let all: Vec<_> = InstanceId::all().take(given.count).map(instance).collect();
        post(Event::Control(Update::All(all.clone())));
        let (live, seconds) = (given.live, given.seconds);
        std::thread::spawn(move || {
            if !live {
                std::thread::sleep(Duration::from_millis(1500));
                for (n, state, reason) in [
                    (2, InstanceState::Stopped, "guest is paused"),
                    (4, InstanceState::Degraded, "9 fps"),
                    (6, InstanceState::Recovering, "guest is starting"),
                    (7, InstanceState::Failed, "QEMU ends within a second of every start: no such disk"),
                    (8, InstanceState::Connecting, "UDP did not answer, trying TCP through the API server"),
                ] {
                    if let Some(mut instance) = all.get(n).cloned() {
                        instance.state = state;
                        instance.reason = Some(reason.into());
                        instance.attempts_left = Some(if n == 7 { 0 } else { 2 });
                        instance.recovery = (n == 6).then(|| attempt(instance.id));
                        post(Event::Control(Update::One(Box::new(instance))));
                    }
                }
                if let Some(mut instance) = all.get(1).cloned() {
                    instance.input_holder = Some(InputHolder { viewer: "a".into(), name: "ada@desk".into() });
                    post(Event::Control(Update::One(Box::new(instance))));
                }
                if let Some(instance) = all.get(6) {
                    post(Event::Control(Update::Attempt(Box::new(attempt(instance.id)))));
                    let alert = Alert {
                        id: "1".into(),
                        at_ms: 0,
                        ended_at_ms: None,
                        severity: Severity::Warning,
                        instance_id: Some(instance.id),
                        title: "memory is short".into(),
                        detail: Some("498 of 512 MB; it reaches its limit in 2 h".into()),
                    };
                    post(Event::Control(Update::Alert(alert)));
                }
            }
            if let Some(seconds) = seconds {
                std::thread::sleep(Duration::from_secs(2));
                let (since, before) = (Instant::now(), cpu());
                std::thread::sleep(Duration::from_secs(seconds));
                let share = (cpu() - before).as_secs_f64() / since.elapsed().as_secs_f64();
                eprintln!("{share:.3} cores");
                ended.store(true, Ordering::Relaxed);
                post(Event::Quit);
            }
        });
        Source {
            connector: Box::new(towns),
            connection: "this computer".to_owned(),
            plane: Plane::nowhere(identity(None)),
        }
    })?;
    Ok(())
}
