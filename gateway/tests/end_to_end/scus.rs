//! The table of `docs/peers.md`: each SCU of the field, in the clear and over TLS, and what has been watched passing with it.
//!
//! Echo, studies and commitment have tests elsewhere, to which the table points. Wide requests and unusual PDUs are sent from
//! here. What an SCU cannot do itself stands in the table with the reason.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{commitment, peers_in};
use crate::support::committing::Report;
use crate::support::dcmtk::{Outcomes, Target, all_succeed, dcmsend_with, echoscu_with, storescu_with};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::data_sets;
use crate::support::pki::{Identity, Pki};
use crate::support::ports::free_port;
use crate::support::wire::Relay;
use crate::support::{PATIENCE, Scratch, dcmjs, files_below, phantom, pynetdicom, repository};

/// What is shown by a test, or why the SCU cannot do it.
type Can<T> = Result<T, &'static str>;

/// One SCU. Where it has TLS, everything holds with it and without.
struct Scu {
    name: &'static str,
    version: &'static str,
    tls: Can<()>,
    /// The test that shows it, as in the next three.
    echo: Can<fn()>,
    study: Can<fn()>,
    commitment_on_its_association: Can<fn()>,
    commitment_on_a_new_one: Can<fn()>,
    /// The most presentation contexts and transfer syntaxes in each that it can be brought to propose.
    contexts: (u32, u32),
    /// How it is brought to it: what it sends, with which options.
    widely: fn(&Way) -> (Vec<PathBuf>, Vec<String>),
    /// The maximum lengths that it announces: what it takes.
    announces: &'static [u32],
    /// The maximum lengths that it restricts itself to in sending.
    sends: Can<&'static [u32]>,
    /// The options for these two.
    length_options: [&'static str; 2],
    run: Run,
}

/// How it is run with more options.
enum Run {
    Echo(fn(&Target, &[&str]) -> Result<(), String>),
    Store(fn(&Target, &[PathBuf], &[&str], &Path) -> Outcomes),
}

const NO_COMMITMENT: Can<fn()> = Err("not in DCMTK");
const ECHO_ONLY: &str = "echo only";
const DCMTK: &str = "3.6.7";

const ECHOSCU: Scu = Scu {
    name: "DCMTK echoscu",
    version: DCMTK,
    tls: Ok(()),
    echo: Ok(peers_in::c_echo_is_answered_with_tls_and_without),
    study: Err(ECHO_ONLY),
    commitment_on_its_association: NO_COMMITMENT,
    commitment_on_a_new_one: NO_COMMITMENT,
    contexts: (128, 38),
    widely: |_| (Vec::new(), words("-ppc 128 -pts 38")),
    announces: &[4096, 4097, 16_383, 131_072],
    sends: Err(ECHO_ONLY),
    length_options: ["--max-pdu", ""],
    run: Run::Echo(echoscu_with),
};

const STORESCU: Scu = Scu {
    name: "DCMTK storescu",
    echo: Err("C-STORE only"),
    study: Ok(peers_in::what_storescu_sends_arrives_identical),
    contexts: (128, 30),
    widely: |way| (way.images(1, 16), profile(way)),
    sends: Ok(&[4096, 4098, 16_384, 131_072]),
    length_options: ["--max-pdu", "--max-send-pdu"],
    run: Run::Store(|target, files, options, _| storescu_with(target, files, options)),
    ..ECHOSCU
};

const DCMSEND: Scu = Scu {
    name: "DCMTK dcmsend",
    tls: Err("no TLS in this version"),
    study: Ok(peers_in::what_dcmsend_sends_arrives_identical),
    contexts: (128, 3),
    // It proposes what its files need.
    widely: |way| (phantom::of_different_classes(&way.scratch.folder("classes"), 128), Vec::new()),
    run: Run::Store(dcmsend_with),
    ..STORESCU
};

const PYNETDICOM: Scu = Scu {
    name: "pynetdicom",
    version: "3.0.4",
    tls: Ok(()),
    echo: Ok(peers_in::c_echo_is_answered_with_tls_and_without),
    study: Ok(peers_in::what_pynetdicom_sends_arrives_identical),
    commitment_on_its_association: Ok(commitment::a_report_comes_on_the_association_on_which_it_was_asked_for),
    commitment_on_a_new_one: Ok(commitment::a_report_comes_on_an_association_of_its_own_with_the_roles_negotiated),
    contexts: (128, 45),
    widely: |way| (way.images(1, 16), words("--wide --user operator")),
    announces: &[0, 8, 9, 4097, 16_383, 131_072, u32::MAX],
    sends: Ok(&[8, 4097, 16_383, 1 << 20]),
    length_options: ["--max-pdu", "--send-pdu"],
    run: Run::Store(|target, files, options, _| pynetdicom::send_with(target, files, options)),
};

const DCMJS: Scu = Scu {
    name: "dcmjs-dimse",
    version: "0.3.3",
    study: Ok(peers_in::what_dcmjs_sends_arrives_identical),
    commitment_on_its_association: Ok(dcmjs_is_told_on_its_association),
    commitment_on_a_new_one: Ok(dcmjs_is_told_on_a_new_association),
    contexts: (128, 17),
    widely: |way| (way.images(1, 16), words("--wide --user operator --async-operations 5")),
    announces: &[8, 9, 4097, 16_383, 131_072, u32::MAX],
    run: Run::Store(|target, files, options, _| dcmjs::send_with(target, files, options)),
    ..PYNETDICOM
};

const SCUS: [Scu; 5] = [ECHOSCU, STORESCU, DCMSEND, PYNETDICOM, DCMJS];

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// The configuration file with which storescu proposes as much as it can.
fn profile(way: &Way) -> Vec<String> {
    const JPEG_AND_ITS_KIN: [u32; 25] = [
        50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 100, 101, 102, 103, 104, 105, 106, 107, 108, 110, 111, 112, 201, 202,
        203,
    ];
    let transfer_syntaxes = ["1", "", "2", "1.99", "5"].map(str::to_owned);
    let transfer_syntaxes = transfer_syntaxes.into_iter().chain(JPEG_AND_ITS_KIN.map(|number| format!("4.{number}")));
    let mut text = String::from("[[TransferSyntaxes]]\n[All]\n");
    for (number, uid) in (1..).zip(transfer_syntaxes) {
        writeln!(text, "TransferSyntax{number} = 1.2.840.10008.1.2{}{uid}", if uid.is_empty() { "" } else { "." })
            .unwrap();
    }
    text.push_str("[[PresentationContexts]]\n[Wide]\nPresentationContext1 = CTImageStorage\\All\n");
    for number in 2..=STORESCU.contexts.0 {
        writeln!(text, "PresentationContext{number} = 1.2.826.0.1.3680043.10.1542.6.{number}\\All").unwrap();
    }
    text.push_str("[[Profiles]]\n[Wide]\nPresentationContexts = Wide\n");
    let file = way.scratch.path().join("storescu.cfg");
    std::fs::write(&file, text).unwrap();
    words(&format!("-xf {} Wide -usr operator -rsp", file.display()))
}

/// A gateway with two doors, which answers for users, and a folder behind it.
struct Way {
    scratch: Scratch,
    gateway: Gateway,
    folder: PathBuf,
    modality: Identity,
}

impl Way {
    /// With these settings.
    fn open(settings: &str) -> Self {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let folder = scratch.folder("nas");
        let setup = Setup::new(scratch.folder("data")).with_folder("nas", &folder).tls(&pki.identity("gateway"));
        let gateway = setup.configured(&scratch.path().join("way.toml"), settings).start();
        Self { gateway, folder, modality: pki.identity("modality"), scratch }
    }

