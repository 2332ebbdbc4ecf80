//! The control plane's API against its own OpenAPI document, with agents without guests behind it.
//!
//! Schemathesis makes the requests of the last test; `cargo xtask test` fetches it and says where it is by the variable
//! `LOCO_SCHEMATHESIS`.
#![allow(clippy::print_stdout, reason = "a test: what was measured is shown beside its name")]

mod document;
mod generated;
mod raw;
mod refusals;

use loco_tests::{alone, beside};
use std::process::ExitCode;

use generated::the_document_is_kept;
use refusals::{
    bodies_are_bounded_and_checked, every_operation_needs_a_token, paths_lead_nowhere_else, roles_are_kept_and_named,
};

fn main() -> ExitCode {
    alone::run(vec![
        beside!(the_document_is_kept),
        beside!(every_operation_needs_a_token),
        beside!(roles_are_kept_and_named),
        beside!(paths_lead_nowhere_else),
        beside!(bodies_are_bounded_and_checked),
    ])
}
