//! Pictures as PNG.

use loco_media::video::RgbImage;

/// Some 10 ms of work for a large picture: not for a thread that answers others.
///
/// # Errors
/// When the picture's bytes do not fit its size.
pub(crate) fn encode_png(image: &RgbImage) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.size.width, image.size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.pixels)?;
    writer.finish()?;
    Ok(bytes)
}
