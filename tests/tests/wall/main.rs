//! Nine real guests in a real window: what a person sees, hears and does, and what happens when something breaks.
//!
//! One wall serves all; each step leaves it as it found it. Run one by its name: `cargo test -p loco-tests --test wall
//! still`. Screenshots and logs: `target/test-artifacts`.
#![allow(clippy::print_stdout, reason = "a test: what was measured is shown beside its name")]

mod faults;
mod input;
mod refusals;
mod sound;
mod still;
mod watchers;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use loco_tests::ears::SoundServer;
use loco_tests::step;
use loco_tests::steps::{self, Step};
use loco_tests::wall::{Options, Wall};
use std::process::ExitCode;

/// Instances that steps break or single out; none twice, so that a failure shows its own trace only.
const POINTED: usize = 1;
const WHISTLING: usize = 2;
const QEMU_KILLED: usize = 4;
const AGENT_KILLED: usize = 6;
const BROWSED: usize = 8;

fn main() -> Result<ExitCode> {
    let steps: Vec<Step<Stage>> = vec![
        step!(all_nine_are_live),
        step!(input::a_click_and_a_key_reach_one_tile_and_no_other),
        step!(input::chords_move_the_focus_and_reach_no_guest),
        step!(input::the_pointer_moves_in_its_guest_only),
        step!(input::keys_held_are_released_when_the_window_loses_the_focus),
        step!(sound::a_whistle_is_heard_and_metered_on_its_tile_only),
        step!(sound::a_muted_tile_is_silent),
        step!(sound::a_flash_and_its_click_are_seen_and_heard_together),
        step!(still::still_guests_are_live_and_send_almost_nothing),
        step!(watchers::two_viewers_show_the_same_key),
        step!(watchers::a_browser_plays_one_with_picture_and_sound),
        step!(refusals::tokens),
        step!(refusals::hosts_and_origins),
        step!(refusals::requests),
        step!(faults::a_killed_qemu_comes_back_alone),
        step!(faults::a_killed_agent_comes_back_alone),
        step!(faults::agents_go_on_without_a_viewer),
        step!(all_nine_are_live),
        step!(faults::a_killed_demo_leaves_nothing),
    ];
    steps::run(|| Stage::start().boxed_local(), steps, |stage| stage.stop().boxed_local())
}

/// The wall and what is around it.
pub(crate) struct Stage {
    pub(crate) wall: Wall,
    pub(crate) sound: SoundServer,
    /// A step ended the demo.
    pub(crate) ended: bool,
}

impl Stage {
    async fn start() -> Result<Self> {
        let sound = SoundServer::start().await?;
        let wall = Wall::start(Options {
            name: "wall",
            arguments: ["-n", "9"].map(str::to_owned).to_vec(),
            environment: sound.environment(),
        })
        .await?;
        Ok(Self { wall, sound, ended: false })
    }

    async fn stop(self) -> Result<()> {
        if self.ended { Ok(()) } else { self.wall.stop().await }
    }
}

async fn all_nine_are_live(stage: &mut Stage) -> Result<()> {
    let wall = &stage.wall;
    ensure!(wall.len() == 9, "{} instances", wall.len());
    wall.wait_live().await?;
    wall.save_screen("live")
}
