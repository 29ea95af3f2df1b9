//! Synthetic studies: a CT series of a head that never was, and a multi-frame instance of any size.
//!
//! For the demonstration, the tests and the benchmarks, which must not depend on anybody's images. Deterministic: the
//! same parameters give the same bytes and the same UIDs, other parameters give other UIDs, so nothing synthetic ever
//! collides with itself. Everything is written row by row in Explicit VR Little Endian; memory does not grow with the
//! size of an instance. All UIDs are below 2.25 (PS3.5 B.2). The patient is `PHANTOM^WAYSTATION`.
//!
//! The CT slices have what makes real ones hard: 12 bits in 16, noise, a circle of reconstruction with zeros around it,
//! a sequence, a private element. The pixels are drawn with additions and multiplications only, so that every machine
//! draws the same.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use dicom_core::Tag;

use crate::dataset::part10::{FileMeta, write_file_meta};
use crate::dataset::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
use crate::dataset::vr::Vr;
use crate::dataset::write::{element, explicit_header, implicit_header};
use crate::dataset::{IMPLEMENTATION_VERSION_NAME, tags};
use crate::model::{InvalidValue, Uid};

const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7.3";

/// An ellipsoid of one tissue: centre and half axes in units of half the image (x, y) and of half the series (z), the
/// cosine and sine of its turn in the plane, Hounsfield units.
struct Ellipsoid([f64; 3], [f64; 3], [f64; 2], i32);

/// What is drawn, later ones over earlier ones.
const HEAD: [Ellipsoid; 10] = [
    Ellipsoid([0.0, 0.0, 0.0], [0.69, 0.92, 1.30], [1.0, 0.0], 900),
    Ellipsoid([0.0, -0.0184, 0.0], [0.6624, 0.874, 1.25], [1.0, 0.0], 38),
    Ellipsoid([0.22, 0.0, 0.0], [0.11, 0.31, 0.60], [0.951, -0.309], 6),
    Ellipsoid([-0.22, 0.0, 0.0], [0.16, 0.41, 0.75], [0.951, 0.309], 4),
    Ellipsoid([0.0, 0.35, -0.15], [0.21, 0.25, 0.41], [1.0, 0.0], 62),
    Ellipsoid([0.0, 0.1, 0.25], [0.046, 0.046, 0.5], [1.0, 0.0], 75),
    Ellipsoid([0.0, -0.1, 0.25], [0.046, 0.046, 0.5], [1.0, 0.0], 20),
    Ellipsoid([-0.08, -0.605, 0.0], [0.046, 0.023, 0.4], [1.0, 0.0], 300),
    Ellipsoid([0.0, -0.605, 0.0], [0.023, 0.023, 0.6], [1.0, 0.0], -90),
    Ellipsoid([0.06, -0.605, -0.3], [0.023, 0.046, 0.3], [1.0, 0.0], 55),
];

/// A CT series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phantom {
    /// Another seed, another study.
    pub seed: u64,
    /// How many instances.
    pub slices: u32,
    /// Rows of each.
    pub rows: u16,
    /// Columns of each.
    pub columns: u16,
}

impl Default for Phantom {
    fn default() -> Self {
        Self { seed: 1, slices: 50, rows: 512, columns: 512 }
    }
}

/// Which file of a series could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the phantom to {}: {source}", path.display())]
pub struct WriteSeriesError {
    path: PathBuf,
    source: io::Error,
}

impl Phantom {
    /// A small series, 64 × 64, for tests that are about numbers of instances.
    #[must_use]
    pub fn small(slices: u32) -> Self {
        Self { slices, rows: 64, columns: 64, ..Self::default() }
    }

    /// Study Instance UID.
    ///
    /// # Errors
    /// None; it is the signature of every constructor of a [`Uid`].
    pub fn study_instance_uid(&self) -> Result<Uid, InvalidValue> {
        self.uid(1, 0)
    }

    /// What stands in front of slice `slice` (from 0) in a file.
    ///
    /// # Errors
    /// As [`Phantom::study_instance_uid`].
    pub fn file_meta(&self, slice: u32) -> Result<FileMeta, InvalidValue> {
        Ok(FileMeta {
            sop_class_uid: CT_IMAGE_STORAGE.parse()?,
            sop_instance_uid: self.uid(4, slice)?,
            transfer_syntax: EXPLICIT_VR_LITTLE_ENDIAN.parse()?,
            source_ae: Some("PHANTOM".parse()?),
        })
    }

