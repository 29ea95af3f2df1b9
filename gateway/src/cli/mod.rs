//! The command line: what can be said, and the help that teaches it.
//!
//! The flags of `run` are the settings of the configuration file under the same names; what they mean is decided in
//! `waystation::config`, for both. Errors of every command go to standard error and say what to do.

pub(crate) mod backend;
mod commands;
pub(crate) mod door;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod offline;
pub(crate) mod receipt;
mod render;
pub(crate) mod route;
mod send;
pub(crate) mod studies;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use log::LevelFilter;
use waystation::config::{DestinationUrl, Flags};
use waystation::control::DeliveryState;
use waystation::model::AeTitle;

pub(crate) use commands::{Call, Failure, check_config, exit_code, run};

/// The data folder of a gateway that runs as a service.
const DATA: &str = "/var/lib/waystation";

/// Store-and-forward DICOM gateway for a clinic on a slow, lossy, often broken link.
///
/// Modalities send to it as they would to a PACS. When it answers Success, the image is safe on its own disk; from there
/// it goes to every destination, however long that takes.
#[derive(Debug, Parser)]
#[command(version, after_help = FIRST_RUN, max_term_width = 100)]
pub(crate) struct Arguments {
    /// How much is logged: error, warn, info, debug or trace
    ///
    /// Without it, the environment variable WAYSTATION_LOG decides, and without that, info. Under systemd the log goes
    /// to the journal, otherwise to standard error.
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<LevelFilter>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_RUN: &str = "\
A first run, on one machine:

  mkdir -p /tmp/arrived
  waystation run --data /tmp/waystation --aet WAYSTATION --listen 127.0.0.1:11112 \\
      --to folder=file:///tmp/arrived --allow-any
  waystation phantom /tmp/phantom                               (in a second terminal)
  waystation send dicom://WAYSTATION@127.0.0.1:11112 /tmp/phantom
  waystation status --data /tmp/waystation

Exit status: 0 done; 1 it did not work; 64 the command line or the configuration is wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receive from modalities and deliver to every destination, until told to stop
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Read a configuration file and tell everything that is wrong with it
    #[command(after_help = "\
Example:
  waystation check-config /etc/waystation/waystation.toml

Exit status: 0 it can be used, warnings included; 64 it cannot.")]
    CheckConfig(CheckConfig),
    /// Ask a DICOM application whether it is there (C-ECHO)
    #[command(after_help = "\
Examples:
  waystation echo dicom://ARCHIVE@192.0.2.7:11112
  waystation echo dicoms://ARCHIVE@archive.example.org:2762 --ca ca.pem --cert me.crt --key me.key")]
    Echo(Echo),
    /// Send DICOM files to a DICOM application (C-STORE), without a gateway in between
    #[command(after_help = "\
Example:
  waystation send dicom://WAYSTATION@127.0.0.1:11112 study/ more/image.dcm

Exit status: 0 every file was accepted; 1 at least one was not, and it is named.")]
    Send(Send),
    /// Show what the running gateway holds: queued, delivered, confirmed and parked, for each destination
    Status(Ask),
    /// Show how the link does: speed, round trip, what is lost, what holds it back, the month's volume; once or live
    #[command(after_help = "\
Examples:
  waystation link
  waystation link --watch                (each second, until Ctrl-C)")]
    Link(link::LinkArguments),
    /// List the studies that came and how far each is at every destination; let one go first
    #[command(after_help = "\
Examples:
  waystation studies                             (the 20 that came last)
  waystation studies --undelivered --limit 100   (those of which something is still owed)
  waystation studies expedite 1.2.840.113619.2.1 (this one goes first)")]
    Studies(studies::Studies),
    /// Explain where a study or an instance stands, why, and what to do
    #[command(after_help = "\
Example:
  waystation why 1.2.840.113619.2.1

Exit status: 0 it is known; 1 it is not, and the sentence says what could be.")]
    Why(studies::Explain),
    /// Print the proof for one study: each instance with its hash, and when it was received, delivered and confirmed
    #[command(after_help = "\
Examples:
  waystation receipt 1.2.840.113619.2.1
  waystation receipt 1.2.840.113619.2.1 --json --out receipt.json")]
    Receipt(receipt::Receipt),
    /// List everything that was received, a line for each instance and destination, what belongs to no study included
    #[command(after_help = "\
Example:
  waystation receipts --state parked        (what waits for a person, and why)")]
    Receipts(Receipts),
    /// Try what is parked again: all for one destination, or of one study or instance
    #[command(after_help = "\
Examples:
  waystation retry archive
  waystation retry archive --study 1.2.840.113619.2.1
  waystation retry --instance 1.2.840.113619.2.1.7

Mend the cause first; `waystation why` tells what it is.")]
    Retry(studies::Retry),
    /// Show who may send, who knocks and is not let in, and what went wrong; admit modalities
    #[command(after_help = "\
Examples:
  waystation door                        (everybody, with what is wrong and what to do)
  waystation door show ct1               (its last associations: proposed, agreed, how they ended)
  waystation door admit us2 --as echolab (lets in one who knocks, without a restart)")]
    Door(door::Door),
    /// Show what would become of a DICOM file if a modality sent it: which rule fits, where it goes, and why
    #[command(after_help = "\
Example:
  waystation route image.dcm --calling CT1 --address 192.168.1.20

Exit status: 0 it is shown; 1 the file cannot be read, or would be refused; 64 the configuration is wrong.")]
    Route(route::Route),
    /// Look at, mend or empty the data folder of a gateway that does not run
    #[command(
        subcommand,
        after_help = "\
Examples:
  waystation spool check --data /mnt/waystation
  waystation spool rescue --data /mnt/waystation --out /srv/rescued"
    )]
    Spool(SpoolCommand),
    /// Check the record of what happened to every instance
    #[command(
        subcommand,
        after_help = "\
Example:
  waystation ledger check --data /var/lib/waystation"
    )]
    Ledger(LedgerCommand),
    /// Make a CT series of an invented patient to try things with
    #[command(after_help = "\
