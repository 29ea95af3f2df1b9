//! What knocks at the port: everything of the list of bad input that comes before an association.

use std::collections::BTreeSet;

use super::*;
use crate::association::{IdentityForm, ProposedContext, Rejection};

fn knock(bytes: &[u8]) -> (Side, Vec<Happening>) {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    let happened = side.feed(bytes);
    (side, happened)
}

#[test]
fn other_protocols_are_aborted_at_the_sixth_byte_and_named() {
    for (bytes, violation) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Violation::OtherProtocol("HTTP")),
        (b"\x16\x03\x01\x02\x00\x01\x00", Violation::Tls),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Violation::OtherProtocol("SSH")),
        (b"\x99\0\0\0\0\x04abcd", Violation::OtherProtocol("nothing that we know")),
    ] {
        let mut side = Side::acceptor(&AcceptorSettings::default());
        assert_eq!(side.feed(&bytes[..5]), []);
        let happened = side.feed(&bytes[5..6]);
        assert_eq!(the_violation(&happened), violation);
        assert_aborts(&mut side, 2, 1);
    }
}

#[test]
fn a_bad_length_is_aborted_at_the_sixth_byte_and_nothing_is_buffered() {
    for (kind, length) in [(1, 67), (1, 262_145), (1, u32::MAX), (1, 0), (7, 3), (7, u32::MAX)] {
        let head = [&[kind, 0][..], &u32::to_be_bytes(length)].concat();
        let (mut side, happened) = knock(&head);
        assert!(matches!(the_violation(&happened), Violation::PduLength { .. }), "{kind} {length}");
        assert_aborts(&mut side, 2, 6);
    }
}

#[test]
fn any_other_pdu_before_an_association_is_unexpected() {
    for kind in [2, 3, 4, 5, 6] {
        let (mut side, happened) = knock(&pdu(kind, &[0; 100])[..6]);
        let violation = the_violation(&happened);
        // The short PDUs may not have 100 bytes in the first place.
        if matches!(kind, 2 | 4) {
            assert!(matches!(violation, Violation::UnexpectedPdu { .. }), "{kind}: {violation:?}");
            assert_aborts(&mut side, 2, 2);
        }
        let (mut side, happened) = knock(&pdu(kind, &vec![0; if matches!(kind, 2 | 4) { 68 } else { 4 }]));
        assert!(matches!(the_violation(&happened), Violation::UnexpectedPdu { .. }), "{kind}");
        assert_aborts(&mut side, 2, 2);
    }
}

#[test]
fn an_abort_before_an_association_closes_without_an_answer() {
    let (mut side, happened) = knock(&pdu(7, &[0, 0, 0, 0]));
    assert_eq!(the_end(&happened), &End::Aborted(crate::association::Abort::BY_USER));
    assert!(side.take_output().is_empty());
    assert_eq!(side.channel.ending(), Some(Ending::Close));
}

#[test]
fn items_that_overrun_are_aborted() {
    let whole = Request::default().bytes();
    for (what, spoil) in [
        ("an item", Request { tail: vec![0x20, 0, 0xFF, 0xFF], ..Request::default() }),
        ("an item head", Request { tail: vec![0x20, 0, 1], ..Request::default() }),
        ("a sub-item", Request { contexts: item(0x20, &[1, 0, 0, 0, 0x30, 0, 0, 99, b'1']), ..Request::default() }),
        ("a user item", Request { user: vec![0x51, 0, 0, 9, 0, 0, 0, 0], ..Request::default() }),
        ("a maximum length", Request { user: item(0x51, &[0, 0]), ..Request::default() }),
        ("a context without an id", Request { contexts: item(0x20, &[1]), ..Request::default() }),
    ] {
        let (mut side, happened) = knock(&spoil.bytes());
        assert!(matches!(the_violation(&happened), Violation::Malformed { .. }), "{what}");
        assert_aborts(&mut side, 2, 6);
    }
    // Cut at any byte with a head that agrees: never an association with less than was proposed, never a panic.
    for end in 74..whole.len() {
        let (_, happened) = knock(&pdu(1, &whole[6..end]));
        assert!(matches!(happened.last(), Some(Happening::Ended(_) | Happening::Requested(_))), "{end}");
    }
}

