//! The configuration: a TOML file, flags, or both, read into one validated [`Config`].
//!
//! What this module promises:
//!
//! - A [`Config`] is complete and consistent. Nothing behind it checks a setting again or knows a default of its own.
//! - Everything that is wrong is told at once, each with file, line, key, what is wrong and what to do ([`Finding`]).
//!   Unknown keys are errors: a misspelt limit that is silently ignored is found out in the worst moment.
//! - The default is to refuse: without a listed modality or an explicit `allow-any` nobody is admitted, which is warned
//!   of, because the next step is to admit who knocks.
//! - What is allowed but unwise is kept in [`Config::warnings`], for the log, for `check-config` and for `status`.
//!
//! Flags and file share one vocabulary. Where both are given, the flag wins: a flag replaces the setting of the same
//! name; `--listen` and `--listen-tls` replace the whole list; `--to NAME=URL` replaces the destination of that name or
//! adds one; `--allow-any` stands instead of every `[modality.*]`.
//!
//! A modality that was admitted by command is a file of its own in the data folder, `modalities/NAME.toml`, with the keys
//! of `[modality.NAME]` and no table. Both places count; the same name in both is an error. The gateway runs without such
//! a file if it cannot be used, and refuses that modality ([`LeftOut`]); whatever else is wrong keeps it from starting.
//!
//! Relative paths in the file count from the folder of the file, relative paths in flags from the working directory;
//! the paths in a [`Config`] are absolute. TLS files are opened and parsed here, so that a wrong one is found by
//! `check-config` and not by the first association at night.
//!
//! What it deliberately does not do: open sockets, create folders, resolve host names. A configuration is right or
//! wrong whatever the network is doing at the moment.

mod admission;
mod changes;
mod coercions;
mod commitment;
mod destinations;
mod document;
mod finding;
mod left_out;
mod modalities;
mod quantities;
mod reader;
mod rules;
mod settings;
mod shaping;
mod units;
mod url;
mod validate;
mod verification;
mod web;

#[cfg(test)]
mod coercion_tests;
#[cfg(test)]
mod modality_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use self::admission::{Admission, Candidate, CommitmentLevel, Modality, NotAdmitted};
pub use self::changes::{Source, Unfit};
pub use self::finding::{Finding, Findings, Place};
pub use self::left_out::LeftOut;
pub use self::modalities::{FOLDER as MODALITIES, NOBODY, as_toml as modality_as_toml, file_of as modality_file};
pub use self::settings::{
    Coercion, CommitmentSettings, Config, DeliverySettings, Destination, DrainSettings, Limits, RetrySettings,
    SpoolSettings, StandIn, Verification, VerifyBy,
};
pub use self::url::{DestinationUrl, DicomPeer, UrlError};
pub use self::web::{Credentials, Proxy, WebSettings, WebUrl};
pub use crate::tls::{ClientCertificates, IdentityFiles, TlsFiles};

use self::document::Document;
use self::modalities::Beside;
use crate::model::Timestamp;

/// A configuration file larger than this is not one.
const MAX_FILE_SIZE: u64 = 1 << 20;

/// What may be given on the command line instead of, or over, a file. `None`, empty and `false` mean: not given.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--data DIR`
    pub data: Option<PathBuf>,
    /// `--aet NAME`
    pub aet: Option<String>,
    /// `--listen ADDR:PORT`, any number
    pub listen: Vec<String>,
    /// `--listen-tls ADDR:PORT`, any number
    pub listen_tls: Vec<String>,
    /// `--to NAME=URL`, any number
    pub to: Vec<String>,
    /// `--ca FILE`
    pub ca: Option<PathBuf>,
    /// `--crl FILE`
    pub crl: Option<PathBuf>,
    /// `--cert FILE`
    pub cert: Option<PathBuf>,
    /// `--key FILE`
    pub key: Option<PathBuf>,
    /// `--tls-client-certificates required|optional|none`
    pub tls_client_certificates: Option<String>,
    /// `--allow-any`
    pub allow_any: bool,
}

/// What the validation has to know about the world.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// The listening sockets that systemd hands over.
    pub sockets: HandedOver,
    /// The wall clock, to tell certificates that have expired or soon will.
    pub now: Timestamp,
}

/// Which kinds of listening sockets systemd hands over. Where there is one, the configuration need not name an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// At least one for associations in the clear, named [`HandedOver::PLAIN`].
    pub plain: bool,
    /// At least one for associations over TLS, named [`HandedOver::TLS`].
    pub tls: bool,
}

impl HandedOver {
    /// `FileDescriptorName=` of sockets for associations in the clear.
    pub const PLAIN: &str = "dicom";
    /// `FileDescriptorName=` of sockets for associations over TLS.
    pub const TLS: &str = "dicom-tls";

