//! The folder, and how files become seen: written below `_pending`, synced, renamed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where files wait; readers of data lakes pass over what begins with an underscore.
const PENDING: &str = "_pending";

/// A file that is ended and synced, and not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HiddenFile {
    /// Its name below `_pending`.
    pub(super) hidden: String,
    pub(super) worker: usize,
    /// Its number among those of its worker.
    pub(super) number: u64,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// A sink's folder, and one below it for the files that one job has not published.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    seen: PathBuf,
    pending: PathBuf,
}

impl Folder {
    /// Makes both folders. `owner` is whose files wait: a job, or one run.
    pub(super) fn open(path: &Path, owner: &str) -> Result<Self> {
        let seen = path.to_path_buf();
        let pending = seen.join(PENDING).join(owner);
        fs::create_dir_all(&pending).map_err(|error| trouble("make the folder", &pending, &error))?;
        for folder in [Some(seen.join(PENDING).as_path()), Some(&seen), seen.parent()].into_iter().flatten() {
            // A relative path of one name has an empty parent.
            if !folder.as_os_str().is_empty() {
                sync(folder)?;
            }
        }
        Ok(Self { seen, pending })
    }

    /// Begins a hidden file.
    pub(super) fn begin(&self, hidden: &str) -> Result<File> {
        let path = self.pending.join(hidden);
        File::create_new(&path).map_err(|error| trouble("make the file", &path, &error))
    }

    /// Makes the names of hidden files durable.
    pub(super) fn sync_pending(&self) -> Result<()> {
        sync(&self.pending)
    }

    /// Removes a hidden file; that there is none is no trouble.
    pub(super) fn remove(&self, hidden: &str) -> Result<()> {
        let path = self.pending.join(hidden);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(trouble("remove the file", &path, &error)),
            _ => Ok(()),
        }
    }

    /// Removes all hidden files but these.
    pub(super) fn remove_others(&self, kept: &BTreeSet<String>) -> Result<()> {
        let entries = fs::read_dir(&self.pending).map_err(|error| trouble("list the folder", &self.pending, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| trouble("list the folder", &self.pending, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !kept.contains(&name) {
                self.remove(&name)?;
            }
        }
        self.sync_pending()
    }

    /// Shows hidden files under names of their own. Those that are gone were shown before: nobody else takes them away.
    pub(super) fn publish(&self, files: &[(String, String)]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        for (hidden, name) in files {
            let (from, to) = (self.pending.join(hidden), self.seen.join(name));
            match fs::rename(&from, &to) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.seen.is_dir() => {
                    if !to.exists() {
                        tracing::info!("{} was published before, and its reader has taken it", to.display());
                    }
                }
                Err(error) => return Err(trouble("publish the file", &to, &error)),
            }
        }
        sync(&self.seen)?;
        self.sync_pending()
    }

    /// Removes the folder of hidden files if it is empty: its run is over.
    pub(super) fn tidy(&self) {
        // What is still there is left for the job's next run, and a folder that stays does no harm.
        let _ = fs::remove_dir(&self.pending);
        let _ = fs::remove_dir(self.seen.join(PENDING));
    }

    /// The folder's path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.seen
    }
}

/// Makes a folder's entries durable.
fn sync(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| trouble("make durable the folder", folder, &error))
}

/// The disk's refusal as a sentence: `the server can't make the file /data/x: Permission denied`.
pub(super) fn trouble(what: &str, path: &Path, error: &io::Error) -> Error {
    let reason = error.to_string();
    let reason = reason.split(" (os error").next().unwrap_or(&reason);
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Make room on that disk; the job goes on from its last checkpoint."
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Allow the server's user to write there, or name another folder with the option \"path\"."
        }
        _ => "Look at that disk and folder.",
    };
    Error::new(ErrorKind::External, format!("the server can't {what} {}: {reason}", path.display())).with_hint(hint)
}
