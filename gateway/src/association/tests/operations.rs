//! The asynchronous operations window (PS3.7 D.3.3.3): what is agreed upon, and what may be outstanding then.

use std::collections::BTreeSet;

use tokio::io::{AsyncWriteExt, duplex};

use super::*;
use crate::association::transport::{accept, connect};
use crate::association::{Association, AssociationError, Sent};
use crate::clock::of_runtime;
use crate::dimse::{Response, Status};

fn with_operations(operations: u16) -> RequestorSettings {
    RequestorSettings { operations, ..requestor_settings() }
}

/// The windows in a PDU, as they stand in it.
fn windows(output: &[u8]) -> Vec<[u8; 4]> {
    let (head, rest) = (item(0x53, &[0; 4]), output.windows(8));
    let ours = rest.filter(|bytes| bytes.starts_with(&head[..4]));
    ours.map(|bytes| bytes[4..].try_into().unwrap()).collect()
}

#[test]
fn a_window_is_answered_only_if_proposed_and_grants_no_more_than_four() {
    let answered = |user: Vec<u8>| {
        let mut side = Side::acceptor(&AcceptorSettings::default());
        side.feed(&Request { user, ..Request::default() }.bytes());
        windows(&side.take_output())
    };
    assert_eq!(answered(Vec::new()), [[0; 4]; 0]);
    assert_eq!(answered(item(0x53, &[0, 3])), [[0; 4]; 0], "malformed");
    for (invoked, granted) in [(0, 4), (1, 1), (3, 3), (4, 4), (5, 4), (u16::MAX, 4)] {
        let [a, b] = invoked.to_be_bytes();
        for performed in [0, 1, 9] {
            assert_eq!(answered(item(0x53, &[a, b, 0, performed])), [[0, granted, 0, 1]], "{invoked}/{performed}");
        }
    }
}

/// An association that proposed so many, and whose peer had this in its answer.
fn agreed(proposed: u16, answer: &[u8]) -> usize {
    let mut side = Side::requestor(&with_operations(proposed));
    side.take_output();
    let user = [item(0x51, &16384_u32.to_be_bytes()), answer.to_vec()].concat();
    let context = item(0x21, &[&[1, 0, 0, 0][..], &item(0x40, IMPLICIT.as_bytes())].concat());
    let fixed = [&[0, 1, 0, 0][..], &[b' '; 32], &[0; 32]].concat();
    let content = [fixed, item(0x10, b"1.2.840.10008.3.1.1.1"), context, item(0x50, &user)].concat();
    assert_eq!(side.feed(&pdu(2, &content)), [Happening::Accepted]);
    side.channel.operations()
}

#[test]
fn no_more_are_outstanding_than_both_sides_have_said() {
    for (answer, operations) in [
        (Vec::new(), 1),
        (item(0x53, &[0, 1, 0, 1]), 1),
        (item(0x53, &[0, 3, 0, 1]), 3),
        (item(0x53, &[0, 4, 0, 0]), 4),
        (item(0x53, &[0, 0, 0, 0]), 4),
        (item(0x53, &[0, 9, 0, 9]), 4),
        (item(0x53, &[0xFF; 4]), 4),
        (item(0x53, &[4]), 1),
        (item(0x53, &[0, 4, 0, 1, 0]), 1),
    ] {
        assert_eq!(agreed(4, &answer), operations, "{answer:?}");
        assert_eq!(agreed(1, &answer), 1, "nothing was proposed: {answer:?}");
    }
}

#[test]
fn a_window_is_proposed_only_for_more_than_one_operation() {
    for (operations, proposed) in [(1, vec![]), (4, vec![[0, 4, 0, 1]])] {
        assert_eq!(windows(&Side::requestor(&with_operations(operations)).take_output()), proposed);
    }
}

/// An association over which four C-STORE may be outstanding.
fn established() -> Pair {
    let mut pair = Pair::new(&with_operations(4));
    assert_eq!(pair.talk().1, [Happening::Accepted]);
    assert_eq!((pair.requestor.channel.operations(), pair.acceptor.channel.operations()), (4, 1));
    pair
}

