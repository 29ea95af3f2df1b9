//! How many associations are open, in all and per address, and whether one more may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The counts, and their limits.
#[derive(Debug)]
pub(super) struct Slots {
    most: usize,
    most_per_address: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one association; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
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
}

impl Slots {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, open: Mutex::default() })
    }

    /// Takes a slot for an association from `address`.
    ///
    /// # Errors
    /// A limit is reached.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Slot, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= self.most {
            return Err(Full::InAll(self.most));
        }
        let from_address = open.entry(address).or_insert(0);
        if *from_address >= self.most_per_address {
            return Err(Full::FromAddress(self.most_per_address));
        }
        *from_address += 1;
        Ok(Slot { slots: Arc::clone(self), address })
    }

    /// Associations that are open now.
    pub(super) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
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
        let taken = [slots.take(CT).unwrap(), slots.take(CT).unwrap()];
        assert_eq!(slots.take(CT).unwrap_err(), Full::FromAddress(2));
        let other = slots.take(US).unwrap();
        assert_eq!(slots.take(US).unwrap_err(), Full::InAll(3));
        drop(taken);
        assert_eq!(slots.open(), 1);
        assert!(slots.take(CT).is_ok());
        drop(other);
        assert_eq!(slots.open(), 0);
    }
}
