//! What the header of a data set says of its pixels, and what follows from it for a codec.

use dicom_core::Tag;

use super::Limits;
use crate::dataset::Defect;
use crate::dataset::recode::RecodeError;
use crate::dataset::tags;
use crate::dataset::vr::Vr;

/// Photometric Interpretation.
pub(super) const PHOTOMETRIC_INTERPRETATION: Tag = Tag(0x0028, 0x0004);
/// Bits Stored.
pub(super) const BITS_STORED: Tag = Tag(0x0028, 0x0101);
/// High Bit.
pub(super) const HIGH_BIT: Tag = Tag(0x0028, 0x0102);

/// More frames than this are left alone: their table of offsets is kept in memory.
pub(super) const MOST_FRAMES: u32 = 1 << 20;

/// Why a data set is left as it is. The [names](LeftAlone::name) are for counting, the messages for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeftAlone {
    /// Not from this transfer syntax, or not to this one.
    #[error("there is no lossless transcoding between these two transfer syntaxes")]
    NotOffered,
    /// Nothing to code.
    #[error("it has no pixels")]
    NoPixels,
    /// The pixels are compressed already.
    #[error("its pixels are compressed already")]
    Compressed,
    /// The pixels are floating-point numbers.
    #[error("its pixels are floating-point numbers, which no image codec takes")]
    Float,
    /// Something might be signed that changes.
    #[error("it carries a digital signature, which another encoding could break")]
    Signed,
    /// An attribute of the pixels is missing, stands there twice or out of order, or is no number.
    #[error("{0} does not describe the pixels as it must")]
    Undescribed(Tag),
    /// The codec, or the standard, has no place for this kind of pixel.
    #[error("{0} has a value that this transfer syntax does not allow")]
    NotAllowed(Tag),
    /// Rows, columns and frames promise another length.
    #[error("its pixel data is not as long as its attributes say")]
    Length,
    /// A frame is larger than is to be held.
    #[error("its frames are larger than the limit")]
    FrameTooLarge,
    /// More frames than a table is kept for.
    #[error("it has too many frames")]
    TooManyFrames,
    /// Bits above Bits Stored are not zero.
    #[error("there is something in the unused bits of its pixels")]
    UnusedBits,
    /// The codec would not take a frame, or not give it back.
    #[error("the codec failed on a frame")]
    CodecFailed,
    /// A frame that was decoded again is not what it was. The codec is wrong.
    #[error("a frame that was decoded again was not what it was before")]
    FrameDiffers,
    /// The result as a whole is not the stored data set.
    #[error("the transcoded data set is not equal to the stored one")]
    Different,
    /// The result needs offsets of more than 32 bits.
    #[error("the compressed frames are longer than an offset can say")]
    TooLong,
    /// The encapsulated data that was read is none of ours.
    #[error("its fragments are not one for each frame with a true table of offsets")]
    Fragments,
    /// It cannot be expressed in Explicit VR Little Endian, or followed at all.
    #[error(transparent)]
    Recode(#[from] RecodeError),
}

impl From<Defect> for LeftAlone {
    fn from(defect: Defect) -> Self {
        Self::Recode(defect.into())
    }
}

impl LeftAlone {
    /// A short name without blanks, the same for all of its kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotOffered => "not_offered",
            Self::NoPixels => "no_pixels",
            Self::Compressed => "compressed",
            Self::Float => "float",
            Self::Signed => "signed",
            Self::Undescribed(_) => "undescribed",
            Self::NotAllowed(_) => "not_allowed",
            Self::Length => "length",
            Self::FrameTooLarge => "frame_too_large",
            Self::TooManyFrames => "too_many_frames",
            Self::UnusedBits => "unused_bits",
            Self::CodecFailed => "codec_failed",
            Self::FrameDiffers => "frame_differs",
            Self::Different => "different",
            Self::TooLong => "too_long",
            Self::Fragments => "fragments",
            Self::Recode(_) => "not_recodable",
        }
    }

    /// Whether this is the data set's doing and nobody's fault; otherwise a codec, or this module, has failed.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        !matches!(self, Self::FrameDiffers | Self::Different | Self::Fragments)
    }
}

/// What stands in (7FE0,0010).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelData {
    /// Native, in a value of this length.
    Native {
        /// OB, OW, or something else.
        vr: Option<Vr>,
        /// In bytes.
        length: u32,
    },
    /// In fragments.
    Encapsulated,
}

/// What the top level of a data set says of its pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    samples: Option<u16>,
    photometric: Option<Photometric>,
    planar: Option<u16>,
    frames: Option<u32>,
    rows: Option<u16>,
    columns: Option<u16>,
    allocated: Option<u16>,
    stored: Option<u16>,
    high_bit: Option<u16>,
    representation: Option<u16>,
    pixels: Option<PixelData>,
    float: bool,
    signed: bool,
    odd: Option<Tag>,
}

