//! A destination that takes C-STORE: one association, kept warm between instances.
//!
//! For each kind of instance (SOP class, transfer syntax) that is waiting, the association proposes one presentation
//! context with the stored transfer syntax alone and one for each lossless conversion, so that the archive's answer says
//! exactly what it takes. A kind that was not proposed yet asks for a new association.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use log::{debug, warn};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::benefit::Kind;
use super::coerce::Coerced;
use super::compact;
use super::courier::{Bench, Sending, Settings};
use super::cstore::{self, StoreError};
use super::open::{self, Dialer, OpenError};
use super::outgoing::{self, Outgoing, SentAs, Smaller, Wanted};
use super::pipeline::{self, Several};
use super::pump::{self, Piece};
use super::transcode;
use super::verdict::Verdict;
use super::wire::EndedBy;
use super::worker::blocking;
use crate::association::{Abort, Association, AssociationError, Context, ContextRefusal, EchoError, RequestorSettings};
use crate::clock;
use crate::config::DicomPeer;
use crate::dataset::transfer_syntax;
use crate::dimse::{CStore, Response};
use crate::model::Uid;
use crate::spool::{Claim, Spool};
use crate::tls::Current;

/// Presentation contexts in one A-ASSOCIATE-RQ (PS3.8 9.3.2.2: odd ids from 1 to 255).
const MOST_CONTEXTS: usize = 128;

/// C-STORE that may be outstanding on one association, if the archive agrees (PS3.7 D.3.3.3).
const OPERATIONS: u16 = 4;

/// The association broke while an instance was on it.
#[derive(Debug)]
pub(super) struct Broken {
    /// What happened, in a sentence.
    pub(super) answer: String,
    /// The connection was given up because a new one gets through.
    pub(super) is_given_up: bool,
}

impl Broken {
    pub(super) fn by(error: &AssociationError) -> Self {
        let is_given_up = matches!(error, AssociationError::Io(error) if EndedBy::of(error) == EndedBy::Us);
        Self { answer: format!("the association broke while the instance was being sent: {error}"), is_given_up }
    }
}

/// What came of an instance on an association.
pub(super) struct Delivered {
    pub(super) verdict: Verdict,
    /// Error Comment (0000,0902) of the archive's response.
    pub(super) remark: Option<String>,
    /// What has left in place of the stored data set, if something has.
    pub(super) coerced: Option<Coerced>,
    /// In what it has left, if that is not what is stored.
    pub(super) sent_as: Option<SentAs>,
}

impl Delivered {
    pub(super) fn nothing(verdict: Verdict) -> Self {
        Self { verdict, remark: None, coerced: None, sent_as: None }
    }
}

/// How an instance can leave on the present association.
enum Way {
    AsStored,
    /// Into this uncompressed transfer syntax.
    Converted(Uid),
    /// The archive says that it does not know the SOP class, or none of the transfer syntaxes.
    NotSupported,
    /// The archive refuses without such a reason: it may think better of it.
    NotNow,
}

/// The archive and the association with it, if there is one.
pub(super) struct Archive {
    peer: DicomPeer,
    tls: Option<Current<ClientConfig>>,
    settings: Settings,
    association: Option<Association>,
    /// Whether the present association has carried an instance.
    proven: bool,
    /// Whether it was opened in advance.
    ahead: bool,
    offered: HashSet<Kind>,
}

impl Archive {
    pub(super) fn new(peer: DicomPeer, tls: Option<Current<ClientConfig>>, settings: Settings) -> Self {
        let offered = HashSet::new();
        Self { peer, tls, settings, association: None, proven: false, ahead: false, offered }
    }

    /// Whether an association is open that has carried an instance before. If such a one breaks before the archive has
    /// answered, the archive may have ended it for its own reasons a while ago, and a new one is worth a try at once.
    pub(super) fn is_proven(&self) -> bool {
        self.association.is_some() && self.proven
    }

    /// Whether an association is open that was opened in advance and has carried nothing yet. There are archives that accept
    /// one more than they want to have, and end it.
    pub(super) fn is_ahead(&self) -> bool {
        self.association.is_some() && self.ahead && !self.proven
    }

    /// The present association was opened in advance.
    pub(super) fn note_ahead(&mut self) {
        self.ahead = true;
    }

    /// How its connections are made.
    pub(super) fn dialer(&self) -> &Dialer {
        &self.settings.dialer
    }

    /// Whether an association is open.
    pub(super) fn is_open(&self) -> bool {
        self.association.is_some()
    }

