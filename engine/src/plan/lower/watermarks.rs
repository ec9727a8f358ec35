//! Watermarks: the least of several, and those that nobody waits for.

use std::collections::BTreeSet;

use crate::plan::flow::{DerivedWatermark, FlowOp, FlowPlan, NodeIndex, OverSpec, ShowSpec};
use crate::plan::properties::Promise;
use crate::plan::release::join_release;
use crate::time::WatermarkId;

use super::Lowering;

/// Numbers of derived watermarks until all scans are known.
const DERIVED: u32 = 1 << 31;

impl Lowering<'_> {
    /// The promise of rows that come with any of these promises.
    pub(super) fn least(&mut self, mut promises: Vec<Promise>) -> Option<Promise> {
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
    /// Gives the derived watermarks their numbers behind the scans'.
    pub(super) fn numbered(mut self) -> FlowPlan {
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
            if let FlowOp::WindowAggregate { shown_from: Some((id, _)), .. } = &mut node.op {
                number(id);
            }
            if let FlowOp::PaneAggregate { firing, closes, .. } | FlowOp::Show(ShowSpec { firing, closes, .. }) =
                &mut node.op
            {
                firing.complete.iter_mut().chain(closes).for_each(|(_, id, _)| number(id));
            }
            node.properties.time_columns.iter_mut().for_each(|time| number(&mut time.watermark));
            match &mut node.op {
                FlowOp::AsOf(spec) => spec.promises.iter_mut().flatten().for_each(|(id, _)| number(id)),
                FlowOp::WindowAggregate { watermark: Some((id, _)), .. }
                | FlowOp::Session { watermark: Some((id, _)), .. }
                | FlowOp::Aggregate { closes: Some((_, id, _)), .. }
                | FlowOp::Set { closes: Some((_, id, _)), .. }
                | FlowOp::Over(OverSpec { closes: Some((_, id, _)), .. } | OverSpec { settles: Some((id, _)), .. }) => {
                    number(id)
                }
                _ => {}
            }
        }
        self.plan
    }
}

/// The scans, in the order in which they are met, whose watermark decides nothing: no window or group closes by it, no
/// join releases rows by it, and no reader of the result is told of it.
pub(super) fn unneeded(plan: &FlowPlan, scans: &[NodeIndex]) -> BTreeSet<usize> {
    let mut needed: Vec<WatermarkId> = Vec::new();
    for (index, node) in plan.nodes.iter().enumerate() {
        match &node.op {
            FlowOp::WindowAggregate { watermark, .. } | FlowOp::Session { watermark, .. } => {
                needed.extend(watermark.map(|(id, _)| id));
            }
            FlowOp::Aggregate { closes, .. } | FlowOp::Set { closes, .. } => {
                needed.extend(closes.map(|(_, id, _)| id));
            }
            FlowOp::PaneAggregate { firing, closes, .. } | FlowOp::Show(ShowSpec { firing, closes, .. }) => {
                needed.extend(firing.complete.iter().chain(closes).map(|(_, id, _)| *id));
            }
            FlowOp::Over(spec) => {
                needed.extend(spec.closes.map(|(_, id, _)| id));
                needed.extend(spec.settles.map(|(id, _)| id));
            }
            FlowOp::AsOf(spec) => {
                let promises = spec.settles().into_iter().chain(spec.releases()).flatten();
                needed.extend(promises.map(|(id, _)| id));
            }
            FlowOp::Join { .. } => {
                let releases = join_release(plan, index).into_iter().flatten();
                needed.extend(releases.flat_map(|release| release.promises).map(|(id, _)| id));
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
