//! What archives have been asked by storage commitment (PS3.4 Annex J, the gateway as SCU), and what their reports mean.
//!
//! The side that asks (`forward`) and the side on which a report may come in (`receive`) do not know each other. Both know
//! the [`Inquiry`] of a destination: the one writes into it what it asks for, both let it hear reports, and what a report
//! says goes from it into the spool.
//!
//! ```text
//!  forward::verify ── asks, N-ACTION ──▶ archive
//!        │ asked, reached                   │ N-EVENT-REPORT
//!        ▼                                  ▼
//!     Inquiry ◀── on our association (forward::verify), or on one of the archive's (receive::reports)
//!        │ whose word counts, what it means
//!        ▼
//!      spool: confirmed, missing, later
//! ```
//!
//! # What it promises
//!
//! - **A report counts only if it may be believed.** On an association that we have opened, always: we know whom we called.
//!   On one that we were called on, if it names a transaction that we have asked for: its UID has 122 bits of chance or
//!   more and was told to nobody else; then it counts for the instances of that transaction. Or if it comes from where the
//!   archive is: then it counts for whatever it names, whichever transaction that was. `docs/threat-model.md` has the
//!   reasons.
//! - **A report is answered with 0000 when the spool has it on stable storage**, and not before ([`Report::end`]).
//! - **Nothing here has to survive.** Transactions are kept in memory: after a start an unknown one is believed from where
//!   the archive is, or the archive is asked again when the patience is over.
//! - **Bounded**: transactions by `MOST_ASKED`, doubts by their own limit, reports that are being read by one budget
//!   over all associations.
//!
//! # Deliberately absent
//!
//! Names are not looked up when a report comes: where the archive is, is where we have reached it.

mod doubts;
mod report;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::info;
use tokio::sync::Notify;

pub use doubts::Doubts;
pub use report::Report;

use crate::config::DicomPeer;
use crate::dimse::commitment::{Budget, Information, MOST_AT_ONCE, Reference};
use crate::metrics::{Metrics, Verified};
use crate::model::{AeTitle, DestinationName, Uid};
use crate::spool::{Reported, Spool, SpoolError, Verification};
use crate::tls;

/// Transactions of one destination that are remembered; a million instances, if each is full.
const MOST_ASKED: usize = 2_000;

/// Who brings a report.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// The archive, on an association that we have opened.
    Called,
    /// Somebody, on an association that he has opened.
    Caller {
        /// Where he called from.
        address: IpAddr,
        /// What TLS says of him; nothing in the clear.
        secured: Option<&'a tls::Peer>,
    },
}

/// Why a report counts for nothing.
#[derive(Debug, thiserror::Error)]
pub enum NotHeard {
    /// The transaction is none of ours, and it does not come from where the archive is.
    #[error("the transaction is not one that was asked for, and the report does not come from where the archive is")]
    Unasked,
    /// It could not be kept.
    #[error("{0}")]
    Spool(#[from] SpoolError),
}

/// What one destination has been asked.
pub struct Inquiry {
    /// Its name in the configuration.
    pub destination: DestinationName,
    peer: DicomPeer,
    /// Whether it is called over TLS.
    over_tls: bool,
    state: Mutex<State>,
    /// Something was heard.
    heard: Notify,
    spool: Spool,
    metrics: Metrics,
}

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inquiry").field("destination", &self.destination).finish_non_exhaustive()
    }
}

struct State {
    /// In the order in which they were asked for.
    asked: VecDeque<Asked>,
    doubts: Doubts,
    /// Where the archive was reached last.
    reached: Option<IpAddr>,
    keys: RandomState,
}

/// A transaction.
struct Asked {
    uid: Uid,
    /// Sorted by hash: a full transaction takes 8 KB.
    instances: Vec<Doubtful>,
    heard: bool,
}

