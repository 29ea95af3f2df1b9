//! An archive that is away or not who it says it is, and a gateway that is stopped and started.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::dcmtk::{Storescp, all_succeed, storescu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::data_sets;
use crate::support::pki::{Identity, Pki};
use crate::support::pynetdicom::{ResendingScu, Scp};
use crate::support::wire::Relay;
use crate::support::{PATIENCE, Scratch, phantom, until};

/// Long enough for the longest pause between two tries after an outage of seconds.
const RECOVERY: Duration = Duration::from_secs(180);
/// A service manager gives a service about this long.
const STOP: Duration = Duration::from_secs(60);

fn wait_for_arrival(gateway: &mut Gateway, archive: &Storescp, files: &[PathBuf]) {
    let counters = gateway.drained("archive", RECOVERY);
    assert_eq!(counters.parked, 0, "{}", gateway.status_text());
    assert_eq!(data_sets(&archive.files()), data_sets(files));
}

/// A clinic's link is away for a day; nobody looks after the box, which has the pauses between tries that it comes with.
#[test]
fn what_came_while_the_archive_was_away_is_delivered_when_it_comes_back() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let mut archive = Storescp::away(scratch.folder("archive"), Some(&pki.identity("archive")));
    let setup = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("localhost"))
        .tls(&pki.identity("gateway"))
        .without_compression("archive");
    let mut gateway = setup.start();
    let files = phantom::ct_series(&scratch.folder("series"), 50, 128);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    // All are queued, none is given up, and several tries fail before it comes back.
    gateway.counters_such_that("archive", RECOVERY, |counters| {
        (counters.undelivered, counters.delivered, counters.parked) == (50, 0, 0) && counters.failures >= 2
    });
    archive.come_back();
    wait_for_arrival(&mut gateway, &archive, &files);
}

/// The archive dies in the middle of a transfer, with half an instance written.
#[test]
fn an_archive_that_dies_in_the_middle_gets_everything_when_it_is_back() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let mut archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let setup = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("localhost"))
        .tls(&pki.identity("gateway"))
        .quick_retries()
        .without_compression("archive");
    let mut gateway = setup.start();
    let files = phantom::ct_series(&scratch.folder("series"), 60, 512);
    let mut sender = ResendingScu::start(&gateway.target(), &files, Duration::ZERO, RECOVERY);
    until("the first instances at the archive", PATIENCE, || {
        let count = archive.files().len();
        if count >= 5 { Ok(()) } else { Err(format!("{count} files; sender runs: {}", sender.is_running())) }
    });
    archive.go_away();
    sender.finish(PATIENCE);
    archive.come_back();
    wait_for_arrival(&mut gateway, &archive, &files);
}

/// An update, a reboot: whatever the modality was told is true afterwards, too.
#[test]
fn sigterm_in_the_middle_of_a_transfer_loses_nothing_and_ends_in_time() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let setup = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("localhost"))
        .tls(&pki.identity("gateway"))
        .quick_retries()
        .without_compression("archive");
    let gateway = setup.start();
    let setup = gateway.setup().clone();
    let files = phantom::ct_series(&scratch.folder("series"), 100, 512);
    let sender = ResendingScu::start(&gateway.target(), &files, Duration::ZERO, RECOVERY);
    until("the transfer to be under way", PATIENCE, || {
        let count = sender.acknowledged().len();
        if count >= 10 { Ok(()) } else { Err(format!("{count} instances")) }
    });
    let ended = gateway.terminate(STOP);
    assert!(ended.status.success(), "{}: {}", ended.status, ended.text());
    let mut gateway = setup.start();
    let seen = sender.finish(RECOVERY);
    assert_eq!(seen.iter().filter(|sent| sent.status == Some(0)).count(), files.len());
    wait_for_arrival(&mut gateway, &archive, &files);
}

/// A box is switched off with a full queue and nobody to deliver it to.
#[test]
fn a_restart_keeps_the_queue() {
    let scratch = Scratch::new();
    let mut archive = Storescp::away(scratch.folder("archive"), None);
    let mut gateway = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("127.0.0.1"))
        .quick_retries()
        .without_compression("archive")
        .start();
    let setup = gateway.setup().clone();
    let files = phantom::ct_series(&scratch.folder("series"), 30, 64);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    gateway.kill();
    gateway.start_again();
    gateway.counters_such_that("archive", PATIENCE, |counters| counters.undelivered == 30);
    let ended = gateway.terminate(STOP);
    assert!(ended.status.success(), "{}: {}", ended.status, ended.text());
    let mut gateway = setup.start();
    gateway.counters_such_that("archive", PATIENCE, |counters| counters.undelivered == 30);
    archive.come_back();
    wait_for_arrival(&mut gateway, &archive, &files);
}

