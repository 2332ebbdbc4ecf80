//! What the control plane says over HTTP, and what viewers and the command line read.

use crate::failure::FailureClass;
use crate::instance::{InstanceId, InstanceState};
use crate::recovery::Attempt;
use crate::report::{DeepHealth, OverallStatus};
use crate::usage::{InputHolder, Viewer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One element of `GET /api/instances`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Where its fault lies.
    #[serde(default)]
    pub failure: FailureClass,
    /// What is being done to repair it; null when nothing is.
    #[serde(default)]
    pub recovery: Option<Attempt>,
    /// Attempts that are left in this hour; null while its ledger is unknown.
    #[serde(default)]
    pub attempts_left: Option<usize>,
    /// Whether it is in the active list, or any viewer's focus.
    #[serde(default)]
    pub in_use: bool,
    /// Names of the viewers that have it focused.
    #[serde(default)]
    pub focused_by: Vec<String>,
    /// Whose input it takes; null: everyone's.
    #[serde(default)]
    pub input_holder: Option<InputHolder>,
    /// Since when what its provider says of it is out of date, in milliseconds since 1970 UTC; null while it is not.
    #[serde(default)]
    pub stale_since_ms: Option<u64>,
    /// Its place in a cluster; null elsewhere.
    #[serde(default)]
    pub kubernetes: Option<KubernetesPlace>,
}

impl Instance {
    /// An instance of which nothing is known yet.
    #[must_use]
    pub fn new(id: InstanceId) -> Self {
        Self {
            id,
            index: id.index(),
            name: id.display_name(),
            state: InstanceState::Connecting,
            reason: None,
            ready: false,
            endpoints: None,
            guest_started_at_ms: None,
            agent_starts: None,
            failure: FailureClass::None,
            recovery: None,
            attempts_left: None,
            in_use: false,
            focused_by: Vec::new(),
            input_holder: None,
            stale_since_ms: None,
            kubernetes: None,
        }
    }
}

/// Addresses of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Endpoints {
    /// Base URL of the agent, without a trailing slash: `http://127.0.0.1:40001`.
    pub agent: String,
    /// URL that takes a WHEP offer.
    pub whep: String,
}

/// An instance's place in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct KubernetesPlace {
    /// Namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod_name: String,
    /// When it was found, in milliseconds since 1970 UTC.
    pub discovered_at_ms: u64,
}

/// Body of `GET /api/instances/discovery-info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DiscoveryInfo {
    /// `local`, `static` or `kubernetes`.
    pub mode: String,
    /// Where instances come from, for a person: a file's path, a cluster's address.
    pub source: Option<String>,
    /// Namespace; null outside of a cluster.
    pub namespace: Option<String>,
    /// Where the namespace was taken from: `flag`, `environment`, `service-account`, `kubeconfig` or `default`.
    pub namespace_source: Option<String>,
    /// How many instances are known.
    pub instances: usize,
    /// When the source was last read or heard of, in milliseconds since 1970 UTC.
    pub updated_at_ms: Option<u64>,
    /// How long ago that was, in milliseconds.
    pub age_ms: Option<u64>,
    /// Since when it cannot be read, in milliseconds since 1970 UTC; null while it can.
    pub stale_since_ms: Option<u64>,
    /// The last error; null when there was none.
    pub last_error: Option<String>,
    /// Entries that were refused; the others are used.
    pub refused: Vec<RefusedEntry>,
}

/// An entry of a list of instances that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RefusedEntry {
    /// Line where the entry begins, 1..; null where the source has no lines.
    pub line: Option<usize>,
    /// What is wrong with it, and what is allowed.
    pub reason: String,
}

/// Body of `GET /api/quality/deep-health/{id}`, and one value of the map `GET /api/quality/deep-health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct InstanceHealth {
    /// Whose.
    pub instance_id: InstanceId,
    /// In one word.
    pub overall_status: OverallStatus,
    /// Its agent's last report; null before the first.
    pub deep_health: Option<DeepHealth>,
    /// When that report was made, in milliseconds since 1970 UTC by the agent's clock.
    pub timestamp_ms: Option<u64>,
    /// Where the fault lies.
    pub failure_type: FailureClass,
    /// What is wrong, one line each.
    pub faults: Vec<String>,
    /// Whether something should be done.
    pub recovery_needed: bool,
    /// What should be done, in one line; null when nothing should.
    pub recommendation: Option<String>,
    /// Its place in a cluster; null elsewhere.
    pub kubernetes: Option<KubernetesPlace>,
}

/// Body of `GET /api/quality/recovery-status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecoveryStatus {
    /// Attempts per instance and hour at most.
    pub max_attempts: usize,
    /// The limit's window in milliseconds.
    pub window_ms: u64,
    /// Whether this control plane repairs by itself.
    pub automatic: bool,
    /// How it stands with each instance.
    pub instances: BTreeMap<InstanceId, RecoveryLimit>,
    /// Newest first, at most 200.
    pub attempts: Vec<Attempt>,
}

