//! What goes over a link in a month, and whether it will be enough.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use serde::{Deserialize, Serialize};

/// The days whose mean is what is expected of those to come.
const RECENT: i32 = 7;

/// What may go in a month, by the day on which a month begins for whoever sends the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monthly {
    /// `monthly-volume`: bytes, sent and received together.
    pub volume: u64,
    /// `month-begins`: the day of the calendar month, 1 to 28.
    pub begins: i8,
}

/// What went in the present month, day by day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The first day of the month; nothing before anything was counted.
    since: Option<Date>,
    /// The days on which something went, in order, with the bytes.
    days: Vec<(Date, u64)>,
}

impl Usage {
    /// Counts bytes that went on this day, in a month that begins on that one.
    ///
    /// A clock that is set back does not give anything back: what was counted stays, in the month that it is now.
    pub fn add(&mut self, bytes: u64, today: Date, begins: i8) {
        let since = beginning(today, begins);
        if self.since.is_none_or(|before| before < since) {
            self.days.retain(|(day, _)| *day >= since);
        }
        self.since = Some(since);
        match self.days.last_mut() {
            Some((day, sum)) if *day >= today => *sum = sum.saturating_add(bytes),
            _ if bytes > 0 => self.days.push((today, bytes)),
            _ => {}
        }
    }

    /// Bytes in the present month.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.days.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// What it will be at the end of the month, in bytes, if the days to come are like the last ones.
    #[must_use]
    pub fn forecast(&self, now: DateTime, begins: i8) -> u64 {
        let today = now.date();
        let since = beginning(today, begins);
        let first = today.saturating_sub((RECENT - 1).days()).max(since);
        let recent = self.days.iter().filter(|(day, _)| *day >= first);
        let recent = recent.fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        // The first day counts as a whole one: nobody knows yet.
        let elapsed = minutes(first, now).max(DAY);
        let left = minutes_until(now, end(today, begins));
        let more = u128::from(recent) * u128::from(left) / u128::from(elapsed);
        self.used().saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }
}

/// When the present month ends: the first day of the next one.
#[must_use]
pub fn end(today: Date, begins: i8) -> Date {
    beginning(today, begins).saturating_add(1.month())
}

/// The first day of the month that this day is in.
fn beginning(today: Date, begins: i8) -> Date {
    let begins = begins.clamp(1, 28);
    let month = if today.day() >= begins { today } else { today.saturating_sub(1.month()) };
    Date::new(month.year(), month.month(), begins).unwrap_or(month)
}

/// Minutes of a day.
const DAY: u64 = 24 * 60;

fn minutes(from: Date, to: DateTime) -> u64 {
    let days = u64::try_from((to.date() - from).get_days()).unwrap_or(0);
    let within = i64::from(to.hour()) * 60 + i64::from(to.minute());
    days * DAY + u64::try_from(within).unwrap_or(0)
}

fn minutes_until(from: DateTime, to: Date) -> u64 {
    let days = u64::try_from((to - from.date()).get_days()).unwrap_or(0);
    (days * DAY).saturating_sub(minutes(from.date(), from))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const MB: u64 = 1_000_000;

    #[test]
    fn a_month_begins_when_the_bill_says_so() {
        let of = |day: Date, begins| (beginning(day, begins), end(day, begins));
        assert_eq!(of(date(2026, 11, 28), 1), (date(2026, 11, 1), date(2026, 12, 1)));
        assert_eq!(of(date(2026, 11, 14), 15), (date(2026, 10, 15), date(2026, 11, 15)));
        assert_eq!(of(date(2027, 1, 3), 28), (date(2026, 12, 28), date(2027, 1, 28)));
        assert_eq!(of(date(2027, 2, 28), 28), (date(2027, 2, 28), date(2027, 3, 28)));
    }

    #[test]
    fn what_was_used_begins_anew_with_the_month_and_not_with_a_clock_that_is_set_back() {
        let mut usage = Usage::default();
        usage.add(3 * MB, date(2026, 10, 31), 1);
        usage.add(2 * MB, date(2026, 11, 1), 1);
        assert_eq!(usage.used(), 2 * MB);
        usage.add(MB, date(2026, 11, 3), 1);
        usage.add(MB, date(2026, 11, 2), 1);
        assert_eq!(usage.used(), 4 * MB);
        // A box without a battery starts in the past: what was counted stays.
        usage.add(MB, date(2026, 10, 20), 1);
        assert_eq!(usage.used(), 5 * MB);
        usage.add(0, date(2026, 11, 4), 1);
        assert_eq!(usage.used(), 5 * MB);
        usage.add(0, date(2026, 12, 1), 1);
        assert_eq!(usage.used(), 0);
    }

    #[test]
    fn the_forecast_goes_on_like_the_last_week() {
        let mut usage = Usage::default();
        assert_eq!(usage.forecast(date(2026, 11, 10).at(12, 0, 0, 0), 1), 0);
        usage.add(100 * MB, date(2026, 11, 1), 1);
        for day in 8..=14 {
            usage.add(10 * MB, date(2026, 11, day), 1);
        }
        // At the end of the 14th, 16 days are left.
        let forecast = usage.forecast(date(2026, 11, 14).at(23, 59, 0, 0), 1);
        assert!(forecast.abs_diff(170 * MB + 160 * MB) < MB, "{forecast}");
        // The first hour of a month is no reason to alarm anybody: it counts as a day.
        let mut first = Usage::default();
        first.add(10 * MB, date(2026, 11, 1), 1);
        let forecast = first.forecast(date(2026, 11, 1).at(1, 0, 0, 0), 1);
        assert!(forecast.abs_diff(300 * MB) < 10 * MB, "{forecast}");
    }
}
