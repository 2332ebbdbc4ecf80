//! Small answers kept between runs, in the user's cache folder. Losing them costs only time.

use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Entries kept in one file.
const MAX_ENTRIES: usize = 16;

/// The folder; `None` where there is no home.
pub(crate) fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME")
        .or_else(|| {
            let below = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
            absolute("HOME").map(|home| home.join(below))
        })
        .or_else(|| absolute("LOCALAPPDATA"))?;
    Some(base.join("loco-cluster"))
}

type Entries = BTreeMap<String, serde_json::Value>;

fn read(name: &str) -> Option<(PathBuf, Entries)> {
    let file = folder()?.join(format!("{name}.json"));
    let entries = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    Some((file, entries))
}

/// What was stored under `key`.
pub(crate) fn load<T: DeserializeOwned>(name: &str, key: &str) -> Option<T> {
    let (_, mut entries) = read(name)?;
    serde_json::from_value(entries.remove(key)?).ok()
}

/// Stores `value`; failing only means asking again.
pub(crate) fn store<T: Serialize>(name: &str, key: &str, value: &T) {
    let Some((file, mut entries)) = read(name) else { return };
    let Ok(value) = serde_json::to_value(value) else { return };
    if entries.len() >= MAX_ENTRIES {
        entries.clear();
    }
    entries.insert(key.to_owned(), value);
    let stored = (|| {
        let folder = file.parent()?;
        fs::create_dir_all(folder).ok()?;
        // Whole or not at all: others read at the same time.
        let new = tempfile::NamedTempFile::new_in(folder).ok()?;
        fs::write(new.path(), serde_json::to_vec(&entries).ok()?).ok()?;
        new.persist(&file).ok()
    })();
    if stored.is_none() {
        tracing::debug!(file = %file.display(), "cannot write the cache");
    }
}
