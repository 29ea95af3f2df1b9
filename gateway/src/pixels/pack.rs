//! The way there: frames are coded and everything is written, and each written byte goes through an [`Unpacker`] at once.

use std::io::{Read, Seek, SeekFrom, Write};

use super::codecs::Codec;
use super::cutter::{Cutter, Part};
use super::facts::{Facts, LeftAlone, Shape};
use super::source::{self, Explicit};
use super::unpack::Unpacker;
use super::{EncodeError, Encoded, Limits};
use crate::dataset::digest::{Digest, Over};
use crate::dataset::inflate::{Deflater, Inflater};
use crate::dataset::tags;
use crate::dataset::vr::Vr;
use crate::dataset::write::{explicit_header, implicit_header};

/// Writes the data set with coded frames.
pub(super) fn frames<R: Read, W: Write + Seek>(
    mut source: Explicit<R>,
    codec: Codec,
    mut sink: W,
    limits: &Limits,
) -> Result<Encoded, EncodeError> {
    let start = sink.stream_position().map_err(EncodeError::Write)?;
    let mut cutter = Cutter::new();
    let mut packer = Packer {
        codec,
        limits: *limits,
        proven: Proven {
            sink,
            written: 0,
            unpacker: Unpacker::new(codec, None, limits),
            digest: Digest::new(source::EXPLICIT, Over::Elements),
        },
        shape: None,
        native: Vec::new(),
        packed: Vec::new(),
        frames: 0,
        table: Vec::new(),
        table_at: 0,
        offset: 0,
    };
    while let Some(bytes) = source.advance()? {
        cutter.feed(bytes, &mut |part, facts| packer.take(part, facts))?;
    }
    cutter.finish(&mut |part, facts| packer.take(part, facts))?;
    if !cutter.facts().has_pixels() {
        return Err(LeftAlone::NoPixels.into());
    }
    // What came behind the pixels may have changed the picture.
    cutter.facts().shape(limits)?;
    let (from, stored) = source.finish()?;
    packer.finish(start).and_then(|(encoded, proven)| {
        if proven == stored { Ok(Encoded { from, ..encoded }) } else { Err(LeftAlone::Different.into()) }
    })
}

/// Writes the data set deflated, and inflates it again to compare.
pub(super) fn deflated<R: Read>(mut source: Explicit<R>, mut sink: impl Write) -> Result<Encoded, EncodeError> {
    let mut deflater = Deflater::default();
    let mut inflater = Inflater::new(u64::MAX);
    let mut digest = Digest::new(source::EXPLICIT, Over::Elements);
    let mut out = Vec::new();
    let mut bytes = 0;
    loop {
        let piece = source.advance()?;
        let is_last = piece.is_none();
        match piece {
            Some(piece) => deflater.feed(piece, &mut out),
            None => deflater.finish(&mut out),
        }
        .map_err(EncodeError::Write)?;
        inflater.feed(&out, &mut |inflated| digest.feed(inflated))?;
        sink.write_all(&out).map_err(EncodeError::Write)?;
        bytes += out.len() as u64;
        out.clear();
        if is_last {
            break;
        }
    }
    inflater.finish()?;
    sink.flush().map_err(EncodeError::Write)?;
    let (from, stored) = source.finish()?;
    if digest.finish()? == stored { Ok(Encoded { from, bytes, frames: 0 }) } else { Err(LeftAlone::Different.into()) }
}

struct Packer<W> {
    codec: Codec,
    limits: Limits,
    proven: Proven<W>,
    /// Of the native frames; known when they begin.
    shape: Option<Shape>,
    /// The frame that is being collected.
    native: Vec<u8>,
    packed: Vec<u8>,
    /// Frames that have been coded.
    frames: u32,
    /// The offsets of the fragments, and where they are to be written.
    table: Vec<u8>,
    table_at: u64,
    offset: u64,
}

/// A sink, and the proof of what is written into it.
struct Proven<W> {
    sink: W,
    written: u64,
    unpacker: Unpacker,
    digest: Digest,
}

impl<W: Write> Proven<W> {
    /// Writes bytes and reads them again. A frame that comes out must be `frame`.
    fn put(&mut self, bytes: &[u8], frame: &[u8]) -> Result<(), EncodeError> {
        self.sink.write_all(bytes).map_err(EncodeError::Write)?;
        self.written += bytes.len() as u64;
        let digest = &mut self.digest;
        self.unpacker.feed(bytes, &mut |native, is_frame| {
            if is_frame && native != frame {
                return Err(LeftAlone::FrameDiffers.into());
            }
            Ok(digest.feed(native)?)
        })
    }
}

