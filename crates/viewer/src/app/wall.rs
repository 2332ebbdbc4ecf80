//! The instances that the viewer knows, and its session to each.

use super::event::{Event, Post};
use crate::marker::Pairing;
use crate::quality::Gauge;
use crate::scene::Plate;
use crate::scene::plate::Told;
use crate::session::{Connector, Session};
use crate::sound::SoundSystem;
use crate::statistics::Trace;
use loco_media::stats::{Histogram, Rate};
use loco_media::{ReceiverStats, SessionState, Wake};
use loco_model::api::{Endpoints, Instance};
use loco_model::usage::QualityLevel;
use loco_model::{InstanceId, InstanceState};
use std::sync::Arc;
use std::time::Instant;

/// The counters of a still instance are read once in so many looks.
const STILL_LOOKS: u32 = 4;

/// A volume, a mute and a solo.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fader {
    /// Position, 0..=1.
    pub volume: f32,
    /// Silenced.
    pub muted: bool,
    /// Heard alone, with others that are solo.
    pub solo: bool,
}

impl Fader {
    fn apply(self, id: InstanceId, sound: &SoundSystem) {
        sound.set_volume(id, self.volume);
        sound.set_mute(id, self.muted);
        sound.set_solo(id, self.solo);
    }
}

impl Default for Fader {
    fn default() -> Self {
        Self { volume: 0.8, muted: false, solo: false }
    }
}

/// One instance.
pub struct Tile {
    /// What the control plane says of it.
    pub instance: Instance,
    /// The session, and where it was opened to.
    session: Option<(Endpoints, Box<dyn Session>)>,
    /// The session's state as last looked at.
    pub state: Option<SessionState>,
    /// The session has a picture that was not taken.
    pub pending: bool,
    /// Pictures until then answer an input: they are drawn at once.
    pub answers_until: Option<Instant>,
    /// A picture was ever taken.
    pub has_picture: bool,
    /// When the newest of them was captured, as an RTP timestamp.
    pub captured: Option<u32>,
    /// Pictures drawn.
    pub shown: Rate,
    /// Decoded -> drawn by the device.
    pub draw: Histogram,
    /// Its marker's flashes and clicks.
    pub marker: Pairing,
    /// The last minute: pictures shown, bit rate, latency.
    pub traces: [Trace; 3],
    /// How good its picture arrives.
    pub gauge: Gauge,
    /// The session's counters as they were looked at last, how many looks ago, and whether pictures came since.
    pub looked: (ReceiverStats, u32, bool),
    /// The attempt to repair it that is being made, and when it was first heard of here.
    pub recovering: Option<(String, Instant)>,
    /// The last attempt before which something was saved.
    pub evidence: Option<String>,
    /// Its snapshots; `None` until they were asked for.
    pub snapshots: Option<Vec<String>>,
}

impl Tile {
    fn new(instance: Instance) -> Self {
        Self {
            instance,
            session: None,
            state: None,
            pending: false,
            answers_until: None,
            has_picture: false,
            captured: None,
            shown: Rate::default(),
            draw: Histogram::default(),
            marker: Pairing::default(),
            traces: ["shown, fps", "kbit/s", "latency, ms"].map(Trace::new),
            gauge: Gauge::default(),
            looked: (ReceiverStats::default(), 0, true),
            recovering: None,
            evidence: None,
            snapshots: None,
        }
    }

    /// Its session; `None` while there is no address.
    #[must_use]
    pub fn session(&self) -> Option<&dyn Session> {
        self.session.as_ref().map(|(_, session)| session.as_ref())
    }

    /// What is said about it.
    #[must_use]
    pub fn plate(&self) -> Plate {
        Plate::new(&Told {
            instance: &self.instance,
            session: self.state.as_ref(),
            has_picture: self.has_picture,
            quality: self.gauge.quality(),
            recovering_for: self.recovering.as_ref().map(|(_, since)| since.elapsed()),
            evidence: self.evidence.is_some(),
        })
    }

