//! Files that change under a running gateway.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;

/// A gateway's files, in places that stay, and an authority to fill them.
struct Running {
    ours: Authority,
    files: TlsFiles,
    live: Live,
}

impl Running {
    fn new() -> Self {
        let ours = Authority::new("ours");
        let files = TlsFiles {
            ca: Some(ours.ca()),
            crl: Some(ours.path("crl.pem")),
            identity: Some(IdentityFiles { cert: ours.path("gateway.crt"), key: ours.path("gateway.key") }),
        };
        std::fs::write(ours.path("crl.pem"), ours.list(&[], (2025, 2090))).unwrap();
        put(&ours.issue("first", NOW), &files);
        let purpose = Purpose { inwards: Some(ClientCertificates::Required), outwards: true };
        let live = Live::load(files.clone(), purpose).unwrap();
        Self { ours, files, live }
    }

    /// The names in the certificate that the gateway shows to a modality which trusts its authority.
    async fn shows(&self, host: &str) -> bool {
        let server = self.live.inwards().unwrap().get();
        let client = client_config(&files(&self.ours, Some(self.ours.issue("ct1", NOW)))).unwrap();
        connect(server, client, host).await.server.is_ok()
    }
}

fn put(identity: &IdentityFiles, files: &TlsFiles) {
    put_certificate(identity, files);
    std::fs::copy(&identity.key, &files.identity.as_ref().unwrap().key).unwrap();
}

fn put_certificate(identity: &IdentityFiles, files: &TlsFiles) {
    std::fs::copy(&identity.cert, &files.identity.as_ref().unwrap().cert).unwrap();
}

fn today() -> Timestamp {
    Timestamp::from_millis(1_750_000_000_000)
}

#[tokio::test]
async fn a_certificate_that_was_accepted_is_checked_again_by_what_has_come_since() {
    let running = Running::new();
    let chain = |number| {
        let shown = running.ours.issue_numbered("ct1", NOW, Some(number));
        CertificateDer::pem_file_iter(&shown.cert).unwrap().collect::<Result<Vec<_>, _>>().unwrap()
    };
    let (lost, other) = (chain(815), chain(816));
    let clients = running.live.clients().clone();
    let mut changes = clients.changes();
    assert_eq!((clients.refuse(&lost, today()), clients.refuse(&[], today())), (None, None));
    std::fs::write(running.files.crl.as_ref().unwrap(), running.ours.list(&[815], (2025, 2090))).unwrap();
    assert_eq!(running.live.look(), Renewal::Taken(vec!["crl"]));
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let why = clients.refuse(&lost, today()).unwrap();
    assert!(why.contains("has been revoked by the authority that issued it"), "{why}");
    assert_eq!(clients.refuse(&other, today()), None);
    assert_eq!(running.live.renew(running.files.clone()), Renewal::Unchanged);
    assert!(!changes.has_changed().unwrap());
}

#[tokio::test]
async fn a_new_identity_is_shown_from_the_next_connection_on() {
    let running = Running::new();
    let before = running.live.inwards().unwrap().get();
    assert!(running.shows("first").await);
    assert_eq!(running.live.look(), Renewal::Unchanged);
    put(&running.ours.issue("second", NOW), &running.files);
    assert_eq!(running.live.look(), Renewal::Taken(vec!["cert", "key"]));
    assert!(running.shows("second").await && !running.shows("first").await);
    assert_eq!(running.live.look(), Renewal::Unchanged);
    // Who has the old one, keeps it.
    let client = client_config(&files(&running.ours, Some(running.ours.issue("ct1", NOW)))).unwrap();
    assert!(connect(before, client, "first").await.server.is_ok());
}

#[tokio::test]
async fn the_next_connection_to_an_archive_shows_the_new_certificate() {
    let running = Running::new();
    put(&running.ours.issue_numbered("second", NOW, Some(5)), &running.files);
    assert_eq!(running.live.renew(running.files.clone()), Renewal::Taken(vec!["cert", "key"]));
    let archive = TlsFiles { crl: Some(running.ours.path("archive-crl.pem")), ..files(&running.ours, None) };
    std::fs::write(archive.crl.as_ref().unwrap(), running.ours.list(&[5], (2025, 2090))).unwrap();
    let archive = TlsFiles { identity: Some(running.ours.issue(ARCHIVE, NOW)), ..archive };
    let server = server_config(&archive, ClientCertificates::Required).unwrap();
    let outcome = connect(server, running.live.outwards().unwrap().get(), ARCHIVE).await;
    assert!(explain(&outcome.server.unwrap_err()).contains("has been revoked"));
}

