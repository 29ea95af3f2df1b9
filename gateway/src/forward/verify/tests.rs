//! The task against an archive that follows a script: built on our own acceptor, over a real socket, it stores, commits
//! and is queried. Archives of other makes are in `tests/`.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::association::negotiation::{Service, service};
use crate::association::{
    Abort, AcceptorSettings, AssociateRequest, ContextAnswer, ContextRefusal, Decision, Indication, transport,
};
use crate::dimse::commitment::{self, Budget, Information, InformationReader, MOST_AT_ONCE, Reference};
use crate::dimse::query::{self, MatchReader};
use crate::dimse::{Command, NAction, NEventReport, Response, Status};
use crate::forward::tests::{Station, settings};
use crate::inquiry::{Inquiry, Origin, Report};
use crate::model::InstanceId;
use crate::phantom::Phantom;
use crate::spool::DeliveryState;

const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const COMMITMENT: &str = "1.2.840.10008.1.20.1";

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// What the archive does with a request for storage commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Reports on the same association, behind its answer.
    Report,
    /// Reports before it answers.
    ReportFirst,
    /// Only answers.
    Keep,
    /// Answers with this status.
    Refuse(u16),
    /// Reports that all have failed with this reason.
    Fail(u16),
}

/// How the archive takes queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Lists {
    #[default]
    Matched,
    /// Taken for one long UID.
    NotFound,
    Refused,
    /// Answered with everything that there is, many times.
    Flooded,
}

#[derive(Default)]
struct State {
    acts: VecDeque<Act>,
    /// What it has; what is stored is there, unless it is forgotten at once.
    has: BTreeSet<String>,
    forgets: usize,
    stored: usize,
    asked: Vec<Information>,
    lists: Lists,
    /// How many UIDs each query had.
    queries: Vec<usize>,
    answers: Vec<u16>,
    refuses: Option<Service>,
    /// It ends the association when it is asked about this instance.
    chokes_on: Option<String>,
}

struct Archive {
    port: u16,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Archive {
    async fn start(change: impl FnOnce(&mut State)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut state = State::default();
        change(&mut state);
        let (state, changed) = (Arc::new(Mutex::new(state)), Arc::new(Notify::new()));
        let task = tokio::spawn({
            let (state, changed) = (Arc::clone(&state), Arc::clone(&changed));
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&state), Arc::clone(&changed)));
                }
            }
        });
        Self { port, state, changed, task }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn peer(&self) -> DicomPeer {
        DicomPeer { aet: "ARCHIVE".parse().unwrap(), host: "127.0.0.1".into(), port: self.port }
    }

    /// The request with this number.
    async fn request(&self, number: usize) -> Information {
        loop {
            if let Some(asked) = self.state().asked.get(number) {
                return asked.clone();
            }
            self.changed.notified().await;
        }
    }
}

