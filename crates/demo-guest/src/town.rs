//! The town as a whole: what ticks and input do to it, and which pixels that changes.

use crate::INSTANCE_COLOURS;
use crate::barcode::{self, Reading};
use crate::cars::{HEADINGS, SAILS};
use crate::geometry::Rect;
use crate::layout::Layout;
use crate::mode::Mode;
use crate::options::{Options, Resolution};
use crate::paint::depth_at;
use crate::panel::{self, STRIP_COLOURS, Status};
use crate::ps2::{AbsoluteEvent, KeyEvent, MouseEvent};
use crate::smoke::Smoke;
use crate::sprites::{BOX, Look, Sprites};
use crate::stage::{Dirty, Item, Items, Stage};
use crate::track::{Track, cell_at};
use crate::train::{CARS, Pose, Train};

mod key;
mod machine;
mod marker;

pub use machine::{Machine, Memory};

const LEFT: u8 = 1;
const MIDDLE: u8 = 2;
const RIGHT: u8 = 4;

/// Ticks between two pictures of the windmill's sails.
const SAIL_TICKS: u32 = 3;
/// The cursor's depth: over everything but the strip.
const CURSOR_DEPTH: u8 = 254;
/// Pixels that the town moves by in a tick of mode busy.
const BUSY_STEP: i32 = 8;
/// Odd, and far beyond what an encoder's search for motion reaches.
const STORM_STEP: i32 = 211;

/// The town.
pub struct Town<'a> {
    stage: Stage<'a>,
    layout: Layout,
    track: Track,
    train: Train,
    smoke: Smoke,
    /// Ticks in which the town lived.
    lived: u32,
    resolution: Resolution,
    mode: Mode,
    music: bool,
    counter: u64,
    input_code: u16,
    input_count: u16,
    held_keys: [u32; 8],
    buttons: u8,
    /// The cursor's tip in pixels.
    cursor: (i32, i32),
    block: (i32, i32),
    block_step: (i32, i32),
    items: Items,
    cells: barcode::Cells,
    marker: marker::State,
}

impl<'a> Town<'a> {
    /// A town that is not yet shown.
    pub fn new(options: &Options, memory: Memory<'a>) -> Self {
        let Memory { background, depths, frame, sprites } = memory;
        let instance = options.instance.min(8);
        let (layout, track) = Layout::new(instance);
        let (cell, side) = layout.start();
        let train = Train::new(&track, cell, side);
        let sprites = Sprites::new(sprites, instance);
        Self {
            stage: Stage::new(background, depths, frame, sprites),
            layout,
            track,
            train,
            smoke: Smoke::new(u32::from(instance)),
            lived: 0,
            resolution: options.resolution,
            mode: options.mode,
            music: options.music,
            counter: 0,
            input_code: 0,
            input_count: 0,
            held_keys: [0; 8],
            buttons: 0,
            cursor: (320, 200),
            block: (40, 60),
            block_step: (5, 4),
            items: Items::new(),
            cells: [false; barcode::CELLS],
            marker: marker::State::default(),
        }
    }

    /// Shows the town for the first time.
    pub fn start(&mut self, machine: &mut dyn Machine) {
        self.set_resolution(self.resolution, machine);
        machine.set_music(self.music);
        if self.mode == Mode::Marker {
            self.mark(true, machine);
        }
        machine.set_ticking(self.mode != Mode::Quiet);
    }

    /// `elapsed` thirtieths of a second went by.
    pub fn tick(&mut self, elapsed: u64, machine: &mut dyn Machine) {
        if self.mode == Mode::Quiet || elapsed == 0 {
            return;
        }
        self.counter += elapsed;
        match self.mode {
            Mode::Town => {
                self.train.tick(&self.track);
                let speed = if self.train.moves() { self.train.speed() } else { 0 };
                self.smoke.tick(&self.train.cars()[0], speed);
                self.lived = self.lived.wrapping_add(1);
                self.refresh(machine);
            }
            Mode::Box => {
                self.tick_box();
                self.refresh(machine);
            }
            Mode::Busy | Mode::Storm => {
                self.stage.scroll += if self.mode == Mode::Busy { BUSY_STEP } else { STORM_STEP };
                let town = Rect::new(0, 0, self.stage.width, panel::top_row(self.stage.width));
                self.present(town, machine);
            }
            Mode::Marker => self.tick_marker(elapsed, machine),
            Mode::Quiet => {}
        }
        self.show_strip(machine);
    }

