//! Which bytes of an HTTP/2 connection belong to a request, as they are written (RFC 9113 4.1). Pure.
//!
//! A server may send a PING every few seconds, and each is answered: bytes move, and nothing of a request does. So that a
//! connection that only keeps itself alive is not taken for one that gets on, its frames are told apart.

/// What every client says first (RFC 9113 3.4).
const PREFACE: usize = 24;

/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;

/// Reads over what one side writes, whatever it is cut into.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes to be read over before the next head of a frame, and whether they belong to a request.
    left: usize,
    counts: bool,
    head: [u8; HEAD],
    /// Bytes of the head that have been read.
    read: usize,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self { left: PREFACE, counts: false, head: [0; HEAD], read: 0 }
    }

    /// Takes the next bytes; gives how many of them are content of DATA, HEADERS or CONTINUATION frames.
    pub(super) fn of_requests(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            if self.left > 0 {
                let (content, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= content.len();
                count += if self.counts { content.len() as u64 } else { 0 };
                bytes = rest;
            } else if let Some((byte, rest)) = bytes.split_first() {
                bytes = rest;
                self.head_byte(*byte);
            }
        }
        count
    }

    fn head_byte(&mut self, byte: u8) {
        if let Some(place) = self.head.get_mut(self.read) {
            *place = byte;
        }
        self.read += 1;
        if self.read == HEAD {
            let [one, two, three, kind, ..] = self.head;
            self.left = usize::from(one) << 16 | usize::from(two) << 8 | usize::from(three);
            self.counts = matches!(kind, DATA | HEADERS | CONTINUATION);
            self.read = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        [&size[1..], &[kind, 0, 0, 0, 0, 1], &vec![kind; length]].concat()
    }

    const PING: u8 = 0x6;
    const SETTINGS: u8 = 0x4;
    const WINDOW_UPDATE: u8 = 0x8;

    proptest! {
        #[test]
        fn only_what_belongs_to_requests_counts_however_it_is_cut(
            kinds in prop::collection::vec((prop::sample::select(vec![0, 1, 9, 4, 6, 8]), 0..70_000_usize), 0..12),
            piece in 1..40_000_usize,
        ) {
            let written: Vec<u8> =
                kinds.iter().fold(vec![0; PREFACE], |all, (kind, length)| [all, frame(*kind, *length)].concat());
            let mut frames = Frames::new();
            let count: u64 = written.chunks(piece).map(|piece| frames.of_requests(piece)).sum();
            let expected: usize = kinds.iter().filter(|(kind, _)| [0, 1, 9].contains(kind)).map(|(_, length)| length).sum();
            prop_assert_eq!(count, expected as u64);
        }
    }

    #[test]
    fn a_connection_that_is_only_kept_alive_counts_for_nothing() {
        let mut frames = Frames::new();
        assert_eq!(frames.of_requests(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0);
        for _ in 0..100 {
            for (kind, length) in [(PING, 8), (SETTINGS, 0), (WINDOW_UPDATE, 4)] {
                assert_eq!(frames.of_requests(&frame(kind, length)), 0);
            }
        }
        assert_eq!(frames.of_requests(&frame(DATA, 5)), 5);
    }
}
