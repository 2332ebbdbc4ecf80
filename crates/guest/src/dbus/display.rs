//! The listener that QEMU sends its picture to.

use super::{answer_properties, done};
use crate::shared::Shared;
use futures::StreamExt as _;
use loco_model::{Rect, Size};
use std::sync::Arc;
use zbus::message::Message;
use zbus::{Connection, MessageStream};

/// pixman's `PIXMAN_x8r8g8b8` and `PIXMAN_a8r8g8b8`: 32 bits, blue in the lowest byte.
const FORMATS: [u32; 2] = [0x2002_0888, 0x2002_8888];

/// Serves until QEMU closes the connection. The pixels go to the sink out of the received message, without a copy.
pub(super) async fn serve(mut messages: MessageStream, shared: Arc<Shared>) {
    let connection = Connection::from(&messages);
    while let Some(message) = messages.next().await {
        let handled = match &message {
            Ok(message) => take(&connection, message, &shared).await,
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = handled {
            // One bad message says nothing about the next; a broken connection ends the stream.
            tracing::warn!(%error, "display: a message of QEMU was not understood");
        }
    }
    shared.display_disabled();
}

async fn take(connection: &Connection, message: &Message, shared: &Shared) -> zbus::Result<()> {
    if answer_properties(connection, message).await? {
        return Ok(());
    }
    let header = message.header();
    let body = message.body();
    match header.member().map(|name| name.as_str()) {
        Some("Scanout") => {
            let (width, height, stride, format, pixels): (u32, u32, u32, u32, &[u8]) = body.deserialize()?;
            if usable(Size::new(width, height), stride, format, pixels) {
                shared.scanout(Size::new(width, height), stride, pixels);
            }
        }
        Some("Update") => {
            let (x, y, width, height, stride, format, pixels): (i32, i32, i32, i32, u32, u32, &[u8]) =
                body.deserialize()?;
            let sides = [x, y, width, height].map(|v| u32::try_from(v).ok());
            if let [Some(x), Some(y), Some(width), Some(height)] = sides
                && usable(Size::new(width, height), stride, format, pixels)
            {
                shared.update(Rect::new(x, y, width, height), stride, pixels);
            }
        }
        Some("Disable") => shared.display_disabled(),
        // The guest's cursor shape (only cards with a hardware cursor): `MouseSet`, `CursorDefine`. Memory of a GPU:
        // never sent to a listener that did not ask for it.
        _ => {}
    }
    done(connection, message).await
}

/// Whether the rows are there and in the one format that sinks know.
fn usable(size: Size, stride: u32, format: u32, pixels: &[u8]) -> bool {
    let row = u64::from(size.width) * 4;
    let needed = u64::from(size.height.saturating_sub(1)) * u64::from(stride) + row;
    let good =
        FORMATS.contains(&format) && size.area() > 0 && u64::from(stride) >= row && pixels.len() as u64 >= needed;
    if !good {
        tracing::warn!(?size, stride, format, bytes = pixels.len(), "display: a picture that cannot be used");
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_or_foreign_pictures_are_refused() {
        let size = Size::new(4, 2);
        assert!(usable(size, 16, FORMATS[0], &[0; 32]));
        assert!(usable(size, 20, FORMATS[0], &[0; 36]), "the last row may end with its last pixel");
        assert!(!usable(size, 16, FORMATS[0], &[0; 31]));
        assert!(!usable(size, 15, FORMATS[0], &[0; 64]));
        assert!(!usable(size, 16, 0x1000_0565, &[0; 32]));
        assert!(!usable(Size::new(0, 2), 16, FORMATS[0], &[0; 32]));
    }
}
