//! The image codecs, behind one door: a native frame in, a code stream out, and back. Frames here have their samples
//! pixel by pixel; [`Codec`] arranges those that come plane by plane.
//!
//! A codec is trusted with nothing but time. What it is given has checked dimensions, and whatever it says is compared by
//! the caller with what it was given.

mod jpeg_ls;
mod rle;

use super::facts::{LeftAlone, Shape};
use super::{JPEG_LS, RLE};
use crate::model::Uid;

/// A codec fails on a frame; there is nothing to do about it but to leave the data set alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Something stands in bits that it would lose.
    UnusedBits,
    /// Anything else.
    Codec,
}

impl From<Failed> for LeftAlone {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::UnusedBits => Self::UnusedBits,
            Failed::Codec => Self::CodecFailed,
        }
    }
}

/// An image codec that a transfer syntax names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// JPEG-LS Lossless (ISO/IEC 14495-1), by CharLS.
    JpegLs,
    /// RLE Lossless (PS3.5 Annex G), our own.
    Rle,
}

impl Codec {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::JpegLs, Self::Rle];

    /// The codec of a transfer syntax.
    #[must_use]
    pub fn of(syntax: &Uid) -> Option<Self> {
        Self::with_uid(syntax.as_str())
    }

    /// The same, by the text of the UID.
    #[must_use]
    pub fn with_uid(syntax: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.uid() == syntax)
    }

    /// Its transfer syntax.
    #[must_use]
    pub fn uid(self) -> &'static str {
        match self {
            Self::JpegLs => JPEG_LS,
            Self::Rle => RLE,
        }
    }

    /// Planar Configuration as it has to be beside these code streams, if there are several samples to a pixel.
    #[must_use]
    pub fn planar(self) -> u16 {
        match self {
            Self::JpegLs => 0,
            Self::Rle => 1,
        }
    }

    /// Whether the standard allows pixels of this shape, and the codec takes them.
    ///
    /// # Errors
    /// One of the two does not.
    pub fn takes(self, shape: &Shape) -> Result<(), LeftAlone> {
        match self {
            Self::JpegLs => jpeg_ls::takes(shape),
            Self::Rle => Ok(()),
        }
    }

    /// Codes a native frame.
    ///
    /// # Errors
    /// The codec does not want to.
    pub fn encode(self, shape: &Shape, native: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        out.clear();
        if native.len() != shape.frame() {
            return Err(Failed::Codec);
        }
        let mut by_pixel = Vec::new();
        let pixels = if shape.planar && self != Self::Rle {
            by_pixel.resize(native.len(), 0);
            arrange(shape, native, &mut by_pixel, true);
            &by_pixel
        } else {
            native
        };
        match self {
            Self::JpegLs => jpeg_ls::encode(shape, pixels, out),
            Self::Rle => rle::encode(shape, native, out),
        }
    }

    /// Decodes what should be a frame of this shape into a native frame.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(self, shape: &Shape, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        out.clear();
        let decoded = match self {
            Self::JpegLs => jpeg_ls::decode(shape, packed)?,
            Self::Rle => return rle::decode(shape, packed, out),
        };
        if decoded.len() != shape.frame() {
            return Err(Failed::Codec);
        }
        if shape.planar {
            out.resize(decoded.len(), 0);
            arrange(shape, &decoded, out, false);
        } else {
            *out = decoded;
        }
        Ok(())
    }
}

/// Turns planes of samples into pixels (`into_pixels`), or pixels into planes. Both slices are a frame.
fn arrange(shape: &Shape, from: &[u8], to: &mut [u8], into_pixels: bool) {
    let (cell, samples) = (shape.cell(), usize::from(shape.samples));
    let plane = shape.pixels() * cell;
    for sample in 0..samples {
        for pixel in 0..shape.pixels() {
            let in_plane = sample * plane + pixel * cell;
            let in_pixels = (pixel * samples + sample) * cell;
            let (source, target) = if into_pixels { (in_plane, in_pixels) } else { (in_pixels, in_plane) };
            if let (Some(source), Some(target)) = (from.get(source..source + cell), to.get_mut(target..target + cell)) {
                target.copy_from_slice(source);
            }
        }
    }
}
