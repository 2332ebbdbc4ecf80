//! What the bar's volume opens: faders with mute and solo, how they are mixed, the meter of everything, outputs.

use super::style::{colour, regular, semibold};
use super::{Ask, HudModel, Out};
use crate::sound::{Decay, Levels, Output};
use egui::{Align2, Color32, Painter, Rect, RichText, Sense, Slider, Stroke, Ui, pos2, vec2};
use loco_media::sound::meter::{ERROR_DBFS, FLOOR_DBFS, WARNING_DBFS};
use loco_model::look::{DARK, Rgb};

/// How the instances' sounds are put together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// While an instance has the focus, the others are lower.
    pub dims: bool,
    /// Their gain then.
    pub dim: f32,
    /// Each stands where its tile is.
    pub placed: bool,
    /// How meters fall.
    pub decay: Decay,
}

impl Default for Mix {
    fn default() -> Self {
        // About 9 dB lower: heard, and out of the way.
        Self { dims: true, dim: 0.35, placed: false, decay: Decay::default() }
    }
}

/// Ticks of the scale, in dB of full scale.
const TICKS_DB: [f32; 7] = [-60.0, -50.0, -40.0, -30.0, -20.0, -10.0, 0.0];
const METER_WIDTH: f32 = 252.0;
const DECAYS: [(Decay, &str); 3] = [(Decay::Fast, "fast"), (Decay::Medium, "medium"), (Decay::Slow, "slow")];

/// Colour of a level.
pub(super) fn level_colour(dbfs: f32) -> Rgb {
    if dbfs < WARNING_DBFS {
        DARK.live
    } else if dbfs < ERROR_DBFS {
        DARK.degraded
    } else {
        DARK.failed
    }
}

pub(super) fn popup(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    ui.set_min_width(300.0);
    faders(ui, model, out);
    ui.separator();
    meter(ui, &model.master_levels, model.loudness);
    ui.horizontal(|ui| {
        ui.label(RichText::new("Meters fall").font(regular(12.0)).color(colour(DARK.muted)));
        for (decay, word) in DECAYS {
            if ui.radio(model.mix.decay == decay, word).clicked() {
                out.asks.push(Ask::Mix(Mix { decay, ..model.mix }));
            }
        }
    });
    ui.separator();
    let mix = model.mix;
    ui.horizontal(|ui| {
        let mut dims = mix.dims;
        if ui.checkbox(&mut dims, "Lower all but the focused").changed() {
            out.asks.push(Ask::Mix(Mix { dims, ..mix }));
        }
        let mut dim = mix.dim;
        let slider = Slider::new(&mut dim, 0.0..=1.0).show_value(false);
        if ui.add_enabled(mix.dims, slider).on_hover_text("How loud the others are").changed() {
            out.asks.push(Ask::Mix(Mix { dim, ..mix }));
        }
    });
    let mut placed = mix.placed;
    if ui.checkbox(&mut placed, "Each from where its picture is").changed() {
        out.asks.push(Ask::Mix(Mix { placed, ..mix }));
    }
    ui.separator();
    outputs(ui, model, out);
}

fn faders(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    egui::Grid::new("faders").num_columns(4).show(ui, |ui| {
        let mut master = model.master;
        ui.label("All");
        if ui.add(Slider::new(&mut master, 0.0..=1.0).show_value(false)).changed() {
            out.asks.push(Ask::Master(master));
        }
        let mut muted = model.master_muted;
        if ui.checkbox(&mut muted, "Mute").changed() {
            out.asks.push(Ask::MasterMute);
        }
        ui.end_row();
        for tile in &model.tiles {
            let (mut volume, mut muted, mut solo) = (tile.volume, tile.muted, tile.solo);
            ui.label(tile.plate.name.as_str());
            if ui.add(Slider::new(&mut volume, 0.0..=1.0).show_value(false)).changed() {
                out.asks.push(Ask::Volume(tile.plate.id, volume));
            }
            if ui.checkbox(&mut muted, "Mute").changed() {
                out.asks.push(Ask::Mute(tile.plate.id));
            }
            if ui.checkbox(&mut solo, "Solo").on_hover_text("Hear this one alone").changed() {
                out.asks.push(Ask::Solo(tile.plate.id));
            }
            ui.end_row();
        }
    });
}

