//! What the spool tells the ledger, and when: before the index commits what was changed, so that nothing is forgotten that
//! was not told.
//!
//! ```text
//! index transaction: change the tables ── append to the ledger, flush ── enter where it stands ── commit
//! ```
//!
//! If the power goes between the flush and the commit, the lines are behind the place that the index knows. The next start
//! enters them before it replays the log ([`catch_up`]), so that an arrival is told once. Whatever else is done again by
//! the next run, an attempt for instance, is told again.

use std::sync::Arc;

use super::claims::{Attempt, Outcome, Verification};
use super::error::OpenError;
use super::index::{Arrival, Entered, Index, IndexError, Tables};
use super::replay::index_error;
use super::segment::Layout;
use super::{Spool, SpoolError};
use crate::durable::Disk;
use crate::ledger::{
    self, AttemptOutcome, Attempted, Entry, Ledger, LedgerError, Line, Method, Place, Position, Received, VerifyOutcome,
};
use crate::model::{DestinationName, InstanceId, Timestamp};

/// The most lines that are entered in one commit, and the bytes after which no more are.
const LINES_AT_ONCE: usize = 1_000;
const BYTES_AT_ONCE: usize = 1 << 20;

/// The ledger and whoever writes to it. There is one.
pub(super) struct Teller {
    ledger: Ledger,
    /// That this run has begun, until it is told: in front of the first thing that happens.
    started: Option<(Timestamp, Entry)>,
}

impl Teller {
    /// Opens the ledger at the place that the index knows, and enters what is behind it.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        layout: &Layout,
        index: &Index,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let checkpoint = index.read().and_then(|view| view.ledger()).map_err(|error| index_error(layout, &error))?;
        let (ledger, opened) = Ledger::open(Arc::clone(disk), &layout.ledger, checkpoint)?;
        if let Some(gap) = &opened.gap {
            log::error!(
                "the ledger in {} is not what it should be: {gap}; nothing in it was touched, and it goes on behind what \
                 is there; find out who or what has changed it, and look with waystation ledger check",
                layout.ledger.display()
            );
        }
        if opened.cut_off > 0 {
            log::info!("{} bytes at the end of the ledger were never whole and were cut off", opened.cut_off);
        }
        // Without a place in common nobody knows which lines are meant; without any place, all of them are.
        if opened.beyond > 0 || checkpoint.is_none() {
            catch_up(&**disk, layout, index, checkpoint.filter(|_| opened.gap.is_none()))?;
        }
        let started = Entry::Started { version: env!("CARGO_PKG_VERSION").into() };
        Ok(Self { ledger, started: Some((now, started)) })
    }

    /// Writes down what a transaction has changed, durably, and enters where it stands. What has no time has happened
    /// `now`.
    pub(super) fn tell(&mut self, tables: &mut Tables<'_>, now: Timestamp) -> Result<(), IndexError> {
        let told = tables.take_told();
        if told.is_empty() {
            return Ok(());
        }
        let told = told.into_iter().map(|(at, entry)| (at.unwrap_or(now), entry));
        let entries: Vec<_> = self.started.clone().into_iter().chain(told).collect();
        let positions = self.ledger.append(&entries)?;
        self.started = None;
        for ((_, entry), position) in entries.iter().zip(positions) {
            tables.note_line(Some(entry), position)?;
        }
        Ok(())
    }
}

/// Enters the lines behind a place, or all that there are.
fn catch_up(disk: &dyn Disk, layout: &Layout, index: &Index, after: Option<Position>) -> Result<(), OpenError> {
    in_batches(disk, layout, after.map(|position| position.place), |lines| {
        let new = lines.iter().filter(|line| after.is_none_or(|after| line.position.n > after.n));
        let entered = index
            .write(|tables| new.into_iter().try_for_each(|line| tables.note_line(line.entry.as_ref(), line.position)));
        entered.map_err(|error| index_error(layout, &error))
    })
}