    /// Writes the series as Part 10 files `0001.dcm`, `0002.dcm` … into `folder`, which is made if it is missing, and
    /// returns their paths.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub fn write_series(&self, folder: &Path) -> Result<Vec<PathBuf>, WriteSeriesError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteSeriesError { path, source }
        };
        fs::create_dir_all(folder).map_err(failed(folder))?;
        let mut paths = Vec::new();
        for slice in 0..self.slices {
            let path = folder.join(format!("{:04}.dcm", slice + 1));
            let write = || {
                let mut out = BufWriter::new(File::create(&path)?);
                self.write_file(slice, &mut out)?;
                out.flush()
            };
            write().map_err(failed(&path))?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Writes slice `slice` (from 0) as a Part 10 file.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write_file(&self, slice: u32, out: &mut impl Write) -> io::Result<()> {
        write_file_meta(out, &self.file_meta(slice).map_err(io::Error::other)?)?;
        self.write_data_set(slice, out)
    }

    /// Writes the data set of slice `slice` (from 0) in Explicit VR Little Endian.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write_data_set(&self, slice: u32, out: &mut impl Write) -> io::Result<()> {
        let meta = self.file_meta(slice).map_err(io::Error::other)?;
        let uid = |kind| self.uid(kind, 0).map_err(io::Error::other);
        let number = (slice + 1).to_string();
        let height = f64::from(slice) * 1.25;
        text(out, 0x0008, 0x0005, Vr::CS, "ISO_IR 192")?;
        text(out, 0x0008, 0x0008, Vr::CS, "DERIVED\\PRIMARY\\AXIAL")?;
        text(out, 0x0008, 0x0016, Vr::UI, CT_IMAGE_STORAGE)?;
        text(out, 0x0008, 0x0018, Vr::UI, meta.sop_instance_uid.as_str())?;
        general_study(out, "CT")?;
        text(out, 0x0008, 0x103e, Vr::LO, "Head, synthetic")?;
        anatomic_region(out)?;
        patient(out)?;
        text(out, 0x0018, 0x0050, Vr::DS, "1.25")?;
        text(out, 0x0018, 0x0060, Vr::DS, "120")?;
        text(out, 0x0020, 0x000d, Vr::UI, uid(1)?.as_str())?;
        text(out, 0x0020, 0x000e, Vr::UI, uid(2)?.as_str())?;
        text(out, 0x0020, 0x0010, Vr::SH, "1")?;
        text(out, 0x0020, 0x0011, Vr::IS, "1")?;
        text(out, 0x0020, 0x0013, Vr::IS, &number)?;
        text(out, 0x0020, 0x0032, Vr::DS, &format!("-125\\-125\\{height}"))?;
        text(out, 0x0020, 0x0037, Vr::DS, "1\\0\\0\\0\\1\\0")?;
        text(out, 0x0020, 0x0052, Vr::UI, uid(3)?.as_str())?;
        pixel_module(out, self.rows, self.columns, None, 12)?;
        text(out, 0x0028, 0x1050, Vr::DS, "40")?;
        text(out, 0x0028, 0x1051, Vr::DS, "80")?;
        text(out, 0x0028, 0x1052, Vr::DS, "-1024")?;
        text(out, 0x0028, 0x1053, Vr::DS, "1")?;
        text(out, 0x0071, 0x0010, Vr::LO, "WAYSTATION PHANTOM")?;
        element(out, Tag(0x0071, 0x1001), Vr::UL, &slice.to_le_bytes())?;
        pixel_data_header(out, u64::from(self.rows) * u64::from(self.columns) * 2)?;
        self.write_pixels(slice, out)
    }

    fn write_pixels(&self, slice: u32, out: &mut impl Write) -> io::Result<()> {
        let mut noise = Random(self.seed ^ u64::from(slice).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let z = (f64::from(slice) + 0.5) / f64::from(self.slices.max(1)) * 2.0 - 1.0;
        let mut row = Vec::with_capacity(usize::from(self.columns) * 2);
        for row_number in 0..self.rows {
            let y = (f64::from(row_number) + 0.5) / f64::from(self.rows) * 2.0 - 1.0;
            row.clear();
            for column in 0..self.columns {
                let x = (f64::from(column) + 0.5) / f64::from(self.columns) * 2.0 - 1.0;
                let stored =
                    if x * x + y * y > 1.0 { 0 } else { (hounsfield(x, y, z) + noise.noise() + 1024).clamp(0, 4095) };
                row.extend(u16::try_from(stored).unwrap_or(0).to_le_bytes());
            }
            out.write_all(&row)?;
        }
        Ok(())
    }

    fn uid(&self, kind: u64, number: u32) -> Result<Uid, InvalidValue> {
        let shape = u64::from(self.rows) << 48 | u64::from(self.columns) << 32 | u64::from(self.slices);
        uid(&[self.seed, shape, kind, u64::from(number)])
    }
}

