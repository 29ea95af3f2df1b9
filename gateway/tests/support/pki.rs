//! A throw-away certification authority, as PEM files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// What one side of a TLS connection is configured with.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The authority that the other side's certificate is checked against.
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    /// PKCS#8, without a password.
    pub(crate) key: PathBuf,
}

/// The authority: issues what a test needs, right and wrong.
pub(crate) struct Pki {
    folder: PathBuf,
    ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    /// A new authority with its files in a new folder below `parent`.
    pub(crate) fn new(parent: &Path, name: &str) -> Self {
        let folder = parent.join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("Test CA {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let ca = folder.join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, ca, issuer: Issuer::new(params, key) }
    }

    /// A certificate for this machine's loopback address, for both roles.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.issue(name, &["localhost", "127.0.0.1"], |_| ())
    }

    /// A certificate that another host would show.
    pub(crate) fn for_another_host(&self) -> Identity {
        self.issue("another-host", &["archive.example"], |_| ())
    }

    /// A certificate that was valid until 2021.
    pub(crate) fn expired(&self) -> Identity {
        self.issue("expired", &["localhost", "127.0.0.1"], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A certificate with this serial number, by which it can be revoked.
    pub(crate) fn numbered(&self, name: &str, serial: u64) -> Identity {
        self.issue(name, &["localhost", "127.0.0.1"], |params| {
            params.serial_number = Some(SerialNumber::from(serial));
        })
    }

    /// The authority's list of revoked certificates, number `number` of its lists, in PEM.
    pub(crate) fn revocation_list(&self, number: u8, revoked: &[u64]) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 1, number),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, number),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(u64::from(number)),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn issue(&self, name: &str, hosts: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        std::fs::write(file("pem"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(file("key"), Permissions::from_mode(0o600)).unwrap();
        Identity { ca: self.ca.clone(), cert: file("pem"), key: file("key") }
    }
}

impl Identity {
    /// The same certificate and key, trusting another authority.
    pub(crate) fn trusting(&self, other: &Pki) -> Self {
        Self { ca: other.ca.clone(), ..self.clone() }
    }

    /// Puts certificate and key into the places of another identity, as a renewal does.
    pub(crate) fn replace(&self, other: &Self) {
        std::fs::copy(&self.key, &other.key).unwrap();
        std::fs::copy(&self.cert, &other.cert).unwrap();
    }
}
