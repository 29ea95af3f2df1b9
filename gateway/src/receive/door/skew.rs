//! How far a modality's clock is from ours, from the times in what it sends.
//!
//! The latest time in a data set is a moment at which the modality's clock had been read already when the instance came
//! here. If it lies in our future, the modality's clock is ahead, by at least as much. If it lies in our past, the data
//! may just be old: that the clock is behind can only be guessed, from the instance that was the least late of many.
//!
//! One data set with a nonsensical date must not decide. So the least late instance but one counts.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::receive::scan::Moment;

/// How many instances are looked at: the last ones, so that a clock that was set is seen to be right soon.
pub const INSTANCES: usize = 16;

/// Less late than this is ahead; between it and 0 is the network, the rounding of times, and what a clock may be off.
const AHEAD: i64 = -5;
/// Whoever sends later than this after the acquisition, always, might have a clock that is behind.
const OLD: i64 = 600;
/// Time zones differ by multiples of this, in seconds.
const ZONE_STEP: i64 = 900;
/// How exactly a difference must be one of zones to look like one, in seconds.
const ZONE_EXACT: i64 = 120;

/// How long after the latest time in its data set an instance was here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lateness {
    /// In seconds; negative if that time lies in our future.
    pub seconds: i64,
    /// The data set names its offset from UTC; otherwise that of this box was taken.
    pub zone_known: bool,
}

/// What can be said of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// It is not ahead, and not far behind.
    InStep,
    /// It is ahead, by this at least.
    Ahead(Duration),
    /// It is ahead by as much as time zones differ, and does not say in which one it is.
    AheadOrElsewhere(Duration),
    /// What it sends is always this old.
    PerhapsBehind(Duration),
}

/// How late the instance was that is here at `received`; `zone` is where this box is.
#[must_use]
pub fn lateness(moment: &Moment, received: Timestamp, zone: &TimeZone) -> Option<Lateness> {
    let offset_zone = moment.offset.map(jiff::tz::Offset::to_time_zone);
    let zone_known = offset_zone.is_some();
    let zoned = moment.civil.to_zoned(offset_zone.unwrap_or_else(|| zone.clone())).ok()?;
    let received = i64::try_from(received.as_millis() / 1_000).ok()?;
    Some(Lateness { seconds: received.checked_sub(zoned.timestamp().as_second())?, zone_known })
}

/// What the last instances tell of a clock; `None` if there were none.
#[must_use]
pub fn estimate(instances: &VecDeque<Lateness>) -> Option<Clock> {
    let mut sorted: Vec<&Lateness> = instances.iter().collect();
    sorted.sort_by_key(|lateness| lateness.seconds);
    let Lateness { seconds, zone_known } = **sorted.get(1).or_else(|| sorted.first())?;
    let amount = Duration::from_secs(seconds.unsigned_abs());
    let off = seconds.unsigned_abs() % ZONE_STEP.unsigned_abs();
    let like_a_zone =
        seconds.abs() >= ZONE_STEP - ZONE_EXACT && off.min(ZONE_STEP.unsigned_abs() - off) <= ZONE_EXACT.unsigned_abs();
    Some(match seconds {
        ..=AHEAD if like_a_zone && !zone_known => Clock::AheadOrElsewhere(amount),
        ..=AHEAD => Clock::Ahead(amount),
        OLD.. => Clock::PerhapsBehind(amount),
        _ => Clock::InStep,
    })
}

impl Clock {
    /// Whether somebody should set it: a minute and more ahead.
    #[must_use]
    pub fn is_a_problem(&self) -> bool {
        matches!(self, Self::Ahead(by) | Self::AheadOrElsewhere(by) if by.as_secs() >= 60)
    }

    /// The same in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::InStep => "its clock is in step, as far as its data tell".to_owned(),
            Self::Ahead(by) => format!("its clock is {} ahead of this box", rounded(*by)),
            Self::AheadOrElsewhere(by) => {
                format!("its clock is {} ahead of this box, or set to another time zone", rounded(*by))
            }
            Self::PerhapsBehind(by) => {
                format!("what it sends is {} old when it comes: it sends late, or its clock is behind", rounded(*by))
            }
        }
    }

    /// By how many seconds it is ahead; negative if it may be behind, 0 if it is in step.
    #[must_use]
    pub fn ahead_seconds(&self) -> i64 {
        let seconds = |by: &Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        match self {
            Self::InStep => 0,
            Self::Ahead(by) | Self::AheadOrElsewhere(by) => seconds(by),
            Self::PerhapsBehind(by) => -seconds(by),
        }
    }
}

/// A duration in the unit that fits.
fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", (seconds + 30) / 60),
        seconds @ ..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(seconds: &[i64], zone_known: bool) -> Option<Clock> {
        estimate(&seconds.iter().map(|seconds| Lateness { seconds: *seconds, zone_known }).collect())
    }

    fn words(seconds: &[i64], zone_known: bool) -> String {
        clock(seconds, zone_known).unwrap().words()
    }

    #[test]
    fn a_clock_that_is_ahead_is_told_by_how_much() {
        assert_eq!(words(&[-420, -418, -300], true), "its clock is 7 min ahead of this box");
        assert_eq!(words(&[-420], true), "its clock is 7 min ahead of this box");
        assert_eq!(words(&[-33, -32], true), "its clock is 32 s ahead of this box");
        assert!(clock(&[-90, -90], true).unwrap().is_a_problem());
        assert!(!clock(&[-33, -32], true).unwrap().is_a_problem());
    }

    #[test]
    fn one_nonsensical_date_decides_nothing() {
        assert_eq!(clock(&[-3_000_000_000, 4, 5], true), Some(Clock::InStep));
        assert_eq!(clock(&[4, i64::MIN], true), Some(Clock::InStep));
        assert_eq!(clock(&[], true), None);
    }

    #[test]
    fn what_looks_like_a_time_zone_is_told_as_one_unless_the_data_name_it() {
        assert_eq!(
            words(&[-7_255, -7_255], false),
            "its clock is 2 h 0 min ahead of this box, or set to another time zone"
        );
        assert_eq!(clock(&[-7_195, -7_195], true), Some(Clock::Ahead(Duration::from_secs(7_195))));
        assert_eq!(clock(&[-420, -420], false), Some(Clock::Ahead(Duration::from_secs(420))));
    }

    #[test]
    fn old_data_are_a_hint_only() {
        assert_eq!(clock(&[30, 590], true), Some(Clock::InStep));
        let clock = clock(&[3_000, 3_000, 86_400], true).unwrap();
        assert!(!clock.is_a_problem() && clock.words().contains("50 min old"), "{clock:?}");
        assert_eq!(clock.ahead_seconds(), -3_000);
    }

    #[test]
    fn the_offset_of_the_data_set_counts_before_the_zone_of_the_box() {
        let civil = jiff::civil::date(2026, 11, 21).at(12, 0, 0, 0);
        let noon_utc = Timestamp::from_millis(1_795_262_400_000);
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let of = |offset: Option<i8>| {
            let moment = Moment { civil, offset: offset.map(jiff::tz::offset) };
            lateness(&moment, noon_utc, &zone).unwrap()
        };
        assert_eq!(of(Some(0)), Lateness { seconds: 0, zone_known: true });
        assert_eq!(of(Some(5)), Lateness { seconds: 5 * 3_600, zone_known: true });
        assert_eq!(of(None), Lateness { seconds: 2 * 3_600, zone_known: false });
    }
}
