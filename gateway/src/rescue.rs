//! What can be done with the data directory of a box that does not run: look whether it is whole, and take out what was
//! not delivered.
//!
//! Both read the log through [`Salvage`] and change nothing in the directory. A rescued instance is a Part 10 file
//! (PS3.10) whose data set is byte for byte what the modality sent, checked against the SHA-256 of its arrival; what is
//! damaged becomes no file, and is listed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::dataset::part10::FileMeta;
use crate::durable::{Disk, FileSystem};
use crate::forward::folder::{self, Filing, FilingError};
use crate::model::InstanceId;
use crate::spool::{Damage, IoFailure, Item, OpenError, Salvage, Salvaged};

/// The name of the list in the folder of a rescue.
pub const LIST: &str = "rescued.csv";

const COLUMNS: &str = "id,sop_instance_uid,sop_class_uid,study_instance_uid,series_instance_uid,transfer_syntax,\
                       calling_ae,received_at,bytes,sha256,waiting_for,result,file";

/// Why a rescue or a check could not be finished.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// The data directory cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The data directory cannot be listed.
    #[error("{0}")]
    Log(#[from] IoFailure),
    /// Files would be written into the directory that must stay as it is.
    #[error("{0} is inside the data directory, which must stay as it is: choose a folder elsewhere")]
    Inside(PathBuf),
    /// The list, or the folder for it, cannot be written.
    #[error(
        "cannot write {path}: {source}; check free space and permissions, and start again: nothing is written twice"
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A rescued file cannot be written.
    #[error("{0}; start again when that is mended: nothing is written twice")]
    File(#[from] FilingError),
    /// The index failed while it was read.
    #[error("the index failed while it was read: {0}; `waystation spool reindex` builds it again")]
    Index(String),
}

/// How far a rescue or a check is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records looked at.
    pub records: u64,
    /// Bytes of data sets read.
    pub bytes: u64,
}

/// What a rescue has found.
#[derive(Debug, Default)]
pub struct Rescued {
    /// Instances that are files now.
    pub written: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
    /// Records that were left out, because every destination has them.
    pub delivered: u64,
    /// Records that are damaged, and other damaged places: what is wrong.
    pub damaged: Vec<String>,
    /// Why nothing is known about deliveries, if nothing is: then everything that was found is a file.
    pub index_problem: Option<String>,
}

