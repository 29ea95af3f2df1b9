//! Whose report counts. What it means for an instance is in `doubts`; the whole way is in `forward::verify::tests`.

use rustls::pki_types::CertificateDer;

use super::*;
use crate::dimse::commitment::Reference;
use crate::spool::SpoolOptions;

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

fn reference(instance: &str) -> Reference {
    Reference { class: uid("1.2.840.10008.5.1.4.1.1.2"), instance: uid(instance) }
}

fn report(transaction: &str, instances: &[&str]) -> Information {
    let references = instances.iter().map(|instance| reference(instance)).collect();
    Information { transaction: uid(transaction), references, failed: Vec::new() }
}

/// Two archives with one title: one in the clear, one over TLS.
fn archives(folder: &tempfile::TempDir) -> (Spool, Vec<Arc<Inquiry>>) {
    let options = SpoolOptions { segment_size: 4 << 20, reserve: 0, ..SpoolOptions::default() };
    let (spool, _) = Spool::open(folder.path(), options, |reason| panic!("{reason}")).unwrap();
    let inquiry = |name: &str, host: &str, over_tls| {
        let peer = DicomPeer { aet: "PACS".parse().unwrap(), host: host.into(), port: 104 };
        let (after, metrics) = (Duration::from_secs(30), Metrics::new());
        Inquiry::new(name.parse().unwrap(), (peer, over_tls), after, spool.clone(), metrics)
    };
    let all = vec![inquiry("near", "192.0.2.1", false), inquiry("far", "archive.example", true)];
    (spool, all)
}

/// The certificate of a host.
fn shown(host: &str) -> tls::Peer {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    tls::Peer { version: "TLS 1.3", cipher: "", subject: None, chain }
}

fn from<'a>(address: &str, secured: Option<&'a tls::Peer>) -> Origin<'a> {
    Origin::Caller { address: address.parse().unwrap(), secured }
}

#[test]
fn an_unknown_transaction_is_believed_from_where_the_archive_is() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, all) = archives(&folder);
    let (near, far) = (&all[0], &all[1]);
    assert!(!near.is_there(from("192.0.2.1", None)), "it has not been reached yet");
    near.reached("::ffff:192.0.2.1".parse().unwrap());
    far.reached("192.0.2.2".parse().unwrap());
    assert!(near.is_there(from("192.0.2.1", None)) && !near.is_there(from("192.0.2.3", None)));
    let (archive, modality) = (shown("archive.example"), shown("ct1.example"));
    assert!(!far.is_there(from("192.0.2.2", None)), "it would come over TLS");
    assert!(far.is_there(from("192.0.2.2", Some(&modality))), "from its address, with a certificate of ours");
    assert!(far.is_there(from("192.0.2.9", Some(&archive))), "with its own certificate, from anywhere");
    assert!(!far.is_there(from("192.0.2.9", Some(&modality))), "a modality is no archive");
    let nobody = tls::Peer { chain: Vec::new(), ..archive };
    assert!(!far.is_there(from("192.0.2.2", Some(&nobody))), "without a certificate");
    spool.close();
}

#[test]
fn a_transaction_speaks_for_its_instances_and_for_the_destination_that_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, all) = archives(&folder);
    let asked = uid("2.25.7");
    all[1].asks(&asked, [(&uid("1.2.1"), 1), (&uid("1.2.2"), 3)]);
    let anywhere = from("192.0.2.66", None);
    let verdicts = all[1].judge(&report("2.25.7", &["1.2.2", "1.2.3"]), anywhere).unwrap();
    assert_eq!(verdicts.len(), 1);
    assert_eq!((&verdicts[0].instance, verdicts[0].attempt), (&uid("1.2.2"), Some(3)));
    assert!(all[1].has_heard_of(&asked, &uid("1.2.2")) && !all[1].has_heard_of(&asked, &uid("1.2.1")));
    assert!(all[1].has_heard(&asked));
    assert!(all[1].judge(&report("2.25.8", &["1.2.2"]), anywhere).is_none());
    assert!(hear(&all, &report("2.25.7", &["1.2.1"]), anywhere).is_ok());
    assert!(matches!(hear(&all, &report("2.25.8", &["1.2.1"]), anywhere), Err(NotHeard::Unasked)));
    // Both are there, and nobody knows whose word it is.
    all.iter().for_each(|inquiry| inquiry.reached("192.0.2.1".parse().unwrap()));
    let certificate = shown("archive.example");
    let there = from("192.0.2.1", Some(&certificate));
    assert!(matches!(hear(&all, &report("2.25.8", &["1.2.1"]), there), Err(NotHeard::Unasked)));
    all[1].refused(&asked);
    assert!(!all[1].knows(&asked));
    spool.close();
}

#[test]
fn the_oldest_transaction_is_forgotten_when_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, all) = archives(&folder);
    for number in 0..=MOST_ASKED {
        all[0].asks(&uid(&format!("2.25.{number}")), [(&uid("1.2.1"), 1)]);
    }
    assert!(!all[0].knows(&uid("2.25.0")) && all[0].knows(&uid("2.25.1")));
    assert_eq!(all[0].lock().asked.len(), MOST_ASKED);
    spool.close();
}
