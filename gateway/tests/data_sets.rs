//! The header scan and the conversions over real files, and over phantoms where there are none.
//!
//! `WAYSTATION_STUDIES=folder` names a folder of DICOM files. A `MANIFEST.tsv` in it may say which of them are broken
//! on purpose: a row with "trunc", "too_short" or "unparsable" in it. The verdict on every file is written as a table
//! to `data_sets.tsv` below the target directory's `tmp`. With `WAYSTATION_CONVERTED=folder`, every conversion is also
//! written there as a file, for `tests/check_conversions.py` to compare with an independent reader.

#[path = "support/files.rs"]
mod files;
mod samples;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use dicom_core::Tag;
use waystation::dataset::coerce::{self, Action, Change, Coercing, Rewriter, plan, values};
use waystation::dataset::digest::{Digest, Over};
use waystation::dataset::part10::{FileMeta, read_file_meta, write_file_meta};
use waystation::dataset::transfer_syntax::{describe, name};
use waystation::forward::transcode::{Converter, TranscodeError, conversions, transcode_error, verify};
use waystation::model::{ContentHash, Uid};
use waystation::receive::scan::{HeaderScan, Scan};

use files::files_below;

#[derive(Clone)]
struct Sample {
    name: String,
    transfer_syntax: Uid,
    data_set: Vec<u8>,
    /// Said to be broken by who put it there.
    broken: bool,
}

fn samples() -> Vec<Sample> {
    let phantom = |(name, transfer_syntax, data_set): (&str, _, _)| Sample {
        name: name.to_owned(),
        transfer_syntax,
        data_set,
        broken: false,
    };
    let mut samples: Vec<_> = samples::phantoms().into_iter().map(phantom).collect();
    let Some(folder) = std::env::var_os("WAYSTATION_STUDIES").map(PathBuf::from) else { return samples };
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap_or_default();
    let rows: BTreeMap<_, _> = manifest.lines().filter_map(|row| row.split_once('\t')).collect();
    for path in files_below(&folder) {
        let name = path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        let row = format!("{name} {}", rows.get(name.as_str()).unwrap_or(&""));
        let broken = ["trunc", "too_short", "unparsable"].iter().any(|word| row.contains(word));
        let Ok((meta, mut rest)) = read_file_meta(fs::File::open(&path).unwrap()) else { continue };
        let mut data_set = Vec::new();
        rest.read_to_end(&mut data_set).unwrap();
        samples.push(Sample { name, transfer_syntax: meta.transfer_syntax, data_set, broken });
    }
    assert!(samples.len() > 2, "WAYSTATION_STUDIES holds no DICOM file");
    samples
}

fn scan(sample: &Sample, piece: usize) -> Scan {
    let mut scan = HeaderScan::new(&sample.transfer_syntax);
    sample.data_set.chunks(piece).for_each(|piece| scan.feed(piece));
    scan.finish()
}

fn convert(data_set: &[u8], from: &Uid, to: &Uid) -> Result<Vec<u8>, TranscodeError> {
    let mut out = Vec::new();
    Converter::new(data_set, from, to)?.read_to_end(&mut out).map_err(transcode_error)?;
    Ok(out)
}

fn digest(data_set: &[u8], syntax: &Uid) -> ContentHash {
    let mut digest = Digest::new(describe(syntax), Over::Elements);
    digest.feed(data_set).unwrap();
    digest.finish().unwrap()
}

/// Writes the result as a file for the independent check.
fn export(sample: &Sample, to: &Uid, converted: &[u8]) {
    let Some(folder) = std::env::var_os("WAYSTATION_CONVERTED").map(PathBuf::from) else { return };
    let meta = FileMeta {
        sop_class_uid: "1.2.3".parse().unwrap(),
        sop_instance_uid: "1.2.3".parse().unwrap(),
        transfer_syntax: to.clone(),
        source_ae: None,
    };
    fs::create_dir_all(&folder).unwrap();
    let mut file = Vec::new();
    write_file_meta(&mut file, &meta).unwrap();
    file.extend_from_slice(converted);
    fs::write(folder.join(format!("{}@{to}", sample.name.replace('/', "%"))), file).unwrap();
}

#[test]
fn every_readable_file_scans_without_defect_and_the_same_in_pieces_of_any_size() {
    let mut table = String::from("file\ttransfer syntax\tverdict\n");
    let mut wrong = Vec::new();
    for sample in samples() {
        let whole = scan(&sample, usize::MAX);
        for piece in [1, 7, 4_093] {
            assert_eq!(scan(&sample, piece), whole, "{} in pieces of {piece}", sample.name);
        }
        let unknown = "1.2".parse().unwrap();
        let class = whole.sop_class_uid.as_ref().unwrap_or(&unknown);
        let instance = whole.sop_instance_uid.as_ref().unwrap_or(&unknown);
        let verdict = match whole.check(class, instance) {
            Ok(()) => "accepted".to_owned(),
            Err(refusal) => {
                assert!(refusal.comment.len() <= 64, "{}", refusal.comment);
                format!("{:04X} {}", refusal.status, refusal.comment)
            }
        };
        let syntax = name(&sample.transfer_syntax).unwrap_or(sample.transfer_syntax.as_str());
        writeln!(table, "{}\t{syntax}\t{verdict}", sample.name).unwrap();
        let structural = whole.defect.filter(|defect| !matches!(defect, waystation::dataset::Defect::InvalidUid(_)));
        if structural.is_some() && !sample.broken {
            wrong.push(format!("{}: {verdict}", sample.name));
        }
    }
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/data_sets.tsv"), table).unwrap();
    assert!(wrong.is_empty(), "refused though readable: {wrong:#?}");
}

