//! How long we wait for bytes: the idle time-out between messages, the minimum data rate within one.
//!
//! Only the time is measured in which we do wait: what our own disk, or the wait for the caller, takes counts against
//! nobody. Within a message the rate is taken over a window of waiting, not over each byte, so a modality that pauses for
//! a few seconds is at ease and a peer at one byte per second is gone after one window.

use std::time::{Duration, Instant};

use super::settings::Timeouts;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when we wait, and whether the wait began within a message.
    waiting: Option<(Instant, bool)>,
    waited: Duration,
    received: usize,
}

/// Who was too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slowness {
    Idle,
    TooSlow { received: usize },
}

impl Pace {
    /// We begin to wait for bytes, within a message or not; if we do not wait already.
    pub(super) fn wait(&mut self, now: Instant, within_message: bool) {
        self.waiting.get_or_insert((now, within_message));
    }

    /// Bytes came.
    pub(super) fn received(&mut self, now: Instant, length: usize, limits: &Timeouts) -> Option<Slowness> {
        let (since, within_message) = self.waiting.take()?;
        if !within_message {
            *self = Self { received: length, ..Self::default() };
            return None;
        }
        self.waited += now.saturating_duration_since(since);
        self.received = self.received.saturating_add(length);
        self.judge(limits)
    }

    /// When [`Pace::expired`] is due.
    pub(super) fn deadline(&self, limits: &Timeouts) -> Option<Instant> {
        match self.waiting? {
            (since, false) => Some(since + limits.idle),
            (since, true) => (limits.minimum_rate > 0).then(|| since + limits.rate_window.saturating_sub(self.waited)),
        }
    }

    /// The time is `now`: is somebody too slow?
    pub(super) fn expired(&mut self, now: Instant, limits: &Timeouts) -> Option<Slowness> {
        self.deadline(limits).filter(|deadline| *deadline <= now)?;
        match self.waiting? {
            (_, false) => Some(Slowness::Idle),
            (since, true) => {
                self.waiting = Some((now, true));
                self.waited += now.saturating_duration_since(since);
                self.judge(limits)
            }
        }
    }

    /// At the end of a window: was it enough?
    fn judge(&mut self, limits: &Timeouts) -> Option<Slowness> {
        if self.waited < limits.rate_window || limits.minimum_rate == 0 {
            return None;
        }
        let received = self.received;
        let least = u128::from(limits.minimum_rate) * self.waited.as_millis() / 1000;
        (self.waited, self.received) = (Duration::ZERO, 0);
        (u128::try_from(received).unwrap_or(u128::MAX) < least).then_some(Slowness::TooSlow { received })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Timeouts {
        Timeouts { idle: 100 * SECOND, rate_window: 10 * SECOND, minimum_rate: 10, ..Timeouts::default() }
    }

    #[test]
    fn one_byte_a_second_is_too_slow_after_one_window() {
        let (start, limits, mut pace) = (now(), limits(), Pace::default());
        let verdict = (0..10).find_map(|second| {
            pace.wait(start + second * SECOND, true);
            pace.received(start + (second + 1) * SECOND, 1, &limits)
        });
        assert_eq!(verdict, Some(Slowness::TooSlow { received: 10 }));
    }

    #[test]
    fn ten_bytes_a_second_are_enough_for_ever() {
        let (start, limits, mut pace) = (now(), limits(), Pace::default());
        for second in 0..1000 {
            pace.wait(start + second * SECOND, true);
            assert_eq!(pace.received(start + (second + 1) * SECOND, 10, &limits), None);
        }
    }

    #[test]
    fn silence_within_a_message_ends_with_the_window_and_between_messages_with_the_idle_time() {
        let (start, limits, mut pace) = (now(), limits(), Pace::default());
        pace.wait(start, true);
        assert_eq!(pace.deadline(&limits), Some(start + 10 * SECOND));
        assert_eq!(pace.expired(start + 9 * SECOND, &limits), None);
        assert_eq!(pace.expired(start + 10 * SECOND, &limits), Some(Slowness::TooSlow { received: 0 }));
        let mut pace = Pace::default();
        pace.wait(start, false);
        assert_eq!(pace.deadline(&limits), Some(start + 100 * SECOND));
        assert_eq!(pace.expired(start + 100 * SECOND, &limits), Some(Slowness::Idle));
    }

    #[test]
    fn a_long_silence_between_messages_does_not_make_the_next_one_slow() {
        let (start, limits, mut pace) = (now(), limits(), Pace::default());
        pace.wait(start, false);
        assert_eq!(pace.received(start + 99 * SECOND, 1, &limits), None);
        pace.wait(start + 99 * SECOND, true);
        assert_eq!(pace.received(start + 100 * SECOND, 1, &limits), None);
    }

    #[test]
    fn our_own_slowness_counts_against_nobody() {
        let (start, limits, mut pace) = (now(), limits(), Pace::default());
        for minute in 0..100 {
            let time = start + 60 * minute * SECOND;
            pace.wait(time, true);
            assert_eq!(pace.received(time + SECOND / 10, 5, &limits), None, "the disk took the rest of the minute");
        }
    }
}
