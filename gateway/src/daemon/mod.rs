//! The running gateway: opens the spool, binds, starts the tasks, tells the service manager, drains.
//!
//! Crash-only: a core task that ends, ends the process, and the start is the recovery. READY is said only when the
//! spool is open, every socket is bound, and a modality that connects would be served.
//!
//! ```text
//! bind ─▶ open the spool (lock, replay) ─▶ control socket ─▶ destinations ─▶ doors ─▶ READY
//!                                                                                      │
//!            SIGHUP, new certificates ─▶ reload ─▶ as before      │
//!            SIGTERM, SIGINT ─▶ doors close ─▶ sessions and deliveries finish what is in flight ─▶ end
//! ```

mod book;
mod configuration;
mod inherited;
mod reload;
mod reports;
mod verification;
mod volume;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log::{error, info, warn};
use rustls::ServerConfig;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::configuration::Configuration;
use self::reload::Reload;
use crate::association::{AcceptorSettings, Timeouts};
use crate::clock;
use crate::config::{self, Config, DestinationUrl, Finding, Source, WebSettings};
use crate::control::server::{self, Gateway, SocketError};
use crate::durable::{DirectoryLock, LockError};
use crate::forward::open::Dialer;
use crate::forward::pace::Pace;
use crate::forward::reach::Limits;
use crate::forward::{self, Destination, Route, Service};
use crate::metrics::Metrics;
use crate::receive::{self, CurrentAdmission, Door, Reception, commitment};
use crate::retry::Backoff;
use crate::spool::{OpenError, Opened, Spool, SpoolError, SpoolOptions, Stall};
use crate::tls::{self, Current, TlsError};
use crate::uplink;

/// How long the disk may take to finish at the very end, and any system call that hangs.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// How long the disk may take for what a thread of the spool does in one go, which is several flushes, before it counts
/// as hung. A slow disk takes ten seconds for a flush.
const HUNG: Duration = Duration::from_secs(60);

