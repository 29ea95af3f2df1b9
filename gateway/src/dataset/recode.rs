//! The same elements in another uncompressed encoding.
//!
//! # What changes
//!
//! - **Headers**: with or without value representation. Into Explicit VR the dictionary gives it; see [`Recoder`].
//! - **Lengths of sequences and items** become undefined when headers change size, because the new length is not known
//!   before the end. From big to little endian no length changes, and all are kept.
//! - **Group lengths** (gggg,0000) are dropped when headers change size: they would be wrong, and PS3.5 7.2 retired
//!   them.
//! - **Byte order**, from big to little endian, by value representation.
//!
//! Everything else, zero bytes behind the last element included, is passed on as it is, in pieces, never held.
//!
//! # What is refused
//!
//! Whatever would leave a reader of the result with another data set than a reader of the source: a value that the
//! dictionary reads in another way than its explicit VR said, when that VR is about to be lost; US or SS where Pixel
//! Representation is not known yet; big-endian values of unknown VR, or of 32-bit pixels stored as words, whose order
//! devices disagree on; fragments in an uncompressed transfer syntax; a DICOMDIR, whose records point at byte offsets.
//! The private elements of an explicit data set lose their VR in the implicit one, as PS3.5 7.1.3 has it.

use dicom_core::Tag;

use super::defect::Defect;
use super::dictionary::{self, Entry};
use super::digest::Swapper;
use super::tags;
use super::transfer_syntax::Encoding;
use super::vr::{Kind, Vr};
use super::walker::{Element, Event, Walker};
use super::write::{explicit_header, implicit_header};

/// Why a data set cannot be converted without changing what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecodeError {
    /// It cannot be followed.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// Big endian is written by nobody any more.
    #[error("Waystation does not write Explicit VR Big Endian.")]
    ToBigEndian,
    /// Fragments belong to compressed transfer syntaxes.
    #[error("{0} is encapsulated, which an uncompressed transfer syntax does not allow.")]
    Encapsulated(Tag),
    /// The offsets of a DICOMDIR (PS3.3 F.3.2.2) would be wrong.
    #[error("{0} holds byte offsets that a conversion would make wrong.")]
    Directory(Tag),
    /// Its VR is about to be lost, and the dictionary reads the value in another way.
    #[error("{tag} is {vr} here, which Implicit VR cannot say: the dictionary has another kind of value for it.")]
    Contradiction {
        /// The element.
        tag: Tag,
        /// Its VR in the source.
        vr: Vr,
    },
    /// US or SS, and nothing says which.
    #[error("Pixel Representation (0028,0103) comes too late to tell whether {0} is signed.")]
    SignUnknown(Tag),
    /// Elements that depend on Pixel Representation stand before it, against the order of PS3.5 7.1.
    #[error("Pixel Representation (0028,0103) stands behind elements that depend on it.")]
    OutOfOrder,
    /// The byte order of a value of unknown VR cannot be turned.
    #[error("The byte order of {tag} cannot be turned: {vr} does not tell what its value is.")]
    OrderUnknown {
        /// The element.
        tag: Tag,
        /// Its VR in the source.
        vr: Vr,
    },
    /// Pixels of more than 16 bits in words, or of more than 8 in bytes.
    #[error("The byte order of {0} cannot be turned: its pixels are wider than its words.")]
    WidePixels(Tag),
    /// The length is no multiple of the size of the numbers.
    #[error("The byte order of {0} cannot be turned: its length is no multiple of its numbers.")]
    TornNumber(Tag),
}

/// Converts a data set that is pushed.
///
/// The VR of an element that comes from Implicit VR is that of the dictionary; where that gives a choice:
///
/// | choice | decided by |
/// |---|---|
/// | US or SS | Pixel Representation of the item, or else of the nearest data set around it; US if there is none |
/// | OB or OW, Pixel Data | Bits Allocated of the same data set: OB up to 8, else OW |
/// | OB or OW, waveforms | Waveform Bits Allocated: OB if 8, else OW |
/// | OB or OW, overlays and others; US or OW, lookup tables | OW: the bytes are the same in little endian |
/// | not in the dictionary | SQ if the length is undefined, LO for a private creator, else UN |
///
/// A value of more than 65,534 bytes whose VR has a 16-bit length becomes UN (PS3.5 6.2.2).
#[derive(Debug)]
pub struct Recoder {
    walker: Walker,
    writer: Writer,
}

