//! Where instances go by the rules of the configuration, and what `waystation route` says of it beforehand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::dcmtk::{Target, all_succeed, storescu};
use crate::support::gateway::{Setup, waystation};
use crate::support::process::{Finished, Process};
use crate::support::{PATIENCE, Scratch, files_below, phantom};

const TRANSFER: Duration = Duration::from_secs(120);

fn route(arguments: &[&str], file: &Path, config: &Path) -> Finished {
    let mut command = waystation();
    command.arg("route").arg(file).arg("--config").arg(config).args(arguments);
    Process::run("waystation route", command, "", PATIENCE)
}

/// A complete configuration: what the flags of the harness would say is in it, for `waystation route`.
fn settings(scratch: &Scratch, rules: &str) -> String {
    let folder = |name: &str| scratch.path().join(name).display().to_string();
    format!(
        "data = \"{}\"\naet = \"WAYSTATION\"\nallow-any = true\n{}{rules}",
        folder("data"),
        ["nas", "neuro"].map(|name| format!("[to.{name}]\nurl = \"file://{}\"\n", folder(name))).concat()
    )
}

#[test]
fn instances_go_where_the_first_rule_that_fits_says_and_a_reload_changes_it() {
    let scratch = Scratch::new();
    let (nas, neuro) = (scratch.folder("nas"), scratch.folder("neuro"));
    let config = scratch.path().join("waystation.toml");
    let rules = "[rule.small]\nmodality = \"CT\"\nsmaller-than = \"1KiB\"\nto = [\"nas\"]\n\
                 [rule.head]\ncalling = \"HEAD\"\nmodality = \"c?\"\nto = [\"neuro\"]\npriority = \"stat\"\n\
                 [rule.private]\ncalling = \"PRIVATE\"\nwithhold = true\n";
    let setup = Setup::new(scratch.folder("data")).configured(&config, &settings(&scratch, rules));
    let mut gateway = setup.start();
    let send = |target: Target, name: &str| {
        let files = phantom::ct_series(&scratch.folder(name), 2, 64);
        all_succeed(&storescu(&target, &files), &files);
        files
    };
    let from = |calling: &str| Target { calling: calling.to_owned(), ..gateway.target() };
    let (head, private, other) = (from("HEAD"), from("PRIVATE"), from("OTHER"));

    let files: Vec<PathBuf> = send(head.clone(), "head");
    let text = route(&["--calling", "HEAD"], &files[0], &config).text();
    for line in
        ["rule small: the data set has ", "rule head: fits, and decides", "goes to neuro: file:///", "priority stat"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("goes to nas"), "{text}");
    let json = route(&["--calling", "PRIVATE", "--json"], &files[0], &config).printed;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["rule"], &json["withheld"]), (&Value::from("private"), &Value::from(true)), "{json}");
    let wrong = scratch.path().join("wrong.toml");
    std::fs::write(&wrong, settings(&scratch, "[rule.x]\nto = []\n")).unwrap();
    let refused = route(&["--calling", "HEAD"], &files[0], &wrong);
    assert!(
        refused.status.code() == Some(64) && refused.text().contains("Write withhold = true"),
        "{}",
        refused.text()
    );

    send(private, "private");
    send(other, "other");
    gateway.drained("nas", TRANSFER);
    gateway.drained("neuro", TRANSFER);
    let arrived = || (files_below(&nas).len(), files_below(&neuro).len());
    assert_eq!(arrived(), (2, 4), "to neuro what the rule sends there; to both what no rule is about");
    let held = gateway.status_json().unwrap()["spool"]["instances"].as_u64();
    assert_eq!(held, Some(6), "what is withheld is kept");

    std::fs::write(&config, settings(&scratch, "[rule.all]\nto = [\"nas\"]\n")).unwrap();
    gateway.reload("the rules that decide where instances go have changed; there are 1 now");
    send(head, "head-again");
    gateway.drained("nas", TRANSFER);
    gateway.drained("neuro", TRANSFER);
    assert_eq!(arrived(), (4, 4));
}
