//! The spool as its users see it, on a disk in memory, and on a real one where the system's behaviour matters.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;

use super::record::tests::header;
use super::*;
use crate::durable::memory::MemoryDisk;
use crate::model::{DestinationName, Priority};

pub(super) const DATA: &str = "/data";

pub(super) fn options() -> SpoolOptions {
    let (evict_below, warn_below) = (0, 0);
    let (segment_size, small_limit) = (64 << 10, 24 << 10);
    // Segments are not prepared, so that every run does the same in the same order.
    let prepare_after = None;
    let defaults = SpoolOptions::default();
    SpoolOptions { segment_size, small_limit, reserve: 0, evict_below, warn_below, prepare_after, ..defaults }
}

/// Opens a spool in memory; a fatal error is remembered.
pub(super) fn open(disk: &MemoryDisk) -> (Spool, Opened, Arc<Mutex<Vec<String>>>) {
    open_with(disk, options())
}

pub(super) fn open_with(disk: &MemoryDisk, options: SpoolOptions) -> (Spool, Opened, Arc<Mutex<Vec<String>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let fatal = Arc::clone(&said);
    let fatal = Box::new(move |sentence| fatal.lock().unwrap().push(sentence));
    let (spool, opened) = Spool::start(Arc::new(disk.clone()), Path::new(DATA), options, None, fatal).unwrap();
    (spool, opened, said)
}

/// A data set of which about half can be compressed away.
pub(super) fn data_set(number: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    (0..length).map(|at| if at % 2 == 0 { random.u8(..) } else { 0 }).collect()
}

/// Sends an instance and waits for the acknowledgement.
pub(super) fn receive(spool: &Spool, header: InstanceHeader, data: &[u8]) -> Result<Committed, SpoolError> {
    let mut incoming = spool.receive()?;
    for piece in data.chunks(10_000) {
        incoming.write(piece)?;
    }
    let (sender, receiver) = sync_channel(1);
    incoming.commit(header, Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(Duration::from_secs(20)).expect("every commit is answered")
}

pub(super) fn read(spool: &Spool, id: InstanceId) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    spool.read(id).map_err(std::io::Error::other)?.read_to_end(&mut data)?;
    Ok(data)
}

pub(super) fn central() -> DestinationName {
    "central".parse().unwrap()
}

/// Waits until the index has `instances` instances.
pub(super) fn wait_for(spool: &Spool, instances: u64) {
    for _ in 0..2_000 {
        if spool.status().unwrap().instances.instances >= instances {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the index has {:?}", spool.status());
}

#[test]
fn what_was_acknowledged_is_read_back_byte_for_byte_small_and_large_before_and_after_a_restart() {
    let disk = MemoryDisk::new();
    let (spool, opened, _) = open(&disk);
    assert_eq!(opened.rebuilt, None);
    let lengths = [0, 1, 100, 30_000, 65_536, 131_072, 300_000, 1_000_000];
    let mut expected = Vec::new();
    for (number, length) in (1..).zip(lengths) {
        let data = data_set(number, length);
        let committed = receive(&spool, header(number), &data).unwrap();
        assert_eq!(committed.id, InstanceId(number));
        assert_eq!(committed.length, length as u64);
        expected.push((committed.id, data));
    }
    assert!(disk.names().iter().any(|path| path.ends_with("log/large/0000000008.seg")));
    wait_for(&spool, 8);
    expected.iter().for_each(|(id, data)| assert!(read(&spool, *id).unwrap() == *data));
    spool.close();
    let (spool, opened, _) = open(&disk);
    assert_eq!((opened.replayed, opened.damaged), (0, 0));
    expected.iter().for_each(|(id, data)| assert!(read(&spool, *id).unwrap() == *data));
    assert_eq!(receive(&spool, header(9), b"nine").unwrap().id, InstanceId(9));
    let views = spool.instances(Some(InstanceId(7)), 1).unwrap();
    assert_eq!((views[0].id, &views[0].header), (InstanceId(8), &header(8)));
    assert!(matches!(spool.read(InstanceId(99)), Err(SpoolError::Unknown(_))));
}

#[test]
fn segments_roll_and_their_unused_ends_are_given_back() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    for number in 1..=20 {
        receive(&spool, header(number), &data_set(number, 20_000)).unwrap();
    }
    spool.close();
    let segments = disk.names().into_iter().filter(|path| path.starts_with("/data/log")).collect::<Vec<_>>();
    assert!(segments.len() >= 4, "{segments:?}");
    assert!(segments.iter().all(|path| path.extension().unwrap() == "seg"));
    for path in &segments {
        let length = disk.open(path, false).unwrap().length().unwrap();
        assert!(length < 64 << 10 && length.is_multiple_of(4_096), "{length}");
    }
}

#[test]
fn a_discarded_reception_leaves_nothing_behind() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let mut incoming = spool.receive().unwrap();
    incoming.write(&data_set(1, 3_000_000)).unwrap();
    assert!(disk.names().iter().any(|path| path.extension().unwrap() == "tmp"));
    drop(incoming);
    assert!(disk.names().iter().all(|path| path.extension().unwrap() != "tmp"));
    spool.close();
    assert!(matches!(receive(&spool, header(1), b"late"), Err(SpoolError::Closed)));
}

