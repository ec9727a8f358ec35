//! From a blueprint to everything that the workers need: whatever can fail is done here, before any worker hears of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;

use crate::connector::{
    PartitionState, PollState, Positions, Reporter, Sink, SinkWriter, Source, SourceBatch, SourceReader, Waker,
};
use crate::delta::Delta;
use crate::error::{Error, Result};
use crate::plan::flow::{FlowOp, FlowPlan, NodeIndex};
use crate::time::{Clock, Epoch, Watermarks};

use super::chain::Member;
use super::edge::WatermarkLink;
use super::event_time::EventTime;
use super::flow_control::{LinkMeter, Memory};
use super::job::{JobId, JobLimits, JobObserver, JobReporter, JobShared};
use super::layout::{Layout, MemberPlan, Unit};
use super::operators::{Nothing, OperatorFactory};
use super::signal::Signal;
use super::snapshot::JobSnapshot;
use super::source::SourcePart;
use super::spill::OperatorSpace;
use super::view::View;

/// Where a job's results go.
pub enum Target {
    /// Into a view.
    View(Arc<View>),
    /// To another system.
    Sink(Box<dyn Sink>),
    /// To another system, which shows it when a checkpoint is chosen: a sink that was
    /// [opened to write exactly once](Sink::open_exactly_once).
    ExactlyOnce {
        /// One for each worker.
        writers: Vec<Box<dyn SinkWriter>>,
        /// Those of [`Sink::meeting_columns`].
        meeting_columns: Option<Vec<usize>>,
    },
    /// The result goes somewhere, and rows that come too late ([`FlowPlan::late`]) into a sink.
    WithLate(Box<Target>, Box<dyn Sink>),
}

/// A job, ready to be created.
pub struct Blueprint {
    /// Its number.
    pub job: JobId,
    /// Its name, for errors.
    pub name: String,
    /// What it computes.
    pub plan: FlowPlan,
    /// The streams, by scan.
    pub sources: HashMap<NodeIndex, Box<dyn Source>>,
    /// The views that it reads, by scan.
    pub views: HashMap<NodeIndex, Arc<View>>,
    /// Where the results go.
    pub target: Target,
    /// What it may use.
    pub limits: JobLimits,
    /// Who hears how it is doing.
    pub observer: Arc<dyn JobObserver>,
    /// State to go on from. Sources whose positions the snapshot knows are begun there; others are to stand where they
    /// stood at its epoch.
    pub restore: Option<JobSnapshot>,
    /// The greatest epoch of which a checkpoint of the job is there, whether it goes on from that or not; 0: none is. Its own
    /// epochs come after it.
    pub after: Epoch,
    /// When its inputs have ended it waits for a last checkpoint, with which its sink shows the last of its output.
    pub ends_with_checkpoint: bool,
}

/// One worker's part of a unit.
pub(crate) enum UnitPart {
    Stream(SourcePart),
    View { view: Arc<View>, projection: Vec<usize>, links: Vec<WatermarkLink>, missed: Vec<Delta> },
    Chain(Vec<Member>),
}

/// One worker's part of the target.
pub(crate) enum DestinationPart {
    View(Arc<View>),
    /// A sink's writer, and whether it was opened to write exactly once.
    Sink(Box<dyn SinkWriter>, bool),
}

/// All that one worker needs to build a job without being able to fail.
pub(crate) struct WorkerJob {
    pub(crate) job: Arc<JobShared>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) units: Vec<UnitPart>,
    pub(crate) destination: DestinationPart,
    /// Takes rows that come too late.
    pub(crate) late: Option<Box<dyn SinkWriter>>,
    pub(crate) meters: Arc<[Arc<LinkMeter>]>,
    pub(crate) watermarks: Watermarks,
    pub(crate) restored: bool,
    /// The timely identifier after building: the same on all workers.
    pub(crate) identifier: Arc<AtomicUsize>,
}

/// A job that can be built.
pub(crate) struct Prepared {
    pub(crate) job: Arc<JobShared>,
    pub(crate) parts: Vec<WorkerJob>,
    pub(crate) reads: Vec<Arc<View>>,
    pub(crate) maintains: Option<Arc<View>>,
    /// It goes on from a snapshot.
    pub(crate) is_restored: bool,
    /// Its epochs come after this one.
    pub(crate) after: Epoch,
    /// Timely operators per worker that take part in a snapshot.
    pub(crate) snapshot_givers: usize,
}

