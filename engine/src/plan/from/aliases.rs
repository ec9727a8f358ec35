//! `t AS x (a, b)` gives names to the first columns of a relation; the others keep theirs. DataFusion wants one for each.

use std::ops::ControlFlow;

use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    Ident, Query, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, VisitMut, VisitorMut,
};

use crate::error::{Error, ErrorKind};
use crate::plan::fault::at_name;
use crate::sql::parse_query;

/// Plans tables and subqueries with names for their columns.
#[derive(Debug, Default)]
pub(in crate::plan) struct ColumnAliases;

impl RelationPlanner for ColumnAliases {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let Some(mut alias) = names_columns(&mut relation).and_then(Option::take) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = context.plan(relation)?;
        let (there, given) = (plan.schema().fields().len(), alias.columns.len());
        if given > there {
            let text = format!("{given} names are given to the columns of {}, which has {there}", alias.name);
            return Err(at_name(Error::new(ErrorKind::UndefinedColumn, text), &alias.name).into());
        }
        for column in plan.schema().columns().iter().skip(alias.columns.len()) {
            let name = Ident::with_quote('"', &column.name);
            alias.columns.push(TableAliasColumnDef { name, data_type: None });
        }
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias)))))
    }
}

/// The alias of such a relation.
fn names_columns(relation: &mut TableFactor) -> Option<&mut Option<TableAlias>> {
    let alias = match relation {
        TableFactor::Derived { alias, .. } | TableFactor::Table { args: None, alias, .. } => alias,
        _ => return None,
    };
    alias.as_ref().is_some_and(|alias| !alias.columns.is_empty()).then_some(alias)
}

/// `WITH w (a) AS (q)` as `WITH w AS (SELECT * FROM (q) AS w (a))`: there the names are those of a relation.
pub(in crate::plan) fn name_in_from(query: &mut Query) {
    // The visitor never breaks off.
    let _ = query.visit(&mut CommonTables);
}

struct CommonTables;

impl VisitorMut for CommonTables {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let tables = query.with.iter_mut().filter(|with| !with.recursive).flat_map(|with| &mut with.cte_tables);
        for table in tables.filter(|table| !table.alias.columns.is_empty()) {
            if let Some(of) = all_of(&table.query, &table.alias) {
                *table.query = of;
                table.alias.columns.clear();
            }
        }
        ControlFlow::Continue(())
    }
}

/// `SELECT * FROM (query) AS alias`.
fn all_of(query: &Query, alias: &TableAlias) -> Option<Query> {
    let mut all = *parse_query("SELECT * FROM x").ok()?.body;
    let SetExpr::Select(select) = all.body.as_mut() else { return None };
    let (subquery, alias) = (Box::new(query.clone()), Some(alias.clone()));
    select.from.first_mut()?.relation = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
    Some(all)
}
