//! One delivery, or all deliveries of a study to one destination, in sentences.

use super::summary::{Cause, Summary};
use super::{WhyThere, health_of, in_words, is_configured, named};
use crate::control::deliveries::{Asking, Delivery, Instance, Standing, Study, StudyDelivery};
use crate::control::words::{count, many, moment};
use crate::control::{DeliveryState, Destination};
use crate::model::{DestinationName, Priority, Timestamp};

/// One delivery of one instance.
pub(super) fn of_delivery(
    instance: &Instance,
    delivery: &Delivery,
    destinations: &[Destination],
    now: Timestamp,
) -> WhyThere {
    let name = &delivery.destination;
    let health = health_of(name, destinations);
    let mut why = WhyThere::new(name, delivery.standing.state());
    match &delivery.standing {
        Standing::Queued { priority, attempts, due_in_seconds, last_answer, last_at } => {
            let class = match priority {
                Priority::Stat => ", urgent",
                Priority::Routine => "",
                Priority::Low => ", of low priority",
            };
            why.sentences.push(match attempts {
                0 => format!("queued{class}, not tried yet"),
                _ => format!("queued{class}, tried {}", times(*attempts)),
            });
            why.sentences.extend(last_words("the last answer", last_answer.as_deref(), *last_at, now));
            match (health.filter(|health| is_configured(health) && health.failures == 0), due_in_seconds) {
                (Some(health), 0) => why.sentences.push(its_turn(health)),
                (Some(_), seconds) => why.sentences.push(format!("it is due again in {}", in_words(*seconds))),
                (None, _) => {}
            }
            why.add_health(health);
            why.warnings.extend(health.and_then(|health| health.obstacles.get(&instance.number)).cloned());
        }
        Standing::Delivered { delivered_at, attempts, answer, asking } => {
            why.sentences.push(delivered(*delivered_at, *attempts, answer, now));
            match asking {
                None => why.sentences.push("it is not asked for a confirmation, so this is the last state".to_owned()),
                Some(asking) => {
                    ask_again(&mut why, asking, now);
                    why.add_health(health);
                }
            }
        }
        Standing::Confirmed { delivered_at, attempts, answer, confirmed_at, asked, confirmation } => {
            why.sentences.push(format!(
                "confirmed {}, after it was asked {}: {confirmation}",
                moment(*confirmed_at, now),
                times(*asked)
            ));
            why.sentences.push(delivered(*delivered_at, *attempts, answer, now));
        }
        Standing::Parked { parked_at, attempts, reason } => {
            let after = match attempts {
                0 => "without an attempt".to_owned(),
                attempts => format!("after {}", many(u64::from(*attempts), "attempt")),
            };
            why.sentences.push(format!("parked {}, {after}: {reason}", moment(*parked_at, now)));
            why.remedies.push(release(name, &format!("--instance {}", instance.number)));
            if !health.is_some_and(is_configured) {
                why.add_health(health);
            }
        }
    }
    why
}

/// What queues parked deliveries again.
fn release(destination: &DestinationName, what: &str) -> String {
    format!(
        "mend the cause, then waystation retry {destination} {what}; waystation retry {destination} takes all that is parked there"
    )
}

fn times(number: u32) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        number => format!("{} times", count(u64::from(number))),
    }
}

fn delivered(at: Timestamp, attempts: u32, answer: &str, now: Timestamp) -> String {
    format!("delivered {}, at attempt {attempts}: {answer}", moment(at, now))
}

fn its_turn(health: &Destination) -> String {
    let queued = health.queued;
    if queued.instances <= 1 {
        return "it is its turn".to_owned();
    }
    let name = &health.name;
    let text = format!("it waits for its turn: {} instances wait for {name} altogether", count(queued.instances));
    match health.goodput_bytes_per_second.and_then(|rate| queued.bytes.checked_div(rate)) {
        Some(seconds) => format!("{text}, which take about {} at the speed of late", in_words(seconds)),
        None => text,
    }
}

fn last_words(what: &str, answer: Option<&str>, at: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let answer = answer?;
    Some(match at {
        Some(at) => format!("{what}, {}: {answer}", moment(at, now)),
        None => format!("{what}: {answer}"),
    })
}

fn ask_again(why: &mut WhyThere, asking: &Asking, now: Timestamp) {
    why.sentences.push(match asking.asked {
        0 => "not confirmed yet: it was not asked so far".to_owned(),
        asked => format!("not confirmed yet: it was asked {}", times(asked)),
    });
    why.sentences.extend(last_words("the last answer to that", asking.last_answer.as_deref(), asking.last_at, now));
    why.sentences.push(match asking.due_in_seconds {
        0 => "it is asked as soon as its turn comes".to_owned(),
        seconds => format!("it is asked again in {}", in_words(seconds)),
    });
}

