//! The line on top: where we are connected to, how many are in which state, volume, statistics, menu.

use super::style::{colour, icon, icons, semibold};
use super::{Ask, HudModel, Out};
use crate::args::Scaling;
use crate::input::chord;
use egui::{Button, Layout, RichText, Ui, UiBuilder, vec2};
use loco_model::look::DARK;

/// Between what stands at the left and the chips, in points.
const GAP: f32 = 12.0;

/// The bar; over the picture while the edges are slid in.
pub(super) fn show(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    if model.layout.enlarged {
        return;
    }
    let bar = out.points(model.layout.bar);
    out.taken.push(bar);
    let inner = bar.shrink2(vec2(14.0, 0.0));
    // The chips first: what stands at the left is as long as what happened, and has what they leave.
    let layout = Layout::right_to_left(egui::Align::Center);
    let right = ui.scope_builder(UiBuilder::new().max_rect(inner).layout(layout), |ui| {
        ui.set_clip_rect(bar);
        chips(ui, model, out);
    });
    let left = inner.with_max_x((right.response.rect.left() - GAP).max(inner.left()));
    ui.scope_builder(UiBuilder::new().max_rect(left).layout(Layout::left_to_right(egui::Align::Center)), |ui| {
        ui.set_clip_rect(left.with_min_y(bar.top()).with_max_y(bar.bottom()));
        ui.label(RichText::new("Loco Cluster").font(semibold(14.0)).color(colour(DARK.text)));
        ui.add_space(8.0);
        match &model.trouble {
            Some(trouble) => {
                let most = if model.sound_trouble.is_some() { 0.5 } else { 1.0 };
                warning(ui, &format!("No control plane: {trouble} ({})", model.connection), most);
            }
            None => {
                let count = model.instances;
                let noun = if count == 1 { "instance" } else { "instances" };
                let line = format!("{} · {count} {noun}", model.connection);
                ui.add(egui::Label::new(RichText::new(line).color(colour(DARK.muted))).truncate());
            }
        }
        if let Some(trouble) = &model.sound_trouble {
            ui.add_space(8.0);
            warning(ui, trouble, 1.0);
        }
    });
}

/// Menu, statistics, volume, summary: from the right.
fn chips(ui: &mut Ui, model: &HudModel, out: &mut Out) {
    ui.spacing_mut().item_spacing.x = 12.0;
    let more = ui.add(chip(RichText::new(icon::MORE).font(icons(15.0))));
    egui::Popup::menu(&more)
        .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside)
        .show(|ui| menu(ui, model, out));
    if ui.add(chip("Statistics").selected(model.statistics.is_some())).clicked() {
        out.asks.push(Ask::Statistics);
    }
    let word = if model.master_muted { "Muted".to_owned() } else { format!("Volume {:.0} %", model.master * 100.0) };
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
}

/// A line of trouble in at most this share of the room that is left; what has no room ends in an ellipsis, and is read whole
/// by pointing at it.
fn warning(ui: &mut Ui, line: &str, share: f32) {
    ui.label(RichText::new(icon::WARNING).font(icons(14.0)).color(colour(DARK.degraded)));
    let room = vec2(ui.available_width() * share, ui.available_height());
    ui.allocate_ui(room, |ui| {
        ui.add(egui::Label::new(RichText::new(line).color(colour(DARK.degraded))).truncate());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hud::Mix;
    use crate::scene::layout::Layout as Places;
    use crate::sound::{Levels, Output};
    use loco_model::{Rect, Size};

    fn model(trouble: Option<&str>, sound_trouble: Option<&str>) -> HudModel {
        HudModel {
            layout: Places { size: Size::new(980, 720), bar: Rect::new(0, 0, 980, 44), ..Places::default() },
            tiles: Vec::new(),
            connection: "this computer".into(),
            trouble: trouble.map(Into::into),
            instances: 3,
            summary: Some("3 live".into()),
            worst: None,
            master: 0.8,
            master_muted: false,
            devices: Vec::new(),
            output: Output::Default,
            sound_line: String::new(),
            sound_trouble: sound_trouble.map(Into::into),
            mix: Mix::default(),
            master_levels: Levels::SILENT,
            loudness: f32::NEG_INFINITY,
            statistics: None,
            toasts: Vec::new(),
            slides: false,
            orders: true,
            menu_at: None,
            edges: false,
            full_screen: false,
            scaling: Scaling::Sharp,
        }
    }

    /// Each text of the bar, with its left and its right edge.
    fn texts(model: &HudModel) -> Vec<(String, f32, f32)> {
        let context = egui::Context::default();
        crate::hud::install(&context);
        let size = egui::Rect::from_min_size(egui::Pos2::ZERO, vec2(980.0, 720.0));
        let input = egui::RawInput { screen_rect: Some(size), ..egui::RawInput::default() };
        let mut drawn = context.run_ui(input, |ui| {
            show(ui, model, &mut Out { asks: Vec::new(), taken: Vec::new(), ppp: 1.0 });
        });
        drawn.textures_delta.clear();
        let texts = drawn.shapes.into_iter().filter_map(|shape| match shape.shape {
            egui::Shape::Text(text) => {
                let edges = text.visual_bounding_rect().intersect(shape.clip_rect);
                Some((text.galley.text().to_owned(), edges.left(), edges.right()))
            }
            _ => None,
        });
        texts.collect()
    }

    #[test]
    fn trouble_ends_where_the_chips_begin() {
        let long = "no sound device: neither a sound server nor a sound card was found; trying again ".repeat(3);
        for (trouble, sound) in [(Some(&*long), None), (None, Some(&*long)), (Some(&*long), Some("no sound device"))] {
            let texts = texts(&model(trouble, sound));
            let chips = texts.iter().find(|(text, ..)| text == "3 live").map(|(_, left, _)| *left);
            let chips = chips.expect("the chip");
            let told: Vec<_> = texts.iter().filter(|(text, ..)| text.contains("sound device")).collect();
            assert_eq!(told.len(), [trouble, sound].iter().flatten().count(), "{texts:?}");
            for (text, left, right) in &told {
                assert!(right < &chips && right - left > 60.0, "{left}..{right}, chips at {chips}: {text}");
            }
            if let [(_, _, first), (_, second, _)] = told[..] {
                assert!(first < second, "one over the other: {texts:?}");
            }
        }
    }
}
