//! What the ledger tells of an instance, from its arrival until it is forgotten, and over lost indexes and ledgers.

use std::path::Path;
use std::time::Duration;

use super::record::tests::header;
use super::tests::{central, open, open_with, options, receive, until};
use super::*;
use crate::durable::memory::MemoryDisk;
use crate::durable::{DiskFile, read_exact_at};
use crate::ledger::{self, AttemptOutcome, Entry, LedgerError, Line, Method, Selection, VerifyOutcome};

fn folder() -> std::path::PathBuf {
    Path::new(super::tests::DATA).join(ledger::FOLDER)
}

/// Everything that is in the ledger.
fn all(disk: &MemoryDisk) -> Vec<Line> {
    let mut lines = Vec::new();
    ledger::walk(disk, &folder(), None, |line| {
        lines.push(line);
        Ok::<_, LedgerError>(())
    })
    .unwrap();
    lines
}

/// In a word each.
fn words(lines: &[Line]) -> Vec<String> {
    let word = |line: &Line| match line.entry.as_ref() {
        None => "unknown".into(),
        Some(entry) => word(entry),
    };
    lines.iter().map(word).collect()
}

fn word(entry: &Entry) -> String {
    match entry {
        Entry::Received(received) => format!("received {}", received.id),
        Entry::Attempted(attempted) => format!("{:?} {} #{}", attempted.outcome, attempted.id, attempted.attempt),
        Entry::Verified { id, method, outcome, .. } => format!("{outcome:?} {id} by {method:?}"),
        Entry::Released { of: Selection::Everything, by, .. } => format!("released by {by}"),
        Entry::Freed { id } => format!("freed {id}"),
        Entry::Forgotten { id } => format!("forgotten {id}"),
        Entry::Started { .. } => "started".into(),
        Entry::Gap { .. } => "gap".into(),
        other => format!("{other:?}"),
    }
}

fn claim(spool: &Spool) -> Claim {
    let later = spool.time().after(Duration::from_secs(3_600));
    until(|| spool.next_due(&central()).unwrap().is_some());
    spool.claim(&central(), later, 1, Classes::All).unwrap().pop().unwrap()
}

/// Waits until everything that was recorded is committed.
fn settle(spool: &Spool) {
    until(|| spool.status().unwrap().destinations.iter().all(|destination| destination.sending == 0));
    spool.settle().unwrap();
}

fn check(disk: &MemoryDisk) -> ledger::Report {
    ledger::check(disk, &folder(), |_| {}).unwrap()
}

#[test]
fn the_whole_story_of_an_instance_is_told_in_order_and_found_by_its_number() {
    let disk = MemoryDisk::new();
    let soon = SpoolOptions { keep_delivered: Duration::ZERO, keep_records: Duration::ZERO, ..options() };
    let (spool, ..) = open_with(&disk, soon);
    let id = receive(&spool, header(1), &[7; 5_000]).unwrap().id;
    let attempt = Attempt {
        bytes: 1_234,
        through: Some("other".parse().unwrap()),
        warned: true,
        remark: Some("Doe^Jane is not known here".into()),
        sent_as: Some("1.2.840.10008.1.2.4.80".parse().unwrap()),
        coercion: Some(Coercion { sha256: crate::model::ContentHash([9; 32]), rules: vec!["fix".parse().unwrap()] }),
    };
    let again = Outcome::Retry { after: Duration::from_secs(60), answer: "A700\u{1b}".into() };
    spool.record(claim(&spool), attempt.clone(), again);
    settle(&spool);
    spool.record(claim(&spool), Attempt::default(), Outcome::Parked { reason: "C000".into() });
    settle(&spool);
    spool.retry(Some(&central()), Parked::All, "uid 1000").unwrap();
    let verify = Some(Duration::ZERO);
    spool.record(claim(&spool), attempt.clone(), Outcome::Delivered { answer: "B007".into(), verify });
    settle(&spool);
    let asked = spool.claim_unverified(&central(), spool.time(), 1).unwrap().pop().unwrap();
    spool.verified(asked, Method::CFind, Verification::Later { after: Duration::ZERO, answer: "busy".into() });
    until(|| spool.next_unverified_due(&central()).unwrap().is_some());
    spool.settle().unwrap();
    let confirmed = Verification::Confirmed { answer: "0000".into() };
    spool
        .reported(
            &central(),
            vec![Reported { instance: header(1).sop_instance_uid, attempt: None, verification: confirmed }],
        )
        .unwrap();
    spool.tend();
    let lines = spool.ledger(id).unwrap();
    let expected = [
        "received 1",
        "Again 1 #1",
        "Parked 1 #2",
        "Warned 1 #1",
        "Again 1 by CFind",
        "Confirmed 1 by Commitment",
        "freed 1",
    ];
    assert_eq!(words(&lines), expected);
    let Some(Entry::Received(received)) = &lines[0].entry else { panic!() };
    assert_eq!((received.bytes, &received.sop_instance), (5_000, &header(1).sop_instance_uid));
    assert_eq!((lines[0].at, received.peer), (header(1).received_at, header(1).peer));
    let Some(Entry::Attempted(made)) = &lines[1].entry else { panic!() };
    assert_eq!((made.bytes, made.next_after, made.answer.as_str()), (1_234, Some(60), "A700\u{1b}"));
    let coercion = attempt.coercion.unwrap();
    assert_eq!(
        (&made.through, made.sha256_sent, &made.rules),
        (&attempt.through, Some(coercion.sha256), &coercion.rules)
    );
    until(|| {
        spool.tend();
        spool.instances(None, 1).unwrap().is_empty()
    });
    assert!(spool.ledger(id).unwrap().is_empty(), "what is forgotten is in the ledger only");
    spool.close();
    let told = words(&all(&disk));
    assert_eq!((told[0].as_str(), told.last().unwrap().as_str()), ("started", "forgotten 1"));
    assert!(told.contains(&"released by uid 1000".to_owned()), "{told:?}");
    assert!(check(&disk).is_well());
    // A run in which nothing happens has nothing to tell.
    open(&disk).0.close();
    assert_eq!(all(&disk).len(), told.len());
}

