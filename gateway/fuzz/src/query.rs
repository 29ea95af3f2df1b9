//! The matches of a query.

use waystation::dimse::query::{MatchReader, instances};
use waystation::model::Uid;

use super::delivery;

const TRANSFER_SYNTAXES: [&str; 2] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];

fn read<'a>(transfer_syntax: &Uid, pieces: impl Iterator<Item = &'a [u8]>) -> Option<Uid> {
    let mut reader = MatchReader::new(transfer_syntax);
    pieces.for_each(|piece| reader.feed(piece));
    reader.finish()
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let transfer_syntax = TRANSFER_SYNTAXES[usize::from(manner.variant) % TRANSFER_SYNTAXES.len()].parse().unwrap();
    let whole = read(&transfer_syntax, std::iter::once(content));
    let pieces = read(&transfer_syntax, content.chunks(manner.piece));
    assert_eq!(whole, pieces, "it depends on how it is cut");
    if let Some(instance) = whole {
        let written = instances(None, None, &[&instance], &transfer_syntax);
        assert_eq!(read(&transfer_syntax, std::iter::once(&written[..])), Some(instance));
    }
}
