//! What changed from one picture to the next: the new picture is compared with the last one, macroblock row by macroblock
//! row, and copied only where it differs. An encoder's skipped blocks decode to the same bytes, so this is exact.

use crate::session::Picture;
use loco_model::{Rect, Size};

/// Luma rows and columns of one step: a macroblock (H.264, 6.3), so that chroma has whole steps too.
const STEP: usize = 16;
/// Bands closer than this many steps are one upload.
const JOIN_STEPS: usize = 1;

/// The last picture, tightly packed.
#[derive(Debug, Default)]
pub struct Shadow {
    size: Size,
    planes: [Vec<u8>; 3],
}

/// Width and height of a chroma plane.
#[must_use]
pub const fn chroma(size: Size) -> Size {
    Size::new(size.width.div_ceil(2), size.height.div_ceil(2))
}

/// Size of plane 0, 1 or 2.
#[must_use]
pub const fn plane_size(size: Size, index: usize) -> Size {
    if index == 0 { size } else { chroma(size) }
}

/// The part of plane `index` that belongs to a luma rectangle with even left and upper edges.
#[must_use]
pub const fn plane_rect(luma: Rect, index: usize) -> Rect {
    if index == 0 { luma } else { Rect::new(luma.x / 2, luma.y / 2, luma.width.div_ceil(2), luma.height.div_ceil(2)) }
}

impl Shadow {
    /// Size of the picture that it holds; 0x0 before the first.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// A plane's bytes; its rows follow each other without a gap.
    #[must_use]
    pub fn plane(&self, index: usize) -> &[u8] {
        &self.planes[index]
    }

    /// Takes the next picture. `changed` gets the luma rectangles that differ, from top to bottom; all of it when the size
    /// is another. Returns whether the size changed. A picture whose planes are too short for its size is ignored.
    pub fn update(&mut self, picture: &dyn Picture, changed: &mut Vec<Rect>) -> bool {
        changed.clear();
        let size = picture.size();
        let planes = [picture.plane(0), picture.plane(1), picture.plane(2)];
        let whole = (0..3).all(|index| {
            let (plane, (bytes, stride)) = (plane_size(size, index), planes[index]);
            let (width, height) = (plane.width as usize, plane.height as usize);
            width > 0 && height > 0 && stride >= width && bytes.len() >= stride * (height - 1) + width
        });
        if !whole {
            return false;
        }
        let resized = size != self.size;
        if resized {
            self.size = size;
            for index in 0..3 {
                self.planes[index].clear();
                self.planes[index].resize(plane_size(size, index).area() as usize, 0);
            }
        }
        let mut band: Option<Rect> = None;
        for top in (0..size.height as usize).step_by(STEP) {
            let columns = self.update_rows(planes, top, resized);
            let Some((left, right)) = columns else { continue };
            let height = STEP.min(size.height as usize - top) as u32;
            let right = right.min(size.width as usize);
            let step = Rect::new(left as u32, top as u32, (right - left) as u32, height);
            band = match band {
                Some(open) if step.y <= open.bottom() + (JOIN_STEPS * STEP) as u32 && near(open, step) => {
                    Some(open.union(step))
                }
                other => {
                    changed.extend(other);
                    Some(step)
                }
            };
        }
        changed.extend(band);
        resized
    }

    /// Compares and copies one macroblock row; the luma columns that differ, on step boundaries.
    fn update_rows(&mut self, planes: [(&[u8], usize); 3], top: usize, all: bool) -> Option<(usize, usize)> {
        let mut columns: Option<(usize, usize)> = None;
        for (index, (bytes, stride)) in planes.into_iter().enumerate() {
            let plane = plane_size(self.size, index);
            let (width, height) = (plane.width as usize, plane.height as usize);
            let step = if index == 0 { STEP } else { STEP / 2 };
            let first = if index == 0 { top } else { top / 2 };
            for row in first..(first + step).min(height) {
                let new = &bytes[row * stride..row * stride + width];
                let old = &mut self.planes[index][row * width..(row + 1) * width];
                if !all && new == old {
                    continue;
                }
                let (left, right) = if all { (0, width) } else { differing(old, new, step) };
                old[left..right].copy_from_slice(&new[left..right]);
                let scale = STEP / step;
                let (left, right) = (left * scale, right * scale);
                columns = Some(columns.map_or((left, right), |(l, r)| (l.min(left), r.max(right))));
            }
        }
        columns
    }
}

/// Whether joining two bands draws little in vain.
fn near(a: Rect, b: Rect) -> bool {
    let joined = a.union(b);
    joined.width as usize <= a.width.max(b.width) as usize + 4 * STEP
}

/// First and one past the last differing step of two rows that differ somewhere.
fn differing(old: &[u8], new: &[u8], step: usize) -> (usize, usize) {
    let chunks = || old.chunks(step).zip(new.chunks(step));
    let count = old.len().div_ceil(step);
    let first = chunks().position(|(a, b)| a != b).unwrap_or(0);
    let last = chunks().rposition(|(a, b)| a != b).unwrap_or(count.saturating_sub(1));
    (first * step, ((last + 1) * step).min(old.len()))
}

