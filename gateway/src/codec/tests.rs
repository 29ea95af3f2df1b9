use proptest::prelude::*;

use super::predict::unzigzag;
use super::restore::{LINES, Restorer};
use super::*;

/// A data set of `before` bytes, the pixels, and `after` bytes.
fn around(pixels: &[u8], before: usize, after: usize) -> Vec<u8> {
    let filler = |length: usize| (0_u8..=255).cycle().take(length);
    filler(before).chain(pixels.iter().copied()).chain(filler(after)).collect()
}

/// What the filter makes of `data`, which comes in pieces of `piece` bytes; `skip` bytes passed before it was told.
fn filtered(filter: Filter, data: &[u8], piece: usize, skip: usize) -> Vec<u8> {
    let mut out = data[..skip].to_vec();
    let mut target = |piece: Piece<'_>| -> Result<(), ()> {
        if let Piece::Bytes(bytes) = piece {
            out.extend_from_slice(bytes);
        }
        Ok(())
    };
    let mut writer = FilterWriter::new(filter, skip as u64);
    for piece in data[skip..].chunks(piece.max(1)) {
        writer.write(piece, &mut target).unwrap();
    }
    writer.finish(&mut target).unwrap();
    out
}

/// Undoes the filter, in pieces of `piece` bytes. Never more than `length` bytes.
fn unfiltered(filter: Filter, length: usize, mut bytes: &[u8], piece: usize) -> Result<Vec<u8>, Garbled> {
    let mut reader = FilterReader::new(filter, length as u64);
    let (mut out, mut buffer) = (Vec::new(), vec![0; piece.max(1)]);
    loop {
        let taken = reader.take(&mut buffer);
        out.extend_from_slice(&buffer[..taken]);
        assert!(out.len() <= length);
        if taken > 0 {
            continue;
        }
        if reader.is_complete() {
            return if bytes.is_empty() { Ok(out) } else { Err(Garbled) };
        }
        let space = reader.space();
        let count = space.len().min(piece.max(1)).min(bytes.len());
        if count == 0 {
            return Err(Garbled);
        }
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        reader.filled(count)?;
    }
}

fn layout(rows: u16, columns: u16, bits_allocated: u16, samples_per_pixel: u16) -> PixelLayout {
    PixelLayout {
        offset: 0,
        length: u64::from(rows) * u64::from(columns) * u64::from(bits_allocated / 8) * u64::from(samples_per_pixel),
        rows,
        columns,
        bits_allocated,
        samples_per_pixel,
        interleaved: true,
        big_endian: false,
        signed: false,
    }
}

/// A smooth surface with a little noise, 12 bits.
fn surface(rows: u16, columns: u16) -> Vec<u16> {
    let mut random = fastrand::Rng::with_seed(7);
    let at = |y: u16, x: u16| 1_000 + (u32::from(x) * 3 + u32::from(y) * 2) % 2_000;
    let pixels = (0..rows).flat_map(|y| (0..columns).map(move |x| at(y, x)));
    pixels.map(|value| u16::try_from(value + random.u32(0..8)).unwrap()).collect()
}

/// Bytes of different kinds: any, few different ones, a surface in either byte order, extremes.
fn pixels() -> impl Strategy<Value = Vec<u8>> {
    let surface_bytes = |big: bool| {
        let turn = move |word: u16| if big { word.to_be_bytes() } else { word.to_le_bytes() };
        surface(150, 101).into_iter().flat_map(turn).collect::<Vec<u8>>()
    };
    prop_oneof![
        prop::collection::vec(any::<u8>(), 4_096..20_000),
        prop::collection::vec(0_u8..3, 4_096..20_000),
        prop::collection::vec(prop_oneof![Just(0_u8), Just(0xff), Just(0x7f), Just(0x80)], 4_096..20_000),
        (0_usize..3_000).prop_map(move |cut| surface_bytes(false)[cut..].to_vec()),
        (0_usize..3_000).prop_map(move |cut| surface_bytes(true)[cut..].to_vec()),
    ]
}

