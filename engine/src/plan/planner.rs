//! The planner's door.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use datafusion::common::ParamValues;
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::planner::RelationPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::sql::{self, CreateView, Query, WatermarkClause};
use crate::time::WatermarkId;

use super::canonical::canonical;
use super::check::check;
use super::checked_sums::checked_sums;
use super::column_names::{Naming, shown_columns};
use super::context::{Context, renamed};
use super::emission::{Destination, Grouped, answered_once, changelog_fields, emission, fitted};
use super::event_time::interval_micros;
use super::explain::explain;
use super::fault::{planning_error, specified_twice};
use super::flow::{Emission, Emit, FlowPlan, FlowProperties};
use super::from::window_functions::relation_planners;
use super::functions::Functions;
use super::lower::{Lowering, Terms};
use super::outermost_order;
use super::relation::{Relation, RelationKind, Relations, WatermarkDefinition};
use super::rules::{optimized, options, typed};
use super::state_ttl::{Lengths, STATE_TTL, StateTtl};
use super::temporal_filter::rearranged;
use super::watermark::{planned, validated};

/// Plans queries over the relations that a catalog names.
#[derive(Clone)]
pub struct Planner {
    relations: Arc<dyn Relations>,
    functions: Arc<Functions>,
    options: Arc<ConfigOptions>,
    relation_planners: Arc<Vec<Arc<dyn RelationPlanner>>>,
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}

/// A query that can run continuously.
#[derive(Debug, Clone)]
pub struct ContinuousPlan {
    /// Its operators.
    pub flow: FlowPlan,
    /// Its columns.
    pub schema: SchemaRef,
    /// The same statement for [`crate::batch`], in canonical form: what the law compares with.
    pub batch: LogicalPlan,
    /// When its results are shown.
    pub emit: Emit,
    /// The names of all relations that it reads, views that were put in among them.
    pub reads: Vec<String>,
    /// What the user should know of it.
    pub notices: Vec<String>,
}

impl ContinuousPlan {
    /// What is known of its rows.
    pub fn properties(&self) -> FlowProperties {
        self.flow.root().map(|root| root.properties.clone()).unwrap_or_default()
    }

    /// The watermark that a materialized view of this query passes on with its changes, and the columns that grow with it,
    /// each with its delay: the view's [`Relation::time_columns`].
    pub fn passed_on(&self) -> Option<(WatermarkId, Vec<(usize, i64)>)> {
        let times = self.properties().time_columns;
        let watermark = times.first()?.watermark;
        let of_it = times.iter().filter(|time| time.watermark == watermark);
        Some((watermark, of_it.map(|time| (time.column, time.delay_micros)).collect()))
    }

    /// The relation that a materialized view of this query is.
    pub fn relation(&self, name: &str) -> Relation {
        let properties = self.properties();
        Relation {
            name: name.to_owned(),
            schema: Arc::clone(&self.schema),
            kind: RelationKind::MaterializedView,
            changelog: properties.changelog,
            keys: properties.keys,
            watermark: None,
            time_columns: self.passed_on().map(|(_, columns)| columns).unwrap_or_default(),
        }
    }

    /// EXPLAIN's text.
    pub fn explain(&self) -> String {
        explain(&self.flow)
    }
}

impl Planner {
    /// A planner over a catalog.
    pub fn new(relations: Arc<dyn Relations>, functions: Arc<Functions>) -> Self {
        Self { relations, functions, options: Arc::new(options()), relation_planners: Arc::new(relation_planners()) }
    }

    /// The functions that it knows.
    pub fn functions(&self) -> &Arc<Functions> {
        &self.functions
    }

    /// The same planner over another catalog.
    pub(crate) fn over(&self, relations: impl FnOnce(Arc<dyn Relations>) -> Arc<dyn Relations>) -> Self {
        Self { relations: relations(Arc::clone(&self.relations)), ..self.clone() }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context::new(&*self.relations, &self.functions, &self.options, &self.relation_planners)
    }

    /// A continuous query whose changes a subscriber hears.
    pub fn plan_continuous(&self, query: &Query) -> Result<ContinuousPlan> {
        self.plan_for(query, Destination::Subscriber, &StateTtl::default())
    }

    /// A continuous query whose result goes somewhere: `state_ttl` is what the statement's options say beside its hints.
    pub fn plan_for(&self, query: &Query, destination: Destination, state_ttl: &StateTtl) -> Result<ContinuousPlan> {
        self.continuous(query, &[], destination, state_ttl)
    }

    /// The continuous query of a materialized view: its columns are renamed as the statement says, and each has a name of
    /// its own.
    pub fn plan_materialized_view(&self, view: &CreateView) -> Result<ContinuousPlan> {
        view.options.allow(&[STATE_TTL, "state_ttl.*"])?;
        let state_ttl = StateTtl::taken(&mut view.options.to_map());
        self.continuous(&view.query, &view.columns, Destination::View, &state_ttl)
    }

