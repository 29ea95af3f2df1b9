//! Bad input: everything of the list, one case after the other, against the real binary, while an association of a good
//! modality runs through all the while.
//!
//! A case is data: what is sent, in which steps, and what has to be answered. For each of them the time to the answer is
//! measured. The table is in `target/battery.md`.
//!
//! # How memory is measured
//!
//! The growth is the peak of the resident set (`VmHWM`) over all cases, less what is resident when they begin: after good
//! modalities have done the largest of what good ones do. The allocator is told to keep to one arena and the scrub to
//! rest, so that the figure is what bad input costs, and not what eight threads and the reading of old instances do.

pub(crate) mod data_sets;
mod honest;
mod messages;
pub(crate) mod request;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::bytes::{LAST, Request, image, item, p_data, pdu, store, store_command};
use crate::support::caller::{Answer, Caller};
use crate::support::gateway::{Gateway, Setup};
use crate::support::{PATIENCE, Scratch, repository, until};
use honest::Modality;

/// What one case does.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    ByteByByte(Vec<u8>),
    /// Requests an association and waits until it is accepted.
    Associate,
    HalfClose,
    Reset,
}

/// What it has to be answered with.
#[derive(Clone, PartialEq, Eq)]
enum Expected {
    /// These, in this order. After an acceptance or a response the association must still work.
    Answers(Vec<Answer>),
    /// The end of the connection, with or without a word.
    TurnedAway,
}

#[derive(Clone)]
struct Case {
    chapter: &'static str,
    name: String,
    steps: Vec<Step>,
    expected: Expected,
    /// How many instances are kept of it.
    rows: u64,
}

impl Case {
    fn new(chapter: &'static str, name: &str, steps: Vec<Step>, expected: &[Answer]) -> Self {
        Self { chapter, name: name.to_owned(), steps, expected: Expected::Answers(expected.to_vec()), rows: 0 }
    }

    /// Sent as the first thing on a connection.
    fn at_port(chapter: &'static str, name: &str, bytes: Vec<u8>, expected: &[Answer]) -> Self {
        Self::new(chapter, name, vec![Step::Send(bytes)], expected)
    }

    /// Sent on an association.
    fn associated(chapter: &'static str, name: &str, bytes: &[u8], expected: &[Answer]) -> Self {
        Self::new(chapter, name, vec![Step::Associate, Step::Send(bytes.to_vec())], expected)
    }

    fn turned_away(chapter: &'static str, name: &str, bytes: Vec<u8>) -> Self {
        let case = Self::at_port(chapter, name, bytes, &[]);
        Self { expected: Expected::TurnedAway, ..case }
    }
}

/// What came of a case.
struct Outcome {
    answers: Vec<Answer>,
    /// From the last byte sent to the last answer.
    took: Duration,
    address: SocketAddr,
    passed: bool,
    /// By how much the peak of the resident set has grown meanwhile, in bytes.
    grown: u64,
}

/// How long an answer is waited for; how long it takes is measured.
const LIMIT: Duration = Duration::from_secs(60);

fn run(case: &Case, port: u16) -> Outcome {
    let mut caller = Caller::new(port, LIMIT);
    let address = caller.address();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => caller.send(bytes),
            Step::ByteByByte(bytes) => bytes.chunks(1).for_each(|byte| caller.send(byte)),
            Step::Associate => caller.associate(),
            Step::HalfClose => caller.half_close(),
            Step::Reset => {
                caller.reset();
                return Outcome { answers: Vec::new(), took: Duration::ZERO, address, passed: true, grown: 0 };
            }
        }
    }
    let sent = waystation::clock::now();
    match &case.expected {
        Expected::TurnedAway => {
            // It may be told why first.
            let answer = caller.answer();
            let took = sent.elapsed();
            let passed = matches!(answer, Answer::Close | Answer::Foreign | Answer::Abort(2, 1 | 6));
            Outcome { answers: vec![answer], took, address, passed, grown: 0 }
        }
        Expected::Answers(expected) => {
            let answers: Vec<Answer> = expected.iter().map(|_| caller.answer()).collect();
            let took = sent.elapsed();
            let passed = answers == *expected && still_works(&mut caller, expected.last());
            Outcome { answers, took, address, passed, grown: 0 }
        }
    }
}

