//! What the commands do before they reach the library, and how they end.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the command speaks to its user")]

use std::process::ExitCode;
use std::time::Duration;

use log::LevelFilter;
use waystation::config::{
    Admission, ClientCertificates, Config, Credentials, DestinationUrl, DicomPeer, HandedOver, IdentityFiles, Source,
    Surroundings, TlsFiles,
};
use waystation::model::AeTitle;
use waystation::{clock, logging};

use super::{CheckConfig, Echo, Peer, Run, backend};

/// Exit status for a wrong command line or configuration (`EX_USAGE` of sysexits.h).
pub(crate) const USAGE: u8 = 64;

/// Why a command did not do what it was asked for: a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line or the configuration is wrong; nothing was begun.
    #[error("{0}")]
    Usage(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
}

/// Ends the command.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    eprintln!("waystation: {failure}");
    match failure {
        Failure::Usage(_) => ExitCode::from(USAGE),
        Failure::Failed(_) => ExitCode::FAILURE,
    }
}

/// `waystation run`: reads the configuration, sets up the log, and hands over to the daemon.
pub(crate) fn run(arguments: &Run, log_level: Result<LevelFilter, Failure>) -> Result<(), Failure> {
    let log_level = log_level?;
    let handed_over = sd_notify::listen_fds_with_names().map_err(|error| {
        let remedy = "check LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES";
        Failure::Usage(format!("the sockets that systemd hands over cannot be read: {error}; {remedy}"))
    })?;
    let surroundings = surroundings(handed_over.map(|(_, name)| name))?;
    let source = Source { file: arguments.config.clone(), flags: arguments.flags(), sockets: surroundings.sockets };
    let config = source.load(surroundings.now).map_err(|findings| {
        let sentence = format!("the gateway was not started\n{findings}");
        // What may be better at the next start is none that a service manager should give up for.
        if findings.passing { Failure::Failed(sentence) } else { Failure::Usage(sentence) }
    })?;
    logging::init(log_level).map_err(|error| Failure::Failed(error.to_string()))?;
    config.admission.left_out().iter().for_each(|left_out| log::error!("{left_out}"));
    for warning in &config.warnings {
        log::warn!(setting = warning.key; "{}. {}", warning.what, warning.remedy);
    }
    backend::run(source, config)
}

/// What the validation has to know: the names of the sockets that systemd hands over, and the time.
fn surroundings(sockets: impl Iterator<Item = String>) -> Result<Surroundings, Failure> {
    let mut handed_over = HandedOver::default();
    for name in sockets {
        handed_over.note(&name).map_err(Failure::Usage)?;
    }
    Ok(Surroundings { sockets: handed_over, now: clock::wall() })
}

/// `waystation check-config`: tells what is wrong, or what the gateway would do.
pub(crate) fn check_config(arguments: &CheckConfig) -> Result<(), Failure> {
    let surroundings = surroundings(arguments.socket.iter().cloned())?;
    let config = Config::load(Some(&arguments.file), &waystation::config::Flags::default(), &surroundings)
        .map_err(|findings| Failure::Usage(format!("this configuration cannot be used\n{findings}")))?;
    print!("{}", summary(&config));
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    match config.warnings.len() {
        0 => println!("{} is fine.", arguments.file.display()),
        1 => println!("{} can be used, with 1 warning.", arguments.file.display()),
        count => println!("{} can be used, with {count} warnings.", arguments.file.display()),
    }
    Ok(())
}

