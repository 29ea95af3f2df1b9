//! Who may come in, what is said to those who may not, and how they are let in.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::dcmtk::{Target, all_succeed, dcmsend, echoscu, storescu, storescu_with};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::data_sets;
use crate::support::pki::Pki;
use crate::support::process::Finished;
use crate::support::pynetdicom::{self, ResendingScu};
use crate::support::{PATIENCE, Scratch, files_below, phantom, until};

const TRANSFER: Duration = Duration::from_secs(120);

/// A gateway that admits by name, with a folder as destination.
struct Clinic {
    scratch: Scratch,
    gateway: Gateway,
    nas: PathBuf,
}

impl Clinic {
    /// With these modalities in its configuration.
    fn new(settings: &str) -> Self {
        Self::with(settings, |setup, _| setup)
    }

    fn with(settings: &str, change: impl FnOnce(Setup, &Scratch) -> Setup) -> Self {
        let scratch = Scratch::new();
        let nas = scratch.folder("nas");
        let setup = Setup::new(scratch.folder("data")).with_folder("nas", &nas).admitting_named();
        let setup = setup.configured(&scratch.path().join("waystation.toml"), settings);
        Self { gateway: change(setup, &scratch).start(), nas, scratch }
    }

    /// The gateway as this AE title calls it.
    fn target(&self, calling: &str) -> Target {
        Target { calling: calling.to_owned(), ..self.gateway.target() }
    }

    fn door(&self) -> Value {
        json(&self.gateway.ask(&["door", "--json"]))
    }

    /// One peer with its visits, as soon as its page is as wanted: a visit is entered when it has ended on both sides.
    fn page(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the page of {name}"), PATIENCE, || {
            let said = self.gateway.ask(&["door", "show", name, "--json"]);
            match serde_json::from_str(&said.printed) {
                Ok(page) if wanted(&page) => Ok(page),
                Ok(page) => Err(page.to_string()),
                Err(_) => Err(said.text()),
            }
        })
    }

    fn arrived(&mut self, folder: &str) -> Vec<PathBuf> {
        self.gateway.drained(folder, TRANSFER);
        files_below(&self.scratch.path().join(folder))
    }
}

fn json(said: &Finished) -> Value {
    assert!(said.status.success(), "{}", said.text());
    serde_json::from_str(&said.printed).unwrap_or_else(|error| panic!("{error}: {}", said.text()))
}

const HERE: &str = "addresses = [\"127.0.0.1\"]";

fn modality(name: &str, aet: &str, more: &str) -> String {
    format!("[modality.{name}]\naet = \"{aet}\"\n{HERE}\n{more}\n")
}

fn series(scratch: &Scratch, name: &str, count: u32) -> Vec<PathBuf> {
    phantom::ct_series(&scratch.folder(name), count, 64)
}

/// The whole way of a new modality: refused, seen, admitted by the command that the list shows, and served, while another
/// one sends all the time.
#[test]
fn a_stranger_is_refused_shown_admitted_by_one_command_and_served_without_a_restart() {
    let mut clinic = Clinic::new(&modality("mr1", "MR1", ""));
    let process = clinic.gateway.process().id();
    let busy = series(&clinic.scratch, "busy", 60);
    let mut other = ResendingScu::start(&clinic.target("MR1"), &busy, Duration::from_millis(200), TRANSFER);
    until("the other modality to send", PATIENCE, || match other.acknowledged().len() {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    });

    let files = series(&clinic.scratch, "files", 3);
    let refused = echoscu(&clinic.target("NEWCT")).unwrap_err();
    assert!(refused.contains("Calling AE Title Not Recognized"), "{refused}");
    let text = clinic.gateway.ask(&["door"]).text();
    let command = text.lines().map(str::trim).find(|line| line.starts_with("waystation door admit ")).unwrap();
    assert!(text.contains("no modality has the calling AE title NEWCT"), "{text}");
    let words: Vec<&str> = command.split(' ').skip(1).take_while(|word| *word != "--data").collect();
    let said = clinic.gateway.ask(&words);
    assert!(
        said.status.success() && said.printed.contains("newct may send from now on: NEWCT from 127.0.0.1"),
        "{}",
        said.text()
    );
    all_succeed(&storescu(&clinic.target("NEWCT"), &files), &files);
    assert!(other.is_running(), "the other association ended before this one was admitted");

    let seen = other.finish(TRANSFER);
    assert_eq!(seen.len(), busy.len(), "nothing had to be repeated: no association was dropped");
    assert_eq!(clinic.gateway.process().id(), process);
    let both = [files, busy].concat();
    assert_eq!(data_sets(&clinic.arrived("nas")), data_sets(&both));
    let page = clinic.page("newct", |page| page["instances"] == 3);
    assert_eq!((&page["refusals"], &page["admitted"]), (&1.into(), &true.into()), "the page went with it: {page}");
    assert!(clinic.door()["knocks"].as_array().unwrap().is_empty());

    clinic.gateway.kill();
    clinic.gateway.start_again();
    echoscu(&clinic.target("NEWCT")).unwrap();
}

