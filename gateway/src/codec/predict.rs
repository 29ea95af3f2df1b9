//! Prediction of a line from itself and the line above, and its undoing.
//!
//! All arithmetic is modulo 2^16, and modulo 2^8 for narrow words, which are kept in 16 bits with the upper half zero.
//! The forward direction knows all neighbours and is vector code throughout. Backwards, the left neighbour is the result
//! before; for `Left` and `Plane` that leaves one addition for each word, for the others four to six operations.

/// How a word is predicted from its neighbours left (*a*), above (*b*) and above left (*c*).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predictor {
    /// Not at all: graphics, and what is only called an image.
    None,
    /// *a*
    Left,
    /// *a* + *b* − *c*: right where the image is smooth and noise is little, or correlated as in CT.
    Plane,
    /// The median of *a*, *b* and *a* + *b* − *c*, as in JPEG-LS: follows edges.
    Median,
    /// (*a* + *b*) / 2: averages noise.
    Mean,
    /// (3*a* + 3*b* − 2*c*) / 4: between mean and plane.
    Blend,
}

impl Predictor {
    pub(super) const ALL: [Self; 6] = [Self::None, Self::Left, Self::Plane, Self::Median, Self::Mean, Self::Blend];

    pub(super) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Left => 1,
            Self::Plane => 2,
            Self::Median => 3,
            Self::Mean => 4,
            Self::Blend => 5,
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
            Self::Blend => differences::<BITS>(line, above, out, blend),
        }
        if self != Self::None
            && let (Some(out), Some(word), Some(above)) = (out.first_mut(), line.first(), above.first())
        {
            *out = zigzag::<BITS>(word.wrapping_sub(*above));
        }
    }

    /// Turns the zigzagged differences in `line` back into words; `above` has the same length.
    pub(super) fn backward(self, wide: bool, line: &mut [u16], above: &[u16]) {
        if wide { self.backward_in::<16>(line, above) } else { self.backward_in::<8>(line, above) }
    }

    fn backward_in<const BITS: u32>(self, line: &mut [u16], above: &[u16]) {
        for word in &mut *line {
            *word = unzigzag::<BITS>(*word);
        }
        if self == Self::None {
            return;
        }
        let (Some((first, rest)), Some((corner, top))) = (line.split_first_mut(), above.split_first()) else { return };
        *first = first.wrapping_add(*corner) & mask::<BITS>();
        match self {
            Self::None => {}
            Self::Left => sum::<BITS>(*first, rest),
            Self::Plane => {
                for ((word, b), c) in rest.iter_mut().zip(top).zip(above) {
                    *word = word.wrapping_add(*b).wrapping_sub(*c);
                }
                sum::<BITS>(*first, rest);
            }
            Self::Median => restore::<BITS>(*first, rest, top, above, median),
            Self::Mean => restore::<BITS>(*first, rest, top, above, mean),
            Self::Blend => restore::<BITS>(*first, rest, top, above, blend),
        }
    }
}

#[inline(always)]
fn plane(a: u16, b: u16, c: u16) -> u16 {
    a.wrapping_add(b).wrapping_sub(c)
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

/// (3*a* + 3*b* − 2*c*) / 4, rounded down, modulo 2^16.
#[inline(always)]
fn blend(a: u16, b: u16, c: u16) -> u16 {
    let sum = 3 * (i32::from(a) + i32::from(b)) - 2 * i32::from(c);
    let [low, high, ..] = (sum >> 2).to_le_bytes();
    u16::from_le_bytes([low, high])
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

/// Running sums: for predictions that add the left neighbour and something known.
#[inline(always)]
fn sum<const BITS: u32>(first: u16, rest: &mut [u16]) {
    let mut left = first;
    for word in rest {
        left = left.wrapping_add(*word) & mask::<BITS>();
        *word = left;
    }
}

#[inline(always)]
fn restore<const BITS: u32>(
    first: u16,
    rest: &mut [u16],
    top: &[u16],
    above: &[u16],
    predict: impl Fn(u16, u16, u16) -> u16,
) {
    let mut left = first;
    for ((word, b), c) in rest.iter_mut().zip(top).zip(above) {
        left = word.wrapping_add(predict(left, *b, *c)) & mask::<BITS>();
        *word = left;
    }
}
