//! What is not touched, and what is said about it.

use dicom_core::Tag;

use super::*;
use crate::dataset::tags;

#[test]
fn what_no_codec_may_have_is_only_deflated() {
    let image = Image::ramp(4, 4, 16);
    let odd = [
        (Image { allocated: 32, stored: 32, ..image.clone() }, LeftAlone::NotAllowed(tags::BITS_ALLOCATED)),
        (Image { allocated: 1, stored: 1, ..image.clone() }, LeftAlone::NotAllowed(tags::BITS_ALLOCATED)),
        (
            Image { photometric: "YBR_FULL_422", ..image.clone() },
            LeftAlone::NotAllowed(facts::PHOTOMETRIC_INTERPRETATION),
        ),
        (Image { photometric: "RGB", ..image.clone() }, LeftAlone::NotAllowed(facts::PHOTOMETRIC_INTERPRETATION)),
        (Image { stored: 17, ..image.clone() }, LeftAlone::Undescribed(facts::BITS_STORED)),
        (Image { frames: Some(0), ..image.clone() }, LeftAlone::Undescribed(tags::NUMBER_OF_FRAMES)),
        (Image { frames: Some(2), ..image.clone() }, LeftAlone::Length),
        (Image { rows: 5, ..image.clone() }, LeftAlone::Length),
        (Image { samples: 3, photometric: "RGB", ..image.clone() }, LeftAlone::Undescribed(tags::PLANAR_CONFIGURATION)),
    ];
    for (image, reason) in odd {
        let data_set = image.data_set();
        let facts = look(&data_set[..], &uid(EXPLICIT)).unwrap();
        assert_eq!(candidates(&facts, &uid(EXPLICIT), &Limits::default()), [DEFLATED], "{reason}");
        for codec in Codec::ALL {
            assert_eq!(why(&image, codec.uid()), reason);
        }
        let (result, _) = coded(&data_set, EXPLICIT, DEFLATED).unwrap();
        verify(&data_set[..], &uid(EXPLICIT), &result[..], &uid(DEFLATED), &Limits::default()).unwrap();
    }
}

#[test]
fn a_sign_is_kept_in_the_code_stream_and_garbage_above_unsigned_pixels_is_left_to_rle() {
    let signed = Image {
        signed: true,
        stored: 12,
        pixels: (0..16_i16).flat_map(|n| ((n - 8) * 200).to_le_bytes()).collect(),
        ..Image::ramp(4, 4, 12)
    };
    // An overlay in bit 15, as before 2004.
    let overlay = Image { pixels: [0x34, 0x82].repeat(16), ..Image::ramp(4, 4, 12) };
    for (image, to, possible) in
        [(&signed, JPEG_LS, true), (&signed, RLE, true), (&overlay, JPEG_LS, false), (&overlay, RLE, true)]
    {
        if possible {
            let (result, _) = coded(&image.data_set(), EXPLICIT, to).unwrap();
            assert_eq!(decoded(&result, to, None).unwrap(), image.data_set());
        } else {
            assert_eq!(why(image, to), LeftAlone::UnusedBits);
        }
    }
}

#[test]
fn without_pixels_there_is_deflate() {
    let report =
        [explicit((0x0008, 0x0060), b"CS", b"SR"), explicit((0x0040, 0xa160), b"UT", b"nothing to see")].concat();
    let facts = look(&report[..], &uid(EXPLICIT)).unwrap();
    assert_eq!(candidates(&facts, &uid(EXPLICIT), &Limits::default()), [DEFLATED]);
    assert_eq!(coded(&report, EXPLICIT, JPEG_LS).unwrap_err(), LeftAlone::NoPixels);
    let float = [report.clone(), explicit((0x7fe0, 0x0008), b"OF", &[0; 8])].concat();
    assert_eq!(coded(&float, EXPLICIT, JPEG_LS).unwrap_err(), LeftAlone::NoPixels);
    coded(&float, EXPLICIT, DEFLATED).unwrap();
}

