//! One association with a modality, from its request to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info, warn};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::Reception;
use super::admission::{self, Refusal};
use super::slots::Guest;
use super::store::{Sender, Store};
use crate::association::transport::{self, Stream};
use crate::association::{Abort, AcceptError, Association, AssociationError, Indication};
use crate::clock;
use crate::dimse::{Command, Response, Status};
use crate::metrics::Rejection;

/// A connection that has just arrived.
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    pub(super) arrived: Instant,
    /// Its place in the lobby, until the association is accepted or refused.
    pub(super) guest: Guest,
}

/// What the association is in the middle of.
enum Stage {
    /// Waiting for a command.
    Idle,
    /// Receiving a data set that is kept if all goes well.
    Storing { context: u8, store: Box<Store> },
}

/// Negotiates the association and serves it to its end. Everything worth knowing is logged here, once.
pub(super) async fn run(stream: impl Stream + 'static, caller: Caller, reception: &Arc<Reception>) {
    let Caller { peer, arrived, guest } = caller;
    let mut verdict = Ok(());
    let mut slot = None;
    let accepted = transport::accept(stream, &reception.settings, arrived, |request| {
        verdict = admission::admit(&reception.admission, &reception.aet, request, peer.ip()).and_then(|()| {
            admission::identify(&reception.settings, request)?;
            slot = Some(reception.slots.take(peer.ip())?);
            if reception.spool.has_room() { Ok(()) } else { Err(Refusal::NoRoom) }
        });
        admission::decision(&verdict, request)
    });
    let accepted = tokio::select! {
        biased;
        accepted = accepted => accepted,
        () = guest.displaced() => return displaced(peer, reception),
        // Nothing has been promised to a peer that is still negotiating.
        () = reception.shutdown.cancelled() => return,
    };
    drop(guest);
    let association = match accepted {
        Ok(association) => association,
        Err(error) => {
            refused(&error, verdict.err(), peer, reception);
            return;
        }
    };
    let (runtime, shared) = (Handle::current(), Arc::clone(reception));
    // The slot is held to the end of the association.
    let attended = on_a_thread(move || (runtime.block_on(attend(association, peer, &shared)), slot)).await;
    if let Err(error) = attended {
        reception.metrics.association_aborted();
        warn!(peer:%; "the association cannot be served and was aborted: {error}");
    }
}

/// Does something on a thread of its own. A session hashes, compresses and waits for the disk: there it holds up nobody
/// else, and hands nothing from thread to thread. The limit on associations bounds the threads.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, ended) = oneshot::channel();
    let work = move || drop(done.send(work()));
    std::thread::Builder::new().name("session".to_owned()).spawn(work)?;
    ended.await.map_err(|_| io::Error::other("its thread has ended early"))
}

/// Serves an association to its end.
async fn attend(mut association: Association, peer: SocketAddr, reception: &Reception) {
    reception.metrics.association_accepted();
    let calling = association.request().calling_ae.clone();
    let contexts = association.accepted_contexts().len();
    info!(peer:%, calling:%, contexts; "association accepted");

    let mut tally = Tally::default();
    match serve(&mut association, peer, reception, &mut tally).await {
        Ok(Ending::Released) => {
            info!(peer:%, calling:%, stored = tally.stored, refused = tally.refused, bytes = tally.bytes; "association released");
        }
        Ok(Ending::Shutdown) => {
            association.abort(Abort::BY_USER).await;
            info!(peer:%, calling:%, stored = tally.stored; "association ended at an instance boundary: the gateway stops");
        }
        Err(error) => {
            reception.metrics.association_aborted();
            warn!(
                peer:%, calling:%, stored = tally.stored, refused = tally.refused, bytes = tally.bytes;
                "association ended early: {error}; what was acknowledged is kept"
            );
        }
    }
}

