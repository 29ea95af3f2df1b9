//! How many associations carry instances to one destination at the same time. Pure: time is an argument.
//!
//! A C-STORE waits for its answer, so over a long link one association spends most of its time waiting; and a connection
//! that meets loss slows down alone. Several fill the link, too many only queue up in front of it, and archives limit how
//! many they take. How many are good is not in the configuration, which has only a limit: it is measured.
//!
//! ```text
//!             more came through                nothing more came through: back to where it began
//!          ┌─────────────────────┐           ┌───────────────────────────────┐
//!          ▼                     │           │                               ▼
//!    measure ──▶ try twice as many ──▶ measure                              rest ── after a while ──▶ measure
//!          │                                                                 ▲
//!          └──▶ try fewer ──▶ measure ── as much came through: stay there ───┘
//! ```
//!
//! - A measurement begins when as many associations as wanted are at work, and lasts until each of them has had two
//!   answers or so, or one if that takes long. It counts the bytes that have arrived at the other side meanwhile: those are
//!   even where answers come in bunches, and the same whatever an instance was compressed to.
//! - Where they are held back together ([`super::pace`]), because the link is full or more is not allowed, more are not tried.
//! - While fewer are at work than wanted, because little waits, nothing is learned and nothing changes.
//! - An archive that refuses one more while others are at work has said how many it takes. It is asked again after ten
//!   minutes, and then after ever longer.
//! - What is measured while the link is away counts for nothing, and neither does an association that was not to be had then.
//! - It begins with one, and has others opened when the first association is there; after a failure of the destination
//!   likewise, because it may be another link then.
//! - A few are always good, and fewer are not tried: while one of them waits for its answer another one sends. With two it
//!   happens too often that both wait, and what that costs is hard to tell from chance.

use std::time::{Duration, Instant};

/// Associations that there are when the first one is there, and at least, if there may be so many.
const FIRST: usize = 4;
/// So many where the way is long: each of them waits for longer than it sends, and needs as long to find its speed.
const FIRST_FAR: usize = 8;
/// The round trip from which on a way is long.
const FAR: Duration = Duration::from_millis(100);
/// What twice as many must bring to be worth it: this part of what they bring at best is enough.
const WORTH_IT: f64 = 0.06;
/// Fewer are as good if they lose no more than this part.
const AS_GOOD: f64 = 0.03;
/// The shortest measurement.
const SHORTEST: Duration = Duration::from_millis(500);
/// After so long one answer of each association is enough.
const LONGEST: Duration = Duration::from_secs(10);
/// How long what was found out counts at first, and at most.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// For how long an archive is believed at first that it takes no more, and at most.
const REFUSED: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(6 * 3_600));
/// After so long another one is tried when the network was to blame.
const UNREACHED: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Clone)]
pub struct Width {
    /// The limit of the configuration.
    most: usize,
    /// The limit that the archive has shown, until when it counts, and for how long the next one will.
    ceiling: Option<(usize, Instant)>,
    believed: Duration,
    wanted: usize,
    /// Whether there was an association since it began: before that, nobody knows whether there is room for one.
    proven: bool,
    step: Step,
    measured: Option<Measured>,
    rest: Duration,
    /// Whether fewer are tried the next time, or more.
    down: bool,
}

/// What the associations have come to.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Bytes that have got through.
    pub through: u64,
    /// Whether they could send more than they may: more of them would change nothing.
    pub is_full: bool,
}

/// What it is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Measures what it has.
    Looks,
    /// Tries more, or fewer, than the so many that brought so many bytes in a second.
    Tries { before: usize, rate: f64 },
    /// Knows enough, until then.
    Rests(Instant),
}

/// A measurement under way.
#[derive(Debug, Clone, Copy)]
struct Measured {
    since: Instant,
    /// Bytes that had got through until then.
    through: u64,
    answers: usize,
}

