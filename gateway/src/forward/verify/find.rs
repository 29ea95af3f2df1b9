//! C-FIND as SCU (PS3.4 C.4.1, Study Root, level IMAGE): are these instances there?
//!
//! A question names one series and up to a hundred instances of it; what the answers mean is in `look`. More matches than
//! asked for are cancelled.

use std::collections::HashSet;
use std::time::Duration;

use log::debug;
use tokio::time::timeout;

use super::batch::by_series;
use super::look::{Above, Answer, Look, Queried};
use super::{Caller, Desk, Trouble};
use crate::association::{Abort, Association, AssociationError, Context, Indication};
use crate::dimse::query::{self, MOST_INSTANCES, MatchReader, STUDY_ROOT_FIND};
use crate::dimse::{CFind, Command, Response, Status, StatusClass};
use crate::inquiry::Doubts;
use crate::model::{Priority, Uid};
use crate::spool::Unverified;

/// Matches beyond those asked for, before the query is cancelled: an archive may have an instance twice.
const MORE: usize = 20;
/// Matches after the cancellation, before the association is given up.
const AFTER_CANCEL: usize = 1_000;

/// See the module.
pub(super) struct Find {
    caller: Caller,
    look: Look,
}

/// An association for queries.
struct Line {
    association: Association,
    context: Context,
    message_id: u16,
    patience: Duration,
}

impl Find {
    pub(super) fn new(caller: Caller, doubts: Doubts) -> Self {
        Self { caller, look: Look::new(doubts) }
    }

    /// Asks for these.
    pub(super) async fn ask(&mut self, claims: Vec<Unverified>, desk: &Desk) -> Result<(), Trouble> {
        let class = STUDY_ROOT_FIND.parse().map_err(|error| Trouble::Failed(format!("{STUDY_ROOT_FIND}: {error}")))?;
        let (association, _) = self.caller.call(&class).await?;
        let Some(context) = association.accepted_contexts().first().cloned() else {
            association.abort(Abort::BY_USER).await;
            return Err(Trouble::NotOffered(format!(
                "{} does not answer queries (Study Root C-FIND), or not ours, so nothing that was delivered there is \
                 confirmed: enable it at the archive, or set verify = \"commitment\" or \"none\"",
                self.caller.peer.aet
            )));
        };
        let mut line = Line { association, context, message_id: 0, patience: desk.patience };
        for group in by_series(claims, self.look.at_once(MOST_INSTANCES)) {
            if let Err(trouble) = self.look.at(&mut line, group, desk).await {
                line.association.abort(Abort::BY_USER).await;
                return Err(trouble);
            }
        }
        if let Err(error) = line.association.release().await {
            debug!(destination:% = desk.destination.name; "the release was not answered: {error}");
        }
        Ok(())
    }
}

impl Queried for Line {
    /// One C-FIND, within the patience.
    async fn query(&mut self, (study, series): Above<'_>, instances: &[&Uid]) -> Result<Answer, Trouble> {
        let identifier = query::instances(study, series, instances, &self.context.transfer_syntax);
        self.message_id = self.message_id.wrapping_add(1);
        let (message_id, sop_class_uid) = (self.message_id, self.context.abstract_syntax.clone());
        let command = Command::CFind(CFind { message_id, sop_class_uid, priority: Priority::Low });
        let most = instances.len().saturating_add(MORE);
        let patience = self.patience;
        let answered = timeout(patience, exchange(self, &command, &identifier, most)).await;
        let answered = answered.unwrap_or(Err(AssociationError::NoResponse(patience)));
        answered.map_err(|error| Trouble::Question {
            sentence: format!("the query was not answered: {error}"),
            remark: None,
        })
    }
}

async fn exchange(
    line: &mut Line,
    command: &Command,
    identifier: &[u8],
    most: usize,
) -> Result<Answer, AssociationError> {
    let Line { association, context, .. } = line;
    association.post(context.id, command, identifier)?;
    let mut found = HashSet::new();
    let (mut matches, mut cancelled) = (0_usize, false);
    let mut reader: Option<MatchReader> = None;
    loop {
        match association.next().await? {
            Indication::Response { response, .. } if response.status.class() == StatusClass::Pending => {
                matches += 1;
                if matches > most && !cancelled {
                    cancelled = true;
                    let cancel = Command::CCancel { message_id: command.message_id() };
                    association.send_command(context.id, &cancel).await?;
                }
                if matches > most + AFTER_CANCEL {
                    return Err(AssociationError::OutOfTurn(
                        "the archive goes on answering a query that was cancelled",
                    ));
                }
                // What comes beyond that is read over.
                reader = (matches <= most).then(|| MatchReader::new(&context.transfer_syntax));
            }
            Indication::Response { response, .. } => return Ok(last(&response, found, cancelled)),
            Indication::Data(bytes) => {
                if let Some(reader) = &mut reader {
                    reader.feed(&bytes);
                }
            }
            Indication::DataEnd => found.extend(reader.take().and_then(MatchReader::finish)),
            Indication::Command { context, command } => {
                let answer = match &command {
                    Command::CEcho(_) => Response::to(&command, Status::SUCCESS),
                    _ => Response::to(&command, Status::UNRECOGNIZED_OPERATION),
                };
                if !matches!(command, Command::CCancel { .. }) {
                    association.respond(context, &answer).await?;
                }
            }
            Indication::Released => return Err(AssociationError::Released),
        }
    }
}

/// What the last response says.
fn last(response: &Response, found: HashSet<Uid>, cancelled: bool) -> Answer {
    match response.status.class() {
        StatusClass::Success | StatusClass::Warning => Answer::Found { found, whole: !cancelled },
        StatusClass::Cancelled => Answer::Found { found, whole: false },
        _ => {
            // Its comment may name a patient, and this goes into the ledger.
            Answer::Refused(format!("the archive answered the query with {}", response.status))
        }
    }
}
