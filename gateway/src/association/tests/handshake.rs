//! Negotiation between our own two sides, and our requestor against peers of all kinds.

use super::*;
use crate::association::{Abort, ContextRefusal, Rejection};

#[test]
fn an_association_comes_about_and_both_sides_agree_on_it() {
    let mut pair = Pair::new(&requestor_settings());
    let (acceptor, requestor) = pair.talk();
    let [Happening::Requested(request)] = &acceptor[..] else { panic!("{acceptor:?}") };
    assert_eq!((request.calling_ae.as_str(), request.called_ae.as_str()), ("CT1", "WAYSTATION"));
    assert!(request.implementation_version.as_ref().unwrap().starts_with("WAYSTATION"));
    assert_eq!(requestor, [Happening::Accepted]);
    let contexts = pair.requestor.channel.contexts();
    assert_eq!(contexts, pair.acceptor.channel.contexts());
    let expected = [(1, VERIFICATION, IMPLICIT), (3, CT, EXPLICIT)];
    let agreed: Vec<_> =
        contexts.iter().map(|c| (c.id, c.abstract_syntax.as_str(), c.transfer_syntax.as_str())).collect();
    assert_eq!(agreed, expected, "Explicit VR is ours, though the requestor named Implicit first");
}

#[test]
fn a_rejection_reaches_the_requestor_with_its_reason() {
    for rejection in [
        Rejection::CALLING_AE_NOT_RECOGNIZED,
        Rejection::CALLED_AE_NOT_RECOGNIZED,
        Rejection::TEMPORARY_CONGESTION,
        Rejection::LOCAL_LIMIT_EXCEEDED,
        Rejection::NO_REASON,
    ] {
        let mut side = Side::requestor(&requestor_settings());
        side.take_output();
        let codes = [0, rejection.result, rejection.source, rejection.reason];
        let happened = side.feed(&pdu(3, &codes));
        assert_eq!(the_end(&happened), &End::Rejected(rejection));
        assert_eq!(side.channel.ending(), Some(Ending::Close));
        assert!(!rejection.remedy().is_empty());
    }
    let mut pair = Pair::new(&requestor_settings());
    pair.acceptor.decide = |_| Decision::Reject(Rejection::LOCAL_LIMIT_EXCEEDED);
    let (acceptor, requestor) = pair.talk();
    assert!(matches!(acceptor[0], Happening::Ended(End::Refused { .. })));
    assert_eq!(requestor, [Happening::Ended(End::Rejected(Rejection::LOCAL_LIMIT_EXCEEDED))]);
}

#[test]
fn codes_that_do_not_exist_are_kept_and_shown() {
    let mut side = Side::requestor(&requestor_settings());
    let odd = Rejection { result: 9, source: 8, reason: 77 };
    assert_eq!(the_end(&side.feed(&pdu(3, &[0, 9, 8, 77]))), &End::Rejected(odd));
    assert!(odd.to_string().contains("77") && odd.is_transient());
    let mut side = Side::requestor(&requestor_settings());
    let odd = Abort { source: 1, reason: 99 };
    assert_eq!(the_end(&side.feed(&pdu(7, &[0, 0, 1, 99]))), &End::Aborted(odd));
    assert!(odd.to_string().contains("99"));
}

/// An A-ASSOCIATE-AC with these context items.
fn answer(contexts: &[u8]) -> Vec<u8> {
    let fixed = [&[0, 1, 0, 0][..], &[b' '; 32], &[0; 32]].concat();
    let user = item(0x50, &item(0x51, &0_u32.to_be_bytes()));
    pdu(2, &[&fixed[..], &item(0x10, b"1.2.840.10008.3.1.1.1"), contexts, &user].concat())
}

fn accepted(id: u8, transfer_syntax: &str) -> Vec<u8> {
    item(0x21, &[&[id, 0, 0, 0][..], &item(0x40, transfer_syntax.as_bytes())].concat())
}

