//! Takes a data set in Explicit VR Little Endian apart: what concerns pixels is handed out by name, all other bytes as they
//! came, whatever they are.
//!
//! The walker tells what the bytes mean, and where; the bytes themselves are kept until it has: at most one piece of the
//! input and a header. What is handed out, put together again, is the input without group length (7FE0,0000) and without
//! the headers around pixels.

use std::collections::VecDeque;

use dicom_core::Tag;

use super::facts::{self, Facts, PixelData};
use crate::dataset::Defect;
use crate::dataset::tags;
use crate::dataset::transfer_syntax::Encoding;
use crate::dataset::vr::{HeaderForm, Vr};
use crate::dataset::walker::{Element, Event, Walker};

/// No header is longer.
const LONGEST_HEADER: u64 = 12;
/// Of the values that are looked at none has a right to be longer: 12 bytes for an IS, 16 for a CS.
const LONGEST_VALUE: usize = 64;
/// The header of an item or a delimiter.
const ITEM_HEADER: u64 = 8;

/// The group length of Pixel Data and its kin.
const GROUP_LENGTH: Tag = Tag(0x7fe0, 0x0000);
/// Digital Signatures Sequence.
const DIGITAL_SIGNATURES: Tag = Tag(0xfffa, 0xfffa);

/// A part of a data set, in the order of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Bytes that are none of the others.
    Bytes(&'a [u8]),
    /// The value of Planar Configuration, where there is more than one sample to a pixel: two bytes.
    Planar(&'a [u8]),
    /// Pixel Data begins, with a value. Pieces of it follow, then [`Part::End`].
    Native,
    /// Pixel Data begins, in fragments.
    Fragments,
    /// A fragment of this many bytes. Pieces of it follow, then [`Part::End`].
    Fragment(u32),
    /// A piece of the native value or of a fragment.
    Piece(&'a [u8]),
    /// The native value, or the fragment, is complete.
    End,
    /// The last fragment was complete.
    FragmentsEnd,
}

/// A place in the stream at which something begins or ends that is not simply passed on.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Bytes before are passed on.
    from: u64,
    /// Bytes up to here are `what`.
    to: u64,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// Group length, header and all.
    Dropped,
    /// A value of two bytes.
    Planar,
    /// A header; a value up to this place follows.
    Native(u64),
    Fragments,
    Fragment(u64),
    FragmentsEnd,
}

/// The state machine; see the [module](self).
#[derive(Debug)]
pub struct Cutter {
    walker: Walker,
    watch: Watch,
    /// What has been fed and not been handed out.
    raw: Vec<u8>,
    /// Where in the stream `raw` begins.
    at: u64,
    /// The end of the value that is being handed out.
    value: Option<u64>,
}

/// What listens to the walker.
#[derive(Debug, Default)]
struct Watch {
    facts: Facts,
    marks: VecDeque<Mark>,
    /// The attribute whose value is being read.
    value: Option<(Tag, Vec<u8>)>,
    /// Inside the fragments of Pixel Data: where the next header begins.
    fragments: Option<u64>,
}

impl Default for Cutter {
    fn default() -> Self {
        Self::new()
    }
}

impl Cutter {
    /// At the beginning of a data set.
    #[must_use]
    pub fn new() -> Self {
        Self {
            walker: Walker::descending(Encoding::ExplicitLe),
            watch: Watch::default(),
            raw: Vec::new(),
            at: 0,
            value: None,
        }
    }

    /// What the data set has said so far.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.watch.facts
    }

    /// Takes the next bytes, however many, and hands parts out.
    ///
    /// # Errors
    /// The data set cannot be followed, or `out` refuses.
    pub fn feed<E: From<Defect>>(
        &mut self,
        bytes: &[u8],
        out: &mut impl FnMut(Part<'_>, &Facts) -> Result<(), E>,
    ) -> Result<(), E> {
        self.raw.extend_from_slice(bytes);
        let watch = &mut self.watch;
        let walked = self.walker.feed(bytes, &mut |event| watch.take(event));
        walked?;
        self.hand_out(LONGEST_HEADER, out)
    }

    /// Tells that there are no more bytes.
    ///
    /// # Errors
    /// The data set ends too early, or `out` refuses.
    pub fn finish<E: From<Defect>>(
        &mut self,
        out: &mut impl FnMut(Part<'_>, &Facts) -> Result<(), E>,
    ) -> Result<(), E> {
        self.walker.finish(&mut |_| ())?;
        self.hand_out(0, out)
    }

    /// Hands out what is certain: everything but the last bytes, in which a header may have begun.
    fn hand_out<E>(
        &mut self,
        held_back: u64,
        out: &mut impl FnMut(Part<'_>, &Facts) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { watch, raw, at, value, .. } = self;
        let end = *at + raw.len() as u64;
        let mut done = *at;
        let slice = |from: u64, to: u64| {
            let place = |offset: u64| usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
            raw.get(place(from)..place(to)).unwrap_or_default()
        };
        loop {
            if let Some(value_end) = *value {
                let to = value_end.min(end);
                if to > done {
                    out(Part::Piece(slice(done, to)), &watch.facts)?;
                    done = to;
                }
                if to < value_end {
                    break;
                }
                out(Part::End, &watch.facts)?;
                *value = None;
            }
            let Some(mark) = watch.marks.front().copied().filter(|mark| mark.to <= end) else {
                let sure = watch.marks.front().map_or(end.saturating_sub(held_back), |mark| mark.from);
                if sure > done {
                    out(Part::Bytes(slice(done, sure)), &watch.facts)?;
                    done = sure;
                }
                break;
            };
            watch.marks.pop_front();
            if mark.from > done {
                out(Part::Bytes(slice(done, mark.from)), &watch.facts)?;
            }
            done = mark.to;
            let part = match mark.what {
                What::Dropped => continue,
                What::Planar => Part::Planar(slice(mark.from, mark.to)),
                What::Native(_) => Part::Native,
                What::Fragments => Part::Fragments,
                What::Fragment(value_end) => Part::Fragment(u32::try_from(value_end - mark.to).unwrap_or(u32::MAX)),
                What::FragmentsEnd => Part::FragmentsEnd,
            };
            out(part, &watch.facts)?;
            if let What::Native(value_end) | What::Fragment(value_end) = mark.what {
                *value = Some(value_end);
            }
        }
        let count = usize::try_from(done - *at).unwrap_or(usize::MAX);
        raw.drain(..count.min(raw.len()));
        *at = done;
        Ok(())
    }
}

impl Watch {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Element(element) => self.take_element(&element),
            Event::Value(piece) => {
                if let Some((tag, value)) = &mut self.value {
                    if value.len() + piece.len() > LONGEST_VALUE {
                        self.facts.note_odd(*tag);
                        self.value = None;
                    } else {
                        value.extend_from_slice(piece);
                    }
                }
            }
            Event::ValueEnd => {
                if let Some((tag, value)) = self.value.take() {
                    self.facts.note_value(tag, &value);
                }
            }
            Event::SequenceStart(element) => {
                if element.tag == DIGITAL_SIGNATURES {
                    self.facts.note_signature();
                }
                if element.level == 0 && facts::describes(element.tag) {
                    self.facts.note_odd(element.tag);
                }
            }
            Event::FragmentsStart(element) => self.take_fragments(&element),
            Event::Fragment(length) => {
                if let Some(at) = &mut self.fragments {
                    let value = *at + ITEM_HEADER;
                    let end = value + u64::from(length);
                    self.marks.push_back(Mark { from: *at, to: value, what: What::Fragment(end) });
                    *at = end;
                }
            }
            Event::FragmentsEnd => {
                if let Some(at) = self.fragments.take() {
                    self.marks.push_back(Mark { from: at, to: at + ITEM_HEADER, what: What::FragmentsEnd });
                }
            }
            Event::ItemStart { .. } | Event::ItemEnd { .. } | Event::SequenceEnd { .. } | Event::Padding(_) => {}
        }
    }

    fn take_element(&mut self, element: &Element) {
        self.value = None;
        let tag = element.tag;
        if tag == DIGITAL_SIGNATURES {
            self.facts.note_signature();
        }
        if element.level > 0 {
            return;
        }
        self.facts.note_element(tag);
        let value = element.value_offset;
        let length = element.length.unwrap_or(0);
        let header = value.saturating_sub(header_length(element));
        let end = value + u64::from(length);
        match tag {
            tags::PIXEL_DATA => {
                self.facts.note_pixels(PixelData::Native { vr: element.vr, length });
                self.marks.push_back(Mark { from: header, to: value, what: What::Native(end) });
            }
            GROUP_LENGTH if length == 4 => self.marks.push_back(Mark { from: header, to: end, what: What::Dropped }),
            tags::PLANAR_CONFIGURATION if length == 2 && self.facts.has_several_samples() => {
                self.marks.push_back(Mark { from: value, to: end, what: What::Planar });
            }
            _ => {}
        }
        if facts::describes(tag) {
            self.value = Some((tag, Vec::new()));
        }
    }

    fn take_fragments(&mut self, element: &Element) {
        if element.level > 0 || element.tag != tags::PIXEL_DATA {
            return;
        }
        self.facts.note_pixels(PixelData::Encapsulated);
        let value = element.value_offset;
        let header = value.saturating_sub(header_length(element));
        self.marks.push_back(Mark { from: header, to: value, what: What::Fragments });
        self.fragments = Some(value);
    }
}

/// How long the header of an element at the top level is.
fn header_length(element: &Element) -> u64 {
    match element.vr.map(Vr::header_form) {
        Some(HeaderForm::Long) => LONGEST_HEADER,
        Some(HeaderForm::Short) | None => 8,
    }
}
