//! From the optimised logical plan to the flow plan.
//!
//! Nodes are lowered from the leaves up, each with what is known of its rows. A scan may deliver a column more than the
//! query reads (the watermark's), so a flow node's schema may be wider than the logical node's; wherever columns are found
//! by position instead of by name, [`Lowering::fitted`] cuts it to size.

mod aggregates;
mod asof;
mod joins;
mod nodes;
mod over;
mod sessions;
mod sets;
mod shown;
mod unnest;
mod watermarks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, EmptyRelation, Expr, LogicalPlan, Projection, SubqueryAlias, TableScan, Union, Values,
};
use datafusion::physical_expr::create_physical_expr;
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::time::WatermarkId;

use super::asof::AsOfNode;
use super::clock::reads_clock;
use super::emission::{Destination, Grouped, last_aggregate};
use super::fault::planning_error;
use super::flow::{
    Emission, Emit, EmitMode, FlowOp, FlowPlan, FlowProperties, NodeIndex, ScanKind, ScanWatermark, TimeColumn,
    WatermarkOrigin,
};
use super::late::late_rows;
use super::node::session::SessionNode;
use super::node::set::SetNode;
use super::node::window::WindowNode;
use super::properties::{Promise, projected};
use super::relation::{Relation, RelationKind, RelationSource};
use super::state_ttl::Lengths;
use super::subquery::single_row::SingleRowNode;
use super::windowed::windowed;
use super::{state_ttl, temporal_filter};
use watermarks::unneeded;

/// A plan being lowered.
pub(super) struct Lowering<'a> {
    emit: Emit,
    emission: Emission,
    /// A window was found that late rows correct.
    corrects_late: bool,
    /// Scans read all columns: rows that come too late are wanted.
    keeps_columns: bool,
    /// With `DISCARDING`: the aggregate of what has come since the last time.
    panes: Option<*const Aggregate>,
    /// The scans, in the order in which they are met, whose watermark nobody needs.
    unneeded: BTreeSet<usize>,
    /// The node of each scan met so far.
    scans: Vec<NodeIndex>,
    /// Those of topics that are tables, with the column that ends a key.
    ends: BTreeMap<NodeIndex, String>,
    /// What each node does and reads, as text, for [`Lowering::push`]; empty for nodes that are never shared.
    texts: Vec<String>,
    /// Nodes that more than one user was given.
    shared: BTreeSet<NodeIndex>,
    /// A stream's watermark expression over its columns.
    watermark: &'a dyn Fn(&Relation) -> Result<Option<Expr>>,
    /// By name, how long what reads the relation directly is to remember it, and the nodes and sides that do.
    ttls: BTreeMap<String, (i64, Vec<(NodeIndex, usize)>)>,
    /// The columns that all scans of a stream read together.
    columns: HashMap<String, BTreeSet<usize>>,
    plan: FlowPlan,
}

/// What a statement says besides its query.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// When results are shown.
    pub(super) emission: Emission,
    /// Where they go.
    pub(super) destination: Destination,
    /// How long keys are remembered that no row touches.
    pub(super) state_ttl: Lengths,
}

impl<'a> Lowering<'a> {
    /// The flow plan of an optimised plan.
    pub(super) fn lower(
        grouped: &Grouped,
        terms: Terms,
        watermark: &'a dyn Fn(&Relation) -> Result<Option<Expr>>,
    ) -> Result<FlowPlan> {
        let (all, scans) = Self::with(grouped, &terms, watermark, BTreeSet::new())?;
        // A watermark that nobody waits for need not be computed, nor its column read.
        let unneeded = unneeded(&all, &scans);
        Ok(if unneeded.is_empty() { all } else { Self::with(grouped, &terms, watermark, unneeded)?.0 })
    }