#[test]
fn what_cannot_be_admitted_is_refused_with_a_sentence() {
    let clinic = Clinic::new(&modality("mr1", "MR1", ""));
    echoscu(&clinic.target("X1")).unwrap_err();
    for (arguments, sentence) in [
        (vec!["door", "admit", "nobody"], "nobody at the door is called"),
        (vec!["door", "admit", "mr1"], "it is a modality already"),
        (vec!["door", "admit", "x1-1", "--as", "mr1"], "a modality is called mr1 already"),
        (vec!["door", "show", "nobody"], "nobody at the door is called"),
    ] {
        let said = clinic.gateway.ask(&arguments);
        assert!(!said.status.success() && said.text().contains(sentence), "{arguments:?}: {}", said.text());
    }
    assert!(clinic.gateway.ask(&["door", "forget", "x1-1"]).status.success());
    assert!(clinic.door()["knocks"].as_array().unwrap().is_empty());
}

/// A box fresh from the factory knows nobody; it starts all the same, and the first modality is admitted by command.
#[test]
fn a_gateway_without_a_modality_starts_and_admits_the_first_one_that_knocks() {
    let clinic = Clinic::new("");
    echoscu(&clinic.target("CT1")).unwrap_err();
    assert!(clinic.gateway.status_text().contains("nobody is allowed to send"));
    assert!(clinic.gateway.ask(&["door", "admit", "ct1-1"]).status.success());
    echoscu(&clinic.target("CT1")).unwrap();
    assert!(!clinic.gateway.status_text().contains("nobody is allowed to send"));
}

/// The power went while somebody edited it, as an example: the box comes up, and everybody else may send.
#[test]
fn a_damaged_file_of_an_admitted_modality_keeps_out_that_modality_alone() {
    let mut clinic = Clinic::new(&modality("mr1", "MR1", ""));
    let folder = clinic.scratch.path().join("data/modalities");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("ct1.toml"), format!("aet = \"CT1\"\n{HERE}\n")).unwrap();
    std::fs::write(folder.join("us1.toml"), "aet = \"US1\"\naddresses = [").unwrap();
    clinic.gateway.kill();
    clinic.gateway.start_again();
    echoscu(&clinic.target("CT1")).unwrap();
    echoscu(&clinic.target("MR1")).unwrap();
    let refused = echoscu(&clinic.target("US1")).unwrap_err();
    assert!(refused.contains("Calling AE Title Not Recognized"), "{refused}");
    let file = folder.join("us1.toml");
    let file = file.to_str().unwrap();
    for said in [clinic.gateway.log(), clinic.gateway.status_text(), clinic.gateway.ask(&["door"]).text()] {
        assert!(said.contains(file) && said.contains("left out"), "{said}");
    }
    clinic.gateway.says(0, "association refused: US1 called, and the modality us1 is left out and refused");
    std::fs::write(file, format!("aet = \"US1\"\n{HERE}\n")).unwrap();
    clinic.gateway.reload("us1 is new");
    echoscu(&clinic.target("US1")).unwrap();
    assert!(!clinic.gateway.status_text().contains("left out"));
}

#[test]
fn a_wrong_called_title_is_told_with_the_remedy_and_can_be_allowed() {
    let clinic = Clinic::new(&[modality("ct1", "CT1", ""), modality("ct2", "CT2", "called = [\"PACS\"]")].concat());
    let target = Target { called: "PACS".to_owned(), ..clinic.target("CT1") };
    let refused = echoscu(&target).unwrap_err();
    assert!(refused.contains("Called AE Title Not Recognized"), "{refused}");
    let page = clinic.page("ct1", |page| page["refusals"] == 1);
    let problem = page["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("CT1 calls us PACS; this box is WAYSTATION: change it at the modality, or add"),
        "{problem}"
    );
    assert!(clinic.gateway.ask(&["door"]).text().contains(problem));
    echoscu(&Target { called: "PACS".to_owned(), ..clinic.target("CT2") }).unwrap();
    echoscu(&clinic.target("CT2")).unwrap_err();
}

