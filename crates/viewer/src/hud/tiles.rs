//! Plates, messages over pictures, buttons on hover, empty places.

use super::ground;
use super::style::{colour, icon, icons, level_icon, regular, semibold, state_icon};
use super::{Ask, Holder, HudModel, Out, TileModel, menu};
use crate::input::chord;
use crate::plane::TileOrder;
use crate::quality;
use crate::scene::layout::Place;
use crate::scene::plate::Help;
use egui::{Align2, Color32, Id, Rect, Sense, Stroke, Ui, pos2, vec2};
use loco_model::look::DARK;
use loco_model::recovery::RecoverOrder;

/// From where the buttons over a picture begin to its right edge, in points.
const BUTTONS: f32 = 96.0;

/// One instance: plate, message, buttons.
pub(super) fn tile(ui: &Ui, tile: &TileModel, model: &HudModel, out: &mut Out) {
    if !model.layout.enlarged || model.edges {
        plate(ui, tile, out);
    }
    if let Some(caption) = &tile.plate.caption {
        self::caption(ui, tile, caption, out);
    }
    if let Some(message) = &tile.plate.message {
        let screen = out.points(tile.place.screen);
        let painter = ui.painter_at(screen);
        let state = colour(DARK.state(tile.plate.state));
        let title = painter.layout_no_wrap(message.title.clone(), semibold(13.0), colour(DARK.text));
        let line = painter.layout(message.line.clone(), regular(13.0), colour(DARK.text), screen.width() - 48.0);
        let mut top = screen.center().y - (title.size().y + 6.0 + line.size().y) / 2.0;
        let sign = if tile.has_picture { None } else { Some(state_icon(tile.plate.state)) };
        if let Some(sign) = sign {
            painter.text(pos2(screen.center().x, top - 8.0), Align2::CENTER_BOTTOM, sign, icons(24.0), state);
        }
        painter.galley(pos2(screen.center().x - title.size().x / 2.0, top), title.clone(), state);
        top += title.size().y + 6.0;
        for row in centred_rows(&line) {
            let galley = painter.layout_no_wrap(row, regular(13.0), colour(DARK.text));
            painter.galley(pos2(screen.center().x - galley.size().x / 2.0, top), galley.clone(), colour(DARK.text));
            top += galley.size().y;
        }
        if model.orders {
            help(ui, tile, &message.help, pos2(screen.center().x, top + 8.0), out);
        }
    }
    // The statistics lie over the focused picture, and over its buttons.
    let open = egui::Popup::is_id_open(ui.ctx(), menu::id(tile.plate.id));
    if open || !(tile.captured || tile.focused && model.statistics.is_some()) {
        buttons(ui, tile, model, out);
    }
}

/// Why a picture that is shown is not as it should be: over its upper edge, left of the buttons.
fn caption(ui: &Ui, tile: &TileModel, text: &str, out: &Out) {
    let screen = out.points(tile.place.screen);
    let room = (screen.width() - BUTTONS - 32.0).max(48.0);
    let line = ui.painter().layout(text.to_owned(), regular(12.0), colour(DARK.text), room);
    let ground = Rect::from_min_size(screen.left_top() + vec2(8.0, 8.0), line.size() + vec2(16.0, 10.0));
    let painter = ui.painter_at(screen);
    painter.rect_filled(ground, 6.0, colour(DARK.surface).gamma_multiply(0.9));
    painter.galley(ground.min + vec2(8.0, 5.0), line, colour(DARK.text));
}

/// Buttons under a message: what a person can do about it.
fn help(ui: &Ui, tile: &TileModel, help: &[Help], top: egui::Pos2, out: &mut Out) {
    let id = tile.plate.id;
    let labels = help.iter().map(|help| match help {
        Help::Recover { beyond: false } => "Repair it now",
        Help::Recover { beyond: true } => "Repair it all the same",
        Help::Resume => "Go on",
        Help::Evidence => "Save what was seen",
    });
    let labels: Vec<_> =
        labels.map(|label| ui.painter().layout_no_wrap(label.to_owned(), regular(13.0), colour(DARK.text))).collect();
    let whole: f32 = labels.iter().map(|label| label.size().x + 32.0).sum::<f32>() - 8.0;
    let mut x = top.x - whole / 2.0;
    for (help, label) in help.iter().zip(labels) {
        let spot = Rect::from_min_size(pos2(x, top.y), vec2(label.size().x + 24.0, 28.0));
        x = spot.right() + 8.0;
        out.taken.push(spot);
        let response = ui.interact(spot, Id::unique(("help", id, format!("{help:?}"))), Sense::click());
        let painter = ui.painter_at(spot);
        let ground = if response.hovered() { DARK.hairline } else { DARK.raised };
        let line = Stroke::new(1.0, colour(DARK.border));
        painter.rect(spot, 6.0, colour(ground), line, egui::StrokeKind::Inside);
        painter.galley(spot.center() - label.size() / 2.0, label, colour(DARK.text));
        if response.clicked() {
            out.asks.push(match help {
                Help::Recover { beyond } => {
                    let order = RecoverOrder { action: None, is_override: *beyond };
                    Ask::Order(id, TileOrder::Recover(order))
                }
                Help::Resume => Ask::Order(id, TileOrder::Resume),
                Help::Evidence => Ask::Evidence(id),
            });
        }
    }
}

