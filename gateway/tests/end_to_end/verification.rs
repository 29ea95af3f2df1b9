//! Delivered and confirmed are two words: archives of other makes are asked whether they have what they took.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::asked::Asked;
use crate::support::dcmtk::{Outcome, storescu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::orthanc::Orthanc;
use crate::support::pki::Pki;
use crate::support::ports::free_port;
use crate::support::{Scratch, phantom, until};

/// For an answer on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A destination at `url` that is asked soon.
fn destination(url: &str, verify: &str) -> String {
    format!(
        "[retry]\nfirst-delay = \"200ms\"\nmax-delay = \"1s\"\n[to.archive]\nurl = \"{url}\"\nverify = \"{verify}\"\n\
         verify-after = \"1s\"\n"
    )
}

fn files(scratch: &Scratch, count: u32) -> Vec<PathBuf> {
    phantom::ct_series(&scratch.folder("series"), count, 16)
}

/// Sends the files, each of which must be answered with 0000.
fn sends(gateway: &Gateway, files: &[PathBuf]) {
    assert!(storescu(&gateway.target(), files).values().all(|outcome| *outcome == Outcome::Success));
}

/// Confirmed and unverified deliveries.
fn counts(gateway: &Gateway) -> Result<(u64, u64), String> {
    let status = gateway.status_json()?;
    let archive = &status["destinations"][0];
    let count = |name: &str| archive[name]["instances"].as_u64().ok_or_else(|| status.to_string());
    Ok((count("confirmed")?, count("unverified")?))
}

fn confirmed(gateway: &Gateway, count: u64) {
    until("all to be confirmed", LIMIT, || match counts(gateway) {
        Ok(counts) if counts == (count, 0) => Ok(()),
        other => Err(format!("{other:?}; {}", gateway.log())),
    });
}

#[test]
fn an_archive_commits_on_our_association_and_on_its_own_in_the_clear_and_over_tls() {
    for with_tls in [false, true] {
        for report in ["own", "other"] {
            let scratch = Scratch::new();
            let pki = Pki::new(scratch.path(), "pki");
            let port = free_port();
            let identity = pki.identity("archive");
            let options = ["--report", report, "--gateway", &port.to_string(), "--forget", "1"];
            let archive = Asked::start(with_tls.then_some(&identity), &options);
            let listen = if with_tls { "--listen-tls" } else { "--listen" };
            let data = scratch.folder("data");
            let file = data.with_extension("toml");
            let gateway = Setup::new(data)
                .configured(&file, &destination(&archive.url(), "commitment"))
                .tls(&pki.identity("gateway"))
                .flags([listen, &format!("127.0.0.1:{port}")])
                .start();
            sends(&gateway, &files(&scratch, 4));
            confirmed(&gateway, 4);
            // The one that was forgotten was delivered again.
            assert_eq!((archive.events("forgotten").len(), archive.events("stored").len()), (1, 4), "{report}");
            assert!(archive.events("reported").iter().all(|event| event["status"] == 0), "{report}");
            assert!(gateway.status_text().contains("of the delivered, 4"), "{}", gateway.status_text());
        }
    }
}

/// An archive that is called over TLS, and whose reports come in the clear: nothing proves that they are its own, but that
/// they know a transaction that was told to it alone.
#[test]
fn neither_a_stranger_nor_an_invented_transaction_confirms_anything() {
    let stranger = (&["--calling", "STRANGER"][..], None);
    let invented = (&["--invent"][..], Some(0x0115));
    for (options, status) in [stranger, invented, (&[][..], Some(0))] {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let identity = pki.identity("archive");
        let port = free_port().to_string();
        let options = [&["--report", "other", "--report-plain", "--gateway", &port], options].concat();
        let archive = Asked::start(Some(&identity), &options);
        let modality = "[modality.ct]\naet = \"MODALITY\"\naddresses = [\"127.0.0.1\"]\n";
        let gateway = Setup::new(scratch.folder("data"))
            .with_modalities(&format!("{}{modality}", destination(&archive.url(), "commitment")))
            .tls(&pki.identity("gateway"))
            .flags(["--listen", &format!("127.0.0.1:{port}")])
            .start();
        sends(&gateway, &files(&scratch, 2));
        let reported = until("a report", LIMIT, || match archive.events("reported").first() {
            Some(event) => Ok(event.clone()),
            None => Err(gateway.log()),
        });
        assert_eq!(reported["status"].as_u64(), status, "{options:?}");
        match status {
            Some(0) => confirmed(&gateway, 2),
            _ => assert_eq!(counts(&gateway), Ok((0, 2)), "{options:?}"),
        }
        // Of an archive that reports the door book knows nothing: it is no stranger who might be admitted.
        let door = gateway.ask(&["door"]).text();
        assert_eq!(door.contains("STRANGER"), status.is_none(), "{door}");
        assert!(!door.contains("ARCHIVE"), "{door}");
    }
}

#[test]
fn an_archive_is_queried_with_lists_and_without_and_gets_again_what_it_lost() {
    for lists in ["yes", "no"] {
        let scratch = Scratch::new();
        let archive = Asked::start(None, &["--lists", lists, "--forget", "1"]);
        let data = scratch.folder("data");
        let file = data.with_extension("toml");
        let gateway = Setup::new(data).configured(&file, &destination(&archive.url(), "query")).start();
        sends(&gateway, &files(&scratch, 6));
        confirmed(&gateway, 6);
        assert_eq!((archive.events("forgotten").len(), archive.events("stored").len()), (1, 6), "lists: {lists}");
    }
}

#[test]
fn an_archive_that_does_not_do_storage_commitment_is_told_of_in_words() {
    let scratch = Scratch::new();
    let archive = Asked::start(None, &["--no-commitment"]);
    let data = scratch.folder("data");
    let file = data.with_extension("toml");
    let gateway = Setup::new(data).configured(&file, &destination(&archive.url(), "commitment")).start();
    sends(&gateway, &files(&scratch, 2));
    until("the sentence", LIMIT, || {
        let text = gateway.status_text();
        let sentence = "ARCHIVE does not do storage commitment";
        if text.contains(sentence) && text.contains("verify = \"query\"") { Ok(()) } else { Err(text) }
    });
    until("everything to be delivered", LIMIT, || match counts(&gateway) {
        Ok((0, 2)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Orthanc is a storage commitment SCP that always reports on an association of its own, and answers queries.
#[test]
fn orthanc_commits_and_is_queried_in_the_clear_and_over_tls() {
    for with_tls in [false, true] {
        for verify in ["commitment", "query"] {
            let scratch = Scratch::new();
            let pki = Pki::new(scratch.path(), "pki");
            let identity = pki.identity("orthanc");
            let orthanc = Orthanc::start(&scratch.folder("orthanc"), with_tls.then_some(&identity));
            let data = scratch.folder("data");
            let file = data.with_extension("toml");
            let gateway = Setup::new(data)
                .configured(&file, &destination(&orthanc.url(), verify))
                .tls(&pki.identity("gateway"))
                .start();
            let target = if with_tls { gateway.tls_target(&identity) } else { gateway.target() };
            let description = json!({
                "AET": "WAYSTATION", "Host": "127.0.0.1", "Port": target.port, "AllowStorageCommitment": true,
                "AllowNAction": true, "AllowFind": true, "UseDicomTls": with_tls,
            });
            orthanc.server.send("PUT", "/modalities/gateway", &description);
            sends(&gateway, &files(&scratch, 3));
            confirmed(&gateway, 3);
            proved(&gateway, verify);
        }
    }
}

/// The receipt of the only study says that it is confirmed, and by what line of the ledger.
fn proved(gateway: &Gateway, verify: &str) {
    let studies = gateway.ask(&["studies", "--json"]).printed;
    let study: Value = serde_json::from_str(studies.lines().next().unwrap()).unwrap();
    let study = study["study-instance-uid"].as_str().unwrap();
    let receipt: Value = serde_json::from_str(&gateway.ask(&["receipt", study, "--json"]).printed).unwrap();
    assert_eq!(receipt["sentences"][0], "All that is owed is delivered and confirmed.");
    let instances = receipt["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 3);
    let method = if verify == "commitment" { "commitment" } else { "c-find" };
    for instance in instances {
        let lines = instance["ledger"].as_array().unwrap();
        let said = |line: &Value| line["line"].as_str().unwrap().to_owned();
        let confirms = |line: &String| line.contains("\"confirmed\"") && line.contains(&format!("\"{method}\""));
        assert_eq!(lines.iter().map(said).filter(confirms).count(), 1, "{instance}");
    }
    let page = gateway.ask(&["receipt", study]).printed;
    assert!(page.contains("confirmed "), "{page}");
}