fn decide(request: &AssociateRequest, refuses: Option<Service>) -> Decision {
    let contexts = request.contexts.iter().map(|context| {
        let class = context.abstract_syntax.as_ref().unwrap();
        let result = match refuses {
            Some(service_refused) if service(class) == service_refused => {
                Err(ContextRefusal::AbstractSyntaxNotSupported)
            }
            _ => Ok(context.transfer_syntaxes[0].clone()),
        };
        ContextAnswer { id: context.id, result }
    });
    Decision::Accept(contexts.collect())
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>, changed: Arc<Notify>) {
    stream.set_nodelay(true).unwrap();
    let refuses = state.lock().unwrap().refuses;
    let settings = AcceptorSettings::default();
    let accepted = transport::accept(stream, &settings, clock::now(), |request| decide(request, refuses));
    let Ok(mut association) = accepted.await else { return };
    let (mut request, mut data, mut reports) = (None, Vec::new(), 0);
    while let Ok(indication) = association.next().await {
        match indication {
            Indication::Command { context, command: command @ Command::CEcho(_) } => {
                association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
            }
            Indication::Command { command: Command::CCancel { .. }, .. } => {}
            Indication::Command { context, command } => {
                data.clear();
                request = Some((context, command));
            }
            Indication::Data(bytes) => data.extend_from_slice(&bytes),
            Indication::DataEnd => match request.take().unwrap() {
                (_, Command::NAction(_) | Command::CFind(_)) if chokes(&data, &state) => {
                    return association.abort(Abort::BY_USER).await;
                }
                (context, command @ Command::CStore(_)) => {
                    let Command::CStore(store) = &command else { panic!() };
                    {
                        let mut state = state.lock().unwrap();
                        state.stored += 1;
                        match state.forgets {
                            0 => drop(state.has.insert(store.sop_instance_uid.to_string())),
                            _ => state.forgets -= 1,
                        }
                    }
                    association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
                }
                (context, command @ Command::NAction(_)) => {
                    let answer = act(&command, &data, &state);
                    changed.notify_waiters();
                    changed.notify_one();
                    let response = Response::to(&command, answer.status);
                    let first = answer.first;
                    if !first {
                        association.respond(context, &response).await.unwrap();
                    }
                    if let Some((event_type, information)) = answer.report {
                        reports += 1;
                        let report = a_report(reports, event_type);
                        association.post(context, &report, &information).unwrap();
                        loop {
                            match association.next().await {
                                Ok(Indication::Response { response, .. }) => {
                                    state.lock().unwrap().answers.push(response.status.0);
                                    break;
                                }
                                Ok(_) => {}
                                Err(_) => return,
                            }
                        }
                    }
                    if first {
                        association.respond(context, &response).await.unwrap();
                    }
                }
                (context, command) => answer_query(&mut association, context, &command, &data, &state).await,
            },
            Indication::Response { .. } | Indication::Released => return,
        }
    }
}

fn chokes(data: &[u8], state: &Mutex<State>) -> bool {
    let state = state.lock().unwrap();
    state
        .chokes_on
        .as_ref()
        .is_some_and(|instance| data.windows(instance.len()).any(|part| part == instance.as_bytes()))
}

fn a_report(message_id: u16, event_type: u16) -> Command {
    Command::NEventReport(NEventReport {
        message_id,
        sop_class_uid: uid(COMMITMENT),
        sop_instance_uid: uid(commitment::WELL_KNOWN_INSTANCE),
        event_type,
    })
}

struct Answer {
    status: Status,
    first: bool,
    report: Option<(u16, Vec<u8>)>,
}

fn act(command: &Command, data: &[u8], state: &Mutex<State>) -> Answer {
    let Command::NAction(NAction { action_type: 1, .. }) = command else { panic!("{command:?}") };
    let mut reader = InformationReader::new(&uid(EXPLICIT), Budget::new(MOST_AT_ONCE).share());
    reader.feed(data);
    let (asked, _) = reader.finish().unwrap();
    let mut state = state.lock().unwrap();
    state.asked.push(asked.clone());
    let act = state.acts.pop_front().unwrap_or(Act::Report);
    let failing = |reference: &&Reference| match act {
        Act::Fail(reason) => Some(reason),
        _ if state.has.contains(reference.instance.as_str()) => None,
        _ => Some(0x0112),
    };
    let report = (!matches!(act, Act::Keep | Act::Refuse(_))).then(|| information(&asked, failing));
    let status = if let Act::Refuse(status) = act { Status(status) } else { Status::SUCCESS };
    Answer { status, first: act == Act::ReportFirst, report }
}

fn information(asked: &Information, failing: impl Fn(&&Reference) -> Option<u16>) -> (u16, Vec<u8>) {
    let committed = asked.references.iter().filter(|reference| failing(reference).is_none());
    let failed: Vec<_> = asked.references.iter().filter_map(|r| failing(&r).map(|reason| (r, reason))).collect();
    let event_type = if failed.is_empty() { 1 } else { 2 };
    (event_type, commitment::write(&asked.transaction, committed, failed, &uid(EXPLICIT)))
}

