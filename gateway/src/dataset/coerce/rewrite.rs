//! The changed data set, as a stream; and the proof that it is what it is to be.

use std::collections::VecDeque;
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256};

use super::super::inflate::Deflater;
use super::super::stream::{Outgoing, Source, fill, read_some};
use super::super::transfer_syntax::TransferSyntax;
use super::CoerceError;
use super::outline::Outliner;
use super::plan::{Edit, Plan};
use crate::model::ContentHash;

/// How much of the source is taken at a time, in bytes.
const CHUNK: usize = 32 * 1024;

/// Reads a source to its end.
pub(super) fn read_through(
    source: &mut impl Read,
    mut take: impl FnMut(&[u8]) -> Result<(), CoerceError>,
) -> Result<(), CoerceError> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match read_some(source, &mut buffer).map_err(coerce_error)? {
            0 => return Ok(()),
            count => take(buffer.get(..count).unwrap_or_default())?,
        }
    }
}

/// The [`CoerceError`] inside an error that a [`Rewriter`] returned; anything else is a failure to read.
fn coerce_error(error: io::Error) -> CoerceError {
    match error.downcast::<CoerceError>() {
        Ok(error) => error,
        Err(error) => CoerceError::Read(error),
    }
}

/// Makes the edits of a plan while being read.
///
/// Errors of the source are passed on as they are. The last byte of the source has been read before this reports its end, so
/// a source that checks itself has done so. It is deterministic: the same source and plan give the same bytes.
#[derive(Debug)]
pub struct Rewriter<R> {
    source: Source<R>,
    deflater: Option<Deflater>,
    edits: VecDeque<Edit>,
    /// How much of the source has been taken.
    at: u64,
    /// How much of what follows is left out.
    removing: u64,
    chunk: Vec<u8>,
    changed: Vec<u8>,
    out: Outgoing,
}

impl<R: Read> Rewriter<R> {
    /// Changes `source`, which is the data set that was planned for.
    #[must_use]
    pub fn new(source: R, syntax: TransferSyntax, plan: &Plan) -> Self {
        Self {
            source: Source::new(source, syntax.deflated),
            deflater: syntax.deflated.then(Deflater::default),
            edits: plan.edits.clone().into(),
            at: 0,
            removing: 0,
            chunk: vec![0; CHUNK],
            changed: Vec::new(),
            out: Outgoing::default(),
        }
    }

    /// Changes the next piece of the source into `out`, which may stay empty.
    fn advance(&mut self) -> io::Result<()> {
        self.out.clear();
        self.changed.clear();
        let mut chunk = std::mem::take(&mut self.chunk);
        let filled = fill(&mut self.source, &mut chunk);
        let edited = filled.and_then(|filled| {
            self.edit(chunk.get(..filled).unwrap_or_default())?;
            Ok(filled == 0)
        });
        self.chunk = chunk;
        let at_end = edited?;
        match &mut self.deflater {
            Some(deflater) => {
                deflater.feed(&self.changed, &mut self.out.bytes)?;
                if at_end {
                    deflater.finish(&mut self.out.bytes)?;
                }
            }
            None => std::mem::swap(&mut self.changed, &mut self.out.bytes),
        }
        if at_end {
            self.out.end();
        }
        Ok(())
    }

    /// Takes a piece of the source; an empty one is the end.
    fn edit(&mut self, mut piece: &[u8]) -> io::Result<()> {
        let at_end = piece.is_empty();
        loop {
            let removed = usize::try_from(self.removing).unwrap_or(usize::MAX).min(piece.len());
            piece = piece.get(removed..).unwrap_or_default();
            self.removing = self.removing.saturating_sub(removed as u64);
            self.at += removed as u64;
            if self.removing > 0 {
                break;
            }
            if self.edits.front().is_some_and(|edit| edit.at <= self.at)
                && let Some(edit) = self.edits.pop_front()
            {
                self.changed.extend_from_slice(&edit.insert);
                self.removing = edit.remove;
                continue;
            }
            let until = self.edits.front().map_or(u64::MAX, |edit| edit.at).saturating_sub(self.at);
            let kept = usize::try_from(until).unwrap_or(usize::MAX).min(piece.len());
            if kept == 0 {
                break;
            }
            let (keep, rest) = piece.split_at(kept);
            self.changed.extend_from_slice(keep);
            self.at += kept as u64;
            piece = rest;
        }
        // The source is shorter than the one that was planned for.
        let unfinished = at_end && (self.removing > 0 || !self.edits.is_empty());
        if unfinished { Err(io::Error::other(CoerceError::Different)) } else { Ok(()) }
    }
}

impl<R: Read> Read for Rewriter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(answer) = self.out.answer(buffer) {
                return answer;
            }
            self.advance().inspect_err(|_| self.out.fail())?;
        }
    }
}

/// What is known of a changed data set before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub hash: ContentHash,
}

/// Dry run: makes the changes, walks through the result, and looks whether the attributes are what they are to be and
/// everything else is as it was. Nothing may be sent before this has succeeded for the very same source and plan.
///
/// # Errors
/// The source cannot be read, or the result is not what it is to be.
pub fn verify(source: impl Read, syntax: TransferSyntax, plan: &Plan) -> Result<Proven, CoerceError> {
    let mut watched =
        Watched { source: Rewriter::new(source, syntax, plan), context: Context::new(&SHA256), length: 0 };
    let mut outliner = Outliner::new(syntax.encoding, plan.expected.iter().map(|(tag, _)| *tag));
    read_through(&mut Source::new(&mut watched, syntax.deflated), |bytes| outliner.feed(bytes))?;
    let outline = outliner.finish()?;
    let as_wanted =
        |(tag, value): &(_, Option<Vec<u8>>)| outline.of(*tag).map(|found| found.value.as_slice()) == value.as_deref();
    if outline.rest != plan.rest || outline.originals.is_none() || !plan.expected.iter().all(as_wanted) {
        return Err(CoerceError::Different);
    }
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(watched.context.finish().as_ref()) {
        *to = *from;
    }
    Ok(Proven { length: watched.length, hash: ContentHash(hash) })
}

/// Hashes and counts what is read through it.
struct Watched<R> {
    source: R,
    context: Context,
    length: u64,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.context.update(buffer.get(..count).unwrap_or_default());
        self.length += count as u64;
        Ok(count)
    }
}
