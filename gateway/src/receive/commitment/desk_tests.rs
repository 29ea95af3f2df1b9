//! The desk in virtual time.

use std::time::{Duration, Instant};

use super::desk::{Desk, Full, HEAD_START, Limits, Newcomer};
use super::tests::{party, transaction};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), cap: Duration::from_secs(1_000) };

fn desk() -> (Arc<Desk>, Instant) {
    let limits = Limits { transactions: 4, of_modality: 3, references: 100 };
    (Arc::new(Desk::new(limits, BACKOFF)), clock::now())
}

/// Enters a request that is then ready, and gives its number.
fn ready(desk: &Arc<Desk>, transaction: &Transaction, now: Instant) -> u64 {
    let Newcomer::New(place) = desk.enter(transaction).unwrap() else { panic!("it is new") };
    let number = place.number();
    place.saved(now);
    desk.judged(number, true, now);
    number
}

#[test]
fn the_desk_takes_so_many_and_no_more() {
    let (desk, now) = desk();
    let full = |transaction: &Transaction| desk.enter(transaction).err();
    assert_eq!(full(&transaction(1, 101)), Some(Full::References(100)));
    for number in 1..=3 {
        ready(&desk, &transaction(number, 30), now);
    }
    assert_eq!(full(&transaction(4, 1)), Some(Full::OfModality(3)));
    let other = |number, count| Transaction { modality: party("us1"), ..transaction(number, count) };
    assert_eq!(full(&other(4, 11)), Some(Full::References(100)));
    ready(&desk, &other(4, 10), now);
    assert_eq!(full(&other(5, 1)), Some(Full::InAll(4)));
    desk.lease(&party("us1"), None, now, false).unwrap().done();
    assert!(full(&other(5, 10)).is_none());
}

/// What one look takes does not depend on how much waits, or this would take hours: every request of many is entered,
/// judged, asked for again, reported to whoever calls, fails once, and is given up or done.
#[test]
fn a_hundred_thousand_transactions_hold_up_nobody() {
    const MANY: u64 = 100_000;
    let most = usize::try_from(MANY).unwrap();
    let limits = Limits { transactions: most, of_modality: most, references: most };
    let (desk, start) = (Arc::new(Desk::new(limits, BACKOFF)), clock::now());
    let of = |number: u64| {
        let party =
            if number.is_multiple_of(2) { party("ct1") } else { Party::Anybody(format!("A{number}").parse().unwrap()) };
        Transaction { modality: party, called: format!("G{}", number % 3).parse().unwrap(), ..transaction(number, 1) }
    };
    desk.listens(&party("ct1"));
    for number in 0..MANY {
        let Newcomer::New(place) = desk.enter(&of(number)).unwrap() else { panic!("it is new") };
        place.saved(start);
        assert_eq!(desk.to_judge(start, 1).len(), 1);
        desk.judged(number + 1, true, start);
        assert!(matches!(desk.enter(&of(number)), Ok(Newcomer::Known)));
        assert_eq!(desk.next_look(|_| true), Some(start + HEAD_START));
        assert_eq!((desk.to_call(start, |_| true), desk.expire(SpoolTime(0), SECOND)), (Vec::new(), Vec::new()));
    }
    assert_eq!((desk.status().pending, desk.status().to_report), (MANY, MANY));
    let title = "G0".parse().unwrap();
    let mut leased = 0;
    while let Some(lease) = desk.lease(&party("ct1"), Some(&title), start, true) {
        lease.failed(start, false, "refused", 0.0);
        leased += 1;
    }
    assert_eq!(leased, MANY.div_ceil(6));
    while let Some(lease) = desk.lease(&party("ct1"), None, start, true) {
        lease.done();
        leased += 1;
    }
    assert_eq!(leased, MANY / 2);
    assert_eq!(desk.status().pending, MANY - MANY / 2 + MANY.div_ceil(6));
    desk.expire(SpoolTime(u64::MAX), SECOND);
    assert_eq!((desk.status().pending, desk.next_look(|_| true)), (0, None));
}

