//! The state transition table of the standard (PS3.8 9.2.3, Table 9-10), cell by cell, both roles.
//!
//! What the table below has that the standard's has not, and the other way round:
//!
//! - `.`: no such cell in the standard. A command of the caller does nothing then; a time-out does not run.
//! - `wait`: in Sta3 and Sta8 the next word is ours and follows without a pause. What the peer sends meanwhile waits in
//!   the input, and is judged in the state after our answer.
//! - `own`: a time-out of ours where the standard has none. A-ABORT by the provider, no reason, as AA-8 has it.
//! - AA-1 in Sta2 names the provider and the reason as AA-8 does, where the standard has the user and no reason: no user
//!   is there yet, and the reason is all that the person at the other end gets to know.
//! - AR-6: data that come after our A-RELEASE-RQ are for nobody, and are dropped.
//! - AA-7 (and AA-2 on an A-ABORT) in Sta13 are `AA-6`: we have closed our side of the connection by then, so that what
//!   we said last is not lost, and throw everything away until the peer closes its side or time is up.
//! - Sta9 and Sta12 are passed without a stop: AR-8 is followed by AR-9 at the requestor, AR-10 by AR-4 at the acceptor.
//! - Sta1 and Sta4 are before and after a machine's life, and so are the events 1, 2 and 5 (a connection is opened).

use super::*;
use crate::association::codes::{Abort, Rejection};
use crate::association::machine::{Event, Machine};
use crate::association::negotiation::Part;
use crate::association::pdu::{RELEASE_RP, RELEASE_RQ, abort, rejection};

const TABLE: &str = "
    event        | 2    | 3    | 5    | 6    | 7    | 8    | 10    | 11   | 13
    AC           | AA-1 | wait | AE-3 | AA-8 | AA-8 | wait | AA-8  | AA-8 | AA-6
    RJ           | AA-1 | wait | AE-4 | AA-8 | AA-8 | wait | AA-8  | AA-8 | AA-6
    RQ           | AE-6 | wait | AA-8 | AA-8 | AA-8 | wait | AA-8  | AA-8 | AA-6
    accept       | .    | AE-7 | .    | .    | .    | .    | .     | .    | .
    reject       | .    | AE-8 | .    | .    | .    | .    | .     | .    | .
    send         | .    | .    | .    | DT-1 | .    | AR-7 | .     | .    | .
    P-DATA-TF    | AA-1 | wait | AA-8 | DT-2 | AR-6 | wait | AA-8  | AA-8 | AA-6
    release      | .    | .    | .    | AR-1 | .    | .    | .     | .    | .
    RELEASE-RQ   | AA-1 | wait | AA-8 | AR-2 | AR-8 | wait | AA-8  | AA-8 | AA-6
    RELEASE-RP   | AA-1 | wait | AA-8 | AA-8 | AR-3 | wait | AR-10 | AR-3 | AA-6
    confirm      | .    | .    | .    | .    | .    | AR-4 | .     | .    | .
    abort        | AA-1 | AA-1 | AA-1 | AA-1 | AA-1 | AA-1 | AA-1  | AA-1 | .
    ABORT        | AA-2 | wait | AA-3 | AA-3 | AA-3 | wait | AA-3  | AA-3 | AA-6
    closed       | AA-5 | wait | AA-4 | AA-4 | AA-4 | wait | AA-4  | AA-4 | AR-5
    ARTIM        | AA-2 | own  | own  | .    | own  | .    | own   | own  | AA-2
    unknown PDU  | AA-1 | wait | AA-8 | AA-8 | AA-8 | wait | AA-8  | AA-8 | AA-6
    invalid PDU  | AA-1 | wait | AA-8 | AA-8 | AA-8 | wait | AA-8  | AA-8 | AA-6
";

/// The states that both roles can be in; the others belong to one.
const BOTH: [&str; 4] = ["6", "7", "8", "13"];

struct Rig {
    machine: Machine,
    now: Instant,
    is_requestor: bool,
}

impl Rig {
    fn feed(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let mut input = self.machine.input();
            let (piece, rest) = bytes.split_at(input.remaining_mut().min(bytes.len()));
            input.put_slice(piece);
            bytes = rest;
            while let Some(event) = self.machine.poll_event(self.now) {
                events.push(event);
            }
            if bytes.is_empty() {
                return events;
            }
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        let output = self.machine.output().to_vec();
        self.machine.handle_written(output.len());
        output
    }

    fn state(&self) -> String {
        self.machine.standard_state().to_string()
    }

