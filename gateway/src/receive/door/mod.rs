//! The door book: who came, what was said to him, and how it ended.
//!
//! # What it promises
//!
//! - **Bounded.** At most [`MODALITIES`] pages of configured modalities and [`STRANGERS`] of others, each with the last
//!   [`VISITS`] or [`STRANGERS_VISITS`] visits; every text and list of a visit is cut. A flood of strangers displaces
//!   strangers, and among those first who takes most of the room; never a modality's page.
//! - **Pure.** [`Book`] takes what happened and the time, and gives views; it does no I/O and reads no clock. [`keep`]
//!   saves it and reads it again.
//! - **Harmless.** Whatever a peer sent is escaped before it is entered, so it is safe on a terminal wherever it is
//!   shown. No patient data: of a data set only the difference of two clocks is kept.
//!
//! # Pages
//!
//! | who | page |
//! |---|---|
//! | passed admission, or failed it only in something that its own entry asks for | the modality's |
//! | any other request for an association | calling AE title and address |
//! | anything that came to no request: a broken handshake, another protocol | address |
//!
//! A connection that closes without a byte is how a port check looks and is not entered.

pub mod admit;
pub mod keep;
mod page;
pub mod skew;
mod view;
mod visit;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

pub use self::page::Page;
use self::skew::Lateness;
pub use self::view::{ClockView, DoorView, LeftOutView, PeerView};
pub use self::visit::{ContextSummary, Outcome, Request, Tally, Visit, of_release};
use crate::config::Modality;
use crate::model::{AeTitle, DestinationName, Timestamp};

/// The largest number of configured modalities that have a page.
pub const MODALITIES: usize = 512;
/// The largest number of strangers that have a page.
pub const STRANGERS: usize = 64;
/// How many visits of a modality are kept.
pub const VISITS: usize = 16;
/// How many visits of a stranger are kept.
pub const STRANGERS_VISITS: usize = 4;

/// Whose page it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A modality of the configuration.
    Modality(DestinationName),
    /// Anybody else.
    Stranger {
        /// The calling AE title, escaped; `None` if it came to no request.
        calling: Option<String>,
        /// Where it came from.
        address: IpAddr,
    },
}

/// All pages.
#[derive(Debug, Default)]
pub struct Book {
    pages: BTreeMap<Who, Page>,
    /// The names of the modalities that are configured: a stranger is not given one of them.
    configured: BTreeSet<DestinationName>,
    /// The number in the name that was given last. It only grows, so that no name is ever another's: somebody who has
    /// read it in a list may type it much later.
    last_number: u64,
    changed: bool,
}

impl Book {
    /// A book of which the pages before are not known: no name is given that may have been given then.
    #[must_use]
    pub fn begun_anew(now: Timestamp) -> Self {
        // Names are given more rarely than once a second in the life of a box.
        Self { last_number: now.as_millis() / 1_000, ..Self::default() }
    }

    /// A book with these pages, as far as they are within the bounds.
    #[must_use]
    pub fn with_pages(pages: Vec<Page>, last_number: u64) -> Self {
        let numbers = pages.iter().filter_map(|page| page.name.rsplit('-').next()?.parse().ok());
        let last_number = numbers.fold(last_number, u64::max);
        let mut book = Self { last_number, ..Self::default() };
        for mut page in pages {
            page.keep_within_bounds();
            book.make_room_for(&page.who);
            book.pages.insert(page.who.clone(), page);
        }
        book
    }

    /// This book was begun while an earlier one could not be read: it goes on from that one, as if it had been.
    pub fn go_on_from(&mut self, earlier: Self) {
        let begun = std::mem::replace(self, earlier);
        self.last_number = self.last_number.max(begun.last_number);
        self.configured(begun.configured);
        for (who, page) in begun.pages {
            match self.pages.get_mut(&who) {
                Some(earlier) => earlier.go_on_with(page),
                None => {
                    self.make_room_for(&who);
                    self.pages.insert(who, page);
                }
            }
        }
        self.changed = true;
    }

    /// These modalities are configured from now on. The pages of others are closed.
    pub fn configured(&mut self, names: impl IntoIterator<Item = DestinationName>) {
        self.configured = names.into_iter().collect();
        let configured = &self.configured;
        let before = self.pages.len();
        self.pages.retain(|who, _| match who {
            Who::Modality(name) => configured.contains(name),
            Who::Stranger { .. } => true,
        });
        self.changed |= self.pages.len() != before;
    }

    /// Enters a visit that has ended, with how late its instances were by their own account.
    pub fn enter(&mut self, who: &Who, visit: Visit, lateness: impl IntoIterator<Item = Lateness>) {
        if !self.pages.contains_key(who) {
            self.make_room_for(who);
            let name = self.name_for(who);
            self.pages.insert(who.clone(), Page::new(who.clone(), name, visit.at));
        }
        if let Some(page) = self.pages.get_mut(who) {
            page.enter(visit, lateness);
            self.changed = true;
        }
    }

