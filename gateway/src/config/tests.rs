//! What a person writes, and what comes of it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::association::IdentityForm;

pub(super) fn here() -> Surroundings {
    Surroundings { sockets: HandedOver::default(), now: Timestamp::from_millis(1_800_000_000_000) }
}

pub(super) const FILE: &str = "/etc/waystation/waystation.toml";

const MINIMAL: &str = r#"
data = "/var/lib/waystation"
aet = "WAYSTATION"
listen = ["0.0.0.0:11112"]

[modality.ct1]
aet = "CT1"
addresses = ["192.168.7.20"]

[to.archive]
url = "file:///srv/dicom"
"#;

pub(super) fn read(text: &str) -> Result<Config, Findings> {
    Config::from_text(Path::new(FILE), text, &Flags::default(), &here())
}

pub(super) fn refusal(text: &str) -> String {
    read(text).expect_err("this configuration is wrong").to_string()
}

/// The minimal configuration with one piece of it replaced.
pub(super) fn changed(from: &str, to: &str) -> String {
    assert!(MINIMAL.contains(from), "{from:?}");
    MINIMAL.replace(from, to)
}

/// The minimal configuration with more below it.
pub(super) fn with(more: &str) -> String {
    format!("{MINIMAL}{more}")
}

pub(super) fn first_run() -> Flags {
    Flags {
        data: Some("/tmp/spool".into()),
        aet: Some("GATE".into()),
        listen: vec!["127.0.0.1:11112".into()],
        to: vec!["archive=dicom://ARCHIVE@192.0.2.7:104".into()],
        allow_any: true,
        ..Flags::default()
    }
}

#[test]
fn instances_are_made_smaller_unless_the_destination_says_otherwise() {
    for (more, expected) in [("", true), ("compress = true\n", true), ("compress = false\n", false)] {
        assert_eq!(read(&with(more)).unwrap().destinations[0].compress, expected, "{more}");
    }
    // Nobody can ask a DICOMweb service what it takes.
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    for (more, expected) in [("", false), ("compress = true\n", true), ("compress = false\n", false)] {
        let text = with(more).replace("file:///srv/dicom", "https://pacs.example/rs");
        let text = text.replace("listen =", "ca = \"ca.pem\"\nlisten =");
        let file = folder.path().join("waystation.toml");
        let config = Config::from_text(&file, &text, &Flags::default(), &here()).unwrap();
        assert_eq!(config.destinations[0].compress, expected, "{more}");
    }
}

#[test]
fn a_minimal_file_gives_a_complete_configuration() {
    let config = read(MINIMAL).unwrap();
    assert_eq!(config.data, Path::new("/var/lib/waystation"));
    assert_eq!(config.aet.as_str(), "WAYSTATION");
    assert_eq!(config.listen, ["0.0.0.0:11112".parse().unwrap()]);
    assert_eq!(config.destinations[0].name.as_str(), "archive");
    assert_eq!(config.limits.max_pdu, 128 * 1024);
    assert_eq!(config.limits.association_timeout, Duration::from_secs(30));
    assert_eq!(config.spool.segment_size, 64 << 20);
    assert_eq!(config.retry.max_delay, Duration::from_secs(900));
    assert!(config.tls.is_none() && config.warnings.is_empty());
    let clinic: IpAddr = "192.168.7.20".parse().unwrap();
    let ct1 = config.admission.find("ct1").unwrap();
    assert!(ct1.aet.as_str() == "CT1" && ct1.addresses[0].contains(clinic));
}

#[test]
fn flags_alone_are_enough_for_a_first_run() {
    let config = Config::load(None, &first_run(), &here()).unwrap();
    assert_eq!(config.admission, Admission::Any);
    assert_eq!(config.destinations[0].url.to_string(), "dicom://ARCHIVE@192.0.2.7:104");
    let warnings: Vec<_> = config.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(warnings, ["--to archive", "--allow-any"], "plain DICOM and open doors are told");
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Flags {
        to: vec!["archive=file:///srv/other".into(), "second=file:///srv/second".into()],
        aet: Some("FLAG".into()),
        ..first_run()
    };
    let config = Config::from_text(Path::new(FILE), MINIMAL, &flags, &here()).unwrap();
    assert_eq!(config.aet.as_str(), "FLAG");
    assert_eq!(config.data, Path::new("/tmp/spool"));
    assert_eq!(config.listen, ["127.0.0.1:11112".parse().unwrap()]);
    assert_eq!(config.admission, Admission::Any);
    let destinations: Vec<_> = config.destinations.iter().map(|to| format!("{}={}", to.name, to.url)).collect();
    assert_eq!(destinations, ["archive=file:///srv/other", "second=file:///srv/second"]);
}

