//! The demo guest's marker as the guest makes it, and as the viewer finds it: both know the same figures.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test: a panic is its message")]

use loco_demo_guest::sound::{SAMPLE_RATE, Score};
use loco_demo_guest::{
    Machine, Memory, Mode, Options, PICTURE_WORDS, Rect, Resolution, SPRITE_WORDS, Town, barcode, marker,
};
use loco_media::sound::ear::Ear;
use loco_media::sound::{RATE_HZ, SoundEncoder, SoundPacket, StereoResampler, packet_ring};
use loco_model::Size;
use loco_viewer::marker::{Field, read};
use std::fmt::Arguments;

/// Luma of what the guest presented last.
#[derive(Default)]
struct Screen {
    size: Size,
    luma: Vec<u8>,
}

impl Machine for Screen {
    fn set_resolution(&mut self, resolution: Resolution) {
        let (width, height) = resolution.size();
        self.size = Size::new(width.into(), height.into());
        self.luma = vec![0; usize::from(width) * usize::from(height)];
    }

    fn present(&mut self, frame: &[u32], stride: usize, rect: Rect) {
        for y in rect.top..rect.bottom() {
            for x in rect.left..rect.right() {
                let at = y as usize * stride + x as usize;
                // BT.601, limited range, as the encoder has it.
                let [b, g, r, _] = frame[at].to_le_bytes().map(u32::from);
                self.luma[at] = (16 + (66 * r + 129 * g + 25 * b + 128) / 256) as u8;
            }
        }
    }

    fn log(&mut self, _line: Arguments<'_>) {}

    fn whistle(&mut self) -> bool {
        false
    }

    fn set_music(&mut self, _on: bool) {}

    fn set_marker(&mut self, on: bool) -> bool {
        on
    }

    fn set_ticking(&mut self, _on: bool) {}
}

impl Screen {
    fn field(&self) -> Option<Field> {
        read(self.size, |x, y| self.luma[(y * self.size.width + x) as usize])
    }

    /// The same picture, half as large, as on a slow link.
    fn field_halved(&self) -> Option<Field> {
        let half = Size::new(self.size.width / 2, self.size.height / 2);
        read(half, |x, y| self.luma[(2 * y * self.size.width + 2 * x) as usize])
    }

    fn barcode(&self) -> barcode::Reading {
        let (width, height) = (self.size.width, self.size.height);
        barcode::decode(width, height, |x, y| self.luma[(y * width + x) as usize]).unwrap()
    }
}

#[test]
fn the_viewer_sees_the_flash_that_the_guest_draws() {
    for resolution in Resolution::ALL {
        let (mut background, mut frame) = (vec![0; PICTURE_WORDS], vec![0; PICTURE_WORDS]);
        let (mut depths, mut sprites) = (vec![0; PICTURE_WORDS], vec![0; SPRITE_WORDS]);
        let memory =
            Memory { background: &mut background, depths: &mut depths, frame: &mut frame, sprites: &mut sprites };
        let options = Options { mode: Mode::Town, resolution, ..Options::default() };
        let (mut town, mut screen) = (Town::new(&options, memory), Screen::default());
        town.start(&mut screen);
        assert_eq!(screen.field(), None, "the town is no marker");
        let key = |pressed| loco_demo_guest::ps2::KeyEvent { code: 0x25, pressed };
        town.key(key(true), &mut screen);
        assert_eq!((screen.field(), screen.field_halved()), (Some(Field::Rest), Some(Field::Rest)));
        town.click(&mut screen);
        assert_eq!((screen.field(), screen.field_halved()), (Some(Field::Flash), Some(Field::Flash)));
        assert!(screen.barcode().flash);
        town.tick(u64::from(marker::FLASH_TICKS), &mut screen);
        assert_eq!((screen.field(), screen.barcode().flash), (Some(Field::Rest), false));
    }
}

#[test]
fn the_viewer_hears_the_click_that_the_guest_makes_where_it_is() {
    // The guest's card at 44.1 kHz, to 48 kHz as QEMU does it, through Opus and the reader.
    let secs = 4;
    let mut samples = vec![0i16; SAMPLE_RATE as usize * secs];
    let begins = 20_000;
    Score { marker: Some(begins), ..Score::default() }.render(0, &mut samples);
    let mut resampler = StereoResampler::new(SAMPLE_RATE, RATE_HZ, 480).unwrap();
    let (mut writer, mut reader) = packet_ring().unwrap();
    let mut sequence = 0u16;
    let encoder = SoundEncoder::new(move |p: SoundPacket<'_>| {
        sequence = sequence.wrapping_add(1);
        writer.push(sequence, p.timestamp, p.marker, p.payload).unwrap();
    })
    .unwrap();
    let (mut taken, mut ear, mut heard, mut played) = (0, Ear::default(), Vec::new(), 0);
    loop {
        let need = resampler.prepare(480, 1.0);
        if taken + need > samples.len() {
            break;
        }
        let input: Vec<f32> =
            samples[taken..taken + need].iter().flat_map(|sample| [f32::from(*sample) / 32768.0; 2]).collect();
        taken += need;
        let mut block = [0f32; 960];
        resampler.process(&input, &mut block);
        encoder.push(1, &block.map(|sample| (sample * 32767.0) as i16));
        let mut out = [0f32; 960];
        reader.fill(&mut out);
        heard.extend(ear.listen(&out).map(|at| played + at));
        played += 480;
    }
    let period = marker::PERIOD_SAMPLES * u64::from(RATE_HZ) / u64::from(SAMPLE_RATE);
    assert!(heard.len() >= 3, "{heard:?}");
    for pair in heard.windows(2) {
        let apart = (pair[1] - pair[0]) as u64;
        assert!(apart.abs_diff(period) < 48, "{apart} frames instead of {period}: within a millisecond");
    }
    // Where the first one is: what the reader stores at its start, the look-ahead, and no more than a packet beside.
    let made = (begins * u64::from(RATE_HZ) / u64::from(SAMPLE_RATE)) as usize;
    let late_ms = (heard[0] as f64 - made as f64) / 48.0;
    assert!((15.0..50.0).contains(&late_ms), "{late_ms} ms late");
}
