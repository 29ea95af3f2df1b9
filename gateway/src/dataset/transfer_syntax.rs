//! What a transfer syntax UID says about the bytes of a data set (PS3.5 section 10 and Annex A).

use crate::model::Uid;

/// Implicit VR Little Endian, the default transfer syntax (PS3.5 A.1).
pub const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian (PS3.5 A.2).
pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Explicit VR Big Endian, retired (PS3.5-2016 A.3).
pub const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// Deflated Explicit VR Little Endian (PS3.5 A.5).
pub const DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1.99";

/// Retired, and Implicit VR Little Endian in all that is read here.
const PAPYRUS_3_IMPLICIT: &str = "1.2.840.10008.1.20";
/// Private: Implicit VR Little Endian but for big-endian pixel data, which is not looked into.
const GE_IMPLICIT_BIG_ENDIAN_PIXELS: &str = "1.2.840.113619.5.2";

/// How element headers and numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Without value representations, little endian.
    ImplicitLe,
    /// With value representations, little endian.
    ExplicitLe,
    /// With value representations, big endian.
    ExplicitBe,
}

impl Encoding {
    /// Reads a 16-bit number.
    #[must_use]
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        if self == Self::ExplicitBe { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    /// Reads a 32-bit number.
    #[must_use]
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        if self == Self::ExplicitBe { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

/// What a transfer syntax says about the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSyntax {
    /// The encoding of the data set, after inflating it if it is deflated.
    pub encoding: Encoding,
    /// The whole data set is one raw deflate stream (RFC 1951).
    pub deflated: bool,
    /// Pixel data stands in fragments, or may do so.
    pub encapsulated: bool,
}

/// Describes a transfer syntax. Private and unknown ones count as Explicit VR Little Endian with encapsulated pixel
/// data, which is what PS3.5 A.4 asks of every transfer syntax that compresses.
#[must_use]
pub fn describe(uid: &Uid) -> TransferSyntax {
    let plain = |encoding| TransferSyntax { encoding, deflated: false, encapsulated: false };
    match uid.as_str() {
        IMPLICIT_VR_LITTLE_ENDIAN | PAPYRUS_3_IMPLICIT | GE_IMPLICIT_BIG_ENDIAN_PIXELS => plain(Encoding::ImplicitLe),
        EXPLICIT_VR_LITTLE_ENDIAN => plain(Encoding::ExplicitLe),
        EXPLICIT_VR_BIG_ENDIAN => plain(Encoding::ExplicitBe),
        // JPIP Referenced, JPIP HTJ2K Referenced: a link instead of pixel data.
        "1.2.840.10008.1.2.4.94" | "1.2.840.10008.1.2.4.204" => plain(Encoding::ExplicitLe),
        // The same two, deflated as a whole.
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205" => {
            TransferSyntax { deflated: true, ..plain(Encoding::ExplicitLe) }
        }
        _ => TransferSyntax { encapsulated: true, ..plain(Encoding::ExplicitLe) },
    }
}

/// The name that the standard gives a transfer syntax, without the explanations behind it; `None` for private ones.
#[must_use]
pub fn name(uid: &Uid) -> Option<&'static str> {
    let found = NAMES.binary_search_by_key(&uid.as_str(), |(uid, _)| uid).ok()?;
    NAMES.get(found).map(|(_, name)| *name)
}

