//! The policy, second by second.

use super::*;
use loco_model::InstanceState;
use loco_model::report::OverallStatus;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn well() -> Verdict {
    Verdict { state: InstanceState::Live, overall: OverallStatus::Healthy, ..Verdict::unknown() }
}

fn sick(kinds: &[FaultKind]) -> Verdict {
    let fault = |kind: &FaultKind| Fault { kind: *kind, text: format!("{kind:?}"), remedies: kind.remedies().to_vec() };
    let class = kinds.iter().fold(FailureClass::None, |class, kind| class.and(kind.class()));
    Verdict { state: InstanceState::Failed, class, faults: kinds.iter().map(fault).collect(), ..Verdict::unknown() }
}

fn given(seconds: u64, verdict: &Verdict) -> Given<'_> {
    Given { now: at(seconds), verdict, automatic: true, reachable: true, can_restart: true }
}

fn acts(step: Step) -> Remedy {
    match step {
        Step::Act(plan) => plan.action,
        other => panic!("{other:?} instead of an action"),
    }
}

#[test]
fn a_fault_must_last() {
    let mut policy = Policy::default();
    let down = sick(&[FaultKind::SegmentDown]);
    assert_eq!(policy.see(&given(0, &down)), Step::Wait(Some(at(3))));
    assert_eq!(policy.see(&given(2, &down)), Step::Wait(Some(at(3))));
    // A break begins anew.
    assert_eq!(policy.see(&given(2, &well())), Step::Wait(None));
    assert_eq!(policy.see(&given(3, &down)), Step::Wait(Some(at(6))));
    assert_eq!(acts(policy.see(&given(6, &down))), Remedy::ResetNetwork);
    assert!(policy.is_acting());
    assert_eq!(policy.see(&given(600, &down)), Step::Wait(None), "one at a time, however long it takes");
}

#[test]
fn each_kind_has_its_ladder() {
    use FaultKind::{AgentSilent, DecoderFault, DisplayGone, Frozen, SegmentDown, SoundGone};
    use Remedy::{LowerQuality, ResetDisplay, ResetNetwork, ResetSound, RestartAgent, RestartQemu, RestartStream};
    for (kinds, ladder) in [
        (&[SegmentDown][..], &[ResetNetwork, RestartStream][..]),
        (&[DisplayGone], &[ResetDisplay, RestartQemu, RestartAgent]),
        (&[SoundGone], &[ResetSound, RestartQemu, RestartAgent]),
        (&[Frozen], &[RestartQemu, RestartAgent]),
        (&[DecoderFault], &[RestartStream, LowerQuality]),
        (&[SegmentDown, Frozen], &[ResetNetwork, RestartStream, RestartQemu, RestartAgent]),
        (&[AgentSilent], &[RestartAgent]),
    ] {
        let mut policy = Policy::default();
        let (mut seconds, mut done) = (0, Vec::new());
        let verdict = sick(kinds);
        while policy.rest().is_none() {
            match policy.see(&given(seconds, &verdict)) {
                Step::Act(plan) => {
                    assert_eq!(plan.class, verdict.class);
                    done.push(plan.action);
                    policy.ended(at(seconds), Ended::Done);
                }
                Step::Judge(outcome) => assert_eq!(outcome, Outcome::InVain),
                Step::Wait(until) => seconds = seconds.max(until.expect("it goes on").as_secs()),
            }
        }
        assert_eq!(done, ladder, "{kinds:?}");
        assert_eq!(policy.rest(), Some(Rest::Exhausted));
        // An hour later it is tried from the beginning; when it was well in between, too.
        let mut later = policy.clone();
        assert_eq!(acts(later.see(&given(seconds + 3_600, &verdict))), ladder[0], "{kinds:?}");
        assert_eq!(policy.see(&given(seconds + 1, &well())), Step::Wait(None));
        let first = (2..60).find_map(|later| match policy.see(&given(seconds + later, &verdict)) {
            Step::Act(plan) => Some(plan.action),
            _ => None,
        });
        assert_eq!(first, Some(ladder[0]), "{kinds:?}");
    }
}