Example:
  waystation phantom /tmp/phantom --slices 20")]
    Phantom(Phantom),
}

const RUN_EXAMPLES: &str = "\
Examples:
  A first try, anybody may send, everything goes into a folder, which must exist:
    mkdir -p /tmp/arrived
    waystation run --data /tmp/waystation --aet WAYSTATION --listen 0.0.0.0:11112 \\
        --to folder=file:///tmp/arrived --allow-any

  Into the archive over TLS, both sides showing certificates:
    waystation run --data /var/lib/waystation --aet WAYSTATION --listen 0.0.0.0:11112 \\
        --to archive=dicoms://ARCHIVE@archive.example.org:2762 \\
        --ca ca.pem --cert gateway.crt --key gateway.key --allow-any

  In a clinic: modalities, limits and everything else in a file:
    waystation run --config /etc/waystation/waystation.toml

A flag wins over the same setting in the file. --listen and --listen-tls replace the whole list,
--to replaces the destination of that name or adds one, --allow-any replaces the list of modalities.
SIGTERM and Ctrl-C finish what is in flight and stop; nothing is lost at a harder stop either.";

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Configuration file; config/waystation.toml explains every setting
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that keeps what was received until it is delivered
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Our AE title, which modalities call
    #[arg(long, value_name = "NAME")]
    aet: Option<String>,
    /// Accept associations here; may be given several times
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// Accept associations over TLS here; may be given several times; needs --cert and --key
    #[arg(long, value_name = "ADDR:PORT")]
    listen_tls: Vec<String>,
    /// Deliver everything there; may be given several times: dicoms://AET@host:port, dicom://AET@host:port,
    /// https://host/path (DICOMweb) or file:///folder
    #[arg(long, value_name = "NAME=URL")]
    to: Vec<String>,
    /// Certificates of the authorities we trust, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Revocation lists of these authorities, in PEM
    #[arg(long, value_name = "FILE")]
    crl: Option<PathBuf>,
    /// Our certificate, in PEM
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The private key of our certificate, in PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Whether modalities must show a certificate at --listen-tls: required (the default), optional or none
    #[arg(long, value_name = "POLICY")]
    tls_client_certificates: Option<String>,
    /// Admit every modality that reaches the port; for a first try only
    #[arg(long)]
    allow_any: bool,
}