#[test]
fn answers_of_the_field_are_read_for_what_they_are_worth() {
    let mut side = Side::requestor(&requestor_settings());
    // Refused without a transfer syntax; accepted with NUL padding.
    let happened = side.feed(&answer(&[item(0x21, &[1, 0, 3, 0]), accepted(3, "1.2.840.10008.1.2.1\0")].concat()));
    assert_eq!(happened, [Happening::Accepted]);
    assert_eq!(side.channel.contexts().len(), 1);
    assert_eq!(side.channel.refused(), [(1, ContextRefusal::AbstractSyntaxNotSupported)]);
    assert_eq!(side.channel.peer_max_pdu(), 128 * 1024, "no limit there means ours");

    let mut side = Side::requestor(&requestor_settings());
    // Not proposed: a transfer syntax, a context. An unknown result. No answer.
    side.feed(&answer(&[accepted(3, "1.2.840.10008.1.2.4.50"), accepted(99, IMPLICIT)].concat()));
    assert_eq!(side.channel.contexts(), []);
    assert_eq!(side.channel.refused(), [(1, ContextRefusal::NoReason), (3, ContextRefusal::NoReason)]);

    let mut side = Side::requestor(&requestor_settings());
    side.feed(&answer(&[item(0x21, &[1, 0, 200, 0, 1, 2, 3]), item(0x21, &[3, 0, 0, 0]), item(0x77, b"?")].concat()));
    assert_eq!(side.channel.refused(), [(1, ContextRefusal::NoReason), (3, ContextRefusal::NoReason)]);
}

#[test]
fn a_peer_that_answers_with_something_else_is_aborted() {
    for (bytes, reason) in [
        (Request::default().bytes(), 2),
        (pdu(4, &pdv(1, COMMAND | LAST, b"xx")), 2),
        (pdu(5, &[0; 4]), 2),
        (b"HTTP/1.1 400 Bad Request".to_vec(), 1),
        (vec![0x15, 3, 3, 0, 2, 2, 70], 1),
        (pdu(2, &[1; 70]), 6),
        (vec![2, 0, 0xFF, 0xFF, 0xFF, 0xFF], 6),
    ] {
        let mut side = Side::requestor(&requestor_settings());
        side.take_output();
        the_violation(&side.feed(&bytes));
        assert_aborts(&mut side, 2, reason);
    }
}

#[test]
fn an_acceptor_whose_pdus_have_no_room_is_aborted() {
    let mut side = Side::requestor(&requestor_settings());
    side.take_output();
    let mut bytes = answer(&accepted(1, IMPLICIT));
    let at = bytes.len() - 1;
    bytes[at] = 7;
    assert_eq!(the_violation(&side.feed(&bytes)), Violation::MaxPduTooSmall(7));
    assert_aborts(&mut side, 2, 6);
}

#[test]
fn at_most_128_contexts_are_proposed() {
    let settings = (0..200).fold(RequestorSettings::new("A".parse().unwrap(), "B".parse().unwrap()), |settings, _| {
        settings.propose(&uid(CT), [uid(IMPLICIT)])
    });
    assert_eq!(settings.contexts.len(), 128);
    let mut pair = Pair::new(&settings);
    assert_eq!(pair.talk().1, [Happening::Accepted]);
    assert_eq!(pair.requestor.channel.contexts().len(), 128);
}

#[test]
fn what_we_write_is_what_dicom_ul_reads() {
    let mut pair = Pair::new(&requestor_settings());
    let [ul::Pdu::AssociationRQ(request)] = &pair.requestor.take_pdus()[..] else { panic!() };
    assert_eq!((request.calling_ae_title.as_str(), request.called_ae_title.as_str()), ("CT1", "WAYSTATION"));
    assert_eq!(request.presentation_contexts.len(), 2);
    assert!(request.user_variables.contains(&ul::UserVariableItem::MaxLength(131_072)));
}
