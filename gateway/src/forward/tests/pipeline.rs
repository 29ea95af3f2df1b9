//! Several C-STORE on one association without waiting for the answers in between.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::forward::courier::Bench;
use crate::forward::pipeline::{may_begin, together};
use crate::spool::{Claim, Classes};

/// An archive that lets four operations be outstanding.
async fn archive(acts: impl IntoIterator<Item = Act>) -> Archive {
    Archive::with(Script { operations: 4, acts: acts.into_iter().collect(), ..Script::default() }, &[]).await
}

/// How often each of these slices has arrived whole.
fn arrivals<const N: usize>(archive: &Archive, slices: [u32; N]) -> [usize; N] {
    let arrived = archive.arrived();
    slices.map(|slice| {
        let instance = Phantom::small(100).file_meta(slice).unwrap().sop_instance_uid;
        arrived.iter().filter(|(uid, ..)| *uid == instance).count()
    })
}

/// Keeps so many, and waits until all are in the queue: what goes together is looked at once.
async fn keep(station: &Station, slices: u32) -> Vec<InstanceId> {
    let kept = station.keep_slices(slices).await;
    station.spool.settle().unwrap();
    kept
}

async fn attempts(station: &Station, kept: &[InstanceId]) -> Vec<u32> {
    let mut all = vec![];
    for id in kept {
        let state = station.settled(*id, "central").await;
        let DeliveryState::Delivered { attempts, .. } = state else { panic!("{state:?}") };
        all.push(attempts);
    }
    all
}

/// The second and the third are answered behind the fourth: with one at a time that would never be.
#[tokio::test(flavor = "multi_thread")]
async fn instances_follow_each_other_before_they_are_answered_in_any_order() {
    let acts = [Act::Answer(0), Act::AnswerBehindTheNext, Act::AnswerBehindTheNext, Act::Answer(0xB000)];
    let archive = archive(acts).await;
    let mut station = Station::new();
    let kept = keep(&station, 9).await;
    let destination = station.deliver_to("central", archive.route());
    assert_eq!(attempts(&station, &kept).await, [1; 9]);
    assert_eq!(arrivals(&archive, [0, 1, 2, 3, 4, 5, 6, 7, 8]), [1; 9]);
    let DeliveryState::Delivered { answer, .. } = station.settled(kept[3], "central").await else { panic!() };
    assert!(answer.starts_with("B000"), "{answer}");
    assert_eq!(archive.script.lock().unwrap().windows, [Some((4, 1))]);
    let health = destination.health();
    assert_eq!((health.sending, health.sending_bytes, health.failures), (0, 0, 0));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_a_break_is_delivered_and_the_others_go_again_at_once() {
    let archive = archive([Act::Answer(0), Act::Answer(0), Act::Forget]).await;
    let mut station = Station::new();
    let kept = keep(&station, 4).await;
    let destination = station.deliver_to("central", archive.route());
    // The fourth had begun by then, or not.
    assert_eq!(attempts(&station, &kept).await[..3], [1, 1, 2]);
    // The archive has taken the third one before it left without an answer.
    assert_eq!(arrivals(&archive, [0, 1, 2, 3]), [1, 1, 2, 1]);
    assert!(destination.health().last_failure.is_none());
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_were_under_way_when_an_association_broke_go_again_at_once_and_alone() {
    let archive = archive([Act::Answer(0), Act::AbortMidway]).await;
    let mut station = Station::new();
    let kept = keep(&station, 9).await;
    let destination = station.deliver_to("central", archive.route());
    let attempts = attempts(&station, &kept).await;
    assert_eq!(attempts[..2], [1, 2]);
    assert!(attempts.iter().all(|attempts| *attempts <= 2), "{attempts:?}");
    assert_eq!(arrivals(&archive, [0, 1, 2, 3, 4, 5, 6, 7, 8]), [1; 9]);
    assert!(destination.health().last_failure.is_none());
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_answer_that_belongs_to_none_of_them_one_at_a_time_is_asked_for() {
    let archive = archive([Act::Answer(0), Act::AnswerBehindTheNext, Act::AnswerAnother]).await;
    let mut station = Station::new();
    let kept = keep(&station, 4).await;
    station.deliver_to("central", archive.route());
    assert_eq!(attempts(&station, &kept).await[..3], [1, 2, 2]);
    let windows = archive.script.lock().unwrap().windows.clone();
    assert_eq!(windows, [Some((4, 1)), None]);
    station.stop().await;
}

/// There are peers that do not get on with a sub-item that they do not know.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_does_not_bear_the_window_has_not_failed_and_gets_several_associations_without_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(Mutex::new(Script::default()));
    let serving = tokio::spawn({
        let script = Arc::clone(&script);
        async move {
            let mut asked = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut request, mut length, mut whole) = ([0; 4096], 0, 6);
                while length < whole {
                    length = stream.peek(&mut request).await.unwrap();
                    whole = 6 + usize::from(u16::from_be_bytes([request[4], request[5]]));
                }
                if request.windows(4).any(|bytes| bytes == [0x53, 0, 0, 4]) {
                    stream.read_exact(&mut request[..whole]).await.unwrap();
                    asked += 1;
                    // By A-ABORT, or without a word.
                    if asked == 1 {
                        stream.write_all(&[7, 0, 0, 0, 0, 4, 0, 0, 2, 4]).await.unwrap();
                    }
                } else {
                    let script = Arc::clone(&script);
                    tokio::spawn(async move { serve(stream, &script, &[]).await });
                }
            }
        }
    });
    let mut station = Station::new();
    let kept = keep(&station, 9).await;
    let route = Route::Plain(DicomPeer { aet: "ARCHIVE".parse().unwrap(), host: "127.0.0.1".into(), port });
    let destination = station.deliver_with("central", route, |settings| settings.associations = 4);
    assert_eq!(attempts(&station, &kept).await, [1; 9]);
    assert!(destination.health().last_failure.is_none() && !destination.bears_several(clock::of_runtime()));
    station.stop().await;
    serving.abort();
}

