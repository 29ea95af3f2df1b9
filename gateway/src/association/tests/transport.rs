//! The transport over pipes, with the runtime's clock paused: a wait takes no time, and takes as long as it should.

use std::cell::RefCell;
use std::future::{Future, pending};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::association::transport::{accept, accept_within, connect, echo};
use crate::association::{
    Abort, AcceptError, Association, AssociationError, ConnectError, EchoError, Rejection, Sent, Timeouts,
};
use crate::clock::of_runtime;
use crate::dimse::{Response, Status};

fn connected() -> std::time::Instant {
    of_runtime()
}

async fn accepted(stream: DuplexStream) -> Result<Association, AcceptError> {
    accept(stream, &AcceptorSettings::default(), connected(), accept_all).await
}

/// Both ends of an association over a pipe of this size.
async fn associated(size: usize) -> (Association, Association) {
    let (ours, theirs) = duplex(size);
    let settings = requestor_settings();
    let (acceptor, requestor) = tokio::join!(accepted(ours), connect(theirs, &settings));
    (acceptor.unwrap(), requestor.unwrap())
}

/// Answers every C-ECHO and every C-STORE, and returns the data of the objects; until released.
async fn serve(mut association: Association, status: Status) -> Vec<Vec<u8>> {
    let mut objects = Vec::new();
    let mut current = None;
    loop {
        match association.next().await.unwrap() {
            Indication::Command { context, command: command @ Command::CEcho(_) } => {
                association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
            }
            Indication::Command { context, command } => current = Some((context, command, Vec::new())),
            Indication::Data(data) => current.as_mut().unwrap().2.extend_from_slice(&data),
            Indication::DataEnd => {
                let (context, command, object) = current.take().unwrap();
                association.respond(context, &Response::to(&command, status)).await.unwrap();
                objects.push(object);
            }
            Indication::Response { .. } => panic!("nobody asked"),
            Indication::Released => return objects,
        }
    }
}

/// Starts what answers as a peer would.
fn in_background<F: Future<Output: Send> + Send + 'static>(work: F) -> tokio::task::JoinHandle<F::Output> {
    tokio::spawn(work)
}

