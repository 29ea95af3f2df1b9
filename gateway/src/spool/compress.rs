//! Compression of a payload while it streams in.
//!
//! Whether it pays is decided once per instance, from its first bytes: pixel data that a modality has compressed already
//! does not shrink again, and trying costs the processor more than everything else that happens to an instance.

use std::io;
use std::sync::{Arc, Mutex};

use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use super::error::SpoolError;
use super::record::Compression;

/// How many bytes the decision is taken from.
const SAMPLE: usize = 256 << 10;
/// The window of a frame, as a power of two: it decides how much memory encoder and decoder take.
const WINDOW_LOG: u32 = 19;
const OUTPUT: usize = 128 << 10;

/// Where compressed bytes go.
pub(super) type Target<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), SpoolError>;

/// Encoders to be used again: one takes about a MiB, and making one takes longer than compressing a small instance.
pub(super) struct Pool {
    level: i32,
    idle: Mutex<Vec<Machine>>,
}

impl Pool {
    pub(super) fn new(level: i32) -> Self {
        Self { level, idle: Mutex::new(Vec::new()) }
    }

    fn take(&self) -> io::Result<Machine> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        idle.map_or_else(|| Machine::new(self.level), Ok)
    }

    fn give_back(&self, mut machine: Machine) {
        const KEPT: usize = 8;
        if machine.encoder.reinit().is_ok()
            && let Ok(mut idle) = self.idle.lock()
            && idle.len() < KEPT
        {
            idle.push(machine);
        }
    }
}

struct Machine {
    encoder: Encoder<'static>,
    output: Vec<u8>,
}

impl Machine {
    fn new(level: i32) -> io::Result<Self> {
        let mut encoder = Encoder::new(level)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        Ok(Self { encoder, output: vec![0; OUTPUT] })
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
}

fn refused(error: io::Error) -> SpoolError {
    SpoolError::Compress(Arc::new(error))
}

/// Compresses one payload.
pub(super) struct Compressor {
    pool: Arc<Pool>,
    state: State,
}

enum State {
    /// Not decided yet: what has come so far.
    Sampling(Vec<u8>),
    Stored,
    Zstd(Box<Machine>),
}

impl Compressor {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self { pool: Arc::clone(pool), state: State::Sampling(Vec::new()) }
    }

    /// Takes more of the data set, gives what comes out of it to `target`.
    ///
    /// # Errors
    /// Those of `target`, or the encoder is out of memory.
    pub(super) fn write(&mut self, mut data: &[u8], target: Target<'_>) -> Result<(), SpoolError> {
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
            State::Zstd(machine) => machine.run(data, target),
            State::Stored | State::Sampling(_) if data.is_empty() => Ok(()),
            State::Stored | State::Sampling(_) => target(data),
        }
    }

    /// Ends the payload.
    ///
    /// # Errors
    /// As for [`Compressor::write`].
    pub(super) fn finish(mut self, target: Target<'_>) -> Result<Compression, SpoolError> {
        if matches!(self.state, State::Sampling(_)) {
            self.decide(true, target)?;
        } else if let State::Zstd(machine) = &mut self.state {
            machine.drain(true, target)?;
        }
        match std::mem::replace(&mut self.state, State::Stored) {
            State::Zstd(machine) => {
                self.pool.give_back(*machine);
                Ok(Compression::Zstd)
            }
            State::Stored | State::Sampling(_) => Ok(Compression::Stored),
        }
    }

    /// Compresses the sample, and goes on with whatever is worth it.
    fn decide(&mut self, last: bool, target: Target<'_>) -> Result<(), SpoolError> {
        let State::Sampling(sample) = std::mem::replace(&mut self.state, State::Stored) else { return Ok(()) };
        let mut machine = self.pool.take().map_err(refused)?;
        let mut trial = Vec::new();
        let mut collect = |bytes: &[u8]| {
            trial.extend_from_slice(bytes);
            Ok(())
        };
        machine.run(&sample, &mut collect)?;
        machine.drain(last, &mut collect)?;
        let worth_it = trial.len() + sample.len() / 33 < sample.len();
        if worth_it {
            self.state = State::Zstd(Box::new(machine));
            target(&trial)
        } else {
            self.pool.give_back(machine);
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
        let compression = compressor.finish(&mut target).unwrap();
        (compression, out)
    }

    fn decompress(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        zstd::Decoder::new(bytes).unwrap().take(100 << 20).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn what_shrinks_is_compressed_and_what_does_not_is_stored() {
        let pool = Arc::new(Pool::new(1));
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
    fn an_encoder_that_is_used_again_starts_afresh() {
        let pool = Arc::new(Pool::new(1));
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