    fn decide(&mut self) {
        let Decision::Accept(answers) = accept_all(self.machine.request().unwrap()) else { panic!() };
        self.machine.accept(self.now, &answers, Part::Scp).unwrap();
    }

    /// A machine in this state, with nothing left to say.
    fn in_state(state: &str, is_requestor: bool) -> Self {
        let now = crate::clock::now();
        let machine = if is_requestor {
            let request = AssociateRequest::from_settings(&requestor_settings(), 16384);
            Machine::requestor(request, crate::association::Timeouts::default(), now)
        } else {
            Machine::acceptor(&AcceptorSettings::default(), now)
        };
        let mut rig = Self { machine, now, is_requestor };
        if is_requestor && state != "5" {
            assert_eq!(rig.feed(&answer()), [Event::Accepted]);
        } else if !is_requestor && state != "2" {
            rig.feed(&Request::default().bytes());
            if state != "3" {
                rig.decide();
            }
        }
        match state {
            "7" => rig.machine.release(now),
            "8" => assert_eq!(rig.feed(&RELEASE_RQ), [Event::ReleaseRequested]),
            "10" | "11" => {
                rig.machine.release(now);
                assert_eq!(rig.feed(&RELEASE_RQ), []);
            }
            "13" => rig.machine.abort(now, Abort::BY_USER),
            _ => {}
        }
        rig.take_output();
        assert_eq!(rig.state(), state, "how the test gets there");
        rig
    }

    /// Lets an event of the table happen; `false` if it cannot.
    fn happen(&mut self, event: &str) -> (Vec<Event>, bool) {
        let now = self.now;
        let mut nothing = |command: fn(&mut Machine, Instant)| {
            command(&mut self.machine, now);
            (Vec::new(), true)
        };
        match event {
            "AC" => (self.feed(&answer()), true),
            "RJ" => (self.feed(&rejection(Rejection::NO_REASON)), true),
            "RQ" => (self.feed(&Request::default().bytes()), true),
            "P-DATA-TF" => (self.feed(&pdu(4, &pdv(1, COMMAND | LAST, b"data"))), true),
            "RELEASE-RQ" => (self.feed(&RELEASE_RQ), true),
            "RELEASE-RP" => (self.feed(&RELEASE_RP), true),
            "ABORT" => (self.feed(&abort(Abort::UNEXPECTED_PDU)), true),
            "unknown PDU" => (self.feed(&pdu(9, &[0; 4])), true),
            "invalid PDU" => (self.feed(&[4, 0, 0xFF, 0xFF, 0xFF, 0xFF]), true),
            "accept" => nothing(|machine, now| drop(machine.accept(now, &[], Part::Scp))),
            "reject" => nothing(|machine, now| machine.reject(now, Rejection::NO_REASON)),
            "send" => nothing(|machine, _| machine.send(b"a P-DATA-TF")),
            "release" => nothing(Machine::release),
            "confirm" => nothing(Machine::confirm_release),
            "abort" => nothing(|machine, now| machine.abort(now, Abort::BY_USER)),
            "closed" => {
                self.machine.handle_eof();
                (self.machine.poll_event(now).into_iter().collect(), true)
            }
            "ARTIM" => match self.machine.deadline() {
                None => (Vec::new(), false),
                Some(deadline) => (self.machine.handle_timeout(deadline).into_iter().collect(), true),
            },
            _ => panic!("{event} is no event"),
        }
    }
}

fn answer() -> Vec<u8> {
    let fixed = [&[0, 1, 0, 0][..], &[b' '; 32], &[0; 32]].concat();
    let accepted = item(0x21, &[&[1, 0, 0, 0][..], &item(0x40, IMPLICIT.as_bytes())].concat());
    pdu(2, &[fixed, item(0x10, b"1.2.840.10008.3.1.1.1"), accepted].concat())
}

/// What the provider's abort says for an event that may not come.
fn reason_for(event: &str) -> Abort {
    match event {
        "unknown PDU" => Abort::UNRECOGNIZED_PDU,
        "invalid PDU" => Abort::INVALID_PARAMETER,
        "abort" => Abort::BY_USER,
        "ARTIM" => Abort::NOT_SPECIFIED,
        _ => Abort::UNEXPECTED_PDU,
    }
}

