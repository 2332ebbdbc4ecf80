//! WebRTC, and all that knows its crate's types.
