//! What is on the screen, as data: where everything lies, and what is said about each instance.

pub mod layout;
pub mod plate;
pub mod region;
pub mod words;

pub use layout::{Layout, Place, View};
pub use plate::Plate;
pub use region::Region;
