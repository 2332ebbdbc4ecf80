//! Meters.
