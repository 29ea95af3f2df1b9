//! Prediction of a line from itself and the line above.
//!
//! All arithmetic is modulo 2^16, and modulo 2^8 for narrow words, which are kept in 16 bits with the upper half zero.
//! All neighbours are known here, so it is vector code throughout; the way back is in `restore.rs`.

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
    const ALL: [Self; 5] = [Self::None, Self::Left, Self::Plane, Self::Median, Self::Mean];
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

/// [`median`] of words that are ordered as signed numbers.
#[inline(always)]
pub(super) fn median_signed(a: u16, b: u16, c: u16) -> u16 {
    let [a, b, c] = [a, b, c].map(u16::cast_signed);
    let (low, high) = (a.min(b), a.max(b));
    a.wrapping_add(b).wrapping_sub(c.max(low).min(high)).cast_unsigned()
}

#[inline(always)]
pub(super) fn mean(a: u16, b: u16, _: u16) -> u16 {
    (a & b).wrapping_add((a ^ b) >> 1)
}

#[inline(always)]
pub(super) fn mask<const BITS: u32>() -> u16 {
    u16::MAX >> (16 - BITS)
}

#[inline(always)]
fn zigzag<const BITS: u32>(difference: u16) -> u16 {
    let d = difference & mask::<BITS>();
    ((d << 1) ^ 0_u16.wrapping_sub(d >> (BITS - 1))) & mask::<BITS>()
}

#[inline(always)]
pub(super) fn unzigzag<const BITS: u32>(word: u16) -> u16 {
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
