//! How long to wait before the next attempt. Pure: the random number is an argument.
//!
//! Waiting never ends and never storms: the delay doubles from `first` to `cap` and is spread at random over its whole
//! range, so that a thousand boxes whose archive comes back do not all call in the same second.

use std::time::Duration;

/// The pace of retries of whatever is tried again: a destination, a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest delay, after the first failure.
    pub first: Duration,
    /// The longest delay; reached after a few failures and kept for as long as it takes.
    pub cap: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row (1 after the first); `random` is in `0.0..1.0`.
    ///
    /// Lies between `first` and the smaller of `first` × 2^`failures` and `cap`.
    #[must_use]
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.cap).max(self.first);
        self.first + (ceiling - self.first).mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(300) };

    #[test]
    fn the_delay_grows_to_the_cap_and_stays_there() {
        assert_eq!(BACKOFF.delay(1, 1.0), Duration::from_secs(4));
        assert_eq!(BACKOFF.delay(2, 1.0), Duration::from_secs(8));
        assert_eq!(BACKOFF.delay(20, 1.0), Duration::from_secs(300));
        assert_eq!(BACKOFF.delay(u32::MAX, 1.0), Duration::from_secs(300));
    }

    #[test]
    fn the_delay_is_never_below_the_first() {
        for failures in 0..40 {
            assert_eq!(BACKOFF.delay(failures, 0.0), Duration::from_secs(2));
        }
    }

    #[test]
    fn a_month_without_an_archive_makes_a_bounded_number_of_attempts() {
        let month = Duration::from_secs(30 * 24 * 3600);
        let (mut waited, mut attempts) = (Duration::ZERO, 0u32);
        while waited < month {
            attempts += 1;
            waited += BACKOFF.delay(attempts, f64::from(attempts % 10) / 10.0);
        }
        assert!(attempts < 25_000, "{attempts} attempts");
    }

    #[test]
    fn a_cap_below_the_first_delay_does_not_panic() {
        let odd = Backoff { first: Duration::from_secs(10), cap: Duration::from_secs(1) };
        assert_eq!(odd.delay(5, 0.7), Duration::from_secs(10));
    }
}
