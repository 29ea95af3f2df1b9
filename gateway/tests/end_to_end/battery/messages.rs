//! What comes on an association: states, P-DATA-TF, PDVs, command sets, services.

use super::{Case, Step};
use crate::support::bytes::*;
use crate::support::caller::Answer::{self, Abort, Accept, Close, Released, Status};

const INVALID: [Answer; 1] = [Abort(2, 6)];
const UNEXPECTED: [Answer; 1] = [Abort(2, 2)];
/// The application's abort: what only the message layer can see.
const BROKEN: [Answer; 1] = [Abort(0, 0)];

pub(super) fn cases() -> Vec<Case> {
    [states(), p_data_cases(), pdvs(), command_sets(), operations(), services()].concat()
}

fn states() -> Vec<Case> {
    let first = |name: &str, bytes, expected: &[Answer]| Case::at_port("states", name, bytes, expected);
    let later = |name: &str, bytes: Vec<u8>, expected: &[Answer]| Case::associated("states", name, &bytes, expected);
    let release = pdu(5, &[0; 4]);
    let begun = store_command(3, 1, "2.25.1");
    let request = Request::default().bytes();
    vec![
        first("P-DATA-TF first", echo(1), &UNEXPECTED),
        first("A-ASSOCIATE-AC first", pdu(2, &request[6..]), &UNEXPECTED),
        first("A-ASSOCIATE-RJ first", pdu(3, &[0, 1, 1, 1]), &UNEXPECTED),
        first("A-RELEASE-RQ first", release.clone(), &UNEXPECTED),
        first("A-RELEASE-RP first", pdu(6, &[0; 4]), &UNEXPECTED),
        first("A-ABORT first", pdu(7, &[0; 4]), &[Close]),
        first("two requests at once", [request.clone(), request.clone()].concat(), &[Accept, Abort(2, 2)]),
        first("request and release at once", [request.clone(), release.clone()].concat(), &[Accept, Released]),
        later("a second A-ASSOCIATE-RQ", request.clone(), &UNEXPECTED),
        later("an A-ASSOCIATE-AC", pdu(2, &request[6..]), &UNEXPECTED),
        later("an A-ASSOCIATE-RJ", pdu(3, &[0, 1, 1, 1]), &UNEXPECTED),
        later("an A-RELEASE-RP that nobody asked for", pdu(6, &[0; 4]), &UNEXPECTED),
        later("an unknown PDU", pdu(9, &[0; 4]), &[Abort(2, 1)]),
        later("a TLS hello", vec![0x16, 3, 1, 0, 4, 1, 0, 0, 0], &[Abort(2, 1)]),
        later("release within a command", [p_data(3, COMMAND, b"\0\0"), release.clone()].concat(), &UNEXPECTED),
        later("release before the data", [begun.clone(), release.clone()].concat(), &UNEXPECTED),
        later("release within the data", [begun.clone(), p_data(3, 0, b"x"), release.clone()].concat(), &UNEXPECTED),
        later("abort within the data", [begun.clone(), p_data(3, 0, b"x"), pdu(7, &[0; 4])].concat(), &[Close]),
        later("abort with codes that do not exist", pdu(7, &[9, 9, 9, 9]), &[Close]),
        later("release twice", [release.clone(), release.clone()].concat(), &[Released]),
        later("P-DATA-TF behind the release", [release.clone(), echo(1)].concat(), &[Released]),
        later("release with 60 bytes more", pdu(5, &[0; 64]), &[Released]),
        later("release of 3 bytes", pdu(5, &[0; 3]), &INVALID),
        later("release of FFFFFFFF bytes", head(5, u32::MAX), &INVALID),
        later("abort of 1,000 bytes", pdu(7, &[0; 1000]), &INVALID),
        Case::new(
            "states",
            "release, half-closed",
            vec![Step::Associate, Step::Send(release), Step::HalfClose],
            &[Released, Close],
        ),
    ]
}

