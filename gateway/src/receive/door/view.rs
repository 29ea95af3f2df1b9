//! The book as it is shown.

use serde::{Deserialize, Serialize};

use super::page::Page;
use super::visit::Visit;
use super::{Book, Who};
use crate::config::{Admission, Modality};
use crate::logging::escaped;
use crate::model::{AeTitle, DestinationName, Timestamp};

/// Everybody at the door.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DoorView {
    /// The AE title that modalities should call.
    pub aet: AeTitle,
    /// Whether anybody is admitted.
    pub allow_any: bool,
    /// Who may send: the modalities in the order of the configuration, or whoever did where anybody may.
    pub admitted: Vec<PeerView>,
    /// Who knocks and is not let in, the last one first.
    pub knocks: Vec<PeerView>,
    /// Modalities that are refused because their files cannot be used.
    #[serde(default)]
    pub left_out: Vec<LeftOutView>,
}

/// A modality whose file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOutView {
    /// What it is called.
    pub name: String,
    /// The file.
    pub file: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// One peer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerView {
    /// By which it is shown, admitted and forgotten.
    pub name: String,
    /// Whether it may send.
    pub admitted: bool,
    /// Its calling AE title, escaped.
    pub calling: Option<String>,
    /// Whom it called last, escaped.
    pub called: Option<String>,
    /// Where it may come from; of a stranger, where it came from.
    pub addresses: Vec<String>,
    /// Its associations that are open now.
    pub open: usize,
    /// When its last visit ended.
    pub last_seen: Option<Timestamp>,
    /// Associations that were accepted and have ended.
    pub associations: u64,
    /// Visits that came to no association.
    pub refusals: u64,
    /// Instances that were acknowledged.
    pub instances: u64,
    /// Bytes of their data sets.
    pub bytes: u64,
    /// What somebody should do something about, with the remedy.
    pub problem: Option<String>,
    /// What its data tell of its clock.
    pub clock: Option<ClockView>,
    /// Of one that knocks: why it cannot be admitted as it is.
    pub cannot_be_admitted: Option<String>,
    /// Its last visits, the latest first; only where one peer is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visits: Vec<Visit>,
}

/// What can be said of a modality's clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClockView {
    /// Seconds by which it is ahead of this box; negative if it may be behind.
    pub ahead_seconds: i64,
    /// The same in words, with what is uncertain about it.
    pub words: String,
}

impl Book {
    /// Everybody. `open` counts the open associations of a modality.
    #[must_use]
    pub fn view(&self, admission: &Admission, aet: &AeTitle, open: impl Fn(&DestinationName) -> usize) -> DoorView {
        let allow_any = matches!(admission, Admission::Any);
        let mut admitted: Vec<PeerView> = admission
            .modalities()
            .iter()
            .map(|modality| of_modality(modality, self.page_of(modality), open(&modality.name)))
            .collect();
        let (welcome, knocks): (Vec<_>, Vec<_>) =
            self.strangers().into_iter().partition(|page| allow_any && page.associations > 0);
        admitted.extend(welcome.into_iter().map(of_stranger));
        let knocks = knocks.into_iter().map(|page| knock(page, allow_any)).collect();
        let left_out = admission.left_out().iter().map(|left_out| LeftOutView {
            name: escaped(&left_out.name).into_owned(),
            file: left_out.file.display().to_string(),
            problem: left_out.finding.in_one_line(),
        });
        DoorView { aet: aet.clone(), allow_any, admitted, knocks, left_out: left_out.collect() }
    }

    /// One peer with its visits.
    #[must_use]
    pub fn view_of(
        &self,
        name: &str,
        admission: &Admission,
        aet: &AeTitle,
        open: impl Fn(&DestinationName) -> usize,
    ) -> Option<PeerView> {
        let DoorView { admitted, knocks, .. } = self.view(admission, aet, open);
        let mut view = admitted.into_iter().chain(knocks).find(|peer| peer.name == name)?;
        let page = self.page(name);
        view.visits = page.map(|page| page.visits.iter().rev().cloned().collect()).unwrap_or_default();
        Some(view)
    }
}

fn of_modality(modality: &Modality, page: Option<&Page>, open: usize) -> PeerView {
    let request = page.and_then(|page| page.visits.iter().rev().find_map(|visit| visit.request.as_ref()));
    PeerView {
        name: modality.name.to_string(),
        admitted: true,
        calling: Some(modality.aet.to_string()),
        called: request.map(|request| request.called.clone()),
        addresses: modality.addresses.iter().map(ToString::to_string).collect(),
        open,
        last_seen: page.map(|page| page.last_seen),
        associations: page.map_or(0, |page| page.associations),
        refusals: page.map_or(0, |page| page.refusals),
        instances: page.map_or(0, |page| page.instances),
        bytes: page.map_or(0, |page| page.bytes),
        problem: page.and_then(problem),
        clock: page.and_then(clock),
        cannot_be_admitted: None,
        visits: Vec::new(),
    }
}

fn of_stranger(page: &Page) -> PeerView {
    let request = page.visits.iter().rev().find_map(|visit| visit.request.as_ref());
    let (calling, address) = match &page.who {
        Who::Stranger { calling, address } => (calling.clone(), Some(address.to_string())),
        Who::Modality(_) => (None, None),
    };
    PeerView {
        name: page.name.clone(),
        admitted: true,
        calling,
        called: request.map(|request| request.called.clone()),
        addresses: address.into_iter().collect(),
        open: 0,
        last_seen: Some(page.last_seen),
        associations: page.associations,
        refusals: page.refusals,
        instances: page.instances,
        bytes: page.bytes,
        problem: problem(page),
        clock: clock(page),
        cannot_be_admitted: None,
        visits: Vec::new(),
    }
}

fn knock(page: &Page, allow_any: bool) -> PeerView {
    PeerView { admitted: false, cannot_be_admitted: hindrance(page, allow_any), ..of_stranger(page) }
}

/// Why a stranger cannot be admitted as it is.
pub(super) fn hindrance(page: &Page, allow_any: bool) -> Option<String> {
    let Who::Stranger { calling, .. } = &page.who else { return Some("it is a modality already".to_owned()) };
    match calling {
        None => Some("it did not come as far as to name itself; mend first what its visits tell".to_owned()),
        Some(calling) if page.calling().is_none() => Some(format!(
            "its calling AE title is {calling:?}, which is none: give the device one of 1 to 16 printable ASCII \
             characters without a backslash"
        )),
        Some(_) if allow_any => Some("anybody is admitted (allow-any): see what its visits tell".to_owned()),
        Some(_) => None,
    }
}

fn problem(page: &Page) -> Option<String> {
    let of_visit = page.last().filter(|visit| visit.problem).map(|visit| visit.sentence.clone());
    let of_clock = || {
        page.clock().filter(|clock| clock.is_a_problem()).map(|clock| {
            format!("{}: set it there, or let it take the time from the same server as this box", clock.words())
        })
    };
    of_visit.or_else(of_clock)
}

fn clock(page: &Page) -> Option<ClockView> {
    page.clock().map(|clock| ClockView { ahead_seconds: clock.ahead_seconds(), words: clock.words() })
}