    /// Looks at the session's counters. Of one that is still they are not read at every look: reading them asks the
    /// transport how the path is.
    pub fn look(&mut self) -> ReceiverStats {
        let (stats, age, moved) = &self.looked;
        let is_well = self.gauge.quality().is_some_and(|quality| quality.level == QualityLevel::Excellent);
        let is_still = !moved && is_well && self.connected() && stats.fps_sent.is_none_or(|fps| fps < 0.1);
        if is_still && *age < STILL_LOOKS {
            self.looked.1 += 1;
        } else {
            self.looked = (self.session().map(Session::stats).unwrap_or_default(), 0, false);
        }
        self.looked.0.clone()
    }

    /// Keeps since when it is being repaired.
    fn note_recovery(&mut self) {
        self.recovering = match (&self.instance.recovery, self.recovering.take()) {
            (Some(attempt), Some((id, since))) if attempt.id == id => Some((id, since)),
            (Some(attempt), _) => Some((attempt.id.clone(), Instant::now())),
            (None, _) => None,
        };
    }

    /// Whether the session stands.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.state == Some(SessionState::Connected)
    }
}

/// All instances, by index.
#[derive(Default)]
pub struct Wall {
    tiles: [Option<Tile>; InstanceId::COUNT],
    faders: [Fader; InstanceId::COUNT],
}

impl Wall {
    /// Those that are there, in index order.
    pub fn iter(&self) -> impl Iterator<Item = (InstanceId, &Tile)> + Clone {
        self.tiles.iter().flatten().map(|tile| (tile.instance.id, tile))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (InstanceId, &mut Tile)> {
        self.tiles.iter_mut().flatten().map(|tile| (tile.instance.id, tile))
    }

    /// One of them.
    #[must_use]
    pub fn tile(&self, id: InstanceId) -> Option<&Tile> {
        self.tiles.get(id.index())?.as_ref()
    }

    /// One of them, to be changed.
    pub fn tile_mut(&mut self, id: InstanceId) -> Option<&mut Tile> {
        self.tiles.get_mut(id.index())?.as_mut()
    }

    /// Volume, mute and solo of an instance; kept while it is away.
    #[must_use]
    pub fn fader(&self, id: InstanceId) -> Fader {
        self.faders[id.index()]
    }

    /// Changes volume, mute and solo, and tells the mixer.
    pub fn set_fader(&mut self, id: InstanceId, fader: Fader, sound: &SoundSystem) {
        self.faders[id.index()] = fader;
        fader.apply(id, sound);
    }

    /// An instance is new or changed. Returns whether its session was opened anew.
    pub fn set(&mut self, instance: Instance, connector: &dyn Connector, sound: &SoundSystem, post: &Post) -> bool {
        let id = instance.id;
        let fader = self.faders[id.index()];
        let slot = &mut self.tiles[id.index()];
        let came_back = |old: &Instance| {
            let up = |state| matches!(state, InstanceState::Live | InstanceState::Degraded);
            up(instance.state) && !up(old.state)
        };
        let wake_session = slot.as_ref().is_some_and(|tile| came_back(&tile.instance));
        let tile = match slot {
            Some(tile) => {
                tile.instance = instance;
                tile
            }
            None => slot.insert(Tile::new(instance)),
        };
        tile.note_recovery();
        // Without an address the old session stays: it sees for itself whether it still works.
        let Some(endpoints) = tile.instance.endpoints.clone() else { return false };
        if tile.session.as_ref().is_some_and(|(opened, _)| *opened == endpoints) {
            if let (true, Some((_, session))) = (wake_session, &tile.session) {
                session.reconnect_now();
            }
            return false;
        }
        let post = Arc::clone(post);
        let opened = connector.open(
            id,
            &endpoints,
            Arc::new(move |wake| match wake {
                Wake::Frame => post(Event::Frame(id)),
                Wake::State => post(Event::Session(id)),
            }),
        );
        match opened.sound {
            Some(reader) => {
                sound.attach(id, reader);
                fader.apply(id, sound);
            }
            None => sound.detach(id),
        }
        tile.session = Some((endpoints, opened.session));
        tile.pending = true;
        true
    }

    /// An instance is gone. Returns whether it was there.
    pub fn remove(&mut self, id: InstanceId, sound: &SoundSystem) -> bool {
        sound.detach(id);
        sound.listen_for_clicks(id, false);
        // One that is away must not silence the others.
        self.faders[id.index()].solo = false;
        sound.set_solo(id, false);
        self.tiles[id.index()].take().is_some()
    }
}
