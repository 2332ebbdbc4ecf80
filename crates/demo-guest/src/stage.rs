//! The picture in memory: a background that changes seldom, and over it what moves. Only rectangles that changed are
//! put together again and handed to the screen.

use crate::geometry::Rect;
use crate::layout::Layout;
use crate::panel::{self, Status};
use crate::sprites::{Look, Sprites};
use crate::track::Track;
use crate::{ground, paint, rails, things};

/// Most things that move at once.
const MAXIMUM_ITEMS: usize = 48;
/// Most rectangles that are presented apart in one go.
const MAXIMUM_DIRTY: usize = 64;
/// Words of memory for each of the two pictures.
pub const PICTURE_WORDS: usize = 1024 * 768;

/// A sprite somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) look: Look,
    /// Pixel of its anchor.
    pub(crate) x: i32,
    pub(crate) y: i32,
    /// It hides behind what stands further down than this.
    pub(crate) depth: u8,
}

/// A short list without allocation; what does not fit is left out.
#[derive(Clone, Copy)]
pub(crate) struct List<T, const N: usize> {
    items: [Option<T>; N],
    count: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    pub(crate) fn new() -> Self {
        Self { items: [None; N], count: 0 }
    }

    pub(crate) fn push(&mut self, item: T) -> bool {
        let fits = self.count < N;
        if fits {
            self.items[self.count] = Some(item);
            self.count += 1;
        }
        fits
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.items[..self.count].iter().flatten()
    }
}

/// What moves, from the back to the front.
pub(crate) type Items = List<Item, MAXIMUM_ITEMS>;

/// Rectangles that must be presented.
pub(crate) struct Dirty {
    rects: [Rect; MAXIMUM_DIRTY],
    count: usize,
}

impl Dirty {
    pub(crate) fn new() -> Self {
        Self { rects: [Rect::default(); MAXIMUM_DIRTY], count: 0 }
    }

    /// Adds a rectangle; joins it with one that it (nearly) covers or touches.
    pub(crate) fn add(&mut self, rect: Rect) {
        if rect.is_empty() {
            return;
        }
        let mut rect = rect;
        let mut i = 0;
        while i < self.count {
            let both = self.rects[i].union(rect);
            if both.area() * 4 <= (self.rects[i].area() + rect.area()) * 5 || self.count == MAXIMUM_DIRTY {
                rect = both;
                self.count -= 1;
                self.rects[i] = self.rects[self.count];
                i = 0;
            } else {
                i += 1;
            }
        }
        self.rects[self.count] = rect;
        self.count += 1;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Rect> {
        self.rects[..self.count].iter().copied()
    }
}

/// The pictures.
pub(crate) struct Stage<'a> {
    pub(crate) width: i32,
    pub(crate) height: i32,
    background: &'a mut [u32],
    /// Of the background's pixels.
    depths: &'a mut [u8],
    frame: &'a mut [u32],
    sprites: Sprites<'a>,
    /// Pixels that the town is shifted to the left by (mode busy).
    pub(crate) scroll: i32,
}

impl<'a> Stage<'a> {
    /// All three have room for [`PICTURE_WORDS`].
    pub(crate) fn new(
        background: &'a mut [u32],
        depths: &'a mut [u8],
        frame: &'a mut [u32],
        sprites: Sprites<'a>,
    ) -> Self {
        Self { width: 640, height: 480, background, depths, frame, sprites, scroll: 0 }
    }

    pub(crate) fn resize(&mut self, width: i32, height: i32) {
        (self.width, self.height) = (width, height);
        self.sprites.reset(width);
    }

    /// Pixels to a unit.
    pub(crate) fn scale(&self) -> f32 {
        self.width as f32 / 640.0
    }

    pub(crate) fn whole(&self) -> Rect {
        Rect::new(0, 0, self.width, self.height)
    }

    /// The finished picture.
    pub(crate) fn frame(&self) -> &[u32] {
        &self.frame[..(self.width * self.height) as usize]
    }

    /// Draws the background anew inside `clip`; the strip's cells are not part of it.
    pub(crate) fn draw_background(&mut self, clip: Rect, layout: &Layout, track: &Track, status: &Status) {
        let mut canvas = self.canvas(clip);
        ground::draw(&mut canvas, layout);
        rails::draw(&mut canvas, track);
        things::draw(&mut canvas, layout, track);
        panel::draw(&mut canvas, status);
    }

    /// Draws the panel's text anew.
    pub(crate) fn draw_panel(&mut self, clip: Rect, status: &Status) {
        panel::draw(&mut self.canvas(clip), status);
    }