/// Photometric Interpretation (0028,0004), as far as it is native and one that codecs are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Photometric {
    /// MONOCHROME1 and MONOCHROME2.
    Monochrome,
    /// PALETTE COLOR.
    Palette,
    /// RGB.
    Rgb,
    /// YBR_FULL.
    YbrFull,
    /// Anything else.
    Other,
}

/// The pixels of a data set that describes them well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pixels from top to bottom, never 0.
    pub rows: u16,
    /// Pixels from left to right, never 0.
    pub columns: u16,
    /// 1 or 3.
    pub samples: u16,
    /// Bits of a cell: 8 or 16.
    pub allocated: u16,
    /// Bits of it that are used, from the lowest on; never 0.
    pub stored: u16,
    /// Two's complement.
    pub signed: bool,
    /// Planes of samples, one after the other, and not pixels.
    pub planar: bool,
    /// Never 0.
    pub frames: u32,
    /// What the samples mean.
    pub photometric: Photometric,
}

impl Shape {
    /// Bytes of a cell.
    #[must_use]
    pub fn cell(&self) -> usize {
        usize::from(self.allocated / 8)
    }

    /// Pixels of a frame.
    #[must_use]
    pub fn pixels(&self) -> usize {
        usize::from(self.rows) * usize::from(self.columns)
    }

    /// Bytes of a native frame.
    #[must_use]
    pub fn frame(&self) -> usize {
        self.pixels() * usize::from(self.samples) * self.cell()
    }

    /// Bytes of the native frames together, without padding.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.frame() as u64 * u64::from(self.frames)
    }
}

impl Facts {
    /// Whether there is a digital signature, as far as has been read.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// Whether Pixel Data has begun, in whatever form.
    #[must_use]
    pub fn has_pixels(&self) -> bool {
        self.pixels.is_some()
    }

    /// Whether there is more than one sample to a pixel.
    #[must_use]
    pub fn has_several_samples(&self) -> bool {
        self.samples.is_some_and(|samples| samples > 1)
    }

    /// Planar Configuration, where it says something: not if there is one sample to a pixel.
    #[must_use]
    pub fn planar(&self) -> Option<u16> {
        self.planar.filter(|_| self.has_several_samples())
    }

    /// The pixels, if they are native, of a known kind, as long as they should be and within the limits.
    ///
    /// # Errors
    /// They are not.
    pub fn shape(&self, limits: &Limits) -> Result<Shape, LeftAlone> {
        let shape = self.described(limits)?;
        match self.pixels {
            Some(PixelData::Native { vr: Some(Vr::OB | Vr::OW), length }) => {
                let total = shape.total();
                // A value has an even length (PS3.5 7.1.1); another one is somebody's mistake.
                if u64::from(length) == total + total % 2 { Ok(shape) } else { Err(LeftAlone::Length) }
            }
            Some(PixelData::Native { .. }) => Err(LeftAlone::Undescribed(tags::PIXEL_DATA)),
            Some(PixelData::Encapsulated) => Err(LeftAlone::Compressed),
            None => Err(LeftAlone::NoPixels),
        }
    }

    /// The same, whatever stands in Pixel Data.
    ///
    /// # Errors
    /// The attributes do not describe pixels that could be coded.
    pub fn described(&self, limits: &Limits) -> Result<Shape, LeftAlone> {
        if self.signed {
            return Err(LeftAlone::Signed);
        }
        if self.float {
            return Err(LeftAlone::Float);
        }
        if self.pixels.is_none() {
            return Err(LeftAlone::NoPixels);
        }
        if let Some(tag) = self.odd {
            return Err(LeftAlone::Undescribed(tag));
        }
        let need = |value: Option<u16>, tag| value.filter(|value| *value > 0).ok_or(LeftAlone::Undescribed(tag));
        let rows = need(self.rows, tags::ROWS)?;
        let columns = need(self.columns, tags::COLUMNS)?;
        let samples = need(self.samples, tags::SAMPLES_PER_PIXEL)?;
        let allocated = need(self.allocated, tags::BITS_ALLOCATED)?;
        let stored = need(self.stored, BITS_STORED)?;
        let photometric = self.photometric.ok_or(LeftAlone::Undescribed(PHOTOMETRIC_INTERPRETATION))?;
        if !matches!(allocated, 8 | 16) {
            return Err(LeftAlone::NotAllowed(tags::BITS_ALLOCATED));
        }
        if stored > allocated {
            return Err(LeftAlone::Undescribed(BITS_STORED));
        }
        if self.high_bit != Some(stored - 1) {
            return Err(LeftAlone::Undescribed(HIGH_BIT));
        }
        let signed = match self.representation {
            Some(representation @ (0 | 1)) => representation == 1,
            _ => return Err(LeftAlone::Undescribed(tags::PIXEL_REPRESENTATION)),
        };
        let planar = match (samples, self.planar) {
            (1, _) => false,
            (_, Some(planar @ (0 | 1))) => planar == 1,
            _ => return Err(LeftAlone::Undescribed(tags::PLANAR_CONFIGURATION)),
        };
        let frames = match self.frames.unwrap_or(1) {
            0 => return Err(LeftAlone::Undescribed(tags::NUMBER_OF_FRAMES)),
            frames if frames > MOST_FRAMES => return Err(LeftAlone::TooManyFrames),
            frames => frames,
        };
        let fits = match photometric {
            Photometric::Monochrome => samples == 1,
            Photometric::Palette => samples == 1 && !signed,
            Photometric::Rgb => samples == 3 && !signed,
            Photometric::YbrFull => samples == 3 && !signed && allocated == 8,
            Photometric::Other => false,
        };
        if !fits {
            return Err(LeftAlone::NotAllowed(PHOTOMETRIC_INTERPRETATION));
        }
        let shape = Shape { rows, columns, samples, allocated, stored, signed, planar, frames, photometric };
        if shape.frame() > limits.frame { Err(LeftAlone::FrameTooLarge) } else { Ok(shape) }
    }

