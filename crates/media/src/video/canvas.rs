//! The guest's picture as it is now, and what changed when.

use loco_model::{Rect, Size};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::Instant;
use tokio::sync::watch;

/// Changes are remembered per square of this many pixels: a macroblock.
pub(crate) const BLOCK_SIDE: u32 = 16;
/// Bytes of a pixel: blue, green, red, unused.
const PIXEL_BYTES: usize = 4;
/// Largest picture that is taken: bounds what a guest can make us allocate.
const MAX_SIDE: u32 = 4096;

/// Told of every changed picture; called on the display's thread, must not block.
pub(crate) trait DamageListener: Send + Sync {
    fn damaged(&self, at: Instant);
}

/// The guest's framebuffer, shared: the display writes, encoders and screenshots read. Clones are the same canvas.
#[derive(Clone)]
pub struct Canvas {
    inner: Arc<Inner>,
}

struct Inner {
    picture: Mutex<Picture>,
    listeners: Mutex<Vec<Weak<dyn DamageListener>>>,
    generation: watch::Sender<u64>,
}

#[derive(Default)]
struct Picture {
    size: Option<Size>,
    /// Tightly packed rows of BGRx.
    pixels: Vec<u8>,
    /// Generation in which each block last changed, row by row.
    blocks: Vec<u64>,
    /// The newest of each row of blocks, so that unchanged rows are passed over at a glance.
    bands: Vec<u64>,
    /// Counts changes of the picture.
    generation: u64,
    stats: CanvasStats,
}

/// What a canvas counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CanvasStats {
    /// Whole pictures received.
    pub scanouts: u64,
    /// Reports (scanouts and updates) that changed a pixel.
    pub damage_updates: u64,
    /// Reports that changed none: QEMU re-sends a text cursor's cell every 30 ms.
    pub unchanged_updates: u64,
    /// Reports that did not fit the picture and were refused.
    pub refused_updates: u64,
    /// When a pixel last changed.
    pub last_damage: Option<Instant>,
}

/// A screenshot: rows of red, green, blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Width and height.
    pub size: Size,
    /// `3 * width * height` bytes.
    pub pixels: Vec<u8>,
}

/// The picture while it is locked.
pub(crate) struct CanvasView<'a> {
    pub(crate) size: Size,
    pub(crate) pixels: &'a [u8],
    pub(crate) generation: u64,
    blocks: &'a [u64],
    bands: &'a [u64],
}

impl CanvasView<'_> {
    /// What changed after `generation`: runs of blocks within a row of blocks, in pixels, cut to the picture.
    pub(crate) fn changed_since(&self, generation: u64) -> impl Iterator<Item = Rect> {
        let columns = self.size.width.div_ceil(BLOCK_SIDE) as usize;
        let changed_bands = self.bands.iter().enumerate().filter(move |(_, newest)| **newest > generation);
        changed_bands.flat_map(move |(band, _)| {
            let blocks = &self.blocks[band * columns..(band + 1) * columns];
            let mut column = 0;
            std::iter::from_fn(move || {
                while column < columns && blocks[column] <= generation {
                    column += 1;
                }
                let first = column;
                while column < columns && blocks[column] > generation {
                    column += 1;
                }
                (first < column).then(|| {
                    let (x, y) = (first as u32 * BLOCK_SIDE, band as u32 * BLOCK_SIDE);
                    let right = (column as u32 * BLOCK_SIDE).min(self.size.width);
                    Rect::new(x, y, right - x, BLOCK_SIDE.min(self.size.height - y))
                })
            })
        })
    }

    pub(crate) const fn stride(&self) -> usize {
        self.size.width as usize * PIXEL_BYTES
    }
}

// === impl Canvas ===

