//! What is changed on the way, as a person writes it.

use super::tests::{read, refusal, with};
use crate::dataset::coerce::Action;

fn table(lines: &str) -> String {
    with(&format!("[coerce.one]\nto = [\"archive\"]\n{lines}\n"))
}

#[test]
fn changes_are_read_by_keyword_and_by_number() {
    let config = read(&table(
        r#"
        calling = "CT1"
        modality = ["CR", "D?"]
        set = ["InstitutionName = Clinic 7 = north", "(0008,1040)="]
        remove = "StationName"
        prefix = ["AccessionNumber = C7-"]
        suffix = ["PatientID = /C7"]
        map = ["Modality: CR -> DX", "(0008,0060): RG -> DX"]
        "#,
    ))
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let coercion = &config.coercions[0];
    assert_eq!((coercion.name.as_str(), coercion.conditions.len()), ("one", 2));
    let told: Vec<_> = coercion.changes.iter().map(|change| (change.tag.to_string(), change.action.clone())).collect();
    let text = str::to_owned;
    assert_eq!(
        told,
        [
            (text("(0008,0080)"), Action::Set(text("Clinic 7 = north"))),
            (text("(0008,1040)"), Action::Set(String::new())),
            (text("(0008,1010)"), Action::Remove),
            (text("(0008,0050)"), Action::Prefix(text("C7-"))),
            (text("(0010,0020)"), Action::Suffix(text("/C7"))),
            (text("(0008,0060)"), Action::Map(vec![(text("CR"), text("DX")), (text("RG"), text("DX"))])),
        ]
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_remedy() {
    for (lines, told) in [
        ("", "changes nothing"),
        ("set = []", "is empty"),
        ("set = \"InstitutionName\"", "is not of the form of set"),
        ("set = \"Institution = x\"", "is no attribute of the standard"),
        ("set = \"(0009,1001) = x\"", "is private"),
        ("set = \"SOPInstanceUID = 1.2\"", "is a UID"),
        ("set = \"StudyInstanceUID = 1.2\"", "is a UID"),
        ("set = \"SpecificCharacterSet = x\"", "says how all texts are to be read"),
        ("set = \"(0002,0016) = X\"", "does not belong to the data set itself"),
        ("set = \"(0008,0000) = 1\"", "is the length of its group"),
        ("remove = \"PixelData\"", "describes pixels, or is some"),
        ("remove = \"ReferencedStudySequence\"", "only texts can be changed"),
        ("set = \"AccessionNumber = 12345678901234567\"", "17 characters, of which SH can have 16"),
        ("set = \"InstitutionName = Klinik Süd\"", "beyond ASCII"),
        ("set = \"Modality = ct\"", "characters that CS does not have"),
        ("set = \"StudyDate = 2026\"", "fewer characters than DA has"),
        ("prefix = \"AccessionNumber =\"", "is not of the form of prefix"),
        ("map = \"Modality: CR\"", "is not of the form of map"),
        ("map = [\"Modality: CR -> DX\", \"Modality: CR -> RG\"]", "changes (0008,0060) twice"),
        ("set = \"StationName = A\"\nremove = \"StationName\"", "changes (0008,1010) twice"),
        ("set = \"StationName = A\"\nstation = \"B\"", "is not a key of the configuration"),
    ] {
        let error = refusal(&table(lines));
        assert!(error.contains(told), "{lines}: {error}");
        assert!(error.ends_with("1 problem in the configuration"), "{lines}: {error}");
    }
    let nowhere = refusal(&with("[coerce.one]\nremove = \"StationName\"\n"));
    assert!(nowhere.contains("does not say for which destinations"), "{nowhere}");
    let unknown = refusal(&with("[coerce.one]\nto = \"cloud\"\nremove = \"StationName\"\n"));
    assert!(unknown.contains("Name some of those that there are: archive."), "{unknown}");
}

#[test]
fn a_change_that_is_never_made_is_warned_of_and_a_changed_one_waits_for_a_restart() {
    let two = "[coerce.a]\nto = \"archive\"\nset = \"StationName = A\"\n[coerce.b]\nto = \"archive\"\nmodality = \"CT\"\nset = \"StationName = B\"\n";
    let config = read(&with(two)).unwrap();
    assert!(config.warnings[0].what.starts_with("never changes (0008,1010): [coerce.a]"), "{:?}", config.warnings);
    assert_eq!(read(&with("")).unwrap().waiting_for_a_restart(&config), ["[coerce.*]"]);
}
