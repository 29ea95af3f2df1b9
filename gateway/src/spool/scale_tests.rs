//! A long queue costs no more than a short one: counted in what is read from the disk and written to it, not in time.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use super::record::tests::header;
use super::tests::{DATA, central, data_set, open, receive, until, wait_for};
use super::*;
use crate::durable::memory::{MemoryDisk, Survivors, Traffic};
use crate::ledger::Method;
use crate::model::{ContentHash, Priority, Timestamp, Uid};
use crate::spool::index::{Arrival, Location};
use crate::spool::segment::Kind;

/// Queued instances: few, and twenty times as many.
const FEW: u64 = 1_000;
const MANY: u64 = 20_000;

/// A UID in no order (PS3.5 B.2).
fn uid(number: u64) -> Uid {
    format!("2.25.{}", fastrand::Rng::with_seed(number).u128(..)).parse().unwrap()
}

/// The study of an instance: each has ten.
fn study(number: u64) -> Uid {
    uid(5_000_000 + number / 10)
}

/// A disk with an index of so many queued instances, as a kill leaves it.
fn long_queue(instances: u64) -> MemoryDisk {
    index_of(instances, |_, _| Ok(()))
}

/// The same, with something done to each of them.
fn index_of(instances: u64, done: fn(&mut index::Tables<'_>, InstanceId) -> Result<(), IndexError>) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let path = Path::new(DATA).join("index.redb");
    let index = Index::create(&disk, &path).unwrap();
    let all: Vec<u64> = (1..=instances).collect();
    for batch in all.chunks(500) {
        let enter = |tables: &mut index::Tables<'_>| {
            for id in batch {
                let hash = ContentHash(std::array::from_fn(|at| id.to_le_bytes()[at % 8]));
                let arrival = Arrival {
                    id: InstanceId(*id),
                    location: Location { kind: Kind::Shared, segment: 1, offset: id * 4_096 },
                    end: (id + 1) * 4_096,
                    queued_at: SpoolTime(*id),
                    hash,
                    length: 2_000,
                    stored_length: 1_000,
                    header: InstanceHeader {
                        sop_instance_uid: uid(*id),
                        study_instance_uid: Some(study(*id)),
                        ..header(*id)
                    },
                };
                tables.arrive(&arrival, Conflicts::Deliver)?;
                tables.advance(1, arrival.end, arrival.id);
                done(tables, arrival.id)?;
            }
            Ok(())
        };
        index.write(enter).unwrap();
    }
    disk.cut(disk.operations(), Survivors::Everything)
}

/// What `work` reads and writes.
fn traffic(disk: &MemoryDisk, work: impl FnOnce()) -> Traffic {
    let before = disk.traffic();
    work();
    let after = disk.traffic();
    Traffic {
        reads: after.reads - before.reads,
        bytes_read: after.bytes_read - before.bytes_read,
        bytes_written: after.bytes_written - before.bytes_written,
    }
}

/// An index is twenty times as long and its trees are a level or two deeper; what is read and written grows with the
/// levels. `spare` is for what redb notes in any case, in bytes.
#[expect(clippy::print_stdout, reason = "tests tell what they measured")]
fn grows_like_a_logarithm(what: &str, [few, many]: [Traffic; 2], spare: u64) {
    println!("{what}: {FEW} queued {few:?}, {MANY} queued {many:?}");
    assert!(many.reads <= 3 * few.reads + 50, "{what}: {few:?} {many:?}");
    assert!(many.bytes_read <= 3 * few.bytes_read + spare, "{what}: {few:?} {many:?}");
    assert!(many.bytes_written <= 3 * few.bytes_written + spare, "{what}: {few:?} {many:?}");
}

#[test]
fn a_start_reads_and_writes_no_more_for_twenty_times_as_many_queued_instances() {
    let open = |instances| {
        let disk = long_queue(instances);
        traffic(&disk, || {
            let (spool, opened, _) = open(&disk);
            assert_eq!((opened.rebuilt, opened.replayed), (None, 0));
            assert_eq!(spool.status().unwrap().destinations[0].queued.instances, instances);
            spool.close();
        })
    };
    grows_like_a_logarithm("start", [open(FEW), open(MANY)], 512 << 10);
}

