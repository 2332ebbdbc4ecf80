//! One turn of the loop: what is due is drawn, and when the next turn is due is told.

use super::commands::Watch;
use super::event::Host;
use super::{App, lost, pacer};
use crate::quality::LOOK;
use crate::render::completion::Deliver;
use crate::render::gpu::Shown;
use crate::render::{Finished, ReadBack};
use crate::scene::View;
use loco_model::{InstanceId, Rect};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// How often the numbers on the statistics sheet change.
const SAMPLE: Duration = Duration::from_secs(1);

/// A read-back that was asked for.
pub(super) struct WaitingRead {
    pub(super) rect: Rect,
    pub(super) deliver: Deliver,
}

/// Processor time that this process used since its start.
pub(super) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

impl App {
    /// Draws if something is due. Returns when to turn again though nothing happens; `None`: only on an event.
    ///
    /// # Errors
    /// When the graphics device was lost and none can be opened any more.
    pub fn turn(&mut self, host: &mut dyn Host) -> Option<Instant> {
        let now = Instant::now();
        if self.gpu.lost()
            && let Err(error) = self.revive(host)
        {
            self.ended.get_or_insert(Err(error));
            return None;
        }
        self.pass_time(host, now);
        if self.in_flight || (self.hidden && self.watches.is_empty() && self.waiting_reads.is_empty()) {
            return self.next_turn(now, None);
        }
        let urgent: Vec<InstanceId> = self
            .wall
            .iter()
            .filter(|(_, tile)| tile.pending && tile.answers_until.is_some_and(|until| now < until))
            .map(|(id, _)| id)
            .filter(|id| self.layout.place(*id).is_some())
            .collect();
        let due = self.pacer.due(now);
        if due <= now {
            if self.wants_drawing() {
                self.draw_everything(host, now);
            }
            return self.next_turn(now, None);
        }
        if !urgent.is_empty() && !self.dirty.layout {
            for id in urgent {
                self.take_picture(id, now);
            }
            self.submit(now);
            return self.next_turn(now, None);
        }
        let next = self.wants_drawing().then_some(due);
        self.next_turn(now, next)
    }

    fn wants_drawing(&self) -> bool {
        let dirty = self.dirty;
        dirty.layout
            || dirty.hud
            || dirty.ground
            || dirty.shown
            || !self.waiting_reads.is_empty()
            || !self.renderer.region().is_empty()
            || self.wall.iter().any(|(id, tile)| tile.pending && self.layout.place(id).is_some())
    }

    fn next_turn(&self, now: Instant, due: Option<Instant>) -> Option<Instant> {
        let toasts = self.notices.next(now).filter(|_| !self.hidden);
        let hold = self.hold.next().map(|at| self.started + at);
        let sample = self.statistics_shown.then(|| self.numbers.next_sample.unwrap_or(now)).filter(|_| !self.hidden);
        // With a drawing in flight its end turns the loop.
        let due = due.filter(|_| !self.in_flight);
        [due, toasts, sample, hold, Some(self.look_at), self.edges_until, self.wake_at].into_iter().flatten().min()
    }

