//! The listener that QEMU sends its sound to.

use super::{answer_properties, done};
use crate::shared::Shared;
use crate::sink::SoundFormat;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use zbus::message::Message;
use zbus::{Connection, MessageStream};

/// What the command line asks QEMU for (`out.frequency`, `out.channels`, `out.format`).
const FORMAT: SoundFormat = SoundFormat { rate_hz: 48_000, channels: 2 };
/// Samples in the longest piece taken at once: one second. QEMU sends 480 to 1024 frames.
const MAX_SAMPLES: usize = 96_000;

/// Voices that are open, each with whether its format is the one that sinks know.
type Voices = BTreeMap<u64, bool>;

/// Serves until QEMU closes the connection; then every voice that is open is closed.
pub(super) async fn serve(mut messages: MessageStream, shared: Arc<Shared>) {
    let connection = Connection::from(&messages);
    let mut voices = Voices::new();
    let mut samples = Vec::with_capacity(2048);
    while let Some(message) = messages.next().await {
        let handled = match &message {
            Ok(message) => take(&connection, message, &shared, &mut voices, &mut samples).await,
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = handled {
            tracing::warn!(%error, "sound: a message of QEMU was not understood");
        }
    }
    for (voice, _) in voices.into_iter().filter(|(_, usable)| *usable) {
        shared.sound(|sink| sink.closed(voice));
    }
}

async fn take(
    connection: &Connection,
    message: &Message,
    shared: &Shared,
    voices: &mut Voices,
    samples: &mut Vec<i16>,
) -> zbus::Result<()> {
    if answer_properties(connection, message).await? {
        return Ok(());
    }
    let header = message.header();
    let body = message.body();
    match header.member().map(|name| name.as_str()) {
        Some("Write") => {
            let (voice, bytes): (u64, &[u8]) = body.deserialize()?;
            if voices.get(&voice) == Some(&true) {
                samples.clear();
                let pairs = bytes.chunks_exact(2).take(MAX_SAMPLES);
                samples.extend(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
                shared.sound(|sink| sink.samples(voice, samples));
            }
        }
        Some("Init") => {
            let init: (u64, u8, bool, bool, u32, u8, u32, u32, bool) = body.deserialize()?;
            let (voice, bits, signed, float, rate_hz, channels, _, _, big_endian) = init;
            let usable = (bits, signed, float, big_endian) == (16, true, false, false)
                && SoundFormat { rate_hz, channels } == FORMAT;
            if !usable {
                tracing::warn!(voice, bits, signed, float, rate_hz, channels, "sound: a voice in a foreign format");
            }
            voices.insert(voice, usable);
            if usable {
                shared.sound(|sink| sink.opened(voice, FORMAT));
            }
        }
        Some("SetEnabled") => {
            let (voice, enabled): (u64, bool) = body.deserialize()?;
            if voices.get(&voice) == Some(&true) {
                shared.sound(|sink| sink.enabled(voice, enabled));
            }
        }
        Some("Fini") => {
            let voice: u64 = body.deserialize()?;
            if voices.remove(&voice) == Some(true) {
                shared.sound(|sink| sink.closed(voice));
            }
        }
        // `SetVolume`: a volume that the guest asks its host for; the samples carry the guest's own already.
        _ => {}
    }
    done(connection, message).await
}
