//! The control plane: instances found or launched, their state, the HTTP API.
//!
//! A [`Provider`] says which instances there are and where their agents answer; the monitor follows each agent's
//! events; [`derive`](state::derive) makes one word of both; the API tells everyone who asks.

pub mod alerts;
mod api;
pub mod breaker;
pub mod checks;
pub mod events;
mod executor;
#[cfg(test)]
mod fake;
pub mod fixed;
pub mod history;
pub mod hub;
pub mod local;
mod metrics;
mod monitor;
mod outside;
mod plane;
pub mod policy;
pub mod provider;
mod registry;
pub mod state;
pub mod store;
mod trends;
pub mod usage;

pub use api::openapi_json;
pub use events::EventLog;
pub use fixed::{Fixed, FixedError};
pub use hub::{AgentWay, Hub, HubError};
pub use local::{Local, LocalConfig};
pub use plane::{ControlConfig, ControlError, ControlPlane, Instances};
pub use provider::{Change, Found, Hand, NoHand, Phase, Provider};
pub use usage::Usage;