impl Run {
    fn flags(&self) -> Flags {
        Flags {
            data: self.data.clone(),
            aet: self.aet.clone(),
            listen: self.listen.clone(),
            listen_tls: self.listen_tls.clone(),
            to: self.to.clone(),
            ca: self.ca.clone(),
            crl: self.crl.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            tls_client_certificates: self.tls_client_certificates.clone(),
            allow_any: self.allow_any,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckConfig {
    /// The configuration file
    file: PathBuf,
    /// A socket that systemd will hand over, dicom or dicom-tls, so that listen or listen-tls is not needed; may be
    /// given several times
    #[arg(long, value_name = "NAME")]
    socket: Vec<String>,
}

/// Who we are towards a DICOM application that a command calls itself.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// Our AE title
    #[arg(long, value_name = "NAME", default_value = "WAYSTATION")]
    aet: AeTitle,
    /// Certificates of the authorities we trust, in PEM; needed for dicoms:// and https://
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Revocation lists of these authorities, in PEM
    #[arg(long, value_name = "FILE", requires = "ca")]
    crl: Option<PathBuf>,
    /// Our certificate, in PEM, if the other side asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of our certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// How long to wait for the connection, and for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Echo {
    /// Whom to ask: dicom://AET@host:port, dicoms://AET@host:port, or https://host/path for a DICOMweb service
    pub(crate) url: DestinationUrl,
    #[command(flatten)]
    pub(crate) peer: Peer,
    /// A file with a bearer token, for https://
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    token_file: Option<PathBuf>,
    /// Our name at the service, for https://
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// A file with the password to it
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Where to send: dicom://AET@host:port or dicoms://AET@host:port
    pub(crate) url: DestinationUrl,
    /// DICOM files, and folders of them with everything below
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) peer: Peer,
}

#[derive(Debug, Args)]
pub(crate) struct Ask {
    /// The data folder of the gateway that is asked
    #[arg(long, value_name = "DIR", default_value = DATA)]
    pub(crate) data: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receipts {
    #[command(flatten)]
    pub(crate) ask: Ask,
    /// Only those in this state: queued, delivered, confirmed or parked
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<DeliveryState>,
}

fn state(text: &str) -> Result<DeliveryState, String> {
    match text {
        "queued" => Ok(DeliveryState::Queued),
        "delivered" => Ok(DeliveryState::Delivered),
        "confirmed" => Ok(DeliveryState::Confirmed),
        "parked" => Ok(DeliveryState::Parked),
        _ => Err("queued, delivered, confirmed or parked are possible".into()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    /// Read everything in the log, and tell whether it is whole; changes nothing
    ///
    /// Exit status: 0 all is well; 1 something is damaged, and it is named.
    Check(DataFolder),
    /// Build the index again from the log; the old one is set aside
    ///
    /// Whatever is still on the disk is queued for all its destinations again, what was delivered already included.
    Reindex(DataFolder),
    /// Write everything that was not delivered as DICOM files, with a list; changes nothing in the data folder
    ///
    /// Works without the index, too: then everything in the log comes out. It can be started again at any time.
    Rescue {
        #[command(flatten)]
        data: DataFolder,
        /// Where to put the files, as STUDY/SERIES/INSTANCE.dcm, and rescued.csv; it is created if need be
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Read every line, and tell whether the chain of hashes is whole; changes nothing, also beside a gateway that runs
    ///
    /// Exit status: 0 all is well; 1 something was changed or is missing, and it is named.
    Check {
        /// The data folder of the gateway
        #[arg(long, value_name = "DIR", default_value = DATA)]
        data: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DataFolder {
    /// The data folder of a gateway that does not run
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Phantom {
    /// Where to put the files; it is created if need be
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// How many slices
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) slices: u16,
}

impl Arguments {
    /// Reads the command line. Help and version are printed here; so is what is wrong, with exit status 64.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            // Where neither output is open there is nobody to tell.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(commands::USAGE) } else { ExitCode::SUCCESS }
        })
    }

    /// `--log`, else `WAYSTATION_LOG`, else info.
    pub(crate) fn log_level(&self) -> Result<LevelFilter, Failure> {
        if let Some(level) = self.log {
            return Ok(level);
        }
        match std::env::var("WAYSTATION_LOG") {
            Ok(level) => level.parse().map_err(|_| {
                Failure::Usage(format!("WAYSTATION_LOG={level:?} is no level; use error, warn, info, debug or trace"))
            }),
            Err(_) => Ok(LevelFilter::Info),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_first_run_of_the_help_can_be_typed() {
        let joined = FIRST_RUN.replace("\\\n", " ");
        let commands = joined.lines().filter(|line| line.trim_start().starts_with("waystation "));
        let commands: Vec<_> = commands.map(|line| line.split("  (").next().unwrap_or(line).trim()).collect();
        assert_eq!(commands.len(), 4);
        // A folder destination is never created by the gateway: whoever types this would wait for ever.
        assert!(joined.find("mkdir -p /tmp/arrived") < joined.find("--to folder=file:///tmp/arrived"));
        for command in commands {
            parse(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }

    #[test]
    fn the_flags_of_run_reach_the_configuration() {
        let line = "waystation run --data /d --aet A --listen 1.2.3.4:1 --listen 1.2.3.4:2 --listen-tls 1.2.3.4:3 \
                    --to a=file:///x --to b=file:///y --ca ca --crl l --cert c --key k --tls-client-certificates none --allow-any";
        let Command::Run(run) = parse(line).unwrap().command else { panic!("not run") };
        let flags = run.flags();
        assert_eq!(flags.listen, ["1.2.3.4:1", "1.2.3.4:2"]);
        assert_eq!(flags.to, ["a=file:///x", "b=file:///y"]);
        assert_eq!(flags.listen_tls, ["1.2.3.4:3"]);
        assert_eq!(flags.tls_client_certificates.as_deref(), Some("none"));
        assert!(
            flags.allow_any && flags.ca.is_some() && flags.crl.is_some() && flags.cert.is_some() && flags.key.is_some()
        );
    }

    #[test]
    fn the_door_has_its_commands() {
        for line in ["", " --json", " show ct1", " admit us2 --as echolab --data /d --json", " forget us2 --data /d"] {
            parse(&format!("waystation door{line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn the_ledger_is_checked_where_a_service_has_it_unless_told_otherwise() {
        let Command::Ledger(LedgerCommand::Check { data }) = parse("waystation ledger check").unwrap().command else {
            panic!("not ledger")
        };
        assert_eq!(data, PathBuf::from(DATA));
        parse("waystation ledger check --data /d").unwrap();
    }

    #[test]
    fn every_example_of_the_help_can_be_typed() {
        let mut examples = 0;
        for command in Arguments::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let joined = help.replace("\\\n", " ");
            for line in joined.lines().map(str::trim).filter(|line| line.starts_with("waystation ")) {
                let line = line.split(" (").next().unwrap_or(line);
                parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                examples += 1;
            }
        }
        assert!(examples > 20, "{examples}");
    }

    #[test]
    fn what_is_to_be_tried_again_must_be_named_once() {
        for line in ["archive", "archive --study 1.2", "--instance 1.2.3", "--instance 17 --data /d"] {
            parse(&format!("waystation retry {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in ["", "--study 1.2 --instance 1.2.3", "--study x"] {
            assert!(parse(&format!("waystation retry {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn wrong_urls_and_names_are_refused_at_once_with_the_right_form() {
        let error = parse("waystation echo pacs:104").unwrap_err().to_string();
        assert!(error.contains("Write dicoms://AET@host:port"), "{error}");
        assert!(parse("waystation retry Archive").is_err());
        assert!(parse("waystation send dicom://A@h:104").is_err(), "nothing to send");
        assert!(parse("waystation echo dicom://A@h:104 --cert x").is_err(), "a certificate without its key");
        assert!(parse("waystation run --log loud").is_err());
        assert!(parse("waystation door admit ../x").is_err());
    }
}
