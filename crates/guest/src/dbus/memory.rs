//! The picture in memory that QEMU shares (`Listener.Unix.Map`, QEMU 9.2 and later).
//!
//! It is read, not mapped: QEMU and the guest write into it at any time, and a file that got shorter would kill whoever
//! reads its mapping. One read of a band costs what copying it out would.

use super::display::usable_rows;
use loco_model::{Rect, Size};
use rustix::fs::fstat;
use rustix::io::pread;
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of a pixel of the formats that are taken.
const PIXEL_BYTES: u64 = 4;
/// Largest picture that is taken, on either side.
const MAX_SIDE: u32 = 8192;

/// A shared picture.
#[derive(Debug)]
pub(super) struct SharedPicture {
    memory: OwnedFd,
    offset: u64,
    pub(super) size: Size,
    pub(super) stride: u32,
    /// What was read last; used again for every part.
    pixels: Vec<u8>,
}

impl SharedPicture {
    /// Takes it over. `None` when it is of a format that sinks do not know, or the memory is too small for it.
    pub(super) fn new(memory: OwnedFd, offset: u32, size: Size, stride: u32, format: u32) -> Option<Self> {
        let bytes = u64::try_from(fstat(&memory).ok()?.st_size).ok()?.checked_sub(offset.into())?;
        let fits = size.width <= MAX_SIDE && size.height <= MAX_SIDE && usable_rows(size, stride, format, bytes);
        fits.then(|| Self { memory, offset: offset.into(), size, stride, pixels: Vec::new() })
    }

    /// The pixels of `rect` as they are now: its row y starts at `y * stride`. `None` when it lies outside.
    pub(super) fn read(&mut self, rect: Rect) -> Option<io::Result<&[u8]>> {
        let inside = !rect.is_empty()
            && rect.x.checked_add(rect.width)? <= self.size.width
            && rect.y.checked_add(rect.height)? <= self.size.height;
        if !inside {
            return None;
        }
        let stride = u64::from(self.stride);
        let begin = self.offset + u64::from(rect.y) * stride + u64::from(rect.x) * PIXEL_BYTES;
        let length = u64::from(rect.height - 1) * stride + u64::from(rect.width) * PIXEL_BYTES;
        self.pixels.resize(length as usize, 0);
        let mut done = 0;
        while done < self.pixels.len() {
            match pread(&self.memory, &mut self.pixels[done..], begin + done as u64) {
                Ok(0) => return Some(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => done += read,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Some(Err(error.into())),
            }
        }
        Some(Ok(&self.pixels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const FORMAT: u32 = 0x2002_0888;

    fn memory(bytes: usize) -> OwnedFd {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&(0..bytes).map(|i| i as u8).collect::<Vec<_>>()).expect("written");
        file.into()
    }

    #[test]
    fn parts_are_read_where_they_lie() {
        let size = Size::new(4, 3);
        let mut picture = SharedPicture::new(memory(16 + 20 * 3), 16, size, 20, FORMAT).expect("fits");
        let mut read = |x, y, width, height| {
            picture.read(Rect::new(x, y, width, height)).map(|pixels| pixels.expect("read").to_vec())
        };
        assert_eq!(read(1, 1, 1, 1), Some((40..44).collect()));
        assert_eq!(read(0, 1, 2, 2), Some((36..64).collect()), "with what lies between two rows");
        assert_eq!(read(0, 0, 4, 3).map(|pixels| pixels.len()), Some(56));
        for (x, y, width, height) in [(0, 0, 0, 1), (4, 0, 1, 1), (0, 2, 1, 2), (u32::MAX, 0, 2, 1)] {
            assert_eq!(read(x, y, width, height), None);
        }
    }

    #[test]
    fn memory_that_is_too_small_or_gets_smaller_is_seen() {
        let size = Size::new(4, 3);
        assert!(SharedPicture::new(memory(55), 0, size, 20, FORMAT).is_none());
        assert!(SharedPicture::new(memory(56), 1, size, 20, FORMAT).is_none());
        assert!(SharedPicture::new(memory(56), 57, size, 20, FORMAT).is_none());
        assert!(SharedPicture::new(memory(56), 0, size, 15, FORMAT).is_none());
        assert!(SharedPicture::new(memory(56), 0, size, 20, 0x1000_0565).is_none());
        assert!(SharedPicture::new(memory(56), 0, Size::new(u32::MAX, 1), u32::MAX, FORMAT).is_none());
        let memory = memory(56);
        let same = memory.try_clone().expect("cloned");
        let mut picture = SharedPicture::new(memory, 0, size, 20, FORMAT).expect("fits");
        std::fs::File::from(same).set_len(30).expect("cut");
        assert!(picture.read(Rect::new(0, 0, 4, 1)).is_some_and(|read| read.is_ok()));
        assert!(picture.read(Rect::new(0, 0, 4, 3)).is_some_and(|read| read.is_err()));
    }
}
