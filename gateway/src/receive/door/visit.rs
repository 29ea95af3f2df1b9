//! One visit: an association, or a connection that came to none.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::association::{AssociateRequest, Association};
use crate::dimse::Status;
use crate::logging::escaped;
use crate::model::{Timestamp, Uid};

/// Presentation contexts that are kept of a visit; a modality that is set up by hand has fewer, and of more the first
/// tell enough.
const CONTEXTS: usize = 8;
/// Transfer syntaxes that are kept of a context.
const TRANSFER_SYNTAXES: usize = 4;
/// The longest text of a sentence, in characters.
const SENTENCE: usize = 480;
/// The longest text of a title or a version, in characters; escaped, 16 letters may become as many escapes.
const TITLE: usize = 64;
/// The longest subject of a certificate, in characters.
const SUBJECT: usize = 1_024;

/// One visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Visit {
    /// When it began, by this box's clock.
    pub at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Where it came from.
    pub address: IpAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The subject of the client certificate, escaped.
    pub subject: Option<String>,
    /// What it asked for; `None` if it did not come to that.
    pub request: Option<Request>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it brought.
    pub tally: Tally,
    /// Whether somebody should do something about it.
    pub problem: bool,
    /// One sentence, with the remedy if there is a problem.
    pub sentence: String,
}

/// A request for an association, cut to what a person looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// The calling AE title, escaped.
    pub calling: String,
    /// The called AE title, escaped.
    pub called: String,
    /// Implementation Class UID (PS3.7 D.3.3.2).
    pub implementation_class_uid: Option<Uid>,
    /// Implementation Version Name, escaped.
    pub implementation_version: Option<String>,
    /// The first presentation contexts.
    pub contexts: Vec<ContextSummary>,
    /// How many there were in all.
    pub contexts_proposed: usize,
    /// How many of them were accepted.
    pub contexts_accepted: usize,
}

/// A presentation context: what was proposed, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContextSummary {
    /// Its number.
    pub id: u8,
    /// Its SOP class, if it was readable.
    pub sop_class: Option<Uid>,
    /// The first transfer syntaxes proposed for it.
    pub proposed: Vec<Uid>,
    /// How many more were.
    pub proposed_left_out: usize,
    /// The transfer syntax that was agreed upon.
    pub agreed: Option<Uid>,
    /// Why none was, if the association was accepted.
    pub refused: Option<String>,
}

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It released the association.
    Released,
    /// The association ended otherwise.
    EndedEarly,
    /// We rejected the association.
    Refused,
    /// It did not come to a decision.
    Failed,
}

/// What an association brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// C-ECHO requests.
    pub echoes: u64,
    /// Instances that were acknowledged.
    pub stored: u64,
    /// Instances that were refused.
    pub refused: u64,
    /// Bytes of the data sets that were acknowledged.
    pub bytes: u64,
    /// Status and comment of the last refusal.
    pub last_refusal: Option<(Status, String)>,
}

impl Request {
    /// What was asked for.
    #[must_use]
    pub fn of(request: &AssociateRequest) -> Self {
        let contexts = request.contexts.iter().take(CONTEXTS).map(|context| ContextSummary {
            id: context.id,
            sop_class: context.abstract_syntax.clone(),
            proposed: context.transfer_syntaxes.iter().take(TRANSFER_SYNTAXES).cloned().collect(),
            proposed_left_out: context.transfer_syntaxes.len().saturating_sub(TRANSFER_SYNTAXES),
            agreed: None,
            refused: None,
        });
        Self {
            calling: bounded(request.calling_ae.as_str(), TITLE),
            called: bounded(request.called_ae.as_str(), TITLE),
            implementation_class_uid: request.implementation_class_uid.clone(),
            implementation_version: request.implementation_version.as_deref().map(|text| bounded(text, TITLE)),
            contexts: contexts.collect(),
            contexts_proposed: request.contexts.len(),
            contexts_accepted: 0,
        }
    }

    /// A request whose titles could not be read.
    #[must_use]
    pub fn unreadable(calling: &str, called: &str) -> Self {
        Self {
            calling: bounded(calling, TITLE),
            called: bounded(called, TITLE),
            implementation_class_uid: None,
            implementation_version: None,
            contexts: Vec::new(),
            contexts_proposed: 0,
            contexts_accepted: 0,
        }
    }

    /// What was asked for, and what was agreed upon.
    #[must_use]
    pub fn answered(association: &Association) -> Self {
        let mut request = Self::of(association.request());
        for context in &mut request.contexts {
            context.agreed = association.context(context.id).map(|agreed| agreed.transfer_syntax.clone());
            let refused = association.refused_contexts().iter().find(|(id, _)| *id == context.id);
            context.refused = refused.map(|(_, why)| why.to_string());
        }
        request.contexts_accepted = association.accepted_contexts().len();
        request
    }
}

impl Visit {
    /// Cuts every text and list to its bound, whatever it came from.
    #[must_use]
    pub fn within_bounds(mut self) -> Self {
        self.sentence = bounded(&self.sentence, SENTENCE);
        self.subject = self.subject.map(|text| bounded(&text, SUBJECT));
        if let Some((_, comment)) = &mut self.tally.last_refusal {
            *comment = bounded(comment, TITLE);
        }
        if let Some(request) = &mut self.request {
            request.calling = bounded(&request.calling, TITLE);
            request.called = bounded(&request.called, TITLE);
            request.implementation_version = request.implementation_version.take().map(|text| bounded(&text, TITLE));
            request.contexts.truncate(CONTEXTS);
            for context in &mut request.contexts {
                context.proposed.truncate(TRANSFER_SYNTAXES);
                context.refused = context.refused.take().map(|text| bounded(&text, TITLE));
            }
        }
        self
    }
}

/// What is worth saying of an association that was released: whether it is a problem, and the sentence.
#[must_use]
pub fn of_release(request: &Request, tally: &Tally) -> (bool, String) {
    if let Some((status, comment)) = &tally.last_refusal {
        let all = tally.stored + tally.refused;
        let remedy = match status.0 {
            0xa700..=0xa7ff => "see that deliveries go on, or give the box more disk",
            _ => "what it sends is broken: show its vendor the log of this box",
        };
        let what = format!("{} of {all} instances were refused, the last with {status}", tally.refused);
        let comment = comment.trim_end_matches('.');
        return (
            true,
            if comment.is_empty() { format!("{what}: {remedy}") } else { format!("{what} ({comment}): {remedy}") },
        );
    }
    if request.contexts_accepted == 0 && request.contexts_proposed > 0 {
        let first = request.contexts.iter().find_map(|context| context.sop_class.as_ref());
        let first = first.map_or_else(String::new, |uid| format!(", {uid} being the first"));
        let sentence = format!(
            "nothing of the {} that it proposed is offered here{first}: this box stores and verifies; query, worklist \
             and print are another system's",
            request.contexts_proposed
        );
        return (true, sentence);
    }
    let sentence = match (tally.stored, tally.echoes) {
        (0, 0) => "it came and asked for nothing".to_owned(),
        (0, _) => "it verified the connection (C-ECHO)".to_owned(),
        (1, _) => "1 instance is safe here".to_owned(),
        (stored, _) => format!("{stored} instances are safe here"),
    };
    (false, sentence)
}

/// The text, safe to show, with at most so many characters.
fn bounded(text: &str, most: usize) -> String {
    let safe = escaped(text);
    if safe.chars().nth(most).is_none() {
        return safe.into_owned();
    }
    safe.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
