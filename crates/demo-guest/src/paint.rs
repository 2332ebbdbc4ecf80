//! Software drawing with smooth edges into 32-bit pixels.
//!
//! One mechanism draws every shape: polygons with exact coverage in x and four samples in y. Coordinates are units of a
//! picture of 640x480, whatever its real size.
//!
//! Beside its pixels the town's picture has their *depths*: how far down the thing stands that a pixel belongs to. What
//! moves is drawn only where it stands further down, so trains pass behind houses.

use crate::geometry::Rect;
use crate::math::{cos, sin};

/// A place in units.
pub(crate) type Point = (f32, f32);

/// Most corners that a polygon may have.
const MAXIMUM_CORNERS: usize = 72;
/// Widest picture.
const MAXIMUM_WIDTH: usize = 1024;

/// Where things are drawn.
pub(crate) struct Canvas<'a> {
    pixels: &'a mut [u32],
    /// Of a picture without transparency; a sprite has its coverage in the pixels' top byte instead.
    depths: Option<&'a mut [u8]>,
    width: i32,
    clip: Rect,
    /// Pixels to a unit.
    scale: f32,
    /// Unit that lies at the left and at the top edge.
    origin: Point,
    /// Depth of what is drawn.
    depth: u8,
    /// Kept here, so that they are not cleared for each shape.
    edges: [Edge; MAXIMUM_CORNERS],
    coverage: [u16; MAXIMUM_WIDTH],
}

impl<'a> Canvas<'a> {
    /// The town's picture; only `clip` changes.
    pub(crate) fn picture(pixels: &'a mut [u32], depths: &'a mut [u8], width: i32, clip: Rect) -> Self {
        let height = pixels.len().min(depths.len()) as i32 / width;
        let clip = clip.intersection(Rect::new(0, 0, width, height));
        Self::new(pixels, Some(depths), width, clip, width as f32 / 640.0, (0.0, 0.0))
    }

    /// A transparent sprite of `width` x `height` pixels whose corner is at the unit `origin`.
    pub(crate) fn sprite(pixels: &'a mut [u32], width: i32, height: i32, scale: f32, origin: Point) -> Self {
        pixels.fill(0);
        Self::new(pixels, None, width, Rect::new(0, 0, width, height), scale, origin)
    }

    fn new(
        pixels: &'a mut [u32],
        depths: Option<&'a mut [u8]>,
        width: i32,
        clip: Rect,
        scale: f32,
        origin: Point,
    ) -> Self {
        let edges = [Edge::default(); MAXIMUM_CORNERS];
        Self { pixels, depths, width, clip, scale, origin, depth: 0, edges, coverage: [0; MAXIMUM_WIDTH] }
    }

    /// What is drawn from now on stands at `unit_y`; 0 is flat ground.
    pub(crate) fn stand_at(&mut self, unit_y: f32) {
        self.depth = depth_at(unit_y);
    }

    /// What is drawn from now on has exactly this depth.
    pub(crate) fn set_depth(&mut self, depth: u8) {
        self.depth = depth;
    }

    /// The pixels that change.
    pub(crate) fn clip(&self) -> Rect {
        self.clip
    }

    /// Pixels to a unit.
    pub(crate) fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether nothing in the given unit rectangle can be seen.
    pub(crate) fn hides(&self, x0: f32, y0: f32, x1: f32, y1: f32) -> bool {
        let clip = &self.clip;
        let (sx, sy) = (|x: f32| (x - self.origin.0) * self.scale, |y: f32| (y - self.origin.1) * self.scale);
        sx(x1) < clip.left as f32
            || sy(y1) < clip.top as f32
            || sx(x0) > clip.right() as f32
            || sy(y0) > clip.bottom() as f32
    }

    /// Sets one pixel to a colour, at depth 0.
    pub(crate) fn set(&mut self, x: i32, y: i32, colour: u32) {
        let at = (y * self.width + x) as usize;
        self.pixels[at] = colour;
        if let Some(depths) = &mut self.depths {
            depths[at] = 0;
        }
    }

