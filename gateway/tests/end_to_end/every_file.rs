//! Every file there is, of every kind, valid and broken, from a modality over the gateway and TLS to an archive.
//!
//! Whether a file is valid is for pydicom and DCMTK to say (`tests/peers/inspect_files.py`), not for the gateway. The
//! promises: a valid file is answered with 0000; whatever is answered with 0000, valid or not, arrives byte for byte; a
//! broken one gets a definite status; and nothing arrives that was not answered so. The outcome for each file is written
//! to `target/every-file.md`.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::dcmtk::{Outcome, Outcomes, dcmsend, echoscu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::{DataSet, digest_from};
use crate::support::pki::{Identity, Pki};
use crate::support::pynetdicom::{self, Scp};
use crate::support::studies::{self, Study};
use crate::support::{Scratch, repository};

const TRANSFER: Duration = Duration::from_secs(300);

/// A gateway and the TLS archive that it delivers to.
struct Path2Archive {
    scratch: Scratch,
    gateway: Gateway,
    archive: Scp,
    modality: Identity,
}

impl Path2Archive {
    fn new() -> Self {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let archive = Scp::start(&scratch.folder("archive"), Some(&pki.identity("archive")));
        let setup = Setup::new(scratch.folder("data"))
            .with_destination("archive", &archive.url())
            .tls(&pki.identity("gateway"));
        Self { gateway: setup.start(), archive, modality: pki.identity("modality"), scratch }
    }

    /// What has arrived when nothing is left to deliver; the gateway serves as if nothing had been.
    fn arrived(&mut self) -> Vec<DataSet> {
        let counters = self.gateway.drained("archive", TRANSFER);
        assert_eq!(counters.parked, 0, "{}", self.gateway.status_text());
        echoscu(&self.gateway.tls_target(&self.modality)).unwrap();
        self.archive.stored()
    }
}

/// What became of the files on one way.
struct Passage {
    outcomes: Outcomes,
    /// Whether every data set that left the sender as this file is at the archive, byte for byte.
    identical: BTreeMap<PathBuf, bool>,
}

impl Passage {
    /// The promises that this passage breaks, one sentence each.
    fn broken_promises(&self, sender: &str, studies: &[Study]) -> Vec<String> {
        let mut broken = Vec::new();
        for study in studies {
            let (path, outcome) = (study.path.display(), &self.outcomes[&study.path]);
            match outcome {
                Outcome::Success if !self.identical[&study.path] => {
                    broken.push(format!("{path} by {sender}: answered 0000 but not at the archive as it was sent"));
                }
                Outcome::Success => {}
                outcome if study.reason.is_none() && !sender_refuses(outcome) => {
                    broken.push(format!("{path} by {sender}: valid, but {outcome}"));
                }
                Outcome::NotSent(_) if !sender_refuses(outcome) => {
                    broken.push(format!("{path} by {sender}: no definite status: {outcome}"));
                }
                _ => {}
            }
        }
        broken
    }

    fn summary(&self, sender: &str) -> String {
        let count = |wanted: fn(&Outcome) -> bool| self.outcomes.values().filter(|outcome| wanted(outcome)).count();
        format!(
            "{sender}: {} files, {} answered 0000, {} of those arrived identical, {} refused, {} not sent",
            self.outcomes.len(),
            count(|outcome| *outcome == Outcome::Success),
            self.identical.values().filter(|identical| **identical).count(),
            count(|outcome| matches!(outcome, Outcome::Answered(_))),
            count(|outcome| matches!(outcome, Outcome::NotSent(_))),
        )
    }
}

/// Whether the sender itself, and not the gateway, is the reason why a file was not sent. A reason that ends an
/// association or denies one is the gateway's.
fn sender_refuses(outcome: &Outcome) -> bool {
    const ITS_OWN_REASONS: [&str; 9] = [
        "the sender refuses",
        "File meta information header missing",
        "I/O suspension or premature end of stream",
        "Invalid stream",
        "Sequence Delimitation Item missing",
        "Cannot send SOP instance, missing information",
        "missing information",
        "invalid SOP",
        "Illegal",
    ];
    matches!(outcome, Outcome::NotSent(why) if ITS_OWN_REASONS.iter().any(|reason| why.contains(reason)))
}

