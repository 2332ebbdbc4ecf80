//! From what is known to what is seen: layout, styles, the HUD's model.

use super::{App, Tile};
use crate::hud::ground::{self, Ground};
use crate::hud::{Holder, HudModel, TileModel};
use crate::render::PictureStyle;
use crate::scene::layout::{Layout, LayoutInput, View};
use crate::scene::plate::{self, Plate, is_shown_live};
use crate::statistics::{Sheet, TileNumbers, Trace, WallNumbers, tile_sheet, wall_sheet};
use loco_model::{InstanceId, Size};
use std::time::{Duration, Instant};

/// How long plate and bar stay over an enlarged picture after the pointer moved.
pub(super) const EDGES: Duration = Duration::from_secs(3);
/// How bright the last picture of an instance is that is not live.
const DIMMED: f32 = 0.35;

impl App {
    /// Makes layout and styles anew.
    pub(super) fn lay_out(&mut self) {
        let size_of = |id| self.renderer.picture_size(id).unwrap_or(Size::new(640, 480));
        let input = LayoutInput {
            size: self.size,
            scale: self.scale,
            instances: self.wall.iter().map(|(id, _)| (id, size_of(id))).collect(),
            view: self.view,
            scaling: self.scaling,
            places: self.places,
            focus: self.router.focus(),
        };
        self.layout = Layout::new(&input);
        if !self.layout.enlarged {
            self.view = View::Grid;
            self.edges_until = None;
        }
        self.style_pictures();
        self.balance();
        self.dirty.layout = false;
        self.dirty.ground = true;
        self.dirty.hud = true;
    }

    /// Says where and how each picture is drawn.
    pub(super) fn style_pictures(&mut self) {
        for id in InstanceId::all() {
            let tile = self.wall.tile(id);
            let style = match (tile, self.layout.place(id)) {
                (Some(tile), Some(place)) if tile.has_picture => {
                    let live = is_shown_live(tile.plate().state);
                    let (colour, brightness) = if live { (1.0, 1.0) } else { (0.0, DIMMED) };
                    Some(PictureStyle { rect: place.picture, colour, brightness })
                }
                _ => None,
            };
            self.renderer.set_style(&self.gpu, id, style);
        }
    }

    /// Hands grounds, outlines and meters to the renderer: as often as a meter moves, so out of lists that are kept.
    pub(super) fn lay_ground(&mut self) {
        let ground = Ground {
            layout: &self.layout,
            focus: self.router.focus(),
            edges: self.edges_until.is_some(),
            scale: self.scale,
        };
        let (under, over) = &mut self.quads;
        ground::grounds(&ground, |id| self.sound.levels(id), under, over);
        self.renderer.set_quads(&self.gpu, under, over);
        self.dirty.ground = false;
    }

    /// What the HUD shows now.
    pub(super) fn model(&self) -> HudModel {
        let plates: Vec<_> = self.wall.iter().map(|(_, tile)| tile.plate()).collect();
        let states = plates.iter().map(|plate| (plate.id, plate.state));
        let summary = plate::summary(&states.clone().map(|(_, state)| state));
        let worst = plate::worst(states);
        let tile_model = |((id, tile), plate): ((InstanceId, &Tile), Plate)| {
            let fader = self.wall.fader(id);
            let focused = self.router.focus() == Some(id);
            Some(TileModel {
                place: *self.layout.place(id)?,
                plate,
                focused,
                captured: focused && self.router.captured(),
                muted: fader.muted,
                solo: fader.solo,
                volume: fader.volume,
                pointer_mode: self.router.pointer_mode(id),
                has_picture: tile.has_picture,
                holder: self.holder_of(id),
                attempts_left: tile.instance.attempts_left,
                paused: plate::is_paused(&tile.instance),
                has_evidence: tile.evidence.is_some(),
                snapshots: tile.snapshots.clone(),
            })
        };
        HudModel {
            layout: self.layout.clone(),
            tiles: self.wall.iter().zip(plates).filter_map(tile_model).collect(),
            connection: self.connection.clone(),
            trouble: self.trouble.clone(),
            instances: self.wall.iter().count(),
            summary,
            worst,
            master: self.master.volume,
            master_muted: self.master.muted,
            devices: if self.devices_watched { self.sound.devices() } else { Vec::new() },
            output: self.output.clone(),
            sound_line: self.sound.status().line,
            sound_trouble: self.sound_trouble.clone(),
            mix: self.mix,
            master_levels: self.sound.master_levels(),
            loudness: self.sound.master_loudness(),
            statistics: self.statistics_shown.then(|| self.sheet()),
            toasts: self.notices.toasts(Instant::now()),
            slides: !self.args.reduced_motion,
            orders: self.plane.is_somewhere(),
            menu_at: self.menu_at,
            edges: self.edges_until.is_some(),
            full_screen: self.full_screen,
            scaling: self.scaling,
        }
    }

