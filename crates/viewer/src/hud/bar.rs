//! The line on top: where we are connected to, how many are in which state, volume, statistics, menu.

use super::style::{colour, icon, icons, semibold};
use super::{Ask, HudModel, Out};
use crate::args::Scaling;
use crate::input::chord;
use egui::{Button, Layout, RichText, Ui, UiBuilder, vec2};
use loco_model::look::DARK;

/// The bar; over the picture while the edges are slid in.
pub(super) fn show(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    if model.layout.enlarged {
        return;
    }
    let bar = out.points(model.layout.bar);
    out.taken.push(bar);
    let inner = bar.shrink2(vec2(14.0, 0.0));
    ui.scope_builder(UiBuilder::new().max_rect(inner).layout(Layout::left_to_right(egui::Align::Center)), |ui| {
        ui.set_clip_rect(bar);
        ui.label(RichText::new("Loco Cluster").font(semibold(14.0)).color(colour(DARK.text)));
        ui.add_space(8.0);
        match &model.trouble {
            Some(trouble) => {
                ui.label(RichText::new(icon::WARNING).font(icons(14.0)).color(colour(DARK.degraded)));
                let line = format!("{} · {trouble}", model.connection);
                ui.add(egui::Label::new(RichText::new(line).color(colour(DARK.degraded))).truncate());
            }
            None => {
                let count = model.instances;
                let noun = if count == 1 { "instance" } else { "instances" };
                let line = format!("{} · {count} {noun}", model.connection);
                ui.label(RichText::new(line).color(colour(DARK.muted)));
            }
        }
        if let Some(trouble) = &model.sound_trouble {
            ui.add_space(8.0);
            ui.label(RichText::new(icon::WARNING).font(icons(14.0)).color(colour(DARK.degraded)));
            ui.add(egui::Label::new(RichText::new(trouble).color(colour(DARK.degraded))).truncate());
        }
    });
    ui.scope_builder(UiBuilder::new().max_rect(inner).layout(Layout::right_to_left(egui::Align::Center)), |ui| {
        ui.set_clip_rect(bar);
        ui.spacing_mut().item_spacing.x = 12.0;
        let more = ui.add(chip(RichText::new(icon::MORE).font(icons(15.0))));
        egui::Popup::menu(&more)
            .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside)
            .show(|ui| menu(ui, model, out));
        if ui.add(chip("Statistics").selected(model.statistics.is_some())).clicked() {
            out.asks.push(Ask::Statistics);
        }
        let word =
            if model.master_muted { "Muted".to_owned() } else { format!("Volume {:.0} %", model.master * 100.0) };
        let word = if model.tiles.iter().any(|tile| tile.solo) { format!("{word} · solo") } else { word };
        let volume = ui.add(chip(word));
        egui::Popup::menu(&volume)
            .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside)
            .show(|ui| super::sound::popup(ui, model, out));
        if let Some(summary) = &model.summary {
            let jump = ui.add(chip(summary.as_str()));
            if let (true, Some(worst)) = (jump.clicked(), model.worst) {
                out.asks.push(Ask::Focus(worst));
            }
        }
    });
}

fn chip<'a>(text: impl egui::IntoAtoms<'a>) -> Button<'a> {
    Button::new(text).min_size(vec2(0.0, 26.0))
}

fn menu(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    ui.set_min_width(260.0);
    if ui.button("Screenshot").clicked() {
        out.asks.push(Ask::Screenshot(None));
        ui.close();
    }
    let word = if model.full_screen { "Leave full screen" } else { "Full screen" };
    if ui.button(word).clicked() {
        out.asks.push(Ask::FullScreen);
        ui.close();
    }
    ui.separator();
    for (scaling, word) in [(Scaling::Sharp, "Pictures as large as fits"), (Scaling::Integer, "Whole multiples only")] {
        if ui.radio(model.scaling == scaling, word).clicked() {
            out.asks.push(Ask::Scaling(scaling));
        }
    }
    ui.separator();
    egui::Grid::new("chords").num_columns(2).show(ui, |ui| {
        for (keys, what) in chord::LEGEND {
            ui.label(RichText::new(*keys).size(12.0).color(colour(DARK.muted)));
            ui.label(RichText::new(*what).size(12.0));
            ui.end_row();
        }
    });
}
