//! The header scan: what the gateway has to know of a data set, picked out as it streams by.
//!
//! It follows the data set to its last byte, so that a truncated one is never acknowledged, and picks up a handful of
//! attributes from the top level on the way. Memory is constant: a walker that counts levels, one value of at most
//! [`LONGEST_VALUE`] bytes, the texts that rules may ask for ([`Attributes`]), and for deflated transfer syntaxes one
//! inflate window.
//!
//! # What is refused ([`Scan::check`])
//!
//! | found | status |
//! |---|---|
//! | empty, cut off, garbage, lengths that lead nowhere: any [`Defect`] | C000 |
//! | SOP Class, SOP Instance, Study or Series Instance UID present but not a UID | C000 |
//! | SOP Class UID or SOP Instance UID missing | C000 |
//! | SOP Class UID or SOP Instance UID unlike the C-STORE request's | A900 |
//! | Study Instance UID missing, and the SOP class is a standard one of patients' objects | C000 |
//!
//! Everything else is the archive's business. Sequences are never entered unless they must be (undefined length), so a
//! SOP Instance UID inside one is not mistaken for the instance's own.
//!
//! # Deflated data sets
//!
//! They are inflated only to be looked at. After [`INFLATED_LIMIT`] bytes the scan stops looking and the rest passes
//! through as it is: a deflate bomb costs that much CPU time, and no memory.

mod moment;

use dicom_core::Tag;

pub use self::moment::Moment;
use self::moment::{Moments, Part};
use crate::codec::PixelLayout;
use crate::dataset::inflate::{Inflater, Progress};
use crate::dataset::transfer_syntax::{self, Encoding};
use crate::dataset::walker::{Element, Event, Walker};
use crate::dataset::{Defect, tags};
use crate::model::Uid;
use crate::routing::{self, Attributes};

/// How much of a deflated data set is inflated for the scan, in bytes. Taken once, at about 1 GB/s.
pub const INFLATED_LIMIT: u64 = 256 * 1024 * 1024;

/// The longest value that is picked up, in bytes, other than what rules may ask for: a UID of 64 characters, padded, and one more to see that it is longer.
pub const LONGEST_VALUE: usize = 66;

/// C-STORE status "Cannot understand" (PS3.4 B.2.3).
pub const CANNOT_UNDERSTAND: u16 = 0xc000;
/// C-STORE status "Data set does not match SOP class" (PS3.4 B.2.3).
pub const DATA_SET_DOES_NOT_MATCH: u16 = 0xa900;

/// The storage SOP classes of the Non-Patient Object Storage Service Class (PS3.4 Annex GG): no study, no patient.
const NON_PATIENT_OBJECTS: [&str; 9] = [
    "1.2.840.10008.5.1.4.1.1.200.1", // CT Defined Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.200.3", // Protocol Approval
    "1.2.840.10008.5.1.4.1.1.200.7", // XA Defined Procedure Protocol
    "1.2.840.10008.5.1.4.1.1.201.1", // Inventory
    "1.2.840.10008.5.1.4.38.1",      // Hanging Protocol
    "1.2.840.10008.5.1.4.39.1",      // Color Palette
    "1.2.840.10008.5.1.4.43.1",      // Generic Implant Template
    "1.2.840.10008.5.1.4.44.1",      // Implant Assembly Template
    "1.2.840.10008.5.1.4.45.1",      // Implant Template Group
];

/// What a data set is, as far as the gateway has to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Option<Uid>,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Option<Uid>,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Option<Uid>,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Option<Uid>,
    /// Modality (0008,0060): at most 16 printable characters.
    pub modality: Option<String>,
    /// Where uncompressed pixels are; `None` if there are none, or they are compressed or deflated.
    pub image: Option<ImageShape>,
    /// The length of the data set in bytes, as it was received.
    pub length: u64,
    /// When it was made, by the clock of the device: the latest time that it carries.
    pub made: Option<Moment>,
    /// What rules of routing may ask for. For the decision only.
    pub attributes: Attributes,
    /// The first thing that is wrong with it.
    pub defect: Option<Defect>,
}

