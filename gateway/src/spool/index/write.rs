//! Changes of the index: each keeps rows, order and counters in step, within one transaction.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    CONFLICTS, DAMAGED, DAY, DELIVERED, DESTINATIONS, DONE, Day, DeliveredRow, DestinationRow, FREED, FREEING, HISTORY,
    INSTANCES, IndexError, InstanceRow, META, PARKED, ParkedRow, PlaceKey, QUEUE, QUEUED, QueuedRow, SCHEMA, SEGMENTS,
    State, Tally, UIDS, pack, unpack,
};
use crate::clock::SpoolTime;
use crate::model::{DestinationName, InstanceId, Timestamp};
use crate::spool::claims::Outcome;

/// Answers and reasons are for people: what is longer than this, in bytes, is cut.
const LONGEST_TEXT: usize = 500;

/// All tables, open for writing.
pub(in crate::spool) struct Tables<'t> {
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
    pub(super) instances: Table<'t, u64, &'static [u8]>,
    destinations: Table<'t, &'static str, &'static [u8]>,
    queue: Table<'t, (u32, u8, u64, u64), ()>,
    pub(super) queued: Table<'t, (u32, u64), &'static [u8]>,
    pub(super) delivered: Table<'t, (u32, u64), &'static [u8]>,
    pub(super) parked: Table<'t, (u32, u64), &'static [u8]>,
    pub(super) uids: Table<'t, (&'static str, &'static [u8; 32]), u64>,
    pub(super) conflicts: Table<'t, u64, u64>,
    pub(super) segments: Table<'t, u64, u64>,
    pub(super) done: Table<'t, (u64, u64), ()>,
    pub(super) freed: Table<'t, (u64, u64), PlaceKey>,
    pub(super) freeing: Table<'t, PlaceKey, u64>,
    pub(super) damaged: Table<'t, u64, &'static [u8]>,
    /// What was stored by day, if it was touched.
    history: Option<Vec<Day>>,
    /// The rows of destinations that were touched: written once, at the end.
    touched: BTreeMap<DestinationName, DestinationRow>,
    pub(super) state: State,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, IndexError> {
        let meta = transaction.open_table(META)?;
        let state = match meta.get("state")? {
            Some(row) => unpack("meta", row.value())?,
            None => State::default(),
        };
        Ok(Self {
            meta,
            instances: transaction.open_table(INSTANCES)?,
            destinations: transaction.open_table(DESTINATIONS)?,
            queue: transaction.open_table(QUEUE)?,
            queued: transaction.open_table(QUEUED)?,
            delivered: transaction.open_table(DELIVERED)?,
            parked: transaction.open_table(PARKED)?,
            uids: transaction.open_table(UIDS)?,
            conflicts: transaction.open_table(CONFLICTS)?,
            segments: transaction.open_table(SEGMENTS)?,
            done: transaction.open_table(DONE)?,
            freed: transaction.open_table(FREED)?,
            freeing: transaction.open_table(FREEING)?,
            damaged: transaction.open_table(DAMAGED)?,
            history: None,
            touched: BTreeMap::new(),
            state,
        })
    }

    /// Marks a new database as ours; its tables exist since they were opened.
    pub(super) fn create(&mut self) -> Result<(), IndexError> {
        self.meta.insert("schema", &SCHEMA.to_le_bytes()[..])?;
        Ok(())
    }

    pub(super) fn close(mut self) -> Result<(), IndexError> {
        for (name, row) in &self.touched {
            self.destinations.insert(name.as_str(), &pack("destinations", row)?[..])?;
        }
        self.meta.insert("state", &pack("meta", &self.state)?[..])?;
        if let Some(history) = &self.history {
            self.meta.insert("history", &pack("meta", history)?[..])?;
        }
        Ok(())
    }

    /// Adds to what was stored on the day of `time`.
    pub(super) fn add_to_history(&mut self, time: SpoolTime, stored: u64) -> Result<(), IndexError> {
        if self.history.is_none() {
            let row = self.meta.get("history")?;
            self.history = Some(row.map(|row| unpack("meta", row.value())).transpose()?.unwrap_or_default());
        }
        let Some(history) = &mut self.history else { return Ok(()) };
        let day = time.0 / DAY;
        match history.iter_mut().find(|entry| entry.day == day) {
            Some(entry) => entry.stored = entry.stored.saturating_add(stored),
            None => history.push(Day { day, stored }),
        }
        if history.len() > HISTORY {
            history.sort_unstable_by_key(|entry| entry.day);
            history.remove(0);
        }
        Ok(())
    }

    /// Moves the checkpoint, which never goes back: everything before (`segment`, `offset`) in the shared segments is
    /// entered, and every large instance up to `large_to`.
    pub(in crate::spool) fn advance(&mut self, segment: u64, offset: u64, large_to: InstanceId) {
        let state = &mut self.state;
        (state.segment, state.offset) = (state.segment, state.offset).max((segment, offset));
        state.large_to = state.large_to.max(large_to.0);
        state.last_id = state.last_id.max(large_to.0);
    }

    /// Keeps the latest time that was seen; it never goes back.
    pub(in crate::spool) fn set_time(&mut self, time: SpoolTime) {
        self.state.time = self.state.time.max(time.0);
    }

    /// Records what came of an attempt. Does nothing if the delivery is not queued any more.
    pub(in crate::spool) fn record(
        &mut self,
        destination: &DestinationName,
        id: InstanceId,
        outcome: &Outcome,
        now: SpoolTime,
        at: Timestamp,
    ) -> Result<(), IndexError> {
        let number = self.destination(destination)?.number;
        let key = (number, id.0);
        let (before, row) = match self.queued.get(key)? {
            Some(row) => (unpack::<QueuedRow>("queued", row.value())?, self.instance(id)?),
            None => return Ok(()),
        };
        let (length, instance) = (row.length, row);
        let attempts = before.attempts.saturating_add(1);
        match outcome {
            Outcome::Released => {}
            Outcome::Retry { after, answer } => {
                self.dequeue(destination, number, id, &before, length)?;
                let row = QueuedRow {
                    priority: before.priority,
                    due: now.after(*after).0,
                    attempts,
                    last_answer: Some(shortened(answer)),
                    last_at: Some(at),
                };
                self.enqueue(destination, number, id.0, &row, length)?;
            }
            Outcome::Delivered { answer } => {
                self.dequeue(destination, number, id, &before, length)?;
                let row = DeliveredRow { at, attempts, answer: shortened(answer) };
                self.delivered.insert(key, &pack("delivered", &row)?[..])?;
                self.tally(destination, |row| row.delivered.add(length));
                self.note_done(id, &instance, now)?;
            }
            Outcome::Parked { reason } => {
                self.dequeue(destination, number, id, &before, length)?;
                let row = ParkedRow { at, attempts, reason: shortened(reason) };
                self.parked.insert(key, &pack("parked", &row)?[..])?;
                self.tally(destination, |row| row.parked.add(length));
            }
        }
        Ok(())
    }

    /// The highest instance id that was entered.
    pub(in crate::spool) fn last_id(&self) -> u64 {
        self.state.last_id
    }

    /// Queues up to `limit` parked deliveries of the instances `among` again, the oldest first, as if they had never been
    /// tried. Gives their number, and the id to go on with if there may be more.
    pub(in crate::spool) fn retry_parked(
        &mut self,
        destination: &DestinationName,
        among: RangeInclusive<u64>,
        limit: usize,
        now: SpoolTime,
    ) -> Result<(u64, Option<u64>), IndexError> {
        let Some(number) = self.known_destination(destination)?.map(|row| row.number) else { return Ok((0, None)) };
        let mut ids = Vec::new();
        for row in self.parked.range((number, *among.start())..=(number, *among.end()))?.take(limit) {
            ids.push(row?.0.value().1);
        }
        for id in &ids {
            self.parked.remove((number, *id))?;
            let InstanceRow { length, header, .. } = self.instance(InstanceId(*id))?;
            self.tally(destination, |row| row.parked.take(length));
            let row = QueuedRow { priority: header.priority as u8, due: now.0, ..QueuedRow::default() };
            self.enqueue(destination, number, *id, &row, length)?;
        }
        let next = ids.last().map(|last| last.saturating_add(1));
        let next = next.filter(|next| ids.len() == limit && next <= among.end());
        Ok((ids.len() as u64, next))
    }

    pub(super) fn enqueue(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: u64,
        row: &QueuedRow,
        length: u64,
    ) -> Result<(), IndexError> {
        self.queue.insert((number, row.priority, row.due, id), ())?;
        self.queued.insert((number, id), &pack("queued", row)?[..])?;
        self.tally(destination, |row| row.queued.add(length));
        Ok(())
    }

    pub(super) fn dequeue(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: InstanceId,
        row: &QueuedRow,
        length: u64,
    ) -> Result<(), IndexError> {
        self.queue.remove((number, row.priority, row.due, id.0))?;
        self.queued.remove((number, id.0))?;
        self.tally(destination, |row| row.queued.take(length));
        Ok(())
    }

    pub(super) fn tally(&mut self, destination: &DestinationName, change: impl FnOnce(&mut DestinationRow)) {
        if let Some(row) = self.touched.get_mut(destination) {
            change(row);
        }
    }

    pub(super) fn instance(&self, id: InstanceId) -> Result<InstanceRow, IndexError> {
        self.find_instance(id)?.ok_or(IndexError::Row("instances"))
    }

    pub(super) fn find_instance(&self, id: InstanceId) -> Result<Option<InstanceRow>, IndexError> {
        self.instances.get(id.0)?.map(|row| unpack("instances", row.value())).transpose()
    }

    pub(super) fn known_destination(&mut self, name: &DestinationName) -> Result<Option<DestinationRow>, IndexError> {
        if let Some(row) = self.touched.get(name) {
            return Ok(Some(*row));
        }
        let stored = self.destinations.get(name.as_str())?;
        let Some(row) = stored.map(|row| unpack("destinations", row.value())).transpose()? else { return Ok(None) };
        self.touched.insert(name.clone(), row);
        Ok(Some(row))
    }

    /// The row of a destination; one that was never seen gets the next number.
    pub(super) fn destination(&mut self, name: &DestinationName) -> Result<DestinationRow, IndexError> {
        if let Some(row) = self.known_destination(name)? {
            return Ok(row);
        }
        let mut number = 0;
        for row in self.destinations.iter()? {
            number = number.max(unpack::<DestinationRow>("destinations", row?.1.value())?.number);
        }
        number = self.touched.values().map(|row| row.number).fold(number, u32::max);
        let nothing = Tally::default();
        let row = DestinationRow { number: number + 1, queued: nothing, delivered: nothing, parked: nothing };
        self.touched.insert(name.clone(), row);
        Ok(row)
    }
}

fn shortened(text: &str) -> String {
    let end = (0..=LONGEST_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
