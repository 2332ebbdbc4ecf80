//! Telling other servers of alerts: signed, within a cool-down, again and again until they take it.

use super::config::{AlertsConfig, Webhook};
use crate::breaker::{Breaker, Breakers, CallError};
use crate::hub::unix_ms;
use crate::metrics::{Delivery, Metrics};
use crate::outside::{Outside, OutsideError, Target};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use loco_http::{Token, TokenError};
use loco_model::InstanceId;
use loco_model::api::Alert;
use rand::Rng as _;
use ring::hmac;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Header with the milliseconds since 1970 UTC at which a request was signed.
pub const TIMESTAMP_HEADER: &str = "loco-timestamp";
/// Header with `sha256=` and the HMAC-SHA256 (RFC 2104) of `TIMESTAMP.BODY` in hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "loco-signature";

/// Alerts that wait for one server.
const QUEUE: usize = 64;
/// How often one alert is tried.
const TRIES: u32 = 8;
/// Pause after the first failure; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// How long what waits may still take when the program ends.
const LAST: Duration = Duration::from_secs(2);

/// The webhooks of the current configuration.
pub(super) struct Hooks {
    control_id: String,
    outside: Outside,
    breakers: Breakers,
    metrics: Metrics,
    hooks: BTreeMap<String, Hook>,
}

struct Hook {
    config: Webhook,
    queue: mpsc::Sender<Alert>,
    deliverer: JoinHandle<()>,
    /// When an alert of a kind was sent last.
    sent: BTreeMap<(String, Option<InstanceId>), Instant>,
    /// Alerts whose begin was sent, and whose end will be.
    begun: BTreeSet<String>,
}

/// The secret of a private file, which is read anew for every request, so that it may be rotated.
pub(super) fn secret(path: &Path) -> Result<Token, String> {
    Token::read_file(path).map_err(|error: TokenError| error.to_string())
}

// === impl Hooks ===

impl Hooks {
    pub(super) fn new(control_id: String, outside: Outside, breakers: Breakers, metrics: Metrics) -> Self {
        Self { control_id, outside, breakers, metrics, hooks: BTreeMap::new() }
    }

    /// Follows a configuration: webhooks that are as they were go on with what waits; one that is only told otherwise still
    /// knows what its server was told, so that each begin there has its end.
    pub(super) fn configure(&mut self, config: &AlertsConfig) {
        let mut before = std::mem::take(&mut self.hooks);
        for webhook in &config.webhooks {
            let mut known = before.remove(&webhook.name);
            if let Some(hook) = known.take_if(|hook| hook.config == *webhook) {
                self.hooks.insert(webhook.name.clone(), hook);
                continue;
            }
            let mut known = known.filter(|hook| hook.config.url == webhook.url);
            if known.is_none() {
                // What another server did not take is not held against this one.
                self.breakers.remove(&breaker_name(&webhook.name));
            }
            match self.start(webhook) {
                Ok(mut hook) => {
                    if let Some(known) = &mut known {
                        hook.sent = std::mem::take(&mut known.sent);
                        hook.begun = std::mem::take(&mut known.begun);
                    }
                    self.hooks.insert(webhook.name.clone(), hook);
                }
                Err(error) => tracing::error!(webhook = webhook.name, "a webhook cannot be used: {error}"),
            }
        }
        for name in before.keys() {
            self.breakers.remove(&breaker_name(name));
        }
    }