async fn answer_query(
    association: &mut Association,
    context: u8,
    command: &Command,
    data: &[u8],
    state: &Mutex<State>,
) {
    let text = String::from_utf8_lossy(data);
    let mut one = MatchReader::new(&uid(EXPLICIT));
    one.feed(data);
    let instances: Vec<String> = match one.finish() {
        Some(instance) => vec![instance.to_string()],
        None => {
            let list = text.split("UI").nth(1).unwrap().get(2..).unwrap();
            let list: String = list.chars().take_while(|c| c.is_ascii_digit() || ".\\".contains(*c)).collect();
            list.split('\\').map(str::to_owned).collect()
        }
    };
    assert!(text.contains("IMAGE"), "{text:?}");
    let (matches, status) = {
        let mut state = state.lock().unwrap();
        state.queries.push(instances.len());
        let there: Vec<_> = instances.iter().filter(|instance| state.has.contains(*instance)).cloned().collect();
        match state.lists {
            Lists::Matched => (there, 0x0000),
            Lists::NotFound if instances.len() > 1 => (vec![], 0x0000),
            Lists::Refused if instances.len() > 1 => (vec![], 0xA900),
            Lists::Flooded => (vec!["1.2.3.4.5.6.7".to_owned(); 200], 0xFE00),
            _ => (there, 0x0000),
        }
    };
    for instance in matches {
        association.respond(context, &Response::to(command, Status(0xFF00))).await.unwrap();
        let identifier = query::instances(None, None, &[&uid(&instance)], &uid(EXPLICIT));
        association.send_data(context, &identifier, true).await.unwrap();
    }
    association.respond(context, &Response::to(command, Status(status))).await.unwrap();
}

/// A station that delivers to the archive and asks it afterwards.
pub(super) struct Asking {
    pub(super) station: Station,
    pub(super) destination: Arc<Destination>,
    inquiries: Inquiries,
}

impl Asking {
    fn new(archive: &Archive, by: VerifyBy, patience: Duration) -> Self {
        Self::at(Route::Plain(archive.peer()), Some(archive.peer()), by, patience)
    }

    /// The archive at the end of `route`, which may report if it is a `peer`.
    pub(super) fn at(route: Route, peer: Option<DicomPeer>, by: VerifyBy, patience: Duration) -> Self {
        let mut station = Station::new();
        let how = How { by, after: Duration::from_millis(10), patience };
        let settings = Settings { verify_after: Some(how.after), ..settings() };
        let short = Duration::from_millis(20);
        let pace = Pace { hold: short, gathering: short, not_offered: LONG };
        let metrics = Metrics::new();
        let inquiry = |peer| {
            let name = "central".parse().unwrap();
            Inquiry::new(name, (peer, false), how.after, station.spool.clone(), metrics.clone())
        };
        let inquiries = Inquiries::new(peer.map(inquiry).into_iter().collect());
        let destination = station.deliver_as("central", route.clone(), settings.clone());
        let (d, i, spool, shutdown) =
            (Arc::clone(&destination), inquiries.clone(), station.spool.clone(), station.shutdown.clone());
        station.workers.push(tokio::spawn(async move {
            run_at(pace, d, route, how, i, settings, spool, metrics, shutdown).await.unwrap();
        }));
        Self { station, destination, inquiries }
    }

    pub(super) async fn keep(&self, slice: u32) -> InstanceId {
        self.station.keep(slice, EXPLICIT, &["central"]).await.0
    }

    pub(super) async fn confirmed(&self, id: InstanceId) -> (u32, String) {
        let confirmed = |state: &DeliveryState| matches!(state, DeliveryState::Confirmed { .. });
        let state = self.station.such_that(id, "central", confirmed).await;
        let DeliveryState::Confirmed { attempts, confirmation, .. } = state else { panic!() };
        (attempts, confirmation)
    }

    pub(super) async fn stop(self) {
        self.station.stop().await;
    }

    /// What was said last to the question, once something was.
    pub(super) async fn said(&self, id: InstanceId, words: &str) {
        let said = |state: &DeliveryState| {
            let DeliveryState::Delivered { verifying: Some(verifying), .. } = state else { return false };
            verifying.last_answer.as_ref().is_some_and(|answer| answer.contains(words))
        };
        self.station.such_that(id, "central", said).await;
    }

    /// A report that somebody brings on an association of his own; the status of the answer.
    fn told(&self, address: &str, (event_type, information): &(u16, Vec<u8>)) -> u16 {
        let Command::NEventReport(request) = a_report(1, *event_type) else { panic!() };
        let context =
            crate::association::Context { id: 1, abstract_syntax: uid(COMMITMENT), transfer_syntax: uid(EXPLICIT) };
        let mut report = Report::begin(request, &context, &self.inquiries);
        report.write(information);
        let candidates = self.inquiries.of(&"ARCHIVE".parse().unwrap());
        let address: IpAddr = address.parse().unwrap();
        tokio::task::block_in_place(|| report.end(&candidates, Origin::Caller { address, secured: None }).status.0)
    }
}

