//! One job's checkpoints in their place.
//!
//! ```text
//! <deployment>/<job>/owner/<generation>           a run of the job; made by whoever begins it, and by nobody else
//!                    chosen/<generation>          which checkpoint this run has chosen last, or begun from
//!                    manifests/<epoch>-<generation>.json
//!                    state/<generation>-<hash>.arrow
//! ```
//!
//! The greatest generation is the one that runs: another, a server that was taken for dead, finds at its next checkpoint
//! that it is no longer the job, and neither chooses nor deletes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::deferred::{LARGE, StoredPart};
use super::layers::{self, Compacted, Layers, Named};
use super::manifest::{Expired, Manifest, StateFile};
use super::pages::Spare;
use super::place::Place;
use super::state_file::{self, NewFile, shown};
use crate::connector::Positions;
use crate::dataflow::{JobSnapshot, VIEW};
use crate::error::{Error, ErrorKind, Result};
use crate::operator::change::merged;
use crate::operator::{DeferredPart, StatePart};
use crate::state::spill::WholeFile;
use crate::time::Epoch;

/// The checkpoint that counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Choice {
    /// The manifest's file.
    pub(crate) manifest: String,
    /// `xxh3_64` of its bytes, in hexadecimal.
    pub(crate) hash: String,
}

/// What is there of a job's checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Restorable {
    /// The one that counts.
    pub(crate) chosen: Option<Choice>,
    /// Files of manifests, oldest first.
    pub(crate) manifests: Vec<String>,
}

impl Restorable {
    /// The epoch of the checkpoint that counts.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.chosen.as_ref().and_then(|chosen| epoch_of(&chosen.manifest))
    }

    /// The files of the checkpoint that counts and of those before it, newest first.
    pub(crate) fn newest_first(&self) -> Vec<String> {
        let Some(chosen) = &self.chosen else { return Vec::new() };
        let before = self.manifests.iter().rev().filter(|file| **file < chosen.manifest);
        std::iter::once(&chosen.manifest).chain(before).cloned().collect()
    }
}

/// A checkpoint that was written.
pub(crate) struct Written {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) file: String,
    pub(crate) hash: u64,
    /// Bytes that the last checkpoint did not have.
    pub(crate) new_bytes: u64,
}

/// Files that are put at one time, and bytes of them.
pub(super) const PUT_FILES: usize = 8;
const PUT_BYTES: usize = 8 << 20;

/// A checkpoint's state files on their way to their place: some at a time, since together they may be as much as the state.
pub(super) struct Put<'a> {
    store: &'a JobStore,
    /// Those of the checkpoint before.
    earlier: &'a [StateFile],
    deadline: Option<Instant>,
    is_over: &'a dyn Fn() -> bool,
    files: Vec<(String, Bytes)>,
    bytes: usize,
    /// Bytes that the checkpoint before did not have.
    new_bytes: u64,
    /// Memory for the files that come next.
    pub(super) spare: Spare,
}

impl Put<'_> {
    /// Adds a file to the checkpoint's `files`.
    pub(super) fn add(&mut self, named: Named, file: NewFile, files: &mut Vec<StateFile>) -> Result<()> {
        let known = self.earlier.iter().chain(files.iter()).find(|known| known.hash == file.hash);
        let (path, is_new) = match known {
            Some(known) => (known.path.clone(), false),
            None => (self.store.state_path(&file.hash), true),
        };
        let place = self.store.path(&path);
        files.push(named.file(path, &file));
        if is_new {
            self.new_bytes += file.bytes.len() as u64;
            self.bytes += file.bytes.len();
            self.files.push((place, file.bytes));
        }
        if self.files.len() >= PUT_FILES || self.bytes >= PUT_BYTES { self.flush() } else { Ok(()) }
    }

    /// Takes over files that are there, a few: durable on return.
    pub(super) fn keep(&mut self, whole: Vec<(Named, &WholeFile, usize)>, files: &mut Vec<StateFile>) -> Result<()> {
        self.check()?;
        let mut kept = Vec::with_capacity(whole.len());
        for (named, file, columns) in whole {
            let path = self.store.state_path(&shown(file.hash));
            kept.push((self.store.path(&path), file));
            files.push(named.whole(path, file, columns));
            self.new_bytes += file.bytes;
        }
        self.store.place.keep(&kept, self.deadline)
    }

    fn check(&self) -> Result<()> {
        if (self.is_over)() {
            return Err(Error::new(ErrorKind::InvalidState, "the job was dropped while its checkpoint was written"));
        }
        Ok(())
    }

    /// Durable on return.
    fn flush(&mut self) -> Result<()> {
        self.check()?;
        self.bytes = 0;
        self.store.place.put_before(&std::mem::take(&mut self.files), self.deadline)
    }
}

