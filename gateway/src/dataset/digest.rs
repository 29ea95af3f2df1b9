//! What two encodings of one data set have in common, as a SHA-256.
//!
//! The canonical digest covers every element's tag, the bytes of its value in little endian, the nesting of sequences
//! and items, fragments, and the zero bytes behind the last element. It leaves out what an encoding is free in: value
//! representations (Implicit VR has none), defined or undefined lengths, byte order, and group lengths (gggg,0000),
//! which PS3.5 7.2 retired and a conversion drops.
//!
//! Where two transfer syntaxes differ only in deflation, the bytes themselves must be the same, and the digest is taken
//! over them.

use aws_lc_rs::digest::{Context, SHA256};

use super::defect::Defect;
use super::dictionary;
use super::inflate::Inflater;
use super::transfer_syntax::{Encoding, TransferSyntax};
use super::vr::Vr;
use super::walker::{Element, Event, Walker};
use crate::model::ContentHash;

/// What a [`Digest`] is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Elements, as the [module](self) says.
    Elements,
    /// The bytes, after inflating them if they are deflated.
    Bytes,
}

/// Digests a data set that is pushed.
pub struct Digest {
    inflater: Option<Inflater>,
    core: Core,
}

enum Core {
    Elements(Box<Walker>, Elements),
    Bytes(Context),
}

impl Digest {
    /// A digest of a data set in this transfer syntax.
    #[must_use]
    pub fn new(syntax: TransferSyntax, over: Over) -> Self {
        let core = match over {
            Over::Elements => Core::Elements(Box::new(Walker::descending(syntax.encoding)), Elements::new()),
            Over::Bytes => Core::Bytes(Context::new(&SHA256)),
        };
        Self { inflater: syntax.deflated.then(|| Inflater::new(u64::MAX)), core }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// The data set cannot be followed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Defect> {
        match &mut self.inflater {
            Some(inflater) => inflater.feed(bytes, &mut |bytes| self.core.feed(bytes)).map(|_| ()),
            None => self.core.feed(bytes),
        }
    }

    /// The digest, when there are no more bytes.
    ///
    /// # Errors
    /// The data set cannot be followed to its end.
    pub fn finish(self) -> Result<ContentHash, Defect> {
        if let Some(inflater) = &self.inflater {
            inflater.finish()?;
        }
        let context = match self.core {
            Core::Elements(mut walker, mut elements) => {
                walker.finish(&mut |event| elements.take(event))?;
                elements.context.update(&elements.padding.to_le_bytes());
                elements.context
            }
            Core::Bytes(context) => context,
        };
        let mut hash = [0; 32];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Ok(ContentHash(hash))
    }
}

impl Core {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Defect> {
        match self {
            Self::Elements(walker, elements) => walker.feed(bytes, &mut |event| elements.take(event)),
            Self::Bytes(context) => {
                context.update(bytes);
                Ok(())
            }
        }
    }
}

struct Elements {
    context: Context,
    left_out: bool,
    swapper: Option<Swapper>,
    swapped: Vec<u8>,
    padding: u64,
}

impl Elements {
    fn new() -> Self {
        Self { context: Context::new(&SHA256), left_out: false, swapper: None, swapped: Vec::new(), padding: 0 }
    }

    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Element(element) => {
                self.left_out = dictionary::is_group_length(element.tag);
                self.swapper = Swapper::to_little_endian(&element);
                if !self.left_out {
                    self.header(1, &element);
                    self.context.update(&element.length.unwrap_or(0).to_le_bytes());
                }
            }
            Event::Value(_) if self.left_out => {}
            Event::Value(piece) => match &mut self.swapper {
                Some(swapper) => {
                    self.swapped.clear();
                    swapper.feed(piece, &mut self.swapped);
                    self.context.update(&self.swapped);
                }
                None => self.context.update(piece),
            },
            Event::ValueEnd => self.left_out = false,
            Event::SequenceStart(element) => self.header(2, &element),
            Event::ItemStart { .. } => self.context.update(&[3]),
            Event::ItemEnd { .. } => self.context.update(&[4]),
            Event::SequenceEnd { .. } => self.context.update(&[5]),
            Event::FragmentsStart(element) => {
                self.swapper = None;
                self.header(6, &element);
            }
            Event::Fragment(length) => {
                self.context.update(&[7]);
                self.context.update(&length.to_le_bytes());
            }
            Event::FragmentsEnd => self.context.update(&[8]),
            Event::Padding(zeros) => self.padding += zeros.len() as u64,
        }
    }

    fn header(&mut self, kind: u8, element: &Element) {
        self.context.update(&[kind]);
        self.context.update(&element.tag.group().to_le_bytes());
        self.context.update(&element.tag.element().to_le_bytes());
    }
}

