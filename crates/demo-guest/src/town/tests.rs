use super::*;
use crate::math::Random;
use crate::{PICTURE_WORDS, SPRITE_WORDS};
use core::fmt::Arguments;

/// A screen that notes what was presented.
struct Screen {
    width: usize,
    height: usize,
    pixels: Vec<u32>,
    /// Pixels presented since last asked.
    presented: usize,
    presents: usize,
    lines: Vec<String>,
    ticking: bool,
    whistles: usize,
    has_sound: bool,
    clicks: bool,
}

impl Screen {
    fn new() -> Self {
        Self {
            width: 0,
            height: 0,
            pixels: Vec::new(),
            presented: 0,
            presents: 0,
            lines: Vec::new(),
            ticking: true,
            whistles: 0,
            has_sound: true,
            clicks: false,
        }
    }

    fn read(&self) -> Option<Reading> {
        barcode::decode(self.width as u32, self.height as u32, |x, y| {
            (self.pixels[y as usize * self.width + x as usize] >> 8) as u8
        })
    }

    fn take_presented(&mut self) -> usize {
        std::mem::take(&mut self.presented)
    }
}

impl Machine for Screen {
    fn set_resolution(&mut self, resolution: Resolution) {
        let (width, height) = resolution.size();
        (self.width, self.height) = (usize::from(width), usize::from(height));
        self.pixels = vec![0xff00ff; self.width * self.height];
    }

    fn present(&mut self, frame: &[u32], stride: usize, rect: Rect) {
        assert_eq!((stride, frame.len()), (self.width, self.width * self.height));
        for y in rect.top..rect.bottom() {
            let row = y as usize * stride;
            let columns = row + rect.left as usize..row + rect.right() as usize;
            for (to, from) in self.pixels[columns.clone()].iter_mut().zip(&frame[columns]) {
                *to = from & 0xff_ffff;
            }
        }
        self.presented += rect.area() as usize;
        self.presents += 1;
    }

    fn log(&mut self, line: Arguments<'_>) {
        self.lines.push(line.to_string());
    }

    fn whistle(&mut self) -> bool {
        self.whistles += 1;
        true
    }

    fn set_music(&mut self, _on: bool) {}

    fn set_marker(&mut self, on: bool) -> bool {
        self.clicks = on;
        on && self.has_sound
    }

    fn set_ticking(&mut self, on: bool) {
        self.ticking = on;
    }
}

