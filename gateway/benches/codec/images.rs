//! The images that are measured.

#[path = "../../tests/support/files.rs"]
mod files;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use waystation::codec::PixelLayout;
use waystation::dataset::part10::read_file_meta;
use waystation::model::Uid;
use waystation::phantom::Phantom;
use waystation::receive::scan::{HeaderScan, ImageShape};

use files::files_below;

/// Images of one folder that are measured at most.
const IMAGES: usize = 24;

pub(crate) struct Image {
    pub(crate) pixels: Vec<u8>,
    pub(crate) layout: PixelLayout,
    pub(crate) transfer_syntax: Uid,
    pub(crate) data_set: Vec<u8>,
}

/// The images that have pixels to compress, by folder and modality.
///
/// # Panics
/// DCMTK is not installed, or the folder cannot be read.
pub(crate) fn families() -> BTreeMap<String, Vec<Image>> {
    let mut families: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    let scratch = tempfile::tempdir().unwrap();
    let files = match std::env::var_os("WAYSTATION_STUDIES") {
        Some(folder) => files_below(Path::new(&folder)),
        None => {
            let phantom = scratch.path().join("phantom");
            Phantom::default().write_series(&phantom).unwrap();
            files_below(&phantom)
        }
    };
    for file in files {
        let Some((image, shape, modality)) = read(&file).or_else(|| read(&decoded(&file, scratch.path())?)) else {
            continue;
        };
        // Nothing here has a filter for other samples.
        if !matches!(shape.bits_allocated, 8 | 16) {
            continue;
        }
        let folder = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let samples = if shape.samples_per_pixel == 1 { String::new() } else { " colour".into() };
        let name = format!("{folder} {modality} {} bit{samples}", shape.bits_allocated);
        let images = families.entry(name).or_default();
        // Small ones measure the first calls of the compressor.
        if image.pixels.len() >= 60_000 && images.len() < IMAGES {
            images.push(image);
        }
    }
    families.retain(|_, images| !images.is_empty());
    families
}

/// The uncompressed pixels of a file.
fn read(file: &Path) -> Option<(Image, ImageShape, String)> {
    let (meta, mut rest) = read_file_meta(File::open(file).ok()?).ok()?;
    let mut data_set = Vec::new();
    rest.read_to_end(&mut data_set).ok()?;
    let mut scan = HeaderScan::new(&meta.transfer_syntax);
    scan.feed(&data_set);
    let scan = scan.finish();
    let shape = scan.image?;
    let start = usize::try_from(shape.pixel_data_offset).ok()?;
    let length = usize::try_from(shape.pixel_data_length).ok()?;
    let pixels = data_set.get(start..)?.get(..length)?.to_vec();
    let layout = PixelLayout { offset: 0, ..shape.layout() };
    let image = Image { pixels, layout, transfer_syntax: meta.transfer_syntax, data_set };
    Some((image, shape, scan.modality.unwrap_or_default()))
}

/// A lossless JPEG file, decoded.
fn decoded(file: &Path, scratch: &Path) -> Option<PathBuf> {
    let (meta, _) = read_file_meta(File::open(file).ok()?).ok()?;
    let lossless = matches!(meta.transfer_syntax.as_str(), "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70");
    if !lossless {
        return None;
    }
    let out = scratch.join("decoded.dcm");
    let status = Command::new("dcmdjpeg").arg(file).arg(&out).status();
    let status = status.expect("dcmdjpeg of DCMTK decodes JPEG files: run scripts/setup-test-peers");
    status.success().then_some(out)
}
