//! One N-EVENT-REPORT of storage commitment that comes in: on our association or on the archive's, it is read and
//! answered alike.

use std::sync::Arc;

use log::warn;

use super::{Inquiries, Inquiry, NotHeard, Origin, hear};
use crate::association::Context;
use crate::association::negotiation::COMMITMENT;
use crate::dimse::commitment::{ALL_COMMITTED, FAILURES_EXIST, InformationReader, WELL_KNOWN_INSTANCE};
use crate::dimse::{Command, NEventReport, Response, Status};

/// A report whose event information is being received.
pub struct Report {
    request: NEventReport,
    /// Nothing if it is refused whatever it says.
    reader: Result<InformationReader, Response>,
}

impl Report {
    /// Begins to receive a report on this presentation context.
    #[must_use]
    pub fn begin(request: NEventReport, context: &Context, inquiries: &Inquiries) -> Self {
        let checked = if context.abstract_syntax.as_str() == COMMITMENT {
            request.check(COMMITMENT, WELL_KNOWN_INSTANCE, &[ALL_COMMITTED, FAILURES_EXIST])
        } else {
            let refusal = Response::to(&Command::NEventReport(request.clone()), Status::UNRECOGNIZED_OPERATION);
            Err(refusal.with_comment("the presentation context is not for storage commitment"))
        };
        let share = inquiries.reading.share();
        Self { request, reader: checked.map(|()| InformationReader::new(&context.transfer_syntax, share)) }
    }

    /// The request.
    #[must_use]
    pub fn command(&self) -> Command {
        Command::NEventReport(self.request.clone())
    }

    /// Takes the next bytes of the event information.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Ok(reader) = &mut self.reader {
            reader.feed(bytes);
        }
    }

    /// The event information is whole: what it says is given to the one of `candidates` whose it is, and the answer
    /// returned. Status 0000 is made from the word that it is on stable storage, and nowhere else. Blocking.
    #[must_use]
    pub fn end(self, candidates: &[Arc<Inquiry>], origin: Origin<'_>) -> Response {
        let command = Command::NEventReport(self.request);
        let name = candidates.first().map(|inquiry| inquiry.destination.to_string()).unwrap_or_default();
        let refused = |response: Response, why: &str| {
            warn!(destination:% = name; "a report of storage commitment was refused with status {}: {why}", response.status);
            response
        };
        let reader = match self.reader {
            Ok(reader) => reader,
            Err(refusal) => {
                let why = refusal.comment.clone().unwrap_or_default();
                return refused(refusal, &why);
            }
        };
        let (information, _share) = match reader.finish() {
            Ok(read) => read,
            Err(unusable) => {
                let why = unusable.to_string();
                return refused(Response::to(&command, unusable.status()).with_comment(&why), &why);
            }
        };
        match hear(candidates, &information, origin) {
            Ok(()) => Response::to(&command, Status::SUCCESS),
            Err(error) => {
                let (status, comment) = match error {
                    NotHeard::Unasked => (Status::INVALID_ARGUMENT_VALUE, "This transaction was not asked for"),
                    NotHeard::Spool(_) => (Status::PROCESSING_FAILURE, "It could not be kept; report again later"),
                };
                refused(Response::to(&command, status).with_comment(comment), &error.to_string())
            }
        }
    }
}