    /// Fills a polygon (even-odd); `alpha` 0..=255.
    pub(crate) fn fill(&mut self, corners: &[Point], colour: u32, alpha: u32) {
        let count = corners.len().min(MAXIMUM_CORNERS);
        let fixed = |(x, y): Point| {
            let to = |v: f32| (v * self.scale * 256.0) as i32;
            (to(x - self.origin.0), to(y - self.origin.1))
        };
        let (mut top, mut bottom, mut left, mut right) = (i32::MAX, i32::MIN, i32::MAX, i32::MIN);
        for i in 0..count {
            let (from, to) = (fixed(corners[i]), fixed(corners[(i + 1) % count]));
            self.edges[i] = Edge::new(from, to);
            (top, bottom) = (top.min(from.1), bottom.max(from.1));
            (left, right) = (left.min(from.0), right.max(from.0));
        }
        let x0 = (left >> 8).max(self.clip.left);
        let x1 = ((right >> 8) + 1).min(self.clip.right());
        let y0 = (top >> 8).max(self.clip.top);
        let y1 = ((bottom >> 8) + 1).min(self.clip.bottom());
        if x0 >= x1 || y0 >= y1 {
            return;
        }
        let edges = &self.edges[..count];
        let covered = &mut self.coverage[..(x1 - x0) as usize];
        for y in y0..y1 {
            covered.fill(0);
            for sample in 0..4 {
                add_line(covered, x0, edges, y * 256 + 32 + sample * 64);
            }
            let start = (y * self.width + x0) as usize;
            let columns = start..start + covered.len();
            let pixels = &mut self.pixels[columns.clone()];
            match &mut self.depths {
                Some(depths) => blend_row(pixels, &mut depths[columns], covered, colour, alpha, self.depth),
                None => cover_row(pixels, covered, colour, alpha),
            }
        }
    }

    /// Fills a rectangle.
    pub(crate) fn rect(&mut self, x: f32, y: f32, w: f32, h: f32, colour: u32) {
        self.fill(&[(x, y), (x + w, y), (x + w, y + h), (x, y + h)], colour, 255);
    }

    /// Fills a rectangle with round corners.
    pub(crate) fn rounded(&mut self, x: f32, y: f32, w: f32, h: f32, radius: f32, colour: u32, alpha: u32) {
        const STEPS: usize = 5;
        let mut corners = [(0.0, 0.0); 4 * STEPS];
        for (i, corner) in corners.iter_mut().enumerate() {
            let quarter = i / STEPS;
            let turn = quarter as f32 * 0.25 + (i % STEPS) as f32 * 0.25 / (STEPS - 1) as f32;
            let cx = if quarter == 0 || quarter == 3 { x + w - radius } else { x + radius };
            let cy = if quarter < 2 { y + h - radius } else { y + radius };
            *corner = (cx + radius * cos(turn), cy + radius * sin(turn));
        }
        self.fill(&corners, colour, alpha);
    }

    /// Fills an ellipse.
    pub(crate) fn ellipse(&mut self, x: f32, y: f32, rx: f32, ry: f32, colour: u32, alpha: u32) {
        const STEPS: usize = 24;
        let mut corners = [(0.0, 0.0); STEPS];
        for (i, corner) in corners.iter_mut().enumerate() {
            let turn = i as f32 / STEPS as f32;
            *corner = (x + rx * cos(turn), y + ry * sin(turn));
        }
        self.fill(&corners, colour, alpha);
    }

    /// Fills a circle.
    pub(crate) fn circle(&mut self, x: f32, y: f32, radius: f32, colour: u32) {
        self.ellipse(x, y, radius, radius, colour, 255);
    }

