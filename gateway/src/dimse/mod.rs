//! DIMSE messages (PS3.7): command sets, the assembler that puts messages together from fragments, and status codes.
//!
//! # What this module promises
//!
//! - It is pure: bytes in, values out. It reads no clock, does no I/O and knows no association; it is given fragments
//!   (presentation data values, PS3.8 E.2) and returns messages.
//! - A command set is held whole, because it is small: at most [`MAX_COMMAND_SET`] bytes and [`MAX_ELEMENTS`] elements,
//!   group 0000 only, Implicit VR Little Endian (PS3.7 6.3.1). It is parsed in one loop, without recursion and without
//!   trusting a declared length. A data set is never held: its fragments pass through as they came.
//! - A request that can be understood far enough to be answered is answered: an operation that is not offered is a
//!   [`Command::Unknown`], one with a missing or mistyped field a [`Command::Invalid`], and both know their refusal.
//!   What cannot even be answered is an error, which becomes an A-ABORT.
//! - A [`Command::CStore`], [`Command::NAction`] and [`Command::NEventReport`] hold valid UIDs, so nothing behind the door has to look again.
//! - The data sets that are part of a service and not an instance have a reader and a writer here, for both sides of it:
//!   [`commitment`] and [`query`]. They are pushed, bounded, and hold nothing but what matters of them.
//!
//! # The assembler's states
//!
//! ```text
//!              command fragment                 last command fragment, data set announced
//!   ┌──────┐ ───────────────────▶ ┌─────────┐ ───────────────────────────────────────────▶ ┌──────┐
//!   │ Idle │                      │ Command │                                               │ Data │─┐ data fragment
//!   └──────┘ ◀─────────────────── └─────────┘                                               └──────┘◀┘
//!       ▲      last, no data set                                                                │
//!       └───────────────────────────────────────────────────────────────────────────────────────┘ last data fragment
//! ```
//!
//! Everything else is an [`AssemblyError`]: data without a command, a command in the middle of data, a fragment on
//! another presentation context than the one that its message began on.
//!
//! # What it deliberately does not do
//!
//! It does not decide which service is allowed on which presentation context (`association::negotiation` does), does
//! not match a response to its request (the association does), and does not look into the data sets of instances.

mod assembler;
mod command;
mod command_set;
pub mod commitment;
mod normalized;
pub mod query;
mod response;
mod status;
mod writer;

pub use assembler::{Assembler, AssemblyError, Message};
pub use command::{CEcho, CFind, CStore, Command, MoveOriginator};
pub use command_set::{CommandSetError, MAX_COMMAND_SET, MAX_ELEMENTS, Tag};
pub use normalized::{NAction, NEventReport};
pub use response::Response;
pub use status::{Status, StatusClass, StoreOutcome};
