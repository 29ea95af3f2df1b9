//! Holds the structure that `docs/architecture.md` describes: who may use whom, where I/O lives, how long a file gets.
//!
//! It reads the sources as text. That misses a path put together by a macro; it costs nothing and needs nobody's memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// For a module of the crate: the modules that it must not use.
///
/// An instance travels association → dimse → receive → spool → forward, and the modules know each other in the direction
/// in which it was decided, never back.
const FORBIDDEN: [(&str, &[&str]); 15] = [
    ("model", &["*"]),
    ("clock", &["*", "!model"]),
    ("codec", &["*"]),
    ("uplink", &["*", "!clock"]),
    ("durable", &["*", "!model", "!clock"]),
    ("dataset", &["*", "!model"]),
    ("pixels", &["*", "!model", "!dataset"]),
    ("routing", &["*", "!model"]),
    ("association", &["*", "!model", "!clock", "!dimse"]),
    ("dimse", &["*", "!model", "!dataset"]),
    ("ledger", &["*", "!model", "!durable"]),
    ("spool", &["*", "!model", "!clock", "!codec", "!durable", "!ledger", "!metrics"]),
    ("inquiry", &["receive", "forward", "control", "daemon"]),
    ("receive", &["forward", "control", "daemon"]),
    ("forward", &["receive", "control", "daemon"]),
];

/// Where the async runtime must not be: in what is bytes and policy, and in the spool. `association` is a protocol core
/// with one transport, in two files. `clock` reads the runtime's clock, and so nobody else has to.
const WITHOUT_TOKIO: [&str; 10] =
    ["model", "codec", "durable", "dataset", "pixels", "routing", "association", "dimse", "ledger", "spool"];
const THE_TRANSPORT: [&str; 2] = ["association::transport", "association::driver"];

/// A file longer than this wants to be two.
const LINES: usize = 700;

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut waiting = vec![source_folder()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// A file's path inside the crate: `spool/log.rs` is `["spool", "log"]`, `spool/mod.rs` is `["spool"]`.
fn module_of(path: &Path) -> Vec<String> {
    let relative = path.strip_prefix(source_folder()).unwrap().with_extension("");
    let mut parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
    parts
}

/// The code without its comments, its literals and its test module at the end: what the rules are about.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut code = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let after = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            raw.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if next == '"' {
            end_of_string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"") {
            4.min(rest.len())
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[after..];
    }
    code
}

/// The length of the string literal that `text` starts with.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The modules of the crate that a file uses, through `crate::` and through `super::`, in `use` or in passing.
fn modules_used(module: &[String], code: &str) -> BTreeSet<String> {
    let tokens = tokens_of(code);
    let mut used = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        let start = at;
        at += 1;
        let mut depth = match tokens[start] {
            "crate" | "waystation" => 0,
            "super" => module.len().saturating_sub(1),
            _ => continue,
        };
        if start > 0 && tokens[start - 1] == "::" {
            continue;
        }
        while tokens.get(at) == Some(&"::") && tokens.get(at + 1) == Some(&"super") {
            depth = depth.saturating_sub(1);
            at += 2;
        }
        if depth == 0 && tokens.get(at) == Some(&"::") {
            used.extend(first_names(&tokens[at + 1..]));
        }
    }
    used
}

