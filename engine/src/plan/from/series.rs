//! `generate_series` and `range` in FROM: the elements of the list that the functions of these names make.

use datafusion::error::{DataFusionError, Result as PlanResult};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    TableFactor,
};

/// The column of an element's place.
pub(in crate::plan) const ORDINALITY: &str = "ordinality";

/// Plans the series functions; everything else is left to the next planner.
#[derive(Debug, Default)]
pub(in crate::plan) struct Series;

impl RelationPlanner for Series {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let (name, arguments, alias, numbered) = match &relation {
            TableFactor::Table { name, args: Some(arguments), alias, with_ordinality, .. } => {
                (name, &arguments.args, alias, *with_ordinality)
            }
            TableFactor::Function { name, args, alias, with_ordinality, .. } => (name, args, alias, *with_ordinality),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let function = match name.0.as_slice() {
            [ObjectNamePart::Identifier(ident)] => ident.value.to_lowercase(),
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        if !matches!(function.as_str(), "generate_series" | "range") {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let alias = Some(called(&function, alias.as_ref(), numbered));
        let plan =
            context.plan(elements_of(call(&function, arguments.clone()), None, numbered)).map_err(
                |error| match error {
                    DataFusionError::Plan(text) => DataFusionError::Plan(format!("{function}: {text}")),
                    other => other,
                },
            )?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The alias of a function that makes one column: as in PostgreSQL the relation and its column are called as the function
/// is, if nothing else is said, and the column of their places `ordinality`.
pub(in crate::plan) fn called(function: &str, alias: Option<&ast::TableAlias>, numbered: bool) -> ast::TableAlias {
    let mut alias = alias.cloned().unwrap_or_else(|| ast::TableAlias {
        explicit: true,
        name: Ident::new(function),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.is_empty() {
        alias.columns.push(ast::TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
    if numbered && alias.columns.len() == 1 {
        alias.columns.push(ast::TableAliasColumnDef { name: Ident::new(ORDINALITY), data_type: None });
    }
    alias
}

/// The elements of a list, beside their places (`WITH ORDINALITY`) if they are wanted.
pub(in crate::plan) fn elements_of(list: ast::Expr, alias: Option<ast::TableAlias>, numbered: bool) -> TableFactor {
    let places = numbered.then(|| places_of(list.clone()));
    TableFactor::UNNEST {
        alias,
        array_exprs: std::iter::once(list).chain(places).collect(),
        with_offset: false,
        with_offset_alias: None,
        with_ordinality: false,
    }
}

/// The list of 1, 2, … as long as another list.
pub(in crate::plan) fn places_of(list: ast::Expr) -> ast::Expr {
    let plain = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    let length = ast::Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(call("cardinality", vec![plain(list)])),
        data_type: ast::DataType::BigInt(None),
        array: false,
        format: None,
    };
    let first = ast::Expr::Value(ast::Value::Number("1".to_owned(), false).into());
    call("generate_series", vec![plain(first), plain(length)])
}

fn call(function: &str, arguments: Vec<FunctionArg>) -> ast::Expr {
    let list = FunctionArgumentList { duplicate_treatment: None, args: arguments, clauses: Vec::new() };
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
