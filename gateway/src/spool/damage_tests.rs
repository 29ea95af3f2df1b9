//! A flipped bit at rest: found, never delivered, told, and mended by the modality's next resend.

use std::path::{Path, PathBuf};

use super::record::tests::header;
use super::tests::{central, data_set, open, read, receive, until, wait_for};
use super::*;
use crate::durable::memory::MemoryDisk;
use crate::model::DestinationName;

/// Where the payload of the only instance is on the disk.
fn payload_of(large: bool) -> (PathBuf, usize) {
    match large {
        true => ("/data/log/large/0000000001.seg".into(), 65_536 + 1_000),
        false => ("/data/log/0000000001.seg".into(), 4_096 + 3_000),
    }
}

fn claims(spool: &Spool) -> usize {
    spool.claim(&central(), spool.time(), 9, Classes::All).unwrap().len()
}

#[test]
fn what_is_damaged_is_parked_told_and_mended_by_the_next_resend() {
    for (large, by_the_scrub) in [(false, true), (true, true), (false, false), (true, false)] {
        let disk = MemoryDisk::new();
        let (spool, ..) = open(&disk);
        let data = data_set(1, if large { 200_000 } else { 9_000 });
        receive(&spool, header(1), &data).unwrap();
        wait_for(&spool, 1);
        let cloud: DestinationName = "cloud".parse().unwrap();
        let (path, at) = payload_of(large);
        disk.flip(&path, at, 8);
        if by_the_scrub {
            spool.scrub();
        } else {
            assert!(read(&spool, InstanceId(1)).is_err());
        }
        until(|| spool.status().unwrap().damaged == 1);
        assert_eq!(claims(&spool), 0, "it is not tried any more");
        let state = spool.instances(None, 1).unwrap().remove(0).deliveries.remove(0).state;
        let DeliveryState::Parked { reason, .. } = state else { panic!("{state:?}") };
        assert!(reason.contains("damaged") && reason.contains("send it again"), "{reason}");
        // A word from an operator alone does not help.
        assert_eq!(spool.retry(Some(&central()), Parked::All, "a test").unwrap(), 1);
        assert_eq!(claims(&spool), 1);
        assert!(read(&spool, InstanceId(1)).is_err());
        until(|| spool.status().unwrap().destinations[0].parked.instances == 1);
        // The next resend does, also when it brings another destination along, and after a restart.
        spool.close();
        let (spool, ..) = open(&disk);
        let routed = InstanceHeader { destinations: vec![cloud.clone()], ..header(1) };
        let again = receive(&spool, routed, &data).unwrap();
        assert_eq!((again.id, again.duplicate), (InstanceId(1), false));
        until(|| spool.status().unwrap().damaged == 0);
        assert!(read(&spool, InstanceId(1)).unwrap() == data);
        assert_eq!((claims(&spool), spool.claim(&cloud, spool.time(), 9, Classes::All).unwrap().len()), (1, 1));
        assert_eq!(spool.status().unwrap().instances.instances, 1);
        spool.tend();
        assert!(!disk.names().contains(&path), "what was replaced goes, and the segment in which nothing else was");
        assert!(receive(&spool, header(1), &data).unwrap().duplicate);
        // The log alone tells the same.
        spool.close();
        disk.remove(Path::new("/data/index.redb")).unwrap();
        let (spool, opened, _) = open(&disk);
        assert_eq!(opened.replayed, 1, "{opened:?}");
        let view = spool.instances(None, 9).unwrap();
        assert_eq!((view.len(), view[0].deliveries.len()), (1, 2));
        assert!(read(&spool, view[0].id).unwrap() == data);
    }
}

#[test]
fn a_pass_reads_everything_and_tells_so_and_a_copy_that_everybody_has_is_no_alarm() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    for number in 1..=100 {
        receive(&spool, header(number), &data_set(number, 2_000)).unwrap();
    }
    wait_for(&spool, 100);
    let claim = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap().remove(0);
    assert_eq!(claim.id, InstanceId(1));
    spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    until(|| spool.status().unwrap().destinations[0].delivered.instances == 1);
    disk.flip(Path::new("/data/log/0000000001.seg"), 4_096 + 1_000, 8);
    assert_eq!(spool.status().unwrap().scrub.last, None);
    spool.scrub();
    let status = spool.status().unwrap();
    let last = status.scrub.last.unwrap();
    assert_eq!((last.checked.instances, last.checked.bytes), (100, status.stored_bytes));
    assert_eq!((last.damaged, status.damaged), (1, 0));
    assert_eq!(status.destinations[0].queued.instances, 99);
    spool.close();
    let (spool, ..) = open(&disk);
    until(|| spool.status().unwrap().scrub.last == Some(last));
}

#[test]
fn a_scrub_at_its_own_pace_finds_damage_without_being_asked() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    receive(&spool, header(1), &data_set(1, 9_000)).unwrap();
    wait_for(&spool, 1);
    spool.close();
    disk.flip(Path::new("/data/log/0000000001.seg"), 4_096 + 3_000, 8);
    let options = SpoolOptions { scrub_rate: 1 << 20, ..super::tests::options() };
    let (spool, ..) = super::tests::open_with(&disk, options);
    until(|| spool.status().unwrap().damaged == 1);
    assert_eq!(claims(&spool), 0);
}
