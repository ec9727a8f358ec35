//! Joins with USING and NATURAL: a column that both sides have under one name is one column of the result.
//!
//! In PostgreSQL `k` is then a third column beside `a.k` and `b.k`: the left one, in a RIGHT JOIN the right one, in a FULL JOIN
//! that of the side which has a row; `*` shows it once, and first. DataFusion has no third column and takes one of the two. So
//! such a join is planned here, as an ordinary one under a projection that adds the merged columns, with a qualifier that
//! nobody can write.
//!
//! Nor does DataFusion know in WHERE that such columns are one. So the condition is put into the parentheses of the join, as one
//! with a relation of no name ([`condition_join`]), and planned here as well; and so is a later join whose ON may name one of them
//! ([`may_name_merged`]).
//!
//! DataFusion's planner learns from joins with USING that their columns are one, whatever they are called in full. So one
//! that joins nothing stands above the projection as long as it plans ([`announced`]), and goes with [`settled`].

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{Column, DFSchema, JoinConstraint, JoinType, NullEquality, TableReference};
use datafusion::error::Result as PlanResult;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr_rewriter::normalize_col_with_schemas_and_ambiguity_check;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::{expand_wildcard, find_aggregate_exprs};
use datafusion::logical_expr::{EmptyRelation, Expr, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, JoinOperator, ObjectName, ObjectNamePart, TableFactor, TableWithJoins, visit_expressions,
};

use crate::error::{Error, ErrorKind, Result};
use crate::sql::table_factor;

use crate::plan::asof::{compared, is_as_of};
use crate::plan::column_names::{folded, last};
use crate::plan::fault::{aggregate_in_where, planning_error};

/// Whether it is a join that merges columns.
pub(in crate::plan) fn merges(join: &ast::Join) -> bool {
    use ast::JoinConstraint::{Natural, Using};
    let constraint = constraint(&join.join_operator);
    !is_lateral(&join.relation) && !is_as_of(join) && matches!(constraint, Some(Using(_) | Natural))
}

/// Whether a relation names the rows before it: it is none of its own, and DataFusion plans it.
pub(in crate::plan) fn is_lateral(relation: &TableFactor) -> bool {
    matches!(
        relation,
        TableFactor::Derived { lateral: true, .. }
            | TableFactor::Function { lateral: true, .. }
            | TableFactor::UNNEST { .. }
    )
}

/// Whether some of the columns of a FROM clause are merged.
pub(in crate::plan) fn has_merged(table: &TableWithJoins) -> bool {
    is_merging(&table.relation) || table.joins.iter().any(|join| merges(join) || is_merging(&join.relation))
}

fn is_merging(relation: &TableFactor) -> bool {
    matches!(relation, TableFactor::NestedJoin { table_with_joins, alias: None } if has_merged(table_with_joins))
}

