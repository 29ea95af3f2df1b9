//! Lossless transcoding for the wire: a stored data set with native pixels, as the same data set in a transfer syntax in
//! which it is smaller. Without network, without clock, without knowledge of destinations.
//!
//! # What it promises
//!
//! - **Nothing leaves on an encoder's word.** What is written is read again as it is written, by a reader that knows
//!   nothing of the writer ([`unpack`]): it follows the fragments, decodes each frame, and builds the native data set anew.
//!   Every frame is compared with the original, byte for byte of its cells, unused bits included; everything around the
//!   frames by the canonical digest ([`crate::dataset::digest`]). One difference anywhere, and there is no result.
//! - **A reader needs no help.** The samples that a decoder of the codec gives out are the native cells, sign and unused
//!   bits included. No reader has to extend a sign or to mask a bit to see what the modality sent.
//! - **Little else changes.** Pixel Data becomes OB in fragments, one for each frame, behind a filled Basic Offset Table.
//!   Planar Configuration (0028,0006) becomes what the standard asks for (PS3.5 8.2.3, 8.2.4: 0; G.2: 1) where there are
//!   several samples to a pixel. The group length (7FE0,0000) goes. All other bytes are those of the source; if that is
//!   no Explicit VR Little Endian, those that [`crate::dataset::recode`] makes of it.
//! - **Bounded.** One frame in a few copies, whatever the size of the data set, and a cap on what a frame may be. No
//!   allocation by a declared length, no recursion; the codecs see checked dimensions only.
//! - **In doubt, left alone**, with a [`LeftAlone`] that can be counted. Whoever calls sends the stored data set then.
//!
//! # The way
//!
//! ```text
//!           ┌─ digest ───────────────────────────────────────────────────┐
//! source ───┴▶ inflate ▶ recode ▶ cutter ─┬─ everything else ─┬▶ sink    ├─▶ equal?
//!                                         └─ frame ▶ codec ───┤          │
//!                                               │             └▶ unpack ─┴─ digest
//!                                               └── the same bytes? ◀─┘
//! ```
//!
//! - [`facts`]: what the header says of the pixels, and what follows from it;
//! - [`cutter`]: takes a data set apart at the places that matter here, and passes all others on untouched;
//! - [`pack`], [`unpack`]: both directions;
//! - [`codecs`]: JPEG-LS, RLE.
//!
//! # How it is used
//!
//! 1. [`look`] reads the header of a stored data set, [`candidates`] tells the transfer syntaxes that are possible for it,
//!    the one that is likely to be smallest first. Neither looks at the pixels.
//! 2. [`encode`] writes the data set into a sink. It blocks; it is cancelled by a sink that returns an error; the time it
//!    takes is for the caller to measure. The sink is [`Seek`] because the Basic Offset Table stands before the frames and
//!    is known behind them: a file, in practice. Nothing in the sink counts before the function has returned [`Encoded`].
//! 3. [`verify`] proves a result again, from two streams: for results that have been kept somewhere for a while.
//!
//! # Which samples, and with what precision
//!
//! The standard wants the attributes to agree with the code stream and has the code stream decide (PS3.5 8.2). JPEG-LS
//! knows no sign and no unused bits. Where the cells are unsigned and their unused bits zero, the precision of a code stream
//! is Bits Stored, as everybody expects. Signed cells of which not all bits are stored are coded with all their bits: the
//! other way, in use as well, leaves it to the reader to extend the sign, and not every reader does. That is what DCMTK and
//! dcm4che do, too; it costs about 2 % of the size. RLE codes the bytes of the cells and has no such question.
//!
//! # What is left alone
//!
//! | what | why |
//! |---|---|
//! | encapsulated already | decoding would gain nothing that is worth it |
//! | 1, 32 and 64 bits, floating point, no pixels at all | no table of PS3.5 8.2 has them: deflate only |
//! | YBR_FULL_422 and the other subsampled ones, 4 samples, unknown Photometric Interpretation | no native layout that a codec keeps |
//! | signed colour | not in the tables |
//! | unsigned cells with something in their unused bits (overlays of old), for JPEG-LS | see above |
//! | a Pixel Data that is shorter or longer than its attributes say | somebody is wrong, and nobody knows who |
//! | attributes of the pixels that are missing, twice, out of order or no numbers | likewise |
//! | a digital signature anywhere (FFFA,FFFA) | it may be over what changes |
//! | what [`crate::dataset::recode`] refuses, what cannot be followed | as said there |
//!
//! # Deliberately absent
//!
//! HTJ2K: openjph-core 0.1, by itself or in dicom-toolkit-jpeg2000 0.5, gives other images back than it got. With code
//! blocks of 64 × 64 it failed on 38 of 105 CT slices, of 32 × 32 on 3, of 4 × 1024 on 4 of 90 MR slices; that is found, but
//! what it gave right was larger than JPEG-LS in every folder but one, and no faster. JPEG 2000: the encoder of
//! dicom-toolkit-jpeg2000 writes what OpenJPEG cannot read; OpenJPEG itself has no safe interface, gains 2 % of the size over
//! JPEG-LS and takes four times as long. Both find their place in [`Codec`] when there is a sound implementation.
//!
//! No colour transform: RGB stays RGB, in the attribute and in the code stream. No Extended Offset Table: it would be two
//! more elements, and native Pixel Data of defined length cannot lead to offsets that need it (a result with more than 32
//! bits is [`LeftAlone::TooLong`]). No lossy mode of any codec, and no change to the attributes about lossy compression: they
//! are history. Icons (Icon Image Sequence) stay native, as PS3.5 A.4 allows.

