//! The record: one instance in the log. Pure: bytes in, bytes out; `docs/spool.md` has the diagram.
//!
//! A record is accepted only at the place it was written for, in the file it was written for, with every bit of its head
//! and header unchanged. Its payload is checked by whoever reads it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::error::SpoolError;
use crate::clock::SpoolTime;
use crate::codec::{self, Filter};
use crate::model::{AeTitle, ContentHash, DestinationName, InstanceId, Priority, Timestamp, Uid};

/// Records start at multiples of this, in bytes: the unit that disks and file systems work in.
pub(super) const ALIGNMENT: u64 = 4_096;
/// The fixed part in front of the header, in bytes.
pub(super) const HEAD: usize = 160;
/// Where the payload of a large segment starts, from the start of its only record.
pub(super) const LARGE_PAYLOAD: u64 = 65_536 - ALIGNMENT;
/// The longest header that fits in front of the payload of a large segment, in bytes.
pub(super) const LONGEST_HEADER: usize = 65_536 - 4_096 - HEAD;

const MAGIC: &[u8; 8] = b"WSRECORD";
const VERSION: u16 = 1;
const KIND_INSTANCE: u8 = 1;
const NO_FILTER: u8 = 0;
const CHECKSUM: usize = HEAD - 4;

/// What is known about an instance besides its bytes: who sent it, what it is, where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceHeader {
    /// SOP Class UID.
    pub sop_class_uid: Uid,
    /// SOP Instance UID.
    pub sop_instance_uid: Uid,
    /// Study Instance UID, if the data set has a valid one.
    pub study_instance_uid: Option<Uid>,
    /// Series Instance UID, if the data set has a valid one.
    pub series_instance_uid: Option<Uid>,
    /// The transfer syntax that the bytes are in.
    pub transfer_syntax: Uid,
    /// Who sent it.
    pub calling_ae: AeTitle,
    /// As whom we were called.
    pub called_ae: AeTitle,
    /// The address it came from.
    #[serde(with = "as_text")]
    pub peer: Option<IpAddr>,
    /// The wall-clock time of its arrival, for people.
    pub received_at: Timestamp,
    /// What goes first.
    pub priority: Priority,
    /// Modality (0008,0060), at most 16 characters.
    pub modality: Option<String>,
    /// Every destination it must reach: the routing decision, taken at arrival.
    pub destinations: Vec<DestinationName>,
    /// The routing rule that decided, if one did. Records of earlier versions have none.
    #[serde(default)]
    pub rule: Option<DestinationName>,
    /// The rule says that it goes nowhere. Then there are no destinations, and it is kept like a delivered copy.
    #[serde(default)]
    pub withheld: bool,
}

impl InstanceHeader {
    /// Whether a rule says that it goes nowhere. One that has a destination goes there, whatever was said before.
    pub(super) fn is_withheld(&self) -> bool {
        self.withheld && self.destinations.is_empty()
    }

    /// The header as a CBOR map.
    ///
    /// # Errors
    /// It has more bytes than fit into a record.
    pub(super) fn encode(&self) -> Result<Vec<u8>, SpoolError> {
        let mut bytes = Vec::with_capacity(512);
        // Writing to a vector cannot fail, and neither can these types; if ever they do, the record is refused below.
        let written = ciborium::into_writer(self, &mut bytes);
        match written {
            Ok(()) if bytes.len() <= LONGEST_HEADER => Ok(bytes),
            _ => Err(SpoolError::HeaderTooLong { length: bytes.len(), limit: LONGEST_HEADER }),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        const DEEPEST: usize = 16;
        ciborium::de::from_reader_with_recursion_limit(bytes, DEEPEST).ok()
    }
}

/// An address as text, in every serialisation format.
pub(super) mod as_text {
    use std::net::IpAddr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(in crate::spool) fn serialize<S: Serializer>(value: &Option<IpAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(|address| address.to_string()).serialize(serializer)
    }

    pub(in crate::spool) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<IpAddr>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// How a payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// As it came.
    Stored,
    /// One zstd frame.
    Zstd,
}

/// The place that a record is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) salt: u64,
}

