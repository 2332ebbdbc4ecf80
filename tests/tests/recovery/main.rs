//! What breaks is found, named, repaired within limits, and can be read about afterwards: real processes, and real guests
//! wherever a guest is concerned.
//!
//! Every test has the machine for itself; run one by its name: `cargo test -p loco-tests --test recovery freeze`. Logs:
//! `target/test-artifacts/recovery-*`. docs/faults.md names for every fault the test that shows it.
#![allow(clippy::print_stdout, reason = "a test: what was measured is shown beside its name")]

mod faults;
mod limits;
mod network;
mod remedies;
mod state;
mod usage;

use loco_tests::alone;
use std::process::ExitCode;

fn main() -> ExitCode {
    alone::run(vec![
        alone!(faults::a_killed_qemu_is_started_again_and_counted),
        alone!(faults::a_frozen_qemu_is_found_and_started_again),
        alone!(faults::a_killed_agent_is_started_again),
        alone!(faults::a_frozen_agent_is_found_and_started_again),
        alone!(faults::a_paused_guest_is_no_fault),
        alone!(remedies::reset_display),
        alone!(remedies::reset_sound),
        alone!(remedies::restart_stream),
        alone!(remedies::lower_quality),
        alone!(remedies::reset_network),
        alone!(remedies::restart_qemu),
        alone!(remedies::restart_agent),
        alone!(network::a_blocked_port_is_a_fault_of_the_network),
        alone!(network::a_silent_agent_is_a_fault_of_the_network),
        alone!(network::a_viewers_trouble_is_a_fault_of_the_client),
        alone!(state::a_corrupt_database_is_kept_aside),
        alone!(state::a_full_disk_is_told_and_survived),
        alone!(state::a_step_of_the_clock_changes_nothing),
        alone!(state::a_bad_list_of_instances_keeps_the_good_ones),
        alone!(limits::attempts_survive_the_control_plane),
        alone!(limits::two_control_planes_make_three_attempts_together),
        alone!(limits::what_no_attempt_repairs_is_given_up),
        alone!(usage::two_viewers_on_two_instances_and_then_on_one),
    ])
}
