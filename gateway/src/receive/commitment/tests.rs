//! Requests read and reports written, files through every power cut.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::file::{Files, SaveError, Unreadable};
use super::*;
use crate::dataset::Defect;
use crate::dataset::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::dimse::commitment::{Information, InformationReader, MOST_BYTES, MOST_REFERENCES, Unusable};
use crate::durable::memory::{MemoryDisk, Survivors};

const SYNTAXES: [&str; 2] = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN];
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

pub(super) fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

pub(super) fn party(name: &str) -> Party {
    Party::Modality(name.parse().unwrap())
}

/// A request of CT1 under this number for so many instances.
pub(super) fn transaction(number: u64, instances: usize) -> Transaction {
    let reference = |instance| Reference { class: uid(CT), instance: uid(&format!("1.2.{number}.{instance}")) };
    Transaction {
        uid: uid(&format!("1.9.{number}")),
        modality: party("ct1"),
        called: "GATE".parse().unwrap(),
        accepted: SpoolTime(number),
        accepted_at: Timestamp::from_millis(number),
        level: CommitmentLevel::Safe,
        duplicate: false,
        references: (0..instances).map(reference).collect(),
    }
}

/// The event information that all is committed has the form of the action information that asks for it.
fn information(transaction: &Transaction, syntax: &str) -> Vec<u8> {
    let verdicts = vec![None; transaction.references.len()];
    report::write(transaction, &verdicts, &uid(syntax)).information
}

fn read(pieces: &[&[u8]], syntax: &str) -> Result<Information, Unusable> {
    let mut reader = InformationReader::new(&uid(syntax), Budget::new(MOST_AT_ONCE).share());
    pieces.iter().for_each(|piece| reader.feed(piece));
    reader.finish().map(|(request, _)| request)
}

