//! A rate that follows the delay which the link shows.
//!
//! What is sent faster than a link carries waits in front of it, and everybody else's packets wait behind it: a call stops
//! being one at a few hundred milliseconds. Congestion control does not care; CUBIC fills whatever queue there is, and BBR
//! keeps up to a round trip of it. So the sender itself keeps the queue short:
//!
//! ```text
//!  rate                       what gets through while there is a queue is what the link has left for us
//!   │      ╭─╮ ╭──╮  ╭───
//!   │   ╭──╯ ╰─╯  ╰──╯        a little less while the queue is longer than wanted, a little more while it is shorter
//!   │ ╭─╯
//!   │─╯  no queue: more, carefully
//!   └──────────────────── t
//! ```
//!
//! The delay is that of the connections themselves, over the shortest one that they have met.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Rate;

/// How much of what was not used may be made up for: it comes in front of everybody else's packets at once.
pub const SLACK: Duration = Duration::from_millis(8);
/// It begins with this, in bytes per second.
const FIRST: f64 = 40_000.0;
/// It never goes below this, in bytes per second.
const LEAST: f64 = 2_000.0;
/// The queue that is aimed at, in parts of what is allowed.
const AIM: f64 = 0.25;
/// A delay that is shorter than this may be chance, in parts of what is allowed: acknowledgements come late now and then.
const NOISE: f64 = 0.2;
/// How much more in a round trip, before the first queue was met and a long while after the last one, at most; and otherwise.
const GROWTH: (f64, f64) = (0.25, 0.05);
/// Before the first queue was met, no more than so many times what got through.
const AHEAD: f64 = 1.6;
/// After so many round trips without a queue twice as much.
const WHILE: f64 = 10.0;
/// A delay counts that was there at so many looks one after the other.
const LOOKS: usize = 2;
/// What is left of what gets through, however long the queue.
const LEAST_LEFT: f64 = 0.3;
/// For so many round trips what got through is believed to be possible, and for so many seconds at least.
const POSSIBLE: (f64, f64) = (5.0, 2.0);
/// The shortest round trip that is reckoned with, in seconds.
const SHORTEST: f64 = 0.05;

/// What is seen of the link at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The shortest round trip since the last look.
    pub round_trip: Duration,
    /// How much of it was spent in a queue.
    pub queue: Duration,
    /// Bytes that have got through since the last look, headers included.
    pub through: u64,
    /// Whether as much was sent as was allowed: there was more to send.
    pub busy: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Courtesy {
    /// The delay that may be added, in seconds.
    target: f64,
    /// Bytes per second.
    rate: f64,
    /// What got through of late: when it was looked at, and bytes since the look before.
    through: VecDeque<(Instant, u64)>,
    last: Option<Instant>,
    /// The last delays that were seen, in seconds.
    delays: VecDeque<f64>,
    /// Bytes per second that got through at moments of the last round trips when there was more to send.
    rates: VecDeque<(Instant, f64)>,
    /// Seconds since a queue was seen; nothing if none was yet.
    without: Option<f64>,
}

impl Courtesy {
    /// No more than this delay is to be added to what others send over the link.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self {
            target: target.as_secs_f64(),
            rate: FIRST,
            through: VecDeque::new(),
            last: None,
            delays: VecDeque::new(),
            rates: VecDeque::new(),
            without: None,
        }
    }

    /// What may be sent now.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and far below 2^53")]
    pub fn rate(&self) -> Rate {
        Rate::of_bytes(self.rate as u64)
    }

    /// Takes note of what is seen.
    pub fn look(&mut self, look: Look, now: Instant) {
        let since = self.last.replace(now).map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        let queue = self.standing(look.queue.as_secs_f64());
        let trip = look.round_trip.as_secs_f64().max(SHORTEST);
        self.through.push_back((now, look.through));
        if since <= 0.0 {
            return;
        }
        let aim = self.target * AIM;
        if queue > self.target * NOISE {
            self.without = Some(0.0);
        } else {
            self.without = self.without.map(|seconds| seconds + since);
        }
        let capacity = self.capacity(&look, trip, now);
        match (self.without, capacity) {
            // A queue that is too long goes within a round trip.
            (Some(_), Some(capacity)) if queue > aim => {
                self.rate = capacity * (1.0 - (queue - aim) / trip.max(0.2)).max(LEAST_LEFT);
            }
            // One that is too short comes slowly; the longer there is none, the bolder: others may have left.
            (Some(seconds), Some(capacity)) => {
                let bolder = 1.0 + (seconds / (WHILE * trip)).powi(2);
                let more = (self.careful(trip) * bolder).min(GROWTH.0) * (1.0 - queue / aim);
                self.rate = capacity * (1.0 + more);
            }
            (None, capacity) if look.busy => {
                let possible = capacity.map_or(f64::INFINITY, |capacity| (capacity * AHEAD).max(FIRST));
                self.rate = (self.rate * (1.0 + GROWTH.0 * (since / trip).min(1.0))).min(possible.max(self.rate));
            }
            _ => {}
        }
        self.rate = self.rate.max(LEAST);
    }

    /// Bytes per second that are possible: the most that got through of late.
    fn capacity(&mut self, look: &Look, trip: f64, now: Instant) -> Option<f64> {
        if let Some(through) = self.got_through(trip, now).filter(|_| look.busy) {
            self.rates.push_back((now, through));
        }
        let long = Duration::from_secs_f64((POSSIBLE.0 * trip).max(POSSIBLE.1));
        while self.rates.len() > 1
            && self.rates.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= long)
        {
            self.rates.pop_front();
        }
        self.rates.iter().map(|(_, rate)| *rate).reduce(f64::max)
    }

    /// The delay without what was chance: a queue is still there at the next looks.
    fn standing(&mut self, seen: f64) -> f64 {
        self.delays.push_back(seen);
        if self.delays.len() > LOOKS {
            self.delays.pop_front();
        }
        self.delays.iter().copied().fold(seen, f64::min)
    }

    /// How much more in a round trip, so that the queue which comes of it is found out about before it is too long.
    fn careful(&self, trip: f64) -> f64 {
        (0.2 * self.target / trip).min(GROWTH.1)
    }

    /// Bytes per second that got through during the last round trip or two; nothing if that is not known.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn got_through(&mut self, trip: f64, now: Instant) -> Option<f64> {
        let long_enough = Duration::from_secs_f64(trip.max(0.5));
        while self.through.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= long_enough) {
            self.through.pop_front();
        }
        let (first, _) = self.through.front()?;
        let seconds = now.saturating_duration_since(*first).as_secs_f64();
        let bytes: u64 = self.through.iter().skip(1).map(|(_, bytes)| bytes).sum();
        (seconds > 0.0 && bytes > 0).then(|| bytes as f64 / seconds)
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a model")]
mod tests {
    use super::*;
    use crate::clock;

