//! Where checkpoints lie: a folder, or a bucket of an object store.
//!
//! In a folder a file is written beside its place, synced, renamed, and the folder synced: what was put is there after a
//! power cut, whole or not at all. Object stores promise that by themselves.

mod bucket;
mod direct;

use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use reqwest::Url;
use tokio::runtime::Runtime;

use crate::error::{Error, ErrorKind, Result};
use crate::state::spill::WholeFile;

/// How long one call of an object store may take, its own repetitions included.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Files that are on their way to a bucket at once.
const PUTS_AT_ONCE: usize = 8;

/// See the [module](self). Calls block; paths have forward slashes.
pub(crate) enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket.
    Bucket(Box<Bucket>),
}

/// A bucket, and the threads that talk to it.
pub(crate) struct Bucket {
    url: String,
    store: Arc<dyn ObjectStore>,
    root: ObjectPath,
    runtime: Option<Runtime>,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Not waited for: it may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Place {
    /// The place of a URL; credentials and endpoints of buckets come from the environment (`AWS_ACCESS_KEY_ID`, …).
    pub(crate) fn open(url: &str) -> Result<Self> {
        let parsed = Url::parse(url).map_err(|error| {
            Error::invalid(format!("'{url}' is no place for checkpoints: {error}"))
                .with_hint("write file:///folder, s3://bucket/folder, gs://bucket/folder or az://container/folder")
        })?;
        if parsed.scheme() == "file" {
            let folder = parsed.to_file_path();
            return folder.map(Self::Folder).map_err(|()| Error::invalid(format!("'{url}' names no folder")));
        }
        // What stands behind the question mark may be secret.
        let shown = url.split('?').next().unwrap_or_default();
        let (store, root) = bucket::open(&parsed)
            .map_err(|error| Error::invalid(format!("checkpoints cannot be kept in '{shown}': {error}")))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("rondel:bucket")
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
        Ok(Self::Bucket(Box::new(Bucket { url: shown.to_owned(), store, root, runtime: Some(runtime) })))
    }

    /// A bucket of any store.
    #[cfg(test)]
    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (url, root) = ("memory:".to_owned(), ObjectPath::default());
        Self::Bucket(Box::new(Bucket { url, store, root, runtime: Some(runtime) }))
    }

    /// Puts files, over what is there; durable on return.
    pub(crate) fn put(&self, files: &[(String, Bytes)]) -> Result<()> {
        self.put_before(files, None)
    }

    /// As [`Self::put`]; given up when it is not done at a moment.
    pub(crate) fn put_before(&self, files: &[(String, Bytes)], deadline: Option<Instant>) -> Result<()> {
        match self {
            Self::Folder(root) => {
                place_files(root, files.iter().map(|(path, bytes)| (path, bytes)), deadline, |target, bytes| {
                    write_beside(target, bytes)
                })
            }
            Self::Bucket(bucket) => bucket.put_all(files, deadline),
        }
    }

    /// Puts files that are on this machine already: in a folder of the same disk nothing is copied. Durable on return.
    pub(crate) fn keep(&self, files: &[(String, &WholeFile)], deadline: Option<Instant>) -> Result<()> {
        match self {
            Self::Folder(root) => {
                place_files(root, files.iter().map(|(path, file)| (path, *file)), deadline, link_beside)
            }
            // One after the other: they may be as large as what memory has no room for.
            Self::Bucket(bucket) => files.iter().try_for_each(|(path, file)| {
                let bytes = file.read().map_err(|error| bucket.failed(path, error.message()))?;
                bucket.put_all(&[(path.clone(), bytes.into())], deadline)
            }),
        }
    }

    /// Puts a file that is not there; durable on return. `false`: it is there.
    pub(crate) fn create(&self, path: &str, bytes: Bytes) -> Result<bool> {
        match self {
            Self::Folder(root) => create_file(root, path, &bytes),
            Self::Bucket(bucket) => {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                let at = bucket.path(path);
                let put = bucket.wait_for(bucket.store.put_opts(&at, bytes.into(), options));
                match put {
                    Some(Ok(_)) => Ok(true),
                    Some(Err(object_store::Error::AlreadyExists { .. })) => Ok(false),
                    Some(Err(error)) => Err(bucket.failed(path, &error.to_string())),
                    None => Err(bucket.late(path)),
                }
            }
        }
    }

