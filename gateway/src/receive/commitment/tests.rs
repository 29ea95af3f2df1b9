//! Requests read and reports written, files through every power cut, the desk in virtual time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::desk::{Desk, Full, HEAD_START, Limits, Newcomer};
use super::file::{Files, SaveError, Unreadable};
use super::request::{MOST_BYTES, MOST_REFERENCES, Request, RequestReader, Unusable};
use super::*;
use crate::dataset::Defect;
use crate::dataset::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::durable::memory::{MemoryDisk, Survivors};

const SYNTAXES: [&str; 2] = [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN];
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const SECOND: Duration = Duration::from_secs(1);

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

fn read(pieces: &[&[u8]], syntax: &str) -> Result<Request, Unusable> {
    let mut reader = RequestReader::new(&uid(syntax), Budget::new(MOST_AT_ONCE).share());
    pieces.iter().for_each(|piece| reader.feed(piece));
    reader.finish().map(|(request, _)| request)
}

#[test]
fn a_request_is_the_same_however_it_is_written_and_cut() {
    let transaction = transaction(7, 40);
    let expected = Request { uid: transaction.uid.clone(), references: transaction.references.clone() };
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
    assert_eq!(request, Request { uid: uid("1.5"), references: vec![reference("1.3"), reference("1.4")] });
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
    for unusable in [
        Unusable::NoTransaction,
        Unusable::NoReferences,
        Unusable::BadReference,
        Unusable::TooLong,
        Unusable::TooManyAtOnce,
    ] {
        assert!(unusable.to_string().len() <= 64, "{unusable}");
    }
    assert!(Unusable::TooManyReferences.to_string().len() <= 64);
}

#[test]
fn a_request_beyond_the_limits_takes_no_memory() {
    for syntax in SYNTAXES {
        let most = transaction(1, MOST_REFERENCES);
        assert_eq!(read(&[&information(&most, syntax)], syntax).unwrap().references.len(), MOST_REFERENCES);
        let more = transaction(1, MOST_REFERENCES + 1);
        let error = read(&[&information(&more, syntax)], syntax).unwrap_err();
        assert_eq!((error, error.is_too_much()), (Unusable::TooManyReferences, true));
    }
    let mut reader = RequestReader::new(&uid(IMPLICIT_VR_LITTLE_ENDIAN), Budget::new(MOST_AT_ONCE).share());
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
    let reader = || RequestReader::new(&uid(SYNTAXES[0]), budget.share());
    let asks = |reader: &mut RequestReader, count| reader.feed(&information(&transaction(1, count), SYNTAXES[0]));
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
        assert!(read(&[&none.information], syntax).is_err(), "no Referenced SOP Sequence when nothing is committed");
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

// ---- The desk.

const BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), cap: Duration::from_secs(1_000) };

fn desk() -> (Arc<Desk>, Instant) {
    let limits = Limits { transactions: 4, of_modality: 3, references: 100 };
    (Arc::new(Desk::new(limits, BACKOFF)), clock::now())
}

/// Enters a request that is then ready, and gives its number.
fn ready(desk: &Arc<Desk>, transaction: &Transaction, now: Instant) -> u64 {
    let Newcomer::New(place) = desk.enter(transaction).unwrap() else { panic!("it is new") };
    let number = place.number();
    place.saved(now);
    desk.judged(number, true, now);
    number
}

#[test]
fn the_desk_takes_so_many_and_no_more() {
    let (desk, now) = desk();
    let full = |transaction: &Transaction| desk.enter(transaction).err();
    assert_eq!(full(&transaction(1, 101)), Some(Full::References(100)));
    for number in 1..=3 {
        ready(&desk, &transaction(number, 30), now);
    }
    assert_eq!(full(&transaction(4, 1)), Some(Full::OfModality(3)));
    let other = |number, count| Transaction { modality: party("us1"), ..transaction(number, count) };
    assert_eq!(full(&other(4, 11)), Some(Full::References(100)));
    ready(&desk, &other(4, 10), now);
    assert_eq!(full(&other(5, 1)), Some(Full::InAll(4)));
    desk.lease(&party("us1"), None, now, false).unwrap().done();
    assert!(full(&other(5, 10)).is_none());
}

