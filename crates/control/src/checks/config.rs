//! Configuration `checks`.

use crate::outside::Target;
use crate::store::{ConfigName, Settings};
use loco_model::InstanceId;
use loco_model::api::Severity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Checks at most.
const MAX_CHECKS: usize = 64;
/// Longest name, and longest text that is looked for, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// What is watched besides the agents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChecksConfig {
    /// At most 64, each with its own name.
    #[schema(max_items = 64)]
    pub checks: Vec<Check>,
}

/// One check. What it finds wrong is an alert that lasts as long as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Its name.
    #[schema(max_length = 64, pattern = "\\S")]
    pub name: String,
    /// What it looks at.
    pub probe: Probe,
    /// How often, in seconds, 1 to 3,600.
    #[serde(default = "default_interval_s")]
    #[schema(minimum = 1, maximum = 3_600)]
    pub interval_s: u32,
    /// How often in a row it must be wrong before it is an alert, 1 to 100.
    #[serde(default = "default_failures")]
    #[schema(minimum = 1, maximum = 100)]
    pub failures: u32,
    /// How much it matters.
    #[serde(default = "default_severity")]
    pub severity: Severity,
    /// Whether every instance is asked; then `{host}` (its agent's), `{index}` and `{id}` stand for its own in URL and
    /// address. A metric always is every instance's.
    #[serde(default)]
    pub per_instance: bool,
    /// Which instances; empty: all.
    #[serde(default)]
    pub instances: Vec<InstanceId>,
}

/// What a check looks at. Each answer is waited for 3 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Probe {
    /// A page is there (GET; redirects are not followed).
    Http {
        /// `http://…` or `https://…`.
        #[schema(
            max_length = 2_048,
            pattern = "^https?://([A-Za-z0-9.-]+|\\{host\\}|\\[[0-9a-fA-F:]+\\])(:[0-9]{1,5})?([/?]([A-Za-z0-9._~/=&%+:@,;?-]|\\{(host|index|id)\\})*)?$"
        )]
        url: String,
        /// The status that it must have; null: any of 200 to 299.
        #[serde(default)]
        #[schema(minimum = 100, maximum = 599)]
        status: Option<u16>,
        /// What must stand in it, within its first 64 KiB.
        #[serde(default)]
        #[schema(min_length = 1, max_length = 256)]
        contains: Option<String>,
    },
    /// A connection can be made.
    Tcp {
        /// `HOST:PORT`.
        #[schema(
            pattern = "^([A-Za-z0-9.-]{1,200}|\\{host\\}):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]|[1-5][0-9]{0,3}\\{index\\})$"
        )]
        address: String,
    },
    /// A metric of the history stays within a limit.
    Metric {
        /// Its name.
        #[schema(inline, value_type = crate::history::MetricName)]
        metric: String,
        /// With `value`: what is wrong.
        op: Comparison,
        /// The limit, in the metric's unit.
        value: f64,
        /// For how many seconds it must be so, 0 to 86,400.
        #[serde(default)]
        #[schema(rename = "forS", maximum = 86_400)]
        for_s: u32,
    },
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub enum Comparison {
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Less or the same.
    #[serde(rename = "<=")]
    AtMost,
    /// Greater.
    #[serde(rename = ">")]
    Greater,
    /// Greater or the same.
    #[serde(rename = ">=")]
    AtLeast,
}

// === impl Comparison ===

impl Comparison {
    /// Whether it is so.
    pub(super) fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}

const fn default_interval_s() -> u32 {
    30
}

const fn default_failures() -> u32 {
    2
}

const fn default_severity() -> Severity {
    Severity::Warning
}

/// Whether a name can stand in a list, a log and a metric.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return Err(format!("name {:?}: expected 1 to 64 bytes of text", name.chars().take(80).collect::<String>()));
    }
    Ok(())
}

impl Settings for ChecksConfig {
    const NAME: ConfigName = ConfigName::Checks;

    fn check(&self) -> Result<(), String> {
        if self.checks.len() > MAX_CHECKS {
            return Err(format!("{} checks: at most {MAX_CHECKS} are allowed", self.checks.len()));
        }
        let mut names = BTreeSet::new();
        for check in &self.checks {
            check_name(&check.name)?;
            if !names.insert(&check.name) {
                return Err(format!("two checks are called {:?}", check.name));
            }
            check.check().map_err(|error| format!("check {:?}: {error}", check.name))?;
        }
        Ok(())
    }
}

// === impl Check ===

impl Check {
    /// Whether it looks at an instance; `None`: at its fixed target.
    pub(crate) fn covers(&self, instance: Option<InstanceId>) -> bool {
        let of_each = self.per_instance || matches!(self.probe, Probe::Metric { .. });
        match instance {
            Some(id) => of_each && (self.instances.is_empty() || self.instances.contains(&id)),
            None => !of_each,
        }
    }

    fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u32, least: u32, most: u32| match value {
            value if (least..=most).contains(&value) => Ok(()),
            _ => Err(format!("{what} is {value}: allowed are {least} to {most}")),
        };
        within("intervalS", self.interval_s, 1, 3_600)?;
        within("failures", self.failures, 1, 100)?;
        match &self.probe {
            Probe::Http { url, status, contains } => {
                let place = super::probe::Place::example();
                Target::parse(&place.fill(url)).map_err(|error| error.to_string())?;
                within("status", u32::from(status.unwrap_or(200)), 100, 599)?;
                within(
                    "contains' length",
                    contains.as_ref().map_or(1, |text| text.len() as u32),
                    1,
                    MAX_TEXT_BYTES as u32,
                )
            }
            Probe::Tcp { address } => {
                let filled = super::probe::Place::example().fill(address);
                let port =
                    filled.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
                if filled.len() > MAX_TEXT_BYTES || !matches!(port, Some(Ok(1..))) {
                    return Err("address: expected HOST:PORT".to_owned());
                }
                Ok(())
            }
            Probe::Metric { metric, value, for_s, .. } => {
                within("forS", *for_s, 0, 86_400)?;
                if crate::history::metric(metric).is_none() {
                    let all = crate::history::METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>().join(", ");
                    let name: String = metric.chars().take(64).collect();
                    return Err(format!("unknown metric {name:?}: allowed are {all}"));
                }
                if value.is_finite() { Ok(()) } else { Err("value: expected a number".to_owned()) }
            }
        }
    }
}
