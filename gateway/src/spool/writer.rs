//! The log thread: the only one that writes records.
//!
//! It takes every reception that waits, writes the records of those that are not there already, flushes once, and
//! acknowledges on the next line ([`Writer::acknowledge_after`] is the one place). Large instances, whose bytes are on the disk already, follow: head,
//! flush, rename, one flush of the directory for all of them. What was acknowledged goes on to the index.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use super::error::{Doing, IoFailure, SpoolError};
use super::group::Company;
use super::index::{Arrival, Location};
use super::indexer::{IndexJob, index_failed};
use super::known::{KnownInstances, Verdict};
use super::packing::{Body, Spill};
use super::prepare::{Prepared, Preparer};
use super::record::{self, ALIGNMENT, Compression, Head, InstanceHeader, LARGE_PAYLOAD, Place};
use super::segment::{FIRST_RECORD, Kind, SegmentHeader};
use super::shared::Shared;
use crate::clock;
use crate::codec::Filter;
use crate::durable::DiskFile;
use crate::model::{ContentHash, InstanceId};

/// How many finished receptions may wait for the log.
pub(super) const QUEUE: usize = 64;

/// An instance that is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The number it was given.
    pub id: InstanceId,
    /// SHA-256 of its data set.
    pub hash: ContentHash,
    /// Length of its data set, in bytes.
    pub length: u64,
    /// What its payload takes on the disk, in bytes.
    pub stored_length: u64,
    /// It was there already, byte for byte: `id` is its number, and nothing was kept or queued twice.
    pub duplicate: bool,
}

type Done = Box<dyn FnOnce(Result<Committed, SpoolError>) + Send>;

/// The call that ends a reception: made exactly once, at the latest when this is dropped.
pub(super) struct Acknowledge(Option<Done>);

impl Acknowledge {
    pub(super) fn new(done: Done) -> Self {
        Self(Some(done))
    }

    pub(super) fn answer(mut self, result: Result<Committed, SpoolError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Acknowledge {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(SpoolError::Closed));
        }
    }
}

/// What the log thread is asked to do.
pub(super) enum LogJob {
    Append(Box<Append>),
    /// Whoever asks wants to know when everything acknowledged so far is in the index.
    Settle(SyncSender<()>),
    Close,
}

/// A finished reception.
pub(super) struct Append {
    pub(super) finished: Finished,
    pub(super) body: Body,
    pub(super) done: Acknowledge,
}

/// A finished reception without its bytes.
pub(super) struct Finished {
    pub(super) header: InstanceHeader,
    pub(super) encoded_header: Vec<u8>,
    pub(super) hash: ContentHash,
    pub(super) length: u64,
    pub(super) compression: Compression,
    pub(super) filter: Option<Filter>,
    pub(super) stored_length: u64,
    pub(super) payload_crc: u32,
}

/// A reception that is safe as soon as what was written is flushed.
struct Written {
    committed: Committed,
    /// Its record; nothing if it is a duplicate of one.
    arrival: Option<Arrival>,
    done: Acknowledge,
}

struct Active {
    number: u64,
    salt: u64,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    /// Where the next record goes.
    offset: u64,
    length: u64,
    /// Its room was filled with zeros, so that a flush is one flush of the disk.
    prepared: bool,
}

