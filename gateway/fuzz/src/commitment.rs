//! The data sets of storage commitment: the action information of a request, and the event information of a report.

use waystation::dimse::commitment::{Budget, Information, InformationReader, MOST_AT_ONCE, Unusable, write};
use waystation::model::Uid;

use super::delivery;

const TRANSFER_SYNTAXES: [&str; 3] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];

fn read<'a>(transfer_syntax: &Uid, pieces: impl Iterator<Item = &'a [u8]>) -> Result<Information, Unusable> {
    let mut reader = InformationReader::new(transfer_syntax, Budget::new(MOST_AT_ONCE).share());
    pieces.for_each(|piece| reader.feed(piece));
    reader.finish().map(|(information, _)| information)
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let transfer_syntax = TRANSFER_SYNTAXES[usize::from(manner.variant) % 3].parse().unwrap();
    let whole = read(&transfer_syntax, std::iter::once(content));
    // Which of two faults is told may depend on how it is cut; whether it is a request, and which, may not.
    let pieces = read(&transfer_syntax, content.chunks(manner.piece));
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok(), "it depends on how it is cut");
    match whole {
        Ok(information) => {
            let named = information.references.len() + information.failed.len();
            assert!((1..=content.len() / 16).contains(&named), "{named} references");
            let failed = information.failed.iter().map(|(reference, reason)| (reference, *reason));
            let written = write(&information.transaction, &information.references, failed, &transfer_syntax);
            if manner.variant % 3 != 2 {
                assert_eq!(read(&transfer_syntax, std::iter::once(&written[..])).as_ref(), Ok(&information));
            }
        }
        Err(why) => {
            let why = why.to_string();
            assert!(why.len() <= 64 && why.is_ascii(), "{why}");
        }
    }
}
