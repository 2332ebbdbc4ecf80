//! Loco Town on the bare machine: QEMU's `-kernel` starts this program through PVH.
//!
//! It sleeps (`hlt`) until an interrupt, and answers input before it does anything else.
#![no_std]
#![no_main]

mod bare;

use core::fmt::Arguments;
use core::sync::atomic::Ordering;

use bare::interrupts::{self, KEYBOARD, MOUSE, SOUND, TICKS};
use bare::ports::log;
use bare::sb16::Sound;
use bare::screen::Screen;
use bare::{i8042, start_info, vmmouse};
use loco_demo_guest::ps2::{Keyboard, Mouse};
use loco_demo_guest::{Machine, Memory, Options, PICTURE_WORDS, PIT_DIVISOR, Rect, Resolution, SPRITE_WORDS, Town};

/// The pictures' memory: behind the program and what ISA DMA can reach. Not part of the image, so that starting neither
/// loads nor clears it.
const PICTURES_AT: usize = 16 << 20;
const PICTURES_END: u64 = (PICTURES_AT + 4 * (2 * PICTURE_WORDS + SPRITE_WORDS) + PICTURE_WORDS) as u64;

struct Pc {
    screen: Screen,
    sound: Option<Sound>,
}

impl Machine for Pc {
    fn set_resolution(&mut self, resolution: Resolution) {
        let (width, height) = resolution.size();
        self.screen.set_size(width, height);
    }

    fn present(&mut self, frame: &[u32], stride: usize, rect: Rect) {
        self.screen.copy(frame, stride, rect);
    }

    fn log(&mut self, line: Arguments<'_>) {
        log(line);
    }

    fn whistle(&mut self) -> bool {
        self.sound.as_mut().is_some_and(Sound::whistle)
    }

    fn set_music(&mut self, on: bool) {
        if let Some(sound) = &mut self.sound {
            sound.set_music(on);
        }
    }

    fn set_marker(&mut self, on: bool) -> bool {
        if let Some(sound) = &mut self.sound {
            sound.set_marker(on);
        }
        on && self.sound.is_some()
    }

    fn set_ticking(&mut self, on: bool) {
        interrupts::set_timer(on.then_some(PIT_DIVISOR));
        if !on {
            TICKS.store(0, Ordering::Relaxed);
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn guest_main(info: u32) -> ! {
    interrupts::init();
    let (line, memory_end) = start_info::read(info);
    let options = Options::parse(line, |word| log(format_args!("loco: bad option {word}")));
    if memory_end < PICTURES_END {
        fail(format_args!("{} MiB of memory, {} are needed", memory_end >> 20, (PICTURES_END >> 20) + 1));
    }
    let Some(screen) = Screen::find() else { fail(format_args!("no standard VGA (QEMU's -vga std)")) };
    let sound = Sound::find();
    let wheel = i8042::init();
    let absolute = options.absolute_pointer && wheel.is_some() && vmmouse::init();
    let version = env!("CARGO_PKG_VERSION");
    let (major, minor) = sound.as_ref().map_or((0, 0), Sound::version);
    log(format_args!(
        "loco: boot version={version} instance={} mode={} size={} sb16={major}.{minor:02} mouse={} wheel={} absolute={}",
        options.instance,
        options.mode.name(),
        options.resolution.name(),
        u8::from(wheel.is_some()),
        u8::from(wheel == Some(true)),
        u8::from(absolute),
    ));
    let mut pc = Pc { screen, sound };
    let mut town = Town::new(&options, pictures());
    town.start(&mut pc);
    interrupts::set_enabled(interrupts::IRQ_KEYBOARD, true);
    interrupts::set_enabled(interrupts::IRQ_MOUSE, wheel.is_some());
    log(format_args!("loco: ready"));
    run(&mut town, &mut pc, (!absolute).then(|| Mouse::new(wheel == Some(true))))
}

/// `mouse`: how its bytes are read; `None` for a tablet, of which they only tell that it has something to say.
fn run(town: &mut Town<'_>, pc: &mut Pc, mut mouse: Option<Mouse>) -> ! {
    let mut keyboard = Keyboard::default();
    loop {
        interrupts::wait();
        while let Some(byte) = KEYBOARD.pop() {
            if let Some(event) = keyboard.push(byte) {
                town.key(event, pc);
            }
        }
        let mut touched = false;
        while let Some(byte) = MOUSE.pop() {
            touched = true;
            if let Some(event) = mouse.as_mut().and_then(|mouse| mouse.push(byte)) {
                town.mouse(event, pc);
            }
        }
        if touched && mouse.is_none() {
            while let Some(event) = vmmouse::read() {
                town.tablet(event, pc);
            }
        }
        let blocks = SOUND.swap(0, Ordering::Relaxed);
        if let (Some(sound), 1..) = (&mut pc.sound, blocks)
            && sound.refill(blocks)
        {
            town.click(pc);
        }
        let ticks = TICKS.swap(0, Ordering::Relaxed);
        if ticks > 0 {
            town.tick(ticks.into(), pc);
        }
    }
}

fn pictures() -> Memory<'static> {
    // SAFETY: called once; the memory was checked to exist, belongs to nothing else, and any bits are valid pixels.
    unsafe {
        let at =
            |words: usize, count: usize| core::slice::from_raw_parts_mut((PICTURES_AT as *mut u32).add(words), count);
        Memory {
            background: at(0, PICTURE_WORDS),
            frame: at(PICTURE_WORDS, PICTURE_WORDS),
            sprites: at(2 * PICTURE_WORDS, SPRITE_WORDS),
            depths: core::slice::from_raw_parts_mut(
                (PICTURES_AT as *mut u32).add(2 * PICTURE_WORDS + SPRITE_WORDS).cast(),
                PICTURE_WORDS,
            ),
        }
    }
}

fn fail(why: Arguments<'_>) -> ! {
    log(format_args!("loco: cannot start: {why}"));
    interrupts::halt()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    log(format_args!("loco: panic {info}"));
    interrupts::halt()
}
