//! What happens: the control plane's word, sessions that come and go, what a person did and asked for.

use super::event::Host;
use super::files::write_png;
use super::notices::Note;
use super::{App, Event, Fader};
use crate::control::Update;
use crate::error::ViewError;
use crate::hud::{Ask, Tone};
use crate::input::router::Surroundings;
use crate::input::{Action, Command, Input};
use crate::scene::View;
use loco_media::SessionState;
use loco_model::api::Instance;
use loco_model::{InstanceId, Rect};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long after an input a picture counts as its answer.
const ANSWER: Duration = Duration::from_millis(150);

/// Key of what is said about the control plane.
const PLANE: &str = "control plane";

impl App {
    /// The control plane said something.
    pub(super) fn control(&mut self, host: &mut dyn Host, update: Update) {
        match update {
            Update::All(instances) => {
                if self.trouble.take().is_some() && self.met {
                    self.note(Note::new(Tone::Good, "The control plane answers again").keyed(PLANE));
                }
                self.met = true;
                let mut deeds = Vec::new();
                self.hold.set_speaks(self.plane.is_somewhere(), &mut deeds);
                self.carry(host, deeds);
                self.follow.restart();
                for id in InstanceId::all().filter(|id| !instances.iter().any(|i| i.id == *id)) {
                    self.remove(host, id);
                }
                for instance in instances {
                    self.set(host, instance);
                }
            }
            Update::One(instance) => self.set(host, *instance),
            Update::Removed(id) => self.remove(host, id),
            Update::Lost { reason } => self.plane_lost(host, reason),
            Update::Attempt(attempt) => self.heard_attempt(&attempt),
            Update::Alert(alert) => self.heard_alert(&alert),
            Update::Active(active) => self.heard_active(host, active),
            Update::Viewers(viewers) => self.heard_viewers(viewers),
            Update::Refused { status } => {
                self.ended.get_or_insert(Err(ViewError::Refused {
                    url: self.args.api.clone(),
                    path: self.args.token_file.clone(),
                    status,
                }));
            }
        }
        self.dirty.layout = true;
    }

    /// The control plane does not answer: the wall goes on.
    fn plane_lost(&mut self, host: &mut dyn Host, reason: String) {
        if self.trouble.is_none() && self.met {
            let line = format!("The control plane does not answer ({reason}); the pictures go on");
            self.note(Note::new(Tone::Warning, line).keyed(PLANE));
        }
        self.trouble = Some(reason);
        let mut deeds = Vec::new();
        self.hold.set_speaks(false, &mut deeds);
        self.carry(host, deeds);
    }

    fn set(&mut self, host: &mut dyn Host, instance: Instance) {
        let id = instance.id;
        let mut deeds = Vec::new();
        self.hold.heard(id, instance.input_holder.clone(), &mut deeds);
        self.set_tile(host, instance);
        self.carry(host, deeds);
    }

    fn set_tile(&mut self, host: &mut dyn Host, instance: Instance) {
        let id = instance.id;
        if self.wall.set(instance, self.connector.as_ref(), &self.sound, &self.post) {
            // What was held in the session before ended with it, whatever the state of the new one.
            let mut actions = Vec::new();
            self.router.session_changed(id, false, &mut actions);
            self.act(host, actions);
            self.session_changed(host, id);
        }
    }

    fn remove(&mut self, host: &mut dyn Host, id: InstanceId) {
        if self.wall.remove(id, &self.sound) {
            let mut actions = Vec::new();
            self.router.removed(id, &mut actions);
            self.act(host, actions);
            self.hold.removed(id);
            self.renderer.forget_picture(id);
        }
    }

