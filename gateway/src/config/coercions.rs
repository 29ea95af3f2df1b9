//! What is changed on the way to a destination: each `[coerce.NAME]`, in the order of the file.

use dicom_core::Tag;

use super::finding::Finding;
use super::reader::{Given, Reader};
use super::rules::patterns;
use super::settings::{Coercion, Destination};
use super::validate::{destination_names, parsed};
use crate::dataset::coerce::{Action, Change, values};
use crate::dataset::dictionary;
use crate::model::{AeTitle, DestinationName};
use crate::routing::{Attribute, Condition};

/// The kind of table in which a coercion is described.
const TABLE: &str = "coerce";

/// The longest replacement text, in characters: what is put in has to be held in memory.
const LONGEST_TEXT: usize = 1_024;

const ANY: &str = "leave the key out to ask for nothing";

/// The keys that say what is changed, and how a line of each looks.
const KEYS: [(&str, &str); 5] = [
    ("set", "InstitutionName = Clinic 7"),
    ("remove", "StationName"),
    ("prefix", "AccessionNumber = C7-"),
    ("suffix", "PatientID = -C7"),
    ("map", "Modality: CR -> DX"),
];

pub(super) fn coercions(
    reader: &mut Reader,
    destinations: &[Given<Destination>],
    warnings: &mut Vec<Finding>,
) -> Vec<Coercion> {
    let tables = reader.document.named(TABLE);
    let headers = tables.into_iter().map(|(name, place, label)| Given { value: name, place, label });
    let mut coercions: Vec<Coercion> = Vec::new();
    for header in headers {
        let Some(coercion) = coercion(reader, &header, destinations) else { continue };
        warn_of_twins(&header, &coercion, &coercions, warnings);
        coercions.push(coercion);
    }
    coercions
}

