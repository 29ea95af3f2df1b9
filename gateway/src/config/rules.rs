//! Where instances go: each `[rule.NAME]`, in the order of the file.

use super::document::Content;
use super::finding::Finding;
use super::modalities::networks;
use super::reader::{Given, Reader};
use super::settings::Destination;
use super::units::Bytes;
use super::validate::{destination_names, parsed, priority};
use crate::dataset::dictionary;
use crate::model::{AeTitle, DestinationName, Priority, Uid};
use crate::routing::{Attribute, Condition, Course, Pattern, Rule, Rules};

/// The kind of table in which a rule is described.
const TABLE: &str = "rule";

/// What leaving a condition out means.
const ANY: &str = "leave the key out to ask for nothing";

const TITLE_REMEDY: &str = "Give 1 to 16 printable ASCII characters, as the modality has it; case matters.";

pub(super) fn rules(reader: &mut Reader, destinations: &[Given<Destination>], warnings: &mut Vec<Finding>) -> Rules {
    let mut rules: Vec<Rule> = Vec::new();
    let mut decides_all: Option<String> = None;
    let tables = reader.document.named(TABLE);
    let last = tables.last().map(|(name, ..)| name.clone());
    for (name, place, label) in tables {
        let header = Given { value: name, place, label };
        let Some(rule) = rule(reader, &header, destinations) else { continue };
        let mut warn = |what: String, remedy: &str| {
            let (place, key, remedy) = (header.place.clone(), header.label.clone(), remedy.to_owned());
            warnings.push(Finding { place, key, what, remedy });
        };
        if let Some(first) = &decides_all {
            let what = format!("can never decide anything: [{TABLE}.{first}] in front of it fits everything");
            warn(what, "Move it in front of that one, or remove it.");
        } else if rule.conditions.is_empty() {
            if last.as_ref() != Some(&header.value) {
                let what = "has no condition, so it fits everything, and other rules stand behind it".to_owned();
                warn(what, "Move it to the end, or add a condition.");
            }
            decides_all = Some(header.value.clone());
        }
        rules.push(rule);
    }
    Rules::new(rules)
}

/// `None` if the rule cannot be used; why, the reader knows.
fn rule(reader: &mut Reader, header: &Given<String>, destinations: &[Given<Destination>]) -> Option<Rule> {
    let name = parsed::<DestinationName>(reader, header, "Name it as you would speak of it, for example ct-night.");
    let table = header.value.as_str();
    let conditions = conditions(reader, table);
    let course = course(reader, table, destinations);
    let priority = priority(reader, (TABLE, table));
    let says_what =
        ["to", "withhold", "priority"].into_iter().any(|key| reader.document.get(TABLE, table, key).is_some());
    if !says_what {
        let remedy = r#"Add to = ["archive"], withhold = true or priority = "stat"; or remove the table."#;
        reader.refuse(header, "says nothing about what happens when it fits", remedy);
    }
    Some(Rule { name: name?, conditions, course, priority })
}

fn course(reader: &mut Reader, table: &str, destinations: &[Given<Destination>]) -> Option<Course> {
    let withhold = reader.switch(TABLE, table, "withhold");
    let nowhere = reader.document.get(TABLE, table, "to").filter(|entry| entry.content == Content::List(Vec::new()));
    if let Some(entry) = nowhere {
        let remedy = "Write withhold = true in its place if that is meant: it is kept here and sent nowhere.";
        reader.add(entry.place, entry.label, "is empty, so what fits would go nowhere", remedy);
        return None;
    }
    let to = destination_names(reader, (TABLE, table, "to"), destinations, "leave the key out");
    match (to, withhold) {
        (Some(_), Some(given)) if given.value => {
            reader.refuse(&given, "contradicts to", "Remove one of the two lines.");
            None
        }
        (Some(names), _) => Some(Course::To(names)),
        (None, Some(given)) if given.value => Some(Course::Withhold),
        (None, Some(given)) => {
            reader.refuse(&given, "is false, which is what holds without it", "Remove the line, or write true.");
            None
        }
        (None, None) => None,
    }
}

