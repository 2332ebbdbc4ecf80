//! What is being done to an instance, in words for people. Pure.

use crate::plane::TileOrder;
use loco_model::failure::{FailureClass, Remedy};
use loco_model::recovery::{AFTERWARDS, Attempt, Initiator, MAX_ATTEMPTS, Outcome, RecoverOrder};

/// What took less than this, in milliseconds, took no time to people.
const NO_TIME: u64 = 50;

/// What is being done.
#[must_use]
pub const fn doing(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::ResetDisplay => "attaching to its display anew",
        Remedy::ResetSound => "attaching to its sound anew",
        Remedy::RestartStream => "restarting its stream",
        Remedy::LowerQuality => "lowering its quality",
        Remedy::ResetNetwork => "plugging its network card in anew",
        Remedy::RestartQemu => "restarting QEMU",
        Remedy::RestartAgent => "restarting its agent",
    }
}

/// What was done.
#[must_use]
pub const fn done(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::ResetDisplay => "its display was attached to anew",
        Remedy::ResetSound => "its sound was attached to anew",
        Remedy::RestartStream => "its stream was restarted",
        Remedy::LowerQuality => "its quality was lowered",
        Remedy::ResetNetwork => "its network card was plugged in anew",
        Remedy::RestartQemu => "QEMU was restarted",
        Remedy::RestartAgent => "its agent was restarted",
    }
}

/// What was ordered and does not happen; the reason is to follow.
#[must_use]
pub fn not_done(name: &str, order: &TileOrder) -> String {
    match order {
        TileOrder::Recover(RecoverOrder { action: None, .. }) => format!("{name} is not repaired"),
        TileOrder::Recover(RecoverOrder { action: Some(remedy), .. }) => match remedy {
            Remedy::ResetDisplay => format!("{name}'s display is not attached to anew"),
            Remedy::ResetSound => format!("{name}'s sound is not attached to anew"),
            Remedy::RestartStream => format!("{name}'s stream is not restarted"),
            Remedy::LowerQuality => format!("{name}'s quality is not lowered"),
            Remedy::ResetNetwork => format!("{name}'s network card is not plugged in anew"),
            Remedy::RestartQemu => format!("{name} is not restarted"),
            Remedy::RestartAgent => format!("{name}'s agent is not restarted"),
        },
        TileOrder::Pause => format!("{name} is not paused"),
        TileOrder::Resume => format!("{name} does not go on"),
        TileOrder::Snapshot(_) => format!("No snapshot of {name} was made"),
        TileOrder::Load(snapshot) => format!("{name} does not go back to {snapshot:?}"),
        TileOrder::Snapshots => format!("{name} does not tell its snapshots"),
        TileOrder::Evidence { .. } => format!("What was seen of {name} is not saved"),
    }
}

/// What a menu calls it.
#[must_use]
pub const fn menu(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::ResetDisplay => "Attach to its display anew",
        Remedy::ResetSound => "Attach to its sound anew",
        Remedy::RestartStream => "Restart its stream",
        Remedy::LowerQuality => "Lower its quality",
        Remedy::ResetNetwork => "Plug its network card in anew",
        Remedy::RestartQemu => "Restart QEMU",
        Remedy::RestartAgent => "Restart its agent",
    }
}

/// Whether what is not saved inside the guest is lost by it.
#[must_use]
pub const fn loses_work(remedy: Remedy) -> bool {
    matches!(remedy, Remedy::RestartQemu | Remedy::RestartAgent)
}

/// How good or bad that news is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Something is being done.
    Busy,
    /// It is well again.
    Good,
    /// It is not.
    Bad,
}

/// "attempt 2 of 3", by what is left; `None` while that is unknown.
#[must_use]
pub fn ordinal(left: Option<usize>) -> Option<String> {
    let number = MAX_ATTEMPTS.saturating_sub(left?).clamp(1, MAX_ATTEMPTS);
    Some(format!("attempt {number} of {MAX_ATTEMPTS}"))
}

/// "2 attempts are left in this hour".
#[must_use]
pub fn attempts_left(left: usize) -> String {
    match left {
        0 => "no attempts are left in this hour".to_owned(),
        1 => "1 attempt is left in this hour".to_owned(),
        n => format!("{n} attempts are left in this hour"),
    }
}

/// What is being done and why: "restarting QEMU: guest stands still".
#[must_use]
pub fn being_done(attempt: &Attempt) -> String {
    let doing = doing(attempt.action);
    let reason = attempt.reason.as_deref().filter(|reason| !reason.is_empty());
    reason.map_or_else(|| doing.to_owned(), |reason| format!("{doing}: {reason}"))
}