/// The fixed part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) place: Place,
    pub(super) id: InstanceId,
    pub(super) queued_at: SpoolTime,
    pub(super) compression: Compression,
    /// What was done before the compression.
    pub(super) filter: Option<Filter>,
    /// From the start of the record.
    pub(super) payload_offset: u64,
    pub(super) stored_length: u64,
    pub(super) length: u64,
    pub(super) hash: ContentHash,
    pub(super) payload_crc: u32,
}

impl Head {
    /// Where the next record may start, at the earliest, from the start of the segment.
    pub(super) fn end(&self) -> u64 {
        (self.place.offset + self.payload_offset + self.stored_length).next_multiple_of(ALIGNMENT)
    }
}

/// Where the payload of a record with an encoded header of `header` bytes starts, if it follows at once.
pub(super) fn payload_after(header: usize) -> u64 {
    (HEAD + header) as u64
}

/// The bytes of head and header.
///
/// `header` is at most [`LONGEST_HEADER`] long and ends at `head.payload_offset` or before it.
pub(super) fn encode(head: &Head, header: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + header.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let compression = match head.compression {
        Compression::Stored => 0,
        Compression::Zstd => 1,
    };
    let (filter, parameters) = head.filter.map_or((NO_FILTER, [0; 16]), |filter| (codec::CODE, filter.to_bytes()));
    bytes.extend_from_slice(&[KIND_INSTANCE, compression, filter, 0, 0, 0]);
    for word in [head.place.segment, head.place.offset, head.place.salt, head.id.0, head.queued_at.0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    bytes.extend_from_slice(&short(header.len() as u64));
    bytes.extend_from_slice(&short(head.payload_offset));
    bytes.extend_from_slice(&head.stored_length.to_le_bytes());
    bytes.extend_from_slice(&head.length.to_le_bytes());
    bytes.extend_from_slice(&parameters);
    bytes.extend_from_slice(&head.hash.0);
    bytes.extend_from_slice(&head.payload_crc.to_le_bytes());
    bytes.resize(CHECKSUM, 0);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes), header);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(header);
    bytes
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotARecord {
    #[error("there is no record")]
    Nothing,
    #[error("the record is of a format version that this Waystation does not know")]
    Version,
    #[error("the record belongs to another place")]
    Misplaced,
    #[error("the checksum of the head is wrong")]
    Checksum,
    #[error("the record is of a kind, compression or filter that this Waystation does not know")]
    Unknown,
    #[error("the lengths in the head contradict each other")]
    Lengths,
    #[error("the header cannot be read")]
    Header,
}

/// Reads the first block of a record far enough to know how many bytes head and header have together.
///
/// # Errors
/// There is no head.
pub(super) fn extent(bytes: &[u8]) -> Result<usize, NotARecord> {
    if !bytes.starts_with(MAGIC) {
        return Err(NotARecord::Nothing);
    }
    if u16_at(bytes, 8) != Some(VERSION) {
        return Err(NotARecord::Version);
    }
    let header = u32_at(bytes, 56).and_then(|length| usize::try_from(length).ok());
    match header {
        Some(header) if header <= LONGEST_HEADER => Ok(HEAD + header),
        _ => Err(NotARecord::Lengths),
    }
}

