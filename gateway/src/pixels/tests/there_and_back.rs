//! What is coded is what it was.

use proptest::prelude::*;

use super::*;
use crate::dataset::recode::Recoder;
use crate::dataset::transfer_syntax::Encoding;
use crate::dataset::walker::{Event, Walker};

/// The lengths of the fragments of Pixel Data, and the content of the first.
fn fragments(result: &[u8]) -> (Vec<u32>, Vec<u8>) {
    let (mut lengths, mut table) = (Vec::new(), Vec::new());
    let mut walker = Walker::descending(Encoding::ExplicitLe);
    let mut watch = |event: Event<'_>| match event {
        Event::Fragment(length) => lengths.push(length),
        Event::Value(piece) if lengths.len() == 1 => table.extend_from_slice(piece),
        _ => {}
    };
    walker.feed(result, &mut watch).unwrap();
    walker.finish(&mut watch).unwrap();
    (lengths, table)
}

#[test]
fn a_slice_becomes_smaller_and_comes_back_byte_for_byte() {
    let data_set = Image::ramp(40, 60, 12).data_set();
    for to in [JPEG_LS, DEFLATED] {
        let (result, encoded) = coded(&data_set, EXPLICIT, to).unwrap();
        assert!(result.len() < data_set.len(), "{to}: {} of {}", result.len(), data_set.len());
        assert_eq!(encoded.frames, u32::from(to != DEFLATED));
        verify(&data_set[..], &uid(EXPLICIT), &result[..], &uid(to), &Limits::default()).unwrap();
    }
    for codec in Codec::ALL {
        let (result, _) = coded(&data_set, EXPLICIT, codec.uid()).unwrap();
        assert_eq!(decoded(&result, codec.uid(), None).unwrap(), data_set);
    }
}

#[test]
fn every_frame_has_one_fragment_of_even_length_and_an_offset() {
    let frame = Image::ramp(9, 11, 16);
    let pixels = [&frame.pixels[..], &[0; 198], &frame.pixels[2..], &[1, 2]].concat();
    let data_set = Image { frames: Some(3), pixels, ..frame }.data_set();
    for codec in Codec::ALL {
        let (result, _) = coded(&data_set, EXPLICIT, codec.uid()).unwrap();
        let (lengths, table) = fragments(&result);
        assert_eq!(lengths.len(), 4);
        assert!(lengths.iter().all(|length| length % 2 == 0));
        let offsets: Vec<_> = table.as_chunks().0.iter().map(|offset| u32::from_le_bytes(*offset)).collect();
        assert_eq!(offsets, [0, 8 + lengths[1], 16 + lengths[1] + lengths[2]]);
    }
}

#[test]
fn a_table_of_offsets_that_lies_is_found() {
    let frame = Image::ramp(4, 4, 16);
    let pixels = frame.pixels.repeat(2);
    let data_set = Image { frames: Some(2), pixels, ..frame }.data_set();
    let (mut result, _) = coded(&data_set, EXPLICIT, RLE).unwrap();
    let header = b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff";
    let table = 8 + header.len() + result.windows(header.len()).position(|bytes| bytes == header).unwrap();
    result[table + 4] ^= 2;
    let refused = verify(&data_set[..], &uid(EXPLICIT), &result[..], &uid(RLE), &Limits::default());
    assert!(matches!(refused, Err(EncodeError::LeftAlone(LeftAlone::Fragments))));
}

#[test]
fn planar_configuration_becomes_what_the_codec_has_and_nothing_else_changes() {
    let planes = Image {
        samples: 3,
        allocated: 8,
        stored: 8,
        planar: Some(1),
        photometric: "RGB",
        pixels: (0..=251).collect(),
        ..Image::ramp(7, 12, 16)
    };
    for (planar, codec) in (0..2).flat_map(|planar| Codec::ALL.map(|codec| (planar, codec))) {
        let data_set = Image { planar: Some(planar), ..planes.clone() }.data_set();
        let (result, _) = coded(&data_set, EXPLICIT, codec.uid()).unwrap();
        let element = explicit((0x0028, 0x0006), b"US", &codec.planar().to_le_bytes());
        assert!(result.windows(element.len()).any(|bytes| bytes == element));
        assert_eq!(decoded(&result, codec.uid(), Some(planar)).unwrap(), data_set);
        verify(&data_set[..], &uid(EXPLICIT), &result[..], &uid(codec.uid()), &Limits::default()).unwrap();
    }
}

#[test]
fn sources_in_every_native_transfer_syntax_lead_to_the_same_result() {
    let explicit = Image::ramp(5, 6, 12).data_set();
    let (mut implicit, mut recoder) = (Vec::new(), Recoder::new(Encoding::ExplicitLe, Encoding::ImplicitLe).unwrap());
    recoder.feed(&explicit, &mut implicit).unwrap();
    recoder.finish(&mut implicit).unwrap();
    let (deflated, _) = coded(&explicit, EXPLICIT, DEFLATED).unwrap();
    for to in [JPEG_LS, RLE] {
        let (from_explicit, _) = coded(&explicit, EXPLICIT, to).unwrap();
        let (from_implicit, _) = coded(&implicit, IMPLICIT, to).unwrap();
        let (from_deflated, _) = coded(&deflated, DEFLATED, to).unwrap();
        assert_eq!(from_explicit, from_deflated);
        assert_eq!(decoded(&from_implicit, to, None).unwrap().len(), explicit.len());
        verify(&implicit[..], &uid(IMPLICIT), &from_implicit[..], &uid(to), &Limits::default()).unwrap();
        verify(&deflated[..], &uid(DEFLATED), &from_explicit[..], &uid(to), &Limits::default()).unwrap();
    }
}

