//! The validated configuration as the rest of the gateway sees it: plain typed values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::admission::Admission;
use super::finding::Finding;
use super::url::DestinationUrl;
use super::web::WebSettings;
use crate::association::IdentityForm;
use crate::dataset::coerce::Change;
use crate::model::{AeTitle, DestinationName};
use crate::routing::{Condition, Rules};
use crate::shaping::Shaping;
use crate::spool::Conflicts;
use crate::tls::{ClientCertificates, TlsFiles};

/// Everything the gateway is told before it starts. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `data`: the folder that holds the log, the index and the control socket.
    pub data: PathBuf,
    /// `aet`: the AE title that modalities call, and that destinations are called with.
    pub aet: AeTitle,
    /// `listen`: where associations are accepted in the clear.
    pub listen: Vec<SocketAddr>,
    /// `listen-tls`: where associations are accepted over TLS. Not empty only if `tls` has an identity.
    pub listen_tls: Vec<SocketAddr>,
    /// `ca`, `crl`, `cert`, `key`: they have been opened and parsed once. `None` if none of them is given.
    pub tls: Option<TlsFiles>,
    /// `tls-client-certificates`: whether a modality has to show a certificate at `listen-tls`.
    pub client_certificates: ClientCertificates,
    /// `allow-any` or `[modality.*]`: who may send.
    pub admission: Admission,
    /// `[rule.*]`: where instances go, and what goes first, before the modality is asked.
    pub rules: Rules,
    /// `user-identity`: in which forms a user may be identified (PS3.7 D.3.3.7). `None`: it is not negotiated.
    pub user_identity: Option<Vec<IdentityForm>>,
    /// `[to.*]`: where instances go, in the order in which it was given. Never empty.
    pub destinations: Vec<Destination>,
    /// `[link]`: how much of the link may be used by everything that leaves.
    pub link: Shaping,
    /// `[coerce.*]`: what is changed on the way to a destination, in the order in which it was given.
    pub coercions: Vec<Coercion>,
    /// `[limits]`
    pub limits: Limits,
    /// `[spool]`
    pub spool: SpoolSettings,
    /// `[delivery]`
    pub delivery: DeliverySettings,
    /// `[retry]`
    pub retry: RetrySettings,
    /// `[commitment]`
    pub commitment: CommitmentSettings,
    /// `[drain]`
    pub drain: DrainSettings,
    /// What is allowed but unwise.
    pub warnings: Vec<Finding>,
}

impl Config {
    /// Where an instance goes that neither a rule nor its modality sends anywhere else: to every destination that stands in
    /// for no other.
    #[must_use]
    pub fn default_destinations(&self) -> Vec<DestinationName> {
        let own = self.destinations.iter().filter(|destination| destination.stands_in.is_none());
        own.map(|destination| destination.name.clone()).collect()
    }
}

/// One place that instances are delivered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name in the configuration, in the log and in every record of a delivery.
    pub name: DestinationName,
    /// Where it is.
    pub url: DestinationUrl,
    /// `stands-in-for`, `stand-in-after`: it gets what waits for another one while that one is away.
    pub stands_in: Option<StandIn>,
    /// `max-instance`: what it is known to take at most in one instance, in bytes of the data set.
    pub max_instance: Option<u64>,
    /// `max-transfer`: how long one instance may take before it, or something on the way, is known to break off.
    pub max_transfer: Option<Duration>,
    /// `associations`: how many there are with it at most at the same time. Of no meaning for others than DICOM archives.
    pub associations: usize,
    /// `compress`: whether instances are made smaller for the way where it takes a transfer syntax for that, and it pays.
    /// A DICOMweb service is believed to take it if this is said, and only then.
    pub compress: bool,
    /// How much of the link may be used by what goes there.
    pub shaping: Shaping,
    /// `verify`: how it is asked, after a delivery, whether it has the instance for good. `None`: not at all.
    pub verify: Option<Verification>,
    /// What else there is to say of a DICOMweb destination; there exactly if the URL is of one.
    pub web: Option<WebSettings>,
}

/// A destination that does the work of another one while that one is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIn {
    /// `stands-in-for`: the one whose queue it takes from.
    pub whom: DestinationName,
    /// `stand-in-after`: for how long that one must have failed, without a success in between.
    pub after: Duration,
}

