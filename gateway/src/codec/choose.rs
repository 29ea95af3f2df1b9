//! Which prediction suits a block: estimated from every sixteenth of its lines.
//!
//! The estimate is what an entropy coder would need that knew the mean of the numbers in each segment of 8. For narrow
//! words it is compared with what the words need as they are: graphics and indices of a palette have few different
//! ones, and their neighbours say little about them.

use super::block::{SEGMENT, exchange, total};
use super::predict::Predictor;

/// One line of so many is looked at.
const EVERY: usize = 16;

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
    let unpredicted = if wide { u64::MAX } else { plain(&sample, columns) };
    let (predictor, cost) = cheapest(&sample, columns, wide);
    let mut best = (cost, Choice { predictor, differences: false });
    if sample.len() == 3 {
        exchange(&mut sample, usize::MAX, wide, u16::wrapping_sub);
        let (predictor, cost) = cheapest(&sample, columns, wide);
        if cost < best.0 {
            best = (cost, Choice { predictor, differences: true });
        }
    }
    if unpredicted < best.0 { Choice { predictor: Predictor::None, differences: false } } else { best.1 }
}

fn cheapest(sample: &[Vec<u16>], columns: usize, wide: bool) -> (Predictor, u64) {
    let mut out = vec![0; columns];
    let costs = Predictor::REAL.map(|predictor| {
        let mut cost = 0;
        for pair in sample.iter().flat_map(|pairs| pairs.chunks_exact(2 * columns)) {
            let (above, line) = pair.split_at(columns);
            predictor.forward(wide, line, above, &mut out);
            cost += out.chunks(SEGMENT).map(|segment| bits(total(segment))).sum::<u64>();
        }
        (predictor, cost)
    });
    costs.into_iter().min_by_key(|(_, cost)| *cost).unwrap_or((Predictor::None, u64::MAX))
}

/// Sixteenths of bits for eight numbers with this sum, if the small ones among all of them are the frequent ones: the
/// entropy of a geometric distribution with that mean, (m + 1) log (m + 1) − m log m.
fn bits(sum: u16) -> u64 {
    const FEW: [u64; 9] = [0, 72, 115, 149, 176, 200, 221, 239, 256];
    FEW.get(usize::from(sum)).copied().unwrap_or_else(|| {
        // The mean is above 1: the logarithm of e (m + 1/2).
        8 * (logarithm(u64::from(sum) * 2 + SEGMENT as u64) + 23 - 16 * 4)
    })
}

/// Sixteenths of bits for the narrow words of lines as they are, by how often each occurs; repetition is not seen.
fn plain(sample: &[Vec<u16>], columns: usize) -> u64 {
    let mut counts = [0_u64; 256];
    for line in sample.iter().flat_map(|pairs| pairs.chunks_exact(columns).skip(1).step_by(2)) {
        for word in line {
            counts[usize::from(*word & 0xff)] += 1;
        }
    }
    let all = logarithm(counts.iter().sum::<u64>().max(1));
    counts.iter().map(|count| count * all.saturating_sub(logarithm((*count).max(1)))).sum()
}

/// The binary logarithm in sixteenths, between powers of two a straight line.
fn logarithm(number: u64) -> u64 {
    let power = number.ilog2();
    u64::from(power) * 16 + ((number << 4 >> power) - 16)
}
