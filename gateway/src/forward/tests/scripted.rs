//! An archive that follows a script: our own acceptor over a real socket.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Route, unhurried};
use crate::association::{
    Abort, AcceptorSettings, AssociateRequest, ContextAnswer, ContextRefusal, Decision, Indication, Preference,
    Rejection, transport,
};
use crate::clock;
use crate::config::DicomPeer;
use crate::dimse::{Command, Response, Status};
use crate::model::Uid;

/// What the archive does with the next association, or with the next instance.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Answer the instance with this status.
    Answer(u16),
    /// Answer with 0000 and abort the association a moment later, as archives do that want none to stay open.
    AnswerAndLeave,
    /// Abort after the first piece of the data set.
    AbortMidway,
    /// Take the whole data set, then close without an answer.
    Forget,
    /// Answer with 0000 when told to.
    AnswerWhen(Arc<Notify>),
    /// Take the whole data set, and never answer.
    Hang,
    /// Answer with 0000, but only when the next one has been answered.
    AnswerBehindTheNext,
    /// Answer another message, which nobody has sent.
    AnswerAnother,
    /// Answer the one that was to be answered behind this one, with the instance of this one.
    AnswerMixedUp,
    /// Take the connection, and never answer the request for an association.
    Silence,
    /// Reject the association.
    Reject(Rejection),
}

/// What is done, and what has arrived whole.
#[derive(Default)]
pub(super) struct Script {
    pub(super) acts: VecDeque<Act>,
    /// What is done with the first offers of each instance, and how many they are.
    pub(super) at_first: Option<(Act, u32)>,
    pub(super) offers: HashMap<Uid, u32>,
    pub(super) arrived: Vec<(Uid, Uid, Vec<u8>)>,
    pub(super) begun: u32,
    /// How many instances it has answered.
    pub(super) answered: usize,
    /// How many it had answered when an instance began to come, for each of them.
    pub(super) starts: Vec<(Uid, usize)>,
    pub(super) echoes: u32,
    /// How many associations there were when the first instance came, and how many C-ECHO had been answered.
    pub(super) at_first_start: Option<(usize, u32)>,
    /// How many associations it has at the same time; one if nothing is said. One more is rejected.
    pub(super) at_a_time: usize,
    /// How many operations it lets be outstanding on an association; one if nothing is said.
    pub(super) operations: u16,
    /// What was proposed for that, for each association.
    pub(super) windows: Vec<Option<(u16, u16)>>,
    pub(super) open: usize,
    pub(super) most_open: usize,
}

impl Script {
    /// What is done with this instance, which has been offered once more.
    fn act(&mut self, instance: &Uid) -> Option<Act> {
        let offers = self.offers.entry(instance.clone()).or_default();
        match &self.at_first {
            Some((act, times)) if *offers < *times => {
                *offers += 1;
                Some(act.clone())
            }
            _ => self.acts.pop_front(),
        }
    }
}

/// An archive on loopback; when the script is over, it answers everything with 0000.
pub(super) struct Archive {
    pub(super) port: u16,
    pub(super) script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Archive {
    pub(super) async fn start(acts: impl IntoIterator<Item = Act>, accepts: &'static [&'static str]) -> Self {
        Self::with(Script { acts: acts.into_iter().collect(), ..Script::default() }, accepts).await
    }

    /// An archive that does this with the first offers of each instance.
    pub(super) async fn at_first(act: Act, times: u32) -> Self {
        Self::with(Script { at_first: Some((act, times)), ..Script::default() }, &[]).await
    }

    pub(super) async fn with(script: Script, accepts: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, script, accepts)
    }

    pub(super) fn on(listener: TcpListener, script: Script, accepts: &'static [&'static str]) -> Self {
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script));
        let task = tokio::spawn({
            let script = Arc::clone(&script);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    if script.lock().unwrap().at_a_time == 0 {
                        serve(stream, &script, accepts).await;
                        continue;
                    }
                    let script = Arc::clone(&script);
                    tokio::spawn(async move { serve(stream, &script, accepts).await });
                }
            }
        });
        Self { port, script, task }
    }

    pub(super) fn arrived(&self) -> Vec<(Uid, Uid, Vec<u8>)> {
        self.script.lock().unwrap().arrived.clone()
    }

    pub(super) fn route(&self) -> Route {
        let aet = "ARCHIVE".parse().unwrap();
        Route::Plain(DicomPeer { aet, host: "127.0.0.1".into(), port: self.port })
    }
}