/// `[coerce.NAME]`: attributes that are changed in what some destinations get (PS3.4 B.4.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coercion {
    /// The name that the configuration gives it; built like the name of a destination.
    pub name: DestinationName,
    /// The destinations that get it so. Never empty.
    pub to: Vec<DestinationName>,
    /// Of which instances; all must fit. Calling AE titles and modalities only: that is what is known of an instance later.
    pub conditions: Vec<Condition>,
    /// Each attribute once. Never empty.
    pub changes: Vec<Change>,
}

/// How a destination is asked after a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// `verify`: by what.
    pub by: VerifyBy,
    /// `verify-after`: not before this time after the delivery.
    pub after: Duration,
    /// `verify-patience`: how long an answer may take until it is asked again.
    pub patience: Duration,
}

/// By what a destination is asked whether it has an instance for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyBy {
    /// Storage commitment (PS3.4 Annex J).
    Commitment,
    /// C-FIND (PS3.4 Annex C).
    Query,
}

/// `[limits]`: what one peer, or all of them together, may take from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `max-associations`: open incoming associations together. One more is answered with a transient rejection.
    pub max_associations: u32,
    /// `max-associations-per-address`: open incoming associations from one IP address.
    pub max_associations_per_address: u32,
    /// `max-pdu`: the longest P-DATA-TF PDU accepted and offered, in bytes (PS3.8 9.3.1).
    pub max_pdu: u32,
    /// `association-timeout`: from the accepted connection to the end of the negotiation, TLS included (the ARTIM
    /// timer of PS3.8 9.1.5).
    pub association_timeout: Duration,
    /// `idle-timeout`: how long an incoming association may stay open without a message.
    pub idle_timeout: Duration,
    /// `min-rate`: bytes per second below which a peer in the middle of a message is cut off.
    pub min_rate: u32,
}

/// `[spool]`: how instances are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolSettings {
    /// `segment-size`: size in bytes of one preallocated segment of the log.
    pub segment_size: u64,
    /// `reserve`: free bytes of the file system below which nothing more is received.
    pub reserve: u64,
    /// `evict-below`: free bytes below which copies that every destination has confirmed are freed, the oldest first.
    /// Never less than `reserve`.
    pub evict_below: u64,
    /// `warn-below`: free bytes below which `status` warns. Never less than `evict_below`.
    pub warn_below: u64,
    /// `keep-delivered`: how long an instance stays after every destination has confirmed it, unless room is needed.
    pub keep_delivered: Duration,
    /// `keep-records`: how long an instance that was freed is remembered.
    pub keep_records: Duration,
    /// `conflicts`: what happens to the second of two instances with one SOP Instance UID and different content.
    pub conflicts: Conflicts,
    /// `scrub-rate`: bytes per second at which everything on the disk is read and checked; 0 for never.
    pub scrub_rate: u64,
    /// `compression-level`: zstd level of payloads at rest, 1 to 19.
    pub compression_level: i32,
}

/// `[delivery]`: how long a destination is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverySettings {
    /// `connect-timeout`: for the TCP connection, the TLS handshake and the association together.
    pub connect_timeout: Duration,
    /// `response-timeout`: for the C-STORE response, from the last byte sent.
    pub response_timeout: Duration,
}

/// `[retry]`: what happens after a delivery that failed. There is no last try for transient failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// `first-delay`: the delay after the first failure; it doubles with each further one.
    pub first_delay: Duration,
    /// `max-delay`: the longest delay between two tries. Never shorter than `first_delay`.
    pub max_delay: Duration,
    /// `tries-before-parking`: how often an instance is offered to a destination that refuses this very instance,
    /// before it is set aside for a person to look at.
    pub tries_before_parking: u32,
}

/// `[commitment]`: how long a modality that asks for storage commitment is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitmentSettings {
    /// `patience`: how long an instance may take until every destination has it; then it is reported as failed.
    pub patience: Duration,
    /// `report-for`: how long beyond that a report is tried that the modality does not take.
    pub report_for: Duration,
}

/// `[drain]`: the end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// `grace`: how long what is in flight may take to finish after SIGTERM.
    pub grace: Duration,
}
