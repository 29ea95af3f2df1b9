//! Reading an instance back: streamed, in bounded memory, and whole or not at all.
//!
//! The last bytes of a data set are handed out only after the checksum of what is stored, the length, and the SHA-256 of
//! the data set have been compared. Whoever reads to the end without an error has exactly what came in; an instance
//! shorter than one piece is checked before its first byte is handed out.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use aws_lc_rs::digest;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::error::{Doing, SpoolError};
use super::index::Kept;
use super::record::{self, Compression, Head};
use super::segment::Layout;
use crate::codec::FilterReader;
use crate::durable::{Disk, DiskFile, Fate, read_exact_at};
use crate::model::{ContentHash, InstanceId};

/// Bytes that are read from the disk at once.
const STORED_PIECE: usize = 128 << 10;
/// Bytes that are handed out between two checks whether more are to come.
const PIECE: usize = 64 << 10;
/// The largest window of a frame, as a power of two: no record needs more memory.
const LARGEST_WINDOW_LOG: u32 = 23;

/// The bytes of one data set. Its [`Read`] fails with [`io::ErrorKind::InvalidData`] instead of coming to an end when
/// they are not the ones that were received.
pub struct PayloadReader {
    id: InstanceId,
    file: Arc<dyn DiskFile>,
    head: Head,
    /// What of the stored payload is still to be read from the file.
    position: u64,
    end: u64,
    stored: Vec<u8>,
    stored_used: usize,
    crc: u32,
    decoder: Option<Decoder<'static>>,
    frame_ended: bool,
    filter: Option<Box<FilterReader>>,
    hasher: Option<digest::Context>,
    produced: u64,
    /// What may be handed out, and how much of it was.
    ready: Vec<u8>,
    given: usize,
    /// The piece after it: handed out when there is another one or when everything is right.
    held: Vec<u8>,
    begun: bool,
    ended: bool,
    failed: Option<String>,
    /// Told when it turns out that the payload is not what was received.
    on_damage: Option<Box<dyn FnOnce(String) + Send>>,
}

impl fmt::Debug for PayloadReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadReader").field("id", &self.id).field("head", &self.head).finish_non_exhaustive()
    }
}

