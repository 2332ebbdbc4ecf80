//! The window: grid, overlay, sound out, keyboard and pointer.
//!
//! A process of its own. All it knows comes from the control plane's API and from the agents.

mod args;
pub mod control;
mod error;
pub mod input;
pub mod pace;
pub mod render;
pub mod scene;
pub mod session;
pub mod sound;

pub use args::{Scaling, ViewArgs, parse_size};
pub use error::ViewError;

/// Runs the viewer on the calling thread, which must be the process's first one, until the window is closed.
///
/// # Errors
/// When it cannot start (see [`ViewError`]); trouble with the control plane or an agent later on is shown, not returned.
pub fn run(args: &ViewArgs) -> Result<(), ViewError> {
    tracing::info!(api = %args.api, offscreen = args.offscreen, "viewer starts");
    Ok(())
}
