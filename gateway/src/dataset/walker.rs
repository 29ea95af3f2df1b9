//! The walk over a data set: bytes in, events out.
//!
//! ```text
//!             element header            zero bytes at the top level
//!            ┌──────────────▶ Value     ┌──────────▶ Padding
//!  Element ──┤   sequence               │
//!     ▲      ├──────────────▶ Item ─────┼─ item ───▶ Element, one level further in
//!     │      │   fragments              └─ delimiter: one level back
//!     │      └──────────────▶ Fragment ─▶ Value, until the sequence delimiter
//!     └── end of a value, an item or a sequence
//! ```
//!
//! The [`Walker`] is pushed: [`Walker::feed`] takes whatever bytes there are and reports what they hold. Its whole
//! memory is one header (12 bytes) and a few numbers. A value is passed on in pieces, as it comes.
//!
//! # Two ways to walk
//!
//! **Scanning** ([`Walker::scanning`]) is for what was received. Sequences and items of defined length are skipped by
//! their length, like any other value; those of undefined length must be walked to find their end. Sequences and items
//! alternate strictly, so the level alone tells what is open: even, elements are expected; odd, items are. One counter
//! is enough for any depth.
//!
//! **Descending** ([`Walker::descending`]) is for conversions, which have to see every element. What has a defined
//! length must end exactly there, so the ends are kept on a stack, bounded by [`MAX_DEPTH`].
//!
//! A scanning walker also believes its eyes: devices announce an explicit transfer syntax and send an implicit data set,
//! or the other way round, and other readers go by the first header, too. A descending walker takes the transfer syntax
//! at its word, because what is announced wrongly is not to be converted.
//!
//! # Where the encoding changes
//!
//! The content of a UN element of undefined length is Implicit VR Little Endian whatever the transfer syntax
//! (PS3.5 6.2.2); the level at which that began is remembered, and it ends there. It cannot begin twice. A descending
//! walker also enters UN elements of defined length where the dictionary says that the tag is a sequence, because that
//! is how every reader of the implicit encoding of the same data set will see it.

use dicom_core::Tag;

use super::defect::Defect;
use super::dictionary::{self, Entry};
use super::tags;
use super::transfer_syntax::Encoding;
use super::vr::{HeaderForm, Vr};

/// How many levels of sequences and items a descending walker enters; twice as many as sequences.
pub const MAX_DEPTH: usize = 512;

/// The length field that says "undefined".
pub const UNDEFINED_LENGTH: u32 = 0xffff_ffff;

/// The header of a data element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The tag.
    pub tag: Tag,
    /// The value representation; `None` where the encoding has none (Implicit VR).
    pub vr: Option<Vr>,
    /// The length of the value in bytes; `None` if undefined.
    pub length: Option<u32>,
    /// How many sequences and items are open around it; 0 at the top level.
    pub level: u64,
    /// Where the value starts, in bytes from the start of the data set.
    pub value_offset: u64,
    /// The encoding of this element, and of its value.
    pub encoding: Encoding,
}

/// What a walker reports, in the order of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// An element with a value. Pieces of the value follow, then [`Event::ValueEnd`].
    Element(Element),
    /// The next piece of a value or fragment.
    Value(&'a [u8]),
    /// The value of an element, or a fragment, is complete.
    ValueEnd,
    /// A sequence begins.
    SequenceStart(Element),
    /// An item begins; `defined` tells whether it gave its length.
    ItemStart {
        /// The length in bytes, unless undefined.
        length: Option<u32>,
    },
    /// An item ends.
    ItemEnd {
        /// Ended by its length and not by a delimiter.
        defined: bool,
    },
    /// A sequence ends.
    SequenceEnd {
        /// Ended by its length and not by a delimiter.
        defined: bool,
    },
    /// Encapsulated data begins (PS3.5 A.4): fragments follow, the first being the basic offset table.
    FragmentsStart(Element),
    /// A fragment of this many bytes. Pieces follow, then [`Event::ValueEnd`].
    Fragment(u32),
    /// The last fragment was complete.
    FragmentsEnd,
    /// Zero bytes behind the last element.
    Padding(&'a [u8]),
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy)]
enum State {
    Element,
    Item,
    Fragment,
    /// `remaining` is never 0.
    Value {
        remaining: u32,
        kind: ValueKind,
    },
    Padding,
    Failed(Defect),
}

#[derive(Debug, Clone, Copy)]
enum ValueKind {
    Element,
    Fragment,
    /// An item of defined length that is skipped.
    SkippedItem,
}

/// An open sequence or item on the stack of a descending walker.
#[derive(Debug, Clone, Copy)]
struct Container {
    /// Where the innermost container of defined length around this place ends; itself, if it is defined.
    end: u64,
    defined: bool,
}

