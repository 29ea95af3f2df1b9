//! The tables that hold nothing but quantities, each with its bounds and its default.

use std::time::Duration;

use super::finding::Place;
use super::reader::{Bounds, Reader};
use super::settings::{CommitmentSettings, DeliverySettings, DrainSettings, Limits, RetrySettings, SpoolSettings};
use super::units::Bytes;
use crate::spool::Conflicts;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn bounds<T>(least: T, default: T, most: T) -> Bounds<T> {
    Bounds { least, default, most }
}

fn seconds(least: u64, default: u64, most: u64) -> Bounds<Duration> {
    let [least, default, most] = [least, default, most].map(Duration::from_secs);
    Bounds { least, default, most }
}

fn bytes(least: u64, default: u64, most: u64) -> Bounds<Bytes> {
    bounds(Bytes(least), Bytes(default), Bytes(most))
}

/// A size whose bounds lie within 32 bits.
fn small_bytes(reader: &mut Reader, table: &str, key: &str, bounds: Bounds<Bytes>) -> u32 {
    u32::try_from(reader.quantity(table, key, bounds).0).unwrap_or(u32::MAX)
}

pub(super) fn limits(reader: &mut Reader) -> Limits {
    let t = "limits";
    Limits {
        max_associations: reader.quantity(t, "max-associations", bounds(1, 100, 10_000)),
        max_associations_per_address: reader.quantity(t, "max-associations-per-address", bounds(1, 20, 10_000)),
        max_pdu: small_bytes(reader, t, "max-pdu", bytes(4 * KIB, 128 * KIB, MIB)),
        association_timeout: reader.quantity(t, "association-timeout", seconds(1, 30, 300)),
        idle_timeout: reader.quantity(t, "idle-timeout", seconds(5, 600, 86_400)),
        min_rate: small_bytes(reader, t, "min-rate", bytes(1, KIB, MIB)),
    }
}

pub(super) fn spool(reader: &mut Reader) -> SpoolSettings {
    let t = "spool";
    let level: u32 = reader.quantity(t, "compression-level", bounds(1, 1, 19));
    let day = 86_400;
    let reserve = reader.quantity(t, "reserve", bytes(16 * MIB, 512 * MIB, 1_024 * GIB)).0;
    let evict_below = reader.quantity(t, "evict-below", bytes(reserve, 2 * reserve, 8_192 * GIB)).0;
    SpoolSettings {
        segment_size: reader.quantity(t, "segment-size", bytes(16 * MIB, 64 * MIB, GIB)).0,
        reserve,
        evict_below,
        warn_below: reader.quantity(t, "warn-below", bytes(evict_below, 2 * evict_below, 16_384 * GIB)).0,
        keep_delivered: reader.quantity(t, "keep-delivered", seconds(0, 7 * day, 3_650 * day)),
        keep_records: reader.quantity(t, "keep-records", seconds(day, 365 * day, 36_500 * day)),
        conflicts: conflicts(reader),
        scrub_rate: reader.quantity(t, "scrub-rate", bytes(0, 4 * MIB, GIB)).0,
        compression_level: i32::try_from(level).unwrap_or(1),
    }
}

fn conflicts(reader: &mut Reader) -> Conflicts {
    let Some(given) = reader.text("spool", "", "conflicts") else { return Conflicts::Deliver };
    match given.value.as_str() {
        "deliver" => Conflicts::Deliver,
        "park" => Conflicts::Park,
        other => {
            let what = format!("{other:?} is not a policy");
            reader.refuse(&given, what, r#"Write "deliver" (the default) or "park"."#);
            Conflicts::Deliver
        }
    }
}

pub(super) fn delivery(reader: &mut Reader) -> DeliverySettings {
    let t = "delivery";
    DeliverySettings {
        connect_timeout: reader.quantity(t, "connect-timeout", seconds(1, 30, 600)),
        response_timeout: reader.quantity(t, "response-timeout", seconds(1, 120, 3_600)),
    }
}

pub(super) fn retry(reader: &mut Reader) -> RetrySettings {
    let t = "retry";
    let settings = RetrySettings {
        first_delay: reader.quantity(
            t,
            "first-delay",
            bounds(Duration::from_millis(100), Duration::from_secs(5), Duration::from_secs(3_600)),
        ),
        max_delay: reader.quantity(t, "max-delay", seconds(1, 900, 86_400)),
        tries_before_parking: reader.quantity(t, "tries-before-parking", bounds(1, 3, 1_000)),
    };
    if settings.max_delay < settings.first_delay {
        let entry = reader.document.get(t, "", "max-delay").or_else(|| reader.document.get(t, "", "first-delay"));
        let (place, label) = match entry {
            Some(entry) => (entry.place, entry.label),
            None => (Place::CommandLine, "retry.max-delay".to_owned()),
        };
        reader.add(place, label, "max-delay is shorter than first-delay", "Make max-delay at least as long.");
    }
    settings
}

pub(super) fn commitment(reader: &mut Reader) -> CommitmentSettings {
    let (t, day) = ("commitment", 86_400);
    CommitmentSettings {
        patience: reader.quantity(t, "patience", seconds(1, 7 * day, 365 * day)),
        report_for: reader.quantity(t, "report-for", seconds(60, 14 * day, 365 * day)),
    }
}

pub(super) fn drain(reader: &mut Reader) -> DrainSettings {
    DrainSettings { grace: reader.quantity("drain", "grace", seconds(0, 20, 60)) }
}