/// After an answer that ends nothing, the association can still be used and released; after the others, it is over.
fn still_works(caller: &mut Caller, last: Option<&Answer>) -> bool {
    match last {
        Some(Answer::Status(_)) => caller.echo_and_release() == [Answer::Status(0), Answer::Released],
        Some(Answer::Accept) => {
            caller.send(&pdu(5, &[0; 4]));
            caller.answer() == Answer::Released
        }
        _ => true,
    }
}

/// Lets the system's idea of the peak begin anew, and tells what is resident now, in bytes.
fn resident(gateway: &Gateway) -> u64 {
    gateway.forget_peak_memory();
    gateway.peak_memory()
}

/// Good modalities that do the largest of what good ones do, several at a time: the widest request, PDUs of the length
/// that was announced, images of some megabytes of noise and of nothing, a deflated one. What that takes of memory, bad
/// input may take, too. Gives the number of instances.
fn warm_up(port: u16) -> u64 {
    const MODALITIES: u8 = 8;
    let modality = |number: u8| {
        let mut caller = Caller::new(port, LIMIT);
        caller.send(&request::widest());
        assert_eq!(caller.answer(), Answer::Accept);
        let mut caller = Caller::new(port, LIMIT);
        caller.associate();
        let mut random = fastrand::Rng::with_seed(u64::from(number));
        let pixels: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(6 << 20).collect();
        let (large, deflated) = (format!("2.25.31.{number}"), format!("2.25.32.{number}"));
        caller.send(&store_command(3, 1, &large));
        let data_set = image(&large, &pixels);
        let (last, others) = data_set.as_chunks::<131_000>();
        last.iter().for_each(|piece| caller.send(&p_data(3, 0, piece)));
        caller.send(&p_data(3, LAST, others));
        assert_eq!(caller.answer(), Answer::Status(0));
        caller.send(&store(7, 2, &deflated, &data_sets::deflated(&image(&deflated, &pixels[..1 << 20]))));
        assert_eq!(caller.answer(), Answer::Status(0));
        let even = format!("2.25.33.{number}");
        caller.send(&store(3, 3, &even, &image(&even, &vec![0; 4 << 20])));
        assert_eq!(caller.answer(), Answer::Status(0));
        assert_eq!(caller.echo_and_release(), [Answer::Status(0), Answer::Released]);
    };
    std::thread::scope(|scope| (0..MODALITIES).for_each(|number| drop(scope.spawn(move || modality(number)))));
    3 * u64::from(MODALITIES)
}

/// Waits until the gateway knows so many instances and has delivered them all.
fn wait_until_delivered(gateway: &mut Gateway, rows: u64) {
    let counters = gateway.counters_such_that("nas", PATIENCE, |counters| {
        counters.undelivered == 0 && counters.delivered + counters.parked >= rows
    });
    assert_eq!((counters.delivered, counters.parked), (rows, 0), "instances that are there, and that should be");
}