    fn start(&self, webhook: &Webhook) -> Result<Hook, OutsideError> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let deliverer = Deliverer {
            name: webhook.name.clone(),
            target: Target::parse(&webhook.url)?,
            secret_file: webhook.secret_file.clone(),
            control_id: self.control_id.clone(),
            outside: self.outside.clone(),
            breaker: self.breakers.of(&breaker_name(&webhook.name)),
            metrics: self.metrics.clone(),
        };
        Ok(Hook {
            config: webhook.clone(),
            queue,
            deliverer: tokio::spawn(deliverer.run(waiting)),
            sent: BTreeMap::new(),
            begun: BTreeSet::new(),
        })
    }

    /// Goes on with the alerts of an earlier run: they were sent when they began, and their ends will be.
    pub(super) fn adopt<'a>(&mut self, open: impl Iterator<Item = &'a Alert>) {
        for alert in open {
            for hook in self.hooks.values_mut().filter(|hook| alert.severity >= hook.config.min_severity) {
                hook.begun.insert(alert.id.clone());
            }
        }
    }

    /// Sends an alert to those that want it.
    pub(super) fn send(&mut self, alert: &Alert) {
        let now = Instant::now();
        for hook in self.hooks.values_mut() {
            if !hook.wants(alert, now) {
                continue;
            }
            if hook.queue.try_send(alert.clone()).is_err() {
                tracing::warn!(webhook = hook.config.name, alert = alert.title, "too many alerts wait: dropped");
                self.metrics.webhook(&hook.config.name, Delivery::Dropped);
            }
        }
    }

    /// Lets what waits be sent, for a moment.
    pub(super) async fn stop(self) {
        let mut deliverers: Vec<JoinHandle<()>> = Vec::new();
        for mut hook in self.hooks.into_values() {
            // Its queue ends with it.
            deliverers.push(std::mem::replace(&mut hook.deliverer, tokio::spawn(std::future::ready(()))));
        }
        let last = Instant::now() + LAST;
        for mut deliverer in deliverers {
            if tokio::time::timeout_at(last, &mut deliverer).await.is_err() {
                deliverer.abort();
            }
        }
    }
}

fn breaker_name(name: &str) -> String {
    format!("webhook {name}")
}

// === impl Hook ===

impl Hook {
    fn wants(&mut self, alert: &Alert, now: Instant) -> bool {
        if alert.ended_at_ms.is_some() {
            return self.begun.remove(&alert.id) && self.config.ends;
        }
        // One that became worse is told again, whatever was told of it.
        let is_known = self.begun.contains(&alert.id);
        if alert.severity < self.config.min_severity {
            return false;
        }
        let cool_down = Duration::from_secs(u64::from(self.config.cool_down_s));
        self.sent.retain(|_, at| now.duration_since(*at) < cool_down);
        let kind = (alert.title.clone(), alert.instance_id);
        if !is_known && self.sent.contains_key(&kind) {
            return false;
        }
        self.sent.insert(kind, now);
        self.begun.insert(alert.id.clone());
        true
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.deliverer.abort();
    }
}

struct Deliverer {
    name: String,
    target: Target,
    secret_file: Option<PathBuf>,
    control_id: String,
    outside: Outside,
    breaker: Breaker,
    metrics: Metrics,
}

/// Why an alert was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("its secret cannot be read: {0}")]
    Secret(String),
    #[error(transparent)]
    Outside(#[from] OutsideError),
    #[error("it answered {0}")]
    Status(StatusCode),
}

impl NotTaken {
    /// Whether it may be taken later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Secret(_) | Self::Outside(_) => true,
            Self::Status(status) => status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429),
        }
    }
}

// === impl Deliverer ===

impl Deliverer {
    async fn run(self, mut waiting: mpsc::Receiver<Alert>) {
        while let Some(alert) = waiting.recv().await {
            let delivery = self.deliver(&alert).await;
            self.metrics.webhook(&self.name, delivery);
        }
    }

