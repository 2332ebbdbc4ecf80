//! What can stop the viewer from starting or going on.

use std::path::PathBuf;

/// Why the viewer ended other than by being closed.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// `--api` is no usable URL.
    #[error("the control plane's address {url:?} is not a URL: {why}; expected something like http://127.0.0.1:3001")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The token file cannot be used.
    #[error("the token file {path} cannot be used: {why}")]
    Token {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The password file of the relay cannot be used.
    #[error("the TURN server's password file {path} cannot be used: {why}")]
    RelayPassword {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The control plane refused the token on the first contact.
    #[error("the control plane at {url} refused the token of {path} (HTTP {status})")]
    Refused {
        /// Its address.
        url: String,
        /// The token's file.
        path: PathBuf,
        /// HTTP status.
        status: u16,
    },
    /// No window system.
    #[error(
        "no window can be opened: {why}; DISPLAY is {display}, WAYLAND_DISPLAY is {wayland} \
         (set one of them, or pass --offscreen)"
    )]
    Display {
        /// What the window system's client library says.
        why: String,
        /// Value of `DISPLAY`.
        display: String,
        /// Value of `WAYLAND_DISPLAY`.
        wayland: String,
    },
    /// Nothing that can draw.
    #[error(
        "no Vulkan or OpenGL adapter was found ({why}); install one: on Debian and Ubuntu the package \
         mesa-vulkan-drivers, on Fedora mesa-vulkan-drivers, on Arch vulkan-swrast"
    )]
    Adapter {
        /// What the graphics library says.
        why: String,
    },
    /// The adapter is there but cannot be used.
    #[error("the graphics adapter {adapter} cannot be used: {why}")]
    Gpu {
        /// Its name.
        adapter: String,
        /// What is wrong.
        why: String,
    },
    /// The automation socket cannot be opened.
    #[error("the automation socket {path} cannot be opened: {source}")]
    Automation {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The mixer cannot be made.
    #[error("sound cannot be set up: {0}")]
    Sound(#[from] loco_media::sound::SoundError),
    /// A thread or the runtime cannot be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The window system's loop broke.
    #[error("the window's event loop ended: {0}")]
    EventLoop(String),
}
