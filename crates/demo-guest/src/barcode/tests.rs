use super::*;

/// Deterministic noise, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn reading(&mut self) -> Reading {
        let shift = self.below(64);
        Reading {
            instance: self.below(9) as u8,
            mode: Mode::ALL[self.below(5) as usize],
            flash: self.below(2) == 1,
            counter: self.next() >> shift,
            input_code: self.below(512) as u16,
            input_count: self.next() as u16,
            held: self.below(8) as u8,
            cursor_x: self.below(1024) as u16,
            cursor_y: self.below(1024) as u16,
        }
    }
}

#[derive(Clone)]
struct Picture {
    width: u32,
    height: u32,
    luma: Vec<f32>,
}

impl Picture {
    /// A busy picture with the strip on it.
    fn with_strip(width: u32, height: u32, reading: &Reading, random: &mut Random) -> Self {
        let luma = (0..width * height).map(|_| random.below(256) as f32).collect();
        let mut picture = Self { width, height, luma };
        for (index, light) in encode(reading).into_iter().enumerate() {
            let (x, y, w, h) = cell_rect(index, width, height);
            for py in y..y + h {
                for px in x..x + w {
                    picture.luma[(py * width + px) as usize] = if light { 232.0 } else { 22.0 };
                }
            }
        }
        picture
    }

    fn at(&self, x: i64, y: i64) -> f32 {
        let x = x.clamp(0, i64::from(self.width) - 1) as usize;
        let y = y.clamp(0, i64::from(self.height) - 1) as usize;
        self.luma[y * self.width as usize + x]
    }

    /// Bilinear, as a GPU's sampler does it (no wider filter when it shrinks).
    fn bilinear(&self, width: u32, height: u32) -> Self {
        let mut luma = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let sx = (x as f32 + 0.5) * self.width as f32 / width as f32 - 0.5;
                let sy = (y as f32 + 0.5) * self.height as f32 / height as f32 - 0.5;
                let (fx, fy) = (sx - sx.floor(), sy - sy.floor());
                let (ix, iy) = (sx.floor() as i64, sy.floor() as i64);
                let row = |j| self.at(ix, j) * (1.0 - fx) + self.at(ix + 1, j) * fx;
                luma.push(row(iy) * (1.0 - fy) + row(iy + 1) * fy);
            }
        }
        Self { width, height, luma }
    }

    /// Mean over each target pixel's area, as good scalers do it.
    fn area(&self, width: u32, height: u32) -> Self {
        const SUB: u32 = 4;
        let fine = self.bilinear(width * SUB, height * SUB);
        let mut luma = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let sum: f32 =
                    (0..SUB * SUB).map(|i| fine.at(i64::from(x * SUB + i % SUB), i64::from(y * SUB + i / SUB))).sum();
                luma.push(sum / (SUB * SUB) as f32);
            }
        }
        Self { width, height, luma }
    }

    fn blurred(&self) -> Self {
        let mut result = self.clone();
        for y in 0..i64::from(self.height) {
            for x in 0..i64::from(self.width) {
                let row = |j| self.at(x - 1, j) + 2.0 * self.at(x, j) + self.at(x + 1, j);
                result.luma[y as usize * self.width as usize + x as usize] =
                    (row(y - 1) + 2.0 * row(y) + row(y + 1)) / 16.0;
            }
        }
        result
    }

    fn noisy(mut self, amplitude: f32, random: &mut Random) -> Self {
        for value in &mut self.luma {
            *value += (random.below(2001) as f32 / 1000.0 - 1.0) * amplitude;
        }
        self
    }

    /// Limited range, coarse steps: what a low bit rate leaves.
    fn quantised(mut self, step: f32) -> Self {
        for value in &mut self.luma {
            *value = (16.0 + value.clamp(0.0, 255.0) * 219.0 / 255.0).clamp(16.0, 235.0);
            *value = (*value / step).round() * step;
        }
        self
    }

    fn decode(&self) -> Option<Reading> {
        let (x0, y0, w, h) = region(self.width, self.height);
        decode(self.width, self.height, |x, y| {
            assert!((x0..x0 + w).contains(&x) && (y0..y0 + h).contains(&y), "{x},{y} is outside the region");
            self.at(i64::from(x), i64::from(y)).clamp(0.0, 255.0) as u8
        })
    }
}

