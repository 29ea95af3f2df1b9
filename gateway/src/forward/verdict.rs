//! What an answer means for a delivery. Pure.
//!
//! | answer (PS3.4 B.2.3, PS3.7 Annex C) | meaning |
//! |---|---|
//! | 0000, Bxxx and the other warnings | delivered |
//! | A7xx, no answer | again later, for ever; the destination rests as well |
//! | everything else | a few tries, then parked: the archive has looked at it and does not want it |

use std::time::Duration;

use crate::dimse::{Response, StoreOutcome};
use crate::forward::retry::Backoff;
use crate::spool::Outcome;

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
    /// The destination does not want this instance.
    Refused {
        /// What it answered.
        answer: String,
    },
    /// No attempt can succeed before a person changes something.
    Hopeless {
        /// Why, and what to do.
        reason: String,
    },
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

    /// What is recorded, after `earlier` attempts that this destination refused or that broke; `random` is in
    /// `0.0..1.0`. A refusal is repeated until `tries` attempts have been made.
    #[must_use]
    pub fn outcome(self, earlier: u32, backoff: &Backoff, tries: u32, random: f64) -> Outcome {
        let attempts = earlier.saturating_add(1);
        let after: Duration = backoff.delay(attempts, random);
        match self {
            Self::Delivered { answer, .. } => Outcome::Delivered { answer },
            Self::Later { answer } => Outcome::Retry { after, answer },
            Self::Refused { answer } if attempts < tries => Outcome::Retry { after, answer },
            Self::Refused { answer } => Outcome::Parked {
                reason: format!(
                    "refused {attempts} times, last with {answer}; find the cause at the archive, then: waystation retry"
                ),
            },
            Self::Hopeless { reason } => Outcome::Parked { reason },
        }
    }
}
