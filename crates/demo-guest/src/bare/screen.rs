//! QEMU's standard VGA: a linear framebuffer, switched by the Bochs registers.

use loco_demo_guest::Rect;

use super::ports::{in32, out16, out32};

const VGA: u32 = 0x1111_1234;

fn config(device: u32, register: u32) -> u32 {
    out32(0xcf8, 0x8000_0000 | device << 8 | register);
    in32(0xcfc)
}

/// The screen.
pub(crate) struct Screen {
    pixels: *mut u32,
    width: u16,
    height: u16,
}

impl Screen {
    /// Finds the card on PCI bus 0.
    pub(crate) fn find() -> Option<Self> {
        let device = (0..256).find(|device| config(*device, 0) == VGA)?;
        let command = config(device, 4);
        out32(0xcf8, 0x8000_0000 | device << 8 | 4);
        out32(0xcfc, command | 3);
        let base = config(device, 0x10) & !0xf;
        (base != 0).then_some(Self { pixels: base as usize as *mut u32, width: 0, height: 0 })
    }

    /// Switches to `width` x `height` at 32 bits.
    pub(crate) fn set_size(&mut self, width: u16, height: u16) {
        let set = |index: u16, value: u16| {
            out16(0x1ce, index);
            out16(0x1cf, value);
        };
        // Off, x, y, bits, on with a linear framebuffer (which is cleared).
        for (index, value) in [(4, 0), (1, width), (2, height), (3, 32), (4, 0x41)] {
            set(index, value);
        }
        (self.width, self.height) = (width, height);
    }

    /// Copies a rectangle of a picture of the screen's size.
    pub(crate) fn copy(&mut self, frame: &[u32], stride: usize, rect: Rect) {
        let rect = rect.intersection(Rect::new(0, 0, self.width.into(), self.height.into()));
        for y in rect.top..rect.bottom() {
            let from = y as usize * stride + rect.left as usize;
            let row = &frame[from..from + rect.width as usize];
            // SAFETY: the rectangle lies within the mode that was set, whose pixels are the card's memory and nobody else's.
            let to = unsafe {
                let at = y as usize * usize::from(self.width) + rect.left as usize;
                core::slice::from_raw_parts_mut(self.pixels.add(at), rect.width as usize)
            };
            to.copy_from_slice(row);
        }
    }
}
