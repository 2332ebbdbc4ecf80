//! What the control plane says over HTTP, and what viewers and the command line read.

use crate::instance::{InstanceId, InstanceState};
use serde::{Deserialize, Serialize};

/// One element of `GET /api/instances`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `instance-N`.
    pub id: InstanceId,
    /// N, 0..=8: its place in the grid.
    pub index: usize,
    /// What people call it.
    pub name: String,
    /// How it is.
    pub state: InstanceState,
    /// Why it is so, in one short line for a person; null when there is nothing to say.
    pub reason: Option<String>,
    /// Whether a viewer can connect now.
    pub ready: bool,
    /// Where to reach it; null while unknown.
    pub endpoints: Option<Endpoints>,
    /// When its guest was last started, in milliseconds since 1970 UTC; null while unknown.
    pub guest_started_at_ms: Option<u64>,
    /// How often its agent process was started by this control plane; null where someone else starts it.
    pub agent_starts: Option<u32>,
}

/// Addresses of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Base URL of the agent, without a trailing slash: `http://127.0.0.1:40001`.
    pub agent: String,
    /// URL that takes a WHEP offer.
    pub whep: String,
}

/// One server-sent event of `GET /api/events`; the SSE event name is the variant's `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The whole list: the first event on every connection.
    Instances {
        /// All of them, ordered by index.
        instances: Vec<Instance>,
    },
    /// One instance is new or changed.
    Instance {
        /// How it is now.
        instance: Instance,
    },
    /// One instance is gone.
    Removed {
        /// Which.
        id: InstanceId,
    },
}
