//! What happens between taking the lock and accepting the first instance: sweep, open or rebuild the index, and enter
//! what the log has beyond the index's checkpoint.
//!
//! Only a record whose payload checksum is right is entered: one that a power cut has torn was never acknowledged. What
//! is damaged is reported and stepped over, for ever if need be: it never keeps the gateway from starting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::error::{Doing, IoFailure, OpenError};
use super::index::{self, Arrival, Index, IndexError, Location};
use super::indexer::enter_replayed;
use super::record::Head;
use super::restore;
use super::room;
use super::segment::{FIRST_RECORD, Found, Kind, Layout, SegmentHeader, Walk, number_of};
use super::shared::SpoolOptions;
use super::told::Teller;
use crate::clock::{self, SpoolTime};
use crate::durable::{Disk, DiskFile};
use crate::model::InstanceId;

/// Replayed instances that are entered in one commit.
const BATCH: usize = 1_000;
/// Damaged places that are listed in [`Opened`]; all of them are logged.
const LISTED: usize = 100;
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What opening the spool has found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// Instances that were in the log and not in the index.
    pub replayed: u64,
    /// Why the index was built again from the whole log, if it was.
    pub rebuilt: Option<String>,
    /// Deliveries that were known from the ledger when the index was built again: they are not made once more.
    pub restored: u64,
    /// How many damaged places were met in the part of the log that was read.
    pub damaged: u64,
    /// The first of them.
    pub damage: Vec<Damage>,
    /// Unfinished files of an earlier run that were removed.
    pub swept: u64,
    /// How long it took.
    pub took: Duration,
}

/// A place in the log that holds no valid record and should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file.
    pub segment: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub problem: String,
}

/// What is done about deliveries of which only the ledger knows, because the index was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// They are made.
    Believe,
    /// They are made once more.
    Repeat,
}

/// What the spool goes on with.
pub(super) struct Start {
    pub(super) index: Index,
    pub(super) teller: Teller,
    pub(super) opened: Opened,
    pub(super) next_id: InstanceId,
    pub(super) next_segment: u64,
    /// The latest time that the spool has stored.
    pub(super) time: SpoolTime,
}

/// Brings the data directory into a state to go on with. The caller holds its lock.
pub(super) fn start(
    disk: &Arc<dyn Disk>,
    layout: &Layout,
    options: &SpoolOptions,
    made: Made,
) -> Result<Start, OpenError> {
    let shared_disk = disk;
    let disk = &**shared_disk;
    for directory in [&layout.data, &layout.log, &layout.large] {
        disk.create_dir(directory).doing("create", directory)?;
    }
    // Entering what the log has needs room in the index.
    if disk.free(&layout.data).is_ok_and(|free| free < room::ballast_size(options)) {
        room::release_ballast(disk, layout);
    }
    disk.sync_file_system(&layout.data).doing("flush the file system of", &layout.data)?;
    let mut opened = Opened { swept: sweep(disk, layout)?, ..Opened::default() };
    let index = open_index(disk, layout, &mut opened)?;
    let teller = Teller::open(shared_disk, layout, &index, clock::wall())?;
    let (last_id, said) = (InstanceId(0), clock::now());
    let mut replay = Replay { disk, layout, options, index: &index, teller, opened, last_id, said, read: 0 };
    let (last_segment, time) = replay.run()?;
    if replay.opened.rebuilt.is_some() && made == Made::Believe {
        replay.opened.restored = restore::deliveries(disk, layout, &index)?;
    }
    let (opened, teller, next_id) = (replay.opened, replay.teller, InstanceId(replay.last_id.0 + 1));
    Ok(Start { index, teller, opened, next_id, next_segment: last_segment + 1, time })
}

/// Removes what an earlier run has not finished.
fn sweep(disk: &dyn Disk, layout: &Layout) -> Result<u64, OpenError> {
    let mut swept = 0;
    for directory in [&layout.data, &layout.log, &layout.large] {
        for name in disk.list(directory).doing("list", directory)? {
            if Path::new(&name).extension().is_some_and(|extension| extension == "tmp") {
                let path = directory.join(name);
                disk.remove(&path).doing("remove", &path)?;
                swept += 1;
            }
        }
    }
    Ok(swept)
}

