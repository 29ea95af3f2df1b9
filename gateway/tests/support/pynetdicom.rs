//! pynetdicom as modality and archive, through the scripts in `tests/peers`: the only peer here that sends the bytes of
//! a file as they are and keeps what it is sent as it is, whatever it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::dcmtk::{Outcome, Outcomes, Target};
use super::part10::DataSet;
use super::pki::Identity;
use super::ports::free_port;
use super::process::Process;
use super::{PATIENCE, repository};

/// One of the scripts of `tests/peers`, in the virtual environment that holds what it needs.
pub(crate) fn script(name: &str) -> Command {
    let python = repository().join("target/peers/venv/bin/python");
    assert!(python.exists(), "pynetdicom is missing: run scripts/setup-test-peers, which installs it");
    let mut command = Command::new(python);
    // -B: the scripts share a module, and nothing is to be written beside it.
    command.args(["-u", "-B"]).arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name));
    command
}

/// The arguments for TLS that all scripts have.
pub(super) fn with_tls(command: &mut Command, tls: Option<&Identity>) {
    if let Some(identity) = tls {
        command.arg("--ca").arg(&identity.ca).arg("--cert").arg(&identity.cert).arg("--key").arg(&identity.key);
    }
}

/// What the archive says of one instance.
#[derive(Debug, Deserialize)]
struct Stored {
    file: PathBuf,
    sop_class: String,
    sop_instance: String,
    transfer_syntax: String,
    sha256: String,
    length: u64,
    outstanding: usize,
}

/// An archive that keeps every data set as it came.
pub(crate) struct Scp {
    pub(crate) port: u16,
    tls: bool,
    process: Process,
    /// How often it has been asked whether it has said everything.
    asked: AtomicU32,
}

/// How an archive answers.
#[derive(Default)]
pub(crate) struct Manners {
    /// The answer to every C-STORE; 0000 is success.
    pub(crate) status: u16,
    /// The only transfer syntaxes accepted; empty means all.
    pub(crate) transfer_syntaxes: Vec<String>,
    /// How many C-STORE may be outstanding on an association; without it, it says nothing of that. With it, the first one
    /// is answered when it is [told](Scp::go).
    pub(crate) operations: Option<usize>,
}

impl Scp {
    pub(crate) fn start(folder: &Path, tls: Option<&Identity>) -> Self {
        Self::with_manners(folder, tls, &Manners::default())
    }

    pub(crate) fn with_manners(folder: &Path, tls: Option<&Identity>, manners: &Manners) -> Self {
        let port = free_port();
        let mut command = script("scp.py");
        command.args(["--port", &port.to_string(), "--status", &format!("{:04x}", manners.status), "--folder"]);
        command.arg(folder);
        for uid in &manners.transfer_syntaxes {
            command.args(["--transfer-syntax", uid]);
        }
        if let Some(operations) = manners.operations {
            command.args(["--operations", &operations.to_string()]);
        }
        with_tls(&mut command, tls);
        let process = Process::spawn("pynetdicom SCP", command);
        process.wait_for_line(0, PATIENCE, |line| line.contains("listening").then_some(()));
        Self { port, tls: tls.is_some(), process, asked: AtomicU32::new(0) }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "dicoms" } else { "dicom" };
        format!("{scheme}://ARCHIVE@127.0.0.1:{}", self.port)
    }

    pub(crate) fn target(&self, client: Option<&Identity>) -> Target {
        Target { port: self.port, called: "ARCHIVE".to_owned(), calling: "MODALITY".to_owned(), tls: client.cloned() }
    }

    /// What it has said of each instance, in the order of arrival.
    fn said(&self) -> impl Iterator<Item = Stored> + use<> {
        // It speaks of an instance before it answers; once it has repeated a word of ours, all that has been read.
        let word = format!("caught up {}", self.asked.fetch_add(1, Ordering::Relaxed));
        self.process.write_line(&word);
        self.process.wait_for_line(0, PATIENCE, |line| line.contains(&format!("\"{word}\"")).then_some(()));
        self.process.lines().into_iter().filter_map(|line| serde_json::from_str(&line).ok())
    }

    /// What has arrived, with the files that hold the bare data sets, in the order of arrival.
    pub(crate) fn stored_files(&self) -> Vec<(DataSet, PathBuf)> {
        let arrived = |stored: Stored| {
            let data_set = DataSet {
                sop_class: stored.sop_class,
                sop_instance: stored.sop_instance,
                transfer_syntax: stored.transfer_syntax,
                sha256: stored.sha256,
                length: stored.length,
            };
            (data_set, stored.file)
        };
        self.said().map(arrived).collect()
    }

    /// It may answer.
    pub(crate) fn go(&self) {
        self.process.write_line("go");
    }

    /// How many C-STORE at most were outstanding on an association.
    pub(crate) fn most_outstanding(&self) -> Option<usize> {
        self.said().map(|stored| stored.outstanding).max()
    }

    /// What has arrived, in the order of arrival.
    pub(crate) fn stored_in_order(&self) -> Vec<DataSet> {
        self.stored_files().into_iter().map(|(data_set, _)| data_set).collect()
    }

    /// What has arrived, sorted.
    pub(crate) fn stored(&self) -> Vec<DataSet> {
        let mut all = self.stored_in_order();
        all.sort();
        all
    }
}

