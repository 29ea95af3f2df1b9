//! The only place that reads a clock.
//!
//! Everything else is given the time: protocol and policy code takes an [`Instant`] as an argument, records take a
//! [`Timestamp`]. Scheduling is done on [`SpoolTime`], a timeline of the spool's own that never steps: it starts where
//! the last run left off (or at the wall clock, whichever is later) and advances with the monotonic clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn now() -> Instant {
    Instant::now()
}

/// The monotonic clock as the timers of the async runtime see it, for what is waited for with them. The same as [`now`],
/// but that a test can pause it; then it stands still until all that is left is to wait for a timer.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn of_runtime() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock; a clock before 1970 reads as 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads it")]
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// The time zone of this box, as its administrator has set it; UTC if he has not.
#[must_use]
pub fn zone() -> TimeZone {
    TimeZone::system()
}

/// A moment on the spool's own timeline, in milliseconds. It never goes back, neither when the wall clock is set nor
/// over a restart, so `due` times that were stored stay comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SpoolTime(pub u64);

impl SpoolTime {
    /// The moment `delay` later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `now` until this moment; zero if it has passed.
    #[must_use]
    pub fn until(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

/// The spool's timeline: where it started and the monotonic moment at which it did.
#[derive(Debug, Clone, Copy)]
pub struct Timeline {
    base: SpoolTime,
    started: Instant,
}

impl Timeline {
    /// Starts the timeline: not before `last`, the latest time that the spool has stored.
    #[must_use]
    pub fn start(last: SpoolTime, wall: Timestamp, now: Instant) -> Self {
        Self { base: last.max(SpoolTime(wall.as_millis())), started: now }
    }

    /// The moment `now` on this timeline.
    #[must_use]
    pub fn at(&self, now: Instant) -> SpoolTime {
        self.base.after(now.saturating_duration_since(self.started))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeline_never_goes_back_when_the_wall_clock_does() {
        let started = now();
        let first = Timeline::start(SpoolTime(0), Timestamp::from_millis(10_000), started);
        let stored = first.at(started + Duration::from_secs(5));
        assert_eq!(stored, SpoolTime(15_000));
        let after_a_step_back = Timeline::start(stored, Timestamp::from_millis(0), started);
        assert_eq!(after_a_step_back.at(started), stored);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_the_runtime_goes_by_its_timers() {
        let began = of_runtime();
        tokio::time::sleep(Duration::from_secs(86_400)).await;
        assert_eq!((of_runtime() - began).as_secs(), 86_400);
    }
}
