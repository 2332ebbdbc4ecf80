//! Who is heard how: faders, dimming by focus, sides by tile; what the sound system says; the marker's flashes and clicks.

use super::{App, Fader};
use crate::hud::Mix;
use crate::marker;
use crate::session::Picture;
use crate::sound::{Levels, Output, place};
use loco_model::InstanceId;
use serde_json::{Value, json};

/// A level for machines: null for silence.
pub(super) fn finite(db: f32) -> Option<f32> {
    db.is_finite().then_some(db)
}

impl App {
    /// Tells the mixer who is lower than the focused instance, and where each stands.
    pub(super) fn balance(&self) {
        let focus = self.router.focus();
        for id in InstanceId::all() {
            self.sound.set_dimmed(id, focus.is_some_and(|focus| focus != id));
            let side = match self.layout.place(id) {
                Some(place) if self.mix.placed && !self.layout.enlarged => {
                    let middle = place.tile.x as f32 + place.tile.width as f32 / 2.0;
                    place::side_of(middle, self.size.width as f32)
                }
                _ => 0.0,
            };
            self.sound.set_side(id, side);
        }
        self.sound.set_dim(if self.mix.dims { self.mix.dim } else { 1.0 });
        self.sound.set_decay(self.mix.decay);
    }

    pub(super) fn set_mix(&mut self, mix: Mix) {
        self.mix = mix;
        self.balance();
    }

    pub(super) fn set_output(&mut self, output: Output) {
        self.sound.set_device(output.clone());
        self.output = output;
    }

    pub(super) fn toggle_mute(&mut self, id: InstanceId) {
        let fader = self.wall.fader(id);
        self.wall.set_fader(id, Fader { muted: !fader.muted, ..fader }, &self.sound);
        self.dirty.hud = true;
    }

    pub(super) fn toggle_solo(&mut self, id: InstanceId) {
        let fader = self.wall.fader(id);
        self.wall.set_fader(id, Fader { solo: !fader.solo, ..fader }, &self.sound);
        self.dirty.hud = true;
    }

    /// A meter moved, or the sound's state changed.
    pub(super) fn sound_changed(&mut self) {
        self.dirty.ground = true;
        self.dirty.hud |= self.hud.any_popup_open();
        for id in InstanceId::all() {
            if self.wall.tile(id).is_some_and(|tile| tile.marker.is_there()) {
                self.pair(id);
            }
        }
        if self.sound.is_trouble(self.sound_trouble.as_deref()) {
            return;
        }
        let status = self.sound.status();
        let trouble = status.trouble().map(str::to_owned);
        self.dirty.hud = true;
        // What is wrong stays in the bar; only that it began and that it ended is announced.
        match (&self.sound_trouble, &trouble) {
            (None, Some(now)) => self.toast(format!("Sound: {now}")),
            (Some(_), None) => self.toast(format!("Sound is well again: {}", status.line)),
            _ => {}
        }
        self.sound_trouble = trouble;
    }

    /// Looks for devices while a menu that shows them is open.
    pub(super) fn watch_devices(&mut self) {
        let open = self.hud.any_popup_open();
        if open != self.devices_watched {
            self.devices_watched = open;
            self.sound.watch_devices(open);
        }
    }

    /// Looks for the marker in a picture that will be presented with `drawing`.
    pub(super) fn see_marker(&mut self, id: InstanceId, picture: &dyn Picture, drawing: u64) {
        let (luma, stride) = picture.plane(0);
        let pixel = |x: u32, y: u32| luma.get(y as usize * stride + x as usize).copied().unwrap_or_default();
        let field = marker::read(picture.size(), pixel);
        let Some(tile) = self.wall.tile_mut(id) else { return };
        let was_there = tile.marker.is_there();
        let flashes = tile.marker.see(field);
        if was_there != field.is_some() {
            self.sound.listen_for_clicks(id, field.is_some());
        }
        if flashes {
            self.flashes.push((drawing, id));
        }
    }

    /// A drawing was presented: flashes in it are stamped.
    pub(super) fn flashes_shown(&mut self, drawing: u64, at_us: u64) {
        for (_, id) in self.flashes.extract_if(.., |(drawn, _)| *drawn <= drawing).collect::<Vec<_>>() {
            if let Some(tile) = self.wall.tile_mut(id) {
                tile.marker.shown(at_us);
            }
            self.pair(id);
        }
    }

    fn pair(&mut self, id: InstanceId) {
        let click = self.sound.click(id);
        if let Some(tile) = self.wall.tile_mut(id) {
            tile.marker.pair(click);
        }
    }

    /// An instance's meters and faders, for tools.
    pub(super) fn describe_audio(&self, id: InstanceId) -> Option<Value> {
        let levels = self.sound.levels(id)?;
        let fader = self.wall.fader(id);
        let mut audio = describe_levels(&levels, self.sound.loudness(id));
        audio["muted"] = json!(fader.muted);
        audio["solo"] = json!(fader.solo);
        audio["volume"] = json!(fader.volume);
        audio["reader"] = json!(self.sound.reader_stats(id));
        Some(audio)
    }

    /// An instance's last flash with its click, for tools; null while there is none.
    pub(super) fn describe_marker(&self, id: InstanceId) -> Value {
        let Some(marker) = self.wall.tile(id).map(|tile| &tile.marker) else { return Value::Null };
        let Some(pair) = marker.newest() else { return Value::Null };
        json!({
            "pairs": marker.count(),
            "shown_us": pair.shown_us,
            "clicks": pair.click.count,
            "handed_us": pair.click.handed_us,
            "offset_us": pair.click.offset_us,
            "latency_us": pair.click.latency_us,
            "handed_skew_ms": pair.handed_skew_ms(),
            "skew_ms": pair.skew_ms(),
            "skew_ms_p50": marker.skew_ms(),
        })
    }

    /// The sound system, for tools.
    pub(super) fn describe_sound(&self) -> Value {
        let status = self.sound.status();
        json!({
            "playing": status.playing,
            "line": status.line,
            "trouble": status.trouble(),
            "device": status.device,
            "rate_hz": status.rate_hz,
            "callback_frames": status.callback_frames,
            "output_latency_ms": status.output_latency_ms,
            "reopened": status.reopened,
            "missed_ms": status.missed_ms,
            "hanging": status.hanging,
            "priority": status.priority.map(|priority| priority.to_string()),
            "master": describe_levels(&self.sound.master_levels(), self.sound.master_loudness()),
            "volume": self.master.volume,
            "muted": self.master.muted,
            "dims": self.mix.dims,
            "dim": self.mix.dim,
            "placed": self.mix.placed,
            "devices": self.sound.devices().iter().map(|device| json!({
                "id": device.id, "name": device.name, "default": device.default,
            })).collect::<Vec<_>>(),
        })
    }
}

fn describe_levels(levels: &Levels, loudness: f32) -> Value {
    json!({
        "peak_dbfs": finite(levels.peak_dbfs[0].max(levels.peak_dbfs[1])),
        "peaks_dbfs": levels.peak_dbfs.map(finite),
        "hold_dbfs": finite(levels.hold_dbfs[0].max(levels.hold_dbfs[1])),
        "magnitude_dbfs": finite(levels.magnitude_dbfs[0].max(levels.magnitude_dbfs[1])),
        "input_peak_dbfs": finite(levels.input_peak_dbfs),
        "loudness_lufs": finite(loudness),
        "clipped": levels.clipped,
    })
}
