//! One block: from rows of pixels to classes of byte planes, and back.

use super::choose::choose;
use super::layout::Filter;
use super::predict::{Predictor, unzigzag};
use super::restore::{LINES, Restorer};

/// Words in a segment.
pub(super) const SEGMENT: usize = 8;
/// Classes of segments.
pub(super) const CLASSES: usize = 12;
const HIGHEST: u32 = 11;
/// Places for classes in a table, as many as make indexing cheap.
const PLACES: usize = 16;
/// Length of the header of a block, in bytes.
pub(super) const HEADER: usize = 4 + 4 * CLASSES;

/// The class of a segment below a segment with this sum: the number of bits of half of it.
#[inline(always)]
fn class_below(total: u32) -> u8 {
    // Which bit is the first: one less than how many there are, as in the half.
    (total | 1).min(1 << HIGHEST).ilog2().to_le_bytes()[0]
}

/// The sum of a segment; words count for at most 8,191, which is in the highest class alone, so that the sum fits.
#[inline(always)]
pub(super) fn total(words: &[u16]) -> u16 {
    words.iter().fold(0, |sum: u16, word| sum.wrapping_add((*word).min(8_191)))
}

/// The differences with these bytes; narrow ones have no high byte.
#[inline(always)]
fn differences<const BITS: u32>(low: &[u8; SEGMENT], high: &[u8; SEGMENT]) -> [u16; SEGMENT] {
    let mut words = [0; SEGMENT];
    for (word, (low, high)) in words.iter_mut().zip(low.iter().zip(high)) {
        *word = unzigzag::<BITS>(u16::from_le_bytes([*low, if BITS == 16 { *high } else { 0 }]));
    }
    words
}

/// The sum of a segment from its bytes. Other than [`total`] only above 8,191, which is the highest class in any case.
#[inline(always)]
fn total_of_bytes<const BITS: u32>(low: &[u8; SEGMENT], high: &[u8; SEGMENT]) -> u32 {
    sum(low) + if BITS == 16 { sum(high) << 8 } else { 0 }
}

#[inline(always)]
fn sum(bytes: &[u8; SEGMENT]) -> u32 {
    bytes.iter().map(|byte| u32::from(*byte)).sum()
}

/// What both directions carry from one block to the next, and their working memory: words, and their differences.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) filter: Filter,
    /// For each component, the line above the block and then the lines of the block.
    lines: Vec<Vec<u16>>,
    /// Zigzagged differences, a line of each component in turn.
    differences: Vec<u16>,
    /// For each component, the classes of the segments of the next line.
    below: Vec<Vec<u8>>,
    /// The classes of the segments of the block, a line of each component in turn.
    classes: Vec<u8>,
    restorer: Restorer,
}

