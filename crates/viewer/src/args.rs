//! What `loco view` takes.

use loco_model::Size;
use std::path::PathBuf;

/// Arguments of the viewer.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Clone, Debug, clap::Args)]
pub struct ViewArgs {
    /// Address of the control plane, for example http://127.0.0.1:3001
    #[arg(long, value_name = "URL", env = "LOCO_API")]
    pub api: String,

    /// File that holds the control plane's bearer token (mode 0600)
    #[arg(long, value_name = "FILE", env = "LOCO_TOKEN_FILE")]
    pub token_file: PathBuf,

    /// TURN server that carries the media where no direct way is open, such as turn:relay.example:3478
    #[arg(long, value_name = "URL", env = "LOCO_TURN", requires_all = ["turn_user", "turn_password_file"])]
    pub turn: Option<String>,

    /// Name by which the TURN server knows us
    #[arg(long, value_name = "NAME", env = "LOCO_TURN_USER")]
    pub turn_user: Option<String>,

    /// File that holds the password for the TURN server (mode 0600)
    #[arg(long, value_name = "FILE", env = "LOCO_TURN_PASSWORD_FILE")]
    pub turn_password_file: Option<PathBuf>,

    /// Use no other way than the TURN server
    #[arg(long, env = "LOCO_TURN_ONLY", requires = "turn")]
    pub turn_only: bool,

    /// Draw the same scene without a window, for tests and measurements
    #[arg(long)]
    pub offscreen: bool,

    /// Size of the window's inside, in pixels
    #[arg(long, value_name = "WxH", default_value = "1280x960", value_parser = parse_size)]
    pub size: Size,

    /// Start with the whole screen
    #[arg(long, conflicts_with = "offscreen")]
    pub fullscreen: bool,

    /// Unix socket for automation (created with mode 0600)
    #[arg(long, value_name = "SOCKET")]
    pub automation: Option<PathBuf>,

    /// How pictures are scaled into their tiles
    #[arg(long, value_enum, default_value_t = Scaling::Sharp)]
    pub scaling: Scaling,

    /// What others call this viewer [default: user@host]
    #[arg(long, value_name = "NAME", env = "LOCO_VIEWER_NAME")]
    pub name: Option<String>,

    /// Follow the shared active list: its first entry has the focus, and the focus is put there
    #[arg(long, env = "LOCO_FOLLOW")]
    pub follow: bool,

    /// Nothing fades or slides
    #[arg(long, env = "LOCO_REDUCED_MOTION")]
    pub reduced_motion: bool,

    /// Folder for screenshots [default: the pictures folder, else the current one]
    #[arg(long, value_name = "DIR")]
    pub screenshots: Option<PathBuf>,
}

/// How a picture of one size becomes one of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Scaling {
    /// As large as fits, with pixel edges kept sharp.
    #[default]
    Sharp,
    /// The largest whole multiple that fits, else sharp.
    Integer,
}

impl ViewArgs {
    /// Arguments with every default, for callers that are not a command line.
    #[must_use]
    pub fn new(api: String, token_file: PathBuf) -> Self {
        Self {
            api,
            token_file,
            turn: None,
            turn_user: None,
            turn_password_file: None,
            turn_only: false,
            offscreen: false,
            size: Size::new(1280, 960),
            fullscreen: false,
            automation: None,
            scaling: Scaling::default(),
            name: None,
            follow: false,
            reduced_motion: false,
            screenshots: None,
        }
    }
}

/// Smallest and largest window that is accepted, in pixels per side.
const SIDE_RANGE: std::ops::RangeInclusive<u32> = 320..=8192;

/// Reads `1280x960`.
///
/// # Errors
/// When it is not two numbers from 320 to 8192 with an `x` between.
pub fn parse_size(text: &str) -> Result<Size, String> {
    let expected =
        || format!("{text:?} is no size: expected WIDTHxHEIGHT with sides of {SIDE_RANGE:?}, as in 1280x960");
    let (width, height) = text.split_once('x').ok_or_else(expected)?;
    let side = |t: &str| t.parse().ok().filter(|n| SIDE_RANGE.contains(n)).ok_or_else(expected);
    Ok(Size::new(side(width)?, side(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("1280x960"), Ok(Size::new(1280, 960)));
        for bad in ["", "1280", "x", "0x0", "1280x", "1280x99999", "1280X960", "1280x-5", " 640x480"] {
            assert!(parse_size(bad).is_err_and(|e| e.contains("expected")), "{bad:?}");
        }
    }
}
