//! How much of a link may be used, and when. Pure: the time is an argument.
//!
//! A clinic shares its link with the people who work there, and pays for what goes over it. Each destination has a
//! [`Shaping`], and so has the box as a whole; what leaves must be allowed by both.
//!
//! - [`Bucket`]: a rate that is kept exactly, over all connections together. Whoever wants to send is told when.
//! - [`Hours`]: other rates, or none at all, at some times of the week, by the clock on the wall.
//! - [`Monthly`]: what may go over the link in a month, both ways, and a forecast.
//! - [`ByDelay`]: a rate that follows the delay which the link shows, so that a call beside it stays usable, or so that all
//!   connections together fill the link and do not lose in front of it what they send.
//!
//! All of it counts bytes as the link carries them, headers and repetitions included, because that is what a contract means
//! and what fills a queue. What is urgent is held back like everything else, unless `urgent-overrules` says otherwise; then
//! it counts nevertheless, and what is not urgent waits the longer.
//!
//! When hours close the link, or the volume of the month is used up, nothing more is begun. An instance that is under way is
//! finished, at the rate that held before: half of one is of no use to anybody, and would be sent twice.

pub mod bucket;
pub mod by_delay;
pub mod hours;
pub mod monthly;
mod rate;

use std::time::Duration;

use jiff::civil::DateTime;

pub use bucket::Bucket;
pub use by_delay::ByDelay;
pub use hours::Hours;
pub use monthly::{Monthly, Usage};
pub use rate::Rate;

/// What the configuration allows on the way to a destination, or out of the whole box.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shaping {
    /// `max-send-rate`: how much leaves at most, outside of all `hours`.
    pub most: Option<Rate>,
    /// `hours`: what holds at some times instead. The first that fits counts.
    pub hours: Vec<Hours>,
    /// `monthly-volume` and `month-begins`.
    pub monthly: Option<Monthly>,
    /// `courteous`: the delay that may be added on the link.
    pub courteous: Option<Duration>,
    /// `urgent-overrules`: whether urgent instances leave in spite of all that.
    pub urgent_overrules: bool,
}

/// What is allowed at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// As much as the link takes.
    Unlimited,
    /// So much.
    AtMost(Rate),
    /// Nothing that is not under way already.
    Closed,
}

impl Shaping {
    /// Whether anything is held back by it at some time.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.most.is_some() || !self.hours.is_empty() || self.monthly.is_some() || self.courteous.is_some()
    }

    /// What rate and hours allow at a local time.
    #[must_use]
    pub fn at(&self, local: DateTime) -> Allowance {
        let outside = || self.most.map_or(Allowance::Unlimited, Allowance::AtMost);
        self.hours.iter().find(|hours| hours.holds(local)).map_or_else(outside, |hours| hours.allowance)
    }

    /// When what rate and hours allow is something else for the next time; nothing if it is always the same.
    #[must_use]
    pub fn next_change(&self, local: DateTime) -> Option<DateTime> {
        let present = self.at(local);
        let mut edges: Vec<_> = self.hours.iter().flat_map(|hours| hours.edges(local)).collect();
        edges.sort_unstable();
        edges.into_iter().find(|edge| *edge > local && self.at(*edge) != present)
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn shaping(most: &str, hours: &[&str]) -> Shaping {
        let hours = hours.iter().map(|text| text.parse().unwrap()).collect();
        Shaping { most: most.parse().ok(), hours, ..Shaping::default() }
    }

    #[test]
    fn the_first_hours_that_fit_count_and_outside_of_all_the_limit() {
        let shaping =
            shaping("4Mbit/s", &["mon-fri 12:00-13:00 unlimited", "mon-fri 07:30-18:00 512kbit/s", "sun closed"]);
        // 2026-11-28 is a Saturday.
        let at = |day, hour, minute| shaping.at(date(2026, 11, day).at(hour, minute, 0, 0));
        let most = |text: &str| Allowance::AtMost(text.parse().unwrap());
        assert_eq!(at(27, 12, 30), Allowance::Unlimited);
        assert_eq!(at(27, 13, 0), most("512kbit/s"));
        assert_eq!(at(27, 18, 0), most("4Mbit/s"));
        assert_eq!(at(28, 12, 30), most("4Mbit/s"));
        assert_eq!((at(29, 0, 0), at(29, 23, 59)), (Allowance::Closed, Allowance::Closed));
        assert_eq!(at(30, 0, 0), most("4Mbit/s"));
    }

    #[test]
    fn the_next_change_is_one_that_is_felt() {
        let shaping = shaping("4Mbit/s", &["mon-fri 07:00-12:00 1Mbit/s", "mon-fri 12:00-18:00 1Mbit/s"]);
        let next = |day, hour| shaping.next_change(date(2026, 11, day).at(hour, 0, 0, 0));
        assert_eq!(next(27, 8), Some(date(2026, 11, 27).at(18, 0, 0, 0)));
        assert_eq!(next(27, 18), Some(date(2026, 11, 30).at(7, 0, 0, 0)));
        assert_eq!(super::Shaping::default().next_change(date(2026, 11, 27).at(8, 0, 0, 0)), None);
    }
}
