//! A picture at half its width and height, for paths that carry too little for the whole one.

use crate::video::Canvas;
use loco_model::{Rect, Size};

const PIXEL_BYTES: usize = 4;

/// The canvas's picture, halved; only what changed since the last look is computed.
#[derive(Default)]
pub(super) struct Halved {
    canvas: Canvas,
    /// Canvas generation that it shows.
    shows: u64,
    /// Halved pixels of one changed rectangle.
    scratch: Vec<u8>,
}

// === impl Halved ===

impl Halved {
    /// `whole` as it is now, halved. Each pixel is the mean of four; an odd last column or row is left out.
    pub(super) fn of(&mut self, whole: &Canvas) -> &Canvas {
        let (canvas, scratch) = (&self.canvas, &mut self.scratch);
        let mut shows = self.shows;
        let generation = whole.read(|view| {
            let size = Size::new(view.size.width / 2, view.size.height / 2);
            if canvas.size() != Some(size) {
                shows = 0;
                scratch.clear();
                scratch.resize(size.area() as usize * PIXEL_BYTES, 0);
                canvas.scanout(size, size.width as usize * PIXEL_BYTES, scratch);
            }
            for changed in view.changed_since(shows) {
                let (x, y) = (changed.x / 2, changed.y / 2);
                let (right, bottom) = ((changed.right() / 2).min(size.width), (changed.bottom() / 2).min(size.height));
                if x >= right || y >= bottom {
                    continue;
                }
                let (width, height) = ((right - x) as usize, (bottom - y) as usize);
                scratch.resize(width * height * PIXEL_BYTES, 0);
                for (row, out) in scratch.chunks_exact_mut(width * PIXEL_BYTES).enumerate() {
                    let first = (2 * (y as usize + row)) * view.stride() + 2 * x as usize * PIXEL_BYTES;
                    let span = 2 * width * PIXEL_BYTES;
                    let upper = &view.pixels[first..first + span];
                    let lower = &view.pixels[first + view.stride()..first + view.stride() + span];
                    let pairs = upper.chunks_exact(2 * PIXEL_BYTES).zip(lower.chunks_exact(2 * PIXEL_BYTES));
                    for (pixel, (above, below)) in out.chunks_exact_mut(PIXEL_BYTES).zip(pairs) {
                        for (i, value) in pixel.iter_mut().enumerate() {
                            let sum = u16::from(above[i])
                                + u16::from(above[i + PIXEL_BYTES])
                                + u16::from(below[i])
                                + u16::from(below[i + PIXEL_BYTES]);
                            *value = ((sum + 2) / 4) as u8;
                        }
                    }
                }
                canvas.update(Rect::new(x, y, right - x, bottom - y), width * PIXEL_BYTES, scratch);
            }
            view.generation
        });
        self.shows = generation.unwrap_or(self.shows);
        &self.canvas
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_pixels_become_one_and_changes_follow() {
        let whole = Canvas::new();
        let size = Size::new(65, 33);
        whole.scanout(size, 65 * 4, &vec![40; 65 * 33 * 4]);
        let mut halved = Halved::default();
        let small = halved.of(&whole).screenshot().expect("a picture");
        assert_eq!(small.size, Size::new(32, 16));
        assert!(small.pixels.iter().all(|value| *value == 40));
        // One of four pixels turns white: a quarter of the way.
        whole.update(Rect::new(62, 30, 1, 1), 4, &[255; 4]);
        let small = halved.of(&whole).screenshot().expect("a picture");
        let last = &small.pixels[(15 * 32 + 31) * 3..];
        assert_eq!(last, [94; 3], "the mean of 255 and three times 40");
        assert_eq!(small.pixels[..(15 * 32 + 31) * 3].iter().filter(|value| **value != 40).count(), 0);
        whole.scanout(Size::new(32, 32), 32 * 4, &[7; 32 * 32 * 4]);
        assert_eq!(halved.of(&whole).size(), Some(Size::new(16, 16)));
    }
}