/// A multi-frame instance (Multi-frame Grayscale Word Secondary Capture).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiFrame {
    /// Another seed, another study.
    pub seed: u64,
    /// Rows of each frame.
    pub rows: u16,
    /// Columns of each frame.
    pub columns: u16,
    /// How many frames.
    pub frames: u32,
}

impl MultiFrame {
    /// An instance whose pixel data has at least `bytes` bytes, in frames of 1,024 × 1,024 (2 MiB), at least one.
    #[must_use]
    pub fn of_size(bytes: u64, seed: u64) -> Self {
        const FRAME: u64 = 1_024 * 1_024 * 2;
        let frames = u32::try_from(bytes.div_ceil(FRAME).max(1)).unwrap_or(u32::MAX);
        Self { seed, rows: 1_024, columns: 1_024, frames }
    }

    /// What stands in front of it in a file.
    ///
    /// # Errors
    /// As [`Phantom::study_instance_uid`].
    pub fn file_meta(&self) -> Result<FileMeta, InvalidValue> {
        Ok(FileMeta {
            sop_class_uid: MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE.parse()?,
            sop_instance_uid: self.uid(4)?,
            transfer_syntax: EXPLICIT_VR_LITTLE_ENDIAN.parse()?,
            source_ae: Some("PHANTOM".parse()?),
        })
    }

    /// Writes it as a Part 10 file.
    ///
    /// # Errors
    /// As [`MultiFrame::write_data_set`].
    pub fn write_file(&self, out: &mut impl Write) -> io::Result<()> {
        write_file_meta(out, &self.file_meta().map_err(io::Error::other)?)?;
        self.write_data_set(out)
    }

    /// Writes its data set in Explicit VR Little Endian.
    ///
    /// # Errors
    /// Writing fails, or the pixel data would have 4 GiB or more, which an uncompressed data set cannot.
    pub fn write_data_set(&self, out: &mut impl Write) -> io::Result<()> {
        let uid = |kind| self.uid(kind).map_err(io::Error::other);
        text(out, 0x0008, 0x0005, Vr::CS, "ISO_IR 192")?;
        text(out, 0x0008, 0x0016, Vr::UI, MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE)?;
        text(out, 0x0008, 0x0018, Vr::UI, uid(4)?.as_str())?;
        general_study(out, "OT")?;
        text(out, 0x0008, 0x0064, Vr::CS, "SYN")?;
        patient(out)?;
        text(out, 0x0018, 0x1063, Vr::DS, "40")?;
        text(out, 0x0020, 0x000d, Vr::UI, uid(1)?.as_str())?;
        text(out, 0x0020, 0x000e, Vr::UI, uid(2)?.as_str())?;
        text(out, 0x0020, 0x0010, Vr::SH, "1")?;
        text(out, 0x0020, 0x0011, Vr::IS, "1")?;
        text(out, 0x0020, 0x0013, Vr::IS, "1")?;
        pixel_module(out, self.rows, self.columns, Some(self.frames), 16)?;
        pixel_data_header(out, u64::from(self.rows) * u64::from(self.columns) * 2 * u64::from(self.frames))?;
        let mut noise = Random(self.seed);
        let mut row = vec![0; usize::from(self.columns) * 2];
        for frame in 0..self.frames {
            for row_number in 0..self.rows {
                let mut value = u32::from(row_number).wrapping_add(frame.wrapping_mul(7)).wrapping_mul(8);
                // One draw is enough noise, five bits each, for twelve pixels.
                for pixels in row.chunks_mut(24) {
                    let mut bits = noise.next();
                    for pixel in pixels.chunks_exact_mut(2) {
                        let [low, high, ..] = value.wrapping_add(Random::low_bits(bits)).to_le_bytes();
                        pixel.copy_from_slice(&[low, high]);
                        value = value.wrapping_add(8);
                        bits >>= 5;
                    }
                }
                out.write_all(&row)?;
            }
        }
        Ok(())
    }

