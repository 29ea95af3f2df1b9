//! What nobody needs any more, and the proof of it.
//!
//! **Undelivered data is untouchable by construction.** The one function of the spool that takes a payload from the disk
//! ([`free`](crate::spool::free::free)) takes an [`Expendable`], and an [`Expendable`] can be made in this file only: by
//! [`Tables`], inside a write transaction, after the tables have proved that every delivery of the instance is made (or
//! that a rule withholds it from everybody), or that a later record holds the same content with at least the same routing. The proof is durable before the value
//! leaves the transaction: it stands in the table `freeing` until the payload is gone, so a crash in between does not
//! lose track of it.
//!
//! ```text
//! transaction: all delivered and settled? ── place := none, row in `freeing` ──▶ Expendable
//!      punch the record / unlink the segment, flush
//! transaction: row out of `freeing`
//! ```

use redb::ReadableTable;

use super::{
    Damaged, Expired, IndexError, InstanceRow, Location, PlaceKey, PlaceRow, ScrubRow, State, Tables, View, pack,
};
use crate::clock::SpoolTime;
use crate::ledger::Entry;
use crate::model::{ContentHash, InstanceId, Uid};
use crate::spool::record::ALIGNMENT;
use crate::spool::segment::Kind;

/// Something on the disk that is proved to be needed by nobody. Only [`Tables`] makes one, and nothing copies it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::spool) struct Expendable {
    what: What,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::spool) enum What {
    /// A stretch of a shared segment: one record.
    Record { segment: u64, offset: u64, length: u64 },
    /// A large segment.
    Large(u64),
    /// A shared segment in which nothing is needed any more.
    Segment(u64),
}

impl Expendable {
    pub(in crate::spool) fn what(&self) -> What {
        self.what
    }

    fn from_row((kind, number, offset): PlaceKey, length: u64) -> Option<Self> {
        let what = match kind {
            0 => What::Record { segment: number, offset, length },
            1 => What::Large(number),
            2 => What::Segment(number),
            _ => return None,
        };
        Some(Self { what })
    }

    pub(super) fn key(&self) -> PlaceKey {
        match self.what {
            What::Record { segment, offset, .. } => (0, segment, offset),
            What::Large(number) => (1, number, 0),
            What::Segment(number) => (2, number, 0),
        }
    }
}

/// An instance that may be expendable, as somebody who looked at the index and at the log believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct Candidate {
    /// Its row in `done`.
    pub(in crate::spool) done_at: u64,
    pub(in crate::spool) id: InstanceId,
    /// Where it was seen; nothing if it is gone already.
    pub(in crate::spool) location: Option<Location>,
    /// How much room its record takes in a shared segment, as read from the record itself. 0 if there is no record.
    pub(in crate::spool) extent: u64,
}

#[cfg(test)]
impl Candidate {
    /// What must never be: for a negative control of the crash tests.
    pub(in crate::spool) fn unproved(&self) -> Expendable {
        let what = match self.location {
            Some(Location { kind: Kind::Shared, segment, offset }) => {
                What::Record { segment, offset, length: self.extent }
            }
            Some(Location { kind: Kind::Large, segment, .. }) => What::Large(segment),
            None => What::Large(u64::MAX),
        };
        Expendable { what }
    }
}

/// A record that was found in a shared segment that should hold nothing any more.
#[derive(Debug, Clone)]
pub(in crate::spool) struct Corpse {
    pub(in crate::spool) uid: Uid,
    pub(in crate::spool) hash: ContentHash,
    pub(in crate::spool) record: InstanceId,
}

/// What the keeper asks the index thread to do; each is one transaction.
#[derive(Debug)]
pub(in crate::spool) enum Change {
    /// To prove that these are expendable; those that are not are left out.
    Expend(Vec<Candidate>),
    /// To prove that nothing in this segment is needed.
    Retire { segment: u64, found: Vec<Corpse> },
    /// These are gone from the disk, durably.
    Forget(Vec<Expendable>),
    /// These were freed long ago: nobody has to know of them any more.
    Expire(Vec<Expired>),
    /// A payload is not what was received.
    Damaged(Damaged),
    /// How far the scrub is.
    Scrubbed(ScrubRow),
}

