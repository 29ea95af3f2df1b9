//! Where instances go, as a person writes it.

use super::tests::{read, refusal, with};
use crate::model::Priority;
use crate::routing::{Condition, Course};

fn rules(text: &str) -> Vec<String> {
    read(&with(text)).unwrap().rules.as_slice().iter().map(ToString::to_string).collect()
}

#[test]
fn rules_are_read_in_the_order_of_the_file() {
    let told = rules(
        r#"
        [rule.zebra]
        modality = ["CT", "PT"]
        calling = "CT1"
        to = ["archive"]
        [rule.all]
        withhold = true
        "#,
    );
    assert_eq!(told, ["zebra: calling CT1 and modality CT or PT: to archive", "all: everything: withheld"]);
    assert!(read(&with("")).unwrap().rules.as_slice().is_empty());
}

#[test]
fn every_condition_has_its_key() {
    let config = read(&with(
        r#"
        [rule.all]
        calling = ["CT1", "CT2"]
        called = "WAYSTATION"
        addresses = ["10.0.0.0/8", "fd00::1"]
        modality = ["CT"]
        sop-class = ["CTImageStorage", "1.2.840.10008.5.1.4.1.1.4"]
        body-part = ["CHEST*"]
        study-description = "*contrast*"
        series-description = "?"
        protocol = "x"
        station = "x"
        institution = "x"
        image-type = "DERIVED"
        requesting-service = "ICU*"
        transfer-syntax = "1.2.840.10008.1.2"
        dimse-priority = ["high", "low"]
        larger-than = "1KiB"
        smaller-than = "2GiB"
        priority = "stat"
        "#,
    ))
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let rule = &config.rules.as_slice()[0];
    assert_eq!((rule.conditions.len(), &rule.course, rule.priority), (17, &None, Some(Priority::Stat)));
    let keys: Vec<_> = rule.conditions.iter().map(Condition::key).collect();
    assert_eq!(keys[..4], ["calling", "called", "addresses", "sop-class"], "what is known first is asked first");
    let Condition::SopClass(uids) = &rule.conditions[3] else { panic!("{:?}", rule.conditions[3]) };
    assert_eq!(uids[0].as_str(), "1.2.840.10008.5.1.4.1.1.2");
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused_with_the_remedy() {
    for (lines, told) in [
        ("modality = \"CT\"", "says nothing about what happens when it fits"),
        ("to = []", "Write withhold = true"),
        ("to = [\"archive\", \"archive\"]", "names archive twice"),
        ("to = [\"cloud\"]", "Name some of those that there are: archive."),
        ("to = [\"archive\"]\nwithhold = true", "contradicts to"),
        ("withhold = false", "is false"),
        ("priority = \"high\"", "Write \"stat\", \"routine\" or \"low\""),
        ("withhold = true\nmodality = []", "is empty"),
        ("withhold = true\nmodality = \" \"", "it is empty"),
        ("withhold = true\nsop-class = \"CT\"", "neither a UID nor the keyword"),
        ("withhold = true\ndimse-priority = \"stat\"", "Write \"high\", \"medium\" or \"low\""),
        ("withhold = true\naddresses = \"ct1\"", "names are not looked up"),
        ("withhold = true\ncalling = \"SEVENTEEN-LETTERS\"", "more than 16 characters"),
        ("withhold = true\nlarger-than = \"2MiB\"\nsmaller-than = \"1MiB\"", "leaves nothing"),
        ("withhold = true\nlarger-than = 5", "with its unit"),
        ("withhold = true\nmodalty = \"CT\"", "Did you mean modality?"),
    ] {
        let error = refusal(&with(&format!("[rule.one]\n{lines}\n")));
        assert!(error.contains(told), "{lines}: {error}");
        assert!(error.ends_with("1 problem in the configuration"), "{lines}: {error}");
    }
    assert!(refusal(&with("[rule]\nwithhold = true")).contains("write [rule.NAME] above it"));
    assert!(refusal(&with("[rule.\"CT Night\"]\nwithhold = true")).contains("only lower-case letters"));
}

#[test]
fn what_can_never_decide_is_warned_of() {
    let warnings = |text: &str| {
        let config = read(&with(text)).unwrap();
        config.warnings.iter().map(|warning| format!("{}: {}", warning.key, warning.what)).collect::<Vec<_>>()
    };
    let told = warnings("[rule.all]\nwithhold = true\n[rule.ct]\nmodality = \"CT\"\nto = [\"archive\"]\n");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("rule.all: has no condition"), "{told:?}");
    assert!(told[1].starts_with("rule.ct: can never decide anything: [rule.all]"), "{told:?}");
    let last = "[rule.ct]\nmodality = \"CT\"\nto = [\"archive\"]\n[rule.all]\nwithhold = true\n";
    assert!(warnings(last).is_empty(), "as the last it is what happens to the rest");
}

#[test]
fn rules_change_at_a_reload_and_wait_for_destinations_that_are_not_there_yet() {
    let running = read(&with("")).unwrap();
    let new = read(&with("[rule.ct]\nmodality = \"CT\"\nwithhold = true\n")).unwrap();
    assert!(running.waiting_for_a_restart(&new).is_empty());
    let rules = new.rules_within(&running).unwrap();
    assert_eq!(rules.as_slice()[0].course, Some(Course::Withhold));
    let cloud = "[to.cloud]\nurl = \"file:///srv/cloud\"\n[rule.ct]\nto = [\"cloud\"]\n";
    let early = read(&with(cloud)).unwrap().rules_within(&running).unwrap_err();
    assert_eq!(early, ["the rule ct sends to cloud, which is a destination only then"]);
}
