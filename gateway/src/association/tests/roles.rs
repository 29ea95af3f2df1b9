//! Role selection (PS3.7 D.3.3.4), and requests that cross.

use bytes::Bytes;
use tokio::io::duplex;

use super::*;
use crate::association::transport::{accept, connect};
use crate::association::{Association, AssociationError, ContextRefusal, RoleSelection, Violation};
use crate::dimse::{CFind, NEventReport, Response, Status};
use crate::model::Priority;

const COMMITMENT: &str = "1.2.840.10008.1.20.1";

/// The sub-item of a role selection.
fn role(class: &str, scu: u8, scp: u8) -> Vec<u8> {
    let length = u16::try_from(class.len()).unwrap().to_be_bytes();
    item(0x54, &[&length[..], class.as_bytes(), &[scu, scp]].concat())
}

/// What a peer is told that proposes these roles: the sub-items of the answer, and the contexts that were accepted.
fn answered(roles: &[(&str, u8, u8)]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let contexts = [context(1, CT, &[EXPLICIT]), context(3, COMMITMENT, &[IMPLICIT])].concat();
    let items = roles.iter().map(|(class, scu, scp)| role(class, *scu, *scp)).collect::<Vec<_>>().concat();
    let user = [item(0x51, &16384_u32.to_be_bytes()), items].concat();
    let mut side = Side::acceptor(&AcceptorSettings::default());
    side.feed(&Request { contexts, user, ..Request::default() }.bytes());
    let accepted = side.channel.contexts().iter().map(|context| context.id).collect();
    let output = side.take_output();
    let mut rest = output.windows(4).position(|bytes| bytes[..2] == [0x50, 0]).map(|at| &output[at + 4..]).unwrap();
    let mut answers = Vec::new();
    while let [kind, _, l0, l1, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if *kind == 0x54 {
            answers.push(rest[..4 + length].to_vec());
        }
        rest = &after[length..];
    }
    (answers, accepted)
}

#[test]
fn roles_are_answered_where_they_were_proposed_and_nowhere_else() {
    assert_eq!(answered(&[]), (vec![], vec![1, 3]), "the default roles need no answer");
    assert_eq!(answered(&[(COMMITMENT, 1, 0)]), (vec![role(COMMITMENT, 1, 0)], vec![1, 3]));
    let both = [(CT, 1, 1), (COMMITMENT, 1, 1)];
    assert_eq!(answered(&both), (vec![role(CT, 1, 0), role(COMMITMENT, 1, 0)], vec![1, 3]), "we are no SCU");
    assert_eq!(answered(&[(VERIFICATION, 1, 1), ("1.2.3", 1, 1)]).0, Vec::<Vec<u8>>::new(), "no such context");
    let twice = [(CT, 1, 0), (CT, 0, 1)];
    assert_eq!(answered(&twice), (vec![role(CT, 1, 0)], vec![1, 3]), "the first of two");
}

#[test]
fn who_does_not_want_to_be_scu_gets_no_context() {
    for alone in [0, 1] {
        let (answers, accepted) = answered(&[(COMMITMENT, 0, alone)]);
        assert_eq!((answers, accepted), (vec![], vec![1]));
    }
    let mut side = Side::acceptor(&AcceptorSettings::default());
    let user = [item(0x51, &16384_u32.to_be_bytes()), role(CT, 0, 1)].concat();
    side.feed(&Request { user, ..Request::default() }.bytes());
    assert_eq!(side.channel.refused(), [(3, ContextRefusal::ByUser)]);
}

/// The same as [`answered`], where the requestor may bring reports and nothing else.
fn answered_to_a_reporter(roles: &[(&str, u8, u8)]) -> (Vec<RoleSelection>, Vec<u8>) {
    let contexts =
        [context(1, CT, &[EXPLICIT]), context(3, COMMITMENT, &[IMPLICIT]), context(5, VERIFICATION, &[IMPLICIT])];
    let items = roles.iter().map(|(class, scu, scp)| role(class, *scu, *scp)).collect::<Vec<_>>().concat();
    let user = [item(0x51, &16384_u32.to_be_bytes()), items].concat();
    let mut side = Side::acceptor(&AcceptorSettings::default());
    side.decide = Decision::accept_reports;
    side.feed(&Request { contexts: contexts.concat(), user, ..Request::default() }.bytes());
    (side.channel.roles().to_vec(), side.channel.contexts().iter().map(|context| context.id).collect())
}

#[test]
fn who_brings_reports_is_their_scp_and_may_do_nothing_else() {
    let scp = vec![RoleSelection { sop_class_uid: uid(COMMITMENT), scu: false, scp: true }];
    for scu in [0, 1] {
        assert_eq!(answered_to_a_reporter(&[(COMMITMENT, scu, 1)]), (scp.clone(), vec![3, 5]), "SCU {scu}");
    }
    for roles in [&[][..], &[(COMMITMENT, 1, 0)], &[(COMMITMENT, 0, 0)], &[(CT, 0, 1)]] {
        assert_eq!(answered_to_a_reporter(roles), (vec![], vec![5]), "{roles:?}");
    }
}

