//! Jobs that begin, begin again, and end: with their checkpoints.
//!
//! Jobs that read each other's views are brought back together, as of one epoch, while the pool holds its jobs: a view is
//! restored before its readers, and a reader that is behind takes in what it missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::define::{Before, Made, Parts, definition, materialized, sink_input};
use crate::catalog::{DesiredState, Object, ObjectKind, unknown};
use crate::checkpoint::{Beginning, Checkpoints};
use crate::connector::two_phase::{Committer, Writer};
use crate::connector::{Reporter, Sink};
use crate::dataflow::{JobId, Target};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobStatus, Live, Origin, SinkReporter};
use crate::plan::ContinuousPlan;
use crate::plan::flow::{FlowOp, ScanKind};
use crate::sql::JobAction;

/// Where a job's result goes, not yet opened.
enum Goal {
    View(Arc<crate::dataflow::View>),
    Sink(Box<dyn Sink>),
}

impl Engine {
    /// Makes an object live, and starts its job if it should run.
    pub(super) fn bring_up(&self, object: &Object, made: Made) -> Result<()> {
        let status = object.job.map(|job| {
            let now = self.clock.now_micros();
            Arc::new(JobStatus::new(job.id, &object.name, object.kind, job.desired, now))
        });
        let run = object.job.is_some_and(|job| job.desired == DesiredState::Running);
        let job = || status.clone().ok_or_else(|| Error::internal(format!("'{}' has no job", object.name)));
        let begin = |job: &Arc<JobStatus>, plan: &ContinuousPlan, goal: Goal| match run {
            true => self.start_job(object, job, plan, goal),
            false => self.note_stopped(object),
        };
        let live = match made.parts {
            Parts::Stream { relation, definition } => Live::Stream { relation, definition },
            Parts::Table { name, checked } => {
                let relation = Arc::new(checked.relation(&name));
                let table = self.tables.table(object.id, &name, checked.definition, checked.schema)?;
                Live::Table { relation, table: Arc::new(table), store: Arc::clone(&self.tables) }
            }
            Parts::View { relation } => Live::View { relation },
            Parts::MaterializedView { plan } => {
                let job = job()?;
                let (view, relation) = materialized(&object.name, &plan);
                begin(&job, &plan, Goal::View(Arc::clone(&view)))?;
                Live::MaterializedView { relation, view, job }
            }
            Parts::Sink { definition, own: None } => Live::Sink { definition, own: None },
            Parts::Sink { definition, own: Some(plan) } => {
                let job = job()?;
                let exactly_once = self.writes_exactly_once(&object.name, &*definition)?;
                begin(&job, &plan, Goal::Sink(definition.open(&sink_input(&plan, exactly_once))?))?;
                Live::Sink { definition, own: Some(job) }
            }
            Parts::Insert { definition, plan } => {
                let job = job()?;
                let exactly_once = self.writes_exactly_once(&object.name, &*definition)?;
                begin(&job, &plan, Goal::Sink(definition.open(&sink_input(&plan, exactly_once))?))?;
                Live::Insert { job }
            }
        };
        self.live.insert(&object.name, live);
        Ok(())
    }

