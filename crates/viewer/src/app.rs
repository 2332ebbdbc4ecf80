//! The viewer itself: one loop that takes events, decides what must be drawn, and draws it. Windows and the off-screen
//! mode are hosts of the same thing.

mod actions;
mod commands;
mod draw;
mod event;
mod files;
mod hands;
mod notices;
mod offscreen;
mod orders;
mod sound;
mod view;
mod wall;
mod window;

pub use event::{Event, Host, Post};
pub use wall::{Fader, Tile, Wall};

use crate::args::{Scaling, ViewArgs};
use crate::error::ViewError;
use crate::hud::{Mix, Tone};
use crate::input::{Follow, Hold, Router};
use crate::pace::Pacer;
use crate::plane::Plane;
use crate::render::{Completion, Gpu, Quad, Renderer};
use crate::scene::{Layout, View};
use crate::session::Connector;
use crate::sound::{Output, SoundConfig, SoundSystem};
use loco_media::stats::{Histogram, Rate};
use loco_model::{InstanceId, Size};
use notices::{Note, Notices};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use offscreen::run as run_offscreen;
pub(crate) use window::run as run_window;

/// Everything that the viewer knows.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, no state machine in disguise")]
pub struct App {
    args: ViewArgs,
    post: Post,
    started: Instant,
    connector: Box<dyn Connector>,
    sound: SoundSystem,
    wall: Wall,
    router: Router,
    view: View,
    places: Option<usize>,
    scaling: Scaling,
    layout: Layout,
    size: Size,
    scale: f32,
    full_screen: bool,
    hidden: bool,

    gpu: Gpu,
    renderer: Renderer,
    completion: Completion,
    pacer: Pacer,
    hud: egui::Context,
    /// Grounds and meters as laid last, under the pictures and over them.
    quads: (Vec<Quad>, Vec<Quad>),
    /// Where the HUD's own buttons lie, in points.
    taken: Vec<egui::Rect>,

    connection: String,
    trouble: Option<String>,
    /// The control plane answered once.
    met: bool,
    plane: Plane,
    hold: Hold,
    follow: Follow,
    /// Where the focus was when it was last looked at.
    focus_seen: Option<InstanceId>,
    /// Names of the other viewers.
    others: Vec<String>,
    /// When the streams are looked at next.
    look_at: Instant,
    master: Fader,
    output: Output,
    mix: Mix,
    /// What is wrong with the sound, as announced last.
    sound_trouble: Option<String>,
    devices_watched: bool,
    /// Drawings whose picture is the first of a flash.
    flashes: Vec<(u64, InstanceId)>,
    statistics_shown: bool,
    notices: Notices,
    /// Whose menu was opened where, in points; not by its button.
    menu_at: Option<(InstanceId, egui::Pos2)>,
    edges_until: Option<Instant>,

    dirty: Dirty,
    in_flight: bool,
    waiting_reads: Vec<draw::WaitingRead>,
    watches: Vec<commands::Watch>,
    drawn: Vec<(u64, InstanceId, Instant)>,
    numbers: Numbers,
    wake_at: Option<Instant>,
    ended: Option<Result<(), ViewError>>,
}

/// What must be made anew before the next drawing.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, no state machine in disguise")]
#[derive(Clone, Copy, Debug)]
struct Dirty {
    layout: bool,
    hud: bool,
    ground: bool,
    /// The window must be shown the target again, though nothing in it changed.
    shown: bool,
}

/// What the renderer costs.
#[derive(Default)]
struct Numbers {
    drawings: Rate,
    device: Histogram,
    record: Histogram,
    draw_count: u64,
    next_sample: Option<Instant>,
    cpu: Option<(Instant, Duration)>,
    cores: Option<f32>,
}

/// What an app starts from.
pub struct Parts {
    /// Command line.
    pub args: ViewArgs,
    /// Brings events into the loop.
    pub post: Post,
    /// Makes sessions.
    pub connector: Box<dyn Connector>,
    /// Where we are connected to, for people.
    pub connection: String,
    /// The way to the control plane.
    pub plane: Plane,
}