impl Default for Canvas {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Canvas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canvas").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Canvas {
    /// A canvas without a picture.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                picture: Mutex::default(),
                listeners: Mutex::default(),
                generation: watch::Sender::new(0),
            }),
        }
    }

    /// A whole picture: `size`, bytes from one row to the next, rows of x8r8g8b8 in little-endian (B, G, R, unused).
    /// Returns whether anything changed. A picture that is too large or whose bytes do not reach is refused.
    pub fn scanout(&self, size: Size, stride: usize, bytes: &[u8]) -> bool {
        let mut picture = self.inner.picture.lock();
        picture.stats.scanouts += 1;
        let whole = Rect::new(0, 0, size.width, size.height);
        let is_known_size = (1..=MAX_SIDE).contains(&size.width) && (1..=MAX_SIDE).contains(&size.height);
        if !is_known_size || !reaches(whole, stride, bytes) {
            picture.stats.refused_updates += 1;
            return false;
        }
        if picture.size != Some(size) {
            picture.size = Some(size);
            picture.pixels.clear();
            picture.pixels.resize(size.area() as usize * PIXEL_BYTES, 0);
            // All blocks are newer than whatever anyone has seen, also where the new picture is black.
            let (generation, bands) = (picture.generation + 1, size.height.div_ceil(BLOCK_SIDE) as usize);
            picture.bands.clear();
            picture.bands.resize(bands, generation);
            picture.blocks.clear();
            picture.blocks.resize(bands * size.width.div_ceil(BLOCK_SIDE) as usize, generation);
            picture.copy(whole, stride, bytes);
            picture.finish(true)
        } else {
            let changed = picture.copy(whole, stride, bytes);
            picture.finish(changed)
        }
        .then(|| self.announce(picture))
        .is_some()
    }

    /// A changed rectangle, its rows `stride` bytes apart. Returns whether a pixel is different now; equal rows are
    /// ignored. What lies outside of the picture is refused.
    pub fn update(&self, rect: Rect, stride: usize, bytes: &[u8]) -> bool {
        let mut picture = self.inner.picture.lock();
        let changed = picture.copy(rect, stride, bytes);
        picture.finish(changed).then(|| self.announce(picture)).is_some()
    }

    /// The display was switched off: the picture goes black, its size stays.
    pub fn blank(&self) -> bool {
        let mut picture = self.inner.picture.lock();
        let changed = picture.pixels.iter().any(|byte| *byte != 0);
        if changed {
            picture.pixels.fill(0);
            let generation = picture.generation + 1;
            picture.bands.fill(generation);
            picture.blocks.fill(generation);
        }
        picture.finish(changed).then(|| self.announce(picture)).is_some()
    }

    fn announce(&self, picture: parking_lot::MutexGuard<'_, Picture>) {
        let (generation, at) = (picture.generation, picture.stats.last_damage);
        drop(picture);
        let at = at.unwrap_or_else(Instant::now);
        for listener in self.inner.listeners.lock().iter().filter_map(Weak::upgrade) {
            listener.damaged(at);
        }
        self.inner.generation.send_replace(generation);
    }

    /// Width and height; `None` before the first picture.
    #[must_use]
    pub fn size(&self) -> Option<Size> {
        self.inner.picture.lock().size
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> CanvasStats {
        self.inner.picture.lock().stats
    }

    /// When a pixel last changed.
    #[must_use]
    pub fn last_damage(&self) -> Option<Instant> {
        self.stats().last_damage
    }

    /// Counts changes of the picture; waiting on it costs nothing while the picture is still.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.inner.generation.subscribe()
    }

    /// The picture as it is now; `None` before the first.
    #[must_use]
    pub fn screenshot(&self) -> Option<RgbImage> {
        self.read(|view| {
            let pixels = view.pixels.chunks_exact(PIXEL_BYTES).flat_map(|p| [p[2], p[1], p[0]]).collect();
            RgbImage { size: view.size, pixels }
        })
    }

    /// Looks at the picture while it is locked.
    pub(crate) fn read<R>(&self, look: impl FnOnce(CanvasView<'_>) -> R) -> Option<R> {
        let picture = self.inner.picture.lock();
        let size = picture.size?;
        let Picture { pixels, blocks, bands, generation, .. } = &*picture;
        Some(look(CanvasView { size, pixels, generation: *generation, blocks, bands }))
    }

    /// Tells `listener` of every change from now on, as long as it lives.
    pub(crate) fn listen(&self, listener: &Arc<impl DamageListener + 'static>) {
        let weak: Weak<dyn DamageListener> = Arc::downgrade(listener) as Weak<dyn DamageListener>;
        let mut listeners = self.inner.listeners.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(weak);
    }
}