/// An error in a checkpoint's files.
fn of(manifest: &Manifest, error: Error) -> Error {
    error.context(format!("the checkpoint of epoch {} of '{}'", manifest.epoch, manifest.name))
}

/// No epoch is later. Epochs are milliseconds since 1970, and `now()` is an epoch in microseconds; and a job goes on behind
/// all the epochs that its files name, so behind one like this there have to be others.
const LAST_EPOCH: Epoch = i64::MAX as Epoch / 1_000;

/// The epoch in a manifest's file name; none: no server wrote it.
pub(crate) fn epoch_of(file: &str) -> Option<Epoch> {
    file.split_once('-')?.0.parse().ok().filter(|epoch| *epoch <= LAST_EPOCH)
}

/// See the [module](self).
pub(crate) struct JobStore {
    place: Arc<Place>,
    folder: String,
    /// This run; 0: only reads.
    generation: u64,
    /// Manifests that were read or written.
    read: Mutex<BTreeMap<String, Arc<Manifest>>>,
    /// State files that no manifest names yet.
    early: Mutex<BTreeSet<String>>,
}

impl JobStore {
    /// The checkpoints of a job, to be read.
    pub(crate) fn open(place: &Arc<Place>, deployment: Uuid, job: Uuid) -> Self {
        let folder = format!("{deployment}/{job}");
        Self { place: Arc::clone(place), folder, generation: 0, read: Mutex::default(), early: Mutex::default() }
    }

    /// The same checkpoints, to be read.
    pub(super) fn to_read(&self) -> Self {
        let (place, folder) = (Arc::clone(&self.place), self.folder.clone());
        Self { place, folder, generation: 0, read: Mutex::default(), early: Mutex::default() }
    }

    /// Begins a run of the job: what was chosen before is chosen for it as well.
    pub(crate) fn begin(&mut self) -> Result<Restorable> {
        let owners = self.generations("owner")?;
        let mut generation = owners.last().copied().unwrap_or(0);
        loop {
            generation += 1;
            if self.place.create(&self.path(&format!("owner/{generation:010}")), Bytes::new())? {
                break;
            }
        }
        self.generation = generation;
        let restorable = self.restorable()?;
        if let Some(chosen) = &restorable.chosen {
            self.put_choice(chosen)?;
        }
        Ok(restorable)
    }

    /// What is there.
    pub(crate) fn restorable(&self) -> Result<Restorable> {
        let chosen = match self.generations("chosen")?.last() {
            None => None,
            Some(generation) => {
                let path = self.path(&format!("chosen/{generation:010}"));
                let bytes = self.place.get(&path)?;
                let bytes = bytes.ok_or_else(|| self.damaged(&path, "it is gone"))?;
                let chosen: Choice =
                    serde_json::from_slice(&bytes).map_err(|error| self.damaged(&path, &error.to_string()))?;
                epoch_of(&chosen.manifest).ok_or_else(|| self.damaged(&path, "it names no manifest"))?;
                Some(chosen)
            }
        };
        let mut manifests = self.place.list(&self.path("manifests"))?;
        manifests.retain(|file| epoch_of(file).is_some());
        Ok(Restorable { chosen, manifests })
    }

