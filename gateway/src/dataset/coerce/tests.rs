use std::io::Read;

use proptest::prelude::*;

use super::*;
use crate::dataset::inflate::{Deflater, InflateReader};
use crate::dataset::sample::{Node, damage, data_sets, encode, telling_bytes};
use crate::dataset::transfer_syntax::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED, EXPLICIT_VR_BIG_ENDIAN as BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT, Encoding, IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT, TransferSyntax, describe,
};

const INSTITUTION: Tag = Tag(0x0008, 0x0080);
const STATION: Tag = Tag(0x0008, 0x1010);
const ACCESSION: Tag = Tag(0x0008, 0x0050);
const ID: Tag = Tag(0x0010, 0x0020);
const JPEG: &str = "1.2.840.10008.1.2.4.50";

fn syntax(uid: &str) -> TransferSyntax {
    describe(&uid.parse().unwrap())
}

fn change(tag: Tag, action: Action) -> Change {
    Change { tag, vr: values::changeable(tag).unwrap(), action }
}

fn set(tag: Tag, text: &str) -> Change {
    change(tag, Action::Set(text.to_owned()))
}

fn coercing(changes: Vec<Change>) -> Coercing {
    Coercing { changes, when: "20261121120000.000000+0000".into(), by: "Waystation GATE".into() }
}

fn leaf((group, element): (u16, u16), vr: &'static [u8; 2], text: &str) -> Node {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(if vr == b"UI" { 0 } else { b' ' });
    }
    Node::Leaf { tag: (group, element), vr, word: 1, value }
}

/// The item that says what was changed, from these attributes as they were.
fn item(before: Vec<Node>) -> Vec<Node> {
    vec![
        Node::Sequence { tag: (0x0400, 0x0550), items: vec![before], defined: true },
        leaf((0x0400, 0x0562), b"DT", "20261121120000.000000+0000"),
        leaf((0x0400, 0x0563), b"LO", "Waystation GATE"),
        leaf((0x0400, 0x0564), b"LO", ""),
        leaf((0x0400, 0x0565), b"CS", "COERCE"),
    ]
}

fn originals(items: Vec<Vec<Node>>, defined: bool) -> Node {
    Node::Sequence { tag: (0x0400, 0x0561), items, defined }
}

/// Plans, verifies, rewrites; `None` if nothing is to be done.
fn coerced(bytes: &[u8], syntax: TransferSyntax, changes: &[Change]) -> Result<Option<Vec<u8>>, CoerceError> {
    let Some(plan) = plan(bytes, syntax, &coercing(changes.to_vec()))? else { return Ok(None) };
    let proven = verify(bytes, syntax, &plan)?;
    let mut out = Vec::new();
    Rewriter::new(bytes, syntax, &plan).read_to_end(&mut out).unwrap();
    assert_eq!(proven.length, out.len() as u64);
    assert_eq!(proven.hash.0[..], *aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &out).as_ref());
    Ok(Some(out))
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let (mut deflater, mut out) = (Deflater::default(), Vec::new());
    deflater.feed(bytes, &mut out).unwrap();
    deflater.finish(&mut out).unwrap();
    out
}

fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    InflateReader::new(bytes).read_to_end(&mut out).unwrap();
    out
}

fn tag_of(node: &Node) -> (u16, u16) {
    match node {
        Node::Leaf { tag, .. } | Node::Sequence { tag, .. } => *tag,
    }
}

/// Puts an element in front of the first that stands behind it in the order of tags.
fn insert(nodes: &mut Vec<Node>, node: Node) {
    let place = nodes.iter().position(|other| tag_of(other) > tag_of(&node)).unwrap_or(nodes.len());
    nodes.insert(place, node);
}

