//! Grounds, outlines, chips and meters: rectangles without text, drawn without egui. Pure.

use super::sound::level_colour;
use crate::render::Quad;
use crate::scene::layout::{Layout, Place};
use crate::sound::Levels;
use loco_media::sound::meter::{ERROR_DBFS, FLOOR_DBFS, WARNING_DBFS};
use loco_model::look::{self, DARK, Rgb};
use loco_model::{InstanceId, Rect};

/// What a meter shows: -60 dBFS and less is empty, 0 dBFS full.
const METER_RANGE_DB: (f32, f32) = (FLOOR_DBFS, 0.0);
const METER_STEPS_DB: [(f32, Rgb); 3] =
    [(WARNING_DBFS, DARK.live), (ERROR_DBFS, DARK.degraded), (METER_RANGE_DB.1, DARK.failed)];

/// Side of a plate's number chip, in points.
pub(super) const CHIP: f32 = 18.0;
/// From a plate's left edge to its chip, in points.
pub(super) const CHIP_LEFT: f32 = 8.0;
/// Width of the focus ring, in points.
const RING: f32 = 3.0;
const RADIUS: f32 = 6.0;

/// What grounds are made from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    /// Where everything lies.
    pub layout: &'a Layout,
    /// Gets the keyboard.
    pub focus: Option<InstanceId>,
    /// Enlarged: plate and bar are slid in.
    pub edges: bool,
    /// Physical pixels per point.
    pub scale: f32,
}

/// Rectangles under the pictures, and over them, in the place of what the lists held.
pub fn grounds(
    ground: &Ground<'_>,
    levels: impl Fn(InstanceId) -> Option<Levels>,
    under: &mut Vec<Quad>,
    over: &mut Vec<Quad>,
) {
    let Ground { layout, focus, edges, scale } = *ground;
    under.clear();
    over.clear();
    let occupied = layout.places.iter().filter_map(|place| Some((place, place.id?)));
    let behind = if layout.enlarged { Rgb(0, 0, 0) } else { DARK.background };
    under.push(Quad::filled(Rect::new(0, 0, layout.size.width, layout.size.height), behind, 0.0));
    if layout.enlarged {
        for (place, id) in occupied.filter(|_| edges) {
            over.push(Quad { fill: (DARK.surface, 0.92), ..Quad::filled(place.plate, DARK.surface, 0.0) });
            chip_and_meter(over, place, levels(id), scale);
        }
        return;
    }
    let bar = layout.bar;
    under.push(Quad::filled(bar, DARK.surface, 0.0));
    let line = (scale.round() as u32).max(1);
    under.push(Quad::filled(Rect::new(0, bar.bottom().saturating_sub(line), bar.width, line), DARK.hairline, 0.0));
    for (place, id) in occupied {
        let focused = focus == Some(id);
        let ground = if focused { mix(DARK.surface, DARK.accent, 0.12) } else { DARK.surface };
        under.push(Quad {
            line: DARK.hairline,
            line_width: line as f32,
            ..Quad::filled(place.tile, ground, RADIUS * scale)
        });
        if focused {
            let ring = (RING * scale).round();
            let out = (ring as u32).saturating_sub(line);
            let around = Rect::new(
                place.tile.x.saturating_sub(out),
                place.tile.y.saturating_sub(out),
                place.tile.width + 2 * out,
                place.tile.height + 2 * out,
            );
            let radius = RADIUS * scale + out as f32;
            under.push(Quad { line: DARK.accent, line_width: ring, ..Quad::filled(around, ground, radius) });
        }
        under.push(Quad::filled(place.screen, Rgb(0, 0, 0), 0.0));
        chip_and_meter(under, place, levels(id), scale);
    }
}

fn chip_and_meter(out: &mut Vec<Quad>, place: &Place, levels: Option<Levels>, scale: f32) {
    if let Some(id) = place.id {
        out.push(Quad::filled(chip(place.plate, scale), look::instance_colour(id), 4.0 * scale));
    }
    if !place.meter.is_empty() {
        let radius = place.meter.height as f32 / 2.0;
        // Full scale was reached: the whole ground says so, for a second.
        let ground = if levels.is_some_and(|levels| levels.clipped) { DARK.failed } else { DARK.hairline };
        out.push(Quad::filled(place.meter, ground, radius));
        for (rect, fill) in meter(place.meter, levels).into_iter().flatten() {
            out.push(Quad::filled(rect, fill, if rect.x == place.meter.x { radius.min(2.0) } else { 0.0 }));
        }
        let width = (scale.round() as u32).max(1);
        for (rect, fill) in marks(place.meter, levels, width).into_iter().flatten() {
            out.push(Quad::filled(rect, fill, 0.0));
        }
    }
}

