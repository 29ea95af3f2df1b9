//! The keeper: the thread that gives room back.
//!
//! In every round it finishes what an earlier one, or an earlier run, has begun; frees what every destination has had for
//! longer than it is to be kept; frees more, the oldest first, while the disk has less room than the mark; removes shared
//! segments in which nothing is left; forgets what was freed long ago; and makes the ballast. It changes the index through the index thread, and the disk
//! through [`super::free::free`].

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::error::SpoolError;
use super::free::free;
use super::index::{Candidate, Change, Corpse, Expendable, Index, IndexError, What, guarded};
use super::indexer::{IndexJob, index_failed};
use super::reader::read_front;
use super::record;
use super::replay::segments;
use super::room;
use super::segment::{Found, Kind, SegmentHeader, Walk};
use super::shared::Shared;
use crate::clock::SpoolTime;

/// How often the keeper looks by itself.
const INTERVAL: Duration = Duration::from_secs(1);
/// Instances that are freed, or forgotten, in one go.
const AT_ONCE: usize = 256;
/// The smallest that a record can be.
const ONE_BLOCK: usize = 4_096;

/// What the keeper is asked to do.
pub(super) enum KeeperJob {
    /// To do a round now, and to say so when it is done.
    Round(Option<SyncSender<()>>),
    Close,
}