/// What one look takes does not depend on how much waits, or this would take hours: every request of many is entered,
/// judged, asked for again, reported to whoever calls, fails once, and is given up or done.
#[test]
fn a_hundred_thousand_transactions_hold_up_nobody() {
    const MANY: u64 = 100_000;
    let most = usize::try_from(MANY).unwrap();
    let limits = Limits { transactions: most, of_modality: most, references: most };
    let (desk, start) = (Arc::new(Desk::new(limits, BACKOFF)), clock::now());
    let of = |number: u64| {
        let party =
            if number.is_multiple_of(2) { party("ct1") } else { Party::Anybody(format!("A{number}").parse().unwrap()) };
        Transaction { modality: party, called: format!("G{}", number % 3).parse().unwrap(), ..transaction(number, 1) }
    };
    desk.listens(&party("ct1"));
    for number in 0..MANY {
        let Newcomer::New(place) = desk.enter(&of(number)).unwrap() else { panic!("it is new") };
        place.saved(start);
        assert_eq!(desk.to_judge(start, 1).len(), 1);
        desk.judged(number + 1, true, start);
        assert!(matches!(desk.enter(&of(number)), Ok(Newcomer::Known)));
        assert_eq!(desk.next_look(|_| true), Some(start + HEAD_START));
        assert_eq!((desk.to_call(start, |_| true), desk.expire(SpoolTime(0), SECOND)), (Vec::new(), Vec::new()));
    }
    assert_eq!((desk.status().pending, desk.status().to_report), (MANY, MANY));
    let title = "G0".parse().unwrap();
    let mut leased = 0;
    while let Some(lease) = desk.lease(&party("ct1"), Some(&title), start, true) {
        lease.failed(start, false, "refused", 0.0);
        leased += 1;
    }
    assert_eq!(leased, MANY.div_ceil(6));
    while let Some(lease) = desk.lease(&party("ct1"), None, start, true) {
        lease.done();
        leased += 1;
    }
    assert_eq!(leased, MANY / 2);
    assert_eq!(desk.status().pending, MANY - MANY / 2 + MANY.div_ceil(6));
    desk.expire(SpoolTime(u64::MAX), SECOND);
    assert_eq!((desk.status().pending, desk.next_look(|_| true)), (0, None));
}

#[test]
fn a_place_that_is_not_saved_is_given_back() {
    let (desk, _) = desk();
    for _ in 0..10 {
        assert!(matches!(desk.enter(&transaction(1, 100)), Ok(Newcomer::New(_))));
    }
    assert_eq!(desk.status().pending, 0);
}

#[test]
fn the_same_request_again_is_known_and_another_with_its_transaction_uid_is_not() {
    let (desk, now) = desk();
    let Ok(Newcomer::New(place)) = desk.enter(&transaction(1, 5)) else { panic!("it is new") };
    assert!(matches!(desk.enter(&transaction(1, 5)), Ok(Newcomer::BeingSaved(number)) if number == place.number()));
    assert!(matches!(desk.enter(&transaction(1, 6)), Ok(Newcomer::Duplicate(_))));
    place.saved(now);
    assert!(matches!(desk.enter(&transaction(1, 5)), Ok(Newcomer::Known)));
    assert!(matches!(desk.enter(&transaction(1, 6)), Ok(Newcomer::Duplicate(_))));
    let of_another = Transaction { modality: party("us1"), ..transaction(1, 5) };
    assert!(matches!(desk.enter(&of_another), Ok(Newcomer::New(_))));
    desk.judged(1, true, now);
    desk.lease(&party("ct1"), None, now, false).unwrap().done();
    assert!(matches!(desk.enter(&transaction(1, 6)), Ok(Newcomer::New(_))), "free when it is reported");
}

#[test]
fn what_is_not_delivered_yet_is_judged_less_and_less_often() {
    let (desk, start) = desk();
    let Ok(Newcomer::New(place)) = desk.enter(&transaction(1, 5)) else { panic!("it is new") };
    place.saved(start);
    let (mut now, mut looks) = (start, 0);
    while now < start + 86_400 * SECOND {
        let due = desk.next_look(|_| true).unwrap();
        now = now.max(due);
        let [number] = desk.to_judge(now, 9)[..] else { panic!("one is due") };
        desk.judged(number, false, now);
        assert!(desk.to_judge(now, 9).is_empty());
        looks += 1;
    }
    assert!((86_400 / 60..86_400 / 60 + 100).contains(&looks), "{looks}");
    assert_eq!(desk.expire(SpoolTime(1 + 1_000), SECOND).len(), 1);
    assert_eq!(desk.next_look(|_| true), None);
}

#[test]
fn a_call_leaves_an_open_association_its_head_start_and_is_made_once_at_a_time() {
    let (desk, now) = desk();
    let ct = party("ct1");
    desk.listens(&ct);
    ready(&desk, &transaction(1, 5), now);
    ready(&desk, &transaction(2, 5), now);
    assert_eq!(desk.to_call(now, |_| true), []);
    assert_eq!(desk.next_look(|_| true), Some(now + HEAD_START));
    assert_eq!(desk.next_look(|_| false), None, "nobody can be called");
    assert_eq!(desk.to_call(now + HEAD_START, |_| false), []);
    desk.hangs_up(&ct);
    assert_eq!(desk.to_call(now, |_| true), std::slice::from_ref(&ct), "no association, no head start");
    assert_eq!(desk.to_call(now, |_| true), [], "it is being called");
    // Both are reported in one call, then there is nothing left to do.
    for _ in 0..2 {
        desk.lease(&ct, None, now, false).unwrap().done();
    }
    assert!(desk.lease(&ct, None, now, false).is_none());
    desk.called(&ct, now, None, 0.5);
    assert_eq!((desk.next_look(|_| true), desk.status().pending), (None, 0));
}

