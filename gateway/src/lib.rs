//! Waystation: a store-and-forward DICOM gateway for a clinic on a slow, lossy, often broken link.
//!
//! Modalities push studies to it as they would to a PACS. Each instance is made safe on the gateway's own disk before
//! the C-STORE response says Success, and is then carried to every destination for as long as that takes.
//!
//! The parts, in the direction in which an instance travels:
//!
//! - [`association`]: the DICOM upper layer (PS3.8), a protocol core without I/O, and the one transport that drives it;
//! - [`dimse`]: DIMSE messages (PS3.7): command sets, assembler, status codes;
//! - [`dataset`]: an iterative, bounded walk over data sets (PS3.5) and the Part 10 file format (PS3.10);
//! - [`pixels`]: the same data set with its pixels coded by an image codec, proved equal;
//! - [`routing`]: who gets an instance, and what goes first;
//! - [`receive`]: the services offered to modalities;
//! - [`codec`]: the image filter in front of the spool's compression;
//! - [`spool`]: the log, which is the truth, and its index;
//! - [`ledger`]: what happened to every instance, chained by hashes;
//! - [`forward`]: schedule, retry, delivery, verification;
//! - [`uplink`]: whether this box may have a way out again, as the kernel tells;
//! - [`inquiry`]: what archives were asked after a delivery, between the side that asks and the one that hears;
//! - [`control`]: what the outside may ask the running gateway;
//! - [`rescue`]: what can be done with the disk of a gateway that does not run.
//!
//! `receive` and `forward` do not know each other; both know the `spool`; the `spool` knows neither, nor the async
//! runtime, nor DICOM messages. `docs/architecture.md` holds the invariants and `tests/architecture.rs` checks them.

pub mod association;
pub mod clock;
pub mod codec;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dataset;
pub mod dimse;
pub mod durable;
pub mod forward;
pub mod inquiry;
pub mod ledger;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod phantom;
pub mod pixels;
pub mod receive;
pub mod rescue;
pub mod retry;
pub mod routing;
pub mod shaping;
pub mod spool;
pub mod tls;
pub mod uplink;
