//! A plain lowering of DataFusion's logical plans to flow plans, for the operators alone.
//!
//! It knows nothing of changelogs beyond what an aggregate makes. An aggregate that reads a window directly becomes a
//! windowed one, with the table's watermark, and what follows knows that its bounds grow; elsewhere windows are rows.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, DFSchemaRef, NullEquality, TableReference};
use datafusion::logical_expr::{Aggregate, Expr, JoinType, LogicalPlan};
use datafusion::scalar::ScalarValue;
use rondel_engine::plan::flow::{
    Emit, FlowNode, FlowOp, FlowPlan, FlowProperties, NodeIndex, ScanKind, ScanWatermark, TimeColumn, WatermarkOrigin,
    WindowKey, WindowSpec,
};
use rondel_engine::time::WatermarkId;

use super::statement::{Statement, WindowSource, Windows};
use super::table::SECOND;

/// The flow plan, or which construct has none here.
pub(crate) fn lower(plan: &LogicalPlan, statement: &Statement) -> Result<FlowPlan, String> {
    let mut flow = FlowPlan { nodes: Vec::new(), watermarks: Vec::new(), derived: Vec::new() };
    add(&mut flow, plan, statement)?;
    Ok(flow)
}

fn push(
    flow: &mut FlowPlan,
    op: FlowOp,
    inputs: Vec<NodeIndex>,
    schema: &DFSchemaRef,
    properties: FlowProperties,
) -> NodeIndex {
    let id = format!("n{}", flow.nodes.len());
    flow.nodes.push(FlowNode { id, op, inputs, schema: Arc::clone(schema), properties });
    flow.nodes.len() - 1
}

fn add(flow: &mut FlowPlan, plan: &LogicalPlan, statement: &Statement) -> Result<NodeIndex, String> {
    if let LogicalPlan::Aggregate(aggregate) = plan
        && let Some(node) = windowed_aggregate(flow, aggregate, statement)?
    {
        return Ok(node);
    }
    let mut inputs = Vec::new();
    for input in plan.inputs() {
        inputs.push(add(flow, input, statement)?);
    }
    let mut changelog = inputs.iter().any(|input| flow.nodes[*input].properties.changelog);
    let op = match plan {
        LogicalPlan::TableScan(scan) => {
            let name = scan.table_name.table();
            let projection = scan.projection.clone().ok_or("a scan of all columns")?;
            if name.starts_with('w') {
                return windowed(flow, plan, statement, &projection);
            }
            FlowOp::Scan { relation: name.to_owned(), kind: ScanKind::Stream, projection, watermark: None }
        }
        LogicalPlan::Projection(projection) => FlowOp::Project { expressions: projection.expr.clone() },
        LogicalPlan::Filter(filter) => FlowOp::Filter { predicate: filter.predicate.clone() },
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Union(_) => FlowOp::Union,
        LogicalPlan::Aggregate(aggregate) if !changelog => {
            changelog = true;
            FlowOp::Aggregate {
                group: aggregate.group_expr.clone(),
                aggregates: aggregate.aggr_expr.clone(),
                closes: None,
                emit: Emit::OnChange,
            }
        }
        LogicalPlan::Join(join) if join.join_type == JoinType::Inner && !join.on.is_empty() => FlowOp::Join {
            on: join.on.clone(),
            residual: join.filter.clone(),
            null_equals_null: join.null_equality == NullEquality::NullEqualsNull,
        },
        other => return Err(other.display().to_string()),
    };
    let time_columns = growing(flow, &op, &inputs);
    let properties = FlowProperties { changelog, keys: Vec::new(), time_columns };
    Ok(push(flow, op, inputs, plan.schema(), properties))
}

