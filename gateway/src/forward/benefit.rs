//! Whether it pays to make an instance smaller for a destination, and in which transfer syntax. Pure: time is an argument.
//!
//! Making smaller runs beside the sending, so of both the slower one decides:
//!
//! ```text
//! carried in a transfer syntax = the lesser of  speed of the codec on all processors,  what leaves in a second / ratio
//! carried as stored            =                what leaves in a second
//! ```
//!
//! in bytes a second of the stored data sets. Over a slow link the best ratio wins, over a fast one a quick codec, or none:
//! a fast link is not slowed by a slow codec. Where nothing is known of the link, the best ratio wins, too.
//!
//! - [`Experience`] is of the whole box: the ratio and the speed that each kind of instance has reached in each transfer
//!   syntax. It fades with every further instance.
//! - [`Benefit`] is of one destination: what it chose for each kind, and what it still has to find out. To begin
//!   with it needs a clear gain (`CLEARLY`), so that it does not go back and forth.
//! - A kind of which nothing is known is tried, the other transfer syntaxes that are possible `SOON` afterwards, and
//!   whatever was not chosen again at times (`AGAIN`).
//! - Where instances leave smaller, it is not known how many would arrive as stored: over a link on which the round trips
//!   take the time, more than the bytes tell. If that matters, because the codec may be what holds things up, a few (`SAMPLE`)
//!   leave as stored, and are measured.
//!
//! Both remember so many kinds and no more. What was prepared already costs nothing; nobody asks here for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::Uid;
use crate::spool::InstanceHeader;

/// A result that has more of the stored data set than this part is not worth it.
pub const WORTH_IT: f64 = 0.95;
/// How many times as much must be carried for it to be begun at all.
const CLEARLY: f64 = 1.2;
/// How many times as much must be carried for another transfer syntax.
const NOTABLY: f64 = 1.05;
/// After so many instances of the kind a transfer syntax that was never used for it is tried.
const SOON: u32 = 16;
/// After so many instances of the kind, or so long, one that was not chosen is tried again.
const AGAIN: (u32, Duration) = (500, Duration::from_secs(600));
/// Instances that leave as stored for a measurement.
const SAMPLE: u32 = 8;
/// How much of what was measured is left after one more instance.
const KEPT: f64 = 0.875;
/// Kinds that are remembered.
const KINDS: usize = 64;

/// What instances have in common that are about as large and as long in the making when they are made smaller; also what the
/// negotiation of a presentation context is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// SOP Class UID.
    pub sop_class: Uid,
    /// The transfer syntax in which they are stored.
    pub transfer_syntax: Uid,
}

impl Kind {
    /// That of an instance with this header.
    #[must_use]
    pub fn of(header: &InstanceHeader) -> Self {
        Self { sop_class: header.sop_class_uid.clone(), transfer_syntax: header.transfer_syntax.clone() }
    }
}

/// What a transfer syntax makes of a kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Bytes of the results for each byte as stored.
    pub ratio: f64,
    /// Bytes, as stored, that are made smaller in a second; of an [`Experience`] by one processor.
    pub speed: f64,
    /// When that was measured last.
    pub at: Instant,
}

/// What a link carries, in bytes a second; nothing where nothing was measured of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// What leaves.
    pub sent: Option<u64>,
    /// What arrives, as it is stored here.
    pub stored: Option<u64>,
    /// What arrives when it leaves as stored.
    pub as_stored: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Experience {
    kinds: BTreeMap<Kind, BTreeMap<Uid, Sums>>,
}

#[derive(Debug, Clone, Copy)]
struct Sums {
    stored: f64,
    results: f64,
    seconds: f64,
    at: Instant,
}

