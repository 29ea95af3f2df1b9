//! The instances: small, each with other bytes, and with UIDs in no order.

use waystation::model::{DestinationName, Priority, Timestamp};
use waystation::spool::InstanceHeader;

use super::Failure;

/// The only destination.
pub(crate) fn destination() -> Result<DestinationName, Failure> {
    Ok("archive".parse()?)
}

/// A header with UIDs that were made from random numbers (PS3.5 B.2).
pub(crate) fn header() -> Result<InstanceHeader, Failure> {
    let uid = || format!("2.25.{}", fastrand::u128(..)).parse();
    Ok(InstanceHeader {
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse()?,
        sop_instance_uid: uid()?,
        study_instance_uid: Some(uid()?),
        series_instance_uid: Some(uid()?),
        transfer_syntax: "1.2.840.10008.1.2.1".parse()?,
        calling_ae: "CT1".parse()?,
        called_ae: "WAYSTATION".parse()?,
        peer: Some("192.168.1.20".parse()?),
        received_at: Timestamp::from_millis(1_780_000_000_000),
        priority: Priority::Routine,
        modality: Some("CT".to_owned()),
        destinations: vec![destination()?],
        rule: None,
        withheld: false,
    })
}

/// A data set that fits into one block of the log together with its header.
pub(crate) fn data_set() -> Vec<u8> {
    let mut bytes = vec![0; 2_048];
    fastrand::fill(&mut bytes);
    bytes
}