/// Whether `bytes` hold all rows of `rect`, `stride` bytes apart.
fn reaches(rect: Rect, stride: usize, bytes: &[u8]) -> bool {
    let row_bytes = (rect.width as usize).saturating_mul(PIXEL_BYTES);
    let needed = (rect.height as usize).saturating_sub(1).saturating_mul(stride).saturating_add(row_bytes);
    stride >= row_bytes && bytes.len() >= needed
}

// === impl Picture ===

impl Picture {
    /// Copies what differs and marks its blocks; returns whether anything did.
    fn copy(&mut self, rect: Rect, stride: usize, bytes: &[u8]) -> bool {
        let row_bytes = rect.width as usize * PIXEL_BYTES;
        let fits = self
            .size
            .is_some_and(|size| !rect.is_empty() && rect.right() <= size.width && rect.bottom() <= size.height);
        if !fits || !reaches(rect, stride, bytes) {
            self.stats.refused_updates += 1;
            return false;
        }
        let width = self.size.unwrap_or_default().width as usize;
        let (next, columns) = (self.generation + 1, width.div_ceil(BLOCK_SIDE as usize));
        let mut changed = false;
        for row in 0..rect.height {
            let to = ((rect.y + row) as usize * width + rect.x as usize) * PIXEL_BYTES;
            let from = row as usize * stride;
            let (old, new) = (&mut self.pixels[to..to + row_bytes], &bytes[from..from + row_bytes]);
            if *old == *new {
                continue;
            }
            changed = true;
            let band = ((rect.y + row) / BLOCK_SIDE) as usize;
            self.bands[band] = next;
            let blocks = &mut self.blocks[band * columns..(band + 1) * columns];
            let mut x = rect.x;
            while x < rect.right() {
                let end = ((x / BLOCK_SIDE + 1) * BLOCK_SIDE).min(rect.right());
                let part = (x - rect.x) as usize * PIXEL_BYTES..(end - rect.x) as usize * PIXEL_BYTES;
                let block = &mut blocks[(x / BLOCK_SIDE) as usize];
                if *block == next || old[part.clone()] != new[part.clone()] {
                    *block = next;
                    old[part.clone()].copy_from_slice(&new[part]);
                }
                x = end;
            }
        }
        changed
    }

