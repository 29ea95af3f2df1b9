//! Every state in words.

use std::collections::BTreeMap;

use super::super::deliveries::{Asking, Delivery, Instance, Standing, Study, StudyDelivery};
use super::super::{Activity, Amount, DeliveryState, Destination};
use super::{LOOKED_AT, Subject, Summary, Why, WhyThere, explain, receipt, unknown};
use crate::forward::wire::Cuts;
use crate::model::{ContentHash, InstanceId, Priority, Timestamp};

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const BEFORE: Timestamp = Timestamp::from_millis(1_790_000_000_000 - 60_000);

fn amount(instances: u64) -> Amount {
    Amount { instances, bytes: instances * 1_000 }
}

fn archive() -> Destination {
    Destination {
        name: "archive".parse().unwrap(),
        url: Some("dicom://A@h:104".to_owned()),
        activity: Activity::Idle,
        sentence: String::new(),
        verification: None,
        next_attempt_seconds: None,
        troubled: false,
        failures: 0,
        queued: amount(0),
        sending: 0,
        delivered: amount(0),
        unverified: amount(0),
        confirmed: amount(0),
        parked: amount(0),
        oldest_queued_at: None,
        associations: 0,
        stalled: 0,
        cuts: Cuts::default(),
        sending_bytes: 0,
        sent_bytes: 0,
        goodput_bytes_per_second: None,
        obstacles: BTreeMap::new(),
    }
}

fn away() -> Destination {
    let sentence = "cannot connect to h:104: no route to host; check the link".to_owned();
    Destination {
        activity: Activity::Waiting,
        troubled: true,
        failures: 3,
        sentence,
        next_attempt_seconds: Some(250),
        obstacles: [(InstanceId(17), "it is too large".to_owned()), (InstanceId(99), "it is not ours".to_owned())]
            .into(),
        ..archive()
    }
}

fn not_configured() -> Destination {
    Destination { url: None, activity: Activity::NotConfigured, ..archive() }
}

fn queued(attempts: u32, due_in_seconds: u64, answer: Option<&str>) -> Standing {
    Standing::Queued {
        priority: Priority::Routine,
        attempts,
        due_in_seconds,
        last_answer: answer.map(str::to_owned),
        last_at: answer.map(|_| BEFORE),
    }
}

fn delivered(asking: Option<Asking>) -> Standing {
    Standing::Delivered { delivered_at: BEFORE, attempts: 2, answer: "0000 (Success)".to_owned(), asking }
}

fn asking(asked: u32, due_in_seconds: u64, answer: Option<&str>) -> Option<Asking> {
    let last_answer = answer.map(str::to_owned);
    Some(Asking { due_in_seconds, asked, last_at: last_answer.is_some().then_some(BEFORE), last_answer })
}

fn confirmed() -> Standing {
    Standing::Confirmed {
        delivered_at: BEFORE,
        attempts: 1,
        answer: "0000 (Success)".to_owned(),
        confirmed_at: BEFORE,
        asked: 1,
        confirmation: "committed".to_owned(),
    }
}

fn parked(attempts: u32) -> Standing {
    Standing::Parked { parked_at: BEFORE, attempts, reason: "refused 3 times, last with A900".to_owned() }
}

fn instance(standings: &[(&str, Standing)]) -> Instance {
    let delivery = |(name, standing): &(&str, Standing)| Delivery {
        destination: name.parse().unwrap(),
        standing: standing.clone(),
    };
    Instance {
        number: InstanceId(17),
        sop_instance_uid: "1.2.3.17".parse().unwrap(),
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
        study_instance_uid: Some("1.2.3".parse().unwrap()),
        series_instance_uid: None,
        transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
        calling_ae: "CT1".parse().unwrap(),
        peer: Some("192.0.2.7".parse().unwrap()),
        received_at: BEFORE,
        bytes: 524_288,
        sha256: ContentHash([0xab; 32]),
        on_disk: true,
        late: false,
        rule: None,
        withheld: false,
        deliveries: standings.iter().map(delivery).collect(),
    }
}

fn numbered(number: u64, standing: Standing) -> Instance {
    Instance {
        number: InstanceId(number),
        sop_instance_uid: format!("1.2.3.{number}").parse().unwrap(),
        ..instance(&[("archive", standing)])
    }
}

fn there(standing: Standing, destination: Destination) -> WhyThere {
    let instance = instance(&[("archive", standing)]);
    explain(&Subject::Instance(&instance, &[]), &[destination], NOW).destinations.remove(0)
}

