//! Delivery into a folder: Part 10 files as `STUDY/SERIES/INSTANCE.dcm`, for a NAS as well as for a disk.
//!
//! Promises: a file under its final name is complete and on stable storage; nothing that is there is ever overwritten.
//! The same instance again is recognised by its content and counts as delivered; another instance under the same UID
//! is filed beside it, with the first digits of its hash in the name.
//!
//! The folder itself is never created: a mount that is away would otherwise fill the disk below it. Name a folder
//! *inside* the mounted volume.
//!
//! A file is written under a name of its own that starts with a dot and ends with `.part`, whatever else writes into the
//! folder. Such a file is left by a power cut only, and may be removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use nix::libc::{EIO, EMFILE, ENFILE, ENOSYS, EOPNOTSUPP, EPERM};

use crate::dataset::part10::{self, FileMeta};
use crate::durable::{Disk, FileSystem};
use crate::model::{ContentHash, Uid};

/// Bytes moved at a time.
const CHUNK: usize = 256 << 10;

/// What is filed, and under which names.
#[derive(Debug)]
pub struct Filing<'a> {
    /// The file meta information of the Part 10 file.
    pub meta: &'a FileMeta,
    /// Names the first folder; instances without a study go to `no-study`.
    pub study: Option<&'a Uid>,
    /// Names the second folder; instances without a series go to `no-series`.
    pub series: Option<&'a Uid>,
    /// SHA-256 of the data set.
    pub hash: ContentHash,
}

/// Why an instance could not be filed.
#[derive(Debug, thiserror::Error)]
pub enum FilingError {
    /// The folder is not there: nothing at all can be delivered to it now.
    #[error("the folder {0} is not there: create it, or mount the volume that holds it")]
    FolderMissing(PathBuf),
    /// The volume takes nothing now: everything waits until it does.
    #[error("cannot {operation} {path}: {source}; check the volume and its free space")]
    Volume {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This very instance cannot be filed; others can.
    #[error("cannot {operation} {path}: {source}; look what is in its way, and at its permissions")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The payload could not be read from the spool, or is not what was received.
    #[error("cannot read the instance from the spool: {0}")]
    Payload(io::Error),
}

/// Files one instance below `root` and returns the path of its file, relative to `root`.
///
/// Blocking. The file is synced, renamed to its final name, and its folder synced before this returns.
///
/// # Errors
/// See [`FilingError`]; nothing is left under the final name then.
pub fn file(root: &Path, filing: &Filing<'_>, mut payload: impl Read) -> Result<PathBuf, FilingError> {
    if !root.is_dir() {
        return Err(FilingError::FolderMissing(root.to_owned()));
    }
    let relative =
        Path::new(filing.study.map_or("no-study", Uid::as_str)).join(filing.series.map_or("no-series", Uid::as_str));
    let disk = FileSystem::default();
    create_folders(&disk, root, &relative)?;

    let hash = filing.hash.to_string();
    let uid = filing.meta.sop_instance_uid.as_str();
    let folder = root.join(&relative);
    let mut partial = None;
    for name in [format!("{uid}.dcm"), format!("{uid}.{}.dcm", &hash[..16]), format!("{uid}.{hash}.dcm")] {
        let path = folder.join(&name);
        match path.try_exists().map_err(|source| io_error("look at", &path, source))? {
            true if holds(&path, filing.hash)? => return Ok(relative.join(name)),
            true => continue,
            false => {}
        }
        let written = match &partial {
            Some(written) => written,
            None => partial.insert(Partial::write(&folder, filing.meta, &mut payload)?),
        };
        if written.publish(&disk, &path)? {
            return Ok(relative.join(name));
        }
    }
    let path = folder.join(format!("{uid}.{hash}.dcm"));
    Err(io_error("file the instance as", &path, io::Error::other("another file has this name; move it away")))
}

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> FilingError {
    use io::ErrorKind as Kind;
    let path = path.to_owned();
    match source.kind() {
        Kind::StorageFull
        | Kind::QuotaExceeded
        | Kind::ReadOnlyFilesystem
        | Kind::StaleNetworkFileHandle
        | Kind::NotConnected
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::TimedOut
        | Kind::OutOfMemory => FilingError::Volume { operation, path, source },
        _ if matches!(source.raw_os_error(), Some(EIO | EMFILE | ENFILE)) => {
            FilingError::Volume { operation, path, source }
        }
        _ => FilingError::Io { operation, path, source },
    }
}

/// Creates what is missing of `relative` below `root`, each folder durable in its parent.
fn create_folders(disk: &FileSystem, root: &Path, relative: &Path) -> Result<(), FilingError> {
    let mut folder = root.to_owned();
    for component in relative {
        let parent = folder.clone();
        folder.push(component);
        match fs::create_dir(&folder) {
            // One that exists may have been made a moment before a power cut, its name not durable yet.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("create", &folder, error));
            }
            _ => disk.sync_dir(&parent).map_err(|source| io_error("sync", &parent, source))?,
        }
    }
    Ok(())
}

/// A file that is complete and durable, and has no final name yet. It is removed with this value.
struct Partial {
    path: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already if it was renamed; if it cannot be removed, it is in nobody's way.
        let _ = fs::remove_file(&self.path);
    }
}

