//! Data sets for the tests that call the library.

use waystation::model::Uid;
use waystation::phantom::{MultiFrame, Phantom};

/// What there is without any file, a slice and a multi-frame image: name, transfer syntax and data set of each.
pub(crate) fn phantoms() -> [(&'static str, Uid, Vec<u8>); 2] {
    let (slice, multi_frame) = (Phantom::small(2), MultiFrame { seed: 1, rows: 64, columns: 64, frames: 40 });
    let (mut of_slice, mut of_multi_frame) = (Vec::new(), Vec::new());
    slice.write_data_set(0, &mut of_slice).unwrap();
    multi_frame.write_data_set(&mut of_multi_frame).unwrap();
    [
        ("phantom slice", slice.file_meta(0).unwrap().transfer_syntax, of_slice),
        ("phantom multi-frame", multi_frame.file_meta().unwrap().transfer_syntax, of_multi_frame),
    ]
}
