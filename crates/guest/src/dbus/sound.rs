//! The listener that QEMU sends its sound to.

use super::{answer_properties, done};
use crate::shared::Shared;
use crate::sink::SoundFormat;
use futures::StreamExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use zbus::message::Message;
use zbus::names::MemberName;
use zbus::{Connection, MessageStream};

/// What the command line asks QEMU for (`out.frequency`, `out.channels`, `out.format`).
const FORMAT: SoundFormat = SoundFormat { rate_hz: 48_000, channels: 2 };
/// Samples in the longest piece taken at once: one second. QEMU sends 480 to 1024 frames.
const MAX_SAMPLES: usize = 96_000;

/// The voices that are open. However this ends, for the sink they are closed then.
struct Voices {
    shared: Arc<Shared>,
    /// Each with whether its format is the one that sinks know.
    open: BTreeMap<u64, bool>,
}

impl Drop for Voices {
    fn drop(&mut self) {
        for voice in self.open.iter().filter(|(_, usable)| **usable).map(|(voice, _)| *voice) {
            self.shared.sound(|sink| sink.closed(voice));
        }
    }
}

/// Serves until QEMU closes the connection.
pub(super) async fn serve(mut messages: MessageStream, shared: Arc<Shared>) {
    let connection = Connection::from(&messages);
    let mut voices = Voices { shared, open: BTreeMap::new() };
    let mut samples = Vec::with_capacity(2048);
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
    samples: &mut Vec<i16>,
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
            if open.get(&voice) == Some(&true) {
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
            open.insert(voice, usable);
            if usable {
                shared.sound(|sink| sink.opened(voice, FORMAT));
            }
        }
        Some("SetEnabled") => {
            let (voice, enabled): (u64, bool) = body.deserialize()?;
            if open.get(&voice) == Some(&true) {
                shared.sound(|sink| sink.enabled(voice, enabled));
            }
        }
        Some("Fini") => {
            let voice: u64 = body.deserialize()?;
            if open.remove(&voice) == Some(true) {
                shared.sound(|sink| sink.closed(voice));
            }
        }
        // `SetVolume`: a volume that the guest asks its host for; the samples carry the guest's own already.
        _ => {}
    }
    done(connection, message).await
}
