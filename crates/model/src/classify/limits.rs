//! Where "too much" begins.

use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// Longest time that may be set, in milliseconds: an hour.
const MAX_MS: u64 = 3_600_000;
/// Least memory that an agent may be held to, in bytes: one that encodes takes more.
const LEAST_MEMORY: u64 = 16 << 20;
/// Most memory that an agent may be held to, in bytes: no machine has it.
const MOST_MEMORY: u64 = 1 << 50;

/// Where "too much" begins. What is left out in JSON is as by default.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Cores that QEMU may take, 0.05 to 1,024; null: as many as it likes.
    #[cfg_attr(feature = "openapi", schema(minimum = 0.05, maximum = 1024))]
    pub qemu_cores: Option<f64>,
    /// Memory that QEMU may take, in percent of what its place has, 1 to 100; null: as much as it likes.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 100))]
    pub qemu_memory_percent: Option<f64>,
    /// Resident memory that an agent may take, in bytes, 16 MiB to 1 PiB; null: as much as it likes.
    #[cfg_attr(feature = "openapi", schema(minimum = 16_777_216, maximum = 1_125_899_906_842_624_i64))]
    pub agent_memory_bytes: Option<u64>,
    /// Frames a minute that a guest's network card may lose, 0 to 1,000,000.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1_000_000))]
    pub network_errors_per_minute: f64,
    /// Share of packets that may be lost on the way to viewers, 0..=1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub path_loss: f64,
    /// How long a guest may take from its start until it runs, in milliseconds, 1,000 to 3,600,000.
    #[cfg_attr(feature = "openapi", schema(minimum = 1_000, maximum = 3_600_000))]
    pub start_ms: u64,
    /// How long it may run without a picture after its start, in milliseconds, 1,000 to 3,600,000.
    #[cfg_attr(feature = "openapi", schema(minimum = 1_000, maximum = 3_600_000))]
    pub first_picture_ms: u64,
    /// How long it may be without a picture after it had one, in milliseconds, 1,000 to 3,600,000.
    #[cfg_attr(feature = "openapi", schema(minimum = 1_000, maximum = 3_600_000))]
    pub picture_ms: u64,
    /// How long an agent may be silent until a person should see it as failed, in milliseconds, 1,000 to 3,600,000.
    #[cfg_attr(feature = "openapi", schema(minimum = 1_000, maximum = 3_600_000))]
    pub silence_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            qemu_cores: None,
            qemu_memory_percent: Some(95.0),
            agent_memory_bytes: None,
            network_errors_per_minute: 60.0,
            path_loss: 0.1,
            start_ms: 60_000,
            first_picture_ms: 30_000,
            picture_ms: 5_000,
            silence_ms: 30_000,
        }
    }
}

// === impl Limits ===

impl Limits {
    /// Looks at what the types cannot say.
    ///
    /// # Errors
    /// Names the value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if let Some(cores) = self.qemu_cores {
            within("qemuCores", cores, 0.05, 1024.0)?;
        }
        if let Some(percent) = self.qemu_memory_percent {
            within("qemuMemoryPercent", percent, 1.0, 100.0)?;
        }
        if let Some(bytes) = self.agent_memory_bytes {
            within("agentMemoryBytes", bytes, LEAST_MEMORY, MOST_MEMORY)?;
        }
        within("networkErrorsPerMinute", self.network_errors_per_minute, 0.0, 1_000_000.0)?;
        within("pathLoss", self.path_loss, 0.0, 1.0)?;
        for (name, ms) in [
            ("startMs", self.start_ms),
            ("firstPictureMs", self.first_picture_ms),
            ("pictureMs", self.picture_ms),
            ("silenceMs", self.silence_ms),
        ] {
            within(name, ms, 1_000, MAX_MS)?;
        }
        Ok(())
    }
}

fn within<T: PartialOrd + Display + Copy>(name: &str, value: T, least: T, most: T) -> Result<(), String> {
    // What is no number is within nothing.
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name} is {value}: allowed are {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_by_default() {
        let limits: Limits = serde_json::from_str(r#"{"qemuCores":1.5,"qemuMemoryPercent":null}"#).expect("limits");
        let want = Limits { qemu_cores: Some(1.5), qemu_memory_percent: None, ..Limits::default() };
        assert_eq!(limits, want);
        assert_eq!(serde_json::from_str::<Limits>("{}").ok(), Some(Limits::default()));
        assert_eq!((limits.check(), Limits::default().check()), (Ok(()), Ok(())));
        assert!(serde_json::from_str::<Limits>(r#"{"cpu":1}"#).is_err_and(|error| error.to_string().contains("cpu")));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let usual = Limits::default();
        for (limits, says) in [
            (Limits { qemu_cores: Some(0.0), ..usual }, "qemuCores is 0: allowed are 0.05 to 1024"),
            (Limits { qemu_cores: Some(f64::NAN), ..usual }, "qemuCores is NaN"),
            (Limits { qemu_memory_percent: Some(101.0), ..usual }, "qemuMemoryPercent is 101: allowed are 1 to 100"),
            (Limits { agent_memory_bytes: Some(1), ..usual }, "agentMemoryBytes is 1"),
            (Limits { network_errors_per_minute: -1.0, ..usual }, "networkErrorsPerMinute is -1"),
            (Limits { path_loss: 1.1, ..usual }, "pathLoss is 1.1: allowed are 0 to 1"),
            (Limits { start_ms: 0, ..usual }, "startMs is 0: allowed are 1000 to 3600000"),
            (Limits { first_picture_ms: MAX_MS + 1, ..usual }, "firstPictureMs is 3600001"),
            (Limits { picture_ms: 999, ..usual }, "pictureMs is 999"),
            (Limits { silence_ms: u64::MAX, ..usual }, "silenceMs is 18446744073709551615"),
        ] {
            assert!(limits.check().is_err_and(|error| error.starts_with(says)), "{limits:?}");
        }
    }
}
