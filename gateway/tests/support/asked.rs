//! An archive that can be asked what it has: pynetdicom, through `tests/peers/archive.py`.

use serde_json::Value;

use super::PATIENCE;
use super::pki::Identity;
use super::ports::free_port;
use super::process::Process;
use super::pynetdicom::{script, with_tls};

/// A running archive.
pub(crate) struct Asked {
    port: u16,
    tls: bool,
    process: Process,
}

impl Asked {
    /// Starts it with these options of the script.
    pub(crate) fn start(tls: Option<&Identity>, options: &[&str]) -> Self {
        let port = free_port();
        let mut command = script("archive.py");
        command.args(["--port", &port.to_string()]).args(options);
        with_tls(&mut command, tls);
        let process = Process::spawn("archive.py", command);
        process.wait_for_line(0, PATIENCE, |line| line.contains("listening").then_some(()));
        Self { port, tls: tls.is_some(), process }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "dicoms" } else { "dicom" };
        format!("{scheme}://ARCHIVE@127.0.0.1:{}", self.port)
    }

    /// What has happened, of this kind.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let lines = self.process.lines();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["event"] == kind).collect()
    }
}