#[test]
fn an_empty_file_is_told_everything_it_lacks() {
    let error = refusal("");
    for key in ["data:", "aet:", "listen:", "to:"] {
        assert!(error.contains(&format!("{FILE}:1: {key}")), "{key} in {error}");
    }
    assert!(error.ends_with("4 problems in the configuration"), "{error}");
}

#[test]
fn without_a_file_what_is_missing_is_asked_for_as_flags() {
    let error = Config::load(None, &Flags::default(), &here()).unwrap_err().to_string();
    assert!(error.contains("--data: is missing"), "{error}");
    assert!(error.contains("Give --listen 0.0.0.0:11112, or a file"), "{error}");
    assert!(error.contains("Give --to archive=dicoms://AET@host:port"), "{error}");
}

#[test]
fn every_problem_is_told_at_once_with_its_line_in_the_order_of_the_file() {
    let error = read(
        r#"data = "/var/lib/waystation"
aet = "SEVENTEEN-LETTERS"
listn = ["0.0.0.0:11112"]
listen = ["11112"]
[modality.ct1]
aet = "CT1"
addresses = ["192.168.7.20/24"]
[to.archive]
url = "dicom://pacs:104"
[limits]
idle-timeout = "2 weeks"
"#,
    )
    .unwrap_err();
    let told: Vec<_> = error.list.iter().map(|finding| finding.to_string()).collect();
    for (told, (start, piece)) in told.iter().zip([
        ("2: aet:", "more than 16 characters"),
        ("3: listn:", "Did you mean listen?"),
        ("4: listen:", "\"0.0.0.0:11112\" for every IPv4 address"),
        ("7: modality.ct1.addresses:", "192.168.7.0/24 for the whole range"),
        ("9: to.archive.url:", "names no AE title"),
        ("11: limits.idle-timeout:", "from \"5s\" to \"1d\", or leave the key out for \"10m\""),
    ]) {
        assert!(told.starts_with(&format!("{FILE}:{start}")) && told.contains(piece), "{told}");
    }
    assert_eq!(told.len(), 6);
}

#[test]
fn an_unknown_key_is_refused_with_where_it_belongs() {
    assert!(refusal(&with("\n[limit]\nmax-pdu = \"64KiB\"")).contains("max-pdu belongs in [limits]"));
    assert!(refusal(&with("\n[limts]\nx = 1")).contains("Did you mean [limits]?"));
    assert!(refusal(&with("\n[limits]\nmax_pdu = \"64KiB\"")).contains("Did you mean max-pdu?"));
    assert!(refusal(&with("allow-any = true")).contains("at the top of the file, above the first [table]"));
    assert!(refusal(&with("\n[spool]\nfrobnication = 1")).contains("The keys here are compression-level,"));
    assert!(refusal(&with("\n[frobnication]\nx = 1")).contains("There is no such table"));
    for wrong in ["[to]", "[[to]]"] {
        assert!(refusal(&changed("[to.archive]", wrong)).contains("write [to.NAME] above it"));
    }
    assert!(refusal(&changed("listen =", "limits = 3\nlisten =")).contains("It is a table: write [limits]"));
    assert!(refusal(&changed("listen =", "xy = 3\nlisten =")).contains("The keys here are aet,"));
    let sneaky = refusal(&changed("[to.archive]", "[to.\"\\u001b[2J\"]"));
    assert!(!sneaky.contains('\u{1b}'), "{sneaky:?}");
}

#[test]
fn what_is_not_toml_is_told_with_every_broken_line_and_no_guesswork() {
    let error = read("data = /var/lib\naet = \"A\nlisten = [\"0.0.0.0:11112\"]\naet = \"B\"\n").unwrap_err();
    let lines: Vec<_> = error.list.iter().map(|finding| finding.to_string()).collect();
    assert!(lines.iter().any(|line| line.starts_with(&format!("{FILE}:1: not TOML"))), "{error}");
    assert!(lines.iter().any(|line| line.starts_with(&format!("{FILE}:2: not TOML"))), "{error}");
    assert!(!error.to_string().contains("is missing"), "{error}");
    let twice = refusal(&with("\n[to.archive]\nurl = \"file:///srv/two\""));
    assert!(twice.contains("may stand once"), "{twice}");
}

