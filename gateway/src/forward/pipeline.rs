//! Several C-STORE on one association, one behind the other, without waiting for the answers in between (PS3.7 D.3.3.3): over
//! a long link an association would wait for answers most of the time.
//!
//! - While one instance is on the wire the next one is got ready. The answers are collected when the last one has left;
//!   those that come before are noted before the next one begins.
//! - Only what belongs together goes together ([`together`]): of one class, of kinds that the association knows, nothing
//!   that has failed before, and no more bytes than a link needs to be busy for a while.
//! - Nothing more is begun once something urgent waits, the link is closed, or the gateway stops. What was not begun then is
//!   released, as if it had never been claimed.
//! - Whatever ends the association, an instance whose answer was heard has that answer. The others were not answered.

use std::time::Instant;

use tokio::task::JoinHandle;

use super::archive::{self, Opened, Ready, SentAs};
use super::coerce::Coerced;
use super::courier::{Bench, Handed, Sending, Settings};
use super::cstore::{self, StoreError};
use super::verdict::Verdict;
use super::worker::blocking;
use crate::association::Association;
use crate::clock;
use crate::dimse::Response;
use crate::model::Priority;
use crate::spool::{Claim, Queue};

/// So many bytes go together at most: what is larger gains little, and what is urgent would wait for it.
const BYTES: u64 = 8 << 20;

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
        line.ends(association, error);
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
            let opened = preparing.await;
            let ready = archive::ready(association, &claim, opened);
            if !self.underway.is_empty() && !may_begin(&claim, self.bench) {
                break;
            }
            next = prepared(association, claims.next(), settings, self.bench);
            match ready {
                Ok(ready) => self.begin(association, claim, ready, settings).await?,
                Err(verdict) => self.several.handed.push(Handed::nothing(claim, verdict)),
            }
        }
        while !self.underway.is_empty() {
            self.wait(association, settings).await?;
        }
        Ok(())
    }

    /// Sends one instance, behind those that are under way.
    async fn begin(
        &mut self,
        association: &mut Association,
        claim: Claim,
        mut ready: Ready,
        settings: &Settings,
    ) -> Result<(), StoreError> {
        while self.underway.len() >= association.operations() {
            self.wait(association, settings).await?;
        }
        let message_id = self.message_id(&claim);
        let request = archive::request(&claim, message_id);
        let mut sending = self.bench.sending(1, claim.length);
        let pieces = ready.pieces(association, &claim);
        sending.begins(ready.is_as_stored());
        let meter = sending.meter().clone();
        let Ready { context, coerced, sent_as, .. } = ready;
        self.underway.push(Underway { claim, message_id, coerced, sent_as, sending });
        cstore::send(association, context, request, pieces, &meter).await.inspect_err(|_| {
            // What was answered before its end is not whole, whatever the answer says.
            self.hear_but(association, Some(message_id));
        })?;
        self.hear_but(association, None);
        Ok(())
    }

    /// Waits for one answer.
    async fn wait(&mut self, association: &mut Association, settings: &Settings) -> Result<(), StoreError> {
        let response = association.response(settings.patience).await?;
        self.note(response);
        Ok(())
    }

    /// Notes the answers that have come, but one to this request.
    fn hear_but(&mut self, association: &mut Association, message_id: Option<u16>) {
        while let Some(response) = association.response_at_hand() {
            if Some(response.message_id) != message_id {
                self.note(response);
            }
        }
    }

    /// Notes the answer to one of those that are under way.
    fn note(&mut self, response: Response) {
        let Some(at) = self.underway.iter().position(|one| one.message_id == response.message_id) else { return };
        let Underway { claim, coerced, sent_as, mut sending, .. } = self.underway.remove(at);
        let is_ambiguous = || claim.ambiguous || archive::is_ambiguous(&self.bench.spool, &claim);
        let verdict = Verdict::of(&response, is_ambiguous);
        if let Some(answered) = self.answered.replace(clock::of_runtime()) {
            sending.was_behind_another(answered);
        }
        let sent = sending.ended(matches!(verdict, Verdict::Delivered { .. }));
        let remark = response.comment;
        self.several.answers += 1;
        self.several.handed.push(Handed { claim, verdict, sent, remark, coerced, sent_as });
    }

    /// The association is over, or has to be: what was heard counts, and the rest is not answered.
    fn ends(&mut self, association: &mut Association, error: StoreError) {
        self.hear_but(association, None);
        if let StoreError::Payload(error) = &error
            && let Some(Underway { claim, coerced, sent_as, sending, .. }) = self.underway.pop()
        {
            let (verdict, sent) = (Verdict::of_payload(error), sending.ended(false));
            self.several.handed.push(Handed { claim, verdict, sent, remark: None, coerced, sent_as });
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
) -> Option<(Claim, JoinHandle<Result<Opened, Verdict>>)> {
    let claim = claim?;
    let preparing = archive::prepare(association, &claim, settings, bench, false);
    Some((claim, preparing))
}
