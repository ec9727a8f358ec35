//! State that memory has no room for: rows on local disk, found by their key.
//!
//! Rows lie in *sections*, immutable and sorted by the hash of their key, each of one key group ([`Section`]). In memory
//! are where the blocks of a section begin, and sixteen bits of hash of each row, so that a key that is not there is not
//! looked for on disk, and the few blocks are read in which one is. A row that is taken out of its section is marked there
//! and nowhere else; sections are put together where that pays for those who look up rows, or when they are mostly empty
//! ([`Cold`]).
//!
//! What is on disk is of this run of the job alone: whoever restarts begins without. So nothing here is synced, and nothing is
//! read that this process has not written. Rows that never change are written to files of their own ([`WholeFile`]) which
//! the next checkpoint keeps as they are, so that they are not written twice. State knows no files: whoever hosts the
//! operator gives it a [`SpillSpace`].

mod blocks;
mod cold;
#[cfg(test)]
pub(crate) mod memory;
mod merging;
mod section;
mod shelf;
#[cfg(test)]
mod tests;
mod whole;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

pub use blocks::has_dictionaries;
pub use cold::Cold;
pub(crate) use cold::together;
pub(crate) use merging::rows_of_a_block;
pub use section::{Rows, Section, SectionView, SectionWriter, Sections};
pub use whole::{WholeFile, WholeWriter};

use crate::error::Result;

/// Where an operator may put what memory has no room for, and how much room there is.
pub trait SpillSpace: Debug + Send + Sync {
    /// How many bytes an operator that holds `held` bytes in memory may hold.
    fn allowance(&self, held: usize) -> usize;

    /// How many bytes may be brought back into memory at one time.
    fn portion(&self) -> usize;

    /// How many bytes may be in memory whatever it is: what is more is an error.
    fn limit(&self) -> usize;

    /// Whether checkpoints take what is written here as it is: rows of which they have not been told are written to
    /// [whole files](WholeFile) then.
    fn is_kept(&self) -> bool;

    /// A new, empty file.
    fn create(&self) -> Result<Arc<dyn SpillFile>>;
}

/// A file that is written from its begin to its end, and read anywhere. It goes with its last owner.
pub trait SpillFile: Debug + Send + Sync {
    /// Adds bytes; answers where they begin.
    fn append(&self, bytes: &[u8]) -> Result<u64>;

    /// Nothing more is written.
    fn seal(&self) -> Result<()>;

    /// Opens it for some reads.
    fn open(&self) -> Result<Box<dyn SpillReader>>;

    /// Makes a sealed file stand at another path of this machine as well; `false`: it can't.
    fn link(&self, path: &Path) -> bool;

    /// What it is called, for errors.
    fn name(&self) -> String;
}

/// Reads a file.
pub trait SpillReader {
    /// The `length` bytes from `at` on.
    fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>>;
}

/// How much lies on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpilledSize {
    /// Rows.
    pub rows: usize,
    /// Bytes.
    pub bytes: u64,
}

/// A key's hash in the order of sections: by key group first.
pub fn order(hash: u64) -> u64 {
    hash.rotate_right(8)
}

/// The key group that an [`order`] belongs to.
pub fn group_of(order: u64) -> u8 {
    (order >> 56) as u8
}
