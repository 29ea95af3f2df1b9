//! Studies: what came under one Study Instance UID, and how far its deliveries are. Nobody says when a study is complete,
//! so this is what is known so far, and an instance that comes long after the others is called late.
//!
//! Everything is kept in the transaction that changes an instance or a delivery; a study goes with its last instance.

use std::collections::BTreeMap;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::{Counts, IndexError, InstanceRow, Stage, Tables, View, pack, unpack};
use crate::clock::SpoolTime;
use crate::model::{AeTitle, DestinationName, InstanceId, Priority, Timestamp, Uid};
use crate::spool::record::InstanceHeader;
use crate::spool::status::{InstanceView, StudyDeliveries, StudyView};

/// What comes this long after what was the last instance of its study until then is late, in milliseconds.
const LATE: u64 = 3_600_000;
/// How many different senders and modalities of a study are remembered.
const MOST_NAMES: usize = 8;

/// A study as far as it is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StudyRow {
    /// The id of its first instance.
    number: u64,
    first: Arrived,
    last: Arrived,
    instances: u64,
    bytes: u64,
    late: u64,
    calling: Vec<AeTitle>,
    modalities: Vec<String>,
    /// Everything of it is sent as [`Priority::Stat`].
    pub(super) expedited: bool,
    /// By the numbers of the destinations.
    deliveries: Vec<(u32, Counts)>,
}

/// When an instance came: in the order of delivery, and for people.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Arrived {
    time: u64,
    at: Timestamp,
}

