//! What can go wrong with the ledger.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::Place;
use crate::durable::{Fate, fate};

/// Why the ledger did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// There is no room, or a limit of the process was reached. Nothing of what was to be written counts, and the ledger
    /// can be appended to again.
    #[error("cannot {operation} {}: {source}; nothing was lost, and it is tried again", path.display())]
    NotNow {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk failed in a way after which nothing that was written can be trusted. The process must end.
    #[error("cannot {operation} {}: {source}; replace the disk if this comes again", path.display())]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk failed under the ledger before, and nothing is written to it any more.
    #[error("the ledger has stopped, because the disk failed under it before; the process must end")]
    Stopped,
    /// There is no line at this place.
    #[error("the ledger has no line in {0}: {1}; `waystation ledger check` tells what is wrong with it")]
    NoLine(Place, String),
}

impl LedgerError {
    /// Whether it may work another time.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::NotNow { .. })
    }

    /// Of anything but a sync: whether it may pass is in the error.
    pub(super) fn of(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let passes = matches!(fate(&source), Fate::NoRoom | Fate::Busy);
        let (path, source) = (path.to_owned(), Arc::new(source));
        match passes {
            true => Self::NotNow { operation, path, source },
            false => Self::Disk { operation, path, source },
        }
    }

    /// Of a sync: there is no second try.
    pub(super) fn of_sync(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Disk { operation, path: path.to_owned(), source: Arc::new(source) }
    }
}
