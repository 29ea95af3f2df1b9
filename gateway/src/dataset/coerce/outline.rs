//! What a plan has to know of a data set: where the elements in question are and what they hold, and a digest of the rest.

use aws_lc_rs::digest::{Context, SHA256};
use dicom_core::Tag;

use super::super::defect::Defect;
use super::super::dictionary;
use super::super::transfer_syntax::Encoding;
use super::super::vr::{HeaderForm, Vr};
use super::super::walker::{Element, Event, Walker};
use super::CoerceError;

/// Original Attributes Sequence.
pub(super) const ORIGINALS: Tag = Tag(0x0400, 0x0561);
/// Digital Signatures Sequence.
const SIGNATURES: Tag = Tag(0xfffa, 0xfffa);
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// The longest value that is kept, in bytes: an LT of 10,240 characters of four bytes, and padding.
const LONGEST: usize = 41_000;

/// The longest header of an element, in bytes.
const HEADER: u64 = 12;

/// An element at the top level that is kept.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) element: Element,
    /// Where its header starts, in bytes from the start of the data set.
    pub(super) start: u64,
    pub(super) value: Vec<u8>,
}

impl Found {
    /// Where the next element starts.
    pub(super) fn end(&self) -> u64 {
        self.element.value_offset.saturating_add(u64::from(self.element.length.unwrap_or(0)))
    }
}

/// Original Attributes Sequence of a data set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Originals {
    pub(super) element: Element,
    pub(super) start: u64,
    /// Where the next element starts.
    pub(super) end: u64,
}

/// What is known at the end.
#[derive(Debug)]
pub(super) struct Outline {
    /// That of the first element, which a scanning walker goes by.
    pub(super) encoding: Encoding,
    /// The elements to be changed that are there, and group lengths.
    pub(super) found: Vec<Found>,
    pub(super) originals: Option<Originals>,
    /// Texts are in UTF-8.
    pub(super) utf8: bool,
    pub(super) signed: bool,
    /// Where zero bytes begin behind the last element, or the end.
    pub(super) end: u64,
    /// Where an element of this tag has to stand; for each of those in question.
    places: Vec<(Tag, Option<u64>)>,
    /// SHA-256 of every byte that belongs to none of the elements in question.
    pub(super) rest: [u8; 32],
}

impl Outline {
    pub(super) fn of(&self, tag: Tag) -> Option<&Found> {
        self.found.iter().find(|found| found.element.tag == tag)
    }

    /// Where an element that is not there is put: in front of the first one behind it in the order of tags.
    pub(super) fn place(&self, tag: Tag) -> u64 {
        let place = self.places.iter().find(|(has, _)| *has == tag).and_then(|(_, place)| *place);
        place.unwrap_or(self.end)
    }
}

/// Outlines a data set that is pushed.
pub(super) struct Outliner {
    walker: Walker,
    watch: Watch,
    rest: Rest,
    total: u64,
}

/// What the events of the walker are gathered in.
struct Watch {
    /// The attributes in question, sorted, with [`ORIGINALS`].
    tags: Vec<Tag>,
    encoding: Option<Encoding>,
    found: Vec<Found>,
    originals: Option<Originals>,
    current: Option<Found>,
    places: Vec<(Tag, Option<u64>)>,
    utf8: bool,
    signed: bool,
    padding: u64,
    problem: Option<CoerceError>,
    /// Where elements begin that came since they were last taken, and whether they belong to the rest.
    marks: Vec<(u64, bool)>,
}

impl Outliner {
    /// Of a data set in this encoding, in which these attributes are in question.
    pub(super) fn new(encoding: Encoding, attributes: impl Iterator<Item = Tag>) -> Self {
        let mut tags: Vec<Tag> = attributes.chain([ORIGINALS]).collect();
        tags.sort();
        tags.dedup();
        let watch = Watch {
            places: tags.iter().map(|tag| (*tag, None)).collect(),
            tags,
            encoding: None,
            found: Vec::new(),
            originals: None,
            current: None,
            utf8: false,
            signed: false,
            padding: 0,
            problem: None,
            marks: Vec::new(),
        };
        Self { walker: Walker::scanning(encoding), watch, rest: Rest::new(), total: 0 }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), CoerceError> {
        let watch = &mut self.watch;
        self.walker.feed(bytes, &mut |event| watch.take(event))?;
        self.total += bytes.len() as u64;
        if let Some(problem) = self.watch.problem.take() {
            return Err(problem);
        }
        self.rest.feed(bytes, self.watch.marks.drain(..));
        if self.watch.padding > 0 {
            self.rest.ends(self.total.saturating_sub(self.watch.padding));
        }
        self.rest.take(self.total.saturating_sub(HEADER));
        Ok(())
    }

    /// Tells that there are no more bytes.
    pub(super) fn finish(mut self) -> Result<Outline, CoerceError> {
        let watch = &mut self.watch;
        self.walker.finish(&mut |event| watch.take(event))?;
        let end = self.total.saturating_sub(self.watch.padding);
        self.rest.ends(end);
        self.rest.take(self.total);
        self.watch.close_originals(end);
        let Watch { encoding, found, originals, places, utf8, signed, .. } = self.watch;
        let encoding = encoding.ok_or(Defect::Empty)?;
        Ok(Outline { encoding, found, originals, utf8, signed, end, places, rest: self.rest.digest() })
    }
}

