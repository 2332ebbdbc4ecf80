//! Filled and outlined rounded rectangles: grounds, outlines, meters.

use loco_model::Rect;
use loco_model::look::Rgb;

/// One rounded rectangle, in target pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quad {
    /// Where.
    pub rect: Rect,
    /// Colour inside, and how opaque (0..=1).
    pub fill: (Rgb, f32),
    /// Colour of the line just inside the edge.
    pub line: Rgb,
    /// Width of that line; 0: none.
    pub line_width: f32,
    /// Radius of the corners.
    pub radius: f32,
}

impl Quad {
    /// An opaque one without a line.
    #[must_use]
    pub fn filled(rect: Rect, fill: Rgb, radius: f32) -> Self {
        Self { rect, fill: (fill, 1.0), line: fill, line_width: 0.0, radius }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Instance {
    rect: [f32; 4],
    fill: [f32; 4],
    line: [f32; 4],
    shape: [f32; 2],
}

impl From<&Quad> for Instance {
    fn from(quad: &Quad) -> Self {
        let Rect { x, y, width, height } = quad.rect;
        let colour = |Rgb(r, g, b): Rgb, a| [f32::from(r) / 255.0, f32::from(g) / 255.0, f32::from(b) / 255.0, a];
        Self {
            rect: [x as f32, y as f32, width as f32, height as f32],
            fill: colour(quad.fill.0, quad.fill.1),
            line: colour(quad.line, if quad.line_width > 0.0 { 1.0 } else { quad.fill.1 }),
            shape: [quad.radius, quad.line_width],
        }
    }
}

/// The quads of a scene on the device, in drawing order.
pub(super) struct Quads {
    pipeline: wgpu::RenderPipeline,
    buffer: wgpu::Buffer,
    rects: Vec<Rect>,
    bytes: Vec<Instance>,
}

impl Quads {
    pub(super) fn new(
        device: &wgpu::Device,
        shader: &wgpu::ShaderModule,
        layout: &wgpu::PipelineLayout,
        format: wgpu::TextureFormat,
    ) -> Self {
        let attributes = wgpu::vertex_attr_array![0 => Float32x4, 1 => Float32x4, 2 => Float32x4, 3 => Float32x2];
        let pipeline = super::target::pipeline(
            device,
            &super::target::PipelineParts {
                label: "quads",
                shader,
                layout,
                vertex: "quad_vertex",
                fragment: "quad_fragment",
                stride: size_of::<Instance>() as u64,
                attributes: &attributes,
                format,
                blend: Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING),
            },
        );
        Self { pipeline, buffer: buffer(device, 64), rects: Vec::new(), bytes: Vec::new() }
    }

    pub(super) fn set(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, quads: &[Quad]) {
        self.rects.clear();
        self.rects.extend(quads.iter().map(|quad| quad.rect));
        self.bytes.clear();
        self.bytes.extend(quads.iter().map(Instance::from));
        let bytes: &[u8] = bytemuck::cast_slice(&self.bytes);
        if (bytes.len() as u64) > self.buffer.size() {
            self.buffer = buffer(device, quads.len().next_power_of_two());
        }
        if !bytes.is_empty() {
            queue.write_buffer(&self.buffer, 0, bytes);
        }
    }

    /// Draws those that touch `clip`; the pass's scissor must be set to it.
    pub(super) fn draw(&self, pass: &mut wgpu::RenderPass<'_>, clip: Rect) {
        pass.set_pipeline(&self.pipeline);
        pass.set_vertex_buffer(0, self.buffer.slice(..));
        for (index, rect) in self.rects.iter().enumerate() {
            if !rect.intersection(clip).is_empty() {
                pass.draw(0..4, index as u32..index as u32 + 1);
            }
        }
    }
}

fn buffer(device: &wgpu::Device, count: usize) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("quads"),
        size: (count * size_of::<Instance>()) as u64,
        usage: wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}