    fn finish(&mut self, changed: bool) -> bool {
        if changed {
            self.generation += 1;
            self.stats.damage_updates += 1;
            self.stats.last_damage = Some(Instant::now());
        } else {
            self.stats.unchanged_updates += 1;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const SIZE: Size = Size::new(8, 40);

    fn filled(size: Size, value: u8) -> Vec<u8> {
        vec![value; size.area() as usize * PIXEL_BYTES]
    }

    fn canvas(value: u8) -> Canvas {
        let canvas = Canvas::new();
        assert!(canvas.scanout(SIZE, 32, &filled(SIZE, value)));
        canvas
    }

    #[test]
    fn equal_rows_are_no_damage() {
        let canvas = canvas(7);
        assert!(!canvas.scanout(SIZE, 32, &filled(SIZE, 7)));
        assert!(!canvas.update(Rect::new(0, 0, 8, 40), 32, &filled(SIZE, 7)));
        let stats = canvas.stats();
        assert_eq!((stats.scanouts, stats.damage_updates, stats.unchanged_updates), (2, 1, 2));
        let seen = canvas.last_damage();
        assert!(canvas.update(Rect::new(2, 20, 3, 1), 12, &[9; 12]));
        assert!(canvas.last_damage() > seen);
    }

    #[test]
    fn changes_are_told_in_blocks() {
        let size = Size::new(50, 40);
        let canvas = Canvas::new();
        assert!(canvas.scanout(size, 200, &filled(size, 0)));
        let generation = canvas.read(|view| view.generation).expect("a picture");
        let changed = |since| canvas.read(|view| view.changed_since(since).collect::<Vec<_>>()).expect("a picture");
        let all = vec![Rect::new(0, 0, 50, 16), Rect::new(0, 16, 50, 16), Rect::new(0, 32, 50, 8)];
        assert_eq!(changed(0), all, "cut to the picture");
        assert!(changed(generation).is_empty());
        canvas.update(Rect::new(0, 17, 1, 1), 4, &[1; 4]);
        // Full rows of which one pixel in the second and one in the last column of blocks differ.
        let mut rows = filled(Size::new(50, 2), 0);
        rows[20 * 4] = 1;
        rows[(50 + 49) * 4] = 1;
        canvas.update(Rect::new(0, 38, 50, 2), 200, &rows);
        let last = vec![Rect::new(16, 32, 16, 8), Rect::new(48, 32, 2, 8)];
        assert_eq!(changed(generation), [vec![Rect::new(0, 16, 16, 16)], last.clone()].concat());
        assert_eq!(changed(generation + 1), last);
        assert!(changed(generation + 2).is_empty());
        let shown = canvas.screenshot().expect("a picture").pixels;
        assert_eq!(shown.iter().filter(|byte| **byte != 0).count(), 3 + 2, "each change arrived");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let canvas = canvas(0);
        for (rect, stride, len) in [
            (Rect::new(7, 0, 2, 1), 8, 8),
            (Rect::new(0, 39, 1, 2), 4, 8),
            (Rect::new(0, 0, 8, 2), 32, 63),
            (Rect::new(0, 0, 8, 2), 31, 64),
            (Rect::new(0, 0, 0, 0), 0, 0),
            (Rect::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX), usize::MAX, 0),
        ] {
            assert!(!canvas.update(rect, stride, &vec![1; len]), "{rect:?} {stride} {len}");
        }
        assert_eq!(canvas.stats().refused_updates, 6);
        assert!(!canvas.scanout(Size::new(5000, 1), 20_000, &[1; 20_000]));
        assert!(!canvas.scanout(Size::new(16, 16), 64, &[1; 64 * 15]), "a row is missing");
        assert_eq!(canvas.size(), Some(SIZE), "what was there stays");
        assert!(!Canvas::new().update(Rect::new(0, 0, 1, 1), 4, &[1; 4]), "no picture yet");
    }

    #[test]
    fn listeners_hear_of_changes_only() {
        struct Count(AtomicU32);
        impl DamageListener for Count {
            fn damaged(&self, _at: Instant) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let canvas = canvas(0);
        let count = Arc::new(Count(AtomicU32::new(0)));
        canvas.listen(&count);
        let generation = canvas.generation();
        canvas.update(Rect::new(0, 0, 1, 1), 4, &[0; 4]);
        assert!(!generation.has_changed().expect("alive"));
        canvas.update(Rect::new(0, 0, 1, 1), 4, &[1; 4]);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(generation.has_changed().expect("alive"));
        assert!(canvas.blank() && !canvas.blank());
    }

    #[test]
    fn screenshots_are_red_green_blue() {
        let canvas = Canvas::new();
        assert_eq!(canvas.screenshot(), None);
        canvas.scanout(Size::new(2, 1), 8, &[1, 2, 3, 0, 4, 5, 6, 0]);
        assert_eq!(canvas.screenshot().map(|image| image.pixels), Some(vec![3, 2, 1, 6, 5, 4]));
    }
}
