//! Storage commitment as SCU (PS3.4 J.3): asks, and waits a moment for the report on the same association.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use tokio::time::timeout;

use super::{AT_ONCE, Caller, Desk, Trouble};
use crate::association::negotiation::COMMITMENT;
use crate::association::{Abort, Association, AssociationError, Context, Indication};
use crate::clock;
use crate::dimse::commitment::{self, REQUEST_COMMITMENT, Reference, WELL_KNOWN_INSTANCE};
use crate::dimse::{Command, NAction, Response, Status, StatusClass};
use crate::inquiry::{Inquiries, Inquiry, Origin, Report};
use crate::model::Uid;
use crate::spool::{Unverified, Verification};
use crate::tls;

/// The most requests on one association.
const MOST_REQUESTS: u16 = 20;

/// See the module.
pub(super) struct Commit {
    caller: Caller,
    inquiry: Arc<Inquiry>,
    inquiries: Inquiries,
    /// How long the association stays open for reports.
    hold: Duration,
}

/// What was waited for.
enum Heard {
    /// The answer to the request.
    Response(Response),
    /// A report, and it was answered.
    Report,
    /// The archive has released the association.
    Released,
}

/// An association for storage commitment.
struct Line {
    association: Association,
    context: Context,
    /// A request of the archive whose data set is being received; none that is not a report is read.
    report: Option<(u8, Box<Report>)>,
}

impl Commit {
    pub(super) fn new(caller: Caller, inquiry: Arc<Inquiry>, inquiries: Inquiries, hold: Duration) -> Self {
        Self { caller, inquiry, inquiries, hold }
    }

    /// Asks for these, and for what else is due, and listens for a while.
    pub(super) async fn ask(&mut self, mut claims: Vec<Unverified>, desk: &Desk) -> Result<(), Trouble> {
        let mut line = self.open().await?;
        let mut asked = Vec::new();
        for message_id in 1..=MOST_REQUESTS {
            // While it is in doubt what the archive can take, one request has an association to itself.
            let is_full = claims.len() >= AT_ONCE;
            match self.request(&mut line, message_id, claims, desk).await {
                Ok(transaction) => asked.push(transaction),
                Err(trouble) => {
                    line.association.abort(Abort::BY_USER).await;
                    return Err(trouble);
                }
            }
            if !is_full {
                break;
            }
            claims = desk.claim().map_err(|error| Trouble::Failed(error.to_string()))?;
            if claims.is_empty() {
                break;
            }
        }
        self.listen_for(line, &asked).await;
        Ok(())
    }

    async fn open(&self) -> Result<Line, Trouble> {
        let class = uid(COMMITMENT)?;
        let (association, address) = self.caller.call(&class).await?;
        self.inquiry.reached(address);
        match association.accepted_contexts().first().cloned() {
            Some(context) => Ok(Line { association, context, report: None }),
            None => {
                association.abort(Abort::BY_USER).await;
                Err(Trouble::NotOffered(format!(
                    "{} does not do storage commitment, or not for us, so nothing that was delivered there is \
                     confirmed: enable it at the archive, or set verify = \"query\" or \"none\"",
                    self.caller.peer.aet
                )))
            }
        }
    }

