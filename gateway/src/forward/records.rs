//! What is written down of deliveries, and what is remembered of them for a while: refusals of a destination, and what one
//! that stands in for another did not take.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use super::benefit::Kind;
use super::courier::{Bench, Handed, Settings, StandIn};
use super::verdict::{Tried, Verdict};
use super::verify;
use super::worker::blocking;
use crate::clock;
use crate::metrics::{Delivery, Metrics};
use crate::model::{InstanceId, Uid};
use crate::spool::{self, Outcome};

/// Instances whose refusals are remembered; one that is forgotten gets its few tries again.
pub(super) const REMEMBERED: usize = 10_000;

/// How an instance has been refused.
#[derive(Debug, Default)]
struct Refusals {
    times: u32,
    /// The smaller transfer syntax in which it was, if it was.
    smaller: Option<Uid>,
}

/// See the module.
pub(super) struct Records {
    bench: Arc<Bench>,
    metrics: Metrics,
    /// How often each instance of its own that is waiting has been refused, since the start of the process.
    refusals: HashMap<InstanceId, Refusals>,
    /// What it did not take from the one for which it stands in, and until when it is not offered that again.
    declined: BTreeMap<InstanceId, Instant>,
}

impl Records {
    pub(super) fn new(bench: Arc<Bench>, metrics: Metrics) -> Self {
        Self { bench, metrics, refusals: HashMap::new(), declined: BTreeMap::new() }
    }

    /// Records what came of one delivery.
    pub(super) fn apply(&mut self, Handed { claim, verdict, sent, remark, coerced, sent_as }: Handed) {
        let name = &claim.destination;
        let (id, attempts, length) = (claim.id, claim.attempts, claim.length);
        let through = (*name != self.bench.destination.name).then(|| self.bench.destination.name.clone());
        let verdict = match &through {
            None => verdict,
            Some(stand_in) => verdict.of_stand_in(stand_in),
        };
        let refusals = match &through {
            None => self.refusals.remove(&id).unwrap_or_default(),
            Some(_) => Refusals::default(),
        };
        let smaller = sent_as.as_ref().and_then(|sent_as| sent_as.smaller);
        let sent_as = sent_as.map(|sent_as| sent_as.syntax);
        match &verdict {
            Verdict::Refused { .. } if self.refusals.len() < REMEMBERED => {
                let smaller = sent_as.clone().filter(|_| smaller.is_some()).or(refusals.smaller.clone());
                self.refusals.insert(id, Refusals { times: refusals.times + 1, smaller });
            }
            Verdict::Delivered { .. } if smaller.is_none() => {
                if let Some(syntax) = refusals.smaller.clone() {
                    let kind = Kind::of(&claim.header);
                    info!(destination:% = name, syntax:%; "the archive takes instances of this kind only as they are stored");
                    self.bench.destination.shun(kind, syntax, clock::of_runtime());
                }
            }
            Verdict::Kept { .. } if through.is_some() => self.decline(id),
            _ => {}
        }
        let warned = matches!(verdict, Verdict::Delivered { warned: true, .. });
        let coercion = coerced.map(|coerced| spool::Coercion { sha256: coerced.proven.hash, rules: coerced.rules });
        // Who stands in cannot be asked for the other one, and the other one does not have it.
        let verify_after = self.bench.settings.verify_after.filter(|_| through.is_none());
        let attempt = spool::Attempt { bytes: sent, through, warned, remark, coercion, sent_as };
        let Settings { backoff, tries, .. } = &self.bench.settings;
        let tried = Tried { attempts, refusals: refusals.times };
        let outcome = verdict.outcome(name, tried, backoff, *tries, fastrand::f64());
        let outcome = verify::to_be_verified(outcome, verify_after);
        match &outcome {
            Outcome::Delivered { answer, .. } if warned => {
                self.metrics.delivery(name, Delivery::Warned, length);
                warn!(destination:% = name, id:%; "delivered with a warning: {answer}");
            }
            Outcome::Delivered { .. } => self.metrics.delivery(name, Delivery::Delivered, length),
            Outcome::Retry { answer, .. } => {
                self.metrics.delivery(name, Delivery::Retried, 0);
                info!(destination:% = name, id:%, attempts = attempts + 1; "instance not delivered, again later: {answer}");
            }
            Outcome::Kept { answer } => {
                self.metrics.delivery(name, Delivery::Retried, 0);
                info!(destination:% = name, id:%, attempts = attempts + 1; "instance not delivered, it keeps its place: {answer}");
            }
            Outcome::Parked { reason } => {
                self.refusals.remove(&id);
                self.metrics.delivery(name, Delivery::Parked, 0);
                warn!(destination:% = name, id:%, attempts = attempts + 1; "instance parked: {reason}");
            }
            Outcome::Released => {}
        }
        if let Some(workshop) = &self.bench.settings.workshop
            && matches!(outcome, Outcome::Delivered { .. } | Outcome::Parked { .. })
        {
            workshop.settled(id, name);
        }
        if matches!(outcome, Outcome::Delivered { .. }) {
            self.bench.destination.show(|health| {
                health.gain.stored = health.gain.stored.saturating_add(length);
                health.gain.sent = health.gain.sent.saturating_add(sent);
            });
            if let Some(smaller) = smaller {
                self.metrics.left_smaller(name, length, smaller);
            }
            self.bench.destination.note_obstacle(id, None);
            if let Some(StandIn { whom, .. }) = &self.bench.settings.stands_in {
                whom.note_obstacle(id, None);
            }
        }
        blocking(|| self.bench.spool.record(claim, attempt, outcome));
    }

    /// Does not take this instance for a while for the one for which it stands in.
    fn decline(&mut self, id: InstanceId) {
        self.declined.insert(id, clock::of_runtime() + self.bench.settings.backoff.cap);
    }

    /// Whether the destination has refused this instance before.
    pub(super) fn was_refused(&self, id: InstanceId) -> bool {
        self.refusals.contains_key(&id)
    }

    /// What it is not offered at the moment `now` of the queue of the one for which it stands in.
    pub(super) fn declined(&self, now: Instant) -> BTreeSet<InstanceId> {
        let still = self.declined.iter().filter(|(_, until)| **until > now);
        still.map(|(id, _)| *id).collect()
    }

    /// When it is offered the first of these again.
    pub(super) fn first_offered_again(&self) -> Option<Instant> {
        self.declined.values().min().copied()
    }

    /// Forgets what it has declined before the moment `now`, or everything if it stands in for nobody any more.
    pub(super) fn forget_declined(&mut self, now: Instant, stands_in: bool) {
        self.declined.retain(|_, until| stands_in && *until > now);
    }
}
