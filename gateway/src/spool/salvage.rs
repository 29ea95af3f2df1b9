//! Reading a data directory without a gateway: from a box that is dead, or one that is to be looked at. Nothing in the
//! directory is changed.
//!
//! The log is enough. The index, if it can be used, tells what was delivered already; it is opened with everything that
//! redb writes kept in memory ([`Index::look`]), because redb repairs what a power cut has left before it reads.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Doing, IoFailure, OpenError};
use super::index::{Index, Kept, Location, Standing, guarded};
use super::reader::PayloadReader;
use super::record::InstanceHeader;
use super::replay::{self, Damage, Made, Opened, segments};
use super::segment::{Found, Kind, Layout, SegmentHeader, Walk};
use super::shared::SpoolOptions;
use crate::durable::{DirectoryLock, Disk, FileSystem, LockError};
use crate::model::{ContentHash, DestinationName, InstanceId};

/// The log of a stopped gateway, and what its index knows.
pub struct Salvage {
    disk: Arc<dyn Disk>,
    layout: Layout,
    index: Option<Index>,
    problem: Option<String>,
    _lock: Option<DirectoryLock>,
}

/// One record of the log.
#[derive(Debug, Clone)]
pub struct Salvaged {
    /// Who, what, where to.
    pub header: InstanceHeader,
    /// SHA-256 of the data set.
    pub hash: ContentHash,
    /// Length of the data set, in bytes.
    pub length: u64,
    /// The number under which the log has it.
    pub id: InstanceId,
    /// Where it still has to go, as far as is known. Empty if every destination has it.
    pub waiting_for: Vec<DestinationName>,
    /// What the index says is delivered; nothing is known without it.
    pub is_indexed: bool,
    kept: Kept,
}

/// What a walk over the log comes to.
#[derive(Debug)]
pub enum Item {
    /// A record; its payload is not checked yet.
    Record(Box<Salvaged>),
    /// A place that holds neither a record nor zeros.
    Damage(Damage),
}

impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage").field("data", &self.layout.data).finish_non_exhaustive()
    }
}

impl Salvage {
    /// Opens a directory that no gateway uses at the moment.
    ///
    /// # Errors
    /// A gateway uses it, or it cannot be read.
    pub fn open(data: &Path) -> Result<Self, OpenError> {
        let lock = DirectoryLock::borrow(data).map_err(|error| locked(data, error))?;
        Self::on(Arc::new(FileSystem::default()), data, lock)
    }

    pub(super) fn on(disk: Arc<dyn Disk>, data: &Path, lock: Option<DirectoryLock>) -> Result<Self, OpenError> {
        let layout = Layout::of(data);
        disk.list(&layout.log).doing("list", &layout.log)?;
        let (index, problem) = match Index::look(&*disk, &layout.index) {
            Ok(index) => (Some(index), None),
            Err(problem) => (None, Some(problem)),
        };
        Ok(Self { disk, layout, index, problem, _lock: lock })
    }

    /// Why the index cannot be used, if it cannot: then nothing is known about deliveries.
    #[must_use]
    pub fn index_problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Walks over the whole log, shared segments first, and hands everything in it to `visit` until that fails.
    ///
    /// # Errors
    /// A directory cannot be listed; or the first error of `visit`.
    pub fn walk<E: From<IoFailure>>(&self, mut visit: impl FnMut(Item) -> Result<(), E>) -> Result<(), E> {
        for kind in [Kind::Shared, Kind::Large] {
            let numbers = match segments(&*self.disk, &self.layout, kind) {
                Ok(numbers) => numbers,
                Err(_) if kind == Kind::Large => Vec::new(),
                Err(failure) => return Err(failure.into()),
            };
            for number in numbers {
                self.segment(kind, number, &mut visit)?;
            }
        }
        Ok(())
    }