impl Watch {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Element(element) => {
                self.current = None;
                if element.level == 0 {
                    self.begin(element);
                }
            }
            Event::SequenceStart(element) | Event::FragmentsStart(element) => {
                self.current = None;
                if element.level == 0 {
                    self.begin(element);
                    self.current = None;
                }
            }
            Event::Value(piece) => {
                if let Some(current) = &mut self.current {
                    if current.value.len() + piece.len() > LONGEST {
                        self.problem.get_or_insert(CoerceError::TooLong(current.element.tag));
                    } else {
                        current.value.extend_from_slice(piece);
                    }
                }
            }
            Event::ValueEnd => {
                if let Some(found) = self.current.take() {
                    match found.element.tag {
                        CHARACTER_SET => self.utf8 = found.value.trim_ascii() == b"ISO_IR 192",
                        _ => self.found.push(found),
                    }
                }
            }
            Event::Padding(zeros) => self.padding += zeros.len() as u64,
            _ => {}
        }
    }

    /// An element begins at the top level.
    fn begin(&mut self, element: Element) {
        let tag = element.tag;
        let header = match element.vr.map(Vr::header_form) {
            Some(HeaderForm::Long) => HEADER,
            _ => 8,
        };
        let start = element.value_offset.saturating_sub(header);
        self.encoding.get_or_insert(element.encoding);
        self.close_originals(start);
        for (_, place) in self.places.iter_mut().filter(|(wanted, place)| tag > *wanted && place.is_none()) {
            *place = Some(start);
        }
        self.signed |= tag == SIGNATURES;
        let is_in_question = self.tags.binary_search(&tag).is_ok();
        let is_length =
            dictionary::is_group_length(tag) && self.tags.iter().any(|wanted| wanted.group() == tag.group());
        self.marks.push((start, !is_in_question && !is_length));
        if matches!(tag, Tag(0x0004, 0x1200 | 0x1202 | 0x1400 | 0x1420)) {
            self.problem.get_or_insert(CoerceError::Directory(tag));
        }
        if tag == ORIGINALS {
            if self.originals.is_some() {
                self.problem.get_or_insert(CoerceError::Twice(tag));
            }
            self.originals = Some(Originals { element, start, end: start });
            return;
        }
        if is_in_question && self.found.iter().any(|found| found.element.tag == tag) {
            self.problem.get_or_insert(CoerceError::Twice(tag));
        }
        if is_in_question || is_length || tag == CHARACTER_SET {
            self.current = Some(Found { element, start, value: Vec::new() });
        }
    }

    /// What begins at `end` is where the sequence has ended, if it was the last thing.
    fn close_originals(&mut self, end: u64) {
        if let Some(originals) = self.originals.as_mut().filter(|originals| originals.end == originals.start) {
            originals.end = end;
        }
    }
}

/// Digests the bytes of the elements that are not in question. Where an element begins is known when its header has come,
/// so the last few bytes wait until it is sure whose they are.
struct Rest {
    context: Context,
    /// The bytes that wait, and where they start.
    waiting: Vec<u8>,
    from: u64,
    marks: Vec<(u64, bool)>,
    /// Whether the bytes now belong to the rest.
    counts: bool,
    end: Option<u64>,
}

impl Rest {
    fn new() -> Self {
        Self {
            context: Context::new(&SHA256),
            waiting: Vec::new(),
            from: 0,
            marks: Vec::new(),
            counts: true,
            end: None,
        }
    }

    fn feed(&mut self, bytes: &[u8], marks: impl Iterator<Item = (u64, bool)>) {
        self.waiting.extend_from_slice(bytes);
        self.marks.extend(marks);
    }

    /// Everything from here on is zero bytes, which belong to the rest.
    fn ends(&mut self, at: u64) {
        if self.end.is_none() {
            self.end = Some(at);
            self.marks.push((at, true));
        }
    }

    /// Digests what lies before `until`.
    fn take(&mut self, until: u64) {
        let mut marks = std::mem::take(&mut self.marks).into_iter().peekable();
        let mut taken = 0;
        while self.from < until {
            while let Some((_, counts)) = marks.next_if(|(at, _)| *at <= self.from) {
                self.counts = counts;
            }
            let stop = marks.peek().map_or(until, |(at, _)| until.min(*at));
            let left = self.waiting.get(taken..).unwrap_or_default();
            let length = usize::try_from(stop.saturating_sub(self.from)).unwrap_or(usize::MAX).min(left.len());
            if length == 0 {
                break;
            }
            if self.counts {
                self.context.update(left.get(..length).unwrap_or_default());
            }
            taken += length;
            self.from += length as u64;
        }
        self.waiting.drain(..taken);
        self.marks = marks.collect();
    }

    fn digest(self) -> [u8; 32] {
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(self.context.finish().as_ref()) {
            *to = *from;
        }
        digest
    }
}
