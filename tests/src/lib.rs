//! What tests of the whole product need: a screen of their own, a wall of real guests on it, eyes and hands.
//!
//! Everything is done and seen from outside: windows are clicked by XTEST, pictures are taken from the X server, sound
//! from a sound server, processes from `/proc`. What a test leaves behind (screenshots, logs) is kept in
//! `target/test-artifacts`.

pub mod alone;
pub mod desktop;
pub mod ears;
pub mod headless;
pub mod picture;
pub mod processes;
pub mod recording;
pub mod rig;
pub mod steps;
pub mod wait;
pub mod wall;

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;

/// Cargo's folder of built programs, where this test program lies too.
///
/// # Errors
/// When this program was moved out of it.
pub fn build_folder() -> Result<PathBuf> {
    let test = std::env::current_exe().context("where is this program?")?;
    // target/debug/deps/wall-0123456789abcdef
    test.ancestors().nth(2).map(PathBuf::from).with_context(|| format!("{} is not in a target folder", test.display()))
}

/// The `loco` executable of this build.
///
/// # Errors
/// When it was not built.
pub fn loco() -> Result<PathBuf> {
    let path = build_folder()?.join("loco");
    ensure!(path.is_file(), "{} is missing: cargo build -p loco", path.display());
    Ok(path)
}

/// Where screenshots and logs of tests are kept.
///
/// # Errors
/// When it can't be made.
pub fn artifacts() -> Result<PathBuf> {
    let folder = build_folder()?.join("../test-artifacts");
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
    folder.canonicalize().context("the folder just made is gone")
}
