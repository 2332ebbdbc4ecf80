//! The menu of one instance: sound and pointer, whose input it takes, what the control plane can do to it. What loses
//! work asks a second time, in its own place.

use super::style::colour;
use super::{Ask, Holder, HudModel, Out, TileModel};
use crate::input::PointerMode;
use crate::plane::TileOrder;
use crate::scene::words;
use egui::{Id, RichText, Ui};
use loco_model::InstanceId;
use loco_model::failure::Remedy;
use loco_model::look::DARK;
use loco_model::recovery::RecoverOrder;

/// Names an instance's menu, so that it can be opened from elsewhere.
#[must_use]
pub fn id(instance: InstanceId) -> Id {
    Id::unique(("tile menu", instance))
}

fn pending_id(instance: InstanceId) -> Id {
    Id::unique(("tile menu asks", instance))
}

/// Forgets what was about to be confirmed.
pub(super) fn closed(ui: &Ui, instance: InstanceId) {
    ui.data_mut(|data| data.remove::<String>(pending_id(instance)));
}

pub(super) fn show(ui: &mut Ui, tile: &TileModel, model: &HudModel, out: &mut Out) {
    let id = tile.plate.id;
    ui.set_min_width(260.0);
    sound(ui, tile, out);
    let mut absolute = tile.pointer_mode == PointerMode::Absolute;
    if ui.checkbox(&mut absolute, "Pointer without capture (tablet)").changed() {
        let mode = if absolute { PointerMode::Absolute } else { PointerMode::Relative };
        out.asks.push(Ask::PointerMode(id, mode));
    }
    ui.separator();
    match &tile.holder {
        Holder::Other(name) if item(ui, &format!("Take the input from {name}")) => out.asks.push(Ask::Take(id)),
        Holder::Me if item(ui, "Give the input back") => out.asks.push(Ask::Release(id)),
        _ => {}
    }
    if item(ui, "Send Ctrl+Alt+Del") {
        out.asks.push(Ask::ControlAltDelete(id));
    }
    if item(ui, "Screenshot") {
        out.asks.push(Ask::Screenshot(Some(id)));
    }
    if model.orders {
        ui.separator();
        machine(ui, tile, out);
    }
    ui.separator();
    ui.label(RichText::new(format!("{} · {}", id, id.host_name())).color(colour(DARK.muted)).size(12.0));
}

fn sound(ui: &mut Ui, tile: &TileModel, out: &mut Out) {
    let id = tile.plate.id;
    ui.horizontal(|ui| {
        let mut volume = tile.volume;
        ui.label("Volume");
        if ui.add(egui::Slider::new(&mut volume, 0.0..=1.0).show_value(false)).changed() {
            out.asks.push(Ask::Volume(id, volume));
        }
    });
    let mut muted = tile.muted;
    if ui.checkbox(&mut muted, "Mute").changed() {
        out.asks.push(Ask::Mute(id));
    }
    let mut solo = tile.solo;
    if ui.checkbox(&mut solo, "Solo").changed() {
        out.asks.push(Ask::Solo(id));
    }
}

/// What the control plane can do to the machine.
fn machine(ui: &mut Ui, tile: &TileModel, out: &mut Out) {
    let id = tile.plate.id;
    let mut order = |order| out.asks.push(Ask::Order(id, order));
    if tile.paused {
        if item(ui, "Go on") {
            order(TileOrder::Resume);
        }
    } else if item(ui, "Pause") {
        order(TileOrder::Pause);
    }
    if item(ui, "Keep a snapshot") {
        out.asks.push(Ask::Snapshot(id));
    }
    ui.menu_button("Load a snapshot", |ui| snapshots(ui, tile, out));
    ui.menu_button("Repair", |ui| repairs(ui, tile, out));
    if let Some(order) = restart(ui, tile) {
        out.asks.push(Ask::Order(id, TileOrder::Recover(order)));
    }
    if tile.has_evidence && item(ui, "Save what was seen before the last repair") {
        out.asks.push(Ask::Evidence(id));
    }
}

fn snapshots(ui: &mut Ui, tile: &TileModel, out: &mut Out) {
    let muted = |text: &str| RichText::new(text).color(colour(DARK.muted)).size(12.0);
    match tile.snapshots.as_deref() {
        None => {
            ui.label(muted("Being asked for"));
        }
        Some([]) => {
            ui.label(muted("There is none yet: keep one first"));
        }
        Some(names) => {
            for name in names {
                let warning = "What happened since is lost.";
                if confirmed(ui, tile.plate.id, name, warning, "Load") {
                    out.asks.push(Ask::Order(tile.plate.id, TileOrder::Load(name.clone())));
                }
            }
        }
    }
}

fn repairs(ui: &mut Ui, tile: &TileModel, out: &mut Out) {
    let id = tile.plate.id;
    let beyond = tile.attempts_left == Some(0);
    if let Some(left) = tile.attempts_left {
        let line = RichText::new(words::attempts_left(left)).size(12.0);
        ui.label(line.color(colour(if beyond { DARK.degraded } else { DARK.muted })));
    }
    let mut ask = |action| {
        let order = RecoverOrder { action, is_override: beyond };
        out.asks.push(Ask::Order(id, TileOrder::Recover(order)));
    };
    if limited(ui, id, "What its faults ask for", beyond) {
        ask(None);
    }
    for remedy in Remedy::ALL {
        let chosen = if words::loses_work(remedy) {
            confirmed(ui, id, words::menu(remedy), LOSS, "Do it")
        } else {
            limited(ui, id, words::menu(remedy), beyond)
        };
        if chosen {
            ask(Some(remedy));
        }
    }
}

const LOSS: &str = "What is not saved in the guest is lost.";

fn restart(ui: &mut Ui, tile: &TileModel) -> Option<RecoverOrder> {
    let is_override = tile.attempts_left == Some(0);
    let chosen = confirmed(ui, tile.plate.id, "Restart", LOSS, "Restart");
    chosen.then_some(RecoverOrder { action: Some(Remedy::RestartQemu), is_override })
}

/// An entry that closes the menu.
fn item(ui: &mut Ui, label: &str) -> bool {
    let clicked = ui.button(label).clicked();
    if clicked {
        ui.close();
    }
    clicked
}

/// An entry that asks a second time where the limit is reached.
fn limited(ui: &mut Ui, id: InstanceId, label: &str, beyond: bool) -> bool {
    if beyond { confirmed(ui, id, label, "The hour's attempts are used up.", "All the same") } else { item(ui, label) }
}

/// An entry that asks a second time. Returns whether it was confirmed.
fn confirmed(ui: &mut Ui, id: InstanceId, label: &str, warning: &str, verb: &str) -> bool {
    let key = pending_id(id);
    let is_pending = ui.data(|data| data.get_temp::<String>(key)).is_some_and(|pending| pending == label);
    if !is_pending {
        if ui.button(format!("{label} …")).clicked() {
            ui.data_mut(|data| data.insert_temp(key, label.to_owned()));
        }
        return false;
    }
    ui.label(RichText::new(format!("{label}? {warning}")).color(colour(DARK.degraded)));
    let (mut yes, mut no) = (false, false);
    ui.horizontal(|ui| {
        yes = ui.button(verb).clicked();
        no = ui.button("Cancel").clicked();
    });
    if yes || no {
        ui.data_mut(|data| data.remove::<String>(key));
    }
    if yes {
        ui.close();
    }
    yes
}
