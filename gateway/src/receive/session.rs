//! One association with a modality, from its request to its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use log::{debug, info, warn};
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use super::Reception;
use super::admission::{self, Pass, Refusal, Why};
use super::commitment::{Action, Party, Reporting};
use super::door::{Outcome, Request, of_release};
use super::movable::Move;
use super::reports;
use super::slots::Guest;
use super::standing::Standing;
use super::store::{Sender, Store};
use super::visitor::{Brought, Visitor};
use crate::association::transport::{self, Stream};
use crate::association::{Abort, AcceptError, AssociateRequest, Association, AssociationError, Indication, Violation};
use crate::clock;
use crate::config::Candidate;
use crate::dimse::{Command, Response, Status};
use crate::metrics::Rejection;
use crate::model::AeTitle;
use crate::tls;

/// A connection that has just arrived.
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    pub(super) arrived: Instant,
    /// What TLS says of it; `None` on a connection in the clear.
    pub(super) secured: Option<tls::Peer>,
    /// Its place in the lobby, until the association is accepted or refused.
    pub(super) guest: Guest,
    /// Brings the connection to the thread of the association.
    pub(super) relocation: Move,
}

/// What the association is in the middle of.
enum Stage {
    /// Waiting for a command.
    Idle,
    /// Receiving a data set that is kept if all goes well.
    Storing { context: u8, store: Box<Store> },
    /// Receiving a request for storage commitment.
    Acting { context: u8, action: Box<Action> },
}

/// Negotiates the association and serves it to its end. Everything worth knowing is logged here, once.
pub(super) async fn run(stream: impl Stream + 'static, caller: Caller, reception: &Arc<Reception>) {
    let Caller { peer, arrived, guest, secured, relocation } = caller;
    let mut verdict = None;
    let subject = secured.as_ref().and_then(|secured| secured.subject.clone());
    let visitor = Visitor::new(peer.ip(), secured.is_some(), subject);
    let mut asked = None;
    let room = |bytes| guest.hold(bytes);
    let accepted = transport::accept_within(stream, &reception.settings, arrived, room, |request| {
        asked = Some((request.calling_ae.clone(), Request::of(request)));
        let decided = pass(request, peer.ip(), secured.as_ref(), reception);
        let decision = admission::decision(&decided, request);
        verdict = Some(decided);
        decision
    });
    let accepted = tokio::select! {
        biased;
        accepted = accepted => accepted,
        () = guest.displaced() => return displaced(peer, reception),
        // Nothing has been promised to a peer that is still negotiating.
        () = reception.shutdown.cancelled() => return,
    };
    drop(guest);
    let (association, pass) = match (accepted, verdict) {
        (Ok(association), Some(Ok(pass))) => (association, pass),
        (Ok(_), _) => return,
        (Err(error), verdict) => {
            refused(&error, verdict.and_then(Result::err), asked, &visitor, peer, reception);
            return;
        }
    };
    let (shared, shared_runtime) = (Arc::clone(reception), Handle::current());
    // The pass, and with it the slot, is held to the end of the association.
    let serving = move || {
        let attending = attend(association, peer, &visitor, secured, &pass, &shared);
        match runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(own) => {
                relocation.ask();
                own.block_on(attending);
            }
            // There are no file descriptors for it: it goes on where it began.
            Err(_) => shared_runtime.block_on(attending),
        }
        pass
    };
    let attended = on_a_thread(serving).await;
    if let Err(error) = attended {
        reception.metrics.association_aborted();
        warn!(peer:%; "the association cannot be served and was aborted: {error}");
    }
}

