//! Several C-STORE on one association, one behind the other, without waiting for the answers in between (PS3.7 D.3.3.3): over
//! a long link an association would wait for answers most of the time.
//!
//! - While one instance is on the wire the next one is got ready. The answers are collected when the last one has left;
//!   those that come before are noted before the next one begins.
//! - Only what belongs together goes together ([`together`]): of one class, of kinds that the association knows, nothing
//!   that has failed before, and no more bytes than a link needs to be busy for a while.
//! - Nothing more is begun once something urgent waits, the link is closed, the gateway stops, or the archive wants one of them
//!   later. What was not begun then is released, as if it had never been claimed.
//! - Whatever ends the association, an instance whose answer was heard has that answer. The others were not answered.

use std::time::{Duration, Instant};

use log::warn;
use tokio::task::{JoinError, JoinHandle};

use super::archive::{self, Opened, Ready};
use super::coerce::Coerced;
use super::courier::{Bench, Handed, Sending, Settings};
use super::cstore::{self, StoreError};
use super::outgoing::{self, SentAs};
use super::verdict::Verdict;
use super::worker::blocking;
use crate::association::transport::Heard;
use crate::association::{Association, AssociationError, Violation};
use crate::clock;
use crate::dimse::Response;
use crate::model::Priority;
use crate::spool::{Claim, Queue};

/// So many bytes go together at most: what is larger gains little, and what is urgent would wait for it.
const BYTES: u64 = 8 << 20;

/// So long the answers to what has left whole are waited for on an association that has to be ended.
const HEARD_OUT: Duration = Duration::from_secs(5);

/// One that is being got ready, and what came of that.
type Preparing = JoinHandle<Result<Opened, Verdict>>;
type Prepared = Result<Result<Opened, Verdict>, JoinError>;

/// What came of several instances on an association.
#[derive(Default)]
pub(super) struct Several {
    /// Those of which it is known.
    pub(super) handed: Vec<Handed>,
    /// Those that have begun to leave and were not answered, and how many bytes of each have left.
    pub(super) unanswered: Vec<(Claim, u64)>,
    /// How many were answered.
    pub(super) answers: usize,
    /// What ended the association, if something has.
    pub(super) end: Option<StoreError>,
    /// Whether the association had carried an instance by then, and whether it was opened in advance and had not.
    pub(super) was_proven: bool,
    pub(super) was_ahead: bool,
}

/// How many of these claims, from the first on and `most` at most, go together, if they fit otherwise.
pub(super) fn together(claims: &[Claim], most: usize, fits: impl Fn(&Claim) -> bool) -> usize {
    let Some(first) = claims.first() else { return 0 };
    let mut bytes = 0_u64;
    let fits = |claim: &&Claim| {
        bytes = bytes.saturating_add(claim.length);
        bytes <= BYTES && claim.attempts == 0 && claim.priority == first.priority && fits(claim)
    };
    claims.iter().take(most).take_while(fits).count().max(1)
}

/// Whether one more may begin, behind others of its class.
pub(super) fn may_begin(claim: &Claim, bench: &Bench) -> bool {
    let Bench { destination, spool, shutdown, .. } = bench;
    let is_urgent = claim.priority == Priority::Stat;
    if shutdown.is_cancelled() || destination.pace().closed(is_urgent).is_some() {
        return false;
    }
    let waits = |queue| {
        let classes = blocking(|| spool.waiting_classes(Queue::from(queue), spool.time()));
        classes.is_ok_and(|classes| classes.contains(&Priority::Stat))
    };
    is_urgent || !(waits(&destination.name) || (claim.destination != destination.name && waits(&claim.destination)))
}

/// An instance that has begun to leave and is not answered.
struct Underway<'a> {
    claim: Claim,
    message_id: u16,
    coerced: Option<Coerced>,
    sent_as: Option<SentAs>,
    sending: Sending<'a>,
}

/// What is under way, and what came of it.
struct Line<'a> {
    bench: &'a Bench,
    underway: Vec<Underway<'a>>,
    /// When the latest answer was noted.
    answered: Option<Instant>,
    several: Several,
}

/// Sends these instances; the caller ends the association if there is an [`end`](Several::end).
pub(super) async fn send(
    association: &mut Association,
    claims: Vec<Claim>,
    settings: &Settings,
    bench: &Bench,
) -> Several {
    let mut line = Line { bench, underway: Vec::new(), answered: None, several: Several::default() };
    if let Err(error) = line.send(association, claims, settings).await {
        line.ends(association, error).await;
    }
    line.several
}

impl<'a> Line<'a> {
    async fn send(
        &mut self,
        association: &mut Association,
        claims: Vec<Claim>,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        let mut claims = claims.into_iter();
        let mut next = prepared(association, claims.next(), settings, self.bench);
        while let Some((claim, preparing)) = next {
            let Some(opened) = self.opened(association, &claim, preparing).await? else { break };
            let ready = archive::ready(association, &claim, opened);
            next = prepared(association, claims.next(), settings, self.bench);
            match ready {
                Ok(ready) => self.begin(association, claim, ready).await?,
                Err(verdict) => self.several.handed.push(Handed::nothing(claim, verdict)),
            }
        }
        while !self.underway.is_empty() {
            let response = association.response(settings.patience).await?;
            self.note(response)?;
        }
        Ok(())
    }

