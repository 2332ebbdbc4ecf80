//! The control plane: instances found or launched, their state, the HTTP API.
//!
//! A [`Provider`] says which instances there are and where their agents answer; the monitor follows each agent's
//! events; [`derive`](state::derive) makes one word of both; the API tells everyone who asks.

mod api;
pub mod local;
mod monitor;
mod plane;
pub mod provider;
pub mod state;

pub use local::{Local, LocalConfig};
pub use plane::{ControlConfig, ControlError, ControlPlane, Instances};
pub use provider::{Change, Found, Phase, Provider};
