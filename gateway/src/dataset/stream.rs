//! What all have in common who read a data set and make another one of it.

use std::io::{self, Read};

use super::inflate::InflateReader;

/// The bytes of a data set, inflated if need be.
#[derive(Debug)]
pub(crate) enum Source<R> {
    /// As they come.
    Plain(R),
    /// The data set is deflated.
    Deflated(InflateReader<R>),
}

impl<R: Read> Source<R> {
    /// The data set that `source` gives, which is deflated or not.
    pub(crate) fn new(source: R, deflated: bool) -> Self {
        if deflated { Self::Deflated(InflateReader::new(source)) } else { Self::Plain(source) }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Deflated(source) => source.read(buffer),
        }
    }
}

/// Reads once, however often a signal interrupts it.
pub(crate) fn read_some(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads until the buffer is full or the source ends. What a deflater makes of its input depends on the pieces in which
/// it comes: they must not depend on how the source happens to be read.
pub(crate) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match read_some(source, room)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// What has been made and not been read yet, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The present piece.
    pub(crate) bytes: Vec<u8>,
    read: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    UnderWay,
    Ended,
    Failed,
}

impl Outgoing {
    /// Answers a read, if the answer is there; otherwise the next piece has to be made. After a failure every read fails.
    pub(crate) fn answer(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        let ready = self.bytes.get(self.read..).unwrap_or_default();
        match self.state {
            State::Failed => Some(Err(io::Error::other("making the data set failed before"))),
            State::Ended if ready.is_empty() => Some(Ok(0)),
            State::UnderWay if ready.is_empty() => None,
            State::Ended | State::UnderWay => {
                let count = ready.len().min(buffer.len());
                if let (Some(to), Some(from)) = (buffer.get_mut(..count), ready.get(..count)) {
                    to.copy_from_slice(from);
                }
                self.read += count;
                Some(Ok(count))
            }
        }
    }

    /// Makes room for the next piece.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.read = 0;
    }

    /// The present piece is the last.
    pub(crate) fn end(&mut self) {
        self.state = State::Ended;
    }

    /// There is no next piece.
    pub(crate) fn fail(&mut self) {
        self.state = State::Failed;
    }
}