/// Follows the script on one connection, until it ends.
pub(super) async fn serve(stream: TcpStream, script: &Mutex<Script>, accepts: &[&str]) {
    stream.set_nodelay(true).unwrap();
    let is_silent = matches!(script.lock().unwrap().acts.front(), Some(Act::Silence));
    if is_silent {
        return std::future::pending().await;
    }
    let next = || script.lock().unwrap().acts.pop_front();
    let decide = |request: &AssociateRequest| {
        let front = script.lock().unwrap().acts.front().cloned();
        if let Some(Act::Reject(rejection)) = front {
            next();
            return Decision::Reject(rejection);
        }
        let mut script = script.lock().unwrap();
        if script.at_a_time > 0 && script.open >= script.at_a_time {
            return Decision::Reject(Rejection::LOCAL_LIMIT_EXCEEDED);
        }
        script.open += 1;
        script.windows.push(request.async_operations);
        script.most_open = script.most_open.max(script.open);
        drop(script);
        match accepts.is_empty() {
            true => Decision::accept_storage(request, &Preference::default()),
            false => only(request, accepts),
        }
    };
    let operations = script.lock().unwrap().operations;
    let settings = AcceptorSettings { timeouts: unhurried(), operations, ..AcceptorSettings::default() };
    let Ok(mut association) = transport::accept(stream, &settings, clock::of_runtime(), decide).await else { return };
    let _open = Open(script);
    let (mut store, mut act) = (None, None);
    let mut data = Vec::new();
    let mut behind = Vec::new();
    while let Ok(indication) = association.next().await {
        match indication {
            Indication::Command { context, command: command @ Command::CEcho(_) } => {
                script.lock().unwrap().echoes += 1;
                association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
            }
            Indication::Command { context, command } => {
                let Command::CStore(request) = &command else { return };
                let mut script = script.lock().unwrap();
                script.begun += 1;
                let (open, echoes, answered) = (script.open, script.echoes, script.answered);
                script.at_first_start.get_or_insert((open, echoes));
                script.starts.push((request.sop_instance_uid.clone(), answered));
                act = script.act(&request.sop_instance_uid);
                store = Some((context, command));
                data.clear();
            }
            Indication::Data(bytes) => {
                data.extend_from_slice(&bytes);
                if matches!(act, Some(Act::AbortMidway)) {
                    return association.abort(Abort::BY_USER).await;
                }
            }
            Indication::DataEnd => {
                let Some((context, command)) = store.take() else { return };
                let Command::CStore(request) = &command else { return };
                let syntax = association.context(context).unwrap().transfer_syntax.clone();
                script.lock().unwrap().arrived.push((request.sop_instance_uid.clone(), syntax, data.clone()));
                let status = match act.take() {
                    Some(Act::Forget) => return,
                    Some(Act::Hang) => continue,
                    Some(Act::AnswerBehindTheNext) => {
                        behind.push((context, command));
                        continue;
                    }
                    Some(Act::AnswerAnother) => {
                        let another = Response { message_id: 0xFFFF, ..Response::to(&command, Status::SUCCESS) };
                        association.respond(context, &another).await.unwrap();
                        continue;
                    }
                    Some(Act::AnswerMixedUp) => {
                        let message_id = behind.pop().unwrap().1.message_id();
                        let mixed_up = Response { message_id, ..Response::to(&command, Status::SUCCESS) };
                        association.respond(context, &mixed_up).await.unwrap();
                        continue;
                    }
                    Some(Act::AnswerWhen(told)) => {
                        told.notified().await;
                        Status::SUCCESS
                    }
                    Some(Act::Answer(status)) => Status(status),
                    Some(Act::AnswerAndLeave) => {
                        script.lock().unwrap().answered += 1;
                        association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
                        return association.abort(Abort::BY_USER).await;
                    }
                    _ => Status::SUCCESS,
                };
                script.lock().unwrap().answered += 1;
                association.respond(context, &Response::to(&command, status)).await.unwrap();
                for (context, command) in behind.drain(..) {
                    association.respond(context, &Response::to(&command, Status::SUCCESS)).await.unwrap();
                }
            }
            Indication::Response { .. } | Indication::Released => return,
        }
    }
}

/// An association, until it ends.
struct Open<'a>(&'a Mutex<Script>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

/// Accepts these transfer syntaxes and no other.
fn only(request: &AssociateRequest, accepts: &[&str]) -> Decision {
    let answer = |syntaxes: &[Uid]| {
        let taken = syntaxes.iter().find(|syntax| accepts.contains(&syntax.as_str()));
        taken.cloned().ok_or(ContextRefusal::TransferSyntaxesNotSupported)
    };
    let contexts = request.contexts.iter();
    Decision::Accept(
        contexts.map(|context| ContextAnswer { id: context.id, result: answer(&context.transfer_syntaxes) }).collect(),
    )
}
