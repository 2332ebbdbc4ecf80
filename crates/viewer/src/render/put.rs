//! An X11 window that takes pixels: what changed, and nothing else.

use loco_model::Rect;
use parking_lot::Mutex;
use winit::raw_window_handle::{HasWindowHandle, RawWindowHandle};
use x11rb::connection::{Connection as _, RequestConnection as _};
use x11rb::errors::ReplyError;
use x11rb::protocol::xproto::{ConnectionExt as _, CreateGCAux, Gcontext, ImageFormat, ImageOrder, VisualClass};
use x11rb::rust_connection::RustConnection;

/// Of a `PutImage` request before its pixels, with the length field of large requests.
const HEADER_BYTES: usize = 28;

/// A window of this process, over a connection of its own.
pub struct PutWindow {
    connection: RustConnection,
    window: u32,
    context: Gcontext,
    depth: u8,
    /// Rows without gaps, as the server wants them.
    rows: Mutex<Vec<u8>>,
}

impl PutWindow {
    /// The same window, where it is one of X11 whose pixels are blue, green, red in 32 bits; `None` otherwise.
    #[must_use]
    pub fn of(window: &impl HasWindowHandle) -> Option<Self> {
        let id = match window.window_handle().ok()?.as_raw() {
            RawWindowHandle::Xlib(handle) => u32::try_from(handle.window).ok()?,
            RawWindowHandle::Xcb(handle) => handle.window.get(),
            _ => return None,
        };
        match Self::open(id) {
            Ok(window) => window,
            Err(error) => {
                tracing::debug!(%error, "this window takes no pixels");
                None
            }
        }
    }

    fn open(window: u32) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let (connection, _) = x11rb::connect(None)?;
        let depth = connection.get_geometry(window)?.reply()?.depth;
        let visual = connection.get_window_attributes(window)?.reply()?.visual;
        let setup = connection.setup();
        let known = setup.image_byte_order == ImageOrder::LSB_FIRST
            && setup.pixmap_formats.iter().any(|format| format.depth == depth && format.bits_per_pixel == 32)
            && setup.roots.iter().flat_map(|screen| &screen.allowed_depths).flat_map(|depth| &depth.visuals).any(|v| {
                v.visual_id == visual
                    && v.class == VisualClass::TRUE_COLOR
                    && (v.red_mask, v.green_mask, v.blue_mask) == (0xff_0000, 0xff00, 0xff)
            });
        if !known {
            return Ok(None);
        }
        let context = connection.generate_id()?;
        connection.create_gc(context, window, &CreateGCAux::new().graphics_exposures(0))?.check()?;
        Ok(Some(Self { connection, window, context, depth, rows: Mutex::default() }))
    }

    /// Puts `pixels` (rows of blue, green, red, unused, `row_bytes` apart) at `rect`.
    pub(super) fn put(&self, rect: Rect, row_bytes: usize, pixels: &[u8]) -> Result<(), ReplyError> {
        let width_bytes = rect.width as usize * 4;
        let most_rows = (self.connection.maximum_request_bytes() - HEADER_BYTES) / width_bytes.max(1);
        let mut rows = self.rows.lock();
        for (index, part) in pixels.chunks(row_bytes * most_rows.max(1)).enumerate() {
            rows.clear();
            for row in part.chunks(row_bytes) {
                rows.extend_from_slice(&row[..width_bytes]);
            }
            let height = rows.len() / width_bytes;
            let y = rect.y as usize + index * most_rows;
            // A window has fewer than 32768 pixels on a side.
            let (x, y, width, height) = (rect.x as i16, y as i16, rect.width as u16, height as u16);
            let format = ImageFormat::Z_PIXMAP;
            self.connection.put_image(format, self.window, self.context, width, height, x, y, 0, self.depth, &rows)?;
        }
        Ok(())
    }

    /// Returns when the server has put everything, so that no more than one picture is ever on its way.
    pub(super) fn finish(&self) -> Result<(), ReplyError> {
        self.connection.get_input_focus()?.reply().map(drop)
    }
}