    /// Whether the present association can carry this kind, or has been told that it cannot.
    pub(super) fn knows(&self, kind: &Kind) -> bool {
        self.association.is_some() && self.offered.contains(kind)
    }

    /// How many C-STORE may be outstanding on the present association; one if there is none.
    pub(super) fn operations(&self) -> usize {
        self.association.as_ref().map_or(1, Association::operations)
    }

    /// Opens an association for these kinds; the first is in it for certain, the others as far as contexts last. With
    /// `prove`, the archive must answer a C-ECHO on it if it takes any, before it counts as open.
    pub(super) async fn open(&mut self, kinds: &[Kind], prove: bool, bench: &Bench) -> Result<(), OpenError> {
        self.close().await;
        let mut settings = RequestorSettings::new(self.settings.calling.clone(), self.peer.aet.clone());
        settings.timeouts = self.settings.timeouts.clone();
        if prove {
            settings = settings.propose_verification();
        }
        if !kinds.is_empty() && bench.destination.bears_several(clock::of_runtime()) {
            settings.operations = OPERATIONS;
            // An archive that thinks about one instance may not read the next one meanwhile.
            settings.timeouts.write = settings.timeouts.write.max(self.settings.patience);
        }
        let most = MOST_CONTEXTS - settings.contexts.len();
        self.offered.clear();
        let mut proposed = HashSet::new();
        for kind in kinds {
            let conversions = transcode::conversions(&kind.transfer_syntax).iter();
            let smaller = self.settings.workshop.as_ref().map_or(&[][..], |_| compact::smaller(&kind.transfer_syntax));
            let mut wanted = vec![kind.transfer_syntax.clone()];
            for syntax in conversions.chain(smaller).filter_map(|uid| uid.parse().ok()) {
                if !wanted.contains(&syntax) {
                    wanted.push(syntax);
                }
            }
            wanted.retain(|syntax| !proposed.contains(&(kind.sop_class.clone(), syntax.clone())));
            if proposed.len() + wanted.len() > most {
                break;
            }
            for syntax in wanted {
                settings = settings.propose(&kind.sop_class, [syntax.clone()]);
                proposed.insert((kind.sop_class.clone(), syntax));
            }
            self.offered.insert(kind.clone());
        }
        let connector = self.tls.as_ref().map(Current::connector);
        let associate = async |settings: &RequestorSettings| {
            open::associate(&self.peer, connector.as_ref(), &self.settings.dialer, settings).await
        };
        let mut association = match associate(&settings).await {
            // There are archives that do not get on with a sub-item that they do not know.
            Err(error) if settings.operations > 1 && error.may_be_about_the_request() => {
                let without = RequestorSettings { operations: 1, ..settings };
                let Ok(association) = associate(&without).await else {
                    // What came of the first request counts, and that one has got through.
                    self.settings.dialer.wires.got_through();
                    return Err(error);
                };
                bench.destination.takes_one_at_a_time(clock::of_runtime());
                association
            }
            opened => opened?,
        };
        if prove {
            match association.echo(self.settings.timeouts.association).await {
                // Not every archive takes C-ECHO on an association for storage; its associations are proof enough then.
                Ok(_) | Err(EchoError::NotSupported) => {}
                Err(source) => {
                    association.abort(Abort::BY_USER).await;
                    return Err(OpenError::Echo { peer: self.peer.to_string(), source });
                }
            }
        }
        debug!(
            destination:% = self.peer.host, proposed = proposed.len(), accepted = association.accepted_contexts().len();
            "association established"
        );
        if self.settings.workshop.is_some() {
            for kind in &self.offered {
                bench.destination.note_accepted(kind.clone(), accepted_among(&association, kind));
            }
        }
        self.association = Some(association);
        (self.proven, self.ahead) = (false, false);
        Ok(())
    }

