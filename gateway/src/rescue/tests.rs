//! From the disk of a dead box, on a real file system: everything that was not delivered, nothing that was, and not one
//! byte of the disk changed.

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::*;
use crate::dataset::part10;
use crate::model::{AeTitle, Priority, Timestamp, Uid};
use crate::spool::{Attempt, Classes, InstanceHeader, Outcome, Spool, SpoolOptions, reindex};

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn options() -> SpoolOptions {
    let (reserve, evict_below, segment_size) = (0, 0, 1 << 20);
    SpoolOptions { reserve, evict_below, segment_size, small_limit: 100 << 10, ..SpoolOptions::default() }
}

fn data_set(number: u64) -> Vec<u8> {
    let mut data = vec![0; if number.is_multiple_of(5) { 300_000 } else { 7_000 }];
    fastrand::Rng::with_seed(number).fill(&mut data);
    data
}

fn receive(spool: &Spool, number: u64) {
    let header = InstanceHeader {
        sop_class_uid: uid("1.2.840.10008.5.1.4.1.1.2"),
        sop_instance_uid: uid(&format!("1.2.3.{number}")),
        study_instance_uid: Some(uid("1.2.3")),
        series_instance_uid: Some(uid("1.2.3.4")),
        transfer_syntax: uid("1.2.840.10008.1.2.1"),
        calling_ae: "CT,\"1\"".parse::<AeTitle>().unwrap(),
        called_ae: "WAYSTATION".parse().unwrap(),
        peer: None,
        received_at: Timestamp::from_millis(1_700_000_000_000),
        priority: Priority::Routine,
        modality: None,
        destinations: vec!["central".parse().unwrap()],
        rule: None,
        withheld: false,
    };
    let mut incoming = spool.receive().unwrap();
    incoming.write(&data_set(number)).unwrap();
    let (sender, receiver) = sync_channel(1);
    incoming.commit(header, Box::new(move |result| sender.send(result.unwrap()).unwrap()));
    receiver.recv_timeout(Duration::from_secs(20)).unwrap();
}

