//! The Store Instances Response in XML: the Native DICOM Model (PS3.19 A.1.5, PS3.18 10.5.3). It is not asked for, but some
//! archives send it all the same. Pure, total; nothing in it is recursed into, and of a long value nothing is kept.
//!
//! ```text
//! NativeDicomModel
//! └─ DicomAttribute tag="00081198"        the sequence
//!    └─ Item
//!       └─ DicomAttribute tag="00081155"  of one instance
//!          └─ Value                       the first counts
//! ```
//!
//! What stands anywhere else is read over. A document that breaks off, or that is another one, is no answer.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::answer::Listed;

/// A UID has 64 letters at most; white space around it does no harm.
const LONGEST_VALUE: usize = 128;

#[derive(Debug, Clone, Copy)]
enum Sequence {
    Failed,
    Stored,
    Other,
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Instance,
    Warning,
    Failure,
}

#[derive(Debug, Default)]
struct Item {
    instance: Option<String>,
    warning: Option<u16>,
    failure: Option<u16>,
}

/// Where the reading is: `depth` elements are open.
#[derive(Debug, Default)]
struct Place {
    depth: usize,
    ended: bool,
    sequence: Option<Sequence>,
    item: Option<Item>,
    field: Option<Field>,
    value: Option<String>,
    listed: Listed,
}

/// Reads the answer; nothing if it is not one in this form.
pub(super) fn read(body: &[u8]) -> Option<Listed> {
    let text = std::str::from_utf8(body).ok()?;
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut place = Place::default();
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) => place.begin(&element)?,
            Event::End(_) => place.end(),
            Event::Text(text) => place.text(&text),
            Event::CData(text) => place.text(&text),
            // No UID and no number needs one.
            Event::GeneralRef(_) => place.text("\u{fffd}"),
            Event::DocType(_) => return None,
            Event::Eof => return place.ended.then_some(place.listed),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

impl Place {
    /// An element begins; nothing if the document is no answer.
    fn begin(&mut self, element: &BytesStart<'_>) -> Option<()> {
        let name = element.local_name();
        let is_attribute = name.as_ref() == "DicomAttribute";
        match self.depth {
            0 if self.ended || name.as_ref() != "NativeDicomModel" => return None,
            1 => self.sequence = sequence(&tag(element)).filter(|_| is_attribute),
            2 => self.item = self.sequence.filter(|_| name.as_ref() == "Item").map(|_| Item::default()),
            3 => self.field = field(&tag(element)).filter(|_| is_attribute && self.item.is_some()),
            4 if name.as_ref() == "Value" && self.is_wanted() => self.value = Some(String::new()),
            _ => {}
        }
        self.depth += 1;
        Some(())
    }

    /// Whether the field that is open has no value yet.
    fn is_wanted(&self) -> bool {
        let Some(item) = &self.item else { return false };
        match self.field {
            None => false,
            Some(Field::Instance) => item.instance.is_none(),
            Some(Field::Warning) => item.warning.is_none(),
            Some(Field::Failure) => item.failure.is_none(),
        }
    }

    fn text(&mut self, text: &str) {
        if let (Some(value), 5) = (&mut self.value, self.depth) {
            let room = LONGEST_VALUE.saturating_sub(value.len());
            value.extend(text.chars().take(room));
        }
    }

    fn end(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        match self.depth {
            0 => self.ended = true,
            1 => self.sequence = None,
            2 => self.item_ends(),
            3 => self.field = None,
            4 => self.value_ends(),
            _ => {}
        }
    }

