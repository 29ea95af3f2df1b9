//! Where settings come from: a TOML file, with flags laid over it. Nothing is interpreted here.
//!
//! Every setting remembers its place, so that whatever is found wrong later can point there. A key counts as known once
//! somebody has asked for it; what nobody asked for is unknown, and told with the nearest key that exists. So there is
//! one list of keys, and it is the code that uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Finding, Place};

/// Tables that hold one table for each name, as in `[to.archive]`.
const NAMED_TABLES: [&str; 4] = ["coerce", "modality", "rule", "to"];

/// The full name of a setting: `key`, `table.key` or `table.name.key`; parts that do not apply are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path3 {
    pub(super) table: String,
    pub(super) name: String,
    pub(super) key: String,
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Number(String),
    Switch(bool),
    List(Vec<(Content, Place)>),
    /// A type that no setting has; the words say which.
    Other(&'static str),
}

impl Content {
    /// The type, for people.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::List(_) => "a list",
            Self::Other(name) => name,
        }
    }
}

/// A value, where it was given, and how to call the setting there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) content: Content,
    pub(super) place: Place,
    pub(super) label: String,
}

/// All settings that were given.
#[derive(Debug, Default)]
pub(super) struct Document {
    file: Option<Arc<Path>>,
    entries: BTreeMap<Path3, Entry>,
    /// Headers of named tables, `(table, name)`.
    named: BTreeMap<(String, String), (Place, String)>,
    asked: BTreeSet<(String, String)>,
    /// What the reading itself found wrong.
    findings: Vec<Finding>,
    /// Lines that are not TOML: what was read around them is guesswork and not complained about again.
    broken_lines: BTreeSet<(Arc<Path>, usize)>,
}

