//! The gateway on a real file system that loses power, fails or is full: promises 1, 2 and 10, by enumeration.
//!
//! `spool/crash_tests.rs` does the same on a disk in memory, faster and at every single operation. What runs here is the
//! real binary on a real kernel: ext4, its journal, the page cache, sockets.
//!
//! - `power_cut`: the power goes while a study comes in, on a disk whose cache is volatile ([`volatile`]);
//! - `calls`: every system call of a start, of receptions and of deliveries fails, or is the last one ([`injection`]);
//! - `small_disk`: a disk of 64 MiB is filled and emptied, ten times.
//!
//! All of them ask the same of every instance for which the sender saw 0000: it arrives, whole. How much is done is set
//! by the environment: `WAYSTATION_CUTS` and `WAYSTATION_FAULTS`.
//!
//! Mounts, loop devices and processes are taken away by a process of its own, even if this one is killed ([`janitor`]).
//! The disks need root.

#![expect(clippy::print_stdout, reason = "tests tell what they measured")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest of it")]
mod support;

mod calls;
mod disk;
mod injection;
mod janitor;
mod power_cut;
mod sent;
mod small_disk;
mod volatile;

/// A number from the environment, for tests that can do more of the same.
fn amount(variable: &str, default: u32) -> u32 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?} and should be a number")),
        Err(_) => default,
    }
}
