//! A job's own options: from the statement that made it, and as they were altered since.

use std::collections::BTreeMap;

use super::define::definition;
use crate::catalog::{Object, unknown};
use crate::checkpoint::{CheckpointSettings, is_job_option};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::{CreateView, Options, Statement};

/// A job's own options among those of a statement.
fn own(options: &Options) -> BTreeMap<String, String> {
    let own = options.iter().filter(|entry| is_job_option(&entry.name));
    own.map(|entry| (entry.name.clone(), entry.value.clone())).collect()
}

/// The view without the options that are its job's.
pub(super) fn without_job_options(view: &CreateView) -> CreateView {
    match view.materialized {
        true => CreateView { options: view.options.without(is_job_option), ..view.clone() },
        false => view.clone(),
    }
}

/// The options of a job: the server's, but for those of its statement, and of those that were altered.
fn of_job(object: &Object) -> Result<BTreeMap<String, String>> {
    let mut options = match definition(object)? {
        Statement::CreateView(view) => own(&view.options),
        Statement::CreateSink(sink) => own(&sink.options),
        _ => BTreeMap::new(),
    };
    for (name, value) in &object.options {
        match value {
            Some(value) => options.insert(name.clone(), value.clone()),
            None => options.remove(name),
        };
    }
    Ok(options)
}

impl Engine {
    /// Checks the options that a statement gives its job.
    pub(super) fn check_job_options(&self, options: &Options) -> Result<()> {
        let own = own(options);
        if own.is_empty() {
            return Ok(());
        }
        self.checkpoints()?.settings().with(&own).map(|_| ())
    }

    /// How a job's checkpoints are taken and kept.
    pub(super) fn checkpoint_settings(&self, object: &Object) -> Result<CheckpointSettings> {
        self.checkpoints()?.settings().with(&of_job(object)?)
    }

    /// `ALTER JOB … SET (…)` and `RESET (…)`: what has no value is reset.
    pub(super) fn alter_job_options(&self, name: &str, altered: BTreeMap<String, Option<String>>) -> Result<()> {
        let mut object = self.catalog.get(name).ok_or_else(|| unknown(name))?;
        let before = self.checkpoint_settings(&object)?;
        // An unknown name is an error for RESET as well.
        let named = altered.keys().find(|name| !is_job_option(name)).cloned();
        if let Some(other) = named {
            let error = Error::invalid(format!("there is no option \"{other}\" of a job"));
            let names = crate::checkpoint::JOB_OPTIONS.options.iter().map(|spec| spec.name);
            return Err(error.with_hint(format!("The options here are: {}.", names.collect::<Vec<_>>().join(", "))));
        }
        object.options.extend(altered);
        let after = self.checkpoint_settings(&object)?;
        let job = self.live.get(name).and_then(|live| live.job().cloned());
        let runs = job.is_some_and(|job| job.is_built());
        // A sink's transaction outlasts an interval and a time-out; it learns of them when it is opened.
        let bounds = |of: &CheckpointSettings| (of.interval, of.timeout);
        if runs && bounds(&before) != bounds(&after) && self.job_writes_exactly_once(&object)? {
            return Err(Error::new(
                ErrorKind::InvalidState,
                format!(
                    "job '{name}' runs and writes exactly once: its transactions were made for {:?}",
                    before.interval
                ),
            )
            .with_hint("ALTER JOB … STOP it first, alter it, and start it again"));
        }
        self.catalog.set_options(name, object.options)?;
        self.checkpoints()?.alter(object.id, after);
        Ok(())
    }
}
