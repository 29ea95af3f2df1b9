//! Deliveries over a link that is cut in the middle of an instance, with the worker and an archive on its two sides.
//!
//! What the tests wait for are events: an instance begins to arrive, the worker says that nothing moves, all is delivered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use waystation::association::{AcceptorSettings, Decision, Indication, Preference, Timeouts, transport};
use waystation::clock;
use waystation::config::DicomPeer;
use waystation::dimse::{Response, Status};
use waystation::forward::open::Dialer;
use waystation::forward::reach::Limits;
use waystation::forward::{Coercions, Destination, Health, Route, Settings, run};
use waystation::metrics::Metrics;
use waystation::model::{DestinationName, Priority, Timestamp};
use waystation::retry::Backoff;
use waystation::spool::{InstanceHeader, Spool, SpoolOptions};

use super::link::outages::Outages;
use super::link::{FAR, Link};

const PORT: u16 = 11_113;
const INSTANCES: u64 = 12;
/// Bytes of each.
const SIZE: usize = 200_000;
const ASSOCIATIONS: usize = 3;

/// Data sets that have begun to arrive, and that have arrived whole.
#[derive(Debug, Clone, Copy, Default)]
struct Arrived {
    begun: u64,
    whole: u64,
}

fn name() -> DestinationName {
    "archive".parse().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Serves associations on the far side, for ever.
async fn archive(arrived: watch::Sender<Arrived>) {
    let listener = TcpListener::bind(SocketAddr::from((FAR, PORT))).await.unwrap();
    let arrived = Arc::new(arrived);
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve(stream, Arc::clone(&arrived)));
    }
}

async fn serve(stream: tokio::net::TcpStream, arrived: Arc<watch::Sender<Arrived>>) {
    stream.set_nodelay(true).unwrap();
    // As nearly all archives: with several outstanding, several would have left over each connection.
    let settings = AcceptorSettings { timeouts: Timeouts::default(), operations: 1, ..AcceptorSettings::default() };
    let decide = |request: &_| Decision::accept_storage(request, &Preference::default());
    let Ok(mut association) = transport::accept(stream, &settings, clock::of_runtime(), decide).await else { return };
    let mut store = None;
    while let Ok(indication) = association.next().await {
        match indication {
            Indication::Command { context, command } => {
                arrived.send_modify(|arrived| arrived.begun += 1);
                store = Some((context, command));
            }
            Indication::Data(_) => {}
            Indication::DataEnd => {
                let Some((context, command)) = store.take() else { return };
                arrived.send_modify(|arrived| arrived.whole += 1);
                // Whoever has asked may be gone.
                let _ = association.respond(context, &Response::to(&command, Status::SUCCESS)).await;
            }
            Indication::Response { .. } | Indication::Released => return,
        }
    }
}

fn settings(destination: &Destination) -> Settings {
    Settings {
        calling: "WAYSTATION".parse().unwrap(),
        dialer: Dialer::new(&[], Arc::clone(destination.wires())),
        // So long that whoever waits for it would not be done.
        backoff: Backoff { first: Duration::from_secs(3_600), cap: Duration::from_secs(3_600) },
        timeouts: Timeouts { association: Duration::from_secs(600), ..Timeouts::default() },
        associations: ASSOCIATIONS,
        tries: 3,
        patience: Duration::from_secs(600),
        verify_after: None,
        limits: Limits::default(),
        stands_in: None,
        coercions: Coercions::of(&[], &name(), &"WAYSTATION".parse().unwrap()),
        workshop: None,
    }
}

async fn keep(spool: &Spool, number: u64) {
    let mut incoming = spool.receive().unwrap();
    // Noise: it must be as long on the link as it is here.
    let mut noise = fastrand::Rng::with_seed(number);
    let data: Vec<u8> = (0..SIZE).map(|_| noise.u8(..)).collect();
    incoming.write(&data).unwrap();
    let header = InstanceHeader {
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        sop_instance_uid: format!("1.2.3.{number}").parse().unwrap(),
        study_instance_uid: Some("1.2".parse().unwrap()),
        series_instance_uid: Some("1.2.3".parse().unwrap()),
        transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
        calling_ae: "CT1".parse().unwrap(),
        called_ae: "WAYSTATION".parse().unwrap(),
        peer: None,
        received_at: Timestamp::from_millis(1),
        priority: Priority::Routine,
        modality: None,
        destinations: vec![name()],
        rule: None,
        withheld: false,
    };
    let (done, safe) = oneshot::channel();
    incoming.commit(header, Box::new(move |committed| drop(done.send(committed))));
    safe.await.unwrap().unwrap();
}

