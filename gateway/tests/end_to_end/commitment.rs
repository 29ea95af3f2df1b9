//! Storage commitment (PS3.4 Annex J): a modality deletes its images on our word, so it must be true and it must come.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::support::committing::{Modality, Report};
use crate::support::dcmtk::{Outcome, Storescp, storescu};
use crate::support::gateway::Setup;
use crate::support::orthanc::Orthanc;
use crate::support::part10::DataSet;
use crate::support::pki::Pki;
use crate::support::ports::free_port;
use crate::support::{Scratch, phantom, until};

/// For a report on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const TRANSACTION: &str = "1.2.826.0.1.3680043.10.1542.77";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const MR: &str = "1.2.840.10008.5.1.4.1.1.4";

/// Short pauses, one modality with these settings more.
fn modality(more: &str) -> String {
    format!(
        "[retry]\nfirst-delay = \"200ms\"\nmax-delay = \"1s\"\n[modality.ct]\naet = \"MODALITY\"\n\
         addresses = [\"127.0.0.1\"]\n{more}\n"
    )
}

/// `commitment-to` for a listener on this port.
fn to(scheme: &str, port: u16) -> String {
    format!("commitment-to = \"{scheme}://MODALITY@127.0.0.1:{port}\"")
}

fn files(scratch: &Scratch, count: u32) -> Vec<PathBuf> {
    phantom::ct_series(&scratch.folder("series"), count, 16)
}

/// The usual way of most modalities: send, ask, wait on the same association. Once as most would like it, and once with TLS,
/// and with fragments of the least length that there is, in which a report goes as well.
#[test]
pub(crate) fn a_report_comes_on_the_association_on_which_it_was_asked_for() {
    for (with_tls, options) in [(false, &[][..]), (true, &["--implicit", "--roles", "--max-pdu", "8"])] {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let gateway = Setup::new(scratch.folder("data"))
            .with_folder("nas", &scratch.folder("nas"))
            .tls(&pki.identity("gateway"))
            .quick_retries()
            .start();
        let target = if with_tls { gateway.tls_target(&pki.identity("modality")) } else { gateway.target() };
        let modality = Modality::start(&target, None, options);
        modality.associates();
        let sent = modality.stores(&files(&scratch, 5));
        assert_eq!(modality.asks(TRANSACTION, &sent), 0);
        let expected = Report {
            on_own_association: true,
            transaction: TRANSACTION.to_owned(),
            event_type: 1,
            committed: sent.clone(),
            failed: Vec::new(),
        };
        assert_eq!(modality.report(TRANSACTION, LIMIT), expected);
        // Instances and further requests go on meanwhile and afterwards; what is not committed has its reason.
        let unknown = (CT.to_owned(), "1.2.3.4".to_owned());
        let conflict = (MR.to_owned(), sent[0].1.clone());
        let no_image = ("1.2.840.10008.1.1".to_owned(), sent[1].1.clone());
        let second = format!("{TRANSACTION}.2");
        assert_eq!(modality.asks(&second, &[unknown.clone(), sent[2].clone(), conflict.clone(), no_image.clone()]), 0);
        let report = modality.report(&second, LIMIT);
        assert_eq!((report.event_type, report.committed), (2, vec![sent[2].clone()]));
        assert_eq!(report.failed, [(unknown.1, 0x0112), (conflict.1, 0x0119), (no_image.1, 0x0122)]);
        until("nothing to be pending", LIMIT, || {
            let status = gateway.status_json()?;
            if status["commitment"]["pending"] == 0 { Ok(()) } else { Err(status.to_string()) }
        });
        modality.releases();
    }
}

/// The statuses of PS3.7 10.1.4.1.10, as a peer sees them.
#[test]
fn what_cannot_be_asked_for_is_refused_with_the_status_for_it() {
    let scratch = Scratch::new();
    let gateway = Setup::new(scratch.folder("data")).with_folder("nas", &scratch.folder("nas")).start();
    let modality = Modality::start(&gateway.target(), None, &[]);
    modality.associates();
    let one = [(CT.to_owned(), "1.2.3".to_owned())];
    let status = |command: serde_json::Value| modality.does(&command)["status"].as_u64().unwrap();
    let ask = |more: serde_json::Value| {
        let mut command = json!({"do": "ask", "transaction": TRANSACTION, "references": one});
        command.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status(command)
    };
    assert_eq!(ask(json!({"action": 2})), 0x0123, "no such action");
    assert_eq!(ask(json!({"instance": "1.2.3"})), 0x0112, "no such object instance");
    assert_eq!(ask(json!({"references": []})), 0x0115, "nothing asked for");
    assert_eq!(ask(json!({"references": vec![&one[0]; 20_001]})), 0x0213, "too much asked for");
    assert_eq!(ask(json!({"references": vec![&one[0]; 20_000]})), 0);
    assert_eq!(modality.report(TRANSACTION, LIMIT).failed.len(), 20_000);
    assert_eq!(modality.reports().len(), 1);
}