    fn uid(&self, kind: u64) -> Result<Uid, InvalidValue> {
        let shape = u64::from(self.rows) << 48 | u64::from(self.columns) << 32 | u64::from(self.frames);
        uid(&[self.seed, shape, kind, u64::MAX])
    }
}

fn text(out: &mut impl Write, group: u16, number: u16, vr: Vr, value: &str) -> io::Result<()> {
    element(out, Tag(group, number), vr, value.as_bytes())
}

fn number(out: &mut impl Write, tag: Tag, value: u16) -> io::Result<()> {
    element(out, tag, Vr::US, &value.to_le_bytes())
}

fn general_study(out: &mut impl Write, modality: &str) -> io::Result<()> {
    text(out, 0x0008, 0x0020, Vr::DA, "20260102")?;
    text(out, 0x0008, 0x0030, Vr::TM, "030405")?;
    text(out, 0x0008, 0x0050, Vr::SH, "")?;
    text(out, 0x0008, 0x0060, Vr::CS, modality)
}

fn patient(out: &mut impl Write) -> io::Result<()> {
    text(out, 0x0010, 0x0010, Vr::PN, "PHANTOM^WAYSTATION")?;
    text(out, 0x0010, 0x0020, Vr::LO, IMPLEMENTATION_VERSION_NAME)?;
    text(out, 0x0010, 0x0030, Vr::DA, "")?;
    text(out, 0x0010, 0x0040, Vr::CS, "O")
}

/// Anatomic Region Sequence (0008,2218) with one item of defined length.
fn anatomic_region(out: &mut impl Write) -> io::Result<()> {
    let mut item = Vec::new();
    text(&mut item, 0x0008, 0x0100, Vr::SH, "69536005")?;
    text(&mut item, 0x0008, 0x0102, Vr::SH, "SCT")?;
    text(&mut item, 0x0008, 0x0104, Vr::LO, "Head")?;
    let length = u32::try_from(item.len()).map_err(io::Error::other)?;
    let mut value = implicit_header(tags::ITEM, Some(length)).as_bytes().to_vec();
    value.append(&mut item);
    element(out, Tag(0x0008, 0x2218), Vr::SQ, &value)
}

fn pixel_module(
    out: &mut impl Write,
    rows: u16,
    columns: u16,
    frames: Option<u32>,
    bits_stored: u16,
) -> io::Result<()> {
    number(out, tags::SAMPLES_PER_PIXEL, 1)?;
    text(out, 0x0028, 0x0004, Vr::CS, "MONOCHROME2")?;
    if let Some(frames) = frames {
        element(out, tags::NUMBER_OF_FRAMES, Vr::IS, frames.to_string().as_bytes())?;
        element(out, Tag(0x0028, 0x0009), Vr::from(dicom_core::VR::AT), &[0x18, 0x00, 0x63, 0x10])?;
    }
    number(out, tags::ROWS, rows)?;
    number(out, tags::COLUMNS, columns)?;
    text(out, 0x0028, 0x0030, Vr::DS, "0.5\\0.5")?;
    number(out, tags::BITS_ALLOCATED, 16)?;
    number(out, Tag(0x0028, 0x0101), bits_stored)?;
    number(out, Tag(0x0028, 0x0102), bits_stored - 1)?;
    number(out, tags::PIXEL_REPRESENTATION, 0)
}

fn pixel_data_header(out: &mut impl Write, length: u64) -> io::Result<()> {
    let header = u32::try_from(length)
        .ok()
        .filter(|length| *length != u32::MAX)
        .and_then(|length| explicit_header(tags::PIXEL_DATA, Vr::OW, Some(length)))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "pixel data of 4 GiB or more"))?;
    out.write_all(header.as_bytes())
}

fn hounsfield(x: f64, y: f64, z: f64) -> i32 {
    let mut found = -1_000;
    for Ellipsoid([centre_x, centre_y, centre_z], [half_x, half_y, half_z], [cosine, sine], value) in HEAD {
        let (x, y, z) = (x - centre_x, y + centre_y, (z - centre_z) / half_z);
        let (along, across) = ((x * cosine + y * sine) / half_x, (y * cosine - x * sine) / half_y);
        if along * along + across * across + z * z <= 1.0 {
            found = value;
        }
    }
    found
}