#[test]
fn well_for_a_while_is_repaired() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    assert_eq!(acts(policy.see(&given(0, &frozen))), Remedy::RestartQemu);
    policy.ended(at(1), Ended::Done);
    assert_eq!(policy.see(&given(1, &frozen)), Step::Wait(Some(at(11))), "the old report is still there");
    assert_eq!(policy.see(&given(2, &Verdict::unknown())), Step::Wait(Some(at(71))), "it starts");
    assert_eq!(policy.see(&given(50, &well())), Step::Wait(Some(at(52))));
    assert_eq!(policy.see(&given(51, &frozen)), Step::Judge(Outcome::InVain), "well for a moment is not well");
    assert_eq!(acts(policy.see(&given(51, &frozen))), Remedy::RestartAgent);
    policy.ended(at(52), Ended::Done);
    assert_eq!(policy.see(&given(60, &sick(&[FaultKind::AgentEnded]))), Step::Wait(Some(at(127))));
    assert_eq!(policy.see(&given(70, &well())), Step::Wait(Some(at(72))));
    assert_eq!(policy.see(&given(72, &well())), Step::Judge(Outcome::Repaired));
    assert_eq!(policy.see(&given(72, &well())), Step::Wait(None));
    assert_eq!(acts(policy.see(&given(80, &frozen))), Remedy::RestartQemu, "from the beginning");
}

#[test]
fn a_start_that_never_ends_was_in_vain() {
    let mut policy = Policy::default();
    assert_eq!(acts(policy.see(&given(0, &sick(&[FaultKind::Frozen])))), Remedy::RestartQemu);
    policy.ended(at(0), Ended::Done);
    assert_eq!(policy.see(&given(69, &Verdict::unknown())), Step::Wait(Some(at(70))));
    assert_eq!(policy.see(&given(70, &Verdict::unknown())), Step::Judge(Outcome::InVain));
    assert_eq!(policy.see(&given(70, &Verdict::unknown())), Step::Wait(None), "nothing that could be done");
}

#[test]
fn the_limit_stops_it_until_one_is_free() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    policy.see(&given(0, &frozen));
    policy.ended(at(0), Ended::Refused(at(600)));
    assert_eq!(policy.see(&given(0, &frozen)), Step::Wait(Some(at(600))));
    assert_eq!(policy.rest(), Some(Rest::Limit));
    assert_eq!(acts(policy.see(&given(600, &frozen))), Remedy::RestartQemu, "what was refused was not tried");
    policy.ended(at(600), Ended::Refused(at(600)));
    policy.limit_lifted();
    assert_eq!(acts(policy.see(&given(601, &frozen))), Remedy::RestartQemu);
}

#[test]
fn what_cannot_be_ordered_is_not() {
    let silent = sick(&[FaultKind::AgentSilent]);
    let far = |seconds, can_restart| Given { reachable: false, can_restart, ..given(seconds, &silent) };
    let mut policy = Policy::default();
    assert_eq!(policy.see(&far(0, false)), Step::Wait(None), "nobody who could");
    assert_eq!(policy.see(&far(20, false)), Step::Wait(None));
    assert_eq!(policy.rest(), None, "nothing was tried");
    assert_eq!(acts(policy.see(&far(21, true))), Remedy::RestartAgent);

    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    let off = Given { automatic: false, ..given(0, &frozen) };
    assert_eq!(policy.see(&off), Step::Wait(None));
    assert_eq!(policy.next(&off).map(|plan| plan.action), Some(Remedy::RestartQemu), "a person may");
    assert_eq!(policy.next(&given(0, &well())), None);
    assert_eq!(acts(policy.see(&given(99, &frozen))), Remedy::RestartQemu, "switched on again");
}

#[test]
fn an_order_that_was_not_taken_is_given_again() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    policy.see(&given(0, &frozen));
    policy.ended(at(0), Ended::NotGiven);
    assert_eq!(policy.see(&given(1, &frozen)), Step::Wait(Some(at(5))));
    assert_eq!(acts(policy.see(&given(5, &frozen))), Remedy::RestartQemu);
    policy.ended(at(5), Ended::NotGiven);
    assert_eq!(policy.see(&given(6, &frozen)), Step::Wait(Some(at(15))), "ever less often");
    assert_eq!(acts(policy.see(&given(15, &frozen))), Remedy::RestartQemu);
    policy.ended(at(15), Ended::Failed);
    assert_eq!(policy.see(&given(16, &frozen)), Step::Wait(Some(at(20))));
    assert_eq!(acts(policy.see(&given(20, &frozen))), Remedy::RestartAgent, "what failed is not repeated");
}

