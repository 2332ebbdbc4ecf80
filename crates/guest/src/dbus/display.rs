//! The listener that QEMU sends its picture to.

use super::memory::SharedPicture;
use super::{answer_properties, done};
use crate::shared::Shared;
use futures::{FutureExt as _, StreamExt as _};
use loco_model::{Rect, Size};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use zbus::message::Message;
use zbus::names::MemberName;
use zbus::{Connection, MessageStream, OwnedFd};

/// QEMU shares the memory of a picture with a listener that has this: of text modes and of those with fewer than 32 bits,
/// which it keeps converted; pictures in the guest's own memory it sends as before.
const SHARED_MEMORY: &str = "org.qemu.Display1.Listener.Unix.Map";

/// Peers of the bus that listeners of the picture are, from this number on; the first ones are QEMU and we.
const FIRST_PEER: u32 = 10;

/// pixman's `PIXMAN_x8r8g8b8` and `PIXMAN_a8r8g8b8`: 32 bits, blue in the lowest byte.
const FORMATS: [u32; 2] = [0x2002_0888, 0x2002_8888];

/// Whether the picture is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Kept,
    /// It came whole.
    Whole,
    /// A part came that the last whole picture has no place for.
    Lost,
}

/// Registers a listener of the picture with QEMU.
pub(super) async fn register(bus: &Connection, number: u32) -> zbus::Result<MessageStream> {
    let listening = super::Listening { object: "Console_0", interface: "Console", method: "RegisterListener" };
    super::register(bus, FIRST_PEER.saturating_add(number), listening).await
}

/// Serves until QEMU closes the connection. The pixels go to the sink out of the received message, without a copy.
///
/// QEMU sends a whole picture only when the whole picture was drawn at once. A text mode that comes after a graphics mode
/// is drawn piece by piece, into a size that no listener was told. A new listener is: so then another takes over.
pub(super) async fn serve(bus: Connection, mut messages: MessageStream, shared: Arc<Shared>) {
    let mut announced = shared.announced.subscribe();
    let mut number = 0;
    // A new listener must be answered until it has got its picture: QEMU's main loop waits for it to say what it can.
    let mut fresh = true;
    let mut memory = None;
    // An order that was meant for an earlier QEMU.
    let _ = shared.redisplay.notified().now_or_never();
    loop {
        let lost = tokio::select! {
            biased;
            () = shared.redisplay.notified() => true,
            sync = listen(&mut messages, &shared, &mut memory, &mut fresh) => sync == Sync::Lost,
            Ok(()) = announced.changed(), if !fresh => {
                let told = *announced.borrow_and_update();
                told.is_some() && told != *shared.size.borrow()
            }
        };
        if lost {
            number += 1;
            tracing::debug!(number, announced = ?*shared.announced.borrow(), "display: asking for a whole picture");
            match register(&bus, number).await {
                // The one before is dropped only now.
                Ok(next) => (messages, memory, fresh) = (next, None, true),
                Err(error) => {
                    tracing::warn!(%error, "display: QEMU does not take another listener");
                    rest(&shared).await;
                }
            }
        } else if Connection::from(&messages).is_closed() {
            rest(&shared).await;
        }
    }
}

/// There is no picture until someone orders a new listener; when QEMU itself is gone, this task is ended.
async fn rest(shared: &Shared) {
    shared.display_disabled();
    shared.redisplay.notified().await;
    shared.redisplay.notify_one();
}

/// Returns when the picture is lost or has just come whole, or the connection is gone.
async fn listen(
    messages: &mut MessageStream,
    shared: &Shared,
    memory: &mut Option<SharedPicture>,
    fresh: &mut bool,
) -> Sync {
    let connection = Connection::from(&*messages);
    while let Some(message) = messages.next().await {
        let handled = match &message {
            Ok(message) => take(&connection, message, shared, memory).await,
            Err(error) => Err(error.clone()),
        };
        match handled {
            Ok(Sync::Whole) if *fresh => {
                *fresh = false;
                return Sync::Whole;
            }
            Ok(Sync::Lost) if !*fresh => return Sync::Lost,
            Ok(_) => {}
            // One bad message says nothing about the next; a broken connection ends the stream.
            Err(error) if connection.is_closed() => {
                tracing::debug!(%error, "display: QEMU has hung up");
            }
            Err(error) => tracing::warn!(%error, "display: a message of QEMU was not understood"),
        }
    }
    Sync::Kept
}

