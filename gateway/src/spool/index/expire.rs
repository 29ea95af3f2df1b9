//! Forgetting: what is known of an instance goes some time after its payload has gone, so that the index does not grow
//! for ever.
//!
//! An instance is forgotten only as a whole, and only if nothing is left of it: no payload, no delivery that is not made,
//! and no record on the disk. While a record is there, its shared segment can be removed only as long as the index knows
//! what it is ([`Tables::retire`](super::expend)), and a start without an index would deliver it again.

use super::{IndexError, InstanceRow, PlaceKey, Tables, View};
use crate::clock::SpoolTime;
use crate::ledger::Entry;
use crate::model::InstanceId;

/// The place of what was freed before places were kept.
pub(super) const UNKNOWN_PLACE: PlaceKey = (u8::MAX, 0, 0);

/// An instance that was freed, and may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::spool) struct Expired {
    /// Its row in `freed`.
    pub(in crate::spool) freed_at: u64,
    pub(in crate::spool) id: InstanceId,
    /// The shared segment and the offset at which its record was, if it was in one and that is known.
    pub(in crate::spool) place: Option<(u64, u64)>,
    /// Whether nothing of the record is on the disk, as whoever looked believes.
    pub(in crate::spool) gone: bool,
}

impl Expired {
    fn from_row((freed_at, id): (u64, u64), place: PlaceKey) -> Self {
        let place = match place {
            (0, segment, offset) => Some((segment, offset)),
            _ => None,
        };
        Self { freed_at, id: InstanceId(id), place, gone: false }
    }
}

impl Tables<'_> {
    /// Takes out everything that is known of an instance. One of which something is still on the disk has its time once
    /// more.
    pub(super) fn expire(&mut self, expired: &Expired) -> Result<(), IndexError> {
        let id = expired.id;
        let place = self.freed.remove((expired.freed_at, id.0))?.map(|place| place.value());
        let (Some(place), Some(row)) = (place, self.find_instance(id)?) else { return Ok(()) };
        if row.place.is_some() || !self.is_done(id, &row)? {
            return Ok(());
        }
        if !expired.gone {
            self.freed.insert((self.state.time, id.0), place)?;
            return Ok(());
        }
        for name in &row.header.destinations {
            let number = self.destination(name)?.number;
            self.take_delivered(name, number, id, &row)?;
            self.denied.remove((number, id.0))?;
        }
        self.leave_study(id, &row)?;
        self.uids.remove((row.header.sop_instance_uid.as_str(), &row.hash))?;
        self.instances.remove(id.0)?;
        self.forget_lines(id)?;
        self.tell(None, Entry::Forgotten { id });
        Ok(())
    }

    /// Enters an instance that was freed as if that had happened just now.
    pub(super) fn note_freed(&mut self, id: InstanceId, row: &InstanceRow) -> Result<(), IndexError> {
        if row.place.is_none() {
            self.freed.insert((self.state.time, id.0), UNKNOWN_PLACE)?;
        }
        Ok(())
    }

    /// All rows of `freed`, for tests.
    #[cfg(test)]
    pub(super) fn all_freed(&self) -> Vec<Expired> {
        use redb::ReadableTable;

        self.freed
            .iter()
            .unwrap()
            .map(|row| row.unwrap())
            .map(|(key, place)| Expired::from_row(key.value(), place.value()))
            .collect()
    }
}

impl View {
    /// The first `limit` instances that were freed at `until`, the one that was freed first in front.
    pub(in crate::spool) fn freed(&self, until: SpoolTime, limit: usize) -> Result<Vec<Expired>, IndexError> {
        let rows = self.freed.range((0, 0)..=(until.0, u64::MAX))?.take(limit);
        rows.map(|row| row.map(|(key, place)| Expired::from_row(key.value(), place.value())))
            .collect::<Result<_, _>>()
            .map_err(Into::into)
    }
}
