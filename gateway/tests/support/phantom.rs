//! Instances made on the spot: valid, small or huge, each with its own UIDs and bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const MULTI_FRAME_WORD_SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7.3";

/// The root below which all UIDs of these instances are (a UUID-derived one would do as well).
const ROOT: &str = "1.2.826.0.1.3680043.10.1542";

/// One element in Explicit VR Little Endian, with its value padded to even length.
fn element(out: &mut Vec<u8>, group: u16, number: u16, vr: &str, value: &[u8]) {
    let padding = if vr == "UI" { 0 } else { b' ' };
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(padding);
    }
    element_head(out, group, number, vr, u32::try_from(value.len()).unwrap());
    out.extend_from_slice(&value);
}

fn element_head(out: &mut Vec<u8>, group: u16, number: u16, vr: &str, length: u32) {
    out.extend_from_slice(&group.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(vr.as_bytes());
    if matches!(vr, "OB" | "OW" | "UN" | "SQ" | "UT") {
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length.to_le_bytes());
    } else {
        out.extend_from_slice(&u16::try_from(length).unwrap().to_le_bytes());
    }
}

/// An image to make: `frames` of 0 means that it is no multi-frame image.
struct Image<'a> {
    sop_class: &'a str,
    sop_instance: &'a str,
    series: &'a str,
    number: u32,
    rows: u16,
    columns: u16,
    frames: u32,
}

impl Image<'_> {
    /// Everything before the first byte of the pixel data.
    fn head(&self) -> Vec<u8> {
        let mut meta = Vec::new();
        element(&mut meta, 2, 1, "OB", &[0, 1]);
        element(&mut meta, 2, 2, "UI", self.sop_class.as_bytes());
        element(&mut meta, 2, 3, "UI", self.sop_instance.as_bytes());
        element(&mut meta, 2, 0x10, "UI", EXPLICIT_LITTLE_ENDIAN.as_bytes());
        element(&mut meta, 2, 0x12, "UI", format!("{ROOT}.1").as_bytes());
        let mut out = vec![0; 128];
        out.extend_from_slice(b"DICM");
        element(&mut out, 2, 0, "UL", &u32::try_from(meta.len()).unwrap().to_le_bytes());
        out.extend_from_slice(&meta);

        element(&mut out, 8, 0x08, "CS", b"DERIVED\\PRIMARY");
        element(&mut out, 8, 0x16, "UI", self.sop_class.as_bytes());
        element(&mut out, 8, 0x18, "UI", self.sop_instance.as_bytes());
        element(&mut out, 8, 0x20, "DA", b"20260102");
        element(&mut out, 8, 0x30, "TM", b"101112");
        element(&mut out, 8, 0x50, "SH", b"");
        element(&mut out, 8, 0x60, "CS", if self.frames == 0 { b"CT" } else { b"OT" });
        element(&mut out, 8, 0x90, "PN", b"");
        element(&mut out, 0x10, 0x10, "PN", b"Phantom^Test");
        element(&mut out, 0x10, 0x20, "LO", b"PHANTOM-1");
        element(&mut out, 0x10, 0x30, "DA", b"");
        element(&mut out, 0x10, 0x40, "CS", b"O");
        element(&mut out, 0x20, 0x0d, "UI", format!("{}.0", self.series).as_bytes());
        element(&mut out, 0x20, 0x0e, "UI", self.series.as_bytes());
        element(&mut out, 0x20, 0x10, "SH", b"1");
        element(&mut out, 0x20, 0x11, "IS", b"1");
        element(&mut out, 0x20, 0x13, "IS", self.number.to_string().as_bytes());
        element(&mut out, 0x28, 0x02, "US", &1_u16.to_le_bytes());
        element(&mut out, 0x28, 0x04, "CS", b"MONOCHROME2");
        if self.frames > 0 {
            element(&mut out, 0x28, 0x08, "IS", self.frames.to_string().as_bytes());
        }
        element(&mut out, 0x28, 0x10, "US", &self.rows.to_le_bytes());
        element(&mut out, 0x28, 0x11, "US", &self.columns.to_le_bytes());
        element(&mut out, 0x28, 0x100, "US", &16_u16.to_le_bytes());
        element(&mut out, 0x28, 0x101, "US", &12_u16.to_le_bytes());
        element(&mut out, 0x28, 0x102, "US", &11_u16.to_le_bytes());
        element(&mut out, 0x28, 0x103, "US", &0_u16.to_le_bytes());
        let pixel_bytes = u32::from(self.rows) * u32::from(self.columns) * 2 * self.frames.max(1);
        element_head(&mut out, 0x7fe0, 0x10, "OW", pixel_bytes);
        out
    }
}

/// One row of 12-bit pixels: a smooth ramp in even bands, noise that does not compress in odd ones.
fn row(out: &mut Vec<u8>, columns: u16, place: u32, line: u16, random: &mut fastrand::Rng) {
    out.clear();
    for column in 0..columns {
        let pixel = if (line / 16).is_multiple_of(2) {
            u16::try_from((place * 3 + u32::from(line) + u32::from(column)) % 4096).unwrap()
        } else {
            random.u16(0..4096)
        };
        out.extend_from_slice(&pixel.to_le_bytes());
    }
}

fn write(path: &Path, image: &Image, seed: u64) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    out.write_all(&image.head()).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut line_bytes = Vec::new();
    for frame in 0..image.frames.max(1) {
        for line in 0..image.rows {
            row(&mut line_bytes, image.columns, image.number + frame, line, &mut random);
            out.write_all(&line_bytes).unwrap();
        }
    }
    out.flush().unwrap();
}

/// A CT series of `count` images of `side` × `side` pixels in `folder`; gives their paths.
pub(crate) fn ct_series(folder: &Path, count: u32, side: u16) -> Vec<PathBuf> {
    let series = format!("{ROOT}.2.{}.{}", std::process::id(), fastrand::u32(..));
    (1..=count)
        .map(|number| {
            let path = folder.join(format!("{number:05}.dcm"));
            let sop_instance = format!("{series}.{number}");
            let image = Image {
                sop_class: CT_IMAGE,
                sop_instance: &sop_instance,
                series: &series,
                number,
                rows: side,
                columns: side,
                frames: 0,
            };
            write(&path, &image, u64::from(number));
            path
        })
        .collect()
}

/// Small images, each of another private SOP class.
pub(crate) fn of_different_classes(folder: &Path, count: u32) -> Vec<PathBuf> {
    let series = format!("{ROOT}.4.{}.{}", std::process::id(), fastrand::u32(..));
    (1..=count)
        .map(|number| {
            let path = folder.join(format!("{number:05}.dcm"));
            let image = Image {
                sop_class: &format!("{ROOT}.5.{number}"),
                sop_instance: &format!("{series}.{number}"),
                series: &series,
                number,
                rows: 16,
                columns: 16,
                frames: 0,
            };
            write(&path, &image, u64::from(number));
            path
        })
        .collect()
}

/// One multi-frame image of 512 × 512 pixels, half a mebibyte for each frame.
pub(crate) fn multi_frame(path: &Path, frames: u32) {
    let series = format!("{ROOT}.3.{}.{}", std::process::id(), fastrand::u32(..));
    let sop_instance = format!("{series}.1");
    let image = Image {
        sop_class: MULTI_FRAME_WORD_SECONDARY_CAPTURE,
        sop_instance: &sop_instance,
        series: &series,
        number: 1,
        rows: 512,
        columns: 512,
        frames,
    };
    write(path, &image, 1);
}
