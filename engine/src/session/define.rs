//! CREATE, DROP and ALTER, and what a restart makes of the catalog.
//!
//! A definition is checked whole before the catalog hears of it, and durable before the statement is answered. One
//! definition changes at a time.

use std::sync::{Arc, PoisonError};

use arrow::datatypes::SchemaRef;

use crate::catalog::{DesiredState, NewObject, Object, ObjectKind, unknown};
use crate::connector::definition::{Definition, SinkDefinition, SinkInput, StreamDefinition};
use crate::connector::registry;
use crate::dataflow::{JobId, Target, View};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobStatus, Live};
use crate::plan::{ContinuousPlan, Destination, Relation, STATE_TTL};
use crate::sql::{
    self, CreateSink, CreateStream, CreateTable, CreateView, Dialect, DropObjects, Insert, JobAction, ParsedStatement,
    Query, Statement, quoted,
};
use crate::table::TableDefinition;

use super::table::{self, Checked};

/// Runs a statement that changes definitions; answers with what the user should know.
pub(super) fn run(engine: &Arc<Engine>, parsed: &ParsedStatement) -> Result<Vec<String>> {
    let _one_at_a_time = engine.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let (name, if_not_exists) = match &parsed.statement {
        Statement::CreateStream(stream) => (&stream.name, stream.if_not_exists),
        Statement::CreateTable(table) => (&table.name, table.if_not_exists),
        Statement::AlterTable(alter) => return engine.alter_table(alter),
        Statement::CreateView(view) => (&view.name, view.if_not_exists),
        Statement::CreateSink(sink) => (&sink.name, sink.if_not_exists),
        Statement::Insert(insert) => return engine.create_insert(insert, parsed).map(|()| Vec::new()),
        Statement::Drop(drop) => return engine.drop_objects(drop),
        Statement::AlterJob { name, action } => return engine.alter_job(name, *action),
        other => return Err(Error::internal(format!("{} defines nothing", other.tag()))),
    };
    if let Err(taken) = engine.catalog.check_free(name) {
        return if if_not_exists { Ok(vec![format!("{}, skipping", taken.message())]) } else { Err(taken) };
    }
    let made = engine.make(&parsed.statement, None)?;
    let (sql, dialect) = match made.text() {
        Some(text) => (text, Dialect::Postgres),
        None => (parsed.text.clone(), parsed.dialect),
    };
    let object = engine.catalog.create(NewObject {
        kind: made.kind,
        name: name.clone(),
        sql,
        dialect,
        uses: made.uses.clone(),
        descriptor: made.descriptor.clone(),
        has_job: made.has_job(),
        created_at_micros: engine.clock.now_micros(),
    })?;
    if let Err(error) = engine.bring_up(&object, made) {
        engine.catalog.remove(std::slice::from_ref(name))?;
        return Err(error);
    }
    Ok(Vec::new())
}

/// An object that is checked and not yet known to anyone.
struct Made {
    kind: ObjectKind,
    uses: Vec<String>,
    descriptor: Option<Vec<u8>>,
    parts: Parts,
}

enum Parts {
    Stream { relation: Arc<Relation>, definition: Arc<dyn StreamDefinition> },
    Table { name: String, checked: Box<Checked> },
    View { relation: Arc<Relation> },
    MaterializedView { plan: Box<ContinuousPlan> },
    Sink { definition: Arc<dyn SinkDefinition>, own: Option<Box<ContinuousPlan>> },
    Insert { definition: Arc<dyn SinkDefinition>, plan: Box<ContinuousPlan> },
}

impl Made {
    fn has_job(&self) -> bool {
        match &self.parts {
            Parts::Stream { .. } | Parts::Table { .. } | Parts::View { .. } => false,
            Parts::MaterializedView { .. } | Parts::Insert { .. } => true,
            Parts::Sink { own, .. } => own.is_some(),
        }
    }
}

