//! What is sent: data sets in memory, and the very bytes that carry them.
//!
//! Everything that can be done before the clock runs is done before: the P-DATA-TFs of each message are built once for
//! the peer's maximum PDU length, and for every instance only its SOP Instance UID is written over, in the command and in
//! the data set, by another of the same length. What is left to the sender is one `write` per message.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;

use waystation::dataset::part10::read_file_meta;
use waystation::dimse::{CStore, Command};
use waystation::model::{Priority, Uid};
use waystation::phantom::{MultiFrame, Phantom};
use waystation::receive::scan::{HeaderScan, Scan};

/// Bytes of a P-DATA-TF with one PDV before its data.
const HEADS: usize = 12;
/// Slices of a series; each association sends them in turn.
const SLICES: u32 = 12;
/// Frames of the large instance: half a mebibyte each.
const FRAMES: u32 = 2_048;

/// Instances of one kind, sent in turn.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// What it is, for the report.
    pub(crate) what: String,
    pub(crate) sop_class: Uid,
    pub(crate) transfer_syntax: Uid,
    data_sets: Vec<DataSet>,
}

/// One data set: `front`, and then, if there are any, the frames over and over until there are `times` of them.
struct DataSet {
    front: Vec<u8>,
    instance: Uid,
    frames: Vec<Vec<u8>>,
    times: usize,
}

impl Load {
    /// Bytes of the data sets of `count` instances in turn.
    pub(crate) fn bytes(&self, count: usize) -> u64 {
        self.data_sets.iter().cycle().take(count).map(|data_set| data_set.length() as u64).sum()
    }

    /// One message for each data set.
    pub(crate) fn messages(&self, context: u8, max_pdu: usize) -> Result<Vec<Message>, Box<dyn Error>> {
        self.data_sets.iter().map(|data_set| Message::new(self, data_set, context, max_pdu)).collect()
    }
}

impl DataSet {
    fn length(&self) -> usize {
        self.front.len() + self.frames.iter().cycle().take(self.times).map(Vec::len).sum::<usize>()
    }
}

/// CT slices of half a megabyte: those found below `folder`, or else a phantom's. 40 KB: the phantom's again, smaller.
/// 1 GiB: a multi-frame instance whose frames are the slices.
pub(crate) fn all(folder: Option<&Path>) -> Result<Vec<Load>, Box<dyn Error>> {
    let found = folder.map(find_ct).transpose()?.unwrap_or_default();
    let origin = if found.is_empty() { "synthetic" } else { "real" };
    let slices = if found.is_empty() { phantom(512)? } else { found };
    let small = phantom(140)?;
    let multi_frame = multi_frame(&slices)?;
    Ok(vec![
        series("ct", format!("CT, 512 × 512, 0.5 MB, {origin}"), slices)?,
        series("small", "CT, 140 × 140, 40 KB, synthetic".to_owned(), small)?,
        multi_frame,
    ])
}

/// A data set that was read or made, and what it is.
struct Slice {
    bytes: Vec<u8>,
    transfer_syntax: Uid,
    scan: Scan,
}

impl Slice {
    fn new(bytes: Vec<u8>, transfer_syntax: Uid) -> Self {
        let mut scan = HeaderScan::new(&transfer_syntax);
        scan.feed(&bytes);
        Self { bytes, transfer_syntax, scan: scan.finish() }
    }

    /// The pixels, if they are 512 × 512 of two bytes, uncompressed.
    fn pixels(&self) -> Option<&[u8]> {
        let image = self.scan.image?;
        let shape = (image.rows, image.columns, image.bits_allocated, image.samples_per_pixel, image.frames);
        let start = usize::try_from(image.pixel_data_offset).ok()?;
        let length = usize::try_from(image.pixel_data_length).ok()?;
        let pixels = self.bytes.get(start..)?.get(..length)?;
        (shape == (512, 512, 16, 1, 1) && length == 512 * 512 * 2).then_some(pixels)
    }
}

