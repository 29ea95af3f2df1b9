//! What an answer about one instance means, given what was answered about it before. Pure.
//!
//! | answer | the first times | after that |
//! |---|---|---|
//! | committed; found | confirmed | |
//! | not found by a query: an archive may index late | twice: asked again after twice `verify-after` | missing |
//! | failed with 0112; missing | delivered again; how often at once, the spool keeps ([`Verification::Missing`]) | |
//! | failed with 0110, 0213 or 0131: the moment's | asked again, after `verify-after` doubling to a day | the same |
//! | failed for any other reason; the query refused | 3 times the same | asked once a day; a sentence says so |
//!
//! What is asked once a day stays delivered and unverified, and on this disk, until the archive or the configuration
//! changes. Counts are kept in memory, for [`REMEMBERED`] instances: one that is forgotten gets its first times again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::dimse::Status;
use crate::model::Uid;
use crate::spool::Verification;

/// Instances of which something is remembered.
const REMEMBERED: usize = 10_000;
/// The longest time between two questions.
const DAY: Duration = Duration::from_secs(86_400);
/// How often an archive may not find what it has taken before it is believed.
const LOOKS: u32 = 3;
/// How often a refusal is looked at as one that may pass.
const REFUSALS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub struct Doubts {
    after: Duration,
    keys: RandomState,
    known: HashMap<u64, Doubt>,
}

/// What was answered about one instance since it was confirmed or the process started.
#[derive(Debug, Clone, Copy, Default)]
struct Doubt {
    not_found: u32,
    refused: u32,
}

impl Doubts {
    /// No doubts. `after` is the time that an archive is given after a delivery.
    #[must_use]
    pub fn new(after: Duration) -> Self {
        Self { after, keys: RandomState::new(), known: HashMap::new() }
    }

    fn count(&mut self, instance: &Uid, count: impl FnOnce(&mut Doubt)) -> Doubt {
        let key = self.keys.hash_one(instance);
        let mut doubt = self.known.get(&key).copied().unwrap_or_default();
        count(&mut doubt);
        if self.known.len() < REMEMBERED || self.known.contains_key(&key) {
            self.known.insert(key, doubt);
        }
        doubt
    }

    /// It is there for good.
    pub fn confirmed(&mut self, instance: &Uid, answer: String) -> Verification {
        self.known.remove(&self.keys.hash_one(instance));
        Verification::Confirmed { answer }
    }

    /// A query has not found it.
    pub fn not_found(&mut self, instance: &Uid) -> Verification {
        let doubt = self.count(instance, |doubt| doubt.not_found += 1);
        match doubt.not_found {
            looks if looks < LOOKS => Verification::Later {
                after: self.after.saturating_mul(2).min(DAY),
                answer: "the archive does not find it; it is asked once more".into(),
            },
            looks => self.missing(instance, format!("the archive did not find it {looks} times")),
        }
    }

    /// The archive has reported that it does not commit to it (Failure Reason, PS3.3 C.14.1.1).
    pub fn not_committed(&mut self, instance: &Uid, reason: u16) -> Verification {
        let status = Status(reason);
        match status {
            Status::NO_SUCH_OBJECT_INSTANCE => self.missing(instance, format!("not committed: {status}")),
            Status::PROCESSING_FAILURE | Status::RESOURCE_LIMITATION | Status::DUPLICATE_TRANSACTION => {
                let doubt = self.count(instance, |doubt| doubt.refused = doubt.refused.saturating_add(1));
                Verification::Later { after: self.pause(doubt.refused), answer: format!("not committed: {status}") }
            }
            status => self.refused(instance, &format!("not committed: {status}")),
        }
    }

    /// The archive does not answer the question about it.
    pub fn refused(&mut self, instance: &Uid, answer: &str) -> Verification {
        let doubt = self.count(instance, |doubt| doubt.refused = doubt.refused.saturating_add(1));
        if doubt.refused < REFUSALS {
            return Verification::Later { after: self.pause(doubt.refused), answer: answer.to_owned() };
        }
        let answer = format!(
            "{answer}; it cannot be confirmed like this and stays delivered: find the cause at the archive, or choose \
             another verify for this destination"
        );
        Verification::Later { after: DAY, answer }
    }

    fn missing(&mut self, instance: &Uid, answer: String) -> Verification {
        self.known.remove(&self.keys.hash_one(instance));
        Verification::Missing { answer }
    }

    fn pause(&self, times: u32) -> Duration {
        self.after.saturating_mul(1 << times.min(20)).min(DAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(30);

    fn uid() -> Uid {
        "1.2.3".parse().unwrap()
    }

    fn later(verification: &Verification) -> Option<Duration> {
        match verification {
            Verification::Later { after, .. } => Some(*after),
            _ => None,
        }
    }

    #[test]
    fn what_is_not_found_is_looked_for_again_before_it_is_missing() {
        let mut doubts = Doubts::new(AFTER);
        for _ in 0..5 {
            assert_eq!(later(&doubts.not_found(&uid())), Some(AFTER * 2));
            assert_eq!(later(&doubts.not_found(&uid())), Some(AFTER * 2));
            let missing = doubts.not_found(&uid());
            assert!(matches!(&missing, Verification::Missing { answer } if answer.contains("3 times")), "{missing:?}");
        }
    }

    #[test]
    fn a_passing_reason_is_asked_about_again_for_ever_and_another_one_gets_a_sentence() {
        for (reason, passing) in [(0x0110, true), (0x0213, true), (0x0131, true), (0x0119, false), (0x0122, false)] {
            let mut doubts = Doubts::new(AFTER);
            let pauses: Vec<_> = (0..40).map(|_| later(&doubts.not_committed(&uid(), reason)).unwrap()).collect();
            assert_eq!(pauses[..2], [AFTER * 2, AFTER * 4]);
            assert_eq!(pauses[2], if passing { AFTER * 8 } else { DAY }, "{reason:04X}");
            assert!(pauses[20..].iter().all(|pause| *pause == DAY));
            let Verification::Later { answer, .. } = doubts.not_committed(&uid(), reason) else { panic!() };
            assert!(answer.contains(&format!("{reason:04X}")), "{answer}");
            assert_eq!(answer.contains("cannot be confirmed"), !passing, "{answer}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_not_remembered_is_in_no_worse_a_place() {
        let mut doubts = Doubts::new(AFTER);
        for number in 0..=REMEMBERED {
            doubts.not_committed(&format!("1.2.{number}").parse().unwrap(), 0x0122);
        }
        assert_eq!(doubts.known.len(), REMEMBERED);
        assert_eq!(later(&doubts.refused(&format!("1.2.{REMEMBERED}").parse().unwrap(), "no")), Some(AFTER * 2));
    }
}
