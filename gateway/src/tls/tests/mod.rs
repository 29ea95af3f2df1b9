//! Handshakes between our own two sides, and against peers that are wrong in one respect each. Nothing may arrive.

mod live;
mod revocation;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::model::Timestamp;

/// An authority, and the folder in which everything it issues is put down.
struct Authority {
    folder: TempDir,
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
}

/// From when to when a certificate holds, as years.
const NOW: (i32, i32) = (2020, 2090);
const PAST: (i32, i32) = (2001, 2002);

impl Authority {
    fn new(name: &'static str) -> Self {
        let (params, key) = Self::params(name);
        Self::with_certificate(name, params.self_signed(&key).unwrap().pem(), params, key)
    }

    /// One that another authority has certified.
    fn below(above: &Self, name: &'static str) -> Self {
        let (params, key) = Self::params(name);
        Self::with_certificate(name, params.signed_by(&key, &above.issuer).unwrap().pem(), params, key)
    }

    fn params(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2090, 1, 1));
        (params, KeyPair::generate().unwrap())
    }

    fn with_certificate(name: &'static str, certificate: String, params: CertificateParams, key: KeyPair) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate).unwrap();
        Self { folder, name, issuer: Issuer::new(params, key) }
    }

    /// A list that it issued in one year for the time until another, in PEM.
    fn list(&self, revoked: &[u64], years: (i32, i32)) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(years.0, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(years.0, 1, 1),
            next_update: rcgen::date_time_ymd(years.1, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn issue(&self, host: &str, years: (i32, i32)) -> IdentityFiles {
        self.issue_numbered(host, years, None)
    }

    fn issue_numbered(&self, host: &str, years: (i32, i32), serial: Option<u64>) -> IdentityFiles {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
        params.serial_number = serial.map(SerialNumber::from);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, format!("{host} by {}", self.name));
        let key = KeyPair::generate().unwrap();
        let files = IdentityFiles {
            cert: self.path(&format!("{host}-{}.crt", years.0)),
            key: self.path(&format!("{host}-{}.key", years.0)),
        };
        std::fs::write(&files.cert, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn files(ca: &Authority, identity: Option<IdentityFiles>) -> TlsFiles {
    TlsFiles { ca: Some(ca.ca()), crl: None, identity }
}

/// What came of a connection in which the client sends four bytes at once and the server answers with four.
struct Outcome {
    client: Result<Vec<u8>, io::Error>,
    /// Application bytes that reached the server, or why none did.
    server: Result<Vec<u8>, io::Error>,
}

async fn connect(server: Arc<ServerConfig>, client: Arc<ClientConfig>, host: &str) -> Outcome {
    let (near, far): (DuplexStream, DuplexStream) = tokio::io::duplex(64 * 1024);
    let host = server_name(host).unwrap();
    let serve = async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let mut request = vec![0; 4];
        stream.read_exact(&mut request).await?;
        stream.write_all(b"pong").await?;
        stream.flush().await?;
        Ok(request)
    };
    let call = async move {
        let mut stream = TlsConnector::from(client).connect(host, near).await?;
        stream.write_all(b"ping").await?;
        stream.flush().await?;
        let mut answer = vec![0; 4];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let both = async { tokio::join!(serve, call) };
    let (server, client) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the handshake ends");
    Outcome { client, server }
}

/// The sentence in which the side that refuses tells why; nothing may have arrived at either.
async fn refusal(server: Arc<ServerConfig>, client: Arc<ClientConfig>, host: &str) -> (String, String) {
    let outcome = connect(server, client, host).await;
    (explain(&outcome.client.expect_err("refused")), explain(&outcome.server.expect_err("refused")))
}

const ARCHIVE: &str = "archive.example.org";

#[tokio::test]
async fn mutual_tls_between_the_right_partners_works_in_both_versions() {
    let ours = Authority::new("ours");
    let server = server_config(&files(&ours, Some(ours.issue(ARCHIVE, NOW))), ClientCertificates::Required).unwrap();
    let client = client_config(&files(&ours, Some(ours.issue("gateway", NOW)))).unwrap();
    let outcome = connect(server.clone(), client.clone(), ARCHIVE).await;
    assert_eq!((outcome.client.unwrap(), outcome.server.unwrap()), (b"pong".to_vec(), b"ping".to_vec()));

    let only_1_2 = ClientConfig::builder_with_provider(Arc::new(provider()));
    let only_1_2 = only_1_2.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let (chain, key) = Identity::load(&ours.issue("old", NOW)).unwrap().parts();
    let roots = Authorities::load(&ours.ca()).unwrap().roots();
    let only_1_2 = only_1_2.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    assert!(connect(server, Arc::new(only_1_2), ARCHIVE).await.server.is_ok());
}

#[tokio::test]
async fn an_archive_of_a_foreign_authority_is_refused_before_any_byte() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let server = server_config(&files(&ours, Some(foreign.issue(ARCHIVE, NOW))), ClientCertificates::None).unwrap();
    let (client, server) = refusal(server, client_config(&files(&ours, None)).unwrap(), ARCHIVE).await;
    assert!(client.contains("an authority we do not trust"), "{client}");
    assert!(server.contains("does not trust the authority that issued our certificate"), "{server}");
}

#[tokio::test]
async fn an_archive_with_another_name_is_refused_before_any_byte() {
    let ours = Authority::new("ours");
    let server = server_config(&files(&ours, Some(ours.issue(ARCHIVE, NOW))), ClientCertificates::None).unwrap();
    for host in ["other.example.org", "192.0.2.7", "example.org"] {
        let (client, _) = refusal(server.clone(), client_config(&files(&ours, None)).unwrap(), host).await;
        assert!(client.contains(ARCHIVE) && client.contains(host), "{client}");
    }
}

#[tokio::test]
async fn an_archive_whose_certificate_has_ended_is_refused_before_any_byte() {
    let ours = Authority::new("ours");
    let server = server_config(&files(&ours, Some(ours.issue(ARCHIVE, PAST))), ClientCertificates::None).unwrap();
    let (client, _) = refusal(server, client_config(&files(&ours, None)).unwrap(), ARCHIVE).await;
    assert!(client.contains("ended on 2002-01-01T00:00:00.000Z"), "{client}");
}

#[tokio::test]
async fn a_modality_without_a_certificate_gets_nothing_in() {
    let ours = Authority::new("ours");
    let server = server_config(&files(&ours, Some(ours.issue(ARCHIVE, NOW))), ClientCertificates::Required).unwrap();
    let (client, server) = refusal(server, client_config(&files(&ours, None)).unwrap(), ARCHIVE).await;
    assert!(client.contains("wants a certificate from us"), "{client}");
    assert!(server.contains("showed no certificate"), "{server}");
}

#[tokio::test]
async fn a_modality_with_a_foreign_or_an_ended_certificate_gets_nothing_in() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let identity = ours.issue(ARCHIVE, NOW);
    for clients in [ClientCertificates::Required, ClientCertificates::Optional] {
        let server = server_config(&files(&ours, Some(identity.clone())), clients).unwrap();
        let stranger = client_config(&files(&ours, Some(foreign.issue("stranger", NOW)))).unwrap();
        let (_, why) = refusal(server.clone(), stranger, ARCHIVE).await;
        assert!(why.contains("an authority we do not trust"), "{why}");
        let late = client_config(&files(&ours, Some(ours.issue("late", PAST)))).unwrap();
        let (_, why) = refusal(server, late, ARCHIVE).await;
        assert!(why.contains("ended on 2002"), "{why}");
    }
}

#[tokio::test]
async fn a_modality_without_a_certificate_may_come_in_where_that_is_configured() {
    let ours = Authority::new("ours");
    let identity = ours.issue(ARCHIVE, NOW);
    for clients in [ClientCertificates::Optional, ClientCertificates::None] {
        let server = server_config(&files(&ours, Some(identity.clone())), clients).unwrap();
        assert!(connect(server, client_config(&files(&ours, None)).unwrap(), ARCHIVE).await.server.is_ok());
    }
}

#[tokio::test]
async fn a_plain_dicom_peer_on_the_tls_port_is_told_apart() {
    let ours = Authority::new("ours");
    let server = server_config(&files(&ours, Some(ours.issue(ARCHIVE, NOW))), ClientCertificates::None).unwrap();
    let (mut near, far) = tokio::io::duplex(1_024);
    // The first bytes of an A-ASSOCIATE-RQ.
    near.write_all(&[0x01, 0x00, 0x00, 0x00, 0x00, 0xcd, 0x00, 0x01, 0x00, 0x00]).await.unwrap();
    let error = TlsAcceptor::from(server).accept(far).await.unwrap_err();
    assert!(explain(&error).contains("is not TLS"), "{}", explain(&error));
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let ours = Authority::new("ours");
    let server = server_config(&files(&ours, Some(ours.issue(ARCHIVE, NOW))), ClientCertificates::None).unwrap();
    let client = client_config(&files(&ours, None)).unwrap();
    for _ in 0..3 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (near, _far) = tokio::join!(
            TlsConnector::from(client.clone()).connect(server_name(ARCHIVE).unwrap(), near),
            TlsAcceptor::from(server.clone()).accept(far)
        );
        let kind = near.unwrap().get_ref().1.handshake_kind();
        assert_ne!(kind, Some(rustls::HandshakeKind::Resumed));
    }
}