#[test]
fn contexts_that_break_the_rules_are_aborted() {
    let many: Vec<u8> =
        (0..=128_u8).flat_map(|n| context(n.wrapping_mul(2).wrapping_add(1), CT, &[IMPLICIT])).collect();
    for (what, contexts) in [
        ("none", Vec::new()),
        ("id 0", context(0, CT, &[IMPLICIT])),
        ("id 2", context(2, CT, &[IMPLICIT])),
        ("a repeated id", [context(1, CT, &[IMPLICIT]), context(1, VERIFICATION, &[IMPLICIT])].concat()),
        ("129 contexts", many),
    ] {
        let (mut side, happened) = knock(&Request { contexts, ..Request::default() }.bytes());
        assert!(matches!(the_violation(&happened), Violation::Malformed { .. }), "{what}");
        assert_aborts(&mut side, 2, 6);
    }
}

#[test]
fn what_can_be_told_why_not_is_rejected() {
    let rejected = |request: Request| {
        let (mut side, happened) = knock(&request.bytes());
        let End::Refused { rejection, calling, called } = the_end(&happened).clone() else { panic!("{happened:?}") };
        let output = side.take_output();
        let expected = [3, 0, 0, 0, 0, 4, 0, rejection.result, rejection.source, rejection.reason];
        assert_eq!(output, expected);
        assert_eq!(side.channel.ending(), Some(Ending::HalfClose));
        (rejection, calling, called)
    };
    let names = |calling: &str, called: &str| (calling.to_owned(), called.to_owned());
    let (rejection, ..) = rejected(Request { version: 2, ..Request::default() });
    assert_eq!(rejection, Rejection { result: 1, source: 2, reason: 2 });
    let (rejection, ..) = rejected(Request { application_context: item(0x10, b"1.2.3"), ..Request::default() });
    assert_eq!(rejection, Rejection { result: 1, source: 1, reason: 2 });
    let (rejection, ..) = rejected(Request { application_context: Vec::new(), ..Request::default() });
    assert_eq!(rejection, Rejection { result: 1, source: 1, reason: 2 });
    let (rejection, calling, called) = rejected(Request { calling: *b"\x1b[31m%n../\\     ", ..Request::default() });
    assert_eq!(rejection, Rejection { result: 1, source: 1, reason: 3 });
    assert_eq!((calling, called), names("\u{1b}[31m%n../\\", "WAYSTATION"));
    let (rejection, ..) = rejected(Request { called: [b' '; 16], ..Request::default() });
    assert_eq!(rejection, Rejection { result: 1, source: 1, reason: 7 });
}

#[test]
fn a_rejected_title_is_shown_escaped() {
    let error = crate::association::AcceptError::Rejected {
        rejection: Rejection::CALLING_AE_NOT_RECOGNIZED,
        calling: "\u{1b}[31m".to_owned(),
        called: "X\n".to_owned(),
    };
    assert!(!error.to_string().contains(['\u{1b}', '\n']), "{error}");
}

#[test]
fn the_bad_habits_of_the_field_are_accepted() {
    let transfer_syntax = format!("{IMPLICIT}\0");
    let user = [
        item(0x51, &16384_u32.to_be_bytes()),
        item(0x52, b"1.2.3.4.\0"),
        item(0x55, b"VENDOR\xff\x1b\0"),
        item(0x53, &[0, 5, 0, 0]),
        item(0x54, &[&[0, 3][..], b"1.2", &[1, 1]].concat()),
        item(0x54, &[0, 99]),
        item(0x56, &[0, 99, 1]),
        item(0x57, &[1, 2, 3]),
        item(0x58, &[2, 1, 0, 1, b'u', 0, 1, b'p']),
        item(0x58, &[9]),
        item(0xEE, b"private"),
    ]
    .concat();
    let request = Request {
        version: 0xFFFF,
        called: *b"WAYSTATION\0\0\0\0\0\0",
        calling: *b"  CT1\0          ",
        application_context: item(0x10, b"1.2.840.10008.3.1.1.1\0"),
        contexts: [
            context(1, "1.2.840.10008.1.1\0", &[&transfer_syntax]),
            item(0x99, b"unknown item"),
            context(255, CT, &["garbage", EXPLICIT]),
            context(3, "not a uid", &[IMPLICIT]),
            context(5, CT, &[]),
            item(0x20, &[7, 0, 0, 0]),
            item(
                0x20,
                &[&[9, 0, 0, 0][..], &item(0x77, b"?"), &item(0x30, CT.as_bytes()), &item(0x40, IMPLICIT.as_bytes())]
                    .concat(),
            ),
        ]
        .concat(),
        user,
        tail: vec![0; 3],
    };
    let (mut side, happened) = knock(&request.bytes());
    let [Happening::Requested(requested)] = &happened[..] else { panic!("{happened:?}") };
    assert_eq!((requested.calling_ae.as_str(), requested.called_ae.as_str()), ("CT1", "WAYSTATION"));
    assert_eq!(requested.async_operations, Some((5, 0)));
    assert_eq!(requested.roles.len(), 1);
    assert_eq!(requested.implementation_version.as_deref(), Some("VENDOR??"));
    let accepted: Vec<_> =
        side.channel.contexts().iter().map(|context| (context.id, context.transfer_syntax.as_str())).collect();
    assert_eq!(accepted, [(1, IMPLICIT), (255, EXPLICIT), (9, IMPLICIT)]);
    let output = side.take_output();
    assert_eq!(output[10..42], *b"WAYSTATION\0\0\0\0\0\0  CT1\0          ", "the titles are repeated as they came");
    let Some(ul::Pdu::AssociationAC(answer)) = ul::read_pdu(&output[..], 1 << 20, true).unwrap() else { panic!() };
    assert_eq!(answer.presentation_contexts.len(), 6, "every context is answered");
    let window = ul::UserVariableItem::Unknown(0x53, vec![0, 4, 0, 1]);
    assert!(answer.user_variables.contains(&window), "of five operations that it wants to invoke it may have four");
}