fn p_data_cases() -> Vec<Case> {
    let case = |name: &str, bytes: Vec<u8>, expected: &[Answer]| Case::associated("P-DATA-TF", name, &bytes, expected);
    let mut cases: Vec<Case> = [0, 1, 5, 131_073, 0x7FFF_FFFF, u32::MAX]
        .map(|length| case(&format!("declares {length} bytes"), head(4, length), &INVALID))
        .to_vec();
    let five = [pdv(1, COMMAND | LAST, &command_set(&echo_elements(1))), vec![0; 5]].concat();
    let full = [store_command(3, 1, "2.25.1"), p_data(3, LAST, &[0x41; 131_066])].concat();
    cases.extend([
        case("five bytes behind the last PDV", pdu(4, &five), &INVALID),
        case("as long as announced", full, &[Status(0xC000)]),
        case("two messages in one", pdu(4, &echo(1)[6..].repeat(2)), &[Status(0), Status(0)]),
        Case::new("P-DATA-TF", "byte by byte", vec![Step::Associate, Step::ByteByByte(echo(1))], &[Status(0)]),
    ]);
    cases
}

fn pdvs() -> Vec<Case> {
    let case =
        |name: &str, content: Vec<u8>, expected: &[Answer]| Case::associated("PDV", name, &pdu(4, &content), expected);
    let set = command_set(&echo_elements(1));
    let begin = store_command(3, 1, "2.25.1")[6..].to_vec();
    let mut cases = vec![
        case("length 0", vec![0, 0, 0, 0, 1, 3], &INVALID),
        case("length 1", vec![0, 0, 0, 1, 1, 3], &INVALID),
        case("longer than its PDU", vec![0, 0, 0, 3, 1, 3], &INVALID),
        case("FFFFFFFF", vec![0xFF, 0xFF, 0xFF, 0xFF, 1, 3], &INVALID),
        case("7FFFFFFF", vec![0x7F, 0xFF, 0xFF, 0xFF, 1, 3], &INVALID),
        case("reserved bits in its header", pdv(1, 0xFC | COMMAND | LAST, &set), &[Status(0)]),
        case(
            "a command in pieces of one byte",
            set[..set.len() - 1]
                .iter()
                .flat_map(|byte| pdv(1, COMMAND, &[*byte]))
                .chain(pdv(1, COMMAND | LAST, &set[set.len() - 1..]))
                .collect(),
            &[Status(0)],
        ),
        case(
            "10,000 empty ones of a data set",
            [begin.clone(), pdv(3, 0, b"").repeat(10_000), pdv(3, LAST, b"")].concat(),
            &[Status(0xC000)],
        ),
        case(
            "10,000 of one byte",
            [begin, pdv(3, 0, b"x").repeat(10_000), pdv(3, LAST, b"")].concat(),
            &[Status(0xC000)],
        ),
        case(
            "10,000 empty ones of a command",
            [pdv(1, COMMAND, b"").repeat(10_000), pdv(1, COMMAND | LAST, &set)].concat(),
            &[Status(0)],
        ),
    ];
    for id in [0, 2, 13, 255] {
        cases.push(case(&format!("context {id}, not proposed"), pdv(id, COMMAND | LAST, &set), &INVALID));
    }
    cases.push(case("context 11, refused", pdv(11, COMMAND | LAST, &set), &INVALID));
    cases
}

/// The elements of a C-ECHO-RQ without one of them, or with another.
fn echo_with(change: impl FnOnce(&mut Elements)) -> Vec<u8> {
    let mut elements = echo_elements(1);
    change(&mut elements);
    command_set(&elements)
}