    /// A link as a fluid: one queue, and what is seen of it a round trip later.
    struct Model {
        /// Bytes per second.
        capacity: f64,
        /// What others send, bytes per second.
        others: f64,
        round_trip: f64,
        queue: f64,
        /// Delays of the queue and bytes of ours that left it, each 10 ms.
        past: VecDeque<(f64, f64)>,
    }

    const STEP: f64 = 0.01;

    impl Model {
        fn new(bits: f64, round_trip: f64) -> Self {
            let past = vec![(0.0, 0.0); (round_trip / STEP) as usize + 1].into();
            Self { capacity: bits / 8.0, others: 0.0, round_trip, queue: 0.0, past }
        }

        fn step(&mut self, rate: f64) {
            let share = rate / (rate + self.others).max(1.0);
            let comes = (rate + self.others) * STEP;
            let goes = (self.queue + comes).min(self.capacity * STEP);
            self.queue += comes - goes;
            self.past.push_back((self.queue / self.capacity, goes * share));
            self.past.pop_front();
        }

        /// Runs for so many seconds; gives the delay at 95 of 100, in seconds, and the share of what others left.
        fn run(&mut self, courtesy: &mut Courtesy, seconds: f64, at: &mut Instant) -> (f64, f64) {
            let (mut delays, mut ours, mut through) = (Vec::new(), 0.0, 0.0);
            for n in 0..(seconds / STEP) as u64 {
                *at += Duration::from_secs_f64(STEP);
                self.step(courtesy.rate().bits() as f64 / 8.0);
                let (delay, left) = self.past[0];
                through += left;
                ours += left;
                delays.push(self.queue / self.capacity);
                if n.is_multiple_of(10) {
                    // Acknowledgements are late by up to 8 ms, and what got through is not known to a twentieth.
                    let late = 0.008 * ((n / 10) % 4) as f64 / 3.0;
                    let queue = Duration::from_secs_f64(delay + late);
                    let round_trip = Duration::from_secs_f64(self.round_trip) + queue;
                    let seen = (std::mem::take(&mut through) * 0.95) as u64;
                    courtesy.look(Look { round_trip, queue, through: seen, busy: true }, *at);
                }
            }
            delays.sort_by(f64::total_cmp);
            (delays[delays.len() * 95 / 100], ours / seconds / (self.capacity - self.others))
        }
    }

    #[test]
    fn the_queue_stays_short_and_the_link_is_used_whatever_link_it_is() {
        for (bits, round_trip) in [(10e6, 0.3), (2e6, 0.6), (100e6, 0.02), (384e3, 0.715), (1e6, 0.05)] {
            let mut courtesy = Courtesy::new(Duration::from_millis(50));
            let (mut model, mut at) = (Model::new(bits, round_trip), clock::now());
            model.run(&mut courtesy, 15.0, &mut at);
            let alone = model.run(&mut courtesy, 30.0, &mut at);
            model.others = model.capacity * 0.1;
            model.run(&mut courtesy, 10.0, &mut at);
            let beside = model.run(&mut courtesy, 30.0, &mut at);
            model.others = 0.0;
            model.run(&mut courtesy, 10.0, &mut at);
            let again = model.run(&mut courtesy, 30.0, &mut at);
            for (delay, share) in [alone, beside, again] {
                assert!(delay <= 0.05 && share >= 0.85, "{bits} {round_trip}: {delay:.3} s, {share:.2}");
            }
        }
    }

    #[test]
    fn what_is_not_used_is_not_taken_for_allowed() {
        let mut courtesy = Courtesy::new(Duration::from_millis(50));
        let trip = Duration::from_millis(300);
        let start = clock::now();
        for n in 0..1_000 {
            let look = Look { round_trip: trip, queue: Duration::ZERO, through: 100, busy: false };
            courtesy.look(look, start + Duration::from_millis(100 * n));
        }
        assert_eq!(courtesy.rate(), Rate::of_bytes(FIRST as u64));
    }
}
