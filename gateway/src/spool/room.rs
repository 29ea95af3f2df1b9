//! Room: how the disk never becomes so full that the index cannot be changed.
//!
//! ```text
//! free │
//!      │ …           all is well
//! warn_below ─────── status warns
//! evict_below ────── copies that every destination has are freed, the oldest first
//! reserve ────────── receptions are refused: A-ASSOCIATE-RJ transient, or status A700
//!      │             deliveries go on, and need a little room in the index
//! nearly nothing ─── somebody else fills the disk: the ballast is given back
//!      0 ─────────── the index waits, and goes on by itself when there is room
//! ```
//!
//! redb does not survive a commit that meets a full disk, so none is begun without the room that it may take
//! ([`wait_for_commit`]). The ballast is a file of a quarter of the reserve that is allocated and holds nothing: what
//! other programs cannot take. It is made again when there is room.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::{Doing, SpoolError};
use super::index::{DAY, Day};
use super::segment::Layout;
use super::shared::{Shared, SpoolOptions};
use crate::clock::SpoolTime;
use crate::durable::{Disk, Fate, publish};

/// What a commit may take, in bytes: once, and for each change in it. Generous: redb writes every page that a change
/// touches anew, and gives the old ones back only with the commit after.
const PER_COMMIT: u64 = 512 << 10;
const PER_CHANGE: u64 = (24 << 10) + PER_LINE;
/// What the ledger may take for a change, in bytes: what is longer is rare, and is tried again.
const PER_LINE: u64 = 4 << 10;
/// The largest ballast, in bytes.
const LARGEST_BALLAST: u64 = 256 << 20;
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// The days over which the present rate is taken.
const RATE_DAYS: u64 = 7;

/// The size of the ballast, in bytes; 0 if there is none.
pub(super) fn ballast_size(options: &SpoolOptions) -> u64 {
    (options.reserve / 4).min(LARGEST_BALLAST) / 4_096 * 4_096
}

/// Gives the ballast back; false if there was none. Failing is no harm: whoever asked finds no room.
pub(super) fn release_ballast(disk: &dyn Disk, layout: &Layout) -> bool {
    let released = disk.remove(&layout.ballast).is_ok() && disk.sync_dir(&layout.data).is_ok();
    if released {
        log::warn!("the disk is full: the ballast {} was given back to go on", layout.ballast.display());
    }
    released
}

/// Makes the ballast if there is none and room for it above the reserve.
pub(super) fn make_ballast(shared: &Shared) -> Result<(), SpoolError> {
    let (disk, path) = (&shared.disk, &shared.layout.ballast);
    let size = ballast_size(&shared.options);
    let present = disk.open(path, false).and_then(|file| file.length()).ok();
    shared.ballast.store(present.unwrap_or(0), Ordering::Relaxed);
    if present == Some(size) || size == 0 {
        return Ok(());
    }
    let free = shared.free()?;
    if free < shared.options.reserve.saturating_add(size) {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    // On a full disk an earlier one may not even have been removed.
    let _ = disk.remove(&temporary);
    let file = disk.create(&temporary).doing("create", &temporary).map_err(|failure| shared.refuse(failure))?;
    if let Err(failure) = file.allocate(size).doing("reserve room for", &temporary) {
        let _ = disk.remove(&temporary);
        return Err(shared.refuse(failure));
    }
    if let Err(failure) = publish(&**disk, &*file, &temporary, path).doing("make durable", &temporary) {
        if failure.fate() == Fate::NoRoom {
            // Nothing of worth was in it.
            let _ = disk.remove(&temporary);
            return Err(shared.refuse(failure));
        }
        // It may be a flush, after which nothing that was written before can be trusted.
        return Err(shared.unsynced(&failure));
    }
    shared.ballast.store(size, Ordering::Relaxed);
    Ok(())
}

/// Waits until a commit of up to `changes` changes cannot meet a full disk, and gives how many of them it may have.
/// Nothing if the spool is closed or has failed while it waits.
pub(super) fn wait_for_commit(shared: &Shared, changes: usize) -> Option<usize> {
    let mut said = false;
    loop {
        // Where the system does not tell, the commit finds out.
        let free = shared.disk.free(&shared.layout.data).unwrap_or(u64::MAX);
        let affordable = usize::try_from(free.saturating_sub(PER_COMMIT) / PER_CHANGE).unwrap_or(usize::MAX);
        if affordable > 0 || changes == 0 {
            return Some(changes.min(affordable));
        }
        if shared.ballast.load(Ordering::Relaxed) > 0 && release_ballast(&*shared.disk, &shared.layout) {
            shared.ballast.store(0, Ordering::Relaxed);
            continue;
        }
        if !std::mem::replace(&mut said, true) {
            log::error!(
                "the disk of {} is full: nothing is recorded until there is room; remove what is not Waystation's",
                shared.layout.data.display()
            );
        }
        wait_a_moment(shared)?;
    }
}

/// Waits a little for room. Nothing if the spool is closed or has failed.
pub(super) fn wait_a_moment(shared: &Shared) -> Option<()> {
    if shared.closing.load(Ordering::Relaxed) || shared.check().is_err() {
        return None;
    }
    std::thread::sleep(ASK_AGAIN);
    Some(())
}

/// Bytes stored per day, as the last days have it; nothing before anything came. A first day counts as a whole one.
pub(super) fn rate(history: &[Day], now: SpoolTime) -> Option<u64> {
    let since = (now.0 / DAY).saturating_sub(RATE_DAYS - 1);
    let recent = history.iter().filter(|entry| entry.day >= since);
    let first = recent.clone().map(|entry| entry.day).min()?;
    let stored = recent.fold(0_u64, |sum, entry| sum.saturating_add(entry.stored));
    let elapsed = now.0.saturating_sub(first * DAY).max(DAY);
    u64::try_from(u128::from(stored) * u128::from(DAY) / u128::from(elapsed)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_mean_of_the_last_week_and_a_first_day_counts_whole() {
        let now = SpoolTime(20 * DAY + DAY / 2);
        let day = |day, stored| Day { day, stored };
        assert_eq!(rate(&[], now), None);
        assert_eq!(rate(&[day(20, 500)], now), Some(500));
        assert_eq!(rate(&[day(19, 300), day(20, 300)], now), Some(400));
        assert_eq!(rate(&[day(2, 1_000_000)], now), None, "too long ago");
        assert_eq!(rate(&[day(14, 1_300)], now), Some(200));
        assert_eq!(rate(&[day(20, u64::MAX)], now), Some(u64::MAX));
    }
}
