//! The peers against each other, without the gateway: these prove the harness.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::dcmtk::{Outcome, Storescp, Target, all_succeed, dcmsend, echoscu, storescu};
use crate::support::orthanc::Orthanc;
use crate::support::part10::{DataSet, data_sets, read_meta};
use crate::support::pki::Pki;
use crate::support::pynetdicom::{self, Manners, ResendingScu, Scp, same_elements};
use crate::support::wire::Relay;
use crate::support::{Scratch, phantom, studies, until};

/// A phantom that DCMTK would have to change to be transferred would make every comparison below worthless.
#[test]
fn storescu_and_storescp_carry_a_phantom_byte_for_byte_with_tls_and_without() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let files = phantom::ct_series(&scratch.folder("series"), 5, 64);
    for (name, server, client) in
        [("plain", None, None), ("tls", Some(pki.identity("archive")), Some(pki.identity("modality")))]
    {
        let archive = Storescp::start(scratch.folder(name), server.as_ref());
        let target = archive.target(client.as_ref());
        echoscu(&target).unwrap();
        all_succeed(&storescu(&target, &files), &files);
        assert_eq!(data_sets(&archive.files()), data_sets(&files));
    }
}

/// The archive of the TLS tests is one only if it turns strangers away.
#[test]
fn a_tls_archive_refuses_who_has_no_certificate_of_its_authority() {
    let scratch = Scratch::new();
    let (pki, other) = (Pki::new(scratch.path(), "pki"), Pki::new(scratch.path(), "other"));
    let server = pki.identity("archive");
    let stranger = other.identity("modality").trusting(&pki);
    let storescp = Storescp::start(scratch.folder("storescp"), Some(&server));
    let scp = Scp::start(&scratch.folder("scp"), Some(&server));
    let orthanc = Orthanc::start(scratch.path(), Some(&server));
    let friend = pki.identity("modality");
    for target in [storescp.target(None), scp.target(None), orthanc.target(None)] {
        for client in [Some(&stranger), None] {
            let refused = Target { tls: client.cloned(), ..target.clone() };
            assert!(echoscu(&refused).is_err(), "port {}", target.port);
        }
        let admitted = Target { tls: Some(friend.clone()), ..target };
        echoscu(&admitted).unwrap();
    }
}

/// What is wrong with a server's certificate must be noticed by the peers that play modality, too.
#[test]
fn a_tls_modality_refuses_a_server_of_another_authority() {
    let scratch = Scratch::new();
    let (pki, other) = (Pki::new(scratch.path(), "pki"), Pki::new(scratch.path(), "other"));
    let scp = Scp::start(&scratch.folder("scp"), Some(&pki.identity("archive")));
    let target = scp.target(Some(&pki.identity("modality").trusting(&other)));
    assert!(echoscu(&target).is_err());
    assert!(pynetdicom::echo(&target).is_err());
    pynetdicom::echo(&scp.target(Some(&pki.identity("modality")))).unwrap();
}

/// Every file of every kind, so that what does not arrive through the gateway is the gateway's doing.
#[test]
fn pynetdicom_carries_every_valid_file_byte_for_byte() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let scp = Scp::start(&scratch.folder("scp"), Some(&pki.identity("archive")));
    let (valid, _): (Vec<_>, Vec<_>) = studies::all().iter().partition(|study| study.reason.is_none());
    let files: Vec<PathBuf> = valid.iter().map(|study| study.path.clone()).collect();
    all_succeed(&pynetdicom::send(&scp.target(Some(&pki.identity("modality"))), &files), &files);
    let arrived = scp.stored();
    for study in &valid {
        let same = |data_set: &&DataSet| Some(&data_set.sha256) == study.sha256.as_ref();
        let arrived = arrived.iter().find(same).unwrap_or_else(|| panic!("{} is not there", study.path.display()));
        assert_eq!(
            (&arrived.sop_class, &arrived.sop_instance, &arrived.transfer_syntax),
            (&study.sop_class, &study.sop_instance, &study.transfer_syntax)
        );
        // Two readers of the file meta group, this crate's and pydicom's, agree.
        let digest = DataSet::of_file(&study.path);
        assert_eq!(Some(&digest.sha256), study.sha256.as_ref());
    }
}

/// dcmsend's report is read rightly, good answers and bad ones.
#[test]
fn dcmsend_tells_of_each_file_what_became_of_it() {
    let scratch = Scratch::new();
    let files = studies::assortment();
    let archive = Storescp::start(scratch.folder("storescp"), None);
    all_succeed(&dcmsend(&archive.target(None), &files, scratch.path()), &files);

    let out_of_room = Manners { status: 0xa700, ..Manners::default() };
    let refuses = Scp::with_manners(&scratch.folder("scp"), None, &out_of_room);
    let outcomes = dcmsend(&refuses.target(None), &files[..2], scratch.path());
    for file in &files[..2] {
        let Outcome::Answered(answer) = &outcomes[file] else { panic!("{outcomes:?}") };
        assert!(answer.starts_with("0xa700"), "{answer}");
    }
    assert_eq!(pynetdicom::send(&refuses.target(None), &files[..1])[&files[0]], Outcome::Answered("0xa700".to_owned()));

    let nobody = Storescp::away(scratch.folder("nobody"), None);
    let outcomes = dcmsend(&nobody.target(None), &files[..1], scratch.path());
    assert!(matches!(&outcomes[&files[0]], Outcome::NotSent(_)), "{outcomes:?}");
    let outcomes = storescu(&nobody.target(None), &files[..1]);
    assert!(matches!(&outcomes[&files[0]], Outcome::NotSent(_)), "{outcomes:?}");
}

