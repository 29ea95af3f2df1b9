//! The upper layer's state machine (PS3.8 9.2), both roles: bytes in, PDVs and the events of an association out.
//!
//! The states are on the module's first page. Inputs are [`Machine::input`] with [`Machine::poll_event`],
//! [`Machine::handle_eof`] and [`Machine::handle_timeout`]; commands are `accept`, `reject`, `send`, `release`,
//! `confirm_release` and `abort`; outputs are [`Machine::poll_event`], [`Machine::output`], [`Machine::deadline`] and
//! [`Machine::ending`]. After an input or a command, poll events until there is none, then write the output.

use std::sync::Arc;
use std::time::Instant;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::associate::{AssociateAccept, AssociateRequest, RoleSelection, Terms, Unacceptable};
use super::codes::{Abort, ContextRefusal, Rejection};
use super::error::Violation;
use super::negotiation::{self, Context, ContextAnswer, Part};
use super::pdu::{self, HEAD, Head, MAX_ASSOCIATE, PduKind, Pdv};
use super::settings::{AcceptorSettings, Timeouts, bounded};

/// The least room for input that is taken at a time, in bytes.
const STEP: usize = 4 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Acceptor,
    Requestor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Sta2.
    AwaitingRequest,
    /// Sta3.
    AwaitingDecision,
    /// Sta5.
    AwaitingAnswer,
    /// Sta6.
    Established,
    /// Sta8.
    ReleaseIndicated,
    /// Sta7.
    Releasing,
    /// Sta10 and Sta11: both sides have asked for release; the reply is awaited.
    ReleaseCollision,
    /// Sta13.
    Closing,
    /// Sta1.
    Closed,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An association is requested: [`Machine::accept`] or [`Machine::reject`] it.
    Requested(Arc<AssociateRequest>),
    /// An association was requested that cannot be accepted, and has been rejected.
    Refused { rejection: Rejection, calling: String, called: String },
    /// Our request was accepted.
    Accepted,
    /// Our request was rejected.
    Rejected(Rejection),
    /// A fragment of a message.
    Pdv(Pdv),
    /// The peer wants to release: [`Machine::confirm_release`] or [`Machine::abort`].
    ReleaseRequested,
    /// Our release was confirmed.
    Released,
    /// The peer aborted.
    Aborted(Abort),
    /// The peer broke the protocol, and has been sent an A-ABORT.
    Violated(Violation),
    /// ARTIM, or the wait for the answer to our release, expired.
    TimedOut,
    /// The peer closed the connection.
    Closed { received_anything: bool },
}

/// What is to become of the connection once the output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Half-close it, and read (and throw away) until the peer closes it or the deadline comes: a full close would make
    /// our TCP stack answer what is still coming with a reset, and the reset would destroy our last PDU on the way.
    HalfClose,
    /// Close it.
    Close,
}

#[derive(Debug)]
pub(super) struct Machine {
    role: Role,
    state: State,
    timeouts: Timeouts,
    terms: Terms,
    peer_max_pdu: u32,
    /// How many operations of ours may be outstanding.
    operations: u16,
    /// What was requested, until it is answered.
    request: Option<Arc<AssociateRequest>>,
    contexts: Vec<Context>,
    refused: Vec<(u8, ContextRefusal)>,
    /// The answers to role selections, given or received.
    roles: Vec<RoleSelection>,
    input: BytesMut,
    eof: bool,
    received_anything: bool,
    /// What is left of the P-DATA-TF that is being handed on.
    data: Bytes,
    output: BytesMut,
    /// Whether the front of the output is the middle of a PDU.
    output_begun: bool,
    /// ARTIM, or whatever the present state is bounded by.
    deadline: Option<Instant>,
}

impl Machine {
    fn new(role: Role, state: State, max_pdu: u32, timeouts: Timeouts, started: Instant) -> Self {
        let deadline = Some(started + timeouts.association);
        Self {
            role,
            state,
            timeouts,
            terms: Terms { max_pdu: bounded(max_pdu), knows_users: false, operations: 1 },
            peer_max_pdu: 0,
            operations: 1,
            request: None,
            contexts: Vec::new(),
            refused: Vec::new(),
            roles: Vec::new(),
            input: BytesMut::new(),
            eof: false,
            received_anything: false,
            data: Bytes::new(),
            output: BytesMut::new(),
            output_begun: false,
            deadline,
        }
    }

