//! The automation channel's commands.

use super::event::Host;
use super::view::latency_ms;
use super::{App, Fader, Tile};
use crate::automation::{Act, Order, PointerOrder, Reply, Request, SoundOrder, WatchTile};
use crate::hud::{Mix, Toast, Tone};
use crate::input::{Input, PointerMode};
use crate::plane::TileOrder;
use crate::render::completion::Deliver;
use crate::scene::View;
use crate::sound::Output;
use base64::Engine as _;
use loco_model::failure::Remedy;
use loco_model::recovery::RecoverOrder;
use loco_model::{InstanceId, Rect};
use serde_json::{Value, json};
use std::time::Instant;

/// A rectangle of a tile's picture that a tool wants to see whenever it is drawn.
pub(super) struct Watch {
    pub(super) connection: u64,
    pub(super) id: InstanceId,
    pub(super) rect: Rect,
    reply: Reply,
}

impl Watch {
    /// Tells what was read back, of a picture that was `captured` then.
    pub(super) fn deliver(&self, captured: Option<u32>) -> Deliver {
        let (reply, id) = (self.reply.clone(), self.id);
        Box::new(move |picture| {
            let luma = base64::engine::general_purpose::STANDARD.encode(picture.luma());
            reply.line(&json!({
                "watch": id, "presented_at_us": picture.at_us, "present": picture.drawing, "captured": captured,
                "width": picture.width, "height": picture.height, "luma": luma,
            }));
        })
    }
}

fn describe_toast(toast: &Toast) -> Value {
    let tone = match toast.tone {
        Tone::Info => "info",
        Tone::Good => "good",
        Tone::Busy => "busy",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
    };
    json!({ "text": toast.text, "tone": tone, "action": toast.action.as_ref().map(|(label, _)| label) })
}

fn four(rect: Rect) -> [u32; 4] {
    [rect.x, rect.y, rect.width, rect.height]
}

impl App {
    /// Does what a tool asks for, and answers.
    pub(super) fn command(&mut self, host: &mut dyn Host, request: Request) {
        let Request { id, order, reply, connection } = request;
        let answer = match order {
            Order::Screenshot { path } => {
                let rect = Rect::new(0, 0, self.size.width, self.size.height);
                // What changed until now is to be on it.
                self.dirty.hud = true;
                self.save(rect, path, move |result| match result {
                    Ok(path) => reply.ok(id, &json!({ "path": path })),
                    Err(why) => reply.error(id, &why),
                });
                return;
            }
            Order::Watch { tiles } => self.watch(connection, &tiles, &reply),
            Order::Quit => {
                reply.ok(id, &Value::Null);
                self.end();
                return;
            }
            other => self.order(host, other, connection),
        };
        match answer {
            Ok(value) => reply.ok(id, &value),
            Err(why) => reply.error(id, &why),
        }
    }

    fn order(&mut self, host: &mut dyn Host, order: Order, connection: u64) -> Result<Value, String> {
        let mut actions = Vec::new();
        match order {
            Order::Wall => return Ok(self.describe()),
            Order::Focus { tile } => {
                self.known(tile)?;
                self.router.set_focus(Some(tile), &mut actions);
            }
            Order::Layout { tiles } => {
                if !matches!(tiles, 1 | 4 | 9) {
                    return Err(format!("tiles is {tiles}; allowed are 1, 4 and 9"));
                }
                self.places = Some(tiles);
                self.set_view(View::Grid);
            }
            Order::Enlarge { tile } => match tile {
                Some(tile) => {
                    self.known(tile)?;
                    self.set_view(View::Enlarged(tile));
                }
                None => self.set_view(View::Grid),
            },
            Order::Mute { tile, muted } => {
                let fader = Fader { muted, ..self.wall.fader(tile) };
                self.wall.set_fader(tile, fader, &self.sound);
            }
            Order::Volume { tile, volume } => {
                if !(0.0..=1.0).contains(&volume) {
                    return Err(format!("volume is {volume}; allowed is 0 to 1"));
                }
                let fader = Fader { volume, ..self.wall.fader(tile) };
                self.wall.set_fader(tile, fader, &self.sound);
            }
            Order::Solo { tile, solo } => {
                if solo {
                    // One that is away must not silence the others.
                    self.known(tile)?;
                }
                let fader = Fader { solo, ..self.wall.fader(tile) };
                self.wall.set_fader(tile, fader, &self.sound);
            }
            Order::Sound(order) => return self.sound_order(&order),
            Order::Statistics { shown } => {
                if self.statistics_shown != shown {
                    self.toggle_statistics();
                }
                let sheet = self.sheet();
                self.dirty.hud = true;
                return Ok(json!({ "text": sheet.text() }));
            }
            Order::Key { tile, code, pressed } => {
                self.focus_for(host, tile)?;
                let at_us = loco_media::clock::now_us();
                self.input(host, Input::Key(code, pressed));
                return Ok(json!({ "injected_at_us": at_us }));
            }
            Order::Pointer(pointer) => return self.point(host, &pointer),
            Order::Act { tile, what } => {
                self.known(tile)?;
                self.do_act(host, tile, what);
            }
            Order::Unwatch => self.watches.retain(|watch| watch.connection != connection),
            Order::Screenshot { .. } | Order::Watch { .. } | Order::Quit => {}
        }
        self.act(host, actions);
        self.dirty.hud = true;
        Ok(Value::Null)
    }