/// Writes everything that is not known to be delivered everywhere into `out`, as `STUDY/SERIES/INSTANCE.dcm`, with a list.
/// Started again, it goes on: what is there is recognised by its content.
///
/// # Errors
/// See [`RescueError`]. Damage is no error; it is in the result and in the list.
pub fn rescue(data: &Path, out: &Path, mut progress: impl FnMut(Progress)) -> Result<Rescued, RescueError> {
    let salvage = Salvage::open(data)?;
    let write = |source| RescueError::Write { path: out.to_owned(), source };
    fs::create_dir_all(out).map_err(write)?;
    let (inside, whole) = (out.canonicalize().map_err(write)?, data.canonicalize().map_err(write)?);
    if inside.starts_with(whole) {
        return Err(RescueError::Inside(out.to_owned()));
    }
    let mut list = List::create(out)?;
    let mut done = Progress::default();
    let mut rescued = Rescued { index_problem: salvage.index_problem().map(str::to_owned), ..Rescued::default() };
    salvage.walk(|item| {
        match item {
            Item::Damage(damage) => rescued.damaged.push(describe(&damage)),
            Item::Record(found) => {
                done.records += 1;
                // What goes nowhere is nobody's yet: it comes out.
                if found.is_indexed && found.waiting_for.is_empty() && !found.header.destinations.is_empty() {
                    rescued.delivered += 1;
                } else {
                    match file(&salvage, out, &found) {
                        Ok(path) => {
                            rescued.written += 1;
                            rescued.bytes += found.length;
                            done.bytes += found.length;
                            list.add(&found, "rescued", &path.display().to_string())?;
                        }
                        Err(FilingError::Payload(error)) => {
                            rescued.damaged.push(format!("instance {}: {error}", found.id));
                            list.add(&found, "damaged", "")?;
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                progress(done);
            }
        }
        Ok::<_, RescueError>(())
    })?;
    list.finish()?;
    Ok(rescued)
}

fn file(salvage: &Salvage, out: &Path, found: &Salvaged) -> Result<PathBuf, FilingError> {
    let header = &found.header;
    let meta = FileMeta {
        sop_class_uid: header.sop_class_uid.clone(),
        sop_instance_uid: header.sop_instance_uid.clone(),
        transfer_syntax: header.transfer_syntax.clone(),
        source_ae: Some(header.calling_ae.clone()),
    };
    let (study, series) = (header.study_instance_uid.as_ref(), header.series_instance_uid.as_ref());
    let filing = Filing { meta: &meta, study, series, hash: found.hash };
    folder::file(out, &filing, salvage.read(found).map_err(FilingError::Payload)?)
}

fn describe(damage: &Damage) -> String {
    format!("{}, offset {}: {}", damage.segment, damage.offset, damage.problem)
}

/// The list of a rescue: a line for each instance that is not delivered.
struct List {
    out: BufWriter<File>,
    path: PathBuf,
    folder: PathBuf,
}

impl List {
    fn create(folder: &Path) -> Result<Self, RescueError> {
        let path = folder.join(LIST);
        let file = File::create(&path).map_err(|source| RescueError::Write { path: path.clone(), source })?;
        let mut list = Self { out: BufWriter::new(file), path, folder: folder.to_owned() };
        list.line(COLUMNS)?;
        Ok(list)
    }

    fn line(&mut self, line: &str) -> Result<(), RescueError> {
        writeln!(self.out, "{line}").map_err(|source| RescueError::Write { path: self.path.clone(), source })
    }

    fn add(&mut self, found: &Salvaged, result: &str, file: &str) -> Result<(), RescueError> {
        let header = &found.header;
        let uid = |uid: &Option<crate::model::Uid>| uid.as_ref().map_or_else(String::new, ToString::to_string);
        let waiting_for: Vec<_> = found.waiting_for.iter().map(ToString::to_string).collect();
        let fields = [
            found.id.to_string(),
            header.sop_instance_uid.to_string(),
            header.sop_class_uid.to_string(),
            uid(&header.study_instance_uid),
            uid(&header.series_instance_uid),
            header.transfer_syntax.to_string(),
            header.calling_ae.to_string(),
            header.received_at.to_string(),
            found.length.to_string(),
            found.hash.to_string(),
            waiting_for.join(" "),
            result.to_owned(),
            file.to_owned(),
        ];
        self.line(&fields.map(|field| quoted(&field)).join(","))
    }

    fn finish(self) -> Result<(), RescueError> {
        let (path, folder) = (self.path, self.folder);
        let write = |source| RescueError::Write { path: path.clone(), source };
        let file = self.out.into_inner().map_err(|error| write(error.into_error()))?;
        file.sync_all().and_then(|()| FileSystem::default().sync_dir(&folder)).map_err(write)
    }
}

/// A field of a CSV file (RFC 4180).
fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

/// What a check has found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Records that are whole.
    pub whole: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
    /// Of these, how many still have to be delivered somewhere, as far as is known.
    pub undelivered: u64,
    /// Of these, how many the index does not know: the next start enters them.
    pub not_indexed: u64,
    /// Damaged records and places, each with what is wrong. A power cut may leave a torn record that was never
    /// acknowledged at the end of a segment.
    pub damaged: Vec<String>,
    /// Instances that the index knows and that are not whole in the log.
    pub missing: Vec<InstanceId>,
    /// Why the index cannot be used, if it cannot.
    pub index_problem: Option<String>,
}

impl Checked {
    /// Whether nothing was found that somebody should look at.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty() && self.index_problem.is_none()
    }
}

/// Reads the whole log and every payload, and compares it with the index.
///
/// # Errors
/// See [`RescueError`]; what is wrong with the data is no error.
pub fn check(data: &Path, mut progress: impl FnMut(Progress)) -> Result<Checked, RescueError> {
    let salvage = Salvage::open(data)?;
    let mut checked = Checked { index_problem: salvage.index_problem().map(str::to_owned), ..Checked::default() };
    let mut done = Progress::default();
    let mut contents = BTreeMap::new();
    salvage.walk(|item| {
        match item {
            Item::Damage(damage) => checked.damaged.push(describe(&damage)),
            Item::Record(found) => {
                done.records += 1;
                match salvage.read(&found).and_then(|mut payload| drain(&mut payload)) {
                    Ok(bytes) => {
                        checked.whole += 1;
                        checked.bytes += bytes;
                        checked.undelivered += u64::from(!found.waiting_for.is_empty());
                        checked.not_indexed += u64::from(!found.is_indexed && salvage.index_problem().is_none());
                        contents.insert((found.header.sop_instance_uid.to_string(), found.hash.0), ());
                    }
                    Err(error) => checked.damaged.push(format!("instance {}: {error}", found.id)),
                }
                done.bytes += found.length;
                progress(done);
            }
        }
        Ok::<_, RescueError>(())
    })?;
    let missing = salvage.missing(&contents).map_err(RescueError::Index)?;
    checked.missing = missing.into_iter().map(|(id, _)| id).collect();
    Ok(checked)
}

fn drain(payload: &mut impl Read) -> io::Result<u64> {
    io::copy(payload, &mut io::sink())
}

#[cfg(test)]
mod tests;