#[test]
fn a_listener_is_needed_unless_systemd_hands_one_over() {
    let text = changed("listen = [\"0.0.0.0:11112\"]\n", "");
    assert!(refusal(&text).contains("no modality could reach the gateway"));
    assert!(refusal(&changed("[\"0.0.0.0:11112\"]", "[]")).contains("no modality could reach the gateway"));
    let mut activated = here();
    activated.sockets.note("dicom").unwrap();
    assert!(Config::from_text(Path::new(FILE), &text, &Flags::default(), &activated).is_ok());
    activated.sockets.note("dicom-tls").unwrap();
    let error = Config::from_text(Path::new(FILE), &text, &Flags::default(), &activated).unwrap_err().to_string();
    assert!(error.contains("cert: is missing") && error.contains("ca: is missing"), "{error}");
    assert!(activated.sockets.note("unknown").unwrap_err().contains("FileDescriptorName=dicom or dicom-tls"));
    let twice = changed("[\"0.0.0.0:11112\"]", "[\"0.0.0.0:104\", \"0.0.0.0:104\"]");
    assert!(refusal(&twice).contains("is already in listen"));
    assert!(read(&changed("0.0.0.0:11112", "127.0.0.1:0")).is_ok(), "the system may choose the port");
}

#[test]
fn a_destination_is_needed_and_no_two_are_the_same() {
    assert!(refusal(&changed("[to.archive]\nurl = \"file:///srv/dicom\"\n", "")).contains("nothing would ever leave"));
    assert!(refusal(&changed("url = \"file:///srv/dicom\"", "")).contains("to.archive: has no url"));
    assert!(refusal(&with("\n[to.two]\nurl = \"file:///srv/dicom\"")).contains("same address as [to.archive]"));
    assert!(refusal(&changed("to.archive", "to.Archive")).contains("only lower-case letters"));
    let twice = Flags { to: vec!["a=file:///x".into(), "a=file:///y".into(), "b".into()], ..first_run() };
    let error = Config::load(None, &twice, &here()).unwrap_err().to_string();
    assert!(error.contains("--to a: is given twice") && error.contains("\"b\" is not NAME=URL"), "{error}");
}

#[test]
fn the_gateway_does_not_feed_itself() {
    assert!(refusal(&changed("/srv/dicom", "/var/lib/waystation/out")).contains("overlaps"));
    assert!(refusal(&changed("/srv/dicom", "/var/lib")).contains("overlaps"));
    for host in ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"] {
        let text = changed("file:///srv/dicom", &format!("dicom://A@{host}:11112"));
        assert!(refusal(&text).contains("send to itself"), "{host}");
    }
}

#[test]
fn plain_dicom_outwards_works_and_is_warned_of() {
    let config = read(&changed("file:///srv/dicom", "dicom://A@pacs:104")).unwrap();
    assert!(config.warnings[0].to_string().contains("is not encrypted"));
}

#[test]
fn tls_is_asked_for_whole() {
    let tls = |text: &str| changed("listen =", &format!("{text}\nlisten ="));
    assert!(refusal(&changed("file:///srv/dicom", "dicoms://A@pacs:2762")).contains("no ca is given"));
    assert!(
        refusal(&tls("listen-tls = [\"0.0.0.0:2762\"]")).contains("TLS for modalities needs a certificate and its key")
    );
    assert!(refusal(&tls("listen-tls = [\"0.0.0.0:2762\"]")).contains("certificates that nothing could check"));
    assert!(refusal(&tls("cert = \"/nowhere.crt\"")).contains("given without key"));
    assert!(refusal(&tls("key = \"/nowhere.key\"")).contains("given without cert"));
    assert!(refusal(&tls("ca = \"/nowhere.pem\"")).contains("/nowhere.pem cannot be read"));
    assert!(refusal(&tls("crl = \"/nowhere.pem\"")).contains("crl: is given without ca"));
    assert!(refusal(&tls("tls-client-certificates = \"maybe\"")).contains("\"optional\" or \"none\""));
}

