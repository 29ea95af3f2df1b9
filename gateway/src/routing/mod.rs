//! Where an instance goes, and what goes first: a pure function of what is known when its header has been read.
//!
//! ```text
//! association ─▶ calling, called, address ─┐
//! C-STORE-RQ  ─▶ SOP class, priority ──────┼─▶ the first rule that fits ─▶ Decision ─▶ the record in the log
//! header scan ─▶ Attributes, length ───────┘         │ none, or what it leaves out
//!                                                    └▶ the modality, or else everybody
//! ```
//!
//! - Rules are tried in the order of the configuration. All conditions of a rule must fit; of the list that a condition
//!   holds, one must. An attribute that the data set does not have fits nothing.
//! - The first rule that fits decides alone. What it leaves out is decided as if there were no rule: see [`Without`].
//! - The decision is taken once, before the instance is acknowledged, and is part of its record. A rule that changes later
//!   changes nothing about what is here already.
//! - What was read of the data set for the decision ends with it ([`Attributes`]).
//!
//! # What it deliberately does not do
//!
//! It asks for nothing that stands behind the pixel data, and for nothing about the patient. It does not look at the
//! clock, nor at what destinations are doing: where an instance belongs does not depend on when it came.

mod attributes;
mod condition;
mod pattern;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::attributes::{Attribute, Attributes, LONGEST_VALUE};
pub use self::condition::{Condition, Subject, dimse_word};
pub use self::pattern::{Pattern, PatternError};

use crate::model::{DestinationName, Priority};

/// The rules of a configuration, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<Rule>);

/// `[rule.NAME]`: when all conditions fit, this is what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name that the configuration gives it; built like the name of a destination.
    pub name: DestinationName,
    /// All must fit; without any, everything does.
    pub conditions: Vec<Condition>,
    /// `to` or `withhold`; `None` if the rule leaves it to others where instances go.
    pub course: Option<Course>,
    /// `priority`; `None` if the rule leaves it to others.
    pub priority: Option<Priority>,
}

/// Where a rule sends an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// To these destinations; never empty.
    To(Vec<DestinationName>),
    /// Nowhere: it is kept like a copy that was delivered.
    Withhold,
}

/// What holds where no rule says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Without<'a> {
    /// The destinations of the modality, or else those that everything goes to.
    pub destinations: &'a [DestinationName],
    /// The priority of the modality, if it has one; or else it is that of the C-STORE-RQ.
    pub priority: Option<Priority>,
}

/// What becomes of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The rule that decided.
    pub rule: Option<DestinationName>,
    /// Where it goes. Empty if it is withheld.
    pub destinations: Vec<DestinationName>,
    /// A rule says that it goes nowhere.
    pub withheld: bool,
    /// What goes first.
    pub priority: Priority,
}

impl Rules {
    /// These, tried in this order.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// All, in the order in which they are tried.
    #[must_use]
    pub fn as_slice(&self) -> &[Rule] {
        &self.0
    }

    /// Decides about an instance.
    #[must_use]
    pub fn decide(&self, subject: &Subject<'_>, without: Without<'_>) -> Decision {
        let rule = self.0.iter().find(|rule| rule.misfit(subject).is_none());
        let course = rule.and_then(|rule| rule.course.as_ref());
        Decision {
            rule: rule.map(|rule| rule.name.clone()),
            destinations: match course {
                Some(Course::To(destinations)) => destinations.clone(),
                Some(Course::Withhold) => Vec::new(),
                None => without.destinations.to_vec(),
            },
            withheld: course == Some(&Course::Withhold),
            priority: rule.and_then(|rule| rule.priority).or(without.priority).unwrap_or(subject.dimse_priority),
        }
    }
}

impl Rule {
    /// The first condition that does not fit; `None` if the rule fits.
    #[must_use]
    pub fn misfit(&self, subject: &Subject<'_>) -> Option<&Condition> {
        self.conditions.iter().find(|condition| !condition.fits(subject))
    }
}

impl fmt::Display for Rule {
    /// In one line: `ct-night: modality CT and calling CT1: to archive, priority low`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<_> = self.conditions.iter().map(ToString::to_string).collect();
        let conditions = if conditions.is_empty() { "everything".to_owned() } else { conditions.join(" and ") };
        let course = self.course.as_ref().map(|course| match course {
            Course::To(destinations) => {
                format!("to {}", destinations.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            Course::Withhold => "withheld".to_owned(),
        });
        let priority = self.priority.map(|priority| format!("priority {}", word(priority)));
        let actions: Vec<_> = course.into_iter().chain(priority).collect();
        write!(f, "{}: {conditions}: {}", self.name, actions.join(", "))
    }
}

/// A priority as the configuration has it.
#[must_use]
pub fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::Stat => "stat",
        Priority::Routine => "routine",
        Priority::Low => "low",
    }
}
