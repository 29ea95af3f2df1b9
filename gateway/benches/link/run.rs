//! One run: a fresh link, one sender, one series.
//!
//! **Cold start.** The cable is out and the link is closed while everything is made ready: the archive listens, the
//! gateway and the near Orthanc have the whole series. Then the cable is put in, the link opens, and the clock starts;
//! that is also when dcmsend and storescu are started. Two times are taken, both until the last answer (the last payload
//! that came back): from the opening, and from the first TCP segment on the link, which leaves out how long somebody
//! waits before he tries again. **Live**: the link is open, and a modality sends to the gateway on the near side.
//!
//! **Long**: a series that lasts longer than what is measured; the run is ended after a while, and only the share of the
//! link counts.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::check::{self, Checked};
use super::gateway::{self, Gateway, Scenario};
use super::link::counted::{Counted, float};
use super::link::namespace::Namespace;
use super::link::{FAR, Link, Settings};
use super::orthanc::{Orthanc, Way};
use super::peer::{PATIENCE, Peer};
use super::series::Series;
use super::usage;

/// Where storescp listens.
const STORESCP: u16 = 11_113;
/// A transfer is said to have found its pace.
const START: Duration = Duration::from_secs(5);
/// A share is told of what lasted as much longer.
const ENOUGH: Duration = Duration::from_secs(3);

/// Who sends to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// dcmsend to storescp.
    Dcmsend,
    /// storescu to storescp.
    Storescu,
    /// Orthanc to Orthanc by C-STORE.
    OrthancModality,
    /// Orthanc to Orthanc by STOW-RS.
    OrthancStow,
    /// The gateway to storescp, from a cold start.
    Waystation,
    /// The gateway to storescp, while a modality sends to it.
    WaystationLive,
    /// The gateway to another one on the far side, from a cold start.
    WaystationPair,
    /// The gateway to storescp, a long series.
    WaystationLong,
}

impl Kind {
    pub(crate) const ALL: [Self; 8] = [
        Self::Dcmsend,
        Self::Waystation,
        Self::WaystationLive,
        Self::WaystationPair,
        Self::WaystationLong,
        Self::Storescu,
        Self::OrthancModality,
        Self::OrthancStow,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dcmsend => "dcmsend → storescp",
            Self::Storescu => "storescu → storescp",
            Self::OrthancModality => "Orthanc → Orthanc, C-STORE",
            Self::OrthancStow => "Orthanc → Orthanc, STOW",
            Self::Waystation => "**Waystation** → storescp",
            Self::WaystationLive => "**Waystation** → storescp, live",
            Self::WaystationPair => "**Waystation → Waystation**",
            Self::WaystationLong => "**Waystation** → storescp, long series",
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Waystation | Self::WaystationLive | Self::WaystationPair | Self::WaystationLong)
    }
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Whether the sender said that all is delivered, before its time was over.
    pub(crate) is_complete: bool,
    /// From the first segment on the link, and from its opening, to the last answer.
    pub(crate) took: Duration,
    pub(crate) took_from_opening: Duration,
    pub(crate) checked: Checked,
    /// TCP payload given to the link, there and back.
    pub(crate) payload: [u64; 2],
    /// What of the payload there TCP has sent again, or is lost.
    pub(crate) again: u64,
    /// Of the link's capacity while it was there, after the first seconds, without what was sent twice.
    pub(crate) share: Option<f64>,
    /// What of the payload that arrived is in none of the data sets that arrived, beyond what the protocol needs.
    pub(crate) twice: u64,
    pub(crate) cuts: u32,
    pub(crate) connections: u64,
    /// Of packets from near to far.
    pub(crate) queueing: [Duration; 3],
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
    /// Of the time of all processors of this machine, how much somebody used, whoever it was, from the opening on.
    pub(crate) busy: f64,
    pub(crate) remark: String,
}

impl Outcome {
    pub(crate) fn in_short(&self) -> String {
        format!(
            "{:.1} s ({:.1} s from the opening), {} of {}, {:.1} MB there, share {}{}",
            self.took.as_secs_f64(),
            self.took_from_opening.as_secs_f64(),
            self.checked.arrived,
            self.checked.sent,
            float(self.payload[0]) / 1e6,
            self.share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            if self.remark.is_empty() { String::new() } else { format!("; {}", self.remark) },
        )
    }
}