impl Tables<'_> {
    pub(in crate::spool) fn keep(&mut self, change: &Change) -> Result<Vec<Expendable>, IndexError> {
        let mut proved = Vec::new();
        match change {
            Change::Expend(candidates) => {
                for candidate in candidates {
                    proved.extend(self.expend(candidate)?);
                }
            }
            Change::Retire { segment, found } => proved.extend(self.retire(*segment, found)?),
            Change::Forget(gone) => {
                for expendable in gone {
                    self.freeing.remove(expendable.key())?;
                }
            }
            Change::Expire(expired) => {
                for expired in expired {
                    self.expire(expired)?;
                }
            }
            Change::Damaged(report) => self.damage(report)?,
            Change::Scrubbed(scrub) => self.set_scrub(scrub)?,
        }
        Ok(proved)
    }

    /// Whether every destination of the instance has it, for good where it has to be asked, and none waits for it. What goes nowhere is kept, unless a rule
    /// says that it is to go nowhere.
    pub(super) fn is_done(&mut self, id: InstanceId, row: &InstanceRow) -> Result<bool, IndexError> {
        for name in &row.header.destinations {
            let Some(destination) = self.known_destination(name)? else { return Ok(false) };
            let key = (destination.number, id.0);
            let open = self.queued.get(key)?.is_some() || self.parked.get(key)?.is_some();
            if open || !self.is_settled(destination.number, id)? {
                return Ok(false);
            }
        }
        Ok(!row.header.destinations.is_empty() || row.header.is_withheld())
    }

    /// Takes note of an instance that every destination has or that goes nowhere by a rule, if it is one.
    pub(super) fn note_done(&mut self, id: InstanceId, row: &InstanceRow, now: SpoolTime) -> Result<(), IndexError> {
        if let Some(place) = row.place
            && self.is_done(id, row)?
        {
            self.done.insert((now.0, id.0), ())?;
            self.state.cache.add(place.stored_length);
            self.damaged.remove(id.0)?;
        }
        Ok(())
    }

    /// The instance is about to be kept anew. Its row in `done` becomes stale.
    pub(super) fn note_not_done(&mut self, id: InstanceId, row: &InstanceRow) -> Result<(), IndexError> {
        if let Some(place) = row.place
            && self.is_done(id, row)?
        {
            self.state.cache.take(place.stored_length);
        }
        Ok(())
    }

    /// All rows of `done` as candidates, for tests.
    #[cfg(test)]
    pub(super) fn all_done(&self) -> Vec<Candidate> {
        let rows = self.done.iter().unwrap().map(|row| row.unwrap().0.value());
        let candidate = |(done_at, id)| {
            let row = self.find_instance(InstanceId(id)).unwrap();
            let location = row.and_then(|row| row.place).map(|place| place.location());
            Candidate { done_at, id: InstanceId(id), location, extent: 4_096 }
        };
        rows.map(candidate).collect()
    }

    fn expend(&mut self, candidate: &Candidate) -> Result<Option<Expendable>, IndexError> {
        self.done.remove((candidate.done_at, candidate.id.0))?;
        // It may have been freed since, and even be forgotten.
        let Some(mut row) = self.find_instance(candidate.id)? else { return Ok(None) };
        let Some(place) = row.place else { return Ok(None) };
        if !self.is_done(candidate.id, &row)? {
            return Ok(None);
        }
        if candidate.location != Some(place.location()) {
            // It was kept anew since it was looked at: another time.
            self.done.insert((candidate.done_at, candidate.id.0), ())?;
            return Ok(None);
        }
        row.place = None;
        self.instances.insert(candidate.id.0, &pack("instances", &row)?[..])?;
        self.state.cache.take(place.stored_length);
        self.vacate(&place, row.length)?;
        self.conflicts.remove(candidate.id.0)?;
        let what = match place.location() {
            Location { kind: Kind::Large, segment, .. } => What::Large(segment),
            Location { kind: Kind::Shared, segment, offset } => {
                What::Record { segment, offset, length: candidate.extent / ALIGNMENT * ALIGNMENT }
            }
        };
        let expendable = self.proved(what)?;
        self.freed.insert((self.state.time, candidate.id.0), expendable.key())?;
        self.tell(None, Entry::Freed { id: candidate.id });
        Ok(Some(expendable))
    }

    /// A later record has taken this place's part. A large one is a file of its own and can go; a small one goes with its
    /// segment.
    pub(super) fn expend_replaced(&mut self, place: &PlaceRow) -> Result<(), IndexError> {
        if place.large {
            self.proved(What::Large(place.segment))?;
        }
        Ok(())
    }

    /// Proves that nothing in a shared segment is needed: that everything in it was entered, that no instance has its
    /// record there, and that every record that was found there is of an instance whose payload is elsewhere or freed.
    fn retire(&mut self, segment: u64, found: &[Corpse]) -> Result<Option<Expendable>, IndexError> {
        let used = self.segments.get(segment)?.map_or(0, |count| count.value());
        if used > 0 || !is_behind(&self.state, segment) {
            return Ok(None);
        }
        for Corpse { uid, hash, record } in found {
            let Some(id) = self.uids.get((uid.as_str(), &hash.0))?.map(|id| id.value()) else { return Ok(None) };
            if self.instance(InstanceId(id))?.place.is_some_and(|place| place.record <= record.0) {
                return Ok(None);
            }
        }
        self.segments.remove(segment)?;
        self.proved(What::Segment(segment)).map(Some)
    }

    fn proved(&mut self, what: What) -> Result<Expendable, IndexError> {
        let expendable = Expendable { what };
        let length = if let What::Record { length, .. } = what { length } else { 0 };
        self.freeing.insert(expendable.key(), length)?;
        Ok(expendable)
    }
}

/// Whether the log has gone on to a later segment, and everything in this one is entered.
fn is_behind(state: &State, segment: u64) -> bool {
    segment < state.segment
}

impl View {
    /// What was proved to be expendable and may still be on the disk.
    pub(in crate::spool) fn freeing(&self, limit: usize) -> Result<Vec<Expendable>, IndexError> {
        let mut all = Vec::new();
        for row in self.freeing.iter()?.take(limit) {
            let (key, length) = row?;
            all.push(Expendable::from_row(key.value(), length.value()).ok_or(IndexError::Row("freeing"))?);
        }
        Ok(all)
    }

    /// The first `limit` instances that every destination had at `until`, the one that was done first in front; without
    /// their extent.
    pub(in crate::spool) fn done(&self, until: SpoolTime, limit: usize) -> Result<Vec<Candidate>, IndexError> {
        let mut candidates = Vec::new();
        for row in self.done.range((0, 0)..=(until.0, u64::MAX))?.take(limit) {
            let (done_at, id) = row?.0.value();
            let location = self.instance(InstanceId(id))?.and_then(|row| row.kept).map(|kept| kept.location);
            candidates.push(Candidate { done_at, id: InstanceId(id), location, extent: 0 });
        }
        Ok(candidates)
    }

    /// Whether a shared segment may hold nothing that is needed: a cheap look, not a proof.
    pub(in crate::spool) fn seems_dead(&self, segment: u64) -> Result<bool, IndexError> {
        let used = self.segments.get(segment)?.map_or(0, |count| count.value());
        Ok(used == 0 && is_behind(&self.state()?, segment))
    }
}
