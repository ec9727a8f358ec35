//! CREATE and DROP, and who runs ALTER.
//!
//! A definition is checked whole before the catalog hears of it, and durable before the statement is answered. One
//! definition changes at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{ColumnDef, ColumnOption};

use super::job_options::without_job_options;
use crate::catalog::{NewObject, Object, ObjectKind, unknown};
use crate::checkpoint::is_job_option;
use crate::connector::definition::{Definition, SinkDefinition, SinkInput, StreamDefinition};
use crate::connector::registry;
use crate::dataflow::{JobId, View};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobState, JobStatus, Live};
use crate::plan::{ContinuousPlan, Destination, Planner, Relation, STATE_TTL, StateTtl};
use crate::sql::{
    self, CreateSink, CreateStream, CreateTable, CreateView, Dialect, DropObjects, Insert, ParsedStatement, Query,
    Statement, quoted,
};
use crate::table::TableDefinition;

use super::table::{self, Checked};

/// Runs a statement that changes definitions; answers with what the user should know.
pub(crate) fn run(engine: &Arc<Engine>, parsed: &ParsedStatement) -> Result<Vec<String>> {
    let _one_at_a_time = engine.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let (name, if_not_exists) = match &parsed.statement {
        Statement::CreateStream(stream) => (&stream.name, stream.if_not_exists),
        Statement::CreateTable(table) => (&table.name, table.if_not_exists),
        Statement::AlterTable(alter) => return engine.alter_table(alter),
        Statement::CreateView(view) => (&view.name, view.if_not_exists),
        Statement::CreateSink(sink) => (&sink.name, sink.if_not_exists),
        Statement::Insert(insert) => return engine.create_insert(insert, parsed).map(|()| Vec::new()),
        Statement::Drop(drop) => return engine.drop_objects(drop),
        Statement::AlterJob { name, action } => return engine.alter_job(name, action),
        Statement::Checkpoint(name) => return engine.checkpoint(name.as_deref()).map(|()| Vec::new()),
        Statement::CreateSavepoint(savepoint) => return engine.create_savepoint(savepoint).map(|()| Vec::new()),
        Statement::DropSavepoint { savepoint, if_exists } => return engine.drop_savepoint(savepoint, *if_exists),
        other => return Err(Error::internal(format!("{} defines nothing", other.tag()))),
    };
    if let Err(taken) = engine.catalog.check_free(name) {
        return if if_not_exists { Ok(vec![format!("{}, skipping", taken.message())]) } else { Err(taken) };
    }
    let made = engine.make(&parsed.statement, Before::default())?;
    let (sql, dialect) = match made.text() {
        Some(text) => (text, Dialect::Postgres),
        None => (parsed.text.clone(), parsed.dialect),
    };
    let notices = engine.delivery_notice(name, &made.parts).into_iter().chain(made.notices()).collect();
    let object = engine.catalog.create(NewObject {
        kind: made.kind,
        name: name.clone(),
        sql,
        dialect,
        uses: made.uses.clone(),
        descriptor: made.descriptor.clone(),
        schemas: if made.has_job() { engine.versions_of(&made.uses) } else { BTreeMap::new() },
        has_job: made.has_job(),
        created_at_micros: engine.clock.now_micros(),
    })?;
    if let Err(error) = engine.bring_up(&object, made) {
        engine.forget_new(&object)?;
        return Err(error);
    }
    Ok(notices)
}

/// What the catalog knows of an object that is not new.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Before<'a> {
    /// What it kept beside the statement.
    pub(super) descriptor: Option<&'a [u8]>,
    /// By which versions of the streams' schemas its job reads; `None`: by those of now.
    pub(super) schemas: Option<&'a BTreeMap<String, u64>>,
}

impl<'a> Before<'a> {
    pub(super) fn of(object: &'a Object, descriptor: Option<&'a [u8]>) -> Self {
        Self { descriptor, schemas: Some(&object.schemas) }
    }
}

/// An object that is checked and not yet known to anyone.
pub(super) struct Made {
    kind: ObjectKind,
    uses: Vec<String>,
    descriptor: Option<Vec<u8>>,
    pub(super) parts: Parts,
}

pub(super) enum Parts {
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
    /// What the user should know of its query.
    fn notices(&self) -> Vec<String> {
        match &self.parts {
            Parts::MaterializedView { plan } | Parts::Insert { plan, .. } => plan.notices.clone(),
            Parts::Sink { own: Some(plan), .. } => plan.notices.clone(),
            _ => Vec::new(),
        }
    }

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

