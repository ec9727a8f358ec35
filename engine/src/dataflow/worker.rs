//! A worker: runs its share of every job's dataflow, and the pool's commands between steps.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::worker::Worker as TimelyWorker;

use arrow::datatypes::SchemaRef;

use crate::plan::flow::LateSource;
use crate::time::{Epoch, Watermarks};

use super::blueprint::{DestinationPart, UnitPart, WorkerJob};
use super::chain::Chain;
use super::edge::{EdgeTask, ViewWriter};
use super::exchange::{Addressed, Outlet};
use super::flow_control::lock;
use super::inlet::{Inlet, InletSpec, Inlets};
use super::job::{JobId, JobShared};
use super::late::LateEnd;
use super::layout::{Layout, Link, LinkEnd, MemberPlan, Unit};
use super::packet::Packet;
use super::signal::Signal;
use super::source::SourceTask;
use super::terminal::{Destination, SinkTask, Terminal};

/// Counts the workers that have yet to run a command.
pub(crate) struct Acknowledgement {
    missing: AtomicUsize,
    signal: Arc<Signal>,
}

impl Acknowledgement {
    pub(crate) fn of(workers: usize, signal: &Arc<Signal>) -> Arc<Self> {
        Arc::new(Self { missing: AtomicUsize::new(workers), signal: Arc::clone(signal) })
    }

    fn give(&self) {
        if self.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.signal.notify();
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing.load(Ordering::SeqCst) == 0
    }
}

/// What all workers are told, in the same order.
pub(crate) enum Command {
    Build(Box<WorkerJob>, Epoch, Arc<Acknowledgement>),
    Drop(JobId, Arc<Acknowledgement>),
    Shutdown,
}

/// A worker's commands.
#[derive(Default)]
pub(crate) struct CommandQueue {
    commands: Mutex<VecDeque<Command>>,
    thread: OnceLock<Thread>,
}

impl CommandQueue {
    /// The worker's own thread says who to wake.
    pub(crate) fn open(&self) {
        self.thread.get_or_init(std::thread::current);
    }

    pub(crate) fn push(&self, command: Command) {
        lock(&self.commands).push_back(command);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn pop(&self) -> Option<Command> {
        lock(&self.commands).pop_front()
    }
}

/// What a worker has of a job.
struct Built {
    dataflow: usize,
    view: Option<u64>,
}

/// See the [module](self).
pub(crate) struct Worker {
    timely: TimelyWorker,
    commands: Arc<CommandQueue>,
    jobs: HashMap<JobId, Built>,
    views: HashMap<u64, Rc<RefCell<ViewWriter>>>,
}

impl Worker {
    pub(crate) fn new(timely: TimelyWorker, commands: Arc<CommandQueue>) -> Self {
        commands.open();
        Self { timely, commands, jobs: HashMap::new(), views: HashMap::new() }
    }

    /// Runs until it is shut down; parks while nothing is to be done.
    pub(crate) fn run(&mut self) {
        while self.obey() {
            self.timely.step_or_park(None);
        }
    }

    /// Runs what was commanded. `false`: shut down.
    pub(crate) fn obey(&mut self) -> bool {
        while let Some(command) = self.commands.pop() {
            match command {
                Command::Build(job, first, acknowledgement) => {
                    self.build(*job, first);
                    acknowledgement.give();
                }
                Command::Drop(job, acknowledgement) => {
                    self.drop_job(job);
                    acknowledgement.give();
                }
                Command::Shutdown => {
                    let jobs: Vec<JobId> = self.jobs.keys().copied().collect();
                    jobs.into_iter().for_each(|job| self.drop_job(job));
                    return false;
                }
            }
        }
        true
    }

    /// Which of the workers it is.
    pub(crate) fn index(&self) -> usize {
        self.timely.index()
    }

    /// One step of all dataflows that have something to do; never parks.
    pub(crate) fn step(&mut self) {
        self.timely.step();
    }

    fn drop_job(&mut self, job: JobId) {
        if let Some(built) = self.jobs.remove(&job) {
            self.timely.drop_dataflow(built.dataflow);
            if let Some(view) = built.view {
                self.views.remove(&view);
            }
        }
    }

