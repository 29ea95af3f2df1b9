//! Fewer bytes for the wire: an instance with native pixels in a transfer syntax in which it is smaller, where the archive
//! takes one ([`crate::pixels`]).
//!
//! - What is written is proved equal to the stored data set, frame by frame, while it is written, into a file that has no
//!   name and goes with whoever holds it. What is then read from it is hashed again before its last fragment leaves.
//! - One instance at a time in the whole box: one core, one file, the memory of one frame or so. Who waits for his turn has
//!   an association of his own, and others send meanwhile.
//! - In doubt the stored data set leaves as it otherwise would: if the result saves less than a twentieth, if the disk has no
//!   room to spare, if a codec disagrees with itself.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use log::{debug, warn};
use nix::sys::statvfs::statvfs;

use super::coerce::Payload;
use crate::dataset::transfer_syntax::{
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN as DEFLATED, EXPLICIT_VR_BIG_ENDIAN as BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN as IMPLICIT,
};
use crate::model::{InstanceId, Uid};
use crate::pixels::{self, EncodeError, Limits};

/// What a result may have of the stored data set, in hundredths: what saves less is not worth a core.
const WORTH_IT: u64 = 95;
/// What stays free on the disk beside a result, in bytes.
const TO_SPARE: u64 = 512 << 20;
/// The longest native frame, in bytes: about six times as much memory is taken.
const FRAME: usize = 32 << 20;

/// Where results are made, one at a time. Clones are the same.
#[derive(Debug, Clone)]
pub struct Workshop {
    folder: PathBuf,
    turn: Arc<Mutex<()>>,
}

/// A result: proved, and ready to leave.
pub(super) struct Compact {
    /// The data set, from its beginning.
    pub(super) source: Box<dyn Read + Send>,
    /// What it is written in.
    pub(super) syntax: Uid,
}

impl Workshop {
    /// In this folder, of which only the disk matters.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, turn: Arc::new(Mutex::new(())) }
    }

    /// Makes an instance of `length` bytes, stored in `from`, smaller in one of the transfer syntaxes that are `offered`.
    /// Nothing if it is to leave as it otherwise would. Blocking.
    pub(super) fn make(
        &self,
        id: InstanceId,
        payload: &Payload,
        (from, length): (&Uid, u64),
        offered: &[Uid],
    ) -> Option<Compact> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        match self.try_to_make(payload, (from, length), offered) {
            Ok(made) => made,
            Err(EncodeError::LeftAlone(why)) if why.is_expected() => {
                debug!(id:%, why = why.name(); "sent in the transfer syntax in which it is stored: {why}");
                None
            }
            Err(EncodeError::LeftAlone(why)) => {
                warn!(id:%, why = why.name(); "a codec has failed, so the instance is sent as it is stored: {why}");
                None
            }
            // Whoever sends it as it is stored will find out what is the matter.
            Err(error) => {
                debug!(id:%; "sent in the transfer syntax in which it is stored: {error}");
                None
            }
        }
    }

    fn try_to_make(
        &self,
        payload: &Payload,
        (from, length): (&Uid, u64),
        offered: &[Uid],
    ) -> Result<Option<Compact>, EncodeError> {
        let open = || payload.open().map_err(|error| EncodeError::Read(io::Error::other(error.to_string())));
        let limits = Limits { frame: FRAME };
        let facts = pixels::look(open()?, from)?;
        let candidates = pixels::candidates(&facts, from, &limits);
        let chosen = candidates.iter().find_map(|syntax| offered.iter().find(|offered| offered.as_str() == *syntax));
        let Some(to) = chosen.filter(|_| self.has_room(length)) else { return Ok(None) };
        let most = length.saturating_mul(WORTH_IT) / 100;
        let mut file = self.file().map_err(EncodeError::Write)?;
        pixels::encode(open()?, from, to, Capped { file: &mut file, at: 0, most }, &limits)?;
        let (bytes, hash) = measured(&mut file).map_err(EncodeError::Write)?;
        let checked = Checked { file, context: Some(Context::new(&SHA256)), left: bytes, hash };
        Ok(Some(Compact { source: Box::new(BufReader::new(checked)), syntax: to.clone() }))
    }

    fn has_room(&self, length: u64) -> bool {
        let free = statvfs(&self.folder).map(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()));
        free.is_ok_and(|free| free >= length.saturating_add(TO_SPARE))
    }

    /// A file without a name.
    fn file(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(nix::libc::O_TMPFILE).open(&self.folder)
    }
}

/// The transfer syntaxes in which an instance may become smaller that is stored in this one.
pub(super) fn smaller(stored: &Uid) -> &'static [&'static str] {
    match stored.as_str() {
        IMPLICIT | EXPLICIT | BIG_ENDIAN => &[pixels::JPEG_LS, pixels::RLE, DEFLATED],
        DEFLATED => &[pixels::JPEG_LS, pixels::RLE],
        _ => &[],
    }
}

/// Length and SHA-256 of a file, which is then at its beginning.
fn measured(file: &mut File) -> io::Result<(u64, Digest)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut context, mut bytes, mut buffer) = (Context::new(&SHA256), 0, vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                context.update(buffer.get(..count).unwrap_or_default());
                bytes += count as u64;
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok((bytes, context.finish()))
}

/// A file that grows no longer than is worth it.
struct Capped<'a> {
    file: &'a mut File,
    at: u64,
    most: u64,
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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

impl Seek for Capped<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// Reads a result and fails at its end if it is not what was written.
struct Checked {
    file: File,
    /// Nothing once the end was reached.
    context: Option<Context>,
    left: u64,
    hash: Digest,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(context) = &mut self.context {
            context.update(buffer.get(..count).unwrap_or_default());
        }
        self.left = self.left.saturating_sub(count as u64);
        if self.left == 0
            && let Some(context) = self.context.take()
            && context.finish().as_ref() != self.hash.as_ref()
        {
            return Err(io::Error::other("what was made smaller for the wire has changed on this disk"));
        }
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8]) -> Checked {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let (left, hash) = measured(&mut file).unwrap();
        Checked { file, context: Some(Context::new(&SHA256)), left, hash }
    }

    #[test]
    fn a_result_that_has_changed_or_is_cut_off_is_not_read_to_its_end() {
        let mut whole = Vec::new();
        checked(&[7; 100_000]).read_to_end(&mut whole).unwrap();
        assert_eq!(whole, [7; 100_000]);
        let mut changed = checked(&[7; 100_000]);
        changed.file.seek(SeekFrom::Start(99_999)).unwrap();
        changed.file.write_all(&[8]).unwrap();
        changed.file.seek(SeekFrom::Start(0)).unwrap();
        assert!(changed.read_to_end(&mut Vec::new()).is_err());
        let mut cut = checked(&[7; 100_000]);
        cut.file.set_len(99_999).unwrap();
        assert!(cut.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_result_that_would_not_be_smaller_is_given_up() {
        let mut file = tempfile::tempfile().unwrap();
        let mut capped = Capped { file: &mut file, at: 0, most: 10 };
        capped.write_all(&[0; 10]).unwrap();
        assert!(capped.write_all(&[0]).is_err());
        capped.seek(SeekFrom::Start(4)).unwrap();
        capped.write_all(&[1; 4]).unwrap();
    }

    #[test]
    fn files_have_no_name_and_room_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let workshop = Workshop::new(folder.path().to_owned());
        workshop.file().unwrap().write_all(b"x").unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!workshop.has_room(u64::MAX / 2));
    }
}
