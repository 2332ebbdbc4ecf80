//! Who uses which instance: viewers, their focus, the shared active list, the holder of an instance's input.

use crate::instance::InstanceId;
use serde::{Deserialize, Serialize};

/// A viewer that says nothing for so long is taken for gone, in milliseconds.
pub const VIEWER_LEASE_MS: u64 = 10_000;

/// How good a picture arrives, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QualityLevel {
    /// Nothing comes.
    Lost,
    /// Hard to play.
    Poor,
    /// Playable, with visible faults.
    Fair,
    /// A little less than it could be.
    Good,
    /// As it was sent.
    Excellent,
}

/// What a viewer says about one of its sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionReport {
    /// Which instance.
    pub instance_id: InstanceId,
    /// Connection state in one word: `connecting`, `connected`, `reconnecting`, `failed`.
    pub state: String,
    /// How good the picture is; null before the first.
    #[serde(default)]
    pub quality: Option<QualityLevel>,
    /// Why it is not better, in one line.
    #[serde(default)]
    pub reason: Option<String>,
    /// A fault at the viewer's own end (session, decoder, codec), in one line; null when there is none.
    #[serde(default)]
    pub fault: Option<String>,
    /// Frames decoded a second, over the last seconds.
    #[serde(default)]
    pub fps_decoded: Option<f64>,
    /// Frames shown a second.
    #[serde(default)]
    pub fps_shown: Option<f64>,
    /// Frames lost since the session's begin.
    #[serde(default)]
    pub frames_dropped: u64,
    /// Freezes since the session's begin.
    #[serde(default)]
    pub freezes: u64,
    /// Round trip time in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
}

/// Body of `PUT /api/viewers/{viewer}`: a viewer tells of itself, at every change and every 3 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ViewerReport {
    /// What people call it: user and host, such as "ada@workstation".
    pub name: String,
    /// Where its keyboard goes; null while nowhere.
    #[serde(default)]
    pub focus: Option<InstanceId>,
    /// Whether it follows the active list's first entry, and sets it.
    #[serde(default)]
    pub follows: bool,
    /// Its sessions.
    #[serde(default)]
    pub sessions: Vec<SessionReport>,
}

/// One viewer, as `GET /api/viewers` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Viewer {
    /// Its id: random, chosen by itself.
    pub id: String,
    /// When it was heard of last, in milliseconds since 1970 UTC.
    pub heard_at_ms: u64,
    /// What it said.
    #[serde(flatten)]
    pub report: ViewerReport,
}

/// Who an instance's input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputHolder {
    /// The viewer's id.
    pub viewer: String,
    /// What people call it.
    pub name: String,
}

/// Body of `POST /api/instances/{id}/input`: takes the input, or gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputClaim {
    /// The viewer that asks.
    pub viewer: String,
    /// `take`: from whoever holds it; `ask`: only if nobody does; `release`: give it back.
    pub action: ClaimAction,
}

/// What a viewer wants with an instance's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimAction {
    /// Hold it if nobody does.
    Ask,
    /// Hold it, whoever does.
    Take,
    /// Hold it no more.
    Release,
}

/// The shared list: body of `GET /api/active` and every message of the WebSocket `/active`. The first is the primary one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// In order, without repetition.
    pub active: Vec<InstanceId>,
}

/// What sets the shared list: `{"ids": […]}` or `{"id": …}`; `[]` and null clear it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SetActive {
    /// The whole list.
    Ids {
        /// In order.
        ids: Vec<InstanceId>,
    },
    /// One, or none.
    Id {
        /// Which.
        id: Option<InstanceId>,
    },
}

/// Body of an agent's `PUT /use`: how much of the machine it may take. Forgotten after its lease, so that an instance
/// whose control plane died is not slow for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Use {
    /// Whether anyone uses it. An instance in use is never capped.
    pub in_use: bool,
    /// Most frames a second while not in use, 1 to 60.
    #[serde(default)]
    pub max_fps: Option<u32>,
    /// Most bits a second while not in use, 100,000 to 50,000,000.
    #[serde(default)]
    pub max_bit_rate: Option<u32>,
    /// For how long this holds without being said again, in seconds, 1 to 300.
    pub lease_s: u32,
    /// The viewer whose input is taken; null: everyone's.
    #[serde(default)]
    pub input_holder: Option<String>,
}

/// Header by which a viewer names itself to an agent when it begins a session (its id, as at the control plane).
pub const VIEWER_HEADER: &str = "loco-viewer";
