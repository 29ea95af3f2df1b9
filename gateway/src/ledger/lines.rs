//! Reading a file line by line in bounded memory, whatever is in it.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};

use super::line::LineHash;
use crate::durable::DiskFile;

/// The longest line that is ever written, in bytes, its newline included. The longest list in one is the routing of an
/// instance, which had to fit into the header of its record.
pub(super) const LONGEST_LINE: usize = 256 << 10;
const PIECE: usize = 64 << 10;

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Raw {
    /// A line that ends with a newline, without it.
    Line { offset: u64, text: Vec<u8> },
    /// A line that ends with a newline and is too long to be one of ours, and whether there are zeros in it.
    TooLong { offset: u64, hash: LineHash, has_zeros: bool },
    /// The file ends without a newline.
    Unfinished { offset: u64, length: u64, hash: LineHash },
}

/// See the module.
pub(super) struct Lines<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    /// What of the buffer was given already …
    given: usize,
    /// … and up to where there is no newline.
    searched: usize,
    /// Where in the file the next line begins.
    offset: u64,
}

impl<'a> Lines<'a> {
    /// The lines from `offset`, where one begins.
    pub(super) fn new(file: &'a dyn DiskFile, offset: u64) -> Self {
        Self { file, buffer: Vec::new(), given: 0, searched: 0, offset }
    }

    /// The next line; nothing at the end of the file.
    ///
    /// # Errors
    /// As [`DiskFile::read_at`].
    pub(super) fn next(&mut self) -> io::Result<Option<Raw>> {
        let offset = self.offset;
        let mut hash: Option<Context> = None;
        let mut has_zeros = false;
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') {
                let text = self.give(self.searched + found);
                self.give(self.given + 1);
                return Ok(Some(match hash {
                    None if text.len() < LONGEST_LINE => Raw::Line { offset, text },
                    hash => {
                        Raw::TooLong { offset, hash: finish(hash, &text), has_zeros: has_zeros || text.contains(&0) }
                    }
                }));
            }
            self.searched = self.buffer.len();
            if self.searched - self.given >= LONGEST_LINE {
                let text = self.give(self.searched);
                has_zeros |= text.contains(&0);
                hash.get_or_insert_with(|| Context::new(&SHA256)).update(&text);
            }
            if !self.read()? {
                let text = self.give(self.searched);
                let length = self.offset - offset;
                let hash = finish(hash, &text);
                return Ok((length > 0).then_some(Raw::Unfinished { offset, length, hash }));
            }
        }
    }

    /// Gives what is in the buffer up to `end`.
    fn give(&mut self, end: usize) -> Vec<u8> {
        let text = self.buffer.get(self.given..end).unwrap_or_default().to_vec();
        self.given = end;
        self.searched = self.searched.max(end);
        self.offset += text.len() as u64;
        text
    }

    /// Reads a little more; false at the end of the file.
    fn read(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.given);
        self.searched -= self.given;
        self.given = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + PIECE, 0);
        let target = self.buffer.get_mut(held..).unwrap_or_default();
        let read = loop {
            match self.file.read_at(target, self.offset + held as u64) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(held + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }
}

fn finish(hash: Option<Context>, rest: &[u8]) -> LineHash {
    match hash {
        None => LineHash::of(rest),
        Some(mut context) => {
            context.update(rest);
            LineHash::from_digest(&context.finish())
        }
    }
}
