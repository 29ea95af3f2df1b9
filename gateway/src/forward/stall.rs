//! Which connections of a destination have stopped moving, and which of them are to be given up. Pure: time is an argument.
//!
//! A connection that the link has lost looks like one that is slow: nothing comes. It may go on when the link is back; or it
//! never will, because a box on the way (a NAT, a firewall, a modem that was given another address) has forgotten it and
//! drops what belongs to it without a word. Only a new connection tells the two apart.
//!
//! ```text
//!  moves ──▶ quiet ── for 2 s and a few round trips ──▶ stalled ──▶ a new connection is tried beside it, again and again
//!    ▲         │                                          │                        │ gets through: the link is there
//!    └─────────┴──── a segment comes ─────────────────────┴──── in grace ◀─────────┘
//!                                                                  └── nothing comes in the time that sending again takes
//!                                                                      ──▶ given up
//! ```
//!
//! - Quiet is who has something to hear and hears nothing: an acknowledgement of what is on the way, or a sign of life that
//!   the kernel has asked for. An archive that thinks is not quiet: its kernel answers for it. Nor is one that does not read.
//! - In grace a connection has the time in which the kernel sends again, and the round trips for the answer. Whatever comes
//!   ends the matter; so a connection that only waits for its retransmission is not thrown away.
//! - Nothing is given up as long as no new connection gets through: it would bring nothing.
//! - While connections are in grace the link is there and they do not use it: the worker has others opened beside them.
//! - How long the kernel waits before it sends again is kept short ([`Step::SendAgainWithin`]): a little more than a round
//!   trip while a connection is stalled, because nothing queues then; otherwise so long that no queue is taken for a loss.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::socket::{SENT_AGAIN, SIGN_OF_LIFE};
use super::tcp_info::TcpInfo;

/// How often the connections are looked at.
pub const LOOK: Duration = Duration::from_millis(500);
/// Whoever hears nothing for so long, and for [`ROUND_TRIPS`], is stalled.
const QUIET: Duration = Duration::from_secs(2);
const ROUND_TRIPS: u32 = 3;
/// What the kernel may be told for sending again.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest that is waited for a connection to go on by itself, beyond two round trips.
const LONGEST_GRACE: Duration = Duration::from_secs(4);
/// So many tries of a new connection follow each other at once, each of which asks about every second.
const SOON: u32 = 20;
/// Between the later ones.
const RARELY: Duration = Duration::from_secs(15);
/// No two tries begin in a shorter time.
const APART: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Try a new connection to where this one leads. One at a time.
    Dial(u64),
    /// Give this one up; nothing came on it for so long.
    GiveUp(u64, Duration),
    /// Have the kernel send again within this time what is not acknowledged.
    SendAgainWithin(u64, Duration),
}

/// The connections of one destination. See the module.
#[derive(Debug, Default)]
pub struct Stalls {
    seen: HashMap<u64, Seen>,
    /// Whether a new connection is being tried.
    is_dialling: bool,
    tries: u32,
    next_try: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    /// Segments that had come when it was looked at last.
    received: u32,
    /// Since when it has something to hear and hears nothing.
    quiet_since: Option<Instant>,
    is_stalled: bool,
    /// How long it may take until it goes on, once the link is there.
    grace: Duration,
    /// Until when it may, since it is known that the link is there.
    until: Option<Instant>,
    sends_again_within: Duration,
}

