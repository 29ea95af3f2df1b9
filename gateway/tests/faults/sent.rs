//! What a modality has sent, what it was told of it, and what is in the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::support::dcmtk::{Outcome, Outcomes};
use super::support::files_below;
use super::support::part10::DataSet;

/// The instances of one modality.
#[derive(Default)]
pub(crate) struct Sent {
    all: BTreeMap<PathBuf, DataSet>,
    acknowledged: BTreeSet<PathBuf>,
    arrived: BTreeSet<PathBuf>,
}

impl Sent {
    /// These are to be sent, too.
    pub(crate) fn add(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.all.extend(files.into_iter().map(|path| {
            let data_set = DataSet::of_file(&path);
            (path, data_set)
        }));
    }

    /// The modality saw these answers.
    pub(crate) fn saw(&mut self, outcomes: &Outcomes) {
        let successes = outcomes.iter().filter(|(_, outcome)| **outcome == Outcome::Success);
        self.acknowledged.extend(successes.map(|(path, _)| path.clone()));
    }

    /// Those without an answer 0000: a modality sends them again.
    pub(crate) fn waiting(&self) -> Vec<PathBuf> {
        self.all.keys().filter(|path| !self.acknowledged.contains(*path)).cloned().collect()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Instances with an answer 0000 that are not in this folder, or not whole.
    pub(crate) fn missing(&mut self, archive: &Path) -> Vec<PathBuf> {
        let mut unseen: Vec<PathBuf> = self.acknowledged.difference(&self.arrived).cloned().collect();
        if unseen.is_empty() {
            return unseen;
        }
        // The gateway gives a file its name when it is complete.
        let there: BTreeMap<String, PathBuf> =
            files_below(archive).into_iter().map(|path| (name_of(&path), path)).collect();
        unseen.retain(|path| {
            let sent = &self.all[path];
            let found = there.get(&format!("{}.dcm", sent.sop_instance));
            let is_whole = found.is_some_and(|file| DataSet::of_file(file) == *sent);
            if is_whole {
                self.arrived.insert(path.clone());
            }
            !is_whole
        });
        unseen
    }

    /// Files in this folder that are not what was sent: cut short, changed, or unknown.
    pub(crate) fn corrupt(&self, archive: &Path) -> Vec<PathBuf> {
        let sent: BTreeSet<&DataSet> = self.all.values().collect();
        let is_final = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "dcm");
        let files = files_below(archive).into_iter().filter(is_final);
        files.filter(|path| !sent.contains(&DataSet::of_file(path))).collect()
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
