//! How long the link takes, and how long what is sent waits in front of it.
//!
//! The kernel's smoothed round trip does not tell: a receiver keeps the acknowledgement of a single segment back, by 40 ms
//! with Linux, so that a connection on which little is sent shows a queue which nobody else meets. The acknowledgement of a
//! second segment comes at once. So it is looked every few milliseconds how far each connection has sent, and how far that
//! was acknowledged; the shortest of what that gives between two questions is what the link took.
//!
//! The same looks show when a connection has become silent: nothing comes on it, although it should have. Whatever is sent
//! from then on is lost as well, and would have to be sent again in front of everything else when the link is back.
//!
//! What was under way when the link was lost has waited for the link and not in a queue: what was sent before a connection's
//! acknowledgement came too late for its kernel tells nothing, however it is acknowledged in the end.
//!
//! A longer way and a queue look alike, so the shortest time of all is forgotten after a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::tcp_info::TcpInfo;

/// How often a connection is to be looked at where every millisecond counts, and elsewhere.
pub(super) const STEP: Duration = Duration::from_millis(4);
pub(super) const LONG_STEP: Duration = Duration::from_millis(15);
/// For how many steps of sending of a connection it is remembered when they were.
const STEPS: usize = 1_024;
/// So much more is as good as the same.
const NOISE: Duration = Duration::from_millis(5);
/// An acknowledgement that comes later than this, and nothing else in that time, does not come: a receiver keeps one back for
/// less.
const OVERDUE: Duration = Duration::from_millis(300);
/// How long the shortest time counts since it was met last.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What the link took at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Took {
    /// From the sending of a segment to its acknowledgement.
    pub(super) round_trip: Duration,
    /// How much more that was than at best.
    pub(super) queue: Duration,
}

/// The connections with a destination.
#[derive(Debug, Default)]
pub(super) struct Delay {
    connections: BTreeMap<u64, Connection>,
    /// The shortest time since the last question.
    of_late: Option<Duration>,
    /// The shortest time of all, and since when it is known.
    shortest: Option<(Duration, Instant)>,
    /// What it took when that was known last.
    latest: Option<Duration>,
}

#[derive(Debug)]
struct Connection {
    looked: Instant,
    /// Segments that had come, and when the last of them was noticed.
    received: u32,
    heard: Instant,
    is_silent: bool,
    /// Bytes that were sent for the first time.
    sent: u64,
    acknowledged: u64,
    /// Up to which byte had been sent, and from when on the last of them at the earliest.
    marks: VecDeque<(u64, Instant)>,
}

impl Delay {
    /// Takes note of the connections that are open, by their numbers.
    pub(super) fn look(&mut self, open: impl Iterator<Item = (u64, TcpInfo)>, now: Instant) {
        let mut before = std::mem::take(&mut self.connections);
        for (number, info) in open {
            let mut connection = before.remove(&number).unwrap_or_else(|| Connection::new(&info, now));
            if let Some(took) = connection.look(&info, now) {
                self.of_late = Some(self.of_late.map_or(took, |shortest| shortest.min(took)));
            }
            let due = self.latest.unwrap_or(info.round_trip) + OVERDUE;
            let quiet = now.saturating_duration_since(connection.heard);
            // One that has begun anew hears something once in a round trip.
            connection.is_silent = info.in_flight > 0
                && match info.has_timed_out {
                    true => quiet > due,
                    false => quiet > OVERDUE && connection.waits_since(now) > due,
                };
            self.connections.insert(number, connection);
        }
    }

    /// Whether nothing comes any more on the connection of this number, although it should have.
    pub(super) fn is_silent(&self, number: u64) -> bool {
        self.connections.get(&number).is_some_and(|connection| connection.is_silent)
    }

