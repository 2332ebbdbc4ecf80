//! The process beside one guest: guest and media behind HTTP.
//!
//! Data goes one way each: the guest's picture and sound into the media sender ([`bridge`]), the viewers' input into the
//! guest ([`input`]), counters into reports ([`report`]), and all of it is reached by HTTP ([`http`]).

mod agent;
mod args;
mod bridge;
mod http;
mod input;
mod ledger;
mod metrics;
mod page;
mod process;
mod report;
mod run;

pub use args::AgentArgs;
pub use run::run;