impl PayloadReader {
    pub(super) fn open(disk: &dyn Disk, layout: &Layout, id: InstanceId, row: &Kept) -> Result<Self, SpoolError> {
        let damaged = |problem: String| SpoolError::Damaged { id, problem };
        let location = row.location;
        let path = layout.segment(location.kind, location.segment);
        let file = disk.open(&path, false).doing("open", &path).map_err(|failure| match failure.fate() {
            Fate::Busy => SpoolError::Busy(failure),
            // A file that is not there any more is damage; a disk that does not answer may do so another time.
            _ if failure.is_missing() => damaged(failure.to_string()),
            Fate::NoRoom | Fate::Fatal => SpoolError::Unreadable(failure),
        })?;
        let front = read_front(&*file, location.offset);
        let front = front.doing("read", &path).map_err(|failure| match failure.is_cut_off() {
            true => damaged(failure.to_string()),
            false => SpoolError::Unreadable(failure),
        })?;
        let (head, _) = record::decode(&front, location.segment, location.offset, None)
            .map_err(|problem| damaged(format!("{}, offset {}: {problem}", path.display(), location.offset)))?;
        if head.id != row.record || head.hash != row.hash || head.length != row.length {
            return Err(damaged(format!("{}, offset {}: another instance is there", path.display(), location.offset)));
        }
        let decoder = match head.compression {
            Compression::Stored => None,
            Compression::Zstd => {
                let decoder = Decoder::new().and_then(|mut decoder| {
                    decoder.set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW_LOG))?;
                    Ok(decoder)
                });
                Some(decoder.map_err(|error| SpoolError::Compress(Arc::new(error)))?)
            }
        };
        let position = location.offset + head.payload_offset;
        Ok(Self {
            id,
            file,
            position,
            end: position + head.stored_length,
            stored: Vec::new(),
            stored_used: 0,
            crc: 0,
            decoder,
            frame_ended: false,
            filter: head.filter.map(|filter| Box::new(FilterReader::new(filter, head.length))),
            hasher: Some(digest::Context::new(&digest::SHA256)),
            produced: 0,
            ready: Vec::new(),
            given: 0,
            held: Vec::new(),
            begun: false,
            ended: false,
            failed: None,
            head,
            on_damage: None,
        })
    }

    pub(super) fn on_damage(mut self, told: impl FnOnce(String) + Send + 'static) -> Self {
        self.on_damage = Some(Box::new(told));
        self
    }

    /// Length of the data set, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.head.length
    }

    /// SHA-256 of the data set, as it was computed on arrival.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        self.head.hash
    }

    fn damaged(&self, problem: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("instance {} is damaged: {problem}", self.id))
    }

    /// Moves the next piece to `ready`; leaves it empty at the end.
    fn advance(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        if self.ended {
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            self.produce()?;
        }
        std::mem::swap(&mut self.ready, &mut self.held);
        self.produce()?;
        if self.held.is_empty() {
            self.verify()?;
            self.ended = true;
        }
        Ok(())
    }

    fn verify(&mut self) -> io::Result<()> {
        if self.produced != self.head.length {
            return Err(self.damaged("it is shorter than it was"));
        }
        if self.position != self.end || self.stored_used != self.stored.len() {
            return Err(self.damaged("its payload goes on behind its end"));
        }
        if self.crc != self.head.payload_crc {
            return Err(self.damaged("the checksum of its payload is wrong"));
        }
        let hash = self.hasher.take().map(digest::Context::finish);
        if hash.is_none_or(|hash| hash.as_ref() != self.head.hash.0) {
            return Err(self.damaged("its content is not what was received"));
        }
        Ok(())
    }

    /// Puts the next piece of the data set into `held`; leaves it empty when there is no more.
    fn produce(&mut self) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.held);
        piece.resize(PIECE, 0);
        let mut filled = 0;
        while filled < PIECE {
            let more = self.decode(piece.get_mut(filled..).unwrap_or_default())?;
            if more == 0 {
                break;
            }
            filled += more;
        }
        piece.truncate(filled);
        self.produced += filled as u64;
        if self.produced > self.head.length {
            return Err(self.damaged("it is longer than it was"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        self.held = piece;
        Ok(())
    }

    /// The next bytes of the data set; none at its end.
    fn decode(&mut self, output: &mut [u8]) -> io::Result<usize> {
        let Some(mut filter) = self.filter.take() else { return self.decompress(output) };
        let result = self.unfilter(&mut filter, output);
        self.filter = Some(filter);
        result
    }

    fn unfilter(&mut self, filter: &mut FilterReader, output: &mut [u8]) -> io::Result<usize> {
        loop {
            let taken = filter.take(output);
            if taken > 0 {
                return Ok(taken);
            }
            if filter.is_complete() {
                // Nothing may be left, and the end of the frame is still to be read.
                return match self.decompress(&mut [0; 1])? {
                    0 => Ok(0),
                    _ => Err(self.damaged("it is longer than it was")),
                };
            }
            let made = self.decompress(filter.space())?;
            if made == 0 {
                return Err(self.damaged("it is shorter than it was"));
            }
            filter.filled(made).map_err(|garbled| self.damaged(&garbled.to_string()))?;
        }
    }

    /// The next bytes as the compression had got them; none at the end.
    fn decompress(&mut self, output: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stored_used == self.stored.len() && self.position < self.end {
                self.load()?;
            }
            let input = self.stored.get(self.stored_used..).unwrap_or_default();
            let Some(decoder) = &mut self.decoder else {
                let length = input.len().min(output.len());
                if let (Some(output), Some(input)) = (output.get_mut(..length), input.get(..length)) {
                    output.copy_from_slice(input);
                }
                self.stored_used += length;
                return Ok(length);
            };
            if self.frame_ended {
                return Ok(0);
            }
            let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(&mut *output));
            let result = decoder.run(&mut from, &mut to);
            let (taken, made) = (from.pos(), to.pos());
            self.stored_used += taken;
            match result {
                Ok(left) => self.frame_ended = left == 0,
                Err(error) => return Err(self.damaged(&format!("it cannot be decompressed ({error})"))),
            }
            if made > 0 || self.frame_ended {
                return Ok(made);
            }
            if taken == 0 && self.position == self.end {
                return Err(self.damaged("its payload ends too early"));
            }
        }
    }

    fn load(&mut self) -> io::Result<()> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        self.stored.resize(left.min(STORED_PIECE), 0);
        self.stored_used = 0;
        read_exact_at(&*self.file, &mut self.stored, self.position)?;
        self.position += self.stored.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &self.stored);
        Ok(())
    }
}

impl Read for PayloadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(problem) = &self.failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem.clone()));
        }
        if self.given == self.ready.len()
            && let Err(error) = self.advance()
        {
            self.ready.clear();
            self.given = 0;
            self.failed = Some(error.to_string());
            if error.kind() == io::ErrorKind::InvalidData
                && let Some(told) = self.on_damage.take()
            {
                told(error.to_string());
            }
            return Err(error);
        }
        let ready = self.ready.get(self.given..).unwrap_or_default();
        let length = ready.len().min(buffer.len());
        if let (Some(buffer), Some(ready)) = (buffer.get_mut(..length), ready.get(..length)) {
            buffer.copy_from_slice(ready);
        }
        self.given += length;
        Ok(length)
    }
}

/// Reads head and header of the record at `offset`, and a little more.
pub(super) fn read_front(file: &dyn DiskFile, offset: u64) -> io::Result<Vec<u8>> {
    let mut front = vec![0; 4_096];
    let mut filled = 0;
    loop {
        let read = file.read_at(front.get_mut(filled..).unwrap_or_default(), offset + filled as u64)?;
        filled += read;
        let wanted = record::extent(front.get(..filled).unwrap_or_default()).unwrap_or(0);
        if read == 0 || (filled == front.len() && wanted <= filled) {
            front.truncate(filled);
            return Ok(front);
        }
        if filled == front.len() {
            front.resize(wanted, 0);
        }
    }
}
