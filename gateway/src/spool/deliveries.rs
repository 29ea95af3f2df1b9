//! What whoever delivers asks of the spool: what is to be sent, what is to be asked afterwards, and what came of it; and
//! what a person wants to go again or to go first.

use std::sync::mpsc::sync_channel;

use super::Spool;
use super::chores::{Chore, Task};
use super::claims::{Attempt, Claim, Classes, Outcome, Parked, Queue, Reported, Unverified, Upcoming, Verification};
use super::error::SpoolError;
use super::indexer::IndexJob;
use crate::clock::{self, SpoolTime};
use crate::ledger::{Answer, Method};
use crate::model::{DestinationName, InstanceId, Priority, Uid};

impl Spool {
    /// Calls `listener` with a destination each time that there may be something new to claim for it: an instance has
    /// become visible, a claim has ended, parked deliveries were released. It must be quick and must not call the spool.
    pub fn on_queued(&self, listener: impl Fn(&DestinationName) + Send + Sync + 'static) {
        self.inner.leases.listen(Box::new(listener));
    }

    /// Claims up to `limit` deliveries of these classes that are due at `now` and that nobody has claimed, best first: by
    /// priority, then by due time, which for fresh ones is the order of arrival.
    ///
    /// # Errors
    /// The spool has failed, possibly by this very call.
    pub fn claim<'a>(
        &self,
        queue: impl Into<Queue<'a>>,
        now: SpoolTime,
        limit: usize,
        classes: Classes,
    ) -> Result<Vec<Claim>, SpoolError> {
        let queue = queue.into();
        self.ask(|inner| inner.leases.claim(&inner.index, queue, now, limit, classes))
    }

    /// Up to `limit` deliveries that [`Spool::claim`] would give, in its order, without claiming them. Somebody else may claim
    /// them at any moment.
    ///
    /// # Errors
    /// As for [`Spool::claim`].
    pub fn upcoming<'a>(
        &self,
        queue: impl Into<Queue<'a>>,
        now: SpoolTime,
        limit: usize,
    ) -> Result<Vec<Upcoming>, SpoolError> {
        let queue = queue.into();
        self.ask(|inner| inner.leases.upcoming(&inner.index, queue, now, limit))
    }

    /// The classes in which something is due at `now` that nobody has claimed, the most urgent first.
    ///
    /// # Errors
    /// As for [`Spool::claim`].
    pub fn waiting_classes<'a>(
        &self,
        queue: impl Into<Queue<'a>>,
        now: SpoolTime,
    ) -> Result<Vec<Priority>, SpoolError> {
        let queue = queue.into();
        self.ask(|inner| inner.leases.waiting_classes(&inner.index, queue, now))
    }

    /// When the first delivery that nobody has claimed is due, if there is one; it may have passed.
    ///
    /// # Errors
    /// As for [`Spool::claim`].
    pub fn next_due<'a>(&self, queue: impl Into<Queue<'a>>) -> Result<Option<SpoolTime>, SpoolError> {
        let queue = queue.into();
        self.ask(|inner| inner.leases.next_due(&inner.index, queue))
    }

    /// Records what came of a claim. The claim ends when that is on stable storage; waits while the index has more to do
    /// than it should. If the spool fails before, the delivery stays queued and is tried again by the next run.
    pub fn record(&self, claim: Claim, attempt: Attempt, outcome: Outcome) {
        if outcome == Outcome::Released {
            return;
        }
        let (now, at) = (self.time(), clock::wall());
        // An index thread that is gone drops the job, and with it the lease.
        let _ = self.inner.indexer.send(IndexJob::Outcome { lease: claim.lease, attempt, outcome, now, at });
    }

    /// Queues parked deliveries again, those to one destination or to all, as if they had never been tried; gives their
    /// number when that is on stable storage. What is parked after the call is not meant. `by` is for the ledger: who asked.
    ///
    /// # Errors
    /// The spool has failed or was closed.
    pub fn retry(&self, destination: Option<&DestinationName>, what: Parked, by: &str) -> Result<u64, SpoolError> {
        let (destination, by) = (destination.cloned(), Answer::from(by));
        match what {
            Parked::Study(study) => self.work_off(Task::RetryStudy { study, destination, by }),
            Parked::Instance(id) => self.work_off(Task::RetryInstance { id, destination, by }),
            Parked::All => {
                let all = || self.ask(|inner| inner.index.read()?.destination_names());
                let names = destination
                    .map_or_else(|| Ok::<Vec<_>, SpoolError>(all()?.into_values().collect()), |name| Ok(vec![name]))?;
                let task = |destination| Task::RetryAll { destination, by: by.clone() };
                names.into_iter().map(|name| self.work_off(task(name))).sum()
            }
        }
    }

    /// Lets a study go first: whatever is queued of it becomes [`Priority::Stat`] for every destination, and so does what
    /// comes of it later, as long as the index knows the study. Gives how many deliveries that changed, when it is on
    /// stable storage; nothing happens if the study is not known. `by` is for the ledger: who asked.
    ///
    /// # Errors
    /// The spool has failed or was closed.
    pub fn expedite(&self, study: &Uid, by: &str) -> Result<u64, SpoolError> {
        self.work_off(Task::Expedite { study: study.clone(), by: by.into() })
    }

    /// Whether another content with the same SOP Instance UID was received, as far as that is known now.
    ///
    /// # Errors
    /// As for [`Spool::claim`].
    pub fn is_ambiguous(&self, id: InstanceId) -> Result<bool, SpoolError> {
        self.ask(|inner| inner.index.read()?.is_ambiguous(id))
    }

    /// Claims up to `limit` deliveries that were made, about which the destination may be asked at `now` and that nobody
    /// has claimed, those in front that are due first.
    ///
    /// # Errors
    /// As for [`Spool::claim`].
    pub fn claim_unverified(
        &self,
        destination: &DestinationName,
        now: SpoolTime,
        limit: usize,
    ) -> Result<Vec<Unverified>, SpoolError> {
        self.ask(|inner| inner.leases.claim_unverified(&inner.index, destination, now, limit))
    }

    /// When the destination may be asked about the first delivery that nobody has claimed, if there is one; it may have
    /// passed.
    ///
    /// # Errors
    /// As for [`Spool::claim`].
    pub fn next_unverified_due(&self, destination: &DestinationName) -> Result<Option<SpoolTime>, SpoolError> {
        self.ask(|inner| inner.leases.next_unverified_due(&inner.index, destination))
    }

    /// Records what a destination said when it was asked. The claim ends when that is on stable storage, as in
    /// [`Spool::record`]. What it does not have is queued again at once.
    /// `method` is how it was asked. Nothing is done if somebody else has settled it meanwhile, or it was delivered once more.
    pub fn verified(&self, claim: Unverified, method: Method, verification: Verification) {
        let (now, at) = (self.time(), clock::wall());
        // An index thread that is gone drops the job, and with it the lease.
        let _ = self.inner.indexer.send(IndexJob::Verified {
            lease: claim.lease,
            attempt: claim.attempt,
            method,
            verification,
            now,
            at,
        });
    }

    /// Records what a destination said by itself, by SOP Instance UID: it applies to each instance with that UID about
    /// which it still had to be asked, claimed or not, and is ignored for all others, and for what was delivered once more
    /// since the question. Gives to how many deliveries it applied, when that is on stable storage.
    ///
    /// # Errors
    /// As for [`Spool::retry`].
    pub fn reported(&self, destination: &DestinationName, report: Vec<Reported>) -> Result<u64, SpoolError> {
        self.work_off(Task::Report { destination: destination.clone(), report })
    }

    /// Has a task done in steps, and waits for its end.
    fn work_off(&self, task: Task) -> Result<u64, SpoolError> {
        let (answer, answered) = sync_channel(1);
        let job = IndexJob::Chore(Chore::new(task, answer));
        self.inner.indexer.send(job).map_err(|_| SpoolError::Closed)?;
        answered.recv().unwrap_or_else(|_| {
            self.inner.shared.check()?;
            Err(SpoolError::Closed)
        })
    }
}
