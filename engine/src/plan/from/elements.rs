//! `FROM t, unnest(t.items) AS i (id, quantity)`: a list of rows, or a map, becomes a relation of its fields.
//!
//! As in PostgreSQL an array of a composite type has a column for each field. With one name (`AS i (item)`) the whole
//! element is one column. `WITH ORDINALITY` has the element's place as its last column.

use arrow::datatypes::{DataType, Fields};
use datafusion::common::{Column, DFSchema, UnnestOptions};
use datafusion::error::Result as PlanResult;
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::functions_nested::map_entries::map_entries;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, TableFactor};

use crate::error::Error;

use super::series::{ORDINALITY, called, elements_of, places_of};

/// The elements, before their fields are columns.
const ELEMENT: &str = "unnest element";

/// Plans `unnest` of lists of structs and of maps; everything else is left to the next planner.
#[derive(Debug, Default)]
pub(in crate::plan) struct Elements;

impl RelationPlanner for Elements {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let relation = unnested(relation);
        let TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality, .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let numbered = *with_ordinality;
        let list = match array_exprs.as_slice() {
            [list] => list,
            _ if numbered => {
                return Err(Error::not_supported("WITH ORDINALITY numbers the elements of one list")
                    .with_hint("write unnest(a) WITH ORDINALITY, and take the other list's element by its place: b[n]")
                    .into());
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let names = alias.as_ref().map_or(0, |alias| alias.columns.len());
        let whole = if numbered { 2 } else { 1 };
        let nothing = DFSchema::empty();
        let written = list.clone();
        let list = context.sql_to_expr(written.clone(), &nothing)?;
        let (list, fields) = match list.get_type(&nothing) {
            Ok(DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(fields) => (map_entries(list), fields.clone()),
                _ => return Ok(RelationPlanning::Original(Box::new(relation))),
            },
            Ok(DataType::List(element) | DataType::LargeList(element)) => match element.data_type() {
                DataType::Struct(fields) if names != whole || (numbered && fields.len() == 1) => (list, fields.clone()),
                DataType::Struct(_) if !numbered => return Ok(RelationPlanning::Original(Box::new(relation))),
                _ => {
                    let alias = called("unnest", alias.as_ref(), numbered);
                    let elements = elements_of(written, Some(alias), numbered);
                    return Ok(RelationPlanning::Original(Box::new(elements)));
                }
            },
            _ if numbered => {
                let elements = elements_of(written, Some(called("unnest", alias.as_ref(), true)), true);
                return Ok(RelationPlanning::Original(Box::new(elements)));
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let places = numbered.then(|| context.sql_to_expr(places_of(written), &nothing)).transpose()?;
        let plan = of_fields(list, &fields, places)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

/// `LATERAL unnest(…)` as `unnest(…)`, which may name what stands before it at any rate.
fn unnested(relation: TableFactor) -> TableFactor {
    match relation {
        TableFactor::Function { name, args, with_ordinality, alias, .. }
            if name.to_string().eq_ignore_ascii_case("unnest") && args.iter().all(|arg| plain(arg).is_some()) =>
        {
            TableFactor::UNNEST {
                alias,
                array_exprs: args.iter().filter_map(plain).cloned().collect(),
                with_offset: false,
                with_offset_alias: None,
                with_ordinality,
            }
        }
        other => other,
    }
}

fn plain(argument: &FunctionArg) -> Option<&ast::Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn of_fields(list: Expr, fields: &Fields, places: Option<Expr>) -> PlanResult<LogicalPlan> {
    let element = Column::new_unqualified(ELEMENT);
    let place = places.is_some().then(|| Column::new_unqualified(ORDINALITY));
    let columns =
        fields.iter().map(|field| Expr::Column(element.clone()).field(field.name().as_str()).alias(field.name()));
    let columns: Vec<Expr> = columns.chain(place.clone().map(Expr::Column)).collect();
    let lists = std::iter::once(list.alias(ELEMENT)).chain(places.map(|places| places.alias(ORDINALITY)));
    LogicalPlanBuilder::empty(true)
        .project(lists)?
        .unnest_columns_with_options(
            std::iter::once(element).chain(place).collect(),
            UnnestOptions::new().with_preserve_nulls(false),
        )?
        .project(columns)?
        .build()
}
