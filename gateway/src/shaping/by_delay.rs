//! A rate that follows the delay which the link shows.
//!
//! What is sent faster than a link carries waits in front of it, and everybody else's packets wait behind it: a call stops
//! being one at a few hundred milliseconds. Congestion control does not care; CUBIC fills whatever queue there is, and BBR
//! keeps up to a round trip of it, for each of several connections. So the sender itself keeps the queue short:
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
//!
//! There are two manners:
//!
//! - **Courteous**: others come first. It begins low, and gives way to whoever fills the queue.
//! - **Filling**: the link is used as far as it goes, over all connections together. Each of them alone finds out about the
//!   link for itself, and together they send several times of what it carries, lose it in front of it and send it again; or
//!   each believes for long that its part is all there is. So they get one rate, with a queue that is never empty and never
//!   overflows. It begins with as much as there is, up to twice what got through, and does not give way for ever: a queue
//!   that stays although it did is somebody else's. Over a link that is short or fast there is nothing to gain, and no rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Rate;

/// How much of what was not used may be made up for where others come first: it comes in front of their packets at once.
pub const SLACK: Duration = Duration::from_millis(8);
/// The queue that is aimed at, in parts of what is allowed.
const AIM: f64 = 0.25;
/// A delay that is shorter than this may be chance, in parts of what is allowed: acknowledgements come late now and then.
const NOISE: f64 = 0.2;
/// A queue that stays longer than this may be somebody else's, in parts of what is allowed.
const TOO_LONG: f64 = 0.5;
/// After so many round trips without a queue twice as much more.
const WHILE: f64 = 10.0;
/// A delay counts that was there at so many looks one after the other.
const LOOKS: usize = 2;
/// It never goes below this, in bytes per second.
const LEAST: f64 = 2_000.0;
/// Nothing has got through for as long as this.
const SILENCE: Duration = Duration::from_secs(1);
/// For so many round trips what got through is believed to be possible, and for so many seconds at least.
const POSSIBLE: (f64, f64) = (5.0, 2.0);
/// A queue that is a little longer than wanted leaves at least this part of what was possible without.
const LITTLE_LESS: f64 = 0.9;
/// A queue that is shorter than this is none, in parts of what is allowed.
const EMPTY: f64 = 0.05;
/// After so many seconds with a queue it is emptied, for so many round trips, with this part of what gets through.
const RARELY: f64 = 300.0;
const FOR: f64 = 4.0;
const EMPTYING: f64 = 0.7;
/// Where somebody else fills the queue: so many times what got through, because he goes on to ask for more.
const HELD: f64 = 1.03;
/// The shortest round trip that is reckoned with, in seconds.
const SHORTEST: f64 = 0.05;
/// Over a link with a shorter round trip than this nobody's rate needs filling.
pub const LONG: Duration = Duration::from_millis(50);
/// Nor over one that carries more than this, in bytes per second.
const FAST: f64 = 5_000_000.0;

/// What is done with a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Manner {
    /// The delay that may be added, in seconds.
    target: f64,
    /// It begins with this, in bytes per second.
    first: f64,
    /// Before the first queue was met, no more than so many times what got through.
    ahead: f64,
    /// How much more in a round trip, before the first queue was met and a long while after the last one, at most; and
    /// otherwise.
    growth: (f64, f64),
    /// What is left of what gets through, however long the queue.
    least_left: f64,
    /// For how many round trips it gives way to a queue, and for how many it then holds what it has; nothing if it gives way
    /// for ever.
    holds: Option<(f64, f64)>,
}

const COURTEOUS: Manner =
    Manner { target: 0.05, first: 40_000.0, ahead: 1.6, growth: (0.25, 0.05), least_left: 0.3, holds: None };
const FILLING: Manner = Manner {
    target: 0.24,
    first: 250_000.0,
    ahead: 2.0,
    growth: (0.25, 0.1),
    least_left: 0.75,
    holds: Some((10.0, 40.0)),
};

/// What is seen of the link at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The shortest round trip since the last look.
    pub round_trip: Duration,
    /// How much of it was spent in a queue.
    pub queue: Duration,
    /// Bytes that have got through since the last look, headers included.
    pub through: u64,
    /// Whether as much was sent as was allowed at some moment since the last look: there was more to send.
    pub busy: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct ByDelay {
    manner: Manner,
    /// Bytes per second; nothing as long as nothing need be held back.
    rate: Option<f64>,
    /// What got through of late: when it was looked at, and bytes since the look before.
    through: VecDeque<(Instant, u64)>,
    last: Option<Instant>,
    /// When something got through again after nothing had for a while.
    resumed: Option<Instant>,
    /// The last delays that were seen, in seconds.
    delays: VecDeque<f64>,
    /// Bytes per second that got through at moments of the last round trips when there was more to send.
    rates: VecDeque<(Instant, f64)>,
    /// Seconds since a queue was seen; nothing if none was yet.
    without: Option<f64>,
    /// For how many seconds the queue has been too long.
    too_long: f64,
    /// What was possible when the queue was as long as wanted the last time, in bytes per second.
    believed: f64,
    /// Seconds since there was no queue at all.
    since_empty: f64,
}

