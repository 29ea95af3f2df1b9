//! Outgoing P-DATA-TF: cuts commands and data sets into fragments of the peer's maximum PDU length (PS3.8 E.2).
//!
//! Every fragment but the last has an even length, because DCMTK aborts on an odd one, and is full; the last is empty
//! only if the data set is. To that end the last piece is held back until the caller says that more follows, or that
//! nothing does. The last-fragment flag is set by that word alone.

use super::pdu::PDV_HEAD;

/// PDU head and PDV head.
const HEADS: usize = super::pdu::HEAD + PDV_HEAD;

/// The bytes of data in one P-DATA-TF of at most `max_pdu` bytes after the head; `None` if no two have room.
pub(super) fn capacity(max_pdu: u32) -> Option<usize> {
    let capacity = usize::try_from(max_pdu).ok()?.checked_sub(PDV_HEAD)? & !1;
    (capacity > 0).then_some(capacity)
}

/// The P-DATA-TFs of one command set.
pub(super) fn command(context: u8, set: &[u8], capacity: usize) -> Vec<u8> {
    let mut pdus = Vec::with_capacity(set.len() + HEADS);
    let mut rest = set;
    loop {
        let (piece, after) = rest.split_at(capacity.max(1).min(rest.len()));
        pdus.extend_from_slice(&heads(context, 1 | if after.is_empty() { 2 } else { 0 }, piece.len()));
        pdus.extend_from_slice(piece);
        rest = after;
        if rest.is_empty() {
            return pdus;
        }
    }
}

/// One outgoing data set.
#[derive(Debug)]
pub(super) struct DataSet {
    context: u8,
    capacity: usize,
    /// A P-DATA-TF in the making: room for the heads, then data.
    pdu: Vec<u8>,
}

impl DataSet {
    pub(super) fn new(context: u8, capacity: usize) -> Self {
        Self { context, capacity: capacity.max(1), pdu: vec![0; HEADS] }
    }

    pub(super) fn context(&self) -> u8 {
        self.context
    }

    /// Takes from the front of `data` what has room and returns the rest. When a PDU is full and more follows, or
    /// everything has been taken and it is the last, the PDU is handed to `send`. Call until nothing is left.
    pub(super) fn push<'a>(&mut self, data: &'a [u8], last: bool, send: impl FnOnce(&[u8])) -> &'a [u8] {
        let room = (HEADS + self.capacity).saturating_sub(self.pdu.len());
        let (taken, rest) = data.split_at(room.min(data.len()));
        self.pdu.extend_from_slice(taken);
        if !rest.is_empty() || last {
            let header = if rest.is_empty() { 2 } else { 0 };
            let heads = heads(self.context, header, self.pdu.len().saturating_sub(HEADS));
            if let Some(front) = self.pdu.first_chunk_mut() {
                *front = heads;
            }
            send(&self.pdu);
            self.pdu.truncate(HEADS);
        }
        rest
    }
}

/// The heads of a P-DATA-TF with one PDV.
fn heads(context: u8, header: u8, length: usize) -> [u8; HEADS] {
    // The length is bounded by a maximum PDU length, which has four bytes.
    let length = u32::try_from(length).unwrap_or(0);
    let [a, b, c, d] = length.saturating_add(6).to_be_bytes();
    let [e, f, g, h] = length.saturating_add(2).to_be_bytes();
    [4, 0, a, b, c, d, e, f, g, h, context, header]
}

#[cfg(test)]
mod tests {
    use dicom_ul::pdu::{PDataValueType, Pdu, read_pdu};
    use proptest::prelude::*;

    use super::*;

    /// The fragments as dicom-ul reads them: command or not, last or not, data.
    fn fragments(mut pdus: &[u8]) -> Vec<(bool, bool, Vec<u8>)> {
        let mut fragments = Vec::new();
        while !pdus.is_empty() {
            let Some(Pdu::PData { data }) = read_pdu(&mut pdus, 1 << 20, false).unwrap() else {
                panic!("no P-DATA-TF")
            };
            for value in data {
                fragments.push((value.value_type == PDataValueType::Command, value.is_last, value.data));
            }
        }
        fragments
    }

    #[test]
    fn the_least_maximum_length_has_room_for_two_bytes() {
        assert_eq!([0, 1, 5, 6, 7].map(capacity), [None; 5]);
        assert_eq!([8, 9, 10, 16384].map(capacity), [Some(2), Some(2), Some(4), Some(16378)]);
    }

    #[test]
    fn a_command_is_one_pdu_where_it_has_room() {
        assert_eq!(fragments(&command(1, b"command", 100)), [(true, true, b"command".to_vec())]);
        let cut = fragments(&command(1, b"command", 2));
        assert_eq!(cut.len(), 4);
        assert_eq!(cut.iter().map(|(_, last, _)| *last).collect::<Vec<_>>(), [false, false, false, true]);
        assert_eq!(cut.concat_data(), b"command");
    }

    trait ConcatData {
        fn concat_data(&self) -> Vec<u8>;
    }

    impl ConcatData for Vec<(bool, bool, Vec<u8>)> {
        fn concat_data(&self) -> Vec<u8> {
            self.iter().flat_map(|(_, _, data)| data.clone()).collect()
        }
    }

    proptest! {
        #[test]
        fn a_data_set_arrives_whole_however_it_is_fed(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            room in 4_u32..40,
            finished: bool,
        ) {
            let capacity = capacity(room * 2).unwrap();
            let mut data_set = DataSet::new(5, capacity);
            let mut pdus = Vec::new();
            let mut push = |data: &[u8], last| {
                let mut rest = data;
                loop {
                    rest = data_set.push(rest, last, |pdu| pdus.extend_from_slice(pdu));
                    if rest.is_empty() {
                        break;
                    }
                }
            };
            for piece in &pieces {
                push(piece, false);
            }
            if finished {
                push(&[], true);
            }
            let fragments = fragments(&pdus);
            let whole = pieces.concat();
            let lasts = fragments.iter().filter(|(_, last, _)| *last).count();
            prop_assert_eq!(lasts, usize::from(finished), "the last fragment is flagged by the caller's word alone");
            prop_assert!(whole.starts_with(&fragments.concat_data()));
            if finished {
                prop_assert_eq!(fragments.concat_data(), whole.clone());
                prop_assert!(fragments.last().unwrap().1);
                prop_assert!(whole.is_empty() || !fragments.last().unwrap().2.is_empty());
            }
            for (_, last, data) in &fragments {
                prop_assert!(data.len() == capacity || *last);
            }
        }
    }
}