impl Stalls {
    /// Looks at all connections that are open, each with a number of its own, about every [`LOOK`].
    #[must_use]
    pub fn look(&mut self, now: Instant, open: &[(u64, TcpInfo)]) -> Vec<Step> {
        self.seen.retain(|number, _| open.iter().any(|(other, _)| other == number));
        let mut steps = Vec::new();
        for (number, info) in open {
            let seen = self.seen.entry(*number).or_insert_with(|| Seen::new(info));
            seen.look(now, info);
            if let (Some(until), Some(since)) = (seen.until, seen.quiet_since)
                && until <= now
            {
                steps.push(Step::GiveUp(*number, now.saturating_duration_since(since)));
                self.seen.remove(number);
                continue;
            }
            let longest = seen.longest_wait(info);
            if longest.abs_diff(seen.sends_again_within) > longest / 4 {
                seen.sends_again_within = longest;
                steps.push(Step::SendAgainWithin(*number, longest));
            }
        }
        let doubtful = self.seen.iter().find(|(_, seen)| seen.is_stalled && seen.until.is_none());
        match doubtful.map(|(number, _)| *number) {
            None if self.stalled() == 0 => self.tries = 0,
            Some(number) if !self.is_dialling && self.next_try.is_none_or(|next| next <= now) => {
                self.is_dialling = true;
                self.tries = self.tries.saturating_add(1);
                self.next_try = Some(now + if self.tries > SOON { RARELY } else { APART });
                steps.push(Step::Dial(number));
            }
            _ => {}
        }
        steps
    }

    /// A new connection got through: the link is there.
    pub fn connected(&mut self, now: Instant) {
        self.is_dialling = false;
        for seen in self.seen.values_mut().filter(|seen| seen.is_stalled && seen.until.is_none()) {
            seen.until = Some(now + seen.grace);
        }
    }

    /// None got through.
    pub fn not_connected(&mut self) {
        self.is_dialling = false;
    }

    /// How many of the stalled connections may go on yet, since it is known that the link is there.
    #[must_use]
    pub fn in_grace(&self) -> usize {
        self.seen.values().filter(|seen| seen.is_stalled && seen.until.is_some()).count()
    }

    /// How many connections are stalled.
    #[must_use]
    pub fn stalled(&self) -> usize {
        self.seen.values().filter(|seen| seen.is_stalled).count()
    }
}

impl Seen {
    fn new(info: &TcpInfo) -> Self {
        Self {
            received: info.segments_received,
            quiet_since: None,
            is_stalled: false,
            grace: Duration::ZERO,
            until: None,
            sends_again_within: SENT_AGAIN,
        }
    }

    fn look(&mut self, now: Instant, info: &TcpInfo) {
        let hears = info.segments_received != self.received;
        self.received = info.segments_received;
        if hears || (info.in_flight == 0 && info.probes == 0) {
            (self.quiet_since, self.is_stalled, self.until) = (None, false, None);
            return;
        }
        let since = *self.quiet_since.get_or_insert(now);
        self.is_stalled = now.saturating_duration_since(since) >= QUIET.max(info.round_trip * ROUND_TRIPS);
        let again = self.sends_again_within.max(info.retransmission_timeout).max(SIGN_OF_LIFE).min(LONGEST_GRACE);
        self.grace = again + info.shortest_round_trip.max(LOOK) * 2;
    }

