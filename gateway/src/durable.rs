//! The narrow seam between the gateway and its disk.
//!
//! Everything that must survive a power cut goes through [`Disk`] and [`DiskFile`], and nothing else does. There are two
//! implementations: [`FileSystem`], and one in memory that tests use to stop, tear and fail every single operation.
//!
//! The rules that callers live by:
//!
//! - written bytes are safe after [`DiskFile::sync_data`] or [`DiskFile::sync_all`] returned, and not before;
//! - a name is safe after [`Disk::sync_dir`] on its directory returned;
//! - after any error of a sync nothing is known about what was written before, now or later: the kernel marks pages
//!   clean that never reached the disk. There is no second try ([`fate`]).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};

#[cfg(test)]
pub(crate) mod memory;

/// A file system, or something that fails like one.
pub trait Disk: Debug + Send + Sync {
    /// Creates a file that must not exist yet, readable by its owner only, for reading and writing.
    ///
    /// # Errors
    /// As `open(2)` with `O_CREAT | O_EXCL`.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading, and for writing if `writable`.
    ///
    /// # Errors
    /// As `open(2)`.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name in the same directory, in place of a file that has it. Durable only after
    /// [`Disk::sync_dir`].
    ///
    /// # Errors
    /// As `rename(2)`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    ///
    /// # Errors
    /// As `unlink(2)`.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of everything in a directory, in no particular order. Names that are not UTF-8 are left out: the
    /// gateway makes none.
    ///
    /// # Errors
    /// As `opendir(3)` and `readdir(3)`.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Makes a directory, closed to everybody but its owner, unless it exists. Its parent must exist.
    ///
    /// # Errors
    /// As `mkdir(2)`.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As `fsync(2)`: see the module's rules.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Makes everything durable that was written to the file system of `directory` before, by whomever.
    ///
    /// # Errors
    /// As `syncfs(2)`.
    fn sync_file_system(&self, directory: &Path) -> io::Result<()>;

    /// Free room on the file system of `directory` for this process, in bytes.
    ///
    /// # Errors
    /// As `statvfs(3)`.
    fn free(&self, directory: &Path) -> io::Result<u64>;
}

/// An open file, read and written at given offsets, by any number of threads.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all of `data` at `offset`. After an error any part of it may have been written.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes the file `length` bytes long and reserves the room for it, where the file system can.
    ///
    /// # Errors
    /// As `fallocate(2)`.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Turns `length` bytes at `offset` into zeros and gives their room back; the length of the file stays. Both numbers
    /// are multiples of 4096. Durable after the next sync; after a power cut before it any part may have happened.
    ///
    /// # Errors
    /// As `fallocate(2)` with `FALLOC_FL_PUNCH_HOLE`: [`io::ErrorKind::Unsupported`] where the file system cannot.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Cuts the file, or makes it longer with zeros for which no room is reserved.
    ///
    /// # Errors
    /// As `ftruncate(2)`.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// The length of the file in bytes.
    ///
    /// # Errors
    /// As `fstat(2)`.
    fn length(&self) -> io::Result<u64>;

    /// Makes everything durable that is needed to read back what was written.
    ///
    /// # Errors
    /// As `fdatasync(2)`: see the module's rules.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`DiskFile::sync_data`], with all metadata.
    ///
    /// # Errors
    /// As `fsync(2)`: see the module's rules.
    fn sync_all(&self) -> io::Result<()>;

    /// Forgets clean cached pages, so that the next read shows what is on the disk. As far as the system does it.
    fn drop_cache(&self);
}

/// What an error of the disk means for whoever met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There is no room: refuse this one, go on with others.
    NoRoom,
    /// A limit of the process or of memory: refuse this one, go on with others.
    Busy,
    /// The disk cannot be trusted: end the process.
    Fatal,
}

/// What the error of a create, an allocate, a write or a rename means. Of a sync every error is [`Fate::Fatal`]: do not
/// ask.
#[must_use]
pub fn fate(error: &io::Error) -> Fate {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => Fate::NoRoom,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => Fate::Busy,
        _ => Fate::Fatal,
    }
}

/// Publishes a finished file under its real name: flush the file, rename it, flush the directory. When this returns, the
/// file is there after a power cut, whole.
///
/// # Errors
/// The first operation that failed; the file then has either name.
pub fn publish(disk: &dyn Disk, file: &dyn DiskFile, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    disk.rename(from, to)?;
    disk.sync_dir(to.parent().unwrap_or(Path::new("/")))
}

/// Puts a new file in the place of the old one: after a power cut there is one of the two, whole. Blocking.
///
/// # Errors
/// As the operations of [`Disk`]; the old file is still there then.
pub fn replace(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    match disk.remove(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&new)?;
    file.write_at(content, 0)?;
    publish(disk, &*file, &new, path)
}

/// The whole of a file of at most `longest` bytes; nothing if there is none. Blocking.
///
/// # Errors
/// As the operations of [`Disk`]; [`io::ErrorKind::InvalidData`] if it is longer.
pub fn read(disk: &dyn Disk, path: &Path, longest: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.length()?;
    if length > longest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has {length} bytes")));
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or_default()];
    read_exact_at(&*file, &mut content, 0)?;
    Ok(Some(content))
}

