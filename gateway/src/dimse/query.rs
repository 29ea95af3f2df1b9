//! The identifiers of a C-FIND for instances (PS3.4 C.6.2, Study Root, level IMAGE): the question written, and of each
//! match the one attribute read that matters, SOP Instance UID (0008,0018).

use dicom_core::Tag;

use super::writer::Writer;
use crate::dataset::transfer_syntax;
use crate::dataset::walker::{Event, Walker};
use crate::model::Uid;

/// Study Root Query/Retrieve Information Model – FIND (PS3.4 C.6.2).
pub const STUDY_ROOT_FIND: &str = "1.2.840.10008.5.1.4.1.2.2.1";

/// The most instances in one question: their UIDs have 6,500 bytes at most, and a value 64 KiB.
pub const MOST_INSTANCES: usize = 100;
/// The longest match that is read, in bytes. An archive answers with what was asked for and little more.
const MOST_BYTES: u64 = 64 * 1024;
/// A UID of 64 characters, and one more to see that a value is longer.
const LONGEST_VALUE: usize = 65;

const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const QUERY_LEVEL: Tag = Tag(0x0008, 0x0052);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);

/// Asks for instances of one series: list of UID matching (PS3.4 C.2.2.2.2) if there are several. Study and series are
/// unique keys of the levels above, which an archive may insist on.
#[must_use]
pub fn instances(study: Option<&Uid>, series: Option<&Uid>, instances: &[&Uid], transfer_syntax: &Uid) -> Vec<u8> {
    let writer = Writer::new(transfer_syntax);
    let mut identifier = Vec::with_capacity(256);
    let asked = instances.get(..MOST_INSTANCES).unwrap_or(instances);
    writer.uids(&mut identifier, SOP_INSTANCE_UID, asked);
    writer.code(&mut identifier, QUERY_LEVEL, "IMAGE");
    for (tag, uid) in [(STUDY_INSTANCE_UID, study), (SERIES_INSTANCE_UID, series)] {
        if let Some(uid) = uid {
            writer.uid(&mut identifier, tag, uid);
        }
    }
    identifier
}

/// Reads a match that is pushed.
#[derive(Debug)]
pub struct MatchReader {
    /// Nothing once something was wrong with it: then it is only read over.
    walker: Option<Walker>,
    length: u64,
    wanted: bool,
    value: Vec<u8>,
    instance: Option<Uid>,
}

impl MatchReader {
    /// A reader of a match in this transfer syntax.
    #[must_use]
    pub fn new(transfer_syntax: &Uid) -> Self {
        let walker = Some(Walker::scanning(transfer_syntax::describe(transfer_syntax).encoding));
        Self { walker, length: 0, wanted: false, value: Vec::new(), instance: None }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        let Self { walker: Some(walker), wanted, value, instance, .. } = self else { return };
        let walked = walker.feed(bytes, &mut |event| match event {
            Event::Element(element) => {
                *wanted = element.tag == SOP_INSTANCE_UID && element.level == 0 && instance.is_none();
                value.clear();
            }
            Event::Value(piece) if *wanted => {
                let room = LONGEST_VALUE.saturating_sub(value.len());
                value.extend(piece.iter().take(room));
            }
            Event::ValueEnd if std::mem::take(wanted) => *instance = Uid::from_wire(value).ok(),
            _ => {}
        });
        if walked.is_err() || self.length > MOST_BYTES {
            self.walker = None;
            self.instance = None;
        }
    }

    /// Which instance it is, when there are no more bytes; nothing if it does not say, or cannot be read.
    #[must_use]
    pub fn finish(self) -> Option<Uid> {
        self.walker?.finish(&mut |_| {}).ok()?;
        self.instance
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::transfer_syntax::{EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn read(bytes: &[u8], piece: usize, syntax: &str) -> Option<Uid> {
        let mut reader = MatchReader::new(&uid(syntax));
        bytes.chunks(piece.max(1)).for_each(|piece| reader.feed(piece));
        reader.finish()
    }

    #[test]
    fn the_question_has_the_bytes_of_the_standard() {
        let (study, series) = (uid("1.2"), uid("1.2.3"));
        let asked = [&uid("1.2.3.4"), &uid("1.2.3.5")];
        let mut expected = b"\x08\0\x18\0UI\x10\x001.2.3.4\\1.2.3.5\0\x08\0\x52\0CS\x06\0IMAGE ".to_vec();
        expected.extend_from_slice(b"\x20\0\x0d\0UI\x04\x001.2\0\x20\0\x0e\0UI\x06\x001.2.3\0");
        assert_eq!(instances(Some(&study), Some(&series), &asked, &uid(EXPLICIT_VR_LITTLE_ENDIAN)), expected);
    }

    #[test]
    fn a_match_is_the_same_however_it_is_cut_and_what_is_none_is_nothing() {
        for syntax in [IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN] {
            let matched = instances(Some(&uid("1.2")), None, &[&uid("1.2.3.4")], &uid(syntax));
            for piece in [1, 5, matched.len()] {
                assert_eq!(read(&matched, piece, syntax), Some(uid("1.2.3.4")));
            }
            let two = instances(None, None, &[&uid("1.2.3.4"), &uid("1.2.3.5")], &uid(syntax));
            assert_eq!(read(&two, 99, syntax), None, "a list is no instance");
            assert_eq!(read(&matched[..matched.len() - 1], 99, syntax), None);
            assert_eq!(read(b"", 1, syntax), None);
            let mut long = matched.clone();
            Writer::new(&uid(syntax)).sequence(&mut long, Tag(0x0040, 0xA730), &vec![0; 70_000]);
            assert_eq!(read(&long, 1000, syntax), None);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, piece in 1_usize..40) {
            let _ = read(&bytes, piece, IMPLICIT_VR_LITTLE_ENDIAN);
        }
    }
}