    /// Sends one instance whose kind the association [knows](Self::knows), and measures how it goes in `sending`. With
    /// `as_stored`, it is not made smaller.
    pub(super) async fn deliver(
        &mut self,
        claim: &Claim,
        bench: &Bench,
        as_stored: bool,
        sending: &mut Sending<'_>,
    ) -> Result<Delivered, Broken> {
        let Some(association) = &mut self.association else {
            return Ok(Delivered::nothing(Verdict::Later { answer: "there is no association".into() }));
        };
        let prepared = prepare(association, claim, &self.settings, bench, as_stored).await;
        let Ready { context, pieces, coerced, sent_as } = match ready(association, claim, prepared) {
            Ok(ready) => ready,
            Err(verdict) => return Ok(Delivered::nothing(verdict)),
        };
        sending.begins(outgoing::smaller(sent_as.as_ref()));
        let (request, patience) = (request(claim, message_id(claim)), self.settings.patience);
        match cstore::store(association, context, request, pieces, sending.meter(), patience).await {
            Ok(response) => {
                self.proven = true;
                let verdict = verdict(&response, claim, &bench.spool);
                Ok(Delivered { verdict, remark: response.comment, coerced, sent_as })
            }
            Err(StoreError::Payload(error)) => {
                self.abort().await;
                warn!(destination:% = self.peer.host, id:% = claim.id; "sending stopped, the archive was sent an A-ABORT: {error}");
                Ok(Delivered { verdict: Verdict::of_payload(&error), remark: None, coerced, sent_as })
            }
            Err(StoreError::Association(error)) => {
                self.abort().await;
                Err(Broken::by(&error))
            }
        }
    }

    /// Sends several instances whose kinds the association [knows](Self::knows) one behind the other, as long as nothing
    /// else is to go first: see [`pipeline`].
    pub(super) async fn deliver_several(&mut self, claims: Vec<Claim>, bench: &Bench) -> Several {
        let Some(association) = &mut self.association else { return Several::default() };
        let mut several = pipeline::send(association, claims, &self.settings, bench).await;
        self.proven |= several.answers > 0;
        (several.was_proven, several.was_ahead) = (self.is_proven(), self.is_ahead());
        match &several.end {
            None => {}
            Some(StoreError::Payload(_)) => self.abort().await,
            Some(StoreError::Association(error)) => {
                if several.unanswered.len() > 1 && !is_the_link(error) {
                    bench.destination.takes_one_at_a_time(clock::of_runtime());
                }
                self.abort().await;
            }
        }
        several
    }

    /// Releases the association, if there is one.
    pub(super) async fn close(&mut self) {
        if let Some(association) = self.association.take()
            && let Err(error) = association.release().await
        {
            debug!(destination:% = self.peer.host; "the release was not answered: {error}");
        }
    }

    async fn abort(&mut self) {
        if let Some(association) = self.association.take() {
            association.abort(Abort::BY_USER).await;
        }
    }
}

/// Whether an association has ended because nothing got through, and not because the archive wanted it to.
fn is_the_link(error: &AssociationError) -> bool {
    matches!(error, AssociationError::Io(error) if EndedBy::of(error) != EndedBy::Peer)
}

/// The presentation context that was accepted for this SOP class and transfer syntax.
fn accepted<'a>(association: &'a Association, sop_class: &Uid, syntax: &str) -> Option<&'a Context> {
    let mut contexts = association.accepted_contexts().iter();
    contexts.find(|context| context.abstract_syntax == *sop_class && context.transfer_syntax.as_str() == syntax)
}

/// The transfer syntaxes that were accepted in which an instance of this kind may be smaller.
fn accepted_among(association: &Association, kind: &Kind) -> Vec<Uid> {
    let smaller = compact::smaller(&kind.transfer_syntax).iter();
    let contexts = smaller.filter_map(|syntax| accepted(association, &kind.sop_class, syntax));
    contexts.map(|context| context.transfer_syntax.clone()).collect()
}

fn way(association: &Association, kind: &Kind) -> Way {
    let accepted = |syntax: &str| accepted(association, &kind.sop_class, syntax);
    if accepted(kind.transfer_syntax.as_str()).is_some() {
        return Way::AsStored;
    }
    let conversions = transcode::conversions(&kind.transfer_syntax);
    if let Some(context) = conversions.iter().find_map(|syntax| accepted(syntax)) {
        return Way::Converted(context.transfer_syntax.clone());
    }
    let asked = |id: &u8| {
        let proposed = association.request().contexts.iter().find(|context| context.id == *id);
        proposed.and_then(|context| context.abstract_syntax.as_ref()) == Some(&kind.sop_class)
    };
    let not_now = association
        .refused_contexts()
        .iter()
        .any(|(id, refusal)| asked(id) && matches!(refusal, ContextRefusal::ByUser | ContextRefusal::NoReason));
    if not_now { Way::NotNow } else { Way::NotSupported }
}

fn not_accepted(sop_class: &Uid, syntax: &Uid) -> String {
    let name = transfer_syntax::name(syntax).unwrap_or("a private transfer syntax");
    format!(
        "the archive accepts SOP class {sop_class} neither in {name} ({syntax}), in which it was received, nor in a \
         lossless conversion; enable it at the archive"
    )
}