#[tokio::test(start_paused = true)]
async fn objects_arrive_whole_through_pipes_of_any_width() {
    for size in [7, 1000, 1 << 20] {
        let (acceptor, mut requestor) = associated(size).await;
        let server = in_background(serve(acceptor, Status::SUCCESS));
        let object: Vec<u8> = (0..80_000_u32).flat_map(u32::to_le_bytes).collect();
        for message_id in 1..=3 {
            requestor.send_command(3, &a_store(message_id)).await.unwrap();
            for piece in object.chunks(50_001) {
                assert_eq!(requestor.send_data(3, piece, false).await.unwrap(), Sent::Onward);
            }
            requestor.send_data(3, &[], true).await.unwrap();
            let response = requestor.response(60 * SECOND).await.unwrap();
            assert_eq!((response.status, response.message_id), (Status::SUCCESS, message_id));
        }
        requestor.release().await.unwrap();
        assert!(server.await.unwrap() == vec![object; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_echo_is_answered() {
    let (ours, theirs) = duplex(4096);
    let server = in_background(async { serve(accepted(ours).await.unwrap(), Status::SUCCESS).await });
    echo(theirs, &requestor_settings()).await.unwrap();
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_echo_that_is_not_supported_says_so() {
    let (ours, theirs) = duplex(4096);
    in_background(async {
        let nothing = |_: &AssociateRequest| Decision::Accept(Vec::new());
        let _ = accept(ours, &AcceptorSettings::default(), connected(), nothing).await.unwrap().next().await;
    });
    assert!(matches!(echo(theirs, &requestor_settings()).await, Err(EchoError::NotSupported)));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_told_on_both_sides() {
    let (ours, theirs) = duplex(4096);
    let settings = requestor_settings();
    let reject = |_: &AssociateRequest| Decision::Reject(Rejection::CALLING_AE_NOT_RECOGNIZED);
    let acceptor_settings = AcceptorSettings::default();
    let (acceptor, requestor) =
        tokio::join!(accept(ours, &acceptor_settings, connected(), reject), connect(theirs, &settings));
    assert!(matches!(acceptor, Err(AcceptError::Rejected { .. })));
    let Err(error @ ConnectError::Rejected { .. }) = requestor else { panic!() };
    assert_eq!(
        error.to_string(),
        "WAYSTATION rejected the association that CT1 requested, for good: calling AE title not recognised: add our \
         calling AE title at the peer, or set `aet` to one that it knows"
    );
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_closed_after_artim() {
    let (ours, mut theirs) = duplex(4096);
    let began = of_runtime();
    let error = accepted(ours).await.err().unwrap();
    assert!(matches!(error, AcceptError::TimedOut(_)));
    assert!((30 * SECOND..31 * SECOND).contains(&(of_runtime() - began)));
    assert_eq!(theirs.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_close_after_our_abort_is_left_after_linger() {
    let (ours, mut theirs) = duplex(4096);
    theirs.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let began = of_runtime();
    let error = accepted(ours).await.err().unwrap();
    assert!(matches!(error, AcceptError::Violation(Violation::OtherProtocol("HTTP"))));
    assert!((2 * SECOND..3 * SECOND).contains(&(of_runtime() - began)), "half-closed, and waited for");
    let mut said = Vec::new();
    theirs.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, [7, 0, 0, 0, 0, 4, 0, 0, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_answers_is_given_up() {
    let (ours, theirs) = duplex(1 << 20);
    let error = connect(theirs, &requestor_settings()).await.err().unwrap();
    assert!(matches!(error, ConnectError::TimedOut(_)));
    drop(ours);
    let (ours, theirs) = duplex(1 << 20);
    drop(ours);
    assert!(matches!(connect(theirs, &requestor_settings()).await, Err(ConnectError::Closed | ConnectError::Io(_))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_waited_for_beyond_the_callers_patience() {
    let (_silent, mut requestor) = associated(4096).await;
    requestor.send_command(1, &an_echo(1)).await.unwrap();
    let asked = of_runtime();
    let error = requestor.response(5 * SECOND).await.unwrap_err();
    assert!(matches!(error, AssociationError::NoResponse(patience) if patience == 5 * SECOND));
    assert!((5 * SECOND..8 * SECOND).contains(&(of_runtime() - asked)));
    assert!(matches!(requestor.send_command(1, &an_echo(2)).await, Err(AssociationError::Over)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_data_is_left_after_the_write_time_out() {
    let (_stuck, mut requestor) = associated(4096).await;
    requestor.send_command(3, &a_store(1)).await.unwrap();
    let began = of_runtime();
    let error = requestor.send_data(3, &[0; 1 << 20], false).await.unwrap_err();
    assert!(matches!(error, AssociationError::WriteStalled(_)), "{error}");
    assert!((60 * SECOND..62 * SECOND).contains(&(of_runtime() - began)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_a_little_now_and_then_is_not_left() {
    let (mut slow, mut requestor) = associated(4096).await;
    requestor.send_command(3, &a_store(1)).await.unwrap();
    let began = of_runtime();
    let taking = async {
        // Each time that something is taken the pipe has room for as much.
        loop {
            tokio::time::sleep(50 * SECOND).await;
            if matches!(slow.next().await.unwrap(), Indication::DataEnd) {
                return;
            }
        }
    };
    let (sent, ()) = tokio::join!(requestor.send_data(3, &[0; 64 << 10], true), taking);
    assert_eq!(sent.unwrap(), Sent::Onward);
    assert!(of_runtime() - began > 120 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_abort_while_data_are_sent_is_seen_at_once() {
    let (acceptor, mut requestor) = associated(4096).await;
    requestor.send_command(3, &a_store(1)).await.unwrap();
    let began = of_runtime();
    let (_, sent) = tokio::join!(acceptor.abort(Abort::BY_USER), requestor.send_data(3, &[0; 1 << 20], false));
    assert!(matches!(sent, Err(AssociationError::Aborted(Abort::BY_USER))), "{sent:?}");
    assert!(of_runtime() - began < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_before_the_end_of_the_data_is_told_and_kept() {
    let (mut acceptor, mut requestor) = associated(1 << 20).await;
    requestor.send_command(3, &a_store(1)).await.unwrap();
    let Indication::Command { context, command } = acceptor.next().await.unwrap() else { panic!() };
    acceptor.respond(context, &Response::to(&command, Status::OUT_OF_RESOURCES)).await.unwrap();
    assert_eq!(requestor.send_data(3, &[0; 10], false).await.unwrap(), Sent::AnsweredEarly);
    assert_eq!(requestor.send_data(3, &[], true).await.unwrap(), Sent::AnsweredEarly);
    assert_eq!(requestor.response(SECOND).await.unwrap().status, Status::OUT_OF_RESOURCES);
    assert_eq!(acceptor.next().await.unwrap(), Indication::Data(vec![0; 10].into()));
    assert_eq!(acceptor.next().await.unwrap(), Indication::DataEnd);
    requestor.send_command(1, &an_echo(2)).await.unwrap();
    assert!(matches!(acceptor.next().await.unwrap(), Indication::Command { context: 1, .. }));
}

#[tokio::test(start_paused = true)]
async fn an_association_dropped_in_the_middle_of_an_object_never_completes_it() {
    for size in [1000, 1 << 20] {
        let (mut acceptor, mut requestor) = associated(size).await;
        let sender = in_background(async move {
            requestor.send_command(3, &a_store(1)).await.unwrap();
            for _ in 0..5 {
                let _ = tokio::time::timeout(SECOND, requestor.send_data(3, &[0; 100_000], false)).await;
            }
        });
        let end = loop {
            match acceptor.next().await {
                Ok(Indication::DataEnd | Indication::Released) => panic!("it looks complete"),
                Ok(_) => tokio::time::sleep(SECOND / 10).await,
                Err(error) => break error,
            }
        };
        assert!(matches!(end, AssociationError::Aborted(_) | AssociationError::Closed), "{end}");
        sender.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_was_dropped_half_way_makes_the_association_useless() {
    let (mut acceptor, mut requestor) = associated(4096).await;
    requestor.send_command(3, &a_store(1)).await.unwrap();
    assert!(tokio::time::timeout(SECOND, requestor.send_data(3, &[0; 1 << 20], false)).await.is_err());
    let reader = in_background(async move {
        loop {
            match acceptor.next().await {
                Ok(Indication::DataEnd) => panic!("it looks complete"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    });
    let error = requestor.send_data(3, &[], true).await.unwrap_err();
    assert!(matches!(error, AssociationError::Interrupted));
    assert!(matches!(reader.await.unwrap(), AssociationError::Aborted(Abort::BY_USER)));
}

#[tokio::test(start_paused = true)]
async fn next_can_be_dropped_and_called_again() {
    let (mut acceptor, mut requestor) = associated(64).await;
    let sender = in_background(async move {
        requestor.send_command(3, &a_store(1)).await.unwrap();
        requestor.send_data(3, &[1; 5000], true).await.unwrap();
        requestor
    });
    let mut received = 0;
    loop {
        match tokio::time::timeout(Duration::ZERO, acceptor.next()).await {
            Err(_) => tokio::task::yield_now().await,
            Ok(Ok(Indication::Data(data))) => received += data.len(),
            Ok(Ok(Indication::DataEnd)) => break,
            Ok(indication) => assert!(matches!(indication, Ok(Indication::Command { .. }))),
        }
    }
    assert_eq!(received, 5000);
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_while_an_indication_is_unconsumed() {
    let (ours, mut theirs) = duplex(1 << 22);
    theirs.write_all(&Request::default().bytes()).await.unwrap();
    let mut acceptor = accepted(ours).await.unwrap();
    theirs.write_all(&pdu(4, &pdv(3, COMMAND | LAST, &a_store(1).encode()))).await.unwrap();
    for _ in 0..20 {
        theirs.write_all(&pdu(4, &pdv(3, 0, &[0; 100_000]))).await.unwrap();
    }
    let indication = acceptor.next().await.unwrap();
    assert!(matches!(indication, Indication::Command { .. }));
    // The pipe holds 4 MiB; had more than a PDU been read, this much more would have room at once.
    let more = vec![0; (1 << 22) - 20 * 100_012 + 200_000];
    assert!(tokio::time::timeout(SECOND, theirs.write_all(&more)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_idle_association_is_ended() {
    let (ours, theirs) = duplex(4096);
    let settings = AcceptorSettings {
        timeouts: Timeouts { idle: 5 * SECOND, ..Timeouts::default() },
        ..AcceptorSettings::default()
    };
    let requestor_settings = requestor_settings();
    let (acceptor, requestor) =
        tokio::join!(accept(ours, &settings, connected(), accept_all), connect(theirs, &requestor_settings));
    let error = acceptor.unwrap().next().await.unwrap_err();
    assert!(matches!(error, AssociationError::Idle(_)));
    assert!(matches!(requestor.unwrap().next().await, Err(AssociationError::Aborted(Abort::NOT_SPECIFIED))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_releases_instead_of_answering_is_told() {
    let (acceptor, mut requestor) = associated(4096).await;
    requestor.send_command(1, &an_echo(1)).await.unwrap();
    let (released, response) = tokio::join!(acceptor.release(), requestor.response(SECOND));
    released.unwrap();
    assert!(matches!(response, Err(AssociationError::Released)));
}

/// A task can own an association and all its calls.
#[test]
fn associations_and_their_futures_are_send() {
    fn assert_send<T: Send>(_: &T) {}
    let (ours, theirs) = duplex(1);
    let future = accepted(ours);
    assert_send(&future);
    assert!(size_of_val(&future) < 4096, "hundreds of idle connections: {}", size_of_val(&future));
    assert_send(&in_one_task(theirs));
    async fn in_one_task(stream: DuplexStream) {
        let settings = requestor_settings();
        let mut association = connect(stream, &settings).await.unwrap();
        let _ = association.next().await;
        let _ = association.send_data(1, &[], true).await;
        let _ = association.response(SECOND).await;
        association.release().await.unwrap();
    }
}

/// What may be held is asked for piece by piece, and a wide request does not outlive its decision.
#[tokio::test(start_paused = true)]
async fn room_for_a_request_is_asked_for_before_it_is_read_and_given_back_when_it_is_decided() {
    let request = Request::widest().bytes();
    let asked = RefCell::new(Vec::new());
    let room = |bytes| {
        asked.borrow_mut().push(bytes);
        tokio::task::yield_now()
    };
    let (ours, mut theirs) = duplex(request.len());
    theirs.write_all(&request).await.unwrap();
    let accepted = accept_within(ours, &AcceptorSettings::default(), connected(), room, accept_all).await;
    let asked = asked.into_inner();
    let Some((0, asked)) = asked.split_last() else { panic!("nothing is held in the end: {asked:?}") };
    assert!(asked.is_sorted() && asked[0] < 10_000, "{asked:?}");
    assert_eq!(asked.last(), Some(&request.len()));
    let mut association = accepted.unwrap();
    assert_eq!(association.request().contexts.len(), 128);
    association.forget_proposals();
    assert!(association.request().contexts.is_empty());
    assert_eq!(association.accepted_contexts().len(), 128);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_without_room_and_artim_goes_on() {
    const LIMIT: usize = 32 * 1024;
    let request = Request::widest().bytes();
    let (ours, mut theirs) = duplex(100);
    let room = async |bytes| {
        if bytes > LIMIT {
            pending().await
        }
    };
    let settings = AcceptorSettings::default();
    let began = of_runtime();
    let accepting = async {
        let ended = accept_within(ours, &settings, connected(), room, accept_all).await;
        assert!(matches!(ended, Err(AcceptError::TimedOut(_))));
    };
    let sending = async {
        let mut sent = 0;
        while let Ok(length) = theirs.write(&request[sent..]).await {
            sent += length;
        }
        sent
    };
    let ((), sent) = tokio::join!(accepting, sending);
    assert!((LIMIT / 2..=LIMIT + 100).contains(&sent), "{sent}");
    assert!(of_runtime() - began >= settings.timeouts.association);
}

/// A request that is refused goes at once, however long the peer takes to close.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_refused_request_is_held_while_the_peer_takes_its_time_to_go() {
    let settings = AcceptorSettings::default();
    let refuse = |_: &AssociateRequest| Decision::Reject(Rejection::LOCAL_LIMIT_EXCEEDED);
    for request in [Request::widest(), Request { version: 2, ..Request::widest() }] {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&request.bytes()).await.unwrap();
        let given_back = RefCell::new(None);
        let room = async |bytes| {
            given_back.replace((bytes == 0).then(of_runtime));
        };
        let began = of_runtime();
        let ended = accept_within(ours, &settings, connected(), room, refuse).await;
        assert!(matches!(ended, Err(AcceptError::Rejected { .. })));
        assert_eq!(given_back.into_inner(), Some(began));
        assert!(of_runtime() - began >= settings.timeouts.linger);
    }
}