    /// A key went down or up.
    pub fn key(&mut self, event: KeyEvent, machine: &mut dyn Machine) {
        let KeyEvent { code, pressed } = event;
        let bit = 1 << (code & 31);
        let word = &mut self.held_keys[usize::from(code >> 5)];
        *word = if pressed { *word | bit } else { *word & !bit };
        self.echo(pressed.then_some(u16::from(code)), machine);
        let count = self.input_count;
        machine.log(format_args!("loco: key code={code:#04x} pressed={} count={count}", u8::from(pressed)));
        if !pressed {
            return;
        }
        match code {
            _ if key::UP.contains(&code) => self.set_speed(self.train.speed().saturating_add(1), machine),
            _ if key::DOWN.contains(&code) => self.set_speed(self.train.speed().saturating_sub(1), machine),
            _ if key::ENTER.contains(&code) => self.edit(None, machine),
            key::SPACE => self.whistle(machine),
            key::T => self.set_mode(Mode::Town, machine),
            key::Q => self.set_mode(Mode::Quiet, machine),
            key::B => self.set_mode(Mode::Box, machine),
            key::K => self.set_mode(Mode::Marker, machine),
            key::Y => self.set_mode(Mode::Busy, machine),
            key::X => self.set_mode(Mode::Storm, machine),
            key::F1..=key::F3 => self.set_resolution(Resolution::ALL[usize::from(code - key::F1)], machine),
            key::M => {
                self.music = !self.music;
                machine.set_music(self.music);
                machine.log(format_args!("loco: music on={}", u8::from(self.music)));
                self.show_status(machine);
            }
            key::C => self.redraw(machine),
            _ => {}
        }
    }

    /// The mouse moved, or a button went down or up.
    pub fn mouse(&mut self, event: MouseEvent, machine: &mut dyn Machine) {
        let (x, y) = self.cursor;
        self.point((x + event.dx, y + event.dy), event.wheel, event.buttons, machine);
    }

    /// The tablet was pointed somewhere, or a button went down or up.
    pub fn tablet(&mut self, event: AbsoluteEvent, machine: &mut dyn Machine) {
        let at = |part: u16, size: i32| (i32::from(part) * size) >> 16;
        let to = (at(event.x, self.stage.width), at(event.y, self.stage.height));
        self.point(to, event.wheel, event.buttons, machine);
    }

    fn point(&mut self, to: (i32, i32), wheel: i32, buttons: u8, machine: &mut dyn Machine) {
        let before = self.cursor;
        self.cursor = (to.0.clamp(0, self.stage.width - 1), to.1.clamp(0, self.stage.height - 1));
        let changed = self.buttons ^ buttons;
        self.buttons = buttons;
        // The strip first: it is what answers, and it holds the new position already.
        for index in 0..3u16 {
            if changed >> index & 1 != 0 {
                let pressed = self.buttons >> index & 1;
                self.echo((pressed == 1).then_some(barcode::POINTER_BUTTON | index), machine);
                let ((x, y), count) = (self.cursor, self.input_count);
                machine.log(format_args!("loco: button n={index} pressed={pressed} x={x} y={y} count={count}"));
            }
        }
        if wheel != 0 {
            let button = if wheel > 0 { 3 } else { 4 };
            self.echo(Some(barcode::POINTER_BUTTON | button), machine);
            let (speed, step) = (i32::from(self.train.speed()), wheel.signum());
            self.set_speed((speed + step).max(0) as u8, machine);
        }
        if self.cursor != before {
            self.show_strip(machine);
            if self.buttons & MIDDLE != 0 || self.is_held(key::P) {
                self.chalk(before, machine);
            }
            self.refresh(machine);
        }
        if changed & self.buttons & LEFT != 0 {
            self.edit(Some(true), machine);
        }
        if changed & self.buttons & RIGHT != 0 {
            self.edit(Some(false), machine);
        }
    }

    fn is_held(&self, code: u8) -> bool {
        self.held_keys[usize::from(code >> 5)] >> (code & 31) & 1 != 0
    }

    /// Counts a press, and shows it and what is held at once.
    fn echo(&mut self, press: Option<u16>, machine: &mut dyn Machine) {
        if let Some(code) = press {
            self.input_code = code;
            self.input_count = self.input_count.wrapping_add(1);
        }
        self.show_strip(machine);
    }

    fn set_speed(&mut self, speed: u8, machine: &mut dyn Machine) {
        self.train.set_speed(speed);
        machine.log(format_args!("loco: speed step={}", self.train.speed()));
        self.show_status(machine);
    }

    fn whistle(&mut self, machine: &mut dyn Machine) {
        if machine.whistle() {
            machine.log(format_args!("loco: whistle"));
        }
        if self.mode == Mode::Town {
            self.smoke.whistle();
        }
    }

    fn set_mode(&mut self, mode: Mode, machine: &mut dyn Machine) {
        if self.mode != mode {
            let marked = self.mode == Mode::Marker;
            self.mode = mode;
            self.stage.scroll = 0;
            if marked || mode == Mode::Marker {
                self.mark(!marked, machine);
            }
            self.refresh_whole(machine);
            self.show_status(machine);
            self.show_strip(machine);
            machine.set_ticking(mode != Mode::Quiet);
        }
        machine.log(format_args!("loco: mode name={}", mode.name()));
    }

