//! A plain lowering of DataFusion's logical plans to flow plans, for the operators alone.
//!
//! It knows nothing of changelogs beyond what an aggregate makes, fuses nothing and closes nothing: windows are rows.

use std::sync::Arc;

use datafusion::common::NullEquality;
use datafusion::logical_expr::{JoinType, LogicalPlan};
use rondel_engine::plan::flow::{Emit, FlowNode, FlowOp, FlowPlan, FlowProperties, NodeIndex, ScanKind, WindowSpec};

use super::statement::{Statement, Windows};
use super::table::SECOND;

/// The flow plan, or which construct has none here.
pub(crate) fn lower(plan: &LogicalPlan, statement: &Statement) -> Result<FlowPlan, String> {
    let mut flow = FlowPlan { nodes: Vec::new(), watermarks: Vec::new(), derived: Vec::new() };
    add(&mut flow, plan, statement)?;
    Ok(flow)
}

fn add(flow: &mut FlowPlan, plan: &LogicalPlan, statement: &Statement) -> Result<NodeIndex, String> {
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
    let id = format!("n{}", flow.nodes.len());
    let properties = FlowProperties { changelog, ..FlowProperties::default() };
    flow.nodes.push(FlowNode { id, op, inputs, schema: Arc::clone(plan.schema()), properties });
    Ok(flow.nodes.len() - 1)
}

/// A scan of what stands for a window function: the table's scan, its windows, and the columns that are read.
fn windowed(
    flow: &mut FlowPlan,
    scan: &LogicalPlan,
    statement: &Statement,
    projection: &[usize],
) -> Result<NodeIndex, String> {
    use datafusion::common::{Column, DFSchema};
    use datafusion::logical_expr::Expr;
    let LogicalPlan::TableScan(scan) = scan else { return Err("no scan".to_owned()) };
    let number: usize = scan.table_name.table()[1..].parse().map_err(|_| "no window".to_owned())?;
    let source = &statement.windows[number];
    let window = match source.windows {
        Windows::Tumble { size, offset } => WindowSpec::Tumble { size: size * SECOND, offset: offset * SECOND },
        Windows::Hop { slide, size } => WindowSpec::Hop { slide: slide * SECOND, size: size * SECOND, offset: 0 },
        Windows::Cumulate { step, size } => {
            WindowSpec::Cumulate { step: step * SECOND, size: size * SECOND, offset: 0 }
        }
    };
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
        let index = flow.nodes.len();
        let inputs = if matches!(op, FlowOp::Scan { .. }) { Vec::new() } else { vec![index - 1] };
        let properties = FlowProperties::default();
        flow.nodes.push(FlowNode { id: format!("n{index}"), op, inputs, schema, properties });
    }
    Ok(flow.nodes.len() - 1)
}
