//! From every earlier schema to the present one, in one transaction: a crash leaves the old index or the new one.
//!
//! | schema | what came with it |
//! |---|---|
//! | 1 | the first: seven tables |
//! | 2 | `uids`, `conflicts`, `segments`, `done`, `freeing`, `damaged`, the history and the scrub in `meta`; the place of a payload in the log can be empty and can change |
//! | 3 | `freed` |
//! | 4 | the rule that decided the routing, and whether it withholds the instance; `verifying`, and with it what is known about a delivery beyond its answer; the four tables of studies; `ledger`, and its position in `meta` |

use std::net::IpAddr;

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    CONFLICTS, Counts, DELIVERED, DESTINATIONS, DeliveredRow, DestinationRow, INSTANCES, IndexError, InstanceRow, META,
    PlaceRow, SCHEMA, SEGMENTS, Stage, State, Tables, Tally, UIDS, VerificationRow, pack, unpack,
};
use crate::clock::SpoolTime;
use crate::model::{AeTitle, DestinationName, InstanceId, Priority, Timestamp, Uid};
use crate::spool::record::{InstanceHeader, as_text};

/// Rows that are in memory at a time.
const AT_ONCE: usize = 1_000;

/// Brings the index to the present schema.
///
/// # Errors
/// Its schema is not known, or the database failed; nothing was changed then.
pub(super) fn to_present(database: &Database) -> Result<(), IndexError> {
    let from = match version(&database.begin_read()?)? {
        SCHEMA => return Ok(()),
        from @ 1..SCHEMA => from,
        other => return Err(IndexError::Schema(other)),
    };
    let transaction = begin(database, from)?;
    if from == 1 {
        from_1(&transaction)?;
    } else {
        instances_of_3(&transaction)?;
    }
    destinations_of_3(&transaction)?;
    delivered_of_3(&transaction)?;
    let mut tables = Tables::open(&transaction)?;
    let time = SpoolTime(tables.state.time);
    tables.for_each_instance(|tables, id, row| {
        match from {
            1 => tables.note_done(id, row, time)?,
            2 => tables.note_freed(id, row)?,
            _ => {}
        }
        tables.enter_study_of_3(id, row)
    })?;
    tables.close()?;
    transaction.commit()?;
    Ok(())
}

pub(super) fn version(transaction: &ReadTransaction) -> Result<u64, IndexError> {
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Err(IndexError::Row("meta")),
        other => other?,
    };
    let row = meta.get("schema")?.ok_or(IndexError::Row("meta"))?;
    row.value().try_into().map(u64::from_le_bytes).map_err(|_| IndexError::Row("meta"))
}

/// A header as it was in the rows of the schemas 1 to 3.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstanceHeader3 {
    sop_class_uid: Uid,
    sop_instance_uid: Uid,
    study_instance_uid: Option<Uid>,
    series_instance_uid: Option<Uid>,
    transfer_syntax: Uid,
    calling_ae: AeTitle,
    called_ae: AeTitle,
    #[serde(with = "as_text")]
    peer: Option<IpAddr>,
    received_at: Timestamp,
    priority: Priority,
    modality: Option<String>,
    destinations: Vec<DestinationName>,
}

/// An instance as the schemas 2 and 3 had it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstanceRow3 {
    pub(super) place: Option<PlaceRow>,
    pub(super) hash: [u8; 32],
    pub(super) length: u64,
    pub(super) header: InstanceHeader3,
}

/// The counters of a destination as the schemas 1 to 3 had them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct DestinationRow3 {
    pub(super) number: u32,
    pub(super) queued: Tally,
    pub(super) delivered: Tally,
    pub(super) parked: Tally,
}

/// A delivery that was made as the schemas 1 to 3 had it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DeliveredRow3 {
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) answer: String,
}

/// An instance as schema 1 had it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct InstanceRow1 {
    pub(super) large: bool,
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) hash: [u8; 32],
    pub(super) length: u64,
    pub(super) stored_length: u64,
    pub(super) header: InstanceHeader3,
}

/// The state as schema 1 had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State1 {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) large_to: u64,
    pub(super) last_id: u64,
    pub(super) time: u64,
    pub(super) all: Tally,
    pub(super) stored: u64,
}