impl Made {
    /// The statement that the catalog keeps, if it is not the user's own text.
    fn text(&self) -> Option<String> {
        match &self.parts {
            Parts::Table { name, checked } => Some(table::statement(name, &checked.definition)),
            _ => None,
        }
    }
}

impl Engine {
    /// Whether a name is a table's.
    pub(super) fn is_table(&self, name: &str) -> bool {
        matches!(self.live.get(name), Some(Live::Table { .. }))
    }

    /// Checks a definition. `descriptor` is what the catalog kept of an object that is not new.
    fn make(&self, statement: &Statement, descriptor: Option<&[u8]>) -> Result<Made> {
        match statement {
            Statement::CreateStream(stream) => self.make_stream(stream, descriptor),
            Statement::CreateTable(table) => self.make_table(table, descriptor),
            Statement::CreateView(view) => self.make_view(view),
            Statement::CreateSink(sink) => self.make_sink(sink, descriptor),
            Statement::Insert(insert) => self.make_insert(insert),
            other => Err(Error::internal(format!("{} defines nothing", other.tag()))),
        }
    }

    fn make_stream(&self, stream: &CreateStream, descriptor: Option<&[u8]>) -> Result<Made> {
        if let Some(column) = stream.columns.first() {
            return Err(Error::invalid(format!(
                "the columns of stream '{}' come from its message, and '{}' is declared beside it",
                stream.name, column.name
            ))
            .with_hint(
                "leave the columns out: CREATE STREAM s (WATERMARK FOR t AS t - INTERVAL '10' SECOND) WITH (…)",
            ));
        }
        let options = stream.options.to_map();
        let definition = registry::define_stream(&Definition { name: &stream.name, options: &options, descriptor })
            .map_err(|error| error.context(format!("stream '{}'", stream.name)))?;
        let schema = definition.schema();
        let watermark = match &stream.watermark {
            Some(clause) => Some(self.planner.validate_watermark(&schema, clause)?),
            None => None,
        };
        let relation = Arc::new(Relation::stream(&stream.name, schema, watermark));
        let descriptor = definition.descriptor();
        Ok(Made {
            kind: ObjectKind::Stream,
            uses: Vec::new(),
            descriptor,
            parts: Parts::Stream { relation, definition },
        })
    }

    fn make_table(&self, create: &CreateTable, descriptor: Option<&[u8]>) -> Result<Made> {
        let checked = match descriptor {
            None => table::define(&self.planner, create)?,
            Some(bytes) => table::revive(&self.planner, &create.name, TableDefinition::from_bytes(bytes)?)?,
        };
        let descriptor = Some(checked.definition.to_bytes()?);
        let parts = Parts::Table { name: create.name.clone(), checked: Box::new(checked) };
        Ok(Made { kind: ObjectKind::Table, uses: Vec::new(), descriptor, parts })
    }

    fn make_view(&self, view: &CreateView) -> Result<Made> {
        if view.materialized {
            let mut plan = self.planner.plan_materialized_view(view)?;
            self.fit_late_rows(&mut plan)?;
            let parts = Parts::MaterializedView { plan: Box::new(plan.clone()) };
            return Ok(Made { kind: ObjectKind::MaterializedView, uses: plan.reads, descriptor: None, parts });
        }
        let (relation, uses) = self.planner.plan_view(view)?;
        let parts = Parts::View { relation: Arc::new(relation) };
        Ok(Made { kind: ObjectKind::View, uses, descriptor: None, parts })
    }

