//! The index against a plain model: after any sequence of operations rows, order, counters and answers agree.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::plain::{DESTINATIONS, Model, Step, arrival, hash, header_of, name, study};
use super::*;
use crate::durable::memory::MemoryDisk;
use crate::ledger::Method;
use crate::model::Priority;
use crate::spool::claims::{Attempt, Classes, Outcome, Reported, Verification};
use crate::spool::record::tests::header;
use crate::spool::shared::Conflicts;

fn check(index: &Index, model: &Model, now: u64) {
    let view = index.read().unwrap();
    let state = view.state().unwrap();
    let here: Vec<_> = model.instances.iter().filter(|(_, instance)| instance.record.is_some()).collect();
    assert_eq!(state.all.instances, here.len() as u64);
    assert_eq!(state.stored, here.iter().map(|(_, instance)| instance.length / 2).sum::<u64>());
    let done: Vec<_> = here.iter().filter(|(id, _)| model.is_done(**id)).collect();
    assert_eq!(state.cache.instances, done.len() as u64);
    assert_eq!(state.cache.bytes, done.iter().map(|(_, instance)| instance.length / 2).sum::<u64>());
    assert_eq!(view.conflicts().unwrap(), here.iter().filter(|(_, instance)| instance.conflict).count() as u64);
    let listed: BTreeSet<u64> =
        view.done(SpoolTime(now), usize::MAX).unwrap().iter().map(|candidate| candidate.id.0).collect();
    assert!(done.iter().all(|(id, _)| listed.contains(id)), "whatever is done can be found");
    let known = index.known().unwrap();
    for (id, instance) in &model.instances {
        let kept = view.instance(InstanceId(*id)).unwrap().unwrap().kept;
        assert_eq!(kept.map(|kept| kept.record.0), instance.record);
        let found = known.find(&header(instance.uid).sop_instance_uid, hash(instance.hash)).unwrap();
        assert_eq!(found.map(|found| found.instance.0), Some(*id));
    }
    for (id, instance) in &model.forgotten {
        assert!(view.instance(InstanceId(*id)).unwrap().is_none());
        let found = known.find(&header(instance.uid).sop_instance_uid, hash(instance.hash)).unwrap();
        assert!(found.is_none(), "what comes again is new");
    }
    check_studies(&view, model);
    let known = view.destinations().unwrap();
    for destination in 0..DESTINATIONS.len() {
        let name = name(destination);
        let queue = model.queue(destination);
        let (counts, order) = view.count(&name);
        let unverified = model.unverified(destination);
        assert_eq!((order, view.count_verifying(&name)), (queue.len(), unverified.len()));
        assert_eq!(counts, model.counts(destination));
        if let Some(row) = known.iter().find(|row| row.name == name) {
            assert_eq!(row.counts, counts);
            assert_eq!(row.oldest.map(|oldest| oldest.id.0), queue.iter().map(|row| row.2).min());
        } else {
            assert!(queue.is_empty());
        }
        let claimed = |id: InstanceId| id.0.is_multiple_of(3);
        let free = queue.iter().filter(|row| !claimed(InstanceId(row.2)));
        let now_due = free.clone().filter(|row| row.1 <= now);
        for classes in [Classes::All, Classes::Below(Priority::Stat), Classes::Below(Priority::Routine)] {
            let due = view.due(&name, SpoolTime(now), 4, classes, claimed).unwrap();
            let due: Vec<_> = due.into_iter().map(|due| (due.priority, due.id.0, due.attempts)).collect();
            let wanted = now_due.clone().filter(|row| match classes {
                Classes::All => true,
                Classes::Below(class) => row.0 > class,
            });
            assert_eq!(due, wanted.map(|row| (row.0, row.2, row.3)).take(4).collect::<Vec<_>>());
        }
        let waiting: BTreeSet<_> = now_due.map(|row| row.0).collect();
        let found = view.waiting_classes(&name, SpoolTime(now), claimed).unwrap();
        assert_eq!(found, waiting.into_iter().collect::<Vec<_>>());
        let next = view.next_due(&name, claimed).unwrap().map(|due| due.0);
        assert_eq!(next, free.map(|row| row.1).min());
        let free = unverified.iter().filter(|row| !claimed(InstanceId(row.1)));
        let open = view.unverified(&name, SpoolTime(now), 4, claimed).unwrap();
        let open: Vec<_> = open.iter().map(|open| (open.id.0, open.tries)).collect();
        let expected: Vec<_> = free.clone().filter(|row| row.0 <= now).map(|row| (row.1, row.2)).take(4).collect();
        assert_eq!(open, expected);
        let next = view.next_unverified_due(&name, claimed).unwrap().map(|due| due.0);
        assert_eq!(next, free.map(|row| row.0).min());
    }
}