#[test]
fn receiving_claiming_and_recording_take_logarithmic_room_on_the_disk() {
    const TIMES: u64 = 20;
    let spools = [FEW, MANY].map(|instances| {
        let disk = long_queue(instances);
        (instances, open(&disk).0, disk)
    });
    let receiving = spools.each_ref().map(|(instances, spool, disk)| {
        traffic(disk, || {
            for number in 0..TIMES {
                let header = InstanceHeader { sop_instance_uid: uid(1_000_000 + number), ..header(number) };
                receive(spool, header, &data_set(number, 1_000)).unwrap();
                wait_for(spool, instances + number + 1);
            }
        })
    });
    grows_like_a_logarithm("receive", receiving, TIMES * (64 << 10));
    let claiming = spools.each_ref().map(|(_, spool, disk)| {
        traffic(disk, || {
            for _ in 0..TIMES {
                let claim = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap().remove(0);
                spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
                until(|| spool.status().unwrap().destinations[0].sending == 0);
            }
        })
    });
    grows_like_a_logarithm("claim and record", claiming, TIMES * (64 << 10));
}

#[test]
fn asking_about_deliveries_takes_logarithmic_room_on_the_disk() {
    const TIMES: u64 = 20;
    let deliver = |tables: &mut index::Tables<'_>, id| {
        let outcome = Outcome::Delivered { answer: "0000".into(), verify: Some(Duration::ZERO) };
        tables
            .record(&central(), id, (&Attempt::default(), &outcome), SpoolTime(1), Timestamp::from_millis(1))
            .map(drop)
    };
    let spools = [FEW, MANY].map(|instances| {
        let disk = index_of(instances, deliver);
        (open(&disk).0, disk)
    });
    let asking = spools.each_ref().map(|(spool, disk)| {
        traffic(disk, || {
            for number in 1..=TIMES {
                let claim = spool.claim_unverified(&central(), spool.time(), 1).unwrap().remove(0);
                spool.verified(claim, Method::CFind, Verification::Confirmed { answer: "committed".into() });
                until(|| spool.status().unwrap().destinations[0].confirmed.instances == number);
            }
        })
    });
    grows_like_a_logarithm("claim unverified and confirm", asking, TIMES * (64 << 10));
    let reporting = spools.each_ref().map(|(spool, disk)| {
        traffic(disk, || {
            for number in 1..=TIMES {
                let confirmed = Verification::Confirmed { answer: "committed".into() };
                assert_eq!(
                    spool
                        .reported(
                            &central(),
                            vec![Reported { instance: uid(500 + number), attempt: None, verification: confirmed }]
                        )
                        .unwrap(),
                    1
                );
            }
        })
    });
    grows_like_a_logarithm("a report", reporting, TIMES * (64 << 10));
}

#[test]
fn studies_are_listed_expedited_and_retried_in_logarithmic_room_on_the_disk() {
    const TIMES: u64 = 20;
    let spools = [FEW, MANY].map(|instances| {
        let park = |tables: &mut index::Tables<'_>, id: InstanceId| {
            let outcome = Outcome::Parked { reason: "C000".into() };
            if id.0 % 10 == 9 {
                tables.record(
                    &central(),
                    id,
                    (&Attempt::default(), &outcome),
                    SpoolTime(1),
                    Timestamp::from_millis(1),
                )?;
            }
            Ok(())
        };
        let disk = index_of(instances, park);
        (open(&disk).0, disk)
    });
    let listing = spools.each_ref().map(|(spool, disk)| {
        traffic(disk, || {
            for number in 1..=TIMES {
                let page = spool.studies(Some(InstanceId(600 + number)), 5, true).unwrap();
                assert_eq!(page.len(), 5);
                assert_eq!(spool.study(&study(number * 10)).unwrap().unwrap().instances, 10);
                assert_eq!(spool.study_instances(&study(number * 10), None, 99).unwrap().len(), 10);
                assert_eq!(spool.waiting_classes(&central(), spool.time()).unwrap(), [Priority::Routine]);
                let claims = spool.claim(&central(), spool.time(), 1, Classes::Below(Priority::Stat)).unwrap();
                assert_eq!(claims.len(), 1);
            }
        })
    });
    grows_like_a_logarithm("list studies", listing, TIMES * (64 << 10));
    let expediting = spools.each_ref().map(|(spool, disk)| {
        traffic(disk, || {
            for number in 1..=TIMES {
                assert_eq!(spool.expedite(&study(number * 20), "a test").unwrap(), 9);
                assert_eq!(spool.retry(None, Parked::Study(study(number * 20)), "a test").unwrap(), 1);
            }
        })
    });
    grows_like_a_logarithm("expedite and retry a study", expediting, TIMES * (128 << 10));
    for (spool, _) in &spools {
        let first = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap().remove(0);
        assert_eq!((first.priority, first.header.study_instance_uid), (Priority::Stat, Some(study(20))));
    }
}

