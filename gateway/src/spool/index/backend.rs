//! redb on top of [`DiskFile`], so that the index meets the same faults in tests as the log does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

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

const BLOCK: u64 = 4_096;

/// A file to look at: what redb writes stays in memory, in blocks, and the file as it is.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Arc<dyn DiskFile>,
    state: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    blocks: BTreeMap<u64, Vec<u8>>,
    length: u64,
    /// How much of the file is still to be seen: less than its length once it was cut.
    of_file: u64,
}

impl Overlay {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let length = file.length()?;
        Ok(Self { file, state: Mutex::new(Written { blocks: BTreeMap::new(), length, of_file: length }) })
    }

    /// One block as redb sees it.
    fn block(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let start = number * BLOCK;
        let mut block = vec![0; usize::try_from(BLOCK).map_err(io::Error::other)?];
        let there = usize::try_from(written.of_file.saturating_sub(start).min(BLOCK)).map_err(io::Error::other)?;
        read_exact_at(&*self.file, block.get_mut(..there).unwrap_or_default(), start)?;
        Ok(block)
    }

    /// Walks over the blocks of a stretch: number, where in the block, where in the stretch.
    fn each(
        offset: u64,
        length: usize,
        mut step: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let within = usize::try_from(at % BLOCK).map_err(io::Error::other)?;
            let size = usize::try_from(BLOCK).map_err(io::Error::other)?;
            let now = (size - within).min(length - done);
            step(at / BLOCK, within..within + now, done..done + now)?;
            done += now;
        }
        Ok(())
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::each(offset, out.len(), |number, within, at| {
            let block = self.block(&written, number)?;
            if let (Some(out), Some(block)) = (out.get_mut(at), block.get(within)) {
                out.copy_from_slice(block);
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if length < written.length {
            // What comes back later is zero.
            let last = length / BLOCK;
            let mut block = self.block(&written, last)?;
            let keep = usize::try_from(length % BLOCK).map_err(io::Error::other)?;
            block.get_mut(keep..).unwrap_or_default().fill(0);
            written.blocks.split_off(&last);
            written.blocks.insert(last, block);
            written.of_file = written.of_file.min(length);
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        written.length = written.length.max(offset + data.len() as u64);
        Self::each(offset, data.len(), |number, within, at| {
            let mut block = self.block(&written, number)?;
            if let (Some(block), Some(data)) = (block.get_mut(within), data.get(at)) {
                block.copy_from_slice(data);
            }
            written.blocks.insert(number, block);
            Ok(())
        })
    }
}
