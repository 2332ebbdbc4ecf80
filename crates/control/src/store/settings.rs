//! The named configurations: what each may hold, checked before it is taken.

use crate::alerts::AlertsConfig;
use crate::checks::ChecksConfig;
use loco_model::classify::Limits;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// Longest configuration in bytes of JSON.
const MAX_BYTES: usize = 64 * 1024;

/// Name of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigName {
    /// How this control plane repairs: [`RecoveryConfig`].
    Recovery,
    /// What is remembered: [`HistoryConfig`].
    History,
    /// What else is watched: [`ChecksConfig`].
    Checks,
    /// Who is told: [`AlertsConfig`].
    Alerts,
    /// How much an instance may take that nobody uses: [`UseConfig`].
    Use,
    /// Where "too much" begins: [`Limits`].
    Limits,
}

/// Not a configuration's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown configuration {0:?}: allowed are {list}", list = ConfigName::ALL.map(ConfigName::as_str).join(", "))]
pub struct UnknownConfig(pub String);

/// How this control plane repairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RecoveryConfig {
    /// Whether it repairs by itself. By hand it always may.
    pub automatic: bool,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Whether reports are kept as history.
    pub record: bool,
}

/// How much an instance may take that nobody uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UseConfig {
    /// Whether it is limited at all.
    pub limit: bool,
    /// Most frames a second, 1 to 60.
    #[schema(minimum = 1, maximum = 60)]
    pub max_fps: u32,
    /// Most bits a second, 100,000 to 50,000,000.
    #[schema(minimum = 100_000, maximum = 50_000_000)]
    pub max_bit_rate: u32,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self { automatic: true }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { record: true }
    }
}

impl Default for UseConfig {
    fn default() -> Self {
        Self { limit: true, max_fps: 10, max_bit_rate: 500_000 }
    }
}

/// A configuration's content.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// Its name.
    const NAME: ConfigName;

    /// Looks at what the types cannot say.
    ///
    /// # Errors
    /// Names the bad value and what is allowed.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Looks at the files that it names, when it is set: what is stored stays valid though a file is gone for a while.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    fn check_files(&self) -> Result<(), String> {
        Ok(())
    }

    /// Puts back what was masked when it was shown: `known` is what is stored.
    fn unmask(&mut self, known: &Self) {
        let _ = known;
    }

    /// Hides what must not be shown again.
    fn mask(&mut self) {}
}

impl Settings for RecoveryConfig {
    const NAME: ConfigName = ConfigName::Recovery;
}

impl Settings for HistoryConfig {
    const NAME: ConfigName = ConfigName::History;
}

impl Settings for UseConfig {
    const NAME: ConfigName = ConfigName::Use;

    fn check(&self) -> Result<(), String> {
        if !(1..=60).contains(&self.max_fps) {
            return Err(format!("maxFps is {}: allowed are 1 to 60", self.max_fps));
        }
        if !(100_000..=50_000_000).contains(&self.max_bit_rate) {
            return Err(format!("maxBitRate is {}: allowed are 100000 to 50000000", self.max_bit_rate));
        }
        Ok(())
    }
}

impl Settings for Limits {
    const NAME: ConfigName = ConfigName::Limits;

    fn check(&self) -> Result<(), String> {
        Self::check(self)
    }
}

// === impl ConfigName ===

impl ConfigName {
    /// All names.
    pub const ALL: [Self; 6] = [Self::Recovery, Self::History, Self::Checks, Self::Alerts, Self::Use, Self::Limits];

