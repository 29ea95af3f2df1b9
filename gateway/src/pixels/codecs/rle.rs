//! RLE Lossless (PS3.5 Annex G): each byte of the cells of each sample is a plane, the most significant first, and each
//! plane a segment of PackBits.
//!
//! ```text
//! offset  size  frame
//!      0     4  number of segments, samples × bytes of a cell, little endian
//!      4  15×4  where each segment begins; 0 where there is none
//!     64     …  segments of even length: runs and literals, each within a row
//! ```
//!
//! A byte n before each of them: up to 127, n + 1 literal bytes follow; from 129 on, the next byte 257 − n times; 128 is
//! nothing.

use super::Failed;
use crate::pixels::facts::Shape;

const HEADER: usize = 64;
const LONGEST: usize = 128;
/// A run of two in the middle of literals costs as much as it saves.
const SHORTEST_RUN: usize = 3;

/// The bytes of a plane lie this far apart in a native frame, from this one on.
#[derive(Debug, Clone, Copy)]
struct Plane {
    first: usize,
    step: usize,
}

/// The planes of a frame, in the order of their segments.
fn planes(shape: &Shape) -> impl Iterator<Item = Plane> {
    let (cell, samples) = (shape.cell(), usize::from(shape.samples));
    let (sample_apart, step) = if shape.planar { (shape.pixels() * cell, cell) } else { (cell, cell * samples) };
    (0..samples).flat_map(move |sample| {
        // Little endian: the most significant byte is the last.
        (0..cell).rev().map(move |byte| Plane { first: sample * sample_apart + byte, step })
    })
}

pub(super) fn encode(shape: &Shape, native: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
    out.resize(HEADER, 0);
    let mut count: u32 = 0;
    let columns = usize::from(shape.columns);
    let mut row = Vec::with_capacity(columns);
    for plane in planes(shape) {
        count += 1;
        let begins = out.len();
        put_number(out, count, begins)?;
        for start in (0..shape.pixels()).step_by(columns) {
            let from = plane.first + start * plane.step;
            row.clear();
            row.extend(native.get(from..).unwrap_or_default().iter().step_by(plane.step).take(columns));
            pack_row(&row, out);
        }
        if !out.len().is_multiple_of(2) {
            out.push(0);
        }
    }
    put_number(out, 0, usize::try_from(count).unwrap_or(usize::MAX))
}

fn put_number(out: &mut [u8], place: u32, number: usize) -> Result<(), Failed> {
    let at = usize::try_from(place).unwrap_or(usize::MAX).saturating_mul(4);
    let number = u32::try_from(number).map_err(|_| Failed::Codec)?;
    let place = out.get_mut(at..at.saturating_add(4)).filter(|_| at < HEADER).ok_or(Failed::Codec)?;
    place.copy_from_slice(&number.to_le_bytes());
    Ok(())
}

fn pack_row(row: &[u8], out: &mut Vec<u8>) {
    let mut rest = row;
    let mut literals = 0;
    while let Some(first) = rest.get(literals) {
        let tail = rest.get(literals..).unwrap_or_default();
        let run = tail.iter().take(LONGEST).take_while(|byte| *byte == first).count();
        let is_whole = literals == 0 && run >= 2;
        if run >= SHORTEST_RUN || is_whole {
            put_literals(rest.get(..literals).unwrap_or_default(), out);
            out.push(u8::try_from(257 - run).unwrap_or(128));
            out.push(*first);
            rest = tail.get(run..).unwrap_or_default();
            literals = 0;
        } else {
            literals += 1;
        }
    }
    put_literals(rest, out);
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for piece in literals.chunks(LONGEST) {
        out.push(u8::try_from(piece.len() - 1).unwrap_or(127));
        out.extend_from_slice(piece);
    }
}

pub(super) fn decode(shape: &Shape, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
    let number = |place: usize| {
        let bytes = packed.get(place * 4..).and_then(<[u8]>::first_chunk).ok_or(Failed::Codec)?;
        usize::try_from(u32::from_le_bytes(*bytes)).map_err(|_| Failed::Codec)
    };
    let count = usize::from(shape.samples) * shape.cell();
    if number(0)? != count || packed.len() < HEADER {
        return Err(Failed::Codec);
    }
    out.resize(shape.frame(), 0);
    for (segment, plane) in planes(shape).enumerate() {
        let from = number(segment + 1)?;
        let to = if segment + 1 < count { number(segment + 2)? } else { packed.len() };
        let segment = packed.get(from.max(HEADER)..to).ok_or(Failed::Codec)?;
        unpack_segment(segment, shape.pixels(), plane, out)?;
    }
    Ok(())
}

fn unpack_segment(mut segment: &[u8], pixels: usize, plane: Plane, out: &mut [u8]) -> Result<(), Failed> {
    let mut done = 0;
    while done < pixels {
        let (control, rest) = segment.split_first().ok_or(Failed::Codec)?;
        segment = rest;
        let mut put = |byte: u8| {
            let place = out.get_mut(plane.first + done * plane.step).filter(|_| done < pixels);
            *place.ok_or(Failed::Codec)? = byte;
            done += 1;
            Ok(())
        };
        match usize::from(*control) {
            128 => {}
            length if length < 128 => {
                let (literals, rest) = segment.split_at_checked(length + 1).ok_or(Failed::Codec)?;
                segment = rest;
                literals.iter().try_for_each(|byte| put(*byte))?;
            }
            length => {
                let (byte, rest) = segment.split_first().ok_or(Failed::Codec)?;
                segment = rest;
                (0..257 - length).try_for_each(|_| put(*byte))?;
            }
        }
    }
    // At most the byte that makes the length even.
    if segment.len() > 1 { Err(Failed::Codec) } else { Ok(()) }
}