#[test]
fn receptions_that_wait_share_a_flush() {
    let disk = MemoryDisk::new();
    disk.set_sync_takes(Duration::from_millis(3));
    let (spool, ..) = open(&disk);
    std::thread::scope(|scope| {
        for sender in 0..8 {
            let spool = &spool;
            scope.spawn(move || {
                for number in 0..25 {
                    receive(spool, header(sender * 25 + number), &data_set(number, 2_000)).unwrap();
                }
            });
        }
    });
    let log = spool.status().unwrap().log;
    assert_eq!(log.records, 200);
    assert!(log.flushes < 120, "{log:?}");
    assert!(log.largest_group > 1 && log.bytes_in == 400_000 && log.bytes_stored < 400_000, "{log:?}");
}

#[test]
fn instances_spill_when_all_receptions_together_fill_the_memory_that_is_allowed() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open_with(&disk, SpoolOptions { buffer_budget: 100 << 10, small_limit: 4 << 20, ..options() });
    let data = data_set(1, 600_000);
    let mut first = spool.receive().unwrap();
    let mut second = spool.receive().unwrap();
    first.write(&data).unwrap();
    second.write(&data).unwrap();
    let spilled = disk.names().iter().filter(|path| path.extension().unwrap() == "tmp").count();
    assert_eq!(spilled, 2);
    drop((first, second));
    assert!(receive(&spool, header(1), &data_set(1, 10_000)).is_ok());
    assert!(!disk.names().iter().any(|path| path.starts_with("/data/log/large")));
}

#[test]
fn claims_come_by_priority_and_arrival_and_are_exclusive_until_they_end() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let woken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&woken);
    spool.on_queued(move |destination| {
        assert_eq!(destination, &central());
        counter.fetch_add(1, Ordering::Relaxed);
    });
    for (number, priority) in (1..).zip([Priority::Low, Priority::Routine, Priority::Routine, Priority::Stat]) {
        let header = InstanceHeader { priority, ..header(number) };
        receive(&spool, header, b"data").unwrap();
    }
    wait_for(&spool, 4);
    assert!(woken.load(Ordering::Relaxed) > 0);
    let ids = |claims: &[Claim]| claims.iter().map(|claim| claim.id.0).collect::<Vec<_>>();
    let mut claims = spool.claim(&central(), spool.time(), 3, Classes::All).unwrap();
    assert_eq!(ids(&claims), [4, 2, 3]);
    assert_eq!(ids(&spool.claim(&central(), spool.time(), 3, Classes::All).unwrap()), [1], "dropped at once");
    assert_eq!(spool.status().unwrap().destinations[0].sending, 3);
    drop(claims.pop());
    spool.record(claims.pop().unwrap(), Attempt::default(), Outcome::Released);
    let first = claims.pop().unwrap();
    assert_eq!((first.length, first.attempts, &first.header.sop_instance_uid), (4, 0, &header(4).sop_instance_uid));
    spool.record(first, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    until(|| spool.status().unwrap().destinations[0].delivered.instances == 1);
    until(|| spool.status().unwrap().destinations[0].sending == 0);
    assert_eq!(ids(&spool.claim(&central(), spool.time(), 9, Classes::All).unwrap()), [2, 3, 1]);
    let nobody = "nobody".parse().unwrap();
    assert!(spool.claim(&nobody, spool.time(), 9, Classes::All).unwrap().is_empty());
    assert_eq!(spool.next_due(&nobody).unwrap(), None);
}

