//! Every file there is, of every kind, valid and broken, from a modality over the gateway and TLS to an archive.
//!
//! Whether a file is valid is for pydicom and DCMTK to say (`tests/peers/inspect_files.py`), not for the gateway. The
//! promises: a valid file is answered with 0000; whatever is answered with 0000, valid or not, arrives byte for byte; a
//! broken one gets a definite status; and nothing arrives that was not answered so. The outcome for each file is written
//! to `target/every-file.md`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::dcmtk::{Outcome, Outcomes, Target, dcmsend, echoscu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::{DataSet, digest_from};
use crate::support::pki::{Identity, Pki};
use crate::support::pynetdicom::{self, Scp};
use crate::support::studies::{self, Study};
use crate::support::{Scratch, repository};

const TRANSFER: Duration = Duration::from_secs(300);

/// A gateway and the TLS archive that it delivers to.
struct Way {
    scratch: Scratch,
    gateway: Gateway,
    archive: Scp,
    modality: Identity,
}

impl Way {
    fn new() -> Self {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let archive = Scp::start(&scratch.folder("archive"), Some(&pki.identity("archive")));
        let setup = Setup::new(scratch.folder("data"))
            .with_destination("archive", &archive.url())
            .tls(&pki.identity("gateway"))
            .without_compression("archive");
        Self { gateway: setup.start(), archive, modality: pki.identity("modality"), scratch }
    }

    /// What has arrived when nothing is left to deliver; the gateway serves as if nothing had been.
    fn arrived(&mut self) -> Vec<DataSet> {
        let counters = self.gateway.drained("archive", TRANSFER);
        assert_eq!(counters.parked, 0, "{}", self.gateway.parked_text());
        echoscu(&self.gateway.tls_target(&self.modality)).unwrap();
        self.archive.stored()
    }
}

/// What became of the files on one way.
struct Passage {
    outcomes: Outcomes,
    /// The files that this sender does not even send directly to an archive that takes everything.
    unsendable: HashSet<PathBuf>,
    /// For each file that was answered with 0000: whether what the sender made of it is at the archive, byte for byte.
    identical: BTreeMap<PathBuf, bool>,
    /// What is at the archive although nobody has an answer 0000 for it.
    strays: Vec<DataSet>,
}

impl Passage {
    /// Sends the files directly to an archive, which says what the sender makes of them, and then through the gateway.
    /// `sent_as` finds for a file the data set that arrived directly.
    fn of(
        studies: &[Study],
        with_tls: bool,
        send: impl Fn(&Target, &Scratch) -> Outcomes,
        sent_as: impl Fn(&Outcomes, Vec<DataSet>) -> HashMap<PathBuf, DataSet>,
    ) -> Self {
        let mut way = Way::new();
        let direct = Scp::start(&way.scratch.folder("direct"), None);
        let outcomes = send(&direct.target(None), &way.scratch);
        let not_sent = |study: &&Study| matches!(outcomes[&study.path], Outcome::NotSent(_));
        let unsendable = studies.iter().filter(not_sent).map(|study| study.path.clone()).collect();
        let sent_as = sent_as(&outcomes, direct.stored_in_order());

        let gateway = &way.gateway;
        let target = if with_tls { gateway.tls_target(&way.modality) } else { gateway.target() };
        let outcomes = send(&target, &way.scratch);
        let arrived: HashSet<DataSet> = way.arrived().into_iter().collect();
        let answered = |study: &&Study| outcomes[&study.path] == Outcome::Success;
        let acknowledged: HashSet<DataSet> =
            studies.iter().filter(answered).filter_map(|study| sent_as.get(&study.path)).cloned().collect();
        let strays = arrived.difference(&acknowledged).cloned().collect();
        let is_there = |study: &Study| sent_as.get(&study.path).is_some_and(|sent| arrived.contains(sent));
        let identical = studies.iter().filter(answered).map(|study| (study.path.clone(), is_there(study))).collect();
        Self { outcomes, unsendable, identical, strays }
    }

    /// The promises that this passage breaks, one sentence each.
    fn broken_promises(&self, sender: &str, studies: &[Study]) -> Vec<String> {
        let stray = |data_set: &DataSet| format!("by {sender}: at the archive without an answer 0000: {data_set:?}");
        let mut broken: Vec<String> = self.strays.iter().map(stray).collect();
        for study in studies.iter().filter(|study| !self.unsendable.contains(&study.path)) {
            let (path, outcome) = (study.path.display(), &self.outcomes[&study.path]);
            match outcome {
                Outcome::Success if self.identical[&study.path] => {}
                Outcome::Success => {
                    broken.push(format!("{path} by {sender}: answered 0000 but not at the archive as it was sent"));
                }
                outcome if study.reason.is_none() => broken.push(format!("{path} by {sender}: valid, but {outcome}")),
                Outcome::Answered(_) => {}
                outcome => broken.push(format!("{path} by {sender}: no definite status: {outcome}")),
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

/// pynetdicom sends what is in the file, whatever it is: the bytes tell which file it was.
fn by_pynetdicom(studies: &[Study], files: &[PathBuf]) -> Passage {
    let send = |target: &Target, _: &Scratch| pynetdicom::send(target, files);
    let sent_as = |_: &Outcomes, direct: Vec<DataSet>| {
        // A file without a file meta group is sent as a whole.
        let digest = |study: &Study| study.sha256.clone().unwrap_or_else(|| digest_from(&study.path, 0).0);
        let by_digest: HashMap<String, DataSet> =
            direct.into_iter().map(|data_set| (data_set.sha256.clone(), data_set)).collect();
        let found = |study: &Study| Some((study.path.clone(), by_digest.get(&digest(study))?.clone()));
        studies.iter().filter_map(found).collect()
    };
    Passage::of(studies, true, send, sent_as)
}

/// dcmsend sends what it makes of a file, one after the other in the order of its arguments.
fn by_dcmsend(studies: &[Study], files: &[PathBuf]) -> Passage {
    let send = |target: &Target, scratch: &Scratch| dcmsend(target, files, scratch.path());
    let sent_as = |outcomes: &Outcomes, direct: Vec<DataSet>| {
        let sent: Vec<&Study> = studies.iter().filter(|study| outcomes[&study.path] == Outcome::Success).collect();
        assert_eq!(sent.len(), direct.len(), "one data set for each answer");
        // A few broken files make DCMTK read another UID than pydicom does.
        let in_order = sent.iter().zip(&direct).filter(|(study, sent)| study.sop_instance == sent.sop_instance).count();
        assert!(in_order * 10 >= direct.len() * 9, "the order is that of the arguments");
        sent.into_iter().map(|study| study.path.clone()).zip(direct).collect()
    };
    Passage::of(studies, false, send, sent_as)
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
