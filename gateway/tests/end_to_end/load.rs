//! Crowds at the door: whoever else comes, and whatever they do there, a modality that belongs here is served at once, and
//! memory stays bounded. How long it took is measured and told; the promise is a second.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::battery::data_sets::nest;
use crate::battery::request::widest;
use crate::support::bytes::{LAST, Request, explicit_head, identity, image, p_data, pdu, store, store_command};
use crate::support::caller::{Answer, Caller};
use crate::support::gateway::{Gateway, Setup};
use crate::support::{PATIENCE, Scratch, until};

/// The good modality, and everybody else in the test, who might be anywhere in the same network.
const ADMISSION: &str = "[modality.ct1]\naet = \"CT1\"\naddresses = [\"127.0.0.0/8\"]\n";

/// A gateway that admits one modality.
fn start(scratch: &Scratch, more: &str) -> Gateway {
    setup(scratch, more).start()
}

fn setup(scratch: &Scratch, more: &str) -> Setup {
    let folder = scratch.folder("nas");
    Setup::new(scratch.folder("data"))
        .with_folder("nas", &folder)
        .configured(&scratch.path().join("load.toml"), &format!("{ADMISSION}{more}"))
        .admitting_named()
}

/// This request, by somebody who is not admitted.
fn of_a_stranger(mut request: Vec<u8>) -> Vec<u8> {
    request[26..42].copy_from_slice(b"INTRUDER        ");
    request
}

/// One of 250 addresses of another part of the loopback network than that of the good modality.
fn stranger(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(number % 250 + 1).unwrap())
}

/// Connects from many addresses and says this; the connections stay open as long as the value.
fn crowd(port: u16, count: usize, said: &[u8]) -> Vec<Caller> {
    let arrive = |number| {
        let mut caller = Caller::try_from_address(stranger(number), port, PATIENCE).expect("the system has sockets");
        caller.send(said);
        caller
    };
    (0..count).map(arrive).collect()
}

/// How long a modality takes from its connection to the confirmed release, one instance included; the slowest of five.
fn slowest_visit(port: u16, stored: &AtomicU64) -> Duration {
    let visit = |_| {
        let name = format!("2.25.6.{}", stored.fetch_add(1, Ordering::Relaxed));
        let began = waystation::clock::now();
        let mut caller = Caller::new(port, PATIENCE);
        caller.associate();
        caller.send(&store(3, 1, &name, &image(&name, &[0x41; 512])));
        assert_eq!(caller.answer(), Answer::Status(0));
        caller.send(&pdu(5, &[0; 4]));
        assert_eq!(caller.answer(), Answer::Released);
        began.elapsed()
    };
    (0..5).map(visit).max().unwrap()
}

/// How long a modality takes whose request proposes all that there is, to the confirmed release; the slowest of five.
fn slowest_wide_visit(port: u16, request: &[u8]) -> Duration {
    let visit = |_| {
        let began = waystation::clock::now();
        let mut caller = Caller::new(port, PATIENCE);
        caller.send(request);
        assert_eq!(caller.answer(), Answer::Accept);
        caller.send(&pdu(5, &[0; 4]));
        assert_eq!(caller.answer(), Answer::Released);
        began.elapsed()
    };
    (0..5).map(visit).max().unwrap()
}

/// Runs `mischief` again and again on a thread of its own while `body` runs, and tells how often.
fn while_running<T>(mischief: impl Fn() + Send + 'static, body: impl FnOnce() -> T) -> (T, u64) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut times = 0;
        while !stopped.load(Ordering::Relaxed) {
            mischief();
            times += 1;
        }
        times
    });
    let value = body();
    stop.store(true, Ordering::Relaxed);
    (value, thread.join().unwrap())
}

#[test]
fn whatever_crowds_at_the_door_a_modality_is_served_and_memory_is_bounded() {
    const MEBIBYTE: u64 = 1 << 20;
    let scratch = Scratch::new();
    let mut gateway = start(&scratch, "[spool]\nscrub-rate = \"0B\"\n");
    let port = gateway.target().port;
    let stored = AtomicU64::new(0);
    let visit = || slowest_visit(port, &stored);
    let alone = visit();
    gateway.forget_peak_memory();
    let before = gateway.peak_memory();
    let tell = |what: &str, took: Duration| {
        let grown = gateway.peak_memory().saturating_sub(before) / 1024;
        println!("{what}: served in {took:?}; resident set grown by {grown} KiB so far");
    };
    tell("alone", alone);

    let idle = crowd(port, 500, b"");
    tell("500 idle connections from 250 addresses", visit());
    let request = widest();
    let half_open = crowd(port, 200, &request[..request.len() - 1]);
    tell("and 200 of the widest requests without their last byte", visit());
    tell("the same, by a modality with such a request", slowest_wide_visit(port, &request));

    let name = "2.25.66";
    let deep = [identity(name), nest(1_000_000, false)].concat();
    let huge = [identity(name), explicit_head(0x7FE0, 0x10, "OW", 3_500_000_000)].concat();
    for (what, data_set) in [("1,000,000 nested sequences", deep), ("3.5 GB declared in 60 bytes", huge)] {
        let mut caller = Caller::new(port, PATIENCE);
        caller.associate();
        caller.send(&store(3, 1, name, &data_set));
        assert_eq!(caller.answer(), Answer::Status(0xC000), "{what}");
        tell(what, visit());
    }

    let grown = || gateway.peak_memory().saturating_sub(before);
    assert!(grown() < 32 * MEBIBYTE, "the resident set has grown by {} bytes", grown());

    let refused = crowd(port, 200, &of_a_stranger(request));
    tell("and 200 of the widest requests that were refused", visit());
    let loris: Vec<Caller> = crowd(port, 50, &Request::default().bytes()[..10]);
    let within = within_associations(port);
    let (took, _) = while_running(one_byte_a_second([loris, within]), || {
        until("three seconds of it", PATIENCE, patience_of(Duration::from_secs(3)));
        visit()
    });
    tell("and 50 requests and 20 data sets at one byte a second", took);
    drop((idle, half_open, refused));

    let (took, times) = while_running(
        move || {
            drop(crowd(port, 20, b""));
            drop(crowd(port, 20, b"GET / HTTP/1.1\r\n\r\n"));
        },
        || {
            until("a second of it", PATIENCE, patience_of(Duration::from_secs(1)));
            visit()
        },
    );
    tell(&format!("a flood of {} connections", times * 40), took);
    assert!(grown() < 64 * MEBIBYTE, "the resident set has grown by {} bytes", grown());

    let rows = stored.load(Ordering::Relaxed);
    let counters = gateway.counters_such_that("nas", PATIENCE, |counters| counters.delivered >= rows);
    assert_eq!(counters.delivered, rows, "nothing is left of anybody else");
}