    fn with(
        grouped: &Grouped,
        Terms { emission, destination, state_ttl }: &Terms,
        watermark: &'a dyn Fn(&Relation) -> Result<Option<Expr>>,
        unneeded: BTreeSet<usize>,
    ) -> Result<(FlowPlan, Vec<NodeIndex>)> {
        let (plan, emission, emit) = (&grouped.plan, *emission, emission.emit);
        let discards = emission.mode == Some(EmitMode::Discarding) && emit == Emit::OnChange;
        let panes = last_aggregate(plan).filter(|last| discards && !last.aggr_expr.is_empty());
        let mut lowering = Self {
            emit,
            emission,
            corrects_late: false,
            keeps_columns: grouped.late_rows.is_some(),
            panes: panes.map(std::ptr::from_ref),
            unneeded,
            scans: Vec::new(),
            ends: BTreeMap::new(),
            texts: Vec::new(),
            shared: BTreeSet::new(),
            watermark,
            columns: columns_by_stream(plan)?,
            ttls: state_ttl.named.iter().map(|(name, ttl)| (name.clone(), (*ttl, Vec::new()))).collect(),
            plan: FlowPlan { state_ttl: state_ttl.all, ..FlowPlan::default() },
        };
        let root = lowering.node(plan)?;
        let root = lowering.fitted(root, plan.schema())?;
        if emission.lateness.is_some() && !lowering.corrects_late {
            return Err(Error::not_supported(
                "ALLOWED LATENESS corrects aggregates of windows, and this query has none",
            )
            .with_hint("group by window_start and window_end of TUMBLE, HOP or CUMULATE, or leave it out"));
        }
        if emit == Emit::AfterWatermark && lowering.plan.nodes[root].properties.changelog {
            lowering.refuse_open_joins()?;
            return Err(Error::not_supported(
                "EMIT AFTER WATERMARK shows final rows only, and this query reads rows that are still corrected",
            )
            .with_hint("create the view that it reads with EMIT AFTER WATERMARK as well, or leave EMIT out here"));
        }
        lowering.shown(root, grouped, *destination)?;
        let scans = std::mem::take(&mut lowering.scans);
        let named = std::mem::take(&mut lowering.ttls).into_iter().map(|(name, (_, uses))| (name, uses)).collect();
        state_ttl::check(&lowering.plan, &named)?;
        let mut flow = lowering.numbered();
        if let Some(target) = &grouped.late_rows {
            flow.late = Some(late_rows(&flow, target)?);
        }
        Ok((flow, scans))
    }