    fn set_resolution(&mut self, resolution: Resolution, machine: &mut dyn Machine) {
        let (width, height) = resolution.size();
        let (width, height) = (i32::from(width), i32::from(height));
        let (old_width, old_height) = (self.stage.width, self.stage.height);
        self.resolution = resolution;
        self.stage.resize(width, height);
        self.cursor = (self.cursor.0 * width / old_width, self.cursor.1 * height / old_height);
        self.block = (40, 60);
        machine.set_resolution(resolution);
        self.redraw(machine);
        machine.log(format_args!("loco: size name={}", resolution.name()));
    }

    /// Places (`Some(true)`), removes (`Some(false)`) or toggles a piece of track under the cursor.
    fn edit(&mut self, place: Option<bool>, machine: &mut dyn Machine) {
        let scale = self.stage.scale();
        let cell = cell_at(self.cursor.0 as f32 / scale, self.cursor.1 as f32 / scale);
        let place = place.unwrap_or(!self.track.has(cell));
        let result = self.layout.is_free(cell).and_then(|()| {
            if place {
                self.track.place(cell)
            } else if self.train.is_on(cell) {
                Err(crate::track::Refusal::Train)
            } else {
                self.track.remove(cell)
            }
        });
        let (what, (x, y)) = (if place { "place" } else { "remove" }, cell);
        match result {
            Ok(()) => machine.log(format_args!("loco: track {what}={x},{y}")),
            Err(why) => {
                machine.log(format_args!("loco: track {what}={x},{y} refused={}", why.name()));
                return;
            }
        }
        // The piece, its neighbours, and trees around that reach into them.
        let side = crate::track::CELL;
        let (left, top) = ((x as f32 - 1.5) * side * scale, (y as f32 - 2.0) * side * scale);
        let around = Rect::new(left as i32, top as i32, (side * scale * 4.0) as i32, (side * scale * 4.0) as i32);
        let town = Rect::new(0, 0, self.stage.width, panel::top_row(self.stage.width));
        let around = around.intersection(town);
        let status = self.status();
        self.stage.draw_background(around, &self.layout, &self.track, &status);
        self.present(around, machine);
    }

    /// Draws the way of the pointer onto the ground.
    fn chalk(&mut self, from: (i32, i32), machine: &mut dyn Machine) {
        let scale = self.stage.scale();
        let unit = |(x, y): (i32, i32)| ((x as f32 + 0.5) / scale, (y as f32 + 0.5) / scale);
        let (from, to) = (unit(from), unit(self.cursor));
        let margin = (4.0 * scale) as i32 + 2;
        let point = |(x, y): (f32, f32)| {
            Rect::new((x * scale) as i32 - margin, (y * scale) as i32 - margin, 2 * margin, 2 * margin)
        };
        let town = Rect::new(0, 0, self.stage.width, panel::top_row(self.stage.width));
        let around = point(from).union(point(to)).intersection(town);
        let colour = INSTANCE_COLOURS[usize::from(self.layout.instance)];
        let mut canvas = self.stage.canvas(around);
        for (width, colour) in [(4.6, 0x10161e), (3.0, colour)] {
            canvas.line(from, to, width, colour, 255);
            canvas.circle(from.0, from.1, width / 2.0, colour);
            canvas.circle(to.0, to.1, width / 2.0, colour);
        }
        self.present(around, machine);
    }

    fn tick_box(&mut self) {
        let limits = (self.stage.width - BOX.0, panel::sign_rect(self.stage.width).top - BOX.1);
        let bounce = |place: &mut i32, step: &mut i32, limit: i32| {
            *place += *step;
            if *place < 0 || *place > limit {
                *step = -*step;
                *place = (*place).clamp(0, limit);
            }
        };
        bounce(&mut self.block.0, &mut self.block_step.0, limits.0);
        bounce(&mut self.block.1, &mut self.block_step.1, limits.1);
    }

