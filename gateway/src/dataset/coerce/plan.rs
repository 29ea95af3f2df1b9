//! What has to be done to one data set.

use std::collections::BTreeMap;
use std::io::Read;

use dicom_core::Tag;

use super::super::dictionary;
use super::super::stream::Source;
use super::super::tags;
use super::super::transfer_syntax::{Encoding, TransferSyntax};
use super::super::vr::{Kind, Vr};
use super::super::write::header_in;
use super::outline::{Found, ORIGINALS, Outline, Outliner};
use super::rewrite;
use super::values;
use super::{Action, Change, CoerceError, Coercing};

const MODIFIED: Tag = Tag(0x0400, 0x0550);
const WHEN: Tag = Tag(0x0400, 0x0562);
const BY: Tag = Tag(0x0400, 0x0563);
const PREVIOUS_SOURCE: Tag = Tag(0x0400, 0x0564);
const REASON: Tag = Tag(0x0400, 0x0565);

/// Reason for the Attribute Modification: "Replace values of attributes such as Patient's Name, ID, Accession Number, for
/// example, during import of media from an external institution, or reconciliation against a master patient index"
/// (PS3.3 C.12.1.1.9).
const COERCE: &[u8] = b"COERCE";

/// At a place in the bytes, some are taken out and others put in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edit {
    /// In bytes from the start of the data set, inflated if it is deflated.
    pub(super) at: u64,
    /// The attribute it is about: of two at one place the smaller comes first.
    pub(super) tag: Tag,
    pub(super) remove: u64,
    pub(super) insert: Vec<u8>,
}

/// What has to be done to one data set, and what must come of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In order.
    pub(super) edits: Vec<Edit>,
    /// Each attribute in question, with the value that it has afterwards.
    pub(super) expected: Vec<(Tag, Option<Vec<u8>>)>,
    /// The digest of everything else.
    pub(super) rest: [u8; 32],
    /// The attributes that change.
    changed: Vec<Tag>,
}

impl Plan {
    /// The attributes that change, in order.
    #[must_use]
    pub fn changed(&self) -> &[Tag] {
        &self.changed
    }
}

/// An attribute that becomes another.
struct Modified {
    tag: Tag,
    vr: Vr,
    /// Byte for byte, with its padding; `None` if it is not there.
    before: Option<Vec<u8>>,
    /// With padding; `None` if it is not there afterwards.
    after: Option<Vec<u8>>,
}

/// Looks at a data set and plans what has to be done; `None` if everything is as wanted already.
///
/// # Errors
/// The data set cannot be read or followed, or not be changed as wanted.
pub fn plan(source: impl Read, syntax: TransferSyntax, coercing: &Coercing) -> Result<Option<Plan>, CoerceError> {
    let mut outliner = Outliner::new(syntax.encoding, coercing.changes.iter().map(|change| change.tag));
    rewrite::read_through(&mut Source::new(source, syntax.deflated), |bytes| outliner.feed(bytes))?;
    let outline = outliner.finish()?;
    let mut modified = Vec::new();
    let mut expected = Vec::new();
    for change in &coercing.changes {
        let found = outline.of(change.tag);
        let before = found.map(|found| found.value.clone());
        match becomes(change, found, outline.utf8)? {
            None => expected.push((change.tag, before)),
            Some((vr, after)) => {
                expected.push((change.tag, after.clone()));
                modified.push(Modified { tag: change.tag, vr, before, after });
            }
        }
    }
    if modified.is_empty() {
        return Ok(None);
    }
    if outline.signed {
        return Err(CoerceError::Signed);
    }
    modified.sort_by_key(|modified| modified.tag);
    let edits = edits(&outline, &modified, coercing)?;
    let changed = modified.into_iter().map(|modified| modified.tag).collect();
    Ok(Some(Plan { edits, expected, rest: outline.rest, changed }))
}

