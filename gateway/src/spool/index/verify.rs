//! After a delivery: whether the destination still has to be asked if it has the instance for good, and what it said.
//!
//! ```text
//!    delivered, nothing to ask
//! queued ─────────────────────▶ final ◀── waived ┐
//!   ▲ │ delivered                                │
//!   │ └──────────▶ unverified ───────────────────┤
//!   │               │ │  ▲                       │
//!   └─── missing ───┘ └──┘ later                 │
//!                            confirmed ◀─────────┘
//! ```
//!
//! Final and confirmed are the last states, and the only ones in which nobody needs the payload any more
//! ([`Tables::is_done`]).
//!
//! Whoever is asked is asked by SOP Instance UID, so his answer is not believed as it is ([`Tables::believed`]): of two
//! contents with one UID nobody knows which one he means; and who takes an instance again and again and then lacks it does
//! not get it at once every time.

use std::time::Duration;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::write::shortened;
use super::{
    Counts, DAY, DeliveredRow, IndexError, InstanceRow, ParkedRow, QueuedRow, Stage, Tables, View, pack, unpack,
};
use crate::clock::SpoolTime;
use crate::ledger::Method;
use crate::model::{DestinationName, InstanceId, Timestamp, Uid};
use crate::spool::claims::{Reported, Verification};
use crate::spool::told;

/// How often an instance is delivered again at once to a destination that then says that it lacks it.
const AT_ONCE: u32 = 3;
/// After that, the days until the next time double up to this power of two.
const LONGEST_PAUSE: u32 = 5;

/// What is known beyond the answer to the delivery.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum VerificationRow {
    /// Nothing is to be asked.
    Final,
    /// The destination has to be asked, and not before `due`.
    Unverified { due: u64, tries: u32, last_answer: Option<String>, last_at: Option<Timestamp> },
    /// It has said that it has it for good.
    Confirmed { at: Timestamp, tries: u32, answer: String },
}

impl VerificationRow {
    pub(super) fn stage(&self) -> Stage {
        match self {
            Self::Final => Stage::Final,
            Self::Unverified { .. } => Stage::Unverified,
            Self::Confirmed { .. } => Stage::Confirmed,
        }
    }

    /// Whether nobody has to be asked any more.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self, Self::Unverified { .. })
    }
}

/// A delivery about which the destination has to be asked.
#[derive(Debug, Clone)]
pub(in crate::spool) struct Open {
    pub(in crate::spool) id: InstanceId,
    pub(in crate::spool) row: super::read::Row,
    pub(in crate::spool) delivered_at: Timestamp,
    /// The number of the attempt that delivered it.
    pub(in crate::spool) attempt: u32,
    pub(in crate::spool) tries: u32,
}

/// How far a report about many instances was entered: the place in it, and the last content with that UID.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::spool) struct ReportedTo {
    at: usize,
    content: Option<[u8; 32]>,
}

/// Whether another content with the same SOP Instance UID was received, as far as that is still known.
pub(super) fn is_ambiguous(
    conflicts: &impl ReadableTable<u64, u64>,
    uids: &impl ReadableTable<(&'static str, &'static [u8; 32]), u64>,
    id: InstanceId,
    uid: &Uid,
) -> Result<bool, IndexError> {
    if conflicts.get(id.0)?.is_some() {
        return Ok(true);
    }
    let mut contents = uids.range((uid.as_str(), &[0; 32])..=(uid.as_str(), &[0xff; 32]))?;
    contents.next().transpose()?;
    Ok(contents.next().transpose()?.is_some())
}

