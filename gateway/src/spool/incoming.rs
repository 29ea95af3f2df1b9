//! A reception in progress: hashed here, in the receiver's own thread, and packed beside it ([`Packer`]) or here, too.
//!
//! What it produces is an [`Append`] for the log thread, in which the bytes of a large instance have been flushed already.
//! A reception that is dropped leaves nothing behind.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use aws_lc_rs::digest;

use super::error::SpoolError;
use super::index::{Index, guarded};
use super::packer::Packer;
use super::packing::Packed;
use super::record::InstanceHeader;
use super::shared::Shared;
use super::writer::{Acknowledge, Append, Committed, Finished, LogJob};
use crate::codec::PixelLayout;
use crate::model::ContentHash;

/// An instance on its way in. Dropping it discards it.
pub struct Incoming {
    index: Arc<Index>,
    log: SyncSender<LogJob>,
    hasher: digest::Context,
    length: u64,
    packer: Packer,
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
            index: Arc::clone(index),
            log,
            hasher: digest::Context::new(&digest::SHA256),
            length: 0,
            packer: Packer::new(shared),
            failed: None,
        }
    }

    #[cfg(test)]
    pub(super) fn packer(&self) -> &Packer {
        &self.packer
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
        let result = self.packer.write(data);
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
        let result = self.packer.pixels(layout);
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
            Ok((encoded, self.packer.finish()?))
        })();
        let (encoded_header, Packed { stored, body, length: stored_length, crc }) = match finished {
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
            compression: stored.compression,
            filter: stored.filter,
            stored_length,
            payload_crc: crc,
        };
        Ok(Append { finished, body, done })
    }
}
