//! The index against a plain model: after any sequence of operations rows, order, counters and answers agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::durable::memory::MemoryDisk;
use crate::model::Priority;
use crate::spool::claims::{Outcome, Verification};
use crate::spool::record::tests::header;
use crate::spool::shared::Conflicts;
use crate::spool::status::StudyDeliveries;

const DESTINATIONS: [&str; 3] = ["central", "cloud", "nas"];

#[derive(Debug, Clone)]
enum Step {
    Arrive {
        destinations: Vec<usize>,
        priority: Priority,
        length: u64,
    },
    /// A second record with the content of an instance, for destinations that may be new.
    Again {
        id: u64,
        destinations: Vec<usize>,
    },
    /// Other content with the UID of an instance.
    Contradict {
        id: u64,
        destinations: Vec<usize>,
        conflicts: Conflicts,
    },
    /// Asks for everything that seems done to be freed, and for some that are not.
    Free {
        limit: usize,
        also: u64,
    },
    /// Asks for what was freed to be forgotten; nothing may come of it if something is still on the disk.
    Expire {
        limit: usize,
        gone: bool,
    },
    Record {
        destination: usize,
        id: u64,
        outcome: Outcome,
    },
    RetryParked {
        destination: usize,
        limit: usize,
    },
    Verify {
        destination: usize,
        id: u64,
        verification: Verification,
    },
    /// A report by SOP Instance UID, entered by so many looks at a time.
    Report {
        destination: usize,
        uids: Vec<u64>,
        verification: Verification,
        limit: usize,
    },
    /// So many milliseconds pass.
    Wait(u64),
}

#[derive(Debug, Clone, PartialEq)]
enum Delivery {
    Queued { due: u64, attempts: u32 },
    Final,
    Unverified { due: u64, tries: u32, attempts: u32 },
    Confirmed,
    Parked,
}

impl Delivery {
    fn stage(&self) -> Stage {
        match self {
            Self::Queued { .. } => Stage::Queued,
            Self::Final => Stage::Final,
            Self::Unverified { .. } => Stage::Unverified,
            Self::Confirmed => Stage::Confirmed,
            Self::Parked => Stage::Parked,
        }
    }

