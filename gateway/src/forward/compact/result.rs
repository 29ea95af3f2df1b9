//! A result: a data set in a smaller transfer syntax, in a file without a name, and its hash.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, Digest, SHA256};

use crate::model::Uid;

/// A result: proved when it was written. Its file goes with the last who holds it.
#[derive(Debug)]
pub(in crate::forward) struct Made {
    file: File,
    /// Its length.
    pub(in crate::forward) bytes: u64,
    hash: Digest,
    /// What it is written in.
    pub(in crate::forward) syntax: Uid,
}

impl Made {
    /// What was written into this file.
    pub(super) fn new(mut file: File, syntax: Uid) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let (mut context, mut bytes, mut buffer) = (Context::new(&SHA256), 0, vec![0; 64 << 10]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { file, bytes, hash: context.finish(), syntax }),
                count => {
                    context.update(buffer.get(..count).unwrap_or_default());
                    bytes += count as u64;
                }
            }
        }
    }

    /// Reads it from its beginning, whoever else does; fails at the end if it is not what was written.
    pub(in crate::forward) fn open(self: &Arc<Self>) -> impl Read + Send + 'static {
        Checked { made: Arc::clone(self), context: Some(Context::new(&SHA256)), at: 0 }
    }
}

/// See [`Made::open`].
struct Checked {
    made: Arc<Made>,
    /// Nothing once the end was reached.
    context: Option<Context>,
    at: u64,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.made.file.read_at(buffer, self.at)?;
        if let Some(context) = &mut self.context {
            context.update(buffer.get(..count).unwrap_or_default());
        }
        self.at += count as u64;
        if self.at >= self.made.bytes
            && let Some(context) = self.context.take()
            && context.finish().as_ref() != self.made.hash.as_ref()
        {
            return Err(io::Error::other("what was made smaller for the wire has changed on this disk"));
        }
        if count == 0 && self.at < self.made.bytes && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

/// A file that grows no longer than is worth it, and only as long as it is wanted.
pub(super) struct Capped<'a, W> {
    file: &'a mut File,
    at: u64,
    most: u64,
    is_wanted: W,
}

impl<'a, W: Fn() -> bool> Capped<'a, W> {
    /// At most so many bytes, as long as `is_wanted` says so.
    pub(super) fn new(file: &'a mut File, most: u64, is_wanted: W) -> Self {
        Self { file, at: 0, most, is_wanted }
    }
}

impl<W: Fn() -> bool> Write for Capped<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !(self.is_wanted)() {
            return Err(io::Error::other("it is not wanted any more"));
        }
        if self.at.saturating_add(bytes.len() as u64) > self.most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it would not be smaller"));
        }
        let count = self.file.write(bytes)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<W> Seek for Capped<'_, W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::JPEG_LS;

    fn made(bytes: &[u8]) -> Arc<Made> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(Made::new(file, JPEG_LS.parse().unwrap()).unwrap())
    }

    #[test]
    fn a_result_that_has_changed_or_is_cut_off_is_not_read_to_its_end() {
        let sound = made(&[7; 100_000]);
        let (mut one, mut other) = (sound.open(), sound.open());
        for reader in [&mut one as &mut dyn Read, &mut other] {
            let mut whole = Vec::new();
            reader.read_to_end(&mut whole).unwrap();
            assert_eq!(whole, [7; 100_000]);
        }
        let changed = made(&[7; 100_000]);
        changed.file.write_all_at(&[8], 99_999).unwrap();
        assert!(changed.open().read_to_end(&mut Vec::new()).is_err());
        let cut = made(&[7; 100_000]);
        cut.file.set_len(99_999).unwrap();
        assert!(cut.open().read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_result_that_would_not_be_smaller_or_is_not_wanted_any_more_is_given_up() {
        let mut file = tempfile::tempfile().unwrap();
        let mut capped = Capped::new(&mut file, 10, || true);
        capped.write_all(&[0; 10]).unwrap();
        assert!(capped.write_all(&[0]).is_err());
        capped.seek(SeekFrom::Start(4)).unwrap();
        capped.write_all(&[1; 4]).unwrap();
        assert!(Capped::new(&mut file, 10, || false).write_all(&[0]).is_err());
    }
}
