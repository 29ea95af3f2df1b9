//! Deflated data sets (PS3.5 A.5): one raw deflate stream (RFC 1951) and at most a zero byte behind it, to make the
//! length even. Some writers leave the checksum and length of a gzip file there; a few bytes of anything are let pass.
//!
//! Both directions stream through one buffer of fixed size. What a hostile stream can cost is bounded: [`Inflater`]
//! stops at a limit of inflated bytes, and [`InflateReader`], which is used on what was accepted before, is bounded by
//! its reader's pace. A stream that ends before its last block is an error in both; the readers of the underlying
//! library would report it as a quiet end.

use std::io::{self, Read, Write};

use flate2::{Compression, Decompress, FlushDecompress, Status, write::DeflateEncoder};

use super::defect::Defect;

/// The size of the buffers, in bytes.
const BUFFER: usize = 32 * 1024;

/// How many bytes of anything may stand behind the last block: the trailer of a gzip file and its padding.
const TRAILER: usize = 9;

/// Where an [`Inflater`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More may follow.
    Inflating,
    /// The last block is complete; a few bytes may follow, and zero bytes.
    Ended,
    /// The limit has been reached; nothing more is inflated and whatever follows is not looked at.
    LimitReached,
}

/// Inflates what is pushed, up to a limit.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    buffer: Vec<u8>,
    left: u64,
    progress: Progress,
    trailer: Trailer,
}

/// Watches what stands behind the last block.
#[derive(Debug, Default)]
struct Trailer {
    seen: usize,
}

impl Trailer {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), Defect> {
        let allowed = TRAILER.saturating_sub(self.seen);
        self.seen = self.seen.saturating_add(bytes.len());
        if bytes.iter().skip(allowed).any(|byte| *byte != 0) { Err(Defect::AfterDeflate) } else { Ok(()) }
    }
}

impl Inflater {
    /// Inflates at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            stream: Decompress::new(false),
            buffer: vec![0; BUFFER],
            left: limit,
            progress: Progress::Inflating,
            trailer: Trailer::default(),
        }
    }

    /// Takes the next deflated bytes and passes on what they inflate to.
    ///
    /// # Errors
    /// The stream is damaged or followed by garbage, or `sink` refused.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), Defect>,
    ) -> Result<Progress, Defect> {
        loop {
            match self.progress {
                Progress::LimitReached => return Ok(self.progress),
                Progress::Ended => {
                    self.trailer.feed(bytes)?;
                    return Ok(self.progress);
                }
                Progress::Inflating => {}
            }
            let room = self.buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let step = inflate_step(&mut self.stream, bytes, &mut self.buffer[..room])?;
            bytes = bytes.get(step.taken..).unwrap_or_default();
            sink(self.buffer.get(..step.made).unwrap_or_default())?;
            self.left = self.left.saturating_sub(step.made as u64);
            if step.ended {
                self.progress = Progress::Ended;
            } else if self.left == 0 {
                self.progress = Progress::LimitReached;
            } else if bytes.is_empty() && step.made < room {
                return Ok(self.progress);
            } else if step.taken == 0 && step.made == 0 {
                return Err(Defect::BadDeflate);
            }
        }
    }

    /// Tells that there are no more bytes.
    ///
    /// # Errors
    /// The last block is missing.
    pub fn finish(&self) -> Result<(), Defect> {
        if self.progress == Progress::Inflating { Err(Defect::CutDeflate) } else { Ok(()) }
    }
}

struct Step {
    taken: usize,
    made: usize,
    ended: bool,
}

fn inflate_step(stream: &mut Decompress, bytes: &[u8], room: &mut [u8]) -> Result<Step, Defect> {
    let (taken, made) = (stream.total_in(), stream.total_out());
    let status = stream.decompress(bytes, room, FlushDecompress::None).map_err(|_| Defect::BadDeflate)?;
    let since = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
    Ok(Step {
        taken: since(stream.total_in(), taken),
        made: since(stream.total_out(), made),
        ended: status == Status::StreamEnd,
    })
}

/// Reads the inflated bytes of a deflated source; the end is reported only behind the last block.
#[derive(Debug)]
pub struct InflateReader<R> {
    source: R,
    stream: Decompress,
    buffer: Vec<u8>,
    filled: std::ops::Range<usize>,
    ended: bool,
}

impl<R: Read> InflateReader<R> {
    /// Inflates `source`.
    pub fn new(source: R) -> Self {
        Self { source, stream: Decompress::new(false), buffer: vec![0; BUFFER], filled: 0..0, ended: false }
    }

    /// What is read from.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// What was read from, with all that it knows by now.
    pub fn into_source(self) -> R {
        self.source
    }

    /// Reads the source to its end behind the last block: a reader that checks itself has to be asked.
    fn drain(&mut self) -> io::Result<()> {
        let mut trailer = Trailer::default();
        loop {
            trailer
                .feed(self.buffer.get(self.filled.clone()).unwrap_or_default())
                .map_err(|defect| io::Error::new(io::ErrorKind::InvalidData, defect))?;
            if self.refill()? == 0 {
                return Ok(());
            }
        }
    }

