//! Peers that close their sending side as soon as they have said what they had to say, and still want the answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::association::AssociationError;
use crate::association::transport::accept;
use crate::dimse::{Response, Status};

/// Serves one association until it ends, and tells how it ended.
async fn serve(stream: DuplexStream) -> Option<AssociationError> {
    let connected = crate::clock::of_runtime();
    let mut association = accept(stream, &AcceptorSettings::default(), connected, accept_all).await.ok()?;
    let mut storing = None;
    loop {
        match association.next().await {
            Ok(Indication::Command { context, command: command @ Command::CStore(_) }) => {
                storing = Some((context, command));
            }
            Ok(Indication::Command { context, command }) => {
                association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
            }
            Ok(Indication::DataEnd) => {
                let (context, command) = storing.take().unwrap();
                association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
            }
            Ok(Indication::Data(_) | Indication::Response { .. }) => {}
            Ok(Indication::Released) => return None,
            Err(error) => return Some(error),
        }
    }
}

/// Sends this, closes the sending side, and reads all there is until the other side closes.
async fn says(bytes: &[u8]) -> (Vec<u8>, Option<AssociationError>) {
    let (ours, mut theirs) = duplex(1 << 20);
    let server = tokio::spawn(serve(ours));
    theirs.write_all(bytes).await.unwrap();
    theirs.shutdown().await.unwrap();
    let mut answers = Vec::new();
    theirs.read_to_end(&mut answers).await.unwrap();
    (answers, server.await.unwrap())
}

fn kinds(mut answers: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some(([kind, _, l0, l1, l2, l3], rest)) = answers.split_first_chunk() {
        kinds.push(*kind);
        answers = &rest[usize::try_from(u32::from_be_bytes([*l0, *l1, *l2, *l3])).unwrap()..];
    }
    kinds
}

#[tokio::test(start_paused = true)]
async fn whoever_closes_its_side_after_its_last_word_gets_every_answer() {
    let request = Request::default().bytes();
    let echo = pdu(4, &pdv(1, COMMAND | LAST, &an_echo(1).encode()));
    let store = pdu(4, &[pdv(3, COMMAND | LAST, &a_store(2).encode()), pdv(3, LAST, b"data")].concat());
    let release = pdu(5, &[0; 4]);
    for (said, expected, released) in [
        (request.clone(), &[2][..], false),
        ([request.clone(), echo.clone()].concat(), &[2, 4], false),
        ([request.clone(), echo, store.clone()].concat(), &[2, 4, 4], false),
        ([request.clone(), store, release.clone()].concat(), &[2, 4, 6], true),
        ([request.clone(), release].concat(), &[2, 6], true),
        ([request.clone(), request].concat(), &[2, 7], false),
        (b"GET / HTTP/1.0\r\n\r\n".to_vec(), &[7], false),
    ] {
        let (answers, error) = says(&said).await;
        assert_eq!(kinds(&answers), expected);
        assert_eq!(error.is_none(), released || answers[0] == 7, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_closes_its_side_within_its_words_gets_no_answer_to_them() {
    let request = Request::default().bytes();
    let (answers, _) = says(&request[..request.len() - 1]).await;
    assert_eq!(kinds(&answers), [0; 0]);
    let store = pdu(4, &[pdv(3, COMMAND | LAST, &a_store(2).encode()), pdv(3, 0, b"half of the data")].concat());
    let (answers, error) = says(&[request, store].concat()).await;
    assert_eq!(kinds(&answers), [2]);
    assert!(matches!(error, Some(AssociationError::Closed)), "{error:?}");
}
