//! Room: what is delivered makes it, what is not never does.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::record::tests::header;
use super::tests::{central, data_set, open, open_with, options, read, receive, until, wait_for};
use super::*;
use crate::durable::memory::MemoryDisk;

const MIB: u64 = 1 << 20;

/// Delivers everything whose number is wanted; the rest waits as before.
fn deliver(spool: &Spool, wanted: impl Fn(u64) -> bool) {
    let (now, rest): (Vec<_>, Vec<_>) = spool
        .claim(&central(), spool.time(), usize::MAX, Classes::All)
        .unwrap()
        .into_iter()
        .partition(|claim| wanted(claim.id.0));
    drop(rest);
    now.into_iter().for_each(|claim| {
        spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None })
    });
    until(|| spool.status().unwrap().destinations[0].sending == 0);
}

/// Waits until the index has had so many instances for the archive, those that are delivered and freed included.
fn wait_for_central(spool: &Spool, instances: u64) {
    until(|| {
        let destinations = spool.status().unwrap().destinations;
        destinations.iter().map(|central| central.queued.instances + central.delivered.instances).sum::<u64>()
            >= instances
    });
}

fn kept(spool: &Spool) -> BTreeSet<u64> {
    let views = spool.instances(None, usize::MAX).unwrap();
    views.into_iter().filter(|view| view.stored_length.is_some()).map(|view| view.id.0).collect()
}

#[test]
fn what_is_delivered_is_freed_after_its_time_and_nothing_else_ever() {
    let disk = MemoryDisk::new();
    let keep_nothing = SpoolOptions { keep_delivered: Duration::ZERO, ..options() };
    let (spool, ..) = open_with(&disk, keep_nothing.clone());
    let length = |number: u64| if number.is_multiple_of(5) { 100_000 } else { 9_000 };
    for number in 1..=30 {
        receive(&spool, header(number), &data_set(number, length(number))).unwrap();
    }
    wait_for(&spool, 30);
    let claim = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap().remove(0);
    spool.record(claim, Attempt::default(), Outcome::Parked { reason: "C000".into() });
    deliver(&spool, |id| id % 3 != 0);
    spool.tend();
    let expected: BTreeSet<u64> = (1..=30).filter(|id| id % 3 == 0 || *id == 1).collect();
    assert_eq!(kept(&spool), expected);
    for id in 1..=30 {
        match read(&spool, InstanceId(id)) {
            Ok(data) => assert!(expected.contains(&id) && data == data_set(id, length(id))),
            Err(error) => assert!(error.to_string().contains("was freed"), "{error}"),
        }
    }
    let status = spool.status().unwrap();
    assert_eq!((status.instances.instances, status.log.freed, status.cache), (11, 19, Tally::default()));
    assert!(!disk.names().contains(&"/data/log/large/0000000005.seg".into()));
    assert!(disk.names().contains(&"/data/log/large/0000000015.seg".into()));
    // What was freed is still known.
    assert!(receive(&spool, header(2), &data_set(2, length(2))).unwrap().duplicate);
    spool.close();
    disk.remove(Path::new("/data/index.redb")).unwrap();
    let (spool, opened, _) = open_with(&disk, keep_nothing);
    assert_eq!((opened.replayed, opened.damaged), (11, 0), "{opened:?}");
    assert_eq!(kept(&spool), expected);
}

#[test]
fn a_segment_goes_when_nothing_in_it_is_needed_and_a_damaged_record_keeps_it() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open_with(&disk, SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    // Seven records of 8192 bytes fill a segment.
    for number in 1..=29 {
        receive(&spool, header(number), &data_set(number, 9_000)).unwrap();
    }
    wait_for(&spool, 29);
    let segment = |number: u64| format!("/data/log/{number:010}.seg").into();
    disk.flip(Path::new("/data/log/0000000002.seg"), 4_096 + 20, 1);
    deliver(&spool, |id| id != 15);
    spool.tend();
    let names = disk.names();
    assert!(!names.contains(&segment(1)), "everything in it is delivered");
    assert!(names.contains(&segment(2)), "one of its records cannot be read");
    assert!(names.contains(&segment(3)), "one of its instances waits");
    assert!(!names.contains(&segment(4)) && names.contains(&segment(5)), "the log is still there");
    deliver(&spool, |_| true);
    spool.tend();
    assert!(!disk.names().contains(&segment(3)));
    spool.close();
    assert_eq!(open(&disk).1.damaged, 0, "a start does not look there");
}

