//! The graphics adapter, its device, and the window's surface.

use super::put::PutWindow;
use crate::error::ViewError;
use loco_model::Size;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A device, and a surface where there is a window.
pub struct Gpu {
    /// Which adapter.
    pub info: wgpu::AdapterInfo,
    /// Makes things.
    pub device: wgpu::Device,
    /// Does things.
    pub queue: wgpu::Queue,
    /// Format of the retained target and of the surface; never sRGB, since colours are mixed as they are seen.
    pub format: wgpu::TextureFormat,
    surface: Option<(wgpu::Surface<'static>, wgpu::SurfaceConfiguration)>,
    /// Takes pixels in the surface's place, where the rasteriser's memory is this computer's anyway.
    pub(super) put: Option<Arc<PutWindow>>,
    lost: Arc<AtomicBool>,
}

/// What came of showing a picture on the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is on its way to the screen.
    Presented,
    /// The window is hidden or the screen takes no picture now; nothing to do until it is asked for again.
    Skipped,
    /// The surface was made anew: draw again.
    Again,
}

impl Gpu {
    /// Finds an adapter for the window (or any, without one) and opens it. `on_lost` is called from any thread when
    /// the device is lost.
    ///
    /// # Errors
    /// When there is no adapter, or it refuses.
    pub fn new(
        instance: &wgpu::Instance,
        surface: Option<wgpu::Surface<'static>>,
        size: Size,
        on_lost: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, ViewError> {
        let adapter = adapter(instance, surface.as_ref())?;
        let info = adapter.get_info();
        let refused = |why: String| ViewError::Gpu { adapter: info.name.clone(), why };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("loco viewer"),
            required_limits: wgpu::Limits::downlevel_defaults().using_resolution(adapter.limits()),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        }))
        .map_err(|error| refused(error.to_string()))?;
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                tracing::warn!(message, "the graphics device was lost");
                flag.store(true, Ordering::Release);
                on_lost();
            }
        });
        device.on_uncaptured_error(Arc::new(|error| tracing::error!(%error, "graphics")));
        tracing::info!(adapter = info.name, driver = info.driver_info, backend = ?info.backend, kind = ?info.device_type, "graphics");
        let surface = match surface {
            Some(surface) => {
                let config = configuration(&surface, &adapter, size)
                    .ok_or_else(|| refused("it cannot draw to this window".to_owned()))?;
                surface.configure(&device, &config);
                Some((surface, config))
            }
            None => None,
        };
        let format = surface.as_ref().map_or(wgpu::TextureFormat::Bgra8Unorm, |(_, config)| config.format);
        Ok(Self { info, device, queue, format, surface, put: None, lost })
    }

    /// Shows pictures on `window` from now on, by putting only what changed of them: a CPU rasteriser copies the whole
    /// picture for every present, and waits for it (8 ms of 1280x960 on two cores).
    pub fn put_into(&mut self, window: PutWindow) {
        self.surface = None;
        self.format = wgpu::TextureFormat::Bgra8Unorm;
        self.put = Some(Arc::new(window));
    }

    /// Lets the window go, so that another device may have it: a window takes pictures from one at a time.
    pub fn leave_window(&mut self) {
        self.surface = None;
        self.put = None;
    }

    /// Whether drawing costs this computer's own cores.
    #[must_use]
    pub fn draws_on_cpu(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// Whether the device is gone; everything on it must be made anew.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Fits the surface to the window.
    pub fn resize(&mut self, size: Size) {
        if let Some((surface, config)) = &mut self.surface
            && size.area() > 0
        {
            (config.width, config.height) = (size.width, size.height);
            surface.configure(&self.device, config);
        }
    }

    /// Copies `target` to the window, and shows it.
    pub fn present(&self, target: &wgpu::Texture, mut encoder: wgpu::CommandEncoder) -> (Shown, wgpu::SubmissionIndex) {
        use wgpu::CurrentSurfaceTexture as Current;
        let Some((surface, config)) = &self.surface else {
            return (Shown::Presented, self.queue.submit([encoder.finish()]));
        };
        let started = std::time::Instant::now();
        let frame = match surface.get_current_texture() {
            Current::Success(frame) | Current::Suboptimal(frame) => frame,
            other => {
                let again = matches!(other, Current::Outdated | Current::Lost);
                drop(other);
                let submitted = self.queue.submit([encoder.finish()]);
                if again {
                    surface.configure(&self.device, config);
                }
                return (if again { Shown::Again } else { Shown::Skipped }, submitted);
            }
        };
        let (from, to) = (target.size(), frame.texture.size());
        let extent = wgpu::Extent3d {
            width: from.width.min(to.width),
            height: from.height.min(to.height),
            depth_or_array_layers: 1,
        };
        let acquired = started.elapsed();
        encoder.copy_texture_to_texture(target.as_image_copy(), frame.texture.as_image_copy(), extent);
        let submitted = self.queue.submit([encoder.finish()]);
        let handed = started.elapsed();
        if self.lost() {
            abandon(frame);
            return (Shown::Skipped, submitted);
        }
        self.queue.present(frame);
        tracing::trace!(?acquired, ?handed, presented = ?started.elapsed(), "window");
        (Shown::Presented, submitted)
    }
}