    fn node(&mut self, plan: &LogicalPlan) -> Result<NodeIndex> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => match self.ranked(filter, None)? {
                Some(top) => Ok(top),
                None => {
                    let input = self.node(&filter.input)?;
                    self.filter(input, filter.predicate.clone())
                }
            },
            LogicalPlan::Window(window) => self.window_functions(window),
            LogicalPlan::Limit(limit) => self.limited(limit),
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) if self.discards(aggregate) => self.pane_aggregate(aggregate),
            LogicalPlan::Aggregate(aggregate) => match windowed(aggregate).map_err(planning_error)? {
                Some(parts) => self.window_aggregate(aggregate, parts),
                None => self.aggregate(aggregate),
            },
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty),
            LogicalPlan::Subquery(subquery) => self.node(&subquery.subquery),
            LogicalPlan::Extension(extension) => {
                let node = extension.node.as_any();
                if let Some(window) = node.downcast_ref::<WindowNode>() {
                    self.window(window)
                } else if let Some(session) = node.downcast_ref::<SessionNode>() {
                    self.session(session)
                } else if let Some(set) = node.downcast_ref::<SetNode>() {
                    self.set(set)
                } else if let Some(as_of) = node.downcast_ref::<AsOfNode>() {
                    self.as_of(as_of)
                } else if let Some(guard) = node.downcast_ref::<SingleRowNode>() {
                    self.single_row(guard)
                } else {
                    Err(Error::internal(format!("the planner does not know the node {}", extension.node.name())))
                }
            }
            other => Err(Error::not_supported(format!("{} cannot be part of a continuous query", other.display()))),
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Result<NodeIndex> {
        let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
            return Err(Error::not_supported(format!("a continuous query cannot read {}", scan.table_name)));
        };
        let relation = Arc::clone(source.relation());
        let width = relation.schema.fields().len();
        let mut projection = scan_columns(scan, &relation);
        if self.keeps_columns {
            // A row that comes too late is shown as it came.
            projection = (0..width).collect();
        }
        if let Some(together) = self.columns.get(&relation.name).filter(|_| !self.keeps_columns) {
            // A stream that is read several times is read once, with the columns that anyone wants.
            projection = together.iter().copied().collect();
        }
        let needed = !self.unneeded.contains(&self.scans.len());
        let expression = if needed { (self.watermark)(&relation)? } else { None };
        if let (Some(expression), Some(definition)) = (&expression, &relation.watermark) {
            projection.push(definition.column);
            let names = expression.column_refs();
            projection.extend(names.into_iter().filter_map(|column| relation.schema.index_of(&column.name).ok()));
        }
        if projection.is_empty() && width > 0 {
            // Rows without any column would be counted by nobody: read the one that costs least.
            let cheap = relation.schema.fields().iter().position(|field| field.data_type().is_primitive());
            projection.push(cheap.unwrap_or(0));
        }
        projection.sort_unstable();
        projection.dedup();

        let schema = Arc::new(relation.schema.project(&projection)?);
        let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema).map_err(planning_error)?;
        let place = |column: usize| projection.iter().position(|&projected| projected == column);
        let (watermark, times) = match relation.kind {
            RelationKind::Stream | RelationKind::Upserts { .. } | RelationKind::Table => {
                let column = relation.watermark.as_ref().and_then(|definition| place(definition.column));
                let promise = column.zip(expression);
                (promise, column.map(|column| (column, 0)).into_iter().collect::<Vec<_>>())
            }
            _ if !needed => (None, Vec::new()),
            _ => {
                let times: Vec<(usize, i64)> =
                    relation.time_columns.iter().filter_map(|&(column, delay)| Some((place(column)?, delay))).collect();
                let promise = times.first().map(|&(column, _)| {
                    let (qualifier, field) = schema.qualified_field(column);
                    (column, Expr::Column((qualifier, field).into()))
                });
                (promise, times)
            }
        };
        let number = WatermarkId(self.plan.watermarks.len() as u32);
        let mut properties = FlowProperties {
            changelog: relation.changelog,
            keys: relation.keys.iter().filter_map(|key| key.iter().map(|&column| place(column)).collect()).collect(),
            time_columns: Vec::new(),
        };
        let watermark = watermark.map(|(column, expression)| {
            properties.time_columns = times
                .iter()
                .map(|&(column, delay_micros)| TimeColumn { column, watermark: number, delay_micros })
                .collect();
            self.plan.watermarks.push(WatermarkOrigin {
                scan: self.plan.nodes.len(),
                relation: relation.name.clone(),
                column: schema.field(column).name().clone(),
            });
            ScanWatermark { id: number, column, expression }
        });
        let kind = match relation.kind {
            RelationKind::Stream | RelationKind::Upserts { .. } => ScanKind::Stream,
            RelationKind::Table => ScanKind::Table,
            _ => ScanKind::View,
        };
        let nodes = self.plan.nodes.len();
        let op = FlowOp::Scan { relation: relation.name.clone(), kind, projection, watermark };
        let node = self.push(op, Vec::new(), Arc::new(schema), properties)?;
        if let RelationKind::Upserts { deleted, .. } = &relation.kind {
            self.ends.insert(node, deleted.clone());
        }
        let is_new = self.plan.nodes.get(nodes).is_some_and(|node| matches!(node.op, FlowOp::Scan { .. }));
        if !is_new {
            // A scan that was there already has promised already.
            self.plan.watermarks.truncate(number.0 as usize);
        }
        // One that was there already may be called otherwise here, by a projection.
        let scanned = &self.plan.nodes[node];
        self.scans.push(scanned.inputs.first().copied().unwrap_or(node));
        Ok(node)
    }

    /// An alias changes how columns are called from above, and nothing else.
    fn alias(&mut self, alias: &SubqueryAlias) -> Result<NodeIndex> {
        let input = self.node(&alias.input)?;
        let scans = matches!(self.plan.nodes[input].op, FlowOp::Scan { .. });
        let input = if scans { input } else { self.fitted(input, alias.input.schema())? };
        let schema = self.schema(input).inner();
        let schema = DFSchema::try_from_qualified_schema(alias.alias.clone(), schema).map_err(planning_error)?;
        self.called(input, Arc::new(schema))
    }

    fn projection(&mut self, projection: &Projection) -> Result<NodeIndex> {
        let top = match &*projection.input {
            LogicalPlan::Filter(filter) => self.ranked(filter, Some(&projection.expr))?,
            _ => None,
        };
        let input = match top {
            Some(top) => top,
            None => self.node(&projection.input)?,
        };
        self.projected_onto(projection, input)
    }

    /// A projection of a node that stands for its input.
    fn projected_onto(&mut self, projection: &Projection, input: NodeIndex) -> Result<NodeIndex> {
        self.stable(&projection.expr, input)?;
        if self.only_renames(&projection.expr, input) {
            return self.called(input, Arc::clone(&projection.schema));
        }
        let properties = projected(&projection.expr, self.schema(input), self.properties(input));
        let op = FlowOp::Project { expressions: projection.expr.clone() };
        self.push(op, vec![input], Arc::clone(&projection.schema), properties)
    }

    /// Whether a projection gives its input's columns other names, and nothing else: then no operator is needed.
    fn only_renames(&self, expressions: &[Expr], input: NodeIndex) -> bool {
        let node = &self.plan.nodes[input];
        // What these nodes compute doesn't refer to their own columns by name.
        let nameless = matches!(
            node.op,
            FlowOp::Aggregate { .. } | FlowOp::WindowAggregate { .. } | FlowOp::Project { .. } | FlowOp::Union
        );
        let columns = node.schema.columns();
        nameless
            && columns.len() == expressions.len()
            && expressions.iter().zip(&columns).all(|(expr, column)| match expr {
                Expr::Alias(alias) => matches!(&*alias.expr, Expr::Column(inner) if inner == column),
                Expr::Column(inner) => inner == column,
                _ => false,
            })
    }

    fn filter(&mut self, input: NodeIndex, predicate: Expr) -> Result<NodeIndex> {
        if reads_clock(&predicate) {
            let (conditions, rest) = temporal_filter::split(predicate);
            let input = match conjunction(rest) {
                Some(rest) => self.filter(input, rest)?,
                None => input,
            };
            return self.temporal_filter(input, conditions);
        }
        self.stable(std::slice::from_ref(&predicate), input)?;
        // Rules push a condition down again and again: one filter says each once. A filter calls its columns as its input
        // does, or by an alias; only in the first case can it be taken back and said anew.
        let last = input + 1 == self.plan.nodes.len() && !self.shared.contains(&input);
        let node = &self.plan.nodes[input];
        if let (FlowOp::Filter { predicate: below }, &[under], true) = (&node.op, node.inputs.as_slice(), last)
            && self.schema(under).columns() == node.schema.columns()
        {
            let known = split_conjunction_owned(below.clone());
            let new = split_conjunction_owned(predicate).into_iter().filter(|part| !known.contains(part));
            let both = new.fold(below.clone(), Expr::and);
            self.plan.nodes.pop();
            self.texts.pop();
            return self.filter(under, both);
        }
        let (schema, properties) = (Arc::clone(self.schema(input)), self.properties(input).clone());
        self.push(FlowOp::Filter { predicate }, vec![input], schema, properties)
    }

    /// Rows that come and go as time passes. `conditions` are joined by AND.
    fn temporal_filter(&mut self, input: NodeIndex, conditions: Vec<Expr>) -> Result<NodeIndex> {
        self.stable(&conditions, input)?;
        // As with filters, one says each condition once.
        let last = input + 1 == self.plan.nodes.len() && !self.shared.contains(&input);
        let node = &self.plan.nodes[input];
        if let (FlowOp::TemporalFilter { conditions: below, .. }, &[under], true) =
            (&node.op, node.inputs.as_slice(), last)
            && self.schema(under).columns() == node.schema.columns()
        {
            let mut all = below.clone();
            all.extend(conditions.into_iter().filter(|condition| !below.contains(condition)));
            self.plan.nodes.pop();
            self.texts.pop();
            return self.temporal_filter(under, all);
        }
        let schema = Arc::clone(self.schema(input));
        let bounds = temporal_filter::bounds(&conditions, &schema)?;
        let input_properties = self.properties(input);
        let properties = FlowProperties {
            changelog: input_properties.changelog || bounds.iter().any(|bound| !bound.enters),
            keys: input_properties.keys.clone(),
            // A row that enters has waited, and one that leaves was there for long.
            time_columns: Vec::new(),
        };
        self.push(FlowOp::TemporalFilter { conditions, bounds }, vec![input], schema, properties)
    }

    /// Refuses volatile functions over rows that may be retracted: the retraction would not find what was said.
    fn stable(&self, expressions: &[Expr], input: NodeIndex) -> Result<()> {
        if !self.properties(input).changelog {
            return Ok(());
        }
        match expressions.iter().find(|expr| expr.is_volatile()) {
            None => Ok(()),
            Some(expr) => Err(Error::not_supported(format!(
                "{} gives another value each time, and its rows may be retracted: the retraction would not match",
                expr.clone().unalias()
            ))
            .with_hint("call it below the aggregate, where rows are only added")),
        }
    }

    fn union(&mut self, union: &Union) -> Result<NodeIndex> {
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            let node = self.node(input)?;
            inputs.push(self.fitted(node, input.schema())?);
        }
        let changelog = inputs.iter().any(|&input| self.properties(input).changelog);
        // Constant rows come before all others and hold nothing up.
        let moving: Vec<NodeIndex> = inputs.iter().copied().filter(|&input| !self.is_constant(input)).collect();
        let mut time_columns = Vec::new();
        for column in 0..union.schema.fields().len() {
            let promises: Option<Vec<Promise>> = moving
                .iter()
                .map(|&input| {
                    let times = &self.properties(input).time_columns;
                    times.iter().find(|time| time.column == column).map(|time| (time.watermark, time.delay_micros))
                })
                .collect();
            if let Some((watermark, delay_micros)) = promises.and_then(|promises| self.least(promises)) {
                time_columns.push(TimeColumn { column, watermark, delay_micros });
            }
        }
        let properties = FlowProperties { changelog, keys: Vec::new(), time_columns };
        self.push(FlowOp::Union, inputs, Arc::clone(&union.schema), properties)
    }

    fn is_constant(&self, node: NodeIndex) -> bool {
        let node = &self.plan.nodes[node];
        match node.op {
            FlowOp::Values { .. } => true,
            FlowOp::Scan { .. } => false,
            _ => node.inputs.iter().all(|&input| self.is_constant(input)),
        }
    }

    fn values(&mut self, values: &Values) -> Result<NodeIndex> {
        let schema = values.schema.inner();
        let columns = (0..schema.fields().len())
            .map(|column| {
                let cells = values.values.iter().map(|row| constant(&row[column])).collect::<Result<Vec<_>>>()?;
                Ok(ScalarValue::iter_to_array(cells)?)
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let rows = RecordBatch::try_new(Arc::clone(schema), columns)?;
        let op = FlowOp::Values { rows: vec![rows] };
        self.push(op, Vec::new(), Arc::clone(&values.schema), FlowProperties::default())
    }

    fn empty(&mut self, empty: &EmptyRelation) -> Result<NodeIndex> {
        let schema = empty.schema.inner();
        let rows = if empty.produce_one_row {
            let nulls = schema.fields().iter().map(|field| arrow::array::new_null_array(field.data_type(), 1));
            let options = RecordBatchOptions::new().with_row_count(Some(1));
            vec![RecordBatch::try_new_with_options(Arc::clone(schema), nulls.collect(), &options)?]
        } else {
            Vec::new()
        };
        self.push(FlowOp::Values { rows }, Vec::new(), Arc::clone(&empty.schema), FlowProperties::default())
    }
}

/// The columns that a scan reads, by index into the relation's.
fn scan_columns(scan: &TableScan, relation: &Relation) -> Vec<usize> {
    scan.projection.clone().unwrap_or_else(|| (0..relation.schema.fields().len()).collect())
}

/// The columns that all scans of each stream read together.
fn columns_by_stream(plan: &LogicalPlan) -> Result<HashMap<String, BTreeSet<usize>>> {
    let mut columns: HashMap<String, BTreeSet<usize>> = HashMap::new();
    plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(source) = scan.source.downcast_ref::<RelationSource>()
            && source.relation().is_stream()
        {
            let relation = source.relation();
            columns.entry(relation.name.clone()).or_default().extend(scan_columns(scan, relation));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .map_err(planning_error)?;
    Ok(columns)
}

/// The value of an expression without columns.
fn constant(expr: &Expr) -> Result<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Ok(value.clone());
    }
    let physical =
        create_physical_expr(expr, &DFSchema::empty(), &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .map_err(planning_error)?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    let array = physical.evaluate(&row)?.into_array(1)?;
    Ok(ScalarValue::try_from_array(&array, 0)?)
}
