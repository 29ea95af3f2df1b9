//! Part 10 files: the file meta information in front of a data set (PS3.10 7.1).
//!
//! Writing produces exactly what the standard asks for. Reading is bounded ([`LONGEST_META`]) and follows the elements
//! of group 0002 themselves, so that a wrong or missing group length does no harm; it needs the preamble, "DICM" and a
//! transfer syntax, without which the data set behind cannot be read.

use std::io::{self, Cursor, Read, Write};

use dicom_core::Tag;

use super::stream;
use super::transfer_syntax::{self, Encoding};
use super::vr::{HeaderForm, Vr};
use super::write::element;
use super::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use crate::model::{AeTitle, Uid};

/// How long file meta information may be, in bytes. Private information (0002,0102) is all that can make it long.
pub const LONGEST_META: u64 = 4 * 1024 * 1024;

const GROUP_LENGTH: Tag = Tag(0x0002, 0x0000);
const VERSION: Tag = Tag(0x0002, 0x0001);
const SOP_CLASS: Tag = Tag(0x0002, 0x0002);
const SOP_INSTANCE: Tag = Tag(0x0002, 0x0003);
const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);
const IMPLEMENTATION_CLASS: Tag = Tag(0x0002, 0x0012);
const IMPLEMENTATION_VERSION: Tag = Tag(0x0002, 0x0013);
const SOURCE_AE: Tag = Tag(0x0002, 0x0016);

/// What is written in front of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// Media Storage SOP Class UID (0002,0002).
    pub sop_class_uid: Uid,
    /// Media Storage SOP Instance UID (0002,0003).
    pub sop_instance_uid: Uid,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax: Uid,
    /// Source Application Entity Title (0002,0016): who sent the data set.
    pub source_ae: Option<AeTitle>,
}

/// What stood in front of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMeta {
    /// Media Storage SOP Class UID (0002,0002), if there is a valid one. The data set's own counts.
    pub sop_class_uid: Option<Uid>,
    /// Media Storage SOP Instance UID (0002,0003), if there is a valid one. The data set's own counts.
    pub sop_instance_uid: Option<Uid>,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax: Uid,
    /// Source Application Entity Title (0002,0016), if there is a valid one.
    pub source_ae: Option<AeTitle>,
}

/// Why a file is not a Part 10 file that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Part10Error {
    /// Reading failed.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Neither preamble nor "DICM".
    #[error("this is not a DICOM file: it has no \"DICM\" after the first 128 bytes")]
    NotDicom,
    /// "DICM" is the first thing in the file.
    #[error(
        "this DICOM file lacks the preamble of 128 bytes in front of \"DICM\"; write it again with its own software"
    )]
    NoPreamble,
    /// The file meta information cannot be followed.
    #[error("the file meta information is damaged at byte {0} of the file")]
    Damaged(u64),
    /// It ends inside the file meta information.
    #[error("the file is cut off inside its file meta information")]
    CutOff,
    /// More than [`LONGEST_META`].
    #[error("the file meta information is longer than {LONGEST_META} bytes")]
    TooLong,
    /// (0002,0010) is missing or not a UID.
    #[error("the file meta information has no valid Transfer Syntax UID (0002,0010), so the rest cannot be read")]
    NoTransferSyntax,
}

/// Writes preamble, "DICM" and file meta information (PS3.10 7.1), in the end at the first byte of the data set.
///
/// # Errors
/// Writing fails.
pub fn write_file_meta(out: &mut impl Write, meta: &FileMeta) -> io::Result<()> {
    let mut group = Vec::new();
    element(&mut group, VERSION, Vr::OB, &[0, 1])?;
    element(&mut group, SOP_CLASS, Vr::UI, meta.sop_class_uid.as_str().as_bytes())?;
    element(&mut group, SOP_INSTANCE, Vr::UI, meta.sop_instance_uid.as_str().as_bytes())?;
    element(&mut group, TRANSFER_SYNTAX, Vr::UI, meta.transfer_syntax.as_str().as_bytes())?;
    element(&mut group, IMPLEMENTATION_CLASS, Vr::UI, IMPLEMENTATION_CLASS_UID.as_bytes())?;
    element(&mut group, IMPLEMENTATION_VERSION, Vr::SH, IMPLEMENTATION_VERSION_NAME.as_bytes())?;
    if let Some(source_ae) = &meta.source_ae {
        element(&mut group, SOURCE_AE, Vr::AE, source_ae.as_str().as_bytes())?;
    }
    let length = u32::try_from(group.len()).map_err(io::Error::other)?;
    out.write_all(&[0; 128])?;
    out.write_all(b"DICM")?;
    element(out, GROUP_LENGTH, Vr::UL, &length.to_le_bytes())?;
    out.write_all(&group)
}

