//! Who uses which instance: viewers, their focus, the shared active list, the holder of an instance's input.

use crate::instance::InstanceId;
use serde::{Deserialize, Serialize};

/// A viewer that says nothing for so long is taken for gone, in milliseconds.
pub const VIEWER_LEASE_MS: u64 = 10_000;

/// Most characters of a viewer's name.
pub const MAX_NAME: usize = 64;
/// Most characters of a line that a viewer says.
pub const MAX_LINE: usize = 500;
/// Most sessions that one viewer tells of.
pub const MAX_SESSIONS: usize = 64;
/// Most entries of the shared list.
pub const MAX_ACTIVE: usize = InstanceId::COUNT;

/// How good a picture arrives, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionReport {
    /// Which instance.
    pub instance_id: InstanceId,
    /// Connection state in one word: `connecting`, `connected`, `reconnecting`, `failed`.
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub state: String,
    /// How good the picture is; null before the first.
    #[serde(default)]
    pub quality: Option<QualityLevel>,
    /// Why it is not better, in one line.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub reason: Option<String>,
    /// A fault at the viewer's own end (session, decoder, codec), in one line; null when there is none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 500))]
    pub fault: Option<String>,
    /// Frames decoded a second, over the last seconds.
    #[serde(default)]
    pub fps_decoded: Option<f64>,
    /// Frames shown a second.
    #[serde(default)]
    pub fps_shown: Option<f64>,
    /// Frames lost since the session's begin.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(maximum = 18_446_744_073_709_551_615u64))]
    pub frames_dropped: u64,
    /// Freezes since the session's begin.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(maximum = 18_446_744_073_709_551_615u64))]
    pub freezes: u64,
    /// Round trip time in milliseconds.
    #[serde(default)]
    pub rtt_ms: Option<f64>,
}

impl SessionReport {
    /// A session in that state, of which nothing else is known yet.
    #[must_use]
    pub fn new(instance_id: InstanceId, state: impl Into<String>) -> Self {
        Self {
            instance_id,
            state: state.into(),
            quality: None,
            reason: None,
            fault: None,
            fps_decoded: None,
            fps_shown: None,
            frames_dropped: 0,
            freezes: 0,
            rtt_ms: None,
        }
    }
}

/// Body of `PUT /api/viewers/{viewer}`: a viewer tells of itself, at every change and every 3 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ViewerReport {
    /// What people call it: user and host, such as "ada@workstation".
    #[cfg_attr(feature = "openapi", schema(max_length = 64, pattern = "\\S"))]
    pub name: String,
    /// Where its keyboard goes; null while nowhere.
    #[serde(default)]
    pub focus: Option<InstanceId>,
    /// Whether it follows the active list's first entry, and sets it.
    #[serde(default)]
    pub follows: bool,
    /// Its sessions.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub sessions: Vec<SessionReport>,
}

// === impl ViewerReport ===

impl ViewerReport {
    /// Whether it is within bounds: what a viewer says is kept and shown to others.
    ///
    /// # Errors
    /// Names the value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let length = self.name.chars().count();
        if length > MAX_NAME || self.name.trim().is_empty() {
            return Err(format!("name has {length} characters: allowed are 1 to {MAX_NAME}, not only blanks"));
        }
        if self.sessions.len() > MAX_SESSIONS {
            return Err(format!("sessions has {} entries: allowed are 0 to {MAX_SESSIONS}", self.sessions.len()));
        }
        for (place, session) in self.sessions.iter().enumerate() {
            let lines = [
                ("state", Some(&session.state)),
                ("reason", session.reason.as_ref()),
                ("fault", session.fault.as_ref()),
            ];
            for (field, line) in lines {
                let length = line.map_or(0, |line| line.chars().count());
                if length > MAX_LINE {
                    return Err(format!(
                        "sessions[{place}].{field} has {length} characters: allowed are 0 to {MAX_LINE}"
                    ));
                }
            }
        }
        Ok(())
    }
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct InputHolder {
    /// The viewer's id.
    pub viewer: String,
    /// What people call it.
    pub name: String,
}

/// Body of `POST /api/instances/{id}/input`: takes the input, or gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputClaim {
    /// The viewer that asks.
    pub viewer: String,
    /// `take`: from whoever holds it; `ask`: only if nobody does; `release`: give it back.
    pub action: ClaimAction,
}