/// A UID below 2.25 from a UUID of version 8 (RFC 9562 5.8) that these numbers determine.
fn uid(numbers: &[u64]) -> Result<Uid, InvalidValue> {
    let mut random = Random(0x5761_7973_7461_7469);
    for number in numbers {
        random = Random(random.next() ^ number);
    }
    let bits = u128::from(random.next()) << 64 | u128::from(random.next());
    let version = bits & !(0xf << 76) | 0x8 << 76;
    let variant = version & !(0x3 << 62) | 0x2 << 62;
    format!("2.25.{variant}").parse()
}

/// SplitMix64: small, and the same on every machine and in every version of every library.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The lowest five bits.
    fn low_bits(bits: u64) -> u32 {
        let [lowest, ..] = bits.to_le_bytes();
        u32::from(lowest & 0x1f)
    }

    /// About normally distributed around 0, standard deviation about 12.
    fn noise(&mut self) -> i32 {
        let sum: i32 = self.next().to_le_bytes().into_iter().map(i32::from).sum();
        (sum - 1_020) / 17
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::scan::HeaderScan;

    fn scanned(meta: &FileMeta, data_set: &[u8]) -> crate::receive::scan::Scan {
        let mut scan = HeaderScan::new(&meta.transfer_syntax);
        scan.feed(data_set);
        let scan = scan.finish();
        scan.check(&meta.sop_class_uid, &meta.sop_instance_uid).unwrap();
        scan
    }

    #[test]
    fn a_slice_is_an_instance_that_the_gateway_accepts() {
        let phantom = Phantom::small(3);
        let mut data_set = Vec::new();
        phantom.write_data_set(1, &mut data_set).unwrap();
        let scan = scanned(&phantom.file_meta(1).unwrap(), &data_set);
        let image = scan.image.unwrap();
        assert_eq!((image.rows, image.columns, image.frames), (64, 64, 1));
        assert_eq!(image.pixel_data_offset + image.pixel_data_length, scan.length);
        assert_eq!(scan.study_instance_uid, Some(phantom.study_instance_uid().unwrap()));
        assert_eq!(scan.modality.as_deref(), Some("CT"));
    }

    #[test]
    fn the_same_parameters_give_the_same_bytes_and_others_give_other_uids() {
        let written = |phantom: Phantom, slice| {
            let mut out = Vec::new();
            phantom.write_file(slice, &mut out).unwrap();
            out
        };
        let phantom = Phantom::small(3);
        assert_eq!(written(phantom, 0), written(phantom, 0));
        assert_ne!(written(phantom, 0), written(phantom, 1));
        let uids: std::collections::BTreeSet<_> = [phantom, Phantom { seed: 2, ..phantom }, Phantom::small(4)]
            .into_iter()
            .flat_map(|phantom| (0..3).map(move |slice| phantom.file_meta(slice).unwrap().sop_instance_uid))
            .collect();
        assert_eq!(uids.len(), 9);
        assert!(uids.iter().all(|uid| uid.as_str().starts_with("2.25.")));
    }

    #[test]
    fn a_series_is_written_as_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Phantom::small(2).write_series(&folder.path().join("series")).unwrap();
        assert_eq!(paths.len(), 2);
        assert!(paths[1].ends_with("0002.dcm"));
        let (meta, _) = crate::dataset::part10::read_file_meta(File::open(&paths[1]).unwrap()).unwrap();
        assert_eq!(meta.sop_instance_uid, Some(Phantom::small(2).file_meta(1).unwrap().sop_instance_uid));
    }

    #[test]
    fn a_multi_frame_instance_has_the_size_asked_for() {
        let instance = MultiFrame { seed: 1, rows: 64, columns: 32, frames: 5 };
        let mut data_set = Vec::new();
        instance.write_data_set(&mut data_set).unwrap();
        let image = scanned(&instance.file_meta().unwrap(), &data_set).image.unwrap();
        assert_eq!((image.frames, image.pixel_data_length), (5, 64 * 32 * 2 * 5));
        assert_eq!(MultiFrame::of_size(1 << 30, 1).frames, 512);
        assert!(MultiFrame::of_size(1 << 33, 1).write_data_set(&mut io::sink()).is_err());
    }
}
