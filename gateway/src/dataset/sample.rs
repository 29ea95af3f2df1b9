//! Data sets for tests: trees that proptest grows, and what they are in each encoding. Written from PS3.5 without any
//! of the code under test, so that the two can be compared byte for byte.

use proptest::prelude::*;

use super::transfer_syntax::Encoding;

/// A data element of a tree.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Leaf { tag: (u16, u16), vr: &'static [u8; 2], word: usize, value: Vec<u8> },
    Sequence { tag: (u16, u16), items: Vec<Vec<Node>>, defined: bool },
}

/// Tags with the VR that the dictionary gives them, and the size of their numbers.
const LEAVES: [((u16, u16), &[u8; 2], usize); 18] = [
    ((0x0008, 0x0005), b"CS", 1),
    ((0x0008, 0x0018), b"UI", 1),
    ((0x0010, 0x0010), b"PN", 1),
    ((0x0018, 0x1063), b"DS", 1),
    ((0x0018, 0x6020), b"SL", 4),
    ((0x0018, 0x9087), b"FD", 8),
    ((0x0018, 0x605a), b"FL", 4),
    ((0x0009, 0x0010), b"LO", 1),
    ((0x0009, 0x1001), b"UN", 1),
    ((0x0028, 0x0010), b"US", 2),
    ((0x0028, 0x1201), b"OW", 2),
    ((0x0042, 0x0011), b"OB", 1),
    ((0x0066, 0x0016), b"OF", 4),
    ((0x0066, 0x0040), b"OL", 4),
    ((0x0070, 0x0022), b"FL", 4),
    ((0x0072, 0x0026), b"AT", 2),
    ((0x0072, 0x0078), b"UL", 4),
    ((0x0040, 0xa160), b"UT", 1),
];

const SEQUENCES: [(u16, u16); 4] = [(0x0008, 0x1140), (0x0040, 0x0275), (0x0040, 0xa730), (0x3006, 0x0020)];

/// A data set of up to a few dozen elements, up to five sequences deep, with lengths defined or not as it comes.
pub(crate) fn data_sets() -> impl Strategy<Value = Vec<Node>> {
    let leaf = (0..LEAVES.len(), prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(which, seed)| {
        let (tag, vr, word) = LEAVES[which];
        // Positive numbers: the sign of a private element is nobody's business here.
        let value = seed.iter().flat_map(|byte| [*byte & 0x7f; 8]).collect();
        // Of a private element nothing is known, so it has no byte order to turn.
        Node::Leaf { tag, vr, word, value }
    });
    let node = leaf.prop_recursive(5, 60, 4, |inner| {
        let items = prop::collection::vec(prop::collection::vec(inner, 0..4), 0..3);
        (0..SEQUENCES.len(), items, any::<bool>()).prop_map(|(which, items, defined)| Node::Sequence {
            tag: SEQUENCES[which],
            items,
            defined,
        })
    });
    prop::collection::vec(node, 1..8)
}

/// The bytes of a data set. With `lengths`, sequences and items have the lengths that they are to have; without, none.
pub(crate) fn encode(nodes: &[Node], encoding: Encoding, lengths: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        match node {
            Node::Leaf { tag, vr, word, value } => {
                header(&mut out, *tag, Some(vr), Some(value.len()), encoding);
                let turn = encoding == Encoding::ExplicitBe;
                for number in value.chunks(*word) {
                    let mut number = number.to_vec();
                    if turn {
                        number.reverse();
                    }
                    out.append(&mut number);
                }
            }
            Node::Sequence { tag, items, defined } => {
                let mut value = Vec::new();
                for item in items {
                    let content = encode(item, encoding, lengths);
                    let length = (lengths && *defined).then_some(content.len());
                    header(&mut value, (0xfffe, 0xe000), None, length, encoding);
                    value.extend(content);
                    if length.is_none() {
                        header(&mut value, (0xfffe, 0xe00d), None, Some(0), encoding);
                    }
                }
                let length = (lengths && *defined).then_some(value.len());
                header(&mut out, *tag, Some(b"SQ"), length, encoding);
                out.extend(value);
                if length.is_none() {
                    header(&mut out, (0xfffe, 0xe0dd), None, Some(0), encoding);
                }
            }
        }
    }
    out
}

/// One header; `vr` is left out where the encoding has none.
pub(crate) fn header(
    out: &mut Vec<u8>,
    (group, element): (u16, u16),
    vr: Option<&[u8; 2]>,
    length: Option<usize>,
    encoding: Encoding,
) {
    let length = length.map_or(u32::MAX, |length| u32::try_from(length).unwrap());
    let short = |n: u16| if encoding == Encoding::ExplicitBe { n.to_be_bytes() } else { n.to_le_bytes() };
    let long = |n: u32| if encoding == Encoding::ExplicitBe { n.to_be_bytes() } else { n.to_le_bytes() };
    out.extend(short(group));
    out.extend(short(element));
    let vr = vr.filter(|_| encoding != Encoding::ImplicitLe);
    out.extend(vr.into_iter().flatten());
    match vr {
        None => out.extend(long(length)),
        Some(b"OB" | b"OW" | b"OF" | b"OL" | b"UN" | b"UT" | b"SQ") => {
            out.extend([0, 0]);
            out.extend(long(length));
        }
        Some(_) => out.extend(short(u16::try_from(length).unwrap())),
    }
}

/// An element in Explicit VR Little Endian.
pub(crate) fn explicit(tag: (u16, u16), vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header(&mut out, tag, Some(vr), Some(value.len()), Encoding::ExplicitLe);
    out.extend_from_slice(value);
    out
}

/// An element in Implicit VR Little Endian, or an item.
pub(crate) fn implicit(tag: (u16, u16), value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    header(&mut out, tag, None, Some(value.len()), Encoding::ImplicitLe);
    out.extend_from_slice(value);
    out
}

/// A header of undefined length in Explicit VR Little Endian; an item without `vr`.
pub(crate) fn open(tag: (u16, u16), vr: Option<&[u8; 2]>) -> Vec<u8> {
    let mut out = Vec::new();
    header(&mut out, tag, vr, None, Encoding::ExplicitLe);
    out
}

/// The delimiter of an item.
pub(crate) const ITEM_END: &[u8] = b"\xfe\xff\x0d\xe0\0\0\0\0";
/// The delimiter of a sequence.
pub(crate) const SEQUENCE_END: &[u8] = b"\xfe\xff\xdd\xe0\0\0\0\0";

/// Damages bytes: at each place (modulo the length) the byte becomes another, or everything behind is cut off.
pub(crate) fn damage(
    mut bytes: Vec<u8>,
    changes: &[(prop::sample::Index, u8)],
    cut: Option<prop::sample::Index>,
) -> Vec<u8> {
    for (place, value) in changes {
        if !bytes.is_empty() {
            let place = place.index(bytes.len());
            bytes[place] = *value;
        }
    }
    if let Some(cut) = cut
        && !bytes.is_empty()
    {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// Bytes that mean something more often than random ones: lengths, delimiters, letters.
pub(crate) fn telling_bytes() -> impl Strategy<Value = u8> {
    prop_oneof![
        Just(0xff),
        Just(0xfe),
        Just(0xe0),
        Just(0xdd),
        Just(0x0d),
        Just(0),
        Just(b'S'),
        Just(b'Q'),
        Just(b'U'),
        Just(b'N'),
        any::<u8>()
    ]
}