/// A revocation list of this authority with nobody on it, from the first day of one year to that of another.
fn empty_list(authority: rcgen::CertificateParams, key: rcgen::KeyPair, years: (i32, i32)) -> String {
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(years.0, 1, 1),
        next_update: rcgen::date_time_ymd(years.1, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    list.signed_by(&rcgen::Issuer::new(authority, key)).unwrap().pem().unwrap()
}

#[test]
fn tls_files_are_opened_and_their_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 25);
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    let list = empty_list(params, key, (2026, 2027));
    std::fs::write(folder.path().join("all.pem"), pem + &list).unwrap();
    let text = changed("file:///srv/dicom", "dicoms://A@pacs:2762").replace(
        "listen =",
        "ca = \"all.pem\"\ncrl = \"all.pem\"\ncert = \"all.pem\"\nkey = \"all.pem\"\nlisten-tls =",
    );
    let file = folder.path().join("waystation.toml");
    let config = Config::from_text(&file, &text, &Flags::default(), &here()).unwrap();
    let files = config.tls.unwrap();
    assert_eq!(files.ca.unwrap(), folder.path().join("all.pem"), "relative to the file");
    assert_eq!(config.client_certificates, ClientCertificates::Required);
    let warnings: Vec<_> = config.warnings.iter().map(|warning| warning.what.as_str()).collect();
    assert!(warnings[0].contains("ends in 9 days"), "{warnings:?}");
    let late = warnings.iter().any(|warning| warning.contains("is out of date: the next one was due on 2027-01-01"));
    assert!(late, "{warnings:?}");
    for (now, piece) in [(1_760_000_000_000, "holds only from 2026-01-01"), (1_900_000_000_000, "ended on 2027-01-25")]
    {
        let then = Surroundings { now: Timestamp::from_millis(now), ..here() };
        let config = Config::from_text(&file, &text, &Flags::default(), &then).unwrap();
        assert!(config.warnings[0].what.contains(piece), "{:?}", config.warnings[0]);
    }
}

#[test]
fn values_out_of_bounds_and_of_the_wrong_type_are_refused() {
    for (line, piece) in [
        ("[limits]\nmax-associations = 0", "0 is out of range"),
        ("[limits]\nmax-associations = true", "is true or false"),
        ("[limits]\nmax-pdu = 131072", "\"131072\" is not a size"),
        ("[limits]\nmax-pdu = \"2MiB\"", "\"2MiB\" is out of range"),
        ("[spool]\ncompression-level = 20", "from 1 to 19"),
        ("[spool]\nsegment-size = \"64MB\"", "is not a size"),
        ("[spool]\nreserve = \"1GiB\"\nevict-below = \"512MiB\"", "from \"1GiB\""),
        ("[spool]\nconflicts = \"overwrite\"", "is not a policy"),
        ("[retry]\nfirst-delay = \"10m\"\nmax-delay = \"1m\"", "shorter than first-delay"),
        ("[drain]\ngrace = 20", "with its unit"),
        ("[drain]\ngrace = 1.5", "a number with a decimal point"),
        ("[delivery]\nconnect-timeout = []", "is a list"),
    ] {
        let error = refusal(&with(&format!("\n{line}")));
        assert!(error.contains(piece), "{line}: {error}");
    }
    assert!(refusal(&changed("aet = \"WAYSTATION\"", "aet = 7")).contains("aet: is a number"));
    assert!(refusal(&changed("[\"0.0.0.0:11112\"]", "[104]")).contains("listen: is a number"));
}

