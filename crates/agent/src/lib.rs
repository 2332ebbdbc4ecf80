//! The process beside one guest: guest and media behind HTTP.
//!
//! Data goes one way each: the guest's picture and sound into the media sender ([`bridge`]), the viewers' input into the
//! guest ([`input`]), counters into reports ([`report`]), and all of it is reached by HTTP ([`http`]). What goes wrong is
//! repaired ([`repair`]) by order or, when QEMU ends, at once; how much of the machine it takes is told ([`usage`]).

mod agent;
mod args;
mod ask;
mod bridge;
mod caps;
mod hands;
mod heart;
mod http;
mod image;
mod input;
mod limits;
mod logs;
mod metrics;
mod page;
mod process;
mod repair;
mod report;
mod run;
mod seats;
mod usage;

pub use args::{AgentArgs, AgentCommand, AskArgs};
pub use logs::LogLayer;
pub use run::run;
