//! What an archive says it has done with each instance: the Store Instances Response (PS3.18 10.5.3.2, PS3.3 C.12.1.1.11
//! macros) in the DICOM JSON model (PS3.18 F), or in XML ([`native`]). Pure, total, bounded.
//!
//! Of the answer only UIDs and numbers are taken: comments of archives may name patients.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::native;

/// No longer answer is read. That of fifty instances has some 20 KiB.
pub(super) const LONGEST: usize = 4 << 20;

/// What an answer lists, by SOP Instance UID.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Referenced SOP Sequence (0008,1199): stored, with the Warning Reason (0008,1196) if there is one.
    pub(super) stored: HashMap<String, Option<u16>>,
    /// Failed SOP Sequence (0008,1198), with the Failure Reason (0008,1197) if there is one.
    pub(super) failed: HashMap<String, Option<u16>>,
    /// Something failed, and the answer does not say which instance that was: Other Failures Sequence (0008,119A).
    pub(super) nameless_failure: bool,
}

#[derive(Deserialize)]
struct DataSet {
    #[serde(rename = "00081198", default)]
    failed: Option<Sequence>,
    #[serde(rename = "00081199", default)]
    stored: Option<Sequence>,
    #[serde(rename = "0008119A", alias = "0008119a", default)]
    other: Option<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    #[serde(rename = "Value", default)]
    items: Option<Vec<Option<Item>>>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "00081155", default)]
    instance: Option<Element>,
    #[serde(rename = "00081196", default)]
    warning: Option<Element>,
    #[serde(rename = "00081197", default)]
    failure: Option<Element>,
}

#[derive(Deserialize)]
struct Element {
    #[serde(rename = "Value", default)]
    values: Option<Vec<Value>>,
}

/// Reads the answer; nothing if it is not one in this form.
pub(super) fn read(body: &[u8]) -> Option<Listed> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first == b'<' {
        return native::read(body);
    }
    // It is one data set. Some archives make it a list of one, as in an answer to a query.
    let data_sets = match first {
        b'[' => serde_json::from_slice::<Vec<DataSet>>(body).ok()?,
        _ => vec![serde_json::from_slice::<DataSet>(body).ok()?],
    };
    let mut listed = Listed::default();
    for data_set in data_sets {
        for item in items(data_set.stored) {
            if let Some(uid) = uid(item.instance.as_ref()) {
                listed.stored.insert(uid, number(item.warning.as_ref()));
            }
        }
        for item in items(data_set.failed) {
            match uid(item.instance.as_ref()) {
                Some(uid) => drop(listed.failed.insert(uid, number(item.failure.as_ref()))),
                None => listed.nameless_failure = true,
            }
        }
        listed.nameless_failure |= items(data_set.other).next().is_some();
    }
    Some(listed)
}

/// Whether the answer to a query names this instance by its SOP Instance UID (0008,0018): the archive has it.
pub(super) fn finds(body: &[u8], instance: &str) -> bool {
    found(body).is_some_and(|found| found.iter().any(|found| found == instance))
}

/// The SOP Instance UIDs that the answer to a query names; nothing if it is no list of data sets.
pub(super) fn found(body: &[u8]) -> Option<Vec<String>> {
    let found: Vec<Found> = serde_json::from_slice(body).ok()?;
    Some(found.iter().filter_map(|found| uid(found.instance.as_ref())).collect())
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "00080018", default)]
    instance: Option<Element>,
}

fn items(sequence: Option<Sequence>) -> impl Iterator<Item = Item> {
    sequence.and_then(|sequence| sequence.items).unwrap_or_default().into_iter().flatten()
}

fn uid(element: Option<&Element>) -> Option<String> {
    let text = element?.values.as_ref()?.first()?.as_str()?;
    Some(text.trim_end_matches(['\0', ' ']).to_owned())
}