    /// A file's bytes, if it is there.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Bytes>> {
        match self {
            Self::Folder(root) => match fs::read(root.join(path)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(error) if error.kind() == IoKind::NotFound => Ok(None),
                Err(error) => Err(failed(&root.join(path), &error)),
            },
            Self::Bucket(bucket) => {
                let at = bucket.path(path);
                let read = async { bucket.store.get(&at).await?.bytes().await };
                match bucket.wait_for(read) {
                    Some(Ok(bytes)) => Ok(Some(bytes)),
                    Some(Err(object_store::Error::NotFound { .. })) => Ok(None),
                    Some(Err(error)) => Err(bucket.failed(path, &error.to_string())),
                    None => Err(bucket.late(path)),
                }
            }
        }
    }

    /// The names of the files in a folder, in order.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = match self {
            Self::Folder(root) => list_files(&root.join(folder))?,
            Self::Bucket(bucket) => {
                let prefix = bucket.path(folder);
                let listed = async {
                    let mut names = Vec::new();
                    let mut found = bucket.store.list(Some(&prefix));
                    while let Some(file) = found.next().await {
                        names.extend(file?.location.filename().map(str::to_owned));
                    }
                    Ok::<_, object_store::Error>(names)
                };
                bucket.wait(folder, listed)?
            }
        };
        names.sort();
        Ok(names)
    }

    /// The names of the folders in a folder, in order.
    pub(crate) fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = match self {
            Self::Folder(root) => list_folders(&root.join(folder))?,
            Self::Bucket(bucket) => {
                let prefix = if folder.is_empty() { bucket.root.clone() } else { bucket.path(folder) };
                let listed = bucket.wait(folder, bucket.store.list_with_delimiter(Some(&prefix)))?;
                listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// Deletes files; those that are not there are gone.
    pub(crate) fn delete(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            match self {
                Self::Folder(root) => match fs::remove_file(root.join(path)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == IoKind::NotFound => {}
                    Err(error) => return Err(failed(&root.join(path), &error)),
                },
                Self::Bucket(bucket) => {
                    let at = bucket.path(path);
                    match bucket.wait_for(bucket.store.delete(&at)) {
                        Some(Ok(()) | Err(object_store::Error::NotFound { .. })) => {}
                        Some(Err(error)) => return Err(bucket.failed(path, &error.to_string())),
                        None => return Err(bucket.late(path)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes a folder with all that is in it, where there are folders.
    pub(crate) fn delete_folder(&self, folder: &str) -> Result<()> {
        let Self::Folder(root) = self else { return Ok(()) };
        match fs::remove_dir_all(root.join(folder)) {
            Err(error) if error.kind() != IoKind::NotFound => Err(failed(&root.join(folder), &error)),
            _ => Ok(()),
        }
    }

    /// Where a path is, for people.
    pub(crate) fn describe(&self, path: &str) -> String {
        match self {
            Self::Folder(root) => root.join(path).display().to_string(),
            Self::Bucket(bucket) => format!("{}/{path}", bucket.url.trim_end_matches('/')),
        }
    }
}

impl Bucket {
    /// A few files at a time.
    fn put_all(&self, files: &[(String, Bytes)], deadline: Option<Instant>) -> Result<()> {
        let puts = files.iter().map(|(path, bytes)| async move {
            let put = tokio::time::timeout(CALL_TIMEOUT, self.store.put(&self.path(path), bytes.clone().into())).await;
            match put {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(self.failed(path, &error.to_string())),
                Err(_) => Err(self.late(path)),
            }
        });
        let Some(runtime) = &self.runtime else { return Err(Error::internal("a bucket without threads")) };
        runtime.block_on(async {
            let mut done = futures::stream::iter(puts).buffer_unordered(PUTS_AT_ONCE);
            loop {
                let next = match deadline {
                    None => done.next().await,
                    Some(deadline) => match tokio::time::timeout_at(deadline.into(), done.next()).await {
                        Ok(next) => next,
                        Err(_) => return Err(too_slow(&self.url)),
                    },
                };
                match next {
                    Some(put) => put?,
                    None => return Ok(()),
                }
            }
        })
    }

    fn path(&self, path: &str) -> ObjectPath {
        path.split('/').fold(self.root.clone(), |at, part| at.join(part))
    }

    fn wait_for<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        runtime.block_on(async { tokio::time::timeout(CALL_TIMEOUT, call).await }).ok()
    }

    fn wait<T>(&self, path: &str, call: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        match self.wait_for(call) {
            Some(result) => result.map_err(|error| self.failed(path, &error.to_string())),
            None => Err(self.late(path)),
        }
    }

    fn failed(&self, path: &str, words: &str) -> Error {
        Error::new(ErrorKind::External, format!("the checkpoints' place {} failed at {path}: {words}", self.url))
            .with_hint("look at the object store: address, credentials, permissions")
    }

    fn late(&self, path: &str) -> Error {
        self.failed(path, &format!("no answer within {CALL_TIMEOUT:?}"))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::External, format!("the checkpoints' file {} failed: {error}", path.display()))
        .with_hint("look at the disk: space, permissions, health")
}

/// Makes a folder and syncs those above it that are new.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folder(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != IoKind::AlreadyExists => return Err(error),
            _ => File::open(above)?.sync_all()?,
        }
    }
    Ok(())
}

/// Writes a file beside its place.
fn write_beside(target: &Path, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let beside = target.with_added_extension("new");
    let file = match direct::write(&beside, bytes)? {
        Some(file) => file,
        None => {
            let mut file = File::create(&beside)?;
            file.write_all(bytes)?;
            file
        }
    };
    file.sync_all()?;
    Ok(beside)
}

fn too_slow(place: &str) -> Error {
    Error::new(ErrorKind::External, format!("its files were not written to {place} before its time was over"))
        .with_hint("look at the place, or raise checkpoint_timeout")
}

/// As [`write_beside`], of a file that is somewhere else already.
fn link_beside(target: &Path, file: &WholeFile) -> std::io::Result<PathBuf> {
    let beside = target.with_added_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != IoKind::NotFound => return Err(error),
        _ => {}
    }
    if !file.link(&beside) {
        let bytes = file.read().map_err(|error| std::io::Error::other(error.to_string()))?;
        return write_beside(target, &bytes);
    }
    File::open(&beside)?.sync_all()?;
    Ok(beside)
}

/// Puts files into their places, each of which is made beside its place.
fn place_files<'a, T: 'a>(
    root: &Path,
    files: impl Iterator<Item = (&'a String, T)>,
    deadline: Option<Instant>,
    make: impl Fn(&Path, T) -> std::io::Result<PathBuf>,
) -> Result<()> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for (path, content) in files {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(too_slow(&root.display().to_string()));
        }
        let target = root.join(path);
        let place = || -> std::io::Result<()> {
            let folder = target.parent().unwrap_or(root).to_path_buf();
            if !folders.contains(&folder) {
                make_folder(&folder)?;
                folders.push(folder);
            }
            fs::rename(make(&target, content)?, &target)
        };
        place().map_err(|error| failed(&target, &error))?;
    }
    for folder in folders {
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(&folder, &error))?;
    }
    Ok(())
}