/// What is run.
pub(crate) struct Plan<'p> {
    pub(crate) kind: Kind,
    pub(crate) settings: Settings,
    pub(crate) series: &'p Series,
    /// When the run is ended from outside.
    pub(crate) limit: Duration,
    pub(crate) scenario: Scenario,
}

/// Runs it in `folder`, which is made anew and removed.
pub(crate) fn run(plan: &Plan<'_>, folder: &Path) -> Result<Outcome, Box<dyn Error>> {
    run_beside(plan, folder, |_| Ok(()), |_, _, ()| Ok(())).map(|(outcome, ())| outcome)
}

/// The same; `at_opening` is called when the link opens, and `at_end`, with the time of the opening, when the sender has
/// finished.
pub(crate) fn run_beside<B, T>(
    plan: &Plan<'_>,
    folder: &Path,
    at_opening: impl FnOnce(&Link) -> Result<B, Box<dyn Error>>,
    at_end: impl FnOnce(&Link, Duration, B) -> Result<T, Box<dyn Error>>,
) -> Result<(Outcome, T), Box<dyn Error>> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let arrived = folder.join("arrived");
    fs::create_dir_all(&arrived)?;
    let link = Link::new(plan.settings)?;
    link.plug(false)?;
    let mut sender = Sender::ready(plan, &link, folder, &arrived)?;
    link.plug(true)?;
    let opened = link.open();
    let before = usage::of_machine();
    let beside = at_opening(&link)?;
    sender.go(plan, &link, folder)?;
    let remark = loop {
        match sender.ended()? {
            Some(Ok(())) => break None,
            Some(Err(why)) => break Some(why),
            None if link.now() > began(plan, &link, opened) + plan.limit => {
                break Some(format!("ended after {} s", plan.limit.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let ended = link.now();
    let busy = usage::of_machine().saturating_sub(before);
    let beside = at_end(&link, opened, beside)?;
    let (up, down) = (link.up(), link.down());
    let schedule = link.schedule();
    link.close();
    sender.collect(&arrived)?;
    drop(sender);
    let checked = check::of(&plan.series.folder, &arrived)?;
    let mut outcome = outcome(&up, &down, opened, ended, checked);
    outcome.cuts = schedule.cuts_between(opened, ended);
    let remark = remark.or_else(|| match outcome.checked.sent.saturating_sub(outcome.checked.arrived) {
        0 => None,
        missing => Some(format!("it says that all is well, and {missing} did not arrive")),
    });
    outcome.is_complete = remark.is_none();
    outcome.remark = remark.unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    outcome.busy = busy.as_secs_f64() / float(processors as u64) / ended.saturating_sub(opened).as_secs_f64();
    let from = up.first_segment.unwrap_or(opened) + START;
    if !outcome.is_complete {
        // What it waited for in vain counts.
        outcome.took = ended.saturating_sub(up.first_segment.unwrap_or(opened));
        outcome.took_from_opening = ended.saturating_sub(opened);
    }
    let until = if outcome.is_complete { up.last_payload.unwrap_or(opened) } else { ended };
    if until > from + ENOUGH {
        let (fresh, _) = up.between(from, until, |sample| sample.fresh);
        let capacity = float(plan.settings.up.rate) / 8.0 * schedule.up_between(from, until).as_secs_f64();
        let once = if outcome.cuts > 0 { outcome.twice } else { 0 };
        outcome.share = Some(float(fresh.saturating_sub(once)) / capacity);
    }
    drop(link);
    fs::remove_dir_all(folder)?;
    Ok((outcome, beside))
}

/// When the time of a run began: when the link opened, for a long series with the first segment, which is waited for.
fn began(plan: &Plan<'_>, link: &Link, opened: Duration) -> Duration {
    /// More than a sender waits before it tries again.
    const LONGEST: Duration = Duration::from_secs(300);
    if plan.kind != Kind::WaystationLong {
        return opened;
    }
    link.up().first_segment.unwrap_or_else(|| link.now().min(opened + LONGEST))
}

fn outcome(up: &Counted, down: &Counted, opened: Duration, ended: Duration, checked: Checked) -> Outcome {
    /// Commands, heads of PDUs, negotiation: what every instance and every connection need beside the data set.
    const OF_INSTANCE: u64 = 4_096;
    const OF_CONNECTION: u64 = 32_768;
    let last = down.last_payload.unwrap_or(ended);
    let needed = checked.bytes + checked.bytes / 500 + checked.arrived * OF_INSTANCE + up.opened * OF_CONNECTION;
    Outcome {
        took: last.saturating_sub(up.first_segment.unwrap_or(opened)),
        took_from_opening: last.saturating_sub(opened),
        payload: [up.entered.payload, down.entered.payload],
        again: up.entered.payload.saturating_sub(up.fresh),
        twice: up.fresh.saturating_sub(needed),
        connections: up.opened,
        queueing: [up.queueing.quantile(0.5), up.queueing.quantile(0.95), up.queueing.most()]
            .map(Duration::from_micros),
        dropped: up.overflowed.packets,
        lost: up.lost.packets + down.lost.packets,
        checked,
        ..Outcome::default()
    }
}

/// The processes of a run. Whoever sends is dropped before whoever receives.
enum Sender<'l> {
    Tool { sending: Option<Peer>, _archive: Peer },
    Orthanc { way: Way, near: Orthanc<'l>, far: Orthanc<'l>, names: Vec<String>, job: Option<String> },
    Gateway { gateway: Gateway, modality: Option<Peer>, instances: u64, _archive: Peer },
    Pair { near: Gateway, _far: Gateway, instances: u64 },
}

impl<'l> Sender<'l> {
    /// Starts everybody, and gives those that store and forward what there is to forward.
    fn ready(plan: &Plan<'_>, link: &'l Link, folder: &Path, arrived: &Path) -> Result<Self, Box<dyn Error>> {
        let instances = plan.series.files.len() as u64;
        let settings = gateway::settings(plan.scenario).ok_or("the gateway cannot do that yet")?;
        let near = |to: &str| Gateway::start("waystation", link.near(), Ipv4Addr::LOCALHOST, folder, to, &settings);
        Ok(match plan.kind {
            Kind::Dcmsend | Kind::Storescu => {
                Self::Tool { sending: None, _archive: storescp(link.far(), folder, arrived)? }
            }
            Kind::OrthancModality | Kind::OrthancStow => {
                let way = if plan.kind == Kind::OrthancStow { Way::Stow } else { Way::Modality };
                let (far, near) = (Orthanc::far(link, folder)?, Orthanc::near(link, folder)?);
                let names = near.take(&plan.series.files)?;
                Self::Orthanc { way, near, far, names, job: None }
            }
            Kind::Waystation | Kind::WaystationLive | Kind::WaystationLong => {
                let archive = storescp(link.far(), folder, arrived)?;
                let mut gateway = near(&format!("dicom://ARCHIVE@{FAR}:{STORESCP}"))?;
                if plan.kind != Kind::WaystationLive {
                    fill(&mut gateway, link.near(), folder, &plan.series.files)?;
                }
                Self::Gateway { gateway, modality: None, instances, _archive: archive }
            }
            Kind::WaystationPair => {
                let to = format!("file://{}", arrived.display());
                let far = Gateway::start("waystation-far", link.far(), FAR, folder, &to, "")?;
                let mut near = near(&format!("dicom://WAYSTATION@{FAR}:{}", gateway::PORT))?;
                fill(&mut near, link.near(), folder, &plan.series.files)?;
                Self::Pair { near, _far: far, instances }
            }
        })
    }

    /// The link is open.
    fn go(&mut self, plan: &Plan<'_>, link: &Link, folder: &Path) -> Result<(), Box<dyn Error>> {
        let archive = SocketAddr::from((FAR, STORESCP));
        match self {
            Self::Tool { sending, .. } if plan.kind == Kind::Storescu => {
                let mut command = Command::new("storescu");
                command.args(["-v", "-R", "-nh", "-aec", "ARCHIVE"]);
                command.arg(archive.ip().to_string()).arg(archive.port().to_string()).args(&plan.series.files);
                *sending = Some(Peer::start("storescu", link.near(), folder, command)?);
            }
            Self::Tool { sending, .. } => {
                *sending = Some(dcmsend(link.near(), folder, archive, "ARCHIVE", &plan.series.files)?);
            }
            Self::Orthanc { way, near, names, job, .. } => *job = Some(near.send(*way, names)?),
            Self::Gateway { modality, .. } if plan.kind == Kind::WaystationLive => {
                let gateway = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway::PORT));
                *modality = Some(dcmsend(link.near(), folder, gateway, "WAYSTATION", &plan.series.files)?);
            }
            Self::Gateway { .. } | Self::Pair { .. } => {}
        }
        Ok(())
    }

    /// Whether it has done what it had to do, or why not, once it has come to an end.
    fn ended(&mut self) -> Result<Option<Result<(), String>>, Box<dyn Error>> {
        let delivered = |gateway: &mut Gateway, instances| {
            if gateway.peer.has_ended() {
                return Err(format!("the gateway ended:\n{}", gateway.peer.last_words()).into());
            }
            // Whoever is asked all the time has less time for the link.
            std::thread::sleep(Duration::from_millis(300));
            let counters = gateway.counters().unwrap_or_default();
            let parked = || Err(format!("{} parked", counters.parked));
            let all = counters.queued == 0 && counters.delivered + counters.parked >= instances;
            Ok(all.then(|| if counters.parked > 0 { parked() } else { Ok(()) }))
        };
        match self {
            Self::Tool { sending, .. } => Ok(sending.as_mut().and_then(|sending| {
                let is_well = sending.outcome()?;
                Some(if is_well { Ok(()) } else { Err(last_line(&sending.last_words())) })
            })),
            Self::Orthanc { near, job, .. } => match job {
                Some(job) => near.ended(job),
                None => Ok(None),
            },
            Self::Gateway { gateway, instances, .. } => delivered(gateway, *instances),
            Self::Pair { near, instances, .. } => delivered(near, *instances),
        }
    }

    /// Puts what arrived into the folder, where it is not there already.
    fn collect(&mut self, arrived: &Path) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Orthanc { far, .. } => far.fetch_all(arrived),
            // The far gateway is still writing what it has acknowledged.
            Self::Pair { near, _far: far, .. } => {
                let wanted = near.counters().unwrap_or_default().delivered;
                let done = |far: &Gateway| far.counters().is_some_and(|far| far.queued == 0 && far.delivered >= wanted);
                let began = waystation::clock::now();
                while !done(far) && began.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok(())
            }
            Self::Tool { .. } | Self::Gateway { .. } => Ok(()),
        }
    }
}