/// See the module.
pub(super) struct Writer {
    shared: Arc<Shared>,
    index: SyncSender<IndexJob>,
    next_id: InstanceId,
    next_segment: u64,
    active: Option<Active>,
    known: KnownInstances,
    /// Makes segments ready, from the first one on.
    preparer: Option<Preparer>,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        index: SyncSender<IndexJob>,
        known: KnownInstances,
        next_id: InstanceId,
        next_segment: u64,
    ) -> Self {
        Self { shared, index, next_id, next_segment, active: None, known, preparer: None }
    }

    /// Works until it is told to close, or until nobody is left who could ask for anything.
    pub(super) fn run(mut self, jobs: &Receiver<LogJob>) {
        let mut company = Company::default();
        while let Some(group) = company.next_group(jobs) {
            let (began, size, closing) = (clock::now(), group.appends.len(), group.closing);
            self.write_group(group.appends);
            for answer in group.settling {
                // An index thread that is gone drops the job, and with it the answer.
                let _ = self.index.send(IndexJob::Settle(answer));
            }
            company.flushed(size, clock::now().saturating_duration_since(began));
            if closing {
                break;
            }
        }
        self.retire();
        if let Some(preparer) = self.preparer.take() {
            preparer.close(&self.shared);
        }
    }

    fn write_group(&mut self, group: Vec<Append>) {
        if group.is_empty() {
            return;
        }
        if let Some(preparer) = &self.preparer {
            preparer.disturb();
        }
        if let Err(error) = self
            .shared
            .check()
            .and_then(|()| self.known.begin_group().map_err(|error| index_failed(&self.shared, &error)))
        {
            group.into_iter().for_each(|append| append.done.answer(Err(error.clone())));
            return;
        }
        let mut small = Vec::new();
        let mut large = Vec::new();
        let mut spilled = Vec::new();
        for Append { finished, body, done } in group {
            match body {
                Body::Spilled(spill) => spilled.push((finished, spill, done)),
                Body::Buffered(buffer) => {
                    let Some((finished, instance, done)) = self.is_wanted(finished, done, &mut small) else { continue };
                    match self.append_small(finished, buffer.bytes(), &mut small) {
                        Ok(arrival) => small.push(self.written(instance, arrival, done)),
                        Err(error) => done.answer(Err(error)),
                    }
                }
            }
        }
        self.flush_small(&mut small);
        for (finished, spill, done) in spilled {
            let Some((finished, instance, done)) = self.is_wanted(finished, done, &mut large) else { continue };
            let shared = Arc::clone(&self.shared);
            match shared.log_pulse.during(|| self.append_large(finished, spill)) {
                Ok(arrival) => large.push(self.written(instance, arrival, done)),
                Err(error) => done.answer(Err(error)),
            }
        }
        if !large.is_empty() {
            let (shared, directory) = (Arc::clone(&self.shared), &self.shared.layout.large);
            let published = || shared.disk.sync_dir(directory).doing("flush", directory);
            self.acknowledge_after(published, large);
        }
        self.known.end_group();
    }

    /// Whether a reception needs a record, and under which number its content is known if it is. A duplicate is answered
    /// at once, or joins `written` if the record that it duplicates is still to be flushed.
    fn is_wanted(
        &self,
        mut finished: Finished,
        done: Acknowledge,
        written: &mut Vec<Written>,
    ) -> Option<(Finished, Option<InstanceId>, Acknowledge)> {
        match self.known.judge(&finished.header, finished.hash) {
            Ok(Verdict::New) => Some((finished, None, done)),
            Ok(Verdict::Duplicate { instance, durable }) => {
                let Finished { hash, length, stored_length, .. } = finished;
                let committed = Committed { id: instance, hash, length, stored_length, duplicate: true };
                if durable {
                    self.shared.counters.duplicates.fetch_add(1, Ordering::Relaxed);
                    done.answer(Ok(committed));
                } else {
                    written.push(Written { committed, arrival: None, done });
                }
                None
            }
            Ok(Verdict::Again { instance, destinations }) => {
                finished.header.destinations = destinations;
                finished.header.withheld = finished.header.is_withheld();
                match finished.header.encode() {
                    Ok(encoded) => {
                        finished.encoded_header = encoded;
                        Some((finished, Some(instance), done))
                    }
                    Err(error) => {
                        done.answer(Err(error));
                        None
                    }
                }
            }
            Err(error) => {
                done.answer(Err(index_failed(&self.shared, &error)));
                None
            }
        }
    }

    fn written(&mut self, instance: Option<InstanceId>, arrival: Arrival, done: Acknowledge) -> Written {
        let instance = instance.unwrap_or(arrival.id);
        self.known.note(instance, arrival.id, &arrival.header, arrival.hash);
        Written { committed: arrival.committed(instance), arrival: Some(arrival), done }
    }

    /// Durable before acknowledged: the one place where a reception is told that it is safe.
    fn acknowledge_after(&self, flush: impl FnOnce() -> Result<(), IoFailure>, written: Vec<Written>) {
        #[cfg(test)]
        if self.shared.options.sabotage == super::shared::Sabotage::AcknowledgeEarly {
            self.acknowledge(written);
            let _ = flush();
            return;
        }
        if let Err(error) = self.shared.check() {
            written.into_iter().for_each(|written| written.done.answer(Err(error.clone())));
            return;
        }
        match self.shared.log_pulse.during(flush) {
            Ok(()) => self.acknowledge(written),
            Err(failure) => {
                let error = self.shared.unsynced(&failure);
                written.into_iter().for_each(|written| written.done.answer(Err(error.clone())));
            }
        }
    }

    fn acknowledge(&self, written: Vec<Written>) {
        let counters = &self.shared.counters;
        counters.flushes.fetch_add(1, Ordering::Relaxed);
        counters.largest_group.fetch_max(written.len() as u64, Ordering::Relaxed);
        let mut arrivals = Vec::with_capacity(written.len());
        for Written { committed, arrival, done } in written {
            if let Some(arrival) = arrival {
                counters.records.fetch_add(1, Ordering::Relaxed);
                counters.bytes_in.fetch_add(arrival.length, Ordering::Relaxed);
                counters.bytes_stored.fetch_add(arrival.stored_length, Ordering::Relaxed);
                arrivals.push(arrival);
            } else {
                counters.duplicates.fetch_add(1, Ordering::Relaxed);
            }
            done.answer(Ok(committed));
        }
        for arrival in arrivals {
            // An index thread that is gone has failed or was closed; the next start replays what it misses.
            let _ = self.index.send(IndexJob::Arrived(Box::new(arrival)));
        }
    }

    fn flush_small(&self, written: &mut Vec<Written>) {
        if written.is_empty() {
            return;
        }
        let flush = || match &self.active {
            Some(active) => active.file.sync_data().doing("flush", &active.path),
            // Only duplicates of what was flushed when its segment was full.
            None => Ok(()),
        };
        self.acknowledge_after(flush, std::mem::take(written));
    }

    /// Writes a record into the shared segment. `written` is flushed and acknowledged if a new segment is begun.
    fn append_small(
        &mut self,
        finished: Finished,
        payload: &[u8],
        written: &mut Vec<Written>,
    ) -> Result<Arrival, SpoolError> {
        self.shared.check()?;
        let payload_offset = record::payload_after(finished.encoded_header.len());
        let size = (payload_offset + finished.stored_length).next_multiple_of(ALIGNMENT);
        if self.active.as_ref().is_none_or(|active| active.length - active.offset < size || self.has_better(active)) {
            self.flush_small(written);
            self.retire();
            self.shared.check()?;
            let shared = Arc::clone(&self.shared);
            self.active = Some(shared.log_pulse.during(|| self.begin_segment(size))?);
        }
        let id = self.take_id();
        let Some(active) = &mut self.active else { return Err(SpoolError::Closed) };
        let place = Place { segment: active.number, offset: active.offset, salt: active.salt };
        let head = finished.head(id, place, payload_offset, &self.shared);
        let front = record::encode(&head, &finished.encoded_header);
        let result = self.shared.log_pulse.during(|| {
            let written = active.file.write_at(&front, place.offset);
            written.and_then(|()| active.file.write_at(payload, place.offset + payload_offset))
        });
        result.doing("write", &active.path).map_err(|failure| self.shared.refuse(failure))?;
        active.offset = head.end();
        Ok(finished.arrival(&head, Location { kind: Kind::Shared, segment: place.segment, offset: place.offset }))
    }

    /// Writes the front of a large instance and gives it its name. Its directory is still to be flushed.
    fn append_large(&mut self, finished: Finished, mut spill: Spill) -> Result<Arrival, SpoolError> {
        self.shared.check()?;
        let id = self.take_id();
        let salt = self.salt()?;
        let place = Place { segment: id.0, offset: FIRST_RECORD, salt };
        let head = finished.head(id, place, LARGE_PAYLOAD, &self.shared);
        let created = clock::wall();
        let mut front = SegmentHeader { kind: Kind::Large, number: id.0, salt, first_id: id, created }.encode();
        front.extend_from_slice(&record::encode(&head, &finished.encoded_header));
        let refuse = |failure| self.shared.refuse(failure);
        spill.file.write_at(&front, 0).doing("write", &spill.path).map_err(refuse)?;
        let flushed = spill.file.sync_data().doing("flush", &spill.path);
        flushed.map_err(|failure| self.shared.unsynced(&failure))?;
        self.shared.counters.flushes.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.layout.segment(Kind::Large, id.0);
        self.shared.disk.rename(&spill.path, &path).doing("rename", &spill.path).map_err(refuse)?;
        spill.published = true;
        Ok(finished.arrival(&head, Location { kind: Kind::Large, segment: id.0, offset: FIRST_RECORD }))
    }

    fn take_id(&mut self) -> InstanceId {
        let id = self.next_id;
        self.next_id = InstanceId(id.0 + 1);
        id
    }

    fn salt(&self) -> Result<u64, SpoolError> {
        let mut salt = [0; 8];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| self.shared.fail("the system gives no random numbers".into()))?;
        Ok(u64::from_le_bytes(salt))
    }

    /// Whether a prepared segment waits while the active one is none.
    fn has_better(&self, active: &Active) -> bool {
        !active.prepared && self.preparer.as_ref().is_some_and(Preparer::has_stock)
    }

    /// Begins the next shared segment, with room for a record of `size` bytes at least, and makes it durable.
    fn begin_segment(&mut self, size: u64) -> Result<Active, SpoolError> {
        if self.preparer.is_none() {
            self.preparer = Preparer::start(&self.shared);
        }
        match self.preparer.as_ref().and_then(|preparer| preparer.take(FIRST_RECORD + size)) {
            Some(prepared) => self.publish_segment(prepared, true),
            None => {
                let reserved = self.reserve_segment(size)?;
                self.publish_segment(reserved, false)
            }
        }
    }

    /// A new file with room for a record of `size` bytes at least.
    fn reserve_segment(&self, size: u64) -> Result<Prepared, SpoolError> {
        let needed = FIRST_RECORD + size;
        let room = self.shared.room()?;
        let wanted = self.shared.options.segment_size.max(needed);
        let length = wanted.min(room.max(needed) / ALIGNMENT * ALIGNMENT);
        if room < needed {
            return Err(SpoolError::NoRoom(format!("{needed} bytes are needed and {room} are left above the reserve")));
        }
        // A name of its own: on a full disk an earlier one may not even have been removed.
        let path = self.shared.layout.log.join(format!("reserved-{}.tmp", self.shared.temporary()));
        let disk = &self.shared.disk;
        let file = disk.create(&path).doing("create", &path).map_err(|failure| self.shared.refuse(failure))?;
        if let Err(failure) = file.allocate(length).doing("reserve room for", &path) {
            // Best effort: the next start sweeps it otherwise.
            let _ = disk.remove(&path);
            return Err(self.shared.refuse(failure));
        }
        Ok(Prepared { file, path, length })
    }

    /// Gives a file its header and its name as the next segment, durably.
    fn publish_segment(&mut self, file: Prepared, prepared: bool) -> Result<Active, SpoolError> {
        let Prepared { file, path: temporary, length } = file;
        let (number, salt) = (self.next_segment, self.salt()?);
        self.next_segment += 1;
        let path = self.shared.layout.segment(Kind::Shared, number);
        let disk = &self.shared.disk;
        let first_id = self.next_id;
        let header = SegmentHeader { kind: Kind::Shared, number, salt, first_id, created: clock::wall() };
        let published = file
            .write_at(&header.encode(), 0)
            .doing("write", &temporary)
            .map_err(|failure| self.shared.refuse(failure))
            .and_then(|()| {
                let flushed = file.sync_all().doing("flush", &temporary);
                flushed.map_err(|failure| self.shared.unsynced(&failure))
            })
            .and_then(|()| {
                let renamed = disk.rename(&temporary, &path).doing("rename", &temporary);
                renamed.map_err(|failure| self.shared.refuse(failure))
            });
        if let Err(error) = published {
            // Best effort: the next start sweeps it otherwise.
            let _ = disk.remove(&temporary);
            return Err(error);
        }
        let directory = &self.shared.layout.log;
        let published = disk.sync_dir(directory).doing("flush", directory);
        published.map_err(|failure| self.shared.unsynced(&failure))?;
        Ok(Active { number, salt, file, path, offset: FIRST_RECORD, length, prepared })
    }

    /// Leaves the active segment and gives its unused tail back.
    fn retire(&mut self) {
        if let Some(active) = self.active.take()
            && let Err(error) = active.file.set_length(active.offset)
        {
            log::warn!("cannot give back the unused end of {}: {error}", active.path.display());
        }
    }
}

impl Finished {
    fn head(&self, id: InstanceId, place: Place, payload_offset: u64, shared: &Shared) -> Head {
        Head {
            place,
            id,
            queued_at: shared.time(),
            compression: self.compression,
            filter: self.filter,
            payload_offset,
            stored_length: self.stored_length,
            length: self.length,
            hash: self.hash,
            #[cfg(test)]
            payload_crc: match shared.options.sabotage {
                super::shared::Sabotage::WithoutChecksum => 0,
                _ => self.payload_crc,
            },
            #[cfg(not(test))]
            payload_crc: self.payload_crc,
        }
    }

    fn arrival(self, head: &Head, location: Location) -> Arrival {
        Arrival::new(head, location, self.header)
    }
}
