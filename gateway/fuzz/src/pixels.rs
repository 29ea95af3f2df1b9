//! Transcoding of any data set: what is written comes back as it was and does not depend on how the source is read, and any
//! bytes can be taken for a result.

use std::io::{Cursor, Read};

use waystation::model::Uid;
use waystation::pixels::{EncodeError, JPEG_LS, LeftAlone, Limits, RLE, candidates, decode, encode, look, verify};

use super::delivery;

const FROM: [&str; 4] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"];
const TO: [&str; 3] = [JPEG_LS, RLE, "1.2.840.10008.1.2.1.99"];
/// Deflated data can become a thousand times longer: no more than this is looked at.
const MOST: u64 = 1 << 20;

/// Reads a few bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.len().min(self.1).min(buffer.len());
        let (now, rest) = self.0.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.0 = rest;
        Ok(length)
    }
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let limits = Limits { frame: 1 << 16 };
    let variant = usize::from(manner.variant);
    let (from, to): (Uid, Uid) = (FROM[variant % 4].parse().unwrap(), TO[variant / 4 % 3].parse().unwrap());
    if manner.falls_silent {
        let native = decode(Pieces(content, manner.piece), &to, None, std::io::sink(), &limits);
        let _ = verify(content, &from, content, &to, &limits);
        assert!(!matches!(native, Err(EncodeError::Write(_))));
        return;
    }
    let mut result = Cursor::new(Vec::new());
    let outcome = encode(content.take(MOST), &from, &to, &mut result, &limits);
    if let Err(EncodeError::LeftAlone(reason)) = &outcome {
        assert!(!matches!(reason, LeftAlone::FrameDiffers | LeftAlone::Fragments), "{reason}");
    }
    let Ok(encoded) = outcome else { return };
    let result = result.into_inner();
    assert_eq!(encoded.bytes, result.len() as u64);
    verify(content, &from, &result[..], &to, &limits).expect("it was proved a moment ago");
    let facts = look(Pieces(content, manner.piece), &from).expect("it has been followed to its end");
    assert!(candidates(&facts, &from, &limits).contains(&to.as_str()));
    let mut again = Cursor::new(Vec::new());
    encode(Pieces(content, manner.piece), &from, &to, &mut again, &limits).expect("it depends on how it is read");
    assert_eq!(again.into_inner(), result, "it depends on how it is read");
}