impl Recoder {
    /// Converts from one encoding to another.
    ///
    /// # Errors
    /// `to` is big endian.
    pub fn new(from: Encoding, to: Encoding) -> Result<Self, RecodeError> {
        if to == Encoding::ExplicitBe {
            return Err(RecodeError::ToBigEndian);
        }
        let lengths_change = (from == Encoding::ImplicitLe) != (to == Encoding::ImplicitLe);
        let writer = Writer {
            from,
            to,
            lengths_change,
            surroundings: vec![Surroundings::default()],
            swapper: None,
            sign: None,
            dropping: false,
            noted: None,
        };
        Ok(Self { walker: Walker::descending(from), writer })
    }

    /// Takes the next bytes and appends what they become to `out`: at most three times as many, a header, and the
    /// delimiters of what ends there.
    ///
    /// # Errors
    /// The data set cannot be converted; what was appended must not be used.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RecodeError> {
        let mut result = Ok(());
        let walked = self.walker.feed(bytes, &mut |event| {
            if result.is_ok() {
                result = self.writer.take(event, out);
            }
        });
        result?;
        Ok(walked?)
    }

    /// Tells that there are no more bytes.
    ///
    /// # Errors
    /// The data set ends too early.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), RecodeError> {
        let mut result = Ok(());
        let walked = self.walker.finish(&mut |event| result = self.writer.take(event, out));
        result?;
        Ok(walked?)
    }
}

/// What a data set, or an item, has said so far about the elements that follow.
#[derive(Debug, Default, Clone, Copy)]
struct Surroundings {
    last: Option<Tag>,
    pixel_representation: Option<u16>,
    bits_allocated: Option<u16>,
    waveform_bits_allocated: Option<u16>,
    /// Something was written as US because Pixel Representation had not come where the order of tags puts it.
    taken_as_unsigned: bool,
}

/// A small number that is being read as it passes.
#[derive(Debug, Clone, Copy)]
struct Noted {
    tag: Tag,
    encoding: Encoding,
    bytes: [u8; 2],
    filled: usize,
}

#[derive(Debug)]
struct Writer {
    from: Encoding,
    to: Encoding,
    lengths_change: bool,
    /// Of the data set and of every open item; as many as the walker's depth allows.
    surroundings: Vec<Surroundings>,
    swapper: Option<Swapper>,
    sign: Option<SignWatch>,
    /// The value that passes is one of those that are left out.
    dropping: bool,
    noted: Option<Noted>,
}

impl Writer {
    fn take(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), RecodeError> {
        match event {
            Event::Element(element) => self.take_element(&element, out)?,
            Event::Value(_) if self.dropping => {}
            Event::Value(piece) => {
                self.note_value(piece)?;
                let start = out.len();
                match &mut self.swapper {
                    Some(swapper) => swapper.feed(piece, out),
                    None => out.extend_from_slice(piece),
                }
                if let Some(sign) = &mut self.sign {
                    sign.feed(out.get(start..).unwrap_or_default())?;
                }
            }
            Event::ValueEnd => {
                self.dropping = false;
                self.noted = None;
            }
            Event::SequenceStart(element) => {
                self.note_tag(element.tag);
                let length = if self.lengths_change { None } else { element.length };
                self.write_header(&element, Vr::SQ, length, out);
            }
            Event::ItemStart { length } => {
                self.surroundings.push(Surroundings::default());
                let length = if self.lengths_change { None } else { length };
                self.write_item(tags::ITEM, length, out);
            }
            Event::ItemEnd { defined } => {
                self.surroundings.pop();
                if self.lengths_change || !defined {
                    self.write_item(tags::ITEM_DELIMITATION, Some(0), out);
                }
            }
            Event::SequenceEnd { defined } => {
                if self.lengths_change || !defined {
                    self.write_item(tags::SEQUENCE_DELIMITATION, Some(0), out);
                }
            }
            Event::FragmentsStart(element) => return Err(RecodeError::Encapsulated(element.tag)),
            Event::Fragment(_) | Event::FragmentsEnd => {}
            Event::Padding(zeros) => out.extend_from_slice(zeros),
        }
        Ok(())
    }

