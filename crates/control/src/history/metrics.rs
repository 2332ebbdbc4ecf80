//! Every metric that is kept, with its unit and where in a report it stands.

use loco_model::InstanceId;
use loco_model::report::{DeepHealth, ViewerHealth};
use std::collections::BTreeMap;

/// Longest gap between two reports over which a counter is made a rate, in milliseconds.
const MAX_GAP_MS: u64 = 120_000;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its number in the file: never given to another one.
    pub(crate) id: u8,
    /// Its name in the API.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What people call it.
    pub label: &'static str,
    /// The value that it cannot go beyond, where that is known.
    pub limit: Option<f64>,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    /// Stands in the report.
    Value(fn(&DeepHealth) -> Option<f64>),
    /// A counter, of which the rate per second is kept, times a factor.
    Counter(fn(&DeepHealth) -> Option<u64>, f64),
}

const fn value(
    id: u8,
    name: &'static str,
    unit: &'static str,
    label: &'static str,
    read: fn(&DeepHealth) -> Option<f64>,
) -> Metric {
    Metric { id, name, unit, label, limit: None, source: Source::Value(read) }
}

const fn rate(
    id: u8,
    name: &'static str,
    unit: &'static str,
    label: &'static str,
    factor: f64,
    read: fn(&DeepHealth) -> Option<u64>,
) -> Metric {
    Metric { id, name, unit, label, limit: None, source: Source::Counter(read, factor) }
}

const fn limited(metric: Metric, limit: f64) -> Metric {
    Metric { limit: Some(limit), ..metric }
}

// === impl Metric ===

impl Metric {
    /// What a report says of it now; `None` when that is unknown, and for one that only two reports tell.
    pub(crate) fn now(&self, health: &DeepHealth) -> Option<f64> {
        match self.source {
            Source::Value(read) => read(health),
            Source::Counter(..) => None,
        }
    }
}

/// All metrics, in the order in which they are shown.
pub const METRICS: &[Metric] = &[
    value(1, "frame_rate", "fps", "frame rate", |health| health.video.estimated_frame_rate),
    rate(2, "damage_rate", "1/s", "display updates", 1.0, |health| Some(health.video.damage_updates)),
    rate(3, "bit_rate", "bits/s", "video bit rate", 8.0, |health| Some(health.video.bytes_encoded)),
    value(4, "sound_level", "dBFS", "sound level", |health| health.audio.estimated_level),
    value(5, "sound_voices", "1", "sound voices", |health| Some(f64::from(health.audio.voices))),
    rate(6, "sound_underrun_rate", "1/s", "sound underruns", 1.0, |health| Some(health.audio.underruns)),
    value(7, "agent_cpu", "cores", "the agent's CPU", |health| health.performance.agent_cpu),
    value(8, "agent_memory", "bytes", "the agent's memory", |health| count(health.performance.agent_memory_bytes)),
    value(9, "qemu_cpu", "cores", "QEMU's CPU", |health| health.performance.qemu_cpu),
    value(10, "qemu_memory", "bytes", "QEMU's memory", |health| count(health.performance.qemu_memory_bytes)),
    limited(value(11, "cpu_usage", "%", "CPU", |health| health.performance.cpu_usage), 100.0),
    limited(value(12, "memory_usage", "%", "memory", |health| health.performance.memory_usage), 100.0),
    value(13, "load", "1", "load", |health| health.performance.load_average.map(|[minute, _, _]| minute)),
    value(14, "viewers", "1", "viewers", |health| Some(connected(health).count() as f64)),
    value(15, "rtt", "ms", "round trip time", |health| most(health, |viewer| viewer.rtt_ms)),
    value(16, "loss", "1", "packet loss", |health| most(health, |viewer| viewer.loss)),
    value(17, "queue", "ms", "queue on the way", |health| most(health, |viewer| viewer.queue_ms)),
    value(18, "viewer_bit_rate", "bits/s", "bit rate of the slowest viewer", |health| {
        connected(health).filter_map(|viewer| viewer.target_bit_rate).min().map(f64::from)
    }),
    rate(19, "network_tx_rate", "bits/s", "network, sent", 8.0, |health| health.network.tx_bytes),
    rate(20, "network_rx_rate", "bits/s", "network, received", 8.0, |health| health.network.rx_bytes),
    rate(21, "network_error_rate", "1/s", "network errors", 1.0, |health| {
        match (health.network.tx_errors, health.network.rx_errors) {
            (None, None) => None,
            (tx, rx) => Some(tx.unwrap_or(0).saturating_add(rx.unwrap_or(0))),
        }
    }),
    rate(22, "guest_restart_rate", "1/s", "restarts of QEMU", 1.0, |health| Some(health.guest_restarts)),
];

