//! The control plane: instances found or launched, their state, the HTTP API.
//!
//! A [`Provider`] says which instances there are and where their agents answer; the monitor follows each agent's
//! events; [`derive`](state::derive) makes one word of both; the API tells everyone who asks.

mod api;
pub mod events;
pub mod hub;
pub mod local;
mod monitor;
mod plane;
pub mod provider;
mod registry;
pub mod state;
pub mod usage;

pub use events::EventLog;
pub use hub::{Hub, HubError};
pub use local::{Local, LocalConfig};
pub use plane::{ControlConfig, ControlError, ControlPlane, Instances};
pub use provider::{Change, Found, Hand, NoHand, Phase, Provider};
pub use usage::Usage;