fn find_ct(folder: &Path) -> Result<Vec<Slice>, Box<dyn Error>> {
    const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
    const SIZES: std::ops::Range<u64> = 500_000..700_000;
    let mut slices: Vec<Slice> = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let mut entries = std::fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::path);
        // Taken from the end: the folders in the order of their names.
        let folders = entries.iter().rev().filter(|entry| entry.path().is_dir());
        waiting.extend(folders.map(std::fs::DirEntry::path));
        for entry in &entries {
            if !SIZES.contains(&entry.metadata()?.len()) {
                continue;
            }
            let file = std::fs::read(entry.path())?;
            let Ok((meta, mut rest)) = read_file_meta(&file[..]) else { continue };
            let mut bytes = Vec::new();
            rest.read_to_end(&mut bytes)?;
            let slice = Slice::new(bytes, meta.transfer_syntax);
            let is_ct = slice.scan.sop_class_uid.as_ref().is_some_and(|class| class.as_str() == CT_IMAGE_STORAGE);
            let alike = slices.first().is_none_or(|first| first.transfer_syntax == slice.transfer_syntax);
            // A data set of odd length ends the association with DCMTK.
            if is_ct && alike && slice.pixels().is_some() && slice.bytes.len().is_multiple_of(2) {
                slices.push(slice);
            }
            if slices.len() == SLICES as usize {
                return Ok(slices);
            }
        }
    }
    Ok(slices)
}

fn phantom(side: u16) -> Result<Vec<Slice>, Box<dyn Error>> {
    let phantom = Phantom { slices: SLICES, rows: side, columns: side, ..Phantom::default() };
    (0..SLICES)
        .map(|number| {
            let mut bytes = Vec::new();
            phantom.write_data_set(number, &mut bytes)?;
            Ok(Slice::new(bytes, phantom.file_meta(number)?.transfer_syntax))
        })
        .collect()
}

fn series(name: &'static str, what: String, slices: Vec<Slice>) -> Result<Load, Box<dyn Error>> {
    let first = slices.first().ok_or("a series without slices")?;
    let sop_class = first.scan.sop_class_uid.clone().ok_or("a slice without SOP Class UID")?;
    let transfer_syntax = first.transfer_syntax.clone();
    let data_sets = slices.into_iter().map(|slice| {
        let instance = slice.scan.sop_instance_uid.ok_or("a slice without SOP Instance UID")?;
        Ok(DataSet { front: slice.bytes, instance, frames: Vec::new(), times: 0 })
    });
    let data_sets = data_sets.collect::<Result<_, Box<dyn Error>>>()?;
    Ok(Load { name, what, sop_class, transfer_syntax, data_sets })
}

