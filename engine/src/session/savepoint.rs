//! Savepoints of jobs.

use crate::catalog::{Object, unknown};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, Live};
use crate::sql::Savepoint;

use super::define::{Before, Parts, definition};

impl Engine {
    fn object_with_job(&self, name: &str) -> Result<Object> {
        let object = self.catalog.get(name).ok_or_else(|| unknown(name))?;
        match object.job {
            Some(_) => Ok(object),
            None => Err(Error::new(ErrorKind::InvalidState, format!("'{name}' has no job"))),
        }
    }

    /// CREATE SAVEPOINT.
    pub(super) fn create_savepoint(&self, savepoint: &Savepoint) -> Result<()> {
        let object = self.object_with_job(&savepoint.job)?;
        let checkpoints = self.checkpoints()?;
        let timeout = self.checkpoint_settings(&object)?.timeout;
        let state = self.live.get(&object.name).and_then(|live| live.job().map(|job| job.view().state));
        let runs = !matches!(state, Some(JobState::Stopped | JobState::Failed | JobState::Finished) | None);
        checkpoints
            .create_savepoint(object.id, &savepoint.name, runs, timeout)
            .map(|_| ())
            .map_err(|error| error.context(format!("no savepoint of job '{}' was made", object.name)))
    }

    /// DROP SAVEPOINT; answers with what the user should know.
    pub(super) fn drop_savepoint(&self, savepoint: &Savepoint, if_exists: bool) -> Result<Vec<String>> {
        let object = self.object_with_job(&savepoint.job)?;
        if self.checkpoints()?.drop_savepoint(object.id, &savepoint.name)? {
            return Ok(Vec::new());
        }
        let sentence = format!("there is no savepoint \"{}\" of job '{}'", savepoint.name, object.name);
        match if_exists {
            true => Ok(vec![format!("{sentence}, skipping")]),
            false => Err(Error::new(ErrorKind::UndefinedObject, sentence)),
        }
    }

    /// A job that does not run goes on from a savepoint when it is started. The caller changes definitions alone.
    pub(super) fn go_back(&self, object: &Object, savepoint: &str) -> Result<()> {
        if self.job_writes_exactly_once(object)? {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "job '{}' writes exactly once: what it has written since the savepoint cannot be taken back",
                    object.name
                ),
            )
            .with_hint("create a sink that writes at least once, or one with another target"));
        }
        let epoch = self.checkpoints()?.go_back(object.id, savepoint)?;
        tracing::info!(job = %object.name, epoch, "goes back to savepoint {savepoint}");
        Ok(())
    }

    /// Whether a job's sink shows its output when a checkpoint is chosen.
    pub(super) fn job_writes_exactly_once(&self, object: &Object) -> Result<bool> {
        if let Some(Live::MaterializedView { .. }) = self.live.get(&object.name) {
            return Ok(false);
        }
        let descriptor = self.catalog.descriptor(object.id)?;
        let made = self.make(&definition(object)?, Before::of(object, descriptor.as_deref()))?;
        match &made.parts {
            Parts::Sink { definition, own: Some(_) } | Parts::Insert { definition, .. } => {
                self.writes_exactly_once(&object.name, &**definition)
            }
            _ => Ok(false),
        }
    }
}
