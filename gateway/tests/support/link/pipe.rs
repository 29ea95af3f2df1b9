//! One direction of the link, without sockets and without a clock: packets enter with the time, and are asked for with
//! the time.
//!
//! A packet that enters waits behind those before it, takes `bytes × 8 / rate` of the link's time, and arrives `delay`
//! later. When it leaves follows from the packets alone and not from when somebody looked, so the rate is exact however
//! late the thread wakes up; what is late is only the hand-over. The queue is bounded in bytes and drops what does not
//! fit (drop-tail). The dice are thrown behind the queue, so a lost packet has taken its time on the link, as on a radio.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::counted::Counted;
use super::outages::{Nat, Schedule, State};
use super::packet::{Arrived, Flow, Segment, segment};

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Way {
    /// Bits per second, counted from the IP header on.
    pub(crate) rate: u64,
    /// From the end of the queue to the other side.
    pub(crate) delay: Duration,
    /// The share of packets that is lost, 0 to 1.
    pub(crate) loss: f64,
    /// Bytes that may wait.
    pub(crate) queue: usize,
}

impl Way {
    /// How long this many bytes take on the link.
    pub(crate) fn time_of(&self, bytes: usize) -> Duration {
        let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(self.rate.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// What became of a packet that entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It will arrive, unless it is lost on the way.
    Queued,
    /// The queue is full.
    Overflowed,
    /// The link is not there.
    Cut,
    /// The NAT does not know its connection any more.
    Forgotten,
}

#[derive(Debug)]
struct Packet {
    due: Duration,
    era: (u32, u32),
    lost: bool,
    segment: Option<Segment>,
    bytes: Vec<u8>,
}

/// The queue, and what is under way.
#[derive(Debug)]
pub(crate) struct Pipe {
    way: Way,
    random: fastrand::Rng,
    /// When the link has sent all that is in the queue.
    free_at: Duration,
    /// When each packet in the queue begins to be sent, and its size.
    waiting: VecDeque<(Duration, usize)>,
    waiting_bytes: usize,
    under_way: VecDeque<Packet>,
    state: Option<State>,
    streams: HashMap<Flow, Arrived>,
    pub(crate) counted: Counted,
}

impl Pipe {
    pub(crate) fn new(way: Way, seed: u64) -> Self {
        Self {
            way,
            random: fastrand::Rng::with_seed(seed),
            free_at: Duration::ZERO,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: VecDeque::new(),
            state: None,
            streams: HashMap::new(),
            counted: Counted::default(),
        }
    }

    /// A packet enters.
    pub(crate) fn enter(&mut self, now: Duration, packet: &[u8], schedule: &Schedule, nat: &mut Nat) -> Fate {
        let state = schedule.at(now);
        if self.state.is_none_or(|before| before.era != state.era) {
            // What waited when the link went away is lost when its time comes; the queue is empty at once.
            self.free_at = now;
            self.waiting.clear();
            self.waiting_bytes = 0;
        }
        self.state = Some(state);
        let length = packet.len();
        let segment = segment(packet);
        let payload = segment.map_or(0, |segment| segment.payload);
        self.counted.entered.add(length, payload);
        self.counted.sample(now).entered += length as u64;
        if let Some(segment) = &segment {
            self.counted.opened += u64::from(segment.opens);
        }
        if !state.up {
            self.counted.cut.add(length, payload);
            return Fate::Cut;
        }
        if let Some(segment) = &segment {
            self.counted.first_segment.get_or_insert(now);
            if schedule.forgets() && !nat.admits(segment, state.era) {
                self.counted.forgotten.add(length, payload);
                return Fate::Forgotten;
            }
        }
        while let Some((begins, bytes)) = self.waiting.front().copied()
            && begins <= now
        {
            self.waiting.pop_front();
            self.waiting_bytes -= bytes;
        }
        let begins = self.free_at.max(now);
        if begins > now && self.waiting_bytes + length > self.way.queue {
            self.counted.overflowed.add(length, payload);
            return Fate::Overflowed;
        }
        if begins > now {
            self.waiting.push_back((begins, length));
            self.waiting_bytes += length;
        }
        self.free_at = begins + self.way.time_of(length);
        self.counted.sample(self.free_at).carried += length as u64;
        self.counted.queueing.add(u64::try_from((begins - now).as_micros()).unwrap_or(u64::MAX));
        let lost = self.way.loss > 0.0 && self.random.f64() < self.way.loss;
        let due = self.free_at + self.way.delay;
        self.under_way.push_back(Packet { due, era: state.era, lost, segment, bytes: packet.to_vec() });
        Fate::Queued
    }

    /// When the next packet arrives or is lost.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.under_way.front().map(|packet| packet.due)
    }

    /// The next packet that has arrived by `now`.
    pub(crate) fn arrive(&mut self, now: Duration, schedule: &Schedule) -> Option<Vec<u8>> {
        while self.next_due().is_some_and(|due| due <= now) {
            let packet = self.under_way.pop_front()?;
            let payload = packet.segment.map_or(0, |segment| segment.payload);
            let state = schedule.at(packet.due);
            if !state.up || state.era != packet.era {
                self.counted.cut.add(packet.bytes.len(), payload);
            } else if packet.lost {
                self.counted.lost.add(packet.bytes.len(), payload);
            } else {
                self.counted.arrived.add(packet.bytes.len(), payload);
                if let Some(segment) = &packet.segment {
                    self.note(packet.due, segment);
                }
                return Some(packet.bytes);
            }
        }
        None
    }

    /// Notes the payload of a segment that has arrived.
    fn note(&mut self, due: Duration, segment: &Segment) {
        if segment.opens {
            self.streams.remove(&segment.flow);
        }
        let stream = self.streams.entry(segment.flow).or_insert_with(|| Arrived::new(segment));
        let fresh = u64::from(stream.add(segment));
        if fresh > 0 {
            self.counted.fresh += fresh;
            self.counted.last_payload = Some(due);
            self.counted.sample(due).fresh += fresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::counted::{SAMPLE, float};
    use super::super::outages::Outages;
    use super::*;

    const OPEN: Schedule = Schedule { outages: None, opened: Some(Duration::ZERO), openings: 1 };

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// 10 Mbit/s: 1,250 bytes take a millisecond.
    fn way() -> Way {
        Way { rate: 10_000_000, delay: milliseconds(150), loss: 0.0, queue: 12_500 }
    }

    fn enter(pipe: &mut Pipe, now: Duration, length: usize) -> Fate {
        pipe.enter(now, &vec![0; length], &OPEN, &mut Nat::default())
    }

    fn tcp(opens: bool, sequence: u32, payload: usize) -> Vec<u8> {
        let length = u16::try_from(40 + payload).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet.extend([0x9c, 0x40, 0, 104]);
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x50, if opens { 2 } else { 0x10 }, 0, 0, 0, 0, 0, 0]);
        packet.resize(40 + payload, 0);
        packet
    }

    #[test]
    fn packets_leave_one_after_the_other_and_arrive_after_the_delay() {
        let mut pipe = Pipe::new(way(), 1);
        for _ in 0..3 {
            assert_eq!(enter(&mut pipe, milliseconds(10), 1_250), Fate::Queued);
        }
        for number in 1..=3 {
            let due = milliseconds(160 + number);
            assert_eq!(pipe.next_due(), Some(due));
            assert_eq!(pipe.arrive(due - Duration::from_nanos(1), &OPEN), None);
            assert!(pipe.arrive(due, &OPEN).is_some());
        }
        assert_eq!(pipe.next_due(), None);
        assert_eq!(pipe.counted.queueing.most(), 2_000);
    }

    /// However irregularly packets enter: a queue that never empties carries exactly the rate.
    #[test]
    fn the_rate_does_not_drift() {
        let mut pipe = Pipe::new(Way { queue: 100_000, ..way() }, 1);
        let mut random = fastrand::Rng::with_seed(7);
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(30) {
            while enter(&mut pipe, now, random.usize(40..=1_500)) == Fate::Queued {}
            now += Duration::from_micros(random.u64(1..60_000));
            while pipe.arrive(now, &OPEN).is_some() {}
        }
        let from = Duration::from_secs(1);
        for window in 0..25 {
            let window = from + Duration::from_secs(window);
            let (bytes, time) = pipe.counted.between(window, window + from, |sample| sample.carried);
            let rate = float(bytes) * 8.0 / time.as_secs_f64();
            // A packet more or less at the ends of the window.
            assert!((rate - 10e6).abs() <= 24_000.0, "{rate}");
        }
    }

    #[test]
    fn the_queue_drops_its_tail_and_takes_packets_again_when_there_is_room() {
        let mut pipe = Pipe::new(way(), 1);
        // One is being sent, ten wait.
        for _ in 0..11 {
            assert_eq!(enter(&mut pipe, Duration::ZERO, 1_250), Fate::Queued);
        }
        assert_eq!(enter(&mut pipe, Duration::ZERO, 1_250), Fate::Overflowed);
        assert_eq!(enter(&mut pipe, milliseconds(1), 1_250), Fate::Queued);
        assert_eq!(enter(&mut pipe, milliseconds(1), 1), Fate::Overflowed);
        assert_eq!((pipe.counted.overflowed.packets, pipe.counted.entered.packets), (2, 14));
        // A packet larger than the queue passes when nothing is before it.
        assert_eq!(enter(&mut pipe, milliseconds(500), 20_000), Fate::Queued);
    }

    #[test]
    fn as_many_are_lost_as_was_said_and_the_same_ones_with_the_same_seed() {
        let lost = |seed| {
            let mut pipe = Pipe::new(Way { loss: 0.01, ..way() }, seed);
            let mut arrived = Vec::new();
            for number in 0..100_000_u64 {
                let now = milliseconds(number * 2);
                enter(&mut pipe, now, 1_250);
                arrived.push(pipe.arrive(now + milliseconds(151), &OPEN).is_some());
            }
            assert_eq!(pipe.counted.lost.packets + pipe.counted.arrived.packets, 100_000);
            (pipe.counted.lost.packets, arrived)
        };
        assert!((900..1_100).contains(&lost(1).0), "{}", lost(1).0);
        assert_eq!(lost(1), lost(1));
        assert_ne!(lost(1).1, lost(2).1);
    }

    #[test]
    fn an_outage_takes_what_is_under_way_and_what_comes() {
        let outages = Outages { up: Duration::from_secs(1), down: Duration::from_secs(1), forget: false };
        let schedule = Schedule { outages: Some(outages), ..OPEN };
        let mut pipe = Pipe::new(way(), 1);
        let mut nat = Nat::default();
        let mut enter = |pipe: &mut Pipe, now| pipe.enter(milliseconds(now), &[0; 1_250], &schedule, &mut nat);
        assert_eq!(enter(&mut pipe, 840), Fate::Queued);
        assert_eq!(enter(&mut pipe, 900), Fate::Queued);
        assert_eq!(enter(&mut pipe, 1_500), Fate::Cut);
        assert_eq!(enter(&mut pipe, 2_000), Fate::Queued);
        let late = milliseconds(5_000);
        assert!(pipe.arrive(late, &schedule).is_some());
        assert!(pipe.arrive(late, &schedule).is_some());
        assert!(pipe.arrive(late, &schedule).is_none());
        assert_eq!((pipe.counted.cut.packets, pipe.counted.arrived.packets), (2, 2));
    }

    #[test]
    fn a_connection_from_before_an_outage_is_forgotten() {
        let outages = Outages { up: Duration::from_secs(1), down: Duration::from_secs(1), forget: true };
        let schedule = Schedule { outages: Some(outages), ..OPEN };
        let mut pipe = Pipe::new(way(), 1);
        let mut nat = Nat::default();
        let mut enter = |now, packet: &[u8]| pipe.enter(milliseconds(now), packet, &schedule, &mut nat);
        assert_eq!(enter(0, &tcp(true, 0, 0)), Fate::Queued);
        assert_eq!(enter(10, &tcp(false, 1, 100)), Fate::Queued);
        assert_eq!(enter(2_000, &tcp(false, 1, 100)), Fate::Forgotten);
        assert_eq!(enter(2_010, &tcp(true, 900, 0)), Fate::Queued);
        assert_eq!(enter(2_020, &tcp(false, 901, 100)), Fate::Queued);
        // Nothing is forgotten of what has no connection.
        assert_eq!(enter(2_030, &[0; 100]), Fate::Queued);
    }

    #[test]
    fn counts_payload_that_came_for_the_first_time() {
        let mut pipe = Pipe::new(way(), 1);
        let mut nat = Nat::default();
        for packet in [tcp(true, 99, 0), tcp(false, 100, 50), tcp(false, 100, 50), tcp(false, 150, 25)] {
            pipe.enter(milliseconds(20), &packet, &OPEN, &mut nat);
        }
        while pipe.arrive(Duration::from_secs(9), &OPEN).is_some() {}
        assert_eq!((pipe.counted.entered.payload, pipe.counted.fresh), (125, 75));
        assert_eq!(pipe.counted.first_segment, Some(milliseconds(20)));
        assert_eq!(pipe.counted.last_payload.map(|time| time.as_millis() / 10), Some(17));
        assert_eq!(pipe.counted.between(SAMPLE, SAMPLE * 2, |sample| sample.fresh).0, 75);
    }
}