/// The uncompressed Pixel Data of a data set. The numbers are what the data set says and need not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// Rows (0028,0010).
    pub rows: u16,
    /// Columns (0028,0011).
    pub columns: u16,
    /// Bits Allocated (0028,0100).
    pub bits_allocated: u16,
    /// Samples per Pixel (0028,0002); 1 if missing.
    pub samples_per_pixel: u16,
    /// Planar Configuration (0028,0006); 0 if missing.
    pub planar_configuration: u16,
    /// Pixel Representation (0028,0103); 0 if missing.
    pub pixel_representation: u16,
    /// Numbers, and with them the pixels, are big endian.
    pub big_endian: bool,
    /// Number of Frames (0028,0008); 1 if missing.
    pub frames: u32,
    /// Where the value of Pixel Data (7FE0,0010) starts, in bytes from the start of the data set.
    pub pixel_data_offset: u64,
    /// How long it is, in bytes.
    pub pixel_data_length: u64,
}

impl ImageShape {
    /// The same for the spool, which knows no DICOM.
    #[must_use]
    pub fn layout(&self) -> PixelLayout {
        PixelLayout {
            offset: self.pixel_data_offset,
            length: self.pixel_data_length,
            rows: self.rows,
            columns: self.columns,
            bits_allocated: self.bits_allocated,
            samples_per_pixel: self.samples_per_pixel,
            interleaved: self.planar_configuration == 0,
            big_endian: self.big_endian,
            signed: self.pixel_representation == 1,
        }
    }
}

/// How a C-STORE that cannot be accepted is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`CANNOT_UNDERSTAND`] or [`DATA_SET_DOES_NOT_MATCH`].
    pub status: u16,
    /// For Error Comment (0000,0902): a sentence of at most 64 characters, without patient data.
    pub comment: String,
}

impl Scan {
    /// Whether the instance may be kept, given what the C-STORE request said it is.
    ///
    /// # Errors
    /// It may not, and this is the answer; the rules are those of the [module](self).
    pub fn check(&self, command_sop_class: &Uid, command_sop_instance: &Uid) -> Result<(), Refusal> {
        let refuse = |status, comment: &str| Err(Refusal { status, comment: comment.to_owned() });
        if let Some(defect) = self.defect {
            return refuse(CANNOT_UNDERSTAND, &defect.to_string());
        }
        let Some(class) = &self.sop_class_uid else {
            return refuse(CANNOT_UNDERSTAND, "The data set has no SOP Class UID (0008,0016).");
        };
        let Some(instance) = &self.sop_instance_uid else {
            return refuse(CANNOT_UNDERSTAND, "The data set has no SOP Instance UID (0008,0018).");
        };
        if class != command_sop_class {
            return refuse(DATA_SET_DOES_NOT_MATCH, "SOP Class UID is not that of the C-STORE request.");
        }
        if instance != command_sop_instance {
            return refuse(DATA_SET_DOES_NOT_MATCH, "SOP Instance UID is not that of the C-STORE request.");
        }
        if self.study_instance_uid.is_none() && needs_study(class) {
            return refuse(CANNOT_UNDERSTAND, "The data set has no Study Instance UID (0020,000D).");
        }
        Ok(())
    }
}

fn needs_study(sop_class: &Uid) -> bool {
    sop_class.as_str().starts_with("1.2.840.10008.") && !NON_PATIENT_OBJECTS.contains(&sop_class.as_str())
}

/// Scans a data set that is pushed.
#[derive(Debug)]
pub struct HeaderScan {
    walker: Walker,
    inflater: Option<Inflater>,
    /// The inflater stopped at its limit: what follows is not looked at.
    passed_through: bool,
    found: Found,
    length: u64,
    defect: Option<Defect>,
}

impl HeaderScan {
    /// A scan of a data set in this transfer syntax.
    #[must_use]
    pub fn new(transfer_syntax: &Uid) -> Self {
        Self::with_limit(transfer_syntax, INFLATED_LIMIT)
    }

    fn with_limit(transfer_syntax: &Uid, inflated_limit: u64) -> Self {
        let syntax = transfer_syntax::describe(transfer_syntax);
        Self {
            walker: Walker::scanning(syntax.encoding),
            inflater: syntax.deflated.then(|| Inflater::new(inflated_limit)),
            passed_through: false,
            found: Found::default(),
            length: 0,
            defect: None,
        }
    }

