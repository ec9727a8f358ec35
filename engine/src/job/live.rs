//! What stands behind the catalog's names while the server runs: definitions, views, jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::connector::definition::{SinkDefinition, StreamDefinition};
use crate::connector::table::InsertsRows;
use crate::dataflow::View;
use crate::error::Error;
use crate::plan::{Relation, Relations};
use crate::table::{Table, TableStore};

use super::JobStatus;

/// One named thing.
#[derive(Clone)]
pub(crate) enum Live {
    /// A stream.
    Stream {
        /// For the planner.
        relation: Arc<Relation>,
        /// Opens its sources.
        definition: Arc<dyn StreamDefinition>,
    },
    /// A table.
    Table {
        /// For the planner.
        relation: Arc<Relation>,
        /// Its place in the store.
        table: Arc<Table>,
        /// Where all tables are.
        store: Arc<TableStore>,
    },
    /// A view: its query is put in where it is named.
    View {
        /// For the planner.
        relation: Arc<Relation>,
    },
    /// A materialized view.
    MaterializedView {
        /// For the planner.
        relation: Arc<Relation>,
        /// Its contents; a new one each time that its job starts.
        view: Arc<View>,
        /// Its job.
        job: Arc<JobStatus>,
    },
    /// A sink.
    Sink {
        /// Opens it for a job.
        definition: Arc<dyn SinkDefinition>,
        /// The job of its own query, if it has one.
        own: Option<Arc<JobStatus>>,
    },
    /// A continuous INSERT.
    Insert {
        /// Its job.
        job: Arc<JobStatus>,
    },
    /// An object that the catalog knows and that could not be brought back at start.
    Broken {
        /// Why.
        error: Error,
        /// Its job, shown as failed.
        job: Option<Arc<JobStatus>>,
    },
}

impl Live {
    /// Its job, if it has one.
    pub(crate) fn job(&self) -> Option<&Arc<JobStatus>> {
        match self {
            Live::Stream { .. } | Live::Table { .. } | Live::View { .. } => None,
            Live::MaterializedView { job, .. } | Live::Insert { job, .. } => Some(job),
            Live::Sink { own, .. } => own.as_ref(),
            Live::Broken { job, .. } => job.as_ref(),
        }
    }

    /// What queries read, if it can be read.
    pub(crate) fn relation(&self) -> Option<&Arc<Relation>> {
        match self {
            Live::Stream { relation, .. }
            | Live::Table { relation, .. }
            | Live::View { relation }
            | Live::MaterializedView { relation, .. } => Some(relation),
            Live::Sink { .. } | Live::Insert { .. } | Live::Broken { .. } => None,
        }
    }
}

/// All named things, by name.
#[derive(Default)]
pub(crate) struct LiveObjects {
    objects: RwLock<BTreeMap<String, Live>>,
    /// Puts rows into tables, once there is an engine.
    pub(crate) inserts: OnceLock<Arc<dyn InsertsRows>>,
}

impl LiveObjects {
    pub(crate) fn get(&self, name: &str) -> Option<Live> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn insert(&self, name: &str, live: Live) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), live);
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Live> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// All, in order of names.
    pub(crate) fn all(&self) -> Vec<(String, Live)> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.iter().map(|(name, live)| (name.clone(), live.clone())).collect()
    }
}

impl Relations for LiveObjects {
    fn relation(&self, name: &str) -> Option<Arc<Relation>> {
        self.get(name)?.relation().cloned()
    }

    fn why_unreadable(&self, name: &str) -> Option<Error> {
        match self.get(name)? {
            Live::Broken { error, .. } => Some(error.context(format!("'{name}' could not be brought back"))),
            _ => None,
        }
    }

    fn names(&self) -> Vec<String> {
        self.all().into_iter().filter(|(_, live)| live.relation().is_some()).map(|(name, _)| name).collect()
    }
}
