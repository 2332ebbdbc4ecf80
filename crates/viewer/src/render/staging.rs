//! What changed, on its way from the target to a window that takes pixels.

use super::put::PutWindow;
use loco_model::Rect;
use std::sync::Arc;

/// A buffer that is used again for every drawing: one is on its way at most.
#[derive(Default)]
pub(super) struct Staging {
    buffer: Option<wgpu::Buffer>,
}

/// Rectangles in a staging buffer, and the window that wants them.
pub(super) struct PendingPut {
    window: Arc<PutWindow>,
    buffer: wgpu::Buffer,
    /// Where each begins in the buffer.
    rects: Vec<(Rect, u64)>,
}

const fn row_bytes(rect: Rect) -> u32 {
    (rect.width * 4).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT)
}

impl Staging {
    /// Records copies of `rects` out of `target`.
    pub(super) fn take(
        &mut self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        target: &wgpu::Texture,
        rects: impl Iterator<Item = Rect>,
        window: &Arc<PutWindow>,
    ) -> Option<PendingPut> {
        let whole = Rect::new(0, 0, target.width(), target.height());
        let mut end = 0;
        let mut place = |rect: Rect| {
            let begin = end;
            end += u64::from(row_bytes(rect)) * u64::from(rect.height);
            (rect, begin)
        };
        let rects: Vec<_> =
            rects.map(|rect| rect.intersection(whole)).filter(|rect| !rect.is_empty()).map(&mut place).collect();
        if end == 0 {
            return None;
        }
        let buffer = match self.buffer.take().filter(|buffer| buffer.size() >= end) {
            Some(buffer) => buffer,
            None => device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("for the window"),
                size: end.next_multiple_of(1 << 20),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
        };
        for (rect, begin) in &rects {
            copy_out(encoder, target, *rect, &buffer, *begin);
        }
        self.buffer = Some(buffer.clone());
        Some(PendingPut { window: Arc::clone(window), buffer, rects })
    }
}

/// Records the copy of a rectangle of a texture into a buffer, in rows of [`row_bytes`].
pub(super) fn copy_out(
    encoder: &mut wgpu::CommandEncoder,
    texture: &wgpu::Texture,
    rect: Rect,
    buffer: &wgpu::Buffer,
    offset: u64,
) -> u32 {
    let row_bytes = row_bytes(rect);
    encoder.copy_texture_to_buffer(
        wgpu::TexelCopyTextureInfo {
            texture,
            mip_level: 0,
            origin: wgpu::Origin3d { x: rect.x, y: rect.y, z: 0 },
            aspect: wgpu::TextureAspect::All,
        },
        wgpu::TexelCopyBufferInfo {
            buffer,
            layout: wgpu::TexelCopyBufferLayout {
                offset,
                bytes_per_row: Some(row_bytes),
                rows_per_image: Some(rect.height),
            },
        },
        wgpu::Extent3d { width: rect.width, height: rect.height, depth_or_array_layers: 1 },
    );
    row_bytes
}

impl PendingPut {
    /// Asks for the buffer's memory; it is there when the device is done.
    pub(super) fn map(&self) {
        // Whether it worked shows in `get_mapped_range`.
        self.buffer.map_async(wgpu::MapMode::Read, .., |_| {});
    }

    /// Puts the pixels on the window.
    pub(super) fn deliver(self) {
        match self.buffer.get_mapped_range(..) {
            Ok(bytes) => {
                let put = self.rects.iter().try_for_each(|(rect, begin)| {
                    let row_bytes = row_bytes(*rect) as usize;
                    let begin = *begin as usize;
                    self.window.put(*rect, row_bytes, &bytes[begin..begin + row_bytes * rect.height as usize])
                });
                if let Err(error) = put.and_then(|()| self.window.finish()) {
                    tracing::debug!(%error, "the window took no picture");
                }
            }
            Err(error) => tracing::warn!(%error, "no picture for the window"),
        }
        self.buffer.unmap();
    }
}
