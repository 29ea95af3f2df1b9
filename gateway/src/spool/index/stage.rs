//! Where deliveries stand, in numbers. Whatever moves a delivery from one stage to another changes the numbers in the same
//! transaction.

use serde::{Deserialize, Serialize};

use super::{IndexError, InstanceRow, Tables, Tally};
use crate::model::DestinationName;

/// Where a delivery stands, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Queued,
    Parked,
    /// Delivered, and that is all that there is to know.
    Final,
    /// Delivered, and the destination has still to be asked.
    Unverified,
    /// Delivered, and the destination was asked.
    Confirmed,
}

/// Deliveries by where they stand; bytes are those of the data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Not delivered yet, those being sent included.
    pub queued: Tally,
    /// Given up until somebody says otherwise.
    pub parked: Tally,
    /// Delivered, whether or not anything is known beyond that.
    pub delivered: Tally,
    /// Of the delivered, those about which the destination has still to be asked.
    pub unverified: Tally,
    /// Of the delivered, those of which the destination has said afterwards that it has them for good.
    pub confirmed: Tally,
}

impl Counts {
    pub(super) fn add(&mut self, stage: Stage, bytes: u64) {
        self.each(stage, |tally| tally.add(bytes));
    }

    pub(super) fn take(&mut self, stage: Stage, bytes: u64) {
        self.each(stage, |tally| tally.take(bytes));
    }

    fn each(&mut self, stage: Stage, change: impl Fn(&mut Tally)) {
        match stage {
            Stage::Queued => change(&mut self.queued),
            Stage::Parked => change(&mut self.parked),
            Stage::Final | Stage::Unverified | Stage::Confirmed => change(&mut self.delivered),
        }
        match stage {
            Stage::Unverified => change(&mut self.unverified),
            Stage::Confirmed => change(&mut self.confirmed),
            Stage::Queued | Stage::Parked | Stage::Final => {}
        }
    }
}

impl Tables<'_> {
    /// Counts a delivery of an instance in or out, wherever deliveries are counted.
    pub(super) fn count(
        &mut self,
        destination: &DestinationName,
        number: u32,
        stage: Stage,
        instance: &InstanceRow,
        change: fn(&mut Counts, Stage, u64),
    ) -> Result<(), IndexError> {
        if let Some(row) = self.touched.get_mut(destination) {
            change(&mut row.counts, stage, instance.length);
        }
        self.count_in_study(number, stage, instance, change)
    }
}