    /// Takes the next bytes. It never fails: the first defect is remembered, and after it the bytes are only counted.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if self.defect.is_some() || self.passed_through {
            return;
        }
        let (walker, found) = (&mut self.walker, &mut self.found);
        let mut walk = |bytes: &[u8]| walker.feed(bytes, &mut |event| found.take(event));
        let result = match &mut self.inflater {
            Some(inflater) => inflater.feed(bytes, &mut walk).map(|progress| {
                self.passed_through = progress == Progress::LimitReached;
            }),
            None => walk(bytes),
        };
        self.defect = result.err();
    }

    /// The uncompressed Pixel Data, as soon as its header has been taken; its value need not have come.
    #[must_use]
    pub fn image(&self) -> Option<ImageShape> {
        // In a deflated data set its place means nothing.
        if self.inflater.is_some() { None } else { self.found.image() }
    }

    /// What was found, when there are no more bytes.
    #[must_use]
    pub fn finish(mut self) -> Scan {
        let ended = match &self.inflater {
            _ if self.passed_through => Ok(()),
            Some(inflater) => inflater.finish(),
            None => Ok(()),
        };
        let ended = ended.and_then(|()| match self.passed_through {
            true => Ok(()),
            false => self.walker.finish(&mut |event| self.found.take(event)),
        });
        let empty = (!self.found.any_element).then_some(Defect::Empty);
        let nothing = (self.length == 0).then_some(Defect::Empty);
        let defect =
            nothing.or(self.defect).or(ended.err()).or(empty).or(self.found.invalid_uid.map(Defect::InvalidUid));
        let image = self.image();
        Scan {
            sop_class_uid: self.found.sop_class_uid,
            sop_instance_uid: self.found.sop_instance_uid,
            study_instance_uid: self.found.study_instance_uid,
            series_instance_uid: self.found.series_instance_uid,
            modality: self.found.modality,
            image,
            length: self.length,
            made: self.found.moments.latest(),
            attributes: self.found.attributes,
            defect,
        }
    }
}

/// What was picked up so far.
#[derive(Debug, Default)]
struct Found {
    any_element: bool,
    /// The element whose value is passing, if it is wanted.
    current: Option<Element>,
    /// How much of that value is looked at, in bytes.
    most: usize,
    value: Vec<u8>,
    attributes: Attributes,
    sop_class_uid: Option<Uid>,
    sop_instance_uid: Option<Uid>,
    study_instance_uid: Option<Uid>,
    series_instance_uid: Option<Uid>,
    invalid_uid: Option<Tag>,
    modality: Option<String>,
    samples_per_pixel: Option<u16>,
    planar_configuration: Option<u16>,
    frames: Option<u32>,
    rows: Option<u16>,
    columns: Option<u16>,
    bits_allocated: Option<u16>,
    pixel_representation: Option<u16>,
    moments: Moments,
    /// Offset, length, and whether it is big endian.
    pixel_data: Option<(u64, u32, bool)>,
}

