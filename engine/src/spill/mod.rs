//! Files on local disk for state that memory has no room for.
//!
//! They are of this process alone: nothing is synced, and what a process that was killed has left is deleted by the next.
//! A file goes with the last that needs it; a checkpoint that keeps it gives it another name, and syncs it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::state::spill::{SpillFile, SpillReader};

/// How files of this kind end.
const ENDING: &str = "spill";

/// Where all jobs put theirs.
#[derive(Debug, Clone)]
pub struct SpillFolder(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// It goes with the process.
    is_temporary: bool,
    /// Runs of jobs so far.
    runs: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // Somebody may have put something there.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

impl SpillFolder {
    /// In this folder.
    pub fn new(path: &Path) -> Self {
        Self::at(path.to_owned(), false)
    }

    /// In a folder of the system's that nobody else has.
    pub fn temporary() -> Self {
        Self::at(std::env::temp_dir().join(format!("rondel-spill-{}", uuid::Uuid::new_v4())), true)
    }

    fn at(path: PathBuf, is_temporary: bool) -> Self {
        let (runs, files, bytes) = Default::default();
        Self(Arc::new(Folder { path, is_temporary, runs, files, bytes }))
    }

    /// Sees that there can be files, and deletes what a process that was killed has left. A temporary folder is made when it
    /// is needed.
    pub fn prepare(&self) -> Result<()> {
        if !self.0.is_temporary {
            fs::create_dir_all(&self.0.path).map_err(|error| failed("made", &self.0.path, &error))?;
        }
        for folder in entries(&self.0.path)? {
            let files = entries(&folder)?;
            if files.is_empty() || files.iter().any(|file| file.extension().is_none_or(|ending| ending != ENDING)) {
                continue;
            }
            for file in &files {
                fs::remove_file(file).map_err(|error| failed("deleted", file, &error))?;
            }
            fs::remove_dir(&folder).map_err(|error| failed("deleted", &folder, &error))?;
        }
        Ok(())
    }

    /// For one run of a job.
    pub fn of_job(&self, job: u64) -> Arc<JobFolder> {
        let run = self.0.runs.fetch_add(1, Ordering::Relaxed);
        let path = self.0.path.join(format!("{job}-{run}"));
        Arc::new(JobFolder { all: Arc::clone(&self.0), path, files: AtomicU64::new(0) })
    }

    /// Files that are there.
    pub fn files(&self) -> u64 {
        self.0.files.load(Ordering::Relaxed)
    }

    /// Bytes in them.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            entries.map(|entry| Ok(entry.map_err(|error| failed("looked through", folder, &error))?.path())).collect()
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(failed("looked through", folder, &error)),
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::External,
        format!("{}, where state goes that memory has no room for, cannot be {what}: {error}", path.display()),
    )
}

/// Where one run of a job puts its files.
#[derive(Debug)]
pub struct JobFolder {
    all: Arc<Folder>,
    path: PathBuf,
    /// Files so far.
    files: AtomicU64,
}

impl JobFolder {
    /// A new file.
    pub fn create(this: &Arc<Self>) -> Result<Arc<dyn SpillFile>> {
        fs::create_dir_all(&this.path).map_err(|error| failed("made", &this.path, &error))?;
        let path = this.path.join(format!("{:06}.{ENDING}", this.files.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| failed("made", &path, &error))?;
        this.all.files.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Spilled {
            folder: Arc::clone(this),
            path,
            open: Mutex::new(Some(file)),
            length: AtomicU64::new(0),
        }))
    }
}

impl Drop for JobFolder {
    fn drop(&mut self) {
        // It was never made, most likely.
        let _ = fs::remove_dir(&self.path);
    }
}

#[derive(Debug)]
struct Spilled {
    folder: Arc<JobFolder>,
    path: PathBuf,
    /// As long as something is written.
    open: Mutex<Option<File>>,
    length: AtomicU64,
}

impl Drop for Spilled {
    fn drop(&mut self) {
        let all = &self.folder.all;
        all.files.fetch_sub(1, Ordering::Relaxed);
        all.bytes.fetch_sub(*self.length.get_mut(), Ordering::Relaxed);
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}", failed("deleted", &self.path, &error));
        }
    }
}

impl SpillFile for Spilled {
    fn append(&self, bytes: &[u8]) -> Result<u64> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = open.as_mut().ok_or_else(|| Error::internal("a spill file is written after it was sealed"))?;
        file.write_all(bytes).map_err(|error| {
            failed("written", &self.path, &error)
                .with_hint("make room on that disk, give it another one (--spill), or raise the memory limit")
        })?;
        self.folder.all.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(self.length.fetch_add(bytes.len() as u64, Ordering::Relaxed))
    }

    fn seal(&self) -> Result<()> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    fn open(&self) -> Result<Box<dyn SpillReader>> {
        let file = File::open(&self.path).map_err(|error| failed("opened", &self.path, &error))?;
        Ok(Box::new(Opened { file, path: self.path.clone() }))
    }

    fn link(&self, path: &Path) -> bool {
        fs::hard_link(&self.path, path).is_ok()
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

struct Opened {
    file: File,
    path: PathBuf,
}

impl SpillReader for Opened {
    fn read(&mut self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| failed("read", &self.path, &error))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_with_whoever_needs_them() {
        let place = tempfile::tempdir().unwrap();
        let spill = SpillFolder::new(&place.path().join("spill"));
        let job = spill.of_job(7);
        assert!(!place.path().join("spill").exists(), "nothing is made before it is needed");
        let file = JobFolder::create(&job).unwrap();
        assert_eq!((file.append(b"one").unwrap(), file.append(b"three").unwrap()), (0, 3));
        assert_eq!(file.open().unwrap().read(3, 5).unwrap(), b"three", "it is read while it is written");
        file.seal().unwrap();
        assert!(file.append(b"more").is_err());
        assert_eq!((spill.files(), spill.bytes()), (1, 8));
        assert!(
            file.open()
                .unwrap()
                .read(4, 5)
                .unwrap_err()
                .message()
                .contains("000000.spill, where state goes that memory")
        );
        drop(job);
        drop(file);
        assert_eq!((spill.files(), spill.bytes()), (0, 0));
        assert_eq!(entries(&place.path().join("spill")).unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn what_was_left_is_deleted_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let spill = SpillFolder::new(place.path());
        spill.prepare().unwrap();
        let file = JobFolder::create(&spill.of_job(1)).unwrap();
        // A process that is killed drops nothing.
        std::mem::forget(file);
        fs::create_dir(place.path().join("photos")).unwrap();
        fs::write(place.path().join("photos/one.jpg"), b"").unwrap();
        spill.prepare().unwrap();
        assert_eq!(entries(place.path()).unwrap(), [place.path().join("photos")]);
    }

    #[test]
    fn a_folder_that_can_not_be_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), b"").unwrap();
        let spill = SpillFolder::new(&place.path().join("file"));
        let early = spill.prepare().unwrap_err();
        assert!(
            early.message().contains("/file, where state goes that memory has no room for, cannot be made: "),
            "{early}"
        );
        let error = JobFolder::create(&spill.of_job(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::External);
        assert!(
            error.message().contains("/file/1-0, where state goes that memory has no room for, cannot be made: "),
            "{error}"
        );
    }
}
