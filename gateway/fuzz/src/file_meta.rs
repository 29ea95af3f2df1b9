//! The file meta information of Part 10 files, and where the data set behind it begins.

use std::io::Read;

use waystation::dataset::part10::{FileMeta, read_file_meta, write_file_meta};

use super::delivery;

/// A reader that gives at most so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let room = buffer.len().min(self.1);
        self.0.read(&mut buffer[..room])
    }
}

/// Runs one input.
///
/// # Panics
/// It has found something.
pub fn run(input: &[u8]) {
    let Some((manner, content)) = delivery(input) else { return };
    let (meta, mut data_set) = match read_file_meta(Pieces(content, manner.piece)) {
        Ok(found) => found,
        Err(error) => {
            assert!(error.to_string().chars().all(|letter| !letter.is_control()));
            return;
        }
    };
    let offset = usize::try_from(data_set.offset()).unwrap();
    let mut rest = Vec::new();
    data_set.read_to_end(&mut rest).unwrap();
    assert!(rest == content[offset..], "the data set is not what stands behind the file meta information");

    let (Some(sop_class_uid), Some(sop_instance_uid)) = (meta.sop_class_uid, meta.sop_instance_uid) else { return };
    let (transfer_syntax, source_ae) = (meta.transfer_syntax, meta.source_ae);
    let written = FileMeta { sop_class_uid, sop_instance_uid, transfer_syntax, source_ae };
    let mut file = Vec::new();
    write_file_meta(&mut file, &written).unwrap();
    let (again, _) = read_file_meta(&file[..]).unwrap();
    assert_eq!(again.transfer_syntax, written.transfer_syntax);
    assert_eq!(again.source_ae, written.source_ae);
    assert_eq!(again.sop_instance_uid, Some(written.sop_instance_uid));
}