pub mod codecs;
pub mod cutter;
pub mod facts;
pub mod pack;
mod source;
#[cfg(test)]
mod tests;
pub mod unpack;

use std::io::{self, Read, Seek, Write};

use crate::dataset::Defect;
use crate::dataset::digest::{Digest, Over};
use crate::dataset::recode::RecodeError;
use crate::dataset::stream::read_some;
use crate::dataset::transfer_syntax::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED, EXPLICIT_VR_BIG_ENDIAN as BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT, describe,
};
use crate::model::Uid;
use codecs::Codec;
use cutter::Cutter;
pub use facts::{Facts, LeftAlone};
use source::Explicit;
use unpack::Unpacker;

/// JPEG-LS Lossless.
pub const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
/// RLE Lossless.
pub const RLE: &str = "1.2.840.10008.1.2.5";

/// What an encoding may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest native frame, in bytes. About six times as much memory is taken.
    pub frame: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: 64 << 20 }
    }
}

/// A data set that was written, and proved equal to the stored one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// How long the stored data set is, in bytes.
    pub from: u64,
    /// How long the written one is.
    pub bytes: u64,
    /// How many frames were coded; 0 if it was deflated.
    pub frames: u32,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It is to be sent as it is stored.
    #[error("left as it is: {0}")]
    LeftAlone(#[from] LeftAlone),
    /// The stored data set could not be read.
    #[error("the stored data set cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The result could not be written, or whoever waits for it has lost interest.
    #[error("the transcoded data set cannot be written: {0}")]
    Write(#[source] io::Error),
}

impl From<Defect> for EncodeError {
    fn from(defect: Defect) -> Self {
        LeftAlone::from(defect).into()
    }
}

impl From<RecodeError> for EncodeError {
    fn from(error: RecodeError) -> Self {
        LeftAlone::from(error).into()
    }
}

/// What a data set is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Frames(Codec),
    Deflated,
}

impl Target {
    fn of(to: &Uid) -> Option<Self> {
        Codec::of(to).map(Self::Frames).or_else(|| (to.as_str() == DEFLATED).then_some(Self::Deflated))
    }
}

/// Whether pixels are native in this transfer syntax, and it is one that is understood here.
fn is_native(syntax: &Uid) -> bool {
    matches!(syntax.as_str(), IMPLICIT | EXPLICIT | BIG_ENDIAN | DEFLATED)
}

/// The transfer syntaxes in which an instance can be written, the one that is likely to be smallest first; none if it is to
/// be left alone. The pixels themselves may still be of another opinion, and so may the archive.
#[must_use]
pub fn candidates(facts: &Facts, from: &Uid, limits: &Limits) -> Vec<&'static str> {
    if !is_native(from) || facts.is_signed() {
        return Vec::new();
    }
    let shape = facts.shape(limits).ok();
    let is_possible = |syntax: &&str| match Codec::with_uid(syntax) {
        Some(codec) => shape.is_some_and(|shape| codec.takes(&shape).is_ok()),
        None => from.as_str() != DEFLATED,
    };
    // Deflate finds less than an image codec in noisy pixels, and more than runs of equal bytes.
    [JPEG_LS, DEFLATED, RLE].into_iter().filter(is_possible).collect()
}

