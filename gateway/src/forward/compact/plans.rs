//! What comes next in the queues, for whoever prepares it. Pure.
//!
//! Each destination tells it anew whenever it looks at its queue, so nothing here is older than that. Each instance is taken
//! once; the destinations take turns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{DestinationName, InstanceId};

/// See the module.
#[derive(Debug)]
pub(super) struct Plans<T> {
    destinations: BTreeMap<DestinationName, Upcoming<T>>,
    /// Whose plan was taken last.
    last: Option<DestinationName>,
}

#[derive(Debug)]
struct Upcoming<T> {
    waiting: VecDeque<(InstanceId, T)>,
    /// What was taken of what is upcoming.
    taken: BTreeSet<InstanceId>,
}

/// One instance to prepare.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan<T> {
    pub(super) destination: DestinationName,
    pub(super) id: InstanceId,
    pub(super) what: T,
}

impl<T> Default for Plans<T> {
    fn default() -> Self {
        Self { destinations: BTreeMap::new(), last: None }
    }
}

impl<T> Plans<T> {
    /// These come next, in this order, and no others.
    pub(super) fn tell(&mut self, destination: &DestinationName, upcoming: Vec<(InstanceId, T)>) {
        let former = self.destinations.remove(destination);
        if upcoming.is_empty() {
            return;
        }
        let all: BTreeSet<InstanceId> = upcoming.iter().map(|(id, _)| *id).collect();
        let taken: BTreeSet<_> =
            former.into_iter().flat_map(|former| former.taken).filter(|id| all.contains(id)).collect();
        let waiting = upcoming.into_iter().filter(|(id, _)| !taken.contains(id)).collect();
        self.destinations.insert(destination.clone(), Upcoming { waiting, taken });
    }

    /// Takes what is to be prepared next.
    pub(super) fn next(&mut self) -> Option<Plan<T>> {
        let after_last = |name: &DestinationName| self.last.as_ref().is_none_or(|last| name > last);
        let mut with_work = self.destinations.iter().filter(|(_, upcoming)| !upcoming.waiting.is_empty());
        let first = with_work.clone().next().map(|(name, _)| name);
        let destination = with_work.find(|(name, _)| after_last(name)).map(|(name, _)| name).or(first)?.clone();
        let upcoming = self.destinations.get_mut(&destination)?;
        let (id, what) = upcoming.waiting.pop_front()?;
        upcoming.taken.insert(id);
        self.last = Some(destination.clone());
        Some(Plan { destination, id, what })
    }

    /// How much is to be prepared for a destination.
    pub(super) fn waiting(&self, destination: &DestinationName) -> usize {
        self.destinations.get(destination).map_or(0, |upcoming| upcoming.waiting.len())
    }

    /// Whether an instance was taken, and has not left the queue yet.
    pub(super) fn has_taken(&self, destination: &DestinationName, id: InstanceId) -> bool {
        self.destinations.get(destination).is_some_and(|upcoming| upcoming.taken.contains(&id))
    }

    /// An instance has left the queue.
    pub(super) fn claimed(&mut self, destination: &DestinationName, id: InstanceId) {
        if let Some(upcoming) = self.destinations.get_mut(destination) {
            upcoming.waiting.retain(|(waiting, _)| *waiting != id);
            upcoming.taken.remove(&id);
        }
    }

    /// Whether there is something to prepare.
    pub(super) fn is_waiting(&self) -> bool {
        self.destinations.values().any(|upcoming| !upcoming.waiting.is_empty())
    }

    /// Nothing came of it this time, through no fault of its own: it is the next one again.
    pub(super) fn put_back(&mut self, plan: Plan<T>) {
        if let Some(upcoming) = self.destinations.get_mut(&plan.destination)
            && upcoming.taken.remove(&plan.id)
        {
            upcoming.waiting.push_front((plan.id, plan.what));
        }
    }

    /// What was taken and has not left the queue yet.
    pub(super) fn taken(&self) -> BTreeSet<InstanceId> {
        self.destinations.values().flat_map(|upcoming| upcoming.taken.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DestinationName {
        text.parse().unwrap()
    }

    fn upcoming(ids: &[u64]) -> Vec<(InstanceId, ())> {
        ids.iter().map(|id| (InstanceId(*id), ())).collect()
    }

    fn next(plans: &mut Plans<()>) -> Option<(String, u64)> {
        plans.next().map(|plan| (plan.destination.to_string(), plan.id.0))
    }

    #[test]
    fn each_instance_is_taken_once_and_the_destinations_take_turns() {
        let mut plans = Plans::default();
        plans.tell(&name("a"), upcoming(&[1, 2, 3]));
        plans.tell(&name("b"), upcoming(&[7, 8]));
        let taken: Vec<_> = std::iter::from_fn(|| next(&mut plans)).map(|(_, id)| id).collect();
        assert_eq!(taken, [1, 7, 2, 8, 3]);
        plans.tell(&name("a"), upcoming(&[2, 3, 4]));
        assert_eq!(next(&mut plans), Some(("a".to_owned(), 4)));
        assert_eq!(next(&mut plans), None);
        assert_eq!(plans.taken(), [2, 3, 4, 7, 8].map(InstanceId).into());
    }

    #[test]
    fn what_is_upcoming_no_longer_is_forgotten_and_what_is_urgent_overtakes() {
        let mut plans = Plans::default();
        plans.tell(&name("a"), upcoming(&[1, 2]));
        plans.tell(&name("a"), upcoming(&[9, 1]));
        assert_eq!(next(&mut plans), Some(("a".to_owned(), 9)));
        plans.tell(&name("a"), upcoming(&[]));
        assert_eq!((next(&mut plans), plans.taken().len()), (None, 0));
    }

    #[test]
    fn what_is_claimed_is_not_prepared_any_more() {
        let mut plans = Plans::default();
        plans.tell(&name("a"), upcoming(&[1, 2, 3]));
        let plan = plans.next().unwrap();
        assert!(plans.has_taken(&name("a"), InstanceId(1)));
        plans.claimed(&name("a"), InstanceId(1));
        plans.claimed(&name("a"), InstanceId(2));
        plans.put_back(plan);
        assert_eq!((plans.waiting(&name("a")), next(&mut plans)), (1, Some(("a".to_owned(), 3))));
        assert!(!plans.has_taken(&name("a"), InstanceId(1)) && !plans.is_waiting());
    }

    #[test]
    fn what_gave_way_is_the_next_one_again_unless_it_has_left_the_queue() {
        let mut plans = Plans::default();
        plans.tell(&name("a"), upcoming(&[1, 2]));
        let plan = plans.next().unwrap();
        plans.put_back(plan);
        let plan = plans.next().unwrap();
        assert_eq!(plan.id, InstanceId(1));
        plans.tell(&name("a"), upcoming(&[2]));
        plans.put_back(plan);
        assert_eq!(next(&mut plans), Some(("a".to_owned(), 2)));
        assert_eq!(next(&mut plans), None);
    }
}
