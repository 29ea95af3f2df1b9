//! Taking payloads from the disk: the only place where the spool does, and only with an [`Expendable`] in hand.
//!
//! Everything here may be done twice: after a crash it is.

use std::collections::BTreeMap;
use std::io;

use super::error::{Doing, IoFailure, SpoolError};
use super::index::{Expendable, What};
use super::segment::Kind;
use super::shared::Shared;
use crate::durable::DiskFile;

/// Frees, durably: when this returns, the index may forget about all of them.
///
/// # Errors
/// Something could not be freed now; it can be tried again. Or the spool has failed.
pub(super) fn free(shared: &Shared, expendable: &[Expendable]) -> Result<(), SpoolError> {
    let mut records: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    let mut unlinked = [false; 2];
    for expendable in expendable {
        match expendable.what() {
            What::Record { segment, offset, length } => records.entry(segment).or_default().push((offset, length)),
            What::Large(number) => unlinked[0] |= unlink(shared, Kind::Large, number)?,
            What::Segment(number) => unlinked[1] |= unlink(shared, Kind::Shared, number)?,
        }
    }
    for (segment, stretches) in records {
        punch(shared, segment, &stretches)?;
    }
    for (kind, unlinked) in [Kind::Large, Kind::Shared].into_iter().zip(unlinked) {
        let directory = shared.layout.directory(kind);
        if unlinked {
            let flushed = shared.disk.sync_dir(directory).doing("flush", directory);
            flushed.map_err(|failure| shared.unsynced(&failure))?;
        }
    }
    Ok(())
}

fn unlink(shared: &Shared, kind: Kind, number: u64) -> Result<bool, SpoolError> {
    let path = shared.layout.segment(kind, number);
    match shared.disk.remove(&path) {
        // A crash came between the removal and the flush of the directory, or behind both.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        other => other.doing("remove", &path).map(|()| true).map_err(|failure| shared.refuse(failure)),
    }
}

/// Punches stretches out of a shared segment. A file system that cannot gives the room back with the whole segment.
fn punch(shared: &Shared, segment: u64, stretches: &[(u64, u64)]) -> Result<(), SpoolError> {
    let path = shared.layout.segment(Kind::Shared, segment);
    let file = match shared.disk.open(&path, true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.doing("open", &path).map_err(|failure| shared.refuse(failure))?,
    };
    let mut punched = false;
    for (offset, length) in stretches.iter().filter(|(_, length)| *length > 0) {
        match punch_one(&*file, *offset, *length) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
            other => other.map_err(|source| shared.refuse(IoFailure::new("free a part of", &path, source)))?,
        }
        punched = true;
    }
    if punched {
        // The zeros must be there before the index forgets that they should be.
        file.sync_data().doing("flush", &path).map_err(|failure| shared.unsynced(&failure))?;
    }
    Ok(())
}

fn punch_one(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<()> {
    let end = offset.saturating_add(length).min(file.length()?);
    match end.checked_sub(offset) {
        Some(length) if length > 0 => file.punch(offset, length),
        _ => Ok(()),
    }
}