    fn make_sink(&self, sink: &CreateSink, descriptor: Option<&[u8]>) -> Result<Made> {
        if let Some(column) = sink.columns.first() {
            return Err(Error::invalid(format!(
                "the columns of sink '{}' come from its message or its query, and '{}' is declared beside them",
                sink.name, column.name
            ))
            .with_hint("leave the columns out"));
        }
        let mut options = sink.options.to_map();
        let state_ttl = options.remove(STATE_TTL);
        if state_ttl.is_some() && sink.query.is_none() {
            return Err(Error::invalid(format!(
                "sink '{}' has no query whose state {STATE_TTL} could bound",
                sink.name
            ))
            .with_hint("leave it out, or give the sink a query with AS"));
        }
        let definition = registry::define_sink(&Definition { name: &sink.name, options: &options, descriptor })
            .map_err(|error| error.context(format!("sink '{}'", sink.name)))?;
        let descriptor = definition.descriptor();
        let (uses, own) = match &sink.query {
            None => (Vec::new(), None),
            Some(query) => {
                let mut plan = self.planner.plan_for(query, destination(&*definition), state_ttl.as_deref())?;
                self.fit_late_rows(&mut plan)?;
                // Opened once for the check alone: a column that does not fit is an error here.
                definition.open(&sink_input(&plan))?;
                (plan.reads.clone(), Some(Box::new(plan)))
            }
        };
        Ok(Made { kind: ObjectKind::Sink, uses, descriptor, parts: Parts::Sink { definition, own } })
    }