/// Hands the lines from a place on, or all that there are, to `visit`, as many at a time as are good for one commit.
pub(super) fn in_batches(
    disk: &dyn Disk,
    layout: &Layout,
    from: Option<Place>,
    mut visit: impl FnMut(&[Line]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    ledger::walk(disk, &layout.ledger, from, |line| {
        bytes += line.text.len();
        waiting.push(line);
        if waiting.len() >= LINES_AT_ONCE || bytes >= BYTES_AT_ONCE {
            visit(&waiting)?;
            waiting.clear();
            bytes = 0;
        }
        Ok::<_, OpenError>(())
    })?;
    if waiting.is_empty() { Ok(()) } else { visit(&waiting) }
}

impl Spool {
    /// The lines of the ledger about an instance, in order. Of very many, the first and the last. A line that is not there
    /// any more, or is another, is left out, and a warning says so.
    ///
    /// # Errors
    /// As for [`Spool::status`]; or [`SpoolError::Ledger`], if a file cannot be read.
    pub fn ledger(&self, id: InstanceId) -> Result<Vec<Line>, SpoolError> {
        const FIRST: usize = 100;
        const LAST: usize = 900;
        let places = self.ask(|inner| inner.index.read()?.lines(id, FIRST, LAST))?;
        let shared = &self.inner.shared;
        let mut lines = Vec::with_capacity(places.len());
        for (n, place) in places {
            match ledger::read_line(&*shared.disk, &shared.layout.ledger, place) {
                Ok(line) if line.position.n == n => lines.push(line),
                Ok(_) => log::warn!("line {n} of the ledger is not in {place} any more: waystation ledger check"),
                Err(error @ LedgerError::NoLine(..)) => log::warn!("line {n} of the ledger: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(lines)
    }
}

impl From<LedgerError> for IndexError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

/// Has an arrival told, unless it was before: a replay meets records again.
pub(super) fn arrived(tables: &mut Tables<'_>, arrival: &Arrival, entered: Entered) -> Result<(), IndexError> {
    let (id, conflict_with) = match entered {
        Entered::Known => return Ok(()),
        Entered::New => (arrival.id, None),
        Entered::Conflict(other) => (arrival.id, Some(other)),
        Entered::Renewed(instance) => (instance, None),
    };
    if !matches!(entered, Entered::Renewed(_)) && tables.is_told(id)? {
        return Ok(());
    }
    let header = &arrival.header;
    let received = Received {
        id,
        sop_instance: header.sop_instance_uid.clone(),
        sop_class: header.sop_class_uid.clone(),
        study: header.study_instance_uid.clone(),
        series: header.series_instance_uid.clone(),
        transfer_syntax: header.transfer_syntax.clone(),
        sha256: arrival.hash,
        bytes: arrival.length,
        calling: header.calling_ae.clone(),
        called: header.called_ae.clone(),
        peer: header.peer,
        destinations: header.destinations.clone(),
        priority: header.priority,
        rule: header.rule.clone(),
        withheld: header.is_withheld(),
        late: tables.came_late(id)?,
        conflict_with,
    };
    tables.tell(Some(header.received_at), Entry::Received(Box::new(received)));
    Ok(())
}

/// An attempt to deliver, which was the `number`-th.
pub(super) fn attempted(
    id: InstanceId,
    destination: &DestinationName,
    number: u32,
    attempt: &Attempt,
    what: &Outcome,
) -> Option<Entry> {
    let (outcome, answer, next_after) = match what {
        Outcome::Released => return None,
        Outcome::Delivered { answer, .. } if attempt.warned => (AttemptOutcome::Warned, answer, None),
        Outcome::Delivered { answer, .. } => (AttemptOutcome::Delivered, answer, None),
        Outcome::Retry { after, answer } => (AttemptOutcome::Again, answer, Some(after.as_secs())),
        Outcome::Kept { answer } => (AttemptOutcome::Again, answer, None),
        Outcome::Parked { reason } => (AttemptOutcome::Parked, reason, None),
    };
    let verify_after = match what {
        Outcome::Delivered { verify, .. } => verify.map(|after| after.as_secs()),
        _ => None,
    };
    let coercion = attempt.coercion.as_ref();
    Some(Entry::Attempted(Box::new(Attempted {
        id,
        destination: destination.clone(),
        through: attempt.through.clone(),
        attempt: number,
        bytes: attempt.bytes,
        outcome,
        answer: answer.as_str().into(),
        next_after,
        verify_after,
        transfer_syntax: attempt.sent_as.clone(),
        sha256_sent: coercion.map(|coercion| coercion.sha256),
        rules: coercion.map(|coercion| coercion.rules.clone()).unwrap_or_default(),
    })))
}

/// What a destination said when it was asked, or by itself.
pub(super) fn verified(
    id: InstanceId,
    destination: &DestinationName,
    method: Method,
    verification: &Verification,
) -> Entry {
    let (outcome, answer) = match verification {
        Verification::Confirmed { answer } => (VerifyOutcome::Confirmed, answer.as_str()),
        Verification::Missing { answer } => (VerifyOutcome::Missing, answer.as_str()),
        Verification::Later { answer, .. } => (VerifyOutcome::Again, answer.as_str()),
        Verification::Waived => (VerifyOutcome::Waived, "the configuration does not ask any more"),
    };
    Entry::Verified { id, destination: destination.clone(), method, outcome, answer: answer.into() }
}
