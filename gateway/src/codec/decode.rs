//! The filter on the way out: filtered bytes are put in, the bytes that they were are taken out.

use super::block::{Block, HEADER};
use super::layout::Filter;

/// As much of what is not pixel data is passed on at once, in bytes.
const PIECE: usize = 64 << 10;

/// These bytes are not what a filter made of any data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the filtered pixel data contradicts itself")]
pub struct Garbled;

/// Undoes a filter. [`FilterReader::space`] is filled and [`FilterReader::filled`] told, until there is something to
/// [`take`](FilterReader::take).
#[derive(Debug)]
pub struct FilterReader {
    block: Block,
    /// Length of the data that comes out, in bytes.
    length: u64,
    /// How much of it has been decoded.
    position: u64,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    taken: usize,
}

impl FilterReader {
    /// Undoes a filter that `length` bytes went into.
    #[must_use]
    pub fn new(filter: Filter, length: u64) -> Self {
        let mut reader = Self {
            block: Block::new(filter),
            length,
            position: 0,
            input: Vec::new(),
            filled: 0,
            output: Vec::new(),
            taken: 0,
        };
        reader.prepare();
        reader
    }

    /// Where the next filtered bytes belong. Empty while there is something to be taken, and at the end.
    pub fn space(&mut self) -> &mut [u8] {
        if self.taken < self.output.len() {
            return &mut [];
        }
        self.input.get_mut(self.filled..).unwrap_or_default()
    }

    /// The first `count` bytes of the space were filled.
    ///
    /// # Errors
    /// They are not filtered data.
    pub fn filled(&mut self, count: usize) -> Result<(), Garbled> {
        self.filled = (self.filled + count).min(self.input.len());
        let rows = self.rows_next();
        if rows > 0 {
            if self.filled == self.input.len() {
                self.block.restore(&self.input, rows, &mut self.output).ok_or(Garbled)?;
                self.advance();
            }
        } else if self.filled > 0 {
            self.output.clear();
            self.output.extend_from_slice(self.input.get(..self.filled).unwrap_or_default());
            self.advance();
        }
        Ok(())
    }

    /// Moves what has come out to `to`; gives how many bytes that are. 0: more has to be put in, or this is the end.
    pub fn take(&mut self, to: &mut [u8]) -> usize {
        let from = self.output.get(self.taken..).unwrap_or_default();
        let count = from.len().min(to.len());
        if let (Some(from), Some(to)) = (from.get(..count), to.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        count
    }

    /// Whether everything that was announced has been decoded; some may be left to be taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.position == self.length
    }

    fn advance(&mut self) {
        self.position += self.output.len() as u64;
        self.taken = 0;
        self.prepare();
    }

    /// Makes room for what comes next.
    fn prepare(&mut self) {
        let filter = &self.block.filter;
        let rows = self.rows_next();
        let wanted = if rows > 0 {
            HEADER + rows * filter.row_bytes()
        } else {
            let until = if self.position < filter.offset() { self.length.min(filter.offset()) } else { self.length };
            usize::try_from(until - self.position).unwrap_or(PIECE).min(PIECE)
        };
        self.input.resize(wanted, 0);
        self.filled = 0;
    }

    /// How many rows the next block has; 0 if what comes next is no block.
    fn rows_next(&self) -> usize {
        let filter = &self.block.filter;
        if self.position < filter.offset() {
            return 0;
        }
        let left = filter.end().min(self.length).saturating_sub(self.position) / filter.row_bytes() as u64;
        usize::try_from(left).unwrap_or(usize::MAX).min(usize::from(filter.block_rows))
    }
}