    /// What moves, as it is now, from the back to the front.
    fn moving(&self) -> Items {
        let scale = self.stage.scale();
        let pixel = |unit: f32| (unit * scale + 0.5) as i32;
        let mut items = Items::new();
        if !matches!(self.mode, Mode::Busy | Mode::Storm) {
            let mut order: [usize; CARS] = core::array::from_fn(|car| car);
            let cars: [Pose; CARS] = self.train.cars();
            order.sort_unstable_by(|a, b| cars[*a].y.total_cmp(&cars[*b].y));
            for car in order {
                let Pose { x, y, heading } = cars[car];
                let heading = (heading * HEADINGS as f32 + 0.5) as usize % HEADINGS;
                let depth = depth_at(y + 8.0);
                items.push(Item { look: Look::Car(car, heading), x: pixel(x), y: pixel(y), depth });
            }
            if let Some((x, y)) = self.layout.mill() {
                let (hub, depth) = (crate::cars::HUB_HEIGHT, depth_at(y));
                let look = Look::Sails((self.lived / SAIL_TICKS) as usize % SAILS);
                items.push(Item { look, x: pixel(x), y: pixel(y - hub), depth });
            }
            for puff in self.smoke.puffs() {
                let depth = depth_at(puff.y + 60.0);
                items.push(Item { look: Look::Puff(puff.look()), x: pixel(puff.x), y: pixel(puff.y), depth });
            }
        }
        if self.mode == Mode::Box {
            items.push(Item { look: Look::Box, x: self.block.0, y: self.block.1, depth: panel::DEPTH - 1 });
        }
        items.push(Item { look: Look::Sign, x: 0, y: 0, depth: panel::DEPTH });
        items.push(Item { look: Look::Cursor, x: self.cursor.0, y: self.cursor.1, depth: CURSOR_DEPTH });
        items
    }

    /// Shows where things are now, by the rectangles of those that changed.
    fn refresh(&mut self, machine: &mut dyn Machine) {
        let now = self.moving();
        let before = core::mem::replace(&mut self.items, now);
        let mut dirty = Dirty::new();
        // Cars change their order seldom and puffs keep theirs, so equal ones are found by looking.
        for (these, those) in [(&before, &now), (&now, &before)] {
            for item in these.iter().filter(|item| !those.iter().any(|other| other == *item)) {
                let rect = self.stage.rect(item);
                dirty.add(rect);
            }
        }
        for rect in dirty.iter() {
            self.present(rect, machine);
        }
    }

    /// Puts a rectangle together and shows it.
    fn present(&mut self, rect: Rect, machine: &mut dyn Machine) {
        let items = self.items;
        let shown = self.stage.compose(rect, &items);
        if !shown.is_empty() {
            machine.present(self.stage.frame(), self.stage.width as usize, shown);
        }
    }

    fn refresh_whole(&mut self, machine: &mut dyn Machine) {
        self.items = self.moving();
        if self.mode == Mode::Marker {
            self.draw_field();
        }
        self.present(self.stage.whole(), machine);
    }

    /// Draws everything anew.
    fn redraw(&mut self, machine: &mut dyn Machine) {
        let status = self.status();
        let whole = self.stage.whole();
        self.stage.draw_background(whole, &self.layout, &self.track, &status);
        self.cells = barcode::encode(&self.reading());
        for index in 0..barcode::CELLS {
            self.fill_cell(index);
        }
        self.refresh_whole(machine);
    }

    fn status(&self) -> Status {
        Status { instance: self.layout.instance, mode: self.mode, speed: self.train.speed(), music: self.music }
    }

    fn show_status(&mut self, machine: &mut dyn Machine) {
        let (status, rect) = (self.status(), panel::status_rect(self.stage.width));
        self.stage.draw_panel(rect, &status);
        self.present(rect, machine);
    }

    fn reading(&self) -> Reading {
        let keys: u32 = self.held_keys.iter().map(|word| word.count_ones()).sum();
        let part = |at: i32, size: i32| (at * 1024 / size) as u16;
        Reading {
            instance: self.layout.instance,
            mode: self.mode,
            flash: self.marker.is_lit(),
            counter: self.counter,
            input_code: self.input_code,
            input_count: self.input_count,
            held: (keys + self.buttons.count_ones()).min(7) as u8,
            cursor_x: part(self.cursor.0, self.stage.width),
            cursor_y: part(self.cursor.1, self.stage.height),
        }
    }

    fn cell_rect(&self, index: usize) -> Rect {
        let (x, y, w, h) = barcode::cell_rect(index, self.stage.width as u32, self.stage.height as u32);
        Rect::new(x as i32, y as i32, w as i32, h as i32)
    }

    fn fill_cell(&mut self, index: usize) {
        let rect = self.cell_rect(index);
        self.stage.fill_strip(rect, STRIP_COLOURS[usize::from(self.cells[index])]);
    }

    /// Shows the cells of the strip that changed, all of them within a few microseconds.
    fn show_strip(&mut self, machine: &mut dyn Machine) {
        let cells = barcode::encode(&self.reading());
        let before = core::mem::replace(&mut self.cells, cells);
        let changed = |index: &usize| before[*index] != cells[*index];
        for index in (0..barcode::CELLS).filter(changed) {
            self.fill_cell(index);
        }
        for index in (0..barcode::CELLS).filter(changed) {
            machine.present(self.stage.frame(), self.stage.width as usize, self.cell_rect(index));
        }
    }
}

#[cfg(test)]
mod tests;
