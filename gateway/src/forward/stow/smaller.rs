//! In what instances leave for a service that is said to take smaller transfer syntaxes (`compress = true`). Pure.
//!
//! STOW-RS negotiates nothing, so the configuration has to say it, and the answers show whether it is so:
//!
//! - a kind that is refused for its transfer syntax (415, 0122, C122) is not offered in that one for a day, and the
//!   instance goes again at once;
//! - an instance that is refused for another reason goes as it is stored the next time, as over an association;
//! - one that is to go again later, or whose connection broke, does so, too: it may be the transfer syntax over which the
//!   service stumbles. After three of a kind, one behind the other, that arrived only so, it is, and the kind is offered
//!   as it is stored for a day.

use std::collections::HashMap;
use std::hash::Hash;

use super::REMEMBERED;
use crate::forward::benefit::Kind;
use crate::model::{InstanceId, Uid};

/// So many that arrive only as they are stored are no accident.
const IN_A_ROW: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Instances that are to go again after they have left in one of these.
    stumbled: HashMap<InstanceId, Uid>,
    /// How many of a kind have arrived only as they are stored, without one in between that arrived in this.
    in_a_row: HashMap<(Kind, Uid), u32>,
}

impl Doubts {
    /// Whether this instance is to leave as it is stored.
    pub(super) fn are_about(&self, id: InstanceId) -> bool {
        self.stumbled.contains_key(&id)
    }

    /// It has left in this transfer syntax, and is to go again, without having been refused.
    pub(super) fn stumbled(&mut self, id: InstanceId, syntax: &Uid) {
        bounded(&mut self.stumbled).insert(id, syntax.clone());
    }

    /// It has arrived, in a smaller transfer syntax or otherwise. Gives one in which its kind does not arrive.
    pub(super) fn arrived(&mut self, id: InstanceId, kind: &Kind, smaller: Option<&Uid>) -> Option<Uid> {
        let stumbled = self.stumbled.remove(&id);
        if let Some(smaller) = smaller {
            self.in_a_row.remove(&(kind.clone(), smaller.clone()));
            return None;
        }
        let key = (kind.clone(), stumbled?);
        let times = bounded(&mut self.in_a_row).entry(key.clone()).or_default();
        *times += 1;
        if *times < IN_A_ROW {
            return None;
        }
        self.in_a_row.remove(&key).map(|_| key.1)
    }
}

/// Forgetting costs a request or two.
fn bounded<K: Eq + Hash, V>(known: &mut HashMap<K, V>) -> &mut HashMap<K, V> {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    #[test]
    fn three_that_arrive_only_as_they_are_stored_show_what_the_service_does_not_bear() {
        let kind = Kind { sop_class: uid("1.2.3"), transfer_syntax: uid("1.2.4") };
        let (smaller, another) = (uid("1.2.5"), uid("1.2.6"));
        let mut doubts = Doubts::default();
        let mut stumble = |number: u64, syntax: &Uid| {
            let id = InstanceId(number);
            doubts.stumbled(id, syntax);
            assert!(doubts.are_about(id) && !doubts.are_about(InstanceId(number + 1)));
            let shown = doubts.arrived(id, &kind, None);
            assert!(!doubts.are_about(id));
            shown
        };
        assert_eq!([stumble(1, &smaller), stumble(2, &smaller), stumble(3, &another)], [None, None, None]);
        assert_eq!(stumble(4, &smaller), Some(smaller.clone()));
        assert_eq!([stumble(5, &smaller), stumble(6, &smaller)], [None, None], "and from the beginning");
        assert_eq!(doubts.arrived(InstanceId(7), &kind, Some(&smaller)), None);
        assert_eq!(doubts.arrived(InstanceId(8), &kind, None), None, "one that never stumbled shows nothing");
        doubts.stumbled(InstanceId(9), &smaller);
        assert_eq!(doubts.arrived(InstanceId(9), &kind, None), None, "one in between has arrived");
    }
}
