//! A disk in memory that can lose power, tear writes and fail, for tests.
//!
//! Every changing operation is kept in a trace. A test runs its scenario once, on as many threads as it likes, and then
//! asks for the disk that a power cut after the first `n` operations would have left ([`MemoryDisk::cut`]): synced data
//! is there; of everything else any subset of 512-byte sectors may be there, and of the names in a directory any prefix
//! of the changes since its last sync. [`MemoryDisk::operations`], read when the spool acknowledges something, says
//! which cuts that acknowledgement must survive.
//!
//! Faults: [`MemoryDisk::fail`] makes the k-th changing operation from now fail, once or for ever. A failed sync loses
//! the unsynced bytes for good while reads go on showing them, as the page cache of Linux does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::errno::Errno;

use super::{Disk, DiskFile};

const SECTOR: usize = 512;
/// The unit in which room is given and taken.
const BLOCK: u64 = 4_096;

/// Which unsynced changes a power cut leaves behind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Survivors {
    /// Only what was synced.
    Nothing,
    /// Everything that was written.
    Everything,
    /// Each sector by the toss of a coin with this seed.
    Some(u64),
}

#[derive(Debug, Clone)]
enum Change {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    SetLength(u64),
    /// As `SetLength`, with room for all of it.
    Allocate(u64),
    Punch {
        offset: u64,
        length: usize,
    },
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Debug, Clone)]
enum Operation {
    Change(usize, Change),
    SyncFile(usize),
    /// The sync reported an error: what was unsynced never reaches the disk.
    LoseFile(usize),
    Name(NameChange),
    SyncDir(PathBuf),
    SyncAll,
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// What a read shows.
    cache: Vec<u8>,
    /// What is on the disk for certain.
    disk: Vec<u8>,
    /// What is not yet: applied to `disk` by a sync.
    unsynced: Vec<Change>,
    /// The blocks of `cache` that take no room.
    holes: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Fault {
    countdown: u64,
    error: Errno,
    forever: bool,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    names_on_disk: BTreeMap<PathBuf, usize>,
    names_unsynced: BTreeMap<PathBuf, Vec<NameChange>>,
    /// What was on the disk when the trace began.
    start: (Vec<Content>, BTreeMap<PathBuf, usize>),
    trace: Vec<Operation>,
    ignore_directory_syncs: bool,
    fault: Option<Fault>,
    capacity: Option<u64>,
    sync_takes: Duration,
    syncs_are_held: bool,
    traffic: Traffic,
}

/// What was read and written since the disk was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    pub(crate) reads: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

/// See the module. Clones show the same disk.
#[derive(Debug, Clone)]
pub(crate) struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct MemoryFile {
    state: Arc<Mutex<State>>,
    number: usize,
}

impl MemoryDisk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self { state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How many changing operations there were.
    pub(crate) fn operations(&self) -> usize {
        self.lock().trace.len()
    }

    /// From now on a sync of a directory does nothing: a negative control.
    pub(crate) fn ignore_directory_syncs(&self) {
        self.lock().ignore_directory_syncs = true;
    }

    /// The changing operation after the next `after` ones fails with `error`, and if `forever` so do all later ones.
    pub(crate) fn fail(&self, after: u64, error: Errno, forever: bool) {
        self.lock().fault = Some(Fault { countdown: after, error, forever });
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.lock().fault = None;
    }

    /// How much the files may hold together; writes and allocations beyond fail with ENOSPC.
    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// How much the files hold together.
    pub(crate) fn used(&self) -> u64 {
        self.lock().used()
    }

    /// Every sync of a file takes this long.
    pub(crate) fn set_sync_takes(&self, takes: Duration) {
        self.lock().sync_takes = takes;
    }

    /// As long as this is so, a sync of a file does not return.
    pub(crate) fn hold_syncs(&self, held: bool) {
        self.lock().syncs_are_held = held;
    }

    /// What was read and written so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    /// Flips bits of a file at rest, behind everybody's back.
    pub(crate) fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.lock();
        let number = state.names[path];
        state.files[number].cache[offset] ^= mask;
        state.files[number].disk[offset] ^= mask;
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.lock().names.keys().cloned().collect()
    }

