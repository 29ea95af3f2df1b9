//! Which prediction suits a block: estimated from every eighth of its lines.
//!
//! The estimate is what an entropy coder would need that knew the mean size of the numbers in each segment: eight times
//! the logarithm of the mean and a bit. It sees no repetition, so graphics are recognised by themselves: where most words
//! equal a neighbour, the compressor behind finds more than any prediction does.

use super::block::{SEGMENT, exchange, total};
use super::predict::Predictor;

/// One line of so many is looked at.
const EVERY: usize = 8;

/// How a block is filtered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) predictor: Predictor,
    /// The first and third component are replaced by their difference from the second.
    pub(super) differences: bool,
}

/// Chooses for the lines of a block, each component with the line above the block in front.
pub(super) fn choose(lines: &[Vec<u16>], columns: usize, wide: bool) -> Choice {
    let mut sample = Vec::with_capacity(lines.len());
    for lines in lines {
        // Pairs: a line that is looked at, behind the one above it.
        let mut pairs = Vec::with_capacity(lines.len() / (EVERY / 2) + 2 * columns);
        for some in lines.chunks(columns * EVERY) {
            let last_two = some.len().checked_sub(2 * columns).and_then(|from| some.get(from..));
            pairs.extend_from_slice(last_two.unwrap_or_default());
        }
        sample.push(pairs);
    }
    let (predictor, cost) = cheapest(&sample, columns, wide);
    let plain = Choice { predictor, differences: false };
    if sample.len() != 3 {
        return plain;
    }
    exchange(&mut sample, wide, u16::wrapping_sub);
    let (predictor, less) = cheapest(&sample, columns, wide);
    if less < cost { Choice { predictor, differences: true } } else { plain }
}

fn cheapest(sample: &[Vec<u16>], columns: usize, wide: bool) -> (Predictor, u64) {
    let mut out = vec![0; columns];
    let costs = Predictor::ALL.map(|predictor| {
        let mut cost = 0;
        for pair in sample.iter().flat_map(|pairs| pairs.chunks_exact(2 * columns)) {
            let (above, line) = pair.split_at(columns);
            predictor.forward(wide, line, above, &mut out);
            cost += out.chunks(SEGMENT).map(|segment| bits(total(segment))).sum::<u64>();
        }
        (predictor, cost)
    });
    costs.into_iter().min_by_key(|(_, cost)| *cost).unwrap_or((Predictor::None, 0))
}

/// The logarithm of a mean and a bit, in units that nobody needs: sixteenths, between powers of two a straight line.
fn bits(sum: u32) -> u64 {
    let sum = u64::from(sum) + SEGMENT as u64;
    let power = sum.ilog2();
    u64::from(power) * 16 + ((sum << 4 >> power) - 16)
}