#[test]
fn every_offered_conversion_verifies_and_leads_back_to_an_equal_data_set() {
    let (mut done, mut refused) = (0, Vec::new());
    let mut table = String::from("file\tfrom\tto\toutcome\n");
    for sample in samples().iter().filter(|sample| !sample.broken) {
        let from = &sample.transfer_syntax;
        for to in conversions(from) {
            let to: Uid = to.parse().unwrap();
            let outcome = verify(&sample.data_set[..], from, &to);
            let shown = outcome.as_ref().map_or_else(ToString::to_string, |length| format!("{length} bytes"));
            writeln!(table, "{}\t{from}\t{to}\t{shown}", sample.name).unwrap();
            let length = match outcome {
                Ok(length) => length,
                Err(TranscodeError::Recode(reason)) => {
                    refused.push(format!("{} to {to}: {reason}", sample.name));
                    continue;
                }
                Err(error) => panic!("{} to {to}: {error}", sample.name),
            };
            let converted = convert(&sample.data_set, from, &to).unwrap();
            assert_eq!(converted.len() as u64, length, "{} to {to}", sample.name);
            export(sample, &to, &converted);
            // Nothing is written in big endian, so from there the way back leads to little endian.
            let back = if conversions(&to).contains(&from.as_str()) { from.clone() } else { other(&to) };
            verify(&converted[..], &to, &back).unwrap_or_else(|error| panic!("{} back: {error}", sample.name));
            let returned = convert(&converted, &to, &back).unwrap();
            if describe(from).deflated == describe(&back).deflated {
                assert_eq!(digest(&returned, &back), digest(&sample.data_set, from), "{} to {to}", sample.name);
            }
            done += 1;
        }
    }
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/conversions.tsv"), table).unwrap();
    assert!(done >= 4);
    assert!(refused.len() * 10 < done, "{done} conversions, refused: {refused:#?}");
}

#[test]
fn every_readable_file_is_coerced_and_nothing_else_in_it_changes() {
    let change = |tag: Tag, action| Change { tag, vr: values::changeable(tag).unwrap(), action };
    let coercing = Coercing {
        changes: vec![
            change(Tag(0x0008, 0x0080), Action::Set("Clinic 7".into())),
            change(Tag(0x0008, 0x1010), Action::Remove),
            change(Tag(0x0008, 0x0050), Action::Prefix("C7-".into())),
            change(Tag(0x4008, 0x0042), Action::Set("behind everything in most".into())),
        ],
        when: "20261121120000.000000+0000".into(),
        by: "Waystation GATE".into(),
    };
    let (mut done, mut refused) = (0, Vec::new());
    for sample in samples().into_iter().filter(|sample| !sample.broken) {
        let before = scan(&sample, usize::MAX);
        if before.defect.is_some() {
            continue;
        }
        let syntax = describe(&sample.transfer_syntax);
        let plan = match plan(&sample.data_set[..], syntax, &coercing) {
            Ok(plan) => plan.expect("no file is as wanted already"),
            Err(error) => {
                refused.push(format!("{}: {error}", sample.name));
                continue;
            }
        };
        let proven = coerce::verify(&sample.data_set[..], syntax, &plan);
        let proven = proven.unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let mut data_set = Vec::new();
        Rewriter::new(&sample.data_set[..], syntax, &plan).read_to_end(&mut data_set).unwrap();
        assert_eq!(data_set.len() as u64, proven.length, "{}", sample.name);
        let changed = Sample { data_set, ..sample.clone() };
        let after = scan(&changed, usize::MAX);
        assert_eq!(after.defect, None, "{}", sample.name);
        assert_eq!(after.sop_instance_uid, before.sop_instance_uid, "{}", sample.name);
        assert!(pixels(&after, &changed) == pixels(&before, &sample), "the pixels of {} have changed", sample.name);
        done += 1;
    }
    assert!(done >= 2 && refused.len() * 10 <= done, "{done} coerced, refused: {refused:#?}");
}

fn pixels<'a>(scan: &Scan, sample: &'a Sample) -> Option<&'a [u8]> {
    let image = scan.image?;
    let start = usize::try_from(image.pixel_data_offset).unwrap();
    Some(&sample.data_set[start..start + usize::try_from(image.pixel_data_length).unwrap()])
}

fn other(syntax: &Uid) -> Uid {
    conversions(syntax)[0].parse().unwrap()
}
