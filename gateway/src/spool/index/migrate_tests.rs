//! Every earlier schema is brought to the present one with everything that it knew, and a power cut does no harm.

use std::path::Path;

use redb::ReadableTable;

use super::plain::{arrival, hash, header_of};
use super::*;
use crate::durable::memory::{MemoryDisk, Survivors};
use crate::model::Priority;
use crate::spool::claims::{Attempt, Outcome};
use crate::spool::record::tests::header;
use crate::spool::shared::Conflicts;

/// Writes an index as schema 1 had it, with the rows that its code wrote.
fn fixture_of_schema_1(disk: &MemoryDisk, path: &Path, rows: &[(u64, migrate::InstanceRow1, &str)]) {
    let file = disk.create(path).unwrap();
    let database = builder().create_with_backend(IndexFile(file)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("schema", &1_u64.to_le_bytes()[..]).unwrap();
        let last = rows.last().map_or(0, |row| row.0);
        let all = Tally { instances: rows.len() as u64, bytes: rows.iter().map(|row| row.1.length).sum() };
        let stored = rows.iter().map(|row| row.1.stored_length).sum();
        let state = migrate::State1 { segment: 3, offset: 8_192, large_to: last, last_id: last, time: 77, all, stored };
        meta.insert("state", &pack("meta", &state).unwrap()[..]).unwrap();
        let mut instances = transaction.open_table(INSTANCES).unwrap();
        let mut destinations = transaction.open_table(super::DESTINATIONS).unwrap();
        let mut queue = transaction.open_table(QUEUE).unwrap();
        let mut queued = transaction.open_table(QUEUED).unwrap();
        let mut delivered = transaction.open_table(DELIVERED).unwrap();
        let mut parked = transaction.open_table(PARKED).unwrap();
        let mut destination = migrate::DestinationRow3 { number: 1, ..migrate::DestinationRow3::default() };
        for (id, row, state) in rows {
            instances.insert(id, &pack("instances", row).unwrap()[..]).unwrap();
            match *state {
                "queued" => {
                    let row = QueuedRow { priority: 1, due: *id, ..QueuedRow::default() };
                    queue.insert((1, 1, *id, *id), ()).unwrap();
                    queued.insert((1, *id), &pack("queued", &row).unwrap()[..]).unwrap();
                }
                "delivered" => {
                    let (at, answer) = (Timestamp::from_millis(5), "0000".into());
                    let row = migrate::DeliveredRow3 { at, attempts: 1, answer };
                    delivered.insert((1, *id), &pack("delivered", &row).unwrap()[..]).unwrap();
                }
                _ => {
                    let row = ParkedRow { at: Timestamp::from_millis(5), attempts: 3, reason: "C000".into() };
                    parked.insert((1, *id), &pack("parked", &row).unwrap()[..]).unwrap();
                }
            }
            let tally = match *state {
                "queued" => &mut destination.queued,
                "delivered" => &mut destination.delivered,
                _ => &mut destination.parked,
            };
            tally.add(row.length);
        }
        destinations.insert("central", &pack("destinations", &destination).unwrap()[..]).unwrap();
    }
    transaction.commit().unwrap();
}

/// As many rows as schema 1 could have: small and large, in every state, the same content twice, a conflict.
fn rows_of_schema_1() -> Vec<(u64, migrate::InstanceRow1, &'static str)> {
    let row = |id: u64, uid: u64, hash: u8, large: bool| migrate::InstanceRow1 {
        large,
        segment: if large { id } else { 1 + id % 3 },
        offset: 4_096 * id,
        hash: [hash; 32],
        length: 100 * id,
        stored_length: 50 * id,
        header: migrate::InstanceHeader3::of(header(uid)),
    };
    let mut rows = vec![
        (1, row(1, 1, 1, false), "queued"),
        (2, row(2, 2, 1, true), "delivered"),
        (3, row(3, 1, 1, false), "parked"),
        (4, row(4, 1, 2, false), "delivered"),
    ];
    rows.extend((5..2_500).map(|id| (id, row(id, id, 1, false), if id % 2 == 0 { "queued" } else { "delivered" })));
    rows
}