    /// A plain view: its relation, if the query can be planned. It is not checked for running continuously: a plain view
    /// may serve snapshots only. The second value are the relations that it reads.
    pub fn plan_view(&self, view: &CreateView) -> Result<(Relation, Vec<String>)> {
        view.options.allow(&[])?;
        if let Some(emit) = &view.query.emit {
            return Err(Error::not_supported(format!("{emit} has no meaning in a view that is not materialized"))
                .with_hint("write CREATE MATERIALIZED VIEW, or write EMIT in the query that reads the view"));
        }
        if !sql::state_ttl_hints(&view.query.body)?.is_empty() {
            return Err(Error::not_supported("the hint STATE_TTL has no meaning in a view that is not materialized")
                .with_hint("write it in the query that reads the view"));
        }
        let context = self.context();
        let plan = renamed(context.plan(&view.query.body, Naming::Relation)?, &view.columns)?;
        // Types that do not fit are found where the view is read, or here.
        typed(canonical(rearranged(plan.clone())?)?, &self.options)?;
        let schema = Arc::clone(plan.schema().inner());
        distinct_names(&schema)?;
        let relation = Relation {
            name: view.name.clone(),
            schema,
            kind: RelationKind::View { query: sql::text_of(&view.query.body), columns: view.columns.clone() },
            changelog: false,
            keys: Vec::new(),
            watermark: None,
            time_columns: Vec::new(),
        };
        Ok((relation, context.into_named()))
    }