/// The value of a user identity sub-item.
fn identity(code: u8, response: u8) -> Vec<u8> {
    item(0x58, &[code, response, 0, 4, b'u', b's', b'e', b'r', 0, 6, b's', b'e', b'c', b'r', b'e', b't'])
}

#[test]
fn of_a_user_identity_the_name_is_told_and_the_secret_forgotten() {
    let (_, happened) = knock(&Request { user: identity(2, 0), ..Request::default() }.bytes());
    let [Happening::Requested(requested)] = &happened[..] else { panic!("{happened:?}") };
    assert_eq!(requested.user_identity.as_ref().unwrap().user.as_deref(), Some("user"));
    let secret = format!("{:?}", b"secret");
    assert!(!format!("{requested:?}").contains(secret.trim_matches(['[', ']'])));
    assert!(!format!("{requested:?}").contains("secret"));
}

#[test]
fn a_user_identity_is_answered_if_that_is_asked_for_and_switched_on() {
    let answers = |forms: Option<Vec<IdentityForm>>, user: Vec<u8>| {
        let mut side = Side::acceptor(&AcceptorSettings { user_identity: forms, ..AcceptorSettings::default() });
        side.feed(&Request { user, ..Request::default() }.bytes());
        let output = side.take_output();
        output.windows(6).filter(|bytes| *bytes == [0x59, 0, 0, 2, 0, 0]).count()
    };
    let all = || Some(IdentityForm::ALL.to_vec());
    for code in 1..=5 {
        assert_eq!(answers(all(), identity(code, 1)), 1, "{code}");
        assert_eq!(answers(all(), identity(code, 0)), 0, "{code}: not asked for");
        assert_eq!(answers(None, identity(code, 1)), 0, "{code}: not negotiated");
    }
    assert_eq!(answers(all(), Vec::new()), 0);
}

#[test]
fn extended_negotiation_is_read_over_and_not_answered() {
    let uid = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let storage = "1.2.840.10008.4.2";
    let user = [
        item(0x51, &16384_u32.to_be_bytes()),
        item(0x56, &[&uid(CT)[..], &[2, 0, 1, 0, 2, 0]].concat()),
        item(0x57, &[&uid("1.2.3.4")[..], &uid(storage), &[0, 0]].concat()),
    ]
    .concat();
    let (mut side, happened) = knock(&Request { user, ..Request::default() }.bytes());
    assert!(matches!(happened[..], [Happening::Requested(_)]));
    let [ul::Pdu::AssociationAC(answer)] = &side.take_pdus()[..] else { panic!() };
    let kinds = |item: &ul::UserVariableItem| match item {
        ul::UserVariableItem::Unknown(kind, _) => *kind,
        ul::UserVariableItem::SopClassExtendedNegotiationSubItem(..) => 0x56,
        _ => 0,
    };
    assert!(answer.user_variables.iter().map(kinds).all(|kind| kind == 0), "{:?}", answer.user_variables);
}