#[test]
fn a_place_that_is_not_saved_is_given_back() {
    let (desk, _) = desk();
    for _ in 0..10 {
        assert!(matches!(desk.enter(&transaction(1, 100)), Ok(Newcomer::New(_))));
    }
    assert_eq!(desk.status().pending, 0);
}

#[test]
fn the_same_request_again_is_known_and_another_with_its_transaction_uid_is_not() {
    let (desk, now) = desk();
    let Ok(Newcomer::New(place)) = desk.enter(&transaction(1, 5)) else { panic!("it is new") };
    assert!(matches!(desk.enter(&transaction(1, 5)), Ok(Newcomer::BeingSaved(number)) if number == place.number()));
    assert!(matches!(desk.enter(&transaction(1, 6)), Ok(Newcomer::Duplicate(_))));
    place.saved(now);
    assert!(matches!(desk.enter(&transaction(1, 5)), Ok(Newcomer::Known)));
    assert!(matches!(desk.enter(&transaction(1, 6)), Ok(Newcomer::Duplicate(_))));
    let of_another = Transaction { modality: party("us1"), ..transaction(1, 5) };
    assert!(matches!(desk.enter(&of_another), Ok(Newcomer::New(_))));
    desk.judged(1, true, now);
    desk.lease(&party("ct1"), None, now, false).unwrap().done();
    assert!(matches!(desk.enter(&transaction(1, 6)), Ok(Newcomer::New(_))), "free when it is reported");
}

#[test]
fn what_is_not_delivered_yet_is_judged_less_and_less_often() {
    let (desk, start) = desk();
    let Ok(Newcomer::New(place)) = desk.enter(&transaction(1, 5)) else { panic!("it is new") };
    place.saved(start);
    let (mut now, mut looks) = (start, 0);
    while now < start + 86_400 * SECOND {
        let due = desk.next_look(|_| true).unwrap();
        now = now.max(due);
        let [number] = desk.to_judge(now, 9)[..] else { panic!("one is due") };
        desk.judged(number, false, now);
        assert!(desk.to_judge(now, 9).is_empty());
        looks += 1;
    }
    assert!((86_400 / 60..86_400 / 60 + 100).contains(&looks), "{looks}");
    assert_eq!(desk.expire(SpoolTime(1 + 1_000), SECOND).len(), 1);
    assert_eq!(desk.next_look(|_| true), None);
}

#[test]
fn a_call_leaves_an_open_association_its_head_start_and_is_made_once_at_a_time() {
    let (desk, now) = desk();
    let ct = party("ct1");
    desk.listens(&ct);
    ready(&desk, &transaction(1, 5), now);
    ready(&desk, &transaction(2, 5), now);
    assert_eq!(desk.to_call(now, |_| true), []);
    assert_eq!(desk.next_look(|_| true), Some(now + HEAD_START));
    assert_eq!(desk.next_look(|_| false), None, "nobody can be called");
    assert_eq!(desk.to_call(now + HEAD_START, |_| false), []);
    desk.hangs_up(&ct);
    assert_eq!(desk.to_call(now, |_| true), std::slice::from_ref(&ct), "no association, no head start");
    assert_eq!(desk.to_call(now, |_| true), [], "it is being called");
    // Both are reported in one call, then there is nothing left to do.
    for _ in 0..2 {
        desk.lease(&ct, None, now, false).unwrap().done();
    }
    assert!(desk.lease(&ct, None, now, false).is_none());
    desk.called(&ct, now, None, 0.5);
    assert_eq!((desk.next_look(|_| true), desk.status().pending), (None, 0));
}