    /// Ends what has its time: toasts, slid-in edges, held input; looks at the streams; samples the numbers that are
    /// shown.
    fn pass_time(&mut self, host: &mut dyn Host, now: Instant) {
        self.dirty.hud |= self.notices.pass(now);
        if self.hold.next().is_some_and(|at| self.started + at <= now) {
            let mut deeds = Vec::new();
            self.hold.pass(self.clock(), &mut deeds);
            self.carry(host, deeds);
        }
        if self.look_at <= now {
            self.look_at = now + LOOK;
            self.look(now);
        }
        if self.edges_until.is_some_and(|until| until <= now) {
            self.edges_until = None;
            self.dirty.hud = true;
            self.dirty.ground = true;
        }
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            self.dirty.hud = true;
        }
        if self.statistics_shown && !self.hidden && self.numbers.next_sample.is_none_or(|at| at <= now) {
            self.numbers.next_sample = Some(now + SAMPLE);
            self.sample(now);
        }
    }

    fn draw_everything(&mut self, host: &mut dyn Host, now: Instant) {
        let waiting: Vec<_> = self.wall.iter().filter(|(_, tile)| tile.pending).map(|(id, _)| id).collect();
        for id in waiting {
            // Instances that are not on the screen keep their newest picture for later; the first is always taken, since
            // whether there is one decides what is said.
            let first = self.wall.tile(id).is_some_and(|tile| !tile.has_picture);
            if first || self.layout.place(id).is_some() {
                self.take_picture(id, now);
            }
        }
        if self.dirty.layout {
            self.lay_out();
        }
        if self.dirty.hud {
            self.show_hud(host, now);
            // What was asked for may have moved everything.
            if self.dirty.layout {
                self.lay_out();
                self.show_hud(host, now);
            }
        }
        if self.dirty.ground {
            self.lay_ground();
        }
        self.pacer.drew(now);
        self.submit(now);
        self.pacer.used(now, cpu_time(), loco_sound::machine::idle_time);
    }

    /// Takes an instance's newest picture over to the device.
    fn take_picture(&mut self, id: InstanceId, now: Instant) {
        let Some(tile) = self.wall.tile_mut(id) else { return };
        tile.pending = false;
        let Some(picture) = tile.session().and_then(crate::session::Session::take_picture) else { return };
        let first = !std::mem::replace(&mut tile.has_picture, true);
        tile.captured = Some(picture.captured());
        tile.shown.add(1, now);
        let resized = self.renderer.set_picture(&self.gpu, id, picture.as_ref());
        let drawing = self.numbers.draw_count + 1;
        self.drawn.push((drawing, id, picture.decoded()));
        self.see_marker(id, picture.as_ref(), drawing);
        if first {
            // Whether there is one decides how good it is.
            self.look_at = now;
        }
        if first || resized {
            self.dirty.layout = true;
            self.lay_out();
        }
    }

    fn show_hud(&mut self, host: &mut dyn Host, now: Instant) {
        self.dirty.hud = false;
        if !egui::Popup::is_any_open(&self.hud) {
            self.menu_at = None;
        }
        let model = self.model();
        let scale = self.scale;
        let (mut asks, mut taken) = (Vec::new(), Vec::new());
        let mut output = self.hud.run_ui(host.hud_input(), |ui| (asks, taken) = crate::hud::show(ui, &model, scale));
        self.taken = taken;
        self.watch_devices();
        host.hud_output(std::mem::take(&mut output.platform_output));
        let delay = output.viewport_output.values().map(|viewport| viewport.repaint_delay).min();
        if let Some(delay) = delay.filter(|delay| *delay < Duration::from_secs(3600)) {
            self.wake_at = Some(now + delay);
        }
        let context = self.hud.clone();
        self.renderer.set_hud(&self.gpu, &context, output);
        self.dirty.ground = true;
        for ask in asks {
            self.asked(host, ask);
        }
    }

    /// Hands what changed to the device.
    fn submit(&mut self, now: Instant) {
        if self.renderer.region().is_empty() && self.waiting_reads.is_empty() && !self.dirty.shown {
            // The picture was the same again; it is as good as drawn.
            self.drawn.clear();
            self.flashes.clear();
            return;
        }
        let mut reads: Vec<(Rect, Deliver)> =
            self.waiting_reads.drain(..).map(|read| (read.rect, read.deliver)).collect();
        let number = self.numbers.draw_count + 1;
        for watch in &self.watches {
            let Some(rect) = watched_rect(&self.layout, watch) else { continue };
            if self.renderer.region().touches(rect) {
                let captured = self.wall.tile(watch.id).and_then(|tile| tile.captured);
                reads.push((rect, watch.deliver(captured)));
            }
        }
        let show_all = std::mem::take(&mut self.dirty.shown);
        let drawing = self.renderer.draw(&self.gpu, &self.completion, reads, show_all);
        debug_assert_eq!(drawing.number, number);
        self.numbers.draw_count = drawing.number;
        self.numbers.drawings.add(1, now);
        self.numbers.record.record_us(drawing.record.as_micros() as u64, now);
        self.in_flight = true;
        if drawing.shown == Shown::Again {
            self.dirty.shown = true;
        }
        tracing::trace!(number, pixels = drawing.pixels, record = ?drawing.record, "drawn");
    }

    /// The device is done with a drawing.
    pub(super) fn finished(&mut self, work: Finished) {
        let now = Instant::now();
        self.in_flight = self.numbers.draw_count != work.drawing;
        self.pacer.finished(work.took);
        self.numbers.device.record_us(work.took.as_micros() as u64, now);
        self.flashes_shown(work.drawing, loco_media::clock::now_us());
        let wall = &mut self.wall;
        self.drawn.retain(|(drawing, id, decoded)| {
            if *drawing <= work.drawing
                && let Some(tile) = wall.tile_mut(*id)
            {
                tile.draw.record_us(now.saturating_duration_since(*decoded).as_micros() as u64, now);
            }
            *drawing > work.drawing
        });
    }

    /// Reads back a rectangle of the target with the next drawing.
    pub(super) fn read_back(&mut self, rect: Rect, deliver: impl FnOnce(ReadBack) + Send + 'static) {
        self.waiting_reads.push(WaitingRead { rect, deliver: Box::new(deliver) });
    }

    /// Makes everything anew on another device.
    fn revive(&mut self, host: &mut dyn Host) -> Result<(), crate::ViewError> {
        self.gpu.leave_window();
        let gpu = host.gpu(self.size, lost(&self.post))?;
        let old = std::mem::replace(&mut self.gpu, gpu);
        let renderer = crate::render::Renderer::new(&self.gpu, self.size);
        let broken = std::mem::replace(&mut self.renderer, renderer);
        self.renderer = broken.reborn(&self.gpu);
        drop(old);
        // egui keeps its font atlas only on the device.
        self.hud = egui::Context::default();
        crate::hud::install(&self.hud);
        self.pacer = pacer(&self.gpu, host.refresh_hz());
        self.in_flight = false;
        // What was on its way is never done.
        self.drawn.clear();
        self.flashes.clear();
        self.dirty = super::Dirty { layout: true, hud: true, ground: true, shown: true };
        self.toast("The graphics device was lost; drawing goes on".to_owned());
        Ok(())
    }

    /// One instance fills the window, or the wall is back.
    pub(super) fn set_view(&mut self, view: View) {
        self.view = view;
        self.edges_until = None;
        self.dirty.layout = true;
    }
}

/// Where a watched rectangle lies on the target; `None` while its tile is not on the screen.
fn watched_rect(layout: &crate::scene::Layout, watch: &Watch) -> Option<Rect> {
    let picture = layout.place(watch.id)?.picture;
    let rect = Rect { x: picture.x + watch.rect.x, y: picture.y + watch.rect.y, ..watch.rect };
    Some(rect).filter(|rect| rect.intersection(picture) == *rect)
}
