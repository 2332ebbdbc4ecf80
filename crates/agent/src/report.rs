//! What the agent knows, as a report. Every value is a counter's or a probe's; nothing here waits for anything.

use crate::agent::Agent;
use futures::{Stream, StreamExt as _};
use loco_guest::{GuestState, GuestStatus, Liveness};
use loco_media::{SenderStats, SessionStats};
use loco_model::report::{
    Accelerator, AudioHealth, DeepHealth, HELD, HealthReport, NetworkHealth, OverallStatus, UseHealth, VideoHealth,
    ViewerHealth,
};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Longest silence between two reports of one stream.
const LONGEST_GAP: Duration = Duration::from_secs(15);

/// The report of this moment.
pub(crate) fn report(agent: &Agent) -> HealthReport {
    let status = agent.status.borrow().clone();
    let liveness = agent.liveness.borrow().clone();
    let size = *agent.size.borrow();
    let is_stale = *agent.guest.is_stale().borrow();
    let sender = agent.sender.stats();
    let sound = agent.sound.stats();
    let stuck = agent.heart.stuck(agent.sender.encoder_busy_for());
    let mut faults = faults(agent, &sender, stuck.clone());
    faults.extend(held(&status));
    let overall_status = overall(&status, size.is_some(), liveness.frozen == Some(true), !faults.is_empty());
    let has_display = matches!(status.state, GuestState::Running | GuestState::Paused);
    HealthReport {
        instance_id: Some(agent.id),
        overall_status,
        deep_health: DeepHealth {
            qemu_healthy: qemu_healthy(status.state),
            guest_state: status.state.as_str().to_owned(),
            guest_reason: status.reason,
            guest_started_at_ms: status.started_at.and_then(unix_ms),
            guest_restarts: status.restarts,
            accelerator: status
                .accelerator
                .map(|verdict| Accelerator { name: verdict.accelerator.as_str().to_owned(), reason: verdict.reason }),
            video: VideoHealth {
                // A picture that is not the guest's is none, though it has a size.
                display_active: has_display.then_some(size.is_some() && !is_stale),
                width: size.map(|size| size.width),
                height: size.map(|size| size.height),
                estimated_frame_rate: sender.fps.filter(|_| sender.viewers > 0).map(|fps| tenths(fps.into())),
                damage_updates: sender.damage_updates,
                last_damage_age_ms: sender.last_damage_age_ms,
                frames_encoded: sender.frames_encoded,
                bytes_encoded: sender.encoded_bytes,
                encoder: sender.encoder.map(|encoder| encoder.name().to_owned()),
                encoder_fault: sender.fault.clone(),
                display: has_display.then(|| "dbus".to_owned()),
                // There is no VNC server.
                vnc_available: None,
                vnc_port: None,
            },
            audio: AudioHealth {
                audio_backend: agent.has_sound.then(|| "dbus".to_owned()),
                voices: sound.voices,
                estimated_level: sound.peak_dbfs.map(|level| tenths(level.into())),
                packets_encoded: sound.packets,
                underruns: sound.underruns,
                // Sound goes from QEMU to us, through no server and no card.
                pulse_running: None,
                audio_devices: None,
                alsa_devices: None,
                sound_active: agent.guest.hears().borrow().filter(|_| has_display && agent.has_sound),
            },
            performance: agent.sampler.performance(status.pid),
            viewers: viewers(agent),
            frozen: liveness.frozen,
            frozen_reason: liveness.reason,
            agent_stuck: stuck,
            faults,
            // The card's cable is plugged into nothing that could be counted yet.
            network: NetworkHealth { mode: agent.has_network.then(|| "none".to_owned()), ..NetworkHealth::default() },
            usage: agent.usage.health().borrow().clone(),
        },
        timestamp_ms: unix_ms(SystemTime::now()).unwrap_or(0),
    }
}

