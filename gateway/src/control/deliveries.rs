//! Studies, instances and their deliveries as the control socket tells them. Pure.
//!
//! "Delivered" and "confirmed" are different words here as everywhere: `docs/delivery.md` has them all.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Amount, DeliveryState};
use crate::clock::SpoolTime;
use crate::ledger::{Line, Position};
use crate::model::{AeTitle, ContentHash, DestinationName, InstanceId, Priority, Timestamp, Uid};
use crate::spool;

/// What is known of a study. Nobody says when it is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Study {
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Uid,
    /// Its number: that of its first instance. What `before` asks for.
    pub number: InstanceId,
    /// When its first instance came.
    pub first_received_at: Timestamp,
    /// When its last one so far came.
    pub last_received_at: Timestamp,
    /// How many instances came.
    pub instances: u64,
    /// The bytes of their data sets.
    pub bytes: u64,
    /// How many of them were late: more than an hour after what was the last one until then.
    pub late: u64,
    /// Who sent them: at most eight.
    pub calling_aes: Vec<AeTitle>,
    /// Modality (0008,0060) of its instances: at most eight.
    pub modalities: Vec<String>,
    /// Somebody has asked that it goes first.
    pub expedited: bool,
    /// One for each destination that something of it goes to, by name.
    pub deliveries: Vec<StudyDelivery>,
}

/// How far the deliveries of a study to one destination are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StudyDelivery {
    /// To whom.
    pub destination: DestinationName,
    /// Not delivered yet, those being sent included.
    pub queued: Amount,
    /// Those that the destination has answered with a success.
    pub delivered: Amount,
    /// Of the delivered, those about which it has still to be asked.
    pub unverified: Amount,
    /// Of the delivered, those of which it has said afterwards that it has them for good.
    pub confirmed: Amount,
    /// Those that wait for a person.
    pub parked: Amount,
}

impl StudyDelivery {
    /// How many instances of the study go there.
    #[must_use]
    pub fn all(&self) -> u64 {
        [self.queued, self.delivered, self.parked].iter().fold(0, |sum, amount| sum.saturating_add(amount.instances))
    }

    /// Whether anything is still owed: to be delivered, or to be confirmed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        [self.queued, self.unverified, self.parked].iter().any(|amount| amount.instances > 0)
    }
}

impl From<spool::StudyView> for Study {
    fn from(view: spool::StudyView) -> Self {
        Self {
            study_instance_uid: view.study_instance_uid,
            number: view.number,
            first_received_at: view.first_received_at,
            last_received_at: view.last_received_at,
            instances: view.instances,
            bytes: view.bytes,
            late: view.late,
            calling_aes: view.calling_aes,
            modalities: view.modalities,
            expedited: view.expedited,
            deliveries: view.deliveries.into_iter().map(StudyDelivery::from).collect(),
        }
    }
}

impl From<spool::StudyDeliveries> for StudyDelivery {
    fn from(deliveries: spool::StudyDeliveries) -> Self {
        let spool::Counts { queued, parked, delivered, unverified, confirmed } = deliveries.counts;
        Self {
            destination: deliveries.destination,
            queued: queued.into(),
            delivered: delivered.into(),
            unverified: unverified.into(),
            confirmed: confirmed.into(),
            parked: parked.into(),
        }
    }
}

/// A study and some of its instances.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StudyPage {
    /// The study.
    pub study: Study,
    /// Its instances behind the one that was asked for, in order of arrival.
    pub instances: Vec<Instance>,
    /// The `after` to go on with; `None` if there is nothing behind.
    pub next: Option<InstanceId>,
}

/// One instance and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Instance {
    /// The gateway's number of the instance.
    pub number: InstanceId,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Uid,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Uid,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Option<Uid>,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Option<Uid>,
    /// The transfer syntax in which it was received and is kept.
    pub transfer_syntax: Uid,
    /// Who sent it.
    pub calling_ae: AeTitle,
    /// The address it came from.
    pub peer: Option<IpAddr>,
    /// When the gateway had it whole; the acknowledgement followed the next flush.
    pub received_at: Timestamp,
    /// Bytes of the data set as received.
    pub bytes: u64,
    /// SHA-256 of the data set as received.
    pub sha256: ContentHash,
    /// Its copy is on this disk; it is given up when every destination has it.
    pub on_disk: bool,
    /// It came more than an hour after what was the last instance of its study until then.
    pub late: bool,
    /// The rule that routed it, if one did.
    pub rule: Option<DestinationName>,
    /// That rule says that it goes nowhere.
    pub withheld: bool,
    /// One for each destination.
    pub deliveries: Vec<Delivery>,
}

/// One delivery and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delivery {
    /// To whom.
    pub destination: DestinationName,
    /// Where it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// Where a delivery stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Standing {
    /// It waits for its turn or its next attempt, or is being sent.
    Queued {
        /// Its class.
        priority: Priority,
        /// How often it was tried.
        attempts: u32,
        /// Seconds until it may be tried; 0 if that is now.
        due_in_seconds: u64,
        /// What came of the last attempt.
        last_answer: Option<String>,
        /// When that was.
        last_at: Option<Timestamp>,
    },
    /// The destination has answered that it has it.
    Delivered {
        /// When it said so.
        delivered_at: Timestamp,
        /// How many attempts it took.
        attempts: u32,
        /// What it said.
        answer: String,
        /// How it is asked for a confirmation; `None` if it is not, and delivered is the last state.
        asking: Option<Asking>,
    },
    /// It was asked after the delivery, and said that it has it for good.
    Confirmed {
        /// When it answered the delivery.
        delivered_at: Timestamp,
        /// How many attempts that took.
        attempts: u32,
        /// What it said then.
        answer: String,
        /// When it confirmed.
        confirmed_at: Timestamp,
        /// How often it was asked until then.
        asked: u32,
        /// What it said when it was asked.
        confirmation: String,
    },
    /// It waits for a person.
    Parked {
        /// Since when.
        parked_at: Timestamp,
        /// How often it was tried.
        attempts: u32,
        /// Why, and what to do.
        reason: String,
    },
}