    fn segment<E>(&self, kind: Kind, number: u64, visit: &mut impl FnMut(Item) -> Result<(), E>) -> Result<(), E> {
        let path = self.layout.segment(kind, number);
        let damage = |offset, problem| Item::Damage(Damage { segment: path.display().to_string(), offset, problem });
        let file = match self.disk.open(&path, false).doing("open", &path) {
            Ok(file) => file,
            Err(failure) => return visit(damage(0, failure.to_string())),
        };
        let salt = SegmentHeader::read(&*file, kind, number).map(|header| header.salt);
        if salt.is_none() {
            visit(damage(0, "the header of the segment cannot be read".into()))?;
        }
        let mut walk = match Walk::new(&*file, &path, number, salt, 0) {
            Ok(walk) => walk,
            Err(failure) => return visit(damage(0, failure.to_string())),
        };
        while let Some(found) = walk.next() {
            match found {
                Found::Damage { offset, problem } => visit(damage(offset, problem))?,
                Found::Record(head, header) => {
                    let location = Location { kind, segment: number, offset: head.place.offset };
                    let (hash, length, stored_length) = (head.hash, head.length, head.stored_length);
                    let kept = Kept { location, record: head.id, hash, length, stored_length };
                    visit(Item::Record(Box::new(self.describe(*header, kept))))?;
                }
            }
            // A large segment holds one record, and behind it nothing but its payload.
            if kind == Kind::Large {
                break;
            }
        }
        Ok(())
    }

    fn describe(&self, header: InstanceHeader, kept: Kept) -> Salvaged {
        let standing = self.index.as_ref().and_then(|index| {
            guarded(|| index.standing(&header.sop_instance_uid, kept.hash, &header.destinations)).ok().flatten()
        });
        let is_indexed = standing.is_some();
        let waiting_for = match standing {
            Some(Standing { waiting_for }) => waiting_for,
            None => header.destinations.clone(),
        };
        let (hash, length, id) = (kept.hash, kept.length, kept.record);
        Salvaged { header, hash, length, id, waiting_for, is_indexed, kept }
    }

    /// Opens what was found to be read from its first byte to its last.
    ///
    /// # Errors
    /// It is damaged, and why.
    pub fn read(&self, found: &Salvaged) -> io::Result<impl io::Read + use<>> {
        PayloadReader::open(&*self.disk, &self.layout, found.id, &found.kept).map_err(io::Error::other)
    }

    /// What the log had of every instance that is queued or parked in the index and that the walk did not find whole:
    /// `found` are the contents that it did find.
    ///
    /// # Errors
    /// The index failed while it was read.
    pub fn missing(
        &self,
        found: &BTreeMap<(String, [u8; 32]), ()>,
    ) -> Result<Vec<(InstanceId, InstanceHeader)>, String> {
        let Some(index) = &self.index else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        let mut after = None;
        loop {
            let views = guarded(|| index.read()?.instances(after, 1_000)).map_err(|error| error.to_string())?;
            let Some(last) = views.last() else { return Ok(missing) };
            after = Some(last.id);
            for view in views {
                let key = (view.header.sop_instance_uid.to_string(), view.hash.0);
                if view.stored_length.is_some() && !found.contains_key(&key) {
                    missing.push((view.id, view.header));
                }
            }
        }
    }
}

/// Builds the index again from the whole log; the old one is set aside. Every instance that is still in the log is queued
/// for all its destinations, delivered ones too.
///
/// # Errors
/// A gateway uses the directory, or the disk does not allow it.
pub fn reindex(data: &Path, options: &SpoolOptions) -> Result<(Opened, Option<PathBuf>), OpenError> {
    let lock = DirectoryLock::take(data).map_err(|error| locked(data, error))?;
    let disk: Arc<dyn Disk> = Arc::new(FileSystem::default());
    let layout = Layout::of(data);
    disk.list(&layout.log).doing("list", &layout.log)?;
    let aside = match disk.open(&layout.index, false) {
        Ok(_) => Some(layout.data.join(replay::set_aside(&*disk, &layout)?)),
        Err(_) => None,
    };
    let start = replay::start(&disk, &layout, options, Made::Repeat)?;
    drop(lock);
    Ok((start.opened, aside))
}

fn locked(data: &Path, error: LockError) -> OpenError {
    match error {
        LockError::Held(holder) => OpenError::Locked { directory: data.display().to_string(), holder },
        LockError::Io(source) => IoFailure::new("lock", data, source).into(),
    }
}