/// Somebody else restarted QEMU, and that is done.
fn restarted_elsewhere(policy: &mut Policy, seconds: u64) {
    policy.foreign(Remedy::RestartQemu);
    policy.foreign_ended(at(seconds), Remedy::RestartQemu);
}

#[test]
fn what_others_did_settles_too_and_is_not_repeated() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    policy.see(&given(0, &well()));
    restarted_elsewhere(&mut policy, 1);
    assert_eq!(policy.see(&given(2, &frozen)), Step::Wait(Some(at(11))));
    assert_eq!(policy.rest(), Some(Rest::Elsewhere));
    assert_eq!(policy.see(&given(11, &frozen)), Step::Judge(Outcome::InVain));
    assert_eq!(acts(policy.see(&given(11, &frozen))), Remedy::RestartAgent);
    // While one acts itself, another's attempt changes nothing.
    restarted_elsewhere(&mut policy, 12);
    policy.foreign_failed(at(12), Remedy::RestartQemu);
    assert!(policy.is_acting());
}

#[test]
fn all_who_watch_judge_an_attempt_alike_and_go_on_alike() {
    let frozen = sick(&[FaultKind::Frozen]);
    // One restarts QEMU, the other leaves it to it. The next fault follows soon, or late.
    for (next, outcome, then) in
        [(4, Outcome::InVain, Remedy::RestartAgent), (5, Outcome::Repaired, Remedy::RestartQemu)]
    {
        let mut own = Policy::default();
        let mut other = own.clone();
        assert_eq!(acts(own.see(&given(0, &frozen))), Remedy::RestartQemu);
        assert_eq!(acts(other.see(&given(0, &frozen))), Remedy::RestartQemu);
        other.ended(at(0), Ended::Yielded);
        own.ended(at(2), Ended::Done);
        restarted_elsewhere(&mut other, 2);
        for policy in [&mut own, &mut other] {
            assert_eq!(policy.see(&given(3, &well())), Step::Wait(Some(at(5))));
            let mut told = Vec::new();
            let verdicts = [(next, if next < 5 { &frozen } else { &well() }), (12, &frozen), (12, &frozen)];
            for (seconds, verdict) in verdicts {
                match policy.see(&given(seconds, verdict)) {
                    Step::Judge(outcome) => told.push(outcome),
                    Step::Act(plan) => assert_eq!(plan.action, then),
                    Step::Wait(_) => {}
                }
            }
            assert_eq!(told, [outcome]);
            assert!(policy.is_acting());
        }
    }
}

#[test]
fn that_others_are_at_it_comes_before_having_given_up() {
    let frozen = sick(&[FaultKind::Frozen]);
    for why in [Rest::Limit, Rest::Exhausted] {
        let mut policy = Policy::default();
        policy.see(&given(0, &frozen));
        policy.ended(at(0), Ended::Refused(at(600)));
        if why == Rest::Exhausted {
            policy.limit_lifted();
            policy.remember(FaultKind::Frozen.remedies().iter().copied());
            policy.see(&given(1, &frozen));
        }
        assert_eq!(policy.rest(), Some(why));
        policy.leave(at(20));
        assert_eq!(policy.rest(), Some(Rest::Elsewhere));
        policy.foreign_ended(at(10), Remedy::RestartQemu);
        assert_eq!(policy.see(&given(12, &frozen)), Step::Wait(Some(at(20))));
        assert_eq!(policy.rest(), Some(Rest::Elsewhere));
        assert_eq!(policy.see(&given(20, &frozen)), Step::Judge(Outcome::InVain));
        policy.see(&given(20, &frozen));
        assert_ne!(policy.rest(), Some(Rest::Elsewhere), "{why:?}: it is its own again");
    }
}