/// A delivery that the destination has still to confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asking {
    /// Seconds until it may be asked; 0 if that is now.
    pub due_in_seconds: u64,
    /// How often it was asked.
    pub asked: u32,
    /// What it said the last time.
    pub last_answer: Option<String>,
    /// When that was.
    pub last_at: Option<Timestamp>,
}

impl Standing {
    /// The word for it.
    #[must_use]
    pub fn state(&self) -> DeliveryState {
        match self {
            Self::Queued { .. } => DeliveryState::Queued,
            Self::Delivered { .. } => DeliveryState::Delivered,
            Self::Confirmed { .. } => DeliveryState::Confirmed,
            Self::Parked { .. } => DeliveryState::Parked,
        }
    }

    fn of(state: &spool::DeliveryState, now: SpoolTime) -> Self {
        match state.clone() {
            spool::DeliveryState::Queued { priority, attempts, due, last_answer, last_at } => {
                Self::Queued { priority, attempts, due_in_seconds: due.until(now).as_secs(), last_answer, last_at }
            }
            spool::DeliveryState::Delivered { at, attempts, answer, verifying } => Self::Delivered {
                delivered_at: at,
                attempts,
                answer,
                asking: verifying.map(|verifying| Asking {
                    due_in_seconds: verifying.due.until(now).as_secs(),
                    asked: verifying.tries,
                    last_answer: verifying.last_answer,
                    last_at: verifying.last_at,
                }),
            },
            spool::DeliveryState::Confirmed { at, attempts, answer, confirmed_at, tries, confirmation } => {
                Self::Confirmed { delivered_at: at, attempts, answer, confirmed_at, asked: tries, confirmation }
            }
            spool::DeliveryState::Parked { at, attempts, reason } => Self::Parked { parked_at: at, attempts, reason },
        }
    }
}

impl Instance {
    /// What the spool knows of an instance, at the moment `now` of its timeline.
    #[must_use]
    pub fn of(view: &spool::InstanceView, now: SpoolTime) -> Self {
        let header = &view.header;
        let delivery = |delivery: &spool::DeliveryView| Delivery {
            destination: delivery.destination.clone(),
            standing: Standing::of(&delivery.state, now),
        };
        Self {
            number: view.id,
            sop_instance_uid: header.sop_instance_uid.clone(),
            sop_class_uid: header.sop_class_uid.clone(),
            study_instance_uid: header.study_instance_uid.clone(),
            series_instance_uid: header.series_instance_uid.clone(),
            transfer_syntax: header.transfer_syntax.clone(),
            calling_ae: header.calling_ae.clone(),
            peer: header.peer,
            received_at: header.received_at,
            bytes: view.length,
            sha256: view.hash,
            on_disk: view.stored_length.is_some(),
            late: view.late,
            rule: header.rule.clone(),
            withheld: header.withheld && header.destinations.is_empty(),
            deliveries: view.deliveries.iter().map(delivery).collect(),
        }
    }
}

/// A part of the receipt of a study: `waystation receipt` puts them together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptPage {
    /// What stands above everything.
    pub header: ReceiptHeader,
    /// Its instances behind the one that was asked for, in order of arrival.
    pub instances: Vec<ReceiptInstance>,
    /// The `after` to go on with; `None` if there is nothing behind.
    pub next: Option<InstanceId>,
}

/// What a receipt is of, and how far the study is in words.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptHeader {
    /// When it was made.
    pub made_at: Timestamp,
    /// The AE title of the gateway that made it.
    pub gateway: AeTitle,
    /// Its version.
    pub version: String,
    /// The study in sentences: the worst of it, then one for each destination.
    pub sentences: Vec<String>,
    /// How the lines of the ledger are checked.
    pub check: String,
    /// The study.
    pub study: Study,
}

/// The proof for one instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ReceiptInstance {
    /// What was received, and what became of it.
    #[serde(flatten)]
    pub instance: Instance,
    /// The lines of the ledger about it, in order.
    #[serde(default)]
    pub ledger: Vec<LedgerLine>,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LedgerLine {
    /// The file in the folder of the ledger.
    pub file: String,
    /// The number of the line, through all files.
    pub n: u64,
    /// SHA-256 of the line without its newline, which the next line repeats.
    pub sha256: String,
    /// The line itself, without its newline.
    pub line: String,
}

impl From<Line> for LedgerLine {
    fn from(line: Line) -> Self {
        let Position { place, n, hash } = line.position;
        Self { file: place.file.file_name(), n, sha256: hash.to_string(), line: line.text }
    }
}

/// The answer to the wish that a study goes first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expedited {
    /// How many deliveries that has changed.
    pub changed: u64,
}
