//! Where the bytes of a reception go: through the compression into a buffer, and on to the disk when the buffer would grow
//! too large. A payload that is dropped leaves nothing behind.

use std::path::PathBuf;
use std::sync::Arc;

use super::compress::{Compressor, Stored};
use super::error::{Doing, SpoolError};
use super::record::{ALIGNMENT, LARGE_PAYLOAD};
use super::shared::{Buffer, Shared};
use crate::codec::PixelLayout;
use crate::durable::{Disk, DiskFile};

/// Bytes that go to the disk in one write.
const BLOCK: usize = 256 << 10;
/// A large instance is flushed each time that this many bytes were written, so that its last flush is short and other
/// instances never wait behind a gigabyte of unwritten pages.
const FLUSH_EVERY: u64 = 32 << 20;

/// A payload that is being compressed.
pub(super) struct Packing {
    compressor: Compressor,
    sink: Sink,
}

/// A payload as it will be stored. A large one has been written and flushed.
pub(super) struct Packed {
    pub(super) stored: Stored,
    pub(super) body: Body,
    /// Bytes that are stored.
    pub(super) length: u64,
    /// CRC-32C of these.
    pub(super) crc: u32,
}

impl Packing {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let body = Body::Buffered(Buffer::new(&shared.budget));
        let sink = Sink { shared: Arc::clone(shared), body, stored: 0, crc: 0 };
        Self { compressor: Compressor::new(&shared.encoders), sink }
    }

    /// Takes the next bytes of the data set. May write to the disk.
    ///
    /// # Errors
    /// There is no room, a limit was met, or the spool has failed.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        self.compressor.write(data, &mut |bytes| self.sink.write(bytes))
    }

    /// Tells where pixels are; see [`Compressor::pixels`].
    ///
    /// # Errors
    /// As for [`Packing::write`].
    pub(super) fn pixels(&mut self, layout: &PixelLayout) -> Result<(), SpoolError> {
        self.compressor.pixels(layout, &mut |bytes| self.sink.write(bytes))
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// As for [`Packing::write`].
    pub(super) fn finish(self) -> Result<Packed, SpoolError> {
        let Self { compressor, mut sink } = self;
        let stored = compressor.finish(&mut |bytes| sink.write(bytes))?;
        if let Body::Spilled(spill) = &mut sink.body {
            spill.finish(&sink.shared)?;
        }
        Ok(Packed { stored, body: sink.body, length: sink.stored, crc: sink.crc })
    }
}

/// Where the payload of a reception is.
#[derive(Debug)]
pub(super) enum Body {
    Buffered(Buffer),
    Spilled(Spill),
}

struct Sink {
    shared: Arc<Shared>,
    body: Body,
    stored: u64,
    crc: u32,
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.stored += bytes.len() as u64;
        if let Body::Buffered(buffer) = &mut self.body {
            let small = buffer.bytes().len() + bytes.len() <= self.shared.options.small_limit;
            if small && buffer.append(bytes) {
                return Ok(());
            }
            let mut spill = Spill::create(&self.shared)?;
            spill.write(&self.shared, buffer.bytes())?;
            self.body = Body::Spilled(spill);
        }
        match &mut self.body {
            Body::Spilled(spill) => spill.write(&self.shared, bytes),
            Body::Buffered(_) => Ok(()),
        }
    }
}

/// The temporary file of a large instance; dropping it removes the file unless it has got its real name.
#[derive(Debug)]
pub(super) struct Spill {
    disk: Arc<dyn Disk>,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    pub(super) published: bool,
    pending: Vec<u8>,
    position: u64,
    flushed: u64,
}

impl Spill {
    fn create(shared: &Shared) -> Result<Self, SpoolError> {
        shared.check()?;
        let number = shared.temporary();
        let path = shared.layout.large.join(format!("reception-{number}.tmp"));
        let file = shared.disk.create(&path).doing("create", &path).map_err(|failure| shared.refuse(failure))?;
        let start = ALIGNMENT + LARGE_PAYLOAD;
        Ok(Self {
            disk: Arc::clone(&shared.disk),
            file,
            path,
            published: false,
            pending: Vec::with_capacity(BLOCK),
            position: start,
            flushed: start,
        })
    }

    fn write(&mut self, shared: &Shared, mut bytes: &[u8]) -> Result<(), SpoolError> {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at_checked(BLOCK - self.pending.len()).unwrap_or((bytes, &[]));
            self.pending.extend_from_slice(now);
            bytes = rest;
            if self.pending.len() == BLOCK {
                self.write_pending(shared)?;
            }
        }
        Ok(())
    }

    fn write_pending(&mut self, shared: &Shared) -> Result<(), SpoolError> {
        shared.check()?;
        shared.room()?;
        let written = self.file.write_at(&self.pending, self.position).doing("write", &self.path);
        written.map_err(|failure| shared.refuse(failure))?;
        self.position += self.pending.len() as u64;
        self.pending.clear();
        if self.position - self.flushed >= FLUSH_EVERY {
            self.flush(shared)?;
        }
        Ok(())
    }

    fn flush(&mut self, shared: &Shared) -> Result<(), SpoolError> {
        self.file.sync_data().doing("flush", &self.path).map_err(|failure| shared.unsynced(&failure))?;
        self.flushed = self.position;
        Ok(())
    }

    fn finish(&mut self, shared: &Shared) -> Result<(), SpoolError> {
        if !self.pending.is_empty() {
            self.write_pending(shared)?;
        }
        self.pending = Vec::new();
        self.flush(shared)
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.disk.remove(&self.path)
        {
            log::warn!("cannot remove {}: {error}; the next start will", self.path.display());
        }
    }
}
