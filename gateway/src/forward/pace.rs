//! What holds back what leaves: the [`Shaping`] of each destination and that of the box, over all connections together.
//!
//! ```text
//!  Wire ── may I? ──▶ Pace of the destination ──▶ Pace of the box        grants bytes, and says from when on
//!                          ▲            ▲              ▲
//!                          └──────── Pacer ────────────┘                 ten times a second: what really went, by the
//!                                                                        kernel; the delay it has met; the clock
//! ```
//!
//! A [`super::wire::Wire`] asks before it writes, for a few milliseconds' worth at a time, so that many connections share a rate
//! evenly and nothing goes in a burst. What it asks for is an estimate: headers are reckoned, what is sent twice is not known
//! yet. The [`Pacer`](super::pacer::Pacer) asks the kernel what went, and puts the difference right, so that the rate holds for
//! what the link really carries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use super::delay::Took;
use super::wire::Volume;
use crate::shaping::by_delay::{self, ByDelay, Look};
use crate::shaping::{Allowance, Bucket, Rate, Shaping, Usage, bucket, monthly};

/// How much is asked for at once: so much time's worth.
const PORTION: Duration = Duration::from_millis(3);
/// The most that is asked for at once, in bytes.
const LARGEST_PORTION: usize = 64 << 10;
/// Somebody waits for so much of the time where more connections would bring nothing.
const FULL: f64 = 0.9;
/// And of so long.
const REMEMBERED: Duration = Duration::from_secs(2);

/// What holds for a destination, or for the box. Shared by all connections.
#[derive(Debug, Default)]
pub struct Pace {
    /// That of the box, for the one of a destination.
    above: Option<Arc<Pace>>,
    state: Mutex<State>,
    /// Whether there is a rate to keep.
    limited: AtomicBool,
    /// Bytes that were written, headers reckoned.
    pub(super) written: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    shaping: Shaping,
    bucket: Bucket,
    /// What follows the delay of the link, if something does.
    by_delay: Option<ByDelay>,
    /// What rate and hours allow, or allowed the last time that they allowed anything.
    by_clock: Option<Rate>,
    pub(super) usage: Usage,
    /// Why nothing more is begun, if that is so.
    pub(super) closed: Option<Closed>,
    /// Until when somebody waits, or waited the last time.
    held_back: Option<Instant>,
    /// When it was known last what the link takes, and how many bytes had got through until then, headers included.
    looked: Option<Instant>,
    through: u64,
    /// For how much of the time somebody has waited of late, between 0 and 1.
    waited: f64,
    pub(super) speed: Speed,
    pub(super) changed: bool,
}

/// What has gone over the link in the last seconds, headers included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Speed {
    /// Bytes sent in a second.
    pub sent_per_second: u64,
    /// Bytes received in a second.
    pub received_per_second: u64,
    /// Of a thousand bytes sent, how many were sent again.
    pub repeated_per_mille: u64,
}

impl Speed {
    pub(super) fn between(before: Volume, after: Volume, time: Duration) -> Self {
        let per_second = |bytes: u64| u128::from(bytes) * 1_000 / time.as_millis().max(1);
        let (sent, received) = (after.sent.saturating_sub(before.sent), after.received.saturating_sub(before.received));
        let repeated = after.repeated.saturating_sub(before.repeated);
        Self {
            sent_per_second: u64::try_from(per_second(sent)).unwrap_or(u64::MAX),
            received_per_second: u64::try_from(per_second(received)).unwrap_or(u64::MAX),
            repeated_per_mille: repeated.saturating_mul(1_000).checked_div(sent).unwrap_or(0),
        }
    }
}

/// Why nothing more is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "because")]
pub enum Closed {
    /// The hours say so, until this local time if they ever say something else.
    Hours {
        /// When they end.
        until: Option<DateTime>,
    },
    /// The volume of the month is used up.
    Volume {
        /// The day on which the next month begins.
        until: jiff::civil::Date,
    },
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hours { until: Some(until) } => write!(f, "closed by hours until {}", until.strftime("%a %H:%M")),
            Self::Hours { until: None } => write!(f, "closed by hours for ever"),
            Self::Volume { until } => write!(f, "the volume of the month is used up, until {until}"),
        }
    }
}

