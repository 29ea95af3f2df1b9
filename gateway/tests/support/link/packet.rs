//! As much of IPv4 and TCP as has to be known of a packet: whose it is, and which bytes of the stream it carries.

use std::collections::BTreeMap;

/// An address and a port.
type End = ([u8; 4], u16);

/// One direction of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    source: End,
    destination: End,
}

/// A TCP connection: the same for both of its directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Connection(End, End);

impl Flow {
    pub(crate) fn connection(&self) -> Connection {
        Connection(self.source.min(self.destination), self.source.max(self.destination))
    }
}

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flow: Flow,
    /// Of the first byte of payload.
    pub(crate) sequence: u32,
    /// The first segment of a connection: SYN without ACK.
    pub(crate) opens: bool,
    /// Bytes of payload.
    pub(crate) payload: u32,
}

/// The segment in this packet, if it is an IPv4 packet with one, whole and unfragmented.
pub(crate) fn segment(packet: &[u8]) -> Option<Segment> {
    const TCP: u8 = 6;
    let (head, _) = packet.split_first_chunk::<20>()?;
    if head[0] >> 4 != 4 || head[9] != TCP || u16::from_be_bytes([head[6], head[7]]) & 0x3fff != 0 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let address = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let rest = packet.get(usize::from(head[0] & 15) * 4..total)?;
    let (tcp, _) = rest.split_first_chunk::<20>()?;
    let payload = rest.len().checked_sub(usize::from(tcp[12] >> 4) * 4)?;
    let (synchronises, acknowledges) = (tcp[13] & 2 != 0, tcp[13] & 16 != 0);
    Some(Segment {
        flow: Flow {
            source: (address(12), u16::from_be_bytes([tcp[0], tcp[1]])),
            destination: (address(16), u16::from_be_bytes([tcp[2], tcp[3]])),
        },
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(u32::from(synchronises)),
        opens: synchronises && !acknowledges,
        payload: u32::try_from(payload).ok()?,
    })
}

/// Which bytes of one direction of a connection have arrived. Good for streams of up to 2 GiB.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Everything before it has.
    upto: u32,
    /// What has beyond it: start and end of pieces that do not touch, from `upto` on.
    beyond: BTreeMap<u32, u32>,
}

impl Arrived {
    /// Of a stream whose first segment is this one.
    pub(crate) fn new(first: &Segment) -> Self {
        Self { upto: first.sequence, beyond: BTreeMap::new() }
    }

    /// Notes the bytes of a segment. Says how many of them had not arrived before.
    pub(crate) fn add(&mut self, segment: &Segment) -> u32 {
        // Distances from `upto`: a segment from before it has a negative one.
        let start = segment.sequence.wrapping_sub(self.upto).cast_signed();
        let end = start.saturating_add_unsigned(segment.payload);
        let (Ok(mut start), Ok(mut end)) = (u32::try_from(start.max(0)), u32::try_from(end)) else { return 0 };
        if start >= end {
            return 0;
        }
        let mut fresh = end - start;
        let touching: Vec<(u32, u32)> = self
            .beyond
            .range(..=end)
            .filter(|(_, until)| **until >= start)
            .map(|(from, until)| (*from, *until))
            .collect();
        for (from, until) in touching {
            let overlap = until.min(end).saturating_sub(from.max(start));
            fresh = fresh.saturating_sub(overlap);
            self.beyond.remove(&from);
            (start, end) = (start.min(from), end.max(until));
        }
        if start == 0 {
            self.upto = self.upto.wrapping_add(end);
            self.beyond = std::mem::take(&mut self.beyond).into_iter().map(|(a, b)| (a - end, b - end)).collect();
        } else {
            self.beyond.insert(start, end);
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        Flow { source: ([192, 0, 2, 1], 40_000), destination: ([192, 0, 2, 2], 104) }
    }

    fn piece(sequence: u32, payload: u32) -> Segment {
        Segment { flow: flow(), sequence, opens: false, payload }
    }

    #[test]
    fn reads_a_segment_of_a_connection() {
        let mut packet = vec![0x45, 0, 0, 47, 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet.extend([0x9c, 0x40, 0, 104, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        packet.extend(b"payload");
        assert_eq!(segment(&packet), Some(piece(9, 7)));
        // SYN: the payload begins behind it.
        packet[33] = 2;
        assert_eq!(segment(&packet).map(|segment| (segment.opens, segment.sequence)), Some((true, 10)));
        // UDP; a fragment; a packet cut short.
        let with = |at: usize, byte: u8| {
            let mut other = packet.clone();
            other[at] = byte;
            segment(&other)
        };
        assert_eq!(with(9, 17), None);
        assert_eq!(with(7, 1), None);
        assert_eq!(segment(&packet[..46]), None);
        assert_eq!(segment(&[]), None);
    }

    #[test]
    fn both_directions_are_one_connection() {
        let back = Flow { source: flow().destination, destination: flow().source };
        assert_ne!(flow(), back);
        assert_eq!(flow().connection(), back.connection());
    }

    #[test]
    fn what_arrives_again_is_not_counted_again() {
        let mut arrived = Arrived::new(&piece(100, 0));
        let mut add = |sequence, payload| arrived.add(&piece(sequence, payload));
        assert_eq!(add(100, 10), 10);
        assert_eq!(add(100, 10), 0);
        // A gap, its end, an overlap on both sides of what is there, and the gap itself.
        assert_eq!(add(120, 10), 10);
        assert_eq!(add(140, 10), 10);
        assert_eq!(add(115, 30), 15);
        assert_eq!(add(120, 30), 0);
        assert_eq!(add(105, 15), 5);
        assert_eq!(add(100, 50), 0);
        assert_eq!(add(150, 5), 5);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut arrived = Arrived::new(&piece(u32::MAX - 9, 0));
        assert_eq!(arrived.add(&piece(5, 10)), 10);
        assert_eq!(arrived.add(&piece(u32::MAX - 9, 15)), 15);
        assert_eq!(arrived.add(&piece(u32::MAX - 9, 25)), 0);
    }

    /// In whatever order the pieces of a stream come, and however they overlap: each byte is counted once.
    #[test]
    fn every_byte_is_counted_once() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let origin = random.u32(..);
            let mut arrived = Arrived::new(&piece(origin, 0));
            let mut seen = vec![false; 400];
            for _ in 0..120 {
                let start = random.u32(0..390);
                let length = random.u32(0..=400 - start).min(40);
                let range = start as usize..(start + length) as usize;
                let expected = seen[range.clone()].iter().filter(|seen| !**seen).count();
                seen[range].fill(true);
                let fresh = arrived.add(&piece(origin.wrapping_add(start), length));
                assert_eq!(fresh as usize, expected, "seed {seed}");
            }
        }
    }
}
