//! Every moment at which the power can go, and every way in which it can tear what was not flushed.

use super::tests::{DECEMBER, FOLDER, NOVEMBER, at, attempted, checked, line_at, open, received, replace};
use super::*;
use crate::durable::memory::{MemoryDisk, Survivors};

const SECTOR: usize = 512;

/// What was appended, after how many operations of the disk.
struct Told {
    operations: usize,
    positions: Vec<Position>,
}

/// Batches of several sizes over three months, with a reopening and a full disk in between.
fn scenario() -> (MemoryDisk, Vec<Told>) {
    let disk = MemoryDisk::new();
    let mut told: Vec<Told> = Vec::new();
    let mut id = 0;
    for (run, times) in [[NOVEMBER, NOVEMBER, DECEMBER], [DECEMBER, 0, DECEMBER + 40 * 86_400_000]].iter().enumerate() {
        let (mut ledger, opened) = open(&disk, told.last().and_then(|told| told.positions.last().copied()));
        assert_eq!(opened, Opened::default());
        for (number, time) in times.iter().enumerate() {
            let mut batch = vec![(at(NOVEMBER), Entry::Started { version: "1".into() })];
            batch.extend((0..=number + run * 2).map(|_| {
                id += 1;
                (at(*time), if id % 3 == 0 { received(id) } else { attempted(id, AttemptOutcome::Again, "A700") })
            }));
            if number == 1 {
                disk.set_capacity(Some(disk.used()));
                let large: Vec<_> = (0..20).map(|id| (at(*time), received(id))).collect();
                assert!(ledger.append(&large).unwrap_err().is_passing());
                disk.set_capacity(None);
            }
            let positions = ledger.append(&batch).unwrap();
            told.push(Told { operations: disk.operations(), positions });
        }
    }
    (disk, told)
}

/// Opens what a cut has left and goes on; everything that was told before it must be there.
fn judge(disk: &MemoryDisk, before: &[&Told], checkpoint: Option<Position>) -> Vec<Position> {
    let (mut ledger, opened) = open(disk, checkpoint);
    assert_eq!(opened.gap, None);
    for position in before.iter().flat_map(|told| &told.positions) {
        line_at(disk, *position);
    }
    let positions = ledger.append(&[(at(NOVEMBER), received(1_000)), (at(DECEMBER), received(1_001))]).unwrap();
    let report = checked(disk);
    assert!(report.is_well() && report.gaps == 0, "{:?}", report.breaks);
    assert_eq!(report.last.unwrap().0, positions[1]);
    positions
}

#[test]
fn what_was_told_is_there_after_every_cut_and_the_chain_is_whole() {
    let (disk, told) = scenario();
    let mut survivors = vec![Survivors::Nothing, Survivors::Everything];
    survivors.extend((0..4).map(Survivors::Some));
    for cut in 0..=disk.operations() {
        let before: Vec<_> = told.iter().filter(|told| told.operations <= cut).collect();
        let ends: Vec<_> = before.iter().filter_map(|told| told.positions.last().copied()).collect();
        for how in &survivors {
            for checkpoint in [None, ends.last().copied(), ends.first().copied()] {
                judge(&disk.cut(cut, *how), &before, checkpoint);
            }
            // And once more while it is being mended.
            let mended = disk.cut(cut, *how);
            let since = mended.operations();
            judge(&mended, &before, ends.last().copied());
            for second in since..=mended.operations() {
                judge(&mended.cut(second, Survivors::Some(cut as u64)), &before, ends.last().copied());
            }
        }
    }
}

/// A flushed beginning, and what one more batch adds to it.
fn tail() -> (Position, Vec<u8>, usize) {
    let disk = MemoryDisk::new();
    let (mut ledger, _) = open(&disk, None);
    let last = *ledger.append(&[(at(NOVEMBER), received(1)), (at(NOVEMBER), received(2))]).unwrap().last().unwrap();
    let flushed = disk.used_by("2026-11.log");
    let batch = [received(3), attempted(1, AttemptOutcome::Again, "A700"), received(4), received(5)];
    ledger.append(&batch.map(|entry| (at(NOVEMBER), entry))).unwrap();
    let bytes = disk.bytes_of("2026-11.log");
    (last, bytes, flushed)
}

fn mends(bytes: &[u8], last: Position) {
    for checkpoint in [Some(last), None] {
        let disk = MemoryDisk::new();
        replace(&disk, "2026-11.log", bytes);
        let (mut ledger, opened) = open(&disk, checkpoint);
        assert_eq!(opened.gap, None);
        line_at(&disk, last);
        ledger.append(&[(at(NOVEMBER), received(9))]).unwrap();
        assert!(checked(&disk).is_well());
        assert!(disk.bytes_of("2026-11.log").iter().all(|byte| *byte != 0));
    }
}

#[test]
fn every_length_that_the_file_may_have_is_mended() {
    let (last, bytes, flushed) = tail();
    for length in flushed..=bytes.len() {
        mends(&bytes[..length], last);
        // Longer, but nothing in it.
        let mut zeros = bytes[..length].to_vec();
        zeros.resize(bytes.len(), 0);
        mends(&zeros, last);
    }
}

#[test]
fn every_choice_of_sectors_that_reached_the_disk_is_mended() {
    let (last, bytes, flushed) = tail();
    // A sector that was in part flushed before may lack the rest.
    let first = flushed / SECTOR;
    let sectors = bytes.len().div_ceil(SECTOR) - first;
    assert!((5..11).contains(&sectors), "{sectors}");
    for choice in 0..1_u32 << sectors {
        let mut torn = bytes.clone();
        let mut length = flushed;
        for sector in 0..sectors {
            let from = ((first + sector) * SECTOR).max(flushed);
            let to = ((first + sector + 1) * SECTOR).min(bytes.len());
            if choice & 1 << sector == 0 {
                torn[from..to].fill(0);
            } else {
                length = to;
            }
        }
        mends(&torn, last);
        mends(&torn[..length], last);
    }
}

impl MemoryDisk {
    fn bytes_of(&self, name: &str) -> Vec<u8> {
        let file = self.open(&Path::new(FOLDER).join(name), false).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length().unwrap()).unwrap()];
        crate::durable::read_exact_at(&*file, &mut bytes, 0).unwrap();
        bytes
    }

    fn used_by(&self, name: &str) -> usize {
        self.bytes_of(name).len()
    }
}