    /// The views that a plan reads, by scan.
    fn views_read(&self, plan: &ContinuousPlan) -> Result<BTreeMap<String, (Uuid, arrow::datatypes::SchemaRef)>> {
        let mut reads = BTreeMap::new();
        for node in &plan.flow.nodes {
            let FlowOp::Scan { relation, kind: ScanKind::View, .. } = &node.op else { continue };
            let object = self.catalog.get(relation).ok_or_else(|| unknown(relation))?;
            let Some(Live::MaterializedView { view, .. }) = self.live.get(relation) else {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("it reads the view '{relation}', which could not be brought back"),
                ));
            };
            reads.insert(node.id.clone(), (object.id, Arc::clone(view.schema())));
        }
        Ok(reads)
    }

    fn note_stopped(&self, object: &Object) -> Result<()> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        checkpoints.note(object.id, &object.name, self.views_used(object))
    }

    fn start_job(&self, object: &Object, job: &Arc<JobStatus>, plan: &ContinuousPlan, goal: Goal) -> Result<()> {
        self.check_versions(object, plan)?;
        let live = self.as_of(&object.schemas)?;
        let Some(checkpoints) = &self.checkpoints else {
            let target = match goal {
                Goal::Sink(sink) => Target::Sink(sink),
                Goal::View(view) => Target::View(view),
            };
            return crate::job::start((&self.pool, &live), job, &plan.flow, target, (self.limits(), Origin::default()))
                .map(|_| ());
        };
        let settings = self.checkpoint_settings(object)?;
        let reads = self.views_read(plan)?;
        let mut committer: Option<Arc<dyn Committer>> = None;
        let target = match goal {
            Goal::View(view) => Target::View(view),
            Goal::Sink(sink) if sink.is_exactly_once() => {
                let meeting_columns = sink.meeting_columns();
                let writer = Writer {
                    deployment: self.catalog.deployment()?,
                    job: object.id,
                    number: job.id,
                    has_committed: self.catalog.has_committed(object.id)?,
                    interval: settings.interval + settings.timeout,
                };
                let reporter: Arc<dyn Reporter> = Arc::new(SinkReporter(Arc::clone(job)));
                let opened = sink.open_exactly_once(self.settings.workers, writer, reporter)?;
                committer = Some(opened.committer);
                Target::ExactlyOnce { writers: opened.writers, meeting_columns }
            }
            Goal::Sink(sink) => Target::Sink(sink),
        };
        let beginning = Beginning {
            id: object.id,
            name: object.name.clone(),
            sql: object.sql.clone(),
            plan: plan.explain().lines().map(str::to_owned).collect(),
            reads,
            committer: committer.clone(),
            settings,
        };
        let patience = self.settings.decision_timeout;
        let mut begun = patiently(committer.as_ref(), patience, || checkpoints.begin(beginning))?;
        let restore = begun.snapshot.take();
        if restore.is_none() {
            // What an earlier run has held is of no use to this one.
            self.tables.let_go(object.id)?;
        }
        let origin = Origin { restore, after: begun.after, holder: Some(object.id) };
        let handle = crate::job::start((&self.pool, &live), job, &plan.flow, target, (self.limits(), origin))?;
        if let Some(notice) = begun.notice.take() {
            Reporter::waits_for(job.as_ref(), "the checkpoint", None);
            tracing::warn!(job = %object.name, "{notice}");
        }
        checkpoints.add(begun, handle);
        Ok(())
    }

    /// Brings back what the catalog knows, in order of creation. An object that can't be brought back is kept, shown
    /// with the reason, and can be dropped.
    pub(crate) fn recover(&self) -> Result<()> {
        let objects = self.catalog.objects();
        let known: Vec<Uuid> = objects.iter().map(|object| object.id).collect();
        if let Err(error) = self.tables.keep_only(&known) {
            tracing::warn!("what is left of dropped tables could not be removed: {error}");
        }
        self.tables.hold_only_for(&known)?;
        if let Some(checkpoints) = &self.checkpoints {
            for object in objects.iter().filter(|object| object.job.is_some()) {
                checkpoints.expect(object.id, &object.name, self.views_used(object));
            }
        }
        self.pool.hold()?;
        objects.iter().for_each(|object| self.revive(object));
        self.pool.release()
    }

    /// The materialized views that an object reads, also through views, whether they can be brought back or not.
    fn views_used(&self, object: &Object) -> Vec<Uuid> {
        let mut used = Vec::new();
        for object in object.uses.iter().filter_map(|name| self.catalog.get(name)) {
            match object.kind {
                ObjectKind::MaterializedView => used.push(object.id),
                ObjectKind::View => used.extend(self.views_used(&object)),
                _ => {}
            }
        }
        used
    }

    /// Brings an object back, or shows why it can't be.
    fn revive(&self, object: &Object) {
        let made = self
            .catalog
            .descriptor(object.id)
            .and_then(|descriptor| self.make(&definition(object)?, Before::of(object, descriptor.as_deref())));
        let Err(error) = made.and_then(|made| self.bring_up(object, made)) else { return };
        tracing::error!(object = %object.name, "cannot be brought back: {error}");
        let job = object.job.map(|job| {
            let now = self.clock.now_micros();
            let status = JobStatus::new(job.id, &object.name, object.kind, job.desired, now);
            Reporter::fail(&status, error.clone());
            Arc::new(status)
        });
        self.live.insert(&object.name, Live::Broken { error, job });
    }

    /// The jobs that are connected with one by views, itself among them, in order of creation.
    fn connected(&self, name: &str) -> Vec<Object> {
        let mut found = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            let Some(object) = self.catalog.get(&name) else { continue };
            if object.job.is_none() && object.kind != ObjectKind::View {
                continue;
            }
            if !found.insert(name.clone()) {
                continue;
            }
            let reads = object.uses.iter().filter(|used| {
                self.catalog
                    .get(used)
                    .is_some_and(|used| matches!(used.kind, ObjectKind::View | ObjectKind::MaterializedView))
            });
            open.extend(reads.cloned());
            if object.kind == ObjectKind::MaterializedView {
                open.extend(self.catalog.dependants(&name).into_iter().map(|reader| reader.name));
            }
        }
        let mut jobs: Vec<Object> = found.iter().filter_map(|name| self.catalog.get(name)).collect();
        jobs.retain(|object| object.job.is_some());
        jobs.sort_by_key(|object| object.sequence);
        jobs
    }

    /// Starts a job from its last checkpoint, and with it those that are connected with it by views and have failed, or
    /// cannot go on without it. The caller changes definitions alone.
    pub(crate) fn restart(&self, name: &str) -> Result<()> {
        let wanted = |object: &Object| object.job.is_some_and(|job| job.desired == DesiredState::Running);
        let state =
            |object: &Object| self.live.get(&object.name).and_then(|live| live.job().map(|job| job.view().state));
        let group: Vec<Object> = self
            .connected(name)
            .into_iter()
            .filter(|object| wanted(object) && state(object) != Some(JobState::Finished))
            .collect();
        // A reader goes on where the views are that it reads, and those only go back with all their readers.
        if let Some(checkpoints) = &self.checkpoints {
            for object in group.iter().filter(|object| state(object) != Some(JobState::Failed)) {
                let running = self.live.get(&object.name).and_then(|live| live.job().map(|job| job.is_built()));
                if running == Some(true) {
                    checkpoints.take_now(object.id, self.settings.checkpoints.timeout, true).map_err(|error| {
                        error.context(format!("'{}' is connected with it and has to begin again as well", object.name))
                    })?;
                }
            }
        }
        for object in group.iter().rev() {
            if let Some(job) = self.live.get(&object.name).and_then(|live| live.job().cloned()) {
                self.stop_dataflow(object.id, &job)?;
            }
        }
        self.pool.hold()?;
        group.iter().for_each(|object| self.revive(object));
        self.pool.release()?;
        match self.live.get(name) {
            Some(Live::Broken { error, .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// As [`Self::restart`], of a job that has failed meanwhile or not.
    pub(crate) fn restart_failed(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = self.live.get(name).and_then(|live| live.job().map(|job| job.view()));
        match failed {
            Some(job) if job.state == JobState::Failed && job.desired == DesiredState::Running => self.restart(name),
            _ => Ok(()),
        }
    }

    /// Takes a job's dataflow out of the pool, if it is there.
    pub(super) fn stop_dataflow(&self, id: Uuid, job: &Arc<JobStatus>) -> Result<()> {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.remove(id);
        }
        if !job.take_built() {
            return Ok(());
        }
        job.enter(JobState::Stopping);
        self.pool.drop_job(JobId(job.id))
    }

    /// Takes a job's dataflow out of the pool so that it can go on later: after a last checkpoint, or, if there are none,
    /// when all that it has read is written. Answers what the user should know.
    fn end_dataflow(&self, id: Uuid, job: &Arc<JobStatus>) -> Result<Option<String>> {
        let timeout = self.settings.stop_timeout;
        let had_failed = job.view().state == JobState::Failed;
        if let Some(checkpoints) = self.checkpoints.as_ref().filter(|_| job.is_built() && !had_failed) {
            let taken = checkpoints.take_now(id, timeout, true);
            if taken.is_ok() || checkpoints.stands_at(id).is_some() {
                self.stop_dataflow(id, job)?;
                return Ok(taken.err().map(|error| {
                    format!(
                        "job '{}' will go on from the checkpoint before, since a last one failed: {error}",
                        job.name
                    )
                }));
            }
            checkpoints.remove(id);
        }
        if !job.take_built() {
            return Ok(None);
        }
        job.enter(JobState::Stopping);
        let written = self.pool.stop_job(JobId(job.id), timeout)? || had_failed;
        let lost =
            || format!("job '{}' had not written all that it had read after {timeout:?}: the rest is lost", job.name);
        Ok((!written).then(lost))
    }

    pub(super) fn alter_job(&self, name: &str, action: &JobAction) -> Result<Vec<String>> {
        let Some(live) = self.live.get(name) else { return Err(unknown(name)) };
        let Some(job) = live.job().cloned() else {
            return Err(Error::new(ErrorKind::InvalidState, format!("'{name}' has no job")));
        };
        let Some(object) = self.catalog.get(name) else { return Err(unknown(name)) };
        let altered = match action {
            JobAction::Set(options) => {
                Some(options.to_map().into_iter().map(|(name, value)| (name, Some(value))).collect())
            }
            JobAction::Reset(names) => Some(names.iter().map(|name| (name.clone(), None)).collect()),
            JobAction::Stop | JobAction::Start { .. } => None,
        };
        if let Some(altered) = altered {
            return self.alter_job_options(name, altered).map(|()| Vec::new());
        }
        // One that has failed comes back from its checkpoint with those that read it.
        let comes_back_with_readers = matches!(action, JobAction::Start { savepoint: None })
            && job.view().state == JobState::Failed
            && self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.stands_at(object.id).is_some());
        let readers: Vec<String> = self
            .catalog
            .dependants(name)
            .into_iter()
            .filter(|user| {
                self.live.get(&user.name).and_then(|live| live.job().map(|job| job.is_built())).unwrap_or(false)
            })
            .map(|user| user.name)
            .collect();
        if !readers.is_empty() && !comes_back_with_readers {
            return Err(Error::new(
                ErrorKind::DependentObjects,
                format!("job '{name}' is read by running jobs: {}", readers.join(", ")),
            )
            .with_hint("stop them first: ALTER JOB … STOP"));
        }
        match action {
            JobAction::Stop => {
                self.catalog.set_desired(name, DesiredState::Stopped)?;
                job.want(DesiredState::Stopped);
                let notice = self.end_dataflow(object.id, &job)?;
                job.enter(JobState::Stopped);
                Ok(notice.into_iter().collect())
            }
            JobAction::Set(_) | JobAction::Reset(_) => Ok(Vec::new()),
            JobAction::Start { savepoint } => {
                let state = job.view().state;
                if matches!(state, JobState::Starting | JobState::Hydrating | JobState::Running | JobState::Waiting) {
                    return Err(Error::new(ErrorKind::InvalidState, format!("job '{name}' runs already")));
                }
                if let Some(savepoint) = savepoint {
                    self.stop_dataflow(object.id, &job)?;
                    self.go_back(&object, savepoint)?;
                }
                self.catalog.set_desired(name, DesiredState::Running)?;
                // What it missed of the views that it reads is given to it up to a checkpoint of theirs, so they begin
                // there as well; also where only its sink knows whether it has a checkpoint.
                let goes_on = self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.may_go_on(object.id))
                    || self.catalog.has_committed(object.id)?;
                if goes_on && self.connected(name).len() > 1 {
                    return self.restart(name).map(|()| Vec::new());
                }
                self.stop_dataflow(object.id, &job)?;
                let descriptor = self.catalog.descriptor(object.id)?;
                let made = self.make(&definition(&object)?, Before::of(&object, descriptor.as_deref()))?;
                let object = self.catalog.get(name).unwrap_or(object);
                self.bring_up(&object, made).map(|()| Vec::new())
            }
        }
    }

    /// Takes a checkpoint of a job, or of all, now.
    pub(crate) fn checkpoint(&self, name: Option<&str>) -> Result<()> {
        let checkpoints = self.checkpoints()?;
        let Some(name) = name else {
            let timeout = checkpoints.settings().timeout;
            let outcomes = checkpoints.take_all(timeout, false);
            return outcomes.into_values().try_for_each(|outcome| outcome.map(|_| ()));
        };
        let object = self.catalog.get(name).ok_or_else(|| unknown(name))?;
        if object.job.is_none() {
            return Err(Error::new(ErrorKind::InvalidState, format!("'{name}' has no job")));
        }
        checkpoints
            .take_now(object.id, self.checkpoint_settings(&object)?.timeout, false)
            .map(|_| ())
            .map_err(|error| error.context(format!("no checkpoint of job '{name}' was taken")))
    }

    /// Who keeps checkpoints.
    pub(crate) fn checkpoints(&self) -> Result<&Arc<Checkpoints>> {
        self.checkpoints.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::InvalidState, "this server keeps no checkpoints: it has no data directory")
        })
    }
}

/// Runs what may wait for a sink's system; a system that does not answer in time is asked again later.
fn patiently<T>(
    committer: Option<&Arc<dyn Committer>>,
    patience: Duration,
    begin: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let Some(committer) = committer else { return begin() };
    let (done, is_done) = std::sync::mpsc::sync_channel::<()>(1);
    let waiting = Arc::clone(committer);
    let watch = std::thread::Builder::new().name("rondel:decision".to_owned()).spawn(move || {
        let late = is_done.recv_timeout(patience).is_err();
        if late {
            waiting.close();
        }
        late
    });
    let watch =
        watch.map_err(|error| Error::new(ErrorKind::External, format!("a thread could not be started: {error}")))?;
    let begun = begin();
    // It may have given up just now.
    let _ = done.try_send(());
    if watch.join().unwrap_or(false) || begun.is_err() {
        committer.close();
        let late = || {
            Error::new(ErrorKind::External, format!("its sink did not say within {patience:?} which checkpoint counts"))
        };
        return match begun {
            Err(error) if error.kind() != ErrorKind::Canceled => Err(error),
            _ => Err(late()),
        };
    }
    begun
}
