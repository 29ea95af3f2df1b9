//! Whether the threads that write get an answer from the disk, for whoever has to decide that they hang.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;

/// A thread of the spool that waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Which one.
    pub thread: &'static str,
    /// For how long.
    pub waited: Duration,
}

/// Since when a thread has been waiting for the disk, if it is.
#[derive(Debug)]
pub(super) struct Pulse {
    thread: &'static str,
    since: Mutex<Option<Instant>>,
}

impl Pulse {
    pub(super) fn of(thread: &'static str) -> Self {
        Self { thread, since: Mutex::new(None) }
    }

    /// Does what may wait for the disk: one operation, or the few of one commit.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let _waits = Waits::begin(self);
        work()
    }

    pub(super) fn stall(&self, now: Instant, limit: Duration) -> Option<Stall> {
        let since = (*self.since.lock().unwrap_or_else(PoisonError::into_inner))?;
        let waited = now.saturating_duration_since(since);
        (waited >= limit).then_some(Stall { thread: self.thread, waited })
    }

    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// Ends with the work, however that ends.
struct Waits<'p>(&'p Pulse);

impl<'p> Waits<'p> {
    fn begin(pulse: &'p Pulse) -> Self {
        pulse.set(Some(clock::now()));
        Self(pulse)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(None);
    }
}
