//! Whole data sets in the transfer syntaxes for the wire: how small they become, and how fast, the proof included.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use waystation::model::Uid;
use waystation::pixels::{JPEG_LS, Limits, RLE, encode, verify};

use super::images::Image;
use super::{ROUNDS, Rate, cell, processor_time};

const WAYS: [(&str, &str); 3] = [("JPEG-LS", JPEG_LS), ("deflated", "1.2.840.10008.1.2.1.99"), ("RLE", RLE)];

/// One line for each family, one column for each transfer syntax.
pub(crate) fn table(families: &BTreeMap<String, Vec<Image>>) {
    println!("\n| data sets | n | MB | {} |", WAYS.map(|(name, _)| name).join(" | "));
    println!("|---|---|---|{}", "---|".repeat(WAYS.len()));
    for (name, images) in families {
        let bytes: usize = images.iter().map(|image| image.data_set.len()).sum();
        let cells =
            WAYS.map(|(_, to)| measure(images, &to.parse().unwrap()).map_or("–".into(), |rate| cell(&rate, bytes)));
        println!("| {name} | {} | {:.1} | {} |", images.len(), bytes as f64 / 1e6, cells.join(" | "));
    }
    println!(
        "\nratio (written with its proof / proved again, MB/s of one core, processor time); –: some are left alone"
    );
}

/// Nothing if one of them is left alone.
fn measure(images: &[Image], to: &Uid) -> Option<Rate> {
    let limits = Limits::default();
    let mut best = Rate { size: 0, encode: Duration::MAX, decode: Duration::MAX };
    for _ in 0..ROUNDS.min(3) {
        let (mut encoding, mut proving, mut size) = (Duration::ZERO, Duration::ZERO, 0);
        for Image { data_set, transfer_syntax, .. } in images {
            let mut sink = Cursor::new(Vec::with_capacity(data_set.len()));
            let began = processor_time();
            encode(&data_set[..], transfer_syntax, to, &mut sink, &limits).ok()?;
            encoding += processor_time() - began;
            let began = processor_time();
            verify(&data_set[..], transfer_syntax, &sink.get_ref()[..], to, &limits).unwrap();
            proving += processor_time() - began;
            size += sink.get_ref().len();
        }
        best = Rate { size, encode: best.encode.min(encoding), decode: best.decode.min(proving) };
    }
    Some(best)
}
