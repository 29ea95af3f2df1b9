//! Whether what arrived is what was sent: each instance, decoded by others' code (`pixels.py`).

use std::error::Error;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

/// What [`of`] found.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Checked {
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
    /// The data set byte for byte.
    pub(crate) identical: u64,
    /// Those that are not, and why.
    pub(crate) wrong: Vec<String>,
    /// Of the data sets that arrived.
    pub(crate) bytes: u64,
}

impl Checked {
    /// For a cell of the table.
    pub(crate) fn in_short(&self) -> String {
        match (self.wrong.len(), self.arrived) {
            (0, 0) => "–".to_owned(),
            (0, arrived) if arrived == self.identical => "same bytes".to_owned(),
            (0, _) => "same pixels".to_owned(),
            (wrong, _) => format!("**{wrong} wrong**: {}", self.wrong.first().map_or("", String::as_str)),
        }
    }
}

/// Compares two folders.
pub(crate) fn of(sent: &Path, arrived: &Path) -> Result<Checked, Box<dyn Error>> {
    let peers = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers"));
    let mut command = Command::new(peers.join("venv/bin/python"));
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/link/pixels.py")).arg(sent).arg(arrived);
    // The decoders of `make bench-codec`, if they are there.
    let libraries = std::fs::read_dir(peers.join("codec/lib")).into_iter().flatten().flatten();
    if let Some(library) = libraries.map(|entry| entry.path().join("site-packages")).find(|path| path.is_dir()) {
        command.env("PYTHONPATH", library);
    }
    let output = command.output().map_err(|error| format!("pydicom is missing ({error}): scripts/setup-test-peers"))?;
    if !output.status.success() {
        return Err(format!("pixels.py: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
