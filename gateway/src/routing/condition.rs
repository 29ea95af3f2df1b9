//! What a rule may ask for.

use std::fmt;
use std::net::IpAddr;

use super::attributes::{Attribute, Attributes};
use super::pattern::Pattern;
use crate::model::{AeTitle, Network, Priority, Uid};

/// An instance, as far as rules may ask.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Who sends it.
    pub calling: &'a AeTitle,
    /// As whom we are called.
    pub called: &'a AeTitle,
    /// Where it comes from, if that is known.
    pub address: Option<IpAddr>,
    /// SOP Class UID.
    pub sop_class: &'a Uid,
    /// The transfer syntax that it comes in.
    pub transfer_syntax: &'a Uid,
    /// Priority (0000,0700) of the C-STORE-RQ.
    pub dimse_priority: Priority,
    /// The length of the data set in bytes, as it was received.
    pub length: u64,
    /// What the data set says of itself.
    pub attributes: &'a Attributes,
}

/// One condition: what is asked for, and a list of which one must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `calling`: the calling AE title, exactly.
    Calling(Vec<AeTitle>),
    /// `called`: the called AE title, exactly.
    Called(Vec<AeTitle>),
    /// `addresses`: where it comes from.
    Addresses(Vec<Network>),
    /// `sop-class`
    SopClass(Vec<Uid>),
    /// `transfer-syntax`
    TransferSyntax(Vec<Uid>),
    /// `dimse-priority`
    DimsePriority(Vec<Priority>),
    /// `larger-than`: more bytes than this.
    LargerThan(u64),
    /// `smaller-than`: fewer bytes than this.
    SmallerThan(u64),
    /// An attribute, by its name in [`Attribute::key`]. One that is missing fits nothing.
    Text(Attribute, Vec<Pattern>),
}

impl Condition {
    /// Its name in a rule.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Calling(_) => "calling",
            Self::Called(_) => "called",
            Self::Addresses(_) => "addresses",
            Self::SopClass(_) => "sop-class",
            Self::TransferSyntax(_) => "transfer-syntax",
            Self::DimsePriority(_) => "dimse-priority",
            Self::LargerThan(_) => "larger-than",
            Self::SmallerThan(_) => "smaller-than",
            Self::Text(attribute, _) => attribute.key(),
        }
    }

    /// Whether the instance is what is asked for.
    #[must_use]
    pub fn fits(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Calling(titles) => titles.contains(subject.calling),
            Self::Called(titles) => titles.contains(subject.called),
            Self::Addresses(networks) => {
                subject.address.is_some_and(|address| networks.iter().any(|network| network.contains(address)))
            }
            Self::SopClass(uids) => uids.contains(subject.sop_class),
            Self::TransferSyntax(uids) => uids.contains(subject.transfer_syntax),
            Self::DimsePriority(priorities) => priorities.contains(&subject.dimse_priority),
            Self::LargerThan(bytes) => subject.length > *bytes,
            Self::SmallerThan(bytes) => subject.length < *bytes,
            Self::Text(attribute, patterns) => {
                let fits = |value: &str| patterns.iter().any(|pattern| pattern.fits(value));
                subject.attributes.of(*attribute).any(fits)
            }
        }
    }

    /// Why the instance is not what is asked for: "modality is MR, not CT". It shows what the data set holds, and is for
    /// the person who has put the data set there.
    #[must_use]
    pub fn misfit(&self, subject: &Subject<'_>) -> String {
        let (key, asked) = (self.key(), self.asked());
        let has = match self {
            Self::Calling(_) => subject.calling.to_string(),
            Self::Called(_) => subject.called.to_string(),
            Self::Addresses(_) => match subject.address {
                Some(address) => address.to_string(),
                None => return format!("addresses asks for {asked}, and no address is known"),
            },
            Self::SopClass(_) => subject.sop_class.to_string(),
            Self::TransferSyntax(_) => subject.transfer_syntax.to_string(),
            Self::DimsePriority(_) => dimse_word(subject.dimse_priority).to_owned(),
            Self::LargerThan(bytes) => {
                return format!("the data set has {} bytes, not more than {bytes}", subject.length);
            }
            Self::SmallerThan(bytes) => {
                return format!("the data set has {} bytes, not fewer than {bytes}", subject.length);
            }
            Self::Text(attribute, _) => {
                let values: Vec<_> = subject.attributes.of(*attribute).collect();
                if values.is_empty() {
                    return format!("{key} is missing or empty, not {asked}");
                }
                values.join("\\")
            }
        };
        format!("{key} is {has}, not {asked}")
    }

    /// What fits, in words.
    fn asked(&self) -> String {
        fn list<T: fmt::Display>(items: &[T]) -> String {
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
        }
        match self {
            Self::Calling(titles) | Self::Called(titles) => list(titles),
            Self::Addresses(networks) => list(networks),
            Self::SopClass(uids) | Self::TransferSyntax(uids) => list(uids),
            Self::DimsePriority(priorities) => list(&priorities.iter().copied().map(dimse_word).collect::<Vec<_>>()),
            Self::LargerThan(bytes) | Self::SmallerThan(bytes) => format!("{bytes} bytes"),
            Self::Text(_, patterns) => list(patterns),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key(), self.asked())
    }
}

/// DIMSE Priority in the words of PS3.7 E.1.
#[must_use]
pub fn dimse_word(priority: Priority) -> &'static str {
    match priority {
        Priority::Stat => "high",
        Priority::Routine => "medium",
        Priority::Low => "low",
    }
}
