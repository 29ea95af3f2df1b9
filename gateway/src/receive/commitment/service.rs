//! What a session does for storage commitment: takes requests, and sends reports between two messages.

use std::sync::Arc;
use std::time::Instant;

use log::{debug, warn};

use super::call::{Prepared, command, context_for_reports};
use super::{ANSWER, Asker, Commitments, Party, QUIET, Refused};
use crate::association::negotiation::COMMITMENT;
use crate::association::{Association, AssociationError};
use crate::clock;
use crate::config::{CommitmentLevel, Modality};
use crate::dimse::commitment::{InformationReader, REQUEST_COMMITMENT, Unusable, WELL_KNOWN_INSTANCE};
use crate::dimse::{Command, NAction, Response, Status};
use crate::model::{AeTitle, Uid};

/// An N-ACTION whose action information is being received.
pub(in crate::receive) struct Action {
    request: NAction,
    /// Nothing if the request is refused whatever it says.
    reader: Result<InformationReader, Response>,
}

impl Action {
    /// Begins to receive a request on a context of this abstract and transfer syntax.
    pub(in crate::receive) fn begin(
        request: NAction,
        abstract_syntax: &Uid,
        transfer_syntax: &Uid,
        commitments: &Commitments,
    ) -> Self {
        let checked = if abstract_syntax.as_str() == COMMITMENT {
            request.check(COMMITMENT, WELL_KNOWN_INSTANCE, REQUEST_COMMITMENT)
        } else {
            let refusal = Response::to(&Command::NAction(request.clone()), Status::UNRECOGNIZED_OPERATION);
            Err(refusal.with_comment("the presentation context is not for storage commitment"))
        };
        Self { request, reader: checked.map(|()| InformationReader::new(transfer_syntax, commitments.reading.share())) }
    }

    /// Takes the next bytes of the action information.
    pub(in crate::receive) fn write(&mut self, bytes: &[u8]) {
        if let Ok(reader) = &mut self.reader {
            reader.feed(bytes);
        }
    }

    /// The action information is whole: keeps the request, or says why not. Status 0000 is made from the word that it is
    /// on stable storage, and nowhere else.
    async fn finish(self, asker: Asker, commitments: &Arc<Commitments>) -> Response {
        let command = Command::NAction(self.request);
        let modality = asker.party.clone();
        let refused = |refusal: Response, why: &str| {
            warn!(modality:%; "storage commitment refused with status {}: {why}", refusal.status);
            refusal
        };
        let reader = match self.reader {
            Ok(reader) => reader,
            Err(refusal) => {
                let why = refusal.comment.clone().unwrap_or_default();
                return refused(refusal, &why);
            }
        };
        let read = reader
            .finish()
            .and_then(|read| if read.0.references.is_empty() { Err(Unusable::NoReferences) } else { Ok(read) });
        let (request, share) = match read {
            Ok(read) => read,
            Err(unusable) => {
                let why = unusable.to_string();
                return refused(Response::to(&command, unusable.status()).with_comment(&why), &why);
            }
        };
        let commitments = Arc::clone(commitments);
        let accepting = tokio::task::spawn_blocking(move || {
            let accepted = commitments.accept(asker, request.transaction, request.references);
            drop(share);
            accepted
        });
        match accepting.await.unwrap_or_else(|error| Err(Refused::Failed(error.to_string()))) {
            Ok(()) => Response::to(&command, Status::SUCCESS),
            Err(error) => {
                let (status, comment) = match error {
                    Refused::Full(_) => (Status::RESOURCE_LIMITATION, "Too many requests wait; ask again later"),
                    Refused::NoRoom => (Status::RESOURCE_LIMITATION, "No room on the gateway's disk; ask again later"),
                    Refused::Failed(_) => (Status::PROCESSING_FAILURE, "The gateway's disk failed; ask again later"),
                };
                refused(Response::to(&command, status).with_comment(comment), &error.to_string())
            }
        }
    }
}

