//! Who may open an association: modalities by AE title and address, everybody else is refused.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::model::{AeTitle, DestinationName};

/// Who may send to this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Anybody who reaches the port (`allow-any`). For a first try only.
    Any,
    /// The modalities that are listed, each from its own addresses. Never empty.
    Named(Vec<Modality>),
}

/// One application entity that may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modality {
    /// The name the configuration gives it, for people; built like the name of a destination.
    pub name: DestinationName,
    /// The calling AE title it must present, exactly.
    pub aet: AeTitle,
    /// The addresses it may come from. Never empty.
    pub addresses: Vec<Network>,
}

/// Why a caller is not admitted. The peer is told the same in both cases; the log tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No modality has this AE title.
    #[error("no [modality.*] of the configuration has this AE title; add one if it belongs here (case matters)")]
    UnknownAeTitle,
    /// A modality has this AE title, but not this address.
    #[error(
        "the AE title is listed, but not with this address; if the device has moved, add the address to its [modality.*]"
    )]
    OtherAddress,
}

impl Admission {
    /// Decides about a caller. `Ok(None)` means that anybody is admitted.
    ///
    /// # Errors
    /// The caller is not listed; the answer is an A-ASSOCIATE-RJ with source 1, reason 3 (PS3.8 9.3.4).
    pub fn admit(&self, calling: &AeTitle, address: IpAddr) -> Result<Option<&Modality>, NotAdmitted> {
        let Self::Named(modalities) = self else { return Ok(None) };
        let mut verdict = NotAdmitted::UnknownAeTitle;
        for modality in modalities.iter().filter(|modality| modality.aet == *calling) {
            if modality.addresses.iter().any(|network| network.contains(address)) {
                return Ok(Some(modality));
            }
            verdict = NotAdmitted::OtherAddress;
        }
        Err(verdict)
    }
}

/// One address, or a range of them in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is neither an address nor a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It does not parse.
    #[error("{0:?} is neither an IP address nor a range")]
    Unreadable(String),
    /// The part after the slash is more than the address has bits.
    #[error("{text:?} has a prefix beyond /{most}")]
    Prefix {
        /// As given.
        text: String,
        /// Bits of the address.
        most: u8,
    },
    /// Bits behind the prefix are set, so it is unclear whether one address or the whole range is meant.
    #[error(
        "{text:?} is one address with the prefix of a range; write {network} for the whole range, or {address} alone"
    )]
    HostBits {
        /// As given.
        text: String,
        /// The range that contains it.
        network: Network,
        /// The address alone.
        address: IpAddr,
    },
}

impl Network {
    /// Whether the address lies in the range. An IPv4 address that arrived at an IPv6 socket counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

/// The address with every bit behind the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let unreadable = || NetworkError::Unreadable(text.chars().take(80).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| unreadable())?)),
            None => (text, None),
        };
        let address = address.parse::<IpAddr>().map_err(|_| unreadable())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        if prefix > most {
            return Err(NetworkError::Prefix { text: text.to_owned(), most });
        }
        let network = Self { address: masked(address, prefix), prefix };
        if network.address == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { text: text.to_owned(), network, address })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        if self.prefix == most { write!(f, "{}", self.address) } else { write!(f, "{}/{}", self.address, self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_contains_its_addresses_and_no_others() {
        let clinic = network("192.168.7.0/24");
        assert!(clinic.contains(address("192.168.7.20")));
        assert!(!clinic.contains(address("192.168.8.20")));
        assert!(network("0.0.0.0/0").contains(address("203.0.113.9")));
        assert!(!network("0.0.0.0/0").contains(address("2001:db8::1")));
        assert!(network("::/0").contains(address("2001:db8::1")));
        assert!(network("10.1.2.3").contains(address("10.1.2.3")));
        assert!(!network("10.1.2.3").contains(address("10.1.2.4")));
        assert!(network("fd00::/8").contains(address("fdaa::1")));
    }

    #[test]
    fn an_ipv4_modality_is_recognised_at_an_ipv6_socket() {
        assert!(network("192.168.7.20").contains(address("::ffff:192.168.7.20")));
    }

    #[test]
    fn unclear_ranges_are_refused_with_what_may_be_meant() {
        let error = "192.168.7.20/24".parse::<Network>().unwrap_err().to_string();
        assert!(error.contains("192.168.7.0/24 for the whole range, or 192.168.7.20 alone"), "{error}");
        for bad in ["", "ct1", "1.2.3", "1.2.3.4/33", "::1/129", "1.2.3.4/x", "1.2.3.4/", "/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_the_listed_title_from_its_own_address_is_admitted() {
        let ct = Modality {
            name: "ct".parse().unwrap(),
            aet: "CT1".parse().unwrap(),
            addresses: vec![network("192.168.7.20")],
        };
        let admission = Admission::Named(vec![ct]);
        let (ct1, us1) = ("CT1".parse().unwrap(), "US1".parse().unwrap());
        assert!(admission.admit(&ct1, address("192.168.7.20")).unwrap().is_some());
        assert_eq!(admission.admit(&ct1, address("192.168.7.21")), Err(NotAdmitted::OtherAddress));
        assert_eq!(admission.admit(&us1, address("192.168.7.20")), Err(NotAdmitted::UnknownAeTitle));
        assert_eq!(Admission::Any.admit(&us1, address("::1")), Ok(None));
    }
}
