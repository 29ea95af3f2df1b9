//! How many associations are open, in all and per address, and whether one more may be; and the connections that have
//! not come to an association yet.
//!
//! The two are counted apart: a connection takes a place in the [`Lobby`] when it arrives and one of the [`Slots`] when
//! its request is accepted. Who only connects can fill the lobby alone, and there he displaces himself.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::config::Modality;
use crate::model::DestinationName;

/// The counts, and their limits.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    in_all: usize,
    from: HashMap<IpAddr, usize>,
    of: HashMap<DestinationName, usize>,
}

/// The right to one association; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
    modality: Option<DestinationName>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// This many are open in all.
    #[error("{0} associations are open, which is the limit (max-associations); the device will try again")]
    InAll(usize),
    /// This many are open from that address.
    #[error("{0} associations are open from its address, which is the limit (max-associations-per-address)")]
    FromAddress(usize),
    /// This many of that modality are open.
    #[error(
        "{0} associations of this modality are open, which is its limit (max-associations); the device will try again"
    )]
    OfModality(usize),
}

impl Slots {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, open: Mutex::default() })
    }

    /// Takes a slot for an association from `address`, of this modality if it is one of those listed. The modality's own
    /// limit, if it has one, stands in place of that per address.
    ///
    /// # Errors
    /// A limit is reached.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, modality: Option<&Modality>) -> Result<Slot, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.in_all >= self.most {
            return Err(Full::InAll(self.most));
        }
        let name = modality.map(|modality| &modality.name);
        let of_modality = name.and_then(|name| open.of.get(name)).copied().unwrap_or_default();
        let from_address = open.from.get(&address).copied().unwrap_or_default();
        match modality.and_then(|modality| modality.max_associations).map(|most| most as usize) {
            Some(most) if of_modality >= most => return Err(Full::OfModality(most)),
            None if from_address >= self.most_per_address => return Err(Full::FromAddress(self.most_per_address)),
            _ => {}
        }
        open.in_all += 1;
        *open.from.entry(address).or_default() += 1;
        if let Some(name) = name {
            *open.of.entry(name.clone()).or_default() += 1;
        }
        Ok(Slot { slots: Arc::clone(self), address, modality: name.cloned() })
    }

    /// Associations that are open now.
    pub(super) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).in_all
    }
}

impl Slots {
    /// Associations of this modality that are open now.
    pub(super) fn open_of(&self, modality: &DestinationName) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.of.get(modality).copied().unwrap_or_default()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.in_all = open.in_all.saturating_sub(1);
        one_less(&mut open.from, &self.address);
        if let Some(name) = &self.modality {
            one_less(&mut open.of, name);
        }
    }
}

/// Counts one less, and forgets who has none left.
fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The connections that have not come to an association yet.
///
/// Nobody is kept out, because a modality that means it needs no more than a few round trips here. When one comes too
/// many, another must go: the one that has waited longest, of the address that has most of them.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// In order of arrival.
    guests: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A connection's place in the lobby; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    lobby: Arc<Lobby>,
    number: u64,
    displaced: CancellationToken,
}

impl Lobby {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, waiting: Mutex::default() })
    }

    /// Takes a place for a connection from `address`, if need be another's.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Guest {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.guests.len() >= self.most
            && let Some(number) = waiting.next_to_go()
            && let Some((_, displaced)) = waiting.guests.remove(&number)
        {
            displaced.cancel();
        }
        waiting.last += 1;
        let (number, displaced) = (waiting.last, CancellationToken::new());
        waiting.guests.insert(number, (address, displaced.clone()));
        Guest { lobby: Arc::clone(self), number, displaced }
    }
}

impl Waiting {
    fn next_to_go(&self) -> Option<u64> {
        let mut from: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (number, (address, _)) in &self.guests {
            from.entry(*address).or_insert((0, *number)).0 += 1;
        }
        let (_, oldest) = from.into_values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)))?;
        Some(oldest)
    }
}

impl Guest {
    /// Waits until another has taken the place: the connection must be closed.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut waiting = self.lobby.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.guests.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));
    const US: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 6));

    #[test]
    fn one_address_cannot_take_every_slot() {
        let slots = Slots::new(3, 2);
        let taken = [slots.take(CT, None).unwrap(), slots.take(CT, None).unwrap()];
        assert_eq!(slots.take(CT, None).unwrap_err(), Full::FromAddress(2));
        let other = slots.take(US, None).unwrap();
        assert_eq!(slots.take(US, None).unwrap_err(), Full::InAll(3));
        drop(taken);
        assert_eq!(slots.open(), 1);
        assert!(slots.take(CT, None).is_ok());
        drop(other);
        assert_eq!(slots.open(), 0);
    }

    #[test]
    fn a_modality_with_a_limit_of_its_own_goes_by_that_one() {
        let slots = Slots::new(100, 2);
        let [aet, called] = ["CT1", "WAYSTATION"].map(|title| title.parse().unwrap());
        let ct = Modality::new("ct1".parse().unwrap(), aet, CT, vec![called]);
        let narrow = Modality { max_associations: Some(1), ..ct.clone() };
        let wide = Modality { max_associations: Some(3), ..ct };
        let first = slots.take(CT, Some(&narrow)).unwrap();
        assert_eq!(slots.take(CT, Some(&narrow)).unwrap_err(), Full::OfModality(1));
        let more = [slots.take(CT, Some(&wide)).unwrap(), slots.take(CT, Some(&wide)).unwrap()];
        assert_eq!(slots.take(CT, Some(&wide)).unwrap_err(), Full::OfModality(3), "whatever its pass said before");
        assert_eq!(slots.take(CT, None).unwrap_err(), Full::FromAddress(2));
        assert_eq!(slots.open(), 3);
        drop((first, more));
        assert_eq!(slots.open(), 0);
    }

    /// 500 silent connections from 50 addresses held all 100 slots for 30 seconds, and no modality was served.
    #[test]
    fn whoever_waits_in_the_lobby_longest_from_the_busiest_address_makes_way() {
        let lobby = Lobby::new(3);
        let displaced = |guest: &Guest| guest.displaced.is_cancelled();
        let first = lobby.enter(US);
        let crowd = [lobby.enter(CT), lobby.enter(CT)];
        let third = lobby.enter(CT);
        assert_eq!([&first, &crowd[0], &crowd[1], &third].map(displaced), [false, true, false, false]);
        let newcomer = lobby.enter(US);
        assert_eq!([&first, &crowd[1], &third, &newcomer].map(displaced), [false, true, false, false]);
        drop(third);
        let last = lobby.enter(CT);
        assert_eq!([&first, &newcomer, &last].map(displaced), [false, false, false]);
        drop((crowd, first, newcomer, last));
        assert!(lobby.waiting.lock().unwrap().guests.is_empty());
    }
}