impl App {
    /// Sets everything up.
    ///
    /// # Errors
    /// When no adapter can draw, or a thread cannot be started.
    pub fn new(parts: Parts, host: &mut dyn Host, size: Size, scale: f32) -> Result<Self, ViewError> {
        let Parts { args, post, connector, connection, plane } = parts;
        let gpu = host.gpu(size, lost(&post))?;
        let renderer = Renderer::new(&gpu, size);
        let finished = Arc::clone(&post);
        let completion = Completion::start(move |work| finished(Event::Finished(work)))?;
        let pacer = pacer(&gpu, host.refresh_hz());
        let output = if args.offscreen { Output::Null } else { Output::Default };
        let wake = Arc::clone(&post);
        let sound =
            SoundSystem::start(SoundConfig { output: output.clone(), wake: Arc::new(move || wake(Event::Sound)) })?;
        // What the bar shows is what is heard, from the beginning.
        let master = Fader::default();
        sound.set_master(master.volume);
        let hud = egui::Context::default();
        crate::hud::install(&hud);
        Ok(Self {
            scaling: args.scaling,
            full_screen: args.fullscreen,
            follow: Follow::new(args.follow),
            notices: Notices::new(args.reduced_motion),
            args,
            post,
            started: Instant::now(),
            connector,
            sound,
            wall: Wall::default(),
            router: Router::default(),
            view: View::Grid,
            places: None,
            layout: Layout::default(),
            size,
            scale,
            hidden: false,
            gpu,
            renderer,
            completion,
            pacer,
            hud,
            quads: Default::default(),
            taken: Vec::new(),
            connection,
            trouble: None,
            met: false,
            hold: Hold::new(plane.me().clone()),
            plane,
            focus_seen: None,
            others: Vec::new(),
            look_at: Instant::now(),
            master,
            output,
            mix: Mix::default(),
            sound_trouble: None,
            devices_watched: false,
            flashes: Vec::new(),
            statistics_shown: false,
            menu_at: None,
            edges_until: None,
            dirty: Dirty { layout: true, hud: true, ground: true, shown: true },
            in_flight: false,
            waiting_reads: Vec::new(),
            watches: Vec::new(),
            drawn: Vec::new(),
            numbers: Numbers::default(),
            wake_at: None,
            ended: None,
        })
    }

    /// The result, once the viewer is to end.
    pub fn ended(&mut self) -> Option<Result<(), ViewError>> {
        self.ended.take()
    }

    /// Ends without trouble.
    pub fn end(&mut self) {
        self.ended.get_or_insert(Ok(()));
    }

    /// egui's context, for hosts that feed it.
    #[must_use]
    pub fn hud(&self) -> &egui::Context {
        &self.hud
    }

    /// Takes one event.
    pub fn event(&mut self, host: &mut dyn Host, event: Event) {
        match event {
            Event::Frame(id) => {
                if let Some(tile) = self.wall.tile_mut(id) {
                    tile.pending = true;
                    tile.looked.2 = true;
                }
            }
            Event::Session(id) => self.session_changed(host, id),
            Event::Control(update) => self.control(host, update),
            Event::Answer(answer) => self.answered(host, answer),
            Event::Finished(work) => self.finished(work),
            Event::Sound => self.sound_changed(),
            Event::Automation(request) => self.command(host, request),
            Event::AutomationClosed(connection) => self.watches.retain(|watch| watch.connection != connection),
            Event::Saved(result) => {
                let line = match result {
                    Ok(path) => format!("Saved {}", path.display()),
                    Err(why) => format!("The screenshot was not saved: {why}"),
                };
                self.toast(line);
            }
            // The loop turns after every event, and sees it.
            Event::DeviceLost => {}
            Event::Quit => self.end(),
        }
    }

    /// The window has another size.
    pub fn resized(&mut self, size: Size, scale: f32) {
        if size.area() == 0 {
            self.hidden = true;
            return;
        }
        self.hidden = false;
        if size != self.size {
            self.gpu.resize(size);
            self.renderer.resize(&self.gpu, size);
        }
        (self.size, self.scale) = (size, scale);
        self.dirty = Dirty { layout: true, hud: true, ground: true, shown: true };
    }

    /// The window is covered, or seen again.
    pub fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
        self.dirty.shown = true;
    }

    /// The window system lost what was shown.
    pub fn show_again(&mut self) {
        self.dirty.shown = true;
    }

    /// Something that egui reacts to happened.
    pub fn hud_changed(&mut self) {
        self.dirty.hud = true;
        if self.layout.enlarged {
            if self.edges_until.is_none() {
                self.dirty.ground = true;
            }
            self.edges_until = Some(Instant::now() + view::EDGES);
        }
    }

    /// Says something in a line at the lower right.
    fn toast(&mut self, text: String) {
        self.note(Note::new(Tone::Info, text));
    }

    fn note(&mut self, note: Note) {
        self.notices.push(note, Instant::now());
        self.dirty.hud = true;
    }

    fn screenshot_path(&self, what: &str) -> PathBuf {
        files::screenshot_path(self.args.screenshots.as_deref(), what)
    }
}

fn lost(post: &Post) -> Box<dyn Fn() + Send + Sync> {
    let post = Arc::clone(post);
    Box::new(move || post(Event::DeviceLost))
}

fn pacer(gpu: &Gpu, refresh_hz: Option<f64>) -> Pacer {
    if gpu.draws_on_cpu() { Pacer::for_cpu() } else { Pacer::for_gpu(refresh_hz.unwrap_or(60.0)) }
}
