//! The ends of an association: release, collision, abort everywhere.

use super::*;
use crate::association::Abort;

#[test]
fn a_release_is_confirmed_and_both_sides_close() {
    let mut pair = Pair::established();
    pair.requestor.channel.release(pair.requestor.now).unwrap();
    let (acceptor, requestor) = pair.talk();
    assert_eq!(acceptor, [indication(Indication::Released)]);
    assert_eq!(requestor, [Happening::Ended(End::Released)]);
    assert_eq!(pair.requestor.channel.ending(), Some(Ending::Close));
    assert_eq!(pair.acceptor.channel.ending(), Some(Ending::HalfClose), "the acceptor waits for the peer to close");
    assert_eq!(pair.acceptor.eof(), []);
    assert_eq!(pair.acceptor.channel.ending(), Some(Ending::Close));
}

#[test]
fn when_both_sides_release_at_once_both_are_released() {
    let mut pair = Pair::established();
    pair.requestor.channel.release(pair.requestor.now).unwrap();
    pair.acceptor.channel.release(pair.acceptor.now).unwrap();
    let (acceptor, requestor) = pair.talk();
    assert_eq!(acceptor, [Happening::Ended(End::Released)]);
    assert_eq!(requestor, [Happening::Ended(End::Released)]);
    assert_eq!(pair.requestor.channel.ending(), Some(Ending::Close));
}

#[test]
fn the_requestor_answers_a_collision_first() {
    let mut pair = Pair::established();
    pair.requestor.channel.release(pair.requestor.now).unwrap();
    pair.requestor.take_output();
    assert_eq!(pair.requestor.feed(&pdu(5, &[0; 4])), []);
    assert_eq!(pair.requestor.take_pdus(), [ul::Pdu::ReleaseRP]);
    assert_eq!(pair.requestor.feed(&pdu(6, &[0; 4])), [Happening::Ended(End::Released)]);

    pair.acceptor.channel.release(pair.acceptor.now).unwrap();
    pair.acceptor.take_output();
    assert_eq!(pair.acceptor.feed(&pdu(5, &[0; 4])), []);
    assert!(pair.acceptor.take_output().is_empty(), "the acceptor waits for the requestor's reply");
    assert_eq!(pair.acceptor.feed(&pdu(6, &[0; 4])), [Happening::Ended(End::Released)]);
    assert_eq!(pair.acceptor.take_pdus(), [ul::Pdu::ReleaseRP]);
}

#[test]
fn data_that_come_after_our_release_request_are_dropped() {
    let mut pair = Pair::established();
    pair.acceptor.channel.release(pair.acceptor.now).unwrap();
    pair.acceptor.take_output();
    assert_eq!(pair.acceptor.feed(&pdu(4, &pdv(1, COMMAND | LAST, b"late"))), []);
    assert_eq!(pair.acceptor.feed(&pdu(6, &[0; 4])), [Happening::Ended(End::Released)]);
}

#[test]
fn a_release_in_the_middle_of_a_message_is_aborted() {
    let command = a_store(1).encode();
    for fragments in [
        pdv(3, COMMAND, &command),
        pdv(3, COMMAND | LAST, &command),
        [pdv(3, COMMAND | LAST, &command), pdv(3, 0, b"data")].concat(),
    ] {
        let mut side = established_acceptor();
        let happened = side.feed(&[pdu(4, &fragments), pdu(5, &[0; 4])].concat());
        assert_eq!(the_violation(&happened), Violation::ReleaseWithinMessage);
        assert_aborts(&mut side, 2, 2);
    }
}

#[test]
fn a_release_reply_that_nobody_asked_for_is_aborted() {
    let mut side = established_acceptor();
    assert!(matches!(the_violation(&side.feed(&pdu(6, &[0; 4]))), Violation::UnexpectedPdu { .. }));
    assert_aborts(&mut side, 2, 2);
}

#[test]
fn an_abort_ends_the_association_wherever_it_comes() {
    let command = a_store(1).encode();
    let abort = pdu(7, &[0, 0, 2, 1]);
    for before in [
        Vec::new(),
        pdu(4, &pdv(3, COMMAND, &command)),
        pdu(4, &pdv(3, COMMAND | LAST, &command)),
        pdu(4, &[pdv(3, COMMAND | LAST, &command), pdv(3, 0, b"data")].concat()),
    ] {
        let mut side = established_acceptor();
        let happened = side.feed(&[before, abort.clone()].concat());
        assert_eq!(the_end(&happened), &End::Aborted(Abort { source: 2, reason: 1 }));
        assert!(!happened.contains(&indication(Indication::DataEnd)));
        assert!(side.take_output().is_empty(), "an A-ABORT has no answer");
        assert_eq!(side.channel.ending(), Some(Ending::Close));
    }
    let mut side = Side::requestor(&requestor_settings());
    assert_eq!(the_end(&side.feed(&abort)), &End::Aborted(Abort { source: 2, reason: 1 }));
    let mut pair = Pair::established();
    pair.requestor.channel.release(pair.requestor.now).unwrap();
    assert_eq!(the_end(&pair.requestor.feed(&abort)), &End::Aborted(Abort { source: 2, reason: 1 }));
}

#[test]
fn our_abort_overtakes_what_has_not_begun_to_leave_and_follows_what_has() {
    let mut pair = Pair::established();
    let side = &mut pair.requestor;
    side.channel.send_command(1, &an_echo(1)).unwrap();
    side.channel.abort(side.now, Abort::BY_USER);
    assert!(matches!(side.take_pdus()[..], [ul::Pdu::AbortRQ { .. }]));

    let mut pair = Pair::established();
    let side = &mut pair.requestor;
    side.channel.send_command(1, &an_echo(1)).unwrap();
    let length = side.channel.output().len();
    side.channel.handle_written(1);
    side.channel.abort(side.now, Abort::BY_USER);
    assert_eq!(side.channel.output().len(), length - 1 + 10);
    assert_eq!(side.channel.deadline(), Some(side.now + side.channel.timeouts().linger));
}

#[test]
fn a_connection_that_ends_at_any_byte_is_an_end_and_never_a_whole_object() {
    let command = a_store(1).encode();
    let object = [pdu(4, &pdv(3, COMMAND | LAST, &command)), pdu(4, &pdv(3, LAST, b"data"))].concat();
    for end in 0..object.len() {
        let mut side = established_acceptor();
        let mut happened = side.feed(&object[..end]);
        happened.extend(side.eof());
        assert_eq!(the_end(&happened), &End::Closed { received_anything: true });
        assert!(!happened.contains(&indication(Indication::DataEnd)), "cut at byte {end}");
    }
    let mut side = established_acceptor();
    let mut happened = side.feed(&object);
    happened.extend(side.eof());
    assert!(happened.contains(&indication(Indication::DataEnd)), "what came whole before the end is whole");
}