#[test]
fn a_role_item_that_is_cut_off_is_read_over() {
    let full = role(CT, 1, 1);
    for length in 0..full.len() - 4 {
        let user = [item(0x51, &16384_u32.to_be_bytes()), item(0x54, &full[4..4 + length])].concat();
        let mut side = Side::acceptor(&AcceptorSettings::default());
        side.feed(&Request { user, ..Request::default() }.bytes());
        assert_eq!(side.channel.contexts().len(), 2, "{length}");
        assert_eq!(side.channel.roles(), []);
    }
}

#[test]
fn commitment_has_an_uncompressed_little_endian_transfer_syntax_or_none() {
    let offered = |syntaxes: &[&str]| {
        let contexts = context(1, COMMITMENT, syntaxes);
        let mut side = Side::acceptor(&AcceptorSettings::default());
        side.feed(&Request { contexts, ..Request::default() }.bytes());
        side.channel.contexts().first().map(|context| context.transfer_syntax.to_string())
    };
    assert_eq!(offered(&[IMPLICIT, EXPLICIT]).unwrap(), EXPLICIT);
    assert_eq!(offered(&["1.2.840.10008.1.2.2", IMPLICIT]).unwrap(), IMPLICIT);
    assert_eq!(offered(&["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"]), None);
}

/// The role that we may take as requestor when the peer answers like this.
fn agreed(answer: &[(&str, u8, u8)]) -> Vec<RoleSelection> {
    let settings = RequestorSettings::new("GW".parse().unwrap(), "CT1".parse().unwrap())
        .propose(&uid(COMMITMENT), [uid(EXPLICIT)])
        .as_scp(&uid(COMMITMENT));
    let mut side = Side::requestor(&settings);
    assert!(side.take_output().ends_with(&item(0x55, b"WAYSTATION_0.1.0")));
    let context = item(0x21, &[&[1, 0, 0, 0][..], &item(0x40, EXPLICIT.as_bytes())].concat());
    let roles = answer.iter().map(|(class, scu, scp)| role(class, *scu, *scp)).collect::<Vec<_>>().concat();
    let user = item(0x50, &[item(0x51, &16384_u32.to_be_bytes()), roles].concat());
    let content = [&[0, 1, 0, 0][..], &[b' '; 32], &[0; 32], &context, &user].concat();
    assert_eq!(side.feed(&pdu(2, &content)), [Happening::Accepted]);
    side.channel.roles().to_vec()
}

#[test]
fn a_requestor_believes_what_was_answered_and_no_more_than_it_proposed() {
    let of = |scu, scp| vec![RoleSelection { sop_class_uid: uid(COMMITMENT), scu, scp }];
    assert_eq!(agreed(&[(COMMITMENT, 0, 1)]), of(false, true));
    assert_eq!(agreed(&[(COMMITMENT, 1, 1)]), of(false, true), "it did not ask to be SCU");
    assert_eq!(agreed(&[(COMMITMENT, 0, 0)]), of(false, false));
    assert_eq!(agreed(&[]), [], "without an answer the default roles hold");
    assert_eq!(agreed(&[(CT, 1, 1)]), []);
}

/// Both ends of an association over a pipe of this size, with contexts 1 for CT and 3 for storage commitment.
async fn associated(size: usize) -> (Association, Association) {
    let (ours, theirs) = duplex(size);
    let settings = RequestorSettings::new("CT1".parse().unwrap(), "GW".parse().unwrap())
        .propose(&uid(CT), [uid(EXPLICIT)])
        .propose(&uid(COMMITMENT), [uid(EXPLICIT)]);
    let acceptor_settings = AcceptorSettings::default();
    let connected = crate::clock::of_runtime();
    let acceptor = accept(ours, &acceptor_settings, connected, accept_all);
    let (acceptor, requestor) = tokio::join!(acceptor, connect(theirs, &settings));
    (acceptor.unwrap(), requestor.unwrap())
}

fn a_report() -> Command {
    Command::NEventReport(NEventReport {
        message_id: 9,
        sop_class_uid: uid(COMMITMENT),
        sop_instance_uid: uid("1.2.840.10008.1.20.1.1"),
        event_type: 1,
    })
}

