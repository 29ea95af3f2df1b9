//! One measurement: one receiver, one load, a number of associations.

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::Case;
use super::receiver::{Kind, Receiver};
use super::sender::{self, Association};
use super::usage;

/// How long a receiver may go on with what it has put off, before its processor time is taken: the commits of an index.
const SETTLE: Duration = Duration::from_millis(700);

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) instances_per_second: f64,
    /// Bytes of data sets per second.
    pub(crate) bytes_per_second: f64,
    /// Processor time of the receiver, in seconds per GB of data sets, and per instance.
    pub(crate) cpu_per_gb: f64,
    pub(crate) cpu_per_instance: f64,
    /// Processor time of the sender, in seconds per GB.
    pub(crate) sender_cpu_per_gb: f64,
    /// Processor time of everybody else while it was measured, in processors.
    pub(crate) others: f64,
    /// The receiver's peak of resident memory, in bytes.
    pub(crate) peak: u64,
    /// For the gateway: flushes of its log per record, and how many times smaller the records are than the data sets.
    pub(crate) spool: Option<(f64, f64)>,
    /// For a disk that counts them: flushes that reached it, the receiver's start and warm-up included.
    pub(crate) device_flushes: Option<u64>,
    /// Instances, the warm-up included.
    pub(crate) all_instances: u64,
}

impl Measured {
    pub(crate) fn in_short(&self) -> String {
        let spool = self.spool.map_or_else(String::new, |(flushes, ratio)| {
            format!(", {flushes:.2} flushes per instance, {ratio:.2}:1 at rest")
        });
        let device = self.device_flushes.map_or_else(String::new, |flushes| format!(", {flushes} flushes of the disk"));
        format!(
            "{:>6.0} instances/s, {:>6.1} MB/s, {:>5.2} CPU s/GB, {:>6.1} MB{spool}{device} (sender {:.2} CPU s/GB, others {:.1} CPU)",
            self.instances_per_second,
            self.bytes_per_second / 1e6,
            self.cpu_per_gb,
            float(self.peak) / 1e6,
            self.sender_cpu_per_gb,
            self.others,
        )
    }
}

/// Starts the receiver below `folder`, sends, takes the measures, ends it.
pub(crate) fn measure(kind: Kind, case: &Case<'_>, folder: &Path) -> Result<Measured, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    // Nobody pays for what another has left in the cache.
    nix::unistd::syncfs(File::open(folder)?)?;
    let receiver = Receiver::start(kind, &folder.join("receiver"), case.associations)?;
    run(&receiver, case).map_err(|error| format!("{}: {error}\n{}", kind.name(), receiver.last_words()).into())
}

fn run(receiver: &Receiver, case: &Case<'_>) -> Result<Measured, Box<dyn Error>> {
    let open = |_| Association::open_when_ready(receiver.address, receiver.kind.called(), case.load);
    let mut associations = (0..case.associations).map(open).collect::<Result<Vec<_>, _>>()?;
    let process = receiver.id();
    let mut before = None;
    let all = || (usage::of(process).cpu, usage::of_self(), usage::of_machine());
    let (began, ended) = sender::run(&mut associations, case.warm_up, case.count, || before = Some(all()))?;
    let (_, sender_after, machine_after) = all();
    std::thread::sleep(SETTLE);
    let after = usage::of(process);
    associations.into_iter().for_each(Association::release);

    let (cpu_before, sender_before, machine_before) = before.unwrap_or_default();
    let took = ended.saturating_duration_since(began);
    let cpu = after.cpu.saturating_sub(cpu_before).as_secs_f64();
    let sender_cpu = sender_after.saturating_sub(sender_before).as_secs_f64();
    let machine = machine_after.saturating_sub(machine_before).as_secs_f64();
    let instances = float((case.count * case.associations) as u64);
    let bytes = float(case.load.bytes(case.count)) * float(case.associations as u64);
    Ok(Measured {
        instances_per_second: instances / took.as_secs_f64(),
        bytes_per_second: bytes / took.as_secs_f64(),
        cpu_per_gb: cpu / (bytes / 1e9),
        cpu_per_instance: cpu / instances,
        sender_cpu_per_gb: sender_cpu / (bytes / 1e9),
        others: ((machine - cpu - sender_cpu) / took.as_secs_f64()).max(0.0),
        peak: after.peak,
        spool: if receiver.kind.is_ours() { Some(spool(receiver)?) } else { None },
        device_flushes: None,
        all_instances: ((case.warm_up + case.count) * case.associations) as u64,
    })
}

/// Flushes per record, and the ratio at rest.
fn spool(receiver: &Receiver) -> Result<(f64, f64), Box<dyn Error>> {
    let spool = receiver.spool()?;
    let number = |name: &str| spool[name].as_f64().ok_or_else(|| format!("the status has no {name}"));
    Ok((number("flushes")? / number("records")?, number("bytes")? / number("stored-bytes")?))
}

/// For people and ratios: what is lost is beyond the fifteenth digit.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}