/// Lets go a frame that is never shown, since its device is lost. wgpu neither presents nor discards it then, keeps it,
/// and panics when its surface goes (gfx-rs/wgpu#9277, not yet released); it lets go only while a thread unwinds. So
/// this unwinds, past the panic hook.
fn abandon(frame: wgpu::SurfaceTexture) {
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _frame = frame;
        resume_unwind(Box::new(()));
    }));
    debug_assert!(unwound.is_err());
}

/// The fastest adapter for the window. One whose windows take no copies (OpenGL's) is passed over where a CPU rasteriser
/// can take its place.
fn adapter(instance: &wgpu::Instance, surface: Option<&wgpu::Surface<'_>>) -> Result<wgpu::Adapter, ViewError> {
    let request = |force_fallback_adapter| {
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            compatible_surface: surface,
            force_fallback_adapter,
            ..Default::default()
        }))
    };
    let takes_copies = |adapter: &wgpu::Adapter| {
        surface.is_none_or(|s| s.get_capabilities(adapter).usages.contains(wgpu::TextureUsages::COPY_DST))
    };
    let best = request(false).map_err(|error| ViewError::Adapter { why: error.to_string() })?;
    if takes_copies(&best) {
        return Ok(best);
    }
    Ok(request(true).ok().filter(takes_copies).unwrap_or(best))
}

fn configuration(
    surface: &wgpu::Surface<'_>,
    adapter: &wgpu::Adapter,
    size: Size,
) -> Option<wgpu::SurfaceConfiguration> {
    let capabilities = surface.get_capabilities(adapter);
    let mut config = surface.get_default_config(adapter, size.width.max(1), size.height.max(1))?;
    config.format = *capabilities
        .formats
        .iter()
        .find(|f| matches!(f, wgpu::TextureFormat::Bgra8Unorm | wgpu::TextureFormat::Rgba8Unorm))
        .or_else(|| capabilities.formats.iter().find(|f| !f.is_srgb()))?;
    config.view_formats = vec![];
    if !capabilities.usages.contains(wgpu::TextureUsages::COPY_DST) {
        tracing::warn!(usages = ?capabilities.usages, "this surface takes no copies");
        return None;
    }
    config.usage = wgpu::TextureUsages::COPY_DST;
    // The newest picture, without tearing and without waiting for the screen; where that is not there, in turn.
    let preferred = [wgpu::PresentMode::Mailbox, wgpu::PresentMode::Immediate];
    config.present_mode =
        preferred.into_iter().find(|mode| capabilities.present_modes.contains(mode)).unwrap_or(wgpu::PresentMode::Fifo);
    config.desired_maximum_frame_latency = 1;
    Some(config)
}