/// Decides about a request for an association.
fn pass(
    request: &AssociateRequest,
    address: IpAddr,
    secured: Option<&tls::Peer>,
    reception: &Reception,
) -> Result<Pass, Box<Refusal>> {
    let candidate = Candidate {
        calling: &request.calling_ae,
        called: &request.called_ae,
        address,
        tls: secured.is_some(),
        subject: secured.and_then(|secured| secured.subject.as_deref()),
    };
    if let Some(pass) = reports::pass(request, &candidate, reception)? {
        return Ok(pass);
    }
    let modality = admission::admit(&reception.admission(), &reception.aet, &candidate)?;
    let refuse = |why| Refusal::new(why, &candidate, &reception.aet, modality.as_ref());
    admission::identify(&reception.settings, request).map_err(refuse)?;
    let slot = reception.slots.take(address, modality.as_deref()).map_err(|full| refuse(Why::Full(full)))?;
    if !reception.spool.has_room() {
        return Err(refuse(Why::NoRoom));
    }
    let limited = modality.as_ref().and_then(|modality| modality.max_rate.map(|rate| (&modality.name, rate)));
    let throttle = limited.map(|(name, rate)| reception.throttles.of(name, rate));
    Ok(Pass { modality, inquiries: Vec::new(), throttle, _slot: slot })
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
async fn attend(
    mut association: Association,
    peer: SocketAddr,
    visitor: &Visitor,
    secured: Option<tls::Peer>,
    pass: &Pass,
    reception: &Reception,
) {
    reception.metrics.association_accepted();
    let calling = association.request().calling_ae.clone();
    let request = Request::answered(&association);
    association.forget_proposals();
    let contexts = request.contexts_accepted;
    match &secured {
        None => info!(peer:%, calling:%, contexts; "association accepted"),
        Some(tls) => {
            let subject = tls.subject.as_deref().unwrap_or("none");
            info!(peer:%, calling:%, contexts, tls:%, subject; "association accepted");
        }
    }

    let mut brought = Brought::default();
    let ended = tokio::select! {
        biased;
        () = reception.abandoned.cancelled() => Ok(Ending::Abandoned),
        ended = serve(&mut association, (peer, secured.as_ref()), pass, reception, &mut brought) => ended,
    };
    let tally = &brought.tally;
    let (stored, refused, bytes) = (tally.stored, tally.refused, tally.bytes);
    let (outcome, problem, sentence) = match ended {
        Ok(Ending::Released) => {
            info!(peer:%, calling:%, stored, refused, bytes; "association released");
            let (problem, sentence) = of_release(&request, tally);
            (Outcome::Released, problem, sentence)
        }
        Ok(Ending::Shutdown) => {
            association.abort(Abort::BY_USER).await;
            info!(peer:%, calling:%, stored; "association ended at an instance boundary: the gateway stops");
            (Outcome::EndedEarly, false, "it was ended between two instances, because the gateway stopped".to_owned())
        }
        Ok(Ending::Dismissed(why)) => {
            association.abort(Abort::BY_USER).await;
            reception.metrics.association_aborted();
            warn!(
                peer:%, calling:%, stored, refused, bytes;
                "association ended at an instance boundary, because it would not be admitted any more: {why}; what was \
                 acknowledged is kept"
            );
            let sentence =
                format!("it was ended between two instances, because it would not be admitted any more: {why}");
            (Outcome::EndedEarly, true, sentence)
        }
        Ok(Ending::Abandoned) => {
            reception.metrics.association_aborted();
            info!(peer:%, calling:%, stored; "association cut off: the gateway ends; what was acknowledged is kept");
            (
                Outcome::EndedEarly,
                false,
                "it was cut off, because the gateway stopped; what was acknowledged is kept".to_owned(),
            )
        }
        Err(error) => {
            reception.metrics.association_aborted();
            warn!(
                peer:%, calling:%, stored, refused, bytes;
                "association ended early: {error}; what was acknowledged is kept"
            );
            (
                Outcome::EndedEarly,
                true,
                format!("{error}; what was acknowledged is kept, the rest is still at the device"),
            )
        }
    };
    // An archive is no stranger who might be admitted; what it reported is in the log.
    if !pass.inquiries.is_empty() {
        return;
    }
    visitor.went((pass.modality.as_deref(), &calling), request, (outcome, problem, sentence), brought, reception);
}

/// The connection had to make way for another before it came to an association: there were too many of them, or too much
/// of requests that are not complete. Not worth a line: whoever opens that many connections would write the log.
pub(super) fn displaced(peer: SocketAddr, reception: &Reception) {
    reception.metrics.association_rejected(Rejection::Congestion);
    debug!(peer:%; "closed a connection that had not come to a request, to make way for another");
}

/// Logs, counts and enters a connection that came to no association.
fn refused(
    error: &AcceptError,
    refusal: Option<Box<Refusal>>,
    asked: Option<(AeTitle, Request)>,
    visitor: &Visitor,
    peer: SocketAddr,
    reception: &Reception,
) {
    match (error, refusal, asked) {
        (AcceptError::Rejected { calling, called, .. }, Some(refusal), Some((title, request))) => {
            reception.metrics.association_rejected(refusal.kind());
            warn!(peer:%, calling:?, called:?; "association refused: {refusal}");
            visitor.refused((refusal.modality(), &title), request, refusal.to_string(), reception);
        }
        // A connection that closes without a byte is how a port check looks; it deserves no line in the log.
        (AcceptError::Closed { received_anything: false }, ..) => {}
        (error, ..) => {
            let kind = match error {
                AcceptError::TimedOut(_) => Rejection::Timeout,
                AcceptError::Violation(Violation::Tls) => Rejection::TlsOnPlain,
                AcceptError::Violation(Violation::OtherProtocol("HTTP" | "SSH")) => Rejection::NotDicom,
                _ => Rejection::Protocol,
            };
            reception.metrics.association_rejected(kind);
            warn!(peer:%; "no association: {error}");
            let request = match error {
                AcceptError::Rejected { calling, called, .. } => Some(Request::unreadable(calling, called)),
                _ => None,
            };
            visitor.failed(request, error.to_string(), reception);
        }
    }
}

pub(super) enum Ending {
    Released,
    Shutdown,
    /// It would not be let in any more, for this reason.
    Dismissed(String),
    Abandoned,
}

async fn serve(
    association: &mut Association,
    (peer, secured): (SocketAddr, Option<&tls::Peer>),
    pass: &Pass,
    reception: &Reception,
    brought: &mut Brought,
) -> Result<Ending, AssociationError> {
    if !pass.inquiries.is_empty() {
        return reports::serve(association, (peer, secured), &pass.inquiries, reception).await;
    }
    let mut stage = Stage::Idle;
    let party = Party::of(pass.modality.as_deref(), &association.request().calling_ae);
    let mut standing = Standing::new(association.request(), peer.ip(), secured, reception);
    let mut reporting = Reporting::new(association, party, &reception.commitments);
    loop {
        let indication = match stage {
            Stage::Idle => tokio::select! {
                biased;
                () = reception.shutdown.cancelled() => return Ok(Ending::Shutdown),
                why = standing.lost() => return Ok(Ending::Dismissed(why)),
                indication = association.next() => indication?,
                idle = reporting.idle() => {
                    reporting.attend(idle, association).await?;
                    continue;
                }
            },
            Stage::Storing { .. } | Stage::Acting { .. } => association.next().await?,
        };
        stage = match (stage, indication) {
            (Stage::Idle, Indication::Command { context, command }) => {
                brought.tally.echoes += u64::from(matches!(command, Command::CEcho(_)));
                begin(association, context, command, peer, pass, reception).await?
            }
            (Stage::Storing { context, mut store }, Indication::Data(bytes)) => {
                store.write(&bytes);
                hold_back(pass, bytes.len()).await;
                Stage::Storing { context, store }
            }
            (Stage::Storing { context, store }, Indication::DataEnd) => {
                let length = store.length();
                let whole = clock::now();
                let (response, lateness) = store.finish().await;
                brought.note(&response, length, lateness);
                association.respond(context, &response).await?;
                let elapsed = clock::now().saturating_duration_since(whole);
                reception.metrics.instance_received(response.status.0, length, elapsed);
                Stage::Idle
            }
            (Stage::Acting { context, mut action }, Indication::Data(bytes)) => {
                action.write(&bytes);
                Stage::Acting { context, action }
            }
            (Stage::Acting { context, action }, Indication::DataEnd) => {
                let response = reporting.accept(*action, pass.modality.as_deref()).await;
                reception.metrics.commitment_requested(response.status.0);
                association.respond(context, &response).await?;
                Stage::Idle
            }
            (stage, Indication::Response { response, .. }) => {
                reporting.response(&response).await;
                stage
            }
            (_, Indication::Released) => return Ok(Ending::Released),
            // The layer below lets nothing else through: it aborts what is out of turn.
            (stage, _) => stage,
        };
    }
}

/// Waits as long as the modality's rate asks for before more is read.
async fn hold_back(pass: &Pass, bytes: usize) {
    let Some(throttle) = &pass.throttle else { return };
    let pause = throttle.take(clock::of_runtime(), bytes);
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

async fn begin(
    association: &mut Association,
    context: u8,
    command: Command,
    peer: SocketAddr,
    pass: &Pass,
    reception: &Reception,
) -> Result<Stage, AssociationError> {
    if let Command::CStore(request) = command {
        let sender = Sender {
            calling: association.request().calling_ae.clone(),
            called: association.request().called_ae.clone(),
            address: peer.ip(),
            priority: pass.priority(),
            destinations: pass.destinations(&reception.destinations),
            rules: reception.rules(),
        };
        let Some(transfer_syntax) = association.context(context).map(|context| context.transfer_syntax.clone()) else {
            return Err(AssociationError::OutOfTurn("a C-STORE on a presentation context that was not accepted"));
        };
        let store = Box::new(Store::begin(request, transfer_syntax, sender, &reception.spool));
        return Ok(Stage::Storing { context, store });
    }
    if let Command::NAction(request) = command {
        let Some(accepted) = association.context(context) else {
            return Err(AssociationError::OutOfTurn("an N-ACTION on a presentation context that was not accepted"));
        };
        let action = Box::new(Action::begin(
            request,
            &accepted.abstract_syntax,
            &accepted.transfer_syntax,
            &reception.commitments,
        ));
        return Ok(Stage::Acting { context, action });
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
