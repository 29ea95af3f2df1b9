//! A reception in progress: hash, compress, buffer, and spill to the disk when the buffer would grow too large.
//!
//! Everything here happens in the receiver's own thread. What it produces is an [`Append`] for the log thread, in which
//! the bytes of a large instance have been flushed already. A reception that is dropped leaves nothing behind.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use aws_lc_rs::digest;

use super::compress::{Compressor, Stored};
use super::error::{Doing, SpoolError};
use super::index::{Index, guarded};
use super::record::{ALIGNMENT, InstanceHeader, LARGE_PAYLOAD};
use super::shared::{Buffer, Shared};
use super::writer::{Acknowledge, Append, Committed, Finished, LogJob};
use crate::codec::PixelLayout;
use crate::durable::{Disk, DiskFile};
use crate::model::ContentHash;

/// Bytes that go to the disk in one write.
const BLOCK: usize = 256 << 10;
/// A large instance is flushed each time that this many bytes were written, so that its last flush is short and other
/// instances never wait behind a gigabyte of unwritten pages.
const FLUSH_EVERY: u64 = 32 << 20;

/// An instance on its way in. Dropping it discards it.
pub struct Incoming {
    shared: Arc<Shared>,
    index: Arc<Index>,
    log: SyncSender<LogJob>,
    hasher: digest::Context,
    length: u64,
    compressor: Compressor,
    sink: Sink,
    failed: Option<SpoolError>,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(super) fn new(shared: &Arc<Shared>, index: &Arc<Index>, log: SyncSender<LogJob>) -> Self {
        Self {
            shared: Arc::clone(shared),
            index: Arc::clone(index),
            log,
            hasher: digest::Context::new(&digest::SHA256),
            length: 0,
            compressor: Compressor::new(&shared.encoders),
            sink: Sink {
                shared: Arc::clone(shared),
                body: Body::Buffered(Buffer::new(&shared.budget)),
                stored: 0,
                crc: 0,
            },
            failed: None,
        }
    }

    /// Takes the next bytes of the data set. Compresses, and may write to the disk: do not call it where that must not
    /// happen.
    ///
    /// # Errors
    /// There is no room, a limit was met, or the spool has failed. The reception is over then.
    pub fn write(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.hasher.update(data);
        self.length += data.len() as u64;
        let sink = &mut self.sink;
        let result = self.compressor.write(data, &mut |bytes| sink.write(bytes));
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Tells where uncompressed pixels are in the data set, as soon as that is known and before the first of their bytes
    /// is written: they are kept much smaller then. What is told may be wrong, and may be told too late: that costs room
    /// on the disk, nothing else.
    ///
    /// # Errors
    /// As for [`Incoming::write`].
    pub fn pixels(&mut self, layout: &PixelLayout) -> Result<(), SpoolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let sink = &mut self.sink;
        let result = self.compressor.pixels(layout, &mut |bytes| sink.write(bytes));
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Ends the reception and hands the instance to the log. `done` is called exactly once, from another thread or from
    /// this one, and must be quick and must not panic: with `Ok` the instance is on stable storage.
    ///
    /// Flushes the bytes of a large instance, and waits while the log has more to do than it should.
    pub fn commit(self, header: InstanceHeader, done: Box<dyn FnOnce(Result<Committed, SpoolError>) + Send>) {
        let done = Acknowledge::new(done);
        let log = self.log.clone();
        match self.finish(header, done) {
            Ok(append) => {
                // A log that is gone drops the job, and with it the acknowledgement, which then says "closed".
                let _ = log.send(LogJob::Append(Box::new(append)));
            }
            Err((error, done)) => done.answer(Err(error)),
        }
    }

    fn finish(mut self, header: InstanceHeader, done: Acknowledge) -> Result<Append, (SpoolError, Acknowledge)> {
        let finished = (|| {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let encoded = header.encode()?;
            let sink = &mut self.sink;
            let stored = self.compressor.finish(&mut |bytes| sink.write(bytes))?;
            if let Body::Spilled(spill) = &mut self.sink.body {
                spill.finish(&self.shared)?;
            }
            Ok((encoded, stored))
        })();
        let (encoded_header, Stored { compression, filter }) = match finished {
            Ok(finished) => finished,
            Err(error) => return Err((error, done)),
        };
        let mut hash = [0; 32];
        hash.copy_from_slice(self.hasher.finish().as_ref());
        let hash = ContentHash(hash);
        // The log asks the same in a moment, and must not wait for the disk then. Of an error it hears itself.
        let _ = guarded(|| self.index.warm(&header.sop_instance_uid, hash));
        let finished = Finished {
            header,
            encoded_header,
            hash,
            length: self.length,
            compression,
            filter,
            stored_length: self.sink.stored,
            payload_crc: self.sink.crc,
        };
        Ok(Append { finished, body: self.sink.body, done })
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
