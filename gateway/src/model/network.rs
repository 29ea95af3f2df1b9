//! Addresses and ranges of them, as a person writes them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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
    /// One address alone.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether there is an address that lies in both.
    #[must_use]
    pub fn overlaps(&self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

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
    fn ranges_that_share_an_address_overlap() {
        assert!(network("192.168.7.0/24").overlaps(network("192.168.7.20")));
        assert!(network("192.168.7.20").overlaps(network("192.168.0.0/16")));
        assert!(!network("192.168.7.0/24").overlaps(network("192.168.8.0/24")));
        assert!(!network("0.0.0.0/0").overlaps(network("::/0")));
    }
}
