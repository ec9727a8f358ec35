//! `FROM t, unnest(t.items) AS i (id, quantity)`: a list of rows, or a map, becomes a relation of its fields.
//!
//! As in PostgreSQL an array of a composite type has a column for each field. With one name (`AS i (item)`) the whole
//! element is one column.

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{Column, DFSchema, UnnestOptions};
use datafusion::error::Result as PlanResult;
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::functions_nested::map_entries::map_entries;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::TableFactor;

use super::series::called;

/// The elements, before their fields are columns.
const ELEMENT: &str = "unnest element";

/// Plans `unnest` of lists of structs and of maps; everything else is left to the next planner.
#[derive(Debug, Default)]
pub(super) struct Elements;

impl RelationPlanner for Elements {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality: false, .. } = &relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let [list] = array_exprs.as_slice() else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let names = alias.as_ref().map_or(0, |alias| alias.columns.len());
        let nothing = DFSchema::empty();
        let list = context.sql_to_expr(list.clone(), &nothing)?;
        let (list, fields) = match list.get_type(&nothing) {
            Ok(DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(fields) => (map_entries(list), fields.clone()),
                _ => return Ok(RelationPlanning::Original(Box::new(relation))),
            },
            Ok(DataType::List(element) | DataType::LargeList(element)) => match element.data_type() {
                DataType::Struct(fields) if names != 1 => (list, fields.clone()),
                DataType::Struct(_) => return Ok(RelationPlanning::Original(Box::new(relation))),
                _ => return Ok(RelationPlanning::Original(Box::new(named(relation)))),
            },
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let plan = of_fields(list, &fields)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// A list of values makes one column.
fn named(mut relation: TableFactor) -> TableFactor {
    if let TableFactor::UNNEST { alias, .. } = &mut relation {
        *alias = Some(called("unnest", alias.as_ref()));
    }
    relation
}

fn of_fields(list: Expr, fields: &Fields) -> PlanResult<LogicalPlan> {
    let element = Column::new_unqualified(ELEMENT);
    let columns =
        fields.iter().map(|field| Expr::Column(element.clone()).field(field.name().as_str()).alias(field.name()));
    LogicalPlanBuilder::empty(true)
        .project([list.alias(ELEMENT)])?
        .unnest_column_with_options(element.clone(), UnnestOptions::new().with_preserve_nulls(false))?
        .project(columns.collect::<Vec<_>>())?
        .build()
}