fn open_index(disk: &dyn Disk, layout: &Layout, opened: &mut Opened) -> Result<Index, OpenError> {
    let path = &layout.index;
    let suspect = disk.open(&layout.suspect, false).is_ok();
    if suspect {
        log::warn!("the last run has met an error in the index: the whole of it is checked");
    }
    let found = Index::open(disk, path, suspect).doing("open", path)?;
    if suspect {
        disk.remove(&layout.suspect).doing("remove", &layout.suspect)?;
    }
    let reason = match found {
        index::Opened::Usable(index) => return Ok(index),
        index::Opened::Missing => None,
        index::Opened::Unusable(problem) => {
            let aside = set_aside(disk, layout)?;
            let problem = format!("the index could not be used ({problem}) and was set aside as {aside}");
            log::error!("{problem}; it is built again from the log");
            Some(problem)
        }
    };
    let index = Index::create(disk, path).map_err(|error| index_error(layout, &error))?;
    let log_is_empty =
        segments(disk, layout, Kind::Shared)?.is_empty() && segments(disk, layout, Kind::Large)?.is_empty();
    opened.rebuilt = reason.or_else(|| (!log_is_empty).then(|| "the index was missing".to_owned()));
    Ok(index)
}

/// Renames an index that cannot be used, and gives its new name.
pub(super) fn set_aside(disk: &dyn Disk, layout: &Layout) -> Result<String, OpenError> {
    let names = disk.list(&layout.data).doing("list", &layout.data)?;
    let candidates = (1_u32..).map(|number| format!("index.redb.damaged-{number}"));
    let name = candidates.into_iter().find(|name| !names.contains(name)).unwrap_or_default();
    disk.rename(&layout.index, &layout.data.join(&name)).doing("rename", &layout.index)?;
    disk.sync_dir(&layout.data).doing("flush", &layout.data)?;
    Ok(name)
}

pub(super) fn index_error(layout: &Layout, error: &IndexError) -> OpenError {
    OpenError::Index { path: layout.index.display().to_string(), problem: error.to_string() }
}

/// The numbers of all segments of a kind, in order.
pub(super) fn segments(disk: &dyn Disk, layout: &Layout, kind: Kind) -> Result<Vec<u64>, IoFailure> {
    let directory = layout.directory(kind);
    let names = disk.list(directory).doing("list", directory)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

struct Replay<'a> {
    disk: &'a dyn Disk,
    layout: &'a Layout,
    options: &'a SpoolOptions,
    index: &'a Index,
    teller: Teller,
    opened: Opened,
    last_id: InstanceId,
    said: std::time::Instant,
    /// Bytes read so far.
    read: u64,
}

