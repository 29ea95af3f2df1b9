//! The worker against an archive that follows a script ([`scripted`]); strange archives of other makes are in `tests/`.

mod answers;
mod away;
mod coercing;
mod compact;
mod folders;
mod held;
mod pipeline;
mod scripted;
mod several;
mod stand_in;
mod stow;
mod urgent;
pub(super) mod web;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::scripted::{Act, Archive, Script, serve};
use super::open::Dialer;
use super::reach::Limits;
use super::{Activity, Coercions, Destination, Route, Settings, StandIn};
use crate::association::{Rejection, Timeouts};
use crate::clock;
use crate::config::DicomPeer;
use crate::dataset::digest::{Digest, Over};
use crate::dataset::transfer_syntax;
use crate::ledger::Entry;
use crate::metrics::Metrics;
use crate::model::{ContentHash, DestinationName, InstanceId, Priority, Timestamp, Uid};
use crate::phantom::Phantom;
use crate::retry::Backoff;
use crate::spool::{DeliveryState, InstanceHeader, Parked, Spool, SpoolOptions};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

fn name(text: &str) -> DestinationName {
    text.parse().unwrap()
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// Time-outs that no network of this machine meets, not even in virtual time.
fn unhurried() -> Timeouts {
    Timeouts { association: Duration::from_secs(3_600), ..Timeouts::default() }
}

/// Lets virtual time pass in small steps. The clock of a runtime that is paused jumps to the next timer when all wait, also
/// while a packet is on its way; without steps that would be the next time-out.
pub(super) fn in_small_steps() {
    tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
}

/// A spool with workers.
pub(super) struct Station {
    pub(super) spool: Spool,
    pub(super) shutdown: CancellationToken,
    pub(super) workers: Vec<JoinHandle<()>>,
    destinations: Vec<Arc<Destination>>,
    data: tempfile::TempDir,
}

/// Short pauses, and no questions after the delivery.
pub(super) fn settings() -> Settings {
    Settings {
        calling: "WAYSTATION".parse().unwrap(),
        dialer: Dialer::default(),
        backoff: Backoff { first: Duration::from_millis(5), cap: Duration::from_millis(20) },
        timeouts: unhurried(),
        associations: 1,
        tries: 3,
        patience: Duration::from_secs(20),
        verify_after: None,
        limits: Limits::default(),
        stands_in: None,
        workshop: None,
        coercions: Coercions::of(&[], &name("central"), &"WAYSTATION".parse().unwrap()),
    }
}

impl Station {
    pub(super) fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = SpoolOptions { segment_size: 4 << 20, reserve: 0, ..SpoolOptions::default() };
        let (spool, _) = Spool::open(data.path(), options, |reason| panic!("{reason}")).unwrap();
        Self { spool, shutdown: CancellationToken::new(), workers: vec![], destinations: vec![], data }
    }

    fn deliver_to(&mut self, destination: &str, route: Route) -> Arc<Destination> {
        self.deliver_with(destination, route, |_| {})
    }

    fn deliver_with(&mut self, destination: &str, route: Route, change: impl Fn(&mut Settings)) -> Arc<Destination> {
        let mut settings = settings();
        change(&mut settings);
        self.deliver_as(destination, route, settings)
    }

    pub(super) fn deliver_as(&mut self, destination: &str, route: Route, mut settings: Settings) -> Arc<Destination> {
        let destination = Arc::new(Destination::new(name(destination)));
        settings.dialer = Dialer::new(&[], Arc::clone(destination.wires()));
        self.work(&destination, route, settings);
        destination
    }

    fn work(&mut self, destination: &Arc<Destination>, route: Route, settings: Settings) {
        let listener = Arc::clone(destination);
        self.spool.on_queued(move |name| {
            if *name == listener.name {
                listener.queued();
            }
        });
        let (d, spool, shutdown) = (Arc::clone(destination), self.spool.clone(), self.shutdown.clone());
        self.workers.push(tokio::spawn(async move {
            super::run(d, route, settings, spool, Metrics::new(), shutdown).await.unwrap();
        }));
        self.destinations.push(Arc::clone(destination));
    }

    /// Puts slice `slice` of a small phantom into the spool, as `syntax` says it is encoded.
    pub(super) async fn keep(&self, slice: u32, syntax: &str, destinations: &[&str]) -> (InstanceId, Vec<u8>) {
        let mut data = Vec::new();
        Phantom::small(100).write_data_set(slice, &mut data).unwrap();
        let instance = Phantom::small(100).file_meta(slice).unwrap().sop_instance_uid;
        let id = self.keep_as(&data, instance, ("1.2", Priority::Routine), syntax, destinations).await;
        (id, data)
    }

    /// Keeps the first so many for "central".
    pub(super) async fn keep_slices(&self, count: u32) -> Vec<InstanceId> {
        let mut kept = vec![];
        for slice in 0..count {
            kept.push(self.keep(slice, EXPLICIT, &["central"]).await.0);
        }
        kept
    }

    /// Keeps `data` as an instance of this study and class.
    async fn keep_as(
        &self,
        data: &[u8],
        instance: Uid,
        (study, priority): (&str, Priority),
        syntax: &str,
        destinations: &[&str],
    ) -> InstanceId {
        let mut incoming = self.spool.receive().unwrap();
        incoming.write(data).unwrap();
        let header = InstanceHeader {
            sop_class_uid: uid(CT),
            sop_instance_uid: instance,
            study_instance_uid: Some(uid(study)),
            series_instance_uid: Some(uid("1.2.3")),
            transfer_syntax: uid(syntax),
            calling_ae: "CT1".parse().unwrap(),
            called_ae: "WAYSTATION".parse().unwrap(),
            peer: None,
            received_at: Timestamp::from_millis(1),
            priority,
            modality: None,
            destinations: destinations.iter().map(|d| name(d)).collect(),
            rule: None,
            withheld: false,
        };
        let (done, safe) = oneshot::channel();
        incoming.commit(header, Box::new(move |committed| drop(done.send(committed))));
        safe.await.unwrap().unwrap().id
    }

    /// The state of a delivery once it waits no longer.
    async fn settled(&self, id: InstanceId, destination: &str) -> DeliveryState {
        self.such_that(id, destination, |state| !matches!(state, DeliveryState::Queued { .. })).await
    }

    /// The state of a delivery once it is like that.
    pub(super) async fn such_that(
        &self,
        id: InstanceId,
        destination: &str,
        wanted: impl Fn(&DeliveryState) -> bool,
    ) -> DeliveryState {
        let changed = Arc::new(Notify::new());
        let listener = Arc::clone(&changed);
        self.spool.on_queued(move |_| listener.notify_one());
        loop {
            match self.state(id, destination).filter(&wanted) {
                Some(state) => return state,
                None => changed.notified().await,
            }
        }
    }

    pub(super) fn state(&self, id: InstanceId, destination: &str) -> Option<DeliveryState> {
        let views = self.spool.instances(None, 100).unwrap();
        let view = views.into_iter().find(|view| view.id == id)?;
        view.deliveries.into_iter().find(|d| d.destination == name(destination)).map(|d| d.state)
    }

    pub(super) async fn stop(mut self) -> tempfile::TempDir {
        self.shutdown.cancel();
        for worker in self.workers.drain(..) {
            worker.await.unwrap();
        }
        self.spool.close();
        self.data
    }
}

