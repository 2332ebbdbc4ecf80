//! Whose input goes out, which list is followed, and what the control plane is told of this viewer.

use super::event::Host;
use super::notices::Note;
use super::{App, Tile};
use crate::hud::{Ask, Tone};
use crate::input::chord;
use crate::input::hold::{Deed, Verdict};
use crate::quality::Sight;
use loco_media::SessionState;
use loco_model::InstanceId;
use loco_model::input::{KeysEvent, Pointer};
use loco_model::usage::{MAX_LINE, SessionReport, ViewerReport};
use std::time::{Duration, Instant};

/// Key of what is said about an instance's holder.
fn holder_key(id: InstanceId) -> String {
    format!("holder of {id}")
}

impl App {
    /// Time since the start, for everything that keeps no clock of its own.
    pub(super) fn clock(&self) -> Duration {
        self.started.elapsed()
    }

    /// What people call an instance.
    pub(super) fn name_of(&self, id: InstanceId) -> String {
        self.wall.tile(id).map_or_else(|| id.display_name(), |tile| tile.instance.name.clone())
    }

    /// Sends what must not be lost, unless another viewer has the instance's input.
    pub(super) fn give_keys(&mut self, host: &mut dyn Host, id: InstanceId, event: KeysEvent) {
        let mut deeds = Vec::new();
        let verdict = self.hold.wants(id, Some(event), self.clock(), &mut deeds);
        // What waited comes before what is given now.
        self.carry(host, deeds);
        if verdict == Verdict::Send {
            self.send(id, |session| session.send_keys(event));
        }
    }

    /// Sends where the pointer is, unless another viewer has the instance's input.
    pub(super) fn give_pointer(&mut self, host: &mut dyn Host, id: InstanceId, pointer: Pointer) {
        let mut deeds = Vec::new();
        if self.hold.wants(id, None, self.clock(), &mut deeds) == Verdict::Send {
            self.send(id, |session| session.send_pointer(pointer));
        }
        self.carry(host, deeds);
    }

    /// The pointer was captured: the instance's input is wanted.
    pub(super) fn wants_input(&mut self, host: &mut dyn Host) {
        if let Some(id) = self.router.focus() {
            let mut deeds = Vec::new();
            self.hold.wants(id, None, self.clock(), &mut deeds);
            self.carry(host, deeds);
        }
    }

    /// Takes an instance's input, whoever has it.
    pub(super) fn take(&mut self, host: &mut dyn Host, id: InstanceId) {
        let mut deeds = Vec::new();
        self.hold.take(id, self.clock(), &mut deeds);
        self.carry(host, deeds);
    }

    /// Gives an instance's input back.
    pub(super) fn release(&mut self, host: &mut dyn Host, id: InstanceId) {
        let mut deeds = Vec::new();
        self.hold.release(id, &mut deeds);
        self.carry(host, deeds);
    }

    /// Does what follows from who holds which input.
    pub(super) fn carry(&mut self, host: &mut dyn Host, deeds: Vec<Deed>) {
        for deed in deeds {
            self.dirty.hud = true;
            match deed {
                Deed::Claim(id, action) => self.plane.claim(id, action),
                Deed::Send(id, event) => self.send(id, |session| session.send_keys(event)),
                Deed::Refused(id) => self.say_holder(host, id, "has the input of"),
                Deed::Taken(id) => self.say_holder(host, id, "took the input of"),
                Deed::Forbidden(why) => {
                    let line = format!("You may only look: {why}");
                    self.note(Note::new(Tone::Warning, line).keyed("may only look"));
                }
            }
        }
    }

    /// Another viewer has it: says so, and keeps still.
    fn say_holder(&mut self, host: &mut dyn Host, id: InstanceId, what: &str) {
        if self.router.focus() == Some(id) {
            let mut actions = Vec::new();
            self.router.set_captured(false, &mut actions);
            self.act(host, actions);
        }
        let who = self.hold.other(id).map_or_else(|| "Another viewer".to_owned(), |holder| holder.name.clone());
        let line = format!("{who} {what} {} · {} takes it", self.name_of(id), chord::TAKE);
        self.note(Note::new(Tone::Warning, line).keyed(holder_key(id)).action("Take it", Ask::Take(id)));
    }

    /// Sees whether the focus moved, and tells who must know.
    pub(super) fn focus_moved(&mut self) {
        let focus = self.router.focus();
        if focus == self.focus_seen {
            return;
        }
        let from = std::mem::replace(&mut self.focus_seen, focus);
        let now = self.clock();
        self.hold.focus_moved(from, focus, now);
        if let Some(id) = from {
            self.notices.withdraw(&holder_key(id));
        }
        if let Some(list) = focus.and_then(|id| self.follow.focused(id, now)) {
            self.plane.set_active(list);
        }
        self.tell();
    }

    /// Looks at every instance, once a second.
    pub(super) fn look(&mut self, now: Instant) {
        let layout = &self.layout;
        let mut changed = false;
        for (id, tile) in self.wall.iter_mut() {
            let stats = tile.look();
            let shown = layout.place(id).and_then(|_| tile.shown.per_second(now)).filter(|_| !self.hidden);
            let (session, has_picture) = (tile.state.clone(), tile.has_picture);
            let sight = Sight { now, session: session.as_ref(), has_picture, stats: &stats, shown };
            changed |= tile.gauge.look(sight);
            // The message counts its seconds.
            changed |= tile.recovering.is_some();
        }
        self.dirty.hud |= changed;
        self.tell();
    }

    /// Tells the control plane how this viewer is.
    pub(super) fn tell(&self) {
        if !self.plane.is_somewhere() {
            return;
        }
        let now = Instant::now();
        self.plane.report(ViewerReport {
            name: self.plane.me().name.clone(),
            focus: self.router.focus(),
            follows: self.follow.is_on(),
            sessions: self.wall.iter().map(|(id, tile)| session_report(id, tile, now)).collect(),
        });
    }
}

/// A line that is short enough to be told.
fn bounded(line: &str) -> String {
    line.chars().take(MAX_LINE).collect()
}

fn session_report(id: InstanceId, tile: &Tile, now: Instant) -> SessionReport {
    let stats = &tile.looked.0;
    let state = match &tile.state {
        Some(SessionState::Connected) => "connected",
        Some(SessionState::Failed { .. }) => "failed",
        Some(SessionState::Connecting | SessionState::Retrying { .. }) if stats.sessions > 0 => "reconnecting",
        Some(SessionState::Connecting | SessionState::Retrying { .. }) | None => "connecting",
    };
    let quality = tile.gauge.quality();
    SessionReport {
        instance_id: id,
        state: state.to_owned(),
        quality: quality.map(|quality| quality.level),
        reason: quality
            .filter(|quality| quality.level != loco_model::usage::QualityLevel::Excellent)
            .map(|quality| bounded(&quality.reason)),
        fault: tile.gauge.fault().map(bounded),
        fps_decoded: stats.fps_decoded.map(f64::from),
        fps_shown: tile.shown.per_second(now).map(f64::from),
        frames_dropped: stats.frames_dropped,
        freezes: stats.freezes,
        rtt_ms: stats.round_trip_ms.map(f64::from),
    }
}