#[test]
fn what_is_withheld_or_contradicts_another_or_comes_anew_is_told_as_such() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let first = receive(&spool, header(1), b"one").unwrap().id;
    spool.settle().unwrap();
    let other = receive(&spool, header(1), b"two").unwrap().id;
    let rule = Some("no-reports".parse().unwrap());
    let withheld = InstanceHeader { destinations: Vec::new(), rule: rule.clone(), withheld: true, ..header(2) };
    let kept = receive(&spool, withheld, b"three").unwrap().id;
    spool.settle().unwrap();
    let elsewhere = InstanceHeader { destinations: vec!["cloud".parse().unwrap()], ..header(1) };
    let again = receive(&spool, elsewhere, b"one").unwrap().id;
    // A duplicate is nothing new.
    receive(&spool, header(1), b"one").unwrap();
    spool.settle().unwrap();
    let received = |id| {
        let entries = spool.ledger(id).unwrap().into_iter().filter_map(|line| line.entry);
        entries.filter_map(|entry| if let Entry::Received(it) = entry { Some(*it) } else { None }).collect::<Vec<_>>()
    };
    assert_eq!(received(other)[0].conflict_with, Some(first));
    assert_eq!((&received(kept)[0].rule, received(kept)[0].withheld), (&rule, true));
    assert_eq!(again, first);
    let twice: Vec<_> = received(first).into_iter().map(|received| received.destinations.len()).collect();
    assert_eq!(twice, [1, 2], "the second time with the routing of both");
    spool.close();
}

fn index() -> std::path::PathBuf {
    Path::new(super::tests::DATA).join("index.redb")
}

fn delivered(verify: Option<Duration>) -> Outcome {
    Outcome::Delivered { answer: "0000".into(), verify }
}

/// Six instances, each of which has come as far as another.
fn six_fates() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    for number in 1..=6 {
        receive(&spool, header(number), &[1; 700]).unwrap();
    }
    settle(&spool);
    let now = spool.time().after(Duration::from_secs(3_600));
    let asked = Some(Duration::ZERO);
    let outcomes = [
        delivered(None),
        delivered(asked),
        delivered(asked),
        delivered(asked),
        Outcome::Parked { reason: "C000".into() },
    ];
    for (claim, outcome) in spool.claim(&central(), now, 5, Classes::All).unwrap().into_iter().zip(outcomes) {
        spool.record(claim, Attempt::default(), outcome);
    }
    settle(&spool);
    let verifications = [
        Verification::Confirmed { answer: "yes".into() },
        Verification::Missing { answer: "no".into() },
        Verification::Later { after: Duration::from_secs(60), answer: "busy".into() },
    ];
    for (claim, verification) in spool.claim_unverified(&central(), now, 3).unwrap().into_iter().zip(verifications) {
        spool.verified(claim, Method::Qidors, verification);
    }
    settle(&spool);
    until(|| spool.status().unwrap().destinations[0].confirmed.instances == 1);
    receive(&spool, header(7), &[1; 700]).unwrap();
    spool.settle().unwrap();
    spool.close();
    disk
}

