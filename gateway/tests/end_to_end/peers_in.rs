//! Every peer as modality, with TLS and without; a folder as destination.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::dcmjs;
use crate::support::dcmtk::{Outcome, Storescp, Target, all_succeed, dcmsend, echoscu, storescu};
use crate::support::gateway::{Gateway, Setup};
use crate::support::part10::{DataSet, data_sets, read_meta};
use crate::support::pki::{Identity, Pki};
use crate::support::pynetdicom::{self, Manners, Scp};
use crate::support::{Scratch, files_below, phantom, studies};

const TRANSFER: Duration = Duration::from_secs(120);

/// A gateway that listens with TLS and without and writes to a folder, with the certificate of a modality.
struct ToFolder {
    scratch: Scratch,
    gateway: Gateway,
    folder: PathBuf,
    modality: Identity,
}

impl ToFolder {
    fn new() -> Self {
        let scratch = Scratch::new();
        let pki = Pki::new(scratch.path(), "pki");
        let folder = scratch.folder("nas");
        let setup = Setup::new(scratch.folder("data")).with_folder("nas", &folder).tls(&pki.identity("gateway"));
        Self { gateway: setup.start(), modality: pki.identity("modality"), folder, scratch }
    }

    fn target(&self, with_tls: bool) -> Target {
        if with_tls { self.gateway.tls_target(&self.modality) } else { self.gateway.target() }
    }

    /// What is in the folder when everything has been delivered.
    fn arrived(&mut self) -> Vec<DataSet> {
        let counters = self.gateway.drained("nas", TRANSFER);
        assert_eq!(counters.parked, 0, "{}", self.gateway.status_text());
        data_sets(&files_below(&self.folder))
    }
}

/// Files in an uncompressed transfer syntax: the only ones that storescu proposes of itself.
fn uncompressed(files: Vec<PathBuf>) -> Vec<PathBuf> {
    const UNCOMPRESSED: [&str; 3] = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"];
    let is = |path: &PathBuf| UNCOMPRESSED.contains(&read_meta(path).unwrap().transfer_syntax.as_str());
    files.into_iter().filter(is).collect()
}

/// What storescu makes of the files when nothing is between it and an archive that keeps bytes. It offers several
/// transfer syntaxes for each file and the other side chooses, so the archive chooses as the gateway did.
fn as_storescu_sends_it(scratch: &Scratch, files: &[PathBuf], arrived: &[DataSet]) -> Vec<DataSet> {
    let chosen: BTreeSet<&String> = arrived.iter().map(|data_set| &data_set.transfer_syntax).collect();
    let mut direct = Vec::new();
    for transfer_syntax in chosen {
        let so_chosen = |path: &&PathBuf| {
            let instance = DataSet::of_file(path).sop_instance;
            arrived.iter().any(|sent| sent.sop_instance == instance && sent.transfer_syntax == *transfer_syntax)
        };
        let files: Vec<PathBuf> = files.iter().filter(so_chosen).cloned().collect();
        let manners = Manners { transfer_syntaxes: vec![transfer_syntax.clone()], ..Manners::default() };
        let archive = Scp::with_manners(&scratch.folder(transfer_syntax), None, &manners);
        all_succeed(&storescu(&archive.target(None), &files), &files);
        direct.extend(archive.stored());
    }
    direct.sort();
    direct
}

/// The first thing that an engineer tries.
#[test]
pub(crate) fn c_echo_is_answered_with_tls_and_without() {
    let gateway = ToFolder::new();
    for with_tls in [false, true] {
        echoscu(&gateway.target(with_tls)).unwrap();
        pynetdicom::echo(&gateway.target(with_tls)).unwrap();
        dcmjs::echo_with(&gateway.target(with_tls), &[]).unwrap();
    }
}

/// Nobody comes in through the TLS port who has no certificate of our authority.
#[test]
fn a_modality_with_a_certificate_of_another_authority_is_refused() {
    let gateway = ToFolder::new();
    let own = Pki::new(gateway.scratch.path(), "own");
    let other = Pki::new(gateway.scratch.path(), "other");
    let stranger = Identity { ca: gateway.modality.ca.clone(), ..other.identity("modality") };
    assert!(echoscu(&gateway.gateway.tls_target(&stranger)).is_err());
    assert!(pynetdicom::echo(&gateway.gateway.tls_target(&stranger)).is_err());
    assert!(echoscu(&gateway.gateway.tls_target(&gateway.modality.trusting(&own))).is_err());
    echoscu(&gateway.target(true)).unwrap();
}

/// DCMTK's classic sender: the commonest implementation in the field.
#[test]
pub(crate) fn what_storescu_sends_arrives_identical() {
    for with_tls in [false, true] {
        let mut gateway = ToFolder::new();
        let files = uncompressed(studies::assortment());
        all_succeed(&storescu(&gateway.target(with_tls), &files), &files);
        let arrived = gateway.arrived();
        assert_eq!(arrived.len(), files.len());
        assert_eq!(arrived, as_storescu_sends_it(&gateway.scratch, &files, &arrived), "with TLS: {with_tls}");
    }
}