    /// The stranger whose page this is has become a modality: his visits go with him.
    pub fn admitted(&mut self, stranger: &Who, modality: &DestinationName) {
        self.configured.insert(modality.clone());
        if let Some(mut page) = self.pages.remove(stranger) {
            let who = Who::Modality(modality.clone());
            page.who = who.clone();
            modality.as_str().clone_into(&mut page.name);
            self.make_room_for(&who);
            self.pages.insert(who, page);
            self.changed = true;
        }
    }

    /// Tears out the page of this name. Whether there was one.
    pub fn forget(&mut self, name: &str) -> bool {
        let before = self.pages.len();
        self.pages.retain(|_, page| page.name != name);
        let torn = self.pages.len() != before;
        self.changed |= torn;
        torn
    }

    /// The page of this name.
    #[must_use]
    pub fn page(&self, name: &str) -> Option<&Page> {
        self.pages.values().find(|page| page.name == name)
    }

    /// The page of this modality.
    #[must_use]
    pub fn page_of(&self, modality: &Modality) -> Option<&Page> {
        self.pages.get(&Who::Modality(modality.name.clone()))
    }

    /// The pages of strangers, who called last first.
    #[must_use]
    pub fn strangers(&self) -> Vec<&Page> {
        let mut strangers: Vec<&Page> = self.pages.values().filter(|page| page.is_stranger()).collect();
        strangers.sort_by_key(|page| std::cmp::Reverse(page.last_seen));
        strangers
    }

    /// All pages, in order.
    #[must_use]
    pub fn pages(&self) -> Vec<&Page> {
        self.pages.values().collect()
    }

    /// The number in the name that was given last.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Whether something has been entered since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was taken could not be saved: it has to be tried again.
    pub fn not_saved(&mut self) {
        self.changed = true;
    }

    fn make_room_for(&mut self, who: &Who) {
        let of_kind = |other: &Who| matches!(other, Who::Modality(_)) == matches!(who, Who::Modality(_));
        let most = if matches!(who, Who::Modality(_)) { MODALITIES } else { STRANGERS };
        if self.pages.keys().filter(|other| of_kind(other)).count() < most {
            return;
        }
        // Of strangers, the one seen longest ago of the address that has most pages: who calls himself many names
        // displaces himself.
        let mut from: HashMap<IpAddr, usize> = HashMap::new();
        for who in self.pages.keys() {
            if let Who::Stranger { address, .. } = who {
                *from.entry(*address).or_default() += 1;
            }
        }
        let weight = |page: &Page| match &page.who {
            Who::Stranger { address, .. } => from.get(address).copied().unwrap_or_default(),
            Who::Modality(_) => 0,
        };
        let candidates = self.pages.values().filter(|page| of_kind(&page.who));
        let next = candidates.max_by_key(|page| (weight(page), std::cmp::Reverse(page.last_seen)));
        if let Some(who) = next.map(|page| page.who.clone()) {
            self.pages.remove(&who);
        }
    }

    /// A name for the page, by which a stranger can be admitted: of letters that the configuration takes, and nobody
    /// else's, neither now nor later.
    fn name_for(&mut self, who: &Who) -> String {
        let called = match who {
            Who::Modality(name) => return name.to_string(),
            Who::Stranger { calling: Some(calling), .. } => calling.clone(),
            Who::Stranger { calling: None, address } => format!("from-{address}"),
        };
        loop {
            self.last_number = self.last_number.saturating_add(1);
            let number = format!("-{}", self.last_number);
            let name = plain(&called, LONGEST_NAME.saturating_sub(number.len())) + &number;
            let is_configured = self.configured.iter().any(|modality| modality.as_str() == name);
            if !is_configured && self.pages.values().all(|page| page.name != name) {
                return name;
            }
        }
    }
}

/// The longest name of a modality.
const LONGEST_NAME: usize = 32;

/// Lower-case letters, digits and dashes, beginning with a letter or digit, and not more of them.
fn plain(text: &str, longest: usize) -> String {
    let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let letters: String = letters.collect();
    let cut: String = letters.trim_matches('-').chars().take(longest).collect();
    let cut = cut.trim_end_matches('-');
    if cut.is_empty() { "stranger".to_owned() } else { cut.to_owned() }
}

/// Whose page a request belongs to: the modality's, or that of a stranger.
#[must_use]
pub fn who(modality: Option<&Modality>, calling: &AeTitle, address: IpAddr) -> Who {
    match modality {
        Some(modality) => Who::Modality(modality.name.clone()),
        None => Who::Stranger { calling: Some(calling.to_string()), address },
    }
}
