use super::*;
use crate::model::{AeTitle, Uid};

struct Instance {
    calling: AeTitle,
    called: AeTitle,
    sop_class: Uid,
    transfer_syntax: Uid,
    attributes: Attributes,
}

impl Instance {
    fn ct() -> Self {
        let mut attributes = Attributes::default();
        attributes.note(Attribute::Modality.tag(), b"CT");
        attributes.note(Attribute::StudyDescription.tag(), b"Chest with contrast ");
        attributes.note(Attribute::ImageType.tag(), b"DERIVED\\SECONDARY\\MPR ");
        Self {
            calling: "CT1".parse().unwrap(),
            called: "WAYSTATION".parse().unwrap(),
            sop_class: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            attributes,
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            calling: &self.calling,
            called: &self.called,
            address: Some("192.168.7.20".parse().unwrap()),
            sop_class: &self.sop_class,
            transfer_syntax: &self.transfer_syntax,
            dimse_priority: Priority::Low,
            length: 1_000,
            attributes: &self.attributes,
        }
    }
}

fn name(text: &str) -> DestinationName {
    text.parse().unwrap()
}

fn text(attribute: Attribute, pattern: &str) -> Condition {
    Condition::Text(attribute, vec![pattern.parse().unwrap()])
}

fn rule(called: &str, conditions: Vec<Condition>, course: Option<Course>, priority: Option<Priority>) -> Rule {
    Rule { name: name(called), conditions, course, priority }
}

#[test]
fn the_first_rule_that_fits_decides_and_leaves_the_rest_to_the_modality() {
    let instance = Instance::ct();
    let to = |called: &str| Some(Course::To(vec![name(called)]));
    let rules = Rules::new(vec![
        rule("mr", vec![text(Attribute::Modality, "MR")], to("neuro"), None),
        rule("urgent", vec![text(Attribute::StudyDescription, "*contrast*")], None, Some(Priority::Stat)),
        rule("rest", Vec::new(), to("nas"), None),
    ]);
    let all = [name("archive")];
    let without = Without { destinations: &all, priority: Some(Priority::Routine) };
    let decision = rules.decide(&instance.subject(), without);
    let expected =
        Decision { rule: Some(name("urgent")), destinations: all.to_vec(), withheld: false, priority: Priority::Stat };
    assert_eq!(decision, expected);
}

#[test]
fn a_priority_that_nobody_gives_is_that_of_the_request() {
    let instance = Instance::ct();
    let decide = |rules: &Rules, priority| {
        let decision = rules.decide(&instance.subject(), Without { destinations: &[], priority });
        (decision.priority, decision.withheld, decision.rule)
    };
    assert_eq!(decide(&Rules::default(), None), (Priority::Low, false, None));
    assert_eq!(decide(&Rules::default(), Some(Priority::Stat)), (Priority::Stat, false, None));
    let withheld = Rules::new(vec![rule("none", Vec::new(), Some(Course::Withhold), None)]);
    assert_eq!(decide(&withheld, None), (Priority::Low, true, Some(name("none"))));
}

#[test]
fn each_condition_fits_what_it_asks_for_and_says_why_not() {
    let instance = Instance::ct();
    let subject = instance.subject();
    let uid = |text: &str| text.parse::<Uid>().unwrap();
    for (fits, does_not, why) in [
        (
            Condition::Calling(vec!["MR1".parse().unwrap(), "CT1".parse().unwrap()]),
            Condition::Calling(vec!["ct1".parse().unwrap()]),
            "calling is CT1, not ct1",
        ),
        (
            Condition::Called(vec!["WAYSTATION".parse().unwrap()]),
            Condition::Called(vec!["PACS".parse().unwrap()]),
            "called is WAYSTATION, not PACS",
        ),
        (
            Condition::Addresses(vec!["192.168.7.0/24".parse().unwrap()]),
            Condition::Addresses(vec!["10.0.0.0/8".parse().unwrap()]),
            "addresses is 192.168.7.20, not 10.0.0.0/8",
        ),
        (
            Condition::SopClass(vec![uid("1.2.840.10008.5.1.4.1.1.2")]),
            Condition::SopClass(vec![uid("1.2.840.10008.5.1.4.1.1.4")]),
            "sop-class is 1.2.840.10008.5.1.4.1.1.2, not 1.2.840.10008.5.1.4.1.1.4",
        ),
        (
            Condition::TransferSyntax(vec![uid("1.2.840.10008.1.2.1")]),
            Condition::TransferSyntax(vec![uid("1.2.840.10008.1.2")]),
            "transfer-syntax is 1.2.840.10008.1.2.1, not 1.2.840.10008.1.2",
        ),
        (
            Condition::DimsePriority(vec![Priority::Low]),
            Condition::DimsePriority(vec![Priority::Stat, Priority::Routine]),
            "dimse-priority is low, not high or medium",
        ),
        (Condition::LargerThan(999), Condition::LargerThan(1_000), "the data set has 1000 bytes, not more than 1000"),
        (
            Condition::SmallerThan(1_001),
            Condition::SmallerThan(1_000),
            "the data set has 1000 bytes, not fewer than 1000",
        ),
        (
            text(Attribute::ImageType, "mpr"),
            text(Attribute::ImageType, "axial"),
            r"image-type is DERIVED\SECONDARY\MPR, not axial",
        ),
        (text(Attribute::Modality, "c?"), text(Attribute::BodyPart, "*"), "body-part is missing or empty, not *"),
    ] {
        assert!(fits.fits(&subject), "{fits:?}");
        assert!(!does_not.fits(&subject), "{does_not:?}");
        assert_eq!(does_not.misfit(&subject), why);
    }
    let nowhere = Subject { address: None, ..subject };
    assert!(!Condition::Addresses(vec!["0.0.0.0/0".parse().unwrap()]).fits(&nowhere), "what is not known fits nothing");
}

#[test]
fn a_rule_is_told_in_one_line() {
    let both = vec![text(Attribute::Modality, "CT"), Condition::Calling(vec!["CT1".parse().unwrap()])];
    let to = Some(Course::To(vec![name("archive"), name("nas")]));
    let shown = rule("ct-night", both, to, Some(Priority::Low)).to_string();
    assert_eq!(shown, "ct-night: modality CT and calling CT1: to archive, nas, priority low");
    assert_eq!(rule("none", Vec::new(), Some(Course::Withhold), None).to_string(), "none: everything: withheld");
}