    /// Whose input an instance takes, as far as that is worth showing.
    fn holder_of(&self, id: InstanceId) -> Holder {
        match self.hold.other(id) {
            Some(other) => Holder::Other(other.name.clone()),
            None if self.hold.is_mine(id) && !self.others.is_empty() => Holder::Me,
            None => Holder::Nobody,
        }
    }

    /// The numbers of the focused instance, else of all.
    pub(super) fn sheet(&self) -> Sheet {
        let now = Instant::now();
        let wall = self.wall_numbers(now);
        match self.router.focus().and_then(|id| Some((id, self.wall.tile(id)?))) {
            Some((id, tile)) => tile_sheet(&self.tile_numbers(id, tile, now), &wall, tile.traces.to_vec()),
            None => {
                let tiles: Vec<_> = self.wall.iter().map(|(id, tile)| self.tile_numbers(id, tile, now)).collect();
                wall_sheet(&tiles, &wall, Vec::new())
            }
        }
    }

    pub(super) fn tile_numbers(&self, id: InstanceId, tile: &Tile, now: Instant) -> TileNumbers {
        TileNumbers {
            name: tile.instance.name.clone(),
            state: tile.plate().state,
            quality: tile.gauge.quality().cloned(),
            session: tile.session().map(crate::session::Session::stats).unwrap_or_default(),
            fps_shown: tile.shown.per_second(now),
            draw: tile.draw.percentiles(now),
            sound: self.sound.reader_stats(id),
            skew_ms: tile.marker.skew_ms(),
            loudness: super::sound::finite(self.sound.loudness(id)),
        }
    }

    fn wall_numbers(&self, now: Instant) -> WallNumbers {
        WallNumbers {
            adapter: self.gpu.info.name.clone(),
            drawings: self.numbers.drawings.per_second(now),
            rate_limit: self.pacer.rate(),
            device: self.numbers.device.percentiles(now),
            cores: self.numbers.cores,
        }
    }

    /// Takes one value a second for the sparklines, while they are seen.
    pub(super) fn sample(&mut self, now: Instant) {
        for (_, tile) in self.wall.iter_mut() {
            let stats = tile.session().map(crate::session::Session::stats).unwrap_or_default();
            let latency = latency_ms(&TileNumbers {
                session: stats.clone(),
                draw: tile.draw.percentiles(now),
                ..TileNumbers::default()
            });
            let values = [tile.shown.per_second(now), stats.bytes_per_second.map(|bytes| bytes * 0.008), latency];
            for (trace, value) in tile.traces.iter_mut().zip(values) {
                Trace::push(trace, value);
            }
        }
        let cpu = super::draw::cpu_time();
        if let Some((since, before)) = self.numbers.cpu {
            let passed = now.saturating_duration_since(since).as_secs_f32();
            self.numbers.cores = (passed > 0.0).then(|| cpu.saturating_sub(before).as_secs_f32() / passed);
        }
        self.numbers.cpu = Some((now, cpu));
        self.dirty.hud = true;
    }
}

/// Capture to drawn, as the sum of the stages' medians, in milliseconds; `None` while a stage was not measured.
pub(super) fn latency_ms(tile: &TileNumbers) -> Option<f32> {
    let session = &tile.session;
    let stages = [session.network, session.assemble, session.decode, session.mailbox, tile.draw];
    stages.iter().map(|stage| stage.p50_ms).sum()
}
