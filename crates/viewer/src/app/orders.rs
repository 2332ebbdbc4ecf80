//! What a person asks for one instance, and what the control plane answers and tells.

use super::App;
use super::event::Host;
use super::notices::Note;
use crate::hud::{Ask, Tone, tile_menu_id};
use crate::plane::{Answer, Gain, TileOrder};
use crate::scene::words::{self, News};
use loco_model::api::{Alert, Severity};
use loco_model::input::KeysEvent;
use loco_model::recovery::{Attempt, Outcome};
use loco_model::usage::Viewer;
use loco_model::{InstanceId, Key};

/// Key of what is said about how an instance is: the newest line takes the place of the one before.
fn about(id: InstanceId) -> String {
    format!("about {id}")
}

impl App {
    /// An attempt to repair was begun, or ended.
    pub(super) fn heard_attempt(&mut self, attempt: &Attempt) {
        let id = attempt.instance_id;
        let name = self.name_of(id);
        let Some(tile) = self.wall.tile_mut(id) else { return };
        if attempt.evidence.is_some() {
            tile.evidence = Some(attempt.id.clone());
        }
        let (news, line) = words::attempt(&name, attempt);
        let tone = match news {
            News::Busy => Tone::Busy,
            News::Good => Tone::Good,
            News::Bad => Tone::Bad,
        };
        let note = Note::new(tone, line).keyed(about(id));
        let is_bad = matches!(attempt.outcome, Outcome::InVain | Outcome::Failed | Outcome::Refused);
        let note = if is_bad { note.action("Show", Ask::Focus(id)) } else { note };
        self.note(note);
    }

    /// An alert began or ended.
    pub(super) fn heard_alert(&mut self, alert: &Alert) {
        let place = alert.instance_id.map(|id| format!("{}: ", self.name_of(id))).unwrap_or_default();
        let detail = alert.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
        let note = if alert.ended_at_ms.is_some() {
            Note::new(Tone::Good, format!("{place}{}: it is over", alert.title))
        } else {
            let tone = match alert.severity {
                Severity::Info => Tone::Info,
                Severity::Warning => Tone::Warning,
                Severity::Critical => Tone::Bad,
            };
            Note::new(tone, format!("{place}{}{detail}", alert.title))
        };
        let on_wall = alert.instance_id.filter(|id| id.is_in_grid() && self.wall.tile(*id).is_some());
        let note = on_wall.map_or_else(|| note.clone(), |id| note.clone().action("Show", Ask::Focus(id)));
        self.note(note.keyed(alert.whose_state().map_or_else(|| format!("alert {}", alert.id), about)));
    }

    /// The active list is another one.
    pub(super) fn heard_active(&mut self, host: &mut dyn Host, active: Vec<InstanceId>) {
        let Some(focus) = self.follow.heard(active, self.clock()) else { return };
        if focus.is_none_or(|id| id.is_in_grid() && self.wall.tile(id).is_some()) {
            let mut actions = Vec::new();
            self.router.set_focus(focus, &mut actions);
            self.act(host, actions);
            self.dirty.hud = true;
        }
    }

    /// Viewers came or went.
    pub(super) fn heard_viewers(&mut self, viewers: Vec<Viewer>) {
        let me = &self.plane.me().viewer;
        self.others = viewers.into_iter().filter(|viewer| viewer.id != *me).map(|viewer| viewer.report.name).collect();
        self.hold.set_others(!self.others.is_empty());
        self.dirty.hud = true;
    }

    /// The control plane answered.
    pub(super) fn answered(&mut self, host: &mut dyn Host, answer: Answer) {
        self.dirty.hud = true;
        match answer {
            Answer::Claim { id, action, result } => {
                tracing::debug!(%id, ?action, ?result, "claim");
                let mut deeds = Vec::new();
                self.hold.answered(id, action, &result, self.clock(), &mut deeds);
                self.carry(host, deeds);
            }
            Answer::Done { id, order, result } => self.done(id, order, result),
        }
    }