fn layouts() -> impl Strategy<Value = PixelLayout> {
    let shape = (1_u16..40, 1_u16..300, prop_oneof![Just(8_u16), Just(16)], 1_u16..5);
    (shape, any::<[bool; 3]>()).prop_map(|((rows, columns, bits, samples), [interleaved, big_endian, signed])| {
        PixelLayout { interleaved, big_endian, signed, ..layout(rows, columns, bits, samples) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_goes_in_comes_out(
        layout in layouts(),
        pixels in pixels(),
        (before, after) in (0_usize..600, 0_usize..600),
        // The header of the data set may announce more than comes, or less.
        announced in prop_oneof![Just(0_i64), -5_000_i64..5_000],
        block_rows in 1_u16..60,
        pieces in (1_usize..9_000, 1_usize..9_000),
        skip in any::<prop::sample::Index>(),
    ) {
        let length = pixels.len().saturating_add_signed(isize::try_from(announced).unwrap()) as u64;
        let layout = PixelLayout { offset: before as u64, length: length.max(4_096), rows: 1, ..layout };
        let mut filter = Filter::fitting(&layout).unwrap();
        filter.block_rows = block_rows;
        let data = around(&pixels, before, after);
        let skip = skip.index(before + 1);
        let packed = filtered(filter, &data, pieces.0, skip);
        let out = unfiltered(filter, data.len(), &packed, pieces.1);
        prop_assert!(out.is_ok_and(|out| out == data));
    }

    #[test]
    fn damaged_bytes_are_an_error_or_other_bytes_of_the_same_length(
        layout in layouts(),
        pixels in pixels(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        in_header in prop::collection::vec((0_usize..52, any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let layout = PixelLayout { length: pixels.len() as u64, rows: 1, ..layout };
        let filter = Filter::fitting(&layout).unwrap();
        let mut packed = filtered(filter, &pixels, 10_000, 0);
        for (at, value) in changes {
            let at = at.index(packed.len());
            packed[at] = value;
        }
        for (at, value) in in_header {
            packed[at] = value;
        }
        if let Some(cut) = cut {
            packed.truncate(cut.index(packed.len()));
        }
        if let Ok(out) = unfiltered(filter, pixels.len(), &packed, 4_096) {
            prop_assert_eq!(out.len(), pixels.len());
        }
    }

    #[test]
    fn garbage_never_panics_whatever_the_parameters_say(
        parameters: [u8; 16],
        small in any::<bool>(),
        length in 0_usize..200_000,
        bytes in prop::collection::vec(any::<u8>(), 0..5_000),
    ) {
        let mut parameters = parameters;
        if small {
            // Near enough to valid ones that most of them are.
            parameters[1..4].fill(0);
            parameters[12] = 1 + parameters[12] % 2;
            parameters[13] = 1 + parameters[13] % 4;
            parameters[14] %= 4;
            parameters[15] = 0;
            parameters[11] = 0;
        }
        if let Some(filter) = Filter::from_bytes(&parameters) {
            prop_assert_eq!(filter.to_bytes(), parameters);
            let _ = unfiltered(filter, length, &bytes, 1_000);
        }
    }
}

#[test]
fn every_prediction_is_undone_for_every_bit_pattern() {
    let mut random = fastrand::Rng::with_seed(3);
    for wide in [false, true] {
        let mask = if wide { u16::MAX } else { 0xff };
        for columns in [1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 513] {
            let mut line = || (0..columns).map(|_| random.u16(..) & mask).collect::<Vec<_>>();
            for predictor in Predictor::REAL {
                // The memory of one is left to the next.
                let mut restorer = Restorer::default();
                for count in 1..=LINES {
                    let lines: Vec<Vec<u16>> = (0..=count).map(|_| line()).collect();
                    let mut work = lines[0].clone();
                    for pair in lines.windows(2) {
                        let mut out = vec![0; columns];
                        predictor.forward(wide, &pair[1], &pair[0], &mut out);
                        assert!(out.iter().all(|word| *word <= mask));
                        let unzigzagged = if wide { unzigzag::<16> } else { unzigzag::<8> };
                        work.extend(out.into_iter().map(unzigzagged));
                    }
                    restorer.restore(predictor, wide, &mut work, columns);
                    assert!(work == lines.concat(), "{predictor:?}, wide: {wide}, {count} lines of {columns}");
                }
            }
        }
    }
}

#[test]
fn a_block_begins_with_what_the_documentation_says() {
    let pixels: Vec<u8> = surface(64, 100).into_iter().flat_map(u16::to_le_bytes).collect();
    let filter = Filter::fitting(&PixelLayout { offset: 4, ..layout(64, 100, 16, 1) }).unwrap();
    // Offset 4, length 12,800, 100 columns, 1,310 rows in a block, 2 bytes, 1 component, little endian, unsigned.
    assert_eq!(filter.to_bytes(), [4, 0, 0, 0, 0, 50, 0, 0, 100, 0, 0x1e, 5, 2, 1, 0, 0]);
    let packed = filtered(filter, &around(&pixels, 4, 3), 1_000, 0);
    assert_eq!(packed.len(), 4 + 52 + pixels.len() + 3);
    assert_eq!(packed[..4], [0, 1, 2, 3]);
    assert!(matches!(packed[4..8], [1..=4, 0, 0, 0]));
    let words: u32 = packed[8..56].chunks_exact(4).map(|count| u32::from_le_bytes(count.try_into().unwrap())).sum();
    assert_eq!(words, 6_400);
    // The noise is small, so are the numbers: the high bytes, which are the second half, are nearly all zero.
    let high = &packed[56 + 6_400..56 + 12_800];
    assert!(high.iter().filter(|byte| **byte == 0).count() > 6_000);
}

#[test]
fn only_what_a_filter_can_help_has_one() {
    let good = layout(64, 64, 16, 1);
    assert!(Filter::fitting(&good).is_some());
    for bits in [0, 1, 12, 24, 32, 64] {
        assert_eq!(Filter::fitting(&PixelLayout { bits_allocated: bits, ..good }), None);
    }
    for samples in [0, 5, 300] {
        assert_eq!(Filter::fitting(&PixelLayout { samples_per_pixel: samples, ..good }), None);
    }
    assert_eq!(Filter::fitting(&PixelLayout { columns: 0, ..good }), None);
    assert_eq!(Filter::fitting(&PixelLayout { length: 8_191, ..good }), None, "less than an image");
    assert_eq!(Filter::fitting(&PixelLayout { length: 1 << 32, ..good }), None);
    assert_eq!(Filter::fitting(&PixelLayout { offset: 1 << 32, ..good }), None);
    assert_eq!(Filter::fitting(&layout(8, 8, 8, 1)), None, "too little");
    // The longest rows there can be.
    let longest = Filter::fitting(&layout(1, u16::MAX, 16, 4)).unwrap();
    assert_eq!((longest.block_rows, longest.block_bytes()), (1, MOST_BLOCK));
}

#[test]
fn a_writer_that_is_used_again_starts_afresh() {
    let pixels: Vec<u8> = surface(300, 200).into_iter().flat_map(u16::to_be_bytes).collect();
    let filter = Filter::fitting(&PixelLayout { big_endian: true, ..layout(300, 200, 16, 1) }).unwrap();
    let other = Filter::fitting(&layout(100, 90, 8, 3)).unwrap();
    let mut used = FilterWriter::new(other, 0);
    used.write(&pixels[..50_000], &mut |_| Ok::<_, ()>(())).unwrap();
    let mut out = Vec::new();
    let mut target = |piece: Piece<'_>| {
        if let Piece::Bytes(bytes) = piece {
            out.extend_from_slice(bytes);
        }
        Ok::<_, ()>(())
    };
    let mut again = used.again(filter, 0);
    again.write(&pixels, &mut target).unwrap();
    again.finish(&mut target).unwrap();
    assert!(out == filtered(filter, &pixels, 1_000, 0));
}

#[test]
fn an_error_of_the_target_is_passed_on() {
    let filter = Filter::fitting(&layout(64, 64, 16, 1)).unwrap();
    let mut writer = FilterWriter::new(filter, 0);
    assert_eq!(writer.write(&[0; 8_192], &mut |_| Err("full")), Err("full"));
}