    /// How long the kernel should wait at most before it sends again.
    fn longest_wait(&self, info: &TcpInfo) -> Duration {
        match self.is_stalled {
            true => SHORTEST.max(info.shortest_round_trip * 2).min(LONGEST_GRACE),
            false => SENT_AGAIN.max(info.round_trip * 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(600);

    /// Connections over a link in virtual time.
    struct Line {
        now: Instant,
        stalls: Stalls,
        open: Vec<(u64, TcpInfo)>,
        given_up: Vec<u64>,
        dialled: u32,
    }

    impl Line {
        fn new(connections: u64) -> Self {
            let info = TcpInfo {
                round_trip: ROUND_TRIP,
                shortest_round_trip: ROUND_TRIP,
                retransmission_timeout: Duration::from_millis(1_200),
                in_flight: 10,
                ..TcpInfo::default()
            };
            Self {
                now: crate::clock::now(),
                stalls: Stalls::default(),
                open: (0..connections).map(|number| (number, info)).collect(),
                given_up: Vec::new(),
                dialled: 0,
            }
        }

        /// Lets time pass, in which these connections hear something; new ones get through or not.
        fn pass(&mut self, time: Duration, hear: impl Fn(u64) -> bool, is_there: bool) {
            let until = self.now + time;
            while self.now < until {
                self.now += LOOK;
                for (number, info) in &mut self.open {
                    info.segments_received += u32::from(hear(*number));
                }
                for step in self.stalls.look(self.now, &self.open) {
                    match step {
                        Step::Dial(_) => {
                            self.dialled += 1;
                            match is_there {
                                true => self.stalls.connected(self.now + ROUND_TRIP),
                                false => self.stalls.not_connected(),
                            }
                        }
                        Step::GiveUp(number, quiet) => {
                            assert!(quiet >= QUIET, "{quiet:?}");
                            self.given_up.push(number);
                            self.open.retain(|(open, _)| *open != number);
                        }
                        Step::SendAgainWithin(_, longest) => assert!(longest >= SHORTEST, "{longest:?}"),
                    }
                }
            }
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_a_nat_has_forgotten_is_given_up_within_seconds_of_the_return_of_the_link_and_not_before() {
        let mut line = Line::new(8);
        line.pass(seconds(40), |_| true, true);
        assert_eq!(line.dialled, 0, "nothing is tried beside what moves");
        line.pass(seconds(20), |_| false, false);
        assert!(line.given_up.is_empty() && line.dialled >= 15, "{} tries", line.dialled);
        assert_eq!(line.stalls.in_grace(), 0, "nobody knows whether the link is there");
        line.pass(seconds(2), |_| false, true);
        assert_eq!(line.stalls.in_grace(), 8);
        line.pass(seconds(3), |_| false, true);
        assert_eq!(line.stalls.in_grace(), 0);
        line.given_up.sort_unstable();
        assert_eq!(line.given_up, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn what_goes_on_by_itself_is_kept() {
        let mut line = Line::new(8);
        for _ in 0..10 {
            line.pass(seconds(20), |_| false, false);
            // A new connection gets through, and two seconds later what was sent again is acknowledged.
            line.pass(seconds(2), |_| false, true);
            line.pass(seconds(40), |_| true, true);
        }
        assert!(line.given_up.is_empty(), "{:?}", line.given_up);
        assert_eq!(line.stalls.stalled(), 0);
    }

    #[test]
    fn only_those_that_do_not_move_are_given_up() {
        let mut line = Line::new(4);
        line.pass(seconds(30), |number| number != 2, true);
        assert_eq!(line.given_up, [2]);
    }

    #[test]
    fn an_archive_that_thinks_is_left_alone_as_long_as_its_kernel_lives() {
        let mut line = Line::new(1);
        line.open[0].1.in_flight = 0;
        line.pass(seconds(3_600), |_| false, true);
        // A sign of life is asked for every few seconds, and comes.
        for _ in 0..100 {
            line.open[0].1.probes = 1;
            line.pass(seconds(1), |_| false, true);
            line.open[0].1.probes = 0;
            line.pass(seconds(4), |_| true, true);
        }
        assert!(line.given_up.is_empty() && line.dialled == 0);
        line.open[0].1.probes = 1;
        line.pass(seconds(10), |_| false, true);
        assert_eq!(line.given_up, [0], "without one it is given up");
    }

    #[test]
    fn without_a_new_connection_nothing_is_given_up_and_the_tries_become_rare() {
        let mut line = Line::new(1);
        line.pass(seconds(3_600), |_| false, false);
        assert!(line.given_up.is_empty());
        assert!((200..300).contains(&line.dialled), "{} tries in an hour", line.dialled);
    }

    #[test]
    fn a_long_queue_is_not_taken_for_a_loss() {
        let mut line = Line::new(1);
        line.open[0].1.round_trip = seconds(3);
        let steps = line.stalls.look(line.now, &line.open);
        assert_eq!(steps, [Step::SendAgainWithin(0, seconds(9))]);
        line.pass(seconds(8), |_| false, true);
        assert_eq!(line.stalls.stalled(), 0, "three round trips are nine seconds");
    }
}
