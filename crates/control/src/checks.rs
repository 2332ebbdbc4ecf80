//! What people want to be watched besides the agents: web pages, ports, and limits of metrics.

mod config;
mod probe;
#[cfg(test)]
mod tests;

pub(crate) use config::check_name;
pub use config::{Check, ChecksConfig, Comparison, Probe};

use crate::breaker::Breakers;
use crate::history::Rates;
use crate::hub::Hub;
use crate::outside::Outside;
use crate::plane::Instances;
use loco_model::InstanceId;
use loco_model::api::{DiscoveryInfo, Severity};
use loco_model::report::DeepHealth;
use probe::{Place, probe};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Targets of one check that are asked at a time.
const AT_A_TIME: usize = 16;

/// How a check stands with one instance, or with its fixed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckResult {
    /// The check's name.
    pub(crate) name: String,
    /// Of which instance; `None`: of a fixed target.
    pub(crate) instance: Option<InstanceId>,
    /// How much it matters.
    pub(crate) severity: Severity,
    /// What is wrong; `None`: nothing.
    pub(crate) wrong: Option<String>,
}

/// What checks look at.
pub(crate) trait Watched: Send + Sync + 'static {
    /// All instances, and where their agents answer.
    fn agents(&self) -> Vec<(InstanceId, Option<String>)>;
    /// When an instance's last report was made by its agent's clock, and what it says.
    fn health(&self, id: InstanceId) -> Option<(u64, DeepHealth)>;
    /// How finding instances goes.
    fn discovery(&self) -> DiscoveryInfo;
    /// Tells when all instances are known that are there at the start.
    fn instances(&self) -> watch::Receiver<Arc<Instances>>;
}

impl Watched for Hub {
    fn agents(&self) -> Vec<(InstanceId, Option<String>)> {
        let instances = Hub::instances(self);
        let instances = instances.borrow();
        let agent = |endpoints: &loco_model::api::Endpoints| endpoints.agent.clone();
        instances.all.iter().map(|(id, instance)| (*id, instance.endpoints.as_ref().map(agent))).collect()
    }

    fn health(&self, id: InstanceId) -> Option<(u64, DeepHealth)> {
        let health = Hub::health(self, id)?;
        health.timestamp_ms.zip(health.deep_health)
    }

    fn discovery(&self) -> DiscoveryInfo {
        Hub::discovery(self)
    }

    fn instances(&self) -> watch::Receiver<Arc<Instances>> {
        Hub::instances(self)
    }
}

/// Runs the checks of a configuration, and of every later one, until `stop`. A check that stands in the next one as it was
/// goes on: since when its limit is passed, and how often it failed, is not forgotten.
pub(crate) async fn run(
    watched: Arc<dyn Watched>,
    mut config: watch::Receiver<Arc<ChecksConfig>>,
    breakers: Breakers,
    results: mpsc::Sender<CheckResult>,
    stop: CancellationToken,
) {
    let outside = Outside::default();
    let mut running = Running::default();
    loop {
        let wanted = config.borrow_and_update().clone();
        running.keep_only(&wanted.checks).await;
        for check in wanted.checks.iter().filter(|check| !running.has(check)).cloned().collect::<Vec<_>>() {
            let runner = Runner {
                check: check.clone(),
                watched: watched.clone(),
                outside: outside.clone(),
                breakers: breakers.clone(),
                results: results.clone(),
                rates: Rates::default(),
                beyond: BTreeMap::new(),
                failures: BTreeMap::new(),
                named: BTreeSet::new(),
            };
            running.begin(check, runner);
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = config.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // Only a broken one ends; the others go on.
                Some(ended) = running.tasks.join_next_with_id() => running.ended(ended),
            }
        }
    }
}

/// The checks that run.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    checks: BTreeMap<task::Id, (Check, AbortHandle)>,
}

// === impl Running ===

impl Running {
    fn has(&self, check: &Check) -> bool {
        self.checks.values().any(|(known, _)| known == check)
    }

    fn begin(&mut self, check: Check, runner: Runner) {
        let handle = self.tasks.spawn(runner.run());
        self.checks.insert(handle.id(), (check, handle));
    }