/// The columns of a node of one input that grow because its input's do.
fn growing(flow: &FlowPlan, op: &FlowOp, inputs: &[NodeIndex]) -> Vec<TimeColumn> {
    let [input] = inputs else { return Vec::new() };
    let input = &flow.nodes[*input];
    let known = input.properties.time_columns.iter().copied();
    match op {
        FlowOp::Filter { .. } | FlowOp::Union => known.collect(),
        FlowOp::Project { expressions } => known
            .flat_map(|time| {
                let place = |expression: &Expr| match expression.clone().unalias() {
                    Expr::Column(column) => input.schema.maybe_index_of_column(&column),
                    _ => None,
                };
                let passed = expressions.iter().enumerate().filter(move |(_, expr)| place(expr) == Some(time.column));
                passed.map(move |(column, _)| TimeColumn { column, ..time }).collect::<Vec<_>>()
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// An aggregate by both bounds of a window that it reads directly: over the table's own rows. `None`: it is another one.
fn windowed_aggregate(
    flow: &mut FlowPlan,
    aggregate: &Aggregate,
    statement: &Statement,
) -> Result<Option<NodeIndex>, String> {
    let is_bound = |expression: &Expr, name: &str| matches!(expression, Expr::Column(column) if column.name == name);
    let key = |expression: &Expr| match expression {
        start if is_bound(start, "window_start") => WindowKey::Start,
        end if is_bound(end, "window_end") => WindowKey::End,
        other => WindowKey::Key(other.clone()),
    };
    let place = |name| aggregate.group_expr.iter().position(|expression| is_bound(expression, name));
    let (Some(start), Some(end)) = (place("window_start"), place("window_end")) else { return Ok(None) };
    let mut between = Vec::new();
    let mut below = aggregate.input.as_ref();
    let scan = loop {
        below = match below {
            LogicalPlan::TableScan(scan) if scan.table_name.table().starts_with('w') => break scan,
            LogicalPlan::Projection(projection) if projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) => {
                projection.input.as_ref()
            }
            LogicalPlan::Filter(filter) if !filter.predicate.to_string().contains("window_") => {
                between.push(below);
                filter.input.as_ref()
            }
            LogicalPlan::SubqueryAlias(alias) => {
                between.push(below);
                alias.input.as_ref()
            }
            _ => return Ok(None),
        };
    };
    let source = window_source(&scan.table_name, statement)?;
    let id = WatermarkId(flow.watermarks.len() as u32);
    let all = scan.source.schema();
    let read: Vec<usize> = (0..all.fields().len() - 2).collect();
    let raw = all.project(&read).map_err(|error| error.to_string())?;
    let qualified = |name: &TableReference| {
        DFSchema::try_from_qualified_schema(name.clone(), &raw).map(Arc::new).map_err(|error| error.to_string())
    };
    let watermark = ScanWatermark { id, column: 0, expression: Expr::Literal(ScalarValue::Null, None) };
    let op = FlowOp::Scan {
        relation: source.table.clone(),
        kind: ScanKind::Stream,
        projection: read,
        watermark: Some(watermark),
    };
    let mut schema = qualified(&scan.table_name)?;
    let mut node = push(flow, op, Vec::new(), &schema, FlowProperties::default());
    flow.watermarks.push(WatermarkOrigin { scan: node, relation: source.table.clone(), column: "ts".to_owned() });
    for step in between.into_iter().rev() {
        let op = match step {
            LogicalPlan::Filter(filter) => FlowOp::Filter { predicate: filter.predicate.clone() },
            LogicalPlan::SubqueryAlias(alias) => {
                schema = qualified(&alias.alias)?;
                FlowOp::Union
            }
            _ => continue,
        };
        node = push(flow, op, vec![node], &schema, FlowProperties::default());
    }
    let after_watermark = statement.sql.ends_with("EMIT AFTER WATERMARK");
    let op = FlowOp::WindowAggregate {
        window: window_spec(source.windows),
        time_column: 0,
        watermark: Some((id, 0)),
        group: aggregate.group_expr.iter().map(key).collect(),
        aggregates: aggregate.aggr_expr.clone(),
        emit: if after_watermark { Emit::AfterWatermark } else { Emit::OnChange },
    };
    let size = match source.windows {
        Windows::Tumble { size, .. } | Windows::Hop { size, .. } | Windows::Cumulate { size, .. } => size * SECOND,
    };
    let time_columns = [(start, size), (end, 0)]
        .map(|(column, delay_micros)| TimeColumn { column, watermark: id, delay_micros })
        .to_vec();
    let properties = FlowProperties { changelog: !after_watermark, keys: Vec::new(), time_columns };
    Ok(Some(push(flow, op, vec![node], &aggregate.schema, properties)))
}

fn window_source<'a>(table: &TableReference, statement: &'a Statement) -> Result<&'a WindowSource, String> {
    let number = table.table().strip_prefix('w').and_then(|number| number.parse::<usize>().ok());
    number.and_then(|number| statement.windows.get(number)).ok_or_else(|| "no window".to_owned())
}

fn window_spec(windows: Windows) -> WindowSpec {
    match windows {
        Windows::Tumble { size, offset } => WindowSpec::Tumble { size: size * SECOND, offset: offset * SECOND },
        Windows::Hop { slide, size } => WindowSpec::Hop { slide: slide * SECOND, size: size * SECOND, offset: 0 },
        Windows::Cumulate { step, size } => {
            WindowSpec::Cumulate { step: step * SECOND, size: size * SECOND, offset: 0 }
        }
    }
}

/// A scan of what stands for a window function: the table's scan, its windows, and the columns that are read.
fn windowed(
    flow: &mut FlowPlan,
    scan: &LogicalPlan,
    statement: &Statement,
    projection: &[usize],
) -> Result<NodeIndex, String> {
    let LogicalPlan::TableScan(scan) = scan else { return Err("no scan".to_owned()) };
    let source = window_source(&scan.table_name, statement)?;
    let window = window_spec(source.windows);
    let all = scan.source.schema();
    let qualified = |schema: &arrow::datatypes::Schema| {
        DFSchema::try_from_qualified_schema(scan.table_name.clone(), schema).map(Arc::new).map_err(|e| e.to_string())
    };
    let columns = all.fields().len() - 2;
    let read: Vec<usize> = (0..columns).collect();
    let raw = all.project(&read).map_err(|error| error.to_string())?;
    let expressions = projection
        .iter()
        .map(|column| Expr::Column(Column::new(Some(scan.table_name.clone()), all.field(*column).name())));
    let ops = [
        (
            FlowOp::Scan { relation: source.table.clone(), kind: ScanKind::Stream, projection: read, watermark: None },
            qualified(&raw)?,
        ),
        (FlowOp::Window { window, time_column: 0 }, qualified(&all)?),
        (FlowOp::Project { expressions: expressions.collect() }, Arc::clone(&scan.projected_schema)),
    ];
    for (op, schema) in ops {
        let inputs = if matches!(op, FlowOp::Scan { .. }) { Vec::new() } else { vec![flow.nodes.len() - 1] };
        push(flow, op, inputs, &schema, FlowProperties::default());
    }
    Ok(flow.nodes.len() - 1)
}