/// What it says, and what can be done, as one text.
fn text(why: &WhyThere) -> String {
    format!("{} => {}", why.sentences.join(" | "), why.remedies.join(" | "))
}

/// A delivery and its destination; then the state, what is said, and what is not.
type Case = (Standing, Destination, DeliveryState, &'static [&'static str], &'static [&'static str]);

#[test]
fn every_state_of_a_delivery_says_why_and_what_is_next() {
    let busy = Destination { queued: amount(1_234), goodput_bytes_per_second: Some(10_000), ..archive() };
    let sentence = "the latest attempt failed, others are made: A700".to_owned();
    let stumbling = Destination { failures: 0, next_attempt_seconds: Some(2), sentence, ..away() };
    let connecting = Destination { activity: Activity::Connecting, next_attempt_seconds: None, ..away() };
    let urgent =
        Standing::Queued { priority: Priority::Stat, attempts: 0, due_in_seconds: 0, last_answer: None, last_at: None };
    use DeliveryState::{Confirmed, Delivered, Parked, Queued};
    let cases: [Case; 15] = [
        (queued(0, 0, None), archive(), Queued, &["queued, not tried yet | it is its turn => "], &["attempt"]),
        (
            queued(0, 0, None),
            busy,
            Queued,
            &["1,234 instances wait for archive altogether, which take about 2 min 3 s at the speed of late"],
            &["due"],
        ),
        (urgent, archive(), Queued, &["queued, urgent, not tried yet"], &[]),
        (
            queued(2, 90, Some("A700 (Out of Resources)")),
            archive(),
            Queued,
            &["tried twice", "the last answer, ", "(1 min 0 s ago): A700", "due again in 1 min 30 s"],
            &["trouble", "its turn"],
        ),
        (
            queued(0, 0, None),
            away(),
            Queued,
            &[
                "the trouble is with archive",
                "no route to host",
                "the next attempt is in 4 min 10 s",
                "waystation retry archive",
            ],
            &["its turn", "due again"],
        ),
        (
            queued(1, 7, Some("A700")),
            stumbling,
            Queued,
            &[
                "due again in 7 s",
                "at archive the latest attempt failed, others are made: A700; the next attempt is in 2 s",
            ],
            &["the trouble is with"],
        ),
        (queued(0, 0, None), connecting, Queued, &["an attempt is being made now"], &[]),
        (queued(0, 0, None), not_configured(), Queued, &["does not name archive", "[to.archive]"], &["its turn"]),
        (
            delivered(None),
            archive(),
            Delivered,
            &["delivered ", "at attempt 2: 0000 (Success)", "not asked for a confirmation", "last state => "],
            &["confirmed"],
        ),
        (
            delivered(asking(0, 30, None)),
            archive(),
            Delivered,
            &["not confirmed yet: it was not asked so far", "asked again in 30 s"],
            &["last state"],
        ),
        (
            delivered(asking(3, 0, Some("not found"))),
            archive(),
            Delivered,
            &["it was asked 3 times", "the last answer to that", "not found", "as soon as its turn comes"],
            &[],
        ),
        (delivered(asking(1, 9, None)), away(), Delivered, &["the trouble is with archive"], &[]),
        (
            confirmed(),
            archive(),
            Confirmed,
            &["confirmed ", "after it was asked once: committed", "delivered ", "attempt 1: 0000", "=> "],
            &["retry"],
        ),
        (
            parked(3),
            archive(),
            Parked,
            &[
                "parked ",
                "after 3 attempts: refused 3 times, last with A900",
                "mend the cause, then waystation retry archive --instance 17",
            ],
            &["does not name"],
        ),
        (
            parked(0),
            not_configured(),
            Parked,
            &["without an attempt", "does not name archive", "waystation retry"],
            &[],
        ),
    ];
    for (standing, destination, state, said, not_said) in cases {
        let why = there(standing.clone(), destination);
        let text = text(&why);
        assert_eq!(why.state, state, "{standing:?}");
        for piece in said {
            assert!(text.contains(piece), "{standing:?}: {piece:?} is not in {text:?}");
        }
        for piece in not_said {
            assert!(!text.contains(piece), "{standing:?}: {piece:?} is in {text:?}");
        }
    }
}

#[test]
fn what_is_settled_needs_nothing_and_what_waits_brings_the_warnings_of_its_destination() {
    assert!(there(confirmed(), away()).warnings.is_empty());
    assert!(there(delivered(None), away()).remedies.is_empty());
    assert_eq!(there(queued(0, 0, None), away()).warnings, ["it is too large"]);
}

