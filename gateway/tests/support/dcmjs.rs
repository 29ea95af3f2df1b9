//! dcmjs-dimse as modality, through `tests/peers/dcmjs/scu.js`: what it sends and what it cannot.
//!
//! - It reads and writes every data set anew, so what it sends is not always what is in the file: a direct run to an archive
//!   that keeps bytes says what it is.
//! - It sends what has to be deflated as it is. It changes the transfer syntax of pixels of 8 and 16 bits only, and reads RLE
//!   of 32 bits without an end. Some files it cannot read; the script tells those apart before it connects.
//! - It restricts itself to the maximum length that the acceptor announces, in odd fragments if that is odd.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::committing::Report;
use super::dcmtk::{Outcome, Outcomes, Target};
use super::process::Process;
use super::pynetdicom::{Sent, as_lines, with_tls};
use super::{PATIENCE, repository};

fn scu(target: &Target) -> Command {
    let modules = repository().join("target/peers/dcmjs/node_modules");
    assert!(modules.join("dcmjs-dimse").exists(), "dcmjs-dimse is missing: run scripts/setup-test-peers");
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/dcmjs/scu.js"));
    command.args(["--port", &target.port.to_string(), "--aet", &target.calling, "--aec", &target.called]);
    with_tls(&mut command, target.tls.as_ref());
    command
}

/// All that the script said, line by line.
fn run(target: &Target, files: &[PathBuf], arguments: &[&str]) -> Vec<Value> {
    let mut command = scu(target);
    command.args(arguments);
    let ended = Process::run("dcmjs-dimse SCU", command, &as_lines(files), PATIENCE * 3);
    assert!(ended.status.success(), "scu.js ended with {}:\n{}", ended.status, ended.text());
    ended.printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// C-ECHO, with more arguments for the script.
///
/// # Errors
/// All that the script said.
pub(crate) fn echo_with(target: &Target, arguments: &[&str]) -> Result<(), String> {
    let said = run(target, &[], &[&["--echo"][..], arguments].concat());
    let is_answer = |line: &Value| line["event"] == "echo" && line["status"] == 0;
    if said.iter().any(is_answer) { Ok(()) } else { Err(format!("{said:?}")) }
}

/// Sends files over one association, with more arguments for the script.
pub(crate) fn send_with(target: &Target, files: &[PathBuf], arguments: &[&str]) -> Outcomes {
    outcomes(files, &run(target, files, arguments))
}

fn outcomes(files: &[PathBuf], said: &[Value]) -> Outcomes {
    let not_sent = |path: &PathBuf| (path.clone(), Outcome::NotSent(format!("it ended early: {said:?}")));
    let mut outcomes: Outcomes = files.iter().map(not_sent).collect();
    let parse = |line: &Value| serde_json::from_value::<Sent>(line.clone()).ok();
    outcomes.extend(said.iter().filter_map(parse).map(|sent| (sent.path.clone(), sent.outcome())));
    outcomes
}

/// Sends files, asks for their commitment in the same association, and gives the report on it.
pub(crate) fn commit(target: &Target, files: &[PathBuf], transaction: &str, arguments: &[&str]) -> (Outcomes, Report) {
    let said = run(target, files, &[&["--commit", transaction][..], arguments].concat());
    let is_answer = |line: &Value| line["event"] == "asked" && line["status"] == 0;
    assert!(said.iter().any(is_answer), "{said:?}");
    let reports: Vec<Report> = said.iter().filter_map(|line| Report::read(&line.to_string())).collect();
    let [report] = &reports[..] else { panic!("{said:?}") };
    (outcomes(files, &said), report.clone())
}
