//! Configuration `alerts`.

use crate::checks::check_name;
use crate::outside::Target;
use crate::store::{ConfigName, Settings};
use loco_model::api::Severity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Webhooks at most.
const MAX_WEBHOOKS: usize = 16;
/// Longest cool-down in seconds: a day.
const MAX_COOL_DOWN_S: u32 = 86_400;

/// Who is told of alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// At most 16, each with its own name.
    #[schema(max_items = 16)]
    pub webhooks: Vec<Webhook>,
}

/// A server that alerts are sent to, by POST, as `{"event": "begin"|"end", "control": …, "alert": {…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// Its name, in logs and metrics.
    #[schema(max_length = 64, pattern = "\\S")]
    pub name: String,
    /// `http://…` or `https://…`. It may be a secret itself: it is never logged, and shown without its path; a URL that
    /// is set as it was shown stays what it was.
    #[schema(max_length = 2_048)]
    pub url: String,
    /// Alerts of less weight are not sent.
    #[serde(default = "default_severity")]
    pub min_severity: Severity,
    /// After an alert of one kind about one instance, further ones are not sent for so long, in seconds, 0 to 86,400.
    #[serde(default = "default_cool_down_s")]
    #[schema(maximum = 86_400)]
    pub cool_down_s: u32,
    /// Whether ends are sent, too.
    #[serde(default = "default_ends")]
    pub ends: bool,
    /// A private file (mode 0600) with the secret that requests are signed with, as tokens are kept; null: unsigned.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub secret_file: Option<PathBuf>,
}

const fn default_severity() -> Severity {
    Severity::Warning
}

const fn default_cool_down_s() -> u32 {
    300
}

const fn default_ends() -> bool {
    true
}

impl Settings for AlertsConfig {
    const NAME: ConfigName = ConfigName::Alerts;

    fn check(&self) -> Result<(), String> {
        if self.webhooks.len() > MAX_WEBHOOKS {
            return Err(format!("{} webhooks: at most {MAX_WEBHOOKS} are allowed", self.webhooks.len()));
        }
        let mut names = BTreeSet::new();
        for hook in &self.webhooks {
            check_name(&hook.name)?;
            if !names.insert(&hook.name) {
                return Err(format!("two webhooks are called {:?}", hook.name));
            }
            hook.check().map_err(|error| format!("webhook {:?}: {error}", hook.name))?;
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), String> {
        for hook in &self.webhooks {
            if let Some(path) = &hook.secret_file {
                super::webhook::secret(path).map_err(|error| format!("webhook {:?}: {error}", hook.name))?;
            }
        }
        Ok(())
    }

    fn unmask(&mut self, known: &Self) {
        for hook in &mut self.webhooks {
            let before = known.webhooks.iter().find(|before| before.name == hook.name);
            if let Some(before) = before.filter(|before| before.shown_url() == hook.url) {
                before.url.clone_into(&mut hook.url);
            }
        }
    }

    fn mask(&mut self) {
        for hook in &mut self.webhooks {
            hook.url = hook.shown_url();
        }
    }
}

// === impl Webhook ===

impl Webhook {
    fn shown_url(&self) -> String {
        Target::parse(&self.url).map(|target| target.masked()).unwrap_or_default()
    }

    fn check(&self) -> Result<(), String> {
        Target::parse(&self.url).map_err(|error| error.to_string())?;
        if self.url.ends_with("/…") {
            return Err(
                "the URL is masked, and no webhook of this name with this host is stored: give the whole URL".into()
            );
        }
        if self.cool_down_s > MAX_COOL_DOWN_S {
            return Err(format!("coolDownS is {}: allowed are 0 to {MAX_COOL_DOWN_S}", self.cool_down_s));
        }
        match &self.secret_file {
            Some(path) if !path.is_absolute() => Err("secretFile: expected an absolute path".to_owned()),
            Some(_) | None => Ok(()),
        }
    }
}