#[test]
fn the_largest_request_that_a_modality_makes_has_room() {
    let request = Request::widest().bytes();
    assert!(request.len() > 220_000);
    let (mut side, happened) = knock(&request);
    assert!(matches!(happened[..], [Happening::Requested(_)]), "{happened:?}");
    let [ul::Pdu::AssociationAC(answer)] = &side.take_pdus()[..] else { panic!() };
    assert_eq!(answer.presentation_contexts.len(), 128);
    assert_eq!(side.channel.contexts().len(), 128);

    let most = 256 * 1024 - Request::default().content().len() - 4 * 60_004 - 4;
    let padded = |more: usize| {
        let tail = [item(0x99, &vec![0; 60_000]).repeat(4), item(0x99, &vec![0; most + more])].concat();
        knock(&Request { tail, ..Request::default() }.bytes()).1
    };
    assert!(matches!(padded(0)[..], [Happening::Requested(_)]));
    assert!(matches!(the_violation(&padded(1)), Violation::PduLength { .. }));
}

#[test]
fn a_maximum_length_without_room_is_aborted_and_0_means_ours() {
    for too_small in [1_u32, 5, 6, 7] {
        let user = item(0x51, &too_small.to_be_bytes());
        let (mut side, happened) = knock(&Request { user, ..Request::default() }.bytes());
        assert!(happened.contains(&Happening::Ended(End::Violation(Violation::MaxPduTooSmall(too_small)))));
        assert_aborts(&mut side, 2, 6);
    }
    for (announced, used) in [(0, 128 * 1024), (8, 8), (9, 9), (16384, 16384), (u32::MAX, 128 * 1024)] {
        let user = item(0x51, &u32::to_be_bytes(announced));
        let (side, _) = knock(&Request { user, ..Request::default() }.bytes());
        assert_eq!(side.channel.peer_max_pdu(), used);
    }
    let (side, _) = knock(&Request { user: Vec::new(), ..Request::default() }.bytes());
    assert_eq!(side.channel.peer_max_pdu(), 128 * 1024, "no user information at all");
}

#[test]
fn sixteen_thousand_sub_items_are_no_feast() {
    let contexts =
        item(0x20, &[&[1, 0, 0, 0][..], &item(0x30, CT.as_bytes()), &item(0x40, b"1").repeat(13_000)].concat());
    let (_, happened) =
        knock(&Request { contexts: contexts[..].to_vec(), user: Vec::new(), ..Request::default() }.bytes());
    let [Happening::Requested(requested)] = &happened[..] else { panic!("{happened:?}") };
    assert!(requested.contexts[0].transfer_syntaxes.len() <= 128);
}

/// 8,064 transfer syntaxes, each in memory of its own, would be more than twice the request.
#[test]
fn what_every_context_proposes_is_held_once() {
    let (_, happened) = knock(&Request::widest().bytes());
    let proposed = |context: &ProposedContext| context.transfer_syntaxes.clone();
    let proposed: Vec<_> = the_request(&happened).contexts.iter().flat_map(proposed).collect();
    let texts: BTreeSet<_> = proposed.iter().map(|uid| uid.as_str().as_ptr()).collect();
    assert_eq!((proposed.len(), texts.len()), (128 * 63, 63));

    let another = |n: u8| {
        let syntaxes: Vec<String> = (0..100).map(|m| format!("1.2.{n}.{m}")).collect();
        context(n * 2 + 1, CT, &syntaxes.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let contexts = (0..128).flat_map(another).collect();
    let (side, happened) = knock(&Request { contexts, ..Request::default() }.bytes());
    let different: usize = the_request(&happened).contexts.iter().map(|context| context.transfer_syntaxes.len()).sum();
    assert_eq!((different, side.channel.contexts().len()), (256, 3), "what comes beyond is read over");
}

#[test]
fn bytes_behind_the_request_wait_for_the_decision_and_are_judged_then() {
    let (mut side, happened) = knock(&[Request::default().bytes(), Request::default().bytes()].concat());
    assert!(matches!(happened[0], Happening::Requested(_)));
    assert!(matches!(the_violation(&happened), Violation::UnexpectedPdu { .. }), "a second request");
    assert_aborts(&mut side, 2, 2);
}

#[test]
fn a_connection_that_ends_early_is_told_from_one_that_never_spoke() {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    assert_eq!(side.eof(), [Happening::Ended(End::Closed { received_anything: false })]);
    let whole = Request::default().bytes();
    for end in 1..whole.len() {
        let (mut side, happened) = knock(&whole[..end]);
        assert_eq!(happened, []);
        assert_eq!(side.eof(), [Happening::Ended(End::Closed { received_anything: true })]);
        assert_eq!(side.channel.ending(), Some(Ending::Close));
    }
}
