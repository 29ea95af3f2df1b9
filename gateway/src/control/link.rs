//! How the link does, for the box and for each destination beyond a network.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::server::{Failed, Gateway};
use super::{Activity, Amount};
use crate::clock;
use crate::config::DestinationUrl;
use crate::forward::Destination;
use crate::forward::pace::Standing;
use crate::forward::pacer;
use crate::forward::wire::Volume;
use crate::model::DestinationName;
use crate::spool::DestinationStatus;

/// How the link does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// Everything together.
    pub whole: Standing,
    /// Why the link is used worse than it could be, if the system is to blame: a sentence.
    pub missing: Option<String>,
    /// Each destination beyond a network, in the order of the configuration.
    pub destinations: Vec<To>,
}

/// How the link to one destination does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct To {
    /// Its name in the configuration.
    pub name: DestinationName,
    /// What its worker is doing.
    pub activity: Activity,
    /// Associations, or connections, that are open or being opened.
    pub associations: u64,
    /// Instances that are being sent.
    pub sending: u64,
    /// Deliveries not made yet, those being sent included; bytes of the data sets as they are stored.
    pub queued: Amount,
    /// What holds for it, and what has gone of late.
    pub standing: Standing,
    /// What went over the link since the process began.
    pub volume: Volume,
    /// The round trip at the moment, in milliseconds: the shortest of its connections. `None` while nothing is sent.
    pub round_trip_ms: Option<u64>,
    /// The shortest round trip of the last minutes, in milliseconds.
    pub shortest_round_trip_ms: Option<u64>,
    /// What was delivered since the process began, in bytes of the data sets as they are stored.
    pub delivered_bytes: u64,
    /// What has left for that: less, where instances were made smaller for the way.
    pub left_bytes: u64,
    /// Connections that ended with something on them since the process began, because the link was interrupted.
    pub cuts: u64,
    /// Bytes that were sent twice because of that.
    pub sent_twice_bytes: u64,
    /// Seconds until nothing waits any more, if it goes on like this; `None` if that cannot be said.
    pub empty_in_seconds: Option<u64>,
}

pub(super) async fn link(State(gateway): State<Arc<Gateway>>) -> Result<Json<Link>, Failed> {
    let queues = tokio::task::block_in_place(|| gateway.spool.status())?.destinations;
    let local = pacer::local();
    let beyond = gateway.destinations.iter().filter(|(url, _)| !matches!(url, DestinationUrl::Folder(_)));
    let destinations = beyond.map(|(_, destination)| {
        let queue = queues.iter().find(|queue| queue.name == destination.name);
        to(destination, queue, destination.pace().standing(local))
    });
    let destinations: Vec<_> = destinations.collect();
    let missing = crate::forward::socket::missing();
    Ok(Json(Link { whole: gateway.link.standing(local), missing, destinations }))
}

fn to(destination: &Destination, queue: Option<&DestinationStatus>, standing: Standing) -> To {
    let (health, wires) = (destination.health(), destination.wires());
    let infos: Vec<_> = wires.open().iter().filter_map(|gauge| gauge.info()).collect();
    let fresh = infos.iter().filter(|info| info.in_flight > 0).map(|info| info.round_trip).min();
    let shortest = infos.iter().map(|info| info.shortest_round_trip).min();
    let queued = queue.map_or_else(Amount::default, |queue| queue.queued.into());
    let rate = health.flow.stored_per_second(clock::now());
    To {
        name: destination.name.clone(),
        activity: health.activity,
        associations: health.associations,
        sending: health.sending,
        empty_in_seconds: rate.and_then(|rate| queued.bytes.checked_div(rate)),
        queued,
        delivered_bytes: health.gain.stored,
        left_bytes: health.gain.sent,
        cuts: health.cuts.given_up.saturating_add(health.cuts.broken),
        sent_twice_bytes: health.cuts.bytes,
        standing,
        volume: wires.volume(),
        round_trip_ms: fresh.map(millis),
        shortest_round_trip_ms: shortest.map(millis),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
