//! The index does not grow for ever: what was delivered and freed is forgotten after its time.

use std::path::Path;
use std::time::Duration;

use super::record::tests::header;
use super::tests::{central, data_set, open_with, options, read, receive, until, wait_for};
use super::*;
use crate::durable::memory::MemoryDisk;

fn forget_at_once() -> SpoolOptions {
    SpoolOptions { keep_delivered: Duration::ZERO, keep_records: Duration::ZERO, ..options() }
}

fn deliver(spool: &Spool, wanted: impl Fn(u64) -> bool) {
    let all = spool.claim(&central(), spool.time(), usize::MAX, Classes::All).unwrap();
    for claim in all.into_iter().filter(|claim| wanted(claim.id.0)) {
        spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    }
    until(|| spool.status().unwrap().destinations[0].sending == 0);
}

fn ids(spool: &Spool) -> Vec<u64> {
    spool.instances(None, usize::MAX).unwrap().iter().map(|view| view.id.0).collect()
}

#[test]
fn what_was_freed_is_forgotten_after_its_time_and_a_resend_is_new_then() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open_with(&disk, SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    let length = |number: u64| if number.is_multiple_of(5) { 100_000 } else { 9_000 };
    for number in 1..=20 {
        receive(&spool, header(number), &data_set(number, length(number))).unwrap();
    }
    wait_for(&spool, 20);
    deliver(&spool, |id| id % 2 == 0);
    spool.tend();
    spool.tend();
    assert_eq!(ids(&spool).len(), 20, "their time has not come");
    assert!(receive(&spool, header(2), &data_set(2, length(2))).unwrap().duplicate);
    spool.close();

    let (spool, ..) = open_with(&disk, forget_at_once());
    spool.tend();
    let waiting: Vec<u64> = (1..=20).filter(|id| id % 2 == 1).collect();
    assert_eq!(ids(&spool), waiting);
    let status = spool.status().unwrap();
    assert_eq!((status.destinations[0].queued.instances, status.destinations[0].delivered), (10, Tally::default()));
    assert!(matches!(spool.read(InstanceId(2)), Err(SpoolError::Unknown(_))));
    for id in waiting {
        assert!(read(&spool, InstanceId(id)).unwrap() == data_set(id, length(id)));
    }
    let again = receive(&spool, header(2), &data_set(2, length(2))).unwrap();
    assert_eq!((again.duplicate, again.id), (false, InstanceId(21)), "no number is given twice");
    wait_for(&spool, 11);
    assert_eq!(spool.status().unwrap().destinations[0].queued.instances, 11);
    spool.close();

    // Nothing of what is forgotten is in the log.
    disk.remove(Path::new("/data/index.redb")).unwrap();
    let (spool, opened, _) = open_with(&disk, forget_at_once());
    assert_eq!((opened.replayed, ids(&spool).len()), (11, 11));
}

#[test]
fn an_instance_whose_record_could_not_be_removed_is_remembered_until_its_segment_has_gone() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open_with(&disk, forget_at_once());
    // Seven records of 8192 bytes fill a segment.
    for number in 1..=10 {
        receive(&spool, header(number), &data_set(number, 9_000)).unwrap();
    }
    wait_for(&spool, 10);
    let first = Path::new("/data/log/0000000001.seg");
    // The second record cannot be read, so it is not punched.
    disk.flip(first, 4_096 + 8_192 + 20, 1);
    deliver(&spool, |id| id != 7);
    spool.tend();
    spool.tend();
    assert_eq!(ids(&spool), [2, 7]);
    assert_eq!(spool.status().unwrap().destinations[0].delivered.instances, 1);
    disk.flip(first, 4_096 + 8_192 + 20, 1);
    deliver(&spool, |_| true);
    spool.tend();
    spool.tend();
    assert!(!disk.names().contains(&first.to_owned()), "all of it was known as delivered");
    spool.tend();
    assert!(ids(&spool).is_empty());
}