    fn take_element(&mut self, element: &Element, out: &mut Vec<u8>) -> Result<(), RecodeError> {
        let tag = element.tag;
        self.note_tag(tag);
        if self.lengths_change && dictionary::is_group_length(tag) {
            self.dropping = true;
            return Ok(());
        }
        if matches!(tag, Tag(0x0004, 0x1200 | 0x1202 | 0x1400 | 0x1420)) {
            return Err(RecodeError::Directory(tag));
        }
        if matches!(tag, tags::PIXEL_REPRESENTATION | tags::BITS_ALLOCATED | tags::WAVEFORM_BITS_ALLOCATED) {
            self.noted = Some(Noted { tag, encoding: element.encoding, bytes: [0; 2], filled: 0 });
        }
        self.check_byte_order(element)?;
        let vr = match element.vr {
            Some(vr) => vr,
            None if self.writes_implicit(element) => Vr::UN,
            None => self.choose_vr(element)?,
        };
        self.sign = None;
        if self.to == Encoding::ImplicitLe && element.vr.is_some() {
            check_against_dictionary(element, vr)?;
            if sign_is_lost(tag, vr) {
                self.sign = Some(SignWatch { vr, tag, word: vr.word(), at: 0 });
            }
        }
        self.swapper = Swapper::to_little_endian(element);
        self.write_header(element, vr, element.length, out);
        Ok(())
    }

    /// The content of UN stays implicit in every result.
    fn writes_implicit(&self, element: &Element) -> bool {
        self.to == Encoding::ImplicitLe || (element.vr.is_none() && self.from != Encoding::ImplicitLe)
    }

    fn write_header(&self, element: &Element, vr: Vr, length: Option<u32>, out: &mut Vec<u8>) {
        if self.writes_implicit(element) {
            out.extend_from_slice(implicit_header(element.tag, length).as_bytes());
            return;
        }
        let vr = element.vr.unwrap_or(vr);
        let header = explicit_header(element.tag, vr, length).or_else(|| explicit_header(element.tag, Vr::UN, length));
        if let Some(header) = header {
            out.extend_from_slice(header.as_bytes());
        }
    }

    fn write_item(&self, tag: Tag, length: Option<u32>, out: &mut Vec<u8>) {
        out.extend_from_slice(implicit_header(tag, length).as_bytes());
    }

    fn choose_vr(&mut self, element: &Element) -> Result<Vr, RecodeError> {
        let here = self.surroundings.last().copied().unwrap_or_default();
        Ok(match dictionary::look_up(element.tag) {
            Entry::Exactly(vr) => vr,
            Entry::UsOrSs if element.length == Some(0) => Vr::US,
            Entry::UsOrSs => match self.pixel_representation() {
                Some(1) => Vr::SS,
                Some(_) => Vr::US,
                None => return Err(RecodeError::SignUnknown(element.tag)),
            },
            Entry::PixelData if here.bits_allocated.is_some_and(|bits| bits <= 8) => Vr::OB,
            Entry::ObOrOw if element.tag.group() == 0x5400 && self.waveform_bits() == Some(8) => Vr::OB,
            Entry::PixelData | Entry::ObOrOw | Entry::UsOrOw => Vr::OW,
            Entry::Unknown => Vr::UN,
        })
    }

    /// Pixel Representation as it holds here; 0 if its place has passed without it, `None` if it may still come.
    fn pixel_representation(&mut self) -> Option<u16> {
        for surroundings in self.surroundings.iter_mut().rev() {
            if surroundings.pixel_representation.is_some() {
                return surroundings.pixel_representation;
            }
            if surroundings.last.is_none_or(|last| last < tags::PIXEL_REPRESENTATION) {
                return None;
            }
            surroundings.taken_as_unsigned = true;
        }
        Some(0)
    }

    fn waveform_bits(&self) -> Option<u16> {
        self.surroundings.iter().rev().find_map(|surroundings| surroundings.waveform_bits_allocated)
    }

