//! The door over TLS: versions and ciphers, certificates of every kind, the wrong port, and files that change while the
//! gateway runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::dcmtk::{Storescp, Target, all_succeed, echoscu, storescu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::pki::{Identity, Pki};
use crate::support::process::Process;
use crate::support::pynetdicom::ResendingScu;
use crate::support::{PATIENCE, Scratch, phantom, until};

const NEW_CERTIFICATES: &str = "new certificates are in use from the next connection on";

/// A gateway with a door for TLS and one without.
struct Door {
    scratch: Scratch,
    pki: Pki,
    gateway: Gateway,
    /// The files of the gateway.
    own: Identity,
    crl: PathBuf,
}

impl Door {
    fn open(policy: &str) -> Self {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let own = pki.identity("gateway");
        let crl = scratch.path().join("crl.pem");
        std::fs::write(&crl, pki.revocation_list(1, &[REVOKED])).unwrap();
        let setup = Setup::new(scratch.folder("data")).with_folder("nas", &scratch.folder("nas")).tls(&own);
        let setup = setup.flags(["--tls-client-certificates", policy, "--crl", crl.to_str().unwrap()]);
        Self { gateway: setup.start(), scratch, pki, own, crl }
    }

    fn plain_port(&self) -> u16 {
        self.gateway.target().port
    }

    fn tls_port(&self) -> u16 {
        self.gateway.tls_target(&self.own).port
    }

    fn echo(&self, shown: &Identity) -> Result<(), String> {
        echoscu(&self.gateway.tls_target(shown))
    }

    /// C-ECHO without a client certificate.
    fn echo_without_certificate(&self) -> bool {
        let mut command = Command::new("echoscu");
        command.args(["-v", "-aec", "WAYSTATION", "-to", "10", "-ta", "30", "-td", "30", "+tla", "+cf"]);
        command.arg(&self.own.ca).args(["-rc", "127.0.0.1", &self.tls_port().to_string()]);
        Process::run("echoscu", command, "", PATIENCE).status.success()
    }

    /// What `openssl s_client` tells of a handshake with these options.
    fn handshake(&self, shown: &Identity, options: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", self.tls_port()), "-CAfile"]).arg(&self.own.ca);
        command.arg("-cert").arg(&shown.cert).arg("-key").arg(&shown.key).args(options);
        Process::run("openssl s_client", command, "", PATIENCE).text()
    }
}

const REVOKED: u64 = 4711;

