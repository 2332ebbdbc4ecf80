//! What breaks is found, named, repaired within limits, and can be read about afterwards: real processes, and real guests
//! wherever a guest is concerned.
//!
//! Run one by its name: `cargo test -p loco-tests --test recovery frozen_qemu`. Logs: `target/test-artifacts/recovery-*`.
//! docs/faults.md names for every fault the test that shows it.
#![allow(clippy::print_stdout, reason = "a test: what was measured is shown beside its name")]

mod faults;
mod limits;
mod network;
mod remedies;
mod state;
mod usage;

use loco_tests::{alone, beside};
use std::process::ExitCode;

fn main() -> ExitCode {
    alone::run(vec![
        // Without guests, or with one that is waited for: these run beside the others.
        beside!(state::a_step_of_the_clock_changes_nothing),
        beside!(faults::a_frozen_agent_is_found_and_started_again),
        beside!(limits::what_no_attempt_repairs_is_given_up),
        beside!(network::a_silent_agent_is_a_fault_of_the_network),
        beside!(network::a_viewers_trouble_is_a_fault_of_the_client),
        beside!(state::a_corrupt_database_is_kept_aside),
        beside!(state::a_full_disk_is_told_and_survived),
        beside!(state::a_bad_list_of_instances_keeps_the_good_ones),
        beside!(network::a_blocked_port_is_a_fault_of_the_network),
        alone!(faults::a_killed_qemu_is_started_again_and_counted),
        alone!(faults::a_frozen_qemu_is_found_and_started_again),
        alone!(faults::a_killed_agent_is_started_again),
        alone!(faults::a_paused_guest_is_no_fault),
        alone!(remedies::reset_display),
        alone!(remedies::reset_sound),
        alone!(remedies::restart_stream),
        alone!(remedies::lower_quality),
        alone!(remedies::reset_network),
        alone!(remedies::restart_qemu),
        alone!(remedies::restart_agent),
        alone!(limits::attempts_survive_the_control_plane),
        alone!(limits::two_control_planes_make_three_attempts_together),
        alone!(usage::two_viewers_on_two_instances_and_then_on_one),
    ])
}