impl Document {
    /// Reads the text of a configuration file.
    pub(super) fn read(file: &Path, text: &str) -> Self {
        let file: Arc<Path> = file.into();
        let mut document = Self { file: Some(file.clone()), ..Self::default() };
        let lines = Lines::new(text);
        let root = document.parse(&file, &lines, text);
        let place = |span: Range<usize>| Place::File { file: file.clone(), line: lines.at(span) };
        for (key, value) in root.get_ref() {
            let name = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(table) if NAMED_TABLES.contains(&name) => {
                    document.named_tables(name, table, &place);
                }
                _ if NAMED_TABLES.contains(&name) => document.findings.push(Finding {
                    place: place(key.span()),
                    key: name.to_owned(),
                    what: "is not a table with a name".to_owned(),
                    remedy: format!("Each entry has a table with a name of its own: write [{name}.NAME] above it."),
                }),
                DeValue::Table(table) => {
                    for (key, value) in table {
                        let path =
                            Path3 { table: name.to_owned(), name: String::new(), key: key.get_ref().to_string() };
                        document.insert(path, content(value.get_ref(), &place), place(key.span()));
                    }
                }
                other => {
                    let path = Path3 { table: String::new(), name: String::new(), key: name.to_owned() };
                    document.insert(path, content(other, &place), place(key.span()));
                }
            }
        }
        document
    }

    /// Reads a file of its own about one entry of a named table: it holds the keys and no table.
    pub(super) fn read_named(&mut self, file: &Path, text: &str, table: &str, name: &str) {
        let file: Arc<Path> = file.into();
        let lines = Lines::new(text);
        let root = self.parse(&file, &lines, text);
        let place = |span: Range<usize>| Place::File { file: file.clone(), line: lines.at(span) };
        let header = (Place::File { file: file.clone(), line: 1 }, format!("{table}.{name}"));
        self.named.insert((table.to_owned(), name.to_owned()), header);
        for (key, value) in root.get_ref() {
            let path = Path3 { table: table.to_owned(), name: name.to_owned(), key: key.get_ref().to_string() };
            self.insert(path, content(value.get_ref(), &place), place(key.span()));
        }
    }

    /// Parses what can be parsed, and notes what cannot.
    fn parse<'a>(&mut self, file: &Arc<Path>, lines: &Lines, text: &'a str) -> Spanned<DeTable<'a>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = lines.at(error.span().unwrap_or(0..0));
            self.broken_lines.insert((file.clone(), line));
            self.findings.push(syntax_finding(error.message(), Place::File { file: file.clone(), line }));
        }
        root
    }

    fn named_tables(&mut self, table: &str, names: &DeTable<'_>, place: &impl Fn(Range<usize>) -> Place) {
        for (name, value) in names {
            let name_text = name.get_ref().as_ref();
            let DeValue::Table(settings) = value.get_ref() else {
                self.findings.push(Finding {
                    place: place(name.span()),
                    key: format!("{table}.{name_text}"),
                    what: format!("stands directly below [{table}]"),
                    remedy: format!("Each entry has a table with a name of its own: write [{table}.NAME] above it."),
                });
                continue;
            };
            let header = (place(name.span()), format!("{table}.{name_text}"));
            self.named.insert((table.to_owned(), name_text.to_owned()), header);
            for (key, value) in settings {
                let path =
                    Path3 { table: table.to_owned(), name: name_text.to_owned(), key: key.get_ref().to_string() };
                self.insert(path, content(value.get_ref(), place), place(key.span()));
            }
        }
    }

    fn insert(&mut self, path: Path3, content: Content, place: Place) {
        let label = [path.table.as_str(), &path.name, &path.key].into_iter().filter(|part| !part.is_empty());
        let label = label.collect::<Vec<_>>().join(".");
        self.entries.insert(path, Entry { content, place, label });
    }

    /// Lays a flag over the setting of the same name at the top of the file.
    pub(super) fn set_flag(&mut self, key: &str, content: Content) {
        let path = Path3 { table: String::new(), name: String::new(), key: key.to_owned() };
        self.entries.insert(path, Entry { content, place: Place::CommandLine, label: format!("--{key}") });
    }

    /// Lays `--table name=value` over everything the file says about this name.
    pub(super) fn set_named_flag(&mut self, table: &str, name: &str, key: &str, value: String) {
        self.remove_named(table, Some(name));
        let label = format!("--{table} {name}");
        self.named.insert((table.to_owned(), name.to_owned()), (Place::CommandLine, label.clone()));
        let path = Path3 { table: table.to_owned(), name: name.to_owned(), key: key.to_owned() };
        self.entries.insert(path, Entry { content: Content::Text(value), place: Place::CommandLine, label });
    }

    /// Forgets the tables of this kind with this name, or all of them.
    pub(super) fn remove_named(&mut self, table: &str, name: Option<&str>) {
        let concerned = |t: &str, n: &str| t == table && name.is_none_or(|name| n == name);
        self.named.retain(|(t, n), _| !concerned(t, n));
        self.entries.retain(|path, _| !concerned(&path.table, &path.name));
    }

    /// Asks for a setting. From now on its key is known.
    pub(super) fn get(&mut self, table: &str, name: &str, key: &str) -> Option<Entry> {
        self.asked.insert((table.to_owned(), key.to_owned()));
        let path = Path3 { table: table.to_owned(), name: name.to_owned(), key: key.to_owned() };
        self.entries.get(&path).cloned()
    }

    /// Keys that exist and were not given anywhere.
    #[cfg(test)]
    pub(super) fn asked_in_vain(&self) -> Vec<String> {
        let is_given = |asked: &&(String, String)| {
            !self.entries.keys().any(|path| (&path.table, &path.key) == (&asked.0, &asked.1))
        };
        self.asked.iter().filter(is_given).map(|(table, key)| format!("{table}.{key}")).collect()
    }

    /// The named tables of one kind, in the order in which they were given: `(name, place, label)`.
    pub(super) fn named(&self, table: &str) -> Vec<(String, Place, String)> {
        let of_kind = self.named.iter().filter(|((kind, _), _)| kind == table);
        let mut tables: Vec<_> =
            of_kind.map(|((_, name), (place, label))| (name.clone(), place.clone(), label.clone())).collect();
        tables.sort_by(|(_, a, _), (_, b, _)| self.given_order(a).cmp(&self.given_order(b)));
        tables
    }

    /// Where the entry of this name is, if there is one.
    pub(super) fn place_of_named(&self, table: &str, name: &str) -> Option<Place> {
        self.named.get(&(table.to_owned(), name.to_owned())).map(|(place, _)| place.clone())
    }

    /// The file first, in the order of its lines; then other files by name; then the command line.
    fn given_order<'a>(&self, place: &'a Place) -> (u8, &'a Place) {
        match place {
            Place::File { file, .. } if self.file.as_ref() == Some(file) => (0, place),
            Place::File { .. } => (1, place),
            Place::CommandLine => (2, place),
        }
    }

    /// Where a setting that is missing at the top belongs, and how it is called there.
    pub(super) fn place_for_missing(&self, key: &str) -> (Place, String) {
        match &self.file {
            Some(file) => (Place::File { file: file.clone(), line: 1 }, key.to_owned()),
            None => (Place::CommandLine, format!("--{key}")),
        }
    }

    /// Whether there is a file at all, or flags only.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Ends the reading: `found` together with everything that was not TOML, and with every key that nobody asked for,
    /// in the order of the file.
    pub(super) fn findings(self, found: Vec<Finding>) -> Vec<Finding> {
        let is_guesswork = |finding: &Finding| match &finding.place {
            Place::File { file, line } => {
                let broken = |(broken, _): &&(Arc<Path>, usize)| broken == file;
                self.broken_lines.contains(&(file.clone(), *line))
                    || (*line == 1 && self.broken_lines.iter().any(|place| broken(&place)))
            }
            Place::CommandLine => false,
        };
        let unknown = self.unknown_keys();
        let mut all: Vec<_> = found.into_iter().chain(unknown).filter(|finding| !is_guesswork(finding)).collect();
        all.extend(self.findings);
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all
    }

    fn unknown_keys(&self) -> Vec<Finding> {
        let is_known = |path: &Path3| self.asked.contains(&(path.table.clone(), path.key.clone()));
        let unknown = self.entries.iter().filter(|(path, _)| !is_known(path));
        unknown
            .map(|(path, entry)| Finding {
                place: entry.place.clone(),
                key: entry.label.clone(),
                what: "is not a key of the configuration".to_owned(),
                remedy: self.remedy_for_unknown(path),
            })
            .collect()
    }

    fn remedy_for_unknown(&self, path: &Path3) -> String {
        let header = |table: &str| match table {
            "" => "at the top of the file, above the first [table]".to_owned(),
            table if NAMED_TABLES.contains(&table) => format!("in a [{table}.NAME]"),
            table => format!("in [{table}]"),
        };
        if let Some((table, key)) = self.asked.iter().find(|(_, key)| *key == path.key) {
            return format!("{key} belongs {}.", header(table));
        }
        let tables: BTreeSet<&str> = self.asked.iter().map(|(table, _)| table.as_str()).collect();
        if path.table.is_empty() && tables.contains(path.key.as_str()) {
            return format!("It is a table: write [{}] on a line of its own, and its settings below.", path.key);
        }
        if !tables.contains(path.table.as_str()) {
            let near = tables.iter().find(|table| distance(table, &path.table) <= 2 && !table.is_empty());
            return match near {
                Some(table) => format!("Did you mean [{table}]?"),
                None => "There is no such table. config/waystation.toml shows all there are.".to_owned(),
            };
        }
        let siblings = self.asked.iter().filter(|(table, _)| *table == path.table).map(|(_, key)| key.as_str());
        let near = siblings.clone().min_by_key(|key| distance(key, &path.key));
        match near.filter(|key| distance(key, &path.key) * 2 <= path.key.len()) {
            Some(key) => format!("Did you mean {key}?"),
            None => format!("Remove it. The keys here are {}.", siblings.collect::<Vec<_>>().join(", ")),
        }
    }
}

