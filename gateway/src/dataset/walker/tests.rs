use proptest::prelude::*;

use super::*;
use crate::dataset::sample::{
    ITEM_END, SEQUENCE_END, damage, data_sets, encode, explicit, implicit, open, telling_bytes,
};
use crate::dataset::transfer_syntax::Encoding::{ExplicitBe, ExplicitLe, ImplicitLe};

/// What a walk reports, with the pieces of each value joined.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Event(String),
    Value(Vec<u8>),
    Padding(usize),
}

fn walk(mut walker: Walker, bytes: &[u8], piece: usize) -> (Vec<Seen>, Result<(), Defect>) {
    let mut seen: Vec<Seen> = Vec::new();
    let mut sink = |event: Event<'_>| match (event, seen.last_mut()) {
        (Event::Value(piece), Some(Seen::Value(value))) => value.extend_from_slice(piece),
        (Event::Value(piece), _) => seen.push(Seen::Value(piece.to_vec())),
        (Event::Padding(zeros), Some(Seen::Padding(count))) => *count += zeros.len(),
        (Event::Padding(zeros), _) => seen.push(Seen::Padding(zeros.len())),
        (event, _) => seen.push(Seen::Event(format!("{event:?}"))),
    };
    let mut result = Ok(());
    for piece in bytes.chunks(piece) {
        result = walker.feed(piece, &mut sink);
    }
    let result = result.and_then(|()| walker.finish(&mut sink));
    (seen, result)
}

fn scan(bytes: &[u8], encoding: Encoding) -> Result<(), Defect> {
    walk(Walker::scanning(encoding), bytes, usize::MAX).1
}

fn descend(bytes: &[u8], encoding: Encoding) -> Result<(), Defect> {
    walk(Walker::descending(encoding), bytes, usize::MAX).1
}

/// How many events a scan reports for elements below the top level.
fn nested(bytes: &[u8], encoding: Encoding) -> usize {
    let mut count = 0;
    let mut walker = Walker::scanning(encoding);
    walker
        .feed(bytes, &mut |event| count += usize::from(matches!(event, Event::Element(element) if element.level > 0)))
        .unwrap();
    count
}

const NAME: &[u8] = b"\x10\0\x10\0PN\x04\0A^B ";
const SEQUENCE: (u16, u16) = (0x0008, 0x1140);
const ITEM: (u16, u16) = (0xfffe, 0xe000);
const PIXELS: (u16, u16) = (0x7fe0, 0x0010);

#[test]
fn a_hundred_thousand_levels_are_walked_and_have_to_be_closed() {
    const LEVELS: usize = 100_000;
    for (encoding, vr) in [(ExplicitLe, Some(b"SQ")), (ExplicitLe, Some(b"UN")), (ImplicitLe, None)] {
        let mut bytes = Vec::new();
        for level in 0..LEVELS {
            // The content of UN is implicit.
            let vr = vr.filter(|vr| level == 0 || *vr != b"UN");
            bytes.extend(open(SEQUENCE, vr));
            bytes.extend(open(ITEM, None));
        }
        for _ in 0..LEVELS {
            bytes.extend_from_slice(ITEM_END);
            bytes.extend_from_slice(SEQUENCE_END);
        }
        if vr != Some(b"UN") || encoding == ImplicitLe {
            bytes.extend_from_slice(if encoding == ImplicitLe { b"\x10\0\x10\0\0\0\0\0" } else { NAME });
        }
        assert_eq!(scan(&bytes, encoding), Ok(()));
        assert_eq!(scan(&bytes[..bytes.len() / 2], encoding), Err(Defect::Unclosed));
        assert_eq!(scan(&bytes[..bytes.len() - NAME.len() - 8], encoding), Err(Defect::Unclosed));
        assert!(matches!(descend(&bytes, encoding), Err(Defect::TooDeep(_))));
    }
}

#[test]
fn a_scan_skips_what_has_a_length_and_enters_what_has_none() {
    let item = implicit(ITEM, NAME);
    let defined = explicit(SEQUENCE, b"SQ", &item);
    assert_eq!(nested(&defined, ExplicitLe), 0);
    let open_sequence = [open(SEQUENCE, Some(b"SQ")), item, SEQUENCE_END.to_vec()].concat();
    assert_eq!(nested(&open_sequence, ExplicitLe), 0, "the item has a length");
    let open_item = [open(SEQUENCE, Some(b"SQ")), open(ITEM, None), NAME.to_vec()].concat();
    assert_eq!(nested(&open_item, ExplicitLe), 1);
    // What is skipped may be anything.
    assert_eq!(scan(&explicit(SEQUENCE, b"SQ", b"garbage!"), ExplicitLe), Ok(()));
    assert!(descend(&explicit(SEQUENCE, b"SQ", b"garbage!"), ExplicitLe).is_err());
}