/// Parks so many deliveries.
fn park(spool: &Spool, number: u64) {
    for claim in spool.claim(&central(), spool.time(), usize::try_from(number).unwrap(), Classes::All).unwrap() {
        spool.record(claim, Attempt::default(), Outcome::Parked { reason: "C000".into() });
    }
    until(|| spool.status().unwrap().destinations[0].parked.instances == number);
}

#[test]
fn what_is_received_is_indexed_while_very_many_parked_deliveries_are_queued_again() {
    const PARKED: u64 = 3_500;
    let disk = long_queue(PARKED);
    let (spool, ..) = open(&disk);
    park(&spool, PARKED);
    // At the first step somebody sends two instances, and the index goes on when they are acknowledged.
    let (began, begun) = sync_channel(0);
    let (received, go_on) = sync_channel::<()>(0);
    let go_on = Mutex::new(go_on);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (told, index) = (Arc::clone(&seen), Arc::clone(&spool.inner.index));
    spool.on_queued(move |_| {
        let view = index.read().unwrap();
        let (parked, all) = (view.destinations().unwrap()[0].counts.parked.instances, view.state().unwrap().last_id);
        let mut told = told.lock().unwrap();
        if told.is_empty() {
            began.send(()).unwrap();
            go_on.lock().unwrap().recv().unwrap();
        }
        told.push((parked, all));
    });
    let retried = std::thread::scope(|scope| {
        let retrying = scope.spawn(|| spool.retry(Some(&central()), Parked::All, "a test"));
        begun.recv().unwrap();
        // When the second is acknowledged, the first is on its way to the index.
        for number in 1..=2 {
            receive(&spool, header(number), &data_set(number, 1_000)).unwrap();
        }
        received.send(()).unwrap();
        retrying.join().unwrap()
    });
    assert_eq!(retried.unwrap(), PARKED, "the number of all");
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().any(|(parked, last)| *parked > 0 && *last > PARKED), "{seen:?}");
    assert_eq!(spool.status().unwrap().destinations[0].parked, Tally::default());
}

#[test]
fn a_flush_that_hangs_is_told_by_the_name_of_its_thread_and_a_slow_one_is_not() {
    const LIMIT: Duration = Duration::from_secs(60);
    let disk = MemoryDisk::new();
    let (spool, _, said) = open(&disk);
    receive(&spool, header(1), &data_set(1, 1_000)).unwrap();
    wait_for(&spool, 1);
    until(|| spool.stalled(clock::now() + 2 * LIMIT, LIMIT).is_none());

    disk.hold_syncs(true);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&spool, header(2), &data_set(2, 1_000)));
        let after = |waited: Duration| spool.stalled(clock::now() + waited, LIMIT);
        until(|| after(LIMIT).is_some());
        let stall = after(LIMIT).unwrap();
        assert!(stall.thread == "spool-log" && stall.waited >= LIMIT, "{stall:?}");
        assert_eq!(after(Duration::from_secs(10)), None, "ten seconds are a slow disk");
        disk.hold_syncs(false);
        receiving.join().unwrap().unwrap();
    });
    wait_for(&spool, 2);
    until(|| spool.stalled(clock::now() + 2 * LIMIT, LIMIT).is_none());

    let claim = spool.claim(&central(), spool.time(), 1, Classes::All).unwrap().remove(0);
    disk.hold_syncs(true);
    spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify: None });
    until(|| spool.stalled(clock::now() + LIMIT, LIMIT).is_some_and(|stall| stall.thread == "spool-index"));
    disk.hold_syncs(false);
    until(|| spool.status().unwrap().destinations[0].delivered.instances == 1);
    assert!(said.lock().unwrap().is_empty());
}