async fn take(
    connection: &Connection,
    message: &Message,
    shared: &Shared,
    memory: &mut Option<SharedPicture>,
) -> zbus::Result<Sync> {
    if answer_properties(connection, message, &[SHARED_MEMORY]).await? {
        return Ok(Sync::Kept);
    }
    let mut sync = Sync::Kept;
    let header = message.header();
    let body = message.body();
    match header.member().map(MemberName::as_str) {
        Some("Scanout") => {
            let (width, height, stride, format, pixels): (u32, u32, u32, u32, &[u8]) = body.deserialize()?;
            *memory = None;
            if usable(Size::new(width, height), stride, format, pixels) {
                shared.sent.fetch_add(1, Relaxed);
                shared.scanout(Size::new(width, height), stride, pixels);
                sync = Sync::Whole;
            }
        }
        Some("Update") => {
            let (x, y, width, height, stride, format, pixels): (i32, i32, i32, i32, u32, u32, &[u8]) =
                body.deserialize()?;
            let sides = [x, y, width, height].map(|v| u32::try_from(v).ok());
            if let [Some(x), Some(y), Some(width), Some(height)] = sides
                && usable(Size::new(width, height), stride, format, pixels)
            {
                shared.sent.fetch_add(1, Relaxed);
                let fits = shared.update(Rect::new(x, y, width, height), stride, pixels);
                sync = if fits { Sync::Kept } else { Sync::Lost };
            }
        }
        Some("ScanoutMap") => {
            type Shape = (OwnedFd, u32, u32, u32, u32, u32);
            let (fd, offset, width, height, stride, format): Shape = body.deserialize()?;
            let size = Size::new(width, height);
            *memory = SharedPicture::new(fd.into(), offset, size, stride, format);
            // QEMU waits for this answer.
            done(connection, message).await?;
            match memory.as_mut().and_then(|memory| memory.read(Rect::new(0, 0, width, height))) {
                Some(Ok(pixels)) => {
                    tracing::debug!(width, height, "display: QEMU shares the picture's memory");
                    shared.in_memory.fetch_add(1, Relaxed);
                    shared.scanout(size, stride, pixels);
                    return Ok(Sync::Whole);
                }
                Some(Err(error)) => tracing::warn!(%error, "display: shared memory could not be read"),
                None => tracing::warn!(?size, stride, format, "display: shared memory that cannot be used"),
            }
            return Ok(Sync::Kept);
        }
        Some("UpdateMap") => {
            let (x, y, width, height): (i32, i32, i32, i32) = body.deserialize()?;
            let sides = [x, y, width, height].map(|v| u32::try_from(v).ok());
            if let ([Some(x), Some(y), Some(width), Some(height)], Some(memory)) = (sides, memory.as_mut()) {
                let (rect, stride) = (Rect::new(x, y, width, height), memory.stride);
                shared.in_memory.fetch_add(1, Relaxed);
                sync = match memory.read(rect) {
                    Some(Ok(pixels)) if shared.update(rect, stride, pixels) => Sync::Kept,
                    Some(Err(error)) => {
                        tracing::warn!(%error, "display: shared memory could not be read");
                        Sync::Lost
                    }
                    _ => Sync::Lost,
                };
            }
        }
        Some("Disable") => {
            *memory = None;
            shared.display_disabled();
        }
        // The guest's cursor shape (only cards with a hardware cursor): `MouseSet`, `CursorDefine`. Memory of a GPU:
        // never sent to a listener that did not ask for it.
        _ => {}
    }
    done(connection, message).await.map(|()| sync)
}

/// Whether the rows are there and in the one format that sinks know.
fn usable(size: Size, stride: u32, format: u32, pixels: &[u8]) -> bool {
    let good = usable_rows(size, stride, format, pixels.len() as u64);
    if !good {
        tracing::warn!(?size, stride, format, bytes = pixels.len(), "display: a picture that cannot be used");
    }
    good
}

/// The same of `bytes` bytes, wherever they are.
pub(super) fn usable_rows(size: Size, stride: u32, format: u32, bytes: u64) -> bool {
    let row = u64::from(size.width) * 4;
    let needed = u64::from(size.height.saturating_sub(1)) * u64::from(stride) + row;
    FORMATS.contains(&format) && size.area() > 0 && u64::from(stride) >= row && bytes >= needed
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