/// Whether the last of these joins has a condition that may name a merged column, as one that has no qualifier.
pub(in crate::plan) fn may_name_merged(relation: &TableFactor, joins: &[ast::Join]) -> bool {
    let Some((last, before)) = joins.split_last() else { return false };
    let Some((_, ast::JoinConstraint::On(condition))) = kind(&last.join_operator) else { return false };
    let merged = is_merging(relation)
        || is_merging(&last.relation)
        || before.iter().any(|join| merges(join) || is_merging(&join.relation));
    let bare = |expr: &ast::Expr| match expr {
        ast::Expr::Identifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    merged && !is_lateral(&last.relation) && !is_as_of(last) && visit_expressions(condition, bare).is_break()
}

/// How a join's rows meet, if that can merge columns.
pub(super) fn constraint(operator: &JoinOperator) -> Option<&ast::JoinConstraint> {
    kind(operator).map(|(_, constraint)| constraint)
}

fn kind(operator: &JoinOperator) -> Option<(JoinType, &ast::JoinConstraint)> {
    match operator {
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => Some((JoinType::Inner, constraint)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => Some((JoinType::Left, constraint)),
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => Some((JoinType::Right, constraint)),
        JoinOperator::FullOuter(constraint) => Some((JoinType::Full, constraint)),
        _ => None,
    }
}

/// A condition on the relation before it, as a join that nobody can write.
pub(in crate::plan) fn condition_join(condition: ast::Expr) -> ast::Join {
    let nothing = table_factor(ObjectName(Vec::new()), None);
    let join_operator = JoinOperator::StraightJoin(ast::JoinConstraint::On(condition));
    ast::Join { relation: nothing, global: false, join_operator }
}

fn is_condition(join: &ast::Join) -> bool {
    matches!(&join.relation, TableFactor::Table { name, .. } if name.0.is_empty())
}

/// Plans joins that merge columns, and conditions on them, once they stand in parentheses.
#[derive(Debug, Default)]
pub(in crate::plan) struct MergedJoins;

impl RelationPlanner for MergedJoins {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let planned = |plan, alias| Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))));
        match relation {
            // Behind an alias there are only the columns that `*` shows.
            TableFactor::NestedJoin { table_with_joins, alias: Some(alias) } => {
                let plan = context.plan(TableFactor::NestedJoin { table_with_joins, alias: None })?;
                let shown = expand_wildcard(plan.schema(), &plan, None)?;
                let plan = match shown.len() == plan.schema().fields().len() {
                    true => plan,
                    false => LogicalPlanBuilder::from(plan).project(shown)?.build()?,
                };
                planned(plan, Some(alias))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } if matches!(table_with_joins.joins.as_slice(), [join] if merges(join)) => {
                planned(joined(*table_with_joins, context)?, None)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None }
                if table_with_joins.joins.len() == 1
                    && may_name_merged(&table_with_joins.relation, &table_with_joins.joins) =>
            {
                planned(joined_on(*table_with_joins, context)?, None)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } if matches!(table_with_joins.joins.as_slice(), [join] if is_condition(join)) => {
                planned(filtered(*table_with_joins, context)?, None)
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn joined(table: TableWithJoins, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let missing = || Error::internal("a join with merged columns has a right side");
    let TableWithJoins { relation, joins } = table;
    let ast::Join { relation: right, join_operator, .. } = joins.into_iter().next().ok_or_else(missing)?;
    let (kind, constraint) = kind(&join_operator).ok_or_else(missing)?;
    let qualifier = TableReference::bare(qualifier(&called(&relation), &called(&right)));
    let left = context.plan(relation).map_err(planning_error)?;
    let right = context.plan(right).map_err(planning_error)?;
    let shown = [shown(&left)?, shown(&right)?];
    let names = match constraint {
        ast::JoinConstraint::Using(names) => named(names, context)?,
        _ => common(&shown),
    };
    let (mut on, mut columns) = (Vec::new(), Vec::new());
    for name in &names {
        let pair = (Expr::Column(only(&shown[0], name, "left")?), Expr::Column(only(&shown[1], name, "right")?));
        let (of_left, of_right) = compared(pair, [&left, &right])?;
        let value = match kind {
            JoinType::Right => of_right.clone(),
            JoinType::Full => coalesce(vec![of_left.clone(), of_right.clone()]),
            _ => of_left.clone(),
        };
        columns.push(value.alias_qualified(Some(qualifier.clone()), name));
        on.push(of_left.eq(of_right));
    }
    // What was merged before under one of the names has no name of its own that could be written.
    let merged = |column: &Column| column.relation.as_ref().is_some_and(is_merged);
    let kept = |column: &Column| !(names.contains(&column.name) && merged(column));
    let of_sides = [&left, &right].into_iter().flat_map(|side| side.schema().columns());
    columns.extend(of_sides.filter(kept).map(Expr::Column));
    LogicalPlanBuilder::from(left)
        .join_on(right, kind, on)
        .and_then(|join| join.project(columns)?.build())
        .and_then(|plan| announced(plan, &names))
        .map_err(planning_error)
}

/// A join whose condition names merged columns of its sides.
fn joined_on(table: TableWithJoins, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let missing = || Error::internal("a join with a condition has none");
    let TableWithJoins { relation, joins } = table;
    let ast::Join { relation: right, join_operator, .. } = joins.into_iter().next().ok_or_else(missing)?;
    let Some((kind, ast::JoinConstraint::On(condition))) = kind(&join_operator) else { return Err(missing()) };
    let left = context.plan(relation).map_err(planning_error)?;
    let right = context.plan(right).map_err(planning_error)?;
    let both = left.schema().join(right.schema()).map_err(planning_error)?;
    let condition = context.sql_to_expr(condition.clone(), &both).map_err(planning_error)?;
    let merged: Vec<_> = [&left, &right]
        .iter()
        .map(|side| side.using_columns())
        .collect::<PlanResult<Vec<_>>>()
        .map_err(planning_error)?
        .concat();
    let condition =
        normalize_col_with_schemas_and_ambiguity_check(condition, &[&[left.schema(), right.schema()]], &merged)
            .map_err(planning_error)?;
    LogicalPlanBuilder::from(left)
        .join_on(right, kind, [condition])
        .and_then(LogicalPlanBuilder::build)
        .map_err(planning_error)
}

/// The rows of a relation for which a condition is true.
fn filtered(table: TableWithJoins, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let operator = table.joins.into_iter().next().map(|join| join.join_operator);
    let Some(JoinOperator::StraightJoin(ast::JoinConstraint::On(condition))) = operator else {
        return Err(Error::internal("a condition of WHERE is none"));
    };
    let plan = context.plan(table.relation).map_err(planning_error)?;
    let condition = context.sql_to_expr(condition, plan.schema()).map_err(planning_error)?;
    if !find_aggregate_exprs(std::slice::from_ref(&condition)).is_empty() {
        return Err(aggregate_in_where());
    }
    LogicalPlanBuilder::from(plan).filter(condition).and_then(LogicalPlanBuilder::build).map_err(planning_error)
}

/// The columns of a side that `*` shows.
fn shown(side: &LogicalPlan) -> Result<Vec<Column>> {
    let shown = expand_wildcard(side.schema(), side, None).map_err(planning_error)?;
    Ok(shown.into_iter().filter_map(|expr| expr.try_as_col().cloned()).collect())
}

/// The names in USING.
fn named(names: &[ObjectName], context: &mut dyn RelationPlannerContext) -> Result<Vec<String>> {
    let mut known: Vec<String> = Vec::new();
    for name in names {
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
            return Err(Error::invalid(format!("USING names columns, and {name} is none")));
        };
        let name = context.normalize_ident(ident.clone());
        if known.contains(&name) {
            return Err(Error::invalid(format!("USING names {name} twice")));
        }
        known.push(name);
    }
    Ok(known)
}

/// The names that both sides have, in the order of the left one.
fn common(shown: &[Vec<Column>; 2]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for column in &shown[0] {
        if shown[1].iter().any(|other| other.name == column.name) && !names.contains(&column.name) {
            names.push(column.name.clone());
        }
    }
    names
}

/// The column of a side that goes by a name.
fn only(shown: &[Column], name: &str, side: &str) -> Result<Column> {
    let mut found = shown.iter().filter(|column| column.name == name);
    match (found.next(), found.next()) {
        (Some(column), None) => Ok(column.clone()),
        (None, _) => Err(Error::new(
            ErrorKind::UndefinedColumn,
            format!("the {side} side of the join has no column {name} for USING"),
        )),
        _ => Err(Error::new(
            ErrorKind::UndefinedColumn,
            format!("the {side} side of the join has several columns {name}"),
        )
        .with_code("42702")
        .with_hint("write ON with the column that is meant")),
    }
}

/// What the first relation of a side is called.
pub(super) fn called(side: &TableFactor) -> String {
    let alias = match side {
        TableFactor::NestedJoin { table_with_joins, alias: None } => return called(&table_with_joins.relation),
        TableFactor::Table { name, alias: None, .. } => return last(name).unwrap_or_default(),
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. } => alias,
        _ => &None,
    };
    alias.as_ref().map(|alias| folded(&alias.name)).unwrap_or_default()
}

