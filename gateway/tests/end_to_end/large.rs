//! Instances in fragments, which may be larger than a length of 32 bits can say, one alone and several at once: memory
//! grows with neither. `make big` has the long form.

use std::path::Path;
use std::time::Duration;

use crate::support::gateway::Setup;
use crate::support::part10::data_sets;
use crate::support::stream::{Sent, send};
use crate::support::{Scratch, files_below};

const MIB: u64 = 1 << 20;
/// Enough for the system that the tests run on.
const SPARE: u64 = 2 << 30;

/// How many gibibytes the one instance has: 2, or what `make big` says.
fn gibibytes() -> u64 {
    std::env::var("WAYSTATION_BIG").ok().map_or(2, |number| number.parse().expect("WAYSTATION_BIG is a number of GiB"))
}

/// What is sent is on the disk twice: in the spool and in the folder where it is delivered.
fn check_room(folder: &Path, mebibytes: u64) {
    let room = nix::sys::statvfs::statvfs(folder).unwrap();
    let (free, needed) = (room.blocks_available() * room.fragment_size(), 2 * mebibytes * MIB + SPARE);
    assert!(
        free >= needed,
        "{} MiB are needed on the disk of {}, and {} are free: make room, or set WAYSTATION_BIG to fewer GiB",
        needed / MIB,
        folder.display(),
        free / MIB
    );
}

/// Sends instances of so many mebibytes at once, waits until they are delivered, and gives the gateway's peak of memory.
fn pass(instances: usize, mebibytes: u64) -> u64 {
    let scratch = Scratch::new();
    check_room(scratch.path(), mebibytes * u64::try_from(instances).unwrap());
    let folder = scratch.folder("folder");
    let mut gateway = Setup::new(scratch.folder("data")).with_folder("nas", &folder).start();
    let port = gateway.target().port;
    let start = waystation::clock::now();
    let sent: Vec<Sent> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..instances).map(|_| scope.spawn(|| send(port, mebibytes))).collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let received = start.elapsed();
    gateway.drained("nas", Duration::from_secs(1_800));
    let (delivered, peak) = (start.elapsed(), gateway.peak_memory());
    println!(
        "{instances} × {mebibytes} MiB: acknowledged after {received:.1?}, delivered after {delivered:.1?}, at most {} MiB resident",
        peak / MIB
    );
    let mut there: Vec<Sent> = data_sets(&files_below(&folder))
        .into_iter()
        .map(|set| Sent { sop_instance: set.sop_instance, length: set.length, sha256: set.sha256 })
        .collect();
    let mut sent = sent;
    let key = |one: &Sent| one.sop_instance.clone();
    there.sort_by_key(key);
    sent.sort_by_key(key);
    assert_eq!(there, sent);
    peak
}

#[test]
fn an_instance_in_fragments_of_any_size_passes_in_less_than_64_mib_of_memory() {
    let peak = pass(1, gibibytes() * 1_024);
    assert!(peak <= 64 * MIB, "{} MiB resident at the peak", peak / MIB);
}

#[test]
fn large_instances_over_eight_associations_at_once_pass_in_less_than_128_mib_of_memory() {
    let peak = pass(8, gibibytes() * 1_024 / 16);
    assert!(peak <= 128 * MIB, "{} MiB resident at the peak", peak / MIB);
}
