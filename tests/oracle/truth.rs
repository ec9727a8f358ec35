//! The batch answer: DataFusion over all that came.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder, TaskContext};
use datafusion::functions::math::expr_fn::random;
use datafusion::logical_expr::{
    Aggregate, ColumnarValue, Expr, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, Window,
};
use datafusion::optimizer::Optimizer;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionConfig;

use super::multiset::Multiset;
use super::row::schema;
use super::statement::{Statement, WindowSource, Windows};
use super::table::{SECOND, Table, normalised, times};

/// DataFusion, with its own settings and without the rules that are known to be wrong. One answers many statements: to make a
/// session costs more than to run most of them, and so does to copy one.
pub(crate) struct Batch {
    session: SessionState,
    task: Arc<TaskContext>,
    tables: Arc<dyn SchemaProvider>,
}

impl Batch {
    /// With functions beside its own.
    pub(crate) fn new(functions: impl Iterator<Item = Arc<ScalarUDF>>) -> Self {
        // The inputs of a UNION are sorted one by one otherwise, and share the bound of the first rows by different orders.
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_repartition_sorts(false)
            .set_str("datafusion.sql_parser.dialect", "PostgreSQL");
        // The first moves conditions without columns below an aggregate that has a row whatever is below it; the second has
        // all joins that it takes apart take NULLs for equal, or none, as the topmost does; the third fails where two keys
        // differ by a cast only; the last drops keys of a GROUP BY that only seem to be determined by others.
        let wrong = ["push_down_filter", "eliminate_cross_join", "eliminate_group_by_constant", "optimize_projections"];
        let logical = Optimizer::new().rules.into_iter().filter(|rule| !wrong.contains(&rule.name()));
        // This one pushes conditions below the wrong side of outer joins: `right_joins_are_filtered` in the engine's batch.
        let rules =
            PhysicalOptimizer::new().rules.into_iter().filter(|rule| !rule.name().starts_with("FilterPushdown"));
        let mut session = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_optimizer_rules(logical.collect())
            .with_physical_optimizer_rules(rules.collect())
            .build();
        functions.for_each(|function| {
            session.register_udf(function).unwrap();
        });
        let tables = session.schema_for_ref("t0").unwrap();
        Self { task: session.task_ctx(), session, tables }
    }

    /// The statement's answers over tables (`t0`, …) and what stands for the statement's windows (`w0`, …): one for each of
    /// the states that the tables are in, and for the time of day of each. It is planned once, unless it asks for the time:
    /// what a logical plan reads is changed below it.
    pub(crate) async fn answers(&self, statement: &Statement, states: &[(&[Table], i64)]) -> Result<Vec<Multiset>> {
        let mut read: Vec<Arc<MemTable>> = Vec::new();
        for (name, schema, rows) in known(statement, states[0].0) {
            let table = Arc::new(MemTable::try_new(schema, vec![rows])?);
            self.tables.deregister_table(&name)?;
            self.tables.register_table(name, Arc::clone(&table) as Arc<dyn TableProvider>)?;
            read.push(table);
        }
        let mut plan = self.planned(statement, states[0].1).await?;
        let mut answers = Vec::new();
        for (number, (tables, now)) in states.iter().enumerate() {
            if number > 0 {
                if statement.reads_clock() {
                    plan = self.planned(statement, *now).await?;
                }
                for (table, (.., rows)) in read.iter().zip(known(statement, tables)) {
                    *table.batches[0].write().await = rows;
                }
            }
            let physical = self.session.query_planner().create_physical_plan(&plan, &self.session).await?;
            let mut answer = Multiset::default();
            for rows in collect(physical, Arc::clone(&self.task)).await? {
                answer.add(&rows, |_| 1);
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn planned(&self, statement: &Statement, now: i64) -> Result<LogicalPlan> {
        let plan = self.session.create_logical_plan(&keys_as_written(&statement.at(now).batch_sql)).await?;
        self.session.optimize(&unknowing(plan)?)
    }
}

/// The statement, in which no group's key determines a column: DataFusion adds what keys seem to determine to the keys of the next
/// GROUP BY. Now a constant that nobody selects is among them.
fn keys_as_written(sql: &str) -> String {
    let mut parts = sql.split("GROUP BY ");
    let mut said = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let sets = ["CUBE", "ROLLUP", "GROUPING"].iter().any(|sets| part.starts_with(sets));
        said.push_str(if sets { "GROUP BY " } else { "GROUP BY 'a key', " });
        said.push_str(part);
    }
    said
}

/// A column, of which nothing is known any more.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Hidden(Signature);

impl ScalarUDFImpl for Hidden {
    fn name(&self) -> &str {
        "hidden"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::clone(&arguments.arg_fields[0]))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(arguments.args[0].clone())
    }
}

/// The plan, in which grouping sets and OVER know nothing of their inputs. DataFusion believes that a column with one value
/// has it behind grouping sets as well; where rows stand in the opposite order of an OVER it goes through them from the end, and
/// collects lists from there; and a frame that ends with the peers of a row without a key is only whole if these come at once, as
/// they do from a sort. The column that IN compares with has a name of its own: columns of conditions come beside it, and one of
/// them may be what it is a cast of.
fn unknowing(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Aggregate(of) if matches!(of.group_expr[..], [Expr::GroupingSet(_)]) => {
            let input = Arc::new(hidden(of.input)?);
            Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, of.group_expr, of.aggr_expr)?)))
        }
        LogicalPlan::Window(of) => {
            let input = Arc::new(hidden(of.input)?);
            Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(of.window_expr, input)?)))
        }
        other => other.map_expressions(|expr| expr.transform_up(|expr| Ok(Transformed::yes(compared(expr)?)))),
    })?;
    Ok(plan.data)
}

