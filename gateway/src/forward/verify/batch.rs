//! Which instances go into one question. Pure.

use crate::dimse::query::MOST_INSTANCES;
use crate::model::Uid;
use crate::spool::Unverified;

/// Claims of one series, as many as go into one C-FIND.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) study: Option<Uid>,
    pub(super) series: Option<Uid>,
    pub(super) claims: Vec<Unverified>,
}

/// Puts claims together that can be asked about in one C-FIND: of one series, at most `most`, in their order.
pub(super) fn by_series(claims: Vec<Unverified>, most: usize) -> Vec<Group> {
    let most = most.clamp(1, MOST_INSTANCES);
    let mut groups: Vec<Group> = Vec::new();
    for claim in claims {
        let (study, series) = (claim.study_instance_uid.clone(), claim.series_instance_uid.clone());
        let fits = |group: &&mut Group| group.claims.len() < most && group.study == study && group.series == series;
        match groups.iter_mut().rev().find(fits) {
            Some(group) => group.claims.push(claim),
            None => groups.push(Group { study, series, claims: vec![claim] }),
        }
    }
    groups
}
