//! What may concern very many deliveries: done by a bounded number of them in a transaction, in order of arrival. Each of
//! these functions says from where to where it may go, and where to go on.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use redb::ReadableTable;

use super::{IndexError, InstanceRow, QueuedRow, Tables, unpack};
use crate::clock::SpoolTime;
use crate::model::{DestinationName, InstanceId, Priority, Uid};

/// What came of one of these.
#[derive(Debug, Default)]
pub(in crate::spool) struct Step {
    /// How many deliveries were changed.
    pub(in crate::spool) changed: u64,
    /// To whom they go.
    pub(in crate::spool) concerned: BTreeSet<DestinationName>,
    /// The id to go on with, if there may be more.
    pub(in crate::spool) next: Option<u64>,
}

impl Tables<'_> {
    /// The highest instance id that was entered.
    pub(in crate::spool) fn last_id(&self) -> u64 {
        self.state.last_id
    }

    /// Queues up to `limit` parked deliveries of the instances `among` again, the oldest first, as if they had never been
    /// tried.
    pub(in crate::spool) fn retry_all(
        &mut self,
        destination: &DestinationName,
        among: RangeInclusive<u64>,
        limit: usize,
        now: SpoolTime,
    ) -> Result<Step, IndexError> {
        let Some(number) = self.known_destination(destination)?.map(|row| row.number) else {
            return Ok(Step::default());
        };
        let mut ids = Vec::new();
        for row in self.parked.range((number, *among.start())..=(number, *among.end()))?.take(limit) {
            ids.push(row?.0.value().1);
        }
        for id in &ids {
            self.unpark(destination, number, InstanceId(*id), now)?;
        }
        let next = ids.last().map(|last| last.saturating_add(1));
        let next = next.filter(|next| ids.len() == limit && next <= among.end());
        Ok(Step { changed: ids.len() as u64, concerned: BTreeSet::from([destination.clone()]), next })
    }

    /// As [`Tables::retry_all`] for the instances of a study, after a look at up to `limit` deliveries; for all
    /// destinations if none is named.
    pub(in crate::spool) fn retry_study(
        &mut self,
        study: &Uid,
        destination: Option<&DestinationName>,
        among: RangeInclusive<u64>,
        limit: usize,
        now: SpoolTime,
    ) -> Result<Step, IndexError> {
        self.each_of_study(study, among, limit, |tables, name, number, id, _| {
            Ok(destination.is_none_or(|destination| destination == name) && tables.unpark(name, number, id, now)?)
        })
    }

    /// As [`Tables::retry_all`] for one instance; for all its destinations if none is named.
    pub(in crate::spool) fn retry_instance(
        &mut self,
        id: InstanceId,
        destination: Option<&DestinationName>,
        now: SpoolTime,
    ) -> Result<Step, IndexError> {
        let Some(row) = self.find_instance(id)? else { return Ok(Step::default()) };
        let mut step = Step::default();
        self.each_of_instance(id, &row, &mut step, &mut |tables, name, number, id, _| {
            Ok(destination.is_none_or(|destination| destination == name) && tables.unpark(name, number, id, now)?)
        })?;
        Ok(step)
    }

    /// Lets a study go first everywhere, with what will come of it: marks it, and moves what is queued of it after a look
    /// at up to `limit` deliveries.
    pub(in crate::spool) fn expedite(
        &mut self,
        study: &Uid,
        among: RangeInclusive<u64>,
        limit: usize,
    ) -> Result<Step, IndexError> {
        if let Some(row) = self.study(study)? {
            row.expedited = true;
        }
        self.each_of_study(study, among, limit, |tables, name, number, id, instance| {
            let queued = tables.queued.get((number, id.0))?.map(|row| unpack::<QueuedRow>("queued", row.value()));
            let Some(queued) = queued.transpose()? else { return Ok(false) };
            let urgent = QueuedRow { priority: Priority::Stat as u8, ..queued.clone() };
            if queued.priority != urgent.priority {
                tables.dequeue(name, number, id, &queued, instance)?;
                tables.enqueue(name, number, id.0, &urgent, instance)?;
            }
            Ok(queued.priority != urgent.priority)
        })
    }

    /// Hands the deliveries of those instances of a study that are `among` these to `change`, which says whether it
    /// changed them; no more instances once it had `limit` deliveries.
    fn each_of_study(
        &mut self,
        study: &Uid,
        among: RangeInclusive<u64>,
        limit: usize,
        mut change: impl FnMut(&mut Self, &DestinationName, u32, InstanceId, &InstanceRow) -> Result<bool, IndexError>,
    ) -> Result<Step, IndexError> {
        let mut step = Step::default();
        let Some(study) = self.study(study)?.map(|row| row.number()) else { return Ok(step) };
        let mut ids = Vec::new();
        for row in self.study_instances.range((study, *among.start())..=(study, *among.end()))?.take(limit) {
            ids.push(row?.0.value().1);
        }
        let mut looks = 0;
        let (mut last, all) = (None, ids.len());
        for (at, id) in ids.into_iter().enumerate() {
            if looks >= limit {
                break;
            }
            let row = self.instance(InstanceId(id))?;
            self.each_of_instance(InstanceId(id), &row, &mut step, &mut change)?;
            looks += row.header.destinations.len().max(1);
            last = Some((at + 1, id));
        }
        step.next = last.filter(|(done, _)| *done < all || all == limit).map(|(_, id)| id.saturating_add(1));
        step.next = step.next.filter(|next| next <= among.end());
        Ok(step)
    }

    fn each_of_instance(
        &mut self,
        id: InstanceId,
        row: &InstanceRow,
        step: &mut Step,
        change: &mut impl FnMut(&mut Self, &DestinationName, u32, InstanceId, &InstanceRow) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        for name in &row.header.destinations {
            let Some(number) = self.known_destination(name)?.map(|row| row.number) else { continue };
            if change(self, name, number, id, row)? {
                step.changed = step.changed.saturating_add(1);
                step.concerned.insert(name.clone());
            }
        }
        Ok(())
    }
}
