//! Waits for the device on a thread of its own: tells when a drawing is done, and hands out what was read back.

use super::staging::PendingPut;
use crate::error::ViewError;
use loco_model::Rect;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest wait for one drawing; a device that takes longer is as good as lost.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Pixels read back, as 8-bit RGB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green, blue of each pixel, row by row.
    pub rgb: Vec<u8>,
    /// When they were read, in microseconds of `CLOCK_MONOTONIC`.
    pub at_us: u64,
    /// Which drawing they are of.
    pub drawing: u64,
}

impl ReadBack {
    /// Luma of each pixel, 0..=255 (ITU-R BT.601 weights).
    #[must_use]
    pub fn luma(&self) -> Vec<u8> {
        self.rgb
            .chunks_exact(3)
            .map(|p| ((u32::from(p[0]) * 299 + u32::from(p[1]) * 587 + u32::from(p[2]) * 114 + 500) / 1000) as u8)
            .collect()
    }
}

/// Gets what was read back, on the completion thread.
pub type Deliver = Box<dyn FnOnce(ReadBack) + Send>;

/// A rectangle on its way from the device.
pub(super) struct PendingRead {
    pub(super) buffer: wgpu::Buffer,
    pub(super) rect: Rect,
    pub(super) row_bytes: u32,
    pub(super) swap_red_and_blue: bool,
    pub(super) deliver: Deliver,
}

/// One drawing that was handed to the device.
pub(super) struct Submitted {
    pub(super) device: wgpu::Device,
    /// Held until all is read: a device whose queue is let go meanwhile maps nothing, and says that it is done.
    pub(super) queue: wgpu::Queue,
    pub(super) index: wgpu::SubmissionIndex,
    pub(super) drawing: u64,
    pub(super) since: Instant,
    pub(super) put: Option<PendingPut>,
    pub(super) reads: Vec<PendingRead>,
}

/// A drawing that the device is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Which.
    pub drawing: u64,
    /// From the start of drawing until the device was done.
    pub took: Duration,
}

/// The thread. Ends when dropped, after what was handed to it.
pub struct Completion {
    submitted: mpsc::Sender<Submitted>,
}

impl Completion {
    /// Starts it. `finished` is called on it once for every drawing.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(finished: impl Fn(Finished) + Send + 'static) -> Result<Self, ViewError> {
        let (submitted, incoming) = mpsc::channel::<Submitted>();
        std::thread::Builder::new()
            .name("viewer-gpu".into())
            .spawn(move || {
                for work in incoming {
                    finished(work.wait());
                }
            })
            .map_err(|source| ViewError::Start { what: "the thread that waits for the graphics device", source })?;
        Ok(Self { submitted })
    }

    pub(super) fn hand(&self, work: Submitted) {
        // The thread ends only after this sender.
        let _ = self.submitted.send(work);
    }
}

impl Submitted {
    fn wait(self) -> Finished {
        if let Some(put) = &self.put {
            put.map();
        }
        for read in &self.reads {
            // Whether it worked shows in `get_mapped_range`.
            read.buffer.map_async(wgpu::MapMode::Read, .., |_| {});
        }
        let wait = wgpu::PollType::Wait { submission_index: Some(self.index), timeout: Some(LONGEST_WAIT) };
        // On a lost device wgpu panics here, and its loss was told already; this thread is needed for the next one.
        let waited = catch_unwind(AssertUnwindSafe(|| self.device.poll(wait)));
        let trouble = match waited {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it is lost".to_owned()),
        };
        if let Some(trouble) = trouble {
            tracing::warn!(trouble, "the graphics device did not finish a drawing");
            return Finished { drawing: self.drawing, took: self.since.elapsed() };
        }
        if let Some(put) = self.put {
            put.deliver();
        }
        let finished = Finished { drawing: self.drawing, took: self.since.elapsed() };
        for read in self.reads {
            read.deliver(self.drawing);
        }
        drop(self.queue);
        finished
    }
}

impl PendingRead {
    fn deliver(self, drawing: u64) {
        let range = match self.buffer.get_mapped_range(..) {
            Ok(range) => range,
            Err(error) => {
                tracing::warn!(%error, "nothing could be read back");
                return;
            }
        };
        let mut rgb = Vec::with_capacity((self.rect.width * self.rect.height * 3) as usize);
        for row in range.chunks(self.row_bytes as usize) {
            for pixel in row[..(self.rect.width * 4) as usize].chunks_exact(4) {
                let [first, green, third] = [pixel[0], pixel[1], pixel[2]];
                rgb.extend(if self.swap_red_and_blue { [third, green, first] } else { [first, green, third] });
            }
        }
        let (width, height) = (self.rect.width, self.rect.height);
        (self.deliver)(ReadBack { width, height, rgb, at_us: loco_media::clock::now_us(), drawing });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::gpu::Gpu;
    use loco_model::Size;

    const WINDOWS: usize = 200;
    const DRAWINGS: u64 = 3;

    /// The window may close at any moment while drawings are under way.
    #[test]
    fn everything_is_read_back_though_the_device_is_let_go() {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        for window in 0..WINDOWS {
            let gpu = Gpu::new(&instance, None, Size { width: 64, height: 64 }, || {}).unwrap();
            let (finished, all_finished) = mpsc::channel();
            let completion = Completion::start(move |work| finished.send(work.drawing).unwrap()).unwrap();
            let (delivered, all_delivered) = mpsc::channel();
            for drawing in 0..DRAWINGS {
                let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: 1 << 20,
                    usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                    mapped_at_creation: false,
                });
                gpu.queue.write_buffer(&buffer, 0, &[drawing as u8; 1 << 20]);
                let index = gpu.queue.submit([]);
                let delivered = delivered.clone();
                let deliver: Deliver =
                    Box::new(move |read: ReadBack| delivered.send((read.drawing, read.rgb[0])).unwrap());
                let rect = Rect { x: 0, y: 0, width: 4, height: 4 };
                let read = PendingRead { buffer, rect, row_bytes: 256, swap_red_and_blue: false, deliver };
                let (device, queue, since) = (gpu.device.clone(), gpu.queue.clone(), Instant::now());
                completion.hand(Submitted { device, queue, index, drawing, since, put: None, reads: vec![read] });
            }
            drop(gpu);
            for drawing in 0..DRAWINGS {
                assert_eq!(all_finished.recv_timeout(2 * LONGEST_WAIT).unwrap(), drawing);
                assert_eq!(all_delivered.try_recv(), Ok((drawing, drawing as u8)), "drawing {drawing} of {window}");
            }
        }
    }
}
