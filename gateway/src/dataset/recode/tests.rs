use proptest::prelude::*;

use super::*;
use crate::dataset::sample::{ITEM_END, SEQUENCE_END, data_sets, encode, explicit, implicit, open};
use crate::dataset::transfer_syntax::Encoding::{ExplicitBe, ExplicitLe, ImplicitLe};

fn recode(bytes: &[u8], from: Encoding, to: Encoding, piece: usize) -> Result<Vec<u8>, RecodeError> {
    let mut recoder = Recoder::new(from, to)?;
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        recoder.feed(piece, &mut out)?;
    }
    recoder.finish(&mut out)?;
    Ok(out)
}

fn to_explicit(bytes: &[u8]) -> Result<Vec<u8>, RecodeError> {
    recode(bytes, ImplicitLe, ExplicitLe, usize::MAX)
}

fn to_implicit(bytes: &[u8]) -> Result<Vec<u8>, RecodeError> {
    recode(bytes, ExplicitLe, ImplicitLe, usize::MAX)
}

const SEQUENCE: (u16, u16) = (0x0008, 0x1140);
const ITEM: (u16, u16) = (0xfffe, 0xe000);
const PIXELS: (u16, u16) = (0x7fe0, 0x0010);
const BITS_ALLOCATED: (u16, u16) = (0x0028, 0x0100);
const PIXEL_REPRESENTATION: (u16, u16) = (0x0028, 0x0103);
const SMALLEST: (u16, u16) = (0x0028, 0x0106);

#[test]
fn pixel_representation_decides_between_signed_and_unsigned() {
    for (representation, vr) in [(0, b"US"), (1, b"SS")] {
        let source = [implicit(PIXEL_REPRESENTATION, &[representation, 0]), implicit(SMALLEST, b"\xff\xff")].concat();
        let expected = explicit(SMALLEST, vr, b"\xff\xff");
        assert!(to_explicit(&source).unwrap().ends_with(&expected), "{representation}");
    }
    assert_eq!(to_explicit(&implicit(SMALLEST, b"\x01\0")).unwrap(), explicit(SMALLEST, b"US", b"\x01\0"));
}

#[test]
fn pixel_representation_is_inherited_by_items_that_have_none_of_their_own() {
    let lut = implicit((0x0028, 0x3002), b"\x00\x01\xff\xff\x10\0");
    let item = implicit(ITEM, &lut);
    let source = [implicit(PIXEL_REPRESENTATION, &[1, 0]), implicit((0x0028, 0x3010), &item)].concat();
    let expected = explicit((0x0028, 0x3002), b"SS", b"\x00\x01\xff\xff\x10\0");
    let result = to_explicit(&source).unwrap();
    assert!(result.windows(expected.len()).any(|window| window == expected));
}

#[test]
fn what_depends_on_a_pixel_representation_that_may_still_come_is_refused() {
    let early = Tag(0x0018, 0x9810);
    assert_eq!(to_explicit(&implicit((0x0018, 0x9810), b"\x01\0")), Err(RecodeError::SignUnknown(early)));
    assert!(to_explicit(&implicit((0x0018, 0x9810), b"")).is_ok());
    let item = implicit(ITEM, &implicit(SMALLEST, b"\xff\xff"));
    assert!(matches!(to_explicit(&implicit(SEQUENCE, &item)), Err(RecodeError::SignUnknown(_))));
    let disordered = [implicit(SMALLEST, b"\xff\xff"), implicit(PIXEL_REPRESENTATION, &[1, 0])].concat();
    assert_eq!(to_explicit(&disordered), Err(RecodeError::OutOfOrder));
}

#[test]
fn bits_allocated_decides_the_vr_of_pixel_data() {
    for (bits, vr) in [(1, b"OB"), (8, b"OB"), (16, b"OW"), (32, b"OW")] {
        let source = [implicit(BITS_ALLOCATED, &[bits, 0]), implicit(PIXELS, b"abcd")].concat();
        assert!(to_explicit(&source).unwrap().ends_with(&explicit(PIXELS, vr, b"abcd")), "{bits}");
    }
    assert_eq!(to_explicit(&implicit(PIXELS, b"abcd")).unwrap(), explicit(PIXELS, b"OW", b"abcd"));
    let overlay = (0x6002, 0x3000);
    assert_eq!(to_explicit(&implicit(overlay, b"ab")).unwrap(), explicit(overlay, b"OW", b"ab"));
    let waveform = [implicit((0x5400, 0x1004), &[8, 0]), implicit((0x5400, 0x1010), b"ab")].concat();
    assert!(to_explicit(&waveform).unwrap().ends_with(&explicit((0x5400, 0x1010), b"OB", b"ab")));
}

