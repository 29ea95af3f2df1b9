//! What an answer means for a delivery. Pure.
//!
//! | answer (PS3.4 B.2.3, PS3.7 Annex C) | meaning |
//! |---|---|
//! | 0000, Bxxx and the other warnings | delivered |
//! | 0111: the archive has an instance with this UID | delivered with a warning; of two contents with one UID nobody knows which one it has: parked |
//! | A7xx, no answer | again later, for ever |
//! | everything else | a few tries, then parked: the archive has looked at it and does not want it |
//!
//! Only refusals count as tries: a night of broken connections uses up none of them.

use std::io;
use std::time::Duration;

use crate::dimse::{Response, Status, StoreOutcome};
use crate::model::DestinationName;
use crate::retry::Backoff;
use crate::spool::{Outcome, SpoolError};

/// What came of one attempt to deliver one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The destination has it.
    Delivered {
        /// What it answered.
        answer: String,
        /// Whether it remarked on something.
        warned: bool,
    },
    /// The destination cannot take it now.
    Later {
        /// What it answered, or what broke.
        answer: String,
    },
    /// It would not arrive, and nothing was sent.
    PutOff {
        /// When another look is worth it.
        after: Duration,
        /// Why, and what to do.
        answer: String,
    },
    /// The destination does not want this instance.
    Refused {
        /// What it answered.
        answer: String,
    },
    /// No attempt can succeed before a person changes something.
    Hopeless {
        /// Why, and what to do; the command that releases it is added.
        reason: String,
    },
    /// The same, because of what is on this disk: it says nothing about the destination.
    Damaged {
        /// Why, and what to do.
        reason: String,
    },
    /// Something went wrong that says nothing about this delivery, so that it keeps its place.
    Kept {
        /// What it was.
        answer: String,
    },
}

/// How often an instance has been tried before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// Attempts of every kind.
    pub attempts: u32,
    /// Those that the destination refused.
    pub refusals: u32,
}

impl Verdict {
    /// Reads the response to a C-STORE-RQ for an instance that is [ambiguous](crate::spool::Claim::ambiguous) or not. Its
    /// Error Comment is no part of it: it may name a patient.
    #[must_use]
    pub fn of(response: &Response, ambiguous: impl FnOnce() -> bool) -> Self {
        let status = response.status;
        let answer = status.to_string();
        match status.store_outcome() {
            _ if status == Status::DUPLICATE_INSTANCE => Self::of_duplicate(answer, ambiguous()),
            StoreOutcome::Delivered => Self::Delivered { answer, warned: false },
            StoreOutcome::DeliveredWithWarning => Self::Delivered { answer, warned: true },
            StoreOutcome::RetryLater => Self::Later { answer },
            StoreOutcome::FewTriesThenPark => Self::Refused { answer },
        }
    }

    /// What it means that a destination has an instance with this SOP Instance UID already.
    #[must_use]
    pub fn of_duplicate(answer: String, ambiguous: bool) -> Self {
        match ambiguous {
            false => Self::Delivered { answer, warned: true },
            true => Self::Hopeless {
                reason: format!(
                    "{answer}; two contents with this SOP Instance UID were received, and it may have the other one: \
                     compare them, and have the one that is missing there sent again under a UID of its own"
                ),
            },
        }
    }

    /// What it means that the spool does not give the instance: only damage is for good.
    #[must_use]
    pub fn of_spool(error: &SpoolError) -> Self {
        match error {
            SpoolError::Damaged { .. } | SpoolError::Unknown(_) => damaged(error),
            _ => Self::Later { answer: format!("the instance could not be read on this box: {error}") },
        }
    }