/// The state machine; see the [module](self).
#[derive(Debug)]
pub struct Walker {
    encoding: Encoding,
    state: State,
    header: [u8; 12],
    filled: usize,
    /// How many bytes the header takes as far as it is known: 8 or 12.
    needed: usize,
    /// Bytes taken so far.
    offset: u64,
    /// Open sequences and items.
    level: u64,
    /// The level of the UN sequence whose content is implicit.
    implicit_from: Option<u64>,
    /// The open containers of a descending walker, one for each level; `None` when scanning.
    containers: Option<Vec<Container>>,
    /// The element whose header was read last, for sentences.
    tag: Tag,
}

impl Walker {
    /// A walker that skips what has a defined length and enters only what it must. Any depth, constant memory.
    #[must_use]
    pub fn scanning(encoding: Encoding) -> Self {
        Self {
            encoding,
            state: State::Element,
            header: [0; 12],
            filled: 0,
            needed: 8,
            offset: 0,
            level: 0,
            implicit_from: None,
            containers: None,
            tag: Tag(0, 0),
        }
    }

    /// A walker that enters every sequence, down to [`MAX_DEPTH`] levels.
    #[must_use]
    pub fn descending(encoding: Encoding) -> Self {
        Self { containers: Some(Vec::new()), ..Self::scanning(encoding) }
    }

