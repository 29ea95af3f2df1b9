//! Undoing a prediction: differences become words again.
//!
//! All arithmetic is modulo 2^16, and modulo 2^8 for narrow words, which are kept in 16 bits with the upper half zero.
//! Each word waits for the one left of it, so one line alone is slow. Two ways around that, both in vector code:
//!
//! - **Sums.** Undoing *left* and *plane* is adding up the differences of a line (for *plane*, on top of the line above).
//!   Sums of the last 4 differences, and from them of the last 8, need no order; each total is then the one 8 words before
//!   it plus such a sum, for 8 words at a time.
//! - **A staircase.** *median* and *mean* are undone in [`LINES`] lines at once, each line one segment behind the one
//!   above it, so that what it needs from there is known. The words that are restored in one step stand together:
//!
//! ```text
//!  tile       │  1  │  2  │  3  │  4  │ …      a tile has a segment of each line, here by its number in the line;
//!  line 0     │  0  │  1  │  2  │  3  │        turned on its side, it is 8 steps, each with a word of each line
//!  line 1     │     │  0  │  1  │  2  │
//!  line 2     │     │     │  0  │  1  │
//! ```

use super::predict::{Predictor, mask, mean, median_signed};

/// Lines that are restored at once.
pub(super) const LINES: usize = 8;
/// Words of a line in a tile, which are as many steps.
const STEPS: usize = 8;
const TILE: usize = LINES * STEPS;
/// Differences in a short sum.
const FEW: usize = 4;

/// Working memory of the way back.
#[derive(Debug, Default)]
pub(super) struct Restorer {
    /// Those of the staircase, behind one that nothing is taken from.
    tiles: Vec<[u16; TILE]>,
    other: Vec<[u16; TILE]>,
    /// Behind as many zeros, for each difference its sum with those in front of it, [`FEW`] in all.
    sums: Vec<u16>,
}

impl Restorer {
    /// Turns the differences in `lines` (no longer zigzagged) back into words. The first `columns` words are the line
    /// above, and at most [`LINES`] lines to be restored follow it.
    pub(super) fn restore(&mut self, predictor: Predictor, wide: bool, lines: &mut [u16], columns: usize) {
        match (predictor, wide) {
            (Predictor::None, _) => {}
            (Predictor::Left, true) => self.add_up::<16, false>(lines, columns),
            (Predictor::Left, false) => self.add_up::<8, false>(lines, columns),
            (Predictor::Plane, true) => self.add_up::<16, true>(lines, columns),
            (Predictor::Plane, false) => self.add_up::<8, true>(lines, columns),
            (Predictor::Median, true) => self.climb::<16, 0x8000>(lines, columns, median_signed),
            (Predictor::Median, false) => self.climb::<8, 0>(lines, columns, median_signed),
            (Predictor::Mean, true) => self.climb::<16, 0>(lines, columns, mean),
            (Predictor::Mean, false) => self.climb::<8, 0>(lines, columns, mean),
        }
    }

    /// Restores lines that were predicted from the left, or as a plane with the line above.
    fn add_up<const BITS: u32, const PLANE: bool>(&mut self, lines: &mut [u16], columns: usize) {
        let (mut above, rest) = lines.split_at_mut(columns);
        for line in rest.chunks_exact_mut(columns) {
            if !PLANE {
                line[0] = line[0].wrapping_add(above[0]);
            }
            self.sum_few(line);
            totals::<BITS, PLANE>(&self.sums, above, line);
            above = line;
        }
    }

    /// Fills the short sums. Not inlined: only as arguments the slices are known to be apart, which vector code needs.
    #[inline(never)]
    fn sum_few(&mut self, line: &[u16]) {
        self.sums.resize(FEW + line.len(), 0);
        let (start, sums) = self.sums.split_at_mut(FEW);
        let mut sum = 0_u16;
        for (place, word) in sums.iter_mut().zip(line).take(FEW - 1) {
            sum = sum.wrapping_add(*word);
            *place = sum;
        }
        start.fill(0);
        let neighbours = line.iter().zip(line.iter().skip(1)).zip(line.iter().skip(2)).zip(line.iter().skip(3));
        for (place, (((a, b), c), d)) in sums.iter_mut().skip(FEW - 1).zip(neighbours) {
            *place = a.wrapping_add(*b).wrapping_add(c.wrapping_add(*d));
        }
    }