    /// Notes that there is a digital signature.
    pub(super) fn note_signature(&mut self) {
        self.signed = true;
    }

    /// Notes the beginning of an element at the top level that says something by being there.
    pub(super) fn note_element(&mut self, tag: Tag) {
        match tag {
            // Float and Double Float Pixel Data.
            Tag(0x7fe0, 0x0008 | 0x0009) => self.float = true,
            // Extended Offset Table and its lengths, which belong to fragments that are not there.
            Tag(0x7fe0, 0x0001..=0x0003) => self.note_odd(tag),
            _ => {}
        }
    }

    /// Notes where the pixels are.
    pub(super) fn note_pixels(&mut self, pixels: PixelData) {
        if self.pixels.replace(pixels).is_some() {
            self.note_odd(tags::PIXEL_DATA);
        }
    }

    /// Notes the value of an attribute at the top level that [`describes`] pixels.
    pub(super) fn note_value(&mut self, tag: Tag, value: &[u8]) {
        let known = match tag {
            PHOTOMETRIC_INTERPRETATION => put(&mut self.photometric, Some(photometric(value))),
            tags::NUMBER_OF_FRAMES => put(&mut self.frames, number_of_frames(value)),
            tags::SAMPLES_PER_PIXEL => put(&mut self.samples, number(value)),
            tags::PLANAR_CONFIGURATION => put(&mut self.planar, number(value)),
            tags::ROWS => put(&mut self.rows, number(value)),
            tags::COLUMNS => put(&mut self.columns, number(value)),
            tags::BITS_ALLOCATED => put(&mut self.allocated, number(value)),
            BITS_STORED => put(&mut self.stored, number(value)),
            HIGH_BIT => put(&mut self.high_bit, number(value)),
            tags::PIXEL_REPRESENTATION => put(&mut self.representation, number(value)),
            _ => true,
        };
        if !known || self.pixels.is_some() {
            self.note_odd(tag);
        }
    }

    /// Notes that an attribute is not as it must be.
    pub(super) fn note_odd(&mut self, tag: Tag) {
        self.odd.get_or_insert(tag);
    }
}

/// Whether an attribute at the top level is one of those that describe pixels.
pub(super) fn describes(tag: Tag) -> bool {
    matches!(
        tag,
        PHOTOMETRIC_INTERPRETATION
            | tags::NUMBER_OF_FRAMES
            | tags::SAMPLES_PER_PIXEL
            | tags::PLANAR_CONFIGURATION
            | tags::ROWS
            | tags::COLUMNS
            | tags::BITS_ALLOCATED
            | BITS_STORED
            | HIGH_BIT
            | tags::PIXEL_REPRESENTATION
    )
}

/// False if there is a value already, or none now.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let was_empty = place.is_none();
    let is_one = value.is_some();
    *place = value;
    was_empty && is_one
}

/// A US of one value.
fn number(value: &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(value.try_into().ok()?))
}

/// An IS of one value that is not negative.
fn number_of_frames(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.trim_matches([' ', '\0']).trim_start_matches('+').parse().ok()
}

fn photometric(value: &[u8]) -> Photometric {
    match value.trim_ascii_end().strip_suffix(b"\0").unwrap_or(value).trim_ascii() {
        b"MONOCHROME1" | b"MONOCHROME2" => Photometric::Monochrome,
        b"PALETTE COLOR" => Photometric::Palette,
        b"RGB" => Photometric::Rgb,
        b"YBR_FULL" => Photometric::YbrFull,
        _ => Photometric::Other,
    }
}
