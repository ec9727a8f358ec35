//! Memory in which files are made.
//!
//! It begins at a page, so that a file can be written past the system's cache (`place/direct.rs`), and is used for one file
//! after the other: memory that is new for each would cost more than all else that is done with the bytes.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a page: files that are written past the cache begin at one, in memory and on disk.
pub(super) const PAGE: usize = 4096;

/// Pieces of memory that are kept for the next files, and bytes of each of them, at most.
const SPARE_PIECES: usize = 2;
const SPARE_BYTES: usize = 32 << 20;

/// Memory of files that are done with. It goes with its last owner: a checkpoint, or a compaction.
#[derive(Debug, Default, Clone)]
pub(super) struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn keep(&self, memory: Vec<u8>) {
        let mut pieces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pieces.len() < SPARE_PIECES && memory.capacity() <= SPARE_BYTES {
            pieces.push(memory);
        }
    }
}

/// A file that is being made.
#[derive(Debug)]
pub(super) struct Pages {
    memory: Vec<u8>,
    /// Where it begins in that.
    from: usize,
    spare: Spare,
}

impl Pages {
    /// An empty one.
    pub(super) fn new(spare: &Spare) -> Self {
        let mut pages = Self { memory: spare.take(), from: 0, spare: spare.clone() };
        pages.memory.clear();
        pages.from = begin(&mut pages.memory);
        pages
    }

    /// The file's bytes; the memory is free for another when the last of them is gone.
    pub(super) fn finish(self) -> Bytes {
        Bytes::from_owner(self)
    }

    fn reserve(&mut self, more: usize) {
        if self.memory.capacity() - self.memory.len() >= more {
            return;
        }
        let bytes = &self.memory[self.from..];
        let mut memory = Vec::with_capacity((2 * bytes.len()).max(bytes.len() + more) + PAGE);
        let from = begin(&mut memory);
        memory.extend_from_slice(bytes);
        (self.memory, self.from) = (memory, from);
    }
}

/// Leaves out what lies before the first page of empty memory.
fn begin(memory: &mut Vec<u8>) -> usize {
    let from = memory.as_ptr().align_offset(PAGE);
    // There is none in memory that is too small.
    let from = if from < memory.capacity() { from } else { 0 };
    memory.resize(from, 0);
    from
}

impl Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.reserve(bytes.len());
        self.memory.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.from..]
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.spare.keep(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_begin_at_a_page_in_the_memory_of_those_before() {
        let spare = Spare::default();
        let mut places = Vec::new();
        for length in [3_000_000, 10, 2_999_999] {
            let mut pages = Pages::new(&spare);
            let written: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            written.chunks(70_001).for_each(|piece| pages.write_all(piece).unwrap());
            let bytes = pages.finish();
            assert_eq!(bytes, written);
            assert_eq!(bytes.as_ptr().align_offset(PAGE), 0);
            places.push(bytes.as_ptr());
        }
        assert_eq!(places[0], places[1]);
        assert_eq!(places[0], places[2]);
    }

    #[test]
    fn little_is_kept() {
        let spare = Spare::default();
        let some: Vec<Bytes> = (0..5)
            .map(|_| {
                let mut pages = Pages::new(&spare);
                pages.write_all(b"some").unwrap();
                pages.finish()
            })
            .collect();
        drop(some);
        spare.keep(Vec::with_capacity(SPARE_BYTES + 1));
        assert_eq!(spare.0.lock().unwrap().len(), SPARE_PIECES);
    }
}
