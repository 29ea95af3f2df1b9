//! The way back: a data set whose frames are coded, as the native data set that it came from. It knows nothing of how the
//! former was written, so it is the proof.

use super::codecs::Codec;
use super::cutter::{Cutter, Part};
use super::facts::{Facts, LeftAlone, Shape};
use super::{EncodeError, Limits};
use crate::dataset::tags;
use crate::dataset::vr::Vr;
use crate::dataset::write::explicit_header;

/// A coded frame may be so much longer than the native one, in bytes: what cannot be compressed, and a header.
const MOST_OVERHEAD: usize = 64 * 1024;

/// Decodes while it is fed. It hands out pieces of the native data set in Explicit VR Little Endian, and with each whether
/// it is a frame.
#[derive(Debug)]
pub struct Unpacker {
    cutter: Cutter,
    state: State,
}

#[derive(Debug)]
struct State {
    codec: Codec,
    /// What Planar Configuration becomes.
    planar: Option<u16>,
    limits: Limits,
    /// Of the native frames; known when the fragments begin.
    shape: Option<Shape>,
    /// Fragments that have ended, the table included.
    fragments: u32,
    /// The table of offsets as it was read.
    table: Vec<u8>,
    /// The offsets as they are.
    offsets: Vec<u8>,
    /// Where the next fragment will begin, from the first on.
    offset: u64,
    packed: Vec<u8>,
    frame: Vec<u8>,
    /// The last fragment was complete.
    ended: bool,
}

impl Unpacker {
    /// For the code streams of this codec. `planar` is the Planar Configuration that the native data set has, if any.
    #[must_use]
    pub fn new(codec: Codec, planar: Option<u16>, limits: &Limits) -> Self {
        let state = State {
            codec,
            planar,
            limits: *limits,
            shape: None,
            fragments: 0,
            table: Vec::new(),
            offsets: Vec::new(),
            offset: 0,
            packed: Vec::new(),
            frame: Vec::new(),
            ended: false,
        };
        Self { cutter: Cutter::new(), state }
    }

    /// What Planar Configuration is to become, when that is known before the pixels begin.
    pub fn set_planar(&mut self, planar: Option<u16>) {
        self.state.planar = planar;
    }

    /// Takes the next bytes, however many.
    ///
    /// # Errors
    /// This is no data set with one fragment for each frame, or `out` refuses.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        out: &mut impl FnMut(&[u8], bool) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let Self { cutter, state } = self;
        cutter.feed(bytes, &mut |part, facts| state.take(part, facts, out))
    }

    /// Tells that there are no more bytes. `table` is the table of offsets if it was written after it had been fed.
    ///
    /// # Errors
    /// The data set ends too early, or the offsets are wrong.
    pub fn finish(
        mut self,
        table: Option<&[u8]>,
        out: &mut impl FnMut(&[u8], bool) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let Self { cutter, state } = &mut self;
        cutter.finish(&mut |part, facts| state.take(part, facts, out))?;
        let written = table.unwrap_or(&state.table);
        if !state.ended || written.len() != state.table.len() || written != state.offsets {
            return Err(LeftAlone::Fragments.into());
        }
        Ok(())
    }
}

impl State {
    fn take(
        &mut self,
        part: Part<'_>,
        facts: &Facts,
        out: &mut impl FnMut(&[u8], bool) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match part {
            Part::Bytes(bytes) => out(bytes, false),
            Part::Planar(bytes) => match self.planar {
                Some(planar) => out(&planar.to_le_bytes(), false),
                None => out(bytes, false),
            },
            Part::Native => Err(LeftAlone::Fragments.into()),
            Part::Fragments => self.begin(facts, out),
            Part::Fragment(length) => {
                let most = self.most()?;
                self.packed.clear();
                if usize::try_from(length).is_ok_and(|length| length <= most) {
                    self.note_offset(length)
                } else {
                    Err(LeftAlone::Fragments.into())
                }
            }
            Part::Piece(piece) => {
                self.packed.extend_from_slice(piece);
                Ok(())
            }
            Part::End => self.end_fragment(out),
            Part::FragmentsEnd => {
                let shape = self.shape()?;
                if self.fragments != shape.frames + 1 {
                    return Err(LeftAlone::Fragments.into());
                }
                self.ended = true;
                if shape.total().is_multiple_of(2) { Ok(()) } else { out(&[0], false) }
            }
        }
    }

    fn shape(&self) -> Result<Shape, EncodeError> {
        Ok(self.shape.ok_or(LeftAlone::Fragments)?)
    }

    /// How long the fragment that begins may be.
    fn most(&self) -> Result<usize, EncodeError> {
        let shape = self.shape()?;
        Ok(if self.fragments == 0 {
            usize::try_from(shape.frames).unwrap_or(usize::MAX).saturating_mul(4)
        } else {
            shape.frame().saturating_mul(2).saturating_add(MOST_OVERHEAD)
        })
    }

    fn begin(
        &mut self,
        facts: &Facts,
        out: &mut impl FnMut(&[u8], bool) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let coded = facts.described(&self.limits)?;
        if coded.samples > 1 && facts.planar() != Some(self.codec.planar()) {
            return Err(LeftAlone::Undescribed(tags::PLANAR_CONFIGURATION).into());
        }
        let planar = self.planar.map_or(coded.planar, |planar| planar == 1) && coded.samples > 1;
        let shape = Shape { planar, ..coded };
        let length = u32::try_from(shape.total() + shape.total() % 2).map_err(|_| LeftAlone::TooLong)?;
        let vr = if shape.allocated == 8 { Vr::OB } else { Vr::OW };
        let header = explicit_header(tags::PIXEL_DATA, vr, Some(length)).ok_or(LeftAlone::TooLong)?;
        self.shape = Some(shape);
        out(header.as_bytes(), false)
    }

    /// A fragment begins. The offsets count from the first byte behind the table.
    fn note_offset(&mut self, length: u32) -> Result<(), EncodeError> {
        if self.fragments > 0 {
            let offset = u32::try_from(self.offset).map_err(|_| LeftAlone::TooLong)?;
            self.offsets.extend_from_slice(&offset.to_le_bytes());
            self.offset += 8 + u64::from(length);
        }
        Ok(())
    }

    fn end_fragment(
        &mut self,
        out: &mut impl FnMut(&[u8], bool) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let shape = self.shape()?;
        self.fragments += 1;
        if self.fragments == 1 {
            self.table = std::mem::take(&mut self.packed);
            return Ok(());
        }
        if self.fragments > shape.frames.saturating_add(1) || !self.packed.len().is_multiple_of(2) {
            return Err(LeftAlone::Fragments.into());
        }
        self.codec.decode(&shape, &self.packed, &mut self.frame).map_err(LeftAlone::from)?;
        out(&self.frame, true)
    }
}