fn begin(database: &Database, from: u64) -> Result<WriteTransaction, IndexError> {
    log::info!("the index has schema {from} and is brought to schema {SCHEMA}");
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    transaction.open_table(META)?.insert("schema", &SCHEMA.to_le_bytes()[..])?;
    Ok(transaction)
}

/// Brings the rows of the instances from schema 2 or 3 to the present one.
fn instances_of_3(transaction: &WriteTransaction) -> Result<(), IndexError> {
    let mut instances = transaction.open_table(INSTANCES)?;
    let mut next = 0;
    loop {
        let mut rows = Vec::with_capacity(AT_ONCE);
        for row in instances.range(next..)?.take(AT_ONCE) {
            let (id, row) = row?;
            rows.push((id.value(), unpack::<InstanceRow3>("instances", row.value())?));
        }
        let Some((last, _)) = rows.last() else { return Ok(()) };
        next = last.saturating_add(1);
        for (id, row) in rows {
            instances.insert(id, &pack("instances", &InstanceRow::from(row))?[..])?;
        }
    }
}

/// Brings the counters of the destinations from schema 1, 2 or 3 to the present one.
fn destinations_of_3(transaction: &WriteTransaction) -> Result<(), IndexError> {
    let mut destinations = transaction.open_table(DESTINATIONS)?;
    let mut rows = Vec::new();
    for row in destinations.iter()? {
        let (name, row) = row?;
        rows.push((name.value().to_owned(), unpack::<DestinationRow3>("destinations", row.value())?));
    }
    for (name, DestinationRow3 { number, queued, delivered, parked }) in rows {
        let row = DestinationRow { number, counts: Counts { queued, delivered, parked, ..Counts::default() } };
        destinations.insert(name.as_str(), &pack("destinations", &row)?[..])?;
    }
    Ok(())
}

/// Brings what was delivered from schema 1, 2 or 3 to the present one: nobody was ever asked about it, and nobody is.
fn delivered_of_3(transaction: &WriteTransaction) -> Result<(), IndexError> {
    let mut delivered = transaction.open_table(DELIVERED)?;
    let mut next = (0, 0);
    loop {
        let mut rows = Vec::with_capacity(AT_ONCE);
        for row in delivered.range(next..)?.take(AT_ONCE) {
            let (key, row) = row?;
            rows.push((key.value(), unpack::<DeliveredRow3>("delivered", row.value())?));
        }
        let Some((last, _)) = rows.last() else { return Ok(()) };
        next = (last.0, last.1.saturating_add(1));
        for (key, DeliveredRow3 { at, attempts, answer }) in rows {
            let row = DeliveredRow { at, attempts, answer, verification: VerificationRow::Final };
            delivered.insert(key, &pack("delivered", &row)?[..])?;
        }
    }
}

fn from_1(transaction: &WriteTransaction) -> Result<(), IndexError> {
    let mut meta = transaction.open_table(META)?;
    let state = match meta.get("state")? {
        Some(row) => unpack::<State1>("meta", row.value())?.into(),
        None => State::default(),
    };
    meta.insert("state", &pack::<State>("meta", &state)?[..])?;
    let mut instances = transaction.open_table(INSTANCES)?;
    let mut uids = transaction.open_table(UIDS)?;
    let mut conflicts = transaction.open_table(CONFLICTS)?;
    let mut segments = transaction.open_table(SEGMENTS)?;
    let mut next = 0;
    loop {
        let mut rows = Vec::with_capacity(AT_ONCE);
        for row in instances.range(next..)?.take(AT_ONCE) {
            let (id, row) = row?;
            rows.push((id.value(), unpack::<InstanceRow1>("instances", row.value())?));
        }
        let Some((last, _)) = rows.last() else { break };
        next = last.saturating_add(1);
        for (id, row) in rows {
            let uid = row.header.sop_instance_uid.as_str();
            // The same content twice was possible: the first of them stays the one that is found.
            if uids.get((uid, &row.hash))?.is_none() {
                let other = uids.range((uid, &[0; 32])..=(uid, &[0xff; 32]))?.next().transpose()?;
                if let Some(other) = other.map(|(_, other)| other.value()) {
                    conflicts.insert(id, other)?;
                }
                uids.insert((uid, &row.hash), id)?;
            }
            if !row.large {
                let count = segments.get(row.segment)?.map_or(0, |count| count.value());
                segments.insert(row.segment, count + 1)?;
            }
            instances.insert(id, &pack("instances", &InstanceRow::from((id, row)))?[..])?;
        }
    }
    Ok(())
}

