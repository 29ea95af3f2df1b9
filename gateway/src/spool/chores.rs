//! What concerns so many rows that one transaction would hold up everybody else: done by the index thread in steps, with
//! what waits committed between two of them. The number of what was changed is the answer, when all of it is on stable
//! storage.

use std::collections::BTreeSet;
use std::sync::mpsc::SyncSender;

use super::claims::Reported;
use super::error::SpoolError;
use super::index::{IndexError, ReportedTo, Step, Tables};
use crate::clock::SpoolTime;
use crate::ledger::{Answer, Entry, Selection};
use crate::model::{DestinationName, InstanceId, Timestamp, Uid};

/// The most deliveries that one step looks at.
pub(super) const AT_ONCE: usize = 1_000;

/// What is asked for.
#[derive(Debug)]
pub(super) enum Task {
    /// Whatever is parked for a destination is to be tried again.
    RetryAll { destination: DestinationName, by: Answer },
    /// What is parked of a study, for one destination or for all.
    RetryStudy { study: Uid, destination: Option<DestinationName>, by: Answer },
    /// What is parked of an instance, for one destination or for all.
    RetryInstance { id: InstanceId, destination: Option<DestinationName>, by: Answer },
    /// A study is to go first.
    Expedite { study: Uid, by: Answer },
    /// A destination has said by itself what it has.
    Report { destination: DestinationName, report: Vec<Reported> },
}

impl Task {
    /// What the ledger is told of it. Of a report each answer is told by itself.
    fn entry(&self) -> Option<Entry> {
        let released = |destination: Option<&DestinationName>, of, by: &Answer| Entry::Released {
            destination: destination.cloned(),
            of,
            by: by.clone(),
        };
        match self {
            Self::RetryAll { destination, by } => Some(released(Some(destination), Selection::Everything, by)),
            Self::RetryStudy { study, destination, by } => {
                Some(released(destination.as_ref(), Selection::Study(study.clone()), by))
            }
            Self::RetryInstance { id, destination, by } => {
                Some(released(destination.as_ref(), Selection::Instance(*id), by))
            }
            Self::Expedite { study, by } => Some(Entry::Expedited { study: study.clone(), by: by.clone() }),
            Self::Report { .. } => None,
        }
    }
}

/// A task and how far it is.
pub(super) struct Chore {
    task: Task,
    answer: SyncSender<Result<u64, SpoolError>>,
    cursor: Cursor,
    /// The last instance that there was when the task was begun: what comes later is not meant.
    last: Option<u64>,
    done: u64,
}

/// Where a task goes on.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// In order of arrival.
    next: u64,
    reported: ReportedTo,
}

/// What came of a step.
pub(super) struct Progress {
    /// Who may have something to claim now.
    pub(super) concerned: BTreeSet<DestinationName>,
    changed: u64,
    next: Option<Cursor>,
}

impl Chore {
    pub(super) fn new(task: Task, answer: SyncSender<Result<u64, SpoolError>>) -> Self {
        Self { task, answer, cursor: Cursor::default(), last: None, done: 0 }
    }

    /// Does a part of it, after a look at up to `limit` deliveries.
    pub(super) fn step(
        &mut self,
        tables: &mut Tables<'_>,
        limit: usize,
        now: SpoolTime,
        at: Timestamp,
    ) -> Result<Progress, IndexError> {
        let last = *self.last.get_or_insert(tables.last_id());
        let Cursor { next, reported } = self.cursor;
        let step = match &self.task {
            Task::RetryAll { destination, .. } => tables.retry_all(destination, next..=last, limit, now)?,
            Task::RetryStudy { study, destination, .. } => {
                tables.retry_study(study, destination.as_ref(), next..=last, limit, now)?
            }
            Task::RetryInstance { id, destination, .. } => tables.retry_instance(*id, destination.as_ref(), now)?,
            Task::Expedite { study, .. } => tables.expedite(study, next..=last, limit)?,
            Task::Report { destination, report } => {
                let (changed, to) = tables.reported(destination, report, reported, limit, (now, at))?;
                let next = to.map(|reported| Cursor { next, reported });
                return Ok(Progress { concerned: BTreeSet::from([destination.clone()]), changed, next });
            }
        };
        let Step { changed, concerned, next } = step;
        // Once for all of its steps, in the first that does something.
        if self.done == 0
            && changed > 0
            && let Some(entry) = self.task.entry()
        {
            tables.tell(Some(at), entry);
        }
        Ok(Progress { concerned, changed, next: next.map(|next| Cursor { next, reported }) })
    }

    /// Takes note of a step that is committed; gives what is left to do, or answers.
    pub(super) fn go_on(mut self, progress: &Progress) -> Option<Self> {
        self.done += progress.changed;
        match progress.next {
            Some(cursor) => Some(Self { cursor, ..self }),
            None => {
                let done = self.done;
                self.answer(Ok(done));
                None
            }
        }
    }

    pub(super) fn answer(self, result: Result<u64, SpoolError>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(result);
    }
}
