//! Looks after the link beside the deliveries to one destination, in a task of its own.
//!
//! - While connections are open, [`stall`](super::stall) says which of them have stopped moving: new ones are tried beside
//!   them, and those that do not go on although a new one got through are given up. Their instances keep their places and
//!   go out again at once.
//! - While the destination is away, [`lookout`](super::lookout) says when to look whether it can be reached again; the worker
//!   is told.
//!
//! A connection that was only to show that one gets through is kept for a moment, for the association that comes next.

use std::sync::Arc;

use log::info;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::destination::Destination;
use super::lookout::Lookout;
use super::open::Dialer;
use super::stall::{LOOK, Stalls, Step};
use super::wire::{Gauge, GivenUp};
use crate::clock;

/// Looks after the link for ever.
pub(super) async fn watch(destination: Arc<Destination>, dialer: Dialer) {
    tokio::join!(stalls(&destination, &dialer), outages(&destination, &dialer));
}

/// Looks after the connections that are open.
async fn stalls(destination: &Destination, dialer: &Dialer) {
    let mut stalls = Stalls::default();
    let mut dialling = JoinSet::new();
    loop {
        let open = dialer.wires.open();
        if open.is_empty() && !dialer.wires.has_spare(clock::of_runtime()) && dialling.is_empty() {
            drop(open);
            dialer.wires.opened().await;
            continue;
        }
        for step in step(&mut stalls, &open) {
            match step {
                Step::Dial(number) => {
                    let beside = open.iter().find(|gauge| gauge.number() == number).map(|gauge| gauge.peer());
                    let dialer = dialer.clone();
                    dialling.spawn(async move {
                        match beside {
                            Some(address) => dialer.look_at(address).await.is_ok(),
                            None => false,
                        }
                    });
                }
                Step::GiveUp(number, quiet) => give_up(destination, &open, number, GivenUp { quiet }),
                Step::SendAgainWithin(number, longest) => {
                    open.iter().filter(|gauge| gauge.number() == number).for_each(|g| g.send_again_within(longest));
                }
            }
        }
        // A descriptor that is held here would keep a connection open that its user has closed.
        drop(open);
        show(destination, &stalls);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            Some(done) = dialling.join_next() => match done {
                Ok(true) => stalls.connected(clock::of_runtime()),
                _ => stalls.not_connected(),
            },
        }
    }
}

fn step(stalls: &mut Stalls, open: &[Arc<Gauge>]) -> Vec<Step> {
    let in_use = open.iter().filter(|gauge| !gauge.is_given_up());
    let known: Vec<_> = in_use.filter_map(|gauge| Some((gauge.number(), gauge.info()?))).collect();
    stalls.look(clock::of_runtime(), &known)
}

fn show(destination: &Destination, stalls: &Stalls) {
    let (stalled, in_grace) = (stalls.stalled() as u64, stalls.in_grace() as u64);
    let before = destination.health();
    if (before.stalled, before.in_grace) == (stalled, in_grace) {
        return;
    }
    destination.show(|health| {
        health.interruptions += u64::from(before.stalled == 0 && stalled > 0);
        health.stalled = stalled;
        health.in_grace = in_grace;
    });
    if in_grace > before.in_grace {
        destination.queued();
    }
}

fn give_up(destination: &Destination, open: &[Arc<Gauge>], number: u64, given_up: GivenUp) {
    for gauge in open.iter().filter(|gauge| gauge.number() == number) {
        info!(destination:% = destination.name, peer:% = gauge.peer(), seconds = given_up.quiet.as_secs(); "{given_up}");
        gauge.give_up(given_up);
    }
}

/// Looks whether the destination can be reached again, while it cannot.
async fn outages(destination: &Destination, dialer: &Dialer) {
    let mut away = destination.away.subscribe();
    // The process ends when nobody is left to tell.
    while away.wait_for(Option::is_some).await.is_ok() {
        until_it_works(destination, dialer, &mut away).await;
    }
}

async fn until_it_works(destination: &Destination, dialer: &Dialer, away: &mut watch::Receiver<Option<u32>>) {
    let mut lookout = Lookout::default();
    loop {
        let pause = lookout.pause(clock::of_runtime());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Who fails again changes nothing.
            _ = away.wait_for(Option::is_none) => return,
        }
        destination.show(|health| health.looks += 1);
        if dialer.look().await.is_err() {
            lookout.not_connected();
            continue;
        }
        lookout.connected(clock::of_runtime());
        away.mark_unchanged();
        destination.link_may_be_back();
        // The attempt tells whether it works: until then there is nothing to look for.
        if away.changed().await.is_err() || away.borrow_and_update().is_none() {
            return;
        }
    }
}
