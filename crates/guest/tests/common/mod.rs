//! What the tests with a real QEMU share.

// Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use loco_guest::{
    Accelerator, AcceleratorChoice, DisplaySink, Guest, GuestConfig, Profile, RgbImage, SoundFormat, SoundSink, Target,
};
use loco_model::{InstanceId, Rect, Size};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest that anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
pub(crate) struct Picture {
    pub(crate) size: Size,
    pub(crate) pixels: Vec<u8>,
    pub(crate) scanouts: u64,
    pub(crate) updates: u64,
    /// Updates that changed something.
    pub(crate) changes: u64,
    pub(crate) changed_at: Option<Instant>,
    pub(crate) disabled: u64,
    pub(crate) absolute: Option<bool>,
    /// How often it was compared with QEMU's.
    pub(crate) comparisons: u64,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size, scanouts, updates, changes, disabled, .. } = self;
        write!(f, "{size:?}, {scanouts} scanouts, {updates} updates, {changes} changes, {disabled} disabled")
    }
}

/// Keeps the picture and says when it changed.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) picture: Arc<Mutex<Picture>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { picture: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) fn picture(&self) -> Picture {
        self.picture.lock().unwrap().clone()
    }

    /// Makes it another one than QEMU's, as an update does that never came.
    pub(crate) fn spoil(&self) {
        self.picture.lock().unwrap().pixels[0] ^= 0xff;
    }

    /// Waits until the picture is as `wanted` says.
    pub(crate) async fn wait(&self, what: &str, mut wanted: impl FnMut(&Picture) -> bool) -> Picture {
        let mut changed = self.changed.subscribe();
        let seen = changed.wait_for(|_| wanted(&self.picture.lock().unwrap()));
        drop(
            tokio::time::timeout(PATIENCE, seen)
                .await
                .unwrap_or_else(|_| panic!("never seen: {what}; {:?}", self.picture())),
        );
        self.picture()
    }

    /// Waits until nothing changes for `quiet`.
    pub(crate) async fn settled(&self, quiet: Duration) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if tokio::time::timeout(quiet, changed.changed()).await.is_err() {
                return;
            }
        }
    }

    fn put(&self, rect: Rect, stride: u32, pixels: &[u8]) {
        let mut picture = self.picture.lock().unwrap();
        let (width, row) = (picture.size.width as usize * 4, rect.width as usize * 4);
        let mut differs = false;
        for y in 0..rect.height as usize {
            let from = &pixels[y * stride as usize..][..row];
            let to = &mut picture.pixels[(rect.y as usize + y) * width + rect.x as usize * 4..][..row];
            differs |= from != to;
            to.copy_from_slice(from);
        }
        if differs {
            picture.changes += 1;
            picture.changed_at = Some(Instant::now());
        }
        drop(picture);
        if differs {
            self.changed.send_modify(|n| *n += 1);
        }
    }
}

impl DisplaySink for Screen {
    fn scanout(&mut self, size: Size, stride: u32, pixels: &[u8]) {
        {
            let mut picture = self.picture.lock().unwrap();
            picture.scanouts += 1;
            if picture.size != size {
                picture.size = size;
                picture.pixels = vec![0; size.area() as usize * 4];
            }
        }
        self.put(Rect::new(0, 0, size.width, size.height), stride, pixels);
        self.changed.send_modify(|n| *n += 1);
    }

    fn update(&mut self, rect: Rect, stride: u32, pixels: &[u8]) {
        self.picture.lock().unwrap().updates += 1;
        self.put(rect, stride, pixels);
    }

    fn disabled(&mut self) {
        self.picture.lock().unwrap().disabled += 1;
        self.changed.send_modify(|n| *n += 1);
    }

    fn pointer_mode(&mut self, absolute: bool) {
        self.picture.lock().unwrap().absolute = Some(absolute);
    }

    fn shows(&self, theirs: &RgbImage) -> Option<bool> {
        let mut own = self.picture.lock().unwrap();
        own.comparisons += 1;
        let rgb = own.pixels.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]);
        let same = own.size == theirs.size && rgb.eq(theirs.pixels.iter().copied());
        drop(own);
        self.changed.send_modify(|n| *n += 1);
        Some(same)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) open: Vec<u64>,
    pub(crate) closed: u64,
    pub(crate) samples: Vec<i16>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Ear(pub(crate) Arc<Mutex<Heard>>);

impl SoundSink for Ear {
    fn opened(&mut self, voice: u64, format: SoundFormat) {
        assert_eq!(format, SoundFormat { rate_hz: 48_000, channels: 2 });
        self.0.lock().unwrap().open.push(voice);
    }

    fn enabled(&mut self, _: u64, _: bool) {}

    fn samples(&mut self, voice: u64, samples: &[i16]) {
        let mut heard = self.0.lock().unwrap();
        assert!(heard.open.contains(&voice), "samples of a voice that is not open");
        heard.samples.extend_from_slice(samples);
    }

    fn closed(&mut self, voice: u64) {
        let mut heard = self.0.lock().unwrap();
        heard.open.retain(|v| *v != voice);
        heard.closed += 1;
    }
}

pub(crate) fn config(profile: Profile, instance: usize, state_dir: &Path) -> GuestConfig {
    GuestConfig {
        profile,
        instance: InstanceId::try_new(instance).unwrap(),
        state_dir: state_dir.to_owned(),
        accelerator: AcceleratorChoice::Only(Accelerator::Tcg),
        qemu: None,
        target: Target::Running,
        start_from: None,
    }
}

/// Starts a guest. `RUST_LOG=loco_guest=debug` shows what happens to it.
pub(crate) async fn start(config: GuestConfig) -> (Guest, Screen, Ear) {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this process may have set it up.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let (screen, ear) = (Screen::new(), Ear::default());
    let guest = Guest::start(config, Box::new(screen.clone()), Box::new(ear.clone()));
    let guest = guest.await.unwrap_or_else(|e| panic!("{e}"));
    (guest, screen, ear)
}