/// The names that a path begins with: one, or several in braces.
fn first_names(tokens: &[&str]) -> Vec<String> {
    if tokens.first() != Some(&"{") {
        return tokens.first().map(|name| (*name).to_owned()).into_iter().collect();
    }
    let (mut names, mut depth, mut expected) = (Vec::new(), 0, false);
    for token in tokens {
        match *token {
            "{" => {
                depth += 1;
                expected = depth == 1;
            }
            "}" => depth -= 1,
            "," => expected = depth == 1,
            name if expected => {
                names.push(name.to_owned());
                expected = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Words, `::`, and single signs.
fn tokens_of(code: &str) -> Vec<&str> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// Whether a list of forbidden modules forbids this one: `*` forbids all, `!name` allows one again.
fn forbids(list: &[&str], name: &str) -> bool {
    let is_allowed = list.iter().any(|entry| entry.strip_prefix('!') == Some(name));
    !is_allowed && list.iter().any(|entry| *entry == "*" || *entry == name)
}

/// The names of the crate's modules, so that a function or a macro at the root is not taken for one.
fn all_modules() -> BTreeSet<String> {
    sources().iter().filter_map(|path| module_of(path).first().cloned()).collect()
}

/// What a file of this module does that it must not, one sentence each. Tests may do what they like.
fn offences(module: &[String], code: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let Some(top) = module.first() else { return Vec::new() };
    if module.iter().any(|part| part == "tests") {
        return Vec::new();
    }
    let name = module.join("::");
    let mut found = Vec::new();
    if let Some((_, list)) = FORBIDDEN.iter().find(|(subject, _)| subject == top) {
        let used = modules_used(module, code);
        let wrong = used.iter().filter(|used| modules.contains(*used) && *used != top && forbids(list, used));
        found.extend(wrong.map(|used| format!("{name} uses {used}")));
    }
    let is_the_transport = THE_TRANSPORT.iter().any(|transport| name.starts_with(transport));
    if WITHOUT_TOKIO.contains(&top.as_str()) && !is_the_transport {
        let runtime = tokens_of(code).into_iter().any(|token| token == "tokio" || token.starts_with("tokio_"));
        found.extend(runtime.then(|| format!("{name} uses tokio")));
    }
    found
}

#[test]
fn modules_use_each_other_in_one_direction_only_and_the_core_is_without_a_runtime() {
    let modules = all_modules();
    let of_file = |path: &PathBuf| {
        let code = code_of(&std::fs::read_to_string(path).unwrap());
        offences(&module_of(path), &code, &modules)
    };
    let found: Vec<String> = sources().iter().flat_map(of_file).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    for (subject, _) in FORBIDDEN {
        assert!(modules.contains(subject), "there is no module {subject} any more: correct the rules of this test");
    }
}

#[test]
fn payloads_are_taken_from_the_disk_in_one_place_only() {
    let mut found = Vec::new();
    for path in sources() {
        let module = module_of(&path).join("::");
        let code = code_of(&std::fs::read_to_string(&path).unwrap());
        let tokens = tokens_of(&code);
        let has = |three: [&str; 3]| tokens.windows(3).any(|tokens| tokens == three);
        if module.starts_with("spool") && has([".", "punch", "("]) {
            found.push(format!("{module} punches"));
        }
        // An Expendable is made where it is proved, and nowhere else.
        if has(["Expendable", "{", "what"]) || has(["Expendable", "{", "pub"]) {
            found.push(format!("{module} makes an Expendable"));
        }
    }
    assert_eq!(found, ["spool::free punches", "spool::index::expend makes an Expendable"]);
}

#[test]
fn clocks_are_read_in_one_place_only() {
    let clocks = [["Instant", "::", "now"], ["SystemTime", "::", "now"], ["Zoned", "::", "now"]];
    let users_of = |reads: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        let reading = sources().into_iter().filter(|path| reads(&code_of(&std::fs::read_to_string(path).unwrap())));
        reading.map(|path| module_of(&path).first().cloned().unwrap_or_default()).collect()
    };
    let reads = |code: &str| tokens_of(code).windows(3).any(|tokens| clocks.iter().any(|clock| tokens == clock));
    assert_eq!(users_of(&reads), BTreeSet::from(["clock".to_owned()]));
    // The clock of the runtime is for what waits with its timers.
    let of_runtime = users_of(&|code| tokens_of(code).contains(&"of_runtime"));
    assert_eq!(of_runtime, ["association", "clock", "forward", "receive", "uplink"].map(str::to_owned).into());
}

#[test]
fn no_source_file_is_too_long_to_be_read_in_one_go() {
    let lines = |path: &PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> = sources().into_iter().map(|path| (lines(&path), path)).filter(|(n, _)| *n > LINES).collect();
    assert!(long.is_empty(), "more than {LINES} lines: {long:#?}");
}

#[test]
fn the_rules_find_what_they_forbid() {
    let modules: BTreeSet<String> =
        ["spool", "forward", "receive", "model", "association"].map(str::to_owned).into_iter().collect();
    let check = |module: &[&str], text: &str| {
        let module: Vec<String> = module.iter().map(|part| (*part).to_owned()).collect();
        offences(&module, &code_of(text), &modules)
    };
    assert_eq!(check(&["spool", "log"], "use crate::{model::Uid, forward::{self, x}};"), ["spool::log uses forward"]);
    assert_eq!(check(&["spool", "log"], "let x = super::super::receive::scan();"), ["spool::log uses receive"]);
    assert_eq!(check(&["spool"], "use super::forward;"), ["spool uses forward"]);
    assert_eq!(check(&["receive"], "fn f() { crate::forward::wake() }"), ["receive uses forward"]);
    assert_eq!(check(&["spool"], "use tokio_util::sync;"), ["spool uses tokio"]);
    assert_eq!(check(&["association", "pdu"], "use tokio::net;"), ["association::pdu uses tokio"]);
    assert!(check(&["association", "transport"], "use tokio::net;").is_empty());
    assert!(check(&["association", "tests", "transport"], "use tokio::net;").is_empty());
    assert!(
        check(&["spool", "log"], "use super::index::forward; use crate::spool::x; use crate::model::Uid;").is_empty()
    );
    assert!(check(&["spool"], "// use crate::forward;\nlet s = \"crate::forward\"; /* tokio */").is_empty());
    assert!(check(&["spool"], "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use crate::forward;\n}").is_empty());
}
