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
        let alias = Some(called(&function, alias.as_ref()));
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

/// The alias of a function that makes one column: as in PostgreSQL the relation and its column are called as the function
/// is, if nothing else is said.
pub(super) fn called(function: &str, alias: Option<&ast::TableAlias>) -> ast::TableAlias {
    let mut alias = alias.cloned().unwrap_or_else(|| ast::TableAlias {
        explicit: true,
        name: Ident::new(function),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns.push(ast::TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
    alias
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