impl StudyRow {
    /// Whether something of it is queued, parked or unverified.
    fn is_open(&self) -> bool {
        self.deliveries.iter().any(|(_, counts)| {
            [counts.queued, counts.parked, counts.unverified].iter().any(|tally| tally.instances > 0)
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn counts(&mut self, destination: u32) -> Option<&mut Counts> {
        let at = match self.deliveries.iter().position(|(number, _)| *number == destination) {
            Some(at) => at,
            None => {
                self.deliveries.push((destination, Counts::default()));
                self.deliveries.len() - 1
            }
        };
        self.deliveries.get_mut(at).map(|(_, counts)| counts)
    }
}

/// A study that was touched by a transaction: written once, at its end.
#[derive(Debug)]
pub(super) struct Touched {
    row: StudyRow,
    /// Whether it has its row in `open_studies`.
    listed: bool,
}

fn remember<T: Clone + PartialEq>(known: &mut Vec<T>, name: &T) {
    if known.len() < MOST_NAMES && !known.contains(name) {
        known.push(name.clone());
    }
}

impl Tables<'_> {
    /// The row of a study that is known, to be changed.
    pub(super) fn study(&mut self, uid: &Uid) -> Result<Option<&mut StudyRow>, IndexError> {
        if !self.touched_studies.contains_key(uid) {
            let row = self.studies.get(uid.as_str())?.map(|row| unpack::<StudyRow>("studies", row.value()));
            let Some(row) = row.transpose()? else { return Ok(None) };
            let listed = row.is_open();
            self.touched_studies.insert(uid.clone(), Touched { row, listed });
        }
        Ok(self.touched_studies.get_mut(uid).map(|touched| &mut touched.row))
    }

    /// Whether an instance that comes now is late.
    pub(super) fn is_late(&mut self, header: &InstanceHeader, time: SpoolTime) -> Result<bool, IndexError> {
        let Some(uid) = &header.study_instance_uid else { return Ok(false) };
        Ok(self.study(uid)?.is_some_and(|study| time.0.saturating_sub(study.last.time) > LATE))
    }

    /// Counts a new instance to its study.
    pub(super) fn enter_study(&mut self, id: InstanceId, row: &InstanceRow, time: SpoolTime) -> Result<(), IndexError> {
        let header = &row.header;
        let Some(uid) = &header.study_instance_uid else { return Ok(()) };
        let arrived = Arrived { time: time.0, at: header.received_at };
        if self.study(uid)?.is_none() {
            let study = StudyRow {
                number: id.0,
                first: arrived,
                last: arrived,
                instances: 0,
                bytes: 0,
                late: 0,
                calling: Vec::new(),
                modalities: Vec::new(),
                expedited: false,
                deliveries: Vec::new(),
            };
            self.study_order.insert(id.0, uid.as_str())?;
            self.touched_studies.insert(uid.clone(), Touched { row: study, listed: false });
        }
        let Some(study) = self.study(uid)? else { return Err(IndexError::Row("studies")) };
        if time.0 >= study.last.time {
            study.last = arrived;
        }
        study.instances = study.instances.saturating_add(1);
        study.bytes = study.bytes.saturating_add(row.length);
        study.late = study.late.saturating_add(u64::from(row.late));
        remember(&mut study.calling, &header.calling_ae);
        header.modality.iter().for_each(|modality| remember(&mut study.modalities, modality));
        let number = study.number;
        self.study_instances.insert((number, id.0), ())?;
        Ok(())
    }

    /// Takes a forgotten instance out of its study. Its deliveries are taken out before.
    pub(super) fn leave_study(&mut self, id: InstanceId, row: &InstanceRow) -> Result<(), IndexError> {
        let Some(uid) = &row.header.study_instance_uid else { return Ok(()) };
        let Some(study) = self.study(uid)? else { return Ok(()) };
        study.instances = study.instances.saturating_sub(1);
        study.bytes = study.bytes.saturating_sub(row.length);
        study.late = study.late.saturating_sub(u64::from(row.late));
        let (number, left) = (study.number, study.instances);
        self.study_instances.remove((number, id.0))?;
        if left == 0 {
            self.touched_studies.remove(uid);
            self.studies.remove(uid.as_str())?;
            self.study_order.remove(number)?;
            self.open_studies.remove(number)?;
        }
        Ok(())
    }

    /// Counts a delivery of an instance in or out of its study.
    pub(super) fn count_in_study(
        &mut self,
        destination: u32,
        stage: Stage,
        instance: &InstanceRow,
        change: fn(&mut Counts, Stage, u64),
    ) -> Result<(), IndexError> {
        let Some(uid) = &instance.header.study_instance_uid else { return Ok(()) };
        let Some(study) = self.study(uid)? else { return Ok(()) };
        if let Some(counts) = study.counts(destination) {
            change(counts, stage, instance.length);
        }
        study.deliveries.retain(|(_, counts)| *counts != Counts::default());
        Ok(())
    }

    /// With which priority a delivery of an instance is queued.
    pub(super) fn priority(&mut self, instance: &InstanceRow) -> Result<u8, IndexError> {
        let expedited = match &instance.header.study_instance_uid {
            Some(uid) => self.study(uid)?.is_some_and(|study| study.expedited),
            None => false,
        };
        Ok(if expedited { Priority::Stat } else { instance.header.priority } as u8)
    }

    /// Writes the rows of the studies that were touched.
    pub(super) fn flush_studies(&mut self) -> Result<(), IndexError> {
        for (uid, Touched { row, listed }) in std::mem::take(&mut self.touched_studies) {
            self.studies.insert(uid.as_str(), &pack("studies", &row)?[..])?;
            match (listed, row.is_open()) {
                (false, true) => drop(self.open_studies.insert(row.number, ())?),
                (true, false) => drop(self.open_studies.remove(row.number)?),
                _ => {}
            }
        }
        Ok(())
    }
}

impl View {
    /// Up to `limit` studies, the one that began last in front, of those that began before `before`; with `open` only
    /// those that have a queued, parked or unverified delivery.
    pub(in crate::spool) fn studies(
        &self,
        before: Option<InstanceId>,
        limit: usize,
        open: bool,
    ) -> Result<Vec<StudyView>, IndexError> {
        let before = before.map_or(u64::MAX, |id| id.0);
        let mut numbers = Vec::new();
        if open {
            for row in self.open_studies.range(..before)?.rev().take(limit) {
                numbers.push(row?.0.value());
            }
        } else {
            for row in self.study_order.range(..before)?.rev().take(limit) {
                numbers.push(row?.0.value());
            }
        }
        let names = self.destination_names()?;
        let mut studies = Vec::with_capacity(numbers.len());
        for number in numbers {
            let uid = self.study_order.get(number)?.ok_or(IndexError::Row("study_order"))?;
            let uid = uid.value().parse().map_err(|_| IndexError::Row("study_order"))?;
            let row = self.study_row(&uid)?.ok_or(IndexError::Row("studies"))?;
            studies.push(view_of(uid, row, &names));
        }
        Ok(studies)
    }

    /// What is known of a study.
    pub(in crate::spool) fn study(&self, uid: &Uid) -> Result<Option<StudyView>, IndexError> {
        let Some(row) = self.study_row(uid)? else { return Ok(None) };
        Ok(Some(view_of(uid.clone(), row, &self.destination_names()?)))
    }

    /// Up to `limit` instances of a study after `after`, in order of arrival.
    pub(in crate::spool) fn study_instances(
        &self,
        uid: &Uid,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Result<Vec<InstanceView>, IndexError> {
        let Some(StudyRow { number, .. }) = self.study_row(uid)? else { return Ok(Vec::new()) };
        let first = after.map_or(0, |id| id.0.saturating_add(1));
        let mut views = Vec::new();
        for row in self.study_instances.range((number, first)..=(number, u64::MAX))?.take(limit) {
            let id = InstanceId(row?.0.value().1);
            views.push(self.instance_view(id)?.ok_or(IndexError::Row("study_instances"))?);
        }
        Ok(views)
    }

    fn study_row(&self, uid: &Uid) -> Result<Option<StudyRow>, IndexError> {
        self.studies.get(uid.as_str())?.map(|row| unpack("studies", row.value())).transpose()
    }

    /// How many rows there are of each table of studies, for tests: studies, order, instances, open.
    #[cfg(test)]
    pub(super) fn count_studies(&self) -> [u64; 4] {
        use redb::ReadableTableMetadata;

        let instances = self.study_instances.len().unwrap();
        [self.studies.len().unwrap(), self.study_order.len().unwrap(), instances, self.open_studies.len().unwrap()]
    }
}

fn view_of(uid: Uid, row: StudyRow, names: &BTreeMap<u32, DestinationName>) -> StudyView {
    let mut deliveries: Vec<_> = row
        .deliveries
        .into_iter()
        .filter_map(|(number, counts)| names.get(&number).map(|name| (name.clone(), counts)))
        .map(|(destination, counts)| StudyDeliveries { destination, counts })
        .collect();
    deliveries.sort_unstable_by(|one, other| one.destination.cmp(&other.destination));
    StudyView {
        study_instance_uid: uid,
        number: InstanceId(row.number),
        first_received_at: row.first.at,
        last_received_at: row.last.at,
        first_arrival: SpoolTime(row.first.time),
        last_arrival: SpoolTime(row.last.time),
        instances: row.instances,
        bytes: row.bytes,
        late: row.late,
        calling_aes: row.calling,
        modalities: row.modalities,
        expedited: row.expedited,
        deliveries,
    }
}
