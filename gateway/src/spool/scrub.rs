//! The scrub: the thread that reads everything on the disk again, slowly, over and over.
//!
//! A flipped bit is found while the modality still has the image, and not when the archive is to get it. The scrub reads
//! from the disk and not from the page cache, no faster than it is allowed to, and goes on after a restart where it was.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::error::SpoolError;
use super::index::{Change, Damaged, Index, IndexError, Kept, Payloads, ScrubRow, Tally, guarded};
use super::indexer::{IndexJob, index_failed};
use super::reader::PayloadReader;
use super::segment::Kind;
use super::shared::Shared;
use super::status::ScrubPass;
use crate::clock;
use crate::model::InstanceId;

/// Instances that are looked up at once.
const AT_ONCE: usize = 64;
/// Bytes between two pauses.
const STRETCH: u64 = 1 << 20;
/// How often the progress is stored: after a restart at most this much is read twice.
const STORE_EVERY: Duration = Duration::from_secs(60);
/// The pause between two passes.
const REST: Duration = Duration::from_secs(3_600);

/// What the scrub is asked to do.
pub(super) enum ScrubJob {
    /// To read everything from the start without a pause, and to say so when it is done.
    #[cfg(test)]
    Pass(SyncSender<()>),
    Close,
}

/// Why a pass is broken off.
struct Over;

/// See the module.
pub(super) struct Scrub {
    shared: Arc<Shared>,
    index: Arc<Index>,
    indexer: SyncSender<IndexJob>,
    row: ScrubRow,
    /// The segment whose cached pages were dropped last.
    dropped: Option<(Kind, u64)>,
    stored_at: std::time::Instant,
    /// Somebody waits: no pauses.
    hurry: bool,
}

impl Scrub {
    pub(super) fn new(shared: Arc<Shared>, index: Arc<Index>, indexer: SyncSender<IndexJob>) -> Self {
        let (row, stored_at) = (ScrubRow::default(), clock::now());
        Self { shared, index, indexer, row, dropped: None, stored_at, hurry: false }
    }

