//! A folder that goes with the benchmark.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rondel_engine::{Error, ErrorKind, Result};

/// A folder in the system's place for temporary files.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("rondel-bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        std::fs::create_dir_all(&folder.0).map_err(|error| folder.unwritable(&error))?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file; answers where it is.
    pub(super) fn with(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, contents).map_err(|error| self.unwritable(&error))?;
        Ok(path)
    }

    fn unwritable(&self, error: &std::io::Error) -> Error {
        Error::new(ErrorKind::External, format!("{} cannot be written to: {error}", self.0.display()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is swept there by the system.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
