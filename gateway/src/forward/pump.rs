//! Carries a payload from the disk to the wire: a blocking reader on one side, an async receiver on the other, a few
//! pieces in between and no more.
//!
//! A piece is marked as the last only after the reader has said that its source is complete and verified. A reader that
//! fails, or a thread that dies, leaves the receiver without a last piece, so a truncated data set can never be sent as
//! a whole one.
//!
//! A deflated data set of odd length lacks the NULL byte that PS3.5 A.5 demands. Some archives take it as it is, and it is
//! offered to them so; others end the association, and they get it with the byte ([`made_even`]). What it inflates to
//! is the same.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::association::Association;
use crate::dataset::transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED;
use crate::model::Uid;

/// Pieces between disk and wire.
const AHEAD: usize = 3;

/// Part of a data set, in order.
#[derive(Debug)]
pub struct Piece {
    /// Its bytes; never empty.
    pub bytes: Bytes,
    /// Whether this is the end of the data set, read and verified.
    pub last: bool,
}

/// Bytes per piece that suit the association: a whole PDU of the peer's, within reason.
#[must_use]
pub fn piece_size(association: &Association) -> usize {
    usize::try_from(association.peer_max_pdu()).unwrap_or(usize::MAX).clamp(4 << 10, 256 << 10)
}

/// Whether a data set in `transfer_syntax` may get a NULL byte to be of even length, after so many failed attempts
/// without it.
#[must_use]
pub fn made_even(transfer_syntax: &Uid, attempts: u32) -> bool {
    attempts > 0 && transfer_syntax.as_str() == DEFLATED
}

/// Starts reading `source` in pieces of `size` bytes on the runtime's blocking side; if `made_even`, a NULL byte is put
/// behind an odd number of bytes.
///
/// The receiver gets an error instead of the last piece when the source fails; dropping the receiver ends the reading.
#[must_use]
pub fn pump(source: impl Read + Send + 'static, made_even: bool, size: usize) -> mpsc::Receiver<io::Result<Piece>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_all(source, made_even, size, &sender) {
            // The receiver may have gone first; then nobody is left to be told.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn read_all(
    mut source: impl Read,
    made_even: bool,
    size: usize,
    sender: &mpsc::Sender<io::Result<Piece>>,
) -> io::Result<()> {
    let mut bytes = read_piece(&mut source, size)?;
    if bytes.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the payload is empty"));
    }
    let mut odd = false;
    loop {
        odd ^= bytes.len() % 2 == 1;
        let next = read_piece(&mut source, size)?;
        let last = next.is_empty();
        if last && odd && made_even {
            bytes.push(0);
        }
        if sender.blocking_send(Ok(Piece { bytes: bytes.into(), last })).is_err() || last {
            return Ok(());
        }
        bytes = next;
    }
}

/// Reads until `size` bytes are there or the source ends.
fn read_piece(source: &mut impl Read, size: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(size);
    source.take(size as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

#[cfg(test)]
mod tests {
    use crate::dataset::transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT;

    use super::*;

    async fn collect(mut receiver: mpsc::Receiver<io::Result<Piece>>) -> (Vec<u8>, bool, Option<io::Error>) {
        let (mut all, mut complete) = (Vec::new(), false);
        while let Some(piece) = receiver.recv().await {
            match piece {
                Ok(piece) => {
                    assert!(!complete, "a piece after the last");
                    all.extend_from_slice(&piece.bytes);
                    complete = piece.last;
                }
                Err(error) => return (all, complete, Some(error)),
            }
        }
        (all, complete, None)
    }

    #[tokio::test]
    async fn every_length_around_the_piece_size_arrives_with_exactly_one_last_piece() {
        for length in [1, 9, 10, 11, 20, 25] {
            let source: Vec<u8> = (0..length).collect();
            let (all, complete, error) = collect(pump(io::Cursor::new(source.clone()), false, 10)).await;
            assert_eq!((all, complete, error.is_none()), (source, true, true));
        }
    }

    #[tokio::test]
    async fn a_source_that_fails_verification_at_its_end_never_yields_a_last_piece() {
        struct DamagedAtTheEnd(usize);
        impl Read for DamagedAtTheEnd {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "hash"));
                }
                let n = buffer.len().min(self.0);
                self.0 -= n;
                Ok(n)
            }
        }
        for length in [0, 5, 10, 35] {
            let (_, complete, error) = collect(pump(DamagedAtTheEnd(length), true, 10)).await;
            assert!(!complete);
            assert_eq!(error.unwrap().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn a_deflated_data_set_of_odd_length_gets_the_null_byte_of_the_standard_at_the_second_attempt() {
        let tried = |syntax: &str, attempts| made_even(&syntax.parse().unwrap(), attempts);
        assert_eq!((tried(DEFLATED, 0), tried(DEFLATED, 1), tried(EXPLICIT, 1)), (false, true, false));
        for length in [1, 9, 10, 11, 20, 25] {
            let source: Vec<u8> = (1..=length).collect();
            let (all, complete, _) = collect(pump(io::Cursor::new(source.clone()), true, 5)).await;
            assert!(complete && all.len().is_multiple_of(2), "{all:?}");
            assert_eq!((all.get(..source.len()), all.get(source.len()).unwrap_or(&0)), (Some(&*source), &0));
        }
    }

    #[tokio::test]
    async fn an_empty_payload_is_an_error() {
        let (_, complete, error) = collect(pump(io::empty(), true, 10)).await;
        assert!(!complete && error.is_some());
    }
}