#[test]
fn what_is_signed_is_left_alone_wherever_the_signature_stands() {
    let image = Image::ramp(4, 4, 16).data_set();
    let signature = explicit((0xfffa, 0xfffa), b"SQ", b"");
    let nested = [open((0x0040, 0x0275), Some(b"SQ")), open((0xfffe, 0xe000), None), signature.clone()].concat();
    let nested = [&nested[..], ITEM_END, SEQUENCE_END].concat();
    assert_eq!(coded(&[image.clone(), signature].concat(), EXPLICIT, RLE).unwrap_err(), LeftAlone::Signed);
    assert_eq!(coded(&[nested, image].concat(), EXPLICIT, JPEG_LS).unwrap_err(), LeftAlone::Signed);
}

#[test]
fn attributes_twice_or_behind_the_pixels_are_not_believed() {
    let image = Image::ramp(4, 4, 16).data_set();
    let rows = explicit((0x0028, 0x0010), b"US", b"\x04\0");
    let refused = LeftAlone::Undescribed(tags::ROWS);
    assert_eq!(coded(&[rows.clone(), image.clone()].concat(), EXPLICIT, RLE).unwrap_err(), refused);
    assert_eq!(coded(&[image.clone(), rows].concat(), EXPLICIT, RLE).unwrap_err(), refused);
    let pixels = explicit((0x7fe0, 0x0010), b"OW", &[0; 32]);
    let twice = coded(&[image, pixels].concat(), EXPLICIT, RLE).unwrap_err();
    assert_eq!(twice, LeftAlone::Undescribed(Tag(0x7fe0, 0x0010)));
}

#[test]
fn large_frames_and_what_is_compressed_already_are_left_alone() {
    let data_set = Image::ramp(40, 60, 12).data_set();
    let limits = Limits { frame: 40 * 60 * 2 - 1 };
    let refused = encode(&data_set[..], &uid(EXPLICIT), &uid(JPEG_LS), Cursor::new(Vec::new()), &limits);
    assert!(matches!(refused, Err(EncodeError::LeftAlone(LeftAlone::FrameTooLarge))));
    let (result, _) = coded(&data_set, EXPLICIT, JPEG_LS).unwrap();
    assert_eq!(coded(&result, JPEG_LS, RLE).unwrap_err(), LeftAlone::NotOffered);
    assert_eq!(coded(&data_set, EXPLICIT, EXPLICIT).unwrap_err(), LeftAlone::NotOffered);
    assert_eq!(coded(&result, EXPLICIT, RLE).unwrap_err(), LeftAlone::Compressed);
}

#[test]
fn a_data_set_that_ends_early_is_left_alone_wherever_it_does() {
    let data_set = Image::ramp(3, 3, 16).data_set();
    for end in 0..data_set.len() {
        for to in [JPEG_LS, RLE] {
            // It may end behind the pixels, between two elements.
            if let Ok((result, _)) = coded(&data_set[..end], EXPLICIT, to) {
                assert_eq!(decoded(&result, to, None).unwrap(), &data_set[..end]);
                assert_eq!(end, data_set.len() - 16);
            }
        }
    }
}

#[test]
fn group_lengths_of_the_pixels_go_and_others_stay() {
    let length = |group: u16| explicit((group, 0), b"UL", &[1, 0, 0, 0]);
    let image = Image::ramp(4, 4, 16).data_set();
    let pixels = image.windows(4).rposition(|bytes| bytes == b"\xe0\x7f\x10\0").unwrap();
    let with = [&length(0x0008)[..], &image[..pixels], &length(0x7fe0), &image[pixels..]].concat();
    let (result, _) = coded(&with, EXPLICIT, RLE).unwrap();
    assert_eq!(decoded(&result, RLE, None).unwrap(), [length(0x0008), image].concat());
}