fn compared(expr: Expr) -> Result<Expr> {
    let Expr::InSubquery(mut of) = expr else { return Ok(expr) };
    if let LogicalPlan::Projection(head) = &*of.subquery.subquery {
        let column = head.expr[0].clone().alias("compared");
        let named = Projection::try_new(vec![column], Arc::clone(&head.input))?;
        of.subquery = of.subquery.with_plan(Arc::new(LogicalPlan::Projection(named)));
    }
    Ok(Expr::InSubquery(of))
}

/// The rows behind a projection through which nothing can be known of a column: a function of what is not the same twice.
fn hidden(rows: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let hides = Arc::new(ScalarUDF::from(Hidden(Signature::any(2, Volatility::Volatile))));
    let columns = rows.schema().columns().into_iter().map(|column| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        hides.call(vec![Expr::Column(column), random()]).alias_qualified(relation, name)
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), rows)?))
}

/// What a statement's batch side reads.
pub(crate) fn known(statement: &Statement, tables: &[Table]) -> Vec<(String, SchemaRef, Vec<RecordBatch>)> {
    let mut known = Vec::new();
    for table in tables {
        known.push((table.name.clone(), schema(), table.rows()));
    }
    for (number, source) in statement.windows.iter().enumerate() {
        let Some(table) = tables.iter().find(|table| table.name == source.table) else { continue };
        let (schema, rows) = windowed(source, table);
        known.push((format!("w{number}"), schema, rows));
    }
    known.iter_mut().for_each(|(.., rows)| *rows = rows.iter().map(normalised).collect());
    known
}

/// A table's rows with the bounds of the windows that count them.
fn windowed(source: &WindowSource, table: &Table) -> (SchemaRef, Vec<RecordBatch>) {
    let rows = table.rows_and_watermarks();
    match source.windows {
        Windows::InTime => (schema(), rows.iter().map(|(rows, before)| in_time(rows, *before)).collect()),
        Windows::Session { gap, keyed } => (windowed_schema(), vec![sessions(&rows, gap * SECOND, keyed)]),
        windows => {
            // A window takes rows until the watermark has passed its end and the lateness that is allowed.
            let closed = |before: Option<i64>| before.map(|before| before - source.lateness * SECOND);
            let rows = rows.iter().map(|(rows, before)| expand(rows, windows, closed(*before))).collect();
            (windowed_schema(), rows)
        }
    }
}

fn windowed_schema() -> SchemaRef {
    let mut fields: Vec<Field> = schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    for name in ["window_start", "window_end"] {
        fields.push(Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, None), true));
    }
    Arc::new(Schema::new(fields))
}

/// The rows that did not lie below the watermark before they came.
fn in_time(rows: &RecordBatch, before: Option<i64>) -> RecordBatch {
    let kept = |time: Option<i64>| time.is_none_or(|time| before.is_none_or(|before| time >= before));
    let kept: BooleanArray = times(rows).iter().map(|time| Some(kept(time))).collect();
    filter_record_batch(rows, &kept).unwrap()
}

/// Each row with its session's bounds, of those that were not below the watermark before they came: those are late.
fn sessions(rows: &[(RecordBatch, Option<i64>)], gap: i64, keyed: bool) -> RecordBatch {
    let all = concat_batches(&schema(), rows.iter().map(|(rows, _)| rows)).unwrap();
    let before = rows.iter().flat_map(|(rows, before)| vec![*before; rows.num_rows()]);
    let keys = all.column(2).as_primitive::<Int64Type>();
    let mut order: Vec<(Option<i64>, i64, u32)> = Vec::new();
    for ((row, time), before) in times(&all).iter().enumerate().zip(before) {
        let key = (keyed && keys.is_valid(row)).then(|| keys.value(row));
        order.extend(
            time.filter(|time| before.is_none_or(|before| *time >= before)).map(|time| (key, time, row as u32)),
        );
    }
    order.sort_unstable();
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for session in order.chunk_by(|one, next| one.0 == next.0 && next.1 - one.1 < gap) {
        starts.extend(vec![session[0].1; session.len()]);
        ends.extend(vec![session[session.len() - 1].1 + gap; session.len()]);
    }
    let places = UInt32Array::from_iter_values(order.iter().map(|(_, _, row)| *row));
    with_bounds(&all, &places, starts, ends)
}

/// Each row once for every window that covers it and had not ended at watermark `before`: it is late for those that had.
/// A row without a time is in no window.
fn expand(rows: &RecordBatch, windows: Windows, before: Option<i64>) -> RecordBatch {
    let (mut places, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (row, time) in times(rows).iter().enumerate() {
        let covering = time.map(|time| windows.covering(time)).unwrap_or_default();
        for (start, end) in covering.into_iter().filter(|(_, end)| before.is_none_or(|before| *end > before)) {
            places.push(row as u32);
            starts.push(start);
            ends.push(end);
        }
    }
    with_bounds(rows, &UInt32Array::from(places), starts, ends)
}

fn with_bounds(rows: &RecordBatch, places: &UInt32Array, starts: Vec<i64>, ends: Vec<i64>) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = rows.columns().iter().map(|column| take(column, places, None).unwrap()).collect();
    columns.push(Arc::new(TimestampMicrosecondArray::from(starts)));
    columns.push(Arc::new(TimestampMicrosecondArray::from(ends)));
    RecordBatch::try_new(windowed_schema(), columns).unwrap()
}