fn is_delivered(state: &DeliveryState) -> bool {
    matches!(state, DeliveryState::Delivered { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_what_was_kept_and_in_order_of_arrival() {
    let archive = Archive::start([], &[]).await;
    let mut station = Station::new();
    let mut kept = vec![];
    for slice in 0..8 {
        kept.push(station.keep(slice, EXPLICIT, &["central"]).await);
    }
    station.deliver_to("central", archive.route());
    for (id, _) in &kept {
        assert!(is_delivered(&station.settled(*id, "central").await));
    }
    let arrived: Vec<Vec<u8>> = archive.arrived().into_iter().map(|(_, _, data)| data).collect();
    assert!(arrived == kept.into_iter().map(|(_, data)| data).collect::<Vec<_>>());
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_broken_attempt_ends_in_one_whole_delivery() {
    let acts = [
        Act::Reject(Rejection::LOCAL_LIMIT_EXCEEDED),
        Act::Reject(Rejection::CALLING_AE_NOT_RECOGNIZED),
        Act::AbortMidway,
        Act::Forget,
        Act::Answer(0xA700),
        Act::Answer(0xA7FF),
        Act::Answer(0x0000),
    ];
    let archive = Archive::start(acts, &[]).await;
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    let destination = station.deliver_to("central", archive.route());
    let DeliveryState::Delivered { attempts, answer, .. } = station.settled(id, "central").await else {
        panic!("not delivered")
    };
    assert_eq!(attempts, 5, "a rejected association is no attempt of the instance");
    assert!(answer.starts_with("0000"), "{answer}");
    assert!(archive.arrived().iter().all(|(_, _, arrived)| *arrived == data), "an instance arrived that is not whole");
    assert_eq!(destination.health().failures, 0);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_leaves_after_each_answer_costs_no_attempt() {
    let archive = Archive::start(vec![Act::AnswerAndLeave; 5], &[]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(5).await;
    let destination = station.deliver_to("central", archive.route());
    for id in kept {
        let state = station.settled(id, "central").await;
        assert!(matches!(state, DeliveryState::Delivered { attempts: 1, .. }), "{state:?}");
    }
    assert!(destination.health().last_failure.is_none());
    station.stop().await;
}

/// What left over an association that then broke, with the archive gone for good, was in no record.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_breaks_before_the_archive_goes_away_is_told_and_keeps_its_place() {
    let archive =
        Archive::start([Act::Answer(0x0000), Act::Forget, Act::Reject(Rejection::LOCAL_LIMIT_EXCEEDED)], &[]).await;
    let mut station = Station::new();
    let first = station.keep(0, EXPLICIT, &["central"]).await.0;
    let second = station.keep(1, EXPLICIT, &["central"]).await.0;
    station.deliver_to("central", archive.route());
    assert!(is_delivered(&station.settled(first, "central").await));
    let state = station.settled(second, "central").await;
    assert!(matches!(state, DeliveryState::Delivered { attempts: 2, .. }), "{state:?}");
    let lines = station.spool.ledger(second).unwrap();
    let broken = lines.iter().find_map(|line| match &line.entry {
        Some(Entry::Attempted(attempted)) if attempted.attempt == 1 => Some(attempted),
        _ => None,
    });
    let broken = broken.unwrap();
    assert!(broken.bytes > 0 && broken.next_after.is_none(), "{broken:?}");
    assert!(broken.answer.as_str().contains("the association broke"), "{broken:?}");
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_that_breaks_every_association_does_not_close_the_destination() {
    let archive = Archive::start(vec![Act::AbortMidway; 12], &[]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(12).await;
    let destination = station.deliver_to("central", archive.route());
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    // The archive could be reached all the while: that is no failure of the destination.
    assert_eq!(destination.health().failures, 0);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_the_archive_refuses_is_parked_with_a_sentence_and_the_others_flow_on() {
    for status in [0xA900, 0xA9FF, 0xC000, 0xC123, 0x0110, 0x0122, 0xFFFF] {
        let archive = Archive::start([Act::Answer(status)], &[]).await;
        let mut station = Station::new();
        let (refused, _) = station.keep(0, EXPLICIT, &["central"]).await;
        let (other, _) = station.keep(1, EXPLICIT, &["central"]).await;
        station.deliver_to("central", archive.route());
        assert!(is_delivered(&station.settled(other, "central").await));
        // Refused once, then taken: a few tries are made.
        assert!(is_delivered(&station.settled(refused, "central").await), "{status:04X}");
        station.stop().await;

        let archive = Archive::start(vec![Act::Answer(status); 3], &[]).await;
        let mut station = Station::new();
        let (refused, _) = station.keep(0, EXPLICIT, &["central"]).await;
        station.deliver_to("central", archive.route());
        let state = station.settled(refused, "central").await;
        let DeliveryState::Parked { reason, attempts: 3, .. } = state else { panic!("{state:?}") };
        assert!(reason.contains(&format!("{status:04X}")) && reason.contains("waystation retry"), "{reason}");
        // Released by a person, it goes.
        assert_eq!(
            tokio::task::block_in_place(|| station.spool.retry(Some(&name("central")), Parked::All, "a test")).unwrap(),
            1
        );
        assert!(is_delivered(&station.settled(refused, "central").await));
        station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_takes_only_another_uncompressed_syntax_gets_a_conversion() {
    let archive = Archive::start([], &[IMPLICIT]).await;
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    station.deliver_to("central", archive.route());
    assert!(is_delivered(&station.settled(id, "central").await));
    let (_, syntax, converted) = archive.arrived().remove(0);
    assert_eq!(syntax, uid(IMPLICIT));
    assert!(digest(&converted, IMPLICIT) == digest(&data, EXPLICIT), "the elements differ");
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_takes_in_no_form_is_parked_at_once_and_says_what_to_enable() {
    let archive = Archive::start([], &["1.2.840.10008.1.2.4.50"]).await;
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["central"]).await;
    station.deliver_to("central", archive.route());
    let state = station.settled(id, "central").await;
    let DeliveryState::Parked { reason, .. } = state else { panic!("{state:?}") };
    assert!(reason.contains("Explicit VR Little Endian") && reason.contains("enable"), "{reason}");
    assert_eq!(archive.script.lock().unwrap().begun, 0, "nothing may be sent");
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_payload_never_leaves_and_the_next_instance_does() {
    let archive = Archive::start([], &[]).await;
    let mut station = Station::new();
    let (damaged, data) = station.keep(0, EXPLICIT, &["central"]).await;
    let (sound, _) = station.keep(1, EXPLICIT, &["central"]).await;
    flip_a_payload_byte(station.data.path());
    station.deliver_to("central", archive.route());
    assert!(is_delivered(&station.settled(sound, "central").await));
    let state = station.settled(damaged, "central").await;
    let DeliveryState::Parked { reason, .. } = state else { panic!("{state:?}") };
    assert!(reason.contains("send it again from the modality"), "{reason}");
    let arrived = archive.arrived();
    assert_eq!(arrived.len(), 1);
    assert!(arrived[0].2 != data);
    station.stop().await;
}

/// What a data set says, however it is encoded.
fn digest(data: &[u8], syntax: &str) -> ContentHash {
    let mut digest = Digest::new(transfer_syntax::describe(&uid(syntax)), Over::Elements);
    digest.feed(data).unwrap();
    digest.finish().unwrap()
}

/// Flips a bit in the payload of the first record, past its head and header.
fn flip_a_payload_byte(data: &Path) {
    use std::os::unix::fs::FileExt;
    let segment = std::fs::read_dir(data.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
    let mut byte = [0];
    let offset = 4096 + 2000;
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_away_holds_nobody_up_and_gets_everything_when_it_is_back() {
    let archive = Archive::start([], &[]).await;
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = away.local_addr().unwrap().port();
    drop(away);
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central", "second"]).await;
    let aet = "SECOND".parse().unwrap();
    let second = station.deliver_to("second", Route::Plain(DicomPeer { aet, host: "127.0.0.1".into(), port }));
    station.deliver_to("central", archive.route());
    assert!(is_delivered(&station.settled(id, "central").await));
    while second.health().failures < 3 {
        tokio::task::yield_now().await;
    }
    let health = second.health();
    assert!(health.last_failure.unwrap().sentence.contains("cannot connect to 127.0.0.1"), "it must say so");
    let Some(DeliveryState::Queued { attempts: 0, .. }) = station.state(id, "second") else { panic!("not queued") };

    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let script = Arc::new(Mutex::new(Script::default()));
    let serving = tokio::spawn({
        let script = Arc::clone(&script);
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, &script, &[]).await;
        }
    });
    assert!(is_delivered(&station.settled(id, "second").await));
    assert!(script.lock().unwrap().arrived[0].2 == data);
    station.stop().await;
    serving.await.unwrap();
}
