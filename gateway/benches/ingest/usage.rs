//! What a receiver has used, from `/proc`: processor time and memory of the process and of its children.

use std::fs;
use std::time::Duration;

/// Processor time and memory of a process and its children.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// The most memory that was resident at a time, in bytes; of several processes the sum.
    pub(crate) peak: u64,
}

/// Of a process, its children that run, and those that it has waited for.
pub(crate) fn of(process: u32) -> Usage {
    let mut all = vec![process];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && stat(&format!("/proc/{id}/stat")).get(1) == Some(&u64::from(process))
        {
            all.push(id);
        }
    }
    let mut usage = Usage::default();
    for id in all {
        // utime, stime, cutime and cstime are the fields 14 to 17, of which `stat` leaves out the first two.
        let ticks: u64 = stat(&format!("/proc/{id}/stat")).get(11..15).unwrap_or_default().iter().sum();
        usage.cpu += ticks_to_time(ticks);
        usage.peak += peak(id);
    }
    usage
}

/// Processor time of this process alone.
pub(crate) fn of_self() -> Duration {
    ticks_to_time(stat("/proc/self/stat").get(11..13).unwrap_or_default().iter().sum())
}

/// Processor time that the whole machine has spent on anything.
pub(crate) fn of_machine() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> =
        text.lines().next().unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|field| fields.get(*field)).sum();
    ticks_to_time(busy)
}

/// The fields of a `stat` behind the name; what is no number counts as 0.
fn stat(path: &str) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect()
}

fn peak(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn ticks_to_time(ticks: u64) -> Duration {
    /// Linux shows its processor times in units of 1/100 s to everybody.
    const TICKS_PER_SECOND: u64 = 100;
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}