/// Where the deliveries stand, in a word each.
fn standing(spool: &Spool) -> Vec<&'static str> {
    let views = spool.instances(None, 100).unwrap();
    let word = |view: &InstanceView| match &view.deliveries[0].state {
        DeliveryState::Queued { .. } => "queued",
        DeliveryState::Delivered { verifying: None, .. } => "final",
        DeliveryState::Delivered { verifying: Some(_), .. } => "unverified",
        DeliveryState::Confirmed { .. } => "confirmed",
        DeliveryState::Parked { .. } => "parked",
    };
    views.iter().map(word).collect()
}

#[test]
fn a_lost_index_is_no_reason_to_tell_or_to_deliver_anything_twice() {
    let disk = six_fates();
    let (spool, ..) = open(&disk);
    assert_eq!(standing(&spool), ["final", "confirmed", "queued", "unverified", "parked", "queued", "queued"]);
    spool.close();
    let before = words(&all(&disk));
    disk.remove(&index()).unwrap();
    let (spool, opened, _) = open(&disk);
    assert_eq!((opened.replayed, opened.restored), (7, 3));
    assert_eq!(words(&all(&disk)), before);
    // What was parked is tried again: nobody knows whether it was released since.
    assert_eq!(standing(&spool), ["final", "confirmed", "queued", "unverified", "queued", "queued", "queued"]);
    assert_eq!(words(&spool.ledger(InstanceId(1)).unwrap()), ["received 1", "Delivered 1 #1"]);
    let status = &spool.status().unwrap().destinations[0];
    assert_eq!((status.queued.instances, status.delivered.instances, status.unverified.instances), (4, 3, 1));
    spool.close();
}

#[test]
fn a_ledger_that_is_not_whole_is_not_believed_and_everything_is_delivered_once_more() {
    let lines = all(&six_fates());
    for line in &lines[..lines.len() - 1] {
        let disk = six_fates();
        disk.remove(&index()).unwrap();
        let file = folder().join(line.position.place.file.file_name());
        disk.flip(&file, usize::try_from(line.position.place.offset).unwrap() + line.text.len() - 5, 1);
        let (spool, opened, _) = open(&disk);
        assert_eq!((opened.replayed, opened.restored), (7, 0), "{}", line.text);
        assert!(standing(&spool).iter().all(|word| *word == "queued"));
        spool.close();
    }
    // Whoever asks for a new index wants everything to be delivered again.
    let disk = six_fates();
    disk.remove(&index()).unwrap();
    let layout = segment::Layout::of(Path::new(super::tests::DATA));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let start = replay::start(&shared, &layout, &options(), Made::Repeat).unwrap();
    assert_eq!((start.opened.replayed, start.opened.restored), (7, 0));
    drop(start);
    let (spool, ..) = open(&disk);
    assert!(standing(&spool).iter().all(|word| *word == "queued"));
    spool.close();
}

#[test]
fn no_number_is_given_twice_even_when_the_index_is_lost_and_the_log_is_empty() {
    let disk = MemoryDisk::new();
    let nothing = SpoolOptions { keep_delivered: Duration::ZERO, ..options() };
    let (spool, ..) = open_with(&disk, nothing);
    for number in 1..=3 {
        receive(&spool, header(number), &super::tests::data_set(number, 100_000)).unwrap();
    }
    settle(&spool);
    let claims = spool.claim(&central(), spool.time(), 3, Classes::All).unwrap();
    claims.into_iter().for_each(|claim| spool.record(claim, Attempt::default(), delivered(None)));
    settle(&spool);
    spool.tend();
    assert_eq!(spool.status().unwrap().log.freed, 3);
    spool.close();
    disk.remove(&index()).unwrap();
    let (spool, opened, _) = open(&disk);
    assert_eq!((opened.replayed, opened.restored), (0, 0));
    assert_eq!(receive(&spool, header(9), &[1; 700]).unwrap().id, InstanceId(4));
    spool.close();
}