#[test]
fn private_elements_become_unknown_and_private_sequences_stay_sequences() {
    assert_eq!(to_explicit(&implicit((0x0009, 0x0010), b"ACME")).unwrap(), explicit((0x0009, 0x0010), b"LO", b"ACME"));
    assert_eq!(to_explicit(&implicit((0x0009, 0x1001), b"ab")).unwrap(), explicit((0x0009, 0x1001), b"UN", b"ab"));
    let source = [open((0x0009, 0x1002), None), open(ITEM, None), ITEM_END.to_vec(), SEQUENCE_END.to_vec()].concat();
    let expected =
        [open((0x0009, 0x1002), Some(b"SQ")), open(ITEM, None), ITEM_END.to_vec(), SEQUENCE_END.to_vec()].concat();
    assert_eq!(to_explicit(&source).unwrap(), expected);
    assert_eq!(to_implicit(&expected).unwrap(), source);
}

#[test]
fn a_value_that_is_too_long_for_its_vr_becomes_unknown() {
    let value = vec![b' '; 65_536];
    let mut expected = Vec::new();
    crate::dataset::sample::header(&mut expected, (0x0008, 0x0005), Some(b"UN"), Some(value.len()), ExplicitLe);
    expected.extend_from_slice(&value);
    assert_eq!(to_explicit(&implicit((0x0008, 0x0005), &value)).unwrap(), expected);
    assert_eq!(to_implicit(&expected).unwrap(), implicit((0x0008, 0x0005), &value));
}

#[test]
fn group_lengths_are_dropped_and_zero_bytes_at_the_end_are_kept() {
    let name = explicit((0x0010, 0x0010), b"PN", b"A^B ");
    let source = [explicit((0x0010, 0x0000), b"UL", &[12, 0, 0, 0]), name, vec![0; 20]].concat();
    assert_eq!(to_implicit(&source).unwrap(), [implicit((0x0010, 0x0010), b"A^B "), vec![0; 20]].concat());
}

#[test]
fn unknown_with_a_length_is_a_sequence_where_the_dictionary_says_so() {
    let content = implicit(ITEM, &implicit((0x0010, 0x0010), b"A^B "));
    let source = explicit(SEQUENCE, b"UN", &content);
    let expected = [
        open(SEQUENCE, None),
        open(ITEM, None),
        implicit((0x0010, 0x0010), b"A^B "),
        ITEM_END.to_vec(),
        SEQUENCE_END.to_vec(),
    ]
    .concat();
    assert_eq!(to_implicit(&source).unwrap(), expected);
}

#[test]
fn the_content_of_unknown_of_undefined_length_is_implicit_in_every_result() {
    let content =
        [open(ITEM, None), implicit((0x0028, 0x0010), b"\0\x02"), ITEM_END.to_vec(), SEQUENCE_END.to_vec()].concat();
    let private = (0x0009, 0x1002);
    let name = explicit((0x0010, 0x0010), b"PN", b"A^B ");
    let source = [open(private, Some(b"UN")), content.clone(), name].concat();
    let expected = [open(private, None), content.clone(), implicit((0x0010, 0x0010), b"A^B ")].concat();
    assert_eq!(to_implicit(&source).unwrap(), expected);
    let big = [b"\0\x09\x10\x02UN\0\0\xff\xff\xff\xff", &content[..], b"\0\x10\0\x10PN\0\x04A^B "].concat();
    assert_eq!(recode(&big, ExplicitBe, ExplicitLe, 1).unwrap(), source);
    assert_eq!(recode(&big, ExplicitBe, ImplicitLe, 1).unwrap(), expected);
}