/// The text of each row of a wrapped paragraph.
fn centred_rows(galley: &egui::Galley) -> Vec<String> {
    galley.rows.iter().map(|row| row.text().trim().to_owned()).collect()
}

fn plate(ui: &Ui, tile: &TileModel, out: &mut Out) {
    let plate = out.points(tile.place.plate);
    let painter = ui.painter_at(plate);
    let middle = plate.center().y;
    let chip = out.points(ground::chip(tile.place.plate, out.ppp));
    painter.text(chip.center(), Align2::CENTER_CENTER, tile.plate.id.number(), semibold(12.0), Color32::BLACK);
    let mut x = chip.right() + 8.0;
    let limit = if tile.place.meter.is_empty() {
        plate.right() - 28.0
    } else {
        let meter = out.points(tile.place.meter).left();
        signal(ui, tile, pos2(meter - 16.0, middle));
        meter - 28.0
    };
    let text = ui.painter_at(Rect::from_min_max(plate.min, pos2(limit.max(plate.left()), plate.bottom())));
    let name = text.text(pos2(x, middle), Align2::LEFT_CENTER, &tile.plate.name, semibold(13.0), colour(DARK.text));
    x = name.right() + 12.0;
    if tile.captured {
        let line = format!("{} releases", chord::RELEASE);
        text.text(pos2(x, middle), Align2::LEFT_CENTER, line, regular(12.0), colour(DARK.accent));
    } else if let (true, Holder::Other(name)) = (tile.focused, &tile.holder) {
        let sign = text.text(pos2(x, middle), Align2::LEFT_CENTER, icon::KEYBOARD, icons(14.0), colour(DARK.accent));
        let left = sign.right() + 6.0;
        let galley = held_by(ui, name, limit - left);
        text.galley(pos2(left, middle - galley.size().y / 2.0), galley, colour(DARK.accent));
    } else {
        let state = colour(DARK.state(tile.plate.state));
        let sign = state_icon(tile.plate.state);
        let sign = text.text(pos2(x, middle), Align2::LEFT_CENTER, sign, icons(13.0), state);
        let word = match &tile.plate.note {
            Some(note) => format!("{} · {note}", tile.plate.state.word()),
            None => tile.plate.state.word().to_owned(),
        };
        let word = text.text(pos2(sign.right() + 8.0, middle), Align2::LEFT_CENTER, word, regular(12.0), state);
        let holder = match &tile.holder {
            Holder::Nobody => None,
            Holder::Me => Some(("you", DARK.accent)),
            Holder::Other(name) => Some((name.as_str(), DARK.muted)),
        };
        if let Some((name, ink)) = holder {
            let at = pos2(word.right() + 12.0, middle);
            let sign = text.text(at, Align2::LEFT_CENTER, icon::KEYBOARD, icons(14.0), colour(ink));
            text.text(pos2(sign.right() + 6.0, middle), Align2::LEFT_CENTER, name, regular(12.0), colour(ink));
        }
    }
    let id = tile.plate.id;
    let spot = Rect::from_center_size(pos2(plate.right() - 16.0, middle), vec2(24.0, 24.0));
    let (sign, what, ink) =
        if tile.muted { (icon::SPEAKER_OFF, "Unmute", DARK.failed) } else { (icon::SPEAKER, "Mute", DARK.muted) };
    if icon_button(ui, spot, ("mute", id), sign, what, colour(ink), out) {
        out.asks.push(Ask::Mute(id));
    }
}

/// Who has the input and which chord takes it, as long as there is room for.
fn held_by(ui: &Ui, name: &str, room: f32) -> std::sync::Arc<egui::Galley> {
    let user = name.split('@').next().unwrap_or(name);
    let short: String = user.chars().take(10).collect();
    let lines = [
        format!("{name} has the input · {} takes it", chord::TAKE),
        format!("{name} · {} takes it", chord::TAKE),
        format!("{user} · {} takes it", chord::TAKE),
    ];
    let lay = |line: String| ui.painter().layout_no_wrap(line, regular(12.0), colour(DARK.accent));
    let fitting = lines.into_iter().map(lay).find(|galley| galley.size().x <= room);
    fitting.unwrap_or_else(|| lay(format!("{short} · {}", chord::TAKE)))
}