    fn verify(&mut self, verification: &Verification, now: u64) -> bool {
        let Self::Unverified { tries, attempts, .. } = *self else { return false };
        *self = match verification {
            Verification::Confirmed { .. } => Self::Confirmed,
            Verification::Missing { .. } => Self::Queued { due: now, attempts },
            Verification::Later { after, .. } => {
                Self::Unverified { due: now + millis(*after), tries: tries + 1, attempts }
            }
        };
        true
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// What the index should say.
#[derive(Debug, Default)]
struct Model {
    /// By id: priority, length, number of the UID, and where the payload is if it is there.
    instances: BTreeMap<u64, ModelInstance>,
    last_id: u64,
    deliveries: BTreeMap<(usize, u64), Delivery>,
    forgotten: BTreeMap<u64, ModelInstance>,
    studies: BTreeMap<Uid, ModelStudy>,
}

#[derive(Debug, Clone)]
struct ModelStudy {
    number: u64,
    first: u64,
    last: u64,
    /// Those that are late.
    late: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct ModelInstance {
    priority: Priority,
    length: u64,
    uid: u64,
    hash: u64,
    record: Option<u64>,
    destinations: BTreeSet<usize>,
    conflict: bool,
}

impl Model {
    fn instance(&self, id: u64) -> (Priority, u64) {
        let instance = &self.instances[&id];
        (instance.priority, instance.length)
    }

    fn is_done(&self, id: u64) -> bool {
        let destinations = &self.instances[&id].destinations;
        let settled =
            |destination: &usize| matches!(self.deliveries[&(*destination, id)], Delivery::Final | Delivery::Confirmed);
        !destinations.is_empty() && destinations.iter().all(settled)
    }

    fn forget(&mut self, id: u64) {
        self.forgotten.extend(self.instances.remove(&id).map(|instance| (id, instance)));
        self.deliveries.retain(|(_, other), _| *other != id);
        let instances = &self.instances;
        self.studies.retain(|uid, study| {
            study.late.remove(&id);
            instances.values().any(|instance| self::study(instance.uid).as_ref() == Some(uid))
        });
    }

    fn arrive(&mut self, instance: ModelInstance, delivery: &Delivery, now: u64) {
        self.last_id += 1;
        let number = self.last_id;
        if let Some(uid) = study(instance.uid) {
            let new = || ModelStudy { number, first: now, last: now, late: BTreeSet::new() };
            let study = self.studies.entry(uid).or_insert_with(new);
            if now - study.last > 3_600_000 {
                study.late.insert(number);
            }
            study.last = now;
        }
        for destination in &instance.destinations {
            self.deliveries.insert((*destination, self.last_id), delivery.clone());
        }
        self.instances.insert(self.last_id, ModelInstance { record: Some(self.last_id), ..instance });
    }

    fn apply(&mut self, step: &Step, now: u64) {
        match step {
            Step::Arrive { destinations, priority, length } => {
                let id = self.last_id + 1;
                let destinations = destinations.iter().copied().collect();
                let (priority, length) = (*priority, *length);
                let instance =
                    ModelInstance { priority, length, uid: id, hash: id, record: None, destinations, conflict: false };
                self.arrive(instance, &Delivery::Queued { due: now, attempts: 0 }, now);
            }
            Step::Again { id, destinations } => {
                let Some(instance) = self.instances.get_mut(id) else { return };
                self.last_id += 1;
                instance.record = Some(self.last_id);
                for destination in destinations {
                    if instance.destinations.insert(*destination) {
                        self.deliveries.insert((*destination, *id), Delivery::Queued { due: now, attempts: 0 });
                    }
                }
            }
            Step::Contradict { id, destinations, conflicts } => {
                let Some(first) = self.instances.get(id).cloned() else { return };
                let destinations = destinations.iter().copied().collect();
                let instance = ModelInstance { hash: self.last_id + 1, destinations, conflict: true, ..first };
                let queued = Delivery::Queued { due: now, attempts: 0 };
                self.arrive(instance, if *conflicts == Conflicts::Park { &Delivery::Parked } else { &queued }, now);
            }
            // Which of the done ones the index frees is seen there; that they are done is checked.
            Step::Free { .. } | Step::Expire { .. } => {}
            Step::Record { destination, id, outcome } => {
                if let Some(delivery) = self.deliveries.get_mut(&(*destination, *id))
                    && let Delivery::Queued { attempts, .. } = *delivery
                {
                    match outcome {
                        Outcome::Delivered { verify: None, .. } => *delivery = Delivery::Final,
                        Outcome::Delivered { verify: Some(after), .. } => {
                            let (due, attempts) = (now + millis(*after), attempts + 1);
                            *delivery = Delivery::Unverified { due, tries: 0, attempts };
                        }
                        Outcome::Parked { .. } => *delivery = Delivery::Parked,
                        Outcome::Retry { after, .. } => {
                            *delivery = Delivery::Queued { due: now + millis(*after), attempts: attempts + 1 };
                        }
                        Outcome::Released => {}
                    }
                }
            }
            Step::RetryParked { destination, limit } => {
                let all = self.deliveries.range_mut((*destination, 0)..=(*destination, u64::MAX));
                for (_, delivery) in all.filter(|(_, delivery)| **delivery == Delivery::Parked).take(*limit) {
                    *delivery = Delivery::Queued { due: now, attempts: 0 };
                }
            }
            Step::Verify { destination, id, verification } => {
                if let Some(delivery) = self.deliveries.get_mut(&(*destination, *id)) {
                    delivery.verify(verification, now);
                }
            }
            // What the index says is compared with [`Model::report`] there.
            Step::Report { .. } | Step::Wait(_) => {}
        }
    }

    /// (priority, due, id, attempts) of what is queued, in the order of sending.
    fn queue(&self, destination: usize) -> Vec<(Priority, u64, u64, u32)> {
        let mut queue: Vec<_> = self
            .deliveries
            .range((destination, 0)..=(destination, u64::MAX))
            .filter_map(|((_, id), delivery)| match delivery {
                Delivery::Queued { due, attempts } => Some((self.instance(*id).0, *due, *id, *attempts)),
                _ => None,
            })
            .collect();
        queue.sort_unstable();
        queue
    }

    fn of_study(&self, uid: &Uid) -> impl Iterator<Item = (&u64, &ModelInstance)> {
        self.instances.iter().filter(move |(_, instance)| study(instance.uid).as_ref() == Some(uid))
    }

    /// What is known of the deliveries of a study.
    fn study_deliveries(&self, uid: &Uid) -> Vec<StudyDeliveries> {
        let mut all = BTreeMap::new();
        for (id, instance) in self.of_study(uid) {
            for destination in &instance.destinations {
                let counts: &mut Counts = all.entry(name(*destination)).or_default();
                counts.add(self.deliveries[&(*destination, *id)].stage(), instance.length);
            }
        }
        all.into_iter().map(|(destination, counts)| StudyDeliveries { destination, counts }).collect()
    }

    fn counts(&self, destination: usize) -> Counts {
        let mut counts = Counts::default();
        for ((_, id), delivery) in self.deliveries.range((destination, 0)..=(destination, u64::MAX)) {
            counts.add(delivery.stage(), self.instance(*id).1);
        }
        counts
    }

    /// (due, id, tries) of what has still to be asked about, in that order.
    fn unverified(&self, destination: usize) -> Vec<(u64, u64, u32)> {
        let all = self.deliveries.range((destination, 0)..=(destination, u64::MAX));
        let mut open: Vec<_> = all
            .filter_map(|((_, id), delivery)| match delivery {
                Delivery::Unverified { due, tries, .. } => Some((*due, *id, *tries)),
                _ => None,
            })
            .collect();
        open.sort_unstable();
        open
    }

    /// Applies a report, and gives to how many deliveries it applied.
    fn report(&mut self, destination: usize, uids: &[u64], verification: &Verification, now: u64) -> u64 {
        let mut applied = 0;
        for uid in uids {
            for (id, _) in self.instances.iter().filter(|(_, instance)| instance.uid == *uid) {
                if let Some(delivery) = self.deliveries.get_mut(&(destination, *id)) {
                    applied += u64::from(delivery.verify(verification, now));
                }
            }
        }
        applied
    }
}

fn name(destination: usize) -> DestinationName {
    DESTINATIONS[destination].parse().unwrap()
}

pub(super) fn hash(number: u64) -> ContentHash {
    ContentHash(std::array::from_fn(|at| number.to_le_bytes()[at % 8]))
}

/// Instances come in five studies, and some in none.
fn study(number: u64) -> Option<Uid> {
    Some(number % 6).filter(|study| *study > 0).map(|study| format!("1.2.840.{study}").parse().unwrap())
}

pub(super) fn header_of(number: u64) -> InstanceHeader {
    InstanceHeader { study_instance_uid: study(number), ..header(number) }
}

pub(super) fn arrival(id: u64, destinations: &[usize], priority: Priority, length: u64, now: u64) -> Arrival {
    let destinations = destinations.iter().map(|destination| name(*destination)).collect();
    Arrival {
        id: InstanceId(id),
        location: Location { kind: Kind::Shared, segment: 1, offset: id * 4_096 },
        end: (id + 1) * 4_096,
        queued_at: SpoolTime(now),
        hash: hash(id),
        length,
        stored_length: length / 2,
        header: InstanceHeader { destinations, priority, ..header_of(id) },
    }
}

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
        let due = view.due(&name, SpoolTime(now), 4, claimed).unwrap();
        let due: Vec<_> = due.into_iter().map(|(id, attempts, _)| (id.0, attempts)).collect();
        let expected: Vec<_> = free.clone().filter(|row| row.1 <= now).map(|row| (row.2, row.3)).take(4).collect();
        assert_eq!(due, expected);
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
        assert_eq!(found.deliveries, model.study_deliveries(uid));
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
        Just(Outcome::Released),
    ];
    let verification = || {
        prop_oneof![
            2 => Just(Verification::Confirmed { answer: "0000".into() }),
            1 => Just(Verification::Missing { answer: "0112".into() }),
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
        1 => prop_oneof![Just(10), Just(2_000_000), Just(3_600_000), Just(3_600_001)].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
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
                            tables.record(&name(*destination), InstanceId(*id), outcome, SpoolTime(now), at)?;
                        }
                        Step::RetryParked { destination, limit } => {
                            tables.retry_parked(&name(*destination), 0..=u64::MAX, *limit, SpoolTime(now))?;
                        }
                        Step::Verify { destination, id, verification } => {
                            let at = Timestamp::from_millis(now);
                            tables.verified(&name(*destination), InstanceId(*id), verification, SpoolTime(now), at)?;
                        }
                        Step::Report { destination, uids, verification, limit } => {
                            let uid = |number: &u64| (header(*number).sop_instance_uid, verification.clone());
                            let report: Vec<_> = uids.iter().map(uid).collect();
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
