//! Several associations with one archive at the same time.

use super::*;
use crate::forward::pace::Pace;
use crate::shaping::{Rate, Shaping};

/// An archive that has so many associations at the same time and rejects one more.
async fn archive(at_a_time: usize, acts: impl IntoIterator<Item = Act>) -> Archive {
    Archive::with(Script { at_a_time, acts: acts.into_iter().collect(), ..Script::default() }, &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_over_which_the_archive_takes_long_does_not_hold_up_the_others() {
    let told = Arc::new(Notify::new());
    let archive = archive(8, [Act::Answer(0x0000), Act::AnswerWhen(Arc::clone(&told))]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(12).await;
    let destination = station.deliver_with("central", archive.route(), |settings| settings.associations = 4);
    let changed = Arc::new(Notify::new());
    let listener = Arc::clone(&changed);
    station.spool.on_queued(move |_| listener.notify_one());
    while station.spool.status().unwrap().destinations[0].delivered.instances < 11 {
        changed.notified().await;
    }
    assert!(destination.health().associations >= 1);
    told.notify_one();
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    let most = archive.script.lock().unwrap().most_open;
    assert!((2..=4).contains(&most), "{most}");
    station.stop().await;
}

/// Also where nothing is made smaller, so that nobody looks at the queue for another reason.
#[tokio::test(flavor = "multi_thread")]
async fn beside_associations_that_do_not_move_although_the_link_is_there_others_are_opened() {
    let told = Arc::new(Notify::new());
    let archive = archive(8, vec![Act::AnswerWhen(Arc::clone(&told)); 8]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(8).await;
    let destination = station.deliver_with("central", archive.route(), |settings| settings.associations = 8);
    let on_their_way = async |count| {
        while destination.health().sending < count {
            tokio::task::yield_now().await;
        }
    };
    on_their_way(4).await;
    destination.show(|health| health.in_grace = 2);
    destination.queued();
    on_their_way(6).await;
    for id in kept {
        while !station.state(id, "central").is_some_and(|state| is_delivered(&state)) {
            told.notify_waiters();
            tokio::task::yield_now().await;
        }
    }
    station.stop().await;
}

/// Together they would all be there late, and a cut would cost all of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_fills_the_link_for_long_is_followed_by_the_next_when_it_has_nearly_left() {
    let archive = archive(8, []).await;
    let mut station = Station::new();
    let kept = station.keep_slices(4).await;
    station.spool.settle().unwrap();
    // Each takes two seconds and a half.
    let pace = Arc::new(Pace::default());
    assert!(pace.reshape(Shaping { most: Some(Rate::of_bits(30_000)), ..Shaping::default() }));
    pace.follow(jiff::civil::date(2026, 11, 2).at(12, 0, 0, 0), clock::of_runtime());
    let destination = Arc::new(Destination::paced(name("central"), pace));
    let dialer = Dialer::new(&[], Arc::clone(destination.wires()));
    station.work(&destination, archive.route(), Settings { dialer, associations: 8, ..settings() });
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    let answered: Vec<usize> = archive.script.lock().unwrap().starts.iter().map(|(_, answered)| *answered).collect();
    assert_eq!(answered.len(), 4);
    assert!(answered[3] > 0, "{answered:?} had been answered when each of them began");
    station.stop().await;
}

/// Many archives have a limit on associations, and some take one at a time and let the next one wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_takes_no_second_association_gets_everything_over_one_and_is_in_no_trouble() {
    for at_a_time in [0, 1] {
        let archive = archive(at_a_time, []).await;
        let mut station = Station::new();
        let kept = station.keep_slices(12).await;
        let destination = station.deliver_with("central", archive.route(), |settings| settings.associations = 4);
        for id in kept {
            assert!(is_delivered(&station.settled(id, "central").await));
        }
        assert!(destination.health().last_failure.is_none(), "{at_a_time}");
        assert_eq!(archive.script.lock().unwrap().most_open, 1, "{at_a_time}");
        station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn associations_that_break_close_nothing_and_nothing_arrives_twice() {
    let archive = archive(8, vec![Act::AbortMidway; 6]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(20).await;
    let destination = station.deliver_with("central", archive.route(), |settings| settings.associations = 4);
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    assert_eq!(destination.health().failures, 0);
    assert_eq!(archive.arrived().len(), 20, "none of them twice");
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_when_the_gateway_stops() {
    let told = Arc::new(Notify::new());
    let wait = || Act::AnswerWhen(Arc::clone(&told));
    let archive = archive(8, [Act::Answer(0x0000), wait(), wait()]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(3).await;
    let destination = station.deliver_with("central", archive.route(), |settings| settings.associations = 4);
    let mut changes = destination.changes();
    while changes.borrow_and_update().sending < 2 {
        changes.changed().await.unwrap();
    }
    while archive.arrived().len() < 3 {
        tokio::task::yield_now().await;
    }
    station.shutdown.cancel();
    let telling = tokio::spawn(async move {
        loop {
            told.notify_one();
            tokio::task::yield_now().await;
        }
    });
    for worker in std::mem::take(&mut station.workers) {
        worker.await.unwrap();
    }
    telling.abort();
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
}

/// After a failure that is the archive's nothing is believed that stood before: one association answers a question and
/// carries an instance before there is another one.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_one_association_proves_itself_before_there_are_several_again() {
    let first = archive(8, vec![Act::Answer(0x0000); 8]).await;
    let mut station = Station::new();
    let mut kept = station.keep_slices(8).await;
    let destination = station.deliver_with("central", first.route(), |settings| settings.associations = 4);
    for id in kept.drain(..) {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    let port = first.port;
    first.script.lock().unwrap().acts = vec![Act::Forget; 8].into();
    drop(first);
    for slice in 8..20 {
        kept.push(station.keep(slice, EXPLICIT, &["central"]).await.0);
    }
    let mut changes = destination.changes();
    // One that is being opened might still be accepted, and counts for the archive until it hears that nobody wants it.
    changes.wait_for(|health| health.failures > 0 && health.associations == 0).await.unwrap();
    let acts = [Act::Reject(Rejection::LOCAL_LIMIT_EXCEEDED)].into();
    let script = Script { at_a_time: 8, acts, ..Script::default() };
    let second = Archive::on(TcpListener::bind(("127.0.0.1", port)).await.unwrap(), script, &[]);
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    assert_eq!(second.script.lock().unwrap().at_first_start, Some((1, 1)), "associations, answers to C-ECHO");
    station.stop().await;
}

/// What was wrong was the way there: an association that stands shows that it is back.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_archive_could_only_not_be_reached_it_is_not_asked_whether_it_works() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = nobody.local_addr().unwrap();
    let first = Archive::on(nobody, Script::default(), &[]);
    let route = first.route();
    drop(first);
    let mut station = Station::new();
    let kept = station.keep_slices(12).await;
    let destination = station.deliver_with("central", route, |settings| settings.associations = 4);
    let mut changes = destination.changes();
    changes.wait_for(|health| health.failures > 0).await.unwrap();
    let script = Script { at_a_time: 8, ..Script::default() };
    let second = Archive::on(TcpListener::bind(here).await.unwrap(), script, &[]);
    for id in kept {
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    assert_eq!(second.script.lock().unwrap().at_first_start, Some((1, 0)), "associations, answers to C-ECHO");
    assert_eq!(destination.health().failures, 0);
    station.stop().await;
}

/// One that waits is worth one association, and one that is being opened is no reason to look again and again.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_associations_are_opened_than_instances_wait() {
    let told = Arc::new(Notify::new());
    let archive = archive(8, [Act::AnswerWhen(Arc::clone(&told)), Act::AnswerWhen(Arc::clone(&told))]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(2).await;
    station.deliver_with("central", archive.route(), |settings| settings.associations = 8);
    while archive.arrived().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(archive.script.lock().unwrap().most_open, 2);
    told.notify_one();
    told.notify_one();
    for id in kept {
        told.notify_one();
        assert!(is_delivered(&station.settled(id, "central").await));
    }
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_before_the_gateway_stopped_is_in_the_ledger() {
    let archive = archive(0, [Act::Answer(0x0000), Act::Forget, Act::Silence]).await;
    let mut station = Station::new();
    let kept = station.keep_slices(2).await;
    let destination = station.deliver_to("central", archive.route());
    let mut changes = destination.changes();
    while archive.arrived().len() < 2 {
        tokio::task::yield_now().await;
    }
    // It went over the association that had carried the first one, and so another one is asked for.
    changes.wait_for(|health| health.activity == Activity::Connecting).await.unwrap();
    station.shutdown.cancel();
    for worker in std::mem::take(&mut station.workers) {
        worker.await.unwrap();
    }
    station.spool.settle().unwrap();
    let lines = station.spool.ledger(kept[1]).unwrap();
    let told = lines.iter().any(|line| matches!(&line.entry, Some(Entry::Attempted(attempted)) if attempted.bytes > 0));
    assert!(told, "{lines:?}");
}
