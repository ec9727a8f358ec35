//! Windows and aggregates.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate, Expr};

use crate::error::{Error, Result};
use crate::plan::fault::planning_error;
use crate::plan::flow::{Emit, FlowOp, FlowProperties, NodeIndex, TimeColumn, WindowKey, WindowSpec};
use crate::plan::node::window::WindowNode;
use crate::plan::properties::{Promise, promise};
use crate::plan::windowed::Windowed;

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn window(&mut self, window: &WindowNode) -> Result<NodeIndex> {
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

    pub(super) fn window_aggregate(&mut self, aggregate: &Aggregate, parts: Windowed<'_>) -> Result<NodeIndex> {
        let mut input = self.node(parts.input)?;
        for predicate in parts.filters {
            input = self.filter(input, predicate)?;
        }
        self.steady(aggregate, input)?;
        let schema = self.schema(input);
        let time_column = schema.index_of_column(parts.time).map_err(planning_error)?;
        let watermark = promise(&Expr::Column(parts.time.clone()), schema, self.properties(input));
        if self.emit == Emit::AfterWatermark && watermark.is_none() {
            return Err(no_watermark(&parts.time.name));
        }
        let retracts = self.properties(input).changelog;
        let mut shown_from = None;
        let mut watermark = watermark;
        if let Some(lateness) = self.emission.lateness {
            let Some((id, delay)) = watermark else {
                return Err(no_watermark(&parts.time.name));
            };
            // Otherwise the query's end decides when a window is shown.
            shown_from = watermark.filter(|_| self.emission.waits_in_windows());
            self.corrects_late = true;
            watermark = Some((id, delay.saturating_add(lateness)));
        }
        // Without aggregates a row is final when it is first shown, unless its rows may be taken back.
        let emit = if parts.aggregates.is_empty() && !retracts { Emit::OnChange } else { self.emit };
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
            changelog: emit == Emit::OnChange && (retracts || !parts.aggregates.is_empty()),
            keys: vec![(0..parts.group.len()).collect()],
            time_columns,
        };
        let op = FlowOp::WindowAggregate {
            window: parts.window,
            time_column,
            watermark,
            shown_from,
            group: parts.group,
            aggregates: parts.aggregates,
            emit,
        };
        self.push(op, vec![input], Arc::clone(&aggregate.schema), properties)
    }

    pub(super) fn aggregate(&mut self, aggregate: &Aggregate) -> Result<NodeIndex> {
        let input = self.node(&aggregate.input)?;
        if aggregate.aggr_expr.is_empty() && self.properties(input).changelog {
            return self.distinct(aggregate, input);
        }
        self.steady(aggregate, input)?;
        let group: Vec<Expr> = aggregate.group_expr.iter().cloned().map(Expr::unalias).collect();
        let aggregates: Vec<Expr> = aggregate.aggr_expr.iter().cloned().map(Expr::unalias).collect();
        let promises = group.iter().enumerate().filter_map(|(index, expr)| {
            let (watermark, delay) = promise(expr, self.schema(input), self.properties(input))?;
            Some((index, watermark, delay))
        });
        let closes = promises.min_by_key(|(_, _, delay)| *delay);
        let retracts = self.properties(input).changelog;
        // Without aggregates (DISTINCT) a row is final when it is first shown, unless its rows may be taken back.
        let emit = if aggregates.is_empty() && !retracts { Emit::OnChange } else { self.emit };
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
        // A row of DISTINCT that is forgotten may come again, and stand there twice.
        let [ttl, _] = self.ttl_of([&aggregate.input; 2]);
        let comes_again = ttl.is_some() && closes.is_none() && aggregates.is_empty();
        let properties = FlowProperties {
            changelog: emit == Emit::OnChange && (retracts || !aggregates.is_empty()),
            keys: if comes_again { Vec::new() } else { vec![(0..group.len()).collect()] },
            time_columns: time_columns.into_iter().collect(),
        };
        let op = FlowOp::Aggregate { group, aggregates, closes, emit };
        let node = self.push(op, vec![input], Arc::clone(&aggregate.schema), properties)?;
        self.remember(node, [&aggregate.input; 2]);
        Ok(node)
    }

    /// Refuses volatile functions in an aggregate over rows that may be retracted.
    fn steady(&self, aggregate: &Aggregate, input: NodeIndex) -> Result<()> {
        self.stable(&aggregate.group_expr, input)?;
        self.stable(&aggregate.aggr_expr, input)
    }
}

pub(super) fn no_watermark(time: &str) -> Error {
    Error::not_supported(format!(
        "EMIT AFTER WATERMARK needs a watermark on {time}, and nothing says how late its rows may be"
    ))
    .with_hint(format!("give the stream a WATERMARK FOR {time} AS {time} - INTERVAL '10' SECOND"))
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
