//! As-of joins and temporal joins in FROM, once they stand in parentheses.

use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator, when};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, Join, JoinConstraint, JoinOperator, ObjectName, TableFactor, TableVersion, TableWithJoins,
};

use crate::error::{Error, Result};
use crate::plan::fault::planning_error;
use crate::plan::flow::AsOfSide;

use super::node::{AsOfNode, AsOfRule, belongs_to};
use super::pair::{Pair, compared, measured};
use super::version::Versions;

/// Plans as-of joins; everything else is left to the next planner.
#[derive(Debug, Default)]
pub(in crate::plan) struct AsOfJoins;

impl RelationPlanner for AsOfJoins {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        match relation {
            TableFactor::NestedJoin { table_with_joins, alias } if matches!(table_with_joins.joins.as_slice(), [join] if is_as_of(join)) =>
            {
                let plan = joined(*table_with_joins, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            TableFactor::Table { name, version: Some(_), .. } => Err(Error::not_supported(format!(
                "FOR SYSTEM_TIME AS OF can stand behind the right side of a JOIN, and {name} is none"
            ))
            .with_hint("write left JOIN right FOR SYSTEM_TIME AS OF left.time AS right ON left.key = right.key")
            .into()),
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// Whether it is an as-of join or a temporal join.
pub(in crate::plan) fn is_as_of(join: &Join) -> bool {
    let versioned = matches!(&join.relation, TableFactor::Table { version: Some(_), .. });
    versioned || join.global || matches!(join.join_operator, JoinOperator::AsOf { .. })
}

/// A join of two planned relations.
struct Sides {
    left: LogicalPlan,
    right: LogicalPlan,
    joined: DFSchema,
}

fn joined(table: TableWithJoins, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let TableWithJoins { relation, joins } = table;
    let Some(Join { relation: mut right, join_operator, global }) = joins.into_iter().next() else {
        return Err(Error::internal("an as-of join has a right side"));
    };
    let version = match &mut right {
        TableFactor::Table { version, .. } => version.take(),
        TableFactor::Derived { lateral: true, .. } | TableFactor::UNNEST { .. } => {
            return Err(Error::not_supported("the right side of an as-of join cannot be LATERAL")
                .with_hint("write a table, a stream, a view or a query that names nothing outside of it"));
        }
        _ => None,
    };
    let name = match &right {
        TableFactor::Table { name, .. } => name.to_string(),
        _ => "the right side".to_owned(),
    };
    let left = context.plan(relation).map_err(planning_error)?;
    let right = context.plan(right).map_err(planning_error)?;
    match version {
        Some(TableVersion::ForSystemTimeAsOf(time)) => {
            let both = global || matches!(join_operator, JoinOperator::AsOf { .. });
            let (constraint, keeps_unmatched) = ordinary(join_operator, both)?;
            let versions = Versions::of(right, &name)?;
            temporal(left, versions, &name, (time, constraint, keeps_unmatched), context)
        }
        Some(other) => Err(Error::not_supported(format!("{} is not supported", other.to_string().trim()))
            .with_hint("write FOR SYSTEM_TIME AS OF left.time")),
        None => {
            let sides = Sides::new(left, right)?;
            match join_operator {
                JoinOperator::AsOf { match_condition, constraint } => {
                    let condition = context.sql_to_expr(match_condition, &sides.joined).map_err(planning_error)?;
                    sides.nearest(Some(condition), constraint, global, context)
                }
                other => {
                    let (constraint, keeps_unmatched) = ordinary(other, false)?;
                    sides.nearest(None, constraint, keeps_unmatched, context)
                }
            }
        }
    }
}

/// The constraint of an inner or left join, and whether it is a left one.
fn ordinary(operator: JoinOperator, is_as_of: bool) -> Result<(JoinConstraint, bool)> {
    match operator {
        _ if is_as_of => {
            Err(Error::invalid("a join is either an ASOF JOIN or one FOR SYSTEM_TIME AS OF, and this is both")
                .with_hint("leave one of them out"))
        }
        JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => Ok((constraint, false)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => Ok((constraint, true)),
        _ => Err(Error::not_supported("an as-of join looks up rows of its right side for rows of its left side")
            .with_hint("write JOIN or LEFT JOIN, with the rows that are looked up on the right side")),
    }
}

impl Sides {
    fn new(left: LogicalPlan, right: LogicalPlan) -> Result<Self> {
        let joined = left.schema().join(right.schema()).map_err(planning_error)?;
        Ok(Self { left, right, joined })
    }

    /// An expression over one side each, the left one first, if a comparison has one on either side of its operator.
    fn sorted(&self, condition: &Expr) -> Option<(Expr, Operator, Expr)> {
        let Expr::BinaryExpr(binary) = condition else { return None };
        let (one, other) = ((*binary.left).clone(), (*binary.right).clone());
        if belongs_to(&one, self.left.schema()) && belongs_to(&other, self.right.schema()) {
            return Some((one, binary.op, other));
        }
        let turned = belongs_to(&one, self.right.schema()) && belongs_to(&other, self.left.schema());
        turned.then(|| Some((other, binary.op.swap()?, one))).flatten()
    }

    /// The conditions of a constraint, and with USING the columns of the right side that it merges.
    fn conditions(
        &self,
        constraint: JoinConstraint,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<(Vec<Expr>, Vec<Column>)> {
        match constraint {
            JoinConstraint::On(on) => {
                let on = context.sql_to_expr(on, &self.joined).map_err(planning_error)?;
                Ok((split_conjunction_owned(on), Vec::new()))
            }
            JoinConstraint::Using(names) => {
                let mut merged = Vec::new();
                let mut conditions = Vec::new();
                for name in names {
                    let [of_left, of_right] = [&self.left, &self.right].map(|side| named(side, &name, context));
                    let of_right = of_right?;
                    conditions.push(Expr::Column(of_left?).eq(Expr::Column(of_right.clone())));
                    merged.push(of_right);
                }
                Ok((conditions, merged))
            }
            JoinConstraint::None => Ok((Vec::new(), Vec::new())),
            JoinConstraint::Natural => Err(Error::not_supported("an as-of join cannot be NATURAL")
                .with_hint("write ON with the columns that are to be equal, or USING")),
        }
    }

    fn nearest(
        self,
        condition: Option<Expr>,
        constraint: JoinConstraint,
        keeps_unmatched: bool,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        const USAGE: &str = "write a ASOF JOIN b MATCH_CONDITION (a.time >= b.time) ON a.key = b.key";
        let side = |condition: &Expr| {
            let (left, operator, right) = self.sorted(condition)?;
            let side = match operator {
                Operator::GtEq => AsOfSide::AtOrBefore,
                Operator::Gt => AsOfSide::Before,
                Operator::LtEq => AsOfSide::AtOrAfter,
                Operator::Lt => AsOfSide::After,
                _ => return None,
            };
            Some((side, left, right))
        };
        let (mut conditions, merged) = self.conditions(constraint, context)?;
        let condition = match condition {
            Some(condition) => condition,
            // It is one of the conditions of ON.
            None => match conditions.iter().position(|condition| side(condition).is_some()) {
                Some(place) => conditions.remove(place),
                None => {
                    return Err(Error::invalid(
                        "an ASOF JOIN has no comparison of a time of one side with one of the other",
                    )
                    .with_hint(USAGE));
                }
            },
        };
        let Some((side, left, right)) = side(&condition) else {
            return Err(Error::invalid(format!(
                "the match condition {} does not compare a time of the left side with one of the right side by >=, >, <= or <",
                condition.human_display()
            ))
            .with_hint(USAGE));
        };
        let (on, others) = self.equalities(conditions)?;
        if let Some(other) = others.first() {
            return Err(Error::not_supported(format!(
                "ON of an ASOF JOIN compares columns of both sides by equality, and {} does not",
                other.human_display()
            ))
            .with_hint(
                "write it in WHERE, to choose among the rows that were found; or in a query on the right side, to choose \
                 among those that can be found",
            ));
        }
        let times = measured((left, right), [&self.left, &self.right])?;
        let rule = AsOfRule { keeps_unmatched, side, temporal: false };
        let node = AsOfNode::new([self.left, self.right], rule, on, times).map_err(planning_error)?;
        without(node.into_plan(), &merged)
    }

    /// Pairs that must be equal, their types made to fit, and the other conditions.
    fn equalities(&self, conditions: Vec<Expr>) -> Result<(Vec<Pair>, Vec<Expr>)> {
        let (mut on, mut others) = (Vec::new(), Vec::new());
        for condition in conditions {
            match self.sorted(&condition) {
                Some((left, Operator::Eq, right)) => on.push(compared((left, right), [&self.left, &self.right])?),
                _ if matches!(&condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) => {}
                _ => others.push(condition),
            }
        }
        Ok((on, others))
    }
}

/// A temporal join: its time, its constraint, and whether rows without a version are kept.
fn temporal(
    left: LogicalPlan,
    versions: Versions,
    name: &str,
    (time, constraint, keeps_unmatched): (ast::Expr, JoinConstraint, bool),
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let sides = Sides::new(left, versions.plan.clone())?;
    let text = time.to_string();
    let time = context.sql_to_expr(time, &sides.joined).map_err(planning_error)?;
    if !belongs_to(&time, sides.left.schema()) {
        return Err(Error::not_supported(format!(
            "FOR SYSTEM_TIME AS OF {text}: that is no event time of the left side, and only such a time gives the same answer \
             whenever it is asked"
        ))
        .with_hint("name the left side's event-time column: FOR SYSTEM_TIME AS OF left.time"));
    }
    let (conditions, merged) = sides.conditions(constraint, context)?;
    let (on, others) = sides.equalities(conditions)?;
    if on.is_empty() {
        return Err(Error::invalid(format!(
            "FOR SYSTEM_TIME AS OF: nothing says which versions of {name} are of one thing"
        ))
        .with_hint("compare its key by equality: ON left.key = right.key"));
    }
    versions.check_keys(on.iter().map(|(_, right)| right), name)?;
    let times = measured((time, Expr::Column(versions.time.clone())), [&sides.left, &sides.right])?;
    let rule = AsOfRule { keeps_unmatched, side: AsOfSide::AtOrBefore, temporal: true };
    let right_columns = sides.right.schema().columns();
    let plan = AsOfNode::new([sides.left, sides.right], rule, on, times).map_err(planning_error)?.into_plan();
    // Other conditions are about the version that was found.
    let plan = match conjunction(others) {
        None => plan,
        Some(condition) if !keeps_unmatched => LogicalPlanBuilder::from(plan)
            .filter(condition)
            .and_then(LogicalPlanBuilder::build)
            .map_err(planning_error)?,
        Some(condition) => unless(plan, &condition, &right_columns).map_err(planning_error)?,
    };
    without(plan, &merged)
}

/// The plan with NULLs for some columns where the condition does not hold.
fn unless(plan: LogicalPlan, condition: &Expr, columns: &[Column]) -> PlanResult<LogicalPlan> {
    let shown = plan.schema().columns().into_iter().map(|column| {
        if !columns.contains(&column) {
            return Ok(Expr::Column(column));
        }
        let value = when(condition.clone(), Expr::Column(column.clone())).end()?;
        Ok(value.alias_qualified(column.relation, column.name))
    });
    let shown = shown.collect::<PlanResult<Vec<Expr>>>()?;
    LogicalPlanBuilder::from(plan).project(shown)?.build()
}

/// The plan without columns that USING has merged with those of the left side.
fn without(plan: LogicalPlan, merged: &[Column]) -> Result<LogicalPlan> {
    if merged.is_empty() {
        return Ok(plan);
    }
    let kept: Vec<Expr> =
        plan.schema().columns().into_iter().filter(|column| !merged.contains(column)).map(Expr::Column).collect();
    LogicalPlanBuilder::from(plan).project(kept).and_then(LogicalPlanBuilder::build).map_err(planning_error)
}

/// The column of a side that USING names.
fn named(side: &LogicalPlan, name: &ObjectName, context: &mut dyn RelationPlannerContext) -> Result<Column> {
    let [ast::ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
        return Err(Error::invalid(format!("USING names columns, and {name} is none")));
    };
    let name = context.normalize_ident(ident.clone());
    let found = side.schema().qualified_fields_with_unqualified_name(&name);
    match found.as_slice() {
        [one] => Ok(Column::from(*one)),
        [] => Err(Error::new(
            crate::error::ErrorKind::UndefinedColumn,
            format!("USING ({name}): one side has no column of that name"),
        )),
        _ => Err(Error::invalid(format!("USING ({name}): one side has several columns of that name"))),
    }
}
