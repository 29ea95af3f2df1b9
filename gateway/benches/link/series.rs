//! What is sent: files of one series, each instance with a SOP Instance UID of its own, as often as it takes.

use std::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use waystation::dataset::part10::{FileMeta, read_file_meta, write_file_meta};
use waystation::model::Uid;
use waystation::phantom::Phantom;

/// Which series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Modality {
    Ct,
    Mr,
    Cr,
    Us,
}

impl Modality {
    /// The folders below `WAYSTATION_STUDIES` that are looked into; the first with files counts.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Ct => &["ct_philips_phantom_S2020", "ct_ge_human_head", "ct"],
            Self::Mr => &["mr_t1_datalad", "mr"],
            Self::Cr => &["cr"],
            Self::Us => &["us", "pydicom_us"],
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ct => "CT",
            Self::Mr => "MR",
            Self::Cr => "CR",
            Self::Us => "US",
        }
    }
}

/// Files ready to be sent, and nothing else in their folder.
pub(crate) struct Series {
    pub(crate) folder: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) origin: &'static str,
}

/// One instance that can be given other UIDs.
struct Instance {
    sop_class: Uid,
    transfer_syntax: Uid,
    data_set: Vec<u8>,
    /// Its SOP Instance UID, which need not be a valid one.
    uid: String,
}

impl Series {
    /// Writes `count` files into `folder`, which is made anew. `first` numbers the first of them: series with other
    /// numbers have other UIDs. `None` if there are none of this modality; CT is made if need be.
    pub(crate) fn write(
        modality: Modality,
        studies: Option<&Path>,
        folder: &Path,
        count: usize,
        first: u64,
    ) -> Result<Option<Self>, Box<dyn Error>> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let found = studies.map(|studies| find(modality, studies)).transpose()?.unwrap_or_default();
        let (origin, instances) = match (found.is_empty(), modality) {
            (false, _) => ("real", found),
            (true, Modality::Ct) => ("synthetic", phantom(folder)?),
            (true, _) => return Ok(None),
        };
        let mut files = Vec::new();
        for (number, instance) in (first..).zip(instances.iter().cycle().take(count)) {
            let path = folder.join(format!("{:05}.dcm", files.len()));
            fs::write(&path, instance.renamed(number)?)?;
            files.push(path);
        }
        Ok(Some(Self { folder: folder.to_owned(), files, origin }))
    }
}

impl Instance {
    fn read(path: &Path) -> Option<Self> {
        let (meta, mut rest) = read_file_meta(File::open(path).ok()?).ok()?;
        let mut data_set = Vec::new();
        rest.read_to_end(&mut data_set).ok()?;
        let uid = value(&data_set, 0x18)?.to_owned();
        let sop_class = value(&data_set, 0x16)?.parse().ok()?;
        // An odd number of bytes ends the association with DCMTK.
        let can_be_sent = data_set.len().is_multiple_of(2);
        can_be_sent.then_some(Self { sop_class, transfer_syntax: meta.transfer_syntax, data_set, uid })
    }

    /// With another SOP Instance UID, of the same length, wherever it stands.
    fn renamed(&self, number: u64) -> Result<Vec<u8>, Box<dyn Error>> {
        let root = if self.uid.len() > 45 { "1.2.826.0.1.3680043.10.1542.2" } else { "2.25.2" };
        let digits = self.uid.len().saturating_sub(root.len());
        let uid = format!("{root}{number:0digits$}");
        if uid.len() != self.uid.len() {
            return Err("a SOP Instance UID too short to be numbered".into());
        }
        let meta = FileMeta {
            sop_class_uid: self.sop_class.clone(),
            sop_instance_uid: uid.parse()?,
            transfer_syntax: self.transfer_syntax.clone(),
            source_ae: None,
        };
        let mut file = Vec::new();
        write_file_meta(&mut file, &meta)?;
        let start = file.len();
        file.extend_from_slice(&self.data_set);
        for place in places(&self.data_set, &self.uid) {
            let place = start + place;
            file.get_mut(place..place + uid.len()).ok_or("a UID beyond the end")?.copy_from_slice(uid.as_bytes());
        }
        Ok(file)
    }
}

/// Far behind the attributes that are looked for.
const HEADER: usize = 16 << 10;

/// The UID in element (0008,`element`) of a little-endian data set.
fn value(data_set: &[u8], element: u8) -> Option<&str> {
    let header = data_set.get(..data_set.len().min(HEADER))?;
    let at = header.windows(4).position(|tag| tag == [8, 0, element, 0])?;
    let ([a, b, c, d], rest) = header.get(at + 4..)?.split_first_chunk()?;
    // Explicit VR has a length of two bytes behind "UI", implicit VR one of four.
    let length = if [*a, *b] == *b"UI" { [*c, *d] } else { [*a, *b] };
    let text = str::from_utf8(rest.get(..usize::from(u16::from_le_bytes(length)))?).ok()?;
    Some(text.trim_end_matches(['\0', ' ']))
}

/// Where a UID stands, as a whole value.
fn places(data_set: &[u8], uid: &str) -> Vec<usize> {
    let header = data_set.get(..data_set.len().min(HEADER)).unwrap_or_default();
    let is_end = |at: usize| header.get(at).is_none_or(|byte| !byte.is_ascii_digit() && *byte != b'.');
    let starts = header.windows(uid.len()).enumerate().filter(|(_, window)| *window == uid.as_bytes());
    starts.map(|(at, _)| at).filter(|at| is_end(at + uid.len())).collect()
}

fn find(modality: Modality, studies: &Path) -> Result<Vec<Instance>, Box<dyn Error>> {
    for name in modality.folders() {
        let folder = studies.join(name);
        if folder.is_dir() {
            let mut paths =
                fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
            paths.sort();
            let instances: Vec<_> = paths.iter().filter_map(|path| Instance::read(path)).collect();
            if !instances.is_empty() {
                return Ok(instances);
            }
        }
    }
    Ok(Vec::new())
}

fn phantom(folder: &Path) -> Result<Vec<Instance>, Box<dyn Error>> {
    let made = folder.join("phantom");
    fs::create_dir_all(&made)?;
    let paths = Phantom::default().write_series(&made)?;
    let instances = paths.iter().filter_map(|path| Instance::read(path)).collect();
    fs::remove_dir_all(&made)?;
    Ok(instances)
}