/// A report now, at every change of state (of the guest, its display, its use, the ledger, or the number of viewers), and
/// every 15 s.
pub(crate) fn reports(agent: Arc<Agent>) -> impl Stream<Item = HealthReport> + Send + 'static {
    struct Following {
        agent: Arc<Agent>,
        guest: watch::Receiver<GuestStatus>,
        liveness: watch::Receiver<Liveness>,
        stale: watch::Receiver<bool>,
        hears: watch::Receiver<Option<bool>>,
        usage: watch::Receiver<UseHealth>,
        ledger: watch::Receiver<Option<String>>,
        size: watch::Receiver<Option<loco_model::Size>>,
        viewers: watch::Receiver<usize>,
    }
    let mut following = Following {
        guest: agent.status.clone(),
        liveness: agent.liveness.clone(),
        stale: agent.guest.is_stale(),
        hears: agent.guest.hears(),
        usage: agent.usage.health(),
        ledger: agent.repair.book.fault(),
        size: agent.size.clone(),
        viewers: agent.sender.viewers(),
        agent,
    };
    // Seen from here on, and only then reported: a change in between is told twice rather than not at all.
    following.guest.mark_unchanged();
    following.liveness.mark_unchanged();
    following.stale.mark_unchanged();
    following.hears.mark_unchanged();
    following.usage.mark_unchanged();
    following.ledger.mark_unchanged();
    following.size.mark_unchanged();
    following.viewers.mark_unchanged();
    let first = {
        let agent = following.agent.clone();
        futures::stream::once(async move { report(&agent) })
    };
    let rest = futures::stream::unfold(following, |mut following| async move {
        // A part that ended changes no more; the others go on, and the agent's end ends the stream.
        tokio::select! {
            Ok(()) = following.guest.changed() => {}
            Ok(()) = following.liveness.changed() => {}
            Ok(()) = following.stale.changed() => {}
            Ok(()) = following.hears.changed() => {}
            Ok(()) = following.usage.changed() => {}
            Ok(()) = following.ledger.changed() => {}
            Ok(()) = following.size.changed() => {}
            Ok(()) = following.viewers.changed() => {}
            () = tokio::time::sleep(LONGEST_GAP) => {}
        }
        let report = report(&following.agent);
        Some((report, following))
    });
    first.chain(rest)
}

/// QEMU's monitor answered when the guest was last found running or paused, and QEMU has not ended since.
fn qemu_healthy(state: GuestState) -> Option<bool> {
    match state {
        GuestState::Starting => None,
        GuestState::Running | GuestState::Paused | GuestState::Stopping => Some(true),
        GuestState::Stopped | GuestState::Failed => Some(false),
    }
}

/// What the agent itself sees to be wrong, beside the guest's own state.
fn faults(agent: &Agent, sender: &SenderStats, stuck: Option<String>) -> Vec<String> {
    let encoder = sender.fault.as_ref().map(|fault| format!("no picture for the viewers: {fault}"));
    [stuck, encoder, agent.repair.book.fault().borrow().clone()].into_iter().flatten().collect()
}

/// What is wrong with a guest that stands still though nobody wants it to.
fn held(status: &GuestStatus) -> Option<String> {
    let why = status.reason.as_deref().unwrap_or("its disk cannot be written or read");
    status.is_held.then(|| format!("{HELD}: {why}"))
}

fn overall(status: &GuestStatus, shows_picture: bool, is_frozen: bool, has_fault: bool) -> OverallStatus {
    match status.state {
        GuestState::Failed => OverallStatus::Unhealthy,
        GuestState::Running | GuestState::Paused if is_frozen => OverallStatus::Unhealthy,
        GuestState::Running | GuestState::Paused if has_fault => OverallStatus::Degraded,
        GuestState::Running if shows_picture => OverallStatus::Healthy,
        GuestState::Starting | GuestState::Running => OverallStatus::Unknown,
        // On purpose.
        GuestState::Paused | GuestState::Stopping | GuestState::Stopped => OverallStatus::Healthy,
    }
}