/// An instance of a transaction.
#[derive(Debug, Clone, Copy)]
struct Doubtful {
    /// Of its SOP Instance UID.
    hash: u64,
    /// The number of the attempt that delivered it: of later ones the archive could not know when it was asked.
    attempt: u32,
    /// Whether it was in a report.
    heard: bool,
}

impl Asked {
    fn find(&mut self, hash: u64) -> Option<&mut Doubtful> {
        let at = self.instances.binary_search_by_key(&hash, |instance| instance.hash).ok()?;
        self.instances.get_mut(at)
    }
}

impl Inquiry {
    /// Nothing has been asked yet. `after` is the time that an archive is given after a delivery.
    #[must_use]
    pub fn new(
        destination: DestinationName,
        (peer, over_tls): (DicomPeer, bool),
        after: Duration,
        spool: Spool,
        metrics: Metrics,
    ) -> Arc<Self> {
        let keys = RandomState::new();
        let state = State { asked: VecDeque::new(), doubts: Doubts::new(after), reached: None, keys };
        Arc::new(Self { destination, peer, over_tls, state: Mutex::new(state), heard: Notify::new(), spool, metrics })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The archive was reached at this address.
    pub fn reached(&self, address: IpAddr) {
        self.lock().reached = Some(address.to_canonical());
    }

    /// It is about to be asked for these instances, each delivered with the attempt of this number. Call it before: the
    /// report may be faster than the answer.
    pub fn asks<'a>(&self, transaction: &Uid, instances: impl IntoIterator<Item = (&'a Uid, u32)>) {
        let mut state = self.lock();
        let doubtful = |(uid, attempt)| Doubtful { hash: state.keys.hash_one(uid), attempt, heard: false };
        let mut instances: Vec<_> = instances.into_iter().map(doubtful).collect();
        instances.sort_unstable_by_key(|instance| instance.hash);
        if state.asked.len() >= MOST_ASKED {
            state.asked.pop_front();
        }
        state.asked.push_back(Asked { uid: transaction.clone(), instances, heard: false });
    }

    /// It has not taken the request.
    pub fn refused(&self, transaction: &Uid) {
        self.lock().asked.retain(|asked| asked.uid != *transaction);
    }

    /// Whether it has reported this transaction.
    #[must_use]
    pub fn has_heard(&self, transaction: &Uid) -> bool {
        self.lock().asked.iter().any(|asked| asked.heard && asked.uid == *transaction)
    }

    /// Whether it has reported this instance of the transaction.
    #[must_use]
    pub fn has_heard_of(&self, transaction: &Uid, instance: &Uid) -> bool {
        let mut state = self.lock();
        let hash = state.keys.hash_one(instance);
        let asked = state.asked.iter_mut().find(|asked| asked.uid == *transaction);
        asked.and_then(|asked| asked.find(hash)).is_some_and(|instance| instance.heard)
    }

    /// Ready when something was heard since this was ready last.
    pub async fn hears(&self) {
        self.heard.notified().await;
    }

    fn knows(&self, transaction: &Uid) -> bool {
        self.lock().asked.iter().any(|asked| asked.uid == *transaction)
    }

    /// Whether that is where the archive is.
    fn is_there(&self, origin: Origin<'_>) -> bool {
        let Origin::Caller { address, secured } = origin else { return true };
        let here = self.lock().reached == Some(address.to_canonical());
        match secured.filter(|peer| !peer.chain.is_empty()) {
            // The certificate leads to our authority. A modality has one, too: so it must also name the archive, or come
            // from its address.
            Some(peer) => here || peer.is_named(&self.peer.host),
            None => here && !self.over_tls,
        }
    }

    /// What the report means for each instance that it may speak for.
    fn judge(&self, report: &Information, origin: Origin<'_>) -> Option<Vec<Reported>> {
        let is_there = self.is_there(origin);
        let mut state = self.lock();
        let State { asked, doubts, keys, .. } = &mut *state;
        let mut transaction = asked.iter_mut().find(|asked| asked.uid == report.transaction);
        if transaction.is_none() && !is_there {
            return None;
        }
        let committed = report.references.iter().map(|reference| (reference, None));
        let failed = report.failed.iter().map(|(reference, reason)| (reference, Some(*reason)));
        let mut verdicts = Vec::with_capacity(report.references.len() + report.failed.len());
        for (Reference { instance, .. }, failure) in committed.chain(failed) {
            let known = transaction.as_mut().and_then(|asked| asked.find(keys.hash_one(instance)));
            if known.is_none() && !is_there {
                continue;
            }
            let attempt = known.map(|known| {
                known.heard = true;
                known.attempt
            });
            let verification = match failure {
                None => doubts.confirmed(instance, format!("committed, transaction {}", report.transaction)),
                Some(reason) => doubts.not_committed(instance, reason),
            };
            verdicts.push(Reported { instance: instance.clone(), attempt, verification });
        }
        if let Some(asked) = transaction {
            asked.heard = true;
        }
        Some(verdicts)
    }

    /// Takes a report; when this returns `Ok`, what it says is on stable storage. Blocking.
    fn hear(&self, report: &Information, origin: Origin<'_>) -> Result<(), NotHeard> {
        let verdicts = self.judge(report, origin).ok_or(NotHeard::Unasked)?;
        let (mut confirmed, mut missing, mut later) = (0_u64, 0_u64, 0_u64);
        for reported in &verdicts {
            match reported.verification {
                Verification::Confirmed { .. } => confirmed += 1,
                Verification::Missing { .. } => missing += 1,
                Verification::Later { .. } | Verification::Waived => later += 1,
            }
        }
        let ignored = report.references.len() + report.failed.len() - verdicts.len();
        let applied = self.spool.reported(&self.destination, verdicts)?;
        let counts = [(Verified::Confirmed, confirmed), (Verified::Missing, missing), (Verified::Later, later)];
        counts.into_iter().for_each(|(result, count)| self.metrics.verified(&self.destination, result, count));
        info!(
            destination:% = self.destination, transaction:% = report.transaction, confirmed, missing, later, ignored, applied;
            "storage commitment reported"
        );
        self.heard.notify_one();
        Ok(())
    }
}