const LONG: Duration = Duration::from_secs(3_600);

fn all(_: &&Reference) -> Option<u16> {
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_on_the_same_association_confirms_before_and_after_the_answer() {
    for act in [Act::Report, Act::ReportFirst] {
        let archive = Archive::start(|state| state.acts.push_back(act)).await;
        let asking = Asking::new(&archive, VerifyBy::Commitment, LONG);
        let id = asking.keep(0).await;
        let (attempts, confirmation) = asking.confirmed(id).await;
        let transaction = archive.request(0).await.transaction;
        assert_eq!((attempts, confirmation), (1, format!("committed, transaction {transaction}")), "{act:?}");
        assert!(transaction.as_str().starts_with("2.25.") && transaction.as_str().len() > 30, "{transaction}");
        asking.station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_on_another_association_counts_for_what_was_asked_for_however_late_and_once() {
    let archive = Archive::start(|state| state.acts.extend([Act::Keep; 9])).await;
    let asking = Asking::new(&archive, VerifyBy::Commitment, LONG);
    let id = asking.keep(0).await;
    let asked = archive.request(0).await;
    asking.said(id, "no report yet").await;
    // A stranger knows neither the transaction nor the place; nor does he learn anything.
    let invented = Information { transaction: uid("2.25.1"), ..asked.clone() };
    assert_eq!(asking.told("192.0.2.66", &information(&invented, all)), 0x0115);
    // Who has overheard the transaction can speak for its instances, and for no others.
    let other = asking.keep(1).await;
    let second = archive.request(1).await;
    let overheard = Information { transaction: asked.transaction.clone(), ..second.clone() };
    assert_eq!(asking.told("192.0.2.66", &information(&overheard, all)), 0x0000);
    asking.said(other, "no report yet").await;
    assert!(matches!(asking.station.state(id, "central"), Some(DeliveryState::Delivered { .. })));
    for _ in 0..2 {
        assert_eq!(asking.told("192.0.2.66", &information(&asked, all)), 0x0000);
        asking.confirmed(id).await;
    }
    // From where the archive is, any transaction will do: it may be one from before a start.
    let unknown = Information { transaction: uid("2.25.2"), ..second };
    assert_eq!(asking.told("127.0.0.1", &information(&unknown, all)), 0x0000);
    asking.confirmed(other).await;
    asking.station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_reported_is_asked_for_again_under_another_transaction() {
    let archive = Archive::start(|state| state.acts.extend([Act::Keep, Act::Refuse(0x0213), Act::Keep])).await;
    let asking = Asking::new(&archive, VerifyBy::Commitment, Duration::from_millis(20));
    let id = asking.keep(0).await;
    let (attempts, confirmation) = asking.confirmed(id).await;
    let asked = archive.state().asked.clone();
    let transactions: BTreeSet<_> = asked.iter().map(|asked| asked.transaction.to_string()).collect();
    assert_eq!((attempts, asked.len(), transactions.len()), (1, 4, 4));
    assert!(confirmation.ends_with(asked[3].transaction.as_str()), "{confirmation}");
    assert!(asking.destination.health().verification.is_none());
    asking.station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_report_is_refused_with_its_status() {
    let archive = Archive::start(|state| state.acts.extend([Act::Keep; 9])).await;
    let asking = Asking::new(&archive, VerifyBy::Commitment, LONG);
    let id = asking.keep(0).await;
    let asked = archive.request(0).await;
    asking.said(id, "no report yet").await;
    let (_, whole) = information(&asked, all);
    assert_eq!(asking.told("127.0.0.1", &(3, whole.clone())), 0x0113);
    assert_eq!(asking.told("127.0.0.1", &(1, whole[..whole.len() - 1].to_vec())), 0x0115);
    assert_eq!(asking.told("127.0.0.1", &(1, Vec::new())), 0x0115);
    assert!(matches!(asking.station.state(id, "central"), Some(DeliveryState::Delivered { .. })));
    assert_eq!(asking.told("127.0.0.1", &(1, whole)), 0x0000);
    asking.confirmed(id).await;
    asking.station.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_lost_an_instance_gets_it_again_and_then_confirms_it() {
    for by in [VerifyBy::Commitment, VerifyBy::Query] {
        let archive = Archive::start(|state| state.forgets = 1).await;
        let asking = Asking::new(&archive, by, LONG);
        let id = asking.keep(0).await;
        assert_eq!(asking.confirmed(id).await.0, 2, "{by:?}");
        assert_eq!(archive.state().stored, 2, "{by:?}");
        asking.station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_archive_will_not_commit_to_stays_delivered_and_says_why() {
    let archive = Archive::start(|state| state.acts.extend([Act::Fail(0x0122); 3])).await;
    let asking = Asking::new(&archive, VerifyBy::Commitment, LONG);
    let id = asking.keep(0).await;
    asking.said(id, "cannot be confirmed like this").await;
    // The last answer may still be on its way.
    while archive.state().answers.len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(archive.state().answers, [0, 0, 0]);
    assert_eq!(archive.state().stored, 1);
    asking.station.stop().await;
}

/// There are archives that die of one request: nothing that was delivered to them would ever be confirmed.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_no_question_is_answered_about_does_not_hold_up_the_others() {
    for by in [VerifyBy::Commitment, VerifyBy::Query] {
        let archive = Archive::start(|_| {}).await;
        let bad = Phantom::small(100).file_meta(3).unwrap().sop_instance_uid;
        archive.state().chokes_on = Some(bad.to_string());
        let asking = Asking::new(&archive, by, LONG);
        let mut ids = vec![];
        for slice in 0..8 {
            ids.push(asking.keep(slice).await);
        }
        let bad = ids.remove(3);
        for id in ids {
            asking.confirmed(id).await;
        }
        asking.said(bad, "was not answered").await;
        asking.station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_without_the_service_is_told_of_in_words_and_deliveries_go_on() {
    for (by, refused, remedy) in [
        (VerifyBy::Commitment, Service::Commitment, "does not do storage commitment"),
        (VerifyBy::Query, Service::Other, "does not answer queries"),
    ] {
        let archive = Archive::start(|state| state.refuses = Some(refused)).await;
        let asking = Asking::new(&archive, by, LONG);
        let first = asking.keep(0).await;
        let delivered = |state: &DeliveryState| matches!(state, DeliveryState::Delivered { .. });
        asking.station.such_that(first, "central", delivered).await;
        let sentence = loop {
            match asking.destination.health().verification {
                Some(failure) => break failure.sentence,
                None => tokio::task::yield_now().await,
            }
        };
        assert!(sentence.contains(remedy) && sentence.contains("set verify"), "{sentence}");
        let second = asking.keep(1).await;
        asking.station.such_that(second, "central", delivered).await;
        asking.station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_are_asked_for_in_one_query_if_the_archive_can_do_that() {
    for lists in [Lists::Matched, Lists::NotFound, Lists::Refused] {
        let archive = Archive::start(|state| state.lists = lists).await;
        let asking = Asking::new(&archive, VerifyBy::Query, LONG);
        let mut ids = vec![];
        for slice in 0..20 {
            ids.push(asking.keep(slice).await);
        }
        for id in ids {
            assert_eq!(asking.confirmed(id).await, (1, "found by a query".to_owned()), "{lists:?}");
        }
        let queries = archive.state().queries.clone();
        match lists {
            Lists::Matched => assert!(queries.len() < 20, "{queries:?}"),
            _ => assert!(queries.iter().filter(|count| **count > 1).count() <= 1, "{lists:?}: {queries:?}"),
        }
        asking.station.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_answers_with_everything_confirms_nothing_and_is_cancelled() {
    let archive = Archive::start(|state| state.lists = Lists::Flooded).await;
    let asking = Asking::new(&archive, VerifyBy::Query, LONG);
    let id = asking.keep(0).await;
    asking.said(id, "more than it was asked for").await;
    assert_eq!(archive.state().stored, 1, "nothing is missing because of that");
    asking.station.stop().await;
}