#[test]
fn forms_of_user_identity_are_named_and_none_is_another_thing_than_an_empty_list() {
    let forms =
        |line: &str| read(&changed("aet = \"WAYSTATION\"", &format!("aet = \"W\"\n{line}"))).unwrap().user_identity;
    assert_eq!(forms(""), None);
    assert_eq!(forms("user-identity = []"), Some(Vec::new()));
    let both = Some(vec![IdentityForm::Username, IdentityForm::UsernamePasscode]);
    assert_eq!(forms(r#"user-identity = ["username", "username-passcode"]"#), both);
    let error = refusal(&changed("listen =", "user-identity = [\"password\"]\nlisten ="));
    assert!(error.contains("is no form of user identity") && error.contains("\"kerberos\", \"saml\""), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/w.toml")), &Flags::default(), &here()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/w.toml:1: the file: cannot be read"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let latin1 = folder.path().join("w.toml");
    std::fs::write(&latin1, b"aet = \"\xc4\"").unwrap();
    let error = Config::load(Some(&latin1), &Flags::default(), &here()).unwrap_err().to_string();
    assert!(error.contains("is not UTF-8"), "{error}");
}

#[test]
fn the_socket_units_use_the_names_that_the_code_knows() {
    let plain = include_str!("../../../systemd/waystation.socket");
    let tls = include_str!("../../../systemd/waystation-tls.socket");
    assert!(plain.contains(&format!("FileDescriptorName={}\n", HandedOver::PLAIN)));
    assert!(tls.contains(&format!("FileDescriptorName={}\n", HandedOver::TLS)));
}

mod reference {
    //! `config/waystation.toml`: it works as it stands, and it tells of every key and its default.

    use super::*;

    const REFERENCE: &str = include_str!("../../../config/waystation.toml");

    /// The reference with every setting that is commented out switched on: lines that start with `#` and no space.
    fn switched_on(tls: &Path) -> String {
        let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with([' ', '#']) && !setting.is_empty() => setting,
            _ => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        // Named modalities and allow-any exclude each other.
        text.replace("allow-any = true", "allow-any = false").replace("/etc/waystation/tls", &tls.to_string_lossy())
    }

    #[test]
    fn it_is_accepted_as_it_stands() {
        Config::from_text(Path::new(FILE), REFERENCE, &Flags::default(), &here()).unwrap();
    }

    #[test]
    fn every_key_of_the_code_is_in_it_with_its_default() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["gateway".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let (pem, secret) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        let list = empty_list(params, key, (2025, 2090));
        let files = [("ca.pem", &pem), ("crl.pem", &list), ("gateway.crt", &pem), ("gateway.key", &secret)];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let text = switched_on(folder.path());
        let full = Config::from_text(Path::new(FILE), &text, &Flags::default(), &here()).unwrap();
        let minimal = read(MINIMAL).unwrap();
        assert_eq!(full.limits, minimal.limits);
        assert_eq!(full.spool, minimal.spool);
        assert_eq!(full.delivery, minimal.delivery);
        assert_eq!(full.retry, minimal.retry);
        assert_eq!(full.drain, minimal.drain);
        assert_eq!(full.client_certificates, minimal.client_certificates);

        let document = Document::read(Path::new(FILE), &text);
        let mut reader = reader::Reader::new(document, Path::new("/"));
        validate::validate(&mut reader, &here());
        assert_eq!(reader.document.asked_in_vain(), Vec::<String>::new(), "keys that the reference does not show");
    }
}

#[test]
fn a_destination_may_be_asked_after_the_delivery_if_it_can_answer() {
    let verify = |lines: &str| {
        let text = with(&format!("\n[to.far]\nurl = \"dicom://FAR@192.0.2.9:104\"\n{lines}\n"));
        read(&text).map(|config| config.destinations.last().unwrap().verify).map_err(|error| error.to_string())
    };
    let seconds = Duration::from_secs;
    assert_eq!(verify(""), Ok(None));
    assert_eq!(verify("verify = \"none\""), Ok(None));
    let commitment = Verification { by: VerifyBy::Commitment, after: seconds(30), patience: seconds(86_400) };
    assert_eq!(verify("verify = \"commitment\""), Ok(Some(commitment)));
    let query = Verification { by: VerifyBy::Query, after: seconds(10), patience: seconds(300) };
    assert_eq!(verify("verify = \"query\"\nverify-patience = \"5m\""), Ok(Some(query)));
    assert!(verify("verify = \"ask\"").unwrap_err().contains("\"ask\" is no way to verify a delivery"));
    assert!(verify("verify-after = \"5m\"").unwrap_err().contains("is given without verify"));
    assert!(verify("verify = \"query\"\nverify-after = \"0s\"").unwrap_err().contains("from \"1s\""));
    let over_http = |verify: &str| {
        let text = with(&format!("\n[to.web]\nurl = \"https://pacs.example/rs\"\nverify = \"{verify}\"\n"));
        refusal(&text)
    };
    let refused = over_http("commitment");
    assert!(refused.contains("no storage commitment") && refused.contains("Write \"query\""), "{refused}");
    assert!(!over_http("query").contains("verify"), "that there is no ca is all that is wrong with it");
    let folder = refusal(&with("\n[to.nas]\nurl = \"file:///srv/nas\"\nverify = \"query\"\n"));
    assert!(folder.contains("a folder cannot be asked") && folder.contains("\"none\""), "{folder}");
}