    /// Draws on the background.
    pub(crate) fn canvas(&mut self, clip: Rect) -> paint::Canvas<'_> {
        let size = (self.width * self.height) as usize;
        paint::Canvas::picture(&mut self.background[..size], &mut self.depths[..size], self.width, clip)
    }

    /// Fills a rectangle that nothing ever covers, in the background and in the frame.
    pub(crate) fn fill_strip(&mut self, rect: Rect, colour: u32) {
        for y in rect.top..rect.bottom() {
            let from = (y * self.width + rect.left) as usize;
            let to = from + rect.width as usize;
            self.background[from..to].fill(colour);
            self.depths[from..to].fill(panel::STRIP_DEPTH);
            self.frame[from..to].fill(colour);
        }
    }

    /// The pixels that an item covers.
    pub(crate) fn rect(&mut self, item: &Item) -> Rect {
        self.sprites.image(item.look).rect(item.x, item.y)
    }

    /// Puts a part of the frame together.
    pub(crate) fn compose(&mut self, rect: Rect, items: &Items) -> Rect {
        let rect = rect.intersection(self.whole());
        self.restore(rect);
        for item in items.iter() {
            let covers = self.rect(item).intersection(rect);
            if !covers.is_empty() {
                self.blend(item, covers);
            }
        }
        rect
    }

    /// Pixels by which a row of the background is shifted to the left.
    fn shift(&self, y: i32) -> i32 {
        if y < panel::top_row(self.width) { self.scroll.rem_euclid(self.width) } else { 0 }
    }

    fn restore(&mut self, rect: Rect) {
        for y in rect.top..rect.bottom() {
            let (row, shift) = ((y * self.width) as usize, self.shift(y));
            // Target columns left of `seam` come from `shift` further right, the others from the row's start.
            let seam = self.width - shift;
            for (from, to) in [(rect.left, rect.right().min(seam)), (rect.left.max(seam), rect.right())] {
                if from < to {
                    let source = row + ((from + shift) % self.width) as usize;
                    let target = row + from as usize;
                    let length = (to - from) as usize;
                    self.frame[target..target + length].copy_from_slice(&self.background[source..source + length]);
                }
            }
        }
    }

    fn blend(&mut self, item: &Item, covers: Rect) {
        let image = self.sprites.image(item.look);
        let place = image.rect(item.x, item.y);
        let (pixels, stride) = self.sprites.pixels(&image);
        let opaque = item.look == Look::Box;
        for y in covers.top..covers.bottom() {
            let source = (y - place.top) as usize * stride + (covers.left - place.left) as usize;
            let target = (y * self.width + covers.left) as usize;
            let length = covers.width as usize;
            let (row, over) = (&mut self.frame[target..target + length], &pixels[source..source + length]);
            if opaque {
                row.copy_from_slice(over);
            } else if self.scroll != 0 {
                // Only sign and cursor are seen in mode busy, and they are above the town.
                let strip = &self.depths[target..target + length];
                blend_row(
                    row,
                    over,
                    strip.iter().map(|depth| if *depth == panel::STRIP_DEPTH { 255 } else { 0 }),
                    item.depth,
                );
            } else {
                blend_row(row, over, self.depths[target..target + length].iter().copied(), item.depth);
            }
        }
    }
}

/// Lays a sprite's premultiplied pixels over a row, where what is there stands no further down than `depth`.
fn blend_row(row: &mut [u32], over: &[u32], depths: impl Iterator<Item = u8>, depth: u8) {
    for ((under, over), stands) in row.iter_mut().zip(over).zip(depths) {
        let coverage = over >> 24;
        if coverage == 0 || stands > depth {
            continue;
        }
        *under = if coverage == 255 {
            over & 0xff_ffff
        } else {
            let rest = 256 - coverage;
            let red_blue = ((*under & 0xff_00ff) * rest) >> 8 & 0xff_00ff;
            let green = ((*under & 0xff00) * rest) >> 8 & 0xff00;
            red_blue + green + (over & 0xff_ffff)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dirty_rectangles_cover_what_was_added() {
        let mut random = crate::math::Random::new(2);
        for _ in 0..200 {
            let mut dirty = Dirty::new();
            let rects: Vec<Rect> = (0..100)
                .map(|_| {
                    let mut below = |limit| random.below(limit) as i32;
                    Rect::new(below(600), below(400), 1 + below(60), 1 + below(60))
                })
                .collect();
            for rect in &rects {
                dirty.add(*rect);
            }
            for rect in rects {
                assert!(dirty.iter().any(|joined| joined.intersection(rect) == rect), "{rect:?}");
            }
        }
    }

    #[test]
    fn far_rectangles_stay_apart() {
        let mut dirty = Dirty::new();
        dirty.add(Rect::new(0, 0, 10, 10));
        dirty.add(Rect::new(500, 400, 10, 10));
        dirty.add(Rect::new(1, 1, 10, 10));
        assert_eq!(dirty.iter().map(|rect| rect.area()).sum::<i64>(), 100 + 121);
    }
}