/// DCMTK's other sender: every file in its own transfer syntax, many presentation contexts in one association.
#[test]
pub(crate) fn what_dcmsend_sends_arrives_identical() {
    let mut gateway = ToFolder::new();
    let files = studies::assortment();
    let direct = Storescp::start(gateway.scratch.folder("direct"), None);
    all_succeed(&dcmsend(&direct.target(None), &files, gateway.scratch.path()), &files);
    all_succeed(&dcmsend(&gateway.target(false), &files, gateway.scratch.path()), &files);
    assert_eq!(gateway.arrived(), data_sets(&direct.files()));
}

/// The bytes of the files themselves, as no other sender leaves them.
#[test]
pub(crate) fn what_pynetdicom_sends_arrives_identical() {
    for with_tls in [false, true] {
        let mut gateway = ToFolder::new();
        let files = studies::assortment();
        all_succeed(&pynetdicom::send(&gateway.target(with_tls), &files), &files);
        let arrived = gateway.arrived();
        for file in &files {
            let digest = DataSet::of_file(file).sha256;
            let found = arrived.iter().any(|data_set| data_set.sha256 == digest);
            assert!(found, "{} is not there, with TLS: {with_tls}", file.display());
        }
        assert_eq!(arrived.len(), files.len());
    }
}

/// The files that dcmjs-dimse can be given (`support::dcmjs` says why not the others).
fn for_dcmjs(files: Vec<PathBuf>) -> Vec<PathBuf> {
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
    const RLE: &str = "1.2.840.10008.1.2.5";
    const RT_DOSE: &str = "1.2.840.10008.5.1.4.1.1.481.2";
    let can = |path: &PathBuf| {
        let meta = read_meta(path).unwrap();
        meta.transfer_syntax != DEFLATED && (meta.transfer_syntax.as_str(), meta.sop_class.as_str()) != (RLE, RT_DOSE)
    };
    files.into_iter().filter(can).collect()
}

/// The library of many web viewers. It offers uncompressed transfer syntaxes beside that of the file, so the archive that
/// it sends to directly takes only what the gateway has chosen.
#[test]
pub(crate) fn what_dcmjs_sends_arrives_identical() {
    for with_tls in [false, true] {
        let mut gateway = ToFolder::new();
        let files = for_dcmjs(studies::assortment());
        let outcomes = dcmjs::send_with(&gateway.target(with_tls), &files, &[]);
        let (sent, refused): (Vec<_>, Vec<_>) =
            files.iter().cloned().partition(|path| outcomes[path] == Outcome::Success);
        let by_the_sender = |path: &PathBuf| outcomes[path].to_string().contains("the sender refuses");
        assert!(refused.iter().all(by_the_sender) && sent.len() > refused.len(), "{outcomes:#?}");
        let arrived = gateway.arrived();
        let chosen: BTreeSet<_> = arrived.iter().map(|data_set| data_set.transfer_syntax.clone()).collect();
        let manners = Manners { transfer_syntaxes: chosen.into_iter().collect(), ..Manners::default() };
        let direct = Scp::with_manners(&gateway.scratch.folder("direct"), None, &manners);
        all_succeed(&dcmjs::send_with(&direct.target(None), &sent, &[]), &sent);
        assert_eq!(arrived, direct.stored(), "with TLS: {with_tls}");
    }
}

/// A modality sends a study again when it is not sure; that is harmless.
#[test]
fn sending_the_same_again_adds_nothing() {
    let mut gateway = ToFolder::new();
    let files = phantom::ct_series(&gateway.scratch.folder("series"), 10, 64);
    for _ in 0..3 {
        all_succeed(&storescu(&gateway.target(false), &files), &files);
        assert_eq!(gateway.arrived(), data_sets(&files));
    }
}

/// The command names one instance and the data set another: whose answer would a Success be?
#[test]
fn a_command_that_names_another_instance_than_the_data_set_is_refused() {
    let mut gateway = ToFolder::new();
    let folder = gateway.scratch.folder("series");
    let files = phantom::ct_series(&folder, 1, 16);
    let content = std::fs::read(&files[0]).unwrap();
    let uid = DataSet::of_file(&files[0]).sop_instance;
    let other = format!("{}9", &uid[..uid.len() - 1]);
    let at = content.windows(uid.len()).position(|bytes| bytes == uid.as_bytes()).unwrap();
    let mut changed = content.clone();
    changed[at..at + other.len()].copy_from_slice(other.as_bytes());
    let lying = folder.join("lying.dcm");
    std::fs::write(&lying, changed).unwrap();
    let outcomes = pynetdicom::send_with(&gateway.target(false), std::slice::from_ref(&lying), &["--trust-meta"]);
    assert_eq!(outcomes[&lying].to_string(), "0xa900");
    all_succeed(&pynetdicom::send(&gateway.target(false), &files), &files);
    assert_eq!(gateway.arrived(), data_sets(&files));
}