impl Tables<'_> {
    /// Enters a delivery that was made.
    pub(super) fn add_delivered(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: InstanceId,
        row: &InstanceRow,
        delivered: &DeliveredRow,
    ) -> Result<(), IndexError> {
        if let VerificationRow::Unverified { due, .. } = delivered.verification {
            self.verifying.insert((number, due, id.0), ())?;
        }
        self.delivered.insert((number, id.0), &pack("delivered", delivered)?[..])?;
        self.count(destination, number, delivered.verification.stage(), row, Counts::add)
    }

    /// Takes out a delivery that was made, if it was, and gives it.
    pub(super) fn take_delivered(
        &mut self,
        destination: &DestinationName,
        number: u32,
        id: InstanceId,
        row: &InstanceRow,
    ) -> Result<Option<DeliveredRow>, IndexError> {
        let taken = self.delivered.remove((number, id.0))?.map(|row| unpack::<DeliveredRow>("delivered", row.value()));
        let Some(delivered) = taken.transpose()? else { return Ok(None) };
        if let VerificationRow::Unverified { due, .. } = delivered.verification {
            self.verifying.remove((number, due, id.0))?;
        }
        self.count(destination, number, delivered.verification.stage(), row, Counts::take)?;
        Ok(Some(delivered))
    }

    /// Whether a delivery was made and nobody has to be asked about it any more.
    pub(super) fn is_settled(&self, number: u32, id: InstanceId) -> Result<bool, IndexError> {
        let row = self.delivered.get((number, id.0))?;
        let row = row.map(|row| unpack::<DeliveredRow>("delivered", row.value())).transpose()?;
        Ok(row.is_some_and(|row| row.verification.is_settled()))
    }

    /// Records and tells what the destination said when it was asked by `method` about the delivery that was made with the
    /// attempt of this number, or about whatever it was if none is given. False, and nothing is done, if it has not to be
    /// asked (any more).
    pub(in crate::spool) fn verified(
        &mut self,
        destination: &DestinationName,
        id: InstanceId,
        (method, verification): (Method, &Verification),
        attempt: Option<u32>,
        (now, at): (SpoolTime, Timestamp),
    ) -> Result<bool, IndexError> {
        let Some((number, before)) = self.open_delivery(destination, id)? else { return Ok(false) };
        if attempt.is_some_and(|attempt| attempt != before.attempts) {
            return Ok(false);
        }
        let verification = &self.believed((number, id), verification, now)?;
        self.tell(Some(at), told::verified(id, destination, method, verification));
        self.settle(destination, id, verification, (now, at))
    }

    /// Records what is known of a delivery now. False, and nothing is done, if the destination has not to be asked.
    pub(super) fn settle(
        &mut self,
        destination: &DestinationName,
        id: InstanceId,
        verification: &Verification,
        (now, at): (SpoolTime, Timestamp),
    ) -> Result<bool, IndexError> {
        let Some((number, before)) = self.open_delivery(destination, id)? else { return Ok(false) };
        let VerificationRow::Unverified { tries, .. } = before.verification else { return Ok(false) };
        let instance = self.instance(id)?;
        self.take_delivered(destination, number, id, &instance)?;
        let tries = tries.saturating_add(1);
        match verification {
            Verification::Confirmed { answer } => {
                let verification = VerificationRow::Confirmed { at, tries, answer: shortened(answer) };
                self.add_delivered(destination, number, id, &instance, &DeliveredRow { verification, ..before })?;
                self.denied.remove((number, id.0))?;
                self.note_done(id, &instance, now)?;
            }
            Verification::Waived => {
                let verification = VerificationRow::Final;
                self.add_delivered(destination, number, id, &instance, &DeliveredRow { verification, ..before })?;
                self.denied.remove((number, id.0))?;
                self.note_done(id, &instance, now)?;
            }
            Verification::Later { after, answer } => {
                let (due, last_answer, last_at) = (now.after(*after).0, Some(shortened(answer)), Some(at));
                let verification = VerificationRow::Unverified { due, tries, last_answer, last_at };
                self.add_delivered(destination, number, id, &instance, &DeliveredRow { verification, ..before })?;
            }
            Verification::Missing { answer } if instance.place.is_some() => {
                self.note_denied((number, id), now)?;
                let (last_answer, last_at) = (Some(shortened(answer)), Some(at));
                let priority = self.priority(&instance)?;
                let row = QueuedRow { priority, due: now.0, attempts: before.attempts, last_answer, last_at };
                self.enqueue(destination, number, id.0, &row, &instance)?;
            }
            Verification::Missing { answer } => {
                // Nothing that is to be verified is ever freed: if it happened all the same, somebody must know.
                let reason = format!("the destination does not have it ({answer}), and its payload was freed here");
                let row = ParkedRow { at, attempts: before.attempts, reason: shortened(&reason) };
                self.park(destination, number, id, &row, &instance)?;
            }
        }
        Ok(true)
    }

    /// A delivery that was made and about which the destination has to be asked, with the number of the destination.
    fn open_delivery(
        &mut self,
        destination: &DestinationName,
        id: InstanceId,
    ) -> Result<Option<(u32, DeliveredRow)>, IndexError> {
        let Some(number) = self.known_destination(destination)?.map(|row| row.number) else { return Ok(None) };
        let row = self.delivered.get((number, id.0))?.map(|row| unpack::<DeliveredRow>("delivered", row.value()));
        let open = row.transpose()?.filter(|row| !row.verification.is_settled());
        Ok(open.map(|row| (number, row)))
    }

    /// What an answer about a delivery is worth.
    fn believed(
        &self,
        (number, id): (u32, InstanceId),
        verification: &Verification,
        now: SpoolTime,
    ) -> Result<Verification, IndexError> {
        match verification {
            Verification::Confirmed { answer } => {
                let uid = &self.instance(id)?.header.sop_instance_uid;
                Ok(match is_ambiguous(&self.conflicts, &self.uids, id, uid)? {
                    false => verification.clone(),
                    true => Verification::Later {
                        after: Duration::from_millis(DAY),
                        answer: format!(
                            "{answer}; but two contents with this SOP Instance UID were received, and a destination is \
                             asked by UID: look at the archive which one it has, and have the other one sent again under \
                             a UID of its own"
                        ),
                    },
                })
            }
            Verification::Missing { answer } => {
                let (times, not_before) = self.denied.get((number, id.0))?.map_or((0, 0), |row| row.value());
                let left = not_before.saturating_sub(now.0);
                if left == 0 {
                    return Ok(verification.clone());
                }
                let days = left.div_ceil(DAY);
                Ok(Verification::Later {
                    after: Duration::from_millis(left.min(DAY)),
                    answer: format!(
                        "{answer}, after {times} more deliveries that it answered with success; the next is made in {days} \
                         days: find out at the archive where it puts them"
                    ),
                })
            }
            Verification::Later { .. } | Verification::Waived => Ok(verification.clone()),
        }
    }

    /// Takes note that a delivery has to be made again: at once the first times, and then after ever more days.
    fn note_denied(&mut self, (number, id): (u32, InstanceId), now: SpoolTime) -> Result<(), IndexError> {
        let times = self.denied.get((number, id.0))?.map_or(0, |row| row.value().0).saturating_add(1);
        let pause = times.checked_sub(AT_ONCE).map_or(0, |more| DAY << more.min(LONGEST_PAUSE));
        self.denied.insert((number, id.0), (times, now.0.saturating_add(pause)))?;
        Ok(())
    }

    /// Enters a report that came by itself, from where `from` says: up to `limit` looks. Gives to how many deliveries it
    /// applied, and how to go on if it was not all.
    pub(in crate::spool) fn reported(
        &mut self,
        destination: &DestinationName,
        report: &[Reported],
        from: ReportedTo,
        limit: usize,
        (now, at): (SpoolTime, Timestamp),
    ) -> Result<(u64, Option<ReportedTo>), IndexError> {
        let (mut applied, mut looks, mut to) = (0, 0, from);
        while let Some(Reported { instance, attempt, verification }) = report.get(to.at) {
            let uid = instance.as_str();
            if looks >= limit {
                return Ok((applied, Some(to)));
            }
            let after = to.content.unwrap_or_default();
            let mut found = Vec::new();
            // The first is the one that was looked at last, if there was one.
            for row in self.uids.range((uid, &after)..=(uid, &[0xff; 32]))?.take(limit - looks + 1) {
                let (key, id) = row?;
                found.push((*key.value().1, id.value()));
            }
            found.retain(|(content, _)| to.content != Some(*content));
            found.truncate(limit - looks);
            looks += found.len().max(1);
            let Some((last, _)) = found.last().copied() else {
                to = ReportedTo { at: to.at + 1, content: None };
                continue;
            };
            for (_, id) in found {
                let said = (Method::Commitment, verification);
                applied += u64::from(self.verified(destination, InstanceId(id), said, *attempt, (now, at))?);
            }
            to.content = Some(last);
        }
        Ok((applied, None))
    }
}

