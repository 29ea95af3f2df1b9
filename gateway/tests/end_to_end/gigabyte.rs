//! One huge instance: memory does not grow with the data.

use std::time::Duration;

use crate::support::dcmtk::{Storescp, all_succeed, storescu};
use crate::support::gateway::Setup;
use crate::support::part10::data_sets;
use crate::support::pki::Pki;
use crate::support::{Scratch, phantom};

/// Frames of half a mebibyte: one gibibyte of pixel data.
const FRAMES: u32 = 2048;
const MEMORY: u64 = 64 << 20;

/// Receivers in the field take one to four times the size of the instance.
#[test]
fn an_instance_of_one_gibibyte_passes_in_less_than_64_mib_of_memory() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let file = scratch.path().join("huge.dcm");
    phantom::multi_frame(&file, FRAMES);
    let files = [file];
    let archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let setup = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("localhost"))
        .tls(&pki.identity("gateway"))
        .without_compression("archive");
    let mut gateway = setup.start();
    let start = waystation::clock::now();
    all_succeed(&storescu(&gateway.tls_target(&pki.identity("modality")), &files), &files);
    let received = start.elapsed();
    gateway.drained("archive", Duration::from_secs(300));
    let (delivered, peak) = (start.elapsed(), gateway.peak_memory());
    println!("acknowledged after {received:.1?}, delivered after {delivered:.1?}, at most {} MiB resident", peak >> 20);
    assert_eq!(data_sets(&archive.files()), data_sets(&files));
    assert!(peak < MEMORY, "{} MiB resident at the peak", peak >> 20);
}
