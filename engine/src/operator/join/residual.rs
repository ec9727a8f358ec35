//! The condition of a join besides its equalities.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use super::super::expression::Expression;
use crate::error::Result;

/// A condition over only those columns of the joined row that it reads.
#[derive(Debug)]
pub(super) struct Residual {
    pub(super) condition: Expression,
    /// Their places in the joined row: left columns, then right columns.
    pub(super) columns: Vec<usize>,
    pub(super) schema: SchemaRef,
}

impl Residual {
    /// A condition over `joined`.
    pub(super) fn new(condition: &Expr, joined: &DFSchema) -> Result<Self> {
        let condition = Expression::new(condition, joined)?;
        let mut columns: Vec<usize> = collect_columns(condition.physical()).iter().map(Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let narrowed = Arc::clone(condition.physical()).transform_down(|node: Arc<dyn PhysicalExpr>| {
            let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
            let place = columns.partition_point(|index| *index < column.index());
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as _))
        })?;
        let fields: Vec<_> = columns.iter().map(|index| Arc::clone(&joined.inner().fields()[*index])).collect();
        Ok(Self {
            condition: Expression::bound(narrowed.data, condition.text()),
            columns,
            schema: Arc::new(Schema::new(fields)),
        })
    }
}
