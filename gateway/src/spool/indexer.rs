//! The index thread: the only one that changes the index. It commits whatever waits as one batch.
//!
//! When little happens, a change is committed at once. Under load it waits a little for company, because a commit costs
//! several flushes on the disk that the log needs for its acknowledgements, and because redb writes the map of its free
//! pages with each of them: a quarter of a mebibyte for a million instances, be it for one change or for a thousand.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::chores::{self, Chore};
use super::claims::{Attempt, Lease, Leases, Outcome, Verification};
use super::error::{Doing, SpoolError};
use super::index::{Arrival, Change, Entered, Expendable, Index, IndexError, Tables, guarded};
use super::room;
use super::segment::Kind;
use super::shared::{Conflicts, Shared};
use super::told::{self, Teller};
use crate::clock::{self, SpoolTime};
use crate::ledger::Method;
use crate::model::{DestinationName, InstanceId, Timestamp};

/// How many changes may wait for the index.
pub(super) const QUEUE: usize = 1_024;
/// The most changes in one commit.
const LARGEST_BATCH: usize = 2_048;
/// The shortest and the longest pause after a commit during which changes are collected for the next one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The pause after a commit, in units of the time that the commit took: on a disk whose flush is slow, four fifths of
/// its time stay for the acknowledgements.
const PAUSE_PER_COMMIT: u32 = 4;
/// The shortest pause after a commit in which several instances arrived: more are coming, and of those that come fast
/// fewer than one in a hundred is to meet a commit.
const PAUSE_WHILE_RECEIVING: Duration = Duration::from_millis(400);

/// What the index thread is asked to do.
pub(super) enum IndexJob {
    /// An instance is safe in the log.
    Arrived(Box<Arrival>),
    /// A claim has come to an end.
    Outcome {
        lease: Lease,
        attempt: Attempt,
        outcome: Outcome,
        now: SpoolTime,
        at: Timestamp,
    },
    /// A destination was asked whether it has what was delivered.
    Verified {
        lease: Lease,
        /// The number of the attempt that delivered it.
        attempt: u32,
        method: Method,
        verification: Verification,
        now: SpoolTime,
        at: Timestamp,
    },
    /// Something that is done in steps.
    Chore(Chore),
    /// The keeper changes what is kept.
    Keep {
        change: Change,
        answer: SyncSender<Result<Vec<Expendable>, SpoolError>>,
    },
    /// Whoever asks wants to know when everything before this is committed.
    Settle(SyncSender<()>),
    Close,
}

/// See the module.
pub(super) struct Indexer {
    shared: Arc<Shared>,
    index: Arc<Index>,
    leases: Arc<Leases>,
    teller: Teller,
    /// Something was not committed, and is not going to be. Nothing that comes after it may be: the next start takes all
    /// that is before the last arrival for entered, and would not look for it in the log.
    is_over: bool,
}

impl Indexer {
    pub(super) fn new(shared: Arc<Shared>, index: Arc<Index>, leases: Arc<Leases>, teller: Teller) -> Self {
        Self { shared, index, leases, teller, is_over: false }
    }

    /// Works until it is told to close, or until nobody is left who could ask for anything.
    pub(super) fn run(mut self, jobs: &Receiver<IndexJob>) {
        let mut pause_ends: Option<Instant> = None;
        let mut chores = VecDeque::new();
        let mut closing = false;
        while !closing {
            let Some(batch) = gather(jobs, pause_ends, !chores.is_empty()) else { break };
            closing = matches!(batch.last(), Some(IndexJob::Close));
            let arrived = batch.iter().filter(|job| matches!(job, IndexJob::Arrived(_))).count();
            let began = clock::now();
            self.is_over = self.is_over || self.commit(batch, &mut chores).is_none();
            if self.is_over {
                // Without an answer it is said that the spool was closed or has failed.
                chores.clear();
            }
            if let Some(chore) = chores.pop_front() {
                chores.extend(self.step(chore));
            }
            let ended = clock::now();
            pause_ends = Some(ended + pause_after(arrived, ended.saturating_duration_since(began)));
        }
    }