impl<W: Write + Seek> Packer<W> {
    fn take(&mut self, part: Part<'_>, facts: &Facts) -> Result<(), EncodeError> {
        match part {
            Part::Bytes(bytes) => self.proven.put(bytes, &[]),
            Part::Planar(bytes) => {
                let before = bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
                self.proven.unpacker.set_planar(before);
                self.proven.put(&self.codec.planar().to_le_bytes(), &[])
            }
            Part::Native => self.begin(facts),
            Part::Piece(piece) => self.collect(piece),
            Part::End => self.end(),
            Part::Fragments | Part::Fragment(_) | Part::FragmentsEnd => Err(LeftAlone::Compressed.into()),
        }
    }

    /// Pixel Data begins: its header, and room for the table of offsets.
    fn begin(&mut self, facts: &Facts) -> Result<(), EncodeError> {
        let shape = facts.shape(&self.limits)?;
        self.codec.takes(&shape)?;
        self.shape = Some(shape);
        let length = shape.frames.checked_mul(4).ok_or(LeftAlone::TooManyFrames)?;
        let header = explicit_header(tags::PIXEL_DATA, Vr::OB, None).ok_or(LeftAlone::TooLong)?;
        self.proven.put(header.as_bytes(), &[])?;
        self.proven.put(implicit_header(tags::ITEM, Some(length)).as_bytes(), &[])?;
        self.table_at = self.proven.written;
        for _ in 0..shape.frames {
            self.proven.put(&[0; 4], &[])?;
        }
        Ok(())
    }

    fn collect(&mut self, mut piece: &[u8]) -> Result<(), EncodeError> {
        let shape = self.shape.ok_or(LeftAlone::Length)?;
        while !piece.is_empty() && self.frames < shape.frames {
            let missing = shape.frame().saturating_sub(self.native.len());
            let (taken, rest) = piece.split_at(missing.min(piece.len()));
            self.native.extend_from_slice(taken);
            piece = rest;
            if self.native.len() == shape.frame() {
                self.code(&shape)?;
            }
        }
        // Behind the last frame, the byte that makes the length even.
        if piece.iter().any(|byte| *byte != 0) { Err(LeftAlone::Length.into()) } else { Ok(()) }
    }

    /// Codes the frame that is complete.
    fn code(&mut self, shape: &Shape) -> Result<(), EncodeError> {
        self.codec.encode(shape, &self.native, &mut self.packed).map_err(LeftAlone::from)?;
        if !self.packed.len().is_multiple_of(2) {
            self.packed.push(0);
        }
        let length = u32::try_from(self.packed.len()).map_err(|_| LeftAlone::TooLong)?;
        let offset = u32::try_from(self.offset).map_err(|_| LeftAlone::TooLong)?;
        self.table.extend_from_slice(&offset.to_le_bytes());
        let header = implicit_header(tags::ITEM, Some(length));
        self.proven.put(header.as_bytes(), &self.native)?;
        self.proven.put(&self.packed, &self.native)?;
        self.offset += header.as_bytes().len() as u64 + u64::from(length);
        self.frames += 1;
        self.native.clear();
        Ok(())
    }

    fn end(&mut self) -> Result<(), EncodeError> {
        if self.shape.is_none_or(|shape| shape.frames != self.frames) {
            return Err(LeftAlone::Length.into());
        }
        self.proven.put(implicit_header(tags::SEQUENCE_DELIMITATION, Some(0)).as_bytes(), &[])
    }

    /// Writes the table of offsets, and tells what has been written and the digest of what was read of it.
    fn finish(self, start: u64) -> Result<(Encoded, crate::model::ContentHash), EncodeError> {
        let Proven { mut sink, written, unpacker, mut digest } = self.proven;
        let patch = |sink: &mut W| {
            sink.seek(SeekFrom::Start(start + self.table_at))?;
            sink.write_all(&self.table)?;
            sink.seek(SeekFrom::Start(start + written))?;
            sink.flush()
        };
        patch(&mut sink).map_err(EncodeError::Write)?;
        unpacker.finish(Some(&self.table), &mut |native, _| Ok(digest.feed(native)?))?;
        Ok((Encoded { from: 0, bytes: written, frames: self.frames }, digest.finish()?))
    }
}
