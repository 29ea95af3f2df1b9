//! What the gateway says of a study: `waystation studies`, `why`, `receipt`, and what somebody can do about it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::dcmtk::{Target, all_succeed, storescu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::DataSet;
use crate::support::ports::free_port;
use crate::support::pynetdicom::{Manners, Scp};
use crate::support::{Scratch, phantom, until};

const TRANSFER: Duration = Duration::from_secs(120);

/// What it prints, of a question that it must know the answer to.
fn told(gateway: &Gateway, question: &[&str]) -> String {
    let answer = gateway.ask(question);
    assert!(answer.status.success(), "{question:?}: {}", answer.text());
    answer.printed
}

fn json(gateway: &Gateway, question: &[&str]) -> Value {
    serde_json::from_str(&told(gateway, &[question, &["--json"]].concat())).unwrap()
}

fn has(text: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(text.contains(piece), "{piece:?} is not in:\n{text}");
    }
}

/// The Study Instance UID of the only study that came from a modality.
fn study_from(gateway: &Gateway, calling: &str) -> String {
    let lines = told(gateway, &["studies", "--json"]);
    let studies = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found = studies.into_iter().find(|study| study["calling-aes"] == serde_json::json!([calling]));
    found.unwrap_or_else(|| panic!("no study from {calling}: {lines}"))["study-instance-uid"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_study_that_one_archive_refuses_is_listed_explained_and_proved() {
    let scratch = Scratch::new();
    let refusing = Manners { status: 0xa900, ..Manners::default() };
    let archive = Scp::with_manners(&scratch.folder("archive"), None, &refusing);
    let settings = "[retry]\nfirst-delay = \"1s\"\nmax-delay = \"2s\"\n\
                    [rule.private]\ncalling = \"PRIVATE\"\nwithhold = true\n";
    let setup = Setup::new(scratch.folder("data")).configured(&scratch.path().join("waystation.toml"), settings);
    let setup = setup.with_folder("nas", &scratch.folder("nas")).with_destination("archive", &archive.url());
    let mut gateway = setup.start();
    assert!(told(&gateway, &["studies"]).contains("No study came yet"));

    let files = phantom::ct_series(&scratch.folder("series"), 3, 64);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    assert_eq!(gateway.drained("nas", TRANSFER).delivered, 3);
    gateway.counters_such_that("archive", TRANSFER, |counters| counters.parked == 3);
    let study = study_from(&gateway, "MODALITY");

    has(
        &told(&gateway, &["studies", "--undelivered"]),
        &[
            &format!("\n{study} "),
            "    nas: delivered 3 of 3\n",
            "    archive: delivered 0 of 3, parked 3\n",
            "1 study: 3 instances",
            "something is owed of 1, parked of 1",
        ],
    );
    has(
        &told(&gateway, &["why", &study]),
        &[
            &format!("study {study}\n"),
            "3 instances",
            "\nnas\n  delivered 3 of 3",
            "\narchive\n  delivered 0 of 3, parked 3\n  3 parked: refused 3 times, last with A900",
            &format!("waystation retry archive --study {study}"),
        ],
    );
    has(&gateway.status_text(), &["CONFIRMED", "TO CONFIRM", "PARKED", "3 are parked"]);

    let receipt = json(&gateway, &["receipt", &study]);
    assert_eq!(receipt["gateway"], "WAYSTATION");
    assert_eq!(receipt["sentences"][0], "NOT COMPLETE. Parked, and waiting for a person: 3 deliveries.");
    assert_eq!(receipt["sentences"][2], "3 of 3 delivered to nas, which is not asked for a confirmation");
    let proved = receipt["instances"].as_array().unwrap();
    let hashes = |values: Vec<String>| values.into_iter().collect::<BTreeSet<String>>();
    assert_eq!(
        hashes(proved.iter().map(|instance| instance["sha256"].as_str().unwrap().to_owned()).collect()),
        hashes(files.iter().map(|file| DataSet::of_file(file).sha256).collect())
    );
    let instance = proved[0]["sop-instance-uid"].as_str().unwrap();
    let lines = proved[0]["ledger"].as_array().unwrap();
    let texts: Vec<&str> = lines.iter().map(|line| line["line"].as_str().unwrap()).collect();
    has(texts[0], &["\"what\":\"received\"", proved[0]["sha256"].as_str().unwrap()]);
    assert_eq!(texts.iter().filter(|text| text.contains("\"outcome\":\"again\"")).count(), 2, "{texts:#?}");
    let written = std::fs::read_to_string(gateway.setup().data.join("ledger").join(lines[0]["file"].as_str().unwrap()));
    assert!(texts.iter().all(|text| written.as_ref().unwrap().lines().any(|line| line == *text)), "not verbatim");
    let page = told(&gateway, &["receipt", &study]);
    // The page is broken into lines wherever one is full.
    has(&page.split_whitespace().collect::<Vec<_>>().join(" "), &["waystation ledger check proves"]);
    let last = &lines[lines.len() - 1];
    has(&page, &[last["sha256"].as_str().unwrap(), &format!("line {},", last["n"])]);
    has(&page, &["RECEIPT FOR A STUDY", &study, instance, "nas: delivered ", "archive: parked ", "A900"]);
    assert!(page.ends_with("End of the receipt: 3 instances.") && !page.contains("confirmed 2"), "{page}");
    let file = scratch.path().join("receipt.txt");
    let into_file = ["receipt", &study, "--out", file.to_str().unwrap()];
    has(&told(&gateway, &into_file), &["the receipt of 3 instances is in "]);
    has(&std::fs::read_to_string(&file).unwrap(), &[instance, "End of the receipt: 3 instances."]);
    assert!(!gateway.ask(&into_file).status.success(), "a receipt was replaced");

    let number = proved[0]["number"].to_string();
    for name in [instance, number.as_str()] {
        has(
            &told(&gateway, &["why", name]),
            &[
                &format!("instance {instance} (number {number} here)"),
                &format!("belongs to the study {study}"),
                "\nnas\n  delivered ",
                "it is not asked for a confirmation",
                "\narchive\n  parked ",
                "after 3 attempts: refused 3 times, last with A900",
                &format!("waystation retry archive --instance {number}"),
            ],
        );
    }
    has(&told(&gateway, &["studies", "expedite", &study]), &["goes first from now on"]);
    has(&told(&gateway, &["why", &study]), &["expedited: "]);
    let retried = told(&gateway, &["retry", "--instance", instance]);
    has(&retried, &["1 parked delivery waits for its turn again"]);
    gateway.counters_such_that("archive", TRANSFER, |counters| counters.parked == 3);
    has(&told(&gateway, &["retry", "archive", "--study", &study]), &["3 parked deliveries to archive wait"]);
    let elsewhere = gateway.ask(&["retry", "nowhere", "--study", &study]);
    assert!(elsewhere.text().contains("nothing of it goes to nowhere"), "{}", elsewhere.text());

    let private = Target { calling: "PRIVATE".to_owned(), ..gateway.target() };
    let files = phantom::ct_series(&scratch.folder("private"), 1, 16);
    all_succeed(&storescu(&private, &files), &files);
    until("the private study", TRANSFER, || {
        let studies = told(&gateway, &["studies"]);
        if studies.contains("PRIVATE") { Ok(()) } else { Err(studies) }
    });
    has(&told(&gateway, &["studies"]), &["    goes nowhere\n"]);
    let private = study_from(&gateway, "PRIVATE");
    has(&told(&gateway, &["why", &private]), &["1 withheld: the rule private"]);
    has(&told(&gateway, &["receipt", &private]), &["Nothing of it is owed", "withheld by the rule private"]);
}

#[test]
fn of_what_is_not_known_it_says_what_could_be() {
    let scratch = Scratch::new();
    let gateway = Setup::new(scratch.folder("data")).with_folder("nas", &scratch.folder("nas")).start();
    for question in [
        &["why", "1.2.3.4"][..],
        &["why", "17"],
        &["receipt", "1.2.3.4"],
        &["studies", "expedite", "1.2.3.4"],
        &["retry", "--study", "1.2.3.4"],
        &["retry", "--instance", "1.2.3.4"],
    ] {
        let answer = gateway.ask(question);
        assert_eq!(answer.status.code(), Some(1), "{question:?}: {}", answer.text());
        has(&answer.text(), &["waystation: nothing is known of ", "never came: waystation door", "forgotten"]);
    }
    let file = scratch.path().join("receipt.txt");
    gateway.ask(&["receipt", "1.2.3.4", "--out", file.to_str().unwrap()]);
    assert!(!file.exists(), "a part of a receipt is there");
}

#[test]
fn an_archive_that_is_away_is_the_reason_and_a_receipt_of_many_pages_is_complete() {
    const INSTANCES: u32 = 450;
    let scratch = Scratch::new();
    let nobody = format!("dicom://ARCHIVE@127.0.0.1:{}", free_port());
    let gateway = Setup::new(scratch.folder("data")).with_destination("archive", &nobody).start();
    let files: Vec<PathBuf> = phantom::ct_series(&scratch.folder("series"), INSTANCES, 16);
    all_succeed(&storescu(&gateway.target(), &files), &files);
    let all = u64::from(INSTANCES);
    until("all to be known", TRANSFER, || match gateway.counters("archive") {
        Ok(counters) if counters.undelivered == all && counters.failures > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let study = study_from(&gateway, "MODALITY");
    has(
        &told(&gateway, &["why", &study]),
        &[
            "delivered 0 of 450, queued 450",
            "the trouble is with archive, not with this: ",
            "waystation retry archive makes the next attempt at once",
            &format!("waystation studies expedite {study}"),
        ],
    );
    let receipt = json(&gateway, &["receipt", &study]);
    let uids =
        receipt["instances"].as_array().unwrap().iter().map(|instance| instance["sop-instance-uid"].as_str().unwrap());
    assert_eq!(uids.collect::<BTreeSet<_>>().len() as u64, all);
    assert_eq!(receipt["instances"].as_array().unwrap().len() as u64, all);
    let page = told(&gateway, &["receipt", &study]);
    assert_eq!(page.matches("archive: queued, not delivered").count() as u64, all);
    has(&page, &["NOT COMPLETE. Still to be made: 450 deliveries.", "End of the receipt: 450 instances."]);
    has(&told(&gateway, &["studies", "expedite", &study]), &["450 deliveries have moved to the front"]);
}
