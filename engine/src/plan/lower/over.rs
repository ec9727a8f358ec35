//! OVER, and what is an OVER that shows its first rows: conditions on a row's number, ORDER BY … LIMIT.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, FetchType, Filter, Limit, LogicalPlan, Operator, SkipType, SortExpr, Window, WindowFunctionDefinition,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result};
use crate::plan::fault::planning_error;
use crate::plan::flow::{Emit, FlowOp, FlowProperties, NodeIndex, OverLimit, OverSpec, RankedBy, TimeColumn};
use crate::plan::properties::promise;

use super::Lowering;

impl Lowering<'_> {
    /// Window functions, of all rows.
    pub(super) fn window_functions(&mut self, window: &Window) -> Result<NodeIndex> {
        self.over_window(window, None, &|_| true)
    }

    /// A condition on rows that are numbered: top-N, if it says up to which number. `wanted`: what is read of the result;
    /// numbers that nobody reads need not be said, and rows that only change their number then don't change.
    pub(super) fn ranked(&mut self, filter: &Filter, wanted: Option<&[Expr]>) -> Result<Option<NodeIndex>> {
        // Columns that only the window needs are dropped between the two.
        let (window, kept) = match &*filter.input {
            LogicalPlan::Window(window) => (window, None),
            LogicalPlan::Projection(projection) => match &*projection.input {
                LogicalPlan::Window(window) if projection.expr.iter().all(|expr| expr.try_as_col().is_some()) => {
                    (window, Some(&projection.expr))
                }
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Some((limit, rest)) = top(&filter.predicate, window) else { return Ok(None) };
        let names = |exprs: &[Expr], name: &str| {
            exprs.iter().any(|expr| expr.column_refs().iter().any(|column| column.name == name))
        };
        let read = |name: &str| match (wanted, kept) {
            (Some(wanted), _) => names(wanted, name) || names(&rest, name),
            (None, Some(kept)) => names(kept, name),
            (None, None) => true,
        };
        let node = self.over_window(window, Some(limit), &read)?;
        Ok(Some(match conjunction(rest.clone()) {
            Some(rest) => self.filter(node, rest)?,
            None => node,
        }))
    }

    /// ORDER BY … LIMIT … OFFSET: the first rows of one partition.
    pub(super) fn limited(&mut self, limit: &Limit) -> Result<NodeIndex> {
        // The first rows of a projection are the projection of the first rows.
        if let LogicalPlan::Projection(projection) = &*limit.input {
            let first = Limit { input: Arc::clone(&projection.input), ..limit.clone() };
            let first = self.limited(&first)?;
            return self.projected_onto(projection, first);
        }
        let LogicalPlan::Sort(sort) = &*limit.input else {
            return Err(Error::not_supported("LIMIT without ORDER BY does not say which rows")
                .with_hint("write ORDER BY before it"));
        };
        let count = |rows: usize| rows as u64;
        let skip = match limit.get_skip_type().map_err(planning_error)? {
            SkipType::Literal(skip) => count(skip),
            SkipType::UnsupportedExpr => return Err(Error::not_supported("OFFSET takes a constant")),
        };
        let take = match limit.get_fetch_type().map_err(planning_error)? {
            FetchType::Literal(take) => take.map(count),
            FetchType::UnsupportedExpr => return Err(Error::not_supported("LIMIT takes a constant")),
        };
        let input = self.node(&sort.input)?;
        let input = self.fitted(input, sort.input.schema())?;
        let limit = OverLimit { by: RankedBy::RowNumber, skip, take };
        let spec = OverSpec {
            partition: Vec::new(),
            order: sort.expr.clone(),
            functions: Vec::new(),
            limit: Some(limit),
            closes: None,
            settles: None,
            ends: None,
            emit: self.emit,
        };
        self.over(input, spec, Vec::new())
    }

    fn over_window(
        &mut self,
        window: &Window,
        limit: Option<OverLimit>,
        read: &dyn Fn(&str) -> bool,
    ) -> Result<NodeIndex> {
        let input = self.node(&window.input)?;
        let input = self.fitted(input, window.input.schema())?;
        let width = window.input.schema().fields().len();
        let fields = window.schema.fields().iter().skip(width).cloned();
        let calls = window.window_expr.iter().cloned().map(Expr::unalias).zip(fields);
        let (mut partition, mut order) = (Vec::new(), Vec::new());
        let mut functions: Vec<(Expr, FieldRef)> = Vec::new();
        for (number, (call, field)) in calls.enumerate() {
            let Expr::WindowFunction(function) = &call else {
                return Err(Error::internal(format!("{call} is no window function")));
            };
            let (by, sorted) = keys(function);
            if number == 0 {
                (partition, order) = (by, sorted);
            } else if (&by, &sorted) != (&partition, &order) {
                return Err(Error::internal("functions of different windows stand together"));
            }
            if read(field.name()) {
                functions.push((call, field));
            }
        }
        let (functions, fields) = functions.into_iter().unzip();
        let ends = limit.and_then(|limit| self.ends(input, limit));
        let spec = OverSpec { partition, order, functions, limit, closes: None, settles: None, ends, emit: self.emit };
        let node = self.over(input, spec, fields)?;
        self.remember(node, [&window.input; 2]);
        Ok(node)
    }

    /// The column that ends a key, where the newest row of each is taken from a topic that is a table.
    fn ends(&self, input: NodeIndex, limit: OverLimit) -> Option<usize> {
        if (limit.by, limit.skip, limit.take) != (RankedBy::RowNumber, 0, Some(1)) {
            return None;
        }
        let mut below = input;
        let deleted = loop {
            let node = self.plan.nodes.get(below)?;
            match (&node.op, self.ends.get(&below)) {
                (_, Some(deleted)) => break deleted,
                (FlowOp::Filter { .. } | FlowOp::Project { .. }, None) => below = *node.inputs.first()?,
                _ => return None,
            }
        };
        self.schema(input).inner().index_of(deleted).ok()
    }

    /// Adds the operator; `fields` are its functions'.
    fn over(&mut self, input: NodeIndex, mut spec: OverSpec, fields: Vec<FieldRef>) -> Result<NodeIndex> {
        self.stable(&spec.partition, input)?;
        self.stable(&spec.functions, input)?;
        for sort in &spec.order {
            self.stable(std::slice::from_ref(&sort.expr), input)?;
        }
        let (schema, properties) = (Arc::clone(self.schema(input)), self.properties(input).clone());
        let promises = spec.partition.iter().enumerate().filter_map(|(index, expr)| {
            let (watermark, delay) = promise(expr, &schema, &properties)?;
            Some((index, watermark, delay))
        });
        spec.closes = promises.min_by_key(|(_, _, delay)| *delay);
        if let (None, None, false, Some(first)) = (spec.closes, spec.limit, properties.changelog, spec.order.first())
            && first.asc
            && !first.nulls_first
        {
            spec.settles = promise(&first.expr, &schema, &properties);
        }
        if spec.emit == Emit::OnChange && !spec.forgets_settled_rows() {
            spec.settles = None;
        }
        if spec.emit == Emit::AfterWatermark && spec.closes.is_none() && spec.settles.is_none() {
            return Err(Error::not_supported(
                "EMIT AFTER WATERMARK needs partitions that a watermark completes, and these never end",
            )
            .with_hint(
                "put window_start and window_end into PARTITION BY, order by the event time alone, or leave EMIT out",
            ));
        }
        let properties = over_properties(&spec, &schema, &properties);
        let qualified = schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let qualified = qualified.chain(fields.into_iter().map(|field| (None, field))).collect();
        let output = DFSchema::new_with_metadata(qualified, HashMap::new()).map_err(planning_error)?;
        self.push(FlowOp::Over(spec), vec![input], Arc::new(output), properties)
    }
}

/// PARTITION BY, and ORDER BY without what is the same in all rows of a partition.
fn keys(function: &WindowFunction) -> (Vec<Expr>, Vec<SortExpr>) {
    let partition: Vec<Expr> =
        function.params.partition_by.iter().filter(|key| !matches!(key, Expr::Literal(..))).cloned().collect();
    let order = function.params.order_by.iter();
    let order = order.filter(|sort| !matches!(sort.expr, Expr::Literal(..)) && !partition.contains(&sort.expr));
    let order = order.cloned().collect();
    (partition, order)
}

/// What is known of the rows of an OVER.
fn over_properties(spec: &OverSpec, schema: &DFSchema, input: &FlowProperties) -> FlowProperties {
    let place = |expr: &Expr| match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    };
    let partition: Vec<Option<usize>> = spec.partition.iter().map(place).collect();
    let mut keys = input.keys.clone();
    // A row's number within its partition tells rows apart; where one row of each is shown, the partition alone does.
    if let Some(partition) = partition.iter().copied().collect::<Option<Vec<usize>>>() {
        let numbered =
            |function: &Expr| matches!(function, Expr::WindowFunction(call) if call.fun.name() == "row_number");
        match spec.limit {
            Some(OverLimit { by: RankedBy::RowNumber, take: Some(take), .. }) if take <= 1 => keys.push(partition),
            _ => {
                if let Some(number) = spec.functions.iter().position(numbered) {
                    let width = schema.fields().len();
                    keys.push(partition.into_iter().chain([width + number]).collect());
                }
            }
        }
    }
    // Other rows of a partition may change a row's results at any time, until the partition is complete.
    // Or until the row itself is final.
    let settled = spec.settles.filter(|_| spec.looks_back_only()).and(spec.order.first());
    let settled = settled.and_then(|sort| place(&sort.expr));
    let grows = |time: &&TimeColumn| partition.contains(&Some(time.column)) || settled == Some(time.column);
    let time_columns = input.time_columns.iter().filter(grows).copied().collect();
    FlowProperties { changelog: spec.emit == Emit::OnChange, keys, time_columns }
}

