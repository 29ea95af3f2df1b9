//! Compression of a payload while it streams in.
//!
//! Uncompressed pixel data goes through the filter of [`codec`](crate::codec) and then through zstd, always: what the
//! filter leaves is worth coding, and if it ever is not, zstd stores it with a few bytes more. For everything else,
//! whether it pays is decided once per instance, from its first bytes: pixel data that a modality has compressed already
//! may shrink again (Motion JPEG of ultrasound) or not (JPEG 2000), and trying costs the processor more than everything
//! else that happens to an instance.
//!
//! # Two gears
//!
//! As long as there are no more receptions than processor cores, each has one to itself, or two ([`super::packer`]), and
//! compression is faster than a network that a modality has. When there are more, they compress in the fast gear, each for
//! the whole of its instance, which is faster by a third to a half and up to a tenth larger; filtered words of 16 bits are
//! as fast as they can be in either. Nothing is measured but how many encoders are out.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::ParamSwitch;

use super::error::SpoolError;
use super::record::Compression;
use crate::codec::{Filter, FilterWriter, Piece, PixelLayout};

/// How many bytes the decision is taken from.
const SAMPLE: usize = 256 << 10;
/// The window of a frame, as a power of two: it decides how much memory encoder and decoder take.
const WINDOW_LOG: u32 = 19;
const OUTPUT: usize = 128 << 10;

/// How zstd works: `target_length` makes level 1 skip ahead where it finds nothing to repeat, the faster the larger;
/// `hash_log` is how much it remembers of what it has seen, as a power of two, 0 as much as the level says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gear {
    level: i32,
    target_length: u32,
    hash_log: u32,
}

/// Behind the filter words of 16 bits seldom repeat, and what does is runs, which are near. Looking only for those is
/// faster, to read again as well, and no larger. Narrow words do repeat.
const WORDS: Gear = Gear { level: 1, target_length: 2, hash_log: 8 };
/// The fast gear for everything else.
const FAST: Gear = Gear { level: 1, target_length: 64, hash_log: 0 };

/// Where compressed bytes go.
pub(super) type Target<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), SpoolError>;

/// Encoders to be used again: one takes about two MiB, and making one takes longer than compressing a small instance.
pub(super) struct Pool {
    level: i32,
    cores: usize,
    out: AtomicUsize,
    idle: Mutex<Vec<Machine>>,
}

impl Pool {
    pub(super) fn new(level: i32, cores: usize) -> Self {
        Self { level, cores, out: AtomicUsize::new(0), idle: Mutex::new(Vec::new()) }
    }

    /// An encoder at the start of a frame; for filtered `words` of 16 bits or for anything else.
    fn take(self: &Arc<Self>, words: bool) -> Result<Loan, SpoolError> {
        let others = self.out.fetch_add(1, Ordering::Relaxed);
        let mut loan = Loan { pool: Arc::clone(self), machine: None };
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut machine = idle.map_or_else(Machine::new, Ok).map_err(refused)?;
        machine.shift(self.gear(words, others < self.cores)).map_err(refused)?;
        loan.machine = Some(machine);
        Ok(loan)
    }

    fn gear(&self, words: bool, calm: bool) -> Gear {
        match (calm, words, self.level) {
            (false, true, _) | (true, true, 1) => WORDS,
            (false, false, _) => FAST,
            (true, _, level) => Gear { level, target_length: 0, hash_log: 0 },
        }
    }
}

/// An encoder that is out; comes back by being [returned](Loan::give_back), and is gone with a reception that failed.
struct Loan {
    pool: Arc<Pool>,
    machine: Option<Machine>,
}

impl Loan {
    /// The machine is only taken away at the end.
    fn with<T>(&mut self, work: impl FnOnce(&mut Machine) -> Result<T, SpoolError>) -> Result<T, SpoolError> {
        self.machine.as_mut().map_or_else(|| Err(refused(io::Error::other("the encoder is gone"))), work)
    }