/// The connection had to make way for another before it came to an association. Not worth a line: whoever opens that
/// many connections would write the log.
pub(super) fn displaced(peer: SocketAddr, reception: &Reception) {
    reception.metrics.association_rejected(Rejection::Congestion);
    debug!(peer:%; "closed a connection that asked for nothing, to make way for another");
}

fn refused(error: &AcceptError, refusal: Option<Refusal>, peer: SocketAddr, reception: &Reception) {
    match (error, refusal) {
        (AcceptError::Rejected { calling, called, .. }, Some(refusal)) => {
            reception.metrics.association_rejected(refusal.kind());
            warn!(peer:%, calling:?, called:?; "association refused: {refusal}");
        }
        // A connection that closes without a byte is how a port check looks; it deserves no line in the log.
        (AcceptError::Closed { received_anything: false }, _) => {}
        _ => {
            let kind = if matches!(error, AcceptError::TimedOut(_)) { Rejection::Timeout } else { Rejection::Protocol };
            reception.metrics.association_rejected(kind);
            warn!(peer:%; "no association: {error}");
        }
    }
}

/// What one association brought.
#[derive(Default)]
struct Tally {
    stored: u64,
    refused: u64,
    bytes: u64,
}

enum Ending {
    Released,
    Shutdown,
}

async fn serve(
    association: &mut Association,
    peer: SocketAddr,
    reception: &Reception,
    tally: &mut Tally,
) -> Result<Ending, AssociationError> {
    let mut stage = Stage::Idle;
    loop {
        let indication = match stage {
            Stage::Idle => tokio::select! {
                biased;
                () = reception.shutdown.cancelled() => return Ok(Ending::Shutdown),
                indication = association.next() => indication?,
            },
            Stage::Storing { .. } => association.next().await?,
        };
        stage = match (stage, indication) {
            (Stage::Idle, Indication::Command { context, command }) => {
                begin(association, context, command, peer, reception).await?
            }
            (Stage::Storing { context, mut store }, Indication::Data(bytes)) => {
                store.write(&bytes);
                Stage::Storing { context, store }
            }
            (Stage::Storing { context, store }, Indication::DataEnd) => {
                let length = store.length();
                let whole = clock::now();
                let response = store.finish(reception).await;
                if response.status == Status::SUCCESS {
                    tally.stored += 1;
                    tally.bytes += length;
                } else {
                    tally.refused += 1;
                }
                association.respond(context, &response).await?;
                let elapsed = clock::now().saturating_duration_since(whole);
                reception.metrics.instance_received(response.status.0, length, elapsed);
                Stage::Idle
            }
            (_, Indication::Released) => return Ok(Ending::Released),
            // The layer below lets nothing else through: it aborts what is out of turn.
            (stage, _) => stage,
        };
    }
}

async fn begin(
    association: &mut Association,
    context: u8,
    command: Command,
    peer: SocketAddr,
    reception: &Reception,
) -> Result<Stage, AssociationError> {
    if let Command::CStore(request) = command {
        let sender = Sender {
            calling: association.request().calling_ae.clone(),
            called: association.request().called_ae.clone(),
            address: peer.ip(),
        };
        let Some(transfer_syntax) = association.context(context).map(|context| context.transfer_syntax.clone()) else {
            return Err(AssociationError::OutOfTurn("a C-STORE on a presentation context that was not accepted"));
        };
        let store = Box::new(Store::begin(request, transfer_syntax, sender, &reception.spool));
        return Ok(Stage::Storing { context, store });
    }
    let answer = match &command {
        Command::CEcho(_) => Some(Response::to(&command, Status::SUCCESS)),
        Command::CCancel { .. } => None,
        _ => command.refusal(),
    };
    if let Some(answer) = &answer
        && answer.status != Status::SUCCESS
    {
        warn!(peer:%, command = command.name(); "refused with status {}", answer.status);
    }
    if let Some(answer) = answer {
        association.respond(context, &answer).await?;
    }
    Ok(Stage::Idle)
}