impl Replay<'_> {
    /// Gives the number of the last shared segment and the latest time.
    fn run(&mut self) -> Result<(u64, SpoolTime), OpenError> {
        let fail = |error: &IndexError| index_error(self.layout, error);
        let state = self.index.read().and_then(|view| view.state()).map_err(|error| fail(&error))?;
        self.last_id = InstanceId(state.last_id);
        let shared = segments(self.disk, self.layout, Kind::Shared)?;
        let last_segment = shared.last().copied().unwrap_or(0).max(state.segment);
        for number in shared.into_iter().filter(|number| *number >= state.segment) {
            let from = if number == state.segment { state.offset } else { 0 };
            self.shared_segment(number, from)?;
        }
        let mut arrivals = Vec::new();
        for number in segments(self.disk, self.layout, Kind::Large)?.into_iter().filter(|id| *id > state.large_to) {
            self.last_id = self.last_id.max(InstanceId(number));
            arrivals.extend(self.large_segment(number)?);
            if arrivals.len() >= BATCH {
                self.enter(&mut arrivals, (0, 0), InstanceId(number))?;
            }
        }
        if !arrivals.is_empty() || self.last_id.0 > state.large_to {
            self.enter(&mut arrivals, (0, 0), self.last_id)?;
        }
        let state = self.index.read().and_then(|view| view.state());
        let time = state.map_err(|error| index_error(self.layout, &error))?.time;
        let time = SpoolTime(time);
        Ok((last_segment, time))
    }

    fn enter(
        &mut self,
        arrivals: &mut Vec<Arrival>,
        checked_to: (u64, u64),
        large_to: InstanceId,
    ) -> Result<(), OpenError> {
        let new = enter_replayed(self.index, &mut self.teller, arrivals, self.options.conflicts, checked_to, large_to);
        self.opened.replayed += new.map_err(|error| index_error(self.layout, &error))?;
        arrivals.clear();
        Ok(())
    }

    fn shared_segment(&mut self, number: u64, from: u64) -> Result<(), OpenError> {
        let path = self.layout.segment(Kind::Shared, number);
        let file = self.disk.open(&path, true).doing("open", &path)?;
        file.drop_cache();
        let header = SegmentHeader::read(&*file, Kind::Shared, number);
        match header {
            Some(header) => self.last_id = self.last_id.max(InstanceId(header.first_id.0.saturating_sub(1))),
            None => self.damaged(&path, 0, "the header of the segment cannot be read".into()),
        }
        let mut walk = Walk::new(&*file, &path, number, header.map(|header| header.salt), from)?;
        let mut arrivals = Vec::new();
        #[cfg(test)]
        if self.options.sabotage == super::shared::Sabotage::ReplayLate {
            walk.next();
        }
        while let Some(found) = walk.next() {
            if let Some(arrival) = self.judge(&*file, &path, Kind::Shared, found) {
                arrivals.push(arrival);
            }
            if arrivals.len() >= BATCH {
                // Large instances have a checkpoint of their own: it stays where it is until they were looked at.
                let end = arrivals.last().map_or(from, |arrival| arrival.end);
                self.enter(&mut arrivals, (number, end), InstanceId(0))?;
            }
        }
        let (used, length) = (walk.used(), walk.length());
        if !arrivals.is_empty() {
            self.enter(&mut arrivals, (number, used), InstanceId(0))?;
        }
        if used < length
            && let Err(error) = file.set_length(used)
        {
            log::warn!("cannot give back the unused end of {}: {error}", path.display());
        }
        Ok(())
    }

    fn large_segment(&mut self, number: u64) -> Result<Option<Arrival>, OpenError> {
        let path = self.layout.segment(Kind::Large, number);
        let file = self.disk.open(&path, false).doing("open", &path)?;
        file.drop_cache();
        let salt = SegmentHeader::read(&*file, Kind::Large, number).map(|header| header.salt);
        let found = Walk::new(&*file, &path, number, salt, FIRST_RECORD)?.next();
        let found = found.unwrap_or(Found::Damage { offset: FIRST_RECORD, problem: "there is no record".into() });
        Ok(self.judge(&*file, &path, Kind::Large, found))
    }

    /// Whether what was found is a whole record.
    fn judge(&mut self, file: &dyn DiskFile, path: &Path, kind: Kind, found: Found) -> Option<Arrival> {
        match found {
            Found::Damage { offset, problem } => {
                self.damaged(path, offset, problem);
                None
            }
            Found::Record(head, header) => {
                self.last_id = self.last_id.max(head.id);
                let (segment, offset) = (head.place.segment, head.place.offset);
                match payload_crc(file, path, &head) {
                    Ok(crc) if crc == head.payload_crc => {
                        self.progress(head.stored_length);
                        Some(Arrival::new(&head, Location { kind, segment, offset }, *header))
                    }
                    Ok(_) => {
                        let problem = format!("the checksum of the payload of instance {} is wrong", head.id);
                        self.damaged(path, offset, problem);
                        None
                    }
                    Err(failure) => {
                        self.damaged(path, offset, failure.to_string());
                        None
                    }
                }
            }
        }
    }

    fn damaged(&mut self, path: &Path, offset: u64, problem: String) {
        let segment = path.display().to_string();
        log::warn!("{segment}, offset {offset}: {problem}; reading goes on behind it");
        self.opened.damaged += 1;
        if self.opened.damage.len() < LISTED {
            self.opened.damage.push(Damage { segment, offset, problem });
        }
    }

    fn progress(&mut self, bytes: u64) {
        self.read += bytes;
        if clock::now().saturating_duration_since(self.said) >= PROGRESS_EVERY {
            self.said = clock::now();
            let mib = self.read >> 20;
            log::info!("reading the log: {} instances entered, {mib} MiB read", self.opened.replayed);
        }
    }
}

fn payload_crc(file: &dyn DiskFile, path: &Path, head: &Head) -> Result<u32, IoFailure> {
    const PIECE: u64 = 256 << 10;
    let mut piece = vec![0; usize::try_from(head.stored_length.min(PIECE)).unwrap_or(0)];
    let mut position = head.place.offset + head.payload_offset;
    let end = position + head.stored_length;
    let mut crc = 0;
    while position < end {
        let length = usize::try_from(end - position).map_or(piece.len(), |left| left.min(piece.len()));
        let target = piece.get_mut(..length).unwrap_or_default();
        crate::durable::read_exact_at(file, target, position).doing("read", path)?;
        crc = crc32c::crc32c_append(crc, target);
        position += length as u64;
    }
    Ok(crc)
}
