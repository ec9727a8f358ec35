//! As-of joins and temporal joins.

use std::sync::Arc;

use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{Error, Result};
use crate::plan::asof::AsOfNode;
use crate::plan::event_time::grows_with;
use crate::plan::fault::planning_error;
use crate::plan::flow::{AsOfSpec, Emit, FlowOp, FlowProperties, NodeIndex, TimeColumn};
use crate::plan::properties::promise;

use super::Lowering;
use super::joins::same_as;

impl Lowering<'_> {
    pub(super) fn as_of(&mut self, node: &AsOfNode) -> Result<NodeIndex> {
        let [left, right] = node.sides();
        let inputs = [self.side(left)?, self.side(right)?];
        let times = node.times().cloned().ok_or_else(|| Error::internal("an as-of join has times"))?;
        let changelogs = inputs.map(|input| self.properties(input).changelog);
        let promised = |input: NodeIndex, time: &Expr| promise(time, self.schema(input), self.properties(input));
        let rule = node.rule();
        let mut spec = AsOfSpec {
            keeps_unmatched: rule.keeps_unmatched,
            on: node.on().to_vec(),
            promises: [promised(inputs[0], &times.0), promised(inputs[1], &times.1)],
            times,
            side: rule.side,
            ties: self.ties(inputs[1], node.ties())?,
            changelogs,
            emit: Emit::OnChange,
        };
        if rule.temporal {
            self.check_temporal(&spec, inputs)?;
        }
        let final_only = rule.temporal || self.emit == Emit::AfterWatermark;
        if final_only && !changelogs[0] && spec.settles().is_some() {
            spec.emit = Emit::AfterWatermark;
        }
        let properties = FlowProperties {
            changelog: spec.emit == Emit::OnChange,
            // A left row meets one right row at most.
            keys: self.properties(inputs[0]).keys.clone(),
            time_columns: self.as_of_time(&spec, inputs).into_iter().collect(),
        };
        let schema = Arc::clone(datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(node));
        self.push(FlowOp::AsOf(spec), inputs.to_vec(), schema, properties)
    }

    fn side(&mut self, plan: &LogicalPlan) -> Result<NodeIndex> {
        let node = self.node(plan)?;
        self.fitted(node, plan.schema())
    }

    /// All columns of the right side: those that tell rows of one time apart, then any others.
    fn ties(&self, right: NodeIndex, ties: &[Expr]) -> Result<Vec<usize>> {
        let schema = self.schema(right);
        let mut columns = Vec::with_capacity(schema.fields().len());
        for tie in ties {
            let Expr::Column(column) = tie else { return Err(Error::internal("ties are told apart by columns")) };
            columns.push(schema.index_of_column(column).map_err(planning_error)?);
        }
        columns.extend((0..schema.fields().len()).filter(|column| !columns.contains(column)).collect::<Vec<_>>());
        Ok(columns)
    }

    /// The column that grows with the watermarks of both sides: of the left row, if its right row lies back in time, or
    /// else of the right row.
    fn as_of_time(&mut self, spec: &AsOfSpec, inputs: [NodeIndex; 2]) -> Option<TimeColumn> {
        let back = spec.side.is_back();
        let (input, other) = if back { (0, 1) } else { (1, 0) };
        let time = if back { &spec.times.0 } else { &spec.times.1 };
        let grows = grows_with(time, self.schema(inputs[input]))?;
        let known = &self.properties(inputs[input]).time_columns;
        let own = known.iter().find(|known| known.column == grows.column)?;
        let own = (own.watermark, own.delay_micros.max(spec.promises[input]?.1.saturating_add(grows.lead_micros)));
        let (watermark, delay) = spec.promises[other]?;
        let other = (watermark, delay.saturating_add(grows.lead_micros));
        let (watermark, delay_micros) = self.least(vec![own, other])?;
        let width = self.schema(inputs[0]).fields().len();
        let column = if back { grows.column } else { width + grows.column };
        Some(TimeColumn { column, watermark, delay_micros })
    }

    /// Refuses temporal joins whose rows would never be final, or would not be what was asked for.
    fn check_temporal(&self, spec: &AsOfSpec, inputs: [NodeIndex; 2]) -> Result<()> {
        const AS_OF: &str =
            "or write ASOF JOIN … MATCH_CONDITION (left.time >= right.time) ON …, whose rows are corrected";
        if spec.changelogs[0] {
            return Err(Error::not_supported(
                "the left side of a JOIN … FOR SYSTEM_TIME AS OF is looked up once, and rows of this one are still corrected",
            )
            .with_hint(format!("read a stream, or a view with EMIT AFTER WATERMARK; {AS_OF}")));
        }
        let (left, _) = &spec.times;
        if spec.promises[0].is_none() {
            return Err(Error::not_supported(format!(
                "FOR SYSTEM_TIME AS OF {}: that column has no watermark, which says when older versions can be let go",
                left.human_display()
            ))
            .with_hint(format!("name the event time of a stream with a WATERMARK; {AS_OF}")));
        }
        if spec.promises[1].is_none() {
            return Err(Error::not_supported(
                "FOR SYSTEM_TIME AS OF waits until no other version can come, and the versions have no watermark here",
            )
            .with_hint(format!("read them from a stream with a WATERMARK; {AS_OF}")));
        }
        let (schema, properties) = (self.schema(inputs[1]), self.properties(inputs[1]));
        let compared: Vec<usize> = spec.on.iter().filter_map(|(_, right)| same_as(right, schema)).collect();
        let one_each = |key: &Vec<usize>| key.iter().all(|column| compared.contains(column));
        if properties.changelog && properties.keys.iter().any(one_each) {
            return Err(Error::not_supported(
                "the right side of this JOIN … FOR SYSTEM_TIME AS OF has one row of each key, the present one: its older \
                 versions are gone",
            )
            .with_hint("join the stream that it is made of, or a table with the version's time in its key"));
        }
        Ok(())
    }
}

/// Says why an as-of join's rows never are final.
pub(super) fn never_settled(spec: &AsOfSpec) -> Error {
    let (left, right) = &spec.times;
    if spec.changelogs[0] {
        return Error::not_supported(
            "EMIT AFTER WATERMARK shows final rows only, and the left side of this as-of join is still corrected",
        )
        .with_hint("create the view that it reads with EMIT AFTER WATERMARK as well, or leave EMIT out here");
    }
    Error::not_supported(format!(
        "EMIT AFTER WATERMARK shows final rows only, and a row of this as-of join may still get a nearer one: {} has no watermark",
        right.human_display()
    ))
    .with_hint(format!(
        "read it from a stream with a WATERMARK, as {} may be; or leave EMIT out",
        left.human_display()
    ))
}