/// The limit that a condition puts on the rows of a window, and the conditions that are left.
fn top(predicate: &Expr, window: &Window) -> Option<(OverLimit, Vec<Expr>)> {
    let parts: Vec<(&Expr, Option<Numbered>)> =
        split_conjunction(predicate).into_iter().map(|part| (part, numbered(part, window))).collect();
    // The first numbering that has an upper bound.
    let bounded = |bound: &&Numbered| bound.to.is_some();
    let (column, by) = parts.iter().filter_map(|(_, bound)| bound.as_ref()).find(bounded).map(|b| (b.column, b.by))?;
    let (mut from, mut to, mut rest) = (1_i64, i64::MAX, Vec::new());
    for (part, bound) in parts {
        match bound {
            Some(bound) if bound.column == column && (by == RankedBy::RowNumber || bound.from.is_none()) => {
                from = from.max(bound.from.unwrap_or(1));
                to = to.min(bound.to.unwrap_or(i64::MAX));
            }
            Some(bound) if bound.column == column => {
                // Of a rank only the upper bound limits what is kept.
                to = to.min(bound.to.unwrap_or(i64::MAX));
                rest.push(part.clone());
            }
            _ => rest.push(part.clone()),
        }
    }
    let skip = u64::try_from(from - 1).unwrap_or(0);
    let take = u64::try_from(to.saturating_sub(from).saturating_add(1)).unwrap_or(0);
    Some((OverLimit { by, skip, take: Some(take) }, rest))
}

