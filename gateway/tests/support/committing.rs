//! A modality that asks for storage commitment: pynetdicom, through `tests/peers/commitment.py`.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::PATIENCE;
use super::dcmtk::Target;
use super::ports::free_port;
use super::process::Process;
use super::pynetdicom::{script, with_tls};

/// A SOP Class UID and a SOP Instance UID.
pub(crate) type Reference = (String, String);

/// What a report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whether it came on the modality's own association.
    pub(crate) on_own_association: bool,
    pub(crate) transaction: String,
    pub(crate) event_type: u64,
    pub(crate) committed: Vec<Reference>,
    /// Instance and reason.
    pub(crate) failed: Vec<(String, u64)>,
}

impl Report {
    /// What a line of a script's output reports, if it does.
    pub(super) fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok().filter(|line: &Value| line["event"] == "report")?;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let pairs = |name: &str| line[name].as_array().unwrap().clone();
        assert_eq!(line["instance"], "1.2.840.10008.1.20.1.1");
        Some(Self {
            on_own_association: line["where"] == "own",
            transaction: text(&line["transaction"]),
            event_type: line["type"].as_u64().unwrap(),
            committed: pairs("committed").iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
            failed: pairs("failed").iter().map(|pair| (text(&pair[0]), pair[1].as_u64().unwrap())).collect(),
        })
    }
}

/// A running modality.
pub(crate) struct Modality {
    process: Process,
    /// Where it takes reports on associations of their own.
    pub(crate) listens: u16,
    /// The line of its output that was not looked at yet.
    next: AtomicUsize,
}

impl Modality {
    /// Starts it with these options of the script; with `port` it listens there.
    pub(crate) fn start(target: &Target, port: Option<u16>, options: &[&str]) -> Self {
        let listens = port.unwrap_or_else(free_port);
        let mut command = script("commitment.py");
        command.args(["--port", &target.port.to_string(), "--aet", &target.calling, "--aec", &target.called]);
        if let Some(port) = port {
            command.args(["--listen", &port.to_string()]);
        }
        with_tls(&mut command, target.tls.as_ref());
        command.args(options);
        let modality = Self { process: Process::spawn("commitment.py", command), listens, next: AtomicUsize::new(0) };
        modality.process.wait_for_line(0, PATIENCE, |line| line.contains("\"ready\"").then_some(()));
        modality
    }

    /// Gives a command and its answer.
    pub(crate) fn does(&self, command: &Value) -> Value {
        self.process.write_line(&command.to_string());
        let from = self.next.load(Ordering::Relaxed);
        let answer = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|line| line["event"] != "report");
        let is_answer = |line: &str| answer(line).filter(|line| line["event"] != "ready");
        let (answer, next) = self.process.wait_for_line(from, PATIENCE, is_answer);
        self.next.store(next, Ordering::Relaxed);
        answer
    }

    pub(crate) fn associates(&self) {
        self.does(&json!({"do": "associate"}));
    }

    pub(crate) fn releases(&self) {
        self.does(&json!({"do": "release"}));
    }

    /// Stores files, which must be answered with 0000, and tells what they are.
    pub(crate) fn stores(&self, files: &[impl AsRef<Path>]) -> Vec<Reference> {
        let store = |file: &Path| {
            let answer = self.does(&json!({"do": "store", "path": file}));
            assert_eq!(answer["status"], 0, "{answer}");
            let part = |at: usize| answer["reference"][at].as_str().unwrap().to_owned();
            (part(0), part(1))
        };
        files.iter().map(|file| store(file.as_ref())).collect()
    }

    /// Asks, and gives the status of the answer.
    pub(crate) fn asks(&self, transaction: &str, references: &[Reference]) -> u64 {
        let answer = self.does(&json!({"do": "ask", "transaction": transaction, "references": references}));
        answer["status"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// All reports that have come.
    pub(crate) fn reports(&self) -> Vec<Report> {
        self.process.lines().iter().filter_map(|line| Report::read(line)).collect()
    }

    /// Waits for the report of this transaction.
    pub(crate) fn report(&self, transaction: &str, limit: Duration) -> Report {
        let wanted = |line: &str| Report::read(line).filter(|report| report.transaction == transaction);
        self.process.wait_for_line(0, limit, wanted).0
    }
}
