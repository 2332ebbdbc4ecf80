//! Draws towns on the host: `cargo run -p loco-demo-guest --example render -- FOLDER [TICKS]` writes a PNG for each
//! instance, and one for each mode and resolution.

use std::fmt::Arguments;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use loco_demo_guest::{Machine, Memory, Mode, Options, PICTURE_WORDS, Rect, Resolution, SPRITE_WORDS, Town};

struct Screen {
    width: usize,
    pixels: Vec<u32>,
}

impl Machine for Screen {
    fn set_resolution(&mut self, resolution: Resolution) {
        let (width, height) = resolution.size();
        self.width = usize::from(width);
        self.pixels = vec![0; self.width * usize::from(height)];
    }

    fn present(&mut self, frame: &[u32], stride: usize, rect: Rect) {
        for y in rect.top..rect.bottom() {
            let row = y as usize * stride;
            let columns = row + rect.left as usize..row + rect.right() as usize;
            self.pixels[columns.clone()].copy_from_slice(&frame[columns]);
        }
    }

    fn log(&mut self, _line: Arguments<'_>) {}

    fn whistle(&mut self) -> bool {
        true
    }

    fn set_music(&mut self, _on: bool) {}

    fn set_marker(&mut self, _on: bool) -> bool {
        false
    }

    fn set_ticking(&mut self, _on: bool) {}
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("usage: render FOLDER [TICKS]")?;
    let ticks = arguments.next().map_or(Ok(200), |ticks| ticks.parse())?;
    std::fs::create_dir_all(&folder)?;
    let folder = Path::new(&folder);
    for instance in 0..9 {
        draw(folder, ticks, Options { instance, ..Options::default() })?;
    }
    for resolution in Resolution::ALL {
        for mode in Mode::ALL {
            draw(folder, ticks, Options { mode, resolution, ..Options::default() })?;
        }
    }
    Ok(())
}

fn draw(folder: &Path, ticks: u32, options: Options) -> Result<()> {
    let (mut background, mut frame) = (vec![0; PICTURE_WORDS], vec![0; PICTURE_WORDS]);
    let (mut sprites, mut depths) = (vec![0; SPRITE_WORDS], vec![0; PICTURE_WORDS]);
    let memory = Memory { background: &mut background, depths: &mut depths, frame: &mut frame, sprites: &mut sprites };
    let mut screen = Screen { width: 0, pixels: Vec::new() };
    let mut town = Town::new(&options, memory);
    town.start(&mut screen);
    for _ in 0..ticks {
        town.tick(1, &mut screen);
    }
    let name = format!("{}-{}-{}.png", options.instance + 1, options.mode.name(), options.resolution.name());
    let file = BufWriter::new(File::create(folder.join(name))?);
    let (width, height) = (screen.width as u32, (screen.pixels.len() / screen.width) as u32);
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let rgb: Vec<u8> =
        screen.pixels.iter().flat_map(|pixel| [(pixel >> 16) as u8, (pixel >> 8) as u8, *pixel as u8]).collect();
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}
