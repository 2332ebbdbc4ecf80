//! Pictures of what moves, drawn once and kept.

use crate::INSTANCE_COLOURS;
use crate::cars::{self, CAR_REACH, CURSOR_REACH, HEADINGS, PUFF_REACH, PUFFS, SAIL_REACH, SAILS};
use crate::geometry::Rect;
use crate::paint::Canvas;
use crate::panel;
use crate::train::CARS;

/// Width and height of the box of mode box, in pixels at every resolution.
pub(crate) const BOX: (i32, i32) = (200, 150);
/// Pixels that a sprite may take while it is drawn.
const SCRATCH: usize = 256 * 256;
/// Words of memory for all sprites; at 1024x768 all cars in all directions take some 1.3 million.
pub const SPRITE_WORDS: usize = 2 << 20;

/// What a sprite shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Which car, and its direction out of [`HEADINGS`].
    Car(usize, usize),
    /// Its age out of [`PUFFS`].
    Puff(usize),
    /// Their turn, out of [`SAILS`].
    Sails(usize),
    Cursor,
    Sign,
    Box,
}

/// Where a sprite's pixels lie; premultiplied, coverage in the top byte (but the box, which has none).
#[derive(Clone, Copy, Default)]
pub(crate) struct Image {
    offset: usize,
    /// From the sprite's anchor to its corner.
    left: i32,
    top: i32,
    width: i32,
    height: i32,
}

impl Image {
    /// The pixels that it covers when its anchor is at (x, y).
    pub(crate) fn rect(&self, x: i32, y: i32) -> Rect {
        Rect::new(x + self.left, y + self.top, self.width, self.height)
    }
}

/// All sprites of one resolution.
pub(crate) struct Sprites<'a> {
    memory: &'a mut [u32],
    used: usize,
    instance: u8,
    /// Width of the picture.
    width: i32,
    cars: [[Image; HEADINGS]; CARS],
    puffs: [Image; PUFFS],
    sails: [Image; SAILS],
    cursor: Image,
    sign: Image,
    block: Image,
}

impl<'a> Sprites<'a> {
    pub(crate) fn new(memory: &'a mut [u32], instance: u8) -> Self {
        Self {
            memory,
            used: SCRATCH,
            instance,
            width: 640,
            cars: [[Image::default(); HEADINGS]; CARS],
            puffs: [Image::default(); PUFFS],
            sails: [Image::default(); SAILS],
            cursor: Image::default(),
            sign: Image::default(),
            block: Image::default(),
        }
    }

    /// Forgets all pictures, and draws for a picture of `width` from now on.
    pub(crate) fn reset(&mut self, width: i32) {
        self.width = width;
        self.used = SCRATCH;
        self.cars = [[Image::default(); HEADINGS]; CARS];
        self.puffs = [Image::default(); PUFFS];
        self.sails = [Image::default(); SAILS];
        (self.cursor, self.sign, self.block) = (Image::default(), Image::default(), Image::default());
    }

    fn slot(&mut self, look: Look) -> &mut Image {
        match look {
            Look::Car(car, heading) => &mut self.cars[car % CARS][heading % HEADINGS],
            Look::Puff(age) => &mut self.puffs[age.min(PUFFS - 1)],
            Look::Sails(phase) => &mut self.sails[phase % SAILS],
            Look::Cursor => &mut self.cursor,
            Look::Sign => &mut self.sign,
            Look::Box => &mut self.block,
        }
    }

    /// The sprite, drawn now if it was not yet.
    pub(crate) fn image(&mut self, look: Look) -> Image {
        let known = *self.slot(look);
        if known.width > 0 {
            return known;
        }
        let image = self.draw(look);
        *self.slot(look) = image;
        image
    }

    /// The sprite's pixels and the length of their rows.
    pub(crate) fn pixels(&self, image: &Image) -> (&[u32], usize) {
        let area = (image.width * image.height) as usize;
        (&self.memory[image.offset..image.offset + area], image.width as usize)
    }

    fn draw(&mut self, look: Look) -> Image {
        let scale = self.width as f32 / 640.0;
        let colour = INSTANCE_COLOURS[usize::from(self.instance)];
        // The sprite's pixels from its anchor.
        let around = |reach: f32| {
            let half = (reach * scale) as i32 + 1;
            Rect::new(-half, -half, 2 * half, 2 * half)
        };
        let sign = panel::sign_rect(self.width);
        let (bounds, scale) = match look {
            Look::Car(..) => (around(CAR_REACH), scale),
            Look::Puff(_) => (around(PUFF_REACH), scale),
            Look::Sails(_) => (around(SAIL_REACH), scale),
            Look::Cursor => {
                let side = (CURSOR_REACH * scale) as i32;
                let tip = -(scale + 0.5) as i32;
                (Rect::new(tip, tip, side, side), scale)
            }
            Look::Sign => (sign, scale),
            Look::Box => (Rect::new(0, 0, BOX.0, BOX.1), 1.0),
        };
        let (scratch, _) = self.memory.split_at_mut(SCRATCH);
        let area = &mut scratch[..(bounds.width * bounds.height) as usize];
        let origin = match look {
            Look::Cursor => (0.0, 0.0),
            _ => (bounds.left as f32 / scale, bounds.top as f32 / scale),
        };
        let mut canvas = Canvas::sprite(area, bounds.width, bounds.height, scale, origin);
        match look {
            Look::Car(car, heading) => cars::draw_car(&mut canvas, car, heading, colour),
            Look::Puff(age) => cars::draw_puff(&mut canvas, age),
            Look::Sails(phase) => cars::draw_sails(&mut canvas, phase),
            Look::Cursor => cars::draw_cursor(&mut canvas, colour),
            Look::Sign => panel::draw_sign(&mut canvas, self.instance),
            Look::Box => cars::draw_box(&mut canvas, BOX.0 as f32, BOX.1 as f32, colour),
        }
        let image = self.keep(bounds);
        if look == Look::Box {
            // It hides all that it covers, and is copied as it is.
            for pixel in &mut self.memory[image.offset..image.offset + (image.width * image.height) as usize] {
                *pixel &= 0xff_ffff;
            }
        }
        image
    }

    /// Copies the part of the scratch that holds anything to its place.
    fn keep(&mut self, bounds: Rect) -> Image {
        let width = bounds.width as usize;
        let (scratch, rest) = self.memory.split_at_mut(SCRATCH);
        let scratch = &scratch[..width * bounds.height as usize];
        let mut used = Rect::default();
        for (y, row) in scratch.chunks_exact(width).enumerate() {
            let full = |pixel: &u32| pixel >> 24 != 0;
            if let (Some(first), Some(last)) = (row.iter().position(full), row.iter().rposition(full)) {
                used = used.union(Rect::new(first as i32, y as i32, (last - first + 1) as i32, 1));
            }
        }
        let area = used.area() as usize;
        if self.used + area > SCRATCH + rest.len() {
            // Full: forget all; what is on the screen now is drawn again when it is next asked for.
            let keep = self.width;
            self.reset(keep);
        }
        let offset = self.used;
        let (scratch, rest) = self.memory.split_at_mut(SCRATCH);
        for y in 0..used.height as usize {
            let from = (used.top as usize + y) * width + used.left as usize;
            let to = offset - SCRATCH + y * used.width as usize;
            let length = used.width as usize;
            rest[to..to + length].copy_from_slice(&scratch[from..from + length]);
        }
        self.used += area;
        Image {
            offset,
            left: bounds.left + used.left,
            top: bounds.top + used.top,
            width: used.width,
            height: used.height,
        }
    }
}