#[test]
fn a_lost_or_changed_ledger_stops_nothing_and_a_line_tells_of_it() {
    for lose in [true, false] {
        let disk = MemoryDisk::new();
        let (spool, ..) = open(&disk);
        let first = receive(&spool, header(1), &[1; 700]).unwrap().id;
        spool.settle().unwrap();
        spool.close();
        let file = disk.names().into_iter().find(|name| name.starts_with(folder())).unwrap();
        if lose {
            disk.remove(&file).unwrap();
        } else {
            let end = usize::try_from(disk.open(&file, false).unwrap().length().unwrap()).unwrap();
            disk.flip(&file, end - 20, 1);
        }
        let (spool, ..) = open(&disk);
        let second = receive(&spool, header(2), &[1; 700]).unwrap().id;
        spool.settle().unwrap();
        assert_eq!(words(&spool.ledger(second).unwrap()), ["received 2"]);
        spool.ledger(first).unwrap_or_default();
        spool.close();
        let told = words(&all(&disk));
        assert!(told.ends_with(&["gap".into(), "started".into(), "received 2".into()]), "{told:?}");
        assert_eq!(check(&disk).gaps, 1);
    }
}

#[test]
fn without_room_for_the_ledger_the_index_waits_and_goes_on_by_itself() {
    let disk = MemoryDisk::new();
    let (spool, _, said) = open(&disk);
    receive(&spool, header(1), &[1; 700]).unwrap();
    settle(&spool);
    // The next writes of the ledger find no room; nothing else is written in between.
    disk.fail(0, nix::errno::Errno::ENOSPC, false);
    spool.record(claim(&spool), Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    settle(&spool);
    assert!(said.lock().unwrap().is_empty());
    spool.close();
    assert_eq!(words(&all(&disk)), ["started", "received 1", "Delivered 1 #1"]);
    assert!(check(&disk).is_well());
}

/// What a typical instance takes, for docs/ledger.md: a CT slice with UIDs of the usual length and one destination.
#[test]
fn an_instance_takes_the_room_that_the_documentation_says() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let uid =
        |last: u64| format!("1.2.826.0.1.3680043.8.498.4578784190547378823061416352089{last:04}").parse().unwrap();
    for number in 0..100 {
        let study_instance_uid = Some(uid(9_001));
        let series_instance_uid = Some(uid(9_002));
        let header =
            InstanceHeader { sop_instance_uid: uid(number), study_instance_uid, series_instance_uid, ..header(number) };
        receive(&spool, header, &number.to_le_bytes().repeat(100)).unwrap();
    }
    settle(&spool);
    let operations = disk.operations();
    for _ in 0..100 {
        spool.record(claim(&spool), Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    }
    settle(&spool);
    assert!(disk.operations() > operations);
    spool.close();
    let lines = all(&disk);
    let mean = |what: &str| {
        let lengths: Vec<_> =
            lines.iter().filter(|line| line.text.contains(what)).map(|line| line.text.len() + 1).collect();
        lengths.iter().sum::<usize>() / lengths.len()
    };
    let (received, attempted) = (mean("\"what\":\"received\""), mean("\"what\":\"attempted\""));
    assert!((600..670).contains(&received) && (210..250).contains(&attempted), "{received} {attempted}");
    let file = disk.names().into_iter().find(|name| name.starts_with(folder())).unwrap();
    let file: Arc<dyn DiskFile> = disk.open(&file, false).unwrap();
    let mut first = [0; 9];
    read_exact_at(&*file, &mut first, 0).unwrap();
    assert_eq!(&first, b"{\"prev\":\"");
    assert!(lines.iter().all(|line| matches!(&line.entry, Some(entry) if !matches!(entry, Entry::Gap { .. }))));
    let outcomes = |wanted| {
        let made = |line: &&Line| matches!(&line.entry, Some(Entry::Attempted(made)) if made.outcome == wanted);
        lines.iter().filter(made).count()
    };
    assert_eq!(outcomes(AttemptOutcome::Delivered), 100);
    assert!(
        !lines.iter().any(|line| matches!(&line.entry, Some(Entry::Verified { outcome: VerifyOutcome::Missing, .. })))
    );
}
