//! What servers and clients of this project share: tokens, problem details, graceful stop.