#[test]
fn every_kind_of_change_is_made_in_every_transfer_syntax() {
    let study = || leaf((0x0020, 0x000d), b"UI", "1.2.3");
    let source = vec![
        leaf((0x0008, 0x0018), b"UI", "1.2.3.4"),
        leaf((0x0008, 0x0050), b"SH", "4711"),
        leaf((0x0008, 0x0061), b"CS", "CR\\CT"),
        leaf((0x0008, 0x1010), b"SH", "ROOM 1"),
        leaf((0x0008, 0x1030), b"LO", "Thorax"),
        leaf((0x0010, 0x0020), b"LO", "123"),
        study(),
    ];
    let changes = [
        set(INSTITUTION, "Clinic 7"),
        change(STATION, Action::Remove),
        change(ACCESSION, Action::Prefix("C7-".into())),
        change(ID, Action::Suffix("/C7".into())),
        change(Tag(0x0008, 0x0061), Action::Map(vec![("CR".into(), "DX".into())])),
        set(Tag(0x0008, 0x1030), "Thorax"),
    ];
    let before = vec![
        leaf((0x0008, 0x0050), b"SH", "4711"),
        leaf((0x0008, 0x0061), b"CS", "CR\\CT"),
        leaf((0x0008, 0x0080), b"LO", ""),
        leaf((0x0008, 0x1010), b"SH", "ROOM 1"),
        leaf((0x0010, 0x0020), b"LO", "123"),
    ];
    let expected = vec![
        leaf((0x0008, 0x0018), b"UI", "1.2.3.4"),
        leaf((0x0008, 0x0050), b"SH", "C7-4711"),
        leaf((0x0008, 0x0061), b"CS", "DX\\CT"),
        leaf((0x0008, 0x0080), b"LO", "Clinic 7"),
        leaf((0x0008, 0x1030), b"LO", "Thorax"),
        leaf((0x0010, 0x0020), b"LO", "123/C7"),
        study(),
        originals(vec![item(before)], true),
    ];
    let fragments =
        b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\0\0\0\0\xfe\xff\0\xe0\x04\0\0\0\x01\x02\x03\x04\
                      \xfe\xff\xdd\xe0\0\0\0\0";
    for uid in [IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG, DEFLATED] {
        let syntax = syntax(uid);
        let pixels: &[u8] = if syntax.encapsulated { fragments } else { b"" };
        let [source, expected] =
            [&source, &expected].map(|nodes| [&encode(nodes, syntax.encoding, true)[..], pixels].concat());
        let stored = if syntax.deflated { deflated(&source) } else { source };
        let out = coerced(&stored, syntax, &changes).unwrap().unwrap();
        let out = if syntax.deflated { inflated(&out) } else { out };
        assert_eq!(out, expected, "{uid}");
        let again = if syntax.deflated { deflated(&out) } else { out };
        assert_eq!(coerced(&again, syntax, &changes[..3]).unwrap(), None, "{uid}: all is as wanted already");
    }
}

#[test]
fn an_item_is_added_to_those_that_are_there() {
    let earlier = || vec![leaf((0x0400, 0x0563), b"LO", "PACS"), leaf((0x0400, 0x0565), b"CS", "CORRECT")];
    let behind = || Node::Leaf { tag: (0x7fe0, 0x0010), vr: b"OW", word: 2, value: vec![7; 64] };
    for uid in [IMPLICIT, EXPLICIT, BIG_ENDIAN] {
        for items in [vec![], vec![earlier()], vec![earlier(), earlier()]] {
            for (defined, last) in [(true, false), (true, true), (false, false), (false, true)] {
                let encoding = syntax(uid).encoding;
                let mut source = vec![leaf((0x0008, 0x1010), b"SH", "A"), originals(items.clone(), defined)];
                let before = vec![leaf((0x0008, 0x1010), b"SH", "A")];
                let all = [items.clone(), vec![item(before)]].concat();
                let mut expected = vec![leaf((0x0008, 0x1010), b"SH", "B"), originals(all, defined)];
                if !last {
                    source.push(behind());
                    expected.push(behind());
                }
                let bytes = encode(&source, encoding, true);
                let out = coerced(&bytes, syntax(uid), &[set(STATION, "B")]).unwrap().unwrap();
                // The added item has a length, whatever those before have.
                let expected = match defined {
                    true => encode(&expected, encoding, true),
                    false => undefined_with_defined_item(&items, encoding, last, behind()),
                };
                assert_eq!(out, expected, "{uid}, {} items, defined {defined}, last {last}", items.len());
            }
        }
    }
}

/// Explicit bytes of the case above in which the sequence, and its earlier items, have no length.
fn undefined_with_defined_item(items: &[Vec<Node>], encoding: Encoding, last: bool, behind: Node) -> Vec<u8> {
    let before = vec![leaf((0x0008, 0x1010), b"SH", "A")];
    let mut out = encode(&[leaf((0x0008, 0x1010), b"SH", "B"), originals(items.to_vec(), false)], encoding, true);
    let delimiter = out.split_off(out.len() - 8);
    let added = encode(&[originals(vec![item(before)], true)], encoding, true);
    let header = if encoding == Encoding::ImplicitLe { 8 } else { 12 };
    out.extend(&added[header..]);
    out.extend(delimiter);
    if !last {
        out.extend(encode(&[behind], encoding, true));
    }
    out
}

