//! The action information of a request for storage commitment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waystation::receive::commitment::fuzzing::read;
use waystation_fuzz::delivery;

const TRANSFER_SYNTAXES: [&str; 3] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];

fuzz_target!(|input: &[u8]| {
    let Some((manner, content)) = delivery(input) else { return };
    let transfer_syntax = TRANSFER_SYNTAXES[usize::from(manner.variant) % TRANSFER_SYNTAXES.len()].parse().unwrap();
    let whole = read(&transfer_syntax, std::iter::once(content));
    // Which of two faults is told may depend on how it is cut; whether it is a request, and which, may not.
    let pieces = read(&transfer_syntax, content.chunks(manner.piece));
    assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok(), "it depends on how it is cut");
    match whole {
        Ok((_, references)) => assert!((1..=content.len() / 16).contains(&references), "{references} references"),
        Err(why) => assert!(why.len() <= 64 && why.is_ascii(), "{why}"),
    }
});
