//! Pictures: the guest's canvas, colour conversion, encoders, decoders.

mod canvas;
mod convert;
mod decoder;
mod element;
mod encoder;
mod frame;

pub(crate) use canvas::DamageListener;
pub use canvas::{Canvas, CanvasStats, RgbImage};
pub use convert::{I420Planes, bgrx_rows_to_i420};
pub(crate) use decoder::{Decoder, check as check_decoder};
pub(crate) use encoder::{Encoder, choose as choose_encoder};
pub use frame::{FrameTimes, VideoFrame};