    /// An acceptor whose connection was made at `connected`.
    pub(super) fn acceptor(settings: &AcceptorSettings, connected: Instant) -> Self {
        let AcceptorSettings { max_pdu, timeouts, user_identity, operations } = settings;
        let new = Self::new(Role::Acceptor, State::AwaitingRequest, *max_pdu, timeouts.clone(), connected);
        let terms = Terms { knows_users: user_identity.is_some(), operations: *operations, ..new.terms };
        Self { terms, ..new }
    }

    /// A requestor; its A-ASSOCIATE-RQ is in the output.
    pub(super) fn requestor(request: AssociateRequest, timeouts: Timeouts, now: Instant) -> Self {
        let mut machine = Self::new(Role::Requestor, State::AwaitingAnswer, request.max_pdu, timeouts, now);
        machine.output.extend_from_slice(&request.encode());
        machine.request = Some(Arc::new(request));
        machine
    }

    // ---- Getters.

    /// What was requested, by us or of us; `None` before that and from the answer on.
    pub(super) fn request(&self) -> Option<&AssociateRequest> {
        self.request.as_deref()
    }

    /// The accepted contexts.
    pub(super) fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// The refused contexts.
    pub(super) fn refused(&self) -> &[(u8, ContextRefusal)] {
        &self.refused
    }

    /// The agreed roles of the requestor, where any were agreed upon.
    pub(super) fn roles(&self) -> &[RoleSelection] {
        &self.roles
    }

    /// The longest P-DATA-TF that may be sent, in bytes after the head.
    pub(super) fn peer_max_pdu(&self) -> u32 {
        self.peer_max_pdu
    }

    /// How many operations of ours may be outstanding (PS3.7 D.3.3.3).
    pub(super) fn operations(&self) -> u16 {
        self.operations
    }

    /// The number of the state in PS3.8 9.2.1.
    #[cfg(test)]
    pub(super) fn standard_state(&self) -> u8 {
        match (self.state, self.role) {
            (State::Closed, _) => 1,
            (State::AwaitingRequest, _) => 2,
            (State::AwaitingDecision, _) => 3,
            (State::AwaitingAnswer, _) => 5,
            (State::Established, _) => 6,
            (State::Releasing, _) => 7,
            (State::ReleaseIndicated, _) => 8,
            (State::ReleaseCollision, Role::Acceptor) => 10,
            (State::ReleaseCollision, Role::Requestor) => 11,
            (State::Closing, _) => 13,
        }
    }

    /// Whether messages can be exchanged.
    pub(super) fn is_established(&self) -> bool {
        matches!(self.state, State::Established | State::ReleaseIndicated)
    }

    /// Whether a PDU has begun to arrive and is not complete, or is not handed on yet.
    pub(super) fn has_partial_input(&self) -> bool {
        !self.input.is_empty() || !self.data.is_empty()
    }

    // ---- Inputs.

    /// Where to put bytes from the peer; after that, [`Machine::poll_event`]. It takes as many as can be used now, at
    /// least one, and grows with what has arrived, not with what a peer announces.
    pub(super) fn input(&mut self) -> Limit<&mut BytesMut> {
        if self.state == State::Closing {
            self.input.clear();
        }
        let room = self.longest_input().saturating_sub(self.input.len()).max(1);
        self.input.reserve(room.min(STEP.max(self.input.len())));
        (&mut self.input).limit(room)
    }

    /// How many bytes of the peer can be held at most after what is read next.
    pub(super) fn next_held(&mut self) -> usize {
        let capacity = self.input().get_ref().capacity();
        capacity.min(self.longest_input())
    }

    /// The most bytes that the input has a use for. Of a request or its answer no more is taken than the PDU has, as soon
    /// as that is known.
    fn longest_input(&self) -> usize {
        let whole = |length: u32| usize::try_from(length).unwrap_or(usize::MAX).saturating_add(HEAD);
        match self.state {
            State::AwaitingRequest | State::AwaitingAnswer => match Head::read(&self.input, self.terms.max_pdu) {
                Ok(Some(head)) => HEAD + head.length,
                _ => whole(MAX_ASSOCIATE),
            },
            State::AwaitingDecision => whole(MAX_ASSOCIATE),
            _ => whole(self.terms.max_pdu),
        }
    }

