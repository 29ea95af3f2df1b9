//! The image codecs beside ours: a Python process that calls CharLS and OpenJPH.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::images::Image;
use super::{ROUNDS, Rate};

/// What JPEG-LS and HTJ2K make of the images, in this order.
///
/// # Panics
/// The codecs are not installed, or one does not give an image back as it was.
pub(crate) fn measure(images: &[Image], scratch: &Path) -> [Rate; 2] {
    let mut lines = String::new();
    for (number, image) in images.iter().enumerate() {
        let file = scratch.join(format!("{number}.raw"));
        std::fs::write(&file, &image.pixels).unwrap();
        let layout = &image.layout;
        writeln!(
            lines,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}",
            file.display(),
            layout.rows,
            layout.columns,
            layout.samples_per_pixel,
            layout.bits_allocated / 8,
            if layout.signed { "signed" } else { "unsigned" },
            if layout.big_endian { "big" } else { "little" },
            if layout.interleaved { "interleaved" } else { "planar" },
        )
        .unwrap();
    }
    let answer = ask(&lines);
    let mut rates = answer.lines().map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let seconds = |at: usize| Duration::from_secs_f64(fields[at].parse().unwrap());
        Rate { size: fields[1].parse().unwrap(), encode: seconds(2), decode: seconds(3) }
    });
    std::array::from_fn(|_| rates.next().expect("peers.py has a line for each codec"))
}

fn ask(lines: &str) -> String {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = package.parent().map_or_else(PathBuf::new, |root| root.join("target/peers/codec/bin/python"));
    assert!(
        python.exists(),
        "CharLS and OpenJPH are missing ({}): run scripts/setup-bench-peers codec",
        python.display()
    );
    let mut process = Command::new(python)
        .arg(package.join("benches/codec/peers.py"))
        .arg(ROUNDS.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "peers.py failed, see above; is scripts/setup-bench-peers codec up to date?");
    String::from_utf8(output.stdout).unwrap()
}