/// How it stands with a [`Pace`], to be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// What has gone in the last seconds.
    #[serde(flatten)]
    pub speed: Speed,
    /// The rate that is kept at the moment because it was asked for, in bits per second; nothing if there is none.
    pub rate: Option<Rate>,
    /// Whether that rate follows the delay of the link.
    pub courteous: bool,
    /// What the link carries of late as far as that is known, in bits per second: no more is sent, so that nothing is lost in
    /// front of it.
    pub carries: Option<Rate>,
    /// Why nothing more is begun, if that is so.
    pub closed: Option<Closed>,
    /// Bytes that went both ways in the present month, headers included.
    pub used: u64,
    /// What that will be at the end of the month, if it goes on like in the last days.
    pub forecast: u64,
    /// How much there may be.
    pub volume: Option<u64>,
}

impl Pace {
    /// The pace of the box.
    #[must_use]
    pub fn of_box(shaping: Shaping) -> Arc<Self> {
        Self::new(shaping, None)
    }

    /// The pace of a destination, below that of the box.
    #[must_use]
    pub fn of_destination(shaping: Shaping, above: &Arc<Self>) -> Arc<Self> {
        Self::new(shaping, Some(Arc::clone(above)))
    }

    fn new(shaping: Shaping, above: Option<Arc<Self>>) -> Arc<Self> {
        let pace = Self { above, ..Self::default() };
        pace.state().by_delay = pace.by_delay(None);
        pace.reshape(shaping);
        Arc::new(pace)
    }

    /// Holds back by other rules from the next look on, which is within a second; false if they are the same.
    pub fn reshape(&self, shaping: Shaping) -> bool {
        let mut state = self.state();
        if state.shaping == shaping {
            return false;
        }
        if shaping.courteous != state.shaping.courteous {
            state.by_delay = self.by_delay(shaping.courteous);
        }
        state.shaping = shaping;
        true
    }

    /// What follows the delay where so much may be added. Destinations fill their links otherwise; of all that leaves the
    /// box nobody knows whether it goes over one link.
    fn by_delay(&self, courteous: Option<Duration>) -> Option<ByDelay> {
        courteous.map(ByDelay::courteous).or_else(|| self.above.is_some().then(ByDelay::filling))
    }

    /// Why nothing more is begun for it; `urgent` says whether what is to be begun is. Nothing if it may.
    #[must_use]
    pub fn closed(&self, urgent: bool) -> Option<Closed> {
        let state = self.state();
        let own = state.closed.filter(|_| !(urgent && state.shaping.urgent_overrules));
        drop(state);
        own.or_else(|| self.above.as_ref()?.closed(urgent))
    }

    /// How it stands at a local time.
    #[must_use]
    pub fn standing(&self, local: DateTime) -> Standing {
        let state = self.state();
        Standing {
            speed: state.speed,
            rate: state.by_clock.into_iter().chain(state.rate_by_delay(true)).min(),
            courteous: state.by_delay.as_ref().is_some_and(ByDelay::is_courteous),
            carries: state.rate_by_delay(false),
            closed: state.closed,
            used: state.usage.used(),
            forecast: state.usage.forecast(local, state.begins()),
            volume: state.shaping.monthly.map(|monthly| monthly.volume),
        }
    }

    /// Whether others come first, here or above.
    pub(super) fn is_courteous(&self) -> bool {
        let is_courteous = self.state().by_delay.as_ref().is_some_and(ByDelay::is_courteous);
        is_courteous || self.above.as_ref().is_some_and(|above| above.is_courteous())
    }

    /// Whether there is a rate to keep, here or above.
    pub(super) fn is_limited(&self) -> bool {
        self.limited.load(Ordering::Relaxed) || self.above.as_ref().is_some_and(|above| above.is_limited())
    }

    /// The rate that is kept, the lesser of that here and that above; nothing if there is none.
    pub(super) fn rate(&self) -> Option<Rate> {
        let own = self.state().bucket.rate();
        own.into_iter().chain(self.above.as_ref().and_then(|above| above.rate())).min()
    }

    /// Whether there is nearly always somebody who waits, here or above: more than what leaves could.
    pub(super) fn is_full(&self) -> bool {
        self.state().waited >= FULL || self.above.as_ref().is_some_and(|above| above.is_full())
    }

    /// Takes note of whether somebody waits; it was looked so long ago for the last time.
    pub(super) fn look_who_waits(&self, since: Duration, now: Instant) {
        let mut state = self.state();
        let waits = if state.held_back.is_some_and(|until| until > now) { 1.0 } else { 0.0 };
        let weight = since.div_duration_f64(REMEMBERED).min(1.0);
        state.waited += (waits - state.waited) * weight;
    }

