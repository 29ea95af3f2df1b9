//! Who may send, as a person writes it.

use std::path::Path;

use super::tests::{FILE, changed, first_run, here, read, refusal, with};
use super::*;
use crate::model::{AeTitle, Priority};

/// The minimal configuration with these lines in its modality.
fn with_lines(lines: &str) -> String {
    changed("addresses = [\"192.168.7.20\"]", &format!("addresses = [\"192.168.7.20\"]\n{lines}"))
}

/// The minimal configuration with TLS for modalities, and these lines in its modality.
fn over_tls(folder: &Path, lines: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    let file = folder.join("all.pem");
    std::fs::write(&file, pem + &key.serialize_pem()).unwrap();
    let file = file.display();
    with_lines(lines).replace(
        "listen =",
        &format!("ca = \"{file}\"\ncert = \"{file}\"\nkey = \"{file}\"\nlisten-tls = [\"0.0.0.0:2762\"]\nlisten ="),
    )
}

/// The minimal configuration with a data folder of its own, and these files of modalities in it.
fn with_files(data: &Path, files: &[(&str, &str)]) -> String {
    std::fs::create_dir(data.join(MODALITIES)).unwrap();
    for (name, text) in files {
        std::fs::write(data.join(MODALITIES).join(name), text).unwrap();
    }
    changed("/var/lib/waystation", &data.to_string_lossy())
}

#[test]
fn nobody_is_admitted_by_default() {
    let closed = changed("[modality.ct1]\naet = \"CT1\"\naddresses = [\"192.168.7.20\"]\n", "");
    for closed in [closed.clone(), closed.replace("aet =", "allow-any = false\naet =")] {
        let config = read(&closed).unwrap();
        assert_eq!(config.admission, Admission::of(Vec::new()));
        assert!(config.warnings[0].what.contains("nobody is allowed to send"), "{:?}", config.warnings);
        assert!(config.warnings[0].remedy.contains("waystation door"), "{:?}", config.warnings);
    }
    let open = closed.replace("aet =", "allow-any = true\naet =");
    assert_eq!(read(&open).unwrap().admission, Admission::Any);
    assert!(refusal(&changed("listen =", "allow-any = true\nlisten =")).contains("contradicts the modalities"));
}

#[test]
fn a_modality_needs_a_title_and_addresses_of_its_own() {
    assert!(refusal(&changed("aet = \"CT1\"\n", "")).contains("modality.ct1: has no aet"));
    assert!(refusal(&changed("addresses = [\"192.168.7.20\"]", "")).contains("modality.ct1: has no addresses"));
    assert!(refusal(&changed("[\"192.168.7.20\"]", "[]")).contains("has no addresses"));
    assert!(refusal(&changed("[\"192.168.7.20\"]", "[\"ct1.local\"]")).contains("names are not looked up"));
    assert!(refusal(&changed("modality.ct1", "modality.\"CT 1\"")).contains("only lower-case letters"));
    assert!(read(&changed("[\"192.168.7.20\"]", "\"192.168.7.20\"")).is_ok(), "one address needs no list");
}

#[test]
fn two_modalities_may_share_a_title_but_not_an_address_with_it() {
    let twin = |address: &str| with(&format!("\n[modality.ct2]\naet = \"CT1\"\naddresses = [\"{address}\"]"));
    assert!(refusal(&twin("192.168.7.20")).contains("already the AE title of [modality.ct1], from the same address"));
    assert!(refusal(&twin("192.168.0.0/16")).contains("already the AE title of [modality.ct1]"));
    assert_eq!(read(&twin("192.168.7.21")).unwrap().admission.modalities().len(), 2);
}

#[test]
fn what_is_left_out_has_the_default_of_the_table_in_the_manual() {
    let config = read(&with_lines("")).unwrap();
    let ct1 = config.admission.find("ct1").unwrap();
    let plain = Modality::new(
        "ct1".parse().unwrap(),
        "CT1".parse().unwrap(),
        "192.168.7.20".parse().unwrap(),
        vec!["WAYSTATION".parse().unwrap()],
    );
    assert_eq!(**ct1, plain);
}

