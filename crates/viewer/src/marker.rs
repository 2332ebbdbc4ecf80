//! Sound against picture, by the demo guest's own marker: its picture flashes while its sound clicks. Pure.
//!
//! What the flash and the click are is the guest's to say (`loco_demo_guest::marker`); this side knows the same figures,
//! and a test of the tests crate holds both against each other.

use crate::sound::Click;
use loco_model::Size;
use std::collections::VecDeque;

/// The guest divides its picture into so many columns and rows.
const GRID: (u32, u32) = (80, 60);
/// Upper left cell of the field, and cells of one of its squares.
const FIELD: (u32, u32) = (4, 4);
const SQUARE: u32 = 4;
/// Squares of a row and of a column.
const SIDE: u32 = 4;
/// Light squares at rest, bit by bit from the upper left.
const REST: u16 = 0x8421;
/// Light squares of a flash: all others.
const FLASH: u16 = !REST;
/// Least difference between light and dark, in steps of luma.
const CONTRAST: u8 = 60;
/// A click further from its flash than this belongs to another one: both come once a second.
const FAR_US: u64 = 450_000;
/// Pairs that a median is made of.
const PAIRS: usize = 60;

/// What a picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The marker is there, at rest.
    Rest,
    /// It flashes.
    Flash,
}

/// Looks for the marker in a picture; `None`: there is none. Asks for 16 pixels.
#[must_use]
pub fn read(size: Size, luma: impl Fn(u32, u32) -> u8) -> Option<Field> {
    if size.width < GRID.0 || size.height < GRID.1 {
        return None;
    }
    let mut samples = [0u8; (SIDE * SIDE) as usize];
    for (n, sample) in (0..).zip(&mut samples) {
        let middle = |from: u32, at: u32| from + SQUARE * at + SQUARE / 2;
        let (column, row) = (middle(FIELD.0, n % SIDE), middle(FIELD.1, n / SIDE));
        *sample = luma(column * size.width / GRID.0, row * size.height / GRID.1);
    }
    let (least, most) = samples.iter().fold((u8::MAX, 0), |(least, most), s| (least.min(*s), most.max(*s)));
    if most - least < CONTRAST {
        return None;
    }
    let middle = least + (most - least) / 2;
    let bits = samples.iter().enumerate().fold(0u16, |bits, (n, s)| bits | u16::from(*s > middle) << n);
    match bits {
        REST => Some(Field::Rest),
        FLASH => Some(Field::Flash),
        _ => None,
    }
}

/// One flash with its click.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// When the picture with the flash was presented (`loco_media::clock`).
    pub shown_us: u64,
    /// Its click.
    pub click: Click,
}

impl Pair {
    /// Milliseconds by which the click's sample is handed to the sound device later than the flash is presented.
    #[must_use]
    pub fn handed_skew_ms(&self) -> f64 {
        (self.click.handed_us + self.click.offset_us) as f64 / 1e3 - self.shown_us as f64 / 1e3
    }

    /// Milliseconds by which the click is heard later than the flash is presented; `None` where the sound system does not
    /// say how long it takes.
    #[must_use]
    pub fn skew_ms(&self) -> Option<f64> {
        Some(self.handed_skew_ms() + self.click.latency_us? as f64 / 1e3)
    }
}

/// Pairs flashes with clicks.
#[derive(Clone, Debug, Default)]
pub struct Pairing {
    last: Option<Field>,
    shown_us: Option<u64>,
    pairs: VecDeque<Pair>,
    paired_click: u64,
    count: u64,
}

impl Pairing {
    /// A picture was taken; true when it is the first of a flash.
    pub fn see(&mut self, field: Option<Field>) -> bool {
        let before = std::mem::replace(&mut self.last, field);
        before == Some(Field::Rest) && field == Some(Field::Flash)
    }

    /// The marker was in the last picture.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.last.is_some()
    }

    /// The first picture of a flash was presented.
    pub fn shown(&mut self, at_us: u64) {
        self.shown_us = Some(at_us);
    }

    /// Pairs the newest flash with the newest click, if they belong together and are not paired yet.
    pub fn pair(&mut self, click: Option<Click>) {
        let (Some(shown_us), Some(click)) = (self.shown_us, click) else { return };
        if click.count == self.paired_click || (click.handed_us + click.offset_us).abs_diff(shown_us) > FAR_US {
            return;
        }
        self.paired_click = click.count;
        self.shown_us = None;
        self.count += 1;
        if self.pairs.len() == PAIRS {
            self.pairs.pop_front();
        }
        self.pairs.push_back(Pair { shown_us, click });
    }

    /// The newest pair.
    #[must_use]
    pub fn newest(&self) -> Option<&Pair> {
        self.pairs.back()
    }

    /// Pairs so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Median of [`Pair::skew_ms`] over the last minute of pairs; `None` while nothing is known.
    #[must_use]
    pub fn skew_ms(&self) -> Option<f64> {
        let mut all: Vec<f64> = self.pairs.iter().filter_map(Pair::skew_ms).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(bits: u16, dark: u8, light: u8) -> impl Fn(u32, u32) -> u8 {
        move |x, y| {
            let (column, row) = ((x * 80 / 640).wrapping_sub(4) / 4, (y * 60 / 480).wrapping_sub(4) / 4);
            let on = column < 4 && row < 4 && bits >> (row * 4 + column) & 1 == 1;
            if on { light } else { dark }
        }
    }

    #[test]
    fn reads_rest_and_flash_and_nothing_else() {
        let size = Size::new(640, 480);
        for (bits, field) in
            [(REST, Some(Field::Rest)), (FLASH, Some(Field::Flash)), (0, None), (0xffff, None), (0x1234, None)]
        {
            assert_eq!(read(size, picture(bits, 16, 235)), field, "{bits:#x}");
        }
        assert_eq!(read(size, picture(REST, 100, 140)), None, "hardly any contrast");
        assert_eq!(read(Size::new(40, 30), |_, _| 0), None);
    }

    fn click(count: u64, handed_us: u64, latency_us: Option<u64>) -> Click {
        Click { count, handed_us, offset_us: 2_000, latency_us }
    }

    #[test]
    fn flashes_and_clicks_find_each_other_in_either_order() {
        let mut pairing = Pairing::default();
        assert!(!pairing.see(Some(Field::Flash)), "it was not seen at rest");
        assert!(!pairing.see(Some(Field::Rest)) && pairing.see(Some(Field::Flash)) && !pairing.see(Some(Field::Flash)));
        // Picture first.
        pairing.shown(1_000_000);
        pairing.pair(None);
        pairing.pair(Some(click(1, 1_030_000, Some(10_000))));
        assert_eq!(pairing.newest().and_then(Pair::skew_ms), Some(42.0));
        // Sound first; and the first click is not paired twice.
        pairing.shown(2_000_000);
        pairing.pair(Some(click(1, 1_030_000, Some(10_000))));
        assert_eq!(pairing.count(), 1);
        pairing.pair(Some(click(2, 1_990_000, None)));
        let newest = pairing.newest().unwrap();
        assert_eq!((newest.handed_skew_ms(), newest.skew_ms(), pairing.count()), (-8.0, None, 2));
        assert_eq!(pairing.skew_ms(), Some(42.0), "what is unknown is not counted");
    }

    #[test]
    fn a_click_of_another_second_is_not_taken() {
        let mut pairing = Pairing::default();
        pairing.shown(5_000_000);
        pairing.pair(Some(click(9, 4_000_000, Some(0))));
        assert!(pairing.newest().is_none() && pairing.skew_ms().is_none());
    }
}
