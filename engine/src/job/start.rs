//! Starting and stopping a job: from a plan to a dataflow in the pool.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use crate::connector::definition::{Delivery, SinkDefinition, SinkInput};
use crate::connector::table::{TableSink, TableSource};
use crate::connector::{Reporter, ScanRequest, Sink};
use crate::dataflow::{Blueprint, JobHandle, JobId, JobLimits, JobObserver, JobSnapshot, Pool, Target};
use crate::error::{Error, Result};
use crate::plan::flow::{FlowNode, FlowOp, FlowPlan, ScanKind};
use crate::time::Epoch;

use super::{JobState, JobStatus, Live, LiveObjects};

/// What a job's streams fetch ahead of it, all of them together, is not counted among what it holds: so large a part of it.
const FETCHED_AHEAD: usize = 8;

/// What is there of a job that has checkpoints.
#[derive(Default)]
pub(crate) struct Origin {
    /// The state that it goes on from; none: it begins anew.
    pub(crate) restore: Option<JobSnapshot>,
    /// The greatest epoch of which it has a checkpoint.
    pub(crate) after: Epoch,
    /// Its identity: the checkpoints need the logs of tables.
    pub(crate) holder: Option<Uuid>,
}

/// Builds a job into the pool. On success it runs.
pub(crate) fn start(
    (pool, live): (&Pool, &LiveObjects),
    status: &Arc<JobStatus>,
    plan: &FlowPlan,
    target: Target,
    (limits, origin): (JobLimits, Origin),
) -> Result<JobHandle> {
    let Origin { restore, after, holder } = origin;
    status.enter(JobState::Starting);
    status.set_restored(restore.is_some());
    let mut sources = HashMap::new();
    let mut views = HashMap::new();
    let mut leaves = plan.leaves()?;
    let is_stream = |node: &&FlowNode| matches!(&node.op, FlowOp::Scan { kind: ScanKind::Stream, .. });
    let streams = plan.nodes.iter().filter(is_stream).count();
    let fetched_ahead = limits.memory_bytes.min(pool.memory_limit()) / FETCHED_AHEAD / streams.max(1);
    for (index, node) in plan.nodes.iter().enumerate() {
        let FlowOp::Scan { relation, kind, projection, .. } = &node.op else { continue };
        match (kind, live.get(relation)) {
            (ScanKind::Stream, Some(Live::Stream { definition, .. })) => {
                let scan = ScanRequest {
                    projection: projection.clone(),
                    leaves: std::mem::take(&mut leaves[index]),
                    schema: plan.arrow_schema(index),
                    bounded: false,
                };
                let mut source = definition.open(scan)?;
                source.fetch_ahead(fetched_ahead);
                sources.insert(index, source);
            }
            (ScanKind::Table, Some(Live::Table { table, store, .. })) => {
                let source = TableSource::new(store, table, projection.clone(), plan.arrow_schema(index));
                sources.insert(index, Box::new(source.held_by(holder)));
            }
            (ScanKind::View, Some(Live::MaterializedView { view, .. })) => {
                views.insert(index, view);
            }
            _ => return Err(Error::internal(format!("the plan reads '{relation}', which is gone"))),
        }
    }
    let target = match &plan.late {
        None => target,
        Some(late) => match live.get(&late.target) {
            Some(Live::Sink { definition, .. }) => {
                let sink = open_for_late_rows(&*definition, &late.target, &late.schema)?;
                Target::WithLate(Box::new(target), sink)
            }
            Some(Live::Table { .. }) => {
                let rows = live.inserts.get().ok_or_else(|| Error::internal("nobody puts rows into tables"))?;
                let sink = TableSink::new(&late.target, Arc::clone(rows));
                Target::WithLate(Box::new(target), Box::new(sink))
            }
            _ => return Err(Error::internal(format!("late rows go to '{}', which is gone", late.target))),
        },
    };
    let blueprint = Blueprint {
        job: JobId(status.id),
        name: status.name.clone(),
        plan: plan.clone(),
        sources,
        views,
        target,
        limits: JobLimits { spill_is_kept: holder.is_some(), ..limits },
        observer: Arc::clone(status) as Arc<dyn JobObserver>,
        restore,
        after,
        ends_with_checkpoint: holder.is_some(),
    };
    let handle = pool.create_job(blueprint).inspect_err(|error| status.fail(error.clone()))?;
    status.attach(handle.clone());
    Ok(handle)
}

/// Opens a sink for rows that come too late: they are no part of the result, and written at least once.
pub(crate) fn open_for_late_rows(
    definition: &dyn SinkDefinition,
    name: &str,
    schema: &SchemaRef,
) -> Result<Box<dyn Sink>> {
    if definition.delivery() == Delivery::ExactlyOnce {
        return Err(Error::not_supported(format!("late rows cannot be written exactly once to '{name}'"))
            .with_hint("give the sink delivery = 'at_least_once'"));
    }
    definition.open(&SinkInput { schema: Arc::clone(schema), changelog: false, exactly_once: false })
}

/// What a sink reports to that was opened before its job was built.
pub(crate) struct SinkReporter(pub(crate) Arc<JobStatus>);

impl Reporter for SinkReporter {
    fn waits_for(&self, who: &str, what: Option<String>) {
        Reporter::waits_for(self.0.as_ref(), who, what);
    }

    fn fail(&self, error: Error) {
        self.0.fail_job(error);
    }

    fn skipped(&self, who: &str, rows: u64, last_reason: &str) {
        Reporter::skipped(self.0.as_ref(), who, rows, last_reason);
    }
}

impl JobObserver for JobStatus {
    fn started(&self, _first: Epoch) {
        self.hydrate();
    }

    fn epoch_completed(&self, _epoch: Epoch) {
        self.hydrated();
    }

    fn finished(&self) {
        self.enter(JobState::Finished);
    }

    fn failed(&self, error: &Error) {
        self.fail(error.clone());
    }

    fn waits_for(&self, who: &str, what: Option<String>) {
        Reporter::waits_for(self, who, what);
    }

    fn skipped(&self, who: &str, rows: u64, last_reason: &str) {
        Reporter::skipped(self, who, rows, last_reason);
    }
}
