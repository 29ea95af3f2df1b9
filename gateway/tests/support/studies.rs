//! The files that the tests send: those of `WAYSTATION_STUDIES`, or else those that pydicom brings along.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde::Deserialize;

use super::part10::DataSet;
use super::process::Process;
use super::pynetdicom::script;
use super::{PATIENCE, files_below, repository};

/// One file, as pydicom and DCMTK judge it.
#[derive(Debug, Deserialize)]
pub(crate) struct Study {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// Why it is not a valid instance; `None` if it is one.
    pub(crate) reason: Option<String>,
    /// SHA-256 of its data set, if a file meta group tells where that begins.
    pub(crate) sha256: Option<String>,
    #[serde(default)]
    pub(crate) transfer_syntax: String,
    #[serde(default)]
    pub(crate) sop_class: String,
    #[serde(default)]
    pub(crate) sop_instance: String,
}

/// The folder that all files are in.
pub(crate) fn root() -> PathBuf {
    if let Some(folder) = std::env::var_os("WAYSTATION_STUDIES") {
        return folder.into();
    }
    let library = repository().join("target/peers/venv/lib");
    let data = |entry: std::fs::DirEntry| entry.path().join("site-packages/pydicom/data");
    let entries = std::fs::read_dir(&library).expect("pydicom is missing: run scripts/setup-test-peers");
    entries.flatten().map(data).find(|folder| folder.is_dir()).expect("pydicom brings no test files along")
}

/// Every file below the root, judged once for all tests of this process.
pub(crate) fn all() -> &'static [Study] {
    static ALL: OnceLock<Vec<Study>> = OnceLock::new();
    ALL.get_or_init(judge)
}

fn judge() -> Vec<Study> {
    let mut command = script("inspect_files.py");
    command.arg(root());
    let ended = Process::run("inspect_files.py", command, "", PATIENCE * 2);
    assert!(ended.status.success(), "inspect_files.py ended with {}:\n{}", ended.status, ended.text());
    let studies: Vec<Study> = ended.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(studies.len(), files_below(&root()).len(), "one line for each file");
    studies
}

/// A few dozen valid files of many kinds, small enough to be sent often: one for each SOP class and transfer syntax, each
/// another instance, called the same in its file meta group and its data set.
///
/// Those with an odd number of bytes are left out: DCMTK, and with it Orthanc, ends the association over them.
pub(crate) fn assortment() -> Vec<PathBuf> {
    let (mut kinds, mut instances) = (HashSet::new(), HashSet::new());
    let mut chosen = Vec::new();
    for study in all().iter().filter(|study| study.reason.is_none() && study.size < 1 << 20) {
        let kind = (&study.sop_class, &study.transfer_syntax);
        let file = DataSet::of_file(&study.path);
        if !kinds.contains(&kind)
            && file.length.is_multiple_of(2)
            && file.sop_instance == study.sop_instance
            && instances.insert(&study.sop_instance)
        {
            kinds.insert(kind);
            chosen.push(study.path.clone());
        }
    }
    chosen
}