#[test]
fn a_modality_that_cannot_be_reached_is_called_less_and_less_often_and_holds_up_no_other() {
    let (desk, start) = desk();
    let (ct, us) = (party("ct1"), party("us1"));
    ready(&desk, &transaction(1, 5), start);
    let (mut now, mut calls) = (start, 0);
    while now < start + 86_400 * SECOND {
        now = desk.next_look(|_| true).unwrap().max(now);
        assert_eq!(desk.to_call(now, |_| true), std::slice::from_ref(&ct));
        desk.called(&ct, now, Some("it is off".to_owned()), 1.0);
        calls += 1;
    }
    assert!((80..120).contains(&calls), "{calls}");
    assert_eq!(desk.status().failures[&ct], "it is off");
    ready(&desk, &Transaction { modality: us.clone(), ..transaction(2, 5) }, now);
    assert_eq!(desk.to_call(now, |_| true), [us]);
    // An association of its own is another matter: there it is told at once, and is well again.
    desk.lease(&ct, None, now, true).unwrap().done();
    assert!(!desk.status().failures.contains_key(&ct));
}

#[test]
fn a_report_that_fails_comes_again_later() {
    let (desk, now) = desk();
    let ct = party("ct1");
    ready(&desk, &transaction(1, 5), now);
    desk.lease(&ct, None, now, false).unwrap().failed(now, false, "refused", 0.0);
    assert!(desk.lease(&ct, None, now, false).is_none());
    let lease = desk.lease(&ct, None, now + BACKOFF.first, false).unwrap();
    assert!(desk.lease(&ct, None, now + BACKOFF.first, false).is_none(), "it is being reported");
    assert_eq!(desk.expire(SpoolTime(u64::MAX), SECOND), [], "and not given up meanwhile");
    drop(lease);
    assert_eq!(desk.status().to_report, 1, "a lease that is dropped comes back");
}

#[tokio::test]
async fn a_modality_that_did_not_answer_on_its_own_association_is_called_if_it_can_be() {
    let (desk, now) = desk();
    let ct = party("ct1");
    desk.listens(&ct);
    ready(&desk, &transaction(1, 5), now);
    let lease = desk.on_own_association(&ct, || true).await;
    lease.failed(now, true, "no answer", 0.0);
    assert_eq!(desk.to_call(now, |_| true), std::slice::from_ref(&ct), "at once, and without a head start");
    let waits = tokio::time::timeout(Duration::from_millis(20), desk.on_own_association(&ct, || true)).await;
    assert!(waits.is_err(), "its own association is left alone");
    let lease = desk.on_own_association(&ct, || false).await;
    assert_eq!(lease.number(), 1, "unless there is no other way");
}

/// `commitment-to` is taken away by a reload while an association waits that is not told anything as long as there is
/// another way.
#[tokio::test]
async fn what_a_reload_changes_is_seen_by_who_waits_already() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (desk, now) = desk();
    let ct = party("ct1");
    desk.listens(&ct);
    ready(&desk, &transaction(1, 5), now);
    desk.on_own_association(&ct, || true).await.failed(now, true, "no answer", 0.0);
    let is_reachable = AtomicBool::new(true);
    let reload = async {
        tokio::task::yield_now().await;
        is_reachable.store(false, Ordering::Relaxed);
        desk.nudge_everybody();
    };
    let waiting = desk.on_own_association(&ct, || is_reachable.load(Ordering::Relaxed));
    let (lease, ()) = tokio::join!(waiting, reload);
    assert_eq!(lease.number(), 1);
}

/// Several associations of one modality: who comes too late for one report waits for the next, and for nothing else.
#[tokio::test]
async fn associations_that_wait_for_the_same_report_get_the_next_one() {
    let (desk, now) = desk();
    let ct = party("ct1");
    for number in 1..=2 {
        ready(&desk, &transaction(number, 5), now);
    }
    let (first, second) = tokio::join!(desk.on_own_association(&ct, || false), desk.on_own_association(&ct, || false));
    assert_eq!((first.number(), second.number()), (1, 2));
    first.done();
    let third = async {
        tokio::task::yield_now().await;
        ready(&desk, &transaction(3, 5), now);
    };
    let (lease, ()) = tokio::join!(desk.on_own_association(&ct, || false), third);
    assert_eq!(lease.number(), 3);
}