    /// The disk that a power cut after the first `operations` operations leaves.
    pub(crate) fn cut(&self, operations: usize, survivors: Survivors) -> Self {
        let live = self.lock();
        let (files, names) = live.start.clone();
        let mut state = State { files, names: names.clone(), names_on_disk: names, ..State::default() };
        for operation in &live.trace[..operations] {
            state.replay(operation);
        }
        state.lose_power(survivors);
        state.start = (state.files.clone(), state.names.clone());
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl State {
    /// Fails a changing operation if it is the one that must fail.
    fn step(&mut self) -> io::Result<()> {
        let Some(fault) = &mut self.fault else { return Ok(()) };
        if fault.countdown > 0 {
            fault.countdown -= 1;
            return Ok(());
        }
        let error = fault.error;
        if !fault.forever {
            self.fault = None;
        }
        Err(error.into())
    }

    fn record(&mut self, operation: Operation) {
        self.replay(&operation);
        self.trace.push(operation);
    }

    fn replay(&mut self, operation: &Operation) {
        match operation {
            Operation::Change(number, change) => {
                if *number == self.files.len() {
                    self.files.push(Content::default());
                }
                let content = &mut self.files[*number];
                content.take_room(change);
                apply(&mut content.cache, change);
                content.unsynced.push(change.clone());
            }
            Operation::SyncFile(number) => self.files[*number].sync(),
            Operation::LoseFile(number) => self.files[*number].unsynced.clear(),
            Operation::Name(change) => {
                rename(&mut self.names, change);
                let directory = change.path().parent().unwrap().to_owned();
                self.names_unsynced.entry(directory).or_default().push(change.clone());
            }
            Operation::SyncDir(directory) => {
                for change in self.names_unsynced.remove(directory).unwrap_or_default() {
                    rename(&mut self.names_on_disk, &change);
                }
            }
            Operation::SyncAll => {
                self.files.iter_mut().for_each(Content::sync);
                for change in std::mem::take(&mut self.names_unsynced).into_values().flatten() {
                    rename(&mut self.names_on_disk, &change);
                }
            }
        }
    }

    fn lose_power(&mut self, survivors: Survivors) {
        let mut random = fastrand::Rng::with_seed(match survivors {
            Survivors::Some(seed) => seed,
            Survivors::Nothing | Survivors::Everything => 0,
        });
        let survives = |random: &mut fastrand::Rng| match survivors {
            Survivors::Nothing => false,
            Survivors::Everything => true,
            Survivors::Some(_) => random.bool(),
        };
        for content in &mut self.files {
            for change in std::mem::take(&mut content.unsynced) {
                match &change {
                    Change::SetLength(_) | Change::Allocate(_) => {
                        if survives(&mut random) {
                            apply(&mut content.disk, &change);
                        }
                    }
                    Change::Punch { offset, length } => {
                        for sector in sectors(*offset, *length) {
                            if survives(&mut random) {
                                let offset = offset + sector.start as u64;
                                apply(&mut content.disk, &Change::Punch { offset, length: sector.len() });
                            }
                        }
                    }
                    Change::Write { offset, data } => {
                        for sector in sectors(*offset, data.len()) {
                            if survives(&mut random) {
                                let offset = offset + sector.start as u64;
                                apply(&mut content.disk, &Change::Write { offset, data: data[sector].to_vec() });
                            }
                        }
                    }
                }
            }
            content.cache.clone_from(&content.disk);
        }
        for changes in std::mem::take(&mut self.names_unsynced).into_values() {
            for change in changes {
                if !survives(&mut random) {
                    break;
                }
                rename(&mut self.names_on_disk, &change);
            }
        }
        self.names = self.names_on_disk.clone();
    }

    fn used(&self) -> u64 {
        self.names.values().map(|number| self.files[*number].room()).sum()
    }

    fn room_for(&self, number: usize, change: &Change) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        // A file that has no name yet, or no longer, takes room too.
        let mut after = self.files[number].clone_room();
        let before = after.room();
        after.take_room(change);
        match after.room().checked_sub(before) {
            Some(grown) if grown > 0 && self.used() + grown > capacity => Err(Errno::ENOSPC.into()),
            _ => Ok(()),
        }
    }
}

impl Content {
    /// What the file takes on the disk.
    fn room(&self) -> u64 {
        (self.length_in_blocks() - self.holes.len() as u64) * BLOCK
    }

    fn length_in_blocks(&self) -> u64 {
        (self.cache.len() as u64).div_ceil(BLOCK)
    }

    /// The same room with no bytes in it, to try a change on.
    fn clone_room(&self) -> Self {
        Self { cache: vec![0; self.cache.len()], holes: self.holes.clone(), ..Self::default() }
    }

    /// Keeps the books of the room for a change that is about to be applied; makes the cache as long as it will be.
    fn take_room(&mut self, change: &Change) {
        let before = self.length_in_blocks();
        let (end, filled) = match change {
            Change::Write { offset, data } => {
                let end = offset + data.len() as u64;
                (end.max(self.cache.len() as u64), *offset / BLOCK..end.div_ceil(BLOCK))
            }
            Change::SetLength(length) => (*length, 0..0),
            Change::Allocate(length) => (*length, 0..length.div_ceil(BLOCK)),
            Change::Punch { offset, length } => {
                self.holes.extend(*offset / BLOCK..(*offset + *length as u64).div_ceil(BLOCK));
                return;
            }
        };
        self.cache.resize(usize::try_from(end).unwrap(), 0);
        let after = self.length_in_blocks();
        self.holes.extend(before..after);
        self.holes.split_off(&after);
        for block in filled {
            self.holes.remove(&block);
        }
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            apply(&mut self.disk, &change);
        }
    }
}