impl ByDelay {
    /// No more than this delay is to be added to what others send over the link, who come first.
    #[must_use]
    pub fn courteous(target: Duration) -> Self {
        Self::new(Manner { target: target.as_secs_f64(), ..COURTEOUS }, Some(COURTEOUS.first))
    }

    /// The link is to be filled, whoever else uses it.
    #[must_use]
    pub fn filling() -> Self {
        Self::new(FILLING, None)
    }

    fn new(manner: Manner, rate: Option<f64>) -> Self {
        Self {
            manner,
            rate,
            through: VecDeque::new(),
            last: None,
            resumed: None,
            delays: VecDeque::new(),
            rates: VecDeque::new(),
            without: None,
            too_long: 0.0,
            believed: 0.0,
            since_empty: 0.0,
        }
    }

    /// Whether others come first.
    #[must_use]
    pub fn is_courteous(&self) -> bool {
        self.manner.holds.is_none()
    }

    /// What may be sent now; nothing if it need not be held back.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and far below 2^53")]
    pub fn rate(&self) -> Option<Rate> {
        self.rate.map(|rate| Rate::of_bytes(rate as u64))
    }

    /// Takes note of what is seen. Only to be told when something got through.
    pub fn look(&mut self, look: Look, now: Instant) {
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        if since >= SILENCE {
            self.resume(since, now);
        }
        // What was under way when nothing got through came late for that reason.
        if self.resumed.is_some_and(|resumed| now.saturating_duration_since(resumed) < look.round_trip) {
            return;
        }
        let since = since.as_secs_f64();
        let queue = self.standing(look.queue.as_secs_f64());
        let trip = look.round_trip.as_secs_f64().max(SHORTEST);
        self.through.push_back((now, look.through));
        if since <= 0.0 {
            return;
        }
        let Manner { target, first, ahead, growth, least_left, holds } = self.manner;
        let aim = target * AIM;
        if queue > target * NOISE {
            self.without = Some(0.0);
        } else {
            self.without = self.without.map(|seconds| seconds + since);
        }
        self.too_long = if queue > target * TOO_LONG { self.too_long + since } else { 0.0 };
        self.since_empty = if queue < target * EMPTY { 0.0 } else { self.since_empty + since };
        let capacity = self.capacity(look, queue > aim, trip, now);
        if let Some(capacity) = capacity.filter(|_| queue <= aim || self.too_long > 0.0) {
            self.believed = capacity;
        }
        let rate = match (self.without, capacity) {
            // What the link takes without a queue is forgotten if it is never met; so it is emptied now and then.
            (Some(_), Some(capacity)) if !self.is_courteous() && self.since_empty > RARELY => {
                if self.since_empty > RARELY + FOR * trip {
                    self.since_empty = 0.0;
                }
                Some(capacity * EMPTYING)
            }
            // One that stays although less was sent is not ours, or not only: that is found out again and again.
            (Some(_), Some(capacity))
                if holds.is_some_and(|(gives, holds)| self.too_long / trip % (gives + holds) > gives) =>
            {
                Some(capacity * HELD)
            }
            // A queue that is too long goes within a round trip.
            (Some(_), Some(capacity)) if queue > aim => {
                let less = capacity * (1.0 - (queue - aim) / trip.max(0.2)).max(least_left);
                // A little longer than wanted is not worth giving up more and more: others may do that, or a longer way.
                let is_little = !self.is_courteous() && self.too_long <= 0.0;
                Some(if is_little { less.max(self.believed * LITTLE_LESS) } else { less })
            }
            // One that is too short comes slowly; the longer there is none, the bolder: others may have left.
            (Some(seconds), Some(capacity)) => {
                let bolder = 1.0 + (seconds / (WHILE * trip)).powi(2);
                let more = (self.careful(trip) * bolder).min(growth.0) * (1.0 - queue / aim);
                Some(capacity * (1.0 + more))
            }
            (None, capacity) if !self.is_courteous() => capacity.map(|capacity| (capacity * ahead).max(first)),
            (None, capacity) if look.busy => {
                let possible = capacity.map_or(f64::INFINITY, |capacity| (capacity * ahead).max(first));
                self.rate.map(|rate| (rate * (1.0 + growth.0 * (since / trip).min(1.0))).min(possible.max(rate)))
            }
            _ => self.rate,
        };
        let is_needed = self.is_courteous()
            || (look.round_trip - look.queue.min(look.round_trip) >= LONG
                && capacity.is_none_or(|capacity| capacity < FAST));
        self.rate = rate.filter(|_| is_needed).map(|rate| rate.max(LEAST));
    }

