//! Another transfer syntax for the wire, where the archive does not take the stored one.
//!
//! Only between the uncompressed transfer syntaxes, so no pixel is ever decoded. What is stored stays as it is.
//!
//! Two steps, both streaming, with memory that does not depend on the data set:
//!
//! 1. [`verify`] converts without sending: the result is parsed again and its canonical digest compared with the
//!    source's ([`crate::dataset::digest`]). It also tells the length.
//! 2. [`Converter`] converts again, for the wire. It is deterministic: the same source gives the same bytes.
//!
//! The decision table is [`conversions`]; what is refused, and why, is in [`crate::dataset::recode`].

use std::io::{self, Read};

use crate::dataset::Defect;
use crate::dataset::digest::{Digest, Over};
use crate::dataset::inflate::Deflater;
use crate::dataset::recode::{RecodeError, Recoder};
use crate::dataset::stream::{Outgoing, Source, fill, read_some};
use crate::dataset::transfer_syntax::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED, EXPLICIT_VR_BIG_ENDIAN as BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT, describe,
};
use crate::model::Uid;

/// How much of the source is converted at a time, in bytes.
const CHUNK: usize = 32 * 1024;

/// Why an instance cannot be sent in another transfer syntax. The message is for the person who finds it parked.
#[derive(Debug, thiserror::Error)]
pub enum TranscodeError {
    /// Not between these two.
    #[error("There is no lossless conversion from transfer syntax {from} to {to}.")]
    NotOffered {
        /// The stored transfer syntax.
        from: Uid,
        /// The wanted one.
        to: Uid,
    },
    /// This data set cannot be converted without changing what it says.
    #[error(transparent)]
    Recode(#[from] RecodeError),
    /// The result is not what the source was; nothing of it has been sent. A bug of ours.
    #[error("The converted data set is not equal to the stored one, so it was not sent.")]
    Different,
    /// The source could not be read.
    #[error("The stored data set cannot be read: {0}")]
    Read(#[source] io::Error),
}

impl From<Defect> for TranscodeError {
    fn from(defect: Defect) -> Self {
        Self::Recode(defect.into())
    }
}

/// The transfer syntaxes into which a stored one can be converted without loss, best first. None for compressed ones.
///
/// Explicit VR comes first because it keeps what the source says of value representations; Deflated last because few
/// archives take it.
#[must_use]
pub fn conversions(stored: &Uid) -> &'static [&'static str] {
    match stored.as_str() {
        IMPLICIT => &[EXPLICIT, DEFLATED],
        EXPLICIT => &[IMPLICIT, DEFLATED],
        DEFLATED => &[EXPLICIT, IMPLICIT],
        BIG_ENDIAN => &[EXPLICIT, IMPLICIT, DEFLATED],
        _ => &[],
    }
}

/// Converts while being read.
///
/// Read errors carry a [`TranscodeError`]; after one, every read fails. The last byte of the source has been read
/// before this reports its end, so a source that checks itself has done so.
#[derive(Debug)]
pub struct Converter<R> {
    source: Source<R>,
    recoder: Option<Recoder>,
    deflater: Option<Deflater>,
    chunk: Vec<u8>,
    recoded: Vec<u8>,
    out: Outgoing,
}

impl<R: Read> Converter<R> {
    /// Converts `source` from one transfer syntax to another.
    ///
    /// # Errors
    /// [`TranscodeError::NotOffered`] if [`conversions`] does not list it.
    pub fn new(source: R, from: &Uid, to: &Uid) -> Result<Self, TranscodeError> {
        if !conversions(from).contains(&to.as_str()) {
            return Err(TranscodeError::NotOffered { from: from.clone(), to: to.clone() });
        }
        let (before, after) = (describe(from), describe(to));
        let recode = before.encoding != after.encoding;
        let recoder = recode.then(|| Recoder::new(before.encoding, after.encoding)).transpose()?;
        Ok(Self {
            source: Source::new(source, before.deflated),
            recoder,
            deflater: after.deflated.then(Deflater::default),
            chunk: vec![0; CHUNK],
            recoded: Vec::new(),
            out: Outgoing::default(),
        })
    }

    /// Converts the next piece of the source into `out`, which may stay empty.
    fn advance(&mut self) -> Result<(), TranscodeError> {
        self.out.clear();
        self.recoded.clear();
        let read = fill(&mut self.source, &mut self.chunk).map_err(TranscodeError::Read)?;
        let piece = self.chunk.get(..read).unwrap_or_default();
        let at_end = piece.is_empty();
        // The stages that are there, in a row: each writes into the next one's input, the last one into `out`.
        let recoded = match &mut self.recoder {
            Some(recoder) => {
                let into = if self.deflater.is_some() { &mut self.recoded } else { &mut self.out.bytes };
                if at_end {
                    recoder.finish(into)?
                } else {
                    recoder.feed(piece, into)?
                }
                self.recoded.as_slice()
            }
            None => piece,
        };
        match &mut self.deflater {
            Some(deflater) => {
                deflater.feed(recoded, &mut self.out.bytes).map_err(TranscodeError::Read)?;
                if at_end {
                    deflater.finish(&mut self.out.bytes).map_err(TranscodeError::Read)?;
                }
            }
            None if self.recoder.is_none() => self.out.bytes.extend_from_slice(piece),
            None => {}
        }
        if at_end {
            self.out.end();
        }
        Ok(())
    }
}

impl<R: Read> Read for Converter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(answer) = self.out.answer(buffer) {
                return answer;
            }
            self.advance().map_err(|error| {
                self.out.fail();
                io::Error::other(error)
            })?;
        }
    }
}

/// Dry run: converts, parses the result again and compares it with the source. Returns the length of the result in
/// bytes. Nothing may be sent in `to` before this has succeeded for the very same source.
///
/// # Errors
/// The conversion is not offered or refused, the source cannot be read, or the result differs.
pub fn verify(source: impl Read, from: &Uid, to: &Uid) -> Result<u64, TranscodeError> {
    let over = if describe(from).encoding == describe(to).encoding { Over::Bytes } else { Over::Elements };
    let mut stored = Watched { source, digest: Digest::new(describe(from), over), defect: None };
    let mut converted = Digest::new(describe(to), over);
    let mut length: u64 = 0;
    let mut converter = Converter::new(&mut stored, from, to)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = read_some(&mut converter, &mut buffer).map_err(transcode_error)?;
        if count == 0 {
            break;
        }
        length += count as u64;
        converted.feed(buffer.get(..count).unwrap_or_default())?;
    }
    drop(converter);
    if let Some(defect) = stored.defect {
        return Err(defect.into());
    }
    if stored.digest.finish()? == converted.finish()? { Ok(length) } else { Err(TranscodeError::Different) }
}

/// The [`TranscodeError`] inside an error that [`Converter`] returned; anything else is a failure to read.
#[must_use]
pub fn transcode_error(error: io::Error) -> TranscodeError {
    match error.downcast::<TranscodeError>() {
        Ok(error) => error,
        Err(error) => TranscodeError::Read(error),
    }
}

/// Digests what is read through it.
struct Watched<R> {
    source: R,
    digest: Digest,
    defect: Option<Defect>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        if self.defect.is_none() {
            self.defect = self.digest.feed(buffer.get(..count).unwrap_or_default()).err();
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
