//! What comes as a data set: damaged ones, UIDs that are none, nesting, compressed ones. And connections that end in the
//! middle of it all.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::{Case, Step};
use crate::support::bytes::*;
use crate::support::caller::Answer::{Close, Status};

/// The SOP instance that the commands name.
const NAMED: &str = "2.25.77";

pub(super) fn cases() -> Vec<Case> {
    [damaged(), uids(), nested(), compressed(), ends()].concat()
}

/// Sends this data set on this context: refused with this status.
fn refused(chapter: &'static str, name: &str, context: u8, data_set: &[u8], status: u16) -> Case {
    Case::associated(chapter, name, &store(context, 1, NAMED, data_set), &[Status(status)])
}

/// A data set that is in order, or as good as: kept as it came.
fn kept(chapter: &'static str, name: &str, context: u8, sop_instance: &str, data_set: &[u8]) -> Case {
    Case { rows: 1, ..Case::associated(chapter, name, &store(context, 1, sop_instance, data_set), &[Status(0)]) }
}

fn in_implicit(sop_instance: &str) -> Vec<u8> {
    [
        implicit(8, 0x16, &uid(CT)),
        implicit(8, 0x18, &uid(sop_instance)),
        implicit(0x20, 0x0D, &uid("2.25.1000")),
        implicit(0x20, 0x0E, &uid("2.25.1001")),
    ]
    .concat()
}

fn damaged() -> Vec<Case> {
    let case = |name: &str, data_set: &[u8]| refused("data sets", name, 3, data_set, 0xC000);
    let identity = identity(NAMED);
    let with = |more: Vec<u8>| [identity.clone(), more].concat();
    let whole = image(NAMED, &[0x41; 512]);
    let garbage: Vec<u8> = (0..5000_u32).map(|n| u8::try_from((n * n + n / 3) % 251).unwrap()).collect();
    let without = |element: [u8; 4]| {
        let at = whole.windows(4).position(|bytes| bytes == element).unwrap();
        let length = usize::from(u16::from_le_bytes([whole[at + 6], whole[at + 7]]));
        [&whole[..at], &whole[at + 8 + length..]].concat()
    };
    vec![
        case("empty", b""),
        case("one byte", &[8]),
        case("zeros", &[0; 2000]),
        case("0xFF", &[0xFF; 2000]),
        case("garbage", &garbage),
        case("a Part 10 file", &[&[0; 128][..], b"DICM", &whole].concat()),
        case("cut within a header", &whole[..whole.len() - 515]),
        case("cut within the pixels", &whole[..whole.len() - 100]),
        case("cut within a UID", &identity[..20]),
        case("a length beyond the end", &with(explicit_head(0x10, 0x4000, "LT", 0xFFFE))),
        case("3.5 GB in 60 bytes", &with(explicit_head(0x7FE0, 0x10, "OW", 3_500_000_000))),
        case("FFFFFFFE bytes", &with(explicit_head(0x7FE0, 0x10, "OB", 0xFFFF_FFFE))),
        case("undefined length of UT", &with(explicit_head(0x40, 0xA160, "UT", u32::MAX))),
        case("undefined length of OF", &with([explicit_head(0x66, 0x16, "OF", u32::MAX), tagged(0xE0DD, 0)].concat())),
        case("a value representation of NUL", &with([vec![0x10, 0, 0x10, 0x40], vec![0; 20]].concat())),
        case("a value representation of 0xFF", &with([vec![0x10, 0, 0x10, 0x40], vec![0xFF; 20]].concat())),
        case("a stray item", &with(tagged(0xE000, 0))),
        case("a stray delimiter", &with(tagged(0xE0DD, 0))),
        case(
            "an element where an item must be",
            &with([explicit_head(0x40, 0xA730, "SQ", u32::MAX), explicit(0x10, 0x20, "LO", b"x")].concat()),
        ),
        case("a sequence that is not closed", &with(explicit_head(0x40, 0xA730, "SQ", u32::MAX))),
        case(
            "an item that is not closed",
            &with([explicit_head(0x40, 0xA730, "SQ", u32::MAX), tagged(0xE000, u32::MAX)].concat()),
        ),
        case("a sequence beyond the end", &with(explicit_head(0x40, 0xA730, "SQ", 5000))),
        case(
            "an element beyond its item",
            &with(
                [
                    explicit_head(0x40, 0xA730, "SQ", u32::MAX),
                    tagged(0xE000, 10),
                    explicit(0x40, 0xA160, "UT", &[b'x'; 40]),
                    tagged(0xE0DD, 0),
                ]
                .concat(),
            ),
        ),
        case("garbage behind the padding", &[&whole[..], &[0; 32], b"garbage!garbage!"].concat()),
        case("no SOP class", &without([8, 0, 0x16, 0])),
        case("no SOP instance", &without([8, 0, 0x18, 0])),
        case("no study", &without([0x20, 0, 0x0D, 0])),
        refused(
            "data sets",
            "implicit: cut within a header",
            5,
            &[&in_implicit(NAMED)[..], &[0xE0, 0x7F, 0x10]].concat(),
            0xC000,
        ),
        refused(
            "data sets",
            "implicit: 4 GB",
            5,
            &[&in_implicit(NAMED)[..], &[0xE0, 0x7F, 0x10, 0, 0xFE, 0xFF, 0xFF, 0xFF]].concat(),
            0xC000,
        ),
        Case::associated(
            "data sets",
            "bad ten times, then a C-ECHO",
            &store(3, 1, NAMED, b"bad").repeat(10),
            &[Status(0xC000); 10],
        ),
    ]
}