#[test]
fn destinations_and_transfer_syntaxes_are_those_of_the_modality() {
    let settings = [
        modality("ct1", "CT1", "to = [\"teaching\"]\ntransfer-syntaxes = [\"1.2.840.10008.1.2\"]"),
        modality("ct2", "CT2", ""),
    ];
    let mut clinic = Clinic::with(&settings.concat(), |setup, scratch| {
        let teaching = scratch.folder("teaching");
        setup.with_folder("teaching", &teaching)
    });
    let (own, all) = (series(&clinic.scratch, "own", 2), series(&clinic.scratch, "all", 3));
    // Several transfer syntaxes in one presentation context: the gateway chooses.
    all_succeed(&storescu_with(&clinic.target("CT1"), &own, &["+C"]), &own);
    all_succeed(&storescu_with(&clinic.target("CT2"), &all, &["+C"]), &all);
    let teaching = data_sets(&clinic.arrived("teaching"));
    let nas = data_sets(&clinic.arrived("nas"));
    assert_eq!((nas.len(), teaching.len()), (3, 5));
    let implicit = teaching.iter().filter(|data_set| data_set.transfer_syntax == "1.2.840.10008.1.2").count();
    assert_eq!(implicit, 2, "what CT1 was asked for");
    assert!(nas.iter().all(|data_set| data_set.transfer_syntax == "1.2.840.10008.1.2.1"), "the gateway's own order");
    assert_eq!(nas, data_sets(&all));
    assert!(files_below(&clinic.nas).len() == 3);
}

#[test]
fn limits_are_those_of_the_modality() {
    let settings = [modality("ct1", "CT1", "max-associations = 1"), modality("ct2", "CT2", "max-rate = \"1MiB\"")];
    let clinic = Clinic::new(&settings.concat());
    let files = series(&clinic.scratch, "one", 30);
    let mut first = ResendingScu::start(&clinic.target("CT1"), &files, Duration::from_secs(1), TRANSFER);
    until("the first association", PATIENCE, || match first.acknowledged().len() {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    });
    let refused = echoscu(&clinic.target("CT1")).unwrap_err();
    assert!(refused.contains("Transient") || refused.contains("Local Limit"), "{refused}");
    assert!(first.is_running());
    drop(first);

    // 4 MiB at 1 MiB a second, the first of them at once.
    let big = clinic.scratch.path().join("big.dcm");
    phantom::multi_frame(&big, 8);
    let start = waystation::clock::now();
    let files = std::slice::from_ref(&big);
    all_succeed(&pynetdicom::send(&clinic.target("CT2"), files), files);
    assert!(start.elapsed() >= Duration::from_millis(2_900), "{:?}", start.elapsed());
}

/// What proves nothing at the TLS port is no better than plain.
#[test]
fn a_modality_that_must_use_tls_is_refused_without() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let clinic = Clinic::with(&modality("ct1", "CT1", "tls = true"), |setup, _| setup.tls(&pki.identity("gateway")));
    let refused = echoscu(&clinic.target("CT1")).unwrap_err();
    assert!(!refused.contains("Not Recognized"), "its titles are right: {refused}");
    let page = clinic.page("ct1", |page| page["refusals"] == 1);
    assert!(page["problem"].as_str().unwrap().contains("CT1 called without TLS"), "{page}");
    let secure = Target { calling: "CT1".to_owned(), ..clinic.gateway.tls_target(&pki.identity("modality")) };
    echoscu(&secure).unwrap();
    let page = clinic.page("ct1", |page| page["associations"] == 1);
    assert!(page["problem"].is_null() && page["visits"][0]["tls"] == true, "{page}");
}

/// What was proposed and agreed, in words, and what is no DICOM at all.
#[test]
fn the_door_shows_what_was_proposed_and_agreed_and_what_came_to_nothing() {
    use std::io::{Read, Write};

    let clinic = Clinic::new(&modality("ct1", "CT1", ""));
    let files = series(&clinic.scratch, "files", 2);
    all_succeed(&dcmsend(&clinic.target("CT1"), &files, clinic.scratch.path()), &files);
    clinic.page("ct1", |page| page["instances"] == 2);
    let text = clinic.gateway.ask(&["door", "show", "ct1"]).text();
    for piece in ["CT1 from 127.0.0.1", "CT Image Storage", "agreed: 1.2.840.10008.1.2.1", "2 instances are safe here"]
    {
        assert!(text.contains(piece), "{piece}: {text}");
    }
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", clinic.target("X").port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: \x1b[2J\r\n\r\n").unwrap();
    drop(stream.read_to_end(&mut Vec::new()));
    let page = clinic.page("from-127-0-0-1-1", |page| page["refusals"] == 1);
    assert!(page["problem"].as_str().unwrap().contains("HTTP"), "{page}");
    assert!(page["cannot-be-admitted"].is_string(), "{page}");
}

