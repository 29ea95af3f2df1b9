//! Scenarios in virtual time: pairs of cores and single cores fed with hand-made bytes; no sockets, no sleeps. Only
//! `transport` runs over pipes, with the runtime's clock paused.

mod door;
mod half_close;
mod handshake;
mod negotiation;
mod operations;
mod reading;
mod release;
mod roles;
mod states;
mod store;
mod timers;
mod transport;

use std::time::{Duration, Instant};

use bytes::BufMut;
use dicom_ul::pdu as ul;

use super::channel::{Channel, End, Happening, Indication};
use super::machine::Ending;
use super::negotiation::{Decision, Preference};
use super::settings::{AcceptorSettings, RequestorSettings};
use super::{AssociateRequest, Violation};
use crate::dimse::{CEcho, CStore, Command};
use crate::model::{Priority, Uid};

const VERIFICATION: &str = "1.2.840.10008.1.1";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const SECOND: Duration = Duration::from_secs(1);

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// Context 1 for verification, context 3 for CT.
fn requestor_settings() -> RequestorSettings {
    RequestorSettings::new("CT1".parse().unwrap(), "WAYSTATION".parse().unwrap())
        .propose(&uid(VERIFICATION), [uid(IMPLICIT)])
        .propose(&uid(CT), [uid(IMPLICIT), uid(EXPLICIT)])
}

fn an_echo(message_id: u16) -> Command {
    Command::CEcho(CEcho { message_id, sop_class_uid: Some(uid(VERIFICATION)) })
}

fn a_store(message_id: u16) -> Command {
    Command::CStore(CStore {
        message_id,
        sop_class_uid: uid(CT),
        sop_instance_uid: uid("1.2.3.4"),
        priority: Priority::Routine,
        move_originator: None,
    })
}

/// The usual decision.
fn accept_all(request: &AssociateRequest) -> Decision {
    Decision::accept_storage(request, &Preference::default())
}

/// One core, fed by hand.
struct Side {
    channel: Channel,
    now: Instant,
    decide: fn(&AssociateRequest) -> Decision,
}

impl Side {
    fn acceptor(settings: &AcceptorSettings) -> Self {
        let now = crate::clock::now();
        Self { channel: Channel::acceptor(settings, now), now, decide: accept_all }
    }

    fn requestor(settings: &RequestorSettings) -> Self {
        let now = crate::clock::now();
        Self { channel: Channel::requestor(settings, now), now, decide: accept_all }
    }

    /// Bytes from the peer, and what happens then; requests for associations are decided upon.
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<Happening> {
        let mut happened = Vec::new();
        loop {
            self.channel.handle_waiting(self.now);
            let mut input = self.channel.input();
            let length = input.remaining_mut().min(bytes.len());
            let (piece, rest) = bytes.split_at(length);
            input.put_slice(piece);
            bytes = rest;
            happened.extend(self.channel.handle_input(self.now, length).map(Happening::Ended));
            happened.extend(self.poll());
            if bytes.is_empty() {
                return happened;
            }
        }
    }

    fn feed_one_by_one(&mut self, bytes: &[u8]) -> Vec<Happening> {
        bytes.chunks(1).flat_map(|byte| self.feed(byte)).collect()
    }

    fn eof(&mut self) -> Vec<Happening> {
        self.channel.handle_eof();
        self.poll()
    }

    fn poll(&mut self) -> Vec<Happening> {
        let mut happened = Vec::new();
        while let Some(happening) = self.channel.poll_event(self.now) {
            if let Happening::Requested(request) = &happening {
                let end = self.channel.decide(self.now, &(self.decide)(request));
                happened.extend(end.map(Happening::Ended));
            }
            happened.push(happening);
        }
        happened
    }

    /// Lets time pass until the next time-out, which must be there, and tells how it ended, if it did.
    fn run_to_timeout(&mut self) -> Option<End> {
        self.channel.handle_waiting(self.now);
        self.now = self.channel.deadline().expect("a time-out runs");
        self.channel.handle_timeout(self.now)
    }

    /// What the core has to say to the peer, as bytes.
    fn take_output(&mut self) -> Vec<u8> {
        let output = self.channel.output().to_vec();
        self.channel.handle_written(output.len());
        output
    }

    /// What the core has to say to the peer, as PDUs, read by dicom-ul.
    fn take_pdus(&mut self) -> Vec<ul::Pdu> {
        let output = self.take_output();
        let mut rest = &output[..];
        std::iter::from_fn(|| ul::read_pdu(&mut rest, 1 << 20, true).unwrap()).collect()
    }
}

/// Two cores that talk to each other.
struct Pair {
    acceptor: Side,
    requestor: Side,
}

impl Pair {
    fn new(settings: &RequestorSettings) -> Self {
        Self::with(&AcceptorSettings::default(), settings)
    }

    fn with(acceptor: &AcceptorSettings, requestor: &RequestorSettings) -> Self {
        Self { acceptor: Side::acceptor(acceptor), requestor: Side::requestor(requestor) }
    }

    /// An established association.
    fn established() -> Self {
        let mut pair = Self::new(&requestor_settings());
        let (_, requestor) = pair.talk();
        assert_eq!(requestor, [Happening::Accepted]);
        pair
    }

