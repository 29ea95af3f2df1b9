//! Transactions on stable storage: one small file each, written once, read whenever it is judged, removed in the end.
//!
//! ```text
//! offset  size  all integers little endian
//!      0     8  magic "WSCOMMIT"
//!      8     2  format version, 1
//!     10     2  zero
//!     12     4  length of the body
//!     16     4  CRC-32C of bytes 0..16 and of the body
//!     20     …  body: a CBOR map (RFC 8949) with text keys; unknown keys are ignored
//! ```
//!
//! A file is created under `NUMBER.tmp`, written, flushed and renamed, and its directory is flushed: then it is there after
//! a power cut, whole. Its number is given once in a run, and counts up from the highest that was found. A number says
//! nothing; what a peer sent is never part of a name. Removing a file is not flushed: after a power cut a report may be
//! made again.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::error;

use super::Transaction;
use crate::durable::{self, Disk, DiskFile, Fate, fate};

/// The folder in the data directory.
const FOLDER: &str = "commitment";
const MAGIC: &[u8; 8] = b"WSCOMMIT";
const VERSION: u16 = 1;
const HEAD: usize = 20;
/// Longer files were not written by us: 20,000 references have less than 4 MiB.
const LONGEST: u64 = 8 * 1024 * 1024;

/// Why a file could not be used. Names the operation and the file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}: {problem}")]
pub struct FileError {
    doing: &'static str,
    path: String,
    problem: String,
}

fn failed(doing: &'static str, path: &Path, problem: impl ToString) -> FileError {
    FileError { doing, path: path.display().to_string(), problem: problem.to_string() }
}

/// Why a transaction is not on stable storage.
#[derive(Debug)]
pub(super) enum SaveError {
    /// There is no room, or no file descriptor: again later.
    NoRoom,
    /// Nothing is known about the disk any more.
    Failed(FileError),
}

/// Why a transaction cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// It is gone, or not what was written: it never can be.
    Damaged(FileError),
    /// The system or the disk refuses at the moment, for want of a descriptor as an example. What was accepted is kept.
    Now(FileError),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
}

impl Files {
    /// Opens the folder below `data`, sweeps what was half written, and hands over the rest, one after the other and by
    /// number. Gives how many files could not be read and were set aside.
    ///
    /// # Errors
    /// The folder cannot be made, flushed, listed or swept, or the disk gives a file not now.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        data: &Path,
        mut take: impl FnMut(u64, &Transaction),
    ) -> Result<(Self, u64), FileError> {
        let files = Self { disk, directory: data.join(FOLDER) };
        let directory = &files.directory;
        files.disk.create_dir(directory).map_err(|error| failed("create", directory, error))?;
        files.disk.sync_dir(data).map_err(|error| failed("flush", data, error))?;
        let mut names = files.disk.list(directory).map_err(|error| failed("list", directory, error))?;
        names.sort();
        let mut damaged = 0;
        for name in names {
            let path = directory.join(&name);
            if name.ends_with(".tmp") {
                files.disk.remove(&path).map_err(|error| failed("remove", &path, error))?;
                continue;
            }
            let Some(number) = name.strip_suffix(".transaction").and_then(|number| number.parse().ok()) else {
                continue;
            };
            match files.read(number) {
                Ok(transaction) => take(number, &transaction),
                Err(Unreadable::Now(error)) => return Err(error),
                Err(Unreadable::Damaged(problem)) => {
                    error!("{problem}; it is set aside, and the modality must ask again");
                    files.set_aside(number);
                    damaged += 1;
                }
            }
        }
        Ok((files, damaged))
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.directory.join(format!("{number:010}.{extension}"))
    }

    /// Puts a transaction on stable storage.
    pub(super) fn save(&self, number: u64, transaction: &Transaction) -> Result<(), SaveError> {
        let (temporary, path) = (self.path(number, "tmp"), self.path(number, "transaction"));
        let unsaved = |doing, error: io::Error| match fate(&error) {
            Fate::NoRoom | Fate::Busy => SaveError::NoRoom,
            Fate::Fatal => SaveError::Failed(failed(doing, &temporary, error)),
        };
        let encoded = encode(transaction).map_err(|error| SaveError::Failed(failed("encode", &path, error)))?;
        let file = self.disk.create(&temporary).map_err(|error| unsaved("create", error))?;
        if let Err(error) = file.write_at(&encoded, 0) {
            // What is left of it is swept by the next start at the latest.
            let _ = self.disk.remove(&temporary);
            return Err(unsaved("write", error));
        }
        durable::publish(&*self.disk, &*file, &temporary, &path)
            .map_err(|error| SaveError::Failed(failed("flush", &path, error)))
    }

    /// Reads a transaction.
    ///
    /// # Errors
    /// It is not there, or not what was written; or the system gives it not now.
    pub(super) fn read(&self, number: u64) -> Result<Transaction, Unreadable> {
        const DOING: &str = "read the request for storage commitment in";
        let path = self.path(number, "transaction");
        let refused = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                Unreadable::Damaged(failed(DOING, &path, error))
            }
            _ => Unreadable::Now(failed(DOING, &path, error)),
        };
        let file = self.disk.open(&path, false).map_err(refused)?;
        let bytes = whole(&*file).map_err(refused)?;
        decode(&bytes).map_err(|problem| Unreadable::Damaged(failed(DOING, &path, problem)))
    }

    /// Removes a transaction. If that fails, it is reported once more after the next start.
    pub(super) fn remove(&self, number: u64) {
        let path = self.path(number, "transaction");
        if let Err(error) = self.disk.remove(&path) {
            error!("{}; it is reported again after the next start", failed("remove", &path, error));
        }
    }

    /// Gives a file that cannot be read a name under which it is not looked at any more.
    pub(super) fn set_aside(&self, number: u64) {
        let (path, aside) = (self.path(number, "transaction"), self.path(number, "damaged"));
        if let Err(error) = self.disk.rename(&path, &aside) {
            error!("{}; remove it by hand", failed("rename", &path, error));
        }
    }
}

fn whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let length = file.length()?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "it is longer than it can be");
    if length > LONGEST {
        return Err(too_long());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| too_long())?];
    durable::read_exact_at(file, &mut bytes, 0)?;
    Ok(bytes)
}

fn encode(transaction: &Transaction) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    ciborium::into_writer(transaction, &mut body).map_err(|error| error.to_string())?;
    let length = u32::try_from(body.len()).map_err(|_| "it is too long".to_owned())?;
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), &body);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Transaction, &'static str> {
    let (head, rest) = bytes.split_first_chunk::<16>().ok_or("it is too short")?;
    let (checksum, body) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
    let [magic @ .., v0, v1, _, _, l0, l1, l2, l3] = head;
    if magic != MAGIC {
        return Err("it does not begin as such a file does");
    }
    if u16::from_le_bytes([*v0, *v1]) != VERSION {
        return Err("it has another format version than this Waystation knows");
    }
    if usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])) != Ok(body.len()) {
        return Err("it has another length than it says");
    }
    if crc32c::crc32c_append(crc32c::crc32c(head), body) != u32::from_le_bytes(*checksum) {
        return Err("its checksum is wrong");
    }
    ciborium::from_reader(body).map_err(|_| "its content cannot be read")
}
