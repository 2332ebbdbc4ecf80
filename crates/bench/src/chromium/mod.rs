//! Headless Chromium as a peer: plays agents' WHEP streams and tells what its page saw.

mod devtools;
mod player;

pub use devtools::Browser;
pub use player::{Counters, Player, Press, Sighting};
