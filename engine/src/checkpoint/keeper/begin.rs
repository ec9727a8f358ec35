//! From which checkpoint a job goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::super::CheckpointSettings;
use super::super::manifest::Manifest;
use super::super::missed::missed;
use super::super::store::{Choice, JobStore, Restorable, epoch_of};
use super::{Checkpoints, Known, lock};
use crate::connector::two_phase::{CheckpointName, Committer};
use crate::dataflow::JobSnapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Epoch;

/// A run of a job that has begun, and is not yet in the pool.
pub(crate) struct Begun {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) plan: Vec<String>,
    pub(crate) reads: BTreeMap<String, Uuid>,
    pub(crate) committer: Option<Arc<dyn Committer>>,
    pub(crate) settings: CheckpointSettings,
    pub(crate) store: JobStore,
    /// The checkpoint from which it goes on.
    pub(crate) manifest: Option<Arc<Manifest>>,
    /// The hash of its bytes, as they were written.
    pub(crate) hash: u64,
    /// What that held.
    pub(crate) snapshot: Option<JobSnapshot>,
    /// The greatest epoch of which there is a checkpoint, also of one that is not gone on from: what is taken now must not
    /// seem older, since retention goes by epochs.
    pub(crate) after: Epoch,
    /// What the user should know.
    pub(crate) notice: Option<String>,
}

/// A job that is to begin.
pub(crate) struct Beginning {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) sql: String,
    pub(crate) plan: Vec<String>,
    /// The views that it reads, by scan, and their columns.
    pub(crate) reads: BTreeMap<String, (Uuid, SchemaRef)>,
    pub(crate) committer: Option<Arc<dyn Committer>>,
    pub(crate) settings: CheckpointSettings,
}