/// `None` if it cannot be used; why, the reader knows.
fn coercion(reader: &mut Reader, header: &Given<String>, destinations: &[Given<Destination>]) -> Option<Coercion> {
    let name = parsed::<DestinationName>(reader, header, "Name it as you would speak of it, for example clinic-7.");
    let table = header.value.as_str();
    let to = destination_names(reader, (TABLE, table, "to"), destinations, "remove the table");
    if to.is_none() && reader.document.get(TABLE, table, "to").is_none() {
        reader.refuse(header, "does not say for which destinations", r#"Add to = ["archive"]."#);
    }
    let mut conditions = Vec::new();
    let remedy = "Give 1 to 16 printable ASCII characters, as the modality has it; case matters.";
    if let Some(list) = reader.given_list(TABLE, table, "calling", ANY) {
        conditions.push(Condition::Calling(
            list.iter().filter_map(|given| parsed::<AeTitle>(reader, given, remedy)).collect(),
        ));
    }
    let remedy = r#"Give it as it stands in the data set; "*" stands for any letters, "?" for one."#;
    if let Some(list) = reader.given_list(TABLE, table, "modality", ANY) {
        conditions.push(Condition::Text(Attribute::Modality, patterns(reader, &list, remedy)));
    }
    let changes = changes(reader, header);
    Some(Coercion { name: name?, to: to?, conditions, changes })
}

fn changes(reader: &mut Reader, header: &Given<String>) -> Vec<Change> {
    let table = header.value.as_str();
    let (mut changes, mut given_any) = (Vec::new(), false);
    for (key, example) in KEYS {
        let Some(list) = reader.given_list(TABLE, table, key, "leave the key out") else { continue };
        given_any = true;
        for given in &list {
            match change(key, &given.value, example) {
                Ok(change) => add(reader, given, change, &mut changes),
                Err((what, remedy)) => reader.refuse(given, what, remedy),
            }
        }
    }
    if !given_any {
        reader.refuse(
            header,
            "changes nothing",
            r#"Add set = ["InstitutionName = Clinic 7"], or prefix, suffix, remove or map."#,
        );
    }
    changes
}

/// Each attribute has one change; a map may take several lines.
fn add(reader: &mut Reader, given: &Given<String>, change: Change, changes: &mut Vec<Change>) {
    let Some(other) = changes.iter_mut().find(|other| other.tag == change.tag) else { return changes.push(change) };
    if let (Action::Map(pairs), Action::Map(more)) = (&mut other.action, &change.action)
        && more.iter().all(|(from, _)| pairs.iter().all(|(other, _)| other != from))
    {
        pairs.extend_from_slice(more);
    } else {
        reader.refuse(given, format!("changes {} twice", change.tag), "Decide for one of the two.");
    }
}

/// Reads one line of a list; what is wrong with it, and what to do.
fn change(key: &str, line: &str, example: &str) -> Result<Change, (String, String)> {
    let form = || {
        let what = format!("{line:?} is not of the form of {key}");
        (what, format!("Write it as in {example:?}, by keyword of PS3.6 or as (gggg,eeee)."))
    };
    let (attribute, rest) = match key {
        "remove" => (line, ""),
        "map" => line.split_once(':').ok_or_else(form)?,
        _ => line.split_once('=').ok_or_else(form)?,
    };
    let attribute = attribute.trim();
    let tag = tag(attribute).ok_or_else(|| {
        let what = format!("{attribute:?} is no attribute of the standard");
        (what, format!("Write its keyword in PS3.6 or its tag, as in {example:?}; private ones cannot be changed."))
    })?;
    let vr = values::changeable(tag).map_err(|why| (format!("{attribute} {why}"), "Leave it as it is.".to_owned()))?;
    let text = |text: &str| {
        let text = text.trim();
        let problem = match text.len() > LONGEST_TEXT {
            true => Err(format!("more than {LONGEST_TEXT} characters")),
            false => values::check_configured(vr, text),
        };
        match problem {
            Ok(()) => Ok(text.to_owned()),
            Err(problem) => {
                let what = format!("{text:?} cannot be a value of {attribute}, which is {vr}: {problem}");
                Err((what, "Give a text that PS3.5 6.2 allows there, in ASCII.".to_owned()))
            }
        }
    };
    let action = match key {
        "remove" => Action::Remove,
        "map" => {
            let (from, to) = rest.split_once("->").ok_or_else(form)?;
            let (from, to) = (text(from)?, text(to)?);
            if from.is_empty() || from.contains('\\') || to.contains('\\') {
                return Err(form());
            }
            Action::Map(vec![(from, to)])
        }
        "set" => Action::Set(text(rest)?),
        _ => {
            let text = text(rest)?;
            if text.is_empty() || text.contains('\\') {
                return Err(form());
            }
            if key == "prefix" { Action::Prefix(text) } else { Action::Suffix(text) }
        }
    };
    Ok(Change { tag, vr, action })
}

/// An attribute by keyword or number.
fn tag(text: &str) -> Option<Tag> {
    text.parse().ok().or_else(|| dictionary::tag_by_keyword(text))
}

/// Where two that may both apply change the same attribute, the first one does.
fn warn_of_twins(header: &Given<String>, coercion: &Coercion, others: &[Coercion], warnings: &mut Vec<Finding>) {
    for other in others.iter().filter(|other| other.to.iter().any(|to| coercion.to.contains(to))) {
        let shared = coercion.changes.iter().find(|change| other.changes.iter().any(|twin| twin.tag == change.tag));
        let Some(shared) = shared.filter(|_| other.conditions.is_empty() || other.conditions == coercion.conditions)
        else {
            continue;
        };
        warnings.push(Finding {
            place: header.place.clone(),
            key: header.label.clone(),
            what: format!(
                "never changes {}: [{TABLE}.{}] in front of it does, whenever this one applies",
                shared.tag, other.name
            ),
            remedy: "Remove one of the two, or put this one first.".to_owned(),
        });
    }
}
