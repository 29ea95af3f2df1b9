//! Whether a destination may be tried now. Pure: time and randomness are arguments.
//!
//! Two things can go wrong, and they are told apart:
//!
//! - the **destination** failed: no route, TLS refused, no association. The circuit opens for a [`Backoff`] delay that
//!   grows with each failure; the queue behind it keeps its order and costs nothing meanwhile.
//! - an **attempt** failed on an association that stood: the connection broke in the middle of an instance, or the
//!   archive could not take it now. That instance waits for a turn of its own, behind the others; the destination rests
//!   for a short while only, so that one bad series does not hold up a good one for hours, and an archive that is out of
//!   resources is not stormed either.
//!
//! One success closes the circuit. Until then one instance at a time has to show that the destination works. Where it only
//! could not be reached, the way there was to blame, and an association that stands is enough for others to follow.

use std::time::Instant;

use crate::model::Timestamp;
use crate::retry::Backoff;

/// After attempts that failed, the rest grows no longer than this many failures of the destination would make it.
const LONGEST_REST: u32 = 3;

/// The circuit breaker of one destination.
#[derive(Debug, Clone)]
pub struct Circuit {
    backoff: Backoff,
    failures: u32,
    stumbles: u32,
    open_until: Option<Instant>,
    /// Whether, since the last success, it failed in another way than that it could not be reached.
    fails_otherwise: bool,
    /// Whether an association stands since the last failure, and that was all that was missing.
    stands: bool,
    last_failure: Option<Failure>,
}

/// The latest failure of a destination, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// When it happened, by the wall clock.
    pub at: Timestamp,
    /// What went wrong and what to do, in one sentence.
    pub sentence: String,
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        let (fails_otherwise, stands) = (false, false);
        Self { backoff, failures: 0, stumbles: 0, open_until: None, fails_otherwise, stands, last_failure: None }
    }

    /// The destination failed, because it could not be reached or otherwise: no attempt before the delay has passed.
    pub fn failed(&mut self, now: Instant, random: f64, is_unreachable: bool, failure: Failure) {
        self.failures = self.failures.saturating_add(1);
        self.fails_otherwise |= !is_unreachable;
        self.stands = false;
        self.open_until = now.checked_add(self.backoff.delay(self.failures, random));
        self.last_failure = Some(failure);
    }

    /// An attempt failed although the association stood: a short rest, which grows to a few times the first delay.
    pub fn stumbled(&mut self, now: Instant, random: f64, failure: Failure) {
        self.stumbles = self.stumbles.saturating_add(1);
        self.stands = false;
        self.open_until = now.checked_add(self.backoff.delay(self.stumbles.min(LONGEST_REST), random));
        self.last_failure = Some(failure);
    }

    /// No attempt before this moment, whatever the delay is: the destination has asked for it.
    pub fn hold_until(&mut self, moment: Instant) {
        self.open_until = self.open_until.max(Some(moment));
    }

    /// The destination answered as it should.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.stumbles = 0;
        self.open_until = None;
        (self.fails_otherwise, self.stands) = (false, false);
    }

    /// Somebody asked to try at once; the count of failures stays.
    pub fn hasten(&mut self) {
        self.open_until = None;
    }

    /// The moment before which no attempt may be made, if it is still to come.
    #[must_use]
    pub fn closed_before(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| *until > now)
    }

    /// Failures of the destination in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// An association stands.
    pub fn associated(&mut self) {
        self.stands |= self.is_only_away();
    }

    /// Whether nothing is wrong but that the destination could not be reached.
    #[must_use]
    pub fn is_only_away(&self) -> bool {
        self.failures > 0 && self.stumbles == 0 && !self.fails_otherwise
    }

    /// Whether one instance at a time has to show first that the destination works.
    #[must_use]
    pub fn is_to_be_proven(&self) -> bool {
        self.is_troubled() && !self.stands
    }

    /// Whether the latest attempt went wrong in any way.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.failures > 0 || self.stumbles > 0
    }

    /// The latest failure, kept after a success for the history.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failure() -> Failure {
        Failure { at: Timestamp::from_millis(0), sentence: "the archive does not answer".into() }
    }

    fn circuit() -> Circuit {
        Circuit::new(Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(300) })
    }

    #[test]
    fn a_failure_holds_the_next_attempt_back_and_time_lets_it_go() {
        let now = crate::clock::now();
        let mut circuit = circuit();
        assert_eq!(circuit.closed_before(now), None);
        circuit.failed(now, 1.0, false, failure());
        assert_eq!(circuit.closed_before(now), Some(now + Duration::from_secs(4)));
        assert_eq!(circuit.closed_before(now + Duration::from_secs(4)), None);
    }

    #[test]
    fn a_destination_that_asks_for_it_is_left_in_peace_for_longer_than_the_delay_and_never_for_less() {
        let now = crate::clock::now();
        let mut circuit = circuit();
        circuit.failed(now, 1.0, false, failure());
        circuit.hold_until(now + Duration::from_secs(1));
        assert_eq!(circuit.closed_before(now), Some(now + Duration::from_secs(4)));
        circuit.hold_until(now + Duration::from_secs(90));
        assert_eq!(circuit.closed_before(now), Some(now + Duration::from_secs(90)));
        circuit.hasten();
        assert_eq!(circuit.closed_before(now), None);
    }

    #[test]
    fn a_success_forgets_the_failures_but_not_the_sentence() {
        let now = crate::clock::now();
        let mut circuit = circuit();
        circuit.failed(now, 0.5, false, failure());
        circuit.failed(now, 0.5, false, failure());
        circuit.succeeded();
        assert_eq!((circuit.failures(), circuit.closed_before(now)), (0, None));
        assert_eq!(circuit.last_failure(), Some(&failure()));
    }

    #[test]
    fn an_association_is_proof_enough_where_only_the_way_there_was_to_blame() {
        let now = crate::clock::now();
        for (unreachable, is_proof) in
            [(vec![true, true], true), (vec![false, true], false), (vec![true, false], false)]
        {
            let mut circuit = circuit();
            for is_unreachable in unreachable {
                circuit.failed(now, 0.5, is_unreachable, failure());
            }
            assert!(circuit.is_to_be_proven());
            circuit.associated();
            assert_eq!(circuit.is_to_be_proven(), !is_proof);
            assert!(circuit.is_troubled(), "it works when it has answered");
            circuit.stumbled(now, 0.5, failure());
            circuit.associated();
            assert!(circuit.is_to_be_proven());
            circuit.succeeded();
            circuit.failed(now, 0.5, true, failure());
            assert!(circuit.is_only_away(), "what was before a success is forgotten");
        }
    }

    #[test]
    fn attempts_that_fail_never_add_up_to_a_long_rest() {
        let now = crate::clock::now();
        let mut circuit = circuit();
        for _ in 0..100 {
            circuit.stumbled(now, 1.0, failure());
        }
        assert_eq!(circuit.closed_before(now), Some(now + Duration::from_secs(16)));
        assert_eq!(circuit.failures(), 0);
        assert!(circuit.is_troubled());
        circuit.succeeded();
        assert!(!circuit.is_troubled());
    }

    #[test]
    fn an_operator_can_ask_for_an_attempt_at_once() {
        let now = crate::clock::now();
        let mut circuit = circuit();
        circuit.failed(now, 0.5, false, failure());
        circuit.hasten();
        assert_eq!(circuit.closed_before(now), None);
        assert_eq!(circuit.failures(), 1);
    }
}
