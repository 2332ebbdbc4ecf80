//! What moves the viewer, and what it asks of its host.

use crate::automation::Request;
use crate::control::Update;
use crate::error::ViewError;
use crate::plane::Answer;
use crate::render::{Finished, Gpu};
use loco_model::{InstanceId, Size};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that happens outside of the window.
#[derive(Debug)]
pub enum Event {
    /// An instance has a new picture.
    Frame(InstanceId),
    /// An instance's session changed its state.
    Session(InstanceId),
    /// The control plane said something.
    Control(Update),
    /// The control plane answered.
    Answer(Answer),
    /// The device is done with a drawing.
    Finished(Finished),
    /// A meter moved, or the sound's state changed.
    Sound,
    /// A tool asks for something.
    Automation(Request),
    /// A tool went away.
    AutomationClosed(u64),
    /// A screenshot was saved, or not.
    Saved(Result<PathBuf, String>),
    /// The graphics device is lost.
    DeviceLost,
    /// The viewer shall end.
    Quit,
}

/// Brings an event into the loop, from any thread.
pub type Post = Arc<dyn Fn(Event) + Send + Sync>;

/// What a window does for the viewer.
pub trait Host {
    /// Opens the adapter (again, after it was lost).
    ///
    /// # Errors
    /// When none can draw.
    fn gpu(&mut self, size: Size, on_lost: Box<dyn Fn() + Send + Sync>) -> Result<Gpu, ViewError>;
    /// The screen's rate; `None` while unknown.
    fn refresh_hz(&self) -> Option<f64>;
    /// Takes the pointer, or lets it go.
    fn capture(&mut self, captured: bool);
    /// Fills the screen, or no longer.
    fn full_screen(&mut self, on: bool);
    /// What egui is to know of this moment.
    fn hud_input(&mut self) -> egui::RawInput;
    /// What egui wants of the window: cursor, clipboard.
    fn hud_output(&mut self, output: egui::PlatformOutput);
    /// Puts text on the clipboard.
    fn copy(&mut self, text: String);
}
