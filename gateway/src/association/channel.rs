//! One association as a value: the state machine, the message assembler and the pace of the peer as one core, without
//! I/O. The transport drives it; the tests drive pairs of it in virtual time.
//!
//! Order of use, as in the machine: an input or a command; then [`Channel::poll_event`] until `None`; then write
//! [`Channel::output`]; then, before waiting for bytes, [`Channel::handle_waiting`]; then wait until bytes come or
//! [`Channel::deadline`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::buf::Limit;
use bytes::{Bytes, BytesMut};

use super::associate::{AssociateRequest, RoleSelection};
use super::codes::{Abort, ContextRefusal, Rejection};
use super::error::Violation;
use super::fragment::{self, DataSet};
use super::machine::{Ending, Event, Machine};
use super::negotiation::{Context, Decision, Part, Service, service};
use super::pace::{Pace, Slowness};
use super::settings::{AcceptorSettings, RequestorSettings, Timeouts, bounded};
use crate::dimse::{Assembler, Command, Message, Response, StatusClass};

/// What the peer of an established association does. Shown without the bytes of a data set, which name the patient.
#[derive(Clone, PartialEq, Eq)]
pub enum Indication {
    /// It makes a request.
    Command {
        /// On which presentation context; one of the accepted.
        context: u8,
        /// The request.
        command: Command,
    },
    /// A piece of the data set of the last request, or of the last match of a query; never empty.
    Data(Bytes),
    /// That data set is complete.
    DataEnd,
    /// It answers our request. A query is answered once for each match, and then once more.
    Response {
        /// On which presentation context.
        context: u8,
        /// The answer.
        response: Response,
    },
    /// It has released the association; that has been confirmed, and nothing more will come.
    Released,
}

impl fmt::Debug for Indication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { context, command } => write!(f, "{} on context {context}", command.name()),
            Self::Data(data) => write!(f, "{} bytes of data", data.len()),
            Self::DataEnd => f.write_str("the end of the data set"),
            Self::Response { context, response } => {
                write!(f, "the answer to {} on context {context}: {}", response.name(), response.status)
            }
            Self::Released => f.write_str("the release of the association"),
        }
    }
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happening {
    /// The peer requests an association: [`Channel::decide`].
    Requested(Arc<AssociateRequest>),
    /// The association that we requested is established.
    Accepted,
    /// The peer does something on the established association.
    Indication(Indication),
    /// The association is over.
    Ended(End),
}

/// How an association ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// We released it.
    Released,
    /// The peer rejected our request.
    Rejected(Rejection),
    /// We rejected the peer's request.
    Refused {
        rejection: Rejection,
        calling: String,
        called: String,
    },
    Aborted(Abort),
    Violation(Violation),
    /// ARTIM, or the wait for the answer to our release.
    TimedOut,
    Idle,
    TooSlow {
        received: usize,
    },
    NoResponse(Duration),
    Closed {
        received_anything: bool,
    },
}

/// A command that makes no sense now, in words; a mistake of the caller.
pub(super) type OutOfTurn = &'static str;

/// A request of ours that is not answered, or not to its end.
#[derive(Debug, Clone, Copy)]
struct Outstanding {
    message_id: u16,
    /// It is a query, which has an answer for each match before its last one.
    is_query: bool,
    /// It is a C-STORE, of which several may be outstanding.
    is_store: bool,
}

#[derive(Debug)]
pub(super) struct Channel {
    machine: Machine,
    assembler: Assembler,
    pace: Pace,
    timeouts: Timeouts,
    /// Our requests that are not answered, in the order in which they were made.
    outstanding: Vec<Outstanding>,
    /// Until when an answer is waited for, and how long that is.
    response_due: Option<(Instant, Duration)>,
    /// The data set that is being sent.
    sending: Option<DataSet>,
}

impl Channel {
    fn new(machine: Machine, timeouts: &Timeouts) -> Self {
        Self {
            machine,
            assembler: Assembler::default(),
            pace: Pace::default(),
            timeouts: timeouts.clone(),
            outstanding: Vec::new(),
            response_due: None,
            sending: None,
        }
    }

    /// An acceptor whose connection was made at `connected`.
    pub(super) fn acceptor(settings: &AcceptorSettings, connected: Instant) -> Self {
        Self::new(Machine::acceptor(settings, connected), &settings.timeouts)
    }

