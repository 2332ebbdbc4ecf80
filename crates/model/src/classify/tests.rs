//! The classification, case by case.

use super::*;
use crate::failure::FailureClass as Class;
use crate::instance::InstanceId;
use crate::report::ViewerHealth;
use crate::usage::QualityLevel;
use FaultKind as Kind;
use InstanceState::{Connecting, Degraded, Failed, Live, Recovering, Stopped};
use OverallStatus::{Healthy, Unhealthy, Unknown};

/// What the pure function is given, in a shape that a row can change.
struct Case {
    phase: Phase<'static>,
    contact: Contact<'static>,
    report: Option<HealthReport>,
    was_live: bool,
    was_shown: bool,
    waiting_ms: u64,
    rates: Rates,
    sessions: Vec<(String, SessionReport)>,
    limits: Limits,
}

impl Case {
    /// A guest that runs, shows its picture and is watched.
    fn live() -> Self {
        let mut report = HealthReport { overall_status: Healthy, ..HealthReport::default() };
        let health = &mut report.deep_health;
        health.qemu_healthy = Some(true);
        health.guest_state = "running".into();
        health.frozen = Some(false);
        health.video.display_active = Some(true);
        health.audio.sound_active = Some(true);
        Self {
            phase: Phase::Up,
            contact: Contact::Well,
            report: Some(report),
            was_live: true,
            was_shown: true,
            waiting_ms: 0,
            rates: Rates::default(),
            sessions: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// One that is being started for the first time.
    fn new() -> Self {
        Self { report: None, contact: Contact::Never, was_live: false, was_shown: false, ..Self::live() }
    }

    fn health(&mut self) -> &mut crate::report::DeepHealth {
        &mut self.report.as_mut().expect("a report").deep_health
    }

    fn guest(&mut self, state: &str) {
        state.clone_into(&mut self.health().guest_state);
    }

    fn overall(&mut self, status: OverallStatus) {
        self.report.as_mut().expect("a report").overall_status = status;
    }

    fn no_picture(&mut self, for_ms: u64) {
        self.health().video.display_active = Some(false);
        self.waiting_ms = for_ms;
    }

    fn lost(&mut self, for_ms: u64) {
        self.contact = Contact::Lost { reason: "connection refused", for_ms };
    }

    fn session(&mut self, state: &str, quality: Option<QualityLevel>, fault: Option<&str>) {
        let session = SessionReport {
            quality,
            reason: Some("no route".into()),
            fault: fault.map(str::to_owned),
            ..SessionReport::new(InstanceId::try_new(0).expect("index"), state)
        };
        self.sessions.push((format!("ada-{}", self.sessions.len()), session));
    }

    fn path(&mut self, state: &str, loss: Option<f64>) {
        self.health().viewers.push(ViewerHealth { state: state.into(), loss, ..ViewerHealth::default() });
    }

    fn verdict(&self) -> Verdict {
        classify(&Observed {
            phase: self.phase,
            contact: self.contact,
            report: self.report.as_ref(),
            was_live: self.was_live,
            was_shown: self.was_shown,
            waiting_ms: self.waiting_ms,
            rates: self.rates,
            sessions: &self.sessions,
            limits: &self.limits,
        })
    }
}

/// What it is like; how it gets so; then word, class, whole, kinds in their order, part of the reason.
type Row = (&'static str, fn(&mut Case), InstanceState, Class, OverallStatus, &'static [Kind], &'static str);

fn check(base: fn() -> Case, rows: &[Row]) {
    for (name, change, state, class, overall, kinds, reason) in rows {
        let mut case = base();
        change(&mut case);
        let verdict = case.verdict();
        let found: Vec<Kind> = verdict.faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(
            (verdict.state, verdict.class, verdict.overall, found.as_slice()),
            (*state, *class, *overall, *kinds),
            "{name}: {verdict:?}"
        );
        let said = verdict.reason.as_deref().unwrap_or_default();
        assert!(said.contains(reason), "{name}: {said:?} does not say {reason:?}");
        assert_eq!(reason.is_empty(), said.is_empty(), "{name}: {said:?}");
        assert_eq!(verdict.recommendation.is_some(), !kinds.is_empty(), "{name}: {verdict:?}");
        assert!(verdict.faults.iter().all(|fault| !fault.text.is_empty() && !fault.text.contains('\n')), "{name}");
    }
}

#[test]
#[rustfmt::skip] // one row, one line
fn starting() {
    check(
        Case::new,
        &[
            ("being started", |c| c.phase = Phase::Starting, Connecting, Class::None, Unknown, &[], "starting"),
            ("up, silent", |_| {}, Connecting, Class::None, Unknown, &[], "not answered yet"),
            ("up, silent for 29 s", |c| c.waiting_ms = 29_999, Connecting, Class::None, Unknown, &[], "not answered yet"),
            ("up, silent for 30 s", |c| c.waiting_ms = 30_000, Failed, Class::Network, Unhealthy, &[Kind::AgentSilent], "not answered"),
            ("up, refused", |c| c.lost(10), Connecting, Class::None, Unknown, &[], "connection refused"),
            ("refused for long", |c| c.lost(31_000), Failed, Class::Network, Unhealthy, &[Kind::AgentSilent], "connection refused"),
            ("connected, no report", |c| c.contact = Contact::Well, Connecting, Class::None, Unknown, &[], "not reported"),
            ("again after it was live", |c| c.was_live = true, Recovering, Class::None, Unknown, &[], "not answered yet"),
            ("ended", |c| c.phase = Phase::Restarting("agent exited: restarting"), Recovering, Class::Qemu, Unhealthy, &[Kind::AgentEnded], "agent exited"),
            ("cannot be started", |c| c.phase = Phase::Failed("no QEMU"), Failed, Class::Qemu, Unhealthy, &[Kind::AgentFailed], "no QEMU"),
            ("switched off", |c| c.phase = Phase::Stopped, Stopped, Class::None, Healthy, &[], ""),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row, one line
fn guests() {
    check(
        Case::live,
        &[
            ("live", |_| {}, Live, Class::None, Healthy, &[], ""),
            ("live for the first time", |c| c.was_live = false, Live, Class::None, Healthy, &[], ""),
            ("restarted often, live now", |c| c.health().guest_restarts = 9, Live, Class::None, Healthy, &[], ""),
            ("nothing is known but a picture", |c| c.overall(Unknown), Live, Class::None, Healthy, &[], ""),
            // A still desktop is never called dead.
            ("still for an hour", |c| c.health().video.last_damage_age_ms = Some(3_600_000), Live, Class::None, Healthy, &[], ""),
            ("never drew anything new", |c| c.health().video.last_damage_age_ms = None, Live, Class::None, Healthy, &[], ""),
            ("no frame a second", |c| c.health().video.estimated_frame_rate = Some(0.0), Live, Class::None, Healthy, &[], ""),
            ("still and no CPU taken", |c| c.health().performance.qemu_cpu = Some(0.0), Live, Class::None, Healthy, &[], ""),
            ("silent", |c| c.health().audio.estimated_level = None, Live, Class::None, Healthy, &[], ""),
            ("without sound by its profile", |c| c.health().audio.sound_active = None, Live, Class::None, Healthy, &[], ""),
            ("not known whether frozen", |c| c.health().frozen = None, Live, Class::None, Healthy, &[], ""),
            // Off on purpose is no fault, whatever else is so.
            ("paused", |c| c.guest("paused"), Stopped, Class::None, Healthy, &[], "paused"),
            ("paused and frozen", |c| { c.guest("paused"); c.health().frozen = Some(true); }, Stopped, Class::None, Healthy, &[], "paused"),
            ("held by its disk", |c| { c.guest("paused"); c.health().faults = vec!["no ledger".into(), format!("{}: no space is left", crate::report::HELD)]; }, Failed, Class::Qemu, OverallStatus::Degraded, &[Kind::Worse], "no space"),
            ("paused, no picture", |c| { c.guest("paused"); c.no_picture(99_000); }, Stopped, Class::None, Healthy, &[], "paused"),
            ("powering down", |c| c.guest("stopping"), Stopped, Class::None, Healthy, &[], "powering down"),
            ("stopped", |c| { c.guest("stopped"); c.health().qemu_healthy = Some(false); }, Stopped, Class::None, Healthy, &[], ""),
            ("stopped, and why", |c| { c.guest("stopped"); c.health().guest_reason = Some("powered off".into()); }, Stopped, Class::None, Healthy, &[], "powered off"),
            ("stopped by its owner, agent lost", |c| { c.phase = Phase::Stopped; c.lost(99_000); }, Stopped, Class::None, Healthy, &[], ""),
            // Starting.
            ("starting again", |c| c.guest("starting"), Recovering, Class::None, Unknown, &[], "starting"),
            ("starting, and what for", |c| { c.guest("starting"); c.health().guest_reason = Some("QEMU is looked for".into()); }, Recovering, Class::None, Unknown, &[], "looked for"),
            ("ended and starting", |c| { c.guest("starting"); c.health().guest_restarts = 1; c.health().guest_reason = Some("QEMU was killed".into()); }, Recovering, Class::Qemu, Unhealthy, &[Kind::GuestEnded], "killed"),
            ("ended for the first time and starting", |c| { c.was_live = false; c.guest("starting"); c.health().guest_restarts = 1; c.health().guest_reason = Some("QEMU was killed".into()); }, Recovering, Class::Qemu, Unhealthy, &[Kind::GuestEnded], "killed"),
            ("agent stuck", |c| c.health().agent_stuck = Some("the agent's timers".into()), Degraded, Class::Qemu, Unhealthy, &[Kind::AgentStuck], "timers"),
            ("encoder broken", |c| { c.overall(OverallStatus::Degraded); c.health().video.encoder_fault = Some("no x264".into()); }, Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::EncoderFault], "no x264"),
            ("starting for 59 s", |c| { c.guest("starting"); c.waiting_ms = 59_999; }, Recovering, Class::None, Unknown, &[], "starting"),
            ("starting for a minute", |c| { c.guest("starting"); c.waiting_ms = 60_000; }, Failed, Class::Qemu, Unhealthy, &[Kind::GuestStuck], "60 s"),
            ("first picture not yet", |c| { c.was_shown = false; c.no_picture(29_999); }, Recovering, Class::None, Unknown, &[], "picture yet"),
            ("first picture never", |c| { c.was_shown = false; c.no_picture(30_000); }, Failed, Class::Qemu, Unhealthy, &[Kind::DisplayGone], "no picture"),
            ("picture away for a moment", |c| c.no_picture(4_999), Recovering, Class::None, Unknown, &[], "no picture any more"),
            ("picture gone", |c| c.no_picture(5_000), Failed, Class::Qemu, Unhealthy, &[Kind::DisplayGone], "no picture"),
            ("picture stale", |c| { c.no_picture(5_000); c.health().video.width = Some(640); }, Failed, Class::Qemu, Unhealthy, &[Kind::DisplayGone], "stale"),
            ("picture stale just now", |c| { c.no_picture(4_999); c.health().video.width = Some(640); }, Recovering, Class::None, Unknown, &[], "stale"),
            ("picture not known, gone", |c| { c.health().video.display_active = None; c.waiting_ms = 5_000; }, Failed, Class::Qemu, Unhealthy, &[Kind::DisplayGone], "no picture"),
            // Broken.
            ("frozen", |c| c.health().frozen = Some(true), Failed, Class::Qemu, Unhealthy, &[Kind::Frozen], "stands still"),
            ("frozen, and why", |c| { c.health().frozen = Some(true); c.health().frozen_reason = Some("QEMU is stopped (SIGSTOP)".into()); }, Failed, Class::Qemu, Unhealthy, &[Kind::Frozen], "SIGSTOP"),
            ("frozen hides the rest", |c| { c.health().frozen = Some(true); c.health().qemu_healthy = Some(false); c.no_picture(9_000); }, Failed, Class::Qemu, Unhealthy, &[Kind::Frozen], "stands still"),
            ("monitor silent", |c| c.health().qemu_healthy = Some(false), Failed, Class::Qemu, Unhealthy, &[Kind::QemuSilent], "does not answer"),
            ("given up", |c| c.guest("failed"), Failed, Class::Qemu, Unhealthy, &[Kind::GuestFailed], "guest failed"),
            ("given up, and why", |c| { c.guest("failed"); c.health().guest_reason = Some("disk is gone".into()); }, Failed, Class::Qemu, Unhealthy, &[Kind::GuestFailed], "disk is gone"),
            ("sound gone", |c| c.health().audio.sound_active = Some(false), Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::SoundGone], "sound"),
            ("sound server gone", |c| c.health().audio.pulse_running = Some(false), Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::SoundGone], "sound"),
            ("picture and sound gone", |c| { c.no_picture(5_000); c.health().audio.sound_active = Some(false); }, Failed, Class::Qemu, Unhealthy, &[Kind::DisplayGone, Kind::SoundGone], "no picture"),
            ("agent is unwell", |c| c.overall(Unhealthy), Degraded, Class::Qemu, Unhealthy, &[Kind::Unwell], "not what"),
            ("agent is unwell, no picture yet", |c| { c.overall(Unhealthy); c.no_picture(0); }, Failed, Class::Qemu, Unhealthy, &[Kind::Unwell], "not what"),
            ("agent is worse, and why", |c| { c.overall(OverallStatus::Degraded); c.health().faults = vec!["disk is full".into()]; }, Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::Worse], "disk is full"),
            ("no encoder", |c| { c.overall(OverallStatus::Degraded); c.health().guest_reason = Some("no encoder".into()); }, Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::Worse], "no encoder"),
            ("an unknown word", |c| c.guest("dancing"), Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::Worse], "dancing"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row, one line
fn amounts() {
    check(
        Case::live,
        &[
            ("CPU without a limit", |c| c.health().performance.qemu_cpu = Some(8.0), Live, Class::None, Healthy, &[], ""),
            ("CPU at its limit", |c| { c.limits.qemu_cores = Some(1.0); c.health().performance.qemu_cpu = Some(1.0); }, Live, Class::None, Healthy, &[], ""),
            ("CPU over its limit", |c| { c.limits.qemu_cores = Some(0.5); c.health().performance.qemu_cpu = Some(0.75); }, Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::CpuOver], "0.75 cores"),
            ("CPU not known", |c| c.limits.qemu_cores = Some(0.5), Live, Class::None, Healthy, &[], ""),
            ("memory at its limit", |c| c.health().performance.qemu_memory = Some(95.0), Live, Class::None, Healthy, &[], ""),
            ("memory over its limit", |c| c.health().performance.qemu_memory = Some(96.0), Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::MemoryOver], "96 %"),
            ("memory unlimited", |c| { c.health().performance.qemu_memory = Some(99.0); c.limits.qemu_memory_percent = None; }, Live, Class::None, Healthy, &[], ""),
            ("agent's memory over its limit", |c| { c.limits.agent_memory_bytes = Some(1 << 20); c.health().performance.agent_memory_bytes = Some(3 << 20); }, Degraded, Class::Qemu, OverallStatus::Degraded, &[Kind::AgentMemoryOver], "3 MiB"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row, one line
fn networks() {
    check(
        Case::live,
        &[
            ("lost a moment ago", |c| c.lost(10), Recovering, Class::Network, Unhealthy, &[Kind::AgentSilent], "connection refused"),
            ("lost for long", |c| c.lost(30_000), Failed, Class::Network, Unhealthy, &[Kind::AgentSilent], "connection refused"),
            ("lost while paused", |c| { c.guest("paused"); c.lost(40_000); }, Failed, Class::Network, Unhealthy, &[Kind::AgentSilent], "refused"),
            ("lost, and its old report is not believed", |c| { c.health().frozen = Some(true); c.lost(10); }, Recovering, Class::Network, Unhealthy, &[Kind::AgentSilent], "refused"),
            ("ended, and its old report is not believed", |c| { c.health().frozen = Some(true); c.phase = Phase::Restarting("agent exited"); }, Recovering, Class::Qemu, Unhealthy, &[Kind::AgentEnded], "exited"),
            ("segment is up", |c| { c.health().network.bridge_up = Some(true); c.health().network.tap_up = Some(true); }, Live, Class::None, Healthy, &[], ""),
            ("bridge down", |c| c.health().network.bridge_up = Some(false), Degraded, Class::Network, OverallStatus::Degraded, &[Kind::SegmentDown], "bridge"),
            ("tap down", |c| c.health().network.tap_up = Some(false), Degraded, Class::Network, OverallStatus::Degraded, &[Kind::SegmentDown], "end of the segment"),
            ("both down is one fault", |c| { c.health().network.bridge_up = Some(false); c.health().network.tap_up = Some(false); }, Degraded, Class::Network, OverallStatus::Degraded, &[Kind::SegmentDown], "bridge"),
            ("errors long ago", |c| { c.health().network.tx_errors = Some(9_999); c.rates.network_errors = Some(0.0); }, Live, Class::None, Healthy, &[], ""),
            ("a few errors", |c| c.rates.network_errors = Some(60.0), Live, Class::None, Healthy, &[], ""),
            ("many errors", |c| c.rates.network_errors = Some(61.0), Degraded, Class::Network, OverallStatus::Degraded, &[Kind::SegmentErrors], "61 frames"),
            ("one viewer on a bad link", |c| { c.path("connected", Some(0.5)); c.path("connected", Some(0.0)); }, Live, Class::None, Healthy, &[], ""),
            ("every viewer on a bad link", |c| { c.path("connected", Some(0.5)); c.path("connected", Some(0.2)); }, Degraded, Class::Network, OverallStatus::Degraded, &[Kind::PathLoss], "20 %"),
            ("only the connected count", |c| { c.path("connecting", Some(0.9)); c.path("connected", None); }, Live, Class::None, Healthy, &[], ""),
            ("loss, and the agent says something", |c| { c.path("connected", Some(0.5)); c.overall(OverallStatus::Degraded); c.health().faults = vec!["disk is full".into()]; }, Degraded, Class::Mixed, OverallStatus::Degraded, &[Kind::PathLoss, Kind::Worse], "lose"),
            ("segment down and frozen", |c| { c.health().network.tap_up = Some(false); c.health().frozen = Some(true); }, Failed, Class::Mixed, Unhealthy, &[Kind::SegmentDown, Kind::Frozen], "stands still"),
            ("segment down and sound gone", |c| { c.health().network.tap_up = Some(false); c.health().audio.sound_active = Some(false); }, Degraded, Class::Mixed, OverallStatus::Degraded, &[Kind::SegmentDown, Kind::SoundGone], "segment"),
        ],
    );
}

#[test]
#[rustfmt::skip] // one row, one line
fn viewers() {
    use QualityLevel::{Excellent, Lost, Poor};
    check(
        Case::live,
        &[
            ("seen well", |c| c.session("connected", Some(Excellent), None), Live, Class::None, Healthy, &[], ""),
            ("seen badly is the network's adapting", |c| c.session("connected", Some(Poor), None), Live, Class::None, Healthy, &[], ""),
            ("connecting", |c| c.session("connecting", None, None), Live, Class::None, Healthy, &[], ""),
            ("connected, not judged yet", |c| c.session("connected", None, None), Live, Class::None, Healthy, &[], ""),
            ("decoder", |c| c.session("connected", Some(Lost), Some("no decoder for H.264")), Degraded, Class::Client, OverallStatus::Degraded, &[Kind::DecoderFault], "no decoder"),
            ("session failed", |c| c.session("failed", None, None), Degraded, Class::Client, OverallStatus::Degraded, &[Kind::SessionFailed], "no route"),
            ("session begun again", |c| c.session("reconnecting", Some(Lost), None), Degraded, Class::Client, OverallStatus::Degraded, &[Kind::SessionFailed], "no session"),
            ("connected and nothing comes", |c| c.session("connected", Some(Lost), None), Degraded, Class::Client, OverallStatus::Degraded, &[Kind::SessionFailed], "no picture"),
            ("two of them", |c| { c.session("failed", None, None); c.session("failed", None, None); }, Degraded, Class::Client, OverallStatus::Degraded, &[Kind::SessionFailed, Kind::SessionFailed], "ada-0"),
            // Only if the agent itself is well.
            ("frozen and failed", |c| { c.health().frozen = Some(true); c.session("failed", None, None); }, Failed, Class::Qemu, Unhealthy, &[Kind::Frozen], "still"),
            ("starting and failed", |c| { c.guest("starting"); c.session("failed", None, None); }, Recovering, Class::None, Unknown, &[], "starting"),
            ("paused and lost", |c| { c.guest("paused"); c.session("connected", Some(Lost), None); }, Stopped, Class::None, Healthy, &[], "paused"),
            ("unreachable and failed", |c| { c.lost(10); c.session("failed", None, None); }, Recovering, Class::Network, Unhealthy, &[Kind::AgentSilent], "refused"),
        ],
    );
}

#[test]
fn one_who_sees_badly_does_not_make_others_see_worse() {
    let mut case = Case::live();
    case.session("connected", Some(QualityLevel::Lost), Some("decoder"));
    assert_eq!(case.verdict().remedies(), [Remedy::RestartStream, Remedy::LowerQuality]);
    case.session("connected", Some(QualityLevel::Good), None);
    assert_eq!(case.verdict().remedies(), [Remedy::RestartStream]);
}

#[test]
fn remedies_come_in_the_order_of_their_class_and_once() {
    let mut case = Case::live();
    case.health().network.tap_up = Some(false);
    case.no_picture(5_000);
    case.health().audio.sound_active = Some(false);
    use Remedy::{ResetDisplay, ResetNetwork, ResetSound, RestartAgent, RestartQemu, RestartStream};
    let verdict = case.verdict();
    assert_eq!(verdict.remedies(), [ResetNetwork, RestartStream, ResetDisplay, RestartQemu, RestartAgent, ResetSound]);
    assert_eq!(verdict.class, Class::Mixed);
    assert!(verdict.recovery_needed() && !verdict.is_well() && !verdict.is_under_way());
}

#[test]
fn every_kind_is_told_apart() {
    for kind in Kind::ALL {
        assert_ne!(kind.class(), Class::None, "{kind:?}");
        assert_ne!(kind.class(), Class::Mixed, "{kind:?}");
        assert!(matches!(kind.severity(), OverallStatus::Degraded | Unhealthy), "{kind:?}");
        let remedies = kind.remedies();
        assert!(remedies.iter().all(|remedy| !spoken(*remedy).is_empty()), "{kind:?}");
    }
    // What is repaired without anyone's order needs none.
    assert!(Kind::AgentEnded.remedies().is_empty() && Kind::PathLoss.remedies().is_empty());
    assert!(Verdict::unknown().is_under_way());
}
