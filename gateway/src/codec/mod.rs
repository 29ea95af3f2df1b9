//! The image filter: makes uncompressed pixel data small before a general compressor sees it, byte for byte reversible.
//!
//! A general compressor looks for strings that occur again. Pixels of a scanner hardly repeat: they are smooth surfaces
//! under noise, and two bytes of a word behave differently. The filter turns them into numbers that are small where the
//! image is smooth, and puts like to like, so that an entropy coder behind it (one Huffman table for each stretch of
//! like numbers) comes as close to the image's information as the image codecs do, at several times their speed.
//!
//! # Constraints
//!
//! - **Byte-exact.** Any bit pattern survives: all arithmetic wraps, nothing is clipped, rounded or looked up.
//! - **Streaming, in bounded memory**: one block of at most [`MOST_BLOCK`] bytes and a line of history.
//! - **It never fails on the way in.** What does not look like rows of 8 or 16-bit samples, or less of it than the header
//!   promises, passes as it is. On the way out, bytes that are no filtered data are an error, never a panic, and never
//!   more output than was asked for.
//! - **Fast both ways**: inner loops over slices of equal length that the compiler turns into vector instructions, undoing
//!   a prediction included, which waits for the word before (`restore.rs`). A few lines at a time, in the nearest cache.
//!
//! It knows no DICOM: it is told where the samples are ([`PixelLayout`]) and does nothing elsewhere.
//!
//! # The way of a block
//!
//! ```text
//!  data set    │ header … │◀────────────── pixel data ──────────────▶│ trailing elements │
//!  filtered    │ as it is │ block │ block │ … │ last block │ rest as it is …             │
//!                         ╱         ╲                        (less than a row)
//!  rows of pixels ─▶ lines of one component ─▶ − prediction ─▶ zigzag ─▶ segments of 8 ─▶ classes ─▶ byte planes
//! ```
//!
//! 1. **Lines.** A block is as many rows as fit in 256 KiB, at least one, whatever frame they belong to. Each row is taken
//!    apart into lines, one for each interleaved component; words become numbers, signed ones with their sign bit
//!    inverted, so that their order is that of the values.
//! 2. **Prediction** from the neighbours left (*a*), above (*b*) and above left (*c*), see [`Predictor`]. The first line of
//!    all is predicted from zeros, the first word of each line from the one above. Optionally the first and third of
//!    three components are replaced by their difference from the second (grey in RGB).
//! 3. **Zigzag**: the difference *d*, modulo 2^bits, becomes 2*d* or −2*d* − 1, whichever is not negative.
//! 4. **Classes.** Each line is cut into segments of 8. A segment belongs to the class of the sum of the 8 numbers above
//!    it in the line before, by powers of two: what is noisy is mostly noisy below, too. The reader has decoded that line
//!    already, so the classes cost nothing to tell; that is what JPEG-LS gets from its contexts, at the price of a copy.
//! 5. **Byte planes.** All low bytes of class 0, of class 1, …, then all high bytes of class 0, …
//!
//! The predictor is chosen for each block, from every sixteenth of its lines (`choose.rs`): the first rows of an image
//! alone are often air.
//!
//! # Format, version 1
//!
//! A version is a filter code in the record (`docs/spool.md`); 0 is no filter, this one is [`CODE`]. Its parameters:
//!
//! ```text
//! offset  size  parameters, little endian
//!      0     4  offset of the pixel data in the data set
//!      4     4  its length
//!      8     2  columns: words in a line
//!     10     2  rows in a block
//!     12     1  bytes in a word, 1 or 2
//!     13     1  interleaved components, 1 to 4
//!     14     1  bit 0: words are big endian; bit 1: words are signed
//!     15     1  zero
//! ```
//!
//! The filtered data is as long as all whole rows of the pixel data need; where the data set ends before the pixel data
//! does, its whole rows are those that are there. Every block but the last has as many rows as the parameters say.
//!
//! ```text
//! offset  size  block
//!      0     1  predictor: 0 none, 1 left, 2 plane, 3 median, 4 mean
//!      1     1  1 if components are differences from the second
//!      2     2  zero
//!      4  12×4  how many words are in class 0, 1, … 11; together: rows × components × columns
//!     52     …  low bytes of the words of class 0, 1, … 11, in the order of the lines
//!      …     …  high bytes likewise, if words have two bytes
//! ```
//!
//! With predictor 0 the rest of the header is zero, and the rows follow as they are. `docs/spool.md` defines the numbers
//! to the last bit, for whoever writes another reader.
//!
//! # Deliberately absent
//!
//! Prediction from another frame or instance (one damaged record would take others along), words of 1, 12 or 32 bits
//! (rare, and the compressor behind does what it can), entropy coding of its own.

mod block;
mod choose;
mod decode;
mod encode;
mod layout;
mod predict;
mod restore;
#[cfg(test)]
mod tests;

pub use decode::{FilterReader, Garbled};
pub use encode::{FilterWriter, Piece};
pub use layout::{CODE, Filter, MOST_BLOCK, PixelLayout};
pub use predict::Predictor;
