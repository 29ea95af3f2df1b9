//! Every wait ends.

use super::*;
use crate::association::Timeouts;
use crate::dimse::{Response, Status};

#[test]
fn who_says_nothing_is_closed_after_artim_which_began_with_the_connection() {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    let connected = side.now;
    side.now += 20 * SECOND;
    side.feed(&Request::default().bytes()[..50]);
    assert_eq!(side.run_to_timeout(), Some(End::TimedOut));
    assert_eq!(side.now, connected + 30 * SECOND, "bytes do not prolong it");
    assert!(side.take_output().is_empty());
    assert_eq!(side.channel.ending(), Some(Ending::Close));
}

#[test]
fn a_request_without_an_answer_is_aborted() {
    let mut side = Side::requestor(&requestor_settings());
    side.take_output();
    assert_eq!(side.run_to_timeout(), Some(End::TimedOut));
    assert_aborts(&mut side, 2, 0);
}

#[test]
fn after_an_abort_the_peer_is_waited_for_as_long_as_linger() {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    side.feed(b"GET / HTTP/1.1");
    side.take_output();
    let aborted = side.now;
    assert_eq!(side.channel.ending(), Some(Ending::HalfClose));
    assert_eq!(side.run_to_timeout(), None);
    assert_eq!(side.now, aborted + 2 * SECOND);
    assert_eq!(side.channel.ending(), Some(Ending::Close));
    assert_eq!(side.channel.poll_event(side.now), None);
}

#[test]
fn an_idle_association_is_aborted() {
    let mut side = established_acceptor();
    let established = side.now;
    assert_eq!(side.run_to_timeout(), Some(End::Idle));
    assert_eq!(side.now, established + 600 * SECOND);
    assert_aborts(&mut side, 2, 0);
}

#[test]
fn every_message_begins_the_idle_time_again() {
    let mut side = established_acceptor();
    for message_id in 0..10 {
        side.channel.handle_waiting(side.now);
        side.now += 599 * SECOND;
        assert_eq!(side.channel.handle_timeout(side.now), None);
        assert_eq!(side.feed(&pdu(4, &pdv(1, COMMAND | LAST, &an_echo(message_id).encode()))).len(), 1);
        side.channel.send_response(1, &Response::to(&an_echo(message_id), Status::SUCCESS)).unwrap();
        side.take_output();
    }
}

#[test]
fn a_peer_at_one_byte_a_second_within_a_message_is_aborted() {
    let message = pdu(4, &pdv(3, COMMAND | LAST, &a_store(1).encode()));
    let mut side = established_acceptor();
    let end = message.iter().find_map(|byte| {
        side.channel.handle_waiting(side.now);
        side.now += SECOND;
        side.feed(&[*byte]).into_iter().find(|happening| matches!(happening, Happening::Ended(_)))
    });
    assert!(matches!(end, Some(Happening::Ended(End::TooSlow { received: 25..=32 }))), "{end:?}");
    assert_aborts(&mut side, 2, 0);
}

#[test]
fn a_peer_that_falls_silent_within_an_object_is_aborted_after_one_window() {
    let mut side = established_acceptor();
    side.feed(&pdu(4, &pdv(3, COMMAND | LAST, &a_store(1).encode())));
    let silent = side.now;
    assert!(matches!(side.run_to_timeout(), Some(End::TooSlow { .. })));
    assert_eq!(side.now, silent + 30 * SECOND);
    assert_aborts(&mut side, 2, 0);
}

#[test]
fn a_slow_but_steady_modality_is_let_through() {
    let mut side = established_acceptor();
    side.feed(&pdu(4, &pdv(3, COMMAND | LAST, &a_store(1).encode())));
    for _ in 0..1000 {
        side.channel.handle_waiting(side.now);
        side.now += SECOND;
        let happened = side.feed(&pdu(4, &pdv(3, 0, &[0; 2000])));
        assert!(happened.iter().all(|happening| matches!(happening, Happening::Indication(Indication::Data(_)))));
    }
}

#[test]
fn the_answer_to_a_request_is_waited_for_as_long_as_the_caller_says_and_no_longer() {
    let settings =
        RequestorSettings { timeouts: Timeouts { idle: SECOND, ..Timeouts::default() }, ..requestor_settings() };
    let mut pair = Pair::new(&settings);
    pair.talk();
    let side = &mut pair.requestor;
    side.channel.send_command(1, &an_echo(1)).unwrap();
    side.take_output();
    let asked = side.now;
    side.channel.await_response(asked, 50 * SECOND).unwrap();
    assert_eq!(side.run_to_timeout(), Some(End::NoResponse(50 * SECOND)));
    assert_eq!(side.now, asked + 50 * SECOND, "the idle time does not apply");
    assert_aborts(side, 0, 0);
}

#[test]
fn a_release_without_an_answer_is_aborted() {
    let mut pair = Pair::established();
    let side = &mut pair.requestor;
    side.channel.release(side.now).unwrap();
    side.take_output();
    assert_eq!(side.run_to_timeout(), Some(End::TimedOut));
    assert_aborts(side, 2, 0);
}

#[test]
fn no_minimum_rate_means_none() {
    let timeouts = Timeouts { minimum_rate: 0, ..Timeouts::default() };
    let mut side = Side::acceptor(&AcceptorSettings { timeouts, ..AcceptorSettings::default() });
    side.feed(&Request::default().bytes());
    side.feed(&pdu(4, &pdv(3, COMMAND | LAST, &a_store(1).encode())));
    side.channel.handle_waiting(side.now);
    assert_eq!(side.channel.deadline(), None);
}