    /// Draws a straight line with flat ends.
    pub(crate) fn line(&mut self, from: Point, to: Point, width: f32, colour: u32, alpha: u32) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = crate::math::sqrt(dx * dx + dy * dy);
        if length == 0.0 {
            return;
        }
        let (nx, ny) = (-dy / length * width / 2.0, dx / length * width / 2.0);
        let corners =
            [(from.0 + nx, from.1 + ny), (to.0 + nx, to.1 + ny), (to.0 - nx, to.1 - ny), (from.0 - nx, from.1 - ny)];
        self.fill(&corners, colour, alpha);
    }

    /// Fills the part of a ring around `centre` from turn `from` to turn `to`.
    pub(crate) fn arc(&mut self, centre: Point, inner: f32, outer: f32, from: f32, to: f32, colour: u32) {
        const STEPS: usize = 17;
        let mut corners = [(0.0, 0.0); 2 * STEPS];
        for i in 0..STEPS {
            let turn = from + (to - from) * i as f32 / (STEPS - 1) as f32;
            let (c, s) = (cos(turn), sin(turn));
            corners[i] = (centre.0 + outer * c, centre.1 + outer * s);
            corners[2 * STEPS - 1 - i] = (centre.0 + inner * c, centre.1 + inner * s);
        }
        self.fill(&corners, colour, 255);
    }
}

/// The depth byte of what stands at `unit_y`; 1 and up, because 0 is flat ground.
pub(crate) fn depth_at(unit_y: f32) -> u8 {
    (unit_y / 2.0).clamp(1.0, 240.0) as u8
}

#[derive(Clone, Copy, Default)]
struct Edge {
    top: i32,
    bottom: i32,
    x_at_top: i32,
    /// Change of x per 1/256 line, 1/65536 of x's unit.
    slope: i64,
}

impl Edge {
    fn new(a: (i32, i32), b: (i32, i32)) -> Self {
        let (a, b) = if a.1 <= b.1 { (a, b) } else { (b, a) };
        let rise = i64::from(b.1 - a.1);
        let slope = if rise == 0 { 0 } else { (i64::from(b.0 - a.0) << 16) / rise };
        Self { top: a.1, bottom: b.1, x_at_top: a.0, slope }
    }
}

/// Adds a quarter of the coverage of the line `y` (in 1/256 pixel) to the pixels from column `left` on.
fn add_line(covered: &mut [u16], left: i32, edges: &[Edge], y: i32) {
    let mut crossings = [0i32; 16];
    let mut count = 0;
    for edge in edges {
        if edge.top <= y && y < edge.bottom && count < crossings.len() {
            let x = edge.x_at_top + ((i64::from(y - edge.top) * edge.slope) >> 16) as i32;
            let mut at = count;
            while at > 0 && crossings[at - 1] > x {
                crossings[at] = crossings[at - 1];
                at -= 1;
            }
            crossings[at] = x;
            count += 1;
        }
    }
    let limit = covered.len() as i32 * 256;
    for pair in crossings[..count].chunks_exact(2) {
        add_span(covered, (pair[0] - left * 256).max(0), (pair[1] - left * 256).min(limit));
    }
}

/// Adds a quarter of the coverage of a span, in 1/256 pixel.
fn add_span(covered: &mut [u16], from: i32, to: i32) {
    if from >= to {
        return;
    }
    let (first, last) = ((from >> 8) as usize, (to >> 8) as usize);
    if first == last {
        covered[first] += ((to - from) >> 2) as u16;
        return;
    }
    covered[first] += ((256 - (from & 255)) >> 2) as u16;
    for inner in &mut covered[first + 1..last] {
        *inner += 64;
    }
    if to & 255 != 0 {
        covered[last] += ((to & 255) >> 2) as u16;
    }
}

/// Draws over a row of a picture. What hides half of a pixel or more gives it its depth; shadows do not.
fn blend_row(pixels: &mut [u32], depths: &mut [u8], coverage: &[u16], colour: u32, alpha: u32, depth: u8) {
    for ((pixel, under), covered) in pixels.iter_mut().zip(depths).zip(coverage) {
        let weight = (u32::from(*covered) * (alpha + 1)) >> 8;
        if weight == 0 {
            continue;
        }
        *pixel = if weight >= 250 { colour } else { mix(*pixel, colour, weight) };
        if weight >= 128 && alpha >= 128 {
            *under = depth;
        }
    }
}