impl Partial {
    fn write(folder: &Path, meta: &FileMeta, payload: &mut impl Read) -> Result<Self, FilingError> {
        let path = folder.join(format!(".{}.{:016x}.part", meta.sop_instance_uid, fastrand::u64(..)));
        let io = |source| io_error("write", &path, source);
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(io)?;
        let partial = Self { path: path.clone() };
        let mut out = BufWriter::with_capacity(CHUNK, file);
        part10::write_file_meta(&mut out, meta).map_err(io)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match payload.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => out.write_all(&buffer[..n]).map_err(io)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FilingError::Payload(error)),
            }
        }
        out.into_inner().map_err(|error| io(error.into_error()))?.sync_all().map_err(io)?;
        Ok(partial)
    }

    /// Gives the file its final name, durably; `false` if something has that name meanwhile.
    fn publish(&self, disk: &FileSystem, path: &Path) -> Result<bool, FilingError> {
        // A link never replaces anything, whoever else writes here; file systems that have none get a rename.
        match fs::hard_link(&self.path, path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if has_no_links(&error) => {
                if path.try_exists().map_err(|source| io_error("look at", path, source))? {
                    return Ok(false);
                }
                disk.rename(&self.path, path).map_err(|source| io_error("rename to", path, source))?;
            }
            Err(source) => return Err(io_error("name", path, source)),
        }
        let folder = path.parent().unwrap_or(path);
        disk.sync_dir(folder).map_err(|source| io_error("sync", folder, source))?;
        Ok(true)
    }
}

/// Whether the file system cannot link: FAT, and some network shares.
fn has_no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
        || matches!(error.raw_os_error(), Some(EPERM | EOPNOTSUPP | ENOSYS))
}

/// Whether the Part 10 file at `path` holds the data set with this hash.
fn holds(path: &Path, hash: ContentHash) -> Result<bool, FilingError> {
    let io = |source| io_error("read", path, source);
    let file = BufReader::with_capacity(CHUNK, File::open(path).map_err(io)?);
    let Ok((_, mut file)) = part10::read_file_meta(file) else { return Ok(false) };
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(context.finish().as_ref() == hash.0),
            Ok(n) => context.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn hash_of(bytes: &[u8]) -> ContentHash {
        ContentHash(digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap())
    }

    fn file_bytes(root: &Path, bytes: &[u8]) -> Result<PathBuf, FilingError> {
        let meta = FileMeta {
            sop_class_uid: uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance_uid: uid("1.2.3"),
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            source_ae: None,
        };
        let filing = Filing { meta: &meta, study: Some(&uid("1.2")), series: None, hash: hash_of(bytes) };
        file(root, &filing, bytes)
    }

    fn files(root: &Path) -> Vec<String> {
        let folder = root.join("1.2/no-series");
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_instance_is_filed_once_however_often_it_comes() {
        let root = tempfile::tempdir().unwrap();
        let first = file_bytes(root.path(), b"the same").unwrap();
        assert_eq!(first, Path::new("1.2/no-series/1.2.3.dcm"));
        assert_eq!(file_bytes(root.path(), b"the same").unwrap(), first);
        assert_eq!(files(root.path()), ["1.2.3.dcm"]);
        assert!(holds(&root.path().join(first), hash_of(b"the same")).unwrap());
    }

    #[test]
    fn the_same_uid_with_other_content_is_filed_beside_and_overwrites_nothing() {
        let root = tempfile::tempdir().unwrap();
        let first = file_bytes(root.path(), b"one").unwrap();
        let second = file_bytes(root.path(), b"two").unwrap();
        assert_ne!(first, second);
        assert_eq!(file_bytes(root.path(), b"two").unwrap(), second);
        assert!(holds(&root.path().join(first), hash_of(b"one")).unwrap());
        assert_eq!(files(root.path()).len(), 2);
    }

    #[test]
    fn what_is_in_the_way_of_one_instance_is_its_own_trouble() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("1.2"), "a file where the study's folder belongs").unwrap();
        assert!(matches!(file_bytes(root.path(), b"x"), Err(FilingError::Io { .. })));
        let full = io_error("write", root.path(), io::ErrorKind::StorageFull.into());
        assert!(matches!(full, FilingError::Volume { .. }));
    }

    #[test]
    fn a_name_that_is_taken_in_the_last_moment_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        file_bytes(root.path(), b"one").unwrap();
        let folder = root.path().join("1.2/no-series");
        let meta = FileMeta {
            sop_class_uid: uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance_uid: uid("1.2.3"),
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            source_ae: None,
        };
        let partial = Partial::write(&folder, &meta, &mut &b"two"[..]).unwrap();
        assert!(!partial.publish(&FileSystem::default(), &folder.join("1.2.3.dcm")).unwrap());
        drop(partial);
        assert_eq!(files(root.path()), ["1.2.3.dcm"]);
        assert!(holds(&folder.join("1.2.3.dcm"), hash_of(b"one")).unwrap());
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_created() {
        let root = tempfile::tempdir().unwrap();
        let gone = root.path().join("unmounted");
        assert!(matches!(file_bytes(&gone, b"x"), Err(FilingError::FolderMissing(_))));
        assert!(!gone.exists());
    }

    #[test]
    fn a_payload_that_fails_leaves_nothing_behind() {
        struct Damaged;
        impl Read for Damaged {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the hash does not match"))
            }
        }
        let root = tempfile::tempdir().unwrap();
        file_bytes(root.path(), b"makes the folders").unwrap();
        let meta = FileMeta {
            sop_class_uid: uid("1.2.840.10008.5.1.4.1.1.2"),
            sop_instance_uid: uid("1.2.4"),
            transfer_syntax: uid("1.2.840.10008.1.2.1"),
            source_ae: None,
        };
        let filing = Filing { meta: &meta, study: Some(&uid("1.2")), series: None, hash: hash_of(b"") };
        assert!(matches!(file(root.path(), &filing, Damaged), Err(FilingError::Payload(_))));
        assert_eq!(files(root.path()), ["1.2.3.dcm"]);
    }
}