#[test]
fn an_index_of_schema_1_is_migrated_with_everything_that_it_knew() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    let rows = rows_of_schema_1();
    fixture_of_schema_1(&disk, path, &rows);
    for _ in 0..2 {
        let Opened::Usable(index) = Index::open(&disk, path, false).unwrap() else { panic!("it is migrated") };
        let view = index.read().unwrap();
        let state = view.state().unwrap();
        assert_eq!((state.segment, state.offset, state.time, state.last_id), (3, 8_192, 77, 2_499));
        assert_eq!(state.all.instances, rows.len() as u64);
        let central = "central".parse().unwrap();
        let (counts, order) = view.count(&central);
        assert_eq!(view.destinations().unwrap()[0].counts, counts);
        assert_eq!((order as u64, counts.parked.instances), (counts.queued.instances, 1));
        assert_eq!((counts.unverified, counts.confirmed), (Tally::default(), Tally::default()));
        assert_eq!(view.conflicts().unwrap(), 1);
        for (id, row, _) in &rows {
            let kept = view.instance(InstanceId(*id)).unwrap().unwrap().kept.unwrap();
            assert_eq!((kept.record.0, kept.location.offset, kept.stored_length), (*id, row.offset, row.stored_length));
        }
        let known = index.known().unwrap();
        let find = |uid: u64, hash| known.find(&header(uid).sop_instance_uid, ContentHash([hash; 32])).unwrap();
        assert_eq!(find(1, 1).unwrap().instance.0, 1);
        assert_eq!(find(1, 2).unwrap().instance.0, 4);
        assert!(find(2, 2).is_none());
        let counts: u64 = index.write(|tables| Ok(tables.records_in_segments())).unwrap();
        assert_eq!(counts, rows.len() as u64 - 1);
        assert_eq!(view.count_studies(), [1, 1, rows.len() as u64, 1]);
        let study = view.studies(None, 9, true).unwrap().remove(0);
        assert_eq!((study.number.0, study.instances), (1, rows.len() as u64));
        assert_eq!(study.deliveries[0].counts, view.destinations().unwrap()[0].counts);
    }
}

/// Cuts the power after each operation of a migration, and looks at what is there.
fn cut_everywhere(disk: &MemoryDisk, path: &Path, check: impl Fn(&View)) {
    disk.sync_dir(Path::new("/data")).unwrap();
    let before = disk.operations();
    let Opened::Usable(index) = Index::open(disk, path, false).unwrap() else { panic!("it is migrated") };
    drop(index);
    for operations in before..=disk.operations() {
        for survivors in [Survivors::Nothing, Survivors::Everything, Survivors::Some(operations as u64)] {
            let cut = disk.cut(operations, survivors);
            let Opened::Usable(index) = Index::open(&cut, path, false).unwrap() else { panic!("cut at {operations}") };
            check(&index.read().unwrap());
        }
    }
}

#[test]
fn a_power_cut_during_the_migration_from_schema_1_leaves_the_old_index_or_the_new_one() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    let rows = rows_of_schema_1();
    fixture_of_schema_1(&disk, path, &rows);
    cut_everywhere(&disk, path, |view| {
        assert_eq!(view.state().unwrap().all.instances, rows.len() as u64);
        assert_eq!(view.conflicts().unwrap(), 1);
        assert!(view.instance(InstanceId(2_499)).unwrap().unwrap().kept.is_some());
    });
}

