//! Alerts: what people should see. Each begins once and ends once, is kept, told to the webhooks that want it, and to
//! everyone who follows the events, unless another event has told the same.

mod book;
mod config;
mod rules;
#[cfg(test)]
mod tests;
mod webhook;

pub use config::{AlertsConfig, Webhook};
pub use webhook::{SIGNATURE_HEADER, TIMESTAMP_HEADER};

use crate::breaker::Breakers;
use crate::checks::{self, CheckResult, ChecksConfig, Watched};
use crate::events::EventLog;
use crate::hub::{Hub, unix_ms};
use crate::metrics::Metrics;
use crate::outside::Outside;
use crate::store::{Store, StoreHealth};
use book::{Book, Condition};
use futures::StreamExt as _;
use loco_model::InstanceId;
use loco_model::api::{Alert, Event};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use webhook::Hooks;

/// Results of checks that wait.
const RESULTS: usize = 64;

/// Watches everything that can be an alert, and runs the checks, until `stop`.
pub(crate) async fn run(hub: Hub, metrics: Metrics, stop: CancellationToken) {
    let (events, store, breakers) = (hub.events().clone(), hub.store().clone(), hub.breakers().clone());
    run_with(Arc::new(hub), events, store, metrics, breakers, stop).await;
}

/// The alerts that last and that an event told of, oldest first: for those who were not there when it did.
pub(crate) fn lasting(store: &Store) -> Vec<Alert> {
    let mut alerts = store.alerts(usize::MAX);
    alerts.retain(|alert| {
        let title = &alert.title;
        alert.ended_at_ms.is_none() && !rules::has_no_end(title) && !rules::is_told_by_attempts(title)
    });
    alerts.reverse();
    alerts
}

async fn run_with(
    watched: Arc<dyn Watched>,
    events: EventLog,
    store: Store,
    metrics: Metrics,
    breakers: Breakers,
    stop: CancellationToken,
) {
    let (results_in, results) = mpsc::channel(RESULTS);
    let (checks_in, checks) = watch::channel(Arc::new(store.settings::<ChecksConfig>()));
    let mut tasks = JoinSet::new();
    tasks.spawn(checks::run(watched.clone(), checks, breakers.clone(), results_in, stop.clone()));
    let desk = Desk {
        watched,
        book: Book::adopt(store.alerts(usize::MAX)),
        hooks: Hooks::new(store.control_id(), Outside::default(), breakers, metrics.clone()),
        is_listed: false,
        store,
        events,
        metrics,
        checks: checks_in,
    };
    tasks.spawn(desk.run(results, stop));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!("a task of the alerts broke: {error}");
        }
    }
}

/// Where everything comes together.
struct Desk {
    watched: Arc<dyn Watched>,
    book: Book,
    hooks: Hooks,
    /// Whether it is known which instances there are: before, none is missing.
    is_listed: bool,
    store: Store,
    events: EventLog,
    metrics: Metrics,
    checks: watch::Sender<Arc<ChecksConfig>>,
}

// === impl Desk ===