    /// What it means that reading the payload failed on the way: a checksum that does not match is for good.
    #[must_use]
    pub fn of_payload(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => damaged(error),
            _ => Self::Later { answer: format!("the instance could not be read on this box: {error}") },
        }
    }

    /// What it means for the delivery to another destination that `stand_in` was offered it: what it takes is delivered, and
    /// everything else says nothing about the other one.
    #[must_use]
    pub fn of_stand_in(self, stand_in: &DestinationName) -> Self {
        match self {
            Self::Delivered { answer, warned } => {
                Self::Delivered { answer: format!("{answer}, from {stand_in}, which stands in"), warned }
            }
            Self::Damaged { .. } | Self::Kept { .. } => self,
            Self::Refused { answer }
            | Self::Hopeless { reason: answer }
            | Self::Later { answer }
            | Self::PutOff { answer, .. } => {
                Self::Kept { answer: format!("{stand_in}, which stands in, does not take it: {answer}") }
            }
        }
    }

    /// What is recorded for `destination`, given what was tried before; `random` is in `0.0..1.0`. A refusal is repeated
    /// until it has been the answer `tries` times.
    #[must_use]
    pub fn outcome(
        self,
        destination: &DestinationName,
        before: Tried,
        backoff: &Backoff,
        tries: u32,
        random: f64,
    ) -> Outcome {
        let after = backoff.delay(before.attempts.saturating_add(1), random);
        let refusals = before.refusals.saturating_add(1);
        let parked = |reason: String| Outcome::Parked {
            reason: format!("{reason}; to try again afterwards: waystation retry {destination}"),
        };
        match self {
            Self::Delivered { answer, .. } => Outcome::Delivered { answer, verify: None },
            Self::Kept { answer } => Outcome::Kept { answer },
            Self::Later { answer } => Outcome::Retry { after, answer },
            Self::PutOff { after, answer } => Outcome::Retry { after, answer },
            Self::Refused { answer } if refusals < tries => Outcome::Retry { after, answer },
            Self::Refused { answer } => {
                parked(format!("refused {refusals} times, last with {answer}; find the cause at the destination"))
            }
            Self::Hopeless { reason } | Self::Damaged { reason } => parked(reason),
        }
    }
}

fn damaged(error: &dyn std::fmt::Display) -> Verdict {
    Verdict::Damaged { reason: format!("it is damaged on this disk: {error}; send it again from the modality") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dimse::{CStore, Command};
    use crate::model::Priority;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

    fn outcome(verdict: Verdict, attempts: u32, refusals: u32) -> Outcome {
        verdict.outcome(&"central".parse().unwrap(), Tried { attempts, refusals }, &BACKOFF, 3, 0.5)
    }

    #[test]
    fn broken_attempts_do_not_use_up_the_tries_of_a_refusal() {
        let refused = || Verdict::Refused { answer: "C000".into() };
        assert!(matches!(outcome(refused(), 1_000, 0), Outcome::Retry { .. }));
        assert!(matches!(outcome(refused(), 1_000, 1), Outcome::Retry { .. }));
        let Outcome::Parked { reason } = outcome(refused(), 1_000, 2) else { panic!() };
        assert!(reason.contains("refused 3 times") && reason.ends_with("waystation retry central"), "{reason}");
    }

    #[test]
    fn what_comes_later_is_never_parked() {
        let later = Verdict::Later { answer: "A700".into() };
        assert!(matches!(outcome(later, u32::MAX, u32::MAX), Outcome::Retry { .. }));
    }

    #[test]
    fn what_a_stand_in_refuses_waits_for_the_one_it_stands_in_for() {
        let stand_in = "backup".parse().unwrap();
        let refused = Verdict::Refused { answer: "C000".into() }.of_stand_in(&stand_in);
        assert!(matches!(outcome(refused, 9, 9), Outcome::Kept { answer } if answer.starts_with("backup, which")));
        let taken = Verdict::Delivered { answer: "0000".into(), warned: false }.of_stand_in(&stand_in);
        assert!(matches!(outcome(taken, 0, 0), Outcome::Delivered { answer, .. } if answer.contains("from backup")));
    }

    #[test]
    fn a_shortage_on_this_box_parks_nothing_and_damage_does() {
        let shortage = io::Error::from(io::ErrorKind::OutOfMemory);
        assert!(matches!(Verdict::of_payload(&shortage), Verdict::Later { .. }));
        assert!(matches!(Verdict::of_spool(&SpoolError::Closed), Verdict::Later { .. }));
        let damage = io::Error::new(io::ErrorKind::InvalidData, "the hash does not match");
        assert!(matches!(Verdict::of_payload(&damage), Verdict::Damaged { .. }));
    }

    #[test]
    fn what_the_archive_has_already_is_delivered_unless_it_may_have_the_other_content() {
        let request = Command::CStore(CStore {
            message_id: 1,
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: "1.2.3".parse().unwrap(),
            priority: Priority::Routine,
            move_originator: None,
        });
        let response = Response::to(&request, Status::DUPLICATE_INSTANCE).with_comment("Doe^Jane");
        let Verdict::Delivered { answer, warned: true } = Verdict::of(&response, || false) else { panic!() };
        assert!(answer.contains("0111") && !answer.contains("Doe"), "{answer}");
        let Verdict::Hopeless { reason } = Verdict::of(&response, || true) else { panic!() };
        assert!(reason.contains("two contents"), "{reason}");
    }
}
