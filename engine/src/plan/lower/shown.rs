//! The end of a query with `EMIT`: what is held back, and how corrections look.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::{Aggregate, Expr};

use crate::error::{Error, Result};
use crate::plan::emission::{Destination, Grouped, changelog_fields, check_changelog_names};
use crate::plan::fault::planning_error;
use crate::plan::flow::{Corrections, EmitMode, Firing, FlowOp, FlowProperties, NodeIndex, ShowSpec, TimeColumn};
use crate::plan::properties::{projected, promise};
use crate::time::WatermarkId;

use super::Lowering;

impl Lowering<'_> {
    /// Puts an end behind the query, if its `EMIT` asks for one.
    pub(super) fn shown(&mut self, root: NodeIndex, grouped: &Grouped, destination: Destination) -> Result<NodeIndex> {
        let emission = self.emission;
        let corrected = self.properties(root).changelog;
        if emission.mode == Some(EmitMode::Discarding) && corrected {
            return Err(discards_corrected());
        }
        let panes = self.panes.is_some();
        let holds = emission.is_early() && !panes;
        let replaces = emission.mode == Some(EmitMode::Accumulating) && corrected;
        if !(holds || emission.stream || replaces) {
            return self.cut(root, grouped.visible);
        }
        let (key, is_group) = self.group_of(root, grouped);
        if replaces && !is_group {
            return Err(Error::not_supported(
                "ACCUMULATING shows the new row of a group in place of its old one, and the rows of this result have no key",
            )
            .with_hint("end the query in GROUP BY, or leave ACCUMULATING out"));
        }
        let grows: Option<(usize, TimeColumn)> = {
            let of_key = |time: &&TimeColumn| key.contains(&time.column);
            let time = self.properties(root).time_columns.iter().filter(of_key).min_by_key(|time| time.delay_micros);
            time.and_then(|time| Some((key.iter().position(|column| *column == time.column)?, *time)))
        };
        let closes = grows.map(|(place, time)| (place, time.watermark, time.delay_micros));
        let mut firing = Firing::default();
        if holds {
            firing = self.firing(closes)?;
        }
        let spec = ShowSpec {
            key,
            visible: grouped.visible,
            firing,
            counts: grouped.counts.filter(|_| self.counts_what_comes(root)),
            corrections: if replaces { Corrections::Replaced } else { Corrections::Retracted },
            stream: emission.stream,
            numbered: emission.stream && (corrected || panes),
            closes,
        };
        let takes_back = corrected && !emission.stream && !(replaces && self.stays(root));
        if takes_back && replaces && destination == Destination::Appends {
            return Err(Error::not_supported("ACCUMULATING takes no row back, and in this query a group may go away")
                .with_hint(
                    "write into a sink that upserts, or write EMIT STREAM: then an undo says that a row is gone",
                ));
        }
        let properties = self.shown_properties(root, &spec, takes_back);
        let schema = self.shown_schema(root, &spec)?;
        self.push(FlowOp::Show(spec), vec![root], schema, properties)
    }

    /// What makes a group show; `closes` says what completes it.
    fn firing(&self, closes: Option<(usize, WatermarkId, i64)>) -> Result<Firing> {
        let emission = self.emission;
        let complete = match (emission.on_time, closes) {
            (false, _) => None,
            // The time at which nothing changes any more, less what is allowed to come late.
            (true, Some((place, watermark, delay))) => {
                Some((place, watermark, delay.saturating_sub(emission.lateness.unwrap_or(0))))
            }
            (true, None) => return Err(never_complete()),
        };
        Ok(Firing { delay_micros: emission.delay_micros, rows: emission.rows, complete })
    }

    /// The columns that say to which group a row of the result belongs, and whether at most one row of a group is there: an
    /// aggregate's group, a key, the bounds of a window, or nothing (the whole result is a group).
    fn group_of(&self, root: NodeIndex, grouped: &Grouped) -> (Vec<usize>, bool) {
        if let Some(group) = &grouped.group {
            return (group.clone(), true);
        }
        if let Some(key) = self.properties(root).keys.first() {
            return (key.clone(), true);
        }
        let bounds = |name: &&str| self.schema(root).fields().iter().position(|field| field.name() == *name);
        (["window_start", "window_end"].iter().filter_map(bounds).collect(), false)
    }

    /// Whether the aggregate that the query ends in reads rows that only come: then its count of rows says how many have.
    fn counts_what_comes(&self, root: NodeIndex) -> bool {
        let node = &self.plan.nodes[root];
        let input = node.inputs.first();
        match node.op {
            FlowOp::Project { .. } | FlowOp::Filter { .. } => input.is_some_and(|input| self.counts_what_comes(*input)),
            FlowOp::Aggregate { .. } | FlowOp::WindowAggregate { .. } => {
                input.is_some_and(|input| !self.properties(*input).changelog)
            }
            _ => false,
        }
    }

    /// Whether a group of the result that is there once stays there: it is an aggregate of rows that only come.
    fn stays(&self, root: NodeIndex) -> bool {
        let node = &self.plan.nodes[root];
        match node.op {
            FlowOp::Project { .. } => node.inputs.first().is_some_and(|input| self.stays(*input)),
            FlowOp::Filter { .. } => false,
            // What is forgotten leaves the result.
            _ => self.plan.state_ttl.is_none() && self.ttls.is_empty() && self.counts_what_comes(root),
        }
    }

    /// The first columns of a node.
    fn cut(&mut self, node: NodeIndex, visible: usize) -> Result<NodeIndex> {
        let columns = self.schema(node).columns();
        if columns.len() == visible {
            return Ok(node);
        }
        let expressions: Vec<Expr> = columns.into_iter().take(visible).map(Expr::Column).collect();
        let properties = projected(&expressions, self.schema(node), self.properties(node));
        let fields = self.first_fields(node, visible);
        let schema = DFSchema::new_with_metadata(fields, HashMap::new()).map_err(planning_error)?;
        self.push(FlowOp::Project { expressions }, vec![node], Arc::new(schema), properties)
    }

    fn first_fields(&self, node: NodeIndex, count: usize) -> Vec<QualifiedField> {
        let fields = self.schema(node).iter().take(count);
        fields.map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect()
    }

    fn shown_schema(&self, root: NodeIndex, spec: &ShowSpec) -> Result<DFSchemaRef> {
        let mut fields = self.first_fields(root, spec.visible);
        if spec.stream {
            check_changelog_names(fields.iter().map(|(_, field)| field.name()))?;
            fields.extend(changelog_fields().map(|field| (None, field)));
        }
        Ok(Arc::new(DFSchema::new_with_metadata(fields, HashMap::new()).map_err(planning_error)?))
    }

    fn shown_properties(&self, root: NodeIndex, spec: &ShowSpec, takes_back: bool) -> FlowProperties {
        let FlowProperties { keys, mut time_columns, .. } = self.properties(root).clone();
        // A row that waits for something else than its watermark comes after it.
        let keeps_time = !spec.firing.holds_back() || spec.firing.complete.is_some();
        time_columns.retain(|time| keeps_time && time.column < spec.visible);
        let mut keys: Vec<Vec<usize>> =
            keys.into_iter().filter(|key| key.iter().all(|column| *column < spec.visible)).collect();
        if spec.numbered {
            // A group has many rows, of different numbers.
            let named = spec.key.iter().all(|column| *column < spec.visible);
            let mut key = spec.key.clone();
            key.push(spec.visible + 2);
            keys = if named { vec![key] } else { Vec::new() };
        } else if spec.corrections == Corrections::Replaced {
            keys.clear();
        }
        FlowProperties { changelog: takes_back, keys, time_columns }
    }

    /// The aggregate that a query with `DISCARDING` ends in: of what has come since a group was last shown.
    pub(super) fn pane_aggregate(&mut self, aggregate: &Aggregate) -> Result<NodeIndex> {
        let input = self.node(&aggregate.input)?;
        if self.properties(input).changelog {
            return Err(discards_corrected());
        }
        let group: Vec<Expr> = aggregate.group_expr.iter().cloned().map(Expr::unalias).collect();
        let aggregates: Vec<Expr> = aggregate.aggr_expr.iter().cloned().map(Expr::unalias).collect();
        let promises = group.iter().enumerate().filter_map(|(index, expr)| {
            let (watermark, delay) = promise(expr, self.schema(input), self.properties(input))?;
            Some((index, watermark, delay))
        });
        let mut grows = promises.min_by_key(|(_, _, delay)| *delay);
        if let (Some(lateness), Some((_, _, delay))) = (self.emission.lateness, &mut grows) {
            *delay = delay.saturating_add(lateness);
            self.corrects_late = true;
        }
        let firing = self.firing(grows)?;
        // No row comes any more for a window whose end the watermark has reached.
        let is_end = grows.is_some_and(|(index, ..)| self.is_window_end(&group[index], input));
        let closes = grows.map(|(index, watermark, delay)| (index, watermark, delay.saturating_sub(i64::from(is_end))));
        let keeps_time = !firing.holds_back() || firing.complete.is_some();
        let time = grows.filter(|_| keeps_time);
        let time = time.map(|(column, watermark, delay_micros)| TimeColumn { column, watermark, delay_micros });
        let properties =
            FlowProperties { changelog: false, keys: Vec::new(), time_columns: time.into_iter().collect() };
        let op = FlowOp::PaneAggregate { group, aggregates, closes, firing };
        self.push(op, vec![input], Arc::clone(&aggregate.schema), properties)
    }

    /// Whether an expression over a node's rows is the end of a window that they were put into.
    fn is_window_end(&self, expr: &Expr, input: NodeIndex) -> bool {
        let schema = self.schema(input);
        let place = expr.try_as_col().and_then(|column| schema.maybe_index_of_column(column));
        let mut node = &self.plan.nodes[input];
        while let (FlowOp::Filter { .. }, [below]) = (&node.op, node.inputs.as_slice()) {
            node = &self.plan.nodes[*below];
        }
        matches!(node.op, FlowOp::Window { .. }) && place.is_some_and(|place| place + 1 == schema.fields().len())
    }

    /// Whether an aggregate is the one that discards.
    pub(super) fn discards(&self, aggregate: &Aggregate) -> bool {
        self.panes == Some(std::ptr::from_ref(aggregate))
    }
}

type QualifiedField = (Option<datafusion::common::TableReference>, arrow::datatypes::FieldRef);

fn discards_corrected() -> Error {
    Error::not_supported(
        "DISCARDING shows what has come since the last time, and this query reads rows that are taken back or corrected",
    )
    .with_hint("write it over a stream, or over a view with EMIT AFTER WATERMARK; or leave DISCARDING out")
}

fn never_complete() -> Error {
    Error::not_supported("EMIT AFTER WATERMARK needs groups that a watermark completes, and these never end").with_hint(
        "group by window_start and window_end of TUMBLE, HOP or CUMULATE over a stream with a WATERMARK, or leave AFTER WATERMARK out",
    )
}
