//! Numbers over the picture.

use super::style::{colour, icon, icons, regular, semibold};
use super::{Ask, HudModel, Out};
use crate::statistics::Trace;
use egui::{Align2, Color32, Id, Painter, Pos2, Rect, Sense, Stroke, Ui, pos2, vec2};
use loco_model::look::DARK;

const ROW: f32 = 16.0;
const LEAST_WIDTH: f32 = 400.0;
const VALUES_FROM_LEFT: f32 = 140.0;
const SPARK: egui::Vec2 = vec2(96.0, 22.0);

/// The statistics sheet, over the focused picture (else over the first), 85 % opaque.
pub(super) fn statistics(ui: &Ui, model: &HudModel, out: &mut Out) {
    let Some(sheet) = &model.statistics else { return };
    let over = model.tiles.iter().find(|tile| tile.focused).or(model.tiles.first());
    let corner = over.map_or(pos2(8.0, 52.0), |tile| out.points(tile.place.screen).min + vec2(8.0, 8.0));
    let window = ui.ctx().content_rect().shrink(8.0);
    let height = 44.0 + sheet.lines.len() as f32 * ROW + if sheet.traces.is_empty() { 0.0 } else { 44.0 };
    // A value may be a sentence; it is not cut, as long as the window is wide enough.
    let value_width = |(_, value): &(_, String)| tabular_width(ui.painter(), value);
    let widest = sheet.lines.iter().map(value_width).fold(0.0, f32::max);
    let width = (VALUES_FROM_LEFT + widest + 24.0).max(LEAST_WIDTH).min(window.width());
    let x = corner.x.min(window.right() - width).max(window.left());
    let y = corner.y.min(window.bottom() - height).max(window.top());
    let panel = Rect::from_min_size(pos2(x, y), vec2(width, height));
    out.taken.push(panel);
    let painter = ui.painter_at(panel);
    painter.rect_filled(panel, 6.0, colour(DARK.background).gamma_multiply(0.85));
    let left = panel.left() + 12.0;
    painter.text(pos2(left, y + 10.0), Align2::LEFT_TOP, &sheet.title, semibold(13.0), colour(DARK.text));
    let copy = Rect::from_min_size(panel.right_top() + vec2(-34.0, 4.0), vec2(28.0, 26.0));
    let response = ui.interact(copy, Id::unique("copy statistics"), Sense::click());
    let ink = if response.hovered() { DARK.text } else { DARK.muted };
    painter.text(copy.center(), Align2::CENTER_CENTER, icon::COPY, icons(15.0), colour(ink));
    if response.on_hover_text("Copy as text (Ctrl+Alt+C)").clicked() {
        out.asks.push(Ask::CopyStatistics);
    }
    let mut top = y + 34.0;
    for (name, value) in &sheet.lines {
        painter.text(pos2(left, top), Align2::LEFT_TOP, name, regular(12.0), colour(DARK.muted));
        tabular(&painter, pos2(left + VALUES_FROM_LEFT, top), value, colour(DARK.text));
        top += ROW;
    }
    for (n, trace) in sheet.traces.iter().enumerate() {
        let spot = Rect::from_min_size(pos2(left + n as f32 * (SPARK.x + 8.0), top + 16.0), SPARK);
        sparkline(&painter, spot, trace);
    }
}

/// Text whose figures all have the same width, so that numbers do not dance.
fn tabular(painter: &Painter, at: Pos2, text: &str, ink: Color32) {
    let font = regular(12.0);
    let cell = painter.layout_no_wrap("0".to_owned(), font.clone(), ink).size().x;
    let mut x = at.x;
    let mut word = String::new();
    let flush = |word: &mut String, x: &mut f32| {
        if !word.is_empty() {
            let galley = painter.layout_no_wrap(std::mem::take(word), font.clone(), ink);
            let width = galley.size().x;
            painter.galley(pos2(*x, at.y), galley, ink);
            *x += width;
        }
    };
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            flush(&mut word, &mut x);
            let galley = painter.layout_no_wrap(letter.to_string(), font.clone(), ink);
            let inset = (cell - galley.size().x) / 2.0;
            painter.galley(pos2(x + inset, at.y), galley, ink);
            x += cell;
        } else {
            word.push(letter);
        }
    }
    flush(&mut word, &mut x);
}

/// How wide [`tabular`] makes a text, in points.
fn tabular_width(painter: &Painter, text: &str) -> f32 {
    let figures = text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    painter.layout_no_wrap(figures, regular(12.0), Color32::WHITE).size().x
}

fn sparkline(painter: &Painter, spot: Rect, trace: &Trace) {
    painter.text(spot.left_top() - vec2(0.0, 2.0), Align2::LEFT_BOTTOM, &trace.name, regular(11.0), colour(DARK.muted));
    let top = trace.values.iter().flatten().copied().fold(0.0f32, f32::max);
    if top <= 0.0 {
        return;
    }
    let step = spot.width() / (crate::statistics::TRACE_LENGTH - 1) as f32;
    let from = crate::statistics::TRACE_LENGTH - trace.values.len();
    let mut run = Vec::new();
    for (n, value) in trace.values.iter().enumerate() {
        match value {
            Some(value) => {
                let x = spot.left() + (from + n) as f32 * step;
                run.push(pos2(x, spot.bottom() - value / top * spot.height()));
            }
            None => draw_run(painter, &mut run),
        }
    }
    draw_run(painter, &mut run);
}

fn draw_run(painter: &Painter, run: &mut Vec<Pos2>) {
    let points = std::mem::take(run);
    if points.len() > 1 {
        painter.add(egui::Shape::line(points, Stroke::new(1.0, colour(DARK.connecting))));
    }
}