    /// What the link took at best since the last question; nothing if nothing was acknowledged.
    pub(super) fn take(&mut self, now: Instant) -> Option<Took> {
        let round_trip = self.of_late.take()?;
        let kept = self.shortest.filter(|(_, since)| now.saturating_duration_since(*since) < REMEMBERED);
        let (shortest, since) = kept.filter(|(shortest, _)| *shortest <= round_trip).unwrap_or((round_trip, now));
        let since = if round_trip <= shortest + NOISE { now } else { since };
        self.shortest = Some((shortest, since));
        self.latest = Some(round_trip);
        Some(Took { round_trip, queue: round_trip - shortest })
    }
}

impl Connection {
    fn new(info: &TcpInfo, now: Instant) -> Self {
        Self {
            looked: now,
            received: info.segments_received,
            heard: now,
            is_silent: false,
            sent: first_time(info),
            acknowledged: info.bytes_acknowledged,
            marks: VecDeque::new(),
        }
    }

    /// For how long what was sent first has been waiting for its acknowledgement.
    fn waits_since(&self, now: Instant) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |(_, left)| now.saturating_duration_since(*left))
    }

    /// How long the last byte that is acknowledged now was on the way, if one is.
    fn look(&mut self, info: &TcpInfo, now: Instant) -> Option<Duration> {
        if std::mem::replace(&mut self.received, info.segments_received) != info.segments_received {
            self.heard = now;
        }
        // What was sent since the last look may have been sent right after it: what is found is never too short.
        let earliest = std::mem::replace(&mut self.looked, now);
        let (sent, acknowledged) = (first_time(info), info.bytes_acknowledged);
        if sent > std::mem::replace(&mut self.sent, sent) {
            if self.marks.len() == STEPS {
                self.marks.pop_front();
            }
            self.marks.push_back((sent, earliest));
        }
        let is_new = acknowledged > std::mem::replace(&mut self.acknowledged, acknowledged);
        let mut last = None;
        while let Some((_, left)) = self.marks.front().filter(|(upto, _)| *upto <= acknowledged) {
            last = Some(now.saturating_duration_since(*left));
            self.marks.pop_front();
        }
        if info.has_timed_out {
            self.marks.clear();
        }
        last.filter(|_| is_new)
    }
}