/// PS3.15 B.12: nothing below TLS 1.2, and no cipher without authentication and forward secrecy.
#[test]
fn only_what_bcp_195_allows_is_spoken() {
    let door = Door::open("required");
    let modality = door.pki.identity("modality");
    for (options, spoken) in [
        (&["-tls1_2"][..], "New, TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384"),
        (&["-tls1_3"], "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384"),
        (&["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], "New, TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256"),
    ] {
        let told = door.handshake(&modality, options);
        assert!(told.contains(spoken), "{options:?}: {told}");
        assert!(told.contains("Verify return code: 0 (ok)"), "{options:?}: {told}");
    }
    for options in [
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..],
        &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"],
        &["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
    ] {
        let from = door.gateway.log().lines().count();
        let told = door.handshake(&modality, options);
        assert!(told.contains("Cipher is (NONE)"), "{options:?}: {told}");
        // It came to the gateway, and the gateway was who refused.
        assert!(told.contains("alert"), "{options:?}: {told}");
        door.gateway.says(from, "TLS handshake failed");
    }
    door.echo(&modality).unwrap();
}

#[test]
fn where_certificates_are_required_only_a_good_one_comes_in() {
    let door = Door::open("required");
    let other = Pki::new(door.scratch.path(), "other");
    door.echo(&door.pki.identity("modality")).unwrap();
    door.gateway.says(0, "association accepted");
    door.gateway.says(0, "subject=\"CN=modality\"");
    for (shown, why) in [
        (door.pki.expired(), "ended on 2021-01-01"),
        (other.identity("stranger").trusting(&door.pki), "an authority we do not trust"),
        (door.pki.numbered("revoked", REVOKED), "has been revoked by the authority"),
    ] {
        assert!(door.echo(&shown).is_err());
        door.gateway.says(0, why);
    }
    assert!(!door.echo_without_certificate());
    door.gateway.says(0, "showed no certificate");
    door.echo(&door.pki.identity("modality")).unwrap();
}

#[test]
fn where_certificates_are_optional_one_that_is_shown_must_be_good() {
    let door = Door::open("optional");
    assert!(door.echo_without_certificate());
    door.gateway.says(0, "subject=none");
    door.echo(&door.pki.identity("modality")).unwrap();
    assert!(door.echo(&door.pki.expired()).is_err());
    assert!(door.echo(&door.pki.numbered("revoked", REVOKED)).is_err());
}

#[test]
fn where_certificates_are_not_asked_for_anybody_comes_in() {
    let door = Door::open("none");
    assert!(door.echo_without_certificate());
    door.echo(&door.pki.numbered("revoked", REVOKED)).unwrap();
}

/// Everything that comes back before the connection is closed, which must be long before the time-out for associations.
fn answer(port: u16, hello: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection.write_all(hello).unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    answer
}

/// The two mistakes that are made everywhere, and what else comes to a port.
#[test]
fn who_speaks_something_else_is_told_apart_and_closed_at_once() {
    let door = Door::open("required");
    let (plain, tls) = (door.plain_port(), door.tls_port());

    let wrong = Target { port: plain, ..door.gateway.tls_target(&door.pki.identity("modality")) };
    assert!(echoscu(&wrong).is_err());
    let sentence = format!("127.0.0.1 speaks TLS to the plain port {plain}: set the device to port {tls}");
    door.gateway.says(0, &sentence);

    let wrong = Target { port: tls, ..door.gateway.target() };
    let told = echoscu(&wrong).unwrap_err();
    assert!(told.contains("Peer aborted Association"), "{told}");
    let sentence = format!(
        "127.0.0.1 speaks DICOM without TLS to the TLS port {tls}: switch TLS on at the device, or set it to port {plain}"
    );
    door.gateway.says(0, &sentence);

    let start_of_a_request = [1, 0, 0, 0, 0, 0xcd, 0, 1];
    assert_eq!(answer(tls, &start_of_a_request), [7, 0, 0, 0, 0, 4, 0, 0, 2, 0], "A-ABORT");

    for port in [plain, tls] {
        for (hello, name) in
            [(&b"GET / HTTP/1.1\r\nHost: box\r\n\r\n"[..], "HTTP"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH")]
        {
            assert_eq!(answer(port, hello), [7, 0, 0, 0, 0, 4, 0, 0, 2, 1], "A-ABORT");
            door.gateway.says(0, &format!("127.0.0.1 speaks {name} to port {port}"));
        }
    }
    echoscu(&door.gateway.target()).unwrap();
    door.echo(&door.pki.identity("modality")).unwrap();
}

/// A certificate that is renewed in the middle of a study.
#[test]
fn a_new_certificate_is_shown_while_an_association_goes_on() {
    let mut door = Door::open("required");
    let modality = door.pki.identity("modality");
    let files = phantom::ct_series(&door.scratch.folder("series"), 400, 16);
    let pace = Duration::from_millis(20);
    let mut sender = ResendingScu::start(&door.gateway.tls_target(&modality), &files, pace, PATIENCE * 3);
    let acknowledged = |sender: &ResendingScu, least: usize| {
        until("the sender to go on", PATIENCE, || match sender.acknowledged().len() {
            count if count >= least => Ok(count),
            count => Err(format!("{count} instances")),
        })
    };
    acknowledged(&sender, 10);

    door.pki.identity("renewed").replace(&door.own);
    door.gateway.reload(NEW_CERTIFICATES);
    let told = door.handshake(&modality, &[]);
    assert!(told.contains("CN = renewed") && told.contains("Verify return code: 0 (ok)"), "{told}");

    // Half a renewal changes nothing.
    let half = Pki::new(door.scratch.path(), "half").identity("half");
    std::fs::copy(&half.key, &door.own.key).unwrap();
    door.gateway.reload("is not the key of the certificate");
    until("the status to tell", PATIENCE, || match door.gateway.status_text() {
        text if text.contains("those from before stay in use") => Ok(()),
        text => Err(text),
    });
    let told = door.handshake(&modality, &[]);
    assert!(told.contains("CN = renewed"), "{told}");
    door.pki.identity("renewed again").replace(&door.own);
    door.gateway.reload(NEW_CERTIFICATES);
    assert!(!door.gateway.status_text().contains("those from before stay in use"));
    let told =
        door.gateway.all_lines().iter().filter(|line| line.contains("is not the key of the certificate")).count();
    assert_eq!(told, 1, "{}", door.gateway.log());

    assert!(sender.is_running(), "the association went on meanwhile");
    acknowledged(&sender, 20);
    let sent = sender.finish(PATIENCE * 3);
    assert_eq!(sent.len(), files.len(), "nothing had to be sent twice");
    assert!(sent.iter().all(|sent| sent.status == Some(0)));
    assert!(!door.gateway.log().contains("association ended early"), "{}", door.gateway.log());
}

#[test]
fn a_revocation_list_that_comes_later_keeps_the_next_association_out() {
    let mut door = Door::open("required");
    let (lost, other) = (door.pki.numbered("lost", 815), door.pki.identity("modality"));
    door.echo(&lost).unwrap();
    let files = phantom::ct_series(&door.scratch.folder("series"), 400, 16);
    let pace = Duration::from_millis(50);
    let sender = ResendingScu::start(&door.gateway.tls_target(&lost), &files, pace, PATIENCE * 3);
    until("it to send", PATIENCE, || match sender.acknowledged().len() {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    });
    std::fs::write(&door.crl, door.pki.revocation_list(2, &[REVOKED, 815])).unwrap();
    door.gateway.reload(NEW_CERTIFICATES);
    let ended = "because it would not be admitted any more: the certificate of the other side has been revoked";
    door.gateway.says(0, ended);
    assert!(door.echo(&lost).is_err());
    door.gateway.says(0, "TLS handshake failed: the certificate of the other side has been revoked by the authority");
    drop(sender);
    door.echo(&other).unwrap();

    // A list that nobody can read is no reason to let him in again, nor to keep everybody out.
    std::fs::write(&door.crl, "-----BEGIN X509 CRL-----\n").unwrap();
    door.gateway.reload("the new configuration cannot be used");
    assert!(door.echo(&lost).is_err());
    door.echo(&other).unwrap();
}

/// With both words and the time at which it began, the service manager knows when a reload is over (sd_notify(3)).
#[test]
fn the_service_manager_is_told_when_a_reload_begins_and_when_it_is_over() {
    let scratch = Scratch::new();
    let socket = scratch.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut message = [0; 512];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let setup = Setup::new(scratch.folder("data")).with_folder("nas", &scratch.folder("nas"));
    let mut gateway = setup.environment("NOTIFY_SOCKET", &socket).start();
    assert_eq!(told().trim_end(), "READY=1");
    gateway.reload("the certificates are those in use already");
    let reloading = told();
    assert!(reloading.contains("RELOADING=1\n") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert_eq!(told().trim_end(), "READY=1");
}

/// Nobody has to restart anything when our own certificate has ended, and the queue does not wait for the next try.
#[test]
fn a_destination_is_served_with_a_certificate_that_comes_while_the_gateway_runs() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), Some(&pki.identity("archive")));
    let own = pki.expired();
    let setup = Setup::new(scratch.folder("data")).with_destination("archive", &archive.url("127.0.0.1")).tls(&own);
    let mut gateway = setup.start();
    let files = phantom::ct_series(&scratch.folder("series"), 3, 16);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    gateway.counters_such_that("archive", PATIENCE, |counters| counters.failures > 0);
    assert_eq!(archive.files().len(), 0);
    pki.identity("gateway").replace(&own);
    gateway.reload(NEW_CERTIFICATES);
    assert_eq!(gateway.drained("archive", PATIENCE).delivered, 3);
    assert_eq!(archive.files().len(), 3);
}

#[test]
fn nothing_leaves_for_an_archive_that_has_been_revoked() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let archive = Storescp::start(scratch.folder("archive"), Some(&pki.numbered("archive", REVOKED)));
    let crl = scratch.path().join("crl.pem");
    std::fs::write(&crl, pki.revocation_list(1, &[REVOKED])).unwrap();
    let setup = Setup::new(scratch.folder("data")).with_destination("archive", &archive.url("127.0.0.1"));
    let setup = setup.tls(&pki.identity("gateway")).quick_retries().flags(["--crl", crl.to_str().unwrap()]);
    let mut gateway = setup.start();
    let files = phantom::ct_series(&scratch.folder("series"), 3, 16);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    gateway.counters_such_that("archive", PATIENCE, |counters| counters.failures > 1);
    assert!(gateway.status_text().contains("has been revoked by the authority"), "{}", gateway.status_text());
    assert!(archive.files().is_empty() && !archive.log().contains("Association Received"), "{}", archive.log());
    std::fs::write(&crl, pki.revocation_list(2, &[])).unwrap();
    gateway.reload(NEW_CERTIFICATES);
    assert_eq!(gateway.drained("archive", PATIENCE).delivered, 3);
}
