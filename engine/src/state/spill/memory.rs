//! A space in memory, for tests.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::{SpillFile, SpillReader, SpillSpace};
use crate::error::{Error, ErrorKind, Result};

/// A space with a fixed allowance, whose files are bytes in memory.
#[derive(Debug)]
pub(crate) struct MemorySpace {
    pub(crate) allowed: usize,
    pub(crate) portion: usize,
    pub(crate) limit: usize,
    pub(crate) is_kept: bool,
    /// Nothing can be written.
    pub(crate) is_full: Arc<AtomicBool>,
    /// What is read is not what was written.
    pub(crate) is_damaged: Arc<AtomicBool>,
    /// Files that are there.
    pub(crate) files: Arc<AtomicUsize>,
}

impl MemorySpace {
    pub(crate) fn new(allowed: usize, portion: usize) -> Self {
        let (is_full, is_damaged, files) = Default::default();
        Self { allowed, portion, limit: usize::MAX, is_kept: false, is_full, is_damaged, files }
    }
}

impl SpillSpace for MemorySpace {
    fn allowance(&self, _held: usize) -> usize {
        self.allowed
    }

    fn portion(&self) -> usize {
        self.portion
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn is_kept(&self) -> bool {
        self.is_kept
    }

    fn create(&self) -> Result<Arc<dyn SpillFile>> {
        self.files.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(MemoryFile {
            bytes: Arc::default(),
            is_full: Arc::clone(&self.is_full),
            is_damaged: Arc::clone(&self.is_damaged),
            files: Arc::clone(&self.files),
        }))
    }
}

#[derive(Debug)]
struct MemoryFile {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_full: Arc<AtomicBool>,
    is_damaged: Arc<AtomicBool>,
    files: Arc<AtomicUsize>,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.files.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SpillFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> Result<u64> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::External, "no space is left"));
        }
        let mut all = self.bytes.lock().unwrap();
        let at = all.len() as u64;
        all.extend_from_slice(bytes);
        Ok(at)
    }

    fn seal(&self) -> Result<()> {
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn SpillReader>> {
        Ok(Box::new(MemoryReader(Arc::clone(&self.bytes), self.is_damaged.load(Ordering::SeqCst))))
    }

    fn link(&self, _path: &Path) -> bool {
        false
    }

    fn name(&self) -> String {
        "a file in memory".to_owned()
    }
}

struct MemoryReader(Arc<Mutex<Vec<u8>>>, bool);

impl SpillReader for MemoryReader {
    fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = self.0.lock().unwrap()[at as usize..at as usize + length].to_vec();
        if self.1 {
            bytes[length / 2] ^= 1;
        }
        Ok(bytes)
    }
}