/// An instance that is ready, and what is read of it.
pub(super) struct Opened {
    source: Box<dyn Read + Send>,
    outgoing: Outgoing,
}

/// An instance that leaves now.
pub(super) struct Ready {
    /// The presentation context on which it leaves.
    pub(super) context: u8,
    pub(super) pieces: mpsc::Receiver<io::Result<Piece>>,
    pub(super) coerced: Option<Coerced>,
    pub(super) sent_as: Option<SentAs>,
}

/// Gets an instance ready that leaves over this association, in a thread of its own; with `as_stored`, it is not made
/// smaller.
pub(super) fn prepare(
    association: &Association,
    claim: &Claim,
    settings: &Settings,
    bench: &Bench,
    as_stored: bool,
) -> JoinHandle<Result<Opened, Verdict>> {
    let (header, kind) = (&claim.header, Kind::of(&claim.header));
    let plain = match way(association, &kind) {
        Way::AsStored => Ok(None),
        Way::Converted(to) => Ok(Some(to)),
        Way::NotNow => Err(Verdict::Refused {
            answer: format!("the archive refuses SOP class {} without a reason", header.sop_class_uid),
        }),
        Way::NotSupported => {
            Err(Verdict::Hopeless { reason: not_accepted(&header.sop_class_uid, &header.transfer_syntax) })
        }
    };
    let smaller = match &settings.workshop {
        Some(workshop) if !as_stored => {
            let accepted = accepted_among(association, &kind);
            let accepted = bench.destination.taken(&kind, accepted, clock::of_runtime());
            Some(Smaller { workshop: workshop.clone(), through: Arc::clone(&bench.destination), accepted })
        }
        _ => None,
    };
    let wanted = Wanted::of(claim, smaller, plain);
    let (spool, coercions) = (bench.spool.clone(), settings.coercions.clone());
    tokio::task::spawn_blocking(move || {
        let outgoing = Outgoing::prepare(&wanted, &spool, &coercions)?;
        Ok(Opened { source: outgoing.source.open()?, outgoing })
    })
}

/// What was prepared, with the presentation context on which it leaves; the reading of its pieces begins.
pub(super) fn ready(
    association: &Association,
    claim: &Claim,
    prepared: Result<Result<Opened, Verdict>, JoinError>,
) -> Result<Ready, Verdict> {
    let failed = |_| Err(Verdict::Later { answer: "reading the instance failed".into() });
    let Opened { source, outgoing: Outgoing { coerced, sent_as, .. } } = prepared.unwrap_or_else(failed)?;
    let header = &claim.header;
    let syntax = sent_as.as_ref().map_or(&header.transfer_syntax, |sent_as| &sent_as.syntax).clone();
    match accepted(association, &header.sop_class_uid, syntax.as_str()).map(|context| context.id) {
        Some(context) => {
            let made_even = pump::made_even(&syntax, claim.attempts);
            let pieces = pump::pump(source, made_even, pump::piece_size(association));
            Ok(Ready { context, pieces, coerced, sent_as })
        }
        None => {
            let answer = format!("the archive has not accepted {syntax}, in which it was to leave");
            Err(Verdict::Later { answer })
        }
    }
}

/// What an answer means for an instance. It is asked of the index now whether its UID stands for one content: the other one
/// may have come, and arrived there, since this one was claimed.
pub(super) fn verdict(response: &Response, claim: &Claim, spool: &Spool) -> Verdict {
    Verdict::of(response, || is_ambiguous(spool, claim))
}

/// The request with which an instance leaves.
pub(super) fn request(claim: &Claim, message_id: u16) -> CStore {
    CStore {
        message_id,
        sop_class_uid: claim.header.sop_class_uid.clone(),
        sop_instance_uid: claim.header.sop_instance_uid.clone(),
        priority: claim.priority,
        move_originator: None,
    }
}

/// The message ID of its request, if no other request has that.
pub(super) fn message_id(claim: &Claim) -> u16 {
    u16::try_from(claim.id.0 & 0x7fff).unwrap_or(1)
}

/// Whether another content with the same SOP Instance UID was known when it was claimed, or is by now. If that cannot be
/// found out, it is as if.
pub(super) fn is_ambiguous(spool: &Spool, claim: &Claim) -> bool {
    claim.ambiguous || blocking(|| spool.is_ambiguous(claim.id).unwrap_or(true))
}