/// Why the gateway could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A listening address is not to be had.
    #[error(
        "cannot listen on {address}: {source}; is another program using it, or does a port below 1024 need the socket unit?"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The sockets that the service manager passed make no sense.
    #[error("the sockets of the service manager cannot be used: {0}; check waystation.socket")]
    Inherited(io::Error),
    /// Nothing listens anywhere.
    #[error("no listener: set listen or listen-tls, or start the gateway by its socket unit")]
    NoListener,
    /// The certificates cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The spool cannot be opened.
    #[error("{0}")]
    Spool(#[from] OpenError),
    /// What waits for storage commitment cannot be taken up.
    #[error("{0}; check the permissions of the data directory, and the disk")]
    Commitment(#[from] commitment::FileError),
    /// The control socket cannot be opened.
    #[error("{0}")]
    Control(#[from] SocketError),
    /// The system gave no signal handler, no runtime or no thread.
    #[error("the system refused what the gateway needs to run: {0}")]
    System(#[from] io::Error),
    /// The disk can no longer be trusted.
    #[error("{0}")]
    Fatal(String),
    /// A core task ended although nobody had asked it to.
    #[error("the task {name} ended: {reason}; the gateway ends with it and is started again by the service manager")]
    TaskEnded {
        /// Which one.
        name: String,
        /// What it said.
        reason: String,
    },
}

/// Runs the gateway with this configuration, which came from `source`, until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start, or something happened after which only a new start is safe.
pub fn run(source: Source, config: Config) -> Result<(), DaemonError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut hanging = false;
    let ended = runtime.block_on(serve(source, config, &mut hanging));
    if hanging {
        // A session's thread may come back from the disk at any time, and it needs the runtime to its end.
        std::mem::forget(runtime);
    } else {
        // A thread that hangs in a system call, on a share that does not answer, must not keep the process.
        runtime.shutdown_timeout(LAST_MOMENT);
    }
    ended
}

/// Serves until the end; `hanging` says whether a session has outlived it.
async fn serve(source: Source, config: Config, hanging: &mut bool) -> Result<(), DaemonError> {
    let started_at = clock::wall();
    let mut signals = Signals::install()?;
    let hangup = signal(SignalKind::hangup())?;
    let sockets = bind(&config)?;
    let certificates = certificates(&config, &sockets)?;

    let (fatal, died) = mpsc::channel(1);
    let spool = open_spool(&config, fatal).await?;
    let control = server::bind(&config.data)?;

    let book = book::open(&config.data).await?;

    let metrics = Metrics::new();
    let shutdown = CancellationToken::new();
    let mut tasks = Tasks::default();

    let link = Pace::of_box(config.link.clone());
    let destinations: Vec<_> = config.destinations.iter().map(|to| (to.url.clone(), destination(to, &link))).collect();
    let pacer = volume::open(&config.data, &link, &destinations).await?;
    wake_on_queued(&spool, &config, &destinations);
    let own = addresses(&sockets)?;
    let admission = CurrentAdmission::new(config.admission.clone());
    let dial = reports::dial(Arc::clone(&certificates), own.clone());
    verification::waive(&config, &spool).map_err(|error| DaemonError::Fatal(error.to_string()))?;
    let inquiries = verification::inquiries(&config, &spool, &metrics);
    let commitments = reports::take_up(&config, &spool, &metrics, admission.clone(), dial).await?;
    let reception = Arc::new(Reception::new(
        config.aet.clone(),
        (admission, certificates.clients().clone()),
        (config.default_destinations(), config.rules.clone()),
        AcceptorSettings {
            max_pdu: config.limits.max_pdu,
            timeouts: timeouts(&config),
            user_identity: config.user_identity.clone(),
            ..AcceptorSettings::default()
        },
        &config.limits,
        spool.clone(),
        (Arc::clone(&commitments), inquiries.clone()),
        metrics.clone(),
        Arc::clone(&book),
        shutdown.clone(),
    ));
    let warnings = Arc::new(Mutex::new(standing_warnings(&config)));
    let all: Vec<_> = destinations.iter().map(|(_, destination)| Arc::clone(destination)).collect();
    let paces = (Arc::clone(&link), all.clone());
    let configuration = Configuration::new(source.clone(), &config, &reception, paces, &warnings);
    let doors = sockets.doors(&certificates)?;
    let gateway = Arc::new(Gateway {
        aet: config.aet.clone(),
        started_at,
        listen: doors.addresses(false)?,
        listen_tls: doors.addresses(true)?,
        data: config.data.clone(),
        source,
        warnings,
        tls: Arc::clone(&certificates),
        spool: spool.clone(),
        reception: Arc::clone(&reception),
        commitments: Arc::clone(&commitments),
        destinations: destinations.clone(),
        link,
        metrics: metrics.clone(),
    });
    let (listen, listen_tls) = (gateway.listen.clone(), gateway.listen_tls.clone());

    let asked = CancellationToken::new();
    let control = server::serve(control, gateway, asked.clone());
    tasks.spawn("control", async move { control.await.map_err(|error| error.to_string()) });
    let reload = Reload::new(hangup, &config, configuration, &certificates, &destinations);
    let workshop = forward::compact::Workshop::new(config.data.clone(), metrics.clone(), shutdown.clone());
    for (to, (url, destination)) in config.destinations.iter().zip(destinations) {
        let route = route(url, to.web.as_ref(), &certificates)?;
        let shared = (&spool, &metrics, &shutdown);
        let settings = settings(&config, &destination, &all, &workshop, &own);
        if let Some((name, task)) = verification::task(&config, &destination, &route, &settings, &inquiries, shared) {
            tasks.spawn(name, task);
        }
        let worker = worker(destination, route, settings, &spool, &metrics, &shutdown);
        tasks.spawn(worker.0, worker.1);
    }
    tasks.spawn("commitment", commitments.run(shutdown.clone()));
    for door in doors.0 {
        let name = format!("listener {}", door.listener.local_addr()?);
        let serving = receive::serve(door, Arc::clone(&reception));
        tasks.spawn(name, async move {
            serving.await;
            Ok(())
        });
    }
    tasks.spawn("uplink", uplink::watch(move || all.iter().for_each(|to| to.link_may_be_back()), shutdown.clone()));
    tasks.spawn("reload", reload.run(shutdown.clone()));
    tasks.spawn("pacer", volume::keep(pacer, config.data.clone(), shutdown.clone()));
    tasks.spawn("door book", book::keep(Arc::clone(&book), shutdown.clone()));
    if let Some(interval) = sd_notify::watchdog_enabled() {
        tasks.spawn("watchdog", feed_watchdog(spool.clone(), interval / 2, shutdown.clone()));
    }

    tell(&[NotifyState::Ready]);
    info!(aet:% = config.aet, listen:? = listen, listen_tls:? = listen_tls; "ready");
    let ended = until_the_end(&mut signals, died, &mut tasks).await;
    tell(&[NotifyState::Stopping]);
    shutdown.cancel();
    if ended.is_ok() {
        drain(&config, &reception, &mut tasks, &mut signals).await;
    }
    *hanging = tokio::time::timeout(LAST_MOMENT, reception.abandon()).await.is_err();
    asked.cancel();
    book::save_at_the_end(book).await;
    let closing = tokio::task::spawn_blocking(move || spool.close());
    if tokio::time::timeout(LAST_MOMENT, closing).await.is_err() {
        warn!("the disk does not answer; the next start recovers what was not finished");
    }
    ended
}

/// Why the process ends: asked to (`Ok`), or because it cannot go on.
async fn until_the_end(
    signals: &mut Signals,
    mut died: mpsc::Receiver<String>,
    tasks: &mut Tasks,
) -> Result<(), DaemonError> {
    tokio::select! {
        // The reason comes before the tasks that end because of it.
        biased;
        reason = died.recv() => Err(DaemonError::Fatal(reason.unwrap_or_else(|| "the spool ended".into()))),
        signal = signals.received() => {
            info!(signal; "stopping: what is in flight is finished first");
            Ok(())
        }
        (name, reason) = tasks.ended() => Err(DaemonError::TaskEnded { name, reason }),
    }
}

/// Lets sessions and deliveries finish what is in flight, within the grace or until asked again; the control socket
/// answers to the end.
async fn drain(config: &Config, reception: &Reception, tasks: &mut Tasks, signals: &mut Signals) {
    let finished = async {
        reception.ended().await;
        while tasks.len() > 1 {
            tasks.ended().await;
        }
    };
    tokio::select! {
        () = finished => info!("everything in flight is finished"),
        signal = signals.received() => warn!(signal; "asked again: what is in flight is left to the next start"),
        () = tokio::time::sleep(config.drain.grace) => warn!(
            seconds = config.drain.grace.as_secs();
            "not everything in flight could be finished in time; it is in the spool, or the modality keeps it"
        ),
    }
}

/// The TLS configurations that the sockets, the destinations and the reports to modalities need.
fn certificates(config: &Config, sockets: &Sockets) -> Result<Arc<tls::Live>, TlsError> {
    // With authorities at hand a modality may be given reports over TLS at any reload.
    let has_ca = config.tls.as_ref().is_some_and(|files| files.ca.is_some());
    let purpose = tls::Purpose {
        inwards: (!sockets.tls.is_empty()).then_some(config.client_certificates),
        outwards: has_ca || config.destinations.iter().any(|destination| destination.url.over_tls()),
    };
    tls::Live::load(config.tls.clone().unwrap_or_default(), purpose).map(Arc::new)
}

/// The sockets before anything is served on them.
#[derive(Default)]
struct Sockets {
    plain: Vec<TcpListener>,
    tls: Vec<TcpListener>,
}

struct Doors(Vec<Door>);

/// Takes what the service manager passed, and binds what the configuration names beyond that.
fn bind(config: &Config) -> Result<Sockets, DaemonError> {
    let mut sockets = Sockets::default();
    for inherited in inherited::take().map_err(DaemonError::Inherited)? {
        match inherited.tls {
            true => sockets.tls.push(inherited.listener),
            false => sockets.plain.push(inherited.listener),
        }
    }
    bind_beyond(&mut sockets.plain, &config.listen, &config.data)?;
    bind_beyond(&mut sockets.tls, &config.listen_tls, &config.data)?;
    if sockets.plain.is_empty() && sockets.tls.is_empty() {
        return Err(DaemonError::NoListener);
    }
    Ok(sockets)
}

/// Binds the addresses that the sockets of the service manager do not serve already: the configuration may name the
/// same port as the socket unit.
fn bind_beyond(sockets: &mut Vec<TcpListener>, addresses: &[SocketAddr], data: &Path) -> Result<(), DaemonError> {
    let handed_over = sockets.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    for address in addresses {
        if handed_over.iter().any(|bound| covers(*bound, *address)) {
            info!("the service manager listens on {address} for us");
            continue;
        }
        let bound = TcpListener::bind(address).map_err(|source| match DirectoryLock::take(data) {
            // Most often the address is taken by a gateway that runs already, on the same data.
            Err(LockError::Held(holder)) => OpenError::Locked { directory: data.display().to_string(), holder }.into(),
            _ => DaemonError::Bind { address: *address, source },
        });
        sockets.push(bound?);
    }
    Ok(())
}

/// Whether a socket that listens on `bound` gets the connections to `address`.
fn covers(bound: SocketAddr, address: SocketAddr) -> bool {
    bound.port() == address.port() && (bound.ip() == address.ip() || bound.ip().is_unspecified())
}

impl Sockets {
    fn doors(self, certificates: &tls::Live) -> io::Result<Doors> {
        let port = |sockets: &[TcpListener]| sockets.iter().find_map(|socket| Some(socket.local_addr().ok()?.port()));
        let (plain_port, tls_port) = (port(&self.plain), port(&self.tls));
        let door = |listener: TcpListener, tls: Option<Current<ServerConfig>>| {
            listener.set_nonblocking(true)?;
            let other = if tls.is_some() { plain_port } else { tls_port };
            Ok(Door { listener: tokio::net::TcpListener::from_std(listener)?, tls, other })
        };
        let plain = self.plain.into_iter().map(|listener| door(listener, None));
        let tls = self.tls.into_iter().map(|listener| door(listener, certificates.inwards().cloned()));
        plain.chain(tls).collect::<io::Result<Vec<_>>>().map(Doors)
    }
}

impl Doors {
    fn addresses(&self, tls: bool) -> io::Result<Vec<SocketAddr>> {
        self.0.iter().filter(|door| door.tls.is_some() == tls).map(|door| door.listener.local_addr()).collect()
    }
}

async fn open_spool(config: &Config, fatal: mpsc::Sender<String>) -> Result<Spool, DaemonError> {
    let (data, options) = (config.data.clone(), options(config));
    let opening = tokio::task::spawn_blocking(move || {
        Spool::open(&data, options, move |reason: String| {
            // Only the first reason counts, and a process that is ending already needs none.
            let _ = fatal.try_send(reason);
        })
    });
    let (spool, opened) = opening.await.map_err(|error| io::Error::other(error.to_string()))??;
    report(&config.data, &opened);
    Ok(spool)
}

/// The addresses on which we listen.
fn addresses(sockets: &Sockets) -> io::Result<Vec<SocketAddr>> {
    sockets.plain.iter().chain(&sockets.tls).map(TcpListener::local_addr).collect()
}

fn report(data: &Path, opened: &Opened) {
    let milliseconds = u64::try_from(opened.took.as_millis()).unwrap_or(u64::MAX);
    info!(data:% = data.display(), replayed = opened.replayed, swept = opened.swept, milliseconds; "spool open");
    if let Some(reason) = &opened.rebuilt {
        let restored = opened.restored;
        warn!(
            restored;
            "the index was built again from the log: {reason}; {restored} deliveries are known to be made from the ledger, \
             any other is made once more"
        );
    }
    if opened.damaged > 0 {
        error!(places = opened.damaged; "the log is damaged and these places were skipped; check the disk of this box");
    }
}

fn options(config: &Config) -> SpoolOptions {
    SpoolOptions {
        segment_size: config.spool.segment_size,
        reserve: config.spool.reserve,
        evict_below: config.spool.evict_below,
        warn_below: config.spool.warn_below,
        keep_delivered: config.spool.keep_delivered,
        keep_records: config.spool.keep_records,
        conflicts: config.spool.conflicts,
        scrub_rate: config.spool.scrub_rate,
        zstd_level: config.spool.compression_level,
        ..SpoolOptions::default()
    }
}

fn timeouts(config: &Config) -> Timeouts {
    Timeouts {
        association: config.limits.association_timeout,
        idle: config.limits.idle_timeout,
        minimum_rate: config.limits.min_rate,
        ..Timeouts::default()
    }
}

/// What the configuration was warned of, but what changes while the gateway runs: what is the matter with certificates,
/// and that nobody may send.
fn standing_warnings(config: &Config) -> Vec<String> {
    let stands = |finding: &&Finding| !tls::Concern::is_remedied_by(&finding.remedy) && finding.what != config::NOBODY;
    let of_file = config.warnings.iter().filter(stands).map(ToString::to_string);
    let is_far = |to: &config::Destination| !matches!(to.url, DestinationUrl::Folder(_));
    let of_system = config.destinations.iter().any(is_far).then(forward::socket::missing).flatten();
    of_file.chain(of_system).collect()
}

/// How to reach a destination; TLS is part of the way or there is none.
fn route(url: DestinationUrl, web: Option<&WebSettings>, certificates: &tls::Live) -> Result<Route, TlsError> {
    let outwards = |purpose| match certificates.outwards() {
        Some(current) => Ok(current.clone()),
        None => Err(TlsError::Missing { purpose, key: "ca" }),
    };
    match url {
        DestinationUrl::Dicom(peer) => Ok(Route::Plain(peer)),
        DestinationUrl::Dicoms(peer) => Ok(Route::Tls(peer, outwards("a dicoms:// destination")?)),
        DestinationUrl::Dicomweb(url) => {
            let settings = web.cloned().unwrap_or_default();
            Ok(Route::Web(Box::new(Service { url, settings, tls: outwards("an https:// destination")? })))
        }
        DestinationUrl::Folder(folder) => Ok(Route::Folder(folder)),
    }
}

/// Wakes who delivers there, and who may stand in.
fn wake_on_queued(spool: &Spool, config: &Config, destinations: &[(DestinationUrl, Arc<Destination>)]) {
    let queues = |configured: &config::Destination| {
        let other = configured.stands_in.as_ref().map(|stand_in| stand_in.whom.clone());
        [Some(configured.name.clone()), other]
    };
    let destinations = destinations.iter().map(|(_, destination)| Arc::clone(destination));
    let concerned: Vec<_> = config.destinations.iter().map(queues).zip(destinations).collect();
    spool.on_queued(move |name| {
        for (queues, destination) in &concerned {
            if queues.iter().flatten().any(|queue| queue == name) {
                destination.queued();
            }
        }
    });
}

/// A destination of the configuration, with what holds back what goes there.
fn destination(to: &config::Destination, link: &Arc<Pace>) -> Arc<Destination> {
    Arc::new(Destination::paced(to.name.clone(), Pace::of_destination(to.shaping.clone(), link)))
}

/// How a destination is worked.
fn settings(
    config: &Config,
    destination: &Destination,
    all: &[Arc<Destination>],
    workshop: &forward::compact::Workshop,
    own: &[SocketAddr],
) -> forward::Settings {
    let name = &destination.name;
    let configured = config.destinations.iter().find(|configured| configured.name == *name);
    let stands_in = configured.and_then(|configured| configured.stands_in.as_ref()).and_then(|stand_in| {
        let whom = all.iter().find(|destination| destination.name == stand_in.whom)?;
        Some(forward::StandIn { whom: Arc::clone(whom), after: stand_in.after })
    });
    forward::Settings {
        calling: config.aet.clone(),
        dialer: Dialer::new(own, Arc::clone(destination.wires())),
        backoff: Backoff { first: config.retry.first_delay, cap: config.retry.max_delay },
        timeouts: Timeouts { association: config.delivery.connect_timeout, ..Timeouts::default() },
        associations: configured.map_or(1, |configured| configured.associations),
        tries: config.retry.tries_before_parking,
        patience: config.delivery.response_timeout,
        limits: Limits {
            max_instance: configured.and_then(|configured| configured.max_instance),
            max_transfer: configured.and_then(|configured| configured.max_transfer),
        },
        verify_after: configured.and_then(|destination| destination.verify).map(|verify| verify.after),
        stands_in,
        coercions: forward::Coercions::of(&config.coercions, name, &config.aet),
        workshop: configured.is_some_and(|configured| configured.compress).then(|| workshop.clone()),
    }
}

fn worker(
    destination: Arc<Destination>,
    route: Route,
    settings: forward::Settings,
    spool: &Spool,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> (String, impl Future<Output = Result<(), String>> + use<>) {
    let name = format!("destination {}", destination.name);
    let running = forward::run(destination, route, settings, spool.clone(), metrics.clone(), shutdown.clone());
    (name, async move { running.await.map_err(|error: SpoolError| error.to_string()) })
}

/// Tells the service manager that the gateway works, as long as the spool answers and its threads get on.
async fn feed_watchdog(spool: Spool, interval: Duration, shutdown: CancellationToken) -> Result<(), String> {
    let mut told = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(interval) => {}
        }
        let stall = spool.stalled(clock::now(), HUNG);
        if let Some(Stall { thread, waited }) = stall.filter(|_| !told) {
            error!(
                thread, seconds = waited.as_secs();
                "the disk does not answer the thread {thread}; unless it does soon, the service manager starts the gateway again: check the disk"
            );
        }
        told = stall.is_some();
        if told {
            continue;
        }
        tokio::task::block_in_place(|| spool.status()).map_err(|error| error.to_string())?;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Without a service manager there is nobody to tell.
fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state)
        && std::env::var_os("NOTIFY_SOCKET").is_some()
    {
        warn!("the service manager cannot be told {state:?}: {error}");
    }
}

/// Named tasks, each of which should run as long as the process.
#[derive(Default)]
struct Tasks(JoinSet<(String, Result<(), String>)>);

impl Tasks {
    fn spawn(&mut self, name: impl Into<String>, task: impl Future<Output = Result<(), String>> + Send + 'static) {
        let name = name.into();
        self.0.spawn(async move {
            let result = task.await;
            (name, result)
        });
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// The next task that ends, and why.
    async fn ended(&mut self) -> (String, String) {
        match self.0.join_next().await {
            Some(Ok((name, Ok(())))) => (name, "it had nothing more to do".into()),
            Some(Ok((name, Err(reason)))) => (name, reason),
            Some(Err(error)) => ("of unknown name".into(), error.to_string()),
            None => std::future::pending().await,
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the socket unit enabled and `listen` left in the configuration, every start failed: address in use.
    #[test]
    fn an_address_that_the_service_manager_serves_is_not_bound_again() {
        let handed_over = TcpListener::bind("127.0.0.1:0").unwrap();
        let served = handed_over.local_addr().unwrap();
        let mut sockets = vec![handed_over];
        bind_beyond(&mut sockets, &[served, "127.0.0.1:0".parse().unwrap()], Path::new("/nowhere")).unwrap();
        assert_eq!(sockets.len(), 2);
        assert!(covers("[::]:104".parse().unwrap(), "0.0.0.0:104".parse().unwrap()));
        assert!(!covers("127.0.0.1:104".parse().unwrap(), "0.0.0.0:104".parse().unwrap()));
    }
}