    /// Checks a definition. `before` is what the catalog knows of an object that is not new.
    pub(super) fn make(&self, statement: &Statement, before: Before<'_>) -> Result<Made> {
        let Before { descriptor, schemas } = before;
        let planner = match schemas {
            Some(schemas) => &self.planner_as_of(schemas)?,
            None => &self.planner,
        };
        match statement {
            Statement::CreateStream(stream) => self.make_stream(stream, descriptor),
            Statement::CreateTable(table) => self.make_table(table, descriptor),
            Statement::CreateView(view) => self.make_view(planner, view),
            Statement::CreateSink(sink) => self.make_sink(planner, sink, descriptor),
            Statement::Insert(insert) => self.make_insert(planner, insert),
            other => Err(Error::internal(format!("{} defines nothing", other.tag()))),
        }
    }

    fn make_stream(&self, stream: &CreateStream, descriptor: Option<&[u8]>) -> Result<Made> {
        let columns = self.declared_columns(&stream.columns)?;
        let options = stream.options.to_map();
        let schemas = self.schemas_folder();
        let definition = registry::define_stream(&Definition {
            name: &stream.name,
            options: &options,
            descriptor,
            columns: columns.as_ref(),
            schemas: schemas.as_deref(),
        })
        .map_err(|error| error.context(format!("stream '{}'", stream.name)))?;
        let relation = self.stream_relation(stream, &*definition)?;
        let descriptor = definition.descriptor();
        Ok(Made {
            kind: ObjectKind::Stream,
            uses: Vec::new(),
            descriptor,
            parts: Parts::Stream { relation, definition },
        })
    }