    /// Nothing if the spool was closed or has failed before all of it was committed.
    fn commit(&mut self, batch: Vec<IndexJob>, chores: &mut VecDeque<Chore>) -> Option<()> {
        self.shared.check().ok()?;
        let mut keeping = Vec::new();
        let mut settling = Vec::new();
        let mut changes = Vec::new();
        for job in batch {
            match job {
                IndexJob::Chore(chore) => chores.push_back(chore),
                IndexJob::Keep { change, answer } => keeping.push((change, answer)),
                IndexJob::Settle(answer) => settling.push(answer),
                IndexJob::Close => {}
                job @ (IndexJob::Arrived(_) | IndexJob::Outcome { .. } | IndexJob::Verified { .. }) => {
                    changes.push(job)
                }
            }
        }
        while !changes.is_empty() {
            let affordable = room::wait_for_commit(&self.shared, changes.len())?;
            let now: Vec<_> = changes.drain(..affordable).collect();
            match self.patiently(|indexer| indexer.apply(&now))? {
                Ok(queued) => {
                    // Claims end here, after their outcome is safe; then whoever waits for work is told.
                    drop(now);
                    queued.iter().for_each(|destination| self.leases.notify(destination));
                }
                Err(error) => {
                    self.failed(&error);
                    return None;
                }
            }
        }
        for answer in settling {
            // Whoever asked may have gone.
            let _ = answer.send(());
        }
        for (change, answer) in keeping {
            room::wait_for_commit(&self.shared, 1)?;
            let time = self.shared.time();
            let kept = self.patiently(|indexer| {
                indexer.write(|tables| {
                    tables.set_time(time);
                    tables.keep(&change)
                })
            });
            // Whoever asked may have gone.
            let _ = answer.send(kept?.map_err(|error| self.failed(&error)));
        }
        Some(())
    }

    /// Commits the changes and gives the destinations that got new work.
    fn apply(&mut self, changes: &[IndexJob]) -> Result<BTreeSet<DestinationName>, IndexError> {
        let time = self.shared.time();
        let conflicts = self.shared.options.conflicts;
        let mut arrived = Vec::new();
        let queued = self.write(|tables| {
            let mut queued = BTreeSet::new();
            for change in changes {
                match change {
                    IndexJob::Arrived(arrival) => {
                        let entered = tables.arrive(arrival, conflicts)?;
                        told::arrived(tables, arrival, entered)?;
                        arrived.push((arrival, entered));
                        let (segment, offset) = match arrival.location.kind {
                            Kind::Shared => (arrival.location.segment, arrival.end),
                            Kind::Large => (0, 0),
                        };
                        tables.advance(segment, offset, arrival.id);
                        queued.extend(arrival.header.destinations.iter().cloned());
                    }
                    IndexJob::Outcome { lease, attempt, outcome, now, at } => {
                        let Lease { destination, id, .. } = lease;
                        let number = tables.record(destination, *id, (attempt, outcome), *now, *at)?;
                        let entry = number.and_then(|n| told::attempted(*id, destination, n, attempt, outcome));
                        entry.into_iter().for_each(|entry| tables.tell(Some(*at), entry));
                    }
                    IndexJob::Verified { lease, attempt, method, verification, now, at } => {
                        let Lease { destination, id, .. } = lease;
                        tables.verified(destination, *id, (*method, verification), Some(*attempt), (*now, *at))?;
                    }
                    IndexJob::Chore(_) | IndexJob::Keep { .. } | IndexJob::Settle(_) | IndexJob::Close => {}
                }
            }
            tables.set_time(time);
            Ok(queued)
        })?;
        arrived.iter().for_each(|(arrival, entered)| self.shared.tell(arrival, *entered));
        if let Some(last) = arrived.iter().map(|(arrival, _)| arrival.id.0).max() {
            self.shared.indexed_to.fetch_max(last, Ordering::Release);
        }
        Ok(queued)
    }

    /// Does one step of a chore; gives what is left to do.
    fn step(&mut self, mut chore: Chore) -> Option<Chore> {
        self.shared.check().ok()?;
        let limit = room::wait_for_commit(&self.shared, chores::AT_ONCE)?;
        let (now, at) = (self.shared.time(), clock::wall());
        match self.patiently(|indexer| indexer.write(|tables| chore.step(tables, limit, now, at)))? {
            Ok(progress) => {
                progress.concerned.iter().for_each(|destination| self.leases.notify(destination));
                chore.go_on(&progress)
            }
            Err(error) => {
                chore.answer(Err(self.failed(&error)));
                None
            }
        }
    }