#[test]
fn an_end_that_is_heard_of_late_is_judged_as_if_it_had_been_seen() {
    let frozen = sick(&[FaultKind::Frozen]);
    let mut policy = Policy::default();
    policy.see(&given(0, &frozen));
    policy.ended(at(0), Ended::Yielded);
    assert_eq!(policy.see(&given(2, &well())), Step::Wait(Some(at(5))));
    // It ended at 2, which the ledger says at 4.
    policy.foreign_ended(at(2), Remedy::RestartQemu);
    assert_eq!(policy.see(&given(4, &well())), Step::Judge(Outcome::Repaired));
}

#[test]
fn what_is_left_to_others_was_not_tried_and_is_no_failure() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    for round in 0..5 {
        // They do not tell what they did: it is thought about again, not ever less often.
        assert_eq!(acts(policy.see(&given(5 * round, &frozen))), Remedy::RestartQemu);
        policy.ended(at(5 * round), Ended::Yielded);
        assert_eq!(policy.rest(), Some(Rest::Elsewhere));
        assert_eq!(policy.see(&given(5 * round, &frozen)), Step::Wait(Some(at(5 * round + 5))));
    }
    // What came to nothing is nobody's any more.
    policy.foreign_failed(at(22), Remedy::RestartQemu);
    assert_eq!(policy.rest(), None);
    assert_eq!(policy.see(&given(23, &frozen)), Step::Wait(Some(at(32))));
}

#[test]
fn what_was_in_vain_after_all_is_not_made_again() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    policy.see(&given(0, &frozen));
    policy.ended(at(0), Ended::Yielded);
    policy.foreign_in_vain(Remedy::RestartQemu);
    assert_eq!(acts(policy.see(&given(5, &frozen))), Remedy::RestartAgent);
}

#[test]
fn an_agent_that_starts_its_guest_again_is_waited_for() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    policy.foreign(Remedy::RestartQemu);
    policy.leave(at(11));
    // Its ledger says again and again that it is still at it.
    policy.leave(at(15));
    assert_eq!(policy.see(&given(11, &frozen)), Step::Wait(Some(at(15))));
    policy.leave(at(20));
    policy.leave(at(18));
    assert_eq!(policy.see(&given(16, &frozen)), Step::Wait(Some(at(20))), "never shorter");
    assert_eq!(acts(policy.see(&given(20, &frozen))), Remedy::RestartAgent);
    policy.leave(at(99));
    assert!(policy.is_acting(), "what was begun goes on");
}

#[test]
fn a_person_goes_first_and_what_was_tried_before_is_remembered() {
    let mut policy = Policy::default();
    let gone = sick(&[FaultKind::DisplayGone]);
    policy.remember([Remedy::ResetDisplay]);
    assert_eq!(acts(policy.see(&given(0, &gone))), Remedy::RestartQemu);
    policy.ended(at(0), Ended::Done);
    policy.begun(Remedy::RestartStream);
    assert!(policy.is_acting() && !policy.is_settling());
    policy.ended(at(1), Ended::Done);
    assert_eq!(policy.see(&given(9, &gone)), Step::Judge(Outcome::InVain));
    assert_eq!(acts(policy.see(&given(9, &gone))), Remedy::RestartAgent);
    policy.ended(at(9), Ended::Done);
    assert_eq!(policy.see(&given(24, &gone)), Step::Judge(Outcome::InVain));
    let all_tried = policy.next(&given(24, &gone)).map(|plan| plan.action);
    assert_eq!(all_tried, Some(Remedy::ResetDisplay), "a person may have it once more");
}

#[test]
fn what_was_not_made_is_taken_back_whoever_acted_meanwhile() {
    let mut policy = Policy::default();
    let down = sick(&[FaultKind::SegmentDown]);
    assert_eq!(policy.see(&given(0, &down)), Step::Wait(Some(at(3))));
    assert_eq!(acts(policy.see(&given(3, &down))), Remedy::ResetNetwork);
    policy.foreign(Remedy::RestartStream);
    policy.ended(at(4), Ended::NotGiven);
    assert_eq!(acts(policy.see(&given(9, &down))), Remedy::ResetNetwork, "it was not made yet");
}

