//! What a link carries: the bytes that were answered over the time in which anything was on its way, whatever the number of
//! associations. Pure: time is an argument.
//!
//! It is not [`Goodput`](super::goodput::Goodput), which tells how long one instance takes on one association. Here an hour
//! without work counts nothing, and a second in which four associations are at work is one second.
//!
//! Two sums are kept over the same time: of the bytes that left, and of the bytes that the same instances have on this disk.
//! Both fade, by half in `HALF` of work; the bytes of an instance count as if they had left evenly from its first byte to
//! its answer, so that one of an hour's length is not taken for a moment of great speed. After [`STALE`] without an answer
//! nothing is known: it may be another link by then. What is on its way at an answer is not in it, so it is rather too little.

use std::time::{Duration, Instant};

/// After so much time of work, what was measured before counts half.
const HALF: Duration = Duration::from_secs(30);

/// So long after the latest answer what was measured says nothing any more.
pub const STALE: Duration = Duration::from_secs(600);

/// A running measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flow {
    /// Instances on their way.
    under_way: u32,
    /// Until when the sums are up to date, while something is on its way.
    until: Option<Instant>,
    seconds: f64,
    sent: f64,
    stored: f64,
    answered: Option<Answered>,
}

/// As it was at the latest answer: what has left since, nobody knows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Answered {
    at: Instant,
    /// Bytes a second.
    sent: f64,
    stored: f64,
}

impl Flow {
    /// The first byte of an instance leaves.
    pub fn began(&mut self, now: Instant) {
        self.advance(now);
        self.under_way = self.under_way.saturating_add(1);
        self.until = Some(now);
    }

    /// One of those that began was answered, or ended otherwise: the bytes that left, those that the instance has on this
    /// disk if it has arrived, and how long it took.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn ended(&mut self, sent: u64, stored: u64, took: Duration, now: Instant) {
        self.advance(now);
        self.under_way = self.under_way.saturating_sub(1);
        self.until = (self.under_way > 0).then_some(now);
        let took = took.as_secs_f64();
        if sent == 0 || took <= 0.0 || self.seconds <= 0.0 {
            return;
        }
        let left_of_it = faded_sum(took) / took;
        self.sent += sent as f64 * left_of_it;
        self.stored += stored as f64 * left_of_it;
        self.answered = Some(Answered { at: now, sent: self.sent / self.seconds, stored: self.stored / self.seconds });
    }

    fn advance(&mut self, now: Instant) {
        if self.answered.is_some_and(|answered| is_stale(answered.at, now)) {
            *self = Self { under_way: self.under_way, until: self.until, ..Self::default() };
        }
        let Some(until) = self.until else { return };
        let passed = now.saturating_duration_since(until).as_secs_f64();
        let kept = (-passed / HALF.as_secs_f64()).exp2();
        self.seconds = self.seconds * kept + faded_sum(passed);
        self.sent *= kept;
        self.stored *= kept;
        self.until = Some(now.max(until));
    }

    /// Bytes that leave in a second; nothing if nothing was measured of late.
    #[must_use]
    pub fn sent_per_second(&self, now: Instant) -> Option<u64> {
        self.of_late(now).map(|answered| whole(answered.sent))
    }

    /// Bytes, as they are stored, of the instances that arrive in a second; nothing if nothing was measured of late.
    #[must_use]
    pub fn stored_per_second(&self, now: Instant) -> Option<u64> {
        self.of_late(now).map(|answered| whole(answered.stored))
    }

    /// How many bytes leave for an instance that has so many as it is stored, by what was measured last.
    #[must_use]
    pub fn leaves_of(&self, stored: u64) -> u64 {
        match self.answered {
            Some(answered) if answered.stored > answered.sent => share(stored, answered.sent / answered.stored),
            _ => stored,
        }
    }

    fn of_late(&self, now: Instant) -> Option<Answered> {
        self.answered.filter(|answered| !is_stale(answered.at, now))
    }
}

