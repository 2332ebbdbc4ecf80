//! Keyboard and pointer: which key is which, what a chord means, and which guest gets what.

pub mod chord;
pub mod follow;
pub mod hold;
pub mod keymap;
pub mod router;

pub use chord::Chord;
pub use follow::Follow;
pub use hold::Hold;
pub use router::{Action, Command, Input, PointerMode, Router};