    /// An instance's session has another state, or is another.
    pub(super) fn session_changed(&mut self, host: &mut dyn Host, id: InstanceId) {
        let Some(tile) = self.wall.tile_mut(id) else { return };
        let state = tile.session().map(crate::session::Session::state);
        if state == tile.state {
            return;
        }
        let before = std::mem::replace(&mut tile.state, state);
        let connected = tile.connected();
        tracing::debug!(%id, ?before, now = ?tile.state, "session");
        if connected || before == Some(SessionState::Connected) {
            let mut actions = Vec::new();
            self.router.session_changed(id, connected, &mut actions);
            self.act(host, actions);
        }
        // Colour, plate and message follow the state; others are told of it.
        self.style_pictures();
        self.dirty.hud = true;
        self.look_at = Instant::now();
    }

    /// Takes what a person did.
    pub fn input(&mut self, host: &mut dyn Host, input: Input) {
        if input == Input::FocusLost {
            self.hold.went_away(self.router.focus(), self.clock());
        }
        let mut actions = Vec::new();
        let around = Surroundings {
            layout: &self.layout,
            pointer_taken: self.pointer_taken(),
            keyboard_taken: self.hud.any_popup_open(),
        };
        self.router.input(input, self.started.elapsed(), around, &mut actions);
        self.act(host, actions);
    }

    /// Whether keys belong to a menu and not to a guest.
    #[must_use]
    pub fn keyboard_taken(&self) -> bool {
        self.hud.any_popup_open()
    }

    /// Whether the pointer belongs to the focused guest alone.
    #[must_use]
    pub fn captured(&self) -> bool {
        self.router.captured()
    }

    fn pointer_taken(&self) -> bool {
        // Where the window says it is: egui learns of it only with its next pass.
        let (x, y) = self.router.pointer();
        let at = egui::pos2(x as f32 / self.scale, y as f32 / self.scale);
        let on_menu = self.hud.layer_id_at(at).is_some_and(|layer| layer.order != egui::Order::Background);
        on_menu || self.taken.iter().any(|rect| rect.contains(at))
    }

