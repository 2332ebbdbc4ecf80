//! The guests' pictures on the device: three R8 planes each, converted while they are drawn.

use super::diff::{Shadow, plane_rect, plane_size};
use super::target::PictureStyle;
use crate::session::Picture;
use loco_model::{Rect, Size};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Instance {
    rect: [f32; 4],
    source: [f32; 2],
    style: [f32; 2],
}

/// One guest's picture.
pub(super) struct PictureTexture {
    shadow: Shadow,
    changed: Vec<Rect>,
    planes: Option<([wgpu::Texture; 3], wgpu::BindGroup)>,
    instance: wgpu::Buffer,
    style: Option<PictureStyle>,
}

/// What all pictures share.
pub(super) struct Pictures {
    bindings: wgpu::BindGroupLayout,
    sampler: wgpu::Sampler,
    pipeline: wgpu::RenderPipeline,
    small_pipeline: wgpu::RenderPipeline,
}

impl Pictures {
    pub(super) fn new(
        device: &wgpu::Device,
        shader: &wgpu::ShaderModule,
        globals: &wgpu::BindGroupLayout,
        format: wgpu::TextureFormat,
    ) -> Self {
        let texture = |binding| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::FRAGMENT,
            ty: wgpu::BindingType::Texture {
                sample_type: wgpu::TextureSampleType::Float { filterable: true },
                view_dimension: wgpu::TextureViewDimension::D2,
                multisampled: false,
            },
            count: None,
        };
        let sampler = wgpu::BindGroupLayoutEntry {
            binding: 3,
            visibility: wgpu::ShaderStages::FRAGMENT,
            ty: wgpu::BindingType::Sampler(wgpu::SamplerBindingType::Filtering),
            count: None,
        };
        let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("picture"),
            entries: &[texture(0), texture(1), texture(2), sampler],
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("picture"),
            bind_group_layouts: &[Some(globals), Some(&bindings)],
            immediate_size: 0,
        });
        let attributes = wgpu::vertex_attr_array![0 => Float32x4, 1 => Float32x2, 2 => Float32x2];
        let make = |fragment| {
            super::target::pipeline(
                device,
                &super::target::PipelineParts {
                    label: "picture",
                    shader,
                    layout: &layout,
                    vertex: "picture_vertex",
                    fragment,
                    stride: size_of::<Instance>() as u64,
                    attributes: &attributes,
                    format,
                    blend: None,
                },
            )
        };
        Self {
            pipeline: make("picture_fragment"),
            small_pipeline: make("small_picture_fragment"),
            sampler: device.create_sampler(&wgpu::SamplerDescriptor {
                label: Some("picture"),
                mag_filter: wgpu::FilterMode::Linear,
                min_filter: wgpu::FilterMode::Linear,
                ..Default::default()
            }),
            bindings,
        }
    }

    fn planes(&self, device: &wgpu::Device, size: Size) -> ([wgpu::Texture; 3], wgpu::BindGroup) {
        let planes = [0, 1, 2].map(|index| {
            device.create_texture(&wgpu::TextureDescriptor {
                label: Some("plane"),
                size: extent(plane_size(size, index)),
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::R8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            })
        });
        let views = [0, 1, 2].map(|index: usize| planes[index].create_view(&wgpu::TextureViewDescriptor::default()));
        let view = |index: usize| wgpu::BindGroupEntry {
            binding: index as u32,
            resource: wgpu::BindingResource::TextureView(&views[index]),
        };
        let sampler = wgpu::BindGroupEntry { binding: 3, resource: wgpu::BindingResource::Sampler(&self.sampler) };
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("picture"),
            layout: &self.bindings,
            entries: &[view(0), view(1), view(2), sampler],
        });
        (planes, group)
    }
}

fn extent(size: Size) -> wgpu::Extent3d {
    wgpu::Extent3d { width: size.width, height: size.height, depth_or_array_layers: 1 }
}

impl PictureTexture {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        Self {
            shadow: Shadow::default(),
            changed: Vec::new(),
            planes: None,
            instance: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("picture"),
                size: size_of::<Instance>() as u64,
                usage: wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            style: None,
        }
    }

    /// Size of the guest's picture; 0x0 before the first.
    pub(super) fn size(&self) -> Size {
        self.shadow.size()
    }

    pub(super) fn into_shadow(self) -> Shadow {
        self.shadow
    }

    /// Takes what another device showed.
    pub(super) fn restore(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, shared: &Pictures, shadow: Shadow) {
        self.shadow = shadow;
        let size = self.shadow.size();
        if size.area() > 0 {
            self.changed = vec![Rect::new(0, 0, size.width, size.height)];
            self.upload(device, queue, shared, true);
        }
    }

    /// Takes the next picture, and puts what changed on the device. Returns whether the size is new.
    pub(super) fn update(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        shared: &Pictures,
        picture: &dyn Picture,
    ) -> bool {
        let limit = device.limits().max_texture_dimension_2d;
        let size = picture.size();
        if size.width > limit || size.height > limit {
            self.changed.clear();
            return false;
        }
        let resized = self.shadow.update(picture, &mut self.changed);
        self.upload(device, queue, shared, resized);
        resized
    }

    fn upload(&mut self, device: &wgpu::Device, queue: &wgpu::Queue, shared: &Pictures, resized: bool) {
        if resized {
            self.planes = Some(shared.planes(device, self.shadow.size()));
            self.style = None;
        }
        let Some((planes, _)) = &self.planes else { return };
        for (index, plane) in planes.iter().enumerate() {
            let width = plane_size(self.shadow.size(), index).width;
            for changed in &self.changed {
                let rect = plane_rect(*changed, index);
                queue.write_texture(
                    wgpu::TexelCopyTextureInfo {
                        texture: plane,
                        mip_level: 0,
                        origin: wgpu::Origin3d { x: rect.x, y: rect.y, z: 0 },
                        aspect: wgpu::TextureAspect::All,
                    },
                    &self.shadow.plane(index)[(rect.y * width + rect.x) as usize..],
                    wgpu::TexelCopyBufferLayout {
                        offset: 0,
                        bytes_per_row: Some(width),
                        rows_per_image: Some(rect.height),
                    },
                    extent(Size::new(rect.width, rect.height)),
                );
            }
        }
    }

    /// Luma rectangles that the last update changed.
    pub(super) fn changed(&self) -> &[Rect] {
        &self.changed
    }

    /// Says where and how it is drawn from now on.
    pub(super) fn set_style(&mut self, queue: &wgpu::Queue, style: PictureStyle) {
        let size = self.shadow.size();
        if self.style == Some(style) || size.area() == 0 {
            return;
        }
        let Rect { x, y, width, height } = style.rect;
        let instance = Instance {
            rect: [x as f32, y as f32, width as f32, height as f32],
            source: [size.width as f32, size.height as f32],
            style: [style.colour, style.brightness],
        };
        queue.write_buffer(&self.instance, 0, bytemuck::bytes_of(&instance));
        self.style = Some(style);
    }

    /// Draws it; the pass's scissor must be set.
    pub(super) fn draw(&self, pass: &mut wgpu::RenderPass<'_>, shared: &Pictures) {
        let (Some((_, group)), Some(style)) = (&self.planes, &self.style) else { return };
        let small = style.rect.width * 2 < self.shadow.size().width;
        pass.set_pipeline(if small { &shared.small_pipeline } else { &shared.pipeline });
        pass.set_bind_group(1, group, &[]);
        pass.set_vertex_buffer(0, self.instance.slice(..));
        pass.draw(0..4, 0..1);
    }
}