/// The relation of the columns that a join merges, by what its sides are called.
pub(super) fn qualifier(left: &str, right: &str) -> String {
    format!("({left}, {right})")
}

/// Whether it is such a relation.
pub(super) fn is_merged(relation: &TableReference) -> bool {
    relation.table().starts_with('(')
}

/// The plan under a join that joins nothing, and says that columns of these names are one. Of those `*` shows the one whose
/// qualifier comes first: a parenthesis stands before all letters.
fn announced(plan: LogicalPlan, names: &[String]) -> PlanResult<LogicalPlan> {
    let mut on = Vec::new();
    for name in names {
        let mut columns = plan.schema().columns().into_iter().filter(|column| column.name == *name);
        if let Some(merged) = columns.next() {
            on.extend(columns.map(|other| (Expr::Column(merged.clone()), Expr::Column(other))));
        }
    }
    let schema = Arc::clone(plan.schema());
    let nothing = EmptyRelation { produce_one_row: false, schema: Arc::new(DFSchema::empty()) };
    Ok(LogicalPlan::Join(Join {
        left: Arc::new(plan),
        right: Arc::new(LogicalPlan::EmptyRelation(nothing)),
        on,
        filter: None,
        join_type: JoinType::Left,
        join_constraint: JoinConstraint::Using,
        schema,
        null_equality: NullEquality::NullEqualsNothing,
        null_aware: false,
    }))
}

/// The plan without joins that join nothing.
pub(in crate::plan) fn settled(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let announces = |join: &Join| {
        join.join_constraint == JoinConstraint::Using
            && matches!(&*join.right, LogicalPlan::EmptyRelation(nothing) if nothing.schema.fields().is_empty())
    };
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if announces(&join) => Ok(Transformed::yes(Arc::unwrap_or_clone(join.left))),
        other => Ok(Transformed::no(other)),
    })
    .data()
}
