//! What an agent's own report says.

use super::{Fault, FaultKind, Limits, Observed};
use crate::instance::InstanceState;
use crate::report::{DeepHealth, HELD, HealthReport, OverallStatus};

/// What is said of a picture that is not the guest's.
const STALE: &str = "guest runs and its picture is stale: QEMU shows another one";

/// The word for an instance whose agent answers, and what is wrong with it.
pub(super) fn word(report: &HealthReport, observed: &Observed<'_>) -> (InstanceState, Option<String>, Vec<Fault>) {
    use InstanceState::{Connecting, Degraded, Failed, Live, Recovering, Stopped};
    let health = &report.deep_health;
    let limits = observed.limits;
    let beginning = if observed.was_live || health.guest_restarts > 0 { Recovering } else { Connecting };
    let said = |default: &str| health.guest_reason.clone().unwrap_or_else(|| default.to_owned());
    match health.guest_state.as_str() {
        "starting" if observed.waiting_ms >= limits.start_ms => {
            let text = format!("guest has been starting for {} s", observed.waiting_ms / 1_000);
            (Failed, Some(text.clone()), vec![Fault::new(FaultKind::GuestStuck, text)])
        }
        // Its agent says why only of one that ended unasked.
        "starting" if health.guest_restarts > 0 && health.guest_reason.is_some() => {
            let text = said("QEMU ended");
            (Recovering, Some(text.clone()), vec![Fault::new(FaultKind::GuestEnded, text)])
        }
        "starting" => (beginning, Some(said("guest is starting")), Vec::new()),
        "running" => {
            let faults = running(report, observed);
            let shows = health.video.display_active == Some(true);
            // One that shows its picture works somehow, whatever its agent thinks of it.
            let works_somehow = |kind| shows && matches!(kind, FaultKind::Unwell | FaultKind::AgentStuck);
            let is_dead =
                |fault: &&Fault| fault.kind.severity() == OverallStatus::Unhealthy && !works_somehow(fault.kind);
            let dead = faults.iter().find(is_dead);
            match dead {
                Some(fault) => (Failed, Some(fault.text.clone()), faults),
                None if !shows => {
                    let text = match (is_stale(health), observed.was_shown) {
                        (true, _) => STALE,
                        (false, true) => "guest shows no picture any more",
                        (false, false) => "guest has not shown a picture yet",
                    };
                    (beginning, Some(text.to_owned()), faults)
                }
                None => (Live, None, faults),
            }
        }
        "paused" if let Some(held) = health.faults.iter().find(|fault| fault.starts_with(HELD)) => {
            // It goes on by itself as soon as it can: starting it again would lose what it has not written.
            (Failed, Some(held.clone()), vec![Fault::new(FaultKind::Worse, held.clone())])
        }
        "paused" => (Stopped, Some(said("guest is paused")), Vec::new()),
        "stopping" => (Stopped, Some(said("guest is powering down")), Vec::new()),
        "stopped" => (Stopped, health.guest_reason.clone(), Vec::new()),
        "failed" => {
            let text = said("guest failed");
            (Failed, Some(text.clone()), vec![Fault::new(FaultKind::GuestFailed, text)])
        }
        other => {
            let text = format!("agent reports an unknown guest state {other:?}");
            (Degraded, Some(text.clone()), vec![Fault::new(FaultKind::Worse, text)])
        }
    }
}

/// What is wrong with a guest that should run.
fn running(report: &HealthReport, observed: &Observed<'_>) -> Vec<Fault> {
    let health = &report.deep_health;
    let stuck = health.agent_stuck.as_ref();
    let mut faults: Vec<Fault> =
        stuck.map(|text| Fault::new(FaultKind::AgentStuck, text.clone())).into_iter().collect();
    faults.extend(machine(health, observed));
    faults.extend(amounts(health, observed.limits));
    faults.extend(network(health, observed));
    if faults.iter().all(|fault| fault.kind == FaultKind::PathLoss) {
        faults.extend(own_words(report));
    }
    faults
}

/// An agent tells the size of a picture that it does not call active only of one that is not the guest's any more.
fn is_stale(health: &DeepHealth) -> bool {
    health.video.display_active == Some(false) && health.video.width.is_some()
}

