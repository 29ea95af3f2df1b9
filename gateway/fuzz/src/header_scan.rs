//! The header scan: a data set in pieces of any size gives what it gives at once, and nothing is kept of it.

use waystation::dataset::transfer_syntax::describe;
use waystation::model::Uid;
use waystation::receive::scan::{HeaderScan, LONGEST_VALUE, Scan};

use super::delivery;

const TRANSFER_SYNTAXES: [&str; 6] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.70",
    "1.2.3.4.5",
];

fn scan<'a>(transfer_syntax: &Uid, pieces: impl Iterator<Item = &'a [u8]>) -> Scan {
    let mut scan = HeaderScan::new(transfer_syntax);
    for piece in pieces {
        scan.feed(piece);
    }
    scan.finish()
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let transfer_syntax = TRANSFER_SYNTAXES[usize::from(manner.variant) % TRANSFER_SYNTAXES.len()].parse().unwrap();
    let whole = scan(&transfer_syntax, std::iter::once(content));
    let pieces = scan(&transfer_syntax, content.chunks(manner.piece));
    // Of a damaged deflate stream more or less can be inflated before the damage shows, but it shows.
    if whole.defect.is_none() || !describe(&transfer_syntax).deflated {
        assert_eq!(whole, pieces, "it depends on how it is cut");
    }
    assert_eq!(whole.defect.is_some(), pieces.defect.is_some());
    assert_eq!(whole.length, content.len() as u64);
    if let Some(image) = whole.image {
        assert!(image.pixel_data_offset <= whole.length, "pixels begin behind the end");
        let _ = image.layout();
    }
    assert!(whole.modality.as_ref().is_none_or(|modality| modality.len() <= LONGEST_VALUE));
    let (class, instance) = ("1.2.840.10008.5.1.4.1.1.2".parse().unwrap(), "1.2.3".parse().unwrap());
    match whole.check(&class, &instance) {
        Ok(()) => assert!(whole.defect.is_none() && whole.sop_instance_uid == Some(instance)),
        Err(refusal) => assert!(refusal.comment.len() <= 64 && refusal.comment.is_ascii(), "{}", refusal.comment),
    }
}
