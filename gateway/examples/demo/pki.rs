//! A throw-away certificate authority for one run of the demo.

use std::env;
use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

/// The three PEM files that `--ca`, `--cert` and `--key` name.
pub(crate) struct Files {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Files {
    /// The files named by `CA`, `CERT` and `KEY`, for an archive of one's own.
    pub(crate) fn from_environment() -> Option<Self> {
        let file = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Some(Self { ca: file("CA")?, cert: file("CERT")?, key: file("KEY")? })
    }
}

/// One authority, one certificate for each side.
pub(crate) struct Pki {
    pub(crate) clinic: Files,
    pub(crate) centre: Files,
}

impl Pki {
    pub(crate) fn create(folder: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Waystation demo CA");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let ca = folder.join("ca.pem");
        fs::write(&ca, authority.pem())?;

        let issue = |name: &str| -> Result<Files, Box<dyn Error>> {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate()?;
            let files = Files {
                ca: ca.clone(),
                cert: folder.join(format!("{name}.pem")),
                key: folder.join(format!("{name}-key.pem")),
            };
            fs::write(&files.cert, params.signed_by(&key, &authority)?.pem())?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&files.key)?;
            file.write_all(key.serialize_pem().as_bytes())?;
            Ok(files)
        };
        Ok(Self { clinic: issue("clinic")?, centre: issue("centre")? })
    }
}
