//! Screenshots on disk.

use crate::render::ReadBack;
use loco_model::time::Utc;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where files go: the folder given, else the pictures folder, else the current one.
pub(super) fn folder(given: Option<&Path>) -> PathBuf {
    let pictures = || {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        Some(home.join("Pictures")).filter(|folder| folder.is_dir())
    };
    given.map(Path::to_owned).or_else(pictures).unwrap_or_default()
}

/// Where a screenshot goes.
pub(super) fn screenshot_path(given: Option<&Path>, what: &str) -> PathBuf {
    folder(given).join(format!("{what}-{}.png", now_stamp()))
}

/// This second, as files' names have it (UTC).
pub(super) fn now_stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Utc::of_ms(u64::try_from(now.as_millis()).unwrap_or_default()).stamp()
}

/// Writes what was read back as PNG.
pub(super) fn write_png(path: &Path, picture: &ReadBack) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::create(path).map_err(|error| named(&error))?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), picture.width, picture.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| named(&error))?;
    writer.write_image_data(&picture.rgb).map_err(|error| named(&error))?;
    writer.finish().map_err(|error| named(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let picture = ReadBack { width: 1, height: 1, rgb: vec![0; 3], at_us: 0, drawing: 1 };
        let error = write_png(Path::new("/nonexistent/a.png"), &picture);
        assert!(error.is_err_and(|why| why.contains("/nonexistent/a.png")));
    }
}
