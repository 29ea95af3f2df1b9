//! As much of the Part 10 file format (PS3.10 7.1) as is needed to compare data sets, written independently of the
//! gateway.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};

/// What the file meta group of a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    pub(crate) transfer_syntax: String,
    /// Where the data set begins.
    pub(crate) offset: u64,
}

/// Reads the file meta group, element by element (its group length is not believed).
///
/// # Errors
/// There is none.
pub(crate) fn read_meta(path: &Path) -> Result<Meta, String> {
    let mut reader = BufReader::new(File::open(path).map_err(|error| error.to_string())?);
    let mut preamble = [0; 132];
    reader.read_exact(&mut preamble).map_err(|error| error.to_string())?;
    if &preamble[128..] != b"DICM" {
        return Err("no DICM prefix".to_owned());
    }
    let mut meta =
        Meta { sop_class: String::new(), sop_instance: String::new(), transfer_syntax: String::new(), offset: 132 };
    loop {
        let mut head = [0; 8];
        let read = reader.read(&mut head).map_err(|error| error.to_string())?;
        if read < head.len() || head[..2] != [2, 0] {
            return Ok(meta);
        }
        let long = matches!(&head[4..6], b"OB" | b"OW" | b"UN" | b"SQ" | b"UT");
        let (length, head_length) = if long {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(|error| error.to_string())?;
            (u32::from_le_bytes(length), 12)
        } else {
            (u32::from(u16::from_le_bytes([head[6], head[7]])), 8)
        };
        let mut value = Vec::new();
        reader.by_ref().take(u64::from(length)).read_to_end(&mut value).map_err(|error| error.to_string())?;
        meta.offset += head_length + u64::from(length);
        let text = || String::from_utf8_lossy(&value).trim_end_matches(['\0', ' ']).to_owned();
        match head[2] {
            0x02 => meta.sop_class = text(),
            0x03 => meta.sop_instance = text(),
            0x10 => meta.transfer_syntax = text(),
            _ => {}
        }
    }
}

/// SHA-256 (hexadecimal) and length of the bytes of a file from `offset` on, read as a stream.
pub(crate) fn digest_from(path: &Path, offset: u64) -> (String, u64) {
    let mut file = File::open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        context.update(&buffer[..read]);
        length += u64::try_from(read).unwrap();
    }
    (context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect(), length)
}

/// One data set that is somewhere: which instance, in which transfer syntax, with which bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DataSet {
    pub(crate) sop_class: String,
    pub(crate) sop_instance: String,
    pub(crate) transfer_syntax: String,
    pub(crate) sha256: String,
    pub(crate) length: u64,
}

impl DataSet {
    /// The data set of a Part 10 file.
    ///
    /// # Panics
    /// When it is none.
    pub(crate) fn of_file(path: &Path) -> Self {
        let meta = read_meta(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (sha256, length) = digest_from(path, meta.offset);
        Self {
            sop_class: meta.sop_class,
            sop_instance: meta.sop_instance,
            transfer_syntax: meta.transfer_syntax,
            sha256,
            length,
        }
    }
}

/// The data sets of all files, sorted.
pub(crate) fn data_sets<'a>(files: impl IntoIterator<Item = &'a std::path::PathBuf>) -> Vec<DataSet> {
    let mut all: Vec<DataSet> = files.into_iter().map(|path| DataSet::of_file(path)).collect();
    all.sort();
    all
}
