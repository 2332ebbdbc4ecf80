//! What stands around and over the pictures: bar, plates, messages, menus, statistics, toasts. Drawn by egui from a model,
//! and only when the model or what the pointer does to it changed; what a person asks for comes back as a list.

mod bar;
pub mod ground;
mod menu;
mod overlay;
mod sound;
mod style;
mod tiles;
mod toasts;

use crate::args::Scaling;
use crate::input::PointerMode;
use crate::plane::TileOrder;
use crate::scene::layout::{Layout, Place};
use crate::scene::plate::Plate;
use crate::sound::{DeviceInfo, Levels, Output};
use crate::statistics::Sheet;
use loco_model::InstanceId;

pub use menu::id as tile_menu_id;
pub use sound::Mix;
pub use style::install;

/// What a person asked for with the pointer.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Focus an instance.
    Focus(InstanceId),
    /// Let an instance fill the window, or no longer.
    Enlarge(InstanceId),
    /// Save a picture of the window, or of one instance.
    Screenshot(Option<InstanceId>),
    /// Silence an instance, or no longer.
    Mute(InstanceId),
    /// Hear an instance alone, or no longer.
    Solo(InstanceId),
    /// How the sounds are put together.
    Mix(Mix),
    /// Fader of an instance, 0..=1.
    Volume(InstanceId, f32),
    /// Fader of everything, 0..=1.
    Master(f32),
    /// Silence everything, or no longer.
    MasterMute,
    /// Where the sound goes.
    SoundOutput(Output),
    /// Relative or absolute pointer.
    PointerMode(InstanceId, PointerMode),
    /// Show or hide the statistics.
    Statistics,
    /// Copy the statistics as text.
    CopyStatistics,
    /// The window fills the screen, or no longer.
    FullScreen,
    /// How pictures are scaled.
    Scaling(Scaling),
    /// Take a toast away.
    Dismiss(u64),
    /// Put a line on the clipboard.
    CopyText(String),
    /// Take an instance's input, whoever has it.
    Take(InstanceId),
    /// Give it back.
    Release(InstanceId),
    /// Press what the window system would keep for itself.
    ControlAltDelete(InstanceId),
    /// Ask the control plane for something.
    Order(InstanceId, TileOrder),
    /// Keep how an instance is now.
    Snapshot(InstanceId),
    /// Save what was seen before an instance's last repair.
    Evidence(InstanceId),
    /// An instance's menu was opened.
    MenuOpened(InstanceId),
}

/// Whose input an instance takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Everyone's, or this viewer's where there is no other.
    Nobody,
    /// This viewer's, and there are others.
    Me,
    /// Another viewer's, by its name.
    Other(String),
}

/// How good or bad a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Good to know.
    Info,
    /// Something is well again.
    Good,
    /// Something is being done.
    Busy,
    /// Something is worse than it should be.
    Warning,
    /// Something does not work.
    Bad,
}

/// One instance as the HUD needs it.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, no state machine in disguise")]
#[derive(Clone, Debug, PartialEq)]
pub struct TileModel {
    /// Where.
    pub place: Place,
    /// What is said.
    pub plate: Plate,
    /// Gets the keyboard.
    pub focused: bool,
    /// Has the pointer too.
    pub captured: bool,
    /// Silenced.
    pub muted: bool,
    /// Heard alone, with others that are solo.
    pub solo: bool,
    /// Fader position, 0..=1.
    pub volume: f32,
    /// How its pointer works.
    pub pointer_mode: PointerMode,
    /// Something was ever seen of it.
    pub has_picture: bool,
    /// Whose input it takes.
    pub holder: Holder,
    /// Attempts to repair it that are left in this hour; `None` while unknown.
    pub attempts_left: Option<usize>,
    /// Its guest stands still because someone wanted it to.
    pub paused: bool,
    /// Something was saved before its last repair.
    pub has_evidence: bool,
    /// Its snapshots; `None` until they were told.
    pub snapshots: Option<Vec<String>>,
}

/// A short message at the lower right.
#[derive(Clone, Debug, PartialEq)]
pub struct Toast {
    /// Tells it from others.
    pub number: u64,
    /// Colour and icon.
    pub tone: Tone,
    /// One line.
    pub text: String,
    /// What can be done about it: what a button says, and what it asks for.
    pub action: Option<(String, Ask)>,
    /// While it comes and goes, 0..=1.
    pub opacity: f32,
}

/// Everything that the HUD shows.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, no state machine in disguise")]
#[derive(Clone, Debug, PartialEq)]
pub struct HudModel {
    /// Where everything lies.
    pub layout: Layout,
    /// Instances on the screen.
    pub tiles: Vec<TileModel>,
    /// Where we are connected to.
    pub connection: String,
    /// What is wrong with that, if anything.
    pub trouble: Option<String>,
    /// How many instances there are, on the screen or not.
    pub instances: usize,
    /// How many are in which state.
    pub summary: Option<String>,
    /// Who needs a person most.
    pub worst: Option<InstanceId>,
    /// Fader of everything, 0..=1.
    pub master: f32,
    /// Everything is silenced.
    pub master_muted: bool,
    /// Where sound can go.
    pub devices: Vec<DeviceInfo>,
    /// Where it was told to go.
    pub output: Output,
    /// What it does now, in a line.
    pub sound_line: String,
    /// What is wrong with it, in a line.
    pub sound_trouble: Option<String>,
    /// How the sounds are put together.
    pub mix: Mix,
    /// The meter of everything.
    pub master_levels: Levels,
    /// Momentary loudness of everything in LUFS, `-inf` for none.
    pub loudness: f32,
    /// Numbers to be shown.
    pub statistics: Option<Sheet>,
    /// Messages.
    pub toasts: Vec<Toast>,
    /// Messages slide in.
    pub slides: bool,
    /// There is a control plane that can be asked.
    pub orders: bool,
    /// Whose menu was opened there (in points), and not by its button.
    pub menu_at: Option<(InstanceId, egui::Pos2)>,
    /// Enlarged: plate and bar are slid in.
    pub edges: bool,
    /// The window fills the screen.
    pub full_screen: bool,
    /// How pictures are scaled.
    pub scaling: Scaling,
}

/// Draws the HUD once; returns what was asked for and where the viewer's own buttons lie (in points).
pub fn show(ui: &mut egui::Ui, model: &HudModel, ppp: f32) -> (Vec<Ask>, Vec<egui::Rect>) {
    let mut out = Out { asks: Vec::new(), taken: Vec::new(), ppp };
    for place in model.layout.places.iter().filter(|place| place.id.is_none()) {
        tiles::empty(ui, place, model, &mut out);
    }
    for tile in &model.tiles {
        tiles::tile(ui, tile, model, &mut out);
    }
    bar::show(ui, model, &mut out);
    overlay::statistics(ui, model, &mut out);
    toasts::show(ui, model, &mut out);
    (out.asks, out.taken)
}

/// What comes back from drawing.
struct Out {
    asks: Vec<Ask>,
    /// Places where clicks are the viewer's own.
    taken: Vec<egui::Rect>,
    ppp: f32,
}

impl Out {
    /// Physical pixels as egui's points.
    fn points(&self, rect: loco_model::Rect) -> egui::Rect {
        let point = |pixel: u32| pixel as f32 / self.ppp;
        egui::Rect::from_min_max(
            egui::pos2(point(rect.x), point(rect.y)),
            egui::pos2(point(rect.right()), point(rect.bottom())),
        )
    }
}