fn count(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

fn connected(health: &DeepHealth) -> impl Iterator<Item = &ViewerHealth> {
    health.viewers.iter().filter(|viewer| viewer.state == "connected")
}

/// The worst of all connected viewers.
fn most(health: &DeepHealth, value: fn(&ViewerHealth) -> Option<f64>) -> Option<f64> {
    connected(health).filter_map(value).reduce(f64::max)
}

/// The metric of that name.
pub(crate) fn metric(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// Makes values of reports: counters become rates between two reports of the same instance.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: BTreeMap<InstanceId, Last>,
}

#[derive(Debug)]
struct Last {
    at_ms: u64,
    counters: Vec<(u8, u64)>,
}

// === impl Rates ===

impl Rates {
    /// A report's values by the metrics' numbers; those that are unknown are left out. `at_ms`: when its agent made it.
    pub(crate) fn values(&mut self, id: InstanceId, at_ms: u64, health: &DeepHealth) -> Vec<(u8, f64)> {
        let last = self.last.get(&id);
        // Two reports of one moment have no rate between them, and neither have those before and after a set clock.
        let gap_ms = last.and_then(|last| at_ms.checked_sub(last.at_ms)).filter(|gap| (1..=MAX_GAP_MS).contains(gap));
        let mut values = Vec::with_capacity(METRICS.len());
        let mut counters = Vec::new();
        for metric in METRICS {
            match metric.source {
                Source::Value(read) => values.extend(read(health).map(|value| (metric.id, value))),
                Source::Counter(read, factor) => {
                    let Some(now) = read(health) else { continue };
                    counters.push((metric.id, now));
                    let before = last.and_then(|last| last.counters.iter().find(|(id, _)| *id == metric.id));
                    // A counter that went back began anew: its agent was restarted.
                    let more = before.and_then(|(_, before)| now.checked_sub(*before));
                    if let (Some(more), Some(gap_ms)) = (more, gap_ms) {
                        values.push((metric.id, more as f64 * factor * 1_000.0 / gap_ms as f64));
                    }
                }
            }
        }
        if last.is_none_or(|last| last.at_ms != at_ms) {
            self.last.insert(id, Last { at_ms, counters });
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::report::HealthReport;
    use std::collections::BTreeSet;

    fn find(values: &[(u8, f64)], name: &str) -> Option<f64> {
        let id = metric(name).expect("known").id;
        values.iter().find(|(known, _)| *known == id).map(|(_, value)| *value)
    }

    #[test]
    fn numbers_and_names_are_unique() {
        let numbers: BTreeSet<u8> = METRICS.iter().map(|metric| metric.id).collect();
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!((numbers.len(), names.len()), (METRICS.len(), METRICS.len()));
    }

    #[test]
    fn unknown_values_are_left_out_and_counters_become_rates() {
        let id = InstanceId::try_new(0).expect("index");
        let mut rates = Rates::default();
        let mut report = HealthReport { timestamp_ms: 10_000, ..HealthReport::default() };
        report.deep_health.video.bytes_encoded = 1_000;
        report.deep_health.performance.qemu_cpu = Some(0.25);
        let values = rates.values(id, report.timestamp_ms, &report.deep_health);
        assert_eq!((find(&values, "qemu_cpu"), find(&values, "agent_cpu")), (Some(0.25), None));
        assert_eq!(find(&values, "bit_rate"), None, "one report has no rate");
        report.timestamp_ms = 12_000;
        report.deep_health.video.bytes_encoded = 2_000;
        assert_eq!(find(&rates.values(id, report.timestamp_ms, &report.deep_health), "bit_rate"), Some(4_000.0));
        // The agent was restarted; its clock was set back; a long silence.
        for (at_ms, bytes) in [(14_000, 10), (3_000, 20), (500_000, 30)] {
            report.timestamp_ms = at_ms;
            report.deep_health.video.bytes_encoded = bytes;
            assert_eq!(find(&rates.values(id, report.timestamp_ms, &report.deep_health), "bit_rate"), None, "{at_ms}");
        }
        report.timestamp_ms += 1_000;
        report.deep_health.video.bytes_encoded += 1;
        assert_eq!(find(&rates.values(id, report.timestamp_ms, &report.deep_health), "bit_rate"), Some(8.0));
    }

    #[test]
    fn the_worst_connected_viewer_counts() {
        let mut report = HealthReport::default();
        let viewer = |state: &str, rtt_ms| ViewerHealth { state: state.into(), rtt_ms, ..ViewerHealth::default() };
        report.deep_health.viewers =
            vec![viewer("connected", Some(3.0)), viewer("connected", Some(7.0)), viewer("failed", Some(900.0))];
        let values = Rates::default().values(InstanceId::try_new(1).expect("index"), 0, &report.deep_health);
        assert_eq!((find(&values, "rtt"), find(&values, "viewers")), (Some(7.0), Some(2.0)));
        assert_eq!(find(&values, "loss"), None);
    }
}
