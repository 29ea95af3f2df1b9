//! Where each command enters the library: one function for each, with everything parsed and checked.

use std::path::{Path, PathBuf};

use waystation::config::Config;
use waystation::model::DestinationName;

use super::{Call, Failure};

fn not_in_this_build(command: &str) -> Result<(), Failure> {
    Err(Failure::Failed(format!("this build has no {command:?}")))
}

/// Runs the gateway until it is told to stop. The log is set up, the TLS provider installed.
pub(crate) fn run(_config: Config) -> Result<(), Failure> {
    not_in_this_build("run")
}

/// C-ECHO; prints how long the answer took.
pub(crate) fn echo(_call: &Call) -> Result<(), Failure> {
    not_in_this_build("echo")
}

/// C-STORE of every DICOM file at and below the paths; a progress bar, a summary.
pub(crate) fn send(_call: &Call, _paths: &[PathBuf]) -> Result<(), Failure> {
    not_in_this_build("send")
}

/// Asks the gateway that runs on `data` over its control socket, and prints what it holds.
pub(crate) fn status(_data: &Path, _json: bool) -> Result<(), Failure> {
    not_in_this_build("status")
}

/// Asks the gateway that runs on `data`, and prints a line for each instance and delivery.
pub(crate) fn receipts(_data: &Path, _json: bool) -> Result<(), Failure> {
    not_in_this_build("receipts")
}

/// Asks the gateway that runs on `data` to try everything parked for this destination again.
pub(crate) fn retry(_data: &Path, _destination: &DestinationName) -> Result<(), Failure> {
    not_in_this_build("retry")
}

/// Writes a CT series of an invented patient into `folder`.
pub(crate) fn phantom(_folder: &Path, _slices: u16) -> Result<(), Failure> {
    not_in_this_build("phantom")
}