#[test]
fn a_request_is_the_same_however_it_is_written_and_cut() {
    let transaction = transaction(7, 40);
    let expected = Information {
        transaction: transaction.uid.clone(),
        references: transaction.references.clone(),
        failed: Vec::new(),
    };
    for syntax in SYNTAXES {
        let bytes = information(&transaction, syntax);
        assert_eq!(read(&[&bytes], syntax).unwrap(), expected);
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(read(&single, syntax).unwrap(), expected);
        for length in 0..bytes.len() {
            let cut = read(&[&bytes[..length]], syntax);
            assert!(cut.is_err(), "{length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn sequences_of_undefined_length_and_what_else_stands_there_are_read() {
    let item = |out: &mut Vec<u8>, instance: &[u8]| {
        out.extend_from_slice(b"\xfe\xff\x00\xe0\xff\xff\xff\xff");
        out.extend_from_slice(b"\x08\x00\x50\x11\x04\0\0\x001.2\0");
        // A sequence inside, which has an instance of its own.
        out.extend_from_slice(b"\x40\x00\x70\xa1\xff\xff\xff\xff\xfe\xff\x00\xe0\x0c\0\0\0");
        out.extend_from_slice(b"\x08\x00\x55\x11\x04\0\0\x009.9\0\xfe\xff\xdd\xe0\0\0\0\0");
        out.extend_from_slice(b"\x08\x00\x55\x11\x04\0\0\x00");
        out.extend_from_slice(instance);
        out.extend_from_slice(b"\xfe\xff\x0d\xe0\0\0\0\0");
    };
    let mut bytes = b"\x08\x00\x54\x00\x04\0\0\0PACS\x08\x00\x95\x11\x04\0\0\x001.5\0".to_vec();
    bytes.extend_from_slice(b"\x08\x00\x99\x11\xff\xff\xff\xff");
    item(&mut bytes, b"1.3\0");
    item(&mut bytes, b"1.4\0");
    bytes.extend_from_slice(b"\xfe\xff\xdd\xe0\0\0\0\0\x88\x00\x30\x01\x04\0\0\0DISC");
    let request = read(&[&bytes], IMPLICIT_VR_LITTLE_ENDIAN).unwrap();
    let reference = |instance| Reference { class: uid("1.2"), instance: uid(instance) };
    assert_eq!(
        request,
        Information {
            transaction: uid("1.5"),
            references: vec![reference("1.3"), reference("1.4")],
            failed: Vec::new()
        }
    );
}

#[test]
fn what_is_no_request_has_its_sentence() {
    let syntax = IMPLICIT_VR_LITTLE_ENDIAN;
    let error = |bytes: &[u8]| read(&[bytes], syntax).unwrap_err();
    assert_eq!(error(b""), Unusable::Defect(Defect::Empty));
    assert_eq!(error(b"\x08\x00\x99\x11\0\0\0\0"), Unusable::NoTransaction);
    assert_eq!(error(b"\x08\x00\x95\x11\x04\0\0\x001.5\0"), Unusable::NoReferences);
    assert_eq!(error(b"\x08\x00\x95\x11\x04\0\0\0../x"), Unusable::NoTransaction);
    let mut without_class = b"\x08\x00\x95\x11\x04\0\0\x001.5\0\x08\x00\x99\x11\x14\0\0\0".to_vec();
    without_class.extend_from_slice(b"\xfe\xff\x00\xe0\x0c\0\0\0\x08\x00\x55\x11\x04\0\0\x001.3\0");
    assert_eq!(error(&without_class), Unusable::BadReference);
    for unusable in [Unusable::NoTransaction, Unusable::NoReferences, Unusable::BadReference, Unusable::TooLong] {
        assert!(unusable.to_string().len() <= 64, "{unusable}");
    }
    assert!(Unusable::TooManyReferences.to_string().len() <= 64 && Unusable::TooManyAtOnce.to_string().len() <= 64);
}

#[test]
fn a_request_beyond_the_limits_takes_no_memory() {
    for syntax in SYNTAXES {
        let most = transaction(1, MOST_REFERENCES);
        assert_eq!(read(&[&information(&most, syntax)], syntax).unwrap().references.len(), MOST_REFERENCES);
        let more = transaction(1, MOST_REFERENCES + 1);
        let error = read(&[&information(&more, syntax)], syntax).unwrap_err();
        assert_eq!(error, Unusable::TooManyReferences);
    }
    let mut reader = InformationReader::new(&uid(IMPLICIT_VR_LITTLE_ENDIAN), Budget::new(MOST_AT_ONCE).share());
    reader.feed(b"\x08\x00\x99\x09\xf0\xff\xff\xff");
    for _ in 0..=MOST_BYTES / 65_536 {
        reader.feed(&[0; 65_536]);
    }
    assert_eq!(reader.finish().unwrap_err(), Unusable::TooLong);
    let nested: Vec<u8> = b"\x08\x00\x99\x11\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".repeat(100_000);
    assert!(matches!(read(&[&nested], IMPLICIT_VR_LITTLE_ENDIAN).unwrap_err(), Unusable::Defect(Defect::TooDeep(_))));
}

/// However many associations ask at once: what one reads is not there for the others, until it is done or gives up.
#[test]
fn requests_that_are_read_at_once_share_what_they_may_hold() {
    let budget = Budget::new(100);
    let reader = || InformationReader::new(&uid(SYNTAXES[0]), budget.share());
    let asks = |reader: &mut InformationReader, count| reader.feed(&information(&transaction(1, count), SYNTAXES[0]));
    let (mut first, mut second, mut third) = (reader(), reader(), reader());
    asks(&mut first, 60);
    asks(&mut second, 60);
    asks(&mut third, 40);
    assert_eq!(second.finish().unwrap_err(), Unusable::TooManyAtOnce);
    assert_eq!(third.finish().unwrap().0.references.len(), 40, "what was refused holds nothing");
    let (_request, share) = first.finish().unwrap();
    let mut fourth = reader();
    asks(&mut fourth, 41);
    assert_eq!(fourth.finish().unwrap_err(), Unusable::TooManyAtOnce, "what is being saved is still held");
    drop(share);
    let mut fifth = reader();
    asks(&mut fifth, 100);
    assert_eq!(fifth.finish().unwrap().0.references.len(), 100);
}

#[test]
fn a_report_tells_what_failed_and_why() {
    let transaction = transaction(3, 3);
    for syntax in SYNTAXES {
        let written = report::write(&transaction, &vec![None, Some(0x0112), None], &uid(syntax));
        assert_eq!((written.event_type, written.told), (2, report::Told { committed: 2, failed: 1 }));
        // Ascending tags: transaction, failed, committed.
        let at = |tag: &[u8]| written.information.windows(4).position(|bytes| bytes == tag).unwrap();
        assert!(at(b"\x08\x00\x95\x11") < at(b"\x08\x00\x98\x11") && at(b"\x08\x00\x98\x11") < at(b"\x08\x00\x99\x11"));
        let reason: &[u8] = if syntax == SYNTAXES[0] {
            b"\x08\x00\x97\x11\x02\0\0\0\x12\x01"
        } else {
            b"\x08\x00\x97\x11US\x02\0\x12\x01"
        };
        assert!(written.information.windows(reason.len()).any(|bytes| bytes == reason));
        let request = read(&[&written.information], syntax).unwrap();
        assert_eq!(request.references, [transaction.references[0].clone(), transaction.references[2].clone()]);
        let none = report::write(&transaction, &vec![Some(0x0110); 3], &uid(syntax));
        let none = read(&[&none.information], syntax).unwrap();
        assert_eq!((none.references.len(), none.failed.len()), (0, 3), "nothing is committed");
    }
}

proptest! {
    #[test]
    fn garbage_is_no_request_and_no_panic(bytes: Vec<u8>, flips in prop::collection::vec((0_usize..900, any::<u8>()), 0..8)) {
        let mut damaged = information(&transaction(7, 10), SYNTAXES[1]);
        for (at, value) in flips {
            if let Some(byte) = damaged.get_mut(at) {
                *byte = value;
            }
        }
        for syntax in SYNTAXES {
            let _ = read(&[&bytes], syntax);
            let _ = read(&[&damaged], syntax);
        }
    }
}

// ---- Files.

const DATA: &str = "/data";

fn memory() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new(DATA)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

/// The files, what they hold, and how many were set aside.
type Opened = (Files, Vec<(u64, Transaction)>, u64);

fn open_damaged(disk: Arc<dyn Disk>, data: &Path) -> Result<Opened, FileError> {
    let mut found = Vec::new();
    let (files, damaged) = Files::open(disk, data, |number, transaction| found.push((number, transaction.clone())))?;
    Ok((files, found, damaged))
}

fn open(disk: &MemoryDisk) -> (Files, Vec<(u64, Transaction)>) {
    let (files, found, damaged) = open_damaged(Arc::new(disk.clone()), Path::new(DATA)).unwrap();
    assert_eq!(damaged, 0);
    (files, found)
}

/// After the answer 0000 a request is there, whole, whatever happens; and nothing is ever there by halves.
#[test]
fn a_request_that_was_acknowledged_survives_every_power_cut() {
    let disk = memory();
    let (files, _) = open(&disk);
    let (mut saved, mut removed) = (Vec::new(), Vec::new());
    for number in 1..=8 {
        // From some bytes to several sectors.
        files.save(number, &transaction(number, 1 + usize::try_from(number).unwrap() * 7)).unwrap();
        saved.push((number, disk.operations()));
        if number % 3 == 0 {
            removed.push((number - 1, disk.operations()));
            files.remove(number - 1);
        }
    }
    let last = disk.operations();
    for cut in 0..=last {
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Some(cut as u64), Survivors::Some(77)] {
            let left = disk.cut(cut, survivors);
            let (files, found) = open(&left);
            for (number, transaction_found) in &found {
                let expected = transaction(*number, 1 + usize::try_from(*number).unwrap() * 7);
                assert_eq!(*transaction_found, expected, "cut after {cut}, {survivors:?}");
            }
            for (number, at) in saved.iter().filter(|(_, at)| *at <= cut) {
                let may_be_gone = removed.iter().any(|(gone, from)| gone == number && *from < cut);
                let is_there = found.iter().any(|(found, _)| found == number);
                assert!(is_there || may_be_gone, "{number}, saved after {at}, cut after {cut}, {survivors:?}");
            }
            // It goes on, with what is left and with something new.
            files.save(100, &transaction(100, 3)).unwrap();
            assert_eq!(open(&left).1.len(), found.len() + 1);
        }
    }
}

/// A control: without the flush of the directory something is lost.
#[test]
fn the_power_cuts_would_notice_a_missing_flush() {
    let disk = memory();
    let (files, _) = open(&disk);
    disk.ignore_directory_syncs();
    files.save(1, &transaction(1, 5)).unwrap();
    let left = disk.cut(disk.operations(), Survivors::Nothing);
    left.create_dir(Path::new(DATA)).unwrap();
    assert!(open(&left).1.is_empty());
}

#[test]
fn a_disk_that_is_full_refuses_and_one_that_fails_is_not_trusted() {
    use nix::errno::Errno;
    for (errno, is_full) in [(Errno::ENOSPC, true), (Errno::EMFILE, true), (Errno::EIO, false)] {
        for operation in 0..4 {
            let disk = memory();
            let (files, _) = open(&disk);
            disk.fail(operation, errno, false);
            let refused = files.save(1, &transaction(1, 5)).unwrap_err();
            // What fails from the flush on says nothing about the disk but that it cannot be trusted.
            assert_eq!(matches!(refused, SaveError::NoRoom), is_full && operation < 2, "{errno} at {operation}");
            disk.heal();
            files.save(2, &transaction(2, 5)).unwrap();
            assert!(open(&disk).1.iter().any(|(number, _)| *number == 2));
        }
    }
}

#[test]
fn a_damaged_file_is_set_aside_and_told() {
    let disk = memory();
    let (files, _) = open(&disk);
    for number in 1..=3 {
        files.save(number, &transaction(number, 5)).unwrap();
    }
    let path = Path::new("/data/commitment/0000000002.transaction");
    for offset in [0, 9, 13, 17, 40, 300] {
        disk.flip(path, offset, 1);
        assert!(files.read(2).is_err(), "{offset}");
        disk.flip(path, offset, 1);
    }
    files.read(2).unwrap();
    disk.flip(path, 100, 0x80);
    let (_, found, damaged) = open_damaged(Arc::new(disk.clone()), Path::new(DATA)).unwrap();
    assert_eq!((found.len(), damaged), (2, 1));
    assert!(disk.names().contains(&Path::new("/data/commitment/0000000002.damaged").to_owned()));
    assert_eq!(open(&disk).1.len(), 2, "and not looked at again");
}

/// Want of file descriptors would do the same; a folder in its place is what a test can make without one.
#[test]
fn what_the_system_does_not_give_now_is_not_damaged_and_stays_what_it_is() {
    let data = tempfile::tempdir().unwrap();
    let disk = || Arc::new(crate::durable::FileSystem::default());
    let (files, ..) = open_damaged(disk(), data.path()).unwrap();
    files.save(1, &transaction(1, 5)).unwrap();
    let path = data.path().join("commitment/0000000002.transaction");
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(files.read(2), Err(Unreadable::Now(_))));
    assert!(matches!(files.read(3), Err(Unreadable::Damaged(_))), "there is none");
    open_damaged(disk(), data.path()).unwrap_err();
    std::fs::remove_dir(&path).unwrap();
    let (_, found, damaged) = open_damaged(disk(), data.path()).unwrap();
    assert_eq!((found.len(), damaged), (1, 0));
}
