//! Drawing: a retained target, redrawn only where something changed.

pub mod completion;
pub mod diff;
pub mod gpu;
mod hud_layer;
mod pictures;
pub mod put;
mod quads;
mod staging;
mod target;

pub use completion::{Completion, Finished, ReadBack};
pub use gpu::Gpu;
pub use quads::Quad;
pub use target::{Drawing, PictureStyle, Renderer};