#[test]
fn no_cipher_without_forward_secrecy_is_offered() {
    for suite in provider().cipher_suites {
        let name = format!("{:?}", suite.suite());
        assert!(name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"), "{name}");
        assert!(name.contains("GCM") || name.contains("POLY1305"), "{name}");
    }
}

#[test]
fn a_wrong_file_is_named_together_with_what_to_do() {
    let ours = Authority::new("ours");
    let (mine, other) = (ours.issue("gateway", NOW), ours.issue("other", NOW));
    let mixed = IdentityFiles { cert: mine.cert.clone(), key: other.key.clone() };
    let error = Identity::load(&mixed).unwrap_err();
    assert!(error.concerns(&other.key) && error.to_string().contains("is not the key of the certificate"), "{error}");

    let exchanged = IdentityFiles { cert: mine.key.clone(), key: mine.cert.clone() };
    assert!(Identity::load(&exchanged).unwrap_err().to_string().contains("exchanged?"));

    let case = |name: &str, bytes: &[u8]| {
        let path = ours.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let say = |path: &Path| Authorities::load(path).unwrap_err().to_string();
    assert!(say(&ours.path("missing.pem")).contains("missing.pem: cannot be read"));
    assert!(say(&case("empty.pem", b"")).contains("holds no certificate"));
    assert!(say(&case("der.pem", &[0x30, 0x82, 0x01, 0x00])).contains("openssl x509 -inform der"));
    assert!(say(&case("cut.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n")).contains("is broken"));
    let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(say(&case("junk.pem", junk)).contains("cannot be read. See what openssl"));
    let locked =
        case("locked.key", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let error = Identity::load(&IdentityFiles { cert: mine.cert, key: locked }).unwrap_err().to_string();
    assert!(error.contains("pass phrase") && error.contains("openssl pkey"), "{error}");
}

#[test]
fn the_end_of_a_certificate_is_read_from_it() {
    let ours = Authority::new("ours");
    let identity = Identity::load(&ours.issue("gateway", PAST)).unwrap();
    assert_eq!(identity.validity().not_after.to_string(), "2002-01-01T00:00:00.000Z");
    assert_eq!(identity.validity().days_left(Timestamp::from_millis(1_009_843_200_000)), 0);
    assert!(identity.validity().days_left(Timestamp::from_millis(1_700_000_000_000)) < -7_000);
    let authority = Authorities::load(&ours.ca()).unwrap();
    assert_eq!(authority.validity().not_after.to_string(), "2090-01-01T00:00:00.000Z");
}

#[test]
fn what_is_missing_is_named_by_its_key() {
    let nothing = TlsFiles::default();
    assert!(client_config(&nothing).unwrap_err().to_string().contains("dicoms:// destination needs ca"));
    assert!(server_config(&nothing, ClientCertificates::None).unwrap_err().to_string().contains("cert and key"));
    assert!(server_name("pacs host").is_err());
    assert!(server_name("2001:db8::1").is_ok());
}
