//! Every real file, kept and read back: through the header scan and the image filter, as a reception does it.
//!
//! `WAYSTATION_STUDIES=folder` names a folder of DICOM files; without it, phantoms are all there is.

#[path = "support/files.rs"]
mod files;
mod samples;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use waystation::dataset::part10::read_file_meta;
use waystation::model::{InstanceId, Priority, Timestamp, Uid};
use waystation::receive::scan::HeaderScan;
use waystation::spool::{Committed, InstanceHeader, Spool, SpoolOptions};

use files::files_below;

struct Sample {
    name: String,
    transfer_syntax: Uid,
    data_set: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    let phantom =
        |(name, transfer_syntax, data_set): (&str, _, _)| Sample { name: name.to_owned(), transfer_syntax, data_set };
    let mut samples: Vec<_> = samples::phantoms().into_iter().map(phantom).collect();
    let Some(folder) = std::env::var_os("WAYSTATION_STUDIES") else { return samples };
    for path in files_below(Path::new(&folder)) {
        let (transfer_syntax, data_set) = match read_file_meta(File::open(&path).unwrap()) {
            Ok((meta, mut rest)) => {
                let mut data_set = Vec::new();
                rest.read_to_end(&mut data_set).unwrap();
                (meta.transfer_syntax, data_set)
            }
            // Not a Part 10 file: bytes all the same, and often a data set.
            Err(_) => ("1.2.840.10008.1.2".parse().unwrap(), std::fs::read(&path).unwrap()),
        };
        samples.push(Sample { name: path.display().to_string(), transfer_syntax, data_set });
    }
    samples
}

fn keep(spool: &Spool, sample: &Sample, number: usize, piece: usize) -> Committed {
    let mut scan = HeaderScan::new(&sample.transfer_syntax);
    let mut incoming = spool.receive().unwrap();
    let mut told = false;
    for piece in sample.data_set.chunks(piece) {
        scan.feed(piece);
        if let Some(image) = scan.image().filter(|_| !told) {
            told = true;
            incoming.pixels(&image.layout()).unwrap();
        }
        incoming.write(piece).unwrap();
    }
    let header = InstanceHeader {
        sop_class_uid: "1.2.3".parse().unwrap(),
        sop_instance_uid: format!("1.2.3.{number}").parse().unwrap(),
        study_instance_uid: None,
        series_instance_uid: None,
        transfer_syntax: sample.transfer_syntax.clone(),
        calling_ae: "TEST".parse().unwrap(),
        called_ae: "WAYSTATION".parse().unwrap(),
        peer: None,
        received_at: Timestamp::from_millis(0),
        priority: Priority::Routine,
        modality: None,
        destinations: vec!["central".parse().unwrap()],
        rule: None,
        withheld: false,
    };
    let (sender, receiver) = sync_channel(1);
    incoming.commit(header, Box::new(move |committed| sender.send(committed).unwrap()));
    receiver.recv().unwrap().unwrap()
}

#[test]
fn every_file_is_read_back_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let options = SpoolOptions { reserve: 0, ..SpoolOptions::default() };
    let (spool, _) = Spool::open(folder.path(), options, |sentence| panic!("{sentence}")).unwrap();
    let samples = samples();
    let mut kept: Vec<(InstanceId, &Sample)> = Vec::new();
    for piece in [1 << 20, 16_372] {
        for sample in &samples {
            let committed = keep(&spool, sample, kept.len(), piece);
            assert_eq!(committed.length, sample.data_set.len() as u64);
            kept.push((committed.id, sample));
        }
    }
    // The index gets all of them before the spool has closed.
    spool.close();
    let (spool, opened) = Spool::open(folder.path(), SpoolOptions::default(), |sentence| panic!("{sentence}")).unwrap();
    assert_eq!(opened.damaged, 0);
    for (id, sample) in kept {
        let mut data_set = Vec::new();
        spool.read(id).unwrap().read_to_end(&mut data_set).unwrap();
        assert!(data_set == sample.data_set, "{}", sample.name);
    }
    spool.close();
}
