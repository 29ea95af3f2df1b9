//! Instances that are made smaller for the way.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::web::{self, Web};
use super::*;
use crate::dataset::sample;
use crate::forward::benefit::Kind;
use crate::forward::compact::{self, Workshop};
use crate::pixels::{self, JPEG_LS, LeftAlone, Limits as PixelLimits};

/// A workshop, and what it counts.
struct Made {
    workshop: Workshop,
    metrics: Metrics,
    encoded: Arc<AtomicUsize>,
}

impl Made {
    fn at(station: &Station) -> Self {
        Self::with(station, 0, 1)
    }

    fn with(station: &Station, spare: u64, at_a_time: usize) -> Self {
        let metrics = Metrics::new();
        let folder = station.data.path().to_owned();
        let workshop = Workshop::sparing(spare, at_a_time, folder, metrics.clone(), station.shutdown.clone());
        let made = Self { workshop, metrics, encoded: Arc::default() };
        made.has(|_| None);
        made
    }

    /// Counts what is encoded, and has it go through this first.
    fn has(&self, sabotage: impl Fn(InstanceId) -> Option<LeftAlone> + Send + Sync + 'static) {
        let encoded = Arc::clone(&self.encoded);
        self.workshop.sabotage(move |id| {
            encoded.fetch_add(1, Ordering::Relaxed);
            sabotage(id)
        });
    }

    /// It is known to make so many bytes smaller in a second, to a quarter.
    fn teach(&self, speed: u64) {
        let kind = Kind { sop_class: uid(CT), transfer_syntax: uid(EXPLICIT) };
        self.workshop.teach(&kind, &uid(JPEG_LS), (speed, speed / 4), Duration::from_secs(1));
    }

    fn encoded(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }

    fn has_counted(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|counted| counted == line)
    }

    async fn counts(&self, line: &str) {
        while !self.has_counted(line) {
            tokio::task::yield_now().await;
        }
    }

    fn work(&self, station: &mut Station, destination: &str, archive: &Archive) -> Arc<Destination> {
        self.work_over(station, destination, archive.route())
    }

    fn work_over(&self, station: &mut Station, destination: &str, route: Route) -> Arc<Destination> {
        station.deliver_with(destination, route, |settings| settings.workshop = Some(self.workshop.clone()))
    }
}

fn syntaxes(archive: &Archive) -> Vec<String> {
    archive.arrived().iter().map(|(_, syntax, _)| syntax.to_string()).collect()
}

