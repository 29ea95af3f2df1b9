//! C-FIND as SCU (PS3.4 C.4.1, Study Root, level IMAGE): are these instances there?
//!
//! A question names one series and up to a hundred instances of it (list of UID matching). There are archives that take
//! such a list for one long UID, and find nothing; and some that refuse it. So what a list does not show is not believed
//! to be missing before the first of it has been asked for alone: if that is found, or if the list was refused, the
//! archive is asked for single instances from then on. More matches than asked for are cancelled.

use std::collections::HashSet;
use std::time::Duration;

use log::{debug, info};
use tokio::time::timeout;

use super::batch::{Group, by_series};
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
    doubts: Doubts,
    /// The archive does not do lists of UIDs.
    singly: bool,
}

/// An association for queries.
struct Line {
    association: Association,
    context: Context,
    message_id: u16,
}

/// What came of one query.
enum Answer {
    /// These of the instances asked for are there; `whole` says that there is nothing else.
    Found { found: HashSet<Uid>, whole: bool },
    /// It is not answered; the status and comment.
    Refused(String),
}

impl Find {
    pub(super) fn new(caller: Caller, doubts: Doubts) -> Self {
        Self { caller, doubts, singly: false }
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
        let mut line = Line { association, context, message_id: 0 };
        let most = if self.singly { 1 } else { MOST_INSTANCES };
        for group in by_series(claims, most) {
            if let Err(trouble) = self.look(&mut line, group, desk).await {
                line.association.abort(Abort::BY_USER).await;
                return Err(trouble);
            }
        }
        if let Err(error) = line.association.release().await {
            debug!(destination:% = desk.destination.name; "the release was not answered: {error}");
        }
        Ok(())
    }

    /// Asks for the instances of a group, and records what is known then.
    async fn look(&mut self, line: &mut Line, group: Group, desk: &Desk) -> Result<(), Trouble> {
        let Group { study, series, claims } = group;
        let above = (study.as_ref(), series.as_ref());
        let asked: Vec<&Uid> = claims.iter().map(|claim| &claim.sop_instance_uid).collect();
        let (mut found, complete) = match self.list(line, above, &asked, desk).await {
            Ok(listed) => listed,
            Err(sentence) => return Err(not_answered(claims, sentence, desk)),
        };
        // After a refusal the rest of the group is not asked for: it would be refused, too.
        let mut refused: Option<String> = None;
        for claim in claims {
            let instance = &claim.sop_instance_uid;
            if !found.contains(instance) && !complete && refused.is_none() {
                let answer = match query(line, above, &[instance], desk.patience).await {
                    Ok(answer) => answer,
                    Err(sentence) => return Err(not_answered(vec![claim], sentence, desk)),
                };
                match answer {
                    Answer::Found { found: seen, whole } if whole || seen.contains(instance) => found.extend(seen),
                    Answer::Found { .. } => {
                        refused = Some("the archive answers with more than it was asked for".into())
                    }
                    Answer::Refused(answer) => refused = Some(answer),
                }
            }
            let verification = match &refused {
                _ if found.contains(instance) => self.doubts.confirmed(instance, "found by a query".into()),
                Some(answer) => self.doubts.refused(instance, answer),
                None => self.doubts.not_found(instance),
            };
            desk.record(claim, verification);
        }
        Ok(())
    }

    /// Asks for several at once: those that are there, and whether the others are not.
    async fn list(
        &mut self,
        line: &mut Line,
        above: (Option<&Uid>, Option<&Uid>),
        asked: &[&Uid],
        desk: &Desk,
    ) -> Result<(HashSet<Uid>, bool), String> {
        if asked.len() < 2 || self.singly {
            return Ok((HashSet::new(), false));
        }
        let (mut found, whole) = match query(line, above, asked, desk.patience).await? {
            Answer::Found { found, whole } => (found, whole),
            Answer::Refused(answer) => {
                self.ask_singly(desk, &answer);
                return Ok((HashSet::new(), false));
            }
        };
        let Some(absent) = asked.iter().find(|instance| !found.contains(**instance)) else { return Ok((found, true)) };
        if !whole {
            return Ok((found, false));
        }
        match query(line, above, &[absent], desk.patience).await? {
            Answer::Found { found: seen, .. } if seen.contains(*absent) => {
                self.ask_singly(desk, "what it does not find in a list is there");
                found.extend(seen);
                Ok((found, false))
            }
            Answer::Found { whole, .. } => Ok((found, whole)),
            Answer::Refused(_) => Ok((found, false)),
        }
    }

    fn ask_singly(&mut self, desk: &Desk, why: &str) {
        info!(destination:% = desk.destination.name; "the archive does no list of UID matching, so it is asked for one instance at a time: {why}");
        self.singly = true;
    }
}

/// A question about these was not answered.
fn not_answered(claims: Vec<Unverified>, sentence: String, desk: &Desk) -> Trouble {
    desk.not_answered(claims, &sentence);
    Trouble::Question { sentence, remark: None }
}

/// One C-FIND, within `patience`; or a sentence that says why it was not answered.
async fn query(
    line: &mut Line,
    (study, series): (Option<&Uid>, Option<&Uid>),
    instances: &[&Uid],
    patience: Duration,
) -> Result<Answer, String> {
    let identifier = query::instances(study, series, instances, &line.context.transfer_syntax);
    line.message_id = line.message_id.wrapping_add(1);
    let (message_id, sop_class_uid) = (line.message_id, line.context.abstract_syntax.clone());
    let command = Command::CFind(CFind { message_id, sop_class_uid, priority: Priority::Low });
    let most = instances.len().saturating_add(MORE);
    let answered = timeout(patience, exchange(line, &command, &identifier, most)).await;
    let answered = answered.unwrap_or(Err(AssociationError::NoResponse(patience)));
    answered.map_err(|error| format!("the query was not answered: {error}"))
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
