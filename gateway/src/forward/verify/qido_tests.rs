//! The task against a DICOMweb service that follows a script, over a real socket.

use std::time::Duration;

use super::tests::Asking;
use super::*;
use crate::forward::tests::web::{Queries, Web};
use crate::model::InstanceId;
use crate::spool::DeliveryState;

const LONG: Duration = Duration::from_secs(3_600);

fn asking(archive: &Web) -> Asking {
    Asking::at(archive.route(50), None, VerifyBy::Query, LONG)
}

async fn kept(asking: &Asking, count: u32) -> Vec<InstanceId> {
    let mut ids = Vec::new();
    for slice in 0..count {
        ids.push(asking.keep(slice).await);
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_are_confirmed_by_few_questions_and_by_single_ones_where_lists_do_not_work() {
    for queries in [Queries::Matched, Queries::InPages, Queries::ListsNotFound, Queries::ListsRefused] {
        let archive = Web::start(|state| state.queries = queries).await;
        let asking = asking(&archive);
        for id in kept(&asking, 30).await {
            assert_eq!(asking.confirmed(id).await, (1, "found by a query".to_owned()), "{queries:?}");
        }
        assert_eq!(archive.state().arrived.len(), 30, "each was stored once");
        let asked = archive.state().asked.clone();
        assert!(asked.iter().all(|count| *count <= 20));
        if matches!(queries, Queries::ListsNotFound | Queries::ListsRefused) {
            assert!(asked.iter().filter(|count| **count > 1).count() <= 1, "{queries:?}: {asked:?}");
        }
        asking.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_and_lost_is_delivered_again_and_then_confirmed() {
    let archive = Web::start(|state| state.forgets = 1).await;
    let asking = asking(&archive);
    let id = asking.keep(0).await;
    assert_eq!(asking.confirmed(id).await.0, 2);
    assert_eq!(archive.state().arrived.len(), 2);
    asking.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_answers_with_everything_or_refuses_confirms_nothing_and_nothing_is_missing() {
    for (queries, words) in [
        (Queries::Flooded, "more than it was asked for"),
        (Queries::Say(400), "HTTP 400"),
        (Queries::Say(403), "have the right to read granted"),
        (Queries::Say(404), "HTTP 404"),
    ] {
        let archive = Web::start(|state| state.queries = queries).await;
        let asking = asking(&archive);
        let id = asking.keep(0).await;
        asking.said(id, words).await;
        asking.said(id, "cannot be confirmed like this").await;
        assert!(matches!(asking.station.state(id, "central"), Some(DeliveryState::Delivered { .. })));
        assert_eq!(archive.state().arrived.len(), 1, "{queries:?}");
        asking.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_asked_is_told_of_and_is_asked_again() {
    for (status, words) in [(401, "does not know us"), (500, "HTTP 500"), (405, "does not answer queries (QIDO-RS")] {
        let archive = Web::start(|state| state.queries = Queries::Say(status)).await;
        let asking = asking(&archive);
        let id = asking.keep(0).await;
        let mut changes = asking.destination.changes();
        let told = changes.wait_for(|health| health.verification.is_some()).await.unwrap().verification.clone();
        let sentence = told.unwrap().sentence;
        assert!(sentence.contains(words), "{sentence}");
        archive.state().queries = Queries::Matched;
        // Who does not offer it is asked again after a day, or when somebody wants to know.
        asking.destination.hasten();
        asking.confirmed(id).await;
        asking.stop().await;
    }
}

/// In virtual time: the next question is asked when Retry-After has passed, and not before.
#[tokio::test(start_paused = true)]
async fn a_service_that_wants_to_be_left_in_peace_is() {
    crate::forward::tests::in_small_steps();
    let archive = Web::start(|state| state.queries = Queries::WaitOnce(429, "600")).await;
    let asking = asking(&archive);
    let id = asking.keep(0).await;
    archive.until(|state| state.asked.len() == 1).await;
    let began = clock::of_runtime();
    asking.confirmed(id).await;
    assert!(clock::of_runtime() - began >= Duration::from_secs(600));
    asking.stop().await;
}
