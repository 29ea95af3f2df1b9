//! How fast instances get to a destination, measured from those that did. Pure.
//!
//! Counted are the bytes of a data set over the time from its first byte to the answer, so that round trips and what the
//! archive does with it are in it: it is what the next instance of that size can expect. What was measured counts half as
//! much after a minute of further sending.

use std::time::Duration;

/// After so much time spent in sending, what was measured before counts half.
const HALF: Duration = Duration::from_secs(60);

/// Smaller instances tell more about round trips than about the link, in bytes.
const LEAST: u64 = 64 << 10;

/// A running measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Goodput {
    bytes: f64,
    seconds: f64,
}

impl Goodput {
    /// Takes note of an attempt: the bytes that left, and how long it took to its answer or its end.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn sent(&mut self, bytes: u64, took: Duration) {
        if bytes < LEAST || took.is_zero() {
            return;
        }
        let kept = (-took.as_secs_f64() / HALF.as_secs_f64()).exp2();
        self.bytes = self.bytes * kept + bytes as f64;
        self.seconds = self.seconds * kept + took.as_secs_f64();
    }

    /// Bytes per second; nothing before anything was measured.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, and never negative")]
    pub fn bytes_per_second(&self) -> Option<u64> {
        (self.seconds > 0.0).then(|| (self.bytes / self.seconds) as u64)
    }

    /// How long `bytes` are likely to take; nothing before anything was measured.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn time_for(&self, bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_second()?.max(1);
        Some(Duration::from_secs_f64(bytes as f64 / rate as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_rate_is_that_of_late() {
        let mut goodput = Goodput::default();
        assert_eq!((goodput.bytes_per_second(), goodput.time_for(1)), (None, None));
        for _ in 0..100 {
            goodput.sent(MIB, Duration::from_secs(1));
        }
        assert_eq!(goodput.bytes_per_second(), Some(MIB));
        assert_eq!(goodput.time_for(60 * MIB), Some(Duration::from_secs(60)));
        // An hour at a tenth of it is all that counts then.
        for _ in 0..360 {
            goodput.sent(MIB, Duration::from_secs(10));
        }
        let rate = goodput.bytes_per_second().unwrap();
        assert!(rate.abs_diff(MIB / 10) < 10, "{rate}");
    }

    #[test]
    fn what_is_small_or_took_no_time_says_nothing() {
        let mut goodput = Goodput::default();
        goodput.sent(1_000, Duration::from_secs(1));
        goodput.sent(MIB, Duration::ZERO);
        assert_eq!(goodput.bytes_per_second(), None);
    }
}
