//! A request as it streams in: [`InformationReader`], within what all requests that are being read may hold together.

use super::budget::Share;
use crate::dimse::Status;
use crate::dimse::commitment::{self, InformationReader, Reference};
use crate::model::Uid;

/// What a modality asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) uid: Uid,
    pub(super) references: Vec<Reference>,
}

/// Why action information is no request. The sentences fit an Error Comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error(transparent)]
    Information(#[from] commitment::Unusable),
    /// It is not too much by itself.
    #[error("Too many instances are asked for at once; ask again later.")]
    TooManyAtOnce,
}

impl Unusable {
    /// The status that it is answered with.
    pub(super) fn status(self) -> Status {
        match self {
            Self::Information(unusable) => unusable.status(),
            Self::TooManyAtOnce => Status::RESOURCE_LIMITATION,
        }
    }
}

/// Reads a data set of storage commitment that is pushed, and holds no more of it than it gets as its share.
#[derive(Debug)]
pub(in crate::receive) struct SharingReader {
    reader: InformationReader,
    /// Of what all that are being read may hold; less than that once it has failed.
    share: Share,
    crowded: bool,
}

impl SharingReader {
    pub(super) fn new(transfer_syntax: &Uid, share: Share) -> Self {
        Self { reader: InformationReader::new(transfer_syntax), share, crowded: false }
    }

    /// Takes the next bytes. After the first thing that is wrong they are only read over.
    pub(in crate::receive) fn feed(&mut self, bytes: &[u8]) {
        if self.crowded {
            return;
        }
        self.reader.feed(bytes);
        if !self.share.cover(self.reader.held()) {
            self.crowded = true;
            self.share.cover(0);
        }
    }

    /// What the data set says, when there are no more bytes, and its share, which is to be held as long as that.
    pub(super) fn finish(self) -> Result<(commitment::Information, Share), Unusable> {
        if self.crowded {
            return Err(Unusable::TooManyAtOnce);
        }
        Ok((self.reader.finish()?, self.share))
    }

    /// The request, and its share.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn request(self) -> Result<(Request, Share), Unusable> {
        let (information, share) = self.finish()?;
        if information.references.is_empty() {
            return Err(commitment::Unusable::NoReferences.into());
        }
        Ok((Request { uid: information.transaction, references: information.references }, share))
    }
}
