//! What is sent: files of one series, each instance with a SOP Instance UID of its own, as often as it takes.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use waystation::dataset::part10::read_file_meta;
use waystation::phantom::Phantom;

/// Which series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
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
    file: Vec<u8>,
    uid: String,
}

impl Series {
    /// Writes `count` files into `folder`, which is made anew. `first` numbers the first of them: series with other
    /// numbers have other UIDs.
    pub(crate) fn write(
        modality: Modality,
        studies: Option<&Path>,
        folder: &Path,
        count: usize,
        first: u64,
    ) -> Result<Self, Box<dyn Error>> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let found = studies.map(|studies| find(modality, studies)).transpose()?.unwrap_or_default();
        let (origin, instances) = if found.is_empty() { ("synthetic", phantom(folder)?) } else { ("real", found) };
        let mut files = Vec::new();
        for (number, instance) in (first..).zip(instances.iter().cycle().take(count)) {
            let path = folder.join(format!("{:05}.dcm", files.len()));
            fs::write(&path, instance.renamed(number)?)?;
            files.push(path);
        }
        Ok(Self { folder: folder.to_owned(), files, origin })
    }
}

impl Instance {
    fn read(path: &Path) -> Option<Self> {
        let file = fs::read(path).ok()?;
        let (meta, data_set) = read_file_meta(&file[..]).ok()?;
        let uid = meta.sop_instance_uid?.to_string();
        // An odd number of bytes ends the association with DCMTK.
        let length = std::io::copy(&mut { data_set }, &mut std::io::sink()).ok()?;
        let can_be_sent = length > 0 && length.is_multiple_of(2) && places(&file, &uid).len() >= 2;
        can_be_sent.then_some(Self { file, uid })
    }

    /// With another SOP Instance UID, of the same length, wherever it stands.
    fn renamed(&self, number: u64) -> Result<Vec<u8>, Box<dyn Error>> {
        let root = if self.uid.len() > 45 { "1.2.826.0.1.3680043.10.1542.2" } else { "2.25.2" };
        let digits = self.uid.len().saturating_sub(root.len());
        let uid = format!("{root}{number:0digits$}");
        if uid.len() != self.uid.len() {
            return Err("a SOP Instance UID too short to be numbered".into());
        }
        let mut file = self.file.clone();
        for place in places(&file, &self.uid) {
            file.get_mut(place..place + uid.len()).ok_or("a UID beyond the end")?.copy_from_slice(uid.as_bytes());
        }
        Ok(file)
    }
}

/// Where a UID stands, as a whole value.
fn places(file: &[u8], uid: &str) -> Vec<usize> {
    /// Far behind the attributes that hold it.
    const HEADER: usize = 16 << 10;
    let header = file.get(..file.len().min(HEADER)).unwrap_or_default();
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
