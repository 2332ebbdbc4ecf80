//! The retained target and what is drawn into it.

use super::completion::{Completion, Deliver, PendingRead, Submitted};
use super::diff::scaled;
use super::gpu::{Gpu, Shown};
use super::hud_layer::HudLayer;
use super::pictures::{PictureTexture, Pictures};
use super::quads::{Quad, Quads};
use super::staging::{Staging, copy_out};
use crate::scene::Region;
use crate::session::Picture;
use loco_model::{InstanceId, Rect, Size};
use std::time::{Duration, Instant};

/// Where and how a picture is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureStyle {
    /// Where, in target pixels.
    pub rect: Rect,
    /// 1: in colour, 0: without.
    pub colour: f32,
    /// 1: as it is, 0: black.
    pub brightness: f32,
}

/// What one drawing was.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Counts drawings from 1.
    pub number: u64,
    /// What came of showing it.
    pub shown: Shown,
    /// Recording and handing over.
    pub record: Duration,
    /// Pixels drawn.
    pub pixels: u64,
}

/// Draws a scene, and only what changed of it.
pub struct Renderer {
    size: Size,
    target: wgpu::Texture,
    view: wgpu::TextureView,
    globals: wgpu::BindGroup,
    global_buffer: wgpu::Buffer,
    shared: Pictures,
    pictures: [Option<PictureTexture>; InstanceId::COUNT],
    styles: [Option<PictureStyle>; InstanceId::COUNT],
    under: Quads,
    under_list: Vec<Quad>,
    over: Quads,
    over_list: Vec<Quad>,
    hud: HudLayer,
    region: Region,
    staging: Staging,
    drawings: u64,
}

/// What a pipeline is made from.
pub(super) struct PipelineParts<'a> {
    pub(super) label: &'a str,
    pub(super) shader: &'a wgpu::ShaderModule,
    pub(super) layout: &'a wgpu::PipelineLayout,
    pub(super) vertex: &'a str,
    pub(super) fragment: &'a str,
    pub(super) stride: u64,
    pub(super) attributes: &'a [wgpu::VertexAttribute],
    pub(super) format: wgpu::TextureFormat,
    pub(super) blend: Option<wgpu::BlendState>,
}

pub(super) fn pipeline(device: &wgpu::Device, parts: &PipelineParts<'_>) -> wgpu::RenderPipeline {
    device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
        label: Some(parts.label),
        layout: Some(parts.layout),
        vertex: wgpu::VertexState {
            module: parts.shader,
            entry_point: Some(parts.vertex),
            buffers: &[Some(wgpu::VertexBufferLayout {
                array_stride: parts.stride,
                step_mode: wgpu::VertexStepMode::Instance,
                attributes: parts.attributes,
            })],
            compilation_options: wgpu::PipelineCompilationOptions::default(),
        },
        primitive: wgpu::PrimitiveState {
            topology: wgpu::PrimitiveTopology::TriangleStrip,
            ..wgpu::PrimitiveState::default()
        },
        depth_stencil: None,
        multisample: wgpu::MultisampleState::default(),
        fragment: Some(wgpu::FragmentState {
            module: parts.shader,
            entry_point: Some(parts.fragment),
            targets: &[Some(wgpu::ColorTargetState {
                format: parts.format,
                blend: parts.blend,
                write_mask: wgpu::ColorWrites::ALL,
            })],
            compilation_options: wgpu::PipelineCompilationOptions::default(),
        }),
        multiview_mask: None,
        cache: None,
    })
}

fn target(gpu: &Gpu, size: Size) -> (wgpu::Texture, wgpu::TextureView) {
    let limit = gpu.device.limits().max_texture_dimension_2d;
    let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
        label: Some("retained target"),
        size: wgpu::Extent3d {
            width: size.width.clamp(1, limit),
            height: size.height.clamp(1, limit),
            depth_or_array_layers: 1,
        },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: gpu.format,
        usage: wgpu::TextureUsages::RENDER_ATTACHMENT | wgpu::TextureUsages::COPY_SRC,
        view_formats: &[],
    });
    let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
    (texture, view)
}