    /// The peer has closed its side of the connection.
    pub(super) fn handle_eof(&mut self) {
        self.eof = true;
        if self.state == State::Closing {
            self.state = State::Closed;
        }
    }

    /// The time is `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Event> {
        self.deadline.filter(|deadline| *deadline <= now)?;
        self.deadline = None;
        match self.state {
            State::Closed | State::Established | State::ReleaseIndicated => None,
            State::Closing => {
                self.state = State::Closed;
                None
            }
            // PS3.8 9.2.3, AA-2: nobody is there who would understand an A-ABORT.
            State::AwaitingRequest => {
                self.state = State::Closed;
                Some(Event::TimedOut)
            }
            State::AwaitingDecision | State::AwaitingAnswer | State::Releasing | State::ReleaseCollision => {
                self.abort(now, Abort::NOT_SPECIFIED);
                Some(Event::TimedOut)
            }
        }
    }

    // ---- Commands.

    /// Accepts the request with these answers.
    pub(super) fn accept(&mut self, now: Instant, answers: &[ContextAnswer], part: Part) -> Result<(), Violation> {
        if self.state != State::AwaitingDecision {
            return Ok(());
        }
        let Some(request) = self.request.take() else { return Ok(()) };
        self.settle(&request, answers, request.max_pdu);
        self.roles = negotiation::roles(&request, answers, part);
        let answer = request.accept(answers, &self.roles, &self.terms);
        self.output.extend_from_slice(&answer);
        self.establish(now)
    }

    /// Rejects the request.
    pub(super) fn reject(&mut self, now: Instant, rejection: Rejection) {
        if self.state == State::AwaitingDecision {
            self.request = None;
            self.turn_away(now, rejection);
        }
    }

    fn turn_away(&mut self, now: Instant, rejection: Rejection) {
        self.output.extend_from_slice(&pdu::rejection(rejection));
        self.close(now);
    }

    /// Sends the bytes of whole PDUs.
    pub(super) fn send(&mut self, pdus: &[u8]) {
        if self.is_established() {
            self.output.extend_from_slice(pdus);
        }
    }

    /// Asks for release; answered by [`Event::Released`].
    pub(super) fn release(&mut self, now: Instant) {
        if self.state == State::Established {
            self.output.extend_from_slice(&pdu::RELEASE_RQ);
            self.state = State::Releasing;
            self.deadline = Some(now + self.timeouts.association);
        }
    }

    /// Answers [`Event::ReleaseRequested`].
    pub(super) fn confirm_release(&mut self, now: Instant) {
        if self.state == State::ReleaseIndicated {
            self.output.extend_from_slice(&pdu::RELEASE_RP);
            self.close(now);
        }
    }

    /// Aborts. PDUs that have not begun to leave are dropped: they would only delay it.
    pub(super) fn abort(&mut self, now: Instant, abort: Abort) {
        if matches!(self.state, State::Closing | State::Closed) {
            return;
        }
        if !self.output_begun {
            self.output.clear();
        }
        self.output.extend_from_slice(&pdu::abort(abort));
        self.close(now);
    }

    /// Answers a violation, and tells it.
    pub(super) fn violated(&mut self, now: Instant, violation: Violation) -> Event {
        self.abort(now, violation.abort());
        Event::Violated(violation)
    }

    fn close(&mut self, now: Instant) {
        self.state = if self.eof { State::Closed } else { State::Closing };
        self.deadline = Some(now + self.timeouts.linger);
        self.input = BytesMut::new();
        self.data = Bytes::new();
    }

    // ---- Outputs.

    /// What is to be written; tell [`Machine::handle_written`] how much of it was.
    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    /// So much of the output has been written.
    pub(super) fn handle_written(&mut self, length: usize) {
        self.output.advance(length.min(self.output.len()));
        self.output_begun = !self.output.is_empty();
    }

    /// Whether the output begins with the rest of a PDU of which a part has been written.
    pub(super) fn is_within_output(&self) -> bool {
        self.output_begun
    }

    /// When [`Machine::handle_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// What is to become of the connection once the output is written, if it has come to an end.
    pub(super) fn ending(&self) -> Option<Ending> {
        match self.state {
            State::Closing => Some(Ending::HalfClose),
            State::Closed => Some(Ending::Close),
            _ => None,
        }
    }

    /// The next event, decoded from the input as far as necessary.
    pub(super) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        self.received_anything |= !self.input.is_empty();
        loop {
            if matches!(self.state, State::AwaitingDecision | State::ReleaseIndicated | State::Closing | State::Closed)
            {
                return None;
            }
            match self.next_pdv() {
                Ok(Some(pdv)) => return Some(Event::Pdv(pdv)),
                Ok(None) => {}
                Err(violation) => return Some(self.violated(now, violation)),
            }
            match self.next_pdu() {
                Ok(Some((kind, content))) => {
                    if let Some(event) = self.apply(now, kind, content) {
                        return Some(event);
                    }
                }
                Ok(None) if self.eof => {
                    self.state = State::Closed;
                    return Some(Event::Closed { received_anything: self.received_anything });
                }
                Ok(None) => return None,
                Err(violation) => return Some(self.violated(now, violation)),
            }
        }
    }

    fn check_pdvs(&self, mut content: Bytes) -> Result<(), Violation> {
        while let Some(pdv) = pdu::next_pdv(&mut content)? {
            if !self.contexts.iter().any(|context| context.id == pdv.context) {
                return Err(Violation::ContextNotAccepted(pdv.context));
            }
        }
        Ok(())
    }

    /// The next fragment of the P-DATA-TF at hand. Fragments that come after our A-RELEASE-RQ are for nobody.
    fn next_pdv(&mut self) -> Result<Option<Pdv>, Violation> {
        while let Some(pdv) = pdu::next_pdv(&mut self.data)? {
            if self.state == State::Established {
                return Ok(Some(pdv));
            }
        }
        Ok(None)
    }

    /// Takes the next whole PDU off the input. Its head is judged as soon as it is there.
    fn next_pdu(&mut self) -> Result<Option<(PduKind, Bytes)>, Violation> {
        let first_words = self.state == State::AwaitingRequest || self.state == State::AwaitingAnswer;
        if first_words
            && self.input.len() >= HEAD
            && let Some(violation) = pdu::other_protocol(&self.input)
        {
            return Err(violation);
        }
        let Some(head) = Head::read(&self.input, self.terms.max_pdu)? else { return Ok(None) };
        self.check_expected(head.kind)?;
        if self.input.len() < HEAD + head.length {
            return Ok(None);
        }
        self.input.advance(HEAD);
        Ok(Some((head.kind, self.input.split_to(head.length).freeze())))
    }

    /// Which PDU may come in which state (PS3.8 9.2.3).
    fn check_expected(&self, kind: PduKind) -> Result<(), Violation> {
        use PduKind as P;
        let (expected, when): (&[PduKind], _) = match self.state {
            State::AwaitingRequest => (&[P::AssociateRq], "before an association was requested"),
            State::AwaitingAnswer => {
                (&[P::AssociateAc, P::AssociateRj], "instead of an answer to the request for an association")
            }
            State::Established => (&[P::Data, P::ReleaseRq], "while the association was established"),
            State::Releasing => (&[P::Data, P::ReleaseRq, P::ReleaseRp], "while the association was being released"),
            State::ReleaseCollision => (&[P::ReleaseRp], "while the association was being released"),
            State::AwaitingDecision | State::ReleaseIndicated | State::Closing | State::Closed => (&[], "out of turn"),
        };
        if kind == P::Abort || expected.contains(&kind) {
            Ok(())
        } else {
            Err(Violation::UnexpectedPdu { pdu: kind, when })
        }
    }

    /// Applies a PDU that may come in this state.
    fn apply(&mut self, now: Instant, kind: PduKind, content: Bytes) -> Option<Event> {
        match kind {
            PduKind::AssociateRq => Some(self.requested(now, &content)),
            PduKind::AssociateAc => Some(self.accepted(now, &content)),
            PduKind::AssociateRj => {
                self.state = State::Closed;
                Some(Event::Rejected(pdu::read_rejection(&content)))
            }
            // All of its PDVs are judged before the first is handed on: a last fragment with garbage behind it completes
            // nothing.
            PduKind::Data => match self.check_pdvs(content.clone()) {
                Ok(()) => {
                    self.data = content;
                    None
                }
                Err(violation) => Some(self.violated(now, violation)),
            },
            PduKind::ReleaseRq if self.state == State::Established => {
                self.state = State::ReleaseIndicated;
                Some(Event::ReleaseRequested)
            }
            // Collision: the requestor answers at once (AR-9), the acceptor after the reply to its own (AR-8).
            PduKind::ReleaseRq => {
                if self.role == Role::Requestor {
                    self.output.extend_from_slice(&pdu::RELEASE_RP);
                }
                self.state = State::ReleaseCollision;
                None
            }
            PduKind::ReleaseRp => {
                if self.state == State::ReleaseCollision && self.role == Role::Acceptor {
                    self.output.extend_from_slice(&pdu::RELEASE_RP);
                    self.close(now);
                } else {
                    self.state = State::Closed;
                }
                Some(Event::Released)
            }
            PduKind::Abort => {
                self.state = State::Closed;
                Some(Event::Aborted(pdu::read_abort(&content)))
            }
        }
    }

    fn requested(&mut self, now: Instant, content: &[u8]) -> Event {
        match AssociateRequest::read(content) {
            Ok(request) => {
                self.state = State::AwaitingDecision;
                let request = Arc::new(request);
                self.request = Some(Arc::clone(&request));
                Event::Requested(request)
            }
            Err(Unacceptable::Violation(violation)) => self.violated(now, violation),
            Err(Unacceptable::Rejected { rejection, calling, called }) => {
                self.turn_away(now, rejection);
                Event::Refused { rejection, calling, called }
            }
        }
    }

    fn accepted(&mut self, now: Instant, content: &[u8]) -> Event {
        let accept = match AssociateAccept::read(content) {
            Ok(accept) => accept,
            Err(violation) => return self.violated(now, violation),
        };
        let Some(request) = self.request.take() else { return Event::Accepted };
        let answers: Vec<_> = request.contexts.iter().map(|proposed| credible(proposed, &accept.contexts)).collect();
        self.settle(&request, &answers, accept.max_pdu);
        self.roles = negotiation::credible_roles(&request.roles, &accept.roles);
        self.operations = accept.operations(&request);
        match self.establish(now) {
            Ok(()) => Event::Accepted,
            Err(violation) => Event::Violated(violation),
        }
    }

    /// Notes what was agreed.
    fn settle(&mut self, request: &AssociateRequest, answers: &[ContextAnswer], peer_max_pdu: u32) {
        for proposed in &request.contexts {
            let answer = answers.iter().find(|answer| answer.id == proposed.id);
            match (answer.map(|answer| &answer.result), &proposed.abstract_syntax) {
                (Some(Ok(transfer_syntax)), Some(abstract_syntax)) => self.contexts.push(Context {
                    id: proposed.id,
                    abstract_syntax: abstract_syntax.clone(),
                    transfer_syntax: transfer_syntax.clone(),
                }),
                (Some(Err(refusal)), _) => self.refused.push((proposed.id, *refusal)),
                (_, _) => self.refused.push((proposed.id, ContextRefusal::NoReason)),
            }
        }
        // 0 means that the peer sets no limit; then, and where its limit is beyond ours, ours holds.
        self.peer_max_pdu = if peer_max_pdu == 0 { self.terms.max_pdu } else { peer_max_pdu.min(self.terms.max_pdu) };
    }

    fn establish(&mut self, now: Instant) -> Result<(), Violation> {
        if super::fragment::capacity(self.peer_max_pdu).is_none() {
            let violation = Violation::MaxPduTooSmall(self.peer_max_pdu);
            self.abort(now, violation.abort());
            return Err(violation);
        }
        self.state = State::Established;
        self.deadline = None;
        if self.input.is_empty() {
            // The negotiation's buffer goes back: most associations that are idle have never had another.
            self.input = BytesMut::new();
        }
        Ok(())
    }
}

/// The peer's answer to a context of ours. One that chooses what we did not propose is none.
fn credible(proposed: &super::associate::ProposedContext, answers: &[ContextAnswer]) -> ContextAnswer {
    let answer = answers.iter().find(|answer| answer.id == proposed.id);
    let result = match answer.map(|answer| answer.result.clone()) {
        Some(Ok(chosen)) if !proposed.transfer_syntaxes.contains(&chosen) => Err(ContextRefusal::NoReason),
        Some(result) => result,
        None => Err(ContextRefusal::NoReason),
    };
    ContextAnswer { id: proposed.id, result }
}
