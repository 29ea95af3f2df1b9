//! DCMTK's tools (3.6.7 in Debian 12) as modality and archive.
//!
//! - `storescp +B` writes what came byte for byte; `+xa` accepts every transfer syntax it knows, `-pm` every SOP class.
//!   Without `--fork` it serves one association after the other, so that one signal ends all of it. It listens on every
//!   interface; there is no option against that.
//! - `dcmsend` sends each file in its own transfer syntax and reports each answer; this version has no TLS.
//! - `storescu` has TLS; it proposes uncompressed transfer syntaxes only, and Explicit VR in the byte order of the file
//!   where that is explicit.
//! - Debian's build leaves Nagle's algorithm on, which costs 40 ms for each instance; `TCP_NODELAY=1` in the environment
//!   turns it off.
//! - A data set that arrives with an odd number of bytes ends the association, `+B` or not ("Odd Fragment Length").
//! - Both senders read and write a data set anew, so what they send is not always what is in the file: a direct run to
//!   `storescp` says what it is.

use std::collections::HashMap;
use std::fmt;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pki::Identity;
use super::ports::free_port;
use super::process::Process;
use super::{PATIENCE, files_below, until};

/// Whom a modality calls, and as whom.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) port: u16,
    pub(crate) called: String,
    pub(crate) calling: String,
    pub(crate) tls: Option<Identity>,
}

/// What became of one file, in a sender's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered 0000.
    Success,
    /// Answered with another status.
    Answered(String),
    /// Not sent, or sent without an answer.
    NotSent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("0x0000"),
            Self::Answered(answer) => f.write_str(answer),
            Self::NotSent(why) => write!(f, "no answer: {why}"),
        }
    }
}

/// What became of each file, by its path.
pub(crate) type Outcomes = HashMap<PathBuf, Outcome>;

/// Panics unless every file was answered 0000.
pub(crate) fn all_succeed(outcomes: &Outcomes, files: &[PathBuf]) {
    let failed: Vec<_> = files.iter().filter(|path| outcomes.get(*path) != Some(&Outcome::Success)).collect();
    let shown: Vec<_> = failed.iter().take(10).map(|path| (path, outcomes.get(*path))).collect();
    assert!(failed.is_empty(), "{} of {} files have no answer 0000: {shown:#?}", failed.len(), files.len());
}

fn with_tls(command: &mut Command, tls: Option<&Identity>) {
    if let Some(identity) = tls {
        command.arg("+tls").args([&identity.key, &identity.cert]).arg("+cf").arg(&identity.ca).arg("-rc");
    }
}

fn sender(tool: &str, target: &Target) -> Command {
    let mut command = Command::new(tool);
    command.env("TCP_NODELAY", "1");
    command.args(["-v", "-aet", &target.calling, "-aec", &target.called]);
    command.args(["-to", "10", "-ta", "30", "-td", "120"]);
    command
}

fn peer(command: &mut Command, target: &Target) {
    command.arg("127.0.0.1").arg(target.port.to_string());
}

/// C-ECHO.
///
/// # Errors
/// The last thing that echoscu had to say.
pub(crate) fn echoscu(target: &Target) -> Result<(), String> {
    echoscu_with(target, &[])
}

/// C-ECHO, with more options.
///
/// # Errors
/// The last thing that echoscu had to say.
pub(crate) fn echoscu_with(target: &Target, options: &[&str]) -> Result<(), String> {
    let mut command = sender("echoscu", target);
    command.args(options);
    with_tls(&mut command, target.tls.as_ref());
    peer(&mut command, target);
    let ended = Process::run("echoscu", command, "", PATIENCE);
    if ended.status.success() { Ok(()) } else { Err(ended.text()) }
}

/// Sends files over one association.
pub(crate) fn storescu(target: &Target, files: &[PathBuf]) -> Outcomes {
    storescu_with(target, files, &[])
}

/// Sends files over one association, with more options.
pub(crate) fn storescu_with(target: &Target, files: &[PathBuf], options: &[&str]) -> Outcomes {
    let mut command = sender("storescu", target);
    command.args(options).arg("-nh");
    // Without -R it proposes a fixed list of SOP classes, in which the rarer ones are missing; a profile has its own.
    if !options.contains(&"-xf") {
        command.arg("-R");
    }
    with_tls(&mut command, target.tls.as_ref());
    peer(&mut command, target);
    command.args(files);
    let ended = Process::run("storescu", command, "", PATIENCE * 5);
    let mut outcomes = Outcomes::new();
    let mut current = None;
    for line in &ended.lines {
        if let Some(path) = line.strip_prefix("I: Sending file: ") {
            let path = PathBuf::from(path);
            outcomes.insert(path.clone(), Outcome::NotSent(format!("the tool ended: {}", ended.status)));
            current = Some(path);
        } else if let (Some(path), Some(answer)) = (&current, after(line, "Received Store Response (")) {
            outcomes.insert(path.clone(), answered(answer.trim_end_matches(')')));
        } else if let (Some(path), Some(error)) = (&current, line.strip_prefix("E: "))
            && matches!(outcomes.get(path), Some(Outcome::NotSent(_)))
        {
            outcomes.insert(path.clone(), Outcome::NotSent(error.to_owned()));
        }
    }
    for path in files {
        outcomes.entry(path.clone()).or_insert_with(|| Outcome::NotSent(ended.text()));
    }
    outcomes
}