    /// Carries out what the router decided.
    pub(super) fn act(&mut self, host: &mut dyn Host, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Keys(id, event) => self.give_keys(host, id, event),
                Action::Pointer(id, pointer) => self.give_pointer(host, id, pointer),
                Action::Focused(id) => {
                    if matches!(self.view, View::Enlarged(_)) {
                        self.set_view(View::Enlarged(id));
                    }
                    self.dirty.layout |= self.layout.place(id).is_none();
                    self.dirty.hud = true;
                    self.balance();
                }
                Action::Captured(captured) => {
                    host.capture(captured);
                    self.dirty.hud = true;
                    if captured {
                        self.wants_input(host);
                    }
                }
                Action::Do(command) => self.carry_out(host, command),
            }
        }
        self.focus_moved();
    }

    pub(super) fn send(
        &mut self,
        id: InstanceId,
        how: impl FnOnce(&dyn crate::session::Session) -> Result<(), loco_media::SendInputError>,
    ) {
        let Some(tile) = self.wall.tile_mut(id) else { return };
        let sent = tile.session().map(how);
        tile.answers_until = Some(Instant::now() + ANSWER);
        if let Some(Err(error)) = sent {
            tracing::debug!(%id, %error, "input");
        }
    }

    fn carry_out(&mut self, host: &mut dyn Host, command: Command) {
        match command {
            Command::Enlarge(id) => self.toggle_enlarged(id),
            Command::FullScreen => self.toggle_full_screen(host),
            Command::Screenshot => self.take_screenshot(None),
            Command::Statistics => self.toggle_statistics(),
            Command::CopyStatistics => self.copy_statistics(host),
            Command::Mute(id) => self.toggle_mute(id),
            Command::Solo(id) => self.toggle_solo(id),
            Command::PointerMode(..) => self.dirty.hud = true,
            Command::Take(id) => self.take(host, id),
            Command::Menu(id, at_pointer) => self.open_menu(id, at_pointer),
        }
    }

    /// Does what was asked for in the HUD.
    pub(super) fn asked(&mut self, host: &mut dyn Host, ask: Ask) {
        let mut actions = Vec::new();
        match ask {
            Ask::Focus(id) => self.router.set_focus(Some(id), &mut actions),
            Ask::Enlarge(id) => self.toggle_enlarged(id),
            Ask::Screenshot(id) => self.take_screenshot(id),
            Ask::Mute(id) => self.toggle_mute(id),
            Ask::Solo(id) => self.toggle_solo(id),
            Ask::Mix(mix) => self.set_mix(mix),
            Ask::Volume(id, volume) => {
                let fader = Fader { volume, ..self.wall.fader(id) };
                self.wall.set_fader(id, fader, &self.sound);
            }
            Ask::Master(volume) => {
                self.master.volume = volume;
                self.sound.set_master(volume);
            }
            Ask::MasterMute => {
                self.master.muted = !self.master.muted;
                self.sound.set_master_mute(self.master.muted);
            }
            Ask::SoundOutput(output) => {
                self.set_output(output);
            }
            Ask::PointerMode(id, mode) => self.router.set_pointer_mode(id, mode, &mut actions),
            Ask::Statistics => self.toggle_statistics(),
            Ask::CopyStatistics => self.copy_statistics(host),
            Ask::FullScreen => self.toggle_full_screen(host),
            Ask::Scaling(scaling) => {
                self.scaling = scaling;
                self.dirty.layout = true;
            }
            Ask::Take(id) => self.take(host, id),
            Ask::Release(id) => self.release(host, id),
            Ask::ControlAltDelete(id) => self.control_alt_delete(host, id),
            Ask::Order(id, order) => self.order_for(id, order),
            Ask::Snapshot(id) => self.snapshot(id),
            Ask::Evidence(id) => self.save_evidence(id),
            Ask::MenuOpened(id) => self.menu_opened(id),
            Ask::CopyText(text) => host.copy(text),
            Ask::Dismiss(number) => self.notices.dismiss(number),
        }
        self.act(host, actions);
        self.dirty.hud = true;
    }

    fn toggle_enlarged(&mut self, id: InstanceId) {
        let view = if self.view == View::Enlarged(id) { View::Grid } else { View::Enlarged(id) };
        self.set_view(view);
    }

    fn toggle_full_screen(&mut self, host: &mut dyn Host) {
        self.full_screen = !self.full_screen;
        host.full_screen(self.full_screen);
        self.dirty.hud = true;
    }

    pub(super) fn toggle_statistics(&mut self) {
        self.statistics_shown = !self.statistics_shown;
        self.numbers.next_sample = None;
        self.dirty.hud = true;
    }

    fn copy_statistics(&mut self, host: &mut dyn Host) {
        host.copy(self.sheet().text());
        self.toast("Statistics copied".to_owned());
    }

    fn take_screenshot(&mut self, id: Option<InstanceId>) {
        let (rect, what) = match id.and_then(|id| self.layout.place(id)) {
            Some(place) => (place.picture, place.id.map_or_else(|| "loco".to_owned(), |id| id.to_string())),
            None => (Rect::new(0, 0, self.size.width, self.size.height), "loco".to_owned()),
        };
        let post = Arc::clone(&self.post);
        self.save(rect, self.screenshot_path(&what), move |result| post(Event::Saved(result)));
    }

    /// Saves a rectangle of the next drawing as PNG, on a thread of its own.
    pub(super) fn save(
        &mut self,
        rect: Rect,
        path: PathBuf,
        tell: impl FnOnce(Result<PathBuf, String>) + Send + 'static,
    ) {
        self.read_back(rect, move |picture| {
            let write = move || tell(write_png(&path, &picture).map(|()| path));
            if let Err(error) = std::thread::Builder::new().name("viewer-png".into()).spawn(write) {
                tracing::error!(%error, "no thread for a screenshot");
            }
        });
    }
}