fn outputs(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    ui.label(RichText::new("Output").font(semibold(13.0)));
    if ui.radio(model.output == Output::Default, "The system's default").clicked() {
        out.asks.push(Ask::SoundOutput(Output::Default));
    }
    for device in &model.devices {
        let output = Output::Device(device.id.clone());
        let name = if device.default { format!("{} (default)", device.name) } else { device.name.clone() };
        if ui.radio(model.output == output, name).clicked() {
            out.asks.push(Ask::SoundOutput(output));
        }
    }
    // One that was chosen and is away stays in the list, so that it is seen what is waited for.
    if let Output::Device(id) = &model.output
        && !model.devices.iter().any(|device| device.id == *id)
    {
        // The list is empty until it was told for the first time.
        let away = if model.devices.is_empty() { "" } else { " (not there)" };
        let _ = ui.radio(true, format!("{id}{away}"));
    }
    if ui.radio(model.output == Output::Null, "None").clicked() {
        out.asks.push(Ask::SoundOutput(Output::Null));
    }
    if let Some(trouble) = &model.sound_trouble {
        ui.label(RichText::new(trouble.as_str()).font(regular(12.0)).color(colour(DARK.degraded)));
    } else if !model.sound_line.is_empty() {
        ui.label(RichText::new(model.sound_line.as_str()).font(regular(12.0)).color(colour(DARK.muted)));
    }
}

/// Left and right with peak, magnitude, held peak and clipping, a scale in dB under them, and the loudness in LUFS.
fn meter(ui: &mut Ui, levels: &Levels, loudness: f32) {
    let (all, _) = ui.allocate_exact_size(vec2(METER_WIDTH, 50.0), Sense::hover());
    let painter = ui.painter_at(all);
    let word = if loudness.is_finite() { format!("{loudness:.1} LUFS") } else { "– LUFS".to_owned() };
    painter.text(all.left_top(), Align2::LEFT_TOP, word, regular(12.0), colour(DARK.text));
    if levels.clipped {
        painter.text(all.right_top(), Align2::RIGHT_TOP, "clipped", semibold(12.0), colour(DARK.failed));
    }
    for channel in 0..2 {
        let top = all.top() + 18.0 + 8.0 * channel as f32;
        channel_bar(&painter, Rect::from_min_size(pos2(all.left(), top), vec2(all.width(), 6.0)), levels, channel);
    }
    for tick in TICKS_DB {
        let x = along(&all, tick).clamp(all.left() + 0.5, all.right() - 0.5);
        painter.vline(x, all.top() + 34.0..=all.top() + 37.0, Stroke::new(1.0, colour(DARK.border)));
        let align = match tick {
            t if t <= FLOOR_DBFS => Align2::LEFT_TOP,
            t if t >= 0.0 => Align2::RIGHT_TOP,
            _ => Align2::CENTER_TOP,
        };
        painter.text(pos2(x, all.top() + 37.0), align, format!("{tick:.0}"), regular(10.0), colour(DARK.muted));
    }
}

fn along(bar: &Rect, dbfs: f32) -> f32 {
    bar.left() + (dbfs.clamp(FLOOR_DBFS, 0.0) - FLOOR_DBFS) / -FLOOR_DBFS * bar.width()
}

fn channel_bar(painter: &Painter, bar: Rect, levels: &Levels, channel: usize) {
    let ground = if levels.clipped { colour(DARK.failed) } else { colour(DARK.hairline) };
    painter.rect_filled(bar, 2.0, ground);
    let peak = levels.peak_dbfs[channel];
    let mut from = bar.left();
    for until in [WARNING_DBFS, ERROR_DBFS, 0.0] {
        let to = along(&bar, until.min(peak));
        if to > from {
            let part = Rect::from_min_max(pos2(from, bar.top()), pos2(to, bar.bottom()));
            painter.rect_filled(part, 0.0, colour(level_colour(until - 0.01)));
            from = to;
        }
    }
    let line = |dbfs: f32, ink: Color32| {
        if dbfs > FLOOR_DBFS {
            painter.vline(along(&bar, dbfs), bar.y_range(), Stroke::new(2.0, ink));
        }
    };
    line(levels.magnitude_dbfs[channel], colour(DARK.background));
    line(levels.hold_dbfs[channel], colour(DARK.text));
}