impl Found {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Element(element) => {
                self.any_element = true;
                self.current = (element.level == 0).then_some(element);
                self.most = if Attributes::wants(element.tag) { routing::LONGEST_VALUE } else { LONGEST_VALUE };
                self.value.clear();
                if element.level == 0 && element.tag == tags::PIXEL_DATA {
                    let big_endian = element.encoding == Encoding::ExplicitBe;
                    self.pixel_data = element.length.map(|length| (element.value_offset, length, big_endian));
                }
            }
            Event::SequenceStart(_) | Event::FragmentsStart(_) => {
                self.any_element = true;
                self.current = None;
            }
            Event::Value(piece) if self.current.is_some() => {
                let room = self.most.saturating_sub(self.value.len());
                self.value.extend(piece.iter().take(room));
            }
            Event::ValueEnd => {
                if let Some(element) = self.current.take() {
                    self.keep(&element);
                }
            }
            _ => {}
        }
    }

    /// The value is complete, or longer than anything wanted. An attribute that occurs twice is the first one.
    fn keep(&mut self, element: &Element) {
        self.attributes.note(element.tag, &self.value);
        match element.tag {
            tags::SOP_CLASS_UID => self.sop_class_uid = self.uid(self.sop_class_uid.clone(), element),
            tags::SOP_INSTANCE_UID => self.sop_instance_uid = self.uid(self.sop_instance_uid.clone(), element),
            tags::STUDY_INSTANCE_UID => self.study_instance_uid = self.uid(self.study_instance_uid.clone(), element),
            tags::SERIES_INSTANCE_UID => {
                self.series_instance_uid = self.uid(self.series_instance_uid.clone(), element);
            }
            tags::MODALITY => self.modality = self.modality.take().or_else(|| code_string(&self.value)),
            tags::NUMBER_OF_FRAMES => self.frames = self.frames.or_else(|| integer_string(&self.value)),
            tags::SAMPLES_PER_PIXEL => self.samples_per_pixel = self.number(self.samples_per_pixel, element),
            tags::PLANAR_CONFIGURATION => self.planar_configuration = self.number(self.planar_configuration, element),
            tags::ROWS => self.rows = self.number(self.rows, element),
            tags::COLUMNS => self.columns = self.number(self.columns, element),
            tags::BITS_ALLOCATED => self.bits_allocated = self.number(self.bits_allocated, element),
            tags::PIXEL_REPRESENTATION => self.pixel_representation = self.number(self.pixel_representation, element),
            tags::INSTANCE_CREATION_DATE => self.moments.date(Part::InstanceCreation, &self.value),
            tags::INSTANCE_CREATION_TIME => self.moments.time(Part::InstanceCreation, &self.value),
            tags::ACQUISITION_DATE => self.moments.date(Part::Acquisition, &self.value),
            tags::ACQUISITION_TIME => self.moments.time(Part::Acquisition, &self.value),
            tags::CONTENT_DATE => self.moments.date(Part::Content, &self.value),
            tags::CONTENT_TIME => self.moments.time(Part::Content, &self.value),
            tags::ACQUISITION_DATE_TIME => self.moments.acquisition_date_time(&self.value),
            tags::TIMEZONE_OFFSET_FROM_UTC => self.moments.offset(&self.value),
            _ => {}
        }
    }

    /// An empty value counts as missing; one that is no UID is a defect of the data set.
    fn uid(&mut self, known: Option<Uid>, element: &Element) -> Option<Uid> {
        let is_empty = self.value.iter().all(|byte| matches!(byte, 0 | b' '));
        if known.is_some() || is_empty {
            return known;
        }
        let uid = Uid::from_wire(&self.value).ok();
        if uid.is_none() {
            self.invalid_uid.get_or_insert(element.tag);
        }
        uid
    }

    fn number(&self, known: Option<u16>, element: &Element) -> Option<u16> {
        let read = |bytes: &[u8; 2]| element.encoding.u16(*bytes);
        known.or_else(|| self.value.first_chunk().map(read))
    }

    fn image(&self) -> Option<ImageShape> {
        let (pixel_data_offset, pixel_data_length, big_endian) = self.pixel_data?;
        Some(ImageShape {
            rows: self.rows?,
            columns: self.columns?,
            bits_allocated: self.bits_allocated?,
            samples_per_pixel: self.samples_per_pixel.unwrap_or(1),
            planar_configuration: self.planar_configuration.unwrap_or(0),
            pixel_representation: self.pixel_representation.unwrap_or(0),
            big_endian,
            frames: self.frames.unwrap_or(1),
            pixel_data_offset,
            pixel_data_length: u64::from(pixel_data_length),
        })
    }
}

/// The first value of a CS that is safe to show; nothing if it is longer than a CS can be.
fn code_string(value: &[u8]) -> Option<String> {
    let first = value.split(|byte| *byte == b'\\').next()?;
    let text = std::str::from_utf8(first).ok()?.trim_matches([' ', '\0']);
    let valid = (1..=16).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    valid.then(|| text.to_owned())
}

fn integer_string(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.trim_matches([' ', '\0']).parse().ok()
}

#[cfg(test)]
mod tests;