    /// A requestor; its request is in the output.
    pub(super) fn requestor(settings: &RequestorSettings, now: Instant) -> Self {
        let request = AssociateRequest::from_settings(settings, bounded(settings.max_pdu));
        Self::new(Machine::requestor(request, settings.timeouts.clone(), now), &settings.timeouts)
    }

    // ---- Getters.

    pub(super) fn request(&self) -> Option<&AssociateRequest> {
        self.machine.request()
    }

    pub(super) fn contexts(&self) -> &[Context] {
        self.machine.contexts()
    }

    pub(super) fn refused(&self) -> &[(u8, ContextRefusal)] {
        self.machine.refused()
    }

    pub(super) fn roles(&self) -> &[RoleSelection] {
        self.machine.roles()
    }

    pub(super) fn peer_max_pdu(&self) -> u32 {
        self.machine.peer_max_pdu()
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// How many C-STORE of ours may be outstanding (PS3.7 D.3.3.3).
    pub(super) fn operations(&self) -> usize {
        self.machine.operations().into()
    }

    /// How many requests of ours are not answered.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    // ---- Inputs.

    /// Where to put bytes from the peer; then [`Channel::handle_input`].
    pub(super) fn input(&mut self) -> Limit<&mut BytesMut> {
        self.machine.input()
    }

    /// How many bytes of the peer can be held at most after what is read next.
    pub(super) fn next_held(&mut self) -> usize {
        self.machine.next_held()
    }

    /// So many bytes were put into the input.
    pub(super) fn handle_input(&mut self, now: Instant, length: usize) -> Option<End> {
        let slowness = self.pace.received(now, length, &self.timeouts)?;
        self.machine.is_established().then(|| self.too_slow(now, slowness))
    }

    pub(super) fn handle_eof(&mut self) {
        self.machine.handle_eof();
    }

    /// We begin to wait for bytes from the peer.
    pub(super) fn handle_waiting(&mut self, now: Instant) {
        if self.machine.is_established() && self.response_due.is_none() {
            let within_message = self.assembler.is_within_message() || self.machine.has_partial_input();
            self.pace.wait(now, within_message);
        }
    }

    /// The time is `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<End> {
        if let Some(event) = self.machine.handle_timeout(now) {
            return ended(event).err();
        }
        if !self.machine.is_established() {
            return None;
        }
        if let Some((_, patience)) = self.response_due.filter(|(due, _)| *due <= now) {
            self.machine.abort(now, Abort::BY_USER);
            return Some(End::NoResponse(patience));
        }
        self.pace.expired(now, &self.timeouts).map(|slowness| self.too_slow(now, slowness))
    }

    fn too_slow(&mut self, now: Instant, slowness: Slowness) -> End {
        self.machine.abort(now, Abort::NOT_SPECIFIED);
        match slowness {
            Slowness::Idle => End::Idle,
            Slowness::TooSlow { received } => End::TooSlow { received },
        }
    }

    // ---- Commands.

    /// Answers [`Happening::Requested`].
    pub(super) fn decide(&mut self, now: Instant, decision: &Decision) -> Option<End> {
        match decision {
            Decision::Accept(answers) => self.machine.accept(now, answers, Part::Scp).err().map(End::Violation),
            Decision::AcceptScp(answers) => self.machine.accept(now, answers, Part::Scu).err().map(End::Violation),
            Decision::Reject(rejection) => {
                let title = |ae: fn(&AssociateRequest) -> &crate::model::AeTitle| {
                    self.machine.request().map(|request| ae(request).to_string()).unwrap_or_default()
                };
                let (calling, called) = (title(|request| &request.calling_ae), title(|request| &request.called_ae));
                self.machine.reject(now, *rejection);
                Some(End::Refused { rejection: *rejection, calling, called })
            }
        }
    }