fn create_file(root: &Path, path: &str, bytes: &[u8]) -> Result<bool> {
    let target = root.join(path);
    let folder = target.parent().unwrap_or(root);
    let create = || -> std::io::Result<bool> {
        make_folder(folder)?;
        let beside = write_beside(&target, bytes)?;
        // A link, unlike a rename, does not replace.
        let linked = match fs::hard_link(&beside, &target) {
            Ok(()) => true,
            Err(error) if error.kind() == IoKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        fs::remove_file(&beside)?;
        File::open(folder)?.sync_all()?;
        Ok(linked)
    };
    create().map_err(|error| failed(&target, &error))
}

fn list_folders(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn list_files(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let name = entry.file_name().to_string_lossy().into_owned();
        // What a crash has left half written.
        if is_file && !name.ends_with(".new") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("file://{}/in/side", directory.path().display());
        let place = Place::open(&url).unwrap();
        assert_eq!(place.list("job/state").unwrap(), Vec::<String>::new());
        let file = |name: &str, text: &'static str| (format!("job/state/{name}"), Bytes::from_static(text.as_bytes()));
        place.put(&[file("b", "two"), file("a", "one")]).unwrap();
        place.put(&[file("b", "three")]).unwrap();
        assert_eq!(place.list("job/state").unwrap(), ["a", "b"]);
        assert_eq!(place.get("job/state/b").unwrap().unwrap(), "three");
        assert_eq!(place.get("job/state/c").unwrap(), None);
        assert!(place.create("job/owner/1", Bytes::from_static(b"me")).unwrap());
        assert!(!place.create("job/owner/1", Bytes::from_static(b"you")).unwrap());
        assert_eq!(place.get("job/owner/1").unwrap().unwrap(), "me");
        place.delete(&["job/state/a".to_owned(), "job/state/gone".to_owned()]).unwrap();
        assert_eq!(place.list("job/state").unwrap(), ["b"]);
        assert!(Place::open("nowhere").is_err());
        assert!(Place::open("ftp://host/x").is_err());
    }
}