    /// Nothing got through for so long: there was nothing to send, or the link was away. What was found out before counts as
    /// if that time had not been.
    fn resume(&mut self, silence: Duration, now: Instant) {
        self.resumed = Some(now);
        self.through.clear();
        self.delays.clear();
        self.rates.iter_mut().for_each(|(at, _)| *at += silence);
    }

    /// Bytes per second that are possible: the most that got through of late at moments that tell, because there was more to
    /// send or there is a queue. Before the first queue was met, the most is only what there may be more than.
    fn capacity(&mut self, look: Look, is_queue: bool, trip: f64, now: Instant) -> Option<f64> {
        let is_first = !self.is_courteous() && self.without.is_none();
        let tells = look.busy || is_first || (is_queue && !self.is_courteous());
        if let Some(through) = self.got_through(trip, now).filter(|_| tells) {
            self.rates.push_back((now, through));
            let long = Duration::from_secs_f64((POSSIBLE.0 * trip).max(POSSIBLE.1));
            let most = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
            self.rates.retain(|(at, rate)| match is_first {
                true => *rate >= most,
                false => now.saturating_duration_since(*at) < long,
            });
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
        (0.2 * self.manner.target / trip).min(self.manner.growth.1)
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
        /// Whether they send more as long as the queue does not overflow, and then a third less.
        greedy: bool,
        since_less: f64,
        /// By how much the way has become longer, in seconds.
        longer: f64,
        round_trip: f64,
        queue: f64,
        /// Bytes of ours that got through.
        ours: f64,
        /// Delays of the queue and bytes of ours that left it, each 10 ms.
        past: VecDeque<(f64, f64)>,
    }

    const STEP: f64 = 0.01;

    impl Model {
        fn new(bits: f64, round_trip: f64) -> Self {
            let past = vec![(0.0, 0.0); (round_trip / STEP) as usize + 1].into();
            Self {
                capacity: bits / 8.0,
                others: 0.0,
                greedy: false,
                since_less: 0.0,
                longer: 0.0,
                round_trip,
                queue: 0.0,
                ours: 0.0,
                past,
            }
        }

        fn step(&mut self, rate: f64) {
            let share = rate / (rate + self.others).max(1.0);
            let comes = (rate + self.others) * STEP;
            let goes = (self.queue + comes).min(self.capacity * STEP);
            self.queue += comes - goes;
            let room = self.capacity * self.round_trip;
            self.since_less += STEP;
            if self.greedy && self.queue > room && self.since_less > 2.0 * self.round_trip {
                self.others *= 0.7;
                self.since_less = 0.0;
            } else if self.greedy {
                self.others *= 1.0 + 0.05 * STEP / self.round_trip;
            }
            self.queue = self.queue.min(room);
            self.past.push_back((self.queue / self.capacity, goes * share));
            self.past.pop_front();
        }

        /// Runs for so many seconds; gives the delay at 95 of 100, in seconds, and the share of what others left.
        fn run(&mut self, by_delay: &mut ByDelay, seconds: f64, at: &mut Instant) -> (f64, f64) {
            let (mut delays, mut through, before) = (Vec::new(), 0.0, self.ours);
            for n in 0..(seconds / STEP) as u64 {
                *at += Duration::from_secs_f64(STEP);
                self.step(by_delay.rate().map_or(self.capacity, |rate| rate.bits() as f64 / 8.0));
                let (delay, left) = self.past[0];
                through += left;
                self.ours += left;
                delays.push(self.queue / self.capacity);
                if n.is_multiple_of(10) {
                    // Acknowledgements are late by up to 8 ms, and what got through is not known to a twentieth.
                    let late = 0.008 * ((n / 10) % 4) as f64 / 3.0;
                    let queue = Duration::from_secs_f64(delay + late + self.longer);
                    let round_trip = Duration::from_secs_f64(self.round_trip) + queue;
                    let seen = (std::mem::take(&mut through) * 0.95) as u64;
                    by_delay.look(Look { round_trip, queue, through: seen, busy: true }, *at);
                }
            }
            delays.sort_by(f64::total_cmp);
            (delays[delays.len() * 95 / 100], (self.ours - before) / seconds / (self.capacity - self.others))
        }
    }

    #[test]
    fn the_queue_stays_short_and_the_link_is_used_whatever_link_it_is() {
        for (bits, round_trip) in [(10e6, 0.3), (2e6, 0.6), (100e6, 0.02), (384e3, 0.715), (1e6, 0.05)] {
            let mut courtesy = ByDelay::courteous(Duration::from_millis(50));
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
        let mut courtesy = ByDelay::courteous(Duration::from_millis(50));
        let trip = Duration::from_millis(300);
        let start = clock::now();
        for n in 0..1_000 {
            let look = Look { round_trip: trip, queue: Duration::ZERO, through: 100, busy: false };
            courtesy.look(look, start + Duration::from_millis(100 * n));
        }
        assert_eq!(courtesy.rate(), Some(Rate::of_bytes(COURTEOUS.first as u64)));
    }

    #[test]
    fn a_link_is_filled_with_a_queue_that_is_neither_empty_nor_overflows() {
        for (bits, round_trip) in [(10e6, 0.3), (2e6, 0.6), (384e3, 0.715), (20e6, 0.1)] {
            let mut filling = ByDelay::filling();
            let (mut model, mut at) = (Model::new(bits, round_trip), clock::now());
            model.run(&mut filling, 10.0, &mut at);
            let (delay, share) = model.run(&mut filling, 60.0, &mut at);
            assert!(delay <= 0.12 && share >= 0.97, "{bits} {round_trip}: {delay:.3} s, {share:.2}");
        }
    }

    #[test]
    fn beside_others_who_fill_the_queue_a_filled_link_is_shared_and_a_courteous_one_is_left_to_them() {
        for (mut by_delay, least, most) in
            [(ByDelay::filling(), 0.3, 0.9), (ByDelay::courteous(Duration::from_millis(50)), 0.0, 0.15)]
        {
            let (mut model, mut at) = (Model::new(10e6, 0.3), clock::now());
            model.run(&mut by_delay, 10.0, &mut at);
            (model.greedy, model.others) = (true, model.capacity * 0.2);
            model.run(&mut by_delay, 120.0, &mut at);
            let before = model.ours;
            model.run(&mut by_delay, 60.0, &mut at);
            let share = (model.ours - before) / 60.0 / model.capacity;
            assert!((least..=most).contains(&share), "{share:.2}: {:?}", by_delay.rate());
        }
    }

    #[test]
    fn a_way_that_has_become_longer_costs_a_little_and_not_more_and_more() {
        for longer in [0.07, 0.1] {
            let mut filling = ByDelay::filling();
            let (mut model, mut at) = (Model::new(10e6, 0.3), clock::now());
            model.run(&mut filling, 10.0, &mut at);
            model.longer = longer;
            model.run(&mut filling, 240.0, &mut at);
            let (_, share) = model.run(&mut filling, 60.0, &mut at);
            assert!(share >= 0.8, "{longer}: {share:.2}");
        }
    }

    #[test]
    fn the_queue_is_emptied_now_and_then() {
        let mut filling = ByDelay::filling();
        let (mut model, mut at) = (Model::new(10e6, 0.3), clock::now());
        model.run(&mut filling, 10.0, &mut at);
        let mut least = f64::MAX;
        for _ in 0..4_000 {
            model.run(&mut filling, 0.1, &mut at);
            least = least.min(model.queue / model.capacity);
        }
        assert!(least < 0.005, "{least}");
    }

    #[test]
    fn what_was_found_out_before_an_outage_counts_after_it() {
        let mut filling = ByDelay::filling();
        let (mut model, mut at) = (Model::new(2e6, 0.6), clock::now());
        model.run(&mut filling, 20.0, &mut at);
        let before = filling.rate().unwrap().bits() as f64;
        at += Duration::from_secs(20);
        let late = Duration::from_secs(21);
        for _ in 0..10 {
            filling.look(Look { round_trip: late, queue: late, through: 5_000, busy: true }, at);
            at += Duration::from_millis(100);
        }
        model.run(&mut filling, 2.0, &mut at);
        let after = filling.rate().unwrap().bits() as f64;
        assert!((0.8..1.3).contains(&(after / before)), "{before} {after}");
    }

    #[test]
    fn a_short_or_fast_link_has_no_rate_to_keep() {
        for (bits, round_trip) in [(100e6, 0.02), (1e9, 0.1)] {
            let mut filling = ByDelay::filling();
            let (mut model, mut at) = (Model::new(bits, round_trip), clock::now());
            model.run(&mut filling, 10.0, &mut at);
            assert_eq!(filling.rate(), None, "{bits} {round_trip}");
        }
    }
}
