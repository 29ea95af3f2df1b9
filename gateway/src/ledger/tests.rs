//! What goes in comes out, and what was changed behind the ledger's back shows.

use std::path::PathBuf;

use nix::errno::Errno;
use proptest::prelude::*;

use super::*;
use crate::durable::memory::MemoryDisk;
use crate::durable::read_exact_at;
use crate::model::{ContentHash, InstanceId, Priority, Uid};

pub(super) const FOLDER: &str = "/data/ledger";

/// 2026-11-22T05:00:00Z.
pub(super) const NOVEMBER: u64 = 1_795_323_600_000;
/// Ten days later it is another month.
pub(super) const DECEMBER: u64 = NOVEMBER + 10 * 86_400_000;

pub(super) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub(super) fn open(disk: &MemoryDisk, checkpoint: Option<Position>) -> (Ledger, Opened) {
    Ledger::open(Arc::new(disk.clone()), Path::new(FOLDER), checkpoint).unwrap()
}

pub(super) fn checked(disk: &MemoryDisk) -> Report {
    check(disk, Path::new(FOLDER), |_| {}).unwrap()
}

pub(super) fn line_at(disk: &MemoryDisk, position: Position) -> Line {
    let line = read_line(disk, Path::new(FOLDER), position.place).unwrap();
    assert_eq!(line.position, position);
    line
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn bytes(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(&file(name), false).unwrap();
    let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

/// Puts other bytes into a file, behind everybody's back.
pub(super) fn replace(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    let path = file(name);
    let file = disk.open(&path, true).or_else(|_| disk.create(&path)).unwrap();
    file.set_length(0).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(Path::new(FOLDER)).unwrap();
}

/// The lines of a file, each with its newline.
fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

pub(super) fn received(id: u64) -> Entry {
    Entry::Received(Box::new(Received {
        id: InstanceId(id),
        sop_instance: uid(&format!("1.2.826.0.1.3680043.8.498.45787841905473788230614163520893{id:04}")),
        sop_class: uid("1.2.840.10008.5.1.4.1.1.2"),
        study: Some(uid("1.2.826.0.1.3680043.8.498.13230779778012324449356534479549187420")),
        series: Some(uid("1.2.826.0.1.3680043.8.498.45787841905473788230614163520893123456")),
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        sha256: ContentHash([0xa5; 32]),
        bytes: 526_336,
        calling: "CT1".parse().unwrap(),
        called: "WAYSTATION".parse().unwrap(),
        peer: Some("192.0.2.7".parse().unwrap()),
        destinations: vec!["archive".parse().unwrap()],
        priority: Priority::Routine,
        rule: None,
        withheld: false,
        late: false,
        conflict_with: None,
    }))
}

pub(super) fn attempted(id: u64, outcome: AttemptOutcome, answer: &str) -> Entry {
    Entry::Attempted(Box::new(Attempted {
        id: InstanceId(id),
        destination: "archive".parse().unwrap(),
        through: None,
        attempt: 1,
        bytes: 526_336,
        outcome,
        answer: answer.into(),
        next_after: None,
        verify_after: None,
        transfer_syntax: None,
        sha256_sent: None,
        rules: Vec::new(),
    }))
}

/// One of each kind, with everything in it.
fn every_kind() -> Vec<Entry> {
    let Entry::Received(mut full) = received(7) else { unreachable!() };
    full.rule = Some("night".parse().unwrap());
    (full.withheld, full.late, full.conflict_with) = (true, true, Some(InstanceId(3)));
    let Entry::Attempted(mut sent) = attempted(7, AttemptOutcome::Again, "A700") else { unreachable!() };
    sent.through = Some("other".parse().unwrap());
    (sent.next_after, sent.verify_after) = (Some(600), Some(60));
    sent.sha256_sent = Some(ContentHash([1; 32]));
    sent.rules = vec!["fix-charset".parse().unwrap()];
    let destination: crate::model::DestinationName = "archive".parse().unwrap();
    let verified = |method, outcome| Entry::Verified {
        id: InstanceId(7),
        destination: destination.clone(),
        method,
        outcome,
        answer: "0112".into(),
    };
    let released = |of| Entry::Released { destination: Some(destination.clone()), of, by: "uid 0".into() };
    vec![
        Entry::Started { version: "0.1.0".into() },
        received(6),
        Entry::Received(full),
        Entry::Attempted(sent),
        attempted(7, AttemptOutcome::Delivered, "0000"),
        attempted(7, AttemptOutcome::Warned, "B007"),
        attempted(7, AttemptOutcome::Parked, "C000"),
        verified(Method::Commitment, VerifyOutcome::Confirmed),
        verified(Method::CFind, VerifyOutcome::Missing),
        verified(Method::Qidors, VerifyOutcome::Again),
        released(Selection::Everything),
        released(Selection::Study(uid("1.2.3"))),
        released(Selection::Instance(InstanceId(7))),
        Entry::Expedited { study: uid("1.2.3"), by: "uid 1000".into() },
        Entry::Freed { id: InstanceId(7) },
        Entry::Forgotten { id: InstanceId(7) },
    ]
}

/// A ledger over two months with a line of each kind, in several batches.
fn written() -> (MemoryDisk, Vec<Position>) {
    let disk = MemoryDisk::new();
    let (mut ledger, _) = open(&disk, None);
    let mut positions = Vec::new();
    for (number, entries) in every_kind().chunks(3).enumerate() {
        let time = if number < 3 { NOVEMBER } else { DECEMBER };
        let entries: Vec<_> = entries.iter().map(|entry| (at(time), entry.clone())).collect();
        positions.extend(ledger.append(&entries).unwrap());
    }
    assert!(checked(&disk).is_well());
    (disk, positions)
}

#[test]
fn every_kind_of_entry_comes_back_and_the_chain_goes_over_the_months() {
    let (disk, positions) = written();
    for (number, (position, entry)) in positions.iter().zip(every_kind()).enumerate() {
        let line = line_at(&disk, *position);
        assert_eq!(line.position.n, number as u64 + 1);
        assert_eq!(line.entry.as_ref(), Some(&entry));
        assert_eq!(line.at, at(if number < 9 { NOVEMBER } else { DECEMBER }));
        assert!(line.text.starts_with("{\"prev\":\"") && line.text.ends_with('}'), "{}", line.text);
    }
    let report = checked(&disk);
    assert_eq!((report.files, report.lines, report.broken, report.gaps), (2, 16, 0, 0));
    assert_eq!(report.bytes, (bytes(&disk, "2026-11.log").len() + bytes(&disk, "2026-12.log").len()) as u64);
    assert_eq!(report.last.unwrap().0, *positions.last().unwrap());
}

#[test]
fn a_line_is_what_the_documentation_shows() {
    let disk = MemoryDisk::new();
    let (mut ledger, _) = open(&disk, None);
    ledger.append(&[(at(NOVEMBER), Entry::Started { version: "0.1.0".into() })]).unwrap();
    ledger.append(&[(at(NOVEMBER + 1), attempted(1, AttemptOutcome::Delivered, "0000"))]).unwrap();
    let text = String::from_utf8(bytes(&disk, "2026-11.log")).unwrap();
    let (first, second) = text.trim_end().split_once('\n').unwrap();
    let zeros = "0".repeat(64);
    let start = format!("{{\"prev\":\"{zeros}\",\"n\":1,\"at\":\"2026-11-22T05:00:00.000Z\",");
    assert_eq!(first, start + "\"what\":\"started\",\"version\":\"0.1.0\"}");
    let hash = LineHash::of(first.as_bytes());
    let start = format!("{{\"prev\":\"{hash}\",\"n\":2,\"at\":\"2026-11-22T05:00:00.001Z\",\"what\":\"attempted\",");
    let rest = "\"id\":1,\"destination\":\"archive\",\"attempt\":1,\"bytes\":526336,\"outcome\":\"delivered\",\"answer\":\"0000\"}";
    assert_eq!(second, start + rest);
}

#[test]
fn one_batch_may_end_a_month_and_a_clock_that_steps_back_does_not_return_to_it() {
    let disk = MemoryDisk::new();
    let (mut ledger, _) = open(&disk, None);
    let times = [NOVEMBER, DECEMBER, NOVEMBER, 0];
    let entries: Vec<_> = times.iter().zip(1..).map(|(time, id)| (at(*time), received(id))).collect();
    let positions = ledger.append(&entries).unwrap();
    let files: Vec<_> = positions.iter().map(|position| position.place.file.number()).collect();
    assert_eq!(files, [202_611, 202_612, 202_612, 202_612]);
    let (mut ledger, opened) = open(&disk, positions.last().copied());
    assert_eq!(opened, Opened::default());
    let position = ledger.append(&[(at(0), received(9))]).unwrap()[0];
    assert_eq!(position.place.file.number(), 202_612);
    assert_eq!(line_at(&disk, position).at, at(0), "the line tells what the clock said");
    assert!(checked(&disk).is_well());
}

#[test]
fn a_batch_is_one_write_and_one_flush() {
    let (disk, positions) = written();
    let (mut ledger, _) = open(&disk, positions.last().copied());
    let before = disk.operations();
    let entries: Vec<_> = (0..100).map(|id| (at(DECEMBER), received(id))).collect();
    ledger.append(&entries).unwrap();
    assert_eq!(disk.operations() - before, 2);
    let before = disk.operations();
    assert!(ledger.append(&[]).unwrap().is_empty());
    assert_eq!(disk.operations(), before);
    // A large one is written in pieces, none of them longer than what may be torn.
    let entries: Vec<_> = (0..4_000).map(|id| (at(DECEMBER), received(id))).collect();
    let last = *ledger.append(&entries).unwrap().last().unwrap();
    let flushes = (disk.operations() - before) / 2;
    assert!((3..8).contains(&flushes), "{flushes}");
    let (_, opened) = open(&disk, None);
    assert!(opened.gap.is_none() && opened.verified > 4_000);
    assert!(checked(&disk).is_well());
    assert_eq!(checked(&disk).last.unwrap().0, last);
}

#[test]
fn lines_behind_the_checkpoint_are_counted() {
    let (disk, positions) = written();
    let (_, opened) = open(&disk, Some(positions[4]));
    assert_eq!(opened, Opened { verified: 11, beyond: 11, ..Opened::default() });
    let (_, opened) = open(&disk, None);
    assert_eq!(opened, Opened { verified: 7, ..Opened::default() }, "the last file");
}

#[test]
fn a_changed_byte_is_found_in_every_line_and_in_the_last_by_whoever_has_its_position() {
    let (disk, positions) = written();
    let last = *positions.last().unwrap();
    for name in ["2026-11.log", "2026-12.log"] {
        for offset in 0..bytes(&disk, name).len() {
            disk.flip(&file(name), offset, 0x01);
            let is_last = Month::from_file_name(name) == Some(last.place.file) && offset as u64 >= last.place.offset;
            if is_last {
                // Nobody can tell; only that its end is gone, if it is.
                let (_, opened) =
                    open(&disk.cut(disk.operations(), crate::durable::memory::Survivors::Everything), None);
                assert!(opened.cut_off == 0 || offset + 1 == bytes(&disk, name).len(), "{name} {offset}");
            } else {
                assert!(!checked(&disk).is_well(), "{name} {offset}");
            }
            disk.flip(&file(name), offset, 0x01);
        }
    }
    assert!(checked(&disk).is_well());
    let end = bytes(&disk, "2026-12.log").len();
    for offset in usize::try_from(last.place.offset).unwrap()..end {
        disk.flip(&file("2026-12.log"), offset, 0x01);
        let before = disk.operations();
        assert!(open(&disk, Some(last)).1.gap.is_some(), "{offset}");
        assert_eq!(disk.operations() - before, 3, "nothing but flushes");
        disk.flip(&file("2026-12.log"), offset, 0x01);
    }
}

#[test]
fn a_line_that_is_taken_out_is_found_and_so_are_two_that_changed_places() {
    let (disk, positions) = written();
    let whole = bytes(&disk, "2026-11.log");
    let lines = lines_of(&whole);
    for out in 0..lines.len() {
        let mut fewer = lines.clone();
        fewer.remove(out);
        replace(&disk, "2026-11.log", &fewer.concat());
        let report = checked(&disk);
        assert!(!report.is_well(), "{out}");
        let found = &report.breaks[0];
        let (file, line) = if out + 1 == lines.len() { (202_612, 1) } else { (202_611, out as u64 + 1) };
        assert_eq!((found.file.number(), found.line), (file, line), "{found}");
        for other in out + 1..lines.len() {
            let mut exchanged = lines.clone();
            exchanged.swap(out, other);
            replace(&disk, "2026-11.log", &exchanged.concat());
            assert!(!checked(&disk).is_well(), "{out} {other}");
        }
    }
    disk.remove(&file("2026-11.log")).unwrap();
    assert!(!checked(&disk).is_well(), "the first file is gone");
    replace(&disk, "2026-11.log", &whole);
    assert!(checked(&disk).is_well());
    // The last line is held by whoever has its position.
    let december = lines_of(&bytes(&disk, "2026-12.log"));
    replace(&disk, "2026-12.log", &december[..december.len() - 1].concat());
    assert!(checked(&disk).is_well());
    assert!(open(&disk, positions.last().copied()).1.gap.is_some());
}

/// Whatever is wrong: nothing is touched, a line says so, and from there on the chain is whole.
fn goes_on_behind(disk: &MemoryDisk, checkpoint: Option<Position>) {
    let before: Vec<_> = disk.names().into_iter().map(|path| (path.clone(), content(disk, &path))).collect();
    let broken = checked(disk).broken;
    let (mut ledger, opened) = open(disk, checkpoint);
    let gap = opened.gap.expect("there is something to tell");
    assert_eq!(opened.cut_off, 0);
    let position = *ledger.append(&[(at(NOVEMBER), received(50))]).unwrap().last().unwrap();
    for (path, bytes) in before {
        assert!(content(disk, &path).starts_with(&bytes), "{} was changed: {gap}", path.display());
    }
    let report = checked(disk);
    assert_eq!(report.gaps, 1, "{gap}");
    assert!(report.broken <= broken + 2, "{:?}", report.breaks);
    assert_eq!(report.last.unwrap().0, position);
    if let Some(checkpoint) = checkpoint {
        assert_eq!(position.n, checkpoint.n + 2, "numbers are not given twice");
        assert!(position.place.file >= checkpoint.place.file);
    }
    let (mut ledger, opened) = open(disk, Some(position));
    assert_eq!(opened, Opened::default());
    ledger.append(&[(at(NOVEMBER), received(51))]).unwrap();
    assert_eq!(checked(disk).broken, report.broken);
}

fn content(disk: &MemoryDisk, path: &Path) -> Vec<u8> {
    bytes(disk, path.file_name().unwrap().to_str().unwrap())
}

#[test]
fn what_does_not_go_with_the_checkpoint_stays_and_the_chain_goes_on_behind_it_with_a_word() {
    // The file is gone, or all of them are.
    let (disk, positions) = written();
    disk.remove(&file("2026-12.log")).unwrap();
    goes_on_behind(&disk, positions.last().copied());
    let (disk, positions) = written();
    disk.remove(&file("2026-12.log")).unwrap();
    disk.remove(&file("2026-11.log")).unwrap();
    goes_on_behind(&disk, positions.last().copied());
    // It is shorter: at a line, in the middle of one, and empty.
    for keep in [2, 1] {
        let (disk, positions) = written();
        let december = lines_of(&bytes(&disk, "2026-12.log"));
        replace(&disk, "2026-12.log", &december[..december.len() - keep].concat());
        goes_on_behind(&disk, positions.last().copied());
    }
    for length in [0, 1, 100] {
        let (disk, positions) = written();
        let december = bytes(&disk, "2026-12.log");
        replace(&disk, "2026-12.log", &december[..length]);
        goes_on_behind(&disk, positions.last().copied());
    }
    // A line in front of the last one was changed: it is behind an earlier checkpoint, or there is none.
    for checkpoint in [Some(9), None] {
        let (disk, positions) = written();
        let offset = usize::try_from(positions[11].place.offset).unwrap() + 90;
        disk.flip(&file("2026-12.log"), offset, 0x01);
        let (mut ledger, opened) = open(&disk, checkpoint.map(|n: usize| positions[n]));
        assert!(opened.gap.is_some() && opened.cut_off == 0);
        let position = ledger.append(&[(at(NOVEMBER), received(50))]).unwrap()[0];
        assert_eq!(position.n, 18);
        let report = checked(&disk);
        assert_eq!((report.broken, report.gaps, report.lines), (1, 1, 18));
    }
    // Somebody else's text, of any length and without an end.
    for length in [10, 300 << 10, 3 << 20] {
        let (disk, positions) = written();
        replace(&disk, "2026-12.log", &vec![b'x'; length]);
        goes_on_behind(&disk, positions.last().copied());
        let (disk, _) = written();
        replace(&disk, "2026-12.log", &[vec![b'x'; length], vec![b'\n']].concat());
        goes_on_behind(&disk, None);
    }
}

#[test]
fn a_check_beside_a_gateway_that_writes_stops_at_the_last_whole_line() {
    let (disk, positions) = written();
    let december = bytes(&disk, "2026-12.log");
    replace(&disk, "2026-12.log", &december[..december.len() - 7]);
    let report = checked(&disk);
    let last = positions[positions.len() - 2];
    assert!(report.is_well());
    assert_eq!(report.last.unwrap().0, last);
    assert_eq!(report.unfinished, (december.len() - 7) as u64 - positions.last().unwrap().place.offset);
    // In a file that another one follows, it is a break.
    let november = bytes(&disk, "2026-11.log");
    replace(&disk, "2026-11.log", &november[..november.len() - 1]);
    assert!(!checked(&disk).is_well());
}

#[test]
fn very_many_breaks_are_counted_and_the_first_are_named() {
    let disk = MemoryDisk::new();
    replace(&disk, "2026-11.log", &b"x\n".repeat(5_000));
    let mut last = Progress::default();
    let report = check(&disk, Path::new(FOLDER), |progress| last = progress).unwrap();
    assert_eq!((report.broken, report.breaks.len(), report.lines), (5_000, 100, 5_000));
    assert_eq!(last, Progress { lines: 5_000, bytes: 10_000 });
    assert_eq!(report.breaks[1].line, 2);
    assert!(report.breaks[1].to_string().starts_with("2026-11.log, line 2: this is no line of a ledger"));
}

#[test]
fn a_full_disk_is_told_and_leaves_a_ledger_that_goes_on_when_there_is_room() {
    let (disk, positions) = written();
    let (mut ledger, _) = open(&disk, positions.last().copied());
    for time in [DECEMBER, DECEMBER + 40 * 86_400_000] {
        let entries: Vec<_> = (0..100).map(|id| (at(time), received(id))).collect();
        disk.set_capacity(Some(disk.used()));
        for _ in 0..2 {
            assert!(ledger.append(&entries).unwrap_err().is_passing());
            assert!(checked(&disk).is_well());
        }
        disk.set_capacity(None);
        ledger.append(&entries).unwrap();
        assert!(checked(&disk).is_well());
    }
    assert_eq!(checked(&disk).lines, 216);
    assert_eq!(open(&disk, positions.last().copied()).1.beyond, 200);
}

#[test]
fn a_line_that_cannot_even_be_taken_back_is_taken_back_before_the_next_one() {
    for errors in 1..5 {
        let (disk, positions) = written();
        let (mut ledger, _) = open(&disk, positions.last().copied());
        let name = "2026-12.log";
        let whole = bytes(&disk, name);
        disk.fail(0, Errno::ENOSPC, true);
        for _ in 0..errors {
            assert!(ledger.append(&[(at(DECEMBER), received(1))]).unwrap_err().is_passing());
        }
        // What a write has done before it failed.
        disk.heal();
        let file = disk.open(&file(name), true).unwrap();
        file.write_at(b"{\"prev\":", whole.len() as u64).unwrap();
        ledger.append(&[(at(DECEMBER), received(1))]).unwrap();
        assert!(checked(&disk).is_well());
        assert_eq!(checked(&disk).lines, 17);
    }
}

#[test]
fn after_an_error_of_the_disk_nothing_is_written_any_more() {
    for after in 0..4 {
        let (disk, positions) = written();
        let (mut ledger, _) = open(&disk, positions.last().copied());
        // A new month: create, its name, write, flush.
        disk.fail(after, Errno::EIO, false);
        let entry = (at(DECEMBER + 40 * 86_400_000), received(1));
        assert!(!ledger.append(std::slice::from_ref(&entry)).unwrap_err().is_passing());
        let before = disk.operations();
        assert!(matches!(ledger.append(std::slice::from_ref(&entry)), Err(LedgerError::Stopped)));
        assert_eq!(disk.operations(), before);
        let disk = disk.cut(disk.operations(), crate::durable::memory::Survivors::Everything);
        let (mut ledger, opened) = open(&disk, positions.last().copied());
        assert_eq!(opened.gap, None);
        ledger.append(&[entry]).unwrap();
        assert!(checked(&disk).is_well());
    }
}

#[test]
fn a_place_where_no_line_begins_has_none() {
    let (disk, positions) = written();
    let Place { file, offset } = positions[3].place;
    for offset in [offset + 1, offset - 1, 1 << 40] {
        let error = read_line(&disk, Path::new(FOLDER), Place { file, offset }).unwrap_err();
        assert!(matches!(error, LedgerError::NoLine(..)), "{error}");
    }
    let missing = Place { file: Month::from_number(202_701).unwrap(), offset: 0 };
    assert!(matches!(read_line(&disk, Path::new(FOLDER), missing), Err(LedgerError::Disk { .. })));
}

#[test]
fn a_kind_that_this_version_does_not_know_is_a_line_like_any_other() {
    let disk = MemoryDisk::new();
    let zeros = "0".repeat(64);
    let text = format!(
        "{{\"prev\":\"{zeros}\",\"n\":1,\"at\":\"2031-01-01T00:00:00.000Z\",\"what\":\"beamed\",\"up\":[1]}}\n"
    );
    replace(&disk, "2031-01.log", text.as_bytes());
    let (mut ledger, opened) = open(&disk, None);
    assert_eq!((opened.verified, opened.gap), (1, None));
    ledger.append(&[(at(NOVEMBER), received(1))]).unwrap();
    assert!(checked(&disk).is_well());
    let place = Place { file: Month::from_number(203_101).unwrap(), offset: 0 };
    assert_eq!(read_line(&disk, Path::new(FOLDER), place).unwrap().entry, None);
}

/// What `docs/ledger.md` tells to do with `sha256sum`, with the SHA-256 of another hand.
#[test]
fn the_recipe_of_the_documentation_finds_what_it_says() {
    use super::sha256_of_another_hand::sha256;
    let (disk, _) = written();
    let all = [bytes(&disk, "2026-11.log"), bytes(&disk, "2026-12.log")].concat();
    let recipe = |all: &[u8]| {
        let mut expected = "0".repeat(64);
        for (number, line) in String::from_utf8_lossy(all).lines().enumerate() {
            if line.get(9..73) != Some(expected.as_str()) {
                return Err(number + 1);
            }
            expected = sha256(line.as_bytes());
        }
        Ok(expected)
    };
    assert_eq!(recipe(&all), Ok(checked(&disk).last.unwrap().0.hash.to_string()));
    let mut changed = all.clone();
    changed[100] ^= 1;
    assert_eq!(recipe(&changed), Err(2));
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

proptest! {
    #[test]
    fn any_answer_stays_on_one_printable_line_and_comes_back(answer in "(?s).{0,2500}", control in "[\u{1b}\0\n\r\u{9b}\u{7f}\"\\\\]{0,600}") {
        let disk = MemoryDisk::new();
        let (mut ledger, _) = open(&disk, None);
        let entry = attempted(1, AttemptOutcome::Again, &(control + &answer));
        let positions = ledger.append(&[(at(NOVEMBER), entry.clone()), (at(NOVEMBER), received(1))]).unwrap();
        let text = bytes(&disk, "2026-11.log");
        prop_assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 2);
        prop_assert!(text.iter().all(|byte| *byte == b'\n' || (b' '..=b'~').contains(byte)));
        prop_assert!(text.len() < 4_500);
        prop_assert_eq!(line_at(&disk, positions[0]).entry, Some(entry.clone()));
        let Entry::Attempted(attempted) = entry else { unreachable!() };
        prop_assert!(attempted.answer.as_str().len() <= 500);
        prop_assert!(checked(&disk).is_well());
    }

    #[test]
    fn any_file_is_read_in_pieces_that_make_it_up(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), repeat in 1_usize..3_000) {
        let disk = MemoryDisk::new();
        let bytes = bytes.repeat(repeat);
        replace(&disk, "2026-11.log", &bytes);
        let file = disk.open(&file("2026-11.log"), false).unwrap();
        let mut lines = Lines::new(&*file, 0);
        let mut expected = bytes.split_inclusive(|byte| *byte == b'\n');
        while let Some(raw) = lines.next().unwrap() {
            let expected = expected.next().unwrap();
            let body = expected.strip_suffix(b"\n").unwrap_or(expected);
            match raw {
                Raw::Line { text, .. } => prop_assert!(text == body && text.len() < lines::LONGEST_LINE),
                Raw::TooLong { hash, has_zeros, .. } => {
                    prop_assert!(hash == LineHash::of(body) && body.len() >= lines::LONGEST_LINE);
                    prop_assert_eq!(has_zeros, body.contains(&0));
                }
                Raw::Unfinished { hash, length, .. } => {
                    prop_assert!(hash == LineHash::of(body) && length == body.len() as u64);
                }
            }
        }
        prop_assert!(expected.next().is_none());
    }
}
