//! A rate that is kept over everything that asks. Whoever wants to send is told when he may, in the order of asking
//! (the generic cell rate algorithm: what is remembered is the moment at which everything granted has gone).

use std::time::{Duration, Instant};

use super::Rate;

/// How much may be made up for that was not used, because a timer came late or nobody asked: so much time's worth. It is
/// all that can go beyond the rate, within whatever time.
pub const SLACK: Duration = Duration::from_millis(25);

/// How long what is not held back can keep others waiting after it.
const DEBT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    rate: Option<Rate>,
    slack: Duration,
    /// When everything that was granted has gone.
    gone: Option<Instant>,
}

impl Bucket {
    /// The rate that is kept; nothing if there is none.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// Keeps another rate from now on, and makes up for so much time; what has been granted and not gone yet goes at the new
    /// rate.
    pub fn set_rate(&mut self, rate: Option<Rate>, slack: Duration, now: Instant) {
        self.slack = slack;
        if rate == self.rate {
            return;
        }
        self.gone = match (self.rate, rate, self.gone) {
            (Some(old), Some(new), Some(gone)) => {
                Some(now + new.time_for(old.bytes_in(gone.saturating_duration_since(now))))
            }
            _ => None,
        };
        self.rate = rate;
    }

    /// Grants so many bytes, and says from when on.
    pub fn grant(&mut self, bytes: u64, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let begins = self.begins(now);
        self.gone = Some(begins + rate.time_for(bytes));
        begins.max(now)
    }

    /// Grants so many bytes at once: what asks later waits for them, but not for ever.
    pub fn grant_at_once(&mut self, bytes: u64, now: Instant) {
        let Some(rate) = self.rate else { return };
        let begins = self.begins(now);
        let latest = begins.max(now + DEBT);
        self.gone = Some((begins + rate.time_for(bytes)).min(latest));
    }

    /// What was granted was more, or less, by so many bytes in truth.
    pub fn correct(&mut self, bytes: i64, now: Instant) {
        let Some(rate) = self.rate else { return };
        let time = rate.time_for(bytes.unsigned_abs());
        let begins = self.begins(now);
        self.gone = if bytes < 0 { begins.checked_sub(time).or(self.gone) } else { Some(begins + time) };
    }

    /// When the next byte may go.
    fn begins(&self, now: Instant) -> Instant {
        let earliest = now.checked_sub(self.slack).unwrap_or(now);
        self.gone.map_or(now, |gone| gone.max(earliest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MBIT: Rate = Rate::of_bits(1_000_000);

    #[test]
    fn many_who_ask_get_the_rate_together_in_order_and_a_late_timer_costs_nothing() {
        let (mut bucket, start) = (Bucket::default(), clock::now());
        assert_eq!(bucket.grant(u64::MAX, start), start, "without a rate nobody waits");
        bucket.set_rate(Some(MBIT), SLACK, start);
        let granted: Vec<_> = (0..8).map(|_| bucket.grant(1_250, start) - start).collect();
        let expected: Vec<_> = (0..8).map(|n| Duration::from_millis(10 * n)).collect();
        assert_eq!(granted, expected);
        // All is gone at 80 ms. Who asks at 95 ms is 15 ms late: that much is made up for.
        let late = start + Duration::from_millis(95);
        assert_eq!((bucket.grant(1_250, late), bucket.grant(1_250, late)), (late, late));
        assert_eq!(bucket.grant(1_250, late), start + Duration::from_millis(100));
        // After a second without anybody there is no more than the slack to make up for.
        let idle = start + Duration::from_secs(2);
        let at_once = (0..100).take_while(|_| bucket.grant(1_250, idle) == idle).count();
        assert_eq!(at_once, 3);
    }

    #[test]
    fn what_is_not_held_back_is_waited_for_by_the_others_a_second_at_most() {
        let (mut bucket, now) = (Bucket::default(), clock::now());
        bucket.set_rate(Some(MBIT), SLACK, now);
        bucket.grant_at_once(12_500, now);
        assert_eq!(bucket.grant(1, now) - now, Duration::from_millis(100));
        bucket.grant_at_once(1 << 30, now);
        assert_eq!(bucket.grant(1, now) - now, DEBT);
    }

    #[test]
    fn what_was_estimated_is_put_right_and_another_rate_counts_at_once() {
        let (mut bucket, now) = (Bucket::default(), clock::now());
        bucket.correct(1, now);
        bucket.set_rate(Some(MBIT), SLACK, now);
        bucket.grant(12_500, now);
        bucket.correct(1_250, now);
        bucket.correct(-2_500, now);
        assert_eq!(bucket.grant(0, now) - now, Duration::from_millis(90));
        bucket.set_rate(Some(Rate::of_bits(2_000_000)), SLACK, now);
        assert_eq!(bucket.grant(0, now) - now, Duration::from_millis(45));
        bucket.set_rate(None, SLACK, now);
        assert_eq!(bucket.grant(1 << 40, now), now);
        bucket.set_rate(Some(MBIT), SLACK, now);
        assert_eq!(bucket.grant(1, now), now, "nothing is held against anybody");
    }
}