#[test]
fn a_sink_that_refuses_stops_it() {
    struct Full(Cursor<Vec<u8>>);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.position() > 100 { Err(io::Error::other("cancelled")) } else { self.0.write(bytes) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Seek for Full {
        fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }
    let data_set = Image::ramp(40, 60, 12).data_set();
    let sink = Full(Cursor::new(Vec::new()));
    let refused = encode(&data_set[..], &uid(EXPLICIT), &uid(JPEG_LS), sink, &Limits::default());
    assert!(matches!(refused, Err(EncodeError::Write(_))));
}

#[test]
fn a_result_stands_where_the_sink_was() {
    let data_set = Image { frames: Some(1), ..Image::ramp(4, 5, 12) }.data_set();
    let (alone, _) = coded(&data_set, EXPLICIT, JPEG_LS).unwrap();
    let mut sink = Cursor::new(b"before".to_vec());
    sink.set_position(6);
    encode(&data_set[..], &uid(EXPLICIT), &uid(JPEG_LS), &mut sink, &Limits::default()).unwrap();
    assert_eq!(sink.position(), 6 + alone.len() as u64);
    assert_eq!(sink.into_inner(), [b"before", &alone[..]].concat());
}

/// Images of every kind that there is a place for, and of some that there is not.
fn images() -> impl Strategy<Value = Image> {
    let size = (1_u16..20, 1_u16..20, prop_oneof![Just(1_u16), Just(3)], prop_oneof![Just(8_u16), Just(16)]);
    let kind = (1_u16..=16, any::<bool>(), 0_u16..2, prop::option::of(1_u32..4));
    (size, kind, any::<u64>(), 0_u8..4).prop_map(|(size, kind, seed, texture)| {
        let (rows, columns, samples, allocated) = size;
        let (stored, signed, planar, frames) = kind;
        let stored = stored.min(allocated);
        let signed = signed && samples == 1;
        let count = usize::from(rows) * usize::from(columns) * usize::from(samples) * frames.unwrap_or(1) as usize;
        let mut state = seed | 1;
        let mut cell = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let noise = u16::try_from(state >> 48).unwrap();
            let value = match texture {
                0 => noise,
                1 => u16::try_from(n % 65_536).unwrap().wrapping_mul(3).wrapping_add(noise & 3),
                2 => u16::try_from(seed >> 48).unwrap(),
                _ => {
                    if noise & 8 == 0 {
                        0xffff
                    } else {
                        0
                    }
                }
            };
            // What is stored, with its sign if it has one.
            let unused = 16 - u32::from(stored);
            if signed {
                (value << unused).cast_signed().wrapping_shr(unused).cast_unsigned()
            } else {
                (value << unused) >> unused
            }
        };
        let cells: Vec<u16> = (0..count).map(&mut cell).collect();
        let pixels = match allocated {
            8 => cells.iter().map(|cell| cell.to_le_bytes()[0]).collect(),
            _ => cells.iter().flat_map(|cell| cell.to_le_bytes()).collect(),
        };
        let photometric = match (samples, seed % 3) {
            (1, 0) if !signed => "PALETTE COLOR",
            (1, _) => "MONOCHROME1",
            (_, 0) if allocated == 8 => "YBR_FULL",
            _ => "RGB",
        };
        let planar = (samples > 1).then_some(planar);
        Image { rows, columns, samples, allocated, stored, signed, planar, frames, photometric, pixels }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4_000 }))]

    #[test]
    fn whatever_is_coded_comes_back_byte_for_byte(image in images(), piece in 1_usize..300) {
        let data_set = image.data_set();
        let facts = look(Dribble(&data_set, piece), &uid(EXPLICIT)).unwrap();
        let possible = candidates(&facts, &uid(EXPLICIT), &Limits::default());
        prop_assert!(possible.contains(&RLE) && possible.contains(&DEFLATED));
        for to in possible {
            let outcome = coded(&data_set, EXPLICIT, to);
            let (result, _) = match outcome {
                Ok(result) => result,
                // Noise in a few pixels can need more than CharLS has room for.
                Err(LeftAlone::CodecFailed) if to == JPEG_LS => continue,
                Err(reason) => panic!("{to}: {reason}"),
            };
            let mut sink = Cursor::new(Vec::new());
            encode(Dribble(&data_set, piece), &uid(EXPLICIT), &uid(to), &mut sink, &Limits::default()).unwrap();
            prop_assert_eq!(sink.get_ref(), &result, "it depends on how it is read");
            if to != DEFLATED {
                prop_assert_eq!(decoded(&result, to, image.planar).unwrap(), &data_set[..]);
            }
            verify(Dribble(&data_set, piece), &uid(EXPLICIT), Dribble(&result, piece), &uid(to), &Limits::default()).unwrap();
        }
    }

    #[test]
    fn a_damaged_result_is_never_taken_for_another_image(image in images(), place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let data_set = image.data_set();
        for codec in Codec::ALL {
            let Ok((mut result, _)) = coded(&data_set, EXPLICIT, codec.uid()) else { continue };
            let place = place.index(result.len());
            result[place] ^= 1 << bit;
            let verdict = verify(&data_set[..], &uid(EXPLICIT), &result[..], &uid(codec.uid()), &Limits::default());
            if verdict.is_ok() {
                // Padding, a reserved byte, or a VR: what a digest leaves out and a reader does not look at.
                let again = decoded(&result, codec.uid(), image.planar).unwrap();
                prop_assert_eq!(again.len(), data_set.len());
            }
        }
    }
}