fn multi_frame(slices: &[Slice]) -> Result<Load, Box<dyn Error>> {
    /// Keeps the front of what is written, and fails when it is full.
    struct Front(Vec<u8>);
    impl Write for Front {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() > 8_192 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let image = MultiFrame { seed: 1, rows: 512, columns: 512, frames: FRAMES };
    let meta = image.file_meta()?;
    let mut front = Front(Vec::new());
    // It ends with the error of the sink: only what stands before the pixels is wanted.
    let _ = image.write_data_set(&mut front);
    let Slice { bytes: mut front, scan, transfer_syntax } = Slice::new(front.0, meta.transfer_syntax);
    let start = scan.image.ok_or("a multi-frame image without pixels")?.pixel_data_offset;
    front.truncate(usize::try_from(start)?);
    let frames: Vec<Vec<u8>> = slices.iter().filter_map(|slice| slice.pixels()).map(<[u8]>::to_vec).collect();
    let data_set = DataSet { front, instance: meta.sop_instance_uid, frames, times: FRAMES as usize };
    Ok(Load {
        name: "1gib",
        what: format!("multi-frame, {FRAMES} frames of 512 × 512, 1 GiB"),
        sop_class: meta.sop_class_uid,
        transfer_syntax,
        data_sets: vec![data_set],
    })
}

/// A C-STORE request with its data set, as PDUs.
pub(crate) struct Message {
    front: Vec<u8>,
    /// Where in `front` the SOP Instance UID stands.
    uids: [usize; 2],
    uid_length: usize,
    frames: Vec<Vec<u8>>,
    times: usize,
    last: Vec<u8>,
}

impl Message {
    fn new(load: &Load, data_set: &DataSet, context: u8, max_pdu: usize) -> Result<Self, Box<dyn Error>> {
        let request = CStore {
            message_id: 1,
            sop_class_uid: load.sop_class.clone(),
            sop_instance_uid: data_set.instance.clone(),
            priority: Priority::Routine,
            move_originator: None,
        };
        let mut front = Vec::new();
        pdu(&mut front, context, 3, &Command::CStore(request).encode())?;
        let in_command = find(&front, data_set.instance.as_str(), 0)?;
        let begin = front.len();
        // Even fragments, as DCMTK wants them.
        let capacity = max_pdu.saturating_sub(6) & !1;
        let repeated = data_set.times > 0;
        p_data(&mut front, context, &data_set.front, capacity, !repeated)?;
        let in_data = find(&front, data_set.instance.as_str(), begin)?;
        let wire = |frame: &Vec<u8>, last| {
            let mut wire = Vec::new();
            p_data(&mut wire, context, frame, capacity, last).map(|()| wire)
        };
        let frames = data_set.frames.iter().map(|frame| wire(frame, false)).collect::<Result<Vec<_>, _>>()?;
        let last = match data_set.frames.iter().cycle().nth(data_set.times.saturating_sub(1)) {
            Some(frame) if repeated => wire(frame, true)?,
            _ => Vec::new(),
        };
        Ok(Self {
            front,
            uids: [in_command, in_data],
            uid_length: data_set.instance.as_str().len(),
            frames,
            times: data_set.times.saturating_sub(1),
            last,
        })
    }

    /// Sends the message as an instance of its own: `number` becomes part of the SOP Instance UID.
    pub(crate) fn send(&mut self, number: u64, out: &mut impl Write) -> io::Result<()> {
        // Unique, of the same length, and without a leading zero in any component.
        let root = if self.uid_length > 45 { "1.2.826.0.1.3680043.10.1542.1" } else { "2.25.1" };
        let digits = self.uid_length.saturating_sub(root.len());
        let uid = format!("{root}{number:0digits$}");
        for at in self.uids {
            let place = self.front.get_mut(at..at + self.uid_length).filter(|_| uid.len() == self.uid_length);
            place
                .ok_or_else(|| io::Error::other("a SOP Instance UID too short to be numbered"))?
                .copy_from_slice(uid.as_bytes());
        }
        out.write_all(&self.front)?;
        for frame in self.frames.iter().cycle().take(self.times) {
            out.write_all(frame)?;
        }
        out.write_all(&self.last)
    }
}

fn find(wire: &[u8], uid: &str, from: usize) -> Result<usize, Box<dyn Error>> {
    let mut places =
        (from..wire.len()).filter(|at| wire.get(*at..).is_some_and(|rest| rest.starts_with(uid.as_bytes())));
    places.next().ok_or_else(|| "the SOP Instance UID is not where it can be numbered".into())
}

/// The P-DATA-TFs of a piece of a data set, about equally long.
fn p_data(out: &mut Vec<u8>, context: u8, data: &[u8], capacity: usize, last: bool) -> Result<(), Box<dyn Error>> {
    let pieces = data.len().div_ceil(capacity);
    let size = data.len().div_ceil(pieces).next_multiple_of(2);
    for (number, piece) in data.chunks(size).enumerate() {
        pdu(out, context, if last && number + 1 == pieces { 2 } else { 0 }, piece)?;
    }
    Ok(())
}

/// One P-DATA-TF with one PDV; `header` is its message control header.
pub(crate) fn pdu(out: &mut Vec<u8>, context: u8, header: u8, data: &[u8]) -> Result<(), Box<dyn Error>> {
    let length = u32::try_from(data.len())?;
    out.reserve(HEADS + data.len());
    out.extend_from_slice(&[4, 0]);
    out.extend_from_slice(&(length + 6).to_be_bytes());
    out.extend_from_slice(&(length + 2).to_be_bytes());
    out.extend_from_slice(&[context, header]);
    out.extend_from_slice(data);
    Ok(())
}
