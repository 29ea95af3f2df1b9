//! How many associations are open, in all and per address, and whether one more may be; and the connections that have
//! not come to an association yet.
//!
//! The two are counted apart: a connection takes a place in the [`Lobby`] when it arrives and one of the [`Slots`] when
//! its request is accepted. Who only connects can fill the lobby alone, and there he displaces himself; so does who asks
//! for much and does not come to an end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
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

/// How many bytes of a request that is not complete a connection may hold without asking anybody. Most requests are
/// smaller.
const SHARE: usize = 16 * 1024;

/// The connections that have not come to an association yet.
///
/// Nobody is kept out, because a modality that means it needs no more than a few round trips here. When one comes too
/// many, another must go: the one that has waited longest, of the address that has most of them.
///
/// The same holds for memory. What a request takes beyond its [`SHARE`], while it is not complete, comes from a reserve for
/// all of them. When one needs more and the reserve is spent, another that holds some of it must go, chosen among these in
/// the same way: who means it is still sending, and who keeps back his last byte asks for nothing. What was held is
/// there for others only when it is really freed, so that the reserve is a limit and no wish; until then nothing more is
/// read of those who wait for it.
#[derive(Debug)]
pub(super) struct Lobby {
    most: usize,
    reserve: usize,
    waiting: Mutex<Waiting>,
    /// Some of the reserve was given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// In order of arrival, also those who have to go and are not gone yet.
    guests: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    address: IpAddr,
    displaced: CancellationToken,
    /// Bytes of the reserve.
    held: usize,
}

/// A connection's place in the lobby; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    lobby: Arc<Lobby>,
    number: u64,
    displaced: CancellationToken,
}

impl Lobby {
    /// With places for so many, and so many bytes of memory for wide requests.
    pub(super) fn new(most: usize, reserve: usize) -> Arc<Self> {
        Arc::new(Self { most, reserve, waiting: Mutex::default(), freed: Notify::new() })
    }

    /// Takes a place for a connection from `address`, if need be another's.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Guest {
        let mut waiting = self.waiting();
        if waiting.staying().count() >= self.most {
            waiting.displace_one(|_, _| true);
        }
        waiting.last += 1;
        let (number, displaced) = (waiting.last, CancellationToken::new());
        waiting.guests.insert(number, Place { address, displaced: displaced.clone(), held: 0 });
        Guest { lobby: Arc::clone(self), number, displaced }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Those who need not go.
    fn staying(&self) -> impl Iterator<Item = (u64, &Place)> {
        let staying = self.guests.iter().filter(|(_, place)| !place.displaced.is_cancelled());
        staying.map(|(number, place)| (*number, place))
    }

    /// Lets `number` hold so much of the reserve from now on, if there is so much; tells how much it held before. If there
    /// is not, others are displaced.
    fn hold(&mut self, number: u64, wanted: usize, reserve: usize) -> Option<usize> {
        let of_others = |(other, place): (u64, &Place)| if other == number { 0 } else { place.held };
        let held: usize = self.guests.iter().map(|(other, place)| of_others((*other, place))).sum();
        let place = self.guests.get_mut(&number)?;
        let must_go = place.displaced.is_cancelled();
        if wanted <= place.held || (held + wanted <= reserve && !must_go) {
            return Some(std::mem::replace(&mut place.held, wanted));
        }
        // Who has to go, and is not gone yet, makes room soon.
        while !must_go
            && self.staying().map(of_others).sum::<usize>() + wanted > reserve
            && self.displace_one(|other, place| other != number && place.held > 0)
        {}
        None
    }

    /// Displaces one of these: who has waited longest, of the address that has most of them. Whether there was anybody.
    fn displace_one(&self, may_go: impl Fn(u64, &Place) -> bool) -> bool {
        let mut from: HashMap<IpAddr, (usize, u64)> = HashMap::new();
        for (number, place) in self.staying().filter(|(number, place)| may_go(*number, place)) {
            from.entry(place.address).or_insert((0, number)).0 += 1;
        }
        let most = from.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest)));
        let place = most.and_then(|(_, oldest)| self.guests.get(&oldest));
        place.inspect(|place| place.displaced.cancel()).is_some()
    }
}

