//! From the optimised logical plan to the flow plan.
//!
//! Nodes are lowered from the leaves up, each with what is known of its rows. A scan may deliver a column more than the
//! query reads (the watermark's), so a flow node's schema may be wider than the logical node's; wherever columns are found
//! by position instead of by name, [`Lowering::fitted`] cuts it to size.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DFSchema, DFSchemaRef, JoinType, NullEquality};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    Aggregate, EmptyRelation, Expr, Join, LogicalPlan, Projection, SubqueryAlias, TableScan, Union, Values,
};
use datafusion::physical_expr::create_physical_expr;
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::time::WatermarkId;

use super::event_time::unit_micros;
use super::fault::planning_error;
use super::flow::{
    DerivedWatermark, Emit, FlowNode, FlowOp, FlowPlan, FlowProperties, NodeIndex, ScanKind, ScanWatermark, TimeColumn,
    WatermarkOrigin, WindowKey, WindowSpec,
};
use super::identity::operator_id;
use super::properties::{Promise, join_release, joined, projected, promise};
use super::relation::{Relation, RelationKind, RelationSource};
use super::window_node::WindowNode;
use super::windowed::{Windowed, windowed};

/// Numbers of derived watermarks until all scans are known.
const DERIVED: u32 = 1 << 31;

/// A plan being lowered.
pub(super) struct Lowering<'a> {
    emit: Emit,
    /// The scans, in the order in which they are met, whose watermark nobody needs.
    unneeded: BTreeSet<usize>,
    /// The node of each scan met so far.
    scans: Vec<NodeIndex>,
    /// What each node does and reads, as text, for [`Lowering::push`]; empty for nodes that are never shared.
    texts: Vec<String>,
    /// Nodes that more than one user was given.
    shared: BTreeSet<NodeIndex>,
    /// A stream's watermark expression over its columns.
    watermark: &'a dyn Fn(&Relation) -> Result<Option<Expr>>,
    plan: FlowPlan,
}

impl<'a> Lowering<'a> {
    /// The flow plan of an optimised plan.
    pub(super) fn lower(
        plan: &LogicalPlan,
        emit: Emit,
        watermark: &'a dyn Fn(&Relation) -> Result<Option<Expr>>,
    ) -> Result<FlowPlan> {
        let (all, scans) = Self::with(plan, emit, watermark, BTreeSet::new())?;
        // A watermark that nobody waits for need not be computed, nor its column read.
        let unneeded = unneeded(&all, &scans);
        if unneeded.is_empty() { Ok(all) } else { Ok(Self::with(plan, emit, watermark, unneeded)?.0) }
    }

    fn with(
        plan: &LogicalPlan,
        emit: Emit,
        watermark: &'a dyn Fn(&Relation) -> Result<Option<Expr>>,
        unneeded: BTreeSet<usize>,
    ) -> Result<(FlowPlan, Vec<NodeIndex>)> {
        let mut lowering = Self {
            emit,
            unneeded,
            scans: Vec::new(),
            texts: Vec::new(),
            shared: BTreeSet::new(),
            watermark,
            plan: FlowPlan::default(),
        };
        let root = lowering.node(plan)?;
        let root = lowering.fitted(root, plan.schema())?;
        if emit == Emit::AfterWatermark && lowering.plan.nodes[root].properties.changelog {
            return Err(Error::not_supported(
                "EMIT AFTER WATERMARK shows final rows only, and this query reads rows that are still corrected",
            )
            .with_hint("create the view that it reads with EMIT AFTER WATERMARK as well, or leave EMIT out here"));
        }
        let scans = std::mem::take(&mut lowering.scans);
        Ok((lowering.numbered(), scans))
    }