fn uids() -> Vec<Case> {
    let of = |element: u16, group: u16, value: &[u8]| {
        let at = |g: u16, e: u16, good: &str| {
            if (g, e) == (group, element) { explicit(g, e, "UI", value) } else { explicit(g, e, "UI", good.as_bytes()) }
        };
        [at(8, 0x16, CT), at(8, 0x18, NAMED), at(0x20, 0x0D, "2.25.1000"), at(0x20, 0x0E, "2.25.1001")].concat()
    };
    let case = |name: &str, data_set: Vec<u8>, status| refused("UIDs", name, 3, &data_set, status);
    let long = [b"2.25."[..].to_vec(), vec![b'1'; 60]].concat();
    let mut cases = vec![
        case("SOP instance unlike the command's", of(0x18, 8, b"2.25.78"), 0xA900),
        case("SOP class unlike the command's", of(0x16, 8, b"1.2.840.10008.5.1.4.1.1.4"), 0xA900),
        case("SOP instance empty", of(0x18, 8, b""), 0xC000),
        case("study empty", of(0x0D, 0x20, b""), 0xC000),
    ];
    for (what, value) in [
        ("a slash", &b"2.25/1"[..]),
        ("a path", b"../../../etc/cron.d/x"),
        ("NUL within", b"2.25\x001"),
        ("ESC", b"2.25.\x1b[2J"),
        ("65 characters", &long),
        ("60,000 characters", &[b'1'; 60_000]),
        ("a letter", b"2.25.x"),
        ("an empty component", b"2..25"),
    ] {
        cases.push(case(&format!("SOP instance with {what}"), of(0x18, 8, value), 0xC000));
    }
    for (what, element) in [("study", 0x0D), ("series", 0x0E)] {
        cases.push(case(&format!("{what} with a path"), of(element, 0x20, b"../../../tmp"), 0xC000));
        cases.push(case(&format!("{what} with ESC"), of(element, 0x20, b"2.25.\x1b]0;x\x07"), 0xC000));
    }
    cases
}

/// So many sequences in each other, and the way back out again if they are to be closed.
pub(crate) fn nest(levels: usize, closed: bool) -> Vec<u8> {
    let open = [explicit_head(0x40, 0xA730, "SQ", u32::MAX), tagged(0xE000, u32::MAX)].concat().repeat(levels);
    let close = [tagged(0xE00D, 0), tagged(0xE0DD, 0)].concat().repeat(if closed { levels } else { 0 });
    [open, close].concat()
}

fn nested() -> Vec<Case> {
    let mut cases = Vec::new();
    for levels in [1_400, 10_000, 100_000] {
        let open = [identity(NAMED), nest(levels, false)].concat();
        cases.push(refused("nesting", &format!("{levels} sequences, not closed"), 3, &open, 0xC000));
        let name = format!("2.25.5{levels}");
        let closed = [identity(&name), nest(levels, true)].concat();
        cases.push(kept("nesting", &format!("{levels} sequences, closed"), 3, &name, &closed));
    }
    let level = |depth: u32| {
        [vec![0x40, 0, 0x30, 0xA7], (depth * 16).to_le_bytes().to_vec(), tagged(0xE000, depth * 16 - 8)].concat()
    };
    let defined: Vec<u8> = (1..=5_000).rev().flat_map(level).collect();
    let lying = [in_implicit(NAMED), defined[..defined.len() - 160].to_vec()].concat();
    cases.push(refused("nesting", "5,000 sequences of defined length, cut", 5, &lying, 0xC000));
    let unknown =
        [identity(NAMED), explicit_head(9, 0x1001, "UN", u32::MAX), tagged(0xE000, u32::MAX).repeat(3)].concat();
    cases.push(refused("nesting", "items in an unknown element", 3, &unknown, 0xC000));
    cases
}