/// What the gateway would do, a line for each thing.
fn summary(config: &Config) -> String {
    let mut lines = vec![format!("{} keeps what it receives in {}", config.aet, config.data.display())];
    lines.extend(config.listen.iter().map(|address| format!("listens on {address}, in the clear")));
    let certificates = match config.client_certificates {
        ClientCertificates::Required => "client certificates required",
        ClientCertificates::Optional => "client certificates optional",
        ClientCertificates::None => "no client certificates",
    };
    lines.extend(config.listen_tls.iter().map(|address| format!("listens on {address}, TLS, {certificates}")));
    match &config.admission {
        Admission::Any => lines.push("admits anybody".to_owned()),
        Admission::Named(modalities, _) if modalities.is_empty() => lines.push("admits nobody yet".to_owned()),
        Admission::Named(modalities, _) => lines.extend(modalities.iter().map(|modality| {
            let addresses: Vec<_> = modality.addresses.iter().map(ToString::to_string).collect();
            let tls = if modality.tls { ", over TLS only" } else { "" };
            format!("admits {}: {} from {}{tls}", modality.name, modality.aet, addresses.join(", "))
        })),
    }
    lines.extend(config.rules.as_slice().iter().map(|rule| format!("routes by {rule}")));
    lines.extend(config.coercions.iter().map(|coercion| {
        let to: Vec<_> = coercion.to.iter().map(ToString::to_string).collect();
        let tags: Vec<_> = coercion.changes.iter().map(|change| change.tag.to_string()).collect();
        format!("changes {} for {}, by {}", tags.join(", "), to.join(", "), coercion.name)
    }));
    lines.extend(config.destinations.iter().map(|to| format!("delivers to {}: {}", to.name, to.url)));
    lines.join("\n") + "\n"
}

/// A DICOM application that a command calls itself, and who we are towards it.
#[derive(Debug)]
pub(crate) struct Call {
    /// Whom to call, and where.
    pub(crate) peer: DicomPeer,
    /// Set for `dicoms://`: what TLS needs; `ca` is given.
    pub(crate) tls: Option<TlsFiles>,
    /// Our AE title.
    pub(crate) calling: AeTitle,
    /// For the connection with TLS and association, and for each answer.
    pub(crate) timeout: Duration,
}

impl Echo {
    /// `waystation echo`: asks for a sign of life.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let credentials = match (&self.token_file, &self.user, &self.password_file) {
            (Some(file), ..) => Credentials::Token(file.clone()),
            (None, Some(user), Some(password)) => Credentials::Basic { user: user.clone(), password: password.clone() },
            _ => Credentials::None,
        };
        match &self.url {
            DestinationUrl::Dicomweb(url) => {
                let files = self.peer.tls_files()?;
                backend::echo_web(url, files, credentials, Duration::from_secs(self.peer.timeout))
            }
            _ if credentials != Credentials::None => {
                let why = "--token-file, --user and --password-file are for https:// only; a DICOM application knows us by AE title and certificate";
                Err(Failure::Usage(why.to_owned()))
            }
            url => self.peer.call(url).and_then(|call| backend::echo(&call)),
        }
    }
}

impl Peer {
    /// What TLS needs.
    fn tls_files(&self) -> Result<TlsFiles, Failure> {
        if self.ca.is_none() {
            let why = "TLS needs --ca FILE: the certificate of the authority that issued the other side's";
            return Err(Failure::Usage(why.to_owned()));
        }
        let identity = self.cert.clone().zip(self.key.clone());
        let identity = identity.map(|(cert, key)| IdentityFiles { cert, key });
        Ok(TlsFiles { ca: self.ca.clone(), crl: self.crl.clone(), identity })
    }

    /// Puts URL and flags together.
    pub(crate) fn call(&self, url: &DestinationUrl) -> Result<Call, Failure> {
        let (peer, tls) = match url {
            DestinationUrl::Dicom(peer) => (peer, None),
            DestinationUrl::Dicoms(peer) => (peer, Some(self.tls_files()?)),
            DestinationUrl::Dicomweb(_) => {
                return Err(Failure::Usage(format!(
                    "{url} is a web service; give dicom://AET@host:port or dicoms://AET@host:port, or let a gateway send \
                     there: waystation run --to archive={url}"
                )));
            }
            DestinationUrl::Folder(_) => {
                return Err(Failure::Usage(format!(
                    "{url} is a folder; give dicom://AET@host:port or dicoms://AET@host:port"
                )));
            }
        };
        Ok(Call { peer: peer.clone(), tls, calling: self.aet.clone(), timeout: Duration::from_secs(self.timeout) })
    }
}
