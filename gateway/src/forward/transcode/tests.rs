use proptest::prelude::*;

use super::*;
use crate::dataset::sample::{damage, data_sets, encode, explicit, implicit, telling_bytes};
use crate::dataset::transfer_syntax::Encoding;
use crate::phantom::{MultiFrame, Phantom};

const ALL: [&str; 4] = [IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN];

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn convert(source: &[u8], from: &str, to: &str) -> Result<Vec<u8>, TranscodeError> {
    let mut out = Vec::new();
    Converter::new(source, &uid(from), &uid(to))?.read_to_end(&mut out).map_err(transcode_error)?;
    Ok(out)
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let (mut deflater, mut out) = (Deflater::default(), Vec::new());
    deflater.feed(bytes, &mut out).unwrap();
    deflater.finish(&mut out).unwrap();
    out
}

fn encode_as(nodes: &[crate::dataset::sample::Node], syntax: &str) -> Vec<u8> {
    let bytes = encode(nodes, describe(&uid(syntax)).encoding, true);
    if syntax == DEFLATED { deflated(&bytes) } else { bytes }
}

/// Gives one byte at a time, and fails at the end if told to.
struct Drip<'a> {
    bytes: &'a [u8],
    fails: bool,
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum"));
        }
        let count = self.bytes.len().min(buffer.len()).min(1);
        self.bytes.read(&mut buffer[..count])
    }
}

#[test]
fn only_uncompressed_transfer_syntaxes_are_converted_and_never_into_big_endian() {
    for from in ALL {
        assert!(!conversions(&uid(from)).contains(&from));
        assert!(!conversions(&uid(from)).contains(&BIG_ENDIAN));
        assert!(!conversions(&uid(from)).is_empty());
    }
    for compressed in ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.95", "1.2.3"] {
        assert!(conversions(&uid(compressed)).is_empty());
        assert!(matches!(convert(b"", compressed, EXPLICIT), Err(TranscodeError::NotOffered { .. })));
    }
    assert!(matches!(convert(b"", EXPLICIT, EXPLICIT), Err(TranscodeError::NotOffered { .. })));
}

#[test]
fn a_phantom_survives_every_conversion_and_the_way_back() {
    let mut source = Vec::new();
    Phantom::small(1).write_data_set(0, &mut source).unwrap();
    for to in conversions(&uid(EXPLICIT)) {
        let length = verify(&source[..], &uid(EXPLICIT), &uid(to)).unwrap();
        let converted = convert(&source, EXPLICIT, to).unwrap();
        assert_eq!(converted.len() as u64, length);
        verify(&converted[..], &uid(to), &uid(EXPLICIT)).unwrap();
        let back = convert(&converted, to, EXPLICIT).unwrap();
        if *to == DEFLATED {
            assert_eq!(back, source);
        }
    }
}

#[test]
fn a_large_instance_is_converted_without_being_held() {
    /// Counts what is written to it.
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let instance = MultiFrame { seed: 3, rows: 512, columns: 512, frames: 16 };
    let mut source = Vec::new();
    instance.write_data_set(&mut source).unwrap();
    let mut converter = Converter::new(&source[..], &uid(EXPLICIT), &uid(IMPLICIT)).unwrap();
    let mut count = Count(0);
    io::copy(&mut converter, &mut count).unwrap();
    assert!(count.0 > 16 * 512 * 512);
    assert!(converter.out.bytes.capacity() <= 4 * CHUNK, "{}", converter.out.bytes.capacity());
}

#[test]
fn a_source_that_fails_at_its_end_fails_the_conversion() {
    let plain = explicit((0x0010, 0x0010), b"PN", b"A^B ");
    for (bytes, from, to) in [(plain.clone(), EXPLICIT, IMPLICIT), (deflated(&plain), DEFLATED, EXPLICIT)] {
        let source = || Drip { bytes: &bytes, fails: true };
        assert!(matches!(verify(source(), &uid(from), &uid(to)), Err(TranscodeError::Read(_))));
        let mut converter = Converter::new(source(), &uid(from), &uid(to)).unwrap();
        assert!(converter.read_to_end(&mut Vec::new()).is_err());
        assert!(converter.read(&mut [0; 10]).is_err(), "and stays failed");
    }
}

#[test]
fn a_truncated_source_is_never_converted_to_its_end() {
    let whole = explicit((0x0010, 0x0010), b"PN", b"A^B ");
    for end in 1..whole.len() {
        assert!(convert(&whole[..end], EXPLICIT, IMPLICIT).is_err(), "{end}");
    }
    let packed = deflated(&whole);
    for end in 0..packed.len() - 2 {
        assert!(convert(&packed[..end], DEFLATED, EXPLICIT).is_err(), "{end}");
    }
}

#[test]
fn the_message_is_for_the_person_who_finds_the_instance_parked() {
    let directory = implicit((0x0004, 0x1200), &[0; 4]);
    let error = convert(&directory, IMPLICIT, EXPLICIT).unwrap_err().to_string();
    assert_eq!(error, "(0004,1200) holds byte offsets that a conversion would make wrong.");
}

proptest! {
    #[test]
    fn every_data_set_verifies_in_every_offered_conversion(nodes in data_sets()) {
        // Private values of unknown VR have no byte order that could be turned for an implicit reader.
        let has_unknown = encode(&nodes, Encoding::ExplicitLe, true).windows(2).any(|two| two == b"UN");
        for from in ALL {
            let source = encode_as(&nodes, from);
            for to in conversions(&uid(from)) {
                if has_unknown && from == BIG_ENDIAN && *to == IMPLICIT {
                    continue;
                }
                let length = verify(&source[..], &uid(from), &uid(to));
                prop_assert!(length.is_ok(), "{} to {}: {:?}", from, to, length);
                let whole = convert(&source, from, to).unwrap();
                prop_assert_eq!(whole.len() as u64, length.unwrap());
                let mut dripped = Vec::new();
                let drip = Drip { bytes: &source, fails: false };
                Converter::new(drip, &uid(from), &uid(to)).unwrap().read_to_end(&mut dripped).unwrap();
                prop_assert_eq!(dripped, whole);
            }
        }
    }

    #[test]
    fn a_damaged_data_set_is_refused_or_converted_faithfully(
        nodes in data_sets(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), telling_bytes()), 0..4),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        for from in ALL {
            let source = damage(encode_as(&nodes, from), &changes, cut);
            for to in conversions(&uid(from)) {
                let result = verify(&source[..], &uid(from), &uid(to));
                prop_assert!(!matches!(result, Err(TranscodeError::Different)), "{} to {}: {:?}", from, to, source);
            }
        }
    }
}