fn with_town(options: Options, test: impl FnOnce(&mut Town<'_>, &mut Screen)) {
    let (mut background, mut frame) = (vec![0; PICTURE_WORDS], vec![0; PICTURE_WORDS]);
    let (mut sprites, mut depths) = (vec![0; SPRITE_WORDS], vec![0; PICTURE_WORDS]);
    let memory = Memory { background: &mut background, depths: &mut depths, frame: &mut frame, sprites: &mut sprites };
    let mut screen = Screen::new();
    let mut town = Town::new(&options, memory);
    town.start(&mut screen);
    test(&mut town, &mut screen);
}

fn press(code: u8) -> KeyEvent {
    KeyEvent { code, pressed: true }
}

fn motion(dx: i32, dy: i32, buttons: u8) -> MouseEvent {
    MouseEvent { dx, dy, wheel: 0, buttons }
}

#[test]
fn the_strip_tells_what_happens_at_every_size() {
    for resolution in Resolution::ALL {
        with_town(Options { instance: 4, resolution, ..Options::default() }, |town, screen| {
            for tick in 1..=100 {
                town.tick(1, screen);
                assert_eq!(screen.read().map(|reading| reading.counter), Some(tick));
            }
            town.key(press(0x1e), screen);
            let reading = screen.read().unwrap();
            assert_eq!((reading.instance, reading.input_code, reading.input_count, reading.held), (4, 0x1e, 1, 1));
            town.key(KeyEvent { code: 0x1e, pressed: false }, screen);
            town.mouse(motion(0, 0, RIGHT), screen);
            let reading = screen.read().unwrap();
            assert_eq!((reading.input_code, reading.input_count, reading.held), (0x102, 2, 1));
            assert!(screen.lines.iter().any(|line| line == "loco: key code=0x1e pressed=1 count=1"));
        });
    }
}

#[test]
fn what_is_shown_is_what_a_full_redraw_would_show() {
    with_town(Options { instance: 2, ..Options::default() }, |town, screen| {
        for round in 0..40 {
            for _ in 0..20 {
                town.tick(1, screen);
            }
            town.mouse(motion(round * 7 % 50 - 20, round * 5 % 31 - 14, 0), screen);
            let shown = screen.pixels.clone();
            town.refresh_whole(screen);
            assert!(shown == screen.pixels, "round {round}");
        }
    });
}

#[test]
fn only_what_changed_is_presented() {
    with_town(Options::default(), |town, screen| {
        for _ in 0..60 {
            town.tick(1, screen);
        }
        screen.take_presented();
        for _ in 0..300 {
            town.tick(1, screen);
            let presented = screen.take_presented();
            assert!((1..30_000).contains(&presented), "{presented}");
        }
        town.key(press(0x1f), screen);
        assert!((1..64 * 60).contains(&screen.take_presented()));
    });
}

#[test]
fn quiet_changes_nothing_but_in_answer() {
    with_town(Options { mode: Mode::Quiet, ..Options::default() }, |town, screen| {
        assert!(!screen.ticking);
        let (before, presents) = (screen.pixels.clone(), screen.presents);
        for _ in 0..100 {
            town.tick(1, screen);
        }
        assert_eq!((presents, screen.read().unwrap().counter), (screen.presents, 0));
        assert!(before == screen.pixels);
        town.key(press(0x1f), screen);
        town.mouse(motion(30, 10, 0), screen);
        let reading = screen.read().unwrap();
        assert_eq!((reading.counter, reading.input_count, reading.cursor_x), (0, 1, 560));
        assert!(before != screen.pixels);
        town.key(press(0x14), screen);
        assert!(screen.ticking);
    });
}

#[test]
fn modes_change_as_much_as_they_say() {
    with_town(Options::default(), |town, screen| {
        let changed = |town: &mut Town<'_>, screen: &mut Screen| {
            let before = screen.pixels.clone();
            town.tick(1, screen);
            before.iter().zip(&screen.pixels).filter(|(a, b)| a != b).count()
        };
        town.key(press(0x30), screen);
        assert_eq!(screen.read().map(|reading| reading.mode), Some(Mode::Box));
        let in_box = changed(town, screen);
        assert!((2_000..40_000).contains(&in_box), "{in_box}");
        town.key(press(0x15), screen);
        let busy = changed(town, screen);
        assert!(busy > 640 * 432 * 8 / 10, "{busy}");
        assert_eq!(screen.read().map(|reading| reading.mode), Some(Mode::Busy));
    });
}

#[test]
fn track_is_placed_and_removed_by_pointer_and_key() {
    with_town(Options::default(), |town, screen| {
        // (320, 200) is cell (8, 5), free in the first plan.
        let before = screen.pixels.clone();
        town.mouse(motion(0, 0, LEFT), screen);
        assert!(town.track.has((8, 5)) && before != screen.pixels);
        town.mouse(motion(0, 0, 0), screen);
        town.mouse(motion(0, 0, RIGHT), screen);
        assert!(!town.track.has((8, 5)));
        town.key(press(0x1c), screen);
        assert!(town.track.has((8, 5)));
        town.key(press(0x9c), screen);
        assert!(!town.track.has((8, 5)));
        town.mouse(motion(0, 400, 0), screen);
        town.key(press(0x1c), screen);
        assert_eq!(screen.lines.last().map(String::as_str), Some("loco: track place=8,11 refused=outside"));
    });
}

#[test]
fn the_pointers_way_is_drawn_while_the_middle_button_is_held() {
    with_town(Options { mode: Mode::Quiet, ..Options::default() }, |town, screen| {
        let at = |screen: &Screen, x: usize, y: usize| screen.pixels[y * 640 + x];
        town.mouse(motion(0, -100, MIDDLE), screen);
        town.mouse(motion(100, 0, MIDDLE), screen);
        town.mouse(motion(60, 60, 0), screen);
        for x in (325..415).step_by(5) {
            assert_eq!(at(screen, x, 100), INSTANCE_COLOURS[0], "{x}");
        }
        assert_ne!(at(screen, 450, 130), INSTANCE_COLOURS[0]);
    });
}