/// Sends files, each in its own transfer syntax, over as many associations as they need, one after the other.
pub(crate) fn dcmsend(target: &Target, files: &[PathBuf], scratch: &Path) -> Outcomes {
    dcmsend_with(target, files, &[], scratch)
}

/// The same, with more options.
pub(crate) fn dcmsend_with(target: &Target, files: &[PathBuf], options: &[&str], scratch: &Path) -> Outcomes {
    assert!(target.tls.is_none(), "dcmsend 3.6.7 has no TLS");
    let report = scratch.join(format!("dcmsend-{}.txt", target.port));
    let mut command = sender("dcmsend", target);
    // No halt at a bad file, no judgement on UIDs, no decompression; the report is written even if nothing was sent.
    command.args(options).args(["-nh", "-nuc", "-dn", "+crf"]).arg(&report);
    peer(&mut command, target);
    command.args(files);
    let ended = Process::run("dcmsend", command, "", PATIENCE * 5);
    let mut outcomes = Outcomes::new();
    let mut current = None;
    for line in std::fs::read_to_string(&report).unwrap_or_default().lines() {
        if let Some(path) = after(line, "Filename      : ") {
            current = Some(PathBuf::from(path));
        } else if let (Some(path), Some(answer)) = (&current, after(line, "DIMSE Status  : ")) {
            let outcome = match answer {
                "<not sent>" => Outcome::NotSent(why_not_sent(&ended.lines, path)),
                "0x0000 (Success)" => Outcome::Success,
                answer => Outcome::Answered(answer.to_owned()),
            };
            outcomes.insert(path.clone(), outcome);
        }
    }
    for path in files {
        let why = || Outcome::NotSent(why_not_sent(&ended.lines, path));
        outcomes.entry(path.clone()).or_insert_with(why);
    }
    drop(std::fs::remove_file(&report));
    outcomes
}

/// dcmsend's own words for a file that is in its report without an answer.
fn why_not_sent(lines: &[String], path: &Path) -> String {
    let name = format!("{}: ", path.display());
    let told = lines.iter().find_map(|line| after(line, &name));
    let fatal = || lines.iter().find_map(|line| line.strip_prefix("F: "));
    told.or_else(fatal).unwrap_or("dcmsend names no reason").to_owned()
}

fn after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.split_once(mark).map(|(_, rest)| rest)
}

fn answered(words: &str) -> Outcome {
    if words == "Success" { Outcome::Success } else { Outcome::Answered(words.to_owned()) }
}

/// storescp as an archive that can go away and come back.
pub(crate) struct Storescp {
    pub(crate) port: u16,
    pub(crate) aet: &'static str,
    folder: PathBuf,
    tls: Option<Identity>,
    process: Option<Process>,
}

impl Storescp {
    /// An archive that is not there yet, writing into this folder.
    pub(crate) fn away(folder: PathBuf, tls: Option<&Identity>) -> Self {
        Self { port: free_port(), aet: "ARCHIVE", folder, tls: tls.cloned(), process: None }
    }

    /// An archive that listens.
    pub(crate) fn start(folder: PathBuf, tls: Option<&Identity>) -> Self {
        let mut archive = Self::away(folder, tls);
        archive.come_back();
        archive
    }

    /// Starts it, on the port it always had.
    pub(crate) fn come_back(&mut self) {
        let mut command = Command::new("storescp");
        command.env("TCP_NODELAY", "1");
        command.args(["-v", "+B", "+xa", "-pm", "-ta", "10", "-td", "60", "-dhl", "-pdu", "131072"]);
        command.args(["-aet", self.aet, "-od"]).arg(&self.folder);
        with_tls(&mut command, self.tls.as_ref());
        command.arg(self.port.to_string());
        let mut process = Process::spawn("storescp", command);
        // It does not say when it listens; a connection that ends at once is a failed association and nothing more.
        until("storescp to listen", PATIENCE, || {
            assert!(process.is_running(), "storescp ended:\n{}", process.lines().join("\n"));
            TcpStream::connect(("127.0.0.1", self.port)).map_err(|error| error.to_string())
        });
        self.process = Some(process);
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn go_away(&mut self) {
        self.process = None;
    }

    /// What it has been sent so far. A file is written as it comes: look when the transfer is over.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_below(&self.folder)
    }

    pub(crate) fn url(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "dicoms" } else { "dicom" };
        format!("{scheme}://{}@{host}:{}", self.aet, self.port)
    }

    pub(crate) fn target(&self, client: Option<&Identity>) -> Target {
        Target { port: self.port, called: self.aet.to_owned(), calling: "MODALITY".to_owned(), tls: client.cloned() }
    }

    /// What it has logged since it was last started.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(|process| process.lines().join("\n")).unwrap_or_default()
    }
}