    /// Sends a request. Its data set, if it has one, follows by [`Channel::send_data`].
    pub(super) fn send_command(&mut self, context: u8, command: &Command) -> Result<(), OutOfTurn> {
        self.check_may_send(context)?;
        if !matches!(command, Command::CCancel { .. }) {
            let (message_id, is_store) = (command.message_id(), command.is_store());
            // Only C-STORE go side by side, whatever was agreed upon.
            let are_stores = is_store && self.outstanding.iter().all(|asked| asked.is_store);
            let most = if are_stores { self.operations() } else { 1 };
            if self.outstanding.len() >= most {
                return Err("a request was sent before the last one was answered");
            }
            if self.outstanding.iter().any(|asked| asked.message_id == message_id) {
                return Err("two requests that are outstanding have one message ID");
            }
            self.outstanding.push(Outstanding { message_id, is_query: matches!(command, Command::CFind(_)), is_store });
        }
        self.send_set(context, &command.encode());
        if command.has_content() {
            self.sending = self.capacity().map(|capacity| DataSet::new(context, capacity));
        }
        Ok(())
    }

    /// Puts a whole message into the output: a request with its data set. The peer may make requests of its own before
    /// it answers; their answers go behind this message.
    pub(super) fn send_message(&mut self, context: u8, command: &Command, data: &[u8]) -> Result<(), OutOfTurn> {
        self.send_command(context, command)?;
        let mut rest = data;
        loop {
            rest = self.send_data(context, rest, true)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends a response. Its data set, if it has one, follows by [`Channel::send_data`].
    pub(super) fn send_response(&mut self, context: u8, response: &Response) -> Result<(), OutOfTurn> {
        self.check_may_send(context)?;
        self.send_set(context, &response.encode());
        if response.has_content() {
            self.sending = self.capacity().map(|capacity| DataSet::new(context, capacity));
        }
        Ok(())
    }

    /// Takes from the front of `data`, which belongs to the request that was sent last, what has room in one PDU, and
    /// returns the rest: write the output and call again until nothing is left.
    pub(super) fn send_data<'a>(&mut self, context: u8, data: &'a [u8], last: bool) -> Result<&'a [u8], OutOfTurn> {
        let Some(data_set) = self.sending.as_mut().filter(|sending| sending.context() == context) else {
            return Err("data were sent without a request for them on the same presentation context");
        };
        let rest = data_set.push(data, last, |pdu| self.machine.send(pdu));
        if last && rest.is_empty() {
            self.sending = None;
        }
        Ok(rest)
    }

    /// Waits for the next answer to an outstanding request for `patience` at most, instead of the idle time-out.
    pub(super) fn await_response(&mut self, now: Instant, patience: Duration) -> Result<(), OutOfTurn> {
        if self.sending.is_some() {
            return Err("an answer is awaited before the data set was sent to its end");
        }
        if self.outstanding.is_empty() {
            return Err("an answer is awaited that was not asked for");
        }
        self.pace = Pace::default();
        self.response_due = Some((now + patience, patience));
        Ok(())
    }

    /// Asks for release; answered by [`End::Released`].
    pub(super) fn release(&mut self, now: Instant) -> Result<(), OutOfTurn> {
        if self.sending.is_some() {
            return Err("the association is to be released in the middle of a data set");
        }
        self.machine.release(now);
        Ok(())
    }

    /// Aborts.
    pub(super) fn abort(&mut self, now: Instant, abort: Abort) {
        self.machine.abort(now, abort);
    }

    /// Aborts for what the peer did.
    pub(super) fn violated(&mut self, now: Instant, violation: Violation) -> End {
        self.machine.abort(now, violation.abort());
        End::Violation(violation)
    }

    fn check_may_send(&self, context: u8) -> Result<(), OutOfTurn> {
        if !self.machine.is_established() {
            Err("the association is over")
        } else if self.sending.is_some() {
            Err("a command was sent in the middle of a data set")
        } else if !self.contexts().iter().any(|accepted| accepted.id == context) {
            Err("a command was sent on a presentation context that was not accepted")
        } else {
            Ok(())
        }
    }

    fn capacity(&self) -> Option<usize> {
        fragment::capacity(self.machine.peer_max_pdu())
    }

    fn send_set(&mut self, context: u8, set: &[u8]) {
        if let Some(capacity) = self.capacity() {
            self.machine.send(&fragment::command(context, set, capacity));
        }
    }

    // ---- Outputs.

    pub(super) fn output(&self) -> &[u8] {
        self.machine.output()
    }

    pub(super) fn handle_written(&mut self, length: usize) {
        self.machine.handle_written(length);
    }