/// What a session knows about reports on its association.
pub(in crate::receive) struct Reporting {
    commitments: Arc<Commitments>,
    modality: Party,
    /// What it calls us.
    called: AeTitle,
    /// The context for reports; nothing if none was accepted, or if a report was not answered.
    context: Option<(u8, Uid)>,
    message_id: u16,
    /// The report that was sent and is not answered, and until when the answer is waited for.
    outstanding: Option<(Prepared, Instant)>,
}

/// What there is to do while nothing else happens.
pub(in crate::receive) enum Idle {
    /// A report can be sent.
    Report(super::Lease),
    /// The answer to the last one has not come.
    Unanswered,
}

impl Reporting {
    pub(in crate::receive) fn new(association: &Association, modality: Party, commitments: &Arc<Commitments>) -> Self {
        let context = context_for_reports(association);
        let called = association.request().called_ae.clone();
        if context.is_some() {
            commitments.desk.listens(&modality);
        }
        Self { commitments: Arc::clone(commitments), modality, called, context, message_id: 0, outstanding: None }
    }

    /// Answers a request that has come to its end.
    pub(in crate::receive) async fn accept(&self, action: Action, modality: Option<&Modality>) -> Response {
        let level = modality.map_or(CommitmentLevel::Safe, |modality| modality.commitment);
        let asker = Asker { party: self.modality.clone(), called: self.called.clone(), level };
        action.finish(asker, &self.commitments).await
    }

    /// Waits, while the association is silent, for something to do. Can be dropped and called again without loss.
    pub(in crate::receive) async fn idle(&self) -> Idle {
        if let Some((_, until)) = &self.outstanding {
            tokio::time::sleep_until((*until).into()).await;
            return Idle::Unanswered;
        }
        if self.context.is_none() {
            return std::future::pending().await;
        }
        tokio::time::sleep(QUIET).await;
        let is_reachable = || self.commitments.address(&self.modality).is_some();
        Idle::Report(self.commitments.desk.on_own_association(&self.modality, is_reachable).await)
    }

    /// Does it.
    ///
    /// # Errors
    /// The association is over.
    pub(in crate::receive) async fn attend(
        &mut self,
        idle: Idle,
        association: &mut Association,
    ) -> Result<(), AssociationError> {
        let lease = match idle {
            Idle::Report(lease) => lease,
            Idle::Unanswered => {
                // The association lives on for instances; an answer that comes now is for nobody.
                self.hang_up();
                self.ended(Err(format!("no answer within {} s", ANSWER.as_secs()))).await;
                return Ok(());
            }
        };
        let Some((context, transfer_syntax)) = self.context.clone() else { return Ok(()) };
        let mut prepared = match self.commitments.prepare(lease, transfer_syntax).await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Ok(()),
            Err(error) => {
                debug!("no report could be written: {error}");
                return Ok(());
            }
        };
        self.message_id = self.message_id.wrapping_add(1);
        let Ok(command) = command(self.message_id, &prepared.report) else { return Ok(()) };
        association.post(context, &command, &prepared.report.information)?;
        // It is in the output.
        prepared.report.information = Vec::new();
        self.outstanding = Some((prepared, clock::now() + ANSWER));
        Ok(())
    }

    /// The modality has answered.
    pub(in crate::receive) async fn response(&mut self, response: &Response) {
        self.ended(Ok(response.status)).await;
    }

    async fn ended(&mut self, answer: Result<Status, String>) {
        if let Some((prepared, _)) = self.outstanding.take() {
            // An answer that is missing is noted there, and told once.
            let _ = self.commitments.answered(prepared, answer, true).await;
        }
    }

    fn hang_up(&mut self) {
        if self.context.take().is_some() {
            self.commitments.desk.hangs_up(&self.modality);
        }
    }
}

impl Drop for Reporting {
    fn drop(&mut self) {
        self.hang_up();
    }
}
