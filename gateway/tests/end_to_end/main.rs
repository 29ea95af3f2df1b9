//! The gateway between real peers: DCMTK, Orthanc, pynetdicom and dcmjs-dimse as modality and as archive.
//!
//! One binary for all of it, so that what only waits runs beside what works. `controls` runs the peers against each
//! other, without the gateway: when one of those fails, the harness is at fault and nothing else here means anything.

#![expect(clippy::print_stdout, reason = "tests tell what they measured")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the fault rigs use some of it that these do not")]
mod support;

mod battery;
mod coercion;
mod commitment;
mod controls;
mod door;
mod doors_tls;
mod every_file;
mod gigabyte;
mod kill9;
mod large;
mod load;
mod long_queue;
mod orthanc_web;
mod outage;
mod outstanding;
mod peers_in;
mod peers_out;
mod proof;
mod routing;
mod scus;
mod stow;
mod three_archives;
mod verification;