#[test]
fn a_vr_that_contradicts_the_dictionary_is_not_given_up() {
    let refused = |tag, vr: &[u8; 2], value: &[u8]| {
        matches!(to_implicit(&explicit(tag, vr, value)), Err(RecodeError::Contradiction { .. }))
    };
    assert!(refused(SEQUENCE, b"LO", b"text"), "text where a sequence is expected");
    assert!(refused((0x0028, 0x0010), b"IS", b"512 "), "text where a number is expected");
    assert!(refused((0x0018, 0x9087), b"FL", &[0; 4]), "half as wide");
    assert!(refused((0x0018, 0x6020), b"UL", &[0, 0, 0, 0x80]), "too large for a signed number");
    assert!(!refused((0x0018, 0x6020), b"UL", &[0, 0, 0, 0x7f]));
    assert!(!refused((0x0008, 0x0060), b"LO", b"CT"), "text is text");
    assert!(!refused((0x0028, 0x0010), b"UN", b"\0\x02"), "unknown says nothing");
    assert!(!refused((0x0009, 0x1001), b"FD", &[0; 8]), "nor does the dictionary of private elements");
}

#[test]
fn what_cannot_be_converted_says_why() {
    let pixels = [open(PIXELS, Some(b"OB")), implicit(ITEM, b""), SEQUENCE_END.to_vec()].concat();
    assert_eq!(to_implicit(&pixels), Err(RecodeError::Encapsulated(tags::PIXEL_DATA)));
    let directory = explicit((0x0004, 0x1200), b"UL", &[1, 0, 0, 0]);
    assert_eq!(to_implicit(&directory), Err(RecodeError::Directory(Tag(0x0004, 0x1200))));
    assert!(matches!(to_implicit(b"\x10\0\x10\0PN"), Err(RecodeError::Defect(Defect::CutInHeader))));
    assert!(matches!(Recoder::new(ExplicitLe, ExplicitBe), Err(RecodeError::ToBigEndian)));
}

#[test]
fn big_endian_values_are_turned_only_where_their_numbers_are_known() {
    let big = |bytes: &[u8], to| recode(bytes, ExplicitBe, to, usize::MAX);
    let wide = [&b"\0\x28\x01\0US\0\x02\0\x20"[..], b"\x7f\xe0\0\x10OW\0\0\0\0\0\x04abcd"].concat();
    assert_eq!(big(&wide, ExplicitLe), Err(RecodeError::WidePixels(tags::PIXEL_DATA)));
    assert!(matches!(big(b"\0\x28\0\x10US\0\x03abc", ExplicitLe), Err(RecodeError::TornNumber(_))));
    assert!(matches!(big(b"\0\x28\0\x10ZZ\0\0\0\0\0\x02ab", ExplicitLe), Err(RecodeError::OrderUnknown { .. })));
    // Unknown stays unknown in Explicit VR; Implicit VR would give it a meaning.
    assert_eq!(big(b"\0\x09\x10\x01UN\0\0\0\0\0\x02ab", ExplicitLe).unwrap(), explicit((9, 0x1001), b"UN", b"ab"));
    assert!(matches!(big(b"\0\x09\x10\x01UN\0\0\0\0\0\x02ab", ImplicitLe), Err(RecodeError::OrderUnknown { .. })));
}

proptest! {
    #[test]
    fn the_result_is_byte_for_byte_what_the_standard_makes_of_the_same_tree(
        nodes in data_sets(), piece in 1_usize..50,
    ) {
        let explicit = encode(&nodes, ExplicitLe, true);
        let implicit = encode(&nodes, ImplicitLe, true);
        let to_implicit = recode(&explicit, ExplicitLe, ImplicitLe, piece);
        prop_assert_eq!(to_implicit, Ok(encode(&nodes, ImplicitLe, false)));
        let to_explicit = recode(&implicit, ImplicitLe, ExplicitLe, piece);
        prop_assert_eq!(to_explicit, Ok(encode(&nodes, ExplicitLe, false)));
        let big = encode(&nodes, ExplicitBe, true);
        prop_assert_eq!(recode(&big, ExplicitBe, ExplicitLe, piece), Ok(explicit));
    }

    #[test]
    fn the_output_is_bounded_by_the_input(nodes in data_sets()) {
        let mut recoder = Recoder::new(ImplicitLe, ExplicitLe).unwrap();
        for byte in encode(&nodes, ImplicitLe, true) {
            let mut out = Vec::new();
            recoder.feed(&[byte], &mut out).unwrap();
            prop_assert!(out.len() <= 12 + 16 * 12, "{}", out.len());
        }
    }
}
