//! What the tasks of one guest share, over all of its QEMUs.

use crate::kick::Kicks;
use crate::picture::RgbImage;
use crate::sink::{DisplaySink, SoundSink};
use loco_model::{Rect, Size};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Pixels of the largest text cursor: two of VGA's cells.
const CURSOR_AREA: u64 = 2 * 9 * 16;

/// Sinks, the last known picture's size, and who wants to know of damage.
pub(crate) struct Shared {
    display: Mutex<Box<dyn DisplaySink>>,
    sound: Mutex<Box<dyn SoundSink>>,
    /// The picture's size; `None` while there is none.
    pub(crate) size: watch::Sender<Option<Size>>,
    /// The size that QEMU last said its picture has, when it changes.
    pub(crate) announced: watch::Sender<Option<Size>>,
    /// Whether the guest takes absolute positions; `None` while unknown.
    pub(crate) absolute: watch::Sender<Option<bool>>,
    pub(crate) kicks: Arc<Kicks>,
    /// When the guest last drew something larger than a text cursor, which the card blinks by itself.
    sign: Mutex<Option<Instant>>,
    /// Counts whole pictures, so that one that was asked for can be waited for.
    pub(crate) wholes: watch::Sender<u64>,
    /// Counts the attachments to the guest's sound.
    pub(crate) sounds: watch::Sender<u64>,
    /// Whether QEMU's sound reaches us; `None` where it is not asked for, or no QEMU is attached yet.
    pub(crate) hears: watch::Sender<Option<bool>>,
    /// Whether QEMU shows another picture than the one that it told of.
    pub(crate) stale: watch::Sender<bool>,
    /// Orders to attach anew: whoever holds the display, or the sound, does it.
    pub(crate) redisplay: Notify,
    pub(crate) resound: Notify,
    /// Pictures and parts of them that came in messages, and in shared memory.
    pub(crate) sent: AtomicU64,
    pub(crate) in_memory: AtomicU64,
}

/// How often the display told of its picture, whole or a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DisplayStats {
    /// With the pixels in the message.
    pub sent: u64,
    /// With the pixels in memory that QEMU shares.
    pub in_memory: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("size", &*self.size.borrow()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(display: Box<dyn DisplaySink>, sound: Box<dyn SoundSink>) -> Self {
        Self {
            display: Mutex::new(display),
            sound: Mutex::new(sound),
            size: watch::Sender::new(None),
            announced: watch::Sender::new(None),
            absolute: watch::Sender::new(None),
            kicks: Arc::new(Kicks::default()),
            sign: Mutex::default(),
            wholes: watch::Sender::new(0),
            sounds: watch::Sender::new(0),
            hears: watch::Sender::new(None),
            stale: watch::Sender::new(false),
            redisplay: Notify::new(),
            resound: Notify::new(),
            sent: AtomicU64::new(0),
            in_memory: AtomicU64::new(0),
        }
    }

    pub(crate) fn display_stats(&self) -> DisplayStats {
        DisplayStats { sent: self.sent.load(Relaxed), in_memory: self.in_memory.load(Relaxed) }
    }

    pub(crate) fn scanout(&self, size: Size, stride_bytes: u32, pixels: &[u8]) {
        self.size.send_if_modified(|old| old.replace(size) != Some(size));
        self.display.lock().scanout(size, stride_bytes, pixels);
        let now = Instant::now();
        *self.sign.lock() = Some(now);
        self.kicks.damage(now);
        self.set_stale(false);
        self.wholes.send_modify(|count| *count += 1);
    }

    /// What was found of the picture, or that a whole one came.
    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.send_if_modified(|known| {
            let changed = *known != stale;
            if changed && stale {
                tracing::warn!("the display is stale: QEMU shows another picture than the one that it told of");
            } else if changed {
                tracing::info!("the display shows what QEMU shows again");
            }
            *known = stale;
            changed
        });
    }

    /// Whether the sink has this very picture; `None` when that cannot be told.
    pub(crate) fn shows(&self, picture: &RgbImage) -> Option<bool> {
        self.display.lock().shows(picture)
    }

    /// When the guest last drew something.
    pub(crate) fn last_sign(&self) -> Option<Instant> {
        *self.sign.lock()
    }

    /// Returns whether the part lies within the picture; if not it is dropped.
    pub(crate) fn update(&self, rect: Rect, stride_bytes: u32, pixels: &[u8]) -> bool {
        let size = *self.size.borrow();
        let fits = size.is_some_and(|size| rect.right() <= size.width && rect.bottom() <= size.height);
        if fits {
            self.display.lock().update(rect, stride_bytes, pixels);
            let now = Instant::now();
            if u64::from(rect.width) * u64::from(rect.height) > CURSOR_AREA {
                *self.sign.lock() = Some(now);
            }
            self.kicks.damage(now);
        }
        fits
    }

    pub(crate) fn display_disabled(&self) {
        self.size.send_replace(None);
        self.set_stale(false);
        self.display.lock().disabled();
    }

    pub(crate) fn pointer_mode(&self, absolute: bool) {
        if self.absolute.send_replace(Some(absolute)) != Some(absolute) {
            self.display.lock().pointer_mode(absolute);
        }
    }

    pub(crate) fn sound(&self, call: impl FnOnce(&mut dyn SoundSink)) {
        call(&mut **self.sound.lock());
    }
}