/// Fills `buffer` from `offset`.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the file ends before; otherwise as [`DiskFile::read_at`].
pub fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = buffer.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The operating system's file system.
///
/// It keeps the directories open that it has made or flushed, so that a process which has run out of descriptors can
/// still make durable what it has begun.
#[derive(Debug, Default)]
pub struct FileSystem {
    directories: Mutex<BTreeMap<PathBuf, Arc<File>>>,
}

impl FileSystem {
    fn directory(&self, path: &Path) -> io::Result<Arc<File>> {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = directories.get(path) {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(File::open(path)?);
        directories.insert(path.to_owned(), Arc::clone(&open));
        Ok(open)
    }
}

impl Disk for FileSystem {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(writable).open(path)?))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place; the callers flush")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            other => other?,
        }
        self.directory(directory)?;
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        self.directory(directory)?.sync_all()
    }

    fn sync_file_system(&self, directory: &Path) -> io::Result<()> {
        Ok(nix::unistd::syncfs(&*self.directory(directory)?)?)
    }

    fn free(&self, directory: &Path) -> io::Result<u64> {
        let room = nix::sys::statvfs::statvfs(directory)?;
        Ok(room.blocks_available().saturating_mul(room.fragment_size()))
    }
}

impl DiskFile for File {
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let signed = i64::try_from(length).map_err(|_| io::Error::from(Errno::EFBIG))?;
        match fallocate(self, FallocateFlags::empty(), 0, signed) {
            // Some file systems cannot reserve: the length alone keeps the format the same, and a full disk is then met
            // by the write instead of here.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.set_len(length),
            other => Ok(other?),
        }
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let signed = |value| i64::try_from(value).map_err(|_| io::Error::from(Errno::EFBIG));
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(self, flags, signed(offset)?, signed(length)?) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Err(io::ErrorKind::Unsupported.into()),
            other => Ok(other?),
        }
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }

    fn drop_cache(&self) {
        // Advice: where it is not taken, reads show what they would have shown without it.
        let _ = posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// An exclusive lock on a directory, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _held: File,
}

/// Why a directory could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else holds it: the process id, if it could be read.
    Held(Option<u32>),
    /// The lock file could not be opened, locked or written.
    Io(io::Error),
}

impl DirectoryLock {
    /// Locks `directory` without changing anything in it, for whoever only wants to read: the lock of a directory that
    /// nobody has ever used does not exist and is not made.
    ///
    /// # Errors
    /// As for [`DirectoryLock::take`].
    pub fn borrow(directory: &Path) -> Result<Option<Self>, LockError> {
        let path = directory.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LockError::Io(error)),
        };
        Self::lock(&file, &path)?;
        Ok(Some(Self { _held: file }))
    }

    fn lock(file: &File, path: &Path) -> Result<(), LockError> {
        match file.try_lock() {
            Ok(()) => Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => {
                let holder = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                Err(LockError::Held(holder))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }

    /// Locks `directory` with a file named `lock` in it, which holds the process id for whoever comes second.
    ///
    /// # Errors
    /// Held by another process, or by this one; or the file cannot be used.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let path: PathBuf = directory.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(LockError::Io)?;
        Self::lock(&file, &path)?;
        let id = format!("{}\n", std::process::id());
        // The process id is a courtesy: on a full disk the lock must work all the same.
        let _ = file.set_len(0).and_then(|()| file.write_all_at(id.as_bytes(), 0));
        Ok(Self { _held: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_on_a_directory_is_refused_with_the_holder_and_free_after_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        match DirectoryLock::take(directory.path()) {
            Err(LockError::Held(holder)) => assert_eq!(holder, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(first);
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn the_file_system_allocates_writes_publishes_and_lists() {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileSystem::default();
        let (from, to) = (directory.path().join("a.tmp"), directory.path().join("a"));
        let file = disk.create(&from).unwrap();
        assert!(disk.create(&from).is_err(), "a file is created once");
        file.allocate(8_192).unwrap();
        file.write_at(b"waystation", 4_090).unwrap();
        publish(&disk, &*file, &from, &to).unwrap();
        assert_eq!(disk.list(directory.path()).unwrap(), ["a"]);
        let mut read = [0; 10];
        read_exact_at(&*disk.open(&to, false).unwrap(), &mut read, 4_090).unwrap();
        assert_eq!(&read, b"waystation");
        assert_eq!(file.length().unwrap(), 8_192);
        assert!(read_exact_at(&*file, &mut read, 8_190).is_err());
        match file.punch(4_096, 4_096) {
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
            Ok(()) => {
                read_exact_at(&*file, &mut read, 4_090).unwrap();
                assert_eq!((&read, file.length().unwrap()), (b"waysta\0\0\0\0", 8_192));
            }
        }
        assert!(disk.free(directory.path()).unwrap() > 0);
        disk.sync_file_system(directory.path()).unwrap();
    }

    #[test]
    fn a_full_disk_is_refused_and_a_failing_one_is_the_end() {
        assert_eq!(fate(&Errno::ENOSPC.into()), Fate::NoRoom);
        assert_eq!(fate(&Errno::EMFILE.into()), Fate::Busy);
        assert_eq!(fate(&Errno::EIO.into()), Fate::Fatal);
        assert_eq!(fate(&io::ErrorKind::UnexpectedEof.into()), Fate::Fatal);
    }
}
