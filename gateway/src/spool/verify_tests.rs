//! What is asked after a delivery, and that nothing is freed before the answer.

use std::time::Duration;

use super::record::tests::header;
use super::tests::{central, open, open_with, options, read, receive, until, wait_for};
use super::*;
use crate::durable::memory::MemoryDisk;
use crate::ledger::Method;

/// Delivers everything that waits; it has to be asked about after `verify`.
fn deliver(spool: &Spool, verify: Option<Duration>) {
    for claim in spool.claim(&central(), spool.time(), usize::MAX, Classes::All).unwrap() {
        spool.record(claim, Attempt::default(), Outcome::Delivered { answer: "0000".into(), verify });
    }
    until(|| spool.status().unwrap().destinations[0].queued.instances == 0);
}

fn state(spool: &Spool, id: u64) -> DeliveryState {
    spool.instances(Some(InstanceId(id - 1)), 1).unwrap().remove(0).deliveries.remove(0).state
}

fn unverified(spool: &Spool) -> Vec<Unverified> {
    spool.claim_unverified(&central(), spool.time(), 9).unwrap()
}

fn counts(spool: &Spool) -> [u64; 4] {
    let central = spool.status().unwrap().destinations.remove(0);
    [central.queued, central.delivered, central.unverified, central.confirmed].map(|tally| tally.instances)
}

/// A report that names no transaction that is known.
fn report(uids: impl IntoIterator<Item = Uid>, verification: &Verification) -> Vec<Reported> {
    let said = |instance| Reported { instance, attempt: None, verification: verification.clone() };
    uids.into_iter().map(said).collect()
}

fn confirmed() -> Verification {
    Verification::Confirmed { answer: "committed".into() }
}

#[test]
fn what_has_to_be_confirmed_is_kept_until_it_is_and_what_is_missing_is_delivered_again() {
    let (spool, ..) = open_with(&MemoryDisk::new(), SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    for number in 1..=3 {
        receive(&spool, header(number), b"content").unwrap();
    }
    wait_for(&spool, 3);
    deliver(&spool, Some(Duration::ZERO));
    spool.tend();
    assert_eq!((counts(&spool), spool.status().unwrap().log.freed), ([0, 3, 3, 0], 0));
    let [first, second, third] = unverified(&spool).try_into().unwrap();
    assert_eq!((first.id.0, &first.sop_instance_uid, first.tries), (1, &header(1).sop_instance_uid, 0));
    assert!(unverified(&spool).is_empty(), "they are claimed");
    spool.verified(first, Method::CFind, confirmed());
    spool.verified(second, Method::CFind, Verification::Missing { answer: "no such object".into() });
    drop(third);
    until(|| counts(&spool) == [1, 2, 1, 1]);
    let DeliveryState::Confirmed { attempts: 1, answer, tries: 1, confirmation, .. } = state(&spool, 1) else {
        panic!()
    };
    assert_eq!((&answer[..], &confirmation[..]), ("0000", "committed"));
    let DeliveryState::Queued { attempts: 1, last_answer: Some(answer), .. } = state(&spool, 2) else { panic!() };
    assert_eq!(answer, "no such object");
    spool.tend();
    assert!(matches!(spool.read(InstanceId(1)), Err(SpoolError::Freed(_))));
    assert!(read(&spool, InstanceId(2)).is_ok() && read(&spool, InstanceId(3)).is_ok());
    deliver(&spool, None);
    spool.tend();
    let DeliveryState::Delivered { attempts: 2, verifying: None, .. } = state(&spool, 2) else { panic!() };
    assert!(matches!(spool.read(InstanceId(2)), Err(SpoolError::Freed(_))), "nothing has to be asked");
}

#[test]
fn asking_is_put_off_and_survives_a_restart() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    receive(&spool, header(1), b"content").unwrap();
    wait_for(&spool, 1);
    let before = spool.time();
    deliver(&spool, Some(Duration::from_secs(3_600)));
    assert!(unverified(&spool).is_empty(), "not before its time");
    let due = spool.next_unverified_due(&central()).unwrap().unwrap();
    assert!(due >= before.after(Duration::from_secs(3_600)));
    let claim = spool.claim_unverified(&central(), due, 9).unwrap().remove(0);
    assert_eq!(spool.next_unverified_due(&central()).unwrap(), None, "it is claimed");
    spool.verified(
        claim,
        Method::CFind,
        Verification::Later { after: Duration::ZERO, answer: "no association".into() },
    );
    until(|| spool.next_unverified_due(&central()).unwrap().is_some());
    spool.close();
    let (spool, ..) = open(&disk);
    let DeliveryState::Delivered { verifying: Some(verifying), .. } = state(&spool, 1) else { panic!() };
    assert_eq!((verifying.tries, verifying.last_answer.as_deref()), (1, Some("no association")));
    assert_eq!(unverified(&spool).remove(0).tries, 1);
}