#[test]
fn an_instance_is_told_with_all_that_is_strange_about_it() {
    let tell = |instance: &Instance, others: &[Instance]| -> String {
        let Why { about, sentences, .. } = explain(&Subject::Instance(instance, others), &[archive()], NOW);
        format!("{about} | {}", sentences.join(" | "))
    };
    let usual = instance(&[("archive", confirmed())]);
    let text = tell(&usual, &[]);
    for piece in ["instance 1.2.3.17 (number 17 here)", "from CT1 at 192.0.2.7: 524.2 kB, SHA-256 abab", "study 1.2.3"]
    {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    for piece in ["late", "withheld", "contradiction", "rule", "given up", "no destination"] {
        assert!(!text.contains(piece), "{piece}: {text}");
    }
    let routed = Some("to-centre".parse().unwrap());
    let strange = Instance { late: true, on_disk: false, rule: routed.clone(), ..usual.clone() };
    let text = tell(&strange, &[Instance { number: InstanceId(9), ..usual.clone() }]);
    for piece in ["late: ", "contradiction to instance 9", "the rule to-centre has decided", "was given up"] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    let withheld = Instance { withheld: true, rule: routed, deliveries: Vec::new(), ..usual.clone() };
    let text = tell(&withheld, &[]);
    assert!(text.contains("withheld: the rule to-centre") && text.contains("[rule.to-centre]"), "{text}");
    assert!(!text.contains("has decided"), "{text}");
    let nowhere = Instance { deliveries: Vec::new(), ..usual };
    assert!(tell(&nowhere, &[]).contains("no destination was configured"));
}

fn study(deliveries: &[StudyDelivery]) -> Study {
    Study {
        study_instance_uid: "1.2.3".parse().unwrap(),
        number: InstanceId(1),
        first_received_at: BEFORE,
        last_received_at: NOW,
        instances: 50,
        bytes: 25_000_000,
        late: 0,
        calling_aes: vec!["CT1".parse().unwrap()],
        modalities: vec!["CT".to_owned()],
        expedited: false,
        deliveries: deliveries.to_vec(),
    }
}

/// Queued, delivered, of them unverified and confirmed, parked.
fn counts(name: &str, [queued, delivered, unverified, confirmed, parked]: [u64; 5]) -> StudyDelivery {
    StudyDelivery {
        destination: name.parse().unwrap(),
        queued: amount(queued),
        delivered: amount(delivered),
        unverified: amount(unverified),
        confirmed: amount(confirmed),
        parked: amount(parked),
    }
}

#[test]
fn a_study_is_summed_up_by_destination_with_the_distinct_reasons() {
    let mut summary = Summary::default();
    summary.add(&Instance { deliveries: Vec::new(), withheld: true, ..numbered(17, confirmed()) });
    (1..=3).for_each(|number| summary.add(&numbered(number, queued(1, 60 * number, Some("A700")))));
    summary.add(&numbered(4, parked(3)));
    summary.add(&numbered(5, delivered(asking(1, 5, Some("not found")))));
    summary.add(&numbered(6, confirmed()));
    summary.add(&numbered(6, confirmed()));
    let rule = Some("no-reports".parse().unwrap());
    summary.add(&Instance { withheld: true, rule, deliveries: Vec::new(), ..numbered(7, confirmed()) });
    summary.add(&Instance { deliveries: Vec::new(), ..numbered(8, confirmed()) });
    let deliveries = [counts("archive", [3, 3, 1, 2, 1])];
    let study = Study { late: 2, instances: 10, ..study(&deliveries) };
    let why = explain(&Subject::Study(&study, &summary), &[away()], NOW);
    assert_eq!(why.about, "study 1.2.3");
    let text = why.sentences.join(" | ");
    for piece in [
        "10 instances, 25.0 MB, CT, from CT1",
        "2 came late",
        "1 withheld: the rule no-reports",
        "1 without a destination",
        "1 in contradiction",
    ] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    assert!(!text.contains("expedited") && !text.contains("the first 10"), "{text}");
    let there = &why.destinations[0];
    assert_eq!(there.warnings, ["instance 17: it is too large"]);
    assert_eq!(there.state, DeliveryState::Parked);
    assert_eq!(there.sentences[0], "delivered 3 of 7, confirmed 2, to be confirmed 1, parked 1, queued 3");
    assert!(there.sentences[1].starts_with("1 parked: refused 3 times"), "{:?}", there.sentences);
    assert_eq!(there.sentences[2], "3 tried again: A700 (for example waystation why 1.2.3.1)");
    assert_eq!(there.sentences[3], "1 not confirmed: not found (for example waystation why 1.2.3.5)");
    let text = self::text(there);
    for piece in [
        "due in 1 min 0 s",
        "no route to host",
        "waystation retry archive --study 1.2.3",
        "waystation studies expedite 1.2.3",
    ] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
}

#[test]
fn a_study_that_is_confirmed_everywhere_needs_nothing() {
    let (study, summary) = (study(&[counts("archive", [0, 50, 0, 50, 0])]), Summary::default());
    let why = explain(&Subject::Study(&Study { expedited: true, ..study }, &summary), &[archive()], NOW);
    assert_eq!(why.destinations[0].sentences, ["delivered 50 of 50, confirmed 50"]);
    assert!(why.destinations[0].remedies.is_empty());
    assert_eq!(why.destinations[0].state, DeliveryState::Confirmed);
    assert!(why.sentences.iter().any(|sentence| sentence.starts_with("expedited")));
}

#[test]
fn a_summary_is_bounded_whatever_the_answers_are() {
    let mut summary = Summary::default();
    for number in 1..=LOOKED_AT + 5 {
        summary.add(&numbered(number, queued(1, 0, Some(&format!("answer {number}")))));
    }
    assert!(summary.is_full());
    let study = Study { instances: LOOKED_AT + 5, ..study(&[counts("archive", [LOOKED_AT + 5, 0, 0, 0, 0])]) };
    let why = explain(&Subject::Study(&study, &summary), &[archive()], NOW);
    assert!(
        why.sentences.iter().any(|sentence| sentence.contains("the first 10,000 instances")),
        "{:?}",
        why.sentences
    );
    let there = &why.destinations[0];
    assert!(there.sentences.iter().any(|sentence| sentence == "9,992 for other reasons, each of its own"));
    assert!(there.sentences.len() < 15);
}

#[test]
fn the_worst_of_a_study_is_said_first_in_its_receipt() {
    let cases: [(&[StudyDelivery], &[&str]); 8] = [
        (&[], &["Nothing of it is owed to anybody."]),
        (
            &[counts("archive", [0, 50, 2, 48, 0])],
            &[
                "All that is owed is delivered. Still to be confirmed: 2 deliveries.",
                "48 of 50 confirmed by archive, 2 delivered and not yet confirmed",
            ],
        ),
        (
            &[counts("archive", [0, 50, 0, 50, 0])],
            &["All that is owed is delivered and confirmed.", "50 of 50 confirmed by archive"],
        ),
        (
            &[counts("folder", [0, 50, 0, 0, 0])],
            &["All that is owed is delivered.", "50 of 50 delivered to folder, which is not asked for a confirmation"],
        ),
        (
            &[counts("archive", [0, 50, 0, 50, 0]), counts("folder", [0, 50, 0, 0, 0])],
            &[
                "All that is owed is delivered.",
                "50 of 50 confirmed by archive",
                "50 of 50 delivered to folder, which is not asked for a confirmation",
            ],
        ),
        (
            &[counts("archive", [1, 49, 49, 0, 0])],
            &[
                "NOT COMPLETE. Still to be made: 1 delivery.",
                "0 of 50 confirmed by archive, 49 delivered and not yet confirmed, 1 not delivered yet",
            ],
        ),
        (
            &[counts("archive", [0, 0, 0, 0, 50])],
            &[
                "NOT COMPLETE. Parked, and waiting for a person: 50 deliveries.",
                "0 of 50 delivered to archive, 50 parked",
            ],
        ),
        (
            &[counts("archive", [3, 40, 0, 38, 7])],
            &[
                "NOT COMPLETE. Parked, and waiting for a person: 7 deliveries; still to be made: 3 deliveries.",
                "38 of 50 confirmed by archive, 2 delivered and not to be confirmed, 3 not delivered yet, 7 parked",
            ],
        ),
    ];
    for (deliveries, sentences) in cases {
        assert_eq!(receipt(&study(deliveries)), sentences);
    }
}

#[test]
fn nothing_known_says_what_could_be() {
    let text = unknown("1.2.9");
    for piece in ["1.2.9", "never came: waystation door", "forgotten", "ledger"] {
        assert!(text.contains(piece), "{piece}: {text}");
    }
}