    /// Restores lines up the staircase. Words are compared as signed numbers, with the bits of `FLIP` inverted.
    #[inline(always)]
    fn climb<const BITS: u32, const FLIP: u16>(
        &mut self,
        lines: &mut [u16],
        columns: usize,
        predict: impl Fn(u16, u16, u16) -> u16,
    ) {
        let (above, lines) = lines.split_at_mut(columns);
        for tiles in [&mut self.tiles, &mut self.other] {
            tiles.resize(columns.div_ceil(STEPS) + LINES, [0; TILE]);
        }
        for (row, line) in lines.chunks_exact(columns).enumerate() {
            for (tile, words) in self.tiles.iter_mut().skip(1 + row).zip(line.chunks(STEPS)) {
                let place = &mut tile.as_chunks_mut::<STEPS>().0[row];
                match words.first_chunk() {
                    Some(words) => *place = *words,
                    None => place[..words.len()].copy_from_slice(words),
                }
            }
        }
        self.turn();
        self.steps::<BITS, FLIP>(above, predict);
        self.turn();
        for (row, line) in lines.chunks_exact_mut(columns).enumerate() {
            for (tile, words) in self.tiles.iter().skip(1 + row).zip(line.chunks_mut(STEPS)) {
                let place = tile.as_chunks::<STEPS>().0[row].map(|word| word ^ FLIP);
                match words.first_chunk_mut() {
                    Some(words) => *words = place,
                    None => words.copy_from_slice(&place[..words.len()]),
                }
            }
        }
    }

    /// Turns all tiles on their sides: each round moves word `i` of one to `2 i`, modulo 63.
    fn turn(&mut self) {
        shuffle(&self.tiles, &mut self.other);
        shuffle(&self.other, &mut self.tiles);
        shuffle(&self.tiles, &mut self.other);
        std::mem::swap(&mut self.tiles, &mut self.other);
    }

    /// Takes the steps, in all lines at once.
    #[inline(always)]
    fn steps<const BITS: u32, const FLIP: u16>(&mut self, above: &[u16], predict: impl Fn(u16, u16, u16) -> u16) {
        let mut tops = above.chunks(STEPS);
        let (mut left, mut above) = ([0; LINES], [0; LINES]);
        let Some((mut before, rest)) = self.tiles.split_first_mut() else { return };
        for (at, tile) in rest.iter_mut().enumerate() {
            let mut top = [0; STEPS];
            let some = tops.next().unwrap_or_default();
            match some.first_chunk() {
                Some(some) => top = some.map(|word| word ^ FLIP),
                None => top.iter_mut().zip(some).for_each(|(top, word)| *top = word ^ FLIP),
            }
            let (steps, up) = (tile.as_chunks_mut::<LINES>().0, before.as_chunks::<LINES>().0);
            for (step, (words, up)) in steps.iter_mut().zip(up).enumerate() {
                let corner = above;
                above = [top[step], up[0], up[1], up[2], up[3], up[4], up[5], up[6]];
                if step == 0 && at < LINES {
                    // A line begins here. What is above its first word predicts it.
                    for i in 0..LINES {
                        left[i] = if i == at { above[i] } else { left[i] };
                    }
                }
                let mut now = [0; LINES];
                for i in 0..LINES {
                    now[i] = words[i].wrapping_add(predict(left[i], above[i], corner[i])) & mask::<BITS>();
                }
                *words = now;
                left = now;
            }
            before = tile;
        }
    }
}

/// The totals of a line from its [short sums](Restorer::sum_few); for a plane, on top of the line above.
/// Not inlined, for the same reason.
#[inline(never)]
fn totals<const BITS: u32, const PLANE: bool>(sums: &[u16], above: &[u16], line: &mut [u16]) {
    const MANY: usize = 2 * FEW;
    let mut totals = [0_u16; MANY];
    let (lines, last) = line.as_chunks_mut::<MANY>();
    let (tops, last_tops) = above.as_chunks::<MANY>();
    let (sums_before, last_before) = sums[..sums.len() - FEW].as_chunks::<MANY>();
    let (sums, last_sums) = sums[FEW..].as_chunks::<MANY>();
    for (((words, top), sums), before) in lines.iter_mut().zip(tops).zip(sums).zip(sums_before) {
        for i in 0..MANY {
            totals[i] = totals[i].wrapping_add(sums[i].wrapping_add(before[i]));
            words[i] = totals[i].wrapping_add(if PLANE { top[i] } else { 0 }) & mask::<BITS>();
        }
    }
    for i in 0..last.len() {
        let total = totals[i].wrapping_add(last_sums[i].wrapping_add(last_before[i]));
        last[i] = total.wrapping_add(if PLANE { last_tops[i] } else { 0 }) & mask::<BITS>();
    }
}

/// The perfect shuffle: the first half of each tile between the second half.
fn shuffle(from: &[[u16; TILE]], to: &mut [[u16; TILE]]) {
    for (from, to) in from.iter().zip(to) {
        let (first, second) = from.split_at(TILE / 2);
        for ((two, one), other) in to.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
            *two = [*one, *other];
        }
    }
}
