//! Which couriers are out, and what for: one table, from which everything follows that the worker counts.

use std::collections::HashMap;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::courier::{Attempt, Courier};

/// What a courier is out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// To hand something over.
    Deliver,
    /// To have an association ready for more.
    Open,
    /// To ask whether the destination works.
    Probe,
    /// To let go of what it keeps open.
    Rest,
}

/// One courier's way there and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trip {
    pub(super) errand: Errand,
    /// Whether it is to prove that a destination in trouble works.
    pub(super) proves: bool,
    /// Whether what it hands over is urgent.
    pub(super) is_urgent: bool,
}

/// A courier that is back, with what came of its trip.
pub(super) struct Back {
    pub(super) trip: Trip,
    pub(super) courier: Courier,
    pub(super) attempt: Attempt,
}

/// See the module.
#[derive(Default)]
pub(super) struct Out {
    tasks: JoinSet<(Courier, Attempt)>,
    trips: HashMap<Id, (Trip, AbortHandle)>,
}

impl Out {
    /// One more is out.
    pub(super) fn send(&mut self, trip: Trip, work: impl Future<Output = (Courier, Attempt)> + Send + 'static) {
        let task = self.tasks.spawn(work);
        self.trips.insert(task.id(), (trip, task));
    }

    /// The next one that comes back; `Some(None)` stands for one that was called off. Nothing if nobody is out. A call that
    /// is dropped loses nothing.
    pub(super) async fn back(&mut self) -> Option<Option<Back>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        // Only openings are called off, and one may have come to its end before that.
        let called_off = Trip { errand: Errand::Open, proves: false, is_urgent: false };
        let trip = self.trips.remove(&id).map_or(called_off, |(trip, _)| trip);
        match ended {
            Ok((_, (courier, attempt))) => Some(Some(Back { trip, courier, attempt })),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Some(None),
        }
    }

    /// Calls off the opening of associations.
    pub(super) fn open_no_more(&mut self) {
        self.trips.retain(|_, (trip, task)| {
            let is_opening = trip.errand == Errand::Open;
            if is_opening {
                task.abort();
            }
            !is_opening
        });
    }

    /// How many are out for this.
    pub(super) fn count(&self, errand: Errand) -> usize {
        self.trips().filter(|trip| trip.errand == errand).count()
    }

    /// How many are out to deliver.
    pub(super) fn delivering(&self) -> usize {
        self.count(Errand::Deliver)
    }

    /// Whether one is out to prove that the destination works.
    pub(super) fn is_proving(&self) -> bool {
        self.trips().any(|trip| trip.proves)
    }

    /// Whether something urgent is on its way.
    pub(super) fn has_urgent(&self) -> bool {
        self.trips().any(|trip| trip.is_urgent)
    }

    /// Whether nobody is out but to let go of something.
    pub(super) fn is_quiet(&self) -> bool {
        self.trips().all(|trip| trip.errand == Errand::Rest)
    }

    fn trips(&self) -> impl Iterator<Item = &Trip> {
        self.trips.values().map(|(trip, _)| trip)
    }
}