#[tokio::test]
async fn a_list_that_comes_later_counts_from_then_on() {
    let running = Running::new();
    let shown = running.ours.issue_numbered("ct7", NOW, Some(7));
    let client = client_config(&files(&running.ours, Some(shown))).unwrap();
    assert!(connect(running.live.inwards().unwrap().get(), client.clone(), "first").await.server.is_ok());
    std::fs::write(running.ours.path("crl.pem"), running.ours.list(&[7], (2026, 2090))).unwrap();
    assert_eq!(running.live.look(), Renewal::Taken(vec!["crl"]));
    let outcome = connect(running.live.inwards().unwrap().get(), client, "first").await;
    assert!(explain(&outcome.server.unwrap_err()).contains("has been revoked"));
}

#[tokio::test]
async fn bad_files_change_nothing_are_told_once_and_warned_of_until_they_are_right() {
    let running = Running::new();
    let next = running.ours.issue("second", NOW);
    put_certificate(&next, &running.files);
    // Certificate and key are replaced one after the other: the first look gives the second file a chance to come.
    assert_eq!(running.live.look(), Renewal::Unchanged);
    let Renewal::Refused(reason) = running.live.look() else { panic!("not told") };
    assert!(reason.contains("is not the key of the certificate"), "{reason}");
    assert_eq!(running.live.look(), Renewal::Unchanged);
    let concerns = running.live.concerns(today());
    assert!(concerns[0].contains("those from before stay in use") && concerns[0].contains(&reason), "{concerns:?}");
    assert!(running.shows("first").await);

    put(&next, &running.files);
    assert_eq!(running.live.look(), Renewal::Taken(vec!["cert", "key"]));
    assert_eq!(running.live.concerns(today()), Vec::<String>::new());
    assert!(running.shows("second").await);
}

#[tokio::test]
async fn who_asks_is_told_at_once_and_every_time() {
    let running = Running::new();
    assert_eq!(running.live.renew(running.files.clone()), Renewal::Unchanged);
    let crl = running.ours.path("crl.pem");
    let good = std::fs::read(&crl).unwrap();
    std::fs::write(&crl, "-----BEGIN X509 CRL-----\n").unwrap();
    for _ in 0..2 {
        assert!(matches!(running.live.renew(running.files.clone()), Renewal::Refused(_)));
    }
    assert_eq!(running.live.look(), Renewal::Unchanged);
    std::fs::write(&crl, good).unwrap();
    assert_eq!(running.live.look(), Renewal::Unchanged);
    assert_eq!(running.live.concerns(today()), Vec::<String>::new());
}

#[test]
fn a_file_that_is_gone_leaves_what_was_there_in_use() {
    let running = Running::new();
    std::fs::remove_file(running.ours.ca()).unwrap();
    assert_eq!(running.live.look(), Renewal::Unchanged);
    assert!(matches!(running.live.look(), Renewal::Refused(reason) if reason.contains("cannot be read")));
}

/// What the session is told of a modality after the handshake.
#[tokio::test]
async fn the_subject_of_the_certificate_is_known_after_the_handshake() {
    let running = Running::new();
    let optional = Purpose { inwards: Some(ClientCertificates::Optional), outwards: false };
    let live = Live::load(running.files.clone(), optional).unwrap();
    for (shown, subject) in [(Some(running.ours.issue("ct1", NOW)), Some("CN=ct1 by ours".to_owned())), (None, None)] {
        let client = client_config(&files(&running.ours, shown)).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (near, far) = tokio::join!(
            TlsConnector::from(client).connect(server_name("first").unwrap(), near),
            live.inwards().unwrap().acceptor().accept(far)
        );
        near.unwrap();
        let peer = Peer::of(far.unwrap().get_ref().1);
        assert_eq!(peer.to_string(), "TLS 1.3 TLS13_AES_256_GCM_SHA384");
        assert_eq!(peer.subject, subject);
    }
}