    /// This run.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    fn generations(&self, kind: &str) -> Result<Vec<u64>> {
        let names = self.place.list(&self.path(kind))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.folder)
    }

    /// The names of the files in one of the job's folders.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.place.list(&self.path(folder))
    }

    /// One of the job's files.
    pub(super) fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.place.get(&self.path(path))
    }

    /// Makes one of the job's files; `false`: it is there.
    pub(super) fn create(&self, path: &str, bytes: Bytes) -> Result<bool> {
        self.place.create(&self.path(path), bytes)
    }

    /// Deletes one of the job's files.
    pub(super) fn delete(&self, path: &str) -> Result<()> {
        self.place.delete(&[self.path(path)])
    }

    /// The error of one of the job's files that can't be read.
    pub(super) fn damaged_file(&self, path: &str, what: &str) -> Error {
        self.damaged(&self.path(path), what)
    }

    fn damaged(&self, path: &str, what: &str) -> Error {
        Error::new(ErrorKind::Data, format!("the checkpoint file {} is damaged: {what}", self.place.describe(path)))
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Manifest>>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A manifest by its file's name; `hash`: what its bytes are known to have.
    pub(crate) fn manifest(&self, file: &str, hash: Option<u64>) -> Result<Arc<Manifest>> {
        if let Some(manifest) = self.remembered().get(file) {
            return Ok(Arc::clone(manifest));
        }
        let path = self.path(&format!("manifests/{file}"));
        let bytes = self.place.get(&path)?.ok_or_else(|| self.damaged(&path, "it is gone"))?;
        if hash.is_some_and(|hash| hash != Manifest::hash(&bytes)) {
            return Err(self.damaged(&path, "its bytes are not those that were written"));
        }
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| error.context(self.place.describe(&path)))?;
        let manifest = Arc::new(manifest);
        self.remembered().insert(file.to_owned(), Arc::clone(&manifest));
        Ok(manifest)
    }

    /// Writes a checkpoint: state files, then the manifest that names them. `manifest` has everything but the files.
    /// Durable on return, and not chosen. What has changed of a state is written as a layer upon `last`, in which files
    /// that were `compacted` meanwhile stand in place of those that they came from. Given up when it `is_over`, and at the
    /// deadline.
    pub(crate) fn write(
        &self,
        mut snapshot: JobSnapshot,
        mut manifest: Manifest,
        last: Option<&Manifest>,
        compacted: Vec<Compacted>,
        (deadline, is_over): (Option<Instant>, &dyn Fn() -> bool),
    ) -> Result<Written> {
        let mut earlier = last.map(|last| last.files.clone()).unwrap_or_default();
        for compacted in compacted {
            compacted.replace(&mut earlier);
        }
        let mut layers = Layers::of(&snapshot, last.is_some())?;
        (manifest.files, manifest.expired) = layers.carried(&earlier);
        let (files, spare) = Default::default();
        let mut put = Put { store: self, earlier: &earlier, deadline, is_over, files, bytes: 0, new_bytes: 0, spare };
        put.deferred(std::mem::take(&mut snapshot.deferred), &layers, &mut manifest.files)?;
        let spare = put.spare.clone();
        layers.each_file(&spare, &mut |named, file| put.add(named, file, &mut manifest.files))?;
        put.flush()?;
        let new_bytes = put.new_bytes;
        manifest.files.sort_by(|one, other| {
            (&one.operator, &one.part, one.layer).cmp(&(&other.operator, &other.part, other.layer))
        });
        let bytes = manifest.to_bytes()?;
        let hash = Manifest::hash(&bytes);
        let file = Manifest::file_name(manifest.epoch, self.generation);
        self.place.put(&[(self.path(&format!("manifests/{file}")), bytes.into())])?;
        let manifest = Arc::new(manifest);
        self.remembered().insert(file.clone(), Arc::clone(&manifest));
        Ok(Written { manifest, file, hash, new_bytes })
    }

    fn state_path(&self, hash: &str) -> String {
        format!("state/{:010}-{hash}.arrow", self.generation)
    }

    /// Writes a file that no manifest names yet. It is not swept before [`Self::let_go`].
    pub(super) fn put_early(&self, file: &NewFile) -> Result<String> {
        let path = self.state_path(&file.hash);
        self.early().insert(path.clone());
        self.place.put(&[(self.path(&path), file.bytes.clone())])?;
        Ok(path)
    }

    /// Files that were written early stand in a manifest, or are of no use to anybody.
    pub(super) fn let_go<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        let mut early = self.early();
        for path in paths {
            early.remove(path);
        }
    }

    fn early(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the job goes on from this checkpoint.
    pub(crate) fn choose(&self, file: &str, hash: u64) -> Result<()> {
        self.check_newest()?;
        self.put_choice(&Choice { manifest: file.to_owned(), hash: format!("{hash:016x}") })?;
        // Another run may have begun between, from what was chosen before: then this one is not chosen. A run that begins
        // from here on finds the choice, since it looks for it when it has said that it begins.
        self.check_newest()
    }

    pub(super) fn put_choice(&self, choice: &Choice) -> Result<()> {
        let bytes = serde_json::to_vec(choice).map_err(|error| Error::internal(error.to_string()))?;
        self.place.put(&[(self.path(&format!("chosen/{:010}", self.generation)), bytes.into())])
    }

    /// An error when another run of the job has begun.
    fn check_newest(&self) -> Result<()> {
        match self.generations("owner")?.last() {
            Some(newest) if *newest > self.generation => Err(Error::new(
                ErrorKind::InvalidState,
                format!("another server runs the job: its run {newest} has begun, and this one is {}", self.generation),
            )
            .with_hint("two servers must not have copies of one data directory and one place of checkpoints")),
            _ => Ok(()),
        }
    }

    /// What a checkpoint holds; every file is as it was written. Large parts are read when they are wanted.
    pub(crate) fn restore(&self, manifest: &Arc<Manifest>) -> Result<JobSnapshot> {
        let mut sizes: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for file in &manifest.files {
            *sizes.entry((&file.operator, &file.part)).or_default() += file.bytes;
        }
        sizes.retain(|(operator, _), bytes| *bytes > LARGE && *operator != VIEW);
        let is_large = |file: &StateFile| sizes.contains_key(&(file.operator.as_str(), file.part.as_str()));
        // What is damaged is found before anything is done with it.
        manifest
            .files
            .iter()
            .filter(|file| is_large(file))
            .try_for_each(|file| self.bytes(manifest, file).map(drop))?;
        let parts = self.parts(manifest, |file| !is_large(file))?;
        let deferred = sizes.keys().map(|(operator, part)| {
            let rows = Arc::new(StoredPart::new(self, manifest, operator, part));
            ((*operator).to_owned(), DeferredPart { name: (*part).to_owned(), rows })
        });
        let parts = (parts, deferred.collect());
        let positions = manifest.positions.iter().map(|(scan, at)| (scan.clone(), Positions(at.clone()))).collect();
        JobSnapshot::restored(manifest.epoch, parts, &manifest.watermarks, positions)
    }

    /// The rows that an operator has in a checkpoint.
    pub(crate) fn part_of(&self, manifest: &Manifest, operator: &str) -> Result<JobSnapshot> {
        let parts = self.parts(manifest, |file| file.operator == operator)?;
        JobSnapshot::restored(manifest.epoch, (parts, Vec::new()), &BTreeMap::new(), BTreeMap::new())
    }

    /// The state in some files, which are all of their parts: of each part what its layers come to.
    fn parts(&self, manifest: &Manifest, wanted: impl Fn(&StateFile) -> bool) -> Result<Vec<(String, StatePart)>> {
        let mut by_part: BTreeMap<(&str, &str), Vec<&StateFile>> = BTreeMap::new();
        for file in manifest.files.iter().filter(|file| wanted(file)) {
            by_part.entry((&file.operator, &file.part)).or_default().push(file);
        }
        let mut parts = Vec::new();
        for ((operator, name), files) in by_part {
            let below = manifest.expired.iter().find(|of| (of.operator.as_str(), of.part.as_str()) == (operator, name));
            let layers = layers::read(&files, |file| self.rows(manifest, file))?;
            for rows in merged(&layers, below.map(Expired::below))? {
                parts.push((operator.to_owned(), StatePart { name: name.to_owned(), rows }));
            }
        }
        Ok(parts)
    }

    /// The rows of a file, which is as it was written.
    pub(super) fn rows(&self, manifest: &Manifest, file: &StateFile) -> Result<Vec<RecordBatch>> {
        let damaged = |error: Error| of(manifest, self.damaged(&self.path(&file.path), error.message()));
        state_file::read(self.bytes(manifest, file)?, file.columns).map_err(damaged)
    }

    fn bytes(&self, manifest: &Manifest, file: &StateFile) -> Result<Bytes> {
        let path = self.path(&file.path);
        let of = |error| of(manifest, error);
        let bytes = self.place.get(&path).map_err(of)?;
        let bytes = bytes.ok_or_else(|| of(self.damaged(&path, "it is gone")))?;
        let found = state_file::hash(&bytes);
        if bytes.len() as u64 != file.bytes || found != file.hash {
            let what = format!(
                "it has {} bytes with hash {found}, and {} bytes with hash {} were written",
                bytes.len(),
                file.bytes,
                file.hash
            );
            return Err(of(self.damaged(&path, &what)));
        }
        Ok(bytes)
    }

    /// A checkpoint that will never be chosen goes.
    pub(crate) fn forget(&self, file: &str) -> Result<()> {
        self.remembered().remove(file);
        self.place.delete(&[self.path(&format!("manifests/{file}"))])
    }

    /// Deletes checkpoints, and what none of the others needs. Answers the manifests that are left.
    pub(crate) fn retain(&self, keep: impl Fn(&Manifest, usize) -> bool) -> Result<Vec<Arc<Manifest>>> {
        self.check_newest()?;
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        let restorable = self.restorable()?;
        let chosen = restorable.chosen.as_ref().map(|chosen| chosen.manifest.as_str());
        for (age, file) in restorable.manifests.iter().rev().enumerate() {
            match self.manifest(file, None) {
                Ok(manifest) if keep(&manifest, age) || chosen == Some(file) => kept.push(manifest),
                // A place that is away says nothing of what it holds.
                Err(error) if error.kind() == ErrorKind::External || chosen == Some(file) => return Err(error),
                // One that is damaged is of no use to anybody.
                _ => gone.push(file.clone()),
            }
        }
        if !gone.is_empty() {
            let paths: Vec<String> = gone.iter().map(|file| self.path(&format!("manifests/{file}"))).collect();
            self.place.delete(&paths)?;
            let mut remembered = self.remembered();
            gone.iter().for_each(|file| drop(remembered.remove(file)));
        }
        self.sweep(&kept)?;
        Ok(kept)
    }

    /// Deletes state files that no checkpoint needs, and the traces of earlier runs.
    fn sweep(&self, kept: &[Arc<Manifest>]) -> Result<()> {
        let needed: BTreeSet<&str> =
            kept.iter().flat_map(|manifest| &manifest.files).map(|file| file.path.as_str()).collect();
        let mut paths = Vec::new();
        // What is written while the folder is being listed is early, or stands in a manifest already.
        let early = self.early().clone();
        for name in self.place.list(&self.path("state"))? {
            let path = format!("state/{name}");
            let generation = name.split_once('-').and_then(|(generation, _)| generation.parse::<u64>().ok());
            let is_needed = needed.contains(path.as_str()) || early.contains(&path) || self.early().contains(&path);
            if !is_needed && generation.is_some_and(|generation| generation <= self.generation) {
                paths.push(self.path(&path));
            }
        }
        for kind in ["owner", "chosen"] {
            let old = self.generations(kind)?.into_iter().filter(|generation| *generation < self.generation);
            paths.extend(old.map(|generation| self.path(&format!("{kind}/{generation:010}"))));
        }
        self.place.delete(&paths)
    }

    /// Deletes everything: the job is dropped.
    pub(crate) fn remove(&self) -> Result<()> {
        for kind in ["savepoints", "chosen", "manifests", "state", "owner"] {
            let names = self.place.list(&self.path(kind))?;
            let paths: Vec<String> = names.iter().map(|name| self.path(&format!("{kind}/{name}"))).collect();
            self.place.delete(&paths)?;
        }
        self.place.delete_folder(&self.folder)
    }
}