fn send(side: &mut Side, message_id: u16) {
    side.channel.send_command(3, &a_store(message_id)).unwrap();
    assert_eq!(side.channel.send_data(3, b"data", true).unwrap(), b"");
}

fn answer(pair: &mut Pair, message_id: u16) -> Vec<Happening> {
    let response = Response::to(&a_store(message_id), Status::SUCCESS);
    pair.acceptor.channel.send_response(3, &response).unwrap();
    pair.talk().1
}

#[test]
fn several_are_answered_in_any_order_and_each_once() {
    let mut pair = established();
    for message_id in [7, 3, 9] {
        send(&mut pair.requestor, message_id);
    }
    assert_eq!(pair.talk().0.len(), 9, "a command, data and their end for each");
    for message_id in [9, 7] {
        let [Happening::Indication(Indication::Response { response, .. })] = &answer(&mut pair, message_id)[..] else {
            panic!("{message_id}")
        };
        assert_eq!(response.message_id, message_id);
    }
    assert_eq!(the_violation(&answer(&mut pair, 9)), Violation::WrongMessageId { expected: 3, came: 9 });
}

#[test]
fn what_was_not_asked_is_answered_by_an_abort() {
    let mut pair = established();
    send(&mut pair.requestor, 1);
    send(&mut pair.requestor, 2);
    pair.talk();
    assert_eq!(the_violation(&answer(&mut pair, 5)), Violation::WrongMessageId { expected: 1, came: 5 });
    let mut pair = established();
    assert_eq!(the_violation(&answer(&mut pair, 5)), Violation::UnaskedResponse);
}

#[test]
fn no_more_than_agreed_no_message_id_twice_and_nothing_else_beside_them() {
    let mut pair = established();
    let channel = &mut pair.requestor.channel;
    channel.send_command(1, &an_echo(1)).unwrap();
    assert!(channel.send_command(3, &a_store(2)).is_err(), "a C-ECHO goes alone");
    let mut pair = established();
    send(&mut pair.requestor, 1);
    assert!(pair.requestor.channel.send_command(3, &a_store(1)).is_err(), "the message ID is in use");
    assert!(pair.requestor.channel.send_command(1, &an_echo(2)).is_err(), "beside a C-STORE");
    (2..=4).for_each(|message_id| send(&mut pair.requestor, message_id));
    assert!(pair.requestor.channel.send_command(3, &a_store(5)).is_err(), "a fifth");
    pair.talk();
    answer(&mut pair, 2);
    send(&mut pair.requestor, 2);
}

#[test]
fn an_answer_is_waited_for_with_patience_as_long_as_one_is_outstanding() {
    let mut pair = established();
    send(&mut pair.requestor, 1);
    send(&mut pair.requestor, 2);
    pair.talk();
    let now = pair.requestor.now;
    pair.requestor.channel.await_response(now, 5 * SECOND).unwrap();
    answer(&mut pair, 2);
    pair.requestor.channel.await_response(now + SECOND, 5 * SECOND).unwrap();
    assert_eq!(pair.requestor.run_to_timeout(), Some(End::NoResponse(5 * SECOND)));
    assert_eq!(pair.requestor.now - now, 6 * SECOND);
}

/// Both ends of an association with a window of four, over a pipe.
async fn associated() -> (Association, Association) {
    let (ours, theirs) = duplex(1 << 20);
    let (acceptor_settings, settings) = (AcceptorSettings::default(), with_operations(4));
    let accepting = accept(ours, &acceptor_settings, of_runtime(), accept_all);
    let (acceptor, requestor) = tokio::join!(accepting, connect(theirs, &settings));
    (acceptor.unwrap(), requestor.unwrap())
}

/// Takes one object.
async fn take(acceptor: &mut Association) -> Command {
    let Indication::Command { command, .. } = acceptor.next().await.unwrap() else { panic!() };
    while acceptor.next().await.unwrap() != Indication::DataEnd {}
    command
}