/// All deliveries of a study to one destination.
pub(super) fn of_study_delivery(
    study: &Study,
    delivery: &StudyDelivery,
    summary: &Summary,
    destinations: &[Destination],
) -> WhyThere {
    let name = &delivery.destination;
    let mut why = WhyThere::new(name, worst(delivery));
    why.sentences.push(counts(delivery));
    for reason in summary.reasons(name) {
        let what = match reason.cause {
            Cause::Parked => "parked",
            Cause::Tried => "tried again",
            Cause::Unconfirmed => "not confirmed",
        };
        why.sentences.push(format!(
            "{} {what}: {} (for example {})",
            count(reason.instances),
            reason.text,
            named(&reason.example)
        ));
    }
    let others = summary.other_reasons(name);
    if others > 0 {
        why.sentences.push(format!("{} for other reasons, each of its own", count(others)));
    }
    let health = health_of(name, destinations);
    if delivery.queued.instances > 0
        || delivery.unverified.instances > 0
        || delivery.is_open() && !health.is_some_and(is_configured)
    {
        why.add_health(health);
    }
    why.warnings = health.map_or_else(Vec::new, |health| summary.obstacles(&health.obstacles));
    if let Some(seconds) = summary.next_due(name).filter(|seconds| *seconds > 0) {
        why.sentences.push(format!("the next of those that were tried is due in {}", in_words(seconds)));
    }
    if delivery.queued.instances > 0 && !study.expedited {
        why.remedies.push(format!("if it is urgent: waystation studies expedite {}", study.study_instance_uid));
    }
    if delivery.parked.instances > 0 {
        why.remedies.push(release(name, &format!("--study {}", study.study_instance_uid)));
    }
    why
}

fn worst(delivery: &StudyDelivery) -> DeliveryState {
    let StudyDelivery { queued, delivered, confirmed, parked, .. } = delivery;
    match () {
        () if parked.instances > 0 => DeliveryState::Parked,
        () if queued.instances > 0 => DeliveryState::Queued,
        () if delivered.instances > confirmed.instances => DeliveryState::Delivered,
        () => DeliveryState::Confirmed,
    }
}

/// "delivered 40 of 50, confirmed 38, to be confirmed 2, parked 2, queued 8": what is none is left out, but for the
/// deliveries.
#[must_use]
pub fn counts(delivery: &StudyDelivery) -> String {
    let StudyDelivery { queued, delivered, unverified, confirmed, parked, .. } = delivery;
    let mut text = format!("delivered {} of {}", count(delivered.instances), count(delivery.all()));
    let rest = [(confirmed, "confirmed"), (unverified, "to be confirmed"), (parked, "parked"), (queued, "queued")];
    for (amount, word) in rest.iter().filter(|(amount, _)| amount.instances > 0) {
        text.push_str(&format!(", {word} {}", count(amount.instances)));
    }
    text
}

/// A study in the sentences of its receipt: the worst of all, then one for each destination.
#[must_use]
pub fn receipt(study: &Study) -> Vec<String> {
    let sum = |amount: fn(&StudyDelivery) -> u64| study.deliveries.iter().map(amount).fold(0, u64::saturating_add);
    let (parked, queued) = (sum(|to| to.parked.instances), sum(|to| to.queued.instances));
    let (unverified, confirmed) = (sum(|to| to.unverified.instances), sum(|to| to.confirmed.instances));
    let first = match (parked, queued, unverified) {
        _ if study.deliveries.is_empty() => "Nothing of it is owed to anybody.".to_owned(),
        (0, 0, 0) if confirmed == sum(StudyDelivery::all) => "All that is owed is delivered and confirmed.".to_owned(),
        (0, 0, 0) => "All that is owed is delivered.".to_owned(),
        (0, 0, unverified) => {
            format!("All that is owed is delivered. Still to be confirmed: {}.", many_deliveries(unverified))
        }
        (0, queued, _) => format!("NOT COMPLETE. Still to be made: {}.", many_deliveries(queued)),
        (parked, 0, _) => format!("NOT COMPLETE. Parked, and waiting for a person: {}.", many_deliveries(parked)),
        (parked, queued, _) => format!(
            "NOT COMPLETE. Parked, and waiting for a person: {}; still to be made: {}.",
            many_deliveries(parked),
            many_deliveries(queued)
        ),
    };
    std::iter::once(first).chain(study.deliveries.iter().map(receipt_there)).collect()
}

fn many_deliveries(number: u64) -> String {
    if number == 1 { "1 delivery".to_owned() } else { format!("{} deliveries", count(number)) }
}

/// "48 of 50 confirmed by archive, 2 delivered and not yet confirmed".
fn receipt_there(delivery: &StudyDelivery) -> String {
    let StudyDelivery { destination, queued, delivered, unverified, confirmed, parked } = delivery;
    let unasked = delivered.instances.saturating_sub(unverified.instances).saturating_sub(confirmed.instances);
    let (all, is_asked) = (count(delivery.all()), unverified.instances + confirmed.instances > 0);
    let mut parts = Vec::new();
    if is_asked {
        parts.push(format!("{} of {all} confirmed by {destination}", count(confirmed.instances)));
        parts.extend(some(unverified.instances, "delivered and not yet confirmed"));
        parts.extend(some(unasked, "delivered and not to be confirmed"));
    } else {
        let last = if unasked > 0 { ", which is not asked for a confirmation" } else { "" };
        parts.push(format!("{} of {all} delivered to {destination}{last}", count(delivered.instances)));
    }
    parts.extend(some(queued.instances, "not delivered yet"));
    parts.extend(some(parked.instances, "parked"));
    parts.join(", ")
}

fn some(number: u64, what: &str) -> Option<String> {
    (number > 0).then(|| format!("{} {what}", count(number)))
}