/// The data set behind file meta information.
///
/// To see where the group ends, the tag behind it has to be read; those bytes are read again from here.
#[derive(Debug)]
pub struct DataSet<R> {
    ahead: Cursor<Vec<u8>>,
    rest: R,
    offset: u64,
}

impl<R> DataSet<R> {
    /// Where the data set starts, in bytes from the start of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> Read for DataSet<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.ahead.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

/// Reads preamble, "DICM" and file meta information; what follows is the data set.
///
/// # Errors
/// It is no Part 10 file, or damaged, or its transfer syntax is not known.
pub fn read_file_meta<R: Read>(input: R) -> Result<(FoundMeta, DataSet<R>), Part10Error> {
    let mut reader = MetaReader { input, offset: 0 };
    let mut preamble = [0; 132];
    let filled = reader.fill(&mut preamble)?;
    if !preamble.ends_with(b"DICM") {
        return Err(if preamble.starts_with(b"DICM") { Part10Error::NoPreamble } else { Part10Error::NotDicom });
    }
    if filled < preamble.len() {
        return Err(Part10Error::NotDicom);
    }
    let mut found = Found::default();
    let ahead = loop {
        let at = reader.offset;
        let mut header = [0; 8];
        // A deflated data set can begin with the bytes of group 0002: there the group length has to be believed.
        let ends_here = found.end == Some(at) && found.is_deflated();
        let filled = if ends_here { 0 } else { reader.fill(&mut header)? };
        let ahead = header.get(..filled).unwrap_or_default();
        let is_meta = ahead.starts_with(&[0x02, 0x00]);
        if !is_meta {
            break ahead.to_vec();
        }
        if filled < header.len() {
            return Err(Part10Error::CutOff);
        }
        if at > LONGEST_META {
            return Err(Part10Error::TooLong);
        }
        reader.element(header, at, &mut found)?;
    };
    let transfer_syntax = found.transfer_syntax.ok_or(Part10Error::NoTransferSyntax)?;
    let offset = reader.offset - ahead.len() as u64;
    let meta = FoundMeta {
        sop_class_uid: found.sop_class_uid,
        sop_instance_uid: found.sop_instance_uid,
        transfer_syntax,
        source_ae: found.source_ae,
    };
    Ok((meta, DataSet { ahead: Cursor::new(ahead), rest: reader.input, offset }))
}

#[derive(Default)]
struct Found {
    /// Where the group ends, as its length says.
    end: Option<u64>,
    sop_class_uid: Option<Uid>,
    sop_instance_uid: Option<Uid>,
    transfer_syntax: Option<Uid>,
    source_ae: Option<AeTitle>,
}

impl Found {
    fn is_deflated(&self) -> bool {
        self.transfer_syntax.as_ref().is_some_and(|uid| transfer_syntax::describe(uid).deflated)
    }
}

struct MetaReader<R> {
    input: R,
    offset: u64,
}

impl<R: Read> MetaReader<R> {
    /// Fills the buffer, or as much of it as there is.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Part10Error> {
        let filled = stream::fill(&mut self.input, buffer)?;
        self.offset += filled as u64;
        Ok(filled)
    }