/// A box that has received 20 instances and delivered those with an even number.
fn dead_box(data: &Path) {
    let (spool, _) = Spool::open(data, options(), |_| {}).unwrap();
    (1..=20).for_each(|number| receive(&spool, number));
    let central = "central".parse().unwrap();
    let mut claimed = 0;
    while claimed < 20 {
        for claim in spool.claim(&central, spool.time(), 100, Classes::All).unwrap() {
            claimed += 1;
            let number: u64 = claim.header.sop_instance_uid.as_str()[6..].parse().unwrap();
            let outcome = match number % 2 {
                0 => Outcome::Delivered { answer: "0000".into(), verify: None },
                _ => Outcome::Retry { after: Duration::from_secs(3_600), answer: "A700".into() },
            };
            spool.record(claim, Attempt::default(), outcome);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    spool.close();
}

/// Every file below `folder`, with its content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut waiting) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => waiting.push(path),
                false => drop(files.insert(path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    files
}

/// The numbers of the instances that are files, each checked byte for byte.
fn rescued_numbers(out: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (path, bytes) in contents(out).into_iter().filter(|(path, _)| path.extension().unwrap() == "dcm") {
        assert!(path.starts_with(out.join("1.2.3/1.2.3.4")));
        let (meta, mut rest) = part10::read_file_meta(&bytes[..]).unwrap();
        let number = meta.sop_instance_uid.unwrap().as_str()[6..].parse().unwrap();
        let mut data = Vec::new();
        rest.read_to_end(&mut data).unwrap();
        assert!(data == data_set(number));
        numbers.push(number);
    }
    numbers.sort_unstable();
    numbers
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn everything_that_is_not_delivered_comes_out_and_the_disk_stays_as_it_is() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    dead_box(data.path());
    let before = contents(data.path());
    let checked = check(data.path(), |_| {}).unwrap();
    assert!(checked.is_well(), "{checked:?}");
    assert_eq!((checked.whole, checked.undelivered, checked.not_indexed), (20, 10, 0));
    for _ in 0..2 {
        let mut last = Progress::default();
        let rescued = rescue(data.path(), out.path(), |progress| last = progress).unwrap();
        assert_eq!((rescued.written, rescued.delivered, last.records), (10, 10, 20));
        assert_eq!(rescued_numbers(out.path()), (1..=20).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    }
    let list = fs::read_to_string(out.path().join(LIST)).unwrap();
    assert_eq!(list.lines().count(), 11);
    assert!(
        list.contains(",\"CT,\"\"1\"\"\",") && list.contains(",central,rescued,1.2.3/1.2.3.4/1.2.3.1.dcm"),
        "{list}"
    );
    assert!(contents(data.path()) == before, "not one byte has changed");
    let inside = rescue(data.path(), &data.path().join("log/out"), |_| {});
    assert!(matches!(inside, Err(RescueError::Inside(_))));
}

#[test]
fn without_a_usable_index_everything_in_the_log_comes_out_and_what_is_damaged_is_listed() {
    let (data, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    dead_box(data.path());
    let index = data.path().join("index.redb");
    let length = fs::metadata(&index).unwrap().len();
    for ruin in [vec![7; 30_000], vec![0; usize::try_from(length).unwrap()], Vec::new()] {
        fs::write(&index, ruin).unwrap();
        let rescued = rescue(data.path(), out.path(), |_| {}).unwrap();
        assert_eq!((rescued.written, rescued.delivered), (20, 0));
        assert!(rescued.index_problem.is_some());
    }
    fs::remove_file(&index).unwrap();
    fs::remove_file(data.path().join("lock")).unwrap();
    let segment = data.path().join("log/0000000001.seg");
    flip(&segment, 4_096 + 2_000);
    flip(&data.path().join("log/large/0000000010.seg"), 70_000);
    let fresh = tempfile::tempdir().unwrap();
    let rescued = rescue(data.path(), fresh.path(), |_| {}).unwrap();
    assert_eq!((rescued.written, rescued.damaged.len()), (18, 2), "{:?}", rescued.damaged);
    assert_eq!(rescued_numbers(fresh.path()), (2..=20).filter(|number| *number != 10).collect::<Vec<_>>());
    let list = fs::read_to_string(fresh.path().join(LIST)).unwrap();
    assert_eq!(list.lines().filter(|line| line.contains(",central,damaged,")).count(), 2);
    assert!(!data.path().join("lock").exists() && !index.exists(), "nothing was created");
    let checked = check(data.path(), |_| {}).unwrap();
    assert_eq!((checked.whole, checked.damaged.len(), checked.is_well()), (18, 2, false));
}

#[test]
fn a_directory_in_use_is_left_alone_and_a_reindex_queues_everything_again() {
    let data = tempfile::tempdir().unwrap();
    dead_box(data.path());
    let (spool, _) = Spool::open(data.path(), options(), |_| {}).unwrap();
    let out = tempfile::tempdir().unwrap();
    for refused in [
        rescue(data.path(), out.path(), |_| {}).map(drop).map_err(|error| error.to_string()),
        check(data.path(), |_| {}).map(drop).map_err(|error| error.to_string()),
        reindex(data.path(), &options()).map(drop).map_err(|error| error.to_string()),
    ] {
        assert!(refused.unwrap_err().contains("another Waystation"));
    }
    spool.close();
    drop(spool);
    flip(&data.path().join("log/0000000001.seg"), 4_096 + 2_000);
    let checked = check(data.path(), |_| {}).unwrap();
    assert_eq!((checked.damaged.len(), checked.missing.len()), (1, 1), "{checked:?}");
    let (opened, aside) = reindex(data.path(), &options()).unwrap();
    assert_eq!((opened.replayed, opened.damaged), (19, 1));
    assert!(aside.unwrap().exists());
    let (spool, opened) = Spool::open(data.path(), options(), |_| {}).unwrap();
    assert_eq!(opened.replayed, 0);
    assert_eq!(spool.status().unwrap().destinations[0].queued.instances, 19);
}