/// A value of US, which some archives write as a text.
fn number(element: Option<&Element>) -> Option<u16> {
    match element?.values.as_ref()?.first()? {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// A Failure Reason or Warning Reason in words (PS3.18 Tables 10.5.3-2 and 10.5.3-3, PS3.7 C).
pub(super) fn meaning(reason: u16) -> &'static str {
    match reason {
        0x0110 => "processing failure",
        0x0111 => "duplicate SOP instance: it is there already",
        0x0112 => "no such SOP instance",
        0x0117 => "invalid SOP instance",
        0x0118 => "no such SOP class",
        0x0119 => "class and instance conflict",
        0x0122 => "SOP class not supported",
        0x0124 => "not authorized",
        0xa700..=0xa7ff => "out of resources",
        0xa900..=0xa9ff => "data set does not match SOP class",
        0xc122 => "transfer syntax not supported",
        0xc000..=0xcfff => "cannot understand",
        0xb000 => "elements were coerced",
        0xb006 => "elements were discarded",
        0xb007 => "data set does not match SOP class",
        _ => "not in the standard",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn reference(uid: &str, tag: &str, reason: &Value) -> Value {
        json!({
            "00081150": { "vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"] },
            "00081155": { "vr": "UI", "Value": [uid] },
            tag: { "vr": "US", "Value": [reason] },
        })
    }

    #[test]
    fn stored_and_failed_instances_are_told_apart_with_their_reasons() {
        let answer = json!({
            "00081190": { "vr": "UR", "Value": ["https://archive/studies/1"] },
            "00081198": { "vr": "SQ", "Value": [reference("1.1", "00081197", &json!(0xa900)), {}] },
            "00081199": { "vr": "SQ", "Value": [
                reference("1.2", "00081196", &json!(0xb000)),
                reference("1.3", "00081190", &json!("https://archive/x")),
                reference("1.4\u{0}", "00081196", &json!("45062")),
            ] },
        });
        let listed = read(answer.to_string().as_bytes()).unwrap();
        assert_eq!(listed.failed, HashMap::from([("1.1".to_owned(), Some(0xa900))]));
        let stored = [("1.2", Some(0xb000)), ("1.3", None), ("1.4", Some(0xb006))];
        assert_eq!(listed.stored, stored.map(|(uid, reason)| (uid.to_owned(), reason)).into());
        assert!(listed.nameless_failure, "one failed and has no name");
        assert_eq!(read(json!([answer]).to_string().as_bytes()), Some(listed));
    }

    #[test]
    fn what_is_no_answer_is_none_and_an_empty_one_lists_nothing() {
        for body in
            ["", "  ", "<html>", "null", "7", "[7]", "{\"00081198\":7}", "{", "[[[[", "{\"00081199\":{\"Value\":{}}}"]
        {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
        for body in ["{}", "[]", "{\"00081199\":{\"vr\":\"SQ\"}}", "{\"00081199\":{\"Value\":[null]}}"] {
            assert_eq!(read(body.as_bytes()), Some(Listed::default()), "{body}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(LONGEST));
        assert_eq!(read(deep.as_bytes()), None, "neither stack nor time");
    }

    #[test]
    fn a_query_finds_an_instance_by_its_own_uid_only() {
        let found = json!([{ "00080018": { "vr": "UI", "Value": ["1.2.3"] } }]).to_string();
        assert!(finds(found.as_bytes(), "1.2.3"));
        assert!(!finds(found.as_bytes(), "1.2"));
        assert!(!finds(b"", "1.2") && !finds(b"{}", "1.2") && !finds(b"<html>", "1.2"));
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_can_send_makes_it_fail(body in prop::collection::vec(any::<u8>(), 0..300)) {
            read(&body);
            finds(&body, "1.2");
        }

        #[test]
        fn every_mixture_of_json_is_read_or_not(
            text in "[\\[\\]{}\":,0-9a-f ]{0,40}(00081198|00081199|00081155|Value|vr)?[\\[\\]{}\":,0-9 ]{0,40}"
        ) {
            read(text.as_bytes());
        }
    }
}