#[test]
fn a_report_that_comes_by_itself_applies_to_what_it_names_and_to_nothing_else() {
    let (spool, ..) = open(&MemoryDisk::new());
    for number in 1..=3 {
        receive(&spool, header(number), b"content").unwrap();
    }
    wait_for(&spool, 3);
    deliver(&spool, Some(Duration::ZERO));
    let claimed = unverified(&spool);
    let uid = |number| header(number).sop_instance_uid;
    let missing = Verification::Missing { answer: "0112".into() };
    let all = [report([uid(1), uid(9)], &confirmed()), report([uid(2)], &missing), report([uid(1)], &confirmed())];
    assert_eq!(spool.reported(&central(), all.concat()).unwrap(), 2);
    assert_eq!(counts(&spool), [1, 2, 1, 1]);
    assert_eq!(spool.reported(&central(), all.concat()).unwrap(), 0, "it has been applied");
    assert_eq!(spool.reported(&"cloud".parse().unwrap(), report([uid(3)], &confirmed())).unwrap(), 0);
    // Whoever was asking meanwhile comes too late, but for the one that is still open.
    claimed.into_iter().for_each(|claim| spool.verified(claim, Method::CFind, confirmed()));
    until(|| counts(&spool) == [1, 2, 0, 2]);
}