fn check_studies(view: &View, model: &Model) {
    let mut expected: Vec<_> = model.studies.iter().collect();
    expected.sort_unstable_by_key(|(_, study)| std::cmp::Reverse(study.number));
    let found = view.studies(None, usize::MAX, false).unwrap();
    assert_eq!(found.len(), expected.len());
    let mut open = Vec::new();
    for (found, (uid, study)) in found.iter().zip(&expected) {
        let all: Vec<_> = model.of_study(uid).collect();
        assert_eq!((&found.study_instance_uid, found.number.0), (*uid, study.number));
        assert_eq!((found.first_arrival.0, found.last_arrival.0), (study.first, study.last));
        assert_eq!((found.instances, found.late), (all.len() as u64, study.late.len() as u64));
        assert_eq!(found.bytes, all.iter().map(|(_, instance)| instance.length).sum::<u64>());
        assert_eq!((&found.deliveries, found.expedited), (&model.study_deliveries(uid), study.expedited));
        assert_eq!(view.study(uid).unwrap().as_ref(), Some(found));
        let listed = view.study_instances(uid, None, usize::MAX).unwrap();
        assert_eq!(
            listed.iter().map(|view| view.id.0).collect::<Vec<_>>(),
            all.iter().map(|(id, _)| **id).collect::<Vec<_>>()
        );
        assert!(listed.iter().all(|view| view.late == study.late.contains(&view.id.0)));
        if listed.iter().flat_map(|view| &view.deliveries).any(|delivery| !delivery.state.is_settled()) {
            open.push(found.clone());
        }
    }
    assert_eq!(view.studies(None, usize::MAX, true).unwrap(), open);
    let (newest, rest) = (view.studies(None, 1, false).unwrap(), &found[1.min(found.len())..]);
    let older = newest.first().map(|newest| view.studies(Some(newest.number), usize::MAX, false).unwrap());
    assert_eq!(older.unwrap_or_default(), rest, "a page follows the other");
    let in_studies = model.instances.values().filter(|instance| study(instance.uid).is_some()).count() as u64;
    let studies = model.studies.len() as u64;
    assert_eq!(view.count_studies(), [studies, studies, in_studies, open.len() as u64]);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority = prop_oneof![Just(Priority::Stat), Just(Priority::Routine), Just(Priority::Low)];
    let outcome = prop_oneof![
        Just(Outcome::Delivered { answer: "0000".into(), verify: None }),
        (0_u64..20).prop_map(|after| {
            Outcome::Delivered { answer: "0000".into(), verify: Some(Duration::from_millis(after)) }
        }),
        (0_u64..20).prop_map(|after| Outcome::Retry { after: Duration::from_millis(after), answer: "A700".into() }),
        Just(Outcome::Parked { reason: "é".repeat(400) }),
        Just(Outcome::Kept { answer: "backup does not take it".into() }),
        Just(Outcome::Released),
    ];
    let verification = || {
        prop_oneof![
            2 => Just(Verification::Confirmed { answer: "0000".into() }),
            1 => Just(Verification::Missing { answer: "0112".into() }),
            1 => Just(Verification::Waived),
            1 => (0_u64..20)
                .prop_map(|after| Verification::Later { after: Duration::from_millis(after), answer: "no answer".into() }),
        ]
    };
    let step = prop_oneof![
        3 => (prop::collection::vec(0..DESTINATIONS.len(), 0..4), priority, 0_u64..1_000)
            .prop_map(|(destinations, priority, length)| Step::Arrive { destinations, priority, length }),
        5 => (0..DESTINATIONS.len(), 1_u64..20, outcome)
            .prop_map(|(destination, id, outcome)| Step::Record { destination, id, outcome }),
        1 => (1_u64..20, prop::collection::vec(0..DESTINATIONS.len(), 0..3))
            .prop_map(|(id, destinations)| Step::Again { id, destinations }),
        1 => (1_u64..20, prop::collection::vec(0..DESTINATIONS.len(), 0..3), any::<bool>()).prop_map(|(id, to, park)| {
            let conflicts = if park { Conflicts::Park } else { Conflicts::Deliver };
            Step::Contradict { id, destinations: to, conflicts }
        }),
        2 => (1_usize..4, 1_u64..20).prop_map(|(limit, also)| Step::Free { limit, also }),
        1 => (1_usize..4, any::<bool>()).prop_map(|(limit, gone)| Step::Expire { limit, gone }),
        1 => (0..DESTINATIONS.len(), 1_usize..4)
            .prop_map(|(destination, limit)| Step::RetryParked { destination, limit }),
        3 => (0..DESTINATIONS.len(), 1_u64..20, verification())
            .prop_map(|(destination, id, verification)| Step::Verify { destination, id, verification }),
        1 => (0..DESTINATIONS.len(), prop::collection::vec(1_u64..20, 0..6), verification(), 1_usize..4).prop_map(
            |(destination, uids, verification, limit)| Step::Report { destination, uids, verification, limit }
        ),
        1 => (1_u64..6, 1_usize..4).prop_map(|(study, limit)| Step::Expedite { study, limit }),
        1 => (1_u64..6, prop::option::of(0..DESTINATIONS.len()), 1_usize..4)
            .prop_map(|(study, destination, limit)| Step::RetryStudy { study, destination, limit }),
        1 => (1_u64..20, prop::option::of(0..DESTINATIONS.len()))
            .prop_map(|(id, destination)| Step::RetryInstance { id, destination }),
        1 => prop_oneof![Just(10), Just(2_000_000), Just(3_600_000), Just(3_600_001)].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

/// Does something step by step until its end.
fn in_steps(mut step: impl FnMut(u64) -> Result<super::Step, IndexError>) -> Result<u64, IndexError> {
    let (mut changed, mut next) = (0, Some(0));
    while let Some(from) = next {
        let done = step(from)?;
        (changed, next) = (changed + done.changed, done.next);
    }
    Ok(changed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_index_agrees_with_a_plain_model_after_any_sequence_of_operations(
        steps in steps(),
        batch in 1_usize..8,
    ) {
        let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
        let index = Index::create(&disk, path).unwrap();
        let mut model = Model::default();
        let mut now = 1_000;
        for batch in steps.chunks(batch) {
            index.write(|tables| {
                for step in batch {
                    now += if let Step::Wait(time) = step { *time } else { 1 };
                    match step {
                        Step::Wait(_) => {}
                        Step::Arrive { destinations, priority, length } => {
                            let id = model.last_id + 1;
                            let arrival = arrival(id, destinations, *priority, *length, now);
                            assert_eq!(tables.arrive(&arrival, Conflicts::Deliver)?, Entered::New);
                            assert_eq!(tables.arrive(&arrival, Conflicts::Deliver)?, Entered::Known, "by a replay");
                        }
                        Step::Again { id, destinations } => {
                            if let Some(first) = model.instances.get(id) {
                                let record = model.last_id + 1;
                                let to: Vec<usize> = first.destinations.iter().chain(destinations).copied().collect();
                                let arrival = arrival(record, &to, first.priority, first.length, now);
                                let header = InstanceHeader { destinations: arrival.header.destinations.clone(), ..header_of(first.uid) };
                                let arrival = Arrival { hash: hash(first.hash), header, ..arrival };
                                assert_eq!(tables.arrive(&arrival, Conflicts::Park)?, Entered::Renewed(InstanceId(*id)));
                                assert_eq!(tables.arrive(&arrival, Conflicts::Park)?, Entered::Known, "by a replay");
                            }
                        }
                        Step::Contradict { id, destinations, conflicts } => {
                            if let Some(first) = model.instances.get(id) {
                                let second = model.last_id + 1;
                                let arrival = arrival(second, destinations, first.priority, first.length, now);
                                let InstanceHeader { destinations, priority, .. } = arrival.header.clone();
                                let header = InstanceHeader { destinations, priority, ..header_of(first.uid) };
                                let arrival = Arrival { header, ..arrival };
                                assert!(matches!(tables.arrive(&arrival, *conflicts)?, Entered::Conflict(_)));
                                assert_eq!(tables.arrive(&arrival, *conflicts)?, Entered::Known, "by a replay");
                            }
                        }
                        Step::Free { limit, also } => {
                            let mut candidates: Vec<Candidate> = tables.all_done().into_iter().take(*limit).collect();
                            if let Some(place) = model.instances.get(also).and_then(|instance| instance.record) {
                                let offset = place * 4_096;
                                let location = Some(Location { kind: Kind::Shared, segment: 1, offset });
                                let done_at = now;
                                candidates.push(Candidate { done_at, id: InstanceId(*also), location, extent: 4_096 });
                            }
                            tables.set_time(SpoolTime(now));
                            for candidate in candidates {
                                let freed = tables.keep(&Change::Expend(vec![candidate]))?;
                                if !model.instances.contains_key(&candidate.id.0) {
                                    assert!(freed.is_empty(), "it is forgotten");
                                    continue;
                                }
                                let done = model.is_done(candidate.id.0);
                                let instance = model.instances.get_mut(&candidate.id.0).unwrap();
                                let here = instance.record.is_some();
                                assert_eq!(!freed.is_empty(), done && here, "freed if every delivery is made, and only then");
                                if !freed.is_empty() {
                                    instance.record = None;
                                    tables.keep(&Change::Forget(freed))?;
                                }
                            }
                        }
                        Step::Expire { limit, gone } => {
                            for freed in tables.all_freed().into_iter().take(*limit) {
                                tables.keep(&Change::Expire(vec![Expired { gone: *gone, ..freed }]))?;
                                let freed_now = model.instances.get(&freed.id.0).is_some_and(|one| one.record.is_none());
                                if *gone && freed_now {
                                    model.forget(freed.id.0);
                                }
                            }
                        }
                        Step::Record { destination, id, outcome } => {
                            let at = Timestamp::from_millis(now);
                            let made = (&Attempt::default(), outcome);
                            tables.record(&name(*destination), InstanceId(*id), made, SpoolTime(now), at)?;
                        }
                        Step::RetryParked { destination, limit } => {
                            tables.retry_all(&name(*destination), 0..=u64::MAX, *limit, SpoolTime(now))?;
                        }
                        Step::Expedite { study: number, limit } => {
                            let uid = study(*number).unwrap();
                            let changed = in_steps(|from| tables.expedite(&uid, from..=u64::MAX, *limit))?;
                            assert_eq!(changed, model.expedite(&uid));
                        }
                        Step::RetryStudy { study: number, destination, limit } => {
                            let (uid, to) = (study(*number), destination.map(name));
                            let retry = |from: u64| {
                                let study = uid.as_ref().unwrap();
                                tables.retry_study(study, to.as_ref(), from..=u64::MAX, *limit, SpoolTime(now))
                            };
                            let retried = in_steps(retry)?;
                            assert_eq!(retried, model.retry(|_, instance| study(instance.uid) == uid, *destination, now));
                        }
                        Step::RetryInstance { id, destination } => {
                            let to = destination.map(name);
                            let step = tables.retry_instance(InstanceId(*id), to.as_ref(), SpoolTime(now))?;
                            assert_eq!(step.changed, model.retry(|other, _| other == *id, *destination, now));
                        }
                        Step::Verify { destination, id, verification } => {
                            let (at, said) = (Timestamp::from_millis(now), (Method::CFind, verification));
                            let (name, id, now) = (name(*destination), InstanceId(*id), SpoolTime(now));
                            assert!(!tables.verified(&name, id, said, Some(u32::MAX), (now, at))?, "another one");
                            tables.verified(&name, id, said, None, (now, at))?;
                        }
                        Step::Report { destination, uids, verification, limit } => {
                            let said = |number: &u64| Reported {
                                instance: header(*number).sop_instance_uid,
                                attempt: None,
                                verification: verification.clone(),
                            };
                            let report: Vec<_> = uids.iter().map(said).collect();
                            let (mut applied, mut next) = (0, Some(ReportedTo::default()));
                            while let Some(from) = next {
                                let time = (SpoolTime(now), Timestamp::from_millis(now));
                                let step = tables.reported(&name(*destination), &report, from, *limit, time)?;
                                (applied, next) = (applied + step.0, step.1);
                            }
                            assert_eq!(applied, model.report(*destination, uids, verification, now));
                        }
                    }
                    model.apply(step, now);
                }
                Ok(())
            }).unwrap();
            check(&index, &model, now);
        }
        drop(index);
        let Opened::Usable(index) = Index::open(&disk, path, false).unwrap() else { panic!("it was closed cleanly") };
        check(&index, &model, now + 100);
    }
}

#[test]
fn an_index_of_another_schema_is_not_used() {
    let (disk, path) = (MemoryDisk::new(), Path::new("/data/index.redb"));
    let index = Index::create(&disk, path).unwrap();
    let transaction = index.database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("schema", &99_u64.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
    drop(index);
    match Index::open(&disk, path, false).unwrap() {
        Opened::Unusable(problem) => assert!(problem.contains("99"), "{problem}"),
        Opened::Usable(_) | Opened::Missing => panic!("it must not be used"),
    }
}

#[test]
fn the_checkpoint_and_the_clock_never_go_back() {
    let index = Index::create(&MemoryDisk::new(), Path::new("/data/index.redb")).unwrap();
    let advance = |segment, offset, id, time| {
        let change = |tables: &mut Tables<'_>| {
            tables.advance(segment, offset, InstanceId(id));
            tables.set_time(SpoolTime(time));
            Ok(())
        };
        index.write(change).unwrap();
        let State { segment, offset, large_to, last_id, time, .. } = index.read().unwrap().state().unwrap();
        assert_eq!(large_to, last_id);
        (segment, offset, last_id, time)
    };
    assert_eq!(advance(3, 8_192, 7, 100), (3, 8_192, 7, 100));
    assert_eq!(advance(2, 16_384, 6, 90), (3, 8_192, 7, 100));
    assert_eq!(advance(0, 0, 8, 110), (3, 8_192, 8, 110));
    assert_eq!(advance(4, 4_096, 9, 110), (4, 4_096, 9, 110));
}