    fn do_act(&mut self, host: &mut dyn Host, tile: InstanceId, what: Act) {
        let recover = |action| TileOrder::Recover(RecoverOrder { action, is_override: false });
        match what {
            Act::Menu => self.open_menu(tile, false),
            Act::Take => self.take(host, tile),
            Act::Release => self.release(host, tile),
            Act::ControlAltDelete => self.control_alt_delete(host, tile),
            Act::Pause => self.order_for(tile, TileOrder::Pause),
            Act::Resume => self.order_for(tile, TileOrder::Resume),
            Act::Snapshot => self.snapshot(tile),
            Act::Load(name) => self.order_for(tile, TileOrder::Load(name)),
            Act::Restart => self.order_for(tile, recover(Some(Remedy::RestartQemu))),
            Act::Recover => self.order_for(tile, recover(None)),
            Act::Evidence => self.save_evidence(tile),
        }
    }

    fn sound_order(&mut self, order: &SoundOrder) -> Result<Value, String> {
        let range = 0.0..=1.0;
        for (name, value) in [("volume", order.volume), ("dim", order.dim)] {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                return Err(format!("{name} is {value}; allowed is 0 to 1"));
            }
        }
        if let Some(volume) = order.volume {
            self.master.volume = volume;
            self.sound.set_master(volume);
        }
        if let Some(muted) = order.muted {
            self.master.muted = muted;
            self.sound.set_master_mute(muted);
        }
        self.set_mix(Mix {
            dims: order.dims.unwrap_or(self.mix.dims),
            dim: order.dim.unwrap_or(self.mix.dim),
            placed: order.placed.unwrap_or(self.mix.placed),
            ..self.mix
        });
        match order.output.as_deref() {
            None => {}
            Some("default") => self.set_output(Output::Default),
            Some("none") => self.set_output(Output::Null),
            Some(id) => self.set_output(Output::Device(id.to_owned())),
        }
        if let Some(list) = order.list {
            self.sound.watch_devices(list);
        }
        self.dirty.hud = true;
        Ok(self.describe_sound())
    }

    fn known(&self, id: InstanceId) -> Result<&Tile, String> {
        self.wall.tile(id).ok_or_else(|| format!("{id} is not on this wall"))
    }

    fn focus_for(&mut self, host: &mut dyn Host, tile: Option<InstanceId>) -> Result<(), String> {
        if let Some(tile) = tile {
            self.known(tile)?;
            let mut actions = Vec::new();
            self.router.set_focus(Some(tile), &mut actions);
            self.act(host, actions);
        }
        Ok(())
    }

    fn point(&mut self, host: &mut dyn Host, pointer: &PointerOrder) -> Result<Value, String> {
        self.focus_for(host, pointer.tile)?;
        let id = self.router.focus().ok_or("no instance has the focus")?;
        if self.router.pointer_mode(id) == PointerMode::Relative && !self.router.captured() {
            let mut actions = Vec::new();
            self.router.set_captured(true, &mut actions);
            self.act(host, actions);
        }
        let at_us = loco_media::clock::now_us();
        if let Some([dx, dy]) = pointer.motion {
            self.input(host, Input::Motion(dx, dy));
        }
        if let Some([x, y]) = pointer.position {
            let picture = self.layout.place(id).ok_or_else(|| format!("{id} is not on the screen"))?.picture;
            self.input(host, Input::Moved(f64::from(picture.x) + x, f64::from(picture.y) + y));
        }
        if let (Some(button), Some(pressed)) = (pointer.button, pointer.pressed) {
            self.input(host, Input::Button(button, pressed));
        }
        if let Some([x, y]) = pointer.wheel {
            self.input(host, Input::Wheel(x, y));
        }
        Ok(json!({ "injected_at_us": at_us }))
    }

    fn watch(&mut self, connection: u64, tiles: &[WatchTile], reply: &Reply) -> Result<Value, String> {
        let mut watches = Vec::new();
        for tile in tiles {
            self.known(tile.id)?;
            let [x, y, width, height] = tile.rect;
            let rect = Rect::new(x, y, width, height);
            let picture = self.layout.place(tile.id).map_or(Rect::default(), |place| place.picture);
            let whole = Rect::new(0, 0, picture.width, picture.height);
            if rect.is_empty() || rect.intersection(whole) != rect {
                return Err(format!(
                    "{}: {:?} does not lie in its picture of {}x{}",
                    tile.id, tile.rect, picture.width, picture.height
                ));
            }
            // Told once as it is now, then whenever it is drawn.
            self.renderer.draw_rect(Rect { x: picture.x + x, y: picture.y + y, ..rect });
            watches.push(Watch { connection, id: tile.id, rect, reply: reply.clone() });
        }
        self.watches.retain(|watch| watch.connection != connection);
        self.watches.extend(watches);
        Ok(Value::Null)
    }

    /// What is on the wall.
    fn describe(&self) -> Value {
        let now = Instant::now();
        let tiles: Vec<_> = self.wall.iter().map(|(id, tile)| self.describe_tile(id, tile, now)).collect();
        json!({
            "size": [self.size.width, self.size.height],
            "drawn": self.numbers.draw_count,
            "adapter": self.gpu.info.name,
            "rate_limit": self.pacer.rate(),
            "record_ms": self.numbers.record.percentiles(now),
            "device_ms": self.numbers.device.percentiles(now),
            "trouble": self.trouble,
            "viewer": self.plane.me().viewer,
            "others": self.others,
            "active": self.follow.active(),
            "follows": self.follow.is_on(),
            "toasts": self.notices.toasts(now).iter().map(describe_toast).collect::<Vec<_>>(),
            "sound": self.describe_sound(),
            "tiles": tiles,
        })
    }

    fn describe_tile(&self, id: InstanceId, tile: &Tile, now: Instant) -> Value {
        let place = self.layout.place(id);
        let numbers = self.tile_numbers(id, tile, now);
        let latency = latency_ms(&numbers);
        let session = numbers.session;
        let focused = self.router.focus() == Some(id);
        let plate = tile.plate();
        json!({
            "id": id,
            "name": tile.instance.name,
            "state": numbers.state,
            "note": plate.note,
            "title": plate.message.as_ref().map(|message| &message.title),
            "message": plate.message.as_ref().map(|message| &message.line),
            "quality": tile.gauge.quality().map(|q| json!({ "level": q.level, "reason": q.reason })),
            "fault": tile.gauge.fault(),
            "holder": self.hold.holder(id),
            "holds": self.hold.is_mine(id),
            "recovery": tile.instance.recovery,
            "attempts_left": tile.instance.attempts_left,
            "snapshots": tile.snapshots,
            "picture": place.filter(|_| tile.has_picture).map(|place| four(place.picture)),
            "tile": place.map_or([0; 4], |place| four(place.tile)),
            "focused": focused,
            "captured": focused && self.router.captured(),
            "stats": {
                "fps_sent": session.fps_sent,
                "fps_received": session.fps_received,
                "fps_decoded": session.fps_decoded,
                "fps_shown": numbers.fps_shown,
                "bytes_per_s": session.bytes_per_second,
                "latency_ms_p50": latency,
                "draw_ms": numbers.draw,
                "session": session,
            },
            "audio": self.describe_audio(id),
            "marker": self.describe_marker(id),
        })
    }
}
