//! What an answer means for a delivery. Pure.
//!
//! | answer (PS3.4 B.2.3, PS3.7 Annex C) | meaning |
//! |---|---|
//! | 0000, Bxxx and the other warnings | delivered |
//! | A7xx, no answer | again later, for ever |
//! | everything else | a few tries, then parked: the archive has looked at it and does not want it |
//!
//! Only refusals count as tries: a night of broken connections uses up none of them.

use std::io;
use std::time::Duration;

use crate::dimse::{Response, StoreOutcome};
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
    /// Reads the response to a C-STORE-RQ.
    #[must_use]
    pub fn of(response: &Response) -> Self {
        let status = response.status;
        let mut answer = status.to_string();
        if let Some(comment) = &response.comment {
            answer.push_str(": ");
            answer.push_str(comment);
        }
        match status.store_outcome() {
            StoreOutcome::Delivered => Self::Delivered { answer, warned: false },
            StoreOutcome::DeliveredWithWarning => Self::Delivered { answer, warned: true },
            StoreOutcome::RetryLater => Self::Later { answer },
            StoreOutcome::FewTriesThenPark => Self::Refused { answer },
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
    /// what it refuses waits for the other one, which may take it.
    #[must_use]
    pub fn of_stand_in(self, stand_in: &DestinationName) -> Self {
        match self {
            Self::Delivered { answer, warned } => {
                Self::Delivered { answer: format!("{answer}, from {stand_in}, which stands in"), warned }
            }
            Self::Refused { answer } | Self::Hopeless { reason: answer } => {
                Self::Later { answer: format!("{stand_in}, which stands in, does not take it: {answer}") }
            }
            other => other,
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
            Self::Later { answer } => Outcome::Retry { after, answer },
            Self::PutOff { after, answer } => Outcome::Retry { after, answer },
            Self::Refused { answer } if refusals < tries => Outcome::Retry { after, answer },
            Self::Refused { answer } => {
                parked(format!("refused {refusals} times, last with {answer}; find the cause at the destination"))
            }
            Self::Hopeless { reason } => parked(reason),
        }
    }
}

fn damaged(error: &dyn std::fmt::Display) -> Verdict {
    Verdict::Hopeless { reason: format!("it is damaged on this disk: {error}; send it again from the modality") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(outcome(refused, 9, 9), Outcome::Retry { answer, .. } if answer.starts_with("backup, which")));
        let taken = Verdict::Delivered { answer: "0000".into(), warned: false }.of_stand_in(&stand_in);
        assert!(matches!(outcome(taken, 0, 0), Outcome::Delivered { answer, .. } if answer.contains("from backup")));
    }

    #[test]
    fn a_shortage_on_this_box_parks_nothing_and_damage_does() {
        let shortage = io::Error::from(io::ErrorKind::OutOfMemory);
        assert!(matches!(Verdict::of_payload(&shortage), Verdict::Later { .. }));
        assert!(matches!(Verdict::of_spool(&SpoolError::Closed), Verdict::Later { .. }));
        let damage = io::Error::new(io::ErrorKind::InvalidData, "the hash does not match");
        assert!(matches!(Verdict::of_payload(&damage), Verdict::Hopeless { .. }));
    }
}