/// The registered transfer syntaxes by name (PS3.6 table A-1), sorted by UID as text.
const NAMES: [(&str, &str); 63] = [
    ("1.2.840.10008.1.2", "Implicit VR Little Endian"),
    ("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
    ("1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed Explicit VR Little Endian"),
    ("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian"),
    ("1.2.840.10008.1.2.2", "Explicit VR Big Endian"),
    ("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"),
    ("1.2.840.10008.1.2.4.100.1", "Fragmentable MPEG2 Main Profile / Main Level"),
    ("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level"),
    ("1.2.840.10008.1.2.4.101.1", "Fragmentable MPEG2 Main Profile / High Level"),
    ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
    ("1.2.840.10008.1.2.4.102.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1"),
    ("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
    ("1.2.840.10008.1.2.4.103.1", "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1"),
    ("1.2.840.10008.1.2.4.104", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video"),
    ("1.2.840.10008.1.2.4.104.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video"),
    ("1.2.840.10008.1.2.4.105", "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video"),
    ("1.2.840.10008.1.2.4.105.1", "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video"),
    ("1.2.840.10008.1.2.4.106", "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
    ("1.2.840.10008.1.2.4.106.1", "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2"),
    ("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1"),
    ("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile / Level 5.1"),
    ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
    ("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression"),
    ("1.2.840.10008.1.2.4.112", "JPEG XL"),
    ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Image Compression (Lossless Only)"),
    ("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)"),
    ("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000 Image Compression"),
    ("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced"),
    ("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate"),
    ("1.2.840.10008.1.2.4.50", "JPEG Baseline (Process 1)"),
    ("1.2.840.10008.1.2.4.51", "JPEG Extended (Process 2 & 4)"),
    ("1.2.840.10008.1.2.4.52", "JPEG Extended (Process 3 & 5)"),
    ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)"),
    ("1.2.840.10008.1.2.4.54", "JPEG Spectral Selection, Non-Hierarchical (Process 7 & 9)"),
    ("1.2.840.10008.1.2.4.55", "JPEG Full Progression, Non-Hierarchical (Process 10 & 12)"),
    ("1.2.840.10008.1.2.4.56", "JPEG Full Progression, Non-Hierarchical (Process 11 & 13)"),
    ("1.2.840.10008.1.2.4.57", "JPEG Lossless, Non-Hierarchical (Process 14)"),
    ("1.2.840.10008.1.2.4.58", "JPEG Lossless, Non-Hierarchical (Process 15)"),
    ("1.2.840.10008.1.2.4.59", "JPEG Extended, Hierarchical (Process 16 & 18)"),
    ("1.2.840.10008.1.2.4.60", "JPEG Extended, Hierarchical (Process 17 & 19)"),
    ("1.2.840.10008.1.2.4.61", "JPEG Spectral Selection, Hierarchical (Process 20 & 22)"),
    ("1.2.840.10008.1.2.4.62", "JPEG Spectral Selection, Hierarchical (Process 21 & 23)"),
    ("1.2.840.10008.1.2.4.63", "JPEG Full Progression, Hierarchical (Process 24 & 26)"),
    ("1.2.840.10008.1.2.4.64", "JPEG Full Progression, Hierarchical (Process 25 & 27)"),
    ("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical (Process 28)"),
    ("1.2.840.10008.1.2.4.66", "JPEG Lossless, Hierarchical (Process 29)"),
    (
        "1.2.840.10008.1.2.4.70",
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
    ),
    ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless Image Compression"),
    ("1.2.840.10008.1.2.4.81", "JPEG-LS Lossy (Near-Lossless) Image Compression"),
    ("1.2.840.10008.1.2.4.90", "JPEG 2000 Image Compression (Lossless Only)"),
    ("1.2.840.10008.1.2.4.91", "JPEG 2000 Image Compression"),
    ("1.2.840.10008.1.2.4.92", "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)"),
    ("1.2.840.10008.1.2.4.93", "JPEG 2000 Part 2 Multi-component Image Compression"),
    ("1.2.840.10008.1.2.4.94", "JPIP Referenced"),
    ("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate"),
    ("1.2.840.10008.1.2.5", "RLE Lossless"),
    ("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation"),
    ("1.2.840.10008.1.2.6.2", "XML Encoding"),
    ("1.2.840.10008.1.2.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video"),
    ("1.2.840.10008.1.2.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video"),
    ("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio"),
    ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression"),
    ("1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    #[test]
    fn the_uncompressed_ones_are_known_and_everything_else_is_explicit() {
        assert_eq!(describe(&uid(IMPLICIT_VR_LITTLE_ENDIAN)).encoding, Encoding::ImplicitLe);
        assert_eq!(describe(&uid(EXPLICIT_VR_BIG_ENDIAN)).encoding, Encoding::ExplicitBe);
        assert!(describe(&uid(DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)).deflated);
        let jpeg = describe(&uid("1.2.840.10008.1.2.4.50"));
        assert_eq!(jpeg, TransferSyntax { encoding: Encoding::ExplicitLe, deflated: false, encapsulated: true });
        assert_eq!(describe(&uid("1.3.46.670589.33.1.4.1")), jpeg);
    }

    #[test]
    fn names_are_those_of_the_standard() {
        assert!(NAMES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(name(&uid(IMPLICIT_VR_LITTLE_ENDIAN)), Some("Implicit VR Little Endian"));
        assert_eq!(name(&uid(EXPLICIT_VR_BIG_ENDIAN)), Some("Explicit VR Big Endian"));
        assert_eq!(name(&uid("1.2.840.10008.1.2.4.50")), Some("JPEG Baseline (Process 1)"));
        assert_eq!(name(&uid("1.2.840.10008.1.1")), None, "a SOP class is no transfer syntax");
        assert_eq!(name(&uid("1.2.3")), None);
    }
}
