//! What the servers and the clients of this project share, so that each rule exists once: bearer tokens and their roles
//! from private files, cookies for browsers, the check of `Host` and `Origin`, ids of requests, errors as problem details,
//! bounded bodies and waiting times, a graceful stop; and a small client with the same token that also reads server-sent
//! events.

mod access;
pub mod body;
pub mod client;
pub mod guard;
pub mod login;
pub mod problem;
pub mod role;
pub mod serve;
pub mod sse;
pub mod token;
pub mod trace;
pub mod websocket;

pub use access::Access;
pub use body::{JsonBody, OptionalJson};
pub use client::{Client, ClientError, EventStream, Fetched};
pub use guard::{Guard, HostName, Origin, bearer};
pub use login::Login;
pub use problem::{Failure, problem_details};
pub use role::Role;
pub use serve::{BindError, Connections, Limits, Server};
pub use sse::{ServerEvent, event_response, last_event_id, numbered_event_response};
pub use token::{Token, TokenError, TokenFile, Tokens};
pub use trace::RequestId;
