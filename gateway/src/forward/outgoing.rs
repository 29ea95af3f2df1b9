//! What leaves of an instance, whatever the destination speaks: the stored data set, changed where the configuration asks for
//! it ([`super::coerce`]), and then made smaller where that can be ([`super::compact`]), or converted where the destination
//! wants that ([`super::transcode`]). Whatever is done is tried and compared before a byte may leave.

use std::io::{BufReader, Read};
use std::sync::Arc;

use super::coerce::{Coerced, Coercions, Payload};
use super::compact::{Made, Order, Workshop};
use super::destination::Destination;
use super::transcode::{self, Converter, TranscodeError};
use super::verdict::Verdict;
use crate::model::{ContentHash, DestinationName, InstanceId, Uid};
use crate::spool::{Claim, InstanceHeader, Spool};

/// In what an instance has left, if that is not what is stored.
pub(super) struct SentAs {
    /// The transfer syntax.
    pub(super) syntax: Uid,
    /// If it was made smaller for the way: to how many bytes.
    pub(super) smaller: Option<u64>,
}

/// How many bytes an instance has that was made smaller for the way, if it was.
pub(super) fn smaller(sent_as: Option<&SentAs>) -> Option<u64> {
    sent_as.and_then(|sent_as| sent_as.smaller)
}

/// Where an instance is made smaller, over whose link it goes, and in which transfer syntaxes it may leave.
pub(super) struct Smaller {
    pub(super) workshop: Workshop,
    pub(super) through: Arc<Destination>,
    pub(super) accepted: Vec<Uid>,
}

/// What is needed of a claim to get its instance ready in another thread, and how it may leave.
pub(super) struct Wanted {
    id: InstanceId,
    pub(super) header: InstanceHeader,
    hash: ContentHash,
    pub(super) length: u64,
    owed: DestinationName,
    smaller: Option<Smaller>,
    /// Into what it is converted if it is not made smaller, or why it may not leave then.
    plain: Result<Option<Uid>, Verdict>,
}

impl Wanted {
    pub(super) fn of(claim: &Claim, smaller: Option<Smaller>, plain: Result<Option<Uid>, Verdict>) -> Self {
        let Claim { id, header, hash, length, destination, .. } = claim;
        let (header, owed) = (header.clone(), destination.clone());
        Self { id: *id, header, hash: *hash, length: *length, owed, smaller, plain }
    }

    fn made_smaller(&self, payload: &Payload) -> Option<Arc<Made>> {
        let Self { id, header, hash, length, owed, .. } = self;
        let Smaller { workshop, through, accepted } = self.smaller.as_ref()?;
        workshop.make(&Order { id: *id, header, hash: *hash, length: *length, owed, through, accepted }, payload)
    }
}

/// An instance that is ready.
pub(super) struct Outgoing {
    pub(super) source: Source,
    /// What of it was changed.
    pub(super) coerced: Option<Coerced>,
    pub(super) sent_as: Option<SentAs>,
    /// Bytes of the data set, if that is known before it leaves.
    pub(super) length: Option<u64>,
}

/// From where a data set comes.
pub(super) enum Source {
    /// It was made smaller for the way.
    Smaller(Arc<Made>),
    /// What is stored in `from`, changed if necessary, converted into `to` if that is there.
    Stored { payload: Box<Payload>, from: Uid, to: Option<Uid> },
}

impl Outgoing {
    /// Gets an instance ready. Blocking.
    ///
    /// # Errors
    /// It cannot be read, not be changed as the configuration asks for, or not leave like this.
    pub(super) fn prepare(wanted: &Wanted, spool: &Spool, coercions: &Coercions) -> Result<Self, Verdict> {
        let from = &wanted.header.transfer_syntax;
        let payload = Payload::prepare(spool, wanted.id, &wanted.header, coercions)?;
        if let Some(made) = wanted.made_smaller(&payload) {
            let sent_as = Some(SentAs { syntax: made.syntax.clone(), smaller: Some(made.bytes) });
            let length = Some(made.bytes);
            return Ok(Self { source: Source::Smaller(made), coerced: payload.coerced, sent_as, length });
        }
        let (to, coerced) = (wanted.plain.clone()?, payload.coerced.clone());
        let sent_as = to.clone().map(|syntax| SentAs { syntax, smaller: None });
        let unconverted = coerced.as_ref().map_or(wanted.length, |coerced| coerced.proven.length);
        let length = to.is_none().then_some(unconverted);
        let source = Source::Stored { payload: Box::new(payload), from: from.clone(), to };
        Ok(Self { source, coerced, sent_as, length })
    }
}

impl Source {
    /// Reads it from the beginning; a conversion is tried and compared before. Blocking.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, Verdict> {
        let (payload, from, to) = match self {
            Self::Smaller(made) => return Ok(Box::new(BufReader::new(made.open()))),
            Self::Stored { payload, from, to } => (payload, from, to),
        };
        let open = || payload.open().map_err(|error| Verdict::of_spool(&error));
        let Some(to) = to else { return open() };
        transcode::verify(open()?, from, to).map_err(|error| match error {
            TranscodeError::Read(error) => Verdict::of_payload(&error),
            error => Verdict::Hopeless {
                reason: format!(
                    "the archive does not take the transfer syntax {from}, and a conversion to {to} is not sound: {error} \
                     Enable {from} at the archive"
                ),
            },
        })?;
        let converter =
            Converter::new(open()?, from, to).map_err(|error| Verdict::Hopeless { reason: error.to_string() })?;
        Ok(Box::new(converter))
    }
}
