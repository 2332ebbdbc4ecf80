//! The town in mode marker: the field's squares, and when they change.

use super::{Machine, Town};
use crate::TICKS_PER_SECOND;
use crate::geometry::Rect;
use crate::marker::{FLASH, FLASH_TICKS, REST, SIDE, field_rect, square_rect};
use crate::mode::Mode;
use crate::panel::STRIP_COLOURS;

/// The marker's state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Ticks until the flash ends; 0: none.
    lit: u64,
    /// Flashes so far, wrapping.
    count: u16,
    /// The machine clicks; else the ticks say when.
    clicks: bool,
    /// Ticks since the last flash.
    since: u64,
}

impl State {
    pub(super) fn is_lit(&self) -> bool {
        self.lit > 0
    }
}

impl Town<'_> {
    /// The sound card began to read the block that holds a click.
    pub fn click(&mut self, machine: &mut dyn Machine) {
        if self.mode == Mode::Marker {
            self.flash(machine);
        }
    }

    fn flash(&mut self, machine: &mut dyn Machine) {
        self.marker.count = self.marker.count.wrapping_add(1);
        machine.log(format_args!("loco: marker n={}", self.marker.count));
        self.marker.lit = u64::from(FLASH_TICKS);
        self.marker.since = 0;
        self.show_field(machine);
        self.show_strip(machine);
    }

    /// The mode was or will be marker: clicks begin or end, the field comes or goes.
    pub(super) fn mark(&mut self, on: bool, machine: &mut dyn Machine) {
        self.marker.lit = 0;
        self.marker.since = 0;
        self.marker.clicks = machine.set_marker(on);
        if !on {
            let status = self.status();
            let field = self.field();
            self.stage.draw_background(field, &self.layout, &self.track, &status);
        }
    }

    pub(super) fn tick_marker(&mut self, elapsed: u64, machine: &mut dyn Machine) {
        self.marker.since += elapsed;
        if self.marker.is_lit() {
            self.marker.lit = self.marker.lit.saturating_sub(elapsed);
            if !self.marker.is_lit() {
                self.show_field(machine);
            }
        }
        if !self.marker.clicks && self.marker.since >= u64::from(TICKS_PER_SECOND) {
            self.flash(machine);
        }
    }

    fn field(&self) -> Rect {
        let (x, y, w, h) = field_rect(self.stage.width as u32, self.stage.height as u32);
        Rect::new(x as i32, y as i32, w as i32, h as i32)
    }

    /// Draws the squares into frame and background.
    pub(super) fn draw_field(&mut self) {
        let light = if self.marker.is_lit() { FLASH } else { REST };
        for index in 0..SIDE * SIDE {
            let (x, y, w, h) = square_rect(index, self.stage.width as u32, self.stage.height as u32);
            let rect = Rect::new(x as i32, y as i32, w as i32, h as i32);
            self.stage.fill_strip(rect, STRIP_COLOURS[usize::from(light >> index & 1)]);
        }
    }

    fn show_field(&mut self, machine: &mut dyn Machine) {
        self.draw_field();
        machine.present(self.stage.frame(), self.stage.width as usize, self.field());
    }
}
