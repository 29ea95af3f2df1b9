//! `make bench-codec`: how small and how fast uncompressed pixel data becomes, one core, for each folder of images.
//!
//! `WAYSTATION_STUDIES=folder` names the images; each folder below it is a line of the table. Without it, a phantom.
//! Lossless JPEG files are decoded first. Ratios are of pixel data alone. Rates are of processor time, which is what
//! counts of one thread and what other processes disturb least, the best of several rounds; only the calls that encode
//! and decode are in it, and every image is compared with what it was.
//!
//! A second table has the transfer syntaxes for the wire ([`wire`]).
//!
//! Beside ours: zstd alone, JPEG-LS by CharLS and HTJ2K by OpenJPH ([`peers`]), on the same pixels in the same run. These
//! two get frames with their least value taken away, and JPEG-LS is told how many bits are left, which suits them best.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to the person in front of it")]

mod images;
mod peers;
mod wire;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use waystation::codec::{Filter, FilterReader, FilterWriter, Piece};
use zstd::stream::raw::{CParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::ParamSwitch;

use images::Image;

const ROUNDS: usize = 5;
/// Level 19 takes a second for five megabytes.
const MOST_FOR_19: usize = 16 << 20;
/// The goal: not more than so many per cent of the size of JPEG-LS, at so many times its speed, both ways.
const GOAL: (f64, f64) = (110.0, 5.0);

pub(crate) struct Rate {
    size: usize,
    encode: Duration,
    decode: Duration,
}

fn main() {
    let scratch = tempfile::tempdir().unwrap();
    println!(
        "| images | n | MB | zstd -3 | zstd -19 | JPEG-LS | HTJ2K | **filter + zstd** | size, JPEG-LS = 100 | speed, JPEG-LS = 1 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (mut met, mut missed) = (0, Vec::new());
    let families = images::families();
    for (name, images) in &families {
        let bytes: usize = images.iter().map(|image| image.pixels.len()).sum();
        let plain = |level| measure(images, &mut Plain::new(level), if level > 3 { 1 } else { ROUNDS });
        let nineteen = (bytes <= MOST_FOR_19).then(|| plain(19));
        let ours = measure(images, &mut Filtered::new(), ROUNDS);
        let [jpeg_ls, htj2k] = peers::measure(images, scratch.path());
        let size = ours.size as f64 / jpeg_ls.size as f64 * 100.0;
        let [encode, decode] = [(jpeg_ls.encode, ours.encode), (jpeg_ls.decode, ours.decode)]
            .map(|(theirs, ours)| theirs.as_secs_f64() / ours.as_secs_f64());
        println!(
            "| {name} | {} | {:.1} | {} | {} | {} | {} | **{}** | {size:.1} | {encode:.1} / {decode:.1} |",
            images.len(),
            bytes as f64 / 1e6,
            cell(&plain(3), bytes),
            nineteen.map_or("–".into(), |rate| cell(&rate, bytes)),
            cell(&jpeg_ls, bytes),
            cell(&htj2k, bytes),
            cell(&ours, bytes),
        );
        if size <= GOAL.0 && encode.min(decode) >= GOAL.1 { met += 1 } else { missed.push(name.clone()) }
    }
    println!("\nratio (encode / decode MB/s of one core, processor time)");
    println!(
        "\nGoal: at most 10 % larger than JPEG-LS at 5 times its speed both ways: met by {met} of {}.",
        met + missed.len()
    );
    if !missed.is_empty() {
        println!("Missed by: {}.", missed.join("; "));
    }
    wire::table(&families);
}

fn cell(rate: &Rate, bytes: usize) -> String {
    let mb_per_second = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    let ratio = bytes as f64 / rate.size as f64;
    format!("{ratio:.2} ({:.0} / {:.0})", mb_per_second(rate.encode), mb_per_second(rate.decode))
}

/// One way to make images smaller.
trait Way {
    fn encode(&mut self, image: &Image, out: &mut Vec<u8>);
    fn decode(&mut self, image: &Image, from: &[u8], out: &mut Vec<u8>);
}

fn measure(images: &[Image], way: &mut impl Way, rounds: usize) -> Rate {
    let mut best = Rate { size: 0, encode: Duration::MAX, decode: Duration::MAX };
    let mut packed = vec![Vec::new(); images.len()];
    let mut unpacked = Vec::new();
    for _ in 0..rounds {
        let (mut encode, mut decode) = (Duration::ZERO, Duration::ZERO);
        for (image, packed) in images.iter().zip(&mut packed) {
            packed.clear();
            unpacked.clear();
            let began = processor_time();
            way.encode(image, packed);
            encode += processor_time() - began;
            let began = processor_time();
            way.decode(image, packed, &mut unpacked);
            decode += processor_time() - began;
            assert!(unpacked == image.pixels, "the image is not what it was");
        }
        best.encode = best.encode.min(encode);
        best.decode = best.decode.min(decode);
    }
    best.size = packed.iter().map(Vec::len).sum();
    best
}

/// zstd, set up as the spool does it.
struct Zstd {
    encoder: Encoder<'static>,
    buffer: Vec<u8>,
}

impl Zstd {
    fn new(level: i32, target_length: u32, hash_log: u32) -> Self {
        let mut encoder = Encoder::new(level).unwrap();
        encoder.set_parameter(CParameter::WindowLog(if level > 3 { 23 } else { 19 })).unwrap();
        encoder.set_parameter(CParameter::TargetLength(target_length)).unwrap();
        encoder.set_parameter(CParameter::HashLog(hash_log)).unwrap();
        encoder.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable)).unwrap();
        Self { encoder, buffer: vec![0; 128 << 10] }
    }

    fn run(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            self.encoder.run(&mut input, &mut output).unwrap();
            out.extend_from_slice(output.as_slice());
        }
    }

    fn drain(&mut self, last: bool, out: &mut Vec<u8>) {
        loop {
            let mut output = OutBuffer::around(&mut self.buffer[..]);
            let left = if last { self.encoder.finish(&mut output, true) } else { self.encoder.flush(&mut output) };
            out.extend_from_slice(output.as_slice());
            if left.unwrap() == 0 {
                break;
            }
        }
        if last {
            self.encoder.reinit().unwrap();
        }
    }
}