/// A condition on a row's number: from where, and up to where.
struct Numbered {
    /// The function's place among the window's.
    column: usize,
    by: RankedBy,
    from: Option<i64>,
    to: Option<i64>,
}

fn numbered(condition: &Expr, window: &Window) -> Option<Numbered> {
    let (column, from, to) = match condition {
        Expr::BinaryExpr(binary) => {
            let (column, op, number) = match (number(&binary.left), number(&binary.right)) {
                (None, Some(number)) => (column(&binary.left)?, binary.op, number),
                (Some(number), None) => (column(&binary.right)?, binary.op.swap()?, number),
                _ => return None,
            };
            match op {
                Operator::LtEq => (column, None, Some(number)),
                Operator::Lt => (column, None, Some(number.checked_sub(1)?)),
                Operator::Eq => (column, Some(number), Some(number)),
                Operator::GtEq => (column, Some(number), None),
                Operator::Gt => (column, Some(number.checked_add(1)?), None),
                _ => return None,
            }
        }
        Expr::Between(between) if !between.negated => {
            (column(&between.expr)?, Some(number(&between.low)?), Some(number(&between.high)?))
        }
        _ => return None,
    };
    let width = window.input.schema().fields().len();
    let column = window.schema.maybe_index_of_column(column)?.checked_sub(width)?;
    let Expr::WindowFunction(call) = window.window_expr.get(column)?.clone().unalias() else { return None };
    let WindowFunctionDefinition::WindowUDF(own) = &call.fun else { return None };
    let by = match own.name() {
        "row_number" => RankedBy::RowNumber,
        "rank" => RankedBy::Rank,
        "dense_rank" => RankedBy::DenseRank,
        _ => return None,
    };
    Some(Numbered { column, by, from, to })
}

fn column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) if cast.field.data_type().is_integer() => column(&cast.expr),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    if !value.data_type().is_integer() {
        return None;
    }
    match value.cast_to(&arrow::datatypes::DataType::Int64).ok()? {
        ScalarValue::Int64(number) => number,
        _ => None,
    }
}