impl Width {
    /// At most so many, one at least.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            ceiling: None,
            believed: REFUSED.0,
            wanted: FIRST.min(most),
            proven: false,
            step: Step::Looks,
            measured: None,
            rest: REST.0,
            down: false,
        }
    }

    /// How many are wanted now.
    #[must_use]
    pub fn wanted(&self, now: Instant) -> usize {
        if self.proven { self.wanted.min(self.limit(now)) } else { 1 }
    }

    /// The same beside so many that stand and do not move although the link is there: what they were to carry others can.
    #[must_use]
    pub fn wanted_beside(&self, stalled: usize, now: Instant) -> usize {
        if self.proven { self.wanted.saturating_add(stalled).min(self.limit(now)) } else { 1 }
    }

    fn limit(&self, now: Instant) -> usize {
        self.ceiling.filter(|(_, until)| *until > now).map_or(self.most, |(ceiling, _)| ceiling.min(self.most))
    }

    /// Something is on its way over the first association, which takes so long there and back, if that is known.
    pub fn begun(&mut self, round_trip: impl FnOnce() -> Option<Duration>) {
        if !std::mem::replace(&mut self.proven, true) && round_trip().is_some_and(|trip| trip >= FAR) {
            self.wanted = FIRST_FAR.min(self.most);
        }
    }

    /// An instance was answered, while so many associations were at work, it included; `seen` says what they have come to, all
    /// of them together.
    pub fn answered(&mut self, at_work: usize, seen: impl FnOnce() -> Seen, now: Instant) {
        self.proven = true;
        let wanted = self.wanted(now);
        if at_work < wanted {
            self.measured = None;
            return;
        }
        if let Step::Rests(until) = self.step {
            if now < until {
                return;
            }
            self.step = Step::Looks;
            self.measured = None;
        }
        let Some(measured) = &mut self.measured else {
            self.measured = Some(Measured { since: now, through: seen().through, answers: 0 });
            return;
        };
        measured.answers += 1;
        let took = now.saturating_duration_since(measured.since);
        let is_enough = measured.answers >= 2 * wanted || (measured.answers >= wanted && took >= LONGEST);
        if !is_enough || took < SHORTEST {
            return;
        }
        let Seen { through, is_full } = seen();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rate = through.saturating_sub(measured.through) as f64 / took.as_secs_f64();
        self.measured = None;
        if is_full && self.step == Step::Looks && (!self.down || wanted <= FIRST) {
            self.down = true;
            return self.settle(now);
        }
        self.learn(rate, wanted, now);
    }

    /// Another association was not to be had, while so many others were at work.
    pub fn refused(&mut self, at_work: usize, now: Instant) {
        let at_work = at_work.max(1);
        self.ceiling = Some((at_work, now + self.believed));
        self.believed = self.believed.saturating_mul(2).min(REFUSED.1);
        self.wanted = at_work.min(self.most);
        self.settle(now);
    }

    /// The link was away for a while: what was measured meanwhile says nothing. More than what was known to be good are not
    /// tried on for ever where interruptions come faster than measurements end: it goes back to that.
    pub fn interrupted(&mut self, now: Instant) {
        self.measured = None;
        if let Step::Tries { before, .. } = self.step {
            self.wanted = self.wanted.min(before);
            self.settle(now);
        }
    }

    /// Another association was not to be had because nothing got through: that says nothing about the archive. It is tried
    /// again soon.
    pub fn not_reached(&mut self, at_work: usize, now: Instant) {
        let soon = now + UNREACHED;
        if self.ceiling.is_none_or(|(_, until)| until < soon) {
            self.ceiling = Some((at_work.max(1), soon));
        }
        self.measured = None;
    }

    /// The destination has failed.
    pub fn failed(&mut self) {
        *self = Self::new(self.most);
    }

    /// So many bytes in a second came through with so many.
    fn learn(&mut self, rate: f64, width: usize, now: Instant) {
        match self.step {
            Step::Rests(_) => {}
            Step::Looks if self.down && width > FIRST => {
                self.step = Step::Tries { before: width, rate };
                self.wanted = (width - width.div_ceil(4)).max(FIRST);
            }
            Step::Looks => self.widen(rate, width, now),
            Step::Tries { before, rate: rate_before } if width < before => {
                if rate < rate_before * (1.0 - AS_GOOD) {
                    self.wanted = before;
                }
                self.down = false;
                self.settle(now);
            }
            Step::Tries { before, rate: rate_before } => {
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let at_best = width as f64 / before.max(1) as f64 - 1.0;
                if rate >= rate_before * (1.0 + WORTH_IT * at_best) {
                    self.rest = REST.0;
                    self.widen(rate, width, now);
                } else {
                    self.wanted = before;
                    self.down = true;
                    self.settle(now);
                }
            }
        }
    }

    fn widen(&mut self, rate: f64, width: usize, now: Instant) {
        let wider = (width * 2).min(self.limit(now));
        if wider == width {
            self.down = true;
            self.settle(now);
            return;
        }
        self.step = Step::Tries { before: width, rate };
        self.wanted = wider;
    }

    fn settle(&mut self, now: Instant) {
        self.step = Step::Rests(now + self.rest);
        self.rest = self.rest.saturating_mul(2).min(REST.1);
        self.measured = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link in virtual time: each association alone gets `alone` bytes in a second, all together at most `together`.
    struct Link {
        alone: f64,
        together: f64,
        now: Instant,
        through: u64,
        width: Width,
    }

    const SIZE: u64 = 130_000;

    impl Link {
        fn new(most: usize, alone: f64, together: f64) -> Self {
            Self { alone, together, now: crate::clock::now(), through: 0, width: Width::new(most) }
        }

        /// Lets so many instances come through; gives how many were wanted at the end.
        fn carry(&mut self, instances: usize) -> usize {
            for _ in 0..instances {
                let wanted = self.width.wanted(self.now);
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let rate = (self.alone * wanted as f64).min(self.together);
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let took = Duration::from_secs_f64(SIZE as f64 / rate);
                self.now += took;
                self.through += SIZE;
                let seen = Seen { through: self.through, is_full: false };
                self.width.answered(wanted, || seen, self.now);
            }
            self.width.wanted(self.now)
        }
    }

    #[test]
    fn a_long_link_gets_as_many_as_it_has_room_for_and_soon() {
        // 10 Mbit/s, and one association that waits 300 ms after each instance that takes 104 ms.
        let mut link = Link::new(16, 320_000.0, 1_250_000.0);
        let began = link.now;
        assert!(link.carry(30) >= 4);
        assert!(link.now - began < Duration::from_secs(6), "{:?}", link.now - began);
        for _ in 0..100 {
            let wanted = link.carry(200);
            assert!((3..=8).contains(&wanted), "{wanted}");
        }
    }

    #[test]
    fn over_a_long_way_there_are_more_at_once_and_as_soon_as_there_is_one() {
        let now = crate::clock::now();
        for (round_trip, expected) in [(None, 4), (Some(Duration::from_millis(20)), 4), (Some(FAR), 8)] {
            let mut width = Width::new(16);
            assert_eq!(width.wanted(now), 1);
            width.begun(|| round_trip);
            assert_eq!(width.wanted(now), expected);
        }
        let mut width = Width::new(6);
        width.begun(|| Some(FAR));
        assert_eq!(width.wanted(now), 6);
        width.refused(2, now);
        width.begun(|| Some(FAR));
        assert_eq!(width.wanted(now), 2, "what was learned stays");
    }

    #[test]
    fn what_does_not_move_is_made_up_for_as_far_as_there_may_be_so_many() {
        let (mut width, now) = (Width::new(10), crate::clock::now());
        assert_eq!(width.wanted_beside(8, now), 1);
        width.begun(|| Some(FAR));
        assert_eq!((width.wanted_beside(0, now), width.wanted_beside(1, now), width.wanted_beside(8, now)), (8, 9, 10));
        width.refused(8, now);
        assert_eq!(width.wanted_beside(8, now), 8);
    }

    #[test]
    fn where_they_could_send_more_than_they_may_more_of_them_are_not_tried() {
        for (round_trip, most) in [(None, FIRST), (Some(FAR), FIRST_FAR)] {
            let (mut width, start) = (Width::new(16), crate::clock::now());
            width.begun(|| round_trip);
            for n in 0..5_000 {
                let now = start + Duration::from_secs(1) * n;
                let seen = Seen { through: u64::from(n) * SIZE, is_full: true };
                width.answered(width.wanted(now), || seen, now);
                assert!(width.wanted(now) <= most);
            }
        }
    }

    #[test]
    fn where_one_fills_the_link_it_comes_down_to_few_and_stays_there() {
        let mut link = Link::new(8, 1e6, 1e6);
        link.carry(20_000);
        for _ in 0..50 {
            assert!(link.carry(100) <= 4);
        }
    }

    #[test]
    fn a_limit_of_one_is_kept_and_nothing_is_learned_while_little_waits() {
        let mut link = Link::new(1, 1e5, 1e7);
        assert_eq!(link.carry(1_000), 1);
        let (mut width, now) = (Width::new(8), crate::clock::now());
        for second in 0..1_000 {
            let seen = Seen { through: second * SIZE, is_full: false };
            width.answered(1, || seen, now + Duration::from_secs(second));
        }
        assert_eq!(width.wanted(now), FIRST);
    }

    #[test]
    fn an_archive_that_takes_no_more_is_believed_for_a_while_and_then_asked_again() {
        let mut link = Link::new(16, 1e5, 1e8);
        link.width.refused(1, link.now);
        assert_eq!(link.carry(100), 1);
        link.now += REFUSED.0;
        assert!(link.carry(2_000) > 1);
        link.width.refused(3, link.now);
        assert_eq!(link.width.wanted(link.now + REFUSED.0), 3, "twice as long the second time");
        link.width.failed();
        assert_eq!(link.width.wanted(link.now), 1, "it may be another link");
    }

    #[test]
    fn an_outage_takes_nothing_from_what_was_learned() {
        let mut link = Link::new(8, 320_000.0, 1e8);
        assert_eq!(link.carry(400), 8);
        link.now += Duration::from_secs(20);
        link.width.interrupted(link.now);
        link.width.not_reached(5, link.now);
        assert_eq!(link.width.wanted(link.now), 5);
        assert_eq!(link.width.wanted(link.now + UNREACHED), 8);
    }

    #[test]
    fn more_than_what_is_known_to_be_good_are_not_tried_on_over_a_link_that_is_often_away() {
        // Two fill it; each measurement of more takes longer than the link is there.
        let mut link = Link::new(64, 60_000.0, 100_000.0);
        for _ in 0..50 {
            link.carry(15);
            link.width.interrupted(link.now);
            link.now += Duration::from_secs(20);
            assert!(link.width.wanted(link.now) <= 4, "{}", link.width.wanted(link.now));
        }
    }
}