fn is_stale(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= STALE
}

/// What is left of one unit a second at the end of so many seconds of it.
fn faded_sum(seconds: f64) -> f64 {
    let mean = HALF.as_secs_f64() / std::f64::consts::LN_2;
    mean * (1.0 - (-seconds / mean).exp())
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn share(of: u64, part: f64) -> u64 {
    whole(of as f64 * part)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, and never negative")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MIB: u64 = 1 << 20;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn about(rate: Option<u64>, expected: u64) {
        let rate = rate.unwrap();
        assert!(rate.abs_diff(expected) <= expected / 20, "{rate} instead of {expected}");
    }

    #[test]
    fn time_in_which_nothing_is_on_its_way_does_not_count() {
        let (mut flow, now) = (Flow::default(), clock::now());
        assert_eq!((flow.sent_per_second(now), flow.stored_per_second(now)), (None, None));
        for minute in 0..5 {
            let began = now + seconds(60 * minute);
            flow.began(began);
            flow.ended(MIB, 4 * MIB, seconds(1), began + seconds(1));
        }
        let now = now + seconds(300);
        about(flow.sent_per_second(now), MIB);
        about(flow.stored_per_second(now), 4 * MIB);
    }

    #[test]
    fn associations_at_work_at_the_same_time_are_added_up() {
        let (mut flow, start) = (Flow::default(), clock::now());
        // Four at a time, each of which needs four seconds for a mebibyte.
        for second in 0..100 {
            if second >= 4 {
                flow.ended(MIB, MIB, seconds(4), start + seconds(second));
            }
            flow.began(start + seconds(second));
        }
        about(flow.sent_per_second(start + seconds(99)), MIB);
    }

    #[test]
    fn what_takes_an_hour_is_no_moment_of_great_speed_at_its_end() {
        let (mut flow, start) = (Flow::default(), clock::now());
        flow.began(start);
        for second in 0..500 {
            flow.began(start + seconds(second));
            flow.ended(MIB, MIB, seconds(1), start + seconds(second + 1));
        }
        // Beside those of a mebibyte a second, half a mebibyte a second has left all the time.
        flow.ended(250 * MIB, 250 * MIB, seconds(500), start + seconds(500));
        about(flow.sent_per_second(start + seconds(500)), MIB + MIB / 2);
    }

    #[test]
    fn what_was_measured_fades_and_is_forgotten() {
        let (mut flow, start) = (Flow::default(), clock::now());
        flow.began(start);
        flow.ended(100 * MIB, 100 * MIB, seconds(1), start + seconds(1));
        let mut now = start + seconds(1);
        for _ in 0..300 {
            flow.began(now);
            now += seconds(1);
            flow.ended(MIB, MIB, seconds(1), now);
        }
        about(flow.sent_per_second(now), MIB);
        assert_eq!(flow.sent_per_second(now + STALE), None);
        flow.began(now + STALE);
        flow.ended(9 * MIB, 9 * MIB, seconds(1), now + STALE + seconds(1));
        about(flow.sent_per_second(now + STALE + seconds(1)), 9 * MIB);
    }

    #[test]
    fn what_will_leave_of_an_instance_is_known_from_those_before_it() {
        let (mut flow, now) = (Flow::default(), clock::now());
        assert_eq!(flow.leaves_of(MIB), MIB);
        flow.began(now);
        flow.ended(MIB, 4 * MIB, seconds(1), now + seconds(1));
        assert_eq!(flow.leaves_of(4 * MIB), MIB);
    }

    #[test]
    fn what_ended_without_a_byte_is_no_measurement() {
        let (mut flow, now) = (Flow::default(), clock::now());
        flow.began(now);
        flow.ended(0, 0, seconds(10), now + seconds(10));
        assert_eq!(flow.sent_per_second(now + seconds(10)), None);
    }
}