impl Renderer {
    /// Makes everything that lies on the device.
    #[must_use]
    pub fn new(gpu: &Gpu, size: Size) -> Self {
        let device = &gpu.device;
        let shader = device.create_shader_module(wgpu::include_wgsl!("shaders.wgsl"));
        let global_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("globals"),
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::VERTEX,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let global_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("globals"),
            size: 16,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let globals = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("globals"),
            layout: &global_layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: global_buffer.as_entire_binding() }],
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("quads"),
            bind_group_layouts: &[Some(&global_layout)],
            immediate_size: 0,
        });
        let (target, view) = target(gpu, size);
        let mut renderer = Self {
            size,
            target,
            view,
            globals,
            global_buffer,
            shared: Pictures::new(device, &shader, &global_layout, gpu.format),
            pictures: Default::default(),
            styles: [None; InstanceId::COUNT],
            under: Quads::new(device, &shader, &layout, gpu.format),
            under_list: Vec::new(),
            over: Quads::new(device, &shader, &layout, gpu.format),
            over_list: Vec::new(),
            hud: HudLayer::new(device, gpu.format, size),
            region: Region::new(),
            staging: Staging::default(),
            drawings: 0,
        };
        renderer.resize(gpu, size);
        renderer
    }

    /// The same on another device, after the old one was lost.
    #[must_use]
    pub fn reborn(self, gpu: &Gpu) -> Self {
        let mut new = Self::new(gpu, self.size);
        new.drawings = self.drawings;
        for (slot, old) in self.pictures.into_iter().enumerate() {
            new.pictures[slot] = old.map(|old| {
                let mut picture = PictureTexture::new(&gpu.device);
                picture.restore(&gpu.device, &gpu.queue, &new.shared, old.into_shadow());
                picture
            });
        }
        new
    }

    /// A target of another size; everything is to be drawn again.
    pub fn resize(&mut self, gpu: &Gpu, size: Size) {
        self.size = size;
        (self.target, self.view) = target(gpu, size);
        let uniform = [size.width.max(1) as f32, size.height.max(1) as f32, 0.0, 0.0];
        gpu.queue.write_buffer(&self.global_buffer, 0, bytemuck::cast_slice(&uniform));
        self.hud.resize(size);
        self.draw_all();
    }

    /// Everything is to be drawn again.
    pub fn draw_all(&mut self) {
        self.region.add(Rect::new(0, 0, self.size.width, self.size.height));
    }

    /// That rectangle is to be drawn again, though nothing in it changed.
    pub fn draw_rect(&mut self, rect: Rect) {
        self.region.add(rect.intersection(Rect::new(0, 0, self.size.width, self.size.height)));
    }

    /// What is to be drawn again.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Size of an instance's picture; `None` before its first.
    #[must_use]
    pub fn picture_size(&self, id: InstanceId) -> Option<Size> {
        self.pictures[id.index()].as_ref().map(PictureTexture::size).filter(|size| size.area() > 0)
    }

    /// Takes an instance's next picture. Returns whether its size is new: then the layout may be another.
    pub fn set_picture(&mut self, gpu: &Gpu, id: InstanceId, picture: &dyn Picture) -> bool {
        let slot = self.pictures[id.index()].get_or_insert_with(|| PictureTexture::new(&gpu.device));
        let resized = slot.update(&gpu.device, &gpu.queue, &self.shared, picture);
        if let Some(style) = self.styles[id.index()] {
            slot.set_style(&gpu.queue, style);
            for changed in slot.changed() {
                self.region.add(scaled(*changed, slot.size(), style.rect));
            }
        }
        resized
    }

    /// Forgets an instance's picture.
    pub fn forget_picture(&mut self, id: InstanceId) {
        self.pictures[id.index()] = None;
        if let Some(style) = self.styles[id.index()].take() {
            self.region.add(style.rect);
        }
    }

    /// Says where and how an instance's picture is drawn; `None`: not at all.
    pub fn set_style(&mut self, gpu: &Gpu, id: InstanceId, style: Option<PictureStyle>) {
        let old = std::mem::replace(&mut self.styles[id.index()], style);
        if let (Some(style), Some(picture)) = (style, &mut self.pictures[id.index()]) {
            picture.set_style(&gpu.queue, style);
        }
        if old != style {
            for style in [old, style].into_iter().flatten() {
                self.region.add(style.rect);
            }
        }
    }

    /// Takes the grounds and lines under the pictures, and those over them.
    pub fn set_quads(&mut self, gpu: &Gpu, under: &[Quad], over: &[Quad]) {
        let layers = [(&mut self.under, &mut self.under_list, under), (&mut self.over, &mut self.over_list, over)];
        for (layer, old, new) in layers {
            if old == new {
                continue;
            }
            for index in 0..old.len().max(new.len()) {
                let (was, is) = (old.get(index), new.get(index));
                if was != is {
                    for quad in [was, is].into_iter().flatten() {
                        self.region.add(quad.rect);
                    }
                }
            }
            old.clear();
            old.extend_from_slice(new);
            layer.set(&gpu.device, &gpu.queue, new);
        }
    }

    /// Takes what egui wants to be seen.
    pub fn set_hud(&mut self, gpu: &Gpu, context: &egui::Context, mut output: egui::FullOutput) {
        let primitives = context.tessellate(std::mem::take(&mut output.shapes), output.pixels_per_point);
        let (textures, scale) = (&mut output.textures_delta, output.pixels_per_point);
        self.hud.set(&gpu.device, &gpu.queue, primitives, textures, scale, &mut self.region);
    }

    /// Draws what changed, shows it on the window (`show_all`: also what did not change, since the window lost it), and
    /// reads back what is asked for (rectangles in target pixels).
    pub fn draw(&mut self, gpu: &Gpu, completion: &Completion, reads: Vec<(Rect, Deliver)>, show_all: bool) -> Drawing {
        let since = Instant::now();
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wall") });
        self.hud.prepare(&gpu.device, &gpu.queue, &mut encoder);
        let whole = Rect::new(0, 0, self.size.width.max(1), self.size.height.max(1));
        let mut pixels = 0;
        {
            let mut pass = encoder
                .begin_render_pass(&wgpu::RenderPassDescriptor {
                    label: Some("wall"),
                    color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                        view: &self.view,
                        depth_slice: None,
                        resolve_target: None,
                        ops: wgpu::Operations { load: wgpu::LoadOp::Load, store: wgpu::StoreOp::Store },
                    })],
                    depth_stencil_attachment: None,
                    timestamp_writes: None,
                    occlusion_query_set: None,
                    multiview_mask: None,
                })
                .forget_lifetime();
            let region = std::mem::take(&mut self.region);
            for rect in region.rects() {
                let clip = rect.intersection(whole);
                if !clip.is_empty() {
                    pixels += u64::from(clip.width) * u64::from(clip.height);
                    self.draw_clip(&mut pass, clip, whole);
                }
            }
            self.region = region;
        }
        let put = gpu.put.as_ref().and_then(|window| {
            let changed = if show_all { std::slice::from_ref(&whole) } else { self.region.rects() };
            self.staging.take(&gpu.device, &mut encoder, &self.target, changed.iter().copied(), window)
        });
        self.region.clear();
        let reads =
            reads.into_iter().filter_map(|(rect, deliver)| self.read(gpu, &mut encoder, rect, deliver)).collect();
        let (shown, index) = gpu.present(&self.target, encoder);
        self.hud.finish();
        self.drawings += 1;
        let drawing = self.drawings;
        let (device, queue) = (gpu.device.clone(), gpu.queue.clone());
        completion.hand(Submitted { device, queue, index, drawing, since, put, reads });
        Drawing { number: drawing, shown, record: since.elapsed(), pixels }
    }

    fn draw_clip(&mut self, pass: &mut wgpu::RenderPass<'static>, clip: Rect, whole: Rect) {
        let scissor = |pass: &mut wgpu::RenderPass<'static>| {
            pass.set_viewport(0.0, 0.0, whole.width as f32, whole.height as f32, 0.0, 1.0);
            pass.set_scissor_rect(clip.x, clip.y, clip.width, clip.height);
        };
        scissor(pass);
        pass.set_bind_group(0, &self.globals, &[]);
        let seen = |style: &PictureStyle| !style.rect.intersection(clip).is_empty();
        let covered = self.styles.iter().zip(&self.pictures).any(|(style, picture)| {
            let drawn = picture.as_ref().is_some_and(|picture| picture.size().area() > 0);
            drawn && style.is_some_and(|style| style.rect.intersection(clip) == clip)
        });
        if !covered {
            self.under.draw(pass, clip);
        }
        for (style, picture) in self.styles.iter().zip(&self.pictures) {
            if let (Some(style), Some(picture)) = (style, picture)
                && seen(style)
            {
                picture.draw(pass, &self.shared);
            }
        }
        self.over.draw(pass, clip);
        if self.hud.touches(clip) {
            self.hud.draw(pass, clip);
        }
    }

    fn read(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder, rect: Rect, deliver: Deliver) -> Option<PendingRead> {
        let rect = rect.intersection(Rect::new(0, 0, self.target.width(), self.target.height()));
        if rect.is_empty() {
            return None;
        }
        let row_bytes = (rect.width * 4).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
        let buffer = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("read back"),
            size: u64::from(row_bytes) * u64::from(rect.height),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        copy_out(encoder, &self.target, rect, &buffer, 0);
        let swap_red_and_blue = gpu.format == wgpu::TextureFormat::Bgra8Unorm;
        Some(PendingRead { buffer, rect, row_bytes, swap_red_and_blue, deliver })
    }
}
