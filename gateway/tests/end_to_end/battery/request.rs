//! What comes before an association: at the port, the A-ASSOCIATE-RQ, its items, AE titles, the maximum length.

use super::{Case, Step};
use crate::support::bytes::*;
use crate::support::caller::Answer::{self, Abort, Accept, Close, Reject, Status};

const MALFORMED: [Answer; 1] = [Abort(2, 6)];

pub(super) fn cases() -> Vec<Case> {
    [port(), request(), items(), contexts(), titles(), maximum_length()].concat()
}

/// Other protocols may be answered in their own words, so all that counts is that they are turned away.
fn port() -> Vec<Case> {
    let hello = |version: [u8; 2], body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[0x16][..], &version, &length, body].concat()
    };
    let mut cases: Vec<Case> = [
        ("HTTP GET", b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n".to_vec()),
        ("HTTP POST", b"POST /dicom-web/studies HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n".to_vec()),
        ("HTTP OPTIONS", b"OPTIONS * HTTP/1.1\r\n\r\n".to_vec()),
        ("HTTP CONNECT", b"CONNECT pacs:104 HTTP/1.1\r\n\r\n".to_vec()),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("TLS 1.2 hello", hello([3, 1], &[&[1, 0, 0, 38, 3, 3][..], &[7; 32], &[0, 0, 2, 0xC0, 0x2F, 1, 0]].concat())),
        ("TLS hello, cut", vec![0x16, 3, 1, 2, 0, 1, 0, 1]),
        ("TLS alert", vec![0x15, 3, 3, 0, 2, 2, 70]),
        ("SSL 2 hello", vec![0x80, 0x2E, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10]),
        ("SSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec()),
        ("SMTP", b"EHLO scanner.example\r\n".to_vec()),
        ("SIP", b"INVITE sip:pacs SIP/2.0\r\n\r\n".to_vec()),
        ("HL7", b"\x0bMSH|^~\\&|RIS|CLINIC|PACS|CLINIC|2026||ORM^O01|1|P|2.3\r\x1c\r".to_vec()),
        ("SMB", b"\0\0\0\x85\xffSMBr\0\0\0\0\x18\x53\xc8".to_vec()),
        ("remote desktop", vec![3, 0, 0, 19, 14, 0xE0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0]),
        ("zeros", vec![0; 4096]),
        ("0xFF, 1 MB", vec![0xFF; 1_000_000]),
        ("a line of text", b"hello?\n\n\n".to_vec()),
    ]
    .map(|(name, bytes)| Case::turned_away("port", name, bytes))
    .to_vec();
    for kind in [0x08, 0x10, 0x80, 0xFE] {
        let name = format!("unknown PDU type {kind:02X}");
        cases.push(Case::at_port("port", &name, pdu(kind, &[0; 4]), &[Abort(2, 1)]));
    }
    cases.push(Case::new("port", "connect and close", vec![Step::HalfClose], &[Close]));
    cases.push(Case::new("port", "connect and reset", vec![Step::Reset], &[]));
    cases
}

fn request() -> Vec<Case> {
    let whole = Request::default().bytes();
    let case = |name: &str, bytes, expected: &[Answer]| Case::at_port("A-ASSOCIATE-RQ", name, bytes, expected);
    let mut cases: Vec<Case> = [0, 1, 67, 262_145, 0x00FF_FFFF, 0x7FFF_FFFF, u32::MAX]
        .map(|length| case(&format!("declares {length} bytes"), head(1, length), &MALFORMED))
        .to_vec();
    cases.extend([
        case("fixed fields and nothing else", pdu(1, &Request::default().content()[..68]), &[Reject(1, 1, 2)]),
        case(
            "reserved bytes that are not zero",
            {
                let mut bytes = whole.clone();
                (bytes[1], bytes[8], bytes[50], bytes[75]) = (0xFF, 0xFF, 0xFF, 0xFF);
                bytes
            },
            &[Accept],
        ),
        case("protocol version 0", Request { version: 0, ..Request::default() }.bytes(), &[Reject(1, 2, 2)]),
        case("protocol version 2", Request { version: 2, ..Request::default() }.bytes(), &[Reject(1, 2, 2)]),
        case("protocol version 3", Request { version: 3, ..Request::default() }.bytes(), &[Accept]),
        case("protocol version FFFF", Request { version: 0xFFFF, ..Request::default() }.bytes(), &[Accept]),
        Case::new("A-ASSOCIATE-RQ", "byte by byte", vec![Step::ByteByByte(whole.clone())], &[Accept]),
        Case::new(
            "A-ASSOCIATE-RQ",
            "half-closed behind it",
            vec![Step::Send(whole.clone()), Step::HalfClose],
            &[Accept, Close],
        ),
        Case::new(
            "A-ASSOCIATE-RQ",
            "cut off, half-closed",
            vec![Step::Send(whole[..100].to_vec()), Step::HalfClose],
            &[Close],
        ),
    ]);
    cases
}

fn with_items(items: &[u8]) -> Vec<u8> {
    Request { tail: items.to_vec(), ..Request::default() }.bytes()
}

fn with_user(user: &[Vec<u8>]) -> Vec<u8> {
    let user = [item(0x51, &16384_u32.to_be_bytes()), user.concat()].concat();
    Request { user, ..Request::default() }.bytes()
}

fn items() -> Vec<Case> {
    let case = |name: &str, bytes, expected: &[Answer]| Case::at_port("items", name, bytes, expected);
    let application = |value: &[u8]| Request { application_context: value.to_vec(), ..Request::default() }.bytes();
    vec![
        case("an item overruns", with_items(&[0x20, 0, 0xFF, 0xFF]), &MALFORMED),
        case("an item head is cut", with_items(&[0x20, 0, 1]), &MALFORMED),
        case("an item overruns by one byte", with_items(&[0x99, 0, 0, 5, 1, 2, 3, 4]), &MALFORMED),
        case("a user item overruns", with_user(&[vec![0x52, 0, 0, 99, b'1']]), &MALFORMED),
        case("a user item of FFFF bytes", with_user(&[vec![0x55, 0, 0xFF, 0xFF]]), &MALFORMED),
        case("no application context", application(&[]), &[Reject(1, 1, 2)]),
        case("an empty application context", application(&item(0x10, b"")), &[Reject(1, 1, 2)]),
        case("another application context", application(&item(0x10, b"1.2.3.4")), &[Reject(1, 1, 2)]),
        case("an application context with NUL behind", application(&item(0x10, b"1.2.840.10008.3.1.1.1\0")), &[Accept]),
        case(
            "unknown items",
            with_items(&[item(0x99, &[0xFF; 300]), item(0, b""), item(0xFF, b"x")].concat()),
            &[Accept],
        ),
        case("three zeros behind", with_items(&[0; 3]), &[Accept]),
        case("a thousand zeros behind", with_items(&[0; 1000]), &[Accept]),
        case("16,000 unknown items", with_items(&item(0x99, b"").repeat(16_000)), &[Accept]),
        case("16,000 unknown user items", with_user(&[item(0x99, b"").repeat(16_000)]), &[Accept]),
        case(
            "1,000 role selections",
            with_user(&[item(0x54, &[&[0, 3][..], b"1.2", &[1, 1]].concat()).repeat(1_000)]),
            &[Accept],
        ),
        case("a role selection that lies", with_user(&[item(0x54, &[0, 99, b'1'])]), &[Accept]),
        case("an asynchronous window of 0/0", with_user(&[item(0x53, &[0; 4])]), &[Accept]),
        case("an asynchronous window of 1 byte", with_user(&[item(0x53, &[7])]), &[Accept]),
        case("an implementation class that is no UID", with_user(&[item(0x52, b"../../etc/passwd")]), &[Accept]),
        case("an implementation version with ESC", with_user(&[item(0x55, b"\x1b[2J\x1b[31mX\0\xff")]), &[Accept]),
        case(
            "extended negotiation of garbage",
            with_user(&[item(0x56, &[0xFF; 40]), item(0x57, &[0xFF; 40])]),
            &[Accept],
        ),
        case("a user identity of garbage", with_user(&[item(0x58, &[9, 1, 0xFF, 0xFF])]), &[Accept]),
        case(
            "a user identity of 60 KB",
            with_user(&[item(0x58, &[&[4, 1, 0xEA, 0x60][..], &[b'x'; 60_000]].concat())]),
            &[Accept],
        ),
        case("no user information at all", Request { user: Vec::new(), ..Request::default() }.bytes(), &[Accept]),
    ]
}

fn with_contexts(contexts: &[u8]) -> Vec<u8> {
    Request { contexts: contexts.to_vec(), ..Request::default() }.bytes()
}

/// 128 contexts with 63 transfer syntaxes each: as many as the standard has.
fn as_many_as_possible() -> Vec<u8> {
    let syntaxes: Vec<String> = (0..63).map(|n| format!("1.2.840.10008.1.2.4.{}", 100 + n)).collect();
    let syntaxes: Vec<&str> = syntaxes.iter().map(String::as_str).collect();
    (0..128).flat_map(|n| context(n * 2 + 1, "1.2.840.10008.5.1.4.1.1.481.22", &syntaxes)).collect()
}

/// The largest A-ASSOCIATE-RQ that a good modality sends.
pub(crate) fn widest() -> Vec<u8> {
    with_contexts(&as_many_as_possible())
}

fn contexts() -> Vec<Case> {
    let case = |name: &str, contexts: &[u8], expected: &[Answer]| {
        Case::at_port("presentation contexts", name, with_contexts(contexts), expected)
    };
    let good = context(1, VERIFICATION, &[IMPLICIT]);
    let full = as_many_as_possible();
    let many = [&full[..], &context(255, CT, &[IMPLICIT])].concat();
    let syntaxes =
        item(0x20, &[&[3, 0, 0, 0][..], &item(0x30, CT.as_bytes()), &item(0x40, b"1").repeat(13_000)].concat());
    vec![
        case("none", &[], &MALFORMED),
        case("id 0", &context(0, CT, &[IMPLICIT]), &MALFORMED),
        case("id 2", &context(2, CT, &[IMPLICIT]), &MALFORMED),
        case("id 254", &context(254, CT, &[IMPLICIT]), &MALFORMED),
        case("a repeated id", &[good.clone(), context(1, CT, &[IMPLICIT])].concat(), &MALFORMED),
        case("129 of them", &many, &MALFORMED),
        case("128 with 63 transfer syntaxes each", &full, &[Accept]),
        case("13,000 transfer syntaxes in one", &syntaxes, &[Accept]),
        case("an item without an id", &item(0x20, &[1]), &MALFORMED),
        case("an empty item", &item(0x20, &[]), &MALFORMED),
        case("a sub-item overruns", &item(0x20, &[1, 0, 0, 0, 0x30, 0, 0, 99, b'1']), &MALFORMED),
        case("a sub-item of FFFF bytes", &item(0x20, &[1, 0, 0, 0, 0x40, 0, 0xFF, 0xFF]), &MALFORMED),
        case("no transfer syntax", &context(1, CT, &[]), &[Accept]),
        case(
            "no abstract syntax",
            &item(0x20, &[&[1, 0, 0, 0][..], &item(0x40, IMPLICIT.as_bytes())].concat()),
            &[Accept],
        ),
        case("UIDs that are none", &context(1, "../../etc/passwd", &["\x1b[31m", "1..2", ""]), &[Accept]),
        case("a UID of 2,000 characters", &context(1, &"1.2".repeat(666), &[IMPLICIT]), &[Accept]),
        case("NUL behind the UIDs", &context(1, "1.2.840.10008.1.1\0", &["1.2.840.10008.1.2\0"]), &[Accept]),
    ]
}

fn titles() -> Vec<Case> {
    let calling = |name: &str, calling: &[u8; 16], expected: &[Answer]| {
        Case::at_port("AE titles", name, Request { calling: *calling, ..Request::default() }.bytes(), expected)
    };
    let called = |name: &str, called: &[u8; 16], expected: &[Answer]| {
        Case::at_port("AE titles", name, Request { called: *called, ..Request::default() }.bytes(), expected)
    };
    let (stranger, nobody) = ([Reject(1, 1, 3)], [Reject(1, 1, 7)]);
    vec![
        calling("calling: a stranger", b"INTRUDER        ", &stranger),
        calling("calling: lower case", b"ct1             ", &stranger),
        calling("calling: one character more", b"CT11            ", &stranger),
        calling("calling: spaces", b"                ", &stranger),
        calling("calling: NUL", &[0; 16], &stranger),
        calling("calling: ESC", b"\x1b[2J\x1b[31mCT1    ", &stranger),
        calling("calling: a format", b"%n%s%x%d%n%n    ", &stranger),
        calling("calling: a path", b"../../etc/passwd", &stranger),
        calling("calling: a backslash", b"CT1\\PACS        ", &stranger),
        calling("calling: a new line", b"CT1\nERROR: fake ", &stranger),
        calling("calling: 0xFF", &[0xFF; 16], &stranger),
        calling("calling: NUL within", b"CT1\0EVIL        ", &stranger),
        calling("calling: padded with NUL", b"CT1\0\0\0\0\0\0\0\0\0\0\0\0\0", &[Accept]),
        calling("calling: padded in front", b"             CT1", &[Accept]),
        called("called: another", b"PACS            ", &nobody),
        called("called: spaces", b"                ", &nobody),
        called("called: ESC", b"\x1b]0;owned\x07      ", &nobody),
        called("called: a path", b"/../../../shadow", &nobody),
        called("called: padded with NUL", b"WAYSTATION\0\0\0\0\0\0", &[Accept]),
    ]
}

fn maximum_length() -> Vec<Case> {
    let announcing = |length: u32| Request { user: item(0x51, &length.to_be_bytes()), ..Request::default() }.bytes();
    let echoed = |name: &str, length: u32| {
        let steps = vec![Step::Send([announcing(length), echo(1)].concat())];
        Case::new("maximum length", name, steps, &[Accept, Status(0)])
    };
    let refused = |length: u32| Case::at_port("maximum length", &length.to_string(), announcing(length), &MALFORMED);
    let of = |value: &[u8]| Request { user: item(0x51, value), ..Request::default() }.bytes();
    vec![
        refused(1),
        refused(2),
        refused(6),
        refused(7),
        echoed("0", 0),
        echoed("8", 8),
        echoed("9", 9),
        echoed("FFFFFFFF", u32::MAX),
        Case::at_port("maximum length", "of 2 bytes", of(&[0, 0]), &MALFORMED),
        Case::at_port("maximum length", "of 8 bytes", of(&[0; 8]), &MALFORMED),
    ]
}