fn command_sets() -> Vec<Case> {
    let case = |name: &str, set: Vec<u8>, expected: &[Answer]| {
        Case::associated("command sets", name, &p_data(1, COMMAND | LAST, &set), expected)
    };
    let without = |element: u16| echo_with(|elements| elements.retain(|(number, _)| *number != element));
    let group_length = |declared: u32| {
        let mut set = command_set(&echo_elements(1));
        set[8..12].copy_from_slice(&declared.to_le_bytes());
        set
    };
    let garbage: Vec<u8> = (0..400_u32).map(|n| u8::try_from((n * 7919 + 13) % 251).unwrap()).collect();
    let huge = p_data(1, COMMAND, &[0; 16_000]).repeat(5);
    vec![
        case("empty", Vec::new(), &BROKEN),
        case("one byte", vec![0], &BROKEN),
        case("garbage", garbage, &BROKEN),
        case("zeros", vec![0; 4000], &BROKEN),
        case("cut within an element", command_set(&echo_elements(1))[..40].to_vec(), &BROKEN),
        case(
            "an element of FFFFFFFF bytes",
            [command_set(&echo_elements(1)), vec![0, 0, 2, 9, 0xFF, 0xFF, 0xFF, 0xFF]].concat(),
            &BROKEN,
        ),
        case(
            "an element of group 0008",
            echo_with(|_| ()).into_iter().chain(implicit(8, 0x18, b"1.2.3\0")).collect(),
            &BROKEN,
        ),
        case("an element twice", echo_with(|elements| elements.push((0x110, number(2)))), &BROKEN),
        case("70 elements", echo_with(|elements| elements.extend((0..66).map(|n| (0x2000 + n, Vec::new())))), &BROKEN),
        case("a group length of 0", group_length(0), &BROKEN),
        case("a group length of 2 more", group_length(58), &BROKEN),
        case("a group length of FFFFFFFF", group_length(u32::MAX), &BROKEN),
        case("no group length", command_set(&echo_elements(1))[12..].to_vec(), &[Status(0)]),
        case("no command field", without(0x100), &BROKEN),
        case("no message id", without(0x110), &BROKEN),
        case("no SOP class", without(0x02), &[Status(0)]),
        case("no data set type", without(0x800), &[Status(0)]),
        case("a command field of 4 bytes", echo_with(|elements| elements[1].1 = vec![0x30, 0, 0, 0]), &BROKEN),
        case("elements in another order", echo_with(|elements| elements.reverse()), &[Status(0)]),
        case("an unknown element", echo_with(|elements| elements.push((0x5010, b"whatever".to_vec()))), &[Status(0)]),
        case("message id 0", echo_with(|elements| elements[2].1 = number(0)), &[Status(0)]),
        case("message id FFFF", echo_with(|elements| elements[2].1 = number(0xFFFF)), &[Status(0)]),
        Case::associated("command sets", "longer than 64 KiB", &huge, &BROKEN),
        Case::associated("command sets", "never ending", &p_data(1, COMMAND, &[0; 1000]).repeat(200), &BROKEN),
    ]
}

fn operations() -> Vec<Case> {
    let asking = |field: u16| {
        echo_with(|elements| {
            elements[0].1 = uid(CT);
            elements[1].1 = number(field);
        })
    };
    let mut cases: Vec<Case> = [
        ("C-GET", 0x0010),
        ("C-FIND", 0x0020),
        ("C-MOVE", 0x0021),
        ("N-GET", 0x0110),
        ("N-SET", 0x0120),
        ("N-CREATE", 0x0140),
        ("N-DELETE", 0x0150),
        ("command field 0000", 0x0000),
        ("command field 7777", 0x7777),
    ]
    .map(|(name, field)| {
        let bytes = p_data(3, COMMAND | LAST, &asking(field));
        Case::associated("operations", name, &bytes, &[Status(0x0211)])
    })
    .to_vec();
    for (name, field) in
        [("a C-STORE response", 0x8001), ("a C-ECHO response", 0x8030), ("a response to nothing", 0xFFFF)]
    {
        let set =
            command_set(&[(0x100, number(field)), (0x120, number(1)), (0x800, number(0x101)), (0x900, number(0))]);
        cases.push(Case::associated("operations", name, &p_data(3, COMMAND | LAST, &set), &BROKEN));
    }
    let cancel = command_set(&[(0x100, number(0x0FFF)), (0x120, number(9)), (0x800, number(0x101))]);
    let find = command_set(&[(0x100, number(0x20)), (0x110, number(3)), (0x800, number(1))]);
    let read_over = [p_data(3, COMMAND | LAST, &find), p_data(3, 0, &[0xFF; 9000]), p_data(3, LAST, b"")].concat();
    cases.extend([
        Case::associated(
            "operations",
            "C-CANCEL of nothing, then C-ECHO",
            &[p_data(3, COMMAND | LAST, &cancel), echo(1)].concat(),
            &[Status(0)],
        ),
        Case::associated("operations", "C-FIND with an identifier", &read_over, &[Status(0x0211)]),
        Case::associated(
            "operations",
            "C-ECHO on a context for storage",
            &p_data(3, COMMAND | LAST, &command_set(&echo_elements(1))),
            &[Status(0)],
        ),
    ]);
    cases
}

