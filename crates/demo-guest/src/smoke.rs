//! The engine's smoke: a few puffs that rise, grow and fade.

use crate::cars::{CHIMNEY, PUFFS};
use crate::math::{Random, cos, sin};
use crate::train::Pose;

/// Puffs that live at once.
const COUNT: usize = 14;
/// Ticks that a puff lives.
const LIFE_TICKS: u8 = 30;
/// Ticks of extra steam that a whistle makes.
const WHISTLE_TICKS: u8 = 12;

/// One puff.
#[derive(Clone, Copy, Default)]
pub(crate) struct Puff {
    pub(crate) x: f32,
    pub(crate) y: f32,
    drift: f32,
    age: u8,
    alive: bool,
}

impl Puff {
    /// Which of the [`PUFFS`] pictures it looks like.
    pub(crate) fn look(&self) -> usize {
        usize::from(self.age) * PUFFS / usize::from(LIFE_TICKS)
    }
}

/// All puffs.
pub(crate) struct Smoke {
    puffs: [Puff; COUNT],
    /// Ticks of extra steam that are left.
    steam: u8,
    ticks: u64,
    random: Random,
}

impl Smoke {
    pub(crate) fn new(seed: u32) -> Self {
        Self { puffs: [Puff::default(); COUNT], steam: 0, ticks: 0, random: Random::new(seed) }
    }

    /// The puffs that can be seen.
    pub(crate) fn puffs(&self) -> impl Iterator<Item = &Puff> {
        self.puffs.iter().filter(|puff| puff.alive)
    }

    /// Steam comes out.
    pub(crate) fn whistle(&mut self) {
        self.steam = WHISTLE_TICKS;
    }

    /// One tick further; an engine at this speed puffs, one at 0 does not.
    pub(crate) fn tick(&mut self, engine: &Pose, speed: u8) {
        self.ticks += 1;
        // Each puff moves in every second tick, one half of them and the other in turn: smooth enough, for half of the
        // pixels.
        let turn = (self.ticks & 1) as usize;
        for puff in self.puffs.iter_mut().skip(turn).step_by(2).filter(|puff| puff.alive) {
            puff.age += 2;
            puff.x += 2.0 * puff.drift;
            puff.y -= 1.5 - 0.024 * f32::from(puff.age);
            puff.alive = puff.age < LIFE_TICKS;
        }
        let pace = (18 / (1 + u64::from(speed))).max(3);
        let due = speed > 0 && self.ticks.is_multiple_of(pace);
        let steaming = self.steam > 0;
        self.steam = self.steam.saturating_sub(1);
        if (due || steaming)
            && let Some(puff) = self.puffs.iter_mut().find(|puff| !puff.alive)
        {
            let (forward, up) = CHIMNEY;
            *puff = Puff {
                x: engine.x + forward * cos(engine.heading),
                y: engine.y + forward * sin(engine.heading) - up,
                drift: self.random.between(-0.05, 0.35),
                age: 0,
                alive: true,
            };
        }
    }
}
