//! Instances whose pixels go through the image filter, from the reception to the reader.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::record::tests::header;
use super::tests::{open, read, wait_for};
use super::*;
use crate::codec::PixelLayout;
use crate::durable::memory::MemoryDisk;

const ROWS: u16 = 300;
const COLUMNS: u16 = 250;
const BEFORE: usize = 1_234;

/// A header, a noisy 12-bit surface, and something behind it.
fn image(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut data = vec![b'h'; BEFORE];
    for y in 0..u32::from(ROWS) {
        for x in 0..u32::from(COLUMNS) {
            let value = (x * x / 40 + y * 3 + random.u32(0..10)) % 4_096;
            data.extend(u16::try_from(value).unwrap().to_le_bytes());
        }
    }
    data.extend(b"what follows the pixels");
    data
}

fn layout() -> PixelLayout {
    PixelLayout {
        offset: BEFORE as u64,
        length: u64::from(ROWS) * u64::from(COLUMNS) * 2,
        rows: ROWS,
        columns: COLUMNS,
        bits_allocated: 16,
        samples_per_pixel: 1,
        interleaved: true,
        big_endian: false,
        signed: false,
    }
}

/// Sends `data` in pieces and tells of the pixels when `told` bytes have been written.
fn receive(spool: &Spool, number: u64, data: &[u8], layout: &PixelLayout, told: usize) -> Committed {
    let mut incoming = spool.receive().unwrap();
    let (front, back) = data.split_at(told);
    front.chunks(777).for_each(|piece| incoming.write(piece).unwrap());
    incoming.pixels(layout).unwrap();
    back.chunks(16_000).for_each(|piece| incoming.write(piece).unwrap());
    let (sender, receiver) = sync_channel(1);
    incoming.commit(header(number), Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv_timeout(Duration::from_secs(20)).expect("every commit is answered").unwrap()
}

#[test]
fn an_image_is_kept_smaller_and_read_back_byte_for_byte() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let data = image(1);
    let without = receive(&spool, 1, &data, &PixelLayout { bits_allocated: 1, ..layout() }, 0).stored_length;
    for (number, told) in (2..).zip([0, 1, BEFORE - 1, BEFORE]) {
        let stored = receive(&spool, number, &data, &layout(), told).stored_length;
        assert!(stored * 3 < without * 2, "{stored} bytes instead of {without}");
        wait_for(&spool, number);
        assert!(read(&spool, InstanceId(number)).unwrap() == data);
    }
    // Too late: the pixels have begun.
    let late = receive(&spool, 6, &data, &layout(), BEFORE + 1).stored_length;
    assert_eq!(late, without);
    spool.close();
    let (spool, opened, _) = open(&disk);
    assert_eq!(opened.damaged, 0);
    for number in 1..=6 {
        assert!(read(&spool, InstanceId(number)).unwrap() == data);
    }
}

#[test]
fn a_layout_that_is_wrong_costs_nothing_but_room() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let data = image(2);
    let wrong = [
        PixelLayout { length: u64::from(u32::MAX), ..layout() },
        PixelLayout { length: 150_001, ..layout() },
        PixelLayout { offset: 1 << 31, ..layout() },
        PixelLayout { offset: data.len() as u64, ..layout() },
        PixelLayout { columns: u16::MAX, rows: 1, samples_per_pixel: 4, length: 600_000, ..layout() },
        PixelLayout { columns: 1, ..layout() },
        PixelLayout { columns: 83, samples_per_pixel: 3, ..layout() },
        PixelLayout { bits_allocated: 8, big_endian: true, signed: true, ..layout() },
    ];
    for (number, layout) in (1..).zip(&wrong) {
        receive(&spool, number, &data, layout, 100);
        wait_for(&spool, number);
        assert!(read(&spool, InstanceId(number)).unwrap() == data, "{layout:?}");
    }
    // The data set ends before the pixels do, inside a row, and before they begin.
    for (number, cut) in (100..).zip([0, 1, BEFORE, BEFORE + 1, BEFORE + 499, BEFORE + 500, 100_000, data.len() - 30]) {
        let committed = receive(&spool, number, &data[..cut], &layout(), 0);
        wait_for(&spool, committed.id.0);
        assert!(read(&spool, committed.id).unwrap() == data[..cut], "{cut}");
    }
}

#[test]
fn no_flipped_bit_of_a_filtered_payload_is_ever_handed_out_as_whole() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    let data = image(3);
    let stored = receive(&spool, 1, &data, &layout(), 0).stored_length;
    wait_for(&spool, 1);
    let path = Path::new("/data/log/large/0000000001.seg");
    for at in (0..usize::try_from(stored).unwrap()).step_by(499) {
        disk.flip(path, 65_536 + at, 8);
        assert!(read(&spool, InstanceId(1)).is_err(), "byte {at}");
        disk.flip(path, 65_536 + at, 8);
    }
    assert!(read(&spool, InstanceId(1)).unwrap() == data);
}

#[test]
fn a_filter_of_a_later_version_is_named_and_not_guessed_at() {
    let disk = MemoryDisk::new();
    let (spool, ..) = open(&disk);
    receive(&spool, 1, &image(4), &layout(), 0);
    wait_for(&spool, 1);
    let path = Path::new("/data/log/large/0000000001.seg");
    // The filter code of the head at 4096; what a later version writes has a right checksum.
    let mut front = vec![0; 4_096];
    disk.open(path, false).unwrap().read_at(&mut front, 4_096).unwrap();
    let extent = record::extent(&front).unwrap();
    front[12] = 77;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&front[..156]), &front[160..extent]);
    front[156..160].copy_from_slice(&checksum.to_le_bytes());
    disk.open(path, true).unwrap().write_at(&front, 4_096).unwrap();
    let Err(SpoolError::Damaged { problem, .. }) = spool.read(InstanceId(1)) else { panic!("it was read") };
    assert!(problem.contains("filter that this Waystation does not know"), "{problem}");
}
