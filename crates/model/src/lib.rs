//! Shared words as types: instances and their states, input on the wire, key codes, health reports,
//! the control plane's API, what is wrong with an instance, problem details, colours.
//!
//! No I/O, no async, no clock: everything here can be tested by calling it.

pub mod agent;
pub mod api;
pub mod classify;
pub mod failure;
pub mod geometry;
pub mod input;
pub mod instance;
pub mod keys;
pub mod look;
#[cfg(feature = "openapi")]
mod openapi;
pub mod problem;
pub mod query;
pub mod recovery;
pub mod report;
pub mod time;
pub mod usage;

pub use failure::{FailureClass, Remedy};
pub use geometry::{Rect, Size};
pub use instance::{InstanceId, InstanceState};
pub use keys::Key;
