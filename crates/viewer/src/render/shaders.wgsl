// Quads and pictures on the retained target. Colours are mixed as they are stored (no linear light).

struct Target { size: vec2<f32> };
@group(0) @binding(0) var<uniform> target_size: Target;

fn corner(vertex: u32) -> vec2<f32> {
    return vec2<f32>(f32(vertex & 1u), f32(vertex >> 1u));
}

fn to_clip(pixel: vec2<f32>) -> vec4<f32> {
    let unit = pixel / target_size.size;
    return vec4<f32>(unit.x * 2.0 - 1.0, 1.0 - unit.y * 2.0, 0.0, 1.0);
}

// --- rounded rectangles -------------------------------------------------------------------------------------------

struct QuadIn {
    @location(0) rect: vec4<f32>,     // x, y, width, height in pixels
    @location(1) fill: vec4<f32>,     // straight alpha
    @location(2) line: vec4<f32>,
    @location(3) shape: vec2<f32>,    // radius, width of the line inside the edge
};

struct QuadOut {
    @builtin(position) position: vec4<f32>,
    @location(0) from_middle: vec2<f32>,
    @location(1) @interpolate(flat) half_size: vec2<f32>,
    @location(2) @interpolate(flat) fill: vec4<f32>,
    @location(3) @interpolate(flat) line: vec4<f32>,
    @location(4) @interpolate(flat) shape: vec2<f32>,
};

@vertex fn quad_vertex(@builtin(vertex_index) vertex: u32, in: QuadIn) -> QuadOut {
    var out: QuadOut;
    let at = corner(vertex);
    out.position = to_clip(in.rect.xy + at * in.rect.zw);
    out.half_size = in.rect.zw * 0.5;
    out.from_middle = (at - 0.5) * in.rect.zw;
    out.fill = in.fill;
    out.line = in.line;
    out.shape = in.shape;
    return out;
}

@fragment fn quad_fragment(in: QuadOut) -> @location(0) vec4<f32> {
    // Signed distance to a rounded rectangle: negative inside (Quilez, "2D distance functions").
    let beyond = abs(in.from_middle) - in.half_size + in.shape.x;
    let distance = length(max(beyond, vec2<f32>(0.0))) + min(max(beyond.x, beyond.y), 0.0) - in.shape.x;
    let inside = clamp(0.5 - distance, 0.0, 1.0);
    let filled = clamp(0.5 - distance - in.shape.y, 0.0, 1.0);
    let colour = mix(in.line, in.fill, filled);
    return vec4<f32>(colour.rgb * colour.a * inside, colour.a * inside);
}

// --- pictures -----------------------------------------------------------------------------------------------------

struct PictureIn {
    @location(0) rect: vec4<f32>,     // x, y, width, height in pixels
    @location(1) source: vec2<f32>,   // luma pixels
    @location(2) style: vec2<f32>,    // colour 0..1, brightness 0..1
};

struct PictureOut {
    @builtin(position) position: vec4<f32>,
    @location(0) uv: vec2<f32>,
    @location(1) @interpolate(flat) source: vec2<f32>,
    @location(2) @interpolate(flat) ratio: vec2<f32>,  // target pixels per luma pixel
    @location(3) @interpolate(flat) style: vec2<f32>,
};

@group(1) @binding(0) var luma: texture_2d<f32>;
@group(1) @binding(1) var blue: texture_2d<f32>;
@group(1) @binding(2) var red: texture_2d<f32>;
@group(1) @binding(3) var linear: sampler;

@vertex fn picture_vertex(@builtin(vertex_index) vertex: u32, in: PictureIn) -> PictureOut {
    var out: PictureOut;
    let at = corner(vertex);
    out.position = to_clip(in.rect.xy + at * in.rect.zw);
    out.uv = at;
    out.source = in.source;
    out.ratio = in.rect.zw / in.source;
    out.style = in.style;
    return out;
}

// BT.601, limited range: Y 16..235, chroma 16..240 around 128 (ITU-R BT.601-7, 2.5).
fn rgb(y: f32, u: f32, v: f32) -> vec3<f32> {
    let l = (y - 16.0 / 255.0) * 1.1643836;
    let b = u - 128.0 / 255.0;
    let r = v - 128.0 / 255.0;
    return clamp(vec3<f32>(l + 1.5960268 * r, l - 0.3917623 * b - 0.8129676 * r, l + 2.0172321 * b),
        vec3<f32>(0.0), vec3<f32>(1.0));
}

fn sample(uv: vec2<f32>) -> vec3<f32> {
    return rgb(textureSampleLevel(luma, linear, uv, 0.0).r, textureSampleLevel(blue, linear, uv, 0.0).r,
        textureSampleLevel(red, linear, uv, 0.0).r);
}

fn styled(colour: vec3<f32>, style: vec2<f32>) -> vec4<f32> {
    let grey = vec3<f32>(dot(colour, vec3<f32>(0.299, 0.587, 0.114)));
    return vec4<f32>(mix(grey, colour, style.x) * style.y, 1.0);
}

// Enlarged: each source pixel is a flat square, with an edge one target pixel wide. Made smaller: plain bilinear.
@fragment fn picture_fragment(in: PictureOut) -> @location(0) vec4<f32> {
    let at = in.uv * in.source;
    let seam = floor(at + 0.5);
    let sharp = seam + clamp((at - seam) * max(in.ratio, vec2<f32>(1.0)), vec2<f32>(-0.5), vec2<f32>(0.5));
    return styled(sample(sharp / in.source), in.style);
}

// Made smaller than half: four bilinear taps, so that no source pixel is left out.
@fragment fn small_picture_fragment(in: PictureOut) -> @location(0) vec4<f32> {
    let tap = 0.25 / (in.ratio * in.source);
    let sum = sample(in.uv + vec2<f32>(-tap.x, -tap.y)) + sample(in.uv + vec2<f32>(tap.x, -tap.y))
        + sample(in.uv + vec2<f32>(-tap.x, tap.y)) + sample(in.uv + vec2<f32>(tap.x, tap.y));
    return styled(sum * 0.25, in.style);
}
