//! Takes settings out of a [`Document`] as typed values and collects what is wrong with them.

use std::path::{Path, PathBuf};

use super::document::{Content, Document, Entry};
use super::finding::{Finding, Findings, Place};
use super::units::Quantity;

/// The settings, and everything found wrong so far. Asking for a setting never fails: a wrong one is noted and then
/// counts as not given.
pub(super) struct Reader {
    pub(super) document: Document,
    folder: PathBuf,
    found: Vec<Finding>,
    passing: bool,
}

/// A value with the place it came from and the name it has there.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) place: Place,
    pub(super) label: String,
}

/// The bounds of a quantity, and what holds if nothing is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<T> {
    pub(super) least: T,
    pub(super) default: T,
    pub(super) most: T,
}

impl Reader {
    /// Relative paths of the file count from `folder`.
    pub(super) fn new(document: Document, folder: &Path) -> Self {
        Self { document, folder: folder.to_owned(), found: Vec::new(), passing: false }
    }

    /// Notes a problem.
    pub(super) fn add(&mut self, place: Place, key: String, what: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Finding { place, key, what: what.into(), remedy: remedy.into() });
    }

    /// What was noted last is no fault of the configuration: the system does not give a file now.
    pub(super) fn passes(&mut self) {
        self.passing = true;
    }

    /// Notes a problem of a value that was given.
    pub(super) fn refuse<T>(&mut self, given: &Given<T>, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(given.place.clone(), given.label.clone(), what, remedy);
    }

    /// Notes a setting that is missing at the top; `example` is a value as TOML and as a flag would have it.
    pub(super) fn missing(&mut self, key: &str, example: &str, why: &str) {
        let (place, label) = self.document.place_for_missing(key);
        let remedy = if self.document.has_file() {
            format!("Add {key} = {example} at the top of the file, above the first [table].")
        } else {
            format!("Give --{key} {}, or a file with --config FILE.", example.trim_matches(['[', ']', '"']))
        };
        self.add(place, label, why, remedy);
    }

    /// Everything that was found wrong.
    pub(super) fn finish(self) -> Findings {
        Findings { list: self.document.findings(self.found), passing: self.passing }
    }

    fn wrong_type(&mut self, entry: Entry, expected: &str) {
        let what = format!("is {}", entry.content.type_name());
        self.add(entry.place, entry.label, what, format!("It must be {expected}."));
    }

    /// A text.
    pub(super) fn text(&mut self, table: &str, name: &str, key: &str) -> Option<Given<String>> {
        let entry = self.document.get(table, name, key)?;
        match entry.content {
            Content::Text(value) => Some(Given { value, place: entry.place, label: entry.label }),
            _ => {
                self.wrong_type(entry, "a text in double quotes");
                None
            }
        }
    }

    /// A list of texts; a single text counts as a list of one. `None` if the key is not given at all.
    pub(super) fn list(&mut self, table: &str, name: &str, key: &str) -> Option<Vec<Given<String>>> {
        let entry = self.document.get(table, name, key)?;
        let elements = match entry.content {
            Content::List(elements) => elements,
            Content::Text(_) => vec![(entry.content, entry.place)],
            _ => {
                self.wrong_type(entry, r#"a list of texts, as in ["one", "two"]"#);
                return Some(Vec::new());
            }
        };
        let mut texts = Vec::with_capacity(elements.len());
        for (content, place) in elements {
            let label = entry.label.clone();
            match content {
                Content::Text(value) => texts.push(Given { value, place, label }),
                content => self.wrong_type(Entry { content, place, label }, r#"a list of texts, as in ["one", "two"]"#),
            }
        }
        Some(texts)
    }

    /// A list that must not be empty if it is given; `otherwise` says what leaving it out means.
    pub(super) fn given_list(
        &mut self,
        table: &str,
        name: &str,
        key: &str,
        otherwise: &str,
    ) -> Option<Vec<Given<String>>> {
        let list = self.list(table, name, key)?;
        if let Some(entry) = self.document.get(table, name, key).filter(|e| e.content == Content::List(Vec::new())) {
            self.add(entry.place, entry.label, "is empty", format!("Name at least one, or {otherwise}."));
        }
        Some(list)
    }

    /// Whether a list at the top has anything in it, right or wrong.
    pub(super) fn names_any(&mut self, key: &str) -> bool {
        self.document.get("", "", key).is_some_and(|entry| entry.content != Content::List(Vec::new()))
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, table: &str, name: &str, key: &str) -> Option<Given<bool>> {
        let entry = self.document.get(table, name, key)?;
        match entry.content {
            Content::Switch(value) => Some(Given { value, place: entry.place, label: entry.label }),
            _ => {
                self.wrong_type(entry, "true or false, without quotes");
                None
            }
        }
    }

    /// A path, absolute from here on.
    pub(super) fn path(&mut self, key: &str) -> Option<Given<PathBuf>> {
        self.path_of(("", "", key))
    }

    /// A path of a named table, absolute from here on.
    pub(super) fn path_of(&mut self, (table, name, key): (&str, &str, &str)) -> Option<Given<PathBuf>> {
        let Given { value, place, label } = self.text(table, name, key)?;
        let path = match place {
            Place::File { .. } => self.folder.join(value),
            Place::CommandLine => PathBuf::from(value),
        };
        match std::path::absolute(&path) {
            Ok(value) => Some(Given { value, place, label }),
            Err(error) => {
                self.add(place, label, format!("{path:?} is no path: {error}"), "Give an absolute path.");
                None
            }
        }
    }

    /// A quantity within its bounds, or its default.
    pub(super) fn quantity<T: Quantity>(&mut self, table: &str, key: &str, bounds: Bounds<T>) -> T {
        let Bounds { least, default, most } = bounds;
        let otherwise = format!("leave the key out for {}", default.written());
        self.within(table, "", key, (least, most), &otherwise).unwrap_or(default)
    }

    /// A quantity of a named table that may be left out; `otherwise` says what leaving it out means.
    pub(super) fn optional_quantity<T: Quantity>(
        &mut self,
        (table, name, key): (&str, &str, &str),
        range: (T, T),
        otherwise: &str,
    ) -> Option<T> {
        self.within(table, name, key, range, otherwise)
    }

    fn within<T: Quantity>(
        &mut self,
        table: &str,
        name: &str,
        key: &str,
        (least, most): (T, T),
        otherwise: &str,
    ) -> Option<T> {
        let entry = self.document.get(table, name, key)?;
        let text = match &entry.content {
            Content::Text(text) | Content::Number(text) => text,
            _ => {
                self.wrong_type(entry, T::FORM);
                return None;
            }
        };
        let what = match T::parse(text) {
            None => format!("{text:?} is not {}", T::FORM),
            Some(value) if value < least || value > most => format!("{} is out of range", value.written()),
            Some(value) => return Some(value),
        };
        let remedy = format!("Give a value from {} to {}, or {otherwise}.", least.written(), most.written());
        self.add(entry.place, entry.label, what, remedy);
        None
    }
}