#[test]
fn bad_input_is_answered_at_once_and_disturbs_nobody() {
    const ADMISSION: &str =
        "[modality.ct1]\naet = \"CT1\"\naddresses = [\"127.0.0.0/8\"]\n[spool]\nscrub-rate = \"0B\"\n";
    let scratch = Scratch::new();
    let folder = scratch.folder("nas");
    let mut gateway = Setup::new(scratch.folder("data"))
        .with_folder("nas", &folder)
        .configured(&scratch.path().join("battery.toml"), ADMISSION)
        .admitting_named()
        .environment("MALLOC_ARENA_MAX", "1")
        .start();
    let port = gateway.target().port;
    let cases = [request::cases(), messages::cases(), data_sets::cases()].concat();
    assert!(cases.len() >= 150, "{} cases", cases.len());

    let modality = Modality::start(port);
    modality.wait_for(200);
    let warm = warm_up(port);
    gateway.counters_such_that("nas", PATIENCE, |counters| counters.delivered >= 200 + warm);
    let before = resident(&gateway);
    let mut peak = before;
    let measured = |case: &Case| {
        let outcome = run(case, port);
        let grown = gateway.peak_memory().saturating_sub(peak);
        peak += grown;
        Outcome { grown, ..outcome }
    };
    let outcomes: Vec<Outcome> = cases.iter().map(measured).collect();
    let growth = gateway.peak_memory().saturating_sub(before);
    let stored = modality.stop();
    wait_until_everybody_is_told(&outcomes, &gateway);

    let report = report(&cases, &outcomes, &gateway, (before, growth), &stored);
    std::fs::write(repository().join("target/battery.md"), &report).unwrap();
    println!("{}", report.lines().take_while(|line| !line.starts_with('|')).collect::<Vec<_>>().join("\n"));

    let failed: Vec<String> =
        cases.iter().zip(&outcomes).filter(|(_, outcome)| !outcome.passed).map(describe).collect();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
    assert!(growth < 1 << 20, "the resident set has grown by {growth} bytes");
    let rows = stored.count + warm + cases.iter().map(|case| case.rows).sum::<u64>();
    wait_until_delivered(&mut gateway, rows);
    assert_no_control_characters(&gateway.all_lines());
    assert!(gateway.process().is_running());
}

fn describe((case, outcome): (&Case, &Outcome)) -> String {
    let answers: Vec<String> = outcome.answers.iter().map(ToString::to_string).collect();
    format!("{}: {}: {} after {:?}", case.chapter, case.name, answers.join(", "), outcome.took)
}

fn assert_no_control_characters(lines: &[String]) {
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// Waits until every abort and every rejection has a sentence in the log, which comes when the connection is closed.
fn wait_until_everybody_is_told(outcomes: &[Outcome], gateway: &Gateway) {
    let is_told = |outcome: &&Outcome| matches!(outcome.answers.last(), Some(Answer::Abort(..) | Answer::Reject(..)));
    until("a sentence in the log for everybody", PATIENCE, || {
        let told = sentences(&gateway.all_lines());
        let words =
            |outcome: &Outcome| told.get(&outcome.address.to_string()).map_or(0, |line| line.split(' ').count());
        match outcomes.iter().filter(is_told).find(|outcome| words(outcome) <= 8) {
            Some(outcome) => Err(format!("none for {}", outcome.address)),
            None => Ok(()),
        }
    });
}

fn report(
    cases: &[Case],
    outcomes: &[Outcome],
    gateway: &Gateway,
    (before, growth): (u64, u64),
    stored: &honest::Stored,
) -> String {
    let told = sentences(&gateway.all_lines());
    let mut chapters: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        let (count, slowest) = chapters.entry(case.chapter).or_default();
        *count += 1;
        *slowest = outcome.took.max(*slowest);
    }
    let slowest = cases.iter().zip(outcomes).max_by_key(|(_, outcome)| outcome.took).unwrap();
    let passed = outcomes.iter().filter(|outcome| outcome.passed).count();
    let late = outcomes.iter().filter(|outcome| outcome.took > Duration::from_secs(1)).count();
    let mut text = format!("# Bad input: {passed} of {} cases as expected\n\n", cases.len());
    writeln!(text, "Slowest answer: {:?} ({}); {late} later than 1 s.", slowest.1.took, slowest.0.name).unwrap();
    let (mebibytes, grown) = (before >> 20, growth >> 10);
    writeln!(text, "Peak of the resident set above the {mebibytes} MiB after the warm-up: {grown} KiB.").unwrap();
    writeln!(
        text,
        "Meanwhile a good modality stored {} instances on one association; slowest answer {:?}.\n",
        stored.count, stored.slowest
    )
    .unwrap();
    for (chapter, (count, slowest)) in &chapters {
        writeln!(text, "- {chapter}: {count} cases, slowest {slowest:?}").unwrap();
    }
    text.push_str("\n| chapter | case | answer | ms | KiB | log |\n|---|---|---|---|---|---|\n");
    for (case, outcome) in cases.iter().zip(outcomes) {
        let answers: Vec<String> = outcome.answers.iter().map(ToString::to_string).collect();
        let sentence = told.get(&outcome.address.to_string()).map_or("", String::as_str);
        let (chapter, name, answers) = (case.chapter, &case.name, answers.join(", "));
        let (millis, grown) = (outcome.took.as_secs_f64() * 1e3, outcome.grown / 1024);
        writeln!(text, "| {chapter} | {name} | {answers} | {millis:.1} | {grown} | {} |", sentence.replace('|', "\\|"))
            .unwrap();
    }
    text
}

