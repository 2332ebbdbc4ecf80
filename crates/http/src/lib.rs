//! What the servers and the clients of this project share, so that each rule exists once: bearer tokens from private
//! files, the check of `Host` and `Origin`, errors as problem details, bounded bodies and waiting times, a graceful
//! stop; and a small client with the same token that also reads server-sent events.

pub mod client;
pub mod guard;
pub mod problem;
pub mod serve;
pub mod sse;
pub mod token;

pub use client::{Client, ClientError, EventStream};
pub use guard::{Guard, HostName, Origin};
pub use problem::{Failure, problem_details};
pub use serve::{BindError, Limits, Server};
pub use sse::{ServerEvent, event_response};
pub use token::{Token, TokenError, TokenFile};
