//! Changes of the index: each keeps rows, order and counters in step, within one transaction.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::studies::Touched;
use super::{
    CONFLICTS, Counts, DAMAGED, DAY, DELIVERED, DENIED, DESTINATIONS, DONE, Day, DeliveredRow, DestinationRow, FREED,
    FREEING, HISTORY, INSTANCES, IndexError, InstanceRow, LEDGER, META, OPEN_STUDIES, PARKED, ParkedRow, PlaceKey,
    QUEUE, QUEUED, QueuedRow, SCHEMA, SEGMENTS, STUDIES, STUDY_INSTANCES, STUDY_ORDER, Stage, State, UIDS, VERIFYING,
    VerificationRow, pack, unpack,
};
use crate::clock::SpoolTime;
use crate::ledger::Entry;
use crate::model::{DestinationName, InstanceId, Timestamp, Uid};
use crate::spool::claims::{Attempt, Outcome};

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
    pub(super) verifying: Table<'t, (u32, u64, u64), ()>,
    pub(super) denied: Table<'t, (u32, u64), (u32, u64)>,
    pub(super) studies: Table<'t, &'static str, &'static [u8]>,
    pub(super) study_order: Table<'t, u64, &'static str>,
    pub(super) study_instances: Table<'t, (u64, u64), ()>,
    pub(super) open_studies: Table<'t, u64, ()>,
    pub(super) ledger: Table<'t, (u64, u64), (u32, u64)>,
    /// What is to be told before the commit.
    pub(super) told: Vec<(Option<Timestamp>, Entry)>,
    /// What was stored by day, if it was touched.
    history: Option<Vec<Day>>,
    /// The rows of destinations that were touched: written once, at the end.
    pub(super) touched: BTreeMap<DestinationName, DestinationRow>,
    /// The same for studies.
    pub(super) touched_studies: BTreeMap<Uid, Touched>,
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
            verifying: transaction.open_table(VERIFYING)?,
            denied: transaction.open_table(DENIED)?,
            studies: transaction.open_table(STUDIES)?,
            study_order: transaction.open_table(STUDY_ORDER)?,
            study_instances: transaction.open_table(STUDY_INSTANCES)?,
            open_studies: transaction.open_table(OPEN_STUDIES)?,
            ledger: transaction.open_table(LEDGER)?,
            told: Vec::new(),
            history: None,
            touched: BTreeMap::new(),
            touched_studies: BTreeMap::new(),
            state,
        })
    }

    /// Marks a new database as ours; its tables exist since they were opened.
    pub(super) fn create(&mut self) -> Result<(), IndexError> {
        self.meta.insert("schema", &SCHEMA.to_le_bytes()[..])?;
        Ok(())
    }

    pub(super) fn close(mut self) -> Result<(), IndexError> {
        self.flush_studies()?;
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

    /// Records what came of an attempt, and gives its number. Does nothing if the delivery is not queued any more.
    pub(in crate::spool) fn record(
        &mut self,
        destination: &DestinationName,
        id: InstanceId,
        (attempt, outcome): (&Attempt, &Outcome),
        now: SpoolTime,
        at: Timestamp,
    ) -> Result<Option<u32>, IndexError> {
        let number = self.destination(destination)?.number;
        let key = (number, id.0);
        let (before, row) = match self.queued.get(key)? {
            Some(row) => (unpack::<QueuedRow>("queued", row.value())?, self.instance(id)?),
            None => return Ok(None),
        };
        let instance = row;
        let attempts = before.attempts.saturating_add(1);
        let remarked = |answer: &str| match &attempt.remark {
            Some(remark) => shortened(&format!("{answer}: {remark}")),
            None => shortened(answer),
        };
        match outcome {
            Outcome::Released => {}
            Outcome::Kept { answer } => {
                let row = QueuedRow { attempts, last_answer: Some(remarked(answer)), last_at: Some(at), ..before };
                self.queued.insert(key, &pack("queued", &row)?[..])?;
            }
            Outcome::Retry { after, answer } => {
                self.dequeue(destination, number, id, &before, &instance)?;
                let row = QueuedRow {
                    priority: before.priority,
                    due: now.after(*after).0,
                    attempts,
                    last_answer: Some(remarked(answer)),
                    last_at: Some(at),
                };
                self.enqueue(destination, number, id.0, &row, &instance)?;
            }
            Outcome::Delivered { answer, verify } => {
                self.dequeue(destination, number, id, &before, &instance)?;
                let verification = verify.map_or(VerificationRow::Final, |after| VerificationRow::Unverified {
                    due: now.after(after).0,
                    tries: 0,
                    last_answer: None,
                    last_at: None,
                });
                let row = DeliveredRow { at, attempts, answer: shortened(answer), verification };
                self.add_delivered(destination, number, id, &instance, &row)?;
                self.note_done(id, &instance, now)?;
            }
            Outcome::Parked { reason } => {
                self.dequeue(destination, number, id, &before, &instance)?;
                let row = ParkedRow { at, attempts, reason: remarked(reason) };
                self.park(destination, number, id, &row, &instance)?;
            }
        }
        Ok(Some(attempts))
    }

    /// Queues a parked delivery again, as if it had never been tried. False if it is not parked.
    pub(super) fn unpark(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: InstanceId,
        now: SpoolTime,
    ) -> Result<bool, IndexError> {
        if self.parked.remove((number, id.0))?.is_none() {
            return Ok(false);
        }
        let instance = self.instance(id)?;
        self.count(destination, number, Stage::Parked, &instance, Counts::take)?;
        let row = QueuedRow { priority: self.priority(&instance)?, due: now.0, ..QueuedRow::default() };
        self.enqueue(destination, number, id.0, &row, &instance)?;
        Ok(true)
    }

    pub(super) fn park(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: InstanceId,
        row: &ParkedRow,
        instance: &InstanceRow,
    ) -> Result<(), IndexError> {
        if self.parked.insert((number, id.0), &pack("parked", row)?[..])?.is_none() {
            self.count(destination, number, Stage::Parked, instance, Counts::add)?;
        }
        Ok(())
    }

    pub(super) fn enqueue(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: u64,
        row: &QueuedRow,
        instance: &InstanceRow,
    ) -> Result<(), IndexError> {
        self.queue.insert((number, row.priority, row.due, id), ())?;
        self.queued.insert((number, id), &pack("queued", row)?[..])?;
        self.count(destination, number, Stage::Queued, instance, Counts::add)
    }

    pub(super) fn dequeue(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: InstanceId,
        row: &QueuedRow,
        instance: &InstanceRow,
    ) -> Result<(), IndexError> {
        self.queue.remove((number, row.priority, row.due, id.0))?;
        self.queued.remove((number, id.0))?;
        self.count(destination, number, Stage::Queued, instance, Counts::take)
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
        let row = DestinationRow { number: number + 1, counts: Counts::default() };
        self.touched.insert(name.clone(), row);
        Ok(row)
    }
}

pub(super) fn shortened(text: &str) -> String {
    let end = (0..=LONGEST_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}
