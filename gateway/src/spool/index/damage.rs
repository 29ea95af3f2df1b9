//! Payloads that are not what was received any more, and how they are mended.
//!
//! Whoever finds one, the scrub or a sender, reports it: its deliveries are parked with a sentence. When the modality
//! sends the same content again, the log writes a new record, because the instance is known to be damaged; entering it
//! gives the instance its new place, and the deliveries that were parked for this reason queue again.

use redb::{ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::{IndexError, InstanceRow, ParkedRow, QueuedRow, Tables, Tally, View, pack, unpack};
use crate::clock::SpoolTime;
use crate::model::{InstanceId, Timestamp};
use crate::spool::status::ScrubPass;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct DamagedRow {
    at: Timestamp,
    problem: String,
    /// The numbers of the destinations whose deliveries were parked for it.
    parked: Vec<u32>,
}

/// A report of damage.
#[derive(Debug, Clone)]
pub(in crate::spool) struct Damaged {
    pub(in crate::spool) id: InstanceId,
    /// The record that was read.
    pub(in crate::spool) record: InstanceId,
    pub(in crate::spool) problem: String,
    pub(in crate::spool) at: Timestamp,
}

/// How far the scrub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(in crate::spool) struct ScrubRow {
    /// The id to go on with.
    pub(in crate::spool) next: u64,
    /// What the present pass has read, and how much of it was damaged.
    pub(in crate::spool) checked: Tally,
    pub(in crate::spool) damaged: u64,
    pub(in crate::spool) last: Option<ScrubPass>,
}

impl Tables<'_> {
    /// Parks what is queued of a damaged instance. Nothing happens if the record that was read is not its payload any
    /// more, or if every destination has it: then it is only a copy.
    pub(super) fn damage(&mut self, report: &Damaged) -> Result<(), IndexError> {
        let Some(row) = self.find_instance(report.id)? else { return Ok(()) };
        if row.place.is_none_or(|place| place.record != report.record.0) || self.is_done(report.id, &row)? {
            return Ok(());
        }
        let stored = self.damaged.get(report.id.0)?.map(|row| unpack::<DamagedRow>("damaged", row.value()));
        let (at, problem) = (report.at, report.problem.clone());
        let mut damaged = stored.transpose()?.unwrap_or(DamagedRow { at, problem, parked: Vec::new() });
        for name in &row.header.destinations {
            let number = self.destination(name)?.number;
            let key = (number, report.id.0);
            let queued = self.queued.get(key)?.map(|row| unpack::<QueuedRow>("queued", row.value())).transpose()?;
            let Some(queued) = queued else { continue };
            self.dequeue(name, number, report.id, &queued, &row)?;
            let reason = format!("{}; send it again from the modality, which mends it", report.problem);
            let parked = ParkedRow { at, attempts: queued.attempts, reason };
            self.park(name, number, report.id, &parked, &row)?;
            if !damaged.parked.contains(&number) {
                damaged.parked.push(number);
            }
        }
        self.damaged.insert(report.id.0, &pack("damaged", &damaged)?[..])?;
        Ok(())
    }

    /// The instance has a new payload: what was parked because the old one was damaged queues again.
    pub(super) fn mend(&mut self, id: InstanceId, row: &InstanceRow, now: SpoolTime) -> Result<(), IndexError> {
        let damaged = self.damaged.remove(id.0)?.map(|row| unpack::<DamagedRow>("damaged", row.value()));
        let Some(damaged) = damaged.transpose()? else { return Ok(()) };
        for name in &row.header.destinations {
            let number = self.destination(name)?.number;
            if damaged.parked.contains(&number) {
                self.unpark(name, number, id, now)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_scrub(&mut self, scrub: &ScrubRow) -> Result<(), IndexError> {
        self.meta.insert("scrub", &pack("meta", scrub)?[..])?;
        Ok(())
    }
}

impl View {
    /// How many damaged instances somebody waits for.
    pub(in crate::spool) fn damaged(&self) -> Result<u64, IndexError> {
        Ok(self.damaged.len()?)
    }

    /// How far the scrub was when that was last stored.
    pub(in crate::spool) fn scrub(&self) -> Result<ScrubRow, IndexError> {
        self.meta.get("scrub")?.map_or(Ok(ScrubRow::default()), |row| unpack("meta", row.value()))
    }
}