/// What must have been sent, into which state it must lead, and whether what is told fits.
fn check(event: &str, state: &str, action: &str) {
    let roles: &[bool] = match state {
        "2" | "3" | "10" => &[false],
        "5" | "11" => &[true],
        both => {
            assert!(BOTH.contains(&both));
            &[false, true]
        }
    };
    for is_requestor in roles {
        let mut rig = Rig::in_state(state, *is_requestor);
        let (events, happened) = rig.happen(event);
        let (output, next) = (rig.take_output(), rig.state());
        let what = format!("{event} in Sta{state}, requestor: {is_requestor}: {action}");
        let aborted = abort(reason_for(event)).to_vec();
        let (sent, to): (Vec<u8>, &str) = match action {
            "AE-3" | "DT-2" => (Vec::new(), "6"),
            "AE-4" | "AR-3" | "AR-5" | "AA-2" | "AA-3" | "AA-4" | "AA-5" => (Vec::new(), "1"),
            "AE-6" => (Vec::new(), "3"),
            "AE-7" => (output.clone(), "6"),
            "AE-8" => (rejection(Rejection::NO_REASON).to_vec(), "13"),
            "DT-1" | "AR-7" => (b"a P-DATA-TF".to_vec(), state),
            "AR-1" => (RELEASE_RQ.to_vec(), "7"),
            "AR-2" => (Vec::new(), "8"),
            "AR-4" | "AR-10" => (RELEASE_RP.to_vec(), "13"),
            "AR-6" | "AA-6" | "." | "wait" => (Vec::new(), state),
            "AR-8" if rig.is_requestor => (RELEASE_RP.to_vec(), "11"),
            "AR-8" => (Vec::new(), "10"),
            "AA-1" | "AA-8" | "own" => (aborted, "13"),
            _ => panic!("{action} is no action"),
        };
        assert_eq!(output, sent, "{what}");
        assert_eq!(next, to, "{what}");
        let told = matches!(
            (action, &events[..]),
            ("AE-3", [Event::Accepted])
                | ("AE-4", [Event::Rejected(_)])
                | ("AE-6", [Event::Requested(_)])
                | ("DT-2", [Event::Pdv(_)])
                | ("AR-2", [Event::ReleaseRequested])
                | ("AR-3" | "AR-10", [Event::Released])
                | ("AA-3", [Event::Aborted(_)])
                | ("AA-4" | "AA-5", [Event::Closed { .. }])
                | ("own", [Event::TimedOut])
                | ("AA-8", [Event::Violated(_)])
                | ("AE-7" | "AE-8" | "DT-1" | "AR-1" | "AR-4" | "AR-5" | "AR-6" | "AR-7" | "AR-8", [])
                | ("AA-6" | "." | "wait", [])
        );
        let told = told
            || match (action, event, &events[..]) {
                ("AA-1", "abort", []) => true,
                ("AA-1", _, [Event::Violated(_)]) => event != "abort",
                ("AA-2", "ABORT", [Event::Aborted(_)]) => true,
                ("AA-2", "ARTIM", [Event::TimedOut]) => state == "2",
                ("AA-2", "ARTIM", []) => state == "13",
                _ => false,
            };
        assert!(told, "{what}: {events:?}");
        assert_eq!(happened, event != "ARTIM" || action != ".", "{what}: whether a time-out runs");
        if action == "AE-7" {
            assert_eq!(output[0], 2, "an A-ASSOCIATE-AC");
        }
    }
}

#[test]
fn every_cell_of_the_state_table_does_what_it_should() {
    let mut rows = TABLE.trim().lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let states = rows.next().unwrap();
    let mut cells = 0;
    for row in rows {
        assert_eq!(row.len(), states.len(), "{row:?}");
        for (state, action) in states.iter().zip(&row).skip(1) {
            check(row[0], state, action);
            cells += 1;
        }
    }
    assert_eq!(cells, 17 * 9, "every event in every state");
}

#[test]
fn what_waited_is_judged_after_our_answer() {
    for (bytes, event, state) in [
        (Request::default().bytes(), "a second request", "13"),
        (pdu(9, &[0; 4]), "an unknown PDU", "13"),
        (RELEASE_RQ.to_vec(), "a release", "8"),
        (abort(Abort::BY_USER).to_vec(), "an abort", "1"),
    ] {
        let mut rig = Rig::in_state("3", false);
        assert_eq!(rig.feed(&bytes), [], "{event}");
        rig.decide();
        assert_eq!(rig.feed(&[]).len(), 1, "{event}");
        assert_eq!(rig.state(), state, "{event}");
    }
    let mut rig = Rig::in_state("8", false);
    assert_eq!(rig.feed(&RELEASE_RQ), []);
    rig.machine.confirm_release(rig.now);
    assert_eq!((rig.feed(&[]), rig.state()), (Vec::new(), "13".to_owned()), "AA-6");
}