/// Two gateways on one queue would deliver everything twice and lose the rest.
#[test]
fn a_second_start_on_the_same_data_directory_is_refused_with_a_sentence() {
    let scratch = Scratch::new();
    let folder = scratch.folder("nas");
    let data = scratch.folder("data");
    let gateway = Setup::new(data.clone()).with_folder("nas", &folder).start();
    let second = Setup::new(data.clone()).with_folder("nas", &folder).try_start().finish(PATIENCE);
    assert!(!second.status.success(), "{}", second.text());
    assert!(second.text().contains(data.to_str().unwrap()), "the directory is named: {}", second.text());
    assert!(!second.text().contains("panicked"), "{}", second.text());
    let files = phantom::ct_series(&scratch.folder("series"), 1, 16);
    all_succeed(&storescu(&gateway.target(), &files), &files);
}

/// An archive that is not the one it should be, or does not take us for who we are: the gateway is given this identity,
/// the archive that one, and the status must hold one of these words.
fn nothing_leaves(gateway_shows: impl Fn(&Pki, &Pki) -> Identity, archive_shows: impl Fn(&Pki, &Pki) -> Identity) {
    let scratch = Scratch::new();
    let (pki, other) = (Pki::new(scratch.path(), "pki"), Pki::new(scratch.path(), "other"));
    let archive = Scp::start(&scratch.folder("archive"), Some(&archive_shows(&pki, &other)));
    let relay = Relay::to(archive.port);
    let url = format!("dicoms://ARCHIVE@127.0.0.1:{}", relay.port);
    let setup = Setup::new(scratch.folder("data"))
        .with_destination("archive", &url)
        .tls(&gateway_shows(&pki, &other))
        .quick_retries();
    let mut gateway = setup.start();
    let files = phantom::ct_series(&scratch.folder("series"), 2, 512);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    until("a second try", RECOVERY, || {
        let tries = relay.connections();
        if tries >= 2 { Ok(()) } else { Err(format!("{tries} tries")) }
    });
    until("the status to say why", PATIENCE, || {
        let status = gateway.status_text();
        if status.to_lowercase().contains("certificate") { Ok(()) } else { Err(status) }
    });
    assert!(archive.stored().is_empty());
    let of_handshakes = 16 * 1024 * relay.connections();
    assert!(relay.sent() < of_handshakes, "{} bytes left over {} connections", relay.sent(), relay.connections());
    gateway.counters_such_that("archive", PATIENCE, |counters| {
        (counters.delivered, counters.undelivered + counters.parked) == (0, 2)
    });
}

/// A man in the middle with a certificate of his own authority.
#[test]
fn nothing_leaves_for_an_archive_of_another_authority() {
    nothing_leaves(|pki, _| pki.identity("gateway"), |pki, other| other.identity("archive").trusting(pki));
}

/// Another host of the same hospital, with a good certificate, where the archive should be.
#[test]
fn nothing_leaves_for_an_archive_with_another_name() {
    nothing_leaves(|pki, _| pki.identity("gateway"), |pki, _| pki.for_another_host());
}

/// A certificate that nobody renewed.
#[test]
fn nothing_leaves_for_an_archive_whose_certificate_has_expired() {
    nothing_leaves(|pki, _| pki.identity("gateway"), |pki, _| pki.expired());
}

/// The archive does not know our authority: the handshake fails on its side.
#[test]
fn nothing_leaves_for_an_archive_that_refuses_our_certificate() {
    nothing_leaves(|pki, other| other.identity("gateway").trusting(pki), |pki, _| pki.identity("archive"));
}

/// An archive whose TLS has been switched off: there is no plain fallback.
#[test]
fn nothing_leaves_for_an_archive_that_speaks_without_tls() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), None);
    let relay = Relay::to(archive.port);
    let url = format!("dicoms://ARCHIVE@127.0.0.1:{}", relay.port);
    let gateway = Setup::new(scratch.folder("data"))
        .with_destination("archive", &url)
        .tls(&pki.identity("gateway"))
        .quick_retries()
        .start();
    let files = phantom::ct_series(&scratch.folder("series"), 1, 512);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    until("a try", RECOVERY, || if relay.sent() > 0 { Ok(()) } else { Err("none".to_owned()) });
    until("the status to say why", RECOVERY, || {
        let status = gateway.status_text();
        if status.contains("TLS") { Ok(()) } else { Err(status) }
    });
    assert!(archive.files().is_empty());
    assert!(relay.sent() < 16 * 1024 * relay.connections(), "{} bytes left", relay.sent());
    assert!(archive.log().contains("rror") || !archive.log().contains("Received Store Request"), "{}", archive.log());
}