    /// Takes note of one socket by its name.
    ///
    /// # Errors
    /// The name is neither of the two; the message says which there are.
    pub fn note(&mut self, name: &str) -> Result<(), String> {
        match name {
            Self::PLAIN => self.plain = true,
            Self::TLS => self.tls = true,
            _ => {
                return Err(format!(
                    "systemd hands over a socket named {name:?}; set FileDescriptorName={} or {} in its unit",
                    Self::PLAIN,
                    Self::TLS
                ));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Reads and validates the configuration: the file, if there is one, with the flags laid over it.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    pub fn load(file: Option<&Path>, flags: &Flags, surroundings: &Surroundings) -> Result<Self, Findings> {
        Basis::read(file)?.config(flags, surroundings, Beside::EVERYTHING)
    }

    /// Like [`Config::load`], but a file of an admitted modality that cannot be used is left out: see
    /// [`Admission::left_out`]. `and` is read as if it were one more such file with this text.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file; or the system does not give a file now.
    fn load_what_can_be_used(
        file: Option<&Path>,
        flags: &Flags,
        surroundings: &Surroundings,
        and: Option<(&Path, &str)>,
    ) -> Result<Self, Findings> {
        let basis = Basis::read(file)?;
        let read = |without: &_| basis.config(flags, surroundings, Beside { without, and });
        let (mut config, left_out) = left_out::leaving_out(read)?;
        config.admission.leave_out(left_out);
        Ok(config)
    }

    /// Like [`Config::load`], with the text of the file already at hand; `file` names it and anchors relative paths.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    pub fn from_text(file: &Path, text: &str, flags: &Flags, surroundings: &Surroundings) -> Result<Self, Findings> {
        Basis { file: Some((file, text.to_owned())) }.config(flags, surroundings, Beside::EVERYTHING)
    }
}

/// The configuration file with its text, if there is one.
struct Basis<'a> {
    file: Option<(&'a Path, String)>,
}

impl<'a> Basis<'a> {
    fn read(file: Option<&'a Path>) -> Result<Self, Findings> {
        let read = |file| match read_file(file) {
            Ok(text) => Ok((file, text)),
            Err(unreadable) => {
                let passing = unreadable.error.as_ref().is_some_and(finding::is_passing);
                Err(Findings { list: vec![unreadable.finding], passing })
            }
        };
        Ok(Self { file: file.map(read).transpose()? })
    }

    /// Validates it, with the files of admitted modalities.
    fn config(&self, flags: &Flags, surroundings: &Surroundings, beside: Beside<'_>) -> Result<Config, Findings> {
        let (document, folder) = match &self.file {
            None => (Document::default(), Path::new("")),
            Some((file, text)) => (Document::read(file, text), file.parent().unwrap_or(Path::new(""))),
        };
        let mut reader = reader::Reader::new(document, folder);
        flags.lay_over(&mut reader);
        if !flags.allow_any
            && let Some(data) = reader.path("data")
        {
            modalities::read_folder(&mut reader, &data.value, beside);
        }
        let config = validate::validate(&mut reader, surroundings);
        let findings = reader.finish();
        match config {
            Some(config) if findings.list.is_empty() => Ok(config),
            _ => Err(findings),
        }
    }
}

/// Why a file cannot be read, and what the system said if it is to blame.
struct Unreadable {
    finding: Finding,
    error: Option<std::io::Error>,
}

fn read_file(file: &Path) -> Result<String, Unreadable> {
    use std::io::Read;

    let unreadable = |what: String, remedy: &str| Unreadable {
        finding: Finding {
            place: Place::File { file: file.into(), line: 1 },
            key: "the file".to_owned(),
            what,
            remedy: remedy.to_owned(),
        },
        error: None,
    };
    let cannot_open = |error: std::io::Error| {
        let remedy = "Check the path, and that the user who runs this may read the file.";
        let told = unreadable(format!("cannot be read: {error}"), remedy);
        Unreadable { error: Some(error), ..told }
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(cannot_open)?;
    opened.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(cannot_open)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
        return Err(unreadable("is larger than 1 MiB".to_owned(), "This is no configuration; check the path."));
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        unreadable(format!("is not UTF-8 from byte {position} on"), "Save it as UTF-8 text.")
    })
}

impl Flags {
    fn lay_over(&self, reader: &mut reader::Reader) {
        use document::Content::{List, Switch, Text};

        for (key, text) in [("aet", &self.aet), ("tls-client-certificates", &self.tls_client_certificates)] {
            if let Some(text) = text {
                reader.document.set_flag(key, Text(text.clone()));
            }
        }
        let paths =
            [("data", &self.data), ("ca", &self.ca), ("crl", &self.crl), ("cert", &self.cert), ("key", &self.key)];
        for (key, path) in paths {
            let Some(path) = path else { continue };
            match path.to_str() {
                Some(text) => reader.document.set_flag(key, Text(text.to_owned())),
                None => reader.add(
                    Place::CommandLine,
                    format!("--{key}"),
                    format!("{path:?} is not UTF-8"),
                    "Rename the file or folder.",
                ),
            }
        }
        for (key, list) in [("listen", &self.listen), ("listen-tls", &self.listen_tls)] {
            if !list.is_empty() {
                let list = list.iter().map(|text| (Text(text.clone()), Place::CommandLine)).collect();
                reader.document.set_flag(key, List(list));
            }
        }
        if self.allow_any {
            reader.document.remove_named("modality", None);
            reader.document.set_flag("allow-any", Switch(true));
        }
        let mut named = std::collections::BTreeSet::new();
        for to in &self.to {
            match to.split_once('=') {
                Some((name, _)) if !named.insert(name) => reader.add(
                    Place::CommandLine,
                    format!("--to {name}"),
                    "is given twice",
                    "Give each destination a name of its own.",
                ),
                Some((name, url)) => reader.document.set_named_flag("to", name, "url", url.to_owned()),
                None => reader.add(
                    Place::CommandLine,
                    "--to".to_owned(),
                    format!("{to:?} is not NAME=URL"),
                    "Write --to archive=dicoms://AET@host:port.",
                ),
            }
        }
    }
}
