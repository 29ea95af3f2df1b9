//! Messages on an established association, good and bad.

use bytes::Bytes;

use super::*;
use crate::dimse::{AssemblyError, Response, Status};

/// All data that were indicated, joined.
fn data(happened: &[Happening]) -> Vec<u8> {
    happened
        .iter()
        .filter_map(|happening| match happening {
            Happening::Indication(Indication::Data(data)) => Some(data.clone()),
            _ => None,
        })
        .collect::<Vec<Bytes>>()
        .concat()
}

#[test]
fn an_object_goes_over_and_is_answered() {
    for max_pdu in [4096, 4097, 16384, 131_072] {
        let acceptor = AcceptorSettings { max_pdu, ..AcceptorSettings::default() };
        let mut pair = Pair::with(&acceptor, &requestor_settings());
        pair.talk();
        let object: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        pair.requestor.channel.send_command(3, &a_store(7)).unwrap();
        let mut happened = pair.talk().0;
        for piece in object.chunks(3333) {
            let mut rest = piece;
            while !rest.is_empty() {
                rest = pair.requestor.channel.send_data(3, rest, false).unwrap();
                happened.extend(pair.talk().0);
            }
        }
        assert!(!happened.contains(&indication(Indication::DataEnd)));
        pair.requestor.channel.send_data(3, &[], true).unwrap();
        happened.extend(pair.talk().0);
        assert_eq!(happened[0], indication(Indication::Command { context: 3, command: a_store(7) }));
        assert_eq!(happened.last(), Some(&indication(Indication::DataEnd)));
        assert_eq!(data(&happened), object);

        pair.requestor.channel.await_response(pair.requestor.now, SECOND).unwrap();
        let response = Response::to(&a_store(7), Status::SUCCESS);
        pair.acceptor.channel.send_response(3, &response).unwrap();
        assert_eq!(pair.talk().1, [indication(Indication::Response { context: 3, response })]);
    }
}

#[test]
fn the_smallest_pdus_carry_messages_too() {
    let user = item(0x51, &8_u32.to_be_bytes());
    let mut side = Side::acceptor(&AcceptorSettings::default());
    side.feed(&Request { user, ..Request::default() }.bytes());
    side.take_output();
    side.channel.send_response(1, &Response::to(&an_echo(1), Status::SUCCESS)).unwrap();
    let pdus = side.take_pdus();
    assert!(pdus.len() > 10);
    for pdu in pdus {
        let ul::Pdu::PData { data } = pdu else { panic!() };
        assert_eq!(data[0].data.len(), 2);
    }
}

/// What a hand-made P-DATA-TF content leads to.
fn sends(content: &[u8]) -> (Side, Vec<Happening>) {
    let mut side = established_acceptor();
    let happened = side.feed(&pdu(4, content));
    (side, happened)
}

#[test]
fn broken_pdus_are_aborted() {
    let command = an_echo(1).encode();
    for (what, content) in [
        ("PDV length 0", vec![0, 0, 0, 0, 1, 3]),
        ("PDV length 1", vec![0, 0, 0, 1, 1, 3]),
        ("PDV longer than its PDU", vec![0, 0, 0, 3, 1, 3]),
        ("PDV of 4 GiB", vec![0xFF, 0xFF, 0xFF, 0xFF, 1, 3]),
        ("trailing bytes", [pdv(1, COMMAND | LAST, &command), vec![0; 5]].concat()),
    ] {
        let (mut side, happened) = sends(&content);
        assert!(matches!(the_violation(&happened), Violation::Malformed { .. }), "{what}");
        assert_aborts(&mut side, 2, 6);
    }
    for length in [0_u32, 1, 5, 131_073, u32::MAX] {
        let mut side = established_acceptor();
        let happened = side.feed(&[&[4, 0][..], &length.to_be_bytes()].concat());
        assert!(matches!(the_violation(&happened), Violation::PduLength { .. }), "{length}");
        assert_aborts(&mut side, 2, 6);
    }
    for context in [0, 2, 5, 255] {
        let (mut side, happened) = sends(&pdv(context, COMMAND | LAST, &command));
        assert_eq!(the_violation(&happened), Violation::ContextNotAccepted(context));
        assert_aborts(&mut side, 2, 6);
    }
    for (kind, content) in [(1, Request::default().content()), (2, vec![0; 68]), (3, vec![0; 4])] {
        let mut side = established_acceptor();
        assert!(matches!(the_violation(&side.feed(&pdu(kind, &content))), Violation::UnexpectedPdu { .. }), "{kind}");
        assert_aborts(&mut side, 2, 2);
    }
    let mut side = established_acceptor();
    assert_eq!(the_violation(&side.feed(&[9, 0, 0, 0, 0, 0])), Violation::UnknownPdu(9));
    assert_aborts(&mut side, 2, 1);
}