#[test]
fn unknown_of_undefined_length_is_implicit_inside_and_explicit_again_behind() {
    let content = [
        open((0x0009, 0x1002), Some(b"UN")),
        open(ITEM, None),
        implicit((0x0010, 0x0010), b"A^B "),
        ITEM_END.to_vec(),
        SEQUENCE_END.to_vec(),
        NAME.to_vec(),
    ]
    .concat();
    assert_eq!(scan(&content, ExplicitLe), Ok(()));
    assert_eq!(descend(&content, ExplicitLe), Ok(()));
    // In big endian, too, the content is little endian; its own header is not.
    let big = [
        &b"\0\x09\x10\x02UN\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"[..],
        &implicit((0x0010, 0x0010), b"A^B "),
        ITEM_END,
        SEQUENCE_END,
        b"\0\x10\0\x10PN\0\x04A^B ",
    ]
    .concat();
    assert_eq!(scan(&big, ExplicitBe), Ok(()));
}

#[test]
fn fragments_are_walked_to_their_delimiter() {
    let pixels = [open(PIXELS, Some(b"OB")), implicit(ITEM, b""), implicit(ITEM, b"\xff\xd8\xff\xd9")].concat();
    let whole = [&pixels[..], SEQUENCE_END, &explicit((0xfffc, 0xfffc), b"OB", &[0; 10])].concat();
    assert_eq!(scan(&whole, ExplicitLe), Ok(()));
    assert_eq!(descend(&whole, ExplicitLe), Ok(()));
    let cut = Err(Defect::FragmentsUnclosed(tags::PIXEL_DATA));
    assert_eq!(scan(&pixels, ExplicitLe), cut);
    assert_eq!(scan(&pixels[..pixels.len() - 1], ExplicitLe), cut);
    assert_eq!(scan(&[&pixels[..], ITEM_END].concat(), ExplicitLe), Err(Defect::NotAnItem(tags::ITEM_DELIMITATION)));
    let endless = [open(PIXELS, Some(b"OW")), open(ITEM, None)].concat();
    assert_eq!(scan(&endless, ExplicitLe), Err(Defect::UndefinedFragment(tags::PIXEL_DATA)));
}

#[test]
fn every_cut_of_a_data_set_is_a_defect_except_between_elements() {
    let first = explicit((0x0008, 0x0060), b"CS", b"CT");
    let open_sequence = [open(SEQUENCE, Some(b"SQ")), open(ITEM, None), NAME.to_vec()].concat();
    let sequence = [&open_sequence[..], ITEM_END, SEQUENCE_END].concat();
    let bytes = [first.clone(), sequence.clone(), NAME.to_vec()].concat();
    let boundaries = [0, first.len(), first.len() + sequence.len(), bytes.len()];
    for end in 0..=bytes.len() {
        let expected = boundaries.contains(&end);
        assert_eq!(scan(&bytes[..end], ExplicitLe).is_ok(), expected, "{end}");
        assert_eq!(descend(&bytes[..end], ExplicitLe).is_ok(), expected, "{end}");
    }
}

#[test]
fn lengths_that_lead_beyond_the_end_cost_nothing_and_are_defects() {
    let huge = b"\xe0\x7f\x10\0OW\0\0\xfe\xff\xff\xffrest";
    assert_eq!(scan(huge, ExplicitLe), Err(Defect::CutInValue(tags::PIXEL_DATA)));
    let inside = explicit(SEQUENCE, b"SQ", &implicit(ITEM, b"\x10\0\x10\0PN\x09\0A^B "));
    assert_eq!(scan(&inside, ExplicitLe), Ok(()));
    assert_eq!(descend(&inside, ExplicitLe), Err(Defect::BeyondSequence(Tag(0x0010, 0x0010))));
    let item_beyond = explicit(SEQUENCE, b"SQ", b"\xfe\xff\0\xe0\x01\0\0\0");
    assert!(matches!(descend(&item_beyond, ExplicitLe), Err(Defect::BeyondSequence(_))));
}

#[test]
fn an_undefined_length_is_allowed_only_where_it_can_be_followed() {
    for vr in [b"UT", b"UC", b"OF", b"OD", b"ZZ"] {
        let header = [&b"\x40\0\x60\xa1"[..], vr, b"\0\0\xff\xff\xff\xff"].concat();
        assert_eq!(scan(&header, ExplicitLe), Err(Defect::UndefinedLength(Tag(0x0040, 0xa160))));
    }
}