fn names(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_leaves_in_a_transfer_syntax_in_which_it_is_smaller_if_the_archive_takes_it() {
    let both: &[&str] = &[EXPLICIT, JPEG_LS];
    for (accepts, expected) in [(both, JPEG_LS), (&[JPEG_LS], JPEG_LS), (&[EXPLICIT], EXPLICIT)] {
        let archive = Archive::start([], accepts).await;
        let mut station = Station::new();
        let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
        let made = Made::at(&station);
        let destination = made.work(&mut station, "central", &archive);
        assert!(is_delivered(&station.settled(id, "central").await));
        let (_, syntax, arrived) = archive.arrived().remove(0);
        assert_eq!(syntax.as_str(), expected);
        let told = station.spool.ledger(id).unwrap();
        let sent_as = told.iter().find_map(|line| match &line.entry {
            Some(Entry::Attempted(attempted)) => Some(attempted.transfer_syntax.clone()),
            _ => None,
        });
        let gain = destination.health().gain;
        assert_eq!((gain.stored, gain.sent), (data.len() as u64, arrived.len() as u64));
        if expected == EXPLICIT {
            assert_eq!((arrived, sent_as), (data, Some(None)));
            assert!(made.has_counted("waystation_left_alone_total{reason=\"not_accepted\"} 1"));
        } else {
            assert!(arrived.len() < data.len());
            assert_eq!(sent_as, Some(Some(uid(JPEG_LS))));
            let (stored, result) = (Cursor::new(&data), Cursor::new(&arrived));
            pixels::verify(stored, &uid(EXPLICIT), result, &uid(JPEG_LS), &PixelLimits::default()).unwrap();
        }
        station.stop().await;
    }
}

/// Some archives accept a transfer syntax at the association and then refuse the data set.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_a_smaller_transfer_syntax_is_offered_as_it_is_stored() {
    let archive = Archive::start([Act::Answer(0xC000)], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    Made::at(&station).work(&mut station, "central", &archive);
    let state = station.settled(id, "central").await;
    assert!(matches!(state, DeliveryState::Delivered { attempts: 2, .. }), "{state:?}");
    assert_eq!(syntaxes(&archive), [JPEG_LS, EXPLICIT]);
    assert_eq!(archive.arrived()[1].2, data);
    // And of what it takes only as it is stored, nothing else is offered for a while.
    let (next, _) = station.keep(1, EXPLICIT, &["central"]).await;
    let state = station.settled(next, "central").await;
    assert!(matches!(state, DeliveryState::Delivered { attempts: 1, .. }), "{state:?}");
    assert_eq!(syntaxes(&archive), [JPEG_LS, EXPLICIT, EXPLICIT]);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_leave_smaller_in_one_request_to_a_service_that_is_said_to_take_that() {
    let service = Web::start(|_| {}).await;
    let mut station = Station::new();
    let mut kept = Vec::new();
    for slice in 0..10 {
        kept.push(station.keep(slice, EXPLICIT, &["central"]).await);
    }
    station.spool.settle().unwrap();
    let destination = Made::at(&station).work_over(&mut station, "central", service.route(10));
    station.nothing_queued().await;
    let arrived = service.state().arrived.clone();
    assert_eq!(service.state().stores.iter().map(|(_, instances)| *instances).collect::<Vec<_>>(), [10]);
    assert_eq!(service.state().syntaxes, [JPEG_LS; 10]);
    for ((id, data), (_, result)) in kept.iter().zip(&arrived) {
        let stored = Cursor::new(data);
        pixels::verify(stored, &uid(EXPLICIT), Cursor::new(result), &uid(JPEG_LS), &PixelLimits::default()).unwrap();
        let told = station.spool.ledger(*id).unwrap();
        let sent_as = told.iter().find_map(|line| match &line.entry {
            Some(Entry::Attempted(attempted)) => Some((attempted.transfer_syntax.clone(), attempted.bytes)),
            _ => None,
        });
        assert_eq!(sent_as, Some((Some(uid(JPEG_LS)), result.len() as u64)));
    }
    let bytes = |all: &mut dyn Iterator<Item = usize>| all.sum::<usize>() as u64;
    let gain = destination.health().gain;
    assert_eq!(gain.stored, bytes(&mut kept.iter().map(|(_, data)| data.len())));
    assert_eq!(gain.sent, bytes(&mut arrived.iter().map(|(_, data)| data.len())));
    station.stop().await;
}

/// Whatever it says to that: 415 and 0122 are about the transfer syntax, a refusal very likely, and 500 or A700 may be.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_nothing_smaller_gets_everything_as_it_is_stored_and_is_not_asked_for_long() {
    use web::Act::{FailSmaller, RefuseSmaller};
    for (act, first, times) in [
        (RefuseSmaller(415), 1, 1),
        (FailSmaller(0x0122), 1, 1),
        (RefuseSmaller(400), 2, 1),
        (FailSmaller(0xC000), 2, 1),
        (RefuseSmaller(500), 2, 3),
        (FailSmaller(0xA700), 2, 3),
    ] {
        let service = Web::at_first(act, u32::MAX).await;
        let mut station = Station::new();
        Made::at(&station).work_over(&mut station, "central", service.route(10));
        for slice in 0..12 {
            let (id, data) = station.keep(slice, EXPLICIT, &["central"]).await;
            let DeliveryState::Delivered { attempts, .. } = station.settled(id, "central").await else { panic!() };
            assert_eq!(service.state().arrived.last().unwrap().1, data);
            // Later ones may leave as they are stored at once, because that is faster.
            assert!(if slice == 0 { attempts == first } else { attempts <= first }, "{act:?}, {slice}: {attempts}");
        }
        let offered = service.state().syntaxes.clone();
        assert_eq!(offered[0], JPEG_LS, "it is tried");
        for syntax in compact::smaller(&uid(EXPLICIT)) {
            let often = offered.iter().filter(|offered| offered == syntax).count();
            assert!(often <= times, "{act:?}: {often} times in {syntax}");
        }
        station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_smaller_leaves_as_it_otherwise_would() {
    let archive = Archive::start([], &[IMPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let data = [((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.88.11"), ((0x0008, 0x0018), b"UI", "1.2.3.4\0")]
        .map(|(tag, vr, value)| {
            sample::explicit(tag, vr, format!("{value:\0<width$}", width = value.len().next_multiple_of(2)).as_bytes())
        })
        .concat();
    let id = station.keep_as(&data, uid("1.2.3.4"), ("1.2", Priority::Routine), EXPLICIT, &["central"]).await;
    let made = Made::at(&station);
    made.work(&mut station, "central", &archive);
    assert!(is_delivered(&station.settled(id, "central").await));
    assert_eq!(syntaxes(&archive), [IMPLICIT]);
    assert!(made.has_counted("waystation_left_alone_total{reason=\"not_possible\"} 1"));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_after_a_broken_association_makes_nothing_again() {
    let archive = Archive::start([Act::AbortMidway, Act::Forget, Act::Answer(0xA700)], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["central"]).await;
    let made = Made::at(&station);
    made.work(&mut station, "central", &archive);
    let state = station.settled(id, "central").await;
    assert!(matches!(state, DeliveryState::Delivered { attempts: 4, .. }), "{state:?}");
    assert!(syntaxes(&archive).iter().all(|syntax| syntax == JPEG_LS));
    assert_eq!(made.encoded(), 1);
    assert!(made.has_counted("waystation_cache_hits_total 3"));
    made.counts("waystation_cached_bytes 0").await;
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_destinations_share_what_was_made() {
    let archives = [Archive::start([], &[JPEG_LS]).await, Archive::start([], &[JPEG_LS]).await];
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["central", "second"]).await;
    let made = Made::at(&station);
    made.workshop.serve(&name("second"));
    made.work(&mut station, "central", &archives[0]);
    assert!(is_delivered(&station.settled(id, "central").await));
    assert!(!made.has_counted("waystation_cached_bytes 0"), "the other one has still to get it");
    made.work(&mut station, "second", &archives[1]);
    assert!(is_delivered(&station.settled(id, "second").await));
    assert_eq!(made.encoded(), 1);
    made.counts("waystation_cached_bytes 0").await;
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_next_is_made_smaller_while_the_present_one_is_on_the_wire() {
    let told = Arc::new(Notify::new());
    let archive = Archive::start([Act::AnswerWhen(Arc::clone(&told))], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(20).await;
    let before = names(station.data.path());
    let made = Made::at(&station);
    let encoded = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&encoded);
    made.has(move |id| {
        list.lock().unwrap().push(id);
        None
    });
    made.teach(1 << 40);
    made.work(&mut station, "central", &archive);
    // So many and no more: the first one is not answered yet.
    made.counts("waystation_prepared_total 8").await;
    let prepared = encoded.lock().unwrap().clone();
    assert_eq!(prepared.len(), 9);
    assert_eq!(names(station.data.path()), before, "results have no name");
    told.notify_one();
    for id in &kept {
        assert!(is_delivered(&station.settled(*id, "central").await));
    }
    assert_eq!(syntaxes(&archive), vec![JPEG_LS; 20]);
    // What gives way to something that is wanted now is begun again, but nothing that was ready.
    let again = encoded.lock().unwrap().iter().skip(prepared.len()).filter(|id| prepared.contains(id)).count();
    assert_eq!(again, 0);
    made.counts("waystation_cached_bytes 0").await;
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_that_is_expedited_is_prepared_first() {
    let told = Arc::new(Notify::new());
    let archive = Archive::start([Act::AnswerWhen(Arc::clone(&told))], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let mut kept = vec![];
    for slice in 0..20 {
        let mut data = Vec::new();
        Phantom::small(100).write_data_set(slice, &mut data).unwrap();
        let (instance, study) = (format!("1.2.3.{slice}"), if slice < 19 { "1.2" } else { "1.9" });
        let class = (study, Priority::Routine);
        kept.push(station.keep_as(&data, uid(&instance), class, EXPLICIT, &["central"]).await);
    }
    tokio::task::block_in_place(|| station.spool.settle()).unwrap();
    let made = Made::at(&station);
    let prepared = Arc::new(Mutex::new(Vec::new()));
    let encoded = Arc::clone(&prepared);
    made.has(move |id| {
        encoded.lock().unwrap().push(id);
        None
    });
    made.work(&mut station, "central", &archive);
    made.counts("waystation_prepared_total 8").await;
    tokio::task::block_in_place(|| station.spool.expedite(&uid("1.9"), "somebody")).unwrap();
    made.counts("waystation_prepared_total 9").await;
    assert_eq!(prepared.lock().unwrap().last(), kept.last());
    told.notify_one();
    for id in &kept {
        assert!(is_delivered(&station.settled(*id, "central").await));
    }
    assert_eq!(archive.arrived()[1].0, uid("1.2.3.19"));
    station.stop().await;
}

/// Lets the first that is encoded after the one before wait, until it is told.
fn stopped(made: &Made, first: InstanceId) -> (Receiver<InstanceId>, SyncSender<()>) {
    let (began, begun) = sync_channel(100);
    let (go, gone) = sync_channel(100);
    let gone = Mutex::new(gone);
    made.has(move |id| {
        if id != first {
            began.send(id).unwrap();
            // Nobody is left to tell it when the test is over.
            let _ = gone.lock().unwrap().recv();
        }
        None
    });
    (begun, go)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_prepared_gives_way_to_what_is_wanted_now() {
    let told = Arc::new(Notify::new());
    let archive = Archive::start([Act::AnswerWhen(Arc::clone(&told))], &[EXPLICIT, JPEG_LS]).await;
    let other = Archive::start([], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let first = station.keep(0, EXPLICIT, &["central"]).await.0;
    let next = station.keep(1, EXPLICIT, &["central"]).await.0;
    let made = Made::at(&station);
    let (begun, go) = stopped(&made, first);
    made.work(&mut station, "central", &archive);
    assert_eq!(tokio::task::block_in_place(|| begun.recv()).unwrap(), next);
    let urgent = station.keep(2, EXPLICIT, &["second"]).await.0;
    made.work(&mut station, "second", &other);
    while !made.workshop.gives_way() {
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        go.send(()).unwrap();
    }
    assert!(is_delivered(&station.settled(urgent, "second").await));
    assert_eq!(tokio::task::block_in_place(|| begun.recv()).unwrap(), urgent);
    assert_eq!(tokio::task::block_in_place(|| begun.recv()).unwrap(), next, "what gave way is begun anew");
    told.notify_one();
    assert!(is_delivered(&station.settled(next, "central").await));
    assert_eq!((syntaxes(&archive), syntaxes(&other)), (vec![JPEG_LS.to_owned(); 2], vec![JPEG_LS.to_owned()]));
    station.stop().await;
}

/// As many as there are processors, and one of them makes room.
#[tokio::test(flavor = "multi_thread")]
async fn several_are_prepared_at_a_time_and_one_of_them_gives_way_to_what_is_wanted_now() {
    let told = Arc::new(Notify::new());
    let archive = Archive::start([Act::AnswerWhen(Arc::clone(&told))], &[EXPLICIT, JPEG_LS]).await;
    let other = Archive::start([], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(4).await;
    tokio::task::block_in_place(|| station.spool.settle()).unwrap();
    let made = Made::with(&station, 0, 2);
    let (begun, go) = stopped(&made, kept[0]);
    made.work(&mut station, "central", &archive);
    let both = [begun.recv().unwrap(), begun.recv().unwrap()];
    assert_eq!(BTreeSet::from(both), BTreeSet::from([kept[1], kept[2]]));
    let urgent = station.keep(9, EXPLICIT, &["second"]).await.0;
    made.work(&mut station, "second", &other);
    while !made.workshop.gives_way() {
        tokio::task::yield_now().await;
    }
    assert!(begun.try_recv().is_err(), "no more at a time");
    for _ in 0..6 {
        go.send(()).unwrap();
    }
    assert!(is_delivered(&station.settled(urgent, "second").await));
    told.notify_one();
    for id in &kept {
        assert!(is_delivered(&station.settled(*id, "central").await));
    }
    // The first, the urgent one, two beside each other of which one began anew, and the last.
    assert_eq!((syntaxes(&archive), made.encoded()), (vec![JPEG_LS.to_owned(); 4], 6));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_ends_when_the_gateway_stops() {
    let told = Arc::new(Notify::new());
    let archive = Archive::start([Act::AnswerWhen(Arc::clone(&told))], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let first = station.keep(0, EXPLICIT, &["central"]).await.0;
    for slice in 1..5 {
        station.keep(slice, EXPLICIT, &["central"]).await;
    }
    let made = Made::at(&station);
    let (begun, go) = stopped(&made, first);
    made.work(&mut station, "central", &archive);
    tokio::task::block_in_place(|| begun.recv()).unwrap();
    station.shutdown.cancel();
    go.send(()).unwrap();
    told.notify_one();
    assert!(is_delivered(&station.settled(first, "central").await));
    station.stop().await;
    while made.workshop.is_preparing() {
        tokio::task::yield_now().await;
    }
    assert_eq!(made.encoded(), 2);
    assert!(made.has_counted("waystation_prepared_total 0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_link_is_not_slowed_by_a_slow_codec() {
    let archive = Archive::start([], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let made = Made::at(&station);
    let destination = made.work(&mut station, "central", &archive);
    made.teach(1_000_000);
    let second = Duration::from_secs(1);
    destination.show(|health| {
        let now = clock::of_runtime();
        health.flow.began(now);
        health.flow.ended(100_000_000, 100_000_000, second, now + second);
    });
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    assert!(is_delivered(&station.settled(id, "central").await));
    assert_eq!(archive.arrived()[0].2, data);
    assert_eq!(made.encoded(), 0);
    assert!(made.has_counted("waystation_left_alone_total{reason=\"does_not_pay\"} 1"));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_without_room_instances_leave_as_they_are_stored() {
    let archive = Archive::start([], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["central"]).await;
    let made = Made::with(&station, u64::MAX / 2, 1);
    made.work(&mut station, "central", &archive);
    assert!(is_delivered(&station.settled(id, "central").await));
    assert_eq!((syntaxes(&archive), made.encoded()), (vec![EXPLICIT.to_owned()], 0));
    assert!(made.has_counted("waystation_left_alone_total{reason=\"no_room\"} 1"));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_codec_spoils_is_counted_and_leaves_as_it_is_stored_however_often_it_is_tried() {
    let archive = Archive::start([Act::AbortMidway], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    let made = Made::at(&station);
    made.has(|_| Some(LeftAlone::FrameDiffers));
    made.work(&mut station, "central", &archive);
    assert!(is_delivered(&station.settled(id, "central").await));
    assert_eq!(archive.arrived()[0].2, data);
    assert_eq!(made.encoded(), 1);
    assert!(made.has_counted("waystation_codec_failures_total 1"));
    assert!(made.has_counted("waystation_left_alone_total{reason=\"frame_differs\"} 1"));
    station.stop().await;
}
