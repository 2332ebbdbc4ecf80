//! `cargo xtask icons`: PNGs of the drawing, for those who package the program.

use crate::shell;
use anyhow::Result;
use std::process::Command;

/// Edge lengths in pixels.
const SIZES: [u32; 7] = [16, 32, 48, 64, 128, 256, 512];

/// The command.
///
/// # Errors
/// When `rsvg-convert` (Debian: librsvg2-bin) is missing or fails.
pub(crate) fn command() -> Result<()> {
    let folder = shell::root()?.join("icons");
    for size in SIZES {
        let edge = size.to_string();
        shell::run(
            Command::new("rsvg-convert")
                .args(["-w", &edge, "-h", &edge, "-o"])
                .arg(folder.join(format!("loco-{size}.png")))
                .arg(folder.join("loco.svg")),
        )?;
    }
    Ok(())
}