    fn make_insert(&self, insert: &Insert) -> Result<Made> {
        let definition = match self.live.get(&insert.target) {
            Some(Live::Sink { definition, own: None }) => definition,
            Some(Live::Sink { own: Some(_), .. }) => {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("sink '{}' has a query of its own and takes no INSERT", insert.target),
                )
                .with_hint("create a sink without AS, then INSERT INTO it"));
            }
            Some(_) => {
                return Err(Error::new(ErrorKind::InvalidState, format!("'{}' is not a table or sink", insert.target))
                    .with_hint("INSERT adds rows to a table, or begins to write to a sink"));
            }
            None => return Err(unknown(&insert.target)),
        };
        let Some(query) = insert
            .query
            .as_ref()
            .filter(|_| insert.alias.is_none() && insert.on_conflict.is_none() && insert.returning.is_empty())
        else {
            return Err(Error::not_supported(format!(
                "an INSERT into the sink '{}' takes a query alone",
                insert.target
            ))
            .with_hint("write INSERT INTO sink [(columns)] SELECT …"));
        };
        let columns = match (insert.columns.as_slice(), definition.columns()) {
            ([], Some(schema)) => {
                let given = self.planner.result_schema(query)?.fields().len();
                if given > schema.fields().len() {
                    return Err(Error::invalid(format!(
                        "INSERT has {given} columns, and sink '{}' has {}",
                        insert.target,
                        schema.fields().len()
                    )));
                }
                schema.fields().iter().take(given).map(|field| field.name().clone()).collect()
            }
            (named, _) => named.to_vec(),
        };
        let query = renamed(query, own_columns(query, &columns)?)?;
        let mut plan = self.planner.plan_for(&query, destination(&*definition), None)?;
        self.fit_late_rows(&mut plan)?;
        definition.open(&sink_input(&plan))?;
        let mut uses = plan.reads.clone();
        uses.push(insert.target.clone());
        let parts = Parts::Insert { definition, plan: Box::new(plan) };
        Ok(Made { kind: ObjectKind::Insert, uses, descriptor: None, parts })
    }

    fn create_insert(&self, insert: &Insert, parsed: &ParsedStatement) -> Result<()> {
        let made = self.make(&parsed.statement, None)?;
        let name = (1..)
            .map(|number| format!("{}_insert_{number}", insert.target))
            .find(|name| self.catalog.get(name).is_none())
            .ok_or_else(|| Error::internal("no name is left"))?;
        let object = self.catalog.create(NewObject {
            kind: made.kind,
            name: name.clone(),
            sql: parsed.text.clone(),
            dialect: parsed.dialect,
            uses: made.uses.clone(),
            descriptor: None,
            has_job: true,
            created_at_micros: self.clock.now_micros(),
        })?;
        if let Err(error) = self.bring_up(&object, made) {
            self.catalog.remove(&[name])?;
            return Err(error);
        }
        Ok(())
    }

    /// Makes an object live, and starts its job if it should run.
    fn bring_up(&self, object: &Object, made: Made) -> Result<()> {
        let status = object.job.map(|job| {
            let now = self.clock.now_micros();
            Arc::new(JobStatus::new(job.id, &object.name, object.kind, job.desired, now))
        });
        let run = object.job.is_some_and(|job| job.desired == DesiredState::Running);
        let job = || status.clone().ok_or_else(|| Error::internal(format!("'{}' has no job", object.name)));
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
                if run {
                    self.start_job(&job, &plan, Target::View(Arc::clone(&view)))?;
                }
                Live::MaterializedView { relation, view, job }
            }
            Parts::Sink { definition, own: None } => Live::Sink { definition, own: None },
            Parts::Sink { definition, own: Some(plan) } => {
                let job = job()?;
                if run {
                    self.start_job(&job, &plan, Target::Sink(definition.open(&sink_input(&plan))?))?;
                }
                Live::Sink { definition, own: Some(job) }
            }
            Parts::Insert { definition, plan } => {
                let job = job()?;
                if run {
                    self.start_job(&job, &plan, Target::Sink(definition.open(&sink_input(&plan))?))?;
                }
                Live::Insert { job }
            }
        };
        self.live.insert(&object.name, live);
        Ok(())
    }

    fn start_job(&self, job: &Arc<JobStatus>, plan: &ContinuousPlan, target: Target) -> Result<()> {
        crate::job::start(&self.pool, &self.live, job, &plan.flow, target, self.limits()).map(|_| ())
    }

    /// Brings back what the catalog knows, in order of creation. An object that can't be brought back is kept, shown
    /// with the reason, and can be dropped.
    pub(crate) fn recover(&self) {
        let known: Vec<_> = self.catalog.objects().iter().map(|object| object.id).collect();
        if let Err(error) = self.tables.keep_only(&known) {
            tracing::warn!("what is left of dropped tables could not be removed: {error}");
        }
        for object in self.catalog.objects() {
            let made = self
                .catalog
                .descriptor(object.id)
                .and_then(|descriptor| self.make(&definition(&object)?, descriptor.as_deref()));
            let brought = made.and_then(|made| self.bring_up(&object, made));
            match (brought, object.job) {
                (Ok(()), Some(job)) if job.desired == DesiredState::Running => tracing::warn!(
                    job = %object.name,
                    "begins again at its configured start: positions and state do not survive a restart yet"
                ),
                (Ok(()), _) => {}
                (Err(error), job) => {
                    tracing::error!(object = %object.name, "cannot be brought back: {error}");
                    let job = job.map(|job| {
                        let now = self.clock.now_micros();
                        let status = JobStatus::new(job.id, &object.name, object.kind, job.desired, now);
                        crate::connector::Reporter::fail(&status, error.clone());
                        Arc::new(status)
                    });
                    self.live.insert(&object.name, Live::Broken { error, job });
                }
            }
        }
    }

    fn drop_objects(&self, drop: &DropObjects) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        for name in &drop.names {
            let Some(object) = self.catalog.get(name) else {
                if drop.if_exists {
                    notices.push(format!("'{name}' does not exist, skipping"));
                    continue;
                }
                return Err(unknown(name));
            };
            if !fits(drop.kind, &object) {
                return Err(Error::new(
                    ErrorKind::InvalidState,
                    format!("'{name}' is a {}, not a {}", object.kind.word(), word(drop.kind)),
                )
                .with_hint(format!("write DROP {} {}", object.kind.sql(), quoted(name))));
            }
            let dependants = self.catalog.dependants(name);
            if !drop.cascade && !dependants.is_empty() {
                let list: Vec<String> =
                    dependants.iter().map(|user| format!("{} '{}'", user.kind.word(), user.name)).collect();
                return Err(Error::new(
                    ErrorKind::DependentObjects,
                    format!("'{name}' cannot be dropped: {} use it", list.join(", ")),
                )
                .with_hint("drop them first, or write CASCADE"));
            }
            for user in &dependants {
                notices.push(format!("drop cascades to {} {}", user.kind.word(), user.name));
            }
            let names: Vec<String> =
                dependants.into_iter().map(|user| user.name).chain(std::iter::once(name.clone())).collect();
            self.remove_objects(&names)?;
        }
        Ok(notices)
    }

    /// Removes objects, users before what they use.
    pub(super) fn remove_objects(&self, names: &[String]) -> Result<()> {
        // The catalog first: a crash in between must not bring back what the user saw go.
        self.catalog.remove(names)?;
        for name in names {
            let Some(live) = self.live.remove(name) else { continue };
            if let Some(job) = live.job() {
                self.stop_dataflow(job)?;
            }
            if let Live::Table { table, .. } = &live {
                self.tables.remove(table)?;
            }
        }
        Ok(())
    }

    /// The columns that a view's query has now.
    pub(super) fn columns_of(&self, object: &Object) -> Result<Option<SchemaRef>> {
        Ok(match self.make(&definition(object)?, None)?.parts {
            Parts::View { relation } => Some(Arc::clone(&relation.schema)),
            Parts::MaterializedView { plan } => Some(Arc::clone(&plan.schema)),
            _ => None,
        })
    }

    /// Takes a job's dataflow out of the pool, if it is there.
    fn stop_dataflow(&self, job: &Arc<JobStatus>) -> Result<()> {
        if !job.take_built() {
            return Ok(());
        }
        job.enter(JobState::Stopping);
        self.pool.drop_job(JobId(job.id))
    }

    /// Takes a job's dataflow out of the pool when all that it has read is written; answers whether it was in time.
    fn drain_dataflow(&self, job: &Arc<JobStatus>) -> Result<bool> {
        if !job.take_built() {
            return Ok(true);
        }
        let had_failed = job.view().state == JobState::Failed;
        job.enter(JobState::Stopping);
        Ok(self.pool.stop_job(JobId(job.id), self.settings.stop_timeout)? || had_failed)
    }

    fn alter_job(&self, name: &str, action: JobAction) -> Result<Vec<String>> {
        let Some(live) = self.live.get(name) else { return Err(unknown(name)) };
        let Some(job) = live.job().cloned() else {
            return Err(Error::new(ErrorKind::InvalidState, format!("'{name}' has no job")));
        };
        let readers: Vec<String> = self
            .catalog
            .dependants(name)
            .into_iter()
            .filter(|user| {
                self.live.get(&user.name).and_then(|live| live.job().map(|job| job.is_built())).unwrap_or(false)
            })
            .map(|user| user.name)
            .collect();
        if !readers.is_empty() {
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
                let written = self.drain_dataflow(&job)?;
                job.enter(JobState::Stopped);
                let timeout = self.settings.stop_timeout;
                let lost =
                    format!("job '{name}' had not written all that it had read after {timeout:?}: the rest is lost");
                Ok(if written { Vec::new() } else { vec![lost] })
            }
            JobAction::Start => {
                let state = job.view().state;
                if matches!(state, JobState::Starting | JobState::Hydrating | JobState::Running | JobState::Waiting) {
                    return Err(Error::new(ErrorKind::InvalidState, format!("job '{name}' runs already")));
                }
                let Some(object) = self.catalog.get(name) else { return Err(unknown(name)) };
                self.catalog.set_desired(name, DesiredState::Running)?;
                self.stop_dataflow(&job)?;
                let descriptor = self.catalog.descriptor(object.id)?;
                let made = self.make(&definition(&object)?, descriptor.as_deref())?;
                let object = Object {
                    job: object.job.map(|job| crate::catalog::JobRecord { desired: DesiredState::Running, ..job }),
                    ..object
                };
                self.bring_up(&object, made).map(|()| Vec::new())
            }
        }
    }

    /// Completes an epoch in every job with all that its sources have to read now, and all that is committed in tables.
    pub(crate) fn flush(&self) -> Result<()> {
        let committed = self.tables.durable();
        for (_, live) in self.live.all() {
            let runs = |job: &&Arc<JobStatus>| matches!(job.view().state, JobState::Hydrating | JobState::Running);
            let Some(job) = live.job().filter(runs) else { continue };
            // An epoch that was open already may have an earlier bound.
            while self.tables.bound(self.pool.step(JobId(job.id))?)? < committed {}
        }
        Ok(())
    }
}