#[test]
fn a_modality_may_be_told_everything_of_the_table_in_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "called = [\"PACS\", \"WAYSTATION\"]\ncertificate-subject = \"CN=ct1\"\nmax-associations = 4\n\
                 max-rate = \"2MiB\"\npriority = \"stat\"\nto = [\"archive\"]\n\
                 transfer-syntaxes = [\"1.2.840.10008.1.2.4.80\", \"1.2.840.10008.1.2\"]";
    let config = read(&over_tls(folder.path(), lines)).unwrap();
    let ct1 = config.admission.find("ct1").unwrap();
    assert_eq!(ct1.called.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["PACS", "WAYSTATION"]);
    assert!(ct1.tls, "a certificate implies TLS");
    assert_eq!(ct1.certificate_subject.as_deref(), Some("CN=ct1"));
    assert_eq!((ct1.max_associations, ct1.max_rate, ct1.priority), (Some(4), Some(2 << 20), Some(Priority::Stat)));
    assert_eq!(ct1.to.as_deref(), Some(&["archive".parse().unwrap()][..]));
    assert_eq!(ct1.transfer_syntaxes.len(), 2);
    assert!(read(&over_tls(folder.path(), "tls = true")).unwrap().admission.find("ct1").unwrap().tls);
}

#[test]
fn what_a_modality_is_told_wrongly_is_refused_with_its_line_and_a_remedy() {
    for (lines, what, remedy) in [
        ("called = [\"SEVENTEEN-LETTERS\"]", "more than 16 characters", "as the modality has it"),
        ("called = []", "is empty", "the gateway's own aet"),
        ("called = 3", "is a number", "a list of texts"),
        ("tls = \"yes\"", "is a text", "true or false"),
        ("tls = true", "listens nowhere over TLS", "Add listen-tls"),
        ("certificate-subject = \"CN=ct1\"", "listens nowhere over TLS", "Add listen-tls"),
        ("certificate-subject = \" \"", "has 0 characters", "as \"waystation door\" shows it"),
        ("max-associations = 0", "0 is out of range", "the limit per address"),
        ("max-rate = \"1KiB\"", "\"1KiB\" is out of range", "from \"16KiB\""),
        ("max-rate = 1000", "is not a size", "no limit"),
        ("priority = \"high\"", "\"high\" is not a priority", "\"stat\""),
        ("to = [\"nowhere\"]", "\"nowhere\" is no destination", "archive"),
        ("to = []", "is empty", "every destination"),
        ("to = [\"archive\", \"archive\"]", "names archive twice", "once"),
        ("transfer-syntaxes = [\"JPEG-LS\"]", "only digits and dots", "1.2.840.10008.1.2.4.80"),
        ("transfer-syntaxes = [\"1.2.840.10008.5.1.4.1.1.2\"]", "is not a transfer syntax", "1.2.840.10008.1.2.4.80"),
        ("transfer-syntaxes = [\"1.2.3\", \"1.2.3\"]", "names 1.2.3 twice", "once"),
        ("transfer-syntaxes = []", "is empty", "the gateway's own order"),
    ] {
        let error = refusal(&with_lines(lines));
        assert!(error.starts_with(&format!("{FILE}:9: modality.ct1.")), "{lines}: {error}");
        assert!(error.contains(what) && error.contains(remedy), "{lines}: {error}");
    }
}

/// What the door has written, and what a person has typed with a blank too many.
#[test]
fn a_blank_that_is_a_part_of_the_subject_is_kept_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    for (given, expected) in [
        ("CN=ct1", "CN=ct1"),
        ("  CN=ct1 \t", "CN=ct1"),
        ("CN=ct1\\ ", "CN=ct1\\ "),
        ("CN=ct1\\   ", "CN=ct1\\ "),
        ("CN=ct1\\\\ ", "CN=ct1\\\\"),
        ("CN=\\ ct1\\\\\\ ", "CN=\\ ct1\\\\\\ "),
        ("CN=ct1\\", "CN=ct1\\"),
    ] {
        let mut modality =
            (**read(&over_tls(folder.path(), "tls = true")).unwrap().admission.find("ct1").unwrap()).clone();
        modality.certificate_subject = Some(given.to_owned());
        let written = modality_as_toml(&modality, &"WAYSTATION".parse().unwrap());
        let line = written.lines().find(|line| line.starts_with("certificate-subject")).unwrap();
        let config = read(&over_tls(folder.path(), line)).unwrap();
        let read = config.admission.find("ct1").unwrap().certificate_subject.as_deref();
        assert_eq!(read, Some(expected), "{given:?}");
    }
}

