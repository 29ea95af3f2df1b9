//! Orthanc behind STOW-RS: HTTPS with client certificates and a password.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::controls::{paired_by_instance, taken_by};
use crate::support::dcmtk::all_succeed;
use crate::support::gateway::{Gateway, Setup};
use crate::support::orthanc::Orthanc;
use crate::support::orthanc_web::{OrthancWeb, PASSWORD, USER};
use crate::support::part10::data_sets;
use crate::support::pki::Pki;
use crate::support::pynetdicom::{self, same_elements};
use crate::support::{Scratch, phantom, studies, until};

const TRANSFER: Duration = Duration::from_secs(180);

/// A gateway that stores there, up to twenty instances in a request, and asks for them afterwards.
fn gateway_to(scratch: &Scratch, pki: &Pki, orthanc: &OrthancWeb) -> Gateway {
    gateway_with(scratch, pki, orthanc, "")
}

/// The same, with these lines in the table of the destination.
fn gateway_with(scratch: &Scratch, pki: &Pki, orthanc: &OrthancWeb, lines: &str) -> Gateway {
    let password = scratch.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let settings = format!(
        "[retry]\nfirst-delay = \"1s\"\nmax-delay = \"2s\"\n[to.archive]\nurl = \"{}\"\nuser = \"{USER}\"\n\
         password-file = {password:?}\nmax-instances = 20\nverify = \"query\"\nverify-after = \"1s\"\n{lines}",
        orthanc.url()
    );
    let setup = Setup::new(scratch.folder("data")).tls(&pki.identity("gateway"));
    setup.configured(&scratch.path().join("gateway.toml"), &settings).start()
}

fn start(scratch: &Scratch, pki: &Pki) -> OrthancWeb {
    OrthancWeb::start(&scratch.folder("orthanc"), &pki.identity("archive"))
}

/// What Orthanc takes by C-STORE it must take by STOW-RS, too.
fn that_orthanc_takes(files: &[PathBuf]) -> Vec<PathBuf> {
    let direct = Scratch::new();
    let orthanc = Orthanc::start(direct.path(), None);
    taken_by(&orthanc.target(None), files)
}

#[test]
fn orthanc_gets_every_element_by_stow_rs_and_a_second_time_nothing_is_added() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let orthanc = start(&scratch, &pki);
    let mut gateway = gateway_to(&scratch, &pki, &orthanc);
    let mut files = that_orthanc_takes(&studies::assortment());
    files.extend(phantom::ct_series(&scratch.folder("series"), 50, 64));
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    let counters = gateway.drained("archive", TRANSFER);
    assert_eq!(counters.parked, 0, "{}", gateway.parked_text());
    until("Orthanc to confirm all of them", TRANSFER, || {
        let status = gateway.status_json()?;
        let archive = &status["destinations"][0];
        let count = |name: &str| archive[name]["instances"].as_u64().and_then(|count| usize::try_from(count).ok());
        match (count("confirmed"), count("unverified")) {
            (Some(confirmed), Some(0)) if confirmed == files.len() => Ok(()),
            _ => Err(format!("{archive}; {}", gateway.log())),
        }
    });
    let arrived = orthanc.server.fetch_all(&scratch.folder("fetched"));
    assert_eq!(arrived.len(), files.len());
    same_elements(&paired_by_instance(&files, &arrived)).unwrap();

    // A gateway that has lost its memory sends all of it again.
    drop(gateway);
    let again = Scratch::new();
    let mut gateway = gateway_to(&again, &pki, &orthanc);
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    let counters = gateway.drained("archive", TRANSFER);
    let total = u64::try_from(files.len()).unwrap();
    assert_eq!((counters.delivered, counters.parked), (total, 0), "{}", gateway.parked_text());
    assert_eq!(orthanc.server.instances().len(), files.len());
}

/// Where the configuration says that it takes that.
#[test]
fn orthanc_gets_every_pixel_by_stow_rs_in_a_smaller_transfer_syntax() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let orthanc = start(&scratch, &pki);
    let mut gateway = gateway_with(&scratch, &pki, &orthanc, "compress = true\n");
    let files = phantom::ct_series(&scratch.folder("series"), 40, 256);
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    let counters = gateway.drained("archive", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (40, 0), "{}", gateway.parked_text());
    let arrived = orthanc.server.fetch_all(&scratch.folder("fetched"));
    // The first ones in any case: nothing is known of the link yet.
    assert!(data_sets(&arrived).iter().any(|arrived| arrived.transfer_syntax == "1.2.840.10008.1.2.4.80"));
    same_elements(&paired_by_instance(&files, &arrived)).unwrap();
}

#[test]
fn what_orthanc_refuses_is_parked_with_its_reason_and_the_rest_arrives() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let orthanc = start(&scratch, &pki);
    let mut gateway = gateway_to(&scratch, &pki, &orthanc);
    let files = phantom::ct_series(&scratch.folder("series"), 10, 16);
    without_series(&files[4]);
    all_succeed(&pynetdicom::send(&gateway.target(), &files), &files);
    let counters = gateway.drained("archive", TRANSFER);
    assert_eq!((counters.delivered, counters.parked), (9, 1), "{}", gateway.parked_text());
    assert_eq!(orthanc.server.instances().len(), 9);
    let parked = gateway.parked_text();
    assert!(parked.contains("HTTP ") && parked.contains("waystation retry archive"), "{parked}");
}

/// Makes another element of the Series Instance UID, so that there is none.
fn without_series(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.windows(6).position(|window| window == b"\x20\0\x0e\0UI").unwrap();
    bytes[at + 2] = 0x0f;
    std::fs::write(file, bytes).unwrap();
}