    fn node(&mut self, plan: &LogicalPlan) -> Result<NodeIndex> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.alias(alias),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.node(&filter.input)?;
                self.filter(input, filter.predicate.clone())
            }
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Aggregate(aggregate) => match windowed(aggregate).map_err(planning_error)? {
                Some(parts) => self.window_aggregate(aggregate, parts),
                None => self.aggregate(aggregate),
            },
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => self.empty(empty),
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowNode>() {
                Some(window) => self.window(window),
                None => Err(Error::internal(format!("the planner does not know the node {}", extension.node.name()))),
            },
            other => Err(Error::not_supported(format!("{} cannot be part of a continuous query", other.display()))),
        }
    }

    /// Adds a node; or answers with one that is there already and does the same on the same inputs (a common table
    /// expression that is named twice, a stream joined with itself): it runs once, and has one state.
    fn push(
        &mut self,
        op: FlowOp,
        inputs: Vec<NodeIndex>,
        schema: DFSchemaRef,
        properties: FlowProperties,
    ) -> Result<NodeIndex> {
        let text = if is_shareable(&op) { format!("{inputs:?} {}", share_text(&op)) } else { String::new() };
        let same = |(index, known): &(usize, &String)| {
            !text.is_empty() && **known == text && same_fields(self.schema(*index), &schema)
        };
        if let Some((index, _)) = self.texts.iter().enumerate().find(same) {
            self.shared.insert(index);
            return self.called(index, schema);
        }
        Ok(self.added(op, inputs, schema, properties, text))
    }

    fn added(
        &mut self,
        op: FlowOp,
        inputs: Vec<NodeIndex>,
        schema: DFSchemaRef,
        properties: FlowProperties,
        text: String,
    ) -> NodeIndex {
        let of: Vec<&str> = inputs.iter().map(|&input| self.plan.nodes[input].id.as_str()).collect();
        let taken: Vec<&str> = self.plan.nodes.iter().map(|node| node.id.as_str()).collect();
        let id = operator_id(&op, &of, &taken);
        self.plan.nodes.push(FlowNode { id, op, inputs, schema, properties });
        self.texts.push(text);
        self.plan.nodes.len() - 1
    }

    /// The node with its columns called as `schema` calls them.
    fn called(&mut self, node: NodeIndex, schema: DFSchemaRef) -> Result<NodeIndex> {
        if self.schema(node).columns() == schema.columns() {
            return Ok(node);
        }
        let used = self.plan.nodes.iter().any(|other| other.inputs.contains(&node));
        if !used && !self.shared.contains(&node) {
            self.plan.nodes[node].schema = schema;
            return Ok(node);
        }
        let expressions: Vec<Expr> = self.schema(node).columns().into_iter().map(Expr::Column).collect();
        let properties = self.properties(node).clone();
        Ok(self.added(FlowOp::Project { expressions }, vec![node], schema, properties, String::new()))
    }

    fn schema(&self, node: NodeIndex) -> &DFSchemaRef {
        &self.plan.nodes[node].schema
    }

    fn properties(&self, node: NodeIndex) -> &FlowProperties {
        &self.plan.nodes[node].properties
    }

    /// The node, or a projection of it to exactly the columns of `wanted`, in order.
    fn fitted(&mut self, node: NodeIndex, wanted: &DFSchemaRef) -> Result<NodeIndex> {
        let have = self.schema(node);
        if have.columns() == wanted.columns() {
            return Ok(node);
        }
        let expressions: Vec<Expr> = wanted.columns().into_iter().map(Expr::Column).collect();
        for column in wanted.columns() {
            have.index_of_column(&column).map_err(planning_error)?;
        }
        let properties = projected(&expressions, have, self.properties(node));
        self.push(FlowOp::Project { expressions }, vec![node], Arc::clone(wanted), properties)
    }

    fn scan(&mut self, scan: &TableScan) -> Result<NodeIndex> {
        let Some(source) = scan.source.downcast_ref::<RelationSource>() else {
            return Err(Error::not_supported(format!("a continuous query cannot read {}", scan.table_name)));
        };
        let relation = Arc::clone(source.relation());
        let width = relation.schema.fields().len();
        let mut projection = scan.projection.clone().unwrap_or_else(|| (0..width).collect());
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
            RelationKind::Stream => {
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
            RelationKind::Stream => ScanKind::Stream,
            _ => ScanKind::View,
        };
        let nodes = self.plan.nodes.len();
        let op = FlowOp::Scan { relation: relation.name.clone(), kind, projection, watermark };
        let node = self.push(op, Vec::new(), Arc::new(schema), properties)?;
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
        let input = self.node(&projection.input)?;
        self.stable(&projection.expr, input)?;
        let properties = projected(&projection.expr, self.schema(input), self.properties(input));
        let op = FlowOp::Project { expressions: projection.expr.clone() };
        self.push(op, vec![input], Arc::clone(&projection.schema), properties)
    }

    fn filter(&mut self, input: NodeIndex, predicate: Expr) -> Result<NodeIndex> {
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

    /// Refuses volatile functions over rows that may be retracted: the retraction would not find what was said.
    fn stable(&self, expressions: &[Expr], input: NodeIndex) -> Result<()> {
        if !self.properties(input).changelog {
            return Ok(());
        }
        match expressions.iter().find(|expr| expr.is_volatile()) {
            None => Ok(()),
            Some(expr) => Err(Error::not_supported(format!(
                "{expr} gives another value each time, and its rows may be retracted: the retraction would not match"
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

    /// The promise of rows that come with any of these promises.
    fn least(&mut self, mut promises: Vec<Promise>) -> Option<Promise> {
        promises.sort_unstable();
        promises.dedup();
        if promises.len() <= 1 {
            return promises.pop();
        }
        let derived = DerivedWatermark { least_of: promises };
        let known = self.plan.derived.iter().position(|known| *known == derived);
        let place = known.unwrap_or_else(|| {
            self.plan.derived.push(derived);
            self.plan.derived.len() - 1
        });
        Some((WatermarkId(DERIVED + place as u32), 0))
    }

    fn window(&mut self, window: &WindowNode) -> Result<NodeIndex> {
        let input = self.node(window.input())?;
        let schema = self.schema(input);
        let time_column = schema.index_of_column(window.time()).map_err(planning_error)?;
        let bounds = window.output().iter().skip(window.input().schema().fields().len());
        let fields = schema.iter().chain(bounds).map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let output = DFSchema::new_with_metadata(fields.collect(), HashMap::new()).map_err(planning_error)?;
        let width = schema.fields().len();
        let mut properties = FlowProperties { keys: Vec::new(), ..self.properties(input).clone() };
        // A row is in several windows: the window's end completes a key.
        properties.keys =
            self.properties(input).keys.iter().map(|key| [key.as_slice(), &[width + 1]].concat()).collect();
        let time = self.properties(input).time_columns.iter().find(|time| time.column == time_column).copied();
        if let Some(time) = time {
            properties.time_columns.extend(bounds_of(window.window(), width, (time.watermark, time.delay_micros)));
        }
        let op = FlowOp::Window { window: window.window(), time_column };
        self.push(op, vec![input], Arc::new(output), properties)
    }

    fn window_aggregate(&mut self, aggregate: &Aggregate, parts: Windowed<'_>) -> Result<NodeIndex> {
        let mut input = self.node(parts.input)?;
        for predicate in parts.filters {
            input = self.filter(input, predicate)?;
        }
        self.append_only(aggregate, input)?;
        let schema = self.schema(input);
        let time_column = schema.index_of_column(parts.time).map_err(planning_error)?;
        let watermark = promise(&Expr::Column(parts.time.clone()), schema, self.properties(input));
        if self.emit == Emit::AfterWatermark && watermark.is_none() {
            return Err(Error::not_supported(format!(
                "EMIT AFTER WATERMARK needs a watermark on {}, and nothing says how late its rows may be",
                parts.time.name
            ))
            .with_hint(format!(
                "give the stream a WATERMARK FOR {} AS {} - INTERVAL '10' SECOND",
                parts.time.name, parts.time.name
            )));
        }
        // Without aggregates a row is final when it is first shown.
        let emit = if parts.aggregates.is_empty() { Emit::OnChange } else { self.emit };
        let mut time_columns = Vec::new();
        if let Some(promise) = watermark {
            let [start, end] = bounds_of(parts.window, 0, promise);
            for (column, key) in parts.group.iter().enumerate() {
                match key {
                    WindowKey::Start => time_columns.push(TimeColumn { column, ..start }),
                    WindowKey::End => time_columns.push(TimeColumn { column, ..end }),
                    WindowKey::Key(_) => {}
                }
            }
        }
        let properties = FlowProperties {
            changelog: emit == Emit::OnChange && !parts.aggregates.is_empty(),
            keys: vec![(0..parts.group.len()).collect()],
            time_columns,
        };
        let op = FlowOp::WindowAggregate {
            window: parts.window,
            time_column,
            watermark,
            group: parts.group,
            aggregates: parts.aggregates,
            emit,
        };
        self.push(op, vec![input], Arc::clone(&aggregate.schema), properties)
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<NodeIndex> {
        let input = self.node(&aggregate.input)?;
        self.append_only(aggregate, input)?;
        let group: Vec<Expr> = aggregate.group_expr.iter().cloned().map(Expr::unalias).collect();
        let aggregates: Vec<Expr> = aggregate.aggr_expr.iter().cloned().map(Expr::unalias).collect();
        let promises = group.iter().enumerate().filter_map(|(index, expr)| {
            let (watermark, delay) = promise(expr, self.schema(input), self.properties(input))?;
            Some((index, watermark, delay))
        });
        let closes = promises.min_by_key(|(_, _, delay)| *delay);
        // Without aggregates (DISTINCT) a row is final when it is first shown.
        let emit = if aggregates.is_empty() { Emit::OnChange } else { self.emit };
        if emit == Emit::AfterWatermark && closes.is_none() {
            return Err(Error::not_supported(
                "EMIT AFTER WATERMARK needs groups that a watermark completes, and these never end",
            )
            .with_hint(
                "group by window_start and window_end of TUMBLE, HOP or CUMULATE over a stream with a WATERMARK, or leave EMIT out",
            ));
        }
        let time_columns =
            closes.map(|(column, watermark, delay_micros)| TimeColumn { column, watermark, delay_micros });
        let properties = FlowProperties {
            changelog: emit == Emit::OnChange && !aggregates.is_empty(),
            keys: vec![(0..group.len()).collect()],
            time_columns: time_columns.into_iter().collect(),
        };
        let op = FlowOp::Aggregate { group, aggregates, closes, emit };
        self.push(op, vec![input], Arc::clone(&aggregate.schema), properties)
    }

    fn append_only(&self, aggregate: &Aggregate, input: NodeIndex) -> Result<()> {
        if !self.properties(input).changelog {
            return Ok(());
        }
        let what = if aggregate.aggr_expr.is_empty() { "DISTINCT" } else { "an aggregate" };
        Err(Error::not_supported(format!("{what} over rows that are corrected as others come is not supported yet"))
            .with_hint("let the inner query show final rows only: window it, and write EMIT AFTER WATERMARK"))
    }

    fn join(&mut self, join: &Join) -> Result<NodeIndex> {
        if join.join_type != JoinType::Inner {
            return Err(Error::not_supported(format!(
                "a {} join is not supported yet in a continuous query",
                join.join_type
            )));
        }
        if join.on.is_empty() {
            return Err(Error::not_supported(
                "a join without an equality condition is not supported yet in a continuous query",
            )
            .with_hint("write ON a.key = b.key, and further conditions with AND"));
        }
        let left = self.node(&join.left)?;
        let left = self.fitted(left, join.left.schema())?;
        let right = self.node(&join.right)?;
        let right = self.fitted(right, join.right.schema())?;
        for (keys, input) in [
            (join.on.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), left),
            (join.on.iter().map(|(_, key)| key.clone()).collect(), right),
        ] {
            self.stable(&keys, input)?;
        }
        if let Some(residual) = &join.filter {
            self.stable(std::slice::from_ref(residual), left)?;
            self.stable(std::slice::from_ref(residual), right)?;
        }
        let (left_schema, right_schema) = (Arc::clone(self.schema(left)), Arc::clone(self.schema(right)));
        let width = left_schema.fields().len();
        let mut pairs = Vec::new();
        let mut times = Vec::new();
        for (left_key, right_key) in &join.on {
            let (Some(l), Some(r)) = (same_as(left_key, &left_schema), same_as(right_key, &right_schema)) else {
                continue;
            };
            pairs.push((l, r));
            let of_left = promise(left_key, &left_schema, self.properties(left));
            let of_right = promise(right_key, &right_schema, self.properties(right));
            // A pair can come as long as either of its rows can.
            if let (Some(of_left), Some(of_right)) = (of_left, of_right)
                && let Some((watermark, delay_micros)) = self.least(vec![of_left, of_right])
            {
                times.extend([l, width + r].map(|column| TimeColumn { column, watermark, delay_micros }));
            }
        }
        let properties = joined(self.properties(left), self.properties(right), width, &pairs, times);
        let schema = left_schema.join(&right_schema).map_err(planning_error)?;
        let op = FlowOp::Join {
            on: join.on.clone(),
            residual: join.filter.clone(),
            null_equals_null: join.null_equality == NullEquality::NullEqualsNull,
        };
        let node = self.push(op, vec![left, right], Arc::new(schema), properties)?;
        self.fitted(node, &join.schema)
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

    /// Gives the derived watermarks their numbers behind the scans'.
    fn numbered(mut self) -> FlowPlan {
        let scans = self.plan.watermarks.len() as u32;
        let number = |id: &mut WatermarkId| {
            if id.0 >= DERIVED {
                id.0 = id.0 - DERIVED + scans;
            }
        };
        for derived in &mut self.plan.derived {
            derived.least_of.iter_mut().for_each(|(id, _)| number(id));
        }
        for node in &mut self.plan.nodes {
            node.properties.time_columns.iter_mut().for_each(|time| number(&mut time.watermark));
            match &mut node.op {
                FlowOp::WindowAggregate { watermark: Some((id, _)), .. } => number(id),
                FlowOp::Aggregate { closes: Some((_, id, _)), .. } => number(id),
                _ => {}
            }
        }
        self.plan
    }
}

/// How `window_start` and `window_end`, the columns `first` and `first + 1`, grow with the rows' time: a row's window ends
/// after it, and starts at most a window's length before it.
fn bounds_of(window: WindowSpec, first: usize, (watermark, delay): Promise) -> [TimeColumn; 2] {
    let size = match window {
        WindowSpec::Tumble { size, .. } | WindowSpec::Hop { size, .. } | WindowSpec::Cumulate { size, .. } => size,
    };
    [
        TimeColumn { column: first, watermark, delay_micros: delay.saturating_add(size) },
        TimeColumn { column: first + 1, watermark, delay_micros: delay },
    ]
}

/// Whether two nodes that do this may be one.
fn is_shareable(op: &FlowOp) -> bool {
    match op {
        FlowOp::Values { .. } => false,
        FlowOp::Filter { predicate } => !predicate.is_volatile(),
        FlowOp::Project { expressions } => !expressions.iter().any(Expr::is_volatile),
        _ => true,
    }
}

/// What a node does, as text. The number of a scan's watermark is its own, not what it does.
fn share_text(op: &FlowOp) -> String {
    match op {
        FlowOp::Scan { relation, kind, projection, watermark } => {
            format!("scan {relation} {kind:?} {projection:?} {}", watermark.is_some())
        }
        other => format!("{other:?}"),
    }
}

fn same_fields(one: &DFSchema, other: &DFSchema) -> bool {
    one.fields() == other.fields()
}

/// The column whose values are told apart as the expression's: itself, or cast to a type that holds all of them.
fn same_as(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    use DataType::{Int8, Int16, Int32, Int64, Timestamp};
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Cast(cast) => {
            let column = same_as(&cast.expr, schema)?;
            let lossless = match (schema.field(column).data_type(), cast.field.data_type()) {
                (Timestamp(from, _), Timestamp(to, _)) => unit_micros(*from) >= unit_micros(*to),
                (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) => true,
                (from, to) => from.is_string() && to.is_string(),
            };
            lossless.then_some(column)
        }
        _ => None,
    }
}

/// The scans, in the order in which they are met, whose watermark decides nothing: no window or group closes by it, no
/// join releases rows by it, and no reader of the result is told of it.
fn unneeded(plan: &FlowPlan, scans: &[NodeIndex]) -> BTreeSet<usize> {
    let mut needed: Vec<WatermarkId> = Vec::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        match &node.op {
            FlowOp::WindowAggregate { watermark, .. } => needed.extend(watermark.map(|(id, _)| id)),
            FlowOp::Aggregate { closes, .. } => needed.extend(closes.map(|(_, id, _)| id)),
            FlowOp::Join { .. } => {
                let release = join_release(plan, index);
                let sides = release.into_iter().flat_map(|release| [release.left_rows, release.right_rows]);
                needed.extend(sides.flatten().map(|(id, _)| id));
            }
            _ => {}
        }
    }
    let root = plan.root().into_iter().flat_map(|root| &root.properties.time_columns);
    needed.extend(root.map(|time| time.watermark));
    for (place, derived) in plan.derived.iter().enumerate().rev() {
        if needed.contains(&WatermarkId((plan.watermarks.len() + place) as u32)) {
            needed.extend(derived.least_of.iter().map(|(id, _)| *id));
        }
    }
    let idle = |node: &NodeIndex| match &plan.nodes[*node].op {
        FlowOp::Scan { watermark: Some(watermark), .. } => !needed.contains(&watermark.id),
        _ => false,
    };
    scans.iter().enumerate().filter(|(_, node)| idle(node)).map(|(scan, _)| scan).collect()
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