/// SIGHUP lets in and keeps out whom the configuration names now, and cuts off nobody who still may send.
#[test]
fn a_reload_changes_who_may_send_and_drops_no_association_of_who_still_may() {
    let old = modality("us1", "US1", "");
    let both = [modality("mr1", "MR1", ""), modality("ct1", "CT1", "")].concat();
    let mut clinic = Clinic::new(&(modality("mr1", "MR1", "") + &old));
    let file = clinic.scratch.path().join("waystation.toml");
    let busy = series(&clinic.scratch, "busy", 30);
    let mut other = ResendingScu::start(&clinic.target("MR1"), &busy, Duration::from_millis(500), TRANSFER);
    until("the other modality to send", PATIENCE, || match other.acknowledged().len() {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    });
    let mut reload = |settings: &str, awaited: &str| {
        std::fs::write(&file, settings).unwrap();
        let process = clinic.gateway.process();
        let read = process.lines().len();
        process.signal(nix::sys::signal::Signal::SIGHUP);
        process.wait_for_line(read, PATIENCE, |line| line.contains(awaited).then_some(()));
    };
    reload(&both, "ct1 is new, us1 is gone");
    reload("[modality.ct1]\naet = 7\n", "the new configuration cannot be used");
    let early = modality("xa1", "XA1", "to = [\"cloud\"]") + "[to.cloud]\nurl = \"file:///srv/cloud\"\n";
    reload(
        &(both.clone() + &early),
        "the one from before stays in use: xa1 sends to cloud, which is a destination only then",
    );
    let limits = "[limits]\nmax-associations = 7\n";
    reload(&(both + limits), "changed and waiting for a restart: [limits]");
    echoscu(&clinic.target("CT1")).unwrap();
    assert!(other.is_running(), "its association had ended before");
    echoscu(&clinic.target("US1")).unwrap_err();
    echoscu(&clinic.target("XA1")).unwrap_err();
    let seen = other.finish(TRANSFER);
    assert_eq!(seen.len(), busy.len(), "nothing had to be repeated: the association went on");
    assert_eq!(data_sets(&clinic.arrived("nas")), data_sets(&busy));
    assert!(clinic.gateway.status_text().contains("what waits for a restart: [limits]"));
}

/// Who is not listed any more is not let go on with what he has begun; what was answered with success is kept.
#[test]
fn the_association_of_a_modality_that_is_removed_ends_at_the_next_instance_boundary() {
    let mut clinic = Clinic::new(&[modality("mr1", "MR1", ""), modality("ct1", "CT1", "")].concat());
    let files = series(&clinic.scratch, "busy", 400);
    let sender = ResendingScu::start(&clinic.target("MR1"), &files, Duration::from_millis(50), TRANSFER);
    until("it to send", PATIENCE, || match sender.acknowledged().len() {
        0 => Err("nothing".to_owned()),
        _ => Ok(()),
    });
    std::fs::write(clinic.scratch.path().join("waystation.toml"), modality("ct1", "CT1", "")).unwrap();
    clinic.gateway.reload("mr1 is gone");
    clinic
        .gateway
        .says(0, "association ended at an instance boundary, because it would not be admitted any more: no modality");
    // It comes again, and is refused.
    clinic.gateway.says(0, "association refused: no modality has the calling AE title MR1");
    let acknowledged = sender.acknowledged().len();
    drop(sender);
    assert!(clinic.arrived("nas").len() >= acknowledged && acknowledged < files.len());
    echoscu(&clinic.target("CT1")).unwrap();
}

/// A modality that dates its images two hours after now has a clock that is wrong, and nothing else can be the reason.
#[test]
fn a_clock_that_is_ahead_is_told() {
    let clinic = Clinic::new(&modality("ct1", "CT1", ""));
    let now = i64::try_from(waystation::clock::wall().as_millis()).unwrap();
    let then = jiff::Timestamp::from_millisecond(now + 7_620_000).unwrap().to_zoned(waystation::clock::zone());
    let files = series(&clinic.scratch, "files", 3);
    for file in &files {
        let mut content = std::fs::read(file).unwrap();
        // Study Date and Time become Content Date and Time, with other values.
        for (study, content_tag, vr, value) in [
            (0x20, 0x23, b"DA", then.strftime("%Y%m%d").to_string()),
            (0x30, 0x33, b"TM", then.strftime("%H%M%S").to_string()),
        ] {
            let head = [8, 0, study, 0, vr[0], vr[1]];
            let at = content.windows(head.len()).position(|bytes| bytes == head).unwrap();
            content[at + 2] = content_tag;
            content[at + 8..at + 8 + value.len()].copy_from_slice(value.as_bytes());
        }
        std::fs::write(file, content).unwrap();
    }
    all_succeed(&pynetdicom::send(&clinic.target("CT1"), &files), &files);
    let page = clinic.page("ct1", |page| page["instances"] == 3);
    assert!(page["clock"]["ahead-seconds"].as_i64().unwrap() > 3_600, "{page}");
    let problem = page["problem"].as_str().unwrap();
    assert!(problem.contains("ahead of this box") && problem.contains("set it there"), "{problem}");
}