    /// One N-ACTION. What it asks for is recorded as soon as it is answered, unless the report was faster.
    async fn request(
        &self,
        line: &mut Line,
        message_id: u16,
        claims: Vec<Unverified>,
        desk: &Desk,
    ) -> Result<Uid, Trouble> {
        let random = tls::unguessable().ok_or_else(|| Trouble::Failed("the system gives no random numbers".into()))?;
        let transaction = uid(&format!("2.25.{random}"))?;
        let reference = |claim: &Unverified| Reference {
            class: claim.sop_class_uid.clone(),
            instance: claim.sop_instance_uid.clone(),
        };
        let references: Vec<_> = claims.iter().map(reference).collect();
        self.inquiry.asks(&transaction, claims.iter().map(|claim| (&claim.sop_instance_uid, claim.attempt)));
        let information = commitment::write(&transaction, &references, [], &line.context.transfer_syntax);
        let command = Command::NAction(NAction {
            message_id,
            sop_class_uid: uid(COMMITMENT)?,
            sop_instance_uid: uid(WELL_KNOWN_INSTANCE)?,
            action_type: REQUEST_COMMITMENT,
        });
        let patience = self.caller.settings.patience;
        let answered = timeout(patience, self.exchange(line, &command, &information)).await;
        let answered = answered.unwrap_or(Err(AssociationError::NoResponse(patience)));
        let refused = match answered {
            Ok(response) => match response.status.class() {
                StatusClass::Success | StatusClass::Warning => None,
                _ => Some((
                    format!("the archive answered the request for storage commitment with {}", response.status),
                    response.comment,
                )),
            },
            Err(error) => Some((format!("the request for storage commitment was not answered: {error}"), None)),
        };
        if let Some((sentence, remark)) = refused {
            self.inquiry.refused(&transaction);
            desk.not_answered(claims, &sentence);
            return Err(Trouble::Question { sentence, remark });
        }
        debug!(destination:% = desk.destination.name, transaction:%, instances = claims.len(); "storage commitment requested");
        // What was reported already has its record, and its claim just ends.
        for claim in
            claims.into_iter().filter(|claim| !self.inquiry.has_heard_of(&transaction, &claim.sop_instance_uid))
        {
            let answer = format!("asked for storage commitment, transaction {transaction}; no report yet");
            desk.record(claim, Verification::Later { after: desk.patience, answer });
        }
        Ok(transaction)
    }

    async fn exchange(
        &self,
        line: &mut Line,
        command: &Command,
        information: &[u8],
    ) -> Result<Response, AssociationError> {
        line.association.post(line.context.id, command, information)?;
        loop {
            match self.next(line).await? {
                Heard::Response(response) => return Ok(response),
                Heard::Report => {}
                Heard::Released => return Err(AssociationError::Released),
            }
        }
    }

    /// Listens until everything has been reported, here or elsewhere, or for as long as it is held.
    async fn listen_for(&self, mut line: Line, asked: &[Uid]) {
        let until: Instant = clock::now() + self.hold;
        while !asked.iter().all(|transaction| self.inquiry.has_heard(transaction)) {
            let heard = tokio::select! {
                () = tokio::time::sleep_until(until.into()) => break,
                () = self.inquiry.hears() => continue,
                heard = self.next(&mut line) => heard,
            };
            match heard {
                Ok(Heard::Released) => return,
                Ok(_) => {}
                Err(error) => {
                    debug!("an association that was kept open for reports has ended: {error}");
                    return;
                }
            }
        }
        // A report that has begun would have to come again if it were cut off.
        if line.report.is_some()
            && !matches!(timeout(self.caller.settings.patience, self.next(&mut line)).await, Ok(Ok(Heard::Report)))
        {
            return;
        }
        if let Err(error) = line.association.release().await {
            debug!("the release was not answered: {error}");
        }
    }

    /// The next thing that is worth knowing; a report is taken and answered. Can be dropped and called again without loss.
    async fn next(&self, line: &mut Line) -> Result<Heard, AssociationError> {
        loop {
            match line.association.next().await? {
                Indication::Response { response, .. } => return Ok(Heard::Response(response)),
                Indication::Released => return Ok(Heard::Released),
                Indication::Data(bytes) => {
                    if let Some((_, report)) = &mut line.report {
                        report.write(&bytes);
                    }
                }
                Indication::DataEnd => {
                    let Some((context, report)) = line.report.take() else { continue };
                    let candidates = [Arc::clone(&self.inquiry)];
                    let response = tokio::task::block_in_place(|| report.end(&candidates, Origin::Called));
                    line.association.respond(context, &response).await?;
                    return Ok(Heard::Report);
                }
                Indication::Command { context, command: Command::NEventReport(request) } => {
                    let Some(accepted) = line.association.context(context).cloned() else { continue };
                    line.report = Some((context, Box::new(Report::begin(request, &accepted, &self.inquiries))));
                }
                Indication::Command { context, command } => {
                    let answer = command.refusal().unwrap_or_else(|| match command {
                        Command::CEcho(_) => Response::to(&command, Status::SUCCESS),
                        _ => Response::to(&command, Status::UNRECOGNIZED_OPERATION),
                    });
                    if !matches!(command, Command::CCancel { .. }) {
                        line.association.respond(context, &answer).await?;
                    }
                }
            }
        }
    }
}

fn uid(text: &str) -> Result<Uid, Trouble> {
    text.parse().map_err(|error| Trouble::Failed(format!("{text}: {error}")))
}