/// Associations that are in the middle of a data set, as many as one address may have.
fn within_associations(port: u16) -> Vec<Caller> {
    let begin = |_| {
        let mut caller = Caller::try_from_address(stranger(7), port, PATIENCE).unwrap();
        caller.associate();
        caller.send(&store_command(3, 1, "2.25.65"));
        caller
    };
    (0..20).map(begin).collect()
}

/// Says one byte on every connection, and rests for a second.
fn one_byte_a_second(callers: [Vec<Caller>; 2]) -> impl Fn() + Send + 'static {
    let callers = std::sync::Mutex::new(callers);
    let said = AtomicU64::new(0);
    let data = p_data(3, LAST, &[b'x'; 1000]);
    let request = Request::default().bytes();
    move || {
        let number = usize::try_from(said.fetch_add(1, Ordering::Relaxed)).unwrap();
        let mut callers = callers.lock().unwrap();
        for (callers, bytes) in callers.iter_mut().zip([&request[10..], &data]) {
            callers.iter_mut().for_each(|caller| caller.send(&bytes[number..=number]));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn patience_of(span: Duration) -> impl FnMut() -> Result<(), String> {
    let began = waystation::clock::now();
    move || if began.elapsed() >= span { Ok(()) } else { Err("not yet".to_owned()) }
}

/// More associations than the limits allow are told to come again; the places are free as soon as they are given back.
#[test]
fn associations_beyond_the_limits_are_rejected_for_the_moment_and_the_others_are_not_disturbed() {
    let scratch = Scratch::new();
    let gateway = start(&scratch, "[limits]\nmax-associations = 6\nmax-associations-per-address = 4\n");
    let port = gateway.target().port;
    let from = |address: Ipv4Addr| {
        let mut caller = Caller::try_from_address(address, port, PATIENCE).unwrap();
        caller.send(&Request::default().bytes());
        let answer = caller.answer();
        (caller, answer)
    };
    let mut first: Vec<_> = (0..4).map(|_| from(stranger(1))).collect();
    assert!(first.iter().all(|(_, answer)| *answer == Answer::Accept));
    let limit = Answer::Reject(2, 3, 2);
    assert_eq!(from(stranger(1)).1, limit, "the fifth from one address");
    let second: Vec<_> = (0..2).map(|_| from(stranger(2))).collect();
    assert!(second.iter().all(|(_, answer)| *answer == Answer::Accept));
    assert_eq!(from(stranger(3)).1, limit, "the seventh in all");
    for (caller, _) in &mut first {
        assert_eq!(caller.echo_and_release(), [Answer::Status(0), Answer::Released]);
    }
    until("a free place", PATIENCE, || match from(stranger(3)).1 {
        Answer::Accept => Ok(()),
        other => Err(other.to_string()),
    });
}

/// The process has fewer file descriptors than there are connections: it says so, loses nothing, and serves again as soon
/// as there are some.
#[test]
fn running_out_of_file_descriptors_passes() {
    let scratch = Scratch::new();
    let limits = "[limits]\nassociation-timeout = \"2s\"\n";
    let mut gateway = setup(&scratch, limits).run_by(["prlimit", "--nofile=96:96"].map(Into::into)).start();
    let port = gateway.target().port;
    let stored = AtomicU64::new(0);
    slowest_visit(port, &stored);
    let strangers = crowd(port, 300, b"");
    gateway.process().wait_for_line(0, PATIENCE, |line| line.contains("cannot accept a connection").then_some(()));
    println!("out of file descriptors: served in {:?}", slowest_visit(port, &stored));
    drop(strangers);
    println!("afterwards: served in {:?}", slowest_visit(port, &stored));
    let rows = stored.load(Ordering::Relaxed);
    let counters = gateway.counters_such_that("nas", PATIENCE, |counters| counters.delivered >= rows);
    assert_eq!((counters.delivered, counters.parked), (rows, 0));
}
