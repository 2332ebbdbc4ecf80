//! What lies below the town.

use core::fmt::Arguments;

use crate::geometry::Rect;
use crate::options::Resolution;

/// What the town needs of the machine below it.
pub trait Machine {
    /// Switches the screen to a resolution; what it shows is undefined until presented.
    fn set_resolution(&mut self, resolution: Resolution);
    /// Shows a rectangle of the frame, whose rows are `stride` pixels of 0x??RRGGBB apart.
    fn present(&mut self, frame: &[u32], stride: usize, rect: Rect);
    /// Writes a line to the debug console.
    fn log(&mut self, line: Arguments<'_>);
    /// Whistles; `false` when it still does, or cannot.
    fn whistle(&mut self) -> bool;
    /// Starts or stops the music.
    fn set_music(&mut self, on: bool);
    /// Starts or stops the marker's hum and clicks; whether [`crate::Town::click`] will be called for each.
    fn set_marker(&mut self, on: bool) -> bool;
    /// Whether ticks are wanted.
    fn set_ticking(&mut self, on: bool);
}

/// Memory that the town draws in.
pub struct Memory<'a> {
    /// [`crate::PICTURE_WORDS`].
    pub background: &'a mut [u32],
    /// [`crate::PICTURE_WORDS`] bytes.
    pub depths: &'a mut [u8],
    /// [`crate::PICTURE_WORDS`].
    pub frame: &'a mut [u32],
    /// [`crate::SPRITE_WORDS`].
    pub sprites: &'a mut [u32],
}