    /// Waits until this one is ready, and notes the answers that come meanwhile; nothing if it is not to begin any more.
    async fn opened(
        &mut self,
        association: &mut Association,
        claim: &Claim,
        mut preparing: Preparing,
    ) -> Result<Option<Prepared>, StoreError> {
        let opened = loop {
            if !self.may_begin(claim) {
                return Ok(None);
            }
            if self.underway.is_empty() {
                break preparing.await;
            }
            match association.response_or(&mut preparing).await? {
                Heard::Response(response) => self.note(response)?,
                Heard::Other(opened) => break opened,
            }
        };
        Ok(self.may_begin(claim).then_some(opened))
    }

    /// The first one begins in any case, and none behind one that has to wait: it tells that the archive is out of something.
    fn may_begin(&self, claim: &Claim) -> bool {
        let waits = |handed: &Handed| matches!(handed.verdict, Verdict::Later { .. });
        let is_first = self.underway.is_empty() && self.several.handed.is_empty();
        is_first || (!self.several.handed.iter().any(waits) && may_begin(claim, self.bench))
    }

    /// Sends one instance, behind those that are under way.
    async fn begin(&mut self, association: &mut Association, claim: Claim, ready: Ready) -> Result<(), StoreError> {
        let message_id = self.message_id(&claim);
        let request = archive::request(&claim, message_id);
        let mut sending = self.bench.sending(1, claim.length);
        let Ready { context, pieces, coerced, sent_as } = ready;
        sending.begins(outgoing::smaller(sent_as.as_ref()));
        let meter = sending.meter().clone();
        self.underway.push(Underway { claim, message_id, coerced, sent_as, sending });
        match cstore::send(association, context, request, pieces, &meter).await {
            Ok(()) => self.hear_but(association, None),
            Err(error) => {
                // What was answered before its end is not whole, whatever the answer says.
                self.hear_but(association, Some(message_id))?;
                Err(error)
            }
        }
    }

    /// Notes the answers that have come, but one to this request.
    fn hear_but(&mut self, association: &mut Association, message_id: Option<u16>) -> Result<(), StoreError> {
        while let Some(response) = association.response_at_hand() {
            if Some(response.message_id) != message_id {
                self.note(response)?;
            }
        }
        Ok(())
    }

    /// Notes the answer to one of those that are under way.
    fn note(&mut self, response: Response) -> Result<(), StoreError> {
        let Some(at) = self.underway.iter().position(|one| one.message_id == response.message_id) else {
            return Ok(());
        };
        let Underway { claim, coerced, sent_as, mut sending, .. } = self.underway.remove(at);
        let is_of = |claim: &Claim| response.sop_instance_uid.as_ref() == Some(&claim.header.sop_instance_uid);
        if let Some(other) = self.underway.iter().find(|other| is_of(&other.claim) && !is_of(&claim)) {
            // Nobody knows which of the two the archive speaks of.
            let violation = Violation::WrongMessageId { expected: other.message_id, came: response.message_id };
            self.several.unanswered.push((claim, sending.ended(false)));
            return Err(AssociationError::Violation(violation).into());
        }
        let verdict = archive::verdict(&response, &claim, &self.bench.spool);
        if let Some(answered) = self.answered.replace(clock::of_runtime()) {
            sending.was_behind_another(answered);
        }
        let sent = sending.ended(matches!(verdict, Verdict::Delivered { .. }));
        let remark = response.comment;
        self.several.answers += 1;
        self.several.handed.push(Handed { claim, verdict, sent, remark, coerced, sent_as });
        Ok(())
    }

    /// One of them could not be read to its end, so that the association has to be ended: those before it have left whole, and
    /// for a while their answers may come.
    async fn hear_out(&mut self, association: &mut Association) -> Result<(), StoreError> {
        let mut patience = std::pin::pin!(tokio::time::sleep(HEARD_OUT));
        while let [_, .., broken_off] = self.underway.as_slice() {
            let broken_off = broken_off.message_id;
            match association.response_or(&mut patience).await? {
                Heard::Response(response) if response.message_id == broken_off => {}
                Heard::Response(response) => self.note(response)?,
                Heard::Other(()) => break,
            }
        }
        Ok(())
    }

    /// The association is over, or has to be: what was heard counts, and the rest is not answered.
    async fn ends(&mut self, association: &mut Association, error: StoreError) {
        // What was answered has been heard; what else happens to an association that is over is of no interest.
        drop(self.hear_but(association, None));
        if let StoreError::Payload(error) = &error {
            drop(self.hear_out(association).await);
            if let Some(Underway { claim, coerced, sent_as, sending, .. }) = self.underway.pop() {
                let (destination, id) = (&self.bench.destination.name, claim.id);
                warn!(destination:%, id:%; "sending stopped, the archive is sent an A-ABORT: {error}");
                let (verdict, sent) = (Verdict::of_payload(error), sending.ended(false));
                self.several.handed.push(Handed { claim, verdict, sent, remark: None, coerced, sent_as });
            }
        }
        let unanswered = self.underway.drain(..).map(|one| (one.claim, one.sending.ended(false)));
        self.several.unanswered.extend(unanswered);
        self.several.end = Some(error);
    }

    /// A message ID that none of those has that are under way.
    fn message_id(&self, claim: &Claim) -> u16 {
        let mut message_id = archive::message_id(claim);
        while self.underway.iter().any(|one| one.message_id == message_id) {
            message_id = message_id.wrapping_add(1);
        }
        message_id
    }
}

/// Gets the next one ready.
fn prepared(
    association: &Association,
    claim: Option<Claim>,
    settings: &Settings,
    bench: &Bench,
) -> Option<(Claim, Preparing)> {
    let claim = claim?;
    let preparing = archive::prepare(association, &claim, settings, bench, false);
    Some((claim, preparing))
}
