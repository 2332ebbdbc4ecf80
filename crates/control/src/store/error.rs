//! What can go wrong with the store.

use super::settings::ConfigName;
use rusqlite::ErrorCode;
use std::io;
use std::path::PathBuf;

/// The store cannot be used as it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its folder cannot be made or entered.
    #[error("state folder {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another control plane uses the folder.
    #[error("state folder {path} is in use by another control plane: give each its own")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// Its thread cannot be started.
    #[error("the store's thread cannot be started: {0}")]
    Thread(io::Error),
    /// There is no such metric.
    #[error("unknown metric {name:?}: allowed are {allowed}")]
    UnknownMetric {
        /// What was asked for, shortened.
        name: String,
        /// All names.
        allowed: String,
    },
    /// The times that were asked for make no sense, or too many points.
    #[error("{0}")]
    Range(String),
    /// A configuration that is not taken.
    #[error("configuration {name}: {reason}")]
    Config {
        /// Which.
        name: ConfigName,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// It could not be read.
    #[error("the store cannot be read: {0}")]
    Read(String),
}

/// What a database says no with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its content cannot be used: to be put aside.
    Broken(String),
    /// The disk: may pass.
    Failing(String),
}

impl Fault {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Broken(reason) | Self::Failing(reason) => reason,
        }
    }
}

/// Whose fault an error is. Only what SQLite itself calls broken is: anything else is tried again with the same file.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn classify(error: rusqlite::Error) -> Fault {
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(ErrorCode::ReadOnly) => "the disk is read-only".to_owned(),
        _ => error.to_string(),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Broken(reason),
        // A table that is missing or has other columns, a value of another type: not the schema that its version says.
        Some(ErrorCode::Unknown) | None => Fault::Broken(reason),
        Some(_) => Fault::Failing(reason),
    }
}