impl Tables<'_> {
    /// Counts an instance and its deliveries to its study. All that is known of its arrival is the wall clock; nothing is
    /// called late by that.
    fn enter_study_of_3(&mut self, id: InstanceId, row: &InstanceRow) -> Result<(), IndexError> {
        let time = SpoolTime(row.header.received_at.as_millis().min(self.state.time));
        self.enter_study(id, row, time)?;
        for name in &row.header.destinations {
            let Some(number) = self.known_destination(name)?.map(|row| row.number) else { continue };
            let key = (number, id.0);
            let stage = if self.queued.get(key)?.is_some() {
                Stage::Queued
            } else if self.parked.get(key)?.is_some() {
                Stage::Parked
            } else if self.delivered.get(key)?.is_some() {
                Stage::Final
            } else {
                continue;
            };
            self.count_in_study(number, stage, row, Counts::add)?;
        }
        Ok(())
    }

    /// Visits every instance, by [`AT_ONCE`] of them at a time.
    fn for_each_instance(
        &mut self,
        visit: impl Fn(&mut Self, InstanceId, &InstanceRow) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut next = 0;
        loop {
            let mut ids = Vec::with_capacity(AT_ONCE);
            for row in self.instances.range(next..)?.take(AT_ONCE) {
                ids.push(row?.0.value());
            }
            let Some(last) = ids.last() else { return Ok(()) };
            next = last.saturating_add(1);
            for id in ids {
                let row = self.instance(InstanceId(id))?;
                visit(self, InstanceId(id), &row)?;
            }
            self.flush_studies()?;
        }
    }
}

impl From<(u64, InstanceRow1)> for InstanceRow {
    fn from((id, row): (u64, InstanceRow1)) -> Self {
        let InstanceRow1 { large, segment, offset, hash, length, stored_length, header } = row;
        let place = Some(PlaceRow { large, segment, offset, record: id, stored_length });
        InstanceRow3 { place, hash, length, header }.into()
    }
}

impl From<InstanceRow3> for InstanceRow {
    fn from(row: InstanceRow3) -> Self {
        let InstanceRow3 { place, hash, length, header } = row;
        Self { place, hash, length, header: header.into(), late: false }
    }
}

#[cfg(test)]
impl InstanceHeader3 {
    pub(super) fn of(header: InstanceHeader) -> Self {
        let InstanceHeader { sop_class_uid, sop_instance_uid, study_instance_uid, series_instance_uid, .. } = header;
        let InstanceHeader { transfer_syntax, calling_ae, called_ae, peer, received_at, priority, .. } = header;
        let InstanceHeader { modality, destinations, .. } = header;
        Self {
            sop_class_uid,
            sop_instance_uid,
            study_instance_uid,
            series_instance_uid,
            transfer_syntax,
            calling_ae,
            called_ae,
            peer,
            received_at,
            priority,
            modality,
            destinations,
        }
    }
}

impl From<InstanceHeader3> for InstanceHeader {
    fn from(header: InstanceHeader3) -> Self {
        let InstanceHeader3 {
            sop_class_uid,
            sop_instance_uid,
            study_instance_uid,
            series_instance_uid,
            transfer_syntax,
            calling_ae,
            called_ae,
            peer,
            received_at,
            priority,
            modality,
            destinations,
        } = header;
        Self {
            sop_class_uid,
            sop_instance_uid,
            study_instance_uid,
            series_instance_uid,
            transfer_syntax,
            calling_ae,
            called_ae,
            peer,
            received_at,
            priority,
            modality,
            destinations,
            rule: None,
            withheld: false,
        }
    }
}

impl From<State1> for State {
    fn from(state: State1) -> Self {
        let State1 { segment, offset, large_to, last_id, time, all, stored } = state;
        Self { segment, offset, large_to, last_id, time, all, stored, cache: Tally::default() }
    }
}