/// Reads head and header from `bytes`, which may go on behind them.
///
/// `place` is where the bytes were found; without a salt (the segment's header is damaged) any salt is accepted.
///
/// # Errors
/// They are not a record, or not one that was written for this place.
pub(super) fn decode(
    bytes: &[u8],
    segment: u64,
    offset: u64,
    salt: Option<u64>,
) -> Result<(Head, InstanceHeader), NotARecord> {
    let extent = extent(bytes)?;
    let bytes = bytes.get(..extent).ok_or(NotARecord::Lengths)?;
    let (head, header) = bytes.split_at_checked(HEAD).ok_or(NotARecord::Lengths)?;
    let word = |at| u64_at(head, at).ok_or(NotARecord::Lengths);
    let half = |at| u32_at(head, at).ok_or(NotARecord::Lengths);
    let checked = head.get(..CHECKSUM).ok_or(NotARecord::Lengths)?;
    if crc32c::crc32c_append(crc32c::crc32c(checked), header) != half(CHECKSUM)? {
        return Err(NotARecord::Checksum);
    }
    let place = Place { segment: word(16)?, offset: word(24)?, salt: word(32)? };
    if (place.segment, place.offset) != (segment, offset) || salt.is_some_and(|salt| salt != place.salt) {
        return Err(NotARecord::Misplaced);
    }
    let (compression, filter) = match head.get(10..13) {
        Some([KIND_INSTANCE, 0, filter]) => (Compression::Stored, *filter),
        Some([KIND_INSTANCE, 1, filter]) => (Compression::Zstd, *filter),
        _ => return Err(NotARecord::Unknown),
    };
    let parameters = head.get(80..96).and_then(|bytes| bytes.try_into().ok()).ok_or(NotARecord::Lengths)?;
    let filter = match filter {
        NO_FILTER => None,
        codec::CODE => Some(Filter::from_bytes(parameters).ok_or(NotARecord::Unknown)?),
        _ => return Err(NotARecord::Unknown),
    };
    let hash = head.get(96..128).and_then(|bytes| bytes.try_into().ok()).ok_or(NotARecord::Lengths)?;
    let head = Head {
        place,
        id: InstanceId(word(40)?),
        queued_at: SpoolTime(word(48)?),
        compression,
        filter,
        payload_offset: u64::from(half(60)?),
        stored_length: word(64)?,
        length: word(72)?,
        hash: ContentHash(hash),
        payload_crc: half(128)?,
    };
    let fits = head.payload_offset >= extent as u64
        && offset.checked_add(head.payload_offset).and_then(|start| start.checked_add(head.stored_length)).is_some();
    if !fits {
        return Err(NotARecord::Lengths);
    }
    let header = InstanceHeader::decode(header).ok_or(NotARecord::Header)?;
    Ok((head, header))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::spool) fn header(number: u64) -> InstanceHeader {
        InstanceHeader {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: format!("1.2.3.{number}").parse().unwrap(),
            study_instance_uid: Some("1.2.3".parse().unwrap()),
            series_instance_uid: None,
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            calling_ae: "CT1".parse().unwrap(),
            called_ae: "WAYSTATION".parse().unwrap(),
            peer: Some("192.0.2.7".parse().unwrap()),
            received_at: Timestamp::from_millis(1_700_000_000_000),
            priority: Priority::Routine,
            modality: Some("CT".into()),
            destinations: vec!["central".parse().unwrap()],
            rule: None,
            withheld: false,
        }
    }

    fn head(offset: u64, header: usize) -> Head {
        Head {
            place: Place { segment: 42, offset, salt: 0xfeed_f00d },
            id: InstanceId(7),
            queued_at: SpoolTime(1_000),
            compression: Compression::Zstd,
            filter: None,
            payload_offset: payload_after(header),
            stored_length: 1_234,
            length: 5_678,
            hash: ContentHash([9; 32]),
            payload_crc: 0x1234_5678,
        }
    }

    fn sample() -> (Head, InstanceHeader, Vec<u8>) {
        let header = header(1);
        let encoded = header.encode().unwrap();
        let head = head(8_192, encoded.len());
        let bytes = encode(&head, &encoded);
        (head, header, bytes)
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let (head, header, bytes) = sample();
        assert_eq!(decode(&bytes, 42, 8_192, Some(0xfeed_f00d)), Ok((head.clone(), header)));
        assert_eq!(head.end() % ALIGNMENT, 0);
    }

    #[test]
    fn a_record_counts_only_at_its_own_place() {
        let (_, _, bytes) = sample();
        assert_eq!(decode(&bytes, 43, 8_192, Some(0xfeed_f00d)), Err(NotARecord::Misplaced));
        assert_eq!(decode(&bytes, 42, 4_096, Some(0xfeed_f00d)), Err(NotARecord::Misplaced));
        assert_eq!(decode(&bytes, 42, 8_192, Some(1)), Err(NotARecord::Misplaced));
        assert!(decode(&bytes, 42, 8_192, None).is_ok());
    }

    #[test]
    fn the_head_has_the_layout_of_the_documentation() {
        let (_, _, bytes) = sample();
        assert_eq!(&bytes[..8], b"WSRECORD");
        assert_eq!(u64_at(&bytes, 16), Some(42));
        assert_eq!(u64_at(&bytes, 40), Some(7));
        assert_eq!(u64_at(&bytes, 64), Some(1_234));
        assert_eq!(bytes[96..128], [9; 32]);
        assert_eq!(u32_at(&bytes, 128), Some(0x1234_5678));
        let map: ciborium::Value = ciborium::from_reader(&bytes[HEAD..]).unwrap();
        let keys: Vec<_> = map.as_map().unwrap().iter().filter_map(|(key, _)| key.as_text()).collect();
        assert!(keys.contains(&"sop_instance_uid") && keys.contains(&"destinations"), "{keys:?}");
    }

    #[test]
    fn a_filter_is_read_back_and_an_unknown_one_is_not_guessed_at() {
        let layout = codec::PixelLayout {
            offset: 700,
            length: 524_288,
            rows: 512,
            columns: 512,
            bits_allocated: 16,
            samples_per_pixel: 1,
            interleaved: true,
            big_endian: false,
            signed: true,
        };
        let filter = Filter::fitting(&layout);
        assert!(filter.is_some());
        let (head, header, _) = sample();
        let head = Head { filter, ..head };
        let mut bytes = encode(&head, &header.encode().unwrap());
        assert_eq!((bytes[12], &bytes[80..84]), (1, &700_u32.to_le_bytes()[..]));
        assert_eq!(decode(&bytes, 42, 8_192, None), Ok((head, header)));
        for (at, value) in [(12, 2), (12, 255), (92, 3), (93, 0), (94, 4), (95, 1)] {
            let before = std::mem::replace(&mut bytes[at], value);
            let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..CHECKSUM]), &bytes[HEAD..]);
            bytes[CHECKSUM..HEAD].copy_from_slice(&checksum.to_le_bytes());
            assert_eq!(decode(&bytes, 42, 8_192, None), Err(NotARecord::Unknown), "byte {at}");
            bytes[at] = before;
        }
    }

    #[test]
    fn keys_of_later_versions_are_ignored() {
        let mut map: ciborium::Value = ciborium::from_reader(&header(3).encode().unwrap()[..]).unwrap();
        map.as_map_mut().unwrap().push(("later".into(), 1.into()));
        let mut bytes = Vec::new();
        ciborium::into_writer(&map, &mut bytes).unwrap();
        assert_eq!(InstanceHeader::decode(&bytes), Some(header(3)));
    }

    #[test]
    fn a_record_of_a_version_without_rules_is_read() {
        let mut map: ciborium::Value = ciborium::from_reader(&header(3).encode().unwrap()[..]).unwrap();
        map.as_map_mut().unwrap().retain(|(key, _)| !matches!(key.as_text(), Some("rule" | "withheld")));
        let mut bytes = Vec::new();
        ciborium::into_writer(&map, &mut bytes).unwrap();
        assert_eq!(InstanceHeader::decode(&bytes), Some(header(3)));
        let withheld = InstanceHeader {
            destinations: Vec::new(),
            rule: Some("no-reports".parse().unwrap()),
            withheld: true,
            ..header(4)
        };
        assert_eq!(InstanceHeader::decode(&withheld.encode().unwrap()), Some(withheld));
    }

    #[test]
    fn a_header_that_does_not_fit_is_refused() {
        let mut long = header(1);
        long.destinations = (0..5_000).map(|n| format!("destination-{n}").parse().unwrap()).collect();
        assert!(matches!(long.encode(), Err(SpoolError::HeaderTooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_truncated_record_is_accepted(cut in 0_usize..10_000) {
            let (_, _, bytes) = sample();
            prop_assert!(decode(&bytes[..cut % bytes.len()], 42, 8_192, None).is_err());
        }

        #[test]
        fn no_record_with_a_flipped_bit_is_accepted(at: proptest::sample::Index, bit in 0_u8..8) {
            let (_, _, mut bytes) = sample();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, 42, 8_192, None).is_err());
        }

        #[test]
        fn no_bytes_can_make_the_reader_panic(bytes: Vec<u8>) {
            let mut with_magic = MAGIC.to_vec();
            with_magic.extend_from_slice(&[1, 0, 1]);
            with_magic.extend_from_slice(&bytes);
            let _ = decode(&with_magic, 1, 0, None);
            prop_assert!(decode(&bytes, 1, 0, None).is_err());
        }
    }
}