/// One line about an attempt that was begun or has ended.
#[must_use]
pub fn attempt(name: &str, attempt: &Attempt) -> (News, String) {
    let why = attempt.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let detail = attempt.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let by = match &attempt.initiator {
        Initiator::Person { .. } => ", by hand",
        Initiator::Agent | Initiator::Policy { .. } => "",
    };
    match attempt.outcome {
        Outcome::Running => (News::Busy, format!("{name}: {}{by}{why}", doing(attempt.action))),
        Outcome::Repaired => {
            let took = attempt.ended_at_ms.map(|end| end.saturating_sub(attempt.started_at_ms));
            let took = took.filter(|ms| *ms >= NO_TIME);
            let took = took.map(|ms| format!(" ({:.1} s)", ms as f64 / 1000.0)).unwrap_or_default();
            // A person may order it where nothing is wrong: it is not well "again" then.
            let well = if attempt.class == FailureClass::None { "" } else { " is well again" };
            (News::Good, format!("{name}{well}: {}{took}", done(attempt.action)))
        }
        Outcome::InVain => {
            // What the remedy itself told is in the history; here counts what is wrong now.
            let still = attempt.detail.as_deref().and_then(|detail| detail.split_once(AFTERWARDS));
            let detail = still.map_or(detail, |(_, still)| format!(": {still}"));
            (News::Bad, format!("{name}: {}, and it is still wrong{detail}", done(attempt.action)))
        }
        Outcome::Failed => (News::Bad, format!("{name}: {} failed{detail}", doing(attempt.action))),
        Outcome::Refused => {
            let limit = format!("{name} is not repaired: the hour's {MAX_ATTEMPTS} attempts are used up");
            (News::Bad, format!("{limit}{why}"))
        }
        Outcome::Yielded => (News::Busy, format!("{name} is left to others{detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::InstanceId;

    #[test]
    fn what_was_ordered_and_did_not_happen_is_told_in_its_own_words() {
        let recover = |action| TileOrder::Recover(RecoverOrder { action, is_override: false });
        for (order, line) in [
            (recover(None), "Loco 1 is not repaired"),
            (recover(Some(Remedy::RestartQemu)), "Loco 1 is not restarted"),
            (recover(Some(Remedy::RestartStream)), "Loco 1's stream is not restarted"),
            (TileOrder::Pause, "Loco 1 is not paused"),
            (TileOrder::Snapshot("kept".into()), "No snapshot of Loco 1 was made"),
            (TileOrder::Load("desk".into()), "Loco 1 does not go back to \"desk\""),
        ] {
            assert_eq!(not_done("Loco 1", &order), line);
        }
    }

    #[test]
    fn every_outcome_is_one_line() {
        let running = Attempt {
            reason: Some("QEMU exited with signal 9".into()),
            ..Attempt::begun(
                "a",
                InstanceId::try_new(2).unwrap(),
                10_000,
                FailureClass::Qemu,
                Remedy::RestartQemu,
                Initiator::Agent,
            )
        };
        let ended = |outcome, detail: Option<&str>| Attempt {
            outcome,
            ended_at_ms: Some(11_250),
            detail: detail.map(Into::into),
            ..running.clone()
        };
        let by_hand = Attempt { initiator: Initiator::Person { name: "operate".into() }, ..running.clone() };
        for (attempt_now, news, line) in [
            (running.clone(), News::Busy, "Loco 3: restarting QEMU (QEMU exited with signal 9)"),
            (by_hand, News::Busy, "Loco 3: restarting QEMU, by hand (QEMU exited with signal 9)"),
            (ended(Outcome::Repaired, None), News::Good, "Loco 3 is well again: QEMU was restarted (1.2 s)"),
            (
                Attempt { ended_at_ms: Some(10_049), ..ended(Outcome::Repaired, None) },
                News::Good,
                "Loco 3 is well again: QEMU was restarted",
            ),
            (
                Attempt { class: FailureClass::None, ..ended(Outcome::Repaired, None) },
                News::Good,
                "Loco 3: QEMU was restarted (1.2 s)",
            ),
            (
                ended(Outcome::InVain, Some("a new QEMU runs; afterwards: guest stands still")),
                News::Bad,
                "Loco 3: QEMU was restarted, and it is still wrong: guest stands still",
            ),
            (ended(Outcome::InVain, None), News::Bad, "Loco 3: QEMU was restarted, and it is still wrong"),
            (ended(Outcome::Failed, Some("no disk")), News::Bad, "Loco 3: restarting QEMU failed: no disk"),
            (
                ended(Outcome::Refused, None),
                News::Bad,
                "Loco 3 is not repaired: the hour's 3 attempts are used up (QEMU exited with signal 9)",
            ),
        ] {
            assert_eq!(attempt("Loco 3", &attempt_now), (news, line.to_owned()));
        }
        assert_eq!(ordinal(Some(2)).as_deref(), Some("attempt 1 of 3"));
        assert_eq!((ordinal(Some(0)).as_deref(), ordinal(None)), (Some("attempt 3 of 3"), None));
        assert_eq!(attempts_left(1), "1 attempt is left in this hour");
    }
}
