//! Instances that are made smaller for the way.

use std::io::Cursor;

use super::*;
use crate::dataset::sample;
use crate::forward::compact::Workshop;
use crate::pixels::{self, JPEG_LS, Limits};

fn workshop(station: &Station) -> Option<Workshop> {
    Some(Workshop::new(station.data.path().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_leaves_in_a_transfer_syntax_in_which_it_is_smaller_if_the_archive_takes_it() {
    let both: &[&str] = &[EXPLICIT, JPEG_LS];
    for (accepts, expected) in [(both, JPEG_LS), (&[JPEG_LS], JPEG_LS), (&[EXPLICIT], EXPLICIT)] {
        let archive = Archive::start([], accepts).await;
        let mut station = Station::new();
        let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
        let made = workshop(&station);
        station.deliver_with("central", archive.route(), |settings| settings.workshop = made.clone());
        assert!(is_delivered(&station.settled(id, "central").await));
        let (_, syntax, arrived) = archive.arrived().remove(0);
        assert_eq!(syntax.as_str(), expected);
        let told = station.spool.ledger(id).unwrap();
        let sent_as = told.iter().find_map(|line| match &line.entry {
            Some(Entry::Attempted(attempted)) => Some(attempted.transfer_syntax.clone()),
            _ => None,
        });
        if expected == EXPLICIT {
            assert_eq!((arrived, sent_as), (data, Some(None)));
        } else {
            assert!(arrived.len() < data.len());
            assert_eq!(sent_as, Some(Some(uid(JPEG_LS))));
            let (stored, result) = (Cursor::new(&data), Cursor::new(&arrived));
            pixels::verify(stored, &uid(EXPLICIT), result, &uid(JPEG_LS), &Limits::default()).unwrap();
        }
        station.stop().await;
    }
}

/// Some archives accept a transfer syntax at the association and then refuse the data set.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_a_smaller_transfer_syntax_is_offered_as_it_is_stored() {
    let archive = Archive::start([Act::Answer(0xC000)], &[EXPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let (id, data) = station.keep(0, EXPLICIT, &["central"]).await;
    let made = workshop(&station);
    station.deliver_with("central", archive.route(), |settings| settings.workshop = made.clone());
    let state = station.settled(id, "central").await;
    assert!(matches!(state, DeliveryState::Delivered { attempts: 2, .. }), "{state:?}");
    let arrived = archive.arrived();
    assert_eq!(arrived.iter().map(|(_, syntax, _)| syntax.as_str()).collect::<Vec<_>>(), [JPEG_LS, EXPLICIT]);
    assert_eq!(arrived[1].2, data);
    station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_smaller_leaves_as_it_otherwise_would() {
    let archive = Archive::start([], &[IMPLICIT, JPEG_LS]).await;
    let mut station = Station::new();
    let data = [((0x0008, 0x0016), b"UI", "1.2.840.10008.5.1.4.1.1.88.11"), ((0x0008, 0x0018), b"UI", "1.2.3.4\0")]
        .map(|(tag, vr, value)| {
            sample::explicit(tag, vr, format!("{value:\0<width$}", width = value.len().next_multiple_of(2)).as_bytes())
        })
        .concat();
    let id = station.keep_as(&data, uid("1.2.3.4"), ("1.2", Priority::Routine), EXPLICIT, &["central"]).await;
    let made = workshop(&station);
    station.deliver_with("central", archive.route(), |settings| settings.workshop = made.clone());
    assert!(is_delivered(&station.settled(id, "central").await));
    assert_eq!(archive.arrived().remove(0).1.as_str(), IMPLICIT);
    station.stop().await;
}
