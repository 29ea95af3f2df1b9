//! Segments: their names, their header, and the walk over their records. `docs/spool.md` has the diagrams.

use std::path::{Path, PathBuf};

use super::error::{Doing, IoFailure};
use super::record::{self, ALIGNMENT, Head, InstanceHeader, NotARecord, u16_at, u32_at, u64_at};
use crate::durable::{DiskFile, read_exact_at};
use crate::ledger;
use crate::model::{InstanceId, Timestamp};

/// Where the first record starts: behind the header's block.
pub(super) const FIRST_RECORD: u64 = ALIGNMENT;

const MAGIC: &[u8; 8] = b"WSSEGMNT";
const VERSION: u16 = 1;
const HEADER: usize = 64;
const CHECKSUM: usize = HEADER - 4;

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Many small instances; numbered.
    Shared,
    /// One large instance; its number is the instance's.
    Large,
}

/// The directories and names of the log.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) data: PathBuf,
    pub(super) log: PathBuf,
    pub(super) large: PathBuf,
    pub(super) index: PathBuf,
    /// Exists if the next start must check the whole index.
    pub(super) suspect: PathBuf,
    /// Room that is given back when it is needed.
    pub(super) ballast: PathBuf,
    /// What happened to every instance.
    pub(super) ledger: PathBuf,
}

impl Layout {
    pub(super) fn of(data: &Path) -> Self {
        let log = data.join("log");
        Self {
            data: data.to_owned(),
            large: log.join("large"),
            log,
            index: data.join("index.redb"),
            suspect: data.join("index.suspect"),
            ballast: data.join("ballast"),
            ledger: data.join(ledger::FOLDER),
        }
    }

    pub(super) fn directory(&self, kind: Kind) -> &Path {
        match kind {
            Kind::Shared => &self.log,
            Kind::Large => &self.large,
        }
    }

    pub(super) fn segment(&self, kind: Kind, number: u64) -> PathBuf {
        self.directory(kind).join(format!("{number:010}.seg"))
    }
}

/// The number in a segment's file name; nothing for every other name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() >= 10 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The first block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) salt: u64,
    /// No instance in this segment has a smaller id.
    pub(super) first_id: InstanceId,
    pub(super) created: Timestamp,
}

impl SegmentHeader {
    /// One block of [`FIRST_RECORD`] bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4_096);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[if self.kind == Kind::Shared { 1 } else { 2 }, 0]);
        bytes.extend_from_slice(&4_096_u32.to_le_bytes());
        for word in [self.number, self.salt, self.first_id.0, self.created.as_millis()] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.resize(CHECKSUM, 0);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.resize(4_096, 0);
        bytes
    }

    /// Nothing if the bytes are not the header of segment `number`.
    pub(super) fn decode(bytes: &[u8], kind: Kind, number: u64) -> Option<Self> {
        let checked = bytes.get(..CHECKSUM)?;
        let right = checked.starts_with(MAGIC)
            && u16_at(bytes, 8)? == VERSION
            && *bytes.get(10)? == if kind == Kind::Shared { 1 } else { 2 }
            && u32_at(bytes, 12)? == 4_096
            && u64_at(bytes, 16)? == number
            && u32_at(bytes, CHECKSUM)? == crc32c::crc32c(checked);
        right.then_some(Self {
            kind,
            number,
            salt: u64_at(bytes, 24)?,
            first_id: InstanceId(u64_at(bytes, 32)?),
            created: Timestamp::from_millis(u64_at(bytes, 40)?),
        })
    }

    /// Reads the header of an open segment; nothing if it cannot be read.
    pub(super) fn read(file: &dyn DiskFile, kind: Kind, number: u64) -> Option<Self> {
        let mut block = [0; HEADER];
        read_exact_at(file, &mut block, 0).ok()?;
        Self::decode(&block, kind, number)
    }
}

/// What a walk over a segment meets.
#[derive(Debug)]
pub(super) enum Found {
    Record(Head, Box<InstanceHeader>),
    /// Something that is neither a record nor zeros: where, and what is wrong with it.
    Damage {
        offset: u64,
        problem: String,
    },
}

/// A walk over the records of one segment from a given offset. Damage is reported once and stepped over.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    file: &'a dyn DiskFile,
    path: &'a Path,
    number: u64,
    salt: Option<u64>,
    offset: u64,
    length: u64,
    /// Whether what was met last was damage: a damaged stretch is reported once.
    in_damage: bool,
    /// The end of the last block that is not zero, for trimming.
    used: u64,
    block: Vec<u8>,
    /// Where in the file `block` was read, and how much of it.
    loaded: (u64, usize),
}

const WALK_BLOCK: usize = 128 << 10;