#[tokio::test(start_paused = true)]
async fn answers_that_come_while_others_are_sent_are_kept_in_their_order() {
    let (mut acceptor, mut requestor) = associated().await;
    let mut requests = Vec::new();
    for message_id in 1..=2 {
        requestor.send_command(3, &a_store(message_id)).await.unwrap();
        requestor.send_data(3, b"data", true).await.unwrap();
        requests.push(take(&mut acceptor).await);
    }
    for request in requests.iter().rev() {
        acceptor.respond(3, &Response::to(request, Status::SUCCESS)).await.unwrap();
    }
    requestor.send_command(3, &a_store(3)).await.unwrap();
    assert_eq!(requestor.send_data(3, b"data", true).await.unwrap(), Sent::AnsweredEarly);
    let third = take(&mut acceptor).await;
    acceptor.respond(3, &Response::to(&third, Status::SUCCESS)).await.unwrap();
    let mut answered = Vec::new();
    for _ in 0..3 {
        answered.push(requestor.response(SECOND).await.unwrap().message_id);
    }
    assert_eq!(answered, [2, 1, 3]);
    assert!(matches!(requestor.response(SECOND).await, Err(AssociationError::OutOfTurn(_))));
}

/// Nobody can have the association keep answers that he does not ask for.
#[tokio::test(start_paused = true)]
async fn what_was_answered_and_not_asked_for_counts_as_outstanding() {
    let (mut acceptor, mut requestor) = associated().await;
    for message_id in 1..=4 {
        requestor.send_command(3, &a_store(message_id)).await.unwrap();
        let request = a_store(message_id);
        let Indication::Command { .. } = acceptor.next().await.unwrap() else { panic!() };
        acceptor.respond(3, &Response::to(&request, Status::SUCCESS)).await.unwrap();
        requestor.send_data(3, b"data", true).await.unwrap();
        while acceptor.next().await.unwrap() != Indication::DataEnd {}
    }
    let fifth = a_store(5);
    assert!(matches!(requestor.send_command(3, &fifth).await, Err(AssociationError::OutOfTurn(_))));
    assert_eq!(requestor.response(SECOND).await.unwrap().message_id, 1);
    requestor.send_command(3, &fifth).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_before_the_association_broke_is_still_told() {
    let (mut acceptor, mut requestor) = associated().await;
    for message_id in 1..=3 {
        requestor.send_command(3, &a_store(message_id)).await.unwrap();
        requestor.send_data(3, b"data", true).await.unwrap();
    }
    let first = take(&mut acceptor).await;
    acceptor.respond(3, &Response::to(&first, Status::SUCCESS)).await.unwrap();
    drop(acceptor);
    requestor.send_command(3, &a_store(4)).await.unwrap_err();
    assert_eq!(requestor.response_at_hand().map(|response| response.message_id), Some(1));
    assert_eq!(requestor.response_at_hand(), None);
    assert!(matches!(requestor.response(SECOND).await, Err(AssociationError::Over)));
}

/// As acceptor: what is not read yet waits, and is performed one after the other.
#[tokio::test(start_paused = true)]
async fn requests_that_come_at_once_are_performed_one_after_the_other() {
    let (ours, mut theirs) = duplex(1 << 20);
    let user = [item(0x51, &16384_u32.to_be_bytes()), item(0x53, &[0, 4, 0, 1])].concat();
    theirs.write_all(&Request { user, ..Request::default() }.bytes()).await.unwrap();
    for message_id in 1..=4 {
        let command = pdv(3, COMMAND | LAST, &a_store(message_id).encode());
        theirs.write_all(&pdu(4, &[command, pdv(3, LAST, b"data")].concat())).await.unwrap();
    }
    let mut acceptor = accept(ours, &AcceptorSettings::default(), of_runtime(), accept_all).await.unwrap();
    let mut performed = BTreeSet::new();
    for _ in 0..4 {
        let request = take(&mut acceptor).await;
        acceptor.respond(3, &Response::to(&request, Status::SUCCESS)).await.unwrap();
        performed.insert(request.message_id());
    }
    assert_eq!(performed.len(), 4);
}
