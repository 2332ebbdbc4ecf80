//! From the guest to the media sender: picture and sound.

use bytes::Bytes;
use loco_guest::{DisplaySink, SoundFormat, SoundSink};
use loco_media::Canvas;
use loco_media::sound::{SoundEncoder, SoundLink, SoundPacket};
use loco_media::sound_link::{OpusPacket, SoundOutlet};
use loco_media::video::RgbImage;
use loco_model::{Rect, Size};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::watch;

/// Puts the guest's picture on the canvas, and tells when there is one and how large it is.
pub(crate) struct Screen {
    canvas: Canvas,
    size: watch::Sender<Option<Size>>,
    last: LastPicture,
}

/// The guest's picture as it was when its display was gone, for whoever wants it as evidence.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastPicture(pub(crate) Arc<Mutex<Option<RgbImage>>>);

/// Plays the guest's voices into the encoder.
pub(crate) struct Loudspeaker(pub(crate) SoundEncoder);

/// Takes the encoder's packets to every session.
pub(crate) struct Outlet(pub(crate) SoundOutlet);

// === impl Screen ===

impl Screen {
    pub(crate) fn new(canvas: Canvas, size: watch::Sender<Option<Size>>, last: LastPicture) -> Self {
        Self { canvas, size, last }
    }

    fn tell(&self, now: Option<Size>) {
        self.size.send_if_modified(|size| std::mem::replace(size, now) != now);
    }
}

impl DisplaySink for Screen {
    fn scanout(&mut self, size: Size, stride_bytes: u32, pixels: &[u8]) {
        self.canvas.scanout(size, stride_bytes as usize, pixels);
        // The canvas refuses what it cannot hold: its size is the truth.
        self.tell(self.canvas.size());
    }

    fn update(&mut self, rect: Rect, stride_bytes: u32, pixels: &[u8]) {
        self.canvas.update(rect, stride_bytes as usize, pixels);
    }

    fn disabled(&mut self) {
        // Told twice: by the display, and when QEMU is gone.
        if self.size.borrow().is_some() {
            *self.last.0.lock() = self.canvas.screenshot();
        }
        self.canvas.blank();
        self.tell(None);
    }

    fn pointer_mode(&mut self, absolute: bool) {
        tracing::info!(absolute, "the guest's pointer");
    }

    fn shows(&self, picture: &loco_guest::RgbImage) -> Option<bool> {
        let own = self.canvas.screenshot()?;
        Some(own.size == picture.size && own.pixels == picture.pixels)
    }
}

// === impl Loudspeaker ===

impl SoundSink for Loudspeaker {
    fn opened(&mut self, voice: u64, format: SoundFormat) {
        tracing::debug!(voice, ?format, "the guest opened a voice");
        self.0.open(voice);
    }

    fn enabled(&mut self, voice: u64, enabled: bool) {
        self.0.enable(voice, enabled);
    }

    fn samples(&mut self, voice: u64, samples: &[i16]) {
        self.0.push(voice, samples);
    }

    fn closed(&mut self, voice: u64) {
        self.0.close(voice);
    }
}

// === impl Outlet ===

impl SoundLink for Outlet {
    fn send(&mut self, packet: SoundPacket<'_>) {
        self.0.send(OpusPacket {
            bytes: Bytes::copy_from_slice(packet.payload),
            timestamp: packet.timestamp,
            starts: packet.marker,
        });
    }

    fn has_listeners(&self) -> bool {
        !self.0.is_idle()
    }
}