pub(super) fn deflated(data_set: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data_set).unwrap();
    encoder.finish().unwrap()
}

/// A data set of so many zeros in one private element, deflated a thousand to one.
pub(super) fn bomb(sop_instance: &str, length: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&identity(sop_instance)).unwrap();
    encoder.write_all(&explicit_head(0x7FE1, 0x1010, "OB", length)).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..length >> 20 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap()
}

fn compressed() -> Vec<Case> {
    let whole = deflated(&image(NAMED, &[0x41; 512]));
    let case = |name: &str, data_set: &[u8]| refused("compressed", name, 7, data_set, 0xC000);
    let pixels = |sop_instance: &str, fragments: &[u8]| {
        [identity(sop_instance), explicit_head(0x7FE0, 0x10, "OB", u32::MAX), fragments.to_vec()].concat()
    };
    let jpeg = |name: &str, fragments: &[u8]| refused("compressed", name, 9, &pixels(NAMED, fragments), 0xC000);
    let table = tagged(0xE000, 0);
    let lying =
        [tagged(0xE000, 8), vec![0xFF; 8], tagged(0xE000, 4), b"\xFF\xD8ab".to_vec(), tagged(0xE0DD, 0)].concat();
    vec![
        case("deflate: garbage", &[0xA5; 300]),
        case("deflate: not deflated", &image(NAMED, &[0; 512])),
        case("deflate: cut", &whole[..whole.len() / 2]),
        case("deflate: of nothing", &deflated(b"")),
        case("deflate: of garbage", &deflated(&[0xA5; 3000])),
        case("deflate: garbage behind", &[&whole[..], &b"garbage"[..].repeat(9)].concat()),
        case("deflate: of 100,000 open sequences", &deflated(&[identity(NAMED), nest(100_000, false)].concat())),
        kept("compressed", "deflate: a bomb of 200 MB", 7, "2.25.61", &bomb("2.25.61", 200 << 20)),
        kept("compressed", "an offset table that lies", 9, "2.25.62", &pixels("2.25.62", &lying)),
        jpeg("fragments that are not closed", &table),
        jpeg("a fragment beyond the end", &[table.clone(), tagged(0xE000, 0x7FFF_FFFF), b"abcd".to_vec()].concat()),
        jpeg("a fragment of undefined length", &[table.clone(), tagged(0xE000, u32::MAX), tagged(0xE0DD, 0)].concat()),
        jpeg(
            "an element among the fragments",
            &[table, explicit(0x10, 0x20, "LO", b"abcd"), tagged(0xE0DD, 0)].concat(),
        ),
    ]
}

/// The connection ends within the request, within the command, within the data: by FIN, by A-ABORT, by RST.
fn ends() -> Vec<Case> {
    let request = Request::default().bytes();
    let conversation = [request.clone(), store(3, 1, NAMED, &image(NAMED, &[0x41; 512]))].concat();
    let (associated, command) = (request.len(), request.len() + store_command(3, 1, NAMED).len());
    let mut cases = Vec::new();
    for (place, at, accepted) in [
        ("at byte 1", 1, false),
        ("at byte 5", 5, false),
        ("at byte 6", 6, false),
        ("within the AE titles", 30, false),
        ("within the contexts", 200, false),
        ("before the request's last byte", associated - 1, false),
        ("behind the request", associated, true),
        ("within the head of the command", associated + 3, true),
        ("within the command", associated + 60, true),
        ("before the command's last byte", command - 1, true),
        ("behind the command", command, true),
        ("within the head of the data", command + 8, true),
        ("within the data", command + 200, true),
        ("before the last byte", conversation.len() - 1, true),
    ] {
        let said = Step::Send(conversation[..at].to_vec());
        let then = |last: Vec<Step>| [vec![said.clone()], last].concat();
        let expected = if accepted { vec![crate::support::caller::Answer::Accept, Close] } else { vec![Close] };
        let abort = Step::Send(pdu(7, &[0; 4]));
        cases.push(Case::new("ends", &format!("FIN {place}"), then(vec![Step::HalfClose]), &expected));
        cases.push(Case::new("ends", &format!("RST {place}"), then(vec![Step::Reset]), &[]));
        if at == associated || at == command {
            cases.push(Case::new("ends", &format!("A-ABORT {place}"), then(vec![abort]), &expected));
        }
    }
    cases
}