    fn value_ends(&mut self) {
        let (Some(value), Some(item)) = (self.value.take(), &mut self.item) else { return };
        let value = value.trim_matches(|letter: char| letter.is_ascii_whitespace() || letter == '\0');
        // Of several values the first counts, whether it can be used or not.
        match self.field.take() {
            None => {}
            Some(Field::Instance) => {
                let is_uid =
                    (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                item.instance = is_uid.then(|| value.to_owned());
            }
            Some(Field::Warning) => item.warning = value.parse().ok(),
            Some(Field::Failure) => item.failure = value.parse().ok(),
        }
    }

    fn item_ends(&mut self) {
        let (Some(sequence), Some(item)) = (self.sequence, self.item.take()) else { return };
        match (sequence, item.instance) {
            (Sequence::Stored, Some(instance)) => drop(self.listed.stored.insert(instance, item.warning)),
            (Sequence::Failed, Some(instance)) => drop(self.listed.failed.insert(instance, item.failure)),
            (Sequence::Stored, None) => {}
            (Sequence::Failed, None) | (Sequence::Other, _) => self.listed.nameless_failure = true,
        }
    }
}

fn tag(element: &BytesStart<'_>) -> String {
    let tag = element.try_get_attribute("tag").ok().flatten();
    tag.map(|tag| tag.value.chars().take(8).collect::<String>().to_ascii_uppercase()).unwrap_or_default()
}

fn sequence(tag: &str) -> Option<Sequence> {
    match tag {
        "00081198" => Some(Sequence::Failed),
        "00081199" => Some(Sequence::Stored),
        "0008119A" => Some(Sequence::Other),
        _ => None,
    }
}

fn field(tag: &str) -> Option<Field> {
    match tag {
        "00081155" => Some(Field::Instance),
        "00081196" => Some(Field::Warning),
        "00081197" => Some(Field::Failure),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn attribute(tag: &str, content: &str) -> String {
        format!("<DicomAttribute tag=\"{tag}\" vr=\"SQ\" keyword=\"x\">{content}</DicomAttribute>\n")
    }

    fn value(tag: &str, value: &str) -> String {
        attribute(tag, &format!("<Value number=\"1\">{value}</Value><Value number=\"2\">7</Value>"))
    }

    fn item(fields: &[String]) -> String {
        format!("<Item number=\"1\">{}{}</Item>", value("00081150", "1.2.840.10008.5.1.4.1.1.2"), fields.concat())
    }

    fn document(content: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x --><NativeDicomModel \
             xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">{content}</NativeDicomModel>\n"
        )
    }

    fn answer() -> String {
        let failed = item(&[value("00081155", "1.1"), value("00081197", "43264")]);
        let warned = item(&[value("00081155", " 1.2 "), value("00081196", "45056")]);
        let stored =
            item(&[attribute("00081190", "<Value number=\"1\">https://x/&amp;</Value>"), value("00081155", "1.3")]);
        document(&[attribute("00081198", &failed), attribute("00081199", &(warned + &stored))].concat())
    }

    #[test]
    fn stored_and_failed_instances_are_told_apart_with_their_reasons() {
        let listed = read(answer().as_bytes()).unwrap();
        assert_eq!(listed.failed, HashMap::from([("1.1".to_owned(), Some(0xa900))]));
        assert_eq!(listed.stored, HashMap::from([("1.2".to_owned(), Some(0xb000)), ("1.3".to_owned(), None)]));
        assert!(!listed.nameless_failure);
        let prefixed = answer().replace("<Dicom", "<n:Dicom").replace("</Dicom", "</n:Dicom");
        assert_eq!(read(prefixed.as_bytes()), Some(listed), "whatever the namespace is called");
    }

    #[test]
    fn a_failure_without_a_name_is_noticed() {
        let named = |uid: &str| item(&[value("00081155", uid)]);
        for content in [
            attribute("0008119A", &item(&[])),
            attribute("0008119a", "<Item/>"),
            attribute("00081198", "<Item number=\"1\"/>"),
            attribute("00081198", &named("")),
            attribute("00081198", &named("1.&#50;")),
            attribute("00081198", &named(&"1".repeat(4_000_000))),
            attribute("00081198", &named("DOE^JANE")),
        ] {
            let listed = read(document(&content).as_bytes()).unwrap();
            assert!(listed.nameless_failure && listed.failed.is_empty(), "{content:.200}");
        }
        for content in
            ["", "<DicomAttribute tag=\"00081198\" vr=\"SQ\"/>", "<Item/>", "<x tag=\"00081198\"><Item/></x>"]
        {
            assert_eq!(read(document(content).as_bytes()), Some(Listed::default()), "{content}");
        }
        // Below something else the same tags mean something else.
        let below = attribute("00081111", &item(&[attribute("00081198", "<Item/>")]));
        assert_eq!(read(document(&below).as_bytes()), Some(Listed::default()));
    }

    #[test]
    fn what_breaks_off_or_is_another_document_is_no_answer() {
        let whole = answer();
        let end = whole.rfind("</NativeDicomModel>").unwrap() + "</NativeDicomModel>".len();
        for length in 0..end {
            assert_eq!(read(&whole.as_bytes()[..length]), None, "{length}");
        }
        for body in [
            "<html/>",
            "<NativeDicomModel></Other>",
            "<NativeDicomModel/><NativeDicomModel/>",
            "<!DOCTYPE x [<!ENTITY a \"aa\">]><NativeDicomModel/>",
        ] {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
        assert_eq!(read(b"<NativeDicomModel>\xff</NativeDicomModel>"), None);
        let deep = format!("<NativeDicomModel>{}", "<x>".repeat(1_000_000));
        assert_eq!(read(deep.as_bytes()), None, "neither stack nor time");
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_can_send_makes_it_fail(
            at in 0_usize..1_000, bytes in prop::collection::vec(any::<u8>(), 0..20), tail in any::<bool>(),
        ) {
            let whole = answer().into_bytes();
            let at = at.min(whole.len());
            let rest = if tail { &whole[at..] } else { &[] };
            read(&[&whole[..at], &bytes, rest].concat());
            read(&bytes);
        }
    }
}