    /// Every transaction of a running spool. What it changes is in the ledger before it is committed: nothing is forgotten
    /// that was not told.
    fn write<T>(&mut self, change: impl FnOnce(&mut Tables<'_>) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let Self { shared, index, teller, .. } = self;
        #[cfg(test)]
        if shared.options.sabotage == super::shared::Sabotage::TellLate {
            let (result, late) = index.write(|tables| Ok((change(tables)?, tables.take_told())))?;
            index.write(|tables| {
                late.into_iter().for_each(|(at, entry)| tables.tell(at, entry));
                teller.tell(tables, clock::wall())
            })?;
            return Ok(result);
        }
        shared.index_pulse.during(|| {
            index.write(|tables| {
                let result = change(tables)?;
                teller.tell(tables, clock::wall())?;
                Ok(result)
            })
        })
    }

    /// Does `work`, and again as long as the ledger has no room for it: what was changed is not committed then. Nothing if
    /// the spool is closed or has failed while it waits.
    fn patiently<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, IndexError>,
    ) -> Option<Result<T, IndexError>> {
        let mut said = false;
        loop {
            match guarded(|| work(self)) {
                Err(IndexError::Ledger(error)) if error.is_passing() => {
                    if !std::mem::replace(&mut said, true) {
                        log::error!("{error}");
                    }
                    room::wait_a_moment(&self.shared)?;
                    room::wait_for_commit(&self.shared, 1)?;
                }
                other => return Some(other),
            }
        }
    }

    fn failed(&self, error: &IndexError) -> SpoolError {
        index_failed(&self.shared, error)
    }
}

/// The next jobs, the first of which it waits for; unless it is `busy` otherwise: then those that are there. Nothing if
/// nobody is left who could ask for anything.
fn gather(jobs: &Receiver<IndexJob>, pause_ends: Option<Instant>, busy: bool) -> Option<Vec<IndexJob>> {
    let mut batch = if busy { Vec::new() } else { vec![jobs.recv().ok()?] };
    while batch.len() < LARGEST_BATCH && !matches!(batch.last(), Some(IndexJob::Close)) {
        let pause = pause_ends.filter(|_| !busy);
        let wait = pause.map_or(Duration::ZERO, |end| end.saturating_duration_since(clock::now()));
        let next = if wait.is_zero() { jobs.try_recv().ok() } else { jobs.recv_timeout(wait).ok() };
        let Some(job) = next else { break };
        batch.push(job);
    }
    Some(batch)
}

/// How long changes are collected after a commit that took so long and in which so many instances arrived.
fn pause_after(arrived: usize, took: Duration) -> Duration {
    let shortest = if arrived > 1 { PAUSE_WHILE_RECEIVING } else { PAUSES.0 };
    (took * PAUSE_PER_COMMIT).clamp(shortest, PAUSES.1)
}

/// What it means for the spool when the index fails: it stops. If the disk was not to blame, the next start is told to
/// check the whole index before it trusts it.
pub(super) fn index_failed(shared: &Shared, error: &IndexError) -> SpoolError {
    let suspect = &shared.layout.suspect;
    if error.is_suspicious() && shared.failure().is_none() {
        let marked = shared.disk.create(suspect).and_then(|_| shared.disk.sync_dir(&shared.layout.data));
        if let Err(failure) = marked.doing("create", suspect) {
            log::warn!("{failure}; if the index is damaged, the next start may fail like this one");
        }
    }
    match error {
        IndexError::Ledger(error) => shared.fail(error.to_string()),
        _ => shared.fail(format!("the index {} failed: {error}", shared.layout.index.display())),
    }
}

/// Enters what a replay found. `checked_to` is how far in the shared segments everything was looked at, `large_to` up
/// to which id among the large ones.
pub(super) fn enter_replayed(
    index: &Index,
    teller: &mut Teller,
    arrivals: &[Arrival],
    conflicts: Conflicts,
    checked_to: (u64, u64),
    large_to: InstanceId,
) -> Result<u64, IndexError> {
    index.write(|tables| {
        let mut new = 0;
        for arrival in arrivals {
            let entered = tables.arrive(arrival, conflicts)?;
            told::arrived(tables, arrival, entered)?;
            new += u64::from(entered != Entered::Known);
            tables.set_time(arrival.queued_at);
        }
        tables.advance(checked_to.0, checked_to.1, large_to);
        teller.tell(tables, clock::wall())?;
        Ok(new)
    })
}