    /// The columns that a stream or sink declares; `None` if it declares none.
    fn declared_columns(&self, columns: &[ColumnDef]) -> Result<Option<SchemaRef>> {
        if columns.is_empty() {
            return Ok(None);
        }
        for column in columns {
            let other = column.options.iter().find(|o| !matches!(o.option, ColumnOption::Null | ColumnOption::NotNull));
            if let Some(other) = other {
                return Err(Error::not_supported(format!(
                    "the column {} of a stream or sink can't be {}",
                    column.name, other.option
                ))
                .with_hint("a column has a type and perhaps NOT NULL; a table's key is the option key = '…'"));
            }
        }
        Ok(Some(Arc::new(self.planner.column_schema(columns)?)))
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

    fn make_view(&self, planner: &Planner, view: &CreateView) -> Result<Made> {
        if view.materialized {
            self.check_job_options(&view.options)?;
            let mut plan = planner.plan_materialized_view(&without_job_options(view))?;
            self.fit_late_rows(&mut plan)?;
            let parts = Parts::MaterializedView { plan: Box::new(plan.clone()) };
            return Ok(Made { kind: ObjectKind::MaterializedView, uses: plan.reads, descriptor: None, parts });
        }
        let (relation, uses) = planner.plan_view(view)?;
        let parts = Parts::View { relation: Arc::new(relation) };
        Ok(Made { kind: ObjectKind::View, uses, descriptor: None, parts })
    }

    fn make_sink(&self, planner: &Planner, sink: &CreateSink, descriptor: Option<&[u8]>) -> Result<Made> {
        let columns = self.declared_columns(&sink.columns)?;
        if let (Some(_), Some(column)) = (&sink.query, sink.columns.first()) {
            return Err(Error::invalid(format!(
                "the columns of sink '{}' come from its query, and '{}' is declared beside them",
                sink.name, column.name
            ))
            .with_hint("leave the columns out"));
        }
        self.check_job_options(&sink.options)?;
        let mut options = sink.options.to_map();
        if let Some(name) = options.keys().find(|name| is_job_option(name)).filter(|_| sink.query.is_none()) {
            return Err(Error::invalid(format!("sink '{}' has no job of its own that {name} could be of", sink.name))
                .with_hint(
                    "leave it out, or give the sink a query with AS; a job that writes to it has options by ALTER JOB",
                ));
        }
        options.retain(|name, _| !is_job_option(name));
        let state_ttl = StateTtl::taken(&mut options);
        if !state_ttl.is_empty() && sink.query.is_none() {
            return Err(Error::invalid(format!(
                "sink '{}' has no query whose state {STATE_TTL} could bound",
                sink.name
            ))
            .with_hint("leave it out, or give the sink a query with AS"));
        }
        let schemas = self.schemas_folder();
        let definition = registry::define_sink(&Definition {
            name: &sink.name,
            options: &options,
            descriptor,
            columns: columns.as_ref(),
            schemas: schemas.as_deref(),
        })
        .map_err(|error| error.context(format!("sink '{}'", sink.name)))?;
        let exactly_once = self.writes_exactly_once(&sink.name, &*definition)?;
        let descriptor = definition.descriptor();
        let (uses, own) = match &sink.query {
            None => (Vec::new(), None),
            Some(query) => {
                let mut plan = planner.plan_for(query, destination(&*definition), &state_ttl)?;
                self.fit_late_rows(&mut plan)?;
                // Opened once for the check alone: a column that does not fit is an error here.
                definition.open(&sink_input(&plan, exactly_once))?;
                (plan.reads.clone(), Some(Box::new(plan)))
            }
        };
        Ok(Made { kind: ObjectKind::Sink, uses, descriptor, parts: Parts::Sink { definition, own } })
    }

    fn make_insert(&self, planner: &Planner, insert: &Insert) -> Result<Made> {
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
                let given = planner.result_schema(query)?.fields().len();
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
        let mut plan = planner.plan_for(&query, destination(&*definition), &StateTtl::default())?;
        self.fit_late_rows(&mut plan)?;
        let exactly_once = self.writes_exactly_once(&insert.target, &*definition)?;
        definition.open(&sink_input(&plan, exactly_once))?;
        let mut uses = plan.reads.clone();
        uses.push(insert.target.clone());
        let parts = Parts::Insert { definition, plan: Box::new(plan) };
        Ok(Made { kind: ObjectKind::Insert, uses, descriptor: None, parts })
    }

    fn create_insert(&self, insert: &Insert, parsed: &ParsedStatement) -> Result<()> {
        let made = self.make(&parsed.statement, Before::default())?;
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
            schemas: self.versions_of(&made.uses),
            has_job: true,
            created_at_micros: self.clock.now_micros(),
        })?;
        if let Err(error) = self.bring_up(&object, made) {
            self.forget_new(&object)?;
            return Err(error);
        }
        Ok(())
    }

    /// A new object could not be brought up: nothing of it stays.
    fn forget_new(&self, object: &Object) -> Result<()> {
        self.catalog.remove(std::slice::from_ref(&object.name))?;
        if let Some(checkpoints) = &self.checkpoints
            && let Err(error) = checkpoints.drop_job(object.id)
        {
            tracing::warn!(object = %object.name, "what was begun of its checkpoints could not be deleted: {error}");
        }
        Ok(())
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
        let ids: Vec<_> = names.iter().map(|name| self.catalog.get(name).map(|object| object.id)).collect();
        // The catalog first: a crash in between must not bring back what the user saw go.
        self.catalog.remove(names)?;
        for (name, id) in names.iter().zip(ids) {
            let Some(live) = self.live.remove(name) else { continue };
            if let Some((job, id)) = live.job().zip(id) {
                self.stop_dataflow(id, job)?;
                if let Some(checkpoints) = &self.checkpoints
                    && let Err(error) = checkpoints.drop_job(id)
                {
                    tracing::warn!(job = %name, "its checkpoints could not be deleted: {error}");
                }
            }
            if let Live::Table { table, .. } = &live {
                self.tables.remove(table)?;
            }
        }
        Ok(())
    }

    /// The columns that a view's query has now.
    pub(super) fn columns_of(&self, object: &Object) -> Result<Option<SchemaRef>> {
        Ok(match self.make(&definition(object)?, Before::of(object, None))?.parts {
            Parts::View { relation } => Some(Arc::clone(&relation.schema)),
            Parts::MaterializedView { plan } => Some(Arc::clone(&plan.schema)),
            _ => None,
        })
    }

    /// The plan of an object's job, made again.
    pub(super) fn plan_again(&self, object: &Object) -> Result<Option<Box<ContinuousPlan>>> {
        let descriptor = self.catalog.descriptor(object.id)?;
        let made = self.make(&definition(object)?, Before::of(object, descriptor.as_deref()))?;
        Ok(match made.parts {
            Parts::MaterializedView { plan } | Parts::Insert { plan, .. } => Some(plan),
            Parts::Sink { own, .. } => own,
            Parts::Stream { .. } | Parts::Table { .. } | Parts::View { .. } => None,
        })
    }

    /// Lets readers of a view see the columns that it has now.
    pub(super) fn renew_view(&self, object: &Object) -> Result<()> {
        let made = self.make(&definition(object)?, Before::default())?;
        if let Parts::View { relation } = made.parts {
            self.live.insert(&object.name, Live::View { relation });
        }
        Ok(())
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
pub(super) fn definition(object: &Object) -> Result<Statement> {
    Ok(sql::parse_one_in(&object.sql, object.dialect)?.statement)
}

/// What is written to the sink of a plan.
pub(super) fn sink_input(plan: &ContinuousPlan, exactly_once: bool) -> SinkInput {
    SinkInput { schema: Arc::clone(&plan.schema), changelog: plan.properties().changelog, exactly_once }
}

/// A view's contents and what the planner is told of it.
pub(super) fn materialized(name: &str, plan: &ContinuousPlan) -> (Arc<View>, Arc<Relation>) {
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