/// QEMU itself, its picture and its sound.
fn machine(health: &DeepHealth, observed: &Observed<'_>) -> Vec<Fault> {
    // What stands still gives no picture and answers nothing: that is one fault and not three.
    if health.frozen == Some(true) {
        let why = health.frozen_reason.as_deref().unwrap_or("QEMU does not run on");
        return vec![Fault::new(FaultKind::Frozen, format!("guest stands still: {why}"))];
    }
    if health.qemu_healthy == Some(false) {
        return vec![Fault::new(FaultKind::QemuSilent, "QEMU does not answer")];
    }
    let limit = if observed.was_shown { observed.limits.picture_ms } else { observed.limits.first_picture_ms };
    let mut faults = Vec::new();
    if health.video.display_active != Some(true) && observed.waiting_ms >= limit {
        let text = if is_stale(health) { STALE } else { "guest runs and shows no picture" };
        faults.push(Fault::new(FaultKind::DisplayGone, text));
    }
    if health.audio.sound_active == Some(false) || health.audio.pulse_running == Some(false) {
        faults.push(Fault::new(FaultKind::SoundGone, "guest runs and its sound cannot be had"));
    }
    if let Some(fault) = &health.video.encoder_fault {
        faults.push(Fault::new(FaultKind::EncoderFault, format!("no picture for the viewers: {fault}")));
    }
    faults
}

/// What it takes of its machine.
fn amounts(health: &DeepHealth, limits: &Limits) -> Vec<Fault> {
    let performance = &health.performance;
    let mut faults = Vec::new();
    if let (Some(cores), Some(limit)) = (performance.qemu_cpu, limits.qemu_cores)
        && cores > limit
    {
        faults.push(Fault::new(
            FaultKind::CpuOver,
            format!("QEMU takes {cores:.2} cores: at most {limit:.2} are allowed"),
        ));
    }
    if let (Some(percent), Some(limit)) = (performance.qemu_memory, limits.qemu_memory_percent)
        && percent > limit
    {
        let text = format!("QEMU takes {percent:.0} % of its memory: at most {limit:.0} % are allowed");
        faults.push(Fault::new(FaultKind::MemoryOver, text));
    }
    if let (Some(bytes), Some(limit)) = (performance.agent_memory_bytes, limits.agent_memory_bytes)
        && bytes > limit
    {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let text = format!("agent takes {} MiB: at most {} MiB are allowed", mib(bytes), mib(limit));
        faults.push(Fault::new(FaultKind::AgentMemoryOver, text));
    }
    faults
}

/// The guests' segment, and the way to viewers.
fn network(health: &DeepHealth, observed: &Observed<'_>) -> Vec<Fault> {
    let limits = observed.limits;
    let mut faults = Vec::new();
    if health.network.bridge_up == Some(false) {
        faults.push(Fault::new(FaultKind::SegmentDown, "the guests' bridge is down"));
    } else if health.network.tap_up == Some(false) {
        faults.push(Fault::new(FaultKind::SegmentDown, "guest's end of the segment is down"));
    } else if let Some(errors) =
        observed.rates.network_errors.filter(|errors| *errors > limits.network_errors_per_minute)
    {
        let text = format!("guest's network card loses {errors:.0} frames a minute");
        faults.push(Fault::new(FaultKind::SegmentErrors, text));
    }
    // One viewer on a bad link is that link's matter; all of them are the agent's.
    let losses: Vec<f64> =
        health.viewers.iter().filter(|viewer| viewer.state == "connected").filter_map(|viewer| viewer.loss).collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    if !losses.is_empty() && least > limits.path_loss {
        let text = format!("every viewer loses packets, {:.0} % at least", least * 100.0);
        faults.push(Fault::new(FaultKind::PathLoss, text));
    }
    faults
}

/// What the agent says in words only.
fn own_words(report: &HealthReport) -> Vec<Fault> {
    let health = &report.deep_health;
    let kind = match report.overall_status {
        OverallStatus::Unhealthy => FaultKind::Unwell,
        OverallStatus::Degraded => FaultKind::Worse,
        OverallStatus::Healthy | OverallStatus::Unknown => return Vec::new(),
    };
    let mut words: Vec<&str> = health.faults.iter().map(String::as_str).collect();
    if words.is_empty() {
        words.push(health.guest_reason.as_deref().unwrap_or("agent says that something is wrong, and not what"));
    }
    words.into_iter().map(|text| Fault::new(kind, text)).collect()
}
