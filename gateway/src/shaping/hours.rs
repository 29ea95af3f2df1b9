//! Times of the week with an allowance of their own: `"mon-fri 07:00-18:00 512kbit/s"`.

use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::{DateTime, Time, Weekday};

use super::{Allowance, Rate};

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Minutes of a day.
const DAY: i32 = 24 * 60;

/// On some days of the week, from one time to another. If the other is not later, it is on the day after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    /// By the days from Monday on: whether they begin on it.
    days: [bool; 7],
    /// In minutes from midnight.
    from: i32,
    /// How many minutes.
    lasts: i32,
    /// What holds then.
    pub allowance: Allowance,
    text: String,
}

impl Hours {
    /// Whether a local time is in them.
    #[must_use]
    pub fn holds(&self, local: DateTime) -> bool {
        let minute = minute(local.time());
        let begins_on = |day: Weekday| self.days.get(index(day)).copied().unwrap_or(false);
        let today = begins_on(local.weekday()) && (self.from..self.from + self.lasts).contains(&minute);
        let yesterday = begins_on(local.weekday().wrapping_sub(1)) && minute + DAY < self.from + self.lasts;
        today || yesterday
    }

    /// When they begin and end, from yesterday to eight days on.
    pub(super) fn edges(&self, local: DateTime) -> impl Iterator<Item = DateTime> {
        let midnight = DateTime::from_parts(local.date(), Time::midnight());
        let (from, lasts) = (self.from, self.lasts);
        (-1..=8).flat_map(move |day| {
            let begins = midnight.saturating_add(day.days()).saturating_add(from.minutes());
            [begins, begins.saturating_add(lasts.minutes())]
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// No hours: why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHours {
    /// It has not two or three parts.
    #[error("it must be days, times and a rate with spaces between them")]
    Parts,
    /// No day of the week.
    #[error(
        "{0:?} is no day: mon, tue, wed, thu, fri, sat, sun, a range such as mon-fri, several with commas, or daily"
    )]
    Day(String),
    /// No time of the day.
    #[error("{0:?} are no times of the day: 07:00-18:00, or 22:00-06:00 over midnight; 24:00 is the end of the day")]
    Times(String),
    /// No allowance.
    #[error("{0:?} is none of: a rate such as 512kbit/s or 2Mbit/s, unlimited, closed")]
    Allowance(String),
}

impl FromStr for Hours {
    type Err = NotHours;

    fn from_str(text: &str) -> Result<Self, NotHours> {
        let mut parts: Vec<_> = text.split_ascii_whitespace().collect();
        let allowance = parts.pop().ok_or(NotHours::Parts)?;
        let allowance = match allowance {
            "unlimited" => Allowance::Unlimited,
            "closed" => Allowance::Closed,
            rate => Allowance::AtMost(rate.parse::<Rate>().map_err(|_| NotHours::Allowance(rate.to_owned()))?),
        };
        let (days, times) = match *parts.as_slice() {
            [days, times] => (days, times),
            // Of a whole day the times may be left out.
            [days] => (days, "00:00-24:00"),
            _ => return Err(NotHours::Parts),
        };
        let (from, lasts) = self::times(times).ok_or_else(|| NotHours::Times(times.to_owned()))?;
        Ok(Self { days: self::days(days)?, from, lasts, allowance, text: text.to_owned() })
    }
}

fn days(text: &str) -> Result<[bool; 7], NotHours> {
    let wrong = || NotHours::Day(text.to_owned());
    let mut days = [false; 7];
    if text == "daily" {
        return Ok([true; 7]);
    }
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let named = |name: &str| DAYS.iter().position(|(day, _)| *day == name).ok_or_else(wrong);
        let (first, last) = (named(first)?, named(last)?);
        // From Friday to Monday is over the weekend.
        let count = (last + 7 - first) % 7;
        (first..=first + count).map(|day| day % 7).for_each(|day| {
            if let Some(day) = days.get_mut(day) {
                *day = true;
            }
        });
    }
    Ok(days)
}

/// When they begin, in minutes from midnight, and how many they last.
fn times(text: &str) -> Option<(i32, i32)> {
    let (from, to) = text.split_once('-')?;
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let two = |text: &str| {
            text.parse::<i32>().ok().filter(|_| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
        };
        let (hour, minute) = (two(hour)?, two(minute)?);
        ((0..24).contains(&hour) && (0..60).contains(&minute) || (hour, minute) == (24, 0))
            .then_some(hour * 60 + minute)
    };
    let (from, to) = (minutes(from)?, minutes(to)?);
    let lasts = if to > from { to - from } else { to + DAY - from };
    (from < DAY).then_some((from, lasts))
}

fn minute(time: Time) -> i32 {
    i32::from(time.hour()) * 60 + i32::from(time.minute())
}

fn index(day: Weekday) -> usize {
    DAYS.iter().position(|(_, other)| *other == day).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn holds(text: &str, day: i8, hour: i8, minute: i8) -> bool {
        // 2026-11-23 is a Monday.
        text.parse::<Hours>().unwrap().holds(date(2026, 11, 22 + day).at(hour, minute, 59, 0))
    }

    #[test]
    fn days_and_times_are_read() {
        assert!(holds("mon-fri 07:00-18:00 closed", 1, 7, 0) && holds("mon-fri 07:00-18:00 closed", 5, 17, 59));
        assert!(!holds("mon-fri 07:00-18:00 closed", 1, 18, 0) && !holds("mon-fri 07:00-18:00 closed", 6, 12, 0));
        assert!(
            holds("fri-mon closed", 7, 0, 0) && holds("fri-mon closed", 1, 23, 59) && !holds("fri-mon closed", 2, 0, 0)
        );
        assert!(holds("tue,thu,sat-sun 00:00-24:00 1Mbit/s", 7, 12, 0) && !holds("tue,thu 1Mbit/s", 3, 12, 0));
        // Over midnight they belong to the day on which they begin.
        assert!(holds("sun 22:00-06:00 unlimited", 7, 22, 0) && holds("sun 22:00-06:00 unlimited", 1, 5, 59));
        assert!(!holds("sun 22:00-06:00 unlimited", 7, 5, 59) && !holds("sun 22:00-06:00 unlimited", 1, 6, 0));
        assert!(holds("daily 08:00-08:00 closed", 3, 7, 59), "all round the clock");
    }

    #[test]
    fn what_is_no_hours_says_what_is_wrong() {
        let wrong = |text: &str| text.parse::<Hours>().unwrap_err();
        assert_eq!(wrong(""), NotHours::Parts);
        assert_eq!(wrong("closed"), NotHours::Parts);
        assert_eq!(wrong("mon 07:00-08:00 x closed"), NotHours::Parts);
        for day in ["Mon", "monday", "mon-", "mon,", "mo"] {
            assert_eq!(wrong(&format!("{day} closed")), NotHours::Day(day.to_owned()));
        }
        for times in ["7:00-8:00", "07:00", "24:00-06:00", "07:00-24:01", "07:60-08:00", "+7:00-08:00"] {
            assert_eq!(wrong(&format!("mon {times} closed")), NotHours::Times(times.to_owned()));
        }
        for rate in ["2MB/s", "0kbit/s", "open"] {
            assert_eq!(wrong(&format!("mon {rate}")), NotHours::Allowance(rate.to_owned()));
        }
    }
}