/// How good the picture arrives, as bars; the word is told on the plate where it matters, and on hover.
fn signal(ui: &Ui, tile: &TileModel, middle: egui::Pos2) {
    let Some(level) = tile.plate.level else { return };
    let (sign, ink) = level_icon(level);
    let spot = Rect::from_center_size(middle, vec2(20.0, 20.0));
    ui.painter_at(spot).text(middle, Align2::CENTER_CENTER, sign, icons(14.0), colour(ink));
    let response = ui.interact(spot, Id::unique(("signal", tile.plate.id)), Sense::hover());
    response.on_hover_text(format!("Picture: {}", quality::word(level)));
}

/// A bare icon that can be clicked.
fn icon_button(
    ui: &Ui,
    spot: Rect,
    id: impl std::hash::Hash + std::fmt::Debug,
    sign: char,
    what: &str,
    ink: Color32,
    out: &mut Out,
) -> bool {
    out.taken.push(spot);
    let response = ui.interact(spot, Id::unique(id), Sense::click());
    let ink = if response.hovered() { colour(DARK.text) } else { ink };
    ui.painter_at(spot).text(spot.center(), Align2::CENTER_CENTER, sign, icons(15.0), ink);
    response.on_hover_text(what).clicked()
}

/// Enlarge, screenshot, more: at the picture's upper right, while the pointer is over the tile.
fn buttons(ui: &Ui, tile: &TileModel, model: &HudModel, out: &mut Out) {
    let id = tile.plate.id;
    let menu = menu::id(id);
    let picture = out.points(tile.place.screen);
    let hovered = ui.ctx().pointer_hover_pos().is_some_and(|at| out.points(tile.place.tile).contains(at));
    let open = egui::Popup::is_id_open(ui.ctx(), menu);
    if !open {
        menu::closed(ui, id);
    }
    if !open && (!hovered || (model.layout.enlarged && !model.edges)) {
        return;
    }
    let ground = Rect::from_min_size(picture.right_top() + vec2(-BUTTONS, 8.0), vec2(88.0, 28.0));
    ui.painter_at(ground).rect_filled(ground, 6.0, colour(DARK.surface).gamma_multiply(0.9));
    let spot = |n: f32| Rect::from_min_size(ground.min + vec2(2.0 + n * 28.0, 0.0), vec2(28.0, 28.0));
    let ink = colour(DARK.muted);
    let enlarge = if model.layout.enlarged { "Back to the wall (F11)" } else { "Enlarge (F11)" };
    if icon_button(ui, spot(0.0), ("enlarge", id), icon::ENLARGE, enlarge, ink, out) {
        out.asks.push(Ask::Enlarge(id));
    }
    if icon_button(ui, spot(1.0), ("screenshot", id), icon::CAMERA, "Screenshot of this picture", ink, out) {
        out.asks.push(Ask::Screenshot(Some(id)));
    }
    out.taken.push(spot(2.0));
    let more = ui.interact(spot(2.0), Id::unique(("more", id)), Sense::click());
    let ink = if more.hovered() || open { colour(DARK.text) } else { ink };
    ui.painter_at(spot(2.0)).text(spot(2.0).center(), Align2::CENTER_CENTER, icon::MORE, icons(15.0), ink);
    if more.clicked() && !open {
        out.asks.push(Ask::MenuOpened(id));
    }
    let popup = egui::Popup::menu(&more).id(menu).close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside);
    let popup = match model.menu_at {
        Some((whose, at)) if whose == id => popup.at_position(at),
        _ => popup,
    };
    popup.show(|ui| menu::show(ui, tile, model, out));
}

/// A place without an instance: how to fill it.
pub(super) fn empty(ui: &Ui, place: &Place, model: &HudModel, out: &mut Out) {
    let tile = out.points(place.tile);
    let painter = ui.painter_at(tile);
    let inner = tile.shrink(1.0);
    let corners = [inner.left_top(), inner.right_top(), inner.right_bottom(), inner.left_bottom(), inner.left_top()];
    painter.extend(egui::Shape::dashed_line(&corners, Stroke::new(1.0, colour(DARK.border)), 6.0, 5.0));
    let (title, line) = if !model.tiles.is_empty() {
        ("Empty place".to_owned(), "loco demo -n 9 fills the wall".to_owned())
    } else if let Some(trouble) = &model.trouble {
        ("No control plane".to_owned(), format!("It does not answer: {trouble}; it is tried again by itself"))
    } else {
        ("No instances".to_owned(), "loco demo -n 9 starts some".to_owned())
    };
    let line = painter.layout(line, regular(13.0), colour(DARK.muted), (tile.width() - 48.0).max(48.0));
    let top = tile.center().y - line.size().y / 2.0;
    painter.text(pos2(tile.center().x, top - 4.0), Align2::CENTER_BOTTOM, title, semibold(13.0), colour(DARK.text));
    let mut y = top + 4.0;
    for row in centred_rows(&line) {
        let at = painter.text(pos2(tile.center().x, y), Align2::CENTER_TOP, row, regular(13.0), colour(DARK.muted));
        y = at.bottom();
    }
}