fn content(value: &DeValue<'_>, place: &impl Fn(Range<usize>) -> Place) -> Content {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Content::Text(text.to_string()),
        DeValue::Integer(number) => Content::Number(number.to_string()),
        DeValue::Boolean(switch) => Content::Switch(*switch),
        DeValue::Float(_) => Content::Other("a number with a decimal point"),
        DeValue::Datetime(_) => Content::Other("a date or time"),
        DeValue::Array(_) => Content::Other("a list"),
        DeValue::Table(_) => Content::Other("a table"),
    };
    match value {
        DeValue::Array(elements) => {
            Content::List(elements.iter().map(|element| (scalar(element.get_ref()), place(element.span()))).collect())
        }
        other => scalar(other),
    }
}

fn syntax_finding(message: &str, place: Place) -> Finding {
    let remedy = match message {
        "duplicate key" => "Each key and each [table] may stand once; remove or rename one of the two.",
        _ => {
            r#"Each line is key = value: texts in double quotes, lists in brackets, comments after #. As in aet = "WAYSTATION"."#
        }
    };
    Finding { place, key: "not TOML".to_owned(), what: message.replace('\n', " "), remedy: remedy.to_owned() }
}

/// Finds the line of a byte position.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Self {
        Self { starts: text.match_indices('\n').map(|(position, _)| position + 1).collect() }
    }

    fn at(&self, span: Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start) + 1
    }
}

/// How many letters have to be changed, added or removed to turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (diagonal + usize::from(x != y)).min(*cell + 1).min(left + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_words_are_near_and_others_far() {
        assert_eq!(distance("listen", "listen"), 0);
        assert_eq!(distance("listn", "listen"), 1);
        assert_eq!(distance("max_pdu", "max-pdu"), 1);
        assert_eq!(distance("", "aet"), 3);
        assert!(distance("compression", "segment-size") > 5);
    }

    #[test]
    fn lines_are_counted_from_one() {
        let lines = Lines::new("a\nbc\n\nd");
        assert_eq!(lines.at(0..1), 1);
        assert_eq!(lines.at(2..3), 2);
        assert_eq!(lines.at(3..4), 2);
        assert_eq!(lines.at(6..7), 4);
    }
}