#[test]
fn what_can_never_match_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let contradiction = over_tls(folder.path(), "tls = false\ncertificate-subject = \"CN=ct1\"");
    assert!(refusal(&contradiction).contains("only TLS carries one"));
    let unasked = over_tls(folder.path(), "certificate-subject = \"CN=ct1\"");
    let unasked = unasked.replace("listen-tls", "tls-client-certificates = \"none\"\nlisten-tls");
    assert!(refusal(&unasked).contains("client certificates are not asked for"));
}

#[test]
fn a_file_in_the_data_folder_is_a_modality_too() {
    let data = tempfile::tempdir().unwrap();
    let us = "# the ultrasound\naet = \"US1\"\naddresses = [\"192.168.7.30\"]\n";
    let text = with_files(data.path(), &[("us1.toml", us), ("us1.toml.new", "half a fi"), ("notes.txt", "x")]);
    let config = read(&text).unwrap();
    let names: Vec<_> = config.admission.modalities().iter().map(|modality| modality.name.as_str()).collect();
    assert_eq!(names, ["ct1", "us1"], "the configuration file comes first");
    assert_eq!(config.admission.find("us1").unwrap().called[0].as_str(), "WAYSTATION");
    let flags = Flags { data: Some(data.path().into()), ..first_run() };
    assert_eq!(Config::load(None, &flags, &here()).unwrap().admission, Admission::Any, "a flag stands instead of all");
}

