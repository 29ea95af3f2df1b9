//! Claims: who is sending what at the moment. They live in memory only, so a crash releases them all.
//!
//! A claim ends when its outcome is committed to the index, or when it is dropped. Until then nobody else gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::index::{Due, Index, IndexError, Open};
use super::record::InstanceHeader;
use crate::clock::SpoolTime;
use crate::model::{ContentHash, DestinationName, InstanceId, Priority, Timestamp, Uid};

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
    /// Its class: that of its header, unless its study was expedited.
    pub priority: Priority,
    /// Another content with the same SOP Instance UID was received: what a destination says by UID may mean the other one.
    pub ambiguous: bool,
    pub(super) lease: Lease,
}

/// A delivery that nobody has claimed, for whoever gets something ready for it.
#[derive(Debug, Clone)]
pub struct Upcoming {
    /// The instance.
    pub id: InstanceId,
    /// Who, what, where to.
    pub header: InstanceHeader,
    /// SHA-256 of its data set.
    pub hash: ContentHash,
    /// Length of its data set, in bytes.
    pub length: u64,
}

/// The queue of a destination, as somebody sees it who takes from it.
#[derive(Debug, Clone, Copy)]
pub struct Queue<'a> {
    /// Whose queue it is.
    pub destination: &'a DestinationName,
    /// Instances that are not looked at.
    pub except: Option<&'a BTreeSet<InstanceId>>,
}

impl<'a> From<&'a DestinationName> for Queue<'a> {
    fn from(destination: &'a DestinationName) -> Self {
        Self { destination, except: None }
    }
}

impl Queue<'_> {
    fn leaves_out(&self, id: InstanceId) -> bool {
        self.except.is_some_and(|except| except.contains(&id))
    }
}

/// From which classes a delivery is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classes {
    /// From all.
    All,
    /// From those that are less urgent than this one: so that a class that waits long gets a turn.
    Below(Priority),
}

impl Classes {
    pub(super) fn contains(self, priority: Priority) -> bool {
        match self {
            Self::All => true,
            Self::Below(class) => priority > class,
        }
    }
}

/// Which parked deliveries are to be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parked {
    /// All.
    All,
    /// Those of the study with this Study Instance UID.
    Study(Uid),
    /// Those of one instance.
    Instance(InstanceId),
}

/// What was done on a claim, for the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempt {
    /// Bytes of the data set that went out.
    pub bytes: u64,
    /// Who was called in the destination's stead, if somebody was.
    pub through: Option<DestinationName>,
    /// The destination has it, and said that something about it is odd.
    pub warned: bool,
    /// What the destination said in words of its own. They may name a patient: shown to whoever asks, as long as the
    /// delivery is open or its instance known, and never told to the ledger or the log.
    pub remark: Option<String>,
    /// The transfer syntax in which it was sent, if that is another than the one in which it was received.
    pub sent_as: Option<Uid>,
    /// If what was sent is not byte for byte what was received.
    pub coercion: Option<Coercion>,
}

/// Rules have changed a copy on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coercion {
    /// SHA-256 of the data set that was sent.
    pub sha256: ContentHash,
    /// Which rules.
    pub rules: Vec<DestinationName>,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it.
    Delivered {
        /// What it said.
        answer: String,
        /// If it has to be asked later whether it has it for good: not before this time has passed.
        verify: Option<Duration>,
    },
    /// It is tried again.
    Retry {
        /// Not before this time has passed.
        after: Duration,
        /// What came of this attempt.
        answer: String,
    },
    /// The attempt counts and is told, and says nothing about the delivery: it waits as before, where it did.
    Kept {
        /// What came of this attempt.
        answer: String,
    },
    /// It is not tried again until [`Spool::retry`](super::Spool::retry).
    Parked {
        /// Why, and what to do, in a sentence.
        reason: String,
    },
    /// No attempt was made: it waits as before.
    Released,
}

/// The right to ask a destination about one instance that was delivered to it. Dropping it gives the right back.
#[derive(Debug)]
pub struct Unverified {
    /// The instance.
    pub id: InstanceId,
    /// Who is to be asked.
    pub destination: DestinationName,
    /// SOP Class UID.
    pub sop_class_uid: Uid,
    /// SOP Instance UID.
    pub sop_instance_uid: Uid,
    /// Study Instance UID, if the data set has a valid one.
    pub study_instance_uid: Option<Uid>,
    /// Series Instance UID, if the data set has a valid one.
    pub series_instance_uid: Option<Uid>,
    /// SHA-256 of its data set.
    pub hash: ContentHash,
    /// When the destination answered the delivery.
    pub delivered_at: Timestamp,
    /// How often it was asked before.
    pub tries: u32,
    /// The number of the attempt that delivered it: what is said about it means no later one.
    pub attempt: u32,
    pub(super) lease: Lease,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// The destination has it for good.
    Confirmed {
        /// What it said.
        answer: String,
    },
    /// It does not have it: it is delivered again.
    Missing {
        /// What it said.
        answer: String,
    },
    /// Nothing is known yet; it is asked again.
    Later {
        /// Not before this time has passed.
        after: Duration,
        /// What came of this time.
        answer: String,
    },
    /// Nobody asks any more, because the configuration does not want it: that it was delivered is the last word.
    Waived,
}

/// What a destination said by itself of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// SOP Instance UID.
    pub instance: Uid,
    /// The number of the attempt about which it was asked; nothing if nobody knows, and it is about any.
    pub attempt: Option<u32>,
    /// What came of it.
    pub verification: Verification,
}

type Listener = Box<dyn Fn(&DestinationName) + Send + Sync>;

/// Everything that is claimed, and whoever wants to know when there may be something to claim.
#[derive(Default)]
pub(super) struct Leases {
    held: Mutex<BTreeMap<DestinationName, Held>>,
    listeners: RwLock<Vec<Listener>>,
}