/// Draws over a row of a sprite.
fn cover_row(pixels: &mut [u32], coverage: &[u16], colour: u32, alpha: u32) {
    for (pixel, covered) in pixels.iter_mut().zip(coverage) {
        let weight = (u32::from(*covered) * (alpha + 1)) >> 8;
        if weight > 0 {
            *pixel = mix(*pixel, colour | 0xff00_0000, weight);
        }
    }
}

/// `from` and `to` mixed in all four bytes; `weight` of `to` is 0..=256.
pub(crate) fn mix(from: u32, to: u32, weight: u32) -> u32 {
    let part = |shift: u32| {
        let (a, b) = (from >> shift & 0xff_00ff, to >> shift & 0xff_00ff);
        (a * (256 - weight) + b * weight) >> 8 & 0xff_00ff
    };
    part(8) << 8 | part(0)
}

/// A colour made lighter (towards white, `percent` > 0) or darker.
pub(crate) fn shade(colour: u32, percent: i32) -> u32 {
    let weight = percent.unsigned_abs() * 256 / 100;
    mix(colour, if percent > 0 { 0xff_ffff } else { 0 }, weight) & 0xff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_of_a_shifted_rectangle_is_exact() {
        let mut pixels = vec![0; 640 * 480];
        let all = Rect::new(0, 0, 640, 480);
        Canvas::picture(&mut pixels, &mut [0; 640 * 480], 640, all).rect(10.5, 20.25, 2.0, 1.0, 0x00ff00);
        let green = |x: usize, y: usize| pixels[y * 640 + x] >> 8 & 0xff;
        for (x, y, percent) in [(10, 20, 37), (11, 20, 75), (12, 20, 37), (11, 21, 25), (9, 20, 0), (11, 22, 0)] {
            assert!(green(x, y).abs_diff(percent * 255 / 100) <= 2, "{x},{y}: {}", green(x, y));
        }
    }

    #[test]
    fn nothing_outside_the_clip_changes() {
        let (mut pixels, mut depths) = (vec![0x123456; 800 * 600], vec![0; 800 * 600]);
        let clip = Rect::new(100, 100, 50, 40);
        let mut canvas = Canvas::picture(&mut pixels, &mut depths, 800, clip);
        canvas.circle(100.0, 90.0, 300.0, 0xff_ffff);
        canvas.line((-50.0, -50.0), (900.0, 700.0), 30.0, 0xff0000, 255);
        for y in 0..600 {
            for x in 0..800 {
                let inside = (100..150).contains(&x) && (100..140).contains(&y);
                assert_eq!(pixels[y * 800 + x] != 0x123456, inside, "{x},{y}");
            }
        }
    }

    #[test]
    fn any_polygon_is_safe() {
        let mut random = crate::math::Random::new(1);
        let (mut pixels, mut depths) = (vec![0; 1024 * 768], vec![0; 1024 * 768]);
        for _ in 0..500 {
            let corners: Vec<Point> = (0..3 + random.below(90))
                .map(|_| (random.between(-2000.0, 2000.0), random.between(-2000.0, 2000.0)))
                .collect();
            Canvas::picture(&mut pixels, &mut depths, 1024, Rect::new(-5, -5, 4000, 4000))
                .fill(&corners, 0xffffff, 200);
        }
    }

    #[test]
    fn sprites_hold_premultiplied_colours() {
        let mut pixels = vec![0; 20 * 20];
        Canvas::sprite(&mut pixels, 20, 20, 1.0, (-10.0, -10.0)).ellipse(0.0, 0.0, 5.0, 5.0, 0xffffff, 128);
        assert_eq!(pixels[0], 0);
        let middle = pixels[10 * 20 + 10];
        assert!((126..=130).contains(&(middle >> 24)));
        assert_eq!(middle >> 24, middle & 0xff);
    }
}