const GUEST_SIZES: [(u32, u32); 3] = [(640, 480), (800, 600), (1024, 768)];
const SHOWN_SIZES: [(u32, u32); 7] =
    [(300, 225), (317, 238), (404, 303), (427, 320), (640, 480), (1024, 768), (1280, 960)];

#[test]
fn every_size_decodes_scaled_blurred_noisy_and_quantised() {
    let mut random = Random(0x10c0);
    for (width, height) in GUEST_SIZES {
        for (shown_width, shown_height) in SHOWN_SIZES {
            let reading = random.reading();
            let picture = Picture::with_strip(width, height, &reading, &mut random);
            for scaled in [picture.bilinear(shown_width, shown_height), picture.area(shown_width, shown_height)] {
                let what = format!("{width}x{height} shown at {shown_width}x{shown_height}");
                assert_eq!(scaled.decode(), Some(reading), "{what}");
                let rough = scaled.blurred().noisy(24.0, &mut random).quantised(8.0);
                assert_eq!(rough.decode(), Some(reading), "{what}, rough");
            }
        }
    }
}

#[test]
fn blur_and_noise_before_scaling_do_not_matter() {
    let mut random = Random(7);
    for (width, height) in GUEST_SIZES {
        let reading = random.reading();
        let sent = Picture::with_strip(width, height, &reading, &mut random);
        let sent = sent.blurred().noisy(30.0, &mut random).quantised(16.0);
        for (shown_width, shown_height) in SHOWN_SIZES {
            assert_eq!(sent.bilinear(shown_width, shown_height).decode(), Some(reading), "{shown_width}");
        }
    }
}

#[test]
fn a_dimmed_picture_still_decodes() {
    let mut random = Random(9);
    let reading = random.reading();
    let mut picture = Picture::with_strip(640, 480, &reading, &mut random);
    for value in &mut picture.luma {
        *value *= 0.3;
    }
    assert_eq!(picture.bilinear(404, 303).decode(), Some(reading));
}

#[test]
fn damaged_strips_give_nothing_or_the_truth() {
    let mut random = Random(0xbad);
    let mut refused = 0;
    for _ in 0..400 {
        let reading = random.reading();
        let mut cells = encode(&reading);
        for _ in 0..1 + random.below(20) {
            let cell = random.below(CELLS as u64) as usize;
            cells[cell] = !cells[cell];
        }
        let damaged = cells != encode(&reading);
        let read = decode(640, 480, |x, y| {
            let index = (y / 8 - TOP) * COLUMNS + x / 8 - LEFT;
            if cells[index as usize] { 235 } else { 16 }
        });
        assert_eq!(read, (!damaged).then_some(reading));
        refused += usize::from(read.is_none());
    }
    assert!(refused > 300);
}

#[test]
fn pictures_without_a_strip_give_nothing() {
    let mut random = Random(3);
    for level in [0, 16, 128, 255] {
        assert_eq!(decode(640, 480, |_, _| level), None);
    }
    for _ in 0..200 {
        let noise = random.next();
        let hash = |x: u32, y: u32| (u64::from(x * 977 + y * 131) ^ noise).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        assert_eq!(decode(640, 480, |x, y| hash(x / 8, y / 8) as u8), None);
    }
    assert_eq!(decode(0, 0, |_, _| 0), None);
    assert_eq!(decode(159, 120, |_, _| 0), None);
}

#[test]
fn crc_is_the_documented_one() {
    assert_eq!(crc16(b"123456789"), 0x29b1);
}

#[test]
fn cells_tile_the_region() {
    for (width, height) in GUEST_SIZES.into_iter().chain(SHOWN_SIZES) {
        let (x, y, w, h) = region(width, height);
        let area: u32 = (0..CELLS).map(|i| cell_rect(i, width, height)).map(|(_, _, w, h)| w * h).sum();
        assert_eq!(area, w * h);
        assert!(x + w <= width && y + h <= height);
    }
}
