//! From which checkpoint a job goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::super::CheckpointSettings;
use super::super::manifest::Manifest;
use super::super::missed::missed;
use super::super::store::{JobStore, Restorable};
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
    /// What that held.
    pub(crate) snapshot: Option<JobSnapshot>,
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
        let mut store = JobStore::open(&self.place, self.deployment, id);
        let restorable = store.begin()?;
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
            snapshot: None,
            notice: None,
        };
        let files = match &begun.committer {
            Some(committer) => decided(committer.as_ref(), &restorable)?,
            None => restorable.newest_first().into_iter().map(|file| (file, None)).collect(),
        };
        let mut damage: Option<Error> = None;
        let mut ahead = false;
        for (file, hash) in files {
            let manifest = match begun.store.manifest(&file, hash) {
                Ok(manifest) => manifest,
                Err(error) if error.kind() == ErrorKind::External => {
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
                    (begun.manifest, begun.snapshot) = (Some(manifest), Some(snapshot));
                    break;
                }
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
                    manifest_hash: Manifest::hash(&manifest.to_bytes()?),
                };
                committer.publish(&token, &name)?;
            }
        }
        let chosen = begun.manifest.as_ref().map(|manifest| manifest.epoch);
        let reads = begun.reads.values().copied().collect();
        lock(&self.known).insert(begun.id, Known { name: begun.name.clone(), reads, chosen });
        Ok(())
    }

    /// A job that does not run: what its checkpoints need of others is kept.
    pub(crate) fn note(&self, id: Uuid, name: &str, reads: Vec<Uuid>) -> Result<()> {
        let chosen = JobStore::open(&self.place, self.deployment, id).restorable()?.epoch();
        lock(&self.known).insert(id, Known { name: name.to_owned(), reads, chosen });
        Ok(())
    }

    /// The epoch from which a job goes on, or went on.
    pub(crate) fn stands_at(&self, job: Uuid) -> Option<Epoch> {
        lock(&self.known).get(&job).and_then(|known| known.chosen)
    }

    /// Whether a checkpoint is ahead of a view that the job reads.
    fn is_ahead(&self, manifest: &Manifest, reads: &BTreeMap<String, (Uuid, SchemaRef)>) -> bool {
        reads.values().any(|(view, _)| self.stands_at(*view).is_none_or(|at| at < manifest.epoch))
    }

    /// What a checkpoint held, and what the job missed of the views that it reads.
    fn snapshot(
        &self,
        store: &JobStore,
        manifest: &Manifest,
        reads: &BTreeMap<String, (Uuid, SchemaRef)>,
    ) -> Result<JobSnapshot> {
        let mut snapshot = store.restore(manifest)?;
        for (scan, (view, schema)) in reads {
            let of_view = JobStore::open(&self.place, self.deployment, *view);
            let Some(at) = self.stands_at(*view).filter(|at| *at > manifest.epoch) else { continue };
            let files = of_view.restorable()?.manifests;
            let manifest_of = |epoch: Epoch| {
                let file = files.iter().rev().find(|file| super::super::store::epoch_of(file) == Some(epoch));
                let file = file.ok_or_else(|| {
                    Error::new(
                        ErrorKind::External,
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
        return Ok(restorable.chosen.iter().map(|chosen| (chosen.manifest.clone(), None)).collect());
    }
    let file = |name: CheckpointName| (Manifest::file_name(name.epoch, name.generation), Some(name.manifest_hash));
    Ok(known.map(file).into_iter().collect())
}
