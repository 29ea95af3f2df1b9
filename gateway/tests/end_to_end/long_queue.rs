//! A long queue in the real binary, and a study that is long in itself: memory does not grow with either. `make bench-scale`
//! has the long form.

use std::sync::mpsc::sync_channel;

use waystation::control::words::count;
use waystation::model::{Priority, Timestamp};
use waystation::spool::{InstanceHeader, Spool, SpoolOptions};

use crate::support::Scratch;
use crate::support::gateway::Setup;

/// So many that what they take in the index is beyond the memory that the gateway may have for it.
const QUEUED: u64 = 60_000;
/// Receivers at once, which share flushes.
const RECEIVERS: u64 = 64;
const MEMORY: u64 = 64 << 20;
/// Those of each receiver that are of one study, and its UID.
const OF_STUDY: u64 = 160;
const STUDY: &str = "1.2.3.4.5.6.7.8.9";

/// Receives one after the other. The spool is used as a library here: over the network this would take minutes.
fn receive(spool: &Spool, instances: u64) {
    for number in 0..instances {
        let uid = || format!("2.25.{}", fastrand::u128(..)).parse().unwrap();
        let header = InstanceHeader {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: uid(),
            study_instance_uid: Some(if number < OF_STUDY { STUDY.parse().unwrap() } else { uid() }),
            series_instance_uid: Some(uid()),
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            calling_ae: "CT1".parse().unwrap(),
            called_ae: "WAYSTATION".parse().unwrap(),
            peer: None,
            received_at: Timestamp::from_millis(1_780_000_000_000),
            priority: Priority::Routine,
            modality: Some("CT".to_owned()),
            destinations: vec!["archive".parse().unwrap()],
            rule: None,
            withheld: false,
        };
        let mut incoming = spool.receive().unwrap();
        incoming.write(&fastrand::u128(..).to_le_bytes()).unwrap();
        let (done, finished) = sync_channel(1);
        incoming.commit(header, Box::new(move |result| done.send(result).unwrap()));
        finished.recv().unwrap().unwrap();
    }
}

#[test]
fn a_gateway_with_tens_of_thousands_of_queued_instances_takes_no_more_memory_than_an_empty_one_may() {
    let scratch = Scratch::new();
    let data = scratch.folder("data");
    let (spool, _) = Spool::open(&data, SpoolOptions::default(), |reason| panic!("{reason}")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..RECEIVERS {
            scope.spawn(|| receive(&spool, QUEUED.div_ceil(RECEIVERS)));
        }
    });
    spool.close();
    drop(spool);
    // Nobody is at the destination: everything stays queued.
    let gateway = Setup::new(data.clone()).with_destination("archive", "dicom://ARCHIVE@127.0.0.1:9").start();
    let queued = gateway.counters("archive").unwrap().undelivered;
    let (peak, index) = (gateway.peak_memory(), std::fs::metadata(data.join("index.redb")).unwrap().len());
    println!("{queued} queued, an index of {} MiB, at most {} MiB resident", index >> 20, peak >> 20);
    assert_eq!(queued, QUEUED.next_multiple_of(RECEIVERS));
    assert!(index > MEMORY / 2, "the index is {index} bytes: too small to tell");
    assert!(peak <= MEMORY, "{} MiB resident at the peak", peak >> 20);

    let file = scratch.path().join("receipt.txt");
    let receipt = gateway.ask(&["receipt", STUDY, "--out", file.to_str().unwrap()]);
    assert!(receipt.status.success(), "{}", receipt.text());
    let page = std::fs::read_to_string(&file).unwrap();
    let all = RECEIVERS * OF_STUDY;
    assert!(
        page.trim_end().ends_with(&format!("End of the receipt: {} instances.", count(all))),
        "of {} bytes",
        page.len()
    );
    let why = gateway.ask(&["why", STUDY]);
    assert!(why.status.success() && why.printed.contains(&format!("{} instances", count(all))), "{}", why.text());
    let peak = gateway.peak_memory();
    assert!(peak <= MEMORY, "{} MiB resident after a receipt of {all} instances", peak >> 20);
}
