//! `make bench-codec`: how small and how fast uncompressed pixel data becomes, one core, for each folder of images.
//!
//! `WAYSTATION_STUDIES=folder` names the images; each folder below it is a line of the table. Without it, a phantom.
//! Lossless JPEG files are decoded first, and JPEG-LS is measured, where DCMTK's `dcmdjpeg` and `dcmcjpls` are installed;
//! of JPEG-LS only the size, because a process for each file says nothing about its speed. Ratios are of pixel data
//! alone. Rates are of processor time, the best of several rounds.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to the person in front of it")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use waystation::codec::{Filter, FilterReader, FilterWriter, Piece, PixelLayout};
use waystation::dataset::part10::read_file_meta;
use waystation::phantom::Phantom;
use waystation::receive::scan::{HeaderScan, ImageShape};
use zstd::stream::raw::{CParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};
use zstd::zstd_safe::ParamSwitch;

/// Images of one folder that are measured at most.
const IMAGES: usize = 24;
const ROUNDS: usize = 5;
/// Level 19 takes a second for five megabytes.
const MOST_FOR_19: usize = 16 << 20;

struct Image {
    pixels: Vec<u8>,
    layout: PixelLayout,
    /// What JPEG-LS makes of it, in bytes.
    jpeg_ls: Option<u64>,
}

struct Rate {
    size: usize,
    encode: Duration,
    decode: Duration,
}

fn main() {
    let families = families();
    println!("| images | n | MB | zstd -1 | zstd -3 | zstd -19 | **filter + zstd** | JPEG-LS | size against JPEG-LS |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, images) in families {
        let bytes: usize = images.iter().map(|image| image.pixels.len()).sum();
        let plain = |level| measure(&images, &mut Plain::new(level), if level > 3 { 1 } else { ROUNDS });
        let nineteen = (bytes <= MOST_FOR_19).then(|| plain(19));
        let ours = measure(&images, &mut Filtered::new(), ROUNDS);
        let jpeg_ls = images.iter().map(|image| image.jpeg_ls).sum::<Option<u64>>();
        let of_jpeg_ls = |size: u64| ours.size as f64 / size as f64 * 100.0;
        println!(
            "| {name} | {} | {:.1} | {} | {} | {} | **{}** | {} | {} |",
            images.len(),
            bytes as f64 / 1e6,
            cell(&plain(1), bytes),
            cell(&plain(3), bytes),
            nineteen.map_or("–".into(), |rate| cell(&rate, bytes)),
            cell(&ours, bytes),
            jpeg_ls.map_or("–".into(), |size| format!("{:.2}", bytes as f64 / size as f64)),
            jpeg_ls.map_or("–".into(), |size| format!("{:.0} %", of_jpeg_ls(size))),
        );
    }
    println!("\nratio (encode / decode MB/s)");
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

/// The images that have pixels to compress, by folder and modality.
fn families() -> BTreeMap<String, Vec<Image>> {
    let mut families: BTreeMap<String, Vec<Image>> = BTreeMap::new();
    let scratch = tempfile::tempdir().unwrap();
    let files = match std::env::var_os("WAYSTATION_STUDIES") {
        Some(folder) => files_below(Path::new(&folder)),
        None => {
            let phantom = scratch.path().join("phantom");
            Phantom::default().write_series(&phantom).unwrap();
            files_below(&phantom)
        }
    };
    for file in files {
        let Some((pixels, shape, modality)) = read(&file).or_else(|| read(&decoded(&file, scratch.path())?)) else {
            continue;
        };
        let folder = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let samples = if shape.samples_per_pixel == 1 { String::new() } else { " colour".into() };
        let name = format!("{folder} {modality} {} bit{samples}", shape.bits_allocated);
        let images = families.entry(name).or_default();
        // Small ones measure the first calls of the compressor.
        if pixels.len() >= 60_000 && images.len() < IMAGES {
            let layout = PixelLayout { offset: 0, ..shape.layout() };
            images.push(Image { pixels, layout, jpeg_ls: jpeg_ls(&file, scratch.path()) });
        }
    }
    families.retain(|_, images| !images.is_empty());
    families
}

/// The uncompressed pixels of a file.
fn read(file: &Path) -> Option<(Vec<u8>, ImageShape, String)> {
    let (meta, mut rest) = read_file_meta(File::open(file).ok()?).ok()?;
    let mut data_set = Vec::new();
    rest.read_to_end(&mut data_set).ok()?;
    let mut scan = HeaderScan::new(&meta.transfer_syntax);
    scan.feed(&data_set);
    let scan = scan.finish();
    let shape = scan.image?;
    let start = usize::try_from(shape.pixel_data_offset).ok()?;
    let length = usize::try_from(shape.pixel_data_length).ok()?;
    let pixels = data_set.get(start..)?.get(..length)?.to_vec();
    Some((pixels, shape, scan.modality.unwrap_or_default()))
}

/// A lossless JPEG file, decoded.
fn decoded(file: &Path, scratch: &Path) -> Option<PathBuf> {
    let (meta, _) = read_file_meta(File::open(file).ok()?).ok()?;
    let lossless = matches!(meta.transfer_syntax.as_str(), "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70");
    let out = scratch.join("decoded.dcm");
    (lossless && run("dcmdjpeg", file, &out)).then_some(out)
}

/// The length of the JPEG-LS stream that DCMTK makes of an image.
fn jpeg_ls(file: &Path, scratch: &Path) -> Option<u64> {
    let out = scratch.join("jpeg-ls.dcm");
    let source = decoded(file, scratch).unwrap_or_else(|| file.to_owned());
    if !run("dcmcjpls", &source, &out) {
        return None;
    }
    // A file's few kilobytes of header are not counted: they are in front of the pixels in both.
    let header = std::fs::metadata(&source).ok()?.len() - read(&source)?.1.pixel_data_length;
    std::fs::metadata(&out).ok()?.len().checked_sub(header)
}

fn run(program: &str, from: &Path, to: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg(from).arg(to).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}