/// What a correction can look like in a sink.
pub(super) fn destination(sink: &dyn SinkDefinition) -> Destination {
    if sink.upserts() { Destination::Upserts } else { Destination::Appends }
}

/// Of the columns that an INSERT fills, those of its query. The columns of a changelog are called as they are.
fn own_columns<'a>(query: &Query, columns: &'a [String]) -> Result<&'a [String]> {
    let is_stream = query.emit.as_ref().is_some_and(|emit| emit.stream);
    let Some((own, last)) = columns.split_last_chunk::<3>().filter(|_| is_stream) else { return Ok(columns) };
    if last == &["undo", "ptime", "ver"] {
        return Ok(own);
    }
    Err(Error::invalid(format!(
        "EMIT STREAM gives the columns undo, ptime and ver, and INSERT calls them {}",
        last.join(", ")
    ))
    .with_hint("name undo, ptime and ver last in the list of columns; the sink has columns of these names"))
}

/// The statement that made an object, read as it was then.
fn definition(object: &Object) -> Result<Statement> {
    Ok(sql::parse_one_in(&object.sql, object.dialect)?.statement)
}

/// What is written to the sink of a plan.
fn sink_input(plan: &ContinuousPlan) -> SinkInput {
    SinkInput { schema: Arc::clone(&plan.schema), changelog: plan.properties().changelog }
}