impl Blueprint {
    /// Prepares the job for `workers` workers.
    pub(crate) fn prepare(
        mut self,
        workers: usize,
        clock: &Arc<dyn Clock>,
        factory: &dyn OperatorFactory,
        (signal, memory): (&Arc<Signal>, &Arc<Memory>),
    ) -> Result<Prepared> {
        let late = self.take_late()?;
        let ends = 1 + usize::from(late.is_some());
        let sink_keys = match &self.target {
            Target::Sink(sink) => sink.meeting_columns(),
            Target::ExactlyOnce { meeting_columns, .. } => meeting_columns.clone(),
            Target::View(_) | Target::WithLate(..) => None,
        };
        let layout = Arc::new(Layout::new(&self.plan, workers, factory, sink_keys.as_deref())?);
        let streams = layout.units.iter().filter(|unit| matches!(unit, Unit::Stream(_))).count();
        let identity = (self.job, self.name.clone());
        let limits = self.limits.clone();
        let (observer, signal) = (Arc::clone(&self.observer), Arc::clone(signal));
        let job = Arc::new(JobShared::new(
            identity,
            workers,
            (streams, ends, self.plan.holds_back()),
            limits,
            observer,
            (signal, memory),
        ));
        job.owes_checkpoint.store(self.ends_with_checkpoint, Ordering::SeqCst);
        let reporter: Arc<dyn Reporter> = Arc::new(JobReporter(Arc::clone(&job)));

        let mut units: Vec<Vec<UnitPart>> = (0..workers).map(|_| Vec::with_capacity(layout.units.len())).collect();
        let mut reads = Vec::new();
        let mut stream = 0;
        for unit in &layout.units {
            match unit {
                Unit::Stream(node) => {
                    let readers = self.readers(*node, workers, clock, &reporter)?;
                    for (worker, reader) in readers.into_iter().enumerate() {
                        let status = &job.sources[stream * workers + worker];
                        status.binds.store(reader.binds_epochs(), Ordering::SeqCst);
                        units[worker].push(UnitPart::Stream(SourcePart {
                            id: self.plan.nodes[*node].id.clone(),
                            reader,
                            event_time: self.event_time(*node)?,
                            status: Arc::clone(status),
                        }));
                    }
                    stream += 1;
                }
                Unit::View(node) => {
                    let view = self.views.get(node).map(Arc::clone).ok_or_else(|| {
                        Error::internal(format!("no view was given for scan {}", self.plan.nodes[*node].id))
                    })?;
                    for (worker, parts) in units.iter_mut().enumerate() {
                        parts.push(self.edge(*node, &view, (worker, workers))?);
                    }
                    reads.push(view);
                }
                Unit::Chain(members) => {
                    for (worker, parts) in units.iter_mut().enumerate() {
                        parts.push(UnitPart::Chain(self.chain(members, (worker, workers), factory, &job)?));
                    }
                }
            }
        }
        let (destinations, maintains) = self.destinations(workers, &reporter)?;
        let late: Vec<Option<Box<dyn SinkWriter>>> = match late {
            Some(late) => writers(late, workers, &reporter)?.into_iter().map(Some).collect(),
            None => (0..workers).map(|_| None).collect(),
        };
        let watermarks = match &self.restore {
            Some(snapshot) => snapshot.watermarks(self.plan.watermark_count()),
            None => Watermarks::none(self.plan.watermark_count()),
        };
        let meters: Arc<[Arc<LinkMeter>]> = layout.links.iter().map(|_| Arc::default()).collect();
        let identifier = Arc::new(AtomicUsize::new(0));
        let edges = layout.units.iter().filter(|unit| matches!(unit, Unit::View(_))).count();
        let snapshot_givers = layout.units.len() - edges + ends;
        let is_restored = self.restore.is_some();
        let after = self.restore.as_ref().map_or(self.after, |snapshot| snapshot.epoch.max(self.after));
        let parts = units
            .into_iter()
            .zip(destinations.into_iter().zip(late))
            .map(|(units, (destination, late))| WorkerJob {
                job: Arc::clone(&job),
                layout: Arc::clone(&layout),
                units,
                destination,
                late,
                meters: Arc::clone(&meters),
                watermarks: watermarks.clone(),
                restored: is_restored,
                identifier: Arc::clone(&identifier),
            })
            .collect();
        Ok(Prepared { job, parts, reads, maintains, is_restored, after, snapshot_givers })
    }