#[test]
fn a_modality_that_cannot_be_reached_is_called_less_and_less_often_and_holds_up_no_other() {
    let (desk, start) = desk();
    let (ct, us) = (party("ct1"), party("us1"));
    ready(&desk, &transaction(1, 5), start);
    let (mut now, mut calls) = (start, 0);
    while now < start + 86_400 * SECOND {
        now = desk.next_look(|_| true).unwrap().max(now);
        assert_eq!(desk.to_call(now, |_| true), std::slice::from_ref(&ct));
        desk.called(&ct, now, Some("it is off".to_owned()), 1.0);
        calls += 1;
    }
    assert!((80..120).contains(&calls), "{calls}");
    assert_eq!(desk.status().failures[&ct], "it is off");
    ready(&desk, &Transaction { modality: us.clone(), ..transaction(2, 5) }, now);
    assert_eq!(desk.to_call(now, |_| true), [us]);
    // An association of its own is another matter: there it is told at once, and is well again.
    desk.lease(&ct, None, now, true).unwrap().done();
    assert!(!desk.status().failures.contains_key(&ct));
}

#[test]
fn a_report_that_fails_comes_again_later() {
    let (desk, now) = desk();
    let ct = party("ct1");
    ready(&desk, &transaction(1, 5), now);
    desk.lease(&ct, None, now, false).unwrap().failed(now, false, "refused", 0.0);
    assert!(desk.lease(&ct, None, now, false).is_none());
    let lease = desk.lease(&ct, None, now + BACKOFF.first, false).unwrap();
    assert!(desk.lease(&ct, None, now + BACKOFF.first, false).is_none(), "it is being reported");
    assert_eq!(desk.expire(SpoolTime(u64::MAX), SECOND), [], "and not given up meanwhile");
    drop(lease);
    assert_eq!(desk.status().to_report, 1, "a lease that is dropped comes back");
}

#[tokio::test]
async fn a_modality_that_did_not_answer_on_its_own_association_is_called_if_it_can_be() {
    let (desk, now) = desk();
    let ct = party("ct1");
    desk.listens(&ct);
    ready(&desk, &transaction(1, 5), now);
    let lease = desk.on_own_association(&ct, || true).await;
    lease.failed(now, true, "no answer", 0.0);
    assert_eq!(desk.to_call(now, |_| true), std::slice::from_ref(&ct), "at once, and without a head start");
    let waits = tokio::time::timeout(Duration::from_millis(20), desk.on_own_association(&ct, || true)).await;
    assert!(waits.is_err(), "its own association is left alone");
    let lease = desk.on_own_association(&ct, || false).await;
    assert_eq!(lease.number(), 1, "unless there is no other way");
}

/// `commitment-to` is taken away by a reload while an association waits that is not told anything as long as there is
/// another way.
#[tokio::test]
async fn what_a_reload_changes_is_seen_by_who_waits_already() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (desk, now) = desk();
    let ct = party("ct1");
    desk.listens(&ct);
    ready(&desk, &transaction(1, 5), now);
    desk.on_own_association(&ct, || true).await.failed(now, true, "no answer", 0.0);
    let is_reachable = AtomicBool::new(true);
    let reload = async {
        tokio::task::yield_now().await;
        is_reachable.store(false, Ordering::Relaxed);
        desk.nudge_everybody();
    };
    let waiting = desk.on_own_association(&ct, || is_reachable.load(Ordering::Relaxed));
    let (lease, ()) = tokio::join!(waiting, reload);
    assert_eq!(lease.number(), 1);
}

/// Several associations of one modality: who comes too late for one report waits for the next, and for nothing else.
#[tokio::test]
async fn associations_that_wait_for_the_same_report_get_the_next_one() {
    let (desk, now) = desk();
    let ct = party("ct1");
    for number in 1..=2 {
        ready(&desk, &transaction(number, 5), now);
    }
    let (first, second) = tokio::join!(desk.on_own_association(&ct, || false), desk.on_own_association(&ct, || false));
    assert_eq!((first.number(), second.number()), (1, 2));
    first.done();
    let third = async {
        tokio::task::yield_now().await;
        ready(&desk, &transaction(3, 5), now);
    };
    let (lease, ()) = tokio::join!(desk.on_own_association(&ct, || false), third);
    assert_eq!(lease.number(), 3);
}
