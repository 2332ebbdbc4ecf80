//! A picture, and what can be read from it.

use anyhow::{Context, Result, ensure};
use loco_demo_guest::barcode::{self, Reading};
use loco_model::Rect;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Pixels of 8 bits red, green and blue, row by row from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// From what X servers and QEMU write: 4 bytes a pixel, blue first.
    ///
    /// # Errors
    /// When `bytes` is not of that size.
    pub fn from_bgrx(width: u32, height: u32, bytes: &[u8]) -> Result<Self> {
        let expected = width as usize * height as usize * 4;
        ensure!(bytes.len() == expected, "{width}x{height} needs {expected} bytes, got {}", bytes.len());
        let rgb = bytes.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
        Ok(Self { width, height, rgb })
    }

    /// Reads a PNG of 8-bit RGB or RGBA.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_png(bytes: &[u8]) -> Result<Self> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().context("no PNG")?;
        let mut pixels = vec![0; reader.output_buffer_size().context("a PNG too large")?];
        let info = reader.next_frame(&mut pixels).context("a damaged PNG")?;
        let bytes_per_pixel = info.color_type.samples();
        ensure!(
            info.bit_depth == png::BitDepth::Eight && matches!(bytes_per_pixel, 3 | 4),
            "a PNG of {:?} with {:?} bits is not expected here",
            info.color_type,
            info.bit_depth
        );
        pixels.truncate(info.buffer_size());
        let rgb = pixels.chunks_exact(bytes_per_pixel).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Ok(Self { width: info.width, height: info.height, rgb })
    }

    /// Writes a PNG.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.rgb).with_context(|| format!("can't write {}", path.display()))
    }

    /// The pixel at a place; black outside.
    #[must_use]
    pub fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        if x >= self.width || y >= self.height {
            return [0; 3];
        }
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Brightness at a place, 0..=255 (BT.601 weights; the barcode needs only the order).
    #[must_use]
    pub fn luma(&self, x: u32, y: u32) -> u8 {
        let [r, g, b] = self.pixel(x, y).map(u32::from);
        ((r * 299 + g * 587 + b * 114) / 1000) as u8
    }

    /// Part of it.
    #[must_use]
    pub fn part(&self, rect: Rect) -> Self {
        let rows = rect.y..rect.y + rect.height;
        let rgb = rows.flat_map(|y| (rect.x..rect.x + rect.width).flat_map(move |x| self.pixel(x, y))).collect();
        Self { width: rect.width, height: rect.height, rgb }
    }

    /// What the demo guest's strip says, when this picture is one of a demo guest's whole screen.
    ///
    /// # Errors
    /// When there is no whole strip.
    pub fn barcode(&self) -> Result<Reading> {
        barcode::decode(self.width, self.height, |x, y| self.luma(x, y))
            .with_context(|| format!("no barcode in a picture of {}x{}", self.width, self.height))
    }

    /// The share of pixels, 0..=1, for which `is` holds.
    #[must_use]
    pub fn share(&self, is: impl Fn([u8; 3]) -> bool) -> f64 {
        let count = self.rgb.chunks_exact(3).filter(|pixel| is([pixel[0], pixel[1], pixel[2]])).count();
        count as f64 / f64::from(self.width * self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_demo_guest::Mode;

    #[test]
    fn a_strip_is_read_from_a_part_of_a_screen() {
        let (left, top, width, height) = (17, 9, 400, 300);
        let reading = Reading {
            instance: 3,
            mode: Mode::Town,
            flash: false,
            counter: 77,
            input_code: 30,
            input_count: 2,
            held: 0,
            cursor_x: 500,
            cursor_y: 20,
        };
        let mut screen = Picture { width: 640, height: 480, rgb: vec![90; 640 * 480 * 3] };
        for (index, light) in barcode::encode(&reading).into_iter().enumerate() {
            let (x0, y0, w, h) = barcode::cell_rect(index, width, height);
            for (x, y) in (y0..y0 + h).flat_map(|y| (x0..x0 + w).map(move |x| (x, y))) {
                let at = ((top + y) * 640 + left + x) as usize * 3;
                screen.rgb[at..at + 3].fill(if light { 235 } else { 16 });
            }
        }
        assert_eq!(screen.part(Rect { x: left, y: top, width, height }).barcode().unwrap(), reading);
        assert!(screen.barcode().is_err());
        let white = screen.share(|[r, _, _]| r == 235);
        assert!(white > 0.0 && white < 0.05, "{white}");
    }

    #[test]
    fn files_keep_every_pixel() {
        let picture = Picture::from_bgrx(2, 1, &[1, 2, 3, 0, 4, 5, 6, 0]).unwrap();
        assert_eq!(picture.rgb, [3, 2, 1, 6, 5, 4]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("two.png");
        picture.save(&path).unwrap();
        assert_eq!(Picture::from_png(&std::fs::read(path).unwrap()).unwrap(), picture);
        assert!(Picture::from_bgrx(2, 1, &[0; 7]).is_err() && Picture::from_png(b"no").is_err());
    }
}
