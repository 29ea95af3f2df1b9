//! Carries what the spool holds to where it belongs, for as long as that takes.
//!
//! # Promises
//!
//! - One destination never holds up another: each has a worker, a circuit and a queue of its own.
//! - Deliveries go in the order (priority, due, arrival). An instance that fails is due again later and lets the others
//!   pass; a destination that fails keeps its whole queue as it is and is tried again after a growing, jittered delay.
//!   Whose failure it is, the destination's, the instance's or this box's, is decided in one place: `worker`, by
//!   [`verdict`].
//! - It never gives up: transient failures are retried for ever. What can never succeed as things stand is parked with a
//!   sentence that says why and what to do; `waystation retry` brings it back.
//! - The last fragment of a data set leaves only after the whole payload has been read back and has matched its hash.
//!
//! # A worker
//!
//! ```text
//!            ┌────────────── circuit open: wait ◀─────────────┐
//!            ▼                                                │ the destination failed
//! wait for work ─▶ claim the best due ─▶ associate, if needed ─▶ send ─▶ answer ─▶ record
//!            ▲     └──────── as many of these at a time as the link and the archive have room for ───┘ │
//!            └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! An archive gets several associations at a time, as long as more comes through with them ([`width`]). After a failure it
//! is one again, until it has proved itself.
//!
//! A claim is a lease in memory and ends with its record. A process that dies in between sends the instance once more:
//! delivery is at least once, and the archive tells duplicates by their UID.
//!
//! # The parts
//!
//! - [`circuit`], [`verdict`], [`width`], [`stall`], [`lookout`], [`benefit`] and [`crate::retry`]: policy, pure, in virtual
//!   time; [`goodput`] and [`flow`]: what was measured;
//! - [`open`]: connection, TLS and association to a destination; [`cstore`]: one C-STORE; `stow`: STOW-RS;
//! - `pipeline`: several C-STORE on one association without waiting for the answers in between, where the archive agrees;
//! - `coerce`: what is read of an instance for a destination, with attributes changed where the configuration asks for it;
//! - `outgoing`: what leaves of it then: as it is stored, made smaller or converted;
//! - [`compact`]: a transfer syntax in which an instance is smaller, where the archive takes one, made ahead and kept;
//! - [`pace`]: what holds back what leaves, by [`crate::shaping`]; [`pacer`]: what looks after that;
//! - [`socket`]: what is asked of the system for a connection; [`wire`]: connections as others see them;
//! - [`folder`]: delivery into a folder; [`pump`]: from the disk to the wire; [`transcode`]: lossless conversion between
//!   the uncompressed transfer syntaxes;
//! - [`verify`]: the questions after a delivery, in a task of their own beside the worker;
//! - `beside`: whether connections still move, and whether a destination that was away can be reached again;
//! - `worker`: the loop above, one task per destination; `courier`: what it hands instances to; `out`: which of
//!   them are out; `records`: what is written down of that; `destination`: what others see of it.
//!
//! # Deliberately absent
//!
//! Nothing is deleted here. Nothing is known of how the instance came in.

mod archive;
pub mod benefit;
mod beside;
pub mod circuit;
mod coerce;
pub mod compact;
mod courier;
pub mod cstore;
mod delay;
mod destination;
pub mod flow;
pub mod folder;
pub mod goodput;
pub mod lookout;
pub mod open;
mod out;
mod outgoing;
pub mod pace;
pub mod pacer;
mod pipeline;
pub mod pump;
pub mod reach;
mod records;
pub mod socket;
pub mod stall;
mod stow;
pub mod tcp_info;
#[cfg(test)]
pub(super) mod tests;
pub mod transcode;
pub mod turns;
pub mod verdict;
pub mod verify;
pub mod width;
pub mod wire;
mod worker;

pub use coerce::Coercions;
pub use courier::{Route, Settings, StandIn};
pub use destination::{Activity, Destination, Gain, Health};
pub use stow::{Service, probe};
pub use worker::run;