    fn give_back(mut self) {
        const KEPT: usize = 8;
        if let Some(mut machine) = self.machine.take()
            && machine.encoder.reinit().is_ok()
            && let Ok(mut idle) = self.pool.idle.lock()
            && idle.len() < KEPT
        {
            idle.push(machine);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.out.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Machine {
    encoder: Encoder<'static>,
    output: Vec<u8>,
    /// The filter of the instance before, for its memory.
    writer: Option<FilterWriter>,
}

impl Machine {
    fn new() -> io::Result<Self> {
        let mut encoder = Encoder::new(1)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        // Skipping ahead would switch the coding of literals off, which are all that matters here.
        encoder.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable))?;
        Ok(Self { encoder, output: vec![0; OUTPUT], writer: None })
    }

    /// Changes the gear, at the start of a frame.
    fn shift(&mut self, gear: Gear) -> io::Result<()> {
        self.encoder.set_parameter(CParameter::CompressionLevel(gear.level))?;
        self.encoder.set_parameter(CParameter::TargetLength(gear.target_length))?;
        self.encoder.set_parameter(CParameter::HashLog(gear.hash_log))
    }

    fn run(&mut self, data: &[u8], target: Target<'_>) -> Result<(), SpoolError> {
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            let mut output = OutBuffer::around(&mut self.output[..]);
            self.encoder.run(&mut input, &mut output).map_err(refused)?;
            target(output.as_slice())?;
        }
        Ok(())
    }