/// What an element becomes: its VR, and its value with padding; `None` if it stays as it is.
#[expect(clippy::type_complexity, reason = "read in one place")]
fn becomes(change: &Change, found: Option<&Found>, utf8: bool) -> Result<Option<(Vr, Option<Vec<u8>>)>, CoerceError> {
    let tag = change.tag;
    let vr = found.and_then(|found| found.element.vr).unwrap_or(change.vr);
    let before = found.map(|found| values::unpadded(&found.value));
    let after = match (&change.action, before) {
        (Action::Remove, None) => return Ok(None),
        (Action::Remove, Some(_)) => None,
        (Action::Set(text), _) => Some(text.as_bytes().to_vec()),
        (_, None | Some([])) => return Ok(None),
        (_, Some(before)) if values::is_unclear(change.vr, before) => return Err(CoerceError::SeveralValues(tag)),
        (action, Some(before)) if values::is_plain(change.vr) => {
            let parts: Vec<_> = before.split(|byte| *byte == b'\\').map(|value| applied(action, value)).collect();
            Some(parts.join(&b'\\'))
        }
        (action, Some(before)) => Some(applied(action, before)),
    };
    if after.as_deref() == before {
        return Ok(None);
    }
    if vr.kind() != Kind::Text {
        return Err(CoerceError::NoText { tag, vr });
    }
    let Some(mut after) = after else { return Ok(Some((vr, None))) };
    if !matches!(change.action, Action::Set(_)) {
        let letters = |text: &[u8]| match utf8 {
            true => String::from_utf8_lossy(text).chars().count(),
            false => text.len(),
        };
        values::check(change.vr, &after, letters).map_err(|problem| CoerceError::Value {
            tag,
            vr: change.vr,
            problem,
        })?;
    }
    if !after.len().is_multiple_of(2) {
        after.push(b' ');
    }
    Ok(Some((vr, Some(after))))
}

/// One value with an action applied to it.
fn applied(action: &Action, value: &[u8]) -> Vec<u8> {
    let significant = value.trim_ascii();
    match action {
        _ if significant.is_empty() => value.to_vec(),
        Action::Prefix(text) if !significant.starts_with(text.as_bytes()) => {
            [text.as_bytes(), value.trim_ascii_start()].concat()
        }
        Action::Suffix(text) if !significant.ends_with(text.as_bytes()) => {
            [value.trim_ascii_end(), text.as_bytes()].concat()
        }
        Action::Map(pairs) => match pairs.iter().find(|(from, _)| from.as_bytes() == significant) {
            Some((_, to)) => to.as_bytes().to_vec(),
            None => value.to_vec(),
        },
        _ => value.to_vec(),
    }
}

fn edits(outline: &Outline, modified: &[Modified], coercing: &Coercing) -> Result<Vec<Edit>, CoerceError> {
    let encoding = outline.encoding;
    let mut edits = Vec::new();
    for Modified { tag, vr, after, .. } in modified {
        let insert = match after {
            Some(value) => element(encoding, *tag, *vr, value)?,
            None => Vec::new(),
        };
        let (at, remove) = match outline.of(*tag) {
            Some(found) => (found.start, found.end().saturating_sub(found.start)),
            None => (outline.place(*tag), 0),
        };
        edits.push(Edit { at, tag: *tag, remove, insert });
    }
    edits.extend(originals(outline, modified, coercing)?);
    edits.extend(group_lengths(outline, &edits));
    edits.sort();
    Ok(edits)
}

