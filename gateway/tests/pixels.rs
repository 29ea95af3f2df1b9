//! Lossless transcoding over real files: every result is proved by the gateway's own reader, and decoded by everybody else
//! who is at hand (DCMTK, GDCM, pydicom with CharLS), none of whom may see anything but the stored image.
//!
//! The files are those of `WAYSTATION_STUDIES`, or else those that pydicom brings along, and phantoms.

#[path = "support/files.rs"]
mod files;
mod samples;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_core::Tag;
use waystation::dataset::part10::{FileMeta, read_file_meta, write_file_meta};
use waystation::dataset::vr::Vr;
use waystation::dataset::write::element;
use waystation::model::Uid;
use waystation::pixels::{EncodeError, JPEG_LS, LeftAlone, Limits, RLE, candidates, decode, encode, look, verify};

use files::files_below;

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

struct Sample {
    name: String,
    transfer_syntax: Uid,
    data_set: Vec<u8>,
}

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).to_owned()
}

fn studies() -> PathBuf {
    if let Some(folder) = std::env::var_os("WAYSTATION_STUDIES") {
        return folder.into();
    }
    let library = root().join("target/peers/venv/lib");
    let data = |entry: fs::DirEntry| entry.path().join("site-packages/pydicom/data");
    let entries = fs::read_dir(&library).expect("pydicom is missing: run scripts/setup-test-peers");
    entries.flatten().map(data).find(|folder| folder.is_dir()).expect("pydicom brings no test files along")
}

fn samples() -> Vec<Sample> {
    let phantom =
        |(name, transfer_syntax, data_set): (&str, _, _)| Sample { name: name.to_owned(), transfer_syntax, data_set };
    let mut samples: Vec<_> = samples::phantoms().into_iter().chain(odd_images()).map(phantom).collect();
    let folder = studies();
    for path in files_below(&folder) {
        let Ok((meta, mut rest)) = read_file_meta(fs::File::open(&path).unwrap()) else { continue };
        let mut data_set = Vec::new();
        rest.read_to_end(&mut data_set).unwrap();
        let name = path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        samples.push(Sample { name, transfer_syntax: meta.transfer_syntax, data_set });
    }
    samples
}

