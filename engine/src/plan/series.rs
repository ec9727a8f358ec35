//! `generate_series` and `range` in FROM: the elements of the list that the functions of these names make.

use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart, TableFactor,
};

/// Plans the series functions; everything else is left to the next planner.
#[derive(Debug, Default)]
pub(super) struct Series;

impl RelationPlanner for Series {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let (name, arguments, alias) = match &relation {
            TableFactor::Table { name, args: Some(arguments), alias, .. } => (name, &arguments.args, alias),
            TableFactor::Function { name, args, alias, .. } => (name, args, alias),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let function = match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => ident.value.to_lowercase(),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        if !matches!(function.as_str(), "generate_series" | "range") {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let mut alias = alias.clone();
        // As in PostgreSQL the column is called as the relation is.
        let column = alias.as_ref().map_or_else(|| Ident::new(function.as_str()), |alias| alias.name.clone());
        if let Some(alias) = &mut alias
            && alias.columns.is_empty()
        {
            alias.columns.push(ast::TableAliasColumnDef { name: column, data_type: None });
        }
        let unnest = TableFactor::UNNEST {
            alias: None,
            array_exprs: vec![call(&function, arguments)],
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        };
        let plan = context.plan(unnest).map_err(|error| match error {
            DataFusionError::Plan(text) => DataFusionError::Plan(format!("{function}: {text}")),
            other => other,
        })?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn call(function: &str, arguments: &[FunctionArg]) -> ast::Expr {
    let list = FunctionArgumentList { duplicate_treatment: None, args: arguments.to_vec(), clauses: Vec::new() };
    ast::Expr::Function(ast::Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(function))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