    /// Builds a job: infallible, and the same on all workers.
    fn build(&mut self, job: WorkerJob, first: Epoch) {
        let id = job.job.id;
        let identifier = Arc::clone(&job.identifier);
        let view = match &job.destination {
            DestinationPart::View(view) => Some(view.id()),
            DestinationPart::Sink(..) => None,
        };
        let dataflow = self.timely.next_dataflow_index();
        let views = &mut self.views;
        let name = job.job.name.clone();
        self.timely.clone().dataflow_core::<Epoch, _, _, _>(&name, None, (), |(), scope| {
            build_dataflow(scope, job, first, views);
        });
        self.jobs.insert(id, Built { dataflow, view });
        let own = self.timely.peek_identifier();
        let theirs =
            identifier.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|theirs| theirs);
        debug_assert!(theirs == 0 || theirs == own, "workers built different dataflows");
    }
}

type Ports<'scope> = Vec<Option<Stream<'scope, Epoch, Packet>>>;

fn build_dataflow<'scope>(
    scope: Scope<'scope, Epoch>,
    job: WorkerJob,
    first: Epoch,
    views: &mut HashMap<u64, Rc<RefCell<ViewWriter>>>,
) {
    let WorkerJob { job: shared, layout, units, destination, late, meters, watermarks, restored, .. } = job;
    let worker = scope.index();
    let mut ports: Ports<'scope> = layout.links.iter().map(|_| None).collect();
    for (unit, part) in units.into_iter().enumerate() {
        let mut builder = OperatorBuilder::new(unit_name(&layout, unit), scope);
        let incoming: Vec<usize> = layout.incoming(unit).collect();
        let inputs = connect(&mut builder, &layout, &incoming, &mut ports);
        let outgoing: Vec<usize> = layout.outgoing(unit).collect();
        let mut outputs = Vec::with_capacity(outgoing.len());
        for link in &outgoing {
            let (output, stream) = builder.new_output::<Packet>();
            ports[*link] = Some(stream);
            outputs.push((output, layout.links[*link].routing.clone(), Arc::clone(&meters[*link])));
        }
        let address = builder.operator_info().address;
        let activator = scope.activator_for(Rc::clone(&address));
        let outlets_with = |capabilities: Vec<_>| -> Vec<Outlet> {
            outputs
                .into_iter()
                .zip(capabilities)
                .map(|((output, routing, link), capability)| {
                    Outlet::new(output, capability, first, (routing, link), Arc::clone(&shared), worker)
                })
                .collect()
        };
        let shared = Arc::clone(&shared);
        match part {
            UnitPart::Stream(part) => {
                part.status.wake_up.set(scope.worker().sync_activator_for(address.to_vec()));
                builder.build_reschedule(|capabilities| {
                    let mut task = SourceTask::new(part, outlets_with(capabilities), shared, activator, first);
                    move |_| {
                        task.run();
                        false
                    }
                });
            }
            UnitPart::View { view, projection, links, missed } => {
                shared.add_edge(scope.worker().sync_activator_for(address.to_vec()));
                let writer = views.get(&view.id()).map(Rc::clone);
                builder.build_reschedule(|capabilities| {
                    let outlets = outlets_with(capabilities);
                    // The control builds readers only where the view's own job stands.
                    let mut task = writer.map(|writer| {
                        let missed = restored.then_some(missed);
                        EdgeTask::new(&writer, (first, missed), (projection, links), outlets, shared, activator)
                    });
                    move |_| {
                        if let Some(task) = &mut task {
                            task.run();
                        }
                        false
                    }
                });
            }
            UnitPart::Chain(members) => {
                let entries = incoming.iter().filter_map(|link| match layout.links[*link].to {
                    LinkEnd::Member { member, input, .. } => Some((member, input)),
                    LinkEnd::Terminal | LinkEnd::Late => None,
                });
                let of_late = outgoing.iter().position(|link| layout.links[*link].to == LinkEnd::Late);
                let late = late_sources(&layout, unit);
                let inlets = (Inlets::new(Arc::clone(&layout.plan), inputs, &watermarks), entries.collect());
                let start = (first, watermarks.clone());
                builder.build_reschedule(|capabilities| {
                    let mut outlets = outlets_with(capabilities);
                    let late = of_late.map(|place| outlets.remove(place)).zip(late);
                    let late = late.map(|(outlet, (schema, sources))| LateEnd::new(outlet, schema, sources));
                    let mut chain = Chain::new(members, inlets, (outlets, late), shared, activator, start);
                    move |frontiers| {
                        chain.run(least(frontiers));
                        false
                    }
                });
            }
        }
    }
    if let Some(writer) = late {
        let end = (Destination::Sink(SinkTask::new(writer, false)), true);
        build_terminal(scope, &layout, &mut ports, (&shared, end), (first, watermarks.clone()));
    }
    let destination = match destination {
        DestinationPart::Sink(writer, exactly_once) => Destination::Sink(SinkTask::new(writer, exactly_once)),
        DestinationPart::View(view) => {
            let id = view.id();
            let writer = ViewWriter::new(view, Arc::clone(&shared), worker, first, watermarks.clone());
            let writer = Rc::new(RefCell::new(writer));
            views.insert(id, Rc::clone(&writer));
            Destination::View(writer)
        }
    };
    build_terminal(scope, &layout, &mut ports, (&shared, (destination, false)), (first, watermarks));
}