/// Images of kinds that scanners make and collections of files lack.
fn odd_images() -> [(&'static str, Uid, Vec<u8>); 6] {
    let image = |photometric: &str, [samples, planar, stored, allocated, signed, frames]: [u16; 6]| {
        let (rows, columns) = (21_u16, 13_u16);
        let (us, cs) = (Vr::US, Vr::CS);
        let mut out = Vec::new();
        let number = |out: &mut Vec<u8>, tag: u16, value: u16| {
            element(out, Tag(0x0028, tag), us, &value.to_le_bytes()).unwrap();
        };
        element(&mut out, Tag(0x0008, 0x0016), Vr::UI, b"1.2.840.10008.5.1.4.1.1.7").unwrap();
        element(&mut out, Tag(0x0008, 0x0018), Vr::UI, b"1.2.3").unwrap();
        number(&mut out, 0x0002, samples);
        element(&mut out, Tag(0x0028, 0x0004), cs, photometric.as_bytes()).unwrap();
        if samples > 1 {
            number(&mut out, 0x0006, planar);
        }
        element(&mut out, Tag(0x0028, 0x0008), Vr::IS, frames.to_string().as_bytes()).unwrap();
        for (tag, value) in [(0x0010, rows), (0x0011, columns), (0x0100, allocated), (0x0101, stored)] {
            number(&mut out, tag, value);
        }
        number(&mut out, 0x0102, stored - 1);
        number(&mut out, 0x0103, signed);
        let count = u32::from(rows) * u32::from(columns) * u32::from(samples) * u32::from(frames);
        let cell = |n: u32| {
            let value = u16::try_from(n * n * 3 % 60_000 + n % 7).unwrap() << (16 - stored);
            if signed == 1 { (value.cast_signed() >> (16 - stored)).cast_unsigned() } else { value >> (16 - stored) }
        };
        let bytes = usize::from(allocated / 8);
        let pixels: Vec<u8> = (0..count).flat_map(|n| cell(n).to_le_bytes().into_iter().take(bytes)).collect();
        element(&mut out, Tag(0x7fe0, 0x0010), if bytes == 1 { Vr::OB } else { Vr::OW }, &pixels).unwrap();
        out
    };
    let explicit = |name, data_set| (name, EXPLICIT.parse().unwrap(), data_set);
    [
        explicit("12 signed bits of 16", image("MONOCHROME2", [1, 0, 12, 16, 1, 1])),
        explicit("10 bits of 16 in frames", image("MONOCHROME1", [1, 0, 10, 16, 0, 4])),
        // Not 6 or 7: the GDCM plugin of pydicom refuses those by their number, whatever the precision of the code stream.
        explicit("5 bits of 16", image("MONOCHROME2", [1, 0, 5, 16, 0, 1])),
        explicit("8 signed bits in an odd number of frames", image("MONOCHROME2", [1, 0, 8, 8, 1, 3])),
        explicit("planes of colour in an odd number of frames", image("RGB", [3, 1, 8, 8, 0, 3])),
        explicit("YBR_FULL", image("YBR_FULL", [3, 0, 8, 8, 0, 2])),
    ]
}

/// A data set as a file.
fn write_file(path: &Path, transfer_syntax: &Uid, data_set: &[u8]) {
    let uid = |text: &str| text.parse().unwrap();
    let (class, instance, transfer_syntax) = (uid("1.2.3"), uid("1.2.3"), transfer_syntax.clone());
    let meta = FileMeta { sop_class_uid: class, sop_instance_uid: instance, transfer_syntax, source_ae: None };
    let mut file = Vec::new();
    write_file_meta(&mut file, &meta).unwrap();
    file.extend_from_slice(data_set);
    fs::write(path, file).unwrap();
}

#[test]
fn what_is_coded_is_the_stored_image_to_every_decoder_at_hand() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let limits = Limits::default();
    let mut pairs = String::new();
    let mut table = String::from("file\tfrom\tto\toutcome\n");
    let mut coded: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, sample) in samples().iter().enumerate() {
        let Sample { name, transfer_syntax: from, data_set } = sample;
        let Ok(facts) = look(&data_set[..], from) else { continue };
        let stored = folder.path().join(format!("{number}.dcm"));
        let possible = candidates(&facts, from, &limits);
        if !possible.is_empty() {
            write_file(&stored, from, data_set);
        }
        for to in possible {
            let target: Uid = to.parse().unwrap();
            let mut sink = Cursor::new(Vec::new());
            let outcome = match encode(&data_set[..], from, &target, &mut sink, &limits) {
                Ok(encoded) => format!("{} of {} bytes", encoded.bytes, encoded.from),
                Err(EncodeError::LeftAlone(reason)) => {
                    assert!(reason.is_expected(), "{name} to {to}: {reason}");
                    assert_ne!(reason, LeftAlone::CodecFailed, "{name} to {to}");
                    format!("left alone: {reason}")
                }
                Err(error) => panic!("{name} to {to}: {error}"),
            };
            writeln!(table, "{name}\t{from}\t{to}\t{outcome}").unwrap();
            if outcome.starts_with("left") {
                continue;
            }
            let result = sink.into_inner();
            verify(&data_set[..], from, &result[..], &target, &limits)
                .unwrap_or_else(|e| panic!("{name} to {to}: {e}"));
            if matches!(to, JPEG_LS | RLE) && from.as_str() == EXPLICIT {
                let mut native = Vec::new();
                decode(&result[..], &target, facts.planar(), &mut native, &limits).unwrap();
                assert!(
                    native.len().abs_diff(data_set.len()) <= 12,
                    "{name} to {to}: only a group length may be missing"
                );
            }
            let file = folder.path().join(format!("{number}@{to}.dcm"));
            write_file(&file, &target, &result);
            writeln!(pairs, "{name}\t{}\t{}", stored.display(), file.display()).unwrap();
            *coded.entry(to).or_default() += 1;
        }
    }
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/pixels.tsv"), table).unwrap();
    assert!(coded.len() == 3 && coded.values().all(|count| *count > 20), "{coded:?}");
    let list = folder.path().join("pairs.tsv");
    fs::write(&list, pairs).unwrap();
    let python = root().join("target/peers/venv/bin/python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check_pixels.py");
    let checked = Command::new(python).arg(script).arg(&list).output().expect("run scripts/setup-test-peers");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}\n{}", String::from_utf8_lossy(&checked.stderr));
}