#[test]
fn a_retry_waits_and_a_parked_delivery_waits_for_a_word() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    receive(&spool, header(1), b"data").unwrap();
    wait_for(&spool, 1);
    let claim = |spool: &Spool, now| spool.claim(&central(), now, 1, Classes::All).unwrap().pop();
    let first = claim(&spool, spool.time()).unwrap();
    assert_eq!(spool.next_due(&central()).unwrap(), None, "what is claimed is not waiting");
    spool.record(first, Attempt::default(), Outcome::Retry { after: Duration::from_secs(60), answer: "A700".into() });
    until(|| spool.next_due(&central()).unwrap().is_some());
    let due = spool.next_due(&central()).unwrap().unwrap();
    assert!(due.until(spool.time()) > Duration::from_secs(50));
    assert!(claim(&spool, spool.time()).is_none());
    let second = claim(&spool, due).unwrap();
    assert_eq!(second.attempts, 1);
    spool.record(second, Attempt::default(), Outcome::Parked { reason: "no common transfer syntax".into() });
    until(|| spool.status().unwrap().destinations[0].parked.instances == 1);
    assert!(claim(&spool, due.after(Duration::from_secs(1_000_000))).is_none());
    let state = spool.instances(None, 1).unwrap().remove(0).deliveries.remove(0).state;
    assert!(matches!(state, DeliveryState::Parked { attempts: 2, ref reason, .. } if reason.starts_with("no common")));
    assert_eq!(spool.retry(Some(&central()), Parked::All, "a test").unwrap(), 1);
    assert_eq!(spool.retry(Some(&central()), Parked::All, "a test").unwrap(), 0);
    assert_eq!(claim(&spool, spool.time()).unwrap().attempts, 0);
}

pub(super) fn until(condition: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it has not come true");
}

#[test]
fn a_lost_or_damaged_index_is_built_again_from_the_log() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let mut expected = Vec::new();
    for number in 1..=30 {
        let data = data_set(number, if number % 10 == 0 { 100_000 } else { 5_000 });
        expected.push((receive(&spool, header(number), &data).unwrap(), data));
    }
    spool.close();
    let index = Path::new("/data/index.redb");
    let ruin: [&dyn Fn(); 3] = [
        &|| disk.remove(index).unwrap(),
        &|| {
            let garbage = data_set(7, 50_000);
            disk.open(index, true).unwrap().write_at(&garbage, 0).unwrap();
        },
        &|| disk.open(index, true).unwrap().set_length(0).unwrap(),
    ];
    for (round, ruin) in ruin.iter().enumerate() {
        ruin();
        let (spool, opened, _) = open(&disk);
        assert_eq!((opened.replayed, opened.damaged), (30, 0));
        assert!(opened.rebuilt.is_some());
        let aside = disk.names().iter().filter(|path| path.to_str().unwrap().contains("damaged-")).count();
        assert_eq!(aside, round, "{:?}", opened.rebuilt);
        for (committed, data) in &expected {
            assert!(read(&spool, committed.id).unwrap() == *data);
        }
        let claims = spool.claim(&central(), spool.time(), 100, Classes::All).unwrap();
        assert_eq!(claims.iter().map(|claim| claim.id.0).collect::<Vec<_>>(), (1..=30).collect::<Vec<_>>());
        drop(claims);
        spool.close();
    }
    assert_eq!(open(&disk).1.replayed, 0);
}

#[test]
fn an_index_that_failed_is_checked_by_the_next_start_and_built_again_only_if_it_is_damaged() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    receive(&spool, header(1), b"data").unwrap();
    wait_for(&spool, 1);
    let error = index_failed(&spool.inner.shared, &IndexError::Row("queued"));
    assert!(matches!(error, SpoolError::Failed(_)));
    spool.close();
    drop(spool);
    let suspect = Path::new("/data/index.suspect");
    assert!(disk.names().iter().any(|path| path == suspect));
    let (spool, opened, _) = open(&disk);
    assert_eq!((opened.rebuilt, opened.replayed), (None, 0));
    assert!(!disk.names().iter().any(|path| path == suspect));
    spool.close();
    drop(spool);
    disk.create(suspect).unwrap();
    let index = Path::new("/data/index.redb");
    let length = usize::try_from(disk.open(index, false).unwrap().length().unwrap()).unwrap();
    (4_096..length).step_by(50).for_each(|at| disk.flip(index, at, 1));
    let (spool, opened, _) = open(&disk);
    assert!(opened.rebuilt.is_some());
    assert_eq!(read(&spool, InstanceId(1)).unwrap(), b"data");
}

