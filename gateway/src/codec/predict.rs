//! Prediction of a line from itself and the line above, and its undoing.
//!
//! All arithmetic is modulo 2^16, and modulo 2^8 for narrow words, which are kept in 16 bits with the upper half zero.
//! The forward direction knows all neighbours and is vector code throughout. Backwards, the left neighbour is the result
//! before: one after the other, but two lines at a time.

/// How a word is predicted from its neighbours left (*a*), above (*b*) and above left (*c*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    /// Not at all, and the block stays as it is: graphics, indices of a palette.
    None,
    /// *a*
    Left,
    /// *a* + *b* − *c*: right where the image is smooth and noise is little, or correlated as in CT.
    Plane,
    /// The median of *a*, *b* and *a* + *b* − *c*, as in JPEG-LS: follows edges.
    Median,
    /// (*a* + *b*) / 2: averages noise.
    Mean,
}

impl Predictor {
    pub(super) const ALL: [Self; 5] = [Self::None, Self::Left, Self::Plane, Self::Median, Self::Mean];
    /// Those that predict something.
    pub(super) const REAL: [Self; 4] = [Self::Left, Self::Plane, Self::Median, Self::Mean];

    pub(super) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Left => 1,
            Self::Plane => 2,
            Self::Median => 3,
            Self::Mean => 4,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The zigzagged differences of `line` from its prediction, into `out`; all three have the same length.
    pub(super) fn forward(self, wide: bool, line: &[u16], above: &[u16], out: &mut [u16]) {
        if wide { self.forward_in::<16>(line, above, out) } else { self.forward_in::<8>(line, above, out) }
    }

    fn forward_in<const BITS: u32>(self, line: &[u16], above: &[u16], out: &mut [u16]) {
        match self {
            Self::None => differences::<BITS>(line, above, out, |_, _, _| 0),
            Self::Left => differences::<BITS>(line, above, out, |a, _, _| a),
            Self::Plane => differences::<BITS>(line, above, out, plane),
            Self::Median => differences::<BITS>(line, above, out, median),
            Self::Mean => differences::<BITS>(line, above, out, mean),
        }
        if self != Self::None
            && let (Some(out), Some(word), Some(above)) = (out.first_mut(), line.first(), above.first())
        {
            *out = zigzag::<BITS>(word.wrapping_sub(*above));
        }
    }

    /// Turns the zigzagged differences in `lines` back into words. The first `columns` words are the line above, and the
    /// lines to be restored follow it.
    pub(super) fn backward(self, wide: bool, lines: &mut [u16], columns: usize) {
        if wide { self.backward_in::<16>(lines, columns) } else { self.backward_in::<8>(lines, columns) }
    }

    fn backward_in<const BITS: u32>(self, lines: &mut [u16], columns: usize) {
        let (mut above, mut rest) = lines.split_at_mut(columns);
        for word in &mut *rest {
            *word = unzigzag::<BITS>(*word);
        }
        while !rest.is_empty() {
            let two = rest.len().min(2 * columns);
            let (now, next) = rest.split_at_mut(two);
            let (first, second) = now.split_at_mut(columns.min(two));
            match self {
                Self::None => {}
                Self::Left => restore::<BITS>(above, first, second, |a, _, _| a),
                Self::Plane => restore::<BITS>(above, first, second, plane),
                Self::Median => restore::<BITS>(above, first, second, median),
                Self::Mean => restore::<BITS>(above, first, second, mean),
            }
            above = if second.is_empty() { first } else { second };
            rest = next;
        }
    }
}

#[inline(always)]
fn plane(a: u16, b: u16, c: u16) -> u16 {
    b.wrapping_sub(c).wrapping_add(a)
}

/// The gradient *a* + *b* − *c*, with *c* brought between *a* and *b*, is the median of the three.
#[inline(always)]
fn median(a: u16, b: u16, c: u16) -> u16 {
    let (low, high) = (a.min(b), a.max(b));
    a.wrapping_add(b).wrapping_sub(c.max(low).min(high))
}

#[inline(always)]
fn mean(a: u16, b: u16, _: u16) -> u16 {
    (a & b) + ((a ^ b) >> 1)
}

#[inline(always)]
fn mask<const BITS: u32>() -> u16 {
    u16::MAX >> (16 - BITS)
}

#[inline(always)]
fn zigzag<const BITS: u32>(difference: u16) -> u16 {
    let d = difference & mask::<BITS>();
    ((d << 1) ^ 0_u16.wrapping_sub(d >> (BITS - 1))) & mask::<BITS>()
}

#[inline(always)]
fn unzigzag<const BITS: u32>(word: u16) -> u16 {
    ((word >> 1) ^ 0_u16.wrapping_sub(word & 1)) & mask::<BITS>()
}

/// All but the first word, which has no left neighbour.
#[inline(always)]
fn differences<const BITS: u32>(line: &[u16], above: &[u16], out: &mut [u16], predict: impl Fn(u16, u16, u16) -> u16) {
    let length = line.len().min(above.len()).min(out.len());
    if length == 0 {
        return;
    }
    out[0] = zigzag::<BITS>(line[0].wrapping_sub(predict(0, 0, 0)));
    let (words, left) = (&line[1..length], &line[..length - 1]);
    let (top, corner) = (&above[1..length], &above[..length - 1]);
    let out = &mut out[1..length];
    for i in 0..out.len() {
        out[i] = zigzag::<BITS>(words[i].wrapping_sub(predict(left[i], top[i], corner[i])));
    }
}

/// Restores two lines at once, the second one word behind the first, or one line if `second` is empty: each word waits
/// for the one left of it, so two lines take hardly longer than one.
#[inline(always)]
fn restore<const BITS: u32>(
    top: &[u16],
    first: &mut [u16],
    second: &mut [u16],
    predict: impl Fn(u16, u16, u16) -> u16,
) {
    let word = |difference: u16, prediction: u16| difference.wrapping_add(prediction) & mask::<BITS>();
    let length = first.len().min(top.len());
    if length == 0 {
        return;
    }
    let (top, first) = (&top[..length], &mut first[..length]);
    first[0] = word(first[0], top[0]);
    if second.len() < length {
        let mut left = first[0];
        for i in 1..length {
            left = word(first[i], predict(left, top[i], top[i - 1]));
            first[i] = left;
        }
        return;
    }
    let second = &mut second[..length];
    second[0] = word(second[0], first[0]);
    if length == 1 {
        return;
    }
    first[1] = word(first[1], predict(first[0], top[1], top[0]));
    // Of the first line the two words last restored, of the second the last one.
    let (mut corner, mut above, mut left) = (first[0], first[1], second[0]);
    for i in 2..length {
        let one = word(first[i], predict(above, top[i], top[i - 1]));
        let other = word(second[i - 1], predict(left, above, corner));
        first[i] = one;
        second[i - 1] = other;
        (corner, above, left) = (above, one, other);
    }
    second[length - 1] = word(second[length - 1], predict(left, above, corner));
}