impl NameChange {
    fn path(&self) -> &Path {
        match self {
            Self::Link(path, _) | Self::Rename(_, path) | Self::Remove(path) => path,
        }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetLength(length) | Change::Allocate(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        Change::Punch { offset, length } => {
            let start = usize::try_from(*offset).unwrap().min(bytes.len());
            let end = (start + length).min(bytes.len());
            bytes[start..end].fill(0);
        }
        Change::Write { offset, data } => {
            let start = usize::try_from(*offset).unwrap();
            if bytes.len() < start + data.len() {
                bytes.resize(start + data.len(), 0);
            }
            bytes[start..start + data.len()].copy_from_slice(data);
        }
    }
}

fn rename(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Link(path, number) => {
            names.insert(path.clone(), *number);
        }
        NameChange::Rename(from, to) => {
            if let Some(number) = names.remove(from) {
                names.insert(to.clone(), number);
            }
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
    }
}

/// The parts of a write that reach the disk or not as one.
fn sectors(offset: u64, length: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < length {
        let within = usize::try_from(offset).unwrap() + start;
        let end = length.min(start + SECTOR - within % SECTOR);
        parts.push(start..end);
        start = end;
    }
    parts
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock();
        state.step()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.files.len();
        state.record(Operation::Change(number, Change::SetLength(0)));
        state.record(Operation::Name(NameChange::Link(path.to_owned(), number)));
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), number }))
    }

    fn open(&self, path: &Path, _writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.lock();
        let number = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.record(Operation::Name(NameChange::Rename(from.to_owned(), to.to_owned())));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.record(Operation::Name(NameChange::Remove(path.to_owned())));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn create_dir(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        if !state.ignore_directory_syncs {
            state.record(Operation::SyncDir(directory.to_owned()));
        }
        Ok(())
    }

    fn sync_file_system(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.record(Operation::SyncAll);
        Ok(())
    }

    fn free(&self, _directory: &Path) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

impl MemoryFile {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.room_for(self.number, &change)?;
        state.record(Operation::Change(self.number, change));
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.lock().traffic.bytes_written += data.len() as u64;
        self.change(Change::Write { offset, data: data.to_vec() })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.lock();
        let bytes = &state.files[self.number].cache;
        let available = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let read = available.len().min(buffer.len());
        buffer[..read].copy_from_slice(&available[..read]);
        state.traffic.reads += 1;
        state.traffic.bytes_read += read as u64;
        Ok(read)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = length.max(self.length()?);
        self.change(Change::Allocate(length))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.change(Change::Punch { offset, length: usize::try_from(length).unwrap() })
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.change(Change::SetLength(length))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.lock().files[self.number].cache.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.lock().sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        while self.lock().syncs_are_held {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut state = self.lock();
        if let Err(error) = state.step() {
            state.record(Operation::LoseFile(self.number));
            return Err(error);
        }
        state.record(Operation::SyncFile(self.number));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn drop_cache(&self) {
        let mut state = self.lock();
        let content = &mut state.files[self.number];
        let mut seen = content.disk.clone();
        content.unsynced.iter().for_each(|change| apply(&mut seen, change));
        content.cache = seen;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(disk: &MemoryDisk, path: &Path) -> Vec<u8> {
        let file = disk.open(path, false).unwrap();
        let mut all = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        super::super::read_exact_at(&*file, &mut all, 0).unwrap();
        all
    }

    #[test]
    fn a_cut_keeps_what_was_synced_and_tears_the_rest_by_sectors() {
        let (disk, path) = (MemoryDisk::new(), Path::new("/d/f"));
        let file = disk.create(path).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(&[1; 2_048], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[2; 2_048], 0).unwrap();
        let end = disk.operations();
        assert_eq!(bytes(&disk.cut(end, Survivors::Nothing), path), [1; 2_048]);
        assert_eq!(bytes(&disk.cut(end, Survivors::Everything), path), [2; 2_048]);
        let torn = (0..20).any(|seed| {
            let bytes = bytes(&disk.cut(end, Survivors::Some(seed)), path);
            assert!(bytes.chunks(SECTOR).all(|sector| sector == [1; SECTOR] || sector == [2; SECTOR]));
            bytes.contains(&1) && bytes.contains(&2)
        });
        assert!(torn);
    }

    #[test]
    fn a_name_is_safe_only_after_its_directory_was_synced() {
        let (disk, from, to) = (MemoryDisk::new(), Path::new("/d/f.tmp"), Path::new("/d/f"));
        disk.create(from).unwrap().sync_all().unwrap();
        disk.rename(from, to).unwrap();
        assert!(disk.cut(disk.operations(), Survivors::Nothing).names().is_empty());
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(disk.cut(disk.operations(), Survivors::Nothing).names(), [to]);
    }

    #[test]
    fn a_failed_sync_loses_bytes_that_reads_still_show() {
        let (disk, path) = (MemoryDisk::new(), Path::new("/d/f"));
        let file = disk.create(path).unwrap();
        disk.sync_file_system(Path::new("/d")).unwrap();
        file.write_at(b"lost", 0).unwrap();
        disk.fail(0, Errno::EIO, false);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(bytes(&disk, path), b"lost");
        assert_eq!(bytes(&disk.cut(disk.operations(), Survivors::Everything), path), b"");
        file.drop_cache();
        assert_eq!(bytes(&disk, path), b"");
    }
}
