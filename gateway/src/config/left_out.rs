//! Files of admitted modalities that cannot be used. The gateway runs without them: a box in a clinic must not stay down
//! because of one of them, and nobody is let in more widely because of one that is missing.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::document::{Content, Document};
use super::finding::{Finding, Findings, Place};
use super::modalities::{FOLDER, TABLE};
use super::{Config, read_file};
use crate::logging::escaped;
use crate::model::AeTitle;

/// A modality whose file cannot be used: it is refused until the file is right and the gateway is reloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The name of the file without its end, which is the modality's.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The calling AE title, if as much can be read.
    pub aet: Option<AeTitle>,
    /// What is wrong with the file, and what to do.
    pub finding: Finding,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the modality {} is left out and refused, because of {}",
            escaped(&self.name),
            self.finding.in_one_line()
        )
    }
}

impl LeftOut {
    fn of(file: &Path, finding: Finding) -> Self {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self { name, aet: calling(file), file: file.to_owned(), finding }
    }
}

/// The calling AE title in a file that may otherwise be anything.
fn calling(file: &Path) -> Option<AeTitle> {
    let text = read_file(file).ok()?;
    let mut document = Document::default();
    document.read_named(file, &text, TABLE, "");
    match document.get(TABLE, "", "aet")?.content {
        Content::Text(title) => title.parse().ok(),
        _ => None,
    }
}

/// Reads a configuration by `read`, again and again without the file that is wrong, until no file of an admitted modality
/// is. One at a time: a file that contradicts another is right when that one is gone.
///
/// # Errors
/// Something else is wrong, or the system does not give a file now.
pub(super) fn leaving_out(
    read: impl Fn(&BTreeSet<PathBuf>) -> Result<Config, Findings>,
) -> Result<(Config, Vec<LeftOut>), Findings> {
    let (mut without, mut left_out) = (BTreeSet::new(), Vec::new());
    loop {
        let findings = match read(&without) {
            Ok(config) => return Ok((config, left_out)),
            Err(findings) => findings,
        };
        let of_modalities = findings.list.iter().all(|finding| file_of_modality(finding).is_some());
        let Some((file, first)) = findings.list.first().and_then(|first| Some((file_of_modality(first)?, first)))
        else {
            return Err(findings);
        };
        if findings.passing || !of_modalities || !without.insert(file.to_owned()) {
            return Err(findings);
        }
        left_out.push(LeftOut::of(file, first.clone()));
    }
}

/// The file of an admitted modality that a finding is about.
fn file_of_modality(finding: &Finding) -> Option<&Path> {
    let Place::File { file, .. } = &finding.place else { return None };
    let is_one = file.extension().is_some_and(|extension| extension == "toml")
        && file.parent().and_then(Path::file_name).is_some_and(|folder| folder == FOLDER);
    is_one.then_some(file)
}
