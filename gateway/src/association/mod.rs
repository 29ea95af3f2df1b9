//! The DICOM upper layer (PS3.8 9): associations, as acceptor and as requestor.
//!
//! # What this module promises
//!
//! - **The protocol is pure.** `Channel` is one association as a value: bytes, time and commands go in,
//!   bytes, events and one time-out come out. It does no I/O and reads no clock, so every state is tested in virtual
//!   time. [`transport`], with its driver, is the only place that touches a stream.
//! - **Nothing is buffered on a peer's word.** The six bytes of a PDU head are checked against what the present state
//!   allows (type and length) before anything behind them is waited for; a bad head is answered with an A-ABORT at the
//!   sixth byte. An A-ASSOCIATE-RQ may have 256 KiB, a P-DATA-TF what we announced, everything else a few bytes. Memory
//!   is taken as bytes arrive, never by a declared length; for a request only as much as the caller has room for, and
//!   what was a request is freed as soon as it is decided.
//! - **Back-pressure.** One PDU is decoded at a time and one PDV handed on at a time; nothing is read from the stream
//!   while an event is unconsumed. The data of a PDV are handed on as [`bytes::Bytes`] without a copy.
//! - **Every wait ends.** ARTIM bounds the TLS handshake and the negotiation, an idle time-out the silence between
//!   messages, a minimum data rate the time within a message (so that a peer at one byte per second is no guest), a
//!   write time-out each PDU, a linger time the wait for the peer's end of the connection after an A-ABORT or
//!   A-ASSOCIATE-RJ. Time during which *we* did not read counts against nobody.
//! - **A truncated object never looks complete.** The last-fragment flag is written by exactly one call, the caller's
//!   `send_data(…, last = true)`; dropping an association in the middle closes it with an A-ABORT at best.
//! - **Every end has a sentence.** What the peer did wrong is a [`Violation`], what it told us an [`Abort`] or a
//!   [`Rejection`]; each says what it means and what to do.
//!
//! # The parts
//!
//! ```text
//!   transport, driver ── stream, tokio clock
//!      │ input, time      ▲ output, events, time-out
//!      ▼                  │
//!   channel: one association; commands and data, message pace, who may send what where
//!      ├── machine: PS3.8 9.2, both roles; framing, ARTIM, release, abort
//!      │      ├── pdu: heads, PDVs, the short PDUs
//!      │      └── associate, identity: A-ASSOCIATE-RQ and -AC
//!      ├── fragment: outgoing PDVs
//!      ├── pace: idle and minimum rate
//!      └── crate::dimse: messages
//!   negotiation: what is accepted, as a pure function of the request
//!   spoken: what a connection speaks, as a pure function of its first bytes
//! ```
//!
//! # The states (PS3.8 9.2.1)
//!
//! ```text
//!   acceptor   Sta2 AwaitingRequest ─RQ─▶ Sta3 AwaitingDecision ─accept─▶ Sta6 Established
//!                                                              └reject─▶ Sta13 Closing
//!   requestor  Sta5 AwaitingAnswer ─AC─▶ Sta6 Established;  ─RJ─▶ Sta1 Closed
//!   both       Sta6 ─RELEASE-RQ comes─▶ Sta8 ReleaseIndicated ─answer─▶ Sta13 Closing
//!              Sta6 ─release─▶ Sta7 Releasing ─RP─▶ Sta1 Closed
//!              Sta7 ─RELEASE-RQ comes (collision)─▶ Sta11 (requestor, answers at once) or Sta10 (acceptor, answers last)
//!              any  ─violation, time-out, abort─▶ A-ABORT ─▶ Sta13 Closing;  ─A-ABORT comes, connection ends─▶ Sta1
//! ```
//!
//! Sta4 (the connection is being opened) is the caller's; Sta9 and Sta12 are passed through without a stop, because
//! nobody here has anything to say between a release indication and its answer.
//!
//! # Asynchronous operations (PS3.7 D.3.3.3)
//!
//! As requestor, several C-STORE may be outstanding on an association if both sides have agreed to that; their answers come
//! in any order and are told apart by Message ID Being Responded To (0000,0120). Every other request goes alone. Answers that
//! come while something is sent are kept, no more than may be outstanding. As acceptor, a peer that asks for it may have a few
//! operations outstanding: they are read and performed one after the other, and wait in the network until then, so that
//! this costs no memory. What we ask of the requestor, we ask one by one.
//!
//! # dicom-ul
//!
//! A-ASSOCIATE-RQ and -AC are written by `dicom_ul::pdu::write_pdu`. They are not read by its reader: that fails on an
//! unknown item (PS3.8 9.3.1: "shall be ignored and skipped"), on an A-ASSOCIATE-AC that leaves out the transfer syntax
//! of a refused context, and on unknown reasons in A-ASSOCIATE-RJ and A-ABORT, all of which occur in the field, keeps
//! NUL padding, and copies every PDV. The tests hold our reader against it wherever both must agree.
//!
//! # What it deliberately does not do
//!
//! It knows no configuration and no list of modalities (the caller's `decide` does), performs no TLS (a stream is a
//! stream), retries nothing, and performs one operation at a time. SOP class extended negotiation (56H) is read over and
//! left out of the answer, which by PS3.7 D.3.3.5 and PS3.4 B.3.1 means the defaults of the storage service; common
//! extended negotiation (57H) has no answer (PS3.7 D.3.3.6), and is not needed: whatever a SOP class is related to, its
//! bytes are stored. A user identity is handed to `decide`; its secrets are not (see `identity`). Of role selection the
//! requestor's half is whatever the caller proposes, the acceptor's half is in [`negotiation`].

mod associate;
mod channel;
mod codes;
mod driver;
mod error;
mod fragment;
mod identity;
mod machine;
pub mod negotiation;
mod pace;
mod pdu;
mod settings;
mod spoken;
#[cfg(test)]
mod tests;
pub mod transport;

pub use associate::{AssociateRequest, ProposedContext, RoleSelection};
pub use channel::Indication;
pub use codes::{Abort, ContextRefusal, Rejection};
pub use error::{AcceptError, AssociationError, ConnectError, EchoError, Violation};
pub use identity::{IdentityForm, NoSuchForm, UserIdentity};
pub use negotiation::{Context, ContextAnswer, Decision, Preference};
pub use pdu::PduKind;
pub use settings::{AcceptorSettings, RequestorSettings, Timeouts};
pub use spoken::{FIRST_BYTES, Spoken, recognise};
pub use transport::{Association, Sent};