/// Delivers everything over a link that is cut once, when the fifth instance has begun to arrive, until the worker says
/// that nothing moves. Gives what is known in the end.
fn deliver(forget: bool) -> (Arrived, Health) {
    assert!(nix::unistd::geteuid().is_root(), "network namespaces and devices are made: run it as root");
    let hour = Duration::from_secs(3_600);
    let mut link = super::link::Settings::symmetric(2_000_000, Duration::from_millis(100), 0.0);
    link.outages = Some(Outages { up: hour, down: hour, forget });
    let link = Link::new(link).unwrap();
    link.open();
    let (arrived, mut seen) = watch::channel(Arrived::default());
    let (over, end) = (CancellationToken::new(), CancellationToken::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            link.far().enter(|| runtime().block_on(end.run_until_cancelled(archive(arrived)))).unwrap();
        });
        let near = || {
            runtime().block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let options = SpoolOptions { segment_size: 4 << 20, reserve: 0, ..SpoolOptions::default() };
                let (spool, _) = Spool::open(folder.path(), options, |reason| panic!("{reason}")).unwrap();
                for number in 0..INSTANCES {
                    keep(&spool, number).await;
                }
                let destination = Arc::new(Destination::new(name()));
                let (listener, queued) = (Arc::clone(&destination), Arc::new(tokio::sync::Notify::new()));
                let changed = Arc::clone(&queued);
                spool.on_queued(move |_| {
                    listener.queued();
                    changed.notify_one();
                });
                let peer = DicomPeer { aet: "ARCHIVE".parse().unwrap(), host: FAR.to_string(), port: PORT };
                let working = tokio::spawn(run(
                    Arc::clone(&destination),
                    Route::Plain(peer),
                    settings(&destination),
                    spool.clone(),
                    Metrics::new(),
                    over.clone(),
                ));
                seen.wait_for(|arrived| arrived.begun >= 5).await.unwrap();
                link.close();
                let mut changes = destination.changes();
                changes.wait_for(|health| health.stalled > 0).await.unwrap();
                link.open();
                while spool.status().unwrap().destinations[0].delivered.instances < INSTANCES {
                    queued.notified().await;
                }
                over.cancel();
                working.await.unwrap().unwrap();
                spool.close();
                destination.health()
            })
        };
        let health = link.near().enter(near).unwrap();
        end.cancel();
        (*seen.borrow(), health)
    })
}

#[test]
fn a_link_that_was_away_and_is_back_goes_on_with_the_same_connections_and_sends_nothing_twice() {
    let _alone = super::alone();
    let (arrived, health) = deliver(false);
    assert_eq!((arrived.whole, arrived.begun), (INSTANCES, INSTANCES), "{health:?}");
    assert_eq!((health.cuts.given_up, health.cuts.bytes, health.failures), (0, 0, 0), "{health:?}");
    assert!(health.interruptions > 0);
}

#[test]
fn connections_that_a_nat_has_forgotten_are_given_up_and_what_was_on_them_is_all_that_is_sent_twice() {
    let _alone = super::alone();
    let (arrived, health) = deliver(true);
    let cuts = health.cuts;
    assert!((1..=ASSOCIATIONS as u64).contains(&cuts.given_up) && cuts.broken == 0, "{health:?}");
    assert!(cuts.bytes > 0 && cuts.bytes <= cuts.given_up * (SIZE as u64 + 4_096), "{health:?}");
    assert!(arrived.begun <= INSTANCES + cuts.given_up, "{arrived:?} {health:?}");
    assert_eq!(health.failures, 0, "it was nobody's failure: {health:?}");
}
