//! What a page looks like in a browser without a window, in a small file.

use std::{fs, io::BufWriter, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::process::output;

/// What the reader prefers.
#[derive(Clone, Copy)]
pub(super) enum Colours {
    Dark = 0,
    Light = 1,
}

/// Writes a PNG of the page as it is after it was loaded, in a window of so many pixels.
pub(super) fn photograph(page: &Path, (width, height): (u32, u32), colours: Colours, picture: &Path) -> Result<()> {
    let mut command = Command::new("chromium-headless-shell");
    // As root it does not start with a sandbox.
    command.args(["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]);
    command.arg(format!("--window-size={width},{height}"));
    command.arg(format!("--blink-settings=preferredColorScheme={}", colours as u8));
    command.arg(format!("--screenshot={}", picture.display()));
    eprintln!("{} of {}", picture.display(), page.display());
    output(command.arg(format!("file://{}", page.display())))?;
    compress(picture)
}

/// A browser is in a hurry when it compresses.
fn compress(picture: &Path) -> Result<()> {
    let file = fs::File::open(picture).with_context(|| format!("cannot read {}", picture.display()))?;
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().context("the picture is too large")?];
    let info = reader.next_frame(&mut pixels)?;
    let mut encoder = png::Encoder::new(BufWriter::new(fs::File::create(picture)?), info.width, info.height);
    encoder.set_color(info.color_type);
    encoder.set_depth(info.bit_depth);
    // Lines and letters on one colour: filters only make that harder to compress.
    encoder.set_filter(png::Filter::NoFilter);
    encoder.set_compression(png::Compression::High);
    encoder.write_header()?.write_image_data(&pixels[..info.buffer_size()])?;
    Ok(())
}