/// The inquiries of all destinations that are asked by storage commitment. Clones are the same.
#[derive(Debug, Clone)]
pub struct Inquiries {
    all: Arc<[Arc<Inquiry>]>,
    reading: Arc<Budget>,
}

impl Inquiries {
    /// These, and no others.
    #[must_use]
    pub fn new(all: Vec<Arc<Inquiry>>) -> Self {
        Self { all: all.into(), reading: Budget::new(MOST_AT_ONCE) }
    }

    /// That of this destination.
    #[must_use]
    pub fn find(&self, destination: &DestinationName) -> Option<&Arc<Inquiry>> {
        self.all.iter().find(|inquiry| inquiry.destination == *destination)
    }

    /// Those of the archives with this AE title; more than one if they share it.
    #[must_use]
    pub fn of(&self, calling: &AeTitle) -> Vec<Arc<Inquiry>> {
        self.all.iter().filter(|inquiry| inquiry.peer.aet == *calling).cloned().collect()
    }
}

/// Lets the one of these hear a report whose it is. Blocking.
fn hear(candidates: &[Arc<Inquiry>], report: &Information, origin: Origin<'_>) -> Result<(), NotHeard> {
    let asked = candidates.iter().find(|inquiry| inquiry.knows(&report.transaction));
    let mut there = candidates.iter().filter(|inquiry| inquiry.is_there(origin));
    match (asked, there.next(), there.next()) {
        (Some(inquiry), ..) | (None, Some(inquiry), None) => inquiry.hear(report, origin),
        // Of two with one title at one place nobody knows which one speaks.
        _ => Err(NotHeard::Unasked),
    }
}
