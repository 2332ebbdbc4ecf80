//! A report in the text format that Prometheus reads (OpenMetrics 1.0). Only what was counted is there.

use loco_model::recovery::Ledger;
use loco_model::report::HealthReport;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::borrow::Cow;
use std::fmt;

/// Media type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The report as text; an absent value is an absent line.
///
/// # Errors
/// Never in practice: writing into a string does not fail.
pub(crate) fn text(report: &HealthReport, ledger: &Ledger) -> Result<String, fmt::Error> {
    let labels = report.instance_id.map(|id| (Cow::Borrowed("instance_id"), Cow::Owned(id.to_string())));
    let mut registry = Registry::with_prefix_and_labels("loco", labels.into_iter());
    let health = &report.deep_health;
    let (video, performance) = (&health.video, &health.performance);
    for (name, help, value) in [
        ("guest_restarts", "Times that QEMU was started again because it had ended unasked", health.guest_restarts),
        ("damage_updates", "Display updates that changed at least one pixel", video.damage_updates),
        ("frames_encoded", "Video frames encoded", video.frames_encoded),
        ("encoded_bytes", "Bytes of encoded video", video.bytes_encoded),
        ("sound_packets_encoded", "Opus packets encoded", health.audio.packets_encoded),
        ("sound_underruns", "Times that the guest's sound stopped in the middle", health.audio.underruns),
    ] {
        registry.register(name, help, ConstCounter::new(value));
    }
    let slowest = health.viewers.iter().filter_map(|viewer| viewer.target_bit_rate).min();
    let queue_ms = health.viewers.iter().filter_map(|viewer| viewer.queue_ms).reduce(f64::max);
    let flag = |value: Option<bool>| value.map(|value| f64::from(u8::from(value)));
    let count = |value: Option<u64>| value.map(|value| value as f64);
    let ratio = |percent: Option<f64>| percent.map(|percent| percent / 100.0);
    for (name, help, value) in [
        ("qemu_healthy", "Whether QEMU runs and its monitor answered", flag(health.qemu_healthy)),
        ("guest_start_time_seconds", "When QEMU was last started, in seconds since 1970", {
            health.guest_started_at_ms.map(|ms| ms as f64 / 1000.0)
        }),
        ("guest_frozen", "Whether the guest stands still though it should run", flag(health.frozen)),
        ("display_active", "Whether the guest shows a picture", flag(video.display_active)),
        ("frame_rate", "Frames encoded a second", video.estimated_frame_rate),
        ("viewers", "Connected viewers", Some(health.viewers.iter().filter(|v| v.state == "connected").count() as f64)),
        ("viewer_bit_rate", "Bits a second that the slowest viewer's path carries", slowest.map(f64::from)),
        ("viewer_queue_seconds", "Longest queue on a viewer's path", queue_ms.map(|ms| ms / 1000.0)),
        ("picture_age_seconds", "Time since the guest's picture last changed", {
            video.last_damage_age_ms.map(|ms| ms as f64 / 1000.0)
        }),
        ("sound_peak_dbfs", "Peak of the last second of sound", health.audio.estimated_level),
        ("attempts_left", "Attempts to repair that are left in this hour", Some(ledger.left as f64)),
        ("in_use", "Whether someone uses the instance", flag(health.usage.in_use)),
        ("faults", "Things that the agent itself sees to be wrong", Some(health.faults.len() as f64)),
        ("sound_voices", "Voices that the guest has open", Some(f64::from(health.audio.voices))),
        ("cpu_usage_ratio", "Processors in use where the agent runs", ratio(performance.cpu_usage)),
        ("memory_usage_ratio", "Memory in use where the agent runs", ratio(performance.memory_usage)),
        ("cpu_limit_cores", "Cores that the control group allows", performance.cpu_limit),
        ("memory_limit_bytes", "Memory that the control group allows", count(performance.memory_limit_bytes)),
        ("agent_cpu_cores", "Share of one core that the agent takes", performance.agent_cpu),
        ("agent_resident_memory_bytes", "Memory of the agent", count(performance.agent_memory_bytes)),
        ("qemu_cpu_cores", "Share of one core that QEMU takes", performance.qemu_cpu),
        ("qemu_resident_memory_bytes", "Memory of QEMU", count(performance.qemu_memory_bytes)),
    ] {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::InstanceId;

    #[test]
    fn what_is_known_is_there_and_nothing_else() {
        let mut report = HealthReport { instance_id: InstanceId::try_new(3).ok(), ..HealthReport::default() };
        report.deep_health.guest_restarts = 2;
        report.deep_health.qemu_healthy = Some(true);
        report.deep_health.frozen = Some(false);
        let ledger = Ledger { attempts: Vec::new(), left: 3, next_at_ms: None };
        let text = text(&report, &ledger).expect("text");
        assert!(text.contains("loco_guest_frozen{instance_id=\"instance-3\"} 0.0\n"), "{text}");
        assert!(text.contains("loco_attempts_left{instance_id=\"instance-3\"} 3.0\n"), "{text}");
        assert!(text.contains("loco_guest_restarts_total{instance_id=\"instance-3\"} 2\n"), "{text}");
        assert!(text.contains("loco_qemu_healthy{instance_id=\"instance-3\"} 1.0\n"), "{text}");
        assert!(!text.contains("qemu_cpu") && !text.contains("frame_rate"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
