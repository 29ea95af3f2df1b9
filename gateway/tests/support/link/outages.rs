//! When the link is there, and what a box on the way forgets when it is not.

use std::collections::HashMap;
use std::time::Duration;

use super::packet::{Connection, Segment};

/// The link is there for `up`, away for `down`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outages {
    pub(crate) up: Duration,
    pub(crate) down: Duration,
    /// Whether every connection is forgotten at the beginning of each outage, as by a NAT that starts anew: what it
    /// carries later arrives nowhere, and nobody is told.
    pub(crate) forget: bool,
}

/// Whether the link is there at a time. All times are counted from the making of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Schedule {
    pub(crate) outages: Option<Outages>,
    /// When it was opened; `None` while it is closed.
    pub(crate) opened: Option<Duration>,
    /// How often it was opened.
    pub(crate) openings: u32,
}

/// What holds at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) up: bool,
    /// Counts the outages: a packet that enters in one era and would arrive in another is lost.
    pub(crate) era: (u32, u32),
}

impl Schedule {
    pub(crate) fn at(&self, time: Duration) -> State {
        let Some(since) = self.opened.and_then(|opened| time.checked_sub(opened)) else {
            return State { up: false, era: (self.openings, u32::MAX) };
        };
        let Some(outages) = self.outages else { return State { up: true, era: (self.openings, 0) } };
        let cycle = (outages.up + outages.down).as_nanos().max(1);
        let within = since.as_nanos() % cycle;
        let up = within < outages.up.as_nanos();
        let begun = since.as_nanos() / cycle + u128::from(!up);
        State { up, era: (self.openings, u32::try_from(begun).unwrap_or(u32::MAX)) }
    }

    /// How long the link is there between two times.
    pub(crate) fn up_between(&self, from: Duration, to: Duration) -> Duration {
        let Some(opened) = self.opened else { return Duration::ZERO };
        let before = |time: Duration| {
            let since = time.saturating_sub(opened);
            let Some(outages) = self.outages else { return since };
            let cycle = outages.up + outages.down;
            let cycles = u32::try_from(since.as_nanos() / cycle.as_nanos().max(1)).unwrap_or(u32::MAX);
            outages.up * cycles + (since - cycle * cycles).min(outages.up)
        };
        before(to).saturating_sub(before(from))
    }

    /// How many outages begin between two times.
    pub(crate) fn cuts_between(&self, from: Duration, to: Duration) -> u32 {
        self.at(to).era.1.saturating_sub(self.at(from).era.1)
    }

    pub(crate) fn forgets(&self) -> bool {
        self.outages.is_some_and(|outages| outages.forget)
    }
}

/// The connections that a NAT knows, each with the era in which it was opened.
#[derive(Debug, Default)]
pub(crate) struct Nat(HashMap<Connection, (u32, u32)>);

impl Nat {
    /// Whether a segment may pass in this era.
    pub(crate) fn admits(&mut self, segment: &Segment, era: (u32, u32)) -> bool {
        let connection = segment.flow.connection();
        if segment.opens {
            self.0.insert(connection, era);
        }
        self.0.get(&connection) == Some(&era)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn schedule() -> Schedule {
        let outages = Outages { up: seconds(40), down: seconds(20), forget: true };
        Schedule { outages: Some(outages), opened: Some(seconds(100)), openings: 1 }
    }

    #[test]
    fn up_40_seconds_and_down_20() {
        let at = |second| {
            let state = schedule().at(seconds(second));
            (state.up, state.era.1)
        };
        assert_eq!(at(100), (true, 0));
        assert_eq!(at(139), (true, 0));
        assert_eq!(at(140), (false, 1));
        assert_eq!(at(159), (false, 1));
        assert_eq!(at(160), (true, 1));
        assert_eq!(at(200), (false, 2));
        assert!(!schedule().at(seconds(99)).up);
        assert!(!Schedule { opened: None, ..schedule() }.at(seconds(120)).up);
        assert!(Schedule { outages: None, ..schedule() }.at(seconds(150)).up);
    }

    #[test]
    fn says_how_long_it_was_up_and_how_often_it_was_cut() {
        let schedule = schedule();
        assert_eq!(schedule.up_between(seconds(100), seconds(160)), seconds(40));
        assert_eq!(schedule.up_between(seconds(130), seconds(170)), seconds(20));
        assert_eq!(schedule.up_between(seconds(145), seconds(155)), Duration::ZERO);
        assert_eq!(schedule.cuts_between(seconds(100), seconds(139)), 0);
        assert_eq!(schedule.cuts_between(seconds(100), seconds(205)), 2);
    }

    #[test]
    fn a_nat_forgets_connections_until_they_are_opened_anew() {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet.extend([0x9c, 0x40, 0, 104, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        let data = super::super::packet::segment(&packet).unwrap();
        let opening = Segment { opens: true, ..data };
        let mut nat = Nat::default();
        assert!(!nat.admits(&data, (1, 0)));
        assert!(nat.admits(&opening, (1, 0)));
        assert!(nat.admits(&data, (1, 0)));
        assert!(!nat.admits(&data, (1, 1)));
        assert!(nat.admits(&opening, (1, 1)));
        assert!(nat.admits(&data, (1, 1)));
    }
}