/// A report as it goes over the wire: what is unknown is left out, which says the same in fewer bytes.
pub(crate) fn compact(report: &HealthReport) -> Value {
    // A report has no keys but strings: it always serialises.
    let mut value = serde_json::to_value(report).unwrap_or_default();
    leave_out_null(&mut value);
    value
}

fn leave_out_null(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(leave_out_null);
        }
        Value::Array(elements) => elements.iter_mut().for_each(leave_out_null),
        _ => {}
    }
}

/// More digits say nothing and cost bytes.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn unix_ms(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok())
}

fn viewers(agent: &Agent) -> Vec<ViewerHealth> {
    let health = |session: SessionStats| ViewerHealth {
        session: session.id,
        state: if session.connected { "connected" } else { "connecting" }.to_owned(),
        age_ms: u64::try_from(session.age.as_millis()).unwrap_or(u64::MAX),
        video_codec: Some(session.codec.to_owned()),
        frames_sent: session.frames_sent,
        key_frames_requested: session.key_frame_requests,
        bytes_sent: Some(session.bytes_sent),
        retransmissions: Some(session.resent),
        rtt_ms: session.round_trip.map(|time| tenths(time.as_secs_f64() * 1_000.0)),
        path: session.path.as_ref().map(|path| path.kind.word().to_owned()),
        address: session.path.map(|path| path.remote),
        limited_by: session.rate.limits.map(|limits| limits.limiter.word().to_owned()),
        target_bit_rate: session.connected.then_some(session.rate.target),
        received_bit_rate: session.rate.received,
        queue_ms: session.rate.queue_ms.map(|ms| tenths(ms.into())),
        loss: session.rate.loss.map(|loss| (f64::from(loss) * 10_000.0).round() / 10_000.0),
    };
    agent.sender.sessions().into_iter().map(health).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_follows_the_guest() {
        use GuestState::{Failed, Paused, Running, Starting, Stopped};
        for (state, shows_picture, frozen, fault, want, healthy) in [
            (Starting, false, false, false, OverallStatus::Unknown, None),
            (Starting, true, false, true, OverallStatus::Unknown, None),
            (Running, false, false, false, OverallStatus::Unknown, Some(true)),
            (Running, true, false, false, OverallStatus::Healthy, Some(true)),
            (Running, true, false, true, OverallStatus::Degraded, Some(true)),
            (Running, true, true, true, OverallStatus::Unhealthy, Some(true)),
            (Paused, true, false, false, OverallStatus::Healthy, Some(true)),
            (Paused, true, true, false, OverallStatus::Unhealthy, Some(true)),
            (Stopped, false, false, false, OverallStatus::Healthy, Some(false)),
            (Failed, false, false, false, OverallStatus::Unhealthy, Some(false)),
        ] {
            let status = GuestStatus { state, ..GuestStatus::default() };
            assert_eq!(
                overall(&status, shows_picture, frozen, fault),
                want,
                "{state} {shows_picture} {frozen} {fault}"
            );
            assert_eq!(qemu_healthy(state), healthy, "{state}");
        }
    }

    #[test]
    fn a_held_guest_is_a_fault_and_a_paused_one_is_none() {
        let paused = GuestStatus { state: GuestState::Paused, ..GuestStatus::default() };
        assert_eq!(held(&paused), None);
        let held = held(&GuestStatus { is_held: true, reason: Some("no space is left".to_owned()), ..paused });
        assert!(held.is_some_and(|fault| fault.starts_with(HELD) && fault.ends_with("no space is left")));
    }

    #[test]
    fn what_is_left_out_reads_as_null() {
        let mut report = HealthReport { timestamp_ms: 7, ..HealthReport::default() };
        report.deep_health.viewers = vec![ViewerHealth { rtt_ms: Some(1.5), ..ViewerHealth::default() }];
        report.deep_health.performance.load_average = Some([0.1, 0.2, 0.3]);
        let value = compact(&report);
        assert!(!value.to_string().contains("null"), "{value}");
        assert_eq!(serde_json::from_value::<HealthReport>(value).ok(), Some(report));
    }
}
