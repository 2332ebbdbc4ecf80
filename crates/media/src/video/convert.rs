//! BGRx to I420 in the limited range of BT.601, in integers.
//!
//! Source: ITU-R BT.601-7 section 2.5, scaled by 256 (Y) as in Microsoft's "Recommended 8-Bit YUV Formats":
//! `Y = (66 R + 129 G + 25 B + 128) / 256 + 16`, `U = (-38 R - 74 G + 112 B + 128) / 256 + 128`,
//! `V = (112 R - 94 G - 18 B + 128) / 256 + 128`; chroma from the mean of 2x2 pixels.

use std::ops::Range;

/// The three planes of an I420 picture, writable. Chroma planes have half the width and height, rounded up.
pub(super) struct I420Planes<'a> {
    /// Luma.
    pub(super) y: &'a mut [u8],
    /// Blue difference.
    pub(super) u: &'a mut [u8],
    /// Red difference.
    pub(super) v: &'a mut [u8],
    /// Bytes from one row of luma to the next.
    pub(super) y_stride: usize,
    /// Bytes from one row of chroma to the next.
    pub(super) uv_stride: usize,
}

/// Converts the columns and rows `columns` x `rows` (both start even) of a picture that is `height` high and whose BGRx
/// rows are `bgrx_stride` bytes apart. Rows and columns beyond an odd edge repeat the last.
pub(super) fn bgrx_to_i420(
    bgrx: &[u8],
    bgrx_stride: usize,
    height: usize,
    columns: Range<usize>,
    rows: Range<usize>,
    planes: &mut I420Planes<'_>,
) {
    let halves = columns.start / 2..columns.end.div_ceil(2);
    let mut row = rows.start & !1;
    while row < rows.end {
        let pair = [row, (row + 1).min(height - 1)];
        let [upper, lower] =
            pair.map(|r| &bgrx[r * bgrx_stride + columns.start * 4..r * bgrx_stride + columns.end * 4]);
        luma_row(upper, &mut planes.y[row * planes.y_stride..][columns.clone()]);
        if pair[1] != row {
            luma_row(lower, &mut planes.y[pair[1] * planes.y_stride..][columns.clone()]);
        }
        let at = row / 2 * planes.uv_stride;
        chroma_row(upper, lower, &mut planes.u[at..][halves.clone()], &mut planes.v[at..][halves.clone()]);
        row += 2;
    }
}

// Plain loops over exact chunks: the compiler turns them into vector code at the crate's optimisation level.

fn luma_row(bgrx: &[u8], y: &mut [u8]) {
    for (pixel, y) in bgrx.as_chunks::<4>().0.iter().zip(y) {
        let [b, g, r, _] = pixel.map(u32::from);
        *y = ((66 * r + 129 * g + 25 * b + 128) / 256 + 16) as u8;
    }
}

fn chroma_row(upper: &[u8], lower: &[u8], u: &mut [u8], v: &mut [u8]) {
    let mix = |a: &[u8; 4], b: &[u8; 4], c: &[u8; 4], d: &[u8; 4]| {
        let sum = |i: usize| i32::from(a[i]) + i32::from(b[i]) + i32::from(c[i]) + i32::from(d[i]);
        let (b, g, r) = (sum(0), sum(1), sum(2)); // four pixels: divide by 1024 instead of 256
        let u = (112 * b - 74 * g - 38 * r + 512 + (128 << 10)) >> 10;
        let v = (112 * r - 94 * g - 18 * b + 512 + (128 << 10)) >> 10;
        (u as u8, v as u8)
    };
    let (upper_pairs, upper_rest) = upper.as_chunks::<8>();
    let (lower_pairs, lower_rest) = lower.as_chunks::<8>();
    for (((a, c), u), v) in upper_pairs.iter().zip(lower_pairs).zip(u.iter_mut()).zip(v.iter_mut()) {
        let split = |p: &[u8; 8]| ([p[0], p[1], p[2], p[3]], [p[4], p[5], p[6], p[7]]);
        let ((a, b), (c, d)) = (split(a), split(c));
        (*u, *v) = mix(&a, &b, &c, &d);
    }
    if let (Some(a), Some(c)) = (upper_rest.first_chunk::<4>(), lower_rest.first_chunk::<4>())
        && let (Some(u), Some(v)) = (u.last_mut(), v.last_mut())
    {
        (*u, *v) = mix(a, a, c, c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(
        width: usize,
        height: usize,
        bgrx: &[u8],
        columns: Range<usize>,
        rows: Range<usize>,
    ) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let (mut y, mut u, mut v) =
            (vec![0; width * height], vec![0; half_width * half_height], vec![0; half_width * half_height]);
        let mut planes = I420Planes { y: &mut y, u: &mut u, v: &mut v, y_stride: width, uv_stride: half_width };
        bgrx_to_i420(bgrx, width * 4, height, columns, rows, &mut planes);
        (y, u, v)
    }

    #[test]
    fn known_colours() {
        // 75 % bars and the ends, limited range, from the definition of BT.601.
        for ([b, g, r], [y, u, v]) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([0, 0, 255], [82, 90, 240]),
            ([0, 255, 0], [144, 54, 34]),
            ([255, 0, 0], [41, 240, 110]),
            ([191, 191, 191], [180, 128, 128]),
        ] {
            let (ys, us, vs) = convert(3, 3, &[b, g, r, 77].repeat(9), 0..3, 0..3);
            let near = |got: &[u8], want: u8| got.iter().all(|g| g.abs_diff(want) <= 1);
            assert!(near(&ys, y) && near(&us, u) && near(&vs, v), "{r} {g} {b}: {ys:?} {us:?} {vs:?}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_touched() {
        let (y, u, _) = convert(4, 6, &[255; 96], 0..4, 2..4);
        assert_eq!(y, [[0; 8], [235; 8], [0; 8]].concat());
        assert_eq!(u, [0, 0, 128, 128, 0, 0]);
        let (y, u, _) = convert(4, 2, &[255; 32], 2..4, 0..2);
        assert_eq!((y, u), (vec![0, 0, 235, 235, 0, 0, 235, 235], vec![0, 128]));
    }
}