impl Guest {
    /// Waits until another has taken the place: the connection must be closed.
    pub(super) async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Waits until so many bytes of a request may be held, in place of as many as before. Who is displaced waits for ever.
    pub(super) async fn hold(&self, bytes: usize) {
        let wanted = bytes.saturating_sub(SHARE);
        loop {
            let freed = self.lobby.freed.notified();
            let held_before = self.lobby.waiting().hold(self.number, wanted, self.lobby.reserve);
            match held_before {
                None => freed.await,
                Some(before) if before > wanted => return self.lobby.freed.notify_waiters(),
                Some(_) => return,
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let gone = self.lobby.waiting().guests.remove(&self.number);
        if gone.is_some_and(|place| place.held > 0) {
            self.lobby.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));
    const US: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 6));

    fn displaced(guest: &Guest) -> bool {
        guest.displaced.is_cancelled()
    }

    /// Whether so much may be held at once.
    async fn holds(guest: &Guest, bytes: usize) -> bool {
        tokio::select! {
            biased;
            () = guest.hold(bytes) => true,
            () = std::future::ready(()) => false,
        }
    }

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
        let lobby = Lobby::new(3, 0);
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

    #[tokio::test]
    async fn what_requests_take_beyond_their_share_comes_from_the_reserve_and_goes_back_to_it() {
        let lobby = Lobby::new(9, 100);
        let [first, second, third] = [US, CT, US].map(|address| lobby.enter(address));
        for guest in [&first, &second, &third] {
            assert!(holds(guest, SHARE).await, "its share is anybody's");
        }
        assert!(holds(&first, SHARE + 60).await && holds(&second, SHARE + 40).await);
        assert!(holds(&first, SHARE + 60).await && holds(&second, 0).await, "the second request is complete");
        assert!(holds(&third, SHARE + 40).await);
        assert_eq!([&first, &second, &third].map(displaced), [false; 3]);

        assert!(!holds(&second, SHARE + 50).await, "the reserve is spent");
        assert_eq!([&first, &second, &third].map(displaced), [true, false, false]);
        assert!(!holds(&first, SHARE + 61).await, "nothing more for who has to go");
        tokio::join!(second.hold(SHARE + 50), async { drop(first) });
        assert_eq!([&second, &third].map(displaced), [false; 2]);

        assert!(!holds(&second, SHARE + 100).await && displaced(&third));
        tokio::join!(second.hold(SHARE + 100), third.hold(0));
        assert!(!displaced(&second), "that the other came to his end before he went is as good");
        drop((second, third));
        assert!(lobby.waiting().guests.is_empty());
    }

    /// 200 wide requests without their last byte would be 50 MiB.
    #[tokio::test]
    async fn of_wide_requests_the_one_that_has_waited_longest_makes_way_and_never_the_one_that_asks() {
        let lobby = Lobby::new(9, 100);
        let [idle, modality] = [US, CT].map(|address| lobby.enter(address));
        assert!(holds(&modality, SHARE + 40).await);
        let crowd = [(); 3].map(|()| lobby.enter(US));
        for guest in &crowd {
            assert!(holds(guest, SHARE + 20).await);
        }
        assert!(!holds(&modality, SHARE + 60).await, "it has waited longest and holds most");
        assert_eq!(crowd.each_ref().map(displaced), [true, false, false]);
        let [first, second, third] = crowd;
        tokio::join!(modality.hold(SHARE + 60), async { drop(first) });

        let fourth = lobby.enter(US);
        assert!(!holds(&fourth, SHARE + 10).await);
        assert_eq!([&idle, &modality, &second, &third, &fourth].map(displaced), [false, false, true, false, false]);
        tokio::join!(fourth.hold(SHARE + 10), async { drop(second) });
        assert!(holds(&modality, 0).await, "complete");
        assert_eq!([&idle, &modality, &third, &fourth].map(displaced), [false; 4]);
    }
}