    fn refill(&mut self) -> io::Result<usize> {
        self.filled = 0..0;
        let count = self.source.read(&mut self.buffer)?;
        self.filled = 0..count;
        Ok(count)
    }
}

impl<R: Read> Read for InflateReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let invalid = |defect| io::Error::new(io::ErrorKind::InvalidData, defect);
        if out.is_empty() || self.ended {
            return Ok(0);
        }
        loop {
            let at_end = self.filled.is_empty() && self.refill()? == 0;
            let bytes = self.buffer.get(self.filled.clone()).unwrap_or_default();
            let step = inflate_step(&mut self.stream, bytes, out).map_err(invalid)?;
            self.filled.start += step.taken;
            if step.ended {
                self.ended = true;
                self.drain()?;
            }
            if step.made > 0 || self.ended {
                return Ok(step.made);
            }
            if at_end {
                return Err(invalid(Defect::CutDeflate));
            }
        }
    }
}

/// Deflates what is pushed; the output is collected until it is taken.
#[derive(Debug)]
pub struct Deflater {
    stream: DeflateEncoder<Vec<u8>>,
    taken: u64,
}

impl Default for Deflater {
    fn default() -> Self {
        Self { stream: DeflateEncoder::new(Vec::new(), Compression::default()), taken: 0 }
    }
}

impl Deflater {
    /// Takes the next bytes and moves what is deflated so far to the end of `out`.
    ///
    /// # Errors
    /// None that is known; the underlying library has the right to one.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.take(out);
        Ok(())
    }

    /// Completes the stream, padded to an even length.
    ///
    /// # Errors
    /// As [`Deflater::feed`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.stream.try_finish()?;
        self.take(out);
        if !self.taken.is_multiple_of(2) {
            out.push(0);
        }
        Ok(())
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        self.taken += self.stream.get_ref().len() as u64;
        out.append(self.stream.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let (mut deflater, mut out) = (Deflater::default(), Vec::new());
        deflater.feed(bytes, &mut out).unwrap();
        deflater.finish(&mut out).unwrap();
        out
    }

    fn inflated(bytes: &[u8], piece: usize, limit: u64) -> (Result<Progress, Defect>, Vec<u8>) {
        let (mut inflater, mut out) = (Inflater::new(limit), Vec::new());
        let mut result = Ok(Progress::Inflating);
        for piece in bytes.chunks(piece) {
            result = inflater.feed(piece, &mut |bytes| {
                out.extend_from_slice(bytes);
                Ok(())
            });
        }
        (result.and_then(|progress| inflater.finish().map(|()| progress)), out)
    }

    fn sample() -> Vec<u8> {
        (0..200_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect()
    }

    #[test]
    fn what_was_deflated_is_inflated_again_in_pieces_of_any_size() {
        let (plain, packed) = (sample(), deflated(&sample()));
        assert!(packed.len().is_multiple_of(2));
        for piece in [1, 7, 40_000, packed.len()] {
            assert_eq!(inflated(&packed, piece, u64::MAX), (Ok(Progress::Ended), plain.clone()));
        }
        let mut out = Vec::new();
        InflateReader::new(&packed[..]).read_to_end(&mut out).unwrap();
        assert_eq!(out, plain);
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_not_a_quiet_end() {
        let packed = deflated(&[7; 1_000]);
        let last_block = packed.len() - packed.iter().rev().take_while(|byte| **byte == 0).count();
        for end in 0..last_block {
            assert_eq!(inflated(&packed[..end], 100, u64::MAX).0, Err(Defect::CutDeflate), "{end}");
            assert!(InflateReader::new(&packed[..end]).read_to_end(&mut Vec::new()).is_err(), "{end}");
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let packed = deflated(&vec![0; 10_000_000]);
        assert!(packed.len() < 20_000);
        let (progress, out) = inflated(&packed, packed.len(), 1_000_000);
        assert_eq!((progress, out.len()), (Ok(Progress::LimitReached), 1_000_000));
    }

    #[test]
    fn garbage_is_refused_before_and_behind() {
        assert_eq!(inflated(&[0xff; 100], 100, u64::MAX).0, Err(Defect::BadDeflate));
        let mut packed = deflated(&[1, 2, 3]);
        packed.extend([0x4e, 0xd0, 0x58, 0x45, 0x1a, 0x02, 0x04, 0x00, 0, 0, 0, 0]);
        assert_eq!(inflated(&packed, 1, u64::MAX).0, Ok(Progress::Ended));
        packed.push(1);
        assert_eq!(inflated(&packed, 1, u64::MAX).0, Err(Defect::AfterDeflate));
        assert!(InflateReader::new(&packed[..]).read_to_end(&mut Vec::new()).is_err());
    }
}
