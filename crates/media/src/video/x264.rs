//! x264 without GStreamer between: its own interface takes a hint that an element has no way to give, which macroblocks
//! did not change. On a desktop that is nearly all of them, and it halves the cost of a frame.
//!
//! The library is found when running, as a plugin would be; without it the element `x264enc` does the same work.

mod library;

use super::canvas::{BLOCK_SIDE, Canvas};
use super::convert::I420Planes;
use super::encoder::{BURST_MS, Encoded, FINEST_QUANTISER, NOMINAL_FPS, OTHER_SIZE, Source};
use crate::error::MediaError;
use bytes::Bytes;
pub(super) use library::library;
use library::{Handle, Parameters, Picture};
use loco_model::Rect;

/// Flag of a macroblock that is as it was in the picture before (`X264_MBINFO_CONSTANT`).
const UNCHANGED: u8 = 1;
/// Rows of the encoder's picture begin at multiples of this.
const ALIGNMENT: usize = 64;

/// An encoder for one picture size.
pub(super) struct Encoder {
    handle: Handle,
    parameters: Parameters,
    planes: Planes,
    /// A flag for each macroblock, row by row.
    unchanged: Vec<u8>,
}

/// The picture as it was last encoded, in I420; only what changed since is converted.
struct Planes {
    bytes: Vec<u8>,
    y_stride: usize,
    uv_stride: usize,
    u_offset: usize,
    v_offset: usize,
}

impl Planes {
    fn new(width: usize, height: usize) -> Self {
        let (y_stride, uv_stride) = (width.next_multiple_of(ALIGNMENT), width.div_ceil(2).next_multiple_of(ALIGNMENT));
        let (u_offset, chroma) = (y_stride * height, uv_stride * height.div_ceil(2));
        let bytes = vec![0; u_offset + 2 * chroma];
        Self { bytes, y_stride, uv_stride, u_offset, v_offset: u_offset + chroma }
    }

    fn split(&mut self) -> I420Planes<'_> {
        let (y, chroma) = self.bytes.split_at_mut(self.u_offset);
        let (u, v) = chroma.split_at_mut(self.v_offset - self.u_offset);
        I420Planes { y, u, v, y_stride: self.y_stride, uv_stride: self.uv_stride }
    }
}

impl Encoder {
    /// `rate` in bits a second.
    ///
    /// # Errors
    /// When the library is missing or refuses the settings.
    pub(super) fn new(source: &Source, rate: u64) -> Result<Self, MediaError> {
        let failed = |reason: String| MediaError::Codec { element: "libx264", reason };
        let library = library().map_err(|reason| failed(reason.clone()))?;
        let mut parameters = library.parameters().map_err(failed)?;
        parameters.set_picture(source.width, source.height);
        let fps = format!("{NOMINAL_FPS}/1");
        let finest = FINEST_QUANTISER.to_string();
        // No frame is kept back, no second thread, no periodic key frames; colours as `convert` makes them.
        for (name, value) in [
            ("threads", "1"),
            ("sliced-threads", "0"),
            ("keyint", "1000000"),
            ("scenecut", "0"),
            ("fps", &fps),
            ("force-cfr", "1"),
            ("qpmin", &finest),
            ("fullrange", "off"),
            ("colorprim", "smpte170m"),
            ("transfer", "bt709"),
            ("colormatrix", "smpte170m"),
            ("log", "-1"),
        ] {
            parameters.set(name, value).map_err(failed)?;
        }
        set_rate(&mut parameters, rate).map_err(failed)?;
        parameters.expect_unchanged_macroblocks();
        parameters.restrict_to_baseline().map_err(failed)?;
        let handle = parameters.open().map_err(failed)?;
        let (columns, rows) = source.blocks();
        let planes = Planes::new(source.width as usize, source.height as usize);
        Ok(Self { handle, parameters, planes, unchanged: vec![UNCHANGED; columns * rows] })
    }

    /// From the next frame on; bits a second.
    pub(super) fn set_rate(&mut self, rate: u64) -> Result<(), MediaError> {
        let failed = |reason: String| MediaError::Codec { element: "libx264", reason };
        set_rate(&mut self.parameters, rate).map_err(failed)?;
        self.handle.reconfigure(&mut self.parameters).map_err(failed)
    }

    /// As [`super::Encoder::encode`]; the error is the reason alone.
    pub(super) fn encode(
        &mut self,
        canvas: &Canvas,
        source: &mut Source,
        presented_us: u64,
        key: bool,
    ) -> Result<Option<Encoded>, String> {
        let Self { handle, planes, unchanged, .. } = self;
        unchanged.fill(UNCHANGED);
        let (columns, _) = source.blocks();
        let mark = |rect: Rect| mark_changed(unchanged, columns, rect);
        source.convert(canvas, &mut planes.split(), mark).ok_or(OTHER_SIZE)?;
        let views = planes.split();
        let strides = [views.y_stride, views.uv_stride, views.uv_stride];
        let picture = Picture { planes: [views.y, views.u, views.v], strides, unchanged, presented_us, key };
        let encoded = handle.encode(picture)?;
        Ok(encoded.map(|(bytes, is_key)| Encoded { bytes: Bytes::copy_from_slice(bytes), is_key }))
    }
}

/// Takes the flag of every macroblock that `rect` touches. Those of a last odd column or row, which is not encoded, have
/// none.
fn mark_changed(unchanged: &mut [u8], columns: usize, rect: Rect) {
    let first = (rect.x / BLOCK_SIDE) as usize;
    let end = (rect.right().div_ceil(BLOCK_SIDE) as usize).min(columns);
    for row in rect.y / BLOCK_SIDE..rect.bottom().div_ceil(BLOCK_SIDE) {
        let row = row as usize * columns;
        if let Some(flags) = unchanged.get_mut(row + first..row + end) {
            flags.fill(0);
        }
    }
}

fn set_rate(parameters: &mut Parameters, rate: u64) -> Result<(), String> {
    let kbit = (rate / 1_000).clamp(1, 1_000_000);
    let kbit_text = kbit.to_string();
    parameters.set("bitrate", &kbit_text)?;
    parameters.set("vbv-maxrate", &kbit_text)?;
    parameters.set("vbv-bufsize", &(kbit * u64::from(BURST_MS) / 1_000).max(1).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_loses_its_flag() {
        let mut flags = vec![UNCHANGED; 4 * 3];
        mark_changed(&mut flags, 4, Rect::new(16, 16, 32, 16));
        mark_changed(&mut flags, 4, Rect::new(48, 32, 17, 1));
        mark_changed(&mut flags, 4, Rect::new(0, 48, 16, 1));
        assert_eq!(flags, [1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0]);
    }
}