#[test]
fn a_data_set_in_which_all_is_as_wanted_is_not_touched() {
    let bytes =
        encode(&[leaf((0x0008, 0x0050), b"SH", "C7-1"), leaf((0x0010, 0x0020), b"LO", "")], Encoding::ExplicitLe, true);
    for unchanged in [
        set(ACCESSION, "C7-1"),
        change(ACCESSION, Action::Prefix("C7-".into())),
        change(ACCESSION, Action::Suffix("-1".into())),
        change(ACCESSION, Action::Map(vec![("C7".into(), "C8".into())])),
        change(STATION, Action::Remove),
        change(STATION, Action::Prefix("X".into())),
        change(ID, Action::Suffix("X".into())),
        set(ID, ""),
    ] {
        assert_eq!(coerced(&bytes, syntax(EXPLICIT), std::slice::from_ref(&unchanged)).unwrap(), None, "{unchanged:?}");
    }
}

#[test]
fn group_lengths_grow_with_their_groups_and_zero_bytes_stay_behind_the_last_element() {
    let length = |group: u16, bytes: u32| Node::Leaf {
        tag: (group, 0),
        vr: b"UL",
        word: 4,
        value: bytes.to_le_bytes().to_vec(),
    };
    for uid in [IMPLICIT, EXPLICIT, BIG_ENDIAN] {
        let encoding = syntax(uid).encoding;
        let source = vec![
            length(8, 18),
            leaf((0x0008, 0x1010), b"SH", "AB"),
            length(0x10, 10),
            leaf((0x0010, 0x0020), b"LO", "12"),
        ];
        let expected = vec![
            length(8, 28),
            leaf((0x0008, 0x1010), b"SH", "AB, ROOM 12"),
            length(0x10, 10),
            leaf((0x0010, 0x0020), b"LO", "12"),
            originals(vec![item(vec![leaf((0x0008, 0x1010), b"SH", "AB")])], true),
        ];
        let zeros = [0; 13];
        let [source, expected] = [source, expected].map(|nodes| [&encode(&nodes, encoding, true)[..], &zeros].concat());
        let out = coerced(&source, syntax(uid), &[set(STATION, "AB, ROOM 12")]).unwrap().unwrap();
        assert_eq!(out, expected, "{uid}");
    }
}

#[test]
fn what_cannot_be_changed_soundly_is_refused_and_never_cut() {
    let refused = |nodes: &[Node], change: Change| {
        coerced(&encode(nodes, Encoding::ExplicitLe, true), syntax(EXPLICIT), &[change]).unwrap_err().to_string()
    };
    let accession = |text: &str| [leaf((0x0008, 0x0050), b"SH", text)];
    let prefix = |text: &str| change(ACCESSION, Action::Prefix(text.to_owned()));
    let told = refused(&accession("1234567890123"), prefix("ABC-"));
    assert_eq!(told, "(0008,0050) would become what SH does not allow: 17 characters, of which SH can have 16");
    assert!(refused(&accession("1\\2"), prefix("X")).contains("several values"));
    let twice = [accession("1"), accession("2")].concat();
    assert!(refused(&twice, prefix("X")).contains("twice"));
    let number = [leaf((0x0008, 0x0050), b"OB", "12")];
    assert!(refused(&number, prefix("X")).contains("is OB in this data set"));
    let signature = Node::Sequence { tag: (0xfffa, 0xfffa), items: vec![], defined: true };
    assert!(refused(&[accession("1").to_vec(), vec![signature]].concat(), prefix("X")).contains("digital signature"));
    let unreadable = [accession("1").to_vec(), vec![leaf((0x0400, 0x0561), b"UN", "xx")]].concat();
    assert!(refused(&unreadable, prefix("X")).contains("no item can be added"));
    let directory = [leaf((0x0004, 0x1200), b"UL", "1234"), accession("1")[0].clone()];
    assert!(refused(&directory, prefix("X")).contains("byte offsets"));
    let long = [leaf((0x0008, 0x0050), b"UT", &"x".repeat(50_000))];
    assert!(refused(&long, prefix("X")).contains("longer than"));
    let cut = encode(&accession("1"), Encoding::ExplicitLe, true);
    assert!(matches!(coerced(&cut[..9], syntax(EXPLICIT), &[prefix("X")]), Err(CoerceError::Defect(_))));
    assert!(matches!(coerced(b"", syntax(EXPLICIT), &[prefix("X")]), Err(CoerceError::Defect(Defect::Empty))));
}

#[test]
fn letters_count_as_the_character_set_has_them() {
    let station = |text: &str| leaf((0x0008, 0x1010), b"SH", text);
    let suffixed = |nodes: &[Node]| {
        let suffix = change(STATION, Action::Suffix("-C7".into()));
        coerced(&encode(nodes, Encoding::ExplicitLe, true), syntax(EXPLICIT), &[suffix])
    };
    let umlauts = "ÄÖÜÄÖÜÄÖÜÄÖÜ";
    assert!(suffixed(&[station(umlauts)]).is_err(), "24 bytes of an unknown character set");
    assert!(suffixed(&[leaf((0x0008, 0x0005), b"CS", "ISO_IR 192"), station(umlauts)]).unwrap().is_some());
}