/// The last line of the log about each address.
fn sentences(lines: &[String]) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for line in lines {
        let Some((_, rest)) = line.split_once("peer=") else { continue };
        let address = rest.split_whitespace().next().unwrap_or_default();
        told.insert(address.trim_matches('"').to_owned(), line.clone());
    }
    told
}

/// A peer that says nothing, or not enough, for as long as ARTIM runs.
#[test]
fn who_does_not_come_to_an_association_in_time_is_closed() {
    let scratch = Scratch::new();
    let folder = scratch.folder("nas");
    let settings = "[limits]\nassociation-timeout = \"1s\"\n";
    let gateway = Setup::new(scratch.folder("data"))
        .with_folder("nas", &folder)
        .configured(&scratch.path().join("artim.toml"), settings)
        .start();
    let request = Request::default().bytes();
    for said in [&[][..], &request[..5], &request[..100], &request[..request.len() - 1]] {
        let began: Instant = waystation::clock::now();
        let mut caller = Caller::new(gateway.target().port, LIMIT);
        caller.send(said);
        assert_eq!(caller.answer(), Answer::Close, "{} bytes", said.len());
        println!("closed after {:?} with {} bytes said", began.elapsed(), said.len());
    }
}

/// The forms that are named are accepted, the others rejected; who says nothing comes in.
#[test]
fn a_user_may_be_identified_in_the_forms_that_are_named() {
    let scratch = Scratch::new();
    let folder = scratch.folder("nas");
    let settings = "user-identity = [\"username\", \"jwt\"]\n";
    let mut gateway = Setup::new(scratch.folder("data"))
        .with_folder("nas", &folder)
        .configured(&scratch.path().join("identity.toml"), settings)
        .start();
    let port = gateway.target().port;
    let answer = |request: Vec<u8>| {
        let mut caller = Caller::new(port, LIMIT);
        caller.send(&request);
        caller.answer()
    };
    assert_eq!(answer(Request::default().bytes()), Answer::Accept);
    for (code, expected) in [
        (1, Answer::Accept),
        (2, Answer::Reject(1, 2, 1)),
        (3, Answer::Reject(1, 2, 1)),
        (4, Answer::Reject(1, 2, 1)),
        (5, Answer::Accept),
        (9, Answer::Reject(1, 2, 1)),
    ] {
        let identity = item(0x58, &[&[code, 1, 0, 4][..], b"user", &[0, 6], b"secret"].concat());
        let user = [item(0x51, &16384_u32.to_be_bytes()), identity].concat();
        assert_eq!(answer(Request { user, ..Request::default() }.bytes()), expected, "form {code}");
    }
    let told = |line: &str| line.contains("username-passcode, which user-identity does not name").then_some(());
    gateway.process().wait_for_line(0, PATIENCE, told);
    assert!(!gateway.all_lines().iter().any(|line| line.contains("secret")));
}
