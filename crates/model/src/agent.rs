//! What an agent's own routes say, beside its report and its ledger.

use serde::{Deserialize, Serialize};

/// Who wrote a line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The agent itself.
    Agent,
    /// QEMU.
    Qemu,
    /// The guest, on its debug console.
    Guest,
}

/// One line: an element of `GET /logs`, and the event `line` of `GET /logs?follow=true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogLine {
    /// Who wrote it.
    pub source: LogSource,
    /// When the agent got it, in milliseconds since 1970 UTC.
    pub at_ms: u64,
    /// The line, at most 4 KiB.
    pub text: String,
}

/// A whole guest that was saved: an element of `GET /snapshots`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was saved, in milliseconds since 1970 UTC.
    pub saved_at_ms: u64,
    /// Bytes of its memory and devices.
    pub bytes: u64,
}

/// Body of `POST /snapshot` and `POST /snapshot/load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SnapshotOrder {
    /// 1 to 64 letters, digits, `-`, `_` or `.`, not beginning with `-` or `.`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"))]
    pub name: String,
}