    fn done(&mut self, id: InstanceId, order: TileOrder, result: Result<Gain, String>) {
        let name = self.name_of(id);
        let gain = match result {
            Ok(gain) => gain,
            Err(why) => {
                let what = words::not_done(&name, &order);
                // Asked for again and refused again, it is one message.
                self.note(Note::new(Tone::Bad, format!("{what}: {why}")).keyed(what));
                return;
            }
        };
        match (order, gain) {
            (TileOrder::Snapshots, Gain::Names(names)) => {
                if let Some(tile) = self.wall.tile_mut(id) {
                    tile.snapshots = Some(names);
                }
            }
            (TileOrder::Evidence { .. }, Gain::Files(files)) => {
                let folder = files.first().and_then(|file| file.parent()).map(|folder| folder.display().to_string());
                let folder = folder.filter(|folder| !folder.is_empty()).unwrap_or_else(|| ".".to_owned());
                self.note(Note::new(Tone::Info, format!("{name}: {} files are saved in {folder}", files.len())));
            }
            (TileOrder::Pause, _) => self.note(Note::new(Tone::Info, format!("{name} is paused"))),
            (TileOrder::Resume, _) => self.note(Note::new(Tone::Good, format!("{name} goes on"))),
            (TileOrder::Snapshot(snapshot), _) => {
                self.note(Note::new(Tone::Good, format!("{name} is kept as {snapshot:?}")));
            }
            (TileOrder::Load(snapshot), _) => {
                self.note(Note::new(Tone::Good, format!("{name} is back at {snapshot:?}")));
            }
            // The attempt is told by its own events.
            (TileOrder::Recover(_) | TileOrder::Snapshots | TileOrder::Evidence { .. }, _) => {}
        }
    }

    /// Asks something for one instance.
    pub(super) fn order_for(&mut self, id: InstanceId, order: TileOrder) {
        if self.plane.is_somewhere() {
            self.plane.order(id, order);
        } else {
            self.note(Note::new(Tone::Warning, "There is no control plane to ask".to_owned()));
        }
    }

    /// Keeps how an instance is, under the name of this moment.
    pub(super) fn snapshot(&mut self, id: InstanceId) {
        self.order_for(id, TileOrder::Snapshot(format!("kept-{}", super::files::now_stamp())));
    }

    /// Saves what was seen before the last attempt.
    pub(super) fn save_evidence(&mut self, id: InstanceId) {
        let Some(attempt) = self.wall.tile(id).and_then(|tile| tile.evidence.clone()) else { return };
        let folder = super::files::folder(self.args.screenshots.as_deref());
        self.order_for(id, TileOrder::Evidence { attempt, folder });
    }

    /// Presses what a window system would keep for itself.
    pub(super) fn control_alt_delete(&mut self, host: &mut dyn Host, id: InstanceId) {
        let keys: Vec<Key> = ["ControlLeft", "AltLeft", "Delete"].iter().filter_map(|key| key.parse().ok()).collect();
        let down = keys.iter().map(|key| KeysEvent::Key { key: *key, pressed: true });
        self.hold.insist(id);
        let up = keys.iter().rev().map(|key| KeysEvent::Key { key: *key, pressed: false });
        for event in down.chain(up) {
            self.give_keys(host, id, event);
        }
    }

    /// Opens an instance's menu where the pointer is, or in the middle of its tile.
    pub(super) fn open_menu(&mut self, id: InstanceId, at_pointer: bool) {
        let Some(place) = self.layout.place(id) else { return };
        let (x, y) = self.router.pointer();
        let middle = place.screen;
        let spot = if at_pointer {
            egui::pos2(x as f32, y as f32)
        } else {
            egui::pos2((middle.x + middle.width / 2) as f32, (middle.y + middle.height / 4) as f32)
        };
        self.menu_at = Some((id, (spot.to_vec2() / self.scale).to_pos2()));
        egui::Popup::open_id(&self.hud, tile_menu_id(id));
        self.menu_opened(id);
        self.hud_changed();
    }

    /// What the menu shows is asked for when it opens.
    pub(super) fn menu_opened(&mut self, id: InstanceId) {
        if self.plane.is_somewhere() {
            self.plane.order(id, TileOrder::Snapshots);
        }
    }
}
