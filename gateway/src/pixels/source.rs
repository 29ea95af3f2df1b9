//! A stored data set, read as Explicit VR Little Endian, while the canonical digest of what is read is taken.

use std::io::{self, Read};

use super::{EncodeError, LeftAlone};
use crate::dataset::digest::{Digest, Over};
use crate::dataset::recode::Recoder;
use crate::dataset::stream::{Source, fill};
use crate::dataset::transfer_syntax::{Encoding, TransferSyntax};
use crate::model::ContentHash;

/// How much is read at a time, in bytes.
pub(super) const CHUNK: usize = 64 * 1024;

/// Explicit VR Little Endian with native pixels.
pub(super) const EXPLICIT: TransferSyntax =
    TransferSyntax { encoding: Encoding::ExplicitLe, deflated: false, encapsulated: false };

/// The stored data set in Explicit VR Little Endian.
pub(super) struct Explicit<R> {
    source: Source<Digesting<R>>,
    recoder: Option<Recoder>,
    chunk: Vec<u8>,
    recoded: Vec<u8>,
    ended: bool,
}

/// Digests what is read through it.
struct Digesting<R> {
    source: R,
    digest: Digest,
    count: u64,
    /// What is wrong with the data set, and whatever is read of it.
    defect: Option<crate::dataset::Defect>,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.count += count as u64;
        if self.defect.is_none() {
            self.defect = self.digest.feed(buffer.get(..count).unwrap_or_default()).err();
        }
        Ok(count)
    }
}

impl<R: Read> Explicit<R> {
    pub(super) fn new(source: R, syntax: TransferSyntax) -> Result<Self, EncodeError> {
        let digest = Digest::new(syntax, Over::Elements);
        let source = Digesting { source, digest, count: 0, defect: None };
        let recode = syntax.encoding != Encoding::ExplicitLe;
        Ok(Self {
            source: Source::new(source, syntax.deflated),
            recoder: recode.then(|| Recoder::new(syntax.encoding, Encoding::ExplicitLe)).transpose()?,
            chunk: vec![0; CHUNK],
            recoded: Vec::new(),
            ended: false,
        })
    }

    /// The next bytes, which may be none; `None` behind the last.
    pub(super) fn advance(&mut self) -> Result<Option<&[u8]>, EncodeError> {
        if self.ended {
            return Ok(None);
        }
        // What becomes of it must not depend on the pieces in which it comes.
        let read = fill(&mut self.source, &mut self.chunk);
        let digesting = match &self.source {
            Source::Plain(source) => source,
            Source::Deflated(source) => source.source(),
        };
        if let Some(defect) = digesting.defect {
            return Err(defect.into());
        }
        let bytes = self.chunk.get(..read.map_err(EncodeError::Read)?).unwrap_or_default();
        self.ended = bytes.is_empty();
        let Some(recoder) = &mut self.recoder else { return Ok(Some(bytes)) };
        self.recoded.clear();
        if self.ended {
            recoder.finish(&mut self.recoded)?;
        } else {
            recoder.feed(bytes, &mut self.recoded)?;
        }
        Ok(Some(&self.recoded))
    }

    /// How long the stored data set is, and its canonical digest, when everything has been read.
    pub(super) fn finish(self) -> Result<(u64, ContentHash), EncodeError> {
        if !self.ended {
            return Err(LeftAlone::Different.into());
        }
        let digesting = match self.source {
            Source::Plain(source) => source,
            Source::Deflated(source) => source.into_source(),
        };
        match digesting.defect {
            Some(defect) => Err(defect.into()),
            None => Ok((digesting.count, digesting.digest.finish()?)),
        }
    }
}