    fn targets(&self, scu: &Scu) -> Vec<Target> {
        let tls = scu.tls.map(|()| self.gateway.tls_target(&self.modality));
        [Some(self.gateway.target()), tls.ok()].into_iter().flatten().collect()
    }

    /// Images of a kind that every SCU here sends as they are.
    fn images(&self, count: u32, side: u16) -> Vec<PathBuf> {
        let name = format!("images-{}", fastrand::u64(..));
        phantom::ct_series(&self.scratch.folder(&name), count, side)
    }

    /// Lets the SCU do what it is for, with these options.
    fn run(&self, scu: &Scu, target: &Target, files: &[PathBuf], options: &[&str]) {
        match scu.run {
            Run::Echo(echo) => echo(target, options).unwrap_or_else(|error| panic!("{options:?}: {error}")),
            Run::Store(store) => all_succeed(&store(target, files, options, self.scratch.path()), files),
        }
    }

    /// All that has been sent is in the folder, byte for byte, and nothing else.
    fn has(&mut self, scu: &Scu, sent: &[PathBuf]) {
        // echoscu has no use for the images.
        let sent = if matches!(scu.run, Run::Echo(_)) { &[] } else { sent };
        let count = u64::try_from(sent.len()).unwrap();
        self.gateway.counters_such_that("nas", PATIENCE, |counters| counters.delivered == count);
        assert!(
            data_sets(&files_below(&self.folder)) == data_sets(sent),
            "the folder holds something else than was sent"
        );
    }
}

/// The most presentation contexts that PS3.8 allows, with as many transfer syntaxes as the SCU proposes.
fn passes_widely(scu: &Scu) {
    let mut way = Way::open("user-identity = [\"username\"]\n");
    let mut sent = Vec::new();
    for target in way.targets(scu) {
        let (files, options) = (scu.widely)(&way);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let from = way.gateway.all_lines().len();
        way.run(scu, &target, &files, &options);
        way.gateway.says(from, &format!("calling=MODALITY contexts={}", scu.contexts.0));
        sent.extend(files);
    }
    way.has(scu, &sent);
}

/// Whatever maximum length it announces, and whatever length the fragments have that it sends.
fn passes_at_any_length(scu: &Scu) {
    let mut way = Way::open("[limits]\nmax-pdu = \"1MiB\"\n");
    let mut sent = Vec::new();
    let [announcing, sending] = scu.length_options;
    for target in way.targets(scu) {
        for length in scu.announces {
            let files = way.images(1, 64);
            way.run(scu, &target, &files, &[announcing, &length.to_string()]);
            sent.extend(files);
        }
        for length in scu.sends.unwrap_or_default() {
            let files = way.images(1, side_beyond(*length));
            // What goes over TLS cannot be looked at.
            let relay = target.tls.is_none().then(|| Relay::to(target.port));
            let port = relay.as_ref().map_or(target.port, |relay| relay.port);
            way.run(scu, &Target { port, ..target.clone() }, &files, &[sending, &length.to_string()]);
            if let Some(longest) = relay.map(|relay| relay.longest()) {
                // DCMTK takes the head of the PDU for a part of its length.
                let expected = u64::from(length - 6)..=u64::from(*length);
                assert!(expected.contains(&longest), "{longest} bytes instead of {length}");
            }
            sent.extend(files);
        }
    }
    way.has(scu, &sent);
}

/// Whatever maximum length we announce: some fill an odd one to the byte, with odd fragments.
fn passes_where_we_are_set_to_an_odd_length(scu: &Scu) {
    let mut way = Way::open("[limits]\nmax-pdu = \"4097B\"\n");
    let mut sent = Vec::new();
    for target in way.targets(scu) {
        let files = way.images(2, 128);
        way.run(scu, &target, &files, &[]);
        sent.extend(files);
    }
    way.has(scu, &sent);
}

/// The side of an image that takes several PDUs of this length, but not too many.
fn side_beyond(length: u32) -> u16 {
    match length {
        ..1024 => 16,
        1024..0x4_0000 => 300,
        _ => 1024,
    }
}

macro_rules! passes {
    ($($name:ident: $scu:ident),*) => {
        $(mod $name {
            #[test]
            fn with_wide_requests() {
                super::passes_widely(&super::$scu);
            }

            #[test]
            fn with_pdus_of_any_length() {
                super::passes_at_any_length(&super::$scu);
            }

            #[test]
            fn where_we_are_set_to_an_odd_length() {
                super::passes_where_we_are_set_to_an_odd_length(&super::$scu);
            }
        })*
    };
}

passes!(echoscu: ECHOSCU, storescu: STORESCU, dcmsend: DCMSEND, pynetdicom_passes: PYNETDICOM, dcmjs_passes: DCMJS);

const TRANSACTION: &str = "1.2.826.0.1.3680043.10.1542.78";

/// Sends a few images, asks for their commitment, and looks at the report.
fn dcmjs_is_told(way: &Way, target: &Target, number: u32, options: &[&str]) -> Report {
    let files = way.images(5, 16);
    let transaction = format!("{TRANSACTION}.{number}");
    let (outcomes, report) = dcmjs::commit(target, &files, &transaction, options);
    all_succeed(&outcomes, &files);
    let mut sent: Vec<_> = data_sets(&files).into_iter().map(|sent| (sent.sop_class, sent.sop_instance)).collect();
    sent.sort();
    let mut committed = report.committed.clone();
    committed.sort();
    assert_eq!((report.event_type, committed, report.transaction.as_str()), (1, sent, transaction.as_str()));
    report
}

/// Once in fragments of the least length that there is.
#[test]
fn dcmjs_is_told_on_its_association() {
    let way = Way::open("");
    for (number, target) in (1..).zip(way.targets(&DCMJS)) {
        for (number, options) in (number * 10..).zip([&[][..], &["--max-pdu", "8"]]) {
            assert!(dcmjs_is_told(&way, &target, number, options).on_own_association);
        }
    }
}

#[test]
fn dcmjs_is_told_on_a_new_association() {
    for with_tls in [false, true] {
        let port = free_port();
        let scheme = if with_tls { "dicoms" } else { "dicom" };
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let settings = format!(
            "[modality.ct]\naet = \"MODALITY\"\naddresses = [\"127.0.0.1\"]\n\
             commitment-to = \"{scheme}://MODALITY@127.0.0.1:{port}\"\n"
        );
        let folder = scratch.folder("nas");
        let setup = Setup::new(scratch.folder("data")).with_folder("nas", &folder).tls(&pki.identity("gateway"));
        let gateway = setup.with_modalities(&settings).start();
        let way = Way { gateway, folder, modality: pki.identity("modality"), scratch };
        let target = if with_tls { way.gateway.tls_target(&way.modality) } else { way.gateway.target() };
        let port = port.to_string();
        let options: &[&str] = if with_tls { &["--listen", &port, "--listen-tls"] } else { &["--listen", &port] };
        assert!(!dcmjs_is_told(&way, &target, 1, options).on_own_association, "with TLS: {with_tls}");
    }
}

fn table() -> String {
    let numbers = |lengths: &[u32]| {
        let written: Vec<String> = lengths.iter().map(|length| thousands(*length)).collect();
        written.join("; ")
    };
    let cell = |can: &Can<fn()>| can.map_or_else(|why| format!("– ({why})"), |_| "passes".to_owned());
    let mut out = String::from(
        "| SCU | version | in the clear, TLS | C-ECHO | a study by C-STORE | commitment on its association | commitment on a \
         new one | contexts × transfer syntaxes | longest PDU that it announces | longest PDU that it sends |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for scu in &SCUS {
        let tls = scu.tls.map_or_else(|why| format!("in the clear ({why})"), |()| "both".to_owned());
        let sends = scu.sends.map_or_else(|why| format!("– ({why})"), numbers);
        writeln!(
            out,
            "| {} | {} | {tls} | {} | {} | {} | {} | {} × {} | {} | {sends} |",
            scu.name,
            scu.version,
            cell(&scu.echo),
            cell(&scu.study),
            cell(&scu.commitment_on_its_association),
            cell(&scu.commitment_on_a_new_one),
            scu.contexts.0,
            scu.contexts.1,
            numbers(scu.announces),
        )
        .unwrap();
    }
    out
}

fn thousands(number: u32) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// The page says what these tests show, of the versions that are pinned.
#[test]
fn the_table_of_the_documentation_is_this_one() {
    let of = |path: &str| std::fs::read_to_string(repository().join(path)).unwrap();
    std::fs::write(repository().join("target/peers.md"), table()).unwrap();
    assert!(of("docs/peers.md").contains(&table()), "docs/peers.md has another table than target/peers.md");
    assert!(of("scripts/test-peers.txt").contains(&format!("pynetdicom=={} ", PYNETDICOM.version)));
    assert!(of("gateway/tests/peers/dcmjs/package.json").contains(&format!("\"dcmjs-dimse\": \"{}\"", DCMJS.version)));
}