impl<'a> Walk<'a> {
    /// Starts a walk at `offset`, or at the first record if that is further on.
    ///
    /// # Errors
    /// The length of the file cannot be had.
    pub(super) fn new(
        file: &'a dyn DiskFile,
        path: &'a Path,
        number: u64,
        salt: Option<u64>,
        offset: u64,
    ) -> Result<Self, IoFailure> {
        let length = file.length().doing("read the length of", path)?;
        let offset = offset.max(FIRST_RECORD).next_multiple_of(ALIGNMENT);
        let block = vec![0; WALK_BLOCK];
        Ok(Self { file, path, number, salt, offset, length, in_damage: false, used: offset, block, loaded: (0, 0) })
    }

    /// The end of what is in use, so far: everything behind it that the walk has passed is zero.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from the walk's offset on, at least `wanted` of them unless the file ends before.
    fn bytes(&mut self, wanted: usize) -> Result<&[u8], IoFailure> {
        let (start, filled) = self.loaded;
        let skip = self.offset.checked_sub(start).and_then(|skip| usize::try_from(skip).ok());
        let available = skip.and_then(|skip| filled.checked_sub(skip)).unwrap_or(0);
        if available < wanted {
            let rest = usize::try_from(self.length - self.offset.min(self.length)).unwrap_or(usize::MAX);
            let filled = rest.min(self.block.len());
            let target = self.block.get_mut(..filled).unwrap_or_default();
            self.loaded = (0, 0);
            read_exact_at(self.file, target, self.offset).doing("read", self.path)?;
            self.loaded = (self.offset, filled);
        }
        let (start, filled) = self.loaded;
        let skip = usize::try_from(self.offset - start).unwrap_or(usize::MAX);
        Ok(self.block.get(skip..filled).unwrap_or_default())
    }

    fn look(&mut self) -> Result<Result<(Head, InstanceHeader), NotARecord>, IoFailure> {
        let (number, offset, salt, length) = (self.number, self.offset, self.salt, self.length);
        let block = 4_096;
        let extent = match record::extent(self.bytes(block)?) {
            Ok(extent) => extent,
            Err(problem) => return Ok(Err(problem)),
        };
        let decoded = record::decode(self.bytes(extent)?, number, offset, salt);
        Ok(decoded.and_then(|(head, header)| {
            let end = offset + head.payload_offset + head.stored_length;
            if end <= length { Ok((head, header)) } else { Err(NotARecord::Lengths) }
        }))
    }

    /// The next record or the next damage; nothing at the end of the segment.
    pub(super) fn next(&mut self) -> Option<Found> {
        while self.offset < self.length {
            let offset = self.offset;
            let problem = match self.look() {
                Ok(Ok((head, header))) => {
                    self.salt.get_or_insert(head.place.salt);
                    self.in_damage = false;
                    self.offset = head.end();
                    self.used = self.offset;
                    return Some(Found::Record(head, Box::new(header)));
                }
                Ok(Err(problem)) => problem.to_string(),
                Err(failure) => failure.to_string(),
            };
            let zeros = self.bytes(4_096).is_ok_and(|bytes| bytes.iter().take(4_096).all(|byte| *byte == 0));
            self.offset = offset + ALIGNMENT;
            if zeros {
                self.in_damage = false;
                continue;
            }
            self.used = self.offset;
            if !std::mem::replace(&mut self.in_damage, true) {
                return Some(Found::Damage { offset, problem });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_are_segment_names() {
        assert_eq!(number_of("0000000042.seg"), Some(42));
        assert_eq!(number_of("12345678901.seg"), Some(12_345_678_901));
        for other in ["42.seg", "0000000042.tmp", "+000000042.seg", "0000000042.seg.tmp", "99999999999999999999999.seg"]
        {
            assert_eq!(number_of(other), None, "{other}");
        }
        let layout = Layout::of(Path::new("/d"));
        assert_eq!(layout.segment(Kind::Large, 42), Path::new("/d/log/large/0000000042.seg"));
    }

    #[test]
    fn a_segment_header_is_read_back_only_for_its_own_segment() {
        let header = SegmentHeader {
            kind: Kind::Shared,
            number: 42,
            salt: 7,
            first_id: InstanceId(1_000),
            created: Timestamp::from_millis(5),
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), 4_096);
        assert_eq!(SegmentHeader::decode(&bytes, Kind::Shared, 42), Some(header));
        assert_eq!(SegmentHeader::decode(&bytes, Kind::Shared, 43), None);
        assert_eq!(SegmentHeader::decode(&bytes, Kind::Large, 42), None);
        for at in 0..64 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&flipped, Kind::Shared, 42), None, "byte {at}");
        }
    }
}
