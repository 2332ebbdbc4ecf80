//! The listener that QEMU sends its sound to.

use super::halve::Halver;
use super::{answer_properties, done};
use crate::shared::Shared;
use crate::sink::{CHANNELS, SoundFormat};
use futures::{FutureExt as _, StreamExt as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use zbus::message::Message;
use zbus::names::MemberName;
use zbus::{Connection, MessageStream};

/// What sinks are given.
const FORMAT: SoundFormat = SoundFormat { rate_hz: 48_000, channels: CHANNELS as u8 };
/// Peers of the bus that listeners of sound are, from this number on; those of the picture begin at 10.
const FIRST_PEER: u32 = 1_000_000;
/// A QEMU that ends hangs up too, and is known to have ended by then: its sound is not told to be gone.
const HANG_UP: Duration = Duration::from_millis(500);
/// Samples in the longest piece taken at once: half a second at least. QEMU sends 480 to 1024 frames.
const MAX_SAMPLES: usize = 96_000;

/// The voices that are open. However this ends, for the sink they are closed then.
struct Voices {
    shared: Arc<Shared>,
    open: BTreeMap<u64, Voice>,
}

/// How a voice becomes what sinks are given.
enum Voice {
    /// It is that.
    Same,
    /// Its rate is halved.
    Halved(Halver),
    /// It cannot: it is not heard.
    Foreign,
}

impl Voice {
    fn is_heard(&self) -> bool {
        !matches!(self, Self::Foreign)
    }
}

impl Drop for Voices {
    fn drop(&mut self) {
        for voice in self.open.iter().filter(|(_, voice)| voice.is_heard()).map(|(id, _)| *id) {
            self.shared.sound(|sink| sink.closed(voice));
        }
    }
}

/// A piece of sound, as told and as handed out; kept, so that none is allocated for each.
#[derive(Default)]
struct Samples {
    told: Vec<i16>,
    halved: Vec<i16>,
}

/// Registers a listener of the sound with QEMU, which has the one before on its list until it has seen its end.
pub(super) async fn register(bus: &Connection, number: u32) -> zbus::Result<MessageStream> {
    let listening = super::Listening { object: "Audio", interface: "Audio", method: "RegisterOutListener" };
    super::register(bus, FIRST_PEER.saturating_add(number), listening).await
}

/// Serves, and attaches anew when that is ordered, until it is ended.
pub(super) async fn keep(bus: Connection, first: MessageStream, shared: Arc<Shared>) {
    let mut messages = first;
    let mut number = 0;
    shared.hears.send_replace(Some(true));
    // An order that was meant for an earlier QEMU.
    let _ = shared.resound.notified().now_or_never();
    loop {
        tokio::select! {
            () = serve(messages, Arc::clone(&shared)) => {
                tracing::debug!("sound: QEMU has hung up");
                let ordered = shared.resound.notified();
                if tokio::time::timeout(HANG_UP, ordered).await.is_err() {
                    shared.hears.send_replace(Some(false));
                    shared.resound.notified().await;
                }
            }
            () = shared.resound.notified() => {}
        }
        messages = loop {
            number += 1;
            match register(&bus, number).await {
                Ok(next) => break next,
                Err(error) => {
                    tracing::warn!(%error, "sound: QEMU does not take another listener");
                    shared.hears.send_replace(Some(false));
                    shared.resound.notified().await;
                }
            }
        };
        shared.sounds.send_modify(|count| *count += 1);
        shared.hears.send_replace(Some(true));
    }
}

/// Serves until QEMU closes the connection.
async fn serve(mut messages: MessageStream, shared: Arc<Shared>) {
    let connection = Connection::from(&messages);
    let mut voices = Voices { shared, open: BTreeMap::new() };
    let mut samples = Samples::default();
    while let Some(message) = messages.next().await {
        let handled = match &message {
            Ok(message) => take(&connection, message, &mut voices, &mut samples).await,
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = handled {
            tracing::warn!(%error, "sound: a message of QEMU was not understood");
        }
    }
}

async fn take(
    connection: &Connection,
    message: &Message,
    voices: &mut Voices,
    samples: &mut Samples,
) -> zbus::Result<()> {
    if answer_properties(connection, message, &[]).await? {
        return Ok(());
    }
    let Voices { shared, open } = voices;
    let header = message.header();
    let body = message.body();
    match header.member().map(MemberName::as_str) {
        Some("Write") => {
            let (voice, bytes): (u64, &[u8]) = body.deserialize()?;
            let Samples { told, halved } = samples;
            told.clear();
            told.extend(bytes.chunks_exact(2).take(MAX_SAMPLES).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
            match open.get_mut(&voice) {
                Some(Voice::Same) => shared.sound(|sink| sink.samples(voice, told)),
                Some(Voice::Halved(halver)) => {
                    halved.clear();
                    halver.push(told, halved);
                    shared.sound(|sink| sink.samples(voice, halved));
                }
                Some(Voice::Foreign) | None => {}
            }
        }
        Some("Init") => {
            let init: (u64, u8, bool, bool, u32, u8, u32, u32, bool) = body.deserialize()?;
            let (voice, bits, signed, float, rate_hz, channels, _, _, big_endian) = init;
            let is_whole = (bits, signed, float, big_endian, channels) == (16, true, false, false, FORMAT.channels);
            let how = match rate_hz {
                rate if is_whole && rate == FORMAT.rate_hz => Voice::Same,
                rate if is_whole && rate == 2 * FORMAT.rate_hz => Voice::Halved(Halver::new()),
                _ => Voice::Foreign,
            };
            let is_heard = how.is_heard();
            if !is_heard {
                tracing::warn!(voice, bits, signed, float, rate_hz, channels, "sound: a voice in a foreign format");
            }
            open.insert(voice, how);
            if is_heard {
                shared.sound(|sink| sink.opened(voice, FORMAT));
            }
        }
        Some("SetEnabled") => {
            let (voice, enabled): (u64, bool) = body.deserialize()?;
            if open.get(&voice).is_some_and(Voice::is_heard) {
                shared.sound(|sink| sink.enabled(voice, enabled));
            }
        }
        Some("Fini") => {
            let voice: u64 = body.deserialize()?;
            if open.remove(&voice).is_some_and(|voice| voice.is_heard()) {
                shared.sound(|sink| sink.closed(voice));
            }
        }
        // `SetVolume`: a volume that the guest asks its host for; the samples carry the guest's own already.
        _ => {}
    }
    done(connection, message).await
}