/// Bytes that were sent for the first time.
fn first_time(info: &TcpInfo) -> u64 {
    info.bytes_sent.saturating_sub(info.bytes_repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn info(sent: u64, acknowledged: u64) -> TcpInfo {
        TcpInfo { bytes_sent: sent + 10, bytes_repeated: 10, bytes_acknowledged: acknowledged, ..TcpInfo::default() }
    }

    #[test]
    fn an_acknowledgement_that_was_kept_back_is_no_queue() {
        let (mut delay, start) = (Delay::default(), crate::clock::now());
        let mut see = |at: u32, sent, acknowledged, other| {
            let now = start + at * MS;
            delay.look([(1, info(sent, acknowledged)), (2, info(other, other))].into_iter(), now);
            delay.take(now)
        };
        assert_eq!(see(0, 0, 0, 0), None);
        assert_eq!(see(4, 1_000, 0, 0), None);
        assert_eq!(see(44, 2_000, 0, 0), None);
        // The first was kept back for the second, which was sent 40 ms later.
        assert_eq!(see(104, 2_000, 2_000, 0), Some(Took { round_trip: 100 * MS, queue: Duration::ZERO }));
        assert_eq!(see(108, 3_000, 2_000, 500), Some(Took { round_trip: 4 * MS, queue: Duration::ZERO }));
        assert_eq!(see(224, 3_000, 3_000, 500), Some(Took { round_trip: 120 * MS, queue: 116 * MS }));
        assert_eq!(see(228, 3_000, 3_000, 500), None);
    }

    #[test]
    fn the_shortest_time_is_forgotten_and_so_is_a_connection_that_is_closed() {
        let (mut delay, start) = (Delay::default(), crate::clock::now());
        let mut took = |at: Duration, way: Duration| {
            delay.look([(7, info(0, 0))].into_iter(), start + at);
            delay.look([(7, info(1_000, 0))].into_iter(), start + at);
            delay.look([(7, info(1_000, 1_000))].into_iter(), start + at + way);
            let took = delay.take(start + at + way);
            delay.look(std::iter::empty(), start + at + way);
            assert!(delay.connections.is_empty());
            took.map(|took| took.queue)
        };
        assert_eq!(took(Duration::ZERO, 100 * MS), Some(Duration::ZERO));
        assert_eq!(took(REMEMBERED / 2, 150 * MS), Some(50 * MS));
        assert_eq!(took(REMEMBERED * 2, 150 * MS), Some(Duration::ZERO));
    }

    #[test]
    fn what_was_under_way_when_the_link_was_lost_shows_no_queue() {
        let (mut delay, start) = (Delay::default(), crate::clock::now());
        let mut see = |at: u32, sent, acknowledged, has_timed_out| {
            let now = start + at * MS;
            delay.look([(1, TcpInfo { has_timed_out, ..info(sent, acknowledged) })].into_iter(), now);
            delay.take(now)
        };
        assert_eq!(see(0, 0, 0, false), None);
        assert_eq!(see(4, 2_000, 0, false), None);
        assert_eq!(see(104, 9_000, 2_000, false), Some(Took { round_trip: 104 * MS, queue: Duration::ZERO }));
        assert_eq!(see(1_500, 9_000, 2_000, true), None);
        // Some of it had arrived, and the rest is sent again, while new data is sent.
        assert_eq!(see(20_000, 9_000, 4_000, false), None);
        assert_eq!(see(20_004, 12_000, 4_000, false), None);
        assert_eq!(see(20_100, 12_000, 9_000, false), None);
        assert_eq!(see(20_204, 12_000, 12_000, false), Some(Took { round_trip: 204 * MS, queue: 100 * MS }));
    }

    #[test]
    fn a_connection_is_silent_when_nothing_comes_on_it_that_should_have() {
        let (mut delay, start) = (Delay::default(), crate::clock::now());
        let mut are_silent = |at: u32, flows: [(u64, u64, u32, bool); 2]| {
            let infos = flows.map(|(sent, acknowledged, segments_received, has_timed_out)| TcpInfo {
                segments_received,
                has_timed_out,
                in_flight: u32::from(sent > acknowledged),
                round_trip: 100 * MS,
                ..info(sent, acknowledged)
            });
            delay.look((0..).zip(infos), start + at * MS);
            [delay.is_silent(0), delay.is_silent(1)]
        };
        assert_eq!(are_silent(0, [(0, 0, 1, false), (0, 0, 1, false)]), [false; 2]);
        assert_eq!(are_silent(10, [(1_000, 0, 1, false), (0, 0, 1, false)]), [false; 2]);
        assert_eq!(are_silent(390, [(1_000, 0, 1, false), (0, 0, 1, false)]), [false; 2]);
        assert_eq!(are_silent(400, [(1_000, 0, 1, false), (9_000, 0, 1, false)]), [false; 2], "just in time");
        assert_eq!(are_silent(420, [(1_000, 0, 1, false), (9_000, 0, 1, false)]), [true, false]);
        assert_eq!(are_silent(900, [(1_000, 0, 1, true), (9_000, 0, 1, false)]), [true; 2]);
        assert_eq!(are_silent(9_000, [(1_000, 0, 2, true), (9_000, 0, 1, true)]), [false, true], "something has come");
        assert_eq!(are_silent(9_320, [(1_000, 0, 2, true), (9_000, 0, 2, false)]), [false; 2], "once in a round trip");
        assert_eq!(are_silent(9_420, [(1_000, 0, 2, true), (9_000, 0, 2, false)]), [true, false]);
        assert_eq!(are_silent(9_700, [(1_000, 1_000, 2, false), (9_000, 9_000, 2, false)]), [false; 2], "all has come");
    }

    #[test]
    fn what_is_never_acknowledged_takes_no_more_room() {
        let (mut delay, start) = (Delay::default(), crate::clock::now());
        for n in 0..STEPS as u64 * 2 {
            delay.look([(1, info(n, 0))].into_iter(), start);
        }
        assert_eq!(delay.connections[&1].marks.len(), STEPS);
    }
}
