//! The fuzz targets over the inputs that are kept, and over mutants of them: whatever a peer sends, nothing panics and nothing
//! hangs. The same mutants each time; `WAYSTATION_MUTANTS` says how many of each target. `make fuzz` looks for more, guided by
//! coverage and with bounded memory.

#[expect(unreachable_pub, reason = "it is a library to the fuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic;
use std::path::Path;

const MUTANTS: u64 = 4_000;
/// Bytes that mean something somewhere: ends of ranges, tags, lengths.
const TELLING: [u8; 8] = [0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF, 0x04, 0x10];
const LONGEST: usize = 70_000;

fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A piece of what is there, up to so many bytes.
fn piece(random: &mut fastrand::Rng, of: &[u8], most: usize) -> std::ops::Range<usize> {
    let begin = random.usize(..=of.len());
    begin..begin + random.usize(..=(of.len() - begin).min(most))
}

fn mutant(random: &mut fastrand::Rng, kept: &[Vec<u8>]) -> Vec<u8> {
    let mut input = kept[random.usize(..kept.len())].clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..input.len().max(1));
        match random.u8(..7) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
            2 => {
                let telling = TELLING[random.usize(..TELLING.len())];
                input.iter_mut().skip(at).take(random.usize(1..5)).for_each(|byte| *byte = telling);
            }
            3 => drop(input.drain(piece(random, &input, 64))),
            4 => input.truncate(at),
            5 => {
                let again = input[piece(random, &input, 64)].to_vec();
                input.splice(at.min(input.len())..at.min(input.len()), again);
            }
            _ => {
                let other = &kept[random.usize(..kept.len())];
                let from = other[piece(random, other, 512)].to_vec();
                input.splice(at.min(input.len())..at.min(input.len()), from);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn over(target: &str, run: fn(&[u8])) {
    let kept = kept(target);
    assert!(!kept.is_empty(), "{target}: nothing is kept");
    let mutants = std::env::var("WAYSTATION_MUTANTS").map_or(MUTANTS, |text| text.parse().unwrap());
    let mutants = (0..mutants).map(|seed| mutant(&mut fastrand::Rng::with_seed(seed), &kept));
    for input in kept.iter().cloned().chain(mutants) {
        if panic::catch_unwind(|| run(&input)).is_err() {
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("finding-{target}"));
            fs::write(&file, &input).unwrap();
            panic!("{target}: the input is in {}", file.display());
        }
    }
}

macro_rules! targets {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            over(stringify!($target), targets::$target::run);
        })*

        /// Every target that `make fuzz` has is here, too.
        #[test]
        fn none_is_left_out() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
            let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let mut names: Vec<_> = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
            names.sort();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

targets!(acceptor, command_set, commitment, file_meta, header_scan, pixels, query, requestor);