#[test]
fn damage_in_the_log_is_reported_and_costs_nobody_else_anything() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    for number in 1..=5 {
        receive(&spool, header(number), &data_set(number, 9_000)).unwrap();
    }
    wait_for(&spool, 5);
    let segment = Path::new("/data/log/0000000001.seg");
    // Each record takes 8192 bytes: the payload of the second, the head of the fourth, and the segment's header.
    disk.flip(segment, 4_096 + 8_192 + 3_000, 4);
    disk.flip(segment, 4_096 + 3 * 8_192 + 20, 1);
    disk.flip(segment, 30, 1);
    assert_eq!(read(&spool, InstanceId(2)).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert!(matches!(spool.read(InstanceId(4)), Err(SpoolError::Damaged { .. })));
    assert!(read(&spool, InstanceId(3)).is_ok());
    spool.close();
    disk.remove(Path::new("/data/index.redb")).unwrap();
    let (spool, opened, _) = open(&disk);
    assert_eq!((opened.replayed, opened.damaged), (3, 3), "{opened:?}");
    for number in [1, 3, 5] {
        assert!(read(&spool, InstanceId(number)).unwrap() == data_set(number, 9_000));
    }
    assert_eq!(receive(&spool, header(6), b"six").unwrap().id, InstanceId(6));
}

#[test]
fn no_flipped_bit_of_a_payload_is_ever_handed_out_as_whole() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let data = data_set(1, 200_000);
    let stored = receive(&spool, header(1), &data).unwrap().stored_length;
    wait_for(&spool, 1);
    let path = Path::new("/data/log/large/0000000001.seg");
    for at in (0..usize::try_from(stored).unwrap()).step_by(997) {
        disk.flip(path, 65_536 + at, 16);
        assert!(read(&spool, InstanceId(1)).is_err(), "byte {at}");
        disk.flip(path, 65_536 + at, 16);
    }
    assert!(read(&spool, InstanceId(1)).unwrap() == data);
}

#[test]
fn a_full_disk_refuses_and_serves_again_when_there_is_room() {
    let disk = MemoryDisk::new();
    let (spool, _, said) = open_with(&disk, SpoolOptions { reserve: 1 << 20, ..options() });
    receive(&spool, header(1), &data_set(1, 5_000)).unwrap();
    // The index may still grow into the reserve; what is received may not.
    disk.set_capacity(Some((2 << 20) + 600_000));
    let mut kept = 1;
    let refused = loop {
        match receive(&spool, header(kept + 1), &data_set(kept + 1, 60_000)) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100);
    };
    assert!(matches!(refused, SpoolError::NoRoom(_)), "{refused}");
    assert!(disk.names().iter().all(|path| path.extension().is_none_or(|extension| extension != "tmp")));
    wait_for(&spool, kept);
    disk.set_capacity(None);
    receive(&spool, header(kept + 1), &data_set(kept + 1, 60_000)).unwrap();
    wait_for(&spool, kept + 1);
    assert!((1..=kept + 1).all(|number| spool.instances(Some(InstanceId(number - 1)), 1).unwrap().len() == 1));
    assert!(said.lock().unwrap().is_empty());
}

#[test]
fn what_the_index_has_no_room_for_when_the_spool_is_closed_is_entered_by_the_next_start() {
    for after in 0..8 {
        let disk = MemoryDisk::new();
        let (spool, ..) = open(&disk);
        receive(&spool, header(1), b"first").unwrap();
        spool.settle().unwrap();
        spool.inner.shared.closing.store(true, Ordering::Relaxed);
        disk.fail(after, Errno::ENOSPC, false);
        let mut acknowledged = vec![1];
        for number in 2..5 {
            acknowledged.extend(receive(&spool, header(number), b"another").map(|committed| committed.id.0));
            // It says no if something was left.
            drop(spool.settle());
        }
        spool.close();
        drop(spool);
        let (spool, ..) = open(&disk);
        let views = spool.instances(None, usize::MAX).unwrap();
        assert_eq!(views.iter().map(|view| view.id.0).collect::<Vec<_>>(), acknowledged, "after {after}");
    }
}

#[test]
fn a_write_that_finds_no_room_costs_only_that_instance() {
    let disk = MemoryDisk::new();
    let (spool, _, said) = open(&disk);
    receive(&spool, header(1), b"first").unwrap();
    wait_for(&spool, 1);
    // The head, then the payload; each time the partial record is abandoned.
    for after in 0..2 {
        // redb does not survive a full disk, which is why there is a reserve: it must be idle.
        std::thread::sleep(Duration::from_millis(100));
        disk.fail(after, Errno::ENOSPC, false);
        assert!(matches!(receive(&spool, header(2), &data_set(2, 9_000)), Err(SpoolError::NoRoom(_))));
        let committed = receive(&spool, header(3 + after), b"goes on").unwrap();
        wait_for(&spool, 2 + after);
        assert_eq!(read(&spool, committed.id).unwrap(), b"goes on");
    }
    assert!(said.lock().unwrap().is_empty());
    spool.close();
    disk.remove(Path::new("/data/index.redb")).unwrap();
    let (_, opened, _) = open(&disk);
    assert_eq!(opened.replayed, 3);
}