    /// How many of `wanted` bytes are to be asked for at once: whole segments.
    pub(super) fn portion(&self, wanted: usize, segment: usize) -> usize {
        let most = |rate: Rate| usize::try_from(rate.bytes_in(PORTION)).unwrap_or(LARGEST_PORTION);
        let portion = self.rate().map_or(LARGEST_PORTION, |rate| most(rate).min(LARGEST_PORTION));
        wanted.min((portion / segment.max(1) * segment).max(segment))
    }

    /// Grants so many bytes on the link, and says from when on.
    pub(super) fn grant(&self, bytes: u64, urgent: bool, now: Instant) -> Instant {
        let mut state = self.state();
        let own = if urgent && state.shaping.urgent_overrules {
            state.bucket.grant_at_once(bytes, now);
            now
        } else {
            state.bucket.grant(bytes, now)
        };
        if own > now {
            state.held_back = Some(own);
        }
        drop(state);
        self.above.as_ref().map_or(own, |above| above.grant(bytes, urgent, now).max(own))
    }

    /// So many bytes of what was granted will not be used.
    pub(super) fn give_back(&self, bytes: u64, now: Instant) {
        if bytes > 0 {
            self.correct(i64::try_from(bytes).map_or(i64::MIN, |bytes| -bytes), now);
        }
    }

    /// So many bytes of what was granted were written.
    pub(super) fn written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was granted was so many bytes more, or less, in truth.
    pub(super) fn correct(&self, bytes: i64, now: Instant) {
        self.state().bucket.correct(bytes, now);
        if let Some(above) = &self.above {
            above.correct(bytes, now);
        }
    }

    /// Counts what went both ways.
    pub(super) fn count(&self, bytes: u64, local: DateTime) {
        let mut state = self.state();
        let (before, begins) = (state.usage.used(), state.begins());
        state.usage.add(bytes, local.date(), begins);
        state.changed |= before != state.usage.used();
    }

    /// Takes note of what the link took of late, if that is known, and of how much has got through it in all.
    pub(super) fn look(&self, took: Option<Took>, through: u64, now: Instant) {
        let state = &mut *self.state();
        let (Some(by_delay), Some(Took { round_trip, queue })) = (&mut state.by_delay, took) else { return };
        let last = state.looked.replace(now);
        let busy = state.held_back.is_some_and(|until| last.is_none_or(|last| until > last));
        let gained = through.saturating_sub(std::mem::replace(&mut state.through, through));
        by_delay.look(Look { round_trip, queue, through: gained, busy }, now);
        self.set_rate(state, now);
    }

    /// Goes by the clock on the wall. Gives whether what may be begun has changed.
    pub(super) fn follow(&self, local: DateTime, now: Instant) -> bool {
        let mut state = self.state();
        let allowance = state.shaping.at(local);
        let is_spent = state.shaping.monthly.is_some_and(|monthly| state.usage.used() >= monthly.volume);
        let closed = match allowance {
            _ if is_spent => Some(Closed::Volume { until: monthly::end(local.date(), state.begins()) }),
            Allowance::Closed => Some(Closed::Hours { until: state.shaping.next_change(local) }),
            Allowance::Unlimited | Allowance::AtMost(_) => None,
        };
        let has_changed = closed.is_some() != state.closed.is_some();
        state.closed = closed;
        match allowance {
            Allowance::Unlimited => state.by_clock = None,
            Allowance::AtMost(rate) => state.by_clock = Some(rate),
            // What is under way is finished at the rate that held before.
            Allowance::Closed => {}
        }
        self.set_rate(&mut state, now);
        has_changed
    }

    /// Keeps the least of the rates that hold.
    fn set_rate(&self, state: &mut State, now: Instant) {
        let (courteous, filling) = (state.rate_by_delay(true), state.rate_by_delay(false));
        let slack = if courteous.is_some() { by_delay::SLACK } else { bucket::SLACK };
        let rate = state.by_clock.into_iter().chain(courteous).chain(filling).min();
        state.bucket.set_rate(rate, slack, now);
        self.limited.store(rate.is_some(), Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The rate that follows the delay, if it does so in this manner.
    fn rate_by_delay(&self, courteous: bool) -> Option<Rate> {
        self.by_delay.as_ref().filter(|by_delay| by_delay.is_courteous() == courteous)?.rate()
    }

    fn begins(&self) -> i8 {
        self.shaping.monthly.map_or(1, |monthly| monthly.begins)
    }
}