impl Checkpoints {
    /// Begins a run of a job, and says what it goes on from: the newest checkpoint that counts and can be read, and that
    /// is not ahead of a view that the job reads.
    pub(crate) fn begin(&self, job: Beginning) -> Result<Begun> {
        let Beginning { id, name, sql, plan, reads, committer, settings } = job;
        self.expect(id, &name, reads.values().map(|(view, _)| *view).collect());
        let mut store = JobStore::open(&self.place, self.deployment, id);
        let restorable = store.begin()?;
        // Whatever comes: views keep what this job may have to go on from.
        let views = reads.values().map(|(view, _)| *view).collect();
        let unasked = committer.as_ref().is_some_and(|committer| committer.decides());
        let mut known = Known { unasked, ..undecided(&name, views, &restorable) };
        {
            let mut all = lock(&self.known);
            if let Some(before) = all.get(&id) {
                // A checkpoint of the attempt before may still be on its way.
                known.undecided.extend(&before.undecided);
                known.undecided.sort_unstable();
                known.undecided.dedup();
            }
            all.insert(id, known);
        }
        let mut begun = Begun {
            id,
            name,
            sql,
            plan,
            reads: reads.iter().map(|(scan, (view, _))| (scan.clone(), *view)).collect(),
            committer,
            settings,
            store,
            manifest: None,
            hash: 0,
            snapshot: None,
            after: restorable.manifests.iter().filter_map(|file| epoch_of(file)).max().unwrap_or(0),
            notice: None,
        };
        let files = match &begun.committer {
            Some(committer) => decided(committer.as_ref(), &restorable)?,
            None => restorable.newest_first().into_iter().map(|file| (file, None)).collect(),
        };
        let mut damage: Option<Error> = None;
        let mut ahead = false;
        for (file, hash) in files {
            let (manifest, hash) = match begun.store.manifest(&file, hash) {
                Ok(manifest) => (manifest, hash.unwrap_or(0)),
                Err(error) if error.kind() == ErrorKind::Data => {
                    tracing::error!(job = %begun.name, "a checkpoint cannot be used: {error}");
                    damage.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            manifest.check_plan(&begun.plan)?;
            if self.is_ahead(&manifest, &reads) {
                ahead = true;
                continue;
            }
            match self.snapshot(&begun.store, &manifest, &reads) {
                Ok(snapshot) => {
                    (begun.manifest, begun.hash, begun.snapshot) = (Some(manifest), hash, Some(snapshot));
                    break;
                }
                // A place that is away is asked again later: an older checkpoint may be behind what readers have shown.
                Err(error) if error.kind() == ErrorKind::External => return Err(error),
                Err(error) => {
                    tracing::error!(job = %begun.name, "a checkpoint cannot be used: {error}");
                    damage.get_or_insert(error);
                }
            }
        }
        self.settle(&mut begun, damage, ahead)?;
        Ok(begun)
    }

    /// What is to be done about checkpoints that could not be used, and about what a sink has prepared.
    fn settle(&self, begun: &mut Begun, damage: Option<Error>, ahead: bool) -> Result<()> {
        match (&begun.manifest, damage) {
            (None, Some(error)) => {
                return Err(error
                    .context(format!("job '{}' has no checkpoint that can be used", begun.name))
                    .with_hint("bring the file back; or drop and create the job, which then begins anew"));
            }
            (Some(manifest), Some(error)) => {
                let notice = format!(
                    "goes on from the checkpoint before, of epoch {}, since a newer one is damaged: {error}",
                    manifest.epoch
                );
                tracing::warn!(job = %begun.name, "{notice}");
                begun.notice = Some(notice);
            }
            (None, None) if ahead => {
                if begun.committer.is_some() {
                    return Err(Error::new(
                        ErrorKind::InvalidState,
                        format!("job '{}' has committed output of views that have begun anew", begun.name),
                    )
                    .with_hint("drop and create the job, and what it has written"));
                }
                tracing::warn!(job = %begun.name, "begins anew, since a view that it reads does");
            }
            _ => {}
        }
        if let Some(committer) = &begun.committer {
            let token = begun.manifest.as_ref().map(|manifest| manifest.token()).transpose()?.flatten();
            committer.abandon(token.as_deref())?;
            if let (Some(token), Some(manifest)) = (token, &begun.manifest) {
                let name = CheckpointName {
                    epoch: manifest.epoch,
                    generation: manifest.generation,
                    manifest_hash: begun.hash,
                };
                committer.publish(&token, &name)?;
            }
        }
        let known = Known::of(&begun.name, begun.reads.values().copied().collect(), begun.manifest.as_deref());
        lock(&self.known).insert(begun.id, known);
        Ok(())
    }

    /// A job that is there, of whose checkpoints nothing is known yet: the views that it reads keep all of theirs.
    pub(crate) fn expect(&self, id: Uuid, name: &str, reads: Vec<Uuid>) {
        let unread = || Known { unread: true, ..Known::of(name, reads, None) };
        lock(&self.known).entry(id).or_insert_with(unread);
    }

    /// A job that does not run: what its checkpoints need of others is kept.
    pub(crate) fn note(&self, id: Uuid, name: &str, reads: Vec<Uuid>) -> Result<()> {
        let store = JobStore::open(&self.place, self.deployment, id);
        let restorable = store.restorable()?;
        let ended = match restorable.chosen.as_ref().map(|chosen| store.manifest(&chosen.manifest, None)) {
            Some(Ok(manifest)) => manifest.ended,
            // Whether it has ended decides what its readers may go on from: a place that is away is asked again.
            Some(Err(error)) if error.kind() == ErrorKind::External => return Err(error),
            // A damaged manifest is told of when the job is started.
            Some(Err(_)) | None => false,
        };
        let known = Known { ended, ..undecided(name, reads, &restorable) };
        lock(&self.known).insert(id, known);
        Ok(())
    }

    /// The epoch from which a job goes on, or went on.
    pub(crate) fn stands_at(&self, job: Uuid) -> Option<Epoch> {
        lock(&self.known).get(&job).and_then(|known| known.chosen)
    }

    /// Whether a job that is started may find a checkpoint to go on from.
    pub(crate) fn may_go_on(&self, job: Uuid) -> bool {
        let known = lock(&self.known);
        known.get(&job).is_some_and(|known| known.chosen.is_some() || !known.undecided.is_empty() || known.unread)
    }

    /// Whether a checkpoint is ahead of a view that the job reads.
    fn is_ahead(&self, manifest: &Manifest, reads: &BTreeMap<String, (Uuid, SchemaRef)>) -> bool {
        let known = lock(&self.known);
        reads.values().any(|(view, _)| {
            let stands = known.get(view).and_then(|known| Some((known.chosen?, known.ended)));
            stands.is_none_or(|(at, ended)| at < manifest.epoch && !ended)
        })
    }

    /// What a checkpoint held, and what the job missed of the views that it reads.
    fn snapshot(
        &self,
        store: &JobStore,
        manifest: &Arc<Manifest>,
        reads: &BTreeMap<String, (Uuid, SchemaRef)>,
    ) -> Result<JobSnapshot> {
        let mut snapshot = store.restore(manifest)?;
        for (scan, (view, schema)) in reads {
            let of_view = JobStore::open(&self.place, self.deployment, *view);
            let Some(at) = self.stands_at(*view).filter(|at| *at > manifest.epoch) else { continue };
            let files = of_view.restorable()?.manifests;
            let manifest_of = |epoch: Epoch| {
                let file = files.iter().rev().find(|file| epoch_of(file) == Some(epoch));
                let file = file.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Data,
                        format!("a view that it reads has no checkpoint of epoch {epoch} any more"),
                    )
                })?;
                of_view.manifest(file, None)
            };
            let (then, now) = (manifest_of(manifest.epoch)?, manifest_of(at)?);
            snapshot.missed.insert(scan.clone(), missed(&of_view, schema, &then, &now)?);
        }
        Ok(snapshot)
    }
}

/// The checkpoint that counts, by the word of a sink that decides, or the chosen one: no other can be gone on from, since
/// what was written up to it can be seen.
fn decided(committer: &dyn Committer, restorable: &Restorable) -> Result<Vec<(String, Option<u64>)>> {
    let known = committer.recover()?;
    if !committer.decides() {
        return Ok(restorable.chosen.iter().map(chosen_file).collect());
    }
    match known {
        Some(name) => Ok(vec![(Manifest::file_name(name.epoch, name.generation), Some(name.manifest_hash))]),
        // It has checkpoints and has never committed: it wrote at least once before, and goes on from the last of those.
        None => Ok(restorable.chosen.iter().map(chosen_file).collect()),
    }
}

/// The file of the checkpoint that counts, and the hash that its bytes are to have.
fn chosen_file(chosen: &Choice) -> (String, Option<u64>) {
    (chosen.manifest.clone(), u64::from_str_radix(&chosen.hash, 16).ok())
}

/// What is known of a job of whose checkpoints its sink has not yet said which one counts.
fn undecided(name: &str, reads: Vec<Uuid>, restorable: &Restorable) -> Known {
    let epochs = restorable.manifests.iter().filter_map(|file| epoch_of(file));
    let undecided = epochs.filter(|epoch| Some(*epoch) >= restorable.epoch()).collect();
    Known { chosen: restorable.epoch(), undecided, ..Known::of(name, reads, None) }
}