/// Turns the numbers of a value round, however the value is cut into pieces.
#[derive(Debug)]
pub struct Swapper {
    word: usize,
    held: [u8; 8],
    filled: usize,
}

impl Swapper {
    /// What turns the value of this element into little endian; `None` if it is so already, or has no byte order.
    #[must_use]
    pub fn to_little_endian(element: &Element) -> Option<Self> {
        let word = element.vr.map_or(1, Vr::word);
        let turn = element.encoding == Encoding::ExplicitBe && word > 1;
        turn.then_some(Self { word, held: [0; 8], filled: 0 })
    }

    /// Takes the next piece and appends the numbers that are complete. What is left of a value whose length is no
    /// multiple of its numbers is dropped.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for byte in piece {
            if let Some(place) = self.held.get_mut(self.word - 1 - self.filled) {
                *place = *byte;
            }
            self.filled += 1;
            if self.filled == self.word {
                self.filled = 0;
                out.extend(self.held.iter().take(self.word));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::transfer_syntax::describe;
    use crate::model::Uid;

    fn digest(syntax: &str, bytes: &[u8]) -> ContentHash {
        let uid: Uid = syntax.parse().unwrap();
        let mut digest = Digest::new(describe(&uid), Over::Elements);
        digest.feed(bytes).unwrap();
        digest.finish().unwrap()
    }

    const IMPLICIT: &str = "1.2.840.10008.1.2";
    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

    #[test]
    fn one_data_set_has_one_digest_in_every_encoding() {
        let explicit =
            digest(EXPLICIT, b"\x28\0\x10\0US\x02\0\x00\x02\x08\0\x40\x11SQ\0\0\x08\0\0\0\xfe\xff\0\xe0\0\0\0\0");
        let implicit = digest(
            IMPLICIT,
            b"\x28\0\0\0\x04\0\0\0\x0a\0\0\0\x28\0\x10\0\x02\0\0\0\x00\x02\x08\0\x40\x11\xff\xff\xff\xff\
              \xfe\xff\0\xe0\xff\xff\xff\xff\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0",
        );
        let big = digest(BIG_ENDIAN, b"\0\x28\0\x10US\0\x02\x02\0\0\x08\x11\x40SQ\0\0\0\0\0\x08\xff\xfe\xe0\0\0\0\0\0");
        assert_eq!(explicit, implicit);
        assert_eq!(explicit, big);
    }

    #[test]
    fn a_changed_byte_a_lost_item_and_a_moved_boundary_are_seen() {
        let base = digest(EXPLICIT, b"\x10\0\x10\0LO\x02\0AB\x10\0\x20\0LO\x02\0CD");
        assert_ne!(base, digest(EXPLICIT, b"\x10\0\x10\0LO\x02\0AB\x10\0\x20\0LO\x02\0CE"));
        assert_ne!(base, digest(EXPLICIT, b"\x10\0\x10\0LO\x02\0AB"));
        let with_item = digest(IMPLICIT, b"\x08\0\x40\x11\x08\0\0\0\xfe\xff\0\xe0\0\0\0\0");
        assert_ne!(with_item, digest(IMPLICIT, b"\x08\0\x40\x11\0\0\0\0"));
    }

    #[test]
    fn numbers_are_turned_round_across_pieces() {
        let element = Element {
            tag: dicom_core::Tag(0, 0),
            vr: Some(Vr::UL),
            length: Some(8),
            level: 0,
            value_offset: 0,
            encoding: Encoding::ExplicitBe,
        };
        let mut swapper = Swapper::to_little_endian(&element).unwrap();
        let mut out = Vec::new();
        for byte in 1..=8 {
            swapper.feed(&[byte], &mut out);
        }
        assert_eq!(out, [4, 3, 2, 1, 8, 7, 6, 5]);
    }
}
