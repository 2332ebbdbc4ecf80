//! The control plane: instances found or launched, their state, the HTTP API.
