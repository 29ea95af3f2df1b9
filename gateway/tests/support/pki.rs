//! A throw-away certification authority, as PEM files.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
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
}