/// Neither side reads while it sends an object: whoever insisted on writing first would wait for ever.
#[tokio::test(start_paused = true)]
async fn a_report_and_an_object_cross_and_both_are_answered() {
    for size in [100, 4096, 1 << 22] {
        let (mut acceptor, mut requestor) = associated(size).await;
        let object: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let information = vec![7; 1_000_000];
        let modality = tokio::spawn({
            let (object, information) = (object.clone(), information.clone());
            async move {
                // As a single-threaded modality does it: send, then read.
                requestor.post(1, &a_store(4), &object).unwrap();
                let (mut stored, mut told, mut report) = (false, Vec::new(), None);
                while !stored || report.is_some() || told.is_empty() {
                    match requestor.next().await.unwrap() {
                        Indication::Response { response, .. } => {
                            assert_eq!((response.message_id, response.status), (4, Status::SUCCESS));
                            stored = true;
                        }
                        Indication::Command { command, .. } => report = Some(command),
                        Indication::Data(data) => told.extend_from_slice(&data),
                        Indication::DataEnd => {
                            let answer = Response::to(&report.take().unwrap(), Status::SUCCESS);
                            requestor.respond(3, &answer).await.unwrap();
                        }
                        Indication::Released => panic!("nobody released"),
                    }
                }
                assert!(told == information);
                requestor.release().await.unwrap();
            }
        });
        acceptor.post(3, &a_report(), &information).unwrap();
        let (mut command, mut arrived, mut answered) = (None, Vec::new(), false);
        loop {
            match acceptor.next().await.unwrap() {
                Indication::Command { command: store, .. } => command = Some(store),
                Indication::Data(data) => arrived.extend_from_slice(&data),
                Indication::DataEnd => {
                    let answer = Response::to(&command.take().unwrap(), Status::SUCCESS);
                    acceptor.respond(1, &answer).await.unwrap();
                }
                Indication::Response { response, context } => {
                    assert_eq!((context, response.name(), response.message_id), (3, "N-EVENT-REPORT", 9));
                    answered = true;
                }
                Indication::Released => break,
            }
        }
        assert!(answered && arrived == object);
        modality.await.unwrap();
    }
}

/// A query has an answer for each match; it can be cancelled, and is over with the one that is not pending.
#[tokio::test(start_paused = true)]
async fn a_query_is_answered_match_by_match_until_its_end() {
    let (mut acceptor, mut requestor) = associated(1 << 20).await;
    let find = Command::CFind(CFind {
        message_id: 3,
        sop_class_uid: uid("1.2.840.10008.5.1.4.1.2.2.1"),
        priority: Priority::Routine,
    });
    requestor.post(3, &find, b"question").unwrap();
    let archive = tokio::spawn(async move {
        let Ok(Indication::Command { command, .. }) = acceptor.next().await else { panic!() };
        assert_eq!(acceptor.next().await.unwrap(), Indication::Data(Bytes::from_static(b"question")));
        assert_eq!(acceptor.next().await.unwrap(), Indication::DataEnd);
        for status in [0xFF00, 0xFF01] {
            acceptor.respond(3, &Response::to(&command, Status(status))).await.unwrap();
            acceptor.send_data(3, b"match", true).await.unwrap();
        }
        let cancel = Indication::Command { context: 3, command: Command::CCancel { message_id: 3 } };
        assert_eq!(acceptor.next().await.unwrap(), cancel);
        acceptor.respond(3, &Response::to(&command, Status(0xFE00))).await.unwrap();
        acceptor
    });
    for status in [0xFF00, 0xFF01] {
        let Ok(Indication::Response { response, .. }) = requestor.next().await else { panic!() };
        assert_eq!(response.status.0, status);
        assert_eq!(requestor.next().await.unwrap(), Indication::Data(Bytes::from_static(b"match")));
        assert_eq!(requestor.next().await.unwrap(), Indication::DataEnd);
    }
    assert!(requestor.post(3, &find, b"another").is_err(), "the first one is not over");
    requestor.send_command(3, &Command::CCancel { message_id: 3 }).await.unwrap();
    let Ok(Indication::Response { response, .. }) = requestor.next().await else { panic!() };
    assert_eq!(response.status.0, 0xFE00);
    let mut acceptor = archive.await.unwrap();
    acceptor.respond(3, &Response::to(&find, Status::SUCCESS)).await.unwrap();
    let unasked = requestor.next().await;
    assert!(matches!(unasked, Err(AssociationError::Violation(Violation::UnaskedResponse))), "{unasked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_neither_reads_nor_writes_while_something_is_posted_is_cut_off() {
    let (mut acceptor, requestor) = associated(1000).await;
    acceptor.post(3, &a_report(), &[0; 10_000]).unwrap();
    assert!(matches!(acceptor.next().await, Err(AssociationError::WriteStalled(_))));
    drop(requestor);
}

#[tokio::test(start_paused = true)]
async fn a_second_report_waits_for_the_answer_to_the_first() {
    let (mut acceptor, _requestor) = associated(1 << 20).await;
    acceptor.post(3, &a_report(), &[0; 10]).unwrap();
    assert!(matches!(acceptor.post(3, &a_report(), &[0; 10]), Err(AssociationError::OutOfTurn(_))));
    assert!(matches!(acceptor.post(5, &a_report(), &[0; 10]), Err(AssociationError::OutOfTurn(_))));
}