#[test]
fn a_tablet_points_to_places_at_every_size() {
    for resolution in Resolution::ALL {
        with_town(Options { mode: Mode::Quiet, resolution, ..Options::default() }, |town, screen| {
            for (x, y) in [(0, 0), (65535, 65535), (32768, 16384), (13107, 52429)] {
                town.tablet(AbsoluteEvent { x, y, wheel: 0, buttons: 0 }, screen);
                let reading = screen.read().unwrap();
                assert!(
                    reading.cursor_x.abs_diff(x / 64) <= 2 && reading.cursor_y.abs_diff(y / 64) <= 2,
                    "{reading:?}"
                );
            }
        });
    }
}

#[test]
fn any_input_is_survived() {
    let mut random = Random::new(99);
    with_town(Options { instance: 7, ..Options::default() }, |town, screen| {
        for _ in 0..3000 {
            match random.below(4) {
                0 => town.key(KeyEvent { code: random.next() as u8, pressed: random.below(2) == 0 }, screen),
                1 => {
                    let mut part = || random.below(511) as i32 - 255;
                    let (dx, dy, wheel) = (part(), part(), part() / 100);
                    town.mouse(MouseEvent { dx, dy, wheel, buttons: random.below(8) as u8 }, screen);
                }
                _ => town.tick(u64::from(random.below(3)), screen),
            }
        }
        assert_eq!(screen.read(), Some(town.reading()));
    });
}

/// The field's light squares, by the pixels in their middles.
fn field(screen: &Screen) -> u16 {
    let (width, height) = (screen.width as u32, screen.height as u32);
    (0..16).fold(0, |bits, index| {
        let (x, y, w, h) = crate::marker::square_rect(index, width, height);
        let pixel = screen.pixels[(y + h / 2) as usize * screen.width + (x + w / 2) as usize];
        bits | u16::from(pixel & 0xff > 0x80) << index
    })
}

#[test]
fn the_marker_flashes_with_the_click_and_goes_without_a_trace() {
    use crate::marker::{FLASH, FLASH_TICKS, REST};
    for resolution in Resolution::ALL {
        with_town(Options { mode: Mode::Quiet, resolution, ..Options::default() }, |town, screen| {
            let before = screen.pixels.clone();
            town.click(screen);
            assert!(screen.pixels == before, "no marker, no flash");
            town.key(press(key::K), screen);
            assert!(screen.clicks && screen.ticking);
            assert_eq!((field(screen), screen.read().unwrap().flash), (REST, false));
            town.click(screen);
            let reading = screen.read().unwrap();
            assert_eq!((field(screen), reading.flash, reading.mode), (FLASH, true, Mode::Marker));
            assert_eq!(screen.lines.last().unwrap(), "loco: marker n=1");
            town.tick(u64::from(FLASH_TICKS) - 1, screen);
            assert_eq!(field(screen), FLASH);
            town.tick(1, screen);
            assert_eq!((field(screen), screen.read().unwrap().flash), (REST, false));
            town.tick(100, screen);
            assert_eq!(field(screen), REST, "the card says when");
            town.key(press(key::C), screen);
            assert_eq!(field(screen), REST, "redrawn with the rest");
            town.key(press(key::Q), screen);
            assert!(!screen.clicks);
            let (_, top, _, _) = barcode::region(screen.width as u32, screen.height as u32);
            let town_above = top as usize * 9 / 10 * screen.width;
            let differ = (0..town_above).filter(|&n| screen.pixels[n] != before[n]).count();
            assert_eq!(differ, 0, "the town is back");
        });
    }
}

#[test]
fn without_a_card_the_marker_flashes_by_itself() {
    with_town(Options::default(), |town, screen| {
        screen.has_sound = false;
        town.key(press(key::K), screen);
        let flashes = (0..95).filter(|_| {
            town.tick(1, screen);
            screen.lines.last().is_some_and(|line| line.starts_with("loco: marker")) && {
                screen.lines.push(String::new());
                true
            }
        });
        assert_eq!(flashes.count(), 3);
    });
}
