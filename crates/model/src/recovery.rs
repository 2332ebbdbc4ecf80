//! Attempts to repair an instance, and the limit that they count in.

use crate::failure::{FailureClass, Remedy};
use crate::instance::InstanceId;
use serde::{Deserialize, Serialize};

/// What an attempt's detail says before how the instance was afterwards, where it did not help.
pub const AFTERWARDS: &str = "afterwards: ";

/// Attempts per instance within [`WINDOW_MS`], whoever makes them.
pub const MAX_ATTEMPTS: usize = 3;
/// The limit's window in milliseconds: one hour, sliding.
pub const WINDOW_MS: u64 = 60 * 60 * 1_000;

/// Who made an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Initiator {
    /// The agent itself: its QEMU had exited unasked.
    Agent,
    /// A control plane's policy.
    Policy {
        /// Which control plane: a random id that it keeps in its state.
        control: String,
    },
    /// A person, through a control plane or directly.
    Person {
        /// The role or name that they presented.
        name: String,
    },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Being done.
    Running,
    /// Done, and what was wrong is well again.
    Repaired,
    /// Done, and it is still wrong.
    InVain,
    /// Could not be done.
    Failed,
    /// The limit was reached: not done.
    Refused,
    /// Left to somebody else, who is repairing it: not done.
    Yielded,
}

// === impl Outcome ===

impl Outcome {
    /// Whether something was done, or tried: only that counts in the limit.
    #[must_use]
    pub fn was_tried(self) -> bool {
        match self {
            Self::Running | Self::Repaired | Self::InVain | Self::Failed => true,
            Self::Refused | Self::Yielded => false,
        }
    }
}

/// One attempt, as an agent's ledger and the control plane's history keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Random, unique: made by who ordered it.
    pub id: String,
    /// Whose.
    pub instance_id: InstanceId,
    /// When it was begun, in milliseconds since 1970 UTC, by the agent's clock.
    pub started_at_ms: u64,
    /// When it ended; null while it is running.
    pub ended_at_ms: Option<u64>,
    /// What was wrong.
    pub class: FailureClass,
    /// What was done.
    pub action: Remedy,
    /// By whom.
    pub initiator: Initiator,
    /// Whether the limit was overridden.
    #[serde(rename = "override")]
    pub is_override: bool,
    /// What was wrong, in one line.
    pub reason: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// How it ended, in one line.
    pub detail: Option<String>,
    /// Name of the folder with what was seen before (screenshot, QMP status, last log lines); null where nothing could be saved.
    pub evidence: Option<String>,
}

impl Attempt {
    /// One that was begun at `started_at_ms` (milliseconds since 1970 UTC) and of which nothing more is known yet.
    #[must_use]
    pub fn begun(
        id: impl Into<String>,
        instance_id: InstanceId,
        started_at_ms: u64,
        class: FailureClass,
        action: Remedy,
        initiator: Initiator,
    ) -> Self {
        Self {
            id: id.into(),
            instance_id,
            started_at_ms,
            ended_at_ms: None,
            class,
            action,
            initiator,
            is_override: false,
            reason: None,
            outcome: Outcome::Running,
            detail: None,
            evidence: None,
        }
    }
}

/// Body of an agent's `POST /remedy/{action}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemedyOrder {
    /// Id of the attempt; the agent makes one when it is left out. An id that the ledger has already is not done again: the attempt that it has is the answer.
    #[serde(default)]
    pub attempt_id: Option<String>,
    /// What is wrong.
    #[serde(default)]
    pub class: FailureClass,
    /// What is wrong, in one line.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who orders; a person of the token's role when left out.
    #[serde(default)]
    pub initiator: Option<Initiator>,
    /// Do it though the limit is reached. It is counted all the same.
    #[serde(default, rename = "override")]
    pub is_override: bool,
}

/// Body of an agent's `PUT /ledger/{attempt}`: what an attempt was good for, by whoever ordered it. The agent sees that a
/// remedy was carried out; whether all is well afterwards shows later, and to whoever watches. Told to the ledger, it is
/// the same for all who read there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Judgement {
    /// [`Outcome::Repaired`] or [`Outcome::InVain`].
    pub outcome: Outcome,
    /// How it ended, in one line.
    #[serde(default)]
    pub detail: Option<String>,
}

/// Body of an agent's `GET /ledger`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Newest last; the last hour's all, and older ones up to 100.
    pub attempts: Vec<Attempt>,
    /// Attempts that are left in this hour.
    pub left: usize,
    /// When the next one becomes free, in milliseconds since 1970 UTC; null while some are left.
    pub next_at_ms: Option<u64>,
}

/// Body of the control plane's `POST /api/quality/recover/{id}`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecoverOrder {
    /// What to do; what the policy would do when left out.
    #[serde(default)]
    pub action: Option<Remedy>,
    /// Do it though the limit is reached.
    #[serde(default, rename = "override")]
    pub is_override: bool,
}

/// What the attempts of one instance leave.
#[must_use]
pub fn left(started_at_ms: impl Iterator<Item = u64>, now_ms: u64) -> (usize, Option<u64>) {
    let mut recent: Vec<u64> = started_at_ms.filter(|at| at.saturating_add(WINDOW_MS) > now_ms).collect();
    recent.sort_unstable();
    let left = MAX_ATTEMPTS.saturating_sub(recent.len());
    let next = recent.len().checked_sub(MAX_ATTEMPTS).and_then(|first| recent.get(first));
    (left, next.map(|at| at.saturating_add(WINDOW_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_three() {
        let now = 10 * WINDOW_MS;
        assert_eq!(left([].into_iter(), now), (3, None));
        assert_eq!(left([now - WINDOW_MS].into_iter(), now), (3, None));
        assert_eq!(left([now - 2, now].into_iter(), now), (1, None));
        let full = [now - 1, now - 5, now - 3];
        assert_eq!(left(full.into_iter(), now), (0, Some(now - 5 + WINDOW_MS)));
        // Overrides go beyond the limit: the third newest decides.
        assert_eq!(left([now - 7, now - 1, now - 5, now - 3].into_iter(), now), (0, Some(now - 5 + WINDOW_MS)));
    }
}
