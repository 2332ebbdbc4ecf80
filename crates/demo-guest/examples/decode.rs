//! Reads the barcode strip out of screenshots: `cargo run -p loco-demo-guest --example decode -- FILE…`
//!
//! Takes PNG files and binary PPM (what QEMU's `screendump` writes) of the guest's whole picture, scaled or not. Prints
//! one line a file; exits with an error when a file has no readable strip.

use std::fs::File;
use std::io::{BufReader, Write};

use anyhow::{Context, Result, bail, ensure};
use loco_demo_guest::barcode;

struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

fn main() -> Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    ensure!(!files.is_empty(), "usage: decode FILE.png|FILE.ppm …");
    let mut unreadable = 0;
    for file in &files {
        let picture = read(file).with_context(|| format!("cannot read {file}"))?;
        let luma = |x: u32, y: u32| {
            let at = (y as usize * picture.width + x as usize) * 3;
            let [r, g, b] = [0, 1, 2].map(|i| u32::from(picture.rgb[at + i]));
            ((r * 77 + g * 150 + b * 29) >> 8) as u8
        };
        let reading = barcode::decode(picture.width as u32, picture.height as u32, luma);
        unreadable += usize::from(reading.is_none());
        let size = format!("{}x{}", picture.width, picture.height);
        writeln!(std::io::stdout(), "{file}: {size} {reading:x?}")?;
    }
    ensure!(unreadable == 0, "{unreadable} of {} pictures have no readable strip", files.len());
    Ok(())
}

fn read(file: &str) -> Result<Picture> {
    if file.ends_with(".png") { read_png(file) } else { read_ppm(file) }
}

fn read_png(file: &str) -> Result<Picture> {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(file)?));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let mut buffer = vec![0; reader.output_buffer_size().context("picture too large")?];
    let info = reader.next_frame(&mut buffer)?;
    let samples = info.color_type.samples();
    let rgb = buffer
        .chunks_exact(samples)
        .flat_map(|pixel| if samples < 3 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] })
        .collect();
    Ok(Picture { width: info.width as usize, height: info.height as usize, rgb })
}

fn read_ppm(file: &str) -> Result<Picture> {
    let bytes = std::fs::read(file)?;
    let mut fields = Vec::new();
    let mut position = 0;
    while fields.len() < 4 {
        let rest = bytes.get(position..).context("header is cut off")?;
        let length = rest.iter().position(u8::is_ascii_whitespace).context("header is cut off")?;
        fields.push(std::str::from_utf8(&rest[..length])?.to_owned());
        position += length + 1;
    }
    let [magic, width, height, depth] = &fields[..] else { bail!("not a PPM file") };
    ensure!(magic == "P6" && depth == "255", "only binary PPM with 8 bits is read, this is {magic} {depth}");
    let (width, height) = (width.parse()?, height.parse()?);
    let rgb = bytes[position..].to_vec();
    ensure!(rgb.len() == width * height * 3, "{} bytes of pixels for {width}x{height}", rgb.len());
    Ok(Picture { width, height, rgb })
}
