//! Screenshots on disk.

use crate::render::ReadBack;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a screenshot goes: the folder given, else the pictures folder, else the current one.
pub(super) fn screenshot_path(folder: Option<&Path>, what: &str) -> PathBuf {
    let pictures = || {
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        Some(home.join("Pictures")).filter(|folder| folder.is_dir())
    };
    let folder = folder.map(Path::to_owned).or_else(pictures).unwrap_or_default();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    folder.join(format!("{what}-{}.png", stamp(seconds)))
}

/// `20261121-101628` (UTC). Days to a date as in Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn stamp(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{:02}", second % 60)
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
    fn stamps() {
        assert_eq!(stamp(0), "19700101-000000");
        assert_eq!(stamp(951_782_399), "20000228-235959");
        assert_eq!(stamp(951_782_400), "20000229-000000");
        assert_eq!(stamp(1_795_256_188), "20261121-101628");
    }

    #[test]
    fn a_path_that_cannot_be_written_is_named() {
        let picture = ReadBack { width: 1, height: 1, rgb: vec![0; 3], at_us: 0, drawing: 1 };
        let error = write_png(Path::new("/nonexistent/a.png"), &picture);
        assert!(error.is_err_and(|why| why.contains("/nonexistent/a.png")));
    }
}
