//! JPEG-LS Lossless by CharLS (PS3.5 8.2.3).
//!
//! CharLS reads and writes cells of 16 bits in the byte order of the machine.

use charls::{CharLS, FrameInfo, InterleaveMode};

use super::Failed;
use crate::dataset::tags;
use crate::pixels::facts::{LeftAlone, Shape};

#[cfg(target_endian = "big")]
compile_error!("CharLS takes cells in the byte order of the machine: they would have to be turned round here");

/// JPEG-LS has no precision of a single bit.
pub(super) fn takes(shape: &Shape) -> Result<(), LeftAlone> {
    if shape.stored < 2 { Err(LeftAlone::NotAllowed(tags::BITS_ALLOCATED)) } else { Ok(()) }
}

/// Bits Stored where that says it all, otherwise all bits of the cell; see the page of [`crate::pixels`]. A precision of up
/// to 8 means cells of one byte to CharLS, and 6 and 7 are too little for some readers.
fn precision(shape: &Shape) -> u16 {
    if shape.signed || shape.stored <= 8 { shape.allocated } else { shape.stored }
}

fn frame_info(shape: &Shape) -> FrameInfo {
    FrameInfo {
        width: shape.columns.into(),
        height: shape.rows.into(),
        bits_per_sample: precision(shape).into(),
        component_count: shape.samples.into(),
    }
}

/// Codes a frame whose samples stand pixel by pixel.
pub(super) fn encode(shape: &Shape, pixels: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
    let unused = u16::MAX.checked_shl(precision(shape).into()).unwrap_or(0);
    if shape.allocated == 16 && unused != 0 {
        let cells = pixels.as_chunks::<2>().0;
        if cells.iter().fold(0, |all, cell| all | u16::from_le_bytes(*cell)) & unused != 0 {
            return Err(Failed::UnusedBits);
        }
    }
    let mut codec = CharLS::default();
    if shape.samples > 1 {
        codec.set_interleave_mode(InterleaveMode::Line).map_err(|_| Failed::Codec)?;
    }
    *out = codec.encode(frame_info(shape), 0, pixels).map_err(|_| Failed::Codec)?;
    Ok(())
}

/// Decodes a frame; its samples stand pixel by pixel.
pub(super) fn decode(shape: &Shape, packed: &[u8]) -> Result<Vec<u8>, Failed> {
    // CharLS allocates what the code stream asks for, which must be what was expected.
    let said = CharLS::default().get_frame_info(packed).map_err(|_| Failed::Codec)?;
    if said != frame_info(shape) {
        return Err(Failed::Codec);
    }
    CharLS::default().decode(packed).map_err(|_| Failed::Codec)
}