/// One end of a dataflow: of its result, or of its late rows.
fn build_terminal<'scope>(
    scope: Scope<'scope, Epoch>,
    layout: &Layout,
    ports: &mut Ports<'scope>,
    (shared, (destination, is_late)): (&Arc<JobShared>, (Destination, bool)),
    start: (Epoch, Watermarks),
) {
    let mut builder = OperatorBuilder::new(if is_late { "late rows" } else { "terminal" }.to_owned(), scope);
    let incoming: Vec<usize> = if is_late { layout.to_late().collect() } else { layout.to_terminal().collect() };
    let inputs = connect(&mut builder, layout, &incoming, ports);
    let inlets = Inlets::new(Arc::clone(&layout.plan), inputs, &start.1);
    let address = builder.operator_info().address;
    let worker = scope.index();
    if !is_late {
        shared.terminal(worker).set(scope.worker().sync_activator_for(address.to_vec()));
    }
    let activator = scope.activator_for(address);
    let mut terminal = Terminal::new(inlets, (destination, is_late), Arc::clone(shared), worker, activator, start);
    builder.build_reschedule(|_| move |frontiers| terminal.run(least(frontiers)));
}

/// The columns of late rows, and which members of a chain decide that rows are late.
fn late_sources(layout: &Layout, unit: usize) -> Option<(SchemaRef, Vec<(usize, LateSource)>)> {
    let (Some(late), Unit::Chain(members)) = (&layout.plan.late, &layout.units[unit]) else { return None };
    let of_member = |(member, plan): (usize, &MemberPlan)| {
        let own = late.sources.iter().filter(|source| source.node == plan.node);
        own.map(|source| (member, source.clone())).collect::<Vec<_>>()
    };
    Some((Arc::clone(&late.schema), members.iter().enumerate().flat_map(of_member).collect()))
}

/// The least epoch that may still come on any input; `None` when all have ended.
fn least(frontiers: &[MutableAntichain<Epoch>]) -> Option<Epoch> {
    frontiers.iter().flat_map(|frontier| frontier.frontier().iter().copied().collect::<Vec<_>>()).min()
}

/// Connects a timely operator's inputs.
fn connect<'scope>(
    builder: &mut OperatorBuilder<'scope, Epoch>,
    layout: &Layout,
    incoming: &[usize],
    ports: &mut Ports<'scope>,
) -> Vec<(Box<dyn Inlet>, InletSpec)> {
    let mut inputs = Vec::with_capacity(incoming.len());
    for index in incoming {
        let link: &Link = &layout.links[*index];
        // Units are built in topological order: the other end is there.
        let Some(stream) = ports[*index].take() else { continue };
        let workers = stream.scope().peers();
        let from_stream = matches!(layout.units[link.from], Unit::Stream(_));
        let spec = InletSpec { upstreams: if from_stream { workers } else { 1 }, ids: link.ids.clone() };
        let handle: Box<dyn Inlet> = if link.exchanged {
            Box::new(builder.new_input(stream, DistributorPact(|_| Addressed)))
        } else {
            Box::new(builder.new_input(stream, Pipeline))
        };
        inputs.push((handle, spec));
    }
    inputs
}

fn unit_name(layout: &Layout, unit: usize) -> String {
    match &layout.units[unit] {
        Unit::Stream(node) => format!("source {node}"),
        Unit::View(node) => format!("edge {node}"),
        Unit::Chain(members) => format!("chain of {}", members.len()),
    }
}