impl Block {
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            filter,
            lines: Vec::new(),
            differences: Vec::new(),
            below: Vec::new(),
            classes: Vec::new(),
            restorer: Restorer::default(),
        }
        .again(filter)
    }

    /// A block codec at its beginning, in the memory of this one.
    pub(super) fn again(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self.lines.resize(filter.components(), Vec::new());
        self.below.resize(filter.components(), Vec::new());
        for lines in &mut self.lines {
            // The line above the first one: zeros, as they are after the sign bits have been turned.
            lines.clear();
            lines.resize(filter.columns(), sign(&filter));
        }
        for below in &mut self.below {
            below.clear();
            below.resize(filter.columns().div_ceil(SEGMENT), 0);
        }
        self
    }

    /// Filters whole rows: fills `out` with the block and `cuts` with the places where bytes of another kind begin.
    pub(super) fn filter(&mut self, rows: &[u8], out: &mut Vec<u8>, cuts: &mut Vec<usize>) {
        self.load(rows);
        let choice = choose(&self.lines, self.filter.columns(), self.filter.wide);
        out.clear();
        cuts.clear();
        if choice.predictor == Predictor::None {
            out.resize(HEADER, 0);
            out.extend_from_slice(rows);
            self.keep_last_line();
            return;
        }
        if choice.differences {
            exchange(&mut self.lines, usize::MAX, self.filter.wide, u16::wrapping_sub);
        }
        let counts = self.predict(choice.predictor);
        out.extend_from_slice(&[choice.predictor.code(), u8::from(choice.differences), 0, 0]);
        for count in counts {
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        let words = self.differences.len();
        out.resize(HEADER + words * (1 + usize::from(self.filter.wide)), 0);
        let (low, high) = out.get_mut(HEADER..).unwrap_or_default().split_at_mut(words);
        self.scatter(&counts, low, high);
        if choice.differences {
            exchange(&mut self.lines, usize::MAX, self.filter.wide, u16::wrapping_add);
        }
        self.keep_last_line();
        let mut at = HEADER;
        for _plane in 0..=u8::from(self.filter.wide) {
            for count in counts {
                cuts.push(at);
                at += count;
            }
        }
    }

    /// Undoes [`Block::filter`] for `count` rows; `None` if these bytes cannot be what it made of them.
    pub(super) fn restore(&mut self, block: &[u8], count: usize, out: &mut Vec<u8>) -> Option<()> {
        let words = count * self.filter.columns() * self.filter.components();
        let (header, planes) = block.split_at_checked(HEADER)?;
        let [predictor, differences @ (0 | 1), 0, 0] = *header.first_chunk()? else { return None };
        let (predictor, differences) = (Predictor::from_code(predictor)?, differences == 1);
        if predictor == Predictor::None {
            let as_it_was = header.iter().all(|byte| *byte == 0) && planes.len() == count * self.filter.row_bytes();
            out.clear();
            out.extend_from_slice(planes);
            self.load(planes);
            self.keep_last_line();
            return as_it_was.then_some(());
        }
        if differences && self.filter.components() != 3 {
            return None;
        }
        let mut counts = [0; CLASSES];
        for (count, bytes) in counts.iter_mut().zip(header.get(4..)?.chunks_exact(4)) {
            *count = usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()?;
        }
        let sum = counts.iter().try_fold(0_usize, |sum, count| sum.checked_add(*count))?;
        if sum != words || planes.len() != words * (1 + usize::from(self.filter.wide)) {
            return None;
        }
        let (low, high) = planes.split_at_checked(words)?;
        let mut next = starts(&counts);
        out.resize(count * self.filter.row_bytes(), 0);
        // A few lines at a time, which stay in the nearest cache.
        for rows in out.chunks_mut(LINES * self.filter.row_bytes()) {
            let columns = self.filter.columns();
            for lines in &mut self.lines {
                lines.resize(columns + rows.len() / self.filter.row_bytes() * columns, 0);
            }
            if differences {
                exchange(&mut self.lines, columns, self.filter.wide, u16::wrapping_sub);
            }
            match self.filter.wide {
                true => self.gather::<16>(&mut next, low, high)?,
                false => self.gather::<8>(&mut next, low, low)?,
            }
            for lines in &mut self.lines {
                self.restorer.restore(predictor, self.filter.wide, lines, columns);
            }
            if differences {
                exchange(&mut self.lines, usize::MAX, self.filter.wide, u16::wrapping_add);
            }
            self.store(rows);
            self.keep_last_line();
        }
        Some(())
    }

    /// Takes rows of pixels apart into lines of words.
    fn load(&mut self, rows: &[u8]) {
        let Filter { wide, big_endian, .. } = self.filter;
        let sign = sign(&self.filter);
        let components = self.filter.components();
        let columns = self.filter.columns();
        let words = rows.len() / (1 + usize::from(wide)) / components;
        for (component, lines) in self.lines.iter_mut().enumerate() {
            lines.resize(columns + words, 0);
            let lines = lines.get_mut(columns..).unwrap_or_default();
            match (wide, components) {
                (false, 1) => {
                    for (word, byte) in lines.iter_mut().zip(rows) {
                        *word = u16::from(*byte) ^ sign;
                    }
                }
                (false, 3) => {
                    for (word, pixel) in lines.iter_mut().zip(rows.as_chunks::<3>().0) {
                        *word = u16::from(pixel[component.min(2)]) ^ sign;
                    }
                }
                (false, _) => {
                    for (word, pixel) in lines.iter_mut().zip(rows.chunks_exact(components)) {
                        *word = u16::from(pixel[component]) ^ sign;
                    }
                }
                (true, 1) if big_endian => {
                    for (word, bytes) in lines.iter_mut().zip(rows.as_chunks().0) {
                        *word = u16::from_be_bytes(*bytes) ^ sign;
                    }
                }
                (true, 1) => {
                    for (word, bytes) in lines.iter_mut().zip(rows.as_chunks().0) {
                        *word = u16::from_le_bytes(*bytes) ^ sign;
                    }
                }
                (true, _) => {
                    for (word, pixel) in lines.iter_mut().zip(rows.as_chunks().0.chunks_exact(components)) {
                        let bytes = pixel[component];
                        *word = if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) } ^ sign;
                    }
                }
            }
        }
    }

    /// The reverse of [`Block::load`].
    fn store(&self, rows: &mut [u8]) {
        let Filter { wide, big_endian, .. } = self.filter;
        let sign = sign(&self.filter);
        let components = self.filter.components();
        for (component, lines) in self.lines.iter().enumerate() {
            let lines = lines.get(self.filter.columns()..).unwrap_or_default();
            let narrow = |word: u16| (word ^ sign).to_le_bytes()[0];
            match (wide, components) {
                (false, 1) => {
                    for (byte, word) in rows.iter_mut().zip(lines) {
                        *byte = narrow(*word);
                    }
                }
                (false, 3) => {
                    for (pixel, word) in rows.as_chunks_mut::<3>().0.iter_mut().zip(lines) {
                        pixel[component.min(2)] = narrow(*word);
                    }
                }
                (false, _) => {
                    for (pixel, word) in rows.chunks_exact_mut(components).zip(lines) {
                        pixel[component] = narrow(*word);
                    }
                }
                (true, 1) if big_endian => {
                    for (bytes, word) in rows.as_chunks_mut().0.iter_mut().zip(lines) {
                        *bytes = (word ^ sign).to_be_bytes();
                    }
                }
                (true, 1) => {
                    for (bytes, word) in rows.as_chunks_mut().0.iter_mut().zip(lines) {
                        *bytes = (word ^ sign).to_le_bytes();
                    }
                }
                (true, _) => {
                    for (pixel, word) in rows.as_chunks_mut().0.chunks_exact_mut(components).zip(lines) {
                        let word = word ^ sign;
                        pixel[component] = if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
                    }
                }
            }
        }
    }

    /// Predicts all lines and classifies their segments; gives how many words there are in each class.
    fn predict(&mut self, predictor: Predictor) -> [usize; CLASSES] {
        let columns = self.filter.columns();
        let count = self.lines.first().map_or(0, |lines| lines.len() / columns - 1);
        self.differences.resize(count * columns * self.lines.len(), 0);
        self.classes.clear();
        let mut counts = [0; CLASSES];
        let mut outs = self.differences.chunks_exact_mut(columns);
        for row in 0..count {
            for (lines, below) in self.lines.iter().zip(&mut self.below) {
                let two = lines.get(row * columns..(row + 2) * columns).unwrap_or_default();
                let (Some((above, line)), Some(out)) = (two.split_at_checked(columns), outs.next()) else { continue };
                predictor.forward(self.filter.wide, line, above, out);
                self.classes.extend_from_slice(below);
                let (segments, rest) = out.as_chunks::<SEGMENT>();
                for (class, segment) in below.iter_mut().zip(segments) {
                    counts[usize::from(*class).min(CLASSES - 1)] += SEGMENT;
                    *class = class_below(total(segment).into());
                }
                if let Some(class) = below.get_mut(segments.len()) {
                    counts[usize::from(*class).min(CLASSES - 1)] += rest.len();
                    *class = class_below(total(rest).into());
                }
            }
        }
        counts
    }

    /// Copies the differences to where their class is, byte by plane.
    fn scatter(&self, counts: &[usize; CLASSES], low: &mut [u8], high: &mut [u8]) {
        let mut next = starts(counts);
        let columns = self.filter.columns();
        let lines = self.differences.chunks_exact(columns);
        for (line, classes) in lines.zip(self.classes.chunks_exact(columns.div_ceil(SEGMENT))) {
            let (segments, rest) = line.as_chunks::<SEGMENT>();
            for (class, segment) in classes.iter().zip(segments) {
                let at = &mut next[usize::from(*class) % PLACES];
                if let Some(low) = low.get_mut(*at..).and_then(<[u8]>::first_chunk_mut::<SEGMENT>) {
                    for (byte, word) in low.iter_mut().zip(segment) {
                        *byte = word.to_le_bytes()[0];
                    }
                }
                if let Some(high) = high.get_mut(*at..).and_then(<[u8]>::first_chunk_mut::<SEGMENT>) {
                    for (byte, word) in high.iter_mut().zip(segment) {
                        *byte = word.to_le_bytes()[1];
                    }
                }
                *at += SEGMENT;
            }
            if let Some(class) = classes.get(segments.len()) {
                let at = &mut next[usize::from(*class) % PLACES];
                for (i, word) in rest.iter().enumerate() {
                    let bytes = word.to_le_bytes();
                    if let Some(low) = low.get_mut(*at + i) {
                        *low = bytes[0];
                    }
                    if let Some(high) = high.get_mut(*at + i) {
                        *high = bytes[1];
                    }
                }
                *at += rest.len();
            }
        }
    }

    /// Fetches differences from the places that are `next` in their classes into the lines.
    fn gather<const BITS: u32>(&mut self, next: &mut [usize; PLACES], low: &[u8], high: &[u8]) -> Option<()> {
        let columns = self.filter.columns();
        let high = high.get(..low.len())?;
        let count = self.lines.first()?.len() / columns;
        for row in 1..count {
            for (lines, below) in self.lines.iter_mut().zip(&mut self.below) {
                let line = lines.get_mut(row * columns..(row + 1) * columns)?;
                let (segments, rest) = line.as_chunks_mut::<SEGMENT>();
                let (whole, last) = below.split_at_mut_checked(segments.len())?;
                for (class, segment) in whole.iter_mut().zip(segments) {
                    let at = &mut next[usize::from(*class) % PLACES];
                    let low: &[u8; SEGMENT] = low.get(*at..*at + SEGMENT)?.first_chunk()?;
                    let high: &[u8; SEGMENT] = high.get(*at..*at + SEGMENT)?.first_chunk()?;
                    *at += SEGMENT;
                    *class = class_below(total_of_bytes::<BITS>(low, high));
                    *segment = differences::<BITS>(low, high);
                }
                if let Some(class) = last.first_mut() {
                    let at = &mut next[usize::from(*class) % PLACES];
                    let (mut low_bytes, mut high_bytes) = ([0; SEGMENT], [0; SEGMENT]);
                    low_bytes[..rest.len()].copy_from_slice(low.get(*at..*at + rest.len())?);
                    high_bytes[..rest.len()].copy_from_slice(high.get(*at..*at + rest.len())?);
                    *at += rest.len();
                    *class = class_below(total_of_bytes::<BITS>(&low_bytes, &high_bytes));
                    rest.copy_from_slice(&differences::<BITS>(&low_bytes, &high_bytes)[..rest.len()]);
                }
            }
        }
        Some(())
    }

    /// The last line of this block is the one above the next.
    fn keep_last_line(&mut self) {
        let columns = self.filter.columns();
        for lines in &mut self.lines {
            let last = lines.len() - columns;
            lines.copy_within(last.., 0);
        }
    }
}

/// The sign bit of signed words: inverted, the order of the words is that of the values.
fn sign(filter: &Filter) -> u16 {
    match (filter.signed, filter.wide) {
        (false, _) => 0,
        (true, false) => 0x80,
        (true, true) => 0x8000,
    }
}

/// Where each class starts.
fn starts(counts: &[usize; CLASSES]) -> [usize; PLACES] {
    let mut starts = [0; PLACES];
    let mut next = 0;
    for (start, count) in starts.iter_mut().zip(counts) {
        *start = next;
        next += count;
    }
    starts
}

/// Combines the first and the third component with the second, in the first `count` words of each.
pub(super) fn exchange(lines: &mut [Vec<u16>], count: usize, wide: bool, with: impl Fn(u16, u16) -> u16) {
    let mask = if wide { u16::MAX } else { 0xff };
    if let [first, second, third] = lines {
        for other in [first, third] {
            for (word, with_word) in other.iter_mut().zip(&*second).take(count) {
                *word = with(*word, *with_word) & mask;
            }
        }
    }
}