    /// The columns of a query, as a subscriber or a sink is given them.
    pub fn result_schema(&self, query: &Query) -> Result<SchemaRef> {
        let emission = self.emission(query)?;
        let plan = typed(canonical(self.context().plan(&query.body, Naming::Answer)?)?, &self.options)?;
        let own = shown_columns(plan.schema().inner());
        if !emission.stream {
            return Ok(own);
        }
        let fields = own.fields().iter().cloned().chain(changelog_fields());
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    /// A snapshot query, in canonical form, for [`crate::batch`]. Triggers change nothing in it: a snapshot is over complete
    /// data, so all windows are final. Parameters (`$1`) are put in if values are given.
    pub fn plan_batch(&self, query: &Query, parameters: Option<&[ScalarValue]>) -> Result<LogicalPlan> {
        self.bounded(query, parameters, Naming::Answer)
    }

    /// The rows of `CREATE TABLE … AS`, whose columns have different names.
    pub fn plan_table_as(&self, query: &Query, parameters: &[ScalarValue]) -> Result<LogicalPlan> {
        let plan = self.bounded(query, Some(parameters), Naming::Relation)?;
        distinct_names(plan.schema().inner())?;
        Ok(plan)
    }

    fn bounded(&self, query: &Query, parameters: Option<&[ScalarValue]>, naming: Naming) -> Result<LogicalPlan> {
        answered_once(self.emission(query)?)?;
        let plan = canonical(rearranged(self.context().plan(&query.body, naming)?)?)?;
        let plan = match parameters {
            // A parameter without a value may have no type that fits yet.
            None if !plan.get_parameter_names().map_err(planning_error)?.is_empty() => {
                typed(plan.clone(), &self.options).unwrap_or(plan)
            }
            None => typed(plan, &self.options)?,
            Some(values) => {
                let plan = plan.with_param_values(ParamValues::from(values.to_vec())).map_err(planning_error)?;
                typed(plan, &self.options)?
            }
        };
        checked_sums(plan)
    }

    /// The names of the relations that a snapshot query reads.
    pub fn reads(&self, query: &Query) -> Result<Vec<String>> {
        let context = self.context();
        context.plan(&query.body, Naming::Answer)?;
        Ok(context.into_named())
    }

    /// Checks `WATERMARK FOR column AS expression` against a stream's columns.
    pub fn validate_watermark(&self, schema: &Schema, clause: &WatermarkClause) -> Result<WatermarkDefinition> {
        validated(&self.context(), schema, &clause.column, &clause.expression).map_err(|error| {
            match (error.position(), clause.position) {
                (None, Some(position)) => error.at(position),
                _ => error,
            }
        })
    }

    /// The Arrow schema of column definitions. Timestamps count in microseconds, as PostgreSQL's do; those with a time
    /// zone are in UTC.
    pub fn column_schema(&self, columns: &[ast::ColumnDef]) -> Result<Schema> {
        let context = self.context();
        let schema = Arc::new(context.sql().build_schema(columns.to_vec()).map_err(planning_error)?);
        distinct_names(&schema)?;
        let fields = schema.fields().iter().zip(columns).map(|(field, column)| match &column.data_type {
            ast::DataType::Timestamp(_, zone) => {
                let zoned = matches!(zone, ast::TimezoneInfo::Tz | ast::TimezoneInfo::WithTimeZone);
                let data_type = DataType::Timestamp(TimeUnit::Microsecond, zoned.then(|| "+00:00".into()));
                field.as_ref().clone().with_data_type(data_type)
            }
            _ => field.as_ref().clone(),
        });
        Ok(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn emission(&self, query: &Query) -> Result<Emission> {
        let context = self.context();
        emission(query.emit.as_deref(), |interval| match planned(&context, &Schema::empty(), interval)? {
            Expr::Literal(value, _) => interval_micros(&value),
            other => {
                Err(Error::invalid(format!("{other} is not a constant interval"))
                    .with_hint("write INTERVAL '1' MINUTE"))
            }
        })
    }

    /// How long is remembered, as options and hints say.
    fn lengths(&self, said: &StateTtl, query: &Query) -> Result<Lengths> {
        let mut named = said.named.clone();
        for (name, ttl) in sql::state_ttl_hints(&query.body)? {
            if let Some(before) = named.insert(name.clone(), ttl.clone()) {
                return Err(Error::invalid(format!("{STATE_TTL} is said of '{name}' twice: '{before}' and '{ttl}'"))
                    .with_hint("leave the option or the hint out"));
            }
        }
        let named = named.into_iter().map(|(name, ttl)| Ok((name, self.state_ttl(&ttl)?)));
        Ok(Lengths {
            all: said.all.as_deref().map(|text| self.state_ttl(text)).transpose()?,
            named: named.collect::<Result<_>>()?,
        })
    }

    /// The length of `state_ttl = '1 day'`.
    fn state_ttl(&self, text: &str) -> Result<i64> {
        let invalid = || {
            Error::invalid(format!("the option {STATE_TTL} is a length of time, not '{text}'"))
                .with_hint("write state_ttl = '1 hour', '30 minutes' or '7 days'")
        };
        let interval = format!("INTERVAL '{}'", spelled_out(text).replace('\'', "''"));
        let interval = sql::parse_expression(&interval).map_err(|_| invalid())?;
        match planned(&self.context(), &Schema::empty(), &interval) {
            Ok(Expr::Literal(value, _)) => match interval_micros(&value) {
                Ok(micros) if micros > 0 => Ok(micros),
                _ => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }

    fn continuous(
        &self,
        query: &Query,
        columns: &[String],
        destination: Destination,
        state_ttl: &StateTtl,
    ) -> Result<ContinuousPlan> {
        let emission = fitted(self.emission(query)?, destination)?;
        let emit = emission.emit;
        let terms = Terms { emission, destination, state_ttl: self.lengths(state_ttl, query)? };
        let context = self.context();
        let naming = if destination == Destination::Subscriber { Naming::Answer } else { Naming::Relation };
        let (plan, was_ordered) = outermost_order::without(context.plan(&query.body, naming)?)?;
        let notices = was_ordered.then(|| outermost_order::IGNORED.to_owned()).into_iter().collect();
        let plan = renamed(plan, columns)?;
        if naming == Naming::Relation {
            distinct_names(plan.schema().inner())?;
        }
        check(&plan)?;
        let batch = typed(canonical(rearranged(plan)?)?, &self.options)?;
        let mut grouped = Grouped::new(batch.clone(), emission).map_err(planning_error)?;
        grouped.late_rows = query.emit.as_ref().and_then(|emit| emit.late_rows.clone());
        grouped.plan = optimized(grouped.plan, &self.options, grouped.late_rows.is_some())?;
        let watermark = |relation: &Relation| match &relation.watermark {
            None => Ok(None),
            Some(definition) => {
                let expression = sql::parse_expression(&definition.expression)?;
                planned(&context, &relation.schema, &expression).map(Some)
            }
        };
        let flow = Lowering::lower(&grouped, terms, &watermark)?;
        let batch = checked_sums(batch)?;
        let schema = match flow.root() {
            Some(root) if emission.stream => Arc::clone(root.schema.inner()),
            Some(root) => Arc::new(as_rows_are(batch.schema().inner(), root.schema.inner())),
            None => Arc::clone(batch.schema().inner()),
        };
        Ok(ContinuousPlan { flow, schema: shown_columns(&schema), batch, emit, reads: context.into_named(), notices })
    }
}

/// A length of time as SQL says it, also if Flink does: `1d`, `2 min`.
fn spelled_out(text: &str) -> String {
    let trimmed = text.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len()));
    let unit = match unit.trim() {
        "d" => "day",
        "h" => "hour",
        "m" | "min" => "minute",
        "s" | "sec" => "second",
        "ms" => "millisecond",
        _ => return text.to_owned(),
    };
    format!("{number} {unit}")
}

/// The columns with the types of the rows. What the rules have made of the plan knows them best: that a subquery as a value is
/// NULL where it has no row, and a scale that is computed from constants.
fn as_rows_are(columns: &Schema, rows: &Schema) -> Schema {
    let fields = columns.fields().iter().zip(rows.fields()).map(|(column, row)| {
        let nullable = column.is_nullable() || row.is_nullable();
        column.as_ref().clone().with_data_type(row.data_type().clone()).with_nullable(nullable)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The columns of what is known by their names must be told apart by them.
fn distinct_names(schema: &SchemaRef) -> Result<()> {
    let schema = shown_columns(schema);
    let fields = schema.fields();
    for (index, field) in fields.iter().enumerate() {
        if fields[..index].iter().any(|earlier| earlier.name() == field.name()) {
            return Err(specified_twice(field.name()));
        }
    }
    Ok(())
}

/// The columns of a snapshot's plan as they are shown: several may have one name.
pub fn answer_columns(plan: &LogicalPlan) -> SchemaRef {
    shown_columns(plan.schema().inner())
}