#[test]
fn garbage_at_the_top_level_is_a_defect() {
    assert_eq!(scan(SEQUENCE_END, ExplicitLe), Err(Defect::Stray(tags::SEQUENCE_DELIMITATION)));
    assert_eq!(scan(ITEM_END, ImplicitLe), Err(Defect::Stray(tags::ITEM_DELIMITATION)));
    assert_eq!(scan(&implicit(ITEM, NAME), ImplicitLe), Err(Defect::Stray(tags::ITEM)));
    let text = b"GET / HTTP/1.1\r\nHost: waystation\r\n\r\n";
    assert!(scan(text, ExplicitLe).is_err());
    assert!(scan(text, ImplicitLe).is_err());
    let behind = [NAME, b"\x28\0\x10\0\x07\0\0\x02"].concat();
    assert_eq!(scan(&behind, ExplicitLe), Err(Defect::BadVr(Tag(0x0028, 0x0010))));
}

#[test]
fn zero_bytes_behind_the_last_element_are_reported_and_nothing_else_may_follow() {
    for count in 1..40 {
        let padded = [NAME, &vec![0; count]].concat();
        let (seen, result) = walk(Walker::scanning(ExplicitLe), &padded, 3);
        assert_eq!((result, seen.last()), (Ok(()), Some(&Seen::Padding(count))));
    }
    let behind = [NAME, &[0; 16], NAME].concat();
    assert_eq!(scan(&behind, ExplicitLe), Err(Defect::AfterPadding));
}

#[test]
fn odd_value_representations_have_the_header_that_devices_write() {
    let long = [&b"\x08\0\x18\0ZZ\0\0\x02\0\0\x001\0"[..], NAME].concat();
    assert_eq!(scan(&long, ExplicitLe), Ok(()));
    let short = [&b"\x08\0\x18\0??\x02\x001\0"[..], NAME].concat();
    assert_eq!(scan(&short, ExplicitLe), Ok(()));
}

#[test]
fn a_wrongly_announced_data_set_can_be_scanned_but_not_descended() {
    let real_implicit = [implicit((0x0008, 0x0018), b"1.2\0"), implicit((0x0010, 0x0010), b"A^B ")].concat();
    assert_eq!(scan(&real_implicit, ExplicitLe), Ok(()));
    assert!(descend(&real_implicit, ExplicitLe).is_err());
    let real_explicit = [explicit((0x0008, 0x0018), b"UI", b"1.2\0"), NAME.to_vec()].concat();
    assert_eq!(scan(&real_explicit, ImplicitLe), Ok(()));
    assert!(descend(&real_explicit, ImplicitLe).is_err());
}

#[test]
fn the_offset_of_a_value_is_where_it_starts() {
    let bytes = [NAME, &explicit(PIXELS, b"OW", &[7; 6])].concat();
    let mut offset = 0;
    Walker::scanning(ExplicitLe)
        .feed(&bytes, &mut |event| {
            if let Event::Element(element) = event {
                offset = usize::try_from(element.value_offset).unwrap();
            }
        })
        .unwrap();
    assert_eq!(bytes[offset..], [7; 6]);
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop_oneof![Just(ImplicitLe), Just(ExplicitLe), Just(ExplicitBe)]
}

proptest! {
    #[test]
    fn fed_byte_by_byte_it_sees_what_it_sees_fed_whole(
        nodes in data_sets(), encoding in encodings(), piece in 1_usize..40,
    ) {
        let bytes = encode(&nodes, encoding, true);
        for walker in [Walker::scanning, Walker::descending] {
            let whole = walk(walker(encoding), &bytes, usize::MAX);
            prop_assert_eq!(whole.1, Ok(()));
            prop_assert_eq!(&walk(walker(encoding), &bytes, 1), &whole);
            prop_assert_eq!(&walk(walker(encoding), &bytes, piece), &whole);
        }
    }

    #[test]
    fn random_bytes_get_a_verdict(bytes in prop::collection::vec(telling_bytes(), 0..300), encoding in encodings()) {
        for walker in [Walker::scanning, Walker::descending] {
            let whole = walk(walker(encoding), &bytes, usize::MAX);
            prop_assert_eq!(walk(walker(encoding), &bytes, 1), whole);
        }
    }

    #[test]
    fn damaged_data_sets_get_the_same_verdict_in_pieces_of_any_size(
        nodes in data_sets(),
        encoding in encodings(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), telling_bytes()), 0..4),
        cut in any::<Option<prop::sample::Index>>(),
        piece in 1_usize..40,
    ) {
        let bytes = damage(encode(&nodes, encoding, true), &changes, cut);
        for walker in [Walker::scanning, Walker::descending] {
            let whole = walk(walker(encoding), &bytes, usize::MAX);
            prop_assert_eq!(&walk(walker(encoding), &bytes, 1), &whole);
            prop_assert_eq!(&walk(walker(encoding), &bytes, piece), &whole);
        }
    }
}