    /// Takes what late rows go into out of the target.
    fn take_late(&mut self) -> Result<Option<Box<dyn Sink>>> {
        let (target, late) = match std::mem::replace(&mut self.target, Target::Sink(Box::new(NoSink))) {
            Target::WithLate(target, late) => (*target, Some(late)),
            target => (target, None),
        };
        self.target = target;
        if late.is_some() != self.plan.late.is_some() {
            return Err(Error::internal("late rows have a way and no end, or an end and no way"));
        }
        Ok(late)
    }

    /// A chain's operators on one of several workers.
    fn chain(
        &self,
        members: &[MemberPlan],
        (worker, workers): (usize, usize),
        factory: &dyn OperatorFactory,
        job: &JobShared,
    ) -> Result<Vec<Member>> {
        let mut instances = Vec::with_capacity(members.len());
        for member in members {
            let id = self.plan.nodes[member.node].id.clone();
            let operator = match member.only_on {
                Some(owner) if owner != worker => Box::new(Nothing),
                _ => {
                    let mut operator = factory.operator(&self.plan, member.node, member.role)?;
                    operator.stand_on(worker, workers);
                    if let Some(spill) = &job.spill {
                        operator.spill_to(OperatorSpace::of(spill));
                    }
                    if let Some(snapshot) = &self.restore
                        && member.role != crate::operator::build::Role::Local
                    {
                        let to_all = factory.replicated_part(&self.plan, member.node);
                        snapshot.restore(operator.as_mut(), &id, (worker, workers), to_all)?;
                    }
                    operator
                }
            };
            let meter = job.operators.add(&id);
            instances.push(Member { id, operator, parent: member.parent, meter, state_bytes: 0 });
        }
        Ok(instances)
    }

    fn readers(
        &mut self,
        node: NodeIndex,
        workers: usize,
        clock: &Arc<dyn Clock>,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        if let FlowOp::Values { rows } = &self.plan.nodes[node].op {
            // Constant rows come once, from one worker; a restored job has had them.
            let rows = if self.restore.is_some() { Vec::new() } else { rows.clone() };
            return Ok((0..workers)
                .map(|worker| {
                    let rows = if worker == 0 { rows.clone() } else { Vec::new() };
                    Box::new(ConstantRows(rows)) as Box<dyn SourceReader>
                })
                .collect());
        }
        let id = &self.plan.nodes[node].id;
        let mut source =
            self.sources.remove(&node).ok_or_else(|| Error::internal(format!("no source was given for scan {id}")))?;
        if let Some(positions) = self.restore.as_ref().and_then(|snapshot| snapshot.position(id)) {
            source.start_at(positions)?;
        }
        let readers = source.readers(workers, Arc::clone(clock), Arc::clone(reporter))?;
        if readers.len() != workers {
            return Err(Error::internal(format!(
                "the source of {id} made {} readers for {workers} workers",
                readers.len()
            )));
        }
        Ok(readers)
    }

    fn event_time(&self, node: NodeIndex) -> Result<Option<EventTime>> {
        let spec = &self.plan.nodes[node];
        let FlowOp::Scan { watermark: Some(watermark), .. } = &spec.op else { return Ok(None) };
        let expression = create_physical_expr(
            &watermark.expression,
            &spec.schema,
            &ExecutionProps::new(),
            &PhysicalPlanningContext::default(),
        )?;
        let partitions = self.restore.as_ref().map(|snapshot| snapshot.partitions(&spec.id)).unwrap_or_default();
        let scan = (spec.schema.as_arrow(), watermark.column);
        EventTime::new(watermark.id, expression, scan, partitions).map(Some)
    }