    /// Works until it is told to close, or until nobody is left who could tell it.
    pub(super) fn run(mut self, jobs: &Receiver<ScrubJob>) {
        let Ok(row) = self.ask(|index| index.read()?.scrub()) else { return };
        self.row = row;
        self.show();
        let rests = self.shared.options.scrub_rate == 0;
        let mut rest = if rests { Duration::MAX } else { Duration::ZERO };
        loop {
            match wait(jobs, rest) {
                Err(RecvTimeoutError::Timeout) => {
                    if self.pass(jobs).is_err() {
                        return;
                    }
                    rest = REST;
                }
                #[cfg(test)]
                Ok(ScrubJob::Pass(answer)) => {
                    self.row = ScrubRow { last: self.row.last, ..ScrubRow::default() };
                    self.hurry = true;
                    let over = self.pass(jobs).is_err();
                    self.hurry = false;
                    let _ = answer.send(());
                    if over {
                        return;
                    }
                }
                Ok(ScrubJob::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn ask<T>(&self, question: impl FnOnce(&Index) -> Result<T, IndexError>) -> Result<T, SpoolError> {
        self.shared.check()?;
        guarded(|| question(&self.index)).map_err(|error| index_failed(&self.shared, &error))
    }

    /// Reads from where the last run was to the end.
    fn pass(&mut self, jobs: &Receiver<ScrubJob>) -> Result<(), Over> {
        loop {
            let first = self.row.next;
            let found = self.ask(|index| index.read()?.payloads(first, AT_ONCE)).map_err(|_| Over)?;
            let Some(Payloads { payloads, next }) = found else { break };
            for (id, kept) in payloads {
                self.check(id, &kept, jobs)?;
                self.row.next = id.0.saturating_add(1);
                self.row.checked.instances += 1;
                self.row.checked.bytes += kept.stored_length;
                self.show();
                if clock::now().saturating_duration_since(self.stored_at) >= STORE_EVERY {
                    self.store();
                }
            }
            self.row.next = next;
        }
        let (checked, damaged) = (self.row.checked, self.row.damaged);
        log::info!("everything on the disk was read: {} instances, {damaged} of them damaged", checked.instances);
        let last = Some(ScrubPass { at: clock::wall(), checked, damaged });
        self.row = ScrubRow { next: 0, checked: Tally::default(), damaged: 0, last };
        self.show();
        self.store();
        Ok(())
    }

    fn check(&mut self, id: InstanceId, kept: &Kept, jobs: &Receiver<ScrubJob>) -> Result<(), Over> {
        let (disk, layout) = (&self.shared.disk, &self.shared.layout);
        let segment = (kept.location.kind, kept.location.segment);
        if self.dropped.replace(segment) != Some(segment)
            && let Ok(file) = disk.open(&layout.segment(segment.0, segment.1), false)
        {
            file.drop_cache();
        }
        let problem = match PayloadReader::open(&**disk, layout, id, kept) {
            Ok(reader) => self.read(reader, jobs)?,
            Err(SpoolError::Damaged { problem, .. }) => Some(problem),
            // No descriptor, no memory: the next pass looks again.
            Err(_) => None,
        };
        if let Some(problem) = problem {
            self.report(id, kept, problem);
        }
        Ok(())
    }

    /// Reads a payload to its end, with pauses, and says what is wrong with it.
    fn read(&self, mut reader: PayloadReader, jobs: &Receiver<ScrubJob>) -> Result<Option<String>, Over> {
        let mut buffer = vec![0; 64 << 10];
        let mut read: u64 = 0;
        loop {
            let problem = match reader.read(&mut buffer) {
                Ok(0) => None,
                Ok(more) => {
                    read += more as u64;
                    if read >= STRETCH {
                        self.pause(std::mem::take(&mut read), jobs)?;
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Some(error.to_string()),
            };
            self.pause(read, jobs)?;
            return Ok(problem);
        }
    }

    /// Waits as long as reading so many bytes may take.
    fn pause(&self, bytes: u64, jobs: &Receiver<ScrubJob>) -> Result<(), Over> {
        if self.hurry || self.shared.options.scrub_rate == 0 {
            return Ok(());
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.shared.options.scrub_rate);
        match wait(jobs, Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            #[cfg(test)]
            Ok(ScrubJob::Pass(_)) => Ok(()),
            Ok(ScrubJob::Close) | Err(RecvTimeoutError::Disconnected) => Err(Over),
        }
    }

    /// Tells the index. What was freed or kept anew in the meantime is not damaged; the index sees to that.
    fn report(&mut self, id: InstanceId, kept: &Kept, problem: String) {
        let here = self.ask(|index| Ok(index.read()?.instance(id)?.and_then(|row| row.kept)));
        if here.ok().flatten().is_none_or(|here| here != *kept) {
            return;
        }
        log::error!("instance {id} is damaged on this disk: {problem}");
        self.row.damaged += 1;
        report(&self.indexer, id, kept.record, problem);
    }

    fn show(&self) {
        *self.shared.scrub.lock().unwrap_or_else(PoisonError::into_inner) = self.row;
    }

    fn store(&mut self) {
        self.stored_at = clock::now();
        let (answer, answered) = sync_channel(1);
        if self.indexer.send(IndexJob::Keep { change: Change::Scrubbed(self.row), answer }).is_ok() {
            // Stored or not, the scrub goes on; a failure of the index is everybody's.
            let _ = answered.recv();
        }
    }
}

/// Reports a damaged payload to the index. Who asked need not wait.
pub(super) fn report(indexer: &SyncSender<IndexJob>, id: InstanceId, record: InstanceId, problem: String) {
    let problem = format!("the copy of instance {id} on this disk is damaged ({problem})");
    let change = Change::Damaged(Damaged { id, record, problem, at: clock::wall() });
    let (answer, _) = sync_channel(1);
    // An index thread that is gone has failed or was closed: the next run finds the damage again.
    let _ = indexer.send(IndexJob::Keep { change, answer });
}

fn wait(jobs: &Receiver<ScrubJob>, time: Duration) -> Result<ScrubJob, RecvTimeoutError> {
    if time == Duration::MAX {
        return jobs.recv().map_err(|_| RecvTimeoutError::Disconnected);
    }
    jobs.recv_timeout(time)
}
