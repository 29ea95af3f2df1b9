//! redb on top of [`DiskFile`], so that the index meets the same faults in tests as the log does.

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use crate::durable::{DiskFile, read_exact_at};

#[derive(Debug)]
pub(super) struct IndexFile(pub(super) Arc<dyn DiskFile>);

/// The data directory is locked already, so the file needs no lock of its own.
impl StorageBackend for IndexFile {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&*self.0, out, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