    fn check_byte_order(&self, element: &Element) -> Result<(), RecodeError> {
        let (Encoding::ExplicitBe, Some(vr), Some(length)) = (element.encoding, element.vr, element.length) else {
            return Ok(());
        };
        let tag = element.tag;
        let bits = self.surroundings.last().and_then(|surroundings| surroundings.bits_allocated).unwrap_or(0);
        // UN stays UN in Explicit VR: whoever reads it knows as little as before. Implicit VR would give it a meaning.
        let unknown = vr.kind() == Kind::Unknown && (vr != Vr::UN || self.to == Encoding::ImplicitLe);
        match usize::try_from(length).unwrap_or(usize::MAX) {
            0 => Ok(()),
            _ if unknown => Err(RecodeError::OrderUnknown { tag, vr }),
            length if !length.is_multiple_of(vr.word()) => Err(RecodeError::TornNumber(tag)),
            _ if tag == tags::PIXEL_DATA && usize::from(bits) > 8 * vr.word() => Err(RecodeError::WidePixels(tag)),
            _ => Ok(()),
        }
    }

    fn note_tag(&mut self, tag: Tag) {
        if let Some(surroundings) = self.surroundings.last_mut() {
            surroundings.last = Some(tag);
        }
    }

    fn note_value(&mut self, piece: &[u8]) -> Result<(), RecodeError> {
        let Some(noted) = &mut self.noted else { return Ok(()) };
        for (place, byte) in noted.bytes.iter_mut().skip(noted.filled).zip(piece) {
            *place = *byte;
            noted.filled += 1;
        }
        if noted.filled < noted.bytes.len() {
            return Ok(());
        }
        let number = noted.encoding.u16(noted.bytes);
        if let Some(surroundings) = self.surroundings.last_mut() {
            match noted.tag {
                tags::PIXEL_REPRESENTATION if surroundings.taken_as_unsigned && number == 1 => {
                    return Err(RecodeError::OutOfOrder);
                }
                tags::PIXEL_REPRESENTATION => surroundings.pixel_representation = Some(number),
                tags::BITS_ALLOCATED => surroundings.bits_allocated = Some(number),
                _ => surroundings.waveform_bits_allocated = Some(number),
            }
        }
        Ok(())
    }
}

/// Numbers that one reader takes as signed and another as unsigned: the same as long as the highest bit is clear.
#[derive(Debug, Clone, Copy)]
struct SignWatch {
    tag: Tag,
    vr: Vr,
    word: usize,
    /// How many bytes of the current number have passed.
    at: usize,
}

impl SignWatch {
    /// Takes the next bytes, in little endian.
    fn feed(&mut self, bytes: &[u8]) -> Result<(), RecodeError> {
        for byte in bytes {
            self.at += 1;
            if self.at == self.word {
                self.at = 0;
                if byte & 0x80 != 0 {
                    return Err(RecodeError::Contradiction { tag: self.tag, vr: self.vr });
                }
            }
        }
        Ok(())
    }
}

fn is_signed(vr: Vr) -> bool {
    matches!(vr, Vr::SS | Vr::SL | Vr::SV)
}

/// Whether the dictionary, which is all that a reader of the result has, takes numbers of this VR for those of the other
/// sign. Where it says US or SS, Pixel Representation decides for every reader of either
/// encoding, whatever the header says: scanners that write their negative padding value as US are common.
fn sign_is_lost(tag: Tag, vr: Vr) -> bool {
    let Entry::Exactly(known) = dictionary::look_up(tag) else { return false };
    matches!(vr.kind(), Kind::Integers(_)) && is_signed(vr) != is_signed(known)
}

/// The VR is about to be lost: whoever reads the result will have the dictionary's, and must read the same.
fn check_against_dictionary(element: &Element, vr: Vr) -> Result<(), RecodeError> {
    let words = |kind| matches!(kind, Kind::Integers(2) | Kind::Bytes);
    let alike = match dictionary::look_up(element.tag) {
        Entry::Exactly(Vr::SQ) => false,
        Entry::Unknown => true,
        _ if element.length == Some(0) || vr.kind() == Kind::Unknown => true,
        Entry::Exactly(known) => known.kind() == vr.kind() || (words(known.kind()) && words(vr.kind())),
        Entry::UsOrSs => vr.kind() == Kind::Integers(2),
        Entry::PixelData | Entry::ObOrOw | Entry::UsOrOw => words(vr.kind()),
    };
    if alike { Ok(()) } else { Err(RecodeError::Contradiction { tag: element.tag, vr }) }
}

#[cfg(test)]
mod tests;