    /// Takes the next bytes, however many, and reports what they hold.
    ///
    /// # Errors
    /// The data set cannot be followed. Every later call returns the same defect.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        while !bytes.is_empty() {
            let step = match self.state {
                State::Failed(defect) => Err(defect),
                State::Value { remaining, kind } => {
                    self.take_value(&mut bytes, remaining, kind, sink);
                    Ok(())
                }
                State::Padding => self.take_padding(&mut bytes, sink),
                State::Element | State::Item | State::Fragment => {
                    let (taken, rest) = bytes.split_at(bytes.len().min(self.needed - self.filled));
                    self.header[self.filled..self.filled + taken.len()].copy_from_slice(taken);
                    self.filled += taken.len();
                    self.offset += taken.len() as u64;
                    bytes = rest;
                    if self.filled == self.needed { self.take_header(sink) } else { Ok(()) }
                }
            };
            if let Err(defect) = step {
                self.state = State::Failed(defect);
                return Err(defect);
            }
        }
        Ok(())
    }

    /// Tells that there are no more bytes.
    ///
    /// # Errors
    /// The data set ends too early, or had a defect before.
    pub fn finish(&mut self, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        let header = &self.header[..self.filled];
        match self.state {
            State::Failed(defect) => Err(defect),
            State::Value { kind: ValueKind::Fragment, .. } | State::Fragment => {
                Err(Defect::FragmentsUnclosed(self.tag))
            }
            State::Value { kind: ValueKind::Element, .. } => Err(Defect::CutInValue(self.tag)),
            State::Value { kind: ValueKind::SkippedItem, .. } => Err(Defect::Unclosed),
            State::Element | State::Item if self.level > 0 => Err(Defect::Unclosed),
            _ if header.iter().any(|byte| *byte != 0) => Err(Defect::CutInHeader),
            _ => {
                if !header.is_empty() {
                    sink(Event::Padding(header));
                }
                Ok(())
            }
        }
    }

    fn take_value(&mut self, bytes: &mut &[u8], remaining: u32, kind: ValueKind, sink: &mut impl FnMut(Event<'_>)) {
        let fits = usize::try_from(remaining).unwrap_or(usize::MAX);
        let (piece, rest) = bytes.split_at(bytes.len().min(fits));
        *bytes = rest;
        self.offset += piece.len() as u64;
        if !matches!(kind, ValueKind::SkippedItem) {
            sink(Event::Value(piece));
        }
        match u32::try_from(piece.len()).map_or(0, |taken| remaining.saturating_sub(taken)) {
            0 => self.end_value(kind, sink),
            remaining => self.state = State::Value { remaining, kind },
        }
    }

    fn end_value(&mut self, kind: ValueKind, sink: &mut impl FnMut(Event<'_>)) {
        match kind {
            ValueKind::Element => {
                sink(Event::ValueEnd);
                self.state = State::Element;
                self.close_what_ends_here(sink);
            }
            ValueKind::Fragment => {
                sink(Event::ValueEnd);
                self.state = State::Fragment;
            }
            ValueKind::SkippedItem => self.state = State::Item,
        }
    }

    fn take_padding(&mut self, bytes: &mut &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(Defect::AfterPadding);
        }
        sink(Event::Padding(bytes));
        self.offset += bytes.len() as u64;
        *bytes = &[];
        Ok(())
    }

    /// The header is as long as was needed so far: understand it, or ask for four bytes more.
    fn take_header(&mut self, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        if self.offset == 8 && self.containers.is_none() {
            self.encoding = what_it_looks_like(self.header, self.encoding);
        }
        let [a, b, c, d, vr0, vr1, e, f, ..] = self.header;
        let encoding = self.current_encoding();
        let tag = Tag(encoding.u16([a, b]), encoding.u16([c, d]));
        let length = encoding.u32([vr0, vr1, e, f]);
        match self.state {
            State::Item => self.take_item(tag, length, sink),
            State::Fragment => self.take_fragment(tag, length, sink),
            _ if self.level == 0 && self.header[..8] == [0; 8] => {
                sink(Event::Padding(&[0; 8]));
                self.expect(State::Padding);
                Ok(())
            }
            _ if tag.group() == 0xfffe => self.take_delimiter(tag, sink),
            _ if encoding == Encoding::ImplicitLe => self.take_element(tag, None, length, sink),
            _ => {
                let vr = Vr::from_wire([vr0, vr1]).ok_or(Defect::BadVr(tag))?;
                match vr.header_form() {
                    HeaderForm::Short => self.take_element(tag, Some(vr), u32::from(encoding.u16([e, f])), sink),
                    HeaderForm::Long if self.needed == 8 => {
                        self.needed = 12;
                        Ok(())
                    }
                    HeaderForm::Long => {
                        let [.., g, h, i, j] = self.header;
                        self.take_element(tag, Some(vr), encoding.u32([g, h, i, j]), sink)
                    }
                }
            }
        }
    }

    fn take_element(
        &mut self,
        tag: Tag,
        vr: Option<Vr>,
        length: u32,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Defect> {
        let encoding = self.current_encoding();
        let defined = (length != UNDEFINED_LENGTH).then_some(length);
        let element = Element { tag, vr, length: defined, level: self.level, value_offset: self.offset, encoding };
        self.tag = tag;
        self.check_end(defined)?;
        self.expect(State::Element);
        let content = match (vr, defined) {
            (None, None) if tag == tags::PIXEL_DATA => Content::Fragments,
            (None, None) => Content::Sequence,
            (Some(Vr::SQ), None) => Content::Sequence,
            (Some(Vr::UN), None) => Content::ImplicitSequence,
            (Some(Vr::OB | Vr::OW), None) => Content::Fragments,
            (Some(_), None) => return Err(Defect::UndefinedLength(tag)),
            (_, Some(length)) if self.containers.is_none() => Content::Value(length),
            (Some(Vr::SQ), Some(_)) => Content::Sequence,
            (Some(Vr::UN), Some(_)) if dictionary::is_sequence(tag) => Content::ImplicitSequence,
            (None, Some(_)) if dictionary::is_sequence(tag) => Content::Sequence,
            (_, Some(length)) => Content::Value(length),
        };
        match content {
            Content::Value(length) => {
                sink(Event::Element(element));
                self.start_value(length, ValueKind::Element, sink);
            }
            Content::Fragments => {
                sink(Event::FragmentsStart(element));
                self.state = State::Fragment;
            }
            Content::Sequence | Content::ImplicitSequence => {
                self.open(defined)?;
                if matches!(content, Content::ImplicitSequence) {
                    self.implicit_from.get_or_insert(self.level);
                }
                sink(Event::SequenceStart(element));
                self.close_what_ends_here(sink);
            }
        }
        Ok(())
    }

    /// An FFFE tag where an element may be: only the end of the item is right.
    fn take_delimiter(&mut self, tag: Tag, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        let open = self.level > 0 && !self.innermost_is_defined();
        if tag != tags::ITEM_DELIMITATION || !open {
            return Err(Defect::Stray(tag));
        }
        self.check_end(None)?;
        sink(Event::ItemEnd { defined: false });
        self.close();
        self.close_what_ends_here(sink);
        Ok(())
    }

    fn take_item(&mut self, tag: Tag, length: u32, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        let defined = (length != UNDEFINED_LENGTH).then_some(length);
        match (tag, defined) {
            (tags::SEQUENCE_DELIMITATION, _) if !self.innermost_is_defined() => {
                self.check_end(None)?;
                sink(Event::SequenceEnd { defined: false });
                self.close();
            }
            (tags::ITEM, Some(length)) if self.containers.is_none() => {
                self.expect(State::Item);
                self.start_value(length, ValueKind::SkippedItem, sink);
            }
            (tags::ITEM, length) => {
                self.check_end(length)?;
                self.open(length)?;
                sink(Event::ItemStart { length });
            }
            _ => return Err(Defect::NotAnItem(tag)),
        }
        self.close_what_ends_here(sink);
        Ok(())
    }

    fn take_fragment(&mut self, tag: Tag, length: u32, sink: &mut impl FnMut(Event<'_>)) -> Result<(), Defect> {
        match tag {
            tags::ITEM if length == UNDEFINED_LENGTH => Err(Defect::UndefinedFragment(self.tag)),
            tags::ITEM => {
                self.check_end(Some(length))?;
                self.expect(State::Fragment);
                sink(Event::Fragment(length));
                self.start_value(length, ValueKind::Fragment, sink);
                Ok(())
            }
            tags::SEQUENCE_DELIMITATION => {
                self.check_end(None)?;
                self.expect(State::Element);
                sink(Event::FragmentsEnd);
                self.close_what_ends_here(sink);
                Ok(())
            }
            _ => Err(Defect::NotAnItem(tag)),
        }
    }

    fn start_value(&mut self, length: u32, kind: ValueKind, sink: &mut impl FnMut(Event<'_>)) {
        match length {
            0 => self.end_value(kind, sink),
            remaining => self.state = State::Value { remaining, kind },
        }
    }

    /// The header has been understood; this is what comes next.
    fn expect(&mut self, state: State) {
        self.state = state;
        self.filled = 0;
        self.needed = 8;
    }

    /// The header just read, and the value that it announces, must lie inside every container of defined length.
    fn check_end(&self, length: Option<u32>) -> Result<(), Defect> {
        let end = self.containers.as_ref().and_then(|open| open.last()).map_or(u64::MAX, |container| container.end);
        let reaches = self.offset.saturating_add(u64::from(length.unwrap_or(0)));
        if reaches > end { Err(Defect::BeyondSequence(self.tag)) } else { Ok(()) }
    }

    /// One level further in.
    fn open(&mut self, length: Option<u32>) -> Result<(), Defect> {
        if let Some(open) = &mut self.containers {
            if open.len() >= MAX_DEPTH {
                return Err(Defect::TooDeep(self.tag));
            }
            let outer = open.last().map_or(u64::MAX, |container| container.end);
            let end = length.map_or(outer, |length| self.offset.saturating_add(u64::from(length)));
            open.push(Container { end, defined: length.is_some() });
        }
        self.level += 1;
        self.expect_by_level();
        Ok(())
    }

    /// One level back.
    fn close(&mut self) {
        if let Some(open) = &mut self.containers {
            open.pop();
        }
        if self.implicit_from == Some(self.level) {
            self.implicit_from = None;
        }
        self.level = self.level.saturating_sub(1);
        self.expect_by_level();
    }

    fn expect_by_level(&mut self) {
        self.expect(if self.level.is_multiple_of(2) { State::Element } else { State::Item });
    }

    /// Closes the containers of defined length that end at this byte.
    fn close_what_ends_here(&mut self, sink: &mut impl FnMut(Event<'_>)) {
        while let Some(Container { end, defined: true }) = self.containers.as_ref().and_then(|open| open.last())
            && *end == self.offset
            && !matches!(self.state, State::Value { .. } | State::Fragment)
        {
            let is_item = self.level.is_multiple_of(2);
            sink(if is_item { Event::ItemEnd { defined: true } } else { Event::SequenceEnd { defined: true } });
            self.close();
        }
    }

    fn innermost_is_defined(&self) -> bool {
        self.containers.as_ref().and_then(|open| open.last()).is_some_and(|container| container.defined)
    }

    fn current_encoding(&self) -> Encoding {
        if self.implicit_from.is_some() { Encoding::ImplicitLe } else { self.encoding }
    }
}

/// The encoding that the first header of a data set shows, if that is clearly not the one that it was announced in.
fn what_it_looks_like(header: [u8; 12], announced: Encoding) -> Encoding {
    let [a, b, c, d, vr0, vr1, ..] = header;
    let tag = Tag(Encoding::ImplicitLe.u16([a, b]), Encoding::ImplicitLe.u16([c, d]));
    let known = dictionary::look_up(tag);
    match (announced, Vr::from_wire([vr0, vr1])) {
        (Encoding::ImplicitLe, Some(vr)) if known == Entry::Exactly(vr) => Encoding::ExplicitLe,
        (Encoding::ExplicitLe, None) if known != Entry::Unknown => Encoding::ImplicitLe,
        _ => announced,
    }
}

/// What follows the header of an element.
enum Content {
    Value(u32),
    Sequence,
    ImplicitSequence,
    Fragments,
}

#[cfg(test)]
mod tests;
