//! How fast instances get to a destination, measured from those that did. Pure.
//!
//! Counted are the bytes of a data set over the time from its first byte to the answer, so that round trips and what the
//! archive does with it are in it: it is what the next instance of that size can expect. What was measured counts half as
//! much after a minute of further sending, and nothing after [`STALE`]: by then it may be another link.

use std::time::{Duration, Instant};

/// After so much time spent in sending, what was measured before counts half.
const HALF: Duration = Duration::from_secs(60);

/// Smaller instances tell more about round trips than about the link, in bytes.
const LEAST: u64 = 64 << 10;

/// So long after the last instance what was measured says nothing any more.
pub const STALE: Duration = Duration::from_secs(6 * 3_600);

/// A running measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Goodput {
    bytes: f64,
    seconds: f64,
    last: Option<Instant>,
}

impl Goodput {
    /// Takes note of an attempt that has ended `now`: the bytes that left, and how long it took to its answer or its end.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn sent(&mut self, bytes: u64, took: Duration, now: Instant) {
        if bytes < LEAST || took.is_zero() {
            return;
        }
        let kept = if self.is_stale(now) { 0.0 } else { (-took.as_secs_f64() / HALF.as_secs_f64()).exp2() };
        self.last = Some(now);
        self.bytes = self.bytes * kept + bytes as f64;
        self.seconds = self.seconds * kept + took.as_secs_f64();
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= STALE)
    }

    /// Bytes per second; nothing if nothing was measured of late.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, and never negative")]
    pub fn bytes_per_second(&self, now: Instant) -> Option<u64> {
        (self.seconds > 0.0 && !self.is_stale(now)).then(|| (self.bytes / self.seconds) as u64)
    }

    /// How long `bytes` are likely to take; nothing if nothing was measured of late.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn time_for(&self, bytes: u64, now: Instant) -> Option<Duration> {
        let rate = self.bytes_per_second(now)?.max(1);
        Some(Duration::from_secs_f64(bytes as f64 / rate as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_rate_is_that_of_late() {
        let (mut goodput, now) = (Goodput::default(), clock::now());
        assert_eq!((goodput.bytes_per_second(now), goodput.time_for(1, now)), (None, None));
        for _ in 0..100 {
            goodput.sent(MIB, Duration::from_secs(1), now);
        }
        assert_eq!(goodput.bytes_per_second(now), Some(MIB));
        assert_eq!(goodput.time_for(60 * MIB, now), Some(Duration::from_secs(60)));
        // An hour at a tenth of it is all that counts then.
        for _ in 0..360 {
            goodput.sent(MIB, Duration::from_secs(10), now);
        }
        let rate = goodput.bytes_per_second(now).unwrap();
        assert!(rate.abs_diff(MIB / 10) < 10, "{rate}");
        // What was measured at night says nothing in the morning, and does not weigh on what is measured then.
        let morning = now + STALE;
        assert_eq!((goodput.bytes_per_second(morning), goodput.time_for(MIB, morning)), (None, None));
        goodput.sent(MIB, Duration::from_secs(1), morning);
        assert_eq!(goodput.bytes_per_second(morning), Some(MIB));
    }

    #[test]
    fn what_is_small_or_took_no_time_says_nothing() {
        let (mut goodput, now) = (Goodput::default(), clock::now());
        goodput.sent(1_000, Duration::from_secs(1), now);
        goodput.sent(MIB, Duration::ZERO, now);
        assert_eq!(goodput.bytes_per_second(now), None);
    }
}