struct Plain(Zstd);

impl Plain {
    fn new(level: i32) -> Self {
        Self(Zstd::new(level, 0, 0))
    }
}

impl Way for Plain {
    fn encode(&mut self, image: &Image, out: &mut Vec<u8>) {
        self.0.run(&image.pixels, out);
        self.0.drain(true, out);
    }

    fn decode(&mut self, _: &Image, from: &[u8], out: &mut Vec<u8>) {
        let mut decoder = Decoder::new().unwrap();
        let (mut input, mut buffer) = (InBuffer::around(from), vec![0; 128 << 10]);
        loop {
            let mut output = OutBuffer::around(&mut buffer[..]);
            let left = decoder.run(&mut input, &mut output).unwrap();
            out.extend_from_slice(output.as_slice());
            if left == 0 {
                break;
            }
        }
    }
}

struct Filtered {
    words: Zstd,
    bytes: Zstd,
    writer: Option<FilterWriter>,
}

impl Filtered {
    fn new() -> Self {
        Self { words: Zstd::new(1, 2, 8), bytes: Zstd::new(1, 0, 0), writer: None }
    }
}

impl Way for Filtered {
    fn encode(&mut self, image: &Image, out: &mut Vec<u8>) {
        let Some(filter) = Filter::fitting(&image.layout) else {
            return Plain::new(1).encode(image, out);
        };
        let zstd = if filter.is_wide() { &mut self.words } else { &mut self.bytes };
        let mut writer = match self.writer.take() {
            Some(writer) => writer.again(filter, 0),
            None => FilterWriter::new(filter, 0),
        };
        let mut target = |piece: Piece<'_>| -> Result<(), ()> {
            match piece {
                Piece::Bytes(bytes) => zstd.run(bytes, out),
                Piece::Cut => zstd.drain(false, out),
            }
            Ok(())
        };
        // As they come from an association.
        image.pixels.chunks(128 << 10).for_each(|piece| writer.write(piece, &mut target).unwrap());
        writer.finish(&mut target).unwrap();
        self.writer = Some(writer);
        zstd.drain(true, out);
    }

    fn decode(&mut self, image: &Image, from: &[u8], out: &mut Vec<u8>) {
        let Some(filter) = Filter::fitting(&image.layout) else {
            return Plain::new(1).decode(image, from, out);
        };
        let mut reader = FilterReader::new(filter, image.pixels.len() as u64);
        let mut decoder = Decoder::new().unwrap();
        let (mut input, mut buffer) = (InBuffer::around(from), vec![0; 64 << 10]);
        loop {
            let taken = reader.take(&mut buffer);
            out.extend_from_slice(&buffer[..taken]);
            if taken == 0 {
                if reader.is_complete() {
                    break;
                }
                let mut space = OutBuffer::around(reader.space());
                decoder.run(&mut input, &mut space).unwrap();
                let made = space.pos();
                reader.filled(made).unwrap();
            }
        }
    }
}

/// What this thread has had of a processor: others on the machine do not count.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