/// A view's contents and what the planner is told of it.
fn materialized(name: &str, plan: &ContinuousPlan) -> (Arc<View>, Arc<Relation>) {
    let relation = plan.relation(name);
    let view = View::new(name, Arc::clone(&plan.schema), relation.keys.clone(), relation.changelog);
    (view, Arc::new(relation))
}

/// The query with its first columns renamed; EMIT stays outside.
fn renamed(query: &Query, columns: &[String]) -> Result<Query> {
    if columns.is_empty() {
        return Ok(query.clone());
    }
    let names: Vec<String> = columns.iter().map(|name| quoted(name).to_string()).collect();
    let text = format!("SELECT * FROM ({}) AS renamed ({})", query.body, names.join(", "));
    let mut outer = sql::parse_query(&text)?;
    outer.emit.clone_from(&query.emit);
    Ok(outer)
}

fn fits(kind: sql::ObjectKind, object: &Object) -> bool {
    match kind {
        sql::ObjectKind::Stream => object.kind == ObjectKind::Stream,
        sql::ObjectKind::Table => object.kind == ObjectKind::Table,
        sql::ObjectKind::View => object.kind == ObjectKind::View,
        sql::ObjectKind::MaterializedView => object.kind == ObjectKind::MaterializedView,
        sql::ObjectKind::Sink => object.kind == ObjectKind::Sink,
        // A job is dropped with the object that it maintains.
        sql::ObjectKind::Job => object.job.is_some(),
    }
}

fn word(kind: sql::ObjectKind) -> &'static str {
    match kind {
        sql::ObjectKind::Stream => "stream",
        sql::ObjectKind::Table => "table",
        sql::ObjectKind::View => "view",
        sql::ObjectKind::MaterializedView => "materialized view",
        sql::ObjectKind::Sink => "sink",
        sql::ObjectKind::Job => "job",
    }
}