    /// Whether an A-ABORT now would be taken for data: the middle of a PDU has been written.
    pub(super) fn is_within_output(&self) -> bool {
        self.machine.is_within_output()
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.machine.ending()
    }

    /// When [`Channel::handle_timeout`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let established = self.machine.is_established();
        let response = self.response_due.filter(|_| established).map(|(due, _)| due);
        let pace = self.pace.deadline(&self.timeouts).filter(|_| established);
        [self.machine.deadline(), response, pace].into_iter().flatten().min()
    }

    /// What happened next.
    pub(super) fn poll_event(&mut self, now: Instant) -> Option<Happening> {
        loop {
            if let Some(message) = self.assembler.poll() {
                return Some(self.message(now, message));
            }
            let pdv = match ended(self.machine.poll_event(now)?) {
                Err(end) => return Some(Happening::Ended(end)),
                Ok(Event::Requested(request)) => return Some(Happening::Requested(request)),
                Ok(Event::Pdv(pdv)) => pdv,
                Ok(Event::ReleaseRequested) if self.assembler.is_within_message() => {
                    return Some(Happening::Ended(self.violated(now, Violation::ReleaseWithinMessage)));
                }
                Ok(Event::ReleaseRequested) => {
                    self.machine.confirm_release(now);
                    return Some(Happening::Indication(Indication::Released));
                }
                Ok(_) => return Some(Happening::Accepted),
            };
            match self.assembler.push(pdv.context, pdv.is_command, pdv.is_last, pdv.data) {
                Ok(None) => {}
                Ok(Some(message)) => return Some(self.message(now, message)),
                Err(error) => return Some(Happening::Ended(self.violated(now, error.into()))),
            }
        }
    }

    /// A message, if it may come.
    fn message(&mut self, now: Instant, message: Message) -> Happening {
        let indication = match message {
            Message::Data(data) => Ok(Indication::Data(data)),
            Message::DataEnd => Ok(Indication::DataEnd),
            Message::Command { context, command } => {
                check_service(self.contexts(), context, &command).map(|()| Indication::Command { context, command })
            }
            Message::Response { context, response } => {
                self.answered(&response).map(|()| Indication::Response { context, response })
            }
        };
        match indication {
            Ok(indication) => Happening::Indication(indication),
            Err(violation) => Happening::Ended(self.violated(now, violation)),
        }
    }

    /// A response has come: it says to which request by Message ID Being Responded To (0000,0120), in any order (PS3.7
    /// D.3.3.3).
    fn answered(&mut self, response: &Response) -> Result<(), Violation> {
        let came = response.message_id;
        let Some(&Outstanding { message_id: expected, .. }) = self.outstanding.first() else {
            return Err(Violation::UnaskedResponse);
        };
        let asked = self.outstanding.iter().find(|asked| asked.message_id == came);
        let is_query = asked.ok_or(Violation::WrongMessageId { expected, came })?.is_query;
        self.response_due = None;
        if !is_query || response.status.class() != StatusClass::Pending {
            self.outstanding.retain(|asked| asked.message_id != came);
        }
        Ok(())
    }
}

/// Tells the events that end an association from the others.
fn ended(event: Event) -> Result<Event, End> {
    Err(match event {
        Event::Requested(_) | Event::Accepted | Event::Pdv(_) | Event::ReleaseRequested => return Ok(event),
        Event::Refused { rejection, calling, called } => End::Refused { rejection, calling, called },
        Event::Rejected(rejection) => End::Rejected(rejection),
        Event::Released => End::Released,
        Event::Aborted(abort) => End::Aborted(abort),
        Event::Violated(violation) => End::Violation(violation),
        Event::TimedOut => End::TimedOut,
        Event::Closed { received_anything } => End::Closed { received_anything },
    })
}

/// Nothing may be stored on a context for verification: no transfer syntax was negotiated for data. A C-ECHO on a
/// context for storage is let through, because some devices send it there.
fn check_service(contexts: &[Context], context: u8, command: &Command) -> Result<(), Violation> {
    match contexts.iter().find(|accepted| accepted.id == context) {
        Some(Context { abstract_syntax, .. }) if command.is_store() && service(abstract_syntax) != Service::Storage => {
            Err(Violation::WrongService { operation: command.name(), abstract_syntax: abstract_syntax.clone() })
        }
        _ => Ok(()),
    }
}