impl Desk {
    async fn run(mut self, mut results: mpsc::Receiver<CheckResult>, stop: CancellationToken) {
        let mut health = self.store.health_changes();
        let mut config = self.store.config_changes();
        let mut events = Box::pin(self.events.since(None));
        let mut instances = self.watched.instances();
        health.mark_changed();
        // Before anything is heard: what is told must find its webhooks.
        self.configure();
        self.hooks.adopt(self.book.open());
        self.metrics.alerts(self.book.open());
        if let Some(path) = self.store.moved_aside() {
            self.moved_aside(&path);
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.next() => match event {
                    Some((_, event)) => self.hear(&event),
                    None => break,
                },
                Some(result) = results.recv() => self.check(result),
                true = async { instances.wait_for(|known| known.listed).await.is_ok() }, if !self.is_listed => {
                    self.listed();
                }
                changed = health.changed() => match changed {
                    Ok(()) => {
                        let now = health.borrow_and_update().clone();
                        self.store_health(&now);
                    }
                    Err(_) => break,
                },
                changed = config.changed() => match changed {
                    Ok(()) => {
                        config.mark_unchanged();
                        self.configure();
                    }
                    Err(_) => break,
                },
            }
        }
        self.hooks.stop().await;
    }

    fn configure(&mut self) {
        self.hooks.configure(&self.store.settings::<AlertsConfig>());
        let checks = self.store.settings::<ChecksConfig>();
        // What is not checked any more is not known to be wrong.
        let gone = self.book.titles(rules::CHECK_FAILED, |name, about| !is_checked(&checks, name, about));
        for (title, instance) in gone {
            self.end(&title, instance);
        }
        self.checks.send_if_modified(|known| {
            let changed = **known != checks;
            if changed {
                *known = Arc::new(checks);
            }
            changed
        });
    }

    fn hear(&mut self, event: &Event) {
        if let Event::Attempt { attempt } = event {
            self.metrics.attempt(attempt);
        }
        if matches!(event, Event::Instances { .. }) {
            // The whole: how discovery stands belongs to it, and was told before, if at all.
            let info = self.watched.discovery();
            self.hear(&Event::Discovery { info });
        }
        // While not all is known, one that is not told of may be there all the same.
        let known = if self.is_listed { self.book.instances() } else { BTreeSet::new() };
        for change in rules::of(event, &known) {
            match change {
                rules::Change::Begin(condition) => self.begin(condition),
                rules::Change::End { title, instance } => self.end(&title, instance),
                rules::Change::EndAll { instance } => self.end_all(instance),
            }
        }
    }

    /// All instances are known: alerts of an earlier run may be about others.
    fn listed(&mut self) {
        self.is_listed = true;
        let there = self.watched.agents();
        let gone = self.book.instances().into_iter().filter(|id| !there.iter().any(|(known, _)| known == id));
        gone.collect::<Vec<_>>().into_iter().for_each(|id| self.end_all(id));
    }

    fn end_all(&mut self, instance: InstanceId) {
        for title in self.book.titles_of(instance) {
            self.end(&title, Some(instance));
        }
    }

    fn check(&mut self, result: CheckResult) {
        // It may have been asked for before the check was changed, or its instance went.
        let is_there = result.instance.is_none_or(|id| self.watched.agents().iter().any(|(known, _)| *known == id));
        if !is_there || !is_checked(&self.checks.borrow(), &result.name, result.instance) {
            return;
        }
        let title = format!("{}{}", rules::CHECK_FAILED, result.name);
        match result.wrong {
            Some(detail) => self.begin(Condition {
                severity: result.severity,
                instance: result.instance,
                title,
                detail: Some(detail),
            }),
            None => self.end(&title, result.instance),
        }
    }

    fn store_health(&mut self, health: &StoreHealth) {
        match &health.failing_since_ms {
            Some(_) => self.begin(rules::store_failing(health.reason.clone())),
            None => self.end(rules::STORE_FAILING, None),
        }
        // A file may be found broken while it is used, too.
        if let Some(path) = self.store.moved_aside() {
            self.moved_aside(&path);
        }
    }

    fn moved_aside(&mut self, path: &std::path::Path) {
        let condition = rules::moved_aside(path);
        if let Some(alert) = self.book.once(condition, unix_ms()) {
            self.tell(alert);
        }
    }

    fn begin(&mut self, condition: Condition) {
        if let Some(alert) = self.book.begin(condition, unix_ms()) {
            self.tell(alert);
        }
    }

    fn end(&mut self, title: &str, instance: Option<InstanceId>) {
        if let Some(alert) = self.book.end(title, instance, unix_ms()) {
            self.tell(alert);
        }
    }

    fn tell(&mut self, alert: Alert) {
        tracing::info!(
            alert = alert.title,
            id = alert.instance_id.map(|id| id.to_string()),
            severity = ?alert.severity,
            detail = alert.detail,
            ended = alert.ended_at_ms.is_some(),
            "alert"
        );
        self.store.put_alert(&alert);
        self.metrics.alerts(self.book.open());
        self.hooks.send(&alert);
        if !rules::is_told_by_attempts(&alert.title) {
            self.events.push(Event::Alert { alert });
        }
    }
}

fn is_checked(checks: &ChecksConfig, name: &str, about: Option<InstanceId>) -> bool {
    checks.checks.iter().any(|check| check.name == name && check.covers(about))
}