fn last_line(words: &str) -> String {
    words.lines().last().unwrap_or("no reason").to_owned()
}

fn storescp(namespace: &Namespace, folder: &Path, into: &Path) -> Result<Peer, Box<dyn Error>> {
    let mut command = Command::new("storescp");
    // Writes what comes as it comes, takes every class and transfer syntax, and several associations at once. Each arrival has
    // a file of its own: of two with one name, the association that breaks off removes that of the one that was answered.
    command.args(["+B", "+uf", "+xa", "-pm", "-dhl", "--fork", "-pdu", "131072", "-aet", "ARCHIVE"]);
    command.arg("-od").arg(into).arg(STORESCP.to_string());
    let mut peer = Peer::start("storescp", namespace, folder, command)?;
    peer.listens(namespace, SocketAddr::from((Ipv4Addr::LOCALHOST, STORESCP)))?;
    Ok(peer)
}

fn dcmsend(
    namespace: &Namespace,
    folder: &Path,
    to: SocketAddr,
    called: &str,
    files: &[PathBuf],
) -> Result<Peer, Box<dyn Error>> {
    let mut command = Command::new("dcmsend");
    // No judgement on UIDs, no decompression.
    command.args(["-v", "-nuc", "-dn", "-aec", called]);
    command.arg(to.ip().to_string()).arg(to.port().to_string()).args(files);
    Peer::start("dcmsend", namespace, folder, command)
}

/// Sends everything to the gateway on the near side, and waits until it has it.
fn fill(gateway: &mut Gateway, namespace: &Namespace, folder: &Path, files: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, gateway::PORT));
    let mut sending = dcmsend(namespace, folder, address, "WAYSTATION", files)?;
    let began = waystation::clock::now();
    while sending.outcome().is_none() {
        if began.elapsed() > PATIENCE * 5 {
            return Err(format!("the gateway does not take the series:\n{}", sending.last_words()).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let wanted = files.len() as u64;
    let look = waystation::clock::now();
    loop {
        let counters = gateway.counters().unwrap_or_default();
        if counters.queued == wanted {
            return Ok(());
        }
        if look.elapsed() > PATIENCE {
            return Err(format!("{counters:?} of {wanted}:\n{}", gateway.peer.last_words()).into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
