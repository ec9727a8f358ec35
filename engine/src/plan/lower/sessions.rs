//! Sessions.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;

use crate::error::Result;
use crate::plan::fault::planning_error;
use crate::plan::flow::{Emit, FlowOp, FlowProperties, NodeIndex, TimeColumn};
use crate::plan::node::session::SessionNode;
use crate::plan::properties::promise;

use super::Lowering;
use super::aggregates::no_watermark;

impl Lowering<'_> {
    pub(super) fn session(&mut self, session: &SessionNode) -> Result<NodeIndex> {
        let input = self.node(session.input())?;
        self.stable(session.partition(), input)?;
        let schema = self.schema(input);
        let time_column = schema.index_of_column(session.time()).map_err(planning_error)?;
        let watermark = promise(&Expr::Column(session.time().clone()), schema, self.properties(input));
        let time = &session.time().name;
        if self.emit == Emit::AfterWatermark && watermark.is_none() {
            return Err(no_watermark(time));
        }
        let bounds = session.output().iter().skip(session.input().schema().fields().len());
        let fields = schema.iter().chain(bounds).map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)));
        let output = DFSchema::new_with_metadata(fields.collect(), HashMap::new()).map_err(planning_error)?;
        // A session that the watermark has passed is final. When it began says nothing of that.
        let end = schema.fields().len() + 1;
        let ends = watermark.map(|(watermark, delay_micros)| TimeColumn { column: end, watermark, delay_micros });
        let properties = FlowProperties {
            changelog: self.emit == Emit::OnChange,
            keys: self.properties(input).keys.clone(),
            time_columns: ends.into_iter().collect(),
        };
        let op = FlowOp::Session {
            time_column,
            gap_micros: session.gap_micros(),
            partition: session.partition().to_vec(),
            watermark,
            emit: self.emit,
        };
        self.push(op, vec![input], Arc::new(output), properties)
    }
}