    /// Carries what both sides have to say until both are silent; what happened at the acceptor, at the requestor.
    fn talk(&mut self) -> (Vec<Happening>, Vec<Happening>) {
        let mut happened = (Vec::new(), Vec::new());
        loop {
            let (up, down) = (self.requestor.take_output(), self.acceptor.take_output());
            if up.is_empty() && down.is_empty() {
                return happened;
            }
            if !up.is_empty() {
                happened.0.extend(self.acceptor.feed(&up));
            }
            if !down.is_empty() {
                happened.1.extend(self.requestor.feed(&down));
            }
        }
    }
}

/// The bytes of a PDU of this type.
fn pdu(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 0][..], &length, content].concat()
}

/// The bytes of an item or sub-item.
fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind, 0][..], &length, value].concat()
}

/// The bytes of a presentation context item as proposed.
fn context(id: u8, abstract_syntax: &str, transfer_syntaxes: &[&str]) -> Vec<u8> {
    let mut value = vec![id, 0, 0, 0];
    value.extend(item(0x30, abstract_syntax.as_bytes()));
    value.extend(transfer_syntaxes.iter().flat_map(|uid| item(0x40, uid.as_bytes())));
    item(0x20, &value)
}

/// A request that can be spoiled.
struct Request {
    version: u16,
    called: [u8; 16],
    calling: [u8; 16],
    application_context: Vec<u8>,
    contexts: Vec<u8>,
    user: Vec<u8>,
    tail: Vec<u8>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            version: 1,
            called: *b"WAYSTATION      ",
            calling: *b"CT1             ",
            application_context: item(0x10, b"1.2.840.10008.3.1.1.1"),
            contexts: [context(1, VERIFICATION, &[IMPLICIT]), context(3, CT, &[IMPLICIT, EXPLICIT])].concat(),
            user: item(0x51, &16384_u32.to_be_bytes()),
            tail: Vec::new(),
        }
    }
}

impl Request {
    /// The widest that a good modality makes: as many contexts as there can be, each with as many transfer syntaxes as
    /// the standard has.
    fn widest() -> Self {
        let transfer_syntaxes: Vec<String> = (0..63).map(|n| format!("1.2.840.10008.1.2.4.{}", 100 + n)).collect();
        let transfer_syntaxes: Vec<&str> = transfer_syntaxes.iter().map(String::as_str).collect();
        let proposed = |n: u8| context(n * 2 + 1, "1.2.840.10008.5.1.4.1.1.481.22", &transfer_syntaxes);
        Self { contexts: (0..128).flat_map(proposed).collect(), ..Self::default() }
    }

    fn content(&self) -> Vec<u8> {
        let version = self.version.to_be_bytes();
        let user = item(0x50, &self.user);
        let fixed = [&version[..], &[0, 0], &self.called, &self.calling, &[0; 32]].concat();
        [fixed, self.application_context.clone(), self.contexts.clone(), user, self.tail.clone()].concat()
    }

    fn bytes(&self) -> Vec<u8> {
        pdu(1, &self.content())
    }
}

/// The bytes of a PDV.
fn pdv(context: u8, header: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 2).unwrap().to_be_bytes();
    [&length[..], &[context, header], data].concat()
}

const COMMAND: u8 = 1;
const LAST: u8 = 2;

/// An acceptor with an established association, what it had to say taken away.
fn established_acceptor() -> Side {
    let mut side = Side::acceptor(&AcceptorSettings::default());
    side.feed(&Request::default().bytes());
    assert!(matches!(side.take_pdus()[..], [ul::Pdu::AssociationAC(_)]));
    side
}

/// What was requested.
fn the_request(happened: &[Happening]) -> &AssociateRequest {
    let requested = happened.iter().find_map(|happening| match happening {
        Happening::Requested(request) => Some(request),
        _ => None,
    });
    requested.expect("an association was requested")
}

/// How it ended; nothing may happen after the end.
fn the_end(happened: &[Happening]) -> &End {
    let ends: Vec<_> = happened.iter().filter(|happening| matches!(happening, Happening::Ended(_))).collect();
    match (&ends[..], happened.last()) {
        ([Happening::Ended(end)], Some(Happening::Ended(_))) => end,
        _ => panic!("one end, at the end: {happened:?}"),
    }
}

fn indication(indication: Indication) -> Happening {
    Happening::Indication(indication)
}

/// Asserts that the last thing said was an A-ABORT of this source and reason, and that the connection is half-closed.
fn assert_aborts(side: &mut Side, source: u8, reason: u8) {
    let output = side.take_output();
    assert_eq!(output[output.len() - 10..], [7, 0, 0, 0, 0, 4, 0, 0, source, reason]);
    assert_eq!(side.channel.ending(), Some(Ending::HalfClose));
    assert_eq!(side.feed(b"whatever still comes is thrown away"), []);
    side.eof();
    assert_eq!(side.channel.ending(), Some(Ending::Close));
}

/// The violation that ended it.
fn the_violation(happened: &[Happening]) -> Violation {
    match the_end(happened) {
        End::Violation(violation) => violation.clone(),
        end => panic!("no violation: {end:?}"),
    }
}
