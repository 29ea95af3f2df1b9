//! What is asked for by queries, whoever answers them: which of these instances are there, and what that means.
//!
//! A question names one series and several instances of it (list of UID matching). There are archives that take such a
//! list for one long UID, and find nothing; and some that refuse it. So what a list does not show is not believed to be
//! missing before the first of it has been asked for alone: if that is found, or if the list was refused, the archive is
//! asked for single instances from then on.

use std::collections::HashSet;

use log::info;

use super::batch::Group;
use super::{Desk, Trouble};
use crate::inquiry::Doubts;
use crate::model::Uid;
use crate::spool::Unverified;

/// Study and series of the instances, as far as they are known.
pub(super) type Above<'a> = (Option<&'a Uid>, Option<&'a Uid>);

/// Who answers queries.
pub(super) trait Queried {
    /// Asks for these instances.
    async fn query(&mut self, above: Above<'_>, instances: &[&Uid]) -> Result<Answer, Trouble>;
}

/// What came of one query.
pub(super) enum Answer {
    /// These of the instances asked for are there; `whole` says that there is nothing else.
    Found { found: HashSet<Uid>, whole: bool },
    /// It is not answered, and why.
    Refused(String),
}

/// What is known of one archive.
pub(super) struct Look {
    doubts: Doubts,
    /// The archive does not do lists of UIDs.
    singly: bool,
}

impl Look {
    pub(super) fn new(doubts: Doubts) -> Self {
        Self { doubts, singly: false }
    }

    /// How many instances go in one question, if `most` can.
    pub(super) fn at_once(&self, most: usize) -> usize {
        if self.singly { 1 } else { most }
    }

    /// Asks for the instances of a group, and records what is known then.
    pub(super) async fn at(&mut self, line: &mut impl Queried, group: Group, desk: &Desk) -> Result<(), Trouble> {
        let Group { study, series, claims } = group;
        let above = (study.as_ref(), series.as_ref());
        let asked: Vec<&Uid> = claims.iter().map(|claim| &claim.sop_instance_uid).collect();
        let (mut found, complete) = match self.list(line, above, &asked, desk).await {
            Ok(listed) => listed,
            Err(trouble) => return Err(not_answered(claims, trouble, desk)),
        };
        // After a refusal the rest of the group is not asked for: it would be refused, too.
        let mut refused: Option<String> = None;
        for claim in claims {
            let instance = &claim.sop_instance_uid;
            if !found.contains(instance) && !complete && refused.is_none() {
                let answer = match line.query(above, &[instance]).await {
                    Ok(answer) => answer,
                    Err(trouble) => return Err(not_answered(vec![claim], trouble, desk)),
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
        line: &mut impl Queried,
        above: Above<'_>,
        asked: &[&Uid],
        desk: &Desk,
    ) -> Result<(HashSet<Uid>, bool), Trouble> {
        if asked.len() < 2 || self.singly {
            return Ok((HashSet::new(), false));
        }
        let (mut found, whole) = match line.query(above, asked).await? {
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
        match line.query(above, &[absent]).await? {
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

/// Nothing was learned of these. If that is for this question, and it was about one, that one is put off.
fn not_answered(claims: Vec<Unverified>, trouble: Trouble, desk: &Desk) -> Trouble {
    if let Trouble::Question { sentence, .. } = &trouble {
        desk.not_answered(claims, sentence);
    }
    trouble
}
