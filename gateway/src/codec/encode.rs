//! The filter on the way in: a stream of bytes, pushed.

use super::block::Block;
use super::layout::Filter;

/// What comes out of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// More of the filtered data.
    Bytes(&'a [u8]),
    /// What follows is of another kind: a good place for a new table of symbols.
    Cut,
}

/// Filters a stream of bytes.
#[derive(Debug)]
pub struct FilterWriter {
    block: Block,
    /// How many bytes have come so far.
    position: u64,
    /// Pixel data that waits for its block to be full.
    waiting: Vec<u8>,
    out: Vec<u8>,
    cuts: Vec<usize>,
}

/// A run of one kind that is shorter than this, in bytes, is not worth a table of its own.
const SHORTEST_RUN: usize = 4 << 10;

impl FilterWriter {
    /// Filters what follows the first `position` bytes; these were before the pixel data.
    #[must_use]
    pub fn new(filter: Filter, position: u64) -> Self {
        Self { block: Block::new(filter), position, waiting: Vec::new(), out: Vec::new(), cuts: Vec::new() }
    }

    /// A writer as from [`FilterWriter::new`], in the memory of this one.
    #[must_use]
    pub fn again(mut self, filter: Filter, position: u64) -> Self {
        self.waiting.clear();
        Self { block: self.block.again(filter), position, ..self }
    }

    /// Takes the next bytes, gives what comes out of them to `target`.
    ///
    /// # Errors
    /// Those of `target`.
    pub fn write<E>(&mut self, mut data: &[u8], target: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let filter = self.block.filter;
        while !data.is_empty() {
            let (inside, until) = match self.position {
                position if position < filter.offset() => (false, filter.offset()),
                position if position < filter.end() => (true, filter.end()),
                _ => (false, u64::MAX),
            };
            let here = usize::try_from(until - self.position).unwrap_or(usize::MAX);
            let room = if inside { filter.block_bytes() - self.waiting.len() } else { usize::MAX };
            let (now, rest) = data.split_at(data.len().min(here).min(room));
            data = rest;
            self.position += now.len() as u64;
            if !inside {
                target(Piece::Bytes(now))?;
                continue;
            }
            self.waiting.extend_from_slice(now);
            if self.waiting.len() == filter.block_bytes() || self.position == filter.end() {
                self.block(target)?;
            }
        }
        Ok(())
    }

    /// There are no more bytes.
    ///
    /// # Errors
    /// Those of `target`.
    pub fn finish<E>(&mut self, target: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        self.block(target)
    }

    /// Filters what waits: whole rows as a block, what is left over as it is.
    fn block<E>(&mut self, target: &mut impl FnMut(Piece<'_>) -> Result<(), E>) -> Result<(), E> {
        let whole = self.waiting.len() - self.waiting.len() % self.block.filter.row_bytes();
        let (rows, rest) = self.waiting.split_at(whole);
        if !rows.is_empty() {
            self.block.filter(rows, &mut self.out, &mut self.cuts);
            let mut done = 0;
            for at in self.cuts.iter().copied().chain([self.out.len()]) {
                let run = self.out.get(done..at).unwrap_or_default();
                if run.len() >= SHORTEST_RUN || at == self.out.len() {
                    target(Piece::Bytes(run))?;
                    target(Piece::Cut)?;
                    done = at;
                }
            }
        }
        if !rest.is_empty() {
            target(Piece::Bytes(rest))?;
        }
        self.waiting.clear();
        Ok(())
    }
}
