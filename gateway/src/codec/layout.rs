//! Where the samples are, and what a reader has to know to undo the filter.

/// The code of this filter, version 1, in a record.
pub const CODE: u8 = 1;
/// No block is longer than this, in bytes of pixel data: the longest row there can be, 65,535 words of four components.
pub const MOST_BLOCK: usize = 65_535 * 2 * 4;
/// Blocks have about this many bytes of pixel data, if rows are shorter than that.
const BLOCK: usize = 256 << 10;
/// Less pixel data than this is not worth the header of a block.
const LEAST: u64 = 4_096;

/// Where uncompressed samples are in a stream of bytes, and how they are laid out. Numbers need not be right: wrong ones
/// make the filter useless, not harmful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLayout {
    /// Where the samples start, in bytes from the start of the stream.
    pub offset: u64,
    /// How long they are, in bytes.
    pub length: u64,
    /// Rows of an image.
    pub rows: u16,
    /// Columns of an image.
    pub columns: u16,
    /// Bits of a sample, as stored.
    pub bits_allocated: u16,
    /// Samples of a pixel.
    pub samples_per_pixel: u16,
    /// The samples of a pixel stand together; otherwise each component has an image of its own.
    pub interleaved: bool,
    /// The first byte of a sample is the most significant one.
    pub big_endian: bool,
    /// Samples are in two's complement.
    pub signed: bool,
}

/// A filter that fits a layout: the parameters in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) columns: u16,
    pub(super) block_rows: u16,
    pub(super) wide: bool,
    pub(super) components: u8,
    pub(super) big_endian: bool,
    pub(super) signed: bool,
}

impl Filter {
    /// The filter for a layout; `None` if there is none that would gain.
    #[must_use]
    pub fn fitting(layout: &PixelLayout) -> Option<Self> {
        let wide = match layout.bits_allocated {
            8 => false,
            16 => true,
            _ => return None,
        };
        let components = match layout.samples_per_pixel {
            0 => return None,
            samples if layout.interleaved => u8::try_from(samples).ok()?,
            _ => 1,
        };
        let filter = Self {
            offset: u32::try_from(layout.offset).ok()?,
            length: u32::try_from(layout.length).ok()?,
            columns: layout.columns,
            block_rows: 1,
            wide,
            components,
            big_endian: layout.big_endian,
            signed: layout.signed,
        };
        let block_rows = (BLOCK / filter.row_bytes().max(1)).clamp(1, usize::from(u16::MAX));
        let filter = Self { block_rows: u16::try_from(block_rows).ok()?, ..filter };
        // Less than one image is not what the header says (subsampled colour, for one): its rows are elsewhere.
        let image = filter.row_bytes() as u64 * u64::from(layout.rows);
        (filter.is_valid() && layout.length >= image.max(LEAST)).then_some(filter)
    }

    fn is_valid(&self) -> bool {
        self.columns > 0 && (1..=4).contains(&self.components) && (1..=MOST_BLOCK).contains(&self.block_bytes())
    }

    /// The parameters as they stand in a record.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[0..4].copy_from_slice(&self.offset.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.columns.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.block_rows.to_le_bytes());
        bytes[12] = 1 + u8::from(self.wide);
        bytes[13] = self.components;
        bytes[14] = u8::from(self.big_endian) | u8::from(self.signed) << 1;
        bytes
    }

    /// The filter with these parameters; `None` if they are not those of any.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 16]) -> Option<Self> {
        let [o0, o1, o2, o3, l0, l1, l2, l3, c0, c1, r0, r1, word, components, flags, 0] = *bytes else { return None };
        let filter = Self {
            offset: u32::from_le_bytes([o0, o1, o2, o3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            columns: u16::from_le_bytes([c0, c1]),
            block_rows: u16::from_le_bytes([r0, r1]),
            wide: word == 2,
            components,
            big_endian: flags & 1 != 0,
            signed: flags & 2 != 0,
        };
        (matches!(word, 1 | 2) && flags < 4 && filter.is_valid()).then_some(filter)
    }

    /// Where the pixel data starts in the data set.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::from(self.offset)
    }

    /// Whether its words have 16 bits; otherwise 8.
    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.wide
    }

    pub(super) fn columns(&self) -> usize {
        usize::from(self.columns)
    }

    pub(super) fn components(&self) -> usize {
        usize::from(self.components)
    }

    pub(super) fn row_bytes(&self) -> usize {
        self.columns() * self.components() * (1 + usize::from(self.wide))
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.row_bytes() * usize::from(self.block_rows)
    }

    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}