    /// Ends those that are not wanted as they are, and waits for that: each forgets its breakers at its end, and shall not
    /// forget those of the one that takes its place.
    async fn keep_only(&mut self, wanted: &[Check]) {
        let is_unwanted = |check: &Check| !wanted.contains(check);
        self.checks.values().filter(|(check, _)| is_unwanted(check)).for_each(|(_, handle)| handle.abort());
        while self.checks.values().any(|(check, _)| is_unwanted(check)) {
            let Some(ended) = self.tasks.join_next_with_id().await else { return };
            self.ended(ended);
        }
    }

    fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if !error.is_cancelled() {
                    tracing::error!("a check broke: {error}");
                }
                error.id()
            }
        };
        self.checks.remove(&id);
    }
}

struct Runner {
    check: Check,
    watched: Arc<dyn Watched>,
    outside: Outside,
    breakers: Breakers,
    results: mpsc::Sender<CheckResult>,
    rates: Rates,
    /// Since when each instance's metric is beyond its limit.
    beyond: BTreeMap<InstanceId, Instant>,
    /// Failures in a row.
    failures: BTreeMap<Option<InstanceId>, u32>,
    /// Breakers that this check made.
    named: BTreeSet<String>,
}

// === impl Runner ===

impl Runner {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(u64::from(self.check.interval_s)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let found = match &self.check.probe {
                Probe::Metric { .. } => self.measure(),
                Probe::Http { .. } | Probe::Tcp { .. } => self.ask().await,
            };
            for (instance, wrong) in found {
                let failures = self.failures.entry(instance).or_default();
                *failures = if wrong.is_some() { failures.saturating_add(1) } else { 0 };
                if wrong.is_some() && *failures < self.check.failures {
                    continue;
                }
                let (name, severity) = (self.check.name.clone(), self.check.severity);
                if self.results.send(CheckResult { name, instance, severity, wrong }).await.is_err() {
                    return;
                }
            }
        }
    }

    fn instances(&self) -> Vec<(InstanceId, Option<String>)> {
        let mut all = self.watched.agents();
        all.retain(|(id, _)| self.check.covers(Some(*id)));
        all
    }

    async fn ask(&mut self) -> Vec<(Option<InstanceId>, Option<String>)> {
        let places: Vec<Place> = if self.check.per_instance {
            // One whose agent is not known has no host to ask: that is not the check's to tell.
            self.instances().into_iter().filter_map(|(id, agent)| Place::of(id, &agent?)).collect()
        } else {
            vec![Place::fixed()]
        };
        let mut found = Vec::with_capacity(places.len());
        let mut asking = JoinSet::new();
        for place in places {
            if asking.len() == AT_A_TIME {
                found.extend(asking.join_next().await.and_then(Result::ok));
            }
            let name = match place.instance {
                Some(id) => format!("check {} {id}", self.check.name),
                None => format!("check {}", self.check.name),
            };
            let breaker = self.breakers.of(&name);
            self.named.insert(name);
            let (outside, what) = (self.outside.clone(), self.check.probe.clone());
            asking.spawn(async move {
                let outcome = breaker.call(probe(&outside, &what, &place)).await;
                (place.instance, outcome.err().map(|error| error.to_string()))
            });
        }
        while let Some(ended) = asking.join_next().await {
            found.extend(ended);
        }
        found
    }

    fn measure(&mut self) -> Vec<(Option<InstanceId>, Option<String>)> {
        let Probe::Metric { metric, op, value, for_s } = &self.check.probe else { return Vec::new() };
        let Some(metric) = crate::history::metric(metric) else { return Vec::new() };
        let mut found = Vec::new();
        for (id, _) in self.instances() {
            let now = self.watched.health(id).and_then(|(at_ms, health)| {
                let values = self.rates.values(id, at_ms, &health);
                values.into_iter().find(|(number, _)| *number == metric.id).map(|(_, now)| now)
            });
            // What is unknown is neither beyond a limit nor within: nothing is said about it.
            let Some(now) = now else {
                self.beyond.remove(&id);
                continue;
            };
            if !op.holds(now, *value) {
                self.beyond.remove(&id);
                found.push((Some(id), None));
                continue;
            }
            let since = *self.beyond.entry(id).or_insert_with(Instant::now);
            if since.elapsed() >= Duration::from_secs(u64::from(*for_s)) {
                let unit = if metric.unit == "1" { String::new() } else { format!(" {}", metric.unit) };
                let wrong = format!("{} is {now:.3}{unit}: {} {value}{unit}", metric.label, op.as_str());
                found.push((Some(id), Some(wrong)));
            }
        }
        found
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        for name in &self.named {
            self.breakers.remove(name);
        }
    }
}