#[test]
fn what_is_wrong_with_such_a_file_is_told_with_the_file() {
    for (name, text, line, what) in [
        ("ct1.toml", "aet = \"X\"", 1, "ct1 is also [modality.ct1] in /etc/waystation/waystation.toml:6"),
        ("us1.toml", "", 1, "has no aet"),
        ("us1.toml", "aet = \"US1\"\nadresses = [\"10.0.0.1\"]", 2, "Did you mean addresses?"),
        ("us1.toml", "aet = \"US1\"\n[modality.us1]\n", 2, "is not a key"),
        ("us1.toml", "aet = \"CT1\"\naddresses = [\"192.168.7.0/24\"]", 1, "from the same address"),
        ("us1.toml", "aet = US1", 1, "not TOML"),
        ("US 1.toml", "aet = \"US1\"\naddresses = [\"10.0.0.1\"]", 1, "only lower-case letters"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let error = refusal(&with_files(data.path(), &[(name, text)]));
        let start = format!("{}:{line}: ", data.path().join(MODALITIES).join(name).display());
        assert!(error.contains(&start) && error.contains(what), "{name}: {error}");
    }
}

#[test]
fn a_modality_says_what_commitment_answers_for_and_where_reports_go() {
    let of = |text: &str| {
        let config = read(text).unwrap();
        let modality = config.admission.find("ct1").unwrap();
        let to = modality.commitment_to.as_ref().map(ToString::to_string);
        (modality.commitment, to, config.commitment.patience.as_secs())
    };
    assert_eq!(of(&with_lines("")), (CommitmentLevel::Safe, None, 7 * 86_400));
    let told = with_lines("commitment = \"delivered\"\ncommitment-to = \"dicom://CT1@192.168.7.20:104\"");
    let told = format!("{told}\n[commitment]\npatience = \"2d\"\n");
    let url = Some("dicom://CT1@192.168.7.20:104".to_owned());
    assert_eq!(of(&told), (CommitmentLevel::Delivered, url, 2 * 86_400));
    assert!(read(&told).unwrap().warnings[0].what.contains("can be forged"));
    for (wrong, why) in [
        ("commitment = \"archived\"", "is not a level of storage commitment"),
        ("commitment-to = \"file:///srv\"", "takes no reports"),
        ("commitment-to = \"CT1:104\"", "has no scheme"),
        ("commitment-to = \"dicoms://CT1@ct1:2762\"", "no ca is given"),
    ] {
        let error = refusal(&with_lines(wrong));
        assert!(error.contains(why), "{error}");
    }
}

/// What the gateway starts with when these files are in its data folder.
fn started_with(data: &Path, files: &[(&str, &str)]) -> Result<Config, Findings> {
    let text = with_files(data, files);
    let file = data.join("waystation.toml");
    std::fs::write(&file, text).unwrap();
    Source { file: Some(file), flags: Flags::default(), sockets: HandedOver::default() }.load(here().now)
}

#[test]
fn a_gateway_starts_without_a_file_that_cannot_be_used_and_refuses_that_modality_alone() {
    let us = "aet = \"US1\"\naddresses = [\"192.168.7.30\"]\n";
    for (name, text, aet) in [
        ("ct1.toml", "aet = \"X1\"\naddresses = [\"10.0.0.1\"]", Some("X1")),
        ("mr1.toml", "", None),
        ("mr1.toml", "aet = \"MR1\"\nadresses = [\"10.0.0.1\"]", Some("MR1")),
        ("mr1.toml", "aet = \"CT1\"\naddresses = [\"192.168.7.0/24\"]", Some("CT1")),
        ("mr1.toml", "\0\0\0\0", None),
        ("mr1.toml", "aet = \"MR1\"\naddresses = [\"10.0.0.1\"]\nto = [\"gone\"]", Some("MR1")),
        ("MR 1.toml", "aet = \"MR1\"\naddresses = [\"10.0.0.1\"]", Some("MR1")),
    ] {
        let data = tempfile::tempdir().unwrap();
        let config = started_with(data.path(), &[(name, text), ("us1.toml", us)]).unwrap();
        let names: Vec<_> = config.admission.modalities().iter().map(|modality| modality.name.as_str()).collect();
        assert_eq!(names, ["ct1", "us1"], "{name}: {text}");
        let [left_out] = config.admission.left_out() else { panic!("{name}: {:?}", config.admission.left_out()) };
        assert_eq!(
            (left_out.aet.as_ref().map(AeTitle::as_str), left_out.file.clone()),
            (aet, data.path().join(MODALITIES).join(name))
        );
        let sentence = left_out.to_string();
        assert!(sentence.contains("is left out and refused, because of ") && sentence.contains(name), "{sentence}");
    }
}

/// One that is right but for another that is wrong is not left out with it.
#[test]
fn of_two_files_that_contradict_each_other_one_is_left_out() {
    let data = tempfile::tempdir().unwrap();
    let twin = "aet = \"US1\"\naddresses = [\"192.168.7.30\"]\n";
    let files = [("us1.toml", twin), ("us2.toml", twin), ("us0.toml", &format!("{twin}colour = \"red\""))];
    let config = started_with(data.path(), &files).unwrap();
    let left_out: Vec<_> = config.admission.left_out().iter().map(|left_out| left_out.name.as_str()).collect();
    assert_eq!(left_out, ["us0", "us2"]);
    assert!(config.admission.find("us1").is_some());
}

#[test]
fn what_is_wrong_with_the_configuration_itself_keeps_the_gateway_from_starting_all_the_same() {
    let data = tempfile::tempdir().unwrap();
    let text = with_files(data.path(), &[("us1.toml", "")]).replace("listen =", "lisn =");
    let file = data.path().join("waystation.toml");
    std::fs::write(&file, text).unwrap();
    let source = Source { file: Some(file), flags: Flags::default(), sockets: HandedOver::default() };
    let findings = source.load(here().now).unwrap_err();
    assert!(!findings.passing && findings.to_string().contains("us1.toml"), "all of it is told: {findings}");
}

/// A folder in the place of the file stands for what the disk does not give: this file alone is left out.
#[test]
fn a_file_that_the_disk_does_not_give_is_left_out_and_want_of_a_descriptor_ends_the_start_as_passing() {
    use nix::errno::Errno;
    let data = tempfile::tempdir().unwrap();
    let text = with_files(data.path(), &[]);
    std::fs::create_dir(data.path().join(MODALITIES).join("us1.toml")).unwrap();
    assert!(refusal(&text).contains("us1.toml:1: the file: cannot be read"), "check-config says so");
    let file = data.path().join("waystation.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load_what_can_be_used(Some(&file), &Flags::default(), &here(), None).unwrap();
    assert_eq!(config.admission.left_out()[0].name, "us1");
    for (errno, of_the_process, passing) in [
        (Errno::EMFILE, true, true),
        (Errno::ENFILE, true, true),
        (Errno::ENOMEM, true, true),
        (Errno::EIO, false, true),
        (Errno::EACCES, false, false),
        (Errno::ENOENT, false, false),
    ] {
        let error = std::io::Error::from(errno);
        assert_eq!((finding::is_of_the_process(&error), finding::is_passing(&error)), (of_the_process, passing));
    }
}