/// What a script that sends says of one file.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Sent {
    pub(crate) path: PathBuf,
    /// The number in the C-STORE response.
    pub(crate) status: Option<u16>,
    /// Why there is none.
    failure: Option<String>,
}

impl Sent {
    pub(super) fn outcome(&self) -> Outcome {
        match (self.status, &self.failure) {
            (Some(0), _) => Outcome::Success,
            (Some(status), _) => Outcome::Answered(format!("0x{status:04x}")),
            (None, failure) => Outcome::NotSent(failure.clone().unwrap_or_default()),
        }
    }
}

fn scu(target: &Target) -> Command {
    let mut command = script("scu.py");
    command.args(["--port", &target.port.to_string(), "--aet", &target.calling, "--aec", &target.called]);
    with_tls(&mut command, target.tls.as_ref());
    command
}

/// Paths for the standard input of a script.
pub(super) fn as_lines(files: &[PathBuf]) -> String {
    files.iter().map(|path| format!("{}\n", path.display())).collect()
}

/// C-ECHO.
///
/// # Errors
/// Why there was no success.
pub(crate) fn echo(target: &Target) -> Result<(), String> {
    echo_with(target, &[])
}

/// C-ECHO, with more arguments for the script.
///
/// # Errors
/// Why there was no success.
pub(crate) fn echo_with(target: &Target, arguments: &[&str]) -> Result<(), String> {
    let mut command = scu(target);
    command.arg("--echo").args(arguments);
    let said = Process::run("pynetdicom SCU", command, "", PATIENCE).text();
    if said.contains("\"status\": 0") { Ok(()) } else { Err(said) }
}

/// Sends the bytes of files as they are, with the UIDs of their data sets in the command.
pub(crate) fn send(target: &Target, files: &[PathBuf]) -> Outcomes {
    send_with(target, files, &[])
}

/// Sends the bytes of files as they are, with more arguments for the script.
pub(crate) fn send_with(target: &Target, files: &[PathBuf], arguments: &[&str]) -> Outcomes {
    let mut command = scu(target);
    command.args(arguments);
    let ended = Process::run("pynetdicom SCU", command, &as_lines(files), PATIENCE * 5);
    assert!(ended.status.success(), "scu.py ended with {}:\n{}", ended.status, ended.text());
    let parse = |line: &String| serde_json::from_str::<Sent>(line).ok();
    ended.lines.iter().filter_map(parse).map(|sent| (sent.path.clone(), sent.outcome())).collect()
}

/// A modality that sends again, in the background, whatever has not been answered with 0000.
pub(crate) struct ResendingScu {
    process: Process,
}

impl ResendingScu {
    /// Rests `pace` after each instance, gives up after `deadline`.
    pub(crate) fn start(target: &Target, files: &[PathBuf], pace: Duration, deadline: Duration) -> Self {
        let mut command = scu(target);
        command.args(["--resend", "--timeout", "15"]);
        command.args(["--pace", &pace.as_secs_f64().to_string(), "--deadline", &deadline.as_secs_f64().to_string()]);
        let process = Process::spawn("resending pynetdicom SCU", command);
        process.write(&as_lines(files));
        Self { process }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// The files that have been answered with 0000 so far.
    pub(crate) fn acknowledged(&self) -> Vec<Sent> {
        let parse = |line: String| serde_json::from_str::<Sent>(&line).ok();
        self.process.lines().into_iter().filter_map(parse).filter(|sent| sent.status == Some(0)).collect()
    }

    /// Waits for its end and gives all that it said.
    pub(crate) fn finish(self, limit: Duration) -> Vec<Sent> {
        let ended = self.process.finish(limit);
        assert!(ended.status.success(), "scu.py ended with {}:\n{}", ended.status, ended.text());
        ended.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// Compares pairs of Part 10 files element by element, in whatever transfer syntax each of them is.
///
/// # Errors
/// The tags in which any two differ (never the values).
pub(crate) fn same_elements(pairs: &[(PathBuf, PathBuf)]) -> Result<(), String> {
    let input: String = pairs.iter().map(|(a, b)| format!("{}\t{}\n", a.display(), b.display())).collect();
    let ended = Process::run("compare.py", script("compare.py"), &input, PATIENCE * 2);
    if ended.status.success() { Ok(()) } else { Err(ended.text()) }
}

/// Checks pairs of Part 10 files, before and after attributes were changed on the way; see `tests/peers/coerced.py`.
///
/// # Errors
/// What is not as it is to be (never the values).
pub(crate) fn coerced(pairs: &[(PathBuf, PathBuf)], wanted: &[&str]) -> Result<(), String> {
    let input: String = pairs.iter().map(|(a, b)| format!("{}\t{}\n", a.display(), b.display())).collect();
    let mut command = script("coerced.py");
    command.args(wanted);
    let ended = Process::run("coerced.py", command, &input, PATIENCE * 2);
    if ended.status.success() { Ok(()) } else { Err(ended.text()) }
}