/// One more item in Original Attributes Sequence.
fn originals(outline: &Outline, modified: &[Modified], coercing: &Coercing) -> Result<Vec<Edit>, CoerceError> {
    let encoding = outline.encoding;
    let item = item(encoding, modified, coercing)?;
    let edit = |at, remove, insert| Edit { at, tag: ORIGINALS, remove, insert };
    let Some(there) = outline.originals else {
        let whole = element(encoding, ORIGINALS, Vr::SQ, &item)?;
        return Ok(vec![edit(outline.place(ORIGINALS), 0, whole)]);
    };
    if there.element.vr.is_some_and(|vr| vr != Vr::SQ) {
        return Err(CoerceError::Originals);
    }
    let Some(length) = there.element.length else {
        // Behind the last item, in front of the delimiter, which has eight bytes in every encoding.
        return Ok(vec![edit(there.end.saturating_sub(8), 0, item)]);
    };
    let longer = u32::try_from(item.len()).ok().and_then(|more| length.checked_add(more));
    let header = header_in(encoding, ORIGINALS, Some(Vr::SQ), Some(longer.ok_or(CoerceError::Originals)?));
    let header = header.ok_or(CoerceError::Originals)?.as_bytes().to_vec();
    let behind_header = there.element.value_offset.saturating_sub(there.start);
    Ok(vec![edit(there.start, behind_header, header), edit(there.end, 0, item)])
}

/// The item that says what was changed (PS3.3 C.12.1.1.9).
fn item(encoding: Encoding, modified: &[Modified], coercing: &Coercing) -> Result<Vec<u8>, CoerceError> {
    let mut before = Vec::new();
    for Modified { tag, vr, before: value, .. } in modified {
        before.extend(element(encoding, *tag, *vr, value.as_deref().unwrap_or_default())?);
    }
    let text = |tag, vr, value: &[u8]| {
        let padding: &[u8] = if value.len().is_multiple_of(2) { b"" } else { b" " };
        element(encoding, tag, vr, &[value, padding].concat())
    };
    let content = [
        element(encoding, MODIFIED, Vr::SQ, &in_item(encoding, &before)?)?,
        text(WHEN, Vr::DT, coercing.when.as_bytes())?,
        text(BY, Vr::LO, coercing.by.as_bytes())?,
        text(PREVIOUS_SOURCE, Vr::LO, b"")?,
        text(REASON, Vr::CS, COERCE)?,
    ];
    in_item(encoding, &content.concat())
}

fn in_item(encoding: Encoding, content: &[u8]) -> Result<Vec<u8>, CoerceError> {
    with_header(encoding, tags::ITEM, None, content)
}

/// An element whose value is padded already.
fn element(encoding: Encoding, tag: Tag, vr: Vr, value: &[u8]) -> Result<Vec<u8>, CoerceError> {
    with_header(encoding, tag, Some(vr), value)
}

fn with_header(encoding: Encoding, tag: Tag, vr: Option<Vr>, value: &[u8]) -> Result<Vec<u8>, CoerceError> {
    let length = u32::try_from(value.len()).ok();
    let header =
        length.and_then(|length| header_in(encoding, tag, vr, Some(length))).ok_or(CoerceError::TooLong(tag))?;
    Ok([header.as_bytes(), value].concat())
}

/// Group lengths that were there become longer and shorter with their groups.
fn group_lengths(outline: &Outline, edits: &[Edit]) -> Vec<Edit> {
    let mut grown: BTreeMap<u16, i64> = BTreeMap::new();
    for edit in edits {
        let more = i64::try_from(edit.insert.len()).unwrap_or(i64::MAX);
        let less = i64::try_from(edit.remove).unwrap_or(i64::MAX);
        let group = grown.entry(edit.tag.group()).or_default();
        *group = group.saturating_add(more).saturating_sub(less);
    }
    let corrected = |found: &Found| {
        let tag = found.element.tag;
        let grown = grown.get(&tag.group()).copied().filter(|grown| *grown != 0)?;
        let length = outline.encoding.u32(*found.value.first_chunk().filter(|_| found.value.len() == 4)?);
        let length = u32::try_from(i64::from(length).saturating_add(grown)).ok()?;
        let insert = match outline.encoding {
            Encoding::ExplicitBe => length.to_be_bytes(),
            Encoding::ImplicitLe | Encoding::ExplicitLe => length.to_le_bytes(),
        };
        Some(Edit { at: found.element.value_offset, tag, remove: 4, insert: insert.to_vec() })
    };
    let lengths = outline.found.iter().filter(|found| dictionary::is_group_length(found.element.tag));
    lengths.filter_map(corrected).collect()
}
