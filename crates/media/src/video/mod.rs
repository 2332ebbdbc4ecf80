//! Pictures: the guest's canvas, colour conversion, encoders, decoders.

mod canvas;
mod convert;
mod decoder;
mod element;
mod element_encoder;
mod encoder;
mod frame;
mod x264;

pub(crate) use canvas::DamageListener;
pub use canvas::{Canvas, CanvasStats, RgbImage};
pub(crate) use decoder::{Decoder, check as check_decoder};
pub(crate) use encoder::{Encoder, choose as choose_encoder};
pub use frame::{FrameTimes, VideoFrame};