/// Reads the header of a stored data set, up to Pixel Data or to its end.
///
/// # Errors
/// The source cannot be read, followed, or expressed in Explicit VR Little Endian.
pub fn look(source: impl Read, from: &Uid) -> Result<Facts, EncodeError> {
    if !is_native(from) {
        return Err(LeftAlone::NotOffered.into());
    }
    let mut explicit = Explicit::new(source, describe(from))?;
    let mut cutter = Cutter::new();
    while let Some(bytes) = explicit.advance()? {
        cutter.feed(bytes, &mut |_, _| Ok::<(), EncodeError>(()))?;
        if cutter.facts().has_pixels() {
            return Ok(cutter.facts().clone());
        }
    }
    cutter.finish(&mut |_, _| Ok::<(), EncodeError>(()))?;
    Ok(cutter.facts().clone())
}

/// Writes a stored data set in another transfer syntax, and proves it equal while it does. Blocking.
///
/// # Errors
/// There is no result; see [`EncodeError`]. What the sink has got is to be thrown away.
pub fn encode(
    source: impl Read,
    from: &Uid,
    to: &Uid,
    sink: impl Write + Seek,
    limits: &Limits,
) -> Result<Encoded, EncodeError> {
    let target = Target::of(to).filter(|_| is_native(from) && from != to).ok_or(LeftAlone::NotOffered)?;
    let explicit = Explicit::new(source, describe(from))?;
    match target {
        Target::Frames(codec) => pack::frames(explicit, codec, sink, limits),
        Target::Deflated => pack::deflated(explicit, sink),
    }
}

/// Reads a stored data set and a result of [`encode`], and proves that they are the same.
///
/// # Errors
/// They are not, or one of the two cannot be read.
pub fn verify(
    stored: impl Read,
    from: &Uid,
    mut result: impl Read,
    to: &Uid,
    limits: &Limits,
) -> Result<(), EncodeError> {
    let target = Target::of(to).filter(|_| is_native(from)).ok_or(LeftAlone::NotOffered)?;
    let mut explicit = Explicit::new(stored, describe(from))?;
    let mut cutter = Cutter::new();
    while let Some(bytes) = explicit.advance()? {
        cutter.feed(bytes, &mut |_, _| Ok::<(), EncodeError>(()))?;
    }
    let (_, stored) = explicit.finish()?;
    let mut digest = match target {
        Target::Frames(_) => Digest::new(source::EXPLICIT, Over::Elements),
        Target::Deflated => Digest::new(describe(to), Over::Elements),
    };
    let mut unpacker = match target {
        Target::Frames(codec) => Some(Unpacker::new(codec, cutter.facts().planar(), limits)),
        Target::Deflated => None,
    };
    let mut buffer = vec![0; source::CHUNK];
    loop {
        let count = read_some(&mut result, &mut buffer).map_err(EncodeError::Read)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        match &mut unpacker {
            _ if bytes.is_empty() => break,
            Some(unpacker) => unpacker.feed(bytes, &mut |bytes, _| Ok(digest.feed(bytes)?))?,
            None => digest.feed(bytes)?,
        }
    }
    if let Some(unpacker) = unpacker {
        unpacker.finish(None, &mut |bytes, _| Ok(digest.feed(bytes)?))?;
    }
    if digest.finish()? == stored { Ok(()) } else { Err(LeftAlone::Different.into()) }
}

/// Writes a result of [`encode`] with native pixels, in Explicit VR Little Endian. `planar` is the Planar Configuration
/// that it is to have, if there is one.
///
/// # Errors
/// It is no such result, or cannot be read or written.
pub fn decode(
    mut source: impl Read,
    from: &Uid,
    planar: Option<u16>,
    mut sink: impl Write,
    limits: &Limits,
) -> Result<(), EncodeError> {
    let codec = Codec::of(from).ok_or(LeftAlone::NotOffered)?;
    let mut unpacker = Unpacker::new(codec, planar, limits);
    let mut write = |bytes: &[u8], _: bool| sink.write_all(bytes).map_err(EncodeError::Write);
    let mut buffer = vec![0; source::CHUNK];
    loop {
        let count = read_some(&mut source, &mut buffer).map_err(EncodeError::Read)?;
        if count == 0 {
            break;
        }
        unpacker.feed(buffer.get(..count).unwrap_or_default(), &mut write)?;
    }
    unpacker.finish(None, &mut write)
}