/// See the module.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    index: Arc<Index>,
    indexer: SyncSender<IndexJob>,
    /// Segments to be looked at: those out of which something was freed. At first all.
    suspects: Option<BTreeSet<u64>>,
    /// An error that was told already.
    told: Option<String>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, index: Arc<Index>, indexer: SyncSender<IndexJob>) -> Self {
        Self { shared, index, indexer, suspects: None, told: None }
    }

    /// Works until it is told to close, or until nobody is left who could ask for anything.
    pub(super) fn run(mut self, jobs: &Receiver<KeeperJob>) {
        loop {
            let result = self.round();
            let problem = result.err().filter(|_| self.shared.check().is_ok()).map(|error| error.to_string());
            if let Some(problem) = problem.as_ref().filter(|problem| self.told.as_ref() != Some(problem)) {
                log::warn!("delivered instances cannot be freed now: {problem}");
            }
            self.told = problem;
            match jobs.recv_timeout(INTERVAL) {
                Ok(KeeperJob::Round(answer)) => {
                    if let Some(answer) = answer {
                        let _ = self.round();
                        // Whoever asked may have gone.
                        let _ = answer.send(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(KeeperJob::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn round(&mut self) -> Result<(), SpoolError> {
        if self.is_over() {
            return Ok(());
        }
        while self.finish()? > 0 {}
        let now = self.shared.time();
        let keep = u64::try_from(self.shared.options.keep_delivered.as_millis()).unwrap_or(u64::MAX);
        if let Some(until) = now.0.checked_sub(keep) {
            while !self.is_over() && self.free_done(SpoolTime(until))? > 0 {}
        }
        while !self.is_over()
            && self.shared.free()? < self.shared.options.evict_below
            && self.free_done(SpoolTime(u64::MAX))? > 0
        {}
        self.remove_dead_segments()?;
        let keep = u64::try_from(self.shared.options.keep_records.as_millis()).unwrap_or(u64::MAX);
        if let Some(until) = now.0.checked_sub(keep) {
            self.forget(SpoolTime(until))?;
        }
        room::make_ballast(&self.shared)
    }

    fn is_over(&self) -> bool {
        self.shared.closing.load(Ordering::Relaxed) || self.shared.check().is_err()
    }

    fn ask<T>(&self, question: impl FnOnce(&Index) -> Result<T, IndexError>) -> Result<T, SpoolError> {
        guarded(|| question(&self.index)).map_err(|error| index_failed(&self.shared, &error))
    }

    fn change(&self, change: Change) -> Result<Vec<Expendable>, SpoolError> {
        let (answer, answered) = sync_channel(1);
        self.indexer.send(IndexJob::Keep { change, answer }).map_err(|_| SpoolError::Closed)?;
        answered.recv().unwrap_or(Err(SpoolError::Closed))
    }

    /// Takes from the disk what is proved to be expendable and may still be there.
    fn finish(&mut self) -> Result<usize, SpoolError> {
        let pending = self.ask(|index| index.read()?.freeing(AT_ONCE))?;
        let number = pending.len();
        if number > 0 {
            self.take(pending)?;
        }
        Ok(number)
    }

    fn take(&mut self, expendable: Vec<Expendable>) -> Result<(), SpoolError> {
        free(&self.shared, &expendable)?;
        if let Some(suspects) = &mut self.suspects {
            suspects.extend(expendable.iter().filter_map(|expendable| match expendable.what() {
                What::Record { segment, .. } => Some(segment),
                What::Large(_) | What::Segment(_) => None,
            }));
        }
        self.change(Change::Forget(expendable)).map(drop)
    }

    /// Frees some of what every destination had at `until`, the oldest first, and gives how many were looked at.
    fn free_done(&mut self, until: SpoolTime) -> Result<usize, SpoolError> {
        let mut candidates = self.ask(|index| index.read()?.done(until, AT_ONCE))?;
        if candidates.is_empty() {
            return Ok(0);
        }
        for candidate in &mut candidates {
            self.measure(candidate)?;
        }
        let looked_at = candidates.len();
        #[cfg(test)]
        if self.shared.options.sabotage == super::shared::Sabotage::FreeFirst {
            let candidates = candidates.iter().map(Candidate::unproved);
            free(&self.shared, &candidates.collect::<Vec<_>>())?;
        }
        let expendable = self.change(Change::Expend(candidates))?;
        let freed = expendable.len() as u64;
        if freed > 0 {
            self.take(expendable)?;
            self.shared.counters.freed.fetch_add(freed, Ordering::Relaxed);
        }
        Ok(looked_at)
    }

    /// Reads from a record how much room it takes. What is not that record stays where it is.
    fn measure(&self, candidate: &mut Candidate) -> Result<(), SpoolError> {
        let Some(row) = self.ask(|index| index.read()?.instance(candidate.id))? else { return Ok(()) };
        let Some(kept) = row.kept.filter(|kept| Some(kept.location) == candidate.location) else { return Ok(()) };
        let location = kept.location;
        if location.kind == Kind::Large {
            return Ok(());
        }
        let path = self.shared.layout.segment(location.kind, location.segment);
        let front = self.shared.disk.open(&path, false).and_then(|file| read_front(&*file, location.offset));
        let decoded = front.map(|front| record::decode(&front, location.segment, location.offset, None));
        if let Ok(Ok((head, _))) = decoded
            && head.id == kept.record
            && head.hash == kept.hash
        {
            candidate.extent = head.end() - location.offset;
        }
        Ok(())
    }

    /// Forgets some of what was freed at `until`, the oldest first. More of it has time until the next round.
    fn forget(&self, until: SpoolTime) -> Result<(), SpoolError> {
        let mut expired = self.ask(|index| index.read()?.freed(until, AT_ONCE))?;
        if expired.is_empty() || self.is_over() {
            return Ok(());
        }
        for expired in &mut expired {
            expired.gone = expired.place.is_none_or(|place| self.is_gone(place));
        }
        self.change(Change::Expire(expired)).map(drop)
    }

    /// Whether there is nothing at a place in a shared segment. On a file system that cannot punch, there is something
    /// until the whole segment goes.
    fn is_gone(&self, (segment, offset): (u64, u64)) -> bool {
        let path = self.shared.layout.segment(Kind::Shared, segment);
        let file = match self.shared.disk.open(&path, false) {
            Ok(file) => file,
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        };
        let mut block = [0; ONE_BLOCK];
        file.read_at(&mut block, offset).is_ok_and(|_| block.iter().all(|byte| *byte == 0))
    }

    /// Removes the shared segments in which nothing is left that anybody needs.
    fn remove_dead_segments(&mut self) -> Result<(), SpoolError> {
        let suspects = match self.suspects.replace(BTreeSet::new()) {
            Some(suspects) => suspects,
            None => segments(&*self.shared.disk, &self.shared.layout, Kind::Shared)
                .map_err(|failure| self.shared.refuse(failure))?
                .into_iter()
                .collect(),
        };
        for segment in suspects {
            if self.is_over() {
                return Ok(());
            }
            // One that the log has not left yet is looked at again when it may have.
            if self.ask(|index| Ok(index.read()?.state()?.segment <= segment))? {
                self.suspects.get_or_insert_default().insert(segment);
            } else if self.ask(|index| index.read()?.seems_dead(segment))?
                && let Some(found) = self.corpses(segment)?
            {
                let expendable = self.change(Change::Retire { segment, found })?;
                self.take(expendable)?;
            }
        }
        Ok(())
    }

    /// All records in a segment; nothing if there is anything else in it that is not zero.
    fn corpses(&self, segment: u64) -> Result<Option<Vec<Corpse>>, SpoolError> {
        let path = self.shared.layout.segment(Kind::Shared, segment);
        let Ok(file) = self.shared.disk.open(&path, false) else { return Ok(None) };
        let Some(header) = SegmentHeader::read(&*file, Kind::Shared, segment) else { return Ok(None) };
        let walk = Walk::new(&*file, &path, segment, Some(header.salt), 0);
        let mut walk = walk.map_err(|failure| self.shared.refuse(failure))?;
        let mut corpses = Vec::new();
        while let Some(found) = walk.next() {
            match found {
                Found::Record(head, header) => {
                    corpses.push(Corpse { uid: header.sop_instance_uid, hash: head.hash, record: head.id });
                }
                Found::Damage { .. } => return Ok(None),
            }
        }
        Ok(Some(corpses))
    }
}