/// What is claimed of one destination.
#[derive(Default)]
struct Held {
    sending: BTreeSet<InstanceId>,
    verifying: BTreeSet<InstanceId>,
}

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Sending,
    Verifying,
}

impl Held {
    fn of(&mut self, purpose: Purpose) -> &mut BTreeSet<InstanceId> {
        match purpose {
            Purpose::Sending => &mut self.sending,
            Purpose::Verifying => &mut self.verifying,
        }
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<DestinationName, Held>> {
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
        self.lock().get(destination).map_or(0, |held| held.sending.len()) as u64
    }

    /// Claims up to `limit` due deliveries.
    ///
    /// A lease ends only after the commit of its outcome, and the index is looked at only while no lease can end: so no
    /// delivery is claimed that was delivered a moment ago.
    pub(super) fn claim(
        self: &Arc<Self>,
        index: &Index,
        queue: Queue<'_>,
        now: SpoolTime,
        limit: usize,
        classes: Classes,
    ) -> Result<Vec<Claim>, IndexError> {
        let destination = queue.destination;
        let mut all = self.lock();
        let held = &mut all.entry(destination.clone()).or_default().sending;
        let is_taken = |id| held.contains(&id) || queue.leaves_out(id);
        let due = index.read()?.due(destination, now, limit, classes, is_taken)?;
        held.extend(due.iter().map(|due| due.id));
        let claims = due.into_iter().map(|Due { id, attempts, priority, ambiguous, row }| Claim {
            id,
            destination: destination.clone(),
            header: row.header,
            hash: row.hash,
            length: row.length,
            attempts,
            priority,
            ambiguous,
            lease: self.lease(destination, id, Purpose::Sending),
        });
        Ok(claims.collect())
    }

    /// Up to `limit` due deliveries that nobody has claimed, in the order of [`Leases::claim`]; they stay unclaimed.
    pub(super) fn upcoming(
        &self,
        index: &Index,
        queue: Queue<'_>,
        now: SpoolTime,
        limit: usize,
    ) -> Result<Vec<Upcoming>, IndexError> {
        let held = self.lock().get(queue.destination).map(|held| held.sending.clone()).unwrap_or_default();
        let is_taken = |id| held.contains(&id) || queue.leaves_out(id);
        let due = index.read()?.due(queue.destination, now, limit, Classes::All, is_taken)?;
        let upcoming = due.into_iter().map(|Due { id, row, .. }| Upcoming {
            id,
            header: row.header,
            hash: row.hash,
            length: row.length,
        });
        Ok(upcoming.collect())
    }

    /// As [`Leases::claim`], for deliveries about which the destination has to be asked.
    pub(super) fn claim_unverified(
        self: &Arc<Self>,
        index: &Index,
        destination: &DestinationName,
        now: SpoolTime,
        limit: usize,
    ) -> Result<Vec<Unverified>, IndexError> {
        let mut all = self.lock();
        let held = &mut all.entry(destination.clone()).or_default().verifying;
        let open = index.read()?.unverified(destination, now, limit, |id| held.contains(&id))?;
        held.extend(open.iter().map(|open| open.id));
        let claims = open.into_iter().map(|Open { id, row, delivered_at, attempt, tries }| Unverified {
            id,
            destination: destination.clone(),
            sop_class_uid: row.header.sop_class_uid,
            sop_instance_uid: row.header.sop_instance_uid,
            study_instance_uid: row.header.study_instance_uid,
            series_instance_uid: row.header.series_instance_uid,
            hash: row.hash,
            delivered_at,
            tries,
            attempt,
            lease: self.lease(destination, id, Purpose::Verifying),
        });
        Ok(claims.collect())
    }

    fn lease(self: &Arc<Self>, destination: &DestinationName, id: InstanceId, purpose: Purpose) -> Lease {
        Lease { leases: Arc::clone(self), destination: destination.clone(), id, purpose }
    }

    /// The classes in which something is due that nobody has claimed.
    pub(super) fn waiting_classes(
        &self,
        index: &Index,
        queue: Queue<'_>,
        now: SpoolTime,
    ) -> Result<Vec<Priority>, IndexError> {
        let all = self.lock();
        let held = all.get(queue.destination);
        let is_taken = |id| held.is_some_and(|held| held.sending.contains(&id)) || queue.leaves_out(id);
        index.read()?.waiting_classes(queue.destination, now, is_taken)
    }

    /// When the next delivery that nobody has claimed is due.
    pub(super) fn next_due(&self, index: &Index, queue: Queue<'_>) -> Result<Option<SpoolTime>, IndexError> {
        let all = self.lock();
        let held = all.get(queue.destination);
        let is_taken = |id| held.is_some_and(|held| held.sending.contains(&id)) || queue.leaves_out(id);
        index.read()?.next_due(queue.destination, is_taken)
    }

    /// When the destination may be asked about the next delivery that nobody has claimed.
    pub(super) fn next_unverified_due(
        &self,
        index: &Index,
        destination: &DestinationName,
    ) -> Result<Option<SpoolTime>, IndexError> {
        let all = self.lock();
        let held = all.get(destination);
        index.read()?.next_unverified_due(destination, |id| held.is_some_and(|held| held.verifying.contains(&id)))
    }
}

/// Holds a delivery for one claim, to send it or to ask about it, until it is dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    pub(super) destination: DestinationName,
    pub(super) id: InstanceId,
    purpose: Purpose,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({:?} {} to {})", self.purpose, self.id, self.destination)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.leases.lock().get_mut(&self.destination) {
            held.of(self.purpose).remove(&self.id);
        }
        self.leases.notify(&self.destination);
    }
}
