//! After the index was lost: the ledger knows which deliveries were made, and they are not made once more.
//!
//! What is called delivered here may be freed, so the ledger has to earn it: its whole chain must be right, without a gap,
//! and each instance that it tells of must be the one that the log has under that number. If anything is wrong with it,
//! everything stays queued: a lost "delivered" costs a duplicate, a wrong one an image. The last line is held by nothing, so
//! it does not count.

use super::error::OpenError;
use super::index::{Index, IndexError};
use super::replay::index_error;
use super::segment::Layout;
use super::told::in_batches;
use crate::clock::SpoolTime;
use crate::durable::Disk;
use crate::ledger;

/// Enters the deliveries of the ledger into an index that was built again from the log. Gives how many were made and need
/// nothing more than, where that is configured, to be verified.
pub(super) fn deliveries(disk: &dyn Disk, layout: &Layout, index: &Index) -> Result<u64, OpenError> {
    let report = ledger::check(disk, &layout.ledger, |_| {})?;
    let Some((last, _)) = report.last.filter(|_| report.is_well() && report.gaps == 0) else {
        if report.lines > 0 {
            log::warn!("the ledger is broken, so that nothing in it is believed; everything is delivered once more");
        }
        return Ok(0);
    };
    let fail = |error: IndexError| index_error(layout, &error);
    let now = SpoolTime(index.read().and_then(|view| view.state()).map_err(fail)?.time);
    let mut strange = None;
    in_batches(disk, layout, None, |lines| {
        let view = index.read().map_err(fail)?;
        for line in lines {
            if view.contradicts(line).map_err(fail)? {
                strange = Some(line.position.n);
            }
        }
        Ok(())
    })?;
    if let Some(n) = strange {
        log::warn!(
            "line {n} of the ledger tells of another instance than the log has; everything is delivered once more"
        );
        return Ok(0);
    }
    let mut restored = 0_i64;
    in_batches(disk, layout, None, |lines| {
        let lines = lines.iter().filter(|line| line.position != last);
        let changed = index.write(|tables| {
            let mut changed = 0_i64;
            for line in lines {
                changed += tables.restore(line, now)?;
            }
            Ok(changed)
        });
        restored += changed.map_err(fail)?;
        Ok(())
    })?;
    Ok(u64::try_from(restored).unwrap_or(0))
}