/// Most of the others: ask, release at once, and take the report as SCU of an association that we open.
#[test]
pub(crate) fn a_report_comes_on_an_association_of_its_own_with_the_roles_negotiated() {
    for with_tls in [false, true] {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let port = free_port();
        let gateway = Setup::new(scratch.folder("data"))
            .with_folder("nas", &scratch.folder("nas"))
            .tls(&pki.identity("gateway"))
            .with_modalities(&modality(&to(if with_tls { "dicoms" } else { "dicom" }, port)))
            .start();
        let identity = pki.identity("modality");
        let target = if with_tls { gateway.tls_target(&identity) } else { gateway.target() };
        let options: &[&str] = if with_tls { &["--listen-tls"] } else { &[] };
        let modality = Modality::start(&target, Some(port), options);
        modality.associates();
        let sent = modality.stores(&files(&scratch, 3));
        assert_eq!(modality.asks(TRANSACTION, &sent), 0);
        modality.releases();
        let report = modality.report(TRANSACTION, LIMIT);
        assert_eq!((report.on_own_association, report.event_type), (false, 1), "with TLS: {with_tls}");
        assert_eq!(report.committed, sent);
    }
}

/// An association that has nothing to do with the request is as good, if it offers the class.
#[test]
fn a_report_waits_for_the_next_association_of_the_modality_and_asking_twice_is_reported_once() {
    let scratch = Scratch::new();
    let gateway = Setup::new(scratch.folder("data")).with_folder("nas", &scratch.folder("nas")).start();
    let modality = Modality::start(&gateway.target(), None, &[]);
    modality.associates();
    let sent = modality.stores(&files(&scratch, 2));
    assert_eq!(modality.asks(TRANSACTION, &sent), 0);
    // The answer was lost, say: the same is asked for again. Other instances under the same UID are another matter.
    assert_eq!(modality.asks(TRANSACTION, &sent), 0);
    modality.releases();
    until("the request to be ready", LIMIT, || {
        let status = gateway.status_json()?;
        let commitment = &status["commitment"];
        if commitment["to-report"] == 1 && commitment["pending"] == 1 { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(gateway.status_text().contains("1 requests are not reported yet"), "{}", gateway.status_text());
    assert_eq!(modality.reports(), []);
    modality.associates();
    assert_eq!(modality.report(TRANSACTION, LIMIT).committed, sent);
    until("nothing to be pending", LIMIT, || {
        let status = gateway.status_json()?;
        if status["commitment"]["pending"] == 0 { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(modality.reports().len(), 1);
    modality.releases();
}

/// The promise of the answer 0000: power or process may go in between, and the modality may be away for long.
#[test]
fn a_request_that_was_answered_is_reported_although_the_gateway_is_killed() {
    let scratch = Scratch::new();
    let port = free_port();
    let setup = Setup::new(scratch.folder("data"))
        .with_folder("nas", &scratch.folder("nas"))
        .with_modalities(&modality(&to("dicom", port)));
    let mut gateway = setup.start();
    let deaf = Modality::start(&gateway.target(), None, &[]);
    deaf.associates();
    let sent = deaf.stores(&files(&scratch, 2));
    for number in 0..5 {
        assert_eq!(deaf.asks(&format!("{TRANSACTION}.{number}"), &sent), 0);
        gateway.kill();
        gateway.start_again();
        deaf.associates();
    }
    let told: Vec<_> = deaf.reports().iter().map(|report| report.transaction.clone()).collect();
    gateway.kill();
    drop(deaf);
    gateway.start_again();
    until("a failure to be told", LIMIT, || {
        let status = gateway.status_json()?;
        let sentence = status["commitment"]["failures"]["ct"].as_str().unwrap_or_default().to_owned();
        if sentence.contains("cannot connect") { Ok(()) } else { Err(status.to_string()) }
    });
    let modality = Modality::start(&gateway.target(), Some(port), &[]);
    for number in 0..5 {
        let transaction = format!("{TRANSACTION}.{number}");
        if !told.contains(&transaction) {
            assert_eq!(modality.report(&transaction, LIMIT).committed, sent);
        }
    }
}

/// The other level of truth: the box is stolen tonight, and the archive must have it.
#[test]
fn delivered_waits_for_the_archive() {
    let scratch = Scratch::new();
    let port = free_port();
    let mut archive = Storescp::start(scratch.folder("archive"), None);
    archive.go_away();
    let mut gateway = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("127.0.0.1"))
        .with_modalities(&modality(&format!("commitment = \"delivered\"\n{}", to("dicom", port))))
        .start();
    let modality = Modality::start(&gateway.target(), Some(port), &[]);
    modality.associates();
    let sent = modality.stores(&files(&scratch, 3));
    assert_eq!(modality.asks(TRANSACTION, &sent), 0);
    modality.releases();
    gateway.counters_such_that("archive", LIMIT, |counters| counters.failures > 1);
    assert_eq!(modality.reports(), []);
    let commitment = gateway.status_json().unwrap()["commitment"].clone();
    assert_eq!((&commitment["pending"], &commitment["to-report"]), (&json!(1), &json!(0)), "{commitment}");
    archive.come_back();
    let report = modality.report(TRANSACTION, LIMIT);
    assert_eq!((report.event_type, &report.committed), (1, &sent));
    assert_eq!(archive.files().len(), sent.len());
}

#[test]
fn what_is_not_delivered_when_the_patience_is_over_is_reported_as_failed() {
    let scratch = Scratch::new();
    let port = free_port();
    let mut archive = Storescp::start(scratch.folder("archive"), None);
    archive.go_away();
    let settings = modality(&format!("commitment = \"delivered\"\n{}", to("dicom", port)));
    let gateway = Setup::new(scratch.folder("data"))
        .with_destination("archive", &archive.url("127.0.0.1"))
        .with_modalities(&format!("{settings}[commitment]\npatience = \"2s\"\n"))
        .start();
    // It refuses the report first: it is told again.
    let modality = Modality::start(&gateway.target(), Some(port), &["--answer", "0110"]);
    modality.associates();
    let sent = modality.stores(&files(&scratch, 1));
    assert_eq!(modality.asks(TRANSACTION, &sent), 0);
    modality.releases();
    let report = modality.report(TRANSACTION, LIMIT);
    assert_eq!((report.event_type, report.failed), (2, vec![(sent[0].1.clone(), 0x0110)]));
    until("another try", LIMIT, || match modality.reports().len() {
        0 | 1 => Err(gateway.log()),
        _ => Ok(()),
    });
    drop(modality);
    let modality = Modality::start(&gateway.target(), Some(port), &[]);
    modality.report(TRANSACTION, LIMIT);
}

/// Another implementation, on DCMTK: it asks, ends its association, and takes the report on one of ours.
#[test]
fn orthanc_asks_and_is_told() {
    let scratch = Scratch::new();
    let orthanc = Orthanc::start(&scratch.folder("orthanc"), None);
    let settings = modality("");
    let to = orthanc.url();
    let settings = format!(
        "{settings}[modality.orthanc]\naet = \"ORTHANC\"\naddresses = [\"127.0.0.1\"]\ncommitment-to = \"{to}\"\n"
    );
    let gateway = Setup::new(scratch.folder("data"))
        .with_folder("nas", &scratch.folder("nas"))
        .with_modalities(&settings)
        .start();
    let files = files(&scratch, 3);
    assert!(storescu(&gateway.target(), &files).values().all(|outcome| *outcome == Outcome::Success));
    let sent: Vec<String> = files.iter().map(|file| DataSet::of_file(file).sop_instance).collect();
    let target = gateway.target();
    let description = json!({
        "AET": target.called, "Host": "127.0.0.1", "Port": target.port, "AllowStorageCommitment": true,
    });
    orthanc.server.send("PUT", "/modalities/gateway", &description);
    let reported = |instances: &[String]| {
        let of_class = |instance: &String| json!({"SOPClassUID": CT, "SOPInstanceUID": instance});
        let asked: Vec<_> = instances.iter().map(of_class).collect();
        let asked =
            orthanc.server.send("POST", "/modalities/gateway/storage-commitment", &json!({"DicomInstances": asked}));
        let path = asked["Path"].as_str().unwrap().to_owned();
        until("Orthanc to be told", LIMIT, || {
            let report: serde_json::Value = serde_json::from_slice(&orthanc.server.get(&path)).unwrap();
            if report["Status"] == "Pending" { Err(gateway.log()) } else { Ok(report) }
        })
    };
    let report = reported(&sent);
    assert_eq!((&report["Status"], report["Success"].as_array().unwrap().len()), (&json!("Success"), 3), "{report}");
    let report = reported(&[sent[0].clone(), "1.2.3.4".to_owned()]);
    assert_eq!(report["Status"], "Failure", "{report}");
    assert_eq!(report["Failures"][0]["FailureReason"], 0x0112, "{report}");
}
