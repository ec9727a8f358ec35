//! UNNEST.

use std::sync::Arc;

use datafusion::common::NullHandling;
use datafusion::logical_expr::Unnest;

use crate::error::{Error, Result};
use crate::plan::flow::{FlowOp, FlowProperties, NodeIndex, TimeColumn, UnnestSpec};

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn unnest(&mut self, unnest: &Unnest) -> Result<NodeIndex> {
        let input = self.node(&unnest.input)?;
        let input = self.fitted(input, unnest.input.schema())?;
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(column, _)| *column).collect();
        let nested = unnest.list_type_columns.iter().any(|(_, list)| list.depth > 1);
        let several = lists.iter().enumerate().any(|(place, list)| lists[..place].contains(list));
        if nested || several {
            return Err(Error::not_supported("unnest inside unnest is not supported in a continuous query")
                .with_hint("unnest the outer list in a subquery, and its elements around it"));
        }
        let keep_empty = match unnest.options.null_handling {
            NullHandling::Drop => false,
            NullHandling::PreserveAndExpandEmpty => true,
            NullHandling::Preserve => return Err(Error::internal("unnest that keeps NULL lists and not empty ones")),
        };
        let spec = UnnestSpec {
            lists,
            structs: unnest.struct_type_columns.clone(),
            columns: unnest.dependency_indices.clone(),
            keep_empty,
        };
        let multiplied = |column: usize| spec.lists.contains(&column) || spec.structs.contains(&column);
        let below = self.properties(input);
        let time_columns = spec.columns.iter().enumerate().filter_map(|(column, &from)| {
            let time = below.time_columns.iter().find(|time| time.column == from && !multiplied(from))?;
            Some(TimeColumn { column, ..*time })
        });
        let time_columns = time_columns.collect();
        let place = |column: &usize| spec.columns.iter().position(|from| from == column && !multiplied(*from));
        // Only where no row becomes several do keys stay keys.
        let keys = match spec.lists.is_empty() {
            true => below.keys.iter().filter_map(|key| key.iter().map(place).collect()).collect(),
            false => Vec::new(),
        };
        let properties = FlowProperties { changelog: below.changelog, keys, time_columns };
        self.push(FlowOp::Unnest(spec), vec![input], Arc::clone(&unnest.schema), properties)
    }
}