    fn edge(&self, node: NodeIndex, view: &Arc<View>, (worker, workers): (usize, usize)) -> Result<UnitPart> {
        let spec = &self.plan.nodes[node];
        let FlowOp::Scan { projection, .. } = &spec.op else {
            return Err(Error::internal(format!("{} is not a scan", spec.id)));
        };
        if let Some(column) = projection.iter().find(|column| **column >= view.schema().fields().len()) {
            return Err(Error::internal(format!("view {} has no column {column}", view.name())));
        }
        let mut links = Vec::new();
        for own in &spec.properties.time_columns {
            let column = projection.get(own.column);
            links.extend(view.time_columns().iter().filter(|theirs| Some(&theirs.column) == column).map(|theirs| {
                WatermarkLink {
                    of_view: theirs.watermark,
                    of_reader: own.watermark,
                    shift: own.delay_micros.saturating_sub(theirs.delay_micros),
                }
            }));
        }
        let missed = match &self.restore {
            Some(snapshot) => snapshot.missed(&spec.id, worker, workers)?,
            None => Vec::new(),
        };
        Ok(UnitPart::View { view: Arc::clone(view), projection: projection.clone(), links, missed })
    }

    fn destinations(
        &mut self,
        workers: usize,
        reporter: &Arc<dyn Reporter>,
    ) -> Result<(Vec<DestinationPart>, Option<Arc<View>>)> {
        match std::mem::replace(&mut self.target, Target::Sink(Box::new(NoSink))) {
            Target::Sink(sink) => {
                let writers = writers(sink, workers, reporter)?;
                Ok((writers.into_iter().map(|writer| DestinationPart::Sink(writer, false)).collect(), None))
            }
            Target::ExactlyOnce { writers, .. } => {
                check_writers(&writers, workers)?;
                Ok((writers.into_iter().map(|writer| DestinationPart::Sink(writer, true)).collect(), None))
            }
            Target::WithLate(..) => Err(Error::internal("late rows have two ends")),
            Target::View(view) => {
                let columns = self.plan.root().map_or(0, |root| root.schema.fields().len());
                if columns != view.schema().fields().len() {
                    return Err(Error::internal(format!("the plan of view {} has {columns} columns", view.name())));
                }
                let restored = (0..workers)
                    .map(|worker| match &self.restore {
                        Some(snapshot) => snapshot.view_contents(view.schema(), worker, workers),
                        None => Ok(Vec::new()),
                    })
                    .collect::<Result<Vec<_>>>()?;
                let time_columns =
                    self.plan.root().map(|root| root.properties.time_columns.clone()).unwrap_or_default();
                view.attach(time_columns, restored)?;
                let parts = (0..workers).map(|_| DestinationPart::View(Arc::clone(&view))).collect();
                Ok((parts, Some(view)))
            }
        }
    }
}

/// A sink's writers, one for each worker.
fn writers(sink: Box<dyn Sink>, workers: usize, reporter: &Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
    let writers = sink.writers(workers, Arc::clone(reporter))?;
    check_writers(&writers, workers)?;
    Ok(writers)
}

fn check_writers(writers: &[Box<dyn SinkWriter>], workers: usize) -> Result<()> {
    if writers.len() != workers {
        return Err(Error::internal(format!("a sink made {} writers for {workers} workers", writers.len())));
    }
    Ok(())
}

/// Stands in for a target that was taken.
struct NoSink;

impl Sink for NoSink {
    fn writers(self: Box<Self>, _workers: usize, _reporter: Arc<dyn Reporter>) -> Result<Vec<Box<dyn SinkWriter>>> {
        Ok(Vec::new())
    }
}

/// Reads VALUES.
struct ConstantRows(Vec<RecordBatch>);

impl SourceReader for ConstantRows {
    fn poll(&mut self, _budget_rows: usize, out: &mut Vec<SourceBatch>) -> Result<PollState> {
        for rows in self.0.drain(..) {
            let runs = vec![(0, rows.num_rows())];
            out.push(SourceBatch { rows, weights: None, runs });
        }
        Ok(PollState::Finished)
    }

    fn partitions(&self) -> Vec<PartitionState> {
        Vec::new()
    }

    fn set_waker(&mut self, _waker: Waker) {}

    /// They come in the first epoch; a restored job has had them.
    fn positions(&self) -> Option<Positions> {
        Some(Positions::default())
    }
}