/// What a viewer wants with an instance's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Active {
    /// In order, without repetition.
    pub active: Vec<InstanceId>,
}

/// What sets the shared list: `{"ids": […]}` or `{"id": …}`; `[]` and null clear it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "SetActiveFields")]
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

/// As it stands in JSON: exactly one of both, so that a slip does not clear the list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetActiveFields {
    #[serde(default)]
    ids: Option<Vec<InstanceId>>,
    #[serde(default, deserialize_with = "said")]
    id: Option<Option<InstanceId>>,
}

/// Tells null from nothing.
fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<InstanceId>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

// === impl SetActive ===

impl SetActive {
    /// The list that it sets.
    #[must_use]
    pub fn into_ids(self) -> Vec<InstanceId> {
        match self {
            Self::Ids { ids } => ids,
            Self::Id { id } => id.into_iter().collect(),
        }
    }
}

impl TryFrom<SetActiveFields> for SetActive {
    type Error = String;

    fn try_from(fields: SetActiveFields) -> Result<Self, String> {
        match (fields.ids, fields.id) {
            (Some(ids), None) if ids.len() > MAX_ACTIVE => {
                Err(format!("ids has {} entries: allowed are 0 to {MAX_ACTIVE}", ids.len()))
            }
            (Some(ids), None) => Ok(Self::Ids { ids }),
            (None, Some(id)) => Ok(Self::Id { id }),
            (None, None) => Err("expected \"ids\" (a list) or \"id\" (one, or null)".to_owned()),
            (Some(_), Some(_)) => Err("expected one of \"ids\" and \"id\", not both".to_owned()),
        }
    }
}

/// Most bytes of a sender's id.
pub const MAX_SENDER: usize = 64;

/// Body of an agent's `PUT /use`: how much of the machine it may take. Forgotten after its lease, so that an instance
/// whose control plane died is not slow for ever. Each sender has a lease of its own: the instance is in use when one of
/// them says so, and capped only when all of them cap it, then by the highest cap.
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
    /// Who says so: a control plane's own id, 1 to 64 bytes. Left out: whoever names no sender, together as one. Agents of
    /// before there were senders refuse it as an unknown field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
}

/// Header by which a viewer names itself to an agent when it begins a session (its id, as at the control plane).
pub const VIEWER_HEADER: &str = "loco-viewer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_set_by_what_is_said_and_by_nothing_else() {
        let id = |index| InstanceId::try_new(index).expect("index");
        for (json, want) in [
            (r#"{"ids":["instance-2","instance-0"]}"#, vec![id(2), id(0)]),
            (r#"{"ids":[]}"#, vec![]),
            (r#"{"id":"instance-7"}"#, vec![id(7)]),
            (r#"{"id":null}"#, vec![]),
        ] {
            let set: SetActive = serde_json::from_str(json).expect(json);
            assert_eq!(serde_json::from_str(&serde_json::to_string(&set).expect("JSON")).ok(), Some(set.clone()));
            assert_eq!(set.into_ids(), want, "{json}");
        }
        let many = format!(r#"{{"ids":[{}"instance-0"]}}"#, r#""instance-0","#.repeat(MAX_ACTIVE));
        for bad in [
            "{}",
            "[]",
            "null",
            r#"{"ids":null}"#,
            r#"{"ids":[],"id":null}"#,
            r#"{"active":[]}"#,
            r#"{"id":"x"}"#,
            &many,
        ] {
            assert!(serde_json::from_str::<SetActive>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_viewer_says_is_bounded() {
        let session = |state: &str| SessionReport::new(InstanceId::try_new(0).expect("index"), state);
        let report = |name: String, sessions| ViewerReport { name, focus: None, follows: false, sessions };
        let long = "x".repeat(MAX_LINE + 1);
        assert_eq!(report("ü".repeat(MAX_NAME), vec![session("connected"); MAX_SESSIONS]).check(), Ok(()));
        for (report, part) in [
            (report(String::new(), vec![]), "name has 0"),
            (report("x".repeat(MAX_NAME + 1), vec![]), "name has 65"),
            (report("a".into(), vec![session("connected"); MAX_SESSIONS + 1]), "sessions has 65"),
            (report("a".into(), vec![session(""), session(&long)]), "sessions[1].state has 501"),
        ] {
            let error = report.check().expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }
}