    /// Reads the rest of an element whose first eight bytes are known.
    fn element(&mut self, header: [u8; 8], at: u64, found: &mut Found) -> Result<(), Part10Error> {
        let [a, b, c, d, v0, v1, l0, l1] = header;
        let encoding = Encoding::ExplicitLe;
        let tag = Tag(encoding.u16([a, b]), encoding.u16([c, d]));
        let vr = Vr::from_wire([v0, v1]).ok_or(Part10Error::Damaged(at))?;
        let length = match vr.header_form() {
            HeaderForm::Short => u64::from(encoding.u16([l0, l1])),
            HeaderForm::Long => {
                let mut length = [0; 4];
                if self.fill(&mut length)? < length.len() {
                    return Err(Part10Error::CutOff);
                }
                u64::from(encoding.u32(length))
            }
        };
        if self.offset + length > LONGEST_META {
            return Err(Part10Error::TooLong);
        }
        // The longest value of interest is a UID.
        let mut value = Vec::new();
        self.input.by_ref().take(length.min(66)).read_to_end(&mut value)?;
        let skipped = io::copy(&mut self.input.by_ref().take(length.saturating_sub(66)), &mut io::sink())?;
        let taken = value.len() as u64 + skipped;
        self.offset += taken;
        if taken < length {
            return Err(Part10Error::CutOff);
        }
        match tag {
            GROUP_LENGTH => {
                let length = value.first_chunk().map(|bytes| u64::from(encoding.u32(*bytes)));
                found.end = length.map(|length| self.offset + length);
            }
            SOP_CLASS => found.sop_class_uid = Uid::from_wire(&value).ok(),
            SOP_INSTANCE => found.sop_instance_uid = Uid::from_wire(&value).ok(),
            TRANSFER_SYNTAX => found.transfer_syntax = Uid::from_wire(&value).ok(),
            SOURCE_AE => found.source_ae = AeTitle::from_wire(&value).ok(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> FileMeta {
        FileMeta {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.2".parse().unwrap(),
            sop_instance_uid: "1.2.3".parse().unwrap(),
            transfer_syntax: "1.2.840.10008.1.2.1".parse().unwrap(),
            source_ae: Some("CT1".parse().unwrap()),
        }
    }

    fn file(meta: &FileMeta, data_set: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        write_file_meta(&mut file, meta).unwrap();
        file.extend_from_slice(data_set);
        file
    }

    fn read(file: &[u8]) -> Result<(FoundMeta, Vec<u8>), Part10Error> {
        let (meta, mut data_set) = read_file_meta(file)?;
        let offset = usize::try_from(data_set.offset()).unwrap();
        let mut bytes = Vec::new();
        data_set.read_to_end(&mut bytes)?;
        assert_eq!(file[offset..], bytes);
        Ok((meta, bytes))
    }

    #[test]
    fn what_is_written_is_read_and_the_reader_stands_at_the_data_set() {
        for data_set in [&b""[..], b"\x08", b"\x08\0\x16\0UI\x02\x001\0rest"] {
            let (found, rest) = read(&file(&meta(), data_set)).unwrap();
            assert_eq!(found.transfer_syntax, meta().transfer_syntax);
            assert_eq!(found.sop_instance_uid, Some(meta().sop_instance_uid));
            assert_eq!(found.source_ae, meta().source_ae);
            assert_eq!(rest, data_set);
        }
    }

    #[test]
    fn the_group_length_is_right_when_written_and_not_needed_when_read() {
        let good = file(&meta(), b"\x08\0\x05\0CS\0\0");
        let length = u32::from_le_bytes(good[140..144].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), good.len() - 144 - 8);
        for wrong in [0_u32, 7, 10_000, u32::MAX] {
            let mut file = good.clone();
            file[140..144].copy_from_slice(&wrong.to_le_bytes());
            assert_eq!(read(&file).unwrap().1, b"\x08\0\x05\0CS\0\0");
        }
    }

    #[test]
    fn a_deflated_data_set_that_looks_like_group_2_is_left_alone() {
        let meta = FileMeta { transfer_syntax: "1.2.840.10008.1.2.1.99".parse().unwrap(), ..meta() };
        assert_eq!(read(&file(&meta, b"\x02\0\x10\0UI\x02\x001\0")).unwrap().1, b"\x02\0\x10\0UI\x02\x001\0");
    }

    #[test]
    fn what_is_no_part_10_file_is_told_apart() {
        let good = file(&meta(), b"");
        assert!(matches!(read(b""), Err(Part10Error::NotDicom)));
        assert!(matches!(read(&[0; 4_000]), Err(Part10Error::NotDicom)));
        assert!(matches!(read(&good[128..]), Err(Part10Error::NoPreamble)));
        assert!(matches!(read(&good[..132]), Err(Part10Error::NoTransferSyntax)));
        assert!(matches!(read(&good[..good.len() - 1]), Err(Part10Error::CutOff)));
        let mut damaged = good.clone();
        damaged[148] = 1;
        assert!(matches!(read(&damaged), Err(Part10Error::Damaged(144))));
    }

    #[test]
    fn a_lying_length_is_refused_without_memory() {
        let mut file = vec![0; 128];
        file.extend(b"DICM\x02\0\x02\x01OB\0\0\xf0\xff\xff\xff");
        assert!(matches!(read(&file), Err(Part10Error::TooLong)));
    }
}
