//! Images that are coded, read again, damaged, and left alone.

mod left_alone;
mod there_and_back;

use std::io::Cursor;

use super::*;
use crate::dataset::sample::{ITEM_END, SEQUENCE_END, explicit, open};

/// An image as a data set, with something in front of it and behind it.
#[derive(Debug, Clone)]
struct Image {
    rows: u16,
    columns: u16,
    samples: u16,
    allocated: u16,
    stored: u16,
    signed: bool,
    planar: Option<u16>,
    frames: Option<u32>,
    photometric: &'static str,
    pixels: Vec<u8>,
}

impl Image {
    /// Monochrome with a ramp in it, in 16 bits.
    fn ramp(rows: u16, columns: u16, stored: u16) -> Self {
        let count = u32::from(rows) * u32::from(columns);
        let cell = |n: u32| (u16::try_from(n * 7 % 60_000).unwrap() & (0xffff >> (16 - stored))).to_le_bytes();
        Self {
            rows,
            columns,
            samples: 1,
            allocated: 16,
            stored,
            signed: false,
            planar: None,
            frames: None,
            photometric: "MONOCHROME2",
            pixels: (0..count).flat_map(cell).collect(),
        }
    }

    /// In Explicit VR Little Endian.
    fn data_set(&self) -> Vec<u8> {
        let number = |element: u16, value: u16| explicit((0x0028, element), b"US", &value.to_le_bytes());
        let text = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            text.resize(text.len().next_multiple_of(2), b' ');
            text
        };
        let mut pixels = self.pixels.clone();
        pixels.resize(pixels.len().next_multiple_of(2), 0);
        let icon = [open((0xfffe, 0xe000), None), number(0x0010, 1), explicit((0x7fe0, 0x0010), b"OB", b"ab")].concat();
        let mut parts = vec![
            explicit((0x0008, 0x0018), b"UI", b"1.2.3\0"),
            [open((0x0088, 0x0200), Some(b"SQ")), icon, ITEM_END.to_vec(), SEQUENCE_END.to_vec()].concat(),
            number(0x0002, self.samples),
            explicit((0x0028, 0x0004), b"CS", &text(self.photometric)),
        ];
        parts.extend(self.planar.map(|planar| number(0x0006, planar)));
        parts.extend(self.frames.map(|frames| explicit((0x0028, 0x0008), b"IS", &text(&frames.to_string()))));
        parts.extend([
            number(0x0010, self.rows),
            number(0x0011, self.columns),
            number(0x0100, self.allocated),
            number(0x0101, self.stored),
            number(0x0102, self.stored - 1),
            number(0x0103, u16::from(self.signed)),
            explicit((0x0028, 0x2110), b"CS", b"00"),
            explicit((0x7fe0, 0x0010), if self.allocated == 8 { b"OB" } else { b"OW" }, &pixels),
            explicit((0xfffc, 0xfffc), b"OB", b"\0\x01\x02\x03"),
        ]);
        parts.concat()
    }
}

fn uid(text: &str) -> Uid {
    text.parse().unwrap()
}

/// The result, or why there is none.
fn coded(data_set: &[u8], from: &str, to: &str) -> Result<(Vec<u8>, Encoded), LeftAlone> {
    let mut sink = Cursor::new(Vec::new());
    match encode(data_set, &uid(from), &uid(to), &mut sink, &Limits::default()) {
        Ok(encoded) => {
            assert_eq!(encoded.bytes, sink.get_ref().len() as u64);
            assert_eq!(encoded.from, data_set.len() as u64);
            Ok((sink.into_inner(), encoded))
        }
        Err(EncodeError::LeftAlone(reason)) => Err(reason),
        Err(error) => panic!("{error}"),
    }
}

fn decoded(result: &[u8], to: &str, planar: Option<u16>) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    decode(result, &uid(to), planar, &mut out, &Limits::default()).map(|()| out)
}

fn why(image: &Image, to: &str) -> LeftAlone {
    coded(&image.data_set(), EXPLICIT, to).unwrap_err()
}

/// Gives a few bytes at a time, as a network does.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(self.1).min(buffer.len());
        let (now, rest) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = rest;
        Ok(count)
    }
}