#[test]
fn an_attempt_is_judged_by_what_it_was_for() {
    use FaultKind::{CpuOver, DisplayGone, EncoderFault, Frozen, SegmentDown, SessionFailed, SoundGone, Worse};
    use Outcome::{InVain, Repaired};
    use Remedy::{ResetDisplay, ResetSound, RestartAgent, RestartQemu, RestartStream};
    let runs = |kinds: &[FaultKind]| Verdict { state: InstanceState::Degraded, ..sick(kinds) };
    // What stood, what was done about it, what stands since; then what comes of that, and what is done next.
    for (stood, action, stands, outcome, next) in [
        // The disk is full, which the agent says in words.
        (&[Frozen][..], RestartQemu, runs(&[Worse]), Repaired, None),
        (&[Frozen], RestartQemu, runs(&[SoundGone]), Repaired, Some(ResetSound)),
        (&[Frozen, CpuOver], RestartQemu, runs(&[CpuOver]), InVain, Some(RestartAgent)),
        (&[SoundGone], ResetSound, runs(&[SoundGone]), InVain, Some(RestartQemu)),
        // The same remedy is not made once more for what may have come of it.
        (&[Frozen], RestartQemu, runs(&[CpuOver]), Repaired, Some(RestartAgent)),
        (&[DisplayGone], ResetDisplay, runs(&[EncoderFault]), Repaired, Some(RestartStream)),
        // It does not run: whether it would be frozen nobody can say.
        (&[Frozen], RestartQemu, sick(&[Worse]), InVain, None),
        (&[Frozen], RestartQemu, sick(&[DisplayGone]), InVain, Some(ResetDisplay)),
        // Viewers are not heard while something else is wrong.
        (&[SessionFailed], RestartStream, runs(&[Worse]), InVain, None),
        (&[EncoderFault], RestartStream, runs(&[Worse]), Repaired, None),
        (&[SegmentDown], Remedy::ResetNetwork, runs(&[SegmentDown]), InVain, Some(RestartStream)),
    ] {
        let told = format!("{action} for {stood:?}, then {stands:?}");
        let mut policy = Policy::default();
        policy.see(&given(0, &sick(stood)));
        policy.begun(action);
        policy.ended(at(100), Ended::Done);
        assert!(matches!(policy.see(&given(100, &stands)), Step::Wait(Some(_))), "{told}");
        let judged = (101..120).find_map(|seconds| match policy.see(&given(seconds, &stands)) {
            Step::Judge(outcome) => Some(outcome),
            _ => None,
        });
        assert_eq!(judged, Some(outcome), "{told}");
        let made = (120..200).find_map(|seconds| match policy.see(&given(seconds, &stands)) {
            Step::Act(plan) => Some(plan.action),
            _ => None,
        });
        assert_eq!(made, next, "{told}");
    }
}

#[test]
fn what_is_wrong_besides_does_not_lengthen_the_way_for_the_next_fault() {
    let mut policy = Policy::default();
    let frozen = sick(&[FaultKind::Frozen]);
    let full = Verdict { state: InstanceState::Degraded, ..sick(&[FaultKind::Worse]) };
    for begin in [0, 100] {
        assert_eq!(acts(policy.see(&given(begin, &frozen))), Remedy::RestartQemu, "from the beginning each time");
        policy.ended(at(begin + 1), Ended::Done);
        assert_eq!(policy.see(&given(begin + 3, &full)), Step::Wait(Some(at(begin + 5))));
        // Well for a moment, and worse again: it helped all the while.
        assert_eq!(policy.see(&given(begin + 4, &well())), Step::Wait(Some(at(begin + 5))));
        assert_eq!(policy.see(&given(begin + 5, &full)), Step::Judge(Outcome::Repaired));
    }
}

#[test]
fn an_order_for_nothing_that_stood_is_judged_by_all_that_is_wrong() {
    let full = Verdict { state: InstanceState::Degraded, ..sick(&[FaultKind::Worse]) };
    let mut policy = Policy::default();
    policy.see(&given(0, &full));
    policy.begun(Remedy::RestartQemu);
    policy.ended(at(1), Ended::Done);
    assert_eq!(policy.see(&given(11, &full)), Step::Judge(Outcome::InVain));
}