/// A destination is asked by SOP Instance UID. Of two contents with one UID it may have the other one, and then freeing
/// this one on its word would lose it.
#[test]
fn of_two_contents_with_one_uid_none_is_ever_confirmed_and_both_are_kept() {
    let (spool, ..) = open_with(&MemoryDisk::new(), SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    for content in ["one", "another one"] {
        receive(&spool, header(1), content.as_bytes()).unwrap();
    }
    wait_for(&spool, 2);
    assert!(spool.claim(&central(), spool.time(), 9, Classes::All).unwrap().iter().all(|claim| claim.ambiguous));
    deliver(&spool, Some(Duration::ZERO));
    let uid = header(1).sop_instance_uid;
    spool.verified(unverified(&spool).remove(0), Method::CFind, confirmed());
    let asked =
        |id| matches!(state(&spool, id), DeliveryState::Delivered { verifying: Some(asked), .. } if asked.tries == 1);
    until(|| asked(1));
    assert_eq!(spool.reported(&central(), report([uid.clone()], &confirmed())).unwrap(), 2);
    assert_eq!(counts(&spool), [0, 2, 2, 0]);
    let DeliveryState::Delivered { verifying: Some(verifying), .. } = state(&spool, 2) else { panic!() };
    assert!(verifying.last_answer.unwrap().contains("two contents with this SOP Instance UID"));
    spool.tend();
    assert!(read(&spool, InstanceId(1)).is_ok() && read(&spool, InstanceId(2)).is_ok());
    // That it has neither can be believed.
    let missing = Verification::Missing { answer: "0112".into() };
    assert_eq!(spool.reported(&central(), report([uid], &missing)).unwrap(), 2);
    assert_eq!(counts(&spool), [2, 0, 0, 0]);
}

/// There are archives that answer every C-STORE with success and every question with "no such object". Each instance
/// would be sent over the link again and again.
#[test]
fn a_destination_that_takes_and_denies_is_not_fed_for_ever_whatever_restarts() {
    let disk = MemoryDisk::new();
    let (mut spool, ..) = open(&disk);
    receive(&spool, header(1), b"content").unwrap();
    wait_for(&spool, 1);
    let missing = Verification::Missing { answer: "0112".into() };
    for times in 1..=3 {
        deliver(&spool, Some(Duration::ZERO));
        spool.verified(unverified(&spool).remove(0), Method::CFind, missing.clone());
        until(|| counts(&spool)[0] == 1);
        spool.close();
        spool = open(&disk).0;
        assert!(matches!(state(&spool, 1), DeliveryState::Queued { attempts, .. } if attempts == times));
    }
    deliver(&spool, Some(Duration::ZERO));
    spool.verified(unverified(&spool).remove(0), Method::CFind, missing);
    let answer = || match state(&spool, 1) {
        DeliveryState::Delivered { verifying: Some(verifying), .. } => verifying.last_answer,
        other => panic!("{other:?}"),
    };
    until(|| answer().is_some());
    let answer = answer().unwrap();
    assert!(answer.contains("after 3 more deliveries") && answer.contains("in 1 days"), "{answer}");
}

#[test]
fn a_modality_is_told_that_an_instance_waits_until_it_is_confirmed() {
    let (spool, ..) = open(&MemoryDisk::new());
    receive(&spool, header(1), b"content").unwrap();
    wait_for(&spool, 1);
    let waiting = || spool.holdings().unwrap().of(&header(1).sop_instance_uid).unwrap().remove(0).waiting;
    deliver(&spool, Some(Duration::ZERO));
    assert_eq!(waiting(), 1);
    spool.verified(unverified(&spool).remove(0), Method::CFind, confirmed());
    until(|| waiting() == 0);
}

#[test]
fn what_was_said_about_a_delivery_is_not_taken_for_a_word_about_a_later_one() {
    let (spool, ..) = open(&MemoryDisk::new());
    receive(&spool, header(1), b"content").unwrap();
    wait_for(&spool, 1);
    deliver(&spool, Some(Duration::ZERO));
    let asked_before = unverified(&spool).remove(0);
    let missing = Verification::Missing { answer: "0112".into() };
    assert_eq!(spool.reported(&central(), report([header(1).sop_instance_uid], &missing)).unwrap(), 1);
    deliver(&spool, Some(Duration::ZERO));
    spool.verified(asked_before, Method::CFind, confirmed());
    until(|| spool.next_unverified_due(&central()).unwrap().is_some());
    assert_eq!(counts(&spool), [0, 1, 1, 0]);
    spool.verified(unverified(&spool).remove(0), Method::CFind, confirmed());
    until(|| counts(&spool) == [0, 1, 0, 1]);
}

/// An archive that answers a transaction late speaks of what it had when it was asked.
#[test]
fn a_report_about_an_earlier_delivery_means_no_later_one() {
    let (spool, ..) = open(&MemoryDisk::new());
    receive(&spool, header(1), b"content").unwrap();
    wait_for(&spool, 1);
    let missing = Verification::Missing { answer: "0112".into() };
    deliver(&spool, Some(Duration::ZERO));
    spool.verified(unverified(&spool).remove(0), Method::Commitment, missing);
    until(|| counts(&spool)[0] == 1);
    deliver(&spool, Some(Duration::ZERO));
    let about = |attempt| {
        let instance = header(1).sop_instance_uid;
        vec![Reported { instance, attempt: Some(attempt), verification: confirmed() }]
    };
    assert_eq!(spool.reported(&central(), about(1)).unwrap(), 0);
    assert_eq!(spool.reported(&central(), about(2)).unwrap(), 1);
    assert_eq!(counts(&spool), [0, 1, 0, 1]);
}

#[test]
fn what_nobody_asks_about_any_more_is_delivered_and_not_confirmed() {
    let (spool, ..) = open_with(&MemoryDisk::new(), SpoolOptions { keep_delivered: Duration::ZERO, ..options() });
    receive(&spool, header(1), b"content").unwrap();
    wait_for(&spool, 1);
    deliver(&spool, Some(Duration::from_secs(86_400)));
    let due = spool.next_unverified_due(&central()).unwrap().unwrap();
    for claim in spool.claim_unverified(&central(), due, 9).unwrap() {
        spool.verified(claim, Method::CFind, Verification::Waived);
    }
    until(|| counts(&spool) == [0, 1, 0, 0]);
    assert!(matches!(state(&spool, 1), DeliveryState::Delivered { attempts: 1, verifying: None, .. }));
    spool.tend();
    assert!(matches!(spool.read(InstanceId(1)), Err(SpoolError::Freed(_))));
}