/// How it stands with an instance's attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecoveryLimit {
    /// Attempts that are left; null while its agent's ledger is unknown.
    pub left: Option<usize>,
    /// When the next one becomes free, in milliseconds since 1970 UTC; null while some are left.
    pub next_at_ms: Option<u64>,
    /// The attempt that is being made; null when none is.
    pub running: Option<Attempt>,
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Something is worse than it should be.
    Warning,
    /// Something does not work.
    Critical,
}

/// Something that people should see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Random, unique.
    pub id: String,
    /// When it began, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// When it ended; null while it lasts, and for what has no end.
    pub ended_at_ms: Option<u64>,
    /// How much it matters.
    pub severity: Severity,
    /// About which instance; null: about the whole.
    pub instance_id: Option<InstanceId>,
    /// What, in a few words: the same for every alert of this kind.
    pub title: String,
    /// This one, in one line.
    pub detail: Option<String>,
}

impl Alert {
    /// Title: an instance is not well, and nothing more is done about it by itself.
    pub const INSTANCE_FAILED: &str = "Instance failed";
    /// Title: an instance's attempts of an hour are used up.
    pub const LIMIT_REACHED: &str = "Recovery limit reached";

    /// The instance whose state it tells, as its tile does; `None` for what is told beside that, such as a check of
    /// people's own.
    #[must_use]
    pub fn whose_state(&self) -> Option<InstanceId> {
        let is_of_state = [Self::INSTANCE_FAILED, Self::LIMIT_REACHED].contains(&self.title.as_str());
        self.instance_id.filter(|_| is_of_state)
    }
}

/// One point of a history: what was seen between `at_ms` and the next point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HistoryPoint {
    /// Begin, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// Least value.
    pub min: f64,
    /// Mean of all samples.
    pub mean: f64,
    /// Greatest value.
    pub max: f64,
    /// How many samples.
    pub samples: u32,
}

/// Body of `GET /api/history/{id}?metric=…&from_ms=…&to_ms=…&step_ms=…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Whose.
    pub instance_id: InstanceId,
    /// Which metric.
    pub metric: String,
    /// The metric's unit: `fps`, `cores`, `bytes`, `dBFS`, `ms`, `bits/s`, `1`.
    pub unit: String,
    /// Width of a point in milliseconds.
    pub step_ms: u64,
    /// In order. Times without a sample have no point.
    pub points: Vec<HistoryPoint>,
}

/// Where a metric goes, by a straight line through its last hours; an element of `GET /api/trends/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Trend {
    /// Which metric.
    pub metric: String,
    /// Change per hour, in the metric's unit.
    pub per_hour: f64,
    /// Share of the variance that the line explains, 0..=1.
    pub fit: f64,
    /// The limit that it will reach; null when it goes nowhere.
    pub limit: Option<f64>,
    /// When, in milliseconds since 1970 UTC.
    pub reaches_at_ms: Option<u64>,
    /// For a person: "memory reaches its limit in 2 h".
    pub text: String,
}

/// Body of `GET /api/lan-status`. There is no segment between guests yet: everything is null or empty then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LanStatus {
    /// How the guests are joined; null while they are not.
    pub mode: Option<String>,
    /// The segment's members.
    pub peers: Vec<InstanceId>,
}

/// One server-sent event of `GET /api/events`; the SSE event name is the variant's `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The whole list: the first event on every connection that does not resume one.
    Instances {
        /// All of them, ordered by index.
        instances: Vec<Instance>,
    },
    /// One instance is new or changed.
    Instance {
        /// How it is now.
        instance: Box<Instance>,
    },
    /// One instance is gone.
    Removed {
        /// Which.
        id: InstanceId,
    },
    /// An attempt to repair was begun, or ended.
    Attempt {
        /// How it stands.
        attempt: Attempt,
    },
    /// An alert began or ended.
    Alert {
        /// Which.
        alert: Alert,
    },
    /// The active list is another one.
    Active {
        /// The whole list.
        active: Vec<InstanceId>,
    },
    /// A viewer came, went, or told something new.
    Viewers {
        /// All of them.
        viewers: Vec<Viewer>,
    },
    /// Discovery changed.
    Discovery {
        /// How it stands.
        info: DiscoveryInfo,
    },
}

impl Event {
    /// The event's name on the wire.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Instances { .. } => "instances",
            Self::Instance { .. } => "instance",
            Self::Removed { .. } => "removed",
            Self::Attempt { .. } => "attempt",
            Self::Alert { .. } => "alert",
            Self::Active { .. } => "active",
            Self::Viewers { .. } => "viewers",
            Self::Discovery { .. } => "discovery",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_about_a_state_are_told_from_those_beside_it() {
        let alert = |title: &str, instance_id| Alert {
            id: "a".to_owned(),
            at_ms: 1,
            ended_at_ms: None,
            severity: Severity::Warning,
            instance_id,
            title: title.to_owned(),
            detail: None,
        };
        let id = InstanceId::try_new(2).ok();
        assert_eq!(alert(Alert::INSTANCE_FAILED, id).whose_state(), id);
        assert_eq!(alert("Check failed: frames", id).whose_state(), None);
        assert_eq!(alert(Alert::INSTANCE_FAILED, None).whose_state(), None);
    }
}