#[test]
fn broken_messages_are_aborted() {
    let store = a_store(1).encode();
    let begin = pdv(3, COMMAND | LAST, &store);
    for content in [
        pdv(3, LAST, b"data without a command"),
        pdv(1, COMMAND | LAST, b""),
        pdv(1, COMMAND | LAST, b"garbage"),
        [begin.clone(), pdv(1, LAST, b"data on another context")].concat(),
        [begin.clone(), pdv(3, 0, b"data"), pdv(3, COMMAND | LAST, &store)].concat(),
        [pdv(3, COMMAND, &store), pdv(3, LAST, b"data within the command")].concat(),
        pdv(3, COMMAND, &[0; 60_000]).repeat(2),
    ] {
        let (mut side, happened) = sends(&content);
        assert!(matches!(the_violation(&happened), Violation::Message(_)));
        assert_aborts(&mut side, 0, 0);
    }
    let (_, happened) = sends(&[begin, pdv(1, LAST, b"x")].concat());
    let error = AssemblyError::ContextChanged { began: 3, came: 1 };
    assert_eq!(the_violation(&happened), Violation::Message(error));
}

#[test]
fn a_store_on_a_context_for_verification_is_aborted() {
    let (mut side, happened) = sends(&pdv(1, COMMAND | LAST, &a_store(1).encode()));
    assert!(matches!(the_violation(&happened), Violation::WrongService { operation: "C-STORE", .. }));
    assert_aborts(&mut side, 0, 0);
}

#[test]
fn a_response_from_a_client_is_aborted() {
    let response = Response::to(&a_store(1), Status::SUCCESS).encode();
    let (mut side, happened) = sends(&pdv(3, COMMAND | LAST, &response));
    assert_eq!(the_violation(&happened), Violation::UnaskedResponse);
    assert_aborts(&mut side, 0, 0);
}

#[test]
fn an_answer_to_another_message_is_aborted() {
    let mut pair = Pair::established();
    pair.requestor.channel.send_command(1, &an_echo(7)).unwrap();
    pair.requestor.channel.await_response(pair.requestor.now, SECOND).unwrap();
    pair.talk();
    pair.acceptor.channel.send_response(1, &Response::to(&an_echo(8), Status::SUCCESS)).unwrap();
    let happened = pair.talk().1;
    assert_eq!(the_violation(&happened), Violation::WrongMessageId { expected: 7, came: 8 });
}

#[test]
fn an_operation_that_is_not_offered_is_indicated_with_its_refusal() {
    let mut find = an_echo(9).encode();
    let field = find.windows(8).position(|bytes| bytes == [0, 0, 0, 1, 2, 0, 0, 0]).unwrap() + 8;
    find[field] = 0x20;
    let (_, happened) = sends(&pdv(3, COMMAND | LAST, &find));
    let [Happening::Indication(Indication::Command { context: 3, command }), ..] = &happened[..] else {
        panic!("{happened:?}")
    };
    assert_eq!(command.refusal().unwrap().status, Status::UNRECOGNIZED_OPERATION);
}

#[test]
fn many_pdvs_in_one_pdu_are_handed_on_one_by_one() {
    let store = a_store(1).encode();
    let content =
        [pdv(3, COMMAND | LAST, &store), pdv(3, 0, b"").repeat(10_000), pdv(3, 0, b"ab").repeat(1000)].concat();
    let (mut side, happened) = sends(&content);
    assert_eq!(happened.len(), 1 + 1000);
    assert_eq!(data(&happened), b"ab".repeat(1000));
    assert_eq!(side.feed(&pdu(4, &pdv(3, LAST, b""))), [indication(Indication::DataEnd)]);
}

#[test]
fn the_callers_own_mistakes_are_told_and_nothing_is_sent() {
    let mut pair = Pair::established();
    let now = pair.requestor.now;
    let channel = &mut pair.requestor.channel;
    assert!(channel.send_data(3, b"x", true).is_err(), "data without a command");
    assert!(channel.send_command(99, &an_echo(1)).is_err(), "a context that was not accepted");
    assert!(channel.await_response(now, SECOND).is_err(), "nothing was asked");
    assert!(channel.output().is_empty());
    channel.send_command(3, &a_store(1)).unwrap();
    assert!(channel.send_command(1, &an_echo(2)).is_err(), "within a data set");
    assert!(channel.send_data(1, b"x", true).is_err(), "another context");
    assert!(channel.await_response(now, SECOND).is_err(), "before the data set's end");
    assert!(channel.release(now).is_err(), "within a data set");
    channel.send_data(3, b"x", true).unwrap();
    assert!(channel.send_data(3, b"x", true).is_err(), "after the end");
    assert!(channel.send_command(1, &an_echo(2)).is_err(), "before the answer");
}

#[test]
fn what_may_name_a_patient_is_not_shown() {
    let shown = format!("{:?}", Indication::Data(Bytes::from_static(b"DOE^JOHN")));
    assert_eq!(shown, "8 bytes of data");
    let response = Response::to(&a_store(1), Status::CANNOT_UNDERSTAND).with_comment("patient DOE^JOHN is unknown");
    assert!(!format!("{response:?}").contains("DOE"));
}

/// The battery found it: the instance was stored and acknowledged, and then the association aborted.
#[test]
fn a_last_fragment_with_garbage_behind_it_in_its_pdu_completes_nothing() {
    let store = a_store(1).encode();
    for garbage in [vec![0; 5], vec![0, 0, 0, 1, 3, 2], pdv(99, LAST, b"x")] {
        let mut side = established_acceptor();
        side.feed(&pdu(4, &pdv(3, COMMAND | LAST, &store)));
        let happened = side.feed(&pdu(4, &[pdv(3, LAST, b"the whole data set"), garbage].concat()));
        assert!(matches!(happened[..], [Happening::Ended(End::Violation(_))]), "{happened:?}");
        assert_aborts(&mut side, 2, 6);
    }
}