#[test]
fn after_a_failed_flush_everybody_gets_an_error_and_nothing_is_accepted_any_more() {
    let disk = MemoryDisk::new();
    let (spool, _, said) = open(&disk);
    receive(&spool, header(1), b"first").unwrap();
    wait_for(&spool, 1);
    std::thread::sleep(Duration::from_millis(50));
    // The writes of head and payload succeed, the flush does not.
    disk.fail(2, Errno::EIO, false);
    assert!(matches!(receive(&spool, header(2), b"second"), Err(SpoolError::Failed(_))));
    assert!(matches!(receive(&spool, header(3), b"third"), Err(SpoolError::Failed(_))));
    assert!(matches!(spool.status(), Err(SpoolError::Failed(_))));
    let said = said.lock().unwrap();
    assert!(said.len() == 1 && said[0].contains("flush"), "{said:?}");
    spool.close();
    disk.heal();
    let (spool, ..) = open(&disk);
    assert_eq!(spool.status().unwrap().instances.instances, 1, "what was lost in the failed flush is not believed");
    assert_eq!(read(&spool, InstanceId(1)).unwrap(), b"first");
}

#[test]
fn a_second_spool_on_a_directory_is_refused_with_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("spool");
    let (spool, _) = Spool::open(&data, SpoolOptions { reserve: 0, ..SpoolOptions::default() }, |_| {}).unwrap();
    let error = Spool::open(&data, SpoolOptions::default(), |_| {}).unwrap_err().to_string();
    assert!(error.contains(&format!("another Waystation with process id {} is using", std::process::id())), "{error}");
    spool.close();
    Spool::open(&data, SpoolOptions::default(), |_| {}).unwrap();
}

#[test]
fn a_spool_that_is_only_dropped_lets_go_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Spool::open(directory.path(), SpoolOptions { reserve: 0, ..SpoolOptions::default() }, |_| {});
    let (spool, _) = open().unwrap();
    receive(&spool, header(1), b"data").unwrap();
    drop(spool);
    let mut again = None;
    until_some(|| open().ok(), &mut again);
    let (spool, _) = again.unwrap();
    wait_for(&spool, 1);
    assert_eq!(read(&spool, InstanceId(1)).unwrap(), b"data");
}

fn until_some<T>(attempt: impl Fn() -> Option<T>, found: &mut Option<T>) {
    for _ in 0..1_000 {
        *found = attempt();
        if found.is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_large_instance_streams_through_a_real_disk() {
    const LENGTH: u64 = 64 << 20;
    let directory = tempfile::tempdir().unwrap();
    let options = SpoolOptions { reserve: 0, buffer_budget: 1 << 20, ..SpoolOptions::default() };
    let (spool, _) = Spool::open(directory.path(), options, |_| {}).unwrap();
    let piece = |number| data_set(number, 1 << 20);
    let mut incoming = spool.receive().unwrap();
    (0..LENGTH >> 20).for_each(|number| incoming.write(&piece(number)).unwrap());
    let (sender, receiver) = sync_channel(1);
    incoming.commit(header(1), Box::new(move |result| sender.send(result).unwrap()));
    let committed = receiver.recv().unwrap().unwrap();
    assert_eq!(committed.length, LENGTH);
    wait_for(&spool, 1);
    let mut reader = spool.read(committed.id).unwrap();
    let mut read = vec![0; 1 << 20];
    for number in 0..LENGTH >> 20 {
        reader.read_exact(&mut read).unwrap();
        assert!(read == piece(number));
    }
    assert_eq!(reader.read(&mut read).unwrap(), 0);
    assert_eq!((reader.length(), reader.hash()), (LENGTH, committed.hash));
}

#[test]
fn every_commit_is_answered_also_while_the_spool_closes() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let answers: Vec<_> = (0..50)
        .map(|number| {
            let (sender, receiver) = sync_channel(1);
            let mut incoming = spool.receive().unwrap();
            incoming.write(b"data").unwrap();
            if number == 25 {
                let spool = spool.clone();
                std::thread::spawn(move || spool.close());
            }
            incoming.commit(header(number), Box::new(move |result| sender.send(result).unwrap()));
            receiver
        })
        .collect();
    for answer in answers {
        match answer.recv_timeout(Duration::from_secs(10)) {
            Ok(Ok(_) | Err(SpoolError::Closed)) => {}
            Err(RecvTimeoutError::Timeout) => panic!("a commit was never answered"),
            other => panic!("{other:?}"),
        }
    }
}
