//! What is read of an instance for a destination: the stored data set, or one with attributes changed as the configuration
//! asks for (`[coerce.*]`, see [`crate::dataset::coerce`]).
//!
//! Whoever hands instances over opens them here, whatever the destination speaks. All coercions that name the destination
//! and fit the instance are made at once; where two change the same attribute, the first in the configuration does. What
//! cannot be done parks the delivery with a sentence: nothing is sent unchanged that was to be changed.

use std::io::Read;
use std::sync::Arc;

use log::info;

use super::verdict::Verdict;
use crate::config::Coercion;
use crate::dataset::coerce::{self, Change, CoerceError, Coercing, Plan, Proven, Rewriter};
use crate::dataset::transfer_syntax::{TransferSyntax, describe};
use crate::model::{AeTitle, DestinationName, InstanceId, Priority, Timestamp};
use crate::routing::{Attribute, Attributes, Subject};
use crate::spool::{InstanceHeader, Spool, SpoolError};

/// The coercions of one destination.
#[derive(Debug, Clone)]
pub struct Coercions {
    list: Arc<[Coercion]>,
    /// Our AE title, which Modifying System (0400,0563) names.
    by: String,
}

impl Coercions {
    /// Those of `all` that name this destination, made by the application entity `aet`.
    #[must_use]
    pub fn of(all: &[Coercion], destination: &DestinationName, aet: &AeTitle) -> Self {
        let list = all.iter().filter(|coercion| coercion.to.contains(destination)).cloned().collect();
        Self { list, by: format!("Waystation {aet}") }
    }

    /// What applies to an instance, each change with the coercion that it comes from.
    fn applying(&self, header: &InstanceHeader) -> Vec<(&DestinationName, &Change)> {
        let mut attributes = Attributes::default();
        if let Some(modality) = &header.modality {
            attributes.note(Attribute::Modality.tag(), modality.as_bytes());
        }
        let subject = Subject {
            calling: &header.calling_ae,
            called: &header.called_ae,
            address: header.peer,
            sop_class: &header.sop_class_uid,
            transfer_syntax: &header.transfer_syntax,
            dimse_priority: Priority::Routine,
            length: 0,
            attributes: &attributes,
        };
        let fits = |coercion: &&Coercion| coercion.conditions.iter().all(|condition| condition.fits(&subject));
        let mut applying: Vec<(&DestinationName, &Change)> = Vec::new();
        for coercion in self.list.iter().filter(fits) {
            for change in &coercion.changes {
                if applying.iter().all(|(_, other)| other.tag != change.tag) {
                    applying.push((&coercion.name, change));
                }
            }
        }
        applying
    }
}

/// What leaves in place of the stored data set, for the record of the delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coerced {
    /// The coercions that have changed something.
    pub(super) rules: Vec<DestinationName>,
    /// Length and SHA-256 of the changed data set.
    pub(super) proven: Proven,
}

/// An instance that can be read for a destination, again and again.
pub(super) struct Payload {
    spool: Spool,
    id: InstanceId,
    syntax: TransferSyntax,
    plan: Option<Plan>,
    /// `None` if the stored data set leaves as it is.
    pub(super) coerced: Option<Coerced>,
}

impl Payload {
    /// Finds out what is to be changed, proves the result, and tells the log. Blocking; the stored data set is read twice if
    /// anything is to be changed.
    ///
    /// # Errors
    /// What it means for the delivery.
    pub(super) fn prepare(
        spool: &Spool,
        id: InstanceId,
        header: &InstanceHeader,
        coercions: &Coercions,
    ) -> Result<Self, Verdict> {
        let payload = Self::plan(spool, id, header, coercions)?;
        if let Some(Coerced { rules, proven }) = &payload.coerced {
            let told: Vec<_> = rules.iter().map(DestinationName::as_str).collect();
            info!(id:%, rules:% = told.join(", "), sha256:% = proven.hash; "attributes are changed for the destination");
        }
        Ok(payload)
    }

    /// Does the same for an instance that does not leave yet: the log is not told.
    ///
    /// # Errors
    /// What it means for the delivery.
    pub(super) fn plan(
        spool: &Spool,
        id: InstanceId,
        header: &InstanceHeader,
        coercions: &Coercions,
    ) -> Result<Self, Verdict> {
        let syntax = describe(&header.transfer_syntax);
        let mut payload = Self { spool: spool.clone(), id, syntax, plan: None, coerced: None };
        let applying = coercions.applying(header);
        if applying.is_empty() {
            return Ok(payload);
        }
        let names = |concerned: &dyn Fn(&Change) -> bool| {
            let concerned = applying.iter().filter(|(_, change)| concerned(change)).map(|(name, _)| (*name).clone());
            let mut names: Vec<DestinationName> = concerned.collect();
            names.dedup();
            names
        };
        let coercing = Coercing {
            changes: applying.iter().map(|(_, change)| (*change).clone()).collect(),
            // When it came is the same at every attempt, and so are the bytes that leave.
            when: date_time(header.received_at),
            by: coercions.by.clone(),
        };
        let open = || payload.stored().map_err(|error| Verdict::of_spool(&error));
        let verdict = |error| verdict(error, &names(&|_| true));
        let Some(plan) = coerce::plan(open()?, syntax, &coercing).map_err(verdict)? else { return Ok(payload) };
        let proven = coerce::verify(open()?, syntax, &plan).map_err(verdict)?;
        let rules = names(&|change| plan.changed().contains(&change.tag));
        payload.coerced = Some(Coerced { rules, proven });
        payload.plan = Some(plan);
        Ok(payload)
    }

    /// Opens it from the beginning. Blocking.
    ///
    /// # Errors
    /// The spool does not give it.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, SpoolError> {
        let stored = self.stored()?;
        Ok(match &self.plan {
            Some(plan) => Box::new(Rewriter::new(stored, self.syntax, plan)),
            None => stored,
        })
    }

    fn stored(&self) -> Result<Box<dyn Read + Send>, SpoolError> {
        Ok(Box::new(self.spool.read(self.id)?))
    }
}

fn verdict(error: CoerceError, rules: &[DestinationName]) -> Verdict {
    let tables: Vec<_> = rules.iter().map(|rule| format!("[coerce.{rule}]")).collect();
    match error {
        CoerceError::Read(error) => Verdict::of_payload(&error),
        error => Verdict::Hopeless {
            reason: format!(
                "what {} asks for cannot be done with this instance: {error}; correct it in the configuration, or let it \
                 not apply to such instances, and restart the gateway",
                tables.join(", ")
            ),
        },
    }
}

/// A DT (PS3.5 6.2) in UTC.
fn date_time(at: Timestamp) -> String {
    let at = at.instant().unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y%m%d%H%M%S.%6f+0000").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_dt_in_utc() {
        assert_eq!(date_time(Timestamp::from_millis(1_700_000_000_123)), "20231114221320.123000+0000");
        assert_eq!(date_time(Timestamp::from_millis(u64::MAX)), "19700101000000.000000+0000");
    }
}
