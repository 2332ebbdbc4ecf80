//! Pictures as QEMU saves them.

use loco_model::Size;
use std::io::{self, Write};

/// Largest side that is read.
const MAX_SIDE: u32 = 16_384;

/// A picture: rows from the top, 3 bytes a pixel, red first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// In pixels.
    pub size: Size,
    /// `width * height * 3` bytes.
    pub pixels: Vec<u8>,
}

impl RgbImage {
    /// Reads a binary portable pixmap (`P6`, netpbm's ppm(5)) with 8 bits a colour.
    ///
    /// # Errors
    /// When it is none, or cut short.
    pub fn from_ppm(bytes: &[u8]) -> io::Result<Self> {
        let refused = |detail: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the pixmap {detail}"));
        let mut rest = bytes.strip_prefix(b"P6").ok_or_else(|| refused("does not begin with P6"))?;
        let mut number = || {
            let start = rest.iter().position(|b| !b.is_ascii_whitespace())?;
            let digits = rest[start..].iter().take(6).take_while(|b| b.is_ascii_digit()).count();
            let value = std::str::from_utf8(&rest[start..start + digits]).ok()?.parse::<u32>().ok()?;
            // The single white space after the last number belongs to it.
            rest = rest.get(start + digits + 1..)?;
            Some(value)
        };
        let (Some(width), Some(height), Some(255)) = (number(), number(), number()) else {
            return Err(refused("has no header of width, height and 255"));
        };
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(refused(&format!("is {width}x{height}")));
        }
        let length = width as usize * height as usize * 3;
        let pixels = rest.get(..length).ok_or_else(|| refused("is cut short"))?.to_vec();
        Ok(Self { size: Size::new(width, height), pixels })
    }

    /// Writes it as PNG.
    ///
    /// # Errors
    /// When `out` does not take it.
    pub fn write_png(&self, out: impl Write) -> io::Result<()> {
        let mut encoder = png::Encoder::new(out, self.size.width, self.size.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish().map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixmaps() {
        let image = RgbImage::from_ppm(b"P6\n2 1\n255\n\x01\x02\x03\n\x05\x06").expect("good");
        assert_eq!(image, RgbImage { size: Size::new(2, 1), pixels: vec![1, 2, 3, 10, 5, 6] });
        for bad in [
            &b""[..],
            b"P5\n1 1\n255\n\x01",
            b"P6\n2 1\n255\n\x01",
            b"P6\n0 1\n255\n",
            b"P6 1 1 65535 ",
            b"P6 99999 1 255 ",
        ] {
            assert!(RgbImage::from_ppm(bad).is_err(), "{bad:?}");
        }
        let mut png = Vec::new();
        image.write_png(&mut png).expect("png");
        assert!(png.starts_with(b"\x89PNG"));
    }
}
