//! What egui draws, kept between frames: only where it differs from the last time is it drawn again.

use crate::scene::Region;
use egui::epaint::{ClippedPrimitive, Primitive};
use loco_model::{Rect, Size};

/// egui's triangles as last given.
pub(super) struct HudLayer {
    renderer: egui_wgpu::Renderer,
    primitives: Vec<ClippedPrimitive>,
    /// What each primitive was clipped to by egui, before a redraw clips it further.
    clips: Vec<egui::Rect>,
    /// Pixels that each primitive may touch.
    bounds: Vec<Rect>,
    pixels_per_point: f32,
    size: Size,
    uploaded: bool,
    free: Vec<egui::TextureId>,
}

impl HudLayer {
    pub(super) fn new(device: &wgpu::Device, format: wgpu::TextureFormat, size: Size) -> Self {
        let options = egui_wgpu::RendererOptions { dithering: false, ..Default::default() };
        Self {
            renderer: egui_wgpu::Renderer::new(device, format, options),
            primitives: Vec::new(),
            clips: Vec::new(),
            bounds: Vec::new(),
            pixels_per_point: 1.0,
            size,
            uploaded: true,
            free: Vec::new(),
        }
    }

    pub(super) fn resize(&mut self, size: Size) {
        self.size = size;
        self.uploaded = false;
    }

    /// Takes new triangles; adds what differs from the old ones to `region`.
    pub(super) fn set(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        primitives: Vec<ClippedPrimitive>,
        textures: &mut egui::TexturesDelta,
        pixels_per_point: f32,
        region: &mut Region,
    ) {
        for (id, deltas) in textures.set.drain() {
            for delta in deltas {
                self.renderer.update_texture(device, queue, id, &delta);
            }
        }
        self.free.extend(textures.free.drain());
        let bounds: Vec<_> = primitives.iter().map(|p| bounds_of(p, pixels_per_point, self.size)).collect();
        let rescaled = pixels_per_point != self.pixels_per_point;
        for index in 0..primitives.len().max(self.primitives.len()) {
            let same = match (primitives.get(index), self.primitives.get(index)) {
                (Some(new), Some(_)) if rescaled || new.clip_rect != self.clips[index] => false,
                (Some(new), Some(old)) => same_mesh(new, old),
                _ => false,
            };
            if !same {
                let empty = Rect::default();
                region.add(*bounds.get(index).unwrap_or(&empty));
                region.add(*self.bounds.get(index).unwrap_or(&empty));
                self.uploaded = false;
            }
        }
        self.clips.clear();
        self.clips.extend(primitives.iter().map(|p| p.clip_rect));
        (self.primitives, self.bounds, self.pixels_per_point) = (primitives, bounds, pixels_per_point);
    }

    fn screen(&self) -> egui_wgpu::ScreenDescriptor {
        egui_wgpu::ScreenDescriptor {
            size_in_pixels: [self.size.width, self.size.height],
            pixels_per_point: self.pixels_per_point,
        }
    }

    /// Puts new triangles on the device; before the pass that draws them.
    pub(super) fn prepare(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, encoder: &mut wgpu::CommandEncoder) {
        if !self.uploaded {
            let screen = self.screen();
            // No callbacks are used, so no command buffers come back.
            let _ = self.renderer.update_buffers(device, queue, encoder, &self.primitives, &screen);
            self.uploaded = true;
        }
    }

    /// Whether it has anything in `clip`.
    pub(super) fn touches(&self, clip: Rect) -> bool {
        self.bounds.iter().any(|bounds| !bounds.intersection(clip).is_empty())
    }

    /// Draws what lies in `clip`.
    pub(super) fn draw(&mut self, pass: &mut wgpu::RenderPass<'static>, clip: Rect) {
        let points = 1.0 / self.pixels_per_point;
        let window = egui::Rect::from_min_max(
            egui::pos2(clip.x as f32 * points, clip.y as f32 * points),
            egui::pos2(clip.right() as f32 * points, clip.bottom() as f32 * points),
        );
        for ((primitive, own), bounds) in self.primitives.iter_mut().zip(&self.clips).zip(&self.bounds) {
            let seen = !bounds.intersection(clip).is_empty();
            let both = own.intersect(window);
            primitive.clip_rect = if seen && both.is_positive() { both } else { egui::Rect::ZERO };
        }
        self.renderer.render(pass, &self.primitives, &self.screen());
        for (primitive, own) in self.primitives.iter_mut().zip(&self.clips) {
            primitive.clip_rect = *own;
        }
    }

    /// Lets go the textures that are no longer drawn; after the pass.
    pub(super) fn finish(&mut self) {
        for id in self.free.drain(..) {
            self.renderer.free_texture(&id);
        }
    }
}

fn same_mesh(a: &ClippedPrimitive, b: &ClippedPrimitive) -> bool {
    match (&a.primitive, &b.primitive) {
        (Primitive::Mesh(a), Primitive::Mesh(b)) => a == b,
        _ => false,
    }
}

fn bounds_of(primitive: &ClippedPrimitive, pixels_per_point: f32, size: Size) -> Rect {
    let Primitive::Mesh(mesh) = &primitive.primitive else { return Rect::new(0, 0, size.width, size.height) };
    let seen = mesh.calc_bounds().intersect(primitive.clip_rect);
    if !seen.is_positive() {
        return Rect::default();
    }
    let pixel = |points: f32, most: u32| (points * pixels_per_point).clamp(0.0, most as f32);
    let (left, top) = (pixel(seen.min.x, size.width).floor() as u32, pixel(seen.min.y, size.height).floor() as u32);
    let (right, bottom) = (pixel(seen.max.x, size.width).ceil() as u32, pixel(seen.max.y, size.height).ceil() as u32);
    Rect::new(left, top, right - left, bottom - top)
}
