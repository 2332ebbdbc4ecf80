//! The seam between a guest and the way its input goes in.

use async_trait::async_trait;
use std::fmt::Debug;
use std::io;

/// Puts single inputs into a running guest, in the numbers of QEMU.
#[async_trait]
pub(crate) trait Injector: Debug + Send + Sync {
    /// A key by its QEMU number (`qnum`).
    async fn key(&self, number: u32, pressed: bool) -> io::Result<()>;
    /// A button by QEMU's `InputButton`: 0 left, 1 middle, 2 right, 3 and 4 wheel up and down, 5 side, 6 extra,
    /// 7 and 8 wheel left and right.
    async fn button(&self, number: u32, pressed: bool) -> io::Result<()>;
    /// Relative motion in pixels.
    async fn motion(&self, dx: i32, dy: i32) -> io::Result<()>;
    /// Absolute position in pixels.
    async fn position(&self, x: u32, y: u32) -> io::Result<()>;
}