/// What is outstanding by then is answered; the archive is left in peace with what waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_out_of_resources_gets_nothing_more_for_a_while() {
    let archive = archive([Act::Answer(0), Act::Answer(0), Act::Answer(0xA700), Act::Answer(0xA700)]).await;
    let mut station = Station::new();
    let kept = keep(&station, 9).await;
    let destination = station.deliver_to("central", archive.route());
    let answer = |state: &DeliveryState| matches!(state, DeliveryState::Queued { attempts: 1, .. });
    station.such_that(kept[2], "central", answer).await;
    while destination.health().last_failure.is_none() {
        tokio::task::yield_now().await;
    }
    let mut all = vec![];
    for id in &kept {
        let DeliveryState::Delivered { attempts, .. } = station.settled(*id, "central").await else { panic!() };
        all.push(attempts);
    }
    assert!(all[2] > 1 && all.iter().filter(|attempts| **attempts > 1).count() <= 3, "{all:?}");
    station.stop().await;
}

/// Two answers with each other's message ID: nobody knows which of the two was refused.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_mixed_up_count_for_none() {
    let archive = archive([Act::Answer(0), Act::AnswerBehindTheNext, Act::AnswerMixedUp]).await;
    let mut station = Station::new();
    let kept = keep(&station, 4).await;
    let destination = station.deliver_to("central", archive.route());
    assert_eq!(attempts(&station, &kept).await[0], 1);
    assert!(!destination.bears_several(clock::of_runtime()));
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_several_associations_that_break_nothing_is_lost() {
    let acts = vec![Act::AbortMidway; 6].into();
    let archive = Archive::with(Script { operations: 4, at_a_time: 8, acts, ..Script::default() }, &[]).await;
    let mut station = Station::new();
    let kept = keep(&station, 60).await;
    let destination = station.deliver_with("central", archive.route(), |settings| settings.associations = 4);
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    assert_eq!(destination.health().failures, 0);
    let uids: std::collections::HashSet<_> = archive.arrived().into_iter().map(|(uid, ..)| uid).collect();
    assert_eq!(uids.len(), 60);
    station.stop().await;
}

