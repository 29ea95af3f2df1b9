//! Segments that are made ready ahead of their use.
//!
//! A flush of bytes that overwrite others is one flush of the disk. A flush of bytes in room that was only reserved is
//! two: the file system has to note in its journal that the room is in use now. So a thread fills the next segments with
//! zeros, in steps, and only after nothing has been received for a while: what is received never shares the disk with
//! it. [`STOCK`] segments last for a study or two; what comes after them in one go, and what a spool receives first,
//! goes into room that is only reserved.
//!
//! Nothing depends on it. There is no stock while there is little room, or when the disk refused. A file that was not
//! used is removed at the end, or swept by the next start, as every `*.tmp`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::error::Doing;
use super::shared::Shared;
use crate::durable::DiskFile;

/// How many segments are kept ready.
const STOCK: usize = 2;
/// How much is written between two flushes, in bytes.
const STEP: usize = 4 << 20;
/// A segment is prepared if there is room for so many beyond the reserve: on a full disk the room is for instances.
const WITH_ROOM_FOR: u64 = 8;
/// The pause after the disk has refused, or had too little room.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// A file with room for a segment, without a header.
pub(super) struct Prepared {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    pub(super) length: u64,
}

/// The thread that prepares, and its stock.
pub(super) struct Preparer {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    stock: Mutex<Vec<Prepared>>,
    /// Counts what the log does.
    activity: AtomicU64,
    closing: AtomicBool,
}

impl Preparer {
    /// Starts it, if that is wanted and the system gives a thread.
    pub(super) fn start(shared: &Arc<Shared>) -> Option<Self> {
        let quiet = shared.options.prepare_after?;
        let state = Arc::new(State::default());
        let (theirs, shared) = (Arc::clone(&state), Arc::clone(shared));
        let work = move || theirs.keep_stock(&shared, quiet);
        let thread = std::thread::Builder::new().name("spool-prepare".to_owned()).spawn(work).ok()?;
        Some(Self { state, thread })
    }

    /// The log is at work: the disk belongs to it.
    pub(super) fn disturb(&self) {
        self.state.activity.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a prepared segment waits.
    pub(super) fn has_stock(&self) -> bool {
        !self.state.stock().is_empty()
    }

    /// Takes a prepared segment with at least `length` bytes.
    pub(super) fn take(&self, length: u64) -> Option<Prepared> {
        let taken = self.state.stock().pop_if(|prepared| prepared.length >= length)?;
        self.thread.thread().unpark();
        Some(taken)
    }

    /// Ends it, and removes what was not used.
    pub(super) fn close(self, shared: &Shared) {
        self.state.closing.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // The panic of a thread was reported when it happened.
        let _ = self.thread.join();
        for prepared in self.state.stock().drain(..) {
            // The next start sweeps it otherwise.
            let _ = shared.disk.remove(&prepared.path);
        }
    }
}

impl State {
    fn stock(&self) -> std::sync::MutexGuard<'_, Vec<Prepared>> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, shared: &Shared) -> bool {
        self.closing.load(Ordering::Relaxed) || shared.check().is_err()
    }

    fn keep_stock(&self, shared: &Shared, quiet: Duration) {
        while !self.is_over(shared) {
            if self.stock().len() >= STOCK {
                std::thread::park();
                continue;
            }
            let path = shared.layout.log.join(format!("prepared-{}.tmp", shared.temporary()));
            match self.fill(shared, quiet, &path) {
                Some(prepared) => self.stock().push(prepared),
                None => {
                    // It may not even have been created; what is left is swept by the next start.
                    let _ = shared.disk.remove(&path);
                    if !self.is_over(shared) {
                        std::thread::park_timeout(AFTER_REFUSAL);
                    }
                }
            }
        }
    }

    /// Makes a file of zeros. Nothing if the spool ends meanwhile, if there is little room, or if the disk refuses for
    /// lack of room; any other error of the disk is the spool's end.
    fn fill(&self, shared: &Shared, quiet: Duration, path: &Path) -> Option<Prepared> {
        let length = shared.options.segment_size;
        let mut seen = self.wait_for_quiet(shared, quiet)?;
        if !shared.room().is_ok_and(|room| room / WITH_ROOM_FOR >= length) {
            return None;
        }
        let refused = |failure| drop(shared.refuse(failure));
        let file = shared.disk.create(path).doing("create", path).map_err(refused).ok()?;
        file.allocate(length).doing("reserve room for", path).map_err(refused).ok()?;
        let zeros = vec![0; STEP.min(usize::try_from(length).unwrap_or(STEP))];
        let mut position = 0;
        while position < length {
            if self.activity.load(Ordering::Relaxed) != seen {
                seen = self.wait_for_quiet(shared, quiet)?;
            }
            let left = usize::try_from(length - position).unwrap_or(STEP);
            let step = zeros.get(..left).unwrap_or(&zeros);
            file.write_at(step, position).doing("write", path).map_err(refused).ok()?;
            file.sync_data().doing("flush", path).map_err(|failure| drop(shared.unsynced(&failure))).ok()?;
            position += step.len() as u64;
        }
        Some(Prepared { file, path: path.to_owned(), length })
    }

    /// Waits until the log has done nothing for so long; gives the count of what it has done. Nothing if the spool ends.
    fn wait_for_quiet(&self, shared: &Shared, quiet: Duration) -> Option<u64> {
        loop {
            let before = self.activity.load(Ordering::Relaxed);
            std::thread::park_timeout(quiet);
            if self.is_over(shared) {
                return None;
            }
            if self.activity.load(Ordering::Relaxed) == before {
                return Some(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::durable::memory::MemoryDisk;
    use crate::spool::record::tests::header;
    use crate::spool::tests::{data_set, open_with, options, read, receive};
    use crate::spool::{InstanceId, SpoolOptions};

    #[test]
    fn records_go_into_a_prepared_segment_as_soon_as_there_is_one_and_no_file_is_left_over() {
        let disk = MemoryDisk::new();
        let (spool, ..) = open_with(&disk, SpoolOptions { prepare_after: Some(Duration::ZERO), ..options() });
        let has = |name: &str| disk.names().iter().any(|path| path == Path::new(name));
        let mut sent = 0;
        while !has("/data/log/0000000002.seg") {
            sent += 1;
            receive(&spool, header(sent), &data_set(sent, 100)).unwrap();
            assert!(sent < 15, "the first segment has room for so many");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(sent > 1, "the first segment cannot have been prepared");
        spool.close();
        assert!(disk.names().iter().all(|path| path.extension().is_none_or(|extension| extension != "tmp")));
        let (spool, ..) = open_with(&disk, options());
        assert!((1..=sent).all(|number| read(&spool, InstanceId(number)).unwrap() == data_set(number, 100)));
    }
}