/// The target pixels that a changed luma rectangle touches once scaled into `picture`, filter footprint included.
#[must_use]
pub fn scaled(changed: Rect, guest: Size, picture: Rect) -> Rect {
    if guest.width == 0 || guest.height == 0 {
        return Rect::default();
    }
    // Bilinear chroma reaches two luma pixels out; one more for rounding; several taps when made smaller.
    let margin = |from: u32, to: u32| 3 + from.div_ceil(to.max(1));
    let side = |start: u32, length: u32, from: u32, to: u32| {
        let out = margin(from, to);
        let (start, end) = (u64::from(start.saturating_sub(out)), u64::from((start + length + out).min(from)));
        let (from, to) = (u64::from(from), u64::from(to));
        let (first, last) = (start * to / from, (end * to).div_ceil(from));
        (first as u32, (last - first) as u32)
    };
    let (x, width) = side(changed.x, changed.width, guest.width, picture.width);
    let (y, height) = side(changed.y, changed.height, guest.height, picture.height);
    Rect::new(picture.x + x, picture.y + y, width, height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    struct Made {
        size: Size,
        stride: usize,
        planes: [Vec<u8>; 3],
    }

    impl Made {
        fn new(size: Size, padding: usize) -> Self {
            let stride = size.width as usize + padding;
            let planes = [0, 1, 2].map(|i| vec![50 + i as u8; stride * plane_size(size, i).height as usize]);
            Self { size, stride, planes }
        }

        fn put(&mut self, plane: usize, x: usize, y: usize) {
            self.planes[plane][y * self.stride + x] ^= 0xff;
        }
    }

    impl Picture for Made {
        fn size(&self) -> Size {
            self.size
        }
        fn plane(&self, index: usize) -> (&[u8], usize) {
            (&self.planes[index], self.stride)
        }
        fn decoded(&self) -> Instant {
            Instant::now()
        }
        fn captured(&self) -> u32 {
            0
        }
    }

    fn step(shadow: &mut Shadow, picture: &Made) -> Vec<Rect> {
        let mut changed = Vec::new();
        shadow.update(picture, &mut changed);
        changed
    }

    #[test]
    fn the_first_is_all_new_and_the_same_again_is_nothing() {
        let mut shadow = Shadow::default();
        let picture = Made::new(Size::new(646, 485), 10);
        assert_eq!(step(&mut shadow, &picture), [Rect::new(0, 0, 646, 485)]);
        assert_eq!(step(&mut shadow, &picture), []);
        assert_eq!(shadow.plane(1).len(), 323 * 243);
    }

    #[test]
    fn a_change_is_found_in_every_plane_with_its_macroblock() {
        let mut shadow = Shadow::default();
        let mut picture = Made::new(Size::new(640, 480), 0);
        step(&mut shadow, &picture);
        picture.put(0, 100, 33);
        assert_eq!(step(&mut shadow, &picture), [Rect::new(96, 32, 16, 16)]);
        picture.put(2, 319, 239);
        assert_eq!(step(&mut shadow, &picture), [Rect::new(624, 464, 16, 16)], "chroma counts double");
        assert_eq!(step(&mut shadow, &picture), [], "it was copied");
    }

    #[test]
    fn far_changes_stay_apart_and_neighbours_join() {
        let mut shadow = Shadow::default();
        let mut picture = Made::new(Size::new(640, 480), 0);
        step(&mut shadow, &picture);
        picture.put(0, 0, 0);
        picture.put(0, 8, 20);
        picture.put(0, 600, 400);
        assert_eq!(step(&mut shadow, &picture), [Rect::new(0, 0, 16, 32), Rect::new(592, 400, 16, 16)]);
    }

    #[test]
    fn a_new_size_is_all_new_and_a_broken_picture_is_ignored() {
        let mut shadow = Shadow::default();
        step(&mut shadow, &Made::new(Size::new(640, 480), 0));
        assert_eq!(step(&mut shadow, &Made::new(Size::new(800, 600), 0)), [Rect::new(0, 0, 800, 600)]);
        let mut broken = Made::new(Size::new(640, 480), 0);
        broken.planes[1].truncate(10);
        assert_eq!(step(&mut shadow, &broken), []);
        assert_eq!(shadow.size(), Size::new(800, 600));
    }

    #[test]
    fn scaled_changes_stay_in_the_picture_and_cover_the_change() {
        let (guest, picture) = (Size::new(640, 480), Rect::new(40, 60, 352, 264));
        assert_eq!(scaled(Rect::new(0, 0, 640, 480), guest, picture), picture);
        for (x, y) in [(0, 0), (320, 240), (624, 464), (96, 0)] {
            let got = scaled(Rect::new(x, y, 16, 16), guest, picture);
            assert_eq!(got.intersection(picture), got);
            assert!(got.contains(picture.x + x * 352 / 640, picture.y + y * 264 / 480));
            assert!(got.width < 24 && got.height < 24, "{got:?}");
        }
    }
}