/// Flips a bit in the payload of this slice, half-way to the record of the next one.
fn damage(station: &Station, slice: u32) {
    let instance = |slice| Phantom::small(100).file_meta(slice).unwrap().sop_instance_uid;
    for entry in std::fs::read_dir(station.data.path().join("log")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(mut segment) = std::fs::read(&path) else { continue };
        let place = |slice| {
            let uid = instance(slice);
            segment.windows(uid.as_str().len()).position(|bytes| bytes == uid.as_str().as_bytes())
        };
        if let (Some(own), Some(next)) = (place(slice), place(slice + 1)) {
            segment[usize::midpoint(own, next)] ^= 0x10;
            return std::fs::write(path, segment).unwrap();
        }
    }
    panic!("it is in no segment");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_damaged_on_this_disk_is_no_failure_of_those_before_and_behind_it() {
    let archive = archive([]).await;
    let mut station = Station::new();
    let kept = keep(&station, 4).await;
    damage(&station, 2);
    let destination = station.deliver_to("central", archive.route());
    let state = station.settled(kept[2], "central").await;
    assert!(matches!(state, DeliveryState::Parked { attempts: 1, .. }), "{state:?}");
    // The one before it was on the association that had to be aborted, and was answered.
    assert_eq!(attempts(&station, &[kept[0], kept[1], kept[3]]).await, [1; 3]);
    assert!(destination.health().last_failure.is_none());
    station.stop().await;
}

async fn claims(station: &Station, kept: &[(&str, Priority)]) -> Vec<Claim> {
    for (instance, priority) in kept {
        station.keep_as(instance.as_bytes(), uid(instance), ("1.2", *priority), EXPLICIT, &["central"]).await;
    }
    let (spool, central) = (&station.spool, name("central"));
    spool.settle().unwrap();
    tokio::task::block_in_place(|| spool.claim(&central, spool.time(), 16, Classes::All)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_of_one_class_and_fits_goes_together() {
    let (stat, routine) = (Priority::Stat, Priority::Routine);
    let station = Station::new();
    let kept = [("1.3.1", stat), ("1.3.2", stat), ("1.3.3", routine), ("1.3.4", routine), ("1.3.5", routine)];
    let mut claims = claims(&station, &kept).await;
    let count = |claims: &[Claim]| together(claims, 4, |_| true);
    assert_eq!((count(&claims), count(&claims[2..]), count(&[])), (2, 3, 0));
    assert_eq!(together(&claims[2..], 1, |_| true), 1);
    assert_eq!(together(&claims[2..], 4, |claim| claim.id != claims[3].id), 1, "no gap");
    assert_eq!(together(&claims[2..], 4, |_| false), 1, "the first goes in any case");
    claims[4].attempts = 1;
    assert_eq!((count(&claims[2..]), count(&claims[4..])), (2, 1), "what has failed goes alone");
    claims[3].length = 8 << 20;
    assert_eq!(count(&claims[2..]), 1, "what is large");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_behind_others_once_something_urgent_waits_or_the_gateway_stops() {
    let station = Station::new();
    let routine = claims(&station, &[("1.3.1", Priority::Routine)]).await;
    let bench = Bench {
        destination: Arc::new(Destination::new(name("central"))),
        settings: settings(),
        spool: station.spool.clone(),
        shutdown: station.shutdown.clone(),
    };
    assert!(may_begin(&routine[0], &bench));
    let urgent = claims(&station, &[("1.3.2", Priority::Stat)]).await;
    assert!(may_begin(&routine[0], &bench), "what is claimed waits no longer");
    drop(claims(&station, &[("1.3.3", Priority::Stat)]).await);
    assert!(!may_begin(&routine[0], &bench) && may_begin(&urgent[0], &bench));
    station.shutdown.cancel();
    assert!(!may_begin(&urgent[0], &bench));
}
