//! A month without an archive, in virtual time.

use super::*;

const MONTH: Duration = Duration::from_secs(30 * 86_400);
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), cap: Duration::from_secs(15 * 60) };

/// The worker runs as it does in a clinic, on the runtime's clock, which jumps to the next timer whenever all wait. While
/// the archive is away its port refuses connections. Nothing here depends on how long anything really takes.
#[tokio::test(start_paused = true)]
async fn an_archive_that_was_away_for_a_month_gets_everything_and_was_called_at_a_bounded_rate() {
    in_small_steps();
    let mut station = Station::new();
    let mut kept = Vec::new();
    for slice in 0..20 {
        kept.push(station.keep(slice, EXPLICIT, &["central"]).await);
    }
    station.spool.settle().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let route = Route::Plain(DicomPeer { aet: "ARCHIVE".parse().unwrap(), host: "127.0.0.1".into(), port });
    let began = clock::of_runtime();
    let destination = station.deliver_with("central", route, |settings| {
        settings.backoff = BACKOFF;
        settings.patience = Duration::from_secs(3_600);
    });

    let (mut failures, mut last, mut longest) = (0, began, Duration::ZERO);
    let mut changes = destination.changes();
    while clock::of_runtime() - began < MONTH {
        changes.changed().await.unwrap();
        let health = destination.health();
        if health.failures > failures {
            let now = clock::of_runtime();
            longest = longest.max(now - last);
            (failures, last) = (health.failures, now);
        }
    }
    // Every delay is at least the shortest, and no two calls are further apart than the longest: neither a storm nor an
    // end. Half of the longest is the mean, so this is far from what the bounds allow.
    assert!((2_880..20_000).contains(&failures), "{failures} calls in a month");
    assert!(longest <= BACKOFF.cap + Duration::from_secs(10), "{longest:?} without a call");
    // Whether it can be reached was looked at more often, four times a minute at most, and for a packet or two each time.
    let looks = destination.health().looks;
    // How much more rarely is up to the machine: virtual time goes on while it works.
    assert!((u64::from(failures)..175_000).contains(&looks), "{looks} looks in a month");
    let status = station.spool.status().unwrap();
    assert_eq!(status.destinations[0].queued.instances, kept.len() as u64, "it waits as it did on the first day");

    let archive = Archive::on(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), Script::default(), &[]);
    for (id, _) in &kept {
        let state = station.settled(*id, "central").await;
        assert!(is_delivered(&state), "{state:?}");
    }
    let arrived: Vec<Vec<u8>> = archive.arrived().into_iter().map(|(_, _, data)| data).collect();
    assert!(kept.iter().all(|(_, data)| arrived.contains(data)));
    station.stop().await;
}

/// Nobody waits for the end of a long delay when the destination can be reached again.
#[tokio::test(start_paused = true)]
async fn an_archive_that_can_be_reached_again_is_called_at_once() {
    in_small_steps();
    let mut station = Station::new();
    let (id, _) = station.keep(0, EXPLICIT, &["central"]).await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let route = Route::Plain(DicomPeer { aet: "ARCHIVE".parse().unwrap(), host: "127.0.0.1".into(), port });
    let month = Backoff { first: MONTH, cap: MONTH };
    let destination = station.deliver_with("central", route, |settings| {
        settings.backoff = month;
        settings.patience = Duration::from_secs(3_600);
    });
    let mut changes = destination.changes();
    while destination.health().looks < 100 {
        changes.changed().await.unwrap();
    }
    assert_eq!(destination.health().failures, 1);
    let began = clock::of_runtime();
    let _archive = Archive::on(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), Script::default(), &[]);
    assert!(is_delivered(&station.settled(id, "central").await));
    // How much later it is, is up to the disk, which virtual time does not wait for.
    assert!(clock::of_runtime() - began < MONTH / 10, "{:?}", clock::of_runtime() - began);
    assert_eq!(destination.health().failures, 0);
    station.stop().await;
}

/// A link that comes up is no reason to call an archive that refuses us.
#[tokio::test(start_paused = true)]
async fn a_link_that_comes_up_hastens_nobody_who_could_be_reached() {
    in_small_steps();
    let archive = Archive::start(vec![Act::Reject(Rejection::LOCAL_LIMIT_EXCEEDED); 1_000], &[]).await;
    let mut station = Station::new();
    station.keep(0, EXPLICIT, &["central"]).await;
    let refusing = station.deliver_with("central", archive.route(), |settings| {
        let week = Duration::from_secs(7 * 86_400);
        settings.backoff = Backoff { first: week, cap: week };
        settings.patience = Duration::from_secs(3_600);
    });
    let mut changes = refusing.changes();
    changes.wait_for(|health| health.next_attempt.is_some()).await.unwrap();
    refusing.link_may_be_back();
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!((refusing.health().failures, refusing.health().looks), (1, 0));
    refusing.hasten();
    changes.wait_for(|health| health.failures == 2).await.unwrap();
    station.stop().await;
}

/// An archive that answers and takes nothing is called as rarely, however many instances wait for it.
#[test]
fn an_archive_that_is_out_of_resources_for_a_month_is_offered_something_at_a_bounded_rate() {
    use crate::forward::circuit::{Circuit, Failure};

    let mut circuit = Circuit::new(BACKOFF);
    let began = clock::now();
    let (mut now, mut offers) = (began, 0u32);
    while now - began < MONTH {
        offers += 1;
        let failure = Failure { at: Timestamp::from_millis(0), sentence: "A700".into() };
        circuit.stumbled(now, f64::from(offers % 10) / 10.0, failure);
        now = circuit.closed_before(now).unwrap();
    }
    // 40 seconds at most between two offers, five at least.
    assert!((64_800..250_000).contains(&offers), "{offers} offers in a month");
}
