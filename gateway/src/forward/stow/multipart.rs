//! The body of a Store Instances request (PS3.18 10.5.1, RFC 2046 5.1): Part 10 files, one behind the other. Pure.
//!
//! ```text
//! --BOUNDARY␍␊ Content-Type: application/dicom␍␊ ␍␊ preamble, DICM, file meta information, data set ␍␊
//! --BOUNDARY␍␊ …
//! --BOUNDARY--␍␊
//! ```
//!
//! The data set is the payload as it was received. The transfer syntax stands in its file meta information and not in the
//! header of the part: several archives refuse a Content-Type with a parameter that they do not know.
//!
//! The boundary has 192 random bits that nobody knows before the request: no data set holds it, by accident or on purpose.

use std::fmt::Write;
use std::io;

use crate::dataset::part10::{FileMeta, write_file_meta};

/// Random bytes of a boundary.
pub(super) const RANDOM: usize = 24;

const HEADER: &str = "\r\nContent-Type: application/dicom\r\n\r\n";

/// What separates the parts of one request.
#[derive(Debug, Clone)]
pub(super) struct Boundary(String);

impl Boundary {
    pub(super) fn new(random: [u8; RANDOM]) -> Self {
        let mut text = String::with_capacity(2 * RANDOM);
        for byte in random {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The value of Content-Type.
    pub(super) fn content_type(&self) -> String {
        format!("multipart/related; type=\"application/dicom\"; boundary={}", self.0)
    }

    /// Everything from the end of the part before to the first byte of this one's data set.
    pub(super) fn begin(&self, first: bool, meta: &FileMeta) -> io::Result<Vec<u8>> {
        let mut head = Vec::with_capacity(1024);
        if !first {
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"--");
        head.extend_from_slice(self.0.as_bytes());
        head.extend_from_slice(HEADER.as_bytes());
        write_file_meta(&mut head, meta)?;
        Ok(head)
    }

    /// A body in which there is nothing.
    pub(super) fn nothing(&self) -> String {
        format!("--{}--\r\n", self.0)
    }

    /// The end of the body: to be sent only if every data set has been read to its verified end.
    pub(super) fn end(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.0).into_bytes()
    }
}

/// Bytes of the whole body; nothing if the length of a data set is not known.
pub(super) fn length<'a>(
    boundary: &Boundary,
    parts: impl Iterator<Item = (&'a FileMeta, Option<u64>)>,
) -> io::Result<Option<u64>> {
    let mut total = boundary.end().len() as u64;
    for (number, (meta, data_set)) in parts.enumerate() {
        let Some(data_set) = data_set else { return Ok(None) };
        total = total.saturating_add(boundary.begin(number == 0, meta)?.len() as u64).saturating_add(data_set);
    }
    Ok(Some(total))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::part10::read_file_meta;

    fn meta(number: usize) -> FileMeta {
        FileMeta {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: format!("1.2.{number}").parse().unwrap(),
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            source_ae: Some("WAYSTATION".parse().unwrap()),
        }
    }

    /// A parser as RFC 2046 describes it, which knows nothing of how the body was made.
    fn parts(body: &[u8], content_type: &str) -> Option<Vec<Vec<u8>>> {
        let boundary = content_type.split("boundary=").nth(1)?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        let with_line_end = [b"\r\n", body].concat();
        let mut found = Vec::new();
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = with_line_end.as_slice();
        while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
            pieces.push(&rest[..at]);
            rest = &rest[at + delimiter.len()..];
        }
        if rest != b"--\r\n" || !pieces.first()?.is_empty() {
            return None;
        }
        for piece in &pieces[1..] {
            let piece = piece.strip_prefix(b"\r\n")?;
            let blank = piece.windows(4).position(|window| window == b"\r\n\r\n")?;
            assert_eq!(&piece[..blank], b"Content-Type: application/dicom");
            found.push(piece[blank + 4..].to_vec());
        }
        Some(found)
    }

    proptest! {
        /// Data sets that are made of nothing but what could be taken for the end of a part.
        #[test]
        fn what_goes_in_comes_out_and_every_shorter_body_is_not_whole(
            random in any::<[u8; RANDOM]>(),
            data_sets in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..200), 1..6),
        ) {
            let boundary = Boundary::new(random);
            let mut body = Vec::new();
            for (number, data_set) in data_sets.iter().enumerate() {
                body.extend(boundary.begin(number == 0, &meta(number)).unwrap());
                body.extend(data_set);
            }
            prop_assert!(parts(&body, &boundary.content_type()).is_none());
            body.extend(boundary.end());
            let metas: Vec<_> = (0..data_sets.len()).map(meta).collect();
            let lengths = data_sets.iter().map(|data_set| Some(data_set.len() as u64));
            prop_assert_eq!(length(&boundary, metas.iter().zip(lengths)).unwrap(), Some(body.len() as u64));
            let found = parts(&body, &boundary.content_type()).unwrap();
            prop_assert_eq!(found.len(), data_sets.len());
            for (number, (part, data_set)) in found.iter().zip(&data_sets).enumerate() {
                let (found, rest) = read_file_meta(part.as_slice()).unwrap();
                prop_assert_eq!(found.sop_instance_uid, Some(meta(number).sop_instance_uid));
                prop_assert_eq!(&part[usize::try_from(rest.offset()).unwrap()..], data_set.as_slice());
            }
        }
    }

    #[test]
    fn a_length_that_is_not_known_makes_the_whole_unknown() {
        let boundary = Boundary::new([7; RANDOM]);
        let (one, two) = (meta(1), meta(2));
        assert_eq!(length(&boundary, [(&one, Some(3)), (&two, None)].into_iter()).unwrap(), None);
        assert!(boundary.content_type().len() < 130 && boundary.0.len() <= 70);
    }
}