/// pynetdicom sends what is in the file, whatever it is.
fn by_pynetdicom(studies: &[Study], files: &[PathBuf]) -> Passage {
    let mut way = Path2Archive::new();
    let outcomes = pynetdicom::send(&way.gateway.tls_target(&way.modality), files);
    let arrived: HashSet<String> = way.arrived().into_iter().map(|data_set| data_set.sha256).collect();
    // A file without a file meta group is sent as a whole.
    let digest = |study: &Study| study.sha256.clone().unwrap_or_else(|| digest_from(&study.path, 0).0);
    let answered = |study: &&Study| outcomes[&study.path] == Outcome::Success;
    let acknowledged: HashSet<String> = studies.iter().filter(answered).map(digest).collect();
    assert!(arrived.is_subset(&acknowledged), "something arrived that nobody has an answer 0000 for");
    let identical = studies.iter().filter(answered).map(|study| (study.path.clone(), arrived.contains(&digest(study))));
    Passage { identical: identical.collect(), outcomes }
}

/// dcmsend sends what it makes of a file; a direct run to the same kind of archive says what that is.
fn by_dcmsend(studies: &[Study], files: &[PathBuf]) -> Passage {
    let mut way = Path2Archive::new();
    let direct = Scp::start(&way.scratch.folder("direct"), None);
    dcmsend(&direct.target(None), files, way.scratch.path());
    let outcomes = dcmsend(&way.gateway.target(), files, way.scratch.path());
    let arrived: HashSet<DataSet> = way.arrived().into_iter().collect();
    let direct = direct.stored();
    let as_sent = |study: &&Study| {
        let of_instance = |data_set: &&DataSet| data_set.sop_instance == study.sop_instance;
        let mut expected = direct.iter().filter(of_instance).peekable();
        expected.peek().is_some() && expected.all(|data_set| arrived.contains(data_set))
    };
    let answered = studies.iter().filter(|study| outcomes[&study.path] == Outcome::Success);
    Passage { identical: answered.map(|study| (study.path.clone(), as_sent(&study))).collect(), outcomes }
}

fn table(root: &Path, studies: &[Study], passages: &[(&str, &Passage)]) -> String {
    let mut out = String::from("# Every file, and what became of it\n\n");
    for (sender, passage) in passages {
        writeln!(out, "- {}", passage.summary(sender)).unwrap();
    }
    out.push_str("\n| file | transfer syntax | judged by pydicom and DCMTK |");
    for (sender, _) in passages {
        write!(out, " {sender}: answer | at the archive |").unwrap();
    }
    out.push_str("\n|---|---|---|");
    out.push_str(&"---|---|".repeat(passages.len()));
    out.push('\n');
    for study in studies {
        let name = study.path.strip_prefix(root).unwrap_or(&study.path).display();
        let judgement = study.reason.as_deref().unwrap_or("valid");
        write!(out, "| {name} | {} | {judgement} |", study.transfer_syntax).unwrap();
        for (_, passage) in passages {
            let answer = passage.outcomes[&study.path].to_string().replace(['|', '\n'], " ");
            let at_archive = match passage.identical.get(&study.path) {
                Some(true) => "identical",
                Some(false) => "**no**",
                None => "–",
            };
            write!(out, " {answer} | {at_archive} |").unwrap();
        }
        out.push('\n');
    }
    out
}

/// The first thing that the gateway is for.
#[test]
fn every_file_that_can_be_sent_arrives_identical_and_the_others_get_a_definite_status() {
    let studies = studies::all();
    let files: Vec<PathBuf> = studies.iter().map(|study| study.path.clone()).collect();
    let (raw, dcmtk) = (by_pynetdicom(studies, &files), by_dcmsend(studies, &files));
    let passages = [("pynetdicom over TLS", &raw), ("dcmsend", &dcmtk)];
    std::fs::write(repository().join("target/every-file.md"), table(&studies::root(), studies, &passages)).unwrap();

    let valid = studies.iter().filter(|study| study.reason.is_none()).count();
    println!("{} files, {valid} of them valid; the table is in target/every-file.md", studies.len());
    for (sender, passage) in passages {
        println!("{}", passage.summary(sender));
    }
    let broken: Vec<String> =
        passages.iter().flat_map(|(sender, passage)| passage.broken_promises(sender, studies)).collect();
    assert!(broken.is_empty(), "{} promises broken:\n{}", broken.len(), broken.join("\n"));
}
