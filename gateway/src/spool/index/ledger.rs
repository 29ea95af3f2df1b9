//! The ledger as the index knows it: how far it goes, and which of its lines are about an instance.
//!
//! What a transaction changes and has to tell collects here ([`Tables::tell`]). Whoever commits takes it out, writes it
//! down durably, and enters where it stands ([`Tables::note_line`]), all before the commit.

use std::time::Duration;

use redb::ReadableTable;

use super::{IndexError, Tables, View, pack, unpack};
use crate::clock::SpoolTime;
use crate::ledger::{AttemptOutcome, Entry, Line, Month, Place, Position, VerifyOutcome};
use crate::model::{InstanceId, Timestamp};
use crate::spool::claims::{Attempt, Outcome, Verification};

/// The key in `meta`.
const POSITION: &str = "ledger";

impl Tables<'_> {
    /// Has something told before this transaction is committed; without a time it has happened just now.
    pub(in crate::spool) fn tell(&mut self, at: Option<Timestamp>, entry: Entry) {
        self.told.push((at, entry));
    }

    /// What is to be told.
    pub(in crate::spool) fn take_told(&mut self) -> Vec<(Option<Timestamp>, Entry)> {
        std::mem::take(&mut self.told)
    }

    /// Enters a line that is on stable storage, and that it is the last one. Of an instance that is forgotten nothing is
    /// entered any more.
    pub(in crate::spool) fn note_line(&mut self, entry: Option<&Entry>, position: Position) -> Result<(), IndexError> {
        if let Some(id) = entry.and_then(Entry::instance)
            && !matches!(entry, Some(Entry::Forgotten { .. }))
        {
            // Not even when the log has lost its trace is a number given twice: what is told here is told of one instance.
            self.state.last_id = self.state.last_id.max(id.0);
            let Place { file, offset } = position.place;
            self.ledger.insert((id.0, position.n), (file.number(), offset))?;
        }
        self.meta.insert(POSITION, &pack("meta", &position)?[..])?;
        Ok(())
    }

    /// Whether a line about an instance is known.
    pub(in crate::spool) fn is_told(&self, id: InstanceId) -> Result<bool, IndexError> {
        Ok(self.ledger.range((id.0, 0)..=(id.0, u64::MAX))?.next().transpose()?.is_some())
    }

    /// Whether an instance came long after what was the last one of its study until then.
    pub(in crate::spool) fn came_late(&self, id: InstanceId) -> Result<bool, IndexError> {
        Ok(self.find_instance(id)?.is_some_and(|row| row.late))
    }

    /// After the index was lost: enters what a line tells of a delivery that the log knows only as one to be made. Gives by
    /// how many the deliveries that are made became more.
    pub(in crate::spool) fn restore(&mut self, line: &Line, now: SpoolTime) -> Result<i64, IndexError> {
        match &line.entry {
            Some(Entry::Attempted(made))
                if matches!(made.outcome, AttemptOutcome::Delivered | AttemptOutcome::Warned)
                    && self.find_instance(made.id)?.is_some() =>
            {
                // Who has to be asked is asked now: the time that was waited for has passed, or nobody knows.
                let verify = made.verify_after.map(|_| Duration::ZERO);
                let outcome = Outcome::Delivered { answer: made.answer.as_str().to_owned(), verify };
                let attempt = (&Attempt::default(), &outcome);
                Ok(self.record(&made.destination, made.id, attempt, now, line.at)?.map_or(0, |_| 1))
            }
            Some(Entry::Verified { id, destination, outcome, answer, .. }) => {
                let answer = answer.as_str().to_owned();
                let (verification, change) = match outcome {
                    VerifyOutcome::Confirmed => (Verification::Confirmed { answer }, 0),
                    VerifyOutcome::Missing => (Verification::Missing { answer }, -1),
                    VerifyOutcome::Again => (Verification::Later { after: Duration::ZERO, answer }, 0),
                    VerifyOutcome::Waived => (Verification::Waived, 0),
                };
                Ok(if self.settle(destination, *id, &verification, (now, line.at))? { change } else { 0 })
            }
            _ => Ok(0),
        }
    }

    /// Takes out where the lines about an instance are. They stay where they are.
    pub(super) fn forget_lines(&mut self, id: InstanceId) -> Result<(), IndexError> {
        self.ledger.retain_in((id.0, 0)..=(id.0, u64::MAX), |_, _| false)?;
        Ok(())
    }
}

impl View {
    /// Whether a line tells of another instance than the one with that number.
    pub(in crate::spool) fn contradicts(&self, line: &Line) -> Result<bool, IndexError> {
        let Some(Entry::Received(received)) = &line.entry else { return Ok(false) };
        Ok(self.instance(received.id)?.is_some_and(|row| row.hash != received.sha256))
    }

    /// The last line that was entered.
    pub(in crate::spool) fn ledger(&self) -> Result<Option<Position>, IndexError> {
        self.meta.get(POSITION)?.map(|row| unpack("meta", row.value())).transpose()
    }

    /// Where the lines about an instance are, with their numbers, in order: the `first` and the `last` of them.
    pub(in crate::spool) fn lines(
        &self,
        id: InstanceId,
        first: usize,
        last: usize,
    ) -> Result<Vec<(u64, Place)>, IndexError> {
        let all = (id.0, 0)..=(id.0, u64::MAX);
        let mut lines = Vec::new();
        for row in self.ledger.range(all)?.take(first) {
            let (key, place) = row?;
            lines.push(line(key.value(), place.value())?);
        }
        let next = lines.last().map_or(0, |(n, _)| n + 1);
        let mut later = Vec::new();
        for row in self.ledger.range((id.0, next)..=(id.0, u64::MAX))?.rev().take(last) {
            let (key, place) = row?;
            later.push(line(key.value(), place.value())?);
        }
        later.reverse();
        lines.extend(later);
        Ok(lines)
    }
}

fn line((_, n): (u64, u64), (file, offset): (u32, u64)) -> Result<(u64, Place), IndexError> {
    let file = Month::from_number(file).ok_or(IndexError::Row("ledger"))?;
    Ok((n, Place { file, offset }))
}