#[test]
fn the_oldest_delivered_make_room_before_anything_is_refused_and_the_undelivered_never_do() {
    let disk = MemoryDisk::new();
    let marks = SpoolOptions { reserve: 2 * MIB, evict_below: 3 * MIB, warn_below: 4 * MIB, ..options() };
    let (spool, _, said) = open_with(&disk, marks.clone());
    spool.tend();
    assert_eq!(spool.status().unwrap().ballast, MIB / 2);
    disk.set_capacity(Some(8 * MIB));
    // Ten times as much as fits, as long as it is delivered.
    for round in 0..20 {
        for number in round * 10..round * 10 + 10 {
            receive(&spool, header(number), &data_set(number, 80_000)).unwrap();
            spool.tend();
        }
        wait_for_central(&spool, round * 10 + 10);
        deliver(&spool, |_| true);
    }
    let status = spool.status().unwrap();
    assert!(status.log.freed > 50 && status.cache.instances > 5, "{status:?}");
    let kept = kept(&spool);
    assert_eq!(kept.len() as u64, 200 - status.log.freed, "the oldest went first");
    assert_eq!(kept.first(), Some(&(status.log.freed + 1)));
    assert!(status.days_left.is_some() && status.stored_per_day > Some(0));
    // And with nothing delivered it refuses, and keeps everything.
    let mut taken = Vec::new();
    let refused = (1_000..2_000).find_map(|number| match receive(&spool, header(number), &data_set(number, 80_000)) {
        Ok(committed) => {
            taken.push((committed.id, number));
            spool.tend();
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(refused, Some(SpoolError::NoRoom(_))), "{refused:?}");
    assert_eq!(spool.status().unwrap().cache.instances, 0, "every copy that is delivered has gone before");
    assert!(taken.len() > 20);
    wait_for_central(&spool, 200 + taken.len() as u64);
    for (id, number) in &taken {
        assert!(read(&spool, *id).unwrap() == data_set(*number, 80_000));
    }
    // It serves again by itself.
    deliver(&spool, |_| true);
    spool.tend();
    receive(&spool, header(3_000), &data_set(3_000, 80_000)).unwrap();
    assert!(said.lock().unwrap().is_empty());
}

#[test]
fn when_others_fill_the_disk_the_index_waits_the_ballast_goes_and_it_recovers_by_itself() {
    let disk = MemoryDisk::new();
    let (spool, _, said) = open_with(&disk, SpoolOptions { reserve: 8 * MIB, ..options() });
    receive(&spool, header(1), &data_set(1, 5_000)).unwrap();
    wait_for(&spool, 1);
    spool.tend();
    let ballast: std::path::PathBuf = "/data/ballast".into();
    assert!(disk.names().contains(&ballast));
    let claim = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap().remove(0);
    // Not a byte is left, and the ballast is what the delivery can still be recorded with.
    disk.set_capacity(Some(disk.used()));
    spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    until(|| spool.status().unwrap().destinations[0].delivered.instances == 1);
    assert!(!disk.names().contains(&ballast));
    assert!(matches!(spool.receive(), Err(SpoolError::NoRoom(_))));
    // Now nothing at all is left: the index waits.
    disk.set_capacity(Some(disk.used()));
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    let asking = spool.clone();
    std::thread::spawn(move || answer.send(asking.retry(Some(&central()), Parked::All, "a test")).unwrap());
    assert!(answered.recv_timeout(Duration::from_millis(400)).is_err());
    disk.set_capacity(None);
    assert_eq!(answered.recv_timeout(Duration::from_secs(20)).unwrap().unwrap(), 0);
    spool.tend();
    assert!(disk.names().contains(&ballast), "it is made again");
    receive(&spool, header(2), &data_set(2, 5_000)).unwrap();
    assert!(said.lock().unwrap().is_empty());
    // Closing does not wait for room.
    disk.set_capacity(Some(0));
    let claim = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap();
    claim.into_iter().for_each(|claim| {
        spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None })
    });
    spool.close();
    disk.set_capacity(None);
    let (spool, ..) = open(&disk);
    assert!(read(&spool, InstanceId(2)).unwrap() == data_set(2, 5_000));
}

#[test]
fn what_a_rule_withholds_is_kept_like_a_delivered_copy_until_a_destination_is_named() {
    let withheld = |number| InstanceHeader {
        destinations: Vec::new(),
        rule: Some("no-reports".parse().unwrap()),
        withheld: true,
        ..header(number)
    };
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    receive(&spool, withheld(1), b"one").unwrap();
    receive(&spool, withheld(2), b"two").unwrap();
    wait_for(&spool, 2);
    spool.tend();
    assert_eq!(spool.status().unwrap().cache.instances, 2, "it has its time");
    assert_eq!(spool.instances(None, 1).unwrap()[0].header, withheld(1));
    // The rule was changed, and the modality sends the second again.
    receive(&spool, header(2), b"two").unwrap();
    until(|| spool.status().unwrap().destinations.iter().any(|central| central.queued.instances == 1));
    assert_eq!(spool.instances(Some(InstanceId(1)), 1).unwrap()[0].header, header(2));
    spool.close();
    let (spool, ..) = open_with(&disk, SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    spool.tend();
    assert_eq!(kept(&spool), BTreeSet::from([2]), "somebody waits for it");
    deliver(&spool, |_| true);
    spool.tend();
    assert!(kept(&spool).is_empty());
}

#[test]
fn an_instance_that_goes_nowhere_or_to_a_forgotten_destination_is_kept() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open_with(&disk, SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    receive(&spool, InstanceHeader { destinations: Vec::new(), ..header(1) }, b"nowhere").unwrap();
    let both = vec![central(), "gone".parse().unwrap()];
    receive(&spool, InstanceHeader { destinations: both, ..header(2) }, b"two").unwrap();
    wait_for(&spool, 2);
    deliver(&spool, |_| true);
    spool.tend();
    assert_eq!(read(&spool, InstanceId(1)).unwrap(), b"nowhere");
    assert_eq!(read(&spool, InstanceId(2)).unwrap(), b"two");
    assert_eq!(spool.status().unwrap().log.freed, 0);
}