    /// Brings out what the encoder holds back, and ends the frame if it is the `last`.
    fn drain(&mut self, last: bool, target: Target<'_>) -> Result<(), SpoolError> {
        loop {
            let mut output = OutBuffer::around(&mut self.output[..]);
            let left = if last { self.encoder.finish(&mut output, true) } else { self.encoder.flush(&mut output) };
            let left = left.map_err(refused)?;
            target(output.as_slice())?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn piece(&mut self, piece: Piece<'_>, target: Target<'_>) -> Result<(), SpoolError> {
        match piece {
            Piece::Bytes(bytes) => self.run(bytes, target),
            Piece::Cut => self.drain(false, target),
        }
    }
}

fn refused(error: io::Error) -> SpoolError {
    SpoolError::Compress(Arc::new(error))
}

/// How a payload was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) compression: Compression,
    pub(super) filter: Option<Filter>,
}

/// Compresses one payload.
pub(super) struct Compressor {
    pool: Arc<Pool>,
    state: State,
    /// How many bytes of the data set have come.
    position: u64,
}

enum State {
    /// Not decided yet: what has come so far.
    Sampling(Vec<u8>),
    Stored,
    Zstd(Loan),
    Filtered(Loan, Filter, Box<FilterWriter>),
}

impl Compressor {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), state: State::Sampling(Vec::new()), position: 0 }
    }

    /// Tells where pixels are. Ignored when they are behind already, when no filter fits, and when the bytes in front of
    /// them were enough to decide.
    ///
    /// # Errors
    /// Those of `target`, or the encoder is out of memory.
    pub(super) fn pixels(&mut self, layout: &PixelLayout, target: Target<'_>) -> Result<(), SpoolError> {
        let State::Sampling(sample) = &mut self.state else { return Ok(()) };
        let Some(filter) = Filter::fitting(layout).filter(|filter| filter.offset() >= self.position) else {
            return Ok(());
        };
        let sample = std::mem::take(sample);
        let mut loan = self.pool.take(filter.is_wide())?;
        let writer = loan.with(|machine| {
            machine.run(&sample, target)?;
            Ok(match machine.writer.take() {
                Some(writer) => writer.again(filter, self.position),
                None => FilterWriter::new(filter, self.position),
            })
        })?;
        self.state = State::Filtered(loan, filter, Box::new(writer));
        Ok(())
    }

    /// Takes more of the data set, gives what comes out of it to `target`.
    ///
    /// # Errors
    /// Those of `target`, or the encoder is out of memory.
    pub(super) fn write(&mut self, mut data: &[u8], target: Target<'_>) -> Result<(), SpoolError> {
        self.position += data.len() as u64;
        if let State::Sampling(sample) = &mut self.state {
            let (wanted, rest) = data.split_at_checked(SAMPLE - sample.len()).unwrap_or((data, &[]));
            sample.extend_from_slice(wanted);
            if sample.len() < SAMPLE {
                return Ok(());
            }
            data = rest;
            self.decide(false, target)?;
        }
        match &mut self.state {
            State::Zstd(loan) => loan.with(|machine| machine.run(data, target)),
            State::Filtered(loan, _, writer) => {
                loan.with(|machine| writer.write(data, &mut |piece| machine.piece(piece, target)))
            }
            State::Stored | State::Sampling(_) if data.is_empty() => Ok(()),
            State::Stored | State::Sampling(_) => target(data),
        }
    }

    /// Ends the payload.
    ///
    /// # Errors
    /// As for [`Compressor::write`].
    pub(super) fn finish(mut self, target: Target<'_>) -> Result<Stored, SpoolError> {
        if matches!(self.state, State::Sampling(_)) {
            self.decide(true, target)?;
            if let State::Zstd(loan) = self.state {
                loan.give_back();
                return Ok(Stored { compression: Compression::Zstd, filter: None });
            }
        }
        match self.state {
            State::Zstd(mut loan) => {
                loan.with(|machine| machine.drain(true, target))?;
                loan.give_back();
                Ok(Stored { compression: Compression::Zstd, filter: None })
            }
            State::Filtered(mut loan, filter, mut writer) => {
                loan.with(|machine| {
                    writer.finish(&mut |piece| machine.piece(piece, target))?;
                    machine.writer = Some(*writer);
                    machine.drain(true, target)
                })?;
                loan.give_back();
                Ok(Stored { compression: Compression::Zstd, filter: Some(filter) })
            }
            State::Stored | State::Sampling(_) => Ok(Stored { compression: Compression::Stored, filter: None }),
        }
    }

    /// Compresses the sample, and goes on with whatever is worth it.
    fn decide(&mut self, last: bool, target: Target<'_>) -> Result<(), SpoolError> {
        let State::Sampling(sample) = std::mem::replace(&mut self.state, State::Stored) else { return Ok(()) };
        let mut loan = self.pool.take(false)?;
        let mut trial = Vec::new();
        let mut collect = |bytes: &[u8]| {
            trial.extend_from_slice(bytes);
            Ok(())
        };
        loan.with(|machine| {
            machine.run(&sample, &mut collect)?;
            machine.drain(last, &mut collect)
        })?;
        let worth_it = trial.len() + sample.len() / 33 < sample.len();
        if worth_it {
            self.state = State::Zstd(loan);
            target(&trial)
        } else {
            loan.give_back();
            target(&sample)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn compress(pool: &Arc<Pool>, data: &[u8], piece: usize) -> (Compression, Vec<u8>) {
        let mut out = Vec::new();
        let mut target = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok(())
        };
        let mut compressor = Compressor::new(pool);
        for piece in data.chunks(piece) {
            compressor.write(piece, &mut target).unwrap();
        }
        let compression = compressor.finish(&mut target).unwrap().compression;
        (compression, out)
    }

    fn decompress(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        zstd::Decoder::new(bytes).unwrap().take(100 << 20).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn what_shrinks_is_compressed_and_what_does_not_is_stored() {
        let pool = Arc::new(Pool::new(1, 2));
        let smooth: Vec<u8> = (0..2_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        let mut noise = vec![0; 2_000_000];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        for length in [0, 1, 1_000, SAMPLE - 1, SAMPLE, SAMPLE + 1, 2_000_000] {
            for piece in [4_093, 700_000] {
                let (compression, out) = compress(&pool, &smooth[..length], piece);
                if length >= 1_000 {
                    assert_eq!(compression, Compression::Zstd);
                    assert!(out.len() * 2 < length);
                    assert!(decompress(&out) == smooth[..length], "{length}");
                }
                let (compression, out) = compress(&pool, &noise[..length], piece);
                assert_eq!(compression, Compression::Stored);
                assert!(out == noise[..length], "{length}");
            }
        }
    }

    #[test]
    fn more_receptions_than_cores_compress_in_the_fast_gear() {
        let pool = Arc::new(Pool::new(1, 2));
        assert_eq!((pool.gear(true, true), pool.gear(true, false), pool.gear(false, false)), (WORDS, WORDS, FAST));
        let level = |level| Gear { level, target_length: 0, hash_log: 0 };
        assert_eq!((pool.gear(false, true), Pool::new(7, 2).gear(true, true)), (level(1), level(7)));
        assert_eq!((Pool::new(7, 2).gear(true, false), Pool::new(7, 2).gear(false, false)), (WORDS, FAST));
        // Encoders that were out are counted back, those of failed receptions, too.
        let first = pool.take(true).unwrap();
        let second = pool.take(true).unwrap();
        assert_eq!(pool.out.load(Ordering::Relaxed), 2);
        first.give_back();
        drop(second);
        assert_eq!(pool.out.load(Ordering::Relaxed), 0);
        // What was compressed in one gear and in another is the same when it comes out.
        let data: Vec<u8> = (0..1_000_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let _others: Vec<Loan> = (0..3).map(|_| pool.take(true).unwrap()).collect();
        assert!(decompress(&compress(&pool, &data, 100_000).1) == data);
    }

    #[test]
    fn an_encoder_that_is_used_again_starts_afresh() {
        let pool = Arc::new(Pool::new(1, 2));
        let data = vec![7; 1_000_000];
        let mut compressor = Compressor::new(&pool);
        compressor.write(&data, &mut |_| Ok(())).unwrap();
        drop(compressor);
        let first = compress(&pool, &data, 100_000).1;
        let second = compress(&pool, &data, 100_000).1;
        assert_eq!(first, second);
        assert!(decompress(&second) == data);
    }
}
