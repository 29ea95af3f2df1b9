//! What can go wrong, by the question that a caller asks.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::durable::{Fate, fate};
use crate::ledger::LedgerError;
use crate::model::InstanceId;

/// An operation on a file that failed.
#[derive(Debug, Clone)]
pub struct IoFailure {
    operation: &'static str,
    path: PathBuf,
    source: Arc<io::Error>,
}

impl IoFailure {
    pub(super) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Whether the file is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the file ends before what was to be read.
    pub(super) fn is_cut_off(&self) -> bool {
        self.source.kind() == io::ErrorKind::UnexpectedEof
    }

    pub(super) fn fate(&self) -> Fate {
        fate(&self.source)
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.path.display(), self.source)
    }
}

impl std::error::Error for IoFailure {}

/// Names the operation and the file of an I/O error.
pub(super) trait Doing<T> {
    fn doing(self, operation: &'static str, path: &Path) -> Result<T, IoFailure>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, operation: &'static str, path: &Path) -> Result<T, IoFailure> {
        self.map_err(|source| IoFailure::new(operation, path, source))
    }
}

/// Why the spool did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SpoolError {
    /// The disk is too full to take another instance. Transient: refuse this one politely and go on.
    #[error("no room: {0}; receptions are refused until instances are delivered or room is made on the disk")]
    NoRoom(String),
    /// A limit of the process was reached. Transient: refuse or retry this one, and go on.
    #[error("out of resources: {0}; this one fails, others go on")]
    Busy(IoFailure),
    /// The spool has stopped, because the disk failed under it; the process must end.
    #[error("the spool has stopped: {0}")]
    Failed(Arc<str>),
    /// The spool was closed, or is being closed.
    #[error("the spool is closed")]
    Closed,
    /// The header of an instance does not fit into a record. No valid header is that long.
    #[error("the header of the instance has {length} bytes, and {limit} are allowed")]
    HeaderTooLong {
        /// Its length as encoded.
        length: usize,
        /// The longest that fits.
        limit: usize,
    },
    /// There is no such instance.
    #[error("instance {0} is not in the spool")]
    Unknown(InstanceId),
    /// All its destinations have the instance, and its payload was freed since.
    #[error("instance {0} was delivered everywhere, and its payload was freed since")]
    Freed(InstanceId),
    /// The disk did not give what the log holds. It may another time.
    #[error("{0}; it is tried again, and if it stays, the disk has to be replaced")]
    Unreadable(IoFailure),
    /// What the log holds for the instance cannot be read. Others can.
    #[error("instance {id} cannot be read: {problem}")]
    Damaged {
        /// The instance.
        id: InstanceId,
        /// What is wrong, and where.
        problem: String,
    },
    /// The ledger cannot be read.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The compressor refused to work: out of memory.
    #[error("cannot compress: {0}")]
    Compress(Arc<io::Error>),
}

/// Why the spool could not be opened. The process must end; the message is for the person at the console.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("another Waystation {}is using {directory}; stop it, or choose another data directory", named(*.holder))]
    Locked {
        /// The data directory.
        directory: String,
        /// The process id of the other one, if it could be read.
        holder: Option<u32>,
    },
    /// A file or directory cannot be used.
    #[error("{0}")]
    Io(#[from] IoFailure),
    /// The index failed although it could be opened or created.
    #[error("the index {path} failed: {problem}")]
    Index {
        /// Its file.
        path: String,
        /// What happened.
        problem: String,
    },
    /// The ledger cannot be read, or its end cannot be cut off.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// An option is out of its range.
    #[error("the spool cannot work with {0}")]
    Option(String),
}

fn named(id: Option<u32>) -> String {
    id.map_or_else(String::new, |id| format!("with process id {id} "))
}