/// An archive that takes one transfer syntax only refuses the others, and so can be used to ask for a conversion.
#[test]
fn an_archive_can_be_told_which_transfer_syntaxes_to_take() {
    let scratch = Scratch::new();
    let files = phantom::ct_series(&scratch.folder("series"), 1, 16);
    let implicit = Manners { transfer_syntaxes: vec!["1.2.840.10008.1.2".to_owned()], ..Manners::default() };
    let scp = Scp::with_manners(&scratch.folder("scp"), None, &implicit);
    let outcomes = pynetdicom::send(&scp.target(None), &files);
    assert!(matches!(&outcomes[&files[0]], Outcome::NotSent(_)), "{outcomes:?}");
    all_succeed(&storescu(&scp.target(None), &files), &files);
    assert_eq!(scp.stored()[0].transfer_syntax, "1.2.840.10008.1.2");
}

/// Orthanc over TLS keeps every element of the instances that it takes, which are nearly all.
#[test]
fn orthanc_keeps_what_it_is_sent_element_by_element() {
    let scratch = Scratch::new();
    let pki = Pki::new(scratch.path(), "pki");
    let orthanc = Orthanc::start(scratch.path(), Some(&pki.identity("archive")));
    let offered = studies::assortment();
    let taken = taken_by(&orthanc.target(Some(&pki.identity("modality"))), &offered);
    println!("Orthanc takes {} of {} files", taken.len(), offered.len());
    assert!(taken.len() * 10 >= offered.len() * 9, "{taken:#?}");
    let fetched = orthanc.server.fetch_all(&scratch.folder("fetched"));
    same_elements(&paired_by_instance(&taken, &fetched)).unwrap();
}

/// A comparison that never fails proves nothing.
#[test]
fn the_comparison_by_elements_finds_a_changed_value() {
    let scratch = Scratch::new();
    let files = phantom::ct_series(&scratch.folder("series"), 2, 16);
    same_elements(&[(files[0].clone(), files[0].clone())]).unwrap();
    let found = same_elements(&[(files[0].clone(), files[1].clone())]).unwrap_err();
    for tag in ["(0008,0018)", "(0020,0013)", "(7FE0,0010)"] {
        assert!(found.contains(tag), "{found}");
    }
}

/// The modality of the kill test repeats what was not answered with 0000, and tells the truth about what was.
#[test]
fn a_resending_modality_gets_everything_through_to_an_archive_that_dies_now_and_then() {
    let scratch = Scratch::new();
    let mut archive = Storescp::start(scratch.folder("storescp"), None);
    let files = phantom::ct_series(&scratch.folder("series"), 200, 64);
    let patience = Duration::from_secs(60);
    let sender = ResendingScu::start(&archive.target(None), &files, Duration::from_millis(5), patience);
    for share in 1..4 {
        until("a part of the series", patience, || {
            let count = sender.acknowledged().len();
            if count >= files.len() * share / 5 { Ok(()) } else { Err(format!("{count} instances")) }
        });
        archive.go_away();
        archive.come_back();
    }
    let seen = sender.finish(patience);
    let acknowledged = seen.iter().filter(|sent| sent.status == Some(0)).count();
    assert_eq!(acknowledged, files.len());
    assert!(seen.len() > files.len(), "nothing had to be repeated");
    assert_eq!(data_sets(&archive.files()), data_sets(&files));
}

/// The relay changes nothing and counts what passes.
#[test]
fn a_relay_counts_what_passes() {
    let scratch = Scratch::new();
    let archive = Storescp::start(scratch.folder("storescp"), None);
    let relay = Relay::to(archive.port);
    let files = phantom::ct_series(&scratch.folder("series"), 1, 256);
    let mut target = archive.target(None);
    target.port = relay.port;
    all_succeed(&storescu(&target, &files), &files);
    assert_eq!(relay.connections(), 1);
    assert!(relay.sent() > std::fs::metadata(&files[0]).unwrap().len());
}

/// The files that an archive answers with 0000 when they are sent to it directly.
pub(crate) fn taken_by(archive: &Target, files: &[PathBuf]) -> Vec<PathBuf> {
    let outcomes = pynetdicom::send(archive, files);
    files.iter().filter(|path| outcomes[*path] == Outcome::Success).cloned().collect()
}

/// Each file with the one of the same instance in the other list.
pub(crate) fn paired_by_instance(files: &[PathBuf], others: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let instance = |path: &PathBuf| DataSet::of_file(path).sop_instance;
    let named: std::collections::HashMap<_, _> = others.iter().map(|path| (instance(path), path.clone())).collect();
    let partner = |path: &PathBuf| {
        let meta = read_meta(path).unwrap();
        let found = named.get(&meta.sop_instance);
        (path.clone(), found.unwrap_or_else(|| panic!("{} is not there", path.display())).clone())
    };
    files.iter().map(partner).collect()
}