    /// The name, as in paths.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::History => "history",
            Self::Checks => "checks",
            Self::Alerts => "alerts",
            Self::Use => "use",
            Self::Limits => "limits",
        }
    }

    /// Looks at what was stored, perhaps by an earlier version: an error names what is not allowed (any more).
    pub(super) fn check(self, stored: &Value) -> Result<(), String> {
        match self {
            Self::Recovery => read::<RecoveryConfig>(stored).map(drop),
            Self::History => read::<HistoryConfig>(stored).map(drop),
            Self::Checks => read::<ChecksConfig>(stored).map(drop),
            Self::Alerts => read::<AlertsConfig>(stored).map(drop),
            Self::Use => read::<UseConfig>(stored).map(drop),
            Self::Limits => read::<Limits>(stored).map(drop),
        }
    }

    /// What stands for a configuration that was never set, or is set to `stored`; secrets are masked.
    pub(super) fn shown(self, stored: Option<&Value>) -> Value {
        match self {
            Self::Recovery => shown::<RecoveryConfig>(stored),
            Self::History => shown::<HistoryConfig>(stored),
            Self::Checks => shown::<ChecksConfig>(stored),
            Self::Alerts => shown::<AlertsConfig>(stored),
            Self::Use => shown::<UseConfig>(stored),
            Self::Limits => shown::<Limits>(stored),
        }
    }

    /// What is to be stored for a new value; an error names what is wrong with it.
    pub(super) fn taken(self, value: Value, stored: Option<&Value>) -> Result<Value, String> {
        match self {
            Self::Recovery => taken::<RecoveryConfig>(value, stored),
            Self::History => taken::<HistoryConfig>(value, stored),
            Self::Checks => taken::<ChecksConfig>(value, stored),
            Self::Alerts => taken::<AlertsConfig>(value, stored),
            Self::Use => taken::<UseConfig>(value, stored),
            Self::Limits => taken::<Limits>(value, stored),
        }
    }
}

/// The stored settings; the default where there are none.
pub(super) fn typed<T: Settings>(stored: Option<&Value>) -> T {
    // What is not allowed (any more) was told of when it was loaded.
    stored.and_then(|stored| read(stored).ok()).unwrap_or_default()
}

fn read<T: Settings>(stored: &Value) -> Result<T, String> {
    let settings = T::deserialize(stored).map_err(|error| error.to_string())?;
    settings.check()?;
    Ok(settings)
}

fn shown<T: Settings>(stored: Option<&Value>) -> Value {
    let mut settings: T = typed(stored);
    settings.mask();
    serde_json::to_value(settings).unwrap_or_default()
}

fn taken<T: Settings>(value: Value, stored: Option<&Value>) -> Result<Value, String> {
    let mut settings = T::deserialize(value).map_err(|error| error.to_string())?;
    settings.unmask(&typed(stored));
    settings.check()?;
    settings.check_files()?;
    let value = serde_json::to_value(settings).map_err(|error| error.to_string())?;
    let bytes = value.to_string().len();
    if bytes > MAX_BYTES {
        return Err(format!("it has {bytes} bytes: at most {MAX_BYTES} are allowed"));
    }
    Ok(value)
}

impl fmt::Display for ConfigName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ConfigName {
    type Err = UnknownConfig;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownConfig(text.chars().take(64).collect());
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_those_of_json() {
        for name in ConfigName::ALL {
            assert_eq!(serde_json::to_value(name).ok(), Some(name.as_str().into()));
            assert_eq!(name.as_str().parse(), Ok(name));
        }
        let error = "../etc".parse::<ConfigName>().expect_err("unknown").to_string();
        assert!(error.contains("recovery, history"), "{error}");
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        for (name, value, part) in [
            (ConfigName::Use, json!({"maxFpss": 3}), "maxFps"),
            (ConfigName::Use, json!({"maxFps": 0}), "1 to 60"),
            (ConfigName::Use, json!({"maxBitRate": 5}), "100000 to 50000000"),
            (ConfigName::Limits, json!({"pathLoss": 2}), "pathLoss is 2: allowed are 0 to 1"),
            (ConfigName::Recovery, json!({"automatic": "yes"}), "boolean"),
            (ConfigName::History, json!([1]), "expected"),
        ] {
            let error = name.taken(value, None).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
        let stored = ConfigName::Use.taken(json!({"maxFps": 5}), None).expect("allowed");
        assert_eq!(stored, json!({"limit": true, "maxFps": 5, "maxBitRate": 500_000}));
        assert_eq!(ConfigName::Use.shown(Some(&stored)), stored);
    }

    #[test]
    fn what_an_earlier_version_stored_may_be_the_default_again() {
        assert_eq!(typed::<UseConfig>(Some(&json!({"maxFps": 900}))), UseConfig::default());
        assert!(ConfigName::Use.check(&json!({"maxFps": 900})).is_err_and(|error| error.contains("1 to 60")));
        assert_eq!(ConfigName::Recovery.shown(None), json!({"automatic": true}));
    }
}
