//! From every earlier schema to the present one, in one transaction: a crash leaves the old index or the new one.
//!
//! | schema | what came with it |
//! |---|---|
//! | 1 | the first: seven tables |
//! | 2 | `uids`, `conflicts`, `segments`, `done`, `freeing`, `damaged`, the history and the scrub in `meta`; the place of a payload in the log can be empty and can change |
//! | 3 | `freed` |

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    CONFLICTS, INSTANCES, IndexError, InstanceRow, META, PlaceRow, SCHEMA, SEGMENTS, State, Tables, Tally, UIDS, pack,
    unpack,
};
use crate::clock::SpoolTime;
use crate::model::InstanceId;
use crate::spool::record::InstanceHeader;

/// Rows that are in memory at a time.
const AT_ONCE: usize = 1_000;

/// Brings the index to the present schema.
///
/// # Errors
/// Its schema is not known, or the database failed; nothing was changed then.
pub(super) fn to_present(database: &Database) -> Result<(), IndexError> {
    match version(&database.begin_read()?)? {
        SCHEMA => Ok(()),
        1 => from_1(database),
        2 => from_2(database),
        other => Err(IndexError::Schema(other)),
    }
}

pub(super) fn version(transaction: &ReadTransaction) -> Result<u64, IndexError> {
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) => return Err(IndexError::Row("meta")),
        other => other?,
    };
    let row = meta.get("schema")?.ok_or(IndexError::Row("meta"))?;
    row.value().try_into().map(u64::from_le_bytes).map_err(|_| IndexError::Row("meta"))
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
    pub(super) header: InstanceHeader,
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

fn from_2(database: &Database) -> Result<(), IndexError> {
    let transaction = begin(database, 2)?;
    let mut tables = Tables::open(&transaction)?;
    tables.for_each_instance(Tables::note_freed)?;
    tables.close()?;
    transaction.commit()?;
    Ok(())
}

fn from_1(database: &Database) -> Result<(), IndexError> {
    let transaction = begin(database, 1)?;
    {
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
    }
    let mut tables = Tables::open(&transaction)?;
    let time = SpoolTime(tables.state.time);
    tables.for_each_instance(|tables, id, row| tables.note_done(id, row, time))?;
    tables.close()?;
    transaction.commit()?;
    Ok(())
}

impl Tables<'_> {
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
        }
    }
}

impl From<(u64, InstanceRow1)> for InstanceRow {
    fn from((id, row): (u64, InstanceRow1)) -> Self {
        let InstanceRow1 { large, segment, offset, hash, length, stored_length, header } = row;
        Self { place: Some(PlaceRow { large, segment, offset, record: id, stored_length }), hash, length, header }
    }
}

impl From<State1> for State {
    fn from(state: State1) -> Self {
        let State1 { segment, offset, large_to, last_id, time, all, stored } = state;
        Self { segment, offset, large_to, last_id, time, all, stored, cache: Tally::default() }
    }
}