#[test]
fn another_source_than_the_one_that_was_planned_for_never_leaves() {
    let bytes = |text: &str| {
        let nodes = [leaf((0x0008, 0x1010), b"SH", "ROOM"), leaf((0x0010, 0x0020), b"LO", text)];
        encode(&nodes, Encoding::ExplicitLe, true)
    };
    let plan = plan(&bytes("12")[..], syntax(EXPLICIT), &coercing(vec![set(STATION, "X")])).unwrap().unwrap();
    assert_eq!(plan.changed(), [STATION]);
    assert!(matches!(verify(&bytes("13")[..], syntax(EXPLICIT), &plan), Err(CoerceError::Different)));
    assert!(verify(&bytes("12")[..8], syntax(EXPLICIT), &plan).is_err());
    verify(&bytes("12")[..], syntax(EXPLICIT), &plan).unwrap();
}

/// Gives one byte at a time, and fails at the end if told to.
struct Drip<'a> {
    bytes: &'a [u8],
    fails: bool,
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "checksum"));
        }
        let count = self.bytes.len().min(buffer.len()).min(1);
        self.bytes.read(&mut buffer[..count])
    }
}

#[test]
fn a_source_that_fails_at_its_end_fails_every_pass_with_its_own_error() {
    let bytes = encode(&[leaf((0x0008, 0x1010), b"SH", "ROOM")], Encoding::ExplicitLe, true);
    let source = || Drip { bytes: &bytes, fails: true };
    let coercing = coercing(vec![set(STATION, "X")]);
    let read =
        |error: &CoerceError| matches!(error, CoerceError::Read(e) if e.kind() == std::io::ErrorKind::InvalidData);
    assert!(read(&plan(source(), syntax(EXPLICIT), &coercing).unwrap_err()));
    let plan = plan(&bytes[..], syntax(EXPLICIT), &coercing).unwrap().unwrap();
    assert!(read(&verify(source(), syntax(EXPLICIT), &plan).unwrap_err()));
    let mut rewriter = Rewriter::new(source(), syntax(EXPLICIT), &plan);
    let error = rewriter.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "damage is told from other failures by its kind");
    assert!(rewriter.read(&mut [0; 10]).is_err(), "and stays failed");
}

proptest! {
    #[test]
    fn random_data_sets_change_in_what_is_wanted_and_nowhere_else(nodes in data_sets(), lengths in any::<bool>()) {
        for uid in [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED] {
            let syntax = syntax(uid);
            let mut expected = nodes.clone();
            insert(&mut expected, leaf((0x0008, 0x0080), b"LO", "Clinic 7"));
            let source = encode(&nodes, syntax.encoding, lengths);
            let bytes = if syntax.deflated { deflated(&source) } else { source };
            let out = coerced(&bytes, syntax, &[set(INSTITUTION, "Clinic 7")]).unwrap().unwrap();
            let out = if syntax.deflated { inflated(&out) } else { out };
            // The item is ours and has lengths; what it stands between may have none.
            let item = encode(&[originals(vec![item(vec![leaf((0x0008, 0x0080), b"LO", "")])], true)], syntax.encoding, true);
            let place = expected.iter().position(|node| tag_of(node) > (0x0400, 0x0561)).unwrap_or(expected.len());
            let parts = [encode(&expected[..place], syntax.encoding, lengths), item, encode(&expected[place..], syntax.encoding, lengths)];
            prop_assert_eq!(out, parts.concat());
        }
    }

    #[test]
    fn nothing_that_comes_panics_or_leaves_unproved(
        nodes in data_sets(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), telling_bytes()), 0..6),
        cut in any::<Option<prop::sample::Index>>(),
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for uid in [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED] {
            let bytes = damage(encode(&nodes, syntax(uid).encoding, true), &changes, cut);
            for bytes in [&bytes, &deflated(&bytes), &random] {
                let wanted = [set(INSTITUTION, "Clinic 7"), change(Tag(0x0018, 0x1063), Action::Remove)];
                let whole = plan(&bytes[..], syntax(uid), &coercing(wanted.to_vec()));
                let drip = plan(Drip { bytes, fails: false }, syntax(uid), &coercing(wanted.to_vec()));
                prop_assert_eq!(whole.is_ok(), drip.is_ok());
                if let (Ok(Some(whole)), Ok(Some(drip))) = (whole, drip) {
                    prop_assert_eq!((&whole.edits, whole.rest), (&drip.edits, drip.rest));
                    verify(&bytes[..], syntax(uid), &whole).unwrap();
                }
            }
        }
    }
}