/// Writes an index as schema 2 or 3 had it: what is written today without what came since. Of 1,500 instances the first
/// 1,200 are delivered, and the first 1,100 are freed.
fn fixture(schema: u64, disk: &MemoryDisk, path: &Path) {
    let index = Index::create(disk, path).unwrap();
    index
        .write(|tables| {
            tables.set_time(SpoolTime(77));
            for id in 1..=1_500 {
                tables.arrive(&arrival(id, &[0], Priority::Routine, 100, id), Conflicts::Deliver)?;
            }
            for id in 1..=1_200 {
                let delivered = Outcome::Delivered { answer: "0000".into(), verify: None };
                let central = "central".parse().unwrap();
                tables.record(
                    &central,
                    InstanceId(id),
                    (&Attempt::default(), &delivered),
                    SpoolTime(id),
                    Timestamp::from_millis(5),
                )?;
            }
            let freed = tables.keep(&Change::Expend(tables.all_done().into_iter().take(1_100).collect()))?;
            assert_eq!(freed.len(), 1_100);
            tables.keep(&Change::Forget(freed)).map(drop)
        })
        .unwrap();
    let transaction = index.database.begin_write().unwrap();
    if schema == 2 {
        assert!(transaction.delete_table(FREED).unwrap());
    }
    back_to_3(&transaction);
    transaction.open_table(META).unwrap().insert("schema", &schema.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
}

/// Takes out what schema 4 brought.
fn back_to_3(transaction: &redb::WriteTransaction) {
    let mut instances = transaction.open_table(INSTANCES).unwrap();
    let rows: Vec<_> = instances.iter().unwrap().map(|row| row.unwrap()).collect();
    let rows: Vec<_> =
        rows.into_iter().map(|(id, row)| (id.value(), unpack("instances", row.value()).unwrap())).collect();
    for (id, row) in rows {
        let InstanceRow { place, hash, length, header, .. } = row;
        let row = migrate::InstanceRow3 { place, hash, length, header: migrate::InstanceHeader3::of(header) };
        instances.insert(id, &pack("instances", &row).unwrap()[..]).unwrap();
    }
    let mut delivered = transaction.open_table(DELIVERED).unwrap();
    let rows: Vec<_> = delivered.iter().unwrap().map(|row| row.unwrap()).collect();
    let rows: Vec<_> =
        rows.into_iter().map(|(key, row)| (key.value(), unpack("delivered", row.value()).unwrap())).collect();
    for (key, DeliveredRow { at, attempts, answer, .. }) in rows {
        let row = migrate::DeliveredRow3 { at, attempts, answer };
        delivered.insert(key, &pack("delivered", &row).unwrap()[..]).unwrap();
    }
    let mut destinations = transaction.open_table(super::DESTINATIONS).unwrap();
    let row: DestinationRow = unpack("destinations", destinations.get("central").unwrap().unwrap().value()).unwrap();
    let DestinationRow { number, counts: Counts { queued, delivered, parked, .. } } = row;
    let row = migrate::DestinationRow3 { number, queued, delivered, parked };
    destinations.insert("central", &pack("destinations", &row).unwrap()[..]).unwrap();
    assert!(transaction.delete_table(VERIFYING).unwrap());
    assert!(transaction.delete_table(STUDIES).unwrap() && transaction.delete_table(STUDY_ORDER).unwrap());
    assert!(transaction.delete_table(STUDY_INSTANCES).unwrap() && transaction.delete_table(OPEN_STUDIES).unwrap());
}

#[test]
fn an_index_of_schema_3_is_migrated_with_everything_that_it_knew() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    fixture(3, &disk, path);
    for _ in 0..2 {
        let Opened::Usable(index) = Index::open(&disk, path, false).unwrap() else { panic!("it is migrated") };
        let view = index.read().unwrap();
        assert_eq!(view.state().unwrap().all.instances, 400);
        let central = view.destinations().unwrap().remove(0);
        assert_eq!((central.counts.delivered.instances, central.counts.queued.instances), (1_200, 300));
        assert_eq!(view.freed(SpoolTime(77), usize::MAX).unwrap().len(), 1_100);
        assert_eq!(view.done(SpoolTime(10_000), usize::MAX).unwrap().len(), 100);
        let views = view.instances(None, usize::MAX).unwrap();
        assert_eq!(views.len(), 1_500);
        for view in views {
            assert_eq!((view.header, view.stored_length.is_some()), (header_of(view.id.0), view.id.0 > 1_100));
        }
        let study = "1.2.840.5".parse().unwrap();
        let found = view.study(&study).unwrap().unwrap();
        assert_eq!((found.number.0, found.instances, found.bytes, found.late), (5, 250, 25_000, 0));
        assert_eq!(
            (found.first_arrival, found.last_arrival),
            (SpoolTime(77), SpoolTime(77)),
            "not after the last time"
        );
        assert_eq!(
            (&found.calling_aes[..], &found.modalities[..]),
            (&["CT1".parse().unwrap()][..], &["CT".to_owned()][..])
        );
        let counts = found.deliveries[0].counts;
        assert_eq!((counts.delivered.instances, counts.queued.instances, counts.confirmed.instances), (200, 50, 0));
        assert_eq!(view.study_instances(&study, None, usize::MAX).unwrap().len(), 250);
        assert_eq!(view.count_studies(), [5, 5, 1_250, 5]);
    }
}

#[test]
fn a_power_cut_during_the_migration_from_schema_3_leaves_the_old_index_or_the_new_one() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    fixture(3, &disk, path);
    cut_everywhere(&disk, path, |view| {
        assert_eq!(view.state().unwrap().all.instances, 400);
        assert_eq!(view.instances(Some(InstanceId(1_499)), 9).unwrap()[0].header, header_of(1_500));
        assert_eq!(view.count_studies(), [5, 5, 1_250, 5]);
    });
}

#[test]
fn an_index_of_schema_2_is_migrated_and_forgets_what_it_had_freed_before() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    fixture(2, &disk, path);
    for _ in 0..2 {
        let Opened::Usable(index) = Index::open(&disk, path, false).unwrap() else { panic!("it is migrated") };
        let view = index.read().unwrap();
        assert_eq!(view.state().unwrap().all.instances, 400);
        assert!(view.freed(SpoolTime(76), usize::MAX).unwrap().is_empty(), "from now on");
        let freed = view.freed(SpoolTime(77), usize::MAX).unwrap();
        assert_eq!(freed.len(), 1_100);
        assert!(freed.iter().all(|freed| freed.place.is_none() && freed.id.0 <= 1_100));
    }
    let Opened::Usable(index) = Index::open(&disk, path, false).unwrap() else { panic!("it is migrated") };
    let freed = index.read().unwrap().freed(SpoolTime(77), usize::MAX).unwrap();
    let expired = freed.into_iter().map(|freed| Expired { gone: true, ..freed }).collect();
    index.write(|tables| tables.keep(&Change::Expire(expired)).map(drop)).unwrap();
    let view = index.read().unwrap();
    assert_eq!(view.instances(None, usize::MAX).unwrap().len(), 400);
    let central = view.destinations().unwrap().remove(0);
    assert_eq!((central.counts.delivered.instances, central.counts.queued.instances), (100, 300));
    assert!(index.known().unwrap().find(&header(1).sop_instance_uid, hash(1)).unwrap().is_none());
}

#[test]
fn a_power_cut_during_the_migration_from_schema_2_leaves_the_old_index_or_the_new_one() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    fixture(2, &disk, path);
    cut_everywhere(&disk, path, |view| {
        assert_eq!(view.state().unwrap().all.instances, 400);
        assert_eq!(view.freed(SpoolTime(77), usize::MAX).unwrap().len(), 1_100);
    });
}