fn services() -> Vec<Case> {
    let case = |name: &str, bytes: Vec<u8>, expected: &[Answer]| Case::associated("C-STORE", name, &bytes, expected);
    let begin = store_command(3, 1, "2.25.1");
    let set = command_set(&store_elements(1, "2.25.1"));
    let commanding = |change: &dyn Fn(&mut Elements)| {
        let mut elements = store_elements(1, "2.25.1");
        change(&mut elements);
        [p_data(3, COMMAND | LAST, &command_set(&elements)), data_pdus(3, &image("2.25.1", &[0; 512]))].concat()
    };
    let named = |name: &str| {
        let name = name.as_bytes().to_vec();
        commanding(&move |elements| elements[5].1.clone_from(&name))
    };
    let long = format!("2.25.{}", "1".repeat(60));
    let mut cases = vec![
        case("on a context for verification", p_data(1, COMMAND | LAST, &set), &BROKEN),
        case("data on another context", [begin.clone(), p_data(5, LAST, b"x")].concat(), &BROKEN),
        case("data on the context for verification", [begin.clone(), p_data(1, LAST, b"x")].concat(), &BROKEN),
        case("a command within the data", [begin.clone(), p_data(3, 0, b"x"), begin.clone()].concat(), &BROKEN),
        case("a C-ECHO within the data", [begin.clone(), p_data(3, 0, b"x"), echo(2)].concat(), &BROKEN),
        case("data within the command", [p_data(3, COMMAND, &set), p_data(3, LAST, b"x")].concat(), &BROKEN),
        case("data without a command", p_data(3, LAST, &image("2.25.1", &[0; 512])), &BROKEN),
        case(
            "data behind the end of the data",
            [store(3, 1, "2.25.1", b"x"), p_data(3, LAST, b"x")].concat(),
            &[Status(0xC000), Abort(0, 0)],
        ),
        case(
            "announces no data set",
            p_data(
                3,
                COMMAND | LAST,
                &command_set(&{
                    let mut elements = store_elements(1, "2.25.1");
                    elements[4].1 = number(0x101);
                    elements
                }),
            ),
            &[Status(0xC000)],
        ),
        case("no SOP class", commanding(&|elements| drop(elements.remove(0))), &[Status(0x0212)]),
        case(
            "a SOP class that is no UID",
            commanding(&|elements| elements[0].1 = b"../../etc\0".to_vec()),
            &[Status(0x0212)],
        ),
        case("no SOP instance", commanding(&|elements| drop(elements.pop())), &[Status(0x0117)]),
        case("an empty SOP instance", commanding(&|elements| elements[5].1.clear()), &[Status(0x0117)]),
    ];
    for (what, name) in [
        ("a slash", "1.2/3.4\0"),
        ("a path", "../../../../tmp/x\0"),
        ("NUL within", "1.2\x003.4\0"),
        ("ESC", "1.2.\x1b[31m3"),
        ("a new line", "1.2.3\n4.5"),
        ("an empty component", "1..2.3"),
        ("65 characters", &long),
        ("a letter", "1.2.3a"),
    ] {
        cases.push(case(&format!("SOP instance with {what}"), named(name), &[Status(0x0117)]));
    }
    cases
}