/// Where the number stands in a plate.
pub(super) fn chip(plate: Rect, scale: f32) -> Rect {
    let side = ((CHIP * scale).round() as u32).min(plate.height);
    Rect::new(plate.x + (CHIP_LEFT * scale).round() as u32, plate.y + (plate.height - side) / 2, side, side)
}

/// The parts of a meter that are lit, from the left.
fn meter(bar: Rect, levels: Option<Levels>) -> [Option<(Rect, Rgb)>; 3] {
    let peak = levels.map_or(f32::NEG_INFINITY, |levels| levels.peak_dbfs[0].max(levels.peak_dbfs[1]));
    let along = |db: f32| along(bar, db);
    let lit = along(peak);
    let mut from = 0;
    METER_STEPS_DB.map(|(until, colour)| {
        let to = along(until).min(lit);
        let part = (to > from).then(|| (Rect::new(bar.x + from, bar.y, to - from, bar.height), colour));
        from = from.max(to);
        part
    })
}

/// Magnitude (dark, inside the lit part) and held peak (in the colour of its level), as lines of this width.
fn marks(bar: Rect, levels: Option<Levels>, width: u32) -> [Option<(Rect, Rgb)>; 2] {
    let Some(levels) = levels else { return [None; 2] };
    let line = |pair: [f32; 2], fill: Option<Rgb>| {
        let db = pair[0].max(pair[1]);
        (db > METER_RANGE_DB.0).then(|| {
            let x = (bar.x + along(bar, db)).saturating_sub(width).max(bar.x);
            (Rect::new(x, bar.y, width, bar.height), fill.unwrap_or_else(|| level_colour(db)))
        })
    };
    [line(levels.magnitude_dbfs, Some(DARK.background)), line(levels.hold_dbfs, None)]
}

fn along(bar: Rect, db: f32) -> u32 {
    let (low, high) = METER_RANGE_DB;
    (((db.clamp(low, high) - low) / (high - low)) * bar.width as f32).round() as u32
}

fn mix(a: Rgb, b: Rgb, share: f32) -> Rgb {
    let channel = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * share).round() as u8;
    Rgb(channel(a.0, b.0), channel(a.1, b.1), channel(a.2, b.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(db: f32) -> Vec<(u32, Rgb)> {
        let levels = Levels {
            peak_dbfs: [db, f32::NEG_INFINITY],
            hold_dbfs: [db; 2],
            magnitude_dbfs: [db; 2],
            input_peak_dbfs: db,
            clipped: false,
        };
        let parts = meter(Rect::new(100, 0, 60, 6), Some(levels));
        parts.into_iter().flatten().map(|(rect, colour)| (rect.width, colour)).collect()
    }

    #[test]
    fn a_meter_is_one_pixel_a_decibel_here() {
        assert_eq!(lit(f32::NEG_INFINITY), []);
        assert_eq!(lit(-70.0), []);
        assert_eq!(lit(-30.0), [(30, DARK.live)]);
        assert_eq!(lit(-12.0), [(40, DARK.live), (8, DARK.degraded)]);
        assert_eq!(lit(0.0), [(40, DARK.live), (11, DARK.degraded), (9, DARK.failed)]);
        assert_eq!(lit(3.0), lit(0.0), "over full scale is full");
        assert!(meter(Rect::new(0, 0, 60, 6), None).iter().all(Option::is_none));
    }

    #[test]
    fn magnitude_and_hold_are_lines_where_they_are() {
        let levels = Levels {
            peak_dbfs: [-30.0; 2],
            hold_dbfs: [-12.0, -40.0],
            magnitude_dbfs: [-40.0, -36.0],
            ..Levels::SILENT
        };
        let bar = Rect::new(100, 5, 60, 6);
        let [magnitude, hold] = marks(bar, Some(levels), 1);
        assert_eq!(magnitude, Some((Rect::new(123, 5, 1, 6), DARK.background)));
        assert_eq!(hold, Some((Rect::new(147, 5, 1, 6), DARK.degraded)));
        assert_eq!(marks(bar, Some(Levels::SILENT), 1), [None; 2]);
        assert_eq!(marks(bar, None, 1), [None; 2]);
    }

    #[test]
    fn a_meters_parts_follow_each_other() {
        let [a, b, c] = meter(
            Rect::new(10, 5, 60, 6),
            Some(Levels {
                peak_dbfs: [0.0; 2],
                hold_dbfs: [0.0; 2],
                magnitude_dbfs: [0.0; 2],
                input_peak_dbfs: 0.0,
                clipped: true,
            }),
        )
        .map(|part| part.map(|(rect, _)| rect));
        let (Some(a), Some(b), Some(c)) = (a, b, c) else { panic!("all lit") };
        assert_eq!((a.right(), b.right(), c.right()), (b.x, c.x, 70));
    }
}