impl Experience {
    /// An instance of so many bytes was made smaller, in so long, to so many; nothing if it did not become smaller.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn learn(&mut self, kind: &Kind, to: &Uid, (stored, result): (u64, Option<u64>), took: Duration, now: Instant) {
        if !self.kinds.contains_key(kind) && self.kinds.len() >= KINDS {
            let latest = |results: &BTreeMap<Uid, Sums>| results.values().map(|sums| sums.at).max();
            let oldest = self.kinds.iter().min_by_key(|(_, results)| latest(results)).map(|(kind, _)| kind.clone());
            oldest.and_then(|oldest| self.kinds.remove(&oldest));
        }
        let results = self.kinds.entry(kind.clone()).or_default();
        let sums = results.entry(to.clone()).or_insert(Sums { stored: 0.0, results: 0.0, seconds: 0.0, at: now });
        *sums = Sums {
            stored: sums.stored * KEPT + stored as f64,
            results: sums.results * KEPT + result.unwrap_or(stored) as f64,
            seconds: sums.seconds * KEPT + took.as_secs_f64(),
            at: now,
        };
    }

    /// What is known of a kind in a transfer syntax.
    #[must_use]
    pub fn of(&self, kind: &Kind, to: &Uid) -> Option<Measured> {
        let sums = self.kinds.get(kind)?.get(to).filter(|sums| sums.stored > 0.0)?;
        // What took no time that could be measured took a microsecond.
        Some(Measured { ratio: sums.results / sums.stored, speed: sums.stored / sums.seconds.max(1e-6), at: sums.at })
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Benefit {
    kinds: BTreeMap<Kind, Standing>,
}

/// Where a destination stands with a kind.
#[derive(Debug, Clone)]
struct Standing {
    /// What was chosen; nothing if instances leave as stored.
    choice: Option<Uid>,
    /// Since something was tried that was not the choice.
    since_trial: u32,
    tried: Instant,
    /// How many are still to leave as stored for a measurement, and since when the latest one.
    sample: u32,
    sampled: Option<Instant>,
}

impl Benefit {
    /// In what the next instance of this kind is to leave, of the transfer syntaxes that are possible and accepted, the one
    /// that is likely to be smallest first, each with what is known of it; nothing if it is to leave as stored.
    pub fn choose(
        &mut self,
        kind: &Kind,
        options: &[(Uid, Option<Measured>)],
        link: &Link,
        now: Instant,
    ) -> Option<Uid> {
        let (first, _) = options.first()?;
        let standing = self.standing(kind, now);
        standing.since_trial = standing.since_trial.saturating_add(1);
        if options.iter().all(|(_, measured)| measured.is_none()) {
            standing.tries(Some(first), now);
            return standing.choice.clone();
        }
        if let Some(trial) = standing.trial(options, now) {
            (standing.since_trial, standing.tried) = (0, now);
            return Some(trial);
        }
        let chosen = standing.best(options, link);
        if let Some((to, measured)) = &chosen
            && standing.samples(measured, link, now)
        {
            standing.choice = Some(to.clone());
            return None;
        }
        standing.choice = chosen.map(|(to, _)| to);
        standing.choice.clone()
    }

    fn standing(&mut self, kind: &Kind, now: Instant) -> &mut Standing {
        if !self.kinds.contains_key(kind) && self.kinds.len() >= KINDS {
            let oldest = self.kinds.iter().min_by_key(|(_, standing)| standing.tried).map(|(kind, _)| kind.clone());
            oldest.and_then(|oldest| self.kinds.remove(&oldest));
        }
        let new = Standing { choice: None, since_trial: 0, tried: now, sample: 0, sampled: None };
        self.kinds.entry(kind.clone()).or_insert(new)
    }
}

impl Standing {
    fn tries(&mut self, choice: Option<&Uid>, now: Instant) {
        self.choice = choice.cloned();
        (self.since_trial, self.tried) = (0, now);
    }

    /// What is to be tried now although it is not the choice: what nothing is known of, then what was measured longest ago.
    fn trial(&self, options: &[(Uid, Option<Measured>)], now: Instant) -> Option<Uid> {
        let others = || options.iter().filter(|(to, _)| Some(to) != self.choice.as_ref());
        let unknown = others().find(|(_, measured)| measured.is_none());
        if self.since_trial >= SOON
            && let Some((to, _)) = unknown
        {
            return Some(to.clone());
        }
        let (instances, time) = AGAIN;
        if self.since_trial < instances && now.saturating_duration_since(self.tried) < time {
            return None;
        }
        others().min_by_key(|(_, measured)| measured.map(|measured| measured.at)).map(|(to, _)| to.clone())
    }

    /// What carries most.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn best(&self, options: &[(Uid, Option<Measured>)], link: &Link) -> Option<(Uid, Measured)> {
        let carried = |measured: &Measured| match link.sent {
            Some(sent) => measured.speed.min(sent as f64 / measured.ratio),
            // Nothing is known of the link: the smallest.
            None => 1.0 / measured.ratio,
        };
        let known = options.iter().filter_map(|(to, measured)| Some((to, (*measured)?)));
        let worth_it = known.filter(|(_, measured)| measured.ratio > 0.0 && measured.ratio <= WORTH_IT);
        let weighed = worth_it.map(|(to, measured)| {
            let (is_choice, carried) = (Some(to) == self.choice.as_ref(), carried(&measured));
            (to, measured, carried, carried * if is_choice { NOTABLY } else { 1.0 })
        });
        let (to, measured, carried, _) = weighed.max_by(|a, b| a.3.total_cmp(&b.3))?;
        let as_stored = match link.sent {
            Some(sent) => link.as_stored.unwrap_or(sent) as f64,
            None => 0.0,
        };
        let needed = if self.choice.is_some() { as_stored } else { as_stored * CLEARLY };
        (carried >= needed).then(|| (to.clone(), measured))
    }

    /// Whether this one leaves as stored, so that it is known what the link carries so.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn samples(&mut self, measured: &Measured, link: &Link, now: Instant) -> bool {
        if self.sample > 0 {
            self.sample -= 1;
            return true;
        }
        let codec_may_be_slower = link.stored.is_some_and(|stored| measured.speed < stored as f64);
        let was_sampled = self.sampled.is_some_and(|at| now.saturating_duration_since(at) < AGAIN.1);
        if link.as_stored.is_some() || was_sampled || !codec_may_be_slower {
            return false;
        }
        (self.sample, self.sampled) = (SAMPLE - 1, Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::pixels::{JPEG_LS, RLE};

    const MB: u64 = 1_000_000;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn kind(number: usize) -> Kind {
        Kind { sop_class: uid(&format!("1.2.{number}")), transfer_syntax: uid("1.2.840.10008.1.2") }
    }

    fn measured(ratio: f64, megabytes: u32, now: Instant) -> Option<Measured> {
        Some(Measured { ratio, speed: f64::from(megabytes) * 1e6, at: now })
    }

    /// A link on which nothing but the bytes takes time.
    fn link(megabytes: u64) -> Link {
        Link { sent: Some(megabytes * MB), stored: Some(megabytes * MB), as_stored: Some(megabytes * MB) }
    }

    /// JPEG-LS at a quarter of the size and 40 MB/s, RLE at 0.6 and 200 MB/s.
    fn both(now: Instant) -> Vec<(Uid, Option<Measured>)> {
        vec![(uid(JPEG_LS), measured(0.25, 40, now)), (uid(RLE), measured(0.6, 200, now))]
    }

    #[test]
    fn the_slower_the_link_the_smaller_and_a_fast_link_is_left_alone() {
        let now = clock::now();
        for (megabytes, expected) in
            [(1, Some(JPEG_LS)), (10, Some(JPEG_LS)), (30, Some(RLE)), (100, Some(RLE)), (170, None), (1_000, None)]
        {
            let chosen = Benefit::default().choose(&kind(0), &both(now), &link(megabytes), now);
            assert_eq!(chosen.as_ref().map(Uid::as_str), expected, "{megabytes} MB/s");
        }
        let chosen = Benefit::default().choose(&kind(0), &both(now), &Link::default(), now);
        assert_eq!(chosen, Some(uid(JPEG_LS)), "nothing is known of the link");
    }

    #[test]
    fn a_kind_that_is_not_known_is_tried_and_the_other_transfer_syntaxes_soon_after() {
        let (now, mut benefit) = (clock::now(), Benefit::default());
        let mut options = vec![(uid(JPEG_LS), None), (uid(RLE), None)];
        assert_eq!(benefit.choose(&kind(0), &options, &link(1), now), Some(uid(JPEG_LS)));
        options[0].1 = measured(0.25, 40, now);
        for _ in 1..SOON {
            assert_eq!(benefit.choose(&kind(0), &options, &link(1), now), Some(uid(JPEG_LS)));
        }
        assert_eq!(benefit.choose(&kind(0), &options, &link(1), now), Some(uid(RLE)));
        options[1].1 = measured(0.2, 40, now);
        assert_eq!(benefit.choose(&kind(0), &options, &link(1), now), Some(uid(RLE)), "the better one is chosen");
        assert_eq!(benefit.choose(&kind(0), &[], &link(1), now), None, "nothing is possible");
    }

    #[test]
    fn what_saves_too_little_leaves_as_stored_and_is_tried_again_at_times() {
        let (now, mut benefit) = (clock::now(), Benefit::default());
        let options = [(uid(JPEG_LS), measured(0.96, 40, now))];
        let mut tried = Vec::new();
        for number in 1..=2 * AGAIN.0 {
            if benefit.choose(&kind(0), &options, &link(1), now).is_some() {
                tried.push(number);
            }
        }
        assert_eq!(tried, [AGAIN.0, 2 * AGAIN.0]);
        assert_eq!(benefit.choose(&kind(0), &options, &link(1), now), None);
        assert_eq!(benefit.choose(&kind(0), &options, &link(1), now + AGAIN.1), Some(uid(JPEG_LS)));
        assert_eq!(benefit.choose(&kind(0), &options, &link(1), now + AGAIN.1), None);
    }

    #[test]
    fn a_change_of_mind_needs_a_clear_gain() {
        let (now, mut benefit) = (clock::now(), Benefit::default());
        let options = [(uid(JPEG_LS), measured(0.25, 40, now))];
        let mut chosen = |megabytes| benefit.choose(&kind(0), &options, &link(megabytes), now).is_some();
        assert!(!chosen(36), "a tenth more is not enough to begin with");
        assert!(chosen(32));
        assert!(chosen(39), "and what was begun goes on as long as it loses nothing");
        assert!(!chosen(41));
        assert!(!chosen(36));
    }

    #[test]
    fn if_the_codec_may_hold_things_up_it_is_measured_what_the_link_carries_as_stored() {
        let (now, mut benefit) = (clock::now(), Benefit::default());
        let options = [(uid(JPEG_LS), measured(0.25, 12, now))];
        // The archive takes 20 ms for each instance, whatever its size: 6 MB/s leave, which are 24 MB/s as stored.
        let smaller = Link { sent: Some(6 * MB), stored: Some(24 * MB), as_stored: None };
        for _ in 0..SAMPLE {
            assert_eq!(benefit.choose(&kind(0), &options, &smaller, now), None);
        }
        assert_eq!(benefit.choose(&kind(0), &options, &smaller, now), Some(uid(JPEG_LS)), "not all the time");
        let known = Link { as_stored: Some(21 * MB), ..smaller };
        assert_eq!(benefit.choose(&kind(0), &options, &known, now), None);
        // Over a slow link the question does not come up.
        let slow = Link { sent: Some(MB), stored: Some(4 * MB), as_stored: None };
        assert_eq!(Benefit::default().choose(&kind(0), &options, &slow, now), Some(uid(JPEG_LS)));
    }

    #[test]
    fn experience_is_of_late_and_of_so_many_kinds() {
        let (now, mut experience) = (clock::now(), Experience::default());
        for _ in 0..100 {
            experience.learn(&kind(0), &uid(JPEG_LS), (MB, Some(MB / 4)), Duration::from_millis(100), now);
        }
        for _ in 0..100 {
            experience.learn(&kind(0), &uid(JPEG_LS), (MB, None), Duration::from_millis(50), now);
        }
        let known = experience.of(&kind(0), &uid(JPEG_LS)).unwrap();
        assert!((known.ratio - 1.0).abs() < 0.01 && (known.speed - 20e6).abs() < 1e5, "{known:?}");
        assert_eq!(experience.of(&kind(0), &uid(RLE)), None);
        for number in 1..=KINDS {
            let at = now + Duration::from_secs(number as u64);
            experience.learn(&kind(number), &uid(RLE), (MB, Some(MB)), Duration::ZERO, at);
        }
        assert_eq!(experience.of(&kind(0), &uid(JPEG_LS)), None, "the oldest is forgotten");
        assert!(experience.of(&kind(1), &uid(RLE)).is_some());
        let mut benefit = Benefit::default();
        for number in 0..=KINDS {
            let _ = benefit.choose(&kind(number), &both(now), &link(1), now + Duration::from_secs(number as u64));
        }
        assert_eq!(benefit.kinds.len(), KINDS);
    }
}