impl View {
    /// Whether another content with the SOP Instance UID of this instance was received.
    pub(in crate::spool) fn is_ambiguous(&self, id: InstanceId) -> Result<bool, IndexError> {
        let Some(row) = self.instance(id)? else { return Ok(false) };
        is_ambiguous(&self.conflicts, &self.uids, id, &row.header.sop_instance_uid)
    }

    /// Up to `limit` deliveries about which the destination may be asked at `now`, those that are due first in front;
    /// without those that `claimed` says are being asked about.
    pub(in crate::spool) fn unverified(
        &self,
        destination: &DestinationName,
        now: SpoolTime,
        limit: usize,
        claimed: impl Fn(InstanceId) -> bool,
    ) -> Result<Vec<Open>, IndexError> {
        let mut open = Vec::new();
        let Some(number) = self.number(destination)? else { return Ok(open) };
        for row in self.verifying.range((number, 0, 0)..=(number, now.0, u64::MAX))? {
            if open.len() >= limit {
                break;
            }
            let id = InstanceId(row?.0.value().2);
            if claimed(id) {
                continue;
            }
            let delivered = self.delivered.get((number, id.0))?.ok_or(IndexError::Row("delivered"))?;
            let DeliveredRow { at, attempts, verification, .. } = unpack("delivered", delivered.value())?;
            let VerificationRow::Unverified { tries, .. } = verification else {
                return Err(IndexError::Row("verifying"));
            };
            let row = self.instance(id)?.ok_or(IndexError::Row("instances"))?;
            open.push(Open { id, row, delivered_at: at, attempt: attempts, tries });
        }
        Ok(open)
    }

    /// When the destination may be asked about the first delivery that is not claimed.
    pub(in crate::spool) fn next_unverified_due(
        &self,
        destination: &DestinationName,
        claimed: impl Fn(InstanceId) -> bool,
    ) -> Result<Option<SpoolTime>, IndexError> {
        let Some(number) = self.number(destination)? else { return Ok(None) };
        for row in self.verifying.range((number, 0, 0)..=(number, u64::MAX, u64::MAX))? {
            let (_, due, id) = row?.0.value();
            if !claimed(InstanceId(id)) {
                return Ok(Some(SpoolTime(due)));
            }
        }
        Ok(None)
    }

    /// How many rows `verifying` has for a destination, for tests.
    #[cfg(test)]
    pub(super) fn count_verifying(&self, destination: &DestinationName) -> usize {
        let Some(number) = self.number(destination).unwrap() else { return 0 };
        self.verifying.range((number, 0, 0)..=(number, u64::MAX, u64::MAX)).unwrap().count()
    }
}
