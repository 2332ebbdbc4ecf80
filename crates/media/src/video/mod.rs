//! Pictures: the guest's canvas, colour conversion, encoders, decoders.

mod canvas;
mod convert;
mod frame;

pub(crate) use canvas::{BAND_ROWS, CanvasView, DamageListener};
pub use canvas::{Canvas, CanvasStats, RgbImage};
pub use convert::{I420Planes, bgrx_rows_to_i420};
pub use frame::{FrameTimes, VideoFrame};