    async fn deliver(&self, alert: &Alert) -> Delivery {
        let mut pause = FIRST_PAUSE;
        for tried in 1..=TRIES {
            let error = match self.breaker.call_if(self.post(alert), NotTaken::may_pass).await {
                Ok(()) => return Delivery::Taken,
                Err(error) => error,
            };
            let is_final = matches!(&error, CallError::Failed(reason) if !reason.may_pass());
            if is_final || tried == TRIES {
                tracing::error!(webhook = self.name, alert = alert.title, "not delivered: {error}");
                return Delivery::Failed;
            }
            tracing::warn!(webhook = self.name, alert = alert.title, tried, "tried again: {error}");
            let wait = match &error {
                CallError::Refused { wait, .. } => pause.max(*wait),
                CallError::TimedOut(_) | CallError::Failed(_) => pause,
            };
            let jitter = rand::rng().random_range(1.0..1.25);
            tokio::time::sleep(wait.mul_f64(jitter)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Delivery::Failed
    }

    async fn post(&self, alert: &Alert) -> Result<(), NotTaken> {
        let event = if alert.ended_at_ms.is_some() { "end" } else { "begin" };
        let body = json!({ "event": event, "control": self.control_id, "alert": alert }).to_string().into_bytes();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(path) = &self.secret_file {
            let secret = secret(path).map_err(NotTaken::Secret)?;
            let timestamp = unix_ms();
            headers.insert(HeaderName::from_static(TIMESTAMP_HEADER), HeaderValue::from(timestamp));
            // Hexadecimal digits always are a header's value.
            if let Ok(signature) = HeaderValue::from_str(&signature(&secret, timestamp, &body)) {
                headers.insert(HeaderName::from_static(SIGNATURE_HEADER), signature);
            }
        }
        let sent = self.outside.send(Method::POST, &self.target, headers, body, MAX_ANSWER_BYTES).await;
        match sent {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, _)) => Err(NotTaken::Status(status)),
            // It was taken: nobody needs its long answer.
            Err(OutsideError::TooLong(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn signature(secret: &Token, timestamp: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_str().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{timestamp}.").as_bytes());
    context.update(body);
    context.sign().as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use loco_model::api::Severity;

    fn hook(cool_down_s: u32) -> Hook {
        let config = Webhook {
            name: "ops".into(),
            url: "http://127.0.0.1:1/".into(),
            min_severity: Severity::Warning,
            cool_down_s,
            ends: true,
            secret_file: None,
        };
        let (queue, _) = mpsc::channel(1);
        let deliverer = tokio::spawn(std::future::ready(()));
        Hook { config, queue, deliverer, sent: BTreeMap::new(), begun: BTreeSet::new() }
    }

    fn alert(id: &str, title: &str, severity: Severity, ended_at_ms: Option<u64>) -> Alert {
        let (id, title) = (id.to_owned(), title.to_owned());
        Alert { id, at_ms: 1, ended_at_ms, severity, instance_id: None, title, detail: None }
    }

    #[tokio::test(start_paused = true)]
    async fn the_cool_down_holds_for_one_kind() {
        use Severity::{Critical, Info, Warning};
        let mut hook = hook(300);
        let mut wants = |alert: Alert| hook.wants(&alert, Instant::now());
        assert!(!wants(alert("0", "a", Info, None)), "too light");
        assert!(wants(alert("1", "a", Warning, None)));
        assert!(wants(alert("1", "a", Critical, None)), "became worse");
        assert!(wants(alert("1", "a", Critical, Some(2))), "its end");
        assert!(!wants(alert("2", "a", Warning, None)), "too soon");
        assert!(!wants(alert("2", "a", Warning, Some(3))), "an end without a begin");
        assert!(wants(alert("3", "b", Warning, None)), "another kind");
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(wants(alert("4", "a", Warning, None)));
    }

    #[tokio::test]
    async fn a_begin_has_its_end_though_the_webhook_is_set_otherwise() {
        let server = loco_http::Server::bind("127.0.0.1:0".parse().expect("address")).await.expect("bind");
        let breakers = Breakers::new();
        let metrics = Metrics::new(server.connections());
        let mut hooks = Hooks::new("c".into(), Outside::default(), breakers.clone(), metrics);
        let set = |change: fn(&mut Webhook)| {
            let mut webhook = hook(300).config.clone();
            change(&mut webhook);
            AlertsConfig { webhooks: vec![webhook] }
        };
        hooks.configure(&set(|_| ()));
        hooks.send(&alert("1", "a", Severity::Warning, None));
        breakers.of("webhook ops").permit().expect("closed").tell(false);
        hooks.configure(&set(|webhook| webhook.cool_down_s = 7));
        let ended = alert("1", "a", Severity::Warning, Some(2));
        assert!(hooks.hooks.get_mut("ops").expect("there").wants(&ended, Instant::now()));
        assert_eq!(breakers.of("webhook ops").counts().failures, 1);
        // Another server was never told that it began.
        hooks.send(&alert("2", "b", Severity::Warning, None));
        hooks.configure(&set(|webhook| webhook.url = "http://127.0.0.1:2/".into()));
        let ended = alert("2", "b", Severity::Warning, Some(2));
        assert!(!hooks.hooks.get_mut("ops").expect("there").wants(&ended, Instant::now()));
        assert_eq!(breakers.of("webhook ops").counts().failures, 0);
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231's second key and text, with our timestamp before them; by another implementation.
        let secret = Token::try_new(b"Jefe").expect("a secret");
        let got = signature(&secret, 1_700_000_000_000, b"what do ya want for nothing?");
        assert_eq!(got, "sha256=67c32eec367f08da9b08bed2fa1ad06d820a1b6cf0f7dc32c293102c301c776c");
    }
}