/// All conditions of a rule. The first that does not fit is what `waystation route` names, so what is known before the
/// data set comes first.
fn conditions(reader: &mut Reader, table: &str) -> Vec<Condition> {
    let mut conditions = Vec::new();
    conditions.extend(titles(reader, table, "calling").map(Condition::Calling));
    conditions.extend(titles(reader, table, "called").map(Condition::Called));
    let addresses = reader.given_list(TABLE, table, "addresses", ANY);
    conditions.extend(addresses.map(|list| Condition::Addresses(networks(reader, &list))));
    conditions.extend(sop_classes(reader, table));
    let remedy = r#"Give UIDs of transfer syntaxes: ["1.2.840.10008.1.2.4.80"] is JPEG-LS."#;
    let syntaxes = reader.given_list(TABLE, table, "transfer-syntax", ANY);
    let mut uids = |list: Vec<_>| list.iter().filter_map(|given| parsed::<Uid>(reader, given, remedy)).collect();
    conditions.extend(syntaxes.map(|list| Condition::TransferSyntax(uids(list))));
    conditions.extend(dimse_priorities(reader, table));
    for attribute in Attribute::ALL {
        let remedy = r#"Give texts as they stand in the data set; "*" stands for any letters, "?" for one."#;
        let list = reader.given_list(TABLE, table, attribute.key(), ANY);
        conditions.extend(list.map(|list| Condition::Text(attribute, patterns(reader, &list, remedy))));
    }
    conditions.extend(sizes(reader, table));
    conditions
}

pub(super) fn patterns(reader: &mut Reader, list: &[Given<String>], remedy: &str) -> Vec<Pattern> {
    let mut patterns = Vec::with_capacity(list.len());
    for given in list {
        match given.value.parse() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => reader.refuse(given, format!("{:?} cannot be compared with: {error}", given.value), remedy),
        }
    }
    patterns
}

fn titles(reader: &mut Reader, table: &str, key: &str) -> Option<Vec<AeTitle>> {
    let list = reader.given_list(TABLE, table, key, ANY)?;
    Some(list.iter().filter_map(|given| parsed(reader, given, TITLE_REMEDY)).collect())
}

fn sop_classes(reader: &mut Reader, table: &str) -> Option<Condition> {
    let list = reader.given_list(TABLE, table, "sop-class", ANY)?;
    let mut uids = Vec::with_capacity(list.len());
    for given in &list {
        match dictionary::sop_class_by_keyword(&given.value).or_else(|| given.value.parse().ok()) {
            Some(uid) => uids.push(uid),
            None => {
                let what = format!("{:?} is neither a UID nor the keyword of a SOP class", given.value);
                reader.refuse(
                    given,
                    what,
                    r#"Write "CTImageStorage", as PS3.6 has it, or "1.2.840.10008.5.1.4.1.1.2"."#,
                );
            }
        }
    }
    Some(Condition::SopClass(uids))
}

fn dimse_priorities(reader: &mut Reader, table: &str) -> Option<Condition> {
    let list = reader.given_list(TABLE, table, "dimse-priority", ANY)?;
    let mut priorities = Vec::with_capacity(list.len());
    for given in &list {
        match given.value.as_str() {
            "high" => priorities.push(Priority::Stat),
            "medium" => priorities.push(Priority::Routine),
            "low" => priorities.push(Priority::Low),
            other => {
                let what = format!("{other:?} is not a priority of DIMSE");
                reader.refuse(given, what, r#"Write "high", "medium" or "low", as PS3.7 E.1 has it."#);
            }
        }
    }
    Some(Condition::DimsePriority(priorities))
}

fn sizes(reader: &mut Reader, table: &str) -> Vec<Condition> {
    let range = (Bytes(1), Bytes(1 << 40));
    let larger = reader.optional_quantity((TABLE, table, "larger-than"), range, ANY);
    let smaller = reader.optional_quantity((TABLE, table, "smaller-than"), range, ANY);
    if let (Some(larger), Some(smaller), Some(entry)) =
        (larger, smaller, reader.document.get(TABLE, table, "smaller-than"))
        && smaller.0.saturating_sub(larger.0) < 2
    {
        reader.add(
            entry.place,
            entry.label,
            "leaves nothing that is larger than larger-than",
            "Correct one of the two.",
        );
    }
    let larger = larger.map(|bytes| Condition::LargerThan(bytes.0));
    larger.into_iter().chain(smaller.map(|bytes| Condition::SmallerThan(bytes.0))).collect()
}
