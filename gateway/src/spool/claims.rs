//! Claims: who is sending what at the moment. They live in memory only, so a crash releases them all.
//!
//! A claim ends when its outcome is committed to the index, or when it is dropped. Until then nobody else gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::index::{Index, IndexError};
use super::record::InstanceHeader;
use crate::clock::SpoolTime;
use crate::model::{ContentHash, DestinationName, InstanceId};

/// The right to send one instance to one destination. Dropping it gives the right back.
#[derive(Debug)]
pub struct Claim {
    /// The instance.
    pub id: InstanceId,
    /// Where it goes.
    pub destination: DestinationName,
    /// Who, what, where to.
    pub header: InstanceHeader,
    /// SHA-256 of its data set.
    pub hash: ContentHash,
    /// Length of its data set, in bytes.
    pub length: u64,
    /// How often it was tried before.
    pub attempts: u32,
    pub(super) lease: Lease,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it.
    Delivered {
        /// What it said.
        answer: String,
    },
    /// It is tried again.
    Retry {
        /// Not before this time has passed.
        after: Duration,
        /// What came of this attempt.
        answer: String,
    },
    /// It is not tried again until [`Spool::retry_parked`](super::Spool::retry_parked).
    Parked {
        /// Why, and what to do, in a sentence.
        reason: String,
    },
    /// No attempt was made: it waits as before.
    Released,
}

type Listener = Box<dyn Fn(&DestinationName) + Send + Sync>;

/// Everything that is claimed, and whoever wants to know when there may be something to claim.
#[derive(Default)]
pub(super) struct Leases {
    held: Mutex<BTreeMap<DestinationName, BTreeSet<InstanceId>>>,
    listeners: RwLock<Vec<Listener>>,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DestinationName, BTreeSet<InstanceId>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    pub(super) fn notify(&self, destination: &DestinationName) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().for_each(|listener| listener(destination));
    }

    pub(super) fn count(&self, destination: &DestinationName) -> u64 {
        self.lock().get(destination).map_or(0, BTreeSet::len) as u64
    }

    /// Claims up to `limit` due deliveries.
    ///
    /// A lease ends only after the commit of its outcome, and the index is looked at only while no lease can end: so no
    /// delivery is claimed that was delivered a moment ago.
    pub(super) fn claim(
        self: &Arc<Self>,
        index: &Index,
        destination: &DestinationName,
        now: SpoolTime,
        limit: usize,
    ) -> Result<Vec<Claim>, IndexError> {
        let mut all = self.lock();
        let held = all.entry(destination.clone()).or_default();
        let due = index.read()?.due(destination, now, limit, |id| held.contains(&id))?;
        held.extend(due.iter().map(|(id, ..)| *id));
        let claims = due.into_iter().map(|(id, attempts, row)| Claim {
            id,
            destination: destination.clone(),
            header: row.header,
            hash: row.hash,
            length: row.length,
            attempts,
            lease: Lease { leases: Arc::clone(self), destination: destination.clone(), id },
        });
        Ok(claims.collect())
    }

    /// When the next delivery that nobody has claimed is due.
    pub(super) fn next_due(
        &self,
        index: &Index,
        destination: &DestinationName,
    ) -> Result<Option<SpoolTime>, IndexError> {
        let all = self.lock();
        let held = all.get(destination);
        index.read()?.next_due(destination, |id| held.is_some_and(|held| held.contains(&id)))
    }
}

/// Holds a delivery for one claim until it is dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    pub(super) destination: DestinationName,
    pub(super) id: InstanceId,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} to {})", self.id, self.destination)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.leases.lock().get_mut(&self.destination) {
            held.remove(&self.id);
        }
        self.leases.notify(&self.destination);
    }
}
